package upp_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/tillgate/tillgate/protocol/upp"
)

// client is this package's own client at the server.
func (r *rig) client(t *testing.T, base string) *upp.Client {
	t.Helper()
	secret, err := upp.NewToken(token)
	if err != nil {
		t.Fatal(err)
	}
	return &upp.Client{BaseURL: base, Token: secret, HTTP: r.http}
}

func sdkPurchase(reference, saleType string) upp.CreateRequest {
	return upp.CreateRequest{TransactionReference: reference, Amount: "24.50", Currency: "aud", Provider: upp.ProviderAlipay, SaleType: saleType,
		Items: []upp.Item{{Type: upp.ItemSKU, ItemReference: "UMB-01", Name: "Umbrella", Amount: "24.50", Quantity: "1"}}}
}

// TestClientAgainstServer: the two sides of this package understand each other, over everything that is between them.
func TestClientAgainstServer(t *testing.T) {
	t.Parallel()
	r := setup(t, func(s *settings) { s.pollWait = 300 * time.Millisecond })
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	must := func(tr *upp.Transaction, err error) *upp.Transaction {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return tr
	}
	for _, base := range []string{r.server.URL, r.server.URL + "/v1/", r.server.URL + "/api/v1"} {
		c, ref, back, left := r.client(t, base), "a till's / "+reference(), reference(), reference()

		sale := must(c.Purchase(ctx, sdkPurchase(ref, upp.SaleMerchantPresented)))
		if !sale.Pending() || sale.Paid() || sale.MerchantToken == "" {
			t.Fatalf("purchase: %+v", sale)
		}
		polled := make(chan struct{})
		go func() {
			defer close(polled)
			r.waiting(t, 1)
			r.phone(t, sale.MerchantToken, "approve")
		}()
		paid := must(c.Poll(ctx, ref)) // Through at least one 202 or a held poll.
		<-polled
		if !paid.Paid() || paid.OutTradeNumber != sale.OutTradeNumber || paid.SettlementAmount != "24.5" || len(paid.Extra) != 0 || paid.ExchangeDetails == nil {
			t.Errorf("polled: %+v", paid)
		}
		if got := must(c.Purchase(ctx, sdkPurchase(ref, upp.SaleMerchantPresented))); !got.Paid() || got.OutTradeNumber != sale.OutTradeNumber {
			t.Errorf("resent: %+v", got)
		}

		refund := upp.CreateRequest{TransactionReference: back, Amount: "4.50", Currency: "aud", OriginalTransactionReference: ref,
			RefundReason: upp.ReasonFaulty}
		given := must(c.Refund(ctx, refund))
		if !given.Paid() || given.OriginalOutTradeNumber != sale.OutTradeNumber || !given.ExchangeDetails.PurchaserBillingAmount.Quoted {
			t.Errorf("refund: %+v", given)
		}
		r.wantBooks(t, given.OutTradeNumber, "refund 450 AUD done")

		var refused *upp.Error
		if _, err := c.Cancel(ctx, back); !errors.As(err, &refused) || refused.Failure != upp.FailRefundCannotBeCancelled {
			t.Errorf("cancel of a refund: %v", err)
		}
		refund.TransactionReference, refund.Amount = reference(), "20.01"
		if _, err := c.Refund(ctx, refund); !errors.As(err, &refused) || refused.Failure != upp.FailRefundAmountExceeded {
			t.Errorf("refund of more than is left: %v", err)
		}
		if _, err := c.Fetch(ctx, refund.TransactionReference); !upp.NotFound(err) {
			t.Errorf("fetch after a refusal: %v", err)
		}

		must(c.Purchase(ctx, sdkPurchase(left, upp.SaleMerchantPresented)))
		if got := must(c.Cancel(ctx, left)); !got.Cancelled || got.Paid() || got.Pending() || got.Failure != upp.FailCancelled {
			t.Errorf("cancelled: %+v", got)
		}
		if _, err := c.Cancel(ctx, reference()); !upp.NotFound(err) {
			t.Errorf("cancel of an unknown reference: %v", err)
		}
	}

	declined := sdkPurchase(reference(), upp.SaleCustomerPresented)
	declined.CustomerToken = code("alipay", "insufficient_funds")
	if got := must(r.client(t, r.server.URL).Purchase(ctx, declined)); got.Pending() || got.Paid() || got.Failure != upp.FailInsufficientFunds {
		t.Errorf("declined: %+v", got)
	}
}

// TestClientOverRestart: the client goes on by itself while the server is away, and there is one transaction in the end.
func TestClientOverRestart(t *testing.T) {
	t.Parallel()
	r := setup(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	// The client's address stays while the server's changes.
	var current string
	c := r.client(t, "http://upp.example.test")
	c.HTTP = &http.Client{Transport: roundTrip(func(q *http.Request) (*http.Response, error) {
		q = q.Clone(q.Context())
		q.URL.Host = current
		return r.http.Transport.RoundTrip(q)
	})}
	current = r.server.Listener.Addr().String()
	c.Sleep = func(context.Context, time.Duration) error { // Where the client would pause, the server comes back.
		current = r.server.Listener.Addr().String()
		return nil
	}
	ref := reference()
	sale := sdkPurchase(ref, upp.SaleMerchantPresented)
	stored, err := c.Prepare(func() upp.CreateRequest { sale.TransactionType = upp.TypePurchase; return sale }())
	if err != nil {
		t.Fatal(err)
	}
	first, err := c.Send(ctx, stored)
	if err != nil {
		t.Fatal(err)
	}
	r.close()
	r.open(t)
	again, err := c.Resume(ctx, stored)
	if err != nil {
		t.Fatal(err)
	}
	if again.OutTradeNumber != first.OutTradeNumber || again.MerchantToken != first.MerchantToken {
		t.Errorf("resumed: got %+v, want %+v", again, first)
	}
	r.phone(t, again.MerchantToken, "approve")
	paid, err := c.Poll(ctx, ref)
	if err != nil || !paid.Paid() {
		t.Errorf("polled: %+v, %v", paid, err)
	}
	r.wantBooks(t, first.OutTradeNumber, "payment 2450 AUD done")
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(q *http.Request) (*http.Response, error) { return f(q) }

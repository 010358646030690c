package upp

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
)

// TestRefusalsAreComplete: every error of the core has its row, and the rows of §5 a status each.
func TestRefusalsAreComplete(t *testing.T) {
	known := payment.Errors()
	for _, want := range known {
		rows := 0
		for _, r := range refusals {
			if r.err == want {
				rows++
			}
		}
		if rows != 1 {
			t.Errorf("%q: %d rows in refusals, want 1", want, rows)
		}
		for _, refund := range []bool{false, true} {
			wrapped := fmt.Errorf("merchant 17, payment 4711: %w", want)
			e := refusal(wrapped, refund)
			if e == nil {
				t.Errorf("%q (refund %v): no refusal", want, refund)
				continue
			}
			if e.Status < 400 || e.Status > 599 || e.Status == http.StatusInternalServerError || e.Failure == "" {
				t.Errorf("%q (refund %v): got %v", want, refund, e)
			}
			if e.Description == "" || e.Description == wrapped.Error() || e.Description == want.Error() {
				t.Errorf("%q (refund %v): its text for the log went to the peer: %q", want, refund, e.Description)
			}
		}
	}
	for _, table := range [][]struct {
		err     error
		failure Failure
		text    string
	}{refusals, refundRefusals} {
		for _, r := range table {
			if !contains(known, r.err) {
				t.Errorf("%q has a row but is not among the core's errors", r.err)
			}
		}
	}
	if e := refusal(errors.New("disk full"), false); e != nil {
		t.Errorf("an unknown error: got %v, want none", e)
	}
	if e := refusal(fmt.Errorf("sell: %w", &payment.FieldError{Field: "amount", Problem: "must be above zero"}), false); e == nil ||
		e.Status != http.StatusBadRequest || e.Field != "amount" || e.Description != "amount must be above zero." {
		t.Errorf("a field error: got %v", e)
	}
}

func contains(list []error, err error) bool {
	for _, e := range list {
		if e == err {
			return true
		}
	}
	return false
}

// TestFailuresAreComplete: every reason of the core has its word, and only declines' words.
func TestFailuresAreComplete(t *testing.T) {
	known := map[payment.Reason]bool{}
	for _, r := range payment.Reasons() {
		known[r] = true
		f, ok := failures[r]
		if !ok {
			t.Errorf("%s has no failure", r)
		}
		if f != FailProviderUnavailable && f.Status() != 0 {
			t.Errorf("%s: %s is a refusal's word", r, f)
		}
	}
	for r := range failures {
		if !known[r] {
			t.Errorf("%s is not among the core's reasons", r)
		}
	}
	if got := failure("a reason of a later version"); got != FailDeclined {
		t.Errorf("an unknown reason: got %s", got)
	}
}

// TestWireStatesAreComplete: every state of the core has its row, and no row says paid but captured.
func TestWireStatesAreComplete(t *testing.T) {
	states := []payment.State{payment.Open, payment.Authorized, payment.Captured, payment.Refused, payment.Cancelled, payment.Voided, payment.Expired}
	// A state that the list lacks would be reached by an event of one that it has.
	for _, from := range states {
		for _, on := range []payment.Event{payment.Authorize, payment.Capture, payment.Refuse, payment.Cancel, payment.Void, payment.Expire} {
			to, err := from.Next(on)
			if err != nil {
				continue
			}
			if _, ok := wireStates[to]; !ok {
				t.Errorf("%s, after %s of %s, has no wire state", to, on, from)
			}
		}
	}
	for _, s := range states {
		w, ok := wireStates[s]
		if !ok {
			t.Errorf("%s has no wire state", s)
		}
		if paid := w.approved != nil && *w.approved; paid != (s == payment.Captured) {
			t.Errorf("%s: paid is %v", s, paid)
		}
		if w.cancelled && (w.approved == nil || *w.approved) {
			t.Errorf("%s: cancelled, but approved is not false", s)
		}
	}
	if len(wireStates) != len(states) {
		t.Errorf("%d wire states for %d states", len(wireStates), len(states))
	}
}

// TestTimes holds the real times against the seed's and the reference's: tests of the server use shorter ones.
func TestTimes(t *testing.T) {
	const poll = 30 * time.Second // "A poll can take up to 30 seconds" (UPP seed, Fetch).
	for name, tt := range map[string]struct{ got, most time.Duration }{
		"a poll":   {pollWait, poll - 500*time.Millisecond},
		"a create": {createWait, poll - 500*time.Millisecond},
	} {
		if tt.got > tt.most || tt.got < poll/2 {
			t.Errorf("%s is held for %v, want at most %v", name, tt.got, tt.most)
		}
	}
	if cancelWindow != 24*time.Hour {
		t.Errorf("cancel window: %v", cancelWindow)
	}
	if got := numbering.Number(payment.ID(217736)); got != "8010000000217736" {
		t.Errorf("outTradeNumber: %s", got)
	}
}

// TestDeclinesHaveWords: an acquirer that declines without a reason or a text leaves neither member out (§5).
func TestDeclinesHaveWords(t *testing.T) {
	m := memoOf(mustDecode(t, purchase()), payment.Caller{Terminal: payment.Terminal{PublicID: "3"}}, "203.0.113.20")
	echo, err := m.encode()
	if err != nil {
		t.Fatal(err)
	}
	cur := currencies[aud]
	p := payment.Payment{ID: 1, Numbering: numbering, Amount: money.New(8640, cur), Echo: echo}
	for _, s := range []payment.State{payment.Refused, payment.Expired, payment.Cancelled, payment.Voided} {
		p.State = s
		got, err := purchaseTransaction(payment.View{Payment: p}, m, payment.Caller{})
		if err != nil || got.Approved == nil || *got.Approved || got.Failure == "" || got.FailureDescription == "" {
			t.Errorf("%s: got %+v, %v", s, got, err)
		}
	}
	op := payment.Operation{ID: 2, Kind: payment.Refund, State: payment.Declined, Amount: p.Amount, Echo: echo}
	got, err := refundTransaction(payment.RefundView{Payment: p, Refund: op}, payment.Caller{})
	if err != nil || got.Approved == nil || *got.Approved || got.Failure != FailDeclined || got.FailureDescription == "" {
		t.Errorf("refund: got %+v, %v", got, err)
	}
}

// TestSaleCommand: the core hears of the sum in minor units, of the code and of the lifetime, and the echo never holds a card token.
func TestSaleCommand(t *testing.T) {
	for _, tt := range []struct {
		changes []string
		minor   int64
		flow    payment.Flow
		life    time.Duration
	}{
		{nil, 100, payment.ByQR, 2 * time.Hour},
		{[]string{"amount", "86.40", "saleType", `"customerPresentedToken"`, "customerToken", `"289661544981076259"`}, 8640, payment.ByCode, 5 * time.Minute},
		{[]string{"amount", "0.01", "provider", `"ZipPay"`, "saleType", `"customerPresentedToken"`, "customerToken", `"123456"`}, 1, payment.ByCode,
			2 * time.Minute},
		{[]string{"amount", "1e2", "provider", `"FinancialCard"`, "saleType", `"customerPresentedToken"`, "customerToken", `"ct_secret"`}, 10000,
			payment.ByCode, 5 * time.Minute},
	} {
		r := mustDecode(t, purchase(tt.changes...))
		cmd, err := saleCommand(r, payment.Caller{}, memoOf(r, payment.Caller{}, "203.0.113.20"), time.Second)
		if err != nil || cmd.Amount.Minor() != tt.minor || cmd.Flow != tt.flow || cmd.Lifetime != tt.life || cmd.Method != r.ProviderName() ||
			cmd.Key != (payment.Key{Scope: "upp", Key: r.TransactionReference}) || cmd.Wait != time.Second {
			t.Errorf("%v: got %+v, %v", tt.changes, cmd, err)
		}
		if (cmd.Instrument != nil) != (tt.flow == payment.ByCode) {
			t.Errorf("%v: instrument %v", tt.changes, cmd.Instrument)
		}
		if code := r.CustomerToken; r.ProviderName() == ProviderFinancialCard && bytes.Contains(cmd.Echo, []byte(code)) {
			t.Errorf("the echo holds the card token: %s", cmd.Echo)
		}
	}
}

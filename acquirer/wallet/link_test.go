package wallet

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
)

// What each state of the network means for what was asked. A state that is not in the table is nobody's approval.
func TestWhatStatesMean(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		state                          State
		sale, refund, closing, undoing payment.Outcome
	}{
		{Approved, payment.OutcomeApproved, payment.OutcomeApproved, payment.OutcomeDeclined, payment.OutcomeUnknown},
		{Waiting, payment.OutcomeWaiting, payment.OutcomeWaiting, payment.OutcomeUnknown, payment.OutcomeUnknown},
		{Declined, payment.OutcomeDeclined, payment.OutcomeDeclined, payment.OutcomeApproved, payment.OutcomeApproved},
		{Cancelled, payment.OutcomeDeclined, payment.OutcomeUnknown, payment.OutcomeApproved, payment.OutcomeApproved},
		{Closed, payment.OutcomeDeclined, payment.OutcomeUnknown, payment.OutcomeApproved, payment.OutcomeApproved},
		{"new", payment.OutcomeUnknown, payment.OutcomeUnknown, payment.OutcomeUnknown, payment.OutcomeUnknown},
		{"", payment.OutcomeUnknown, payment.OutcomeUnknown, payment.OutcomeUnknown, payment.OutcomeUnknown},
	} {
		p := Payment{State: tc.state}
		for what, got := range map[string][2]payment.Outcome{
			"sale":   {ofPayment(p).Outcome, tc.sale},
			"refund": {ofRefund(Refund{State: tc.state}).Outcome, tc.refund},
			"close":  {closed(p).Outcome, tc.closing},
			"undo":   {undone(p).Outcome, tc.undoing},
		} {
			if got[0] != got[1] {
				t.Errorf("%s answered %q: %s, want %s", what, tc.state, got[0], got[1])
			}
		}
	}
	// A close that finds the payment paid, or declined, says so of the attempt: that decides.
	if a := closed(Payment{State: Approved}).Attempt; a == nil || a.Outcome != payment.OutcomeApproved {
		t.Errorf("a close of what is paid: %+v", a)
	}
	if a := closed(Payment{State: Declined}).Attempt; a == nil || a.Outcome != payment.OutcomeDeclined {
		t.Errorf("a close of what is declined: %+v", a)
	}
	if reason("a word that nobody knows") != payment.ReasonDeclined {
		t.Error("an unknown reason is not a decline without one")
	}
}

// What each failure of an exchange means: only what certainly never left is unsent, and no failure is a decline of what may have moved.
func TestWhatFailuresMean(t *testing.T) {
	t.Parallel()
	aud := money.MustCurrency("AUD")
	message := func(kind payment.Kind) payment.Message {
		target := payment.Operation{Number: "8010000000000001", Amount: money.New(100, aud)}
		return payment.Message{Payment: payment.Payment{Merchant: 1, ID: 1, Method: "alipay", ExpiresAt: time.Unix(60, 0)}, Target: target,
			Operation: payment.Operation{Kind: kind, ID: 2, Number: "8010000000000002", Amount: money.New(100, aud), CreatedAt: time.Unix(0, 0)}}
	}
	refusing := func(status int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}
	}
	for _, tc := range []struct {
		name    string
		handler http.HandlerFunc // Nil is a network that nobody listens for.
		want    map[payment.Kind]payment.Outcome
		query   payment.Outcome
	}{
		{"nobody listens", nil, map[payment.Kind]payment.Outcome{payment.Sale: payment.OutcomeUnsent, payment.Refund: payment.OutcomeUnsent,
			payment.Close: payment.OutcomeUnsent, payment.CancelOperation: payment.OutcomeUnsent, payment.VoidOperation: payment.OutcomeUnsent},
			payment.OutcomeUnsent},
		{"the line is cut", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, map[payment.Kind]payment.Outcome{
			payment.Sale: payment.OutcomeUnknown, payment.Refund: payment.OutcomeUnknown, payment.Close: payment.OutcomeUnknown,
			payment.CancelOperation: payment.OutcomeUnknown, payment.VoidOperation: payment.OutcomeUnknown}, payment.OutcomeUnknown},
		{"an error of the network", refusing(500, `{"error":"internal"}`), map[payment.Kind]payment.Outcome{payment.Sale: payment.OutcomeUnknown,
			payment.Refund: payment.OutcomeUnknown, payment.Close: payment.OutcomeUnknown, payment.CancelOperation: payment.OutcomeUnknown,
			payment.VoidOperation: payment.OutcomeUnknown}, payment.OutcomeUnknown},
		{"a refusal", refusing(400, `{"error":"invalid_request","text":"no"}`), map[payment.Kind]payment.Outcome{payment.Sale: payment.OutcomeDeclined,
			payment.Refund: payment.OutcomeDeclined, payment.Close: payment.OutcomeUnknown, payment.CancelOperation: payment.OutcomeUnknown,
			payment.VoidOperation: payment.OutcomeUnknown}, payment.OutcomeUnknown},
		{"something under our number", refusing(409, `{"error":"reference_conflict","text":"no"}`), map[payment.Kind]payment.Outcome{
			payment.Sale: payment.OutcomeUnknown, payment.Refund: payment.OutcomeUnknown}, payment.OutcomeUnknown},
		{"refunded in part", refusing(409, `{"error":"already_refunded","text":"no"}`), map[payment.Kind]payment.Outcome{
			payment.CancelOperation: payment.OutcomeDeclined, payment.VoidOperation: payment.OutcomeDeclined}, payment.OutcomeUnknown},
		{"a number that was never seen", refusing(404, `{"error":"not_found","text":"no"}`), nil, payment.OutcomeUnseen},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(tc.handler)
			defer server.Close()
			if tc.handler == nil {
				server.Close()
			}
			link := &Link{Client: &Client{BaseURL: server.URL, Key: "k", HTTP: server.Client()}, Timeout: time.Second, Log: slog.New(slog.DiscardHandler)}
			for kind, want := range tc.want {
				if got := link.Do(t.Context(), message(kind)).Outcome; got != want {
					t.Errorf("%s: %s, want %s", kind, got, want)
				}
			}
			for _, kind := range []payment.Kind{payment.Sale, payment.Refund} {
				if got := link.Query(t.Context(), message(kind)).Outcome; got != tc.query {
					t.Errorf("query of a %s: %s, want %s", kind, got, tc.query)
				}
			}
		})
	}
}

// An event names an operation in our own words; what is not in them is nobody's.
func TestEventsNameOperations(t *testing.T) {
	t.Parallel()
	m := payment.Message{Payment: payment.Payment{Merchant: 3, ID: 5}, Operation: payment.Operation{ID: 7}}
	if o, ok := owed(attach(m)); !ok || o != (payment.Owed{Merchant: 3, Payment: 5, Operation: 7}) {
		t.Errorf("%s: %+v, %t", attach(m), o, ok)
	}
	for _, text := range []string{"", "1/2", "1/2/3/4", "a/b/c", "0/1/2", "1/-2/3", "99999999999999999999/1/1"} {
		if o, ok := owed(text); ok {
			t.Errorf("%q names %+v", text, o)
		}
	}
}

// Follow goes on after a network that fails, says when it may have missed something, and ends with its context.
func TestFollow(t *testing.T) {
	t.Parallel()
	calls := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls++
		w.Header().Set("Content-Type", "application/json")
		switch calls {
		case 1:
			w.WriteHeader(http.StatusBadGateway)
		case 2:
			_, _ = w.Write([]byte(`{"epoch":"e","next":0,"reset":true,"events":[]}`))
		case 3:
			_, _ = w.Write([]byte(`{"epoch":"e","next":1,"events":[{"seq":1,"kind":"payment","reference":"8010000000000005","attach":"3/5/7","state":"approved"},
				{"seq":2,"kind":"payment","reference":"x","attach":"not ours","state":"approved"}]}`))
		default:
			<-r.Context().Done()
		}
	}))
	defer server.Close()
	link := &Link{Client: &Client{BaseURL: server.URL, Key: "k", HTTP: server.Client()}, Log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(t.Context())
	var got []payment.Owed
	missed := 0
	err := link.Follow(ctx, func(o payment.Owed) {
		if !link.Following() {
			t.Error("not following while events come")
		}
		got = append(got, o)
		cancel()
	}, func(context.Context) { missed++ })
	if missed != 1 || link.Following() {
		t.Errorf("missed %d times, want once; following at the end: %t", missed, link.Following())
	}
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("Follow: %v", err)
	}
	if len(got) != 1 || got[0] != (payment.Owed{Merchant: 3, Payment: 5, Operation: 7}) {
		t.Errorf("nudged %+v", got)
	}
}

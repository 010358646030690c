package upay

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
)

// TestTables holds the tables against everything that the core can say.
func TestTables(t *testing.T) {
	t.Parallel()
	for _, r := range payment.Reasons() {
		if messages[failures[r]] == "" {
			t.Errorf("reason %s has no code, or its code no words", r)
		}
	}
	if len(failures) != len(payment.Reasons()) {
		t.Errorf("failures has %d rows for %d reasons", len(failures), len(payment.Reasons()))
	}
	for _, err := range payment.Errors() {
		e := refusal(fmt.Errorf("wrapped: %w", err), nil)
		if e == nil || messages[e.Code] == "" {
			t.Errorf("error %v has no code: %+v", err, e)
		}
	}
	for _, s := range []payment.State{payment.Open, payment.Authorized, payment.Captured, payment.Refused, payment.Cancelled, payment.Voided, payment.Expired} {
		if settled[s].order == "" || settled[s].status == "" {
			t.Errorf("state %s is not told", s)
		}
	}
	orders := []OrderStatus{OrderCreated, OrderPaid, OrderPayCanceled, OrderPayError, OrderRefunded, OrderPartialRefunded, OrderRefunding,
		OrderRefundError, OrderCanceled, OrderCanceling, OrderCancelError, OrderInvalid}
	for _, o := range orders {
		if payOutcome[o] == "" || precreateOutcome[o] == "" {
			t.Errorf("order_status %s has no outcome", o)
		}
	}
	for _, s := range []payment.OperationState{payment.Created, payment.Sent, payment.Waiting, payment.Approved, payment.Declined, payment.Unknown,
		payment.Reversing, payment.Reversed} {
		far, ok := progresses[s]
		if !ok || refundStatus[far] == "" || refundOutcome[far] == "" {
			t.Errorf("operation state %s is not told", s)
		}
	}
	if payOutcome[OrderCreated] == PaySuccess || refundOutcome[progresses[payment.Unknown]] != RefundError {
		t.Error("what is not known is told as done")
	}
	for p, m := range methods {
		if PaywayName(p) == "" || m == "" {
			t.Errorf("payway %s", p)
		}
	}
}

// TestStand tells orders in every state (§4.1).
func TestStand(t *testing.T) {
	t.Parallel()
	cny := money.MustCurrency("CNY")
	at := time.Date(2024, 6, 1, 12, 0, 0, 0, time.UTC)
	op := func(kind payment.Kind, state payment.OperationState, change ...func(*payment.Operation)) payment.Operation {
		at = at.Add(time.Second)
		o := payment.Operation{ID: payment.ID(at.Unix()), Kind: kind, State: state, Amount: money.New(100, cny), CreatedAt: at}
		for _, c := range change {
			c(&o)
		}
		return o
	}
	rest := func(o *payment.Operation) { o.Rest = true }
	flagged := func(o *payment.Operation) { o.Flagged = true }
	for _, c := range []struct {
		name     string
		state    payment.State
		attempt  payment.OperationState
		returned int64
		ops      []payment.Operation
		order    OrderStatus
		status   Status
	}{
		{"sent", payment.Open, payment.Sent, 0, nil, OrderCreated, StatusInProgress},
		{"waiting", payment.Open, payment.Waiting, 0, nil, OrderCreated, StatusInProgress},
		{"unknown", payment.Open, payment.Unknown, 0, nil, OrderCreated, StatusInProgress},
		{"being closed", payment.Open, payment.Unknown, 0, []payment.Operation{op(payment.Close, payment.Sent)}, OrderCreated, StatusInProgress},
		{"closed without an answer", payment.Open, payment.Unknown, 0, []payment.Operation{op(payment.Close, payment.Unknown)}, OrderPayError, StatusErrorRecovery},
		{"failing", payment.Open, payment.Reversing, 0, []payment.Operation{op(payment.CancelOperation, payment.Sent)}, OrderPayError, StatusErrorRecovery},
		{"failing without an answer", payment.Open, payment.Reversing, 0, []payment.Operation{op(payment.CancelOperation, payment.Unknown)}, OrderPayError, StatusFailError},
		{"failing, people told", payment.Open, payment.Reversing, 0, []payment.Operation{op(payment.Reversal, payment.Created, flagged)}, OrderPayError, StatusFailError},
		{"authorized", payment.Authorized, payment.Approved, 0, nil, OrderInvalid, StatusInProgress},
		{"paid", payment.Captured, payment.Approved, 0, nil, OrderPaid, StatusSuccess},
		{"refused", payment.Refused, payment.Declined, 0, nil, OrderPayCanceled, StatusFailCanceled},
		{"expired", payment.Expired, payment.Declined, 0, nil, OrderPayCanceled, StatusFailCanceled},
		{"refunding", payment.Captured, payment.Approved, 0, []payment.Operation{op(payment.Refund, payment.Sent)}, OrderRefunding, StatusInProgress},
		{"refund waits", payment.Captured, payment.Approved, 0, []payment.Operation{op(payment.Refund, payment.Waiting)}, OrderRefunding, StatusInProgress},
		{"refund lost", payment.Captured, payment.Approved, 0, []payment.Operation{op(payment.Refund, payment.Unknown)}, OrderRefundError, StatusRefundError},
		{"refund refused", payment.Captured, payment.Approved, 0, []payment.Operation{op(payment.Refund, payment.Declined)}, OrderPaid, StatusSuccess},
		{"refunded in part", payment.Captured, payment.Approved, 100, []payment.Operation{op(payment.Refund, payment.Approved)}, OrderPartialRefunded, StatusSuccess},
		{"in part, then refused", payment.Captured, payment.Approved, 100, []payment.Operation{op(payment.Refund, payment.Approved), op(payment.Refund, payment.Declined)},
			OrderPartialRefunded, StatusSuccess},
		{"in part, and another runs", payment.Captured, payment.Approved, 100, []payment.Operation{op(payment.Refund, payment.Sent), op(payment.Refund, payment.Approved)},
			OrderRefunding, StatusSuccess},
		{"refunded", payment.Captured, payment.Approved, 1000, []payment.Operation{op(payment.Refund, payment.Approved)}, OrderRefunded, StatusSuccess},
		{"being revoked", payment.Captured, payment.Approved, 0, []payment.Operation{op(payment.VoidOperation, payment.Sent, rest)}, OrderCanceling, StatusInProgress},
		{"revoke lost", payment.Captured, payment.Approved, 0, []payment.Operation{op(payment.VoidOperation, payment.Unknown, rest)}, OrderCancelError, StatusCancelError},
		{"revoke refused", payment.Captured, payment.Approved, 0, []payment.Operation{op(payment.VoidOperation, payment.Declined, rest), op(payment.Refund, payment.Declined, rest)},
			OrderCancelError, StatusCancelError},
		{"revoke refused, then a refund", payment.Captured, payment.Approved, 100, []payment.Operation{op(payment.Refund, payment.Declined, rest), op(payment.Refund, payment.Approved)},
			OrderPartialRefunded, StatusSuccess},
		{"revoked", payment.Voided, payment.Approved, 1000, []payment.Operation{op(payment.VoidOperation, payment.Approved, rest)}, OrderCanceled, StatusSuccess},
		{"cancelled", payment.Cancelled, payment.Reversed, 0, nil, OrderCanceled, StatusFailCanceled},
		{"cancelled at birth", payment.Cancelled, "", 0, nil, OrderCanceled, StatusFailCanceled},
		{"being cancelled", payment.Cancelled, payment.Reversing, 0, []payment.Operation{op(payment.CancelOperation, payment.Sent)}, OrderCanceling, StatusInProgress},
		{"cancel lost", payment.Cancelled, payment.Reversing, 0, []payment.Operation{op(payment.CancelOperation, payment.Unknown)}, OrderCancelError, StatusCancelError},
		{"cancelled after it was paid", payment.Cancelled, payment.Reversing, 0, []payment.Operation{op(payment.Refund, payment.Unknown, rest)}, OrderCancelError, StatusCancelError},
	} {
		v := payment.View{Payment: payment.Payment{State: c.state, Amount: money.New(1000, cny), Refunded: c.returned}}
		if c.state == payment.Captured || c.state == payment.Voided {
			v.Payment.Captured = 1000
		}
		if c.attempt != "" {
			v.Attempt = payment.Operation{ID: 1, Kind: payment.Sale, State: c.attempt}
		}
		if s := stand(&v, append([]payment.Operation{v.Attempt}, c.ops...)); s.order != c.order || s.status != c.status {
			t.Errorf("%s: got %s %s, want %s %s", c.name, s.order, s.status, c.order, c.status)
		}
	}
}

// TestRecognise is §3.4.1.
func TestRecognise(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]string{
		"134500000000000001": "3", "100000000000000000": "3", "159999999999999999": "3", "160000000000000000": "", "13450000000000001": "",
		"281200000000000002": "1", "2500000000000000": "1", "300000000000000000000000": "1", "310000000000000000": "", "250000000000000": "",
		"6200000000000000001": "17", "620000000000000001": "", "180000000000000000": "5", "910000000000000000": "6", "510000000000000000": "18",
		"1": "", "": "", "13450000000000000x": "", "hQVDUFYwM": "",
	} {
		if got := recognise(Barcodes, code); got != want {
			t.Errorf("%q: got %q, want %q", code, got, want)
		}
	}
}

func TestOrderID(t *testing.T) {
	t.Parallel()
	for sn, want := range map[string]payment.ID{"7800000000000042": 42, "7800000000000000": 0, "780000000000042": 0, "7700000000000042": 0,
		"78000000000000x2": 0, "": 0, "2026041422000000000000000007": 0} {
		if got, ok := orderID(sn); got != want || ok != (want != 0) {
			t.Errorf("%q: got %d %v", sn, got, ok)
		}
	}
	if sn := numbering.Number(42); len(sn) != 16 {
		t.Errorf("sn %s", sn)
	}
}

func TestIntegral(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"1250": "1250", "1250.0": "1250", "125e1": "1250", "1.25e3": "1250", "0": "0", "0.0": "0", "-0": "0", "0e9": "0",
		"1250e-1": "125", "-5": "-5", "12.5": "", "1e-1": "", "1e400": "", "100e-2": "1"} {
		if got, ok := integral(text); got != want || ok != (want != "") {
			t.Errorf("%s: got %q %v, want %q", text, got, ok, want)
		}
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	s := DefaultSettings()
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(`{"terminal_key_ttl":"0s","callback_events":["PAID","REFUNDED"],"pay_window":"90s"}`), &s); err != nil {
		t.Fatalf("%v; defaults are %s", err, text)
	}
	if s.TerminalKeyTTL != 0 || s.PayWindow != Duration(90*time.Second) || !s.CheckDevice || len(s.CallbackEvents) != 2 {
		t.Errorf("got %+v", s)
	}
	for name, change := range map[string]func(*Settings){
		"callback_auth_format":   func(s *Settings) { s.CallbackAuthFormat = "sha1" },
		"callback_events":        func(s *Settings) { s.CallbackEvents = []OrderStatus{"CREATED"} },
		"wap_pay_request_format": func(s *Settings) { s.WapPayRequestFormat = "xml" },
		"terminal_key_ttl":       func(s *Settings) { s.TerminalKeyTTL = -1 },
		"pay_window":             func(s *Settings) { s.PayWindow = 0 },
		"refund_window":          func(s *Settings) { s.RefundWindow = -1 },
	} {
		s := DefaultSettings()
		change(&s)
		if err := s.Check(); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

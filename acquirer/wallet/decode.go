package wallet

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/tillgate/tillgate/money"
)

var (
	paymentStates = []State{Approved, Declined, Waiting, Cancelled, Closed}
	refundStates  = []State{Approved, Declined, Waiting}
)

// errGarbled says that an answer is not one JSON object.
var errGarbled = errors.New("not one JSON object")

// object is a JSON object whose names are compared exactly. Fields that we do not know are ignored; the first field that is wrong is in err.
type object struct {
	values map[string]json.RawMessage
	err    error
}

// decodeObject reads exactly one object. A name that stands twice is refused: it could say approved and declined at once.
func decodeObject(body []byte) (*object, error) {
	dec := json.NewDecoder(bytes.NewReader(body))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errGarbled
	}
	f := &object{values: map[string]json.RawMessage{}}
	for dec.More() {
		t, err := dec.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return nil, errGarbled
		}
		var v json.RawMessage
		if err := dec.Decode(&v); err != nil {
			return nil, errGarbled
		}
		if _, twice := f.values[name]; twice {
			return nil, fmt.Errorf("%s: twice", name)
		}
		f.values[name] = v
	}
	if _, err := dec.Token(); err != nil { // The closing brace.
		return nil, errGarbled
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errGarbled
	}
	return f, nil
}

// read decodes a field; one that is missing or null stays as it is.
func (f *object) read(name string, into any) {
	v, ok := f.values[name]
	if !ok || f.err != nil {
		return
	}
	if err := json.Unmarshal(v, into); err != nil {
		f.err = fmt.Errorf("%s: %w", name, err)
	}
}

func (f *object) text(name string) (s string) {
	f.read(name, &s)
	return s
}

func (f *object) number(name string) (n int64) {
	f.read(name, &n)
	return n
}

func (f *object) yes(name string) (b bool) {
	f.read(name, &b)
	return b
}

// moment reads milliseconds; missing or zero is the zero time.
func (f *object) moment(name string) time.Time {
	ms := f.number(name)
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

func (f *object) state(known []State) State {
	s := State(f.text("state"))
	if f.err == nil && !slices.Contains(known, s) {
		f.err = fmt.Errorf("state: %q is unknown", s)
	}
	return s
}

// same demands that a field repeats what was asked.
func (f *object) same(name, want string) {
	if got := f.text(name); f.err == nil && got != want {
		f.err = fmt.Errorf("%s: got %q, asked for %q", name, got, want)
	}
}

// amount demands that the answer is about the amount that was asked for.
func (f *object) amount(want money.Amount) money.Amount {
	minor := f.number("amount_minor")
	f.same("currency", want.Currency().Code())
	if f.err == nil && minor != want.Minor() {
		f.err = fmt.Errorf("amount_minor: got %d, asked for %d", minor, want.Minor())
	}
	return want
}

func (f *object) exchange() *Exchange {
	var raw json.RawMessage
	f.read("exchange", &raw)
	if len(raw) == 0 || string(raw) == "null" || f.err != nil {
		return nil
	}
	in, err := decodeObject(raw)
	if err != nil {
		f.err = fmt.Errorf("exchange: %w", err)
		return nil
	}
	e := &Exchange{Rate: in.text("rate"), Currency: in.text("currency"), Minor: in.number("amount_minor")}
	f.err = in.err
	return e
}

// decodePayment reads an answer about the payment that was asked for, or fails. An approval is believed only if all of it fits.
func decodePayment(body []byte, reference string, amount money.Amount) (Payment, error) {
	f, err := decodeObject(body)
	if err != nil {
		return Payment{}, err
	}
	f.same("reference", reference)
	p := Payment{Reference: reference, State: f.state(paymentStates), Unseen: f.yes("unseen")}
	if p.Unseen {
		if f.err == nil && p.State != Cancelled {
			f.err = fmt.Errorf("state: %q though unseen", p.State)
		}
		return p, f.err
	}
	p.Amount = f.amount(amount)
	p.ID = f.text("id")
	p.Reason = f.text("reason")
	p.ReasonText = f.text("reason_text")
	p.Wallet = f.text("wallet")
	p.Attach = f.text("attach")
	p.QRURL = f.text("qr_url")
	p.RedirectURL = f.text("redirect_url")
	p.PayerID = f.text("payer_id")
	p.ProviderReference = f.text("provider_reference")
	p.PaidAt = f.moment("paid_at_ms")
	p.Exchange = f.exchange()
	return p, f.err
}

// decodeRefund is decodePayment for refunds.
func decodeRefund(body []byte, reference, original string, amount money.Amount) (Refund, error) {
	f, err := decodeObject(body)
	if err != nil {
		return Refund{}, err
	}
	f.same("reference", reference)
	f.same("original_reference", original)
	r := Refund{Reference: reference, Original: original, State: f.state(refundStates), Amount: f.amount(amount)}
	r.Reason = f.text("reason")
	r.ReasonText = f.text("reason_text")
	r.Attach = f.text("attach")
	r.ProviderReference = f.text("provider_reference")
	r.RefundedAt = f.moment("refunded_at_ms")
	r.Exchange = f.exchange()
	return r, f.err
}

// decodeEvents reads a part of the feed. Events of a kind or state that we do not know are kept: they are hints, and the query decides.
func decodeEvents(body []byte) (Events, error) {
	f, err := decodeObject(body)
	if err != nil {
		return Events{}, err
	}
	e := Events{Epoch: f.text("epoch"), Reset: f.yes("reset")}
	f.read("next", &e.Next)
	var list []json.RawMessage
	f.read("events", &list)
	if f.err == nil && e.Epoch == "" {
		f.err = errors.New("epoch: missing")
	}
	if f.err != nil {
		return Events{}, f.err
	}
	for _, raw := range list {
		in, err := decodeObject(raw)
		if err != nil {
			return Events{}, fmt.Errorf("events: %w", err)
		}
		one := Event{Kind: Kind(in.text("kind")), Reference: in.text("reference"), Attach: in.text("attach"), State: State(in.text("state"))}
		in.read("seq", &one.Seq)
		if in.err != nil {
			return Events{}, fmt.Errorf("events: %w", in.err)
		}
		e.Events = append(e.Events, one)
	}
	return e, nil
}

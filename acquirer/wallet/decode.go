package wallet

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

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
	values map[string]json.RawMessage // Parts of the text that was read, not copies.
	err    error
}

// fieldsUsual is how many fields our answers have, at most, if the network adds none.
const fieldsUsual = 16

// decodeObject reads exactly one object. A name that stands twice is refused: it could say approved and declined at once.
//
// encoding/json says whether the text is JSON. To find the fields in it we then need no more than its quotes and brackets.
func decodeObject(body []byte) (*object, error) {
	if !json.Valid(body) {
		return nil, errGarbled
	}
	s := scan{text: body}
	s.space()
	if s.text[s.pos] != '{' {
		return nil, errGarbled
	}
	s.mark()
	f := &object{values: make(map[string]json.RawMessage, fieldsUsual)}
	for s.text[s.pos] != '}' {
		name, err := unquote(s.value())
		if err != nil {
			return nil, errGarbled
		}
		s.mark() // The colon.
		if _, twice := f.values[name]; twice {
			return nil, fmt.Errorf("%s: twice", name)
		}
		f.values[name] = s.value()
		if s.text[s.pos] == ',' {
			s.mark()
		}
	}
	return f, nil
}

// scan walks through an object that is known to be JSON. It always stands before a name, value or mark: space is skipped at once.
type scan struct {
	text []byte
	pos  int
}

func (s *scan) space() {
	for isSpace(s.text[s.pos]) {
		s.pos++
	}
}

// mark takes a bracket, colon or comma. The object's own closing bracket is never taken, so that something always follows.
func (s *scan) mark() byte {
	c := s.text[s.pos]
	s.pos++
	s.space()
	return c
}

// value takes a name or value, which ends where a mark or space follows that is not inside its own quotes and brackets.
func (s *scan) value() []byte {
	start, depth := s.pos, 0
	for {
		switch s.text[s.pos] {
		case '"':
			s.quoted()
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		s.pos++
		if next := s.text[s.pos]; depth == 0 && (isSpace(next) || next == ',' || next == ':' || next == '}') {
			v := s.text[start:s.pos]
			s.space()
			return v
		}
	}
}

// quoted goes to the end of a string, from its opening to its closing quote.
func (s *scan) quoted() {
	for s.pos++; s.text[s.pos] != '"'; s.pos++ {
		if s.text[s.pos] == '\\' {
			s.pos++ // What is escaped may be a quote.
		}
	}
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// unquote reads a string that is known to be JSON. encoding/json is needed only where it would change something: it resolves escapes, and
// replaces what is not UTF-8.
func unquote(v json.RawMessage) (string, error) {
	if inner := v[1 : len(v)-1]; bytes.IndexByte(inner, '\\') < 0 && utf8.Valid(inner) {
		return string(inner), nil
	}
	var text string
	err := json.Unmarshal(v, &text)
	return text, err
}

// get finds a field, if it is there and nothing was wrong so far.
func (f *object) get(name string) (json.RawMessage, bool) {
	v, ok := f.values[name]
	return v, ok && f.err == nil
}

// read decodes a field; one that is missing or null stays as it is.
func (f *object) read(name string, into any) {
	v, ok := f.get(name)
	if !ok {
		return
	}
	if err := json.Unmarshal(v, into); err != nil {
		f.err = fmt.Errorf("%s: %w", name, err)
	}
}

// text reads a string. What is none is left to read, as in number: it knows null, and what to say of all else.
func (f *object) text(name string) string {
	v, ok := f.get(name)
	if !ok {
		return ""
	}
	if v[0] == '"' {
		if s, err := unquote(v); err == nil {
			return s
		}
	}
	var s string
	f.read(name, &s)
	return s
}

// number reads a whole number.
func (f *object) number(name string) int64 {
	v, ok := f.get(name)
	if !ok {
		return 0
	}
	if n, err := strconv.ParseInt(string(v), 10, 64); err == nil {
		return n
	}
	var n int64
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
	raw, ok := f.get("exchange")
	if !ok || string(raw) == "null" {
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

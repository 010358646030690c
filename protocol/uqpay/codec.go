package uqpay

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tillgate/tillgate/card"
	"github.com/tillgate/tillgate/emv"
	"github.com/tillgate/tillgate/internal/strictjson"
	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
)

// Limits of fields, in characters unless they say otherwise (§3).
const (
	firmMax        = 64
	orderMax       = 36
	descriptionMax = 32
	returnURLMax   = 1024
	metadataMax    = 512 // Bytes.
	ipMax          = 45
	reasonMax      = 100
	idMax          = 36
	tidMax         = 8
	amountMax      = 32
	textMax        = 4096 // What is not kept.
	emvMax         = 2048 // Hexadecimal digits; data element 55 takes fewer.
	trackMax       = 160
)

// zone is the time zone of all times and days of the interface (§1).
var zone = time.FixedZone("+08:00", 8*60*60)

// Forms of times (§1, §3.1).
const (
	timeForm         = "2006-01-02T15:04:05-07:00"
	terminalTimeForm = "2006-01-02 15:04:05"
)

// yearMax is the end of the year 9999 in milliseconds.
const yearMax = 253_402_300_799_999

// wireTime is a time as REST writes it; none is "".
func wireTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.In(zone).Format(timeForm)
}

// encode writes an answer. Its types are ours, so it cannot fail but by a mistake of the program.
func encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(fmt.Sprintf("uqpay: encode %T: %v", v, err))
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// PINKeyExpire is when a PIN key ends. It is written in milliseconds, or as RFC 3339 with nanoseconds; either is read, and digits in a
// string too (§3.2).
type PINKeyExpire struct {
	time.Time
	RFC3339 bool
}

// MarshalJSON writes it.
func (e PINKeyExpire) MarshalJSON() ([]byte, error) {
	if e.RFC3339 {
		return json.Marshal(e.In(zone).Format("2006-01-02T15:04:05.000000000-07:00"))
	}
	return strconv.AppendInt(nil, e.UnixMilli(), 10), nil
}

// UnmarshalJSON reads it.
func (e *PINKeyExpire) UnmarshalJSON(b []byte) error {
	text := string(b)
	if len(b) > 0 && b[0] == '"' {
		if err := json.Unmarshal(b, &text); err != nil {
			return err
		}
		if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
			*e = PINKeyExpire{Time: t, RFC3339: true}
			return nil
		}
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n <= 0 || n > yearMax {
		return errors.New("pin_key_expire is no time")
	}
	*e = PINKeyExpire{Time: unixTime(n)}
	return nil
}

// fields reads the members of an object. The first fault is kept, and everything after it reads as absent.
type fields struct {
	value strictjson.Value
	path  string
	err   *error
}

// readBody reads the object of a request's body. No body at all is an empty object.
func readBody(body []byte) (fields, error) {
	f := fields{err: new(error)}
	if len(bytes.TrimSpace(body)) == 0 {
		return f, nil
	}
	var err error
	if f.value, err = limits.Parse(body); err != nil {
		return f, refuse(TypeInvalidRequest, CodeInvalidParameter, "parameter is invalid: the body is not acceptable JSON: %v", err)
	}
	return f, nil
}

func (f fields) fail(err error) {
	if *f.err == nil {
		*f.err = err
	}
}

// get finds a member of a kind.
func (f fields) get(name string, want strictjson.Kind) (strictjson.Value, bool) {
	v, ok := f.value.Get(name)
	if ok && v.Kind != want {
		f.fail(invalid(f.path + name))
		return strictjson.Value{}, false
	}
	return v, ok
}

// text is a string of at most so many characters; empty when it is absent.
func (f fields) text(name string, charsMax int) string {
	v, _ := f.get(name, strictjson.String)
	if utf8.RuneCountInString(v.Text) > charsMax {
		f.fail(invalid(f.path + name))
		return ""
	}
	return v.Text
}

func (f fields) flag(name string) (value, present bool) {
	v, ok := f.get(name, strictjson.Bool)
	return v.Raw == "true", ok
}

// object is a member that is an object.
func (f fields) object(name string) (fields, bool) {
	v, ok := f.get(name, strictjson.Object)
	return fields{value: v, path: f.path + name + ".", err: f.err}, ok
}

// ignored checks the kind of a member that is not kept.
func (f fields) ignored(name string, want strictjson.Kind) { f.get(name, want) }

// metadata is the object that is echoed (§3.3), as it was written.
func (f fields) metadata() json.RawMessage {
	v, ok := f.get("metadata", strictjson.Object)
	if !ok {
		return nil
	}
	if len(v.Raw) > metadataMax {
		f.fail(invalid(f.path + "metadata"))
		return nil
	}
	return json.RawMessage(v.Raw)
}

// require refuses the first of some fields that is empty.
func (f fields) require(pairs ...string) {
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			f.fail(missing(f.path + pairs[i]))
		}
	}
}

// registerRequest is the body of §3.1.
type registerRequest struct{ FirmCode, FirmSN, Model string }

// firmCodes are the makers of terminals (UQPAY seed, 2.2).
var firmCodes = map[string]string{"01": "Shengben", "02": "Newland", "03": "Xinguodu", "04": "iMin", "05": "PAX"}

func decodeRegister(body []byte) (registerRequest, error) {
	f, err := readBody(body)
	if err != nil {
		return registerRequest{}, err
	}
	r := registerRequest{f.text("firm_code", firmMax), f.text("firm_sn", firmMax), f.text("terminal_model", firmMax)}
	f.require("firm_code", r.FirmCode, "firm_sn", r.FirmSN, "terminal_model", r.Model)
	if firmCodes[r.FirmCode] == "" {
		f.fail(invalid("firm_code"))
	}
	return r, *f.err
}

// pinKeyRequest is the body of §3.2. It shows nothing of itself.
type pinKeyRequest struct {
	terminal string
	key      []byte // The caller's AES key.
}

func (r pinKeyRequest) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte("pin key request(***)")) }

func decodePINKey(body []byte) (pinKeyRequest, error) {
	f, err := readBody(body)
	if err != nil {
		return pinKeyRequest{}, err
	}
	r := pinKeyRequest{terminal: f.text("terminal_id", tidMax)}
	key := f.text("prv_key", 64)
	f.require("terminal_id", r.terminal, "prv_key", key)
	if r.key, err = hex.DecodeString(key); err != nil || len(r.key) != 16 && len(r.key) != 24 && len(r.key) != 32 {
		f.fail(invalid("prv_key")) // §2.3: 32, 48 or 64 hexadecimal digits.
	}
	return r, *f.err
}

// intentRequest is the body of §3.3, and what of it §3.6 may change.
type intentRequest struct {
	Amount, Currency, OrderID, Description, ReturnURL string
	Metadata                                          json.RawMessage
	Method                                            *methodRequest
	has                                               func(name string) bool
}

// methodRequest is a payment_method.
type methodRequest struct {
	Type string
	Card *cardRequest // Nil for other types than card_present.
}

// methodCard is the one type of payment_method that a POS uses.
const methodCard = "card_present"

// methodTypes are the types of payment_method that UQPAY has (§3.3).
var methodTypes = map[string]bool{
	"card": true, methodCard: true, "applepay": true, "googlepay": true, "crypto": true, "alipaycn": true, "alipayhk": true, "unionpay": true,
	"wechatpay": true, "grabpay": true, "paynow": true, "truemoney": true, "tng": true, "gcash": true, "dana": true, "kakaopay": true,
	"toss": true, "tosspay": true, "naverpay": true,
}

// cardRequest is a card_present object as text. It shows nothing of itself.
type cardRequest struct {
	number, month, year string
	entry, verification string
	pin, stan, terminal string
	emv, track1, track2 string
	fallback, noCapture bool
}

func (c *cardRequest) Format(s fmt.State, _ rune) { _, _ = s.Write([]byte("card_present(***)")) }

// LogValue shows stars.
func (c *cardRequest) LogValue() slog.Value { return slog.StringValue("card_present(***)") }

// intentFields reads what a create and an update have in common. Types are checked here, what is required by the callers.
func intentFields(f fields) *intentRequest {
	r := &intentRequest{Amount: f.text("amount", amountMax), Currency: f.text("currency", amountMax), OrderID: f.text("merchant_order_id", orderMax)}
	r.has = func(name string) bool { _, ok := f.value.Get(name); return ok }
	description, _ := f.get("description", strictjson.String)
	if r.Description = description.Text; utf8.RuneCountInString(r.Description) > descriptionMax {
		f.fail(refuse(TypeInvalidRequest, CodeInvalidParameter, "parameter is invalid")) // §3.3: names no field.
	}
	returnURL, _ := f.get("return_url", strictjson.String)
	if r.ReturnURL = returnURL.Text; utf8.RuneCountInString(r.ReturnURL) > returnURLMax {
		f.fail(refuse(TypeInvalidRequest, CodeInvalidReturnURL, "return_url is longer than %d characters", returnURLMax))
	}
	r.Metadata = f.metadata()
	if v, ok := f.value.Get("payment_orders"); ok && v.Kind != strictjson.Object {
		f.fail(refuse(TypeInvalidRequest, CodeInvalidOrders, "payment_orders is %s", v.Kind))
	}
	f.ignored("customer", strictjson.Object)
	f.ignored("browser_info", strictjson.Object)
	f.text("customer_id", textMax)
	f.text("ip_address", ipMax)
	return r
}

// decodeCreate reads §3.3: types first, then what is required.
func decodeCreate(body []byte) (*intentRequest, error) {
	f, err := readBody(body)
	if err != nil {
		return nil, err
	}
	r := intentFields(f)
	r.Method = method(f)
	if *f.err != nil {
		return nil, *f.err
	}
	f.require("amount", r.Amount, "currency", r.Currency, "merchant_order_id", r.OrderID, "description", r.Description)
	if r.Method != nil {
		f.fail(r.Method.check())
	}
	return r, *f.err
}

// decodeUpdate reads §3.6: everything may be absent.
func decodeUpdate(body []byte) (*intentRequest, error) {
	f, err := readBody(body)
	if err != nil {
		return nil, err
	}
	r := intentFields(f)
	for name, text := range map[string]string{"merchant_order_id": r.OrderID, "description": r.Description} {
		if r.has(name) && text == "" {
			f.fail(invalid(name))
		}
	}
	return r, *f.err
}

// decodeConfirm reads §3.7. The method is nil when there is none.
func decodeConfirm(body []byte) (*methodRequest, error) {
	f, err := readBody(body)
	if err != nil {
		return nil, err
	}
	f.text("ip_address", ipMax)
	f.text("return_url", returnURLMax)
	f.ignored("browser_info", strictjson.Object)
	m := method(f)
	if *f.err == nil && m != nil {
		f.fail(m.check())
	}
	return m, *f.err
}

// method reads a payment_method; types only.
func method(f fields) *methodRequest {
	m, ok := f.object("payment_method")
	if !ok {
		return nil
	}
	r := &methodRequest{Type: m.text("type", textMax)}
	if r.Type != methodCard {
		return r
	}
	c, ok := m.object(methodCard)
	if !ok {
		return r
	}
	r.Card = &cardRequest{number: c.text("card_number", textMax), month: c.text("expiry_month", textMax), year: c.text("expiry_year", textMax),
		entry: c.text("pan_entry_mode", textMax), verification: c.text("cardholder_verification_method", textMax),
		pin: c.text("encrypted_pin", textMax), stan: c.text("system_trace_audit_number", textMax),
		emv: c.text("emv_tags", emvMax), track1: c.text("track1", trackMax), track2: c.text("track2", trackMax)}
	r.Card.fallback, _ = c.flag("fallback")
	c.text("fallback_reason", textMax)
	if capture, ok := c.flag("auto_capture"); ok {
		r.Card.noCapture = !capture
	}
	r.Card.terminal = c.text("terminal_id", textMax)
	if t, ok := c.object("terminal_info"); ok {
		t.flag("mobile_device")
		t.flag("use_embedded_reader")
		if id := t.text("terminal_id", textMax); id != "" { // §3.3: the nested one counts first.
			r.Card.terminal = id
		}
	}
	return r
}

// check refuses a method that lacks something, or is none that a POS takes.
func (m *methodRequest) check() error {
	switch {
	case m.Type == "":
		return missing("payment_method.type")
	case !methodTypes[m.Type]:
		return refuse(TypePayment, CodeInvalidMethod, "Invalid payment method: payment_method.type is unknown")
	case m.Type != methodCard:
		return refuse(TypeProduct, CodeProductNotFound, "Product not found: %s is not enabled", m.Type)
	case m.Card == nil:
		return missing("payment_method." + methodCard)
	}
	c := m.Card
	for _, p := range [][2]string{{"card_number", c.number}, {"expiry_month", c.month}, {"expiry_year", c.year}, {"pan_entry_mode", c.entry},
		{"terminal_info.terminal_id", c.terminal}, {"system_trace_audit_number", c.stan}} {
		if p[1] == "" {
			return missing("payment_method." + methodCard + "." + p[0])
		}
	}
	return nil
}

// parseCard reads what the card_present object says, in the order of §3.3. The PIN's keys are not its business: a PIN block comes back
// without them. The STAN comes last, so that its day can be looked at after all else.
func (c *cardRequest) parse(now time.Time) (*payment.Card, error) {
	at := func(name string) error { return invalid("payment_method." + methodCard + "." + name) }
	out := &payment.Card{TID: c.terminal, STAN: c.stan, Fallback: c.fallback, Entry: payment.EntryMode(c.entry)}
	var err error
	if out.PAN, err = card.ParsePAN(c.number); err != nil {
		return nil, at("card_number")
	}
	if _, err := card.ParseExpiry(c.month, "2000"); err != nil || len(c.month) != 2 {
		return nil, at("expiry_month")
	}
	if out.Expiry, err = card.ParseExpiry(c.month, c.year); err != nil || len(c.year) != 4 {
		return nil, at("expiry_year")
	}
	if out.Expiry.Over(now.In(zone)) {
		return nil, refuse(TypeInvalidRequest, CodeInvalidParameter, "invalid expiry year: card is expired")
	}
	switch out.Entry {
	case payment.EntryKeyed, payment.EntryChip, payment.EntryStripe, payment.EntryContactlessChip, payment.EntryContactlessStripe:
	default:
		return nil, at("pan_entry_mode")
	}
	switch out.Verification = payment.Verification(c.verification); out.Verification {
	case "", payment.VerifiedByPIN, payment.VerifiedBySignature, payment.NotVerified:
	default:
		return nil, at("cardholder_verification_method")
	}
	if c.pin == "" && out.Verification == payment.VerifiedByPIN {
		return nil, missing("payment_method." + methodCard + ".encrypted_pin")
	}
	if c.pin != "" {
		var pin payment.EncryptedPIN
		if n, err := hex.Decode(pin.Block[:], []byte(c.pin[:min(len(c.pin), 2*len(pin.Block))])); err != nil || len(c.pin) != 2*len(pin.Block) || n != len(pin.Block) {
			return nil, at("encrypted_pin")
		}
		if out.Verification == "" || out.Verification == payment.VerifiedByPIN {
			pin.Format = card.Format0
			out.PIN, out.Verification = &pin, payment.VerifiedByPIN
		}
	}
	if c.fallback && out.Entry != payment.EntryStripe && out.Entry != payment.EntryContactlessStripe && out.Entry != payment.EntryKeyed {
		return nil, at("fallback")
	}
	if err := c.media(out); err != nil {
		return nil, err
	}
	if len(c.stan) != 6 || strings.Trim(c.stan, "0123456789") != "" {
		return nil, at("system_trace_audit_number")
	}
	return out, nil
}

// media reads tracks and chip data.
func (c *cardRequest) media(out *payment.Card) error {
	at := func(name string) error { return invalid("payment_method." + methodCard + "." + name) }
	agrees := func(pan card.PAN, e card.Expiry) bool { return pan.Equal(out.PAN) && (e.IsZero() || e == out.Expiry) }
	var err error
	if c.track1 != "" {
		if out.Track1, err = card.ParseTrack1(c.track1); err != nil || !agrees(out.Track1.PAN(), out.Track1.Expiry()) {
			return at("track1")
		}
	}
	if c.track2 != "" {
		if out.Track2, err = card.ParseTrack2(c.track2); err != nil || !agrees(out.Track2.PAN(), out.Track2.Expiry()) {
			return at("track2")
		}
	}
	if c.emv == "" {
		return nil
	}
	data, err := emv.ParseHex(c.emv)
	if err != nil {
		return at("emv_tags")
	}
	if _, err := emv.Request(data.List()); err != nil { // What the host will be sent of it.
		return at("emv_tags")
	}
	out.Chip = data.Reveal()
	if psn, ok := data.List().Find(emv.TagPSN); ok && len(psn) == 1 {
		out.Sequence = fmt.Sprintf("0%02x", psn[0])
	}
	return nil
}

// parseCurrency reads an upper-case ISO 4217 code (§1).
func parseCurrency(code string) (money.Currency, error) {
	cur, err := money.ParseCurrency(code)
	if err != nil || cur.Code() != code {
		return money.Currency{}, refuse(TypeInvalidRequest, CodeInvalidCurrency, "Invalid order currency")
	}
	return cur, nil
}

// parseAmount reads a sum above zero in major units: digits, perhaps with a point between. Code is the error's.
func parseAmount(text string, cur money.Currency, t ErrorType, code string) (money.Amount, error) {
	bad := func(why string) (money.Amount, error) {
		return money.Amount{}, refuse(t, code, "Invalid amount: %s", why)
	}
	if strings.Trim(text, "0123456789.") != "" {
		return bad("not a decimal number")
	}
	a, err := money.Parse(text, cur)
	switch {
	case errors.Is(err, money.ErrPrecision):
		return bad(fmt.Sprintf("more than %d decimals for %s", cur.Decimals(), cur))
	case err != nil:
		return bad(err.Error())
	case !a.IsPositive():
		return bad("must be above zero")
	}
	return a, nil
}

// decodeCapture reads §3.8. The amount is the text of a number or the content of a string; empty for all.
func decodeCapture(body []byte) (string, error) {
	f, err := readBody(body)
	if err != nil {
		return "", err
	}
	v, ok := f.value.Get("amount_to_capture")
	switch {
	case !ok:
		return "", nil
	case v.Kind == strictjson.Number:
		return v.Raw, nil
	case v.Kind == strictjson.String && v.Text != "" && len(v.Text) <= amountMax:
		return v.Text, nil
	}
	return "", invalid("amount_to_capture")
}

// cancellationReasons are the reasons of §3.9.
var cancellationReasons = map[string]bool{"duplicate": true, "fraudulent": true, "requested_by_customer": true, "abandoned": true}

func decodeCancel(body []byte) (reason string, err error) {
	f, err := readBody(body)
	if err != nil {
		return "", err
	}
	reason = f.text("cancellation_reason", textMax)
	if reason != "" && !cancellationReasons[reason] {
		f.fail(invalid("cancellation_reason"))
	}
	return reason, *f.err
}

// refundRequest is the body of §3.12.
type refundRequest struct {
	IntentID, AttemptID, Amount, Reason string
	Metadata                            json.RawMessage
}

func decodeRefund(body []byte) (refundRequest, error) {
	f, err := readBody(body)
	if err != nil {
		return refundRequest{}, err
	}
	r := refundRequest{f.text("payment_intent_id", idMax), f.text("payment_attempt_id", idMax), f.text("amount", amountMax),
		f.text("reason", reasonMax), f.metadata()}
	f.require("payment_intent_id", r.IntentID, "amount", r.Amount, "reason", r.Reason)
	return r, *f.err
}

// Lists (§3.5, §3.11, §3.14).

const (
	pageSizeDefault = 10
	pageSizeMax     = 100
	pageNumberMax   = 1_000_000_000 // So that the number of skipped rows stays a number.
)

// page is what a list was asked for.
type page struct{ size, number int64 }

func (p page) offset() int64 { return (p.number - 1) * p.size }

func decodePage(q url.Values) (page, error) {
	p := page{pageSizeDefault, 1}
	for _, f := range []struct {
		name string
		into *int64
		max  int64
	}{{"page_size", &p.size, pageSizeMax}, {"page_number", &p.number, pageNumberMax}} {
		text := q.Get(f.name)
		if text == "" {
			continue
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 1 || n > f.max {
			return page{}, invalid(f.name)
		}
		*f.into = n
	}
	return p, nil
}

// pageOf makes a page of rows.
func pageOf[T any](p page, total int64, rows []T) Page[T] {
	if rows == nil {
		rows = []T{}
	}
	return Page[T]{TotalPages: (total + p.size - 1) / p.size, TotalItems: total, Data: rows}
}

// first is the first of some parameters that is there: clients have several names for one.
func first(q url.Values, names ...string) (name, text string) {
	for _, name := range names {
		if text := q.Get(name); text != "" {
			return name, text
		}
	}
	return names[0], ""
}

// decodeTime reads an RFC 3339 time of a query; zero when it is absent. A plus that nobody escaped has become a space (§3.5).
func decodeTime(q url.Values, names ...string) (time.Time, error) {
	name, text := first(q, names...)
	if text == "" {
		return time.Time{}, nil
	}
	if i := len(text) - len(" 08:00"); i > 0 && text[i] == ' ' {
		text = text[:i] + "+" + text[i+1:]
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || t.Year() < 1970 || t.Year() > 9999 {
		return time.Time{}, invalid(name)
	}
	return t, nil
}

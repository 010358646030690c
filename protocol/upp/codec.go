package upp

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/tillgate/tillgate/internal/strictjson"
	"github.com/tillgate/tillgate/money"
)

// Limits of the fields (§3.2).
const (
	referenceMax     = 255  // characters of a transaction reference
	customerTokenMax = 1024 // characters of what was scanned
	itemsMax         = 1000 // lines of a basket
	textMax          = 2048 // characters of texts that §3 gives no limit: the longest are addresses of web pages
)

// Error is a refusal as the peer sees it: an HTTP status and the body of §5. The server answers with it, the client returns it.
type Error struct {
	Status      int
	Failure     Failure
	Description string // for humans; begins with the field, if there is one
	Field       string // path of the field at fault, such as items[2].amount; empty if none, and in the client

	fromUPP bool // client: the body was JSON, so that it does not come from something in front of UPP
}

// refuse makes an Error with the status of §5.
func refuse(f Failure, field, format string, args ...any) *Error {
	description := fmt.Sprintf(format, args...)
	if field != "" {
		description = field + " " + description
	}
	return &Error{Status: f.Status(), Failure: f, Description: description, Field: field}
}

// Refuse makes the Error of a failure, with its status of §5.
func Refuse(f Failure, format string, args ...any) *Error { return refuse(f, "", format, args...) }

// Status is the HTTP status of a refusal (§5), and 0 for what is only a decline.
func (f Failure) Status() int { return statuses[f] }

// Error is the text for logs and for operators.
func (e *Error) Error() string {
	if e.Failure == "" {
		return fmt.Sprintf("HTTP %d: %s", e.Status, e.Description)
	}
	return fmt.Sprintf("HTTP %d %s: %s", e.Status, e.Failure, e.Description)
}

// Body is the JSON of the refusal (§5).
func (e *Error) Body() []byte {
	return fmt.Appendf(nil, `{"failure":%s,"failureDescription":%s}`, strictjson.Quote(string(e.Failure)), strictjson.Quote(e.Description))
}

// DecodeRequest reads the body of POST /v1/transactions and holds it against §3.2 to §3.4. The error is always an *Error. Unknown
// fields are ignored.
func DecodeRequest(body []byte) (*CreateRequest, error) {
	if len(body) > BodyMax {
		return nil, refuse(FailRequestTooLarge, "", "The body is longer than %d bytes.", BodyMax)
	}
	v, err := parse(body)
	if err != nil {
		return nil, refuse(FailInvalidRequest, "", "The body is not acceptable JSON: %v.", err)
	}
	d := &decoding{}
	r := d.request(object{"", v})
	if d.err != nil {
		return nil, d.err
	}
	return r, nil
}

// decoding reads fields in the documented order and keeps the first fault; what is read after one is worthless.
type decoding struct{ err *Error }

// object is a JSON object and the path that leads to it.
type object struct {
	path string
	strictjson.Value
}

func (o object) at(name string) string {
	if o.path == "" {
		return name
	}
	return o.path + "." + name
}

func (d *decoding) refuse(f Failure, field, format string, args ...any) {
	if d.err == nil {
		d.err = refuse(f, field, format, args...)
	}
}

// optional finds a member of the kind wanted; one of another kind is a fault.
func (d *decoding) optional(o object, name string, want strictjson.Kind) (strictjson.Value, bool) {
	v, ok := o.Get(name)
	if ok && v.Kind != want {
		d.refuse(FailInvalidRequest, o.at(name), "must be %s, not %s.", want, v.Kind)
		return strictjson.Value{}, false
	}
	return v, ok
}

// required is optional for a member that must be there.
func (d *decoding) required(o object, name string, want strictjson.Kind) strictjson.Value {
	v, ok := d.optional(o, name, want)
	if !ok {
		d.refuse(FailInvalidRequest, o.at(name), "is missing.")
	}
	return v
}

// text reads an optional string.
func (d *decoding) text(o object, name string) string {
	v, _ := d.optional(o, name, strictjson.String)
	if utf8.RuneCountInString(v.Text) > textMax {
		d.refuse(FailInvalidRequest, o.at(name), "is longer than %d characters.", textMax)
	}
	return v.Text
}

// oneOf reads a required string out of a closed list.
func (d *decoding) oneOf(o object, name string, list []string, f Failure) string {
	text := d.required(o, name, strictjson.String).Text
	if !slices.Contains(list, text) {
		d.refuse(f, o.at(name), "must be one of %s.", strings.Join(list, ", "))
	}
	return text
}

// isReference reports whether a text can be a transaction's reference: what the reader of JSON refuses, a path cannot bring in either.
func isReference(text string) bool {
	n := utf8.RuneCountInString(text)
	return n >= 1 && n <= referenceMax && utf8.ValidString(text) && !strings.ContainsRune(text, 0)
}

func (d *decoding) reference(o object, name string) string {
	text := d.required(o, name, strictjson.String).Text
	if !isReference(text) {
		d.refuse(FailInvalidRequest, o.at(name), "must have 1 to %d characters.", referenceMax)
	}
	return text
}

// sum reads a required amount of cur, which is zero after a fault.
func (d *decoding) sum(o object, name string, cur money.Currency) (Number, money.Amount) {
	n := Number(d.required(o, name, strictjson.Number).Raw)
	if d.err != nil {
		return "", money.Amount{}
	}
	a, err := n.In(cur)
	switch {
	case errors.Is(err, money.ErrPrecision):
		d.refuse(FailInvalidAmount, o.at(name), "has more than %d decimals.", cur.Decimals())
	case err != nil:
		d.refuse(FailInvalidAmount, o.at(name), "is not a sum of money: %v.", err)
	}
	return n, a
}

func (d *decoding) request(o object) *CreateRequest {
	r := &CreateRequest{TransactionType: d.oneOf(o, "transactionType", transactionTypes, FailInvalidRequest)}
	r.TransactionReference = d.reference(o, "transactionReference")

	r.Currency = d.required(o, "currency", strictjson.String).Text
	cur, known := currencies[lower(r.Currency)]
	if !known {
		d.refuse(FailUnsupportedCurrency, o.at("currency"), "must be %s or %s.", aud, nzd)
	}
	amount, a := d.sum(o, "amount", cur)
	if r.Amount = amount; !a.IsPositive() {
		d.refuse(FailInvalidAmount, o.at("amount"), "must be more than 0.")
	}
	if r.IsRefund() {
		d.refund(o, r)
	} else {
		d.purchase(o, r, cur)
	}
	if _, sent := o.Get("clientIpAddress"); sent {
		r.ClientIPAddress = new(d.text(o, "clientIpAddress"))
	}
	return r
}

// refund reads the fields of §3.4 that only refunds have.
func (d *decoding) refund(o object, r *CreateRequest) {
	r.OriginalTransactionReference = d.reference(o, "originalTransactionReference")
	r.RefundReason = d.oneOf(o, "refundReason", refundReasons, FailInvalidRequest)
}

// purchase reads the fields of §3.2 and §3.3 that only purchases have.
func (d *decoding) purchase(o object, r *CreateRequest, cur money.Currency) {
	// A website's widget may have chosen the provider; Quest's own demo then sends none (§3.3).
	saleType, _ := o.Get("saleType")
	_, hasWidget := o.Get("webWidget")
	_, hasProvider := o.Get("provider")
	if hasProvider || !hasWidget || saleType.Text != SaleWebsite {
		r.Provider = d.required(o, "provider", strictjson.String).Text
		d.provider(o, r)
	}
	r.SaleType = d.oneOf(o, "saleType", saleTypes, FailUnsupportedSaleType)

	token, _ := d.optional(o, "customerToken", strictjson.String)
	r.CustomerToken = strings.Trim(token.Text, " \t\r\n\v\f") // what scanners add (§3.2)
	if r.SaleType == SaleCustomerPresented && r.CustomerToken == "" {
		d.refuse(FailCustomerTokenRequired, o.at("customerToken"), "is required when saleType is %s.", SaleCustomerPresented)
	}
	if utf8.RuneCountInString(r.CustomerToken) > customerTokenMax {
		d.refuse(FailInvalidRequest, o.at("customerToken"), "is longer than %d characters.", customerTokenMax)
	}
	r.Items = d.items(o, cur)
	if r.IsWebsite() {
		d.website(o, r)
	}
}

// provider checks the provider's name and, as some pay in one country only, its currency (§3.9).
func (d *decoding) provider(o object, r *CreateRequest) {
	pays, known := providerCurrencies[r.ProviderName()]
	if !known {
		d.refuse(FailUnsupportedProvider, o.at("provider"), "must be one of %s.",
			strings.Join(slices.Sorted(maps.Keys(providerCurrencies)), ", "))
	}
	if !slices.Contains(pays, lower(r.Currency)) {
		d.refuse(FailUnsupportedCurrency, o.at("currency"), "must be %s with this provider.", strings.Join(pays, " or "))
	}
}

func (d *decoding) items(o object, cur money.Currency) []Item {
	list := d.required(o, "items", strictjson.Array).List
	if len(list) < 1 || len(list) > itemsMax {
		d.refuse(FailInvalidRequest, o.at("items"), "must have 1 to %d entries.", itemsMax)
	}
	items := make([]Item, 0, len(list))
	for i, v := range list {
		if d.err != nil {
			return nil
		}
		path := o.at("items") + "[" + strconv.Itoa(i) + "]"
		if v.Kind != strictjson.Object {
			d.refuse(FailInvalidRequest, path, "must be an object, not %s.", v.Kind)
		}
		items = append(items, d.item(object{path, v}, cur))
	}
	return items
}

func (d *decoding) item(o object, cur money.Currency) Item {
	item := Item{Type: d.oneOf(o, "type", itemTypes, FailInvalidRequest)}
	item.ItemReference = d.required(o, "itemReference", strictjson.String).Text
	item.Name = d.required(o, "name", strictjson.String).Text
	amount, a := d.sum(o, "amount", cur)
	item.Amount = amount
	if a.Minor() < 0 && !slices.Contains(negativeItems, item.Type) {
		d.refuse(FailInvalidAmount, o.at("amount"), "may be negative for %s only.", strings.Join(negativeItems, " and "))
	}
	item.Quantity = Number(d.required(o, "quantity", strictjson.Number).Raw)
	if d.err == nil && !isPositive(item.Quantity) {
		d.refuse(FailInvalidRequest, o.at("quantity"), "must be more than 0.")
	}
	return item
}

// isPositive reports whether a number is above zero. Quantities are no sums and may have any decimals.
func isPositive(n Number) bool {
	c := canonicalNumber(string(n))
	return c != "0" && c[0] != '-'
}

// website reads the fields of §3.3. None but the provider or the widget is required.
func (d *decoding) website(o object, r *CreateRequest) {
	if v, ok := d.optional(o, "webWidget", strictjson.Object); ok {
		r.WebWidget = json.RawMessage(v.Raw)
	}
	if r.ReturnURL = d.text(o, "returnUrl"); r.ReturnURL != "" {
		u, err := url.Parse(r.ReturnURL)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || strings.ContainsFunc(r.ReturnURL, unicode.IsControl) {
			d.refuse(FailInvalidRequest, o.at("returnUrl"), "must be an absolute http or https address.")
		}
	}
	if v, ok := d.optional(o, "billing", strictjson.Object); ok {
		r.Billing = d.address(object{o.at("billing"), v})
	}
	if v, ok := d.optional(o, "shipping", strictjson.Object); ok {
		s := object{o.at("shipping"), v}
		pickup, _ := d.optional(s, "isPickup", strictjson.Bool)
		r.Shipping = &Shipping{IsPickup: pickup.Raw == "true"}
		if v, ok := d.optional(s, "address", strictjson.Object); ok {
			r.Shipping.Address = d.address(object{s.at("address"), v})
		}
	}
	if v, ok := d.optional(o, "shopper", strictjson.Object); ok {
		s := object{o.at("shopper"), v}
		r.Shopper = &Shopper{
			FirstName: d.text(s, "firstName"), LastName: d.text(s, "lastName"), DateOfBirth: d.text(s, "dateOfBirth"),
			Email: d.text(s, "email"), Phone: d.text(s, "phone"),
		}
	}
}

func (d *decoding) address(o object) *Address {
	return &Address{
		FirstName: d.text(o, "firstName"), LastName: d.text(o, "lastName"), Line1: d.text(o, "line1"), City: d.text(o, "city"),
		State: d.text(o, "state"), PostCode: d.text(o, "postCode"), CountryCode: d.text(o, "countryCode"),
	}
}

// DecodeTransaction reads a transaction object as a client must: unknown members and values are carried through, and so is a
// known member of another type, unless money hangs on it (§3.0).
func DecodeTransaction(body []byte) (*Transaction, error) {
	v, err := parseAnswer(body)
	if err != nil {
		return nil, err
	}
	return transactionOf(v)
}

func parseAnswer(body []byte) (strictjson.Value, error) {
	if len(body) > answerMax {
		return strictjson.Value{}, errors.New("upp: answer too long")
	}
	v, err := parse(body)
	if err != nil {
		return strictjson.Value{}, fmt.Errorf("upp: answer is not acceptable JSON: %w", err)
	}
	return v, nil
}

func transactionOf(v strictjson.Value) (*Transaction, error) {
	t := &Transaction{}
	if err := decodeMembers(t, v, transactionTable); err != nil {
		return nil, fmt.Errorf("upp: transaction: %w", err)
	}
	if t.TransactionReference == "" {
		return nil, errors.New("upp: transaction: transactionReference is missing")
	}
	return t, nil
}

// Encode writes the transaction with its members in the order of the seed's create answers. It fails on a Number or a raw member
// that is not JSON.
func (t *Transaction) Encode() ([]byte, error) {
	table := transactionTable
	if t.TransactionType == TypeRefund {
		table = refundTable
	}
	b, err := appendMembers(make([]byte, 0, textUsual), t, table)
	if err != nil {
		return nil, fmt.Errorf("upp: transaction %q: %w", t.TransactionReference, err)
	}
	return b, nil
}

// MarshalJSON is Encode; on the value, so that json.Marshal finds it for values and pointers alike.
func (t Transaction) MarshalJSON() ([]byte, error) { return t.Encode() }

// UnmarshalJSON is DecodeTransaction.
func (t *Transaction) UnmarshalJSON(body []byte) error {
	got, err := DecodeTransaction(body)
	if err == nil {
		*t = *got
	}
	return err
}

// Encode writes the request's body. It fails on a Number or a WebWidget that is not JSON, and checks nothing else.
func (r *CreateRequest) Encode() ([]byte, error) {
	b, err := appendMembers(make([]byte, 0, textUsual), r, requestTable)
	if err != nil {
		return nil, fmt.Errorf("upp: request %q: %w", r.TransactionReference, err)
	}
	return b, nil
}

// Echo is what must be repeated in every later answer about a transaction (§3.1): the request's known fields as they were sent,
// without webWidget and without card tokens. The core keeps it, unread, with the payment or refund.
type Echo CreateRequest

// Echo is the part of the request that is kept for later answers.
func (r *CreateRequest) Echo() Echo {
	e := *r
	e.WebWidget = nil
	if e.ProviderName() == ProviderFinancialCard || r.IsWebsite() { // On websites it is a card's, whoever names the provider.
		e.CustomerToken = ""
	}
	return Echo(e)
}

// Encode writes the echo for storage.
func (e Echo) Encode() ([]byte, error) { return (*CreateRequest)(&e).Encode() }

// DecodeEcho reads what Echo.Encode wrote.
func DecodeEcho(stored []byte) (Echo, error) {
	v, err := parse(stored)
	if err != nil {
		return Echo{}, fmt.Errorf("upp: stored echo: %w", err)
	}
	return echoOf(v)
}

func echoOf(v strictjson.Value) (Echo, error) {
	r := CreateRequest{}
	if err := decodeMembers(&r, v, requestTable); err != nil {
		return Echo{}, fmt.Errorf("upp: stored echo: %w", err)
	}
	return Echo(r), nil
}

// Transaction begins an answer with what is repeated from the request. All that depends on the state is still to be set, and on
// refunds the provider and the sale type, which come from the purchase (§3.1).
func (e Echo) Transaction() Transaction {
	t := Transaction{
		TransactionType: e.TransactionType, TransactionReference: e.TransactionReference, Amount: e.Amount, Currency: e.Currency,
		Provider: e.Provider, SaleType: e.SaleType, Items: e.Items, CustomerToken: e.CustomerToken,
		OriginalTransactionReference: e.OriginalTransactionReference, RefundReason: e.RefundReason,
		ReturnURL: e.ReturnURL, Billing: e.Billing, Shipping: e.Shipping, Shopper: e.Shopper,
		Discount: "0",
	}
	if a, err := (*CreateRequest)(&e).Sum(); err == nil {
		t.Amount = NumberOf(a)
	}
	if e.SaleType == SaleCustomerPresented {
		t.Discount = "" // as in the seed's sample of this kind; doc.go says why in all states
	}
	if e.ClientIPAddress != nil {
		t.ClientIPAddress = *e.ClientIPAddress
	}
	return t
}

// member is one member of a JSON object: how it is read into a T and written from one.
type member[T any] struct {
	name  string
	vital bool                             // money hangs on it: another type fails the decoding instead of being carried through
	read  func(*T, strictjson.Value) bool  // false: not of the member's type
	write func([]byte, *T) ([]byte, error) // appends the value; nothing leaves the member out
}

// table is an object's members in the order in which they are written.
type table[T any] struct {
	members []member[T]
	extra   func(*T) *map[string]json.RawMessage // where unknown members go; nil drops them
}

// presence says when a member is written.
type presence bool

const (
	always    presence = true
	ifPresent presence = false
)

func decodeMembers[T any](t *T, v strictjson.Value, tab table[T]) error {
	for _, nv := range v.Members {
		if nv.Value.Kind == strictjson.Null {
			continue // §3.0: a null is an absent member
		}
		i := slices.IndexFunc(tab.members, func(m member[T]) bool { return m.name == nv.Name })
		if i >= 0 && tab.members[i].read(t, nv.Value) {
			continue
		}
		if i >= 0 && tab.members[i].vital {
			return fmt.Errorf("%s must not be %s", nv.Name, nv.Value.Kind)
		}
		if tab.extra == nil {
			continue
		}
		extra := tab.extra(t)
		if *extra == nil {
			*extra = map[string]json.RawMessage{}
		}
		(*extra)[nv.Name] = json.RawMessage(nv.Value.Raw)
	}
	return nil
}

// textUsual is room for an answer about a few items, so that its text need not be moved while it grows.
const textUsual = 1 << 10

// appendMembers writes an object at the end of b.
func appendMembers[T any](b []byte, t *T, tab table[T]) ([]byte, error) {
	var extra map[string]json.RawMessage
	if tab.extra != nil {
		extra = *tab.extra(t)
	}
	b = append(b, '{')
	first := len(b)
	name := func(b []byte, name string) []byte {
		if len(b) > first {
			b = append(b, ',')
		}
		return append(strictjson.AppendQuoted(b, name), ':')
	}
	for _, m := range tab.members {
		if _, carried := extra[m.name]; carried {
			continue // came with another type and goes as it came
		}
		before := len(b)
		b = name(b, m.name)
		named := len(b)
		var err error
		if b, err = m.write(b, t); err != nil {
			return nil, fmt.Errorf("%s: %w", m.name, err)
		}
		if len(b) == named {
			b = b[:before] // left out
		}
	}
	for _, key := range slices.Sorted(maps.Keys(extra)) {
		var err error
		if b, err = appendRaw(name(b, key), extra[key]); err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
	}
	return append(b, '}'), nil
}

var (
	errNotNumber = errors.New("not a JSON number")
	errNotJSON   = errors.New("not JSON")
)

func appendRaw(b []byte, raw json.RawMessage) ([]byte, error) {
	if !json.Valid(raw) {
		return nil, errNotJSON
	}
	return append(b, raw...), nil
}

func appendNumber(b []byte, n Number) ([]byte, error) {
	if !isNumber(string(n)) {
		return nil, errNotNumber
	}
	return append(b, n...), nil
}

// vital marks a member on which money hangs.
func vital[T any](m member[T]) member[T] {
	m.vital = true
	return m
}

func stringMember[T any, S ~string](name string, when presence, at func(*T) *S) member[T] {
	return member[T]{
		name: name,
		read: func(t *T, v strictjson.Value) bool { *at(t) = S(v.Text); return v.Kind == strictjson.String },
		write: func(b []byte, t *T) ([]byte, error) {
			if *at(t) == "" && when == ifPresent {
				return b, nil
			}
			return strictjson.AppendQuoted(b, string(*at(t))), nil
		},
	}
}

// numberMember is a number; an empty one that must be written is 0.
func numberMember[T any](name string, when presence, at func(*T) *Number) member[T] {
	return member[T]{
		name: name,
		read: func(t *T, v strictjson.Value) bool {
			if v.Kind != strictjson.Number {
				return false
			}
			*at(t) = Number(v.Raw)
			return true
		},
		write: func(b []byte, t *T) ([]byte, error) {
			switch n := *at(t); {
			case n != "":
				return appendNumber(b, n)
			case when == always:
				return append(b, '0'), nil
			}
			return b, nil
		},
	}
}

// millisMember is a time in Unix milliseconds, an integer.
func millisMember[T any](name string, when presence, at func(*T) *int64) member[T] {
	return member[T]{
		name: name,
		read: func(t *T, v strictjson.Value) bool {
			n, err := strconv.ParseInt(v.Raw, 10, 64)
			if v.Kind != strictjson.Number || err != nil {
				return false
			}
			*at(t) = n
			return true
		},
		write: func(b []byte, t *T) ([]byte, error) {
			if *at(t) == 0 && when == ifPresent {
				return b, nil
			}
			return strconv.AppendInt(b, *at(t), 10), nil
		},
	}
}

func boolMember[T any](name string, at func(*T) *bool) member[T] {
	return member[T]{
		name:  name,
		read:  func(t *T, v strictjson.Value) bool { *at(t) = v.Raw == "true"; return v.Kind == strictjson.Bool },
		write: func(b []byte, t *T) ([]byte, error) { return strconv.AppendBool(b, *at(t)), nil },
	}
}

// pointerMember is a member whose absence means something; inner reads and writes it when it is there.
func pointerMember[T, V any](name string, at func(*T) **V, inner func(name string, at func(*T) *V) member[T]) member[T] {
	m := inner(name, func(t *T) *V { return *at(t) })
	return member[T]{
		name: name,
		read: func(t *T, v strictjson.Value) bool {
			before := *at(t)
			*at(t) = new(V)
			if !m.read(t, v) {
				*at(t) = before
				return false
			}
			return true
		},
		write: func(b []byte, t *T) ([]byte, error) {
			if *at(t) == nil {
				return b, nil
			}
			return m.write(b, t)
		},
	}
}

func objectMember[T, V any](name string, at func(*T) **V, tab table[V]) member[T] {
	return pointerMember(name, at, func(name string, at func(*T) *V) member[T] {
		return member[T]{
			name: name,
			read: func(t *T, v strictjson.Value) bool {
				return v.Kind == strictjson.Object && decodeMembers(at(t), v, tab) == nil
			},
			write: func(b []byte, t *T) ([]byte, error) { return appendMembers(b, at(t), tab) },
		}
	})
}

func itemsMember[T any](at func(*T) *[]Item) member[T] {
	return member[T]{
		name: "items",
		read: func(t *T, v strictjson.Value) bool {
			if v.Kind != strictjson.Array {
				return false
			}
			items := make([]Item, len(v.List))
			for i, e := range v.List {
				if e.Kind != strictjson.Object || decodeMembers(&items[i], e, itemTable) != nil {
					return false
				}
			}
			*at(t) = items
			return true
		},
		write: func(b []byte, t *T) ([]byte, error) {
			if *at(t) == nil {
				return b, nil
			}
			return appendList(b, *at(t), func(b []byte, i *Item) ([]byte, error) { return appendMembers(b, i, itemTable) })
		},
	}
}

// rawListMember is a list whose elements are unknown (§3.1, tags); an empty one is written.
func rawListMember[T any](name string, at func(*T) *[]json.RawMessage) member[T] {
	return member[T]{
		name: name,
		read: func(t *T, v strictjson.Value) bool {
			if v.Kind != strictjson.Array {
				return false
			}
			for _, e := range v.List {
				*at(t) = append(*at(t), json.RawMessage(e.Raw))
			}
			return true
		},
		write: func(b []byte, t *T) ([]byte, error) {
			return appendList(b, *at(t), func(b []byte, raw *json.RawMessage) ([]byte, error) { return appendRaw(b, *raw) })
		},
	}
}

func appendList[E any](b []byte, list []E, element func([]byte, *E) ([]byte, error)) ([]byte, error) {
	b = append(b, '[')
	for i := range list {
		if i > 0 {
			b = append(b, ',')
		}
		var err error
		if b, err = element(b, &list[i]); err != nil {
			return nil, fmt.Errorf("[%d]: %w", i, err)
		}
	}
	return append(b, ']'), nil
}

// rawObjectMember is an object that is passed on untouched.
func rawObjectMember[T any](name string, at func(*T) *json.RawMessage) member[T] {
	return member[T]{
		name: name,
		read: func(t *T, v strictjson.Value) bool {
			*at(t) = json.RawMessage(v.Raw)
			return v.Kind == strictjson.Object
		},
		write: func(b []byte, t *T) ([]byte, error) {
			if len(*at(t)) == 0 {
				return b, nil
			}
			return appendRaw(b, *at(t))
		},
	}
}

// billingAmountMember reads and writes the one member whose type differs between purchases and refunds (§3.1).
func billingAmountMember() member[ExchangeDetails] {
	return member[ExchangeDetails]{
		name: "purchaserBillingAmount",
		read: func(t *ExchangeDetails, v strictjson.Value) bool {
			switch v.Kind {
			case strictjson.Number:
				t.PurchaserBillingAmount = BillingAmount{Text: v.Raw}
			case strictjson.String:
				t.PurchaserBillingAmount = BillingAmount{Text: v.Text, Quoted: true}
			default:
				return false
			}
			return true
		},
		write: func(b []byte, t *ExchangeDetails) ([]byte, error) {
			switch a := t.PurchaserBillingAmount; {
			case a.Quoted:
				return strictjson.AppendQuoted(b, a.Text), nil
			case a.Text == "":
				return b, nil
			default:
				return appendNumber(b, Number(a.Text))
			}
		},
	}
}

var itemTable = table[Item]{
	extra: func(i *Item) *map[string]json.RawMessage { return &i.Extra },
	members: []member[Item]{
		stringMember("type", always, func(i *Item) *string { return &i.Type }),
		stringMember("itemReference", always, func(i *Item) *string { return &i.ItemReference }),
		stringMember("name", always, func(i *Item) *string { return &i.Name }),
		numberMember("amount", always, func(i *Item) *Number { return &i.Amount }),
		numberMember("quantity", always, func(i *Item) *Number { return &i.Quantity }),
	},
}

var addressTable = table[Address]{members: []member[Address]{
	stringMember("firstName", ifPresent, func(a *Address) *string { return &a.FirstName }),
	stringMember("lastName", ifPresent, func(a *Address) *string { return &a.LastName }),
	stringMember("line1", ifPresent, func(a *Address) *string { return &a.Line1 }),
	stringMember("city", ifPresent, func(a *Address) *string { return &a.City }),
	stringMember("state", ifPresent, func(a *Address) *string { return &a.State }),
	stringMember("postCode", ifPresent, func(a *Address) *string { return &a.PostCode }),
	stringMember("countryCode", ifPresent, func(a *Address) *string { return &a.CountryCode }),
}}

var shippingTable = table[Shipping]{members: []member[Shipping]{
	boolMember("isPickup", func(s *Shipping) *bool { return &s.IsPickup }),
	objectMember("address", func(s *Shipping) **Address { return &s.Address }, addressTable),
}}

var shopperTable = table[Shopper]{members: []member[Shopper]{
	stringMember("firstName", ifPresent, func(s *Shopper) *string { return &s.FirstName }),
	stringMember("lastName", ifPresent, func(s *Shopper) *string { return &s.LastName }),
	stringMember("dateOfBirth", ifPresent, func(s *Shopper) *string { return &s.DateOfBirth }),
	stringMember("email", ifPresent, func(s *Shopper) *string { return &s.Email }),
	stringMember("phone", ifPresent, func(s *Shopper) *string { return &s.Phone }),
}}

var exchangeTable = table[ExchangeDetails]{
	extra: func(e *ExchangeDetails) *map[string]json.RawMessage { return &e.Extra },
	members: []member[ExchangeDetails]{
		stringMember("exchangeRate", ifPresent, func(e *ExchangeDetails) *string { return &e.ExchangeRate }),
		billingAmountMember(),
		stringMember("purchaserBillingCurrency", ifPresent, func(e *ExchangeDetails) *string { return &e.PurchaserBillingCurrency }),
	},
}

// requestTable is in the order of the seed's sample requests.
var requestTable = table[CreateRequest]{members: []member[CreateRequest]{
	vital(stringMember("transactionType", ifPresent, func(r *CreateRequest) *string { return &r.TransactionType })),
	vital(numberMember("amount", ifPresent, func(r *CreateRequest) *Number { return &r.Amount })),
	vital(stringMember("currency", ifPresent, func(r *CreateRequest) *string { return &r.Currency })),
	stringMember("customerToken", ifPresent, func(r *CreateRequest) *string { return &r.CustomerToken }),
	vital(stringMember("transactionReference", ifPresent, func(r *CreateRequest) *string { return &r.TransactionReference })),
	stringMember("originalTransactionReference", ifPresent, func(r *CreateRequest) *string { return &r.OriginalTransactionReference }),
	stringMember("refundReason", ifPresent, func(r *CreateRequest) *string { return &r.RefundReason }),
	stringMember("provider", ifPresent, func(r *CreateRequest) *string { return &r.Provider }),
	stringMember("saleType", ifPresent, func(r *CreateRequest) *string { return &r.SaleType }),
	pointerMember("clientIpAddress", func(r *CreateRequest) **string { return &r.ClientIPAddress },
		func(name string, at func(*CreateRequest) *string) member[CreateRequest] {
			return stringMember(name, always, at)
		}),
	itemsMember(func(r *CreateRequest) *[]Item { return &r.Items }),
	stringMember("returnUrl", ifPresent, func(r *CreateRequest) *string { return &r.ReturnURL }),
	rawObjectMember("webWidget", func(r *CreateRequest) *json.RawMessage { return &r.WebWidget }),
	objectMember("billing", func(r *CreateRequest) **Address { return &r.Billing }, addressTable),
	objectMember("shipping", func(r *CreateRequest) **Shipping { return &r.Shipping }, shippingTable),
	objectMember("shopper", func(r *CreateRequest) **Shopper { return &r.Shopper }, shopperTable),
}}

// transactionTable is §3.1, in the order of the seed's answers to purchases.
var transactionTable = table[Transaction]{
	extra: func(t *Transaction) *map[string]json.RawMessage { return &t.Extra },
	members: []member[Transaction]{
		stringMember("provider", ifPresent, func(t *Transaction) *string { return &t.Provider }),
		vital(stringMember("transactionType", always, func(t *Transaction) *string { return &t.TransactionType })),
		vital(numberMember("amount", always, func(t *Transaction) *Number { return &t.Amount })),
		vital(stringMember("currency", always, func(t *Transaction) *string { return &t.Currency })),
		stringMember("customerToken", ifPresent, func(t *Transaction) *string { return &t.CustomerToken }),
		vital(stringMember("transactionReference", always, func(t *Transaction) *string { return &t.TransactionReference })),
		stringMember("originalTransactionReference", ifPresent, func(t *Transaction) *string { return &t.OriginalTransactionReference }),
		stringMember("refundReason", ifPresent, func(t *Transaction) *string { return &t.RefundReason }),
		stringMember("saleType", ifPresent, func(t *Transaction) *string { return &t.SaleType }),
		itemsMember(func(t *Transaction) *[]Item { return &t.Items }),
		vital(pointerMember("approved", func(t *Transaction) **bool { return &t.Approved }, boolMember[Transaction])),
		stringMember("outTradeNumber", always, func(t *Transaction) *string { return &t.OutTradeNumber }),
		millisMember("modified", always, func(t *Transaction) *int64 { return &t.Modified }),
		vital(boolMember("cancelled", func(t *Transaction) *bool { return &t.Cancelled })),
		numberMember("settlementAmount", always, func(t *Transaction) *Number { return &t.SettlementAmount }),
		stringMember("companyName", always, func(t *Transaction) *string { return &t.CompanyName }),
		stringMember("merchantName", always, func(t *Transaction) *string { return &t.MerchantName }),
		millisMember("created", always, func(t *Transaction) *int64 { return &t.Created }),
		stringMember("merchantId", always, func(t *Transaction) *string { return &t.MerchantID }),
		stringMember("terminalId", always, func(t *Transaction) *string { return &t.TerminalID }),
		stringMember("clientIpAddress", always, func(t *Transaction) *string { return &t.ClientIPAddress }),
		rawListMember("tags", func(t *Transaction) *[]json.RawMessage { return &t.Tags }),
		stringMember("originalOutTradeNumber", ifPresent, func(t *Transaction) *string { return &t.OriginalOutTradeNumber }),
		numberMember("amountCaptured", always, func(t *Transaction) *Number { return &t.AmountCaptured }),
		boolMember("canCaptureMore", func(t *Transaction) *bool { return &t.CanCaptureMore }),
		stringMember("merchantToken", ifPresent, func(t *Transaction) *string { return &t.MerchantToken }),
		numberMember("discount", ifPresent, func(t *Transaction) *Number { return &t.Discount }),
		rawListMember("discountTags", func(t *Transaction) *[]json.RawMessage { return &t.DiscountTags }),
		stringMember("buyerIdentity", ifPresent, func(t *Transaction) *string { return &t.BuyerIdentity }),
		millisMember("paymentTime", ifPresent, func(t *Transaction) *int64 { return &t.PaymentTime }),
		objectMember("exchangeDetails", func(t *Transaction) **ExchangeDetails { return &t.ExchangeDetails }, exchangeTable),
		stringMember("providerReference", ifPresent, func(t *Transaction) *string { return &t.ProviderReference }),
		stringMember("settlementBatch", ifPresent, func(t *Transaction) *string { return &t.SettlementBatch }),
		stringMember("failure", ifPresent, func(t *Transaction) *Failure { return &t.Failure }),
		stringMember("failureDescription", ifPresent, func(t *Transaction) *string { return &t.FailureDescription }),
		stringMember("sendCustomerToUrl", ifPresent, func(t *Transaction) *string { return &t.SendCustomerToURL }),
		stringMember("returnUrl", ifPresent, func(t *Transaction) *string { return &t.ReturnURL }),
		objectMember("billing", func(t *Transaction) **Address { return &t.Billing }, addressTable),
		objectMember("shipping", func(t *Transaction) **Shipping { return &t.Shipping }, shippingTable),
		objectMember("shopper", func(t *Transaction) **Shopper { return &t.Shopper }, shopperTable),
	},
}

// refundTable has the same members in the order of the seed's answer to a refund, which puts three of them elsewhere.
var refundTable = move(move(transactionTable,
	"originalOutTradeNumber", "saleType", "provider"),
	"paymentTime", "providerReference")

// move puts the members named behind the member after.
func move[T any](tab table[T], after string, names ...string) table[T] {
	var moved []member[T]
	for _, name := range names {
		i := slices.IndexFunc(tab.members, func(m member[T]) bool { return m.name == name })
		moved = append(moved, tab.members[i])
	}
	rest := slices.DeleteFunc(slices.Clone(tab.members), func(m member[T]) bool { return slices.Contains(names, m.name) })
	i := slices.IndexFunc(rest, func(m member[T]) bool { return m.name == after })
	tab.members = slices.Insert(rest, i+1, moved...)
	return tab
}

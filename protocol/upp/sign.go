package upp

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"log/slog"
	"slices"
	"strings"

	"github.com/tillgate/tillgate/internal/strictjson"
)

// tokenMax is the longest bearer token (§2).
const tokenMax = 4096

// errToken never holds the token, nor a part of it.
var errToken = errors.New("upp: a token has 1 to 4096 visible ASCII characters")

// Token is a bearer token (§2). However it is printed it shows nothing; Reveal is the only way to its text.
type Token struct{ secret *string } // a pointer, since fmt would print a plain string in an unexported field

// NewToken makes a token of its text, which must be fit for a header.
func NewToken(text string) (Token, error) {
	invisible := func(r rune) bool { return r <= ' ' || r > '~' }
	if text == "" || len(text) > tokenMax || strings.ContainsFunc(text, invisible) {
		return Token{}, errToken
	}
	return Token{&text}, nil
}

// ParseBearer takes the token out of an Authorization header: the scheme in any letter case, exactly one space, the token (§2).
// It reports false for everything else.
func ParseBearer(header string) (Token, bool) {
	scheme, text, _ := strings.Cut(header, " ")
	if lower(scheme) != "bearer" {
		return Token{}, false
	}
	t, err := NewToken(text)
	return t, err == nil
}

const redacted = "***"

// String shows nothing of the token.
func (t Token) String() string { return redacted }

// GoString shows nothing of the token.
func (t Token) GoString() string { return redacted }

// LogValue shows nothing of the token.
func (t Token) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText shows nothing of the token.
func (t Token) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// IsZero reports whether there is no token.
func (t Token) IsZero() bool { return t.secret == nil }

// Equal compares in constant time. No token equals none.
func (t Token) Equal(u Token) bool {
	return t.secret != nil && u.secret != nil && subtle.ConstantTimeCompare([]byte(*t.secret), []byte(*u.secret)) == 1
}

// Reveal is the text of the token, for the header and for the check of a credential only; empty for no token.
func (t Token) Reveal() string {
	if t.secret == nil {
		return ""
	}
	return *t.secret
}

// canonicalVersion begins the canonical form, so that a later form can never equal an older one. The form is stored as an HMAC:
// changing it turns every resend of an older request into a conflict.
const canonicalVersion = "upp request 1\n"

// Canonical is the same for two requests exactly if §6.1 calls them the same: numbers by value, currency and provider in any letter
// case, the token as trimmed, items and webWidget in full. White space, the order of keys, unknown fields and clientIpAddress do not
// count. It holds the customer's token and must not be stored as it is.
func (r *CreateRequest) Canonical() []byte {
	var b bytes.Buffer
	b.WriteString(canonicalVersion)
	for _, f := range canonicalFields(r) {
		b.WriteString(f.name)
		b.WriteByte('=')
		b.WriteString(f.text)
		b.WriteByte('\n')
	}
	return b.Bytes()
}

type canonicalField struct{ name, text string }

// canonicalFields lists the fields of §6.1, each as JSON without line breaks; an absent field is empty.
func canonicalFields(r *CreateRequest) []canonicalField {
	text := func(s string) string {
		if s == "" {
			return ""
		}
		return strictjson.Quote(s)
	}
	return []canonicalField{
		{"transactionType", text(r.TransactionType)},
		{"currency", text(lower(r.Currency))},
		{"amount", canonicalNumber(string(r.Amount))},
		{"provider", text(r.ProviderName())},
		{"saleType", text(r.SaleType)},
		{"customerToken", text(r.CustomerToken)},
		{"items", canonicalItems(r.Items)},
		{"originalTransactionReference", text(r.OriginalTransactionReference)},
		{"refundReason", text(r.RefundReason)},
		{"returnUrl", text(r.ReturnURL)},
		{"webWidget", canonicalRaw(r.WebWidget)},
	}
}

func canonicalItems(items []Item) string {
	var b strings.Builder
	for _, i := range items {
		b.WriteString("[" + strictjson.Quote(i.Type) + "," + strictjson.Quote(i.ItemReference) + "," + strictjson.Quote(i.Name) + "," +
			canonicalNumber(string(i.Amount)) + "," + canonicalNumber(string(i.Quantity)) + "]")
	}
	return b.String()
}

// canonicalRaw writes an object of any shape. What is no JSON, which DecodeRequest never leaves, stands for itself.
func canonicalRaw(raw []byte) string {
	if len(raw) == 0 {
		return ""
	}
	v, err := parse(raw)
	if err != nil {
		return strictjson.Quote(string(raw))
	}
	return canonicalValue(v)
}

func canonicalValue(v strictjson.Value) string {
	var parts []string
	switch v.Kind {
	case strictjson.Number:
		return canonicalNumber(v.Raw)
	case strictjson.String:
		return strictjson.Quote(v.Text)
	case strictjson.Array:
		for _, e := range v.List {
			parts = append(parts, canonicalValue(e))
		}
		return "[" + strings.Join(parts, ",") + "]"
	case strictjson.Object:
		members := slices.SortedFunc(slices.Values(v.Members), func(a, b strictjson.Member) int { return strings.Compare(a.Name, b.Name) })
		for _, m := range members {
			parts = append(parts, strictjson.Quote(m.Name)+":"+canonicalValue(m.Value))
		}
		return "{" + strings.Join(parts, ",") + "}"
	default:
		return v.Raw
	}
}

// Differences names the fields in which two requests differ in the sense of §6.1, in the documented order. Card tokens and webWidget
// are in no echo, so requests that differ in these alone give none.
func Differences(stored, now Echo) []string {
	a, b := canonicalFields((*CreateRequest)(&stored)), canonicalFields((*CreateRequest)(&now))
	var names []string
	for i := range a {
		if a[i].text != b[i].text {
			names = append(names, a[i].name)
		}
	}
	return names
}

// Conflict is the refusal of a reference that was used with other content: "Already used with different amount." (§6.1, §10 V9)
func Conflict(stored, now Echo) *Error {
	names := Differences(stored, now)
	if len(names) == 0 {
		names = []string{"content"}
	}
	return Refuse(FailReferenceConflict, "Already used with different %s.", strings.Join(names, ", "))
}

package upp

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/big"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// I04: white space, order of keys, spelling of numbers and of currencies, unknown fields and the client's address do not make
// another request.
func TestSameRequest(t *testing.T) {
	t.Parallel()
	want := mustDecode(t, purchase("customerToken", `"28"`)).Canonical()
	for name, body := range map[string]string{
		"order and spaces": `{ "items" : [ { "quantity": 1, "name":"Pen","amount":0.01,"itemReference":"1","type":"sku"} ],
			"customerToken":"28","saleType":"merchantPresentedToken","provider":"alipay","amount":1,"currency":"aud",
			"transactionReference":"ref-1","transactionType":"purchase"}`,
		"numbers": string(purchase("customerToken", `"28"`, "amount", "1.00",
			"items", `[{"type":"sku","itemReference":"1","name":"Pen","amount":1e-2,"quantity":1.0}]`)),
		"exponent":        string(purchase("customerToken", `"28"`, "amount", "10e-1")),
		"letter case":     string(purchase("customerToken", `"28"`, "provider", `"AliPay"`, "currency", `"AUD"`)),
		"blanks of token": string(purchase("customerToken", `" 28\r\n"`)),
		"escapes":         string(purchase("customerToken", `"\u0032\u0038"`)),
		"unknown fields":  string(purchase("customerToken", `"28"`, "Amount", "9", "returnUrl", "7", "billing", "[]")),
		"client address":  string(purchase("customerToken", `"28"`, "clientIpAddress", `"192.0.2.1"`)),
	} {
		if got := mustDecode(t, []byte(body)).Canonical(); !bytes.Equal(got, want) {
			t.Errorf("%s:\n got %s\nwant %s", name, got, want)
		}
	}
}

// The canonical form is stored as an HMAC for ever, so it must never change.
func TestCanonicalForm(t *testing.T) {
	t.Parallel()
	r := mustDecode(t, purchase("saleType", `"website"`, "amount", "24.50", "webWidget", `{"b":[1.0,{"d":null}],"a":"é\n"}`))
	want := strings.Join([]string{
		"upp request 1", `transactionType="purchase"`, `currency="aud"`, "amount=245e-1", `provider="alipay"`, `saleType="website"`,
		"customerToken=", `items=["sku","1","Pen",1e-2,1]`, "originalTransactionReference=", "refundReason=", "returnUrl=",
		`webWidget={"a":"é\u000a","b":[1,{"d":null}]}`, "",
	}, "\n")
	if diff := cmp.Diff(want, string(r.Canonical())); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// Each field of §6.1 makes another request, and is named; V9 is worded as the reference words it.
func TestDifferences(t *testing.T) {
	t.Parallel()
	website := []string{"saleType", `"website"`, "webWidget", `{"provider":"zippay"}`, "returnUrl", `"https://a.test/"`}
	base := mustDecode(t, purchase(website...))
	for field, text := range map[string]string{
		"amount": "2", "currency": `"nzd"`, "provider": `"wechat"`, "saleType": `"merchantPresentedToken"`, "customerToken": `"9"`,
		"items": `[{"type":"sku","itemReference":"1","name":"Pen","amount":0.01,"quantity":2}]`, "returnUrl": `"https://b.test/"`,
		"webWidget": `{"provider":"humm"}`,
	} {
		other := mustDecode(t, purchase(append(website, field, text)...))
		if bytes.Equal(base.Canonical(), other.Canonical()) {
			t.Errorf("%s makes no difference", field)
		}
		if field == "webWidget" || field == "customerToken" || field == "saleType" {
			continue // two are not in a website's echo; the last takes the website's fields with it
		}
		if got := Differences(base.Echo(), other.Echo()); !cmp.Equal(got, []string{field}) {
			t.Errorf("%s: got %v", field, got)
		}
	}
	one := mustDecode(t, refund())
	for field, text := range map[string]string{"originalTransactionReference": `"ref-2"`, "refundReason": `"faulty"`} {
		if got := Differences(one.Echo(), mustDecode(t, refund(field, text)).Echo()); !cmp.Equal(got, []string{field}) {
			t.Errorf("%s: got %v", field, got)
		}
	}

	v3, v9 := mustDecode(t, vectorBody(t, "v03-request")), mustDecode(t, vectorBody(t, "v09-request"))
	e := Conflict(v3.Echo(), v9.Echo())
	if diff := cmp.Diff(tree(t, vectorBody(t, "v09-answer")), tree(t, e.Body())); diff != "" || e.Status != 409 {
		t.Errorf("%d, -want +got\n%s", e.Status, diff)
	}
	if got := Conflict(v3.Echo(), v3.Echo()).Description; got != "Already used with different content." {
		t.Errorf("got %q", got)
	}
}

// Equal numbers have one form, and only equal ones.
func TestCanonicalNumber(t *testing.T) {
	t.Parallel()
	gen := rapid.StringMatching(`-?(0|[1-9][0-9]{0,5})(\.[0-9]{1,4})?([eE][+-]?[0-9])?`)
	rapid.Check(t, func(t *rapid.T) {
		a, b := gen.Draw(t, "a"), gen.Draw(t, "b")
		x, ok1 := new(big.Rat).SetString(a)
		y, ok2 := new(big.Rat).SetString(b)
		if !ok1 || !ok2 || !isNumber(a) || !isNumber(canonicalNumber(a)) {
			t.Fatalf("%q, %q", a, b)
		}
		if (x.Cmp(y) == 0) != (canonicalNumber(a) == canonicalNumber(b)) {
			t.Fatalf("%s is %s, %s is %s", a, canonicalNumber(a), b, canonicalNumber(b))
		}
		if z, ok := new(big.Rat).SetString(canonicalNumber(a)); !ok || z.Cmp(x) != 0 {
			t.Fatalf("%s became %s", a, canonicalNumber(a))
		}
	})
}

// However a token is printed, it is not seen.
func TestTokenIsNeverPrinted(t *testing.T) {
	t.Parallel()
	const secret = "test-secret-1"
	token, err := NewToken(secret)
	if err != nil {
		t.Fatal(err)
	}
	c := Client{Token: token, BaseURL: SandboxURL}
	asJSON, err := json.Marshal(map[string]any{"token": token})
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "token", token, "client", c)
	text := fmt.Sprintf("%v %+v %#v %s %q %v %+v %#v", token, token, token, token, token, c, &c, c) + string(asJSON) + log.String()
	if strings.Contains(text, secret) {
		t.Errorf("printed: %s", text)
	}
	if token.Reveal() != secret {
		t.Errorf("got %q", token.Reveal())
	}
	other, _ := NewToken("test-secret-2")
	if token.Equal(other) || token.Equal(Token{}) || (Token{}).Equal(Token{}) || !token.Equal(token) {
		t.Error("Equal")
	}
}

// §2: any letter case of the scheme, exactly one space, a visible token.
func TestParseBearer(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]string{
		"Bearer abc": "abc", "bearer abc": "abc", "BEARER a.b-c~d+/=": "a.b-c~d+/=",
		"": "", "Bearer": "", "Bearer ": "", "Bearer  abc": "", "Bearer a b": "", "Basic abc": "", "Bearer a\x00": "", "Bearer é": "",
		"Bearer " + strings.Repeat("a", tokenMax+1): "",
	} {
		got, ok := ParseBearer(header)
		if ok != (want != "") || got.Reveal() != want {
			t.Errorf("%.20q: got %q, %v", header, got.Reveal(), ok)
		}
	}
}

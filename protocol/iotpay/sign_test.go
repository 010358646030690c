package iotpay

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/tillgate/tillgate/card"
)

func compactJSON(to *bytes.Buffer, text []byte) error { return json.Compact(to, text) }

// TestVariantsMeet: a PHP client folds case, drops a zero and writes 1000.0, all at once.
func TestVariantsMeet(t *testing.T) {
	t.Parallel()
	key := mustKey(t, "k")
	p := mustParse(t, []byte(`{"mchId":"1","refundable":300.0,"refundAmount":100,"tip":0,"subject":"a%20b%2Bc"}`))
	signed := canonical("mchId=1&refundable=300&refundAmount=100&subject=a b+c").sign(key)
	as, ok := Verify(append(p, Param{Name: signName, Text: signed}), key)
	if !ok || as.Get("subject") != "a b+c" {
		t.Errorf("got %v, subject %q", ok, as.Get("subject"))
	}
	for name, text := range map[string]string{
		"a text 0 is kept":          `{"mchId":"1","tip":"0"}`,
		"a text 1000.0 is a text":   `{"mchId":"1","x":"1000.0"}`,
		"other texts are not coded": `{"mchId":"1","remarks":"a%20b"}`,
	} {
		p := mustParse(t, []byte(text))
		var got []canonical
		for _, v := range variants {
			as := p
			if v.unescaped {
				as = p.unescaped()
			}
			got = append(got, as.canonical(v))
		}
		for _, c := range got {
			if c != got[0] {
				t.Errorf("%s: %q and %q", name, c, got[0])
			}
		}
	}
}

// TestSecretsDoNotPrint: keys, payment codes, cryptograms and expiry dates show themselves under no verb.
func TestSecretsDoNotPrint(t *testing.T) {
	t.Parallel()
	key := mustKey(t, "the-merchant-key")
	report := Report{Cryptogram: "1A2B3C4D5E6F7081", Masked: "424242******4242", Expiry: card.Expiry{Year: 2028, Month: 12}}
	order := CreateOrder{IdentityCode: "134567890123456789"}
	p := Params{{Name: "identityCode", Text: "134567890123456789"}}
	var out bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&out, nil))
	log.Info("all", "key", key, "account", Account{Keys: []Key{key}}, "report", report, "order", order, "params", p)
	slog.New(slog.NewTextHandler(&out, nil)).Info("all", "key", key, "account", Account{Keys: []Key{key}}, "report", report, "params", p)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb+verb+verb+verb, key, Account{Keys: []Key{key}}, report, p)
	}
	for _, verb := range []string{"%v", "%+v", "%s"} {
		fmt.Fprintf(&out, verb, order)
	}
	kept, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(kept)
	for _, secret := range []string{"the-merchant-key", "746865", "1A2B3C4D5E6F7081", "134567890123456789", "2028"} {
		if strings.Contains(out.String(), secret) {
			t.Errorf("%s is printed:\n%s", secret, out.String())
		}
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", strings.Repeat("x", keyMax+1)} {
		if _, err := NewKey(text); err == nil {
			t.Errorf("a key of %d characters", len(text))
		}
	}
	if (Key{}).Reveal() != "" || !(Key{}).IsZero() {
		t.Error("no key")
	}
}

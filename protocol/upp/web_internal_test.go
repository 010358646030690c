package upp

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/tillgate/tillgate/payment"
)

func websiteRequest(t *testing.T, fields string) *CreateRequest {
	t.Helper()
	r, err := DecodeRequest([]byte(`{"transactionType":"purchase","transactionReference":"w","amount":42,"currency":"aud","saleType":"website",
		"items":[{"type":"sku","itemReference":"9","name":"Lamp","amount":42,"quantity":1}],` + fields + `}`))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestWebsiteCommand: what a purchase on a website asks of the core.
func TestWebsiteCommand(t *testing.T) {
	for _, tt := range []struct {
		name, fields string
		method       string
		flow         payment.Flow
		instrument   payment.Instrument
	}{
		{"widget", `"webWidget":{"provider":"ZipPay","more":[1]},"returnUrl":"https://a.test/?b=c"`, "zippay", payment.ByWeb,
			payment.WebCheckout{ReturnURL: "https://a.test/?b=c"}},
		{"provider", `"provider":"Alipay","returnUrl":"http://a.test"`, "alipay", payment.ByWeb, payment.WebCheckout{ReturnURL: "http://a.test"}},
		{"a token means nothing to a wallet", `"provider":"alipay","returnUrl":"http://a.test","customerToken":"ct_1"`, "alipay", payment.ByWeb,
			payment.WebCheckout{ReturnURL: "http://a.test"}},
		{"card", `"provider":"financialcard","customerToken":" ct_1\n"`, "financialcard", payment.ByCard, payment.WalletCode("ct_1")},
		{"card in the widget", `"webWidget":{"provider":"financialcard"},"customerToken":"ct_1","returnUrl":"http://a.test"`, "financialcard",
			payment.ByCard, payment.WalletCode("ct_1")},
	} {
		r := websiteRequest(t, tt.fields)
		cmd, err := saleCommand(r, payment.Caller{}, memoOf(r, payment.Caller{}, "203.0.113.20"), time.Second)
		if err != nil || cmd.Method != tt.method || cmd.Flow != tt.flow || cmd.Instrument != tt.instrument || cmd.Lifetime != 60*time.Minute {
			t.Errorf("%s: got %s %s %#v for %v, %v", tt.name, cmd.Method, cmd.Flow, cmd.Instrument, cmd.Lifetime, err)
		}
		if strings.Contains(string(cmd.Echo), "ct_1") || strings.Contains(string(cmd.Echo), "webWidget") {
			t.Errorf("%s: what is stored holds a token or the widget's fields: %s", tt.name, cmd.Echo)
		}
	}
	r := websiteRequest(t, `"provider":"alipay"`)
	r.WebWidget = json.RawMessage(`{"provider":`)
	var refused *Error
	if _, err := websiteProvider(r); !errors.As(err, &refused) || refused.Field != "webWidget" {
		t.Errorf("fields that are broken: %v", err)
	}
}

// TestWidgetProvidersExist: each button stands for a provider, once, and none is for cards.
func TestWidgetProvidersExist(t *testing.T) {
	seen := map[string]bool{ProviderFinancialCard: true}
	for _, p := range widgetProviders {
		if seen[p] || providerCurrencies[p] == nil {
			t.Errorf("%s has no place in the list", p)
		}
		seen[p] = true
	}
	script, err := assets.ReadFile(scripts[WebWidgetPath])
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range widgetProviders {
		if !strings.Contains(string(script), p+`: "`) {
			t.Errorf("the script has no title for %s", p)
		}
	}
	card, err := assets.ReadFile(scripts[CardWidgetPath])
	if err != nil || strings.Count(string(card), cardTokensMark) != 1 {
		t.Errorf("the card script must hold %s once: %v", cardTokensMark, err)
	}
}

// TestStartIsMadeOfItsClockAndChance: nothing else is in a start that the request did not bring.
func TestStartIsMadeOfItsClockAndChance(t *testing.T) {
	caller := payment.Caller{Merchant: payment.Merchant{Currencies: []string{"AUD"}, Methods: map[string]payment.Method{ProviderZippay: {}, ProviderUnionpay: {}}}}
	start := func(random io.Reader) (string, error) {
		s := &Server{Now: func() time.Time { return time.UnixMilli(1776126912000) }, Rand: random}
		q := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/startWebWidget", strings.NewReader(`{"amount":12.340,"currency":"Aud"}`))
		q.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		err := s.startWebWidget(&call{w: w, r: q, caller: caller})
		return w.Body.String(), err
	}
	got, err := start(strings.NewReader(strings.Repeat("\x00", widgetTokenBytes)))
	if want := `{"token":"ww_AAAAAAAAAAAAAAAAAAAAAAAA","amount":12.34,"currency":"Aud","providers":["zippay"],"expires":1776130512000}`; err != nil || got != want {
		t.Errorf("got %s, %v; want %s", got, err, want)
	}
	if got, err := start(iotest.ErrReader(io.ErrUnexpectedEOF)); err == nil || got != "" {
		t.Errorf("without chance: got %s, %v", got, err)
	}
}

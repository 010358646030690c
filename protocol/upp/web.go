package upp

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/tillgate/tillgate/internal/strictjson"
	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
)

const (
	lifetimeWebsite = 60 * time.Minute // §3.9; also of the widget's start data
	completeWait    = pollWait         // §3.8: a complete is held as long as a poll
)

// widgetProviders are the methods that the browser's list of buttons offers, in its order: the wallets that §3.9 places on websites.
// Cards are not among them, since they have a widget of their own.
var widgetProviders = []string{ProviderAlipay, ProviderWechat, ProviderZippay, ProviderHumm, ProviderLatitudepay, ProviderGenoapay}

// website completes the command of a purchase on a website (§3.3). With a card token the card is charged at once; everything else
// sends the customer's browser to the provider's page.
func website(cmd *payment.SaleCommand, r *CreateRequest) error {
	provider, err := websiteProvider(r)
	if err != nil {
		return err
	}
	cmd.Method, cmd.Lifetime = provider, lifetimeWebsite
	if provider == ProviderFinancialCard {
		if r.CustomerToken == "" {
			return refuse(FailCustomerTokenRequired, "customerToken", "is required: the token that the card widget made.")
		}
		cmd.Flow, cmd.Instrument = payment.ByCard, payment.WalletCode(r.CustomerToken)
		return nil
	}
	if r.ReturnURL == "" {
		return refuse(FailInvalidRequest, "returnUrl", "is missing: the customer is sent to %s and must come back.", provider)
	}
	cmd.Flow, cmd.Instrument = payment.ByWeb, payment.WebCheckout{ReturnURL: r.ReturnURL}
	return nil
}

// websiteProvider is the provider that the request names, or that the widget's fields name: {"provider":"zippay"} (§10 V10). The inner
// shape is ours, as is the script that makes it.
func websiteProvider(r *CreateRequest) (string, error) {
	if r.WebWidget == nil {
		return r.ProviderName(), nil
	}
	const path = "webWidget.provider"
	fields, err := parse(r.WebWidget)
	if err != nil {
		return "", refuse(FailInvalidRequest, "webWidget", "is not what the widget made: %v.", err)
	}
	d := &decoding{}
	provider := lower(d.required(object{"webWidget", fields}, "provider", strictjson.String).Text)
	if d.err != nil {
		return "", d.err
	}
	pays, known := providerCurrencies[provider]
	switch {
	case !known:
		return "", refuse(FailInvalidRequest, path, "must be one of %s.", strings.Join(slices.Sorted(maps.Keys(providerCurrencies)), ", "))
	case r.Provider != "" && r.ProviderName() != provider:
		return "", refuse(FailInvalidRequest, path, "must be the provider that is named beside it.")
	case !slices.Contains(pays, lower(r.Currency)):
		return "", refuse(FailUnsupportedCurrency, "currency", "must be %s with this provider.", strings.Join(pays, " or "))
	}
	return provider, nil
}

// complete is E6: the shopper is back, or had nowhere to go, and the shop wants to know (§3.8). It is held until the purchase is
// decided, since Quest's own demo takes everything but an approval for a decline. What is no website purchase is answered as E3 does.
func (s *Server) complete(c *call) error {
	if err := c.anyObject("complete"); err != nil {
		return err
	}
	v, op, err := s.Core.Find(c.r.Context(), c.caller.Merchant.ID, keyOf(c.reference))
	if err != nil {
		return err
	}
	if op != nil {
		return s.answerRefund(c, payment.RefundView{Refund: *op, Payment: v.Payment}, http.StatusOK)
	}
	m, err := readMemo(v.Payment.Echo)
	if err != nil {
		return err
	}
	if m.echo.SaleType != SaleWebsite || finalPurchase(v) {
		return s.answerPurchase(c, v, http.StatusOK)
	}
	return s.pollPurchase(c, v, completeWait)
}

// anyObject reads a body that says nothing: it is empty or a JSON object.
func (c *call) anyObject(what string) error {
	body, err := c.body()
	if err != nil {
		return err
	}
	if len(body) > 0 {
		if _, err := parse(body); err != nil {
			return Refuse(FailInvalidRequest, "The body of a %s is empty or a JSON object.", what)
		}
	}
	return nil
}

// widgetStart is the answer of E7. The shop hands it, unread, to the browser's createQuestWebWidget; its shape is ours (§3.8).
type widgetStart struct {
	Token     string      `json:"token"` // Tells one start from another; it authorises nothing.
	Amount    json.Number `json:"amount"`
	Currency  string      `json:"currency"`
	Providers []string    `json:"providers"`
	Expires   int64       `json:"expires"` // Unix milliseconds; for shops that keep pages.
}

// widgetTokenBytes is the size of the random part of a start's token.
const widgetTokenBytes = 18

// startWebWidget is E7. It creates no transaction: the request has no reference (§3.8).
func (s *Server) startWebWidget(c *call) error {
	body, err := c.body()
	if err != nil {
		return err
	}
	amount, currency, err := decodeStart(body)
	if err != nil {
		return err
	}
	merchant := c.caller.Merchant
	if !slices.Contains(merchant.Currencies, amount.Currency().Code()) {
		return payment.ErrCurrency
	}
	now, random := s.Now, s.Rand
	if now == nil {
		now = time.Now
	}
	if random == nil {
		random = rand.Reader
	}
	token := make([]byte, widgetTokenBytes)
	if _, err := io.ReadFull(random, token); err != nil {
		return fmt.Errorf("start of a widget: %w", err)
	}
	start := widgetStart{Token: "ww_" + base64.RawURLEncoding.EncodeToString(token), Amount: json.Number(NumberOf(amount)), Currency: currency,
		Providers: []string{}, Expires: now().Add(lifetimeWebsite).UnixMilli()}
	for _, p := range widgetProviders {
		if _, enabled := merchant.Methods[p]; enabled && slices.Contains(providerCurrencies[p], lower(currency)) {
			start.Providers = append(start.Providers, p)
		}
	}
	text, err := json.Marshal(start)
	if err != nil {
		return err
	}
	send(c.w, http.StatusOK, text)
	return nil
}

// decodeStart reads the body of E7, by the rules of E1 for the same fields. The currency is returned as spelled too.
func decodeStart(body []byte) (money.Amount, string, error) {
	v, err := parse(body)
	if err != nil {
		return money.Amount{}, "", Refuse(FailInvalidRequest, "The body is not acceptable JSON: %v.", err)
	}
	d := &decoding{}
	currency, amount := d.price(object{"", v})
	if d.err != nil {
		return money.Amount{}, "", d.err
	}
	return amount, currency, nil
}

// price reads the currency and amount of a start.
func (d *decoding) price(o object) (string, money.Amount) {
	currency := d.required(o, "currency", strictjson.String).Text
	cur, known := currencies[lower(currency)]
	if !known {
		d.refuse(FailUnsupportedCurrency, o.at("currency"), "must be %s or %s.", aud, nzd)
	}
	_, amount := d.sum(o, "amount", cur)
	if !amount.IsPositive() {
		d.refuse(FailInvalidAmount, o.at("amount"), "must be more than 0.")
	}
	return currency, amount
}

//go:embed assets/*.js
var assets embed.FS

// The scripts that shops' pages include, by their paths at the mount (§3.8). They are public and the same for everybody.
const (
	CardWidgetPath = "/js/widget-v1.js"  // Card fields.
	WebWidgetPath  = "/web-widget-v1.js" // Buttons for the other methods.
)

var scripts = map[string]string{CardWidgetPath: "assets/widget-v1.js", WebWidgetPath: "assets/web-widget-v1.js"}

const (
	// cardTokensMark stands in the card script where the address of the token service belongs, quotes included.
	cardTokensMark = `"$CARD_TOKENS"`
	// scriptAge is how long browsers keep a script, in seconds: short, since its name stays when it is mended.
	scriptAge = 300
)

// script is the text of a script. Without a token service there is no card script.
func (s *Server) script(path string) ([]byte, error) {
	text, err := assets.ReadFile(scripts[path])
	if err != nil {
		return nil, err
	}
	if path != CardWidgetPath {
		return text, nil
	}
	if s.CardTokens == "" {
		return nil, Refuse(FailNotFound, "There is no token service for cards here.")
	}
	quoted, err := json.Marshal(s.CardTokens) // A JSON text is a JavaScript one; what could end a script element is escaped.
	if err != nil {
		return nil, err
	}
	return bytes.Replace(text, []byte(cardTokensMark), quoted, 1), nil
}

// serveScript answers browsers, which come from any shop's page and prove nothing.
func (s *Server) serveScript(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		return Refuse(FailMethodNotAllowed, "%s is not possible here; GET is.", r.Method)
	}
	text, err := s.script(r.URL.Path)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(text)
	h := w.Header()
	h.Set("Content-Type", "text/javascript; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	h.Set("Cache-Control", fmt.Sprintf("public, max-age=%d", scriptAge))
	h.Set("ETag", `"`+hex.EncodeToString(sum[:16])+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(text))
	return nil
}

package upp_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tillgate/tillgate/protocol/upp"
)

const shopURL = "https://shop.example.test/complete?transactionReference=web-55120&x=a%20b#end"

func address() object {
	return object{"firstName": "Ada", "lastName": "Reid", "line1": "8 Quay St", "city": "Geelong", "state": "Vic", "postCode": "3220", "countryCode": "au"}
}

// webPurchase is §10 V10: the widget has chosen, and no provider is named.
func webPurchase(reference string, changes ...any) object {
	return changed(object{"transactionType": "purchase", "transactionReference": reference, "amount": json.Number("42"), "currency": "aud",
		"saleType": "website", "clientIpAddress": "::ffff:198.51.100.7", "webWidget": object{"provider": "zippay"}, "returnUrl": shopURL,
		"items":    basket(),
		"billing":  address(),
		"shipping": object{"isPickup": false, "address": address()},
		"shopper": object{"firstName": "Ada", "lastName": "Reid", "dateOfBirth": "1990/03/02", "email": "ada@example.test",
			"phone": "0355550100"}}, changes)
}

// cardOnWebsite is §10 V11.
func cardOnWebsite(reference string, changes ...any) object {
	return changed(webPurchase(reference, "webWidget", nil, "returnUrl", nil, "provider", "financialcard",
		"customerToken", code("financialcard", "approve")), changes)
}

func (c *till) complete(reference string) reply {
	c.t.Helper()
	return c.post("/transactions/"+escape(reference)+"/complete", "{}")
}

// start is E7. Its answer is no transaction, so it is read here.
func (c *till) start(body string) (reply, object) {
	c.t.Helper()
	a, err := c.try(c.t.Context(), http.MethodPost, c.path+"/startWebWidget", body, "Content-Type", "application/json")
	if err != nil {
		c.t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(a.raw))
	d.UseNumber()
	if err := d.Decode(&a.object); err != nil || a.header.Get("Content-Type") != "application/json" {
		a.errorf("not JSON: %v", err)
	}
	return a, a.object
}

// shopper plays the browser at the provider's page, and tells where it is sent.
func (r *rig) shopper(t testing.TB, page, tap string) string {
	t.Helper()
	res, err := r.http.Post(page+"/"+tap, "application/x-www-form-urlencoded", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusSeeOther {
		t.Errorf("%s: got %d", tap, res.StatusCode)
	}
	return res.Header.Get("Location")
}

// The columns of §3.1 for websites; Zip pays in the transaction's currency, cards too.
var (
	columnW0 = with(always, "items", "discount", "billing", "shipping", "shopper", "returnUrl", "sendCustomerToUrl") // Pending.
	columnW1 = with(always, "items", "discount", "billing", "shipping", "shopper", "returnUrl", "approved", "paymentTime", "settlementBatch",
		"buyerIdentity", "providerReference")
	columnWC = slices.DeleteFunc(slices.Clone(columnW1), func(n string) bool { return n == "returnUrl" }) // By card.
)

// TestWebsite is §9.3.
func TestWebsite(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.till(t)
	t.Run("W01 startWebWidget", func(t *testing.T) {
		a, start := c.start(`{"amount":12.34,"currency":"aud"}`)
		a.want(200).wantKeys("token", "amount", "currency", "providers", "expires")
		if !regexp.MustCompile(`^ww_[\w-]{24}$`).MatchString(a.text("token")) || a.number("amount") != "12.34" || a.text("currency") != "aud" {
			a.errorf("token, amount or currency is wrong")
		}
		if got, want := jsonOf(start["providers"]), `["alipay","wechat","zippay","humm","latitudepay"]`; got != want {
			a.errorf("providers: got %s, want %s", got, want) // Genoapay pays in New Zealand only.
		}
		if left := time.Until(time.UnixMilli(a.millis("expires"))); left < 59*time.Minute || left > 60*time.Minute {
			a.errorf("expires in %v", left)
		}
		if again, _ := c.start(`{"amount":12.34,"currency":"aud"}`); again.text("token") == a.text("token") {
			a.errorf("two starts have one token")
		}
		if _, nz := c.under("/api/v1").start(`{"currency":"NZD","amount":1e1}`); jsonOf(nz["providers"]) != `["alipay","wechat","zippay","humm","genoapay"]` ||
			nz["currency"] != "NZD" || jsonOf(nz["amount"]) != "10" {
			t.Errorf("nzd: got %v", nz)
		}
		if _, one := c.as(otherToken).start(`{"amount":1,"currency":"aud"}`); jsonOf(one["providers"]) != `["alipay"]` {
			t.Errorf("a merchant with Alipay only: got %v", one)
		}
	})

	widget := reference()
	var page string
	t.Run("W02 widget, no provider", func(t *testing.T) {
		a := c.create(webPurchase(widget)).wantState("pending").wantKeys(columnW0...)
		page = a.text("sendCustomerToUrl")
		sent := webPurchase(widget)
		for _, name := range []string{"billing", "shipping", "shopper", "returnUrl", "clientIpAddress", "items", "saleType"} {
			if got, want := jsonOf(a.object[name]), jsonOf(sent[name]); got != want {
				a.errorf("%s: got %s, want %s", name, got, want)
			}
		}
		if a.text("provider") != "zippay" {
			a.errorf("want the provider that the widget chose")
		}
		c.fetch(widget).wantState("pending").wantKeys(columnW0...)
		if again := c.create(webPurchase(widget)).wantState("pending"); again.out() != a.out() || again.text("sendCustomerToUrl") != page {
			again.errorf("a resend is another transaction")
		}
		r.wantBooks(t, a.out())
	})
	t.Run("W03 the browser comes back to returnUrl unchanged", func(t *testing.T) {
		if got := r.shopper(t, page, "approve"); got != shopURL {
			t.Errorf("got %q, want %q", got, shopURL)
		}
	})
	var completed string
	t.Run("W04 complete after approval", func(t *testing.T) {
		a := c.complete(widget).wantState("approved").wantKeys(columnW1...)
		r.wantBooks(t, a.out(), "payment 4200 AUD done")
		completed = string(a.raw)
	})
	t.Run("W05 complete after the shopper gave up", func(t *testing.T) {
		ref := reference()
		a := c.create(webPurchase(ref)).wantState("pending")
		if got := r.shopper(t, a.text("sendCustomerToUrl"), "decline"); got != shopURL {
			t.Errorf("got %q, want %q", got, shopURL)
		}
		c.complete(ref).wantDeclined("customerCancelled")
		r.wantBooks(t, a.out())
	})
	t.Run("W06 complete twice", func(t *testing.T) {
		for _, path := range []string{"/v1", "/api/v1"} {
			if a := c.under(path).complete(widget).want(200); string(a.raw) != completed {
				a.errorf("want %s", completed)
			}
		}
	})
	card := reference()
	var charged string
	t.Run("W07 card token, no returnUrl", func(t *testing.T) {
		a := c.create(cardOnWebsite(card)).wantState("approved").wantKeys(columnWC...) // Neither sendCustomerToUrl nor customerToken.
		r.wantBooks(t, a.out(), "payment 4200 AUD done")
		c.create(cardOnWebsite(reference(), "customerToken", code("financialcard", "insufficient_funds"))).wantDeclined("insufficientFunds")
		charged = string(a.raw)
	})
	t.Run("W08 complete on W07", func(t *testing.T) {
		for range 2 {
			if a := c.complete(card).want(200); string(a.raw) != charged {
				a.errorf("want %s", charged)
			}
		}
	})
	t.Run("W09 clientIpAddress", func(t *testing.T) {
		for _, ip := range []string{"", "::1", "::ffff:127.0.0.1"} {
			if a := c.create(webPurchase(reference(), "clientIpAddress", ip)).wantState("pending"); a.text("clientIpAddress") != ip {
				a.errorf("want %q", ip)
			}
		}
		if a := c.create(webPurchase(reference(), "clientIpAddress", nil)).wantState("pending"); a.text("clientIpAddress") != "127.0.0.1" {
			a.errorf("want the caller's address")
		}
	})
}

func jsonOf(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// TestWebsiteRefusals: what is refused stores nothing, so each reference is still free.
func TestWebsiteRefusals(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c, ref := r.till(t), reference()
	for _, tt := range []struct {
		name    string
		request object
		failure string
		words   string
	}{
		{"neither provider nor widget", webPurchase(ref, "webWidget", nil), "invalidRequest", "provider is missing"},
		{"a widget of nothing", webPurchase(ref, "webWidget", object{}), "invalidRequest", "webWidget.provider is missing"},
		{"a widget of a number", webPurchase(ref, "webWidget", object{"provider": 7}), "invalidRequest", "webWidget.provider must be a string"},
		{"an unknown provider in the widget", webPurchase(ref, "webWidget", object{"provider": "paypal"}), "invalidRequest", "webWidget.provider must be one of"},
		{"an empty provider in the widget", webPurchase(ref, "webWidget", object{"provider": ""}), "invalidRequest", "webWidget.provider must be one of"},
		{"two providers", webPurchase(ref, "provider", "alipay"), "invalidRequest", "webWidget.provider"},
		{"a provider of another country", webPurchase(ref, "webWidget", object{"provider": "genoapay"}), "unsupportedCurrency", "currency"},
		{"nowhere to come back to", webPurchase(ref, "returnUrl", nil), "invalidRequest", "returnUrl is missing"},
		{"a provider, and nowhere to come back to", webPurchase(ref, "webWidget", nil, "provider", "alipay", "returnUrl", nil), "invalidRequest", "returnUrl"},
		{"half an address", webPurchase(ref, "returnUrl", "/complete"), "invalidRequest", "returnUrl"},
		{"no host", webPurchase(ref, "returnUrl", "https://:443/complete"), "invalidRequest", "returnUrl"},
		{"a script", webPurchase(ref, "returnUrl", "javascript:alert(1)"), "invalidRequest", "returnUrl"},
		{"a control character", webPurchase(ref, "returnUrl", "https://a.test/\u0085"), "invalidRequest", "returnUrl"},
		{"an endless address", webPurchase(ref, "returnUrl", "https://a.test/"+strings.Repeat("a", 2048)), "invalidRequest", "returnUrl"},
		{"a card without a token", cardOnWebsite(ref, "customerToken", nil), "customerTokenRequired", "customerToken"},
		{"a card in the widget without a token", webPurchase(ref, "webWidget", object{"provider": "financialcard"}), "customerTokenRequired", "customerToken"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := r.till(t)
			c.create(tt.request).wantFailure(400, tt.failure, tt.words)
			c.fetch(ref).want(404)
		})
	}
	r.till(t).as(otherToken).create(webPurchase(ref)).wantFailure(400, "unsupportedProvider") // It takes Alipay only.
	for body, failure := range map[string]string{
		``: "invalidRequest", `[]`: "invalidRequest", `{"amount":1}`: "invalidRequest", `{"currency":"aud"}`: "invalidRequest",
		`{"amount":"1","currency":"aud"}`: "invalidRequest", `{"amount":0,"currency":"aud"}`: "invalidAmount", `{"amount":-1,"currency":"aud"}`: "invalidAmount",
		`{"amount":0.001,"currency":"aud"}`: "invalidAmount", `{"amount":1e30,"currency":"aud"}`: "invalidAmount", `{"amount":1,"currency":"usd"}`: "unsupportedCurrency",
	} {
		a, _ := c.start(body)
		a.wantFailure(400, failure)
	}
	a, _ := c.as(otherToken).start(`{"amount":1,"currency":"nzd"}`)
	a.wantFailure(400, "unsupportedCurrency")
	a, _ = c.as(publicToken).start(`{"amount":1,"currency":"aud"}`)
	a.wantFailure(401, "unauthorised")
	a, _ = c.start(`{"amount":1,"currency":"aud","pad":"` + strings.Repeat("x", upp.BodyMax) + `"}`)
	a.wantFailure(413, "requestTooLarge")
	c.create(webPurchase(ref)).wantState("pending") // Still free.
}

// TestWebsiteStories are what happens to website purchases besides the cases of §9.3.
func TestWebsiteStories(t *testing.T) {
	t.Parallel()
	r := setup(t, func(s *settings) { s.pollWait = 300 * time.Millisecond })
	t.Run("a provider that is named without a widget is a redirect", func(t *testing.T) {
		c, ref := r.till(t), reference()
		a := c.create(webPurchase(ref, "webWidget", nil, "provider", "Alipay")).wantState("pending").wantKeys(columnW0...)
		if a.text("provider") != "Alipay" {
			a.errorf("want the provider as sent")
		}
		r.shopper(t, a.text("sendCustomerToUrl"), "approve")
		r.till(t).final(ref).wantState("approved").wantKeys(with(columnW1, "exchangeDetails")...)
	})
	t.Run("a provider that is named beside an equal widget is the same", func(t *testing.T) {
		r.till(t).create(webPurchase(reference(), "provider", "zippay")).wantState("pending")
	})
	t.Run("a card in the widget's fields is charged by its token, which is not echoed", func(t *testing.T) {
		r.till(t).create(cardOnWebsite(reference(), "provider", nil, "webWidget", object{"provider": "financialcard"})).
			wantState("approved").wantKeys(columnWC...)
	})
	t.Run("complete is held, and is 202 while nobody has acted", func(t *testing.T) {
		c, ref := r.till(t), reference()
		page := c.create(webPurchase(ref)).wantState("pending").text("sendCustomerToUrl")
		a := c.complete(ref).want(202).wantKeys(columnW0...)
		if a.took < r.pollWait {
			a.errorf("answered after %v", a.took)
		}
		r.shopper(t, page, "approve")
		c.final(ref).wantState("approved")
		c.complete(ref).wantState("approved")
	})
	t.Run("complete returns when the shopper acts", func(t *testing.T) {
		long := setup(t)
		c, ref := long.till(t), reference()
		page := c.create(webPurchase(ref)).wantState("pending").text("sendCustomerToUrl")
		held := later(func() reply { return c.complete(ref) })
		long.waiting(t, 1)
		long.shopper(t, page, "approve")
		if a := (<-held).wantState("approved"); a.took > 10*time.Second {
			a.errorf("answered after %v", a.took)
		}
	})
	t.Run("complete of what is no website purchase is a fetch", func(t *testing.T) {
		c, ref, paid, back := r.till(t), reference(), reference(), reference()
		c.create(qr(ref)).wantState("pending")
		c.complete(ref).wantState("pending")
		c.create(purchase(paid)).wantState("approved")
		c.complete(paid).wantState("approved")
		c.create(refundOf(paid, back)).wantState("approved")
		c.complete(back).wantState("approved").wantKeys(columnR1...)
		c.complete("never-seen").wantFailure(404, "transactionNotFound")
		c.as(otherToken).complete(paid).wantFailure(404, "transactionNotFound")
		c.as(publicToken).complete(paid).wantFailure(401, "unauthorised")
		c.post("/transactions/"+paid+"/complete", "").wantState("approved")
		c.post("/transactions/"+paid+"/complete", `[1]`).wantFailure(400, "invalidRequest")
	})
	t.Run("complete while the server stops", func(t *testing.T) {
		stopping := setup(t)
		c, ref := stopping.till(t), reference()
		c.create(webPurchase(ref)).wantState("pending")
		held := later(func() reply { return c.complete(ref) })
		stopping.waiting(t, 1)
		stopping.stop()
		(<-held).want(202)
	})
	t.Run("a purchase that is cancelled cannot be paid", func(t *testing.T) {
		c, ref := r.till(t), reference()
		a := c.create(webPurchase(ref)).wantState("pending")
		c.cancel(ref).wantState("cancelled").wantKeys(with(slices.DeleteFunc(slices.Clone(columnW0), func(n string) bool { return n == "sendCustomerToUrl" }),
			"approved", "failure", "failureDescription")...)
		if got := r.shopper(t, a.text("sendCustomerToUrl"), "approve"); got != shopURL {
			t.Errorf("the browser went to %q", got)
		}
		c.complete(ref).wantState("cancelled")
		r.wantBooks(t, a.out())
	})
	t.Run("a refund carries the provider that the widget chose", func(t *testing.T) {
		c, ref := r.till(t), reference()
		page := c.create(webPurchase(ref)).wantState("pending").text("sendCustomerToUrl")
		r.shopper(t, page, "approve")
		c.final(ref).wantState("approved")
		if a := c.create(refundOf(ref, reference())).wantState("approved"); a.text("provider") != "zippay" || a.text("saleType") != "website" {
			a.errorf("want zippay and website")
		}
	})
	t.Run("the same reference with another choice", func(t *testing.T) {
		c, ref := r.till(t), reference()
		c.create(webPurchase(ref)).wantState("pending")
		c.create(webPurchase(ref, "webWidget", object{"provider": "humm"})).wantFailure(409, "transactionReferenceConflict")
		c.create(webPurchase(ref, "returnUrl", "https://elsewhere.example.test/")).wantFailure(409, "transactionReferenceConflict", "returnUrl")
	})
	t.Run("an answer that is lost on the way is found out, page included", func(t *testing.T) {
		c, ref := r.till(t), reference()
		r.tap.lose(func(call string) bool { return call == "POST payments" })
		a := c.create(webPurchase(ref))
		r.tap.lose(nil)
		a.wantState("pending")
		if !within(func() bool { return c.fetch(ref).text("sendCustomerToUrl") != "" }) {
			t.Fatal("the page was never found")
		}
		r.shopper(t, c.fetch(ref).text("sendCustomerToUrl"), "approve")
		out := c.final(ref).wantState("approved").out()
		r.wantBooks(t, out, "payment 4200 AUD done")
	})
	t.Run("after 60 minutes it expires", func(t *testing.T) {
		old := setup(t, func(s *settings) { s.pollWait = 100 * time.Millisecond })
		c, ref := old.till(t), reference()
		a := c.create(webPurchase(ref)).wantState("pending")
		old.clock.pass(59 * time.Minute)
		c.complete(ref).want(202)
		old.clock.pass(2 * time.Minute)
		old.engine.Kick()
		c.final(ref).wantDeclined("expired")
		old.wantBooks(t, a.out())
	})
	t.Run("our own client understands it", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		c, ref := r.client(t, r.server.URL), reference()
		q := sdkPurchase(ref, upp.SaleWebsite)
		q.Provider, q.WebWidget, q.ReturnURL = "", json.RawMessage(`{"provider":"zippay"}`), shopURL
		sale, err := c.Purchase(ctx, q)
		if err != nil || !sale.Pending() || sale.SendCustomerToURL == "" || len(sale.Extra) != 0 {
			t.Fatalf("purchase: %+v, %v", sale, err)
		}
		r.shopper(t, sale.SendCustomerToURL, "approve")
		if done, err := c.Complete(ctx, ref); err != nil || !done.Paid() || done.ReturnURL != shopURL {
			t.Errorf("complete: %+v, %v", done, err)
		}
	})
}

// TestScripts: browsers get the scripts without a token, from any page, and keep them for a while.
func TestScripts(t *testing.T) {
	t.Parallel()
	get := func(s *upp.Server, method, path string, headers ...string) *http.Response {
		return answerOf(t, s, method, path, headers...)
	}
	s := &upp.Server{CardTokens: `https://cards.example.test/tokens?a="</script>&b='` + "\u2028"}
	for path, want := range map[string]string{upp.CardWidgetPath: "questPaymentWidget", upp.WebWidgetPath: "createQuestWebWidget"} {
		res := get(s, "GET", path)
		text, _ := io.ReadAll(res.Body)
		h := res.Header
		if res.StatusCode != 200 || h.Get("Content-Type") != "text/javascript; charset=utf-8" || h.Get("Access-Control-Allow-Origin") != "*" ||
			h.Get("Cross-Origin-Resource-Policy") != "cross-origin" || h.Get("Cache-Control") != "public, max-age=300" || h.Get("ETag") == "" {
			t.Errorf("%s: got %d with %v", path, res.StatusCode, h)
		}
		if !strings.Contains(string(text), want) || strings.Contains(string(text), "$CARD_TOKENS") || len(text) > 16<<10 {
			t.Errorf("%s: got %d bytes:\n%s", path, len(text), text)
		}
		if path == upp.CardWidgetPath && !strings.Contains(string(text), `const cardTokens = "https://cards.example.test/tokens?a=\"\u003c/script\u003e\u0026b='\u2028";`) {
			t.Errorf("the address is not quoted:\n%s", text)
		}
		if again := get(s, "GET", path, "If-None-Match", h.Get("ETag")); again.StatusCode != http.StatusNotModified {
			t.Errorf("%s a second time: got %d", path, again.StatusCode)
		}
		if head := get(s, "HEAD", path); head.StatusCode != 200 {
			t.Errorf("HEAD %s: got %d", path, head.StatusCode)
		}
		if post := get(s, "POST", path); post.StatusCode != 405 || post.Header.Get("Allow") != "GET, HEAD" {
			t.Errorf("POST %s: got %d", path, post.StatusCode)
		}
		for _, elsewhere := range []string{"/api" + path, "/v1" + path, path + "/"} {
			if res := get(s, "GET", elsewhere); res.StatusCode != http.StatusUnauthorized {
				t.Errorf("%s: got %d", elsewhere, res.StatusCode)
			}
		}
	}
	if res := get(&upp.Server{}, "GET", upp.CardWidgetPath); res.StatusCode != 404 || res.Header.Get("Content-Type") != "application/json" {
		t.Errorf("no token service: got %d", res.StatusCode)
	}
	if res := get(&upp.Server{}, "GET", upp.WebWidgetPath); res.StatusCode != 200 {
		t.Errorf("the other script needs no token service: got %d", res.StatusCode)
	}
}

func answerOf(t *testing.T, h http.Handler, method, path string, headers ...string) *http.Response {
	t.Helper()
	q := httptest.NewRequestWithContext(t.Context(), method, path, nil)
	for i := 0; i < len(headers); i += 2 {
		q.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, q)
	return w.Result()
}

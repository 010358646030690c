package sandbox

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// card is a good one, with changes.
func card(changes ...any) object {
	q := object{"number": "4242424242424242", "expiry_month": 12, "expiry_year": 2030, "cvc": "123"}
	for i := 0; i < len(changes); i += 2 {
		q[changes[i].(string)] = changes[i+1]
	}
	return q
}

func TestCardTokens(t *testing.T) {
	t.Parallel()
	r := setup(t)
	now := time.UnixMilli(r.at.Load())
	for _, c := range TestCards() {
		status, answer := r.do("POST", "/cards/tokens", card("number", c.Number))
		token := fmt.Sprint(answer["token"])
		r.want(c.Number, status, http.StatusOK)
		if b := walletByName("financialcard").behaviourByCode(token); b == nil || b.name != c.Behaviour {
			t.Errorf("%s: token %q does not show %s", c.Number, token, c.Behaviour)
		}
	}
	for _, tt := range []struct {
		name string
		body any
		want string
	}{
		{"a number that is no test card", card("number", "4012888888881881"), "422 unknown_card number"},
		{"a wrong check digit", card("number", "4242424242424241"), "400 invalid_request number"},
		{"letters", card("number", "42424242424242ab"), "400 invalid_request number"},
		{"no number", card("number", ""), "400 invalid_request number"},
		{"a short number", card("number", "42"), "400 invalid_request number"},
		{"a long number", card("number", "42424242424242424242"), "400 invalid_request number"},
		{"a number that is a number", card("number", 4242424242424242), "400 invalid_request number"},
		{"month 0", card("expiry_month", 0), "400 invalid_request expiry_month"},
		{"month 13", card("expiry_month", 13), "400 invalid_request expiry_month"},
		{"a year of two digits", card("expiry_year", 30), "400 invalid_request expiry_year"},
		{"a year far away", card("expiry_year", 9999), "400 invalid_request expiry_year"},
		{"last year", card("expiry_year", now.Year()-1), "422 card_expired expiry_year"},
		{"this month", card("expiry_year", now.Year(), "expiry_month", int(now.Month())), "200 <nil> <nil>"},
		{"no code", card("cvc", ""), "400 invalid_request cvc"},
		{"a code of letters", card("cvc", "abc"), "400 invalid_request cvc"},
		{"a code of five digits", card("cvc", "12345"), "400 invalid_request cvc"},
		{"an unknown field", card("name", "Ada"), "400 invalid_request <nil>"},
		{"not JSON", "number=4242", "400 invalid_request <nil>"},
	} {
		status, answer := r.do("POST", "/cards/tokens", tt.body)
		r.want(tt.name, fmt.Sprint(status, " ", answer["error"], " ", answer["field"]), tt.want)
	}
	if books, err := os.ReadFile(filepath.Join(r.dir, journalName)); err != nil || strings.Contains(string(books), "4242") {
		t.Errorf("the books hold a card: %v\n%s", err, books)
	}
}

func TestCardTokensFromAnyPage(t *testing.T) {
	t.Parallel()
	r := setup(t)
	for _, tt := range []struct {
		method, body string
		want         int
	}{
		{"OPTIONS", "", http.StatusNoContent},
		{"POST", `{"number":"4242424242424242","expiry_month":12,"expiry_year":2030,"cvc":"123"}`, http.StatusOK},
		{"POST", `{}`, http.StatusBadRequest},
	} {
		w := httptest.NewRecorder()
		req := httptest.NewRequestWithContext(t.Context(), tt.method, "/cards/tokens", strings.NewReader(tt.body)) // Without the network's key.
		req.Header.Set("Origin", "https://shop.example.test")
		r.n.Handler().ServeHTTP(w, req)
		r.want(tt.method+" "+tt.body, w.Code, tt.want)
		r.want("origin", w.Header().Get("Access-Control-Allow-Origin"), "*")
		if tt.method == "OPTIONS" {
			r.want("methods", w.Header().Get("Access-Control-Allow-Methods"), "POST")
			r.want("headers", w.Header().Get("Access-Control-Allow-Headers"), "Content-Type")
		}
	}
}

// TestWebsite has a shop send its customer's browser to the phone page and get it back, whatever the customer does.
func TestWebsite(t *testing.T) {
	t.Parallel()
	const shop = "https://shop.example.test/back?order=7&note=a%20b%2Fc#paid"
	r := setup(t)
	post := func(answer object, button string) (int, string) {
		w := httptest.NewRecorder()
		path := strings.TrimPrefix(answer["redirect_url"].(string), publicURL)
		r.n.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "POST", path+"/"+button, nil))
		return w.Code, w.Header().Get("Location")
	}
	get := func(answer object) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		path := strings.TrimPrefix(answer["redirect_url"].(string), publicURL)
		r.n.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", path, nil))
		return w
	}
	a := r.pay("a", "flow", "web", "return_url", shop)
	r.want("a QR code", a["qr_url"], nil)
	r.want("a before", r.state("a"), "waiting")
	w := get(a)
	if csp := w.Header().Get("Content-Security-Policy"); !strings.Contains(csp, "form-action 'self' http: https:;") {
		t.Errorf("browsers would not follow the forms back to the shop: %s", csp)
	}
	if strings.Contains(w.Body.String(), "shop.example.test") {
		t.Error("the page leads back before anything is decided")
	}
	for _, button := range []string{"approve", "decline", "approve"} { // Only the first counts; each leads back.
		status, to := post(a, button)
		r.want(button, fmt.Sprint(status, " ", to), "303 "+shop)
	}
	r.want("a after", r.state("a"), "approved")
	if page := get(a).Body.String(); !strings.Contains(page, `<a href="https://shop.example.test/back?order=7&amp;note=a%20b%2Fc#paid">Back to the shop</a>`) {
		t.Errorf("the final page does not lead back:\n%s", page)
	}

	b := r.pay("b", "flow", "web", "return_url", shop)
	status, to := post(b, "decline")
	r.want("decline", fmt.Sprint(status, " ", to), "303 "+shop)
	r.want("b", r.state("b"), "declined")

	c := r.pay("c", "flow", "web", "return_url", shop)
	r.do("POST", "/v1/payments/c/cancel", object{"only_if_unpaid": true})
	r.open() // The address is in the books.
	if w := get(c); w.Code != http.StatusGone || !strings.Contains(w.Body.String(), "Back to the shop") {
		t.Errorf("closed: %d %s", w.Code, w.Body)
	}
	status, to = post(c, "approve")
	r.want("approve after the end", fmt.Sprint(status, " ", to), "303 "+shop)

	status, no := r.do("POST", "/v1/payments", ask("a", "flow", "web", "return_url", shop+"x"))
	r.want("another address", fmt.Sprint(status, " ", no["error"]), "409 reference_conflict")

	d := r.pay("d", "flow", "web", "return_url", shop, "amount_minor", 905100) // Triggers act as for QR codes.
	r.want("d before", d["state"], "waiting")
	r.pass(qrActsIn)
	r.want("d after", r.state("d"), "declined")
	r.wantBooks("", "payment a 8640 AUD done")
}

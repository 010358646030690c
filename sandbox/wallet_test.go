package sandbox

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

const (
	testKey   = "member-key"
	publicURL = "https://phone.example.test"
)

// rig is a network in a temporary folder, with a clock that stands still.
type rig struct {
	t   *testing.T
	dir string
	n   *Network
	at  atomic.Int64 // The clock, in milliseconds.
}

func setup(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, dir: t.TempDir()}
	r.at.Store(1776136961551)
	r.open()
	return r
}

// open starts a network on the folder; one that was open before is left as a killed one is.
func (r *rig) open() {
	r.t.Helper()
	n, err := Open(Config{Dir: r.dir, Key: testKey, PublicURL: func() string { return publicURL }, Rand: rand.Reader,
		Now: func() time.Time { return time.UnixMilli(r.at.Load()) }})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = n.Close() })
	r.n = n
}

func (r *rig) pass(d time.Duration) { r.at.Add(d.Milliseconds()) }

type object map[string]any

// do makes one call and reads a JSON answer.
func (r *rig) do(method, path string, body any) (int, object) {
	r.t.Helper()
	return exchangeJSON(r.t, r.n.Handler(), method, path, body)
}

func exchangeJSON(t *testing.T, h http.Handler, method, path string, body any) (int, object) {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	if s, ok := body.(string); ok {
		text = []byte(s)
	}
	req := httptest.NewRequestWithContext(t.Context(), method, path, bytes.NewReader(text))
	req.Header.Set("Authorization", "Bearer "+testKey)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	var answer object
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
		t.Fatalf("%s %s: %d %q: %v", method, path, w.Code, w.Body, err)
	}
	return w.Code, answer
}

// ask is a payment of 86.40 AUD with an ordinary Alipay code, with changes: pairs of names and values.
func ask(reference string, changes ...any) object {
	q := object{"reference": reference, "merchant_id": "m-1", "merchant_name": "Harbour Outdoor", "amount_minor": 8640, "currency": "AUD",
		"wallet": "alipay", "flow": "code", "code": "289661544981076259"}
	for i := 0; i < len(changes); i += 2 {
		q[changes[i].(string)] = changes[i+1]
		if changes[i+1] == "qr" || changes[i+1] == "web" {
			delete(q, "code")
		}
	}
	return q
}

func (r *rig) pay(reference string, changes ...any) object {
	r.t.Helper()
	status, answer := r.do("POST", "/v1/payments", ask(reference, changes...))
	if status != http.StatusOK {
		r.t.Fatalf("pay %s: %d %v", reference, status, answer)
	}
	return answer
}

func (r *rig) refund(reference, original string, minor int64) object {
	r.t.Helper()
	status, answer := r.do("POST", "/v1/refunds", object{"reference": reference, "original_reference": original, "amount_minor": minor, "currency": "aud"})
	if status != http.StatusOK {
		r.t.Fatalf("refund %s: %d %v", reference, status, answer)
	}
	return answer
}

func (r *rig) state(reference string) string {
	r.t.Helper()
	_, answer := r.do("GET", "/v1/payments/"+reference, nil)
	return fmt.Sprint(answer["state"])
}

// books lists the movements in the words "kind reference minor state".
func (r *rig) books(query string) []string {
	r.t.Helper()
	w := httptest.NewRecorder()
	r.n.Handler().ServeHTTP(w, httptest.NewRequestWithContext(r.t.Context(), "GET", "/books"+query, nil))
	var list []movement
	if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil || list == nil {
		r.t.Fatalf("books: %v in %q", err, w.Body)
	}
	words := []string{}
	for _, m := range list {
		words = append(words, fmt.Sprintf("%s %s %d %s %s", m.Kind, m.Reference, m.AmountMinor, m.Currency, m.State))
	}
	return words
}

func (r *rig) wantBooks(query string, want ...string) {
	r.t.Helper()
	if got := r.books(query); strings.Join(got, "; ") != strings.Join(want, "; ") {
		r.t.Errorf("books%s: got %q, want %q", query, got, want)
	}
}

func (r *rig) want(what string, got, want any) {
	r.t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		r.t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func TestPaymentAndItsRepeat(t *testing.T) {
	t.Parallel()
	r := setup(t)
	first := r.pay("r-1", "attach", `shop "7"`)
	r.want("state", first["state"], "approved")
	r.want("attach", first["attach"], `shop "7"`)
	r.want("paid at", fmt.Sprintf("%.0f", first["paid_at_ms"]), "1776136961000")
	r.want("exchange", first["exchange"], "map[amount_minor:40880 currency:cny rate:4.73150000]")
	if id := first["provider_reference"].(string); !regexp.MustCompile(`^20260414[0-9]{20}$`).MatchString(id) {
		t.Errorf("provider reference %q", id)
	}
	if id := first["payer_id"].(string); !regexp.MustCompile(`^2088[0-9]{12}$`).MatchString(id) {
		t.Errorf("payer %q", id)
	}
	r.pass(time.Hour)
	r.want("repeat", r.pay("r-1", "attach", `shop "7"`), first)
	r.want("repeat in small letters", r.pay("r-1", "attach", `shop "7"`, "currency", "aud"), first)
	status, no := r.do("POST", "/v1/payments", ask("r-1", "amount_minor", 8641))
	r.want("conflict", fmt.Sprint(status, " ", no["error"]), "409 reference_conflict")
	second := r.pay("r-2")
	r.want("payer of the same code", second["payer_id"], first["payer_id"])
	if second["provider_reference"] == first["provider_reference"] {
		t.Error("two payments have one provider reference")
	}
	status, no = r.do("GET", "/v1/payments/r-3", nil)
	r.want("unknown", fmt.Sprint(status, " ", no["error"]), "404 not_found")
	r.wantBooks("", "payment r-2 8640 AUD done", "payment r-1 8640 AUD done")
	r.wantBooks("?reference=r-1", "payment r-1 8640 AUD done")
	r.wantBooks("?reference=none")
}

func TestExchange(t *testing.T) {
	t.Parallel()
	r := setup(t)
	for i, tt := range []struct {
		wallet, currency string
		minor            int64
		want             string
	}{
		{"alipay", "AUD", 2450, "11592"},
		{"wechat", "AUD", 8640, "40880"},
		{"unionpay", "AUD", 2000, "9463"},
		{"alipay", "AUD", 1, "5"}, // 0.047315 yuan
		{"alipay", "JPY", 1000, "4812"},
		{"alipay", "KWD", 1000, "2338"},
		{"alipay", "AUD", amountMax, "4731500000000"},
		{"alipay", "JPY", amountMax, "4812000000000"},
		{"alipay", "CNY", 2000, ""},
		{"humm", "AUD", 2000, ""},
	} {
		code := map[string]string{"alipay": "280000000000000001", "wechat": "130000000000000001", "unionpay": "6200000000000000001", "humm": "x"}
		a := r.pay(fmt.Sprint("x-", i), "wallet", tt.wallet, "currency", tt.currency, "amount_minor", tt.minor, "code", code[tt.wallet])
		got := ""
		if x, ok := a["exchange"].(map[string]any); ok {
			got = fmt.Sprintf("%.0f", x["amount_minor"])
		}
		r.want(fmt.Sprint(tt), got, tt.want)
	}
	r.want("refund", r.refund("f-1", "x-2", 2000)["exchange"], "map[amount_minor:9463 currency:cny rate:4.73150000]")
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	r := setup(t)
	for _, tt := range []struct {
		name   string
		path   string
		body   any
		status int
		field  string
	}{
		{"no reference", "/v1/payments", ask(""), 400, "reference"},
		{"a long reference", "/v1/payments", ask(strings.Repeat("r", referenceMax+1)), 400, "reference"},
		{"a reference with a slash", "/v1/payments", ask("a/b"), 400, "reference"},
		{"a reference of dots", "/v1/payments", ask(".."), 400, "reference"},
		{"no merchant", "/v1/payments", ask("r", "merchant_id", ""), 400, "merchant_id"},
		{"a merchant with a control character", "/v1/payments", ask("r", "merchant_name", "a\nb"), 400, "merchant_name"},
		{"nothing", "/v1/payments", ask("r", "amount_minor", 0), 400, "amount_minor"},
		{"less than nothing", "/v1/payments", ask("r", "amount_minor", -1), 400, "amount_minor"},
		{"too much", "/v1/payments", ask("r", "amount_minor", amountMax+1), 400, "amount_minor"},
		{"half a cent", "/v1/payments", ask("r", "amount_minor", 1.5), 400, "amount_minor"},
		{"an unknown currency", "/v1/payments", ask("r", "currency", "XYZ"), 400, "currency"},
		{"an unknown wallet", "/v1/payments", ask("r", "wallet", "purse"), 400, "wallet"},
		{"an unknown flow", "/v1/payments", ask("r", "flow", "wave"), 400, "flow"},
		{"a website without an address to come back to", "/v1/payments", ask("r", "flow", "web"), 400, "return_url"},
		{"a website with half an address", "/v1/payments", ask("r", "flow", "web", "return_url", "/back"), 400, "return_url"},
		{"a website without a host", "/v1/payments", ask("r", "flow", "web", "return_url", "https://:80/back"), 400, "return_url"},
		{"a website with a script", "/v1/payments", ask("r", "flow", "web", "return_url", "javascript:alert(1)"), 400, "return_url"},
		{"a website with a header", "/v1/payments", ask("r", "flow", "web", "return_url", "https://a.test/\r\nX: y"), 400, "return_url"},
		{"a website with an endless address", "/v1/payments", ask("r", "flow", "web", "return_url", "https://a.test/"+strings.Repeat("a", returnURLMax)), 400, "return_url"},
		{"a website with a code", "/v1/payments", ask("r", "flow", "web", "return_url", "https://a.test/", "code", "1"), 400, "code"},
		{"an address to come back to, beside a code", "/v1/payments", ask("r", "return_url", "https://a.test/"), 400, "return_url"},
		{"no code", "/v1/payments", ask("r", "code", ""), 400, "code"},
		{"a code for a QR payment", "/v1/payments", `{"reference":"r","merchant_id":"m","merchant_name":"M","amount_minor":1,"currency":"AUD",
			"wallet":"alipay","flow":"qr","code":"1"}`, 400, "code"},
		{"a long attachment", "/v1/payments", ask("r", "attach", strings.Repeat("a", attachMax+1)), 400, "attach"},
		{"a lifetime of two days", "/v1/payments", ask("r", "lifetime_ms", 2*lifetimeMax), 400, "lifetime_ms"},
		{"a misspelt field", "/v1/payments", ask("r", "amount", 1), 400, "<nil>"},
		{"two values", "/v1/payments", `{} {}`, 400, "<nil>"},
		{"not JSON", "/v1/payments", `reference=r`, 400, "<nil>"},
		{"too long", "/v1/payments", strings.Repeat(" ", bodyMax) + "{}", 413, "<nil>"},
		{"a refund of nothing", "/v1/refunds", object{"reference": "r", "original_reference": "o", "currency": "AUD"}, 400, "amount_minor"},
		{"a refund without original", "/v1/refunds", object{"reference": "r", "amount_minor": 1, "currency": "AUD"}, 400, "original_reference"},
		{"a cancel without a body", "/v1/payments/r/cancel", ``, 400, "<nil>"},
		{"a cancel of a bad reference", "/v1/payments/%20/cancel", object{}, 400, "reference"},
		{"an unknown call", "/v1/other", object{}, 404, "<nil>"},
	} {
		status, no := r.do("POST", tt.path, tt.body)
		r.want(tt.name, fmt.Sprint(status, " ", no["field"]), fmt.Sprint(tt.status, " ", tt.field))
		if no["text"] == nil || tt.field != "<nil>" && !strings.HasPrefix(no["text"].(string), tt.field+": ") {
			t.Errorf("%s: the text does not name the field: %v", tt.name, no)
		}
	}
	r.wantBooks("")
}

func TestKey(t *testing.T) {
	t.Parallel()
	r := setup(t)
	for _, call := range []string{"POST /v1/payments", "GET /v1/payments/r", "POST /v1/payments/r/cancel", "POST /v1/refunds", "GET /v1/refunds/r", "GET /v1/events", "GET /v1/x"} {
		for _, auth := range []string{"", "Bearer ", "Bearer wrong", "Basic " + testKey, testKey} {
			method, path, _ := strings.Cut(call, " ")
			req := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader("{}"))
			req.Header.Set("Authorization", auth)
			w := httptest.NewRecorder()
			r.n.Handler().ServeHTTP(w, req)
			if w.Code != http.StatusUnauthorized || !strings.Contains(w.Body.String(), `"error":"unauthorized"`) {
				t.Errorf("%s with %q: got %d %s", call, auth, w.Code, w.Body)
			}
		}
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	const waiting, paid, declined = "280000000000009055", "289661544981076259", "280000000000009051"
	for _, tt := range []struct {
		name, code   string
		refunded     int64
		onlyIfUnpaid bool
		want, books  string
	}{
		{"waiting", waiting, 0, false, "200 cancelled", ""},
		{"waiting, if unpaid", waiting, 0, true, "200 closed", ""},
		{"paid", paid, 0, false, "200 cancelled", "payment r 8640 AUD reversed"},
		{"paid, if unpaid", paid, 0, true, "200 approved", "payment r 8640 AUD done"},
		{"refunded in part", paid, 100, false, "409 already_refunded", "payment r 8640 AUD done"},
		{"refunded in part, if unpaid", paid, 100, true, "200 approved", "payment r 8640 AUD done"},
		{"declined", declined, 0, false, "200 declined", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := setup(t)
			r.pay("r", "code", tt.code)
			if tt.refunded != 0 {
				r.refund("f", "r", tt.refunded)
			}
			for range 2 { // A repeat finds it done.
				status, a := r.do("POST", "/v1/payments/r/cancel", object{"only_if_unpaid": tt.onlyIfUnpaid})
				if status == http.StatusConflict {
					a["state"] = a["error"]
				}
				r.want("cancel", fmt.Sprint(status, " ", a["state"]), tt.want)
				r.want("books", strings.Join(r.books("?reference=r"), ""), tt.books)
				r.open()
			}
		})
	}
}

func TestCancelBeforeThePayment(t *testing.T) {
	t.Parallel()
	r := setup(t)
	for range 2 {
		status, a := r.do("POST", "/v1/payments/r/cancel", object{"only_if_unpaid": true})
		r.want("cancel", fmt.Sprint(status, a), fmt.Sprint(200, object{"reference": "r", "state": "cancelled", "unseen": true}))
		r.open()
	}
	_, a := r.do("GET", "/v1/payments/r", nil)
	r.want("query", a["unseen"], true)
	for range 2 {
		a := r.pay("r")
		r.want("payment", fmt.Sprint(a["state"], a["unseen"], a["reason"]), "cancelled<nil>cancelled_unseen")
		r.open()
	}
	r.want("refund", r.refund("f", "r", 1)["reason"], "original_not_paid")
	r.wantBooks("")
}

func TestRefund(t *testing.T) {
	t.Parallel()
	r := setup(t)
	paid := r.pay("r")
	first := r.refund("f-1", "r", 2000)
	r.want("state", first["state"], "approved")
	r.want("number", first["provider_reference"], paid["provider_reference"])
	r.want("time", fmt.Sprintf("%.0f", first["refunded_at_ms"]), "1776136961551")
	r.want("repeat", r.refund("f-1", "r", 2000), first)
	_, query := r.do("GET", "/v1/refunds/f-1", nil)
	r.want("query", query, first)
	r.want("too much", r.refund("f-2", "r", 6641)["reason"], "refund_exceeds")
	r.want("the rest", r.refund("f-3", "r", 6640)["state"], "approved")
	r.want("more", r.refund("f-4", "r", 1)["reason"], "refund_exceeds")
	r.want("no payment", r.refund("f-5", "none", 1)["reason"], "original_not_found")
	r.pay("w", "code", "280000000000009055")
	r.want("not paid", r.refund("f-6", "w", 1)["reason"], "original_not_paid")
	r.pay("n", "currency", "NZD")
	r.want("another currency", r.refund("f-7", "n", 1)["reason"], "currency_not_matched")
	status, no := r.do("POST", "/v1/refunds", object{"reference": "f-1", "original_reference": "r", "amount_minor": 1, "currency": "AUD"})
	r.want("conflict", fmt.Sprint(status, " ", no["error"]), "409 reference_conflict")
	status, no = r.do("GET", "/v1/refunds/f-9", nil)
	r.want("unknown", fmt.Sprint(status, " ", no["error"]), "404 not_found")
	r.open()
	r.want("more, after a restart", r.refund("f-8", "r", 1)["reason"], "refund_exceeds")
	r.wantBooks("", "payment n 8640 NZD done", "refund f-3 6640 AUD done", "refund f-1 2000 AUD done", "payment r 8640 AUD done")
}

func TestConcurrentCallsMoveMoneyOnce(t *testing.T) {
	t.Parallel()
	r := setup(t)
	var wg sync.WaitGroup
	var approved atomic.Int32
	for i := range 40 {
		wg.Go(func() { r.pay("r") })
		wg.Go(func() { // Each refund is sent twice; eight of them fit.
			for r.state("r") != "approved" {
				time.Sleep(time.Millisecond)
			}
			if r.refund(fmt.Sprint("f-", i/2), "r", 1000)["state"] == "approved" {
				approved.Add(1)
			}
		})
	}
	wg.Wait()
	r.want("approvals told", approved.Load(), 16)
	r.want("movements", len(r.books("")), 1+8)
}

func TestPendingPayments(t *testing.T) {
	t.Parallel()
	for _, restart := range []bool{false, true} {
		for code, want := range map[string]string{"9053": "approved", "9054": "declined", "9055": "waiting"} {
			r := setup(t)
			r.want(code, r.pay("r", "code", "28000000000000"+code)["state"], "waiting")
			r.wantBooks("")
			r.pass(2999 * time.Millisecond)
			r.want(code, r.state("r"), "waiting")
			if restart {
				r.open()
			}
			r.pass(time.Millisecond)
			r.want(code, r.state("r"), want)
			r.want("movements", len(r.books("")), map[bool]int{true: 1}[want == "approved"])
			r.pass(lifetimeMax * time.Millisecond)
			if want == "waiting" {
				r.want("after a day", r.state("r"), "closed")
			}
		}
	}
}

func TestLifetime(t *testing.T) {
	t.Parallel()
	r := setup(t)
	a := r.pay("q", "flow", "qr", "lifetime_ms", 60_000)
	r.pay("p", "code", "280000000000009053", "lifetime_ms", 2000) // Ends before its 3 seconds.
	r.pass(2 * time.Second)
	r.want("short", r.state("p"), "closed")
	r.pass(58 * time.Second)
	page, status := r.tap(a, "approve")
	r.want("page", status, http.StatusGone)
	if !strings.Contains(page, "not approved in time") {
		t.Errorf("page: %s", page)
	}
	_, answer := r.do("GET", "/v1/payments/q", nil)
	r.want("state", fmt.Sprint(answer["state"], answer["reason"]), "closedexpired")
	r.wantBooks("")
}

// tap submits one of the forms and returns the page that follows.
func (r *rig) tap(answer object, button string) (page string, status int) {
	r.t.Helper()
	path := strings.TrimPrefix(answer["qr_url"].(string), publicURL)
	if button != "" {
		w := httptest.NewRecorder()
		r.n.Handler().ServeHTTP(w, httptest.NewRequestWithContext(r.t.Context(), "POST", path+"/"+button, nil))
		if w.Code != http.StatusSeeOther || w.Header().Get("Location") != path {
			r.t.Fatalf("tap: got %d to %q", w.Code, w.Header().Get("Location"))
		}
	}
	w := httptest.NewRecorder()
	r.n.Handler().ServeHTTP(w, httptest.NewRequestWithContext(r.t.Context(), "GET", path, nil))
	return w.Body.String(), w.Code
}

func TestPhonePage(t *testing.T) {
	t.Parallel()
	r := setup(t)
	a := r.pay("a", "flow", "qr", "merchant_name", "Fish <& Chips>")
	token := strings.TrimPrefix(a["qr_url"].(string), publicURL+"/pay/")
	if len(token) != 24 {
		t.Errorf("token %q", token)
	}
	page, status := r.tap(a, "")
	r.want("status", status, http.StatusOK)
	for _, want := range []string{"Alipay", "Fish &lt;&amp; Chips&gt;", "86.40 <small>AUD", `method="post" action="/pay/` + token + `/approve"`,
		`method="post" action="/pay/` + token + `/decline"`} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
	if strings.Contains(page, "<script") {
		t.Error("the page has a script")
	}
	for _, button := range []string{"approve", "approve", "decline"} { // Only the first counts.
		page, status = r.tap(a, button)
		if status != http.StatusOK || !strings.Contains(page, ">Paid<") || strings.Contains(page, "<form") {
			t.Errorf("%s: got %d\n%s", button, status, page)
		}
	}
	r.want("state", r.state("a"), "approved")

	b := r.pay("b", "flow", "qr")
	if page, _ := r.tap(b, "decline"); !strings.Contains(page, "Not paid") {
		t.Errorf("decline: %s", page)
	}
	r.tap(b, "approve")
	_, answer := r.do("GET", "/v1/payments/b", nil)
	r.want("state", fmt.Sprint(answer["state"], answer["reason"]), "declinedcustomer_cancelled")

	c := r.pay("c", "flow", "qr")
	r.do("POST", "/v1/payments/c/cancel", object{"only_if_unpaid": true})
	r.open()
	if page, status := r.tap(c, "approve"); status != http.StatusGone || !strings.Contains(page, "No longer valid") {
		t.Errorf("closed: %d %s", status, page)
	}
	if page, status := r.page("/pay/unknown"); status != http.StatusNotFound || !strings.Contains(page, "Unknown payment") {
		t.Errorf("unknown: %d %s", status, page)
	}
	if page, status := r.page("/"); status != http.StatusOK || !strings.Contains(page, `href="/books"`) {
		t.Errorf("home: %d %s", status, page)
	}
	r.wantBooks("", "payment a 8640 AUD done")
}

func (r *rig) page(path string) (string, int) {
	w := httptest.NewRecorder()
	r.n.Handler().ServeHTTP(w, httptest.NewRequestWithContext(r.t.Context(), "GET", path, nil))
	return w.Body.String(), w.Code
}

func TestEvents(t *testing.T) {
	t.Parallel()
	r := setup(t)
	_, start := r.do("GET", "/v1/events?wait_ms=20000", nil)
	r.want("start", fmt.Sprint(start["reset"], start["next"], start["events"]), "true 0 []")
	feed := "/v1/events?epoch=" + start["epoch"].(string)
	_, idle := r.do("GET", feed+"&after=0", nil)
	r.want("idle", fmt.Sprint(idle["reset"], idle["next"], idle["events"]), "<nil> 0 []")

	a := r.pay("a", "flow", "qr", "attach", "x")
	r.pay("direct")
	woken := make(chan object)
	go func() {
		_, e := r.do("GET", feed+"&after=0&wait_ms=20000", nil)
		woken <- e
	}()
	time.Sleep(20 * time.Millisecond) // Likely waiting by now; the outcome is the same if not.
	began := time.Now()
	r.tap(a, "approve")
	e := <-woken
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("woken after %v", took)
	}
	r.want("event", fmt.Sprint(e["next"], e["events"]), "1 [map[attach:x kind:payment reference:a seq:1 state:approved]]")

	r.pay("b", "code", "280000000000009054")
	r.pay("big", "amount_minor", 100_000_000)
	r.refund("f", "big", 905300)
	r.pay("c", "flow", "qr", "lifetime_ms", 4000)
	r.pass(4 * time.Second)
	_, e = r.do("GET", feed+"&after=1", nil)
	var list []string
	for _, one := range e["events"].([]any) {
		list = append(list, fmt.Sprint(one.(map[string]any)["kind"], " ", one.(map[string]any)["reference"], " ", one.(map[string]any)["state"]))
	}
	r.want("timers", strings.Join(list, "; "), "payment b declined; refund f approved; payment c closed")
	_, e = r.do("GET", feed+"&after=99&wait_ms=20000", nil)
	r.want("ahead", fmt.Sprint(e["reset"], e["next"]), "true 4")
	status, _ := r.do("GET", feed+"&after=x", nil)
	r.want("bad number", status, 400)
	r.open()
	_, e = r.do("GET", feed+"&after=1&wait_ms=20000", nil)
	r.want("after a restart", fmt.Sprint(e["reset"], e["next"]), "true 0")
}

func TestFeedIsBoundedAndItsAnswersToo(t *testing.T) {
	t.Parallel()
	f, err := newFeed(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for range eventsKept + 10 {
		f.publish(kindPayment, strings.Repeat("r", referenceMax), strings.Repeat("\"", attachMax), stateApproved)
	}
	if a, _ := f.read(f.epoch, 9); !a.Reset {
		t.Error("a lagging reader is not told")
	}
	a, _ := f.read(f.epoch, 10)
	if a.Reset || len(a.Events) != eventBatchMax || a.Events[0].Seq != 11 || a.Next != 10+eventBatchMax {
		t.Errorf("got %d events from %d, next %d", len(a.Events), a.Events[0].Seq, a.Next)
	}
	if text, _ := json.Marshal(a); len(text) > 64<<10 {
		t.Errorf("the answer has %d bytes", len(text))
	}
}

func TestRunWorksOffTimers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		n, err := Open(Config{Dir: dir, Key: testKey, PublicURL: func() string { return publicURL }, Rand: rand.Reader, Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- n.Run(ctx) }()
		synctest.Wait()
		h := n.Handler()
		_, start := exchangeJSON(t, h, "GET", "/v1/events", nil)
		exchangeJSON(t, h, "POST", "/v1/payments", ask("r", "code", "280000000000009053"))
		exchangeJSON(t, h, "POST", "/v1/payments", ask("q", "flow", "qr", "amount_minor", 905200))
		began, after := time.Now(), 0
		for _, want := range []struct {
			state string
			at    time.Duration
		}{{"declined", time.Second}, {"approved", 3 * time.Second}} {
			_, e := exchangeJSON(t, h, "GET", fmt.Sprintf("/v1/events?epoch=%s&after=%d&wait_ms=20000", start["epoch"], after), nil)
			after++
			if got := e["events"].([]any)[0].(map[string]any)["state"]; got != want.state || time.Since(began) != want.at {
				t.Errorf("got %v after %v, want %v", got, time.Since(began), want)
			}
		}
		began = time.Now()
		exchangeJSON(t, h, "GET", fmt.Sprintf("/v1/events?epoch=%s&after=2&wait_ms=900000", start["epoch"]), nil)
		if took := time.Since(began); took != waitMax {
			t.Errorf("an idle poll took %v, want %v", took, waitMax)
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		_ = n.Close()
	})
}

func TestClosedNetwork(t *testing.T) {
	t.Parallel()
	r := setup(t)
	_, start := r.do("GET", "/v1/events", nil)
	polled := make(chan struct{})
	go func() {
		r.do("GET", "/v1/events?wait_ms=20000&epoch="+start["epoch"].(string), nil)
		close(polled)
	}()
	if err := r.n.Close(); err != nil {
		t.Error(err)
	}
	<-polled
	if err := r.n.Run(t.Context()); err != nil {
		t.Error(err)
	}
	if status, _ := r.do("POST", "/v1/payments", ask("r")); status != http.StatusInternalServerError {
		t.Errorf("a payment after the end: %d", status)
	}
	if err := r.n.Close(); err != nil {
		t.Error(err)
	}
}

func TestConfigNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	if _, err := Open(Config{Dir: "x"}); err == nil || !strings.Contains(err.Error(), "Config.Key") {
		t.Errorf("got %v", err)
	}
}

func TestJournal(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.pay("a")
	r.pay("b")
	path := filepath.Join(r.dir, journalName)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	body := strings.TrimSuffix(string(whole), "\n")
	last := body[strings.LastIndexByte(body, '\n')+1:]
	for _, tt := range []struct {
		name, content, fails string
		state                string // Of b.
	}{
		{"whole", string(whole), "", "approved"},
		{"torn in the middle of a line", string(whole[:len(whole)-20]), "", "<nil>"},
		{"torn before the end of a line", body, "", "<nil>"},
		{"torn after the end of a line", string(whole) + last[:10], "", "approved"},
		{"ends in zeros", string(whole) + "\x00\x00\n", "", "approved"},
		{"damaged in the middle", strings.Replace(string(whole), `"ask"`, `"ask`, 1), "line 2", ""},
		{"of another version", strings.Replace(string(whole), `"version":1`, `"version":2`, 1), "line 1", ""},
		{"not a journal", "hello\nworld\n", "line 1", ""},
		{"with an unknown behaviour", strings.Replace(string(whole), `"behaviour":"approve"`, `"behaviour":"dance"`, 1), "line 2", ""},
	} {
		if err := os.WriteFile(path, []byte(tt.content), 0o600); err != nil {
			t.Fatal(err)
		}
		if tt.fails != "" {
			if _, err := Open(r.n.cfg); err == nil || !strings.Contains(err.Error(), tt.fails) {
				t.Errorf("%s: got %v, want an error with %q", tt.name, err, tt.fails)
			}
			continue
		}
		for range 2 { // What is written after a torn line must be readable again.
			r.open()
			r.want(tt.name, r.state("a"), "approved")
			r.want(tt.name, r.state("b"), tt.state)
			r.pay("c")
		}
	}
}

func TestAnswersSurviveKill(t *testing.T) {
	if dir := os.Getenv("SANDBOX_KILL_DIR"); dir != "" {
		serveUntilKilled(dir)
	}
	t.Parallel()
	dir := t.TempDir()
	kept := killUnderLoad(t, dir)
	r := &rig{t: t, dir: dir}
	r.at.Store(time.Now().UnixMilli())
	r.open()
	for _, reference := range kept {
		r.want(reference, r.state(reference), "approved")
		r.wantBooks("?reference="+reference, "payment "+reference+" 8640 AUD done")
	}
	if len(kept) == 0 {
		t.Error("nothing was answered before the kill")
	}
}

// TestReferencesNeedNoEscape holds what their alphabet is for: they can stand in a path and in a query.
func TestReferencesNeedNoEscape(t *testing.T) {
	t.Parallel()
	r := setup(t)
	reference := "Aa0.b_c:d-9"
	if url.PathEscape(reference) != reference {
		t.Errorf("%s is escaped", reference)
	}
	r.pay(reference)
	r.want("state", r.state(reference), "approved")
}

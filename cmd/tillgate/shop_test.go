package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// shop is a merchant's website on UPP, as its own back end would be written: one page with both widgets, and behind each a form.
type shop struct {
	t     *testing.T
	dev   running
	pages *template.Template
	url   string

	mu    sync.Mutex
	count int
	forms []url.Values // All that browsers have sent it.
}

func openShop(t *testing.T, dev running) *shop {
	t.Helper()
	pages, err := template.ParseFiles(filepath.Join("testdata", "shop", "shop.html"))
	if err != nil {
		t.Fatal(err)
	}
	s := &shop{t: t, dev: dev, pages: pages}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", s.index)
	mux.HandleFunc("POST /pay-web-widget", s.pay)
	mux.HandleFunc("POST /pay-financial-card", s.pay)
	mux.HandleFunc("GET /complete", s.complete)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

// index is the page with the two widgets. What startWebWidget answers goes into it unread.
func (s *shop) index(w http.ResponseWriter, r *http.Request) {
	amount := "42"
	if a := r.URL.Query().Get("amount"); a != "" {
		amount = a
	}
	status, start := s.dev.call(s.t, "POST", "/v1/startWebWidget", `{"amount":`+amount+`,"currency":"aud"}`)
	if status != http.StatusOK {
		s.t.Errorf("startWebWidget: %d %v", status, start)
	}
	s.render(w, "index", map[string]any{"Amount": amount, "Start": start, "WebWidgetScript": s.dev.info.UPP.WebWidgetScript,
		"CardWidgetScript": s.dev.info.UPP.CardWidgetScript, "PublicToken": s.dev.info.UPP.PublicToken})
}

// pay begins a purchase of either kind, and sends the browser on: to the provider, or straight to the end.
func (s *shop) pay(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	s.count++
	reference := fmt.Sprintf("web / %d", s.count)
	s.forms = append(s.forms, r.PostForm)
	s.mu.Unlock()
	back := s.url + "/complete?transactionReference=" + url.QueryEscape(reference)
	address := map[string]string{"firstName": "Ada", "lastName": "Reid", "line1": "8 Quay St", "city": "Geelong", "state": "Vic", "postCode": "3220", "countryCode": "au"}
	amount := json.Number(r.PostForm.Get("amount"))
	request := map[string]any{"transactionType": "purchase", "transactionReference": reference, "amount": amount, "currency": "aud", "saleType": "website",
		"clientIpAddress": "::ffff:127.0.0.1",
		"items":           []any{map[string]any{"type": "sku", "itemReference": "9", "name": "Desk lamp", "amount": amount, "quantity": 1}},
		"billing":         address, "shipping": map[string]any{"isPickup": false, "address": address},
		"shopper": map[string]string{"firstName": "Ada", "lastName": "Reid", "dateOfBirth": "1990/03/02", "email": "ada@example.test", "phone": "0355550100"}}
	if token := r.PostForm.Get("card-token"); token != "" {
		request["provider"], request["customerToken"] = "financialcard", token
	} else {
		request["webWidget"], request["returnUrl"] = json.RawMessage(r.PostForm.Get("webWidget")), back
	}
	body, err := json.Marshal(request)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	status, got := s.dev.call(s.t, "POST", "/v1/transactions", string(body))
	if status != http.StatusOK {
		s.t.Errorf("purchase: %d %v", status, got)
	}
	if page, ok := got["sendCustomerToUrl"].(string); ok {
		back = page
	}
	http.Redirect(w, r, back, http.StatusFound)
}

// complete is where the browser comes back to. Reloading it asks again.
func (s *shop) complete(w http.ResponseWriter, r *http.Request) {
	reference := r.URL.Query().Get("transactionReference")
	status, got := s.dev.call(s.t, "POST", "/v1/transactions/"+url.PathEscape(reference)+"/complete", "{}")
	if status != http.StatusOK {
		s.t.Errorf("complete %q: %d %v", reference, status, got)
	}
	word := "DECLINED"
	if got["approved"] == true && got["cancelled"] == false {
		word = "APPROVED"
	}
	s.render(w, "complete", word)
}

func (s *shop) render(w http.ResponseWriter, name string, view any) {
	var page bytes.Buffer
	if err := s.pages.ExecuteTemplate(&page, name, view); err != nil {
		s.t.Errorf("%s: %v", name, err)
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(page.Bytes()) // The browser may have left.
}

// lastForm is what a browser sent last.
func (s *shop) lastForm() url.Values {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.forms) == 0 {
		return nil
	}
	return s.forms[len(s.forms)-1]
}

// TestShopWithoutABrowser goes the way of §12.1, steps 1 to 4 of the UPP reference (W10), with the forms that a shop's pages send.
func TestShopWithoutABrowser(t *testing.T) {
	t.Parallel()
	s := openShop(t, startDev(t, t.TempDir()))
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	do := func(method, address string, form url.Values) (int, string, string) {
		t.Helper()
		q, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		q.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		res, err := client.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		var page bytes.Buffer
		if _, err := page.ReadFrom(res.Body); err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, res.Header.Get("Location"), page.String()
	}
	wantEnd := func(end, word string) {
		t.Helper()
		for range 2 { // The shopper reloads the page.
			if status, _, page := do("GET", end, nil); status != http.StatusOK || !strings.Contains(page, ">"+word+"<") {
				t.Errorf("%s: got %d, want %s\n%s", end, status, word, page)
			}
		}
	}
	end := func(n int) string {
		return s.url + "/complete?transactionReference=" + url.QueryEscape(fmt.Sprintf("web / %d", n))
	}

	status, _, page := do("GET", s.url+"/?amount=12.34", nil)
	if status != http.StatusOK || !strings.Contains(page, "12.34") || !strings.Contains(page, `"token":"ww_`) {
		t.Fatalf("step 1: %d\n%s", status, page)
	}
	for i, tt := range []struct{ tap, word string }{{"approve", "APPROVED"}, {"decline", "DECLINED"}} {
		status, phone, _ := do("POST", s.url+"/pay-web-widget", url.Values{"webWidget": {`{"provider":"zippay"}`}, "amount": {"12.34"}})
		if status != http.StatusFound || !strings.HasPrefix(phone, s.dev.info.Sandbox.URL+"/pay/") {
			t.Fatalf("step 2: %d to %q", status, phone)
		}
		status, back, _ := do("POST", phone+"/"+tt.tap, nil)
		if status != http.StatusSeeOther || back != end(i+1) {
			t.Fatalf("%s: %d to %q, want %q", tt.tap, status, back, end(i+1))
		}
		wantEnd(back, tt.word)
	}
	for i, tt := range []struct{ behaviour, word string }{{"approve", "APPROVED"}, {"decline", "DECLINED"}, {"pending_then_approve_3s", "APPROVED"}} {
		status, to, _ := do("POST", s.url+"/pay-financial-card", url.Values{"card-token": {s.dev.code(t, "financialcard", tt.behaviour)}, "amount": {"12.34"}})
		if status != http.StatusFound || to != end(i+3) {
			t.Fatalf("step 3: %d to %q, want %q", status, to, end(i+3))
		}
		wantEnd(to, tt.word)
	}
}

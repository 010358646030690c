package uqpay_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tillgate/tillgate/protocol/uqpay"
)

// stub is a UQPAY that answers what it is told, in order; the last answer stays.
type stub struct {
	server *httptest.Server
	tokens atomic.Int64

	mu      sync.Mutex
	answers []answer
	calls   []call
}

type answer struct {
	status int
	body   string
	header map[string]string
}

type call struct{ path, key, body, token, contentType string }

func newStub(t *testing.T, answers ...answer) (*stub, *uqpay.Client) {
	t.Helper()
	s := &stub{answers: answers}
	s.server = httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(s.server.Close)
	return s, &uqpay.Client{BaseURL: s.server.URL + "/api/", ClientID: clientID, APIKey: apiKey, HTTP: s.server.Client(),
		Sleep: func(ctx context.Context, _ time.Duration) error { return ctx.Err() }}
}

// seen is what was called so far.
func (s *stub) seen() []call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

func (s *stub) serve(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/api/v1/connect/token" {
		n := s.tokens.Add(1)
		if r.Header.Get("x-api-key") != apiKey || r.Header.Get("x-client-id") != clientID {
			w.WriteHeader(401)
		}
		fmt.Fprintf(w, `{"auth_token":"token-%d","expired_at":%d}`, n, time.Now().Add(30*time.Minute).Unix())
		return
	}
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, call{r.Method + " " + r.URL.RequestURI(), r.Header.Get("x-idempotency-key"), string(body), r.Header.Get("x-auth-token"), r.Header.Get("Content-Type")})
	a := s.answers[0]
	if len(s.answers) > 1 {
		s.answers = s.answers[1:]
	}
	if a.status == 0 { // A dropped line.
		panic(http.ErrAbortHandler)
	}
	for name, text := range a.header {
		w.Header().Set(name, text)
	}
	w.WriteHeader(a.status)
	_, _ = io.WriteString(w, a.body)
}

const paidBody = `{"payment_intent_id":"PI2018623400000000001","amount":"12.5","currency":"SGD","intent_status":"SUCCEEDED","unknown":{"a":1},"latest_payment_attempt":null}`

var simple = uqpay.IntentRequest{Amount: "12.50", Currency: "SGD", OrderID: "o", Description: "d"}

func TestClientRepeatsUntilThereIsAnAnswer(t *testing.T) {
	t.Parallel()
	for name, a := range map[string]answer{
		"dropped line": {}, "500": {500, "oops", nil}, "502 in HTML": {502, "<html>", nil}, "429": {429, `{"code":"too_many_requests","message":"Too many requests"}`, map[string]string{"Retry-After": "7"}},
		"408": {408, "", nil}, "unreadable 200": {200, "<html>", nil}, "redirect": {302, "", map[string]string{"Location": "/elsewhere"}},
		"envelope B": {400, `{"code":200,"message":"Request is processing, please try again later."}`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, c := newStub(t, a, a, answer{200, paidBody, nil})
			i, err := c.CreateIntent(t.Context(), simple)
			if err != nil || i.Status != uqpay.IntentSucceeded {
				t.Fatalf("got %+v, %v", i, err)
			}
			if len(s.seen()) != 3 || s.seen()[0] != s.seen()[1] || s.seen()[1] != s.seen()[2] || len(s.seen()[0].key) != 36 || s.seen()[0].key != strings.ToLower(s.seen()[0].key) {
				t.Errorf("calls: %+v", s.seen())
			}
			s, c = newStub(t, a)
			stored, err := c.PrepareIntent(simple)
			if err != nil {
				t.Fatal(err)
			}
			var out uqpay.Intent
			if err := c.Send(t.Context(), stored, &out); !errors.Is(err, uqpay.ErrOutcomeUnknown) {
				t.Errorf("got %v", err)
			} else if (name == "envelope B") != errors.Is(err, uqpay.ErrProcessing) {
				t.Errorf("got %v", err)
			}
			if len(s.seen()) < 3 {
				t.Errorf("%d tries", len(s.seen()))
			}
		})
	}
}

func TestClientRefusals(t *testing.T) {
	t.Parallel()
	for name, v := range map[string]struct {
		answer answer
		want   uqpay.Error
	}{
		"envelope A":    {answer{400, `{"type":"payment_error","code":"invalid_order_status","message":"Invalid order status"}`, nil}, uqpay.Error{Status: 400, Type: "payment_error", Code: "invalid_order_status", Message: "Invalid order status"}},
		"401":           {answer{401, `{"type":"unauthorized_error","code":"unauthorized_error","message":"x"}`, nil}, uqpay.Error{Status: 401, Type: "unauthorized_error", Code: "unauthorized_error", Message: "x"}},
		"401 otherwise": {answer{401, `{"error":"Invalid authorization header"}`, nil}, uqpay.Error{Status: 401, Type: "unauthorized_error", Code: "unauthorized_error", Message: "Invalid authorization header"}},
		"403 in HTML":   {answer{403, `<html>`, nil}, uqpay.Error{Status: 403}},
		"no object":     {answer{400, `[1]`, nil}, uqpay.Error{Status: 400}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, c := newStub(t, v.answer)
			_, err := c.CreateIntent(t.Context(), simple)
			var e *uqpay.Error
			if !errors.As(err, &e) || *e != v.want || errors.Is(err, uqpay.ErrOutcomeUnknown) || len(s.seen()) != 1 {
				t.Errorf("got %+v (%v) after %d calls", e, err, len(s.seen()))
			}
		})
	}
}

func TestClientRenewsItsTokenOnce(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"token has expired", "Token Expired", "login expired", "jwt expired"} {
		expired := answer{401, `{"type":"unauthorized_error","code":"unauthorized_error","message":"` + text + `"}`, nil}
		s, c := newStub(t, expired, answer{200, paidBody, nil})
		if _, err := c.CreateIntent(t.Context(), simple); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if s.tokens.Load() != 2 || s.seen()[0].token != "Bearer token-1" || s.seen()[1].token != "Bearer token-2" || s.seen()[0].key != s.seen()[1].key {
			t.Errorf("%s: %+v", text, s.seen())
		}
		s, c = newStub(t, expired)
		if _, err := c.CreateIntent(t.Context(), simple); err == nil || len(s.seen()) != 2 {
			t.Errorf("%s for ever: %v after %d calls", text, err, len(s.seen()))
		}
	}
}

func TestClientMintsOneTokenForMany(t *testing.T) {
	t.Parallel()
	s, c := newStub(t, answer{200, paidBody, nil})
	var all sync.WaitGroup
	for range 30 {
		all.Go(func() {
			if _, err := c.Intent(t.Context(), "PI1"); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := s.tokens.Load(); n != 1 {
		t.Errorf("%d tokens", n)
	}
	now := time.Now()
	c.Now = func() time.Time { return now.Add(29*time.Minute + 30*time.Second) }
	if _, err := c.Intent(t.Context(), "PI1"); err != nil || s.tokens.Load() != 2 {
		t.Errorf("shortly before its end: %d tokens, %v", s.tokens.Load(), err)
	}
	c.APIKey = "wrong"
	c.Now = func() time.Time { return now.Add(2 * time.Hour) }
	var e *uqpay.Error
	if _, err := c.Intent(t.Context(), "PI1"); !errors.As(err, &e) || e.Status != 401 {
		t.Errorf("wrong key: %v", err)
	}
}

func TestPINKeyExpireForms(t *testing.T) {
	t.Parallel()
	want := time.UnixMilli(1770185109000)
	for _, text := range []string{`1770185109000`, `"1770185109000"`, `1770185109`, `"2026-02-04T14:05:09+08:00"`, `"2026-02-04T14:05:09.000000000+08:00"`, `"2026-02-04T06:05:09Z"`} {
		var e uqpay.PINKeyExpire
		if err := json.Unmarshal([]byte(text), &e); err != nil || !e.Equal(want) {
			t.Errorf("%s: got %s, %v", text, e, err)
		}
	}
	for _, text := range []string{`""`, `"soon"`, `1.5`, `{}`, `true`} {
		var e uqpay.PINKeyExpire
		if err := json.Unmarshal([]byte(text), &e); err == nil {
			t.Errorf("%s is taken: %s", text, e)
		}
	}
}

func TestClientAgainstServer(t *testing.T) {
	t.Parallel()
	r := setup(t)
	ctx := t.Context()
	c := r.client(clientID, apiKey)
	till := r.till()
	i, err := c.CreateIntent(ctx, uqpay.IntentRequest{Amount: "5", Currency: "SGD", OrderID: "o", Description: "d", Metadata: map[string]string{"a": "b"}, ReturnURL: "https://x"})
	if err != nil || i.Status != uqpay.RequiresPaymentMethod || string(i.Metadata) != `{"a":"b"}` {
		t.Fatalf("%+v, %v", i, err)
	}
	card := present(t, till.ID)
	card.AuthorizeOnly = true
	stored, err := c.PrepareConfirm(i.ID, *card)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // As after a crash.
		var out uqpay.Intent
		if err := c.Send(ctx, stored, &out); err != nil || out.Status != uqpay.RequiresCapture {
			t.Fatalf("%+v, %v", out, err)
		}
	}
	if _, err := c.CaptureIntent(ctx, i.ID, "abc"); err == nil {
		t.Error("an amount of letters is sent")
	}
	if i, err = c.CaptureIntent(ctx, i.ID, "4.5"); err != nil || i.Status != uqpay.IntentSucceeded || i.CapturedAmount != "4.5" {
		t.Errorf("%+v, %v", i, err)
	}
	refund, err := c.PrepareRefund(uqpay.RefundRequest{IntentID: i.ID, Amount: "4.5", Reason: "all"})
	if err != nil {
		t.Fatal(err)
	}
	var first, again uqpay.Refund
	if err := errors.Join(c.Send(ctx, refund, &first), c.Send(ctx, refund, &again)); err != nil || first.ID == "" || first.ID != again.ID {
		t.Errorf("%+v, %+v, %v", first, again, err)
	}
	if got, err := c.Refund(ctx, first.ID); err != nil || got.Status != uqpay.RefundSucceeded {
		t.Errorf("%+v, %v", got, err)
	}
	open, err := c.CreateIntent(ctx, simple)
	if err != nil {
		t.Fatal(err)
	}
	if open, err = c.CancelIntent(ctx, open.ID, "abandoned"); err != nil || open.Status != uqpay.IntentCancelled || open.CancellationReason != "abandoned" {
		t.Errorf("%+v, %v", open, err)
	}
	page, err := c.Intents(ctx, uqpay.ListQuery{Status: "CANCELLED", Start: r.clock.now().Add(-time.Hour), End: r.clock.now().Add(time.Hour)})
	if err != nil || page.TotalItems != 1 || page.Data[0].ID != open.ID {
		t.Errorf("%+v, %v", page, err)
	}
	var e *uqpay.Error
	if _, err := c.Intent(ctx, "PI2000000000000009999"); !errors.As(err, &e) || e.Type != uqpay.TypeNotFound {
		t.Errorf("unknown: %v", err)
	}
	second := r.client(clientID, apiKey) // Its token ends the first client's, which mints another.
	if _, err := second.Intent(ctx, i.ID); err != nil {
		t.Error(err)
	}
	if _, err := c.Intent(ctx, i.ID); err != nil {
		t.Errorf("after another client's token: %v", err)
	}
}

// A till replaces its PIN key before that ends.
func TestTillKeepsItsPINKeyFresh(t *testing.T) {
	t.Parallel()
	r := setup(t)
	till := r.till()
	r.clock.pass(23*time.Hour + 56*time.Minute)
	if _, err := till.Sale(t.Context(), uqpay.Order{Amount: sgd(100), ID: "o", Description: "d"}, reading("chip", seedPIN)); err != nil {
		t.Fatal(err)
	}
	if keys := r.bank.lastCard(t).PIN.Keys; len(keys) != 2 {
		t.Errorf("%d keys, want the new one and the old", len(keys))
	}
	one, two := till.NextSTAN(), till.NextSTAN()
	if one == two || len(one) != 6 {
		t.Errorf("STANs %s, %s", one, two)
	}
}

// Nothing of a card, a PIN or a key is in a log, a stored row of ours that is no sealed number, an answer, or what prints of our types.
func TestNoSecretsAnywhere(t *testing.T) {
	t.Parallel()
	r := setup(t)
	w := r.hook("https://shop.example/", webhookSecret, false)
	ctx := t.Context()
	till := r.till()
	read := reading("magstripe", seedPIN)
	order := uqpay.Order{Amount: sgd(100), ID: "o", Description: "d"}
	if _, err := till.Sale(ctx, order, read); err != nil {
		t.Fatal(err)
	}
	order.Amount = sgd(151)
	if _, err := till.Sale(ctx, order, read); err != nil {
		t.Fatal(err)
	}
	p, err := till.Present(ctx, read)
	if err != nil {
		t.Fatal(err)
	}
	block := fmt.Sprintf("%X", p.PINBlock[:])
	stored, err := till.Client.PrepareIntent(uqpay.IntentRequest{Amount: "1", Currency: "SGD", OrderID: "o", Description: "d", Card: &p})
	if err != nil || !strings.Contains(string(stored.Body), seedPAN) || strings.Contains(string(stored.Body), "***") {
		t.Fatalf("the request does not hold the card: %v", err)
	}
	c := r.demo(t)
	c.create(sale(till.ID, cp+"card_number", seedPAN[:15]+"8")).want(400)
	c.do("POST", "/api/v2/payment_intents/create", sale(till.ID).json()+"x", "x-idempotency-key", newKey()).want(400)
	var logs strings.Builder
	log := slog.New(slog.NewJSONHandler(&logs, nil))
	log.Info("x", "present", p, "pointer", &p, "reading", read, "till", till, "stored", stored, "key", till.Client.APIKey, "client", till.Client.ClientID)
	fmt.Fprintf(&logs, "%v %+v %#v %s %x %v %+v %v %+v %#v", p, p, p, p, p, read, read, till, stored, till.Client.APIKey)
	all := map[string]string{"logs": r.logs.String(), "printed": logs.String()}
	for _, n := range r.notices(t, w.ID) {
		all["webhook "+n.Event] = string(n.Body)
	}
	for where, text := range all {
		for what, secret := range map[string]string{"PAN": seedPAN, "middle of the PAN": seedPAN[5:13], "PIN block": block, "track": "1234567890123", "chip data": chipTags, "PIN": "302312", "API key": apiKey,
			"token": c.token, "webhook secret": webhookSecret} {
			if strings.Contains(strings.ToUpper(text), strings.ToUpper(secret)) {
				t.Errorf("%s: the %s is in it", where, what)
			}
		}
	}
}

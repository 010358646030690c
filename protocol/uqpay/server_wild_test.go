package uqpay_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/protocol/uqpay"
	"github.com/tillgate/tillgate/terminal"
)

// What the clients in the wild do (§11), each as they do it.
func TestWildClients(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.demo(t)
	tid := c.tid()
	t.Run("no x-client-id anywhere", func(t *testing.T) {
		d := *c
		d.t = t
		d.head = map[string]string{"x-client-id": ""}
		open := d.create(intent()).want(200)
		paid := d.post("/v2/payment_intents/"+open.id()+"/confirm", confirmBody(tid)).wantStatus("SUCCEEDED")
		d.get("/v2/payment/payment_attempts/" + paid.text("latest_payment_attempt.attempt_id")).want(200)
		d.get("/v2/payment/payment_attempts").want(200)
		d.get("/v2/payment/refunds").want(200)
	})
	t.Run("x-idempotency-key and Content-Type on GET", func(t *testing.T) {
		key := newKey()
		for range 2 {
			c.do("GET", "/api/v2/payment_intents", "", "x-idempotency-key", key, "Content-Type", "application/json").want(200)
		}
		c.create(intent(), "x-idempotency-key", key).want(200)
	})
	t.Run("Content-Type with a charset, or none", func(t *testing.T) {
		c.create(intent(), "Content-Type", "application/json; charset=utf-8").want(200)
		c.create(intent(), "Content-Type", "-").want(200)
	})
	t.Run("an unescaped plus in times", func(t *testing.T) {
		c.get("/v2/payment_intents?page_size=10&page_number=1&start_time=2026-01-01T00:00:00+08:00&end_time=2027-01-01T00:00:00+08:00").want(200)
	})
	t.Run("return_url empty", func(t *testing.T) {
		c.create(sale(tid, "return_url", "")).wantStatus("SUCCEEDED").wantAll("return_url", "")
	})
	t.Run("strict types of the Go SDK", func(t *testing.T) {
		a := c.create(sale(tid))
		var i struct {
			Amount, Currency string
			Metadata         map[string]string
			NextAction       *struct{} `json:"next_action"`
		}
		if err := json.Unmarshal(a.raw, &i); err != nil || i.NextAction != nil {
			t.Errorf("%v: %s", err, a.raw)
		}
	})
	t.Run("pin_key_expire as a string for the Go SDK", func(t *testing.T) {
		var k struct {
			PINKeyExpire string `json:"pin_key_expire"`
		}
		a := r.as(t, strictID, strictKey).post("/v2/terminal/getPinKey", object{"terminal_id": tid, "prv_key": strings.Repeat("0f", 32)})
		if err := json.Unmarshal(a.raw, &k); err != nil || k.PINKeyExpire == "" {
			t.Errorf("%v: %s", err, a.raw)
		}
	})
	t.Run("errors have a message", func(t *testing.T) {
		for _, a := range []reply{c.get("/v2/nothing"), c.get("/v2/payment_intents/x"), c.create(object{})} {
			if a.text("message") == "" || a.text("code") == "" {
				t.Errorf("%s", a.raw)
			}
		}
	})
	t.Run("terminal_id beside terminal_info", func(t *testing.T) {
		c.create(sale(tid, cp+"terminal_info", object{"mobile_device": true}, cp+"terminal_id", tid)).wantStatus("SUCCEEDED")
	})
}

func TestRoutes(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.demo(t)
	for _, path := range []string{"/", "/api", "/api/", "/api/v2", "/api/v2/payment_intents/", "/api//v2/payment_intents", "/apiv2/payment_intents", "/api/api/v2/payment_intents",
		"/api/v2/payment_intents/PI1/confirm/x", "/api/v2/payment/payment_intents", "/api/v2/payment/refunds/", "/api/V2/payment_intents", "/v1/connect/tokens"} {
		c.do("GET", path, "").wantError(404, "not_found", "route_not_found")
	}
	for _, call := range [][2]string{{"DELETE", "/api/v2/payment_intents/PI1"}, {"GET", "/api/v1/connect/token"}, {"PUT", "/api/v2/payment/refunds"}, {"GET", "/api/v2/terminal/register"},
		{"POST", "/api/v2/payment/payment_attempts"}, {"GET", "/api/v2/payment_intents/PI1/confirm"}} {
		a := c.do(call[0], call[1], "").want(405)
		if a.header.Get("Allow") == "" {
			t.Errorf("%v: no Allow", call)
		}
	}
	c.do("GET", "/v2/payment_intents", "").want(200) // Without /api too.
}

func TestHostileBodies(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.demo(t)
	tid := c.tid()
	good := sale(tid).json()
	for name, body := range map[string]string{
		"no JSON":              "amount=1",
		"an array":             "[" + good + "]",
		"a string":             `"x"`,
		"two objects":          good + good,
		"cut":                  good[:len(good)-1],
		"deep":                 `{"a":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + "}",
		"deep metadata":        sale(tid, "metadata", nil).json()[:1] + `"metadata":{"a":` + strings.Repeat(`{"a":`, 40) + "1" + strings.Repeat("}", 41) + "," + good[1:],
		"bad UTF-8":            strings.Replace(good, "Lunch", "L\xffnch", 1),
		"half a surrogate":     strings.Replace(good, "Lunch", `\ud800`, 1),
		"NUL":                  strings.Replace(good, "Lunch", `\u0000`, 1),
		"raw control":          strings.Replace(good, "Lunch", "\x01", 1),
		"amount twice":         `{"amount":"1",` + good[1:],
		"card number twice":    strings.Replace(good, `"card_number"`, `"card_number":"4176660000000027","card_number"`, 1),
		"many values":          `{"a":[` + strings.Repeat("1,", 20_000) + `1],` + good[1:],
		"a number of 100":      `{"a":` + strings.Repeat("1", 100) + `,` + good[1:],
		"an exponent of 9e9":   `{"a":1e999999999,` + good[1:],
		"too long":             `{"a":"` + strings.Repeat("x", 300_000) + `",` + good[1:],
		"folded names":         strings.Replace(good, `"amount"`, `"Amount"`, 1),
		"a byte order mark":    "\ufeff" + good,
		"comments":             "/* */" + good,
		"a trailing comma":     strings.TrimSuffix(good, "}") + ",}",
		"single quotes":        strings.ReplaceAll(good, `"`, "'"),
		"leading zero numbers": `{"a":01,` + good[1:],
	} {
		t.Run(name, func(t *testing.T) {
			d := *c
			d.t = t
			a := d.do("POST", "/api/v2/payment_intents/create", body, "x-idempotency-key", newKey()).want(400)
			if k := a.text("code"); k != "invalid_parameter" && k != "missing_parameter" {
				t.Errorf("got %s", a.raw)
			}
			if strings.Contains(string(a.raw), "55547488001615") {
				t.Errorf("the card is shown: %s", a.raw)
			}
		})
	}
	if r.bank.count.Load() != 0 {
		t.Error("the host was sent something")
	}
	c.create(sale(tid)).wantStatus("SUCCEEDED")
}

// A body that never ends, or ends early, does not hold anybody up.
func TestTornRequests(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.demo(t)
	tid := c.tid()
	body := sale(tid).json()
	conn, err := net.Dial("tcp", strings.TrimPrefix(r.server.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "POST /api/v2/payment_intents/create HTTP/1.1\r\nHost: x\r\nx-auth-token: Bearer %s\r\nx-idempotency-key: torn\r\nContent-Length: %d\r\n\r\n%s", c.token, len(body), body[:len(body)-5])
	time.Sleep(20 * time.Millisecond)
	conn.Close()
	c.do("POST", "/api/v2/payment_intents/create", body, "x-idempotency-key", "torn").wantStatus("SUCCEEDED")
}

func TestLimits(t *testing.T) {
	t.Parallel()
	r := setup(t, func(r *rig) {
		r.limits.Token, r.limits.Calls, r.limits.Unauthenticated = 3, 5, 4
	})
	r.clock.freeze(start.Truncate(time.Minute).Add(10 * time.Second))
	c := r.demo(t)
	strict := r.as(t, strictID, strictKey)
	d := &caller{t: t, r: r, head: map[string]string{"x-client-id": clientID, "x-api-key": apiKey}}
	for range 2 {
		c.token = d.do("POST", "/api/v1/connect/token", "").want(200).text("auth_token")
	}
	over := func(a reply) {
		t.Helper()
		a.want(429)
		if len(a.object) != 2 || a.text("code") != "too_many_requests" || !strings.HasPrefix(a.text("message"), "Too many requests") || a.header.Get("Retry-After") != "50" {
			t.Errorf("got %s with %v", a.raw, a.header)
		}
	}
	over(d.do("POST", "/api/v1/connect/token", ""))
	for range 5 {
		c.get("/v2/payment_intents").want(200)
	}
	key, body := newKey(), intent()
	over(c.create(body, "x-idempotency-key", key))
	r.as(t, otherID, otherKey).get("/v2/payment_intents").want(200) // Another client is not held up.
	for range 20 {
		strict.get("/v2/payment_intents").want(200) // Its profile has no limits.
	}
	for range 4 {
		c.do("GET", "/api/v2/payment_intents", "", "x-auth-token", "Bearer x").want(401)
	}
	over(c.do("GET", "/api/v2/payment_intents", "", "x-auth-token", "Bearer x"))
	over(d.do("POST", "/api/v1/connect/token", "", "x-client-id", "nobody"))
	r.clock.freeze(start.Truncate(time.Minute).Add(time.Minute))
	c.create(body, "x-idempotency-key", key).want(200) // A 429 is not kept.
	c.do("GET", "/api/v2/payment_intents", "", "x-auth-token", "Bearer x").want(401)
}

// 401 is not kept beside the key either.
func TestUnauthorizedIsNotKept(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.demo(t)
	key, body := newKey(), intent()
	c.create(body, "x-idempotency-key", key, "x-auth-token", "Bearer x").want(401)
	c.create(body, "x-idempotency-key", key).want(200)
}

// A core that cannot work now is a 500, which is not kept: a client repeats with the same key.
func TestUnavailable(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.demo(t)
	tid := c.tid()
	stopped := payment.NewEngine(payment.Config{Store: r.store, Acquirers: map[string]payment.Acquirer{theAcquirer: &r.bank}, Vault: r.vault,
		Signal: &payment.LocalSignal{}, Now: r.clock.now, Log: discard()})
	registry := terminal.New(terminal.Config{Store: r.store, Vault: r.vault, Now: r.clock.now, Log: discard()})
	s := &uqpay.Server{Core: stopped, Books: r.store, Terminals: registry, Vault: r.vault, Tokens: r.store, Now: r.clock.now, Log: discard()}
	key, body := newKey(), sale(tid).json()
	q := httptest.NewRequest("POST", "/api/v2/payment_intents/create", strings.NewReader(body))
	q.Header.Set("x-auth-token", "Bearer "+c.token)
	q.Header.Set("x-idempotency-key", key)
	w := httptest.NewRecorder()
	s.ServeHTTP(w, q)
	if w.Code != 500 || !strings.Contains(w.Body.String(), `"type":"api_error","code":"api_error"`) {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	c.do("POST", "/api/v2/payment_intents/create", body, "x-idempotency-key", key).wantStatus("SUCCEEDED")
}

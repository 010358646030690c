package uqpay_test

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/protocol/uqpay"
)

// What this package costs a sale, beside the engine, the store and the host: authentication, decoding, checks and the answer.
func BenchmarkServer(b *testing.B) {
	r := setup(b)
	c := r.as(b, strictID, strictKey)
	tid := c.tid()
	paid := c.create(sale(tid))
	id := paid.id()
	s := &uqpay.Server{Core: r.engine, Books: r.store, Vault: r.vault, Tokens: r.store, Log: discard(), Now: r.clock.now}
	b.ReportAllocs()
	for b.Loop() {
		q := httptest.NewRequest("GET", "/api/v2/payment_intents/"+id, nil)
		q.Header.Set("x-auth-token", "Bearer "+c.token)
		w := httptest.NewRecorder()
		s.ServeHTTP(w, q)
		if w.Code != 200 {
			b.Fatal(w.Body)
		}
	}
}

// A whole sale, with many at once, as the store's groups want it.
func BenchmarkSale(b *testing.B) {
	r := setup(b)
	c := r.as(b, strictID, strictKey)
	tid := c.tid()
	body := sale(tid).json()
	at := strings.Index(body, `"system_trace_audit_number":"`) + len(`"system_trace_audit_number":"`)
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			q := httptest.NewRequest("POST", "/api/v2/payment_intents/create", strings.NewReader(body[:at]+stan()+body[at+6:]))
			q.Header.Set("x-auth-token", "Bearer "+c.token)
			q.Header.Set("x-idempotency-key", newKey())
			w := httptest.NewRecorder()
			r.server.Config.Handler.ServeHTTP(w, q)
			if w.Code != 200 || !strings.Contains(w.Body.String(), "SUCCEEDED") {
				b.Fatal(w.Body)
			}
		}
	})
	if r.bank.sent(payment.Sale) == 0 {
		b.Error("nothing was sold")
	}
}

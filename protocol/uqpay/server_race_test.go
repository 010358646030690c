package uqpay_test

import (
	"sync"
	"testing"
	"time"

	"github.com/tillgate/tillgate/payment"
)

// A capture whose answer is lost, and which the till repeats with the same key as it is told to: once the host has captured, the key must not
// answer that it was refused.
func TestRepeatedCaptureWhileUnknown(t *testing.T) {
	t.Parallel()
	r := setup(t, func(r *rig) { r.wait = 300 * time.Millisecond })
	c := r.demo(t)
	a := c.create(sale(c.tid(), cp+"auto_capture", false)).wantStatus("REQUIRES_CAPTURE")
	path, key := "/v2/payment_intents/"+a.id()+"/capture", newKey()
	r.bank.set(func() { r.bank.mute = true })
	c.post(path, object{}, "x-idempotency-key", key).wantStatus("REQUIRES_CAPTURE")
	second := c.post(path, object{}, "x-idempotency-key", key)
	t.Logf("repeat while unknown: %d %s", second.status, second.raw)
	r.bank.set(func() { r.bank.mute = false })
	if !within(func() bool { return c.get("/v2/payment_intents/"+a.id()).text("intent_status") == "SUCCEEDED" }) {
		t.Fatal("not captured")
	}
	if r.bank.sent(payment.CaptureOperation) < 2 {
		t.Error("the capture was not repeated")
	}
	c.post(path, object{}, "x-idempotency-key", key).wantStatus("SUCCEEDED")
}

// Two updates at once, of different fields, both answered 200: neither may undo what the other was told is done.
func TestUpdatesOfDifferentFields(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.demo(t)
	for n := range 100 {
		path := "/v2/payment_intents/" + c.create(intent("amount", "20")).id()
		var a, b reply
		var both sync.WaitGroup
		both.Go(func() { a = c.post(path, object{"amount": "10"}) })
		both.Go(func() { b = c.post(path, object{"description": "table 4"}) })
		both.Wait()
		if a.status != 200 || b.status != 200 || a.text("amount") != "10" {
			continue
		}
		if now := c.get(path); now.text("amount") != "10" || now.text("description") != "table 4" {
			t.Fatalf("round %d: the update to 10 was answered 200 with amount %s, and the intent now says %s %q", n, a.text("amount"), now.text("amount"), now.text("description"))
		}
	}
}

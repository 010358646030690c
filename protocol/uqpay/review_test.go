package uqpay_test

import (
	"testing"
	"time"

	"github.com/tillgate/tillgate/payment"
)

// A capture whose answer is lost, and which the till repeats with the same key as it is told to: once the host has captured, the key must not
// answer that it was refused.
func TestReviewRepeatedCaptureWhileUnknown(t *testing.T) {
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

package uqpay_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/tillgate/tillgate/payment"
)

func TestRefunds(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.demo(t)
	tid := c.tid()
	paid := c.create(sale(tid)).wantStatus("SUCCEEDED")
	refund := func(changes ...any) reply {
		return c.post("/v2/payment/refunds", object{"payment_intent_id": paid.id(), "amount": "2.50", "reason": "one drink returned"}.with(changes...))
	}
	a := refund("metadata", object{"lane": "2"}).want(200).wantAll("amount", "2.5", "currency", "SGD", "refund_status", "SUCCEEDED", "reason", "one drink returned",
		"metadata.lane", "2", "payment_attempt_id", paid.text("latest_payment_attempt.attempt_id"), "payment_intent_id", paid.id())
	wantKeys(t, "refund", a.object, "payment_refund_id", "payment_intent_id", "payment_attempt_id", "amount", "currency", "refund_status", "reason", "metadata",
		"create_time", "update_time")
	id := a.text("payment_refund_id")
	if len(id) != 21 || !strings.HasPrefix(id, "RF2") {
		t.Errorf("id is %s", id)
	}
	if got := c.get("/v2/payment/refunds/" + id).want(200); string(got.raw) != string(a.raw) {
		t.Errorf("retrieved %s\nafter %s", got.raw, a.raw)
	}
	c.get("/v2/payment_intents/"+paid.id()).wantStatus("SUCCEEDED").wantAll("latest_payment_attempt.refunded_amount", "2.5", "captured_amount", "12.5")
	refund("payment_attempt_id", paid.text("latest_payment_attempt.attempt_id"), "amount", "1").want(200)
	refund("amount", "1.05").want(200).wantAll("refund_status", "FAILED") // The host declines it; the amount is free again.
	c.get("/v2/payment_intents/"+paid.id()).wantAll("latest_payment_attempt.refunded_amount", "3.5")

	for name, v := range map[string]struct {
		change []any
		kind   string
		code   string
	}{
		"more than is left":    {[]any{"amount", "9.01"}, "refund_error", "invalid_refund_amount"},
		"zero":                 {[]any{"amount", "0"}, "refund_error", "invalid_refund_amount"},
		"over-precise":         {[]any{"amount", "1.001"}, "refund_error", "invalid_refund_amount"},
		"negative":             {[]any{"amount", "-1"}, "refund_error", "invalid_refund_amount"},
		"a number":             {[]any{"amount", 1}, "invalid_request_error", "invalid_parameter"},
		"no amount":            {[]any{"amount", nil}, "invalid_request_error", "missing_parameter"},
		"no reason":            {[]any{"reason", nil}, "invalid_request_error", "missing_parameter"},
		"reason of 101":        {[]any{"reason", strings.Repeat("x", 101)}, "invalid_request_error", "invalid_parameter"},
		"no intent":            {[]any{"payment_intent_id", nil}, "invalid_request_error", "missing_parameter"},
		"unknown intent":       {[]any{"payment_intent_id", "PI2000000000000009999"}, "not_found", "not_found_id"},
		"another attempt":      {[]any{"payment_attempt_id", "PA2000000000000009999"}, "not_found", "not_found_id"},
		"metadata not objects": {[]any{"metadata", 1}, "invalid_request_error", "invalid_parameter"},
	} {
		t.Run(name, func(t *testing.T) {
			d := *c
			d.t = t
			d.post("/v2/payment/refunds", object{"payment_intent_id": paid.id(), "amount": "2.50", "reason": "x"}.with(v.change...)).wantError(400, v.kind, v.code)
		})
	}
	refund("amount", "9").want(200).wantAll("refund_status", "SUCCEEDED")
	refund("amount", "0.01").wantError(400, "refund_error", "invalid_refund_amount")
	c.get("/v2/payment_intents/"+paid.id()).wantStatus("SUCCEEDED").wantAll("latest_payment_attempt.refunded_amount", "12.5") // It stays succeeded (§4.1).

	open := c.create(intent())
	c.post("/v2/payment/refunds", object{"payment_intent_id": open.id(), "amount": "1", "reason": "x"}).wantError(400, "refund_error", "invalid_order_status")
	if got := c.get("/v2/payment/refunds/RF" + paid.id()[2:]); got.status != 400 {
		t.Errorf("a payment is no refund: %s", got.raw)
	}
}

func TestRefundsAtOnceStayWithinThePayment(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.demo(t)
	paid := c.create(sale(c.tid())).wantStatus("SUCCEEDED")
	answers := make([]reply, 10)
	var all sync.WaitGroup
	for i := range answers {
		all.Go(func() {
			answers[i] = c.post("/v2/payment/refunds", object{"payment_intent_id": paid.id(), "amount": "5", "reason": "x"})
		})
	}
	all.Wait()
	done := 0
	for _, a := range answers {
		if a.status == 200 {
			done++
		} else {
			a.wantError(400, "refund_error", "invalid_refund_amount")
		}
	}
	if done != 2 || r.bank.sent(payment.Refund) != 2 {
		t.Errorf("%d refunds went through, %d were sent", done, r.bank.sent(payment.Refund))
	}
}

func TestRefundThatIsNotAnswered(t *testing.T) {
	t.Parallel()
	r := setup(t, func(r *rig) { r.wait = shortWait })
	c := r.demo(t)
	paid := c.create(sale(c.tid())).wantStatus("SUCCEEDED")
	r.bank.set(func() { r.bank.mute = true })
	key, body := newKey(), object{"payment_intent_id": paid.id(), "amount": "5", "reason": "x"}
	a := c.post("/v2/payment/refunds", body, "x-idempotency-key", key).want(200).wantAll("refund_status", "PROCESSING")
	c.post("/v2/payment/refunds", body.with("amount", "8")).wantError(400, "refund_error", "invalid_refund_amount") // It stays reserved.
	c.get("/v2/payment/refunds?status=PROCESSING").wantAll("total_items", 1.0)
	c.get("/v2/payment/refunds?status=PENDING").wantAll("total_items", 1.0)
	c.post("/v2/payment/refunds", body, "x-idempotency-key", key).want(200).wantAll("refund_status", "PROCESSING", "payment_refund_id", a.text("payment_refund_id"))
	r.bank.set(func() { r.bank.mute = false })
	if !within(func() bool {
		return c.get("/v2/payment/refunds/"+a.text("payment_refund_id")).text("refund_status") == "SUCCEEDED"
	}) {
		t.Fatal("the refund is not settled")
	}
	one := c.post("/v2/payment/refunds", body, "x-idempotency-key", key).want(200).wantAll("refund_status", "SUCCEEDED", "payment_refund_id", a.text("payment_refund_id"))
	same(t, "refund", one, c.post("/v2/payment/refunds", body, "x-idempotency-key", key))
}

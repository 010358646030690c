package uqpay_test

import (
	"context"
	"testing"
	"time"

	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/protocol/uqpay"
)

func contextWithin(t *testing.T, d time.Duration) (context.Context, context.CancelFunc) {
	t.Helper()
	return context.WithTimeout(t.Context(), d)
}

// present is the seed's card at a terminal, with a STAN of its own.
func present(t *testing.T, tid string) *uqpay.CardPresent {
	t.Helper()
	read := reading(payment.EntryChip, "")
	return &uqpay.CardPresent{PAN: read.PAN, Expiry: read.Expiry, Entry: read.Entry, Chip: read.Chip, TerminalID: tid, STAN: stan()}
}

func confirmBody(tid string, changes ...any) object {
	return object{"payment_method": sale(tid, changes...)["payment_method"]}
}

func TestUnknownIntents(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.demo(t)
	tid := c.tid()
	paid := c.create(sale(tid)).wantStatus("SUCCEEDED")
	d := r.as(t, otherID, otherKey)
	for _, id := range []string{"PI2000000000000009999", "PI1", "create", "x", "PX" + paid.id()[2:], paid.id() + "0", "PI20000000+0000000001", "PI2000000-00000000001"} {
		c.get("/v2/payment_intents/"+id).wantError(400, "not_found", "not_found_id")
		c.post("/v2/payment_intents/"+id+"/cancel", object{}).wantError(400, "not_found", "not_found_id")
		c.post("/v2/payment_intents/"+id+"/capture", object{}).wantError(400, "not_found", "not_found_id")
		c.post("/v2/payment_intents/"+id+"/confirm", confirmBody(tid)).wantError(400, "not_found", "not_found_id")
		if id != "create" {
			c.post("/v2/payment_intents/"+id, object{}).wantError(400, "not_found", "not_found_id")
		}
		c.post("/v2/payment/refunds", object{"payment_intent_id": id, "amount": "1", "reason": "x"}).want(400)
		c.get("/v2/payment/payment_attempts/"+id).wantError(400, "not_found", "not_found_id")
		c.get("/v2/payment/refunds/"+id).wantError(400, "not_found", "not_found_id")
	}
	d.get("/v2/payment_intents/"+paid.id()).wantError(400, "not_found", "not_found_id")
	d.get("/v2/payment/payment_attempts/"+paid.text("latest_payment_attempt.attempt_id")).wantError(400, "not_found", "not_found_id")
	d.post("/v2/payment_intents/"+paid.id()+"/cancel", object{}).wantError(400, "not_found", "not_found_id")
	d.post("/v2/payment/refunds", object{"payment_intent_id": paid.id(), "amount": "1", "reason": "x"}).wantError(400, "not_found", "not_found_id")
}

func TestConfirm(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.demo(t)
	tid := c.tid()
	open := c.create(intent()).wantStatus("REQUIRES_PAYMENT_METHOD").wantAll("latest_payment_attempt", nil, "captured_amount", "0")
	path := "/v2/payment_intents/" + open.id()
	c.post(path+"/confirm", object{}).wantError(400, "payment_error", "invalid_payment_method")
	c.do("POST", "/api"+path+"/confirm", "", "x-idempotency-key", newKey()).wantError(400, "payment_error", "invalid_payment_method")
	c.post(path+"/confirm", confirmBody(tid, cp+"card_number", "1")).wantError(400, "invalid_request_error", "invalid_parameter", "card_number")
	c.post(path+"/confirm", confirmBody("99999999")).wantError(400, "not_found", "terminal_info_not_found")

	c.post(path, object{"amount": "10.55"}).wantStatus("REQUIRES_PAYMENT_METHOD").wantAll("amount", "10.55")
	first := c.post(path+"/confirm", confirmBody(tid)).wantStatus("REQUIRES_PAYMENT_METHOD").wantAll("latest_payment_attempt.failure_code", "incorrect_pin")
	c.post(path, object{"amount": "10.51"}).want(200)
	second := c.post(path+"/confirm", confirmBody(tid)).wantStatus("REQUIRES_PAYMENT_METHOD").wantAll("latest_payment_attempt.failure_code", "insufficient_funds")
	c.post(path, object{"amount": "10.40", "description": "new", "merchant_order_id": "o2", "metadata": object{"a": "b"}, "return_url": "https://x"}).want(200).
		wantAll("amount", "10.4", "description", "new", "merchant_order_id", "o2", "metadata.a", "b", "metadata.lane", nil, "return_url", "https://x")
	third := c.post(path+"/confirm", confirmBody(tid)).wantStatus("SUCCEEDED").wantAll("amount", "10.4", "captured_amount", "10.4", "description", "new")
	ids := map[string]bool{}
	for _, a := range []reply{first, second, third} {
		ids[a.text("latest_payment_attempt.attempt_id")] = true
	}
	if len(ids) != 3 {
		t.Errorf("attempts are %v", ids)
	}
	// The amounts of earlier attempts stay what they were.
	c.get("/v2/payment/payment_attempts/"+first.text("latest_payment_attempt.attempt_id")).want(200).wantAll("amount", "10.55", "attempt_status", "FAILED",
		"failure_code", "incorrect_pin", "refunded_amount", "0", "captured_amount", "0")
	list := c.get("/v2/payment/payment_attempts?payment_intent_id="+open.id()).want(200).wantAll("total_items", 3.0,
		"data.0.attempt_id", third.text("latest_payment_attempt.attempt_id"), "data.2.attempt_id", first.text("latest_payment_attempt.attempt_id"))
	_ = list
	c.post(path+"/confirm", confirmBody(tid)).wantError(400, "payment_error", "invalid_order_status")
	c.post(path, object{"amount": "1"}).wantError(400, "payment_error", "invalid_order_status")
}

func TestUpdateRefused(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.demo(t)
	path := "/v2/payment_intents/" + c.create(intent()).id()
	for name, v := range map[string]struct {
		body object
		code string
	}{
		"amount zero":          {object{"amount": "0"}, "invalid_order_amount"},
		"amount empty":         {object{"amount": ""}, "invalid_order_amount"},
		"amount a number":      {object{"amount": 5}, "invalid_parameter"},
		"yen and cents":        {object{"currency": "JPY"}, "invalid_order_amount"},
		"another currency":     {object{"currency": "EUR"}, "invalid_order_currency"},
		"no currency at all":   {object{"currency": "x"}, "invalid_order_currency"},
		"long description":     {object{"description": "123456789012345678901234567890123"}, "invalid_parameter"},
		"empty description":    {object{"description": ""}, "invalid_parameter"},
		"metadata a string":    {object{"metadata": "x"}, "invalid_parameter"},
		"empty order id":       {object{"merchant_order_id": ""}, "invalid_parameter"},
		"payment_orders a one": {object{"payment_orders": 1}, "invalid_payment_orders"},
	} {
		t.Run(name, func(t *testing.T) {
			d := *c
			d.t = t
			d.post(path, v.body).wantError(400, "invalid_request_error", v.code)
		})
	}
	c.post(path, object{}).wantStatus("REQUIRES_PAYMENT_METHOD").wantAll("amount", "12.5", "metadata.lane", "2")
	c.post(path, object{"amount": "500", "currency": "JPY"}).want(200).wantAll("amount", "500", "currency", "JPY", "description", defaultDescription)
}

func TestCapture(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.demo(t)
	tid := c.tid()
	authorize := func() reply {
		return c.create(sale(tid, cp+"auto_capture", false)).wantStatus("REQUIRES_CAPTURE").wantAll("captured_amount", "0",
			"latest_payment_attempt.attempt_status", "AUTHORIZED", "latest_payment_attempt.captured_amount", "0", "complete_time", "")
	}
	for name, v := range map[string]struct {
		body string
		want string
	}{
		"absent": {`{}`, "12.5"}, "no body": {``, "12.5"}, "a number": {`{"amount_to_capture": 10.4}`, "10.4"}, "a number with an exponent": {`{"amount_to_capture": 5}`, "5"},
		"a string": {`{"amount_to_capture": "10.40"}`, "10.4"}, "null": {`{"amount_to_capture": null}`, "12.5"}, "all of it": {`{"amount_to_capture": 12.50}`, "12.5"},
	} {
		t.Run(name, func(t *testing.T) {
			d := *c
			d.t = t
			a := authorize()
			path := "/api/v2/payment_intents/" + a.id() + "/capture"
			d.do("POST", path, v.body, "x-idempotency-key", newKey()).wantStatus("SUCCEEDED").wantAll("captured_amount", v.want, "amount", "12.5",
				"latest_payment_attempt.attempt_status", "CAPTURE_REQUESTED", "latest_payment_attempt.captured_amount", v.want)
			d.do("POST", path, v.body, "x-idempotency-key", newKey()).wantError(400, "payment_error", "invalid_order_status")
		})
	}
	a := authorize()
	path := "/v2/payment_intents/" + a.id() + "/capture"
	for name, v := range map[string]struct {
		amount any
		code   string
	}{
		"more than authorised": {"12.51", "invalid_order_amount"}, "zero": {"0", "invalid_order_amount"}, "zero as a number": {0, "invalid_order_amount"},
		"negative": {-1, "invalid_order_amount"}, "over-precise": {"1.005", "invalid_order_amount"}, "words": {"all", "invalid_order_amount"},
		"an object": {object{}, "invalid_parameter"}, "empty": {"", "invalid_parameter"},
	} {
		t.Run(name, func(t *testing.T) {
			d := *c
			d.t = t
			d.post(path, object{"amount_to_capture": v.amount}).wantError(400, "invalid_request_error", v.code)
		})
	}
	c.get("/v2/payment_intents?payment_intent_status=REQUIRES_CAPTURE").wantAll("total_items", 1.0)
	c.get("/v2/payment/payment_attempts?attempt_status=AUTHORIZED").wantAll("total_items", 1.0)
	c.post("/v2/payment_intents/"+a.id()+"/cancel", object{"cancellation_reason": "abandoned"}).wantStatus("CANCELLED").
		wantAll("captured_amount", "0", "latest_payment_attempt.attempt_status", "CANCELLED", "cancellation_reason", "abandoned")
	if !within(func() bool { return r.bank.sent(payment.Reversal) == 1 }) {
		t.Error("the authorisation was not released")
	}
	t.Run("on a confirm", func(t *testing.T) {
		path := "/v2/payment_intents/" + c.create(intent()).id()
		c.post(path+"/confirm", confirmBody(tid, cp+"auto_capture", false)).wantStatus("REQUIRES_CAPTURE")
		c.post(path+"/capture", object{}).wantStatus("SUCCEEDED")
	})
}

func TestCancel(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.demo(t)
	tid := c.tid()
	t.Run("before a card", func(t *testing.T) {
		path := "/v2/payment_intents/" + c.create(intent()).id()
		a := c.post(path+"/cancel", object{"cancellation_reason": "requested_by_customer"}).wantStatus("CANCELLED").wantAll("cancellation_reason", "requested_by_customer", "latest_payment_attempt", nil)
		if a.text("cancel_time") == "" || a.text("complete_time") != "" {
			t.Errorf("%s", a.raw)
		}
		c.post(path+"/cancel", object{}).wantStatus("CANCELLED")
		c.post(path+"/confirm", confirmBody(tid)).wantError(400, "payment_error", "order_cancelled")
		c.post(path, object{"amount": "1"}).wantError(400, "payment_error", "order_cancelled")
	})
	t.Run("after a decline", func(t *testing.T) {
		a := c.create(sale(tid, "amount", "1.51"))
		c.post("/v2/payment_intents/"+a.id()+"/cancel", object{}).wantStatus("CANCELLED").wantAll("latest_payment_attempt.attempt_status", "FAILED",
			"latest_payment_attempt.failure_code", "insufficient_funds", "cancellation_reason", "")
	})
	t.Run("paid", func(t *testing.T) {
		a := c.create(sale(tid))
		c.post("/v2/payment_intents/"+a.id()+"/cancel", object{}).wantError(400, "payment_error", "invalid_order_status")
		c.get("/v2/payment_intents/" + a.id()).wantStatus("SUCCEEDED")
	})
	t.Run("unknown reason", func(t *testing.T) {
		a := c.create(intent())
		c.post("/v2/payment_intents/"+a.id()+"/cancel", object{"cancellation_reason": "mood"}).wantError(400, "invalid_request_error", "invalid_parameter", "cancellation_reason")
	})
	t.Run("while the host is silent", func(t *testing.T) {
		hold := make(chan struct{})
		r.bank.set(func() { r.bank.hold = hold })
		defer r.bank.set(func() { r.bank.hold = nil })
		done := make(chan reply, 1)
		before := r.bank.sent(payment.Sale)
		body := sale(tid, "merchant_order_id", "slow")
		go func() { done <- c.create(body) }()
		if !within(func() bool { return r.bank.sent(payment.Sale) == before+1 }) {
			t.Fatal("not sent")
		}
		id := c.get("/v2/payment_intents?merchant_order_id=slow").text("data.0.payment_intent_id")
		c.post("/v2/payment_intents/"+id+"/cancel", object{}).wantStatus("CANCELLED").wantAll("latest_payment_attempt.attempt_status", "CANCELLED")
		close(hold)
		if a := <-done; a.text("intent_status") != "CANCELLED" {
			t.Errorf("the create was answered %s", a.raw)
		}
	})
}

func TestSameDayVoid(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.as(t, strictID, strictKey)
	tid := c.tid()
	a := c.create(sale(tid)).wantStatus("SUCCEEDED")
	c.post("/v2/payment_intents/"+a.id()+"/cancel", object{"cancellation_reason": "duplicate"}).wantStatus("CANCELLED").
		wantAll("cancellation_reason", "duplicate", "latest_payment_attempt.attempt_status", "CANCELLED")
	if !within(func() bool { return r.bank.sent(payment.VoidOperation) == 1 }) {
		t.Error("nothing was given back")
	}
	late := c.create(sale(tid)).wantStatus("SUCCEEDED")
	partly := c.create(sale(tid)).wantStatus("SUCCEEDED")
	c.post("/v2/payment/refunds", object{"payment_intent_id": partly.id(), "amount": "1", "reason": "x"}).want(200)
	c.post("/v2/payment_intents/"+partly.id()+"/cancel", object{}).wantError(400, "payment_error", "invalid_order_status")
	r.clock.at(time.Date(2026, 2, 3, 15, 0, 1, 0, time.UTC)) // 23:00:01 at +08:00.
	c = r.as(t, strictID, strictKey)
	c.post("/v2/payment_intents/"+late.id()+"/cancel", object{}).wantError(400, "payment_error", "invalid_order_status")
	evening := c.create(sale(tid)).wantStatus("SUCCEEDED")
	c.post("/v2/payment_intents/"+evening.id()+"/cancel", object{}).wantError(400, "payment_error", "invalid_order_status")
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.demo(t)
	tid := c.tid()
	open := c.create(intent())
	declined := c.create(sale(tid, "amount", "1.51"))
	r.clock.pass(30*time.Minute + time.Second)
	c = r.demo(t)
	for _, id := range []string{open.id(), declined.id()} {
		if !within(func() bool { return c.get("/v2/payment_intents/"+id).text("intent_status") == "FAILED" }) {
			t.Errorf("%s has not expired", id)
		}
		c.post("/v2/payment_intents/"+id+"/confirm", confirmBody(tid)).wantError(400, "payment_error", "expired_order")
		c.post("/v2/payment_intents/"+id, object{"amount": "1"}).wantError(400, "payment_error", "expired_order")
		c.post("/v2/payment_intents/"+id+"/cancel", object{}).wantError(400, "payment_error", "expired_order")
		c.post("/v2/payment_intents/"+id+"/capture", object{}).wantError(400, "payment_error", "invalid_order_status")
		c.post("/v2/payment/refunds", object{"payment_intent_id": id, "amount": "1", "reason": "x"}).wantError(400, "refund_error", "invalid_order_status")
		if c.get("/v2/payment_intents/"+id).text("complete_time") == "" {
			t.Error("no complete_time")
		}
	}
}

package uqpay_test

import (
	"fmt"
	"net/url"
	"testing"
	"time"
)

func TestListIntents(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.demo(t)
	tid := c.tid()
	empty := c.get("/v2/payment_intents").want(200)
	if string(empty.raw) != `{"total_pages":0,"total_items":0,"data":[]}` {
		t.Errorf("empty: %s", empty.raw)
	}
	var ids []string
	var middle time.Time
	for i := range 12 {
		body := sale(tid, "merchant_order_id", fmt.Sprint("o", i%3))
		switch i {
		case 3:
			body = body.with("amount", "1.51")
		case 4:
			body = intent()
		}
		ids = append(ids, c.create(body).want(200).id())
		r.clock.pass(10 * time.Second)
		if i == 5 {
			middle = r.clock.now()
			r.clock.pass(10 * time.Second)
		}
	}
	q := func(pairs ...string) reply {
		v := url.Values{}
		for i := 0; i < len(pairs); i += 2 {
			v.Set(pairs[i], pairs[i+1])
		}
		return c.get("/v2/payment_intents?" + v.Encode()).want(200)
	}
	c.get("/v2/payment_intents").want(200).wantAll("total_items", 12.0, "total_pages", 2.0, "data.0.payment_intent_id", ids[11], "data.9.payment_intent_id", ids[2], "data.10", nil)
	q("page_size", "5", "page_number", "3").wantAll("total_items", 12.0, "total_pages", 3.0, "data.0.payment_intent_id", ids[1], "data.1.payment_intent_id", ids[0], "data.2", nil)
	q("page_size", "5", "page_number", "4").wantAll("total_items", 12.0, "data.0", nil)
	q("page_size", "100", "page_number", "1000000000").wantAll("total_items", 12.0, "data.0", nil)
	for _, name := range []string{"payment_intent_status", "intent_status"} {
		q(name, "SUCCEEDED").wantAll("total_items", 10.0)
		q(name, "REQUIRES_PAYMENT_METHOD").wantAll("total_items", 2.0, "data.0.payment_intent_id", ids[4], "data.1.payment_intent_id", ids[3])
		q(name, "REQUIRES_CONFIRMATION").wantAll("total_items", 2.0)
		q(name, "CANCELED").wantAll("total_items", 0.0)
		q(name, "CANCELLED").wantAll("total_items", 0.0)
		q(name, "FAILED").wantAll("total_items", 0.0)
		q(name, "PROCESSING").wantAll("total_items", 0.0)
		q(name, "REQUIRES_CUSTOMER_ACTION").wantAll("total_items", 0.0)
	}
	at := middle.In(time.FixedZone("", 8*3600)).Format(time.RFC3339)
	q("start_time", at).wantAll("total_items", 6.0)
	q("create_start_time", at).wantAll("total_items", 6.0)
	q("end_time", at).wantAll("total_items", 6.0)
	q("create_end_time", at).wantAll("total_items", 6.0)
	q("start_time", at, "end_time", at).wantAll("total_items", 0.0)
	q("start_time", middle.Format("2006-01-02T15:04:05.000000000Z")).wantAll("total_items", 6.0)
	c.get("/v2/payment_intents?start_time="+at).want(200).wantAll("total_items", 6.0) // The plus is not escaped.
	q("merchant_order_id", "o2").wantAll("total_items", 4.0)
	t.Run("times are exclusive", func(t *testing.T) {
		made := c.get("/v2/payment_intents/" + ids[0]).text("create_time")
		exact := r.clock.now()
		r.clock.freeze(exact.Truncate(time.Second))
		d := r.demo(t)
		id := d.create(intent()).id()
		stamp := d.get("/v2/payment_intents/" + id).text("create_time")
		_ = made
		d.get("/v2/payment_intents?start_time="+url.QueryEscape(stamp)).wantAll("total_items", 0.0)
		d.get("/v2/payment_intents?end_time="+url.QueryEscape(stamp)).wantAll("total_items", 12.0)
		c.token = d.token
	})
	for name, text := range map[string]string{"page_size": "0", "page_number": "0", "payment_intent_status": "PAID", "start_time": "yesterday", "end_time": "2026-02-03"} {
		c.get("/v2/payment_intents?"+name+"="+text).wantError(400, "invalid_request_error", "invalid_parameter", name)
	}
	for _, text := range []string{"101", "-1", "x", "1.5", "99999999999999999999"} {
		c.get("/v2/payment_intents?page_size="+text).wantError(400, "invalid_request_error", "invalid_parameter", "page_size")
	}
	r.as(t, otherID, otherKey).get("/v2/payment_intents").wantAll("total_items", 0.0)
}

func TestListAttemptsAndRefunds(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.demo(t)
	tid := c.tid()
	one, two := c.create(sale(tid, "merchant_order_id", "one")), c.create(sale(tid, "amount", "3.51"))
	cancelled := c.create(sale(tid, cp+"auto_capture", false))
	c.post("/v2/payment_intents/"+cancelled.id()+"/cancel", object{}).want(200)
	attempts := func(query string) reply { return c.get("/v2/payment/payment_attempts?" + query).want(200) }
	attempts("").wantAll("total_items", 3.0, "data.0.attempt_id", cancelled.text("latest_payment_attempt.attempt_id"))
	attempts("attempt_status=FAILED").wantAll("total_items", 1.0, "data.0.attempt_id", two.text("latest_payment_attempt.attempt_id"))
	attempts("attempt_status=CAPTURE_REQUESTED").wantAll("total_items", 1.0)
	if !within(func() bool { return attempts("attempt_status=CANCELLED").at("total_items") == 1.0 }) {
		t.Error("the cancelled attempt is not listed")
	}
	attempts("attempt_status=CANCELED").wantAll("total_items", 1.0, "data.0.attempt_status", "CANCELLED")
	for _, s := range []string{"SETTLED", "SUCCEEDED", "EXPIRED", "INITIATED", "PENDING_AUTHORIZATION", "AUTHENTICATION_REDIRECTED", "AUTHORIZED"} {
		attempts("attempt_status="+s).wantAll("total_items", 0.0)
	}
	attempts("payment_intent_id="+one.id()).wantAll("total_items", 1.0)
	attempts("payment_intent_id=PI2000000000000009999").wantAll("total_items", 0.0)
	attempts("payment_intent_id=x").wantAll("total_items", 0.0)
	c.get("/v2/payment/payment_attempts?attempt_status=x").wantError(400, "invalid_request_error", "invalid_parameter", "attempt_status")

	refund := func(amount string) {
		c.post("/v2/payment/refunds", object{"payment_intent_id": one.id(), "amount": amount, "reason": "x"}).want(200)
	}
	refund("1")
	refund("2.05") // Declined.
	r.clock.pass(40 * 24 * time.Hour)
	c = r.demo(t)
	refund("3")
	refunds := func(query string) reply { return c.get("/v2/payment/refunds?" + query).want(200) }
	refunds("page_size=10&page_number=1").wantAll("total_items", 1.0, "data.0.amount", "3") // The last month.
	from := url.QueryEscape(r.clock.now().Add(-60 * 24 * time.Hour).Format(time.RFC3339))
	refunds("start_time="+from).wantAll("total_items", 3.0, "data.0.amount", "3", "data.2.amount", "1")
	refunds("start_time="+from+"&status=SUCCEEDED").wantAll("total_items", 2.0)
	refunds("start_time="+from+"&status=FAILED").wantAll("total_items", 1.0, "data.0.amount", "2.05")
	refunds("payment_intent_id="+one.id()).wantAll("total_items", 3.0)
	refunds("payment_intent_id="+two.id()).wantAll("total_items", 0.0)
	refunds("merchant_order_id=one").wantAll("total_items", 3.0)
	refunds("merchant_order_id=two").wantAll("total_items", 0.0)
	refunds("status=REVERSAL_SUCCEEDED").wantAll("total_items", 0.0)
	old := url.QueryEscape(r.clock.now().Add(-100 * 24 * time.Hour).Format(time.RFC3339))
	c.get("/v2/payment/refunds?start_time="+old).wantError(400, "invalid_request_error", "invalid_parameter", "3 months")
	c.get("/v2/payment/refunds?status=x").wantError(400, "invalid_request_error", "invalid_parameter", "status")
	r.as(t, otherID, otherKey).get("/v2/payment/refunds?payment_intent_id="+one.id()).wantAll("total_items", 0.0)
}

package uqpay_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/protocol/uqpay"
)

func same(t *testing.T, what string, one, two reply) {
	t.Helper()
	if one.status != two.status || string(one.raw) != string(two.raw) {
		t.Errorf("%s: the repeat was answered\n%d %s\nafter\n%d %s", what, two.status, two.raw, one.status, one.raw)
	}
}

func TestRepeats(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.demo(t)
	tid := c.tid()
	paid := c.create(sale(tid)).wantStatus("SUCCEEDED")
	open := c.create(intent()).wantStatus("REQUIRES_PAYMENT_METHOD")
	authorized := c.create(sale(tid, cp+"auto_capture", false)).wantStatus("REQUIRES_CAPTURE")
	for name, v := range map[string]struct {
		path   string
		body   object
		status int
	}{
		"approved sale":       {"/v2/payment_intents/create", sale(tid), 200},
		"declined sale":       {"/v2/payment_intents/create", sale(tid, "amount", "10.51"), 200},
		"intent without card": {"/v2/payment_intents/create", intent(), 200},
		"refused sale":        {"/v2/payment_intents/create", sale(tid, "amount", "0"), 400},
		"refused by the core": {"/v2/payment_intents/create", sale(tid, "currency", "EUR"), 400},
		"unknown terminal":    {"/v2/payment_intents/create", sale("99999999"), 400},
		"refund":              {"/v2/payment/refunds", object{"payment_intent_id": paid.id(), "amount": "1", "reason": "x"}, 200},
		"refused refund":      {"/v2/payment/refunds", object{"payment_intent_id": paid.id(), "amount": "1000", "reason": "x"}, 400},
		"declined refund":     {"/v2/payment/refunds", object{"payment_intent_id": paid.id(), "amount": "1.05", "reason": "x"}, 200},
		"registration":        {"/v2/terminal/register", object{"firm_code": "01", "firm_sn": "r", "terminal_model": "x"}, 200},
		"update":              {"/v2/payment_intents/" + open.id(), object{"description": "other"}, 200},
		"capture":             {"/v2/payment_intents/" + authorized.id() + "/capture", object{}, 200},
		"refused capture":     {"/v2/payment_intents/" + open.id() + "/capture", object{}, 400},
		"refused cancel":      {"/v2/payment_intents/" + paid.id() + "/cancel", object{}, 400},
		"confirm":             {"/v2/payment_intents/" + c.create(intent()).id() + "/confirm", object{"payment_method": sale(tid)["payment_method"]}, 200},
		"declined confirm":    {"/v2/payment_intents/" + c.create(intent("amount", "3.51")).id() + "/confirm", object{"payment_method": sale(tid)["payment_method"]}, 200},
		"cancel":              {"/v2/payment_intents/" + c.create(intent()).id() + "/cancel", object{"cancellation_reason": "duplicate"}, 200},
	} {
		t.Run(name, func(t *testing.T) {
			d := *c
			d.t = t
			key := newKey()
			one := d.post(v.path, v.body, "x-idempotency-key", key).want(v.status)
			sent := r.bank.count.Load()
			same(t, "at once", one, d.post(v.path, v.body, "x-idempotency-key", key))
			d.post(v.path, v.body.with("more", 1), "x-idempotency-key", key).wantError(400, "idempotency_error", "idempotency_key_mismatch")
			d.post(v.path, object{}.with("amount", 1), "x-idempotency-key", key).wantError(400, "idempotency_error", "idempotency_key_mismatch")
			other := "/v2/terminal/register"
			if v.path == other {
				other = "/v2/payment/refunds"
			}
			d.post(other, v.body, "x-idempotency-key", key).wantError(400, "idempotency_error", "idempotency_key_mismatch")
			if r.bank.count.Load() != sent {
				t.Error("a repeat sent something to the host")
			}
		})
	}
	t.Run("after a restart and 23 hours", func(t *testing.T) {
		key, body := newKey(), sale(tid)
		one := c.create(body, "x-idempotency-key", key).wantStatus("SUCCEEDED")
		refusedKey := newKey()
		bad := c.create(sale("12345678"), "x-idempotency-key", refusedKey).want(400)
		r.clock.pass(23 * time.Hour)
		r.restart()
		c = r.demo(t)
		same(t, "sale", one, c.create(body, "x-idempotency-key", key))
		_ = bad
		t.Run("and after 24 hours the key is free", func(t *testing.T) {
			r.clock.pass(62 * time.Minute)
			c = r.demo(t)
			two := c.create(body, "x-idempotency-key", key).wantStatus("SUCCEEDED")
			if two.id() == one.id() {
				t.Error("the key still stands for the first sale")
			}
		})
	})
	t.Run("another account's key is its own", func(t *testing.T) {
		key := newKey()
		one := c.create(sale(tid), "x-idempotency-key", key).wantStatus("SUCCEEDED")
		d := r.as(t, otherID, otherKey)
		two := d.create(sale(d.tid()), "x-idempotency-key", key).wantStatus("SUCCEEDED")
		if one.id() == two.id() {
			t.Error("one intent for two accounts")
		}
	})
	t.Run("the prefix of the path does not matter", func(t *testing.T) {
		key, body := newKey(), sale(tid).json()
		one := c.do("POST", "/api/v2/payment_intents/create", body, "x-idempotency-key", key).want(200)
		same(t, "without /api", one, c.do("POST", "/v2/payment_intents/create", body, "x-idempotency-key", key))
	})
}

func TestKeys(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.demo(t)
	for name, key := range map[string]string{"missing": "-", "of 65": strings.Repeat("x", 65), "with a tab": "a\tb", "not ASCII": "schlüssel"} {
		t.Run(name, func(t *testing.T) {
			d := *c
			d.t = t
			d.create(intent(), "x-idempotency-key", key).wantError(400, "idempotency_error", "invalid_idempotency_key")
		})
	}
	for name, key := range map[string]string{"of 64": strings.Repeat("x", 64), "of 1": "x", "UUID in capitals": "3F6F1C1E-0C59-4E0F-9A1B-6F6A7C1D2E30"} {
		t.Run(name, func(t *testing.T) {
			d := *c
			d.t = t
			d.create(intent(), "x-idempotency-key", key).want(200)
		})
	}
	strict := r.as(t, strictID, strictKey)
	strict.create(intent(), "x-idempotency-key", "3F6F1C1E-0C59-4E0F-9A1B-6F6A7C1D2E31").wantError(400, "idempotency_error", "invalid_idempotency_key")
	strict.create(intent(), "x-idempotency-key", "3f6f1c1e-0c59-4e0f-9a1b-6f6a7c1d2e3").wantError(400, "idempotency_error", "invalid_idempotency_key")
	strict.create(intent(), "x-idempotency-key", "3f6f1c1e-0c59-4e0f-9a1b-6f6a7c1d2e31").want(200)
}

// Two equal requests at once: one payment, and the second hears that the first is being processed.
func TestEqualRequestsAtOnce(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.demo(t)
	tid := c.tid()
	hold := make(chan struct{})
	r.bank.set(func() { r.bank.hold = hold })
	key, body := newKey(), sale(tid)
	var first reply
	var all sync.WaitGroup
	all.Go(func() { first = c.create(body, "x-idempotency-key", key) })
	if !within(func() bool { return r.bank.sent(payment.Sale) == 1 }) {
		t.Fatal("the sale was not sent")
	}
	second := c.create(body, "x-idempotency-key", key).want(400)
	if string(second.raw) != `{"code":200,"message":"`+requestProcessing+`"}` {
		t.Errorf("got %s", second.raw)
	}
	c.create(body.with("amount", "99"), "x-idempotency-key", key).wantError(400, "idempotency_error", "idempotency_key_mismatch")
	close(hold)
	all.Wait()
	first.wantStatus("SUCCEEDED")
	same(t, "afterwards", first, c.create(body, "x-idempotency-key", key))
	if n := r.bank.sent(payment.Sale); n != 1 {
		t.Errorf("%d sales were sent", n)
	}
	t.Run("many at once", func(t *testing.T) {
		key, body := newKey(), sale(tid)
		answers := make([]reply, 20)
		var all sync.WaitGroup
		for i := range answers {
			all.Go(func() { answers[i] = c.create(body, "x-idempotency-key", key) })
		}
		all.Wait()
		paid := map[string]bool{}
		for _, a := range answers {
			if a.status == 200 {
				paid[a.id()] = true
			} else if a.text("message") != requestProcessing {
				t.Errorf("got %d %s", a.status, a.raw)
			}
		}
		if len(paid) != 1 || r.bank.sent(payment.Sale) != 2 {
			t.Errorf("%d intents, %d sales sent", len(paid), r.bank.sent(payment.Sale))
		}
	})
	t.Run("confirms with different keys", func(t *testing.T) {
		open := c.create(intent()).id()
		answers := make([]reply, 8)
		var all sync.WaitGroup
		for i := range answers {
			all.Go(func() {
				answers[i] = c.post("/v2/payment_intents/"+open+"/confirm", object{"payment_method": sale(tid)["payment_method"]})
			})
		}
		all.Wait()
		paid := 0
		for _, a := range answers {
			if a.status == 200 && a.text("intent_status") == "SUCCEEDED" {
				paid++
			}
		}
		if paid != 1 || r.bank.sent(payment.Sale) != 3 {
			t.Errorf("%d confirms were paid, %d sales sent", paid, r.bank.sent(payment.Sale))
		}
	})
}

// A host that answers late: PENDING within the time, the same key again tells the end, and nothing is paid twice.
func TestPendingSale(t *testing.T) {
	t.Parallel()
	r := setup(t, func(r *rig) { r.wait = 100 * time.Millisecond })
	c := r.demo(t)
	tid := c.tid()
	hold := make(chan struct{})
	r.bank.set(func() { r.bank.hold = hold })
	key, body := newKey(), sale(tid)
	a := c.create(body, "x-idempotency-key", key).wantStatus("PENDING").wantAll("latest_payment_attempt.attempt_status", "PENDING_AUTHORIZATION", "captured_amount", "12.5")
	c.get("/v2/payment_intents/" + a.id()).wantStatus("PENDING")
	c.get("/v2/payment_intents?payment_intent_status=PENDING").wantAll("total_items", 1.0)
	c.post("/v2/payment_intents/"+a.id()+"/confirm", object{"payment_method": sale(tid)["payment_method"]}).wantError(400, "payment_error", "invalid_order_status")
	c.post("/v2/payment_intents/"+a.id(), object{"amount": "1"}).wantError(400, "payment_error", "invalid_order_status")
	close(hold)
	if !within(func() bool { return c.get("/v2/payment_intents/"+a.id()).text("intent_status") == "SUCCEEDED" }) {
		t.Fatal("still pending")
	}
	done := c.create(body, "x-idempotency-key", key).wantStatus("SUCCEEDED")
	if done.id() != a.id() || r.bank.sent(payment.Sale) != 1 {
		t.Errorf("paid again: %s", done.raw)
	}
	same(t, "once it is decided", done, c.create(body, "x-idempotency-key", key))
}

// A host that is silent, and silent about the reversal too, then comes back.
func TestSilentHost(t *testing.T) {
	t.Parallel()
	r := setup(t, func(r *rig) { r.wait = 500 * time.Millisecond })
	c := r.demo(t)
	tid := c.tid()
	r.bank.set(func() { r.bank.mute = true })
	key, body := newKey(), sale(tid)
	a := c.create(body, "x-idempotency-key", key).wantStatus("PENDING")
	c.create(body, "x-idempotency-key", key).wantStatus("PENDING")
	r.restart()
	r.bank.set(func() { r.bank.mute = false })
	c = r.demo(t)
	if !within(func() bool {
		return c.get("/v2/payment_intents/"+a.id()).text("intent_status") == "REQUIRES_PAYMENT_METHOD"
	}) {
		t.Fatal("still pending")
	}
	one := c.create(body, "x-idempotency-key", key).wantStatus("REQUIRES_PAYMENT_METHOD").wantAll("latest_payment_attempt.failure_code", "system_error")
	c.post("/v2/payment_intents/"+a.id()+"/confirm", object{"payment_method": sale(tid)["payment_method"]}).wantStatus("SUCCEEDED")
	same(t, "the answer is kept", one, c.create(body, "x-idempotency-key", key))
	if r.bank.sent(payment.Sale) != 2 {
		t.Errorf("%d sales were sent", r.bank.sent(payment.Sale))
	}
}

// A till that hangs up changes nothing.
func TestCallerHangsUp(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.demo(t)
	tid := c.tid()
	hold := make(chan struct{})
	r.bank.set(func() { r.bank.hold = hold })
	client := r.client(strictID, strictKey)
	stored, err := client.PrepareIntent(uqpay.IntentRequest{Amount: "7", Currency: "SGD", OrderID: "o", Description: "d", Card: present(t, tid)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := contextWithin(t, 100*time.Millisecond)
	defer cancel()
	var i uqpay.Intent
	if err := client.Send(ctx, stored, &i); err == nil {
		t.Error("there was an answer")
	}
	close(hold)
	if err := client.Send(t.Context(), stored, &i); err != nil || i.Status != uqpay.IntentSucceeded || r.bank.sent(payment.Sale) != 1 {
		t.Errorf("got %+v, %v, %d sales", i, err, r.bank.sent(payment.Sale))
	}
}

// A sale, a decline, a refund and an intent without a card cost the commits that their money needs, and none for the kept answers.
func TestCommits(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.demo(t)
	tid := c.tid()
	var paid reply
	for _, v := range []struct {
		name    string
		do      func() reply
		commits uint64
	}{
		{"sale", func() reply { paid = c.create(sale(tid)); return paid }, 2},
		{"decline", func() reply { return c.create(sale(tid, "amount", "3.51")) }, 2},
		{"refund", func() reply {
			return c.post("/v2/payment/refunds", object{"payment_intent_id": paid.id(), "amount": "0.01", "reason": "x"})
		}, 2},
		{"intent without a card", func() reply { return c.create(intent()) }, 1},
		{"refusal", func() reply { return c.create(sale(tid, "amount", "0")) }, 1},
		{"retrieval", func() reply { return c.get("/v2/payment_intents/" + paid.id()) }, 0},
	} {
		const rounds, others = 10, 9 // Others are leases that are renewed meanwhile.
		before := r.store.Stats().Work
		for range rounds {
			v.do()
		}
		if got := r.store.Stats().Work - before; got < v.commits*rounds || got > v.commits*rounds+others {
			t.Errorf("%s: %d commits in %d rounds, want %d each", v.name, got, rounds, v.commits)
		}
	}
}

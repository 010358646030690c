package uqpay_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/protocol/uqpay"
)

// hook makes a webhook of a merchant.
func (r *rig) hook(url, secret string, seconds bool, events ...string) payment.Webhook {
	r.t.Helper()
	m := r.merchants[merchantOfDemo]
	sealed, err := uqpay.SealWebhookSecret(r.vault, m, url, secret)
	r.must(err)
	w, err := r.store.AddWebhook(r.t.Context(), payment.Webhook{Merchant: m, Protocol: uqpay.Protocol, URL: url, Events: events, Secret: sealed, Seconds: seconds})
	r.must(err)
	return w
}

// notices are the stored notices of the demo merchant for one webhook.
func (r *rig) notices(t testing.TB, endpoint payment.ID) []payment.Notice {
	t.Helper()
	list, err := r.store.Notices(t.Context(), r.merchants[merchantOfDemo], 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	var own []payment.Notice
	for _, n := range list {
		if n.Endpoint == endpoint {
			own = append(own, n.Notice)
		}
	}
	return own
}

// owed are the notices of a webhook that are not settled.
func (r *rig) owed(t testing.TB, endpoint payment.ID) []payment.Notice {
	t.Helper()
	list, err := r.store.Notices(t.Context(), r.merchants[merchantOfDemo], 0, 1000)
	if err != nil {
		t.Error(err)
	}
	var owed []payment.Notice
	for _, n := range list {
		if n.Endpoint == endpoint && n.SettledAt.IsZero() {
			owed = append(owed, n.Notice)
		}
	}
	return owed
}

func events(list []payment.Notice) string {
	var names []string
	for _, n := range list {
		names = append(names, strings.TrimPrefix(n.Event, "acquiring."))
	}
	return strings.Join(names, " ")
}

func TestWebhookEvents(t *testing.T) {
	t.Parallel()
	r := setup(t)
	w := r.hook("https://shop.example/hook", webhookSecret, false)
	c := r.demo(t)
	tid := c.tid()
	seen := 0
	for _, story := range []struct {
		name string
		do   func() reply
		want string
	}{
		{"approved", func() reply { return c.create(sale(tid)) },
			"payment_intent.created payment_attempt.created payment_attempt.capture_requested payment_intent.succeeded"},
		{"declined", func() reply { return c.create(sale(tid, "amount", "40.51")) }, "payment_intent.created payment_attempt.created payment_attempt.failed"},
		{"no answer", func() reply { return c.create(sale(tid, "amount", "40.92")) }, "payment_intent.created payment_attempt.created payment_attempt.failed"},
		{"without a card, then cancelled", func() reply {
			a := c.create(intent())
			return c.post("/v2/payment_intents/"+a.id()+"/cancel", object{})
		}, "payment_intent.created cancel.succeeded"},
		{"authorised and captured", func() reply {
			a := c.create(sale(tid, cp+"auto_capture", false))
			return c.post("/v2/payment_intents/"+a.id()+"/capture", object{"amount_to_capture": 3})
		}, "payment_intent.created payment_attempt.created payment_attempt.capture_requested payment_intent.succeeded"},
		{"authorised and cancelled", func() reply {
			a := c.create(sale(tid, cp+"auto_capture", false))
			return c.post("/v2/payment_intents/"+a.id()+"/cancel", object{"cancellation_reason": "fraudulent"})
		}, "payment_intent.created payment_attempt.created payment_attempt.cancelled cancel.succeeded"},
		{"refunded", func() reply {
			a := c.create(sale(tid))
			return c.post("/v2/payment/refunds", object{"payment_intent_id": a.id(), "amount": "1", "reason": "x"})
		}, "payment_intent.created payment_attempt.created payment_attempt.capture_requested payment_intent.succeeded refund.created refund.succeeded"},
		{"refund declined", func() reply {
			a := c.create(sale(tid))
			return c.post("/v2/payment/refunds", object{"payment_intent_id": a.id(), "amount": "1.05", "reason": "x"})
		}, "payment_intent.created payment_attempt.created payment_attempt.capture_requested payment_intent.succeeded refund.created refund.failed"},
		{"expired", func() reply {
			a := c.create(intent())
			r.clock.pass(31 * time.Minute)
			c = r.demo(t)
			if !within(func() bool { return c.get("/v2/payment_intents/"+a.id()).text("intent_status") == "FAILED" }) {
				t.Error("not expired")
			}
			return a
		}, "payment_intent.created payment_intent.failed"},
	} {
		story.do().want(200)
		var got []payment.Notice
		if !within(func() bool {
			got = r.notices(t, w.ID)[seen:]
			return len(got) >= len(strings.Fields(story.want))
		}) || !strings.HasPrefix(events(got), story.want) && story.name != "expired" {
			t.Errorf("%s:\n got %s\nwant %s", story.name, events(got), story.want)
		}
		if story.name == "expired" && !strings.HasSuffix(events(got), "payment_intent.failed") {
			t.Errorf("expired: got %s", events(got))
		}
		seen += len(got)
		for _, n := range got {
			checkEvent(t, n)
		}
	}
	ids := map[string]bool{}
	for _, n := range r.notices(t, w.ID) {
		var e uqpay.Event
		if err := json.Unmarshal(n.Body, &e); err != nil || ids[e.ID] {
			t.Errorf("event id %s twice, %v", e.ID, err)
		}
		ids[e.ID] = true
	}
}

// checkEvent holds a webhook against §7.
func checkEvent(t *testing.T, n payment.Notice) {
	t.Helper()
	var e uqpay.Event
	if err := json.Unmarshal(n.Body, &e); err != nil {
		t.Fatalf("%s: %v", n.Body, err)
	}
	if !strings.HasPrefix(string(n.Body), `{"version":"V1.6.0","event_name":"ACQUIRING","event_type":"`+n.Event+`","event_id":"`) || e.SourceID == "" || len(e.ID) != 36 {
		t.Errorf("envelope: %s", n.Body)
	}
	var data map[string]any
	if err := json.Unmarshal(e.Data, &data); err != nil {
		t.Fatal(err)
	}
	members := map[string][]string{
		"payment_intent": {"payment_intent_id", "amount", "currency", "intent_status", "merchant_order_id", "description", "metadata", "payment_method",
			"create_time", "complete_time", "cancel_time", "cancellation_reason"},
		"payment_attempt": {"payment_attempt_id", "payment_intent_id", "amount", "currency", "attempt_status", "captured_amount", "refunded_amount",
			"merchant_order_id", "failure_code", "failure_message", "auth_code", "rrn", "arn", "advice_code", "authentication_data", "payment_method",
			"create_time", "complete_time", "cancel_time", "cancellation_reason"},
		"refund": {"payment_refund_id", "payment_intent_id", "payment_attempt_id", "amount", "currency", "refund_status", "reason", "metadata",
			"create_time", "complete_time"},
		"cancel": {"payment_intent_id", "amount", "currency", "cancel_status", "cancel_time"},
	}
	family := strings.Split(n.Event, ".")[1]
	wantKeys(t, n.Event, data, members[family]...)
	ids := map[string]string{"payment_intent": "payment_intent_id", "payment_attempt": "payment_attempt_id", "refund": "payment_refund_id", "cancel": "payment_intent_id"}
	if data[ids[family]] != e.SourceID {
		t.Errorf("%s: source_id is %s", n.Body, e.SourceID)
	}
	statuses := map[string][2]string{"acquiring.payment_intent.created": {"intent_status", ""}, "acquiring.payment_intent.succeeded": {"intent_status", "SUCCEEDED"},
		"acquiring.payment_intent.failed": {"intent_status", "FAILED"}, "acquiring.payment_attempt.capture_requested": {"attempt_status", "CAPTURE_REQUESTED"},
		"acquiring.payment_attempt.failed": {"attempt_status", "FAILED"}, "acquiring.payment_attempt.cancelled": {"attempt_status", "CANCELLED"},
		"acquiring.refund.succeeded": {"refund_status", "SUCCEEDED"}, "acquiring.refund.failed": {"refund_status", "FAILED"},
		"acquiring.cancel.succeeded": {"cancel_status", "SUCCEEDED"}}
	if s, ok := statuses[n.Event]; ok && s[1] != "" && data[s[0]] != s[1] {
		t.Errorf("%s says %v", n.Event, data[s[0]])
	}
	for name, v := range data {
		if v == "" && strings.HasSuffix(name, "_time") {
			t.Errorf("%s: %s is empty, not null", n.Event, name)
		}
	}
	if strings.Contains(string(n.Body), seedPAN) || strings.Contains(string(n.Body), chipTags) {
		t.Errorf("card data in %s", n.Body)
	}
	if m, ok := data["payment_method"].(map[string]any); ok {
		if got := fmt.Sprint(m); got != "map[card_present:map[card_number:555474******1559 network:mastercard] type:card_present]" {
			t.Errorf("payment_method is %s", got)
		}
	}
}

func TestWebhookSubscriptions(t *testing.T) {
	t.Parallel()
	r := setup(t)
	all := r.hook("https://a.example/", webhookSecret, false)
	some := r.hook("https://b.example/", "", false, "acquiring.payment_intent.succeeded")
	gone := r.hook("https://c.example/", "x", false)
	if err := r.store.RemoveWebhook(t.Context(), gone.Merchant, gone.ID); err != nil {
		t.Fatal(err)
	}
	c := r.demo(t)
	c.create(sale(c.tid())).wantStatus("SUCCEEDED")
	d := r.as(t, otherID, otherKey)
	d.create(sale(d.tid())).wantStatus("SUCCEEDED")
	if a, b := r.notices(t, all.ID), r.notices(t, some.ID); len(a) != 4 || len(b) != 1 || string(a[3].Body) != string(b[0].Body) || len(r.notices(t, gone.ID)) != 0 {
		t.Errorf("got %s and %s", events(a), events(b))
	}
}

func TestWebhookSigner(t *testing.T) {
	t.Parallel()
	r := setup(t)
	s := &uqpay.WebhookSigner{Webhook: r.store.Webhook, Sealer: r.vault}
	now := time.UnixMilli(1767225600123)
	m := r.merchants[merchantOfDemo]
	for name, v := range map[string]struct {
		hook  payment.Webhook
		stamp string
	}{
		"milliseconds": {r.hook("https://a.example/", webhookSecret, false), "1767225600123"},
		"seconds":      {r.hook("https://b.example/", webhookSecret, true), "1767225600"},
		"no secret":    {r.hook("https://c.example/", "", false), "1767225600123"},
	} {
		n := payment.Notice{Merchant: m, Endpoint: v.hook.ID, Body: []byte(`{"a":1}`)}
		h, err := s.Sign(t.Context(), n, now)
		if err != nil || h.Get(uqpay.HeaderWebhookTime) != v.stamp {
			t.Errorf("%s: %v, %v", name, h, err)
		}
		err = uqpay.VerifyWebhook(n.Body, h.Get(uqpay.HeaderWebhookTime), h.Get(uqpay.HeaderWebhookSignature), now, webhookSecret)
		if _, signed := h["X-Wk-Signature"]; signed == (name == "no secret") || (err == nil) != signed {
			t.Errorf("%s: signed %v, %v", name, signed, err)
		}
	}
	if h, err := s.Sign(t.Context(), payment.Notice{Merchant: m, Endpoint: 999}, now); err != nil || h.Get(uqpay.HeaderWebhookSignature) != "" {
		t.Errorf("removed: %v, %v", h, err)
	}
	moved := r.hook("https://d.example/", webhookSecret, false)
	moved.URL = "https://evil.example/"
	s.Webhook = func(_ context.Context, _ payment.MerchantID, _ payment.ID) (payment.Webhook, error) {
		return moved, nil
	}
	if _, err := s.Sign(t.Context(), payment.Notice{Merchant: m, Endpoint: moved.ID}, now); err == nil {
		t.Error("a secret signs for another address")
	}
	if got := fmt.Sprint(uqpay.WebhookDelays()); got != "[16s 32s 1m4s 2m8s 4m16s]" {
		t.Errorf("delays are %s", got)
	}
	if !uqpay.AcceptedWebhook(204, nil) || uqpay.AcceptedWebhook(302, nil) || uqpay.AcceptedWebhook(500, nil) {
		t.Error("accepted statuses")
	}
}

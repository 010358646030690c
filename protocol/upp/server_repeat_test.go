package upp_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestRepeat is §9.7.
func TestRepeat(t *testing.T) {
	t.Parallel()
	r := setup(t)
	same := func(t *testing.T, a, b reply) {
		t.Helper()
		if a.out() != b.out() || a.number("created") != b.number("created") {
			b.errorf("want the transaction of before: %s", a.raw)
		}
	}

	t.Run("I01 twice", func(t *testing.T) {
		for _, body := range []object{purchase(reference()), qr(reference()), purchase(reference(), "customerToken", code("alipay", "decline"))} {
			sent := r.tap.count("POST payments")
			a, b := r.till(t).create(body).want(200), r.till(t).create(body).want(200)
			same(t, a, b)
			if string(a.raw) != string(b.raw) || r.tap.count("POST payments") != sent+1 {
				b.errorf("want the same answer and one call of the provider: %s", a.raw)
			}
		}
	})
	t.Run("I02 the first answer is lost", func(t *testing.T) {
		body := purchase(reference(), "customerToken", code("alipay", "no_answer")) // So that the first is still held when the caller leaves.
		ctx, hangUp := context.WithCancel(t.Context())
		sent := r.tap.count("POST payments")
		left := make(chan error, 1)
		go func() {
			_, err := r.till(t).try(ctx, http.MethodPost, "/v1/transactions", body.json(), "Content-Type", "application/json")
			left <- err
		}()
		if !within(func() bool { return r.tap.count("POST payments") > sent }) {
			t.Fatal("not sent")
		}
		hangUp()
		if err := <-left; err == nil {
			t.Error("the caller had left and was answered")
		}
		a := r.till(t).create(body).wantState("approved")
		r.wantBooks(t, a.out(), "payment 8640 AUD done")
		if got := r.tap.count("POST payments"); got != sent+1 {
			t.Errorf("sent %d times", got-sent)
		}
	})
	t.Run("I03 fifty at once", func(t *testing.T) {
		for _, body := range []object{purchase(reference()), qr(reference()), purchase(reference(), "customerToken", code("alipay", "no_answer"))} {
			sent := r.tap.count("POST payments")
			answers := make([]reply, 50)
			together(50, func(i int) { answers[i] = r.till(t).under([]string{"/v1", "/api/v1"}[i%2]).create(body).want(200) })
			for _, a := range answers {
				same(t, answers[0], a)
			}
			if got := r.tap.count("POST payments"); got != sent+1 {
				t.Errorf("the provider was called %d times", got-sent)
			}
			if body["saleType"] == "customerPresentedToken" {
				answers[49].wantState("approved")
				r.wantBooks(t, answers[0].out(), "payment 8640 AUD done")
			}
		}
	})
	t.Run("I04 written differently", func(t *testing.T) {
		ref := reference()
		a := r.till(t).create(purchase(ref, "amount", json.Number("24"))).wantState("approved")
		for _, amount := range []string{"24", "24.0", "24.00", "2.4e1", "240E-1"} {
			b := r.till(t).post("/transactions", fmt.Sprintf(` { "items" : [ {"quantity":1.0, "amount":24.50 ,"name":"Umbrel\u006ca","itemReference":"UMB-01","type":"sku"} ] ,
				"customerToken":" 289661544981076259\n", "saleType":"customerPresentedToken","provider":"ALIPAY","currency":"AUD", "amount":%s,
				"transactionReference":%q, "transactionType":"purchase", "clientIpAddress":"203.0.113.1","extra":[1] }`, amount, ref)).wantState("approved")
			if string(a.raw) != string(b.raw) {
				b.errorf("want the answer of before: %s", a.raw)
			}
		}
	})
	t.Run("I05 with other content", func(t *testing.T) {
		ref := reference()
		a := r.till(t).create(purchase(ref)).wantState("approved")
		other := basket()
		other[0].(object)["quantity"] = json.Number("2")
		for field, body := range map[string]object{
			"amount":        purchase(ref, "amount", json.Number("86.5")),
			"currency":      purchase(ref, "currency", "nzd"),
			"provider":      purchase(ref, "provider", "humm"),
			"saleType":      purchase(ref, "saleType", "merchantPresentedToken"),
			"customerToken": purchase(ref, "customerToken", "289661544981076250"),
			"items":         purchase(ref, "items", other),
		} {
			b := r.till(t).create(body).wantFailure(409, "transactionReferenceConflict", field)
			if field == "amount" && b.text("failureDescription") != "Already used with different amount." {
				b.errorf("want the words of V9")
			}
		}
		if b := r.till(t).fetch(ref); string(b.raw) != string(a.raw) {
			b.errorf("want it unchanged: %s", a.raw)
		}
		r.wantBooks(t, a.out(), "payment 8640 AUD done")

		card := reference() // A card token is not kept, so it cannot be named (doc.go).
		r.till(t).create(purchase(card, "provider", "financialcard", "customerToken", code("financialcard", "approve"))).wantState("approved")
		r.till(t).create(purchase(card, "provider", "financialcard", "customerToken", code("financialcard", "decline"))).
			wantFailure(409, "transactionReferenceConflict")
	})
	t.Run("I06 under the other prefix", func(t *testing.T) {
		body := purchase(reference())
		a, b := r.till(t).create(body).wantState("approved"), r.till(t).under("/api/v1").create(body).wantState("approved")
		if string(a.raw) != string(b.raw) {
			b.errorf("want the answer of before: %s", a.raw)
		}
	})
	t.Run("I07 pending, paid, resent", func(t *testing.T) {
		body := qr(reference())
		a := r.till(t).create(body).wantState("pending")
		r.phone(t, a.text("merchantToken"), "approve")
		r.till(t).final(body["transactionReference"].(string)).wantState("approved")
		b := r.till(t).create(body).wantState("approved").wantKeys(columnM1...)
		same(t, a, b)
		r.wantBooks(t, a.out(), "payment 2450 AUD done")
	})
	t.Run("I09 refused, corrected", func(t *testing.T) {
		ref := reference()
		for _, wrong := range []object{
			purchase(ref, "amount", json.Number("0")), purchase(ref, "customerToken", nil), purchase(ref, "currency", "usd"),
			purchase(ref, "provider", "paypal"), refundOf("unknown", ref),
		} {
			r.till(t).create(wrong).want(400)
			r.till(t).fetch(ref).wantFailure(404, "transactionNotFound")
		}
		r.till(t).create(purchase(ref)).wantState("approved")
	})
	t.Run("I10 a purchase and a refund", func(t *testing.T) {
		ref, back := reference(), reference()
		a := r.till(t).create(purchase(ref)).wantState("approved")
		r.till(t).create(refundOf(ref, back)).wantState("approved")
		r.till(t).create(refundOf(ref, ref)).wantFailure(409, "transactionReferenceConflict", "transactionType")
		r.till(t).create(purchase(back)).wantFailure(409, "transactionReferenceConflict", "transactionType")
		r.till(t).fetch(ref).wantState("approved")
		r.till(t).fetch(back).wantState("approved")
		r.wantRefunded(t, a.out(), 2000, 1)
	})
	t.Run("after a cancel", func(t *testing.T) {
		body := purchase(reference())
		a := r.till(t).create(body).wantState("approved")
		b := r.till(t).cancel(body["transactionReference"].(string)).wantState("cancelled")
		if c := r.till(t).create(body).wantState("cancelled"); string(c.raw) != string(b.raw) {
			c.errorf("want the answer of the cancel: %s", b.raw)
		}
		r.wantBooks(t, a.out(), "payment 8640 AUD reversed")
	})
	t.Run("the same code under a new reference", func(t *testing.T) {
		r.till(t).create(purchase(reference(), "customerToken", code("alipay", "code_used"))).wantDeclined("customerTokenUsed")
	})
}

// TestRestart is I08: the server ends and begins anew on its folder; the wallet network and its books stay.
func TestRestart(t *testing.T) {
	t.Parallel()
	r := setup(t, func(s *settings) { s.createWait = 400 * time.Millisecond })
	paid, open, back, stopped := purchase(reference()), qr(reference()), reference(), purchase(reference())
	lost, lostBack := purchase(reference(), "amount", json.Number("20")), reference()
	ref := paid["transactionReference"].(string)
	lostRef := lost["transactionReference"].(string)

	a := r.till(t).create(paid).wantState("approved")
	b := r.till(t).create(open).wantState("pending")
	c := r.till(t).create(refundOf(ref, back)).wantState("approved")
	r.till(t).cancel(stopped["transactionReference"].(string)).wantFailure(404, "transactionNotFound")
	big := reference()
	r.till(t).create(purchase(big, "amount", json.Number("30000"))).wantState("approved")
	r.tap.lose(func(call string) bool { return !strings.HasSuffix(call, "events") })
	d := r.till(t).create(lost).wantState("pending") // Unknown: the wallet was paid, and we could not hear it.
	e := r.till(t).create(refundOf(big, lostBack)).wantState("pending")
	cancelled := reference()
	r.tap.lose(nil)
	f := r.till(t).create(purchase(cancelled)).wantState("approved")
	r.tap.lose(func(call string) bool { return !strings.HasSuffix(call, "events") })
	r.till(t).cancel(cancelled).wantState("cancelled")

	r.close()
	r.open(t)

	t.Run("I08 approved before", func(t *testing.T) {
		if got := r.till(t).create(paid).wantState("approved"); string(got.raw) != string(a.raw) {
			got.errorf("want the answer of before: %s", a.raw)
		}
		if got := r.till(t).create(refundOf(ref, back)).wantState("approved"); string(got.raw) != string(c.raw) {
			got.errorf("want the answer of before: %s", c.raw)
		}
		r.till(t).create(purchase(ref, "amount", json.Number("1"))).wantFailure(409, "transactionReferenceConflict")
		r.wantBooks(t, a.out(), "payment 8640 AUD done")
		r.wantRefunded(t, a.out(), 2000, 1)
	})
	t.Run("I08 pending before", func(t *testing.T) {
		if got := r.till(t).create(open).wantState("pending"); string(got.raw) != string(b.raw) {
			got.errorf("want the answer of before: %s", b.raw)
		}
		r.phone(t, b.text("merchantToken"), "approve")
		r.till(t).final(open["transactionReference"].(string)).wantState("approved")
		r.wantBooks(t, b.out(), "payment 2450 AUD done")
	})
	t.Run("I08 unknown before", func(t *testing.T) {
		got := r.till(t).final(lostRef).wantState("approved")
		if got.out() != d.out() {
			got.errorf("want %s", d.out())
		}
		r.till(t).create(lost).wantState("approved")
		r.wantBooks(t, d.out(), "payment 2000 AUD done")
		if got := r.till(t).final(lostBack).wantState("approved"); got.out() != e.out() {
			got.errorf("want %s", e.out())
		}
		r.wantBooks(t, e.out(), "refund 2000 AUD done")
	})
	t.Run("I08 cancelled before", func(t *testing.T) {
		r.till(t).create(stopped).wantState("cancelled")
		r.till(t).fetch(cancelled).wantState("cancelled")
		r.wantBooks(t, f.out(), "payment 8640 AUD reversed")
	})
}

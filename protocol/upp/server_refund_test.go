package upp_test

import (
	"encoding/json"
	"testing"
	"time"
)

// TestRefund is §9.6.
func TestRefund(t *testing.T) {
	t.Parallel()
	r := setup(t)
	bought := func(t *testing.T, changes ...any) (string, string) {
		ref := reference()
		return ref, r.till(t).create(purchase(ref, changes...)).wantState("approved").out()
	}
	full := json.Number("86.4")

	t.Run("R01 full refund", func(t *testing.T) {
		ref, out := bought(t)
		before := r.till(t).fetch(ref).wantState("approved")
		a := r.till(t).create(refundOf(ref, reference(), "amount", full, "refundReason", "other")).wantState("approved").wantKeys(columnR1...)
		if a.text("provider") != "alipay" || a.text("saleType") != "customerPresentedToken" || a.text("originalOutTradeNumber") != out || a.out() == out ||
			a.text("originalTransactionReference") != ref || a.text("refundReason") != "other" || a.text("terminalId") != "3" {
			a.errorf("want provider, sale type and number of the purchase")
		}
		r.wantBooks(t, a.out(), "refund 8640 AUD done")
		if after := r.till(t).fetch(ref).wantState("approved"); string(after.raw) != string(before.raw) { // §3.4
			after.errorf("want the purchase unchanged: %s", before.raw)
		}

		shown := reference()
		b := r.till(t).create(qr(shown, "provider", "wechat")).wantState("pending")
		r.phone(t, b.text("merchantToken"), "approve")
		r.till(t).final(shown).wantState("approved")
		c := r.till(t).create(refundOf(shown, reference())).wantState("approved")
		if c.text("provider") != "wechat" || c.text("saleType") != "merchantPresentedToken" {
			c.errorf("want provider and sale type of the purchase")
		}
	})
	t.Run("R02 reasons", func(t *testing.T) {
		ref, _ := bought(t)
		for _, reason := range []string{"other", "changeOfMind", "faulty", "notAsDescribed", "wrongProduct", "productNoLongerNeeded", "didNotMeetExpectations"} {
			a := r.till(t).create(refundOf(ref, reference(), "refundReason", reason, "amount", json.Number("1"))).wantState("approved")
			if a.text("refundReason") != reason {
				a.errorf("want %s", reason)
			}
		}
		for _, reason := range []string{"", "Faulty", "broken"} {
			r.till(t).create(refundOf(ref, reference(), "refundReason", reason)).wantFailure(400, "invalidRequest", "refundReason")
		}
	})
	t.Run("R03 in parts", func(t *testing.T) {
		ref, out := bought(t)
		r.till(t).create(refundOf(ref, reference(), "amount", json.Number("20.00"))).wantState("approved")
		r.till(t).create(refundOf(ref, reference(), "amount", json.Number("66.4"))).wantState("approved")
		r.wantRefunded(t, out, 8640, 2)
		r.till(t).create(refundOf(ref, reference(), "amount", json.Number("0.01"))).wantFailure(409, "refundAmountExceeded")
	})
	t.Run("R04 more than is left", func(t *testing.T) {
		ref, out := bought(t)
		back := reference()
		r.till(t).create(refundOf(ref, back, "amount", json.Number("86.41"))).wantFailure(409, "refundAmountExceeded")
		r.till(t).fetch(back).wantFailure(404, "transactionNotFound")
		r.till(t).create(refundOf(ref, back)).wantState("approved") // The reference was not used up.
		r.till(t).create(refundOf(ref, reference(), "amount", json.Number("66.41"))).wantFailure(409, "refundAmountExceeded")
		r.wantRefunded(t, out, 2000, 1)
	})
	t.Run("R05 of what is not an approved purchase", func(t *testing.T) {
		pending, declined, cancelled := reference(), reference(), reference()
		r.till(t).create(qr(pending)).wantState("pending")
		r.till(t).create(purchase(declined, "customerToken", code("alipay", "decline"))).wantDeclined("declined")
		r.till(t).create(purchase(cancelled)).wantState("approved")
		r.till(t).cancel(cancelled).wantState("cancelled")
		paid, _ := bought(t)
		back := reference()
		r.till(t).create(refundOf(paid, back)).wantState("approved")
		next := reference()
		for _, original := range []string{pending, declined, cancelled, back} {
			r.till(t).create(refundOf(original, next)).wantFailure(409, "originalTransactionNotApproved")
		}
		r.till(t).create(refundOf("unknown", next)).wantFailure(400, "originalTransactionNotFound")
		r.till(t).create(refundOf(next, next)).wantFailure(400, "originalTransactionNotFound")
		r.till(t).create(refundOf(paid, paid)).wantFailure(409, "transactionReferenceConflict")
		r.till(t).fetch(next).wantFailure(404, "transactionNotFound")
		r.till(t).create(refundOf(paid, next)).wantState("approved")
	})
	t.Run("R06 another currency", func(t *testing.T) {
		ref, out := bought(t)
		r.till(t).create(refundOf(ref, reference(), "currency", "nzd")).wantFailure(400, "unsupportedCurrency", "currency")
		r.till(t).create(refundOf(ref, reference(), "currency", "AUD")).wantState("approved")
		r.wantRefunded(t, out, 2000, 1)
	})
	t.Run("R07 resend", func(t *testing.T) {
		ref, out := bought(t)
		back := reference()
		a := r.till(t).create(refundOf(ref, back)).wantState("approved")
		b := r.till(t).create(refundOf(ref, back, "amount", json.Number("20.00"), "note", "again")).wantState("approved")
		if string(a.raw) != string(b.raw) {
			b.errorf("want the answer of before: %s", a.raw)
		}
		r.wantRefunded(t, out, 2000, 1)
		r.till(t).create(refundOf(ref, back, "amount", json.Number("21"))).wantFailure(409, "transactionReferenceConflict", "amount")
		r.till(t).create(refundOf(ref, back, "refundReason", "other")).wantFailure(409, "transactionReferenceConflict", "refundReason")
		other, _ := bought(t)
		r.till(t).create(refundOf(other, back)).wantFailure(409, "transactionReferenceConflict", "originalTransactionReference")
		r.wantRefunded(t, out, 2000, 1)
	})
	t.Run("R07 fifty at once", func(t *testing.T) {
		ref, out := bought(t)
		back := reference()
		together(50, func(int) { r.till(t).create(refundOf(ref, back)).wantState("approved") })
		r.wantRefunded(t, out, 2000, 1)
	})
	t.Run("R08 purchaserBillingAmount", func(t *testing.T) {
		ref := reference() // checkExchange holds every answer against types and arithmetic; here are the seed's two, side by side.
		a := r.till(t).create(purchase(ref)).wantState("approved")
		b := r.till(t).create(refundOf(ref, reference(), "amount", full)).wantState("approved")
		bought, back := a.object["exchangeDetails"].(map[string]any), b.object["exchangeDetails"].(map[string]any)
		if _, ok := bought["purchaserBillingAmount"].(json.Number); !ok {
			a.errorf("want a number")
		}
		if _, ok := back["purchaserBillingAmount"].(string); !ok {
			b.errorf("want a string")
		}
	})
	t.Run("R09 sums are positive", func(t *testing.T) {
		ref, _ := bought(t)
		a := r.till(t).create(refundOf(ref, reference())).wantState("approved")
		if a.number("amount") != "20" || a.number("settlementAmount") != "20" || a.number("amountCaptured") != "20" {
			a.errorf("want 20 three times")
		}
		r.till(t).create(refundOf(ref, reference(), "amount", json.Number("-20"))).wantFailure(400, "invalidAmount", "amount")
	})
	t.Run("R10 two at once that together exceed", func(t *testing.T) {
		for range 4 {
			ref, out := bought(t)
			answers := make(chan reply, 2)
			together(2, func(int) { answers <- r.till(t).create(refundOf(ref, reference(), "amount", json.Number("50"))) })
			a, b := <-answers, <-answers
			if b.status == 200 {
				a, b = b, a
			}
			a.wantState("approved")
			b.wantFailure(409, "refundAmountExceeded")
			r.wantRefunded(t, out, 5000, 1)
		}
	})
}

// TestRefundWindow: 365 days from the purchase (§3.4).
func TestRefundWindow(t *testing.T) {
	t.Parallel()
	r := setup(t)
	ref := reference()
	a := r.till(t).create(purchase(ref)).wantState("approved")
	r.clock.hold(a.time("created").Add(365 * 24 * time.Hour))
	b := r.till(t).create(refundOf(ref, reference())).wantState("approved")
	if b.text("settlementBatch") <= a.text("settlementBatch") {
		b.errorf("want it in the batch of its own day, after %s", a.text("settlementBatch"))
	}
	r.clock.hold(a.time("created").Add(365*24*time.Hour + time.Millisecond))
	back := reference()
	r.till(t).create(refundOf(ref, back)).wantFailure(409, "refundWindowExpired")
	r.till(t).fetch(back).wantFailure(404, "transactionNotFound")
	r.wantRefunded(t, a.out(), 2000, 1)
}

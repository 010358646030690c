package upp_test

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"
)

// TestCancel is §9.5.
func TestCancel(t *testing.T) {
	t.Parallel()
	r := setup(t)
	keptC1 := with(columnC1, "failure", "failureDescription")

	t.Run("C01 pending, merchant-presented", func(t *testing.T) {
		ref := reference()
		a := r.till(t).create(qr(ref)).wantState("pending")
		b := r.till(t).under("/api/v1").cancel(ref).wantState("cancelled").wantKeys(with(columnM0, "approved", "failure", "failureDescription")...)
		if b.text("failure") != "cancelled" || b.text("failureDescription") != "Cancelled by the merchant." {
			b.errorf("want the words of V7")
		}
		r.phone(t, a.text("merchantToken"), "approve")
		r.wantBooks(t, a.out())
		r.till(t).poll(ref).wantState("cancelled")
	})
	t.Run("C02 pending, customer-presented", func(t *testing.T) {
		ref := reference()
		a := r.till(t).create(purchase(ref, "customerToken", code("alipay", "pending_then_approve_3s"))).wantState("pending")
		r.till(t).cancel(ref).wantState("cancelled").wantKeys(with(columnC0, "approved", "failure", "failureDescription")...)
		r.till(t).poll(ref).wantState("cancelled")
		r.wantBooks(t, a.out())
	})
	t.Run("C03 approved", func(t *testing.T) {
		ref := reference()
		a := r.till(t).create(purchase(ref)).wantState("approved")
		b := r.till(t).cancel(ref).wantState("cancelled").wantKeys(keptC1...)
		for _, name := range []string{"paymentTime", "settlementBatch", "providerReference", "buyerIdentity"} {
			if b.object[name] != a.object[name] {
				b.errorf("%s: want %v kept", name, a.object[name])
			}
		}
		r.wantBooks(t, a.out(), "payment 8640 AUD reversed")
		r.till(t).fetch(ref).wantState("cancelled").wantKeys(keptC1...)
	})
	t.Run("C06 a refund", func(t *testing.T) {
		ref, back := reference(), reference()
		a := r.till(t).create(purchase(ref)).wantState("approved")
		b := r.till(t).create(refundOf(ref, back)).wantState("approved")
		c := r.till(t).cancel(back).wantFailure(409, "refundCannotBeCancelled")
		if c.text("failureDescription") != "Only purchases can be cancelled." {
			c.errorf("want the words of V8")
		}
		r.till(t).fetch(back).wantState("approved")
		r.wantBooks(t, a.out(), "payment 8640 AUD done")
		r.wantBooks(t, b.out(), "refund 2000 AUD done")
	})
	t.Run("C07 twice", func(t *testing.T) {
		for _, body := range []object{qr(reference()), purchase(reference())} {
			ref := body["transactionReference"].(string)
			r.till(t).create(body).want(200)
			first := r.till(t).cancel(ref).wantState("cancelled")
			if second := r.till(t).cancel(ref).wantState("cancelled"); string(second.raw) != string(first.raw) {
				second.errorf("want the same as before: %s", first.raw)
			}
		}
	})
	t.Run("C08 bodies", func(t *testing.T) {
		for _, body := range []string{"", "{}", ` {"reason":"customer left"} `, "\n{}\n"} {
			ref := reference()
			r.till(t).create(qr(ref)).wantState("pending")
			r.till(t).post("/transactions/"+ref+"/cancel", body).wantState("cancelled")
		}
		ref := reference()
		r.till(t).create(qr(ref)).wantState("pending")
		for _, body := range []string{"[]", "null", "1", `"x"`, "{", "{}{}", "cancel", "\xff"} {
			r.till(t).post("/transactions/"+ref+"/cancel", body).wantFailure(400, "invalidRequest")
		}
		r.till(t).fetch(ref).wantState("pending")
		r.till(t).do("POST", "/v1/transactions/"+ref+"/cancel", "").wantState("cancelled") // Neither body nor Content-Type.
	})
	t.Run("C09 unknown reference", func(t *testing.T) {
		ref := reference()
		r.till(t).cancel(ref).wantFailure(404, "transactionNotFound")
		r.till(t).cancel(ref).wantFailure(404, "transactionNotFound")
		r.till(t).fetch(ref).wantFailure(404, "transactionNotFound")
		sent := r.tap.count("POST payments")
		a := r.till(t).create(purchase(ref)).wantState("cancelled")
		if a.text("failure") != "cancelled" || r.tap.count("POST payments") != sent {
			a.errorf("want it cancelled and never sent")
		}
		r.wantBooks(t, a.out())
		if b := r.till(t).create(purchase(ref)).wantState("cancelled"); b.out() != a.out() {
			b.errorf("want the transaction of before")
		}
		r.till(t).create(purchase(ref, "amount", json.Number("1"))).wantFailure(409, "transactionReferenceConflict", "amount")
		r.till(t).poll(ref).wantState("cancelled")
		r.till(t).cancel(ref).wantState("cancelled")
		r.till(t).create(refundOf(ref, reference())).wantFailure(409, "originalTransactionNotApproved")
	})
	t.Run("C10 approval racing a cancel", func(t *testing.T) {
		for range 8 {
			ref := reference()
			a := r.till(t).create(qr(ref)).wantState("pending")
			polled := later(func() reply { return r.till(t).final(ref) })
			together(2, func(i int) {
				if i == 0 {
					r.till(t).cancel(ref).wantState("cancelled")
					return
				}
				r.phone(t, a.text("merchantToken"), "approve")
			})
			// The poll may have seen it approved in between, or straight away cancelled.
			if b := <-polled; b.state() != "cancelled" && b.state() != "approved" {
				b.errorf("want it final")
			}
			r.till(t).final(ref).wantState("cancelled")
			if !within(func() bool {
				books := r.books(t, a.out())
				return len(books) == 0 || len(books) == 1 && books[0].State == "reversed"
			}) {
				t.Errorf("%s: charged: %v", ref, r.books(t, a.out()))
			}
		}
	})
	t.Run("C11 change of tender", func(t *testing.T) {
		ref, next := reference(), reference()
		a := r.till(t).create(qr(ref)).wantState("pending")
		r.till(t).cancel(ref).wantState("cancelled")
		b := r.till(t).create(purchase(next, "provider", "wechat", "customerToken", code("wechat", "approve"))).wantState("approved")
		r.wantBooks(t, a.out())
		r.wantBooks(t, b.out(), "payment 8640 AUD done")
	})
	t.Run("C12 half refunded", func(t *testing.T) {
		ref, half := reference(), reference()
		a := r.till(t).create(purchase(ref)).wantState("approved")
		r.till(t).create(refundOf(ref, half, "amount", json.Number("43.2"))).wantState("approved")
		r.till(t).cancel(ref).wantState("cancelled").wantKeys(keptC1...)
		r.wantBooks(t, a.out(), "payment 8640 AUD done")
		r.wantRefunded(t, a.out(), 8640, 2)
		r.till(t).fetch(half).wantState("approved")
		r.till(t).create(refundOf(ref, reference(), "amount", json.Number("1"))).wantFailure(409, "originalTransactionNotApproved")
	})
	t.Run("C12 wholly refunded", func(t *testing.T) {
		ref := reference()
		a := r.till(t).create(purchase(ref)).wantState("approved")
		r.till(t).create(refundOf(ref, reference(), "amount", json.Number("86.4"))).wantState("approved")
		r.till(t).cancel(ref).wantState("cancelled")
		r.wantRefunded(t, a.out(), 8640, 1)
	})
	t.Run("declined", func(t *testing.T) {
		ref := reference()
		a := r.till(t).create(purchase(ref, "customerToken", code("alipay", "insufficient_funds"))).wantDeclined("insufficientFunds")
		r.till(t).cancel(ref).wantState("cancelled")
		r.till(t).fetch(ref).wantState("cancelled")
		r.wantBooks(t, a.out())
	})
	t.Run("together with a refund", func(t *testing.T) {
		for range 4 {
			ref, back := reference(), reference()
			a := r.till(t).create(purchase(ref)).wantState("approved")
			together(2, func(i int) {
				if i == 0 {
					r.till(t).cancel(ref).wantState("cancelled")
					return
				}
				if b := r.till(t).create(refundOf(ref, back)); b.status != http.StatusOK {
					b.wantFailure(409, "originalTransactionNotApproved")
				}
			})
			if !within(func() bool { return r.givenBack(t, a.out()) == 8640 }) {
				t.Errorf("%s: given back: got %d, want 8640", ref, r.givenBack(t, a.out()))
			}
		}
	})
}

// givenBack is what a payment's books show as returned, by reversal or by refunds.
func (r *rig) givenBack(t *testing.T, number string) int64 {
	t.Helper()
	var minor int64
	for _, m := range r.books(t, "") {
		if m.OriginalReference == number || m.Reference == number && m.State == "reversed" {
			minor += m.AmountMinor
		}
	}
	return minor
}

// TestCancelWindow is C04 and C05: 24 hours from created, inclusive (§6.2).
func TestCancelWindow(t *testing.T) {
	t.Parallel()
	r := setup(t)
	for _, tt := range []struct {
		name  string
		after time.Duration
		state string // Empty for a refusal.
	}{
		{"C04 at 23 h 59 min", 23*time.Hour + 59*time.Minute, "cancelled"},
		{"C04 at 24 h to the millisecond", 24 * time.Hour, "cancelled"},
		{"C05 a millisecond later", 24*time.Hour + time.Millisecond, ""},
		{"C05 at 25 h", 25 * time.Hour, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r.clock.hold(time.Time{})
			ref, declined, half := reference(), reference(), reference()
			a := r.till(t).create(purchase(ref)).wantState("approved")
			r.till(t).create(purchase(declined, "customerToken", code("alipay", "decline"))).wantDeclined("declined")
			b := r.till(t).create(purchase(half)).wantState("approved")
			r.till(t).create(refundOf(half, reference())).wantState("approved")
			r.clock.hold(a.time("created").Add(tt.after))
			if tt.state == "" {
				r.till(t).cancel(ref).wantFailure(409, "cancelWindowExpired")
				r.clock.hold(b.time("created").Add(tt.after))
				r.till(t).cancel(half).wantFailure(409, "cancelWindowExpired")
				r.till(t).fetch(ref).wantState("approved")
				r.wantBooks(t, a.out(), "payment 8640 AUD done")
			} else {
				r.till(t).cancel(ref).wantState(tt.state)
				r.till(t).cancel(ref).wantState(tt.state)
				r.wantBooks(t, a.out(), "payment 8640 AUD reversed")
			}
			r.till(t).cancel(declined).wantState("cancelled") // At any time (§3.7).
			r.clock.hold(a.time("created").Add(25 * time.Hour))
			r.till(t).cancel(declined).wantState("cancelled")
		})
	}
}

func (a reply) time(name string) time.Time { a.t.Helper(); return time.UnixMilli(a.millis(name)) }

// TestClosedReference: a cancel keeps an unknown reference closed for 24 hours (§3.7), and no longer.
func TestClosedReference(t *testing.T) {
	t.Parallel()
	r := setup(t)
	early, late := reference(), reference()
	for _, ref := range []string{early, late} {
		r.till(t).cancel(ref).wantFailure(404, "transactionNotFound")
	}
	r.clock.pass(24*time.Hour - time.Minute)
	r.till(t).create(purchase(early)).wantState("cancelled")
	r.clock.pass(time.Minute + time.Second)
	r.till(t).create(purchase(late)).wantState("approved")
	r.till(t).create(purchase(early)).wantState("cancelled")
}

// TestCancelWhileUnknown: the wallet has taken the payment and its answer is lost; the cancel is answered at once, and the money goes back.
func TestCancelWhileUnknown(t *testing.T) {
	t.Parallel()
	r := setup(t, func(s *settings) { s.createWait = 400 * time.Millisecond })
	r.tap.lose(func(call string) bool { return call == "POST payments" || call == "GET payments" })
	for _, tt := range []struct {
		name string
		body object
		want []string
	}{
		{"a code", purchase(reference()), []string{"payment 8640 AUD reversed"}},
		{"a QR code", qr(reference()), nil},
		{"a request that never arrived", purchase(reference(), "customerToken", code("alipay", "request_lost")), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ref := tt.body["transactionReference"].(string)
			a := r.till(t).create(tt.body).wantState("pending")
			if a.took < r.createWait || a.took > r.createWait+wakeMax {
				a.errorf("create was held for %v, want %v", a.took, r.createWait)
			}
			b := r.till(t).cancel(ref).wantState("cancelled")
			if b.took > wakeMax {
				b.errorf("took %v", b.took)
			}
			r.till(t).poll(ref).wantState("cancelled")
			r.wantBooks(t, a.out(), tt.want...)
		})
	}
}

// TestCancelFaults: the cancel's own answer is lost, or it never arrives; it is repeated until the network has heard it.
func TestCancelFaults(t *testing.T) {
	t.Parallel()
	r := setup(t)
	for _, behaviour := range []string{"cancel_no_answer", "cancel_lost"} {
		t.Run(behaviour+" after approval", func(t *testing.T) {
			ref := reference()
			a := r.till(t).create(purchase(ref, "customerToken", code("alipay", behaviour))).wantState("approved")
			r.till(t).cancel(ref).wantState("cancelled")
			r.wantBooks(t, a.out(), "payment 8640 AUD reversed")
			r.till(t).fetch(ref).wantState("cancelled")
		})
		t.Run(behaviour+" while pending", func(t *testing.T) {
			ref := reference()
			a := r.till(t).create(qr(ref, "amount", amountFor(behaviour))).wantState("pending")
			r.till(t).cancel(ref).wantState("cancelled")
			calls := r.tap.count("POST payments cancel")
			if calls == 0 {
				t.Error("the network was not told")
			}
			// The customer may still be faster than the cancel that is repeated: then the money goes back.
			r.phone(t, a.text("merchantToken"), "approve")
			if !within(func() bool {
				books := r.books(t, a.out())
				return r.tap.count("POST payments cancel") >= 2 && (len(books) == 0 || books[0].State == "reversed")
			}) {
				t.Errorf("charged: %v", r.books(t, a.out()))
			}
			r.till(t).fetch(ref).wantState("cancelled")
		})
	}
}

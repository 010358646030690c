package upp_test

import (
	"context"
	"encoding/json"
	"net/http"
	"testing"
	"time"
)

// wakeMax is how soon a poll must wake. It is below the ten seconds after which waiters read by themselves.
const wakeMax = 4 * time.Second

// TestPoll is §9.4, with polls whose connections are parked and with such that wait in their handlers.
func TestPoll(t *testing.T) {
	t.Parallel()
	t.Run("parked", func(t *testing.T) { testPoll(t, setup(t)) })
	t.Run("in handlers", func(t *testing.T) { testPoll(t, setup(t, func(s *settings) { s.unparked = true })) })
}

func testPoll(t *testing.T, r *rig) {
	paid, back := reference(), reference()
	r.till(t).create(purchase(paid)).wantState("approved")
	r.till(t).create(refundOf(paid, back)).wantState("approved")
	api := r.till(t).under("/api/v1")

	t.Run("F01 fetch of a pending one", func(t *testing.T) {
		ref := reference()
		r.till(t).create(qr(ref)).wantState("pending")
		if a := r.till(t).fetch(ref).wantState("pending").wantKeys(columnM0...); a.took > wakeMax {
			a.errorf("took %v", a.took)
		}
	})
	t.Run("F02 fetch of a final one", func(t *testing.T) {
		r.till(t).fetch(paid).wantState("approved").wantKeys(columnC1...)
	})
	t.Run("F05 poll of a final one", func(t *testing.T) {
		if a := api.poll(paid).wantState("approved"); a.took > wakeMax {
			a.errorf("took %v", a.took)
		}
		declined := reference()
		r.till(t).create(purchase(declined, "customerToken", code("alipay", "decline"))).wantDeclined("declined")
		api.poll(declined).wantDeclined("declined")
		cancelled := reference()
		r.till(t).create(qr(cancelled)).wantState("pending")
		r.till(t).cancel(cancelled).wantState("cancelled")
		api.poll(cancelled).wantState("cancelled")
	})
	t.Run("F07 dropped connection", func(t *testing.T) {
		ref := reference()
		a := r.till(t).create(qr(ref)).wantState("pending")
		ctx, hangUp := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() {
			_, err := api.try(ctx, http.MethodGet, "/api/v1/transactions/"+ref+"?waitForCompletion=true", "")
			left <- err
		}()
		r.waiting(t, 1)
		hangUp()
		if err := <-left; err == nil {
			t.Error("the dropped poll was answered")
		}
		r.waiting(t, 0)
		r.till(t).fetch(ref).wantState("pending")
		again := later(func() reply { return api.poll(ref) })
		r.waiting(t, 1)
		r.phone(t, a.text("merchantToken"), "approve")
		b := <-again
		b.wantState("approved")
		r.wantBooks(t, a.out(), "payment 2450 AUD done")
	})
	t.Run("F08 ten polls at once", func(t *testing.T) {
		ref := reference()
		a := r.till(t).create(qr(ref)).wantState("pending")
		answers := make(chan reply, 10)
		go together(10, func(int) { answers <- api.poll(ref) })
		r.waiting(t, 10)
		r.phone(t, a.text("merchantToken"), "approve")
		for range 10 {
			b := <-answers
			b.wantState("approved")
		}
		r.waiting(t, 0)
	})
	t.Run("F09 poll while another cancels", func(t *testing.T) {
		ref := reference()
		r.till(t).create(qr(ref)).wantState("pending")
		polled := later(func() reply { return api.poll(ref) })
		r.waiting(t, 1)
		r.till(t).cancel(ref).wantState("cancelled")
		a := <-polled
		a.wantState("cancelled")
	})
	t.Run("F10 unknown reference", func(t *testing.T) {
		r.till(t).fetch("unknown").wantFailure(404, "transactionNotFound")
		if a := api.poll("unknown").wantFailure(404, "transactionNotFound"); a.took > wakeMax {
			a.errorf("took %v", a.took)
		}
	})
	t.Run("F11 waitForCompletion=false", func(t *testing.T) {
		ref := reference()
		r.till(t).create(qr(ref)).wantState("pending")
		for _, query := range []string{"?waitForCompletion=false", "?waitForCompletion=", "?waitForCompletion=1", "?waitforcompletion=true"} {
			if a := api.do("GET", "/api/v1/transactions/"+ref+query, "").wantState("pending"); a.took > wakeMax {
				a.errorf("took %v", a.took)
			}
		}
	})
	t.Run("F12 fetch and poll of a refund", func(t *testing.T) {
		r.till(t).fetch(back).wantState("approved").wantKeys(columnR1...)
		api.poll(back).wantState("approved").wantKeys(columnR1...)
		big, slow := reference(), reference()
		r.till(t).create(purchase(big, "amount", json.Number("20000"))).wantState("approved")
		r.till(t).create(refundOf(big, slow, "amount", amountFor("pending_then_approve_3s"))).wantState("pending").wantKeys(columnR0...)
		r.till(t).fetch(slow).wantState("pending")
		api.final(slow).wantState("approved").wantKeys(columnR1...)
	})
}

// TestPollTimesOut is F03 and F06, with a shorter wait than 29 seconds; core_test.go holds the real one against the 30 of the seed.
func TestPollTimesOut(t *testing.T) {
	t.Parallel()
	r := setup(t, func(s *settings) { s.pollWait = 200 * time.Millisecond })
	ref := reference()
	a := r.till(t).create(qr(ref)).wantState("pending")
	for range 2 {
		b := r.till(t).under("/api/v1").poll(ref).want(http.StatusAccepted).wantKeys(columnM0...)
		if b.took < r.pollWait || string(b.raw) != string(a.raw) {
			b.errorf("after %v; want the transaction as it was: %s", b.took, a.raw)
		}
	}
	r.phone(t, a.text("merchantToken"), "approve")
	r.till(t).final(ref).wantState("approved")
}

// TestPollWakes is F04. The engine's clock stands still, so that nothing comes due by itself: only the network's event can wake the poll.
func TestPollWakes(t *testing.T) {
	t.Parallel()
	r := setup(t)
	for _, tap := range []string{"approve", "decline"} {
		t.Run("F04 "+tap, func(t *testing.T) {
			r.clock.hold(time.Time{})
			ref := reference()
			a := r.till(t).create(qr(ref)).wantState("pending")
			r.clock.hold(r.clock.now())
			polled := later(func() reply { return r.till(t).under("/api/v1").poll(ref) })
			r.waiting(t, 1)
			tapped := time.Now()
			r.phone(t, a.text("merchantToken"), tap)
			b := <-polled
			if took := time.Since(tapped); took > wakeMax {
				b.errorf("answered after %v", took)
			}
			if tap == "approve" {
				b.wantState("approved").wantKeys(columnM1...)
				r.wantBooks(t, a.out(), "payment 2450 AUD done")
				return
			}
			b.wantDeclined("customerCancelled")
			r.wantBooks(t, a.out())
		})
	}
}

// TestStopping: a server that stops answers those who poll, and those who come to poll, with 202.
func TestStopping(t *testing.T) {
	t.Parallel()
	r := setup(t, func(s *settings) { s.pollWait = 2 * wakeMax })
	big, ref, slow := reference(), reference(), reference()
	r.till(t).create(qr(ref)).wantState("pending")
	r.till(t).create(purchase(big, "amount", json.Number("20000"))).wantState("approved")
	r.till(t).create(refundOf(big, slow, "amount", amountFor("pending_forever"))).wantState("pending")
	answers := make(chan reply, 4)
	go together(4, func(i int) { answers <- r.till(t).poll([]string{ref, slow}[i%2]) })
	r.waiting(t, 4)
	r.stop()
	for range 4 {
		a := <-answers
		if a.want(http.StatusAccepted).state() != "pending" || a.took > wakeMax {
			a.errorf("want it pending, and released after less than %v", a.took)
		}
	}
	for _, late := range []string{ref, slow} {
		if a := r.till(t).poll(late).want(http.StatusAccepted); a.state() != "pending" || a.took > wakeMax {
			a.errorf("want it pending at once")
		}
	}
	r.till(t).fetch(ref).wantState("pending")
	r.till(t).poll(big).wantState("approved")
}

// TestLifetimes: a purchase that nobody pays ends with its lifetime (§3.9), and cannot be paid any more.
func TestLifetimes(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		body     object
		lifetime time.Duration
	}{
		{"a QR code", qr(reference()), 2 * time.Hour},
		{"a zippay code", purchase(reference(), "provider", "zippay", "customerToken", code("zippay", "pending_forever")), 120 * time.Second},
		{"another code", purchase(reference(), "customerToken", code("alipay", "pending_forever")), 5 * time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := setup(t)
			ref := tt.body["transactionReference"].(string)
			a := r.till(t).create(tt.body).wantState("pending")
			r.clock.pass(tt.lifetime - 10*time.Second)
			asked := r.tap.count("GET payments")
			if !within(func() bool { return r.tap.count("GET payments") > asked }) {
				t.Error("the engine did not ask")
			}
			r.till(t).fetch(ref).wantState("pending")
			polled := later(func() reply { return r.till(t).poll(ref) })
			r.waiting(t, 1)
			r.clock.pass(10 * time.Second)
			b := <-polled
			if b.status == http.StatusAccepted {
				b = r.till(t).final(ref)
			}
			b.wantDeclined("expired")
			if qr := a.text("merchantToken"); qr != "" {
				r.phone(t, qr, "approve")
			}
			r.wantBooks(t, a.out())
			r.till(t).create(tt.body).wantDeclined("expired")
		})
	}
}

// TestPaidAtTheLastMoment: what was paid before it expired is approved, though we hear of it only when we close it.
func TestPaidAtTheLastMoment(t *testing.T) {
	t.Parallel()
	r := setup(t)
	ref := reference()
	a := r.till(t).create(qr(ref)).wantState("pending")
	r.tap.lose(func(call string) bool { return call == "GET payments" })
	r.phone(t, a.text("merchantToken"), "approve")
	r.clock.pass(2*time.Hour + time.Second)
	r.till(t).final(ref).wantState("approved")
	r.wantBooks(t, a.out(), "payment 2450 AUD done")
}

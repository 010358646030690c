package payment_test

import (
	"testing"
	"time"

	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
)

func TestAWholeVoidIsRefusedBesideRefunds(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		void := func(key string) (payment.View, error) {
			return e.engine.Void(e.ctx(), payment.VoidCommand{Caller: e.caller, Key: keyed("upp", key), Whole: true, Wait: 30 * time.Second})
		}
		e.sell("a", 10_000)
		e.refund("r", "a", 1)
		_, err := void("a")
		fails(t, "refunded in part", err, payment.ErrConflict)
		e.sell("b", 10_000)
		e.refund("r2", "b", 10_000)
		_, err = void("b")
		fails(t, "refunded in full", err, payment.ErrConflict)
		e.sell("c", 10_000)
		v, err := void("c")
		is(t, "error", err, nil)
		is(t, "state", v.Payment.State, payment.Voided)
		_, err = void("c") // Again.
		is(t, "error", err, nil)
		e.settle()
	})
}

func TestARefundKeepsToTheNarrowerWindow(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		v := e.sell("a", 10_000)
		refund := func(key string, window time.Duration) error {
			_, err := e.engine.Refund(e.ctx(), payment.RefundCommand{Caller: e.caller, Key: keyed("upp", key), Request: []byte(key), Payment: v.Payment.ID,
				Amount: money.New(1, v.Payment.Amount.Currency()), Window: window, Wait: 30 * time.Second})
			return err
		}
		e.skip(2 * time.Hour)
		fails(t, "after the command's window", refund("r1", time.Hour), payment.ErrWindow)
		is(t, "within it", refund("r2", 3*time.Hour), nil)
		is(t, "within the policy's", refund("r3", 0), nil)
		e.settle()
	})
}

func TestATrailTellsEverythingInItsOrder(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		sold := e.sell("a", 10_000)
		e.skip(time.Second)
		r := e.refund("r", "a", 1)
		e.skip(time.Second)
		e.refund("r2", "a", 2)
		v, ops, err := e.engine.Trail(e.ctx(), sold.Payment.Merchant, sold.Payment.ID)
		is(t, "error", err, nil)
		is(t, "attempt", v.Attempt.ID, sold.Attempt.ID)
		is(t, "refunded", v.Payment.Refunded, 3)
		is(t, "operations", len(ops), 3)
		is(t, "first", ops[0].ID, sold.Attempt.ID)
		is(t, "second", ops[1].ID, r.Refund.ID)
		_, _, err = e.engine.Trail(e.ctx(), sold.Payment.Merchant, 999_999_999)
		fails(t, "unknown", err, payment.ErrNotFound)
		e.settle()
	})
}

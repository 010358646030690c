package payment_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/tillgate/tillgate/payment"
)

// ending is what a watch was told, and when.
type ending struct {
	view  payment.View
	err   error
	after time.Duration
}

// watch begins to watch a payment until it is captured.
func (e *env) watch(ctx context.Context, v payment.View, limit time.Duration) <-chan ending {
	told, _ := e.watchEnded(ctx, v, limit)
	return told
}

func (e *env) watchEnded(ctx context.Context, v payment.View, limit time.Duration) (told <-chan ending, end func()) {
	start, out := time.Now(), make(chan ending, 2)
	captured := func(v payment.View) bool { return v.Payment.State == payment.Captured }
	end = e.engine.Watch(ctx, v.Payment.Merchant, v.Payment.ID, limit, captured,
		func(v payment.View, err error) { out <- ending{v, err, time.Since(start)} })
	return out, end
}

func TestWatchTellsAtOnce(t *testing.T) {
	story(t, payment.Provider, func(t *testing.T, e *env) {
		e.bank.next(payment.Sale, approves.slow(1200*time.Millisecond))
		v := e.sell("a", 100, noWait)
		later := e.watch(e.ctx(), v, time.Minute)
		got := <-later
		is(t, "error", got.err, nil)
		is(t, "state", got.view.Payment.State, payment.Captured)
		is(t, "waited", got.after, 1200*time.Millisecond)
		got = <-e.watch(e.ctx(), v, time.Minute)
		is(t, "state of one that was captured before", got.view.Payment.State, payment.Captured)
		is(t, "waited", got.after, 0)
		time.Sleep(2 * time.Minute)
		is(t, "told again", len(later), 0)
		is(t, "still watched", e.signal.(*payment.LocalSignal).Waiting(), 0)
		e.settle()
	})
}

func TestWatchTellsWhatIsThereAtItsLimitAndWhenNobodyWaitsAnyMore(t *testing.T) {
	story(t, payment.Provider, func(t *testing.T, e *env) {
		e.bank.next(payment.Sale, waits)
		v := e.sell("a", 100)
		limited := e.watch(e.ctx(), v, 3*time.Second)
		ctx, cancel := context.WithCancel(e.ctx())
		left := e.watch(ctx, v, time.Minute)
		time.Sleep(time.Second)
		cancel()
		got := <-left
		is(t, "waited by who left", got.after, time.Second)
		is(t, "attempt", got.view.Attempt.State, payment.Waiting)
		got = <-limited
		is(t, "waited at the limit", got.after, 3*time.Second)
		is(t, "attempt", got.view.Attempt.State, payment.Waiting)
		got = <-e.watch(ctx, v, time.Minute)
		is(t, "waited by who has left before", got.after, 0)
		told, end := e.watchEnded(e.ctx(), v, time.Minute)
		time.Sleep(time.Second)
		end()
		end()
		got = <-told
		is(t, "waited by who was ended", got.after, time.Second)
		is(t, "attempt", got.view.Attempt.State, payment.Waiting)
		end()
		is(t, "told again", len(told), 0)
		is(t, "still watched", e.signal.(*payment.LocalSignal).Waiting(), 0)
		e.settle()
	})
}

// A change that comes while the payment is being read has the watch read once more.
func TestWatchMissesNothingWhileItReads(t *testing.T) {
	story(t, payment.Provider, func(t *testing.T, e *env) {
		e.bank.next(payment.Sale, waits)
		v := e.sell("a", 100)
		start, told, reads := time.Now(), make(chan ending, 1), 0
		e.engine.Watch(e.ctx(), v.Payment.Merchant, v.Payment.ID, time.Minute, func(v payment.View) bool {
			if reads++; reads == 1 {
				e.bank.customer(v.Attempt.Number, true)
				e.engine.Nudge(payment.Owed{Merchant: v.Payment.Merchant, Payment: v.Payment.ID, Operation: v.Attempt.ID})
				time.Sleep(2 * time.Second)
				e.stands("a", payment.Captured, payment.Approved)
			}
			return v.Payment.State == payment.Captured
		}, func(v payment.View, err error) { told <- ending{v, err, time.Since(start)} })
		got := <-told
		is(t, "state", got.view.Payment.State, payment.Captured)
		is(t, "waited", got.after, 2*time.Second)
		is(t, "reads", reads, 2)
		e.settle()
	})
}

func TestWatchReadsByItselfWhenSignalsAreLost(t *testing.T) {
	story(t, payment.Provider, func(t *testing.T, e *env) {
		if err := e.end(0); err != nil {
			t.Fatal(err)
		}
		e.engine = e.start(e.store, newDeaf())
		e.bank.next(payment.Sale, waits, approves.slow(1200*time.Millisecond))
		v := e.sell("as a net", 100)
		later := e.watch(e.ctx(), v, time.Minute)
		time.Sleep(11 * time.Second)
		e.bank.customer(v.Attempt.Number, true)
		got := <-later
		is(t, "state", got.view.Payment.State, payment.Captured)
		is(t, "waited", got.after, 20*time.Second)
		got = <-e.watch(e.ctx(), e.sell("at the limit", 100, noWait), 3*time.Second)
		is(t, "state", got.view.Payment.State, payment.Captured)
		is(t, "waited", got.after, 3*time.Second)
		e.settle()
	})
}

func TestAWatchHearsOfAStoreThatFails(t *testing.T) {
	story(t, payment.Provider, func(t *testing.T, e *env) {
		got := make(chan error, 1)
		e.engine.Watch(e.ctx(), 1, 999_999, time.Minute, func(payment.View) bool { return true }, func(_ payment.View, err error) { got <- err })
		fails(t, "a payment that is not there", <-got, payment.ErrNotFound)
		e.engine.WatchRefund(e.ctx(), 1, 999_999, 7, time.Minute, func(payment.RefundView) bool { return true }, func(_ payment.RefundView, err error) { got <- err })
		fails(t, "a refund that is not there", <-got, payment.ErrNotFound)
	})
}

// Nobody else suffers from a watch that panics.
func TestAPanicOfAWatchIsItsCallersError(t *testing.T) {
	story(t, payment.Provider, func(t *testing.T, e *env) {
		e.bank.next(payment.Sale, waits)
		v := e.sell("a", 100)
		got := make(chan error, 1)
		e.engine.Watch(e.ctx(), v.Payment.Merchant, v.Payment.ID, time.Minute, func(payment.View) bool { panic("on purpose") },
			func(_ payment.View, err error) { got <- err })
		if err := <-got; err == nil || !strings.Contains(err.Error(), "on purpose") {
			t.Errorf("got %v", err)
		}
		e.settle()
	})
}

// A link that tells by itself is asked only as a net, and at once about everything when it may have missed something.
func TestAFollowerIsAskedRarely(t *testing.T) {
	story(t, payment.Provider, func(t *testing.T, e *env) {
		e.bank.follows.Store(true)
		e.bank.next(payment.Sale, waits)
		v := e.sell("a", 100, func(c *payment.SaleCommand) { c.Wait, c.Lifetime = time.Second, time.Hour })
		is(t, "attempt", v.Attempt.State, payment.Waiting)
		e.skip(50 * time.Second)
		is(t, "queries in 50 seconds", e.bank.asked(), 0)
		e.skip(11 * time.Second)
		is(t, "queries in a minute", e.bank.asked(), 1)
		e.bank.customer(v.Attempt.Number, true)
		e.skip(10 * time.Second)
		e.stands("a", payment.Open, payment.Waiting)
		e.engine.Missed(e.ctx(), "nobody")
		e.skip(time.Second)
		e.stands("a", payment.Open, payment.Waiting)
		e.engine.Missed(e.ctx(), v.Attempt.Acquirer)
		e.skip(time.Second)
		e.stands("a", payment.Captured, payment.Approved)
		e.settle()
	})
}

// What it tells is only a hint: a question about it that is not answered is asked again soon.
func TestAFollowerWhoseAnswerIsLostIsAskedAgainSoon(t *testing.T) {
	story(t, payment.Provider, func(t *testing.T, e *env) {
		e.bank.follows.Store(true)
		e.bank.next(payment.Sale, waits)
		v := e.sell("a", 100, func(c *payment.SaleCommand) { c.Wait, c.Lifetime = time.Second, time.Hour })
		e.bank.customer(v.Attempt.Number, true)
		e.bank.next("query", lostAnswer)
		e.engine.Nudge(payment.Owed{Merchant: v.Payment.Merchant, Payment: v.Payment.ID, Operation: v.Attempt.ID})
		for range 3 {
			e.skip(15 * time.Second) // Below a minute in all.
		}
		e.stands("a", payment.Captured, payment.Approved)
		e.settle()
	})
}

package payment_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tillgate/tillgate/payment"
)

func TestNothingIsSentThatCouldNotBeStored(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		all := func(payment.Operation) bool { return true }
		e.store.set(func(f *faulty) { f.fail = all })
		_, err := e.trySell(e.command("a", 100))
		fails(t, "a sale", err, errDisk)
		e.store.set(func(f *faulty) { f.fail = nil })
		is(t, "sales", e.bank.sent(payment.Sale), 0)
		_, _, err = e.engine.Find(e.ctx(), e.caller.Merchant.ID, keyed("upp", "a"))
		fails(t, "find", err, payment.ErrNotFound)

		v := e.sell("a", 100)
		e.store.set(func(f *faulty) { f.fail = all })
		_, err = e.tryRefund("r", "a", 10)
		fails(t, "a refund", err, errDisk)
		_, err = e.engine.Cancel(e.ctx(), e.cancelCommand("a"))
		fails(t, "a cancel", err, errDisk)
		e.store.set(func(f *faulty) { f.fail = nil })
		is(t, "messages", len(e.operations(v.Payment)), 1)
		e.settle()
	})
}

// The connection to a database can break during COMMIT: the error says nothing then.
func TestACommitThatFailedAndIsDurableAllTheSame(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		e.store.set(func(f *faulty) {
			f.fail, f.lie = func(op payment.Operation) bool { return op.State == payment.Sent }, true
		})
		_, err := e.trySell(e.command("a", 100))
		fails(t, "a sale", err, errDisk)
		e.store.set(func(f *faulty) { f.fail = nil })
		v := e.sell("a", 100) // The till asks again.
		is(t, "state", v.Payment.State, payment.Refused)
		is(t, "sales", e.bank.sent(payment.Sale), 0)
		e.settle()
	})
}

func TestAnAnswerThatCannotBeStoredAtOnceIsStoredSoonAfter(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		e.store.set(func(f *faulty) { f.fail = func(op payment.Operation) bool { return op.State == payment.Approved } })
		v := e.sell("a", 100, noWait)
		time.Sleep(time.Second)
		e.stands("a", payment.Open, payment.Sent)
		e.store.set(func(f *faulty) { f.fail = nil })
		v, err := e.engine.Await(e.ctx(), v.Payment.Merchant, v.Payment.ID, time.Second, func(v payment.View) bool { return v.Payment.State != payment.Open })
		is(t, "error", err, nil)
		is(t, "state", v.Payment.State, payment.Captured)
		is(t, "undone", e.bank.undos(), 0)
		e.settle()
	})
}

func TestAnAnswerThatIsLostHereIsFoundAgainByItsRow(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		e.bank.next(payment.Sale, approves.slow(100*time.Millisecond))
		e.sell("a", 100, noWait)
		e.store.set(func(f *faulty) { f.fail = func(payment.Operation) bool { return true } })
		time.Sleep(10 * time.Second)
		e.store.set(func(f *faulty) { f.fail = nil })
		e.settle()
		want := payment.Captured
		if e.bank.class == payment.CardHost {
			want = payment.Refused // What cannot be asked about is reversed.
		}
		is(t, "state", e.find("a").Payment.State, want)
	})
}

// A process dies while each kind of message is on its way, before or after it arrived, and another settles everything.
func TestWhatADeadProcessLeftIsSettledByTheNext(t *testing.T) {
	type scene struct {
		name  string
		kind  payment.Kind
		only  payment.Class // The links that have such a message; "" for all.
		state payment.State // Of the payment at the end; "" where it depends on the class of the link.
		play  func(e *env)
	}
	refund := func(e *env) {
		cmd := e.refundCommand("r", "a", 400)
		cmd.Wait = 0
		if _, err := e.engine.Refund(e.ctx(), cmd); err != nil {
			e.t.Fatal(err)
		}
	}
	scenes := []scene{
		{"a sale", payment.Sale, "", "", func(e *env) { e.sell("a", 1_000, noWait) }},
		{"an authorization", payment.Authorization, "", "", func(e *env) { e.sell("a", 1_000, noWait, authorizeOnly) }},
		{"a capture", payment.CaptureOperation, "", payment.Captured, func(e *env) {
			v := e.sell("a", 1_000, authorizeOnly)
			if _, err := e.engine.Capture(e.ctx(), payment.CaptureCommand{Caller: e.caller, Payment: v.Payment.ID, Amount: v.Payment.Amount}); err != nil {
				e.t.Fatal(err)
			}
		}},
		{"a refund", payment.Refund, "", payment.Captured, func(e *env) { e.sell("a", 1_000); refund(e) }},
		{"a void", payment.VoidOperation, "", payment.Voided, func(e *env) {
			e.sell("a", 1_000)
			if _, err := e.engine.Void(e.ctx(), payment.VoidCommand{Caller: e.caller, Key: keyed("upp", "a")}); err != nil {
				e.t.Fatal(err)
			}
		}},
		{"a cancel", payment.CancelOperation, payment.Provider, payment.Cancelled, func(e *env) { e.sell("a", 1_000, authorizeOnly); e.cancel("a") }},
		{"a reversal", payment.Reversal, payment.CardHost, payment.Cancelled, func(e *env) { e.sell("a", 1_000, authorizeOnly); e.cancel("a") }},
		{"the reversal of a refund", payment.Reversal, payment.CardHost, payment.Captured, func(e *env) {
			e.sell("a", 1_000)
			e.bank.next(payment.Refund, garbled)
			refund(e)
			time.Sleep(time.Millisecond)
		}},
		{"a close", payment.Close, payment.Provider, payment.Expired, func(e *env) {
			e.bank.next(payment.Sale, waits)
			e.sell("a", 1_000)
			e.clock.skip(5 * time.Minute)
			time.Sleep(300 * time.Millisecond)
		}},
	}
	for _, sc := range scenes {
		for name, lost := range map[string]act{"before it arrived": lostRequest, "after it arrived": lostAnswer} {
			t.Run(sc.name+" "+name, func(t *testing.T) {
				over(t, sc.only, func(t *testing.T, e *env) {
					e.bank.next(sc.kind, lost)
					sc.play(e)
					synctest.Wait()
					is(t, "messages on their way", e.bank.busy(), true)
					e.takeOver(dead)
					start := time.Now()
					e.rest()
					if since := time.Since(start); since > 5*time.Second {
						t.Errorf("settled after %v", since)
					}
					e.settle()
					if sc.state != "" {
						is(t, "state", e.find("a").Payment.State, sc.state)
					}
				})
			})
		}
	}
}

// Both processes are alive, and both hear answers: the first one's come late.
func TestTwoProcessesHearOfOneOperation(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		for _, kind := range []payment.Kind{payment.Sale, payment.Authorization, payment.CaptureOperation, payment.Refund, payment.VoidOperation,
			payment.Reversal, payment.CancelOperation} {
			e.bank.next(kind, approves.slow(1500*time.Millisecond))
		}
		e.sell("sale", 1_000, noWait)
		e.sell("auth", 1_000, noWait, authorizeOnly)
		e.sell("paid", 1_000)
		e.sell("voided", 1_000)
		time.Sleep(2 * time.Second)
		if auth := e.find("auth"); auth.Payment.State == payment.Authorized {
			if _, err := e.engine.Capture(e.ctx(), payment.CaptureCommand{Caller: e.caller, Payment: auth.Payment.ID, Amount: auth.Payment.Amount}); err != nil {
				t.Fatal(err)
			}
		}
		cmd := e.refundCommand("r", "paid", 400)
		cmd.Wait = 0
		if _, err := e.engine.Refund(e.ctx(), cmd); err != nil {
			t.Fatal(err)
		}
		if _, err := e.engine.Void(e.ctx(), payment.VoidCommand{Caller: e.caller, Key: keyed("upp", "voided")}); err != nil {
			t.Fatal(err)
		}
		e.takeOver(stalled)
		e.settle()
		is(t, "refunded", e.find("paid").Payment.Refunded, 400)
		is(t, "voided", e.find("voided").Payment.State, payment.Voided)
	})
}

func TestRunEndsAfterTheExchangesUnderWay(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		e.bank.next(payment.Sale, approves.slow(1900*time.Millisecond))
		e.sell("a", 100, noWait)
		var waiter sync.WaitGroup
		waiter.Go(func() {
			v, err := e.trySell(e.command("a", 100)) // A till that waits for it meanwhile.
			if err != nil || v.Payment.State != payment.Captured {
				t.Errorf("the waiting till got %s, %v", v.Payment.State, err)
			}
		})
		synctest.Wait()
		start := time.Now()
		is(t, "error", e.end(0), nil)
		is(t, "ended after", time.Since(start), 1900*time.Millisecond)
		waiter.Wait()
		e.stands("a", payment.Captured, payment.Approved)
		_, err := e.trySell(e.command("b", 100))
		fails(t, "a sale afterwards", err, payment.ErrUnavailable)
		_, err = e.tryRefund("r", "a", 10)
		fails(t, "a refund afterwards", err, payment.ErrUnavailable)
		e.engine.Nudge(payment.Owed{Merchant: e.caller.Merchant.ID, Payment: 1, Operation: 1})
		is(t, "sales", e.bank.sent(payment.Sale), 1)
	})
}

// Whatever tills do while the process ends, no exchange is begun that nobody waits for.
func TestRunEndsWhileTillsGoOn(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		ctx, stop := context.WithCancel(e.ctx())
		var tills sync.WaitGroup
		for i := range 8 {
			tills.Go(func() {
				for n := 0; ctx.Err() == nil; n++ {
					v, err := e.trySell(e.command(fmt.Sprint(i, " ", n), 100))
					if err == nil {
						e.engine.Nudge(payment.Owed{Merchant: v.Payment.Merchant, Payment: v.Payment.ID, Operation: v.Attempt.ID})
					}
					time.Sleep(10 * time.Millisecond)
				}
			})
		}
		time.Sleep(50 * time.Millisecond)
		is(t, "error", e.end(0), nil)
		sent := e.bank.sent(payment.Sale)
		time.Sleep(50 * time.Millisecond)
		stop()
		tills.Wait()
		is(t, "sales after the end", e.bank.sent(payment.Sale), sent)
		e.takeOver(dead)
		e.settle()
	})
}

// A laptop sleeps, or a clock is set: what is under way here is not taken for lost.
func TestAClockThatJumpsChangesNothingAboutASaleUnderWay(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		e.bank.next(payment.Sale, approves.slow(1500*time.Millisecond))
		e.sell("a", 100, noWait)
		e.clock.skip(time.Minute)
		e.rest()
		e.stands("a", payment.Captured, payment.Approved)
		is(t, "undone", e.bank.undos(), 0)
		is(t, "queries", e.bank.asked(), 0)
		e.settle()
	})
}

// The lease of a process that ends is kept until its exchanges are over: no other may take them for lost.
func TestTheLeaseLastsAsLongAsTheExchanges(t *testing.T) {
	story(t, payment.CardHost, func(t *testing.T, e *env) {
		e.bank.slowLink = 12 * time.Second
		e.bank.next(payment.Sale, approves.slow(10*time.Second))
		e.sell("a", 100, noWait)
		renewed := make(chan struct{})
		go func() {
			defer close(renewed)
			time.Sleep(8 * time.Second)
			is(t, "lease after eight seconds", e.store.renewedWithin(2*time.Second), true)
		}()
		is(t, "error", e.end(0), nil)
		<-renewed
		e.stands("a", payment.Captured, payment.Approved)
	})
}

// Rows that cannot be attended to must neither be listed without a pause nor keep the others from being found.
func TestWorkForALinkThatIsGoneHoldsUpNobody(t *testing.T) {
	story(t, payment.Provider, func(t *testing.T, e *env) {
		const stuck = 257 // One more than are listed at once.
		e.bank.fromNow(payment.Sale, waits)
		var tills sync.WaitGroup
		for i := range stuck {
			tills.Go(func() { e.sell(fmt.Sprint("stuck ", i), 100) })
		}
		tills.Wait()
		if err := e.end(0); err != nil {
			t.Fatal(err)
		}
		e.rename("bank", "new bank")
		e.bank.next(payment.Sale, waits)
		v := e.sell("a", 100)
		e.bank.customer(v.Attempt.Number, true)
		e.clock.skip(time.Minute)
		counted := e.store.listed()
		time.Sleep(2 * time.Second)
		e.stands("a", payment.Captured, payment.Approved)
		if n := e.store.listed() - counted; n > 30 {
			t.Errorf("owed work was listed %d times in two seconds", n)
		}
		is(t, "flagged", e.find("stuck 0").Attempt.Flagged, true)
		is(t, "it is in the log", len(e.wedged) > 0, true)

		if err := e.end(1); err != nil { // The link is configured again.
			t.Fatal(err)
		}
		e.rename("new bank", "bank")
		v = e.find("stuck 0")
		e.bank.customer(v.Attempt.Number, true)
		e.engine.Nudge(payment.Owed{Merchant: v.Payment.Merchant, Payment: v.Payment.ID, Operation: v.Attempt.ID})
		time.Sleep(10 * time.Millisecond)
		e.stands("stuck 0", payment.Captured, payment.Approved)
		e.wedged = nil
	})
}

// An event that comes while a query is under way is not lost: the query may have an old answer.
func TestANudgeDuringAQueryAsksAgain(t *testing.T) {
	story(t, payment.Provider, func(t *testing.T, e *env) {
		e.bank.next(payment.Sale, waits)
		v := e.sell("a", 100)
		owed := payment.Owed{Merchant: v.Payment.Merchant, Payment: v.Payment.ID, Operation: v.Attempt.ID}
		e.bank.next("query", approves.slow(time.Second))
		e.engine.Nudge(owed)
		time.Sleep(100 * time.Millisecond)
		e.bank.customer(v.Attempt.Number, true)
		for range 10 {
			e.engine.Nudge(owed)
		}
		time.Sleep(time.Second)
		e.stands("a", payment.Captured, payment.Approved)
		is(t, "queries", e.bank.asked(), 2)
		e.settle()
	})
}

func TestNudgesAboutWhatIsSettledOrUnknownDoNothing(t *testing.T) {
	story(t, payment.Provider, func(t *testing.T, e *env) {
		v := e.sell("a", 100)
		owed := payment.Owed{Merchant: v.Payment.Merchant, Payment: v.Payment.ID, Operation: v.Attempt.ID}
		for range 1_000 {
			e.engine.Nudge(owed)
			e.engine.Nudge(payment.Owed{Merchant: 1, Payment: 2, Operation: 3})
		}
		e.rest()
		is(t, "queries", e.bank.asked(), 0)
		payment.NewEngine(e.cfg).Nudge(owed) // Before Run.
		e.settle()
		e.wedged = nil // What nobody knows is in the log.
	})
}

func TestOutcomesAreObservedOnce(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		v := e.sell("a", 1_000)
		e.bank.next(payment.Refund, lostAnswer)
		r := e.refund("r", "a", 400)
		e.settle()
		e.mu.Lock()
		defer e.mu.Unlock()
		is(t, "of the sale", fmt.Sprint(e.told[v.Attempt.ID]), "[approved]")
		is(t, "of the refund", fmt.Sprint(e.told[r.Refund.ID]), "[approved]")
	})
}

package payment_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
)

func TestRefundsInPartsNeverExceedTheCapture(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		e.sell("a", 10_000, tip(1_000))
		v := e.refund("r1", "a", 6_000)
		is(t, "state", v.Refund.State, payment.Approved)
		is(t, "refunded", v.Payment.Refunded, 6_000)
		_, err := e.tryRefund("r2", "a", 4_001)
		fails(t, "more than is left", err, payment.ErrExceeds)
		v = e.refund("r2", "a", 4_000) // A refused request frees its key.
		is(t, "state", v.Refund.State, payment.Approved)
		is(t, "left", v.Payment.Left().Minor(), 0)
		_, err = e.tryRefund("r3", "a", 1)
		fails(t, "nothing is left", err, payment.ErrExceeds)
		e.settle()
		p := e.stands("a", payment.Captured, payment.Approved)
		is(t, "the fee stays", p.Payment.FeeReturned, false)
	})
}

func TestTheSameRefundAgainGivesTheStoredOne(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		e.sell("a", 10_000)
		first := e.refund("r", "a", 1_000)
		again := e.refund("r", "a", 1_000)
		is(t, "refund", again.Refund.ID, first.Refund.ID)
		is(t, "sent", e.bank.sent(payment.Refund), 1)
		e.settle()
	})
}

func TestFiftyRefundsAtOnceNeverExceedTheCapture(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		e.sell("a", 1_000)
		var wg sync.WaitGroup
		var done atomic.Int64
		for i := range 50 {
			wg.Go(func() {
				// Every key is used twice.
				_, err := e.tryRefund(fmt.Sprint("r", i/2), "a", 90)
				switch {
				case err == nil:
					done.Add(1)
				case !errors.Is(err, payment.ErrExceeds):
					t.Error(err)
				}
			})
		}
		wg.Wait()
		is(t, "refunds answered", done.Load() >= 11 && done.Load() <= 22, true)
		is(t, "refunds sent", e.bank.sent(payment.Refund), 11)
		e.settle()
		is(t, "refunded", e.find("a").Payment.Refunded, 990)
	})
}

func TestAnUnknownRefundKeepsItsReservationAndIsRepeatedUnderItsNumber(t *testing.T) {
	for name, lost := range map[string]act{"the answer is lost": lostAnswer, "the request is lost": lostRequest, "garbage": garbled, "it does not leave": unsent} {
		t.Run(name, func(t *testing.T) {
			story(t, payment.Provider, func(t *testing.T, e *env) {
				e.sell("a", 1_000)
				e.bank.next(payment.Refund, lost, lost, lost)
				cmd := e.refundCommand("r", "a", 600)
				cmd.Wait = 0
				v, err := e.engine.Refund(e.ctx(), cmd)
				is(t, "error", err, nil)
				is(t, "settled", v.Refund.Settled(), false)
				_, err = e.tryRefund("r2", "a", 401)
				fails(t, "what is reserved", err, payment.ErrExceeds)
				again := e.refund("r", "a", 600)
				is(t, "state", again.Refund.State, payment.Approved)
				is(t, "number", again.Refund.Number, v.Refund.Number)
				is(t, "round", again.Refund.Round, 0)
				is(t, "sent", e.bank.sent(payment.Refund), 4)
				e.settle()
			})
		})
	}
}

func TestAnUnknownCardRefundIsReversedAndSentAgainInAHigherRound(t *testing.T) {
	for name, lost := range map[string]act{"the answer is lost": lostAnswer, "the request is lost": lostRequest, "garbage": garbled,
		"the answer is late": approves.slow(3 * time.Second), "the request is late": approves.overtaken(3 * time.Second)} {
		t.Run(name, func(t *testing.T) {
			story(t, payment.CardHost, func(t *testing.T, e *env) {
				e.sell("a", 1_000)
				e.bank.next(payment.Refund, lost)
				e.bank.next(payment.Reversal, lostRequest, lostAnswer)
				v := e.refund("r", "a", 600)
				is(t, "state", v.Refund.State, payment.Approved)
				is(t, "round", v.Refund.Round, 1)
				is(t, "refunds", e.bank.sent(payment.Refund), 2)
				is(t, "reversals", e.bank.sent(payment.Reversal), 3)
				e.settle()
			})
		})
	}
}

func TestACardRefundThatDidNotLeaveNeedsNoReversal(t *testing.T) {
	story(t, payment.CardHost, func(t *testing.T, e *env) {
		e.sell("a", 1_000)
		e.bank.next(payment.Refund, unsent, unsent, unsent)
		v := e.refund("r", "a", 600)
		is(t, "state", v.Refund.State, payment.Approved)
		is(t, "reversals", e.bank.sent(payment.Reversal), 0)
		e.settle()
	})
}

// A host that reverses but does not refund must not be flooded, and people must hear of it.
func TestACardRefundThatIsLostForEverSlowsDown(t *testing.T) {
	for name, lost := range map[string]act{"garbage": garbled, "it does not leave": unsent} {
		t.Run(name, func(t *testing.T) {
			story(t, payment.CardHost, func(t *testing.T, e *env) {
				e.sell("a", 1_000)
				e.bank.fromNow(payment.Refund, lost)
				cmd := e.refundCommand("r", "a", 600)
				cmd.Wait = 0
				v, err := e.engine.Refund(e.ctx(), cmd)
				is(t, "error", err, nil)
				time.Sleep(70 * time.Second)
				if sent := e.bank.sent(payment.Refund); sent < 8 || sent > 10 {
					t.Errorf("sent %d times in 70 seconds", sent)
				}
				is(t, "flagged", e.operation(v.Payment, payment.Refund).Flagged, true)
				e.settle()
				is(t, "flagged at the end", e.operation(v.Payment, payment.Refund).Flagged, false)
				is(t, "refunded", e.find("a").Payment.Refunded, 600)
			})
		})
	}
}

// A process that was held for dead hears of a card refund that another has reversed and sent again since.
func TestTheAnswerToAReversedRoundSaysNothingAboutTheNext(t *testing.T) {
	story(t, payment.CardHost, func(t *testing.T, e *env) {
		e.sell("a", 1_000)
		e.bank.next(payment.Refund, approves.slow(time.Second), declines.slow(1500*time.Millisecond))
		cmd := e.refundCommand("r", "a", 600)
		cmd.Wait = 0
		v, err := e.engine.Refund(e.ctx(), cmd)
		is(t, "error", err, nil)
		e.takeOver(stalled) // It reverses and sends again.
		e.rest()
		is(t, "refund", e.operation(v.Payment, payment.Refund).State, payment.Declined)
		is(t, "refunded", e.find("a").Payment.Refunded, 0)
		e.settle()
	})
}

func TestARefundThatWaitsIsAskedAbout(t *testing.T) {
	story(t, payment.Provider, func(t *testing.T, e *env) {
		e.sell("a", 1_000)
		e.bank.next(payment.Refund, waits, waits)
		v := e.refund("r1", "a", 300)
		is(t, "state", v.Refund.State, payment.Waiting)
		w := e.refund("r2", "a", 300)
		is(t, "reserved", w.Payment.Reserved, 600)
		e.bank.decide(v.Refund.Number, true)
		e.bank.decide(w.Refund.Number, false)
		e.engine.Nudge(payment.Owed{Merchant: v.Payment.Merchant, Payment: v.Payment.ID, Operation: v.Refund.ID})
		time.Sleep(time.Millisecond)
		is(t, "after a nudge", e.refund("r1", "a", 300).Refund.State, payment.Approved)
		e.skip(3 * time.Second)
		is(t, "after a poll", e.refund("r2", "a", 300).Refund.State, payment.Declined)
		is(t, "reserved at the end", e.find("a").Payment.Reserved, 300)
		e.settle()
	})
}

// A process that was held for dead hears that a refund waits, which another knows to be approved by now.
func TestAnOldAnswerThatARefundWaitsIsForgotten(t *testing.T) {
	story(t, payment.Provider, func(t *testing.T, e *env) {
		e.sell("a", 1_000)
		e.bank.next(payment.Refund, waits.slow(1500*time.Millisecond))
		cmd := e.refundCommand("r", "a", 600)
		cmd.Wait = 0
		v, err := e.engine.Refund(e.ctx(), cmd)
		is(t, "error", err, nil)
		synctest.Wait() // The bank has it, before the other process asks.
		e.takeOver(stalled)
		time.Sleep(time.Second)
		is(t, "refund", e.operation(v.Payment, payment.Refund).State, payment.Waiting)
		e.bank.decide(v.Refund.Number, true)
		e.engine.Nudge(payment.Owed{Merchant: v.Payment.Merchant, Payment: v.Payment.ID, Operation: v.Refund.ID})
		time.Sleep(time.Millisecond)
		is(t, "refund after a nudge", e.operation(v.Payment, payment.Refund).State, payment.Approved)
		e.settle()
	})
}

func TestRefundsThatAreRefused(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		e.sell("a", 1_000)
		e.bank.next(payment.Sale, declines)
		e.sell("declined", 1_000)
		e.refund("r", "a", 100)
		_, err := e.tryRefund("x", "nothing", 1)
		fails(t, "of nothing", err, payment.ErrNotFound)
		_, err = e.tryRefund("x", "r", 1)
		fails(t, "of a refund", err, payment.ErrNotPaid)
		_, err = e.tryRefund("x", "declined", 1)
		fails(t, "of an unpaid payment", err, payment.ErrNotPaid)
		_, err = e.tryRefund("x", "a", 0)
		fails(t, "of nothing at all", err, payment.ErrInvalid)
		cmd := e.refundCommand("x", "a", 1)
		cmd.Amount = money.New(1, money.MustCurrency("NZD"))
		_, err = e.engine.Refund(e.ctx(), cmd)
		fails(t, "in another currency", err, payment.ErrCurrency)
		cmd = e.refundCommand("x", "a", 1)
		cmd.Caller.Credential.Profile.RefundPolicy = "generous"
		_, err = e.engine.Refund(e.ctx(), cmd)
		fails(t, "under an unknown policy", err, payment.ErrInvalid)
		e.skip(365*24*time.Hour + time.Millisecond)
		_, err = e.tryRefund("x", "a", 1)
		fails(t, "after a year", err, payment.ErrWindow)
		is(t, "refunds", e.bank.sent(payment.Refund), 1)
		e.settle()
	})
}

func TestCardRefundsOnTheSameDayInFullOnly(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		e.caller.Credential.Profile.RefundPolicy = "same_day_full_card"
		e.sell("a", 1_000)
		e.sell("b", 1_000)
		e.sell("scan", 1_000, func(c *payment.SaleCommand) { c.Flow = payment.ByCode })
		_, err := e.tryRefund("r1", "a", 999)
		fails(t, "a part", err, payment.ErrFullOnly)
		e.clock.skipTo(time.Date(2026, 4, 14, 13, 59, 59, 0, time.UTC)) // A second before midnight in Melbourne.
		is(t, "in full", e.refund("r1", "a", 1_000).Refund.State, payment.Approved)
		e.clock.skip(time.Second)
		is(t, "a part, the next day", e.refund("r2", "b", 999).Refund.State, payment.Approved)
		is(t, "not a card", e.refund("r3", "scan", 999).Refund.State, payment.Approved)
		e.settle()
	})
}

func TestADeclinedRefundReleasesItsReservation(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		e.sell("a", 1_000)
		e.bank.next(payment.Refund, declines)
		v := e.refund("r1", "a", 1_000)
		is(t, "state", v.Refund.State, payment.Declined)
		is(t, "reserved", v.Payment.Reserved, 0)
		is(t, "again", e.refund("r2", "a", 1_000).Refund.State, payment.Approved)
		e.settle()
	})
}

func TestAVoidGivesBackTheFeeAndTheTip(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		e.sell("a", 10_000, tip(1_000))
		v, err := e.tryVoid("a")
		is(t, "error", err, nil)
		is(t, "state", v.Payment.State, payment.Voided)
		is(t, "fee returned", v.Payment.FeeReturned, true)
		var got any
		e.read(func(r payment.Reader) error {
			sums, err := r.Balances(e.caller.Merchant.ID)
			got = sums["AUD"]
			return err
		})
		is(t, "ledger", got, any(postings(0, 0, 0, 0)))
		v, err = e.tryVoid("a")
		is(t, "again", err, nil)
		is(t, "state", v.Payment.State, payment.Voided)
		_, err = e.engine.Cancel(e.ctx(), e.cancelCommand("a"))
		fails(t, "a cancel", err, payment.ErrConflict)
		_, err = e.tryRefund("r", "a", 1)
		fails(t, "a refund", err, payment.ErrNotPaid)
		is(t, "voids", e.bank.sent(payment.VoidOperation), 1)
		e.settle()
	})
}

func TestAVoidOfAPartlyRefundedPaymentRefundsTheRest(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		e.sell("a", 10_000, tip(1_000))
		e.refund("r", "a", 2_500)
		v, err := e.tryVoid("a")
		is(t, "error", err, nil)
		is(t, "state", v.Payment.State, payment.Voided)
		is(t, "voids", e.bank.sent(payment.VoidOperation), 0)
		_, err = e.tryVoid("r")
		fails(t, "a void of a refund", err, payment.ErrWrongKind)
		_, err = e.tryVoid("nothing")
		fails(t, "a void of nothing", err, payment.ErrNotFound)
		e.sell("b", 100)
		e.refund("s", "b", 100)
		_, err = e.tryVoid("b")
		fails(t, "a void when nothing is left", err, payment.ErrExceeds)
		e.settle()
	})
}

// Whichever of the two is answered last, the payment is voided once all is given back.
func TestAVoidBesideARefundWithoutAnswer(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		e.sell("a", 10_000)
		e.bank.next(payment.Refund, approves.slow(time.Second))
		cmd := e.refundCommand("r", "a", 2_500)
		cmd.Wait = 0
		if _, err := e.engine.Refund(e.ctx(), cmd); err != nil {
			t.Fatal(err)
		}
		v, err := e.tryVoid("a")
		is(t, "error", err, nil)
		is(t, "state", v.Payment.State, payment.Voided)
		e.settle()
	})
}

func TestAVoidOnTheSameBusinessDayOnly(t *testing.T) {
	for _, tc := range []struct {
		name   string
		cutOff time.Duration
		sold   string
		in     string
		late   string
	}{
		{"until midnight", 0, "2026-04-14T02:00:00Z", "2026-04-14T13:59:59Z", "2026-04-14T14:00:00Z"},
		{"until the cut-off after midnight", 4 * time.Hour, "2026-04-14T02:00:00Z", "2026-04-14T17:59:59Z", "2026-04-14T18:00:00Z"},
		{"sold after midnight, before the cut-off", 4 * time.Hour, "2026-04-14T17:00:00Z", "2026-04-14T17:59:59Z", "2026-04-14T18:00:00Z"},
		{"in the night when summer time ends", 0, "2027-04-03T13:30:00Z", "2027-04-04T13:59:59Z", "2027-04-04T14:00:00Z"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			story(t, payment.Provider, func(t *testing.T, e *env) {
				at := func(text string) time.Time {
					when, err := time.Parse(time.RFC3339, text)
					if err != nil {
						t.Fatal(err)
					}
					return when
				}
				e.caller.Store.Calendar.CutOff = tc.cutOff
				e.clock.skipTo(at(tc.sold))
				e.sell("in", 100)
				e.sell("late", 100)
				e.clock.skipTo(at(tc.in))
				v, err := e.tryVoid("in")
				is(t, "error", err, nil)
				is(t, "state", v.Payment.State, payment.Voided)
				e.clock.skipTo(at(tc.late))
				_, err = e.tryVoid("late")
				fails(t, "the day after", err, payment.ErrWindow)
				e.settle()
			})
		})
	}
}

func TestAVoidThatTheAcquirerRefusesBecomesARefund(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		e.sell("a", 10_000, tip(1_000))
		e.bank.next(payment.VoidOperation, refuses)
		v, err := e.tryVoid("a")
		is(t, "error", err, nil)
		is(t, "state", v.Payment.State, payment.Voided)
		is(t, "refunds", e.bank.sent(payment.Refund), 1)

		e.sell("b", 10_000)
		e.bank.next(payment.VoidOperation, refuses)
		e.bank.next(payment.Refund, refuses)
		start := time.Now()
		v, err = e.tryVoid("b")
		is(t, "error", err, nil)
		is(t, "state when both are refused", v.Payment.State, payment.Captured)
		is(t, "left", v.Payment.Left().Minor(), 10_000)
		is(t, "waited", time.Since(start), 0)
		e.settle()
	})
}

func TestAVoidUnderWayIsWaitedFor(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		e.sell("a", 10_000)
		e.bank.next(payment.VoidOperation, lostAnswer, lostRequest, garbled)
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				v, err := e.tryVoid("a")
				if err != nil || v.Payment.State != payment.Voided {
					t.Errorf("got %s, %v", v.Payment.State, err)
				}
			})
		}
		wg.Wait()
		is(t, "voids sent", e.bank.sent(payment.VoidOperation), 4)
		e.settle()
	})
}

func TestACancelWhileAVoidIsUnknown(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		e.sell("a", 10_000)
		e.bank.fromNow(payment.VoidOperation, lostAnswer)
		if _, err := e.engine.Void(e.ctx(), payment.VoidCommand{Caller: e.caller, Key: keyed("upp", "a")}); err != nil {
			t.Fatal(err)
		}
		e.cancel("a")
		e.settle()
		e.stands("a", payment.Cancelled, payment.Reversed)
	})
}

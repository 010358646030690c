package payment_test

import (
	"testing"
	"time"

	"github.com/tillgate/tillgate/payment"
)

// undos counts the messages that undo an attempt.
func (b *bank) undos() int { return b.sent(payment.Reversal) + b.sent(payment.CancelOperation) }

func TestACancelBeatsALaterApproval(t *testing.T) {
	for name, late := range map[string]act{"the answer is late": approves.slow(time.Second), "the request is late": approves.overtaken(time.Second),
		"the answer is lost": lostAnswer, "the request is lost": lostRequest, "it never left": unsent.overtaken(time.Second)} {
		t.Run(name, func(t *testing.T) {
			both(t, func(t *testing.T, e *env) {
				e.bank.next(payment.Sale, late)
				e.sell("a", 100, noWait)
				start := time.Now()
				v := e.cancel("a")
				is(t, "answered at once", time.Since(start), 0)
				is(t, "state", v.Payment.State, payment.Cancelled)
				is(t, "reason", v.Payment.Failure == payment.ReasonCancelled || v.Payment.Failure == payment.ReasonUnavailable, true)
				e.settle()
				is(t, "state at the end", e.find("a").Payment.State, payment.Cancelled)
			})
		})
	}
}

func TestACancelIsAnsweredThoughTheUndoingIsNot(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		e.bank.next(payment.Sale, approves.slow(1500*time.Millisecond))
		e.bank.fromNow(payment.CancelOperation, lostRequest)
		e.bank.fromNow(payment.Reversal, lostRequest)
		e.sell("a", 100, noWait)
		start := time.Now()
		v := e.cancel("a")
		is(t, "answered after", time.Since(start), 500*time.Millisecond)
		is(t, "state", v.Payment.State, payment.Cancelled)
		is(t, "attempt", v.Attempt.State, payment.Reversing)
		e.skip(time.Minute)
		e.stands("a", payment.Cancelled, payment.Reversing)
		again := e.cancel("a")
		is(t, "again", again.Payment.State, payment.Cancelled)
		e.settle()
		e.stands("a", payment.Cancelled, payment.Reversed)
	})
}

func TestACancelWhileTheCustomerIsAskedEndsIt(t *testing.T) {
	story(t, payment.Provider, func(t *testing.T, e *env) {
		e.bank.next(payment.Sale, waits, waits)
		v := e.sell("a", 100)
		e.cancel("a")
		e.bank.customer(v.Attempt.Number, true) // Too late.
		e.rest()
		e.stands("a", payment.Cancelled, payment.Reversed)

		// The customer pays just before the cancel arrives.
		v = e.sell("b", 100)
		e.bank.customer(v.Attempt.Number, true)
		e.cancel("b")
		e.rest()
		e.stands("b", payment.Cancelled, payment.Reversed)
		e.settle()
	})
}

func TestACancelMeetsAClose(t *testing.T) {
	story(t, payment.Provider, func(t *testing.T, e *env) {
		e.bank.next(payment.Sale, waits)
		e.bank.next(payment.Close, lostAnswer)
		v := e.sell("a", 100)
		e.bank.customer(v.Attempt.Number, true)
		e.clock.skip(5 * time.Minute)
		time.Sleep(300 * time.Millisecond)
		is(t, "closes", e.bank.sent(payment.Close), 1)
		e.cancel("a")
		e.settle()
		e.stands("a", payment.Cancelled, payment.Reversed)
	})
}

func TestARefusedUndoingIsFlaggedAndAskedAgain(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		e.bank.next(payment.Sale, approves.slow(100*time.Millisecond))
		e.bank.next(payment.CancelOperation, refuses, refuses)
		e.bank.next(payment.Reversal, refuses, refuses)
		e.sell("a", 100, noWait)
		e.cancel("a")
		e.rest()
		v := e.stands("a", payment.Cancelled, payment.Reversing)
		is(t, "asked", e.bank.undos(), 1)
		flagged := 0
		for _, op := range e.operations(v.Payment) {
			if op.Flagged && !op.DueAt.IsZero() {
				flagged++
			}
		}
		is(t, "flagged and owed", flagged, 1)
		e.skip(time.Minute)
		is(t, "asked after a minute", e.bank.undos(), 2)
		e.settle()
		e.stands("a", payment.Cancelled, payment.Reversed)
	})
}

func TestARefusedCloseIsFlaggedAndAskedAgain(t *testing.T) {
	story(t, payment.Provider, func(t *testing.T, e *env) {
		e.bank.next(payment.Sale, waits)
		e.bank.next(payment.Close, refuses, refuses)
		e.sell("a", 100)
		e.skip(5 * time.Minute)
		e.stands("a", payment.Open, payment.Waiting)
		e.pass()
		e.stands("a", payment.Expired, payment.Declined)
		is(t, "closes", e.bank.sent(payment.Close), 3)
	})
}

// What the acquirer said of the attempt in answer to a close can be that it does not know it either.
func TestACloseThatTellsNothingIsAskedAgain(t *testing.T) {
	story(t, payment.Provider, func(t *testing.T, e *env) {
		for _, said := range []payment.Outcome{payment.OutcomeUnseen, payment.OutcomeUnknown, payment.OutcomeWaiting} {
			e.bank.next(payment.Sale, waits)
			e.bank.next(payment.Close, act{verdict: payment.OutcomeDeclined, attempt: said})
			key := string(said)
			e.sell(key, 100)
			e.skip(5 * time.Minute)
			e.pass()
			is(t, key, e.find(key).Attempt.State, payment.Declined)
		}
	})
}

func TestACancelAfterADeclineKeepsItsReason(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		e.bank.next(payment.Sale, declines)
		e.sell("a", 100)
		v := e.cancel("a")
		is(t, "state", v.Payment.State, payment.Cancelled)
		is(t, "reason", v.Payment.Failure, payment.ReasonInsufficientFunds)
		is(t, "undone", e.bank.undos(), 0)
		e.settle()
	})
}

func TestACancelOfACapturedPaymentGivesItBackWithItsFee(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		e.sell("a", 10_000, tip(500))
		cmd := e.cancelCommand("a")
		cmd.GiveBack = false
		_, err := e.engine.Cancel(e.ctx(), cmd)
		fails(t, "without giving back", err, payment.ErrConflict)
		v := e.cancel("a")
		is(t, "state", v.Payment.State, payment.Cancelled)
		e.settle()
		v = e.stands("a", payment.Cancelled, payment.Reversed)
		is(t, "fee returned", v.Payment.FeeReturned, true)
		is(t, "voids", e.bank.sent(payment.VoidOperation), 1)
	})
}

func TestACancelOfAPartlyRefundedPaymentGivesBackTheRest(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		e.sell("a", 10_000, tip(500))
		e.refund("r", "a", 3_000)
		e.cancel("a")
		e.settle()
		v := e.stands("a", payment.Cancelled, payment.Reversed)
		is(t, "rest", e.operation(v.Payment, payment.Refund).Amount.Minor(), 7_000)
		is(t, "voids", e.bank.sent(payment.VoidOperation), 0)
	})
}

func TestACancelWhileARefundIsUnknown(t *testing.T) {
	for name, lost := range map[string]act{"and was done": lostAnswer, "and was not done": lostRequest} {
		t.Run(name, func(t *testing.T) {
			both(t, func(t *testing.T, e *env) {
				e.sell("a", 10_000)
				e.bank.fromNow(payment.Refund, lost)
				e.bank.fromNow(payment.Reversal, lost)
				cmd := e.refundCommand("r", "a", 3_000)
				cmd.Wait = 0
				if _, err := e.engine.Refund(e.ctx(), cmd); err != nil {
					t.Fatal(err)
				}
				e.cancel("a")
				e.settle()
				e.stands("a", payment.Cancelled, payment.Reversed)
			})
		})
	}
}

func TestATillsRefundThatIsDeclinedAfterACancelIsGivenBackByUs(t *testing.T) {
	for name, minor := range map[string]int64{"of a part": 3_000, "of all": 10_000} {
		t.Run(name, func(t *testing.T) {
			both(t, func(t *testing.T, e *env) {
				e.sell("a", 10_000)
				e.bank.next(payment.Refund, declines.slow(time.Second))
				cmd := e.refundCommand("r", "a", minor)
				cmd.Wait = 0
				if _, err := e.engine.Refund(e.ctx(), cmd); err != nil {
					t.Fatal(err)
				}
				e.cancel("a")
				e.settle()
				v := e.stands("a", payment.Cancelled, payment.Reversed)
				is(t, "refunded", v.Payment.Refunded, 10_000)
			})
		})
	}
}

func TestWhatMustNotStandIsGivenBackThoughTheAcquirerRefuses(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		e.sell("a", 10_000)
		e.bank.next(payment.VoidOperation, refuses)
		e.bank.next(payment.Refund, refuses, refuses)
		e.cancel("a")
		e.pass()
		e.stands("a", payment.Cancelled, payment.Reversed)
		is(t, "refunds", e.bank.sent(payment.Refund), 3)
	})
}

func TestAPaymentCannotBeCancelledAfterItsWindow(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		e.sell("a", 100)
		e.bank.next(payment.Sale, declines)
		e.sell("b", 100)
		e.skip(24*time.Hour + time.Millisecond)
		_, err := e.engine.Cancel(e.ctx(), e.cancelCommand("a"))
		fails(t, "a captured payment", err, payment.ErrWindow)
		is(t, "a declined payment", e.cancel("b").Payment.State, payment.Cancelled)
		e.settle()
	})
}

func TestAKeyThatIsClosedBeforeItsPaymentExists(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		_, err := e.engine.Cancel(e.ctx(), e.cancelCommand("a"))
		fails(t, "cancel of nothing", err, payment.ErrNotFound)
		_, _, err = e.engine.Find(e.ctx(), e.caller.Merchant.ID, keyed("upp", "a"))
		fails(t, "find", err, payment.ErrNotFound)
		v := e.sell("a", 100)
		is(t, "state", v.Payment.State, payment.Cancelled)
		is(t, "reason", v.Payment.Failure, payment.ReasonCancelled)
		is(t, "again", e.sell("a", 100).Payment.ID, v.Payment.ID)

		_, err = e.engine.Cancel(e.ctx(), e.cancelCommand("b"))
		fails(t, "cancel of nothing", err, payment.ErrNotFound)
		e.skip(5 * time.Minute)
		_, err = e.engine.Cancel(e.ctx(), e.cancelCommand("b")) // Closes it anew.
		fails(t, "cancel of nothing", err, payment.ErrNotFound)
		e.skip(9 * time.Minute)
		is(t, "within the window", e.sell("b", 100).Payment.State, payment.Cancelled)

		_, err = e.engine.Cancel(e.ctx(), e.cancelCommand("c"))
		fails(t, "cancel of nothing", err, payment.ErrNotFound)
		e.skip(10 * time.Minute)
		is(t, "after the window", e.sell("c", 100).Payment.State, payment.Captured)

		_, err = e.engine.Cancel(e.ctx(), e.cancelCommand("r"))
		fails(t, "cancel of nothing", err, payment.ErrNotFound)
		is(t, "a refund with a closed key", e.refund("r", "c", 10).Refund.State, payment.Approved)
		_, err = e.engine.Cancel(e.ctx(), e.cancelCommand("r"))
		fails(t, "cancel of a refund", err, payment.ErrWrongKind)
		is(t, "sales", e.bank.sent(payment.Sale), 1)
		e.settle()
	})
}

func TestAnAuthorizationIsCaptured(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		v := e.sell("a", 10_000, authorizeOnly)
		is(t, "state", v.Payment.State, payment.Authorized)
		_, err := e.tryCapture(v, 10_001)
		fails(t, "more than was authorised", err, payment.ErrExceeds)
		_, err = e.tryRefund("r", "a", 1)
		fails(t, "a refund of an authorisation", err, payment.ErrNotPaid)
		_, err = e.tryVoid("a")
		fails(t, "a void of an authorisation", err, payment.ErrNotPaid)
		v, err = e.tryCapture(v, 6_000)
		is(t, "error", err, nil)
		is(t, "state", v.Payment.State, payment.Captured)
		is(t, "captured", v.Payment.Captured, 6_000)
		is(t, "fee", v.Payment.Fee, 89)
		_, err = e.tryCapture(v, 4_000)
		fails(t, "a second capture", err, payment.ErrConflict)
		_, err = e.tryRefund("s", "a", 6_001)
		fails(t, "a refund of more than was captured", err, payment.ErrExceeds)
		e.settle()
	})
}

func TestAnAuthorizationIsCancelled(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		e.sell("a", 10_000, authorizeOnly)
		v := e.cancel("a")
		is(t, "state", v.Payment.State, payment.Cancelled)
		e.settle()
		e.stands("a", payment.Cancelled, payment.Reversed)
	})
}

func TestAnUnknownCaptureIsRepeated(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		v := e.sell("a", 10_000, authorizeOnly)
		e.bank.next(payment.CaptureOperation, lostAnswer, lostRequest, garbled)
		v, err := e.tryCapture(v, 10_000)
		is(t, "error", err, nil)
		is(t, "state", v.Payment.State, payment.Captured)
		is(t, "captures sent", e.bank.sent(payment.CaptureOperation), 4)
		e.settle()
	})
}

func TestNothingElseHappensWhileACaptureIsUnknown(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		v := e.sell("a", 10_000, authorizeOnly)
		e.bank.fromNow(payment.CaptureOperation, lostAnswer)
		_, err := e.engine.Capture(e.ctx(), payment.CaptureCommand{Caller: e.caller, Payment: v.Payment.ID, Amount: v.Payment.Amount})
		is(t, "error", err, nil)
		_, err = e.tryCapture(v, 10_000)
		fails(t, "a second capture", err, payment.ErrConflict)
		_, err = e.engine.Cancel(e.ctx(), e.cancelCommand("a"))
		fails(t, "a cancel", err, payment.ErrConflict)
		e.settle()
		e.stands("a", payment.Captured, payment.Approved)
	})
}

func TestADeclinedCaptureIsToldAtOnceAndMayBeTriedAgain(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		v := e.sell("a", 10_000, authorizeOnly)
		e.bank.next(payment.CaptureOperation, refuses)
		start := time.Now()
		v, err := e.tryCapture(v, 10_000)
		is(t, "error", err, nil)
		is(t, "state", v.Payment.State, payment.Authorized)
		is(t, "waited", time.Since(start), 0)
		v, err = e.tryCapture(v, 9_000)
		is(t, "error", err, nil)
		is(t, "state", v.Payment.State, payment.Captured)
		e.settle()
	})
}

func TestAnUnknownAuthorizationIsUndoneOrFound(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		e.bank.next(payment.Authorization, lostAnswer)
		v := e.sell("a", 10_000, authorizeOnly)
		want := payment.Authorized
		if e.bank.class == payment.CardHost {
			want = payment.Refused
		}
		is(t, "state", v.Payment.State, want)
		e.settle()
	})
}

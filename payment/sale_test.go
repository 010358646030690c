package payment_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
)

func TestAnApprovedSaleIsCapturedWithItsFeeAndTip(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		v := e.sell("a", 10_000, tip(1_000))
		is(t, "state", v.Payment.State, payment.Captured)
		is(t, "attempt", v.Attempt.State, payment.Approved)
		is(t, "captured", v.Payment.Captured, 10_000)
		is(t, "fee", v.Payment.Fee, 145)
		is(t, "number", v.Payment.Number(), v.Attempt.Number)
		is(t, "reference", v.Attempt.Result.ProviderReference, "R1")
		is(t, "business day", v.Payment.Day, payment.Day(20260414))
		var got any
		e.read(func(r payment.Reader) error {
			sums, err := r.Balances(e.caller.Merchant.ID)
			got = sums["AUD"]
			return err
		})
		is(t, "ledger", got, any(postings(10_000, -8_855, -145, -1_000)))
		e.settle()
		is(t, "sales", e.bank.sent(payment.Sale), 1)
	})
}

func TestADeclineIsAResult(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		e.bank.next(payment.Sale, declines)
		v := e.sell("a", 100)
		is(t, "state", v.Payment.State, payment.Refused)
		is(t, "reason", v.Payment.Failure, payment.ReasonInsufficientFunds)
		is(t, "text", v.Payment.FailureText, "No.")
		e.settle()
	})
}

func TestFeesFollowTheMethodAndRoundHalfAwayFromZero(t *testing.T) {
	story(t, payment.Provider, func(t *testing.T, e *env) {
		for _, tc := range []struct {
			method string
			minor  int64
			fee    int64
		}{
			{"visa", 10_000, 145}, {"visa", 1, 5}, {"visa", 36, 6}, {"visa", 35, 5}, {"alipay", 1_000, 7}, {"alipay", 999, 6}, {"free", 5_000, 0},
		} {
			v := e.sell(tc.method+money.New(tc.minor, aud).String(), tc.minor, method(tc.method))
			is(t, tc.method+" of "+v.Payment.Amount.String(), v.Payment.Fee, tc.fee)
		}
		e.settle()
	})
}

func TestTheSameRequestAgainGivesTheStoredPayment(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		first := e.sell("a", 100)
		again := e.sell("a", 100)
		is(t, "payment", again.Payment.ID, first.Payment.ID)
		e.bank.next(payment.Sale, declines)
		e.sell("b", 100)
		is(t, "a decline again", e.sell("b", 100).Payment.State, payment.Refused)
		is(t, "sales", e.bank.sent(payment.Sale), 2)
		e.settle()
	})
}

func TestFiftyEqualRequestsAtOnceMakeOneSale(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		e.bank.next(payment.Sale, approves.slow(time.Second))
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				v, err := e.trySell(e.command("a", 100))
				if err != nil || v.Payment.State != payment.Captured {
					t.Errorf("got %s, %v", v.Payment.State, err)
				}
			})
		}
		wg.Wait()
		is(t, "sales", e.bank.sent(payment.Sale), 1)
		e.settle()
		is(t, "payments", len(e.sold), 1)
	})
}

func TestTheSameKeyWithAnotherRequestIsRefused(t *testing.T) {
	story(t, payment.Provider, func(t *testing.T, e *env) {
		first := e.sell("a", 100)
		_, err := e.trySell(e.command("a", 101))
		var reused *payment.KeyReusedError
		if !errors.As(err, &reused) || reused.Payment.ID != first.Payment.ID || !errors.Is(err, payment.ErrKeyReused) {
			t.Errorf("got %v", err)
		}
		e.refund("r", "a", 10)
		_, err = e.trySell(e.command("r", 100))
		if !errors.As(err, &reused) || reused.Refund == nil {
			t.Errorf("the key of a refund: got %v", err)
		}
		_, err = e.tryRefund("a", "a", 10)
		if !errors.As(err, &reused) || reused.Refund != nil {
			t.Errorf("the key of a payment: got %v", err)
		}
		_, err = e.tryRefund("r", "a", 11)
		if !errors.As(err, &reused) || reused.Refund == nil {
			t.Errorf("another refund: got %v", err)
		}
		e.settle()
	})
}

// Design 4.1: the same request gives the stored payment, whatever has been configured since.
func TestARepeatIsAnsweredWhenItsMethodIsNotTakenAnyMore(t *testing.T) {
	story(t, payment.Provider, func(t *testing.T, e *env) {
		first := e.sell("a", 100)
		cmd := e.command("a", 100)
		cmd.Caller.Merchant.Methods = nil
		cmd.Caller.Merchant.Currencies = nil
		v, err := e.trySell(cmd)
		is(t, "error", err, nil)
		is(t, "payment", v.Payment.ID, first.Payment.ID)

		refund := e.refundCommand("r", "a", 10)
		if _, err := e.engine.Refund(e.ctx(), refund); err != nil {
			t.Fatal(err)
		}
		refund.Caller.Credential.Profile.RefundPolicy = "a policy of the past"
		_, err = e.engine.Refund(e.ctx(), refund)
		is(t, "error of the refund", err, nil)
		e.settle()
	})
}

func TestWhatIsRefusedFreesItsKey(t *testing.T) {
	story(t, payment.Provider, func(t *testing.T, e *env) {
		for _, tc := range []struct {
			name string
			with func(*payment.SaleCommand)
			want error
		}{
			{"nothing to pay", func(c *payment.SaleCommand) { c.Amount = money.New(0, aud) }, payment.ErrInvalid},
			{"more than a card message can say", func(c *payment.SaleCommand) { c.Amount = money.New(1_000_000_000_000, aud) }, payment.ErrInvalid},
			{"more tip than amount", tip(101), payment.ErrInvalid},
			{"a method that the merchant does not take", method("cash"), payment.ErrMethod},
			{"a currency that the merchant does not take", func(c *payment.SaleCommand) { c.Amount = money.New(100, money.MustCurrency("USD")) }, payment.ErrCurrency},
			{"a link that is not configured", method("nowhere"), payment.ErrUnavailable},
			{"an amount whose fee does not fit", func(c *payment.SaleCommand) { c.Method = "dear" }, payment.ErrInvalid},
			{"a store in no time zone", func(c *payment.SaleCommand) { c.Caller.Store.Calendar.Zone = "Mars/Olympus" }, payment.ErrInvalid},
		} {
			cmd := e.command("a", 100)
			tc.with(&cmd)
			_, err := e.trySell(cmd)
			fails(t, tc.name, err, tc.want)
		}
		is(t, "sales", e.bank.sent(payment.Sale), 0)
		is(t, "afterwards", e.sell("a", 100).Payment.State, payment.Captured)
		e.settle()
	})
}

func TestASaleThatNeverLeftIsDeclined(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		e.bank.next(payment.Sale, unsent)
		v := e.sell("a", 100)
		is(t, "state", v.Payment.State, payment.Refused)
		is(t, "reason", v.Payment.Failure, payment.ReasonUnavailable)
		e.settle()
		is(t, "reversals", e.bank.sent(payment.Reversal)+e.bank.sent(payment.CancelOperation), 0)
	})
}

func TestAnUnknownSaleAtAProviderIsAskedAboutUntilFoundPaid(t *testing.T) {
	story(t, payment.Provider, func(t *testing.T, e *env) {
		e.bank.next(payment.Sale, lostAnswer)
		e.bank.next("query", lostAnswer, garbled)
		v := e.sell("a", 100)
		is(t, "state", v.Payment.State, payment.Captured)
		is(t, "queries", e.bank.asked(), 3)
		is(t, "sales", e.bank.sent(payment.Sale), 1)
		e.settle()
	})
}

func TestAnUnknownSaleAtAProviderIsFoundWaiting(t *testing.T) {
	story(t, payment.Provider, func(t *testing.T, e *env) {
		e.bank.next(payment.Sale, act{verdict: payment.OutcomeWaiting, mute: true})
		v := e.sell("a", 100)
		is(t, "attempt", v.Attempt.State, payment.Waiting)
		is(t, "QR", v.Attempt.Result.QR, "qr://pay")
		e.bank.customer(v.Attempt.Number, true)
		e.skip(20 * time.Second)
		e.stands("a", payment.Captured, payment.Approved)
		e.settle()
	})
}

func TestAnUnknownSaleThatAProviderNeverSawIsClosedThere(t *testing.T) {
	story(t, payment.Provider, func(t *testing.T, e *env) {
		e.bank.next(payment.Sale, lostRequest)
		v := e.sell("a", 100)
		is(t, "state", v.Payment.State, payment.Refused)
		is(t, "reason", v.Payment.Failure, payment.ReasonUnavailable)
		is(t, "closes", e.bank.sent(payment.Close), 1)
		e.settle()
	})
}

func TestASaleThatArrivesAfterItsCloseTakesNothing(t *testing.T) {
	story(t, payment.Provider, func(t *testing.T, e *env) {
		e.bank.next(payment.Sale, approves.overtaken(20*time.Second))
		v := e.sell("a", 100)
		is(t, "state", v.Payment.State, payment.Refused)
		e.settle()
	})
}

func TestAnUnknownCardSaleIsReversedAndNeverSentAgain(t *testing.T) {
	for name, lost := range map[string]act{"the answer is lost": lostAnswer, "the request is lost": lostRequest, "the answer is garbage": garbled,
		"the answer is late": approves.slow(5 * time.Second), "the reversal overtakes it": approves.overtaken(5 * time.Second)} {
		t.Run(name, func(t *testing.T) {
			story(t, payment.CardHost, func(t *testing.T, e *env) {
				e.bank.next(payment.Sale, lost)
				e.bank.next(payment.Reversal, lostRequest, lostAnswer, unsent, garbled)
				v := e.sell("a", 100)
				is(t, "state", v.Payment.State, payment.Refused)
				is(t, "reason", v.Payment.Failure, payment.ReasonUnavailable)
				is(t, "attempt", v.Attempt.State, payment.Reversed)
				is(t, "sales", e.bank.sent(payment.Sale), 1)
				is(t, "reversals", e.bank.sent(payment.Reversal), 5)
				e.settle()
			})
		})
	}
}

func TestACardSaleIsPendingWhileItsReversalIsNotAcknowledged(t *testing.T) {
	story(t, payment.CardHost, func(t *testing.T, e *env) {
		e.bank.next(payment.Sale, lostAnswer)
		e.bank.fromNow(payment.Reversal, lostRequest)
		start := time.Now()
		v := e.sell("a", 100)
		is(t, "state", v.Payment.State, payment.Open)
		is(t, "attempt", v.Attempt.State, payment.Reversing)
		is(t, "held", time.Since(start), 30*time.Second)
		e.settle()
		e.stands("a", payment.Refused, payment.Reversed)
	})
}

func TestAnApprovalBeatsExpiry(t *testing.T) {
	story(t, payment.Provider, func(t *testing.T, e *env) {
		e.bank.next(payment.Sale, waits)
		v := e.sell("a", 100)
		e.bank.customer(v.Attempt.Number, true)
		e.skip(5 * time.Minute) // The close is answered with "it is paid".
		e.stands("a", payment.Captured, payment.Approved)
		is(t, "closes", e.bank.sent(payment.Close), 1)
		e.settle()
	})
}

func TestAnUnpaidPaymentExpiresOnceTheAcquirerHasClosedIt(t *testing.T) {
	story(t, payment.Provider, func(t *testing.T, e *env) {
		e.bank.next(payment.Sale, waits)
		e.bank.next(payment.Close, lostRequest, lostAnswer, garbled, unsent)
		v := e.sell("a", 100)
		e.skip(5*time.Minute - 2*time.Second)
		e.stands("a", payment.Open, payment.Waiting)
		asked := e.bank.asked()
		e.skip(2 * time.Second)
		e.stands("a", payment.Open, payment.Waiting) // Without an answer to the close it stays as it is.
		for range 8 {
			e.skip(time.Minute)
		}
		e.stands("a", payment.Expired, payment.Declined)
		is(t, "reason", e.find("a").Payment.Failure, payment.ReasonExpired)
		is(t, "closes", e.bank.sent(payment.Close), 5)
		is(t, "queries beside the close", e.bank.asked(), asked)
		e.bank.customer(v.Attempt.Number, true) // Too late.
		e.settle()
	})
}

// Some acquirers acknowledge the end of a number that they have not seen, and take it all the same when it comes. Whatever was said
// before, an approval of what has ended is not left standing.
func TestAnApprovalAfterTheEndIsReversed(t *testing.T) {
	for name, end := range map[string]func(e *env){
		"after a cancel":                func(e *env) { e.cancel("a") },
		"after another process took it": func(e *env) { e.takeOver(stalled) },
	} {
		t.Run(name, func(t *testing.T) {
			both(t, func(t *testing.T, e *env) {
				late := approves.overtaken(time.Second)
				late.stubborn = true
				e.bank.next(payment.Sale, late)
				e.sell("a", 100, noWait)
				end(e)
				time.Sleep(500 * time.Millisecond)
				if v := e.find("a"); v.Payment.State == payment.Open || !v.Attempt.Settled() {
					t.Fatalf("before the approval: %s, attempt %s", v.Payment.State, v.Attempt.State)
				}
				e.rest()
				is(t, "attempt", e.find("a").Attempt.State, payment.Reversed)
				e.settle()
			})
		})
	}
}

func TestARetryablePaymentTakesSeveralAttempts(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		e.bank.next(payment.Sale, declines, declines.slow(time.Second))
		v := e.sell("a", 100, retryable)
		is(t, "state", v.Payment.State, payment.Open)
		is(t, "attempt", v.Attempt.State, payment.Declined)
		try := payment.AttemptCommand{Caller: e.caller, Payment: v.Payment.ID, Instrument: payment.WalletCode("2856"), Wait: 0}
		if _, err := e.engine.Attempt(e.ctx(), try); err != nil {
			t.Fatal(err)
		}
		_, err := e.engine.Attempt(e.ctx(), try)
		fails(t, "an attempt while the last is under way", err, payment.ErrConflict)
		e.rest()
		try.Wait = 10 * time.Second
		v, err = e.engine.Attempt(e.ctx(), try)
		is(t, "error", err, nil)
		is(t, "state at the end", v.Payment.State, payment.Captured)
		is(t, "attempts", e.bank.sent(payment.Sale), 3)
		_, err = e.engine.Attempt(e.ctx(), try)
		fails(t, "an attempt on a captured payment", err, payment.ErrConflict)
		e.settle()
	})
}

func TestARetryablePaymentExpiresAfterItsLastDecline(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		e.bank.next(payment.Sale, declines)
		e.sell("a", 100, retryable)
		e.bank.next(payment.Sale, lostRequest)
		e.sell("b", 100, retryable)
		e.skip(5 * time.Minute)
		e.stands("a", payment.Expired, payment.Declined)
		is(t, "b", e.find("b").Payment.State, payment.Expired)
		e.settle()
	})
}

func TestABegunPaymentWaitsForItsAttempt(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		v, err := e.note(e.engine.Begin(e.ctx(), e.command("a", 100)))
		is(t, "error", err, nil)
		is(t, "state", v.Payment.State, payment.Open)
		is(t, "attempt", v.Payment.Attempt, 0)
		again, err := e.engine.Begin(e.ctx(), e.command("a", 100))
		is(t, "again", again.Payment.ID, v.Payment.ID)
		is(t, "error", err, nil)
		v, err = e.engine.Attempt(e.ctx(), payment.AttemptCommand{Caller: e.caller, Payment: v.Payment.ID, Wait: time.Second})
		is(t, "error", err, nil)
		is(t, "state", v.Payment.State, payment.Captured)

		_, err = e.note(e.engine.Begin(e.ctx(), e.command("b", 100)))
		is(t, "error", err, nil)
		e.skip(5 * time.Minute)
		late := e.stands("b", payment.Expired, "")
		_, err = e.engine.Attempt(e.ctx(), payment.AttemptCommand{Caller: e.caller, Payment: late.Payment.ID})
		fails(t, "an attempt after the end", err, payment.ErrConflict)
		e.settle()
	})
}

func TestAReusableKeyIsFreeOnceItsPaymentHasFailed(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		reusable := func(c *payment.SaleCommand) { c.ReusableKey = true }
		e.bank.next(payment.Sale, declines)
		first := e.sell("a", 100, reusable)
		e.bank.next(payment.Sale, lostAnswer)
		second := e.sell("a", 100, reusable, noWait)
		if second.Payment.ID == first.Payment.ID {
			t.Error("the failed payment came back")
		}
		third := e.sell("a", 100, reusable)
		is(t, "while the second is unknown", third.Payment.ID, second.Payment.ID)
		e.settle()
	})
}

func TestAReusableKeyIsFreeOnceAllIsGivenBack(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		reusable := func(c *payment.SaleCommand) { c.ReusableKey = true }
		first := e.sell("a", 100, reusable)
		e.refund("r", "a", 100)
		e.cancel("a")
		e.stands("a", payment.Cancelled, payment.Reversed)
		if second := e.sell("a", 100, reusable); second.Payment.ID == first.Payment.ID {
			t.Error("the payment that was given back came back")
		}
		e.settle()
	})
}

func TestACallerThatHangsUpChangesNothing(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		e.bank.next(payment.Sale, approves.slow(time.Second))
		ctx, hangUp := context.WithTimeout(e.ctx(), 100*time.Millisecond)
		defer hangUp()
		_, err := e.engine.Sell(ctx, e.command("a", 100))
		fails(t, "a caller that is gone", err, context.DeadlineExceeded)
		e.rest()
		v := e.stands("a", payment.Captured, payment.Approved)
		e.note(v, nil)
		is(t, "undone", e.bank.sent(payment.Reversal)+e.bank.sent(payment.CancelOperation), 0)
		e.settle()
	})
}

func TestADisabledCredentialStopsWithinTwoSeconds(t *testing.T) {
	story(t, payment.Provider, func(t *testing.T, e *env) {
		secret := e.secret()
		id := e.caller.Credential.ID
		if err := e.books.SetCredentialDisabled(e.ctx(), e.caller.Merchant.ID, id, true); err != nil {
			t.Fatal(err)
		}
		e.clock.skip(2 * time.Second)
		_, err := e.engine.Caller(e.ctx(), "upp", secret)
		fails(t, "a disabled credential", err, payment.ErrForbidden)
		if err := e.books.SetCredentialDisabled(e.ctx(), e.caller.Merchant.ID, id, false); err != nil {
			t.Fatal(err)
		}
		_, err = e.engine.Caller(e.ctx(), "upp", secret)
		is(t, "enabled again", err, nil) // Refusals are not remembered.
		_, err = e.engine.Caller(e.ctx(), "upay", secret)
		fails(t, "the secret of another protocol", err, payment.ErrUnauthorized)
	})
}

func TestAwaitWakesAtOnce(t *testing.T) {
	story(t, payment.Provider, func(t *testing.T, e *env) {
		e.bank.next(payment.Sale, approves.slow(1200*time.Millisecond))
		v := e.sell("a", 100, noWait)
		start := time.Now()
		captured := func(v payment.View) bool { return v.Payment.State == payment.Captured }
		v, err := e.engine.Await(e.ctx(), v.Payment.Merchant, v.Payment.ID, time.Minute, captured)
		is(t, "error", err, nil)
		is(t, "state", v.Payment.State, payment.Captured)
		is(t, "waited", time.Since(start), 1200*time.Millisecond)
		is(t, "still subscribed", e.signal.(*payment.LocalSignal).Waiting(), 0)
	})
}

func TestAwaitReadsAgainAtItsDeadlineAndWhenSignalsAreLost(t *testing.T) {
	story(t, payment.Provider, func(t *testing.T, e *env) {
		if err := e.end(0); err != nil {
			t.Fatal(err)
		}
		e.engine = e.start(e.store, newDeaf())
		e.bank.next(payment.Sale, approves.slow(1200*time.Millisecond), approves.slow(1200*time.Millisecond))
		captured := func(v payment.View) bool { return v.Payment.State == payment.Captured }
		for _, tc := range []struct {
			key    string
			limit  time.Duration
			waited time.Duration
		}{{"at the deadline", 3 * time.Second, 3 * time.Second}, {"as a net", time.Minute, 10 * time.Second}} {
			v := e.sell(tc.key, 100, noWait)
			start := time.Now()
			v, err := e.engine.Await(e.ctx(), v.Payment.Merchant, v.Payment.ID, tc.limit, captured)
			is(t, "error", err, nil)
			is(t, tc.key, v.Payment.State, payment.Captured)
			is(t, tc.key+": waited", time.Since(start), tc.waited)
		}
		e.settle()
	})
}

func TestManyTriesAreFlaggedAndGoOn(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		e.bank.next(payment.Sale, lostAnswer)
		e.bank.fromNow("query", lostRequest)
		e.bank.fromNow(payment.Reversal, lostRequest)
		v := e.sell("a", 100, func(c *payment.SaleCommand) { c.Wait, c.Lifetime = 0, 24*time.Hour })
		for range 20 {
			e.skip(time.Minute)
		}
		flagged := false
		for _, op := range e.operations(v.Payment) {
			flagged = flagged || op.Flagged
			if op.Flagged && op.DueAt.IsZero() {
				t.Error("nothing is owed any more")
			}
		}
		is(t, "flagged", flagged, true)
		e.settle()
		for _, op := range e.operations(v.Payment) {
			is(t, "flagged once settled", op.Flagged, false)
		}
	})
}

func TestASaleIsNotWaitedForLongerThanItsDeadline(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		e.bank.next(payment.Sale, approves.slow(1500*time.Millisecond))
		start := time.Now()
		v := e.sell("a", 100, func(c *payment.SaleCommand) { c.Wait = time.Second })
		is(t, "state", v.Payment.State, payment.Open)
		is(t, "attempt", v.Attempt.State, payment.Sent)
		is(t, "waited", time.Since(start), time.Second)
		e.rest()
		synctest.Wait()
		e.stands("a", payment.Captured, payment.Approved)
		e.settle()
	})
}

// Transactions take IDs while the next block of them is fetched, through the same store.
func TestFetchingIDsDoesNotHoldUpTransactions(t *testing.T) {
	story(t, payment.Provider, func(t *testing.T, e *env) {
		e.store.set(func(f *faulty) { f.slow = 100 * time.Millisecond })
		var wg sync.WaitGroup
		for i := range 3 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond)
				e.sell(string(rune('a'+i)), 100)
			})
		}
		wg.Wait()
		e.settle()
	})
}

package payment_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
)

// told is an answer that shows what a protocol would show.
func told(v payment.View) []byte {
	return fmt.Appendf(nil, "%s %s %s settled %d modified %d", v.Payment.Number(), v.Payment.State, v.Attempt.State, v.Attempt.SettledAt.UnixMilli(), v.Payment.ModifiedAt.UnixMilli())
}

func toldRefund(v payment.RefundView) []byte {
	return fmt.Appendf(nil, "%s %d settled %d", v.Refund.State, v.Payment.Refunded, v.Refund.SettledAt.UnixMilli())
}

func answering(c *payment.SaleCommand) {
	c.Answer, c.KeyLife = told, 24*time.Hour
}

func TestAnAnswerIsKeptAsItWasGiven(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		v := e.sell("a", 100, answering)
		is(t, "answer to the first", string(v.Answer), "")
		first := string(told(v))
		e.refund("r1", "a", 10) // The payment goes on; its answer stays.
		e.skip(time.Hour)
		is(t, "answer to a repeat", string(e.sell("a", 100, answering).Answer), first)

		cmd := e.refundCommand("r2", "a", 20)
		cmd.Answer, cmd.KeyLife = toldRefund, 24*time.Hour
		r, err := e.engine.Refund(e.ctx(), cmd)
		if err != nil {
			t.Fatal(err)
		}
		firstRefund := string(toldRefund(r))
		e.refund("r3", "a", 5)
		again, err := e.engine.Refund(e.ctx(), cmd)
		if err != nil {
			t.Fatal(err)
		}
		is(t, "answer to a repeated refund", string(again.Answer), firstRefund)

		e.skip(23 * time.Hour)
		fresh := e.sell("a", 100, answering)
		if fresh.Answer != nil || fresh.Payment.ID == v.Payment.ID {
			t.Errorf("after a day the key still stands for payment %d", v.Payment.ID)
		}
	})
}

func TestADeclineAndABeginningAreKeptToo(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		e.bank.next(payment.Sale, declines)
		declined := e.sell("a", 100, retryable, answering)
		is(t, "answer to the repeat of a decline", string(e.sell("a", 100, retryable, answering).Answer), string(told(declined)))
		cmd := e.command("b", 100)
		answering(&cmd)
		begun, err := e.note(e.engine.Begin(e.ctx(), cmd))
		if err != nil {
			t.Fatal(err)
		}
		again, err := e.engine.Begin(e.ctx(), cmd)
		if err != nil {
			t.Fatal(err)
		}
		is(t, "answer to the repeat of a beginning", string(again.Answer), string(told(begun)))
	})
}

func TestAKeyThatIsUsedOnceIsUsedOnce(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		once := func(c *payment.SaleCommand) { c.Once = []payment.Key{{Scope: "stan T1 20260414", Key: "000147"}} }
		v := e.sell("a", 100, once)
		is(t, "the repeat of the request", e.sell("a", 100, once).Payment.ID, v.Payment.ID)
		cmd := e.command("b", 100)
		once(&cmd)
		_, err := e.trySell(cmd)
		var used *payment.OnceError
		if !errors.As(err, &used) || used.Key.Key != "000147" {
			t.Errorf("another sale: got %v", err)
		}
		if _, _, err := e.engine.Find(e.ctx(), e.caller.Merchant.ID, keyed("upp", "b")); !errors.Is(err, payment.ErrNotFound) {
			t.Errorf("the refused sale is stored: %v", err)
		}
		open, err := e.note(e.engine.Begin(e.ctx(), e.command("c", 100)))
		if err != nil {
			t.Fatal(err)
		}
		_, err = e.engine.Attempt(e.ctx(), payment.AttemptCommand{Caller: e.caller, Payment: open.Payment.ID, Once: cmd.Once})
		fails(t, "an attempt with it", err, payment.ErrKeyReused)
	})
}

func TestAnAttemptMayOnlyAuthorize(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		open, err := e.note(e.engine.Begin(e.ctx(), e.command("a", 100)))
		if err != nil {
			t.Fatal(err)
		}
		v, err := e.engine.Attempt(e.ctx(), payment.AttemptCommand{Caller: e.caller, Payment: open.Payment.ID, AuthorizeOnly: true, Wait: 30 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		is(t, "state", v.Payment.State, payment.Authorized)
		v, err = e.engine.Capture(e.ctx(), payment.CaptureCommand{Caller: e.caller, Payment: v.Payment.ID, Amount: money.New(60, aud), Wait: 30 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		is(t, "captured", v.Payment.Captured, 60)
	})
}

func TestACancelKeepsItsReason(t *testing.T) {
	both(t, func(t *testing.T, e *env) {
		open, err := e.note(e.engine.Begin(e.ctx(), e.command("a", 100)))
		if err != nil {
			t.Fatal(err)
		}
		v, err := e.engine.Cancel(e.ctx(), payment.CancelCommand{Caller: e.caller, Payment: open.Payment.ID, Window: time.Hour, Text: "duplicate"})
		if err != nil {
			t.Fatal(err)
		}
		is(t, "text", v.Payment.FailureText, "duplicate")
	})
}

package payment_test

import (
	"errors"
	"testing"
	"time"

	"github.com/tillgate/tillgate/payment"
)

func (e *env) tryRefuse(id payment.ID) (payment.View, error) {
	return e.engine.Refuse(e.ctx(), payment.RefuseCommand{Caller: e.caller, Payment: id, Window: 2 * time.Minute})
}

func TestACardThatRefusesIsGivenBackAndHeardAsADecline(t *testing.T) {
	for name, undo := range map[string]act{"at once": approves, "after silence": lostAnswer} {
		t.Run(name, func(t *testing.T) {
			story(t, payment.CardHost, func(t *testing.T, e *env) {
				e.bank.next(payment.VoidOperation, undo)
				v := e.sell("a", 100)
				v, err := e.tryRefuse(v.Payment.ID)
				is(t, "error", err, nil)
				is(t, "state", v.Payment.State, payment.Cancelled)
				is(t, "reason", v.Payment.Failure, payment.ReasonDeclined)
				again, err := e.tryRefuse(v.Payment.ID)
				is(t, "again", errors.Join(err), nil)
				is(t, "state", again.Payment.State, payment.Cancelled)
				e.settle()
				p := e.find("a").Payment
				is(t, "given back", p.Refunded, p.Captured)
				is(t, "the fee", p.FeeReturned, true)
				e.audit()
			})
		})
	}
}

func TestAnAuthorizationThatTheCardRefusesIsReversed(t *testing.T) {
	story(t, payment.CardHost, func(t *testing.T, e *env) {
		v := e.sell("a", 100, authorizeOnly)
		_, err := e.tryRefuse(v.Payment.ID)
		is(t, "error", err, nil)
		e.settle()
		e.stands("a", payment.Cancelled, payment.Reversed)
	})
}

func TestRefusalsThatComeTooLateOrToTheWrongPayment(t *testing.T) {
	story(t, payment.CardHost, func(t *testing.T, e *env) {
		late := e.sell("late", 100)
		e.clock.skip(3 * time.Minute)
		_, err := e.tryRefuse(late.Payment.ID)
		is(t, "late", errors.Is(err, payment.ErrWindow), true)

		refunded := e.sell("refunded", 100)
		e.refund("r", "refunded", 40)
		_, err = e.tryRefuse(refunded.Payment.ID)
		is(t, "refunded in part", errors.Is(err, payment.ErrConflict), true)

		e.bank.next(payment.Sale, declines)
		declined := e.sell("declined", 100)
		v, err := e.tryRefuse(declined.Payment.ID)
		is(t, "declined", errors.Join(err), nil)
		is(t, "stays declined", v.Payment.State, payment.Refused)

		wallet := e.sell("wallet", 100, method("alipay"), func(c *payment.SaleCommand) { c.Flow = payment.ByCode })
		_, err = e.tryRefuse(wallet.Payment.ID)
		is(t, "a wallet's", errors.Is(err, payment.ErrWrongKind), true)

		_, err = e.tryRefuse(987_654)
		is(t, "nobody's", errors.Is(err, payment.ErrNotFound), true)
		e.settle()
		is(t, "money given back", e.bank.sent(payment.VoidOperation), 0)
	})
}

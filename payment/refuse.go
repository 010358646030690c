package payment

import (
	"context"
	"fmt"
	"time"
)

// textRefused is for people, beside a card's own refusal.
const textRefused = "The card refused after the host had approved; the payment was given back."

// RefuseCommand says that a card refused what its host approved: a second AAC, or an ARPC that is not the issuer's (design 4.9).
type RefuseCommand struct {
	Caller  Caller
	Payment ID
	Window  time.Duration // How long after the approval it is believed.
}

// Refuse undoes an approval that the card itself has refused, and lets the till hear a decline: the payment ends cancelled, with
// ReasonDeclined, and what the host took is owed back, whole and with its fee. A repeat returns the payment as it is. Errors: ErrNotFound,
// ErrWrongKind for a payment without a card, ErrWindow, ErrConflict when nothing stands that could be undone, or some of it was given back.
//
// It ends cancelled and not declined because the money has moved: whoever reads the states must not take it for an attempt that took nothing.
func (e *Engine) Refuse(ctx context.Context, cmd RefuseCommand) (View, error) {
	m := cmd.Caller.Merchant.ID
	t, err := e.command(ctx, m, func(t *turn) error {
		if err := t.load(cmd.Payment); err != nil {
			return err
		}
		if t.p.Flow != ByCard {
			return fmt.Errorf("refusal of a payment without a card: %w", ErrWrongKind)
		}
		if t.p.Attempt == 0 {
			return fmt.Errorf("refusal of a payment without an attempt: %w", ErrConflict)
		}
		attempt, err := t.op(t.p.Attempt)
		if err != nil {
			return err
		}
		switch t.p.State {
		case Refused, Cancelled, Expired: // It does not stand anyhow.
			return nil
		case Authorized, Captured:
			if t.p.Reserved > 0 {
				return fmt.Errorf("refusal of a payment of which some is given back: %w", ErrConflict)
			}
		default:
			return fmt.Errorf("refusal of a payment that is %s: %w", t.p.State, ErrConflict)
		}
		if t.now.After(attempt.SettledAt.Add(cmd.Window)) {
			return ErrWindow
		}
		age := t.now.Sub(t.p.CreatedAt) // The window counts from the approval, which is checked; the payment itself may be older.
		return t.cancel(CancelCommand{Window: age + time.Second, GiveBack: true, Reason: ReasonDeclined, Text: textRefused})
	})
	if err != nil {
		return View{}, err
	}
	if len(t.flights) == 0 {
		return t.view(), nil
	}
	return e.Await(ctx, m, t.p.ID, undoGrace, func(v View) bool { return v.Attempt.State != Reversing })
}

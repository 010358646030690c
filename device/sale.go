package device

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/tillgate/tillgate/card"
	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/receipt"
	"github.com/tillgate/tillgate/terminal"
)

// ask is a card sale that a customer is asked for.
type ask struct {
	order     string // The server's; empty for one of the terminal's own.
	as        string // The protocol of one of its own.
	payment   payment.ID
	number    string
	reference string
	amount    money.Amount
	tip       int64
	limit     time.Duration          // For the customer to present a card.
	takes     func(card.Scheme) bool // Nil takes all.
}

// taken is what came of it.
type taken struct {
	view   terminal.PaymentView // Outcome "" when the server was never asked.
	report terminal.Report
	// err is why the server did not take the card; nil when it did, or was never asked.
	err error
}

// takeCard asks the customer for a card and its PIN, and the server for the money; gives the answer to the chip, and prints the receipts.
func (t *Terminal) takeCard(j *job, a ask) taken {
	out := t.card(j, a)
	defer t.cfg.Parts.Reader.Release()
	r := &out.report
	r.Invoice, r.Sequence, r.At = sixDigits(j.record.Invoice), fmt.Sprintf("%012d", 1_000_000+j.record.Invoice), t.cfg.Now()
	if r.Ended != "" {
		r.Sequence = fmt.Sprintf("%012d", 0) // The host was not reached.
	}
	v := out.view
	if v.Outcome == "" { // Nothing was sent: the receipt is made of what the terminal knows.
		v = terminal.PaymentView{ID: a.payment, Number: a.number, Reference: a.reference, Minor: a.amount.Minor(), Tip: a.tip, Currency: a.amount.Currency().Code(),
			Flow: payment.ByCard, Outcome: payment.OutcomeDeclined, Reason: r.Ended, CreatedAt: t.cfg.Now()}
		if out.err != nil {
			v.Reason, v.Text = payment.ReasonUnavailable, refusalText(out.err)
		}
	}
	if j.unresolved = v.Outcome == payment.OutcomeUnknown; j.unresolved && j.stopping() {
		return out // The receipt waits for the next start, which can tell the truth.
	}
	// The paper comes no later than the answer (IOT Pay reference, 9.2); printLimit bounds how long a printer may hold it up.
	t.receipts(j.ctx, j.link, v, *r, receipt.Purchase, false)
	t.result(resultScreen(v, "", a.amount))
	return out
}

// card is takeCard up to the receipts.
func (t *Terminal) card(j *job, a ask) (out taken) {
	until := t.cfg.Now().Add(a.limit)
	ended := func(err error) taken {
		out.report.Ended = reasonOf(err)
		return out
	}
	ctx, stop := context.WithTimeoutCause(j.ctx, a.limit, errTime)
	defer stop()
	e, err := t.read(ctx, j, a, until, "")
	if err != nil {
		return ended(err)
	}
	out.report = e.report
	var pin *payment.EncryptedPIN
	if e.needsPIN(a.amount) {
		if pin, err = t.pin(j, a, e); err != nil {
			return ended(err)
		}
	}
	t.processing(a.amount)
	online, err := e.first(pin != nil)
	if out.report = e.report; err != nil || !online {
		out.report.Ended = payment.ReasonDeclined // The chip itself declines.
		return out
	}
	if err := t.leave(j); err != nil {
		return ended(err)
	}
	out.view, out.err = t.send(j, a, e.card(pin, t.cfg.Serial))
	if out.err != nil {
		out.report.Ended = ""
		if !errors.Is(out.err, errTime) && !errors.Is(out.err, errStopping) {
			out.view = terminal.PaymentView{} // The server did not take the card.
		}
		return out
	}
	t.answerChip(j, a, e, &out)
	return out
}

// read asks for a card until one comes that will do.
func (t *Terminal) read(ctx context.Context, j *job, a ask, until time.Time, hint string) (*entry, error) {
	for {
		t.show(Screen{Mode: AskCard, Title: "Tap, insert or swipe", Text: hint, Amount: show(a.amount), Until: until})
		p, err := t.cfg.Parts.Reader.Read(ctx)
		if errors.Is(err, errCard) {
			hint = "Card not read, please try again"
			continue
		}
		if err != nil {
			return nil, err
		}
		e, err := begin(p, a.amount, t.cfg.Now(), j.record.Invoice, t.cfg.Rand)
		if err != nil {
			return nil, err
		}
		if a.takes == nil || a.takes(e.app.PAN.Scheme()) {
			return e, nil
		}
		t.cfg.Parts.Reader.Release()
		hint = "This card is not accepted here, please use another"
	}
}

func (t *Terminal) pin(j *job, a ask, e *entry) (*payment.EncryptedPIN, error) {
	until := t.cfg.Now().Add(pinLimit)
	ctx, stop := context.WithTimeoutCause(j.ctx, pinLimit, errTime)
	defer stop()
	t.processing(a.amount) // The key may have to be fetched, over a line that is cut: nobody shall present the card again meanwhile.
	if err := j.link.pinKey(ctx, t.cfg.Parts.PINPad, false); err != nil {
		return nil, err
	}
	t.show(Screen{Mode: AskPIN, Title: "Enter PIN", Text: "then press OK", Amount: show(a.amount), Until: until})
	return t.cfg.Parts.PINPad.PIN(ctx, j.link.Number(), e.app.PAN, a.amount)
}

// send asks the server for the money, and then until it knows.
func (t *Terminal) send(j *job, a ask, c *payment.Card) (terminal.PaymentView, error) {
	ctx, stop := context.WithTimeoutCause(j.ctx, askLimit, errTime)
	defer stop()
	var v terminal.PaymentView
	err := j.link.call(ctx, terminal.CallAttempt, terminal.MakeAttempt(a.order, a.as, a.payment, c), &v)
	switch {
	case err == nil && v.Outcome != payment.OutcomeUnknown && v.Outcome != payment.OutcomeWaiting:
		return v, nil
	case err != nil && ctx.Err() == nil:
		return v, err // The server says no, and has taken nothing.
	}
	// No outcome: the line is cut, or the host does not answer. The card may have been charged, so nobody claims anything before it is known.
	t.show(Screen{Mode: Unresolved, Title: "One moment", Text: "Asking what became of it", Amount: show(a.amount)})
	long, stopLong := context.WithTimeoutCause(j.ctx, settleLimit, errTime)
	defer stopLong()
	known, err := t.settled(long, j.link, a.as, a.payment)
	if err != nil {
		v.ID, v.Number, v.Reference, v.Minor, v.Tip, v.Currency, v.Flow = a.payment, a.number, a.reference, a.amount.Minor(), a.tip, a.amount.Currency().Code(), payment.ByCard
		v.Outcome, v.CreatedAt = payment.OutcomeUnknown, t.cfg.Now()
		return v, nil
	}
	return known, nil
}

// answerChip lets the chip have the last word, where it still is in the reader. When it refuses what the host approved, the server undoes it,
// unless its till has been told that it is paid.
func (t *Terminal) answerChip(j *job, a ask, e *entry, out *taken) {
	approved := out.view.Outcome == payment.OutcomeApproved
	if out.view.Outcome == payment.OutcomeUnknown || e.Chip == nil {
		return
	}
	reply, err := hex.DecodeString(out.view.ChipReply)
	if err != nil {
		reply = nil
	}
	if approved && out.view.ChipReply == "" {
		return // The answer itself was lost, and its outcome found by asking: the sale stands (design 4.9).
	}
	good, err := e.second(approved, reply)
	out.report = e.report
	if !approved || good && err == nil {
		return
	}
	ctx, stop := context.WithTimeoutCause(j.ctx, refuseLimit, errTime)
	defer stop()
	var v terminal.PaymentView
	err = j.link.call(ctx, terminal.CallRefuse, terminal.RefuseCall{Order: a.order, As: a.as, Payment: a.payment}, &v)
	if err == nil {
		out.view = v
		return
	}
	// The till has been told already, or nobody can be reached: the books decide, and the receipt says what they say.
	t.cfg.Log.Warn("the card refused, and the server did not undo the sale", "payment", a.payment, "error", err)
	long, stopLong := context.WithTimeoutCause(j.ctx, settleLimit, errTime)
	defer stopLong()
	if v, err := t.settled(long, j.link, a.as, a.payment); err == nil {
		out.view = v
	} else {
		out.view.Outcome = payment.OutcomeUnknown
	}
}

// endings are the reasons of ends before anybody was asked, by their error.
var endings = []struct {
	err    error
	reason payment.Reason
}{
	{ErrCustomer, payment.ReasonCustomerCancelled},
	{errTakenBack, payment.ReasonCancelled},
	{errTime, payment.ReasonExpired},
	{context.DeadlineExceeded, payment.ReasonExpired},
}

// reasonOf is why a job has ended before anybody was asked.
func reasonOf(err error) payment.Reason {
	for _, e := range endings {
		if errors.Is(err, e.err) {
			return e.reason
		}
	}
	return payment.ReasonUnavailable
}

// refusalText is for people, where the server has refused to begin.
func refusalText(err error) string {
	switch {
	case errors.Is(err, terminal.ErrOver):
		return "The till has given the order up"
	case errors.Is(err, payment.ErrExceeds):
		return "More than is left of the payment"
	case errors.Is(err, payment.ErrWindow):
		return "Not possible any more"
	}
	return "Not possible now"
}

func sixDigits(n int64) string { return fmt.Sprintf("%06d", n%1_000_000) }

// processing asks the customer to wait.
func (t *Terminal) processing(amount money.Amount) {
	t.show(Screen{Mode: Processing, Title: "Processing", Text: "Please wait", Amount: show(amount)})
}

// show is an amount as screens have it.
func show(a money.Amount) string { return a.Currency().Code() + " " + a.String() }

package device

import (
	"context"
	"errors"

	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/receipt"
	"github.com/tillgate/tillgate/terminal"
)

// orderly carries orders out that need the terminal for themselves.
var orderly = map[terminal.OrderKind]func(*Terminal, *job, terminal.Frame) (terminal.Report, error){
	terminal.OrderSale:   (*Terminal).saleOrder,
	terminal.OrderRefund: (*Terminal).refundOrder,
	terminal.OrderPrint:  (*Terminal).printOrder,
	terminal.OrderQR:     (*Terminal).qrOrder,
}

// order acknowledges an order at once and carries it out, or says why not. One that was there before is never carried out again.
func (t *Terminal) order(l *Link, f terminal.Frame) {
	ack := func(err error) {
		a := terminal.Frame{Type: terminal.FrameAck, Kind: f.Kind, ID: f.ID}
		if err != nil {
			a.Error = terminal.MakeFault(err)
		}
		_ = l.send(a) // One that is lost brings the order again, or its end.
	}
	kind := terminal.OrderKind(f.Kind)
	switch kind {
	case terminal.OrderPing:
		ack(nil)
		return
	case terminal.OrderKeys:
		ack(nil)
		if !t.goes(func(ctx context.Context) { t.keysOrder(ctx, l, f.ID) }) {
			t.cfg.Log.Warn("order while stopping", "order", f.ID)
		}
		return
	}
	carry, ok := orderly[kind]
	if !ok {
		ack(&payment.FieldError{Field: "kind", Problem: "is no order"})
		return
	}
	t.goes(func(context.Context) { // The disk may take its time; the line is read on.
		j, err := t.take(record{ID: f.ID, Order: true}, l)
		if errors.Is(err, errKnown) {
			t.again(l, f, ack)
			return
		}
		if err != nil {
			ack(err)
			return
		}
		ack(nil)
		r, err := carry(t, j, f)
		if r.Invoice == "" {
			r.Invoice = sixDigits(j.record.Invoice)
		}
		t.finish(j, r, terminal.MakeFault(err))
	})
}

// again answers an order that was there before: it is under way, its end is told once more, or it is over.
func (t *Terminal) again(l *Link, f terminal.Frame, ack func(error)) {
	t.mu.Lock()
	running := t.job != nil && t.job.record.ID == f.ID
	e, owed := t.ends[f.ID]
	t.mu.Unlock()
	switch {
	case running:
		ack(nil)
	case owed:
		ack(nil)
		_ = l.send(e.frame)
	default:
		ack(terminal.ErrOver)
	}
}

func (t *Terminal) saleOrder(j *job, f terminal.Frame) (terminal.Report, error) {
	var o terminal.SaleOrder
	if err := f.Read(&o); err != nil {
		return terminal.Report{}, err
	}
	currency, err := money.ParseCurrency(o.Currency)
	if err != nil {
		return terminal.Report{}, payment.ErrCurrency
	}
	j.record.Payment = o.Payment
	taken := t.takeCard(j, ask{order: f.ID, payment: o.Payment, number: o.Number, reference: o.Reference, amount: money.New(o.Minor, currency),
		tip: o.Tip, limit: o.Limit})
	return taken.report, nil
}

func (t *Terminal) refundOrder(j *job, f terminal.Frame) (terminal.Report, error) {
	var o terminal.RefundOrder
	if err := f.Read(&o); err != nil {
		return terminal.Report{}, err
	}
	currency, err := money.ParseCurrency(o.Currency)
	if err != nil {
		return terminal.Report{}, payment.ErrCurrency
	}
	v, err := t.refund(j, terminal.RefundCall{Order: f.ID, Payment: o.Payment, Minor: o.Minor, Currency: o.Currency}, money.New(o.Minor, currency))
	return terminal.Report{Scheme: v.Scheme, Masked: v.Masked, Entry: v.Entry, At: t.cfg.Now()}, err
}

// refund asks the server for a refund, shows it and prints its receipt.
func (t *Terminal) refund(j *job, call terminal.RefundCall, amount money.Amount) (terminal.PaymentView, error) {
	t.show(Screen{Mode: Processing, Title: "Refund", Amount: show(amount)})
	var v terminal.PaymentView
	if err := t.leave(j); err != nil {
		return v, err
	}
	ctx, stop := context.WithTimeoutCause(j.ctx, askLimit, errTime)
	defer stop()
	if err := j.link.call(ctx, terminal.CallRefund, call, &v); err != nil {
		t.result(Screen{Mode: Declined, Title: "Refund refused", Text: refusalText(err), Amount: show(amount)})
		return v, err
	}
	for v.Outcome == payment.OutcomeUnknown || v.Outcome == payment.OutcomeWaiting {
		wait := terminal.AwaitCall{As: call.As, Payment: v.ID, Refund: v.Refund, Wait: settleLimit}
		if err := j.link.call(ctx, terminal.CallAwait, wait, &v); err != nil {
			break // The receipt says that it is not known.
		}
	}
	report := terminal.Report{Scheme: v.Scheme, Masked: v.Masked, Entry: v.Entry, Invoice: sixDigits(j.record.Invoice), At: t.cfg.Now()}
	t.receipts(j.ctx, j.link, v, report, receipt.Refund, false)
	t.result(resultScreen(v, "Refund", amount))
	return v, nil
}

func (t *Terminal) printOrder(j *job, f terminal.Frame) (terminal.Report, error) {
	var o terminal.PrintOrder
	if err := f.Read(&o); err != nil {
		return terminal.Report{}, err
	}
	ctx, stop := context.WithTimeoutCause(j.ctx, printLimit, errTime)
	defer stop()
	if o.Payment == 0 {
		return terminal.Report{}, t.cfg.Parts.Printer.Print(ctx, receipt.Plain(o.Lines))
	}
	var v terminal.PaymentView
	if err := j.link.call(ctx, terminal.CallAwait, terminal.AwaitCall{Payment: o.Payment}, &v); err != nil {
		return terminal.Report{}, err
	}
	report := terminal.Report{Scheme: v.Scheme, Masked: v.Masked, Entry: v.Entry, At: v.CreatedAt}
	return terminal.Report{}, t.receipts(ctx, j.link, v, report, receipt.Purchase, true)
}

func (t *Terminal) qrOrder(j *job, f terminal.Frame) (terminal.Report, error) {
	var o terminal.QROrder
	if err := f.Read(&o); err != nil {
		return terminal.Report{}, err
	}
	currency, err := money.ParseCurrency(o.Currency)
	if err != nil {
		return terminal.Report{}, payment.ErrCurrency
	}
	ctx, stop := context.WithTimeoutCause(j.ctx, o.Limit, errTime)
	defer stop()
	t.show(Screen{Mode: ShowCode, Title: "Scan to pay", Amount: show(money.New(o.Minor, currency)), QR: o.Text, Until: t.cfg.Now().Add(o.Limit)})
	defer t.result(Screen{Mode: Idle, Title: "Welcome"})
	err = t.cfg.Parts.Display.Dismissed(ctx)
	return terminal.Report{Ended: reasonOf(err)}, nil
}

// keysOrder fetches keys anew. It needs no customer, and waits for none.
func (t *Terminal) keysOrder(ctx context.Context, l *Link, id string) {
	ctx, stop := context.WithTimeoutCause(ctx, quickLimit, errTime)
	defer stop()
	err := errors.Join(l.newKey(ctx), l.pinKey(ctx, t.cfg.Parts.PINPad, true))
	if err != nil {
		t.cfg.Log.Error("refresh keys", "number", l.Number(), "error", err)
	}
	for _, d := range t.desks {
		if d.link == l {
			d.refresh(ctx)
		}
	}
	t.report(l, id, terminal.Report{}, terminal.MakeFault(err))
}

package device

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tillgate/tillgate/card"
	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/protocol/qfpay"
	"github.com/tillgate/tillgate/receipt"
	"github.com/tillgate/tillgate/terminal"
)

// Desk is the terminal as cash registers know it that speak QFPay's protocol to it: they ask the terminal, and the terminal asks the server.
type Desk struct {
	t    *Terminal
	link *Link

	mu       sync.Mutex
	keys     qfpay.KeySet
	settings terminal.Settings
	last     payment.Flow // Of wallets: how the last one paid.
}

var (
	_ qfpay.Desk = (*Desk)(nil)
	_ qfpay.Keys = (*Desk)(nil)
)

// hkd is the money of QFPay.
var hkd = money.MustCurrency("HKD")

// acquirerMargin is how much longer than the customer a payment lives: its host's time-out is a part of it.
const acquirerMargin = 30 * time.Second

// NewDesk makes the desk of a terminal on one of its links. Make it before the terminal runs. Its keys come from the server with every
// connection and every order to refresh them; before the first, no register is understood.
func NewDesk(t *Terminal, link *Link) *Desk {
	d := &Desk{t: t, link: link, last: payment.ByCode}
	t.desks = append(t.desks, d)
	return d
}

// refresh fetches key and switches.
func (d *Desk) refresh(ctx context.Context) {
	ctx, stop := context.WithTimeout(ctx, quickLimit)
	defer stop()
	now, last, a, err := d.link.secret(ctx, terminal.CallSettings, qfpay.Protocol)
	if err != nil {
		if ctx.Err() == nil {
			d.t.cfg.Log.Error("settings of qfpay", "number", d.link.Number(), "error", err)
		}
		return
	}
	var keys []qfpay.POSKey
	for _, text := range []terminal.Secret{now, last} {
		if key, err := qfpay.NewPOSKey(text.Reveal()); err == nil {
			keys = append(keys, key)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.settings = a.Settings
	d.keys = qfpay.KeySet{Keys: keys, Encryption: qfpay.Encryption(a.Settings.Encryption), Reply: qfpay.Reply(a.Settings.Reply)}
}

// KeySet is what the portal has set.
func (d *Desk) KeySet() qfpay.KeySet {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.keys
}

// Identity is what answers say of the terminal and its shop.
func (d *Desk) Identity() qfpay.Identity {
	w := d.link.Welcome()
	d.mu.Lock()
	defer d.mu.Unlock()
	return qfpay.Identity{MerchantName: w.Merchant, StoreName: w.Store, StoreID: w.StoreID, TerminalID: cmp.Or(d.settings.Number, w.TID), Address: d.settings.Address,
		Operator: d.settings.Operator}
}

// faults are the errors of terminals in the protocol's words.
var faults = []struct{ from, to error }{
	{terminal.ErrBusy, qfpay.ErrBusy},
	{ErrOffline, qfpay.ErrOffline},
	{errStopping, qfpay.ErrOffline},
	{errKnown, payment.ErrKeyReused},
}

func deskError(err error) error {
	for _, f := range faults {
		if errors.Is(err, f.from) {
			return f.to
		}
	}
	return err
}

// begin takes the terminal for an order of the register's, which ends with ctx unless something has left by then.
func (d *Desk) begin(ctx context.Context, order string) (*job, func(), error) {
	if !d.link.Online() {
		return nil, nil, qfpay.ErrOffline
	}
	j, err := d.t.take(record{ID: order, As: qfpay.Protocol}, d.link)
	if err != nil {
		return nil, nil, deskError(err)
	}
	unhook := context.AfterFunc(ctx, func() { _ = d.t.end(order, errTime) })
	return j, func() {
		unhook()
		d.t.finish(j, terminal.Report{}, nil)
	}, nil
}

// Sale takes one payment.
func (d *Desk) Sale(ctx context.Context, r qfpay.SaleRequest) (qfpay.Trade, error) {
	j, finish, err := d.begin(ctx, r.Order)
	if err != nil {
		return qfpay.Trade{}, err
	}
	defer finish()
	flow := r.Flow
	d.mu.Lock()
	if flow == "" {
		flow = d.last
	} else if flow != payment.ByCard {
		d.last = flow
	}
	d.mu.Unlock()
	r.Flow = flow
	switch flow {
	case payment.ByCard:
		return d.byCard(ctx, j, r)
	case payment.ByCode:
		return d.byCode(ctx, j, r)
	}
	return d.byQR(ctx, j, r)
}

// sell asks the server for a payment. The errors are the protocol's: a number that is taken by something undecided is busy.
func (d *Desk) sell(ctx context.Context, j *job, r qfpay.SaleRequest, method, code string, life time.Duration) (terminal.PaymentView, error) {
	call := terminal.SellCall{As: qfpay.Protocol, Key: r.OutTradeNo, Minor: r.Amount.Minor(), Currency: r.Amount.Currency().Code(), Method: method, Flow: r.Flow,
		Code: code, Lifetime: life, Wait: 20 * time.Second, Echo: string(r.Channel)}
	var v terminal.PaymentView
	err := d.link.call(ctx, terminal.CallSell, call, &v)
	if errors.Is(err, payment.ErrKeyReused) && r.OutTradeNo != "" {
		old, findErr := d.find(ctx, qfpay.InquiryRequest{OutTradeNo: r.OutTradeNo})
		if findErr == nil && (old.Outcome == payment.OutcomeUnknown || old.Outcome == payment.OutcomeWaiting) {
			err = payment.ErrKeyBusy
		}
	}
	if err == nil {
		j.record.Payment = v.ID
		err = d.t.journal.note(j.record)
	}
	return v, err
}

// schemes are the cards that a channel takes.
var schemes = map[qfpay.Channel][]card.Scheme{
	qfpay.CardPayment:  {card.Visa, card.Mastercard},
	qfpay.AmexCard:     {card.Amex},
	qfpay.UnionPayCard: {card.UnionPay},
}

func (d *Desk) byCard(ctx context.Context, j *job, r qfpay.SaleRequest) (qfpay.Trade, error) {
	v, err := d.sell(ctx, j, r, terminal.MethodCard, "", r.Timeout+pinLimit+askLimit)
	if err != nil {
		return qfpay.Trade{}, err
	}
	if v.Outcome != payment.OutcomeWaiting || v.Attempted {
		return d.trade(v), nil
	}
	out := d.t.takeCard(j, ask{as: qfpay.Protocol, payment: v.ID, number: v.Number, reference: r.OutTradeNo, amount: r.Amount, limit: r.Timeout,
		takes: func(s card.Scheme) bool { return slices.Contains(schemes[r.Channel], s) }})
	if out.view.Outcome != "" {
		out.view.Echo = string(r.Channel)
		return d.trade(out.view), nil
	}
	// Nothing was sent: the payment ends for the terminal's reason. Should the server not hear it, the payment's lifetime ends it.
	reason := cmp.Or(out.report.Ended, payment.ReasonUnavailable)
	d.giveUp(j, v.ID, reason)
	v.Outcome, v.Reason = payment.OutcomeDeclined, reason
	return d.trade(v), nil
}

// giveUp cancels a payment at the server, and tells how it stands then; Outcome is "" when that cannot be learned.
func (d *Desk) giveUp(j *job, id payment.ID, reason payment.Reason) terminal.PaymentView {
	limit := quickLimit
	if j.stopping() {
		limit = stopLimit
	}
	ctx, stop := context.WithTimeoutCause(context.WithoutCancel(j.ctx), limit, errTime)
	defer stop()
	var v terminal.PaymentView
	if reason == payment.ReasonDeclined && j.sent {
		reason = payment.ReasonUnavailable
	}
	err := d.link.call(ctx, terminal.CallCancel, terminal.CancelCall{As: qfpay.Protocol, Payment: id, Reason: reason}, &v)
	if err == nil {
		return v
	}
	if err = d.link.call(ctx, terminal.CallAwait, terminal.AwaitCall{As: qfpay.Protocol, Payment: id, Wait: quickLimit}, &v); err != nil {
		return terminal.PaymentView{}
	}
	return v
}

func (d *Desk) byCode(ctx context.Context, j *job, r qfpay.SaleRequest) (qfpay.Trade, error) {
	until := d.t.cfg.Now().Add(r.Timeout)
	d.t.show(Screen{Mode: AskCode, Title: "Show your payment code", Amount: show(r.Amount), Until: until})
	patience, stop := context.WithTimeoutCause(j.ctx, r.Timeout, errTime)
	defer stop()
	code, err := d.t.cfg.Parts.Scanner.Scan(patience, r.FrontCamera)
	if err == nil {
		err = d.t.leave(j)
	}
	if err != nil {
		return d.unbegun(r, reasonOf(err)), nil
	}
	d.t.processing(r.Amount)
	v, err := d.sell(ctx, j, r, r.Method, code.Reveal(), r.Timeout+acquirerMargin)
	if err != nil {
		if known := terminal.MakeFault(err); known.Code == "internal" || ctx.Err() != nil {
			return d.lost(r), nil
		}
		d.t.result(Screen{Mode: Declined, Title: "Not completed", Text: refusalText(err), Amount: show(r.Amount)})
		return qfpay.Trade{}, err
	}
	v = d.await(patience, j, v)
	if v.Outcome == payment.OutcomeWaiting { // The customer was to type a password, and has not.
		if now := d.giveUp(j, v.ID, payment.ReasonExpired); now.Outcome != "" {
			v = now
		}
	}
	return d.ended(j, r, v), nil
}

func (d *Desk) byQR(ctx context.Context, j *job, r qfpay.SaleRequest) (qfpay.Trade, error) {
	d.t.processing(r.Amount)
	v, err := d.sell(ctx, j, r, r.Method, "", r.Timeout)
	if err != nil {
		if known := terminal.MakeFault(err); known.Code == "internal" || ctx.Err() != nil {
			return d.lost(r), nil // It may stand at the server; its lifetime ends it.
		}
		return qfpay.Trade{}, err
	}
	if v.Outcome == payment.OutcomeWaiting && v.QR != "" {
		d.t.show(Screen{Mode: ShowCode, Title: "Scan to pay", Amount: show(r.Amount), QR: v.QR, Until: d.t.cfg.Now().Add(r.Timeout)})
	}
	ctx, stop := context.WithTimeoutCause(j.ctx, r.Timeout, errTime)
	defer stop()
	red, unhook := context.WithCancelCause(ctx)
	defer unhook(nil)
	var key sync.WaitGroup
	key.Go(func() {
		if err := d.t.cfg.Parts.Display.Dismissed(red); errors.Is(err, ErrCustomer) {
			unhook(ErrCustomer)
		}
	})
	v = d.await(red, j, v)
	why := context.Cause(red)
	unhook(nil)
	key.Wait()
	if v.Outcome == payment.OutcomeWaiting || v.Outcome == payment.OutcomeUnknown {
		if now := d.giveUp(j, v.ID, reasonOf(why)); now.Outcome != "" {
			v = now // An approval that came first stands.
		}
	}
	return d.ended(j, r, v), nil
}

// await asks the server until a payment is decided or ctx ends.
func (d *Desk) await(ctx context.Context, j *job, v terminal.PaymentView) terminal.PaymentView {
	for (v.Outcome == payment.OutcomeWaiting || v.Outcome == payment.OutcomeUnknown) && ctx.Err() == nil {
		var now terminal.PaymentView
		if err := j.link.call(ctx, terminal.CallAwait, terminal.AwaitCall{As: qfpay.Protocol, Payment: v.ID, Wait: 20 * time.Second}, &now); err == nil {
			v = now
			continue
		}
		select {
		case <-time.After(settlePause):
		case <-ctx.Done():
		}
	}
	return v
}

// ended prints the receipts of a wallet's payment, and shows how it went.
func (d *Desk) ended(j *job, r qfpay.SaleRequest, v terminal.PaymentView) qfpay.Trade {
	v.Echo = string(r.Channel)
	report := terminal.Report{Invoice: sixDigits(j.record.Invoice), At: d.t.cfg.Now()}
	_ = d.t.receipts(j.ctx, d.link, v, report, receipt.Purchase, false) // The log has it.
	d.t.result(resultScreen(v, "", r.Amount))
	return d.trade(v)
}

// unbegun is a sale of which the server has never heard.
func (d *Desk) unbegun(r qfpay.SaleRequest, reason payment.Reason) qfpay.Trade {
	d.t.result(resultScreen(terminal.PaymentView{Outcome: payment.OutcomeDeclined, Reason: reason}, "", r.Amount))
	return qfpay.Trade{OutTradeNo: r.OutTradeNo, Amount: r.Amount, Channel: r.Channel, Flow: r.Flow, Outcome: payment.OutcomeDeclined, Reason: reason,
		CreatedAt: d.t.cfg.Now()}
}

// lost is a sale of which the server may have heard.
func (d *Desk) lost(r qfpay.SaleRequest) qfpay.Trade {
	d.t.result(resultScreen(terminal.PaymentView{Outcome: payment.OutcomeUnknown}, "", r.Amount))
	return qfpay.Trade{OutTradeNo: r.OutTradeNo, Amount: r.Amount, Channel: r.Channel, Flow: r.Flow, Outcome: payment.OutcomeUnknown, CreatedAt: d.t.cfg.Now()}
}

// Refund gives money back.
func (d *Desk) Refund(ctx context.Context, r qfpay.RefundRequest) (qfpay.Trade, error) {
	j, finish, err := d.begin(ctx, r.Order)
	if err != nil {
		return qfpay.Trade{}, err
	}
	defer finish()
	original, err := d.find(ctx, qfpay.InquiryRequest{Number: r.Original})
	if errors.Is(err, payment.ErrNotFound) {
		original, err = d.find(ctx, qfpay.InquiryRequest{OutTradeNo: r.Original})
	}
	switch {
	case err != nil:
		return qfpay.Trade{}, err
	case original.Refund != 0:
		return qfpay.Trade{}, payment.ErrWrongKind
	case !d.channel(original).Refundable():
		return qfpay.Trade{}, qfpay.ErrNotRefundable
	}
	amount := r.Amount
	if amount.IsZero() {
		amount = money.New(original.Left, hkd)
		if amount.IsZero() {
			return qfpay.Trade{}, payment.ErrExceeds
		}
	}
	call := terminal.RefundCall{As: qfpay.Protocol, Payment: original.ID, Minor: amount.Minor(), Currency: amount.Currency().Code()}
	v, err := d.t.refund(j, call, amount)
	switch {
	case errors.Is(err, payment.ErrWindow) && original.Flow == payment.ByCard && amount.Minor() < original.Minor:
		return qfpay.Trade{}, qfpay.ErrSameDayPartial
	case err != nil && (errors.Is(err, errTime) || errors.Is(err, errStopping)):
		return qfpay.Trade{Refund: true, Original: original.Number, OriginalAmount: money.New(original.Minor, hkd), Amount: amount, Channel: d.channel(original),
			Flow: original.Flow, Outcome: payment.OutcomeUnknown, CreatedAt: d.t.cfg.Now()}, nil
	case err != nil:
		return qfpay.Trade{}, deskError(err)
	}
	v.Echo = string(d.channel(original))
	return d.trade(v), nil
}

// Cancel asks for the end of a running order.
func (d *Desk) Cancel(_ context.Context, order string) error {
	switch err := d.t.end(order, errTakenBack); {
	case errors.Is(err, terminal.ErrTooLate):
		return qfpay.ErrTooLate
	case err != nil:
		return qfpay.ErrNotRunning
	}
	return nil
}

func (d *Desk) find(ctx context.Context, r qfpay.InquiryRequest) (terminal.PaymentView, error) {
	call := terminal.FindCall{As: qfpay.Protocol, Number: r.Number, Key: r.OutTradeNo}
	if call.Number != "" {
		call.Key = ""
	}
	var v terminal.PaymentView
	err := d.link.fresh(ctx, terminal.CallFind, call, &v)
	return v, err
}

// Inquiry finds a sale or a refund.
func (d *Desk) Inquiry(ctx context.Context, r qfpay.InquiryRequest) (qfpay.Trade, error) {
	v, err := d.find(ctx, r)
	if err != nil {
		return qfpay.Trade{}, deskError(err)
	}
	return d.trade(v), nil
}

// Summary is what the current business day has come to.
func (d *Desk) Summary(ctx context.Context) (qfpay.Summary, error) {
	var a terminal.SummaryAnswer
	if err := d.link.fresh(ctx, terminal.CallSummary, terminal.SummaryCall{As: qfpay.Protocol}, &a); err != nil {
		return qfpay.Summary{}, deskError(err)
	}
	totals := map[qfpay.Channel]*qfpay.Total{}
	var order []qfpay.Channel
	for _, row := range a.Totals {
		method := row.Method
		if row.Flow == payment.ByCard {
			method = string(row.Scheme)
		}
		channel := qfpay.ChannelOf(row.Flow, method)
		if channel == "" || row.Currency != hkd.Code() {
			continue
		}
		t := totals[channel]
		if t == nil {
			t = &qfpay.Total{Channel: channel}
			totals[channel] = t
			order = append(order, channel)
		}
		t.Sales, t.Refunds, t.Unresolved = t.Sales+row.Sales, t.Refunds+row.Refunds, t.Unresolved+row.Open
		t.SalesSum, t.RefundsSum = plus(t.SalesSum, row.SalesMinor), plus(t.RefundsSum, row.RefundsMinor)
	}
	s := qfpay.Summary{Day: a.Day}
	for _, c := range order {
		s.Totals = append(s.Totals, *totals[c])
	}
	return s, nil
}

func plus(a money.Amount, minor int64) money.Amount { return money.New(a.Minor()+minor, hkd) }

// print prints while the terminal does nothing else.
func (d *Desk) print(do func(ctx context.Context, j *job) error) error {
	name, err := terminal.NewNonce(d.t.cfg.Rand)
	if err != nil {
		return err
	}
	j, err := d.t.take(record{ID: "print-" + name, As: qfpay.Protocol}, d.link)
	if err != nil {
		return deskError(err)
	}
	defer d.t.finish(j, terminal.Report{}, nil)
	ctx, stop := context.WithTimeoutCause(j.ctx, printLimit, errTime)
	defer stop()
	err = do(ctx, j)
	var jam *PrinterError
	if errors.As(err, &jam) {
		return &qfpay.PrinterError{Problem: jam.Problem}
	}
	return err
}

// PrintReceipt prints the receipt of a trade once more.
func (d *Desk) PrintReceipt(ctx context.Context, t qfpay.Trade) error {
	v, err := d.find(ctx, qfpay.InquiryRequest{Number: t.Number})
	if err != nil {
		return deskError(err)
	}
	kind := receipt.Purchase
	if v.Refund != 0 {
		kind = receipt.Refund
	}
	report := terminal.Report{Scheme: v.Scheme, Masked: v.Masked, Entry: v.Entry, At: v.CreatedAt}
	return d.print(func(ctx context.Context, _ *job) error { return d.t.receipts(ctx, d.link, v, report, kind, true) })
}

// PrintSummary prints what Summary has told.
func (d *Desk) PrintSummary(_ context.Context, s qfpay.Summary) error {
	return d.print(func(ctx context.Context, _ *job) error {
		return d.t.cfg.Parts.Printer.Print(ctx, receipt.Plain(s.Lines(receipt.Columns58)))
	})
}

// channel is the channel of a payment: the one that it was asked for in, or the one that its method stands for.
func (d *Desk) channel(v terminal.PaymentView) qfpay.Channel {
	if slices.Contains(qfpay.Channels(), qfpay.Channel(v.Echo)) {
		return qfpay.Channel(v.Echo)
	}
	method := v.Method
	if v.Flow == payment.ByCard {
		method = string(v.Scheme)
	}
	return qfpay.ChannelOf(v.Flow, method)
}

// trade is a payment in the protocol's words.
func (d *Desk) trade(v terminal.PaymentView) qfpay.Trade {
	currency, err := money.ParseCurrency(v.Currency)
	if err != nil {
		currency = hkd
	}
	t := qfpay.Trade{Refund: v.Refund != 0, Number: v.Number, Amount: money.New(v.Minor, currency), Channel: d.channel(v), Flow: v.Flow, Outcome: v.Outcome,
		Reason: v.Reason, Text: v.Text, Refunded: money.New(v.Refunded, currency), Voided: v.Voided, Original: v.Original, CreatedAt: v.CreatedAt, PaidAt: v.PaidAt,
		Reference: cmp.Or(v.Provider, v.RRN), Card: qfpay.Card{Masked: v.Masked, Scheme: string(v.Scheme)}}
	if t.Refund {
		t.OriginalAmount = money.New(v.Whole, currency)
	}
	if !strings.HasPrefix(v.Key, "call-") { // Those are the server's.
		t.OutTradeNo = v.Key
	}
	if v.Day != 0 {
		t.Batch = fmt.Sprintf("%06d", int32(v.Day)%1_000_000)
	}
	if v.Outcome != payment.OutcomeApproved {
		t.PaidAt = time.Time{}
	}
	return t
}

package device_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tillgate/tillgate/device"
	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/protocol/qfpay"
	"github.com/tillgate/tillgate/terminal"
)

// purse is a wallet network that does as it is told: codes beginning with 28 pay, others do not; a QR code waits until somebody pays it.
type purse struct {
	mu   sync.Mutex
	paid map[string]payment.Outcome // By number.
}

func (p *purse) Traits() payment.Traits {
	return payment.Traits{Class: payment.Provider, Timeout: 2 * time.Second}
}

func (p *purse) set(number string, o payment.Outcome) payment.Outcome {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.paid == nil {
		p.paid = map[string]payment.Outcome{}
	}
	if o != "" {
		p.paid[number] = o
	}
	return p.paid[number]
}

func (p *purse) Do(_ context.Context, m payment.Message) payment.Answer {
	switch m.Operation.Kind {
	case payment.Sale:
		code, byCode := m.Secret.(payment.WalletCode)
		switch {
		case !byCode:
			return payment.Answer{Outcome: p.set(m.Operation.Number, payment.OutcomeWaiting), Result: payment.Result{QR: "https://qr.example/" + m.Operation.Number}}
		case strings.HasPrefix(code.Reveal(), "28"):
			return payment.Answer{Outcome: p.set(m.Operation.Number, payment.OutcomeApproved), Result: payment.Result{ProviderReference: "W1"}}
		}
		return payment.Answer{Outcome: p.set(m.Operation.Number, payment.OutcomeDeclined), Reason: payment.ReasonInsufficientFunds}
	case payment.CancelOperation, payment.Close:
		if p.set(m.Target.Number, "") == payment.OutcomeWaiting {
			p.set(m.Target.Number, payment.OutcomeDeclined)
		}
	}
	return payment.Answer{Outcome: payment.OutcomeApproved}
}

func (p *purse) Query(_ context.Context, m payment.Message) payment.Answer {
	return payment.Answer{Outcome: p.set(m.Operation.Number, "")}
}

// counter is a terminal with a cash register beside it.
type counter struct {
	*rig
	*unit
	desk     *device.Desk
	register *qfpay.Client
	entry    terminal.Entry
}

func (r *rig) counter() *counter {
	r.t.Helper()
	ctx := context.Background()
	c := &counter{rig: r}
	for _, wallet := range []string{"alipay", "payme", "fps"} {
		if err := r.books.SetMethod(ctx, r.owner.ID, wallet, payment.Method{Acquirer: "purse"}); err != nil {
			r.t.Fatal(err)
		}
	}
	u := r.pair()
	i, err := r.server.registry.AddIdentity(ctx, 0, terminal.Identity{Merchant: r.owner.ID, Terminal: u.caller.Terminal.ID, Protocol: "qfpay", Number: "868123456789"})
	if err == nil {
		_, err = r.server.registry.CheckIn(ctx, i, terminal.Device{}) // Its first POS-KEY.
	}
	if err == nil {
		c.entry, err = r.server.registry.Fresh(ctx, "qfpay", "868123456789")
	}
	if err != nil {
		r.t.Fatal(err)
	}
	u.before = func(u *unit) { c.desk = device.NewDesk(u.Terminal, u.Links()[0]) }
	r.start(u)
	c.unit = u
	r.until("the POS-KEY", func() bool { return len(c.desk.KeySet().Keys) > 0 })
	server := &qfpay.Server{Desk: c.desk, Keys: c.desk, Log: r.logger}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	served, stop := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() { defer close(ended); _ = (&qfpay.HTTPLink{Server: server}).Serve(served, l) }()
	r.stops = append([]func(){func() { stop(); <-ended }}, r.stops...)
	keys, err := r.server.registry.Keys(c.entry)
	if err != nil {
		r.t.Fatal(err)
	}
	key, err := qfpay.NewPOSKey(keys[0].Typed().Reveal())
	if err != nil {
		r.t.Fatal(err)
	}
	c.register = &qfpay.Client{Link: &qfpay.OverHTTP{URL: "http://" + l.Addr().String()}, Key: key}
	return c
}

func hkd(text string) money.Amount {
	a, err := money.Parse(text, money.MustCurrency("HKD"))
	if err != nil {
		panic(err)
	}
	return a
}

func TestACashRegisterBesideTheTerminal(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.counter()
	r.customer(c.unit, "approve").Code = "280000000000009050"
	ctx := context.Background()

	sale, err := c.register.Sale(ctx, qfpay.SaleCall{OutTradeNo: "T-1", Amount: hkd("10.10"), Channel: qfpay.CardPayment, PaymentTimeout: 30 * time.Second})
	if err != nil {
		t.Fatalf("%v; log:\n%s", err, r.log)
	}
	if sale.CardNumber != "555474******0229" || sale.CardScheme != "MASTERCARD" || sale.OutTradeNo != "T-1" || len(sale.Number) != 26 || sale.Amount != hkd("10.10") {
		t.Errorf("sale: %+v", sale)
	}
	if got := r.movements(); got != "payment 1010 HKD done" || strings.Count(c.paper(), "APPROVED - THANK YOU") != 2 {
		t.Errorf("books: %s; receipts:\n%s", got, c.paper())
	}
	d, err := c.register.Inquiry(ctx, qfpay.InquiryRequest{OutTradeNo: "T-1"})
	if err != nil || d.Syssn != sale.Number || d.RespCD != qfpay.InnerOK {
		t.Errorf("inquiry: %+v, %v", d, err)
	}
	if d, err = c.register.Inquiry(ctx, qfpay.InquiryRequest{Number: sale.Number}); err != nil || d.OutTradeNo != "T-1" {
		t.Errorf("inquiry by number: %+v, %v", d, err)
	}
	if err := c.register.Print(ctx, sale.Number); err != nil || !strings.Contains(c.paper(), "REPRINT") {
		t.Errorf("print: %v", err)
	}
	var no *qfpay.Refusal
	if _, err = c.register.Sale(ctx, qfpay.SaleCall{OutTradeNo: "T-1", Amount: hkd("10.10"), Channel: qfpay.CardPayment}); !errors.As(err, &no) || no.Inner != qfpay.InnerDuplicate {
		t.Errorf("the same number again: %v", err)
	}
	if _, err = c.register.Refund(ctx, qfpay.RefundCall{OrderID: sale.Number, Amount: hkd("4")}); !errors.As(err, &no) || no.Inner != qfpay.InnerSameDayPartial {
		t.Errorf("refund of a part by card: %v", err)
	}
	back, err := c.register.Refund(ctx, qfpay.RefundCall{OrderID: sale.Number})
	if err != nil || back.Amount != hkd("10.10") || back.Original != sale.Number {
		t.Errorf("refund: %+v, %v", back, err)
	}
	if got := r.movements(); got != "refund 1010 HKD done; payment 1010 HKD done" {
		t.Errorf("books: %s", got)
	}
	if d, err = c.register.Inquiry(ctx, qfpay.InquiryRequest{Number: back.Number}); err != nil || d.OrigSsn != sale.Number {
		t.Errorf("inquiry of the refund: %+v, %v", d, err)
	}

	code, err := c.register.Sale(ctx, qfpay.SaleCall{OutTradeNo: "T-2", Amount: hkd("20"), Channel: qfpay.Alipay, ScanType: qfpay.ScanRead, PaymentTimeout: 20 * time.Second})
	if err != nil {
		t.Fatalf("by code: %v; log:\n%s", err, r.log)
	}
	for range 2 { // Equal refunds, one after the other, are two.
		if _, err := c.register.Refund(ctx, qfpay.RefundCall{OrderID: code.Number, Amount: hkd("5")}); err != nil {
			t.Errorf("refund of a part of a wallet's: %v", err)
		}
	}
	s, err := c.desk.Summary(ctx)
	if err != nil {
		t.Fatal(err)
	}
	got := map[qfpay.Channel][4]int64{}
	for _, row := range s.Totals {
		got[row.Channel] = [4]int64{int64(row.Sales), row.SalesSum.Minor(), int64(row.Refunds), row.RefundsSum.Minor()}
	}
	if got[qfpay.CardPayment] != [4]int64{1, 1010, 1, 1010} || got[qfpay.Alipay] != [4]int64{1, 2000, 2, 1000} {
		t.Errorf("summary: %v", got)
	}
	if err := c.register.Summary(ctx); err != nil || !strings.Contains(c.paper(), "TRANSACTION SUMMARY") {
		t.Errorf("print summary: %v", err)
	}
}

func TestACodeThatTheTerminalShows(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.counter()
	ctx := context.Background()
	pay := func(name string) <-chan error {
		ends := make(chan error, 1)
		go func() {
			_, err := c.register.Sale(ctx, qfpay.SaleCall{OutTradeNo: name, Amount: hkd("20"), Channel: qfpay.PayMe, ScanType: qfpay.ScanShow, PaymentTimeout: 20 * time.Second})
			ends <- err
		}()
		r.await(c.unit, device.ShowCode)
		return ends
	}
	paid := pay("Q-1")
	s, _ := c.See()
	r.purse.set(strings.TrimPrefix(s.Screen.QR, "https://qr.example/"), payment.OutcomeApproved)
	if err := <-paid; err != nil || strings.Count(c.paper(), "APPROVED") != 2 {
		t.Errorf("paid: %v", err)
	}
	var no *qfpay.Refusal
	red := pay("Q-2")
	r.until("the key", c.Cancel)
	if err := <-red; !errors.As(err, &no) || !no.Cancelled() {
		t.Errorf("cancelled at the terminal: %v", err)
	}
	ended := pay("Q-3")
	if err := c.register.Cancel(ctx); err != nil {
		t.Errorf("cancel: %v", err)
	}
	if err := <-ended; !errors.As(err, &no) || !no.Cancelled() {
		t.Errorf("cancelled by the register: %v", err)
	}
}

func TestTheRegistersCardSalesThatEndOtherwise(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.counter()
	ctx := context.Background()
	sale := func(name, amount string, channel qfpay.Channel) <-chan error {
		ends := make(chan error, 1)
		go func() {
			_, err := c.register.Sale(ctx, qfpay.SaleCall{OutTradeNo: name, Amount: hkd(amount), Channel: channel, PaymentTimeout: 20 * time.Second})
			ends <- err
		}()
		r.await(c.unit, device.AskCard)
		return ends
	}
	var no *qfpay.Refusal
	ends := sale("T-1", "10", qfpay.CardPayment)
	if err := r.server.channel.Free(c.caller); !errors.Is(err, terminal.ErrBusy) {
		t.Errorf("for the server's orders: %v", err)
	}
	if _, err := c.register.Sale(ctx, qfpay.SaleCall{OutTradeNo: "T-2", Amount: hkd("1"), Channel: qfpay.CardPayment}); !errors.As(err, &no) {
		t.Errorf("two registers at once: %v", err)
	}
	if err := c.register.Cancel(ctx); err != nil {
		t.Errorf("cancel: %v", err)
	}
	if err := <-ends; !errors.As(err, &no) || !no.Cancelled() {
		t.Errorf("cancelled: %v", err)
	}

	ends = sale("T-1", "10", qfpay.AmexCard) // The number is free again; the first card is of another scheme.
	visa, _ := c.Card("0010")
	r.until("the card", func() bool { return c.Present(visa, payment.EntryChip) })
	r.until("the hint", func() bool { s, _ := c.See(); return strings.Contains(s.Screen.Text, "not accepted") })
	amex, _ := c.Card("1005")
	r.until("the card", func() bool { return c.Present(amex, payment.EntryContactlessChip) })
	if err := <-ends; err != nil {
		t.Errorf("by Amex: %v", err)
	}

	ends = sale("T-3", "9098", qfpay.CardPayment) // The ARPC is wrong.
	go func() { r.insert(c.unit, nothing, nothing) }()
	if err := <-ends; !errors.As(err, &no) {
		t.Errorf("refused by the card: %v", err)
	}
	r.until("the reversal", func() bool { return strings.HasPrefix(r.movements(), "payment 909800 HKD reversed") })

	// The terminal is restarted while it asks for a card: nothing is left behind.
	ends = sale("T-4", "30", qfpay.CardPayment)
	r.kill(c.unit)
	<-ends
	r.start(c.unit)
	r.until("the payment's end", func() bool {
		v, _, err := r.server.engine.Find(ctx, r.owner.ID, payment.Key{Scope: "qfpay", Key: "T-4"})
		return err == nil && v.Payment.State == payment.Cancelled
	})
}

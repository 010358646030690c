package iotpay_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/protocol/iotpay"
)

// TestCardSale is the way of the seed: the till asks, the terminal takes the card, the answer holds the whole order.
func TestCardSale(t *testing.T) {
	t.Parallel()
	r := setup(t)
	n := number()
	a := r.till(t).create(cardOrder(n)).is(iotpay.StatusPaid).says("000 Approved 00 Thank You")
	o, x := a.order(), a.card()
	if o.MchOrderNo != n || o.MchID != mchID || o.ChannelID != "CC_PAX" || o.Currency != "CAD" || o.Amount != 2865 || o.Tip != 0 ||
		o.Refundable != 2865 || o.TrxAmount != 2865 || o.UserName != loginName || o.StoreID != "st0demo01" || o.DeviceID != "POS01" ||
		o.Subject != "Table 12" || o.Body != "Dinner" || o.NotifyURL != "http://localhost" || o.PayType != "pay" || o.ClientIP != "192.0.2.15" ||
		o.PaySuccTime == 0 || o.CreateDate == 0 || o.CreateDate%1000 != 0 || o.OriginalOrderID != "" || o.ChannelOrderNo != "" {
		a.errorf("order %+v", o)
	}
	if len(o.PayOrderID) != 28 || !strings.HasPrefix(o.PayOrderID, "CP") || a.text("payOrderId") != o.PayOrderID || a.text("mchOrderNo") != n {
		a.errorf("numbers")
	}
	if x.CardType != "V" || x.CardNum != "XXXXXXXXXXXX4242" || x.ExpireDate != "1228" || x.EMVLabel != "VISA CREDIT" || x.EMVAID != "A0000000031010" ||
		x.EMVTVR != "0080008000" || x.EMVTSI != "F800" || x.EMVTC != "TC: 1A2B3C4D5E6F7081" || x.BankTermNum != "40990001" || len(x.TermNum) != 5 ||
		x.TermInvoiceNum != "000412" || x.SeqNum != "000001000412" || x.AuthNum != "A1B2C3" || x.BatchNum != "0031" || x.TrxMethod != "C" ||
		x.TrxDate != "03012026" || x.TrxTime != "090007" || x.CVMResults != "440302" || x.TrxCode != "00" || x.LangCode != "E" || len(x.TimeStamp) != 17 {
		a.errorf("extra %+v", x)
	}
	order := []string{"resCode", "retCode", "retParams", "payOrderId", "mchOrderNo", "retDetail", "payOrder", "sign"}
	at := -1
	for _, name := range order { // The seed's order of members.
		next := strings.Index(string(a.body), `"`+name+`":`)
		if next < at {
			a.errorf("%s stands elsewhere in the seed's sample", name)
		}
		at = next
	}
	if r.host.moved() != 2865 || r.pad.orders.Load() != 1 {
		t.Errorf("moved %d with %d orders", r.host.moved(), r.pad.orders.Load())
	}
}

// TestCardEndings are all ways in which a card order ends unpaid (§4.3): nothing may have moved.
func TestCardEndings(t *testing.T) {
	t.Parallel()
	ends := func(reason payment.Reason) func(*rig) {
		return func(r *rig) {
			r.pad.does(func(context.Context, payment.Caller, payment.Payment) (iotpay.Report, error) {
				return iotpay.Report{Ended: reason}, nil
			})
		}
	}
	fails := func(err error) func(*rig) {
		return func(r *rig) {
			r.pad.does(func(context.Context, payment.Caller, payment.Payment) (iotpay.Report, error) {
				return iotpay.Report{}, err
			})
		}
	}
	declines := func(reason payment.Reason, code string) func(*rig) {
		return func(r *rig) { r.host.declines(reason, code) }
	}
	for name, c := range map[string]struct {
		prepare func(*rig)
		status  iotpay.Status
		display string
		detail  string
		card    bool // The card was read.
	}{
		"declined":                          {declines(payment.ReasonDeclined, "05"), 9, "Transaction Not Completed 05", "", true},
		"declined without a code":           {declines(payment.ReasonDeclined, ""), 9, "Transaction Not Completed 05", "", true},
		"too little money":                  {declines(payment.ReasonInsufficientFunds, "51"), 9, "Transaction Not Completed 51", "", true},
		"card expired":                      {declines(payment.ReasonCardExpired, "54"), 9, "Transaction Not Completed 54", "", true},
		"wrong PIN":                         {declines(payment.ReasonPINWrong, "55"), 9, "Transaction Not Completed 55", "", true},
		"a code of the host's own":          {declines(payment.ReasonNotPermitted, "57"), 9, "Transaction Not Completed 57", "", true},
		"cancelled at the terminal":         {ends(payment.ReasonCustomerCancelled), 9, "Transaction Cancelled 266", "", false},
		"no card came":                      {ends(payment.ReasonExpired), 9, "Transaction Timeout 350", "", false},
		"the chip declined by itself":       {ends(payment.ReasonDeclined), 9, "Transaction Not Completed 05", "", false},
		"a reason that is none":             {ends("lightning"), 4, "Terminal Not Available", "The terminal could not take a card.", false},
		"no reason":                         {ends(""), 4, "Terminal Not Available", "The terminal could not take a card.", false},
		"terminal absent":                   {fails(iotpay.ErrAbsent), 4, "Terminal Not Available", "The terminal is not connected.", false},
		"terminal busy":                     {fails(iotpay.ErrBusy), 4, "Terminal Not Available", "The terminal is busy with another order.", false},
		"link cut before the card was read": {fails(iotpay.ErrLost), 4, "Terminal Not Available", "The link to the terminal broke before a card was read.", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := setup(t)
			c.prepare(r)
			n := number()
			a := r.till(t).create(cardOrder(n)).is(c.status).says(c.display)
			o, x := a.order(), a.card()
			if o.TrxAmount != 0 || o.PaySuccTime != 0 || o.Refundable != 2865 || a.text("retDetail") != c.detail {
				a.errorf("order %+v", o)
			}
			if x.AuthNum != "" || x.BatchNum != "0000" || x.TermNum == "" || x.BankTermNum != "40990001" || x.TermInvoiceNum == "" || x.TimeStamp == "" {
				a.errorf("extra %+v", x)
			}
			if !c.card && (x.CardType != " " || x.ExpireDate != "    " || x.CardNum != "" || x.EMVAID != "" || x.TrxMethod != "" || x.SeqNum != "000000000000" ||
				x.TrxDate != "" || x.TrxTime != "") {
				a.errorf("no card was read, but extra is %+v", x) // seed: blanks.
			}
			if c.card && (x.CardNum != "XXXXXXXXXXXX4242" || x.CardType != "V" || x.SeqNum == "000000000000" || x.TrxMethod != "C") {
				a.errorf("a card was read, but extra is %+v", x)
			}
			q := r.till(t).query(n).is(c.status).says(c.display)
			if q.order().PayOrderID != o.PayOrderID {
				q.errorf("another order")
			}
			if moved := r.host.moved(); moved != 0 {
				t.Errorf("moved %d", moved)
			}
		})
	}
}

// TestOrderNumbersAreUsedOnce: §6, whatever became of the first order (U1, U2).
func TestOrderNumbersAreUsedOnce(t *testing.T) {
	t.Parallel()
	t.Run("paid", func(t *testing.T) {
		t.Parallel()
		r := setup(t)
		f := cardOrder(number())
		r.till(t).create(f).is(iotpay.StatusPaid)
		r.till(t).create(f).refused(iotpay.CodePaid)
		r.till(t).create(changed(f, []any{"amount", "1"})).refused(iotpay.CodePaid)
		if r.host.moved() != 2865 || r.host.count() != 1 {
			t.Errorf("moved %d in %d", r.host.moved(), r.host.count())
		}
	})
	t.Run("finished unpaid", func(t *testing.T) {
		t.Parallel()
		r := setup(t)
		r.host.declines(payment.ReasonDeclined, "05")
		f := cardOrder(number())
		r.till(t).create(f).is(iotpay.StatusFailed)
		r.till(t).create(f).refused(iotpay.CodeParameter)
		if r.host.count() != 1 {
			t.Errorf("%d sales", r.host.count())
		}
	})
	t.Run("still open", func(t *testing.T) {
		t.Parallel()
		r := setup(t)
		card := make(chan struct{})
		r.pad.waits(card)
		f := cardOrder(number())
		first := later(func() reply { return r.till(t).create(f) })
		r.till(t).until(f["mchOrderNo"].(string), iotpay.StatusCreated)
		r.till(t).create(changed(cardOrder(f["mchOrderNo"].(string)), nil)).refused(iotpay.CodeParameter)
		close(card)
		(<-first).is(iotpay.StatusPaid)
		if r.host.moved() != 2865 || r.pad.orders.Load() != 1 {
			t.Errorf("moved %d with %d orders", r.host.moved(), r.pad.orders.Load())
		}
	})
	t.Run("two at once", func(t *testing.T) {
		t.Parallel()
		r := setup(t)
		n := number()
		var all sync.WaitGroup
		answers := make(chan reply, 8)
		for range cap(answers) {
			all.Go(func() { answers <- r.till(t).create(cardOrder(n)) })
		}
		all.Wait()
		close(answers)
		paid := 0
		for a := range answers {
			if a.text("retCode") == "SUCCESS" {
				a.is(iotpay.StatusPaid)
				paid++
			} else if code := a.text("errCode"); code != "0113" && code != "0014" {
				a.errorf("refused otherwise")
			}
		}
		if paid != 1 || r.host.moved() != 2865 || r.pad.orders.Load() != 1 {
			t.Errorf("%d paid, moved %d, %d orders", paid, r.host.moved(), r.pad.orders.Load())
		}
	})
	t.Run("another merchant's may be equal", func(t *testing.T) {
		t.Parallel()
		r := setup(t)
		n := number()
		r.till(t).create(cardOrder(n)).is(iotpay.StatusPaid)
		r.till(t).as(otherKey).create(cardOrder(n, "mchId", otherMchID)).is(iotpay.StatusPaid)
		r.till(t).as(otherKey).call("/v1/query_order", fields{"mchId": otherMchID, "mchOrderNo": n}).is(iotpay.StatusPaid)
	})
}

// waits is a customer who presents the card when the channel is closed.
func (d *pinpad) waits(card <-chan struct{}) {
	d.does(func(ctx context.Context, c payment.Caller, p payment.Payment) (iotpay.Report, error) {
		select {
		case <-card:
			return d.tap(ctx, c, p)
		case <-ctx.Done():
			return iotpay.Report{Ended: payment.ReasonCancelled}, nil
		}
	})
}

// TestTwoTillsAtOneTerminal: the second hears at once that the terminal is busy, and the first order is not disturbed (U6).
func TestTwoTillsAtOneTerminal(t *testing.T) {
	t.Parallel()
	r := setup(t)
	card := make(chan struct{})
	var busy sync.Mutex
	r.pad.does(func(ctx context.Context, c payment.Caller, p payment.Payment) (iotpay.Report, error) {
		if !busy.TryLock() {
			return iotpay.Report{}, iotpay.ErrBusy
		}
		defer busy.Unlock()
		<-card
		return r.pad.tap(ctx, c, p)
	})
	n := number()
	first := later(func() reply { return r.till(t).create(cardOrder(n, "amount", 1000)) })
	r.till(t).until(n, iotpay.StatusCreated)
	if !within(func() bool { return r.pad.orders.Load() == 1 }) {
		t.Fatal("the terminal was not asked")
	}
	a := r.till(t).create(cardOrder(number(), "amount", 7777)).is(iotpay.StatusClosed).says("Terminal Not Available")
	if !strings.Contains(a.text("retDetail"), "busy") {
		a.errorf("retDetail")
	}
	close(card)
	(<-first).is(iotpay.StatusPaid)
	if r.host.moved() != 1000 {
		t.Errorf("moved %d", r.host.moved())
	}
}

// TestQueryWhileTheCallIsHeld: a till may ask at any time, every two seconds and more often (seed, §6, U13).
func TestQueryWhileTheCallIsHeld(t *testing.T) {
	t.Parallel()
	r := setup(t)
	card, host := make(chan struct{}), make(chan struct{})
	r.pad.waits(card)
	r.host.hang = host
	n := number()
	first := later(func() reply { return r.till(t).create(cardOrder(n)) })
	a := r.till(t).until(n, iotpay.StatusCreated).says("")
	if a.text("status") != "0" || a.text("payOrderId") == "" {
		a.errorf("not at the top")
	}
	close(card)
	r.till(t).until(n, iotpay.StatusPaying).says("")
	close(host)
	created := (<-first).is(iotpay.StatusPaid)
	q := r.till(t).query(n).is(iotpay.StatusPaid)
	if got, want := q.order().Extra, created.order().Extra; got != want {
		q.errorf("the receipt by query is\n%s, by create_order\n%s", got, want)
	}
	if q.text("status") != "2" || q.text("extra") != q.order().Extra || string(q.all["result"].(map[string]any)["payOrderId"].(string)) != q.order().PayOrderID {
		q.errorf("not in all three shapes")
	}
	byID := r.till(t).call("/v1/query_order", fields{"mchId": mchID, "payOrderId": q.order().PayOrderID, "mchOrderNo": n}).is(iotpay.StatusPaid)
	if byID.order().MchOrderNo != n {
		byID.errorf("another order")
	}
}

// TestTillHangsUp: nothing changes, and the query finds the sale and all of its receipt (U3, U7).
func TestTillHangsUp(t *testing.T) {
	t.Parallel()
	r := setup(t)
	card := make(chan struct{})
	r.pad.waits(card)
	n := number()
	ctx, hangUp := context.WithCancel(t.Context())
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		r.till(t).do(ctx, http.MethodPost, "/v1/create_order", sign(cardOrder(n), keyText).json(), "application/json")
	}()
	r.till(t).until(n, iotpay.StatusCreated)
	hangUp()
	<-gone
	close(card)
	x := r.till(t).until(n, iotpay.StatusPaid).says("000 Approved 00 Thank You").card()
	if x.EMVTC != "TC: 1A2B3C4D5E6F7081" || x.ExpireDate != "1228" || x.AuthNum != "A1B2C3" {
		t.Errorf("receipt %+v", x)
	}
	if r.host.moved() != 2865 {
		t.Errorf("moved %d", r.host.moved())
	}
}

// TestHeldTooLong is answered 504 without a body, never with a failure (§6); the order goes on.
func TestHeldTooLong(t *testing.T) {
	t.Parallel()
	r := setup(t, func(s *settings) { s.hold = 400 * time.Millisecond })
	host := make(chan struct{})
	r.host.hang = host
	n := number()
	a := r.till(t).create(cardOrder(n))
	if a.status != http.StatusGatewayTimeout || len(a.body) != 0 {
		a.errorf("want 504 and nothing")
	}
	r.till(t).query(n).is(iotpay.StatusPaying)
	close(host)
	r.till(t).until(n, iotpay.StatusPaid)
}

// TestNobodyComes: an order that no terminal ends lives for a part of the hold, and its end is still answered; the terminal is called back.
func TestNobodyComes(t *testing.T) {
	t.Parallel()
	r := setup(t, func(s *settings) { s.hold = 4 * patience })
	recalled := make(chan struct{})
	r.pad.does(func(ctx context.Context, _ payment.Caller, _ payment.Payment) (iotpay.Report, error) {
		<-ctx.Done()
		close(recalled)
		return iotpay.Report{}, nil
	})
	n := number()
	first := later(func() reply { return r.till(t).create(cardOrder(n)) })
	r.till(t).until(n, iotpay.StatusCreated)
	r.clock.pass(4 * patience)
	(<-first).is(iotpay.StatusClosed).says("Transaction Timeout 350")
	<-recalled
}

// TestCloseOrder ends an order whose terminal still asks for a card: the terminal is called back at once (U5, U6, U8, U15).
func TestCloseOrder(t *testing.T) {
	t.Parallel()
	r := setup(t)
	recalled := make(chan struct{})
	r.pad.does(func(ctx context.Context, c payment.Caller, p payment.Payment) (iotpay.Report, error) {
		<-ctx.Done()
		close(recalled)
		if _, err := r.pad.attempt(c, p); err == nil { // A card that comes too late.
			t.Error("a closed order took a card")
		}
		return iotpay.Report{Ended: payment.ReasonCancelled}, nil
	})
	n := number()
	first := later(func() reply { return r.till(t).create(cardOrder(n)) })
	r.till(t).until(n, iotpay.StatusCreated)
	r.till(t).call("/v1/close_order", fields{"mchId": mchID, "mchOrderNo": n}).is(iotpay.StatusClosed)
	<-recalled
	(<-first).is(iotpay.StatusClosed).says("Transaction Cancelled 266")
	r.till(t).call("/api/pay/close_order", fields{"mchId": mchID, "mchOrderNo": n}).is(iotpay.StatusClosed)
	if r.host.count() != 0 {
		t.Errorf("%d sales", r.host.count())
	}
	r.pad.does(nil)
	paid := number()
	r.till(t).create(cardOrder(paid)).is(iotpay.StatusPaid) // The next customer's amount is asked for (U6).
	r.till(t).call("/v1/close_order", fields{"mchId": mchID, "mchOrderNo": paid}).refused(iotpay.CodePaid)
	r.till(t).call("/v1/close_order", fields{"mchId": mchID, "mchOrderNo": number()}).refused(iotpay.CodeNotFound)
	if r.host.moved() != 2865 {
		t.Errorf("moved %d", r.host.moved())
	}
}

// TestLinkCutAfterTheCardWasRead: the sale stands, and is found with what is known without the terminal (design 4.9).
func TestLinkCutAfterTheCardWasRead(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.pad.does(func(_ context.Context, c payment.Caller, p payment.Payment) (iotpay.Report, error) {
		if _, err := r.pad.attempt(c, p); err != nil {
			t.Error(err)
		}
		return iotpay.Report{}, iotpay.ErrLost
	})
	n := number()
	a := r.till(t).create(cardOrder(n)).is(iotpay.StatusPaid).says("000 Approved 00 Thank You")
	x := a.card()
	if x.CardNum != "XXXXXXXXXXXX4242" || x.CardType != "V" || x.AuthNum != "A1B2C3" || x.TrxMethod != "C" || x.EMVTC != "" || x.SeqNum == "000000000000" ||
		x.BatchNum == "0000" || x.TrxDate == "" {
		a.errorf("extra %+v", x)
	}
	r.till(t).query(n).is(iotpay.StatusPaid)
}

// TestLinkCutWhileTheHostDecides: the terminal is gone before the host has answered; the answer decides.
func TestLinkCutWhileTheHostDecides(t *testing.T) {
	t.Parallel()
	r := setup(t)
	host := make(chan struct{})
	r.host.hang = host
	sent := make(chan struct{})
	r.pad.does(func(_ context.Context, c payment.Caller, p payment.Payment) (iotpay.Report, error) {
		go func() { _, _ = r.pad.attempt(c, p); close(sent) }()
		within(func() bool { return r.host.count() == 1 })
		return iotpay.Report{}, iotpay.ErrLost
	})
	n := number()
	first := later(func() reply { return r.till(t).create(cardOrder(n)) })
	r.till(t).until(n, iotpay.StatusPaying)
	close(host)
	(<-first).is(iotpay.StatusPaid)
	<-sent
}

// TestNoAnswerOfTheHost: the sale is reversed before the till hears of a failure (§4.3, PR).
func TestNoAnswerOfTheHost(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.host.answers(func(payment.Message) (payment.Answer, bool) {
		return payment.Answer{Outcome: payment.OutcomeUnknown}, true
	})
	n := number()
	r.till(t).create(cardOrder(n)).is(iotpay.StatusFailed).says("Transaction Not Completed 91")
	if moved := r.host.moved(); moved != 0 {
		t.Errorf("moved %d", moved)
	}
}

// TestChipRefusesAfterApproval: the terminal gives the sale back, and the till hears a failure though the host had approved (design 4.9).
func TestChipRefusesAfterApproval(t *testing.T) {
	t.Parallel()
	r := setup(t)
	approved, refuse := make(chan struct{}), make(chan struct{})
	r.pad.does(func(ctx context.Context, c payment.Caller, p payment.Payment) (iotpay.Report, error) {
		if _, err := r.pad.attempt(c, p); err != nil {
			t.Error(err)
		}
		close(approved)
		<-refuse
		_, err := r.engine.Refuse(ctx, payment.RefuseCommand{Caller: c, Payment: p.ID, Window: time.Hour})
		if err != nil {
			t.Error(err)
		}
		return chipReport(), nil
	})
	n := number()
	first := later(func() reply { return r.till(t).create(cardOrder(n)) })
	<-approved
	r.till(t).query(n).is(iotpay.StatusPaying) // Not yet paid: the chip may refuse.
	close(refuse)
	(<-first).is(iotpay.StatusFailed).says("Transaction Not Completed 05")
	if moved := r.host.moved(); moved != 0 {
		t.Errorf("moved %d", moved)
	}
}

// TestTip is on top of the amount (§3.1).
func TestTip(t *testing.T) {
	t.Parallel()
	r := setup(t)
	n := number()
	a := r.till(t).create(cardOrder(n, "tip", 500)).is(iotpay.StatusPaid)
	if o := a.order(); o.Amount != 2865 || o.Tip != 500 || o.TrxAmount != 3365 || o.Refundable != 3365 {
		a.errorf("order %+v", o)
	}
	if r.host.moved() != 3365 {
		t.Errorf("moved %d", r.host.moved())
	}
}

// TestStop: a server that stops takes orders back from terminals without a card, and ends those calls with the truth.
func TestStop(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.pad.waits(nil)
	n := number()
	first := later(func() reply { return r.till(t).create(cardOrder(n)) })
	r.till(t).until(n, iotpay.StatusCreated)
	r.stop()
	(<-first).is(iotpay.StatusClosed)
	r.reopen(t)
	r.pad.does(nil)
	r.till(t).query(n).is(iotpay.StatusClosed)
	r.till(t).create(cardOrder(number())).is(iotpay.StatusPaid)
}

// TestHeldLongerThanOtherCalls: the deadlines of the connection do not end a call that is held on purpose.
func TestHeldLongerThanOtherCalls(t *testing.T) {
	t.Parallel()
	r := setup(t)
	card := make(chan struct{})
	r.pad.waits(card)
	brisk := httptest.NewUnstartedServer(r.iot)
	brisk.Config.ReadTimeout, brisk.Config.WriteTimeout = 300*time.Millisecond, 300*time.Millisecond
	brisk.Start()
	defer brisk.Close()
	c := r.client(brisk.URL)
	n := number()
	answered := make(chan error, 1)
	go func() {
		order, err := c.Create(t.Context(), clientOrder(n))
		if err == nil && !order.Status.Paid() {
			err = errors.New("not paid")
		}
		answered <- err
	}()
	r.till(t).until(n, iotpay.StatusCreated)
	time.Sleep(700 * time.Millisecond)
	close(card)
	if err := <-answered; err != nil {
		t.Error(err)
	}
}

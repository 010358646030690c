package upay_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/protocol/upay"
	"github.com/tillgate/tillgate/terminal"
)

// TestBusinessVectors goes through the business vectors of §9.
func TestBusinessVectors(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c, sn := r.till(t), order()
	paid := c.pay(sn).want(upay.PaySuccess, upay.OrderPaid, upay.StatusSuccess).wantFields("total_amount", "1250", "net_amount", "1250")
	c.refund(sn, "R001", "250").want(upay.RefundSuccess, upay.OrderPartialRefunded, upay.StatusSuccess).wantFields("net_amount", "1000", "client_tsn", sn+"-R001")
	c.refund(sn, "R001", "250").wantFail(upay.CodeRefundNoop)
	c.query(sn).want(upay.Success, upay.OrderPartialRefunded, upay.StatusSuccess).wantFields("net_amount", "1000")
	c.refund(sn, "R002", "1001").wantFail(upay.CodeRefundExceeds)
	c.revoke(sn).wantFail(upay.CodeCancelInvalidState)
	c.refund(sn, "R003", "1000").want(upay.RefundSuccess, upay.OrderRefunded, upay.StatusSuccess).wantFields("net_amount", "0")
	c.refund(sn, "R004", "1").wantFail(upay.CodeRefundInvalidState)
	c.pay(sn).wantFail(upay.CodeClientSNConflict)
	c.query("unknown").wantFail(upay.CodeOrderNotExists)
	c.cancel("unknown-too").wantFail(upay.CodeOrderNotExists)
	r.wantBooks(t, paid.sn(), "refund 1000 done", "refund 250 done", "payment 1250 done")
}

// TestPayOutcomes are the answers of §3.4 and §4.1, by what the wallet does.
func TestPayOutcomes(t *testing.T) {
	t.Parallel()
	r := setup(t, func(s *settings) { s.linkTimeout = 500 * time.Millisecond })
	c := r.till(t)
	for _, o := range []struct {
		behaviour string
		outcome   upay.Outcome
		order     upay.OrderStatus
		status    upay.Status
		code      upay.ErrorCode
	}{
		{"approve", upay.PaySuccess, upay.OrderPaid, upay.StatusSuccess, ""},
		{"decline", upay.PayFail, upay.OrderPayCanceled, upay.StatusFailCanceled, upay.CodeTradeFailed},
		{"insufficient_funds", upay.PayFail, upay.OrderPayCanceled, upay.StatusFailCanceled, upay.CodeInsufficientFund},
		{"limit_exceeded", upay.PayFail, upay.OrderPayCanceled, upay.StatusFailCanceled, upay.CodeBuyerLimit},
		{"code_expired", upay.PayFail, upay.OrderPayCanceled, upay.StatusFailCanceled, upay.CodeExpiredBarcode},
		{"code_used", upay.PayFail, upay.OrderPayCanceled, upay.StatusFailCanceled, upay.CodeExpiredBarcode},
		{"customer_cancelled", upay.PayFail, upay.OrderPayCanceled, upay.StatusFailCanceled, upay.CodeTradeFailed},
		{"pending_then_approve_3s", upay.PaySuccess, upay.OrderPaid, upay.StatusSuccess, ""},
		{"pending_then_decline_3s", upay.PayFail, upay.OrderPayCanceled, upay.StatusFailCanceled, upay.CodeTradeFailed},
		{"no_answer", upay.PaySuccess, upay.OrderPaid, upay.StatusSuccess, ""},
		{"garbled_answer", upay.PaySuccess, upay.OrderPaid, upay.StatusSuccess, ""},
		{"connection_cut", upay.PaySuccess, upay.OrderPaid, upay.StatusSuccess, ""},
		{"request_lost", upay.PayFail, upay.OrderPayCanceled, upay.StatusFailCanceled, upay.CodeExternalServiceError},
	} {
		for _, w := range []struct{ wallet, payway, name string }{{"alipay", "1", "支付宝"}, {"wechat", "3", "微信"}, {"unionpay", "17", "云闪付"}} {
			if w.wallet == "unionpay" && o.behaviour != "approve" || w.wallet == "wechat" && strings.HasPrefix(o.behaviour, "pending") {
				continue // Alipay shows what all do, and these take seconds.
			}
			t.Run(w.wallet+" "+o.behaviour, func(t *testing.T) {
				t.Parallel()
				c, sn := c.in(t), order()
				a := c.pay(sn, "dynamic_id", code(w.wallet, o.behaviour)).want(o.outcome, o.order, o.status).wantCode(o.code)
				a.wantFields("payway", w.payway, "payway_name", w.name, "sub_payway", "1", "total_amount", "1250", "net_amount", "1250", "client_sn", sn,
					"client_tsn", sn, "tsn", a.sn(), "subject", "Lunch set", "operator", "c01", "terminal_sn", c.sn, "store_id", "15800000000001")
				if len(a.text("ctime")) != 13 || len(a.text("finish_time")) != 13 || len(a.sn()) != 16 || !strings.HasPrefix(a.sn(), "78") {
					a.errorf("ctime, finish_time or sn")
				}
				paid := o.order == upay.OrderPaid
				if (a.text("trade_no") != "") != paid || (a.text("channel_finish_time") != "") != paid || (a.text("payer_uid") != "") != paid {
					a.errorf("trade_no, channel_finish_time and payer_uid are there once it is paid")
				}
				c.query(sn).want(upay.Success, o.order, o.status).wantCode(o.code)
				c.query("", "client_sn", nil, "sn", a.sn()).want(upay.Success, o.order, o.status)
				if paid {
					r.wantBooks(t, a.sn(), "payment 1250 done")
				} else {
					r.wantBooks(t, a.sn())
				}
			})
		}
	}
}

// TestPayInProgress holds a pay no longer than it may (§3.4), and closes an order that nobody pays.
func TestPayInProgress(t *testing.T) {
	t.Parallel()
	r := setup(t, func(s *settings) { s.payWait = 300 * time.Millisecond })
	c, sn := r.till(t), order()
	r.set(t, func(s *upay.Settings) { s.PayWindow = upay.Duration(3 * time.Second) })
	a := c.pay(sn, "dynamic_id", code("wechat", "pending_forever")).want(upay.PayInProgress, upay.OrderCreated, upay.StatusInProgress).
		wantFields("finish_time", "", "trade_no", "", "net_amount", "1250")
	c.query(sn).want(upay.Success, upay.OrderCreated, upay.StatusInProgress).wantCode("")
	c.until(sn, upay.OrderPayCanceled).want(upay.Success, upay.OrderPayCanceled, upay.StatusFailCanceled).wantCode(upay.CodeTradeTimeout)
	c.cancel(sn).wantFail(upay.CodeCancelNoop)
	c.refund(sn, "R1", "1").wantFail(upay.CodeRefundInvalidState)
	r.wantBooks(t, a.sn())
}

// TestPayError is an order whose time is over while the provider is silent: PAY_ERROR, until it speaks again.
func TestPayError(t *testing.T) {
	t.Parallel()
	r := setup(t, func(s *settings) { s.payWait, s.linkTimeout = 100*time.Millisecond, 300*time.Millisecond })
	c, sn := r.till(t), order()
	r.set(t, func(s *upay.Settings) { s.PayWindow = upay.Duration(time.Second) })
	r.tap.lose(func(call string) bool {
		return strings.HasSuffix(call, "payments") || strings.HasSuffix(call, "cancel")
	})
	a := c.pay(sn, "dynamic_id", code("wechat", "approve")).want(upay.PayInProgress, upay.OrderCreated, upay.StatusInProgress)
	c.until(sn, upay.OrderPayError).want(upay.Success, upay.OrderPayError, upay.StatusErrorRecovery)
	r.tap.lose(nil)
	c.until(sn, upay.OrderPaid) // It was paid all the same.
	r.wantBooks(t, a.sn(), "payment 1250 done")
}

// script is an acquirer that says what a test wants.
type script struct {
	mu sync.Mutex
	do func(payment.Message) payment.Answer
}

func (s *script) Traits() payment.Traits {
	return payment.Traits{Class: payment.Provider, Timeout: time.Second}
}

func (s *script) Do(_ context.Context, m payment.Message) payment.Answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.do(m)
}

func (s *script) Query(ctx context.Context, m payment.Message) payment.Answer { return s.Do(ctx, m) }

func (s *script) say(do func(payment.Message) payment.Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.do = do
}

func outcome(o payment.Outcome) func(payment.Message) payment.Answer {
	return func(payment.Message) payment.Answer {
		return payment.Answer{Outcome: o, Reason: payment.ReasonDeclined, Text: "No."}
	}
}

// TestPayFailing is a payment that must not stand, and whose undoing has not been acknowledged: PAY_FAIL_IN_PROGRESS and PAY_FAIL_ERROR.
func TestPayFailing(t *testing.T) {
	t.Parallel()
	s := &script{}
	r := setup(t, func(c *settings) { c.acquirer, c.payWait = s, 300*time.Millisecond })
	c := r.till(t)
	for _, o := range []struct {
		undo    payment.Outcome
		outcome upay.Outcome
		status  upay.Status
	}{{payment.OutcomeUnsent, upay.PayFailInProgress, upay.StatusErrorRecovery}, {payment.OutcomeUnknown, upay.PayFailError, upay.StatusFailError}} {
		sn := order()
		s.say(func(m payment.Message) payment.Answer {
			if m.Operation.Kind == payment.Sale {
				return payment.Answer{Outcome: payment.OutcomeUnfit, Reason: payment.ReasonPartial}
			}
			return payment.Answer{Outcome: o.undo}
		})
		c.pay(sn).want(o.outcome, upay.OrderPayError, o.status).wantCode(upay.CodeTradeFailed)
		c.query(sn).want(upay.Success, upay.OrderPayError, o.status)
		s.say(outcome(payment.OutcomeApproved))
		c.until(sn, upay.OrderPayCanceled).wantCode(upay.CodeTradeFailed)
	}
}

// TestPayReasons tells every reason of the core in this protocol's words.
func TestPayReasons(t *testing.T) {
	t.Parallel()
	s := &script{}
	r := setup(t, func(c *settings) { c.acquirer = s })
	c := r.till(t)
	for _, reason := range payment.Reasons() {
		t.Run(string(reason), func(t *testing.T) {
			s.say(func(payment.Message) payment.Answer {
				return payment.Answer{Outcome: payment.OutcomeDeclined, Reason: reason, Text: "No."}
			})
			a := c.in(t).pay(order()).want(upay.PayFail, upay.OrderPayCanceled, upay.StatusFailCanceled)
			if a.bizText("error_code") == "" || a.bizText("error_message") == "" {
				a.errorf("want a reason")
			}
		})
	}
}

// TestPayRefused is what is refused before there is an order: nothing is stored, nothing is sent.
func TestPayRefused(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c, o := r.till(t), r.activated(t, r.otherCode)
	for _, p := range []struct {
		name    string
		till    *till
		changes []any
		code    upay.ErrorCode
	}{
		{"unreadable code", c, []any{"dynamic_id", "990000000000000000"}, upay.CodeInvalidBarcode},
		{"code of letters", c, []any{"dynamic_id", "abc"}, upay.CodeInvalidBarcode},
		{"a code of JD", c, []any{"dynamic_id", "180000000000000001"}, upay.CodeUnexpectedProvider},
		{"a code of QQ", c, []any{"dynamic_id", "910000000000000001"}, upay.CodeUnexpectedProvider},
		{"a code of BestPay", c, []any{"dynamic_id", "510000000000000001"}, upay.CodeUnexpectedProvider},
		{"a payway that nobody plays", c, []any{"payway", "5"}, upay.CodeUnexpectedProvider},
		{"a payway that does not exist", c, []any{"payway", "99"}, upay.CodeUnexpectedProvider},
		{"a payway that the merchant has not", o, []any{"dynamic_id", wechatCode}, upay.CodeUnexpectedProvider},
	} {
		t.Run(p.name, func(t *testing.T) {
			sn := order()
			p.till.in(t).pay(sn, p.changes...).wantFail(p.code)
			p.till.in(t).query(sn).wantFail(upay.CodeOrderNotExists)
			p.till.in(t).pay(sn).want(upay.PaySuccess, upay.OrderPaid, "") // The number is free.
		})
	}
	t.Run("payway overrides the code", func(t *testing.T) {
		c.in(t).pay(order(), "payway", "1", "dynamic_id", wechatCode).want(upay.PaySuccess, upay.OrderPaid, "").wantFields("payway", "1")
		c.in(t).pay(order(), "payway", "3", "dynamic_id", "28000000000000000000000000").want(upay.PayFail, upay.OrderPayCanceled, "").wantCode(upay.CodeInvalidBarcode)
	})
	t.Run("target of a callback", func(t *testing.T) {
		c.in(t).pay(order(), "notify_url", "http://10.0.0.1/x").wantRefused(upay.CodeInvalidParams, "notify_url", "private")
		r.upay.CheckTarget = nil
		c.in(t).pay(order(), "notify_url", "http://shop.example.com/x").wantRefused(upay.CodeInvalidParams, "notify_url")
	})
}

// TestUnreachable is a wallet that cannot be reached: nothing has left, nothing was paid.
func TestUnreachable(t *testing.T) {
	t.Parallel()
	r := setup(t, func(c *settings) { c.acquirer = &script{do: outcome(payment.OutcomeUnsent)} })
	r.till(t).pay(order()).want(upay.PayFail, upay.OrderPayCanceled, upay.StatusFailCanceled).wantCode(upay.CodeExternalServiceError)
}

// broken is a registry that fails.
type broken struct {
	upay.Terminals
	err error
}

func (b *broken) Settings(context.Context, payment.MerchantID, string, any) error { return b.err }

// TestServerErrors tells nothing of what is wrong inside, and says whether it is worth another try.
func TestServerErrors(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.till(t)
	r.upay.Terminals = &broken{r.registry, errors.New("secret of the database")}
	if a := c.pay(order()).wantRefused(upay.CodeUnknownSystem); strings.Contains(string(a.raw), "secret") {
		a.errorf("it tells")
	}
	r.upay.Terminals = &broken{r.registry, payment.ErrUnavailable}
	c.pay(order()).wantRefused(upay.CodeRequestFail)
	if logs := r.logs.String(); !strings.Contains(logs, "secret of the database") {
		t.Error("the log does not tell")
	}
}

// TestClientSNConflict is §6.1: a number is used once, whatever the body, by pay and precreate and any terminal of the merchant.
func TestClientSNConflict(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c, d, o := r.till(t), r.till(t), r.activated(t, r.otherCode)
	sn := order()
	paid := c.pay(sn).want(upay.PaySuccess, upay.OrderPaid, "")
	c.pay(sn).wantFail(upay.CodeClientSNConflict)
	c.pay(sn, "total_amount", "1").wantFail(upay.CodeClientSNConflict)
	c.precreate(sn).wantFail(upay.CodeClientSNConflict)
	d.pay(sn).wantFail(upay.CodeClientSNConflict)
	c.query(sn).want(upay.Success, upay.OrderPaid, "").wantFields("sn", paid.sn(), "total_amount", "1250")
	r.wantBooks(t, "", "payment 1250 done")
	other := o.pay(sn, "total_amount", "7").want(upay.PaySuccess, upay.OrderPaid, "") // Another merchant's numbers are others.
	d.query(sn).wantFields("sn", paid.sn())                                           // Another terminal of the merchant sees the order.
	failed := order()
	c.pay(failed, "dynamic_id", code("alipay", "decline")).want(upay.PayFail, "", "")
	c.pay(failed).wantFail(upay.CodeClientSNConflict) // A failed payment needs a new number, too.
	t.Run("foreign orders do not exist", func(t *testing.T) {
		foreign := []any{"client_sn", nil, "sn", other.sn()}
		c.in(t).query("", foreign...).wantFail(upay.CodeOrderNotExists)
		c.in(t).refund("", "R1", "1", foreign...).wantFail(upay.CodeOrderNotExists)
		c.in(t).cancel("", foreign...).wantFail(upay.CodeOrderNotExists)
		c.in(t).revoke("", foreign...).wantFail(upay.CodeOrderNotExists)
		o.in(t).query(sn).wantFields("sn", other.sn())
	})
	t.Run("either number finds it", func(t *testing.T) {
		c.in(t).query(sn, "sn", "").wantFields("sn", paid.sn())
		c.in(t).query(sn, "sn", "7899999999999999").wantFields("sn", paid.sn()) // Falls back.
		c.in(t).query(sn, "sn", other.sn()).wantFields("sn", paid.sn())
		c.in(t).query(failed, "sn", paid.sn()).wantFields("sn", paid.sn()) // sn wins.
	})
	t.Run("orders of other protocols do not exist", func(t *testing.T) {
		e, err := r.registry.Find(t.Context(), upay.Protocol, c.sn)
		must(t, err)
		caller := e.Caller
		caller.Credential.Protocol = "upp"
		v, err := r.engine.Sell(t.Context(), payment.SaleCommand{Caller: caller, Key: payment.Key{Scope: "upp", Key: "1"}, Request: []byte("1"),
			Numbering: payment.Numbering{Prefix: "78", Digits: 14}, Amount: money.New(100, money.MustCurrency("CNY")), Method: "alipay", Flow: payment.ByCode,
			Instrument: payment.WalletCode(alipayCode), Lifetime: time.Minute, Wait: time.Second})
		must(t, err)
		c.in(t).query("", "client_sn", nil, "sn", v.Payment.Number()).wantFail(upay.CodeOrderNotExists)
	})
}

func TestConcurrentEqualPays(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c, sn := r.till(t), order()
	const tills = 16
	answers := make([]reply, tills)
	together(tills, func(i int) { answers[i] = c.pay(sn) })
	paid := 0
	for _, a := range answers {
		if a.outcome() == string(upay.PaySuccess) {
			paid++
			continue
		}
		a.wantFail(upay.CodeClientSNConflict)
	}
	if paid != 1 {
		t.Errorf("%d pays succeeded, want 1", paid)
	}
	r.wantBooks(t, "", "payment 1250 done")
}

// TestQueryDuringPay is §6.1: the order is there before the provider has answered.
func TestQueryDuringPay(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c, sn := r.till(t), order()
	held := later(func() reply { return c.pay(sn, "dynamic_id", code("alipay", "pending_then_approve_3s")) })
	c.until(sn, upay.OrderCreated).want(upay.Success, upay.OrderCreated, upay.StatusInProgress)
	(<-held).want(upay.PaySuccess, upay.OrderPaid, "")
}

// TestTillHangsUp is a till that leaves: the payment goes on, and a query finds it.
func TestTillHangsUp(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c, sn := r.till(t), order()
	ctx, leave := context.WithCancel(t.Context())
	body := object{"terminal_sn": c.sn, "client_sn": sn, "total_amount": "1250", "dynamic_id": code("alipay", "pending_then_approve_3s"), "subject": "s"}.json()
	left := make(chan struct{})
	go func() {
		defer close(left)
		_, _ = r.try(t, ctx, "POST", "/upay/v2/pay", body, "Authorization", upay.Authorization(c.sn, []byte(body), terminal.NewSecret(c.key)))
	}()
	c.until(sn, upay.OrderCreated)
	leave()
	<-left
	c.until(sn, upay.OrderPaid)
	if logs := r.logs.String(); strings.Contains(logs, "level=ERROR") {
		t.Errorf("an error was logged:\n%s", logs)
	}
}

// TestStopping releases who is held; what was taken is told as it is, and the next process knows it.
func TestStopping(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c, sn := r.till(t), order()
	held := later(func() reply { return c.pay(sn, "dynamic_id", code("alipay", "pending_then_approve_3s")) })
	c.until(sn, upay.OrderCreated)
	r.stop()
	(<-held).want(upay.PayInProgress, upay.OrderCreated, upay.StatusInProgress)
	c.pay(sn).wantFail(upay.CodeClientSNConflict)
	r.close()
	r.open(t)
	c.until(sn, upay.OrderPaid)
	r.wantBooks(t, "", "payment 1250 done")
}

func TestPrecreate(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.till(t)
	t.Run("paid on the phone", func(t *testing.T) {
		t.Parallel()
		c, sn := c.in(t), order()
		a := c.precreate(sn, "reflect", `{"table":"7"}`).want(upay.PrecreateSuccess, upay.OrderCreated, upay.StatusCreated).
			wantFields("payway", "3", "sub_payway", "2", "reflect", `{"table":"7"}`, "finish_time", "", "net_amount", "2500", "trade_no", "")
		if a.text("qr_code") == "" || a.data()["wap_pay_request"] != nil {
			a.errorf("want qr_code and no wap_pay_request")
		}
		picture := strings.TrimPrefix(a.text("qr_code_image_url"), r.server.URL)
		img, err := r.try(t, t.Context(), "GET", picture, "")
		must(t, err)
		if img.status != 200 || img.header.Get("Content-Type") != "image/png" || !strings.HasPrefix(string(img.raw), "\x89PNG") || img.header.Get("Cache-Control") != "no-store" {
			t.Errorf("picture: %d %v", img.status, img.header)
		}
		r.phone(t, a.text("qr_code"), "approve")
		c.until(sn, upay.OrderPaid).want(upay.Success, upay.OrderPaid, upay.StatusSuccess)
		r.wantBooks(t, a.sn(), "payment 2500 done")
	})
	t.Run("declined on the phone", func(t *testing.T) {
		t.Parallel()
		c, sn := c.in(t), order()
		a := c.precreate(sn)
		r.phone(t, a.text("qr_code"), "decline")
		c.until(sn, upay.OrderPayCanceled).want(upay.Success, "", upay.StatusFailCanceled)
	})
	t.Run("default sub_payway", func(t *testing.T) {
		t.Parallel()
		c.in(t).precreate(order(), "sub_payway", nil).want(upay.PrecreateSuccess, upay.OrderCreated, upay.StatusCreated).wantFields("sub_payway", "2")
	})
	t.Run("other payways", func(t *testing.T) {
		t.Parallel()
		for _, p := range []string{"1", "2", "17"} {
			c.in(t).precreate(order(), "payway", p).want(upay.PrecreateSuccess, upay.OrderCreated, "").wantFields("payway", p)
		}
		for _, p := range []string{"4", "5", "6", "99"} {
			c.in(t).precreate(order(), "payway", p).wantFail(upay.CodeUnexpectedProvider)
		}
	})
	t.Run("refused by the provider", func(t *testing.T) {
		t.Parallel()
		s := &script{do: outcome(payment.OutcomeDeclined)}
		r := setup(t, func(c *settings) { c.acquirer = s })
		r.till(t).precreate(order()).want(upay.PrecreateFail, upay.OrderPayCanceled, upay.StatusFailCanceled).wantCode(upay.CodeTradeFailed)
	})
	t.Run("lost answer", func(t *testing.T) {
		t.Parallel()
		s := &script{do: outcome(payment.OutcomeUnknown)}
		r := setup(t, func(c *settings) {
			c.acquirer = s
			c.configure = func(u *upay.Server) { u.PrecreateWait = 300 * time.Millisecond }
		})
		r.till(t).precreate(order()).want(upay.PrecreateFailRunning, upay.OrderCreated, "")
	})
	t.Run("payer_uid is missing", func(t *testing.T) {
		t.Parallel()
		for _, sub := range []string{"3", "4"} {
			c.in(t).precreate(order(), "sub_payway", sub).want(upay.PrecreateFail, "", "")
		}
	})
	t.Run("in a page", func(t *testing.T) {
		t.Parallel()
		c, sn := c.in(t), order()
		a := c.precreate(sn, "sub_payway", "3", "payer_uid", "oAbc").want(upay.PrecreateSuccess, upay.OrderCreated, "").wantFields("sub_payway", "3")
		wap, _ := a.data()["wap_pay_request"].(map[string]any)
		url, _ := wap["pay_url"].(string)
		if url == "" || a.text("qr_code") != "" {
			a.errorf("want wap_pay_request with pay_url")
		}
		back := r.phone(t, url, "approve").Header.Get("Location")
		page, err := r.try(t, t.Context(), "GET", strings.TrimPrefix(back, r.server.URL), "")
		must(t, err)
		if page.status != 200 || !strings.Contains(string(page.raw), "<h1>Paid</h1>") {
			t.Errorf("page: %d %s", page.status, page.raw)
		}
		c.until(sn, upay.OrderPaid)
	})
}

// TestWapPayRequestFormat is the setting of §3.5.4.
func TestWapPayRequestFormat(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.set(t, func(s *upay.Settings) { s.WapPayRequestFormat = "string" })
	a := r.till(t).precreate(order(), "sub_payway", "4", "payer_uid", "oAbc")
	if !strings.HasPrefix(a.text("wap_pay_request"), `{"pay_url":"http`) {
		a.errorf("want a string")
	}
}

// TestPrecreateWindow closes an order that nobody pays (§3.5.1).
func TestPrecreateWindow(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.set(t, func(s *upay.Settings) { s.PrecreateWindow = upay.Duration(time.Second) })
	c, sn := r.till(t), order()
	a := c.precreate(sn).want(upay.PrecreateSuccess, upay.OrderCreated, "")
	c.until(sn, upay.OrderPayCanceled).wantCode(upay.CodeTradeTimeout)
	r.phone(t, a.text("qr_code"), "approve")
	c.query(sn).want(upay.Success, upay.OrderPayCanceled, "")
	r.wantBooks(t, a.sn())
}

package upay_test

import (
	"strings"
	"testing"
	"time"

	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/protocol/upay"
)

// TestCancelOutcomes is the table of §3.8: cancel and revoke are one logic.
func TestCancelOutcomes(t *testing.T) {
	t.Parallel()
	for _, operation := range []string{"cancel", "revoke"} {
		r := setup(t)
		c := r.till(t)
		do := func(t *testing.T, sn string, changes ...any) reply {
			t.Helper()
			return c.in(t).post("/upay/v2/"+operation, object{"terminal_sn": c.sn, "client_sn": sn}.with(changes...))
		}
		t.Run(operation, func(t *testing.T) {
			t.Run("a paid order", func(t *testing.T) {
				sn := order()
				a := c.in(t).pay(sn)
				do(t, sn, "operator", "boss").want(upay.CancelSuccess, upay.OrderCanceled, upay.StatusSuccess).wantCode("").
					wantFields("net_amount", "0", "total_amount", "1250", "client_tsn", sn, "operator", "boss", "trade_no", a.text("trade_no"))
				c.in(t).query(sn).want(upay.Success, upay.OrderCanceled, upay.StatusSuccess).wantFields("net_amount", "0")
				do(t, sn).wantFail(upay.CodeCancelNoop)
				r.wantBooks(t, a.sn(), "payment 1250 reversed")
			})
			t.Run("by sn", func(t *testing.T) {
				sn := order()
				a := c.in(t).pay(sn)
				do(t, sn, "client_sn", nil, "sn", a.sn()).want(upay.CancelSuccess, upay.OrderCanceled, "")
			})
			t.Run("an order in payment", func(t *testing.T) {
				sn := order()
				held := later(func() reply { return c.in(t).pay(sn, "dynamic_id", code("wechat", "pending_forever")) })
				c.in(t).until(sn, upay.OrderCreated)
				do(t, sn).want(upay.CancelAbortSuccess, upay.OrderCanceled, upay.StatusFailCanceled).wantFields("net_amount", "0")
				a := (<-held).want(upay.PayFail, upay.OrderCanceled, upay.StatusFailCanceled).wantCode(upay.CodeTradeFailed)
				do(t, sn).wantFail(upay.CodeCancelNoop)
				r.wantBooks(t, a.sn())
			})
			t.Run("a QR order", func(t *testing.T) {
				sn := order()
				a := c.in(t).precreate(sn)
				do(t, sn).want(upay.CancelAbortSuccess, upay.OrderCanceled, upay.StatusFailCanceled)
				r.phone(t, a.text("qr_code"), "approve")
				c.in(t).query(sn).want(upay.Success, upay.OrderCanceled, "")
			})
			t.Run("a failed order", func(t *testing.T) {
				sn := order()
				c.in(t).pay(sn, "dynamic_id", code("alipay", "decline"))
				do(t, sn).wantFail(upay.CodeCancelNoop)
			})
			t.Run("refunded in part", func(t *testing.T) {
				sn := order()
				a := c.in(t).pay(sn)
				c.in(t).refund(sn, "R1", "1")
				answer := do(t, sn).wantFail(upay.CodeCancelInvalidState)
				if m := answer.bizText("error_message"); !strings.Contains(m, a.sn()) || !strings.Contains(m, "PARTIAL_REFUNDED") {
					answer.errorf("the message names sn and state")
				}
			})
			t.Run("unknown", func(t *testing.T) {
				do(t, order()).wantFail(upay.CodeOrderNotExists)
				do(t, "", "client_sn", nil, "sn", "7899999999999999").wantFail(upay.CodeOrderNotExists)
				do(t, strings.Repeat("x", 64)).wantFail(upay.CodeOrderNotExists)
			})
		})
	}
}

// TestCancelTombstone keeps a number closed that was cancelled before its order arrived (§3.8): a delayed pay takes nothing.
func TestCancelTombstone(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c, sn, later := r.till(t), order(), order()
	c.cancel(sn).wantFail(upay.CodeOrderNotExists)
	c.pay(sn).want(upay.PayFail, upay.OrderCanceled, upay.StatusFailCanceled)
	c.query(sn).want(upay.Success, upay.OrderCanceled, upay.StatusFailCanceled)
	c.pay(sn).wantFail(upay.CodeClientSNConflict)
	r.wantBooks(t, "")
	c.cancel(later).wantFail(upay.CodeOrderNotExists)
	r.clock.pass(11 * time.Minute)
	c.pay(later).want(upay.PaySuccess, upay.OrderPaid, "")
}

// TestCancelUnanswered is a cancel of an order in payment that the provider does not answer: it is told as what it is, and ends by itself.
func TestCancelUnanswered(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		timeout time.Duration // Of the link: longer than the cancel waits, or shorter.
		wait    time.Duration
		outcome upay.Outcome
		order   upay.OrderStatus
		status  upay.Status
	}{
		{"still running", 2 * time.Second, 300 * time.Millisecond, upay.CancelAbortRunning, upay.OrderCanceling, upay.StatusInProgress},
		{"lost", 300 * time.Millisecond, 2 * time.Second, upay.CancelAbortError, upay.OrderCancelError, upay.StatusCancelError},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := setup(t, func(s *settings) {
				s.linkTimeout = c.timeout
				s.configure = func(u *upay.Server) { u.CancelWait = c.wait }
			})
			till, sn := r.till(t), order()
			a := till.precreate(sn)
			r.tap.lose(func(call string) bool { return strings.HasSuffix(call, "cancel") })
			till.cancel(sn).want(c.outcome, c.order, c.status)
			till.query(sn).want(upay.Success, c.order, c.status)
			r.tap.lose(nil)
			till.until(sn, upay.OrderCanceled)
			till.cancel(sn).wantFail(upay.CodeCancelNoop)
			r.wantBooks(t, a.sn())
		})
		t.Run("paid, "+c.name, func(t *testing.T) {
			t.Parallel()
			r := setup(t, func(s *settings) {
				s.linkTimeout = c.timeout
				s.configure = func(u *upay.Server) { u.CancelWait = c.wait }
			})
			till, sn := r.till(t), order()
			a := till.pay(sn)
			outcome := map[upay.Outcome]upay.Outcome{upay.CancelAbortRunning: upay.CancelInProgress, upay.CancelAbortError: upay.CancelError}[c.outcome]
			r.tap.lose(func(call string) bool { return strings.HasSuffix(call, "cancel") })
			till.revoke(sn).want(outcome, c.order, c.status)
			till.query(sn).want(upay.Success, c.order, c.status)
			till.refund(sn, "R1", "1").wantFail(upay.CodeRefundExceeds) // All of it is on its way back.
			r.tap.lose(nil)
			till.until(sn, upay.OrderCanceled)
			r.wantBooks(t, a.sn(), "payment 1250 reversed")
		})
	}
}

// TestRevokeRefused is a provider that will not give back: CANCEL_ERROR, and the order may be tried again.
func TestRevokeRefused(t *testing.T) {
	t.Parallel()
	s := &script{do: outcome(payment.OutcomeApproved)}
	r := setup(t, func(c *settings) { c.acquirer = s })
	c, sn := r.till(t), order()
	c.pay(sn).want(upay.PaySuccess, upay.OrderPaid, "")
	s.say(outcome(payment.OutcomeDeclined))
	c.revoke(sn).want(upay.CancelError, upay.OrderCancelError, upay.StatusCancelError).wantCode(upay.CodeTradeFailed)
	c.query(sn).want(upay.Success, upay.OrderCancelError, upay.StatusCancelError).wantFields("net_amount", "1250")
	s.say(outcome(payment.OutcomeApproved))
	c.revoke(sn).want(upay.CancelSuccess, upay.OrderCanceled, upay.StatusSuccess)
}

// TestRevokeDay is the seed's "within the day it is created", around midnight in the store's zone; an unpaid order may always be cancelled.
func TestRevokeDay(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		zone     string
		midnight time.Time
	}{
		{"Asia/Shanghai", time.Date(2031, 3, 9, 16, 0, 0, 0, time.UTC)},
		{"America/Vancouver", time.Date(2031, 3, 10, 7, 0, 0, 0, time.UTC)}, // Summer time began the night before.
	} {
		t.Run(c.zone, func(t *testing.T) {
			t.Parallel()
			r := setup(t, func(s *settings) { s.zone = c.zone })
			r.clock.hold(c.midnight.Add(-2 * time.Second))
			till := r.till(t)
			before, late, open := order(), order(), order()
			till.pay(before).want(upay.PaySuccess, upay.OrderPaid, "")
			till.pay(late).want(upay.PaySuccess, upay.OrderPaid, "")
			till.precreate(open).want(upay.PrecreateSuccess, "", "")
			r.clock.hold(c.midnight.Add(-time.Millisecond))
			till.revoke(before).want(upay.CancelSuccess, upay.OrderCanceled, "")
			r.clock.hold(c.midnight)
			till.revoke(late).wantFail(upay.CodeCancelInvalidState)
			till.cancel(late).wantFail(upay.CodeCancelInvalidState)
			till.query(late).want(upay.Success, upay.OrderPaid, upay.StatusSuccess)
			till.cancel(open).want(upay.CancelAbortSuccess, upay.OrderCanceled, "")
			till.refund(late, "R1", "1250").want(upay.RefundSuccess, upay.OrderRefunded, "")
			today := order()
			till.pay(today)
			r.clock.hold(c.midnight.Add(23*time.Hour + 59*time.Minute))
			till.revoke(today).want(upay.CancelSuccess, upay.OrderCanceled, "")
		})
	}
}

// TestCancelBesidePay cancels orders at every moment of their payment: whatever is answered, the books agree with it in the end.
func TestCancelBesidePay(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.till(t)
	for i := range 12 {
		sn := order()
		var pay, cancel reply
		together(2, func(which int) {
			if which == 0 {
				pay = c.pay(sn)
			} else {
				time.Sleep(time.Duration(i) * time.Millisecond)
				cancel = c.cancel(sn)
			}
		})
		var end reply
		if !within(func() bool {
			end = c.query(sn)
			return upay.OrderStatus(end.text("order_status")).Final()
		}) {
			t.Fatalf("never final: %s", end.raw)
		}
		switch end.text("order_status") {
		case "CANCELED":
			if cancel.outcome() == "FAIL" && cancel.bizText("error_code") != string(upay.CodeOrderNotExists) {
				t.Errorf("cancelled, and told %s", cancel.raw)
			}
			if !within(func() bool {
				for _, m := range r.books(t, end.sn()) {
					if m.State != "reversed" {
						return false
					}
				}
				return true
			}) {
				t.Errorf("cancelled, and the books say %v", r.books(t, end.sn()))
			}
		default:
			t.Errorf("pay %s, cancel %s, end %s", pay.raw, cancel.raw, end.raw)
		}
	}
}

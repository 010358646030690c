package upay_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/protocol/upay"
)

// TestRefundOutcomes is the table of §3.7.
func TestRefundOutcomes(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.till(t)
	paid := func(t *testing.T, total string) (*till, string, reply) {
		t.Helper()
		c, sn := c.in(t), order()
		return c, sn, c.pay(sn, "total_amount", total, "dynamic_id", wechatCode).want(upay.PaySuccess, upay.OrderPaid, "")
	}
	t.Run("in part and in full", func(t *testing.T) {
		t.Parallel()
		c, sn, a := paid(t, "1250")
		c.refund(sn, "R1", "250").want(upay.RefundSuccess, upay.OrderPartialRefunded, upay.StatusSuccess).
			wantFields("net_amount", "1000", "refunded_amount", "250", "client_tsn", sn+"-R1", "operator", "c02", "total_amount", "1250", "trade_no", a.text("trade_no"))
		c.query(sn).want(upay.Success, upay.OrderPartialRefunded, upay.StatusSuccess).wantFields("client_tsn", sn+"-R1", "operator", "c02")
		c.refund(sn, "R2", "1000").want(upay.RefundSuccess, upay.OrderRefunded, upay.StatusSuccess).wantFields("net_amount", "0")
		c.query(sn, "refund_request_no", "R1").want(upay.Success, upay.OrderRefunded, upay.StatusSuccess).wantFields("client_tsn", sn+"-R1")
		c.query(sn, "refund_request_no", "R9").wantFail(upay.CodeTradeNotExist)
		c.cancel(sn).wantFail(upay.CodeCancelInvalidState)
		c.revoke(sn).wantFail(upay.CodeCancelInvalidState)
	})
	t.Run("refused", func(t *testing.T) {
		t.Parallel()
		c, sn, _ := paid(t, "1000000")
		a := c.refund(sn, "R1", cents("decline")).want(upay.RefundFail, upay.OrderPaid, upay.StatusFailCanceled).wantCode(upay.CodeTradeFailed)
		a.wantFields("net_amount", "1000000", "client_tsn", sn+"-R1")
		c.query(sn).want(upay.Success, upay.OrderPaid, upay.StatusSuccess).wantCode("") // Nobody takes it for a failed payment.
		c.query(sn, "refund_request_no", "R1").want(upay.Success, upay.OrderPaid, upay.StatusFailCanceled).wantCode(upay.CodeTradeFailed)
		c.refund(sn, "R1", cents("decline")).want(upay.RefundFail, upay.OrderPaid, "")
		c.refund(sn, "R2", cents("insufficient_funds")).want(upay.RefundFail, upay.OrderPaid, "").wantCode(upay.CodeSellerBalance)
		c.refund(sn, "R3", "1000000").want(upay.RefundSuccess, upay.OrderRefunded, "") // The refused ones have taken nothing.
	})
	t.Run("pending", func(t *testing.T) {
		t.Parallel()
		c, sn, _ := paid(t, "1000000")
		amount := cents("pending_then_approve_3s")
		c.refund(sn, "R1", amount).want(upay.RefundInProgress, upay.OrderRefunding, upay.StatusInProgress).wantFields("net_amount", "1000000", "finish_time", "")
		c.query(sn).want(upay.Success, upay.OrderRefunding, upay.StatusInProgress)
		c.refund(sn, "R2", amount).wantFail(upay.CodeRefundExceeds) // What is pending counts.
		c.cancel(sn).wantFail(upay.CodeCancelInvalidState)
		c.refund(sn, "R1", amount).want(upay.RefundInProgress, upay.OrderRefunding, upay.StatusInProgress)
		c.refund(sn, "R1", "1").wantFail(upay.CodeRefundNoop)
		c.until(sn, upay.OrderPartialRefunded)
		c.refund(sn, "R1", amount).wantFail(upay.CodeRefundNoop)
	})
	t.Run("not paid", func(t *testing.T) {
		t.Parallel()
		c := c.in(t)
		open, failed, cancelled := order(), order(), order()
		c.precreate(open)
		c.refund(open, "R1", "1").wantFail(upay.CodeRefundInvalidState)
		c.pay(failed, "dynamic_id", code("alipay", "decline"))
		c.refund(failed, "R1", "1").wantFail(upay.CodeRefundInvalidState)
		c.precreate(cancelled)
		c.cancel(cancelled)
		c.refund(cancelled, "R1", "1").wantFail(upay.CodeRefundInvalidState)
		c.refund(order(), "R1", "1").wantFail(upay.CodeOrderNotExists)
	})
	t.Run("revoked", func(t *testing.T) {
		t.Parallel()
		c, sn, _ := paid(t, "600")
		c.revoke(sn).want(upay.CancelSuccess, upay.OrderCanceled, "")
		c.refund(sn, "R1", "1").wantFail(upay.CodeRefundInvalidState)
	})
	t.Run("numbers count within their order", func(t *testing.T) {
		t.Parallel()
		c, sn, _ := paid(t, "600")
		_, other, _ := paid(t, "600")
		c.refund(sn, "R1", "100").want(upay.RefundSuccess, "", "")
		c.refund(other, "R1", "200").want(upay.RefundSuccess, "", "")
	})
	t.Run("by sn, with a number of the client's", func(t *testing.T) {
		t.Parallel()
		c, _, a := paid(t, "600")
		c.refund("", strings.Repeat("R", 31), "100", "client_sn", nil, "sn", a.sn(), "client_tsn", "mine").want(upay.RefundSuccess, "", "").wantFields("client_tsn", "mine")
	})
	t.Run("by another terminal", func(t *testing.T) {
		t.Parallel()
		_, sn, _ := paid(t, "600")
		d := r.till(t)
		d.refund(sn, "R1", "100", "operator", "boss").want(upay.RefundSuccess, "", "").wantFields("terminal_sn", d.sn, "operator", "boss")
	})
}

// TestRefundError is a refund without an answer: REFUND_ERROR, until it is known; repeats never give back twice.
func TestRefundError(t *testing.T) {
	t.Parallel()
	r := setup(t, func(s *settings) {
		s.linkTimeout = 300 * time.Millisecond
		s.configure = func(u *upay.Server) { u.RefundWait = 1500 * time.Millisecond }
	})
	c, sn := r.till(t), order()
	a := c.pay(sn)
	r.tap.lose(func(call string) bool { return strings.HasSuffix(call, "refunds") })
	c.refund(sn, "R1", "250").want(upay.RefundError, upay.OrderRefundError, upay.StatusRefundError)
	c.query(sn).want(upay.Success, upay.OrderRefundError, upay.StatusRefundError)
	c.refund(sn, "R1", "250").want(upay.RefundError, upay.OrderRefundError, upay.StatusRefundError)
	c.refund(sn, "R2", "1001").wantFail(upay.CodeRefundExceeds) // What is unknown counts.
	r.tap.lose(nil)
	c.until(sn, upay.OrderPartialRefunded)
	c.refund(sn, "R1", "250").wantFail(upay.CodeRefundNoop)
	r.wantBooks(t, a.sn(), "refund 250 done", "payment 1250 done")
}

func TestConcurrentRefunds(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c, sn := r.till(t), order()
	a := c.pay(sn)
	t.Run("equal ones are one", func(t *testing.T) {
		const tills = 12
		answers := make([]reply, tills)
		together(tills, func(i int) { answers[i] = c.in(t).refund(sn, "R1", "250") })
		for _, a := range answers {
			if a.bizText("error_code") != string(upay.CodeRefundNoop) {
				a.want(upay.RefundSuccess, upay.OrderPartialRefunded, "")
			}
		}
		r.wantBooks(t, a.sn(), "refund 250 done", "payment 1250 done")
	})
	t.Run("others never exceed the order", func(t *testing.T) {
		const tills = 12
		answers := make([]reply, tills)
		together(tills, func(i int) { answers[i] = c.in(t).refund(sn, fmt.Sprintf("S%d", i), "300") })
		done := 0
		for _, a := range answers {
			if a.outcome() == string(upay.RefundSuccess) {
				done++
			} else {
				a.wantFail(upay.CodeRefundExceeds)
			}
		}
		if done != 3 {
			t.Errorf("%d refunds of 300 of 1000", done)
		}
		c.in(t).query(sn).wantFields("net_amount", "100")
	})
	t.Run("a revoke beside a refund", func(t *testing.T) {
		for range 6 {
			sn := order()
			a := c.in(t).pay(sn)
			answers := make([]reply, 2)
			together(2, func(i int) {
				if i == 0 {
					answers[i] = c.in(t).refund(sn, "R1", "250")
				} else {
					answers[i] = c.in(t).revoke(sn)
				}
			})
			switch {
			case answers[1].outcome() == string(upay.CancelSuccess):
				if answers[0].outcome() == string(upay.RefundSuccess) {
					t.Errorf("both: %s %s", answers[0].raw, answers[1].raw)
				}
				r.wantBooks(t, a.sn(), "payment 1250 reversed")
			default:
				answers[1].wantFail(upay.CodeCancelInvalidState)
				r.wantBooks(t, a.sn(), "refund 250 done", "payment 1250 done")
			}
		}
	})
}

// TestRefundWindow is three months (§3.7), and a setting.
func TestRefundWindow(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.set(t, func(s *upay.Settings) { s.TerminalKeyTTL = 0 })
	c, sn := r.till(t), order()
	c.pay(sn)
	r.clock.pass(91 * 24 * time.Hour)
	c.refund(sn, "R1", "1").want(upay.RefundSuccess, upay.OrderPartialRefunded, "")
	r.clock.pass(2 * 24 * time.Hour)
	c.refund(sn, "R2", "1").wantFail(upay.CodeRefundInvalidState)
	r.set(t, func(s *upay.Settings) { s.TerminalKeyTTL, s.RefundWindow = 0, upay.Duration(200*24*time.Hour) })
	c.refund(sn, "R3", "1").want(upay.RefundSuccess, "", "")
}

// TestFee shows in the ledger what the seed says: a revoke returns the fee, a refund keeps it.
func TestFee(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.till(t)
	fees := func() int64 {
		var fee int64
		must(t, r.store.Read(t.Context(), func(tx payment.Reader) error {
			b, err := tx.Balances(r.merchant)
			fee = b["CNY"].Fees
			return err
		}))
		return fee
	}
	refunded, revoked := order(), order()
	c.pay(refunded, "total_amount", "10000")
	before := fees()
	if before == 0 {
		t.Fatal("no fee")
	}
	c.refund(refunded, "R1", "10000").want(upay.RefundSuccess, upay.OrderRefunded, "")
	if fees() != before {
		t.Errorf("a refund changed the fees from %d to %d", before, fees())
	}
	c.pay(revoked, "total_amount", "10000")
	c.revoke(revoked).want(upay.CancelSuccess, upay.OrderCanceled, "")
	if fees() != before {
		t.Errorf("a revoke left fees of %d, want %d", fees(), before)
	}
	if p := r.payment(t, revoked); !p.FeeReturned || p.State != payment.Voided {
		t.Errorf("got %+v", p)
	}
}

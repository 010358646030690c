package iotpay

import (
	"context"
	"errors"
	"log/slog"
	"strings"

	"github.com/tillgate/tillgate/internal/access"
	"github.com/tillgate/tillgate/payment"
)

// queryOrder is §3.6: at once, and also while the order's create_order is held.
func (s *Server) queryOrder(c *call) (*object, error) {
	var q QueryOrder
	if err := read(c.params, q.fields(), s.Strict); err != nil {
		return nil, err
	}
	v, refund, err := s.find(c, q)
	if err != nil {
		return nil, err
	}
	if refund != nil {
		return s.answerRefund(c, *refund)
	}
	return s.answerQuery(c, v)
}

// answerQuery gives the order in all three shapes that clients read (§3.6).
func (s *Server) answerQuery(c *call, v payment.View) (*object, error) {
	o, err := s.order(c.r.Context(), v)
	if err != nil {
		return nil, err
	}
	s.note(c, o)
	text := string(o.JSON())
	a := &object{}
	a.text("resCode", Success)
	a.text("retCode", Success)
	a.text("retMsg", "")
	a.text("payOrderId", o.PayOrderID)
	a.text("mchOrderNo", o.MchOrderNo)
	a.text("mchId", o.MchID)
	a.text("channelId", o.ChannelID)
	a.text("currency", o.Currency)
	a.number("amount", o.Amount)
	a.text("clientIp", o.ClientIP)
	a.text("device", o.DeviceID)
	a.text("notifyUrl", o.NotifyURL)
	a.text("subject", o.Subject)
	a.text("body", o.Body)
	a.text("param1", o.Param1)
	a.text("param2", o.Param2)
	a.text("extra", o.Extra)
	a.time("paySuccTime", o.PaySuccTime)
	a.text("channelOrderNo", o.ChannelOrderNo)
	a.number("status", int64(o.Status))
	a.raw("payOrder", text)
	a.raw("result", text)
	return a, nil
}

// closeOrder is §3.9: an order that is not paid ends, and its terminal stops asking for a card.
func (s *Server) closeOrder(c *call) (*object, error) {
	var q QueryOrder
	if err := read(c.params, q.fields(), s.Strict); err != nil {
		return nil, err
	}
	v, refund, err := s.find(c, q)
	if err != nil {
		return nil, err
	}
	if refund != nil {
		return nil, payment.ErrWrongKind
	}
	if v.Payment.State == payment.Open {
		caller, err := s.login(c, "", "")
		if err != nil {
			return nil, err
		}
		v, err = s.Core.Cancel(c.r.Context(), payment.CancelCommand{Caller: caller, Payment: v.Payment.ID, Window: cancelWindow})
		if errors.Is(err, payment.ErrConflict) { // It was paid just now.
			return nil, refuse(CodePaid, "The order is paid; refund it instead.")
		}
		if err != nil {
			return nil, err
		}
	}
	if statuses[v.Payment.State].Paid() {
		return nil, refuse(CodePaid, "The order is paid; refund it instead.")
	}
	return s.answerQuery(c, v)
}

// find finds an order by either number; two that disagree name none (§3.6). A refund's number finds the refund.
func (s *Server) find(c *call, q QueryOrder) (v payment.View, refund *payment.RefundView, err error) {
	ctx, m := c.r.Context(), c.account.Merchant
	switch {
	case q.PayOrderID == "" && q.MchOrderNo == "":
		return v, nil, refuse(CodeParameter, "payOrderId or mchOrderNo is required.")
	case strings.HasPrefix(q.PayOrderID, refundLetters):
		r, err := s.refundByNumber(ctx, m, q.PayOrderID)
		if err == nil && q.MchOrderNo != "" && q.MchOrderNo != r.Refund.Key.Key {
			err = payment.ErrNotFound
		}
		return v, &r, err
	case q.PayOrderID != "":
		id := idIn(q.PayOrderID)
		if id == 0 {
			return v, nil, payment.ErrNotFound
		}
		v, err = s.Core.Await(ctx, m, id, 0, func(payment.View) bool { return true })
	default:
		v, _, err = s.Core.Find(ctx, m, payment.Key{Scope: scopeOrder, Key: q.MchOrderNo})
	}
	if err != nil {
		return v, nil, err
	}
	p := &v.Payment
	if p.Protocol != Protocol || q.PayOrderID != "" && q.PayOrderID != p.Number() || q.MchOrderNo != "" && q.MchOrderNo != p.Key.Key {
		return v, nil, payment.ErrNotFound
	}
	return v, nil, nil
}

func (s *Server) note(c *call, o *PayOrder) {
	access.Note(c.r.Context(), slog.String("payment", o.PayOrderID), slog.Int64("status", int64(o.Status)))
}

// order is a payment as an order, with all that is known of it now.
func (s *Server) order(ctx context.Context, v payment.View) (*PayOrder, error) {
	m, ch, err := readMemo(&v.Payment)
	if err != nil {
		return nil, err
	}
	status := statusOf(v)
	if ch.flow != payment.ByCard {
		if status == StatusPaid && ch.notifies() {
			status, err = s.acknowledged(ctx, &v.Payment)
		}
		return order(v, m, status), err
	}
	r, told, err := s.report(ctx, &v.Payment)
	if err != nil {
		return nil, err
	}
	answered := v.Attempt.State == payment.Approved || v.Attempt.State == payment.Declined
	if !told && status.Final() && answered && s.now().Before(v.Attempt.SettledAt.Add(reportWait)) {
		status = StatusPaying // The terminal is still at it: the chip may refuse, and the receipt is not complete.
	}
	o := order(v, m, status)
	o.Extra = extraOf(v, m, r, status).JSON()
	return o, nil
}

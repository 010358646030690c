package iotpay

import (
	"cmp"
	"context"
	"errors"
	"strings"

	"github.com/tillgate/tillgate/payment"
)

// refundOrder is §3.7. A refund that was declined is a failure on both levels: clients take either SUCCESS for good.
func (s *Server) refundOrder(c *call) (*object, error) {
	var o RefundOrder
	if err := read(c.params, o.fields(), s.Strict); err != nil {
		return nil, err
	}
	caller, err := s.login(c, o.LoginName, o.Device)
	if err != nil {
		return nil, err
	}
	original, refund, err := s.find(c, QueryOrder{PayOrderID: o.PayOrderID})
	if errors.Is(err, payment.ErrNotFound) {
		original, refund, err = s.find(c, QueryOrder{MchOrderNo: o.PayOrderID})
	}
	if err != nil {
		return nil, err
	}
	if refund != nil {
		return nil, payment.ErrWrongKind
	}
	cmd, err := refundCommand(&o, &original.Payment, caller, cmp.Or(s.CreateWait, createWait))
	if err != nil {
		return nil, err
	}
	v, err := s.Core.Refund(c.r.Context(), cmd)
	if errors.Is(err, payment.ErrKeyReused) {
		return nil, refuse(CodeParameter, "mchRefundNo already exists")
	}
	if err != nil {
		return nil, err
	}
	if v.Refund.State == payment.Declined {
		return nil, refuse(CodeThirdParty, "%s", cmp.Or(v.Refund.FailureText, "The refund was declined."))
	}
	return s.answerRefund(c, v)
}

func (s *Server) answerRefund(c *call, v payment.RefundView) (*object, error) {
	o, err := refundOrder(v)
	if err == nil && v.Payment.Flow == payment.ByCard {
		o.Extra, err = s.refundExtra(c.r.Context(), v, o.Status)
	}
	if err != nil {
		return nil, err
	}
	s.note(c, o)
	a := &object{}
	a.text("resCode", Success)
	a.text("retCode", Success)
	a.text("retMsg", "")
	a.text("refundOrderId", o.PayOrderID)
	a.text("payOrderId", o.OriginalOrderID)
	a.text("mchRefundNo", o.MchOrderNo)
	a.number("refundAmount", o.Amount)
	a.number("status", int64(o.Status))
	if v.Refund.State == payment.Declined {
		a.text("errCodeDes", v.Refund.FailureText)
	}
	a.raw("payOrder", string(o.JSON()))
	return a, nil
}

// queryRefund is §3.8.
func (s *Server) queryRefund(c *call) (*object, error) {
	var q QueryRefund
	if err := read(c.params, q.fields(), s.Strict); err != nil {
		return nil, err
	}
	v, err := s.findRefund(c, q)
	if err != nil {
		return nil, err
	}
	return s.answerRefund(c, v)
}

// findRefund finds a refund by any of its numbers; an order's finds the latest of its refunds.
func (s *Server) findRefund(c *call, q QueryRefund) (payment.RefundView, error) {
	ctx, m := c.r.Context(), c.account.Merchant
	var v payment.RefundView
	switch {
	case q.MchRefundNo != "":
		paid, op, err := s.Core.Find(ctx, m, payment.Key{Scope: scopeRefund, Key: q.MchRefundNo})
		if err != nil {
			return v, err
		}
		v = payment.RefundView{Payment: paid.Payment, Refund: *op}
	case q.RefundOrderID != "" || strings.HasPrefix(q.PayOrderID, refundLetters):
		var err error
		if v, err = s.refundByNumber(ctx, m, cmp.Or(q.RefundOrderID, q.PayOrderID)); err != nil {
			return v, err
		}
	case q.PayOrderID != "":
		original, _, err := s.find(c, QueryOrder{PayOrderID: q.PayOrderID})
		if err != nil {
			return v, err
		}
		if v, err = s.latestRefund(ctx, original.Payment); err != nil {
			return v, err
		}
	default:
		return v, refuse(CodeParameter, "mchRefundNo, refundOrderId or payOrderId is required.")
	}
	if q.RefundOrderID != "" && q.RefundOrderID != refundNumber(&v.Refund) {
		return v, payment.ErrNotFound
	}
	return v, nil
}

// refundByNumber finds a refund by the platform's number of it.
func (s *Server) refundByNumber(ctx context.Context, m payment.MerchantID, number string) (v payment.RefundView, err error) {
	id := idIn(number)
	if id == 0 {
		return v, payment.ErrNotFound
	}
	err = s.Books.Read(ctx, func(r payment.Reader) error {
		if v.Refund, err = r.OperationByID(m, id); err != nil {
			return err
		}
		v.Payment, err = r.Payment(m, v.Refund.Payment)
		return err
	})
	if err == nil && (v.Payment.Protocol != Protocol || v.Refund.Key.Scope != scopeRefund || number != refundNumber(&v.Refund)) {
		err = payment.ErrNotFound
	}
	return v, err
}

func (s *Server) latestRefund(ctx context.Context, p payment.Payment) (payment.RefundView, error) {
	v := payment.RefundView{Payment: p}
	err := s.Books.Read(ctx, func(r payment.Reader) error {
		ops, err := r.Operations(p.Merchant, p.ID)
		for _, op := range ops {
			if op.Key.Scope == scopeRefund {
				v.Refund = op
			}
		}
		return err
	})
	if err == nil && v.Refund.ID == 0 {
		err = payment.ErrNotFound
	}
	return v, err
}

// refundExtra is what the receipt of a card's refund says: the card is the sale's, all else the refund's own. No chip took part in it.
func (s *Server) refundExtra(ctx context.Context, v payment.RefundView, status Status) (string, error) {
	m, _, err := readMemo(&v.Payment)
	if err != nil {
		return "", err
	}
	told, _, err := s.report(ctx, &v.Payment)
	if err != nil {
		return "", err
	}
	var sale payment.Operation
	err = s.Books.Read(ctx, func(r payment.Reader) (err error) {
		sale, err = r.Operation(v.Payment.Merchant, v.Payment.ID, v.Refund.Target)
		return err
	})
	if err != nil {
		return "", err
	}
	shown := payment.View{Payment: v.Payment, Attempt: v.Refund}
	shown.Payment.ID, shown.Payment.Day, shown.Payment.ModifiedAt = v.Refund.ID, v.Refund.Day, v.Refund.CreatedAt
	shown.Payment.State, shown.Payment.Failure = payment.Refused, v.Refund.Failure // For its words, should it be declined.
	shown.Attempt.Card = sale.Card
	return extraOf(shown, m, Report{Scheme: told.Scheme, Language: told.Language}, status).JSON(), nil
}

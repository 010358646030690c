package iotpay

import (
	"cmp"
	"crypto/rand"
	"errors"
	"io"

	"github.com/tillgate/tillgate/payment"
)

// createOrder is §3.1 to §3.3.
func (s *Server) createOrder(c *call) (*object, error) {
	ch, known := channelOf(c.params.Get("channelId"))
	var o CreateOrder
	if err := read(c.params, o.fields(ch), s.Strict); err != nil {
		return nil, err
	}
	if !known || ch.flow == payment.ByCard && s.Terminals == nil {
		return nil, refuse(CodeParameter, "channelId %.24q is not offered here.", o.ChannelID)
	}
	if err := s.checkTarget(ch, o.NotifyURL); err != nil {
		return nil, err
	}
	caller, err := s.login(c, o.JobNo, o.Device)
	if err != nil {
		return nil, err
	}
	if ch.flow == payment.ByCard && caller.Terminal.ID == 0 {
		return nil, refuse(CodeParameter, "No terminal belongs to this login and device.")
	}
	once, err := s.once16()
	if err != nil {
		return nil, err
	}
	cmd, err := saleCommand(&o, ch, caller, s.now(), once)
	if err != nil {
		return nil, err
	}
	var v payment.View
	if ch.flow == payment.ByCard {
		v, err = s.sellByCard(c, cmd)
	} else {
		cmd.Wait = cmp.Or(s.CreateWait, createWait)
		v, err = s.Core.Sell(c.r.Context(), cmd)
	}
	if again, ok := errors.AsType[*payment.KeyReusedError](err); ok {
		return nil, reused(&again.Payment)
	}
	if err != nil {
		return nil, err
	}
	if ch.qr != "" {
		return s.showQR(c, v, ch)
	}
	return s.answer(c, v)
}

// once16 are random bytes that make a request unlike every other.
func (s *Server) once16() ([]byte, error) {
	source := s.Rand
	if source == nil {
		source = rand.Reader
	}
	b := make([]byte, 16)
	_, err := io.ReadFull(source, b)
	return b, err
}

// answer is the order as create_order answers it (seed).
func (s *Server) answer(c *call, v payment.View) (*object, error) {
	o, err := s.order(c.r.Context(), v)
	if err != nil {
		return nil, err
	}
	s.note(c, o)
	a := &object{}
	a.text("resCode", Success)
	a.text("retCode", Success)
	a.text("retParams", "")
	a.text("payOrderId", o.PayOrderID)
	a.text("mchOrderNo", o.MchOrderNo)
	a.text("retDetail", detail(v, o))
	if v.Payment.Flow != payment.ByCard && !o.Status.Paid() && o.Status.Final() {
		a.text("errCodeDes", v.Payment.FailureText) // §3.2: cards say it in receiptDisp.
	}
	a.raw("payOrder", string(o.JSON()))
	return a, nil
}

// detail is retDetail: why the system has ended a card order, for people. It is empty in the seed's sample of a decline.
func detail(v payment.View, o *PayOrder) string {
	if v.Payment.Flow == payment.ByCard && o.Status == StatusClosed {
		return v.Payment.FailureText
	}
	return ""
}

// showQR is the answer with the text of a QR code (§3.3). Without one there is nothing to show, and so nobody pays.
func (s *Server) showQR(c *call, v payment.View, ch channel) (*object, error) {
	qr := v.Attempt.Result.QR
	if qr == "" {
		if v.Payment.State == payment.Open {
			return nil, refuse(CodeTimeout, "The wallet has not answered; query the order.")
		}
		return nil, refuse(CodeThirdParty, "%s", cmp.Or(v.Payment.FailureText, "The wallet did not accept the order."))
	}
	o, err := s.order(c.r.Context(), v)
	if err != nil {
		return nil, err
	}
	s.note(c, o)
	link := &object{}
	link.text(ch.qr, qr)
	a := &object{}
	a.text("resCode", Success)
	a.text("retCode", Success)
	a.text("retMsg", "")
	a.text("payOrderId", o.PayOrderID)
	a.text("mchOrderNo", o.MchOrderNo)
	a.text(ch.qr, qr)
	a.raw("retParams", string(link.bytes()))
	a.text("retDetail", "")
	a.raw("payOrder", string(o.JSON()))
	return a, nil
}

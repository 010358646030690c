package iotpay

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/tillgate/tillgate/payment"
)

// errHeld ends a create_order that was held as long as it can be, without an answer: the till asks with query_order then (§6). A failure
// would be a lie.
var errHeld = errors.New("held too long")

// stopGrace is how long a card order that is being decided is held when the server stops.
const stopGrace = 8 * time.Second

// cancelWindow is how long after its creation an order can be closed: longer than any lives.
const cancelWindow = 24 * time.Hour

// drive lets the terminal take a card for a payment, and returns at once; the channel is closed when the terminal has done with it. The till
// may hang up meanwhile: nothing changes then.
func (s *Server) drive(caller payment.Caller, p payment.Payment) <-chan struct{} {
	done := make(chan struct{})
	s.sales.Go(func() {
		defer close(done)
		ctx, cancel := context.WithTimeout(context.Background(), s.hold())
		defer cancel()
		release := context.AfterFunc(s.stop.Context(s.Stopping), cancel) // Whoever has read no card is free to go.
		defer release()
		r, err := s.atTerminal(ctx, cancel, caller, p)
		s.terminalDone(caller, p, r, err)
	})
	return done
}

// Wait returns when no card order is at a terminal any more: after Stopping was closed and the handlers have returned.
func (s *Server) Wait() { s.sales.Wait() }

// atTerminal asks the terminal, and takes the order back when the payment has ended otherwise: closed by the till, or expired.
func (s *Server) atTerminal(ctx context.Context, recall func(), caller payment.Caller, p payment.Payment) (Report, error) {
	type told struct {
		report Report
		err    error
	}
	finished := make(chan told, 1)
	go func() {
		r, err := s.Terminals.Sale(ctx, caller, p)
		finished <- told{r, err}
	}()
	watch, end := context.WithCancel(ctx)
	ended := make(chan payment.View, 1)
	go func() {
		defer close(ended)
		v, err := s.Core.Await(watch, p.Merchant, p.ID, s.hold(), func(v payment.View) bool { return v.Payment.State != payment.Open })
		if err == nil && v.Payment.State != payment.Open {
			ended <- v
		}
	}()
	defer func() {
		end()
		<-ended // Empty or closed: the watcher is gone.
	}()
	var t told
	select {
	case t = <-finished:
		return t.report, t.err
	case v, known := <-ended:
		if !known {
			t = <-finished
			return t.report, t.err
		}
		if v.Payment.Attempt == 0 {
			recall()
			t = <-finished
			return t.report, t.err
		}
	}
	finish := time.NewTimer(reportWait) // The host has decided; the terminal finishes with the card.
	defer finish.Stop()
	select {
	case t = <-finished:
	case <-finish.C:
		recall()
		t = <-finished
	}
	return t.report, t.err
}

// terminalDone keeps what the terminal told, and ends the payment if nobody has asked the host: nothing was sent, and nothing will be.
func (s *Server) terminalDone(caller payment.Caller, p payment.Payment, r Report, failed error) {
	ctx, cancel := context.WithTimeout(context.Background(), settleLimit)
	defer cancel()
	v, err := s.Core.Await(ctx, p.Merchant, p.ID, 0, func(payment.View) bool { return true })
	if err != nil {
		s.Log.Error("iotpay: order not read after its terminal was done", "payment", p.Number(), "error", err)
		return // Its lifetime ends it.
	}
	if failed == nil || v.Payment.Attempt != 0 {
		s.keepReport(ctx, &p, r)
	}
	if failed != nil {
		s.Log.Warn("iotpay: terminal did not finish", "payment", p.Number(), "tid", caller.Terminal.PublicID, "card_read", v.Payment.Attempt != 0, "error", failed)
	}
	if v.Payment.State != payment.Open || v.Payment.Attempt != 0 {
		return
	}
	reason, text := endOf(r, failed)
	_, err = s.Core.Cancel(ctx, payment.CancelCommand{Caller: caller, Payment: p.ID, Window: cancelWindow, Reason: reason, Text: text})
	if err != nil {
		s.Log.Error("iotpay: order not ended after its terminal was done", "payment", p.Number(), "error", err)
	}
}

// settleLimit bounds what is done after a terminal is done, so that Wait ends although the store does not answer.
const settleLimit = 10 * time.Second

// sellByCard is create_order with CC_PAX: the order is stored before the terminal is asked, and the call is held until it is decided.
func (s *Server) sellByCard(c *call, cmd payment.SaleCommand) (payment.View, error) {
	cmd.Lifetime = s.hold() - s.hold()/cardMargin
	stored, cancel := context.WithTimeout(context.WithoutCancel(c.r.Context()), settleLimit)
	v, err := s.Core.Begin(stored, cmd) // A till that hangs up now must not leave an order that nobody knows of.
	cancel()
	if err != nil {
		return payment.View{}, err
	}
	done := s.drive(cmd.Caller, v.Payment)
	conn := http.NewResponseController(c.w) // The call may be held for longer than others: a deadline would pass for a till that left.
	_, _ = conn.SetReadDeadline(time.Time{}), conn.SetWriteDeadline(time.Time{})

	ctx, cancel := context.WithTimeout(c.r.Context(), s.hold())
	defer cancel()
	release := context.AfterFunc(s.stop.Context(s.Stopping), func() { time.AfterFunc(stopGrace, cancel) })
	defer release()
	select {
	case <-done:
	case <-ctx.Done():
		return v, c.held()
	}
	v, err = s.Core.Await(ctx, v.Payment.Merchant, v.Payment.ID, s.hold(), func(v payment.View) bool { return statusOf(v).Final() })
	if ctx.Err() != nil || err == nil && !statusOf(v).Final() {
		return v, c.held()
	}
	return v, err
}

// cardMargin is the part of the hold that is left when an unpaid card order's life ends, so that its end is still answered.
const cardMargin = 18

// held is how a call ends that was not decided in time: the till's own leaving comes first.
func (c *call) held() error {
	if err := c.r.Context().Err(); err != nil {
		return err
	}
	return errHeld
}

package qfpay

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/tillgate/tillgate/payment"
)

// Times of the server.
const (
	// answerGrace is how much longer than the customer a sale may take. A cash register reads for 60 seconds longer (§7).
	answerGrace   = 45 * time.Second
	refundTimeout = 60 * time.Second // Of a refund, the operator's part of it included.
	quickTimeout  = 12 * time.Second // Of all else. A cash register reads for 15 seconds (§7).
	cancelWait    = 2 * time.Second  // For an order that the Desk has been handed, but does not know yet.
	cancelPause   = 20 * time.Millisecond
	// faultPause is how long a refused body waits for its answer, counted from its arrival: longer than any check takes, so that the
	// time tells nothing of which one failed, and guesses are slow.
	faultPause = 50 * time.Millisecond
)

// Server is a terminal's side of the protocol, behind all of its links at once: HTTP, TCP and Serial serve it. It sees to it that one payment or
// refund runs at a time. Desk, Keys and Log must be set.
type Server struct {
	Desk Desk
	Keys Keys
	Log  *slog.Logger
	Now  func() time.Time // nil is time.Now.
	Rand io.Reader        // For the orders' names; nil is that of crypto/rand.
	// Grace is how much longer than the customer a sale may take before it is answered as unknown; 0 is 45 s.
	Grace time.Duration
	// FaultPause is how long a refused body waits for its answer; 0 is 50 ms.
	FaultPause time.Duration

	mu       sync.Mutex
	running  *order
	printing bool
	orders   sync.WaitGroup
}

// order is a sale or refund that the Desk has in hand.
type order struct {
	name  string
	sale  *SaleRequest // Nil for a refund.
	start time.Time
	ended chan struct{} // Closed when trade and err are set.
	trade Trade
	err   error
}

// call is one request on its way.
type call struct {
	server *Server
	ctx    context.Context // Of the link: it ends when the cash register hangs up.
	c      content
}

// handlers carries the operations out.
var handlers = map[FuncType]func(*call) Response{
	FuncPayment:      (*call).payment,
	FuncRefund:       (*call).refund,
	FuncPrintReceipt: (*call).printReceipt,
	FuncPrintSummary: (*call).printSummary,
	FuncInquiry:      (*call).inquiry,
	FuncCancel:       (*call).cancel,
}

// Wait waits until no sale or refund runs any more, or ctx ends. Call it after the links have stopped.
func (s *Server) Wait(ctx context.Context) error {
	idle := make(chan struct{})
	go func() { // Ends with the last order, at the latest after its time limit.
		s.orders.Wait()
		close(idle)
	}()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Server) now() time.Time {
	if s.Now == nil {
		return time.Now()
	}
	return s.Now()
}

// open verifies a body that has arrived over a link. A refusal is held back until it tells nothing by its time.
func (s *Server) open(ctx context.Context, link string, body []byte) (*request, *fault) {
	hold := time.NewTimer(cmp.Or(s.FaultPause, faultPause))
	defer hold.Stop()
	r, f := s.Keys.KeySet().open(body)
	if f == nil {
		return r, nil
	}
	s.Log.LogAttrs(ctx, slog.LevelWarn, "ecr refused", slog.String("link", link), slog.String("respcd", string(f.code)), slog.String("why", f.text))
	select {
	case <-hold.C:
	case <-ctx.Done():
	}
	return nil, f
}

// handle carries a verified request out. ctx ends when nobody waits for the answer any more: that cancels nothing.
func (s *Server) handle(ctx context.Context, link string, r *request, path FuncType) Response {
	start := s.now()
	c, err := decodeContent(r.members, path)
	var answer Response
	if err != nil {
		o, _ := refusal(err, false)
		answer = o.response()
	} else {
		answer = handlers[c.funcType](&call{server: s, ctx: ctx, c: c})
	}
	s.Log.LogAttrs(ctx, slog.LevelInfo, "ecr", slog.String("link", link), slog.Int("func_type", int(c.funcType)),
		slog.String("respcd", string(answer.Code)), slog.String("resperr", answer.Error), slog.Int64("ms", s.now().Sub(start).Milliseconds()))
	return answer
}

// refuse words an error, and logs what no table knows.
func (c *call) refuse(err error, money bool) Response {
	o, known := refusal(err, money)
	if !known {
		c.server.Log.LogAttrs(c.ctx, slog.LevelError, "ecr: unexpected error", slog.Int("func_type", int(c.c.funcType)), slog.Any("err", err))
	}
	return o.response()
}

func (c *call) payment() Response {
	r := &SaleRequest{OutTradeNo: c.c.outTradeNo, Amount: c.c.amount, Channel: c.c.channel.name, Method: c.c.channel.method,
		Flow: c.c.channel.flow(c.c.scanType), Timeout: c.c.timeout, FrontCamera: c.c.frontCamera, GoHome: c.c.goHome}
	return c.run(r, c.c.timeout, func(ctx context.Context, name string) (Trade, error) {
		sale := *r
		sale.Order = name
		return c.server.Desk.Sale(ctx, sale)
	})
}

func (c *call) refund() Response {
	return c.run(nil, refundTimeout, func(ctx context.Context, name string) (Trade, error) {
		return c.server.Desk.Refund(ctx, RefundRequest{Order: name, Original: c.c.orderID, Amount: c.c.amount, MayChange: c.c.mayChange, GoHome: c.c.goHome})
	})
}

// run gives an order to the Desk, if there is none yet, and waits for its end. The order does not hear of a cash register that hangs
// up (§5), and keeps its place until it has ended, whatever was answered meanwhile: the next one is never swallowed by it.
func (c *call) run(sale *SaleRequest, timeout time.Duration, do func(ctx context.Context, name string) (Trade, error)) Response {
	s := c.server
	o, err := s.begin(sale)
	if err != nil {
		return c.refuse(err, false)
	}
	limit := timeout + cmp.Or(s.Grace, answerGrace)
	s.orders.Go(func() {
		ctx, stop := context.WithTimeout(context.WithoutCancel(c.ctx), limit)
		defer stop()
		trade, err := do(ctx, o.name)
		s.end(o, trade, err)
	})
	const desk = time.Second // For a Desk that returns when its context ends.
	late := time.NewTimer(limit + desk)
	defer late.Stop()
	select {
	case <-o.ended:
	case <-late.C:
		return outcomes[payment.OutcomeUnknown].response()
	case <-c.ctx.Done(): // Nobody hears it.
		return outcomes[payment.OutcomeUnknown].response()
	}
	if o.err != nil {
		return c.refuse(o.err, true)
	}
	return tradeResponse(o.trade, s.Desk.Identity())
}

func (s *Server) begin(sale *SaleRequest) (*order, error) {
	const size = 16
	var name [size]byte
	random := s.Rand
	if random == nil {
		random = rand.Reader
	}
	if _, err := io.ReadFull(random, name[:]); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBusy, err) // Nothing was started.
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running != nil {
		return nil, ErrBusy
	}
	s.running = &order{name: fmt.Sprintf("%x", name), sale: sale, start: s.now(), ended: make(chan struct{})}
	return s.running, nil
}

func (s *Server) end(o *order, trade Trade, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o.trade, o.err = trade, err
	s.running = nil
	close(o.ended)
}

func (s *Server) current() *order {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running
}

// cancel ends what runs (§4.6). It names no order, so it is about the one that runs now, and about no later one.
func (c *call) cancel() Response {
	o := c.server.current()
	if o == nil {
		return done
	}
	ctx, stop := context.WithTimeout(c.ctx, quickTimeout)
	defer stop()
	patience := time.NewTimer(cancelWait)
	defer patience.Stop()
	for {
		err := c.server.Desk.Cancel(ctx, o.name)
		if err == nil {
			return done
		}
		if !errors.Is(err, ErrNotRunning) {
			return c.refuse(err, false)
		}
		select {
		case <-o.ended:
			if o.err != nil || o.trade.Outcome == payment.OutcomeDeclined {
				return done // It has ended by itself, and nothing was paid.
			}
			return c.refuse(ErrTooLate, false)
		case <-patience.C:
			return c.refuse(ErrTooLate, false)
		case <-ctx.Done():
			return c.refuse(ErrTooLate, false)
		case <-time.After(cancelPause): // The Desk is being handed it right now.
		}
	}
}

// find asks the Desk for a trade. A sale that runs under the number is waiting as long as the engine knows of no other end: it may not have
// heard of the sale yet, because the customer still looks for the card, or only of an earlier one that failed under the same number. "Not
// found" or "declined" would let the cash register believe that nothing can come of it.
func (c *call) find(ctx context.Context, r InquiryRequest) (Trade, error) {
	for {
		o := c.server.current()
		t, err := c.server.Desk.Inquiry(ctx, r)
		mine := o != nil && o.sale != nil && r.Number == "" && o.sale.OutTradeNo == r.OutTradeNo
		if !mine || err == nil && t.Outcome != payment.OutcomeDeclined || err != nil && !errors.Is(err, payment.ErrNotFound) {
			return t, err
		}
		if c.server.current() == o {
			return Trade{OutTradeNo: r.OutTradeNo, Amount: o.sale.Amount, Channel: o.sale.Channel, Flow: o.sale.Flow,
				Outcome: payment.OutcomeWaiting, CreatedAt: o.start}, nil
		}
		// It has ended in between: what was found may be from before.
	}
}

func (c *call) inquiry() Response {
	ctx, stop := context.WithTimeout(c.ctx, quickTimeout)
	defer stop()
	t, err := c.find(ctx, InquiryRequest{Number: c.c.orderID, OutTradeNo: c.c.outTradeNo})
	if errors.Is(err, payment.ErrNotFound) {
		r := c.refuse(err, false)
		r.Data = "" // §4.5: the text alone names 1136.
		return r
	}
	if err != nil {
		return c.refuse(err, false)
	}
	return inquiryResponse(t, c.server.Desk.Identity(), c.server.now())
}

func (c *call) printReceipt() Response {
	return c.print(func(ctx context.Context) error {
		t, err := c.find(ctx, InquiryRequest{Number: c.c.orderID})
		if err != nil {
			return err
		}
		return c.server.Desk.PrintReceipt(ctx, t)
	})
}

func (c *call) printSummary() Response {
	return c.print(func(ctx context.Context) error {
		sum, err := c.server.Desk.Summary(ctx)
		if err != nil {
			return err
		}
		return c.server.Desk.PrintSummary(ctx, sum)
	})
}

// print prints while nothing else goes on (§5): the paper of two requests must not mix, and a customer's prompt must not be covered.
func (c *call) print(do func(context.Context) error) Response {
	s := c.server
	s.mu.Lock()
	if s.running != nil || s.printing {
		s.mu.Unlock()
		return c.refuse(ErrBusy, false)
	}
	s.printing = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.printing = false
	}()
	ctx, stop := context.WithTimeout(c.ctx, quickTimeout)
	defer stop()
	if err := do(ctx); err != nil {
		return c.refuse(err, false)
	}
	return done
}

package terminal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tillgate/tillgate/payment"
)

// Limits of orders.
const (
	ackLimit = 3 * time.Second // For a terminal to say that it has an order: longer is a line that is dead.
	// finishLimit is how long a terminal may take to finish with the chip and say so, after its card's attempt was answered.
	finishLimit = 15 * time.Second
	// orderMargin is added to what the customer has: reading the card, the PIN, and the host's time-out with its reversal.
	orderMargin = 2 * time.Minute
	quickLimit  = 20 * time.Second // Of orders that need no customer.
	orderCard   = 2 * time.Minute  // For the customer to present a card, where the payment lives longer.
)

// orderKinds says how each kind of order is treated.
var orderKinds = map[OrderKind]struct {
	exclusive bool          // It needs the terminal for itself.
	limit     time.Duration // Until the end; 0 is given with the order.
}{
	OrderSale:   {true, 0},
	OrderRefund: {true, orderMargin},
	OrderQR:     {true, 0},
	OrderPrint:  {true, quickLimit},
	OrderKeys:   {false, quickLimit},
	OrderPing:   {false, ackLimit},
}

func (k OrderKind) exclusive() bool { return orderKinds[k].exclusive }

// order is what a terminal has been asked to do, from the asking until nobody cares any more.
type order struct {
	id      string
	kind    OrderKind
	at      place
	caller  payment.Caller
	payment payment.ID
	refund  RefundOrder // Of a refund: what it may be for.
	frame   Frame
	changed chan struct{} // Holds one value when something below has changed.

	// Under the channel's mutex.

	line   *line // Nil while the line is cut.
	lostAt time.Time
	acked  bool
	closed bool // No card is taken for it any more.
	over   bool // Nobody waits for it any more, and nothing that the terminal says of it counts.
	told   bool // The till is about to be told how it stands: a refusal by the card comes too late.
	// refusing is closed when a refusal that came in time is carried out; nil for none.
	refusing chan struct{}
	attempt  *attempt
	ended    chan struct{} // Closed when report and err are set.
	report   Report
	err      error
}

// attempt is the one card that was sent for an order.
type attempt struct {
	done   chan struct{} // Closed when view, err and at are set.
	view   PaymentView
	err    error
	report Report    // What the card itself told, should the terminal not come back to tell more.
	at     time.Time // When it was answered; zero before.
}

func (o *order) done() bool {
	select {
	case <-o.ended:
		return true
	default:
		return false
	}
}

// finish ends an order, once.
func (o *order) finish(r Report, err error) {
	if !o.done() {
		o.report, o.err = r, err
		close(o.ended)
	}
}

// stir wakes whoever follows the order.
func (o *order) stir() {
	select {
	case o.changed <- struct{}{}:
	default:
	}
}

// Sale asks the caller's terminal to take a card for a payment, which is stored and open, and returns when the terminal has done with it. The
// channel makes the attempt when the card is read; the payment, in the engine, tells the outcome, and the report what the receipt says of card
// and chip.
//
// It fails at once, and has asked nothing of anybody, with ErrAbsent, ErrBusy or ErrDisabled; it fails with ErrLost when the line broke and
// the terminal did not come back. When ctx ends it takes the order back from a terminal that has not sent a card yet, and returns soon; ErrOver
// beside a report with ReasonCancelled tells that. Once it has returned, no attempt is made any more for the payment.
func (c *Channel) Sale(ctx context.Context, caller payment.Caller, p payment.Payment) (Report, error) {
	limit := min(orderCard, p.ExpiresAt.Sub(c.cfg.Now()))
	if limit <= 0 {
		return Report{Ended: payment.ReasonExpired}, nil
	}
	reference := cmp.Or(p.Reference, p.Key.Key)
	body := SaleOrder{Payment: p.ID, Number: p.Number(), Reference: reference, Minor: p.Amount.Minor(), Tip: p.Tip, Currency: p.Amount.Currency().Code(), Limit: limit}
	o, err := c.give(ctx, OrderSale, fmt.Sprintf("sale-%d-%d", p.Merchant, p.ID), caller, body, func(o *order) { o.payment = p.ID })
	if err != nil {
		return Report{}, err
	}
	return c.follow(ctx, o, limit+orderMargin)
}

// Refund asks the caller's terminal to give a part of a captured payment back and to print its receipt. The key makes a repeat a repeat.
func (c *Channel) Refund(ctx context.Context, caller payment.Caller, key string, r RefundOrder) error {
	o, err := c.give(ctx, OrderRefund, fmt.Sprintf("refund-%d-%s", caller.Merchant.ID, key), caller, r, func(o *order) { o.payment, o.refund = r.Payment, r })
	if err != nil {
		return err
	}
	_, err = c.follow(ctx, o, 0)
	return err
}

// Print asks the caller's terminal to print.
func (c *Channel) Print(ctx context.Context, caller payment.Caller, p PrintOrder) error {
	return c.plain(ctx, OrderPrint, caller, p, 0)
}

// ShowQR asks the caller's terminal to show a code to the customer, and returns when ctx ends, its time is over, or the customer cancels: then
// the report says why.
func (c *Channel) ShowQR(ctx context.Context, caller payment.Caller, q QROrder) (Report, error) {
	o, err := c.give(ctx, OrderQR, "", caller, q, nil)
	if err != nil {
		return Report{}, err
	}
	return c.follow(ctx, o, q.Limit+ackLimit)
}

// RefreshKeys asks the caller's terminal to fetch its keys and settings anew.
func (c *Channel) RefreshKeys(ctx context.Context, caller payment.Caller) error {
	return c.plain(ctx, OrderKeys, caller, struct{}{}, 0)
}

// Ping asks the caller's terminal whether it is there. It is, whether it is busy or not, when there is no error.
func (c *Channel) Ping(ctx context.Context, caller payment.Caller) error {
	return c.plain(ctx, OrderPing, caller, struct{}{}, 0)
}

func (c *Channel) plain(ctx context.Context, kind OrderKind, caller payment.Caller, body any, limit time.Duration) error {
	o, err := c.give(ctx, kind, "", caller, body, nil)
	if err != nil {
		return err
	}
	_, err = c.follow(ctx, o, limit)
	return err
}

// Cancel takes the sale order of a payment back from the caller's terminal, as the end of its Sale's ctx does: nil when it will end without
// a card, ErrTooLate when a card has been sent, ErrOver when there is no such order (any more).
func (c *Channel) Cancel(caller payment.Caller, id payment.ID) error {
	c.mu.Lock()
	var found *order
	for _, o := range c.orders {
		if o.kind == OrderSale && o.payment == id && o.at == placeOf(caller) && !o.over {
			found = o
		}
	}
	switch {
	case found == nil:
		c.mu.Unlock()
		return ErrOver
	case found.attempt != nil:
		c.mu.Unlock()
		return ErrTooLate
	}
	l := found.line
	c.close(found)
	found.finish(Report{Ended: payment.ReasonCancelled}, nil)
	c.mu.Unlock()
	takeBack(l, found)
	return nil
}

// takeBack tells a terminal that an order is void. One that does not hear it learns of it when it comes back.
func takeBack(l *line, o *order) {
	if l != nil {
		_ = l.send(Frame{Type: FrameTakeBack, ID: o.id})
	}
}

// give hands an order to a terminal that is there and free, or fails at once. An order of the same ID that is being carried out is refused as
// busy; one that was is refused by the terminal itself.
func (c *Channel) give(ctx context.Context, kind OrderKind, id string, caller payment.Caller, body any, set func(*order)) (*order, error) {
	var err error
	if id == "" {
		if id, err = NewNonce(c.cfg.Rand); err != nil {
			return nil, err
		}
	}
	if err := c.enabled(ctx, caller); err != nil {
		return nil, err
	}
	o := &order{id: id, kind: kind, at: placeOf(caller), caller: caller, frame: MakeFrame(FrameOrder, string(kind), id, body),
		changed: make(chan struct{}, 1), ended: make(chan struct{})}
	if set != nil {
		set(o)
	}
	c.mu.Lock()
	l, err := c.free(o.at)
	if errors.Is(err, ErrBusy) && !kind.exclusive() {
		l, err = c.lines[o.at], nil
	}
	if err == nil && c.orders[id] != nil {
		err = ErrBusy
	}
	if err != nil {
		c.mu.Unlock()
		return nil, err
	}
	o.line = l
	c.orders[id] = o
	if kind.exclusive() {
		l.order = o
	}
	c.mu.Unlock()
	_ = l.send(o.frame) // A line that fails is cut, and the order waits for the next.
	return o, nil
}

// enabled makes sure that the line's terminal has not been disabled since it connected.
func (c *Channel) enabled(ctx context.Context, caller payment.Caller) error {
	c.mu.Lock()
	l := c.lines[placeOf(caller)]
	c.mu.Unlock()
	if l == nil {
		return ErrAbsent
	}
	_, err := c.cfg.Registry.Find(ctx, DeviceProtocol, l.entry.Number)
	if errors.Is(err, payment.ErrForbidden) {
		c.all.Go(func() { l.cut(CloseRefused, "disabled") })
		return ErrDisabled
	}
	return err
}

// forget takes an order out of all hands.
func (c *Channel) forget(o *order) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.close(o)
	o.over = true
	if c.orders[o.id] == o {
		delete(c.orders, o.id)
	}
	if l := c.lines[o.at]; l != nil && l.order == o {
		l.order = nil
	}
}

// close lets no card be taken for an order any more.
func (c *Channel) close(o *order) { o.closed = true }

// follow waits for an order's end. It takes the order back when ctx ends, when its time is over, and when its line is cut for too long; a card
// that has been sent by then is waited for, since its attempt decides.
func (c *Channel) follow(ctx context.Context, o *order, limit time.Duration) (Report, error) {
	limit = cmp.Or(limit, orderKinds[o.kind].limit)
	begun := time.Now()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		at, why := c.deadline(o, begun, limit)
		timer.Reset(max(time.Until(at), 0))
		select {
		case <-o.ended:
			c.forget(o)
			return o.report, o.err
		case <-o.changed:
			continue
		case <-timer.C:
			if time.Now().Before(at) {
				continue
			}
		case <-ctx.Done():
			why = ErrOver
		}
		return c.giveUp(o, why)
	}
}

// deadline is when an order is given up, if nothing happens, and why.
func (c *Channel) deadline(o *order, begun time.Time, limit time.Duration) (time.Time, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	at, why := begun.Add(limit), ErrOver
	sooner := func(t time.Time, err error) {
		if t.Before(at) {
			at, why = t, err
		}
	}
	if o.line == nil {
		sooner(o.lostAt.Add(c.cfg.Resume), ErrLost)
	} else if !o.acked {
		sooner(begun.Add(ackLimit), ErrLost)
	}
	if o.attempt != nil && !o.attempt.at.IsZero() {
		sooner(o.attempt.at.Add(finishLimit), ErrLost)
	}
	return at, why
}

// giveUp ends the waiting for an order. Without a card it is taken back, and nothing can come of it. With one, the attempt is waited for, and
// what the card told is the report: the sale stands as the host says, and the card's later refusal is too late.
func (c *Channel) giveUp(o *order, why error) (Report, error) {
	c.mu.Lock()
	c.close(o)
	o.told = true
	a, l, refusing := o.attempt, o.line, o.refusing
	c.mu.Unlock()
	defer c.forget(o)
	if refusing != nil {
		<-refusing // It waits for the store, and half a second at most for the host.
	}
	if a == nil {
		takeBack(l, o)
		if errors.Is(why, ErrOver) {
			return Report{Ended: payment.ReasonCancelled}, why
		}
		return Report{}, why
	}
	patience := time.NewTimer(finishLimit)
	defer patience.Stop()
	select {
	case <-a.done:
		return a.report, nil
	case <-o.ended:
		return o.report, o.err
	case <-patience.C: // Still under way; the engine goes on, and the payment tells.
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return a.report, nil
}

// acked hears that a terminal has an order, or refuses it. An order that the terminal has had before is lost: whatever came of it then is in
// the books, and it is not carried out again.
func (c *Channel) acked(l *line, f Frame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o := c.orders[f.ID]
	if o == nil || o.at != l.at {
		return
	}
	o.acked = true
	if f.Error != nil {
		o.finish(Report{}, f.Error.Err())
	} else if o.kind == OrderPing {
		o.finish(Report{}, nil)
	}
	o.stir()
}

// ended hears that a terminal has done with an order.
func (c *Channel) ended(l *line, f Frame) {
	var r Report
	if len(f.Body) > 0 && f.Read(&r) != nil {
		c.cfg.Log.Warn("terminal report cannot be read", "tid", l.entry.Number, "order", f.ID)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	o := c.orders[f.ID]
	if o == nil || o.at != l.at {
		return
	}
	o.acked = true
	c.close(o)
	if o.attempt != nil {
		if r.Masked == "" && o.attempt.report.Masked != "" {
			r = o.attempt.report // A terminal that was restarted meanwhile knows less than the server.
		}
		r.Ended = "" // The host was asked, whatever the terminal makes of it.
	}
	o.finish(r, f.Error.Err())
}

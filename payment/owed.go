package payment

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// delays are the pauses before an operation without answer is asked about or sent again, by the tries so far. The last one goes on for
// ever: money work never gives up.
var delays = []time.Duration{0, 500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 15 * time.Second,
	30 * time.Second, time.Minute}

// polls are the pauses between queries while the customer has still to act: a net below the acquirer's own events.
var polls = []time.Duration{3 * time.Second, 5 * time.Second, 10 * time.Second, 20 * time.Second, 30 * time.Second, time.Minute}

// netPoll is the pause beside an acquirer that tells by itself.
const netPoll = time.Minute

const (
	// flagAfter is the number of tries after which people are told.
	flagAfter = 8
	// dueBatch bounds how much owed work is listed at once.
	dueBatch = 256
	// dueEvery is how often owed work is looked for when nothing announced it.
	dueEvery = 250 * time.Millisecond
	// recordTries and recordPause bound how long an answer in memory is offered to a store that fails; afterwards the owed row settles it.
	recordTries = 6
	recordPause = 100 * time.Millisecond
	// nudgesMax bounds the nudges at work: a link's burst of events must not starve the tills.
	nudgesMax = 64
	// drainLimit bounds how long Run waits at its end for exchanges under way: longer than any link's time-out.
	drainLimit = 15 * time.Second
)

// later puts an operation down for its next try.
func (t *turn) later(op *Operation) {
	pauses := delays
	if op.State == Waiting {
		pauses = polls
	}
	t.put(op, pauses[min(op.Tries, len(pauses)-1)])
}

// wait puts down an operation of which the acquirer has just said that somebody must still act. One that tells by itself when that has happened
// is asked as a net only; a question that was not answered is another matter.
func (t *turn) wait(op *Operation) {
	if f, ok := t.e.cfg.Acquirers[op.Acquirer].(Follower); ok && f.Following() {
		t.put(op, netPoll)
		return
	}
	t.later(op)
}

func (t *turn) put(op *Operation, pause time.Duration) {
	at := t.now.Add(pause)
	if op.Kind.IsAttempt() && at.After(t.p.ExpiresAt) && t.now.Before(t.p.ExpiresAt) {
		at = t.p.ExpiresAt
	}
	if op.Tries >= flagAfter && op.State != Waiting {
		op.Flagged = true
	}
	due(op, at)
	t.hurry = t.hurry || !at.After(t.now)
}

// Run settles owed work until ctx ends, and takes over what dead processes left. Then it waits for the exchanges under way.
func (e *Engine) Run(ctx context.Context) error {
	id, err := e.cfg.Store.Enlist(ctx, lease)
	if err != nil {
		return fmt.Errorf("enlist: %w", err)
	}
	e.incarnation.Store(id)
	e.readyOnce.Do(func() { close(e.ready) })

	// The lease is renewed until the exchanges are over: else another process would take them for lost.
	renewing, release := context.WithCancel(context.WithoutCancel(ctx))
	var lessor sync.WaitGroup
	lessor.Go(func() { e.renew(renewing) })
	e.settle(ctx)

	idle := e.work.close()
	select {
	case <-idle:
	case <-time.After(drainLimit):
		e.cfg.Log.Error("payment: exchanges still under way at the end; their owed rows settle them")
	}
	e.stop()
	<-idle
	release()
	lessor.Wait()
	if err := e.cfg.Store.Retire(context.WithoutCancel(ctx), e.incarnation.Load()); err != nil {
		return fmt.Errorf("retire: %w", err)
	}
	return nil
}

// renew keeps this process's lease. A process that was held for dead starts a new life: what it had in hand is others' now.
func (e *Engine) renew(ctx context.Context) {
	tick := time.NewTicker(leaseRenewal)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := e.cfg.Store.Renew(ctx, e.incarnation.Load(), lease)
		if errors.Is(err, ErrNotFound) {
			var id int64
			if id, err = e.cfg.Store.Enlist(ctx, lease); err == nil {
				e.cfg.Log.Warn("payment: this process was held for dead and starts anew", "incarnation", id)
				e.incarnation.Store(id)
			}
		}
		if err != nil && ctx.Err() == nil {
			e.cfg.Log.Error("payment: lease not renewed", "error", err)
		}
	}
}

// Kick makes the runner look for owed work now.
func (e *Engine) Kick() {
	select {
	case e.kick <- struct{}{}:
	default:
	}
}

// settle finds what is due and attends to it.
func (e *Engine) settle(ctx context.Context) {
	for ctx.Err() == nil {
		now := e.cfg.Now()
		owed, next, err := e.cfg.Store.Due(ctx, now, dueBatch)
		if err != nil && ctx.Err() == nil {
			e.cfg.Log.Error("payment: owed work not listed", "error", err)
		}
		var claims sync.WaitGroup
		var moved atomic.Bool
		for _, o := range owed {
			if e.inHand(o) {
				continue // Its row is overdue, because the clock jumped or the store is slow, but its answer is still on its way.
			}
			select {
			case e.workers <- struct{}{}:
			case <-ctx.Done():
				claims.Wait()
				return
			}
			claims.Add(1)
			e.work.also(func() {
				defer func() { <-e.workers }()
				flights, did := e.attend(o, false)
				if did {
					moved.Store(true)
				}
				claims.Done()
				for _, f := range flights {
					<-f.done // A worker is busy until what it sent is answered.
				}
			})
		}
		claims.Wait()
		if len(owed) == dueBatch && moved.Load() {
			continue // There is more. What nothing can be done about must not be listed without a pause.
		}
		wait := dueEvery
		if !next.IsZero() {
			wait = min(wait, max(next.Sub(now), 0))
		}
		pause := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-pause.C:
		case <-e.kick:
		}
		pause.Stop()
	}
}

// Missed says that an acquirer may have told of what moved while nobody heard it: all that waits for somebody there is asked about now.
func (e *Engine) Missed(ctx context.Context, acquirer string) {
	if err := e.cfg.Store.Hasten(ctx, acquirer, e.cfg.Now()); err != nil && ctx.Err() == nil {
		e.cfg.Log.Error("payment: what may have been missed is asked about when it comes due", "acquirer", acquirer, "error", err)
		return
	}
	e.Kick()
}

// inHand reports whether this process has an exchange about a row under way.
func (e *Engine) inHand(o Owed) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.hands[o] != nil
}

// Nudge says that an acquirer has news of an operation: it is asked at once. A link's events call it; losing one costs only time, and so
// what comes while too many are at work, or while Run is not running, is dropped.
func (e *Engine) Nudge(o Owed) {
	e.mu.Lock()
	h := e.hands[o]
	if h != nil {
		h.again = true // Its exchange is under way and may have an old answer: ask again afterwards.
	}
	e.mu.Unlock()
	if h != nil || e.incarnation.Load() == 0 || !e.work.begin() {
		return
	}
	defer e.work.end()
	select {
	case e.nudges <- struct{}{}:
		e.work.also(func() {
			defer func() { <-e.nudges }()
			e.attend(o, true)
		})
	default:
	}
}

// attend does what is due on one row, and reports whether it was this process's turn. Unless nudged, it does so only when the time has
// come and no living process has it in hand.
func (e *Engine) attend(o Owed, nudged bool) ([]*flight, bool) {
	did := false
	t, err := e.change(context.WithoutCancel(e.base), o.Merchant, func(t *turn) error {
		did = o.Operation == 0
		if did {
			return t.expire(o.Payment)
		}
		now := t.now
		if nudged {
			op, err := t.tx.Operation(o.Merchant, o.Payment, o.Operation)
			if err != nil || op.DueAt.IsZero() {
				return err
			}
			now = op.DueAt
		}
		op, err := t.claim(o, now)
		if err != nil || op == nil {
			return err
		}
		did = true
		return t.attend(op)
	})
	if err != nil {
		e.cfg.Log.Error("payment: owed work not done", "merchant", o.Merchant, "payment", o.Payment, "operation", o.Operation, "error", err)
		return nil, e.putOff(o)
	}
	return t.flights, did
}

// claim takes an operation that is due at now in hand, and loads it. It is nil when it is not due, or not this process's.
func (t *turn) claim(o Owed, now time.Time) (*Operation, error) {
	// Until then this process has it; the exchange that may follow moves it further.
	mine, err := t.tx.ClaimOperation(o.Merchant, o.Payment, o.Operation, t.e.incarnation.Load(), now, t.now.Add(recordMargin))
	if err != nil || !mine {
		return nil, err
	}
	if err := t.load(o.Payment); err != nil {
		return nil, err
	}
	t.claimed = true
	return t.op(o.Operation)
}

// putOff moves a row that could not be attended to, because its acquirer is not configured any more, say, out of the way of the others:
// it comes due again later, and people are told.
func (e *Engine) putOff(o Owed) bool {
	did := false
	_, err := e.change(context.WithoutCancel(e.base), o.Merchant, func(t *turn) error {
		did = false
		if o.Operation == 0 {
			if err := t.load(o.Payment); err != nil {
				return err
			}
			t.p.DueAt = t.now.Add(delays[len(delays)-1])
			did = true
			return nil
		}
		op, err := t.claim(o, t.now)
		if err != nil || op == nil {
			return err
		}
		did = true
		op.Flagged = true
		due(op, t.now.Add(delays[min(op.Tries, len(delays)-1)]))
		return nil
	})
	return err == nil && did // If the store fails, the row stays where it is.
}

// attend decides what an operation that is due needs.
func (t *turn) attend(op *Operation) error {
	acq, err := t.e.acquirer(op.Acquirer)
	if err != nil {
		return err
	}
	class := acq.Traits().Class
	if op.Settled() || op.State == Reversing {
		rest(op)
		return nil
	}
	if op.Kind.IsAttempt() {
		switch {
		case op.State == Sent:
			// The process that sent it is gone, and with it the card or code: it is never sent again.
			return t.lost(op, class)
		case !t.now.Before(t.p.ExpiresAt):
			return t.close(op, ReasonExpired)
		}
		return t.ask(op, acq)
	}
	switch {
	case op.State == Waiting && op.Kind == Refund:
		return t.ask(op, acq)
	case op.State != Created && op.State != Reversed && remedies[op.Kind][class] == Reverse:
		return t.lost(op, class)
	}
	return t.send(op)
}

// ask queries an operation.
func (t *turn) ask(op *Operation, acq Acquirer) error {
	op.Owner = t.e.incarnation.Load()
	op.DueAt = t.now.Add(acq.Traits().Timeout + recordMargin)
	f := &flight{msg: Message{Operation: *op}, acq: acq, query: true, done: make(chan struct{})}
	if op.Target != 0 {
		target, err := t.op(op.Target)
		if err != nil {
			return err
		}
		f.msg.Target = *target
	}
	t.flights = append(t.flights, f)
	return nil
}

// expire ends an open payment that has no attempt at work.
func (t *turn) expire(id ID) error {
	if err := t.load(id); err != nil {
		return err
	}
	switch {
	case t.p.State != Open:
		t.p.DueAt = time.Time{}
		return nil
	case t.now.Before(t.p.ExpiresAt):
		return nil
	case t.p.Attempt != 0:
		op, err := t.op(t.p.Attempt)
		if err != nil {
			return err
		}
		if !op.Settled() {
			t.p.DueAt = time.Time{} // The attempt's own row ends it.
			return nil
		}
	}
	t.p.Failure, t.p.FailureText = ReasonExpired, textExpired
	return t.pay(Expire)
}

// launch sends what a turn has stored as sent, and records the answer. It does not hold up its caller.
func (e *Engine) launch(f *flight) {
	o := Owed{f.msg.Payment.Merchant, f.msg.Payment.ID, f.msg.Operation.ID}
	h := &hand{}
	e.mu.Lock()
	e.hands[o] = h
	e.mu.Unlock()
	e.work.also(func() {
		e.exchange(f)
		e.mu.Lock()
		if e.hands[o] == h {
			delete(e.hands, o)
		}
		again := h.again
		e.mu.Unlock()
		close(f.done)
		if again {
			e.attend(o, true)
		}
	})
}

func (e *Engine) exchange(f *flight) {
	ctx, cancel := context.WithTimeout(e.base, f.acq.Traits().Timeout)
	defer cancel()
	if f.msg.Merchant.ID == 0 {
		m, err := e.merchant(ctx, f.msg.Payment.Merchant)
		if err != nil {
			e.cfg.Log.Error("payment: merchant not read", "merchant", f.msg.Payment.Merchant, "error", err)
			return // Its row comes due again.
		}
		f.msg.Merchant = m
	}
	var a Answer
	if f.query {
		a = f.acq.Query(ctx, f.msg)
	} else {
		a = f.acq.Do(ctx, f.msg)
	}
	f.msg.Secret, f.chip = nil, a.Chip
	e.record(f, a)
}

// unmoved reports whether an answer can be recorded without reading the rows first: an attempt that was sent as the payment's own, and is
// approved. Then both rows are written, so that their versions prove that nobody else has moved them.
func (f *flight) unmoved(a Answer) bool {
	op, p := &f.msg.Operation, &f.msg.Payment
	return a.Outcome == OutcomeApproved && !f.query && op.Kind.IsAttempt() && op.State == Sent && p.State == Open && p.Attempt == op.ID
}

// record makes an answer durable. If the store fails for longer, the answer is lost and the owed row finds the truth again.
func (e *Engine) record(f *flight, a Answer) {
	id := f.msg.Operation.ID
	for try := range recordTries {
		var op *Operation
		fast := try == 0 && f.unmoved(a)
		t, err := e.change(context.WithoutCancel(e.base), f.msg.Payment.Merchant, func(t *turn) error {
			var err error
			if fast {
				fast = false // Whatever is in the way, the next try reads.
				op = t.recall(f)
			} else if err = t.load(f.msg.Payment.ID); err != nil {
				return err
			} else if op, err = t.op(id); err != nil {
				return err
			}
			if op.Round != f.msg.Operation.Round {
				return nil // Of a message that has been reversed since; it says nothing about the one under way.
			}
			if f.query && a.Outcome == OutcomeUnsent {
				a.Outcome = OutcomeUnknown
			}
			t.keep = f.keep
			return t.answered(op, f.acq.Traits().Class, a)
		})
		if err == nil {
			f.op, f.payment = *op, t.p
			return
		}
		e.cfg.Log.Error("payment: answer not recorded", "merchant", f.msg.Payment.Merchant, "payment", f.msg.Payment.ID, "operation", id,
			"outcome", a.Outcome, "try", try+1, "error", err)
		select {
		case <-e.base.Done():
			return
		case <-time.After(recordPause << try):
		}
	}
}

// tasks counts what an engine is doing, so that Run can end after it.
type tasks struct {
	mu     sync.Mutex
	n      int
	closed bool
	idle   chan struct{} // Closed when nothing is done any more; made by close.
}

// begin counts one more, unless no more are taken. Whoever begins must end.
func (t *tasks) begin() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return false
	}
	t.n++
	return true
}

func (t *tasks) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n--
	if t.closed && t.n == 0 {
		close(t.idle)
	}
}

// also runs fn beside the caller, who is counted itself, or is Run.
func (t *tasks) also(fn func()) {
	t.mu.Lock()
	t.n++
	t.mu.Unlock()
	go func() {
		defer t.end()
		fn()
	}()
}

// close takes no more in, and returns the channel that is closed when all have ended.
func (t *tasks) close() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed, t.idle = true, make(chan struct{})
	if t.n == 0 {
		close(t.idle)
	}
	return t.idle
}

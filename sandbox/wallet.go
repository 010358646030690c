package sandbox

import (
	"container/heap"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"time"
)

// Config is what a wallet network needs. All fields but Log are required.
type Config struct {
	Dir       string        // Folder of the books; the files' names begin with "sandbox-wallet".
	Key       string        // Bearer token that members prove themselves with.
	PublicURL func() string // Address of the handler as the customer's phone sees it, without a slash at its end. Asked for every payment with a page.
	Now       func() time.Time
	Rand      io.Reader // Makes the phone pages' links; used by one goroutine at a time.
	Log       *slog.Logger
}

// validate names the first field that is missing.
func (c *Config) validate() error {
	for _, field := range []struct {
		name    string
		missing bool
	}{
		{"Dir", c.Dir == ""},
		{"Key", c.Key == ""},
		{"PublicURL", c.PublicURL == nil},
		{"Now", c.Now == nil},
		{"Rand", c.Rand == nil},
	} {
		if field.missing {
			return fmt.Errorf("sandbox: Config.%s is empty; the wallet network needs it", field.name)
		}
	}
	return nil
}

// Network is a wallet network. Its methods may be called concurrently.
type Network struct {
	cfg  Config
	log  *slog.Logger
	done chan struct{} // Closed by Close.
	// sooner tells Run that the next timer is earlier than it knew.
	sooner chan struct{}

	mu      sync.Mutex // Guards all below; held for one journal line at a time, never while waiting.
	closed  bool
	journal *journal
	book    *book
	feed    *feed
}

// journalName is the file of the books.
const journalName = "sandbox-wallet.jsonl"

// Open reads the books, or begins new ones. It starts nothing: run the timers with Run. Two networks must not share a folder.
func Open(cfg Config) (*Network, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	n := &Network{cfg: cfg, log: cfg.Log, done: make(chan struct{}), sooner: make(chan struct{}, 1), book: newBook()}
	if n.log == nil {
		n.log = slog.New(slog.DiscardHandler)
	}
	var err error
	if n.feed, err = newFeed(cfg.Rand); err != nil {
		return nil, fmt.Errorf("open wallet network: %w", err)
	}
	var torn bool
	if n.journal, torn, err = openJournal(filepath.Join(cfg.Dir, journalName), n.book.apply); err != nil {
		return nil, fmt.Errorf("open wallet network: %w", err)
	}
	if torn {
		n.log.Warn("wallet network: dropped the torn last line of its journal")
	}
	return n, nil
}

// Close ends held connections and long polls and closes the books. Requests that come later fail. A second Close does nothing.
func (n *Network) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil
	}
	n.closed = true
	close(n.done)
	return n.journal.close()
}

// How long Run sleeps.
const (
	runNapMax   = time.Minute // At most, in case the clock was set.
	runRetryNap = time.Second // After the books could not be written.
)

// Run works off timers until the context ends or the network is closed, and then returns nil. Without it states change only when
// somebody looks, and events come late.
func (n *Network) Run(ctx context.Context) error {
	for {
		nap := n.tick()
		timer := time.NewTimer(nap)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-n.done:
			timer.Stop()
			return nil
		case <-n.sooner:
			timer.Stop()
		case <-timer.C:
		}
	}
}

// tick does what is due and tells how long there is nothing to do.
func (n *Network) tick() time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	nowMS := n.cfg.Now().UnixMilli()
	if err := n.settle(nowMS); err != nil {
		if !errors.Is(err, errClosed) {
			n.log.Error("wallet network: timer", "error", err)
		}
		return runRetryNap
	}
	if len(n.book.due) == 0 {
		return runNapMax
	}
	return min(time.Duration(n.book.due[0].atMS-nowMS)*time.Millisecond, runNapMax)
}

// commit writes a record and then makes it true. The lock is held.
func (n *Network) commit(rec record) error {
	if err := n.journal.append(rec); err != nil {
		return err
	}
	before := n.nextDueMS()
	if err := n.book.apply(rec); err != nil {
		return err
	}
	if next := n.nextDueMS(); next != 0 && (before == 0 || next < before) {
		select {
		case n.sooner <- struct{}{}:
		default: // Run has not yet heard the last one; it will see both.
		}
	}
	return nil
}

func (n *Network) nextDueMS() int64 {
	if len(n.book.due) == 0 {
		return 0
	}
	return n.book.due[0].atMS
}

// settle does what is due by now. Every call begins with it, so that answers are true even if Run is late. The lock is held.
func (n *Network) settle(nowMS int64) error {
	for len(n.book.due) > 0 && n.book.due[0].atMS <= nowMS {
		next := n.book.due[0]
		var err error
		if next.p != nil {
			err = n.settlePayment(next.p, next.atMS)
		} else {
			err = n.settleRefund(next.r, next.atMS)
		}
		if err != nil {
			return err
		}
		heap.Pop(&n.book.due) // Settling pushes nothing, so it is still the first.
	}
	return nil
}

func (n *Network) settlePayment(p *payment, atMS int64) error {
	if p.State != stateWaiting {
		return nil
	}
	next := *p
	next.State, next.Reason = stateClosed, "expired"
	if p.DecideMS == atMS {
		b := behaviourByName(p.Behaviour)
		next.decide(b.state, b.reason, atMS)
	}
	return n.change(&next)
}

func (n *Network) settleRefund(r *refund, atMS int64) error {
	if r.State != stateWaiting {
		return nil
	}
	next := *r
	b := behaviourByName(r.Behaviour)
	next.decide(b.state, b.reason, atMS)
	if err := n.commit(record{Refund: &next}); err != nil {
		return err
	}
	n.feed.publish(kindRefund, next.Ask.Reference, next.Ask.Attach, next.State)
	return nil
}

// change commits a payment and tells members, who did not ask for it. The lock is held.
func (n *Network) change(next *payment) error {
	if err := n.commit(record{Payment: next}); err != nil {
		return err
	}
	n.feed.publish(kindPayment, next.Ask.Reference, next.Ask.Attach, next.State)
	return nil
}

// decide ends the waiting.
func (p *payment) decide(state, reason string, atMS int64) {
	p.State, p.Reason = state, reason
	if state == stateApproved {
		p.PaidMS = atMS
	}
}

// decide ends the waiting.
func (r *refund) decide(state, reason string, atMS int64) {
	r.State, r.Reason = state, reason
	if state == stateApproved {
		r.RefundedMS = atMS
	}
}

// pay takes a payment, or finds it taken. The fault is what must happen to the answer.
func (n *Network) pay(ask payRequest) (payment, fault, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	nowMS := n.cfg.Now().UnixMilli()
	if err := n.settle(nowMS); err != nil {
		return payment{}, faultNone, err
	}
	if p := n.book.payments[ask.Reference]; p != nil {
		if p.Ask != ask {
			return payment{}, faultNone, errConflict
		}
		return *p, faultNone, nil
	}
	if n.book.unseen[ask.Reference] {
		p := payment{Ask: ask, Seq: n.book.seq + 1, State: stateCancelled, Reason: "cancelled_unseen", Behaviour: usual.name}
		return p, faultNone, n.commit(record{Payment: &p})
	}
	p, b := n.newPayment(ask, nowMS)
	spent := "payment/" + ask.Reference
	if b.lost && !n.book.spent[spent] {
		return payment{}, b.fault, n.commit(record{Spent: spent})
	}
	if ask.Flow != flowCode {
		token := make([]byte, tokenBytes)
		if _, err := io.ReadFull(n.cfg.Rand, token); err != nil {
			return payment{}, faultNone, fmt.Errorf("make the link of %s: %w", ask.Reference, err)
		}
		p.Token = base64.RawURLEncoding.EncodeToString(token)
	}
	if err := n.commit(record{Payment: &p}); err != nil {
		return payment{}, faultNone, err
	}
	if b.lost { // Its fault is behind it.
		return p, faultNone, nil
	}
	return p, b.fault, nil
}

// newPayment decides what becomes of a request that was not seen before.
func (n *Network) newPayment(ask payRequest, nowMS int64) (payment, *behaviour) {
	w := walletByName(ask.Wallet)
	p := payment{Ask: ask, Seq: n.book.seq + 1}
	amount := p.amount()
	byAmount := behaviourByAmount(amount)
	b := usual
	if byAmount != nil {
		b = byAmount
	}
	lifetimeMS := ask.LifetimeMS
	if lifetimeMS == 0 {
		lifetimeMS = lifetimeMax
	}
	p.State, p.CloseMS, p.Rate = stateWaiting, nowMS+lifetimeMS, rateFor(w, amount.Currency())
	switch {
	case ask.Flow != flowCode:
		switch {
		case b.after > 0:
			p.DecideMS = nowMS + b.after.Milliseconds()
		case byAmount != nil && b.state != stateWaiting && b.fault == faultNone && b.cancelFault == faultNone:
			p.DecideMS = nowMS + qrActsIn.Milliseconds()
		}
	case !w.wellFormed(ask.Code):
		b = usual // An amount cannot make a code valid, nor can it break the wire for one.
		p.decide(stateDeclined, "code_invalid", nowMS)
	default:
		if c := w.behaviourByCode(ask.Code); c != nil && c != usual {
			b = c
		}
		if b.after > 0 {
			p.DecideMS = nowMS + b.after.Milliseconds()
		} else {
			p.decide(b.state, b.reason, nowMS)
		}
	}
	p.Behaviour = b.name
	return p, b
}

// payment finds a payment; unseen reports that its reference was cancelled before it came.
func (n *Network) payment(reference string) (p payment, unseen bool, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.settle(n.cfg.Now().UnixMilli()); err != nil {
		return payment{}, false, err
	}
	if p := n.book.payments[reference]; p != nil {
		return *p, false, nil
	}
	if n.book.unseen[reference] {
		return payment{}, true, nil
	}
	return payment{}, false, errNotFound
}

// cancel ends a payment, as far as it can be ended.
func (n *Network) cancel(reference string, onlyIfUnpaid bool) (_ payment, unseen bool, _ fault, _ error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.settle(n.cfg.Now().UnixMilli()); err != nil {
		return payment{}, false, faultNone, err
	}
	p := n.book.payments[reference]
	if p == nil {
		var err error
		if !n.book.unseen[reference] {
			err = n.commit(record{Unseen: reference})
		}
		return payment{}, true, faultNone, err
	}
	next, b, f := *p, behaviourByName(p.Behaviour), faultNone
	if b.cancelFault != faultNone && !p.CancelSpent {
		next.CancelSpent, f = true, b.cancelFault
		if b.cancelLost {
			return next, false, f, n.commit(record{Payment: &next})
		}
	}
	switch {
	case p.State == stateWaiting && onlyIfUnpaid:
		next.State, next.Reason = stateClosed, "merchant_closed"
	case p.State == stateWaiting:
		next.State, next.Reason = stateCancelled, "merchant_cancelled"
	case p.State == stateApproved && !onlyIfUnpaid && p.refundedMinor > 0:
		return payment{}, false, faultNone, errRefunded
	case p.State == stateApproved && !onlyIfUnpaid:
		next.State, next.Reason = stateCancelled, "merchant_cancelled"
	}
	if next != *p {
		if err := n.commit(record{Payment: &next}); err != nil {
			return payment{}, false, faultNone, err
		}
	}
	return *p, false, f, nil
}

// refund gives money back, or finds it given.
func (n *Network) refund(ask refundRequest) (refund, fault, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	nowMS := n.cfg.Now().UnixMilli()
	if err := n.settle(nowMS); err != nil {
		return refund{}, faultNone, err
	}
	if r := n.book.refunds[ask.Reference]; r != nil {
		if r.Ask != ask {
			return refund{}, faultNone, errConflict
		}
		return *r, faultNone, nil
	}
	r, b := n.newRefund(ask, nowMS)
	spent := "refund/" + ask.Reference
	if b.lost && !n.book.spent[spent] {
		return refund{}, b.fault, n.commit(record{Spent: spent})
	}
	if err := n.commit(record{Refund: &r}); err != nil {
		return refund{}, faultNone, err
	}
	if b.lost { // Its fault is behind it.
		return r, faultNone, nil
	}
	return r, b.fault, nil
}

// newRefund decides what becomes of a request that was not seen before. What is wrong with it comes before what its amount triggers.
func (n *Network) newRefund(ask refundRequest, nowMS int64) (refund, *behaviour) {
	r := refund{Ask: ask, Seq: n.book.seq + 1, State: stateWaiting, Behaviour: usual.name}
	p := n.book.payments[ask.OriginalReference]
	if p == nil {
		r.decide(stateDeclined, "original_not_found", nowMS)
		return r, usual
	}
	r.Wallet, r.Rate = p.Ask.Wallet, p.Rate
	if p.PaidMS != 0 {
		r.ProviderReference = providerReference(p.PaidMS, p.Seq)
	}
	switch {
	case p.State != stateApproved:
		r.decide(stateDeclined, "original_not_paid", nowMS)
		return r, usual
	case p.Ask.Currency != ask.Currency:
		r.decide(stateDeclined, "currency_not_matched", nowMS)
		return r, usual
	case ask.AmountMinor > p.Ask.AmountMinor-p.refundedMinor:
		r.decide(stateDeclined, "refund_exceeds", nowMS)
		return r, usual
	}
	b := behaviourByAmount(p.amountOf(ask.AmountMinor))
	if b == nil {
		b = usual
	}
	if b.after > 0 {
		r.DecideMS = nowMS + b.after.Milliseconds()
	} else {
		r.decide(b.state, b.reason, nowMS)
	}
	r.Behaviour = b.name
	return r, b
}

// refundStatus finds a refund.
func (n *Network) refundStatus(reference string) (refund, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.settle(n.cfg.Now().UnixMilli()); err != nil {
		return refund{}, err
	}
	r := n.book.refunds[reference]
	if r == nil {
		return refund{}, errNotFound
	}
	return *r, nil
}

// phone finds the payment behind a link.
func (n *Network) phone(token string) (payment, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.settle(n.cfg.Now().UnixMilli()); err != nil {
		return payment{}, err
	}
	p := n.book.tokens[token]
	if p == nil {
		return payment{}, errNotFound
	}
	return *p, nil
}

// act is the customer's tap. It changes only what still waits: a second tap, or one that is too late, changes nothing.
func (n *Network) act(token, state, reason string) (payment, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	nowMS := n.cfg.Now().UnixMilli()
	if err := n.settle(nowMS); err != nil {
		return payment{}, err
	}
	p := n.book.tokens[token]
	if p == nil {
		return payment{}, errNotFound
	}
	if p.State != stateWaiting {
		return *p, nil
	}
	next := *p
	next.decide(state, reason, nowMS)
	return next, n.change(&next)
}

// events reads the feed.
func (n *Network) events(epoch string, after uint64) (eventsAnswer, <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.settle(n.cfg.Now().UnixMilli()); err != nil {
		n.log.Error("wallet network: timer", "error", err) // The feed is true without it.
	}
	return n.feed.read(epoch, after)
}

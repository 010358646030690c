package payment_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tillgate/tillgate/payment"
)

// act is how the bank meets one exchange: how the message travels, what the bank decides, how the answer travels back.
type act struct {
	lost    bool          // The message never arrives.
	reach   time.Duration // How long it travels. It arrives even when nobody waits for its answer any more.
	verdict payment.Outcome
	reason  payment.Reason
	mute    bool          // The answer never comes back.
	reply   time.Duration // How long the answer travels.
	garbled bool          // The answer comes at once and cannot be understood.
	unsent  bool          // The link knows that nothing has left.
	// stubborn makes the bank take a sale whose cancel or close it has acknowledged before.
	stubborn bool
	// attempt is what a refused close tells of the attempt.
	attempt payment.Outcome
}

var (
	approves    = act{verdict: payment.OutcomeApproved}
	declines    = act{verdict: payment.OutcomeDeclined, reason: payment.ReasonInsufficientFunds}
	waits       = act{verdict: payment.OutcomeWaiting}
	refuses     = act{verdict: payment.OutcomeDeclined, reason: payment.ReasonDeclined}
	lostAnswer  = act{verdict: payment.OutcomeApproved, mute: true}
	lostRequest = act{lost: true}
	garbled     = act{verdict: payment.OutcomeApproved, garbled: true}
	unsent      = act{unsent: true}
)

// slow makes the answer take so long; beyond the bank's time-out, nobody hears it.
func (a act) slow(d time.Duration) act { a.reply = d; return a }

// overtaken makes the message itself take so long.
func (a act) overtaken(d time.Duration) act { a.reach = d; return a }

const (
	bankTimeout = 2 * time.Second
	// query stands beside the kinds of operations in the bank's script.
	query payment.Kind = "query"
)

// fate is what has become of a number.
type fate string

const (
	isPaid      fate = "paid"
	isWaiting   fate = "waiting"
	isDeclined  fate = "declined"
	isCancelled fate = "cancelled"
	isClosed    fate = "closed"
)

// sale is what the bank knows of one attempt's number.
type sale struct {
	fate     fate
	reason   payment.Reason
	amount   int64
	hold     bool // Authorised, not captured.
	taken    int64
	returned int64 // By a void, a cancel or a reversal.
	refunded int64
}

func (s *sale) net() int64 { return s.taken - s.returned - s.refunded }

// refund is what the bank knows of one refund's number; of a card, of its number and round.
type refund struct {
	fate  fate
	times int // How often its money has moved.
	sale  string
	minor int64
}

// bank is an acquirer that does as a script says, and keeps books of its own: the witness of what has moved.
type bank struct {
	class    payment.Class
	store    payment.Store
	slowLink time.Duration // Its time-out, if not the usual one.

	mu         sync.Mutex
	script     map[payment.Kind][]act
	always     map[payment.Kind]act
	sales      map[string]*sale
	refunds    map[string]*refund
	captures   map[string]payment.Outcome
	decided    map[string]payment.Answer // What was said to each void, cancel, reversal and close: repeats hear it again.
	seen       []payment.Message         // What was sent, the queries apart.
	queries    int
	follows    atomic.Bool
	underWay   int
	violations []string
	hook       func(payment.Message) // Runs before a message travels.
}

func newBank(class payment.Class, store payment.Store) *bank {
	return &bank{class: class, store: store, script: map[payment.Kind][]act{}, always: map[payment.Kind]act{}, sales: map[string]*sale{},
		refunds: map[string]*refund{}, captures: map[string]payment.Outcome{}, decided: map[string]payment.Answer{}}
}

var _ payment.Acquirer = (*bank)(nil)

// next scripts the coming exchanges of a kind; afterwards it approves again, or does what always says.
func (b *bank) next(k payment.Kind, acts ...act) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.script[k] = append(b.script[k], acts...)
}

// from now on scripts every exchange of a kind.
func (b *bank) fromNow(k payment.Kind, a act) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.always[k] = a
}

// heal ends all misbehaviour.
func (b *bank) heal() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.script, b.always = map[payment.Kind][]act{}, map[payment.Kind]act{}
}

func (b *bank) act(k payment.Kind) act {
	b.mu.Lock()
	defer b.mu.Unlock()
	if acts := b.script[k]; len(acts) > 0 {
		b.script[k] = acts[1:]
		return acts[0]
	}
	if a, ok := b.always[k]; ok {
		return a
	}
	return approves
}

func (b *bank) Traits() payment.Traits {
	b.mu.Lock()
	defer b.mu.Unlock()
	return payment.Traits{Class: b.class, Timeout: max(b.slowLink, bankTimeout)}
}

// Following reports whether it tells of what moves; it does not, but when a test says so.
func (b *bank) Following() bool { return b.follows.Load() }

func (b *bank) Do(ctx context.Context, m payment.Message) payment.Answer {
	b.inspect(m)
	b.mu.Lock()
	b.seen = append(b.seen, m)
	hook := b.hook
	b.mu.Unlock()
	if hook != nil {
		hook(m)
	}
	return b.exchange(ctx, b.act(m.Operation.Kind), func(a act) payment.Answer { return b.take(m, a) })
}

func (b *bank) Query(ctx context.Context, m payment.Message) payment.Answer {
	b.mu.Lock()
	b.queries++
	b.mu.Unlock()
	return b.exchange(ctx, b.act(query), func(act) payment.Answer { return b.tell(m.Operation) })
}

// exchange carries a message to the bank and its answer back.
func (b *bank) exchange(ctx context.Context, a act, arrive func(act) payment.Answer) payment.Answer {
	if a.unsent {
		return payment.Answer{Outcome: payment.OutcomeUnsent}
	}
	b.travel(1)
	defer b.travel(-1)
	back := make(chan payment.Answer, 1)
	if !a.lost {
		b.travel(1)
		go func() {
			defer b.travel(-1)
			time.Sleep(a.reach)
			answer := arrive(a)
			time.Sleep(a.reply)
			if !a.mute {
				back <- answer
			}
		}()
	}
	select {
	case answer := <-back:
		if a.garbled {
			return payment.Answer{Outcome: payment.OutcomeUnknown}
		}
		return answer
	case <-ctx.Done():
		return payment.Answer{Outcome: payment.OutcomeUnknown}
	}
}

func (b *bank) travel(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.underWay += n
}

func (b *bank) busy() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.underWay > 0
}

func (b *bank) violated(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.violations = append(b.violations, fmt.Sprintf(format, args...))
}

// inspect holds the engine to its first duty: nothing arrives that is not stored as sent, with its reservation.
func (b *bank) inspect(m payment.Message) {
	op := m.Operation
	err := b.store.Read(context.Background(), func(r payment.Reader) error {
		p, err := r.Payment(op.Merchant, op.Payment)
		if err != nil {
			return err
		}
		stored, err := r.Operation(op.Merchant, op.Payment, op.ID)
		if err != nil {
			return err
		}
		switch {
		case stored.State == payment.Created:
			b.violated("%s %s is sent while it is only created", op.Kind, op.Number)
		case p.Reserved > p.Captured || p.Refunded > p.Reserved:
			b.violated("%s %s: captured %d, reserved %d, refunded %d", op.Kind, op.Number, p.Captured, p.Reserved, p.Refunded)
		case m.Merchant.ID != op.Merchant || m.Payment.ID != op.Payment:
			b.violated("%s %s travels without its merchant or payment", op.Kind, op.Number)
		case op.Target != m.Target.ID:
			b.violated("%s %s travels without its target", op.Kind, op.Number)
		case m.Payment.Attempt != m.Attempt.ID:
			b.violated("%s %s travels without the payment's attempt", op.Kind, op.Number)
		case m.Secret != nil && !op.Kind.IsAttempt():
			b.violated("%s %s travels with a secret", op.Kind, op.Number)
		case m.Secret != nil && b.class == payment.CardHost && len(op.Sealed) == 0:
			b.violated("%s %s: its card is not kept for what may have to follow", op.Kind, op.Number)
		case m.Target.Kind == payment.Authorization && (op.Kind == payment.Refund || op.Kind == payment.VoidOperation) &&
			(m.Capture.Kind != payment.CaptureOperation || m.Capture.State != payment.Approved):
			b.violated("%s %s travels without what took the money", op.Kind, op.Number)
		}
		return nil
	})
	if err != nil && !errors.Is(err, payment.ErrUnavailable) {
		b.violated("%s %s arrives before it is stored: %v", op.Kind, op.Number, err)
	}
}

// take is the bank's side of a message that arrived.
func (b *bank) take(m payment.Message, a act) payment.Answer {
	b.mu.Lock()
	defer b.mu.Unlock()
	op := m.Operation
	switch op.Kind {
	case payment.Sale, payment.Authorization:
		return b.takeSale(op, a)
	case payment.CaptureOperation:
		return b.takeCapture(op, m.Target, a)
	case payment.Refund:
		return b.takeRefund(op, m.Target, a)
	}
	if said, ok := b.decided[op.Number]; ok {
		return said
	}
	said := payment.Answer{Outcome: payment.OutcomeDeclined, Reason: a.reason}
	switch {
	case op.Kind == payment.Close:
		said = b.takeClose(m.Target, a)
	case a.verdict == payment.OutcomeDeclined:
	case m.Target.Kind == payment.Refund:
		said = b.undoRefund(m.Target)
	default:
		said = b.undoSale(m.Target)
	}
	b.decided[op.Number] = said
	return said
}

// answer is what the bank says of a sale.
func (s *sale) answer() payment.Answer {
	switch s.fate {
	case isPaid:
		return payment.Answer{Outcome: payment.OutcomeApproved, Result: payment.Result{ProviderReference: "R1"}}
	case isWaiting:
		return payment.Answer{Outcome: payment.OutcomeWaiting, Result: payment.Result{QR: "qr://pay"}}
	case isCancelled:
		return payment.Answer{Outcome: payment.OutcomeDeclined, Reason: payment.ReasonCancelled}
	case isClosed:
		return payment.Answer{Outcome: payment.OutcomeDeclined, Reason: payment.ReasonExpired}
	}
	return payment.Answer{Outcome: payment.OutcomeDeclined, Reason: s.reason, Text: "No."}
}

func (b *bank) takeSale(op payment.Operation, a act) payment.Answer {
	s, ok := b.sales[op.Number]
	if ok && !(a.stubborn && s.amount == 0) {
		if s.fate != isCancelled && s.fate != isClosed || s.amount != 0 {
			b.violations = append(b.violations, fmt.Sprintf("%s %s is sent twice", op.Kind, op.Number))
		}
		return s.answer()
	}
	s = &sale{amount: op.Amount.Minor(), reason: a.reason, hold: op.Kind == payment.Authorization}
	b.sales[op.Number] = s
	switch a.verdict {
	case payment.OutcomeApproved:
		s.pay()
	case payment.OutcomeWaiting:
		s.fate = isWaiting
	default:
		s.fate, s.hold = isDeclined, false
	}
	return s.answer()
}

func (s *sale) pay() {
	s.fate = isPaid
	if !s.hold {
		s.taken = s.amount
	}
}

// customer decides a sale that waits.
func (b *bank) customer(number string, pays bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.sales[number]
	if s == nil || s.fate != isWaiting {
		return
	}
	if pays {
		s.pay()
		return
	}
	s.fate, s.hold, s.reason = isDeclined, false, payment.ReasonCustomerCancelled
}

// decide decides a refund that waits.
func (b *bank) decide(number string, yes bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r := b.refunds[number]; r != nil && r.fate == isWaiting {
		b.decideRefund(r, yes)
	}
}

func (b *bank) takeCapture(op, attempt payment.Operation, a act) payment.Answer {
	if old, ok := b.captures[op.Number]; ok {
		return payment.Answer{Outcome: old}
	}
	s := b.sales[attempt.Number]
	outcome := payment.OutcomeDeclined
	if a.verdict == payment.OutcomeApproved && s != nil && s.fate == isPaid && s.hold && op.Amount.Minor() <= s.amount {
		s.hold, s.taken = false, op.Amount.Minor()
		outcome = payment.OutcomeApproved
	}
	b.captures[op.Number] = outcome
	return payment.Answer{Outcome: outcome, Reason: a.reason}
}

// refundKey is what the bank knows a refund by: over a card link a new round is a new message.
func (b *bank) refundKey(op payment.Operation) string {
	if b.class == payment.CardHost {
		return fmt.Sprintf("%s/%d", op.Number, op.Round)
	}
	return op.Number
}

func (b *bank) takeRefund(op, attempt payment.Operation, a act) payment.Answer {
	key := b.refundKey(op)
	r, ok := b.refunds[key]
	switch {
	case ok && b.class == payment.Provider:
		return r.answer()
	case ok && r.fate == isCancelled && r.times == 0:
		return payment.Answer{Outcome: payment.OutcomeDeclined, Reason: payment.ReasonCancelled}
	case ok: // A card host does not know repeats: the money moves again.
		b.violations = append(b.violations, fmt.Sprintf("refund %s is sent twice", key))
		b.sales[r.sale].refunded += r.minor
		r.times++
		return r.answer()
	}
	r = &refund{sale: attempt.Number, minor: op.Amount.Minor(), fate: isDeclined}
	b.refunds[key] = r
	switch a.verdict {
	case payment.OutcomeApproved:
		b.decideRefund(r, true)
	case payment.OutcomeWaiting:
		r.fate = isWaiting
	}
	return r.answer()
}

func (b *bank) decideRefund(r *refund, yes bool) {
	r.fate = isDeclined
	if s := b.sales[r.sale]; yes && s != nil && s.net() >= r.minor {
		r.fate, r.times = isPaid, 1
		s.refunded += r.minor
	}
}

func (r *refund) answer() payment.Answer {
	switch r.fate {
	case isPaid:
		return payment.Answer{Outcome: payment.OutcomeApproved}
	case isWaiting:
		return payment.Answer{Outcome: payment.OutcomeWaiting}
	}
	return payment.Answer{Outcome: payment.OutcomeDeclined, Reason: payment.ReasonRefundExceeds}
}

func (b *bank) undoRefund(op payment.Operation) payment.Answer {
	key := b.refundKey(op)
	r, ok := b.refunds[key]
	if !ok {
		b.refunds[key] = &refund{fate: isCancelled}
		return payment.Answer{Outcome: payment.OutcomeApproved}
	}
	if r.fate == isPaid {
		b.sales[r.sale].refunded -= r.minor * int64(r.times)
		r.fate = isCancelled
	}
	return payment.Answer{Outcome: payment.OutcomeApproved}
}

// undoSale is a void, cancel or reversal. A number that was never seen is remembered.
func (b *bank) undoSale(attempt payment.Operation) payment.Answer {
	s, ok := b.sales[attempt.Number]
	if !ok {
		b.sales[attempt.Number] = &sale{fate: isCancelled}
		return payment.Answer{Outcome: payment.OutcomeApproved}
	}
	if s.fate != isPaid && s.fate != isWaiting {
		return payment.Answer{Outcome: payment.OutcomeApproved}
	}
	if s.refunded > 0 {
		return payment.Answer{Outcome: payment.OutcomeDeclined, Reason: payment.ReasonDeclined}
	}
	s.fate, s.hold, s.returned = isCancelled, false, s.taken
	return payment.Answer{Outcome: payment.OutcomeApproved}
}

func (b *bank) takeClose(attempt payment.Operation, a act) payment.Answer {
	if a.verdict == payment.OutcomeDeclined {
		refusal := payment.Answer{Outcome: payment.OutcomeDeclined, Reason: a.reason}
		if a.attempt != "" {
			refusal.Attempt = &payment.Answer{Outcome: a.attempt}
		}
		return refusal
	}
	s, ok := b.sales[attempt.Number]
	if !ok {
		b.sales[attempt.Number] = &sale{fate: isClosed}
		return payment.Answer{Outcome: payment.OutcomeApproved}
	}
	answer := s.answer()
	switch s.fate {
	case isWaiting:
		s.fate, s.hold = isClosed, false
	case isDeclined:
		return payment.Answer{Outcome: payment.OutcomeApproved, Attempt: &answer}
	case isPaid:
		return payment.Answer{Outcome: payment.OutcomeDeclined, Attempt: &answer}
	}
	return payment.Answer{Outcome: payment.OutcomeApproved}
}

// tell answers a query.
func (b *bank) tell(op payment.Operation) payment.Answer {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.class == payment.CardHost {
		b.violations = append(b.violations, fmt.Sprintf("a card host is asked about %s %s", op.Kind, op.Number))
		return payment.Answer{Outcome: payment.OutcomeUnknown}
	}
	if op.Kind == payment.Refund {
		if r, ok := b.refunds[op.Number]; ok {
			return r.answer()
		}
	} else if s, ok := b.sales[op.Number]; ok {
		return s.answer()
	}
	return payment.Answer{Outcome: payment.OutcomeUnseen}
}

// net is what the bank has taken under a number and not given back.
func (b *bank) net(number string) (minor int64, held bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.sales[number]
	if s == nil {
		return 0, false
	}
	return s.net(), s.hold && s.fate == isPaid
}

// sent counts the messages of a kind.
func (b *bank) sent(kind payment.Kind) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, m := range b.seen {
		if m.Operation.Kind == kind {
			n++
		}
	}
	return n
}

func (b *bank) asked() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.queries
}

func (b *bank) complaints() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.violations
}

// decideAll decides every refund that waits.
func (b *bank) decideAll(yes bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.refunds {
		if r.fate == isWaiting {
			b.decideRefund(r, yes)
		}
	}
}

// payments are all that the bank has heard of.
func (b *bank) payments() map[payment.ID]bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	ids := map[payment.ID]bool{}
	for _, m := range b.seen {
		ids[m.Payment.ID] = true
	}
	return ids
}

package payment

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tillgate/tillgate/ledger"
	"github.com/tillgate/tillgate/money"
)

// The texts that people read beside a failure of ours.
const (
	textCancelled   = "Cancelled by the merchant."
	textExpired     = "Nobody paid in time."
	textUnavailable = "The payment provider could not be reached; nothing was charged."
)

// turn is one transaction's worth of changes to one payment: it loads what is needed, changes it in memory, and writes each row once at
// the end. What must be sent after the commit collects in flights.
type turn struct {
	e     *Engine
	tx    Tx
	now   time.Time
	m     MerchantID
	p     Payment
	fresh bool // The payment is to be inserted.
	was   Payment
	ops   []*row

	claimed bool              // The operation is in hand, and this try is counted.
	hurry   bool              // Something is due at once: the runner is told after the commit.
	noticed bool              // Notices are stored.
	keep    func(*turn) error // Keeps the caller's answer, once the rows are as they are stored; nil for none.
	flights []*flight
	settled []*Operation
}

// row is an operation in a turn.
type row struct {
	op    Operation
	was   Operation
	fresh bool
}

// flight is a message that leaves after the commit. done is closed when its answer is recorded, or could not be; the fields below it
// are set then.
type flight struct {
	msg   Message
	acq   Acquirer
	query bool // It asks instead of sending.
	done  chan struct{}
	keep  func(*turn) error // Keeps the answer of the command that sent it, when it is decided.

	chip    []byte
	payment Payment
	op      Operation // Zero when the answer was not recorded.
}

// command is change for callers from outside, who are refused once Run ends.
func (e *Engine) command(ctx context.Context, m MerchantID, fn func(*turn) error) (*turn, error) {
	if !e.work.begin() {
		return nil, fmt.Errorf("shutting down: %w", ErrUnavailable)
	}
	defer e.work.end()
	return e.change(ctx, m, fn)
}

// change runs fn in a transaction on one payment, and after the commit signals and sends what fn asked for. It returns the turn as it
// was stored.
func (e *Engine) change(ctx context.Context, m MerchantID, fn func(*turn) error) (*turn, error) {
	if e.incarnation.Load() == 0 {
		return nil, fmt.Errorf("not running: %w", ErrUnavailable)
	}
	for try := 0; ; try++ {
		var t *turn
		err := e.cfg.Store.InTx(ctx, func(tx Tx) error {
			t = &turn{e: e, tx: tx, m: m, now: e.cfg.Now().UTC().Truncate(time.Millisecond)}
			if err := fn(t); err != nil {
				return err
			}
			return t.write()
		})
		switch {
		case errors.Is(err, errNoIDs) && try < conflictTries:
			if err := e.ids.refill(ctx, e.cfg.Store); err != nil {
				return nil, err
			}
			continue
		case errors.Is(err, ErrStoreConflict) && try < conflictTries:
			continue
		case errors.Is(err, ErrStoreConflict):
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
		case err != nil:
			return nil, err
		}
		e.committed(t)
		return t, nil
	}
}

// committed does what may only happen once a turn is durable.
func (e *Engine) committed(t *turn) {
	if t.p.ID != 0 {
		e.cfg.Signal.Publish(t.m, t.p.ID)
	}
	if t.noticed && e.cfg.Noticed != nil {
		e.cfg.Noticed()
	}
	if e.cfg.Observe != nil {
		for _, op := range t.settled {
			e.cfg.Observe(op, t.p.Protocol)
		}
	}
	for _, f := range t.flights {
		e.launch(f)
	}
	if t.hurry {
		e.Kick()
	}
}

// write stores every changed row once.
func (t *turn) write() error {
	for _, f := range t.flights {
		if _, err := t.op(t.p.Attempt); err != nil { // Every message carries it.
			return fmt.Errorf("attempt of %s %d: %w", f.msg.Operation.Kind, f.msg.Operation.ID, err)
		}
	}
	for _, r := range t.ops {
		if !r.was.Settled() && r.op.Settled() {
			r.op.SettledAt = t.now
			t.settled = append(t.settled, &r.op)
		}
	}
	first := t.first()
	switch {
	case t.fresh:
		if err := t.tx.InsertPayment(&t.p, first); err != nil {
			return err
		}
	case t.p.ID != 0 && (t.begins() || !samePayment(&t.p, &t.was)):
		t.p.ModifiedAt = t.now
		if err := t.tx.UpdatePayment(&t.p, first); err != nil {
			return err
		}
	default:
		first = nil
	}
	for _, r := range t.ops {
		var err error
		switch {
		case &r.op == first: // It went with its payment.
		case r.fresh:
			err = t.tx.InsertOperation(&r.op)
		case !sameOperation(&r.op, &r.was):
			err = t.tx.UpdateOperation(&r.op)
		}
		if err != nil {
			return err
		}
	}
	for _, f := range t.flights { // Flights carry the rows as they are stored.
		f.msg.Payment = t.p
		for _, r := range t.ops {
			switch r.op.ID {
			case f.msg.Operation.ID:
				f.msg.Operation = r.op
			case f.msg.Target.ID:
				f.msg.Target = r.op
			}
			if r.op.ID == t.p.Attempt {
				f.msg.Attempt = r.op
			}
		}
	}
	if t.keep != nil {
		if err := t.keep(t); err != nil {
			return err
		}
	}
	return t.notices()
}

// first is the payment's first attempt, if it can be stored in one statement with the payment; nil if it has not changed, or is begun after
// the payment was.
func (t *turn) first() *Operation {
	for _, r := range t.ops {
		if r.op.ID == t.p.ID && r.fresh == t.fresh && (r.fresh || !sameOperation(&r.op, &r.was)) {
			return &r.op
		}
	}
	return nil
}

// noticing is what the hook for notices reads with. Webhooks are remembered, as callers are: every payment asks for them, and they hardly ever
// change.
type noticing struct {
	Reader
	e *Engine
}

func (n noticing) Webhooks(m MerchantID, protocol string) ([]Webhook, error) {
	of := webhooksOf{m, protocol}
	if hooks, ok := n.e.webhooks.get(of, n.e.cfg.Now()); ok {
		return hooks, nil
	}
	hooks, err := n.Reader.Webhooks(m, protocol)
	if err == nil {
		n.e.webhooks.put(of, hooks, n.e.cfg.Now())
	}
	return hooks, err
}

// notices stores what callers are owed to be told of the turn's changes.
func (t *turn) notices() error {
	if t.e.cfg.Notices == nil || t.p.ID == 0 {
		return nil
	}
	c := Change{Was: &t.was, Now: &t.p}
	for _, r := range t.ops {
		if r.fresh || r.op.State != r.was.State {
			c.Operations = append(c.Operations, OperationChange{Was: &r.was, Now: &r.op})
		}
	}
	if !t.fresh && c.Was.State == c.Now.State && len(c.Operations) == 0 {
		return nil
	}
	owed, err := t.e.cfg.Notices(noticing{t.tx, t.e}, c)
	if err != nil {
		return err
	}
	for i := range owed {
		n := &owed[i]
		if n.ID, err = t.id(); err != nil {
			return err
		}
		n.Merchant, n.Payment = t.m, t.p.ID
		if n.DueAt.IsZero() {
			n.DueAt = t.now
		}
		if err := t.tx.InsertNotice(n); err != nil {
			return err
		}
	}
	t.noticed = t.noticed || len(owed) > 0
	return nil
}

// begins reports whether the turn begins an operation. Then the payment's row is written whatever else is the same: its version fences two
// turns that each saw no operation of the other's, such as two captures at once on a database with many writers.
func (t *turn) begins() bool {
	for _, r := range t.ops {
		if r.fresh {
			return true
		}
	}
	return false
}

// samePayment reports whether nothing that changes in a payment's life has changed. A test holds the list against the fields.
func samePayment(a, b *Payment) bool {
	return a.State == b.State && a.Attempt == b.Attempt && a.Captured == b.Captured && a.Reserved == b.Reserved && a.Refunded == b.Refunded &&
		a.Fee == b.Fee && a.FeeReturned == b.FeeReturned && a.Failure == b.Failure && a.FailureText == b.FailureText &&
		a.PaidAt.Equal(b.PaidAt) && a.Day == b.Day && a.DueAt.Equal(b.DueAt)
}

// sameOperation is samePayment for an operation.
func sameOperation(a, b *Operation) bool {
	return a.State == b.State && a.Round == b.Round && a.Number == b.Number && a.SentAt.Equal(b.SentAt) && a.Failure == b.Failure && a.FailureText == b.FailureText && a.Result == b.Result &&
		a.Day == b.Day && a.SettledAt.Equal(b.SettledAt) && a.DueAt.Equal(b.DueAt) && a.Owner == b.Owner && a.Tries == b.Tries &&
		a.Flagged == b.Flagged
}

func (t *turn) id() (ID, error) { return t.e.ids.take() }

// recall begins with the rows as they were sent, instead of reading them: their versions tell at the end whether they still are. It is only
// for turns that write both.
func (t *turn) recall(f *flight) *Operation {
	t.p, t.was = f.msg.Payment, f.msg.Payment
	t.ops = append(t.ops, &row{op: f.msg.Operation, was: f.msg.Operation})
	return &t.ops[0].op
}

func (t *turn) load(id ID) error {
	var err error
	t.p, err = t.tx.Payment(t.m, id)
	t.was = t.p
	return err
}

// op is an operation of the payment; changes to it are written at the end.
func (t *turn) op(id ID) (*Operation, error) {
	for _, r := range t.ops {
		if r.op.ID == id {
			return &r.op, nil
		}
	}
	op, err := t.tx.Operation(t.m, t.p.ID, id)
	if err != nil {
		return nil, err
	}
	t.ops = append(t.ops, &row{op: op, was: op})
	return &t.ops[len(t.ops)-1].op, nil
}

// view is the payment with its attempt, which must have been loaded.
func (t *turn) view() View {
	v := View{Payment: t.p}
	for _, r := range t.ops {
		if r.op.ID == t.p.Attempt {
			v.Attempt = r.op
		}
	}
	return v
}

// unsettled reports whether an operation of a kind is under way.
func (t *turn) unsettled(kind Kind) (bool, error) {
	ops, err := t.tx.Operations(t.m, t.p.ID)
	if err != nil {
		return false, err
	}
	for _, op := range ops {
		for _, r := range t.ops {
			if r.op.ID == op.ID {
				op = r.op // This turn has news of it.
			}
		}
		if op.Kind == kind && !op.Settled() {
			return true, nil
		}
	}
	return false, nil
}

// attempt stores an attempt as sent and asks for its flight.
func (t *turn) attempt(acquirer string, acq Acquirer, msg Message, id ID) error {
	kind := Sale
	if t.p.AuthorizeOnly {
		kind = Authorization
	}
	op := Operation{Merchant: t.m, Payment: t.p.ID, ID: id, Kind: kind, State: Created, Number: t.number(acq, id),
		Acquirer: acquirer, Amount: t.p.Amount, CreatedAt: t.now}
	c, ok := msg.Secret.(*Card)
	if code, stored := msg.Secret.(WalletCode); stored && acq.Traits().Class == CardHost {
		c, ok = &Card{Token: code.Reveal(), Entry: EntryNotPresent}, true // A card that somebody else keeps. Later messages name it again.
	}
	if ok {
		sealed, err := sealCard(t.e.cfg.Vault, &op, c)
		if err != nil {
			return fmt.Errorf("seal the card: %w", err)
		}
		op.Card, op.Sealed = c.facts(), sealed
	}
	t.ops = append(t.ops, &row{op: op, fresh: true})
	t.p.Attempt, t.p.DueAt = id, time.Time{}
	msg.Operation = op
	return t.fly(&t.ops[len(t.ops)-1].op, acq, msg)
}

// number is the number under which an acquirer gets a message.
func (t *turn) number(acq Acquirer, id ID) string {
	if number := acq.Traits().Number; number != nil {
		return number(id, t.now)
	}
	return t.p.Numbering.Number(id)
}

// newOperation makes an operation on a target.
func (t *turn) newOperation(kind Kind, target *Operation, amount money.Amount) (*Operation, error) {
	id, err := t.id()
	if err != nil {
		return nil, err
	}
	acq, err := t.e.acquirer(target.Acquirer)
	if err != nil {
		return nil, err
	}
	t.ops = append(t.ops, &row{fresh: true, op: Operation{Merchant: t.m, Payment: t.p.ID, ID: id, Kind: kind, State: Created, Target: target.ID,
		Number: t.number(acq, id), Acquirer: target.Acquirer, Amount: amount, CreatedAt: t.now}})
	return &t.ops[len(t.ops)-1].op, nil
}

// send stores an operation as sent and asks for its flight. One that was sent before is sent again.
func (t *turn) send(op *Operation) error {
	acq, err := t.e.acquirer(op.Acquirer)
	if err != nil {
		return err
	}
	msg := Message{Operation: *op}
	if op.Target != 0 {
		target, err := t.op(op.Target)
		if err != nil {
			return err
		}
		msg.Target = *target
		if target.Kind == Authorization && (op.Kind == Refund || op.Kind == VoidOperation) {
			if msg.Capture, err = t.captured(); err != nil {
				return err
			}
		}
	}
	return t.fly(op, acq, msg)
}

// captured is the operation that took the money of an authorized payment: what a card host gives back names it.
func (t *turn) captured() (Operation, error) {
	ops, err := t.tx.Operations(t.m, t.p.ID)
	if err != nil {
		return Operation{}, err
	}
	for _, op := range ops {
		if op.Kind == CaptureOperation && op.State == Approved {
			return op, nil
		}
	}
	return Operation{}, fmt.Errorf("capture of payment %d: %w", t.p.ID, ErrNotFound)
}

func (t *turn) fly(op *Operation, acq Acquirer, msg Message) error {
	if op.State == Created || op.State == Reversed {
		if err := t.to(op, Send); err != nil {
			return err
		}
	}
	op.Owner = t.e.incarnation.Load()
	op.DueAt = t.now.Add(acq.Traits().Timeout + recordMargin)
	if op.SentAt.IsZero() {
		op.SentAt = t.now
	}
	if !t.claimed {
		op.Tries++
	}
	t.flights = append(t.flights, &flight{msg: msg, acq: acq, done: make(chan struct{})})
	return nil
}

// to moves an operation; a change of state starts its count of tries afresh.
func (t *turn) to(op *Operation, on OperationEvent) error {
	next, err := op.State.Next(on)
	if err != nil {
		return fmt.Errorf("%s %d: %w", op.Kind, op.ID, err)
	}
	if next != op.State {
		op.State, op.Tries = next, 0
	}
	return nil
}

// rest takes an operation out of the owed work.
func rest(op *Operation) { op.DueAt, op.Owner, op.Flagged = time.Time{}, 0, false }

// due puts an operation down for later, free for any process.
func due(op *Operation, at time.Time) { op.DueAt, op.Owner = at, 0 }

// pay moves the payment.
func (t *turn) pay(on Event) error {
	next, err := t.p.State.Next(on)
	if err != nil {
		return fmt.Errorf("payment %d: %w", t.p.ID, err)
	}
	t.p.State, t.p.DueAt = next, time.Time{}
	return nil
}

// cancel ends the payment, whatever it is doing, and owes the undoing of what may have moved.
func (t *turn) cancel(cmd CancelCommand) error {
	late := t.now.After(t.p.CreatedAt.Add(cmd.Window))
	switch t.p.State {
	case Cancelled:
		return nil
	case Voided:
		return fmt.Errorf("cancel of a voided payment: %w", ErrConflict)
	case Open, Authorized, Captured:
		if late {
			return ErrWindow
		}
	}
	from := t.p.State
	if from == Captured && !cmd.GiveBack {
		return fmt.Errorf("cancel of a captured payment: %w", ErrConflict)
	}
	if from == Authorized {
		if busy, err := t.unsettled(CaptureOperation); err != nil || busy {
			return errors.Join(err, fmt.Errorf("a capture is under way: %w", ErrConflict))
		}
	}
	if err := t.pay(Cancel); err != nil {
		return err
	}
	if t.p.Failure == "" { // A decline keeps its reason.
		t.p.Failure, t.p.FailureText = cmp.Or(cmd.Reason, ReasonCancelled), cmp.Or(cmd.Text, textCancelled)
	}
	if from == Captured {
		return t.giveBack()
	}
	if t.p.Attempt == 0 {
		return nil
	}
	attempt, err := t.op(t.p.Attempt)
	if err != nil {
		return err
	}
	return t.undo(attempt)
}

// undo owes the undoing of an attempt, or of a card refund without answer. What is settled without money needs none.
func (t *turn) undo(op *Operation) error {
	switch op.State {
	case Declined, Reversed, Reversing:
		return nil
	case Created:
		rest(op)
		op.Failure, op.FailureText = ReasonCancelled, textCancelled
		return t.to(op, Decline)
	}
	return t.reverse(op)
}

// reverse owes the undoing of an attempt or refund, whatever was heard of it.
func (t *turn) reverse(op *Operation) error {
	acq, err := t.e.acquirer(op.Acquirer)
	if err != nil {
		return err
	}
	if err := t.to(op, Undo); err != nil {
		return err
	}
	rest(op) // Its undoing drives it now.
	undo, err := t.newOperation(undoing[acq.Traits().Class], op, op.Amount)
	if err != nil {
		return err
	}
	return t.send(undo)
}

// giveBack owes the return of all that is left of a captured payment that must not stand: as a reversal of the whole if nothing of it
// was refunded, else as a refund of the rest under a number of ours.
func (t *turn) giveBack() error {
	attempt, err := t.op(t.p.Attempt)
	if err != nil {
		return err
	}
	if attempt.State == Approved && t.p.State != Captured {
		if err := t.to(attempt, Undo); err != nil {
			return err
		}
	}
	left := t.p.Left()
	if left.IsZero() {
		return t.returnedAll() // Or refunds without answer have it all, and decide.
	}
	kind := VoidOperation
	if t.p.Reserved > 0 {
		kind = Refund
	}
	op, err := t.newOperation(kind, attempt, left)
	if err != nil {
		return err
	}
	op.Rest = true
	t.p.Reserved = t.p.Captured
	return t.send(op)
}

func (t *turn) void(cmd VoidCommand) error {
	switch t.p.State {
	case Voided:
		return nil
	case Captured:
	default:
		return fmt.Errorf("void of a payment that is %s: %w", t.p.State, ErrNotPaid)
	}
	if cmd.SameDay {
		made, err := t.p.Calendar.Day(t.p.CreatedAt)
		if err != nil {
			return err
		}
		if today, err := t.p.Calendar.Day(t.now); err != nil || today != made {
			return errors.Join(err, ErrWindow)
		}
	}
	if t.p.Left().IsZero() {
		ops, err := t.tx.Operations(t.m, t.p.ID)
		if err != nil {
			return err
		}
		for _, op := range ops {
			if op.Rest && !op.Settled() {
				return nil // It is under way already.
			}
		}
	}
	switch {
	case cmd.Whole && t.p.Reserved > 0:
		return fmt.Errorf("void of a payment that is refunded in part: %w", ErrConflict)
	case t.p.Left().IsZero():
		return ErrExceeds
	}
	return t.giveBack()
}

// refund reserves the amount and stores the refund as sent.
func (t *turn) refund(cmd RefundCommand, policy RefundPolicy) (*Operation, error) {
	switch {
	case t.p.State != Captured:
		return nil, fmt.Errorf("refund of a payment that is %s: %w", t.p.State, ErrNotPaid)
	case cmd.Amount.Currency() != t.p.Amount.Currency():
		return nil, ErrCurrency
	case cmd.Amount.Minor() > t.p.Left().Minor():
		return nil, ErrExceeds
	case t.now.After(t.p.CreatedAt.Add(policy.Window)), cmd.Window != 0 && t.now.After(t.p.CreatedAt.Add(cmd.Window)):
		return nil, ErrWindow
	}
	if policy.SameDayFullOnly && t.p.Flow == ByCard {
		today, err := t.p.Calendar.Day(t.now)
		if err != nil {
			return nil, err
		}
		if cmd.Amount.Minor() != t.p.Captured && today == t.p.Day {
			return nil, ErrFullOnly
		}
	}
	attempt, err := t.op(t.p.Attempt)
	if err != nil {
		return nil, err
	}
	op, err := t.newOperation(Refund, attempt, cmd.Amount)
	if err != nil {
		return nil, err
	}
	op.Key, op.Echo = cmd.Key, cmd.Echo
	t.p.Reserved += cmd.Amount.Minor()
	return op, t.send(op)
}

// answered applies an acquirer's answer to an operation, whatever has happened to it meanwhile.
func (t *turn) answered(op *Operation, class Class, a Answer) error {
	if op.Kind.IsAttempt() {
		return t.attemptAnswered(op, class, a)
	}
	switch a.Outcome {
	case OutcomeUnsent:
		// Nothing left: it is still owed, and is sent again as it is. What would be reversed after silence is as good as reversed.
		switch {
		case op.State == Sent && remedies[op.Kind][class] == Reverse:
			if err := errors.Join(t.to(op, Undo), t.to(op, Undone)); err != nil {
				return err
			}
			return t.again(op)
		case op.State == Sent || op.State == Unknown:
			t.later(op)
		}
		return nil
	case OutcomeWaiting:
		if op.Settled() || op.State == Reversing {
			return nil // An old answer that was overtaken.
		}
		if err := t.to(op, Wait); err != nil {
			return err
		}
		keep(op, a)
		t.wait(op)
		return nil
	case OutcomeUnknown, OutcomeUnseen, OutcomeUnfit:
		return t.lost(op, class)
	}
	if op.Settled() || op.State == Reversing {
		return nil // It was answered before, by a repeat or a query; or its undoing decides.
	}
	event := Approve
	if a.Outcome == OutcomeDeclined {
		event = Decline
		op.Failure, op.FailureText = a.Reason, a.Text
	}
	if err := t.to(op, event); err != nil {
		return err
	}
	keep(op, a)
	rest(op)
	switch op.Kind {
	case CaptureOperation:
		return t.captureAnswered(op, a)
	case Refund, VoidOperation:
		return t.returnAnswered(op)
	case Close:
		return t.closeAnswered(op, class, a)
	default:
		return t.undoAnswered(op, a)
	}
}

// keep notes what an answer tells beside its outcome, and never forgets what an earlier one told.
func keep(op *Operation, a Answer) {
	r := a.Result
	if r.ProviderReference == "" {
		r.ProviderReference = op.Result.ProviderReference
	}
	if r.AuthCode == "" {
		r.AuthCode = op.Result.AuthCode
	}
	if r.Code == "" {
		r.Code = op.Result.Code
	}
	if r.PayerID == "" {
		r.PayerID = op.Result.PayerID
	}
	if r.QR == "" {
		r.QR = op.Result.QR
	}
	if r.Redirect == "" {
		r.Redirect = op.Result.Redirect
	}
	if r.PaidAt == 0 {
		r.PaidAt = op.Result.PaidAt
	}
	if r.Exchange == nil {
		r.Exchange = op.Result.Exchange
	}
	op.Result = r
}

func (t *turn) attemptAnswered(op *Operation, class Class, a Answer) error {
	switch a.Outcome {
	case OutcomeApproved:
		return t.attemptApproved(op, a)
	case OutcomeDeclined:
		return t.attemptDeclined(op, a)
	case OutcomeUnfit:
		return t.attemptUnfit(op, a)
	case OutcomeWaiting:
		if op.Settled() {
			return nil // An old answer that was overtaken.
		}
		if err := t.to(op, Wait); err != nil {
			return err
		}
		keep(op, a)
		if op.State == Waiting {
			t.wait(op)
		}
		return nil
	case OutcomeUnsent:
		if op.State != Sent || op.Tries > 1 {
			return nil
		}
		return t.attemptDeclined(op, Answer{Outcome: OutcomeDeclined, Reason: ReasonUnavailable, Text: textUnavailable})
	case OutcomeUnseen:
		// The acquirer does not know the number, which may still arrive: closing it settles that for good.
		if op.State == Waiting || op.State == Unknown {
			return t.close(op, ReasonUnavailable)
		}
		return nil
	}
	return t.lost(op, class)
}

// attemptUnfit hears of an approval that is not what was asked for: it must not stand, and the attempt counts as declined once it is undone.
func (t *turn) attemptUnfit(op *Operation, a Answer) error {
	keep(op, a)
	switch op.State {
	case Reversing, Approved:
		return nil
	case Declined, Reversed:
		return t.reverse(op)
	}
	op.Failure, op.FailureText = a.Reason, a.Text
	return t.undo(op)
}

// lost is silence about an operation.
func (t *turn) lost(op *Operation, class Class) error {
	if op.Settled() || op.State == Reversing {
		return nil
	}
	if op.State == Waiting && op.Kind.IsAttempt() {
		t.later(op) // A query without answer tells nothing new.
		return nil
	}
	if err := t.to(op, Lose); err != nil {
		return err
	}
	if remedies[op.Kind][class] == Reverse {
		return t.undo(op)
	}
	t.later(op)
	return nil
}

func (t *turn) attemptApproved(op *Operation, a Answer) error {
	keep(op, a)
	switch op.State {
	case Reversing, Approved:
		return nil
	case Declined:
		t.alarm(op, "approved after it was declined; it is undone") // A contradiction of the acquirer's.
		return t.reverse(op)
	case Reversed:
		// Either two answers crossed, or the undoing overtook the attempt at an acquirer that forgets such. Undoing it once more settles both.
		return t.reverse(op)
	}
	if err := t.to(op, Approve); err != nil {
		return err
	}
	if t.p.State != Open || t.p.Attempt != op.ID {
		return t.undo(op) // The payment has ended meanwhile: this must not stand.
	}
	rest(op)
	t.p.PaidAt = t.now
	if a.Result.PaidAt != 0 {
		t.p.PaidAt = time.UnixMilli(a.Result.PaidAt).UTC()
	}
	if op.Kind == Authorization {
		return t.pay(Authorize)
	}
	return t.capture(op, t.p.Amount)
}

// capture books money that the acquirer has taken for us.
func (t *turn) capture(op *Operation, amount money.Amount) error {
	if err := t.pay(Capture); err != nil {
		return err
	}
	fee, err := t.p.Rate.Fee(amount)
	if err != nil {
		return err
	}
	day, err := t.p.Calendar.Day(t.now)
	if err != nil {
		return err
	}
	entry, err := ledger.Capture(amount, t.p.Tip, fee)
	if err != nil {
		return err
	}
	t.p.Captured, t.p.Fee, t.p.Day, op.Day = amount.Minor(), fee, day, day
	return t.tx.Post(op, entry, t.now)
}

func (t *turn) attemptDeclined(op *Operation, a Answer) error {
	if op.Settled() || op.State == Reversing {
		return nil
	}
	if err := t.to(op, Decline); err != nil {
		return err
	}
	op.Failure, op.FailureText = a.Reason, a.Text
	keep(op, a)
	rest(op)
	if t.p.State != Open || t.p.Attempt != op.ID {
		return nil
	}
	if a.Reason == ReasonExpired {
		t.p.Failure, t.p.FailureText = a.Reason, a.Text
		return t.pay(Expire)
	}
	if t.p.Retryable {
		t.p.DueAt = t.p.ExpiresAt
		return nil
	}
	t.p.Failure, t.p.FailureText = a.Reason, a.Text
	return t.pay(Refuse)
}

// close owes the closing of an attempt that nobody paid; its answer decides. While it is under way, the attempt is not asked about.
func (t *turn) close(attempt *Operation, why Reason) error {
	busy, err := t.unsettled(Close)
	if err != nil {
		return err
	}
	attempt.DueAt, attempt.Owner = time.Time{}, 0
	if busy {
		return nil
	}
	op, err := t.newOperation(Close, attempt, attempt.Amount)
	if err != nil {
		return err
	}
	op.Failure = why
	return t.send(op)
}

// closeAnswered hears whether an attempt is closed for good, or was paid after all.
func (t *turn) closeAnswered(op *Operation, class Class, a Answer) error {
	attempt, err := t.op(op.Target)
	if err != nil {
		return err
	}
	if a.Attempt != nil {
		return t.attemptAnswered(attempt, class, *a.Attempt)
	}
	if op.State == Declined {
		t.alarm(op, "the acquirer refused to close an unpaid attempt")
		due(attempt, t.now.Add(delays[len(delays)-1]))
		return nil
	}
	text := textExpired
	if op.Failure == ReasonUnavailable {
		text = textUnavailable
	}
	return t.attemptDeclined(attempt, Answer{Outcome: OutcomeDeclined, Reason: op.Failure, Text: text})
}

// undoAnswered hears that an attempt, or a card refund without answer, is undone.
func (t *turn) undoAnswered(op *Operation, a Answer) error {
	if op.State == Declined {
		// The acquirer will not undo it. Money work never gives up: people are told, and it is asked again.
		t.alarm(op, "the acquirer refused to undo")
		again, err := t.redo(op)
		if err != nil {
			return err
		}
		again.Flagged = true
		return nil
	}
	target, err := t.op(op.Target)
	if err != nil {
		return err
	}
	if a.Attempt != nil {
		keep(target, *a.Attempt)
	}
	if err := t.to(target, Undone); err != nil {
		return err
	}
	rest(target)
	if target.Kind == Refund {
		return t.again(target)
	}
	if t.p.State == Open && t.p.Attempt == target.ID {
		// A card sale without answer, or one that did not fit, now reversed: the customer was not charged.
		if target.Failure == "" {
			target.Failure, target.FailureText = ReasonUnavailable, textUnavailable
		}
		if t.p.Retryable {
			t.p.DueAt = t.p.ExpiresAt
			return nil
		}
		t.p.Failure, t.p.FailureText = target.Failure, target.FailureText
		return t.pay(Refuse)
	}
	return nil
}

// again sends a card refund, whose last message is out of the world, under a new number of the link: at once the first time, then after
// growing pauses, so that a host that answers reversals but no refunds is not flooded.
func (t *turn) again(refund *Operation) error {
	acq, err := t.e.acquirer(refund.Acquirer)
	if err != nil {
		return err
	}
	id, err := t.id()
	if err != nil {
		return err
	}
	refund.Round++
	refund.Number, refund.SentAt = t.number(acq, id), time.Time{}
	if refund.Round == 1 {
		return t.send(refund)
	}
	refund.Flagged = refund.Round >= flagAfter
	due(refund, t.now.Add(delays[min(refund.Round, len(delays)-1)]))
	return nil
}

// redo owes an operation anew, under a number of its own, after the longest delay.
func (t *turn) redo(op *Operation) (*Operation, error) {
	target, err := t.op(op.Target)
	if err != nil {
		return nil, err
	}
	kind := op.Kind
	again, err := t.newOperation(kind, target, op.Amount)
	if err != nil {
		return nil, err
	}
	again.Rest = op.Rest
	due(again, t.now.Add(delays[len(delays)-1]))
	return again, nil
}

func (t *turn) captureAnswered(op *Operation, a Answer) error {
	if op.State == Declined || t.p.State != Authorized {
		return nil // Still authorised; the caller may try again.
	}
	attempt, err := t.op(t.p.Attempt)
	if err != nil {
		return err
	}
	keep(attempt, a)
	return t.capture(op, op.Amount)
}

// returnAnswered hears what became of a refund or a void.
func (t *turn) returnAnswered(op *Operation) error {
	ended := t.p.State == Cancelled || t.p.State == Voided
	if op.State == Declined {
		switch {
		case op.Kind == VoidOperation:
			// Too late for a reversal, or part of it is refunded by now: give the rest back as a refund.
			attempt, err := t.op(t.p.Attempt)
			if err != nil {
				return err
			}
			refund, err := t.newOperation(Refund, attempt, op.Amount)
			if err != nil {
				return err
			}
			refund.Rest = true
			return t.send(refund)
		case op.Rest && ended:
			t.alarm(op, "the acquirer refused to give back what must not stand")
			again, err := t.redo(op)
			if err != nil {
				return err
			}
			again.Flagged = true
			return nil
		}
		t.p.Reserved -= op.Amount.Minor()
		if ended {
			return t.giveBack() // The till's refund came to nothing, so that part is still to be returned.
		}
		return nil
	}
	return t.returned(op)
}

// returned books money that the acquirer has given back.
func (t *turn) returned(op *Operation) error {
	day, err := t.p.Calendar.Day(t.now)
	if err != nil {
		return err
	}
	entry, err := ledger.Refund(op.Amount)
	if op.Rest && !t.p.FeeReturned {
		entry, err = ledger.Void(op.Amount, t.p.Tip, t.p.Fee)
		t.p.FeeReturned = true
	}
	if err != nil {
		return err
	}
	op.Day = day
	t.p.Refunded += op.Amount.Minor()
	if err := t.tx.Post(op, entry, t.now); err != nil {
		return err
	}
	return t.returnedAll()
}

// returnedAll ends a payment of which everything is given back; before that it does nothing.
func (t *turn) returnedAll() error {
	if t.p.Refunded < t.p.Captured {
		return nil
	}
	if t.p.FeeReturned && t.p.State == Captured { // Whichever of a void and a refund beside it was answered last.
		if err := t.pay(Void); err != nil {
			return err
		}
	}
	attempt, err := t.op(t.p.Attempt)
	if err != nil {
		return err
	}
	if attempt.State == Reversing {
		return t.to(attempt, Undone)
	}
	return nil
}

// alarm tells people of something that should not happen. Work goes on.
func (t *turn) alarm(op *Operation, what string) {
	op.Flagged = true
	t.e.cfg.Log.Error("payment: "+what, "merchant", t.m, "payment", t.p.ID, "operation", op.ID, "kind", op.Kind, "number", op.Number)
}

package payment

import (
	"bytes"
	"context"
	"crypto/hmac"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tillgate/tillgate/money"
)

// Engine takes payments. It is the only code that moves a payment from state to state, and it decides everything about money; protocols
// translate into its commands. All methods may be called concurrently.
//
// Every command commits what it is about to send before it sends, works on under its own deadline when the caller leaves, and commits
// the outcome before anybody hears of it. Run must be running for commands to work.
type Engine struct {
	cfg       Config
	ids       ids
	merchants cache[MerchantID, Merchant]
	callers   cache[string, Caller]
	webhooks  cache[webhooksOf, []Webhook]

	incarnation atomic.Int64 // 0 until Run has enlisted.
	ready       chan struct{}
	readyOnce   sync.Once
	base        context.Context // Of exchanges: outlives the callers, ends when the drain is over.
	stop        context.CancelFunc
	kick        chan struct{}
	work        tasks         // Commands, exchanges and owed work under way.
	workers     chan struct{} // Bounds what the runner does at once.
	nudges      chan struct{} // Bounds the nudges at work.

	mu    sync.Mutex
	hands map[Owed]*hand
}

// webhooksOf names the webhooks of a merchant for a protocol.
type webhooksOf struct {
	merchant MerchantID
	protocol string
}

// hand is an operation that this process is working on.
type hand struct{ again bool }

// Config is what an Engine needs. All fields but Observe are required.
type Config struct {
	Store     Store
	Acquirers map[string]Acquirer
	Vault     Vault
	Signal    Signal
	Now       func() time.Time
	Log       *slog.Logger
	// Notices, when set, says what callers are owed to be told of a change. It runs inside the transaction that makes the change, perhaps more
	// than once, and so only reads. What it returns needs no ID.
	Notices func(Reader, Change) ([]Notice, error)
	// Noticed, when set, is told that notices are stored, after the commit.
	Noticed func()
	// Observe, when set, is told of every operation whose outcome has become final, after the commit. It must not block.
	Observe func(op *Operation, protocol string)
}

const (
	// lease is how long a silent process keeps what it has in hand (design 4: 5 seconds at most), renewed three times within it.
	lease        = 5 * time.Second
	leaseRenewal = lease / 4
	// recordMargin is added to an exchange's time-out before the owed row comes due: until then the process that sent it records it.
	recordMargin = 3 * time.Second
	// cacheLife bounds how long a disabled credential goes on working (design 8).
	cacheLife = 2 * time.Second
	cacheMax  = 100_000
	// idBlock is how many IDs are fetched at once: large enough that fetching costs nothing, small against 10^12.
	idBlock = 1000
	// workersMax bounds how many owed operations one process settles at once, so that a backlog does not starve the tills.
	workersMax = 64
	// undoGrace is how long a cancel waits for the acquirer to agree before it is answered; the undoing is owed in any case.
	undoGrace = 500 * time.Millisecond
	// rereadEvery is how often a waiter reads by itself, since signals may be lost. Where they cannot be, those who wait by thousands (Watch) read
	// after rereadNet.
	rereadEvery = 10 * time.Second
	rereadNet   = time.Minute
	// amountMax is the largest amount of one payment in minor units: what DE 4 of ISO 8583 holds, and few enough that no ledger's sum overflows.
	amountMax = 999_999_999_999
	// onceLife is how long a key that is used once is remembered: longer than the day that such a key usually has in its scope.
	onceLife = 48 * time.Hour
	// conflictTries bounds how often a command is run again because rows changed under it.
	conflictTries = 20
)

// NewEngine makes an engine; it does nothing before Run.
func NewEngine(cfg Config) *Engine {
	e := &Engine{cfg: cfg, ids: ids{fetching: make(chan struct{}, 1)}, ready: make(chan struct{}), kick: make(chan struct{}, 1),
		workers: make(chan struct{}, workersMax), nudges: make(chan struct{}, nudgesMax), hands: map[Owed]*hand{}}
	e.base, e.stop = context.WithCancel(context.Background())
	return e
}

// Ready is closed once the engine can take commands.
func (e *Engine) Ready() <-chan struct{} { return e.ready }

// Sell takes a payment: it stores it with its first attempt, sends the attempt, and returns the payment when its outcome is known,
// somebody must act, or cmd.Wait is over. A payment known by its key is returned as it is. Errors: *KeyReusedError, ErrMethod,
// ErrCurrency, *FieldError, ErrUnavailable.
func (e *Engine) Sell(ctx context.Context, cmd SaleCommand) (View, error) {
	return e.sell(ctx, cmd, true)
}

// Begin stores a payment without an attempt: a card or a decision is still to come. It is otherwise as Sell.
func (e *Engine) Begin(ctx context.Context, cmd SaleCommand) (View, error) {
	return e.sell(ctx, cmd, false)
}

func (e *Engine) sell(ctx context.Context, cmd SaleCommand, attempt bool) (View, error) {
	if err := checkSale(cmd); err != nil {
		return View{}, err
	}
	mac := e.requestMAC(cmd.Caller.Merchant.ID, cmd.Key, cmd.Request)
	var v View
	var known bool
	t, err := e.command(ctx, cmd.Caller.Merchant.ID, func(t *turn) error {
		v, known = View{}, false
		id, err := t.id()
		if err != nil {
			return err
		}
		row := KeyRow{Merchant: cmd.Caller.Merchant.ID, Key: cmd.Key, MAC: mac, Payment: id, FreeAt: freeAt(t.now, cmd.KeyLife)}
		state, stored, err := t.takeKey(row, cmd.ReusableKey)
		if err != nil || stored != nil {
			if stored != nil {
				v, known = *stored, true
			}
			return err
		}
		method, acq, err := t.accepts(cmd) // Only now: a repeat is answered whatever has been configured since.
		if err != nil {
			return err
		}
		if err := t.takeOnce(cmd.Caller.Merchant.ID, cmd.Once, mac, id); err != nil {
			return err
		}
		t.p = newPayment(cmd, method, id, state, t.now)
		t.fresh = true
		if state != Open || !attempt {
			if cmd.Answer == nil {
				return nil
			}
			return t.tx.KeepAnswer(t.m, cmd.Key, id, 0, cmd.Answer(t.view()))
		}
		if err := t.attempt(method.Acquirer, acq, Message{Caller: cmd.Caller, Merchant: cmd.Caller.Merchant, Secret: cmd.Instrument}, id); err != nil {
			return err
		}
		if cmd.Answer != nil {
			t.flights[0].keep = t.e.keepDecided(cmd)
		}
		return nil
	})
	if err != nil {
		return View{}, err
	}
	if !known {
		v = t.view()
	}
	if known && (v.Answer != nil || decided(v)) || !known && len(t.flights) == 0 {
		return v, nil
	}
	return e.awaitPayment(ctx, v, t, cmd.Wait)
}

// awaitPayment waits until a payment is decided. What the first exchange told needs no reading.
func (e *Engine) awaitPayment(ctx context.Context, v View, t *turn, wait time.Duration) (View, error) {
	start := time.Now()
	if op, p, ok := first(ctx, t, wait); ok {
		if v := (View{Payment: p, Attempt: op, Chip: t.flights[0].chip}); decided(v) {
			return v, nil
		}
	}
	return e.Await(ctx, v.Payment.Merchant, v.Payment.ID, wait-time.Since(start), decided)
}

// first waits for the first exchange of a command, and returns what it left behind.
func first(ctx context.Context, t *turn, wait time.Duration) (Operation, Payment, bool) {
	sent := t.flights
	if len(sent) == 0 {
		return Operation{}, Payment{}, false
	}
	limit := time.NewTimer(wait)
	defer limit.Stop()
	select {
	case <-sent[0].done:
		return sent[0].op, sent[0].payment, sent[0].op.ID != 0
	case <-limit.C:
	case <-ctx.Done():
	}
	return Operation{}, Payment{}, false
}

// decided reports whether a till need not be held any longer: the outcome is known, or somebody must act.
func decided(v View) bool {
	if v.Payment.State != Open {
		return true
	}
	switch v.Attempt.State {
	case Sent, Unknown, Reversing:
		return false
	}
	return true
}

func checkSale(cmd SaleCommand) error {
	if !cmd.Amount.IsPositive() {
		return &FieldError{"amount", "must be above zero"}
	}
	if cmd.Amount.Minor() > amountMax {
		return &FieldError{"amount", fmt.Sprintf("must not be above %s", money.New(amountMax, cmd.Amount.Currency()))}
	}
	if cmd.Tip < 0 || cmd.Tip > cmd.Amount.Minor() {
		return &FieldError{"tip", "must be a part of the amount"}
	}
	return nil
}

// accepts finds who approves a new payment, and makes sure that its approval can be booked: it must not fail on that later.
func (t *turn) accepts(cmd SaleCommand) (Method, Acquirer, error) {
	if err := takes(cmd.Caller.Merchant, cmd.Amount.Currency()); err != nil {
		return Method{}, nil, err
	}
	method, ok := cmd.Caller.Merchant.Methods[cmd.Method]
	if !ok {
		return Method{}, nil, fmt.Errorf("%w: %s", ErrMethod, cmd.Method)
	}
	if _, err := method.Rate.Fee(cmd.Amount); err != nil {
		return Method{}, nil, &FieldError{"amount", fmt.Sprintf("its fee cannot be computed: %v", err)}
	}
	if _, err := cmd.Caller.Store.Calendar.Day(t.now); err != nil {
		return Method{}, nil, err
	}
	acq, err := t.e.acquirer(method.Acquirer)
	return method, acq, err
}

func takes(m Merchant, cur money.Currency) error {
	for _, c := range m.Currencies {
		if c == cur.Code() {
			return nil
		}
	}
	return fmt.Errorf("%w: %s", ErrCurrency, cur)
}

func newPayment(cmd SaleCommand, method Method, id ID, state State, now time.Time) Payment {
	p := Payment{
		Merchant: cmd.Caller.Merchant.ID, ID: id, State: state, Protocol: cmd.Caller.Credential.Protocol, Key: cmd.Key,
		Reference: cmd.Reference, Credential: cmd.Caller.Credential.ID, Store: cmd.Caller.Store.ID, Terminal: cmd.Caller.Terminal.ID, Numbering: cmd.Numbering,
		Amount: cmd.Amount, Tip: cmd.Tip, Method: cmd.Method, Flow: cmd.Flow, AuthorizeOnly: cmd.AuthorizeOnly, Retryable: cmd.Retryable,
		Rate: method.Rate, Calendar: cmd.Caller.Store.Calendar, CreatedAt: now, ModifiedAt: now, ExpiresAt: now.Add(cmd.Lifetime), Echo: cmd.Echo,
	}
	if state == Open {
		p.DueAt = p.ExpiresAt
	} else {
		p.Failure, p.FailureText = ReasonCancelled, textCancelled
	}
	return p
}

// KeyReusedError says that a key stands for another request. It is an ErrKeyReused and carries what the key stands for: a payment, or
// a refund of that payment.
type KeyReusedError struct {
	Payment Payment
	Refund  *Operation
}

func (e *KeyReusedError) Error() string { return ErrKeyReused.Error() }

// Unwrap makes it an ErrKeyReused.
func (e *KeyReusedError) Unwrap() error { return ErrKeyReused }

// takeKey makes a key stand for row's payment. It returns the state the payment is born in, or the stored payment when the same
// request was there before.
func (t *turn) takeKey(row KeyRow, reusable bool) (State, *View, error) {
	old, fresh, err := t.tx.InsertKey(row)
	if err != nil || fresh {
		return Open, nil, err
	}
	if !old.FreeAt.IsZero() && !t.now.Before(old.FreeAt) {
		return Open, nil, t.tx.UpdateKey(old, row)
	}
	if old.Payment == 0 && !old.Closed() { // It stands for an answer: a refusal, or a request of another kind.
		if !hmac.Equal(old.MAC, row.MAC) {
			return "", nil, &KeyReusedError{}
		}
		if old.Answer == nil {
			return "", nil, ErrKeyBusy
		}
		return "", &View{Answer: old.Answer}, nil
	}
	if old.Payment == 0 { // Closed before its payment existed.
		state := Open
		if t.now.Before(old.ClosedTo) {
			state = Cancelled
		}
		return state, nil, t.tx.UpdateKey(old, row)
	}
	stored, err := viewOf(t.tx, old.Merchant, old.Payment)
	if err != nil {
		return "", nil, err
	}
	if old.Operation != 0 {
		refund, err := t.tx.Operation(old.Merchant, old.Payment, old.Operation)
		if err != nil {
			return "", nil, err
		}
		return "", nil, &KeyReusedError{Payment: stored.Payment, Refund: &refund}
	}
	if reusable && failed(stored) {
		return Open, nil, t.tx.UpdateKey(old, row)
	}
	if !hmac.Equal(old.MAC, row.MAC) {
		return "", nil, &KeyReusedError{Payment: stored.Payment}
	}
	stored.Answer = old.Answer
	return "", &stored, nil
}

// freeAt is when a key that lives for a time is free again; zero for never.
func freeAt(now time.Time, life time.Duration) time.Time {
	if life == 0 {
		return time.Time{}
	}
	return now.Add(life)
}

// takeOnce takes keys that no other payment may have had.
func (t *turn) takeOnce(m MerchantID, once []Key, mac []byte, id ID) error {
	for _, key := range once {
		_, fresh, err := t.tx.InsertKey(KeyRow{Merchant: m, Key: key, MAC: mac, Payment: id, FreeAt: t.now.Add(onceLife)})
		if err != nil {
			return err
		}
		if !fresh {
			return &OnceError{Key: key}
		}
	}
	return nil
}

// keepDecided keeps the answer of a sale once it is decided.
func (e *Engine) keepDecided(cmd SaleCommand) func(*turn) error {
	return func(t *turn) error {
		v := t.view()
		if !decided(v) {
			return nil
		}
		return t.tx.KeepAnswer(t.m, cmd.Key, t.p.ID, 0, cmd.Answer(v))
	}
}

// Kept is what a key stands for.
type Kept struct {
	Payment   ID     // 0 for a request that made no payment.
	Operation ID     // The refund; 0 for none.
	Answer    []byte // The answer that was kept; nil when there is none, or none yet.
}

// Recall finds what a key stands for, if the request is the one that took it. Errors: ErrNotFound for a free key, *KeyReusedError for
// another request.
func (e *Engine) Recall(ctx context.Context, m MerchantID, key Key, request []byte) (Kept, error) {
	var row KeyRow
	if err := e.cfg.Store.Read(ctx, func(r Reader) (err error) { row, err = r.Key(m, key); return err }); err != nil {
		return Kept{}, err
	}
	switch {
	case row.Closed(), !row.FreeAt.IsZero() && !e.cfg.Now().Before(row.FreeAt):
		return Kept{}, ErrNotFound
	case !hmac.Equal(row.MAC, e.requestMAC(m, key, request)):
		return Kept{}, &KeyReusedError{}
	}
	return Kept{row.Payment, row.Operation, row.Answer}, nil
}

// Keep lets a key stand for a request, and keeps its answer. Without an answer it only takes the key. An answer that is kept already stays.
// Errors: *KeyReusedError when the key stands for another request.
func (e *Engine) Keep(ctx context.Context, m MerchantID, key Key, request, answer []byte, life time.Duration) error {
	mac := e.requestMAC(m, key, request)
	return e.cfg.Store.InTx(ctx, func(tx Tx) error {
		now := e.cfg.Now().UTC().Truncate(time.Millisecond)
		row := KeyRow{Merchant: m, Key: key, MAC: mac, FreeAt: freeAt(now, life), Answer: answer}
		old, fresh, err := tx.InsertKey(row)
		switch {
		case err != nil || fresh:
			return err
		case old.Closed(), !old.FreeAt.IsZero() && !now.Before(old.FreeAt):
			return tx.UpdateKey(old, row)
		case !hmac.Equal(old.MAC, mac):
			return &KeyReusedError{}
		case old.Answer != nil || answer == nil:
			return nil
		}
		return tx.KeepAnswer(m, key, old.Payment, old.Operation, answer)
	})
}

// failed reports whether a payment has ended without money, and nothing about it is unknown any more.
func failed(v View) bool {
	switch v.Payment.State {
	case Refused, Cancelled, Expired:
		return v.Attempt.State == "" || v.Attempt.Settled() && v.Attempt.State != Approved
	}
	return false
}

// Attempt makes another attempt on an open payment whose last one is settled. Errors: ErrNotFound, ErrConflict.
func (e *Engine) Attempt(ctx context.Context, cmd AttemptCommand) (View, error) {
	m := cmd.Caller.Merchant
	t, err := e.command(ctx, m.ID, func(t *turn) error {
		if err := t.load(cmd.Payment); err != nil {
			return err
		}
		if t.p.State != Open || !t.now.Before(t.p.ExpiresAt) {
			return fmt.Errorf("attempt on a payment that is %s: %w", t.p.State, ErrConflict)
		}
		id := t.p.ID
		if t.p.Attempt != 0 {
			last, err := t.op(t.p.Attempt)
			if err != nil {
				return err
			}
			if !last.Settled() || !t.p.Retryable {
				return fmt.Errorf("attempt while the last is %s: %w", last.State, ErrConflict)
			}
			if id, err = t.id(); err != nil {
				return err
			}
		}
		method, ok := m.Methods[t.p.Method]
		if !ok {
			return fmt.Errorf("%w: %s", ErrMethod, t.p.Method)
		}
		acq, err := e.acquirer(method.Acquirer)
		if err != nil {
			return err
		}
		if err := t.takeOnce(m.ID, cmd.Once, e.requestMAC(m.ID, Key{}, nil), id); err != nil {
			return err
		}
		t.p.AuthorizeOnly = cmd.AuthorizeOnly
		return t.attempt(method.Acquirer, acq, Message{Caller: cmd.Caller, Merchant: m, Secret: cmd.Instrument}, id)
	})
	if err != nil {
		return View{}, err
	}
	return e.awaitPayment(ctx, t.view(), t, cmd.Wait)
}

// Amend changes what an open payment asks for. Errors: ErrNotFound, ErrConflict when it is not open or an attempt is under way, ErrMoved when it
// is not the version that was read, ErrCurrency, *FieldError.
func (e *Engine) Amend(ctx context.Context, cmd AmendCommand) (View, error) {
	m := cmd.Caller.Merchant
	if err := checkSale(SaleCommand{Amount: cmd.Amount}); err != nil {
		return View{}, err
	}
	if err := takes(m, cmd.Amount.Currency()); err != nil {
		return View{}, err
	}
	t, err := e.command(ctx, m.ID, func(t *turn) error {
		if err := t.load(cmd.Payment); err != nil {
			return err
		}
		if t.p.State != Open || !t.now.Before(t.p.ExpiresAt) {
			return fmt.Errorf("change of a payment that is %s: %w", t.p.State, ErrConflict)
		}
		if t.p.Version != cmd.Version {
			return ErrMoved
		}
		if t.p.Attempt != 0 {
			last, err := t.op(t.p.Attempt)
			if err != nil {
				return err
			}
			if !last.Settled() {
				return fmt.Errorf("change while the last attempt is %s: %w", last.State, ErrConflict)
			}
		}
		if _, err := t.p.Rate.Fee(cmd.Amount); err != nil {
			return &FieldError{"amount", fmt.Sprintf("its fee cannot be computed: %v", err)}
		}
		if cmd.Amount != t.p.Amount {
			t.p.Amount, t.p.Tip = cmd.Amount, 0
		}
		t.p.Reference, t.p.Echo, t.p.ModifiedAt = cmd.Reference, cmd.Echo, t.now
		return t.tx.AmendPayment(&t.p)
	})
	if err != nil {
		return View{}, err
	}
	return t.view(), nil
}

// Capture takes the money of an authorised payment; what is not captured is released. Errors: ErrNotFound, ErrConflict, ErrExceeds,
// ErrCurrency.
func (e *Engine) Capture(ctx context.Context, cmd CaptureCommand) (View, error) {
	m := cmd.Caller.Merchant.ID
	var id ID
	_, err := e.command(ctx, m, func(t *turn) error {
		if err := t.load(cmd.Payment); err != nil {
			return err
		}
		if cmd.Amount.Currency() != t.p.Amount.Currency() {
			return ErrCurrency
		}
		if t.p.State != Authorized {
			return fmt.Errorf("capture of a payment that is %s: %w", t.p.State, ErrConflict)
		}
		if busy, err := t.unsettled(CaptureOperation); err != nil || busy {
			return errors.Join(err, fmt.Errorf("a capture is under way: %w", ErrConflict))
		}
		if !cmd.Amount.IsPositive() || cmd.Amount.Minor() > t.p.Amount.Minor() {
			return ErrExceeds
		}
		attempt, err := t.op(t.p.Attempt)
		if err != nil {
			return err
		}
		op, err := t.newOperation(CaptureOperation, attempt, cmd.Amount)
		if err != nil {
			return err
		}
		id = op.ID
		return t.send(op)
	})
	if err != nil {
		return View{}, err
	}
	type captured struct {
		view View
		op   Operation
	}
	c, err := await(ctx, e, m, cmd.Payment, cmd.Wait, func(c captured) bool { return c.op.Settled() }, func(r Reader) (c captured, err error) {
		if c.view, err = viewOf(r, m, cmd.Payment); err == nil {
			c.op, err = r.Operation(m, cmd.Payment, id)
		}
		return c, err
	})
	return c.view, err
}

// Cancel gives a payment up. It is answered at once, and beats an approval that comes later: what must be undone is owed. A payment
// that is cancelled already is returned unchanged. Errors: ErrNotFound (the key is closed for cmd.CloseFor then), ErrWrongKind for the
// key of a refund, ErrWindow, ErrConflict.
func (e *Engine) Cancel(ctx context.Context, cmd CancelCommand) (View, error) {
	m := cmd.Caller.Merchant.ID
	var missing bool
	t, err := e.command(ctx, m, func(t *turn) error {
		missing = false
		row, err := t.named(cmd.Key, cmd.Payment)
		if errors.Is(err, ErrNotFound) || err == nil && row.Closed() {
			missing = true
			return t.closeKey(cmd, row, err == nil)
		}
		if err != nil {
			return err
		}
		if row.Payment == 0 {
			return ErrNotFound
		}
		if row.Operation != 0 {
			return ErrWrongKind
		}
		if err := t.load(row.Payment); err != nil {
			return err
		}
		if err := t.cancel(cmd); err != nil {
			return err
		}
		if t.p.Attempt == 0 {
			return nil
		}
		_, err = t.op(t.p.Attempt) // For the view.
		return err
	})
	if err != nil {
		return View{}, err
	}
	if missing {
		return View{}, ErrNotFound
	}
	if len(t.flights) == 0 {
		return t.view(), nil
	}
	return e.Await(ctx, m, t.p.ID, undoGrace, func(v View) bool { return v.Attempt.State != Reversing })
}

// closeKey remembers the key of a payment that does not exist yet. A failing insert means that the payment came in just now.
func (t *turn) closeKey(cmd CancelCommand, old KeyRow, closed bool) error {
	if cmd.CloseFor == 0 {
		return nil
	}
	row := KeyRow{Merchant: cmd.Caller.Merchant.ID, Key: cmd.Key, ClosedTo: t.now.Add(cmd.CloseFor)}
	if closed {
		return t.tx.UpdateKey(old, row)
	}
	_, fresh, err := t.tx.InsertKey(row)
	if err == nil && !fresh {
		return ErrStoreConflict
	}
	return err
}

// Void gives back all that is left of a captured payment, the fee too, and returns the payment: voided, or captured still when the
// acquirer refused or has not answered in time. Errors: ErrNotFound, ErrWrongKind, ErrNotPaid, ErrWindow, ErrExceeds when nothing is left,
// ErrConflict when less than the whole is left and cmd asks for that.
func (e *Engine) Void(ctx context.Context, cmd VoidCommand) (View, error) {
	m := cmd.Caller.Merchant.ID
	var id ID
	_, err := e.command(ctx, m, func(t *turn) error {
		row, err := t.named(cmd.Key, cmd.Payment)
		if err != nil {
			return err
		}
		if row.Payment == 0 {
			return ErrNotFound
		}
		if row.Operation != 0 {
			return ErrWrongKind
		}
		id = row.Payment
		if err := t.load(id); err != nil {
			return err
		}
		return t.void(cmd)
	})
	if err != nil {
		return View{}, err
	}
	return e.Await(ctx, m, id, cmd.Wait, func(v View) bool {
		return v.Payment.State != Captured || v.Payment.Reserved < v.Payment.Captured
	})
}

// Refund gives a part or all of a captured payment back. The amount is reserved before it is sent, so refunds, voids and cancels
// together never exceed the capture, and stays reserved while the outcome is unknown. A refund known by its key is returned as it is.
// Errors: ErrNotFound (the original), ErrNotPaid, ErrCurrency, ErrExceeds, ErrWindow, *KeyReusedError, *FieldError.
func (e *Engine) Refund(ctx context.Context, cmd RefundCommand) (RefundView, error) {
	if !cmd.Amount.IsPositive() {
		return RefundView{}, &FieldError{"amount", "must be above zero"}
	}
	m := cmd.Caller.Merchant.ID
	mac := e.requestMAC(m, cmd.Key, cmd.Request)
	var v RefundView
	t, err := e.command(ctx, m, func(t *turn) error {
		stored, err := t.storedRefund(m, cmd.Key, mac)
		if err != nil || stored != nil {
			if stored != nil {
				v = *stored
			}
			return err
		}
		policy, ok := refundPolicies[cmd.Caller.Credential.Profile.RefundPolicy]
		if !ok {
			return &FieldError{"refund_policy", "the credential names a policy that does not exist"}
		}
		original, err := t.named(cmd.Original, cmd.Payment)
		if err != nil {
			return err
		}
		if original.Operation != 0 {
			return fmt.Errorf("refund of a refund: %w", ErrNotPaid)
		}
		if original.Payment == 0 {
			return ErrNotFound
		}
		if err := t.load(original.Payment); err != nil {
			return err
		}
		op, err := t.refund(cmd, policy)
		if err != nil {
			return err
		}
		if cmd.Answer != nil {
			t.flights[0].keep = keepRefund(cmd, op.ID)
		}
		row := KeyRow{Merchant: m, Key: cmd.Key, MAC: mac, Payment: t.p.ID, Operation: op.ID, FreeAt: freeAt(t.now, cmd.KeyLife)}
		old, fresh, err := t.tx.InsertKey(row)
		if err == nil && !fresh {
			// The key was closed in advance by a cancel: cancels concern payments only, so a refund may still have it.
			free := !old.FreeAt.IsZero() && !t.now.Before(old.FreeAt)
			if !free && !old.Closed() {
				return ErrStoreConflict
			}
			err = t.tx.UpdateKey(old, row)
		}
		v = RefundView{Refund: *op, Payment: t.p}
		return err
	})
	if err != nil {
		return RefundView{}, err
	}
	answered := func(v RefundView) bool { return v.Answer != nil || v.Refund.Settled() || v.Refund.State == Waiting }
	start := time.Now()
	if op, p, ok := first(ctx, t, cmd.Wait); ok {
		v = RefundView{Refund: op, Payment: p}
	}
	if answered(v) {
		return v, nil
	}
	return e.AwaitRefund(ctx, m, v.Payment.ID, v.Refund.ID, cmd.Wait-time.Since(start), answered)
}

// keepRefund keeps the answer of a refund once it is settled.
func keepRefund(cmd RefundCommand, id ID) func(*turn) error {
	return func(t *turn) error {
		op, err := t.op(id)
		if err != nil || !op.Settled() {
			return err
		}
		return t.tx.KeepAnswer(t.m, cmd.Key, t.p.ID, id, cmd.Answer(RefundView{Refund: *op, Payment: t.p}))
	}
}

// named finds what a command names: by its ID when that is given, else by its key.
func (t *turn) named(key Key, id ID) (KeyRow, error) {
	if id != 0 {
		return KeyRow{Merchant: t.m, Payment: id}, nil
	}
	return t.tx.Key(t.m, key)
}

// storedRefund finds what a refund's key stands for; nil when it is free.
func (t *turn) storedRefund(m MerchantID, key Key, mac []byte) (*RefundView, error) {
	row, err := t.tx.Key(m, key)
	if errors.Is(err, ErrNotFound) || err == nil && (row.Closed() || !row.FreeAt.IsZero() && !t.now.Before(row.FreeAt)) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if row.Payment == 0 { // It stands for an answer.
		if !hmac.Equal(row.MAC, mac) {
			return nil, &KeyReusedError{}
		}
		if row.Answer == nil {
			return nil, ErrKeyBusy
		}
		return &RefundView{Answer: row.Answer}, nil
	}
	p, err := t.tx.Payment(m, row.Payment)
	if err != nil {
		return nil, err
	}
	if row.Operation == 0 {
		return nil, &KeyReusedError{Payment: p}
	}
	op, err := t.tx.Operation(m, row.Payment, row.Operation)
	if err != nil {
		return nil, err
	}
	if !hmac.Equal(row.MAC, mac) {
		return nil, &KeyReusedError{Payment: p, Refund: &op}
	}
	return &RefundView{Refund: op, Payment: p, Answer: row.Answer}, nil
}

// Find returns what a key stands for: a payment, and the refund when it is a refund's. ErrNotFound also for a key closed in advance.
func (e *Engine) Find(ctx context.Context, m MerchantID, key Key) (View, *Operation, error) {
	var v View
	var refund *Operation
	err := e.cfg.Store.Read(ctx, func(r Reader) error {
		row, err := r.Key(m, key)
		if err != nil {
			return err
		}
		if row.Payment == 0 {
			return ErrNotFound
		}
		if v, err = viewOf(r, m, row.Payment); err != nil || row.Operation == 0 {
			return err
		}
		op, err := r.Operation(m, row.Payment, row.Operation)
		refund = &op
		return err
	})
	return v, refund, err
}

// Trail returns a payment with everything that was done about it, in the order in which it began. ErrNotFound when there is no such payment.
func (e *Engine) Trail(ctx context.Context, m MerchantID, id ID) (View, []Operation, error) {
	var v View
	var ops []Operation
	err := e.cfg.Store.Read(ctx, func(r Reader) (err error) {
		if v.Payment, err = r.Payment(m, id); err != nil {
			return err
		}
		ops, err = r.Operations(m, id)
		return err
	})
	for _, op := range ops {
		if op.ID == v.Payment.Attempt {
			v.Attempt = op
		}
	}
	slices.SortStableFunc(ops, func(a, b Operation) int { return a.CreatedAt.Compare(b.CreatedAt) }) // IDs come from blocks, and tell no order.
	return v, ops, err
}

// Await returns the payment as soon as done holds, and as it is when limit is over.
func (e *Engine) Await(ctx context.Context, m MerchantID, id ID, limit time.Duration, done func(View) bool) (View, error) {
	return await(ctx, e, m, id, limit, done, readView(m, id))
}

// AwaitRefund is Await for a refund.
func (e *Engine) AwaitRefund(ctx context.Context, m MerchantID, payment, id ID, limit time.Duration, done func(RefundView) bool) (RefundView, error) {
	return await(ctx, e, m, payment, limit, done, readRefund(m, payment, id))
}

// await subscribes, then reads, then waits, so that no change falls between; it reads again at the deadline, and now and then.
func await[V any](ctx context.Context, e *Engine, m MerchantID, id ID, limit time.Duration, done func(V) bool, read func(Reader) (V, error)) (V, error) {
	woken := make(chan struct{}, 1)
	end := e.cfg.Signal.Watch(m, id, func() {
		select {
		case woken <- struct{}{}:
		default: // A wake-up waits there already.
		}
	})
	defer end()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	again := time.NewTicker(rereadEvery)
	defer again.Stop()
	for last := limit <= 0; ; {
		var v V
		err := e.cfg.Store.Read(ctx, func(r Reader) (err error) { v, err = read(r); return err })
		if err != nil || last || done(v) {
			return v, err
		}
		select {
		case <-woken:
		case <-again.C:
		case <-deadline.C:
			last = true
		case <-ctx.Done():
			return v, ctx.Err()
		}
	}
}

func viewOf(r Reader, m MerchantID, id ID) (View, error) {
	p, err := r.Payment(m, id)
	if err != nil || p.Attempt == 0 {
		return View{Payment: p}, err
	}
	op, err := r.Operation(m, id, p.Attempt)
	return View{Payment: p, Attempt: op}, err
}

func readView(m MerchantID, id ID) func(Reader) (View, error) {
	return func(r Reader) (View, error) { return viewOf(r, m, id) }
}

func readRefund(m MerchantID, payment, id ID) func(Reader) (RefundView, error) {
	return func(r Reader) (RefundView, error) {
		p, err := r.Payment(m, payment)
		if err != nil {
			return RefundView{}, err
		}
		op, err := r.Operation(m, payment, id)
		return RefundView{Refund: op, Payment: p}, err
	}
}

// Caller finds whom a secret of a protocol stands for. Answers are remembered for two seconds at most, refusals not at all. Errors:
// ErrUnauthorized, and ErrForbidden when the credential, its merchant, store or terminal is disabled.
func (e *Engine) Caller(ctx context.Context, protocol, secret string) (Caller, error) {
	hash := CredentialHash(e.cfg.Vault, protocol, secret)
	if c, ok := e.callers.get(string(hash), e.cfg.Now()); ok {
		return c, nil
	}
	var c Caller
	err := e.cfg.Store.Read(ctx, func(r Reader) (err error) { c, err = r.Caller(protocol, hash); return err })
	switch {
	case errors.Is(err, ErrNotFound):
		return Caller{}, ErrUnauthorized
	case err != nil:
		return Caller{}, err
	case c.Credential.Disabled || c.Merchant.Disabled || c.Store.Disabled || c.Terminal.Disabled:
		return Caller{}, ErrForbidden
	}
	e.callers.put(string(hash), c, e.cfg.Now())
	return c, nil
}

// CredentialHash is the form in which a caller's secret is stored and looked up: keyed, so that a stolen database does not tell it.
func CredentialHash(v Vault, protocol, secret string) []byte {
	return v.MAC("credential", append(append([]byte(protocol), 0), secret...))
}

func (e *Engine) merchant(ctx context.Context, id MerchantID) (Merchant, error) {
	if m, ok := e.merchants.get(id, e.cfg.Now()); ok {
		return m, nil
	}
	var m Merchant
	err := e.cfg.Store.Read(ctx, func(r Reader) (err error) { m, err = r.Merchant(id); return err })
	if err == nil {
		e.merchants.put(id, m, e.cfg.Now())
	}
	return m, err
}

func (e *Engine) acquirer(name string) (Acquirer, error) {
	a, ok := e.cfg.Acquirers[name]
	if !ok {
		return nil, fmt.Errorf("acquirer %q is not configured: %w", name, ErrUnavailable)
	}
	return a, nil
}

// requestMAC is the keyed HMAC under which a request is remembered. Merchant and key are in it, so that equal bytes under different keys
// cannot be told from the store.
func (e *Engine) requestMAC(m MerchantID, key Key, request []byte) []byte {
	var b bytes.Buffer
	for _, part := range [][]byte{binary.BigEndian.AppendUint64(nil, uint64(m)), []byte(key.Scope), []byte(key.Key), request} {
		b.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part))))
		b.Write(part)
	}
	return e.cfg.Vault.MAC("request", b.Bytes())
}

// cache remembers values for cacheLife.
type cache[K comparable, V any] struct {
	mu   sync.Mutex
	rows map[K]cached[V]
}

type cached[V any] struct {
	value V
	until time.Time
}

func (c *cache[K, V]) get(k K, now time.Time) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	row, ok := c.rows[k]
	return row.value, ok && now.Before(row.until)
}

func (c *cache[K, V]) put(k K, v V, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rows == nil || len(c.rows) >= cacheMax {
		c.rows = map[K]cached[V]{}
	}
	c.rows[k] = cached[V]{v, now.Add(cacheLife)}
}

// ids hands out IDs from blocks of the store's.
type ids struct {
	mu        sync.Mutex // Never held while the store works: transactions take IDs, and the store may be waiting for one of them.
	next, end ID
	fetching  chan struct{} // Holds one value while somebody fetches.
}

// errNoIDs says that the block is used up: a transaction cannot fetch the next, so it is run again after one was fetched.
var errNoIDs = errors.New("block of IDs used up")

func (i *ids) take() (ID, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.next == i.end {
		return 0, errNoIDs
	}
	id := i.next
	i.next++
	return id, nil
}

func (i *ids) refill(ctx context.Context, s Store) error {
	select {
	case i.fetching <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-i.fetching }()
	i.mu.Lock()
	empty := i.next == i.end
	i.mu.Unlock()
	if !empty {
		return nil // Somebody else was faster.
	}
	first, err := s.Block(ctx, idBlock)
	if err != nil {
		return err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.next, i.end = first, first+idBlock
	return nil
}

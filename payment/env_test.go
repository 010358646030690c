package payment_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tillgate/tillgate/ledger"
	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/sqlstore"
)

var aud = money.MustCurrency("AUD")

// The clock of the tests begins on a Tuesday, at noon in the store's zone.
var noon = time.Date(2026, 4, 14, 2, 0, 0, 0, time.UTC)

// clock runs with the test's time, and can be moved ahead without anybody having to wait.
type clock struct{ ahead atomic.Int64 }

func (c *clock) Now() time.Time           { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) skip(d time.Duration)     { c.ahead.Add(int64(d)) }
func (c *clock) skipTo(t time.Time)       { c.skip(max(t.Sub(c.Now()), 0)) }
func newClock() *clock                    { c := &clock{}; c.skipTo(noon); return c }
func keyed(scope, key string) payment.Key { return payment.Key{Scope: scope, Key: key} }

// vault is a Vault with a key that everybody knows.
type vault struct{}

func (vault) MAC(purpose string, data []byte) []byte {
	h := hmac.New(sha256.New, []byte("a key for tests: "+purpose))
	h.Write(data)
	return h.Sum(nil)
}

func (v vault) Seal(purpose string, plain, bound []byte) ([]byte, error) {
	mark := v.MAC(purpose, bound)
	sealed := append([]byte(nil), mark...)
	for i, b := range plain {
		sealed = append(sealed, b^mark[i%len(mark)])
	}
	return sealed, nil
}

func (v vault) Unseal(purpose string, sealed, bound []byte) ([]byte, error) {
	mark := v.MAC(purpose, bound)
	if len(sealed) < len(mark) || !hmac.Equal(mark, sealed[:len(mark)]) {
		return nil, errors.New("sealed for something else")
	}
	plain := append([]byte(nil), sealed[len(mark):]...)
	for i := range plain {
		plain[i] ^= mark[i%len(mark)]
	}
	return plain, nil
}

// wedges is a log that finds what the engine could not do although its store and its links work: an answer that it cannot record, or work
// that it cannot attend to, would stay so for ever.
type wedges struct{ e *env }

func (w *wedges) Enabled(context.Context, slog.Level) bool { return true }
func (w *wedges) WithAttrs([]slog.Attr) slog.Handler       { return w }
func (w *wedges) WithGroup(string) slog.Handler            { return w }

func (w *wedges) Handle(_ context.Context, r slog.Record) error {
	var failed error
	line := r.Message
	r.Attrs(func(a slog.Attr) bool {
		if err, ok := a.Value.Any().(error); ok {
			failed = err
		}
		line += " " + a.String()
		return true
	})
	if r.Level >= slog.LevelError && failed != nil && !errors.Is(failed, errDisk) {
		w.e.mu.Lock()
		defer w.e.mu.Unlock()
		w.e.wedged = append(w.e.wedged, line)
	}
	return nil
}

// faulty is a store that fails on demand.
type faulty struct {
	payment.Store
	mu   sync.Mutex
	fail func(op payment.Operation) bool // Of a transaction that writes such an operation.
	lie  bool                            // The failing transaction is durable all the same.
	dead bool
	// stalled is a process that is held for dead and does not know it: it hears answers and records them, but takes nothing on.
	stalled bool
	slow    time.Duration // How long a block of IDs takes.
	lists   int
	renewed time.Time

	// The runner looks for work four times a second, and time in these tests is made of such looks: what cannot have changed is not read.
	changes *atomic.Int64 // Of the books, by anybody.
	known   int64
	next    time.Time
}

var errDisk = errors.New("the disk fails")

func (f *faulty) set(fn func(f *faulty)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	fn(f)
}

func (f *faulty) get() (fail func(payment.Operation) bool, lie, dead bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fail, f.lie, f.dead
}

// Hasten changes what is due.
func (f *faulty) Hasten(ctx context.Context, acquirer string, now time.Time) error {
	defer f.changes.Add(1)
	return f.Store.Hasten(ctx, acquirer, now)
}

// listed counts how often owed work was listed.
func (f *faulty) listed() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lists
}

func (f *faulty) renewedWithin(d time.Duration) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Since(f.renewed) <= d
}

func (f *faulty) isStalled() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stalled
}

func (f *faulty) InTx(ctx context.Context, fn func(payment.Tx) error) error {
	fail, lie, dead := f.get()
	if dead {
		return errDisk
	}
	f.changes.Add(1)
	defer f.changes.Add(1)
	failed := false
	err := f.Store.InTx(ctx, func(tx payment.Tx) error {
		w := &watched{Tx: tx, fail: fail}
		err := fn(w)
		failed = w.failed
		if _, _, dead := f.get(); dead || err == nil && failed && !lie {
			return errDisk
		}
		return err
	})
	if err == nil && failed {
		return errDisk
	}
	return err
}

func (f *faulty) Block(ctx context.Context, size int64) (payment.ID, error) {
	f.mu.Lock()
	slow := f.slow
	f.mu.Unlock()
	time.Sleep(slow)
	return f.Store.Block(ctx, size)
}

func (f *faulty) Read(ctx context.Context, fn func(payment.Reader) error) error {
	if _, _, dead := f.get(); dead {
		return errDisk
	}
	return f.Store.Read(ctx, fn)
}

func (f *faulty) Renew(ctx context.Context, id int64, lease time.Duration) error {
	if _, _, dead := f.get(); dead {
		return errDisk
	}
	if f.isStalled() {
		return nil
	}
	f.set(func(f *faulty) { f.renewed = time.Now() })
	defer f.changes.Add(1) // What a dead process had in hand is due.
	return f.Store.Renew(ctx, id, lease)
}

func (f *faulty) Due(ctx context.Context, now time.Time, limit int) ([]payment.Owed, time.Time, error) {
	if _, _, dead := f.get(); dead {
		return nil, time.Time{}, errDisk
	}
	if f.isStalled() {
		return nil, time.Time{}, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lists++
	changes := f.changes.Load()
	if f.known == changes && (f.next.IsZero() || now.Before(f.next)) {
		return nil, f.next, nil
	}
	owed, next, err := f.Store.Due(ctx, now, limit)
	if f.known, f.next = -1, next; err == nil && len(owed) == 0 {
		f.known = changes
	}
	return owed, next, err
}

func (f *faulty) Retire(ctx context.Context, id int64) error {
	if _, _, dead := f.get(); dead {
		return errDisk
	}
	return f.Store.Retire(ctx, id)
}

// watched sees what a transaction writes.
type watched struct {
	payment.Tx
	fail   func(payment.Operation) bool
	failed bool
}

func (w *watched) see(op *payment.Operation) {
	if w.fail != nil && w.fail(*op) {
		w.failed = true
	}
}

func (w *watched) InsertPayment(p *payment.Payment, first *payment.Operation) error {
	if first != nil {
		w.see(first)
	}
	return w.Tx.InsertPayment(p, first)
}

func (w *watched) UpdatePayment(p *payment.Payment, first *payment.Operation) error {
	if first != nil {
		w.see(first)
	}
	return w.Tx.UpdatePayment(p, first)
}

func (w *watched) InsertOperation(op *payment.Operation) error {
	w.see(op)
	return w.Tx.InsertOperation(op)
}

func (w *watched) UpdateOperation(op *payment.Operation) error {
	w.see(op)
	return w.Tx.UpdateOperation(op)
}

// deaf is the signal of one process among several, which hears nothing, not even of itself.
type deaf struct{ payment.LocalSignal }

func newDeaf() payment.Signal { return &deaf{payment.LocalSignal{Others: true}} }

func (*deaf) Publish(payment.MerchantID, payment.ID) {}

// env is an engine with all it needs, in time that passes only when everybody waits.
type env struct {
	t      *testing.T
	clock  *clock
	books  *sqlstore.Store
	store  *faulty
	bank   *bank
	link   string // The bank's name.
	signal payment.Signal
	cfg    payment.Config
	engine *payment.Engine
	caller payment.Caller
	ends   []func() error

	mu     sync.Mutex
	sold   map[payment.ID]bool
	told   map[payment.ID][]payment.OperationState // What Observe heard of each operation.
	wedged []string                                // What the engine could not do.
}

// story runs a test over one class of links in time of its own. All goroutines must have ended with it.
func story(t *testing.T, class payment.Class, tell func(t *testing.T, e *env)) {
	t.Helper()
	t.Parallel()
	dir := freshBooks(t)
	synctest.Test(t, func(t *testing.T) {
		e := open(t, dir, class)
		defer e.close()
		tell(t, e)
	})
}

// both is a story over each class of links.
func both(t *testing.T, tell func(t *testing.T, e *env)) { over(t, "", tell) }

// over is a story over one class of links, or each.
func over(t *testing.T, only payment.Class, tell func(t *testing.T, e *env)) {
	t.Helper()
	if only != "" {
		story(t, only, tell)
		return
	}
	t.Parallel()
	for _, class := range []payment.Class{payment.Provider, payment.CardHost} {
		t.Run(string(class), func(t *testing.T) { story(t, class, tell) })
	}
}

// emptyBooks is a folder with the files of a store in which nothing has happened: copying it is faster than making one.
var emptyBooks = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "empty-books")
	if err != nil {
		return "", err
	}
	s, err := sqlstore.Open(context.Background(), sqlstore.Config{Dir: dir, Now: time.Now})
	if err != nil {
		return dir, err
	}
	return dir, s.Close()
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, _ := emptyBooks(); dir != "" {
		_ = os.RemoveAll(dir) // Else the system's own sweep of temporary files takes it.
	}
	os.Exit(code)
}

// freshBooks is a folder for a store.
func freshBooks(t interface {
	Helper()
	Fatal(...any)
	TempDir() string
}) string {
	t.Helper()
	empty, err := emptyBooks()
	dir := t.TempDir()
	if err == nil {
		err = os.CopyFS(dir, os.DirFS(empty))
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func open(t *testing.T, dir string, class payment.Class) *env {
	e := &env{t: t, clock: newClock(), link: "bank", signal: &payment.LocalSignal{}, sold: map[payment.ID]bool{}, told: map[payment.ID][]payment.OperationState{}}
	ctx := context.Background()
	var err error
	if e.books, err = sqlstore.Open(ctx, sqlstore.Config{Dir: dir, Now: time.Now}); err != nil {
		t.Fatal(err)
	}
	e.store = &faulty{Store: e.books, changes: &atomic.Int64{}, known: -1}
	e.bank = newBank(class, e.books)
	e.engine = e.start(e.store, e.signal)
	e.register()
	return e
}

// register makes a merchant of its own for the test.
func (e *env) register() {
	ctx := context.Background()
	first, err := e.books.Block(ctx, 1)
	m := payment.Merchant{PublicID: fmt.Sprint(1_000_000 + first), CompanyName: "Corner Pty Ltd", Name: "Corner", Currencies: []string{"AUD", "NZD"},
		Methods: map[string]payment.Method{
			"visa":    {Acquirer: "bank", Rate: payment.Rate{Millionths: 14_000, Fixed: 5}},
			"alipay":  {Acquirer: "bank", Rate: payment.Rate{Millionths: 6_500}},
			"free":    {Acquirer: "bank"},
			"nowhere": {Acquirer: "unknown"},
			"dear":    {Acquirer: "bank", Rate: payment.Rate{Millionths: 1_000_000, Fixed: 1<<63 - 1}},
		}}
	m, err2 := e.books.AddMerchant(ctx, m)
	place, err3 := e.books.AddStore(ctx, m.ID, payment.Place{PublicID: "S1", Name: "Corner", Calendar: payment.Calendar{Zone: "Australia/Melbourne"}})
	e.caller.Merchant.ID = m.ID
	secret := e.secret()
	_, err4 := e.books.AddCredential(ctx, payment.Credential{Protocol: "upp", Merchant: m.ID, Store: place.ID, Name: "till"},
		payment.CredentialHash(vault{}, "upp", secret))
	caller, err5 := e.engine.Caller(ctx, "upp", secret)
	if err := errors.Join(err, err2, err3, err4, err5); err != nil {
		e.t.Fatal(err)
	}
	e.caller = caller
}

// start runs another engine on a store.
func (e *env) start(store payment.Store, signal payment.Signal) *payment.Engine {
	e.cfg = payment.Config{Store: store, Acquirers: map[string]payment.Acquirer{e.link: e.bank}, Vault: vault{}, Signal: signal, Now: e.clock.Now,
		Log: slog.New(&wedges{e}), Observe: func(op *payment.Operation, _ string) {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.told[op.ID] = append(e.told[op.ID], op.State)
		}}
	engine := payment.NewEngine(e.cfg)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- engine.Run(ctx) }()
	<-engine.Ready()
	e.ends = append(e.ends, sync.OnceValue(func() error { stop(); return <-ended }))
	return engine
}

// rename ends with another process, in which the link has another name.
func (e *env) rename(from, to string) {
	e.t.Helper()
	m := e.caller.Merchant
	m.Methods = map[string]payment.Method{}
	for name, method := range e.caller.Merchant.Methods {
		if method.Acquirer == from {
			method.Acquirer = to
		}
		m.Methods[name] = method
	}
	e.caller.Merchant = m
	e.link = to
	e.engine = e.start(e.store, e.signal)
}

// takeOver starts another process on the same books, and leaves the one before as fate wants it.
func (e *env) takeOver(fate func(*faulty)) {
	e.store.set(fate)
	e.store = &faulty{Store: e.books, changes: e.store.changes, known: -1}
	e.engine = e.start(e.store, e.signal)
}

func dead(f *faulty)    { f.dead = true }
func stalled(f *faulty) { f.stalled = true }

// end stops the engine that was started nth.
func (e *env) end(n int) error { return e.ends[n]() }

func (e *env) close() {
	for _, problem := range e.shut() {
		e.t.Error(problem)
	}
}

// shut ends everything and returns what was wrong.
func (e *env) shut() []string {
	for _, end := range e.ends {
		_ = end() // An engine whose store is dead cannot retire.
	}
	for e.bank.busy() {
		time.Sleep(time.Second)
	}
	problems := append(e.bank.complaints(), e.wedged...)
	if err := e.books.Close(); err != nil {
		problems = append(problems, err.Error())
	}
	return problems
}

// rest lets everything happen that needs no later moment.
func (e *env) rest() {
	for {
		time.Sleep(260 * time.Millisecond) // The runner looks every 250.
		synctest.Wait()
		if !e.bank.busy() {
			return
		}
	}
}

// skip moves the clock ahead and lets happen what comes due.
func (e *env) skip(d time.Duration) {
	e.clock.skip(d)
	e.rest()
}

// settle heals the bank and moves the clock from one due row to the next until nothing is owed any more, then compares all books.
func (e *env) settle() {
	e.t.Helper()
	e.bank.heal()
	e.pass()
}

// pass is settle with a bank that goes on as it is.
func (e *env) pass() {
	e.t.Helper()
	if err := e.passed(); err != nil {
		e.t.Fatal(err)
	}
	e.audit()
}

func (e *env) passed() error {
	for range 300 {
		e.rest()
		owed, next, err := e.books.Due(context.Background(), e.clock.Now(), 1)
		if err != nil {
			return err
		}
		if len(owed) == 0 && next.IsZero() {
			return nil
		}
		e.clock.skipTo(next)
	}
	return errors.New("owed work never ends")
}

// The commands, with what most stories want.

func (e *env) ctx() context.Context { return context.Background() }

func (e *env) command(key string, minor int64) payment.SaleCommand {
	return payment.SaleCommand{Caller: e.caller, Key: keyed("upp", key), Request: []byte(key + " " + fmt.Sprint(minor)),
		Numbering: payment.Numbering{Prefix: "80", Digits: 12}, Amount: money.New(minor, aud), Method: "visa", Flow: payment.ByCard,
		Instrument: payment.WalletCode("285600000000000001"), Lifetime: 5 * time.Minute, Wait: 30 * time.Second}
}

func (e *env) note(v payment.View, err error) (payment.View, error) {
	if err == nil {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.sold[v.Payment.ID] = true
	}
	return v, err
}

func (e *env) trySell(cmd payment.SaleCommand) (payment.View, error) {
	return e.note(e.engine.Sell(e.ctx(), cmd))
}

// sell takes a payment that must not fail.
func (e *env) sell(key string, minor int64, with ...func(*payment.SaleCommand)) payment.View {
	e.t.Helper()
	cmd := e.command(key, minor)
	for _, w := range with {
		w(&cmd)
	}
	v, err := e.trySell(cmd)
	if err != nil {
		e.t.Fatalf("sale %s: %v", key, err)
	}
	return v
}

func retryable(c *payment.SaleCommand)     { c.Retryable = true }
func authorizeOnly(c *payment.SaleCommand) { c.AuthorizeOnly = true }
func noWait(c *payment.SaleCommand)        { c.Wait = 0 }
func method(m string) func(*payment.SaleCommand) {
	return func(c *payment.SaleCommand) { c.Method = m }
}
func tip(minor int64) func(*payment.SaleCommand) {
	return func(c *payment.SaleCommand) { c.Tip = minor }
}

func (e *env) cancelCommand(key string) payment.CancelCommand {
	return payment.CancelCommand{Caller: e.caller, Key: keyed("upp", key), Window: 24 * time.Hour, GiveBack: true, CloseFor: 10 * time.Minute}
}

func (e *env) cancel(key string) payment.View {
	e.t.Helper()
	v, err := e.engine.Cancel(e.ctx(), e.cancelCommand(key))
	if err != nil {
		e.t.Fatalf("cancel %s: %v", key, err)
	}
	return v
}

func (e *env) tryVoid(key string) (payment.View, error) {
	return e.engine.Void(e.ctx(), payment.VoidCommand{Caller: e.caller, Key: keyed("upp", key), SameDay: true, Wait: 30 * time.Second})
}

func (e *env) refundCommand(key, of string, minor int64) payment.RefundCommand {
	return payment.RefundCommand{Caller: e.caller, Key: keyed("upp", key), Request: []byte(key + of + fmt.Sprint(minor)),
		Original: keyed("upp", of), Amount: money.New(minor, aud), Wait: 30 * time.Second}
}

func (e *env) tryRefund(key, of string, minor int64) (payment.RefundView, error) {
	return e.engine.Refund(e.ctx(), e.refundCommand(key, of, minor))
}

func (e *env) refund(key, of string, minor int64) payment.RefundView {
	e.t.Helper()
	v, err := e.tryRefund(key, of, minor)
	if err != nil {
		e.t.Fatalf("refund %s of %s: %v", key, of, err)
	}
	return v
}

func (e *env) tryCapture(v payment.View, minor int64) (payment.View, error) {
	return e.engine.Capture(e.ctx(), payment.CaptureCommand{Caller: e.caller, Payment: v.Payment.ID, Amount: money.New(minor, aud), Wait: 30 * time.Second})
}

// find is a payment as it is stored now.
func (e *env) find(key string) payment.View {
	e.t.Helper()
	v, _, err := e.engine.Find(e.ctx(), e.caller.Merchant.ID, keyed("upp", key))
	if err != nil {
		e.t.Fatalf("find %s: %v", key, err)
	}
	return v
}

func (e *env) operations(p payment.Payment) []payment.Operation {
	e.t.Helper()
	var ops []payment.Operation
	err := e.books.Read(e.ctx(), func(r payment.Reader) (err error) { ops, err = r.Operations(p.Merchant, p.ID); return err })
	if err != nil {
		e.t.Fatal(err)
	}
	return ops
}

// operation is the latest operation of a kind.
func (e *env) operation(p payment.Payment, kind payment.Kind) payment.Operation {
	e.t.Helper()
	var found payment.Operation
	for _, op := range e.operations(p) {
		if op.Kind == kind {
			found = op
		}
	}
	if found.ID == 0 {
		e.t.Fatalf("payment %d has no %s", p.ID, kind)
	}
	return found
}

// is compares.
func is[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// fails compares an error with a sentinel.
func fails(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got error %v, want %v", what, err, want)
	}
}

// stands checks where a payment and its attempt stand now.
func (e *env) stands(key string, state payment.State, attempt payment.OperationState) payment.View {
	e.t.Helper()
	v := e.find(key)
	is(e.t, "payment "+key, v.Payment.State, state)
	is(e.t, "attempt of "+key, v.Attempt.State, attempt)
	return v
}

// audit compares our books with the bank's once everything is settled.
func (e *env) audit() {
	e.t.Helper()
	for _, problem := range e.problems() {
		e.t.Error(problem)
	}
}

// problems are the broken invariants of a settled engine.
func (e *env) problems() (list []string) {
	say := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	e.mu.Lock()
	defer e.mu.Unlock()
	var receivable, fees, tips int64
	err := e.books.Read(e.ctx(), func(r payment.Reader) error {
		for id := range e.sold {
			p, err := r.Payment(e.caller.Merchant.ID, id)
			if err != nil {
				return err
			}
			ops, err := r.Operations(p.Merchant, p.ID)
			if err != nil {
				return err
			}
			for _, problem := range e.unbalanced(p, ops) {
				say("payment %d (%s): %s", p.ID, p.State, problem)
			}
			receivable += p.Captured - p.Refunded
			if p.Captured > 0 && !p.FeeReturned {
				fees, tips = fees+p.Fee, tips+p.Tip
			}
		}
		sums, err := r.Balances(e.caller.Merchant.ID)
		if err != nil {
			return err
		}
		got := sums["AUD"]
		if got.Sum() != 0 {
			say("the ledger does not balance: %+v", got)
		}
		if got.Receivable != receivable || got.Fees != -fees || got.Tips != -tips || got.Payable != -(receivable-fees-tips) {
			say("the ledger says %+v, the payments say receivable %d, fees %d, tips %d", got, receivable, fees, tips)
		}
		return nil
	})
	if err != nil {
		say("books cannot be read: %v", err)
	}
	return list
}

// unbalanced is what is wrong with one settled payment.
func (e *env) unbalanced(p payment.Payment, ops []payment.Operation) (list []string) {
	say := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	var net int64
	held := false
	for _, op := range ops {
		if !op.Settled() || !op.DueAt.IsZero() || op.Owner != 0 {
			say("%s %d is not settled: %s, due %v, owner %d", op.Kind, op.ID, op.State, op.DueAt, op.Owner)
		}
		if !op.Kind.IsAttempt() {
			continue
		}
		n, h := e.bank.net(op.Number)
		net += n
		held = held || h
		if n != 0 && op.ID != p.Attempt {
			say("the bank keeps %d of an earlier attempt", n)
		}
		if stands := n != 0 || h; stands && op.State != payment.Approved {
			say("the bank has an approval of attempt %d, which is %s", op.ID, op.State)
		}
	}
	if p.Captured > p.Amount.Minor() || p.Reserved > p.Captured || p.Refunded != p.Reserved {
		say("amount %d, captured %d, reserved %d, refunded %d", p.Amount.Minor(), p.Captured, p.Reserved, p.Refunded)
	}
	if got := p.Captured - p.Refunded; got != net {
		say("we have %d, the bank %d", got, net)
	}
	switch p.State {
	case payment.Captured, payment.Authorized:
	case payment.Open:
		say("it is still open")
	default:
		if net != 0 {
			say("the bank keeps %d", net)
		}
	}
	if held != (p.State == payment.Authorized) {
		say("held at the bank: %v", held)
	}
	if !p.DueAt.IsZero() {
		say("it is due at %v", p.DueAt)
	}
	if p.Captured > 0 {
		if fee, err := p.Rate.Fee(money.New(p.Captured, p.Amount.Currency())); err != nil || fee != p.Fee {
			say("fee %d, want %d (%v)", p.Fee, fee, err)
		}
	}
	return list
}

// read runs fn over the books.
func (e *env) read(fn func(payment.Reader) error) {
	e.t.Helper()
	if err := e.books.Read(e.ctx(), fn); err != nil {
		e.t.Fatal(err)
	}
}

func postings(receivable, payable, fees, tips int64) ledger.Postings {
	return ledger.Postings{Receivable: receivable, Payable: payable, Fees: fees, Tips: tips}
}

// secret is what the caller presents.
func (e *env) secret() string { return fmt.Sprint("secret ", e.caller.Merchant.ID) }

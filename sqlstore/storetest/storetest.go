// Package storetest is the contract of a store: the tests that every engine must pass. A fake store does not exist: SQLite in a temporary
// folder is fast enough to be the fake.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/tillgate/tillgate/ledger"
	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/terminal"
)

// Store is what is tested: the core's store, and the rows that operators keep.
type Store interface {
	payment.Store
	Check(ctx context.Context) error
	Close() error

	AddMerchant(ctx context.Context, m payment.Merchant) (payment.Merchant, error)
	FindMerchantByPublicID(ctx context.Context, publicID string) (payment.Merchant, error)
	Merchants(ctx context.Context, after payment.MerchantID, limit int) ([]payment.Merchant, error)
	SetMerchantDisabled(ctx context.Context, id payment.MerchantID, disabled bool) error
	SetMethod(ctx context.Context, merchant payment.MerchantID, name string, m payment.Method) error
	RemoveMethod(ctx context.Context, merchant payment.MerchantID, name string) error
	AddStore(ctx context.Context, merchant payment.MerchantID, p payment.Place) (payment.Place, error)
	Stores(ctx context.Context, merchant payment.MerchantID, after payment.ID, limit int) ([]payment.Place, error)
	SetStoreDisabled(ctx context.Context, merchant payment.MerchantID, id payment.ID, disabled bool) error
	AddTerminal(ctx context.Context, merchant payment.MerchantID, d payment.Terminal) (payment.Terminal, error)
	FindTerminalByPublicID(ctx context.Context, tid string) (payment.MerchantID, payment.Terminal, error)
	Terminals(ctx context.Context, merchant payment.MerchantID, after payment.ID, limit int) ([]payment.Terminal, error)
	SetTerminalDisabled(ctx context.Context, merchant payment.MerchantID, id payment.ID, disabled bool) error
	AddCredential(ctx context.Context, c payment.Credential, secretHash []byte) (payment.Credential, error)
	Credentials(ctx context.Context, merchant payment.MerchantID, after payment.ID, limit int) ([]payment.Credential, error)
	SetCredentialDisabled(ctx context.Context, merchant payment.MerchantID, id payment.ID, disabled bool) error

	terminal.Store

	OwedHosts(ctx context.Context) (map[string]time.Time, error)
	DueNotices(ctx context.Context, host string, now time.Time, limit int) ([]payment.Notice, error)
	CountNotices(ctx context.Context) (owed int, first time.Time, err error)
	ClaimNotice(ctx context.Context, n payment.Notice, until time.Time) (payment.Notice, bool, error)
	PutOffNotice(ctx context.Context, n payment.Notice, at time.Time, outcome string) error
	SettleNotice(ctx context.Context, n payment.Notice, at time.Time, outcome string) error
	Webhook(ctx context.Context, merchant payment.MerchantID, id payment.ID) (payment.Webhook, error)
	AddWebhook(ctx context.Context, w payment.Webhook) (payment.Webhook, error)
	RemoveWebhook(ctx context.Context, merchant payment.MerchantID, id payment.ID) error
	Purge(ctx context.Context, now time.Time, limit int) (int, error)

	NewestToken(ctx context.Context, merchant payment.MerchantID, credential payment.ID) (string, error)
	SetNewestToken(ctx context.Context, merchant payment.MerchantID, credential payment.ID, token string) error
}

// Run tests an engine. fresh makes an empty place and returns what opens a store there; it may be opened again once it is closed. Stores
// are closed by whoever opened them, or at the end of the test.
func Run(t *testing.T, fresh func(t *testing.T) (open func() Store)) {
	tests := []struct {
		name string
		test func(t *testing.T, open func() Store)
	}{
		{"every field of a payment comes back", testPaymentRoundTrip},
		{"every field of an operation comes back", testOperationRoundTrip},
		{"every field of a first attempt comes back", testFirstRoundTrip},
		{"what is not there is not found", testNotFound},
		{"rows are inserted once", testInsertTwice},
		{"of many inserts of one key one wins", testKeyRace},
		{"a key is moved from what it stood for", testUpdateKey},
		{"a stale version loses", testVersions},
		{"an error leaves nothing behind", testRollback},
		{"a panic leaves nothing behind and reaches the caller", testPanic},
		{"a failed statement fails its transaction", testFailedStatement},
		{"rows that break an invariant are refused", testInvariants},
		{"a conflict is run again, but not for ever", testConflict},
		{"a reader sees one state", testConsistentRead},
		{"an ended context begins nothing", testContext},
		{"due work comes oldest first", testDue},
		{"what waits at an acquirer can be hastened", testHasten},
		{"of two who claim one wins", testClaimRace},
		{"only the living claim, and only what is due", testClaim},
		{"work of the dead is taken over", testTakeover},
		{"an attempt stored in hand is found when it is late", testInHand},
		{"an attempt stored in hand is found when its process is dead", testInHandOfTheDead},
		{"blocks never overlap", testBlocks},
		{"each operation is posted once, in balance", testLedger},
		{"a credential leads to its caller", testCaller},
		{"public ids are unique", testUnique},
		{"wrong rows name their field", testFields},
		{"lists go on after an ID", testLists},
		{"an answer is kept where its key still stands", testKeepAnswer},
		{"an open payment is amended", testAmend},
		{"an operation is found by its own ID", testOperationByID},
		{"lists come in pages, the newest first", testPages},
		{"the newest token of a client is known", testNewestToken},
		{"a notice is owed until it is settled", testNotices},
		{"of many who claim a notice one gets it", testNoticeRace},
		{"notices are found host by host", testNoticeHosts},
		{"a notice goes with its transaction", testNoticeRollback},
		{"webhooks come and go", testWebhooks},
		{"card numbers are wiped in time", testPurgeCards},
		{"keys, PIN keys and notices are forgotten in time", testPurgeRows},
		{"an identity leads to its terminal", testIdentity},
		{"identities of one terminal are listed", testIdentities},
		{"names of terminals are unique within their protocol", testIdentityNames},
		{"an activation code is used as often as it may be", testCodes},
		{"a key is rotated and the last one kept", testRotate},
		{"the newest PIN keys are kept", testPINKeys},
		{"numbers are handed out once", testNumbers},
		{"vendors and settings are kept", testVendors},
		{"what was stored is there after a restart", testReopen},
		{"random transactions agree with a model", testModel},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			open := fresh(t)
			tt.test(t, func() Store {
				s := open()
				t.Cleanup(func() {
					if err := s.Close(); err != nil {
						t.Errorf("close: %v", err)
					}
				})
				return s
			})
		})
	}
}

// tb is what a helper needs of a test, be it of testing or of rapid.
type tb interface {
	Helper()
	Context() context.Context
	Error(args ...any)
	Errorf(format string, args ...any)
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

var (
	aud = money.MustCurrency("AUD")
	// then is a time of the tests, in whole milliseconds as stores keep them.
	then = time.Date(2026, 4, 14, 9, 30, 0, 123e6, time.UTC)
)

const merchant payment.MerchantID = 4711

func newPayment(id payment.ID) payment.Payment {
	return payment.Payment{Merchant: merchant, ID: id, State: payment.Open, Amount: money.New(100_00, aud), CreatedAt: then}
}

func newOperation(p payment.Payment, id payment.ID) payment.Operation {
	return payment.Operation{Merchant: p.Merchant, Payment: p.ID, ID: id, Kind: payment.Sale, State: payment.Sent, Amount: p.Amount,
		Acquirer: "wallet", CreatedAt: then}
}

// inTx runs fn in a transaction that must succeed.
func inTx(t tb, s Store, fn func(payment.Tx) error) {
	t.Helper()
	if err := s.InTx(t.Context(), fn); err != nil {
		t.Fatalf("transaction: %v", err)
	}
}

// insert stores a payment and operations of it, the first attempt with the payment.
func insert(t tb, s Store, p payment.Payment, ops ...payment.Operation) {
	t.Helper()
	var first *payment.Operation
	if at := slices.IndexFunc(ops, func(o payment.Operation) bool { return o.ID == p.ID }); at >= 0 {
		o := ops[at]
		first, ops = &o, slices.Delete(slices.Clone(ops), at, at+1)
	}
	inTx(t, s, func(tx payment.Tx) error {
		if err := tx.InsertPayment(&p, first); err != nil {
			return err
		}
		for _, o := range ops {
			if err := tx.InsertOperation(&o); err != nil {
				return err
			}
		}
		return nil
	})
}

func wantError(t tb, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: got error %v, want %v", what, got, want)
	}
}

func equal[T any](t tb, what string, got, want T) {
	t.Helper()
	if d := cmp.Diff(want, got, cmp.Comparer(func(a, b money.Amount) bool { return a == b }),
		cmpopts.IgnoreUnexported(terminal.Entry{})); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func testNotFound(t *testing.T, open func() Store) {
	s := open()
	insert(t, s, newPayment(1))
	err := s.Read(t.Context(), func(r payment.Reader) error {
		_, err := r.Key(merchant, payment.Key{Scope: "s", Key: "k"})
		wantError(t, "key", err, payment.ErrNotFound)
		_, err = r.Payment(merchant+1, 1)
		wantError(t, "payment of another merchant", err, payment.ErrNotFound)
		_, err = r.Operation(merchant, 1, 1)
		wantError(t, "operation", err, payment.ErrNotFound)
		_, err = r.Merchant(merchant)
		wantError(t, "merchant", err, payment.ErrNotFound)
		_, err = r.Caller("upp", make([]byte, 32))
		wantError(t, "caller", err, payment.ErrNotFound)
		ops, err := r.Operations(merchant, 1)
		if err != nil || len(ops) != 0 {
			t.Errorf("operations: got %v, %v, want none", ops, err)
		}
		sums, err := r.Balances(merchant)
		if err != nil || len(sums) != 0 {
			t.Errorf("balances: got %v, %v, want none", sums, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func testInsertTwice(t *testing.T, open func() Store) {
	s := open()
	p := newPayment(1)
	o := newOperation(p, 1)
	insert(t, s, p, o)
	wantError(t, "payment", s.InTx(t.Context(), func(tx payment.Tx) error { return tx.InsertPayment(&p, nil) }), payment.ErrConflict)
	wantError(t, "operation", s.InTx(t.Context(), func(tx payment.Tx) error { return tx.InsertOperation(&o) }), payment.ErrConflict)
}

func testKeyRace(t *testing.T, open func() Store) {
	const tills, keys = 8, 20
	s := open()
	for k := range keys {
		key := payment.Key{Scope: "order", Key: fmt.Sprint(k)}
		var wg sync.WaitGroup
		var wins [tills]bool
		var rows [tills]payment.KeyRow
		for i := range tills {
			wg.Go(func() {
				row := payment.KeyRow{Merchant: merchant, Key: key, MAC: []byte{byte(i), 0xff}, Payment: payment.ID(i + 1)}
				err := s.InTx(t.Context(), func(tx payment.Tx) (err error) {
					rows[i], wins[i], err = tx.InsertKey(row)
					return err
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		winner := -1
		for i, won := range wins {
			if won && winner >= 0 {
				t.Fatalf("key %d: both %d and %d won", k, winner, i)
			}
			if won {
				winner = i
			}
		}
		if winner < 0 {
			t.Fatalf("key %d: nobody won", k)
		}
		for i := range tills {
			equal(t, fmt.Sprintf("key %d as %d saw it", k, i), rows[i], payment.KeyRow{Merchant: merchant, Key: key,
				MAC: []byte{byte(winner), 0xff}, Payment: payment.ID(winner + 1)})
		}
	}
}

func testUpdateKey(t *testing.T, open func() Store) {
	s := open()
	key := payment.Key{Scope: "order", Key: "1"}
	closed := payment.KeyRow{Merchant: merchant, Key: key, ClosedTo: then, FreeAt: then.Add(time.Hour), Answer: []byte("{}")}
	taken := payment.KeyRow{Merchant: merchant, Key: key, MAC: []byte{1}, Payment: 5, Operation: 6, FreeAt: then.Add(time.Minute), Answer: []byte("[]")}
	inTx(t, s, func(tx payment.Tx) error {
		if _, fresh, err := tx.InsertKey(closed); err != nil || !fresh {
			return fmt.Errorf("insert: fresh %t, %w", fresh, err)
		}
		return tx.UpdateKey(closed, taken)
	})
	err := s.InTx(t.Context(), func(tx payment.Tx) error { return tx.UpdateKey(closed, taken) })
	wantError(t, "update of what the key stood for once", err, payment.ErrStoreConflict)
	inTx(t, s, func(tx payment.Tx) error {
		got, err := tx.Key(merchant, key)
		equal(t, "key", got, taken)
		return err
	})
}

func testVersions(t *testing.T, open func() Store) {
	s := open()
	p := newPayment(1)
	p.Version = 7
	o := newOperation(p, 2)
	insert(t, s, p, o)
	stale, staleOp := p, o
	inTx(t, s, func(tx payment.Tx) error {
		q, op := p, o
		if err := tx.UpdatePayment(&q, nil); err != nil {
			return err
		}
		if err := tx.UpdateOperation(&op); err != nil {
			return err
		}
		if q.Version != 8 || op.Version != 1 {
			t.Errorf("versions: got %d and %d, want 8 and 1", q.Version, op.Version)
		}
		q.Captured = 5
		return tx.UpdatePayment(&q, nil) // The version that was raised in place is the one to go on with.
	})
	err := s.InTx(t.Context(), func(tx payment.Tx) error { q := stale; return tx.UpdatePayment(&q, nil) })
	wantError(t, "stale payment", err, payment.ErrStoreConflict)
	err = s.InTx(t.Context(), func(tx payment.Tx) error { q := staleOp; return tx.UpdateOperation(&q) })
	wantError(t, "stale operation", err, payment.ErrStoreConflict)
	testFirstVersions(t, s)

	// Of many who read the same version, one writes it.
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for range 16 {
		wg.Go(func() {
			err := s.InTx(t.Context(), func(tx payment.Tx) error { q := p; q.Version = 9; return tx.UpdatePayment(&q, nil) })
			if err != nil && !errors.Is(err, payment.ErrStoreConflict) {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won++
			}
		})
	}
	wg.Wait()
	if won != 1 {
		t.Errorf("%d of 16 wrote one version, want 1", won)
	}
}

// testFirstVersions is about the versions of a first attempt and of its payment: each fences its own, and both what is written at once.
func testFirstVersions(t *testing.T, s Store) {
	p := newPayment(3)
	p.Version = 5
	o := newOperation(p, 3)
	insert(t, s, p, o)
	update := func(p payment.Payment, o *payment.Operation) error {
		return s.InTx(t.Context(), func(tx payment.Tx) error { return tx.UpdatePayment(&p, o) })
	}
	alone := func(o payment.Operation) error {
		return s.InTx(t.Context(), func(tx payment.Tx) error { return tx.UpdateOperation(&o) })
	}
	wantVersions := func(payment, operation int64) {
		t.Helper()
		p.Version, o.Version = payment, operation
		checkPayment(t, s, p)
		checkOperation(t, s, o)
	}
	inTx(t, s, func(tx payment.Tx) error {
		q, first := p, o
		err := tx.UpdatePayment(&q, &first)
		if q.Version != 6 || first.Version != 1 {
			t.Errorf("versions: got %d and %d, want 6 and 1", q.Version, first.Version)
		}
		return err
	})
	stalePayment, staleFirst := p, o
	wantVersions(6, 1)
	if err := update(p, nil); err != nil {
		t.Error(err)
	}
	wantVersions(7, 1)
	if err := alone(o); err != nil {
		t.Error(err)
	}
	wantVersions(7, 2)
	fresh := o
	wantError(t, "stale payment", update(stalePayment, &fresh), payment.ErrStoreConflict)
	wantError(t, "stale first attempt", update(p, &staleFirst), payment.ErrStoreConflict)
	wantError(t, "stale first attempt alone", alone(staleFirst), payment.ErrStoreConflict)
	none := newPayment(4)
	insert(t, s, none)
	missing := newOperation(none, 4)
	wantError(t, "a first attempt that is not there", update(none, &missing), payment.ErrStoreConflict)
	wantError(t, "a first attempt alone that is not there", alone(missing), payment.ErrStoreConflict)
	wantVersions(7, 2)
}

func testRollback(t *testing.T, open func() Store) {
	s := open()
	no := errors.New("no")
	err := s.InTx(t.Context(), func(tx payment.Tx) error {
		p := newPayment(1)
		if err := tx.InsertPayment(&p, nil); err != nil {
			return err
		}
		if _, _, err := tx.InsertKey(payment.KeyRow{Merchant: merchant, Key: payment.Key{Scope: "a", Key: "b"}}); err != nil {
			return err
		}
		return no
	})
	wantError(t, "transaction", err, no)
	empty(t, s)
}

// empty checks that payment 1 and key a/b are not there.
func empty(t *testing.T, s Store) {
	t.Helper()
	err := s.Read(t.Context(), func(r payment.Reader) error {
		_, err := r.Payment(merchant, 1)
		wantError(t, "payment", err, payment.ErrNotFound)
		_, err = r.Key(merchant, payment.Key{Scope: "a", Key: "b"})
		wantError(t, "key", err, payment.ErrNotFound)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func testPanic(t *testing.T, open func() Store) {
	s := open()
	func() {
		defer func() {
			if got := recover(); got != "ouch" {
				t.Errorf("got panic %v, want ouch", got)
			}
		}()
		_ = s.InTx(t.Context(), func(tx payment.Tx) error {
			p := newPayment(1)
			if err := tx.InsertPayment(&p, nil); err != nil {
				return err
			}
			panic("ouch")
		})
	}()
	func() {
		defer func() {
			if got := recover(); got != "read" {
				t.Errorf("got panic %v, want read", got)
			}
		}()
		_ = s.Read(t.Context(), func(payment.Reader) error { panic("read") })
	}()
	empty(t, s)
	insert(t, s, newPayment(1))
}

func testFailedStatement(t *testing.T, open func() Store) {
	s := open()
	err := s.InTx(t.Context(), func(tx payment.Tx) error {
		p := newPayment(1)
		if err := tx.InsertPayment(&p, nil); err != nil {
			return err
		}
		p.Captured = -1
		_ = tx.UpdatePayment(&p, nil) // Overlooked.
		return nil
	})
	if err == nil {
		t.Error("got no error, want that of the statement that was overlooked")
	}
	empty(t, s)
}

func testInvariants(t *testing.T, open func() Store) {
	s := open()
	p := newPayment(1)
	p.Captured, p.Reserved, p.Refunded = 50_00, 20_00, 10_00
	insert(t, s, p, newOperation(p, 1))
	payments := map[string]func(*payment.Payment){
		"captured below zero":         func(p *payment.Payment) { p.Captured = -1 },
		"captured above the amount":   func(p *payment.Payment) { p.Captured = 100_01 },
		"reserved above captured":     func(p *payment.Payment) { p.Reserved = 50_01 },
		"refunded above reserved":     func(p *payment.Payment) { p.Refunded = 20_01 },
		"refunded below zero":         func(p *payment.Payment) { p.Refunded = -1 },
		"fee below zero":              func(p *payment.Payment) { p.Fee = -1 },
		"tip above the amount":        func(p *payment.Payment) { p.Tip = 100_01 },
		"a state that does not exist": func(p *payment.Payment) { p.State = "paid" },
	}
	for name, spoil := range payments {
		err := s.InTx(t.Context(), func(tx payment.Tx) error {
			q := p
			spoil(&q)
			return tx.UpdatePayment(&q, nil)
		})
		if err == nil || errors.Is(err, payment.ErrStoreConflict) {
			t.Errorf("%s: got %v, want a refusal", name, err)
		}
	}
	operations := map[string]func(*payment.Operation){
		"no payment":                  func(o *payment.Operation) { o.Payment = 2 },
		"no currency":                 func(o *payment.Operation) { o.Amount = money.Amount{} },
		"a kind that does not exist":  func(o *payment.Operation) { o.Kind = "tip" },
		"a state that does not exist": func(o *payment.Operation) { o.State = "paid" },
	}
	for name, spoil := range operations {
		err := s.InTx(t.Context(), func(tx payment.Tx) error {
			o := newOperation(p, 3)
			spoil(&o)
			return tx.InsertOperation(&o)
		})
		if err == nil || errors.Is(err, payment.ErrConflict) {
			t.Errorf("%s: got %v, want a refusal", name, err)
		}
	}
	// What could not be kept in the payment's row is refused there, instead of lost.
	firsts := map[string]func(*payment.Operation){
		"of another payment":          func(o *payment.Operation) { o.Payment = 1 },
		"of another merchant":         func(o *payment.Operation) { o.Merchant++ },
		"another ID":                  func(o *payment.Operation) { o.ID = 9 },
		"a target":                    func(o *payment.Operation) { o.Target = 1 },
		"a key":                       func(o *payment.Operation) { o.Key.Key = "k" },
		"a round":                     func(o *payment.Operation) { o.Round = 1 },
		"the rest":                    func(o *payment.Operation) { o.Rest = true },
		"an echo":                     func(o *payment.Operation) { o.Echo = []byte("{}") },
		"no currency":                 func(o *payment.Operation) { o.Amount = money.Amount{} },
		"a kind that is no attempt":   func(o *payment.Operation) { o.Kind = payment.Refund },
		"no kind":                     func(o *payment.Operation) { o.Kind = "" },
		"no state":                    func(o *payment.Operation) { o.State = "" },
		"a state that does not exist": func(o *payment.Operation) { o.State = "paid" },
	}
	for name, spoil := range firsts {
		other := newPayment(5)
		o := newOperation(other, 5)
		spoil(&o)
		err := s.InTx(t.Context(), func(tx payment.Tx) error {
			_ = tx.InsertPayment(&other, &o) // Overlooked.
			return nil
		})
		if err == nil {
			t.Errorf("first attempt with %s was stored", name)
		}
		err = s.InTx(t.Context(), func(tx payment.Tx) error {
			_, err := tx.Payment(merchant, 5)
			wantError(t, "payment whose first attempt was refused", err, payment.ErrNotFound)
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	inTx(t, s, func(tx payment.Tx) error {
		got, err := tx.Payment(merchant, 1)
		equal(t, "payment after all that", got, p)
		return err
	})
}

func testConflict(t *testing.T, open func() Store) {
	s := open()
	runs := 0
	inTx(t, s, func(tx payment.Tx) error {
		p := newPayment(1)
		if err := tx.InsertPayment(&p, nil); err != nil {
			return err // Unless the run before was undone.
		}
		if runs++; runs < 3 {
			return fmt.Errorf("lost: %w", payment.ErrStoreConflict)
		}
		return nil
	})
	if runs != 3 {
		t.Errorf("got %d runs, want 3", runs)
	}
	runs = 0
	err := s.InTx(t.Context(), func(payment.Tx) error { runs++; return payment.ErrStoreConflict })
	wantError(t, "a closure that always loses", err, payment.ErrStoreConflict)
	if runs < 2 || runs > 100 {
		t.Errorf("got %d runs, want a few", runs)
	}
}

func testConsistentRead(t *testing.T, open func() Store) {
	s := open()
	insert(t, s, newPayment(1))
	insert(t, s, newPayment(2))
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			// Both payments change together, so no reader may see them differ.
			err := s.InTx(t.Context(), func(tx payment.Tx) error {
				for id := payment.ID(1); id <= 2; id++ {
					p, err := tx.Payment(merchant, id)
					if err != nil {
						return err
					}
					if err := tx.UpdatePayment(&p, nil); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				t.Error(err)
				return
			}
		}
	})
	for range 200 {
		err := s.Read(t.Context(), func(r payment.Reader) error {
			a, err := r.Payment(merchant, 1)
			if err != nil {
				return err
			}
			b, err := r.Payment(merchant, 2)
			if a.Version != b.Version {
				t.Errorf("one read saw versions %d and %d", a.Version, b.Version)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	stop()
	wg.Wait()
}

func testContext(t *testing.T, open func() Store) {
	s := open()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := s.InTx(ctx, func(payment.Tx) error { t.Error("the closure ran"); return nil })
	wantError(t, "transaction", err, context.Canceled)
	err = s.Read(ctx, func(payment.Reader) error { t.Error("the closure ran"); return nil })
	wantError(t, "read", err, context.Canceled)
	if err := s.Check(t.Context()); err != nil {
		t.Errorf("check: %v", err)
	}
}

// listDue is what Due lists.
func listDue(t *testing.T, s Store, now time.Time, limit int) ([]payment.Owed, time.Time) {
	t.Helper()
	list, next, err := s.Due(t.Context(), now, limit)
	if err != nil {
		t.Fatal(err)
	}
	return list, next
}

func testDue(t *testing.T, open func() Store) {
	s := open()
	due := func(p payment.ID, after time.Duration) payment.Payment {
		q := newPayment(p)
		q.DueAt = then.Add(after)
		return q
	}
	dueOp := func(p, id payment.ID, after time.Duration) payment.Operation {
		o := newOperation(newPayment(p), id)
		o.DueAt = then.Add(after)
		return o
	}
	check := func(limit int, at time.Duration, next time.Time, want ...payment.Owed) {
		t.Helper()
		got, gotNext := listDue(t, s, then.Add(at), limit)
		equal(t, fmt.Sprintf("due after %s", at), got, append([]payment.Owed{}, want...))
		equal(t, fmt.Sprintf("next after %s", at), gotNext, next)
	}
	check(10, 0, time.Time{})
	insert(t, s, newPayment(1), dueOp(1, 1, 3*time.Second), dueOp(1, 2, time.Second))
	insert(t, s, due(2, 2*time.Second))
	insert(t, s, due(3, 4*time.Second))
	insert(t, s, newPayment(4), newOperation(newPayment(4), 4)) // Owes nothing.
	owed := func(p, o payment.ID) payment.Owed { return payment.Owed{Merchant: merchant, Payment: p, Operation: o} }
	check(10, 0, then.Add(time.Second))
	check(10, 3*time.Second-time.Millisecond, then.Add(3*time.Second), owed(1, 2), owed(2, 0))
	check(10, 3*time.Second, then.Add(4*time.Second), owed(1, 2), owed(2, 0), owed(1, 1))
	check(2, time.Minute, time.Time{}, owed(1, 2), owed(2, 0))
	check(10, time.Minute, time.Time{}, owed(1, 2), owed(2, 0), owed(1, 1), owed(3, 0))

	// What is in hand is due again only when its time is over.
	me, err := s.Enlist(t.Context(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if !claim(t, s, 1, 2, me, then.Add(time.Minute), then.Add(2*time.Minute)) {
		t.Fatal("claim failed")
	}
	check(10, time.Minute, then.Add(2*time.Minute), owed(2, 0), owed(1, 1), owed(3, 0))
	check(1, 2*time.Minute, time.Time{}, owed(2, 0))
	check(10, 2*time.Minute, time.Time{}, owed(2, 0), owed(1, 1), owed(3, 0), owed(1, 2))
	if !claim(t, s, 1, 1, me, then.Add(time.Minute), then.Add(3*time.Minute)) {
		t.Fatal("claim of the first attempt failed")
	}
	check(10, 2*time.Minute, then.Add(3*time.Minute), owed(2, 0), owed(3, 0), owed(1, 2))
	check(10, 3*time.Minute, time.Time{}, owed(2, 0), owed(3, 0), owed(1, 2), owed(1, 1))
}

// Only what waits, at this acquirer, later than now, and in nobody's hand is moved.
func testHasten(t *testing.T, open func() Store) {
	s := open()
	me := enlist(t, s, time.Hour)
	rows := []struct {
		state    payment.OperationState
		acquirer string
		after    time.Duration
		claimed  bool
	}{
		{payment.Waiting, "wallet", time.Hour, false},
		{payment.Waiting, "wallet", 2 * time.Second, false}, // Due before, and stays so.
		{payment.Waiting, "elsewhere", time.Hour, false},
		{payment.Unknown, "wallet", time.Hour, false},
		{payment.Waiting, "wallet", 0, true},
	}
	var want []payment.Owed
	for i, row := range rows {
		p := newPayment(payment.ID(i + 1))
		var ops []payment.Operation
		for _, id := range []payment.ID{p.ID, p.ID + 10} { // The first attempt, and a later one.
			o := newOperation(p, id)
			o.State, o.Acquirer, o.DueAt = row.state, row.acquirer, then.Add(row.after)
			ops = append(ops, o)
			if i < 2 {
				want = append(want, payment.Owed{Merchant: merchant, Payment: p.ID, Operation: id})
			}
		}
		insert(t, s, p, ops...)
		for _, o := range ops {
			if row.claimed && !claim(t, s, p.ID, o.ID, me, then, then.Add(time.Hour)) {
				t.Fatal("claim failed")
			}
		}
	}
	now := then.Add(10 * time.Second)
	if err := s.Hasten(t.Context(), "wallet", now); err != nil {
		t.Fatal(err)
	}
	got, next := listDue(t, s, now, 10)
	equal(t, "due", byOperation(got), byOperation(want))
	equal(t, "next", next, then.Add(time.Hour))
}

// byOperation sorts what is owed by the ID of the operation.
func byOperation(list []payment.Owed) []payment.Owed {
	slices.SortFunc(list, func(a, b payment.Owed) int { return int(a.Operation - b.Operation) })
	return list
}

func claim(t *testing.T, s Store, of, id payment.ID, incarnation int64, now, until time.Time) bool {
	t.Helper()
	var ok bool
	inTx(t, s, func(tx payment.Tx) (err error) {
		ok, err = tx.ClaimOperation(merchant, of, id, incarnation, now, until)
		return err
	})
	return ok
}

func enlist(t *testing.T, s Store, lease time.Duration) int64 {
	t.Helper()
	n, err := s.Enlist(t.Context(), lease)
	if err != nil {
		t.Fatal(err)
	}
	if n <= 0 {
		t.Fatalf("incarnation %d, want above 0", n)
	}
	return n
}

// die waits until an incarnation's lease has run out.
func die(t *testing.T, s Store, incarnation int64) {
	t.Helper()
	for {
		err := s.Renew(t.Context(), incarnation, time.Millisecond)
		if errors.Is(err, payment.ErrNotFound) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// takeOver begins another life, which takes over what dead ones had in hand, and returns a time at which that is due.
func takeOver(t *testing.T, s Store) (int64, time.Time) {
	t.Helper()
	me := enlist(t, s, time.Hour)
	if err := s.Renew(t.Context(), me, time.Hour); err != nil {
		t.Fatal(err)
	}
	return me, time.Now().Add(time.Second) // A second lies between the clocks of this process and of the database.
}

func testClaimRace(t *testing.T, open func() Store) {
	s := open()
	a, b := enlist(t, s, time.Hour), enlist(t, s, time.Hour)
	if a == b {
		t.Fatalf("two incarnations are %d", a)
	}
	for id := payment.ID(1); id <= 20; id++ {
		p := newPayment(id)
		o := newOperation(p, id)
		o.DueAt = then
		insert(t, s, p, o)
		var wg sync.WaitGroup
		var won [2]bool
		for i, incarnation := range []int64{a, b} {
			wg.Go(func() {
				err := s.InTx(t.Context(), func(tx payment.Tx) (err error) {
					won[i], err = tx.ClaimOperation(merchant, id, id, incarnation, then, then.Add(time.Minute))
					return err
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if won[0] == won[1] {
			t.Fatalf("operation %d: got claims %v, want one to win", id, won)
		}
	}
}

func testClaim(t *testing.T, open func() Store) {
	s := open()
	for of, id := range map[payment.ID]payment.ID{1: 1, 2: 20} { // A first attempt, and another operation.
		me := enlist(t, s, time.Hour)
		p := newPayment(of)
		o, idle := newOperation(p, id), newOperation(p, of+100)
		o.DueAt = then
		insert(t, s, p, o, idle)
		later, muchLater := then.Add(time.Minute), then.Add(time.Hour)
		if claim(t, s, of, id, me, then.Add(-time.Millisecond), later) {
			t.Error("claimed what is not due yet")
		}
		if claim(t, s, of, idle.ID, me, muchLater, muchLater) {
			t.Error("claimed what owes nothing")
		}
		if claim(t, s, of, of+200, me, muchLater, muchLater) || claim(t, s, of+200, of+200, me, muchLater, muchLater) {
			t.Error("claimed what is not there")
		}
		if claim(t, s, of, id, me+1000, then, later) {
			t.Error("claimed by an incarnation that was never enlisted")
		}
		if !claim(t, s, of, id, me, then, later) {
			t.Fatal("could not claim")
		}
		want := o
		want.Owner, want.DueAt, want.Tries, want.Version = me, later, 1, 1
		checkOperation(t, s, want)
		checkPayment(t, s, p)
		if claim(t, s, of, id, me, then, muchLater) {
			t.Error("claimed what is in hand")
		}
		if !claim(t, s, of, id, me, later, muchLater) {
			t.Error("could not claim again what I had in hand and did not finish")
		}
		if err := s.Retire(t.Context(), me); err != nil {
			t.Fatal(err)
		}
		if claim(t, s, of, id, me, muchLater, muchLater) {
			t.Error("claimed by a retired incarnation")
		}
		wantError(t, "renew of a retired incarnation", s.Renew(t.Context(), me, time.Hour), payment.ErrNotFound)
	}
}

func checkOperation(t *testing.T, s Store, want payment.Operation) {
	t.Helper()
	err := s.Read(t.Context(), func(r payment.Reader) error {
		got, err := r.Operation(want.Merchant, want.Payment, want.ID)
		equal(t, fmt.Sprintf("operation %d", want.ID), got, want)
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func testTakeover(t *testing.T, open func() Store) {
	s := open()
	a := enlist(t, s, 10*time.Second)
	p := newPayment(1)
	first, other, rest := newOperation(p, 1), newOperation(p, 2), newOperation(p, 3)
	first.DueAt, other.DueAt = then, then
	rest.DueAt = time.Now().Add(time.Hour).Truncate(time.Millisecond).UTC() // In nobody's hands: its time stays.
	insert(t, s, p, first, other, rest)
	restFirst := newPayment(4)
	free := newOperation(restFirst, 4)
	free.DueAt = rest.DueAt.Add(time.Hour)
	insert(t, s, restFirst, free)
	for id := payment.ID(1); id <= 2; id++ {
		if !claim(t, s, 1, id, a, then, time.Now().Add(time.Hour)) {
			t.Fatal("could not claim")
		}
	}
	die(t, s, a)
	b, now := takeOver(t, s)
	got, next := listDue(t, s, now, 10)
	equal(t, "due", byOperation(got), []payment.Owed{{Merchant: merchant, Payment: 1, Operation: 1}, {Merchant: merchant, Payment: 1, Operation: 2}})
	equal(t, "next", next, rest.DueAt)
	checkOperation(t, s, rest)
	checkOperation(t, s, free)
	for _, o := range []payment.Operation{first, other} {
		if claim(t, s, 1, o.ID, a, now, now) {
			t.Error("claimed by the dead")
		}
		if !claim(t, s, 1, o.ID, b, now, now.Add(time.Minute)) {
			t.Error("could not take over")
		}
		// The dead one wakes up and writes what it knows.
		o.Owner, o.Tries, o.Version = a, 1, 1
		err := s.InTx(t.Context(), func(tx payment.Tx) error { q := o; return tx.UpdateOperation(&q) })
		wantError(t, "write of the dead", err, payment.ErrStoreConflict)
	}
	err := s.InTx(t.Context(), func(tx payment.Tx) error { q, o := p, first; o.Version = 1; return tx.UpdatePayment(&q, &o) })
	wantError(t, "write of the dead, with the payment", err, payment.ErrStoreConflict)
	checkPayment(t, s, p)
}

// insertInHand stores payments whose first attempts somebody has in hand, all but the one that is answered in the meantime.
func insertInHand(t *testing.T, s Store, owner int64, until time.Time) (held payment.Operation) {
	t.Helper()
	for id := payment.ID(1); id <= 2; id++ {
		p := newPayment(id)
		o := newOperation(p, id)
		o.Owner, o.DueAt, o.State = owner, until, payment.Sent
		insert(t, s, p, o)
		checkOperation(t, s, o)
		if id == 2 {
			o.Owner, o.DueAt, o.State = 0, time.Time{}, payment.Approved
			inTx(t, s, func(tx payment.Tx) error { q := o; return tx.UpdatePayment(&p, &q) })
		} else {
			held = o
		}
	}
	return held
}

// testInHand stores an attempt in the hands of one that lives on but never says what came of it.
func testInHand(t *testing.T, open func() Store) {
	s := open()
	me := enlist(t, s, time.Hour)
	late := then.Add(time.Minute)
	held := insertInHand(t, s, me, late)
	renew := func() { // It is found once its term is over, for as long as the lease is renewed again.
		t.Helper()
		for range 2 {
			if err := s.Renew(t.Context(), me, time.Hour); err != nil {
				t.Fatal(err)
			}
		}
	}
	renew()
	checkOperation(t, s, held) // Still mine, at the same version: its answer may yet come.
	check := func(at, wantNext time.Time, want ...payment.Owed) {
		t.Helper()
		got, next := listDue(t, s, at, 10)
		equal(t, "due", got, append([]payment.Owed{}, want...))
		equal(t, "next", next, wantNext)
	}
	check(late.Add(-time.Millisecond), late)
	check(late, time.Time{}, payment.Owed{Merchant: merchant, Payment: 1, Operation: 1})
	if !claim(t, s, 1, 1, me, late, late.Add(time.Minute)) {
		t.Fatal("could not claim what I had in hand")
	}
	check(late, late.Add(time.Minute))

	store := func(id payment.ID) {
		t.Helper()
		p := newPayment(id)
		o := newOperation(p, id)
		o.Owner, o.DueAt = me, late
		insert(t, s, p, o)
	}
	// A later term is as good as the first.
	store(4)
	renew()
	check(late, late.Add(time.Minute), payment.Owed{Merchant: merchant, Payment: 4, Operation: 4})
	if !claim(t, s, 4, 4, me, late, late.Add(time.Minute)) {
		t.Fatal("could not claim what I had in hand in a later term")
	}

	// One that has retired has no term: what is stored in its name is found at once.
	if err := s.Retire(t.Context(), me); err != nil {
		t.Fatal(err)
	}
	store(3)
	check(late, late.Add(time.Minute), payment.Owed{Merchant: merchant, Payment: 3, Operation: 3})
}

func testInHandOfTheDead(t *testing.T, open func() Store) {
	s := open()
	const short = time.Second
	dead := enlist(t, s, short)
	born := time.Now()
	held := insertInHand(t, s, dead, born.Add(time.Hour).Truncate(time.Millisecond).UTC())
	time.Sleep(time.Until(born.Add(short + 20*time.Millisecond)))
	me, now := takeOver(t, s)
	got, next := listDue(t, s, now, 10)
	equal(t, "due", got, []payment.Owed{{Merchant: merchant, Payment: 1, Operation: 1}})
	equal(t, "next", next, time.Time{})
	err := s.InTx(t.Context(), func(tx payment.Tx) error { q := held; return tx.UpdateOperation(&q) })
	wantError(t, "write of the dead", err, payment.ErrStoreConflict)
	if !claim(t, s, 1, 1, me, now, now.Add(time.Minute)) {
		t.Error("could not take over")
	}
}

func testBlocks(t *testing.T, open func() Store) {
	s := open()
	type block struct{ first, size payment.ID }
	var blocks []block
	take := func() {
		var mu sync.Mutex
		var wg sync.WaitGroup
		for i := range 16 {
			wg.Go(func() {
				size := payment.ID(1 + i*7)
				first, err := s.Block(t.Context(), int64(size))
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				blocks = append(blocks, block{first, size})
			})
		}
		wg.Wait()
	}
	take()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open()
	take()
	slices.SortFunc(blocks, func(a, b block) int { return int(a.first - b.first) })
	if blocks[0].first < 1 {
		t.Errorf("first ID %d, want above 0", blocks[0].first)
	}
	for i := 1; i < len(blocks); i++ {
		if before := blocks[i-1]; before.first+before.size > blocks[i].first {
			t.Errorf("blocks %v and %v overlap", before, blocks[i])
		}
	}
	for _, size := range []int64{0, -1, 1 << 40} {
		_, err := s.Block(t.Context(), size)
		wantError(t, fmt.Sprintf("block of %d", size), err, payment.ErrInvalid)
	}
}

func testLedger(t *testing.T, open func() Store) {
	s := open()
	p := newPayment(1)
	sale, refund := newOperation(p, 1), newOperation(p, 2)
	insert(t, s, p, sale, refund)
	capture, err := ledger.Capture(p.Amount, 5_00, 1_40)
	if err != nil {
		t.Fatal(err)
	}
	back, err := ledger.Refund(money.New(30_00, aud))
	if err != nil {
		t.Fatal(err)
	}
	inTx(t, s, func(tx payment.Tx) error {
		return errors.Join(tx.Post(&sale, capture, then), tx.Post(&refund, back, then))
	})
	wantError(t, "a second entry", s.InTx(t.Context(), func(tx payment.Tx) error { return tx.Post(&sale, capture, then) }), payment.ErrConflict)

	yen := newPayment(2)
	yen.Amount = money.New(500, money.MustCurrency("JPY"))
	o := newOperation(yen, 3)
	insert(t, s, yen, o)
	crooked := ledger.Entry{Currency: yen.Amount.Currency(), Postings: ledger.Postings{Receivable: 500, Payable: -499}}
	if err := s.InTx(t.Context(), func(tx payment.Tx) error { return tx.Post(&o, crooked, then) }); err == nil {
		t.Error("an unbalanced entry was stored")
	}
	nothing := newOperation(yen, 99)
	straight := ledger.Entry{Currency: yen.Amount.Currency(), Postings: ledger.Postings{Receivable: 500, Payable: -500}}
	if err := s.InTx(t.Context(), func(tx payment.Tx) error { return tx.Post(&nothing, straight, then) }); err == nil {
		t.Error("an entry of an operation that does not exist was stored")
	}
	inTx(t, s, func(tx payment.Tx) error { return tx.Post(&o, straight, then) })
	err = s.Read(t.Context(), func(r payment.Reader) error {
		got, err := r.Balances(merchant)
		equal(t, "balances", got, map[string]ledger.Postings{
			"AUD": {Receivable: 70_00, Payable: -63_60, Fees: -1_40, Tips: -5_00},
			"JPY": {Receivable: 500, Payable: -500},
		})
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func testReopen(t *testing.T, open func() Store) {
	s := open()
	p := newPayment(1)
	o := newOperation(p, 2)
	insert(t, s, p, o)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	err := s.InTx(t.Context(), func(payment.Tx) error { t.Error("the closure ran"); return nil })
	wantError(t, "transaction of a closed store", err, payment.ErrUnavailable)
	err = s.Read(t.Context(), func(payment.Reader) error { t.Error("the closure ran"); return nil })
	wantError(t, "read of a closed store", err, payment.ErrUnavailable)
	s = open()
	checkOperation(t, s, o)
}

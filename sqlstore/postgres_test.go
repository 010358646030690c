package sqlstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/tillgate/tillgate/internal/pgtest"
	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/sqlstore/storetest"
)

// openURL opens a store on PostgreSQL.
func openURL(t *testing.T, url string) *Store {
	t.Helper()
	s, err := Open(t.Context(), Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func pgOf(s *Store) *postgresEngine { return s.engine.(*postgresEngine) }

func TestPostgresContract(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) func() storetest.Store {
		url := pgtest.URL(t)
		return func() storetest.Store {
			s, err := Open(t.Context(), Config{URL: url})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
	})
}

// sale is what takes a payment: a key, and with a new one the payment and its first attempt.
func sale(name string, id payment.ID, seen *payment.KeyRow) func(payment.Tx) error {
	return func(tx payment.Tx) error {
		row := payment.KeyRow{Merchant: 1, Key: payment.Key{Scope: "test", Key: name}, MAC: []byte{1}, Payment: id}
		old, fresh, err := tx.InsertKey(row)
		if *seen = old; err != nil || !fresh {
			return err
		}
		p := payment.Payment{Merchant: 1, ID: id, State: payment.Open, Amount: money.New(100, money.MustCurrency("AUD"))}
		o := payment.Operation{Merchant: 1, Payment: id, ID: id, Kind: payment.Sale, State: payment.Sent, Amount: p.Amount}
		return tx.InsertPayment(&p, &o)
	}
}

// TestEqualKeys sends the same requests from many callers through two stores at once: each key gets one payment, and all see the same.
func TestEqualKeys(t *testing.T) {
	t.Parallel()
	address := pgtest.URL(t)
	stores := []*Store{openURL(t, address), openURL(t, address)}
	const tills, keys = 32, 40
	var ids atomic.Int64
	var seen [keys][tills]payment.KeyRow
	var wg sync.WaitGroup
	for till := range tills {
		wg.Go(func() {
			for _, k := range rand.Perm(keys) {
				id := payment.ID(ids.Add(1))
				if err := stores[till%2].InTx(t.Context(), sale(fmt.Sprint(k), id, &seen[k][till])); err != nil {
					t.Errorf("key %d: %v", k, err)
				}
			}
		})
	}
	wg.Wait()
	for k := range seen {
		for till := range tills {
			if seen[k][till].Payment != seen[k][0].Payment {
				t.Fatalf("key %d: till %d saw payment %d, till 0 saw %d", k, till, seen[k][till].Payment, seen[k][0].Payment)
			}
		}
	}
	counts := column(t, address, `SELECT concat_ws(' ', (SELECT count(*) FROM payment_keys), (SELECT count(*) FROM payments),
(SELECT count(*) FROM operations))`)
	if want := fmt.Sprintf("%d %d %d", keys, keys, keys); counts[0] != want {
		t.Errorf("got %s keys, payments and operations, want %s", counts[0], want)
	}
}

// column is the first column of a query.
func column(t *testing.T, address, query string) []string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context()) //nolint:errcheck // Only the answer matters.
	rows, err := conn.Query(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestPostgresGroupHurtsNobody mixes work that fails in every way with work that does not.
func TestPostgresGroupHurtsNobody(t *testing.T) {
	t.Parallel()
	s := openURL(t, pgtest.URL(t))
	no := errors.New("no")
	const many = 200
	var wg sync.WaitGroup
	for i := range many {
		wg.Go(func() {
			name := fmt.Sprint(i)
			fn := insertKeyed(name)
			var panicked any
			err := func() (err error) {
				defer func() { panicked = recover() }()
				return s.InTx(t.Context(), func(tx payment.Tx) error {
					if err := fn(tx); err != nil {
						return err
					}
					switch i % 10 {
					case 1:
						return no
					case 2:
						panic("ouch")
					case 3: // Not there: a conflict on every try.
						return tx.UpdatePayment(&payment.Payment{Merchant: 1, ID: 1, Amount: money.New(1, money.MustCurrency("AUD"))}, nil)
					case 4: // Refused.
						return tx.InsertPayment(&payment.Payment{Merchant: 1, ID: payment.ID(i), State: "paid", Amount: money.New(1, money.MustCurrency("AUD"))}, nil)
					case 5: // Refused at the commit: there is no such payment.
						return tx.InsertOperation(&payment.Operation{Merchant: 1, Payment: 999, ID: payment.ID(i), Kind: payment.Sale,
							State: payment.Sent, Amount: money.New(1, money.MustCurrency("AUD"))})
					}
					return nil
				})
			}()
			ok := false
			switch i % 10 {
			case 1:
				ok = errors.Is(err, no)
			case 2:
				ok = panicked == "ouch"
			case 3:
				ok = errors.Is(err, payment.ErrStoreConflict)
			case 4, 5:
				ok = errors.Is(err, errRefused)
			default:
				ok = err == nil && panicked == nil
			}
			if !ok {
				t.Errorf("work %d: got %v, panic %v", i, err, panicked)
			}
		})
	}
	wg.Wait()
	for i := range many {
		if got, want := stored(t, s, fmt.Sprint(i)), i%10 == 0 || i%10 > 5; got != want {
			t.Errorf("work %d is stored: got %t, want %t", i, got, want)
		}
	}
	st := s.Stats()
	if st.Broken == 0 || st.Work != many/2 || st.Groups > st.Work || st.Queue != 0 {
		t.Errorf("got stats %+v, want groups, some of them broken, with %d pieces of work", st, many/2)
	}
}

// TestAssumedKey decides something about a key that is there, before the store has looked: what was decided must not be heard of.
func TestAssumedKey(t *testing.T) {
	t.Parallel()
	s := openURL(t, pgtest.URL(t))
	key := payment.KeyRow{Merchant: 1, Key: payment.Key{Scope: "test", Key: "a"}, Payment: 7}
	wantNone(t, s.InTx(t.Context(), func(tx payment.Tx) error {
		_, _, err := tx.InsertKey(key)
		return err
	}))
	again := key
	again.Payment = 8
	for name, end := range map[string]func(fresh bool) error{
		"an error": func(fresh bool) error { return fmt.Errorf("fresh %t", fresh) },
		"a panic":  func(fresh bool) error { panic(fmt.Sprintf("fresh %t", fresh)) },
		"nothing":  func(fresh bool) error { return nil },
	} {
		var fresh bool
		var old payment.KeyRow
		func() {
			defer func() {
				if v := recover(); v != nil && v != "fresh false" {
					t.Errorf("%s: got panic %v", name, v)
				}
			}()
			err := s.InTx(t.Context(), func(tx payment.Tx) (err error) {
				if old, fresh, err = tx.InsertKey(again); err != nil {
					return err
				}
				return end(fresh)
			})
			if err != nil && err.Error() != "fresh false" {
				t.Errorf("%s: got %v", name, err)
			}
		}()
		if fresh || old.Payment != 7 {
			t.Errorf("%s: got fresh %t and payment %d, want what is stored", name, fresh, old.Payment)
		}
	}
}

// TestCrashUnderLoad stops the server as a crash does while callers write, and starts it again.
func TestCrashUnderLoad(t *testing.T) {
	t.Parallel()
	server := pgtest.Dedicated(t)
	s := openURL(t, server.URL(t))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var wg sync.WaitGroup
	var mu sync.Mutex
	told := map[string]bool{}
	failures := 0
	var slowest time.Duration
	for i := range 32 {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				name := fmt.Sprintf("%d.%d", i, n)
				start := time.Now()
				var err error
				switch n % 3 {
				case 0: // One that has to begin a transaction early.
					err = s.InTx(t.Context(), func(tx payment.Tx) error {
						if _, err := tx.ClaimOperation(1, 1, 1, 1, time.Now(), time.Now()); err != nil {
							return err
						}
						return insertKeyed(name)(tx)
					})
				default:
					err = s.InTx(t.Context(), insertKeyed(name))
				}
				if err == nil && n%5 == 0 {
					err = s.Read(t.Context(), func(r payment.Reader) error {
						_, err := r.Key(1, payment.Key{Scope: "test", Key: name})
						if errors.Is(err, payment.ErrNotFound) {
							t.Errorf("%s was answered and is lost", name)
							return nil
						}
						return err
					})
				}
				mu.Lock()
				slowest = max(slowest, time.Since(start))
				switch {
				case err == nil:
					told[name] = true
				case errors.Is(err, payment.ErrUnavailable) && !errors.Is(err, payment.ErrStoreConflict):
					failures++
				default:
					t.Errorf("got %v, want %v", err, payment.ErrUnavailable)
				}
				mu.Unlock()
				if err != nil {
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
	for range 3 {
		time.Sleep(300 * time.Millisecond)
		server.Stop(t, true)
		time.Sleep(100 * time.Millisecond)
		server.Start(t)
		deadline := time.Now().Add(10 * time.Second)
		for s.Check(t.Context()) != nil {
			if time.Now().After(deadline) {
				t.Fatal("the store has not recovered")
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	time.Sleep(200 * time.Millisecond)
	stop()
	wg.Wait()
	t.Logf("%d stored, %d failed, the slowest took %s", len(told), failures, slowest)
	if failures == 0 || len(told) == 0 {
		t.Errorf("%d failures and %d successes prove nothing", failures, len(told))
	}
	if slowest > connectMax+slotMax {
		t.Errorf("somebody waited for %s", slowest)
	}
	for name := range told {
		if !stored(t, s, name) {
			t.Errorf("%s was answered and is lost", name)
		}
	}
}

// proxy stands between a store and its server and can spoil the line.
type proxy struct {
	t      *testing.T
	listen net.Listener
	server string
	mu     sync.Mutex
	conns  []net.Conn
	// answer decides what becomes of what the server says; nil passes it on.
	answer atomic.Pointer[func(b []byte) (pass bool)]
	// request sees what the store says.
	request atomic.Pointer[func(b []byte)]
}

// newProxy returns a proxy for a database, and the database's address through it.
func newProxy(t *testing.T, address string) (*proxy, string) {
	t.Helper()
	config, err := pgx.ParseConfig(address)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{t: t, server: filepath.Join(config.Host, fmt.Sprintf(".s.PGSQL.%d", config.Port))}
	if !strings.HasPrefix(config.Host, "/") {
		p.server = net.JoinHostPort(config.Host, fmt.Sprint(config.Port))
	}
	if p.listen, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	go p.run()
	t.Cleanup(func() {
		_ = p.listen.Close()
		p.cut()
	})
	u := url.URL{Scheme: "postgres", User: url.UserPassword(config.User, "s3cret-"+config.Password), Host: p.listen.Addr().String(),
		Path: config.Database, RawQuery: "sslmode=disable"}
	if config.Password != "" {
		u.User = url.UserPassword(config.User, config.Password)
	}
	return p, u.String()
}

func (p *proxy) run() {
	for {
		client, err := p.listen.Accept()
		if err != nil {
			return
		}
		network := "tcp"
		if strings.HasPrefix(p.server, "/") {
			network = "unix"
		}
		server, err := net.Dial(network, p.server)
		if err != nil {
			_ = client.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, client, server)
		p.mu.Unlock()
		go func() {
			defer server.Close() //nolint:errcheck // Closed either way.
			b := make([]byte, 64<<10)
			for {
				n, err := client.Read(b)
				if err != nil {
					return
				}
				if request := p.request.Load(); request != nil {
					(*request)(b[:n])
				}
				if _, err := server.Write(b[:n]); err != nil {
					return
				}
			}
		}()
		go func() {
			defer client.Close() //nolint:errcheck // Closed either way.
			b := make([]byte, 64<<10)
			for {
				n, err := server.Read(b)
				if err != nil {
					return
				}
				if answer := p.answer.Load(); answer != nil && !(*answer)(b[:n]) {
					continue
				}
				if _, err := client.Write(b[:n]); err != nil {
					return
				}
			}
		}()
	}
}

// cut closes all lines.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}

// TestLostAnswer loses the answer to a commit: the work is durable, InTx cannot know, and must not run it again.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	for name, early := range map[string]bool{"sent at the end": false, "in a transaction begun early": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, address := newProxy(t, pgtest.URL(t))
			s := openURL(t, address)
			work := func(name string, before func()) error {
				return s.InTx(t.Context(), func(tx payment.Tx) error {
					if early {
						if _, err := tx.ClaimOperation(1, 1, 1, 1, time.Now(), time.Now()); err != nil {
							return err
						}
					}
					before()
					return insertKeyed(name)(tx)
				})
			}
			wantNone(t, work("first", func() {}))
			runs := 0
			lose := func([]byte) bool {
				p.answer.Store(nil)
				p.cut()
				return false
			}
			request := func(b []byte) {
				if bytes.Contains(b, []byte("lost key")) {
					p.request.Store(nil)
					p.answer.Store(&lose)
				}
			}
			p.request.Store(&request)
			err := work("lost key", func() {
				runs++
			})
			if !errors.Is(err, payment.ErrUnavailable) || errors.Is(err, payment.ErrStoreConflict) || !strings.Contains(err.Error(), "durable or not") {
				t.Errorf("got %v, want one that says that nobody knows", err)
			}
			if runs != 1 {
				t.Errorf("it ran %d times, want once", runs)
			}
			if !stored(t, s, "lost key") {
				t.Error("it is not durable: the test does not test what it should")
			}
			// A line that is lost before is no reason to fail.
			p.cut()
			wantNone(t, work("b", func() {}))
		})
	}
}

// TestSilentServer lets the server's answers disappear: nobody waits for ever.
func TestSilentServer(t *testing.T) {
	t.Parallel()
	p, address := newProxy(t, pgtest.URL(t))
	s := openURL(t, address)
	const patience = 500 * time.Millisecond
	pgOf(s).patience = patience
	pgOf(s).config.ConnectTimeout = patience
	wantNone(t, s.InTx(t.Context(), insertKeyed("first")))
	for _, c := range pgOf(s).idle {
		c.patience = patience
	}
	silence := func([]byte) bool { return false }
	p.answer.Store(&silence)
	var wg sync.WaitGroup
	start := time.Now()
	for i := range 40 {
		wg.Go(func() {
			var err error
			if i%2 == 0 {
				err = s.InTx(t.Context(), insertKeyed(fmt.Sprint(i)))
			} else {
				err = s.Read(t.Context(), func(r payment.Reader) error {
					_, err := r.Key(1, payment.Key{Scope: "test", Key: "first"})
					return err
				})
			}
			if !errors.Is(err, payment.ErrUnavailable) {
				t.Errorf("got %v, want %v", err, payment.ErrUnavailable)
			}
		})
	}
	wg.Wait()
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
	p.answer.Store(nil)
	p.cut()
	time.Sleep(connectPause)
	wantNone(t, s.Check(t.Context()))
}

// TestRowInUse holds a row that one of many wants.
func TestRowInUse(t *testing.T) {
	t.Parallel()
	address := pgtest.URL(t)
	s := openURL(t, address)
	p := payment.Payment{Merchant: 1, ID: 1, State: payment.Open, Amount: money.New(100, money.MustCurrency("AUD"))}
	wantNone(t, s.InTx(t.Context(), func(tx payment.Tx) error { return tx.InsertPayment(&p, nil) }))
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context()) //nolint:errcheck // The test is over.
	holder, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := holder.Exec(t.Context(), `UPDATE payments SET tip = 0 WHERE id = 1`); err != nil {
		t.Fatal(err)
	}
	blocked := make(chan error, 1)
	go func() {
		blocked <- s.InTx(context.WithoutCancel(t.Context()), func(tx payment.Tx) error { q := p; return tx.UpdatePayment(&q, nil) })
	}()
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			for n := range 10 {
				wantNone(t, s.InTx(t.Context(), insertKeyed(fmt.Sprintf("%d.%d", i, n))))
			}
		})
	}
	wg.Wait()
	select {
	case err := <-blocked:
		t.Fatalf("the row was written while somebody had it: %v", err)
	default:
	}
	if err := holder.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantNone(t, <-blocked)
}

// TestTwoProcesses has two stores on one database.
func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	address := pgtest.URL(t)
	a, b := openURL(t, address), openURL(t, address)
	first, err := a.Enlist(t.Context(), time.Hour)
	wantNone(t, err)
	p := payment.Payment{Merchant: 1, ID: 1, State: payment.Open, Amount: money.New(100, money.MustCurrency("AUD"))}
	op := payment.Operation{Merchant: 1, Payment: 1, Kind: payment.Sale, State: payment.Sent, Amount: p.Amount, DueAt: time.Now().Add(time.Hour),
		Owner: first}
	wantNone(t, a.InTx(t.Context(), func(tx payment.Tx) error {
		err := tx.InsertPayment(&p, nil)
		for id := payment.ID(1); id <= 20; id++ {
			o := op
			o.ID = id
			err = errors.Join(err, tx.InsertOperation(&o))
		}
		return err
	}))
	due := func() int {
		list, _, err := b.Due(t.Context(), time.Now().Add(time.Second), 100)
		wantNone(t, err)
		return len(list)
	}
	claims := func(s *Store, incarnation int64, id payment.ID) (won bool) {
		wantNone(t, s.InTx(t.Context(), func(tx payment.Tx) (err error) {
			now := time.Now().Add(time.Second)
			won, err = tx.ClaimOperation(1, 1, id, incarnation, now, now.Add(time.Hour))
			return err
		}))
		return won
	}
	// A second process takes nothing of one that lives.
	second, err := b.Enlist(t.Context(), time.Hour)
	wantNone(t, err)
	wantNone(t, b.Renew(t.Context(), second, time.Hour))
	if n := due(); n != 0 || claims(b, second, 1) {
		t.Errorf("%d operations of a living process are due, want none, and none to be claimed", n)
	}
	for id := payment.ID(1); id <= 2; id++ { // Not when it is late either.
		wantNone(t, b.InTx(t.Context(), func(tx payment.Tx) error {
			late := time.Now().Add(2 * time.Hour)
			won, err := tx.ClaimOperation(1, 1, id, second, late, late.Add(time.Hour))
			if won {
				t.Errorf("operation %d was taken from a living process", id)
			}
			return err
		}))
	}
	const short = 2 * time.Second // Long enough for Renew itself not to find it over.
	wantNone(t, a.Renew(t.Context(), first, short))
	time.Sleep(short + 20*time.Millisecond)
	third, err := a.Enlist(t.Context(), time.Hour)
	wantNone(t, err)
	if n := due(); n != 0 {
		t.Errorf("%d operations are due before anybody has freed them", n)
	}
	wantNone(t, b.Renew(t.Context(), second, time.Hour))
	if n := due(); n != 20 {
		t.Errorf("%d operations are due, want all 20 of the dead process", n)
	}
	if err := a.Renew(t.Context(), first, time.Hour); !errors.Is(err, payment.ErrNotFound) {
		t.Errorf("renew of the dead: got %v, want %v", err, payment.ErrNotFound)
	}
	for id := payment.ID(1); id <= 20; id++ {
		var won [2]bool
		var wg sync.WaitGroup
		wg.Go(func() { won[0] = claims(a, third, id) })
		wg.Go(func() { won[1] = claims(b, second, id) })
		wg.Wait()
		if won[0] == won[1] {
			t.Fatalf("operation %d: claims %v, want one", id, won)
		}
	}
	// The dead one wakes up and writes what it knows.
	op.ID = 1
	err = a.InTx(t.Context(), func(tx payment.Tx) error { o := op; return tx.UpdateOperation(&o) })
	if !errors.Is(err, payment.ErrStoreConflict) {
		t.Errorf("write of the dead: got %v, want %v", err, payment.ErrStoreConflict)
	}

	var mu sync.Mutex
	taken := map[payment.ID]bool{}
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for range 10 {
				id, err := []*Store{a, b}[i%2].Block(t.Context(), 5)
				wantNone(t, err)
				mu.Lock()
				for n := range payment.ID(5) {
					if taken[id+n] {
						t.Errorf("ID %d was handed out twice", id+n)
					}
					taken[id+n] = true
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

// TestStartAtOnce opens an empty database from several processes at the same time.
func TestStartAtOnce(t *testing.T) {
	t.Parallel()
	address := pgtest.URL(t)
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			s, err := Open(t.Context(), Config{URL: address})
			if err != nil {
				t.Error(err)
				return
			}
			wantNone(t, s.Check(t.Context()))
			wantNone(t, s.Close())
		})
	}
	wg.Wait()
}

// TestSchemasAgree compares what the migrations make of both engines: columns with their types, and what rows are refused.
func TestSchemasAgree(t *testing.T) {
	t.Parallel()
	address := pgtest.URL(t)
	openURL(t, address)
	lite := setup(t)
	rows := func(query string) []string {
		var list []string
		wantNone(t, lite.read(t.Context(), func(r *reader) error {
			return r.query(func(r *row) error { list = append(list, r.text()); return nil }, query)
		}))
		return list
	}
	columns := column(t, address, `SELECT concat_ws(' ', table_name, column_name, upper(data_type), is_nullable, regexp_replace(column_default, '::text$', ''))
FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'schema_versions' AND table_name <> 'operations'
ORDER BY table_name, ordinal_position`)
	want := rows(`SELECT m.name || ' ' || c.name || ' ' || c.type || ' ' || CASE c."notnull" WHEN 1 THEN 'NO' ELSE 'YES' END || coalesce(' ' || c.dflt_value, '')
FROM sqlite_master m JOIN pragma_table_xinfo(m.name) c WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%' AND m.name <> 'schema_versions'
ORDER BY m.name, c.cid`)
	if d := cmp.Diff(want, columns); d != "" || len(want) < 100 {
		t.Errorf("columns of SQLite and PostgreSQL (-want +got):\n%s", d)
	}
	// PostgreSQL words a CHECK in its own way, so its words are counted: names, numbers and texts.
	words := regexp.MustCompile(`\b[a-z_]\w*\b|\d+|'\w+'`)
	number := regexp.MustCompile(`'(\d+)'`)
	mean := func(texts []string) map[string]int {
		count := map[string]int{}
		for _, text := range texts {
			for _, w := range words.FindAllString(number.ReplaceAllString(text, "$1"), -1) {
				if !slices.Contains([]string{"bigint", "text", "integer", "char", "bpchar"}, w) {
					count[w]++
				}
			}
		}
		return count
	}
	checks := regexp.MustCompile(`CHECK (\((?:[^()]|\([^()]*\))*\))`)
	var lites []string
	for _, text := range rows(`SELECT sql FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' AND name <> 'schema_versions'`) {
		for _, m := range checks.FindAllStringSubmatch(text, -1) {
			lites = append(lites, m[1])
		}
	}
	servers := column(t, address, `SELECT pg_get_expr(conbin, conrelid) FROM pg_constraint c JOIN pg_class r ON r.oid = conrelid
WHERE contype = 'c' AND r.relname <> 'schema_versions' AND connamespace = 'public'::regnamespace`)
	if len(lites) != len(servers) || len(lites) < 20 {
		t.Errorf("SQLite has %d CHECKs, PostgreSQL %d", len(lites), len(servers))
	}
	if d := cmp.Diff(mean(lites), mean(servers)); d != "" {
		t.Errorf("CHECKs of SQLite and PostgreSQL by their words (-want +got):\n%s", d)
	}
	indexes := column(t, address, `SELECT indexname::text FROM pg_indexes WHERE schemaname = 'public' AND indexname LIKE '%\_due' ORDER BY indexname`)
	if d := cmp.Diff(rows(`SELECT name FROM sqlite_master WHERE type = 'index' AND name LIKE '%_due' ORDER BY name`), indexes); d != "" {
		t.Errorf("indexes (-want +got):\n%s", d)
	}
}

// TestPostgresPlans checks that every statement over all merchants reads what is owed and nothing else.
func TestPostgresPlans(t *testing.T) {
	t.Parallel()
	address := pgtest.URL(t)
	s := openURL(t, address)
	for _, text := range slices.Concat(dueParts, nextParts, s.leases.release, hasten, []string{listHeld, countOwed}) {
		text = strings.Replace(text, "cquirer = $1", "cquirer = 'wallet'", 1)
		text = regexp.MustCompile(`\$\d`).ReplaceAllString(text, "5")
		plan := strings.Join(column(t, address+"&options=-cenable_seqscan%3Doff", "EXPLAIN "+text), "\n")
		if !regexp.MustCompile(`\w+_(due|term)\b`).MatchString(plan) || regexp.MustCompile(`Seq Scan on (payments|later_operations)`).MatchString(plan) {
			t.Errorf("%s\nruns as\n%s", text, plan)
		}
	}
}

// TestAnswersLeaveIndexesAlone checks that what is written when a first attempt is answered is in no index but those of what is due, whose
// columns are 0 before and after. Else PostgreSQL would make new entries in all of them.
func TestAnswersLeaveIndexesAlone(t *testing.T) {
	t.Parallel()
	address := pgtest.URL(t)
	wantNone(t, openURL(t, address).Close())
	indexed := column(t, address, `SELECT DISTINCT attname::text FROM pg_depend d JOIN pg_index i ON d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = d.refobjsubid
WHERE i.indrelid = 'payments'::regclass AND d.refobjid = i.indrelid AND a.attnum > 0 ORDER BY 1`)
	var both []string
	for _, name := range strings.Split(paymentChanges+","+firstChanges, ",") {
		if name = strings.TrimSpace(name); slices.Contains(indexed, name) {
			both = append(both, name)
		}
	}
	if d := cmp.Diff([]string{"due_at", "first_free_at", "first_held_at", "first_vain_at"}, both); d != "" || !slices.Contains(indexed, "first_term") {
		t.Errorf("columns that change and are indexed (-want +got):\n%s", d)
	}
}

// TestTermOfTheDead stores a payment in the name of a process that is held for dead, and one in a transaction that has not ended when its term
// is over.
func TestTermOfTheDead(t *testing.T) {
	t.Parallel()
	address := pgtest.URL(t)
	a, b := openURL(t, address), openURL(t, address)
	const short = time.Second
	first, err := a.Enlist(t.Context(), short)
	wantNone(t, err)
	born := time.Now()
	second, err := b.Enlist(t.Context(), time.Hour)
	wantNone(t, err)
	inHand := func(s *Store, owner int64, id payment.ID, before func()) error {
		return s.InTx(t.Context(), func(tx payment.Tx) error {
			p := payment.Payment{Merchant: 1, ID: id, State: payment.Open, Amount: money.New(100, money.MustCurrency("AUD"))}
			o := payment.Operation{Merchant: 1, Payment: id, ID: id, Kind: payment.Sale, State: payment.Sent, Amount: p.Amount, DueAt: time.Now(), Owner: owner}
			if err := tx.InsertPayment(&p, &o); err != nil || before == nil {
				return err
			}
			_, err := tx.Payment(1, id) // Which needs what is written so far.
			before()
			return err
		})
	}
	renew := func() { wantNone(t, b.Renew(t.Context(), second, time.Hour)) }
	due := func() int {
		list, _, err := b.Due(t.Context(), time.Now().Add(time.Second), 10)
		wantNone(t, err)
		return len(list)
	}

	wantNone(t, inHand(b, second, 1, func() {
		for range 3 {
			renew() // Its term must not end before it has.
		}
	}))
	if n := due(); n != 0 {
		t.Errorf("%d attempts are due, want none before the term is over", n)
	}
	renew()
	if n := due(); n != 1 {
		t.Errorf("%d attempts are due, want the one whose term was over before it was stored", n)
	}

	time.Sleep(time.Until(born.Add(short + 20*time.Millisecond)))
	renew()
	for range 3 { // Alone, and in a group.
		var wg sync.WaitGroup
		for id := payment.ID(2); id < 10; id++ {
			wg.Go(func() {
				if err := inHand(a, first, id, nil); !errors.Is(err, payment.ErrStoreConflict) {
					t.Errorf("payment %d in the name of the dead: got %v, want %v", id, err, payment.ErrStoreConflict)
				}
			})
		}
		wg.Wait()
	}
	if got := column(t, address, `SELECT CAST(id AS TEXT) FROM payments ORDER BY id`); len(got) != 1 {
		t.Errorf("payments %v are stored, want one", got)
	}
}

func TestDatabasesThatAreRefused(t *testing.T) {
	t.Parallel()
	server := pgtest.Dedicated(t)
	address := server.URL(t)
	refused := func(address, want string) {
		t.Helper()
		s, err := Open(t.Context(), Config{URL: address})
		if err == nil {
			wantNone(t, s.Close())
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want one that says %q", err, want)
		}
	}
	server.Exec(t, `CREATE DATABASE english TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en' ENCODING 'UTF8'`)
	u, err := url.Parse(address)
	wantNone(t, err)
	u.Path = "/english"
	refused(u.String(), "LC_COLLATE 'C'")
	server.Exec(t, `CREATE DATABASE latin TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C' ENCODING 'LATIN1'`)
	u.Path = "/latin"
	refused(u.String(), "ENCODING 'UTF8'")
	server.Exec(t, `ALTER SYSTEM SET fsync = off`)
	server.Exec(t, `SELECT pg_reload_conf()`)
	for column(t, address, `SELECT current_setting('fsync')`)[0] != "off" { // The server reads its configuration in its own time.
		time.Sleep(10 * time.Millisecond)
	}
	refused(address, "set fsync=on")
	server.Exec(t, `ALTER SYSTEM RESET fsync`)
	server.Exec(t, `ALTER SYSTEM SET synchronous_commit = off`)
	server.Stop(t, false)
	server.Start(t)
	s := openURL(t, address)
	level := ""
	wantNone(t, s.read(t.Context(), func(r *reader) error {
		return r.query(func(r *row) error { level = r.text(); return nil }, `SELECT current_setting('synchronous_commit')`)
	}))
	if level != "on" {
		t.Errorf("commits are synchronous: got %q, want on", level)
	}
	wantNone(t, s.Close())
	server.Standby(t)
	refused(address, "it is a replica")
	refused(address+"&target_session_attrs=any", "it is a replica")
}

// TestPasswordIsNotTold looks for the password in all that a store says.
func TestPasswordIsNotTold(t *testing.T) {
	t.Parallel()
	for _, address := range []string{
		"postgres://till:s3cret@127.0.0.1:1/nothing",
		"postgres://till:s3cret@127.0.0.1:port/nothing",
		"postgres://till:s3 cret@%zz/nothing",
		"host=127.0.0.1 port=1 user=till password=s3cret",
		"host=127.0.0.1 port=x user=till password='s3cret",
		"host=127.0.0.1 port=1 user=till password=s3cret sslmode=nonsense",
		"s3cret",
	} {
		cfg := Config{URL: address}
		_, err := Open(t.Context(), cfg)
		if err == nil {
			t.Fatalf("%s: opened", address)
		}
		for _, said := range []string{err.Error(), cfg.Place(), fmt.Sprintf("%+v", err)} {
			if strings.Contains(said, "s3cret") || strings.Contains(said, "s3 cret") {
				t.Errorf("%s: it says %s", address, said)
			}
		}
	}
}

// TestManyRows words every statement that is merged, and sees that all of them can be.
func TestManyRows(t *testing.T) {
	t.Parallel()
	for _, text := range []string{insertKey, updateKey, insertPayment, updatePayment, updatePaymentAndFirst, insertFirst, updateFirst, insertOperation,
		updateOperation, insertEntry, insertNotice, amendPayment} {
		n := strings.Count(text, "$")
		row := make([]any, n)
		for i := range row {
			row[i] = int64(i)
		}
		for shared, arrays := range map[columns]int{0: n, 1 << 3: n - 1, notKeys: keyColumns} {
			many := manyRows(text, row, shared)
			if strings.Count(many, "$") != n+1 || !strings.Contains(many, fmt.Sprintf("count(*) = $%d", n+1)) || strings.Contains(many, "VALUES") {
				t.Errorf("%s\nbecame\n%s", text, many)
			}
			if got := strings.Count(many, "AS bigint[]"); got != arrays {
				t.Errorf("%s\nbecame, with %d arrays instead of %d,\n%s", text, got, arrays, many)
			}
		}
	}
	lock, other := step{text: lockTerm, args: []any{int64(7)}}, step{text: lockTerm, args: []any{int64(8)}}
	group := []*burst{
		{steps: []step{lock, {text: "a", args: []any{int64(2), "x"}}, {text: "b", args: []any{int64(1)}}}},
		{steps: []step{lock, other, {text: "b", args: []any{int64(9)}}, {text: "a", args: []any{int64(1), "y"}}, {text: "c", args: []any{"z"}}}},
	}
	var got []string
	for _, s := range merge(group) {
		got = append(got, fmt.Sprintf("%s %v %v", s.text, s.rows, s.args))
	}
	want := []string{lock.text + " [] [7]", "a [[1 y] [2 x]] []", "b [[1] [9]] []", lock.text + " [] [8]", "c [] [z]"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestHelpersTakeWhatWaits has only a helper: the connection that commits does not come for more work, as when its disk or its line is slow.
func TestHelpersTakeWhatWaits(t *testing.T) {
	t.Parallel()
	s := openURL(t, pgtest.URL(t))
	whole := s.engine.(*postgresEngine)
	e := &postgresEngine{config: whole.config, patience: whole.patience, bursts: make(chan *burst, 2), quit: make(chan struct{})}
	e.groups.Go((&committer{engine: e}).help)
	work := func(name string) *burst {
		args := []any{int64(1), "test", name, "", int64(1), int64(0), int64(0), int64(0), ""}
		b := &burst{steps: []step{{text: insertKey, args: args, must: true}}, done: make(chan struct{})}
		e.bursts <- b
		return b
	}
	first := work("while it is late")
	<-first.done
	last := work("at the end")
	close(e.bursts)
	close(e.quit)
	e.groups.Wait()
	<-last.done
	for _, b := range []*burst{first, last} {
		if b.err != nil || b.alone {
			t.Errorf("got %v, alone %t", b.err, b.alone)
		}
	}
	if !stored(t, s, "while it is late") || !stored(t, s, "at the end") {
		t.Error("what a helper has committed is not stored")
	}
}

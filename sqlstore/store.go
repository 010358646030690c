package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tillgate/tillgate/payment"
)

// conflictTries bounds how often a closure that met payment.ErrStoreConflict is run again. What it lost against has committed, so the
// second run nearly always goes through.
const conflictTries = 5

// blockMax bounds a block of IDs: a process that asked for more by mistake would waste public numbers, of which there are 10^12.
const blockMax = 1_000_000

// Config says where a store is: in a data folder, or on a PostgreSQL server.
type Config struct {
	// Dir is the data folder of a SQLite database. It is made when it is not there, readable by nobody else.
	Dir string
	// URL is the address of a PostgreSQL database, such as postgres://user:password@host:5432/database?sslmode=verify-full, or in the
	// form "host=… user=…". It may leave to PGPASSWORD or a password file what it does not say. It is a secret when it holds a password.
	URL string
	// Tool opens the store beside running servers, for operators' commands. In a data folder it takes no lock, and its writes take turns
	// with the server's. On PostgreSQL a tool is a process like any other.
	Tool bool
	// Now is the clock by which leases run in a data folder. PostgreSQL has its own.
	Now func() time.Time
}

// Validate names the field that is wrong, and the remedy.
func (c Config) Validate() error {
	switch {
	case c.Dir == "" && c.URL == "":
		return &payment.FieldError{Field: "dir", Problem: "is empty: name the data folder, or give the url of a PostgreSQL database"}
	case c.Dir != "" && c.URL != "":
		return &payment.FieldError{Field: "url", Problem: "is given, and dir too: name one place"}
	case c.Dir != "" && c.Now == nil:
		return &payment.FieldError{Field: "now", Problem: "is missing: pass a clock, such as time.Now"}
	}
	return nil
}

// Place says where the store is, without secrets, for people.
func (c Config) Place() string {
	if c.URL == "" {
		return c.Dir
	}
	p, err := postgresConfig(c.URL)
	if err != nil {
		return "PostgreSQL"
	}
	return fmt.Sprintf("PostgreSQL database %s on %s, port %d, as %s", p.Database, p.Host, p.Port, p.User)
}

// Store is payment.Store, with the rows that operators keep.
type Store struct {
	engine  engine
	dialect dialect
	leases  leases
	terms   terms
}

var _ payment.Store = (*Store)(nil)

// engine is how a database runs transactions. It runs a closure again when the database asks for it.
type engine interface {
	write(ctx context.Context, fn func(session) error) error
	read(ctx context.Context, fn func(session) error) error
	stats() Stats
	close() error
}

// Open opens a store and brings its tables up to date. Close it when all who use it have ended.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	var d dialect
	var e engine
	var err error
	if cfg.URL != "" {
		d = postgresDialect()
		e, err = openPostgres(ctx, cfg, &d)
	} else {
		d = sqliteDialect(cfg.Now)
		e, err = openSQLite(ctx, cfg, &d)
	}
	if err != nil {
		return nil, err
	}
	return &Store{engine: e, dialect: d, leases: newLeases(&d)}, nil
}

// Close runs the work that is queued, and then closes. What comes later is answered with payment.ErrUnavailable.
func (s *Store) Close() error { return s.engine.close() }

// InTx runs fn in a transaction and returns after it is durable. fn may run again, in another goroutine than the caller's and beside
// nothing else: it must touch nothing but tx and its own results, end soon, and not call runtime.Goexit (which testing's FailNow does).
// A panic of fn rolls back and goes on in the caller. While fn has not begun, the end of ctx takes it back; then its outcome is awaited.
//
// Errors are those of fn, payment.ErrStoreConflict after several tries, payment.ErrConflict for a row that is there already, and
// payment.ErrUnavailable. After the last one nothing is durable, except that on PostgreSQL the answer to a COMMIT may have been lost: then
// the work may be durable or not, the error says so, and fn is not run again.
func (s *Store) InTx(ctx context.Context, fn func(payment.Tx) error) error {
	return s.write(ctx, func(t *txn) error { return fn(t) })
}

// Read runs fn over one consistent state, perhaps in another goroutine than the caller's: it must end soon, and call neither
// runtime.Goexit nor the store. A panic of fn goes on in the caller. While fn has not begun, the end of ctx takes it back; then its outcome
// is awaited.
func (s *Store) Read(ctx context.Context, fn func(payment.Reader) error) error {
	return s.read(ctx, func(r *reader) error { return fn(r) })
}

func (s *Store) write(ctx context.Context, fn func(*txn) error) error {
	return s.engine.write(ctx, func(session session) error {
		t := &txn{reader{statements{session: session}}, s}
		err := fn(t)
		if t.failed != nil && (err == nil || !errors.Is(err, t.failed)) {
			return t.failed
		}
		return err
	})
}

func (s *Store) read(ctx context.Context, fn func(*reader) error) error {
	return s.engine.read(ctx, func(session session) error { return fn(&reader{statements{session: session}}) })
}

const updateBlock = `-- every merchant
UPDATE id_blocks SET next = next + $1 WHERE only_row = 1 AND next + $1 <= 1000000000000 RETURNING next`

// Block hands out size fresh IDs and returns the first of them.
func (s *Store) Block(ctx context.Context, size int64) (payment.ID, error) {
	if size < 1 || size > blockMax {
		return 0, fmt.Errorf("block of %d IDs: want 1 to %d: %w", size, blockMax, payment.ErrInvalid)
	}
	var first payment.ID
	err := s.write(ctx, func(t *txn) (err error) {
		first, err = t.block(size)
		return err
	})
	return first, wrap(err, "block of %d IDs", size)
}

func (t *txn) block(size int64) (payment.ID, error) {
	var next payment.ID
	err := t.one(func(r *row) error {
		next = r.id()
		return nil
	}, updateBlock, size)
	if errors.Is(err, payment.ErrNotFound) {
		return 0, fmt.Errorf("all 10^12 IDs are handed out: %w", payment.ErrUnavailable)
	}
	return next - payment.ID(size), err
}

const touch = `-- every merchant
UPDATE id_blocks SET next = next WHERE only_row = 1`

// Check reports whether the store can make a write durable now.
func (s *Store) Check(ctx context.Context) error {
	return wrap(s.write(ctx, func(t *txn) error {
		_, err := t.exec(touch)
		return err
	}), "check")
}

// Stats is what a store has done since it was opened, for metrics.
type Stats struct {
	Queue  int    // Work that waits for its turn now.
	Groups uint64 // Commits.
	Work   uint64 // Pieces of work that those commits carried.
	// GroupSize is how many commits carried at most so many, by that number. It is cumulative, as Prometheus's buckets are: a commit counts
	// in every bound that it does not exceed, and one above the largest in Groups only.
	GroupSize map[uint64]uint64
	Broken    uint64 // Groups that failed and were run again one by one.
}

// Stats is what the store has done so far.
func (s *Store) Stats() Stats { return s.engine.stats() }

package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/tillgate/tillgate/payment"
)

// The files of a data folder.
const (
	databaseFile = "tillgate.db"
	lockFile     = "tillgate.lock" // Held by the server, all its life.
	turnFile     = "tillgate.turn" // Held by a tool while it writes, and by whoever migrates.
)

// What a connection is set to. Each is a limit or a promise, so each has its reason.
const (
	// busyTimeout is how long a statement waits for another process. Nobody holds the write lock for longer than a group takes.
	busyTimeout = 10 * time.Second
	// checkpointPages is how much log gathers before it begins anew: 64 MiB, which a restart reads in a fraction of a second. Before that, all
	// of it must be in the database. A connection beside the writer copies most of it (copyAfter); the writer itself copies the last of
	// it, right after a commit, since the other could never reach the end while there is load.
	checkpointPages = 16384
	// copyAfter is after how much work, and copyLook how often, the log is looked after. A page that much work shares is copied once.
	// copyLate is after how much when the log is about to begin anew: all payments wait while the writer copies what is left.
	copyAfter = 768
	copyLate  = 96
	copyLook  = 5 * time.Millisecond
	// logBytesMax is what is left of a log that a slow reader made large, once it has been copied.
	logBytesMax = 128 << 20
	// Caches in KiB: the writer's holds the upper levels of all indexes and the pages of today's payments.
	writerCache = 31 << 10
	readerCache = 4 << 10
	// readersMax bounds the connections that read: reading is bound by processors, not by waiting.
	readersMax = 4
)

// dsn names the database and sets a connection up. The database is not mapped into memory, since a failing disk would then kill the process
// instead of failing a statement.
func dsn(dir string, readOnly bool) string {
	pragmas := []string{
		"journal_mode(WAL)",
		"synchronous(FULL)",                       // Durable when COMMIT returns.
		"fullfsync(1)", "checkpoint_fullfsync(1)", // On macOS, where fsync alone does not reach the disk.
		"foreign_keys(1)",
		"temp_store(MEMORY)", // The undo of savepoints, which would else be a file.
		"wal_autocheckpoint(" + strconv.Itoa(checkpointPages) + ")",
		"journal_size_limit(" + strconv.Itoa(logBytesMax) + ")",
		"trusted_schema(0)",
	}
	cache := writerCache
	if readOnly {
		cache = readerCache
		pragmas = append(pragmas, "query_only(1)")
	}
	q := url.Values{
		"_busy_timeout": {strconv.FormatInt(busyTimeout.Milliseconds(), 10)},
		"_txlock":       {"immediate"},
		"_error_rc":     {"1"},
		"_pragma":       append(pragmas, "cache_size(-"+strconv.Itoa(cache)+")"),
	}
	u := url.URL{Scheme: "file", Path: filepath.Join(dir, databaseFile), RawQuery: q.Encode()}
	return u.String()
}

// sqliteEngine runs transactions on SQLite.
type sqliteEngine struct {
	lock    *fileLock // Nil for a tool.
	turn    *fileLock
	writer  *writer
	reads   chan *work // Without room: who hands work over has a reader that begins it, and those who wait are served as they came.
	ended   chan error // What came of the end of each reader, and of the copier.
	ends    int        // How many of them come.
	connect func() (*sqliteConn, error)
	closed  chan struct{}
	once    sync.Once
	err     error
}

func openSQLite(ctx context.Context, cfg Config, d *dialect) (_ *sqliteEngine, err error) {
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("data folder %s: %w", cfg.Dir, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	e := &sqliteEngine{reads: make(chan *work), ended: make(chan error, readersMax+1), ends: readersMax, closed: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.lock.close(), e.turn.close())
		}
	}()
	if !cfg.Tool {
		if e.lock, err = takeFolder(dir); err != nil {
			return nil, err
		}
	}
	if e.turn, err = openLock(filepath.Join(dir, turnFile)); err != nil {
		return nil, err
	}
	if err := prepareDatabase(ctx, dir, e.turn, d); err != nil {
		return nil, fmt.Errorf("database in %s: %w", dir, err)
	}
	connector := func(readOnly bool) func() (*sqliteConn, error) {
		return func() (*sqliteConn, error) { return openConn(dsn(dir, readOnly)) }
	}
	e.connect = connector(true)
	for range readersMax {
		go e.runReader() // close waits for it.
	}
	e.writer = newWriter(connector(false), e.turn, cfg.Tool)
	go e.writer.run() // close waits for it.
	if !cfg.Tool {
		e.ends++
		go e.copyLog(connector(false)) // close waits for it.
	}
	return e, nil
}

// prepareDatabase makes the database and brings its tables up to date, while no other process does.
func prepareDatabase(ctx context.Context, dir string, turn *fileLock, d *dialect) error {
	ok, err := turn.wait(busyTimeout)
	if err != nil {
		return fmt.Errorf("%s: %w", turnFile, err)
	}
	if !ok {
		return fmt.Errorf("another command has been writing for %s: end it and try again", busyTimeout)
	}
	defer turn.release()
	// SQLite would make it readable for all; the files beside it get its mode.
	f, err := os.OpenFile(filepath.Join(dir, databaseFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	connector, err := sqlite.NewConnector(dsn(dir, false))
	if err != nil {
		return err
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(1)
	return errors.Join(migrate(ctx, db, d), db.Close())
}

func (e *sqliteEngine) write(ctx context.Context, fn func(session) error) error {
	return e.writer.do(ctx, fn)
}

// read hands a closure to a reader. It does not run here: SQLite in Go is deep, a statement grows the stack of its goroutine to 32 KiB, and
// a caller that then waits for long, as thousands of them do, would keep a stack of that size.
func (e *sqliteEngine) read(ctx context.Context, fn func(session) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case <-e.closed:
		return errClosed
	default:
	}
	job := &work{fn: fn, done: make(chan struct{})}
	select {
	case e.reads <- job:
	case <-ctx.Done():
		return ctx.Err()
	case <-e.closed:
		return errClosed
	}
	<-job.done
	if job.panicked != nil {
		panic(job.panicked)
	}
	return job.err
}

// runReader reads until close, on a connection of its own, which it opens when it is wanted.
func (e *sqliteEngine) runReader() {
	var c *sqliteConn
	var job *work
	defer func() {
		var err error
		if c != nil {
			err = c.close()
		}
		if job != nil { // A closure has called runtime.Goexit. Its caller is answered, and another reader takes this one's place.
			job.answer(errReaderLost)
			go e.runReader()
			return
		}
		e.ended <- err
	}()
	for {
		select {
		case job = <-e.reads:
		case <-e.closed:
			return
		}
		var err error
		if c == nil {
			c, err = e.connect()
		}
		if err == nil {
			healthy := false
			if healthy, err = c.read(job); !healthy {
				_ = c.close() // Only the connection is lost: it has read, not written.
				c = nil
			}
		}
		job.answer(err)
		job = nil
	}
}

// copyLog copies the log into the database while the writer goes on, until close. What it cannot do is left to the writer.
func (e *sqliteEngine) copyLog(connect func() (*sqliteConn, error)) {
	look := time.NewTicker(copyLook)
	defer look.Stop()
	var c *sqliteConn
	var copied, pages uint64 // How much work there was at the last copy, and how many pages the log had.
	after := uint64(copyAfter)
	for {
		select {
		case <-e.closed:
			var err error
			if c != nil {
				err = c.close()
			}
			e.ended <- err
			return
		case <-look.C:
		}
		done := e.writer.committed()
		if done-copied < after {
			continue
		}
		var err error
		if c == nil {
			c, err = connect()
		}
		logged := pages
		if err == nil {
			err = c.query(func(r *row) error {
				_, logged = r.int(), uint64(r.int()) // Whether it was busy; pages of the log.
				return nil
			}, `PRAGMA wal_checkpoint(PASSIVE)`)
		}
		if err != nil && c != nil {
			_ = c.close() // It has copied what is durable, or nothing.
			c = nil
		}
		if after = copyAfter; logged > pages && logged+(logged-pages)*copyAfter/(done-copied) > checkpointPages {
			after = copyLate
		}
		copied, pages = done, logged
	}
}

// errReaderLost is what the caller of a closure hears that has ended its reader.
var errReaderLost = fmt.Errorf("a closure has ended its goroutine: %w", payment.ErrUnavailable)

// read runs work over one state, and reports whether the connection is as good as before.
func (c *sqliteConn) read(job *work) (healthy bool, err error) {
	if _, err := c.exec(begin); err != nil {
		return false, err
	}
	job.panicked, err = call[session](job.fn, c)
	_, end := c.exec(rollback)
	return end == nil && c.broken == nil && job.panicked == nil, err
}

func (e *sqliteEngine) stats() Stats { return e.writer.stats() }

// close lets the writer finish what is queued and the readers what they read.
func (e *sqliteEngine) close() error {
	e.once.Do(func() {
		close(e.closed)
		e.err = e.writer.close()
		for range e.ends {
			e.err = errors.Join(e.err, <-e.ended)
		}
		e.err = errors.Join(e.err, e.turn.close(), e.lock.close())
	})
	return e.err
}

// sqliteConn is one connection with its prepared statements. It goes below database/sql, whose pool and conversions cost as much as a
// small statement does. One goroutine uses it at a time.
type sqliteConn struct {
	conn  driver.Conn
	stmts map[string]*sqliteStmt
	args  []driver.NamedValue
	wrote bool // A statement has changed rows since this was last set to false.
	// broken is set by an error that may have ended the transaction, or after which nothing in it may be trusted.
	broken error
}

type sqliteStmt struct {
	exec   driver.StmtExecContext
	query  driver.StmtQueryContext
	close  func() error
	writes bool  // It changes rows though it is a query.
	order  []int // Which argument each parameter takes, by its index.
	dest   []driver.Value
	row    row
}

// The statements that make transactions.
const (
	begin          = `BEGIN`
	beginImmediate = `BEGIN IMMEDIATE`
	commit         = `COMMIT`
	rollback       = `ROLLBACK`
	savepoint      = `SAVEPOINT work`
	releasePoint   = `RELEASE work`
	rollbackTo     = `ROLLBACK TO work`
)

// openConn opens a connection. A variable of the writer and of tests decides which one.
func openConn(dsn string) (*sqliteConn, error) {
	connector, err := sqlite.NewConnector(dsn)
	if err != nil {
		return nil, err
	}
	conn, err := connector.Connect(context.Background())
	if err != nil {
		return nil, sqliteError(err)
	}
	return &sqliteConn{conn: conn, stmts: map[string]*sqliteStmt{}}, nil
}

func (c *sqliteConn) close() error {
	var errs []error
	for _, s := range c.stmts {
		errs = append(errs, s.close())
	}
	return errors.Join(append(errs, c.conn.Close())...)
}

func (c *sqliteConn) prepare(text string) (*sqliteStmt, error) {
	if s, ok := c.stmts[text]; ok {
		return s, nil
	}
	// SQLite takes $1 for a name, which the driver would fetch, copy and look up for each parameter of each run. So each becomes a ?, and
	// the order of the arguments is found once. Statements have no $1 in their literals.
	var order []int
	unnamed := parameter.ReplaceAllStringFunc(text, func(name string) string {
		n, _ := strconv.Atoi(name[1:]) // Digits, by the expression; a number that is too large has no argument.
		order = append(order, n-1)
		return "?"
	})
	stmt, err := c.conn.Prepare(unnamed)
	if err != nil {
		return nil, err
	}
	s := &sqliteStmt{close: stmt.Close, order: order, writes: strings.Contains(text, "RETURNING")}
	s.exec, _ = stmt.(driver.StmtExecContext)
	s.query, _ = stmt.(driver.StmtQueryContext)
	c.stmts[text] = s
	return s, nil
}

// bind puts arguments in the order of a statement. It reuses one slice: the driver copies arguments before it returns, and refuses a
// statement that lacks one.
func (c *sqliteConn) bind(s *sqliteStmt, args []any) []driver.NamedValue {
	c.args = c.args[:0]
	for i, n := range s.order {
		if n >= 0 && n < len(args) {
			c.args = append(c.args, driver.NamedValue{Ordinal: i + 1, Value: args[n]})
		}
	}
	return c.args
}

// exec runs a statement. The context is never one that ends: an interrupted statement ends the whole group's transaction.
func (c *sqliteConn) exec(text string, args ...any) (int64, error) {
	s, err := c.prepare(text)
	if err != nil {
		return 0, c.failed(err)
	}
	wrote := c.wrote
	c.wrote = true // Also when it fails half-way.
	res, err := s.exec.ExecContext(context.Background(), c.bind(s, args))
	if err != nil {
		return 0, c.failed(err)
	}
	n, err := res.RowsAffected()
	if err == nil && n == 0 {
		c.wrote = wrote
	}
	return n, err
}

func (c *sqliteConn) must(missed func() error, text string, args ...any) error {
	n, err := c.exec(text, args...)
	if err == nil && n == 0 {
		return missed()
	}
	return err
}

func (c *sqliteConn) insertNew(text string, args ...any) (bool, error) {
	n, err := c.exec(text, args...)
	return n > 0, err
}

func (c *sqliteConn) query(each func(*row) error, text string, args ...any) error {
	s, err := c.prepare(text)
	if err != nil {
		return c.failed(err)
	}
	c.wrote = c.wrote || s.writes
	rows, err := s.query.QueryContext(context.Background(), c.bind(s, args))
	if err != nil {
		return c.failed(err)
	}
	if s.dest == nil {
		s.dest = make([]driver.Value, len(rows.Columns()))
		s.row.values = make([]any, len(s.dest))
	}
	for {
		err := rows.Next(s.dest)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			_ = rows.Close() // The first error tells.
			return c.failed(err)
		}
		for i, v := range s.dest {
			s.row.values[i] = v
		}
		s.row.next = 0
		if err := each(&s.row); err != nil {
			_ = rows.Close()
			return err
		}
	}
	if err := rows.Close(); err != nil {
		return c.failed(err)
	}
	return nil
}

// failed translates a driver's error, and remembers one that spoils the transaction.
func (c *sqliteConn) failed(err error) error {
	translated := sqliteError(err)
	if !harmless(err) {
		c.broken = translated
	}
	return translated
}

// harmless reports whether an error has undone its own statement and nothing else. All that is not known to be so may have ended the
// transaction: a full disk, I/O errors, lack of memory, an interrupt.
func harmless(err error) bool {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_RANGE:
		return true
	}
	return false
}

// sqliteError makes the core's sentinel of a driver's error, by its code. The driver's words stay as text.
func sqliteError(err error) error {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return fmt.Errorf("database: %w", err)
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_CONSTRAINT:
		return fmt.Errorf("%w: %v", errRefused, err)
	case sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISUSE, sqlite3.SQLITE_RANGE, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG:
		return fmt.Errorf("database: %v", err)
	default: // Full, busy, read-only, broken: it may be better later, once people have looked after it.
		return fmt.Errorf("%w: database: %v", payment.ErrUnavailable, err)
	}
}

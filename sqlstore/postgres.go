package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tillgate/tillgate/internal/fault"
	"github.com/tillgate/tillgate/payment"
)

// What bounds the work on PostgreSQL. Nothing waits for ever on a server that does not answer.
const (
	// connsMax bounds the connections of work that begins a transaction early, and of what reads more than one row in one state. Several
	// processes must fit into the server's max_connections, which is 100 by default.
	connsMax = 16
	// slotMax is how long work waits for a connection: longer than one exchange that the server gives up, so that a short stall is waited
	// out, and shorter than any till waits.
	slotMax = 10 * time.Second
	// connectMax is how long a server may take to accept a connection.
	connectMax = 5 * time.Second
	// connectPause is how long nobody tries to connect after a failure, so that the callers of a server that does not answer are told at
	// once instead of waiting connectMax one after the other.
	connectPause = 100 * time.Millisecond
	// statementMax and lockMax are what the server bounds: no statement of ours runs for longer than milliseconds, and whoever holds a row
	// for seconds is stuck.
	statementMax = 8 * time.Second
	lockMax      = 4 * time.Second
	// idleMax is how long the server keeps a transaction whose process does not go on: one that has been stopped must not keep its rows.
	idleMax = 5 * time.Second
	// exchangeMax is when we give a connection up, above all that the server bounds, COMMIT with its wait for the disk too: the host is
	// gone, or the network.
	exchangeMax = 20 * time.Second
	// keepAlive is how often an idle connection is probed, so that no firewall forgets it.
	keepAlive = 15 * time.Second
	// lostTries is how often work is begun again after its connection was lost before anything of it could be durable.
	lostTries = 2
	// helpers is how many connections stand beside the one that commits in groups. It works alone as long as it keeps up: the larger the
	// groups, the less a payment costs the server (docs/performance.md). When it has not come for more work for helpAfter, since the disk
	// is slow, a row is locked or a connection stalls, they take what waits.
	helpers   = 3
	helpAfter = 20 * time.Millisecond
	// askers is how many connections ask what needs no transaction. What waits is sent together, so one would nearly do; a second one
	// answers while the first is held up.
	askers = 2
	// groupLockMax is how long a group waits for a row that somebody else has: a moment only, since all its members wait. They are run
	// alone then, and only those who want the row wait for it.
	groupLockMax = 100 * time.Millisecond
	// stepsMax bounds the statements that gather before they are sent.
	stepsMax = 64
)

// SQLSTATE codes that mean something to us.
const (
	codeDivisionByZero = "22012"
	codeFeature        = "0A000" // Cached plan must not change result type.
	codeNoStatement    = "26000"
	codeReadOnly       = "25006"
	codeSerialization  = "40001"
	codeUnknown        = "40003" // Statement completion unknown.
	codeDeadlock       = "40P01"
	codeLockTimeout    = "55P03"
)

// postgresError makes the core's sentinel of a server's error, by its code. The server's words stay as text: its message names tables and
// constraints, and never the values in them.
func postgresError(e *pgconn.PgError) error {
	class := e.Code
	if len(class) == 5 {
		class = e.Code[:2]
	}
	switch {
	case e.Code == codeSerialization || e.Code == codeDeadlock: // It is run again.
		return fmt.Errorf("%w: database: %v", payment.ErrStoreConflict, e)
	case class == "23":
		return fmt.Errorf("%w: %v", errRefused, e)
	case class == "08", class == "53", class == "57", class == "58", e.Code == codeReadOnly, e.Code == codeUnknown, e.Code == codeLockTimeout:
		return fmt.Errorf("%w: database: %v", payment.ErrUnavailable, e)
	}
	return fmt.Errorf("database: %v", e)
}

// postgresConfig reads an address and sets what every connection is set to.
func postgresConfig(address string) (*pgconn.Config, error) {
	c, err := pgconn.ParseConfig(address)
	if err != nil { // What it says may hold a part of the password.
		return nil, &payment.FieldError{Field: "url", Problem: "is no address of a PostgreSQL database: want one such as " +
			"postgres://user:password@host:5432/database?sslmode=verify-full"}
	}
	c.ConnectTimeout = connectMax
	c.DialFunc = (&net.Dialer{Timeout: connectMax, KeepAlive: keepAlive}).DialContext
	c.ValidateConnect = primary
	for name, value := range map[string]string{
		"application_name":                    "tillgate",
		"client_encoding":                     "UTF8",
		"default_transaction_isolation":       "read committed",
		"default_transaction_read_only":       "off",
		"statement_timeout":                   inMillis(statementMax),
		"lock_timeout":                        inMillis(lockMax),
		"idle_in_transaction_session_timeout": inMillis(idleMax),
		// Every statement finds its rows by a key, whatever the parameters; a plan made while the tables were empty must not outlive that.
		"plan_cache_mode":  "force_generic_plan",
		"enable_seqscan":   "off",
		"enable_hashjoin":  "off",
		"enable_mergejoin": "off",
		"jit":              "off",
	} {
		c.RuntimeParams[name] = value
	}
	return c, nil
}

// primary refuses a server that takes no writes, so that of several hosts the one is found that does.
func primary(ctx context.Context, c *pgconn.PgConn) error {
	r := c.ExecParams(ctx, `SELECT CAST(pg_is_in_recovery() AS TEXT)`, nil, nil, nil, nil).Read()
	if r.Err != nil {
		return r.Err
	}
	if len(r.Rows) != 1 || string(r.Rows[0][0]) != "false" {
		return errors.New("it is a replica, which takes no payments: name the primary, or all hosts with commas between")
	}
	return nil
}

func inMillis(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// postgresEngine runs transactions on PostgreSQL.
type postgresEngine struct {
	config    *pgconn.Config
	patience  time.Duration // exchangeMax, except in tests.
	slots     chan struct{} // One for each connection of a piece of work.
	bursts    chan *burst
	taken     atomic.Int64  // When the last group was taken from bursts, in Unix nanoseconds.
	quit      chan struct{} // Closed: no more bursts come.
	questions chan *question
	groups    sync.WaitGroup // Committers and askers.
	working   sync.WaitGroup // Work that has begun.
	once      sync.Once

	mu       sync.Mutex
	closed   bool
	idle     []*postgresConn // The one used last is used next: its statements are prepared.
	failed   error           // Why nobody could connect, at failedAt.
	failedAt time.Time
	counted  Stats
	sizes    [len(groupSizes)]uint64
}

func openPostgres(ctx context.Context, cfg Config, d *dialect) (*postgresEngine, error) {
	config, err := postgresConfig(cfg.URL)
	if err != nil {
		return nil, err
	}
	e := &postgresEngine{config: config, patience: exchangeMax, slots: make(chan struct{}, connsMax), bursts: make(chan *burst, queueMax),
		questions: make(chan *question, queueMax), quit: make(chan struct{})}
	conn, err := e.connect(ctx)
	if err != nil {
		return nil, fmt.Errorf("database: %w", err)
	}
	if err := errors.Join(checkServer(conn), migratePostgres(ctx, cfg.URL, config, d)); err != nil {
		conn.close()
		return nil, fmt.Errorf("database %s on %s: %w", config.Database, config.Host, err)
	}
	e.idle = append(e.idle, conn)
	e.groups.Go((&committer{engine: e}).run) // close waits for it and for those that follow.
	for range helpers {
		e.groups.Go((&committer{engine: e}).help)
	}
	for range askers {
		e.groups.Go((&asker{engine: e}).run)
	}
	return e, nil
}

const selectServer = `SELECT current_setting('server_version_num'), current_setting('fsync'),
current_setting('server_encoding'), CAST('B' < 'a' AND 'Z' < '_' AND '~' < 'é' AS TEXT)`

// serverMin is the oldest server that is tested, as the server numbers itself.
const serverMin = 15_00_00

// checkServer refuses a database in which payments would not be safe.
func checkServer(c *postgresConn) error {
	var err error
	_, failed := c.exchange(step{text: selectServer, each: func(r *row) {
		version, fsync, encoding, collated := r.text(), r.text(), r.text(), r.text()
		if n, _ := strconv.Atoi(version); n < serverMin {
			err = errors.Join(err, fmt.Errorf("the server is version %d: want %d or later", n/10000, serverMin/10000))
		}
		if fsync != "on" {
			err = errors.Join(err, errors.New("the server runs with fsync=off, and may lose payments that were answered: set fsync=on"))
		}
		if encoding != "UTF8" || collated != "true" {
			err = errors.Join(err, errors.New("the database has another encoding or collation: make it with "+
				"CREATE DATABASE … TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'"))
		}
	}})
	if failed != nil {
		return failed.err
	}
	return err
}

// connect opens a connection and makes sure that its commits are durable when they return.
func (e *postgresEngine) connect(ctx context.Context) (*postgresConn, error) {
	raw, err := pgconn.ConnectConfig(ctx, e.config)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", payment.ErrUnavailable, err)
	}
	c := newPostgresConn(raw, e.patience)
	level := ""
	_, failed := c.exchange(step{text: `SELECT current_setting('synchronous_commit')`, each: func(r *row) { level = r.text() }})
	// remote_apply promises more than on, and all others less.
	if failed == nil && level != "on" && level != "remote_apply" {
		_, failed = c.exchange(step{text: `SET synchronous_commit = on`})
	}
	if failed != nil {
		c.close()
		return nil, failed.err
	}
	return c, nil
}

func (c *postgresConn) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = c.raw.Close(ctx) // Nothing is under way that could be lost.
}

// enter counts work in, unless its caller has left or the store is closed. Whoever has entered says e.working.Done.
func (e *postgresEngine) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return errClosed
	}
	e.working.Add(1)
	return nil
}

// acquire waits for a slot and returns a connection.
func (e *postgresEngine) acquire(ctx context.Context) (*postgresConn, error) {
	select {
	case e.slots <- struct{}{}:
	default:
		e.count(func(s *Stats) { s.Queue++ })
		defer e.count(func(s *Stats) { s.Queue-- })
		limit := time.NewTimer(slotMax)
		defer limit.Stop()
		select {
		case e.slots <- struct{}{}:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-limit.C:
			return nil, fmt.Errorf("%w: database: all %d connections have been busy for %s", payment.ErrUnavailable, connsMax, slotMax)
		}
	}
	c, err := e.take(ctx)
	if err != nil {
		<-e.slots
	}
	return c, err
}

// take returns an idle connection that is still good, or a new one.
func (e *postgresEngine) take(ctx context.Context) (*postgresConn, error) {
	for {
		e.mu.Lock()
		n := len(e.idle)
		if n == 0 {
			e.mu.Unlock()
			return e.dial(ctx)
		}
		c := e.idle[n-1]
		e.idle = e.idle[:n-1]
		e.mu.Unlock()
		if !c.stale() {
			return c, nil
		}
		c.close()
	}
}

// dial opens a connection, unless nobody could just now.
func (e *postgresEngine) dial(ctx context.Context) (*postgresConn, error) {
	e.mu.Lock()
	failed := e.failed
	if time.Since(e.failedAt) > connectPause {
		failed = nil
	}
	e.mu.Unlock()
	if failed != nil {
		return nil, failed
	}
	c, err := e.connect(ctx)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.failed = nil
	if err != nil && ctx.Err() == nil {
		e.failed, e.failedAt = err, time.Now()
	}
	return c, err
}

// release gives a connection back. One in the middle of something is closed.
func (e *postgresEngine) release(c *postgresConn) {
	if c.broken != nil || c.begun {
		c.close()
	} else {
		e.mu.Lock()
		e.idle = append(e.idle, c)
		e.mu.Unlock()
	}
	<-e.slots
}

func (e *postgresEngine) count(fn func(*Stats)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	fn(&e.counted)
}

func (e *postgresEngine) committed(size uint64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.counted.Groups++
	e.counted.Work += size
	for i, bound := range groupSizes { // Cumulative: in every bound that it does not exceed.
		if size <= bound {
			e.sizes[i]++
		}
	}
}

func (e *postgresEngine) stats() Stats {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.counted
	s.Queue += len(e.bursts) + len(e.questions)
	s.GroupSize = make(map[uint64]uint64, len(groupSizes))
	for i, bound := range groupSizes {
		s.GroupSize[bound] = e.sizes[i]
	}
	return s
}

// close waits for the work that has begun.
func (e *postgresEngine) close() error {
	e.once.Do(func() {
		e.mu.Lock()
		e.closed = true
		e.mu.Unlock()
		e.working.Wait()
		close(e.bursts) // Nobody is left who could send one.
		close(e.quit)
		close(e.questions)
		e.groups.Wait()
		for _, c := range e.idle {
			c.close()
		}
	})
	return nil
}

// write runs fn until its outcome is known, or cannot be known.
func (e *postgresEngine) write(ctx context.Context, fn func(session) error) error {
	if err := e.enter(ctx); err != nil {
		return err
	}
	defer e.working.Done()
	careful := false
	for conflicts, losses := 1, 1; ; {
		s := &postgresSession{engine: e, ctx: ctx, careful: careful}
		again, err := s.transact(fn)
		switch {
		case again == againCareful && !careful:
		case again == againLost && losses < lostTries:
			losses++
			continue
		case errors.Is(err, payment.ErrStoreConflict) && again != againNever && conflicts < conflictTries:
			conflicts++
		default:
			return err
		}
		careful = true
	}
}

// read runs fn over one state of the database.
func (e *postgresEngine) read(ctx context.Context, fn func(session) error) error {
	if err := e.enter(ctx); err != nil {
		return err
	}
	defer e.working.Done()
	for losses := 1; ; losses++ {
		s := &postgresSession{engine: e, ctx: ctx, begin: beginRead}
		again, err := s.look(fn)
		if again != againLost || losses == lostTries {
			return err
		}
	}
}

// Whether work may be run again, beyond what its error says.
type again int

const (
	againMaybe   again = iota // After a conflict.
	againCareful              // What it was told may have been wrong.
	againLost                 // Its connection was lost, and nothing of it is durable.
	againNever                // Nobody knows whether it is durable.
)

const (
	beginWrite = `BEGIN`
	beginRead  = `BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY`
)

// postgresSession is one run of one piece of work.
//
// It sends as little as it can, as late as it can. What only reads needs no transaction at READ COMMITTED: each statement has a state of
// its own to look at anyhow, and whatever is decided upon it is fenced by compare-and-set. What must change a row waits for the end and
// is sent together with COMMIT: its rows are locked for as long as the server needs, and never while we compute. Only a statement whose
// result is needed begins a transaction early.
type postgresSession struct {
	engine *postgresEngine
	ctx    context.Context
	begin  string // beginRead for one that only reads.
	conn   *postgresConn
	steps  []step
	failed error
	// careful is set when the work is run again. Else a key that is to be inserted is taken to be new until COMMIT says otherwise, which
	// spares the common case a wait. assumed says that this has happened.
	careful, assumed bool
	// told says that the question under way has been given a row, and gone that its connection was lost after that: it cannot just be
	// asked again.
	told, gone bool
}

var _ session = (*postgresSession)(nil)

// errAssumed says that a key was there already.
var errAssumed = fmt.Errorf("key is there already: %w", payment.ErrStoreConflict)

// errGone says that an answer broke off.
var errGone = fmt.Errorf("%w: database: connection lost in the middle of an answer", payment.ErrUnavailable)

// transact runs fn and commits. A panic of fn goes on, after the rollback.
func (s *postgresSession) transact(fn func(session) error) (again, error) {
	defer s.release() // Also when fn calls runtime.Goexit.
	panicked, err := call[session](fn, s)
	if panicked == nil && s.failed != nil {
		return s.lost(), s.failed
	}
	if err == nil && panicked == nil {
		return s.commit()
	}
	s.rollback()
	if s.assumed {
		return againCareful, err
	}
	if panicked != nil {
		s.release()
		panic(panicked)
	}
	return againMaybe, err
}

func (s *postgresSession) lost() again {
	if s.gone || s.conn != nil && s.conn.broken != nil {
		return againLost
	}
	return againMaybe
}

func (s *postgresSession) look(fn func(session) error) (again, error) {
	defer s.release()
	err := fn(s)
	if s.failed != nil {
		return s.lost(), s.failed
	}
	s.rollback()
	return againMaybe, err
}

func (s *postgresSession) release() {
	if s.conn != nil {
		s.engine.release(s.conn)
		s.conn = nil
	}
}

// rollback leaves the connection without a transaction; what has not been sent is forgotten.
func (s *postgresSession) rollback() {
	s.steps = nil
	if s.conn != nil && s.conn.begun && s.conn.broken == nil {
		if _, failed := s.conn.exchange(step{text: rollback}); failed != nil {
			s.conn.broken = failed.err
		}
	}
}

// commit sends what is left and makes all durable.
func (s *postgresSession) commit() (again, error) {
	if s.conn == nil || !s.conn.begun {
		if len(s.steps) == 0 {
			return againMaybe, nil // It has only read.
		}
		s.release()
		b := &burst{steps: s.steps, done: make(chan struct{})}
		select {
		case s.engine.bursts <- b:
		case <-s.ctx.Done():
			return againNever, s.ctx.Err()
		}
		<-b.done
		if !b.alone {
			return againNever, b.err
		}
	}
	if err := s.connect(); err != nil {
		return againMaybe, err
	}
	steps := s.steps
	if s.conn.begun {
		steps = append(steps, step{text: commit})
	}
	_, failed := s.conn.exchange(steps...)
	if failed == nil {
		fault.After("commit")
		s.engine.committed(1)
		return againMaybe, nil
	}
	if s.conn.lost() {
		return againNever, unknown(failed.err)
	}
	s.rollback()
	return againMaybe, failed.err
}

func (s *postgresSession) connect() (err error) {
	if s.conn == nil {
		s.conn, err = s.engine.acquire(s.ctx)
	}
	return err
}

// run sends what has gathered and a statement, in a transaction unless that is all there is and only reads.
func (s *postgresSession) run(last step) (int64, error) {
	if s.failed != nil {
		return 0, s.failed
	}
	needed := s.begin != "" || len(s.steps) > 0 || s.conn != nil && s.conn.begun || !onlyReads(last.text)
	if !needed {
		s.told = false
		q := &question{step: last, done: make(chan struct{})}
		select {
		case s.engine.questions <- q:
		case <-s.ctx.Done():
			s.failed = s.ctx.Err()
			return 0, s.failed
		}
		<-q.done
		if q.alone && s.told {
			s.gone, q.alone, q.err = true, false, errGone
		}
		if !q.alone {
			s.failed = q.err
			return 0, q.err
		}
	}
	if err := s.connect(); err != nil {
		s.failed = err
		return 0, err
	}
	steps := make([]step, 0, len(s.steps)+2)
	if needed && !s.conn.begun {
		begin := beginWrite
		if s.begin != "" {
			begin = s.begin
		}
		steps = append(steps, step{text: begin})
	}
	steps = append(append(steps, s.steps...), last)
	sent := len(s.steps) > 0
	s.steps = s.steps[:0]
	n, failed := s.conn.exchange(steps...)
	if failed == nil {
		if sent {
			s.assumed = false // The key was new.
		}
		return n, nil
	}
	s.failed = failed.err
	s.rollback()
	return n, failed.err
}

func (s *postgresSession) exec(text string, args ...any) (int64, error) {
	return s.run(step{text: text, args: args})
}

func (s *postgresSession) query(each func(*row) error, text string, args ...any) error {
	var own error // What each says, which is no failure of the statement.
	var panicked any
	_, err := s.run(step{text: text, args: args, each: func(r *row) {
		s.told = true
		if own == nil && panicked == nil {
			panicked, own = call(each, r)
		}
	}})
	if panicked != nil {
		panic(panicked)
	}
	if err == nil {
		err = own
	}
	return err
}

func (s *postgresSession) must(missed func() error, text string, args ...any) error {
	if s.failed != nil {
		return s.failed
	}
	st := step{text: text, args: args, must: true, missed: missed}
	if len(s.steps) == stepsMax {
		_, err := s.run(st)
		return err
	}
	s.steps = append(s.steps, st)
	return nil
}

func (s *postgresSession) insertNew(text string, args ...any) (bool, error) {
	if s.careful {
		n, err := s.exec(text, args...)
		return n > 0, err
	}
	s.assumed = true
	return true, s.must(func() error { return errAssumed }, text, args...)
}

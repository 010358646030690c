package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tillgate/tillgate/internal/fault"
	"github.com/tillgate/tillgate/payment"
)

const (
	// groupMax bounds a group, and with it how long the write lock is held and how much is run again when a group fails.
	groupMax = 256
	// queueMax bounds the work that waits. A caller beyond it waits outside, as long as its context lets it.
	queueMax = 4096
	// turnMax is how long the writer stands back for a tool's turn. A tool needs milliseconds; one that has been stopped must not stop
	// the payments, and SQLite's own lock still keeps the two apart.
	turnMax = 2 * time.Second
)

// groupSizes are the bounds of Stats.GroupSize.
var groupSizes = [...]uint64{1, 2, 4, 8, 16, 32, 64, 128, groupMax}

// carefulFor is how many groups run with savepoints after one that was spoiled.
const carefulFor = 16

// errUndo says that a piece of work has failed after it wrote something, in a group without savepoints: what it wrote cannot be told from
// the others'.
var errUndo = errors.New("group is spoiled")

// writer owns the connection that writes. It takes all the work that waits, runs it, commits once, and only then answers.
//
// A piece of work that fails must leave nothing behind. Nearly all that fail have only read by then: a key that is taken, a state that does not
// allow it. So a group begins without savepoints, which cost as much as a small statement each; when a piece fails that has written, the group
// is rolled back and run again with one for each piece, as are some groups after it.
type writer struct {
	connect func() (*sqliteConn, error)
	turn    *fileLock
	tool    bool
	queue   chan *work
	quit    chan struct{} // Closed: no more work is taken in.
	stopped chan struct{} // Closed: the writer has ended, and all that it began is answered.
	once    sync.Once

	// Only the writer's goroutine touches these.
	conn       *sqliteConn
	group      []*work
	last       int  // How much work the last commit carried.
	careful    int  // How many groups are still to run with savepoints.
	overstayed bool // Somebody has kept the turn for longer than turnMax, and is not waited for again before it is free.

	mu      sync.Mutex
	counted Stats
	sizes   [len(groupSizes)]uint64
}

// Where a piece of work stands. The writer and the caller race for what is queued: who moves it first has it.
const (
	queued int32 = iota
	begun
	abandoned
)

// work is a closure that waits for a transaction, and what came of it.
type work struct {
	fn       func(session) error
	state    atomic.Int32
	done     chan struct{} // Closed when the fields below are final.
	err      error
	panicked any
}

func newWriter(connect func() (*sqliteConn, error), turn *fileLock, tool bool) *writer {
	return &writer{connect: connect, turn: turn, tool: tool, queue: make(chan *work, queueMax), quit: make(chan struct{}),
		stopped: make(chan struct{})}
}

// do queues a closure and waits for what comes of it.
func (w *writer) do(ctx context.Context, fn func(session) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case <-w.quit:
		return errClosed
	default:
	}
	job := &work{fn: fn, done: make(chan struct{})}
	select {
	case w.queue <- job:
	case <-ctx.Done():
		return ctx.Err()
	case <-w.quit:
		return errClosed
	}
	select {
	case <-job.done:
	case <-ctx.Done():
		if job.state.CompareAndSwap(queued, abandoned) {
			return ctx.Err()
		}
		<-job.done
	case <-w.stopped:
		if job.state.CompareAndSwap(queued, abandoned) {
			return errClosed
		}
		<-job.done
	}
	if job.panicked != nil {
		panic(job.panicked)
	}
	return job.err
}

// run works until close, and ends when the queue is empty.
func (w *writer) run() {
	defer close(w.stopped)
	// A closure that calls runtime.Goexit takes this goroutine with it. Its caller and all others are answered, with an error.
	defer func() {
		for _, job := range w.group {
			job.answer(errClosed)
		}
	}()
	for {
		job := w.poll()
		if job == nil {
			select {
			case job = <-w.queue:
			case <-w.quit:
				if job = w.poll(); job == nil {
					return
				}
			}
		}
		w.serve(job)
	}
}

// close ends the writer after what is queued.
func (w *writer) close() error {
	w.once.Do(func() { close(w.quit) })
	<-w.stopped
	if w.conn == nil {
		return nil
	}
	conn := w.conn
	w.conn = nil
	return conn.close()
}

func (w *writer) poll() *work {
	select {
	case job := <-w.queue:
		return job
	default:
		return nil
	}
}

// serve runs first and all that waits beside it.
func (w *writer) serve(first *work) {
	w.begin(first)
	if len(w.group) == 0 {
		return
	}
	defer w.takeTurn()()
	err := w.start()
	if err != nil {
		// The database cannot be written at all. Those who wait hear it now, instead of one after the other when each has waited.
		if len(w.group) < groupMax {
			w.begin(w.poll())
		}
		w.answer(err)
		return
	}
	err = w.runGroup()
	if errors.Is(err, errUndo) {
		w.rollback()
		w.careful = carefulFor
		if err := w.start(); err != nil {
			w.answer(err)
			return
		}
		err = w.runGroup()
	}
	if err == nil {
		err = w.commit(len(w.group))
	}
	if err == nil {
		w.careful = max(w.careful-1, 0)
		for _, job := range w.group {
			close(job.done)
		}
		w.group = w.group[:0]
		return
	}
	w.rollback()
	if len(w.group) == 1 {
		w.answer(err)
		return
	}
	w.count(func(s *Stats) { s.Broken++ })
	for _, job := range w.group {
		job.answer(w.alone(job))
	}
	w.group = w.group[:0]
}

// runGroup runs the group's work, and what comes while it runs. An error means that the group has failed.
func (w *writer) runGroup() error {
	run := w.inGroup
	if w.careful > 0 {
		run = w.inSavepoint
	}
	stoodBack := false
	for i := 0; i < len(w.group); i++ {
		if err := run(w.group[i]); err != nil {
			return err
		}
		if i == len(w.group)-1 && len(w.group) < groupMax {
			w.begin(w.poll()) // Work that came while this ran shares the commit.
		}
		// Callers that the last commit has answered are often about to come again, and wait only for a processor, which this goroutine may
		// have. Letting them run once makes groups half as large again. A caller that is alone has nobody to wait for.
		if i == len(w.group)-1 && len(w.group) < groupMax && !stoodBack && (w.last > 1 || len(w.group) > 1) {
			stoodBack = true
			runtime.Gosched()
			w.begin(w.poll())
		}
	}
	return nil
}

// begin adds work to the group, and the work that came since, unless its caller has left.
func (w *writer) begin(job *work) {
	for ; job != nil; job = w.poll() {
		if job.state.CompareAndSwap(queued, begun) {
			w.group = append(w.group, job)
		}
		if len(w.group) == groupMax {
			return
		}
	}
}

// takeTurn gives other processes their turn, and returns what ends ours. SQLite's lock knows no queue: who asks in intervals would hardly
// ever meet the moment between two groups. So a tool announces itself by a lock of a file, and the server, which works without a pause,
// stands back while it is held. Where that fails, SQLite's lock alone decides.
func (w *writer) takeTurn() (end func()) {
	patience := turnMax
	if w.overstayed {
		patience = 0
	}
	ok, _ := w.turn.wait(patience)
	w.overstayed = !ok
	if ok && w.tool {
		return w.turn.release
	}
	if ok {
		w.turn.release()
	}
	return func() {}
}

// start begins a transaction.
func (w *writer) start() error {
	if w.conn == nil {
		conn, err := w.connect()
		if err != nil {
			return fmt.Errorf("open: %w", err)
		}
		w.conn = conn
	}
	if _, err := w.conn.exec(beginImmediate); err != nil {
		w.rollback()
		return fmt.Errorf("begin: %w", err)
	}
	return nil
}

// commit makes a transaction durable. Nobody has been answered before it returns.
func (w *writer) commit(size int) error {
	if _, err := w.conn.exec(commit); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	fault.After("commit")
	w.last = size
	w.count(func(s *Stats) {
		s.Groups++
		s.Work += uint64(size)
		for i, bound := range groupSizes { // Cumulative: in every bound that it does not exceed.
			if uint64(size) <= bound {
				w.sizes[i]++
			}
		}
	})
	return nil
}

// rollback leaves the connection without a transaction, or drops it.
func (w *writer) rollback() {
	if w.conn == nil {
		return
	}
	if _, err := w.conn.exec(rollback); err != nil {
		// SQLite may have rolled back by itself. A connection that can begin another transaction is as good as new.
		_, err = w.conn.exec(begin)
		if err == nil {
			_, err = w.conn.exec(rollback)
		}
		if err != nil {
			_ = w.conn.close() // It is given up; the next transaction opens another.
			w.conn = nil
			return
		}
	}
	w.conn.broken = nil
}

// inGroup runs work inside the group's transaction, with nothing to undo it by, and keeps its result.
func (w *writer) inGroup(job *work) error {
	for try := 1; ; try++ {
		w.conn.wrote = false
		job.panicked, job.err = call[session](job.fn, w.conn)
		if w.conn.broken != nil {
			return w.conn.broken
		}
		if (job.err != nil || job.panicked != nil) && w.conn.wrote {
			return errUndo
		}
		if !errors.Is(job.err, payment.ErrStoreConflict) || try == conflictTries {
			return nil
		}
	}
}

// inSavepoint runs work inside the group's transaction and keeps its result. An error means that the group has failed, not the work.
func (w *writer) inSavepoint(job *work) error {
	for try := 1; ; try++ {
		if _, err := w.conn.exec(savepoint); err != nil {
			return err
		}
		job.panicked, job.err = call[session](job.fn, w.conn)
		if w.conn.broken != nil {
			return w.conn.broken
		}
		if job.err != nil || job.panicked != nil {
			if _, err := w.conn.exec(rollbackTo); err != nil {
				return err
			}
		}
		if _, err := w.conn.exec(releasePoint); err != nil {
			return err
		}
		if !errors.Is(job.err, payment.ErrStoreConflict) || try == conflictTries {
			return nil
		}
	}
}

// alone runs work in a transaction of its own, after its group has failed.
func (w *writer) alone(job *work) error {
	job.err, job.panicked = nil, nil
	if err := w.start(); err != nil {
		return err
	}
	err := w.inSavepoint(job)
	if err == nil {
		err = w.commit(1)
	}
	if err != nil {
		w.rollback()
		return err
	}
	return job.err
}

// answer ends the whole group with one error.
func (w *writer) answer(err error) {
	for _, job := range w.group {
		job.answer(err)
	}
	w.group = w.group[:0]
}

func (j *work) answer(err error) {
	select {
	case <-j.done: // Answered already, when a Goexit has cut a group short.
	default:
		j.err = err
		close(j.done)
	}
}

// call runs fn and catches its panic, which belongs to the caller.
func call[T any](fn func(T) error, s T) (panicked any, err error) {
	defer func() { panicked = recover() }()
	return nil, fn(s)
}

func (w *writer) count(fn func(*Stats)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fn(&w.counted)
}

// committed is how much work has been committed.
func (w *writer) committed() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.counted.Work
}

func (w *writer) stats() Stats {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.counted
	s.Queue = len(w.queue)
	s.GroupSize = make(map[uint64]uint64, len(groupSizes))
	for i, bound := range groupSizes {
		s.GroupSize[bound] = w.sizes[i]
	}
	return s
}

package sqlstore

import (
	"bufio"
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tillgate/tillgate/payment"
)

// insertKeyed is a small piece of work that can be told from others.
func insertKeyed(name string) func(payment.Tx) error {
	return func(tx payment.Tx) error {
		_, fresh, err := tx.InsertKey(payment.KeyRow{Merchant: 1, Key: payment.Key{Scope: "test", Key: name}, Payment: 1})
		if err == nil && !fresh {
			return fmt.Errorf("%s is there already", name)
		}
		return err
	}
}

func stored(t *testing.T, s *Store, name string) bool {
	t.Helper()
	err := s.Read(t.Context(), func(r payment.Reader) error {
		_, err := r.Key(1, payment.Key{Scope: "test", Key: name})
		return err
	})
	if err != nil && !errors.Is(err, payment.ErrNotFound) {
		t.Fatal(err)
	}
	return err == nil
}

func engineOf(s *Store) *sqliteEngine { return s.engine.(*sqliteEngine) }

// hold keeps the writer busy with a piece of work until release is called, so that all that is queued meanwhile makes one group.
// release returns what came of it.
func hold(t *testing.T, s *Store) (release func() error) {
	t.Helper()
	began, end, out := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	var begun sync.Once
	go func() {
		out <- s.InTx(context.WithoutCancel(t.Context()), func(payment.Tx) error { // It may run again.
			begun.Do(func() { close(began) })
			<-end
			return nil
		})
	}()
	<-began
	return sync.OnceValue(func() error {
		close(end)
		return <-out
	})
}

func wantNone(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("got error %v, want none", err)
	}
}

// submit queues work and returns its outcome later. It waits until the work is queued.
func submit(t *testing.T, ctx context.Context, s *Store, fn func(payment.Tx) error) <-chan error {
	t.Helper()
	w := engineOf(s).writer
	before := len(w.queue)
	out := make(chan error, 1)
	go func() {
		defer func() {
			if v := recover(); v != nil {
				out <- fmt.Errorf("panic: %v", v)
			}
		}()
		out <- s.InTx(ctx, fn)
	}()
	for len(w.queue) == before {
		runtime.Gosched()
	}
	return out
}

func TestGroupHurtsNobody(t *testing.T) {
	t.Parallel()
	s := setup(t)
	release := hold(t, s)
	no := errors.New("no")
	var outcomes []<-chan error
	const many = 40
	for i := range many {
		fn := insertKeyed(fmt.Sprint(i))
		outcomes = append(outcomes, submit(t, t.Context(), s, func(tx payment.Tx) error {
			if err := fn(tx); err != nil {
				return err
			}
			switch i {
			case 7:
				return no
			case 13:
				panic("ouch")
			case 21:
				return tx.UpdatePayment(&payment.Payment{Merchant: 1, ID: 1}, nil) // Not there: a conflict on every try.
			}
			return nil
		}))
	}
	wantNone(t, release())
	for i, out := range outcomes {
		err := <-out
		switch i {
		case 7:
			if !errors.Is(err, no) {
				t.Errorf("work %d: got %v, want %v", i, err, no)
			}
		case 13:
			if err == nil || err.Error() != "panic: ouch" {
				t.Errorf("work %d: got %v, want its panic", i, err)
			}
		case 21:
			if !errors.Is(err, payment.ErrStoreConflict) {
				t.Errorf("work %d: got %v, want %v", i, err, payment.ErrStoreConflict)
			}
		default:
			if err != nil {
				t.Errorf("work %d: %v", i, err)
			}
		}
		if got, want := stored(t, s, fmt.Sprint(i)), i != 7 && i != 13 && i != 21; got != want {
			t.Errorf("work %d is stored: got %t, want %t", i, got, want)
		}
	}
	st := s.Stats()
	if st.Groups != 1 || st.Work != many+1 || st.GroupSize[32] != 0 || st.GroupSize[64] != 1 || st.GroupSize[groupMax] != 1 ||
		st.Broken != 0 || st.Queue != 0 {
		t.Errorf("got stats %+v, want one group of %d", st, many+1)
	}
}

// spoiler is a connection whose COMMIT fails as often as it is told to.
type spoiler struct {
	driver.Conn
	failures *int
}

type spoiledCommit struct {
	driver.Stmt
	failures *int
}

var errSpoiled = errors.New("spoiled")

func (c spoiler) Prepare(text string) (driver.Stmt, error) {
	stmt, err := c.Conn.Prepare(text)
	if text == commit && err == nil {
		stmt = spoiledCommit{stmt, c.failures}
	}
	return stmt, err
}

func (c spoiledCommit) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	if *c.failures > 0 {
		*c.failures--
		return nil, errSpoiled
	}
	return c.Stmt.(driver.StmtExecContext).ExecContext(ctx, args)
}

// spoil makes the next commits fail.
func spoil(s *Store, failures int) {
	w := engineOf(s).writer
	connect := w.connect
	w.connect = func() (*sqliteConn, error) {
		c, err := connect()
		if err == nil {
			c.conn = spoiler{c.conn, &failures}
		}
		return c, err
	}
}

func TestFailedCommitRunsAgainOneByOne(t *testing.T) {
	t.Parallel()
	s := setup(t)
	spoil(s, 1)
	release := hold(t, s)
	runs := [3]int{}
	var outcomes []<-chan error
	for i := range runs {
		fn := insertKeyed(fmt.Sprint(i))
		outcomes = append(outcomes, submit(t, t.Context(), s, func(tx payment.Tx) error { runs[i]++; return fn(tx) }))
	}
	wantNone(t, release())
	for i, out := range outcomes {
		if err := <-out; err != nil {
			t.Errorf("work %d: %v", i, err)
		}
		if runs[i] != 2 {
			t.Errorf("work %d ran %d times, want twice", i, runs[i])
		}
		if !stored(t, s, fmt.Sprint(i)) {
			t.Errorf("work %d is not stored", i)
		}
	}
	if st := s.Stats(); st.Broken != 1 || st.Groups != 4 {
		t.Errorf("got stats %+v, want one broken group and four commits", st)
	}
}

func TestNobodyIsAnsweredBeforeCommit(t *testing.T) {
	t.Parallel()
	s := setup(t)
	spoil(s, 1)
	err := s.InTx(t.Context(), insertKeyed("a"))
	if err == nil || !strings.Contains(err.Error(), errSpoiled.Error()) {
		t.Errorf("got %v, want that the commit failed", err)
	}
	if stored(t, s, "a") {
		t.Error("what was refused is stored")
	}
	if err := s.InTx(t.Context(), insertKeyed("a")); err != nil {
		t.Errorf("after a failed commit: %v", err)
	}
}

// pages lets the database grow by at most so many pages; 0 sets no limit.
func pages(t *testing.T, s *Store, more int64) {
	t.Helper()
	err := s.write(t.Context(), func(tx *txn) error {
		var count int64
		if err := tx.one(func(r *row) error { count = r.int(); return nil }, `PRAGMA page_count`); err != nil {
			return err
		}
		most := count + more
		if more == 0 {
			most = 1 << 30
		}
		return tx.query(func(*row) error { return nil }, fmt.Sprintf(`PRAGMA max_page_count = %d`, most))
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestFullDatabase(t *testing.T) {
	t.Parallel()
	s := setup(t)
	pages(t, s, 3)
	release := hold(t, s)
	big := func(name string) func(payment.Tx) error {
		fn := insertKeyed(name + strings.Repeat("x", 100_000))
		return func(tx payment.Tx) error {
			_ = fn(tx) // Overlooked, and yet nothing of it may stay.
			return insertKeyed(name)(tx)
		}
	}
	small := submit(t, t.Context(), s, insertKeyed("small"))
	tooBig := submit(t, t.Context(), s, big("big"))
	small2 := submit(t, t.Context(), s, insertKeyed("small too"))
	wantNone(t, release())
	for _, out := range []<-chan error{small, small2} {
		if err := <-out; err != nil {
			t.Errorf("beside what is too big: %v", err)
		}
	}
	if err := <-tooBig; !errors.Is(err, payment.ErrUnavailable) {
		t.Errorf("got %v, want %v", err, payment.ErrUnavailable)
	}
	if !stored(t, s, "small") || !stored(t, s, "small too") || stored(t, s, "big") {
		t.Error("a full disk took the wrong rows")
	}
	pages(t, s, 0)
	if err := s.InTx(t.Context(), big("big")); err != nil {
		t.Errorf("with space again: %v", err)
	}
}

// TestFullDisk fills a real file system, so that COMMIT itself fails.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := mountSmall(dir); err != nil {
		t.Skipf("no small file system: %v (TestFullDatabase has the rest)", err)
	}
	t.Cleanup(func() {
		if err := unmount(dir); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	s := openAt(t, dir, false)
	var refused error
	taken := 0
	for ; refused == nil && taken < 10_000; taken++ {
		refused = s.InTx(t.Context(), insertKeyed(fmt.Sprint(taken)+strings.Repeat("x", 10_000)))
	}
	if !errors.Is(refused, payment.ErrUnavailable) {
		t.Fatalf("after %d: got %v, want %v", taken, refused, payment.ErrUnavailable)
	}
	if err := s.Check(t.Context()); err == nil {
		// One page may still fit; what matters is that big work is refused again.
		if err := s.InTx(t.Context(), insertKeyed("more"+strings.Repeat("x", 100_000))); !errors.Is(err, payment.ErrUnavailable) {
			t.Errorf("still full: got %v, want %v", err, payment.ErrUnavailable)
		}
	}
	for i := range taken - 1 {
		if !stored(t, s, fmt.Sprint(i)+strings.Repeat("x", 10_000)) {
			t.Fatalf("%d was answered and is lost", i)
		}
	}
	if err := growSmall(dir); err != nil {
		t.Fatal(err)
	}
	if err := s.InTx(t.Context(), insertKeyed("again"+strings.Repeat("x", 100_000))); err != nil {
		t.Errorf("with space again: %v", err)
	}
}

func TestCancelledWhileQueued(t *testing.T) {
	t.Parallel()
	s := setup(t)
	release := hold(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	out := submit(t, ctx, s, func(payment.Tx) error { t.Error("the closure ran"); return nil })
	cancel()
	if err := <-out; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	wantNone(t, release())

	// Once it has begun, the outcome is awaited.
	ctx, cancel = context.WithCancel(t.Context())
	fn := insertKeyed("a")
	err := s.InTx(ctx, func(tx payment.Tx) error { cancel(); return fn(tx) })
	if err != nil || !stored(t, s, "a") {
		t.Errorf("begun before its context ended: got %v, stored %t", err, stored(t, s, "a"))
	}
}

func TestCloseRunsWhatWaits(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openAt(t, dir, false)
	release := hold(t, s)
	var outcomes []<-chan error
	for i := range 20 {
		outcomes = append(outcomes, submit(t, t.Context(), s, insertKeyed(fmt.Sprint(i))))
	}
	closed := make(chan error)
	go func() { closed <- s.Close() }()
	<-engineOf(s).writer.quit
	if err := s.InTx(t.Context(), insertKeyed("late")); !errors.Is(err, payment.ErrUnavailable) {
		t.Errorf("after close began: got %v, want %v", err, payment.ErrUnavailable)
	}
	wantNone(t, release())
	for i, out := range outcomes {
		if err := <-out; err != nil {
			t.Errorf("work %d: %v", i, err)
		}
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	s = openAt(t, dir, false)
	for i := range 20 {
		if !stored(t, s, fmt.Sprint(i)) {
			t.Errorf("work %d is not stored", i)
		}
	}
	if stored(t, s, "late") {
		t.Error("what was refused is stored")
	}
}

// TestGoexit ends the writer by a mistake that closures are warned of: everybody is answered.
func TestGoexit(t *testing.T) {
	t.Parallel()
	s := setup(t)
	release := hold(t, s)
	bad := submit(t, t.Context(), s, func(payment.Tx) error { runtime.Goexit(); return nil })
	good := submit(t, t.Context(), s, insertKeyed("a"))
	held := make(chan error, 1)
	held <- release()
	for _, out := range []<-chan error{held, bad, good} {
		if err := <-out; !errors.Is(err, payment.ErrUnavailable) {
			t.Errorf("got %v, want %v", err, payment.ErrUnavailable)
		}
	}
	if err := s.InTx(t.Context(), insertKeyed("b")); !errors.Is(err, payment.ErrUnavailable) {
		t.Errorf("got %v, want %v", err, payment.ErrUnavailable)
	}
}

func TestReadThatEndsItsGoroutine(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for range readersMax + 1 {
		err := s.Read(t.Context(), func(payment.Reader) error { runtime.Goexit(); return nil })
		if !errors.Is(err, payment.ErrUnavailable) {
			t.Errorf("got %v, want %v", err, payment.ErrUnavailable)
		}
	}
	if stored(t, s, "a") {
		t.Error("nothing was stored")
	}
}

func TestReadPanics(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for range readersMax + 1 {
		func() {
			defer func() {
				if got := recover(); got != "ouch" {
					t.Errorf("got panic %v", got)
				}
			}()
			err := s.Read(t.Context(), func(payment.Reader) error { panic("ouch") })
			t.Errorf("got %v, want a panic", err)
		}()
	}
	if stored(t, s, "a") {
		t.Error("nothing was stored")
	}
}

// TestReadWaits keeps all readers busy: who waits may leave, and who has begun is waited for, by its caller and by Close.
func TestReadWaits(t *testing.T) {
	t.Parallel()
	s := setup(t)
	ctx, cancel := context.WithCancel(t.Context())
	release, begun, outcomes := make(chan struct{}), make(chan struct{}), make(chan error, readersMax)
	for range readersMax {
		go func() {
			outcomes <- s.Read(ctx, func(payment.Reader) error {
				begun <- struct{}{}
				<-release
				return nil
			})
		}()
	}
	for range readersMax {
		<-begun
	}
	waiting := make(chan error, 1)
	go func() {
		waiting <- s.Read(ctx, func(payment.Reader) error {
			t.Error("ran after its caller had left")
			return nil
		})
	}()
	cancel()
	if err := <-waiting; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	<-engineOf(s).closed
	select {
	case err := <-outcomes:
		t.Errorf("a read that had begun was not waited for: %v", err)
	case err := <-closed:
		t.Errorf("Close did not wait: %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	close(release)
	for range readersMax {
		wantNone(t, <-outcomes)
	}
	wantNone(t, <-closed)
	if err := s.Read(t.Context(), func(payment.Reader) error { return nil }); !errors.Is(err, payment.ErrUnavailable) {
		t.Errorf("got %v, want %v", err, payment.ErrUnavailable)
	}
}

func TestSecondServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := openAt(t, dir, false)
	_, err := Open(t.Context(), Config{Dir: dir, Now: time.Now})
	if !errors.Is(err, ErrInUse) {
		t.Fatalf("got %v, want %v", err, ErrInUse)
	}
	for _, part := range []string{dir, fmt.Sprint(os.Getpid()), "stop it, or name another data folder"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not say %q", err, part)
		}
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := openAt(t, dir, false).Check(t.Context()); err != nil {
		t.Errorf("after the first has closed: %v", err)
	}
}

// TestToolBesideServer lets an operator's command write while a server writes without a pause.
func TestToolBesideServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server := openAt(t, dir, false)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	for i := range 8 {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				if err := server.InTx(t.Context(), insertKeyed(fmt.Sprintf("server %d %d", i, n))); err != nil {
					t.Errorf("server: %v", err)
					return
				}
			}
		})
	}
	tool := openAt(t, dir, true)
	for i := range 30 {
		if err := tool.InTx(t.Context(), insertKeyed(fmt.Sprintf("tool %d", i))); err != nil {
			t.Errorf("tool: %v", err)
		}
		if !stored(t, server, fmt.Sprintf("tool %d", i)) {
			t.Errorf("the server does not see what the tool wrote")
		}
	}
}

// killedChild is the environment variable that turns the test binary into the victim of TestKill.
const killedChild = "SQLSTORE_TEST_VICTIM"

// TestKill kills a process that pays, and looks for what it was told is durable.
func TestKill(t *testing.T) {
	if dir := os.Getenv(killedChild); dir != "" {
		victim(t, dir)
		return
	}
	t.Parallel()
	dir := t.TempDir()
	told := map[string]bool{}
	for round := range 3 {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKill$")
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s", killedChild, dir), fmt.Sprintf("ROUND=%d", round))
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			if name, ok := strings.CutPrefix(lines.Text(), "stored "); ok {
				told[name] = true
			}
			if n == 200+round*37 {
				if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait() // Killed.
	}
	if len(told) < 600 {
		t.Fatalf("the victims told of %d rows only", len(told))
	}
	s := openAt(t, dir, false)
	for name := range told {
		if !stored(t, s, name) {
			t.Errorf("%s was answered and is lost", name)
		}
	}
}

func victim(t *testing.T, dir string) {
	s := openAt(t, dir, false)
	for i := range 8 {
		go func() {
			for n := 0; ; n++ {
				name := fmt.Sprintf("%s.%d.%d", os.Getenv("ROUND"), i, n)
				if err := s.InTx(context.Background(), insertKeyed(name)); err != nil {
					fmt.Println("failed", err)
					return
				}
				fmt.Println("stored", name)
			}
		}()
	}
	select {}
}

func TestDataFolderThatCannotBe(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), Config{Dir: file, Now: time.Now})
	if err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("got %v, want an error that names %s", err, file)
	}
}

// TestOddPath opens a database whose folder has letters that mean something in a URI.
func TestOddPath(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "shop #1 100% ?a=b&c")
	if err := openAt(t, dir, false).Check(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, databaseFile)); err != nil {
		t.Error(err)
	}
}

// TestNoTablesOnTheWay checks that no statement of a payment makes SQLite build a table of its own for the time that it runs, as an IN of three
// values in a CHECK does: each costs as much as a row.
func TestNoTablesOnTheWay(t *testing.T) {
	t.Parallel()
	s := setup(t)
	ephemeral := func(text string) bool {
		found := false
		if err := s.read(t.Context(), func(r *reader) error {
			return r.query(func(r *row) error {
				r.int() // The address.
				found = r.text() == "OpenEphemeral" || found
				return nil
			}, "EXPLAIN "+parameter.ReplaceAllString(text, "1"))
		}); err != nil {
			t.Fatal(err)
		}
		return found
	}
	for _, text := range []string{insertKey, keepAnswer, insertPayment, insertOperation, updatePayment, updateOperation, insertEntry} {
		if ephemeral(text) {
			t.Errorf("%s\nbuilds a table", text)
		}
	}
	if text := "SELECT 1 FROM payments WHERE amount IN (1, 2, 3)"; !ephemeral(text) {
		t.Errorf("%s\nbuilds none, so that this test cannot fail", text)
	}
}

// TestTheLogIsCopiedBesideTheWriter checks that the log reaches the database while the writer goes on, before it is as long as the writer lets it
// grow, and that what is copied is what was committed.
func TestTheLogIsCopiedBesideTheWriter(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openAt(t, dir, false)
	size := func() int64 {
		info, err := os.Stat(filepath.Join(dir, databaseFile))
		wantNone(t, err)
		return info.Size()
	}
	before := size()
	n := 0
	for ; size() == before; n++ {
		if n > 100*copyAfter {
			t.Fatalf("after %d commits nothing has been copied", n)
		}
		wantNone(t, s.InTx(t.Context(), insertKeyed(fmt.Sprint(n))))
	}
	if log, err := os.Stat(filepath.Join(dir, databaseFile+"-wal")); err != nil || log.Size() >= checkpointPages*4096 {
		t.Errorf("the log is %d bytes long (%v): the writer has copied it", log.Size(), err)
	}
	for i := range n {
		if !stored(t, s, fmt.Sprint(i)) {
			t.Fatalf("%d is lost", i)
		}
	}
}

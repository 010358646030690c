// Package park keeps the connections of requests that wait for long. A request that waits inside net/http holds a goroutine with a deep stack, its
// buffers and all that was made to route it, 50 KB together; parked, it holds its connection and what is said in the log, and no goroutine. When it
// is answered, its connection goes back to the server for the next request.
package park

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"syscall"
	"time"

	"github.com/tillgate/tillgate/internal/access"
)

const (
	// writeMax is how long a caller may take to read an answer, at most some kilobytes.
	writeMax = 10 * time.Second
	// lookEvery is how often it is looked whether callers have left. A look costs a system call of half a microsecond for each.
	lookEvery = 2 * time.Second
	// Pauses after connections that could not be taken in, for want of file descriptors or the like: doubled from the first to the last.
	pauseFirst = 5 * time.Millisecond
	pauseLast  = time.Second
)

// Lot is a listener whose connections can be parked. Serve it, give the server its Context as BaseContext, and Wait after the server's Shutdown.
// Connections over TLS cannot be parked.
type Lot struct {
	net.Listener
	idle   time.Duration
	log    *slog.Logger
	fresh  chan accepted
	back   chan net.Conn
	closed chan struct{}
	once   sync.Once
	err    error
	parked sync.WaitGroup // What Wait waits for.

	mu      sync.Mutex
	spots   map[*Spot]struct{}    // Those that wait for an answer.
	looks   bool                  // A goroutine looks after them.
	resting map[net.Conn]struct{} // Those that were answered and have not sent another request yet.
}

type accepted struct {
	conn net.Conn
	err  error
}

type lotKey struct{}

// New makes a lot of a listener. A connection may be idle for so long between an answer and the next request.
func New(l net.Listener, idle time.Duration, log *slog.Logger) *Lot {
	lot := &Lot{Listener: l, idle: idle, log: log, fresh: make(chan accepted), back: make(chan net.Conn), closed: make(chan struct{}),
		spots: map[*Spot]struct{}{}, resting: map[net.Conn]struct{}{}}
	lot.parked.Go(lot.accept)
	return lot
}

// accept hands new connections over, until the listener is closed. After a failure that passes it waits here: the server would let those wait
// who come back, too.
func (l *Lot) accept() {
	pause := pauseFirst
	for {
		conn, err := l.Listener.Accept()
		if passes(err) {
			l.log.Warn("a connection is not taken in", "address", l.Addr().String(), "again_in", pause, "error", err)
			select {
			case <-time.After(pause):
			case <-l.closed:
			}
			pause = min(2*pause, pauseLast)
			continue
		}
		pause = pauseFirst
		select {
		case l.fresh <- accepted{conn, err}:
		case <-l.closed:
			if err == nil {
				_ = conn.Close()
			}
			return
		}
		if errors.Is(err, net.ErrClosed) {
			return
		}
	}
}

// passes reports whether a listener may do better later.
func passes(err error) bool {
	var e interface{ Temporary() bool }
	return errors.As(err, &e) && e.Temporary()
}

// Accept returns a new connection, or one that comes back.
func (l *Lot) Accept() (net.Conn, error) {
	select {
	case a := <-l.fresh:
		return a.conn, a.err
	case conn := <-l.back:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close takes no more connections in, and ends those that are idle. Those that are parked are answered, and closed then.
func (l *Lot) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.err = l.Listener.Close()
		l.mu.Lock()
		defer l.mu.Unlock()
		for conn := range l.resting {
			_ = conn.SetReadDeadline(time.Unix(1, 0)) // Whoever reads closes it.
		}
	})
	return l.err
}

// Wait waits until all that are parked are answered.
func (l *Lot) Wait() { l.parked.Wait() }

// Context is the server's BaseContext.
func (l *Lot) Context(net.Listener) context.Context {
	return context.WithValue(context.Background(), lotKey{}, l)
}

// Spot is where a request is parked.
type Spot struct {
	lot    *Lot
	conn   net.Conn
	unread []byte // What the caller had sent beyond its request.
	header http.Header
	method string
	path   string
	remote string
	line   context.Context
	finish func(status, bytes int)
	left   func() // Of the lot's mutex.
}

// Park parks a request if its connection can be; then the handler returns without an answer, and whoever has the spot calls Answer, once.
func Park(w http.ResponseWriter, r *http.Request) (*Spot, bool) {
	lot, ok := r.Context().Value(lotKey{}).(*Lot)
	if !ok || r.TLS != nil || !r.ProtoAtLeast(1, 1) || r.ProtoMajor != 1 || r.Close || r.ContentLength != 0 {
		return nil, false
	}
	lot.parked.Add(1) // While the server still counts the connection: it is never counted by nobody.
	conn, buffers, err := http.NewResponseController(w).Hijack()
	if err != nil {
		lot.parked.Done()
		return nil, false
	}
	unread, _ := buffers.Reader.Peek(buffers.Reader.Buffered()) // It reads nothing that is not buffered.
	s := &Spot{lot: lot, conn: conn, unread: bytes.Clone(unread), method: r.Method, path: r.URL.Path, remote: r.RemoteAddr}
	if again, ok := conn.(*resumed); ok {
		s.conn, s.unread = again.Conn, append(s.unread, again.unread...)
	}
	if h := w.Header(); len(h) > 0 {
		s.header = h
	}
	s.finish, s.line = access.Later(r.Context())
	lot.take(s)
	return s, true
}

// OnLeave has fn called when the caller has left before it was answered: soon, not at once, and not when it has sent another request already. fn
// must not block; it may be called while the request is being answered.
func (s *Spot) OnLeave(fn func()) {
	s.lot.mu.Lock()
	defer s.lot.mu.Unlock()
	s.left = fn
}

// take looks after a spot until it is released.
func (l *Lot) take(s *Spot) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.spots[s] = struct{}{}
	if !l.looks {
		l.looks = true
		l.parked.Go(l.look) // Wait waits for s already.
	}
}

func (l *Lot) release(s *Spot) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.spots, s)
}

// look tells who has left, as long as anybody is parked and the listener is open: then all are answered anyway.
func (l *Lot) look() {
	every := time.NewTicker(lookEvery)
	defer every.Stop()
	var spots []*Spot
	for {
		select {
		case <-every.C:
		case <-l.closed:
			return
		}
		spots = spots[:0]
		l.mu.Lock()
		l.looks = len(l.spots) > 0
		for s := range l.spots {
			spots = append(spots, s)
		}
		l.mu.Unlock()
		if len(spots) == 0 {
			return
		}
		for _, s := range spots {
			if left := l.gone(s); left != nil {
				left()
			}
		}
		clear(spots)
	}
}

// gone returns what is to be called because a caller has left, once. It looks under the mutex: a spot that has been released may be with the
// server already, whose reading would hold this up.
func (l *Lot) gone(s *Spot) (left func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, parked := l.spots[s]; parked && s.left != nil && !s.there() {
		left, s.left = s.left, nil
	}
	return left
}

// there reports whether the caller is there, as far as can be seen without waiting and without taking anything of what it has sent.
func (s *Spot) there() bool {
	if len(s.unread) > 0 {
		return true
	}
	c, ok := s.conn.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	there := false
	err = raw.Read(func(fd uintptr) bool {
		there = open(fd)
		return true
	})
	return err == nil && there
}

// Answer has a handler answer, unless the caller has left, and gives the connection back. Of the request, the handler is given its method, path
// and caller's address, and a context for its notes in the log that does not end.
func (s *Spot) Answer(h http.HandlerFunc) {
	defer s.lot.parked.Done()
	s.lot.release(s)
	if !s.there() {
		s.finish(access.StatusLeft, 0)
		_ = s.conn.Close() // Nobody is there.
		return
	}
	r := (&http.Request{Method: s.method, URL: &url.URL{Path: s.path}, RemoteAddr: s.remote}).WithContext(s.line)
	a := &answer{header: s.header}
	if a.header == nil {
		a.header = http.Header{}
	}
	if !a.serve(h, r, s.lot.log) {
		s.finish(http.StatusInternalServerError, 0)
		_ = s.conn.Close() // As net/http does after a panic.
		return
	}
	last, size := s.lot.isClosed(), a.body.Len()
	if err := a.write(s.conn, r, last); err != nil {
		s.finish(access.StatusLeft, 0)
		_ = s.conn.Close() // The caller has left.
		return
	}
	s.finish(a.status, size)
	s.lot.takeBack(s.conn, s.unread)
}

func (l *Lot) isClosed() bool {
	select {
	case <-l.closed:
		return true
	default:
		return false
	}
}

// takeBack lets the server read the next request of a connection once it comes, unless the server takes no more. A connection that has not sent
// anything is new to net/http: given back at once, it would be ended after the time for a request's header instead of the one between requests,
// and would hold up a shutdown.
func (l *Lot) takeBack(conn net.Conn, unread []byte) {
	if len(unread) > 0 {
		l.giveBack(conn, unread)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isClosed() {
		_ = conn.Close()
		return
	}
	l.resting[conn] = struct{}{}
	l.parked.Go(func() { l.rest(conn) }) // Whoever answers is still counted.
}

// rest waits for the first byte of the next request.
func (l *Lot) rest(conn net.Conn) {
	err := conn.SetReadDeadline(time.Now().Add(l.idle))
	if l.isClosed() {
		err = net.ErrClosed // Close may have set its deadline before.
	}
	first, n := make([]byte, 1), 0
	if err == nil {
		n, err = conn.Read(first)
	}
	l.mu.Lock()
	delete(l.resting, conn)
	l.mu.Unlock()
	if err == nil {
		err = conn.SetReadDeadline(time.Time{})
	}
	if err != nil {
		_ = conn.Close() // Its caller has left, or was idle for too long, or the server stops.
		return
	}
	l.giveBack(conn, first[:n])
}

func (l *Lot) giveBack(conn net.Conn, unread []byte) {
	select {
	case l.back <- &resumed{conn, unread}:
	case <-l.closed:
		_ = conn.Close()
	}
}

// answer gathers what a handler answers.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (a *answer) Header() http.Header { return a.header }

func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

func (a *answer) Write(b []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(b)
}

// serve runs a handler, and reports whether it ended well.
func (a *answer) serve(h http.HandlerFunc, r *http.Request, log *slog.Logger) (ok bool) {
	defer func() {
		if v := recover(); v != nil {
			log.Error("a parked request panicked", "path", r.URL.Path, "panic", v)
		}
	}()
	h(a, r)
	a.WriteHeader(http.StatusOK)
	return true
}

// write writes the answer as HTTP/1.1.
func (a *answer) write(conn net.Conn, r *http.Request, last bool) error {
	a.header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	answer := http.Response{Request: r, StatusCode: a.status, ProtoMajor: 1, ProtoMinor: 1, Header: a.header, ContentLength: int64(a.body.Len()),
		Body: io.NopCloser(&a.body), Close: last}
	if err := conn.SetDeadline(time.Now().Add(writeMax)); err != nil {
		return err
	}
	out := bufio.NewWriter(conn)
	if err := errors.Join(answer.Write(out), out.Flush()); err != nil {
		return err
	}
	return conn.SetDeadline(time.Time{})
}

// resumed is a connection of which something was read already.
type resumed struct {
	net.Conn
	unread []byte
}

func (c *resumed) Read(b []byte) (int, error) {
	if len(c.unread) == 0 {
		return c.Conn.Read(b)
	}
	n := copy(b, c.unread)
	c.unread = c.unread[n:]
	return n, nil
}

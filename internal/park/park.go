// Package park keeps the connections of requests that wait for long. A request that waits inside net/http holds a goroutine with a deep stack, its
// buffers and all that was made to route it, 50 KB together; parked, it holds its connection and what is said in the log. When it is answered, its
// connection goes back to the server for the next request.
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
	"os"
	"sync"
	"time"

	"github.com/tillgate/tillgate/internal/access"
)

// writeMax is how long a caller may take to read an answer, at most some kilobytes.
const writeMax = 10 * time.Second

// Lot is a listener whose connections can be parked. Serve it, give the server its Context as BaseContext, and Wait after the server's Shutdown.
// Connections over TLS cannot be parked.
type Lot struct {
	net.Listener
	log    *slog.Logger
	fresh  chan accepted
	back   chan net.Conn
	closed chan struct{}
	once   sync.Once
	err    error
	parked sync.WaitGroup
}

type accepted struct {
	conn net.Conn
	err  error
}

type lotKey struct{}

// New makes a lot of a listener.
func New(l net.Listener, log *slog.Logger) *Lot {
	lot := &Lot{Listener: l, log: log, fresh: make(chan accepted), back: make(chan net.Conn), closed: make(chan struct{})}
	lot.parked.Go(lot.accept)
	return lot
}

// accept hands new connections over, until the listener is closed.
func (l *Lot) accept() {
	for {
		conn, err := l.Listener.Accept()
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

// Close takes no more connections in. Those that are parked are answered, and closed then.
func (l *Lot) Close() error {
	l.once.Do(func() {
		close(l.closed)
		l.err = l.Listener.Close()
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
	unread []byte // What the caller has sent after its request; the listener's until heard is closed.
	left   bool   // The caller has left; as unread.
	heard  chan struct{}
	ctx    context.Context
	cancel context.CancelFunc
	header http.Header
	method string
	path   string
	remote string
	line   context.Context
	finish func(status, bytes int)
}

// Park parks a request if its connection can be; then the handler returns without an answer, and whoever has the spot calls Answer, once. The
// spot's context is ctx that also ends when the caller leaves.
func Park(ctx context.Context, w http.ResponseWriter, r *http.Request) (*Spot, bool) {
	lot, ok := r.Context().Value(lotKey{}).(*Lot)
	if !ok || r.TLS != nil || !r.ProtoAtLeast(1, 1) || r.ProtoMajor != 1 || r.Close || r.ContentLength != 0 {
		return nil, false
	}
	conn, buffers, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return nil, false
	}
	lot.parked.Add(1)                                           // Beside accept, which ends after the last handler has begun.
	unread, _ := buffers.Reader.Peek(buffers.Reader.Buffered()) // It reads nothing that is not buffered.
	s := &Spot{lot: lot, conn: conn, unread: bytes.Clone(unread), heard: make(chan struct{}), header: w.Header().Clone(), method: r.Method,
		path: r.URL.Path, remote: r.RemoteAddr}
	s.ctx, s.cancel = context.WithCancel(ctx)
	s.finish, s.line = access.Later(r.Context())
	if len(s.unread) > 0 {
		close(s.heard) // It has sent its next request already, so it is there.
	} else {
		go s.listen()
	}
	return s, true
}

// Context ends when the caller has left, or is no longer to be waited for.
func (s *Spot) Context() context.Context { return s.ctx }

// listen hears whether the caller leaves, until Answer ends it.
func (s *Spot) listen() {
	defer close(s.heard)
	var b [1]byte
	n, err := s.conn.Read(b[:])
	s.unread = append(s.unread, b[:n]...)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		s.left = true
		s.cancel()
	}
}

// Answer has a handler answer, unless the caller has left, and gives the connection back. Of the request, the handler is given its method, path
// and caller's address, and a context for its notes in the log that does not end.
func (s *Spot) Answer(h http.HandlerFunc) {
	defer s.lot.parked.Done()
	defer s.cancel()
	_ = s.conn.SetReadDeadline(time.Unix(1, 0)) // If this fails, so has reading.
	<-s.heard
	if s.left {
		s.finish(access.StatusLeft, 0)
		_ = s.conn.Close() // Nobody is there.
		return
	}
	r := (&http.Request{Method: s.method, URL: &url.URL{Path: s.path}, RemoteAddr: s.remote}).WithContext(s.line)
	a := &answer{header: s.header}
	if !a.serve(h, r, s.lot.log) {
		s.finish(http.StatusInternalServerError, 0)
		_ = s.conn.Close() // As net/http does after a panic.
		return
	}
	last, size := s.lot.isClosed(), a.body.Len()
	if err := a.write(s.conn, last); err != nil {
		s.finish(access.StatusLeft, 0)
		_ = s.conn.Close() // The caller has left.
		return
	}
	s.finish(a.status, size)
	if !last && s.lot.takeBack(s.conn, s.unread) {
		return
	}
	_ = s.conn.Close() // The answer is written.
}

func (l *Lot) isClosed() bool {
	select {
	case <-l.closed:
		return true
	default:
		return false
	}
}

// takeBack lets the server read the next request of a connection, unless it takes no more.
func (l *Lot) takeBack(conn net.Conn, unread []byte) bool {
	if len(unread) > 0 {
		conn = &resumed{conn, unread}
	}
	select {
	case l.back <- conn:
		return true
	case <-l.closed:
		return false
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
func (a *answer) write(conn net.Conn, last bool) error {
	a.header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	answer := http.Response{StatusCode: a.status, ProtoMajor: 1, ProtoMinor: 1, Header: a.header, ContentLength: int64(a.body.Len()),
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

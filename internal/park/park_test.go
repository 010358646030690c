package park_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tillgate/tillgate/internal/access"
	"github.com/tillgate/tillgate/internal/park"
)

// lot is a server whose requests to /park are parked until answered, and whose others are answered at once.
type lot struct {
	*park.Lot
	server   *httptest.Server
	spots    chan *park.Spot
	statuses chan int // Of what was answered, as the log has it.
}

// idle is how long a connection may be idle between requests.
const idle = 5 * time.Second

func open(t *testing.T) *lot {
	t.Helper()
	l := &lot{spots: make(chan *park.Spot, 10), statuses: make(chan int, 10)}
	log := slog.New(slog.DiscardHandler)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Before", "kept")
		if r.URL.Path == "/park" {
			if spot, ok := park.Park(w, r); ok {
				l.spots <- spot
				return
			}
		}
		if r.Method == http.MethodGet || r.URL.Path == "/park" {
			_, _ = io.WriteString(w, "at once")
		} else {
			_, _ = io.WriteString(w, "mangled "+r.Method)
		}
	})
	l.server = httptest.NewUnstartedServer(access.Log(log, func(_ string, status int, _ time.Duration) { l.statuses <- status }, "test", handler))
	l.Lot = park.New(l.server.Listener, idle, log)
	l.server.Listener, l.server.Config.BaseContext = l.Lot, l.Lot.Context
	l.server.Config.ReadHeaderTimeout = time.Second
	l.server.Start()
	t.Cleanup(func() {
		l.server.Close()
		l.Wait()
	})
	return l
}

// line is a caller's connection.
type line struct {
	t *testing.T
	net.Conn
	in *bufio.Reader
}

func (l *lot) dial(t *testing.T) *line {
	t.Helper()
	conn, err := net.Dial("tcp", l.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &line{t, conn, bufio.NewReader(conn)}
}

func (c *line) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		c.t.Fatal(err)
	}
}

func (c *line) want(status int, body string) *http.Response {
	c.t.Helper()
	r, err := http.ReadResponse(c.in, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	got, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != status || string(got) != body {
		c.t.Errorf("got %d %q, %v; want %d %q", r.StatusCode, got, err, status, body)
	}
	if r.Header.Get("X-Before") != "kept" || r.Header.Get("Date") == "" {
		c.t.Errorf("header %v", r.Header)
	}
	return r
}

// wantEnd wants the connection closed.
func (c *line) wantEnd() {
	c.t.Helper()
	if b, err := c.in.ReadByte(); err != io.EOF {
		c.t.Errorf("got %q, %v; want the end", b, err)
	}
}

// park sends a request that is parked, over a connection of its own.
func (l *lot) park(t *testing.T) (*line, *park.Spot) {
	t.Helper()
	c := l.dial(t)
	c.send(parked)
	return c, <-l.spots
}

// answered is park whose request has been answered: the connection is idle.
func (l *lot) answered(t *testing.T) *line {
	t.Helper()
	c, spot := l.park(t)
	spot.Answer(says(http.StatusOK, "later"))
	c.want(http.StatusOK, "later")
	return c
}

const (
	parked = "GET /park HTTP/1.1\r\nHost: till\r\n\r\n"
	plain  = "GET /plain HTTP/1.1\r\nHost: till\r\n\r\n"
)

func says(status int, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	}
}

func (l *lot) wantStatus(t *testing.T, want int) {
	t.Helper()
	if got := <-l.statuses; got != want {
		t.Errorf("the log has %d, want %d", got, want)
	}
}

func TestAParkedConnectionGoesOn(t *testing.T) {
	t.Parallel()
	l := open(t)
	c := l.dial(t)
	for i := range 3 {
		c.send(parked)
		spot := <-l.spots
		spot.OnLeave(func() { t.Error("left, while the caller waits") })
		spot.Answer(says(http.StatusAccepted, fmt.Sprint("later ", i)))
		if r := c.want(http.StatusAccepted, fmt.Sprint("later ", i)); r.Close || r.ContentLength != 7 {
			t.Errorf("header %v", r.Header)
		}
		l.wantStatus(t, http.StatusAccepted)
		c.send(plain)
		c.want(http.StatusOK, "at once")
		l.wantStatus(t, http.StatusOK)
	}
}

// A caller may send its next request before it has heard the answer to the one before.
func TestWhatIsSentMeanwhileIsNotLost(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]string{"with the request": parked + plain, "after it": parked} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := open(t)
			c := l.dial(t)
			c.send(first)
			spot := <-l.spots
			if first == parked {
				c.send(plain)
			}
			spot.Answer(says(http.StatusOK, "later"))
			c.want(http.StatusOK, "later")
			c.want(http.StatusOK, "at once")
			c.send(parked + parked + plain) // The rest goes with the connection from one to the next.
			(<-l.spots).Answer(says(http.StatusOK, "first"))
			(<-l.spots).Answer(says(http.StatusOK, "second"))
			c.want(http.StatusOK, "first")
			c.want(http.StatusOK, "second")
			c.want(http.StatusOK, "at once")
		})
	}
}

func TestACallerThatLeavesIsNoticed(t *testing.T) {
	t.Parallel()
	l := open(t)
	c, spot := l.park(t)
	left, told := make(chan struct{}), 0
	spot.OnLeave(func() { told++; close(left) })
	stays, other := l.park(t)
	other.OnLeave(func() { t.Error("left, while the caller waits") })
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	<-left
	spot.Answer(func(http.ResponseWriter, *http.Request) { t.Error("answered though nobody is there") })
	l.wantStatus(t, access.StatusLeft)
	other.Answer(says(http.StatusOK, "still there"))
	stays.want(http.StatusOK, "still there")
	if told != 1 {
		t.Errorf("told %d times", told)
	}
}

// Who has left just now is not answered either, though nobody was told yet.
func TestNobodyIsAnsweredWhoHasLeft(t *testing.T) {
	t.Parallel()
	l := open(t)
	c, spot := l.park(t)
	if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond) // For the end of the line to arrive.
	spot.Answer(func(http.ResponseWriter, *http.Request) { t.Error("answered though nobody is there") })
	l.wantStatus(t, access.StatusLeft)
	c.wantEnd()
}

func TestPanicOfAnAnswer(t *testing.T) {
	t.Parallel()
	l := open(t)
	c, spot := l.park(t)
	spot.Answer(func(http.ResponseWriter, *http.Request) { panic("on purpose") })
	c.wantEnd()
	l.wantStatus(t, http.StatusInternalServerError)
}

// When the server stops, who is parked is answered on a connection that ends with that.
func TestStopping(t *testing.T) {
	t.Parallel()
	l := open(t)
	c, spot := l.park(t)
	var stopped sync.WaitGroup
	stopped.Go(func() {
		if err := l.server.Config.Shutdown(t.Context()); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		l.Wait()
	})
	for ctx := t.Context(); ; { // Until the listener is closed.
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", l.server.Listener.Addr().String())
		if err != nil {
			break
		}
		_ = conn.Close()
	}
	spot.Answer(says(http.StatusAccepted, "again elsewhere"))
	if r := c.want(http.StatusAccepted, "again elsewhere"); !r.Close {
		t.Errorf("header %v does not say that the connection ends", r.Header)
	}
	c.wantEnd()
	stopped.Wait()
	if _, err := net.Dial("tcp", l.server.Listener.Addr().String()); err == nil {
		t.Error("still listening")
	}
}

func TestWhatCannotBeParkedIsAnsweredByItsHandler(t *testing.T) {
	t.Parallel()
	l := open(t)
	for name, request := range map[string]string{
		"HTTP/1.0":          "GET /park HTTP/1.0\r\n\r\n",
		"Connection: close": "GET /park HTTP/1.1\r\nHost: till\r\nConnection: close\r\n\r\n",
		"a body":            "POST /park HTTP/1.1\r\nHost: till\r\nContent-Length: 2\r\n\r\n{}",
	} {
		c := l.dial(t)
		c.send(request)
		c.want(http.StatusOK, "at once")
		if len(l.spots) > 0 {
			t.Errorf("%s: parked", name)
		}
	}
	w := httptest.NewRecorder()
	if _, ok := park.Park(w, httptest.NewRequest(http.MethodGet, "/park", nil)); ok {
		t.Error("parked without a lot")
	}
}

// Between two requests a connection may be idle for longer than a request's header may take.
func TestAnAnsweredConnectionMayBeIdle(t *testing.T) {
	t.Parallel()
	l := open(t)
	c := l.answered(t)
	time.Sleep(2 * time.Second) // Twice the time for a header.
	c.send(plain)
	c.want(http.StatusOK, "at once")

	began := time.Now()
	c = l.answered(t)
	c.wantEnd()
	if took := time.Since(began); took < idle {
		t.Errorf("ended after %s", took)
	}
}

// A connection that has been answered does not hold up the end, and is not there after it.
func TestStoppingEndsIdleConnections(t *testing.T) {
	t.Parallel()
	l := open(t)
	c := l.answered(t)
	began := time.Now()
	if err := l.server.Config.Shutdown(t.Context()); err != nil {
		t.Errorf("shutdown: %v", err)
	}
	l.Wait()
	if took := time.Since(began); took >= idle {
		t.Errorf("shutdown took %s", took)
	}
	c.wantEnd()
}

// starved is a listener out of file descriptors, until it is fed.
type starved struct {
	net.Listener
	fed chan struct{}
}

func (s *starved) Accept() (net.Conn, error) {
	select {
	case <-s.fed:
		return s.Listener.Accept()
	default:
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
}

// The server pauses after an error, and those who come back would wait with it.
func TestALackOfFileDescriptorsIsNotTheServers(t *testing.T) {
	t.Parallel()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &starved{Listener: inner, fed: make(chan struct{})}
	l := park.New(s, idle, slog.New(slog.DiscardHandler))
	type accepted struct {
		conn net.Conn
		err  error
	}
	got := make(chan accepted)
	go func() {
		for range 2 {
			conn, err := l.Accept()
			got <- accepted{conn, err}
		}
	}()
	select {
	case a := <-got:
		t.Fatalf("got %v, %v", a.conn, a.err)
	case <-time.After(100 * time.Millisecond): // Several tries.
	}
	close(s.fed)
	conn, err := net.Dial("tcp", inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if a := <-got; a.err != nil {
		t.Error(a.err)
	} else {
		_ = a.conn.Close()
	}
	_ = conn.Close()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if a := <-got; !errors.Is(a.err, net.ErrClosed) {
		t.Errorf("after Close: %v, %v", a.conn, a.err)
	}
	l.Wait()
}

package qfpay

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// Default ports of the seed.
const (
	HTTPPort = 9001 // HTTPS too (§3.1).
	TCPPort  = 9002
)

// Limits of the HTTP link.
const (
	connectionsMax = 64
	readTimeout    = 10 * time.Second // Of a request. Answers have no time-out: they wait for the customer.
	idleTimeout    = 10 * time.Minute
	headerMax      = 16 << 10
	stopGrace      = 2 * time.Second // For answers that are being written when the link stops.
)

// HTTPLink is a Server on HTTP, and on HTTPS at the same port when TLS is set (§3.1).
type HTTPLink struct {
	Server *Server
	TLS    *tls.Config

	reading time.Duration // For tests; 0 is readTimeout.
}

// Serve serves a listener until ctx ends. Sales that run go on; Server.Wait waits for them.
func (l *HTTPLink) Serve(ctx context.Context, listener net.Listener) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	server := &http.Server{
		Handler: l, ReadTimeout: cmp.Or(l.reading, readTimeout), ReadHeaderTimeout: readTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: headerMax,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		grace, end := context.WithTimeout(context.WithoutCancel(ctx), stopGrace)
		defer end()
		if server.Shutdown(grace) != nil {
			_ = server.Close() // Shutdown has told of it; what is left is cut.
		}
	}()
	err := server.Serve(&sniffer{Listener: newLimit(listener), config: l.TLS})
	stop()
	<-stopped
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// pathOperations are the operations by path.
var pathOperations = func() map[string]FuncType {
	m := make(map[string]FuncType)
	for _, o := range operations {
		m[o.path] = o.funcType
	}
	return m
}()

// ServeHTTP answers one request: with status 200 whatever its outcome, since clients in Java throw on others (§3.1).
func (l *HTTPLink) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	cors(w, r)
	path, known := pathOperations[r.URL.Path]
	var nobody *request
	switch {
	case r.Method == http.MethodOptions:
		w.WriteHeader(http.StatusNoContent)
	case !known:
		reply(w, http.StatusNotFound, nobody, Response{Code: CodeWrongParam, Error: "there is nothing at this path"})
	case r.Method != http.MethodPost:
		reply(w, http.StatusOK, nobody, Response{Code: CodeWrongMethod, Error: "use POST"})
	default:
		l.post(w, r, path)
	}
}

func (l *HTTPLink) post(w http.ResponseWriter, r *http.Request, path FuncType) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, payloadMax))
	var long *http.MaxBytesError
	switch {
	case errors.As(err, &long):
		reply(w, http.StatusOK, nil, faultLength.response())
		return
	case err != nil:
		reply(w, http.StatusOK, nil, faultEnvelope.response()) // It hung up, or is too slow.
		return
	}
	request, fault := l.Server.open(r.Context(), "http", body)
	if fault != nil {
		reply(w, http.StatusOK, nil, fault.response())
		return
	}
	reply(w, http.StatusOK, request, l.Server.handle(r.Context(), "http", request, path))
}

func reply(w http.ResponseWriter, status int, r *request, answer Response) {
	body, isJSON := r.seal(answer)
	form := "text/plain; charset=utf-8"
	if isJSON {
		form = "application/json; charset=utf-8"
	}
	w.Header().Set("Content-Type", form)
	w.WriteHeader(status)
	_, _ = w.Write(body) // A cash register that has hung up inquires.
}

// cors lets web pages in, such as the Odoo till: the browser asks first whether it may (§3.1). Any page may ask; what it cannot do without is
// the POS-KEY.
func cors(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	origin := r.Header.Get("Origin")
	if origin == "" {
		origin = "*"
	} else {
		h.Set("Vary", "Origin")
	}
	h.Set("Access-Control-Allow-Origin", origin)
	if r.Method != http.MethodOptions {
		return
	}
	h.Set("Access-Control-Allow-Methods", "POST, OPTIONS")
	h.Set("Access-Control-Allow-Headers", "Content-Type, Accept")
	h.Set("Access-Control-Max-Age", "86400")
	if r.Header.Get("Access-Control-Request-Private-Network") == "true" {
		h.Set("Access-Control-Allow-Private-Network", "true")
	}
}

// limit is a listener that hangs up on connections above connectionsMax: to let them wait would let a cancel wait as well.
type limit struct {
	net.Listener
	free chan struct{}
}

func newLimit(l net.Listener) *limit { return &limit{l, make(chan struct{}, connectionsMax)} }

func (l *limit) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.free <- struct{}{}:
			return &limited{Conn: conn, free: sync.OnceFunc(func() { <-l.free })}, nil
		default:
			_ = conn.Close()
		}
	}
}

type limited struct {
	net.Conn
	free func()
}

func (c *limited) Close() error {
	c.free()
	return c.Conn.Close()
}

// sniffer is a listener whose connections speak TLS if their first byte says so.
type sniffer struct {
	net.Listener
	config *tls.Config
}

func (s *sniffer) Accept() (net.Conn, error) {
	conn, err := s.Listener.Accept()
	if err != nil || s.config == nil {
		return conn, err
	}
	return &sniffed{Conn: conn, config: s.config}, nil
}

// sniffed looks at its first byte when it is first read, so that a silent peer does not hold up the listener.
type sniffed struct {
	net.Conn
	config *tls.Config
	once   sync.Once
	inner  net.Conn
	err    error
}

func (c *sniffed) look() {
	const handshake = 0x16
	r := bufio.NewReader(c.Conn)
	first, err := r.Peek(1)
	c.inner, c.err = &buffered{c.Conn, r}, err
	if err == nil && first[0] == handshake {
		c.inner = tls.Server(c.inner, c.config)
	}
}

func (c *sniffed) Read(b []byte) (int, error) {
	if c.once.Do(c.look); c.err != nil {
		return 0, c.err
	}
	return c.inner.Read(b)
}

func (c *sniffed) Write(b []byte) (int, error) {
	if c.once.Do(c.look); c.err != nil {
		return 0, c.err
	}
	return c.inner.Write(b)
}

// buffered is a connection of which something has been read already.
type buffered struct {
	net.Conn
	r *bufio.Reader
}

func (b *buffered) Read(p []byte) (int, error) { return b.r.Read(p) }

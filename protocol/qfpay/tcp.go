package qfpay

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

// Times and limits of the TCP link (§3.2).
const (
	tcpGap      = 50 * time.Millisecond // Of silence, after which a line that does not decrypt is taken as it is.
	tcpPatience = 5 * time.Second       // For a message that does not end.
	tcpIdle     = 15 * time.Minute      // Longer than any sale.
	tcpWrite    = 10 * time.Second
	inFlightMax = 4 // Requests of one connection: a sale, its cancel, an inquiry, and one more.
)

// TCPLink is a Server on TCP. How messages are told apart there is nowhere written, so everything plausible is understood: JSON and quoted
// Base64 by their brackets and quotes, Base64 by a line's end, by the end of the connection or by its own sense, and the frames of the serial line (§3.2).
type TCPLink struct {
	Server *Server
}

// Serve serves a listener until ctx ends. Sales that run go on; Server.Wait waits for them.
func (l *TCPLink) Serve(ctx context.Context, listener net.Listener) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	closer := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer closer()
	var all sync.WaitGroup
	defer all.Wait()
	defer stop()
	counted := newLimit(listener)
	for {
		conn, err := counted.Accept()
		if ctx.Err() != nil {
			if err == nil {
				_ = conn.Close()
			}
			return nil
		}
		if err != nil {
			return err
		}
		all.Go(func() { l.serve(ctx, conn) })
	}
}

func (l *TCPLink) serve(ctx context.Context, conn net.Conn) {
	ctx, stop := context.WithCancel(ctx)
	closer := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer closer()
	c := &tcpConn{server: l.Server, conn: conn}
	var all sync.WaitGroup
	slots := make(chan struct{}, inFlightMax)
	for first := true; ; first = false {
		m, ok := c.next(ctx, first)
		if !ok {
			break
		}
		if m.framed {
			_ = l.Server.serveFrames(ctx, "tcp", &prefixed{conn, c.buf}) // It fails when the other side hangs up, or we stop.
			break
		}
		if m.fault != nil {
			c.write(nil, m.fault.response(), m.terminator)
			break // Where the next message would begin nobody knows.
		}
		select {
		case slots <- struct{}{}:
		default:
			c.write(m.request, busy.response(), m.terminator)
			continue
		}
		all.Go(func() {
			defer func() { <-slots }()
			c.write(m.request, l.Server.handle(ctx, "tcp", m.request, 0), m.terminator)
		})
	}
	if c.ended && !c.broken {
		all.Wait() // It may only have closed its half, and still read.
	}
	stop()
	_ = conn.Close()
	all.Wait()
}

// tcpConn is one connection.
type tcpConn struct {
	server *Server
	conn   net.Conn
	buf    []byte
	ended  bool      // The other side sends no more.
	broken bool      // And does not read either.
	since  time.Time // When the message began to come.
	heard  time.Time // When something came last.

	writing sync.Mutex
}

// tcpMessage is what was read: a request or a fault, or the beginning of frames.
type tcpMessage struct {
	request    *request
	fault      *fault
	terminator []byte // The line's end behind it, which the answer repeats.
	framed     bool
}

// write sends an answer in one piece: a cancel and the sale that it ends are answered at the same time.
func (c *tcpConn) write(r *request, answer Response, terminator []byte) {
	body, _ := r.seal(answer)
	c.writing.Lock()
	defer c.writing.Unlock()
	_ = c.conn.SetWriteDeadline(time.Now().Add(tcpWrite))
	_, _ = c.conn.Write(append(body, terminator...)) // A cash register that has hung up inquires.
}

// next reads one message; false at the connection's end.
func (c *tcpConn) next(ctx context.Context, first bool) (tcpMessage, bool) {
	quiet := false // Nothing came for tcpGap.
	c.since = time.Time{}
	for {
		c.buf = bytes.TrimLeft(c.buf, " \t\r\n")
		if len(c.buf) > 0 && c.since.IsZero() {
			c.since = time.Now()
		}
		late := !c.since.IsZero() && time.Since(c.since) > tcpPatience
		if m, ok := c.take(ctx, first, quiet, late || c.ended); ok {
			return m, true
		}
		if c.ended {
			return tcpMessage{}, false
		}
		var err error
		if quiet, err = c.read(); err != nil {
			c.ended = true
			c.broken = !errors.Is(err, io.EOF)
			if len(c.buf) == 0 {
				return tcpMessage{}, false
			}
		}
	}
}

// read appends what comes; quiet tells that nothing came for tcpGap. The gap is counted from the last byte, not from the end of what has been
// tried with it: how long that took must not show.
func (c *tcpConn) read() (quiet bool, err error) {
	deadline := c.heard.Add(tcpGap)
	switch now := time.Now(); {
	case len(c.buf) == 0:
		deadline = now.Add(tcpIdle)
	case now.After(deadline):
		deadline = now.Add(tcpGap) // It has been quiet already, and more was needed.
	}
	_ = c.conn.SetReadDeadline(deadline)
	waiting := len(c.buf) > 0
	var chunk [4096]byte
	n, err := c.conn.Read(chunk[:])
	c.buf = append(c.buf, chunk[:n]...)
	if n > 0 {
		c.heard = time.Now()
	}
	if errors.Is(err, os.ErrDeadlineExceeded) && waiting {
		return true, nil
	}
	return false, err
}

// take takes a message off the buffer if there is one: last says that no more will come of it.
func (c *tcpConn) take(ctx context.Context, first, quiet, last bool) (tcpMessage, bool) {
	switch {
	case len(c.buf) == 0:
		return tcpMessage{}, false
	case len(c.buf) > payloadMax+1: // And a line's end.
		return tcpMessage{fault: faultLength}, true
	case first && bytes.HasPrefix(c.buf, frameStart):
		return tcpMessage{framed: true}, true
	case c.buf[0] == '{' || c.buf[0] == '"':
		end := jsonEnd(c.buf)
		if end == 0 && !last {
			return tcpMessage{}, false
		}
		if end == 0 {
			end = len(c.buf)
		}
		return c.finish(ctx, end), true
	case first && !last && bytes.HasPrefix(frameStart, c.buf):
		return tcpMessage{}, false
	}
	// Base64. Lines may only be the breaks that Android puts after 76 characters; so what decrypts is complete, and what does not is
	// complete when nothing follows a line's end or the padding.
	ends := strings.ContainsRune("\r\n=", rune(c.buf[len(c.buf)-1]))
	if line := bytes.IndexAny(c.buf, "\r\n"); line >= 0 && c.opens(c.buf[:line]) {
		return c.finish(ctx, line), true // Another message may stand behind it.
	}
	if c.opens(c.buf) {
		return c.finish(ctx, len(bytes.TrimRight(c.buf, "\r\n"))), true
	}
	if last || quiet && ends {
		return c.finish(ctx, len(bytes.TrimRight(c.buf, "\r\n"))), true
	}
	return tcpMessage{}, false
}

// opens reports whether a Base64 text is a whole message. Texts that cannot be are not tried: four characters at a time, sixteen bytes at
// a time.
func (c *tcpConn) opens(text []byte) bool {
	plain := strings.TrimRight(string(text), " \t\r\n")
	blank := strings.Count(plain, "\r") + strings.Count(plain, "\n")
	size := (len(plain) - blank) / 4 * 3
	size -= len(plain) - len(strings.TrimRight(plain, "="))
	if (len(plain)-blank)%4 != 0 || size%16 != 0 {
		return false
	}
	_, fault := c.server.Keys.KeySet().open([]byte(plain))
	return fault == nil
}

// finish takes the first bytes of the buffer as a message, and the line's end behind it.
func (c *tcpConn) finish(ctx context.Context, end int) tcpMessage {
	body := bytes.Clone(c.buf[:end])
	rest := c.buf[end:]
	n := 0
	for _, ending := range []string{"\r\n", "\n", "\r"} {
		if bytes.HasPrefix(rest, []byte(ending)) {
			n = len(ending)
			break
		}
	}
	m := tcpMessage{terminator: bytes.Clone(rest[:n])}
	c.buf = bytes.Clone(rest[n:])
	m.request, m.fault = c.server.open(ctx, "tcp", body)
	return m
}

// jsonEnd is where the object or string ends with which a text begins; 0 if it does not.
func jsonEnd(text []byte) int {
	depth := 0
	var quote byte
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quote != 0 && c == '\\':
			i++
		case quote != 0 && c == quote:
			if quote = 0; depth == 0 {
				return i + 1
			}
		case quote != 0:
		case c == '"' || c == '\'':
			quote = c
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			if depth--; depth <= 0 {
				return i + 1
			}
		}
	}
	return 0
}

// prefixed is a connection of which something has been read already.
type prefixed struct {
	net.Conn
	head []byte
}

func (p *prefixed) Read(b []byte) (int, error) {
	if len(p.head) > 0 {
		n := copy(b, p.head)
		p.head = p.head[n:]
		return n, nil
	}
	_ = p.SetReadDeadline(time.Now().Add(tcpIdle))
	return p.Conn.Read(b)
}

func (p *prefixed) Write(b []byte) (int, error) {
	_ = p.SetWriteDeadline(time.Now().Add(tcpWrite))
	return p.Conn.Write(b)
}

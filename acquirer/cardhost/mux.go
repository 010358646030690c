package cardhost

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

var (
	// ErrNotSent says that nothing left us for certain: the host cannot have acted on this message.
	ErrNotSent = errors.New("not sent to the card host")
	// ErrNoAnswer says that the outcome is unknown: silence, a cut line, or an answer that cannot be trusted.
	ErrNoAnswer = errors.New("no answer from the card host")

	errLineClosed = errors.New("line closed")
)

const (
	// queueMax is how many frames wait for a line's writer. When it is full, requests wait too, as long as they may, and then have not
	// been sent.
	queueMax = 256
	// burstMax is how many bytes the writer puts together into one write.
	burstMax = 32 << 10
	// writeMax is how long one write may take. A host that reads nothing for so long is gone.
	writeMax = 5 * time.Second
	// readSize is the reader's buffer: some dozens of answers.
	readSize = 16 << 10
)

// pair is what an answer has in common with its request: the type of the answer, DE 11, 37 and 41. Network messages have only DE 11.
type pair struct{ mti, stan, rrn, tid string }

func answerPair(m *message) pair {
	if m.mti == mtiNetworkAnswer {
		return pair{mti: m.mti, stan: m.get(deSTAN)}
	}
	return pair{m.mti, m.get(deSTAN), m.get(deRRN), m.get(deTID)}
}

// States of a frame on its way out.
const (
	frameQueued  int32 = iota // Certainly not written, or nothing of it was.
	frameWritten              // It may have left.
	frameDropped              // Its caller has gone before it was written: it never is.
)

// call is one request and the place for its answer.
type call struct {
	frame []byte // Wiped when it is written or dropped: it holds a card.
	state atomic.Int32
	reply chan reply // Of one place, so that the reader never waits.
}

// reply is an answer with its bytes, over which its MAC is.
type reply struct {
	message *message
	raw     []byte
}

// mux carries many requests at once over one connection: one goroutine reads it, one writes it, and a map pairs answers with requests.
type mux struct {
	conn  net.Conn
	queue chan *call
	// handler is called before the next frame is read with what is no awaited answer, and with those to network messages. Nil is a frame that
	// holds no message.
	handler func(m *message, awaited bool)

	mu      sync.Mutex
	pending map[pair]*call
	failed  error         // Why it ended; nil before.
	stop    chan struct{} // Closed when it is to end.
	over    chan struct{} // Closed when both goroutines have ended, and nothing is written or answered any more.

	began time.Time
	heard atomic.Int64 // When the last frame came, in nanoseconds after began.
}

// newMux starts the two goroutines; they have ended when over is closed.
func newMux(conn net.Conn, handler func(*message, bool)) *mux {
	m := &mux{conn: conn, queue: make(chan *call, queueMax), handler: handler, pending: map[pair]*call{},
		stop: make(chan struct{}), over: make(chan struct{}), began: time.Now()}
	var both sync.WaitGroup
	both.Go(m.read)
	both.Go(m.write)
	go func() {
		both.Wait()
		close(m.over)
	}()
	return m
}

// ending reports whether the connection is to end, or has ended.
func (m *mux) ending() bool {
	select {
	case <-m.stop:
		return true
	default:
		return false
	}
}

// fail ends the connection. Only the first reason is kept.
func (m *mux) fail(why error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failed != nil {
		return
	}
	m.failed = why
	close(m.stop)
	_ = m.conn.Close() // Nothing is lost that an error could tell.
}

func (m *mux) reason() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.failed
}

// silent is how long nothing has been heard.
func (m *mux) silent() time.Duration { return time.Since(m.began) - time.Duration(m.heard.Load()) }

// do sends a frame and waits for its answer. It fails with ErrNotSent or ErrNoAnswer.
func (m *mux) do(ctx context.Context, p pair, frame []byte) (reply, error) {
	c := &call{frame: frame, reply: make(chan reply, 1)}
	m.mu.Lock()
	if m.failed != nil || m.pending[p] != nil { // The link does not send two of a pair at once; a second would take the first one's answer.
		err := m.failed
		m.mu.Unlock()
		clear(frame)
		return reply{}, fmt.Errorf("%w: %w", ErrNotSent, errors.Join(err, errLineClosed))
	}
	m.pending[p] = c
	m.mu.Unlock()
	defer m.forget(p, c)

	select {
	case m.queue <- c:
	case <-ctx.Done():
		clear(frame)
		return reply{}, fmt.Errorf("%w: %w", ErrNotSent, context.Cause(ctx))
	case <-m.stop:
		clear(frame)
		return reply{}, fmt.Errorf("%w: %w", ErrNotSent, m.reason())
	}
	select {
	case r := <-c.reply:
		return r, nil
	case <-ctx.Done():
		if c.state.CompareAndSwap(frameQueued, frameDropped) {
			return reply{}, fmt.Errorf("%w: %w", ErrNotSent, context.Cause(ctx))
		}
		return c.late(context.Cause(ctx))
	case <-m.over:
		if c.state.Load() == frameQueued {
			return reply{}, fmt.Errorf("%w: %w", ErrNotSent, m.reason())
		}
		return c.late(m.reason())
	}
}

// late takes an answer that came in the last moment.
func (c *call) late(why error) (reply, error) {
	select {
	case r := <-c.reply:
		return r, nil
	default:
		return reply{}, fmt.Errorf("%w: %w", ErrNoAnswer, why)
	}
}

func (m *mux) forget(p pair, c *call) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.pending[p] == c {
		delete(m.pending, p)
	}
}

// post queues a frame that no answer is awaited for. The reader calls it; when the writer is stuck the line ends, and the reader with it.
func (m *mux) post(frame []byte) {
	select {
	case m.queue <- &call{frame: frame}:
	case <-m.stop:
	}
}

// write puts what is queued on the wire, as much at once as there is.
func (m *mux) write() {
	var buf []byte
	var calls []*call
	for {
		buf, calls = buf[:0], calls[:0]
		select {
		case <-m.stop:
			return
		case c := <-m.queue:
			buf, calls = c.take(buf, calls)
		}
		for more := true; more && len(buf) < burstMax; {
			select {
			case c := <-m.queue:
				buf, calls = c.take(buf, calls)
			default:
				more = false
			}
		}
		if len(buf) == 0 {
			continue
		}
		_ = m.conn.SetWriteDeadline(time.Now().Add(writeMax)) // It fails only on a closed connection, as the write then does.
		n, err := m.conn.Write(buf)
		clear(buf)
		if err != nil {
			at := 0
			for _, c := range calls {
				if at >= n {
					c.state.Store(frameQueued) // Not a byte of it was taken.
				}
				at += len(c.frame)
			}
			m.fail(fmt.Errorf("write: %w", err))
			return
		}
	}
}

// take adds a frame to a write, unless its caller has gone.
func (c *call) take(buf []byte, calls []*call) ([]byte, []*call) {
	defer clear(c.frame)
	if !c.state.CompareAndSwap(frameQueued, frameWritten) {
		return buf, calls
	}
	return append(buf, c.frame...), append(calls, c)
}

// read takes frames off the wire until the connection ends.
func (m *mux) read() {
	in := bufio.NewReaderSize(m.conn, readSize)
	for {
		raw, err := readFrame(in)
		if err != nil {
			m.fail(fmt.Errorf("read: %w", err))
			return
		}
		m.heard.Store(int64(time.Since(m.began)))
		got, err := parse(raw)
		if err == nil && got.missing() != 0 {
			err = ErrMessage
		}
		if err != nil {
			m.handler(nil, false)
			continue // The length in front was right, so the next frame can be read. Whoever waits for this one hears nothing.
		}
		m.mu.Lock()
		p := answerPair(got)
		c := m.pending[p]
		delete(m.pending, p) // Whatever comes for it again is late.
		m.mu.Unlock()
		if c == nil || got.mti == mtiNetworkAnswer {
			m.handler(got, c != nil)
		}
		if c != nil {
			c.reply <- reply{got, raw}
		}
	}
}

// readFrame reads one frame, without its length. A length that cannot be is ErrMessage, and then the stream is lost.
func readFrame(from io.Reader) ([]byte, error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(from, head[:]); err != nil {
		return nil, err
	}
	size := int(binary.BigEndian.Uint16(head[:]))
	if size < frameMin || size > frameMax {
		return nil, fmt.Errorf("frame of %d bytes: %w", size, ErrMessage)
	}
	frame := make([]byte, size)
	if _, err := io.ReadFull(from, frame); err != nil {
		return nil, errors.Join(err, io.ErrUnexpectedEOF)
	}
	return frame, nil
}

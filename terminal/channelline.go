package terminal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/tillgate/tillgate/payment"
)

// The codes with which the server ends a line, beside those of RFC 6455.
const (
	// CloseReplaced ends a line whose terminal has opened another: the newest wins.
	CloseReplaced websocket.StatusCode = 4001
	// CloseRefused ends the line of whoever has not proved to be a terminal, or is disabled.
	CloseRefused websocket.StatusCode = 4003
)

const (
	writeLimit = 5 * time.Second // For one message; a terminal that reads no faster is gone.
	callsMax   = 8               // Of one terminal at once.
)

// line is one terminal's connection.
type line struct {
	channel *Channel
	conn    *websocket.Conn
	entry   Entry
	at      place
	write   sync.Mutex // Held while a message is written.
	calls   chan struct{}

	// Under the channel's mutex.

	key   Secret // With which the terminal has proved itself.
	busy  bool   // As the terminal says.
	order *order // The exclusive order that it has in hand.
}

// connect opens a line and reads it until it ends.
func (c *Channel) connect(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	stopped := c.stopped
	if !stopped {
		c.all.Add(1)
	}
	c.mu.Unlock()
	if stopped {
		http.Error(w, "stopping", http.StatusServiceUnavailable)
		return
	}
	defer c.all.Done()
	select {
	case c.opening <- struct{}{}:
	default:
		http.Error(w, "too many terminals at once", http.StatusServiceUnavailable)
		return
	}
	conn, err := websocket.Accept(w, r, nil)
	if err != nil {
		<-c.opening
		return // Accept has answered.
	}
	conn.SetReadLimit(FrameMax)
	l, err := c.open(conn)
	<-c.opening
	if err != nil {
		c.cfg.Log.Warn("terminal refused", "error", err, "address", r.RemoteAddr)
		_ = conn.Close(CloseRefused, "refused") // It may be gone.
		return
	}
	err = l.serve()
	c.left(l)
	_ = conn.CloseNow()
	c.cfg.Log.Info("terminal left", "tid", l.entry.Number, "reason", closeReason(err))
}

func closeReason(err error) string {
	if s := websocket.CloseStatus(err); s != -1 {
		return fmt.Sprint(s)
	}
	return fmt.Sprint(err)
}

// open is the handshake: each side proves the key over both nonces. Then the line takes the place of an older one.
func (c *Channel) open(conn *websocket.Conn) (*line, error) {
	ctx, stop := context.WithTimeout(context.Background(), Handshake)
	defer stop()
	nonce, err := NewNonce(c.cfg.Rand)
	if err != nil {
		return nil, err
	}
	if err := writeFrame(ctx, conn, MakeFrame(FrameHello, "", "", ServerHello{nonce})); err != nil {
		return nil, err
	}
	f, err := readFrame(ctx, conn)
	if err != nil {
		return nil, err
	}
	var hello DeviceHello
	if f.Type != FrameHello || f.Read(&hello) != nil {
		return nil, fmt.Errorf("not a hello: %w", payment.ErrInvalid)
	}
	entry, key, err := c.prove(ctx, hello, nonce)
	if err != nil {
		return nil, err
	}
	l := &line{channel: c, conn: conn, entry: entry, at: placeOf(entry.Caller), calls: make(chan struct{}, callsMax), key: key, busy: hello.Busy}
	l.write.Lock() // Nothing is written before the welcome.
	defer l.write.Unlock()
	over, again := c.arrived(l, hello.Orders)
	caller := entry.Caller
	welcome := Welcome{Proof: Proof(key, "server", hello.Number, nonce, hello.Nonce), Merchant: caller.Merchant.Name, Store: caller.Store.Name,
		StoreID: caller.Store.PublicID, TID: caller.Terminal.PublicID, Zone: caller.Store.Calendar.Zone, Over: over}
	frames := append([]Frame{MakeFrame(FrameWelcome, "", "", welcome)}, again...)
	for _, f := range frames {
		if err := writeFrame(ctx, conn, f); err != nil {
			c.left(l)
			return nil, err
		}
	}
	c.cfg.Log.Info("terminal connected", "tid", entry.Number, "orders", len(hello.Orders), "again", len(again))
	return l, nil
}

// prove finds who a terminal is, by any of its keys. A key that has changed meanwhile is looked up once more.
func (c *Channel) prove(ctx context.Context, hello DeviceHello, nonce string) (Entry, Secret, error) {
	for _, find := range []func(context.Context, string, string) (Entry, error){c.cfg.Registry.Find, c.cfg.Registry.Fresh} {
		entry, err := find(ctx, DeviceProtocol, hello.Number)
		if err != nil {
			return Entry{}, Secret{}, err
		}
		keys, err := c.cfg.Registry.Keys(entry)
		if err != nil {
			return Entry{}, Secret{}, err
		}
		for _, k := range keys {
			if NewSecret(Proof(k.Secret, "device", hello.Number, nonce, hello.Nonce)).Equal(hello.Proof) {
				return entry, k.Secret, nil
			}
		}
	}
	return Entry{}, Secret{}, fmt.Errorf("terminal %s: wrong proof: %w", hello.Number, payment.ErrUnauthorized)
}

// arrived puts a line in the place of an older one, hands it the orders that wait for it, and tells which of those that the terminal has are
// over. An order that the terminal never got is sent again; one that it had and has no longer has come to nothing.
func (c *Channel) arrived(l *line, has []string) (over []string, again []Frame) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.lines[l.at]; old != nil {
		c.all.Go(func() { old.cut(CloseReplaced, "another line of this terminal") })
	}
	c.lines[l.at] = l
	for _, id := range has {
		if o := c.orders[id]; o == nil || o.over || o.at != l.at {
			over = append(over, id)
		}
	}
	for _, o := range c.orders {
		if o.at != l.at || o.over || o.done() {
			continue
		}
		o.line, o.lostAt = l, time.Time{}
		if o.kind.exclusive() {
			l.order = o
		}
		switch {
		case slices.Contains(has, o.id):
			o.acked = true
		case !o.acked:
			again = append(again, o.frame)
		default:
			o.finish(Report{}, ErrLost)
		}
		o.stir()
	}
	return over, again
}

// left takes a line away, unless a newer one has its place already.
func (c *Channel) left(l *line) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lines[l.at] == l {
		delete(c.lines, l.at)
	}
	for _, o := range c.orders {
		if o.line == l {
			o.line, o.lostAt = nil, time.Now()
			o.stir()
		}
	}
}

// cut ends a line from our side, and tells the terminal why.
func (l *line) cut(code websocket.StatusCode, reason string) { _ = l.conn.Close(code, reason) }

// serve reads a line until it ends.
func (l *line) serve() error {
	ctx, stop := context.WithCancel(context.Background()) // Of the calls that only wait: they end with their line.
	defer stop()
	for {
		quiet, cancel := context.WithTimeout(ctx, Silence)
		f, err := readFrame(quiet, l.conn)
		cancel()
		if err != nil {
			return err
		}
		if err := l.heard(ctx, f); err != nil {
			return err
		}
	}
}

// heard deals with one message. What takes time has a goroutine of its own.
func (l *line) heard(ctx context.Context, f Frame) error {
	c := l.channel
	switch f.Type {
	case FrameBeat:
		if _, err := c.cfg.Registry.Find(ctx, DeviceProtocol, l.entry.Number); errors.Is(err, payment.ErrForbidden) || errors.Is(err, payment.ErrNotFound) {
			c.all.Go(func() { l.cut(CloseRefused, "disabled") })
			return nil
		}
		return l.send(Frame{Type: FrameBeat})
	case FrameState:
		var busy bool
		if err := f.Read(&busy); err != nil {
			return err
		}
		c.mu.Lock()
		l.busy = busy
		c.mu.Unlock()
	case FrameAck:
		c.acked(l, f)
	case FrameEnd:
		c.ended(l, f)
		return l.send(Frame{Type: FrameEnded, ID: f.ID})
	case FrameCall:
		select {
		case l.calls <- struct{}{}:
		default:
			fault, _ := faultOf(ErrBusy)
			return l.send(Frame{Type: FrameAnswer, ID: f.ID, Error: fault})
		}
		c.all.Go(func() {
			defer func() { <-l.calls }()
			l.answer(ctx, f)
		})
	default:
		return fmt.Errorf("%s: %w", f.Type, payment.ErrInvalid)
	}
	return nil
}

// answer carries a call out and answers it. A line that is gone hears nothing: the terminal asks again over the next.
func (l *line) answer(ctx context.Context, f Frame) {
	began := time.Now()
	out := Frame{Type: FrameAnswer, ID: f.ID}
	fn, ok := calls[CallKind(f.Kind)]
	var result any
	var err error = &payment.FieldError{Field: "kind", Problem: "is no call"}
	if ok {
		result, err = fn(l, ctx, f)
	}
	log := l.channel.cfg.Log.With("tid", l.entry.Number, "call", f.Kind, "ms", time.Since(began).Milliseconds())
	if err != nil {
		var known bool
		if out.Error, known = faultOf(err); known {
			log.Info("terminal call refused", "code", out.Error.Code, "error", err)
		} else {
			log.Error("terminal call failed", "error", err)
		}
	} else {
		out = MakeFrame(FrameAnswer, f.Kind, f.ID, result)
		log.Debug("terminal call")
	}
	_ = l.send(out)
}

// send writes one message. A line that cannot be written is cut, so that its reader notices.
func (l *line) send(f Frame) error {
	l.write.Lock()
	defer l.write.Unlock()
	ctx, stop := context.WithTimeout(context.Background(), writeLimit)
	defer stop()
	err := writeFrame(ctx, l.conn, f)
	if err != nil {
		_ = l.conn.CloseNow()
	}
	return err
}

func writeFrame(ctx context.Context, conn *websocket.Conn, f Frame) error {
	b, err := json.Marshal(f)
	if err != nil {
		panic("terminal: " + err.Error()) // Bodies are made by MakeFrame.
	}
	defer clear(b)
	return conn.Write(ctx, websocket.MessageText, b)
}

// readFrame reads one message. Its error never holds any of it.
func readFrame(ctx context.Context, conn *websocket.Conn) (Frame, error) {
	kind, b, err := conn.Read(ctx)
	if err != nil {
		return Frame{}, err
	}
	defer clear(b)
	var f Frame
	if kind != websocket.MessageText || json.Unmarshal(b, &f) != nil {
		return Frame{}, fmt.Errorf("not a frame: %w", payment.ErrInvalid)
	}
	return f, nil
}

// WriteFrame is a message's way onto a line, for the terminal's side.
func WriteFrame(ctx context.Context, conn *websocket.Conn, f Frame) error {
	return writeFrame(ctx, conn, f)
}

// ReadFrame is a message's way off a line, for the terminal's side.
func ReadFrame(ctx context.Context, conn *websocket.Conn) (Frame, error) {
	return readFrame(ctx, conn)
}

package device

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/tillgate/tillgate/terminal"
)

// Pauses between tries to reach the server: doubled from the first to the last, with chance added, so that a thousand terminals do not come
// back in the same moment.
const (
	pauseFirst = 100 * time.Millisecond
	pauseLast  = 10 * time.Second
	// pauseRefused is for a server that does not want this terminal, or has another line of its identity.
	pauseRefused = 30 * time.Second
	dialLimit    = 10 * time.Second
	sendLimit    = 5 * time.Second
	// pinKeyMargin is how long before its end a PIN key is replaced.
	pinKeyMargin = time.Hour
)

// ErrOffline says that there is no line to the server, and nothing was asked of it.
var ErrOffline = errors.New("the terminal has no connection to the server")

// Link is the line to one server, under one identity. It comes back by itself, and calls that were under way are asked again.
type Link struct {
	identity *Identity
	log      *slog.Logger
	random   io.Reader
	now      func() time.Time
	// What the terminal does with what it hears.
	busy   func() bool
	orders func() []string                   // Those that the terminal has in hand or still has to tell the end of.
	heard  func(*Link, terminal.Frame)       // Orders and take-backs, and that an end has been heard.
	up     func(context.Context, *Link) bool // After a handshake; false when the terminal is not ready.

	mu      sync.Mutex
	conn    *websocket.Conn
	welcome terminal.Welcome
	session terminal.Secret // The key with which this line was opened.
	calls   map[string]*calling
	write   sync.Mutex
	state   sync.Mutex // Held from the reading of the terminal's state until it is sent.

	keyMu      sync.Mutex // Held while a PIN key is fetched.
	keyExpires time.Time
}

// calling is a call that waits for its answer.
type calling struct {
	frame  terminal.Frame
	answer chan terminal.Frame // Room for one.
}

// Number is what the server calls the terminal.
func (l *Link) Number() string { return l.identity.Number }

// Welcome is what the server has told of the terminal and its shop; zero before the first connection.
func (l *Link) Welcome() terminal.Welcome {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.welcome
}

// Online reports whether the line is there.
func (l *Link) Online() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.conn != nil
}

// Cut breaks the line, as a pulled cable does. It comes back by itself.
func (l *Link) Cut() {
	l.mu.Lock()
	conn := l.conn
	l.mu.Unlock()
	if conn != nil {
		_ = conn.CloseNow()
	}
}

// run keeps the line until ctx ends.
func (l *Link) run(ctx context.Context) error {
	pause := pauseFirst
	for {
		began := time.Now()
		err := l.hold(ctx)
		if ctx.Err() != nil {
			return nil
		}
		switch websocket.CloseStatus(err) {
		case terminal.CloseReplaced, terminal.CloseRefused:
			pause = pauseRefused
			l.log.Warn("the server does not want this line", "number", l.identity.Number, "error", err)
		default:
			if time.Since(began) > pauseLast {
				pause = pauseFirst // It was up for a while.
			}
			l.log.Info("line cut", "number", l.identity.Number, "error", err, "again_in", pause)
		}
		select {
		case <-time.After(pause/2 + rand.N(pause/2)):
		case <-ctx.Done():
			return nil
		}
		pause = min(2*pause, pauseLast)
	}
}

// hold opens the line and serves it until it ends.
func (l *Link) hold(ctx context.Context) error {
	conn, welcome, err := l.open(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.CloseNow() }() // It is at its end.
	l.mu.Lock()
	l.conn, l.welcome = conn, welcome
	again := make([]terminal.Frame, 0, len(l.calls))
	for _, c := range l.calls {
		f := c.frame
		f.Body = slices.Clone(f.Body) // The call may end, and wipe its own, before this is sent.
		again = append(again, f)
	}
	l.mu.Unlock()
	defer l.gone(conn)
	l.log.Info("connected", "number", l.identity.Number, "tid", welcome.TID)

	ctx, stop := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer stop()
	all.Go(func() { l.beat(ctx) })
	all.Go(func() { l.up(ctx, l) })
	for _, id := range welcome.Over {
		l.heard(l, terminal.Frame{Type: terminal.FrameTakeBack, ID: id})
	}
	for _, f := range again {
		err := l.send(f)
		clear(f.Body)
		if err != nil {
			return err
		}
	}
	for {
		quiet, cancel := context.WithTimeout(ctx, terminal.Silence)
		f, err := terminal.ReadFrame(quiet, conn)
		cancel()
		if err != nil {
			return err
		}
		switch f.Type {
		case terminal.FrameAnswer:
			l.mu.Lock()
			c := l.calls[f.ID]
			l.mu.Unlock()
			if c != nil {
				select {
				case c.answer <- f:
				default: // It was answered over the line before.
				}
			}
		case terminal.FrameBeat:
		default:
			l.heard(l, f)
		}
	}
}

// open is the handshake.
func (l *Link) open(ctx context.Context) (*websocket.Conn, terminal.Welcome, error) {
	ctx, stop := context.WithTimeout(ctx, dialLimit)
	defer stop()
	var welcome terminal.Welcome
	conn, _, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(l.identity.Server, "http")+terminal.PathConnect, nil)
	if err != nil {
		return nil, welcome, err
	}
	conn.SetReadLimit(terminal.FrameMax)
	fail := func(err error) (*websocket.Conn, terminal.Welcome, error) {
		_ = conn.CloseNow()
		return nil, welcome, err
	}
	f, err := terminal.ReadFrame(ctx, conn)
	if err != nil {
		return fail(err)
	}
	var hello terminal.ServerHello
	if f.Type != terminal.FrameHello || f.Read(&hello) != nil {
		return fail(errors.New("the server does not say hello"))
	}
	nonce, err := terminal.NewNonce(l.random)
	if err != nil {
		return fail(err)
	}
	l.mu.Lock()
	l.session = l.identity.Key
	key := l.session
	l.mu.Unlock()
	mine := terminal.DeviceHello{Number: l.identity.Number, Nonce: nonce, Proof: terminal.Proof(key, "device", l.identity.Number, hello.Nonce, nonce),
		Busy: l.busy(), Orders: l.orders()}
	if err := terminal.WriteFrame(ctx, conn, terminal.MakeFrame(terminal.FrameHello, "", "", mine)); err != nil {
		return fail(err)
	}
	if f, err = terminal.ReadFrame(ctx, conn); err != nil {
		return fail(err)
	}
	if f.Type != terminal.FrameWelcome || f.Read(&welcome) != nil {
		return fail(errors.New("the server does not welcome this terminal"))
	}
	if !terminal.NewSecret(terminal.Proof(key, "server", l.identity.Number, hello.Nonce, nonce)).Equal(welcome.Proof) {
		return fail(errors.New("the server has not proved to be this terminal's"))
	}
	return conn, welcome, nil
}

func (l *Link) gone(conn *websocket.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == conn {
		l.conn = nil
	}
}

// beat says that the terminal is there.
func (l *Link) beat(ctx context.Context) {
	tick := time.NewTicker(terminal.BeatEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			_ = l.send(terminal.Frame{Type: terminal.FrameBeat}) // A line that fails is noticed by its reader.
		case <-ctx.Done():
			return
		}
	}
}

// send writes a message. What a call or an end has lost is sent again over the next line.
func (l *Link) send(f terminal.Frame) error {
	l.mu.Lock()
	conn := l.conn
	l.mu.Unlock()
	if conn == nil {
		return ErrOffline
	}
	l.write.Lock()
	defer l.write.Unlock()
	ctx, stop := context.WithTimeout(context.Background(), sendLimit)
	defer stop()
	err := terminal.WriteFrame(ctx, conn, f)
	if err != nil {
		_ = conn.CloseNow()
	}
	return err
}

// tellState tells the server whether the terminal is busy. What is told is how it stands when the message leaves, and of two messages the later
// one is the newer: a terminal that has become free while its line came back must not be taken for busy ever after. A server that does not
// hear it learns of it with the next line.
func (l *Link) tellState() {
	l.state.Lock()
	defer l.state.Unlock()
	_ = l.send(terminal.MakeFrame(terminal.FrameState, "", "", l.busy()))
}

// call asks the server and waits for its answer until ctx ends, over as many lines as it takes. The server knows a call by its ID, so that
// asking again is asking once. The errors are the answer's, and the cause of ctx's end.
func (l *Link) call(ctx context.Context, kind terminal.CallKind, body, answer any) error {
	id, err := terminal.NewNonce(l.random)
	if err != nil {
		return err
	}
	c := &calling{frame: terminal.MakeFrame(terminal.FrameCall, string(kind), id, body), answer: make(chan terminal.Frame, 1)}
	l.mu.Lock()
	l.calls[id] = c
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.calls, id)
		clear(c.frame.Body) // It may be a card.
	}()
	_ = l.send(c.frame) // Without a line it leaves with the next.
	select {
	case f := <-c.answer:
		if f.Error != nil {
			return f.Error.Err()
		}
		return f.Read(answer)
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", kind, context.Cause(ctx))
	}
}

// fresh is call for what must not wait for a line: it fails at once with ErrOffline.
func (l *Link) fresh(ctx context.Context, kind terminal.CallKind, body, answer any) error {
	if !l.Online() {
		return ErrOffline
	}
	return l.call(ctx, kind, body, answer)
}

// secret asks for a secret, which comes sealed.
func (l *Link) secret(ctx context.Context, kind terminal.CallKind, as string) (now, last terminal.Secret, a terminal.SealedAnswer, err error) {
	salt, err := terminal.NewNonce(l.random)
	if err != nil {
		return now, last, a, err
	}
	if err = l.call(ctx, kind, terminal.SealedCall{As: as, Salt: salt}, &a); err != nil {
		return now, last, a, err
	}
	l.mu.Lock()
	key := l.session
	l.mu.Unlock()
	if a.Envelope != "" {
		if now, err = terminal.OpenSealed(key, kind, salt, a.Envelope); err != nil {
			return now, last, a, err
		}
	}
	if a.Last != "" {
		last, err = terminal.OpenSealed(key, kind, salt, a.Last)
	}
	return now, last, a, err
}

// pinKey makes sure that the PIN pad has a key of this link's that lives for a while. With force it fetches a new one.
func (l *Link) pinKey(ctx context.Context, pad PINPad, force bool) error {
	l.keyMu.Lock()
	defer l.keyMu.Unlock()
	if !force && l.now().Before(l.keyExpires.Add(-pinKeyMargin)) {
		return nil
	}
	key, _, a, err := l.secret(ctx, terminal.CallPINKey, "")
	if err != nil {
		return fmt.Errorf("PIN key: %w", err)
	}
	if err := pad.LoadKey(l.identity.Number, key); err != nil {
		return fmt.Errorf("PIN key: %w", err)
	}
	l.keyExpires = a.Expires
	return nil
}

// newKey changes the terminal's own key. The server takes the old one until the next change, so that a crash in between costs nothing.
func (l *Link) newKey(ctx context.Context) error {
	key, _, _, err := l.secret(ctx, terminal.CallKey, "")
	if err != nil {
		return fmt.Errorf("terminal key: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.identity.Key = key
	return l.identity.save()
}

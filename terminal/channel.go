package terminal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/tillgate/tillgate/payment"
)

const (
	// activateMax bounds the body of an activation, guessesMax the wrong codes of one address in a minute: eight digits must not be guessed.
	activateMax = 4 << 10
	guessesMax  = 10
	// handshakesMax bounds the lines that are being opened at once: whoever has proved nothing must not fill the memory.
	handshakesMax = 1024
)

// Core is what the channel needs of the payment engine.
type Core interface {
	Sell(ctx context.Context, cmd payment.SaleCommand) (payment.View, error)
	Begin(ctx context.Context, cmd payment.SaleCommand) (payment.View, error)
	Attempt(ctx context.Context, cmd payment.AttemptCommand) (payment.View, error)
	Refuse(ctx context.Context, cmd payment.RefuseCommand) (payment.View, error)
	Refund(ctx context.Context, cmd payment.RefundCommand) (payment.RefundView, error)
	Cancel(ctx context.Context, cmd payment.CancelCommand) (payment.View, error)
	Find(ctx context.Context, m payment.MerchantID, key payment.Key) (payment.View, *payment.Operation, error)
	Await(ctx context.Context, m payment.MerchantID, id payment.ID, limit time.Duration, done func(payment.View) bool) (payment.View, error)
	AwaitRefund(ctx context.Context, m payment.MerchantID, p, id payment.ID, limit time.Duration, done func(payment.RefundView) bool) (payment.RefundView, error)
}

var _ Core = (*payment.Engine)(nil)

// Books is where numbers and lists are looked up. A payment.Store is one.
type Books interface {
	Read(ctx context.Context, fn func(payment.Reader) error) error
}

// PINKeyIssuer makes PIN keys: sealed for our rows, and in an envelope under a key that the terminal has. The vault is one.
type PINKeyIssuer interface {
	IssuePINKey(prvKey, bound []byte) (sealed []byte, envelope string, err error)
}

// Own is a protocol that terminals serve themselves, such as QFPay's to the cash register beside them.
type Own struct {
	Scope        string // Of the callers' keys for payments.
	RefundScope  string
	RefundPolicy string // Name of one of the core's.
	ReusableKey  bool   // A key is free again once its payment has failed.
}

// ChannelConfig is what a Channel needs. All fields but Own and Resume are required.
type ChannelConfig struct {
	Registry *Registry
	Core     Core
	Books    Books
	PINKeys  PINKeyIssuer
	Own      map[string]Own // By the protocol's name.
	Now      func() time.Time
	Rand     io.Reader
	Log      *slog.Logger
	// Resume is how long an order outlives its line; 0 for the usual.
	Resume time.Duration
}

// Channel is the server's side of the terminal channel: an http.Handler for the one WebSocket that each terminal keeps open, and orders to
// the terminals that are there. It knows the terminals of this process only: an order given to another server finds its terminal absent.
// Run must be running. All methods may be called concurrently.
type Channel struct {
	cfg      ChannelConfig
	mux      *http.ServeMux
	all      sync.WaitGroup // Lines and calls.
	guesses  guessing
	opening  chan struct{} // Bounds handshakes.
	stopping chan struct{}

	mu      sync.Mutex // Held for one look or change, never while reading or writing.
	stopped bool
	lines   map[place]*line
	orders  map[string]*order
}

// place is which terminal it is.
type place struct {
	merchant payment.MerchantID
	terminal payment.ID
}

func placeOf(c payment.Caller) place { return place{c.Merchant.ID, c.Terminal.ID} }

// NewChannel makes a channel.
func NewChannel(cfg ChannelConfig) *Channel {
	if cfg.Resume == 0 {
		cfg.Resume = Resume
	}
	c := &Channel{cfg: cfg, mux: http.NewServeMux(), opening: make(chan struct{}, handshakesMax), stopping: make(chan struct{}), lines: map[place]*line{},
		orders: map[string]*order{}, guesses: guessing{now: cfg.Now}}
	c.mux.HandleFunc("POST "+PathActivate, c.activate)
	c.mux.HandleFunc("GET "+PathConnect, c.connect)
	return c
}

// Run waits until ctx ends, then cuts all lines and returns when nothing is under way any more. Terminals come back to whoever serves next.
func (c *Channel) Run(ctx context.Context) error {
	<-ctx.Done()
	c.mu.Lock()
	c.stopped = true
	close(c.stopping)
	var lines []*line
	for _, l := range c.lines {
		lines = append(lines, l)
	}
	c.mu.Unlock()
	for _, l := range lines {
		c.all.Go(func() { l.cut(websocket.StatusGoingAway, "the server stops") })
	}
	c.all.Wait()
	return nil
}

// ServeHTTP serves activations and lines.
func (c *Channel) ServeHTTP(w http.ResponseWriter, r *http.Request) { c.mux.ServeHTTP(w, r) }

// Connected is how many terminals are connected, for metrics.
func (c *Channel) Connected() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.lines)
}

// Free tells at once whether the caller's terminal could take an order now: nil, ErrAbsent or ErrBusy.
func (c *Channel) Free(caller payment.Caller) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.free(placeOf(caller))
	return err
}

func (c *Channel) free(at place) (*line, error) {
	l := c.lines[at]
	switch {
	case l == nil:
		return nil, ErrAbsent
	case l.busy || l.order != nil:
		return nil, ErrBusy
	}
	return l, nil
}

// activate makes a terminal of a device that has an activation code.
func (c *Channel) activate(w http.ResponseWriter, r *http.Request) {
	from, _, _ := net.SplitHostPort(r.RemoteAddr)
	if !c.guesses.may(from) {
		http.Error(w, `{"code":"too_many","text":"too many wrong codes; wait a minute"}`, http.StatusTooManyRequests)
		return
	}
	var req ActivateRequest
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, activateMax)).Decode(&req); err != nil {
		c.refuseHTTP(w, r, fmt.Errorf("activation: %w", payment.ErrInvalid))
		return
	}
	e, key, err := c.cfg.Registry.Activate(r.Context(), Activation{Protocol: DeviceProtocol, Code: req.Code,
		Device: Device{Maker: req.Maker, Serial: req.Serial, Model: req.Model, Name: req.Name}})
	if errors.Is(err, ErrCode) {
		c.guesses.wrong(from)
		w.WriteHeader(http.StatusForbidden)
		c.writeJSON(w, Fault{"forbidden", err.Error()})
		return
	}
	if err != nil {
		c.refuseHTTP(w, r, err)
		return
	}
	c.cfg.Log.Info("terminal activated", "tid", e.Number, "merchant", e.Caller.Merchant.PublicID)
	c.writeJSON(w, ActivateAnswer{Number: e.Number, Key: key.Reveal(), Merchant: e.Caller.Merchant.Name, Store: e.Caller.Store.Name})
}

func (c *Channel) refuseHTTP(w http.ResponseWriter, r *http.Request, err error) {
	f, known := faultOf(err)
	status := http.StatusBadRequest
	if !known {
		status = http.StatusInternalServerError
		c.cfg.Log.ErrorContext(r.Context(), "terminal channel", "path", r.URL.Path, "error", err)
	}
	w.WriteHeader(status)
	c.writeJSON(w, f)
}

func (c *Channel) writeJSON(w http.ResponseWriter, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		panic("terminal: " + err.Error())
	}
	_, _ = w.Write(b) // Whoever has left hears nothing.
}

// guessing counts wrong activation codes by address, a minute at a time.
type guessing struct {
	now    func() time.Time
	mu     sync.Mutex
	until  time.Time
	counts map[string]int
}

func (g *guessing) may(from string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.counts[from] < guessesMax || !g.now().Before(g.until)
}

func (g *guessing) wrong(from string) {
	const addressesMax = 10_000
	g.mu.Lock()
	defer g.mu.Unlock()
	if now := g.now(); !now.Before(g.until) || len(g.counts) >= addressesMax {
		g.until, g.counts = now.Add(time.Minute), map[string]int{}
	}
	g.counts[from]++
}

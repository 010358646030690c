package cardhost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/tillgate/tillgate/card"
	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/vault"
)

// Defaults of Config.
const (
	defaultConnections = 4
	defaultTimeout     = 10 * time.Second // Design, section 4: the card host's time-out.
	defaultEchoEvery   = 30 * time.Second // Below what middle boxes cut as idle.
	defaultKeysEvery   = 24 * time.Hour
	connectionsMax     = 64
	// patience is how long a request waits for a line while there is none: as long as a lost one takes to come back when the host is well.
	patience = time.Second
)

// Config says how the link reaches its host.
type Config struct {
	Addresses   []string // Of the host, as "name:port": the lines are spread over them, and a line that fails tries the next.
	Connections int      // How many lines are kept; 0 for 4.
	Member      string   // Our number at the host, DE 32.
	ZMK         vault.SealedKey
	PINFormat   card.Format   // Of PIN blocks to the host: 0 or 3.
	Timeout     time.Duration // Of one exchange; 0 for 10 s.
	EchoEvery   time.Duration // After so long a silence the host is asked whether it is there; 0 for 30 s.
	KeysEvery   time.Duration // How often each line gets new keys; 0 for a day.

	Vault Vault
	Log   *slog.Logger
	Now   func() time.Time
	Rand  io.Reader // May be read by several at once.

	// The hooks may be nil. They must not block.

	Exchanged func(mti, code string, took time.Duration) // After each exchange that left, with DE 39 of the answer; empty for none.
	Dropped   func(Drop)                                 // Of what came and could not be used.
	SignedOn  func(lines int)                            // How many lines are signed on, after each change. It must not block or call the link.
	CutOver   func(day string)                           // The host's new settlement date, MMDD. It may be told on every line.
}

// Drop is why something that came was dropped.
type Drop string

// The drops.
const (
	DropLate    Drop = "late"    // An answer that nobody waits for: late, sent twice, or somebody else's.
	DropGarbled Drop = "garbled" // A frame that holds no message.
	DropMAC     Drop = "mac"     // An answer with a wrong MAC.
	DropDiffers Drop = "differs" // An answer that speaks of something else than was asked.
)

// Link is a card host as an acquirer. Run keeps its lines; until they are signed on, and after Run, nothing is sent. All methods may be
// called concurrently.
type Link struct {
	cfg Config
	// Tests have others.
	dial            func(ctx context.Context, address string) (net.Conn, error)
	again, patience time.Duration

	mu       sync.Mutex
	changed  chan struct{}              // Closed, and made anew, when lines have changed.
	lines    []*line                    // Those that have keys.
	turn     int                        // Of the next line among equals.
	inFlight map[inFlight]chan struct{} // Closed when the request is over.
	network  int64                      // The STAN of the last network message.
}

var _ payment.Acquirer = (*Link)(nil)

// New checks the configuration, and fills in its defaults. It connects nothing: Run does.
func New(cfg Config) (*Link, error) {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&cfg.Timeout, defaultTimeout}, {&cfg.EchoEvery, defaultEchoEvery}, {&cfg.KeysEvery, defaultKeysEvery}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if cfg.Connections == 0 {
		cfg.Connections = defaultConnections
	}
	member := specification[deMember]
	switch {
	case len(cfg.Addresses) == 0:
		return nil, errors.New("card host: no address: give at least one, as name:port")
	case cfg.Member == "" || len(cfg.Member) > member.size || !member.format.holds(cfg.Member):
		return nil, fmt.Errorf("card host: member %q is not 1 to %d digits", cfg.Member, member.size)
	case pinFormats[cfg.PINFormat] == "":
		return nil, fmt.Errorf("card host: PIN blocks cannot be sent in %v: use format 0 or 3", cfg.PINFormat)
	case cfg.Connections < 0 || cfg.Connections > connectionsMax:
		return nil, fmt.Errorf("card host: %d connections: use 1 to %d", cfg.Connections, connectionsMax)
	case cfg.Timeout < 0 || cfg.EchoEvery < 0 || cfg.KeysEvery < 0:
		return nil, errors.New("card host: a time is below zero")
	case cfg.Vault == nil || cfg.Log == nil || cfg.Now == nil || cfg.Rand == nil:
		return nil, errors.New("card host: Vault, Log, Now and Rand must be set")
	}
	return &Link{cfg: cfg, dial: dial, again: againMin, patience: patience, changed: make(chan struct{}), inFlight: map[inFlight]chan struct{}{}}, nil
}

// Run keeps the lines until ctx ends. Then it takes nothing new, waits for the answers that are due, signs off, and returns.
func (l *Link) Run(ctx context.Context) error {
	var lines sync.WaitGroup
	for slot := range l.cfg.Connections {
		lines.Go(func() { l.hold(ctx, slot) })
	}
	lines.Wait()
	return nil
}

// Ready reports whether the host has signed us on, on one line at least.
func (l *Link) Ready() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.signedOn() > 0
}

// Traits are those of a card host: nothing can be asked, and a sale cannot be repeated. Numbers are RRNs.
func (l *Link) Traits() payment.Traits {
	return payment.Traits{Class: payment.CardHost, Timeout: l.cfg.Timeout, Number: RRN}
}

// Query can ask nothing: the wire has no such message.
func (l *Link) Query(context.Context, payment.Message) payment.Answer {
	return payment.Answer{Outcome: payment.OutcomeUnknown}
}

// Do sends one operation and waits for its answer.
func (l *Link) Do(ctx context.Context, m payment.Message) payment.Answer {
	if _, ok := builders[m.Operation.Kind]; !ok {
		// Cancels and closes are for those who can be asked; sending one here is a mistake in the routing, and nothing has left.
		l.cfg.Log.Error("cardhost: not an operation of card hosts", "kind", m.Operation.Kind, "rrn", m.Operation.Number)
		return payment.Answer{Outcome: payment.OutcomeDeclined, Reason: payment.ReasonDeclined, Text: "Card hosts do not know this operation."}
	}
	req, c, err := l.build(m)
	if err != nil {
		l.cfg.Log.Error("cardhost: message not made", "kind", m.Operation.Kind, "rrn", m.Operation.Number, "error", err)
		return payment.Answer{Outcome: payment.OutcomeUnsent}
	}
	answer, err := l.exchange(ctx, req, c)
	if err != nil {
		l.cfg.Log.Warn("cardhost: no answer", "kind", m.Operation.Kind, "mti", req.mti, "rrn", req.get(deRRN), "stan", req.get(deSTAN), "tid", req.get(deTID),
			"error", err)
		if errors.Is(err, ErrNotSent) {
			return payment.Answer{Outcome: payment.OutcomeUnsent}
		}
		return payment.Answer{Outcome: payment.OutcomeUnknown}
	}
	a := judge(m.Operation.Kind, answer)
	if a.Outcome == payment.OutcomeUnknown {
		l.cfg.Log.Warn("cardhost: an answer that does not tell what became of the money", "mti", req.mti, "rrn", req.get(deRRN), "tid", req.get(deTID),
			"de39", answer.get(deCode))
	}
	return a
}

// exchange sends a message, with the card's PIN if there is one, and returns its answer, whose MAC is right and which
// speaks of what was asked for. It fails with ErrNotSent or
// ErrNoAnswer.
func (l *Link) exchange(ctx context.Context, req *message, c *payment.Card) (answer *message, err error) {
	began := time.Now()
	code := ""
	defer func() {
		if l.cfg.Exchanged != nil && !errors.Is(err, ErrNotSent) {
			l.cfg.Exchanged(req.mti, code, time.Since(began))
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Timeout)
	defer cancel()
	free, err := l.reserve(ctx, inFlight{req.get(deTID), req.get(deSTAN)})
	if err != nil {
		return nil, err
	}
	defer free()
	ln, err := l.take(ctx)
	if err != nil {
		return nil, err
	}
	defer l.release(ln)
	if err := ctx.Err(); err != nil { // Nobody waits for it any more, so it does not leave.
		return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	k := ln.keys.Load()
	if c != nil && c.PIN != nil && !c.PAN.IsZero() {
		if err := l.translate(req, c.PIN, c.PAN, k); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
		}
	}
	frame, err := req.pack(make([]byte, 0, 512), func(covered []byte) ([macSize]byte, error) { return l.cfg.Vault.MessageMAC(k.mac, covered) })
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	r, err := ln.mux.do(ctx, pair{answerType(req.mti), req.get(deSTAN), req.get(deRRN), req.get(deTID)}, frame)
	if err != nil {
		if errors.Is(err, ErrNoAnswer) {
			poke(ln.doubt)
		}
		return nil, err
	}
	if err := l.checkMAC(r, k, ln.keys.Load()); err != nil {
		l.dropped(DropMAC)
		poke(ln.rekey)
		return nil, fmt.Errorf("%w: %w", ErrNoAnswer, err)
	}
	if !echoes(req, r.message) {
		l.dropped(DropDiffers)
		return nil, fmt.Errorf("%w: %w", ErrNoAnswer, errDiffers)
	}
	code = r.message.get(deCode)
	switch code {
	case codeOffline:
		poke(ln.signOn) // It may be the host itself that has forgotten us.
	case codeWrongMAC:
		poke(ln.rekey)
	}
	if codes[code].ours {
		l.cfg.Log.Error("cardhost: the card host does not take our message", "mti", req.mti, "rrn", req.get(deRRN), "de39", code)
	}
	return r.message, nil
}

package cardhost

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/tillgate/tillgate/internal/fault"
	"github.com/tillgate/tillgate/internal/wait"
)

const (
	// networkMax is how long a network message may take: less than a payment, since payments wait for it.
	networkMax = 5 * time.Second
	// steadyAfter is how long a line must have lived for its next dial to come without a pause that grew before.
	steadyAfter = 10 * time.Second
	// againMin is the shortest time between two sign-ons, or two key exchanges, that answers have made us doubt.
	againMin = 5 * time.Second
	// dialMax is how long a dial may take, keepAliveEach how often the system looks after an idle connection.
	dialMax       = 5 * time.Second
	keepAliveEach = 15 * time.Second
)

// backoff is the pause before the next dial or sign-on: it grows to its longest, and half of it is chance, so that links that lost one host
// do not all come back at once.
var backoff = []time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 5 * time.Second,
	10 * time.Second}

// errSignedOff is a host that will not sign us on now.
var errSignedOff = errors.New("the card host does not sign us on")

// line is one connection: its mux, its keys, and whether the host has signed us on.
type line struct {
	link    *Link
	address string
	mux     *mux
	keys    atomic.Pointer[keys]
	keySTAN atomic.Pointer[string] // Of our key exchange under way: only its answer brings keys.

	// Of the link's mutex:
	signedOn bool
	leaving  bool // Takes no requests any more.
	users    int  // Requests that have chosen this line and are not over.

	// Things to be done by the line's keeper. Each holds one at most.
	signOff chan struct{} // The host has signed us off.
	signOn  chan struct{} // The host may have forgotten us, or would take us again.
	rekey   chan struct{} // A MAC was wrong.
	doubt   chan struct{} // A request was not answered: is the host still there?
}

// poke asks a line's keeper for something.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// hold keeps one of the link's lines until ctx ends.
func (l *Link) hold(ctx context.Context, slot int) {
	for try, turn := 0, slot; ctx.Err() == nil; turn++ {
		address := l.cfg.Addresses[turn%len(l.cfg.Addresses)]
		began := time.Now()
		err := l.serve(ctx, address)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) >= steadyAfter {
			try = 0
		}
		pause := l.pause(try)
		try++
		l.cfg.Log.Warn("cardhost: line lost", "address", address, "line", slot, "error", err, "again_in", pause)
		_ = wait.For(ctx, pause) // The loop looks at ctx itself.
	}
}

// pause is the backoff of a try, with its part of chance.
func (l *Link) pause(try int) time.Duration {
	longest := backoff[min(try, len(backoff)-1)]
	var b [1]byte
	if _, err := l.cfg.Rand.Read(b[:]); err != nil {
		return longest
	}
	return longest/2 + longest/2*time.Duration(b[0])/255
}

func dial(ctx context.Context, address string) (net.Conn, error) {
	return (&net.Dialer{Timeout: dialMax, KeepAlive: keepAliveEach}).DialContext(ctx, "tcp", address)
}

// serve dials, exchanges keys, signs on and keeps the line until it breaks or ctx ends. Then nothing of it is left.
func (l *Link) serve(ctx context.Context, address string) error {
	conn, err := l.dial(ctx, address)
	if err != nil {
		return fmt.Errorf("dial: %w", err)
	}
	ln := &line{link: l, address: address, signOff: make(chan struct{}, 1), signOn: make(chan struct{}, 1), rekey: make(chan struct{}, 1),
		doubt: make(chan struct{}, 1)}
	ln.mux = newMux(fault.Conn(conn), ln.handle)
	defer func() {
		l.leave(ln)
		ln.mux.fail(errLineClosed)
		<-ln.mux.over
	}()
	if err := ln.exchangeKeys(ctx); err != nil {
		return err
	}
	l.join(ln)
	return ln.keep(ctx)
}

// keep does what a line needs besides its payments, until it breaks or ctx ends.
func (ln *line) keep(ctx context.Context) error {
	l := ln.link
	echo := time.NewTimer(l.cfg.EchoEvery)
	defer echo.Stop()
	rekey := time.NewTimer(l.cfg.KeysEvery)
	defer rekey.Stop()
	sign := time.NewTimer(0)
	defer sign.Stop()
	var signed, keyed time.Time
	keyed = time.Now()
	for refusals := 0; ; {
		var err error
		select {
		case <-ctx.Done():
			ln.end(context.WithoutCancel(ctx))
			return ctx.Err()
		case <-ln.mux.stop:
			return ln.mux.reason()
		case <-ln.signOff:
			l.setSignedOn(ln, false)
			l.cfg.Log.Warn("cardhost: the host signed off", "address", ln.address)
			sign.Reset(l.pause(refusals))
		case <-ln.signOn:
			if time.Since(signed) >= l.again || !l.isSignedOn(ln) {
				sign.Reset(0)
			}
		case <-sign.C:
			signed = time.Now()
			err = ln.network(ctx, networkSignOn)
			l.setSignedOn(ln, err == nil)
			switch {
			case errors.Is(err, errSignedOff):
				l.cfg.Log.Warn("cardhost: not signed on", "address", ln.address, "error", err)
				sign.Reset(l.pause(refusals))
				refusals++
				err = nil
			case err == nil:
				refusals = 0
				l.cfg.Log.Info("cardhost: signed on", "address", ln.address)
			}
		case <-ln.rekey:
			if time.Since(keyed) >= l.again {
				rekey.Reset(0)
			}
		case <-rekey.C:
			keyed = time.Now()
			err = ln.exchangeKeys(ctx)
			rekey.Reset(l.cfg.KeysEvery)
		case <-ln.doubt:
			if ln.mux.silent() > time.Second {
				err = ln.network(ctx, networkEcho)
			}
		case <-echo.C:
			if silent := ln.mux.silent(); silent < l.cfg.EchoEvery {
				echo.Reset(l.cfg.EchoEvery - silent)
				continue
			}
			err = ln.network(ctx, networkEcho)
			echo.Reset(l.cfg.EchoEvery)
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// end signs off once the requests under way are answered, or have had their time.
func (ln *line) end(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, ln.link.cfg.Timeout)
	defer cancel()
	ln.link.drain(ctx, ln)
	bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if err := ln.network(bye, networkSignOff); err != nil {
		ln.link.cfg.Log.Warn("cardhost: not signed off", "address", ln.address, "error", err)
	}
}

// network sends a network message and waits until it is acknowledged.
func (ln *line) network(ctx context.Context, code string) error {
	ctx, cancel := context.WithTimeout(ctx, min(networkMax, ln.link.cfg.Timeout))
	defer cancel()
	m := ln.link.networkMessage(mtiNetwork, ln.link.networkSTAN())
	m.set(deNetwork, code)
	if stan := m.get(deSTAN); code == networkKeys {
		ln.keySTAN.Store(&stan)
		defer ln.keySTAN.Store(nil)
	}
	frame, err := m.pack(nil, nil)
	if err != nil {
		return fmt.Errorf("network message %s: %w: %w", code, ErrNotSent, err)
	}
	r, err := ln.mux.do(ctx, pair{mti: mtiNetworkAnswer, stan: m.get(deSTAN)}, frame)
	if err != nil {
		return fmt.Errorf("network message %s: %w", code, err)
	}
	if got := r.message.get(deCode); got != codeApproved {
		return fmt.Errorf("network message %s: %w: code %q", code, errSignedOff, got)
	}
	return nil
}

// exchangeKeys asks for working keys. The reader takes them over when they come, before it reads anything that was made under them.
func (ln *line) exchangeKeys(ctx context.Context) error {
	before := ln.keys.Load()
	if err := ln.network(ctx, networkKeys); err != nil {
		return err
	}
	if ln.keys.Load() == before {
		return errKeys // The reader has said why.
	}
	return nil
}

// handle sees what comes besides the answers to payments. The reader calls it, and reads on when it returns.
func (ln *line) handle(m *message, awaited bool) {
	l := ln.link
	switch {
	case m == nil:
		l.dropped(DropGarbled)
		l.cfg.Log.Warn("cardhost: a frame holds no message", "address", ln.address)
	case m.mti == mtiNetwork:
		ln.mux.post(ln.acknowledge(m))
	case awaited:
		stan := ln.keySTAN.Load()
		if stan == nil || *stan != m.get(deSTAN) || m.get(deCode) != codeApproved {
			return
		}
		k, err := l.takeKeys(m)
		if err != nil {
			l.cfg.Log.Error("cardhost: key exchange", "address", ln.address, "error", err)
			return
		}
		ln.keys.Store(k)
	default:
		// Late, sent twice, or somebody else's. Whoever asked has gone, and what is owed for the silence is owed.
		l.dropped(DropLate)
		l.cfg.Log.Warn("cardhost: an answer that nobody waits for", "mti", m.mti, "stan", m.get(deSTAN), "rrn", m.get(deRRN), "tid", m.get(deTID),
			"de39", m.get(deCode))
	}
}

// acknowledge does what a network message of the host's asks for, and makes the answer.
func (ln *line) acknowledge(m *message) []byte {
	l := ln.link
	code := codeApproved
	switch m.get(deNetwork) {
	case networkEcho:
	case networkSignOff:
		l.setSignedOn(ln, false) // At once: what is sent from now on would come back as it went.
		poke(ln.signOff)
	case networkSignOn:
		poke(ln.signOn)
	case networkCutOver:
		l.cfg.Log.Info("cardhost: cut-over", "settlement", m.get(deSettlement))
		if l.cfg.CutOver != nil {
			l.cfg.CutOver(m.get(deSettlement))
		}
	default:
		code = codeNoRequest
	}
	answer := &message{mti: mtiNetworkAnswer}
	for _, de := range []int{deSent, deSTAN, deMember, deNetwork} {
		answer.set(de, m.get(de))
	}
	answer.set(deCode, code)
	frame, err := answer.pack(nil, nil)
	if err != nil {
		panic("cardhost: a parsed message cannot be packed: " + err.Error())
	}
	return frame
}

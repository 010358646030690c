package cardhost

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// inFlight is what no two requests may have in common at a time.
type inFlight struct{ tid, stan string }

// reserve makes sure that no other request of the same terminal and STAN is under way, and waits for one that is. It fails with ErrNotSent.
func (l *Link) reserve(ctx context.Context, key inFlight) (free func(), err error) {
	mine := make(chan struct{})
	for {
		l.mu.Lock()
		other := l.inFlight[key]
		if other == nil {
			l.inFlight[key] = mine
			l.mu.Unlock()
			return func() {
				l.mu.Lock()
				delete(l.inFlight, key)
				l.mu.Unlock()
				close(mine)
			}, nil
		}
		l.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: another message with its STAN is under way: %w", ErrNotSent, context.Cause(ctx))
		}
	}
}

// take chooses the signed-on line with the fewest requests, and counts one more on it. It waits for a line a little, and fails with
// ErrNotSent.
func (l *Link) take(ctx context.Context) (*line, error) {
	var wait <-chan time.Time
	for {
		l.mu.Lock()
		if ln := l.choose(); ln != nil {
			ln.users++
			l.mu.Unlock()
			return ln, nil
		}
		changed := l.changed
		l.mu.Unlock()
		if wait == nil {
			wait = time.After(l.patience)
		}
		select {
		case <-changed:
		case <-wait:
			return nil, fmt.Errorf("%w: no line is signed on", ErrNotSent)
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: no line is signed on: %w", ErrNotSent, context.Cause(ctx))
		}
	}
}

// choose is the line for the next request; nil for none. The link's mutex is held.
func (l *Link) choose() *line {
	var best *line
	for i := range l.lines {
		ln := l.lines[(l.turn+i)%len(l.lines)]
		if ln.signedOn && !ln.leaving && !ln.mux.ending() && (best == nil || ln.users < best.users) {
			best = ln
		}
	}
	l.turn++
	return best
}

// release counts a request off its line.
func (l *Link) release(ln *line) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ln.users--; ln.users == 0 && ln.leaving {
		l.announce()
	}
}

// announce wakes who waits for lines. The link's mutex is held.
func (l *Link) announce() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// join makes a line known. It is used once it is signed on.
func (l *Link) join(ln *line) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, ln)
}

// leave forgets a line that is over.
func (l *Link) leave(ln *line) {
	l.setSignedOn(ln, false)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = slices.DeleteFunc(l.lines, func(other *line) bool { return other == ln })
}

// drain takes a line out of use and waits until its requests are over, or ctx ends.
func (l *Link) drain(ctx context.Context, ln *line) {
	l.mu.Lock()
	ln.leaving = true
	l.mu.Unlock()
	for {
		l.mu.Lock()
		users, changed := ln.users, l.changed
		l.mu.Unlock()
		if users == 0 {
			return
		}
		select {
		case <-changed:
		case <-ln.mux.stop:
			return
		case <-ctx.Done():
			return
		}
	}
}

// setSignedOn takes a line into use or out of it. The hook is called with the mutex held, so that
// it hears the counts in the order in which they were true.
func (l *Link) setSignedOn(ln *line, on bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ln.signedOn == on {
		return
	}
	ln.signedOn = on
	l.announce()
	if l.cfg.SignedOn != nil {
		l.cfg.SignedOn(l.signedOn())
	}
}

func (l *Link) isSignedOn(ln *line) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return ln.signedOn
}

// signedOn counts the lines that are in use. The link's mutex is held.
func (l *Link) signedOn() int {
	n := 0
	for _, ln := range l.lines {
		if ln.signedOn && !ln.leaving {
			n++
		}
	}
	return n
}

func (l *Link) dropped(why Drop) {
	if l.cfg.Dropped != nil {
		l.cfg.Dropped(why)
	}
}

package qfpay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Times of the serial line (§3.3, §7).
const (
	ackTimeout = time.Second // After the last byte has left.
	ackTries   = 3
)

// OverSerial is a terminal on a serial line, which OpenSerial opens. Close ends it.
type OverSerial struct {
	Line io.ReadWriteCloser

	once    sync.Once
	writing sync.Mutex
	done    chan struct{} // Closed when the line has failed.

	mu     sync.Mutex
	number byte
	open   map[byte]chan message // The requests without an answer, by number.
}

func (*OverSerial) form() Form { return FormBare }

// Close closes the line and waits for its reader.
func (l *OverSerial) Close() error {
	err := l.Line.Close()
	l.once.Do(func() { // It was never used.
		l.done = make(chan struct{})
		close(l.done)
	})
	<-l.done
	return err
}

// start begins to read the line with the first request.
func (l *OverSerial) start() {
	l.once.Do(func() {
		l.done = make(chan struct{})
		l.open = make(map[byte]chan message)
		// Not the same at every start of the program: the terminal takes what repeats a number and its content for a repeat.
		l.number = byte(rand.N(numberLast))
		go l.read()
	})
}

func (l *OverSerial) read() {
	defer close(l.done)
	in, _ := receive(l.Line)
	var d deframer
	for {
		select {
		case chunk, ok := <-in:
			if !ok {
				return
			}
			for _, m := range d.feed(time.Now(), chunk) {
				l.deliver(m)
			}
		case <-time.After(partWait):
			for _, m := range d.idle(time.Now()) {
				l.deliver(m)
			}
		}
	}
}

// deliver gives a message to the request that it answers. A terminal may also send the result as a request of its own, under its own number: that is
// acknowledged, and belongs to the only open request (§3.3).
func (l *OverSerial) deliver(m message) {
	if m.refuse != 0 {
		return // Noise. What it has swallowed is asked for again.
	}
	if m.kind == frameRequest {
		l.write(message{kind: frameOK, number: m.number})
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.open[m.number]
	if m.kind == frameRequest {
		if c = nil; len(l.open) == 1 {
			c = l.open[slices.Collect(maps.Keys(l.open))[0]]
		}
	}
	select {
	case c <- m: // A nil channel takes nothing.
	default:
	}
}

func (l *OverSerial) write(m message) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	_, err := l.Line.Write(m.frames())
	if drain, ok := l.Line.(interface{ Drain() error }); ok && err == nil {
		err = drain.Drain() // 1,024 bytes take a second at 9600 baud.
	}
	return err
}

func (l *OverSerial) enter() (byte, chan message, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.open) == inFlightMax {
		return 0, nil, fmt.Errorf("%w: %d requests are open on the line", ErrNotSent, inFlightMax)
	}
	for {
		if l.number = l.number%numberLast + 1; l.open[l.number] == nil {
			break
		}
	}
	const queue = 8 // Acknowledgement, result, and their repeats.
	c := make(chan message, queue)
	l.open[l.number] = c
	return l.number, c, nil
}

func (l *OverSerial) leave(number byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, number)
}

// frameRefusals are the codes that errors of a frame stand for.
var frameRefusals = map[byte]Refusal{
	frameUnknownError:    {Code: CodeError, Text: "the terminal cannot take it now (30)"},
	frameValidationError: {Code: CodeDenied, Text: "the digest does not match (32)"},
	frameDecryptError:    {Code: CodeDecryptFailed, Text: "decryption failed (33)"},
	frameDataError:       {Code: CodeWrongParam, Text: "the envelope cannot be read (34)"},
}

// exchange sends a request and, without an acknowledgement in time, sends it again under the same number, by which the terminal knows it. An
// error proves that nothing was begun only as long as the request was sent once.
func (l *OverSerial) exchange(ctx context.Context, _ FuncType, body []byte, whole func([]byte) bool) ([]byte, error) {
	if len(body) > frameDataMax {
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrNotSent, frameDataMax)
	}
	l.start()
	number, answers, err := l.enter()
	if err != nil {
		return nil, err
	}
	defer l.leave(number)
	request := message{kind: frameRequest, number: number, data: body}
	for sent := 1; sent <= ackTries; sent++ {
		if err := l.write(request); err != nil {
			return nil, fmt.Errorf("%w: %w", errSilence, err)
		}
		answer, acknowledged, err := l.await(ctx, answers, ackTimeout, whole)
		if answer != nil || err != nil && (sent == 1 || !isRefusal(err)) {
			return answer, err
		}
		if acknowledged {
			answer, _, err := l.await(ctx, answers, 0, whole)
			return answer, err
		}
	}
	return nil, fmt.Errorf("%w: the terminal does not acknowledge", errSilence)
}

func isRefusal(err error) bool {
	var r *Refusal
	return errors.As(err, &r)
}

// await waits for an acknowledgement or the result; limit is for the acknowledgement, and 0 when there has been one. Nothing of all is that
// the request is to be sent again.
func (l *OverSerial) await(ctx context.Context, answers <-chan message, limit time.Duration, whole func([]byte) bool) (answer []byte, acknowledged bool, err error) {
	var late <-chan time.Time
	if limit > 0 {
		t := time.NewTimer(limit)
		defer t.Stop()
		late = t.C
	}
	for {
		select {
		case m := <-answers:
			refused, known := frameRefusals[m.kind]
			switch {
			case m.kind != frameOK && m.kind != frameRequest && limit == 0:
				// It has been accepted: this is about a repeat.
			case known:
				return nil, false, &refused
			case m.kind != frameOK && m.kind != frameRequest:
				return nil, false, nil // Torn on its way.
			case len(m.data) > 0 && whole(m.data):
				return m.data, true, nil
			case len(m.data) > 0:
				return nil, false, fmt.Errorf("%w: the answer cannot be read", errSilence)
			case limit > 0:
				return nil, true, nil
			}
		case <-late:
			return nil, false, nil
		case <-l.done:
			return nil, false, fmt.Errorf("%w: the line has failed", errSilence)
		case <-ctx.Done():
			return nil, false, fmt.Errorf("%w: %w", errSilence, ctx.Err())
		}
	}
}

package qfpay

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"go.bug.st/serial"
)

// Times and limits of the serial link (§3.3, §7).
const (
	repeatWindow = 5 * time.Second // A message that comes again within it is a repeat.
	reopenPause  = 2 * time.Second
)

// SerialMode is how a serial line is set.
type SerialMode struct {
	Baud int // 0 is 9600, with 8 data bits, no parity and 1 stop bit (QFPay seed, 10).
}

const baudDefault = 9600

// OpenSerial opens a serial device, such as /dev/ttyUSB0 or COM3.
func OpenSerial(path string, mode SerialMode) (io.ReadWriteCloser, error) {
	port, err := serial.Open(path, &serial.Mode{BaudRate: cmp.Or(mode.Baud, baudDefault), DataBits: 8, Parity: serial.NoParity, StopBits: serial.OneStopBit})
	if err != nil {
		return nil, fmt.Errorf("serial line %s: %w", path, err)
	}
	return &device{Port: port}, nil
}

// device is a serial port whose Read fails when the line is gone. The driver's returns nothing then, again and again.
type device struct{ serial.Port }

func (d *device) Read(b []byte) (int, error) {
	n, err := d.Port.Read(b)
	if n == 0 && err == nil {
		return 0, io.EOF
	}
	return n, err
}

// SerialLink is a Server on a serial line (§3.3).
type SerialLink struct {
	Server *Server
	Path   string // For Run.
	Mode   SerialMode
}

// Run opens the device and serves it until ctx ends. A device that is pulled out is opened again when it is back.
func (l *SerialLink) Run(ctx context.Context) error {
	for {
		port, err := OpenSerial(l.Path, l.Mode)
		if err == nil {
			err = l.Serve(ctx, port)
		}
		if ctx.Err() != nil {
			return nil
		}
		l.Server.Log.LogAttrs(ctx, slog.LevelWarn, "serial line lost", slog.String("path", l.Path), slog.Any("err", err))
		select {
		case <-time.After(reopenPause):
		case <-ctx.Done():
			return nil
		}
	}
}

// Serve serves an open line until ctx ends or the line is gone, and closes it. Sales that run go on; Server.Wait waits for them.
func (l *SerialLink) Serve(ctx context.Context, port io.ReadWriteCloser) error {
	shut := sync.OnceFunc(func() { _ = port.Close() })
	defer shut()
	closer := context.AfterFunc(ctx, shut)
	defer closer()
	err := l.Server.serveFrames(ctx, "serial", port)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// receive reads a line in a goroutine of its own until it fails, which it does when it is closed.
func receive(r io.Reader) (<-chan []byte, func() error) {
	var failure error
	c := make(chan []byte)
	go func() {
		defer close(c)
		for {
			var chunk [4096]byte
			n, err := r.Read(chunk[:])
			if n > 0 {
				c <- chunk[:n]
			}
			if err != nil {
				failure = err
				return
			}
		}
	}()
	return c, func() error { return failure } // After c is closed.
}

// served is a request that was accepted lately.
type served struct {
	sum    [sha256.Size]byte
	at     time.Time
	answer []byte // As framed; nil while it is worked on.
}

// serveFrames speaks frames over any line (§3.3): it acknowledges each request at once, and sends the result under the same number when
// there is one. One goroutine reads, this one writes. It returns when the line fails; the caller closes the line when ctx ends.
func (s *Server) serveFrames(ctx context.Context, link string, line io.ReadWriteCloser) error {
	ctx, stop := context.WithCancel(ctx)
	in, failure := receive(line)
	f := &framed{server: s, link: link, line: line, lately: make(map[byte]*served), results: make(chan result)}
	defer func() {
		stop() // Whoever waits for an order waits no longer; the order goes on.
		_ = line.Close()
		for range in {
			continue // Until the reader has ended too.
		}
		f.all.Wait()
	}()
	silence := time.NewTimer(partWait)
	defer silence.Stop()
	for {
		var messages []message
		select {
		case chunk, ok := <-in:
			if !ok {
				return failure()
			}
			messages = f.deframer.feed(time.Now(), chunk)
			silence.Reset(partWait)
		case <-silence.C:
			messages = f.deframer.idle(time.Now())
		case r := <-f.results:
			f.working--
			r.served.answer, r.served.at = r.answer, time.Now()
			f.write(r.answer)
		}
		for _, m := range messages {
			f.message(ctx, m)
		}
		if f.err != nil {
			return f.err
		}
	}
}

// framed is a line of frames at work. All but the goroutines that carry requests out belongs to serveFrames.
type framed struct {
	server   *Server
	link     string
	line     io.Writer
	deframer deframer
	lately   map[byte]*served
	results  chan result
	working  int
	all      sync.WaitGroup
	err      error
}

type result struct {
	served *served
	answer []byte
}

// write sends frames, each in one piece. The first failure ends the link.
func (f *framed) write(b []byte) {
	if f.err == nil && len(b) > 0 {
		_, f.err = f.line.Write(b)
	}
}

func (f *framed) message(ctx context.Context, m message) {
	ack := message{kind: frameOK, number: m.number}.frames()
	switch {
	case m.refuse != 0:
		f.write(message{kind: m.refuse, number: m.number}.frames())
		return
	case m.kind != frameRequest:
		return // An acknowledgement, an error that the other side reports, or an echo of ours.
	}
	sum, now := sha256.Sum256(m.data), time.Now()
	if last := f.lately[m.number]; last != nil && last.sum == sum && (last.answer == nil || now.Sub(last.at) < repeatWindow) {
		f.write(ack) // Ours was lost: nothing is begun a second time (§7).
		f.write(last.answer)
		return
	}
	if f.working == inFlightMax {
		f.write(message{kind: frameUnknownError, number: m.number}.frames())
		return
	}
	r, fault := f.server.open(ctx, f.link, m.data)
	if fault != nil {
		f.write(message{kind: fault.frame, number: m.number}.frames())
		return
	}
	f.write(ack)
	mine := &served{sum: sum, at: now}
	f.lately[m.number] = mine
	f.working++
	f.all.Go(func() {
		body, _ := r.seal(f.server.handle(ctx, f.link, r, 0))
		select {
		case f.results <- result{mine, message{kind: frameOK, number: m.number, data: body}.frames()}:
		case <-ctx.Done():
		}
	})
}

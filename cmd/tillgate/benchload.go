package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/schollz/progressbar/v3"

	"github.com/tillgate/tillgate/protocol/upp"
)

// The load generator shares the processors with what it measures, so it must cost next to nothing: requests are bytes made beforehand in
// which only the reference changes, and answers are searched instead of decoded.

const (
	dialLimit    = 5 * time.Second
	answerLimit  = 40 * time.Second // For any answer: UPP holds a request for 30 seconds at most.
	answerBytes  = 64 << 10
	failuresMax  = 100                    // After so many the load ends: it would measure errors.
	failurePause = 100 * time.Millisecond // Before a till whose connection broke dials again.
)

// wire is one kept connection.
type wire struct {
	conn net.Conn
	in   *bufio.Reader
	body []byte
}

func dialWire(ctx context.Context, address string) (*wire, error) {
	conn, err := (&net.Dialer{Timeout: dialLimit}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return &wire{conn: conn, in: bufio.NewReader(conn)}, nil
}

var contentLength = []byte("content-length:")

// exchange sends a request and reads its answer; the body is good until the next one. It understands the answers of our own servers,
// whose length is in their header.
func (w *wire) exchange(request []byte) (status int, body []byte, err error) {
	if _, err := w.conn.Write(request); err != nil {
		return 0, nil, err
	}
	line, err := w.in.ReadSlice('\n')
	if err != nil {
		return 0, nil, err
	}
	version, rest, _ := bytes.Cut(line, []byte(" "))
	if string(version) != "HTTP/1.1" || len(rest) < 3 {
		return 0, nil, fmt.Errorf("answer begins with %.40q", line)
	}
	if status, err = strconv.Atoi(string(rest[:3])); err != nil {
		return 0, nil, fmt.Errorf("answer begins with %.40q", line)
	}
	length := -1
	for {
		line, err := w.in.ReadSlice('\n')
		if err != nil {
			return 0, nil, err
		}
		if line = bytes.TrimRight(line, "\r\n"); len(line) == 0 {
			break
		}
		if len(line) > len(contentLength) && bytes.EqualFold(line[:len(contentLength)], contentLength) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(line[len(contentLength):]))); err != nil {
				return 0, nil, err
			}
		}
	}
	if length < 0 || length > answerBytes {
		return 0, nil, fmt.Errorf("answer of %d bytes, want 0 to %d", length, answerBytes)
	}
	if cap(w.body) < length {
		w.body = make([]byte, length)
	}
	w.body = w.body[:length]
	_, err = io.ReadFull(w.in, w.body)
	return status, w.body, err
}

// orders makes the requests of one kind of payment: each has a reference of its own and belongs to the next merchant.
type orders struct {
	address string
	tokens  []string
	kind    string   // What references begin with.
	heads   [][]byte // Of each merchant.
	body    []byte
	at      int // Where the reference's number stands in body.
	next    atomic.Uint64
}

// numberDigits are the digits of a reference's number: enough for every payment that a bench can make.
const numberDigits = 12

// newOrders prepares purchases of kind. The amount is no trigger of the sandbox, so the code decides.
func newOrders(address string, tokens []string, r upp.CreateRequest) (*orders, error) {
	r.TransactionType, r.Amount, r.Currency, r.Provider = upp.TypePurchase, "24.5", "aud", upp.ProviderAlipay
	kind := "bench-" + r.SaleType + "-"
	r.TransactionReference = kind + strings.Repeat("0", numberDigits)
	r.Items = []upp.Item{{Type: upp.ItemSKU, ItemReference: "4711", Name: "Umbrella", Amount: "24.5", Quantity: "1"}}
	body, err := r.Encode()
	if err != nil {
		return nil, err
	}
	o := &orders{address: address, tokens: tokens, kind: kind, body: body, at: bytes.Index(body, []byte(r.TransactionReference)) + len(kind)}
	for _, token := range tokens {
		o.heads = append(o.heads, fmt.Appendf(nil, "POST /upp/v1/transactions HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n"+
			"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n", address, token, len(body)))
	}
	return o, nil
}

// amountMinor is what every payment of a bench is about.
const amountMinor = 24_50

// take writes the next request into buf.
func (o *orders) take(buf []byte) []byte {
	n := o.next.Add(1)
	head := o.heads[n%uint64(len(o.heads))]
	buf = append(append(buf[:0], head...), o.body...)
	rest := n
	for i := len(head) + o.at + numberDigits - 1; rest > 0; i-- {
		buf[i] = '0' + byte(rest%10)
		rest /= 10
	}
	return buf
}

// poll is the request that waits for the n-th payment, counted from 1.
func (o *orders) poll(n uint64) []byte {
	return fmt.Appendf(nil, "GET /upp/api/v1/transactions/%s%0*d?waitForCompletion=true HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n",
		o.kind, numberDigits, n, o.address, o.tokens[n%uint64(len(o.tokens))])
}

// load is a closed loop: each till sends its next payment when the last one is answered.
type load struct {
	name     string // For the terminal.
	address  string
	payers   []payer // One for each till.
	warm     time.Duration
	measured time.Duration
	bar      io.Writer                   // Nil shows nothing.
	mark     func(context.Context) error // Called when measuring begins and when it ends; may be nil.

	from, to time.Time
	give     context.CancelFunc // Ends the load early.

	mu       sync.Mutex
	latency  *hdrhistogram.Histogram // Microseconds, of what was answered in the measured time.
	approved []uint64                // outTradeNumbers of all that was approved, also during the warm-up.
	failures int
	first    error
}

// Latencies are recorded from a microsecond to longer than any answer may take, to three digits.
const (
	latencyMax    = int64(time.Minute / time.Microsecond)
	latencyDigits = 3
)

// run loads the server, and fails only when it could not measure at all; what went wrong with payments is counted.
func (l *load) run(ctx context.Context) error {
	ctx, l.give = context.WithCancel(ctx)
	defer l.give()
	l.latency = hdrhistogram.New(1, latencyMax, latencyDigits)
	start := time.Now()
	l.from = start.Add(l.warm)
	l.to = l.from.Add(l.measured)
	var tills sync.WaitGroup
	for _, p := range l.payers {
		tills.Go(func() { l.till(ctx, p) })
	}
	err := l.watch(ctx, start)
	if err != nil {
		l.give()
	}
	tills.Wait()
	if l.failures >= failuresMax {
		return fmt.Errorf("%d payments failed; the first: %w", l.failures, l.first)
	}
	return err
}

// watch marks the measured time, and shows how far it is.
func (l *load) watch(ctx context.Context, start time.Time) error {
	if l.bar != nil {
		defer l.show(start)()
	}
	for _, at := range []time.Time{l.from, l.to} {
		pause := time.NewTimer(time.Until(at))
		defer pause.Stop()
		select {
		case <-pause.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if l.mark == nil {
			continue
		}
		if err := l.mark(ctx); err != nil {
			return err
		}
	}
	return nil
}

// showEvery is how often the terminal is written to.
const showEvery = 250 * time.Millisecond

// show draws a bar until the function that it returns is called.
func (l *load) show(start time.Time) (end func()) {
	bar := progressbar.NewOptions64(l.to.Sub(start).Milliseconds(), progressbar.OptionSetWriter(l.bar), progressbar.OptionSetWidth(30),
		progressbar.OptionClearOnFinish(), progressbar.OptionSetPredictTime(false), progressbar.OptionSetElapsedTime(false))
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(showEvery)
		defer tick.Stop()
		for last, then := 0, start; ; {
			select {
			case <-stop:
				_ = bar.Finish() // It is only a picture.
				return
			case now := <-tick.C:
				l.mu.Lock()
				done := len(l.approved)
				l.mu.Unlock()
				bar.Describe(fmt.Sprintf("%-5s %6.0f payments/s", l.name, float64(done-last)/now.Sub(then).Seconds()))
				_ = bar.Set64(min(now.Sub(start), l.to.Sub(start)).Milliseconds())
				last, then = done, now
			}
		}
	}()
	return func() { close(stop); <-stopped }
}

// till pays until the time is over.
func (l *load) till(ctx context.Context, p payer) {
	var w *wire
	defer func() {
		if w != nil {
			_ = w.conn.Close()
		}
	}()
	stop := func() bool { return true } // Unties the connection from ctx.
	var request []byte
	for ctx.Err() == nil && time.Now().Before(l.to) {
		if w == nil {
			var err error
			if w, err = dialWire(ctx, l.address); err != nil {
				w = nil
				l.failed(ctx, err)
				continue
			}
			conn := w.conn
			_ = conn.SetDeadline(l.to.Add(answerLimit))
			stop = context.AfterFunc(ctx, func() { _ = conn.Close() })
		}
		request = p.take(request)
		start := time.Now()
		number, err := w.pay(p, request)
		if err == nil {
			l.paid(number, start, time.Now())
			continue
		}
		stop()
		_ = w.conn.Close()
		w = nil
		l.failed(ctx, err)
	}
	stop()
}

var (
	approvedMark = []byte(`"approved":true`)
	numberMark   = []byte(`"outTradeNumber":"`)
)

// payer is a till's part of a protocol: it makes requests as bytes and searches answers.
type payer interface {
	// take writes the next request into buf.
	take(buf []byte) []byte
	// paid finds the number under which the sandbox's books have a payment. Every answer but an approval is an error.
	paid(status int, body []byte) (uint64, error)
}

// pay sends a payment and returns its number.
func (w *wire) pay(p payer, request []byte) (uint64, error) {
	status, body, err := w.exchange(request)
	if err != nil {
		return 0, err
	}
	return p.paid(status, body)
}

// paid finds the outTradeNumber.
func (o *orders) paid(status int, body []byte) (uint64, error) {
	if status != 200 || !bytes.Contains(body, approvedMark) {
		return 0, fmt.Errorf("answered %d: %.300s", status, body)
	}
	return outTradeNumber(body)
}

// outTradeNumber finds the number under which the wallet network knows a payment.
func outTradeNumber(body []byte) (uint64, error) {
	_, rest, ok := bytes.Cut(body, numberMark)
	text, _, _ := bytes.Cut(rest, []byte(`"`))
	n, err := strconv.ParseUint(string(text), 10, 64)
	if !ok || err != nil {
		return 0, errors.New("the answer has no outTradeNumber")
	}
	return n, nil
}

func (l *load) paid(number uint64, start, end time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.approved = append(l.approved, number)
	if !end.Before(l.from) && end.Before(l.to) {
		_ = l.latency.RecordValue(min(end.Sub(start).Microseconds(), latencyMax)) // Within its range.
	}
}

// failed counts a payment that was not seen to be approved, and pauses: its connection is made anew. Those that were cut off because
// the load ends do not count.
func (l *load) failed(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	l.mu.Lock()
	if l.failures++; l.failures == 1 {
		l.first = err
	}
	if l.failures >= failuresMax {
		l.give()
	}
	l.mu.Unlock()
	pause := time.NewTimer(failurePause)
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-ctx.Done():
	}
}

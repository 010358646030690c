package qfpay

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tillgate/tillgate/internal/wait"
)

// Times of a cash register (§7).
const (
	readGrace    = 60 * time.Second  // How much longer than the customer an answer may take.
	readMin      = 180 * time.Second // Of a sale or refund.
	readQuick    = 15 * time.Second  // Of all else.
	pollPause    = 2 * time.Second   // Before the first inquiry; grows to pollPauseMax.
	pollPauseMax = 10 * time.Second
	pollFor      = 5 * time.Minute // Then people must look.
	sendTries    = 3               // Of what certainly never left.
	sendPause    = time.Second
	answerMax    = payloadMax
)

var (
	// ErrOutcomeUnknown says that no answer was had: the money may or may not have moved. Inquire, and do not send it again.
	ErrOutcomeUnknown = errors.New("outcome unknown")
	// ErrNotSent says that the terminal could not be reached and that certainly nothing was sent.
	ErrNotSent = errors.New("the terminal cannot be reached; nothing was sent")
	// errSilence is a request that left, in full or in part, and got no answer.
	errSilence = errors.New("no answer")
)

// Refusal is the terminal's answer that it did not do what was asked: nothing was paid.
type Refusal struct {
	Code  Code
	Inner Inner // Empty when the terminal gave none.
	Text  string
}

func (r *Refusal) Error() string {
	return strings.TrimSpace(fmt.Sprintf("terminal refused with %s %s: %s", r.Code, r.Inner, r.Text))
}

// Cancelled reports whether the customer or the cashier gave it up.
func (r *Refusal) Cancelled() bool { return r.Code == CodeCancelled }

// Link is a way to a terminal: OverHTTP, OverTCP or OverSerial.
type Link interface {
	// exchange sends one request and waits for its answer until ctx ends; whole tells whether bytes are one. It fails with ErrNotSent,
	// with a *Refusal in the link's own words, or with errSilence.
	exchange(ctx context.Context, op FuncType, body []byte, whole func([]byte) bool) ([]byte, error)
	form() Form
}

// Client is a cash register's side of a terminal. Link and Key must be set. It is safe for concurrent use: Cancel runs beside a Sale.
type Client struct {
	Link  Link
	Key   POSKey
	Form  Form                                       // FormAuto is the link's own.
	Mode  KeyMode                                    // KeyAuto finds out.
	Now   func() time.Time                           // nil is time.Now.
	Sleep func(context.Context, time.Duration) error // nil waits in real time; fails when the context ends.
	Rand  io.Reader                                  // For numbers of sales that have none; nil is that of crypto/rand.

	mu    sync.Mutex
	found KeyMode // The mode that the terminal has understood.
}

// Sale takes a payment. A *Refusal means that nothing was paid, ErrNotSent that the terminal was not reached. After silence it inquires, every 2 to 10
// seconds for at least 5 minutes, and never sends a second sale; when that does not decide it, or ctx ends, it is ErrOutcomeUnknown.
func (c *Client) Sale(ctx context.Context, s SaleCall) (*Approval, error) {
	if s.OutTradeNo == "" {
		var err error
		if s.OutTradeNo, err = c.newNumber(); err != nil {
			return nil, err
		}
	}
	members, err := s.members()
	if err != nil {
		return nil, err
	}
	start := c.now()
	customer := cmp.Or(s.PaymentTimeout, s.WaitCardTimeout, timeoutDefault)
	answer, err := c.call(ctx, FuncPayment, members, max(customer+readGrace, readMin))
	if err == nil {
		var a *Approval
		if a, err = s.approval(answer); a != nil || !undecided(err) {
			return a, err
		}
	}
	if !undecided(err) {
		return nil, err
	}
	lost := err
	// Until the customer's time is over, a terminal may still wait for a card that the other side has never heard of; so "not found" proves
	// nothing before.
	deaf := start.Add(customer + readGrace)
	return c.poll(ctx, lost, max(pollFor, deaf.Sub(c.now())+2*pollPauseMax), func() (*Approval, error) {
		d, err := c.Inquiry(ctx, InquiryRequest{OutTradeNo: s.OutTradeNo})
		var refused *Refusal
		switch {
		case errors.As(err, &refused) && refused.Inner == InnerNotFound && c.now().After(deaf):
			return nil, refused
		case err != nil:
			return nil, errSilence
		}
		return s.inquired(d)
	})
}

// undecided reports whether an error leaves open what became of the money.
func undecided(err error) bool { return errors.Is(err, errSilence) || errors.Is(err, errPending) }

// errPending is an answer that says itself that it decides nothing.
var errPending = errors.New("not decided")

// poll asks until it is decided, ctx ends, or people must look.
func (c *Client) poll(ctx context.Context, lost error, limit time.Duration, ask func() (*Approval, error)) (*Approval, error) {
	end := c.now().Add(limit)
	for pause := pollPause; c.now().Before(end); pause = min(pause*3/2, pollPauseMax) {
		if err := c.sleep(ctx, pause); err != nil {
			return nil, fmt.Errorf("%w: %v: %w", ErrOutcomeUnknown, lost, err)
		}
		a, err := ask()
		if a != nil || err != nil && !undecided(err) {
			return a, err
		}
	}
	return nil, fmt.Errorf("%w: %v", ErrOutcomeUnknown, lost) // Not wrapped: it may be a *Refusal that proves nothing.
}

// Refund gives money back. It inquires about the sale before; after silence it compares what may still be refunded with what could
// be then, and never sends a second refund.
func (c *Client) Refund(ctx context.Context, r RefundCall) (*Approval, error) {
	members, err := r.members()
	if err != nil {
		return nil, err
	}
	before, err := c.Inquiry(ctx, InquiryRequest{Number: r.OrderID})
	var refused *Refusal
	switch {
	case errors.As(err, &refused):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrNotSent, err) // The refund itself was not.
	}
	answer, err := c.call(ctx, FuncRefund, members, readMin)
	if err == nil {
		var a *Approval
		if a, err = r.approval(answer); a != nil || !undecided(err) {
			return a, err
		}
	}
	if !undecided(err) {
		return nil, err
	}
	return c.poll(ctx, err, pollFor, func() (*Approval, error) {
		after, err := c.Inquiry(ctx, InquiryRequest{Number: r.OrderID})
		if err != nil {
			return nil, errSilence
		}
		return r.compare(before, after)
	})
}

// Inquiry finds a sale or refund by either number. A *Refusal with InnerNotFound says that there is none.
func (c *Client) Inquiry(ctx context.Context, r InquiryRequest) (*InquiryData, error) {
	if err := errors.Join(checkFree("orderId", r.Number), checkFree("out_trade_no", r.OutTradeNo)); err != nil {
		return nil, err
	}
	members := addText(addText(nil, "orderId", r.Number), "out_trade_no", r.OutTradeNo)
	answer, err := c.call(ctx, FuncInquiry, members, readQuick)
	if err != nil {
		return nil, err
	}
	if answer.Code != CodeOK {
		return nil, refusalOf(answer)
	}
	var d InquiryData
	if err := json.Unmarshal([]byte(answer.Data), &d); err != nil {
		return nil, fmt.Errorf("%w: data of the inquiry: %w", errSilence, err)
	}
	return &d, nil
}

// Cancel ends the sale or refund that the terminal is busy with, whoever asked for it.
func (c *Client) Cancel(ctx context.Context) error { return c.command(ctx, FuncCancel, nil) }

// Print prints the receipt of an order on the terminal.
func (c *Client) Print(ctx context.Context, orderID string) error {
	if err := checkFree("orderId", orderID); err != nil {
		return err
	}
	return c.command(ctx, FuncPrintReceipt, addText(nil, "orderId", orderID))
}

// Summary prints the totals of the day on the terminal.
func (c *Client) Summary(ctx context.Context) error { return c.command(ctx, FuncPrintSummary, nil) }

// command may be repeated, and is repeated once (§7).
func (c *Client) command(ctx context.Context, op FuncType, members []member) error {
	answer, err := c.call(ctx, op, members, readQuick)
	if errors.Is(err, errSilence) && ctx.Err() == nil {
		answer, err = c.call(ctx, op, members, readQuick)
	}
	if err != nil {
		return err
	}
	if answer.Code != CodeOK {
		return refusalOf(answer)
	}
	return nil
}

// call makes one request and reads its answer. What certainly never left is sent again, and so is what the terminal could not decrypt, under
// the next key mode: nothing was begun by it.
func (c *Client) call(ctx context.Context, op FuncType, members []member, limit time.Duration) (Response, error) {
	members = append(members, member{"func_type", value{kind: numberKind, text: strconv.Itoa(int(op))}})
	modes := c.modes()
	for tries := 1; ; tries++ {
		answer, err := c.once(ctx, op, members, modes[0], limit)
		switch {
		case errors.Is(err, ErrNotSent) && tries < sendTries && c.sleep(ctx, sendPause) == nil:
			continue
		case err == nil && answer.Code == CodeDecryptFailed && len(modes) > 1:
			modes = modes[1:]
			continue
		case err == nil && answer.Code != CodeDecryptFailed:
			c.learn(modes[0])
		}
		return answer, err
	}
}

func (c *Client) once(ctx context.Context, op FuncType, members []member, mode KeyMode, limit time.Duration) (Response, error) {
	body, err := sealRequest(c.formOf(), members, c.Key, mode)
	if err != nil {
		return Response{}, err
	}
	ctx, stop := context.WithTimeout(ctx, limit)
	defer stop()
	aesKey := c.Key.aes(mode)
	read := func(b []byte) (Response, error) { return openAnswer(b, aesKey) }
	got, err := c.Link.exchange(ctx, op, body, func(b []byte) bool { _, err := read(b); return err == nil })
	var refused *Refusal
	switch {
	case errors.As(err, &refused):
		return Response{Code: refused.Code, Error: refused.Text}, nil // A serial line has its own words for some.
	case err != nil:
		return Response{}, fmt.Errorf("%s: %w", op, err)
	}
	answer, err := read(got)
	if err != nil {
		return Response{}, fmt.Errorf("%s: %w: %w", op, errSilence, err)
	}
	return answer, nil
}

func (c *Client) formOf() Form { return cmp.Or(c.Form, c.Link.form()) }

// modes are the key modes that are worth trying, in order.
func (c *Client) modes() []KeyMode {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m := cmp.Or(c.Mode, c.found); m != KeyAuto {
		return []KeyMode{m}
	}
	var modes []KeyMode
	for _, m := range keyModes {
		if c.Key.aes(m) != nil {
			modes = append(modes, m)
		}
	}
	if len(modes) == 0 {
		return []KeyMode{KeyUTF8} // There is no key: sealRequest says so.
	}
	return modes
}

func (c *Client) learn(mode KeyMode) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.found = mode
}

func (c *Client) now() time.Time {
	if c.Now == nil {
		return time.Now()
	}
	return c.Now()
}

func (c *Client) sleep(ctx context.Context, d time.Duration) error {
	if c.Sleep != nil {
		return c.Sleep(ctx, d)
	}
	return wait.For(ctx, d)
}

func (c *Client) newNumber() (string, error) {
	var b [16]byte
	random := c.Rand
	if random == nil {
		random = rand.Reader
	}
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return "", fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	return fmt.Sprintf("%x", b), nil
}

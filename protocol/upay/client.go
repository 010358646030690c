package upay

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/tillgate/tillgate/internal/wait"
	"github.com/tillgate/tillgate/terminal"
)

// Addresses of the real Upay (§1.2).
const (
	LiveURL     = "https://vsi-api.shouqianba.com"
	LiveGateway = "https://qr.shouqianba.com/gateway"
)

// Times of §6.2.
const (
	payTimeout  = 50 * time.Second // Upay holds a pay for 35 s at most
	callTimeout = 15 * time.Second
	logTimeout  = 60 * time.Second
)

// messageMax bounds, in characters, what of a peer's message goes into an error.
const messageMax = 500

// Identity is a terminal as it must be kept: its number and two keys. The last one is kept because a check-in's answer may be lost, and
// Upay goes on taking it.
type Identity struct {
	TerminalSN string
	Key, Last  terminal.Secret
}

// Keeper keeps a terminal's identity between runs, encrypted if it can. Keep must be durable before it returns: a key that is lost locks the
// terminal out.
type Keeper interface {
	Identity(ctx context.Context) (Identity, error)
	Keep(ctx context.Context, i Identity) error
}

// Client is a till's side of Upay. BaseURL and Keeper must be set, the rest may be left. It is safe for concurrent use by one terminal.
//
// Calls return what Upay has said of the business. An error that is an *Error with ResultClientError is a refusal: nothing was done. Any
// other error leaves the outcome unknown; TakePayment, Follow, Settle and TakeRefund deal with that.
type Client struct {
	BaseURL string // Such as LiveURL.
	Keeper  Keeper
	// DeviceID, when set, lets the client check in by itself when both keys are refused.
	DeviceID string
	HTTP     *http.Client                               // For its Transport and Jar; redirects are never followed, and time-outs are those of §6.2.
	Now      func() time.Time                           // Nil is time.Now.
	Sleep    func(context.Context, time.Duration) error // Nil waits in real time; fails when the context ends.

	checkIn sync.Mutex // One at a time, since each changes the keys.
}

// Vendor signs activations.
type Vendor struct {
	SN  string
	Key terminal.Secret
}

// Activate makes a terminal and keeps its identity (§3.1). Each call that succeeds uses the code once and makes another terminal.
func (c *Client) Activate(ctx context.Context, v Vendor, r ActivateRequest) (*Credentials, error) {
	biz, err := c.exchange(ctx, "/terminal/activate", r.Encode(), v.SN, v.Key, callTimeout)
	if err != nil {
		return nil, err
	}
	return c.keep(ctx, biz, Identity{})
}

// keep stores a key that was handed out.
func (c *Client) keep(ctx context.Context, biz *Biz, before Identity) (*Credentials, error) {
	got := biz.Credentials
	if got == nil || got.TerminalSN == "" {
		return nil, errors.New("upay: the answer holds no key")
	}
	if err := c.Keeper.Keep(ctx, Identity{TerminalSN: got.TerminalSN, Key: got.TerminalKey, Last: before.Key}); err != nil {
		return nil, fmt.Errorf("upay: keep the key of terminal %s: %w", got.TerminalSN, err)
	}
	return got, nil
}

// CheckIn changes the terminal's key: daily, before the first payment (§2.5). When its answer is lost the old key still works, and the next
// check-in mends everything.
func (c *Client) CheckIn(ctx context.Context, r CheckInRequest) (*Credentials, error) {
	c.checkIn.Lock()
	defer c.checkIn.Unlock()
	return c.checkInLocked(ctx, r)
}

func (c *Client) checkInLocked(ctx context.Context, r CheckInRequest) (*Credentials, error) {
	id, err := c.Keeper.Identity(ctx)
	if err != nil {
		return nil, err
	}
	r.TerminalSN = id.TerminalSN
	body := r.Encode()
	biz, err := c.exchange(ctx, "/terminal/checkin", body, id.TerminalSN, id.Key, callTimeout)
	if illegalSign(err) && id.Last.Reveal() != "" {
		id.Key, id.Last = id.Last, id.Key
		biz, err = c.exchange(ctx, "/terminal/checkin", body, id.TerminalSN, id.Key, callTimeout)
	}
	if err != nil {
		return nil, err
	}
	return c.keep(ctx, biz, id)
}

func illegalSign(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Code == CodeIllegalSign
}

// Refused reports whether an error is Upay's word that it has done nothing.
func Refused(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Result == ResultClientError
}

// Pay sends a pay once (§3.4). Its answer may be uncertain: TakePayment goes on from there.
func (c *Client) Pay(ctx context.Context, r PayRequest) (*Biz, error) {
	return operate(ctx, c, "/upay/v2/pay", &r.TerminalSN, payTimeout, func() []byte { return r.Encode() })
}

// Precreate sends a precreate once (§3.5). Follow waits for the customer.
func (c *Client) Precreate(ctx context.Context, r PrecreateRequest) (*Biz, error) {
	return operate(ctx, c, "/upay/v2/precreate", &r.TerminalSN, payTimeout, func() []byte { return r.Encode() })
}

// Query asks for an order (§3.6).
func (c *Client) Query(ctx context.Context, r QueryRequest) (*Biz, error) {
	return operate(ctx, c, "/upay/v2/query", &r.TerminalSN, callTimeout, func() []byte { return r.Encode() })
}

// Refund sends a refund once (§3.7). TakeRefund goes on until its outcome is known.
func (c *Client) Refund(ctx context.Context, r RefundRequest) (*Biz, error) {
	return operate(ctx, c, "/upay/v2/refund", &r.TerminalSN, callTimeout, func() []byte { return r.Encode() })
}

// Revoke gives a paid order back whole, on the day of its creation, the fee included (§3.8).
func (c *Client) Revoke(ctx context.Context, r CancelRequest) (*Biz, error) {
	return operate(ctx, c, "/upay/v2/revoke", &r.TerminalSN, callTimeout, func() []byte { return r.Encode() })
}

// Cancel ends an order whose payment is not known (§3.8).
func (c *Client) Cancel(ctx context.Context, r CancelRequest) (*Biz, error) {
	return operate(ctx, c, "/upay/v2/cancel", &r.TerminalSN, callTimeout, func() []byte { return r.Encode() })
}

// UploadLog sends a log, which is usually compressed (§3.3).
func (c *Client) UploadLog(ctx context.Context, log []byte) error {
	var sn string
	_, err := operate(ctx, c, "/terminal/uploadLog", &sn, logTimeout, func() []byte { return log })
	return err
}

// GatewayURL is the address of the hosted payment page, to which the wallet's browser is redirected (§3.9). gateway is LiveGateway, say.
func (c *Client) GatewayURL(ctx context.Context, gateway string, r GatewayRequest) (string, error) {
	id, err := c.Keeper.Identity(ctx)
	if err != nil {
		return "", err
	}
	r.TerminalSN = cmp.Or(r.TerminalSN, id.TerminalSN)
	v := r.Values()
	v.Set("sign", SignForm(v, id.Key))
	return gateway + "?" + v.Encode(), nil
}

// VerifyReturn reports whether the parameters with which a browser came back are Upay's. They are a hint only: query the order.
func (c *Client) VerifyReturn(ctx context.Context, v url.Values) (bool, error) {
	id, err := c.Keeper.Identity(ctx)
	return err == nil && (VerifyForm(v, id.Key) || VerifyForm(v, id.Last)), err
}

// operate signs and sends one request of the terminal's, whose number it fills in. What is refused for its signature was not done, and is sent
// again under the other key, and after a check-in.
func operate(ctx context.Context, c *Client, path string, terminalSN *string, timeout time.Duration, encode func() []byte) (*Biz, error) {
	id, err := c.Keeper.Identity(ctx)
	if err != nil {
		return nil, err
	}
	*terminalSN = cmp.Or(*terminalSN, id.TerminalSN)
	body := encode() // Once: these bytes are signed, and these are sent.
	biz, err := c.exchange(ctx, path, body, id.TerminalSN, id.Key, timeout)
	if illegalSign(err) && id.Last.Reveal() != "" {
		biz, err = c.exchange(ctx, path, body, id.TerminalSN, id.Last, timeout)
	}
	if !illegalSign(err) {
		return biz, err
	}
	fresh, ok := c.rekey(ctx, id)
	if !ok {
		return nil, err
	}
	return c.exchange(ctx, path, body, id.TerminalSN, fresh.Key, timeout)
}

// rekey gets a key that works instead of refused ones: another goroutine's, or one of a check-in.
func (c *Client) rekey(ctx context.Context, refused Identity) (Identity, bool) {
	c.checkIn.Lock()
	defer c.checkIn.Unlock()
	now, err := c.Keeper.Identity(ctx)
	if err == nil && now.Key.Reveal() != refused.Key.Reveal() {
		return now, true
	}
	if err != nil || c.DeviceID == "" {
		return now, false
	}
	if _, err := c.checkInLocked(ctx, CheckInRequest{DeviceID: c.DeviceID}); err != nil {
		return now, false
	}
	now, err = c.Keeper.Identity(ctx)
	return now, err == nil
}

// exchange sends bytes once. Whatever the HTTP status, the envelope counts; what holds none is no answer (§1.3).
func (c *Client) exchange(ctx context.Context, path string, body []byte, sn string, key terminal.Secret, timeout time.Duration) (*Biz, error) {
	base, err := url.Parse(c.BaseURL)
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" || base.RawQuery != "" {
		return nil, errors.New("upay: BaseURL must be an absolute http or https address without a query")
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimRight(c.BaseURL, "/")+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("upay: %w", err)
	}
	q.Header.Set("Authorization", Authorization(sn, body, key))
	q.Header.Set("Content-Type", "application/json")
	q.Header.Set("Accept", "application/json")
	res, err := c.client().Do(q)
	if err != nil {
		return nil, fmt.Errorf("upay: %w", err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, answerMax+1))
	if err != nil {
		return nil, fmt.Errorf("upay: HTTP %d, then: %w", res.StatusCode, err)
	}
	e, err := DecodeEnvelope(text)
	if err != nil {
		return nil, fmt.Errorf("upay: HTTP %d: %w", res.StatusCode, err)
	}
	switch {
	case e.ResultCode != ResultOK:
		message := e.ErrorMessage
		if runes := []rune(message); len(runes) > messageMax {
			message = string(runes[:messageMax]) + "…"
		}
		return nil, &Error{Result: e.ResultCode, Code: e.ErrorCode, Message: message, Standard: e.ErrorCodeStandard}
	case e.Biz == nil:
		return &Biz{}, nil // Of an upload; else it says nothing.
	}
	return e.Biz, nil
}

// client is the caller's HTTP client without what would break the protocol.
func (c *Client) client() *http.Client {
	h := http.Client{}
	if c.HTTP != nil {
		h = *c.HTTP
	}
	h.Timeout = 0
	h.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &h
}

func (c *Client) now() time.Time {
	if c.Now != nil {
		return c.Now()
	}
	return time.Now()
}

func (c *Client) sleep(ctx context.Context, d time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if c.Sleep != nil {
		return c.Sleep(ctx, d)
	}
	return wait.For(ctx, d)
}

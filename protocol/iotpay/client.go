package iotpay

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
	"time"

	"github.com/tillgate/tillgate/internal/wait"
	"github.com/tillgate/tillgate/payment"
)

// DefaultURL is the address of the real service (seed).
const DefaultURL = "https://api.iotpaycloud.com"

// Times of §6.
const (
	cardTimeout   = 185 * time.Second // The server holds a card order for 180 s at most.
	walletTimeout = 30 * time.Second
	queryTimeout  = 10 * time.Second

	queryEvery    = 2 * time.Second  // seed
	queryMinute   = time.Minute      // seed: at least
	querySlowly   = 10 * time.Second // Afterwards.
	querySettling = 10 * time.Minute // Until people must look.
)

var (
	// ErrOutcomeUnknown says that no answer was had: the money may or may not have moved. The order is to be queried again, by Settle.
	ErrOutcomeUnknown = errors.New("outcome unknown")
	// errNoAnswer is a call without an answer that can be believed.
	errNoAnswer = errors.New("no answer")
)

// Client is a till's side of IOT Pay. BaseURL, MchID and Key must be set. It is safe for concurrent use.
//
// It never sends create_order a second time: where an answer is missing, the order is queried (seed). Errors that are an *Error are the
// service's own refusals.
type Client struct {
	BaseURL   string // Such as DefaultURL; what is called is below its /v1.
	MchID     string
	LoginName string // Sent as jobNo and loginName.
	Key       Key
	HTTP      *http.Client // For its Transport; redirects are never followed, and time-outs are those of §6.
	Sleep     func(context.Context, time.Duration) error
	Now       func() time.Time
	// Unverified accepts answers whose signature is missing or does not fit: how the real service signs nested objects is not known
	// (§2.5). Answers of ours always fit.
	Unverified bool
	// SettleFor is how long Settle asks; 0 is ten minutes, and less than the seed's minute is a minute.
	SettleFor time.Duration
	// RefundQueryPath is where refunds are queried; empty is /v1/query_refund. The real path is not public (§3.8).
	RefundQueryPath string
}

// Order is an order as the service answered it.
type Order struct {
	*PayOrder
	QR string // Text to show as a QR code, from Create only.
}

// Create sends an order, once. Its result may be neither paid nor final, and is then to be settled. Without an answer it fails with
// ErrOutcomeUnknown, and so it does with the service's errors that do not tell what became of the order (§4.4).
func (c *Client) Create(ctx context.Context, o CreateOrder) (*Order, error) {
	o.MchID, o.JobNo = cmp.Or(o.MchID, c.MchID), cmp.Or(o.JobNo, c.LoginName)
	ch, ok := channelOf(o.ChannelID)
	if !ok {
		return nil, fmt.Errorf("iotpay: channel %q: %w", o.ChannelID, payment.ErrInvalid)
	}
	timeout := walletTimeout
	if ch.flow == payment.ByCard {
		timeout = cardTimeout
	}
	sent := params(o.fields(ch))
	if o.Tip == 0 {
		sent = without(sent, "tip") // It is not in the seed's table of parameters.
	}
	a, err := c.call(ctx, "/v1/create_order", sent, timeout)
	if err != nil {
		return nil, unknown("create", o.MchOrderNo, err)
	}
	order, err := orderIn(a)
	if err == nil && (order.MchOrderNo != o.MchOrderNo || order.Amount != 0 && order.Amount != o.Amount) {
		err = fmt.Errorf("%w: it is about another order", errNoAnswer)
	}
	if err != nil {
		return nil, unknown("create", o.MchOrderNo, err)
	}
	return &Order{PayOrder: order, QR: cmp.Or(a.Get("codeUrl"), a.Get("qr_code"))}, nil
}

// Pay sends an order that the shop's side can pay at once, by card or by the customer's code, and asks until its end is known: the seed's
// rule for a till whose create_order was not answered. The order returned is final; ErrOutcomeUnknown is for people.
func (c *Client) Pay(ctx context.Context, o CreateOrder) (*Order, error) {
	order, err := c.Create(ctx, o)
	switch {
	case err == nil && order.Status.Final():
		return order, nil
	case err != nil && !errors.Is(err, ErrOutcomeUnknown):
		return nil, err
	}
	return c.Settle(ctx, o.MchOrderNo)
}

// Settle queries an order every two seconds until it is paid, failed or closed, for a minute; then every ten seconds (§6). It fails with
// ErrOutcomeUnknown when that is not enough, and with the service's 0112 when the order is not known after a minute: it never arrived.
func (c *Client) Settle(ctx context.Context, mchOrderNo string) (*Order, error) {
	start := c.now()
	limit := max(cmp.Or(c.SettleFor, querySettling), queryMinute)
	seen := false
	for {
		order, err := c.Query(ctx, QueryOrder{MchOrderNo: mchOrderNo})
		if err == nil && order.Status.Final() {
			return order, nil
		}
		seen = seen || err == nil
		waited := c.now().Sub(start)
		refused, isRefusal := errors.AsType[*Error](err)
		switch {
		case isRefusal && refused.Code == CodeNotFound && !seen && waited >= queryMinute:
			return nil, err
		case waited >= limit:
			return nil, fmt.Errorf("iotpay: order %s after %v: %w", mchOrderNo, waited, ErrOutcomeUnknown)
		}
		pause := queryEvery
		if waited >= queryMinute {
			pause = querySlowly
		}
		if err := c.sleep(ctx, pause); err != nil {
			return nil, fmt.Errorf("iotpay: order %s: %w: %w", mchOrderNo, ErrOutcomeUnknown, err)
		}
	}
}

// Query asks for an order by either of its numbers, once.
func (c *Client) Query(ctx context.Context, q QueryOrder) (*Order, error) {
	q.MchID = cmp.Or(q.MchID, c.MchID)
	a, err := c.call(ctx, "/v1/query_order", params(q.fields()), queryTimeout)
	if err != nil {
		return nil, fmt.Errorf("iotpay: query %s%s: %w", q.MchOrderNo, q.PayOrderID, err)
	}
	order, err := orderIn(a)
	if err == nil && (q.MchOrderNo != "" && order.MchOrderNo != q.MchOrderNo || q.PayOrderID != "" && order.PayOrderID != q.PayOrderID) {
		err = fmt.Errorf("%w: it is about another order", errNoAnswer)
	}
	if err != nil {
		return nil, fmt.Errorf("iotpay: query %s%s: %w", q.MchOrderNo, q.PayOrderID, err)
	}
	return &Order{PayOrder: order}, nil
}

// Close ends an order that is not paid (§3.9; proposed, so the real service may not know it).
func (c *Client) Close(ctx context.Context, q QueryOrder) (*Order, error) {
	q.MchID = cmp.Or(q.MchID, c.MchID)
	a, err := c.call(ctx, "/v1/close_order", params(q.fields()), queryTimeout)
	if err != nil {
		return nil, fmt.Errorf("iotpay: close %s%s: %w", q.MchOrderNo, q.PayOrderID, err)
	}
	order, err := orderIn(a)
	if err != nil {
		return nil, err
	}
	return &Order{PayOrder: order}, nil
}

// Refund gives money back. Without an answer it queries the refund, and sends it again, under the same number, only when it is not known
// (§6). The result may still be StatusPaying. It fails with ErrOutcomeUnknown when nothing was learned in a minute.
func (c *Client) Refund(ctx context.Context, o RefundOrder) (*Order, error) {
	o.MchID, o.LoginName = cmp.Or(o.MchID, c.MchID), cmp.Or(o.LoginName, c.LoginName)
	for start := c.now(); ; {
		a, err := c.call(ctx, "/v1/refund_order", params(o.fields()), walletTimeout)
		var order *PayOrder
		if err == nil {
			order, err = orderIn(a)
		}
		if err == nil {
			return &Order{PayOrder: order}, nil
		}
		if err = unknown("refund", o.MchRefundNo, err); !errors.Is(err, ErrOutcomeUnknown) {
			return nil, err
		}
		for {
			if c.now().Sub(start) >= queryMinute {
				return nil, err
			}
			if stopped := c.sleep(ctx, queryEvery); stopped != nil {
				return nil, errors.Join(err, stopped)
			}
			found, failed := c.QueryRefund(ctx, QueryRefund{MchRefundNo: o.MchRefundNo})
			if failed == nil {
				return found, nil
			}
			if refused, ok := errors.AsType[*Error](failed); ok && refused.Code == CodeNotFound {
				break // It never arrived, or it was refused.
			}
		}
	}
}

// QueryRefund asks for a refund by any of its numbers, once.
func (c *Client) QueryRefund(ctx context.Context, q QueryRefund) (*Order, error) {
	q.MchID = cmp.Or(q.MchID, c.MchID)
	a, err := c.call(ctx, cmp.Or(c.RefundQueryPath, "/v1/query_refund"), params(q.fields()), queryTimeout)
	if err != nil {
		return nil, fmt.Errorf("iotpay: query refund %s%s: %w", q.MchRefundNo, q.RefundOrderID, err)
	}
	order, err := orderIn(a)
	if err != nil {
		return nil, err
	}
	return &Order{PayOrder: order}, nil
}

// unknown marks the errors after which nobody knows whether the order stands.
func unknown(what, number string, err error) error {
	refused, ok := errors.AsType[*Error](err)
	if ok {
		switch refused.Code {
		case CodeNotPost, CodeEmpty, CodeSignature, CodeParameter, CodeMerchant, CodeNotFound:
			return fmt.Errorf("iotpay: %s %s: %w", what, number, err)
		}
		if what == "refund" && refused.Code == CodeThirdParty {
			return fmt.Errorf("iotpay: %s %s: %w", what, number, err) // Declined, for good.
		}
	}
	return fmt.Errorf("iotpay: %s %s: %w: %w", what, number, ErrOutcomeUnknown, err)
}

// call signs and sends parameters once, and reads a successful answer. A failure is an *Error.
func (c *Client) call(ctx context.Context, path string, p Params, timeout time.Duration) (Params, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	o := &object{params: p}
	o.sign(c.Key)
	body := paramsName + "=" + url.QueryEscape(string(o.bytes()))
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(c.BaseURL, "/")+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	q.Header.Set("Content-Type", formType)
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	if c.HTTP != nil {
		client.Transport = c.HTTP.Transport
	}
	res, err := client.Do(q)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoAnswer, err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, answerMax+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", errNoAnswer, err)
	case res.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%w: HTTP status %d", errNoAnswer, res.StatusCode)
	case len(text) > answerMax:
		return nil, fmt.Errorf("%w: longer than %d bytes", errNoAnswer, answerMax)
	}
	return c.readAnswer(text)
}

func (c *Client) readAnswer(text []byte) (Params, error) {
	a, err := ParseObject(bytes.TrimSpace(text))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoAnswer, err)
	}
	failed := a.Get("retCode") != Success || a.Get("resCode") != Success
	unsignedFailure := failed && a.Get(signName) == "" // A merchant that is not known has no key.
	if !c.Unverified && !unsignedFailure && !VerifyAnswer(a, c.Key) {
		return nil, fmt.Errorf("%w: its signature does not fit", errNoAnswer)
	}
	if failed {
		return nil, &Error{Code: Code(a.Get("errCode")), Message: a.Get("retMsg"), Description: a.Get("errCodeDes")}
	}
	return a, nil
}

// VerifyAnswer reports whether an answer's signature fits, with nested objects as their bytes (variant N) or left out (variant X, §2.5).
func VerifyAnswer(a Params, k Key) bool {
	signed := without(a, "payParams") // Never signed.
	if _, ok := Verify(signed, k); ok {
		return true
	}
	flat := Params{}
	for _, q := range signed {
		if q.Kind != Other {
			flat = append(flat, q)
		}
	}
	_, ok := Verify(flat, k)
	return ok
}

func without(p Params, name string) Params {
	var rest Params
	for _, q := range p {
		if q.Name != name {
			rest = append(rest, q)
		}
	}
	return rest
}

// orderIn finds the order in an answer: in payOrder, else in result, else at the top (§3.6).
func orderIn(a Params) (*PayOrder, error) {
	for _, name := range []string{"payOrder", "result"} {
		if text := a.Get(name); text != "" {
			o, err := ParsePayOrder([]byte(text))
			if err != nil {
				return nil, fmt.Errorf("%w: %s: %w", errNoAnswer, name, err)
			}
			return o, nil
		}
	}
	o := &PayOrder{}
	if err := readMembers(a, o.members()); err != nil {
		return nil, fmt.Errorf("%w: %w", errNoAnswer, err)
	}
	return o, nil
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

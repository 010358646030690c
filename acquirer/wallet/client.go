// Package wallet is the link to a wallet network: payments with codes that customers show, QR codes that they scan, and pages that
// their browsers are sent to.
//
// Client speaks the network's wire and nothing else. It sends each request once; whether to repeat, query or cancel after silence is the
// caller's to decide, and its errors say which of these is safe.
package wallet

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tillgate/tillgate/internal/fault"
	"github.com/tillgate/tillgate/money"
)

var (
	// ErrNotSent says that nothing left us for certain: the network cannot have acted on this call.
	ErrNotSent = errors.New("not sent to the wallet network")
	// ErrNotFound says that the network does not know the reference. It was never taken, though it may still be on its way.
	ErrNotFound = errors.New("unknown to the wallet network")
	// ErrNoAnswer says that the outcome is unknown: silence, a cut line, or an answer that cannot be trusted.
	ErrNoAnswer = errors.New("no answer from the wallet network")
)

// RefusedError is the network's own refusal of a request: it understood it and did nothing.
type RefusedError struct {
	Status int    // The HTTP status, 400 to 499.
	Code   string // The network's word, such as "reference_conflict".
	Text   string // For logs and people; empty if the network gave none.
}

// Error names the code and the text.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("refused by the wallet network: %d %s: %s", e.Status, e.Code, e.Text)
}

// Limits of a call.
const (
	answerMax     = 64 << 10         // Bytes; the network keeps its longest answers, events, below it.
	callMax       = 60 * time.Second // No call lasts longer, whatever its context says: a forgotten deadline must not hold a payment for ever.
	connsMax      = 512              // Connections kept open: as many as calls we expect at once.
	idleMax       = 90 * time.Second // For an idle connection.
	dialMax       = 5 * time.Second
	keepAliveEach = 15 * time.Second
)

// Client calls one wallet network. Its fields must not change once it is used; it may be used concurrently.
type Client struct {
	BaseURL string       // Such as "https://wallets.example.com", without a slash at its end.
	Key     string       // Bearer token.
	HTTP    *http.Client // Nil is one with a pool for hundreds of calls at once, shared by all such Clients. Redirects are never followed.
}

// pool is the HTTP client of Clients that bring none.
var pool = sync.OnceValue(func() *http.Client {
	return &http.Client{Transport: &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         dial,
		TLSHandshakeTimeout: dialMax,
		MaxIdleConns:        connsMax,
		MaxIdleConnsPerHost: connsMax,
		IdleConnTimeout:     idleMax,
		DisableCompression:  true,
	}}
})

func dial(ctx context.Context, network, address string) (net.Conn, error) {
	c, err := (&net.Dialer{Timeout: dialMax, KeepAlive: keepAliveEach}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return fault.Conn(c), nil
}

// Pay asks for a payment, or for the stored one if the same request was sent before.
func (c *Client) Pay(ctx context.Context, q PayRequest) (Payment, error) {
	return c.payment(ctx, "pay", http.MethodPost, "/v1/payments", payBody{
		Reference:    q.Reference,
		MerchantID:   q.MerchantID,
		MerchantName: q.MerchantName,
		AmountMinor:  q.Amount.Minor(),
		Currency:     q.Amount.Currency().Code(),
		Wallet:       q.Wallet,
		Flow:         string(q.Flow),
		Code:         q.Code,
		ReturnURL:    q.ReturnURL,
		Attach:       q.Attach,
		LifetimeMS:   q.Lifetime.Milliseconds(),
	}, q.Reference, q.Amount)
}

// Payment queries a payment. The amount is what was asked for: an answer about another amount is no answer.
func (c *Client) Payment(ctx context.Context, reference string, amount money.Amount) (Payment, error) {
	return c.payment(ctx, "query", http.MethodGet, "/v1/payments/"+url.PathEscape(reference), nil, reference, amount)
}

// Cancel ends a payment: what waits cannot be paid any more, what is paid is given back, unless onlyIfUnpaid. The answer's state decides:
// with onlyIfUnpaid it may be approved. A reference that the network never saw is refused if it comes later.
func (c *Client) Cancel(ctx context.Context, reference string, amount money.Amount, onlyIfUnpaid bool) (Payment, error) {
	return c.payment(ctx, "cancel", http.MethodPost, "/v1/payments/"+url.PathEscape(reference)+"/cancel", cancelBody{onlyIfUnpaid}, reference, amount)
}

// Refund gives money back, or finds it given if the same request was sent before.
func (c *Client) Refund(ctx context.Context, q RefundRequest) (Refund, error) {
	return c.refund(ctx, "refund", http.MethodPost, "/v1/refunds", refundBody{
		Reference:         q.Reference,
		OriginalReference: q.Original,
		AmountMinor:       q.Amount.Minor(),
		Currency:          q.Amount.Currency().Code(),
		Attach:            q.Attach,
	}, q.Reference, q.Original, q.Amount)
}

// RefundStatus queries a refund. The original and the amount are what was asked for, as in Payment.
func (c *Client) RefundStatus(ctx context.Context, reference, original string, amount money.Amount) (Refund, error) {
	return c.refund(ctx, "refund query", http.MethodGet, "/v1/refunds/"+url.PathEscape(reference), nil, reference, original, amount)
}

// payment makes a call that is answered with a payment. An answer that cannot be trusted is none.
func (c *Client) payment(ctx context.Context, verb, method, path string, body any, reference string, amount money.Amount) (Payment, error) {
	answer, err := c.call(ctx, method, path, body)
	if err != nil {
		return Payment{}, fmt.Errorf("wallet %s %s: %w", verb, reference, err)
	}
	p, err := decodePayment(answer, reference, amount)
	if err != nil {
		return Payment{}, fmt.Errorf("wallet %s %s: %w: %w", verb, reference, ErrNoAnswer, err)
	}
	return p, nil
}

// refund makes a call that is answered with a refund. An answer that cannot be trusted is none.
func (c *Client) refund(ctx context.Context, verb, method, path string, body any, reference, original string, amount money.Amount) (Refund, error) {
	answer, err := c.call(ctx, method, path, body)
	if err != nil {
		return Refund{}, fmt.Errorf("wallet %s %s: %w", verb, reference, err)
	}
	r, err := decodeRefund(answer, reference, original, amount)
	if err != nil {
		return Refund{}, fmt.Errorf("wallet %s %s: %w: %w", verb, reference, ErrNoAnswer, err)
	}
	return r, nil
}

// Events waits up to the given time for changes after the given one. An empty epoch asks where the feed stands.
func (c *Client) Events(ctx context.Context, epoch string, after uint64, wait time.Duration) (Events, error) {
	query := url.Values{
		"epoch":   {epoch},
		"after":   {strconv.FormatUint(after, 10)},
		"wait_ms": {strconv.FormatInt(max(wait, 0).Milliseconds(), 10)},
	}
	answer, err := c.call(ctx, http.MethodGet, "/v1/events?"+query.Encode(), nil)
	if err != nil {
		return Events{}, fmt.Errorf("wallet events: %w", err)
	}
	events, err := decodeEvents(answer)
	if err != nil {
		return Events{}, fmt.Errorf("wallet events: %w: %w", ErrNoAnswer, err)
	}
	return events, nil
}

// call sends one request once and returns the body of an HTTP 200, or one of the errors above.
func (c *Client) call(ctx context.Context, method, path string, body any) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, callMax)
	defer cancel()
	// A request is written only to a connection that GotConn was told of, so without one nothing left us. With one it may have: the
	// transport writes in a goroutine of its own, and what it reports of that comes too late to be trusted.
	var connected atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }})

	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
		}
		content = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.BaseURL+path, content)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	// Without GetBody the transport cannot send a body a second time on its own. It may repeat a GET, which is harmless.
	req.GetBody = nil
	req.Header.Set("Authorization", "Bearer "+c.Key)
	req.Header.Set("Accept", "application/json")

	res, err := c.http().Do(req)
	if err != nil {
		if !connected.Load() {
			return nil, fmt.Errorf("%w: %w", ErrNotSent, err)
		}
		return nil, fmt.Errorf("%w: %w", ErrNoAnswer, err)
	}
	defer func() { _ = res.Body.Close() }() // What was read has been judged by then.
	answer, err := io.ReadAll(io.LimitReader(res.Body, answerMax+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoAnswer, err)
	}
	if len(answer) > answerMax {
		return nil, fmt.Errorf("%w: it is longer than %d bytes", ErrNoAnswer, answerMax)
	}
	if res.StatusCode != http.StatusOK {
		return nil, refused(res.StatusCode, answer)
	}
	return answer, nil
}

// http is the caller's client, made to keep still when it is redirected: a payment is not sent to an address that we do not know.
func (c *Client) http() *http.Client {
	h := c.HTTP
	if h == nil {
		h = pool()
	}
	still := *h
	still.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &still
}

// refused sorts the answers that are not HTTP 200. Only the network's own JSON is a refusal: other pages come from something in between,
// which may have passed the request on.
func refused(status int, answer []byte) error {
	if status < 400 || status > 499 || status == http.StatusRequestTimeout {
		return fmt.Errorf("%w: HTTP %d", ErrNoAnswer, status)
	}
	f, err := decodeObject(answer)
	if err != nil {
		return fmt.Errorf("%w: HTTP %d: %w", ErrNoAnswer, status, err)
	}
	e := RefusedError{Status: status, Code: f.text("error"), Text: f.text("text")}
	switch {
	case f.err != nil || e.Code == "":
		return fmt.Errorf("%w: HTTP %d without the network's error", ErrNoAnswer, status)
	case status == http.StatusNotFound && e.Code == "not_found":
		return ErrNotFound
	}
	return &e
}

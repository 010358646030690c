package upp

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tillgate/tillgate/internal/wait"
)

// Addresses of the real UPP (UPP seed, Endpoints).
const (
	SandboxURL = "https://payments.sandbox.upp.qps.io/v1/"
	LiveURL    = "https://payments.upp.qps.io/v1/"
)

// Times of §6.2 and §6.3.
const (
	createTimeout = 60 * time.Second // create, refund and cancel: UPP holds a create for 30 s at most
	pollTimeout   = 40 * time.Second // long poll and complete: UPP holds them for 30 s at most
	fetchTimeout  = 30 * time.Second // UPP answers a fetch at once

	resendPause    = time.Second            // before the first resend; doubles
	resendPauseMax = 10 * time.Second       // from the fifth resend on
	pollPause      = 250 * time.Millisecond // after an error of a poll; doubles to resendPauseMax
	retryAfterMax  = time.Minute            // a server may ask for a longer pause, up to this

	// giveUpAfter is when people must look into the portal (§6.3, step 6).
	giveUpAfter = 24 * time.Hour

	// failureTextMax bounds, in characters, what of a peer's description goes into an error.
	failureTextMax = 500
)

var (
	// ErrOutcomeUnknown says that no answer was had: the money may or may not have moved. The same Stored is to be sent again
	// with Resume, or the transaction polled.
	ErrOutcomeUnknown = errors.New("outcome unknown")
	// ErrEndStateUnread says that UPP accepted a cancel, but that the state it left could not be read.
	ErrEndStateUnread = errors.New("cancelled, but the end state could not be read")
)

// Client is a merchant's side of a real UPP. BaseURL and Token must be set, the rest may be left. It is safe for concurrent use.
//
// Errors that are an *Error are answers of UPP: nothing was charged, unless they also are ErrOutcomeUnknown.
type Client struct {
	BaseURL  string // such as SandboxURL; with or without /v1
	Token    Token
	HTTP     *http.Client                               // for its Transport and Jar; redirects are never followed and time-outs are those of §6.2
	Now      func() time.Time                           // nil is time.Now
	Sleep    func(context.Context, time.Duration) error // nil waits in real time; fails when the context ends
	Prefixes Prefixes
}

// Prefixes are the paths in front of /transactions, per call, as the seed writes them if empty (§1.2).
type Prefixes struct{ Create, Fetch, Poll, Cancel, Complete string }

// The two prefixes of the seed. Every UPP is believed to serve both everywhere, but only these pairs are documented.
const (
	prefixPlain = "/v1"     // create, fetch, complete
	prefixAPI   = "/api/v1" // long poll, cancel
)

// Stored is a create request as it must be kept before it is sent, so that exactly the same bytes can be sent again, also by
// another process after a crash (§6.3, step 1). Its JSON form is for storage. It holds the customer's token.
type Stored struct {
	Reference string    `json:"reference"`
	Body      []byte    `json:"body"`
	Prepared  time.Time `json:"prepared"`
}

// String shows the reference only.
func (s Stored) String() string { return fmt.Sprintf("upp request %q", s.Reference) }

// GoString shows the reference only.
func (s Stored) GoString() string { return s.String() }

// LogValue shows the reference only.
func (s Stored) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Prepare makes the bytes of a create request. It checks only what would be a mistake with any UPP: providers, sale types and
// currencies are UPP's to judge.
func (c *Client) Prepare(r CreateRequest) (Stored, error) {
	a, err := r.Sum()
	if err != nil {
		return Stored{}, fmt.Errorf("upp: amount %q %s: %w", r.Amount, r.Currency, err)
	}
	if !a.IsPositive() {
		return Stored{}, fmt.Errorf("upp: amount %q must be more than 0", r.Amount)
	}
	if n := utf8.RuneCountInString(r.TransactionReference); n < 1 || n > referenceMax || !utf8.ValidString(r.TransactionReference) {
		return Stored{}, fmt.Errorf("upp: a transaction reference must have 1 to %d characters", referenceMax)
	}
	body, err := r.Encode()
	if err != nil {
		return Stored{}, err
	}
	return Stored{Reference: r.TransactionReference, Body: body, Prepared: c.now()}, nil
}

// Purchase prepares and sends a purchase (§3.2, §3.3). A caller that must survive a crash uses Prepare, keeps the Stored, and
// then Send. The transaction returned may be Pending, and is then to be polled.
func (c *Client) Purchase(ctx context.Context, r CreateRequest) (*Transaction, error) {
	r.TransactionType = TypePurchase
	return c.prepareAndSend(ctx, r)
}

// Refund prepares and sends a refund (§3.4), as Purchase does a purchase.
func (c *Client) Refund(ctx context.Context, r CreateRequest) (*Transaction, error) {
	r.TransactionType = TypeRefund
	return c.prepareAndSend(ctx, r)
}

func (c *Client) prepareAndSend(ctx context.Context, r CreateRequest) (*Transaction, error) {
	s, err := c.Prepare(r)
	if err != nil {
		return nil, err
	}
	return c.Send(ctx, s)
}

// Send sends a request for the first time, and again while there is no answer (§6.3, steps 2 and 3). An *Error means that nothing was
// charged. When ctx ends, or a day after Prepare, it fails with ErrOutcomeUnknown.
func (c *Client) Send(ctx context.Context, s Stored) (*Transaction, error) {
	return c.create(ctx, s, false)
}

// Resume sends a request that may have been sent before, by a process that is no more (§6.3, step 7). It differs from Send in that
// a refusal of its first try proves nothing.
func (c *Client) Resume(ctx context.Context, s Stored) (*Transaction, error) {
	return c.create(ctx, s, true)
}

func (c *Client) create(ctx context.Context, s Stored, sentBefore bool) (*Transaction, error) {
	sent, err := parse(s.Body)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", s, err)
	}
	want, err := echoOf(sent)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", s, err)
	}
	post := request{
		method: http.MethodPost, prefix: cmp.Or(c.Prefixes.Create, prefixPlain), reference: s.Reference, body: s.Body,
		timeout: createTimeout, create: true, want: &want,
	}
	since := s.Prepared
	if since.IsZero() {
		since = c.now()
	}
	return c.repeat(ctx, since, resendPause, post, func(ctx context.Context, tries int) (*Transaction, bool, error) {
		t, err := c.exchange(ctx, post)
		if refusal := asError(err); refusal != nil && (sentBefore || tries > 0) {
			return c.decide(ctx, want, refusal)
		}
		return t, !isTransient(err), err
	})
}

// decide finds out what became of a request whose resend was refused: an earlier try may have been taken (§6.3, step 3).
func (c *Client) decide(ctx context.Context, want Echo, refusal *Error) (t *Transaction, final bool, err error) {
	t, err = c.Fetch(ctx, want.TransactionReference)
	switch {
	case err == nil && answers(t, want) == nil:
		return t, true, nil
	case err == nil, NotFound(err):
		return nil, true, refusal // the reference is another request's, or nobody's
	case isTransient(err):
		return nil, false, err
	default:
		return nil, true, fmt.Errorf("%w: %w; fetched after %w", ErrOutcomeUnknown, err, refusal)
	}
}

// answers fails when a transaction cannot be the result of the request.
func answers(t *Transaction, want Echo) error {
	switch {
	case t.TransactionReference != want.TransactionReference:
		return errors.New("answer is about another transactionReference")
	case t.TransactionType != want.TransactionType:
		return errors.New("answer has another transactionType")
	case lower(t.Currency) != lower(want.Currency):
		return errors.New("answer has another currency")
	case canonicalNumber(string(t.Amount)) != canonicalNumber(string(want.Amount)):
		return errors.New("answer has another amount")
	case t.OriginalTransactionReference != want.OriginalTransactionReference:
		return errors.New("answer has another originalTransactionReference")
	}
	return nil
}

// Fetch reads a transaction as it is now (§3.5), in one try. NotFound tells of an unknown reference.
func (c *Client) Fetch(ctx context.Context, reference string) (*Transaction, error) {
	t, err := c.exchange(ctx, request{
		method: http.MethodGet, prefix: cmp.Or(c.Prefixes.Fetch, prefixPlain), reference: reference, timeout: fetchTimeout,
	})
	if err != nil {
		return nil, fmt.Errorf("upp: fetch %q: %w", reference, err)
	}
	return t, nil
}

// Poll waits until a transaction is complete: by one long poll after the other, also after errors (§6.3, step 4). It needs nothing but
// the reference, so a process that restarts just polls on. When ctx ends, after a day, or when UPP refuses to tell, it fails
// with ErrOutcomeUnknown; an unknown reference is NotFound.
func (c *Client) Poll(ctx context.Context, reference string) (*Transaction, error) {
	get := request{
		method: http.MethodGet, prefix: cmp.Or(c.Prefixes.Poll, prefixAPI), reference: reference, suffix: "?waitForCompletion=true",
		timeout: pollTimeout, mayWait: true,
	}
	return c.repeat(ctx, c.now(), pollPause, get, func(ctx context.Context, _ int) (*Transaction, bool, error) {
		asked := c.now()
		t, err := c.exchange(ctx, get)
		switch {
		case err == nil && !t.Pending():
			return t, true, nil
		case err == nil:
			return nil, false, &undecided{atOnce: c.now().Sub(asked) < pollPause}
		case isTransient(err), NotFound(err):
			return nil, !isTransient(err), err
		default:
			return nil, true, fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
		}
	})
}

// Cancel stops a purchase, or gives it back if it is paid, and goes on until UPP has accepted it; then it reads the end state (§6.3,
// step 5). It is for a customer who changes their mind, never for a missing answer. An *Error is a refusal: its Description is for
// the operator. When ctx ends before an answer it fails with ErrOutcomeUnknown, and after one with ErrEndStateUnread.
func (c *Client) Cancel(ctx context.Context, reference string) (*Transaction, error) {
	post := request{
		method: http.MethodPost, prefix: cmp.Or(c.Prefixes.Cancel, prefixAPI), reference: reference, suffix: "/cancel", body: emptyObject,
		timeout: createTimeout, statusOnly: true,
	}
	_, err := c.repeat(ctx, c.now(), resendPause, post, func(ctx context.Context, _ int) (*Transaction, bool, error) {
		_, err := c.exchange(ctx, post)
		return nil, !isTransient(err), err
	})
	if err != nil {
		return nil, err
	}
	get := request{
		method: http.MethodGet, prefix: cmp.Or(c.Prefixes.Fetch, prefixPlain), reference: reference, timeout: fetchTimeout,
	}
	t, err := c.repeat(ctx, c.now(), resendPause, get, func(ctx context.Context, _ int) (*Transaction, bool, error) {
		t, err := c.exchange(ctx, get)
		return t, !isTransient(err), err
	})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEndStateUnread, err)
	}
	return t, nil
}

// Complete finishes a website purchase once the shopper is back (§3.8). It may be repeated. The transaction returned may still be
// Pending, and is then to be polled.
func (c *Client) Complete(ctx context.Context, reference string) (*Transaction, error) {
	post := request{
		method: http.MethodPost, prefix: cmp.Or(c.Prefixes.Complete, prefixPlain), reference: reference, suffix: "/complete",
		body: emptyObject, timeout: pollTimeout,
	}
	return c.repeat(ctx, c.now(), resendPause, post, func(ctx context.Context, _ int) (*Transaction, bool, error) {
		t, err := c.exchange(ctx, post)
		return t, !isTransient(err), err
	})
}

// emptyObject is the body of calls that have nothing to say: every POST must be JSON (UPP seed, Content-Type).
var emptyObject = []byte("{}")

// NotFound reports whether an error is UPP's word that it does not know a transaction. A 404 in HTML is not.
func NotFound(err error) bool {
	e := asError(err)
	return e != nil && e.Status == http.StatusNotFound && e.fromUPP
}

func asError(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	return nil
}

// transient is what calls for another try: no answer, or one that says nothing about the transaction.
type transient struct {
	err        error
	retryAfter time.Duration
}

func (e *transient) Error() string { return e.err.Error() }
func (e *transient) Unwrap() error { return e.err }

func isTransient(err error) bool {
	_, ok := errors.AsType[*transient](err)
	return ok
}

// undecided is a poll that ended without a result.
type undecided struct{ atOnce bool }

func (*undecided) Error() string { return "still pending" }

// repeat calls try until it says that it is final, with pauses that double from the first one. It fails with ErrOutcomeUnknown
// when ctx ends or too long after since.
func (c *Client) repeat(ctx context.Context, since time.Time, first time.Duration, r request,
	try func(ctx context.Context, tries int) (t *Transaction, final bool, err error),
) (*Transaction, error) {
	wrap := func(err error) error { return fmt.Errorf("upp: %s %q: %w", r.name(), r.reference, err) }
	errorsInRow := 0
	for tries := 0; ; tries++ {
		t, final, err := try(ctx, tries)
		if final && err != nil {
			return nil, wrap(err)
		}
		if final {
			return t, nil
		}
		var pause time.Duration
		if open, ok := errors.AsType[*undecided](err); ok {
			errorsInRow = 0
			if open.atOnce {
				pause = pollPause
			}
		} else {
			pause = doubled(first, errorsInRow)
			errorsInRow++
			if e, ok := errors.AsType[*transient](err); ok {
				pause = max(pause, e.retryAfter)
			}
		}
		if c.now().Add(pause).Sub(since) > giveUpAfter {
			return nil, wrap(fmt.Errorf("%w after %v, see the portal: %w", ErrOutcomeUnknown, giveUpAfter, err))
		}
		if stopped := c.sleep(ctx, pause); stopped != nil {
			return nil, wrap(fmt.Errorf("%w: %w; last: %w", ErrOutcomeUnknown, stopped, err))
		}
	}
}

// doubled is the pause after n earlier ones: 1, 2, 4, 8, then 10 seconds (§6.3).
func doubled(first time.Duration, n int) time.Duration {
	const shiftMax = 8 // enough to pass resendPauseMax from any first pause
	return min(first<<min(n, shiftMax), resendPauseMax)
}

// request is one call of UPP.
type request struct {
	method     string
	prefix     string
	reference  string
	suffix     string
	body       []byte
	timeout    time.Duration
	create     bool  // the path is that of all transactions, not of one
	mayWait    bool  // a 202 needs no body: what it holds is not documented (§3.6)
	statusOnly bool  // any 2xx is success, whatever its body (§3.7)
	want       *Echo // what the answer must be about, if more than the reference
}

func (r request) name() string {
	switch {
	case r.create:
		return "create"
	case r.method == http.MethodGet && r.mayWait:
		return "poll"
	case r.method == http.MethodGet:
		return "fetch"
	default:
		return strings.TrimPrefix(r.suffix, "/")
	}
}

// exchange sends a request once. It fails with an *Error for an answer of 4xx that will not change, with a transient for all that
// says nothing, and otherwise for a mistake of the caller.
func (c *Client) exchange(ctx context.Context, r request) (*Transaction, error) {
	address, err := c.address(r)
	if err != nil {
		return nil, err
	}
	if c.Token.IsZero() {
		return nil, errors.New("no token")
	}
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, r.method, address, bytes.NewReader(r.body))
	if err != nil {
		return nil, err
	}
	q.Header.Set("Authorization", "Bearer "+c.Token.Reveal())
	q.Header.Set("Accept", "application/json")
	if r.method == http.MethodPost {
		q.Header.Set("Content-Type", "application/json")
	}
	answer, err := c.client().Do(q)
	if err != nil {
		return nil, &transient{err: err}
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, answerMax+1))
	if err != nil {
		return nil, &transient{err: fmt.Errorf("HTTP %d, then: %w", answer.StatusCode, err)}
	}
	return c.read(r, answer, body)
}

func (c *Client) read(r request, answer *http.Response, body []byte) (*Transaction, error) {
	status := answer.StatusCode
	switch {
	case status >= 200 && status <= 299 && r.statusOnly:
		return nil, nil
	case status == http.StatusAccepted && r.mayWait:
		return &Transaction{TransactionReference: r.reference}, nil
	case status >= 200 && status <= 299:
		t, err := readTransaction(r, body)
		if err != nil {
			return nil, &transient{err: fmt.Errorf("HTTP %d: %w", status, err)}
		}
		return t, nil
	}
	failure := c.readFailure(status, body)
	switch {
	case status == http.StatusRequestTimeout, status == http.StatusTooEarly, status == http.StatusTooManyRequests,
		status < 400, status > 499:
		// errors.New, since a transient that unwraps to an *Error would pass for a refusal.
		return nil, &transient{err: errors.New(failure.Error()), retryAfter: retryAfter(answer.Header)}
	}
	return nil, failure
}

func readTransaction(r request, body []byte) (*Transaction, error) {
	t, err := DecodeTransaction(body)
	if err != nil {
		return nil, err
	}
	if t.TransactionReference != r.reference {
		return nil, errors.New("answer is about another transactionReference")
	}
	if r.want != nil {
		return t, answers(t, *r.want)
	}
	return t, nil
}

// readFailure takes the members of §5 out of an answer. A page in HTML leaves only the status.
func (c *Client) readFailure(status int, body []byte) *Error {
	e := &Error{Status: status, Description: http.StatusText(status)}
	v, err := parseAnswer(body)
	if err != nil {
		return e
	}
	e.fromUPP = true
	if f, ok := v.Get("failure"); ok {
		e.Failure = Failure(c.printable(cmp.Or(f.Text, f.Raw)))
	}
	if d, ok := v.Get("failureDescription"); ok {
		e.Description = c.printable(cmp.Or(d.Text, d.Raw))
	}
	return e
}

// printable bounds a text of the peer, and takes our token out of it should the peer have repeated it.
func (c *Client) printable(s string) string {
	if !c.Token.IsZero() {
		s = strings.ReplaceAll(s, c.Token.Reveal(), redacted)
	}
	if runes := []rune(s); len(runes) > failureTextMax {
		s = string(runes[:failureTextMax]) + "…"
	}
	return s
}

// retryAfter is the pause that a server asks for, in the form of seconds.
func retryAfter(h http.Header) time.Duration {
	const secondsMax = 1 << 20 // so that the product cannot overflow
	n, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || n < 0 {
		return 0
	}
	return min(time.Duration(min(n, secondsMax))*time.Second, retryAfterMax)
}

// address joins base, prefix and reference (§1.2).
func (c *Client) address(r request) (string, error) {
	base, err := url.Parse(c.BaseURL)
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" || base.RawQuery != "" || base.Fragment != "" {
		return "", errors.New("BaseURL must be an absolute http or https address without a query")
	}
	root := strings.TrimRight(base.String(), "/")
	if without, ok := strings.CutSuffix(root, prefixPlain); ok { // as the documented bases: never /v1/v1, nor /v1/api/v1
		root = strings.TrimSuffix(without, "/api")
	}
	path := root + "/" + strings.Trim(r.prefix, "/") + "/transactions"
	if r.create {
		return path, nil
	}
	if r.reference == "" {
		return "", errors.New("no transaction reference")
	}
	return path + "/" + escapeReference(r.reference) + r.suffix, nil
}

// escapeReference makes a path segment of any reference (§3.0). A segment of dots would be taken for a folder.
func escapeReference(reference string) string {
	if reference == "." || reference == ".." {
		return strings.ReplaceAll(reference, ".", "%2E")
	}
	return url.PathEscape(reference)
}

// client is the caller's HTTP client without what would break the protocol: a redirect turns a POST into a GET, and a time-out
// shorter than a long poll ends every one of them.
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

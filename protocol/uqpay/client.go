package uqpay

import (
	"bytes"
	"cmp"
	"context"
	"crypto/des"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tillgate/tillgate/card"
	"github.com/tillgate/tillgate/emv"
	"github.com/tillgate/tillgate/internal/wait"
	"github.com/tillgate/tillgate/payment"
)

// Addresses of the real UQPAY (§1).
const (
	SandboxURL = "https://api-sandbox.uqpaytech.com/api"
	LiveURL    = "https://api.uqpay.com/api"
)

// Times and bounds of the client (§2.1, §6).
const (
	requestTimeout = 30 * time.Second
	tokenTimeout   = 10 * time.Second
	tokenMargin    = 60 * time.Second // A token is renewed so long before its end.
	tokenAssumed   = 20 * time.Minute // The life of a token whose end was not told.
	triesMax       = 6
	pauseFirst     = 500 * time.Millisecond // doubles
	pauseMax       = 30 * time.Second
	answerMax      = 8 << 20
	peerTextMax    = 500
)

var (
	// ErrOutcomeUnknown says that no answer was had: the money may or may not have moved. The same Stored is to be sent again, or the intent
	// retrieved; never a new payment first (§6).
	ErrOutcomeUnknown = errors.New("uqpay: outcome unknown")
	// ErrProcessing is an ErrOutcomeUnknown: an equal request is still being processed.
	ErrProcessing = fmt.Errorf("%w: request is processing", ErrOutcomeUnknown)
)

// Secret is text that is never shown.
type Secret string

// Format shows stars under every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "***") }

// String shows stars.
func (s Secret) String() string { return "***" }

// LogValue shows stars.
func (s Secret) LogValue() slog.Value { return slog.StringValue("***") }

// MarshalText shows stars.
func (s Secret) MarshalText() ([]byte, error) { return []byte("***"), nil }

// Reveal is the text.
func (s Secret) Reveal() string { return string(s) }

// Client is a caller's side of UQPAY. BaseURL, ClientID and APIKey must be set. It is safe for concurrent use, and must not be copied; all
// who share a client id should share it, since a new token ends the one before.
//
// Errors that are an *Error are answers: nothing was charged, unless they also are ErrOutcomeUnknown.
type Client struct {
	BaseURL    string // Such as SandboxURL.
	ClientID   string
	APIKey     Secret
	OnBehalfOf string       // Sub-account; empty for the account itself.
	HTTP       *http.Client // Nil is http.DefaultClient. Redirects are never followed.
	Now        func() time.Time
	Sleep      func(context.Context, time.Duration) error // Nil waits in real time.
	Rand       io.Reader                                  // Nil is that of crypto/rand.

	tokens tokenCache
}

// tokenCache is the client's token. Whoever holds the lock may mint a new one.
type tokenCache struct {
	lock    chanLock
	text    Secret
	expires time.Time
}

// chanLock is a mutex whose wait ends with a context. The zero value is ready.
type chanLock struct {
	once sync.Once
	held chan struct{}
}

func (l *chanLock) take(ctx context.Context) (unlock func(), err error) {
	l.once.Do(func() { l.held = make(chan struct{}, 1) })
	select {
	case l.held <- struct{}{}:
		return func() { <-l.held }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (c *Client) now() time.Time {
	if c.Now != nil {
		return c.Now()
	}
	return time.Now()
}

func (c *Client) sleep(ctx context.Context, d time.Duration) error {
	if c.Sleep != nil {
		return c.Sleep(ctx, d)
	}
	return wait.For(ctx, d)
}

func (c *Client) random(b []byte) error {
	_, err := io.ReadFull(cmp.Or[io.Reader](c.Rand, rand.Reader), b)
	return err
}

// newKey is a fresh idempotency key: a UUID of version 4 in lower case.
func (c *Client) newKey() (string, error) {
	var b [16]byte
	if err := c.random(b[:]); err != nil {
		return "", err
	}
	return uuid(b, 4), nil
}

// Stored is a request as it must be kept before it is sent, so that exactly the same bytes can be sent again under the same key, also by
// another process after a crash (§6). Its JSON form is for storage that may hold card data; it prints as its key only.
type Stored struct {
	Key  string `json:"key"`
	Path string `json:"path"`
	Body []byte `json:"body"`
}

// String shows the key only.
func (s Stored) String() string { return "uqpay request " + s.Key }

// Format shows the key only, under every verb.
func (s Stored) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// LogValue shows the key only.
func (s Stored) LogValue() slog.Value { return slog.StringValue(s.String()) }

func (c *Client) prepare(path string, body any) (Stored, error) {
	key, err := c.newKey()
	return Stored{Key: key, Path: path, Body: encode(body)}, err
}

// Send sends a stored request, and again with pauses while its outcome is unknown. Into takes the answer. When ctx ends or several tries
// had no answer it fails with ErrOutcomeUnknown; sending the same Stored again later does no harm.
func (c *Client) Send(ctx context.Context, s Stored, into any) error {
	return c.repeat(ctx, http.MethodPost, s.Path, s.Body, s.Key, into)
}

func (c *Client) post(ctx context.Context, path string, body, into any) error {
	s, err := c.prepare(path, body)
	if err != nil {
		return err
	}
	return c.Send(ctx, s, into)
}

func (c *Client) get(ctx context.Context, path string, q url.Values, into any) error {
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	return c.repeat(ctx, http.MethodGet, path, nil, "", into)
}

// repeat sends until there is an answer. A token that has expired is renewed once.
func (c *Client) repeat(ctx context.Context, method, path string, body []byte, key string, into any) error {
	pause, renewed := pauseFirst, false
	for try := 1; ; try++ {
		token, err := c.token(ctx)
		if err != nil {
			if try > 1 {
				return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
			}
			return err
		}
		wait, err := c.exchange(ctx, method, path, body, key, token, into)
		if isTokenExpired(err) && !renewed {
			renewed = true
			c.forget(ctx, token)
			continue
		}
		if err == nil || !errors.Is(err, ErrOutcomeUnknown) || try == triesMax || ctx.Err() != nil {
			return err
		}
		if c.sleep(ctx, max(wait, pause)) != nil {
			return err
		}
		pause = min(2*pause, pauseMax)
	}
}

// expiredTexts are what tells a token that has expired from other refusals (§2.2).
var expiredTexts = []string{"token has expired", "token expired", "login expired", "jwt expired"}

func isTokenExpired(err error) bool {
	var e *Error
	if !errors.As(err, &e) || e.Status != http.StatusUnauthorized {
		return false
	}
	text := strings.ToLower(e.Message)
	for _, t := range expiredTexts {
		if strings.Contains(text, t) {
			return true
		}
	}
	return false
}

// token is a good token, minted if need be. Only one is minted at a time.
func (c *Client) token(ctx context.Context) (Secret, error) {
	unlock, err := c.tokens.lock.take(ctx)
	if err != nil {
		return "", err
	}
	defer unlock()
	if c.tokens.text != "" && c.now().Before(c.tokens.expires.Add(-tokenMargin)) {
		return c.tokens.text, nil
	}
	ctx, cancel := context.WithTimeout(ctx, tokenTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.address("/v1/connect/token"), nil)
	if err != nil {
		return "", err
	}
	r.Header.Set("x-client-id", c.ClientID)
	r.Header.Set("x-api-key", c.APIKey.Reveal())
	res, err := c.http().Do(r)
	if err != nil {
		return "", fmt.Errorf("uqpay: token: %w", err)
	}
	body, err := readAnswer(res)
	if err != nil {
		return "", fmt.Errorf("uqpay: token: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("uqpay: token: %w", decodeError(res.StatusCode, body))
	}
	var t TokenResponse
	if err := json.Unmarshal(body, &t); err != nil || t.AuthToken == "" {
		return "", errors.New("uqpay: token: the answer holds no token")
	}
	c.tokens.text, c.tokens.expires = Secret(t.AuthToken), unixTime(t.ExpiredAt)
	if t.ExpiredAt == 0 {
		c.tokens.expires = c.now().Add(tokenAssumed)
	}
	return c.tokens.text, nil
}

// forget drops a token, unless it has been replaced already.
func (c *Client) forget(ctx context.Context, token Secret) {
	unlock, err := c.tokens.lock.take(ctx)
	if err != nil {
		return
	}
	defer unlock()
	if c.tokens.text == token {
		c.tokens.text = ""
	}
}

func (c *Client) address(path string) string { return strings.TrimSuffix(c.BaseURL, "/") + path }

// http is the caller's client, without redirects: a POST would become a GET.
func (c *Client) http() *http.Client {
	h := *cmp.Or(c.HTTP, http.DefaultClient)
	h.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &h
}

func readAnswer(res *http.Response) ([]byte, error) {
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, answerMax+1))
	if err == nil && len(body) > answerMax {
		err = errors.New("the answer is too long")
	}
	return body, err
}

// exchange sends a request once. The duration is how long the peer wants us to wait before the next try.
func (c *Client) exchange(ctx context.Context, method, path string, body []byte, key string, token Secret, into any) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, c.address(path), bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	r.Header.Set("x-auth-token", "Bearer "+token.Reveal())
	r.Header.Set("x-client-id", c.ClientID)
	if key != "" {
		r.Header.Set("x-idempotency-key", key)
		r.Header.Set("Content-Type", "application/json")
	}
	if c.OnBehalfOf != "" {
		r.Header.Set("x-on-behalf-of", c.OnBehalfOf)
	}
	res, err := c.http().Do(r)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
	}
	answer, err := readAnswer(res)
	if err != nil {
		return 0, fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
	}
	wait := retryAfter(res.Header)
	switch code := res.StatusCode; {
	case code >= 200 && code < 300:
		if err := json.Unmarshal(answer, into); err != nil {
			return 0, fmt.Errorf("%w: the answer cannot be read", ErrOutcomeUnknown)
		}
		return 0, nil
	case code < 400, code == http.StatusRequestTimeout, code == http.StatusTooManyRequests, code >= 500:
		return wait, fmt.Errorf("%w: %w", ErrOutcomeUnknown, decodeError(code, answer))
	default:
		e := decodeError(code, answer)
		if e.IsProcessing() {
			return wait, fmt.Errorf("%w: %w", ErrProcessing, e)
		}
		return 0, e
	}
}

func retryAfter(h http.Header) time.Duration {
	n, err := strconv.Atoi(h.Get("Retry-After"))
	if err != nil || n < 0 {
		return 0
	}
	return min(time.Duration(n)*time.Second, time.Minute)
}

// decodeError reads an error in any of the forms of §2.2, §5 and §6.
func decodeError(status int, body []byte) *Error {
	e := &Error{Status: status}
	var b struct {
		Type    ErrorType       `json:"type"`
		Code    json.RawMessage `json:"code"`
		Message string          `json:"message"`
		Error   string          `json:"error"`
	}
	if json.Unmarshal(body, &b) == nil {
		e.Type, e.Message = b.Type, cmp.Or(b.Message, b.Error)
		if json.Unmarshal(b.Code, &e.Code) != nil {
			e.Code = string(b.Code)
		}
		if b.Type == "" && strings.Contains(strings.ToLower(b.Message), "request is processing") {
			e.Code = codeProcessing
		}
	}
	if status == http.StatusUnauthorized && e.Type == "" {
		e.Type, e.Code = TypeUnauthorized, cmp.Or(e.Code, CodeUnauthorized)
	}
	if len(e.Message) > peerTextMax {
		e.Message = strings.ToValidUTF8(e.Message[:peerTextMax], "")
	}
	return e
}

// RegisterRequest is a device to register (§3.1).
type RegisterRequest struct {
	FirmCode string `json:"firm_code"` // "01" to "05".
	FirmSN   string `json:"firm_sn"`
	Model    string `json:"terminal_model"`
}

// Register registers a terminal and returns its number.
func (c *Client) Register(ctx context.Context, r RegisterRequest) (*RegisteredTerminal, error) {
	var t RegisteredTerminal
	if err := c.post(ctx, "/v2/terminal/register", r, &t); err != nil {
		return nil, err
	}
	return &t, nil
}

// PINKey gets a new PIN key of a terminal under an AES key of 16, 24 or 32 bytes, and opens it. The key's 24 bytes are the caller's to wipe.
func (c *Client) PINKey(ctx context.Context, terminalID string, aesKey []byte) (key []byte, expires time.Time, err error) {
	var r PINKeyResponse
	body := map[string]string{"terminal_id": terminalID, "prv_key": hex.EncodeToString(aesKey)}
	if err := c.post(ctx, "/v2/terminal/getPinKey", body, &r); err != nil {
		return nil, time.Time{}, err
	}
	key, err = OpenPINKey(r.EncryptPINKey, aesKey)
	return key, r.PINKeyExpire.Time, err
}

// PINBlock is an encrypted PIN. It shows nothing of itself.
type PINBlock [8]byte

// Format shows stars under every verb.
func (PINBlock) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "***") }

// LogValue shows stars.
func (PINBlock) LogValue() slog.Value { return slog.StringValue("***") }

// MarshalText shows stars.
func (PINBlock) MarshalText() ([]byte, error) { return []byte("***"), nil }

// MakePINBlock encrypts a PIN under a terminal's PIN key (§2.4).
func MakePINBlock(pinKey []byte, pin card.PIN, pan card.PAN) (PINBlock, error) {
	cipher, err := des.NewTripleDESCipher(pinKey)
	if err != nil {
		return PINBlock{}, errors.New("uqpay: a PIN key has 24 bytes")
	}
	block, err := card.EncodePINBlock(card.Format0, pin, pan, nil)
	if err != nil {
		return PINBlock{}, err
	}
	cipher.Encrypt(block[:], block[:])
	return PINBlock(block), nil
}

// CardPresent is a card at a terminal (§3.3). It shows nothing of itself.
type CardPresent struct {
	PAN            card.PAN
	Expiry         card.Expiry
	Entry          payment.EntryMode
	Verification   payment.Verification // Empty for none.
	PINBlock       *PINBlock
	STAN           string // Six digits, new for every transaction.
	TerminalID     string
	MobileDevice   bool
	EmbeddedReader bool
	Fallback       bool // From the chip, which could not be read, to the stripe.
	Chip           emv.Data
	Track1         card.Track1
	Track2         card.Track2
	AuthorizeOnly  bool // Stop at REQUIRES_CAPTURE.
}

// Format shows stars, whatever the verb.
func (CardPresent) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "card(***)") }

// LogValue shows stars.
func (CardPresent) LogValue() slog.Value { return slog.StringValue("card(***)") }

// MarshalText shows stars: only requests hold it in clear.
func (CardPresent) MarshalText() ([]byte, error) { return []byte("card(***)"), nil }

// wire is the payment_method of a request, in clear.
func (p *CardPresent) wire() map[string]any {
	c := map[string]any{"card_number": p.PAN.Reveal(), "expiry_month": fmt.Sprintf("%02d", p.Expiry.Month), "expiry_year": fmt.Sprintf("%04d", p.Expiry.Year),
		"pan_entry_mode": string(p.Entry), "system_trace_audit_number": p.STAN,
		"terminal_info": map[string]any{"terminal_id": p.TerminalID, "mobile_device": p.MobileDevice, "use_embedded_reader": p.EmbeddedReader}}
	if p.Verification != "" {
		c["cardholder_verification_method"] = string(p.Verification)
	}
	if p.PINBlock != nil {
		c["encrypted_pin"] = strings.ToUpper(hex.EncodeToString(p.PINBlock[:]))
	}
	if p.Fallback {
		c["fallback"], c["fallback_reason"] = true, "chip_read_failure"
	}
	if !p.Chip.IsZero() {
		c["emv_tags"] = strings.ToUpper(hex.EncodeToString(p.Chip.Reveal()))
	}
	if !p.Track1.IsZero() {
		c["track1"] = p.Track1.Reveal()
	}
	if !p.Track2.IsZero() {
		c["track2"] = p.Track2.Reveal()
	}
	if p.AuthorizeOnly {
		c["auto_capture"] = false
	}
	return map[string]any{"type": methodCard, methodCard: c}
}

// IntentRequest asks for a payment (§3.3).
type IntentRequest struct {
	Amount      string // In major units.
	Currency    string
	OrderID     string // At most 36 characters; it may repeat.
	Description string // At most 32 characters.
	ReturnURL   string
	Metadata    map[string]string
	Card        *CardPresent // Nil leaves the intent waiting for Confirm.
}

func (r IntentRequest) wire() map[string]any {
	b := map[string]any{"amount": r.Amount, "currency": r.Currency, "merchant_order_id": r.OrderID, "description": r.Description, "return_url": r.ReturnURL}
	if r.Metadata != nil {
		b["metadata"] = r.Metadata
	}
	if r.Card != nil {
		b["payment_method"] = r.Card.wire()
	}
	return b
}

// PrepareIntent makes the bytes of a create. A caller that must survive a crash keeps them, and then sends them into an Intent.
func (c *Client) PrepareIntent(r IntentRequest) (Stored, error) {
	return c.prepare("/v2/payment_intents/create", r.wire())
}

// CreateIntent creates an intent and, with a card, has it paid. A decline is no error: the intent tells.
func (c *Client) CreateIntent(ctx context.Context, r IntentRequest) (*Intent, error) {
	return c.intent(ctx, "/v2/payment_intents/create", r.wire())
}

func (c *Client) intent(ctx context.Context, path string, body any) (*Intent, error) {
	var i Intent
	if err := c.post(ctx, path, body, &i); err != nil {
		return nil, err
	}
	return &i, nil
}

func intentPath(id, action string) string {
	return "/v2/payment_intents/" + url.PathEscape(id) + action
}

// Intent retrieves an intent.
func (c *Client) Intent(ctx context.Context, id string) (*Intent, error) {
	var i Intent
	if err := c.get(ctx, intentPath(id, ""), nil, &i); err != nil {
		return nil, err
	}
	return &i, nil
}

// IntentUpdate changes an intent that waits to be paid (§3.6). What is empty stays.
type IntentUpdate struct {
	Amount      string            `json:"amount,omitempty"`
	Currency    string            `json:"currency,omitempty"`
	OrderID     string            `json:"merchant_order_id,omitempty"`
	Description string            `json:"description,omitempty"`
	Metadata    map[string]string `json:"metadata,omitempty"`
	ReturnURL   string            `json:"return_url,omitempty"`
}

// UpdateIntent changes an intent.
func (c *Client) UpdateIntent(ctx context.Context, id string, u IntentUpdate) (*Intent, error) {
	return c.intent(ctx, intentPath(id, ""), u)
}

// PrepareConfirm makes the bytes of a confirm, as PrepareIntent does those of a create.
func (c *Client) PrepareConfirm(id string, card CardPresent) (Stored, error) {
	return c.prepare(intentPath(id, "/confirm"), map[string]any{"payment_method": card.wire()})
}

// Confirm makes another attempt on an intent, with a card that is read anew and a new STAN.
func (c *Client) Confirm(ctx context.Context, id string, card CardPresent) (*Intent, error) {
	return c.intent(ctx, intentPath(id, "/confirm"), map[string]any{"payment_method": card.wire()})
}

// CaptureIntent captures an authorised intent; an empty amount is all of it.
func (c *Client) CaptureIntent(ctx context.Context, id, amount string) (*Intent, error) {
	body := map[string]any{}
	if amount != "" {
		if !limits.IsNumber(amount) {
			return nil, fmt.Errorf("uqpay: amount %q is no number", amount)
		}
		body["amount_to_capture"] = json.Number(amount)
	}
	return c.intent(ctx, intentPath(id, "/capture"), body)
}

// CancelIntent cancels an intent. The reason is one of §3.9, or empty.
func (c *Client) CancelIntent(ctx context.Context, id, reason string) (*Intent, error) {
	body := map[string]any{}
	if reason != "" {
		body["cancellation_reason"] = reason
	}
	return c.intent(ctx, intentPath(id, "/cancel"), body)
}

// ListQuery says which page of a list is wanted, and of what. What is zero does not matter.
type ListQuery struct {
	PageSize, PageNumber int // 10 and 1 if 0.
	Status               string
	IntentID, OrderID    string
	Start, End           time.Time
}

func (q ListQuery) values(status string) url.Values {
	v := url.Values{"page_size": {strconv.Itoa(cmp.Or(q.PageSize, pageSizeDefault))}, "page_number": {strconv.Itoa(cmp.Or(q.PageNumber, 1))}}
	for name, text := range map[string]string{status: q.Status, "payment_intent_id": q.IntentID, "merchant_order_id": q.OrderID} {
		if text != "" {
			v.Set(name, text)
		}
	}
	for name, t := range map[string]time.Time{"start_time": q.Start, "end_time": q.End} {
		if !t.IsZero() {
			v.Set(name, wireTime(t))
		}
	}
	return v
}

// Intents lists intents, the newest first.
func (c *Client) Intents(ctx context.Context, q ListQuery) (*Page[Intent], error) {
	return listOf[Intent](ctx, c, "/v2/payment_intents", q.values("payment_intent_status"))
}

// Attempts lists attempts.
func (c *Client) Attempts(ctx context.Context, q ListQuery) (*Page[Attempt], error) {
	return listOf[Attempt](ctx, c, "/v2/payment/payment_attempts", q.values("attempt_status"))
}

// Refunds lists refunds.
func (c *Client) Refunds(ctx context.Context, q ListQuery) (*Page[Refund], error) {
	return listOf[Refund](ctx, c, "/v2/payment/refunds", q.values("status"))
}

func listOf[T any](ctx context.Context, c *Client, path string, q url.Values) (*Page[T], error) {
	var p Page[T]
	if err := c.get(ctx, path, q, &p); err != nil {
		return nil, err
	}
	return &p, nil
}

// Attempt retrieves an attempt.
func (c *Client) Attempt(ctx context.Context, id string) (*Attempt, error) {
	var a Attempt
	if err := c.get(ctx, "/v2/payment/payment_attempts/"+url.PathEscape(id), nil, &a); err != nil {
		return nil, err
	}
	return &a, nil
}

// RefundRequest asks for a refund (§3.12).
type RefundRequest struct {
	IntentID  string            `json:"payment_intent_id"`
	AttemptID string            `json:"payment_attempt_id,omitempty"`
	Amount    string            `json:"amount"`
	Reason    string            `json:"reason"`
	Metadata  map[string]string `json:"metadata,omitempty"`
}

// PrepareRefund makes the bytes of a refund, as PrepareIntent does those of a create.
func (c *Client) PrepareRefund(r RefundRequest) (Stored, error) {
	return c.prepare("/v2/payment/refunds", r)
}

// CreateRefund gives a part or all of a paid intent back.
func (c *Client) CreateRefund(ctx context.Context, r RefundRequest) (*Refund, error) {
	var out Refund
	if err := c.post(ctx, "/v2/payment/refunds", r, &out); err != nil {
		return nil, err
	}
	return &out, nil
}

// Refund retrieves a refund.
func (c *Client) Refund(ctx context.Context, id string) (*Refund, error) {
	var r Refund
	if err := c.get(ctx, "/v2/payment/refunds/"+url.PathEscape(id), nil, &r); err != nil {
		return nil, err
	}
	return &r, nil
}

// ParseWebhook checks a webhook's headers against its raw body and reads it. It fails with ErrSignature.
func ParseWebhook(body []byte, h http.Header, now time.Time, secrets ...string) (*Event, error) {
	if err := VerifyWebhook(body, h.Get(HeaderWebhookTime), h.Get(HeaderWebhookSignature), now, secrets...); err != nil {
		return nil, err
	}
	var e Event
	if err := json.Unmarshal(body, &e); err != nil {
		return nil, fmt.Errorf("uqpay: webhook: %w", err)
	}
	return &e, nil
}

package uqpay

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tillgate/tillgate/internal/access"
	"github.com/tillgate/tillgate/internal/peer"
	"github.com/tillgate/tillgate/payment"
)

// Server answers the token endpoint and the POS endpoints of §3, below /api or at the root.
type Server struct {
	Core      Core
	Books     Books
	Terminals Terminals
	Vault     Vault
	Tokens    TokenStore
	Log       *slog.Logger
	Now       func() time.Time
	Limits    Limits        // Those of zero are ProductionLimits.
	Wait      time.Duration // How long an authorisation or refund is held; 0 is 24 s (§6).
	Rand      io.Reader     // Of token and trace ids; nil is that of crypto/rand.

	limiter limiter
	newest  newest
	flights flights
}

// call is a request that has been routed.
type call struct {
	w    http.ResponseWriter
	r    *http.Request
	now  time.Time
	ip   netip.Addr
	host string // The address as text.
	path string // As routed: below /api.
	id   string // What stands in the path for {id}.
	body []byte

	client   payment.Caller // Whose token it is.
	clientID string
	caller   payment.Caller // For whom it acts: the client, or a sub-account of its.
	key      payment.Key    // Of a POST.
	request  []byte         // What equal requests have in common.
	repeated bool           // The key was taken by an equal request, whose answer is not known.
}

// reply is an answer. One whose outcome is not known yet is not final: a repeat asks again.
type reply struct {
	status int
	body   []byte
	final  bool
	kept   bool // The core has kept it already.
}

// ok is a final answer of HTTP 200.
func ok(v any) *reply { return &reply{status: http.StatusOK, body: encode(v), final: true} }

// What a route needs before its handler is called.
type need int

const (
	needNothing need = iota
	needCaller       // A token.
	needKey          // A token and an idempotency key.
	needClaim        // The same, and the key is taken before anything happens: what it began can be found by a repeat.
	needSale         // A token and a key that the core takes together with the payment or refund.
)

// routes are the endpoints: a star stands for an id. The first that fits counts, so that "create" is no id.
var routes = []struct {
	method string
	path   []string
	need   need
	handle func(*Server, *call) (*reply, error)
}{
	{http.MethodPost, []string{"v1", "connect", "token"}, needNothing, (*Server).token},
	{http.MethodPost, []string{"v2", "terminal", "register"}, needKey, (*Server).register},
	{http.MethodPost, []string{"v2", "terminal", "getPinKey"}, needKey, (*Server).pinKey},
	{http.MethodPost, []string{"v2", "payment_intents", "create"}, needSale, (*Server).create},
	{http.MethodGet, []string{"v2", "payment_intents", "*"}, needCaller, (*Server).retrieve},
	{http.MethodGet, []string{"v2", "payment_intents"}, needCaller, (*Server).list},
	{http.MethodPost, []string{"v2", "payment_intents", "*"}, needKey, (*Server).update},
	{http.MethodPost, []string{"v2", "payment_intents", "*", "confirm"}, needClaim, (*Server).confirm},
	{http.MethodPost, []string{"v2", "payment_intents", "*", "capture"}, needClaim, (*Server).capture},
	{http.MethodPost, []string{"v2", "payment_intents", "*", "cancel"}, needClaim, (*Server).cancel},
	{http.MethodGet, []string{"v2", "payment", "payment_attempts", "*"}, needCaller, (*Server).retrieveAttempt},
	{http.MethodGet, []string{"v2", "payment", "payment_attempts"}, needCaller, (*Server).listAttempts},
	{http.MethodPost, []string{"v2", "payment", "refunds"}, needSale, (*Server).refund},
	{http.MethodGet, []string{"v2", "payment", "refunds", "*"}, needCaller, (*Server).retrieveRefund},
	{http.MethodGet, []string{"v2", "payment", "refunds"}, needCaller, (*Server).listRefunds},
}

// ServeHTTP serves one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{w: w, r: r, now: s.Now().UTC()}
	c.host, c.ip = peer.Address(r.RemoteAddr)
	if err := s.trace(c); err != nil {
		s.fail(c, err)
		return
	}
	a, err := s.serve(c)
	if isUnauthorized(err) {
		if over := s.limiter.take("address "+c.host, s.limits().Unauthenticated, c.now); over != nil {
			err = over
		}
	}
	if err != nil {
		s.fail(c, err)
		return
	}
	send(w, a.status, a.body)
}

// trace gives the answer its two ids (§1).
func (s *Server) trace(c *call) error {
	var id [32]byte
	if err := s.random(id[:]); err != nil {
		return err
	}
	h := c.w.Header()
	trace := hex.EncodeToString(id[:16])
	h["X-Trace-Id"], h["X-Response-Id"] = []string{trace}, []string{hex.EncodeToString(id[16:])}
	access.Note(c.r.Context(), slog.String("trace", trace))
	return nil
}

func (s *Server) random(b []byte) error {
	_, err := io.ReadFull(cmp.Or[io.Reader](s.Rand, rand.Reader), b)
	return err
}

func (s *Server) limits() Limits { return cmp.Or(s.Limits, ProductionLimits) }

func (s *Server) serve(c *call) (*reply, error) {
	c.path = strings.TrimPrefix(c.r.URL.EscapedPath(), "/")
	c.path = strings.TrimPrefix(c.path, "api/")
	path := strings.Split(c.path, "/")
	var allowed []string
	for _, route := range routes {
		id, fits := match(route.path, path)
		if !fits {
			continue
		}
		if route.method != c.r.Method {
			allowed = append(allowed, route.method)
			continue
		}
		c.id = id
		if route.need == needNothing {
			return route.handle(s, c)
		}
		if err := s.enter(c); err != nil {
			return nil, err
		}
		if route.need == needCaller {
			return route.handle(s, c)
		}
		return s.post(c, route.need, route.handle)
	}
	if allowed != nil {
		c.w.Header().Set("Allow", strings.Join(allowed, ", "))
		return nil, &Error{Status: http.StatusMethodNotAllowed, Type: TypeInvalidRequest, Code: CodeRouteUnknown,
			Message: fmt.Sprintf("%s is not possible here; %s is", c.r.Method, strings.Join(allowed, ", "))}
	}
	return nil, &Error{Status: http.StatusNotFound, Type: TypeNotFound, Code: CodeRouteUnknown, Message: "There is nothing at this path"}
}

func match(pattern, path []string) (id string, ok bool) {
	if len(pattern) != len(path) {
		return "", false
	}
	for i, p := range pattern {
		switch p {
		case "*":
			if id = path[i]; id == "" {
				return "", false
			}
		case path[i]:
		default:
			return "", false
		}
	}
	return id, true
}

// enter finds out who calls and for whom, and counts the call.
func (s *Server) enter(c *call) error {
	if err := s.authenticate(c); err != nil {
		return err
	}
	if !c.client.Credential.Profile.NoRateLimit {
		if err := s.limiter.take("client "+c.clientID, s.limits().Calls, c.now); err != nil {
			return err
		}
	}
	if err := s.onBehalf(c); err != nil {
		return err
	}
	access.Note(c.r.Context(), slog.Int64("merchant", int64(c.caller.Merchant.ID)))
	return nil
}

// flights are the POSTs under way in this process, by account and key (§6).
type flights struct {
	mu   sync.Mutex
	rows map[flight][sha256.Size]byte
}

type flight struct {
	merchant payment.MerchantID
	key      string
}

// enter takes a key until leave is called. An equal request that has it is still being processed; another has it for itself.
func (f *flights) enter(m payment.MerchantID, key string, request []byte) (leave func(), err error) {
	at, sum := flight{m, key}, sha256.Sum256(request)
	f.mu.Lock()
	defer f.mu.Unlock()
	if other, ok := f.rows[at]; ok {
		if other != sum {
			return nil, &payment.KeyReusedError{}
		}
		return nil, errProcessing
	}
	if f.rows == nil {
		f.rows = map[flight][sha256.Size]byte{}
	}
	f.rows[at] = sum
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.rows, at)
	}, nil
}

// post serves a request once for its idempotency key (§6).
func (s *Server) post(c *call, n need, handle func(*Server, *call) (*reply, error)) (*reply, error) {
	if err := c.read(); err != nil {
		return nil, err
	}
	leave, err := s.flights.enter(c.caller.Merchant.ID, c.key.Key, c.request)
	if err != nil {
		return nil, err
	}
	defer leave()
	if n != needSale {
		if a, err := s.recall(c); a != nil || err != nil {
			return a, err
		}
		if n == needClaim && !c.repeated {
			if err := s.keep(c, nil); err != nil {
				return nil, err
			}
		}
	}
	a, err := handle(s, c)
	if err != nil {
		return s.refused(c, n, err)
	}
	if a.final && !a.kept {
		if err := s.keep(c, a); err != nil { // It has happened all the same.
			s.Log.Error("uqpay: answer not kept", "path", c.path, "merchant", c.caller.Merchant.ID, "error", err)
		}
	}
	return a, nil
}

// read reads the body and the key of a POST.
func (c *call) read() error {
	var err error
	c.body, err = io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, bodyMax))
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong):
		return refuse(TypeInvalidRequest, CodeInvalidParameter, "parameter is invalid: the body is longer than %d bytes", bodyMax)
	case err != nil:
		return refuse(TypeInvalidRequest, CodeInvalidParameter, "parameter is invalid: the body could not be read to its end")
	}
	key := c.r.Header.Get("x-idempotency-key")
	if !goodKeyText(key, c.client.Credential.Profile.StrictKeys) {
		return refuse(TypeIdempotency, CodeInvalidKey, "Invalid idempotency key: send x-idempotency-key, a UUID in lower case")
	}
	c.key = payment.Key{Scope: scope, Key: key}
	c.request = bytes.Join([][]byte{[]byte(c.r.Method), []byte(c.path), c.body}, []byte("\n"))
	return nil
}

// goodKeyText reports whether a text can be an idempotency key: 1 to 64 printable characters, or a UUID in lower case if strict (§6).
func goodKeyText(key string, strict bool) bool {
	if !strict {
		return key != "" && len(key) <= 64 && !strings.ContainsFunc(key, func(r rune) bool { return r < ' ' || r > '~' })
	}
	if len(key) != 36 {
		return false
	}
	for i, r := range []byte(key) {
		if dash := i == 8 || i == 13 || i == 18 || i == 23; dash != (r == '-') || !dash && strings.IndexByte("0123456789abcdef", r) < 0 {
			return false
		}
	}
	return true
}

// recall answers a request that was answered before. Without an answer it says, in the call, whether the key was taken by an equal request.
func (s *Server) recall(c *call) (*reply, error) {
	kept, err := s.Core.Recall(c.r.Context(), c.caller.Merchant.ID, c.key, c.request)
	switch {
	case errors.Is(err, payment.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, err
	case kept.Answer != nil:
		return readKept(kept.Answer)
	}
	c.repeated = true
	return nil, nil
}

// An answer is kept as its status, a space and its body.
func writeKept(status int, body []byte) []byte {
	return append(strconv.AppendInt(nil, int64(status), 10), append([]byte{' '}, body...)...)
}

func readKept(answer []byte) (*reply, error) {
	status, body, found := bytes.Cut(answer, []byte(" "))
	n, err := strconv.Atoi(string(status))
	if !found || err != nil {
		return nil, errors.New("uqpay: kept answer cannot be read")
	}
	return &reply{status: n, body: body, final: true, kept: true}, nil
}

// keep keeps an answer beside the key of its request; nil only takes the key.
func (s *Server) keep(c *call, a *reply) error {
	var answer []byte
	if a != nil {
		answer = writeKept(a.status, a.body)
	}
	return s.Core.Keep(context.WithoutCancel(c.r.Context()), c.caller.Merchant.ID, c.key, c.request, answer, keyLife)
}

// refused keeps a refusal, so that a repeat is refused alike. A request that was answered before is answered so, whatever has changed since.
func (s *Server) refused(c *call, n need, cause error) (*reply, error) {
	e := refusal(cause)
	var reused *payment.KeyReusedError
	if e == nil || e.Status != http.StatusBadRequest || e.IsProcessing() || errors.As(cause, &reused) {
		return nil, cause
	}
	if n == needSale {
		kept, err := s.Core.Recall(c.r.Context(), c.caller.Merchant.ID, c.key, c.request)
		switch {
		case errors.Is(err, payment.ErrNotFound):
		case err != nil:
			return nil, err
		case kept.Answer != nil:
			return readKept(kept.Answer)
		case kept.Operation != 0:
			return s.refundNow(c, kept.Payment, kept.Operation)
		case kept.Payment != 0:
			return s.intentNow(c, kept.Payment)
		}
	}
	a := &reply{status: e.Status, body: e.Body(), final: true}
	if err := s.keep(c, a); err != nil {
		return nil, err
	}
	note(c, e)
	return a, nil
}

func note(c *call, e *Error) {
	access.Note(c.r.Context(), slog.String("type", string(e.Type)), slog.String("code", e.Code))
}

func send(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h["Content-Type"], h["Cache-Control"] = []string{"application/json"}, []string{"no-store"}
	w.WriteHeader(status)
	_, _ = w.Write(body) // A caller that has left asks again.
}

// fail answers with an error in the protocol's form. What the caller cannot know goes to the log only.
func (s *Server) fail(c *call, err error) {
	e := refusal(err)
	if e == nil && c.r.Context().Err() != nil {
		access.Note(c.r.Context(), slog.Bool("left", true))
		c.w.WriteHeader(access.StatusLeft)
		return
	}
	if e == nil {
		e = refuse(TypeAPI, CodeAPIError, "Internal error: the outcome is not known; send the same request again")
		s.Log.Error("uqpay: request failed", "path", c.path, "error", err)
	}
	note(c, e)
	if e.RetryAfter > 0 {
		c.w.Header().Set("Retry-After", strconv.Itoa(int(e.RetryAfter/time.Second)))
	}
	send(c.w, e.Status, e.Body())
}

// schemeTaken reports whether a list of card schemes holds one. An empty list holds all.
func schemeTaken(list, scheme string) bool {
	return list == "" || slices.Contains(splitList(list), scheme)
}

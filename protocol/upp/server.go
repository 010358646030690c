package upp

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/tillgate/tillgate/internal/access"
	"github.com/tillgate/tillgate/internal/park"
	"github.com/tillgate/tillgate/internal/peer"
	"github.com/tillgate/tillgate/internal/wait"
	"github.com/tillgate/tillgate/payment"
)

// Server answers E1 to E7 under /v1 and /api/v1 (§1.2, §1.3). Every answer of these has a JSON body (§3.0). It also serves the scripts
// that shops' pages include.
type Server struct {
	Core Core
	Log  *slog.Logger
	// Stopping, when closed, releases those who poll: they are answered 202 and ask the next process (§3.6).
	Stopping <-chan struct{}
	// PollWait is how long a poll is held; 0 is 29 s (§3.6).
	PollWait time.Duration
	// CreateWait is how long a purchase or refund is held while the provider decides; 0 is 28 s (§3.2).
	CreateWait time.Duration
	// CardTokens is the address of the token service that the card widget calls, absolute. Empty serves no card widget.
	CardTokens string
	Now        func() time.Time // For what a widget's start tells of its end; nil is time.Now.
	Rand       io.Reader        // For a widget's start; nil is that of crypto/rand.

	stop wait.Stop
}

// call is a request that has been routed and whose caller is known.
type call struct {
	w         http.ResponseWriter
	r         *http.Request
	caller    payment.Caller
	clientIP  string
	reference string
}

// routes are the endpoints below /v1: a star stands for the transaction's reference.
var routes = []struct {
	path   []string
	method string
	handle func(*Server, *call) error
}{
	{[]string{"transactions"}, http.MethodPost, (*Server).create},
	{[]string{"transactions", "*"}, http.MethodGet, (*Server).fetch},
	{[]string{"transactions", "*", "cancel"}, http.MethodPost, (*Server).cancel},
	{[]string{"transactions", "*", "complete"}, http.MethodPost, (*Server).complete},
	{[]string{"startWebWidget"}, http.MethodPost, (*Server).startWebWidget},
}

// ServeHTTP serves one request; mount it at the root of its address, or strip what is in front.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := s.serve(w, r); err != nil {
		s.fail(w, r, err)
	}
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) error {
	if scripts[r.URL.Path] != "" {
		return s.serveScript(w, r)
	}
	caller, ip, err := s.authenticate(r)
	if err != nil {
		return err
	}
	access.Note(r.Context(), slog.Int64("merchant", int64(caller.Merchant.ID)), slog.String("tid", caller.Terminal.PublicID))
	path := segments(r.URL)
	var allowed []string
	for _, route := range routes {
		reference, ok := match(route.path, path)
		if !ok {
			continue
		}
		if route.method != r.Method {
			allowed = append(allowed, route.method)
			continue
		}
		if slices.Contains(route.path, "*") && !isReference(reference) {
			return payment.ErrNotFound // No create could have used it; so a cancel need not keep it closed either.
		}
		return route.handle(s, &call{w: w, r: r, caller: caller, clientIP: ip, reference: reference})
	}
	if allowed != nil {
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		return Refuse(FailMethodNotAllowed, "%s is not possible here; %s is.", r.Method, strings.Join(allowed, ", "))
	}
	return Refuse(FailNotFound, "There is nothing at this path.")
}

// segments are the parts of a path, percent-decoded once each, below the version: repeated slashes count as one, and one at the end
// does not count (§1.2). Nil is a path that does not begin with /v1 or /api/v1.
func segments(u *url.URL) []string {
	var parts []string
	for part := range strings.SplitSeq(u.EscapedPath(), "/") {
		if part == "" {
			continue
		}
		text, err := url.PathUnescape(part)
		if err != nil {
			return nil
		}
		parts = append(parts, text)
	}
	if len(parts) > 0 && parts[0] == "api" {
		parts = parts[1:]
	}
	if len(parts) == 0 || parts[0] != "v1" {
		return nil
	}
	return parts[1:]
}

func match(pattern, path []string) (reference string, ok bool) {
	if len(pattern) != len(path) {
		return "", false
	}
	for i, p := range pattern {
		switch p {
		case "*":
			reference = path[i]
		case path[i]:
		default:
			return "", false
		}
	}
	return reference, true
}

// authenticate finds the caller by its bearer token (§2).
func (s *Server) authenticate(r *http.Request) (payment.Caller, string, error) {
	host, ip := peer.Address(r.RemoteAddr)
	token, ok := ParseBearer(r.Header.Get("Authorization"))
	if !ok {
		return payment.Caller{}, "", Refuse(FailUnauthorised, "Send the header: Authorization: Bearer <token>.")
	}
	caller, err := s.Core.Caller(r.Context(), Protocol, token.Reveal())
	if err != nil {
		return payment.Caller{}, "", err
	}
	if !peer.Allows(caller.Credential.Profile.AllowedIPs, ip) {
		return payment.Caller{}, "", Refuse(FailForbidden, "This token is not accepted from %s.", host)
	}
	if caller.Terminal.ID == 0 { // The token alone says which terminal it is (§2); without one there is no business day either.
		return payment.Caller{}, "", Refuse(FailForbidden, "This token belongs to no terminal; make one that does.")
	}
	return caller, host, nil
}

// body reads the body of a POST: as JSON and not too long (§2, §3.0).
func (c *call) body() ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, BodyMax))
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong):
		return nil, Refuse(FailRequestTooLarge, "The body is longer than %d bytes.", BodyMax)
	case err != nil:
		return nil, Refuse(FailInvalidRequest, "The body could not be read to its end.")
	}
	media, _, _ := strings.Cut(c.r.Header.Get("Content-Type"), ";")
	if len(body) > 0 && !strings.EqualFold(strings.TrimSpace(media), "application/json") {
		return nil, Refuse(FailUnsupportedMediaType, "Send Content-Type: application/json.")
	}
	return body, nil
}

// create is E1 and E2: a purchase or a refund. A resend is answered with the transaction as it is now (§6.1).
func (s *Server) create(c *call) error {
	body, err := c.body()
	if err != nil {
		return err
	}
	r, err := DecodeRequest(body)
	if err != nil {
		return err
	}
	if r.IsRefund() {
		return s.refund(c, r)
	}
	m := memoOf(r, c.caller, c.clientIP)
	cmd, err := saleCommand(r, c.caller, m, cmp.Or(s.CreateWait, createWait))
	if err != nil {
		return err
	}
	v, err := s.Core.Sell(c.r.Context(), cmd)
	if err != nil {
		return createRefusal(err, r)
	}
	if !bytes.Equal(v.Payment.Echo, cmd.Echo) { // A repeat is answered with what the first request said.
		return s.answerPurchase(c, v, http.StatusOK)
	}
	return s.answerWith(c, v, m, http.StatusOK)
}

func (s *Server) refund(c *call, r *CreateRequest) error {
	cmd, err := refundCommand(r, c.caller, c.clientIP, cmp.Or(s.CreateWait, createWait))
	if err != nil {
		return err
	}
	v, err := s.Core.Refund(c.r.Context(), cmd)
	if err != nil {
		return createRefusal(err, r)
	}
	return s.answerRefund(c, v, http.StatusOK)
}

// createRefusal is the wire's word for a create that failed: only the request says what differs from a reference's first use, and that an
// original, not the transaction itself, is missing. What is no refusal stays as it is.
func createRefusal(err error, r *CreateRequest) error {
	var reused *payment.KeyReusedError
	if errors.As(err, &reused) {
		return conflict(reused, r)
	}
	if e := refusal(err, r.IsRefund()); e != nil {
		return e
	}
	return err
}

// fetch is E3, and with waitForCompletion=true E4: the long poll.
func (s *Server) fetch(c *call) error {
	v, op, err := s.Core.Find(c.r.Context(), c.caller.Merchant.ID, keyOf(c.reference))
	if err != nil {
		return err
	}
	poll := c.r.URL.Query().Get("waitForCompletion") == "true"
	if op != nil {
		refund := payment.RefundView{Refund: *op, Payment: v.Payment}
		if poll && !finalRefund(refund) {
			return s.pollRefund(c, refund)
		}
		return s.answerRefund(c, refund, http.StatusOK)
	}
	if poll && !finalPurchase(v) {
		return s.pollPurchase(c, v, pollWait)
	}
	return s.answerPurchase(c, v, http.StatusOK)
}

func finalPurchase(v payment.View) bool { return wireStates[v.Payment.State].approved != nil }

func finalRefund(v payment.RefundView) bool {
	return v.Refund.State == payment.Approved || v.Refund.State == payment.Declined
}

func (s *Server) pollPurchase(c *call, v payment.View, limit time.Duration) error {
	m, id := v.Payment.Merchant, v.Payment.ID
	limit = cmp.Or(s.PollWait, limit)
	return poll(s, c, v, finalPurchase, s.answerPurchase,
		func(ctx context.Context, then func(payment.View, error)) (end func()) {
			return s.Core.Watch(ctx, m, id, limit, finalPurchase, then)
		},
		func(ctx context.Context) (payment.View, error) { return s.Core.Await(ctx, m, id, limit, finalPurchase) })
}

func (s *Server) pollRefund(c *call, v payment.RefundView) error {
	m, of, id, limit := v.Payment.Merchant, v.Payment.ID, v.Refund.ID, cmp.Or(s.PollWait, pollWait)
	return poll(s, c, v, finalRefund, s.answerRefund,
		func(ctx context.Context, then func(payment.RefundView, error)) (end func()) {
			return s.Core.WatchRefund(ctx, m, of, id, limit, finalRefund, then)
		},
		func(ctx context.Context) (payment.RefundView, error) {
			return s.Core.AwaitRefund(ctx, m, of, id, limit, finalRefund)
		})
}

// poll answers when what was found is final, or a poll may take no longer: by watch if the connection can be parked, else by await. When the server
// stops, what is there sends the poller round again.
func poll[V any](s *Server, c *call, v V, final func(V) bool, answer func(*call, V, int) error,
	watch func(context.Context, func(V, error)) (end func()), await func(context.Context) (V, error)) error {
	if spot, ok := park.Park(c.w, c.r); ok {
		later := &call{caller: c.caller, clientIP: c.clientIP, reference: c.reference} // Nothing else of the request is kept.
		spot.OnLeave(watch(s.stop.Context(s.Stopping), func(v V, err error) {
			spot.Answer(func(w http.ResponseWriter, r *http.Request) {
				later.w, later.r = w, r
				if err == nil {
					err = answer(later, v, polled(!final(v)))
				}
				if err != nil {
					s.fail(w, r, err)
				}
			})
		}))
		return nil
	}
	ctx, stop := s.stop.Hold(c.r.Context(), s.Stopping)
	defer stop()
	now, err := await(ctx)
	if err == nil {
		v = now
	} else if ctx.Err() == nil {
		return err
	} // Else nobody waits any more, and what was found before is still true.
	return answer(c, v, polled(!final(v)))
}

// polled is the status of a fetch: 202 sends the poller round again.
func polled(pending bool) int {
	if pending {
		return http.StatusAccepted
	}
	return http.StatusOK
}

// cancel is E5. An unknown reference is refused, and remembered: a purchase that comes later with it is never charged (§3.7).
func (s *Server) cancel(c *call) error {
	if err := c.anyObject("cancel"); err != nil {
		return err
	}
	v, err := s.Core.Cancel(c.r.Context(), payment.CancelCommand{Caller: c.caller, Key: keyOf(c.reference), Window: cancelWindow, GiveBack: true,
		CloseFor: cancelWindow})
	if err != nil {
		return err
	}
	return s.answerPurchase(c, v, http.StatusOK)
}

func (s *Server) answerPurchase(c *call, v payment.View, status int) error {
	m, err := readMemo(v.Payment.Echo)
	if err != nil {
		return err
	}
	return s.answerWith(c, v, m, status)
}

// answerWith is answerPurchase for who has the payment's memo already.
func (s *Server) answerWith(c *call, v payment.View, m memo, status int) error {
	access.Note(c.r.Context(), slog.String("payment", v.Payment.Number()), slog.String("state", string(v.Payment.State)))
	t, err := purchaseTransaction(v, m, c.caller)
	if err != nil {
		return err
	}
	return write(c.w, t, status)
}

func (s *Server) answerRefund(c *call, v payment.RefundView, status int) error {
	access.Note(c.r.Context(), slog.String("payment", v.Payment.Number()), slog.String("refund", v.Refund.Number),
		slog.String("state", string(v.Refund.State)))
	t, err := refundTransaction(v, c.caller)
	if err != nil {
		return err
	}
	return write(c.w, t, status)
}

func write(w http.ResponseWriter, t *Transaction, status int) error {
	body, err := t.Encode()
	if err != nil {
		return err
	}
	send(w, status, body)
	return nil
}

func send(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(body) // A caller that has left asks again.
}

// fail answers with an error in the protocol's form. What the caller cannot know goes to the log only.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	e := refusal(err, false)
	if e == nil && r.Context().Err() != nil {
		access.Note(r.Context(), slog.Bool("left", true))
		w.WriteHeader(access.StatusLeft)
		return
	}
	if e == nil {
		e = Refuse(FailInternalError, "The outcome is not known here; send the same request again.")
		s.Log.Error("upp: request failed", "path", r.URL.Path, "error", err)
	}
	access.Note(r.Context(), slog.String("failure", string(e.Failure)))
	if e.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	send(w, e.Status, e.Body())
}

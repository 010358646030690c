package iotpay

import (
	"cmp"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/tillgate/tillgate/internal/access"
	"github.com/tillgate/tillgate/internal/wait"
	"github.com/tillgate/tillgate/payment"
)

// Server answers the calls of §3. Every answer is HTTP 200 with a JSON object, failures too, but for a create_order that was held too long.
type Server struct {
	Core      Core
	Books     Books
	Accounts  Accounts
	Terminals Terminals // Nil where no cards are taken.
	Log       *slog.Logger
	// Stopping, when closed, takes orders back from terminals that have not read a card, and answers the rest as soon as they are decided.
	Stopping <-chan struct{}
	// Strict asks for every field that is documented as required, though public clients leave some of them out (§3.1).
	Strict bool
	// CheckTarget says whether an address may be sent notifications; nil allows none but the constant that means none.
	CheckTarget func(url string) error
	// Transport is where notifications have their parameters; empty is in query string and body.
	Transport Transport
	// Hold is how long a create_order with CC_PAX is held; 0 is 180 s (§6).
	Hold time.Duration
	// CreateWait is how long all other calls are held while an acquirer decides; 0 is 25 s: public clients give up after 30.
	CreateWait time.Duration
	Now        func() time.Time // Nil is time.Now.
	Rand       io.Reader        // Nil is that of crypto/rand.

	memory remembered
	sales  sync.WaitGroup // Card orders at terminals.
	stop   wait.Stop
}

const (
	hold       = 180 * time.Second
	createWait = 25 * time.Second
)

func (s *Server) hold() time.Duration { return cmp.Or(s.Hold, hold) }

func (s *Server) now() time.Time {
	if s.Now == nil {
		return time.Now()
	}
	return s.Now()
}

// call is a request whose sender is known.
type call struct {
	w       http.ResponseWriter
	r       *http.Request
	params  Params
	mchID   string
	account Account
}

// routes are the calls and the paths on which they are answered: those of the seed, those proposed in §3.8 and §3.9, and the older ones of
// §3.0.
var routes = map[string]func(*Server, *call) (*object, error){
	"/v1/create_order":         (*Server).createOrder,
	"/v1/query_order":          (*Server).queryOrder,
	"/v1/refund_order":         (*Server).refundOrder,
	"/v1/query_refund":         (*Server).queryRefund,
	"/v1/refund_query":         (*Server).queryRefund,
	"/v1/close_order":          (*Server).closeOrder,
	"/api/pay/create_order":    (*Server).createOrder,
	"/api/pay/query_order":     (*Server).queryOrder,
	"/api/pay/close_order":     (*Server).closeOrder,
	"/api/refund/create_order": (*Server).refundOrder,
	"/api/refund/query_order":  (*Server).queryRefund,
}

// ServeHTTP serves one request; mount it at the root of its address, or strip what is in front.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	handle, ok := routes[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	c := &call{w: w, r: r}
	err := s.open(c)
	var o *object
	if err == nil {
		access.Note(r.Context(), slog.Int64("merchant", int64(c.account.Merchant)), slog.String("mch_id", c.mchID))
		o, err = handle(s, c)
	}
	if err != nil {
		s.fail(c, err)
		return
	}
	o.sign(c.account.key())
	send(w, o.bytes())
}

// open reads a request and finds out who sent it (§3.0, §3.1: method, body, JSON, mchId, signature).
func (s *Server) open(c *call) error {
	if c.r.Method != http.MethodPost {
		return refuse(CodeNotPost, "Send it as POST.")
	}
	body, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, BodyMax))
	if _, tooLong := errors.AsType[*http.MaxBytesError](err); tooLong {
		return refuse(CodeParameter, "The body is longer than %d bytes.", BodyMax)
	}
	if err != nil {
		return refuse(CodeParameter, "The body could not be read to its end.")
	}
	list, err := readings(c.r.Header.Get("Content-Type"), c.r.URL.RawQuery, body)
	switch {
	case len(list) > 0:
		return s.authenticate(c, list)
	case err != nil:
		return refuse(CodeParameter, "params cannot be read: %v.", err)
	}
	return refuse(CodeEmpty, "The body has no params.")
}

// authenticate takes the reading whose signature fits. What is refused says how far the best one came.
func (s *Server) authenticate(c *call, list []Params) error {
	var refused error = refuse(CodeParameter, "mchId is required.")
	for _, p := range list {
		mchID := p.Get("mchId")
		if mchID == "" {
			continue
		}
		account, err := s.Accounts.Account(c.r.Context(), mchID)
		switch {
		case errors.Is(err, payment.ErrNotFound):
			if c.mchID == "" {
				refused = refuse(CodeMerchant, "mchId is not known.")
			}
			continue
		case err != nil:
			return err
		}
		c.mchID, c.account = mchID, account
		signed, ok := Verify(p, account.Keys...)
		if !ok {
			refused = refuse(CodeSignature, "sign does not fit the parameters.")
			continue
		}
		c.params = signed
		if !allows(account.AllowedIPs, c.r.RemoteAddr) {
			return refuse(CodeMerchant, "This merchant's calls are not accepted from this address.")
		}
		return nil
	}
	return refused
}

// login finds who asks within the account.
func (s *Server) login(c *call, name, device string) (payment.Caller, error) {
	caller, err := s.Accounts.Login(c.r.Context(), c.mchID, name, device)
	if err == nil {
		access.Note(c.r.Context(), slog.String("tid", caller.Terminal.PublicID))
	}
	return caller, err
}

func send(w http.ResponseWriter, body []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json;charset=UTF-8")
	h.Set("Cache-Control", "no-store")
	_, _ = w.Write(body) // A till that has left asks again.
}

// fail answers with a failure on both levels (§3.0), signed when the merchant is known. What the caller cannot know goes to the log only.
func (s *Server) fail(c *call, err error) {
	e := refusal(err)
	switch {
	case errors.Is(err, errHeld):
		access.Note(c.r.Context(), slog.Bool("held", true))
		c.w.WriteHeader(http.StatusGatewayTimeout)
		return
	case e == nil && c.r.Context().Err() != nil:
		access.Note(c.r.Context(), slog.Bool("left", true))
		c.w.WriteHeader(access.StatusLeft)
		return
	case e == nil:
		e = refuse(CodeSystem, "The outcome is not known here; query the order.")
		s.Log.Error("iotpay: request failed", "path", c.r.URL.Path, "error", err)
	}
	access.Note(c.r.Context(), slog.String("failure", string(e.Code)))
	a := &object{}
	a.text("resCode", Fail)
	a.text("retCode", Fail)
	a.text("retMsg", e.Message)
	a.text("retParams", "")
	a.text("retDetail", "")
	a.text("errCode", string(e.Code))
	a.text("errCodeDes", e.Description)
	if k := c.account.key(); !k.IsZero() {
		a.sign(k)
	}
	send(c.w, a.bytes())
}

package admin

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/settlement"
	"github.com/tillgate/tillgate/sqlstore"
	"github.com/tillgate/tillgate/terminal"
)

// Prefix is where the API's paths begin.
const Prefix = "/admin/v1"

// Config is what a Server needs.
type Config struct {
	Store     *sqlstore.Store
	Terminals *terminal.Registry
	Vault     payment.Vault
	Rand      io.Reader
	Log       *slog.Logger
	// CheckTarget refuses the address of a webhook that nothing may be sent to.
	CheckTarget func(url string) error
	// Enrol makes the secret and profile of a credential that is a client id with API keys, by protocol.
	Enrol map[string]func(clientID, key string, p payment.Profile) (secret string, _ payment.Profile)
	// NewKey makes a merchant's next key for a protocol that signs with one, by protocol.
	NewKey map[string]func(context.Context, payment.MerchantID) (string, error)
	// TypedKeys are the protocols whose terminals' keys people type in.
	TypedKeys []string
	// SealWebhook seals a webhook's secret as its protocol wants it.
	SealWebhook func(w payment.Webhook, secret string) ([]byte, error)
	// CheckSettings checks a merchant's settings by protocol; a protocol that is not in it has none.
	CheckSettings map[string]func(json.RawMessage) error
	// Settler closes settlement batches; nil where no acquirer can be reached.
	Settler *settlement.Settler
	Now     func() time.Time
	Token   string // The operator's. Empty takes every call: for callers in the same process.
}

// Server serves the API. Its paths begin with Prefix.
type Server struct {
	cfg Config
	mux *http.ServeMux
}

// New makes a server.
func New(cfg Config) *Server {
	s := &Server{cfg: cfg, mux: http.NewServeMux()}
	for _, r := range routes {
		s.mux.HandleFunc(r.method+" "+Prefix+r.path, s.handle(r))
	}
	s.mux.HandleFunc("GET "+Prefix+"/openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(OpenAPI())
	})
	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		answer(w, http.StatusNotFound, Problem{Error: "not_found", Text: "there is no call " + r.Method + " " + r.URL.Path + "; see " + Prefix + "/openapi.json"})
	})
	return s
}

// ServeHTTP serves the API.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if s.cfg.Token != "" && r.URL.Path != Prefix+"/openapi.json" {
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !ok || subtle.ConstantTimeCompare([]byte(token), []byte(s.cfg.Token)) != 1 {
			answer(w, http.StatusUnauthorized, Problem{Error: "unauthorized", Text: "send the operator's token: Authorization: Bearer …"})
			return
		}
	}
	s.mux.ServeHTTP(w, r)
}

func (s *Server) handle(route route) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, bodyMax))
		if err != nil {
			answer(w, http.StatusRequestEntityTooLarge, Problem{Error: "invalid", Text: "the body is too long"})
			return
		}
		out, err := route.serve(s, call{r.Context(), r}, body)
		if err != nil {
			status, problem := s.problem(err)
			answer(w, status, problem)
			return
		}
		answer(w, http.StatusOK, out)
	}
}

// problem words an error for operators, who may read all of it but what a driver says.
func (s *Server) problem(err error) (int, Problem) {
	var known *problemError
	var field *payment.FieldError
	switch {
	case errors.As(err, &known):
		return known.status, known.problem
	case errors.As(err, &field):
		return http.StatusBadRequest, Problem{Error: "invalid", Field: field.Field, Text: err.Error()}
	case isMissing(err):
		return http.StatusNotFound, Problem{Error: "not_found", Text: err.Error()}
	case errors.Is(err, payment.ErrConflict):
		return http.StatusConflict, Problem{Error: "conflict", Text: err.Error()}
	}
	s.cfg.Log.Error("admin: call failed", "error", err)
	if errors.Is(err, payment.ErrUnavailable) {
		return http.StatusServiceUnavailable, Problem{Error: "unavailable", Text: "the store does not do this now; see whether it was done, and try again; the log says why"}
	}
	return http.StatusInternalServerError, Problem{Error: "internal", Text: "it could not be done; the log says why"}
}

func isMissing(err error) bool { return errors.Is(err, payment.ErrNotFound) }

func answer(w http.ResponseWriter, status int, value any) {
	text, err := json.Marshal(value)
	if err != nil {
		status, text = http.StatusInternalServerError, []byte(`{"error":"internal","text":"the answer cannot be written"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(text, '\n'))
}

// pageRows is how many rows a part of a list has.
const pageRows = 500

// page reads a part of a list in the order of IDs: read gets those after an ID, and row shows one.
func page[R, T any, K ~int64](c call, read func(after K, limit int) ([]R, error), id func(R) K, row func(R) T) (Page[T], error) {
	after := K(0)
	if text := c.query("after"); text != "" {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return Page[T]{}, &payment.FieldError{Field: "after", Problem: "is not what the last part called next"}
		}
		after = K(n)
	}
	found, err := read(after, pageRows)
	out := Page[T]{Rows: []T{}}
	for _, r := range found {
		out.Rows = append(out.Rows, row(r))
	}
	if len(found) == pageRows {
		out.Next = strconv.FormatInt(int64(id(found[len(found)-1])), 10)
	}
	return out, err
}

func state(disabled bool) string {
	if disabled {
		return Disabled
	}
	return Active
}

// off reads a Switch.
func (w Switch) off() (bool, error) {
	switch w.State {
	case Active:
		return false, nil
	case Disabled:
		return true, nil
	}
	return false, &payment.FieldError{Field: "state", Problem: "want active or disabled"}
}

// Package access writes the log's line of a request: one for each, with what the handlers note about it.
package access

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"
)

type notesKey struct{}

// notes are what handlers add to the line of their request.
type notes struct {
	mu    sync.Mutex
	attrs []slog.Attr
}

// Note adds attributes to the line of the request that ctx belongs to. Secrets never go there: what is noted is written as it is.
func Note(ctx context.Context, attrs ...slog.Attr) {
	if n, ok := ctx.Value(notesKey{}).(*notes); ok {
		n.mu.Lock()
		n.attrs = append(n.attrs, attrs...)
		n.mu.Unlock()
	}
}

// Observer is told of every request that was answered.
type Observer func(protocol string, status int, took time.Duration)

// Log writes one line per request: who asked for what, how it ended, and what was noted. Bodies, headers and query strings stay out of
// it, since they hold secrets.
func Log(log *slog.Logger, observe Observer, protocol string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		a := &answer{ResponseWriter: w}
		n := &notes{}
		defer func() {
			if a.status == 0 {
				a.status = http.StatusOK // Nothing was written: net/http answers so.
			}
			took := time.Since(start)
			observe(protocol, a.status, took)
			n.mu.Lock()
			defer n.mu.Unlock()
			log.LogAttrs(r.Context(), slog.LevelInfo, "request", append([]slog.Attr{slog.String("protocol", protocol),
				slog.String("method", r.Method), slog.String("path", r.URL.Path), slog.Int("status", a.status), slog.Int("bytes", a.bytes),
				slog.Int64("ms", took.Milliseconds()), slog.String("remote", r.RemoteAddr)}, n.attrs...)...)
		}()
		next.ServeHTTP(a, r.WithContext(context.WithValue(r.Context(), notesKey{}, n)))
	})
}

// answer remembers what was answered.
type answer struct {
	http.ResponseWriter
	status int
	bytes  int
}

func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) Write(b []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	n, err := a.ResponseWriter.Write(b)
	a.bytes += n
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

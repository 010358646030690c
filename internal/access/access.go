// Package access writes the log's line of a request: one for each, with what the handlers note about it.
package access

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"
)

// StatusLeft is what is counted for a caller that hung up before there was an answer: it is nobody's error, and nobody hears it.
const StatusLeft = 499

type lineKey struct{}

// line is what is written of a request, with what handlers add to it.
type line struct {
	log                            *slog.Logger
	observe                        Observer
	protocol, method, path, remote string
	start                          time.Time

	mu    sync.Mutex
	notes []slog.Attr
	later bool // Somebody else writes it.
}

// Note adds attributes to the line of the request that ctx belongs to. Secrets never go there: what is noted is written as it is.
func Note(ctx context.Context, attrs ...slog.Attr) {
	if l, ok := ctx.Value(lineKey{}).(*line); ok {
		l.mu.Lock()
		l.notes = append(l.notes, attrs...)
		l.mu.Unlock()
	}
}

// Later leaves the line of a request to whoever calls finish, once it is answered. Until then it can be noted with the returned context, which
// holds nothing else of the request.
func Later(ctx context.Context) (finish func(status, bytes int), carried context.Context) {
	l, ok := ctx.Value(lineKey{}).(*line)
	if !ok {
		return func(int, int) {}, context.Background()
	}
	l.mu.Lock()
	l.later = true
	l.mu.Unlock()
	return l.write, context.WithValue(context.Background(), lineKey{}, l)
}

// Observer is told of every request that was answered.
type Observer func(protocol string, status int, took time.Duration)

// Log writes one line per request: who asked for what, how it ended, and what was noted. Bodies, headers and query strings stay out of
// it, since they hold secrets.
func Log(log *slog.Logger, observe Observer, protocol string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := &answer{ResponseWriter: w}
		l := &line{log: log, observe: observe, protocol: protocol, method: r.Method, path: r.URL.Path, remote: r.RemoteAddr, start: time.Now()}
		defer func() {
			if a.status == 0 {
				a.status = http.StatusOK // Nothing was written: net/http answers so.
			}
			l.mu.Lock()
			later := l.later
			l.mu.Unlock()
			if !later {
				l.write(a.status, a.bytes)
			}
		}()
		next.ServeHTTP(a, r.WithContext(context.WithValue(r.Context(), lineKey{}, l)))
	})
}

func (l *line) write(status, bytes int) {
	took := time.Since(l.start)
	l.observe(l.protocol, status, took)
	l.mu.Lock()
	defer l.mu.Unlock()
	attrs := make([]slog.Attr, 0, 7+len(l.notes))
	attrs = append(attrs, slog.String("protocol", l.protocol), slog.String("method", l.method), slog.String("path", l.path), slog.Int("status", status),
		slog.Int("bytes", bytes), slog.Int64("ms", took.Milliseconds()), slog.String("remote", l.remote))
	l.log.LogAttrs(context.Background(), slog.LevelInfo, "request", append(attrs, l.notes...)...)
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

package uqpay

import (
	"fmt"
	"net/http"
	"sync"
	"time"
)

// Limits are how many requests a minute are served: of one client, and of one address for those that fail authentication (§6).
type Limits struct{ Token, Calls, Unauthenticated int }

// The limits of UQPAY's two systems.
var (
	ProductionLimits = Limits{Token: 60, Calls: 200, Unauthenticated: 100}
	SandboxLimits    = Limits{Token: 60, Calls: 500, Unauthenticated: 200}
)

// limitNamesMax bounds how many clients and addresses are counted in one minute; further ones share one count.
const limitNamesMax = 100_000

// limiter counts requests in windows of a minute.
type limiter struct {
	mu     sync.Mutex
	minute int64
	counts map[string]int
}

// take counts a request, or refuses it.
func (l *limiter) take(name string, limit int, now time.Time) error {
	minute := now.Unix() / 60
	l.mu.Lock()
	defer l.mu.Unlock()
	if minute != l.minute || l.counts == nil {
		l.minute, l.counts = minute, map[string]int{}
	}
	if _, ok := l.counts[name]; !ok && len(l.counts) >= limitNamesMax {
		name = ""
	}
	if l.counts[name] >= limit {
		return &Error{Status: http.StatusTooManyRequests, Code: CodeTooManyRequests,
			Message: fmt.Sprintf("Too many requests: at most %d a minute", limit), RetryAfter: time.Duration(60-now.Unix()%60) * time.Second}
	}
	l.counts[name]++
	return nil
}

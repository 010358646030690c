package notify

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/tillgate/tillgate/payment"
)

// Protocol is how one protocol delivers. The first try is made when a notice is due (payment.Notice.DueAt), which is how a protocol pauses
// before it.
type Protocol struct {
	// Delays are the pauses between tries, each from the beginning of the one before. After the last try the notice is given up.
	Delays []time.Duration
	// Timeout bounds a try; 10 seconds when it is 0.
	Timeout time.Duration
	// ContentType is of the body; "application/json" when it is empty.
	ContentType string
	// Sign makes the headers of a try. It is called for each, so that a signature may hold the time.
	Sign func(ctx context.Context, n payment.Notice, now time.Time) (http.Header, error)
	// Prepare, when set, makes of a notice what is sent: for protocols that sign inside the address or the body. What it returns is not stored.
	Prepare func(ctx context.Context, n payment.Notice, now time.Time) (payment.Notice, error)
	// Done, when set, hears that a notice was accepted, before that is stored; if it fails the notice is sent again.
	Done func(ctx context.Context, n payment.Notice) error
	// Accepted decides by the answer, whose body is cut after 64 KiB; any 2xx will do when it is nil. Redirects never will.
	Accepted func(status int, body []byte) bool
}

// Store keeps notices.
type Store interface {
	// OwedHosts are the hosts to which notices are owed, with the time at which the first one for each is due.
	OwedHosts(ctx context.Context) (map[string]time.Time, error)
	// DueNotices lists notices for a host whose time has come, the oldest first.
	DueNotices(ctx context.Context, host string, now time.Time, limit int) ([]payment.Notice, error)
	// ClaimNotice takes a due notice in hand until a time, counting a try; false when somebody else was faster.
	ClaimNotice(ctx context.Context, n payment.Notice, until time.Time) (payment.Notice, bool, error)
	// PutOffNotice lets a claimed notice come due again, and says what its last try met.
	PutOffNotice(ctx context.Context, n payment.Notice, at time.Time, outcome string) error
	// SettleNotice ends a claimed notice: it was accepted, or is given up.
	SettleNotice(ctx context.Context, n payment.Notice, at time.Time, outcome string) error
}

// Resolver finds the addresses of a name; net.DefaultResolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Result is what came of a try.
type Result string

// The results.
const (
	Accepted Result = "accepted"
	Failed   Result = "failed"   // It is tried again.
	GivenUp  Result = "given_up" // It was the last try.
)

// Config is what a Sender needs. Store, Protocols, Now and Log are required.
type Config struct {
	Store     Store
	Protocols map[string]Protocol
	Targets   Targets
	Now       func() time.Time
	Log       *slog.Logger
	// Resolver finds addresses; the system's when it is nil.
	Resolver Resolver
	// TLS is what connections are made with, for certificates of a merchant's own; the system's roots when it is nil.
	TLS *tls.Config
	// Observe, when set, is told of every try, for metrics. It must not block.
	Observe func(protocol string, result Result, took time.Duration)
}

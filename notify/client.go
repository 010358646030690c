package notify

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/tillgate/tillgate/payment"
)

const (
	// answerMax bounds what is read of an answer's body; acceptance is said in a word.
	answerMax = 64 << 10
	// headersMax bounds an answer's headers.
	headersMax = 64 << 10
	// dialMax bounds a connection's making, its TLS handshake apart.
	dialMax = 5 * time.Second
	// idleMax is how long a connection that is not used is kept.
	idleMax = 30 * time.Second
	// addressesMax bounds the addresses of one name that are tried.
	addressesMax = 4
)

// client makes tries.
type client struct {
	targets   Targets
	transport http.RoundTripper
	close     func() // Ends connections that are not used.
	log       *slog.Logger
}

func newClient(cfg Config) client {
	d := dialer{targets: cfg.Targets, resolver: cfg.Resolver}
	if d.resolver == nil {
		d.resolver = net.DefaultResolver
	}
	roots := cfg.TLS
	if roots == nil {
		roots = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	t := &http.Transport{
		Proxy:                  nil, // A proxy would dial what was not checked.
		DialContext:            d.dial,
		TLSClientConfig:        roots,
		TLSHandshakeTimeout:    dialMax,
		ForceAttemptHTTP2:      true,
		MaxIdleConnsPerHost:    laneMax,
		MaxIdleConns:           workersMax,
		IdleConnTimeout:        idleMax,
		MaxResponseHeaderBytes: headersMax,
		DisableCompression:     true, // So that the limit is one of bytes, not of what they unpack to.
	}
	return client{targets: cfg.Targets, transport: t, close: t.CloseIdleConnections, log: cfg.Log}
}

// dialer connects to addresses that may be connected to, and no others.
type dialer struct {
	targets  Targets
	resolver Resolver
}

// dial connects to a name's first address that may be connected to. The addresses that are checked are the ones that are dialled: nothing asks
// the DNS again in between.
func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	var addrs []netip.Addr
	if addr, err := netip.ParseAddr(host); err == nil {
		addrs = []netip.Addr{addr}
	} else if addrs, err = d.resolver.LookupNetIP(ctx, "ip", host); err != nil {
		return nil, err
	}
	var last error = &net.DNSError{Err: "no addresses", Name: host, IsNotFound: true}
	plain := net.Dialer{Timeout: dialMax, Control: d.control}
	for _, addr := range addrs[:min(len(addrs), addressesMax)] {
		addr = addr.Unmap()
		if err := d.targets.checkAddr(addr); err != nil {
			last = err
			continue
		}
		conn, err := plain.DialContext(ctx, network, net.JoinHostPort(addr.String(), port))
		if err == nil {
			return conn, nil
		}
		last = err
	}
	return nil, last
}

// control is asked by the dialer with the address in hand, after everything that could have changed it.
func (d *dialer) control(_, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	return d.targets.checkAddr(to.Addr())
}

// attempt is what a try met.
type attempt struct {
	accepted bool
	host     host   // What the try tells of the host; fresh for nothing.
	outcome  string // For people; nothing of bodies or queries.
}

// try sends a notice once.
func (c *client) try(ctx context.Context, p Protocol, n payment.Notice, now time.Time) attempt {
	ctx, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	if p.Prepare != nil {
		prepared, err := p.Prepare(ctx, n, now)
		if err != nil {
			c.log.Error("prepare notice", "merchant", n.Merchant, "notice", n.ID, "err", err)
			return attempt{outcome: "could not be signed"}
		}
		n.URL, n.Body = prepared.URL, prepared.Body
	}
	to, err := c.targets.parse(n.URL)
	if err != nil {
		return attempt{outcome: err.Error()}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to.url.String(), bytes.NewReader(n.Body))
	if err != nil {
		return attempt{outcome: reason(err)}
	}
	if p.Sign != nil {
		header, err := p.Sign(ctx, n, now)
		if err != nil {
			c.log.Error("sign notice", "merchant", n.Merchant, "notice", n.ID, "err", err)
			return attempt{outcome: "could not be signed"}
		}
		for name, values := range header {
			req.Header[http.CanonicalHeaderKey(name)] = values
		}
	}
	req.Header.Set("Content-Type", contentType(p))
	req.Header.Set("User-Agent", "Tillgate")
	resp, err := c.transport.RoundTrip(req) // Not by a Client: no redirects, no cookies.
	if err != nil {
		return attempt{outcome: reason(err), host: failing}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, answerMax))
	if err != nil && p.Accepted != nil {
		return attempt{outcome: fmt.Sprintf("%d, then %s", resp.StatusCode, reason(err)), host: failing}
	}
	a := attempt{host: living, outcome: strconv.Itoa(resp.StatusCode)}
	switch ok := resp.StatusCode >= 200 && resp.StatusCode < 300; {
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		a.outcome += ", a redirect, which is not followed"
	case p.Accepted == nil:
		a.accepted = ok
	default:
		a.accepted = p.Accepted(resp.StatusCode, body)
		if ok && !a.accepted {
			a.outcome += ", with a body that does not accept"
		}
	}
	return a
}

func contentType(p Protocol) string {
	if p.ContentType == "" {
		return "application/json"
	}
	return p.ContentType
}

// reason is an error in few words. Errors of net/http may hold the address with its query, so only what is known is said.
func reason(err error) string {
	var target *TargetError
	var dns *net.DNSError
	var cert *tls.CertificateVerificationError
	var alert tls.AlertError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &target):
		return target.Error()
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "no answer in time"
	case errors.Is(err, context.Canceled):
		return "cut off"
	case errors.As(err, &dns) && dns.IsNotFound:
		return "host is not known"
	case errors.As(err, &dns):
		return "host could not be looked up"
	case errors.As(err, &cert):
		return "certificate is not good"
	case errors.As(err, &alert), errors.As(err, &record):
		return "no TLS connection"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "connection was cut"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "host cannot be reached"
	}
	var op net.Error
	if errors.As(err, &op) && op.Timeout() {
		return "no answer in time"
	}
	return "no answer"
}

// shown is an address without its query, which may hold a secret.
func shown(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return "(no URL)"
	}
	return strings.ToLower(u.Scheme) + "://" + u.Host + u.Path
}

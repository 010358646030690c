package notify

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tillgate/tillgate/payment"
)

// listen serves on an address of the loopback network: 127.0.0.1 plays the public internet, where it is allowed, and others a private network.
func listen(t *testing.T, addr string, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	if !strings.Contains(addr, ":") {
		addr += ":0"
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Skipf("this system has no %s: %v", addr, err)
	}
	s := httptest.NewUnstartedServer(h)
	s.Listener.Close() //nolint:errcheck // It was not used.
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
	return s
}

func port(s *httptest.Server) string {
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	return port
}

// internet allows 127.0.0.1 as if it were public.
var internet = Targets{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}}

// names is a resolver that answers with each list once, and then with the last one again.
type names struct {
	mu      sync.Mutex
	answers [][]string
	asked   int
}

func (n *names) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	answer := n.answers[min(n.asked, len(n.answers)-1)]
	n.asked++
	if len(answer) == 0 {
		return nil, &net.DNSError{Err: "no such host", Name: "till.example", IsNotFound: true}
	}
	var addrs []netip.Addr
	for _, a := range answer {
		addrs = append(addrs, netip.MustParseAddr(a))
	}
	return addrs, nil
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// once makes one try to an address.
func once(t *testing.T, cfg Config, p Protocol, address string) attempt {
	t.Helper()
	cfg.Log = quiet()
	c := newClient(cfg)
	defer c.close()
	if p.Timeout == 0 {
		p.Timeout = 2 * time.Second
	}
	return c.try(t.Context(), p, payment.Notice{URL: address, Body: []byte(`{"a":1}`), Signer: "7"}, time.Unix(1770000000, 0))
}

func TestTry(t *testing.T) {
	t.Parallel()
	var got http.Request
	var body []byte
	s := listen(t, "127.0.0.1", func(w http.ResponseWriter, r *http.Request) {
		got = *r
		body, _ = io.ReadAll(r.Body)
		w.WriteHeader(http.StatusAccepted)
	})
	p := Protocol{Sign: func(_ context.Context, n payment.Notice, now time.Time) (http.Header, error) {
		return http.Header{"x-wk-timestamp": {now.UTC().Format(time.RFC3339)}, "Authorization": {n.Signer}}, nil
	}}
	a := once(t, Config{Targets: internet}, p, s.URL+"/hook?key=1")
	if !a.accepted || a.host != living || a.outcome != "202" {
		t.Errorf("got %+v, want accepted", a)
	}
	if got.Method != http.MethodPost || got.URL.String() != "/hook?key=1" || string(body) != `{"a":1}` || got.ContentLength != 7 {
		t.Errorf("got %s %s with %q", got.Method, got.URL, body)
	}
	for name, want := range map[string]string{"X-Wk-Timestamp": "2026-02-02T02:40:00Z", "Authorization": "7", "Content-Type": "application/json", "User-Agent": "Tillgate"} {
		if got.Header.Get(name) != want {
			t.Errorf("%s: got %q, want %q", name, got.Header.Get(name), want)
		}
	}
	p = Protocol{ContentType: "text/plain", Accepted: func(status int, body []byte) bool { return status == 202 && string(body) == "success" }}
	a = once(t, Config{Targets: internet}, p, s.URL)
	if a.accepted || a.host != living || a.outcome != "202, with a body that does not accept" || got.Header.Get("Content-Type") != "text/plain" {
		t.Errorf("got %+v, %s", a, got.Header.Get("Content-Type"))
	}
	p.Sign = func(context.Context, payment.Notice, time.Time) (http.Header, error) {
		return nil, errors.New("no key")
	}
	if a := once(t, Config{Targets: internet}, p, s.URL); a.accepted || a.outcome != "could not be signed" {
		t.Errorf("got %+v", a)
	}
	p = Protocol{Prepare: func(_ context.Context, n payment.Notice, _ time.Time) (payment.Notice, error) {
		n.URL, n.Body = n.URL+"?sign=1", append(n.Body, " signed"...)
		return n, nil
	}}
	if a := once(t, Config{Targets: internet}, p, s.URL+"/prepared"); !a.accepted || got.URL.String() != "/prepared?sign=1" || string(body) != `{"a":1} signed` {
		t.Errorf("got %+v, %s with %q", a, got.URL, body)
	}
	p.Prepare = func(_ context.Context, n payment.Notice, _ time.Time) (payment.Notice, error) {
		n.URL = "http://127.0.0.9/"
		return n, nil
	}
	if a := once(t, Config{}, p, s.URL); a.accepted {
		t.Errorf("a prepared address was not checked: %+v", a)
	}
}

func TestAnswersThatDoNotAccept(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	var private atomic.Int64
	secret := listen(t, "127.0.0.2", func(http.ResponseWriter, *http.Request) { private.Add(1) })
	s := listen(t, "127.0.0.1", func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/500":
			w.WriteHeader(http.StatusInternalServerError)
		case "/redirect":
			http.Redirect(w, r, secret.URL, http.StatusTemporaryRedirect)
		case "/redirect-here":
			http.Redirect(w, r, "/200", http.StatusPermanentRedirect)
		case "/silent":
			<-hold
		case "/slow":
			w.WriteHeader(http.StatusOK)
			w.(http.Flusher).Flush()
			<-hold
		case "/cut":
			conn, _, _ := w.(http.Hijacker).Hijack()
			_ = conn.Close()
		case "/garbage":
			conn, _, _ := w.(http.Hijacker).Hijack()
			_, _ = conn.Write([]byte("success\r\n\r\n"))
			_ = conn.Close()
		case "/headers":
			w.Header().Set("X", strings.Repeat("x", 2*headersMax))
		}
	})
	t.Cleanup(func() { close(hold) }) // Before the servers are closed.
	gone := listen(t, "127.0.0.1", nil)
	gone.Close()
	p := Protocol{Timeout: 200 * time.Millisecond, Accepted: func(int, []byte) bool { return false }}
	for _, tt := range []struct {
		url, outcome string
		host         host
	}{
		{s.URL + "/500", "500", living},
		{s.URL + "/redirect", "307, a redirect, which is not followed", living},
		{s.URL + "/redirect-here", "308, a redirect, which is not followed", living},
		{s.URL + "/silent?s3cret", "no answer in time", failing},
		{s.URL + "/slow", "200, then no answer in time", failing},
		{s.URL + "/cut", "connection was cut", failing},
		{s.URL + "/garbage?s3cret", "no answer", failing},
		{s.URL + "/headers", "no answer", failing},
		{gone.URL + "/?s3cret", "connection refused", failing},
		{secret.URL + "/?s3cret", "address for notices: 127.0.0.2 is not an address on the public internet", fresh},
		{"ftp://till.example/?s3cret", "address for notices: want one that begins with https:// or http://", fresh},
		{strings.Replace(s.URL, "http:", "https:", 1), "no TLS connection", failing},
	} {
		if a := once(t, Config{Targets: internet}, p, tt.url); a.accepted || a.outcome != tt.outcome || a.host != tt.host {
			t.Errorf("%s: got %+v, want %q, %d", tt.url, a, tt.outcome, tt.host)
		}
	}
	if private.Load() != 0 {
		t.Error("a private address was reached")
	}
	// A protocol that asks only for the status does not wait for the body.
	if a := once(t, Config{Targets: internet}, Protocol{Timeout: 200 * time.Millisecond}, s.URL+"/slow"); !a.accepted {
		t.Errorf("got %+v, want accepted", a)
	}
}

// TestHugeAnswer sends a body without end: a piece of it is read, and the rest is not.
func TestHugeAnswer(t *testing.T) {
	t.Parallel()
	ended := make(chan struct{})
	s := listen(t, "127.0.0.1", func(w http.ResponseWriter, _ *http.Request) {
		defer close(ended)
		for {
			if _, err := w.Write(bytes.Repeat([]byte("success "), 1000)); err != nil {
				return
			}
		}
	})
	seen := 0
	a := once(t, Config{Targets: internet}, Protocol{Accepted: func(_ int, body []byte) bool { seen = len(body); return true }}, s.URL)
	if !a.accepted || seen != answerMax {
		t.Errorf("got %+v after %d bytes, want %d", a, seen, answerMax)
	}
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Error("the answer is still being read")
	}
}

// TestRebinding has a DNS that answers with a public address when it is asked first, and with a private one later, or with both.
func TestRebinding(t *testing.T) {
	t.Parallel()
	var public, private atomic.Int64
	front := listen(t, "127.0.0.1", func(http.ResponseWriter, *http.Request) { public.Add(1) })
	listen(t, "127.0.0.2:"+port(front), func(http.ResponseWriter, *http.Request) { private.Add(1) })
	for _, tt := range []struct {
		name            string
		answers         [][]string
		public, private int64
		outcomes        []string
	}{
		{"first public, then private", [][]string{{"127.0.0.1"}, {"127.0.0.2"}}, 1, 0,
			[]string{"200", "address for notices: 127.0.0.2 is not an address on the public internet"}},
		{"private", [][]string{{"127.0.0.2"}}, 0, 0, []string{"address for notices: 127.0.0.2 is not an address on the public internet"}},
		{"private and public", [][]string{{"127.0.0.2", "127.0.0.1"}}, 1, 0, []string{"200"}},
		{"mapped", [][]string{{"::ffff:127.0.0.2"}}, 0, 0, []string{"address for notices: 127.0.0.2 is not an address on the public internet"}},
		{"metadata", [][]string{{"169.254.169.254"}}, 0, 0, []string{"address for notices: 169.254.169.254 is not an address on the public internet"}},
		{"not known", [][]string{{}}, 0, 0, []string{"host is not known"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			public.Store(0)
			resolver := &names{answers: tt.answers}
			for _, want := range tt.outcomes {
				a := once(t, Config{Targets: internet, Resolver: resolver}, Protocol{}, "http://till.example:"+port(front)+"/")
				if a.outcome != want {
					t.Errorf("got %+v, want %q", a, want)
				}
			}
			if resolver.asked != len(tt.outcomes) {
				t.Errorf("the DNS was asked %d times for %d tries: what was checked was not what was dialled", resolver.asked, len(tt.outcomes))
			}
			if public.Load() != tt.public || private.Load() != tt.private {
				t.Errorf("%d reached the public address and %d the private one, want %d and %d", public.Load(), private.Load(), tt.public, tt.private)
			}
		})
	}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	s := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	defer s.Close()
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	if a := once(t, Config{Targets: internet}, Protocol{}, s.URL); a.accepted || a.outcome != "certificate is not good" {
		t.Errorf("got %+v of an unknown certificate", a)
	}
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	known := Config{Targets: internet, TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, Resolver: &names{answers: [][]string{{"127.0.0.1"}}}}
	if a := once(t, known, Protocol{}, s.URL); !a.accepted {
		t.Errorf("got %+v, want accepted", a)
	}
	if a := once(t, known, Protocol{}, "https://elsewhere.test.example:"+u.Port()); a.accepted || a.outcome != "certificate is not good" {
		t.Errorf("got %+v of another's certificate", a)
	}
}

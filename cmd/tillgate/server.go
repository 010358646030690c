package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tillgate/tillgate/acquirer/wallet"
	"github.com/tillgate/tillgate/internal/access"
	"github.com/tillgate/tillgate/internal/fault"
	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/protocol/upp"
	"github.com/tillgate/tillgate/signal"
	"github.com/tillgate/tillgate/sqlstore"
	"github.com/tillgate/tillgate/vault"
)

// walletAcquirer is the name under which merchants' methods are routed to the wallet network.
const walletAcquirer = "wallet"

// Limits of the HTTP servers.
const (
	headerTimeout = 10 * time.Second  // For a request's headers.
	bodyTimeout   = 30 * time.Second  // For a request, body included.
	answerTimeout = 75 * time.Second  // Above every protocol's longest poll.
	idleTimeout   = 120 * time.Second // Of a kept connection: above the idle times of common proxies.
	headerMax     = 16 << 10
	stopLimit     = 40 * time.Second // For requests in hand when the server stops: a create is held up to 28 s.
)

// server is a Tillgate server: its parts, wired by hand.
type server struct {
	cfg     Config
	log     *slog.Logger
	store   *sqlstore.Store
	vault   *vault.Vault
	engine  *payment.Engine
	link    *wallet.Link
	upp     *upp.Server
	metrics *metrics

	stopping  chan struct{}
	listeners []listening
	release   []func() // What close ends, in the order it was begun.
}

// listening is an address with what it serves.
type listening struct {
	net.Listener
	handler http.Handler
}

// newServer opens the store and wires the parts; nothing runs yet. Close it.
func newServer(ctx context.Context, cfg Config, log *slog.Logger) (*server, error) {
	if err := os.MkdirAll(cfg.Data, 0o700); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	keys, err := vault.Open(cfg.Secret)
	if err != nil {
		return nil, err
	}
	store, err := sqlstore.Open(ctx, cfg.store(false))
	if err != nil {
		return nil, err
	}
	s := &server{cfg: cfg, log: log, store: store, vault: keys, metrics: newMetrics(), stopping: make(chan struct{})}
	signals, err := s.signals()
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	s.link = &wallet.Link{Client: &wallet.Client{BaseURL: cfg.Wallet.URL, Key: cfg.Wallet.key}, Timeout: cfg.Wallet.timeout, Log: log}
	s.engine = payment.NewEngine(payment.Config{
		Store:     store,
		Acquirers: map[string]payment.Acquirer{walletAcquirer: s.link},
		Vault:     keys,
		Signal:    signals,
		Now:       time.Now,
		Log:       log,
		Observe:   s.metrics.settled,
	})
	s.metrics.watch("tillgate_waiters", "Requests that wait for a payment.", func() float64 { return float64(signals.Waiting()) })
	s.metrics.commits(store)
	s.metrics.owed(store)
	return s, nil
}

// waitingSignal is a Signal that knows how many wait.
type waitingSignal interface {
	payment.Signal
	Waiting() int
}

// signals are the process's own, unless other servers are to be woken too.
func (s *server) signals() (waitingSignal, error) {
	urls := s.cfg.Signals
	if s.cfg.SignalsListen != "" {
		nats, err := signal.Listen(s.cfg.SignalsListen)
		if err != nil {
			return nil, err
		}
		s.release = append(s.release, nats.Stop)
		urls = strings.Trim(nats.URL()+","+urls, ",")
	}
	if urls == "" {
		return &payment.LocalSignal{}, nil
	}
	n, err := signal.Dial(urls, s.log)
	if err != nil {
		return nil, err
	}
	s.release = append(s.release, n.Close)
	return n, nil
}

// close releases what newServer took. Call it after run.
func (s *server) close() error {
	for _, release := range slices.Backward(s.release) {
		release()
	}
	for _, l := range s.listeners {
		_ = l.Close() // Closed already if run served it.
	}
	return s.store.Close()
}

// listen takes the addresses, so that a taken one is an error before anything else happens.
func (s *server) listen() error {
	s.upp = &upp.Server{Core: s.engine, Log: s.log, Stopping: s.stopping, CardTokens: s.cfg.UPP.CardTokens, Now: time.Now, Rand: rand.Reader}
	uppHandler := access.Log(s.log, s.metrics.request, upp.Protocol, s.upp)
	if err := s.bind("listen", s.cfg.Listen, s.routes(map[string]http.Handler{"/upp": uppHandler})); err != nil {
		return err
	}
	if s.cfg.UPP.Listen != "" {
		if err := s.bind("upp.listen", s.cfg.UPP.Listen, uppHandler); err != nil {
			return err
		}
	}
	if s.cfg.Metrics != "" {
		return s.bind("metrics", s.cfg.Metrics, s.metrics.handler())
	}
	return nil
}

func (s *server) bind(setting, address string, handler http.Handler) error {
	l, err := listen(setting, address)
	if err == nil {
		s.listeners = append(s.listeners, listening{fault.Listener(l), handler})
	}
	return err
}

// listen takes an address; the error for a taken one says what to do.
func listen(setting, address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%s: %s is taken by another program; stop it, or choose another address (port 0 takes a free one)", setting, address)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", setting, err)
	}
	return l, nil
}

// url is where the server is reached.
func (s *server) url() string {
	scheme := "http"
	if s.cfg.TLSCert != "" {
		scheme = "https"
	}
	return scheme + "://" + s.listeners[0].Addr().String()
}

// routes serves the protocols below their prefixes, as they came: a protocol's path is never cleaned or redirected.
func (s *server) routes(protocols map[string]http.Handler) http.Handler {
	own := http.NewServeMux()
	own.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	own.HandleFunc("GET /readyz", s.ready)
	if s.cfg.Metrics == "" {
		own.Handle("GET /metrics", s.metrics.handler())
	}
	own.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "Tillgate. Protocols: /upp. Health: /healthz, /readyz.\n")
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for prefix, handler := range protocols {
			if strings.HasPrefix(r.URL.Path, prefix+"/") {
				http.StripPrefix(prefix, handler).ServeHTTP(w, r)
				return
			}
		}
		own.ServeHTTP(w, r)
	})
}

// ready answers whether payments can be taken: the engine runs and the store can write.
func (s *server) ready(w http.ResponseWriter, r *http.Request) {
	select {
	case <-s.engine.Ready():
	default:
		http.Error(w, "starting", http.StatusServiceUnavailable)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
	defer cancel()
	if err := s.store.Check(ctx); err != nil {
		s.log.Error("not ready", "error", err)
		http.Error(w, "the store cannot write; see the log", http.StatusServiceUnavailable)
		return
	}
	_, _ = io.WriteString(w, "ready\n")
}

// run serves until ctx ends, and then stops in this order: accept nothing new, release the pollers, finish the requests in hand, finish
// the exchanges under way. started is called once payments can be taken.
func (s *server) run(ctx context.Context, started func() error) error {
	engineCtx, stopEngine := context.WithCancel(context.WithoutCancel(ctx))
	defer stopEngine()
	parts, partsCtx := errgroup.WithContext(context.WithoutCancel(ctx))
	parts.Go(func() error { return s.engine.Run(engineCtx) })
	parts.Go(func() error { return s.link.Follow(engineCtx, s.engine.Nudge) })
	select {
	case <-s.engine.Ready():
	case <-partsCtx.Done():
		stopEngine()
		return parts.Wait()
	}

	var servers []*http.Server
	for _, l := range s.listeners {
		srv := &http.Server{Handler: l.handler, ReadHeaderTimeout: headerTimeout, ReadTimeout: bodyTimeout, WriteTimeout: answerTimeout,
			IdleTimeout: idleTimeout, MaxHeaderBytes: headerMax, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelWarn)}
		servers = append(servers, srv)
		parts.Go(func() error {
			var err error
			if s.cfg.TLSCert != "" {
				err = srv.ServeTLS(l.Listener, s.cfg.TLSCert, s.cfg.TLSKey)
			} else {
				err = srv.Serve(l.Listener)
			}
			if errors.Is(err, http.ErrServerClosed) {
				return nil
			}
			return fmt.Errorf("serve %s: %w", l.Addr(), err)
		})
	}
	var err error
	if started != nil {
		err = started()
	}
	if err == nil {
		select {
		case <-ctx.Done():
		case <-partsCtx.Done():
		}
	}
	s.log.Info("stopping")
	close(s.stopping)
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopLimit)
	defer cancel()
	var stops errgroup.Group
	for _, srv := range servers {
		stops.Go(func() error { return srv.Shutdown(stopCtx) })
	}
	err = errors.Join(err, stops.Wait())
	stopEngine()
	err = errors.Join(err, parts.Wait())
	s.log.Info("stopped")
	return err
}

// openTool opens the store of a data folder beside its server, for operators' commands.
func openTool(ctx context.Context, cfg Config) (*sqlstore.Store, *vault.Vault, error) {
	if cfg.Secret == "" {
		cfg.Secret = filepath.Join(cfg.Data, "secret.key")
	}
	if err := os.MkdirAll(cfg.Data, 0o700); err != nil {
		return nil, nil, fmt.Errorf("data folder: %w", err)
	}
	keys, err := vault.Open(cfg.Secret)
	if err != nil {
		return nil, nil, err
	}
	store, err := sqlstore.Open(ctx, cfg.store(true))
	return store, keys, err
}

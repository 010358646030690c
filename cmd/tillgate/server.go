package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tillgate/tillgate/acquirer/cardhost"
	"github.com/tillgate/tillgate/acquirer/wallet"
	"github.com/tillgate/tillgate/admin"
	"github.com/tillgate/tillgate/card"
	"github.com/tillgate/tillgate/internal/access"
	"github.com/tillgate/tillgate/internal/fault"
	"github.com/tillgate/tillgate/internal/park"
	"github.com/tillgate/tillgate/notify"
	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/protocol/iotpay"
	"github.com/tillgate/tillgate/protocol/qfpay"
	"github.com/tillgate/tillgate/protocol/upay"
	"github.com/tillgate/tillgate/protocol/upp"
	"github.com/tillgate/tillgate/protocol/uqpay"
	"github.com/tillgate/tillgate/settlement"
	"github.com/tillgate/tillgate/signal"
	"github.com/tillgate/tillgate/terminal"
	"github.com/tillgate/tillgate/vault"
)

// The names under which merchants' methods are routed to acquirers.
const (
	walletAcquirer = "wallet"
	cardAcquirer   = "card"
)

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
	*tool
	engine   *payment.Engine
	link     *wallet.Link
	cards    *cardhost.Link // Nil without a card host.
	notices  *notify.Sender
	settler  *settlement.Settler
	upp      *upp.Server
	uqpay    *uqpay.Server
	upay     *upay.Server
	iotpay   *iotpay.Server
	channel  *terminal.Channel
	metrics  *metrics
	signing  *rsa.PrivateKey // Of Upay's callbacks.
	token    string          // The operator's.
	adminURL string          // Where operators' commands reach it.

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
	t, err := open(ctx, cfg, cfg.store(false), log)
	if err != nil {
		return nil, err
	}
	s := &server{tool: t, metrics: newMetrics(), stopping: make(chan struct{})}
	if err := s.wire(); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// wire makes the parts.
func (s *server) wire() error {
	cfg, log := s.cfg, s.log
	signals, err := s.signals()
	if err != nil {
		return err
	}
	if s.token, err = operatorToken(cfg.Admin.TokenFile); err != nil {
		return err
	}
	if s.signing, err = signingKey(cfg.Upay.KeyFile); err != nil {
		return err
	}
	acquirers := map[string]payment.Acquirer{}
	closers := map[string]settlement.Closer{}
	if len(cfg.Card.hosts()) > 0 {
		if s.cards, err = s.cardHost(); err != nil {
			return err
		}
		acquirers[cardAcquirer], closers[cardAcquirer] = s.cards, batchCloser{s.cards}
	}
	s.settler = settlement.New(settlement.Config{Store: s.store, Closers: closers, Now: time.Now, Log: log})
	s.notices = notify.New(notify.Config{Store: s.store, Protocols: s.noticeProtocols(), Targets: s.targets(), Now: time.Now, Log: log,
		Observe: func(protocol string, result notify.Result, _ time.Duration) {
			s.metrics.notices.WithLabelValues(protocol, string(result)).Inc()
		}})
	s.link = &wallet.Link{Client: &wallet.Client{BaseURL: cfg.Wallet.URL, Key: cfg.Wallet.key}, Timeout: cfg.Wallet.timeout, Log: log}
	acquirers[walletAcquirer] = s.link
	s.engine = payment.NewEngine(payment.Config{
		Store:     s.store,
		Acquirers: acquirers,
		Vault:     s.vault,
		Signal:    signals,
		Now:       time.Now,
		Log:       log,
		Notices:   s.noticesOf,
		Noticed:   s.notices.Kick,
		Observe:   s.metrics.settled,
	})
	s.metrics.watch("tillgate_waiters", "Requests that wait for a payment.", func() float64 { return float64(signals.Waiting()) })
	s.metrics.commits(s.store)
	s.metrics.owed(s.store)
	return nil
}

// cardHost is the link to the card host.
func (s *server) cardHost() (*cardhost.Link, error) {
	bound := []byte("card host")
	zmk, err := s.vault.NewZoneMaster(vault.TDES, bound, s.cfg.Card.zmk...)
	if err != nil {
		return nil, fmt.Errorf("card.zmk_file: %w", err)
	}
	return cardhost.New(cardhost.Config{Addresses: s.cfg.Card.hosts(), Connections: s.cfg.Card.Connections, Member: s.cfg.Card.Member,
		ZMK: vault.SealedKey{Sealed: zmk, Bound: bound}, PINFormat: card.Format(s.cfg.Card.PINFormat), Timeout: s.cfg.Card.timeout,
		Vault: s.vault, Log: s.log, Now: time.Now, Rand: rand.Reader,
		Exchanged: func(mti, code string, took time.Duration) {
			s.metrics.exchanges.WithLabelValues(mti, code).Observe(took.Seconds())
		},
		Dropped:  func(why cardhost.Drop) { s.metrics.dropped.WithLabelValues(string(why)).Inc() },
		SignedOn: func(lines int) { s.metrics.lines.Set(float64(lines)) }})
}

// batchCloser lets the card host's link close settlement batches.
type batchCloser struct{ link *cardhost.Link }

func (c batchCloser) CloseBatch(ctx context.Context, m payment.Merchant, zone string, b settlement.Batch, items []settlement.Item) (settlement.Result, error) {
	batch := cardhost.Batch{Number: b.Number(), RRN: cardhost.RRN(b.ID, b.CreatedAt), At: b.CreatedAt, Zone: zone, Merchant: m.PublicID, Currency: b.Currency}
	for _, i := range items {
		batch.Items = append(batch.Items, cardhost.Item{Kind: i.Kind, Number: i.Number, SentAt: i.SentAt, TID: i.TID, AuthCode: i.AuthCode, Amount: i.Amount})
	}
	r, err := c.link.CloseBatch(ctx, batch)
	return settlement.Result{Balanced: r.Balanced, Uploaded: r.Uploaded, Code: r.Code}, err
}

// noticesOf says what callers are owed to be told of a change, by the protocol of its payment.
func (s *server) noticesOf(r payment.Reader, c payment.Change) ([]payment.Notice, error) {
	switch c.Now.Protocol {
	case uqpay.Protocol:
		return uqpay.Notices(r, c)
	case upay.Protocol:
		return upay.Notices(r, c)
	case iotpay.Protocol:
		return iotpay.Notices(r, c)
	}
	return nil, nil
}

// noticeProtocols is how each protocol's notices are delivered.
func (s *server) noticeProtocols() map[string]notify.Protocol {
	webhooks := uqpay.WebhookSigner{Webhook: s.store.Webhook, Sealer: s.vault}
	callbacks := upay.Callbacks{Terminals: s.terminals, Key: s.signing}
	return map[string]notify.Protocol{
		uqpay.Protocol: {Delays: uqpay.WebhookDelays(), Timeout: uqpay.WebhookTimeout, Sign: webhooks.Sign, Accepted: uqpay.AcceptedWebhook},
		upay.Protocol:  {Delays: upay.CallbackDelays, Timeout: upay.CallbackTimeout, Sign: callbacks.Sign, Accepted: upay.AcceptedCallback},
		iotpay.Protocol: {Delays: iotpay.Delays(), Timeout: iotpay.NoticeTimeout, ContentType: iotpay.NoticeType, Accepted: iotpay.Accepted,
			Prepare: func(ctx context.Context, n payment.Notice, now time.Time) (payment.Notice, error) {
				return s.iotpay.Prepare(ctx, n, now)
			},
			Done: func(ctx context.Context, n payment.Notice) error { return s.iotpay.Notified(ctx, n) }},
	}
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
		return &payment.LocalSignal{Others: s.cfg.Database != ""}, nil // On a data folder there is one server.
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
	return s.tool.close()
}

// listen takes the addresses, so that a taken one is an error before anything else happens.
func (s *server) listen() error {
	if s.cfg.TLSCert != "" {
		if _, err := tls.LoadX509KeyPair(s.cfg.TLSCert, s.cfg.TLSKey); err != nil {
			return fmt.Errorf("tls_cert and tls_key: %w", err)
		}
	}
	s.upp = &upp.Server{Core: s.engine, Log: s.log, Stopping: s.stopping, CardTokens: s.cfg.UPP.CardTokens, Now: time.Now, Rand: rand.Reader}
	uppHandler := access.Log(s.log, s.metrics.request, upp.Protocol, s.upp)
	s.uqpay = &uqpay.Server{Core: s.engine, Books: s.store, Terminals: s.terminals, Vault: s.vault, Tokens: s.store, Log: s.log, Now: time.Now}
	uqpayHandler := access.Log(s.log, s.metrics.request, uqpay.Protocol, s.uqpay)
	s.upay = &upay.Server{Core: s.engine, Terminals: s.terminals, Vault: s.vault, Log: s.log, PublicURL: s.upayURL, CheckTarget: s.targets().Check,
		LogDir: s.cfg.Upay.Logs, Stopping: s.stopping, Now: time.Now}
	upayHandler := access.Log(s.log, s.metrics.request, upay.Protocol, s.upay)
	s.channel = terminal.NewChannel(terminal.ChannelConfig{Registry: s.terminals, Core: s.engine, Books: s.store, PINKeys: s.vault, Now: time.Now, Rand: rand.Reader,
		Log: s.log, Own: map[string]terminal.Own{qfpay.Protocol: {Scope: qfpay.Scope, RefundScope: qfpay.Scope + " refund", RefundPolicy: "same_day_full_card",
			ReusableKey: true}}})
	s.metrics.watch("tillgate_terminals", "Terminals that are connected.", func() float64 { return float64(s.channel.Connected()) })
	s.iotpay = &iotpay.Server{Core: s.engine, Books: s.store, Accounts: iotAccounts{s.tool}, Terminals: iotpayTerminals{s.channel}, Log: s.log,
		Stopping: s.stopping, CheckTarget: s.targets().Check}
	iotpayHandler := access.Log(s.log, s.metrics.request, iotpay.Protocol, s.iotpay)
	below := map[string]http.Handler{"/upp": uppHandler, "/uqpay": uqpayHandler, "/upay": upayHandler, "/iotpay": iotpayHandler, "/terminal": s.channel}
	operators := access.Log(s.log, s.metrics.request, "admin", s.operators())
	if s.cfg.Admin.Listen == "" {
		below["/admin"] = unstripped{"/admin", operators}
	}
	if err := s.bind("listen", s.cfg.Listen, s.routes(below)); err != nil {
		return err
	}
	s.adminURL = s.url()
	if s.cfg.Admin.Listen != "" && s.cfg.Admin.Listen != "off" {
		if err := s.bind("admin.listen", s.cfg.Admin.Listen, operators); err != nil {
			return err
		}
		s.adminURL = s.urlOf(len(s.listeners) - 1)
	}
	if s.cfg.UPP.Listen != "" {
		if err := s.bind("upp.listen", s.cfg.UPP.Listen, uppHandler); err != nil {
			return err
		}
	}
	if s.cfg.UQPAY.Listen != "" {
		if err := s.bind("uqpay.listen", s.cfg.UQPAY.Listen, uqpayHandler); err != nil {
			return err
		}
	}
	if s.cfg.IOTPay.Listen != "" {
		if err := s.bind("iotpay.listen", s.cfg.IOTPay.Listen, iotpayHandler); err != nil {
			return err
		}
	}
	if s.cfg.Upay.Listen != "" {
		if err := s.bind("upay.listen", s.cfg.Upay.Listen, upayHandler); err != nil {
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
func (s *server) url() string { return s.urlOf(0) }

func (s *server) urlOf(listener int) string {
	scheme := "http"
	if s.cfg.TLSCert != "" {
		scheme = "https"
	}
	return scheme + "://" + s.listeners[listener].Addr().String()
}

// upayURL is Upay's base as customers' browsers reach it.
func (s *server) upayURL() string {
	if s.cfg.Upay.PublicURL != "" {
		return strings.TrimRight(s.cfg.Upay.PublicURL, "/")
	}
	return s.url() + "/upay"
}

// unstripped gives a handler its whole path back.
type unstripped struct {
	prefix  string
	handler http.Handler
}

func (u unstripped) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r2 := r.Clone(r.Context())
	r2.URL.Path, r2.URL.RawPath = u.prefix+r.URL.Path, ""
	if r.URL.RawPath != "" {
		r2.URL.RawPath = u.prefix + r.URL.RawPath
	}
	u.handler.ServeHTTP(w, r2)
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
		_, _ = io.WriteString(w, "Tillgate. Protocols: /upp, /uqpay/api, /upay, /iotpay. Terminals: /terminal. Operators: /admin/v1. Health: /healthz, /readyz.\n")
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
	// The card host's lines stay while the engine finishes: a reversal that is owed then still leaves.
	linkCtx, stopLinks := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLinks()
	parts.Go(func() error {
		defer stopLinks()
		return s.engine.Run(engineCtx)
	})
	parts.Go(func() error {
		return s.link.Follow(engineCtx, s.engine.Nudge, func(ctx context.Context) { s.engine.Missed(ctx, walletAcquirer) })
	})
	parts.Go(func() error { return s.notices.Run(engineCtx) })
	parts.Go(func() error { return s.purge(engineCtx) })
	if s.cards != nil {
		parts.Go(func() error { return s.cards.Run(linkCtx) })
		parts.Go(func() error { return s.settler.Run(engineCtx) })
	}
	select {
	case <-s.engine.Ready():
	case <-partsCtx.Done():
		stopEngine()
		return parts.Wait()
	}

	channelCtx, stopChannel := context.WithCancel(context.WithoutCancel(ctx))
	defer stopChannel()
	channelEnded := make(chan struct{})
	parts.Go(func() error {
		defer close(channelEnded)
		return s.channel.Run(channelCtx)
	})

	var servers []*http.Server
	var lots []*park.Lot
	for _, l := range s.listeners {
		srv := &http.Server{Handler: l.handler, ReadHeaderTimeout: headerTimeout, ReadTimeout: bodyTimeout, WriteTimeout: answerTimeout,
			IdleTimeout: idleTimeout, MaxHeaderBytes: headerMax, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelWarn)}
		lot := park.New(l.Listener, idleTimeout, s.log)
		srv.BaseContext = lot.Context
		servers, lots = append(servers, srv), append(lots, lot)
		parts.Go(func() error {
			defer func() { _ = lot.Close() }() // Serving may have failed before it knew the lot. Closing twice does no harm.
			var err error
			if s.cfg.TLSCert != "" {
				err = srv.ServeTLS(lot, s.cfg.TLSCert, s.cfg.TLSKey)
			} else {
				err = srv.Serve(lot)
			}
			if errors.Is(err, http.ErrServerClosed) {
				return nil
			}
			return fmt.Errorf("serve %s: %w", l.Addr(), err)
		})
	}
	err := s.letOperatorsIn()
	if err == nil && started != nil {
		err = started()
	}
	if err == nil {
		select {
		case <-ctx.Done():
		case <-partsCtx.Done():
		}
	}
	s.log.Info("stopping")
	err = errors.Join(err, removeFile(filepath.Join(s.cfg.Data, adminFile)))
	close(s.stopping)
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopLimit)
	defer cancel()
	var stops errgroup.Group
	for _, srv := range servers {
		stops.Go(func() error { return srv.Shutdown(stopCtx) })
	}
	err = errors.Join(err, stops.Wait())
	for _, lot := range lots {
		lot.Wait() // Who polls is answered, and comes again to another process.
	}
	s.iotpay.Wait() // Orders at terminals have been taken back, or are decided.
	stopChannel()
	<-channelEnded
	stopEngine()
	err = errors.Join(err, parts.Wait())
	s.log.Info("stopped")
	return err
}

// Rows that nothing needs any more are wiped so often, so many at once.
const (
	purgeEvery = 10 * time.Minute
	purgeRows  = 500
)

// operators serves the operators' API.
func (s *server) operators() http.Handler {
	cfg := s.adminConfig(s.token)
	cfg.Settler = s.settler
	return admin.New(cfg)
}

// letOperatorsIn leaves the file through which operators' commands find the server.
func (s *server) letOperatorsIn() error {
	if s.cfg.Admin.Listen == "off" {
		return nil
	}
	if err := writeJSON(filepath.Join(s.cfg.Data, adminFile), adminInfo{URL: s.adminURL, Token: s.token}); err != nil {
		return fmt.Errorf("write %s: %w", adminFile, err)
	}
	return nil
}

// purge wipes what nothing needs any more, until ctx ends.
func (s *server) purge(ctx context.Context) error {
	tick := time.NewTicker(purgeEvery)
	defer tick.Stop()
	for {
		n, err := s.store.Purge(ctx, time.Now(), purgeRows)
		if err != nil && ctx.Err() == nil {
			s.log.Error("old rows are not wiped; it is tried again", "error", err)
		}
		if err == nil && n >= purgeRows {
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

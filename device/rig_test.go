package device_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tillgate/tillgate/acquirer/cardhost"
	"github.com/tillgate/tillgate/device"
	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/sandbox"
	"github.com/tillgate/tillgate/sqlstore"
	"github.com/tillgate/tillgate/terminal"
	"github.com/tillgate/tillgate/vault"
)

// The tests play the whole chain: a till that calls the channel, the channel, a terminal with a customer, the real engine over SQLite, the link
// to the card host, and the sandbox's card host with its own books.

const (
	zmk    = "0123456789ABCDEFFEDCBA9876543210"
	member = "123456"
)

// rig is the chain.
type rig struct {
	t      testing.TB
	log    *buffer
	logger *slog.Logger
	dir    string
	books  *sqlstore.Store
	vault  *vault.Vault
	bank   *sandbox.CardHost
	bankAt string
	shop   payment.Place
	owner  payment.Merchant
	orders int

	purse  purse
	server *server
	where  *relay // The terminal's address of the server, which outlives it.
	stops  []func()
}

// server is what a restart of the server ends.
type server struct {
	engine   *payment.Engine
	registry *terminal.Registry
	channel  *terminal.Channel
	link     *cardhost.Link
	http     *httptest.Server
	stop     func()
}

// unit is a terminal with its parts.
type unit struct {
	*device.Terminal
	*device.Virtual
	identity *device.Identity
	caller   payment.Caller
	dir      string
	more     []*device.Identity
	before   func(*unit) // Of the terminal's start.
	noKey    bool        // Its PIN pad takes no key at the terminal's start.
	stop     func()
}

// pad is a PIN pad that tells when it has been given its first key, which it may refuse.
type pad struct {
	device.PINPad
	refuses bool
	given   atomic.Bool
}

func (p *pad) LoadKey(slot string, key terminal.Secret) error {
	if first := !p.given.Swap(true); first && p.refuses {
		return device.ErrNoPINKey
	}
	return p.PINPad.LoadKey(slot, key)
}

// display is one whose screens are in the log, where noSecrets looks.
type display struct {
	device.Display
	log *slog.Logger
}

func (d display) Show(s device.Screen) {
	d.log.Debug("screen", "shows", fmt.Sprint(s))
	d.Display.Show(s)
}

type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// relay is a fixed address in front of a server that is restarted: the terminal's line is a plain TCP connection through it.
type relay struct {
	listener net.Listener
	mu       sync.Mutex
	target   string
	conns    []net.Conn
	far      map[net.Conn]bool // The servers' ends.
	deaf     bool              // What servers say is lost.
	all      sync.WaitGroup
}

func newRelay(t testing.TB) *relay {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{listener: l, far: map[net.Conn]bool{}}
	r.all.Go(r.accept)
	t.Cleanup(func() { _ = l.Close(); r.cut(); r.all.Wait() })
	return r
}

func (r *relay) url() string { return "http://" + r.listener.Addr().String() }

func (r *relay) to(target string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.target = target
}

// cut breaks every connection, and with an empty target lets none come back.
func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		_ = c.Close()
	}
	r.conns, r.deaf = nil, false
}

// oneWay loses what servers say, until the connections are cut.
func (r *relay) oneWay() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.deaf = true
}

func (r *relay) loses(from net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.deaf && r.far[from]
}

func (r *relay) accept() {
	for {
		conn, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.mu.Lock()
		target := r.target
		r.mu.Unlock()
		far, err := net.Dial("tcp", target)
		if err != nil {
			_ = conn.Close()
			continue
		}
		r.mu.Lock()
		r.conns = append(r.conns, conn, far)
		r.far[far] = true
		r.mu.Unlock()
		pump := func(to, from net.Conn) {
			buf := make([]byte, 4096)
			for {
				n, err := from.Read(buf)
				if n > 0 && !r.loses(from) {
					if _, err := to.Write(buf[:n]); err != nil {
						break
					}
				}
				if err != nil {
					break
				}
			}
			_, _ = to.Close(), from.Close()
		}
		r.all.Go(func() { pump(conn, far) })
		r.all.Go(func() { pump(far, conn) })
	}
}

// setup starts everything but the terminals.
func setup(t testing.TB) *rig {
	t.Helper()
	r := &rig{t: t, log: &buffer{}, dir: t.TempDir()}
	r.logger = slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	if r.vault, err = vault.New(strings.Repeat("ab", 32)); err != nil {
		t.Fatal(err)
	}
	r.startBank()
	ctx := context.Background()
	if r.books, err = sqlstore.Open(ctx, sqlstore.Config{Dir: filepath.Join(r.dir, "books"), Now: time.Now}); err != nil {
		t.Fatal(err)
	}
	r.owner, err = r.books.AddMerchant(ctx, payment.Merchant{PublicID: "740521", CompanyName: "Maple Hardware Inc", Name: "Maple Hardware", Currencies: []string{"CAD", "HKD"},
		Methods: map[string]payment.Method{terminal.MethodCard: {Acquirer: "cards", Rate: payment.Rate{Millionths: 15_000}}}})
	if err != nil {
		t.Fatal(err)
	}
	if r.shop, err = r.books.AddStore(ctx, r.owner.ID, payment.Place{PublicID: "1", Name: "Maple Hardware Toronto", Calendar: payment.Calendar{Zone: "America/Toronto"}}); err != nil {
		t.Fatal(err)
	}
	r.where = newRelay(t)
	r.startServer()
	t.Cleanup(func() {
		r.server.stop()
		for _, stop := range r.stops {
			stop()
		}
		if err := errors.Join(r.books.Close(), r.bank.Close()); err != nil {
			t.Error(err)
		}
		r.noSecrets()
	})
	return r
}

func (r *rig) startBank() {
	r.t.Helper()
	var err error
	if r.bank, err = sandbox.OpenCards(sandbox.CardConfig{Dir: r.t.TempDir(), ZMK: zmk, Member: member, Now: time.Now, Rand: rand.Reader, Log: slog.New(slog.DiscardHandler)}); err != nil {
		r.t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	r.bankAt = l.Addr().String()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = r.bank.Serve(ctx, l) }()
	r.stops = append(r.stops, func() { stop(); <-ended })
}

// startServer starts a server process on the books.
func (r *rig) startServer() {
	r.t.Helper()
	s := &server{}
	bound := []byte("cards")
	sealed, err := r.vault.NewZoneMaster(vault.TDES, bound, zmk)
	if err != nil {
		r.t.Fatal(err)
	}
	s.link, err = cardhost.New(cardhost.Config{Addresses: []string{r.bankAt}, Connections: 1, Member: member, ZMK: vault.SealedKey{Sealed: sealed, Bound: bound},
		Timeout: 3 * time.Second, Vault: r.vault, Log: r.logger, Now: time.Now, Rand: rand.Reader})
	if err != nil {
		r.t.Fatal(err)
	}
	s.engine = payment.NewEngine(payment.Config{Store: r.books, Acquirers: map[string]payment.Acquirer{"cards": s.link, "purse": &r.purse}, Vault: r.vault, Signal: &payment.LocalSignal{},
		Now: time.Now, Log: r.logger})
	s.registry = terminal.New(terminal.Config{Store: r.books, Vault: r.vault, Now: time.Now, Rand: rand.Reader, Log: r.logger})
	s.channel = terminal.NewChannel(terminal.ChannelConfig{Registry: s.registry, Core: s.engine, Books: r.books, PINKeys: r.vault, Now: time.Now, Rand: rand.Reader,
		Log: r.logger, Resume: 4 * time.Second, Own: map[string]terminal.Own{"qfpay": {Scope: "qfpay", RefundScope: "qfpay-refund",
			RefundPolicy: "same_day_full_card", ReusableKey: true}}})
	s.http = httptest.NewServer(s.channel)
	var all sync.WaitGroup
	ctx, stop := context.WithCancel(context.Background())
	for _, run := range []func(context.Context) error{s.engine.Run, s.link.Run, s.channel.Run} {
		all.Go(func() { _ = run(ctx) })
	}
	<-s.engine.Ready()
	r.until("the card host", s.link.Ready)
	s.stop = sync.OnceFunc(func() { stop(); s.http.CloseClientConnections(); s.http.Close(); all.Wait() })
	r.server = s
	r.where.to(s.http.Listener.Addr().String())
}

// restartServer ends the server and starts another.
func (r *rig) restartServer() {
	r.server.stop()
	r.startServer()
}

// cards are the sandbox's.
func (r *rig) cards() []device.Card {
	var list []device.Card
	for _, c := range r.bank.Cards() {
		list = append(list, device.Card{PAN: c.PAN, Brand: c.Brand, ExpiryMonth: c.ExpiryMonth, ExpiryYear: c.ExpiryYear, PIN: c.PIN, Track2: c.Track2, PSN: c.PSN,
			Behaviour: c.Behaviour, IssuerMasterKey: c.IssuerMasterKey})
	}
	return list
}

// terminal pairs a terminal and starts it.
func (r *rig) terminal() *unit {
	r.t.Helper()
	u := r.pair()
	r.start(u)
	return u
}

// pair pairs a terminal.
func (r *rig) pair() *unit {
	r.t.Helper()
	ctx := context.Background()
	code, err := r.server.registry.NewCode(ctx, terminal.Code{Merchant: r.owner.ID, Store: r.shop.ID, Protocol: terminal.DeviceProtocol, Uses: 1})
	if err != nil {
		r.t.Fatal(err)
	}
	u := &unit{dir: r.t.TempDir()}
	if u.identity, err = device.Pair(ctx, r.where.url(), code, filepath.Join(u.dir, "identity.json"), device.About{Model: "Virtual"}, false); err != nil {
		r.t.Fatal(err)
	}
	entry, err := r.server.registry.Find(ctx, terminal.DeviceProtocol, u.identity.Number)
	if err != nil {
		r.t.Fatal(err)
	}
	u.caller = entry.Caller
	u.caller.Credential.Protocol = "iotpay"
	return u
}

// start starts a terminal's process.
func (r *rig) start(u *unit) {
	r.t.Helper()
	var err error
	if u.identity, err = device.LoadIdentity(filepath.Join(u.dir, "identity.json")); err != nil {
		r.t.Fatal(err)
	}
	u.Virtual = device.NewVirtual(r.cards(), 32, time.Now, rand.Reader)
	parts := u.Virtual.Parts()
	p := &pad{PINPad: parts.PINPad, refuses: u.noKey}
	parts.PINPad, parts.Display = p, display{parts.Display, r.logger}
	if u.Terminal, err = device.New(device.Config{Dir: u.dir, Parts: parts, Identities: append([]*device.Identity{u.identity}, u.more...), Serial: "VT000001", Now: time.Now,
		Rand: rand.Reader, Log: r.logger}); err != nil {
		r.t.Fatal(err)
	}
	if u.before != nil {
		u.before(u)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- u.Run(ctx) }()
	u.stop = sync.OnceFunc(func() {
		stop()
		if err := <-ended; err != nil {
			r.t.Errorf("terminal: %v", err)
		}
	})
	r.stops = append(r.stops, u.stop)
	r.until("the terminal to connect", func() bool { return r.server.channel.Free(u.caller) == nil || u.Busy() })
	r.until("the PIN key", p.given.Load) // A test that cuts the line must not cut it before: the terminal would then ask for no PIN.
}

// customer lets an automatic customer stand at a terminal.
func (r *rig) customer(u *unit, name string) *device.Auto {
	r.t.Helper()
	a, err := device.NewAuto(name, u.Virtual)
	if err != nil {
		r.t.Fatal(err)
	}
	r.stand(a)
	return a
}

func (r *rig) stand(a *device.Auto) {
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = a.Run(ctx) }()
	r.stops = append([]func(){func() { stop(); <-ended }}, r.stops...)
}

// order stores a payment for a card, as a till's protocol does.
func (r *rig) order(u *unit, amount string) payment.Payment {
	r.t.Helper()
	return r.orderFor(u, amount, 3*time.Minute)
}

// orderFor is order for a payment of another lifetime.
func (r *rig) orderFor(u *unit, amount string, life time.Duration) payment.Payment {
	r.t.Helper()
	r.orders++
	a, err := money.Parse(amount, money.MustCurrency("CAD"))
	if err != nil {
		r.t.Fatal(err)
	}
	v, err := r.server.engine.Begin(context.Background(), payment.SaleCommand{Caller: u.caller, Key: payment.Key{Scope: "iotpay", Key: fmt.Sprintf("POS-%d", r.orders)},
		Request: []byte("order"), Numbering: payment.Numbering{Prefix: "CP", Digits: 12}, Amount: a, Method: terminal.MethodCard, Flow: payment.ByCard, Lifetime: life})
	if err != nil {
		r.t.Fatal(err)
	}
	return v.Payment
}

// sale is what a till's protocol does with an order: it asks the terminal, ends the payment if nothing was sent, and reads what became of it.
func (r *rig) sale(u *unit, p payment.Payment) (terminal.Report, payment.View, error) {
	r.t.Helper()
	ctx := context.Background()
	report, err := r.server.channel.Sale(ctx, u.caller, p)
	v, readErr := r.server.engine.Await(ctx, p.Merchant, p.ID, 5*time.Second, func(v payment.View) bool {
		return v.Payment.State != payment.Open || v.Payment.Attempt == 0
	})
	if readErr != nil {
		r.t.Fatal(readErr)
	}
	if v.Payment.State == payment.Open && v.Payment.Attempt == 0 {
		if v, readErr = r.server.engine.Cancel(ctx, payment.CancelCommand{Caller: u.caller, Payment: p.ID, Window: time.Hour, Reason: report.Ended}); readErr != nil {
			r.t.Fatal(readErr)
		}
	}
	return report, v, err
}

// state is a payment's now.
func (r *rig) state(p payment.Payment) payment.State {
	r.t.Helper()
	v, err := r.server.engine.Await(context.Background(), p.Merchant, p.ID, 0, func(payment.View) bool { return true })
	if err != nil {
		r.t.Fatal(err)
	}
	return v.Payment.State
}

// movements are the acquirer's books: "payment 2865 CAD done; …", the newest first.
func (r *rig) movements() string {
	r.t.Helper()
	w := httptest.NewRecorder()
	r.bank.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/cards/books", nil))
	var list []struct {
		Kind     string `json:"kind"`
		Minor    int64  `json:"amount_minor"`
		Currency string `json:"currency"`
		State    string `json:"state"`
	}
	if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil {
		r.t.Fatalf("books: %v: %s", err, w.Body)
	}
	var out []string
	for _, m := range list {
		out = append(out, fmt.Sprintf("%s %d %s %s", m.Kind, m.Minor, m.Currency, m.State))
	}
	return strings.Join(out, "; ")
}

// paper is all that the terminal has printed.
func (u *unit) paper() string {
	s, _ := u.See()
	var b strings.Builder
	for _, p := range s.Papers {
		b.WriteString(p.Text)
	}
	return b.String()
}

// patience is how long a test waits for what must come. A terminal pauses for up to ten seconds between tries to reach its server, and a
// busy machine may make it need two.
const patience = time.Minute

func (r *rig) until(what string, done func() bool) {
	r.t.Helper()
	for end := time.Now().Add(patience); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("waited in vain for %s; log:\n%s", what, r.log)
		}
	}
}

// await waits for a screen.
func (r *rig) await(u *unit, mode device.Mode) {
	r.t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), patience)
	defer stop()
	if s, err := u.Virtual.Await(ctx, mode); err != nil {
		r.t.Fatalf("waited in vain for screen %s; it shows %+v; log:\n%s", mode, s.Screen, r.log)
	}
}

// noSecrets looks for card data where it must not be.
func (r *rig) noSecrets() {
	for _, c := range r.cards() {
		middle := c.PAN[6 : len(c.PAN)-4]
		if strings.Contains(r.log.String(), c.PAN) || strings.Contains(r.log.String(), c.Track2) || strings.Contains(r.log.String(), c.PAN[:6]+middle) {
			r.t.Errorf("the log holds the card %s", c.Masked())
		}
	}
}

func copyFiles(t testing.TB, from, to string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

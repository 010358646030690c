package upay_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tillgate/tillgate/acquirer/wallet"
	"github.com/tillgate/tillgate/internal/access"
	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/protocol/upay"
	"github.com/tillgate/tillgate/sandbox"
	"github.com/tillgate/tillgate/sqlstore"
	"github.com/tillgate/tillgate/terminal"
	"github.com/tillgate/tillgate/vault"
)

const (
	walletKey = "bearer-key-of-the-wallet-network"
	vendorSN  = "90001234"
	vendorKey = "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
	appID     = "2024010100000001"
	deviceID  = "50a87771-ca8a-4952-a493-9504c39ab495"

	alipayCode = "280000000000000001" // An ordinary one, which approves.
	wechatCode = "134500000000000001"

	patience = 30 * time.Second // For what must happen, on a machine that is busy.
)

// rig is everything that a payment needs, on real sockets: the server of this package over the engine, the registry, the SQLite store and
// the link, and at the other end a wallet network that keeps its own books.
type rig struct {
	settings
	dir     string
	secret  string // Of the installation.
	clock   clock  // Of all but the network.
	logs    buffer // What all parts log.
	log     *slog.Logger
	network *sandbox.Network
	wallets *httptest.Server
	http    *http.Client
	key     *rsa.PrivateKey

	merchant, other payment.MerchantID
	place           payment.ID
	code, otherCode string // Activation codes.

	*node
}

// node is one life of the server process.
type node struct {
	store    *sqlstore.Store
	engine   *payment.Engine
	registry *terminal.Registry
	upay     *upay.Server
	server   *httptest.Server
	tap      *tap
	stopping chan struct{}
	stop     func() // Closing stopping, once.
	close    func()
}

// settings are what tests change.
type settings struct {
	payWait     time.Duration
	linkTimeout time.Duration // Short, so that what is never answered ends soon; but a busy machine must keep it.
	zone        string
	configure   func(*upay.Server)
	acquirer    payment.Acquirer // Instead of the wallet link.
}

var testKey = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

// setup starts all parts. What it starts ends with the test.
func setup(t testing.TB, change ...func(*settings)) *rig {
	t.Helper()
	r := &rig{settings: settings{linkTimeout: time.Second, zone: "Asia/Shanghai"}, dir: t.TempDir(), key: testKey()}
	for _, c := range change {
		c(&r.settings)
	}
	secret := make([]byte, 32)
	if _, err := rand.Read(secret); err != nil {
		t.Fatal(err)
	}
	r.secret = hex.EncodeToString(secret)
	r.log = slog.New(slog.NewTextHandler(&r.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	transport := &http.Transport{MaxIdleConnsPerHost: 100}
	r.http = &http.Client{Transport: transport, Timeout: 2 * patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	t.Cleanup(transport.CloseIdleConnections)
	r.startSandbox(t)
	r.enrol(t)
	r.open(t)
	t.Cleanup(func() { r.close() })
	return r
}

func (r *rig) startSandbox(t testing.TB) {
	t.Helper()
	var err error
	r.network, err = sandbox.Open(sandbox.Config{Dir: t.TempDir(), Key: walletKey, PublicURL: func() string { return r.wallets.URL },
		Now: time.Now, Rand: rand.Reader, Log: r.log})
	if err != nil {
		t.Fatal(err)
	}
	r.wallets = httptest.NewUnstartedServer(r.network.Handler())
	r.wallets.Config.ErrorLog = r.errorLog()
	r.wallets.Start()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- r.network.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("sandbox: %v", err)
		}
		if err := r.network.Close(); err != nil {
			t.Errorf("close sandbox: %v", err)
		}
		r.wallets.Close()
	})
}

func (r *rig) errorLog() *log.Logger { return slog.NewLogLogger(r.log.Handler(), slog.LevelError) }

func (r *rig) vault() *vault.Vault {
	v, err := vault.New(r.secret)
	if err != nil {
		panic(err)
	}
	return v
}

// must ends the test unless err is nil.
func must(t testing.TB, err error) {
	if err != nil {
		t.Helper()
		t.Fatal(err)
	}
}

// enrol makes two merchants, a vendor and activation codes.
func (r *rig) enrol(t testing.TB) {
	t.Helper()
	ctx := t.Context()
	store, err := sqlstore.Open(ctx, sqlstore.Config{Dir: r.dir, Now: time.Now})
	must(t, err)
	defer store.Close()
	methods := map[string]payment.Method{}
	for _, m := range []string{"alipay", "wechat", "unionpay"} {
		methods[m] = payment.Method{Acquirer: "wallet", Rate: payment.Rate{Millionths: 14_000}}
	}
	noodles, err := store.AddMerchant(ctx, payment.Merchant{PublicID: "1680000001", CompanyName: "Noodle House Ltd", Name: "Noodle House",
		Currencies: []string{"CNY"}, Methods: methods})
	must(t, err)
	tea, err := store.AddMerchant(ctx, payment.Merchant{PublicID: "1680000002", CompanyName: "Tea Ltd", Name: "Tea",
		Currencies: []string{"CNY"}, Methods: map[string]payment.Method{"alipay": methods["alipay"]}})
	must(t, err)
	registry := r.terminals(store)
	must(t, registry.AddVendor(ctx, terminal.Vendor{Number: vendorSN, Name: "Softhouse", Key: terminal.NewSecret(vendorKey), Apps: []string{appID}}))
	place := func(m payment.MerchantID, id string) (payment.ID, string) {
		p, err := store.AddStore(ctx, m, payment.Place{PublicID: id, Name: "Store " + id, Calendar: payment.Calendar{Zone: r.zone}})
		must(t, err)
		code, err := registry.NewCode(ctx, terminal.Code{Merchant: m, Store: p.ID, Protocol: upay.Protocol})
		must(t, err)
		return p.ID, code
	}
	r.merchant, r.other = noodles.ID, tea.ID
	r.place, r.code = place(noodles.ID, "15800000000001")
	_, r.otherCode = place(tea.ID, "15800000000002")
}

func (r *rig) terminals(store *sqlstore.Store) *terminal.Registry {
	return terminal.New(terminal.Config{Store: store, Vault: r.vault(), Now: r.clock.now, Rand: rand.Reader, Log: r.log})
}

// open starts a server process on the data folder, and returns when it takes payments and hears the network's events.
func (r *rig) open(t testing.TB) {
	t.Helper()
	store, err := sqlstore.Open(context.Background(), sqlstore.Config{Dir: r.dir, Now: time.Now})
	must(t, err)
	n := &node{store: store, stopping: make(chan struct{}), registry: r.terminals(store)}
	n.tap = &tap{base: &http.Transport{MaxIdleConnsPerHost: 100}, following: make(chan struct{})}
	link := &wallet.Link{Timeout: r.linkTimeout, Log: r.log,
		Client: &wallet.Client{BaseURL: r.wallets.URL, Key: walletKey, HTTP: &http.Client{Transport: n.tap}}}
	acquirers := map[string]payment.Acquirer{"wallet": link}
	if r.acquirer != nil {
		acquirers["wallet"] = r.acquirer
	}
	n.engine = payment.NewEngine(payment.Config{Store: store, Acquirers: acquirers, Vault: r.vault(), Signal: &payment.LocalSignal{},
		Now: r.clock.now, Log: r.log, Notices: upay.Notices})
	n.upay = &upay.Server{Core: n.engine, Terminals: n.registry, Vault: r.vault(), Log: r.log, PublicURL: func() string { return n.server.URL },
		CheckTarget: func(target string) error {
			if u, err := url.Parse(target); err != nil || u.Hostname() == "10.0.0.1" {
				return errors.New("private address")
			}
			return nil
		},
		LogDir: r.dir + "/logs", Stopping: n.stopping, PayWait: r.payWait, Now: r.clock.now}
	if r.configure != nil {
		r.configure(n.upay)
	}
	n.server = httptest.NewUnstartedServer(access.Log(r.log, func(string, int, time.Duration) {}, upay.Protocol, n.upay))
	n.server.Config.ErrorLog = r.errorLog()
	n.server.Start()

	ctx, cancel := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	parts.Go(func() {
		if err := n.engine.Run(ctx); err != nil {
			t.Errorf("engine: %v", err)
		}
	})
	parts.Go(func() {
		if err := link.Follow(ctx, n.engine.Nudge, func(ctx context.Context) { n.engine.Missed(ctx, "wallet") }); err != nil {
			t.Errorf("follow: %v", err)
		}
	})
	n.stop = sync.OnceFunc(func() { close(n.stopping) })
	n.close = sync.OnceFunc(func() {
		n.stop()
		n.server.Close()
		cancel()
		parts.Wait()
		n.tap.base.CloseIdleConnections()
		if err := store.Close(); err != nil {
			t.Errorf("close store: %v", err)
		}
	})
	r.node = n
	<-n.engine.Ready()
	<-n.tap.following
}

// set changes the settings of the first merchant.
func (r *rig) set(t testing.TB, change func(*upay.Settings)) {
	t.Helper()
	s := upay.DefaultSettings()
	change(&s)
	must(t, s.Check())
	must(t, r.registry.SetSettings(t.Context(), r.merchant, upay.Protocol, s))
}

// clock is time that can be moved and held.
type clock struct {
	mu     sync.Mutex
	offset time.Duration
	held   time.Time // Zero while it runs.
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.held.IsZero() {
		return c.held
	}
	return time.Now().Add(c.offset)
}

// pass lets time go by at once.
func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.offset += d
}

// hold stops the clock at a time.
func (c *clock) hold(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held = at
}

// buffer is where logs go.
type buffer struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.String()
}

// tap is on the line between the link and the wallet network: it can keep answers back.
type tap struct {
	base      *http.Transport
	once      sync.Once
	following chan struct{} // Closed when the link has heard where the events stand: from then on none is missed.

	mu sync.Mutex
	// keep says whether the answer to a call is lost: the network has acted, and the link's patience runs out. A call is named by its method
	// and the first two parts of its path.
	keep func(call string) bool
}

func (p *tap) RoundTrip(q *http.Request) (*http.Response, error) {
	parts := strings.Split(q.URL.Path, "/")
	call := q.Method + " " + parts[2]
	if len(parts) > 4 {
		call += " " + parts[4]
	}
	p.mu.Lock()
	keep := p.keep
	p.mu.Unlock()
	answer, err := p.base.RoundTrip(q)
	if call == "GET events" && err == nil {
		p.once.Do(func() { close(p.following) })
	}
	if err == nil && keep != nil && keep(call) {
		answer.Body.Close()
		<-q.Context().Done()
		return nil, q.Context().Err()
	}
	return answer, err
}

func (p *tap) lose(keep func(call string) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keep = keep
}

// object is a JSON object.
type object map[string]any

func (o object) json() string {
	text, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// with is the object with changes: pairs of names and values. A nil value takes the name out.
func (o object) with(changes ...any) object {
	for i := 0; i < len(changes); i += 2 {
		if changes[i+1] == nil {
			delete(o, changes[i].(string))
			continue
		}
		o[changes[i].(string)] = changes[i+1]
	}
	return o
}

// till calls the server as a terminal.
type till struct {
	t   testing.TB
	r   *rig
	sn  string
	key string
}

// till activates a terminal in the first merchant's store.
func (r *rig) till(t testing.TB) *till {
	t.Helper()
	return r.activated(t, r.code)
}

func (r *rig) activated(t testing.TB, code string) *till {
	t.Helper()
	vendor := &till{t, r, vendorSN, vendorKey}
	a := vendor.post("/terminal/activate", object{"app_id": appID, "code": code, "device_id": deviceID})
	c := &till{t, r, a.bizText("terminal_sn"), a.bizText("terminal_key")}
	if c.sn == "" || c.key == "" {
		t.Fatalf("not activated: %s", a.raw)
	}
	return c
}

func (c *till) in(t testing.TB) *till { return &till{t, c.r, c.sn, c.key} }

func (c *till) withKey(key string) *till { return &till{c.t, c.r, c.sn, key} }

// pay is a plain pay of 12.50 by an ordinary Alipay code, with changes.
func (c *till) pay(clientSN string, changes ...any) reply {
	c.t.Helper()
	return c.post("/upay/v2/pay", object{"terminal_sn": c.sn, "client_sn": clientSN, "total_amount": "1250", "dynamic_id": alipayCode,
		"subject": "Lunch set", "operator": "c01"}.with(changes...))
}

func (c *till) precreate(clientSN string, changes ...any) reply {
	c.t.Helper()
	return c.post("/upay/v2/precreate", object{"terminal_sn": c.sn, "client_sn": clientSN, "total_amount": "2500", "payway": "3", "sub_payway": "2",
		"subject": "QR order", "operator": "c01"}.with(changes...))
}

func (c *till) query(clientSN string, changes ...any) reply {
	c.t.Helper()
	return c.post("/upay/v2/query", object{"terminal_sn": c.sn, "client_sn": clientSN}.with(changes...))
}

func (c *till) refund(clientSN, no, cents string, changes ...any) reply {
	c.t.Helper()
	return c.post("/upay/v2/refund", object{"terminal_sn": c.sn, "client_sn": clientSN, "refund_request_no": no, "refund_amount": cents,
		"operator": "c02"}.with(changes...))
}

func (c *till) cancel(clientSN string, changes ...any) reply {
	c.t.Helper()
	return c.post("/upay/v2/cancel", object{"terminal_sn": c.sn, "client_sn": clientSN}.with(changes...))
}

func (c *till) revoke(clientSN string, changes ...any) reply {
	c.t.Helper()
	return c.post("/upay/v2/revoke", object{"terminal_sn": c.sn, "client_sn": clientSN}.with(changes...))
}

func (c *till) checkIn(changes ...any) reply {
	c.t.Helper()
	return c.post("/terminal/checkin", object{"terminal_sn": c.sn, "device_id": deviceID}.with(changes...))
}

// until queries until the order's status is one.
func (c *till) until(clientSN string, status upay.OrderStatus) reply {
	c.t.Helper()
	var a reply
	if !within(func() bool { a = c.query(clientSN); return a.text("order_status") == string(status) }) {
		a.errorf("want order_status %s in time", status)
	}
	return a
}

func (c *till) post(path string, body object) reply {
	c.t.Helper()
	return c.send(path, body.json())
}

// send signs the bytes and sends them.
func (c *till) send(path, body string, headers ...string) reply {
	c.t.Helper()
	sign := upay.Authorization(c.sn, []byte(body), terminal.NewSecret(c.key))
	return c.r.call(c.t, http.MethodPost, path, body, append([]string{"Authorization", sign, "Content-Type", "application/json"}, headers...)...)
}

// call makes one call and holds the answer against what is true of every answer. It never ends the test, so goroutines may call it.
func (r *rig) call(t testing.TB, method, path, body string, headers ...string) reply {
	t.Helper()
	a, err := r.try(t, context.Background(), method, path, body, headers...)
	if err != nil {
		t.Errorf("%s %s: %v", method, path, err)
		return a
	}
	a.check()
	return a
}

func (r *rig) try(t testing.TB, ctx context.Context, method, path, body string, headers ...string) (reply, error) {
	a := reply{t: t, call: method + " " + path, object: object{}}
	q, err := http.NewRequestWithContext(ctx, method, r.server.URL+path, strings.NewReader(body))
	if err != nil {
		return a, err
	}
	for i := 0; i < len(headers); i += 2 {
		q.Header.Set(headers[i], headers[i+1])
	}
	began := time.Now()
	res, err := r.http.Do(q)
	if err != nil {
		return a, err
	}
	defer res.Body.Close()
	a.status, a.header = res.StatusCode, res.Header
	a.raw, err = io.ReadAll(res.Body)
	a.took = time.Since(began)
	return a, err
}

// reply is an answer of the server.
type reply struct {
	t      testing.TB
	call   string
	status int
	header http.Header
	raw    []byte
	object object
	took   time.Duration
}

func (a *reply) errorf(format string, args ...any) {
	a.t.Helper()
	a.t.Errorf("%s: %s\n%d %s", a.call, fmt.Sprintf(format, args...), a.status, a.raw)
}

// check is what is true of every answer (§1.3, §1.4): HTTP 200, JSON, every value a string but biz_response, data, payment_list and
// wap_pay_request, and what the strict clients of §11 need: numeric amounts, known states.
func (a *reply) check() {
	a.t.Helper()
	if got := a.header.Get("Content-Type"); got != "application/json; charset=utf-8" {
		a.errorf("Content-Type: got %q", got)
	}
	if err := json.Unmarshal(a.raw, &a.object); err != nil {
		a.errorf("not JSON: %v", err)
		return
	}
	if a.status != http.StatusOK {
		return
	}
	switch a.envelope() {
	case "200", "400", "500":
	default:
		a.errorf("result_code")
	}
	for name, v := range a.object {
		if _, text := v.(string); !text && name != "biz_response" {
			a.errorf("%s is no string", name)
		}
	}
	if _, err := upay.DecodeEnvelope(a.raw); err != nil {
		a.errorf("%v", err)
	}
	for name, v := range a.data() {
		if _, text := v.(string); !text && name != "payment_list" && name != "wap_pay_request" {
			a.errorf("%s is no string", name)
		}
	}
}

func (a reply) envelope() string { s, _ := a.object["result_code"].(string); return s }

func (a reply) biz() object {
	b, _ := a.object["biz_response"].(map[string]any)
	return b
}

func (a reply) bizText(name string) string { s, _ := a.biz()[name].(string); return s }

func (a reply) outcome() string { return a.bizText("result_code") }

func (a reply) data() object {
	d, _ := a.biz()["data"].(map[string]any)
	return d
}

func (a reply) text(name string) string { s, _ := a.data()[name].(string); return s }

func (a reply) sn() string { return a.text("sn") }

// want compares business outcome, order_status and status; empty ones do not matter.
func (a reply) want(outcome upay.Outcome, order upay.OrderStatus, status upay.Status) reply {
	a.t.Helper()
	if a.envelope() != "200" || a.outcome() != string(outcome) {
		a.errorf("want %s", outcome)
	}
	if order != "" && a.text("order_status") != string(order) {
		a.errorf("want order_status %s", order)
	}
	if status != "" && a.text("status") != string(status) {
		a.errorf("want status %s", status)
	}
	return a
}

// wantFields compares members of data: pairs of names and values.
func (a reply) wantFields(pairs ...string) reply {
	a.t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if got := a.text(pairs[i]); got != pairs[i+1] {
			a.errorf("%s: got %q, want %q", pairs[i], got, pairs[i+1])
		}
	}
	return a
}

// wantCode also wants the business error code.
func (a reply) wantCode(code upay.ErrorCode) reply {
	a.t.Helper()
	if a.bizText("error_code") != string(code) {
		a.errorf("want error_code %s", code)
	}
	return a
}

// wantFail wants a refusal that leaves the order untouched.
func (a reply) wantFail(code upay.ErrorCode) reply {
	a.t.Helper()
	a.want(upay.Fail, "", "").wantCode(code)
	if d, ok := a.biz()["data"]; !ok || d != nil {
		a.errorf("want data null")
	}
	return a
}

// wantRefused wants a refusal of the request, whose message holds the words.
func (a reply) wantRefused(code upay.ErrorCode, words ...string) reply {
	a.t.Helper()
	want := "400"
	switch code {
	case upay.CodeUnknownSystem, upay.CodeRequestFail:
		want = "500"
	}
	if got, _ := a.object["error_code"].(string); a.status != http.StatusOK || a.envelope() != want || got != string(code) {
		a.errorf("want %s %s", want, code)
	}
	if biz, ok := a.object["biz_response"]; !ok || biz != nil {
		a.errorf("want biz_response null")
	}
	message, _ := a.object["error_message"].(string)
	for _, w := range words {
		if !strings.Contains(message, w) {
			a.errorf("want %q in the message", w)
		}
	}
	return a
}

// code is the sandbox's code of a wallet that shows a behaviour.
func code(provider, behaviour string) string {
	for _, c := range sandbox.WalletCodes() {
		if c.Provider == provider && c.Behaviour == behaviour {
			return c.Code
		}
	}
	panic("no code for " + provider + " " + behaviour)
}

// cents is the amount that shows a behaviour.
func cents(behaviour string) string {
	for _, t := range sandbox.Triggers() {
		if t.Behaviour == behaviour {
			return strings.ReplaceAll(t.Amount, ".", "")
		}
	}
	panic("no amount for " + behaviour)
}

// movement is a row of the sandbox's books.
type movement struct {
	Kind              string
	Reference         string
	OriginalReference string `json:"original_reference"`
	AmountMinor       int64  `json:"amount_minor"`
	State             string
}

func (m movement) String() string { return fmt.Sprintf("%s %d %s", m.Kind, m.AmountMinor, m.State) }

// books are the movements of a number and of its refunds, newest first; of all numbers for an empty one.
func (r *rig) books(t testing.TB, number string) []movement {
	t.Helper()
	res, err := r.http.Get(r.wallets.URL + "/books")
	if err != nil {
		t.Errorf("books: %v", err)
		return nil
	}
	defer res.Body.Close()
	var all, list []movement
	if err := json.NewDecoder(res.Body).Decode(&all); err != nil {
		t.Errorf("books: %v", err)
	}
	for _, m := range all {
		if number == "" || m.Reference == number || m.OriginalReference == number {
			list = append(list, m)
		}
	}
	return list
}

// wantBooks waits until the books show the movements, and reports what they show instead.
func (r *rig) wantBooks(t testing.TB, number string, want ...string) {
	t.Helper()
	var got string
	if !within(func() bool {
		got = fmt.Sprint(r.books(t, number))
		return got == "["+strings.Join(want, " ")+"]"
	}) {
		t.Errorf("books of %s: got %s, want %s", number, got, want)
	}
}

// within waits until done holds; false means that it did not in time.
func within(done func() bool) bool {
	for end := time.Now().Add(patience); !done(); {
		if time.Now().After(end) {
			return false
		}
		time.Sleep(5 * time.Millisecond)
	}
	return true
}

// phone plays the customer, who taps "approve" or "decline" on the wallet's page.
func (r *rig) phone(t testing.TB, page, tap string) *http.Response {
	t.Helper()
	res, err := r.http.Post(page+"/"+tap, "application/x-www-form-urlencoded", nil)
	if err != nil {
		t.Fatalf("phone: %v", err)
	}
	res.Body.Close()
	return res
}

// together runs fn n times at once.
func together(n int, fn func(i int)) {
	var all sync.WaitGroup
	var begin = make(chan struct{})
	for i := range n {
		all.Go(func() {
			<-begin
			fn(i)
		})
	}
	close(begin)
	all.Wait()
}

// later runs fn beside the test, which waits for what it returns.
func later(fn func() reply) <-chan reply {
	c := make(chan reply, 1)
	go func() { c <- fn() }()
	return c
}

var lastOrder atomic.Int64

// order is a new client_sn.
func order() string { return fmt.Sprintf("T20240601-%06d", lastOrder.Add(1)) }

package upp_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tillgate/tillgate/acquirer/wallet"
	"github.com/tillgate/tillgate/internal/access"
	"github.com/tillgate/tillgate/internal/park"
	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/protocol/upp"
	"github.com/tillgate/tillgate/sandbox"
	"github.com/tillgate/tillgate/sqlstore"
	"github.com/tillgate/tillgate/vault"
)

const (
	token       = "upp-token-of-harbour-outdoor-0001" // Merchant 740218, terminal 3.
	otherToken  = "upp-token-of-another-merchant-0002"
	publicToken = "public-token-0003"
	qfpayToken  = "token-of-another-protocol-0004"
	localToken  = "token-for-127.0.0.1-only-0005"
	remoteToken = "token-for-elsewhere-only-0006"
	bareToken   = "token-without-a-terminal-0007"
	nzToken     = "token-of-the-store-in-auckland-0008" // Merchant 740218, terminal 5.
	walletKey   = "bearer-key-of-the-wallet-network"

	plainCode = "289661544981076259" // The seed's: an ordinary Alipay code.

	patience = 30 * time.Second // For what must happen, on a machine that is busy.
)

var providers = []string{"afterpay", "alipay", "financialcard", "genoapay", "humm", "latitudepay", "unionpay", "wechat", "zippay"}

// rig is everything that a payment needs, on real sockets: the server of this package over the engine, the SQLite store and the link, and
// at the other end a wallet network that keeps its own books.
type rig struct {
	settings
	dir     string
	secret  string // Of the installation.
	clock   clock  // The engine's.
	logs    buffer // What all parts log.
	log     *slog.Logger
	tap     *tap
	network *sandbox.Network
	wallets *httptest.Server
	http    *http.Client

	merchant payment.MerchantID
	place    payment.ID
	terminal payment.ID
	ids      map[string]payment.ID // Credentials, by token.

	*node
}

// node is one life of the server process.
type node struct {
	store    *sqlstore.Store
	engine   *payment.Engine
	signal   *payment.LocalSignal
	server   *httptest.Server
	stopping chan struct{}
	stop     func() // Closing stopping, once.
	close    func()
}

// settings are what tests change.
type settings struct {
	pollWait, createWait time.Duration
	unparked             bool          // Polls wait in their handlers, as over TLS.
	linkTimeout          time.Duration // Short, so that what is never answered ends soon; but a busy machine must keep it.
	walletURL            string        // Instead of the sandbox's.
}

// setup starts all parts. What it starts ends with the test.
func setup(t *testing.T, change ...func(*settings)) *rig {
	t.Helper()
	r := &rig{settings: settings{linkTimeout: time.Second}, dir: t.TempDir(), ids: map[string]payment.ID{}}
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

func (r *rig) startSandbox(t *testing.T) {
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
	if r.walletURL == "" {
		r.walletURL = r.wallets.URL
	}
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

// enrol makes two merchants and their tokens.
func (r *rig) enrol(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	store, err := sqlstore.Open(ctx, sqlstore.Config{Dir: r.dir, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	methods := map[string]payment.Method{}
	for _, p := range providers {
		methods[p] = payment.Method{Acquirer: "wallet", Rate: payment.Rate{Millionths: 14_000}}
	}
	harbour, err := store.AddMerchant(ctx, payment.Merchant{PublicID: "740218", CompanyName: "Harbour Outdoor Pty Ltd",
		Name: "Harbour Outdoor Geelong", Currencies: []string{"AUD", "NZD"}, Methods: methods})
	must(err)
	other, err := store.AddMerchant(ctx, payment.Merchant{PublicID: "740219", CompanyName: "Quay Books Pty Ltd", Name: "Quay Books",
		Currencies: []string{"AUD"}, Methods: map[string]payment.Method{"alipay": methods["alipay"]}})
	must(err)
	place := func(m payment.MerchantID, tid, zone string) payment.Terminal {
		p, err := store.AddStore(ctx, m, payment.Place{PublicID: "store-" + tid, Name: "Store " + tid, Calendar: payment.Calendar{Zone: zone}})
		must(err)
		d, err := store.AddTerminal(ctx, m, payment.Terminal{PublicID: tid, Store: p.ID, Name: "Till " + tid})
		must(err)
		return d
	}
	till, otherTill := place(harbour.ID, "3", "Australia/Melbourne"), place(other.ID, "4", "Australia/Melbourne")
	nzTill := place(harbour.ID, "5", "Pacific/Auckland")
	r.merchant, r.place, r.terminal = harbour.ID, till.Store, till.ID
	for _, c := range []struct {
		token, protocol string
		merchant        payment.MerchantID
		terminal        payment.ID
		ips             string
	}{
		{token, upp.Protocol, harbour.ID, till.ID, ""},
		{otherToken, upp.Protocol, other.ID, otherTill.ID, ""},
		{publicToken, upp.PublicProtocol, harbour.ID, till.ID, ""},
		{qfpayToken, "qfpay", harbour.ID, till.ID, ""},
		{localToken, upp.Protocol, harbour.ID, till.ID, "203.0.113.0/24, 127.0.0.1"},
		{remoteToken, upp.Protocol, harbour.ID, till.ID, "203.0.113.0/24,2001:db8::1"},
		{bareToken, upp.Protocol, harbour.ID, 0, ""},
		{nzToken, upp.Protocol, harbour.ID, nzTill.ID, ""},
	} {
		added, err := store.AddCredential(ctx, payment.Credential{Protocol: c.protocol, Merchant: c.merchant, Terminal: c.terminal,
			Name: "back end", Profile: payment.Profile{AllowedIPs: c.ips}}, payment.CredentialHash(r.vault(), c.protocol, c.token))
		must(err)
		r.ids[c.token] = added.ID
	}
}

// open starts a server process on the data folder, and returns when it takes payments and hears the network's events.
func (r *rig) open(t *testing.T) {
	t.Helper()
	store, err := sqlstore.Open(t.Context(), sqlstore.Config{Dir: r.dir, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	r.tap = &tap{base: &http.Transport{MaxIdleConnsPerHost: 100}, following: make(chan struct{}), calls: map[string]int{}}
	link := &wallet.Link{Timeout: r.linkTimeout, Log: r.log,
		Client: &wallet.Client{BaseURL: r.walletURL, Key: walletKey, HTTP: &http.Client{Transport: r.tap}}}
	n := &node{store: store, signal: &payment.LocalSignal{}, stopping: make(chan struct{})}
	n.engine = payment.NewEngine(payment.Config{Store: store, Acquirers: map[string]payment.Acquirer{"wallet": link}, Vault: r.vault(),
		Signal: n.signal, Now: r.clock.now, Log: r.log})
	n.server = httptest.NewUnstartedServer(access.Log(r.log, func(string, int, time.Duration) {}, upp.Protocol,
		&upp.Server{Core: n.engine, Log: r.log, Stopping: n.stopping, PollWait: r.pollWait, CreateWait: r.createWait}))
	n.server.Config.ErrorLog = r.errorLog()
	wait := func() {}
	if !r.unparked {
		lot := park.New(n.server.Listener, time.Minute, r.log)
		n.server.Listener, n.server.Config.BaseContext, wait = lot, lot.Context, lot.Wait
	}
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
		wait()
		cancel()
		parts.Wait()
		r.tap.base.CloseIdleConnections()
		if err := store.Close(); err != nil {
			t.Errorf("close store: %v", err)
		}
	})
	r.node = n
	<-n.engine.Ready()
	if r.walletURL == r.wallets.URL {
		<-r.tap.following
	}
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

// hold stops the clock at a time: nothing comes due by itself any more.
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

// tap is on the line between the link and the wallet network: it counts calls and can keep answers back.
type tap struct {
	base      *http.Transport
	once      sync.Once
	following chan struct{} // Closed when the link has heard where the events stand: from then on none is missed.

	mu    sync.Mutex
	calls map[string]int // By method and the first two parts of the path.
	// keep says whether an answer is lost: the network has acted, and the link's patience runs out.
	keep func(call string) bool
}

func (p *tap) RoundTrip(q *http.Request) (*http.Response, error) {
	parts := strings.Split(q.URL.Path, "/")
	call := q.Method + " " + parts[2]
	if len(parts) > 4 {
		call += " " + parts[4]
	}
	p.mu.Lock()
	p.calls[call]++
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

func (p *tap) count(call string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls[call]
}

func (p *tap) lose(keep func(call string) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.keep = keep
}

// object is a JSON object; numbers are json.Number.
type object map[string]any

// purchase is the seed's customer-presented purchase of 86.40 AUD, with changes: pairs of names and values. A nil value takes the name out.
func purchase(reference string, changes ...any) object {
	return changed(object{"transactionType": "purchase", "transactionReference": reference, "amount": json.Number("86.4"), "currency": "aud",
		"provider": "alipay", "saleType": "customerPresentedToken", "customerToken": plainCode, "items": basket()}, changes)
}

// qr is a merchant-presented purchase of 24.50 AUD.
func qr(reference string, changes ...any) object {
	q := changed(purchase(reference, "saleType", "merchantPresentedToken", "amount", json.Number("24.5"), "customerToken", nil), changes)
	return q
}

// refundOf is a refund of 20 AUD.
func refundOf(original, reference string, changes ...any) object {
	return changed(object{"transactionType": "refund", "transactionReference": reference, "amount": json.Number("20"), "currency": "aud",
		"originalTransactionReference": original, "refundReason": "faulty"}, changes)
}

func basket() []any {
	return []any{object{"type": "sku", "itemReference": "UMB-01", "name": "Umbrella", "amount": json.Number("24.5"), "quantity": json.Number("1")}}
}

func changed(o object, changes []any) object {
	for i := 0; i < len(changes); i += 2 {
		name := changes[i].(string)
		if changes[i+1] == nil {
			delete(o, name)
			continue
		}
		o[name] = changes[i+1]
	}
	return o
}

func (o object) json() string {
	text, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// code is the sandbox's code of a provider that shows a behaviour.
func code(provider, behaviour string) string {
	for _, c := range sandbox.WalletCodes() {
		if c.Provider == provider && c.Behaviour == behaviour {
			return c.Code
		}
	}
	panic("no code for " + provider + " " + behaviour)
}

// amountFor is the amount that shows a behaviour.
func amountFor(behaviour string) json.Number {
	for _, t := range sandbox.Triggers() {
		if t.Behaviour == behaviour {
			return json.Number(t.Amount)
		}
	}
	panic("no amount for " + behaviour)
}

// till calls the server as a merchant's back end.
type till struct {
	t     testing.TB
	r     *rig
	token string
	path  string // In front of /transactions.
}

func (r *rig) till(t testing.TB) *till { return &till{t, r, token, "/v1"} }

func (c *till) as(token string) *till {
	other := *c
	other.token = token
	return &other
}

func (c *till) under(path string) *till {
	other := *c
	other.path = path
	return &other
}

func (c *till) create(body object) reply {
	c.t.Helper()
	return c.post("/transactions", body.json())
}

func (c *till) post(path, body string) reply {
	c.t.Helper()
	return c.do(http.MethodPost, c.path+path, body, "Content-Type", "application/json")
}

func (c *till) fetch(reference string) reply {
	c.t.Helper()
	return c.do(http.MethodGet, c.path+"/transactions/"+escape(reference), "")
}

func (c *till) poll(reference string) reply {
	c.t.Helper()
	return c.do(http.MethodGet, c.path+"/transactions/"+escape(reference)+"?waitForCompletion=true", "")
}

func (c *till) cancel(reference string) reply {
	c.t.Helper()
	return c.post("/transactions/"+escape(reference)+"/cancel", "{}")
}

// final polls until the result is there, as a back end must.
func (c *till) final(reference string) reply {
	c.t.Helper()
	for end := time.Now().Add(patience); ; {
		a := c.poll(reference)
		if a.status != http.StatusAccepted || time.Now().After(end) {
			return a.want(http.StatusOK)
		}
	}
}

// escape makes a path segment; one of dots would be taken for a folder.
func escape(reference string) string {
	if strings.Trim(reference, ".") == "" {
		return strings.ReplaceAll(reference, ".", "%2E")
	}
	return url.PathEscape(reference)
}

// do makes one call and holds the answer against all that is true of every answer. It never ends the test, so goroutines may call it.
func (c *till) do(method, path, body string, headers ...string) reply {
	c.t.Helper()
	a, err := c.try(c.t.Context(), method, path, body, headers...)
	if err != nil {
		c.t.Errorf("%s %s: %v", method, path, err)
		return a
	}
	a.check()
	return a
}

// try makes one call and reads the answer.
func (c *till) try(ctx context.Context, method, path, body string, headers ...string) (reply, error) {
	a := reply{t: c.t, call: method + " " + path, object: object{}}
	q, err := http.NewRequestWithContext(ctx, method, c.r.server.URL+path, strings.NewReader(body))
	if err != nil {
		return a, err
	}
	if c.token != "" {
		q.Header.Set("Authorization", "Bearer "+c.token)
	}
	for i := 0; i < len(headers); i += 2 {
		q.Header.Set(headers[i], headers[i+1])
	}
	began := time.Now()
	res, err := c.r.http.Do(q)
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

// check is A08 and more: JSON always, no null anywhere, a failure outside 2xx, and else a transaction as §3.1 and §4 have it.
func (a *reply) check() {
	a.t.Helper()
	if got := a.header.Get("Content-Type"); got != "application/json" {
		a.errorf("Content-Type: got %q", got)
	}
	if strings.HasPrefix(a.call, "HEAD ") {
		return
	}
	d := json.NewDecoder(bytes.NewReader(a.raw))
	d.UseNumber()
	if err := d.Decode(&a.object); err != nil || d.Decode(new(any)) != io.EOF {
		a.errorf("not one JSON object: %v", err)
		return
	}
	if path := findNull("", map[string]any(a.object)); path != "" {
		a.errorf("null at %s", path)
	}
	switch {
	case a.status >= 500:
		a.errorf("failed")
	case a.status >= 400:
		if a.text("failure") == "" || a.text("failureDescription") == "" || len(a.object) != 2 {
			a.errorf("want failure and failureDescription, nothing else")
		}
	default:
		if _, err := upp.DecodeTransaction(a.raw); err != nil {
			a.errorf("%v", err)
		}
		checkTransaction(a)
	}
}

func findNull(path string, v any) string {
	switch v := v.(type) {
	case nil:
		return path
	case map[string]any:
		for name, m := range v {
			if p := findNull(path+"."+name, m); p != "" {
				return p
			}
		}
	case []any:
		for i, e := range v {
			if p := findNull(fmt.Sprintf("%s[%d]", path, i), e); p != "" {
				return p
			}
		}
	}
	return ""
}

func (a reply) text(name string) string {
	s, _ := a.object[name].(string)
	return s
}

// number is a number's text, as it is on the wire.
func (a reply) number(name string) string {
	n, _ := a.object[name].(json.Number)
	return n.String()
}

func (a reply) millis(name string) int64 {
	a.t.Helper()
	n, err := json.Number(a.number(name)).Int64()
	if err != nil {
		a.errorf("%s is no integer", name)
	}
	return n
}

func (a reply) out() string { return a.text("outTradeNumber") }

func (a reply) want(status int) reply {
	a.t.Helper()
	if a.status != status {
		a.errorf("want %d", status)
	}
	return a
}

// wantFailure also wants the description to hold the words.
func (a reply) wantFailure(status int, failure string, words ...string) reply {
	a.t.Helper()
	a.want(status)
	if a.text("failure") != failure {
		a.errorf("want failure %s", failure)
	}
	for _, w := range words {
		if !strings.Contains(a.text("failureDescription"), w) {
			a.errorf("want %q in the description", w)
		}
	}
	return a
}

// state is the transaction's state of §4.
func (a reply) state() string {
	approved, present := a.object["approved"]
	switch {
	case a.object["cancelled"] == true:
		return "cancelled"
	case !present:
		return "pending"
	case approved == true:
		return "approved"
	}
	return "declined"
}

func (a reply) wantState(state string) reply {
	a.t.Helper()
	a.want(http.StatusOK)
	if a.state() != state {
		a.errorf("got %s, want %s", a.state(), state)
	}
	return a
}

func (a reply) wantDeclined(failure string) reply {
	a.t.Helper()
	a.wantState("declined")
	if a.text("failure") != failure {
		a.errorf("want failure %s", failure)
	}
	return a
}

// wantKeys compares the members with a list.
func (a reply) wantKeys(want ...string) reply {
	a.t.Helper()
	got, want := slices.Sorted(maps.Keys(a.object)), slices.Sorted(slices.Values(want))
	if !slices.Equal(got, want) {
		missing := slices.DeleteFunc(slices.Clone(want), func(k string) bool { return slices.Contains(got, k) })
		extra := slices.DeleteFunc(slices.Clone(got), func(k string) bool { return slices.Contains(want, k) })
		a.errorf("members missing: %v; that should not be there: %v", missing, extra)
	}
	return a
}

// movement is a row of the sandbox's books.
type movement struct {
	Kind              string
	Reference         string
	OriginalReference string `json:"original_reference"`
	AmountMinor       int64  `json:"amount_minor"`
	Currency          string
	State             string
}

func (m movement) String() string {
	return fmt.Sprintf("%s %d %s %s", m.Kind, m.AmountMinor, m.Currency, m.State)
}

// books are the movements of a number, newest first; of all numbers for an empty one.
func (r *rig) books(t testing.TB, number string) []movement {
	t.Helper()
	res, err := r.http.Get(r.wallets.URL + "/books?reference=" + url.QueryEscape(number))
	if err != nil {
		t.Errorf("books: %v", err)
		return nil
	}
	defer res.Body.Close()
	var list []movement
	if err := json.NewDecoder(res.Body).Decode(&list); err != nil {
		t.Errorf("books: %v", err)
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

// wantRefunded waits until the refunds of a payment add up.
func (r *rig) wantRefunded(t testing.TB, original string, wantMinor int64, wantCount int) {
	t.Helper()
	var sum int64
	var count int
	if !within(func() bool {
		sum, count = 0, 0
		for _, m := range r.books(t, "") {
			if m.Kind == "refund" && m.OriginalReference == original {
				sum, count = sum+m.AmountMinor, count+1
			}
		}
		return sum == wantMinor && count == wantCount
	}) {
		t.Errorf("refunds of %s: got %d in %d, want %d in %d", original, sum, count, wantMinor, wantCount)
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

// phone plays the customer, who scanned a QR code and taps "approve" or "decline".
func (r *rig) phone(t testing.TB, qr, tap string) int {
	t.Helper()
	res, err := r.http.Post(qr+"/"+tap, "application/x-www-form-urlencoded", nil)
	if err != nil {
		t.Errorf("phone: %v", err)
		return 0
	}
	defer res.Body.Close()
	return res.StatusCode
}

// waiting waits until so many polls are held.
func (r *rig) waiting(t testing.TB, polls int) {
	t.Helper()
	if !within(func() bool { return r.signal.Waiting() == polls }) {
		t.Errorf("polls held: got %d, want %d", r.signal.Waiting(), polls)
	}
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

var lastReference atomic.Int64

// reference is a new one.
func reference() string { return fmt.Sprintf("store12-pos3-%06d", lastReference.Add(1)) }

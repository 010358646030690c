package iotpay_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
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
	"github.com/tillgate/tillgate/card"
	"github.com/tillgate/tillgate/internal/access"
	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/protocol/iotpay"
	"github.com/tillgate/tillgate/sandbox"
	"github.com/tillgate/tillgate/sqlstore"
	"github.com/tillgate/tillgate/vault"
)

const (
	mchID      = "10009901"
	otherMchID = "10009902"
	keyText    = "iotpay-test-key-0123456789ABCDEF" // The reference's, for all vectors.
	oldKeyText = "the-key-that-is-being-replaced-0"
	otherKey   = "the-key-of-another-merchant-0001"
	loginName  = "cashier01"
	walletKey  = "bearer-key-of-the-wallet-network"

	pan = "4242424242424242"

	patience = 30 * time.Second // For what must happen, on a machine that is busy.
)

var cad = money.MustCurrency("CAD")

func mustKey(text string) iotpay.Key {
	k, err := iotpay.NewKey(text)
	if err != nil {
		panic(err)
	}
	return k
}

// rig is everything that an order needs: the server of this package over the engine, the SQLite store, the wallet link with the sandbox's
// network at its end, a card host and a terminal that do as scripts say.
type rig struct {
	settings
	dir     string
	secret  string
	clock   clock
	logs    buffer
	log     *slog.Logger
	network *sandbox.Network
	wallets *httptest.Server
	http    *http.Client
	host    *cardHost
	pad     *pinpad

	merchants map[string]payment.Merchant // By mchId.
	callers   map[string]payment.Caller   // By mchId and login.
	disabled  sync.Map                    // mchIds.

	*node
}

// settings are what tests change.
type settings struct {
	hold, createWait time.Duration
	strict           bool
	noTerminals      bool
	target           func(string) error
	ips              string
}

// node is one life of the server process.
type node struct {
	store    *sqlstore.Store
	engine   *payment.Engine
	server   *httptest.Server
	iot      *iotpay.Server
	stopping chan struct{}
	stop     func()
	close    func()
}

func setup(t *testing.T, change ...func(*settings)) *rig {
	t.Helper()
	r := &rig{settings: settings{hold: patience, target: func(string) error { return nil }}, dir: t.TempDir(),
		merchants: map[string]payment.Merchant{}, callers: map[string]payment.Caller{}}
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
	r.http = &http.Client{Transport: transport, Timeout: 2 * patience}
	t.Cleanup(transport.CloseIdleConnections)
	r.host = &cardHost{approved: map[string]int64{}, reversed: map[string]bool{}, refunds: map[string]int64{}}
	r.pad = &pinpad{r: r}
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
	r.wallets = httptest.NewServer(r.network.Handler())
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

func (r *rig) vault() *vault.Vault {
	v, err := vault.New(r.secret)
	if err != nil {
		panic(err)
	}
	return v
}

// enrol makes two Canadian merchants, each with a store in Vancouver and a terminal.
func (r *rig) enrol(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	store, err := sqlstore.Open(ctx, sqlstore.Config{Dir: r.dir, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	methods := map[string]payment.Method{iotpay.MethodCard: {Acquirer: "cards", Rate: payment.Rate{Millionths: 20_000}}}
	for _, w := range []string{"alipay", "wechat", "unionpay"} {
		methods[w] = payment.Method{Acquirer: "wallet", Rate: payment.Rate{Millionths: 14_000}}
	}
	for i, id := range []string{mchID, otherMchID} {
		m, err := store.AddMerchant(ctx, payment.Merchant{PublicID: id, CompanyName: "Demo Bistro Inc", Name: "Demo Bistro " + id,
			Currencies: []string{"CAD"}, Methods: methods})
		if err != nil {
			t.Fatal(err)
		}
		p, err := store.AddStore(ctx, m.ID, payment.Place{PublicID: fmt.Sprintf("st%ddemo01", i), Name: "Bistro",
			Calendar: payment.Calendar{Zone: "America/Vancouver"}})
		if err != nil {
			t.Fatal(err)
		}
		d, err := store.AddTerminal(ctx, m.ID, payment.Terminal{PublicID: fmt.Sprintf("4099000%d", i+1), Store: p.ID, Name: "PAX"})
		if err != nil {
			t.Fatal(err)
		}
		credential, err := store.AddCredential(ctx, payment.Credential{Protocol: iotpay.Protocol, Merchant: m.ID, Terminal: d.ID, Name: loginName},
			payment.CredentialHash(r.vault(), iotpay.Protocol, id+loginName))
		if err != nil {
			t.Fatal(err)
		}
		r.merchants[id] = m
		r.callers[id+loginName] = payment.Caller{Credential: credential, Merchant: m, Store: p, Terminal: d}
		bare := r.callers[id+loginName]
		bare.Terminal = payment.Terminal{}
		r.callers[id] = bare
		r.callers[id+"backoffice"] = bare
	}
}

// Account and Login make the rig the accounts of this protocol.
func (r *rig) Account(_ context.Context, id string) (iotpay.Account, error) {
	m, ok := r.merchants[id]
	if !ok {
		return iotpay.Account{}, payment.ErrNotFound
	}
	if _, disabled := r.disabled.Load(id); disabled {
		return iotpay.Account{}, payment.ErrForbidden
	}
	keys := []iotpay.Key{mustKey(keyText), mustKey(oldKeyText)}
	if id == otherMchID {
		keys = []iotpay.Key{mustKey(otherKey)}
	}
	return iotpay.Account{Merchant: m.ID, Keys: keys, AllowedIPs: r.ips}, nil
}

func (r *rig) Login(_ context.Context, id, login, _ string) (payment.Caller, error) {
	c, ok := r.callers[id+login]
	if !ok {
		return payment.Caller{}, payment.ErrUnauthorized
	}
	return c, nil
}

// open starts a server process on the data folder.
func (r *rig) open(t *testing.T) {
	t.Helper()
	store, err := sqlstore.Open(t.Context(), sqlstore.Config{Dir: r.dir, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	link := &wallet.Link{Timeout: time.Second, Log: r.log, Client: &wallet.Client{BaseURL: r.wallets.URL, Key: walletKey, HTTP: &http.Client{}}}
	n := &node{store: store, stopping: make(chan struct{})}
	n.engine = payment.NewEngine(payment.Config{Store: store, Acquirers: map[string]payment.Acquirer{"wallet": link, "cards": r.host},
		Vault: r.vault(), Signal: &payment.LocalSignal{}, Now: r.clock.now, Log: r.log, Notices: iotpay.Notices})
	n.iot = &iotpay.Server{Core: n.engine, Books: store, Accounts: r, Terminals: r.pad, Log: r.log, Stopping: n.stopping, Strict: r.strict,
		CheckTarget: r.target, Hold: r.hold, CreateWait: r.createWait, Now: r.clock.now}
	if r.noTerminals {
		n.iot.Terminals = nil
	}
	n.server = httptest.NewServer(access.Log(r.log, func(string, int, time.Duration) {}, iotpay.Protocol, n.iot))

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
		n.iot.Wait()
		cancel()
		parts.Wait()
		if err := store.Close(); err != nil {
			t.Errorf("close store: %v", err)
		}
	})
	r.node = n
	<-n.engine.Ready()
}

// reopen lets the server process end and another begin.
func (r *rig) reopen(t *testing.T) {
	t.Helper()
	r.close()
	r.open(t)
}

// clock is time that can be moved.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time       { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) pass(d time.Duration) { c.ahead.Add(int64(d)) }

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

// cardHost is an acquirer that does as its script says and keeps books: the witness of what has moved.
type cardHost struct {
	mu       sync.Mutex
	script   func(payment.Message) (answer payment.Answer, moved bool) // Of sales; nil approves.
	decline  bool                                                      // Of refunds.
	hang     chan struct{}                                             // Sales wait for it, when set.
	sales    int
	approved map[string]int64
	reversed map[string]bool
	refunds  map[string]int64
	mute     atomic.Int64 // So many refunds are lost on their way.
}

const hostTimeout = 2 * time.Second

func (*cardHost) Traits() payment.Traits {
	return payment.Traits{Class: payment.CardHost, Timeout: hostTimeout,
		Number: func(id payment.ID, _ time.Time) string { return fmt.Sprintf("6060%08d", int64(id)) }}
}

func (h *cardHost) Do(ctx context.Context, m payment.Message) payment.Answer {
	h.mu.Lock()
	script, hang := h.script, h.hang
	h.mu.Unlock()
	yes := payment.Answer{Outcome: payment.OutcomeApproved, Result: payment.Result{AuthCode: "A1B2C3", Code: "00"}}
	switch m.Operation.Kind {
	case payment.Sale:
		h.mu.Lock()
		h.sales++
		h.mu.Unlock()
		if hang != nil {
			select {
			case <-hang:
			case <-ctx.Done():
				return payment.Answer{Outcome: payment.OutcomeUnknown}
			}
		}
		answer, moved := yes, true
		if script != nil {
			answer, moved = script(m)
		}
		if moved {
			h.mu.Lock()
			h.approved[m.Operation.Number] = m.Operation.Amount.Minor()
			h.mu.Unlock()
		}
		return answer
	case payment.Refund:
		if h.mute.Add(-1) >= 0 {
			<-ctx.Done()
			return payment.Answer{Outcome: payment.OutcomeUnknown}
		}
		if h.decline {
			return payment.Answer{Outcome: payment.OutcomeDeclined, Reason: payment.ReasonNotPermitted, Text: "No refunds on this card."}
		}
		h.mu.Lock()
		h.refunds[m.Operation.Number] = m.Operation.Amount.Minor()
		h.mu.Unlock()
	case payment.Reversal, payment.VoidOperation, payment.CancelOperation:
		h.mu.Lock()
		h.reversed[m.Target.Number] = true
		h.mu.Unlock()
	}
	return yes
}

func (*cardHost) Query(context.Context, payment.Message) payment.Answer {
	return payment.Answer{Outcome: payment.OutcomeUnknown}
}

// moved is what the cards were charged in sum.
func (h *cardHost) moved() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	var sum int64
	for number, minor := range h.approved {
		if !h.reversed[number] {
			sum += minor
		}
	}
	for _, minor := range h.refunds {
		sum -= minor
	}
	return sum
}

func (h *cardHost) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.sales
}

func (h *cardHost) answers(script func(payment.Message) (payment.Answer, bool)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.script = script
}

func (h *cardHost) declines(reason payment.Reason, code string) {
	h.answers(func(payment.Message) (payment.Answer, bool) {
		return payment.Answer{Outcome: payment.OutcomeDeclined, Reason: reason, Text: "Declined.", Result: payment.Result{Code: code}}, false
	})
}

// pinpad is a terminal that does as its script says.
type pinpad struct {
	r      *rig
	mu     sync.Mutex
	script func(ctx context.Context, c payment.Caller, p payment.Payment) (iotpay.Report, error)
	orders atomic.Int64
}

func (d *pinpad) Sale(ctx context.Context, c payment.Caller, p payment.Payment) (iotpay.Report, error) {
	d.orders.Add(1)
	d.mu.Lock()
	script := d.script
	d.mu.Unlock()
	if script == nil {
		script = d.tap
	}
	return script(ctx, c, p)
}

func (d *pinpad) does(script func(ctx context.Context, c payment.Caller, p payment.Payment) (iotpay.Report, error)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.script = script
}

// tap is a customer who inserts a Visa card at once, and a terminal that does all there is to do.
func (d *pinpad) tap(ctx context.Context, c payment.Caller, p payment.Payment) (iotpay.Report, error) {
	if _, err := d.attempt(c, p); err != nil {
		return iotpay.Report{}, err
	}
	return chipReport(), nil
}

// attempt is what the server's side of the terminal's link does when the card is read.
func (d *pinpad) attempt(c payment.Caller, p payment.Payment) (payment.View, error) {
	number, err := card.ParsePAN(pan)
	if err != nil {
		return payment.View{}, err
	}
	expiry, err := card.ParseYYMM("2812")
	if err != nil {
		return payment.View{}, err
	}
	return d.r.engine.Attempt(context.Background(), payment.AttemptCommand{Caller: c, Payment: p.ID, Wait: patience, Instrument: &payment.Card{
		PAN: number, Expiry: expiry, Entry: payment.EntryChip, Verification: payment.VerifiedByPIN, TID: c.Terminal.PublicID, STAN: "000412"}})
}

// chipReport is the reference's approved example (§3.1).
func chipReport() iotpay.Report {
	expiry, _ := card.ParseYYMM("2812")
	return iotpay.Report{Scheme: card.Visa, Masked: "424242******4242", Entry: payment.EntryChip, Expiry: expiry, Label: "VISA CREDIT",
		AID: "A0000000031010", TVR: "0080008000", TSI: "F800", CVM: "440302", CryptogramType: "TC", Cryptogram: "1A2B3C4D5E6F7081",
		Invoice: "000412", Sequence: "000001000412", Batch: "0031", At: time.Date(2026, 3, 1, 9, 0, 7, 0, time.UTC)}
}

// fields are the parameters of a request.
type fields map[string]any

func changed(f fields, changes []any) fields {
	for i := 0; i < len(changes); i += 2 {
		name := changes[i].(string)
		if changes[i+1] == nil {
			delete(f, name)
			continue
		}
		f[name] = changes[i+1]
	}
	return f
}

// cardOrder is the reference's S3, under a number of its own, with changes: pairs of names and values. A nil value takes the name out.
func cardOrder(number string, changes ...any) fields {
	return changed(fields{"mchId": mchID, "mchOrderNo": number, "channelId": "CC_PAX", "currency": "CAD", "amount": "2865", "clientIp": "192.0.2.15",
		"device": "POS01", "notifyUrl": "http://localhost", "subject": "Table 12", "body": "Dinner",
		"extra": `{"pos_flag":"yes","productId":"10009901_null"}`, "jobNo": loginName, "source": "pos_2.1.54", "tip": "0"}, changes)
}

// scanOrder is the reference's S11.
func scanOrder(number string, changes ...any) fields {
	return changed(fields{"mchId": mchID, "mchOrderNo": number, "channelId": "WX_MICROPAY", "currency": "CAD", "amount": 550, "clientIp": "192.0.2.15",
		"device": "V1-B18", "deviceId": "V1DEMO0001", "codeType": "barcode", "identityCode": "134567890123456789", "notifyUrl": "http://localhost",
		"subject": "Coffee", "body": "1 latte", "jobNo": loginName}, changes)
}

// qrOrder is the reference's S12.
func qrOrder(number string, changes ...any) fields {
	return changed(fields{"mchId": mchID, "mchOrderNo": number, "channelId": "WX_NATIVE", "currency": "CAD", "amount": 550, "clientIp": "192.0.2.15",
		"device": "WEB", "extra": `{"productId":"A-100"}`, "notifyUrl": "https://shop.example/iotpay/notify", "subject": "Coffee", "body": "1 latte",
		"jobNo": loginName, "param2": "tbl-7"}, changes)
}

func refundOf(payOrderID, number string, cents int64, changes ...any) fields {
	return changed(fields{"mchId": mchID, "mchRefundNo": number, "refundAmount": cents, "clientIp": "192.0.2.15", "loginName": loginName,
		"payOrderId": payOrderID, "device": ""}, changes)
}

// sign is the test's own signature: by its own code, so that a mistake cannot agree with itself.
func sign(f fields, key string) fields {
	f["sign"] = ownSign(f, key)
	return f
}

func (f fields) json() string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(f); err != nil {
		panic(err)
	}
	return strings.TrimSpace(b.String())
}

// till calls the server.
type till struct {
	t   testing.TB
	r   *rig
	key string
}

func (r *rig) till(t testing.TB) *till { return &till{t, r, keyText} }

func (c *till) as(key string) *till { return &till{c.t, c.r, key} }

func (c *till) create(f fields) reply { c.t.Helper(); return c.call("/v1/create_order", f) }

func (c *till) query(number string) reply {
	c.t.Helper()
	return c.call("/v1/query_order", fields{"mchId": mchID, "mchOrderNo": number, "payOrderId": ""})
}

func (c *till) refund(f fields) reply { c.t.Helper(); return c.call("/v1/refund_order", f) }

// call signs and sends parameters, and reads an answer.
func (c *till) call(path string, f fields) reply {
	c.t.Helper()
	return c.post(path, "params="+url.QueryEscape(sign(f, c.key).json()))
}

func (c *till) post(path, body string) reply {
	c.t.Helper()
	return c.do(c.t.Context(), http.MethodPost, path, body, "application/x-www-form-urlencoded")
}

// do never ends the test, so goroutines may call it.
func (c *till) do(ctx context.Context, method, path, body, media string) reply {
	c.t.Helper()
	a := reply{t: c.t}
	q, err := http.NewRequestWithContext(ctx, method, c.r.server.URL+path, strings.NewReader(body))
	if err != nil {
		c.t.Errorf("%s: %v", path, err)
		return a
	}
	q.Header.Set("Content-Type", media)
	res, err := c.r.http.Do(q)
	if err != nil {
		if ctx.Err() == nil {
			c.t.Errorf("%s: %v", path, err)
		}
		return a
	}
	defer res.Body.Close()
	a.status = res.StatusCode
	if a.body, err = io.ReadAll(res.Body); err != nil {
		c.t.Errorf("%s: %v", path, err)
	}
	if a.status != http.StatusOK {
		return a
	}
	if got := res.Header.Get("Content-Type"); got != "application/json;charset=UTF-8" {
		a.errorf("Content-Type %q", got)
	}
	d := json.NewDecoder(bytes.NewReader(a.body))
	d.UseNumber()
	if err := d.Decode(&a.all); err != nil {
		a.errorf("not JSON: %v", err)
	}
	a.checkSignature(c.key)
	return a
}

// reply is an answer.
type reply struct {
	t      testing.TB
	status int
	body   []byte
	all    map[string]any
}

func (a reply) errorf(format string, args ...any) {
	a.t.Helper()
	a.t.Errorf("%s\nanswer: %d %s", fmt.Sprintf(format, args...), a.status, a.body)
}

// checkSignature holds the answer's signature against the bytes of its body (variant N), by the test's own code.
func (a reply) checkSignature(key string) {
	a.t.Helper()
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(a.body, &raw); err != nil {
		return
	}
	got := a.text("sign")
	if got == "" {
		if a.text("retCode") == "SUCCESS" {
			a.errorf("not signed")
		}
		return
	}
	f := fields{}
	for name, v := range raw {
		var text string
		if json.Unmarshal(v, &text) != nil {
			text = string(v)
		}
		f[name] = text
	}
	if want := ownSign(f, key); got != want {
		a.errorf("sign %s, want %s", got, want)
	}
}

func (a reply) text(name string) string {
	if v, ok := a.all[name]; ok && v != nil {
		return fmt.Sprint(v)
	}
	return ""
}

// ok wants both codes to be SUCCESS.
func (a reply) ok() reply {
	a.t.Helper()
	if a.status != http.StatusOK || a.text("retCode") != "SUCCESS" || a.text("resCode") != "SUCCESS" {
		a.errorf("want SUCCESS")
	}
	return a
}

// refused wants a failure on both levels, with a code.
func (a reply) refused(code iotpay.Code) reply {
	a.t.Helper()
	if a.status != http.StatusOK || a.text("retCode") != "FAIL" || a.text("resCode") != "FAIL" || a.text("errCode") != string(code) ||
		a.text("retMsg") == "" || a.text("errCodeDes") == "" {
		a.errorf("want FAIL %s", code)
	}
	if a.all["payOrder"] != nil {
		a.errorf("a failure with an order")
	}
	return a
}

func (a reply) order() *iotpay.PayOrder {
	a.t.Helper()
	var raw struct{ PayOrder json.RawMessage }
	if err := json.Unmarshal(a.body, &raw); err != nil || raw.PayOrder == nil {
		a.errorf("no payOrder")
		return &iotpay.PayOrder{}
	}
	o, err := iotpay.ParsePayOrder(raw.PayOrder)
	if err != nil {
		a.errorf("payOrder: %v", err)
		return &iotpay.PayOrder{}
	}
	return o
}

func (a reply) card() *iotpay.Extra {
	a.t.Helper()
	x, err := a.order().Card()
	if err != nil {
		a.errorf("extra: %v", err)
		return &iotpay.Extra{}
	}
	return x
}

// is wants an order with a status.
func (a reply) is(want iotpay.Status) reply {
	a.t.Helper()
	a.ok()
	if got := a.order().Status; got != want {
		a.errorf("status %d, want %d", got, want)
	}
	return a
}

// says wants an order's receiptDisp.
func (a reply) says(want string) reply {
	a.t.Helper()
	if got := a.card().ReceiptDisp; got != want {
		a.errorf("receiptDisp %q, want %q", got, want)
	}
	return a
}

// until asks until the order has a status.
func (c *till) until(number string, want iotpay.Status) reply {
	c.t.Helper()
	var a reply
	if !within(func() bool {
		a = c.query(number)
		return a.all["payOrder"] != nil && a.order().Status == want
	}) {
		a.errorf("never status %d", want)
	}
	return a
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

// later runs fn beside the test, which waits for what it returns.
func later(fn func() reply) <-chan reply {
	c := make(chan reply, 1)
	go func() { c <- fn() }()
	return c
}

var lastNumber atomic.Int64

// number is a new order number.
func number() string { return fmt.Sprintf("POS2026%010d", lastNumber.Add(1)) }

// code is the sandbox's code of a wallet that shows a behaviour.
func code(provider, behaviour string) string {
	for _, c := range sandbox.WalletCodes() {
		if c.Provider == provider && c.Behaviour == behaviour {
			return c.Code
		}
	}
	panic("no code for " + provider + " " + behaviour)
}

// cents is the amount that shows a behaviour of the sandbox.
func cents(behaviour string) int64 {
	for _, t := range sandbox.Triggers() {
		if t.Behaviour == behaviour {
			a, err := money.Parse(t.Amount, cad)
			if err != nil {
				panic(err)
			}
			return a.Minor()
		}
	}
	panic("no amount for " + behaviour)
}

// phone plays the customer who scanned a QR code.
func (r *rig) phone(t testing.TB, qr, tap string) {
	t.Helper()
	res, err := r.http.Post(qr+"/"+tap, "application/x-www-form-urlencoded", nil)
	if err != nil {
		t.Errorf("phone: %v", err)
		return
	}
	res.Body.Close()
}

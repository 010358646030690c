package uqpay_test

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
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tillgate/tillgate/card"
	"github.com/tillgate/tillgate/emv"
	"github.com/tillgate/tillgate/internal/access"
	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/protocol/uqpay"
	"github.com/tillgate/tillgate/sqlstore"
	"github.com/tillgate/tillgate/terminal"
	"github.com/tillgate/tillgate/vault"
)

const (
	clientID, apiKey     = "demo-client", "key-of-the-demo-client-0001"
	secondKey            = "key-of-the-demo-client-0002" // Both are good while keys are changed.
	otherID, otherKey    = "other-client", "key-of-the-other-client-0003"
	strictID, strictKey  = "strict-client", "key-of-the-strict-client-0004" // RFC 3339, lower-case UUIDs, several tokens, voids, no rate limit.
	noPOSID, noPOSKey    = "no-pos-client", "key-of-the-client-without-pos-0005"
	remoteID, remoteKey  = "remote-client", "key-of-the-remote-client-0006"
	schemeID, schemeKey  = "scheme-client", "key-of-the-scheme-client-0007" // Takes Visa only.
	subAccount           = "5d2e9d9a-64b4-4e27-9f2f-0c5a7f7a0101"
	disabledAccount      = "5d2e9d9a-64b4-4e27-9f2f-0c5a7f7a0102"
	webhookSecret        = "whsec_demo_0001"
	seedPAN, seedExpiry  = "5554748800161559", "2707" // UQPAY seed, 7.1.
	seedPIN              = "302312"
	patience             = 30 * time.Second
	chipTags             = "9F02060000000012509F1A0207025F2A0207029A032602039C01005F340101"
	requestProcessing    = "Request is processing, please try again later."
	defaultAmount        = "12.50"
	defaultOrder         = "T301-20260203-0007"
	defaultDescription   = "Lunch table 7"
	theAcquirer          = "bank"
	hostTimeout          = 10 * time.Second
	shortWait            = 300 * time.Millisecond
	quickWait            = 20 * time.Second
	merchantOfDemo       = "740301"
	merchantOfOther      = "740302"
	merchantOfSub        = "740303"
	firmDemo, serialDemo = "05", "PX930-000771"
)

// start is the rig's time of birth: fixed, so that cards and days stay the same, and the afternoon at +08:00.
var start = time.Date(2026, 2, 3, 6, 5, 9, 0, time.UTC)

// rig is everything that a payment needs: the server of this package over the engine, the SQLite store, the registry and the vault, and a card
// host that does what the amount says.
type rig struct {
	t      testing.TB
	dir    string
	secret string
	clock  clock
	logs   buffer
	bank   bank
	wait   time.Duration
	limits uqpay.Limits

	merchants map[string]payment.MerchantID // By public id.
	*node
}

// node is one life of the server process.
type node struct {
	store  *sqlstore.Store
	engine *payment.Engine
	vault  *vault.Vault
	server *httptest.Server
	close  func()
}

func setup(t testing.TB, change ...func(*rig)) *rig {
	t.Helper()
	secret := make([]byte, 32)
	_, _ = rand.Read(secret)
	r := &rig{t: t, dir: t.TempDir(), secret: hex.EncodeToString(secret), wait: quickWait, merchants: map[string]payment.MerchantID{},
		limits: uqpay.Limits{Token: 10_000, Calls: 100_000, Unauthenticated: 10_000}}
	r.clock.at(start)
	r.bank.r = r
	for _, c := range change {
		c(r)
	}
	r.enrol()
	r.open()
	t.Cleanup(func() { r.close() })
	return r
}

func (r *rig) newVault() *vault.Vault {
	v, err := vault.New(r.secret)
	if err != nil {
		r.t.Fatal(err)
	}
	return v
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// enrol makes the merchants and their clients.
func (r *rig) enrol() {
	r.t.Helper()
	ctx := context.Background()
	store, err := sqlstore.Open(ctx, sqlstore.Config{Dir: r.dir, Now: time.Now})
	r.must(err)
	defer store.Close()
	v := r.newVault()
	methods := map[string]payment.Method{"card_present": {Acquirer: theAcquirer, Rate: payment.Rate{Millionths: 20_000}}}
	for _, id := range []string{merchantOfDemo, merchantOfOther, merchantOfSub} {
		m, err := store.AddMerchant(ctx, payment.Merchant{PublicID: id, CompanyName: "Company " + id, Name: "Shop " + id,
			Currencies: []string{"SGD", "USD", "JPY", "KWD"}, Methods: methods})
		r.must(err)
		r.merchants[id] = m.ID
		_, err = store.AddStore(ctx, m.ID, payment.Place{PublicID: "1", Name: "Store of " + id, Calendar: payment.Calendar{Zone: "Asia/Singapore"}})
		r.must(err)
	}
	for _, c := range []struct {
		id, key, merchant string
		profile           payment.Profile
	}{
		{clientID, apiKey, merchantOfDemo, payment.Profile{}},
		{otherID, otherKey, merchantOfOther, payment.Profile{}},
		{strictID, strictKey, merchantOfDemo, payment.Profile{PINKeyExpire: "rfc3339", StrictKeys: true, ManyTokens: true, SameDayVoid: true, NoRateLimit: true}},
		{noPOSID, noPOSKey, merchantOfDemo, payment.Profile{NoPOS: true}},
		{remoteID, remoteKey, merchantOfDemo, payment.Profile{AllowedIPs: "203.0.113.0/24"}},
		{schemeID, schemeKey, merchantOfDemo, payment.Profile{CardSchemes: "visa"}},
	} {
		secret, profile := uqpay.Enrol(v, c.id, c.key, c.profile)
		if c.id == clientID {
			_, profile = uqpay.Enrol(v, c.id, secondKey, profile)
		}
		_, err := store.AddCredential(ctx, payment.Credential{Protocol: uqpay.Protocol, Merchant: r.merchants[c.merchant], Name: c.id, Profile: profile},
			payment.CredentialHash(v, uqpay.Protocol, secret))
		r.must(err)
	}
	for _, account := range []string{subAccount, disabledAccount} {
		_, err := store.AddCredential(ctx, payment.Credential{Protocol: uqpay.AccountProtocol, Merchant: r.merchants[merchantOfSub], Name: "sub-account",
			Disabled: account == disabledAccount}, payment.CredentialHash(v, uqpay.AccountProtocol, uqpay.AccountSecret(clientID, account)))
		r.must(err)
	}
}

// open starts a server process on the data folder.
func (r *rig) open() {
	r.t.Helper()
	store, err := sqlstore.Open(context.Background(), sqlstore.Config{Dir: r.dir, Now: time.Now})
	r.must(err)
	log := slog.New(slog.NewTextHandler(&r.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	n := &node{store: store, vault: r.newVault()}
	n.engine = payment.NewEngine(payment.Config{Store: store, Acquirers: map[string]payment.Acquirer{theAcquirer: &r.bank}, Vault: n.vault,
		Signal: &payment.LocalSignal{}, Now: r.clock.now, Log: log, Notices: uqpay.Notices})
	registry := terminal.New(terminal.Config{Store: store, Vault: n.vault, Now: r.clock.now, Rand: rand.Reader, Log: log})
	n.server = httptest.NewUnstartedServer(access.Log(log, func(string, int, time.Duration) {}, uqpay.Protocol, &uqpay.Server{Core: n.engine, Books: store,
		Terminals: registry, Vault: n.vault, Tokens: store, Log: log, Now: r.clock.now, Wait: r.wait, Limits: r.limits}))
	n.server.Config.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelError)
	n.server.Start()
	ctx, cancel := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	parts.Go(func() {
		if err := n.engine.Run(ctx); err != nil {
			r.t.Errorf("engine: %v", err)
		}
	})
	n.close = sync.OnceFunc(func() {
		n.server.Close()
		cancel()
		parts.Wait()
		if err := store.Close(); err != nil {
			r.t.Errorf("close store: %v", err)
		}
	})
	r.node = n
	<-n.engine.Ready()
}

// restart ends the process and begins another on the same data.
func (r *rig) restart() {
	r.t.Helper()
	r.close()
	r.open()
}

// client is the Go client of an account, on the rig's clock.
func (r *rig) client(id, key string) *uqpay.Client {
	return &uqpay.Client{BaseURL: r.server.URL + "/api", ClientID: id, APIKey: uqpay.Secret(key), HTTP: r.server.Client(), Now: r.clock.now,
		Sleep: func(ctx context.Context, d time.Duration) error {
			time.Sleep(min(d, 20*time.Millisecond))
			return ctx.Err()
		}}
}

// till is a registered terminal of the demo account.
func (r *rig) till() *uqpay.Till {
	r.t.Helper()
	t, err := r.client(clientID, apiKey).Enrol(context.Background(), uqpay.RegisterRequest{FirmCode: firmDemo, FirmSN: serialDemo, Model: "A930"})
	r.must(err)
	return t
}

// clock is time that is moved by hand.
type clock struct {
	mu     sync.Mutex
	base   time.Time
	real   time.Time
	frozen bool
}

func (c *clock) at(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.base, c.real = t, time.Now()
}

// freeze holds the clock.
func (c *clock) freeze(t time.Time) {
	c.at(t)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.frozen = true
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.frozen {
		return c.base
	}
	return c.base.Add(time.Since(c.real))
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.base = c.base.Add(d)
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

// bank is a card host: it approves, unless the amount of a sale ends in something that it knows.
type bank struct {
	r     *rig
	count atomic.Int64

	mu       sync.Mutex
	messages []payment.Message
	cards    []*payment.Card // Of attempts, in their order.
	hold     chan struct{}   // Attempts wait for it, when it is there.
	mute     bool            // Nothing is answered any more.
}

// declines are the answers by the minor digits of an amount in SGD.
var declines = map[int64]payment.Answer{
	5:  {Outcome: payment.OutcomeDeclined, Reason: payment.ReasonDeclined, Result: payment.Result{Code: "05"}},
	51: {Outcome: payment.OutcomeDeclined, Reason: payment.ReasonInsufficientFunds, Result: payment.Result{Code: "51"}},
	54: {Outcome: payment.OutcomeDeclined, Reason: payment.ReasonCardExpired, Result: payment.Result{Code: "54"}},
	55: {Outcome: payment.OutcomeDeclined, Reason: payment.ReasonPINWrong, Result: payment.Result{Code: "55"}},
	57: {Outcome: payment.OutcomeDeclined, Reason: payment.ReasonDeclined, Result: payment.Result{Code: "57"}},
	75: {Outcome: payment.OutcomeDeclined, Reason: payment.ReasonPINTries, Result: payment.Result{Code: "75"}},
	96: {Outcome: payment.OutcomeDeclined, Reason: payment.ReasonUnavailable, Result: payment.Result{Code: "96"}},
	92: {Outcome: payment.OutcomeUnknown}, // Silence.
}

func (b *bank) Traits() payment.Traits {
	return payment.Traits{Class: payment.CardHost, Timeout: hostTimeout, Number: func(id payment.ID, at time.Time) string {
		return fmt.Sprintf("%d%03d%08d", at.Year()%10, at.YearDay(), id%100_000_000)
	}}
}

func (b *bank) Do(ctx context.Context, m payment.Message) payment.Answer {
	b.count.Add(1)
	b.mu.Lock()
	b.messages = append(b.messages, m)
	c, isCard := m.Secret.(*payment.Card)
	if isCard {
		b.cards = append(b.cards, c)
	}
	hold, mute := b.hold, b.mute
	b.mu.Unlock()
	if hold != nil && m.Operation.Kind.IsAttempt() {
		select {
		case <-hold:
		case <-ctx.Done():
			return payment.Answer{Outcome: payment.OutcomeUnknown}
		}
	}
	if mute {
		return payment.Answer{Outcome: payment.OutcomeUnknown}
	}
	if m.Operation.Kind.IsAttempt() || m.Operation.Kind == payment.Refund {
		if a, ok := declines[m.Operation.Amount.Minor()%100]; ok {
			return a
		}
	}
	return payment.Answer{Outcome: payment.OutcomeApproved, Result: payment.Result{AuthCode: "A7K2P9", Code: "00"}}
}

func (b *bank) Query(context.Context, payment.Message) payment.Answer {
	return payment.Answer{Outcome: payment.OutcomeUnknown}
}

// sent is how many messages of a kind the host was sent.
func (b *bank) sent(kind payment.Kind) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, m := range b.messages {
		if m.Operation.Kind == kind {
			n++
		}
	}
	return n
}

func (b *bank) lastCard(t testing.TB) *payment.Card {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.cards) == 0 {
		t.Fatal("the host has seen no card")
	}
	return b.cards[len(b.cards)-1]
}

func (b *bank) set(fn func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	fn()
}

// object is a JSON object.
type object map[string]any

// with is a copy with changes: pairs of dotted names and values; nil takes a member out.
func (o object) with(changes ...any) object {
	text, _ := json.Marshal(o)
	var out object
	_ = json.Unmarshal(text, &out)
	for i := 0; i < len(changes); i += 2 {
		at := map[string]any(out)
		names := strings.Split(changes[i].(string), ".")
		for _, name := range names[:len(names)-1] {
			next, _ := at[name].(map[string]any)
			if next == nil {
				next = map[string]any{}
				at[name] = next
			}
			at = next
		}
		if changes[i+1] == nil {
			delete(at, names[len(names)-1])
		} else {
			at[names[len(names)-1]] = changes[i+1]
		}
	}
	return out
}

func (o object) json() string {
	text, err := json.Marshal(o)
	if err != nil {
		panic(err)
	}
	return string(text)
}

const cp = "payment_method.card_present."

var lastSTAN atomic.Int64

func stan() string { return fmt.Sprintf("%06d", lastSTAN.Add(1)) }

// sale is a create of 12.50 SGD with a chip card and without PIN.
func sale(tid string, changes ...any) object {
	return object{"amount": defaultAmount, "currency": "SGD", "merchant_order_id": defaultOrder, "description": defaultDescription,
		"metadata": object{"lane": "2"}, "payment_method": object{"type": "card_present", "card_present": object{"card_number": seedPAN,
			"expiry_month": "07", "expiry_year": "2027", "pan_entry_mode": "chip", "emv_tags": chipTags, "track2": seedPAN + "D2707201",
			"terminal_info":             object{"terminal_id": tid, "mobile_device": true, "use_embedded_reader": true},
			"system_trace_audit_number": stan()}}}.with(changes...)
}

// intent is a create without a means of payment.
func intent(changes ...any) object {
	return sale("", append([]any{"payment_method", nil}, changes...)...)
}

// caller makes raw requests.
type caller struct {
	t     testing.TB
	r     *rig
	token string
	id    string
	head  map[string]string
}

// call is a caller with a fresh token of an account.
func (r *rig) as(t testing.TB, id, key string) *caller {
	t.Helper()
	c := &caller{t: t, r: r, head: map[string]string{}}
	a := c.do("POST", "/api/v1/connect/token", "", "x-client-id", id, "x-api-key", key).want(200)
	c.token, c.id = a.text("auth_token"), id
	return c
}

func (r *rig) demo(t testing.TB) *caller { t.Helper(); return r.as(t, clientID, apiKey) }

// tid registers the demo terminal.
func (c *caller) tid() string {
	c.t.Helper()
	return c.post("/v2/terminal/register", object{"firm_code": firmDemo, "firm_sn": serialDemo + c.id, "terminal_model": "A930"}).want(200).text("terminal_id")
}

// key gives a terminal a PIN key and returns it.
func (c *caller) pinKey(tid string) []byte {
	c.t.Helper()
	aes := bytes.Repeat([]byte{7}, 32)
	a := c.post("/v2/terminal/getPinKey", object{"terminal_id": tid, "prv_key": hex.EncodeToString(aes)}).want(200)
	key, err := uqpay.OpenPINKey(a.text("encrypt_pin_key"), aes)
	if err != nil {
		c.t.Fatal(err)
	}
	return key
}

func (c *caller) post(path string, body object, headers ...string) reply {
	c.t.Helper()
	return c.do("POST", "/api"+path, body.json(), append([]string{"x-idempotency-key", newKey()}, headers...)...)
}

func (c *caller) create(body object, headers ...string) reply {
	c.t.Helper()
	return c.post("/v2/payment_intents/create", body, headers...)
}

func (c *caller) get(path string) reply {
	c.t.Helper()
	return c.do("GET", "/api"+path, "")
}

var lastKey atomic.Int64

func newKey() string { return fmt.Sprintf("3f6f1c1e-0c59-4e0f-9a1b-%012x", lastKey.Add(1)) }

func (c *caller) do(method, path, body string, headers ...string) reply {
	c.t.Helper()
	a := reply{t: c.t, call: method + " " + path, object: object{}}
	q, err := http.NewRequest(method, c.r.server.URL+path, strings.NewReader(body))
	if err != nil {
		c.t.Error(err)
		return a
	}
	if c.token != "" {
		q.Header.Set("x-auth-token", "Bearer "+c.token)
		q.Header.Set("x-client-id", c.id)
	}
	for name, text := range c.head {
		q.Header.Set(name, text)
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i+1] == "-" {
			q.Header.Del(headers[i])
			continue
		}
		q.Header.Set(headers[i], headers[i+1])
	}
	res, err := c.r.server.Client().Do(q)
	if err != nil {
		c.t.Error(err)
		return a
	}
	defer res.Body.Close()
	a.status, a.header = res.StatusCode, res.Header
	if a.raw, err = io.ReadAll(res.Body); err != nil {
		c.t.Error(err)
	}
	if err := json.Unmarshal(a.raw, &a.object); err != nil {
		c.t.Errorf("%s: answer is no JSON object: %s", a.call, a.raw)
	}
	if a.header.Get("x-trace-id") == "" || a.header.Get("x-response-id") == "" || a.header.Get("Content-Type") != "application/json" {
		c.t.Errorf("%s: headers are %v", a.call, a.header)
	}
	return a
}

// reply is an answer of the server.
type reply struct {
	t      testing.TB
	call   string
	status int
	header http.Header
	raw    []byte
	object object
}

// at finds a member by its dotted name.
func (a reply) at(path string) any {
	var v any = map[string]any(a.object)
	for name := range strings.SplitSeq(path, ".") {
		switch o := v.(type) {
		case map[string]any:
			v = o[name]
		case []any:
			var i int
			_, _ = fmt.Sscan(name, &i)
			if i >= len(o) {
				return nil
			}
			v = o[i]
		default:
			return nil
		}
	}
	return v
}

func (a reply) text(path string) string {
	s, _ := a.at(path).(string)
	return s
}

func (a reply) want(status int) reply {
	a.t.Helper()
	if a.status != status {
		a.t.Errorf("%s: got HTTP %d, want %d: %s", a.call, a.status, status, a.raw)
	}
	return a
}

// wantError wants a refusal by type, code and words of its message.
func (a reply) wantError(status int, kind, code string, words ...string) reply {
	a.t.Helper()
	a.want(status)
	if a.text("type") != kind || a.text("code") != code || a.text("message") == "" {
		a.t.Errorf("%s: got %s, want %s / %s", a.call, a.raw, kind, code)
	}
	for _, w := range words {
		if !strings.Contains(a.text("message"), w) {
			a.t.Errorf("%s: got %s, want %q in the message", a.call, a.raw, w)
		}
	}
	return a
}

// wantAll compares members: pairs of dotted names and values.
func (a reply) wantAll(pairs ...any) reply {
	a.t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if got := a.at(pairs[i].(string)); got != pairs[i+1] {
			a.t.Errorf("%s: %s is %v, want %v: %s", a.call, pairs[i], got, pairs[i+1], a.raw)
		}
	}
	return a
}

func (a reply) id() string { return a.text("payment_intent_id") }

func (a reply) wantStatus(status string) reply {
	a.t.Helper()
	return a.want(200).wantAll("intent_status", status)
}

// within waits until done holds.
func within(done func() bool) bool {
	for end := time.Now().Add(patience); !done(); {
		if time.Now().After(end) {
			return false
		}
		time.Sleep(5 * time.Millisecond)
	}
	return true
}

func sgd(minor int64) money.Amount { return money.New(minor, money.MustCurrency("SGD")) }

// reading is the seed's card in a terminal's reader.
func reading(entry payment.EntryMode, pin string) uqpay.Reading {
	pan, err := card.ParsePAN(seedPAN)
	if err != nil {
		panic(err)
	}
	expiry, err := card.ParseYYMM(seedExpiry)
	if err != nil {
		panic(err)
	}
	r := uqpay.Reading{PAN: pan, Expiry: expiry, Entry: entry}
	if pin != "" {
		if r.PIN, err = card.ParsePIN(pin); err != nil {
			panic(err)
		}
	}
	switch entry {
	case payment.EntryChip, payment.EntryContactlessChip:
		if r.Chip, err = emv.ParseHex(chipTags); err != nil {
			panic(err)
		}
	case payment.EntryStripe, payment.EntryContactlessStripe:
		if r.Track2, err = card.NewTrack2(pan, expiry, "201", "1234567890123"); err != nil {
			panic(err)
		}
	}
	return r
}

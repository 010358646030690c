package main

import (
	"bytes"
	"context"
	"crypto/cipher"
	"crypto/des"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tillgate/tillgate/admin"
	"github.com/tillgate/tillgate/card"
	"github.com/tillgate/tillgate/emv"
	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/protocol/uqpay"
)

// road is a client's way to a world's servers. It begins at one and goes on to the next when a call fails; what to do then is the client's
// matter.
type road struct {
	*world
	at atomic.Int64
}

func (r *road) RoundTrip(req *http.Request) (*http.Response, error) {
	address, died := r.servers[int(r.at.Load())%len(r.servers)].address()
	to := req.Clone(req.Context())
	to.URL.Host = strings.TrimPrefix(address, "http://")
	res, err := http.DefaultTransport.RoundTrip(to)
	if err != nil {
		select {
		case <-died:
		case <-time.After(20 * time.Millisecond):
		}
		r.at.Add(1)
	}
	return res, err
}

// hurried is a client's pause in a test: so many times shorter than it wanted.
func hurried(factor int) func(context.Context, time.Duration) error {
	return func(ctx context.Context, d time.Duration) error {
		select {
		case <-time.After(d / time.Duration(factor)):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Card numbers of the sandbox, by what they do.
const (
	goodCard   = "4761739002000150" // Any cryptogram.
	strictCard = "4761739001010010"
	silentCard = "4761739002000143" // Its sales are never answered.
)

// deckCardOf finds a card of the sandbox's.
func deckCardOf(t testing.TB, deck []devCard, pan string) devCard {
	t.Helper()
	for _, c := range deck {
		if c.PAN == pan {
			return c
		}
	}
	t.Fatalf("the sandbox has no card %s", pan)
	return devCard{}
}

// chip is what a card's chip and its terminal say of a payment.
type chip struct {
	amount, country, tvr, currency, date, un, aip, atc, iad string // Hexadecimal, as in the tags.
}

// newChip is a chip's word on an amount.
func newChip(minor int64, currency, atc int) chip {
	return chip{amount: fmt.Sprintf("%012d", minor), country: "0036", tvr: "0000008000", currency: fmt.Sprintf("%04d", currency), date: "260414", un: "1a2b3c4d",
		aip: "3900", atc: fmt.Sprintf("%04x", atc), iad: "06011203a0b000"}
}

// cryptogram is the ARQC under the issuer's master key, by the recipe CVN 18 of docs/sandbox.md.
func (c chip) cryptogram(master, pan, psn string) string {
	key := rawHex(master)
	digits := pan + psn
	y := rawHex(digits[len(digits)-16:])
	inverse := slices.Clone(y)
	for i := range inverse {
		inverse[i] ^= 0xff
	}
	own := oddParity(append(tripleDES(key, y), tripleDES(key, inverse)...))
	diversify := func(mark byte) []byte { return append(append(rawHex(c.atc), mark), 0, 0, 0, 0, 0) }
	session := oddParity(append(tripleDES(own, diversify(0xf0)), tripleDES(own, diversify(0x0f))...))

	data := append(rawHex(c.amount+"000000000000"+c.country+c.tvr+c.currency+c.date+"00"+c.un+c.aip+c.atc+c.iad), 0x80)
	for len(data)%8 != 0 {
		data = append(data, 0)
	}
	left, right := mustDES(session[:8]), mustDES(session[8:])
	mac := make([]byte, 8)
	for block := range slices.Chunk(data, 8) {
		for i := range mac {
			mac[i] ^= block[i]
		}
		left.Encrypt(mac, mac)
	}
	right.Decrypt(mac, mac)
	left.Encrypt(mac, mac)
	return hex.EncodeToString(mac)
}

// tags are the chip's data with a cryptogram, in hexadecimal.
func (c chip) tags(cryptogram string) string {
	return strings.ToUpper("9f0206" + c.amount + "9f0306000000000000" + "9f1a02" + c.country + "9505" + c.tvr + "5f2a02" + c.currency + "9a03" + c.date + "9c0100" +
		"9f3704" + c.un + "8202" + c.aip + "9f3602" + c.atc + "9f1007" + c.iad + "9f2608" + cryptogram + "9f270180")
}

func rawHex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

func oddParity(key []byte) []byte {
	for i, b := range key {
		key[i] = b&0xfe | byte(1-bits.OnesCount8(b&0xfe)&1)
	}
	return key
}

func mustDES(key []byte) cipher.Block {
	c, err := des.NewCipher(key)
	if err != nil {
		panic(err)
	}
	return c
}

func tripleDES(key, block []byte) []byte {
	c, err := des.NewTripleDESCipher(append(slices.Clone(key), key[:8]...))
	if err != nil {
		panic(err)
	}
	out := make([]byte, 8)
	c.Encrypt(out, block)
	return out
}

// The chip of these tests makes the cryptogram of the sandbox's page.
func TestChipMakesTheWorkedExample(t *testing.T) {
	t.Parallel()
	c := newChip(1250, 36, 0x42)
	if got := c.cryptogram("A1B3C2D5E5F70719293B4A5D6D7F8F91", strictCard, "01"); got != "ea94ed2730058d52" {
		t.Errorf("cryptogram %s", got)
	}
	page := read(t, "../../docs/sandbox.md")
	if tags := c.tags("ea94ed2730058d52"); !bytes.Contains(page, []byte(tags)) {
		t.Errorf("docs/sandbox.md has no %s", tags)
	}
}

var lastATC atomic.Int64

// present is a card as a terminal reads it for an amount. Its PIN is given when it was asked for.
func present(t testing.TB, c devCard, entry payment.EntryMode, pin string, minor int64, currency int) uqpay.Reading {
	t.Helper()
	r := uqpay.Reading{Entry: entry}
	var err error
	check := func() {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	r.PAN, err = card.ParsePAN(c.PAN)
	check()
	r.Expiry, err = card.ParseExpiry(c.ExpiryMonth, c.ExpiryYear)
	check()
	if pin != "" {
		r.PIN, err = card.ParsePIN(pin)
		check()
	}
	switch entry {
	case payment.EntryChip, payment.EntryContactlessChip:
		said, cryptogram := newChip(minor, currency, int(lastATC.Add(1)%65536)), "c0ffee0ddba11ade"
		if c.IssuerMasterKey != "" {
			cryptogram = said.cryptogram(c.IssuerMasterKey, c.PAN, c.PSN)
		}
		r.Chip, err = emv.ParseHex(said.tags(cryptogram) + "5F3401" + c.PSN)
		check()
	}
	if entry != payment.EntryKeyed {
		r.Track2, err = card.ParseTrack2(c.Track2)
		check()
	}
	return r
}

// cardTill is a till that speaks UQPAY in a world. It keeps what it sends until it is answered, and sends the same bytes under the same key
// again, also after the server was killed.
type cardTill struct {
	*world
	deck   []devCard
	client *uqpay.Client
	till   *uqpay.Till
	once   bool // The customer gives the card once only.

	names   []string // Of the intents, in their order.
	intents map[string]string
	refunds map[string][]string // By the intent's name: identifiers of those that were taken.
}

func (w *world) cardTill(n int) *cardTill {
	c := w.clients[n%len(w.clients)]
	r := &road{world: w}
	r.at.Store(int64(n))
	return &cardTill{world: w, deck: w.party.cards(), intents: map[string]string{}, refunds: map[string][]string{},
		client: &uqpay.Client{BaseURL: "http://the.world/uqpay/api", ClientID: c.ClientID, APIKey: uqpay.Secret(c.Token), HTTP: &http.Client{Transport: r}, Sleep: hurried(25)}}
}

// until makes a call until there is an answer to it.
func until(w *world, what string, call func() error) *uqpay.Error {
	w.t.Helper()
	var err error
	for deadline := time.Now().Add(settleLimit); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if err = call(); err == nil {
			return nil
		}
		var refusal *uqpay.Error
		if errors.As(err, &refusal) && !errors.Is(err, uqpay.ErrOutcomeUnknown) && refusal.Status < 500 && refusal.Status != http.StatusTooManyRequests {
			return refusal
		}
	}
	w.t.Errorf("%s hangs: %v", what, err)
	return &uqpay.Error{Message: "hangs"}
}

// must is until for what may not be refused.
func (c *cardTill) must(what string, call func() error) bool {
	c.t.Helper()
	err := until(c.world, what, call)
	if err != nil {
		c.t.Errorf("%s: %v", what, err)
	}
	return err == nil
}

// enrol registers the terminal and gets its PIN key.
func (c *cardTill) enrol(serial string) bool {
	return c.must("enrol", func() (err error) {
		c.till, err = c.client.Enrol(c.t.Context(), uqpay.RegisterRequest{FirmCode: "05", FirmSN: serial, Model: "A930"})
		return err
	})
}

// order is what the till sells.
type order struct {
	name      string
	minor     int64
	card      string
	entry     payment.EntryMode
	pin       string
	authorize bool
}

func (c *cardTill) reading(o order) (uqpay.CardPresent, bool) {
	r := present(c.t, deckCardOf(c.t, c.deck, o.card), o.entry, o.pin, o.minor, 36)
	var p uqpay.CardPresent
	ok := c.must(o.name+": read the card", func() (err error) {
		p, err = c.till.Present(c.t.Context(), r)
		return err
	})
	p.AuthorizeOnly = o.authorize
	return p, ok
}

// sell takes a payment, and reads the card again when the host could not be heard. It returns the intent as it is decided.
func (c *cardTill) sell(o order) uqpay.Intent {
	c.t.Helper()
	var i uqpay.Intent
	p, ok := c.reading(o)
	if !ok {
		return i
	}
	stored, err := c.client.PrepareIntent(uqpay.IntentRequest{Amount: decimal(o.minor), Currency: "AUD", OrderID: o.name, Description: "day", Card: &p})
	if err != nil {
		c.t.Error(err)
		return i
	}
	if !c.must(o.name, func() error { return c.client.Send(c.t.Context(), stored, &i) }) {
		return i
	}
	c.names, c.intents[o.name] = append(c.names, o.name), i.ID
	i = c.final(o.name)
	for range 5 { // Silence of the host, or a kill in the middle of a sale: it is reversed, and the customer is asked for the card again.
		if c.once || i.Status != uqpay.RequiresPaymentMethod || i.LatestAttempt == nil || i.LatestAttempt.FailureCode != "system_error" {
			break
		}
		again := o
		if o.card == silentCard {
			again.card = goodCard
		}
		if p, ok = c.reading(again); !ok {
			return i
		}
		if stored, err = c.client.PrepareConfirm(i.ID, p); err != nil {
			c.t.Error(err)
			return i
		}
		if !c.must(o.name+" again", func() error { return c.client.Send(c.t.Context(), stored, &i) }) {
			return i
		}
		i = c.final(o.name)
	}
	return i
}

// final asks until an intent is decided.
func (c *cardTill) final(name string) uqpay.Intent {
	c.t.Helper()
	for deadline := time.Now().Add(settleLimit); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		var i *uqpay.Intent
		if !c.must("retrieve "+name, func() (err error) {
			i, err = c.client.Intent(c.t.Context(), c.intents[name])
			return err
		}) {
			break
		}
		if i.Status != uqpay.IntentPending {
			return *i
		}
	}
	c.t.Errorf("%s is never decided", name)
	return uqpay.Intent{}
}

// act sends a call about an intent, the same bytes until it is answered.
func (c *cardTill) act(name, action string, body map[string]any) *uqpay.Error {
	c.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		c.t.Fatal(err)
	}
	var i uqpay.Intent
	stored := uqpay.Stored{Key: newUUID(), Path: "/v2/payment_intents/" + c.intents[name] + "/" + action, Body: text}
	return until(c.world, name+" "+action, func() error { return c.client.Send(c.t.Context(), stored, &i) })
}

// newUUID is an idempotency key.
func newUUID() string {
	return fmt.Sprintf("%08x-%04x-4%03x-8%03x-%012x", rand.Uint32(), rand.Uint32()&0xffff, rand.Uint32()&0xfff, rand.Uint32()&0xfff, rand.Uint64()&0xffffffffffff)
}

// refund gives back, and waits until the refund is settled. It reports whether it was made.
func (c *cardTill) refund(name string, minor int64) bool {
	c.t.Helper()
	stored, err := c.client.PrepareRefund(uqpay.RefundRequest{IntentID: c.intents[name], Amount: decimal(minor), Reason: "returned"})
	if err != nil {
		c.t.Fatal(err)
	}
	var r uqpay.Refund
	if until(c.world, name+" refund", func() error { return c.client.Send(c.t.Context(), stored, &r) }) != nil {
		return false
	}
	c.refunds[name] = append(c.refunds[name], r.ID)
	for deadline := time.Now().Add(settleLimit); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		var now *uqpay.Refund
		if !c.must("retrieve a refund of "+name, func() (err error) {
			now, err = c.client.Refund(c.t.Context(), r.ID)
			return err
		}) {
			return false
		}
		if now.Status == uqpay.RefundSucceeded || now.Status == uqpay.RefundFailed {
			return now.Status == uqpay.RefundSucceeded
		}
	}
	c.t.Errorf("a refund of %s is never decided", name)
	return false
}

// claims are what the till believes in the end: it asks for everything once more. What is not paid is given up, as a till does that is closed:
// else it would wait for another card half an hour long.
func (c *cardTill) claims() []claim {
	c.t.Helper()
	var claims []claim
	for _, name := range c.names {
		i := c.final(name)
		if i.Status == uqpay.RequiresPaymentMethod {
			if err := c.act(name, "cancel", map[string]any{}); err != nil {
				c.t.Errorf("%s cannot be given up: %v", name, err)
			}
			i = c.final(name)
		}
		k := claim{name: name, undecided: i.ID == ""}
		var attempts *uqpay.Page[uqpay.Attempt]
		if !c.must("attempts of "+name, func() (err error) {
			attempts, err = c.client.Attempts(c.t.Context(), uqpay.ListQuery{IntentID: i.ID, PageSize: 100})
			return err
		}) {
			continue
		}
		for _, a := range attempts.Data {
			k.numbers = append(k.numbers, a.RRN)
			k.why += string(a.Status) + " " + a.FailureCode + " "
		}
		if i.Status == uqpay.IntentSucceeded {
			k.taken, k.back = minorOf(c.t, i.CapturedAmount), minorOf(c.t, i.LatestAttempt.RefundedAmount)
		}
		if i.Status == uqpay.RequiresCapture {
			c.t.Errorf("%s is still to be captured", name)
		}
		claims = append(claims, k)
	}
	return claims
}

var aud = func() money.Currency {
	c, err := money.ParseCurrency("AUD")
	if err != nil {
		panic(err)
	}
	return c
}()

func decimal(minor int64) string { return money.New(minor, aud).Trimmed() }

// minorOf reads an amount of the wire.
func minorOf(t *testing.T, text string) int64 {
	t.Helper()
	a, err := money.Parse(text, aud)
	if err != nil {
		t.Fatalf("amount %q: %v", text, err)
	}
	return a.Minor()
}

// cardDay is a terminal's day over UQPAY: every kind of exchange with the card host, silence included. A customer whose sale was lost in a kill
// gives the card again, so that the day ends as it would have without.
func cardDay(w *world) []claim {
	c := w.cardTill(0)
	if !c.enrol("CRASH-1") {
		return nil
	}
	chip, tap := payment.EntryChip, payment.EntryContactlessChip
	status := map[string]uqpay.IntentStatus{}
	ended := func(name string, want uqpay.IntentStatus) { status[name] = want }

	c.sell(order{name: "approve", minor: 20_00, card: goodCard, entry: chip, pin: "1234"})
	if !c.refund("approve", 5_00) || !c.refund("approve", 15_00) {
		c.t.Error("a refund was not made")
	}
	if c.refund("approve", 1_00) {
		c.t.Error("a refund beyond the payment was made")
	}
	ended("approve", uqpay.IntentSucceeded)

	c.sell(order{name: "decline", minor: 9051_00, card: goodCard, entry: chip, pin: "1234"})
	ended("decline", uqpay.RequiresPaymentMethod)
	c.sell(order{name: "silence", minor: 22_00, card: silentCard, entry: chip, pin: "1234"})
	ended("silence", uqpay.IntentSucceeded)

	c.sell(order{name: "capture", minor: 24_00, card: strictCard, entry: chip, pin: "1234", authorize: true})
	if err := c.act("capture", "capture", map[string]any{"amount_to_capture": json.Number("18.00")}); err != nil {
		c.t.Errorf("capture: %v", err)
	}
	ended("capture", uqpay.IntentSucceeded)
	c.sell(order{name: "cancel", minor: 25_00, card: goodCard, entry: tap, authorize: true})
	if err := c.act("cancel", "cancel", map[string]any{"cancellation_reason": "requested_by_customer"}); err != nil {
		c.t.Errorf("cancel: %v", err)
	}
	ended("cancel", uqpay.IntentCancelled)

	c.must("key refresh", func() error { return c.till.Refresh(c.t.Context()) })
	c.sell(order{name: "new key", minor: 4_00, card: goodCard, entry: chip, pin: "1234"})
	ended("new key", uqpay.IntentSucceeded)

	for name, want := range status {
		if i := c.final(name); i.Status != want {
			c.t.Errorf("%s ended %s, want %s: %+v", name, i.Status, want, i.LatestAttempt)
		}
	}
	return c.claims()
}

// cardLoad is what several tills do at once, each with a seed of its own.
func cardLoad(w *world, seed uint64) []claim {
	var mu sync.Mutex
	var claims []claim
	var tills sync.WaitGroup
	const sales = 8
	for n := range cardClients {
		rng := rand.New(rand.NewPCG(seed, uint64(n)))
		c := w.cardTill(n)
		tills.Go(func() {
			if !c.enrol(fmt.Sprint("LOAD-", n)) {
				return
			}
			for i := range sales {
				o := order{name: fmt.Sprintf("till%d-%d", n, i), minor: int64(10_00 + rng.IntN(90)*100), card: goodCard, entry: payment.EntryChip, pin: "1234"}
				switch rng.IntN(6) {
				case 0:
					o.card = silentCard
				case 1:
					o.card, o.pin = "5413330089001011", "9999" // The third in a row locks the card: not the one that the others pay with.
				case 2:
					o.minor = 9059_00 // The line is cut.
				case 3:
					o.authorize = true
				}
				got := c.sell(o)
				if o.authorize && got.Status == uqpay.RequiresCapture {
					if rng.IntN(2) == 0 {
						_ = c.act(o.name, "capture", map[string]any{})
					} else {
						_ = c.act(o.name, "cancel", map[string]any{})
					}
				}
				if rng.IntN(3) == 0 {
					c.refund(o.name, int64(1+rng.IntN(9))*100)
				}
			}
			mine := c.claims()
			mu.Lock()
			defer mu.Unlock()
			claims = append(claims, mine...)
		})
	}
	tills.Wait()
	return claims
}

// hooks receives webhooks and callbacks, and keeps what came.
type hooks struct {
	mu     sync.Mutex
	bodies [][]byte
	heads  []http.Header
	url    string
	answer string
}

func openHooks(t *testing.T, answer string) *hooks {
	h := &hooks{answer: answer}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return // It comes again.
		}
		h.mu.Lock()
		h.bodies, h.heads = append(h.bodies, body), append(h.heads, r.Header.Clone())
		h.mu.Unlock()
		_, _ = io.WriteString(w, h.answer)
	}))
	t.Cleanup(server.Close)
	h.url = server.URL
	return h
}

// all is what has come so far.
func (h *hooks) all() ([][]byte, []http.Header) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.bodies), slices.Clone(h.heads)
}

// asked runs a command against a running dev and reads its JSON.
func asked[T any](t *testing.T, data string, args ...string) (T, error) {
	t.Helper()
	var out T
	var text, errs bytes.Buffer
	if code := run(t.Context(), append(args, "--data", data, "--json"), noEnv, &text, &errs); code != exitOK {
		_ = json.Unmarshal(text.Bytes(), &out) // What it says before it fails.
		return out, fmt.Errorf("tillgate %s: exit %d: %s", strings.Join(args, " "), code, &errs)
	}
	return out, json.Unmarshal(text.Bytes(), &out)
}

// TestTerminalDayOverCards is a terminal's day over UQPAY against everything that dev starts: from its registration to the batch's close.
func TestTerminalDayOverCards(t *testing.T) {
	t.Parallel()
	received := openHooks(t, "success")
	data := t.TempDir()
	dev := startDev(t, data, "--uqpay-webhook", received.url)
	ctx, account := t.Context(), dev.info.UQPAY
	client := &uqpay.Client{BaseURL: account.BaseURL, ClientID: account.ClientID, APIKey: uqpay.Secret(account.APIKey)}
	till, err := client.Enrol(ctx, uqpay.RegisterRequest{FirmCode: account.FirmCode, FirmSN: "DAY-1", Model: account.TerminalModel})
	if err != nil {
		t.Fatal(err)
	}
	sgd := money.MustCurrency(account.Currency)
	const sgdNumber = 702
	read := func(pan string, entry payment.EntryMode, pin string, minor int64) uqpay.Reading {
		return present(t, deckCardOf(t, dev.info.Cards, pan), entry, pin, minor, sgdNumber)
	}
	debits, debitMinor := int64(0), int64(0)
	rrns := map[string]int64{} // Of what was taken, with what of it is kept.
	took := func(i *uqpay.Intent, minor int64) {
		t.Helper()
		a := i.LatestAttempt
		if i.Status != uqpay.IntentSucceeded || a == nil || a.AuthCode == "" || len(a.RRN) != 12 {
			t.Fatalf("not taken: %+v %+v", i, a)
		}
		debits, debitMinor, rrns[a.RRN] = debits+1, debitMinor+minor, minor
	}
	sell := func(name string, minor int64, r uqpay.Reading) *uqpay.Intent {
		t.Helper()
		i, err := till.Sale(ctx, uqpay.Order{Amount: money.New(minor, sgd), ID: "DAY-" + name, Description: "Day"}, r)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return i
	}

	// Ten sales, in every way in which a card can be read, with cards whose cryptograms are checked and others.
	fallback := read("5413330089001011", payment.EntryStripe, "1234", 7_00)
	fallback.Fallback = true
	if fallback.Track1, err = card.ParseTrack1("B5413330089001011^DAY/TERMINAL^3112201100000000000"); err != nil {
		t.Fatal(err)
	}
	signed := read("376740000001005", payment.EntryStripe, "", 6_00)
	signed.Verification = payment.VerifiedBySignature
	var first *uqpay.Intent
	for i, sale := range []struct {
		name  string
		minor int64
		r     uqpay.Reading
	}{
		{"chip and PIN", 12_50, read(strictCard, payment.EntryChip, "1234", 12_50)},
		{"chip without PIN", 2_00, read("5554748800161559", payment.EntryChip, "", 2_00)},
		{"chip and a PIN of six", 3_00, read("5554748800260229", payment.EntryChip, "302312", 3_00)},
		{"contactless chip", 4_00, read(strictCard, payment.EntryContactlessChip, "", 4_00)},
		{"contactless stripe", 5_00, read(goodCard, payment.EntryContactlessStripe, "", 5_00)},
		{"stripe and signature", 6_00, signed},
		{"stripe after the chip failed", 7_00, fallback},
		{"keyed", 8_00, read(goodCard, payment.EntryKeyed, "", 8_00)},
		{"UnionPay", 9_00, read("6216260000000000019", payment.EntryChip, "123456", 9_00)},
		{"Interac", 10_00, read("4506440000000017", payment.EntryContactlessChip, "1234", 10_00)},
	} {
		got := sell(sale.name, sale.minor, sale.r)
		took(got, sale.minor)
		if i == 0 {
			first = got
		}
	}

	// A decline, and a second attempt on the same intent.
	declined := sell("wrong PIN", 11_00, read(goodCard, payment.EntryChip, "9999", 11_00))
	if declined.Status != uqpay.RequiresPaymentMethod || declined.LatestAttempt.FailureCode != "incorrect_pin" {
		t.Errorf("a wrong PIN: %+v %+v", declined, declined.LatestAttempt)
	}
	again, err := till.Again(ctx, declined.ID, read(goodCard, payment.EntryChip, "1234", 11_00))
	if err != nil || again.ID != declined.ID || again.LatestAttempt.ID == declined.LatestAttempt.ID {
		t.Fatalf("second attempt: %+v, %v", again, err)
	}
	took(again, 11_00)
	wrong := read(strictCard, payment.EntryChip, "1234", 12_01) // A cryptogram over another amount.
	if got := sell("wrong cryptogram", 12_02, wrong); got.LatestAttempt.FailureCode != "invalid_card_number" {
		t.Errorf("a wrong cryptogram: %+v", got.LatestAttempt)
	}

	refund, err := client.CreateRefund(ctx, uqpay.RefundRequest{IntentID: first.ID, Amount: "2.50", Reason: "one drink returned"})
	if err != nil || refund.Status != uqpay.RefundSucceeded {
		t.Fatalf("refund: %+v, %v", refund, err)
	}
	rrns[first.LatestAttempt.RRN] -= 2_50

	held, err := till.Present(ctx, read(goodCard, payment.EntryChip, "1234", 20_00))
	if err != nil {
		t.Fatal(err)
	}
	held.AuthorizeOnly = true
	authorised, err := client.CreateIntent(ctx, uqpay.IntentRequest{Amount: "20", Currency: account.Currency, OrderID: "DAY-cancelled", Description: "Day", Card: &held})
	if err != nil || authorised.Status != uqpay.RequiresCapture {
		t.Fatalf("authorisation: %+v, %v", authorised, err)
	}
	cancelled, err := client.CancelIntent(ctx, authorised.ID, "requested_by_customer")
	if err != nil || cancelled.Status != uqpay.IntentCancelled {
		t.Fatalf("cancel: %+v, %v", cancelled, err)
	}
	rrns[authorised.LatestAttempt.RRN] = 0

	if err := till.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	took(sell("under the new key", 13_00, read(strictCard, payment.EntryChip, "1234", 13_00)), 13_00)

	// The batch: what we count is what the host counts.
	batches, err := asked[[]admin.Batch](t, data, "batch", "close", "--merchant", account.Merchant)
	if err != nil {
		t.Fatal(err)
	}
	if len(batches) != 1 || batches[0].State != "balanced" || batches[0].Uploaded != 0 || batches[0].Debits != debits || batches[0].DebitMinor != debitMinor ||
		batches[0].Credits != 1 || batches[0].CreditMinor != 2_50 {
		t.Errorf("batches: %+v; want %d debits of %d and one credit of 250, in balance", batches, debits, debitMinor)
	}
	if empty, err := asked[[]admin.Batch](t, data, "batch", "close", "--merchant", account.Merchant); err != nil || len(empty) != 0 {
		t.Errorf("a second close: %+v, %v", empty, err)
	}

	// Three books: the till's, the card host's, our ledger.
	net, by := tally(readBooks(t, dev.info.Sandbox.CardBooksURL))
	for rrn, minor := range rrns {
		if kept := by[rrn].paid - by[rrn].back; kept != minor {
			t.Errorf("the card host keeps %d of %s, want %d", kept, rrn, minor)
		}
	}
	balances, err := asked[[]admin.Balance](t, data, "ledger", "--balances", "--merchant", account.Merchant)
	if err != nil || len(balances) != 1 {
		t.Fatalf("balances: %+v, %v", balances, err)
	}
	if b := balances[0]; b.Receivable != net || net != debitMinor-2_50 || b.Receivable+b.Payable+b.Fees+b.Tips != 0 {
		t.Errorf("our ledger says %+v; the card host holds %d for us, and the till took %d", b, net, debitMinor-2_50)
	}

	// Every sale is told of, and so are the refund and the cancel; whoever receives it can check that it is ours.
	want := map[string]uqpay.EventType{refund.ID: uqpay.EventRefundSucceeded, again.ID: uqpay.EventIntentSucceeded, first.ID: uqpay.EventIntentSucceeded,
		declined.LatestAttempt.ID: uqpay.EventAttemptFailed, cancelled.LatestAttempt.ID: uqpay.EventAttemptCancelled}
	missing := func() map[string]uqpay.EventType {
		left := map[string]uqpay.EventType{}
		for id, event := range want {
			left[id] = event
		}
		bodies, heads := received.all()
		for i, body := range bodies {
			event, err := uqpay.ParseWebhook(body, heads[i], time.Now(), account.WebhookSecret)
			if err != nil {
				t.Fatalf("webhook: %v\n%s", err, body)
			}
			if left[event.SourceID] == event.Type {
				delete(left, event.SourceID)
			}
			if _, err := uqpay.ParseWebhook(append(body, ' '), heads[i], time.Now(), account.WebhookSecret); !errors.Is(err, uqpay.ErrSignature) {
				t.Errorf("a webhook that was changed: %v", err)
			}
		}
		return left
	}
	for deadline := time.Now().Add(settleLimit); len(missing()) > 0 && time.Now().Before(deadline); {
		time.Sleep(50 * time.Millisecond)
	}
	if left := missing(); len(left) > 0 {
		t.Errorf("never told: %v", left)
	}
}

package cardhost

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moov-io/iso8583"

	"github.com/tillgate/tillgate/card"
	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/vault"
)

// A scripted card host: moov's codec, and cryptography of its own. It answers what its script says.

// request is a message that has come to the host.
type request struct {
	*iso8583.Message
	line  *hostLine
	value map[int]string
	mti   string
	mac   bool // It had a right one, under the key of the moment or the one before.
}

// hostLine is a connection at the host.
type hostLine struct {
	host *host
	conn net.Conn

	mu               sync.Mutex
	zpk, mak, former []byte
	signedOn         bool
	networks         []string // DE 70 of what came, in order; of answers with "answered " in front.
}

// host is the scripted host.
type host struct {
	t        testing.TB
	listener net.Listener
	zmk      []byte
	all      sync.WaitGroup

	// script is called in a goroutine of its own for every message that is not 0800; nil approves.
	script func(r *request)
	// network is called for every 0800, in the reader; it reports whether it has answered.
	network func(r *request) bool

	pause func() // Before the next frame is read; nil for none.

	mu    sync.Mutex
	lines []*hostLine
	seen  []*request
	down  bool
}

const hostZMK = "0123456789ABCDEFFEDCBA9876543210"

func newHost(t testing.TB) *host {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	zmk, _ := hex.DecodeString(hostZMK)
	h := &host{t: t, listener: listener, zmk: zmk}
	h.all.Go(h.accept)
	t.Cleanup(h.close)
	return h
}

func (h *host) address() string { return h.listener.Addr().String() }

func (h *host) close() {
	h.mu.Lock()
	h.down = true
	h.mu.Unlock()
	_ = h.listener.Close()
	h.hangUp()
	h.all.Wait()
}

// hangUp cuts all lines.
func (h *host) hangUp() {
	for _, l := range h.open() {
		_ = l.conn.Close()
	}
}

func (h *host) open() []*hostLine {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]*hostLine(nil), h.lines...)
}

func (h *host) accept() {
	for {
		conn, err := h.listener.Accept()
		if err != nil {
			return
		}
		l := &hostLine{host: h, conn: conn}
		h.mu.Lock()
		h.lines = append(h.lines, l)
		down := h.down
		h.mu.Unlock()
		if down {
			_ = conn.Close()
		}
		h.all.Go(func() { h.serve(l) })
	}
}

func (h *host) serve(l *hostLine) {
	var scripts sync.WaitGroup
	defer scripts.Wait()
	defer l.conn.Close()
	for {
		var head [2]byte
		if _, err := io.ReadFull(l.conn, head[:]); err != nil {
			return
		}
		raw := make([]byte, binary.BigEndian.Uint16(head[:]))
		if _, err := io.ReadFull(l.conn, raw); err != nil {
			return
		}
		r := l.read(raw)
		if r == nil {
			return
		}
		if h.pause != nil {
			h.pause()
		}
		if r.mti == "0800" || r.mti == "0810" {
			h.networkMessage(r)
			continue
		}
		h.mu.Lock()
		h.seen = append(h.seen, r)
		h.mu.Unlock()
		script := h.script
		if script == nil {
			script = (*request).approve
		}
		scripts.Go(func() { script(r) })
	}
}

func (l *hostLine) read(raw []byte) *request {
	m := iso8583.NewMessage(witness)
	if err := m.Unpack(raw); err != nil {
		l.host.t.Errorf("host: cannot read % x: %v", raw, err)
		return nil
	}
	r := &request{Message: m, line: l, value: map[int]string{}}
	r.mti, _ = m.GetMTI()
	for de := range m.GetFields() {
		if de > 1 {
			v, _ := m.GetString(de)
			if e := specification[de]; e.format == formatN && e.prefix == 0 { // moov strips zeros.
				v = strings.Repeat("0", e.size-len(v)) + v
			}
			r.value[de] = v
		}
	}
	got, err := m.GetBytes(64)
	if b, _ := m.GetBytes(128); len(b) == 8 {
		got = b
	}
	if err == nil && len(got) == 8 {
		l.mu.Lock()
		r.mac = bytes.Equal(got, retailMAC(l.mak, raw[:len(raw)-8])) || l.former != nil && bytes.Equal(got, retailMAC(l.former, raw[:len(raw)-8]))
		l.mu.Unlock()
	}
	return r
}

func (h *host) networkMessage(r *request) {
	l := r.line
	what := r.value[70]
	if r.mti == "0810" {
		what = "answered " + what + " " + r.value[39]
	}
	l.mu.Lock()
	l.networks = append(l.networks, what)
	l.mu.Unlock()
	if r.mti == "0810" || h.network != nil && h.network(r) {
		return
	}
	switch what {
	case "101":
		r.giveKeys()
	case "001":
		l.mu.Lock()
		l.signedOn = true
		l.mu.Unlock()
		r.answer(map[int]string{39: "00"})
	default:
		r.answer(map[int]string{39: "00"})
	}
}

// giveKeys answers a key exchange with fresh keys, and uses them from then on.
func (r *request) giveKeys() {
	l := r.line
	zpk, mak := make([]byte, 16), make([]byte, 16)
	rand.Read(zpk)
	rand.Read(mak)
	l.mu.Lock()
	l.former, l.zpk, l.mak = l.mak, zpk, mak
	l.mu.Unlock()
	r.answer(map[int]string{39: "00", 48: "ZP038" + r.line.host.wrap(zpk) + "MK038" + r.line.host.wrap(mak)})
}

// wrap is a key as the host delivers it.
func (h *host) wrap(key []byte) string {
	encrypted, kcv := make([]byte, 16), make([]byte, 8)
	zmk := tripleDES(h.zmk)
	zmk.Encrypt(encrypted[:8], key[:8])
	zmk.Encrypt(encrypted[8:], key[8:])
	tripleDES(key).Encrypt(kcv, kcv)
	return strings.ToUpper(hex.EncodeToString(encrypted) + hex.EncodeToString(kcv[:3]))
}

// echo is what an answer repeats.
func (r *request) echo() map[int]string {
	out := map[int]string{}
	for _, de := range []int{3, 4, 7, 11, 32, 37, 41, 42, 49, 70} {
		if v, ok := r.value[de]; ok {
			out[de] = v
		}
	}
	return out
}

func (r *request) answerType() string {
	if r.mti[3] == '1' {
		return r.mti[:2] + "30"
	}
	return r.mti[:2] + string(r.mti[2]+1) + "0"
}

// pack makes an answer: what is repeated, and what the script sets. An empty value leaves an element out.
func (r *request) pack(set map[int]string) []byte {
	values := r.echo()
	second := false
	for de, v := range set {
		values[de] = v
		if v == "" {
			delete(values, de)
		}
	}
	for de := range values {
		second = second || de > 64
	}
	mti := r.answerType()
	if mti[:2] == "08" {
		return bySpecification(r.line.host.t, mti, values)
	}
	macDE := 64
	if second {
		macDE = 128
	}
	values[macDE] = "\x00\x00\x00\x00\x00\x00\x00\x00"
	raw := bySpecification(r.line.host.t, mti, values)
	r.line.mu.Lock()
	defer r.line.mu.Unlock()
	return append(raw[:len(raw)-8], retailMAC(r.line.mak, raw[:len(raw)-8])...)
}

// answer sends an answer.
func (r *request) answer(set map[int]string) { r.line.send(r.pack(set)) }

// approve answers as a kind host does.
func (r *request) approve() {
	set := map[int]string{39: "00"}
	if r.mti == "0100" || r.mti == "0200" {
		set[38] = "A1B2C3"
	}
	r.answer(set)
}

func (l *hostLine) send(raw []byte) {
	_, _ = l.conn.Write(framed(raw)) // A line that the test has cut.
}

func framed(raw []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(raw))), raw...)
}

// ask sends a network message of the host's.
func (l *hostLine) ask(code string, more map[int]string) {
	values := map[int]string{7: "0102030405", 11: "777", 32: "123456", 70: code}
	for de, v := range more {
		values[de] = v
	}
	l.send(bySpecification(l.host.t, "0800", values))
}

func (l *hostLine) heard() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.networks...)
}

// requests lists what came besides network messages.
func (h *host) requests() []*request {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]*request(nil), h.seen...)
}

// pin is the PIN that came, decrypted under the line's key.
func (r *request) pin(t *testing.T) (card.PIN, error) {
	t.Helper()
	pan, err := card.ParsePAN(r.value[2])
	if err != nil {
		t.Fatalf("host: PAN: %v", err)
	}
	block, err := r.GetBytes(52)
	if err != nil || len(block) != 8 {
		t.Fatalf("host: PIN block %x, %v", block, err)
	}
	r.line.mu.Lock()
	defer r.line.mu.Unlock()
	var out [8]byte
	tripleDES(r.line.zpk).Decrypt(out[:], block)
	return card.DecodePINBlock(card.Format(map[string]uint8{"01": 0, "03": 3}[r.value[53][:2]]), out, pan)
}

func tripleDES(key []byte) cipher.Block {
	if len(key) == 16 {
		key = append(append([]byte(nil), key...), key[:8]...)
	}
	b, err := des.NewTripleDESCipher(key)
	if err != nil {
		panic(err)
	}
	return b
}

// retailMAC is ISO 9797-1 algorithm 3 with padding method 1.
func retailMAC(key, data []byte) []byte {
	first, _ := des.NewCipher(key[:8])
	second, _ := des.NewCipher(key[8:16])
	x := make([]byte, 8)
	for len(data) > 0 {
		n := min(8, len(data))
		for i := range n {
			x[i] ^= data[i]
		}
		first.Encrypt(x, x)
		data = data[n:]
	}
	second.Decrypt(x, x)
	first.Encrypt(x, x)
	return x
}

// The link's side.

const (
	testMember = "123456"
	testPAN    = "5554748800260229"
	testTrack2 = testPAN + "=27072011234567890123"
	testPIN    = "302312"
)

// rig is a link and its host.
type rig struct {
	t     testing.TB
	host  *host
	vault *vault.Vault
	link  *Link
	log   *safeBuffer
	next  payment.ID

	mu    sync.Mutex
	drops map[Drop]int
	stop  func() error
}

// safeBuffer takes log lines of many goroutines.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func testVault(t testing.TB) (*vault.Vault, vault.SealedKey) {
	t.Helper()
	v, err := vault.New(strings.Repeat("ab", 32))
	if err != nil {
		t.Fatal(err)
	}
	zmk, err := v.NewZoneMaster(vault.TDES, []byte("cardhost"), hostZMK)
	if err != nil {
		t.Fatal(err)
	}
	return v, vault.SealedKey{Sealed: zmk, Bound: []byte("cardhost")}
}

func newRig(t testing.TB, change ...func(*Config)) *rig {
	t.Helper()
	r := &rig{t: t, host: newHost(t), log: &safeBuffer{}, next: 1000, drops: map[Drop]int{}}
	v, zmk := testVault(t)
	r.vault = v
	cfg := Config{Addresses: []string{r.host.address()}, Connections: 1, Member: testMember, ZMK: zmk, Timeout: 10 * time.Second, Vault: v,
		Log: slog.New(slog.NewJSONHandler(r.log, nil)), Now: time.Now, Rand: rand.Reader,
		Dropped: func(d Drop) { r.mu.Lock(); r.drops[d]++; r.mu.Unlock() }}
	for _, fn := range change {
		fn(&cfg)
	}
	link, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.link = link
	return r
}

// start runs the link until the test ends, and waits until it is ready.
func (r *rig) start() *rig {
	r.t.Helper()
	r.run()
	r.wait("the link to sign on", r.link.Ready)
	return r
}

func (r *rig) run() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.link.Run(ctx) }()
	var once sync.Once
	var err error
	r.stop = func() error {
		once.Do(func() {
			cancel()
			select {
			case err = <-done:
			case <-time.After(20 * time.Second):
				err = errors.New("Run does not return")
			}
		})
		return err
	}
	r.t.Cleanup(func() {
		if err := r.stop(); err != nil {
			r.t.Errorf("run: %v", err)
		}
		for _, secret := range []string{"54748800260", testTrack2[17:], testPIN, "SURNAME", "tok_secret"} {
			if strings.Contains(r.log.String(), secret) {
				r.t.Errorf("the log has %q: %s", secret, r.log)
			}
		}
	})
}

func (r *rig) wait(what string, until func() bool) {
	r.t.Helper()
	for end := time.Now().Add(20 * time.Second); !until(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("waited in vain for %s; log:\n%s", what, r.log)
		}
	}
}

func (r *rig) dropped(d Drop) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.drops[d]
}

var (
	aud      = money.MustCurrency("AUD")
	merchant = payment.Merchant{ID: 1, PublicID: "4502", Name: "Café Überraschung, Collins Street, Melbourne CBD"}
)

// op makes an operation as the core stores it.
func (r *rig) op(kind payment.Kind, minor int64) payment.Operation {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.next++
	now := time.Now().UTC().Truncate(time.Millisecond)
	return payment.Operation{Merchant: 1, Payment: 7, ID: r.next, Kind: kind, State: payment.Sent, Number: RRN(r.next, now), SentAt: now, Tries: 1,
		Amount: money.New(minor, aud)}
}

// sale is an attempt with a card.
func (r *rig) sale(minor int64, c *payment.Card) payment.Message {
	return r.attempt(payment.Sale, minor, c)
}

func (r *rig) attempt(kind payment.Kind, minor int64, c *payment.Card) payment.Message {
	r.t.Helper()
	op := r.op(kind, minor)
	op.Card = payment.CardFacts{Entry: c.Entry, Fallback: c.Fallback, PINPad: c.PIN != nil, TID: c.TID}
	op.Sealed = r.seal(&op, c)
	return payment.Message{Merchant: merchant, Payment: payment.Payment{Merchant: 1, ID: 7, Amount: op.Amount,
		Calendar: payment.Calendar{Zone: "Australia/Melbourne"}}, Operation: op, Attempt: op, Secret: c}
}

// seal is what the core does to a card before it is sent.
func (r *rig) seal(op *payment.Operation, c *payment.Card) []byte {
	r.t.Helper()
	bound := binary.BigEndian.AppendUint64(nil, uint64(op.Merchant))
	bound = binary.BigEndian.AppendUint64(bound, uint64(op.Payment))
	bound = binary.BigEndian.AppendUint64(bound, uint64(op.ID))
	sealed, err := r.vault.Seal("card", []byte(c.PAN.Reveal()+"|"+c.Expiry.YYMM()+"|"+c.Token), bound)
	if err != nil {
		r.t.Fatal(err)
	}
	return sealed
}

// on makes an operation on an attempt.
func (r *rig) on(kind payment.Kind, minor int64, target payment.Message) payment.Message {
	m := target
	m.Secret, m.Target, m.Attempt = nil, target.Operation, target.Operation
	if target.Target.ID != 0 {
		m.Attempt = target.Attempt
	}
	m.Operation = r.op(kind, minor)
	return m
}

// chipCard is a card that was dipped.
func chipCard(t testing.TB) *payment.Card {
	t.Helper()
	pan, err1 := card.ParsePAN(testPAN)
	track, err2 := card.ParseTrack2(testTrack2)
	chip, err3 := hex.DecodeString("9F26080102030405060708" + "9F2701809F36020001" + "5A085554748800260229" + "57135554748800260229D27072011234567890123F" + "9F370411223344" + "82023900" + "95050000000000")
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	return &payment.Card{PAN: pan, Expiry: card.Expiry{Year: 2027, Month: 7}, Sequence: "001", Entry: payment.EntryChip, Track2: track, Chip: chip, TID: "T0000001"}
}

// pinKey is a terminal's PIN key: sealed, and in clear as the terminal has it.
func (r *rig) pinKey() (sealed, key []byte) {
	r.t.Helper()
	transport := bytes.Repeat([]byte{7}, 32)
	sealed, envelope, err1 := r.vault.IssuePINKey(transport, []byte("T0000001"))
	raw, err2 := base64.StdEncoding.DecodeString(envelope)
	block, err3 := aes.NewCipher(transport)
	if err := errors.Join(err1, err2, err3); err != nil {
		r.t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		r.t.Fatal(err)
	}
	text, err1 := gcm.Open(nil, raw[:gcm.NonceSize()], raw[gcm.NonceSize():], nil)
	key, err2 = hex.DecodeString(string(text))
	if err := errors.Join(err1, err2); err != nil {
		r.t.Fatal(err)
	}
	return sealed, key
}

// withPIN adds a PIN block as a terminal makes it.
func (r *rig) withPIN(c *payment.Card, pin string) *payment.Card {
	r.t.Helper()
	sealed, key := r.pinKey()
	p, err := card.ParsePIN(pin)
	if err != nil {
		r.t.Fatal(err)
	}
	block, err := card.EncodePINBlock(card.Format0, p, c.PAN, rand.Reader)
	if err != nil {
		r.t.Fatal(err)
	}
	tripleDES(key).Encrypt(block[:], block[:])
	c.PIN = &payment.EncryptedPIN{Format: card.Format0, Keys: [][]byte{sealed}, Bound: []byte("T0000001"), Block: block}
	return c
}

func (r *rig) do(m payment.Message) payment.Answer {
	ctx, cancel := context.WithTimeout(context.Background(), r.link.cfg.Timeout)
	defer cancel()
	return r.link.Do(ctx, m)
}

func (r *rig) want(got payment.Answer, outcome payment.Outcome, reason payment.Reason) {
	r.t.Helper()
	if got.Outcome != outcome || got.Reason != reason {
		r.t.Errorf("got %s %q (code %q), want %s %q; log:\n%s", got.Outcome, got.Reason, got.Result.Code, outcome, reason, r.log)
	}
}

// pipe makes a link dial a host of its own in memory, for tests under testing/synctest: there are no sockets in a bubble.
func (r *rig) pipe() *rig {
	h := &host{t: r.t, zmk: r.host.zmk}
	r.host = h
	r.link.dial = func(context.Context, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		l := &hostLine{host: h, conn: theirs}
		h.mu.Lock()
		h.lines = append(h.lines, l)
		h.mu.Unlock()
		h.all.Go(func() { h.serve(l) })
		return ours, nil
	}
	return r
}

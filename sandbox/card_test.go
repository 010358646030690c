package sandbox

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const (
	testZMK    = "2315208C9110AD402315208C9110AD4F"
	testMember = "62310001"
	chipCard   = "4761739001010010" // Strict.
	plainCard  = "4761739002000150" // Any cryptogram.
)

// cardRig is a card host in a temporary folder, reached over real sockets, with a clock that stands still.
type cardRig struct {
	t    *testing.T
	dir  string
	at   atomic.Int64 // The clock, in milliseconds.
	h    *CardHost
	addr string
	stop context.CancelFunc
	done chan error
}

func setupCards(t *testing.T) *cardRig {
	t.Helper()
	r := &cardRig{t: t, dir: t.TempDir()}
	r.at.Store(1776136961551)
	r.open()
	t.Cleanup(func() { r.leave() })
	return r
}

func (r *cardRig) open() {
	r.t.Helper()
	h, err := OpenCards(CardConfig{Dir: r.dir, ZMK: testZMK, Member: testMember, Rand: rand.Reader, Now: func() time.Time { return time.UnixMilli(r.at.Load()) }})
	if err != nil {
		r.t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.h, r.addr, r.stop, r.done = h, l.Addr().String(), cancel, make(chan error, 1)
	go func() { r.done <- h.Serve(ctx, l) }()
}

// leave stops the host and waits for it.
func (r *cardRig) leave() {
	r.t.Helper()
	r.stop()
	if err := <-r.done; err != nil {
		r.t.Errorf("serve: %v", err)
	}
	if err := r.h.Close(); err != nil {
		r.t.Errorf("close: %v", err)
	}
	r.done <- nil // For a second call.
}

// restart stops the host and starts another one on its books.
func (r *cardRig) restart() *member {
	r.t.Helper()
	r.leave()
	before := r.h.book
	r.open()
	if !reflect.DeepEqual(r.h.book, before) {
		r.t.Error("the books are others after a restart")
	}
	return r.dial().signOn()
}

// fields are the data elements of a message, by number.
type fields map[int]string

// member is a test client of the wire, written from docs/card-host.md and as plainly as can be.
type member struct {
	t    *testing.T
	conn net.Conn
	zpk  key16
	mak  key16
	stan int
	rrn  int
}

func (r *cardRig) dial() *member {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = conn.Close() })
	return &member{t: r.t, conn: conn}
}

// packFields builds a message without its length. The MAC's own bytes are added if there is a key.
func packFields(mti string, f fields, mak *key16) []byte {
	second := false
	for de := range f {
		second = second || de > 64
	}
	var body []byte
	var bitmap [16]byte
	set := func(de int) { bitmap[(de-1)/8] |= 0x80 >> ((de - 1) % 8) }
	for de := 2; de < 128; de++ {
		v, ok := f[de]
		if !ok {
			continue
		}
		set(de)
		switch elements[de].prefix {
		case 2:
			body = append(body, fmt.Sprintf("%02d", len(v))...)
		case 3:
			body = append(body, fmt.Sprintf("%03d", len(v))...)
		}
		body = append(body, v...)
	}
	if second {
		set(1)
	}
	if mak != nil && second {
		set(128)
	} else if mak != nil {
		set(64)
	}
	size := 8
	if second {
		size = 16
	}
	whole := append(append([]byte(mti), bitmap[:size]...), body...)
	if mak != nil {
		mac := mak.pair().mac(whole)
		whole = append(whole, mac[:]...)
	}
	return whole
}

// frame puts a length in front.
func frame(body []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(body))), body...)
}

// write sends bytes as they are.
func (m *member) write(b []byte) {
	m.t.Helper()
	if _, err := m.conn.Write(b); err != nil {
		m.t.Fatal(err)
	}
}

// send sends a financial message with a MAC.
func (m *member) send(mti string, f fields) { m.t.Helper(); m.write(frame(packFields(mti, f, &m.mak))) }

var errNothing = errors.New("nothing came")

// receive reads one frame, or errNothing after a while.
func (m *member) receive(patience time.Duration) ([]byte, error) {
	if err := m.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	var head [2]byte
	if _, err := io.ReadFull(m.conn, head[:]); err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil, errNothing
		}
		return nil, err
	}
	body := make([]byte, binary.BigEndian.Uint16(head[:]))
	_, err := io.ReadFull(m.conn, body)
	return body, err
}

// read takes an answer apart and checks its MAC, if it must have one.
func (m *member) read(body []byte) (string, fields, error) {
	var c cardMessage
	if err := c.parse(body); err != nil {
		return "", nil, err
	}
	f := fields{}
	for de := 2; de <= 128; de++ {
		if c.have(de) {
			f[de] = string(c.get(de))
		}
	}
	if body[1] != '8' {
		mac := m.mak.pair().mac(body[:len(body)-8])
		if c.macAt == 0 || !bytes.Equal(mac[:], body[c.macAt:]) {
			return string(body[:4]), f, errors.New("wrong MAC")
		}
	}
	return string(body[:4]), f, nil
}

const patience = 5 * time.Second

// call sends a message and reads its answer.
func (m *member) call(mti string, f fields) fields {
	m.t.Helper()
	if mti[1] == '8' {
		m.write(frame(packFields(mti, f, nil)))
	} else {
		m.send(mti, f)
	}
	return m.answer(mti, f)
}

// answer reads the answer to a message.
func (m *member) answer(mti string, f fields) fields {
	m.t.Helper()
	body, err := m.receive(patience)
	if err != nil {
		m.t.Fatalf("answer to %s: %v", mti, err)
	}
	t, a, err := m.read(body)
	if err != nil {
		m.t.Fatalf("answer to %s: %v", mti, err)
	}
	want := mti[:2] + string(mti[2]+1) + "0"
	if t != want || a[11] != f[11] || f[37] != a[37] || f[41] != a[41] {
		m.t.Fatalf("answer to %s: got %s %v", mti, t, a)
	}
	return a
}

func (m *member) network(code string) fields {
	m.t.Helper()
	m.stan++
	return m.call("0800", fields{7: "0414030921", 11: fmt.Sprintf("%06d", m.stan), 32: testMember, 70: code})
}

// exchange fetches working keys.
func (m *member) exchange() *member {
	m.t.Helper()
	a := m.network("101")
	if a[39] != "00" || len(a[48]) != 86 || a[48][:5] != "ZP038" || a[48][43:48] != "MK038" {
		m.t.Fatalf("key exchange: %v", a)
	}
	open := func(text string) key16 {
		raw, err := hex.DecodeString(text)
		if err != nil {
			m.t.Fatal(err)
		}
		zone := mustKey(testZMK).pair()
		var k key16
		copy(k[:], raw)
		zone.decrypt(k[:8])
		zone.decrypt(k[8:])
		if check := k.checkValue(); !bytes.Equal(check[:], raw[16:]) {
			m.t.Fatalf("check value %X, want %X", raw[16:], check)
		}
		return k
	}
	m.zpk, m.mak = open(a[48][5:43]), open(a[48][48:])
	return m
}

func (m *member) signOn() *member {
	m.t.Helper()
	m.exchange()
	if a := m.network("001"); a[39] != "00" {
		m.t.Fatalf("sign-on: %v", a)
	}
	return m
}

// sale is a keyed sale with the card that approves, with changes; "" takes an element away.
func (m *member) sale(minor int64, changes fields) fields {
	m.stan++
	m.rrn++
	f := fields{2: plainCard, 3: "000000", 4: fmt.Sprintf("%012d", minor), 7: "0414030921", 11: fmt.Sprintf("%06d", m.stan), 12: "110921", 13: "0414",
		14: "3112", 22: "011", 25: "00", 32: testMember, 37: fmt.Sprintf("6104%08d", m.rrn), 41: "TERM0001", 42: "SHOP-1         ", 49: "036"}
	return f.with(changes)
}

func (f fields) with(changes fields) fields {
	g := fields{}
	for de, v := range f {
		g[de] = v
	}
	for de, v := range changes {
		if g[de] = v; v == "" {
			delete(g, de)
		}
	}
	return g
}

// about is a message about another one, which it names in DE 90.
func (m *member) about(mti string, original fields, changes fields) fields {
	m.stan++
	m.rrn++
	f := original.with(fields{11: fmt.Sprintf("%06d", m.stan), 37: fmt.Sprintf("6104%08d", m.rrn), 14: "", 35: "", 52: "", 53: "", 55: "",
		90: mti + original[11] + original[7] + fmt.Sprintf("%011s", testMember) + "00000000000"})
	return f.with(changes)
}

// reversal is a reversal of a message: its RRN is the original's.
func (m *member) reversal(mti string, original fields) fields {
	return m.about(mti, original, fields{37: original[37], 22: "", 25: ""})
}

func (m *member) want(what string, a fields, code string) {
	m.t.Helper()
	if a[39] != code {
		m.t.Errorf("%s: got %s, want %s in %v", what, a[39], code, a)
	}
}

// books lists movements, newest first, as "kind minor currency state".
func (r *cardRig) books(query string) string {
	r.t.Helper()
	w := httptest.NewRecorder()
	r.h.Handler().ServeHTTP(w, httptest.NewRequestWithContext(r.t.Context(), "GET", "/cards/books"+query, nil))
	var list []movement
	if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil || list == nil {
		r.t.Fatalf("books: %v in %q", err, w.Body)
	}
	words := []string{}
	for _, m := range list {
		words = append(words, fmt.Sprintf("%s %d %s %s", m.Kind, m.AmountMinor, m.Currency, m.State))
	}
	return strings.Join(words, "; ")
}

func (r *cardRig) wantBooks(want string) {
	r.t.Helper()
	if got := r.books(""); got != want {
		r.t.Errorf("books: got %q, want %q", got, want)
	}
}

func (r *cardRig) journal() string {
	r.t.Helper()
	text, err := os.ReadFile(filepath.Join(r.dir, cardJournalName))
	if err != nil {
		r.t.Fatal(err)
	}
	return string(text)
}

// pinBlock encrypts a PIN in format 0 or 3.
func (m *member) pinBlock(pan, pin string, format byte) string {
	text := fmt.Sprintf("%d%X%s%s", format, len(pin), pin, strings.Repeat(map[byte]string{0: "F", 3: "B"}[format], 14-len(pin)))
	block, err := hex.DecodeString(text)
	if err != nil {
		m.t.Fatal(err)
	}
	half, err := hex.DecodeString("0000" + pan[len(pan)-13:len(pan)-1])
	if err != nil {
		m.t.Fatal(err)
	}
	for i := range block {
		block[i] ^= half[i]
	}
	m.zpk.pair().encrypt(block)
	return string(block)
}

func TestSaleAndReversal(t *testing.T) {
	t.Parallel()
	r := setupCards(t)
	m := r.dial().signOn()
	q := m.sale(1250, nil)
	a := m.call("0200", q)
	m.want("sale", a, "00")
	if len(a[38]) != 6 || a[4] != q[4] || a[3] != q[3] || a[7] != q[7] || a[32] != testMember || a[42] != q[42] || a[49] != "036" || a[2] != "" {
		t.Errorf("sale: got %v", a)
	}
	m.want("twice", m.call("0200", q), "94")
	r.wantBooks("payment 1250 AUD done")
	m.want("reversal", m.call("0420", m.reversal("0200", q)), "00")
	m.want("again", m.call("0421", m.reversal("0200", q)), "00")
	r.wantBooks("payment 1250 AUD reversed")
	m = r.restart()
	m.want("twice, after a restart", m.call("0200", q), "94")
	m.want("again, after a restart", m.call("0421", m.reversal("0200", q)), "00")
	r.wantBooks("payment 1250 AUD reversed")

	m.stan, m.rrn = 100, 100
	late := m.sale(500, nil)
	m.want("reversal before the sale", m.call("0420", m.reversal("0200", late)), "00")
	m.want("the sale after it", m.call("0200", late), "12")
	m = r.restart()
	m.want("the sale after a restart", m.call("0200", late), "12")
	r.wantBooks("payment 1250 AUD reversed")
}

package sandbox

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestPackedBytes holds the codec against a message that was packed by hand from docs/card-host.md.
func TestPackedBytes(t *testing.T) {
	t.Parallel()
	want := "0210" + "\x32\x20\x00\x00\x08\x80\x00\x00" + "000000" + "000000001250" + "0414030921" + "000001" + "610400000001" + "TERM0001"
	b := begin([]byte("before"), mti{'0', '2', '1', '0'}, false)
	b.add(3, []byte("000000"))
	b.add(4, appendNumber(nil, 1250, 12))
	b.add(7, []byte("0414030921"))
	b.add(11, []byte("000001"))
	b.add(37, []byte("610400000001"))
	b.add(41, []byte("TERM0001"))
	b.add(42, nil)
	if got := string(b.end(nil)); got != "before"+string(binary.BigEndian.AppendUint16(nil, uint16(len(want))))+want {
		t.Errorf("got %q, want %q", got, want)
	}
	second := begin(nil, mtiNetwork, true)
	second.add(32, []byte("62310001"))
	second.add(48, []byte("TK006ct_abc"))
	second.add(70, []byte("301"))
	want = "\x00\x3a" + "0800" + "\x80\x00\x00\x01\x00\x01\x00\x00" + "\x04\x00\x00\x00\x00\x00\x00\x00" + "0862310001" + "011TK006ct_abc" + "301"
	want = string(binary.BigEndian.AppendUint16(nil, uint16(len(want)-2))) + want[2:]
	if got := string(second.end(nil)); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestTornFrames(t *testing.T) {
	t.Parallel()
	r := setupCards(t)
	m := r.dial().signOn()
	for i := range 3 { // Byte by byte; then torn once at every place.
		q := m.sale(100, nil)
		whole := frame(packFields("0200", q, &m.mak))
		if i == 0 {
			for _, b := range whole {
				m.write([]byte{b})
				time.Sleep(100 * time.Microsecond)
			}
			m.want("byte by byte", m.answer("0200", q), "00")
			continue
		}
		for at := i; at < len(whole); at += 7 {
			q := m.sale(100, nil)
			whole := frame(packFields("0200", q, &m.mak))
			m.write(whole[:at])
			time.Sleep(200 * time.Microsecond)
			m.write(whole[at:])
			m.want(fmt.Sprintf("torn at %d", at), m.answer("0200", q), "00")
		}
	}
	q := m.sale(100, nil)
	whole := frame(packFields("0200", q, &m.mak))
	for at := range whole { // And cut off there: nothing is taken.
		cut := r.dial()
		cut.write(whole[:at])
		_ = cut.conn.Close()
	}
	m.want("after all that", m.call("0200", q), "00")
}

func TestBadFrames(t *testing.T) {
	t.Parallel()
	r := setupCards(t)
	long := append([]byte{0x10, 0x01}, make([]byte, frameMax+1)...)
	for name, bad := range map[string][]byte{
		"length 0":            {0, 0},
		"length 1":            {0, 1, '0'},
		"too long":            long,
		"no message":          frame([]byte("hello, host, how are you")),
		"too short":           frame([]byte("0200")),
		"second bitmap short": frame([]byte("0200\x80\x00\x00\x00\x00\x00\x00\x00")),
		"letters for an MTI":  frame(append([]byte("02x0"), make([]byte, 20)...)),
		"no STAN":             frame(packFields("0200", fields{3: "000000"}, nil)[:14]),
	} {
		m := r.dial().signOn()
		m.write(bad)
		if body, err := m.receive(patience); err == nil || errors.Is(err, errNothing) {
			t.Errorf("%s: the connection stays: %q, %v", name, body, err)
		}
	}
	m := r.dial().signOn()
	for name, bad := range map[string]func(fields) []byte{
		"unknown element": func(q fields) []byte { return packFields("0200", q.with(fields{63: "x"}), &m.mak) },
		"letters in DE 49": func(q fields) []byte {
			return packFields("0200", q.with(fields{49: "AUD"}), &m.mak)
		},
		"bytes behind":      func(q fields) []byte { return append(packFields("0200", q, &m.mak), "more"...) },
		"cut":               func(q fields) []byte { w := packFields("0200", q, &m.mak); return w[:len(w)-9] },
		"unknown type":      func(q fields) []byte { return packFields("0300", q, &m.mak) },
		"track of letters":  func(q fields) []byte { return packFields("0200", q.with(fields{35: "x"}), &m.mak) },
		"MAC in the middle": func(q fields) []byte { return packFields("0420", q.with(fields{64: "12345678", 90: "1"}), &m.mak) },
		"control character": func(q fields) []byte { return packFields("0200", q.with(fields{48: "TK003a\nb"}), &m.mak) },
		"broken UTF-8": func(q fields) []byte {
			return packFields("0200", q.with(fields{43: strings.Repeat("\xc3", 40)}), &m.mak)
		},
	} {
		q := m.sale(100, nil)
		m.write(frame(bad(q)))
		body, err := m.receive(patience)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			m = r.dial().signOn()
			continue
		}
		if _, a, err := m.read(body); err != nil || a[39] != "30" || a[11] != q[11] {
			t.Errorf("%s: got %v, %v", name, a, err)
		}
	}
	m.write(frame(packFields("0210", m.sale(100, nil), &m.mak))) // Answers to nothing are passed over.
	m.want("after all that", m.call("0200", m.sale(100, nil)), "00")
	r.wantBooks("payment 100 AUD done")
}

func TestSlowReadersDoNotStallOthers(t *testing.T) {
	t.Parallel()
	r := setupCards(t)
	slow, quick := r.dial().signOn(), r.dial().signOn()
	if err := slow.conn.(*net.TCPConn).SetReadBuffer(1 << 10); err != nil {
		t.Fatal(err)
	}
	stop := make(chan struct{})
	var work sync.WaitGroup
	work.Go(func() {
		echo := frame(packFields("0800", fields{7: "0414030921", 11: "000001", 32: testMember, 70: "301"}, nil))
		burst := bytes.Repeat(echo, 1000)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if err := slow.conn.SetWriteDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
				return
			}
			if _, err := slow.conn.Write(burst); err != nil {
				return // The host does not read any more, because we do not.
			}
		}
	})
	work.Wait()
	start := time.Now()
	for range 20 {
		quick.want("beside a slow reader", quick.call("0200", quick.sale(100, nil)), "00")
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("20 sales took %v", took)
	}
	close(stop)
}

func TestTooManyConnections(t *testing.T) {
	t.Parallel()
	r := setupCards(t)
	m := r.dial().signOn()
	for range connsMax + 10 {
		r.dial()
	}
	one := r.dial()
	if _, err := one.receive(patience); !errors.Is(err, io.EOF) && !strings.Contains(fmt.Sprint(err), "reset") {
		t.Errorf("one too many: got %v", err)
	}
	m.want("one of the first", m.call("0200", m.sale(100, nil)), "00")
}

// FuzzCardMessage: whatever comes, parsing does not panic, and what it reads is what was packed.
func FuzzCardMessage(f *testing.F) {
	key := mustKey("0123456789abcdeffedcba9876543210")
	m := &member{zpk: key, mak: key}
	f.Add(packFields("0200", m.sale(1250, fields{35: plainCard + "=3112201", 55: "\x9f\x02\x06000000", 48: "TK006ct_abc"}), &key))
	f.Add(packFields("0420", m.reversal("0200", m.sale(1250, nil)), &key))
	f.Add(packFields("0800", fields{7: "0414030921", 11: "000001", 32: testMember, 70: "101"}, nil))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > frameMax {
			return
		}
		var c cardMessage
		err := c.parse(raw)
		if errors.Is(err, errHeader) {
			return
		}
		_, _ = c.item("TK")
		var chip chipData
		_ = chip.parse(c.get(55))
		if err != nil {
			return
		}
		b := begin(nil, c.mti(), c.raw[4]&0x80 != 0)
		for de := 2; de <= lastDE; de++ {
			if c.have(de) {
				b.add(de, append([]byte{}, c.get(de)...))
			}
		}
		if got := b.end(nil)[frameHead:]; !bytes.Equal(got, raw) {
			t.Errorf("%q became %q", raw, got)
		}
	})
}

// FuzzCardHost: whatever a member that has keys sends, the host answers or drops it.
func FuzzCardHost(f *testing.F) {
	h, err := OpenCards(CardConfig{Dir: f.TempDir(), ZMK: testZMK, Member: testMember, Rand: strings.NewReader(""), Now: time.Now})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = h.Close() })
	key := mustKey("0123456789abcdeffedcba9876543210")
	keys := &workingKeys{key.pair(), key.pair()}
	m := &member{zpk: key, mak: key}
	q := m.sale(1250, fields{35: plainCard + "=3112201", 52: "12345678", 53: "0100000000000000", 55: "\x9f\x02\x06000000"})
	for _, body := range [][]byte{
		packFields("0200", q, nil), packFields("0100", q, nil), packFields("0420", m.reversal("0200", q), nil),
		packFields("0220", m.about("0100", q, fields{38: "000001"}), nil),
		packFields("0320", m.about("0200", q, fields{60: "1"}), nil),
		packFields("0500", fields{3: "000000", 7: q[7], 11: q[11], 12: q[12], 13: q[13], 32: testMember, 37: q[37], 41: q[41], 42: q[42], 49: "036", 60: "1",
			74: "0000000000", 75: "0000000000", 76: "0000000000", 77: "0000000000", 86: "0000000000000000", 87: "0000000000000000", 88: "0000000000000000", 89: "0000000000000000"}, nil),
	} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) < 12 || len(raw) > frameMax-macSize {
			return
		}
		body := append([]byte{}, raw...)
		if body[4]&0x80 != 0 && len(body) >= 20 { // Give it a MAC, so that it comes further.
			body[19] |= 1
		} else {
			body[11] |= 1
		}
		mac := keys.mac.mac(body)
		var later sync.WaitGroup
		c := &cardConn{h: h, conn: nowhere{}, keys: keys, keyed: true, signedOn: true}
		if err := c.handle(t.Context(), append(body, mac[:]...), &later); err != nil {
			return
		}
		for out := c.out; len(out) > 0; {
			size := int(binary.BigEndian.Uint16(out))
			var a cardMessage
			if err := a.parse(out[frameHead : frameHead+size]); err != nil && !bytes.Equal(out[:frameHead+size], garbledFrame) {
				t.Fatalf("%q was answered %q: %v", body, out, err)
			}
			out = out[frameHead+size:]
		}
	})
}

package sandbox

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestAuthorizationAndCompletion(t *testing.T) {
	t.Parallel()
	r := setupCards(t)
	m := r.dial().signOn()
	q := m.sale(5000, nil)
	auth := m.call("0100", q)
	m.want("authorization", auth, "00")
	r.wantBooks("")
	code := fields{38: auth[38]}
	m.want("more than was authorized", m.call("0220", m.about("0100", q, code.with(fields{4: "000000005001"}))), "13")
	m.want("another code", m.call("0220", m.about("0100", q, fields{38: "ABCDEF"})), "25")
	m.want("another original", m.call("0220", m.about("0100", q, code.with(fields{90: "0100999999" + q[7] + fmt.Sprintf("%011s", testMember) + "00000000000"}))), "25")
	m.want("another card", m.call("0220", m.about("0100", q, code.with(fields{2: "5413330089001011"}))), "25")
	c := m.about("0100", q, code.with(fields{4: "000000004200"}))
	a := m.call("0220", c)
	m.want("completion", a, "00")
	if again := m.call("0221", c); fmt.Sprint(again) != fmt.Sprint(a.with(fields{64: again[64], 128: again[128]})) {
		t.Errorf("repeat: got %v, want %v", again, a)
	}
	m.want("the same numbers, another amount", m.call("0221", c.with(fields{4: "000000000001"})), "12")
	m.want("a second completion", m.call("0220", m.about("0100", q, code.with(fields{4: "000000000100"}))), "12")
	m.want("reversal of what is completed", m.call("0400", m.reversal("0100", q)), "12")
	r.wantBooks("payment 4200 AUD done")
	m.want("refund of the completion", m.call("0200", m.about("0220", c, fields{3: "200000", 4: "000000000200", 38: a[38]})), "00")
	m.want("void after a refund", m.call("0200", m.about("0220", c, fields{3: "020000"})), "12")
	r.wantBooks("refund 200 AUD done; payment 4200 AUD done")

	released := m.sale(700, nil)
	m.want("another authorization", m.call("0100", released), "00")
	m.want("its release", m.call("0400", m.reversal("0100", released)), "00")
	m.want("completion after that", m.call("0220", m.about("0100", released, fields{38: "000000"})), "25")
	r.wantBooks("refund 200 AUD done; payment 4200 AUD done")
}

func TestVoids(t *testing.T) {
	t.Parallel()
	r := setupCards(t)
	m := r.dial().signOn()
	q := m.sale(900, nil)
	m.want("sale", m.call("0200", q), "00")
	void := m.about("0200", q, fields{3: "020000"})
	m.want("part of it", m.call("0200", m.about("0200", q, fields{3: "020000", 4: "000000000100"})), "13")
	m.want("void", m.call("0200", void), "00")
	m.want("the same void", m.call("0200", void), "00")
	m.want("another void", m.call("0200", m.about("0200", q, fields{3: "020000"})), "00")
	m.want("refund of what is void", m.call("0200", m.about("0200", q, fields{3: "200000"})), "12")
	m.want("reversal of what is void", m.call("0400", m.reversal("0200", q)), "00")
	m.want("reversal of the void", m.call("0420", m.reversal("0200", void)), "12")
	m.want("void of nothing", m.call("0200", m.about("0200", m.sale(1, nil), fields{3: "020000"})), "25")
	m.want("void that names nothing", m.call("0200", m.sale(1, fields{3: "020000"})), "30")
	m.want("no such transaction", m.call("0200", m.sale(1, fields{3: "310000"})), "12")
	r.wantBooks("payment 900 AUD reversed")
	m = r.restart()
	m.want("the same void, after a restart", m.call("0200", void), "00")
	r.wantBooks("payment 900 AUD reversed")
}

func TestRefunds(t *testing.T) {
	t.Parallel()
	r := setupCards(t)
	m := r.dial().signOn()
	q := m.sale(1000, nil)
	m.want("sale", m.call("0200", q), "00")
	part := func(minor int) fields {
		return m.about("0200", q, fields{3: "200000", 4: fmt.Sprintf("%012d", minor)})
	}
	first := part(600)
	m.want("refund", m.call("0200", first), "00")
	m.want("twice", m.call("0200", first), "94")
	m.want("more than is left", m.call("0200", part(401)), "13")
	m.want("reversal of a sale with a refund", m.call("0420", m.reversal("0200", q)), "12")
	m.want("reversal of the refund", m.call("0420", m.reversal("0200", first)), "00")
	m.want("all of it", m.call("0200", part(1000)), "00")
	m.want("nothing is left", m.call("0200", part(1)), "13")
	m.want("another currency", m.call("0200", part(1).with(fields{49: "554"})), "12")
	m.want("of another terminal", m.call("0200", part(1).with(fields{41: "TERM0009"})), "13") // It is found, and used up.
	m.want("free", m.call("0200", m.sale(300, fields{3: "200000"})), "00")
	r.wantBooks("refund 300 AUD done; refund 1000 AUD done; refund 600 AUD reversed; payment 1000 AUD done")
	if got := r.books("?reference=" + q[37]); got != "payment 1000 AUD done" {
		t.Errorf("books of one reference: %s", got)
	}
	if got := r.books("?after=mv000000000002"); got != "refund 300 AUD done; refund 1000 AUD done" {
		t.Errorf("books after the second movement: %s", got)
	}
	m = r.restart()
	m.stan, m.rrn = 500, 500
	m.want("nothing is left after a restart", m.call("0200", part(1)), "13")
	r.wantBooks("refund 300 AUD done; refund 1000 AUD done; refund 600 AUD reversed; payment 1000 AUD done")
}

func TestReversalsThatNameSomethingElse(t *testing.T) {
	t.Parallel()
	r := setupCards(t)
	m := r.dial().signOn()
	q := m.sale(1000, nil)
	m.want("sale", m.call("0200", q), "00")
	other := m.reversal("0200", q)
	m.want("another STAN", m.call("0420", other.with(fields{90: "0200999999" + other[90][10:]})), "25")
	m.want("another amount", m.call("0420", m.reversal("0200", q).with(fields{4: "000000000001"})), "13")
	m.want("another member", m.call("0420", other.with(fields{90: other[90][:20] + "99999999999" + other[90][31:]})), "30")
	m.want("a type that has no reversal", m.call("0420", other.with(fields{90: "0220" + other[90][4:]})), "30")
	m.want("without DE 90", m.call("0420", other.with(fields{90: ""})), "30")
	r.wantBooks("payment 1000 AUD done")
	m.want("declined", m.call("0200", m.sale(905100, nil)), "05")
	no := m.sale(905100, nil)
	m.want("declined", m.call("0200", no), "05")
	m.want("reversal of what was declined", m.call("0420", m.reversal("0200", no)), "00")
	r.wantBooks("payment 1000 AUD done")
}

func TestPINs(t *testing.T) {
	t.Parallel()
	r := setupCards(t)
	m := r.dial().signOn()
	pay := func(pan, pin string, format byte) string {
		q := m.sale(100, fields{2: pan, 22: "901", 14: hostCards[byPAN[pan]].expiry, 53: map[byte]string{0: "0100000000000000", 3: "0300000000000000"}[format]})
		q[52] = m.pinBlock(pan, pin, format)
		return m.call("0200", q)[39]
	}
	check := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: got %s, want %s", what, got, want)
		}
	}
	check("right", pay(plainCard, "1234", 0), "00")
	check("right, format 3", pay(plainCard, "1234", 3), "00")
	check("wrong", pay(plainCard, "1235", 0), "55")
	check("wrong again", pay(plainCard, "1235", 0), "55")
	check("right after that", pay(plainCard, "1234", 0), "00")
	check("wrong", pay(plainCard, "12345", 3), "55")
	q := m.sale(100, fields{22: "901", 52: "garbage!", 53: "0100000000000000"})
	check("no PIN at all", m.call("0200", q)[39], "55")
	m = r.restart() // Tries are in the books.
	m.stan, m.rrn = 100, 100
	check("the third", pay(plainCard, "1235", 0), "75")
	check("right, too late", pay(plainCard, "1234", 0), "75")
	check("without a PIN", m.call("0200", m.sale(100, nil))[39], "00")
	w := httptest.NewRecorder()
	r.h.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "POST", "/cards/reset", nil))
	check("reset", fmt.Sprint(w.Code, " ", strings.TrimSpace(w.Body.String())), `200 {"status":"reset"}`)
	check("right after a reset", pay(plainCard, "1234", 0), "00")
	check("the seed's card", pay("5554748800260229", "302312", 0), "00")
	check("the seed's other card, any PIN", pay("5554748800161559", "7777", 0), "00")
	check("the seed's other card, no PIN", m.call("0200", m.sale(100, fields{2: "5554748800161559", 14: "2707", 22: "901", 52: "garbage!", 53: "0100000000000000"}))[39], "55")
	check("PIN without its format", m.call("0200", m.sale(100, fields{52: "garbage!"}))[39], "30")
	check("format 1", m.call("0200", m.sale(100, fields{52: "garbage!", 53: "0200000000000000"}))[39], "30")
	check("a card that wants a PIN", m.call("0200", m.sale(100, fields{2: "5413330090000077", 22: "051"}))[39], "76")
	check("and gets it", pay("5413330090000077", "1234", 0), "00")
}

func TestChecksInTheirOrder(t *testing.T) {
	t.Parallel()
	r := setupCards(t)
	m := r.dial().signOn()
	strict := fields{2: chipCard, 22: "051", 55: string(mustHex(t, exampleDE55))}
	stripe := hostCards[byPAN[plainCard]].track2
	icvv := stripe[:len(stripe)-3] + securityCode(stripeKey, plainCard, "3112", chipService, 3)
	icvv = icvv[:21] + "201" + icvv[24:]
	for _, tt := range []struct {
		what    string
		changes fields
		want    string
	}{
		{"all is well", nil, "00"},
		{"another member", fields{32: "999"}, "03"},
		{"no merchant", fields{42: "               "}, "03"},
		{"another member, and no RRN", fields{32: "999", 37: ""}, "30"},
		{"no amount", fields{4: ""}, "30"},
		{"nothing", fields{4: "000000000000"}, "13"},
		{"no currency", fields{49: "000"}, "12"},
		{"yen", fields{49: "392"}, "00"},
		{"no card of ours", fields{2: "4111111111111111"}, "14"},
		{"another expiry", fields{14: "3111"}, "54"},
		{"neither expiry nor track", fields{14: ""}, "30"},
		{"no card at all", fields{2: ""}, "30"},
		{"card and token", fields{48: "TK006ct_abc"}, "30"},
		{"token", fields{2: "", 14: "", 22: "812", 25: "59", 48: "TK006ct_abc"}, "00"},
		{"token that is none", fields{2: "", 14: "", 22: "812", 48: "TK003abc"}, "30"},
		{"item longer than DE 48", fields{2: "", 14: "", 22: "812", 48: "TK009ct_abc"}, "30"},
		{"another item too", fields{2: "", 14: "", 22: "812", 48: "XX002..TK006ct_abc"}, "00"},
		{"token with a PIN", fields{2: "", 14: "", 22: "811", 48: "TK006ct_abc", 52: "12345678", 53: "0100000000000000"}, "30"},
		{"unknown entry mode", fields{22: "991"}, "30"},
		{"stripe", fields{22: "901", 35: stripe}, "00"},
		{"stripe without DE 14", fields{22: "901", 14: "", 35: stripe}, "00"},
		{"stripe of another card", fields{22: "901", 35: hostCards[0].track2}, "30"},
		{"stripe with another date", fields{22: "901", 14: "", 35: strings.Replace(stripe, "3112", "3012", 1)}, "54"},
		{"stripe with a wrong code", fields{22: "901", 35: stripe[:len(stripe)-3] + "000"}, "82"},
		{"stripe with a chip's code", fields{22: "901", 35: icvv}, "82"},
		{"chip with a chip's code", fields{22: "051", 35: icvv}, "00"},
		{"short stripe", fields{22: "901", 35: stripe[:24]}, "00"},
		{"track 1", fields{22: "901", 14: "", 45: "B" + plainCard + "^DOE/JANE^311220110000000"}, "00"},
		{"track 1 with sentinels", fields{22: "901", 45: "%B" + plainCard + "^DOE/JANE^311220110000000?"}, "00"},
		{"track 1 of another card", fields{22: "901", 45: "B5413330089001011^DOE/JANE^3112201"}, "30"},
		{"strict card without a cryptogram", fields{2: chipCard, 22: "051"}, "82"},
		{"strict card by its stripe", fields{2: chipCard, 22: "801"}, "00"},
		{"strict card, right", strict, "00"},
		{"strict card, contactless", strict.with(fields{22: "072"}), "00"},
		{"strict card, another amount", strict.with(fields{4: "000000001251"}), "82"},
		{"strict card, another currency", strict.with(fields{49: "554"}), "82"},
		{"strict card, another cryptogram", strict.with(fields{55: strings.Replace(strict[55], "\xea\x94", "\xea\x95", 1)}), "82"},
		{"any cryptogram", strict.with(fields{2: plainCard, 55: strings.Replace(strict[55], "\xea\x94", "\xea\x95", 1)}), "00"},
		{"chip data that is none", fields{22: "051", 55: "\x9f\x26\x08abc"}, "30"},
		{"low limit", fields{2: "5413330090000069", 4: "000000005001"}, "61"},
		{"within the low limit", fields{2: "5413330090000069", 4: "000000005000"}, "00"},
		{"a card's behaviour beats the amount", fields{2: "5413330090000010", 4: "000000905100"}, "59"},
		{"a token's behaviour beats the amount", fields{2: "", 14: "", 22: "812", 48: "TK015ct_sandbox_9052", 4: "000000905100"}, "51"},
		{"an amount beats a token that approves", fields{2: "", 14: "", 22: "812", 48: "TK015ct_sandbox_9050", 4: "000000905100"}, "05"},
		{"a token of the wallets only", fields{2: "", 14: "", 22: "812", 48: "TK015ct_sandbox_9053"}, "00"},
		{"a wrong date beats a behaviour", fields{2: "5413330090000010", 14: "3012"}, "54"},
		{"DE 90 of somebody else", fields{90: strings.Repeat("9", 42)}, "30"},
		{"a month that is none", fields{7: "1314030921"}, "30"},
		{"an RRN of letters", fields{37: "ABCDEFGHIJKL"}, "30"},
	} {
		if v := tt.changes[48]; strings.Contains(v, "ct_sandbox") {
			tt.changes[48] = strings.Replace(v, "TK015", fmt.Sprintf("TK%03d", len(v)-5), 1)
		}
		m.want(tt.what, m.call("0200", m.sale(1250, tt.changes)), tt.want)
	}
	q := m.sale(1250, nil)
	body := packFields("0200", q, &m.mak)
	body[len(body)-1] ^= 1
	m.write(frame(body))
	m.want("wrong MAC", m.answer("0200", q), "88")
	m.write(frame(packFields("0200", q, nil)))
	m.want("no MAC", m.answer("0200", q), "88")
	m.want("the same with its MAC", m.call("0200", q), "00")
}

func TestBalance(t *testing.T) {
	t.Parallel()
	r := setupCards(t)
	m := r.dial().signOn()
	small := fields{2: "5413330090000051"}
	q := m.sale(7000, small)
	m.want("first", m.call("0200", q), "00")
	m.want("too much", m.call("0200", m.sale(3001, small)), "51")
	held := m.sale(3000, small)
	m.want("the rest, held", m.call("0100", held), "00")
	m.want("nothing left", m.call("0200", m.sale(1, small)), "51")
	m.want("another currency", m.call("0200", m.sale(1, small.with(fields{49: "554"}))), "00")
	m.want("release", m.call("0400", m.reversal("0100", held)), "00")
	m.want("refund", m.call("0200", m.about("0200", q, fields{3: "200000", 4: "000000001000"})), "00")
	m = r.restart()
	m.stan, m.rrn = 100, 100
	m.want("too much, after a restart", m.call("0200", m.sale(4001, small)), "51")
	m.want("what came back", m.call("0200", m.sale(4000, small)), "00")
	if err := r.h.Reset(); err != nil {
		t.Fatal(err)
	}
	m.want("after a reset", m.call("0200", m.sale(10000, small)), "00")
}

func TestKeysAndSignOn(t *testing.T) {
	t.Parallel()
	r := setupCards(t)
	m := r.dial()
	q := m.sale(100, nil)
	m.write(frame(packFields("0200", q, nil)))
	body, err := m.receive(patience)
	if err != nil {
		t.Fatal(err)
	}
	var c cardMessage
	if err := c.parse(body); err != nil || string(c.get(39)) != "91" || c.macAt != 0 {
		t.Errorf("before the keys: %v, %s", err, c.get(39))
	}
	m.want("sign-on before the keys", m.network("001"), "91")
	m.want("echo before the keys", m.network("301"), "00")
	m.exchange()
	m.want("before the sign-on", m.call("0200", q), "91")
	m.want("sign-on", m.network("001"), "00")
	m.want("sale", m.call("0200", q), "00")
	former := *m
	m.exchange()
	m.want("with the new keys", m.call("0200", m.sale(100, fields{22: "901", 52: m.pinBlock(plainCard, "1234", 0), 53: "0100000000000000"})), "00")
	m.want("the former ones", former.call("0200", m.sale(100, fields{22: "901", 52: former.pinBlock(plainCard, "1234", 0), 53: "0100000000000000"})), "00")
	r.at.Add(11_000)
	q = m.sale(100, nil)
	m.write(frame(packFields("0200", q, &former.mak)))
	m.want("the former keys after 11 seconds", m.answer("0200", q), "88")
	m.want("cut-over", m.call("0800", fields{7: "0414030921", 11: "000777", 15: "0415", 32: testMember, 70: "201"}), "00")
	m.want("cut-over without a date", m.network("201"), "30")
	m.want("another code", m.network("999"), "12")
	m.want("another member", m.call("0800", fields{7: "0414030921", 11: "000778", 32: "1", 70: "301"}), "03")
	m.want("without a code", m.call("0800", fields{7: "0414030921", 11: "000779", 32: testMember}), "30")
	m.want("sign-off", m.network("002"), "00")
	m.want("after the sign-off", m.call("0200", m.sale(100, nil)), "91")
}

func TestBatches(t *testing.T) {
	t.Parallel()
	r := setupCards(t)
	m := r.dial().signOn()
	totals := func(number string, debits, debitMinor, debitsBack, debitBackMinor, credits, creditMinor int) fields {
		m.stan++
		m.rrn++
		n, a := func(n int) string { return fmt.Sprintf("%010d", n) }, func(n int) string { return fmt.Sprintf("%016d", n) }
		return fields{3: "000000", 7: "0414030921", 11: fmt.Sprintf("%06d", m.stan), 12: "110921", 13: "0414", 32: testMember, 37: fmt.Sprintf("6104%08d", m.rrn),
			41: "TERM0001", 42: "SHOP-1         ", 49: "036", 60: number, 74: n(credits), 75: n(0), 76: n(debits), 77: n(debitsBack),
			86: a(creditMinor), 87: a(0), 88: a(debitMinor), 89: a(debitBackMinor)}
	}
	balanced := func(what string, q fields, code, flag string) {
		t.Helper()
		a := m.call("0500", q)
		m.want(what, a, code)
		if a[66] != flag {
			t.Errorf("%s: DE 66 is %q, want %q", what, a[66], flag)
		}
	}
	one, two, three := m.sale(1000, nil), m.sale(2000, nil), m.sale(3000, nil)
	other := m.sale(50, fields{42: "SHOP-2         "})
	for _, q := range []fields{one, two, three, other} {
		m.want("sale", m.call("0200", q), "00")
	}
	back := m.about("0200", one, fields{3: "200000", 4: "000000000300"})
	m.want("refund", m.call("0200", back), "00")
	m.want("void", m.call("0200", m.about("0200", three, fields{3: "020000"})), "00")

	balanced("too few", totals("1", 1, 1000, 0, 0, 1, 300), "95", "2")
	balanced("the voided sale and its void", totals("1", 3, 6000, 1, 3000, 1, 300), "00", "1")
	balanced("again as it was", totals("1", 9, 9, 0, 0, 0, 0), "00", "1")
	balanced("nothing is left", totals("2", 0, 0, 0, 0, 0, 0), "00", "1")
	m.want("reversal after settlement", m.call("0420", m.reversal("0200", two)), "12")
	m.want("void after settlement", m.call("0200", m.about("0200", two, fields{3: "020000"})), "12")
	m.want("refund after settlement", m.call("0200", m.about("0200", two, fields{3: "200000"})), "00")

	// The host has a refund of 2000 and a sale of 4000; the member knows the refund, and another sale of 700 besides.
	kept := m.sale(4000, nil)
	m.want("sale", m.call("0200", kept), "00")
	balanced("out of balance", totals("3", 1, 700, 0, 0, 0, 0), "95", "2")
	up := func(q fields, mti, number string) fields {
		return m.about(mti, q, fields{2: "", 22: "", 25: "", 37: q[37], 60: number})
	}
	unknown := m.sale(700, nil)
	m.want("upload of what the host did not know", m.call("0320", up(unknown, "0200", "3")), "00")
	m.want("the same again", m.call("0320", up(unknown, "0200", "3")), "00")
	m.want("upload of what the host knows", m.call("0320", up(kept, "0200", "4")), "00")
	m.want("upload with another amount", m.call("0320", up(kept.with(fields{4: "000000000001"}), "0200", "4")), "13")
	m.want("upload of what is settled", m.call("0320", up(two, "0200", "3")), "12")
	balanced("not the totals of the upload", totals("3", 2, 1400, 0, 0, 0, 0).with(fields{3: "920000"}), "95", "2")
	balanced("the totals of the upload", totals("3", 1, 700, 0, 0, 0, 0).with(fields{3: "920000"}), "00", "1")
	m.want("upload to a closed batch", m.call("0320", up(kept, "0200", "3")), "12")
	m.want("upload again", m.call("0320", up(unknown, "0200", "3")), "00")

	m = r.restart()
	m.stan, m.rrn = 900, 900
	balanced("as it was, after a restart", totals("3", 5, 5, 0, 0, 0, 0), "00", "1")
	balanced("the rest", totals("5", 1, 4000, 0, 0, 1, 2000), "00", "1")
	if got := r.books("?reference=" + unknown[37]); got != "payment 700 AUD done" {
		t.Errorf("what was uploaded: %s", got)
	}
}

func TestNothingSecretIsKept(t *testing.T) {
	t.Parallel()
	r := setupCards(t)
	m := r.dial().signOn()
	chip := string(mustHex(t, exampleDE55))
	block := m.pinBlock(chipCard, "1234", 0)
	q := m.sale(1250, fields{2: chipCard, 22: "051", 35: hostCards[byPAN[chipCard]].track2, 45: "B" + chipCard + "^DOE/JANE^3112201000", 52: block, 53: "0100000000000000", 55: chip})
	m.want("sale", m.call("0200", q), "00")
	m.want("token", m.call("0200", m.sale(100, fields{2: "", 14: "", 22: "812", 48: "TK012ct_secrettok"})), "00")
	kept := strings.ToUpper(r.journal())
	for what, secret := range map[string]string{"PAN": chipCard, "track": "=3112", "PIN block": block, "cryptogram": "\xea\x94\xed\x27", "token": "secrettok", "name": "DOE"} {
		for _, form := range []string{secret, hex.EncodeToString([]byte(secret))} {
			if strings.Contains(kept, strings.ToUpper(form)) {
				t.Errorf("the journal holds the %s:\n%s", what, kept)
			}
		}
	}
	if !strings.Contains(kept, maskPAN(chipCard)) {
		t.Error("the journal does not name the card")
	}
}

func TestOddNames(t *testing.T) {
	t.Parallel()
	r := setupCards(t)
	m := r.dial().signOn()
	q := m.sale(100, fields{41: `"\T,{}"\`, 42: `a\"b","rrn":"x"`})
	m.want("sale", m.call("0200", q), "00")
	m = r.restart()
	m.want("twice", m.call("0200", q), "94")
	for _, bad := range []string{`{"txn":{}}`, `{"reset":true} `, `{"spent":{"mti":"0200","rrn":"1","tid":"TERM0001"}}`, `{"close":{"mid":"`, `{}`, ``, `{"reversal":{"mti":"02\`} {
		if err := newCardBook().apply([]byte(bad + "\n")); err == nil {
			t.Errorf("%s: taken", bad)
		}
	}
}

func TestBooksBadCalls(t *testing.T) {
	t.Parallel()
	r := setupCards(t)
	for _, tt := range []struct {
		method, path string
		want         int
	}{
		{"GET", "/cards/books?after=x", http.StatusBadRequest},
		{"GET", "/cards/books?after=mv999", http.StatusOK},
		{"POST", "/cards/books", http.StatusMethodNotAllowed},
		{"GET", "/cards/reset", http.StatusMethodNotAllowed},
	} {
		w := httptest.NewRecorder()
		r.h.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), tt.method, tt.path, nil))
		if w.Code != tt.want {
			t.Errorf("%s %s: got %d, want %d", tt.method, tt.path, w.Code, tt.want)
		}
	}
}

func TestManyMembersAtOnce(t *testing.T) {
	t.Parallel()
	r := setupCards(t)
	const members, each = 8, 50
	var work sync.WaitGroup
	for i := range members {
		m := r.dial().signOn()
		m.rrn = i * 1000
		work.Go(func() {
			var burst []byte
			for range each {
				burst = append(burst, frame(packFields("0200", m.sale(100, fields{41: fmt.Sprintf("TERM%04d", i)}), &m.mak))...)
			}
			m.write(burst)
			for range each {
				body, err := m.receive(patience)
				if err != nil {
					t.Error(err)
					return
				}
				if _, a, err := m.read(body); err != nil || a[39] != "00" {
					t.Errorf("burst: %v, %v", a, err)
				}
			}
		})
	}
	work.Wait()
	if got := strings.Count(r.books(""), "done"); got != members*each {
		t.Errorf("%d movements, want %d", got, members*each)
	}
	r.restart()
	if got := strings.Count(r.books(""), "done"); got != members*each {
		t.Errorf("%d movements after a restart, want %d", got, members*each)
	}
}

func TestServeEnds(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*CardHost, net.Listener, context.CancelFunc) error{
		"context":  func(_ *CardHost, _ net.Listener, cancel context.CancelFunc) error { cancel(); return nil },
		"close":    func(h *CardHost, _ net.Listener, _ context.CancelFunc) error { return h.Close() },
		"listener": func(_ *CardHost, l net.Listener, _ context.CancelFunc) error { return l.Close() },
	} {
		r := &cardRig{t: t, dir: t.TempDir()}
		h, err := OpenCards(CardConfig{Dir: r.dir, ZMK: testZMK, Member: testMember, Rand: rand.Reader, Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		done := make(chan error)
		go func() { done <- h.Serve(ctx, l) }()
		r.addr = l.Addr().String()
		m := r.dial().signOn()
		if err := end(h, l, cancel); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := <-done; (err != nil) != (name == "listener") {
			t.Errorf("%s: Serve returned %v", name, err)
		}
		if _, err := m.receive(patience); err == nil || errors.Is(err, errNothing) {
			t.Errorf("%s: the connection stays", name)
		}
		for range 2 {
			if err := h.Close(); err != nil {
				t.Errorf("%s: close: %v", name, err)
			}
		}
	}
}

func TestConfigThatIsNone(t *testing.T) {
	t.Parallel()
	good := CardConfig{Dir: t.TempDir(), ZMK: testZMK, Member: testMember, Rand: rand.Reader, Now: time.Now}
	for field, spoil := range map[string]func(*CardConfig){
		"Dir":    func(c *CardConfig) { c.Dir = "" },
		"ZMK":    func(c *CardConfig) { c.ZMK = "00" },
		"Member": func(c *CardConfig) { c.Member = "12345678901234" },
		"Now":    func(c *CardConfig) { c.Now = nil },
		"Rand":   func(c *CardConfig) { c.Rand = nil },
	} {
		bad := good
		spoil(&bad)
		if _, err := OpenCards(bad); err == nil || !strings.Contains(err.Error(), "CardConfig."+field) {
			t.Errorf("%s: got %v", field, err)
		}
	}
	if err := os.WriteFile(filepath.Join(good.Dir, cardJournalName), []byte("{\"version\":1}\n{\"txn\":{}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenCards(good); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("a journal with a bad line: %v", err)
	}
}

// pipes is a listener without a network, so that time can be played.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.done); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

// TestTimes plays what takes time: an answer after 12 seconds, and a host that is away for five.
func TestTimes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		h, err := OpenCards(CardConfig{Dir: dir, ZMK: testZMK, Member: testMember, Rand: rand.Reader, Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		l := &pipes{make(chan net.Conn), make(chan struct{})}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- h.Serve(ctx, l) }()
		dial := func() *member {
			ours, theirs := net.Pipe()
			l.conns <- theirs
			return (&member{t: t, conn: ours}).signOn()
		}
		m, other := dial(), dial()
		q := m.sale(905700, nil)
		m.send("0200", q)
		start := time.Now()
		body, err := m.receive(time.Minute)
		if err != nil || time.Since(start) != lateBy {
			t.Errorf("late answer: %v after %v", err, time.Since(start))
		}
		if _, a, err := m.read(body); err != nil || a[39] != "00" || a[37] != q[37] {
			t.Errorf("late answer: %v, %v", a, err)
		}

		heard := make(chan string, 2)
		go func() {
			for range 2 {
				body, err := other.receive(time.Minute)
				if err != nil {
					t.Error(err)
				}
				_, a, _ := other.read(body)
				heard <- a[70]
			}
		}()
		start = time.Now()
		m.want("sign_off", m.call("0200", m.sale(908900, nil)), "00")
		body, err = m.receive(time.Minute)
		if _, a, _ := m.read(body); err != nil || a[70] != "002" {
			t.Errorf("sign-off: %v, %v", a, err)
		}
		m.want("while the host is away", m.call("0200", m.sale(100, nil)), "91")
		m.want("sign-on while it is away", m.network("001"), "91")
		m.want("echo while it is away", m.network("301"), "00")
		body, err = m.receive(time.Minute)
		if _, a, _ := m.read(body); err != nil || a[70] != "001" || time.Since(start) != offFor {
			t.Errorf("back: %v, %v after %v", a, err, time.Since(start))
		}
		m.want("when it is back", m.call("0200", m.sale(100, nil)), "00")
		if got := []string{<-heard, <-heard}; got[0] != "002" || got[1] != "001" {
			t.Errorf("the other member heard %v", got)
		}
		other.want("the other member", other.call("0200", other.sale(100, fields{41: "TERM0002"})), "00")

		idle := dial()
		if body, err := idle.receive(time.Hour); err == nil {
			t.Errorf("idle: got %x", body)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := h.Close(); err != nil {
			t.Error(err)
		}
		for _, m := range []*member{m, other, idle} {
			_ = m.conn.Close()
		}
	})
}

// TestBooksThatCannotBeWritten: no answer leaves that is not written down, and nothing is told of what is only in memory.
func TestBooksThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	r := setupCards(t)
	m := r.dial().signOn()
	m.want("sale", m.call("0200", m.sale(100, nil)), "00")
	if err := r.h.journal.file.Close(); err != nil { // A disk that fails.
		t.Fatal(err)
	}
	for range 2 {
		m.send("0200", m.sale(100, nil))
		if body, err := m.receive(patience); err == nil || errors.Is(err, errNothing) {
			t.Fatalf("got %q, %v", body, err)
		}
		m = r.dial()
		m.write(frame(packFields("0800", fields{7: "0414030921", 11: "000001", 32: testMember, 70: "301"}, nil)))
		if body, err := m.receive(patience); err == nil || errors.Is(err, errNothing) {
			t.Fatalf("got %q, %v", body, err)
		}
	}
	w := httptest.NewRecorder()
	r.h.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/cards/books", nil))
	if w.Code != http.StatusInternalServerError {
		t.Errorf("books: got %d", w.Code)
	}
	r.h.journal.file, _ = os.Open(os.DevNull) // So that the host can be closed.
	_ = r.h.Close()
}

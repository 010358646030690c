package cardhost

import (
	"context"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tillgate/tillgate/card"
	"github.com/tillgate/tillgate/emv"
	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
)

func TestSaleAndReversal(t *testing.T) {
	t.Parallel()
	r := newRig(t).start()
	m := r.sale(1250, chipCard(t))
	a := r.do(m)
	r.want(a, payment.OutcomeApproved, "")
	if a.Result.AuthCode != "A1B2C3" || a.Result.Code != "00" {
		t.Errorf("result %+v", a.Result)
	}
	m.Operation.State, m.Operation.Result = payment.Reversing, a.Result
	r.want(r.do(r.on(payment.Reversal, 1250, m)), payment.OutcomeApproved, "")
	for _, q := range r.host.requests() {
		if !q.mac {
			t.Errorf("%s came with a wrong MAC", q.mti)
		}
	}
}

// What the host sees of each operation, data element by data element.
func TestMessagesAreThePages(t *testing.T) {
	t.Parallel()
	r := newRig(t).start()
	at := time.Date(2026, 11, 22, 13, 30, 5, 0, time.UTC) // Past midnight, and summer time, in Melbourne.
	op := func(kind payment.Kind, id payment.ID, minor int64) payment.Operation {
		return payment.Operation{Merchant: 1, Payment: 7, ID: id, Kind: kind, State: payment.Sent, Number: RRN(id, at), SentAt: at, Tries: 1, Amount: money.New(minor, aud)}
	}
	attempt := func(kind payment.Kind, c *payment.Card) payment.Message {
		m := r.attempt(kind, 1250, c)
		facts := m.Operation.Card
		m.Operation = op(kind, 1999998, 1250)
		m.Operation.Card = facts
		m.Operation.Sealed = r.seal(&m.Operation, c)
		m.Attempt = m.Operation
		return m
	}
	on := func(kind payment.Kind, minor int64, target payment.Message, change func(*payment.Message)) payment.Message {
		m := r.on(kind, minor, target)
		m.Operation = op(kind, 2000000, minor)
		if change != nil {
			change(&m)
		}
		return m
	}
	approved := func(m payment.Message, code string) payment.Message {
		m.Operation.Result = payment.Result{AuthCode: "A1B2C3", Code: code}
		m.Attempt = m.Operation
		return m
	}
	// What all have in common, and what stands in each.
	common := map[int]string{4: "000000001250", 7: "1122133005", 11: "000003", 12: "003005", 13: "1123", 32: testMember, 37: "632602000000", 41: "T0000001",
		42: "4502", 49: "036", 2: testPAN, 22: "050", 25: "00", 3: "000000"}
	sale := map[int]string{11: "000001", 37: "632601999998", 14: "2707", 23: "001", 35: testTrack2,
		43: "Café Überraschung, Collins Street, Mel", 55: "\x82\x02\x39\x00\x95\x05\x00\x00\x00\x00\x00\x9f\x26\x08\x01\x02\x03\x04\x05\x06\x07\x08\x9f\x27\x01\x80\x9f\x36\x02\x00\x01\x9f\x37\x04\x11\x22\x33\x44"}
	original := func(mti string) string { return mti + "000001" + "1122133005" + "00000123456" + "00000000000" }
	none := map[int]string{22: "", 25: ""}
	token := &payment.Card{Token: "tok_secret_1", Entry: payment.EntryNotPresent}
	stripe := chipCard(t)
	stripe.Chip, stripe.Sequence, stripe.Entry, stripe.Fallback, stripe.TID = nil, "", payment.EntryStripe, true, ""
	stripe.Track1, _ = card.ParseTrack1("%B" + testPAN + "^SURNAME/FIRST^2707201987654321?")
	silent := func(m *payment.Message) { m.Operation.State = payment.Unknown }
	for _, tc := range []struct {
		name string
		m    payment.Message
		mti  string
		want []map[int]string // Laid over one another; an empty value is not there.
	}{
		{"sale", attempt(payment.Sale, chipCard(t)), "0200", []map[int]string{sale}},
		{"authorization", attempt(payment.Authorization, chipCard(t)), "0100", []map[int]string{sale}},
		{"stripe after a chip failure, without a terminal", attempt(payment.Sale, stripe), "0200",
			[]map[int]string{sale, {22: "800", 23: "", 41: "00004502", 45: "B" + testPAN + "^SURNAME/FIRST^2707201987654321", 55: ""}}},
		{"token", attempt(payment.Sale, token), "0200",
			[]map[int]string{sale, {2: "", 14: "", 22: "812", 23: "", 25: "59", 35: "", 41: "00004502", 48: "TK012tok_secret_1", 55: ""}}},
		{"completion", on(payment.CaptureOperation, 1000, approved(attempt(payment.Authorization, chipCard(t)), "00"), nil), "0220",
			[]map[int]string{{4: "000000001000", 38: "A1B2C3", 90: original("0100")}}},
		{"completion, repeated", on(payment.CaptureOperation, 1000, approved(attempt(payment.Authorization, chipCard(t)), "00"), silent), "0221",
			[]map[int]string{{4: "000000001000", 38: "A1B2C3", 90: original("0100")}}},
		{"refund of a sale", on(payment.Refund, 500, approved(attempt(payment.Sale, chipCard(t)), "00"), nil), "0200",
			[]map[int]string{{3: "200000", 4: "000000000500", 14: "2707", 38: "A1B2C3", 90: original("0200")}}},
		{"refund of a completion", on(payment.Refund, 500, approved(attempt(payment.Authorization, chipCard(t)), "00"), func(m *payment.Message) {
			m.Capture = op(payment.CaptureOperation, 1999999, 1250)
		}), "0200", []map[int]string{{3: "200000", 4: "000000000500", 14: "2707", 90: "0220" + "000002" + "1122133005" + "00000123456" + "00000000000"}}},
		{"void", on(payment.VoidOperation, 1250, approved(attempt(payment.Sale, chipCard(t)), "00"), nil), "0200",
			[]map[int]string{{3: "020000", 38: "A1B2C3", 90: original("0200")}}},
		{"reversal of an approval", on(payment.Reversal, 1250, approved(attempt(payment.Sale, chipCard(t)), "00"), nil), "0400",
			[]map[int]string{none, {37: "632601999998", 38: "A1B2C3", 90: original("0200")}}},
		{"reversal of an approval for less", on(payment.Reversal, 1250, approved(attempt(payment.Sale, chipCard(t)), "10"), nil), "0400",
			[]map[int]string{none, {37: "632601999998", 38: "A1B2C3", 90: original("0200")}}},
		{"reversal after silence", on(payment.Reversal, 1250, attempt(payment.Authorization, chipCard(t)), nil), "0420",
			[]map[int]string{none, {37: "632601999998", 90: original("0100")}}},
		{"reversal, repeated", on(payment.Reversal, 1250, attempt(payment.Sale, chipCard(t)), silent), "0421",
			[]map[int]string{none, {37: "632601999998", 90: original("0200")}}},
		{"reversal of a refund", on(payment.Reversal, 500, attempt(payment.Sale, chipCard(t)), func(m *payment.Message) {
			m.Target = op(payment.Refund, 1999999, 500)
		}), "0420", []map[int]string{none, {3: "200000", 4: "000000000500", 37: "632601999999", 90: "0200" + "000002" + "1122133005" + "00000123456" + "00000000000"}}},
	} {
		before := len(r.host.requests())
		r.want(r.do(tc.m), payment.OutcomeApproved, "")
		seen := r.host.requests()
		if len(seen) != before+1 {
			t.Fatalf("%s: %d messages", tc.name, len(seen)-before)
		}
		want := maps.Clone(common)
		for _, over := range tc.want {
			maps.Copy(want, over)
		}
		maps.DeleteFunc(want, func(_ int, v string) bool { return v == "" })
		got := maps.Clone(seen[before].value)
		delete(got, 64)
		delete(got, 128)
		if got[55] != "" {
			b, _ := seen[before].GetBytes(55)
			got[55] = string(b)
		}
		if seen[before].mti != tc.mti || !seen[before].mac {
			t.Errorf("%s: type %s, MAC %v; want %s", tc.name, seen[before].mti, seen[before].mac, tc.mti)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
}

func TestEntryModes(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		entry            payment.EntryMode
		fallback, pinPad bool
		mode, condition  string
	}{
		{payment.EntryKeyed, false, false, "010", "00"},
		{payment.EntryChip, false, true, "051", "00"},
		{payment.EntryContactlessChip, false, false, "070", "00"},
		{payment.EntryStripe, false, true, "901", "00"},
		{payment.EntryStripe, true, true, "801", "00"},
		{payment.EntryContactlessStripe, true, false, "910", "00"},
		{payment.EntryNotPresent, false, false, "812", "59"},
		{"", false, false, "812", "59"},
	} {
		m := &message{}
		setEntry(m, tc.entry, tc.fallback, tc.pinPad)
		if m.get(deEntryMode) != tc.mode || m.get(deCondition) != tc.condition {
			t.Errorf("%q, fallback %v, PIN pad %v: got %s and %s, want %s and %s", tc.entry, tc.fallback, tc.pinPad, m.get(deEntryMode), m.get(deCondition), tc.mode, tc.condition)
		}
	}
}

func TestNamesOfTerminalsAndMerchants(t *testing.T) {
	t.Parallel()
	for _, tc := range [][3]string{{"T1 ", "4502", "T1"}, {"", "4502", "00004502"}, {" ", "123456789012", "56789012"}} {
		if got := terminal(tc[0], tc[1]); got != tc[2] {
			t.Errorf("%q of %q: got %q, want %q", tc[0], tc[1], got, tc[2])
		}
	}
	for name, want := range map[string]string{"Shop": "Shop", " a\nb\x00c\xff ": "a b c", "": "", strings.Repeat("é", 25): strings.Repeat("é", 20),
		"x" + strings.Repeat("é", 25): "x" + strings.Repeat("é", 19), strings.Repeat("x", 39) + " x": strings.Repeat("x", 39)} {
		if got := oneLine(name, 40); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
}

func TestNumbers(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("", 5*3600)) // Still the first of January in UTC.
	for _, tc := range []struct {
		id        payment.ID
		rrn, stan string
	}{
		{1, "600100000001", "000002"},
		{999998, "600100999998", "999999"},
		{999999, "600100999999", "000001"},
		{123_456_789_012, "600156789012", "789069"},
	} {
		rrn := RRN(tc.id, at)
		stan, err := stanOf(rrn)
		if rrn != tc.rrn || stan != tc.stan || err != nil {
			t.Errorf("%d: got %s, %s, %v; want %s, %s", tc.id, rrn, stan, err, tc.rrn, tc.stan)
		}
	}
	for _, bad := range []string{"", "60010000000", "60010000000x", "8010000000000001"} {
		if _, err := stanOf(bad); err == nil {
			t.Errorf("%q was taken for an RRN", bad)
		}
	}
}

func TestPIN(t *testing.T) {
	t.Parallel()
	for _, format := range []card.Format{card.Format0, card.Format3} {
		r := newRig(t, func(c *Config) { c.PINFormat = format }).start()
		right, err := card.ParsePIN(testPIN)
		if err != nil {
			t.Fatal(err)
		}
		damaged := r.withPIN(chipCard(t), testPIN)
		damaged.PIN.Block[3] ^= 0x40
		unknown := r.withPIN(chipCard(t), testPIN)
		unknown.PIN.Keys = nil
		second := r.withPIN(chipCard(t), testPIN)
		newer, _ := r.pinKey()
		second.PIN.Keys = [][]byte{newer, second.PIN.Keys[0]}
		for _, tc := range []struct {
			name  string
			card  *payment.Card
			right bool
		}{
			{"right", r.withPIN(chipCard(t), testPIN), true},
			{"under the terminal's older key", second, true},
			{"wrong", r.withPIN(chipCard(t), "302313"), false},
			{"no PIN in the block", damaged, false},
			{"no key", unknown, false},
		} {
			before := len(r.host.requests())
			r.want(r.do(r.sale(100, tc.card)), payment.OutcomeApproved, "")
			q := r.host.requests()[before]
			pin, err := q.pin(t)
			if err != nil || pin.Equal(right) != tc.right {
				t.Errorf("%s: the host finds a PIN: %v; right: %v, want %v", tc.name, err, pin.Equal(right), tc.right)
			}
			if q.value[22] != "051" || q.value[53] != pinFormats[format] {
				t.Errorf("%s: DE 22 %s, DE 53 %s", tc.name, q.value[22], q.value[53])
			}
		}
	}
}

func TestChipAnswer(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.host.script = func(q *request) {
		q.answer(map[int]string{39: "00", 38: "A1B2C3", 55: map[string]string{"000000000100": "\x91\x0a1234567890", "000000000200": "\x91\xff"}[q.value[4]]})
	}
	r.start()
	a := r.do(r.sale(100, chipCard(t)))
	list, err := emv.Parse(a.Chip)
	if arpc, ok := list.Find(emv.TagIssuerAuth); err != nil || !ok || string(arpc) != "1234567890" {
		t.Errorf("the chip's answer is % x", a.Chip)
	}
	a = r.do(r.sale(200, chipCard(t)))
	r.want(a, payment.OutcomeApproved, "")
	if a.Chip != nil {
		t.Errorf("chip data that cannot be read was handed on: % x", a.Chip)
	}
}

// What an answer must be to count, and what becomes of the sale if it is something else.
func TestAnswersThatDoNotCount(t *testing.T) {
	t.Parallel()
	ok := map[int]string{39: "00", 38: "A1B2C3"}
	over := func(set map[int]string) map[int]string {
		all := maps.Clone(ok)
		maps.Copy(all, set)
		return all
	}
	for _, tc := range []struct {
		name   string
		script func(*request)
		drop   Drop
		soon   bool // Known at once, not only at the time-out.
	}{
		{"silence", func(*request) {}, "", false},
		{"a wrong MAC", func(q *request) {
			raw := q.pack(ok)
			raw[len(raw)-1] ^= 1
			q.line.send(raw)
		}, DropMAC, true},
		{"a changed amount under the old MAC", func(q *request) {
			raw := q.pack(ok)
			raw[25] ^= 1
			q.line.send(raw)
		}, DropMAC, true},
		{"no MAC", func(q *request) {
			values := q.echo()
			maps.Copy(values, ok)
			q.line.send(bySpecification(q.line.host.t, "0210", values))
		}, DropMAC, true},
		{"another amount", func(q *request) { q.answer(over(map[int]string{4: "000000000101"})) }, DropDiffers, true},
		{"another currency", func(q *request) { q.answer(over(map[int]string{49: "840"})) }, DropDiffers, true},
		{"another merchant", func(q *request) { q.answer(over(map[int]string{42: "4503"})) }, DropDiffers, true},
		{"another member", func(q *request) { q.answer(over(map[int]string{32: "654321"})) }, DropDiffers, true},
		{"another processing code", func(q *request) { q.answer(over(map[int]string{3: "200000"})) }, DropDiffers, true},
		{"another time", func(q *request) { q.answer(over(map[int]string{7: "0101000000"})) }, DropDiffers, true},
		{"a refusal of another amount", func(q *request) { q.answer(map[int]string{39: "05", 4: "000000000101"}) }, DropDiffers, true},
		{"an approval without amount", func(q *request) { q.answer(over(map[int]string{4: ""})) }, DropDiffers, true},
		{"an approval without merchant", func(q *request) { q.answer(over(map[int]string{42: ""})) }, DropDiffers, true},
		{"an approval for less of nothing", func(q *request) { q.answer(over(map[int]string{39: "10", 4: "0"})) }, DropDiffers, true},
		{"an approval for less of as much", func(q *request) { q.answer(over(map[int]string{39: "10"})) }, DropDiffers, true},
		{"an approval without code", func(q *request) { q.answer(map[int]string{39: "00"}) }, "", true},
		{"sent twice", func(q *request) { q.answer(map[int]string{39: "94"}) }, "", true},
		{"another RRN", func(q *request) { q.answer(over(map[int]string{37: "632600000001"})) }, DropLate, false},
		{"another TID", func(q *request) { q.answer(over(map[int]string{41: "T0000002"})) }, DropLate, false},
		{"another STAN", func(q *request) { q.answer(over(map[int]string{11: "999998"})) }, DropLate, false},
		{"another type", func(q *request) {
			values := q.echo()
			maps.Copy(values, ok)
			q.line.send(bySpecification(q.line.host.t, "0110", values))
		}, DropLate, false},
		{"an echo of the request", func(q *request) {
			raw, err := q.Pack()
			if err != nil {
				q.line.host.t.Error(err)
			}
			q.line.send(raw)
		}, DropLate, false},
		{"garbage", func(q *request) { q.line.send([]byte("0?1\xff\x00\x80answer?")) }, DropGarbled, false},
		{"an answer without response code", func(q *request) { q.answer(map[int]string{38: "A1B2C3"}) }, DropGarbled, false},
		{"a frame of one byte", func(q *request) { _, _ = q.line.conn.Write([]byte{0, 1, 7}) }, "", true},
		{"a cut line", func(q *request) { _ = q.line.conn.Close() }, "", true},
		{"half an answer and a cut line", func(q *request) {
			raw := framed(q.pack(ok))
			_, _ = q.line.conn.Write(raw[:len(raw)/2])
			_ = q.line.conn.Close()
		}, "", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, func(c *Config) { c.Timeout = 300 * time.Millisecond })
			if tc.soon {
				r = newRig(t, func(c *Config) { c.Timeout = 8 * time.Second })
			}
			first := true
			var mu sync.Mutex
			r.host.script = func(q *request) {
				mu.Lock()
				scripted := first
				first = false
				mu.Unlock()
				if scripted {
					tc.script(q)
				} else {
					q.approve()
				}
			}
			r.start()
			began := time.Now()
			m := r.sale(100, chipCard(t))
			r.want(r.do(m), payment.OutcomeUnknown, "")
			if tc.soon && time.Since(began) > 4*time.Second {
				t.Errorf("it took %v", time.Since(began))
			}
			if tc.drop != "" && r.dropped(tc.drop) != 1 {
				t.Errorf("%d dropped as %s, want 1", r.dropped(tc.drop), tc.drop)
			}
			// The reversal that is owed for it arrives, whatever has become of the line.
			rev := r.on(payment.Reversal, 100, m)
			for end := time.Now().Add(5 * time.Second); ; {
				a := r.do(rev)
				if a.Outcome == payment.OutcomeApproved {
					break
				}
				if time.Now().After(end) {
					t.Fatalf("the reversal is %s; log:\n%s", a.Outcome, r.log)
				}
				rev.Operation.State = payment.Unknown
			}
		})
	}
}

// An answer after the time-out is dropped and counted, and takes nothing away from the next request.
func TestLateAndDoubleAnswers(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.Timeout = 200 * time.Millisecond })
	var mu sync.Mutex
	var held []byte
	r.host.script = func(q *request) {
		raw := q.pack(map[int]string{39: "00", 38: "A1B2C3"})
		switch q.value[4] {
		case "000000000100":
			mu.Lock()
			held = raw
			mu.Unlock()
		case "000000000200":
			mu.Lock()
			defer mu.Unlock()
			q.line.send(held)
			q.line.send(raw)
			q.line.send(raw)
		}
	}
	r.start()
	r.want(r.do(r.sale(100, chipCard(t))), payment.OutcomeUnknown, "")
	r.want(r.do(r.sale(200, chipCard(t))), payment.OutcomeApproved, "")
	r.wait("the late and the double answer", func() bool { return r.dropped(DropLate) == 2 })
}

// Answers may be torn at every byte, come together in one piece, and in any order.
func TestTornAnswers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.host.script = func(q *request) {
		raw := framed(q.pack(map[int]string{39: "00", 38: "A1B2C3"}))
		n, _ := strconv.Atoi(q.value[4]) // The amount says where.
		at := min(n, len(raw))
		_, _ = q.line.conn.Write(raw[:at])
		time.Sleep(time.Millisecond)
		_, _ = q.line.conn.Write(raw[at:])
	}
	r.start()
	for at := 1; at < 180; at++ {
		r.want(r.do(r.sale(int64(at), chipCard(t))), payment.OutcomeApproved, "")
	}
}

func TestManyAtOnceOnOneLine(t *testing.T) {
	t.Parallel()
	const many = 64
	r := newRig(t, func(c *Config) { c.Timeout = 10 * time.Second })
	var mu sync.Mutex
	var held [][]byte
	r.host.script = func(q *request) { // All are answered when all are there, the last one first.
		mu.Lock()
		defer mu.Unlock()
		set := map[int]string{39: "00", 38: q.value[37][6:]}
		if q.value[4] == "000000000013" {
			set = map[int]string{39: "51"}
		}
		if held = append(held, framed(q.pack(set))); len(held) == many {
			slices.Reverse(held)
			_, _ = q.line.conn.Write(slices.Concat(held...))
		}
	}
	r.start()
	var all sync.WaitGroup
	for i := range many {
		m := r.sale(int64(i+1), chipCard(t))
		all.Go(func() {
			a := r.do(m)
			if i+1 == 13 {
				r.want(a, payment.OutcomeDeclined, payment.ReasonInsufficientFunds)
				return
			}
			r.want(a, payment.OutcomeApproved, "")
			if a.Result.AuthCode != m.Operation.Number[6:] {
				t.Errorf("%s got the answer of another: %s", m.Operation.Number, a.Result.AuthCode)
			}
		})
	}
	all.Wait()
	if lines := len(r.host.open()); lines != 1 {
		t.Errorf("%d lines", lines)
	}
}

// Two messages of one terminal whose STANs are the same do not travel at the same time.
func TestSameSTANWaits(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	hold := make(chan struct{})
	r.host.script = func(q *request) {
		if q.value[4] == "000000000001" {
			<-hold
		}
		q.approve()
	}
	r.start()
	first, second := r.sale(1, chipCard(t)), r.sale(2, chipCard(t))
	second.Operation.Number = RRN(first.Operation.ID+stanMax, first.Operation.SentAt)
	elsewhere := chipCard(t)
	elsewhere.TID = "T0000002"
	other := r.sale(3, elsewhere)
	other.Operation.Number = RRN(first.Operation.ID+2*stanMax, first.Operation.SentAt)
	var all sync.WaitGroup
	all.Go(func() { r.want(r.do(first), payment.OutcomeApproved, "") })
	r.wait("the first", func() bool { return len(r.host.requests()) == 1 })
	short, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	r.want(r.link.Do(short, second), payment.OutcomeUnsent, "")
	all.Go(func() { r.want(r.do(second), payment.OutcomeApproved, "") })
	r.want(r.do(other), payment.OutcomeApproved, "") // Another terminal does not wait.
	if n := len(r.host.requests()); n != 2 {
		t.Errorf("%d messages, want 2", n)
	}
	close(hold)
	all.Wait()
	if n := len(r.host.requests()); n != 3 {
		t.Errorf("%d messages, want 3", n)
	}
}

func TestNothingLeavesWithoutALine(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		network func(*request) bool
	}{
		{"keys are refused", func(q *request) bool {
			q.answer(map[int]string{39: "96"})
			return true
		}},
		{"keys under another master key", func(q *request) bool {
			if q.value[70] == "101" {
				q.answer(map[int]string{39: "00", 48: "ZP038" + strings.Repeat("0", 38) + "MK038" + strings.Repeat("1", 38)})
			}
			return true
		}},
		{"half a key", func(q *request) bool {
			if q.value[70] == "101" {
				q.answer(map[int]string{39: "00", 48: "ZP012" + strings.Repeat("0", 12)})
			}
			return true
		}},
		{"sign-on is refused", func(q *request) bool {
			if q.value[70] == "001" {
				q.answer(map[int]string{39: "91"})
				return true
			}
			return false
		}},
		{"network messages are not answered", func(*request) bool { return true }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.link.patience = 100 * time.Millisecond
			r.host.network = tc.network
			r.run()
			r.want(r.do(r.sale(100, chipCard(t))), payment.OutcomeUnsent, "")
			if r.link.Ready() || len(r.host.requests()) != 0 {
				t.Errorf("ready %v, %d messages", r.link.Ready(), len(r.host.requests()))
			}
		})
	}
	t.Run("nobody listens", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, func(c *Config) { c.Addresses = []string{"127.0.0.1:1"} })
		r.link.patience = 100 * time.Millisecond
		r.run()
		r.want(r.do(r.sale(100, chipCard(t))), payment.OutcomeUnsent, "")
	})
	t.Run("not running", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		r.link.patience = 100 * time.Millisecond
		r.want(r.do(r.sale(100, chipCard(t))), payment.OutcomeUnsent, "")
	})
	t.Run("stopped", func(t *testing.T) {
		t.Parallel()
		r := newRig(t).start()
		_ = r.stop()
		r.link.patience = 100 * time.Millisecond
		r.want(r.do(r.sale(100, chipCard(t))), payment.OutcomeUnsent, "")
	})
}

// Messages that cannot be made never leave.
func TestMessagesThatCannotBeMade(t *testing.T) {
	t.Parallel()
	r := newRig(t).start()
	change := func(fn func(*payment.Message)) payment.Message {
		m := r.sale(100, chipCard(t))
		fn(&m)
		return m
	}
	sale := r.sale(100, chipCard(t))
	for name, m := range map[string]payment.Message{
		"the card is gone":           change(func(m *payment.Message) { m.Secret = nil }),
		"no number of ours":          change(func(m *payment.Message) { m.Operation.Number = "8010000000000001" }),
		"never sent":                 change(func(m *payment.Message) { m.Operation.SentAt = time.Time{} }),
		"an impossible TID":          change(func(m *payment.Message) { m.Operation.Card.TID = "T00000001" }),
		"an impossible merchant":     change(func(m *payment.Message) { m.Merchant.PublicID = "1234567890123456" }),
		"no merchant":                change(func(m *payment.Message) { m.Merchant.PublicID = "" }),
		"an unknown zone":            change(func(m *payment.Message) { m.Payment.Calendar.Zone = "Mars/Olympus" }),
		"an amount that is too long": change(func(m *payment.Message) { m.Operation.Amount = money.New(1_000_000_000_000, aud) }),
		"chip data that is none":     change(func(m *payment.Message) { m.Secret.(*payment.Card).Chip = []byte{0x9f} }),
		"neither number nor token":   change(func(m *payment.Message) { m.Secret = &payment.Card{Entry: payment.EntryKeyed} }),
		"a token that is too long":   change(func(m *payment.Message) { m.Secret = payment.WalletCode(strings.Repeat("x", 995)) }),
		"a PIN format of no terminal": change(func(m *payment.Message) {
			m.Secret = r.withPIN(chipCard(t), testPIN)
			m.Secret.(*payment.Card).PIN.Format = card.Format1
		}),
		"a refund whose card is lost": func() payment.Message { m := r.on(payment.Refund, 1, sale); m.Target.Sealed = nil; return m }(),
		"a refund of no known completion": func() payment.Message {
			m := r.on(payment.Refund, 1, sale)
			m.Target.Kind = payment.Authorization
			return m
		}(),
	} {
		r.want(r.do(m), payment.OutcomeUnsent, "")
		if n := len(r.host.requests()); n != 0 {
			t.Fatalf("%s: %d messages", name, n)
		}
	}
	for _, kind := range []payment.Kind{payment.CancelOperation, payment.Close} {
		r.want(r.do(r.on(kind, 100, sale)), payment.OutcomeDeclined, payment.ReasonDeclined)
	}
	if a := r.link.Query(t.Context(), sale); a.Outcome != payment.OutcomeUnknown {
		t.Errorf("a query is %s", a.Outcome)
	}
}

func TestHostSignsOffAndOn(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var mu sync.Mutex
	away := false
	r.host.network = func(q *request) bool {
		mu.Lock()
		defer mu.Unlock()
		if q.value[70] == "001" && away {
			q.answer(map[int]string{39: "91"})
			return true
		}
		return false
	}
	r.start()
	line := r.host.open()[0]
	mu.Lock()
	away = true
	mu.Unlock()
	line.ask("002", nil)
	r.wait("the sign-off", func() bool { return !r.link.Ready() })
	r.want(r.do(r.sale(100, chipCard(t))), payment.OutcomeUnsent, "")
	mu.Lock()
	away = false
	mu.Unlock()
	line.ask("001", nil)
	r.wait("the sign-on", r.link.Ready)
	r.want(r.do(r.sale(100, chipCard(t))), payment.OutcomeApproved, "")
	heard := line.heard()
	for _, want := range []string{"answered 002 00", "answered 001 00"} {
		if !slices.Contains(heard, want) {
			t.Errorf("the host heard %q, want %q among them", heard, want)
		}
	}
	if n := len(r.host.open()); n != 1 {
		t.Errorf("%d lines, want the one that was", n)
	}
}

// A host that has forgotten the sign-on says 91; it is signed on again.
func TestSignsOnAgainAfter91(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.link.again = 20 * time.Millisecond
	r.host.script = func(q *request) {
		q.line.mu.Lock()
		on := q.line.signedOn
		q.line.mu.Unlock()
		if !on {
			q.answer(map[int]string{39: "91"})
			return
		}
		q.approve()
	}
	r.start()
	line := r.host.open()[0]
	time.Sleep(10 * time.Millisecond)
	line.mu.Lock()
	line.signedOn = false
	line.mu.Unlock()
	r.want(r.do(r.sale(100, chipCard(t))), payment.OutcomeDeclined, payment.ReasonUnavailable)
	r.wait("another sign-on", func() bool {
		r.do(r.sale(100, chipCard(t)))
		line.mu.Lock()
		defer line.mu.Unlock()
		return line.signedOn
	})
}

func TestHostsNetworkMessages(t *testing.T) {
	t.Parallel()
	days := make(chan string, 1)
	r := newRig(t, func(c *Config) { c.CutOver = func(day string) { days <- day } }).start()
	line := r.host.open()[0]
	line.ask("301", nil)
	line.ask("201", map[int]string{15: "1123"})
	line.ask("999", nil)
	if day := <-days; day != "1123" {
		t.Errorf("cut-over to %q", day)
	}
	r.wait("answers", func() bool { return len(line.heard()) >= 5 })
	if got, want := line.heard()[2:], []string{"answered 301 00", "answered 201 00", "answered 999 12"}; !slices.Equal(got, want) {
		t.Errorf("the host heard %q, want %q", got, want)
	}
	r.want(r.do(r.sale(100, chipCard(t))), payment.OutcomeApproved, "")
}

func TestLinesComeBack(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.Connections = 4 })
	var mu sync.Mutex
	lines := 0
	r.link.cfg.SignedOn = func(n int) { mu.Lock(); lines = n; mu.Unlock() }
	r.start()
	all := func() bool { mu.Lock(); defer mu.Unlock(); return lines == 4 }
	r.wait("four lines", all)
	r.host.open()[2].conn.Close()
	r.wait("a lost line", func() bool { return !all() })
	r.want(r.do(r.sale(100, chipCard(t))), payment.OutcomeApproved, "") // On another one.
	r.wait("four lines", all)
	r.host.hangUp()
	r.wait("no line", func() bool { return !r.link.Ready() })
	r.want(r.do(r.sale(100, chipCard(t))), payment.OutcomeApproved, "") // It waits for one.
	r.wait("four lines", all)
}

func TestSecondAddress(t *testing.T) {
	t.Parallel()
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = dead.Close()
	r := newRig(t, func(c *Config) { c.Addresses = append([]string{dead.Addr().String()}, c.Addresses...) }).start()
	r.want(r.do(r.sale(100, chipCard(t))), payment.OutcomeApproved, "")
}

// Keys change while sales are under way: each is answered under the old keys or the new ones, and none is lost.
func TestKeysChangeInTraffic(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.KeysEvery = 5 * time.Millisecond })
	r.host.script = func(q *request) {
		if !q.mac {
			q.answer(map[int]string{39: "88"})
			return
		}
		q.approve()
	}
	r.start()
	c := r.withPIN(chipCard(t), testPIN)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 30 {
				// Two exchanges may overtake one slow request; then the host says wrong MAC, and has done nothing.
				if a := r.do(r.sale(100, c)); a.Outcome != payment.OutcomeApproved && a.Result.Code != "88" && a.Outcome != payment.OutcomeUnknown {
					t.Errorf("%s %s", a.Outcome, a.Result.Code)
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
	all.Wait()
	exchanges := 0
	for _, what := range r.host.open()[0].heard() {
		if what == "101" {
			exchanges++
		}
	}
	if exchanges < 5 {
		t.Errorf("%d key exchanges", exchanges)
	}
	if n := len(r.host.open()); n != 1 {
		t.Errorf("%d lines: a change of keys has cost one", n)
	}
}

// After a wrong MAC the keys are exchanged anew.
func TestWrongMACBringsNewKeys(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.link.again = 20 * time.Millisecond
	r.host.script = func(q *request) {
		if !q.mac {
			q.answer(map[int]string{39: "88"})
			return
		}
		q.approve()
	}
	r.start()
	line := r.host.open()[0]
	line.mu.Lock()
	line.mak, line.former = make([]byte, 16), nil // The host has lost the key.
	for i := range line.mak {
		line.mak[i] = byte(i * 37)
	}
	line.mu.Unlock()
	r.want(r.do(r.sale(100, chipCard(t))), payment.OutcomeUnknown, "") // Its answer comes under a key that we do not have.
	r.wait("new keys", func() bool { return r.do(r.sale(100, chipCard(t))).Outcome == payment.OutcomeApproved })
}

// A line on which nothing comes any more is found out, and replaced.
func TestDeadLineIsReplaced(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *Config) { c.EchoEvery, c.Timeout = 50*time.Millisecond, 300*time.Millisecond })
	var mu sync.Mutex
	deaf := map[*hostLine]bool{}
	r.host.network = func(q *request) bool {
		mu.Lock()
		defer mu.Unlock()
		return deaf[q.line]
	}
	r.start()
	first := r.host.open()[0]
	r.wait("an echo", func() bool { return slices.Contains(first.heard(), "301") })
	mu.Lock()
	deaf[first] = true
	mu.Unlock()
	r.wait("another line", func() bool { return len(r.host.open()) == 2 && r.link.Ready() })
	r.want(r.do(r.sale(100, chipCard(t))), payment.OutcomeApproved, "")
}

// At the end, what is under way is answered, nothing new is taken, and the host hears a sign-off.
func TestOrderlyEnd(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	hold := make(chan struct{})
	r.host.script = func(q *request) {
		<-hold
		q.approve()
	}
	r.start()
	m := r.sale(100, chipCard(t))
	var all sync.WaitGroup
	all.Go(func() { r.want(r.do(m), payment.OutcomeApproved, "") })
	r.wait("the sale", func() bool { return len(r.host.requests()) == 1 })
	all.Go(func() {
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
	r.wait("the end to begin", func() bool { return !r.link.Ready() })
	late := r.sale(200, chipCard(t))
	all.Go(func() { r.want(r.do(late), payment.OutcomeUnsent, "") })
	time.Sleep(20 * time.Millisecond)
	close(hold)
	all.Wait()
	if heard := r.host.open()[0].heard(); heard[len(heard)-1] != "002" {
		t.Errorf("the host heard %q", heard)
	}
}

func TestHooks(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var mu sync.Mutex
	var seen []string
	r.link.cfg.Exchanged = func(mti, code string, took time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		if took <= 0 {
			t.Errorf("an exchange took %v", took)
		}
		seen = append(seen, mti+" "+code)
	}
	r.host.script = func(q *request) {
		if q.value[4] == "000000000002" {
			_ = q.line.conn.Close()
			return
		}
		q.approve()
	}
	r.start()
	r.do(r.sale(1, chipCard(t)))
	r.do(r.sale(2, chipCard(t)))
	if want := []string{"0200 00", "0200 "}; !slices.Equal(seen, want) {
		t.Errorf("got %q, want %q", seen, want)
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for name, fn := range map[string]func(*Config){
		"no address":        func(c *Config) { c.Addresses = nil },
		"no member":         func(c *Config) { c.Member = "" },
		"a long member":     func(c *Config) { c.Member = "123456789012" },
		"letters":           func(c *Config) { c.Member = "12a" },
		"PIN format 4":      func(c *Config) { c.PINFormat = card.Format4 },
		"too many lines":    func(c *Config) { c.Connections = 65 },
		"a negative time":   func(c *Config) { c.Timeout = -1 },
		"no vault":          func(c *Config) { c.Vault = nil },
		"no log":            func(c *Config) { c.Log = nil },
		"no clock":          func(c *Config) { c.Now = nil },
		"nothing by chance": func(c *Config) { c.Rand = nil },
	} {
		cfg := r.link.cfg
		fn(&cfg)
		if _, err := New(cfg); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	cfg := r.link.cfg
	cfg.Connections, cfg.Timeout, cfg.EchoEvery, cfg.KeysEvery = 0, 0, 0, 0
	l, err := New(cfg)
	if err != nil || l.cfg.Connections != 4 || l.Traits().Timeout != 10*time.Second || l.Traits().Class != payment.CardHost {
		t.Errorf("defaults: %v, %d lines, %+v", err, l.cfg.Connections, l.Traits())
	}
	if got := l.Traits().Number(17, time.Date(2026, 12, 31, 0, 0, 0, 0, time.UTC)); got != "636500000017" {
		t.Errorf("number %s", got)
	}
}

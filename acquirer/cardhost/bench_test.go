package cardhost

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moov-io/iso8583"

	"github.com/tillgate/tillgate/card"
	"github.com/tillgate/tillgate/payment"
)

func benchSale(b *testing.B) *message {
	b.Helper()
	m, err := parse(bySpecification(b, mtiSale, map[int]string{2: testPAN, 3: "000000", 4: "1250", 7: "1122133005", 11: "17", 12: "003005", 13: "1123", 14: "2707",
		22: "051", 23: "001", 25: "00", 32: testMember, 35: testTrack2, 37: "632600001002", 41: "T0000001", 42: "4502", 43: "Cafe", 49: "036",
		52: "\x8f\xcc\x11\xaa\x05\x06\x07\x08", 53: "0100000000000000", 55: string(make([]byte, 140))}))
	if err != nil {
		b.Fatal(err)
	}
	return m
}

func benchAnswer(b *testing.B) []byte {
	return bySpecification(b, "0210", map[int]string{3: "000000", 4: "1250", 7: "1122133005", 11: "17", 32: testMember, 37: "632600001002", 38: "A1B2C3", 39: "00",
		41: "T0000001", 42: "4502", 49: "036", 55: "\x91\x0a1234567890", 64: "12345678"})
}

var noMAC = func([]byte) ([macSize]byte, error) { return [macSize]byte{}, nil }

func BenchmarkPack(b *testing.B) {
	m := benchSale(b)
	buf := make([]byte, 0, 512)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.pack(buf, noMAC); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	raw := benchAnswer(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := parse(raw); err != nil {
			b.Fatal(err)
		}
	}
}

// The vault's part: the MAC of a sale, and a PIN translated.
func BenchmarkMAC(b *testing.B) {
	r := newRig(b).start()
	k := r.link.lines[0].keys.Load()
	frame, err := benchSale(b).pack(nil, noMAC)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := r.vault.MessageMAC(k.mac, frame[frameHead:len(frame)-macSize]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTranslatePIN(b *testing.B) {
	r := newRig(b).start()
	k := r.link.lines[0].keys.Load()
	c := r.withPIN(chipCard(b), testPIN)
	b.ReportAllocs()
	for b.Loop() {
		if err := r.link.translate(&message{}, c.PIN, c.PAN, k); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBuild is a chip sale made into a message, without PIN and MAC.
func BenchmarkBuild(b *testing.B) {
	r := newRig(b)
	m := r.sale(1250, chipCard(b))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := r.link.build(m); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSale is whole sales, 64 at a time, with chip data, PIN and MACs, against the sandbox's card host over loopback.
func BenchmarkSale(b *testing.B) {
	r, h := sandboxRig(b, func(c *Config) { c.Connections, c.Timeout = 4, time.Minute })
	c := r.withPIN(readCard(b, h, "4761739002000150"), "1234")
	c.Entry, c.Chip, c.Sequence = payment.EntryChip, chipCard(b).Chip, "001"
	c.Track2 = card.Track2{} // Its security code is the stripe's.
	template := r.sale(1250, c)
	var next atomic.Int64
	b.ReportAllocs()
	b.SetParallelism(32)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			m := template
			m.Operation.ID = payment.ID(1_000_000 + next.Add(1))
			m.Operation.Number = RRN(m.Operation.ID, m.Operation.SentAt)
			if a := r.link.Do(context.Background(), m); a.Outcome != payment.OutcomeApproved {
				b.Fatalf("%s %s %s", a.Outcome, a.Reason, a.Result.Code)
			}
		}
	})
}

func BenchmarkMoovPack(b *testing.B) {
	m := benchSale(b)
	b.ReportAllocs()
	for b.Loop() {
		out := iso8583.NewMessage(witness)
		out.MTI(m.mti)
		for _, de := range known {
			if m.have(de) {
				if err := out.Field(de, m.get(de)); err != nil {
					b.Fatal(err)
				}
			}
		}
		if _, err := out.Pack(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMoovParse(b *testing.B) {
	raw := benchAnswer(b)
	b.ReportAllocs()
	for b.Loop() {
		m := iso8583.NewMessage(witness)
		if err := m.Unpack(raw); err != nil {
			b.Fatal(err)
		}
	}
}

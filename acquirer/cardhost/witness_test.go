package cardhost

import (
	"bytes"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/moov-io/iso8583"
	"github.com/moov-io/iso8583/encoding"
	"github.com/moov-io/iso8583/field"
	"github.com/moov-io/iso8583/padding"
	"github.com/moov-io/iso8583/prefix"
	"pgregory.net/rapid"
)

// witness is the page's table of data elements once more, for the codec of moov-io, which is used as the other side of the wire in the
// tests. It was typed from docs/card-host.md and not from spec.go.
var witness = func() *iso8583.MessageSpec {
	n := func(size int) field.Field {
		return field.NewString(&field.Spec{Length: size, Enc: encoding.ASCII, Pref: prefix.ASCII.Fixed, Pad: padding.Left('0')})
	}
	an := func(size int) field.Field {
		return field.NewString(&field.Spec{Length: size, Enc: encoding.ASCII, Pref: prefix.ASCII.Fixed, Pad: padding.Right(' ')})
	}
	utf := func(size int, pre prefix.Prefixer, pad padding.Padder) field.Field {
		return field.NewString(&field.Spec{Length: size, Enc: encoding.Binary, Pref: pre, Pad: pad})
	}
	ll := func(size int) field.Field {
		return field.NewString(&field.Spec{Length: size, Enc: encoding.ASCII, Pref: prefix.ASCII.LL})
	}
	lll := func(size int) field.Field {
		return field.NewString(&field.Spec{Length: size, Enc: encoding.ASCII, Pref: prefix.ASCII.LLL})
	}
	b := func(size int, pre prefix.Prefixer) field.Field {
		return field.NewBinary(&field.Spec{Length: size, Enc: encoding.Binary, Pref: pre})
	}
	return &iso8583.MessageSpec{Name: "card host", Fields: map[int]field.Field{
		0: field.NewString(&field.Spec{Length: 4, Enc: encoding.ASCII, Pref: prefix.ASCII.Fixed}),
		1: field.NewBitmap(&field.Spec{Length: 8, Enc: encoding.Binary, Pref: prefix.Binary.Fixed}),
		2: ll(19), 3: n(6), 4: n(12), 7: n(10), 11: n(6), 12: n(6), 13: n(4), 14: n(4), 15: n(4), 22: n(3), 23: n(3), 25: n(2), 32: ll(11), 35: ll(37),
		37: an(12), 38: an(6), 39: an(2), 41: an(8), 42: an(15), 43: utf(40, prefix.Binary.Fixed, padding.Right(' ')), 45: ll(76),
		48: utf(999, prefix.ASCII.LLL, nil), 49: n(3), 52: b(8, prefix.Binary.Fixed), 53: n(16), 55: b(255, prefix.ASCII.LLL), 60: lll(20),
		64: b(8, prefix.Binary.Fixed), 66: n(1), 70: n(3), 74: n(10), 75: n(10), 76: n(10), 77: n(10), 86: n(16), 87: n(16), 88: n(16), 89: n(16), 90: n(42),
		128: b(8, prefix.Binary.Fixed),
	}}
}()

// bySpecification packs values with moov's codec.
func bySpecification(t testing.TB, mti string, values map[int]string) []byte {
	t.Helper()
	m := iso8583.NewMessage(witness)
	m.MTI(mti)
	for de, value := range values {
		if err := m.Field(de, value); err != nil {
			t.Fatalf("moov: DE %d: %v", de, err)
		}
	}
	raw, err := m.Pack()
	if err != nil {
		t.Fatalf("moov: pack %s: %v", mti, err)
	}
	return raw
}

// known lists the data elements of the page but those that the packers add by themselves.
var known = func() []int {
	var list []int
	for de := 2; de <= lastDE; de++ {
		if specification[de].format != 0 && de != deMAC && de != deMAC2 {
			list = append(list, de)
		}
	}
	return list
}()

func TestSpecificationIsThePages(t *testing.T) {
	t.Parallel()
	for de, f := range witness.Fields {
		if de < 2 {
			continue
		}
		e, s := specification[de], f.Spec()
		if e.format == 0 || e.size != s.Length {
			t.Errorf("DE %d: %d bytes here, %d on the page", de, e.size, s.Length)
		}
		if variable := !strings.HasSuffix(s.Pref.Inspect(), "Fixed"); variable != (e.prefix > 0) {
			t.Errorf("DE %d: prefix %d here, %s on the page", de, e.prefix, s.Pref.Inspect())
		}
	}
	if len(known)+2 != len(witness.Fields)-2 {
		t.Errorf("%d data elements here, %d on the page", len(known)+2, len(witness.Fields)-2)
	}
	for de, e := range specification {
		if e.format == formatB || strings.Contains(e.name, "track") || strings.Contains(e.name, "PIN block") {
			if e.show == showAll && de != dePINFormat {
				t.Errorf("DE %d, %s, can be seen", de, e.name)
			}
		}
	}
}

// valueOf draws a value of a data element. Fixed digits are drawn in full, since moov strips zeros in front.
func valueOf(t *rapid.T, de int) string {
	e := &specification[de]
	least := 1
	if e.prefix == 0 && e.format != formatANS && e.format != formatText {
		least = e.size
	}
	switch e.format {
	case formatN:
		return rapid.StringOfN(rapid.RuneFrom([]rune("0123456789")), least, e.size, -1).Draw(t, "digits")
	case formatZ:
		return rapid.StringOfN(rapid.RuneFrom([]rune("0123456789=")), least, e.size, -1).Draw(t, "track")
	case formatB:
		return string(rapid.SliceOfN(rapid.Byte(), least, e.size).Draw(t, "bytes"))
	case formatText:
		return strings.TrimRight(rapid.StringOfN(rapid.RuneFrom([]rune("aZ09 äß中-")), 0, -1, e.size).Draw(t, "text"), " ") + "" // May be empty.
	}
	return strings.TrimRight(rapid.StringOfN(rapid.RuneFrom([]rune("aZ09 ~-^/")), least, e.size, -1).Draw(t, "ascii"), " ")
}

// Both codecs make the same bytes of the same values, and read the same values out of the same bytes.
func TestCodecAgreesWithAnother(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		mti := rapid.SampledFrom(slices.Sorted(maps.Keys(types))).Draw(t, "mti")
		chosen := rapid.SliceOfDistinct(rapid.SampledFrom(known), rapid.ID[int]).Draw(t, "elements")
		withMAC := rapid.Bool().Draw(t, "mac")
		ours, theirs := &message{mti: mti}, iso8583.NewMessage(witness)
		theirs.MTI(mti)
		for _, de := range chosen {
			value := valueOf(t, de)
			ours.set(de, value)
			if err := theirs.Field(de, value); err != nil {
				t.Fatalf("moov: DE %d: %v", de, err)
			}
		}
		var mac func([]byte) ([macSize]byte, error)
		if withMAC {
			mac = func([]byte) ([macSize]byte, error) { return [macSize]byte{1, 2, 3, 4, 5, 6, 7, 8}, nil }
			de := deMAC
			if ours.has[1] != 0 {
				de = deMAC2
			}
			if err := theirs.BinaryField(de, []byte{1, 2, 3, 4, 5, 6, 7, 8}); err != nil {
				t.Fatal(err)
			}
		}
		frame, err := ours.pack(nil, mac)
		if err != nil {
			t.Fatalf("pack: %v", err)
		}
		raw, err := theirs.Pack()
		if err != nil {
			t.Fatalf("moov: pack: %v", err)
		}
		if !bytes.Equal(frame[frameHead:], raw) {
			t.Fatalf("packed\n%s\nmoov:\n%s", hex.Dump(frame[frameHead:]), hex.Dump(raw))
		}
		back, err := parse(raw)
		if err != nil {
			t.Fatalf("parse: %v", err)
		}
		for _, de := range known {
			if back.have(de) != ours.have(de) || back.get(de) != ours.get(de) {
				t.Errorf("DE %d: read %q, want %q", de, back.get(de), ours.get(de))
			}
		}
		again, err := back.pack(nil, mac)
		if err != nil || !bytes.Equal(again, frame) {
			t.Errorf("packed again: %v\n%s", err, hex.Dump(again))
		}
	})
}

// What can be read can be packed again to the same bytes and never panics; and what moov reads and we refuse is only what the page forbids.
func FuzzMessage(f *testing.F) {
	f.Add(bySpecification(f, mtiSale, map[int]string{2: "5554748800161559", 3: "000000", 4: "1250", 7: "0102030405", 11: "17", 37: "600112345678",
		35: "5554748800161559=27072011234567890123", 41: "T0000001", 42: "42", 43: "Café 中", 49: "036", 52: "12345678", 55: "\x9f\x26\x08abcdefgh", 64: "87654321"}))
	f.Add(bySpecification(f, mtiClose, map[int]string{3: "920000", 11: "1", 60: "B1", 74: "1", 88: "100", 90: "0200", 128: "87654321"}))
	f.Add(bySpecification(f, mtiNetworkAnswer, map[int]string{11: "1", 39: "00", 48: "ZP038" + strings.Repeat("0", 38)}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		_ = DescribeFrame(raw)
		m, err := parse(raw)
		if err != nil {
			return
		}
		var mac func([]byte) ([macSize]byte, error)
		if m.have(deMAC) || m.have(deMAC2) {
			mac = func([]byte) ([macSize]byte, error) { return [macSize]byte(raw[len(raw)-macSize:]), nil }
		}
		frame, err := m.pack(nil, mac)
		if len(raw) > frameMax {
			return
		}
		if err != nil {
			t.Fatalf("read but not packed: %v", err)
		}
		if again, err := parse(frame[frameHead:]); err != nil || again.has != m.has || again.value != m.value {
			t.Fatalf("packed, and read differently: %v", err)
		}
		theirs := iso8583.NewMessage(witness)
		if err := theirs.Unpack(raw); err != nil {
			t.Fatalf("read here, refused by moov: %v", err)
		}
		for _, de := range known {
			if !m.have(de) || specification[de].format == formatB {
				continue
			}
			want, err := theirs.GetString(de)
			if err != nil {
				t.Fatalf("moov: DE %d: %v", de, err)
			}
			got := m.get(de)
			if specification[de].format == formatN && specification[de].prefix == 0 {
				got, want = strings.TrimLeft(got, "0"), strings.TrimLeft(want, "0")
			}
			if got != want {
				t.Errorf("DE %d: %q here, %q with moov", de, got, want)
			}
		}
	})
}

func FuzzFrame(f *testing.F) {
	f.Add([]byte{0, 2, 1, 2, 0, 3, 1, 2, 3})
	f.Add([]byte{0, 1, 1})
	f.Add([]byte{0xFF, 0xFF})
	f.Fuzz(func(t *testing.T, stream []byte) {
		in := bytes.NewReader(stream)
		at := 0
		for {
			frame, err := readFrame(in)
			if err != nil {
				return
			}
			if len(frame) < frameMin || len(frame) > frameMax || !bytes.Equal(frame, stream[at+frameHead:at+frameHead+len(frame)]) {
				t.Fatalf("frame of %d bytes at %d", len(frame), at)
			}
			at += frameHead + len(frame)
		}
	})
}

func TestDecoderRefuses(t *testing.T) {
	t.Parallel()
	good := bySpecification(t, mtiSale, map[int]string{3: "000000", 37: "600112345678", 39: "00", 48: "TK0011", 64: "87654321"})
	if _, err := parse(good); err != nil {
		t.Fatal(err)
	}
	for at := range good { // Torn at every byte: never a message, never a panic.
		if m, err := parse(good[:at]); err == nil {
			t.Errorf("cut at byte %d: read as %v", at, m)
		}
	}
	change := func(fn func(b []byte) []byte) []byte { return fn(slices.Clone(good)) }
	for name, raw := range map[string][]byte{
		"a byte too many":            append(slices.Clone(good), 0),
		"letters in the type":        change(func(b []byte) []byte { b[0] = 'x'; return b }),
		"letters in digits":          change(func(b []byte) []byte { b[12] = 'x'; return b }),
		"an element not on the page": change(func(b []byte) []byte { b[4] |= 0x08; return b }),
		"a control character":        change(func(b []byte) []byte { b[18] = '\n'; return b }),
		"a length that is too long":  change(func(b []byte) []byte { copy(b[32:], "999"); return b }),
		"a length that is no number": change(func(b []byte) []byte { copy(b[32:], "-01"); return b }),
		"a MAC in 64 beside a second bitmap": func() []byte {
			b := bySpecification(t, mtiSale, map[int]string{64: "87654321", 70: "301"})
			return b
		}(),
		"a MAC in 128 that is not the last": append(bySpecification(t, mtiSale, map[int]string{70: "301", 128: "87654321"}), 'x'),
	} {
		if m, err := parse(raw); err == nil {
			t.Errorf("%s: read as %v", name, m)
		}
	}
}

func TestPackRefuses(t *testing.T) {
	t.Parallel()
	for name, m := range map[string]*message{
		"no type":         {},
		"letters":         {mti: "02x0"},
		"too long":        with(mtiSale, deTID, "123456789"),
		"not digits":      with(mtiSale, deAmount, "12.50"),
		"a short block":   with(mtiSale, dePIN, "1234"),
		"not on the page": with(mtiSale, 62, "1"),
		"a line feed":     with(mtiSale, deName, "a\nb"),
		"broken UTF-8":    with(mtiSale, deName, "a\xff"),
	} {
		if frame, err := m.pack(nil, nil); err == nil {
			t.Errorf("%s: packed as % x", name, frame)
		}
	}
}

func with(mti string, de int, value string) *message {
	m := &message{mti: mti}
	m.set(de, value)
	return m
}

package emv

import (
	"bytes"
	"encoding/base64"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// chip is what a terminal sends for a chip payment with online PIN.
const chip = "5F2A020702" + "5F340101" + "82023900" + "8407A0000000041010" + "950500C0048000" + "9A03260203" + "9B02E800" + "9C0100" +
	"9F0206000000001250" + "9F0306000000000000" + "9F09020002" + "9F100A0110A04009240000FF00" + "9F1A020702" + "9F1E083132333435363738" +
	"9F26081122334455667788" + "9F270180" + "9F3303E0F0C8" + "9F3403020000" + "9F350122" + "9F36020012" + "9F370412345678" +
	"5A085554748800161559" + "57115554748800161559D27072011234567890" + "5F2403270731"

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustParse(t testing.TB, s string) List {
	t.Helper()
	l, err := Parse(unhex(t, s))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestParse(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, in, out string }{
		{"nothing", "", ""},
		{"the example of the UQPAY reference", "9F02060000000012509F1A0207025F2A0207029A032602039C0100", ""},
		{"an empty value", "8100", ""},
		{"three-byte tag", "DF810401AA", ""},
		{"four-byte tag", "DF81820401AA", ""},
		{"template", "770B9F26021122A5049A022602", ""},
		{"an empty template", "7000", ""},
		{"200 bytes", "9F1081C8" + strings.Repeat("AB", 200), ""},
		{"300 bytes", "9F1082012C" + strings.Repeat("AB", 300), ""},
		{"templates as deep as allowed", nest(depthMax), ""},
		{"padding before, between and after", "00009A03260203009C01000000", "9A032602039C0100"},
		{"padding in a template", "7007009A0326020300", "70059A03260203"},
		{"a longer length than necessary", "9A8103260203", "9A03260203"},
		{"a length longer by four bytes", "9A8400000003260203", "9A03260203"},
	} {
		want := tt.out
		if want == "" {
			want = tt.in // It is in its shortest form.
		}
		l, err := Parse(unhex(t, tt.in))
		if got := fmt.Sprintf("%X", l.Encode()); err != nil || got != want {
			t.Errorf("%s: got %s, %v; want %s", tt.name, got, err, want)
		}
	}
}

// nest is so many templates within each other, the innermost empty.
func nest(depth int) string {
	s := ""
	for range depth {
		s = fmt.Sprintf("A5%02X", len(s)/2) + s
	}
	return s
}

func TestBadTLVIsRefused(t *testing.T) {
	t.Parallel()
	for name, in := range map[string]string{
		"tag alone":                         "9A",
		"half a tag":                        "9F",
		"tag that never ends":               "9F8182838401AA",
		"tag number that begins with zeros": "9F8001AA",
		"value cut short":                   "9A032602",
		"indefinite length":                 "70809A032602030000",
		"length of five bytes":              "9A850000000003260203",
		"length cut short":                  "9A8203",
		"huge length":                       "9A84FFFFFFFF",
		"bad inside a template":             "70039A0326",
		"template longer than the whole":    "700A9A03260203",
		"too deep":                          nest(depthMax + 1),
		"too big":                           "9F10820FFD" + strings.Repeat("AB", sizeMax-4),
		"a card number":                     "5554748800161559",
	} {
		l, err := Parse(unhex(t, in))
		if !errors.Is(err, ErrTLV) || l != nil {
			t.Errorf("%s: got %X, %v", name, l.Encode(), err)
		}
		if err != nil && (strings.Contains(err.Error(), "5554") || strings.Contains(err.Error(), "2602")) {
			t.Errorf("%s: content in error: %v", name, err)
		}
	}
	for _, s := range []string{"9A0", "xx", "9A 03 26 02 03"} {
		if d, err := ParseHex(s); !errors.Is(err, ErrTLV) || !d.IsZero() || strings.Contains(err.Error(), "x") && !strings.Contains(err.Error(), "hexa") {
			t.Errorf("%q: got %v", s, err)
		}
	}
}

func TestEveryTornStringIsRefusedOrShorter(t *testing.T) {
	t.Parallel()
	whole := unhex(t, chip)
	for i := range whole {
		if l, err := Parse(whole[:i]); err == nil && !bytes.Equal(l.Encode(), whole[:i]) {
			t.Errorf("torn at %d: became something else", i)
		}
	}
}

func TestParseKeepsACopy(t *testing.T) {
	t.Parallel()
	b := unhex(t, "9A03260203")
	l, _ := Parse(b)
	clear(b)
	if v, _ := l.Find(TagDate); !bytes.Equal(v, []byte{0x26, 2, 3}) {
		t.Errorf("got %x", v)
	}
}

func TestFind(t *testing.T) {
	t.Parallel()
	l := mustParse(t, "770B9F26021122A5049A0226025F340101")
	for tag, want := range map[Tag]string{TagCryptogram: "1122", TagDate: "2602", TagPSN: "01", 0xA5: "9A022602"} {
		if v, ok := l.Find(tag); !ok || fmt.Sprintf("%X", v) != want {
			t.Errorf("%s: got %X, %v, want %s", tag, v, ok, want)
		}
	}
	if v, ok := l.Find(TagPAN); ok {
		t.Errorf("found %x", v)
	}
}

func TestAppend(t *testing.T) {
	t.Parallel()
	l := List{}.Append(TagDate, []byte{0x26, 2, 3}).Append(TagCID, []byte{0x80})
	l = append(l, Template(TagScript1, New(0x9F18, []byte{1, 2, 3, 4}), New(0x86, make([]byte, 130))))
	want := "9A03260203" + "9F270180" + "71818C" + "9F180401020304" + "868182" + strings.Repeat("00", 130)
	if got := fmt.Sprintf("%X", l.Encode()); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for name, fn := range map[string]func(){
		"constructed tag as primitive": func() { New(TagScript1, nil) },
		"primitive tag as constructed": func() { Template(TagDate) },
		"two tags":                     func() { New(0x9A9B, nil) },
		"half a tag":                   func() { New(0x9F, nil) },
		"no tag":                       func() { New(0, nil) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			fn()
		}()
	}
	if v := New(TagDate, make([]byte, 70_000)); !bytes.HasPrefix(List{v}.Encode(), []byte{0x9A, 0x84, 0, 1, 0x11, 0x70}) {
		t.Error("a length of more than two bytes is wrong")
	}
}

func TestElements(t *testing.T) {
	t.Parallel()
	if len(byTag) != len(elements) {
		t.Error("a tag has two rows")
	}
	last := Tag(0)
	for _, e := range elements {
		if e.Tag <= last && len(e.Tag.bytes()) == len(last.bytes()) {
			t.Errorf("%s is out of order", e.Tag)
		}
		if last = e.Tag; !e.Tag.valid() || e.Name == "" || e.Min > e.Max || e.Tag.Constructed() != (e.Kind == Made) {
			t.Errorf("bad row: %v", e)
		}
	}
	for _, tags := range [][]Tag{requestTags, responseTags} {
		for _, tag := range tags {
			if _, ok := Lookup(tag); !ok {
				t.Errorf("%s has no row", tag)
			}
		}
	}
}

func TestRequest(t *testing.T) {
	t.Parallel()
	want := "5F2A020702" + "5F340101" + "82023900" + "8407A0000000041010" + "950500C0048000" + "9A03260203" + "9C0100" +
		"9F0206000000001250" + "9F0306000000000000" + "9F09020002" + "9F100A0110A04009240000FF00" + "9F1A020702" + "9F1E083132333435363738" +
		"9F26081122334455667788" + "9F270180" + "9F3303E0F0C8" + "9F3403020000" + "9F350122" + "9F36020012" + "9F370412345678"
	for name, in := range map[string]string{
		"as it is":      chip,
		"in a template": "7081" + fmt.Sprintf("%02X", len(chip)/2) + chip,
		"turned round":  chip[10:] + chip[:10],
	} {
		got, err := Request(mustParse(t, in))
		if err != nil || fmt.Sprintf("%X", got) != want {
			t.Errorf("%s: got %X, %v", name, got, err)
		}
		if strings.Contains(fmt.Sprintf("%X", got), "55547488") {
			t.Errorf("%s: the card number goes with it", name)
		}
	}
	if got, err := Request(nil); err != nil || len(got) != 0 {
		t.Errorf("nothing: got %X, %v", got, err)
	}
}

func TestBadElementsAreRefused(t *testing.T) {
	t.Parallel()
	for name, in := range map[string]string{
		"amount of five bytes":   "9F02050000001250",
		"amount with letters":    "9F020600000000125A",
		"amount with fill":       "9F02060000000012FF",
		"cryptogram of 7 bytes":  "9F260711223344556677",
		"amount twice":           "9F02060000000012509F0206000000001251",
		"amount again elsewhere": "9F020600000000125070099F0206000000001251",
		"serial with controls":   "9F1E083132333400363738",
	} {
		if b, err := Request(mustParse(t, in)); !errors.Is(err, ErrElement) || b != nil {
			t.Errorf("%s: got %X, %v", name, b, err)
		} else if strings.Contains(err.Error(), "1122") || strings.Contains(err.Error(), "1250") {
			t.Errorf("%s: value in error: %v", name, err)
		}
	}
}

func TestResponse(t *testing.T) {
	t.Parallel()
	in := "910A11223344556677883030" + "720A9F18040000000186011272079F180400000002" + "8A023030" + "9F3602000C"
	want := "8A023030" + "910A11223344556677883030" + "720A9F180400000001860112" + "72079F180400000002"
	got, err := Response(mustParse(t, in))
	if err != nil || fmt.Sprintf("%X", got) != want {
		t.Errorf("got %X, %v, want %s", got, err, want)
	}
	long := "72" + "7E" + "86" + "7C" + strings.Repeat("00", 124)
	for name, in := range map[string]string{
		"ARPC of 7 bytes":      "910711223344556677",
		"code of one byte":     "8A0130",
		"code of no letters":   "8A020000",
		"more than 255 in all": long + long + long,
	} {
		if b, err := Response(mustParse(t, in)); !errors.Is(err, ErrElement) {
			t.Errorf("%s: got %X, %v", name, b, err)
		}
	}
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	in := chip + "5F200B43414E4152592F42495244" + "72099F1804000000018600" + "DF0104DEADBEEF" + "770B9F26021122A5049A022602" + "500A4D617374657263617264"
	got := mustParse(t, in).Describe()
	for _, want := range []string{
		"9F02   Amount, authorised                 000000001250\n",
		"5A     Application PAN                    555474******1559\n",
		"57     Track 2 equivalent data            *** (17 bytes)\n",
		"9F26   Application cryptogram             *** (8 bytes)\n",
		"9F27   Cryptogram information data        80\n       - ARQC: the issuer is asked\n",
		"9F34   CVM results                        020000\n       - online PIN: unknown\n",
		"       - online PIN entered\n",
		"       - expired application\n",
		"50     Application label                  \"Mastercard\"\n",
		"DF01   ?                                  *** (4 bytes)\n",
		"77     Response message template 2\n  9F26   Application cryptogram             *** (2 bytes)\n  A5     FCI proprietary template\n    9A     Transaction date",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("missing %q in:\n%s", want, got)
		}
	}
	for _, secret := range []string{"880016", "112233", "DEADBEEF", "CANARY", "270731", "1234567890"} {
		if strings.Contains(got, secret) {
			t.Errorf("shows %s:\n%s", secret, got)
		}
	}
	for in, want := range map[string]string{
		"5A0255FF":                 "***",
		"5A08F554748800161559":     "***",
		"5A0A62123456789012345670": "***",
		"5A0A6250947000000000014F": "625094******0014",
	} {
		if v := unhex(t, in)[2:]; mask(v) != want {
			t.Errorf("%s: got %s, want %s", in, mask(v), want)
		}
	}
}

const canaryTrack = "5554748800161559D27072011234567890"

func TestNothingPrints(t *testing.T) {
	t.Parallel()
	type nested struct {
		Data Data
		List List
		data Data
		list List
		obj  Object
		ptr  *Data
		any  any
	}
	d, err := ParseHex(chip)
	if err != nil {
		t.Fatal(err)
	}
	n := nested{d, d.List(), d, d.List(), d.List()[0], &d, d.List()}
	var text strings.Builder
	for _, v := range []any{d, &d, d.List(), d.List()[len(d.List())-2], n, &n, []any{d, n}, map[string]any{"k": n}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%c", "%U", "%t", "%20v", "%.2s", "%z"} {
			fmt.Fprintf(&text, verb+"\n", v)
		}
		out, err := json.Marshal(v)
		fmt.Fprintln(&text, string(out), err)
		var buf bytes.Buffer
		err = gob.NewEncoder(&buf).Encode(v)
		fmt.Fprintln(&text, buf.String(), buf.Bytes(), err)
		slog.New(slog.NewTextHandler(&text, nil)).Info("m", "v", v)
		slog.New(slog.NewJSONHandler(&text, nil)).Info("m", "v", v)
	}
	text.WriteString(cmp.Diff(n, nested{}, cmp.Exporter(func(reflect.Type) bool { return true }), cmp.Comparer(func(a, b func() []byte) bool { return (a == nil) == (b == nil) }),
		cmp.Comparer(func(a, b func() List) bool { return (a == nil) == (b == nil) })))
	raw := unhex(t, canaryTrack)
	for _, c := range []string{canaryTrack, strings.ToLower(canaryTrack), string(raw), strings.Trim(fmt.Sprint(raw[2:]), "[]"), "880016", "11223344",
		"17 34 51 68", base64.StdEncoding.EncodeToString(raw)[:8], strings.Trim(fmt.Sprintf("%#v", raw[2:6]), "[]byte{}")} {
		if strings.Contains(text.String(), c) {
			t.Errorf("leaks %q", c)
		}
	}
	out, err := json.Marshal(d)
	if err != nil || string(out) != `"***"` {
		t.Errorf("json: got %s, %v", out, err)
	}
}

func TestData(t *testing.T) {
	t.Parallel()
	d, err := ParseHex(strings.ToLower(chip))
	if err != nil || d.IsZero() || fmt.Sprintf("%X", d.Reveal()) != chip {
		t.Errorf("got %X, %v", d.Reveal(), err)
	}
	var none Data
	empty, err := ParseHex("")
	if err != nil || !none.IsZero() || !empty.IsZero() || none.List() != nil || len(none.Reveal()) != 0 {
		t.Errorf("no data is something: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(unhex(f, chip))
	f.Add(unhex(f, "00770B9F26021122A5049A02260200"))
	f.Add(unhex(f, nest(depthMax)))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := Parse(b)
		if err != nil {
			return
		}
		l.Describe()
		once := l.Encode()
		again, err := Parse(once)
		if err != nil || !bytes.Equal(again.Encode(), once) {
			t.Errorf("%x: encoded %x, then %x, %v", b, once, again.Encode(), err)
		}
		for _, fn := range []func(List) ([]byte, error){Request, Response} {
			field, err := fn(l)
			if err != nil {
				continue
			}
			back, err := Parse(field)
			if err != nil {
				t.Fatalf("%x: field %x: %v", b, field, err)
			}
			if same, err := fn(back); err != nil || !bytes.Equal(same, field) {
				t.Errorf("%x: field %x, then %x, %v", b, field, same, err)
			}
		}
	})
}

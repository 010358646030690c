package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

var limits = Limits{Body: 1 << 20, Depth: 32, Values: 1 << 15, Digits: 64, Exponent: 400, Members: 5}

// minded are the reasons to refuse what is JSON, limits aside.
var minded = []string{"repeated member", "U+0000", "half of a surrogate", "not UTF-8", "no JSON object"}

// bodies are what the protocols send: plain members, a list of objects, objects in objects, and more members than are compared one by one.
func bodies() [][]byte {
	many := `{"n":0`
	for i := range fewMembers + 4 {
		many += fmt.Sprintf(`,"m%d":{"a":%d}`, i, i)
	}
	return [][]byte{
		[]byte(`{"b":"x","c":[1,{}]}`),
		[]byte(`{"type":"purchase","amount": 42.50, "currency":"aud","token":"289661544981076259","items":[{"type":"sku","ref":"1","name":"Caf\u00e9 ☕","amount":0.01,"quantity":1},` +
			"\n" + `{"type":"sku","ref":"2","name":"a\\b\/c\"","amount":-1e2,"quantity":1.5}],"note":null,"pickup":false}`),
		[]byte(`{"address":{"line1":"8 Quay St","city":{"name":"Geelong","code":"3220"},"country":"au"},"paid":true,"metadata":{"lane":"2","tags":["a","b",[]]},"amount":"12.50"}`),
		[]byte(many + "}"),
	}
}

// tree is a text as encoding/json reads it.
func tree(t testing.TB, text string) any {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return v
}

// plain is a value as encoding/json would read it.
func plain(v Value) any {
	switch v.Kind {
	case Bool:
		return v.Raw == "true"
	case Number:
		return json.Number(v.Raw)
	case String:
		return v.Text
	case Array:
		list := []any{}
		for _, e := range v.List {
			list = append(list, plain(e))
		}
		return list
	case Object:
		members := map[string]any{}
		for _, m := range v.Members {
			members[m.Name] = plain(m.Value)
		}
		return members
	default:
		return nil
	}
}

// repeats reports whether a name stands twice in an object of JSON, or of a part of it that is JSON. Only encoding/json is asked.
func repeats(d *json.Decoder) bool {
	t, err := d.Token()
	if err != nil {
		return false
	}
	open, _ := t.(json.Delim)
	if open != '{' && open != '[' {
		return false
	}
	seen := map[string]bool{}
	for d.More() {
		if open == '{' {
			t, err := d.Token()
			name, _ := t.(string)
			if err != nil {
				return false
			}
			if seen[name] {
				return true
			}
			seen[name] = true
		}
		if repeats(d) {
			return true
		}
	}
	_, err = d.Token()
	return err != nil
}

// compare holds what Parse says of a text against encoding/json: what is accepted means the same to both and repeats no name; what is
// refused is no JSON, or has a fault that only Parse minds.
func compare(t testing.TB, body []byte, minded []string) (accepted bool) {
	t.Helper()
	v, err := limits.Parse(body)
	if err == nil {
		if repeats(json.NewDecoder(bytes.NewReader(body))) {
			t.Fatalf("%q: a name was accepted twice", body)
		}
		if want, got := tree(t, string(body)), plain(v); !reflect.DeepEqual(want, got) {
			t.Fatalf("%q: -want +got\n%s", body, cmp.Diff(want, got))
		}
		for _, m := range v.Members {
			if want, got := plain(m.Value), tree(t, m.Value.Raw); !reflect.DeepEqual(want, got) {
				t.Fatalf("%q: the source of %q: -want +got\n%s", body, m.Name, cmp.Diff(want, got))
			}
			if got, ok := v.Get(m.Name); ok != (m.Value.Kind != Null) || got.Raw != m.Value.Raw {
				t.Fatalf("%q: Get(%q): %v, %v", body, m.Name, got, ok)
			}
		}
		return true
	}
	var e *Error
	if !errors.As(err, &e) || e.Offset < 0 || e.Offset > len(body) {
		t.Fatalf("%q: %v", body, err)
	}
	if json.Valid(body) && !slices.ContainsFunc(minded, func(m string) bool { return strings.Contains(e.Reason, m) }) {
		t.Fatalf("%q: refused, %v", body, err)
	}
	if strings.Contains(e.Reason, "repeated member") && !repeats(json.NewDecoder(bytes.NewReader(body))) {
		t.Fatalf("%q: %v", body, err)
	}
	return false
}

func TestAgainstEncodingJSON(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	pieces := []string{`{`, `}`, `[`, `]`, `,`, `:`, `"`, `\`, ` `, "\n", "\x01", "\x00", "\xff", "é", `\n`, `\/`, `\u00e9`, `\u0000`, `\ud83d\ude00`, `\ud83d`,
		`"a"`, `"\u0061"`, `"a":1,`, `,"a":2`, `,"b":{"a":[1,"\t"],"\u0061 ":""}`, `null`, `true`, `-1.5e3`, `01`}
	all := bodies()
	accepted := 0
	for range 50_000 {
		body := all[0]
		if r.IntN(2) == 0 {
			body = all[r.IntN(len(all))]
		}
		body = slices.Clone(body)
		for range r.IntN(4) {
			i := r.IntN(len(body) + 1)
			j := min(len(body), i+r.IntN(4))
			body = slices.Replace(body, i, j, []byte(pieces[r.IntN(len(pieces))])...)
		}
		if compare(t, body, minded) {
			accepted++
		}
	}
	if accepted < 5_000 {
		t.Errorf("only %d texts were accepted: the test compares too little", accepted)
	}
}

func FuzzParse(f *testing.F) {
	for _, body := range bodies() {
		f.Add(body)
	}
	for _, body := range []string{``, ` `, `[]`, `{}x`, `{"a":1,"\u0061":2}`, `{"a":"\ud83d\ude00"}`, `{"a":"\ud83d"}`, `{"a":"\u0000"}`, "{\"a\":\"\xff\"}",
		`{"a":-0.0e-400}`, `{"a":1e401}`, `{"a":` + strings.Repeat("1", 65) + `}`, strings.Repeat(`{"a":`, 34), `{"a":[` + strings.Repeat("1,", 40) + `1]}`} {
		f.Add([]byte(body))
	}
	withLimits := slices.Concat(minded, []string{"text too long", "nested too deeply", "too many values", "number too long", "exponent too large"})
	f.Fuzz(func(t *testing.T, body []byte) {
		compare(t, body, withLimits)
		text := strings.ToValidUTF8(string(body), "\ufffd")
		if got := tree(t, Quote(string(body))); got != text {
			t.Fatalf("%q: quoted, %q comes back", body, got)
		}
	})
}

// TestRepeatedMembers: a repeated name is found in small objects and in large ones, wherever it stands and however it is written.
func TestRepeatedMembers(t *testing.T) {
	t.Parallel()
	for size := range 2*fewMembers + 2 {
		var members []string
		for i := range size {
			members = append(members, fmt.Sprintf(`"m%d":{"m0":0}`, i))
		}
		text := "{" + strings.Join(members, ",")
		if _, err := limits.Parse([]byte(text + "}")); err != nil {
			t.Errorf("%d members: %v", size, err)
		}
		for i := range size {
			body := fmt.Sprintf(`%s,"\u006d%d":0}`, text, i)
			_, err := limits.Parse([]byte(body))
			var e *Error
			if !errors.As(err, &e) || e.Reason != fmt.Sprintf(`repeated member "m%d"`, i) || e.Offset != len(text)+1 {
				t.Errorf("member %d of %d again: %v", i, size, err)
			}
		}
	}
}

// TestRefusals: a refusal says what is wrong and where. The words are a part of what peers are told.
func TestRefusals(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		``:                        "no JSON object at byte 0",
		"\t[]":                    "no JSON object at byte 1",
		"{\"a\":\"\xff\"}":        "text is not UTF-8 at byte 0",
		`{} {}`:                   "text after the JSON object at byte 3",
		`{1:2}`:                   "no member name at byte 1",
		`{"a",1}`:                 "no colon after a member name at byte 4",
		`{"a":}`:                  "no JSON value at byte 5",
		`{"a":nul}`:               "no JSON value at byte 5",
		`{"a":1 "b":2}`:           "no comma or closing bracket at byte 7",
		`{"a":[1}`:                "no comma or closing bracket at byte 7",
		`{"a":1,}`:                "no member name at byte 7",
		`{"a":1,"b":2,"a":3}`:     `repeated member "a" at byte 13`,
		`{"a`:                     "unfinished string at byte 3",
		"{\"a\n\":1}":             "control character in a string at byte 3",
		`{"a\x":1}`:               "unknown escape in a string at byte 4",
		`{"a\u00g0":1}`:           "unknown escape in a string at byte 4",
		`{"a\u0000":1}`:           "U+0000 in a string at byte 9",
		`{"a\ud83dx":1}`:          "half of a surrogate pair in a string at byte 9",
		`{"a\ud83d\ud83d":1}`:     "half of a surrogate pair in a string at byte 15",
		`{"a":01}`:                "malformed number at byte 7",
		`{"a":-}`:                 "malformed number at byte 6",
		`{"a":1.}`:                "malformed number at byte 7",
		`{"a":1e+}`:               "malformed number at byte 8",
		`{"a":+1}`:                "no JSON value at byte 5",
		`{"a":{"b":[{"c":tru}]}}`: "no JSON value at byte 16",
	} {
		if _, err := limits.Parse([]byte(body)); err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %s", body, err, want)
		}
	}
}

// TestLimits: what is at a limit is accepted, and what is one beyond is refused, where it is beyond.
func TestLimits(t *testing.T) {
	t.Parallel()
	small := Limits{Body: 60, Depth: 3, Values: 5, Digits: 7, Exponent: 20}
	for _, tc := range []struct{ at, beyond, want string }{
		{`{` + strings.Repeat(" ", 58) + `}`, `{` + strings.Repeat(" ", 59) + `}`, "text too long at byte 60"},
		{`{"a":{"b":[1]}}`, `{"a":{"b":[[]]}}`, ""},
		{`{"a":{"b":[{}]}}`, `{"a":{"b":[[1]]}}`, "nested too deeply at byte 12"},
		{`{"a":[1,2,3]}`, `{"a":[1,2,3,4]}`, "too many values at byte 12"},
		{`{"a":1,"b":2,"c":3,"d":4}`, `{"a":1,"b":2,"c":3,"d":4,"e":5}`, "too many values at byte 29"},
		{`{"a":-1.2e+3}`, `{"a":-1.23e+3}`, "number too long at byte 13"},
		{`{"a":1234567}`, `{"a":12345678}`, "number too long at byte 13"},
		{`{"a":1e20}`, `{"a":1e21}`, "exponent too large at byte 9"},
		{`{"a":1e-20}`, `{"a":1e-21}`, "exponent too large at byte 10"},
	} {
		if _, err := small.Parse([]byte(tc.at)); err != nil {
			t.Errorf("%s: %v", tc.at, err)
		}
		if _, err := small.Parse([]byte(tc.beyond)); tc.want == "" && err != nil || tc.want != "" && (err == nil || err.Error() != tc.want) {
			t.Errorf("%s: got %v, want %s", tc.beyond, err, tc.want)
		}
	}
	for text, want := range map[string]bool{"0": true, "-1.5e3": true, "1234567": true, "12345678": false, "1e21": false, "": false, "1 ": false, " 1": false,
		"1x": false, "x": false, "NaN": false, "-": false, "01": false, ".5": false} {
		if got := small.IsNumber(text); got != want {
			t.Errorf("IsNumber(%q): got %v", text, got)
		}
	}
}

// TestQuote: all text comes back from encoding/json as it was, but for what is not UTF-8; and no more than necessary is escaped.
func TestQuote(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(5, 6))
	alphabet := []string{"a", "<", "/", `"`, `\`, "\x00", "\n", "\x1f", "\x7f", "é", "\u2028", "\ufffd", "😀", "\xff", "\xc3", "\xed\xa0\x80"}
	for range 20_000 {
		var s, want strings.Builder
		for range r.IntN(6) {
			s.WriteString(alphabet[r.IntN(len(alphabet))])
		}
		for _, c := range strings.ToValidUTF8(s.String(), "\ufffd") {
			switch {
			case c == '"' || c == '\\':
				want.WriteString(`\` + string(c))
			case c < 0x20:
				fmt.Fprintf(&want, `\u%04x`, c)
			default:
				want.WriteRune(c)
			}
		}
		got := Quote(s.String())
		if got != `"`+want.String()+`"` || !utf8.ValidString(got) || tree(t, got) != strings.ToValidUTF8(s.String(), "\ufffd") {
			t.Fatalf("%q: got %s", s.String(), got)
		}
		if b := AppendQuoted([]byte("before"), s.String()); string(b) != "before"+got {
			t.Fatalf("%q: appended %s", s.String(), b)
		}
	}
}

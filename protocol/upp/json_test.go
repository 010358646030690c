package upp

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/tillgate/tillgate/payment"
)

// plain is a value as encoding/json would read it.
func plain(v value) any {
	switch v.kind {
	case boolKind:
		return v.raw == "true"
	case numberKind:
		return json.Number(v.raw)
	case stringKind:
		return v.text
	case arrayKind:
		list := []any{}
		for _, e := range v.list {
			list = append(list, plain(e))
		}
		return list
	case objectKind:
		members := map[string]any{}
		for _, m := range v.members {
			members[m.name] = plain(m.value)
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

// TestParserAgainstEncodingJSON: what is accepted means the same to encoding/json and repeats no name; what is refused is no JSON, or has
// a fault that only this parser minds.
func TestParserAgainstEncodingJSON(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	pieces := []string{`{`, `}`, `[`, `]`, `,`, `:`, `"`, `\`, ` `, "\n", "\x01", "\x00", "\xff", "é", `\n`, `\/`, `\u00e9`, `\u0000`, `\ud83d\ude00`, `\ud83d`,
		`"a"`, `"\u0061"`, `"a":1,`, `,"a":2`, `,"b":{"a":[1,"\t"],"\u0061 ":""}`, `null`, `true`, `-1.5e3`, `01`}
	minded := []string{"repeated member", "U+0000", "half of a surrogate", "not UTF-8", "no JSON object"}
	var bodies [][]byte
	for _, v := range vectors(t) {
		bodies = append(bodies, v.body)
	}
	accepted := 0
	for range 50_000 {
		body := slices.Clone(bodies[r.IntN(len(bodies))])
		if r.IntN(2) == 0 {
			body = []byte(`{"b":"x","c":[1,{}]}`)
		}
		for range r.IntN(4) {
			i := r.IntN(len(body) + 1)
			j := min(len(body), i+r.IntN(4))
			body = slices.Replace(body, i, j, []byte(pieces[r.IntN(len(pieces))])...)
		}
		v, err := parse(body)
		if err == nil {
			accepted++
			if repeats(json.NewDecoder(bytes.NewReader(body))) {
				t.Fatalf("%q: a name was accepted twice", body)
			}
			if diff := cmp.Diff(tree(t, body), plain(v)); diff != "" {
				t.Fatalf("%q: -want +got\n%s", body, diff)
			}
			continue
		}
		var e *syntaxError
		if !errors.As(err, &e) {
			t.Fatalf("%q: %v", body, err)
		}
		if json.Valid(body) && !slices.ContainsFunc(minded, func(m string) bool { return strings.Contains(e.reason, m) }) {
			t.Fatalf("%q: refused, %v", body, err)
		}
		if strings.Contains(e.reason, "repeated member") && !repeats(json.NewDecoder(bytes.NewReader(body))) {
			t.Fatalf("%q: %v", body, err)
		}
	}
	if accepted < 5_000 {
		t.Errorf("only %d texts were accepted: the test compares too little", accepted)
	}
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
		if _, err := parse([]byte(text + "}")); err != nil {
			t.Errorf("%d members: %v", size, err)
		}
		for i := range size {
			body := fmt.Sprintf(`%s,"\u006d%d":0}`, text, i)
			_, err := parse([]byte(body))
			var e *syntaxError
			if !errors.As(err, &e) || e.reason != fmt.Sprintf(`repeated member "m%d"`, i) || e.offset != len(text)+1 {
				t.Errorf("member %d of %d again: %v", i, size, err)
			}
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
		got := quote(s.String())
		if got != `"`+want.String()+`"` || !utf8.ValidString(got) || tree(t, []byte(got)) != strings.ToValidUTF8(s.String(), "\ufffd") {
			t.Fatalf("%q: got %s", s.String(), got)
		}
		if b := appendQuoted([]byte("before"), s.String()); string(b) != "before"+got {
			t.Fatalf("%q: appended %s", s.String(), b)
		}
	}
}

// TestMemo: what the core keeps comes back, also as it was written by encoding/json; what was not written by us does not.
func TestMemo(t *testing.T) {
	t.Parallel()
	r := mustDecode(t, purchase("customerToken", `"<&>\u2028 é\""`))
	stored, err := memoOf(r, payment.Caller{Terminal: payment.Terminal{PublicID: `T<"1">`}}, "203.0.113.20")
	if err != nil {
		t.Fatal(err)
	}
	want := r.Echo()
	want.ClientIPAddress = new("203.0.113.20")
	byOthers, err := json.Marshal(tree(t, stored)) // With the escapes of encoding/json.
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range [][]byte{stored, byOthers} {
		terminal, echo, err := readMemo(text)
		if diff := cmp.Diff(want, echo); diff != "" || terminal != `T<"1">` || err != nil {
			t.Errorf("%s: terminal %q, %v; echo: -want +got\n%s", text, terminal, err, diff)
		}
	}
	for _, text := range []string{``, `null`, `{}`, `{"terminal":"1"}`, `{"terminal":"1","request":null}`, `{"terminal":"1","request":[]}`,
		`{"terminal":1,"request":{}}`, `{"terminal":"1","request":{"amount":"1"}}`, `{"terminal":"1","request":{}}x`} {
		if _, _, err := readMemo(json.RawMessage(text)); err == nil {
			t.Errorf("%s was accepted", text)
		}
	}
}

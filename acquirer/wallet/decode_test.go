package wallet

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// tokens reads an object by encoding/json alone, token for token: what decodeObject must find, and nothing if it must refuse.
func tokens(body []byte) map[string]json.RawMessage {
	dec := json.NewDecoder(bytes.NewReader(body))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil
	}
	values := map[string]json.RawMessage{}
	for dec.More() {
		t, err := dec.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return nil
		}
		var v json.RawMessage
		if dec.Decode(&v) != nil || values[name] != nil {
			return nil
		}
		values[name] = v
	}
	if _, err := dec.Token(); err != nil { // The closing brace.
		return nil
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil
	}
	return values
}

// fragments are what hostile objects are made of.
var fragments = []string{
	`{`, `}`, `[`, `]`, `,`, `:`, `"`, `\`, ` `, "\n", "\t", "\r", `a`, `"a"`, `"\u0061"`, `"a\"b"`, `"\\"`, `"\\\""`, `"}"`, `"]{,:"`, `""`,
	`null`, `true`, `0`, `-0`, `1e3`, `9223372036854775808`, `1.5`, `01`, "\xff", "\"\xff\"", "\"\ufffd\"", "\x00", "\u00a0", `{"a":1}`, `[1,{}]`,
	`"\ud800"`, `"a":1`, `,"a":"x"`, `,"b" : [ {"c":"]"} ]`,
}

// mutant is a text with a few fragments put in, and parts taken out or repeated.
func mutant(r *rand.Rand, text string) []byte {
	b := []byte(text)
	for range r.IntN(4) {
		i := r.IntN(len(b) + 1)
		j := min(len(b), i+r.IntN(6))
		switch r.IntN(4) {
		case 0:
			b = slices.Delete(b, i, j)
		case 1:
			b = slices.Insert(b, i, slices.Clone(b[i:j])...)
		default:
			b = slices.Replace(b, i, j, []byte(fragments[r.IntN(len(fragments))])...)
		}
	}
	return b
}

// randomObject is random and mostly JSON, with names that are often equal.
func randomObject(r *rand.Rand) string {
	text := "{"
	for i := range r.IntN(4) {
		if i > 0 {
			text += ","
		}
		text += []string{`"a"`, `"b"`, `"\u0062"`, `"A"`, "\"\xff\"", "\"\xfe\""}[r.IntN(6)] + ":" + fragments[r.IntN(len(fragments))]
	}
	return text + "}"
}

// TestObjectsAsByTokens: the fast reading accepts, finds and says the same as encoding/json, on whole, broken and random texts.
func TestObjectsAsByTokens(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	accepted := 0
	for range 50_000 {
		text := approvedAnswer
		if r.IntN(2) == 0 {
			text = randomObject(r)
		}
		if sameAsByTokens(t, mutant(r, text)) {
			accepted++
		}
	}
	if accepted < 5_000 {
		t.Errorf("only %d texts were accepted: the test compares too little", accepted)
	}
}

// sameAsByTokens compares the two readings of a text, and of each field as the types that we read. It reports whether the text is accepted.
func sameAsByTokens(t *testing.T, body []byte) bool {
	t.Helper()
	want := tokens(body)
	got, err := decodeObject(body)
	if (err == nil) != (want != nil) {
		t.Fatalf("%q: got %v, want acceptance %t", body, err, want != nil)
	}
	if err != nil {
		return false
	}
	if !maps.EqualFunc(got.values, want, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }) {
		t.Fatalf("%q: got %q, want %q", body, got.values, want)
	}
	for name, v := range want {
		var s string
		f := object{values: got.values}
		err := json.Unmarshal(v, &s)
		if text := f.text(name); text != s || (f.err == nil) != (err == nil) {
			t.Fatalf("%s as text: got %q, %v; want %q, %v", v, text, f.err, s, err)
		}
		var n int64
		f = object{values: got.values}
		err = json.Unmarshal(v, &n)
		if number := f.number(name); number != n || (f.err == nil) != (err == nil) {
			t.Fatalf("%s as number: got %d, %v; want %d, %v", v, number, f.err, n, err)
		}
	}
	return true
}

func FuzzObjectsAsByTokens(f *testing.F) {
	f.Add([]byte(approvedAnswer))
	for _, text := range fragments {
		f.Add([]byte(`{"x":` + text + `}`))
	}
	f.Fuzz(func(t *testing.T, body []byte) { sameAsByTokens(t, body) })
}

func BenchmarkDecodePayment(b *testing.B) {
	body := []byte(approvedAnswer)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := decodePayment(body, "r-1", sale); err != nil {
			b.Fatal(err)
		}
	}
}

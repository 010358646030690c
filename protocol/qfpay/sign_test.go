package qfpay

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestPOSKey(t *testing.T) {
	t.Parallel()
	for text, ok := range map[string]bool{
		textK16: true, textK32: true, strings.Repeat("k", 24): true, "": false, "short": false, strings.Repeat("k", 17): false,
		"Qz7mT4xLw9RbN2v\n": false, "Qz7mT4xLw9RbN2 K": false, "Qz7mT4xLw9RbNé": false,
	} {
		if _, err := NewPOSKey(text); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, tc := range []struct {
		key  POSKey
		mode KeyMode
		size int
	}{
		{k16, KeyUTF8, 16}, {k16, KeyHex, 0}, {k16, KeyFirst16, 0}, {k32, KeyUTF8, 32}, {k32, KeyHex, 16}, {k32, KeyFirst16, 16},
		{mustKey(strings.Repeat("z", 32)), KeyHex, 0}, {mustKey(strings.Repeat("z", 24)), KeyFirst16, 16}, {POSKey{}, KeyUTF8, 0},
	} {
		if got := len(tc.key.aes(tc.mode)); got != tc.size {
			t.Errorf("%d characters in mode %s: %d bytes, want %d", len(tc.key.Reveal()), tc.mode, got, tc.size)
		}
	}
}

func TestGeneratePOSKey(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for range 100 {
		k, err := GeneratePOSKey(rand.Reader)
		if err != nil || len(k.Reveal()) != 16 || seen[k.Reveal()] {
			t.Fatalf("%d characters, %v", len(k.Reveal()), err)
		}
		seen[k.Reveal()] = true
	}
	if k, err := GeneratePOSKey(strings.NewReader("short")); err == nil || !k.IsZero() {
		t.Errorf("without randomness: %v", err)
	}
}

// However a key is printed it shows nothing.
func TestPOSKeyIsNotPrinted(t *testing.T) {
	t.Parallel()
	set := KeySet{Keys: []POSKey{k16}}
	var b bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&b, verb+" "+verb+" ", k16, set)
	}
	for _, log := range []*slog.Logger{slog.New(slog.NewTextHandler(&b, nil)), slog.New(slog.NewJSONHandler(&b, nil))} {
		log.Info("key", "key", k16, "set", set)
	}
	if err := json.NewEncoder(&b).Encode(set); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), textK16) || strings.Contains(b.String(), fmt.Sprintf("%x", textK16)) {
		t.Errorf("printed: %s", b.String())
	}
}

// Whitespace, line breaks as Android makes them, the other alphabet, and missing padding are all read (§2.2).
func TestBase64Forms(t *testing.T) {
	t.Parallel()
	whole := string(seal(t, FormBare, "{amt=10.1,channel='card_payment',func_type=1001,out_trade_no='單號>>??'}", k16, KeyUTF8))
	var lines strings.Builder
	for i := 0; i < len(whole); i += 76 {
		lines.WriteString(whole[i:min(i+76, len(whole))] + "\n")
	}
	set := KeySet{Keys: []POSKey{k16}}
	for name, text := range map[string]string{
		"one line": whole, "lines": lines.String(), "lines of Windows": strings.ReplaceAll(lines.String(), "\n", "\r\n"),
		"the URL's alphabet": strings.NewReplacer("+", "-", "/", "_").Replace(whole), "no padding": strings.TrimRight(whole, "="),
	} {
		if _, fault := set.open([]byte(text)); fault != nil {
			t.Errorf("%s: %s", name, fault.text)
		}
	}
}

// The answer to an encrypted request that is not in order is one and the same, whatever is wrong with it: nobody learns from it whether
// the padding was right. Every byte of every block is changed.
func TestNoPaddingOracle(t *testing.T) {
	t.Parallel()
	r := setup(t)
	good := seal(t, FormBare, "{func_type=5001}", k16, KeyUTF8)
	text, err := base64.StdEncoding.DecodeString(string(good))
	if err != nil {
		t.Fatal(err)
	}
	aesKey := []byte(textK16)
	bodies := map[string][]byte{
		"another key":            seal(t, FormBare, "{func_type=5001}", k32, KeyUTF8),
		"a wrong digest":         []byte(encrypt(aesKey, []byte("{content:{func_type=5001}, digest:'0BC1D8CA13072336C521EA658E3C0A72'}"))),
		"no digest":              []byte(encrypt(aesKey, []byte("{content:{func_type=5001}}"))),
		"no content":             []byte(encrypt(aesKey, []byte("{digest:'0BC1D8CA13072336C521EA658E3C0A71'}"))),
		"no object":              []byte(encrypt(aesKey, []byte("hello"))),
		"nothing":                []byte(encrypt(aesKey, nil)),
		"an object in it":        []byte(encrypt(aesKey, []byte("{content:{func_type={}}, digest:''}"))),
		"broken Base64":          []byte("!!!!"),
		"no whole block":         []byte("AAAA"),
		"a wrong digest, form C": fmt.Appendf(nil, `{"content":"%s","digest":"00"}`, encrypt(aesKey, []byte(`{"func_type":5001}`))),
		"padding, form C":        fmt.Appendf(nil, `{"content":"%s","digest":"00"}`, base64.StdEncoding.EncodeToString(make([]byte, 32))),
		"broken Base64, form C":  []byte(`{"content":"!!!","digest":"00"}`),
	}
	for i := range text {
		broken := bytes.Clone(text)
		broken[i] ^= byte(1 + i%255)
		bodies[fmt.Sprintf("byte %d changed", i)] = []byte(base64.StdEncoding.EncodeToString(broken))
	}
	last := len(text) - 17 // Of the block that decides the padding.
	for b := range 256 {
		if broken := bytes.Clone(text); broken[last] != byte(b) {
			broken[last] = byte(b)
			bodies[fmt.Sprintf("padding byte %d", b)] = []byte(base64.StdEncoding.EncodeToString(broken))
		}
	}
	const want = `{"data":"","respcd":"5001","resperr":"decryption failed","respmsg":""}`
	for name, body := range bodies {
		for _, form := range []string{string(body), `"` + string(body) + `"`} {
			if body[0] == '{' && form[0] == '"' {
				continue
			}
			w, got := r.post(FuncCancel.Path(), form)
			if got != want || w.Code != 200 {
				t.Errorf("%s: %d %s", name, w.Code, got)
			}
		}
	}
}

// A refusal is never answered before its pause is over, so its time does not tell either.
func TestFaultsTakeTheirTime(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.server.FaultPause = 60 * time.Millisecond
	for _, body := range []string{"!!!!", string(seal(t, FormBare, "{func_type=5001}", k32, KeyUTF8))} {
		start := time.Now()
		r.post(FuncCancel.Path(), body)
		if took := time.Since(start); took < r.server.FaultPause {
			t.Errorf("refused after %v", took)
		}
	}
}

// The forms and switches of §2.6.
func TestReplies(t *testing.T) {
	t.Parallel()
	plainJSON, armored, literal := "plain", "Base64", "quoted Base64"
	for _, tc := range []struct {
		encryption Encryption
		reply      Reply
		want       map[Form]string
	}{
		{EncryptionAuto, ReplyMirror, map[Form]string{FormQuoted: plainJSON, FormBare: armored, FormInner: armored, FormPlain: plainJSON}},
		{EncryptionOn, ReplyMirror, map[Form]string{FormQuoted: plainJSON, FormBare: armored, FormInner: armored, FormPlain: "4003"}},
		{EncryptionOff, ReplyMirror, map[Form]string{FormQuoted: plainJSON, FormBare: plainJSON, FormInner: plainJSON, FormPlain: plainJSON}},
		{EncryptionOn, ReplyEncrypted, map[Form]string{FormQuoted: literal, FormBare: armored, FormInner: armored, FormPlain: "4003"}},
		{EncryptionAuto, ReplyEncrypted, map[Form]string{FormQuoted: literal, FormBare: armored, FormInner: armored, FormPlain: plainJSON}},
		{EncryptionOn, ReplyPlain, map[Form]string{FormQuoted: plainJSON, FormBare: plainJSON, FormInner: plainJSON, FormPlain: "4003"}},
	} {
		for form, want := range tc.want {
			t.Run(fmt.Sprintf("%q %q %c", tc.encryption, tc.reply, form), func(t *testing.T) {
				t.Parallel()
				r := setup(t)
				r.keys.change(KeySet{Keys: []POSKey{k16}, Encryption: tc.encryption, Reply: tc.reply})
				w, body := r.post(FuncCancel.Path(), string(seal(t, form, "{func_type=5001}", k16, KeyUTF8)))
				answer := r.read([]byte(body))
				got := armored
				switch {
				case answer.Code == CodeDenied:
					got = "4003"
				case strings.HasPrefix(body, "{"):
					got = plainJSON
				case strings.HasPrefix(body, `"`):
					got = literal
				}
				if got != want || got != "4003" && answer != done {
					t.Errorf("%s: %s, want %s", body, got, want)
				}
				if isText := strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain"); isText != (got == armored) {
					t.Errorf("content type %s of %s", w.Header().Get("Content-Type"), got)
				}
			})
		}
	}
}

// After a change of the key both count until the terminal has confirmed it, and each request is answered under its own.
func TestKeyChange(t *testing.T) {
	t.Parallel()
	r := setup(t)
	next := mustKey("NewKeyNewKeyNewK")
	ask := func(key POSKey) (Response, error) {
		_, body := r.post(FuncCancel.Path(), string(seal(t, FormBare, "{func_type=5001}", key, KeyUTF8)))
		return openAnswer([]byte(body), key.aes(KeyUTF8))
	}
	want := func(when string, key POSKey, code Code) {
		t.Helper()
		if got, err := ask(key); err != nil || got.Code != code {
			t.Errorf("%s: %+v, %v; want %s", when, got, err, code)
		}
	}
	want("before the change, the old key", k16, CodeOK)
	want("before the change, the new key", next, CodeDecryptFailed)
	r.keys.change(KeySet{Keys: []POSKey{next, k16}})
	want("in between, the old key", k16, CodeOK)
	want("in between, the new key", next, CodeOK)
	r.keys.change(KeySet{Keys: []POSKey{next}})
	want("afterwards, the old key", k16, CodeDecryptFailed)
	want("afterwards, the new key", next, CodeOK)
	r.keys.change(KeySet{})
	want("without any key", k16, CodeDecryptFailed)
	r.keys.change(KeySet{Keys: []POSKey{{}}, Encryption: EncryptionAuto})
	want("with an empty key", k16, CodeDecryptFailed)
	if got := r.ask("{func_type:5001}"); got.Code != CodeDenied {
		t.Errorf("plain, with an empty key: %+v", got)
	}
	// A digest without any key must not count either.
	open := fmt.Sprintf(`{"content":{"func_type":5001},"digest":"%s"}`, digest("{func_type=5001}", POSKey{}))
	if _, body := r.post(FuncCancel.Path(), open); r.read([]byte(body)).Code != CodeDenied {
		t.Errorf("a digest without a key is accepted: %s", body)
	}
}

// Answers in any form are read, and what is none is not taken for one.
func TestAnswerForms(t *testing.T) {
	t.Parallel()
	key := []byte(textK16)
	armored := encrypt(key, []byte(`{"respcd":"6000","data":"","resperr":"","respmsg":"OK"}`))
	for name, text := range map[string]string{
		"plain": `{"respcd":"6000","data":"","respmsg":"OK"}`, "data null": `{"respcd":"6000","data":null,"respmsg":"OK"}`, "data as the text null": `{"respcd":"6000","data":"null","respmsg":"OK"}`,
		"no data": `{"respcd":"6000","respmsg":"OK"}`, "Base64": armored, "quoted Base64": `"` + armored + `"`, "the inner form": `{"content":"` + armored + `","digest":""}`,
		"a line's end": armored + "\r\n", "an object in quotes": `"{\"respcd\":\"6000\",\"respmsg\":\"OK\"}"`,
	} {
		if got, err := openAnswer([]byte(text), key); err != nil || got != done {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for name, text := range map[string]string{
		"nothing": "", "no code": "{}", "a code that is a number": `{"respcd":6000}`, "torn": `{"respcd":"60`, "torn quotes": `"abc`, "quotes in quotes": `"\"\""`,
		"another key's": encrypt([]byte(textK32), []byte(`{"respcd":"6000"}`)), "no object": encrypt(key, []byte("hello")), "too long": strings.Repeat(" ", payloadMax+1) + armored,
		"data with a broken escape": `{"respcd":"6000","data":"\ud"}`,
	} {
		if got, err := openAnswer([]byte(text), key); err == nil {
			t.Errorf("%s is read as %+v", name, got)
		}
	}
	if _, err := openAnswer([]byte(armored), nil); err == nil {
		t.Error("read without a key")
	}
	for _, text := range []string{`{"txamt":{}}`, `{"txamt":[1]}`} {
		var d TradeData
		if json.Unmarshal([]byte(text), &d) == nil {
			t.Errorf("%s is read", text)
		}
	}
}

func TestOverlongBody(t *testing.T) {
	t.Parallel()
	r := setup(t)
	for _, body := range []string{strings.Repeat("A", payloadMax+1), `"` + strings.Repeat("A", payloadMax) + `"`, "{" + strings.Repeat(" ", payloadMax)} {
		if _, got := r.post(FuncCancel.Path(), body); r.read([]byte(got)) != faultLength.response() {
			t.Errorf("got %s", got)
		}
	}
	w := httptest.NewRecorder()
	(&HTTPLink{Server: r.server}).ServeHTTP(w, httptest.NewRequest("POST", FuncCancel.Path(), strings.NewReader("")))
	if got := r.read(w.Body.Bytes()); got.Code != CodeWrongParam {
		t.Errorf("an empty body: %+v", got)
	}
}

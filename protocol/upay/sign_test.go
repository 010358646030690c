package upay_test

import (
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tillgate/tillgate/protocol/upay"
	"github.com/tillgate/tillgate/terminal"
)

const (
	k1 = "00112233445566778899aabbccddeeff"
	k2 = "ffeeddccbbaa99887766554433221100"
)

// vector is a file of testdata: a header, a blank line, the bytes as on the wire.
type vector struct {
	name   string
	header map[string]string
	body   []byte
}

func readVector(t testing.TB, path string) vector {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	head, body, ok := strings.Cut(string(text), "\n\n")
	if !ok {
		t.Fatalf("%s has no body", path)
	}
	v := vector{name: filepath.Base(path), header: map[string]string{}, body: []byte(body)}
	for line := range strings.SplitSeq(head, "\n") {
		name, value, _ := strings.Cut(line, ": ")
		v.header[name] = value
	}
	if v.header["encoding"] == "hex" {
		v.body, err = hex.DecodeString(strings.TrimSpace(body))
		must(t, err)
	}
	return v
}

func vectors(t testing.TB) []vector {
	t.Helper()
	paths, err := filepath.Glob("testdata/V*.txt")
	must(t, err)
	if len(paths) != 14 {
		t.Fatalf("%d vectors, want 14", len(paths))
	}
	var list []vector
	for _, p := range paths {
		list = append(list, readVector(t, p))
	}
	return list
}

func TestSignVectors(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t) {
		key := terminal.NewSecret(v.header["key"])
		if got := fmt.Sprint(len(v.body)); got != v.header["length"] {
			t.Errorf("%s: %s bytes, want %s", v.name, got, v.header["length"])
		}
		if got := upay.Sign(v.body, key); got != v.header["sign"] {
			t.Errorf("%s: got %s, want %s", v.name, got, v.header["sign"])
		}
		if !upay.Verify(v.body, strings.ToUpper(v.header["sign"]), key) {
			t.Errorf("%s: not verified in capitals", v.name)
		}
		if upay.Verify(append(v.body, ' '), v.header["sign"], key) || upay.Verify(v.body, v.header["sign"], terminal.NewSecret(k2+"0")) ||
			upay.Verify(v.body, v.header["sign"], terminal.Secret{}) {
			t.Errorf("%s: verified for other bytes, another key or none", v.name)
		}
		if got, want := upay.Authorization(v.header["sn"], v.body, key), v.header["sn"]+" "+v.header["sign"]; got != want {
			t.Errorf("%s: header %q, want %q", v.name, got, want)
		}
	}
}

func TestParseAuthorization(t *testing.T) {
	t.Parallel()
	const sn, sign = "100900010000000001", "934f6fc234f6d49111d115b0c3d0d916"
	for header, want := range map[string]bool{
		sn + " " + sign:                      true,
		sn + "  " + sign:                     true,
		" " + sn + "\t" + sign + " ":         true,
		sn + " " + strings.ToUpper(sign):     true,
		sign:                                 false,
		"":                                   false,
		sn:                                   false,
		sn + " " + sign + " x":               false,
		sn + " " + sign[1:]:                  false,
		sn + " " + sign + "00":               false,
		sn + " " + "zz" + sign[2:]:           false,
		strings.Repeat("1", 65) + " " + sign: false,
	} {
		gotSN, gotSign, ok := upay.ParseAuthorization(header)
		if ok != want || ok && (gotSN != sn || !strings.EqualFold(gotSign, sign)) {
			t.Errorf("%q: got %q %q %v, want %v", header, gotSN, gotSign, ok, want)
		}
	}
}

func TestFormVectors(t *testing.T) {
	t.Parallel()
	for _, v := range []struct{ text, key, sign string }{
		{"client_sn=abc&terminal_sn=123&total_amount=1", "19b820737ace6937a7808c", "FEF7DA867F4F1F2AF2AE847D3CDFBADC"},
		{"client_sn=test&operator=TEST&return_url=test&subject=TEST&terminal_sn=test&total_amount=3", "test", "D5AFC533FFD5EE8DA62A96661D636FF7"},
		{"client_sn=W0001&operator=c01&return_url=https://shop.example.com/done&subject=Tea&terminal_sn=100900010000000001&total_amount=300",
			k1, "898A2BE1845656A10D7AD9F224BF46DE"},
		{"client_sn=W0002&notify_url=https://erp.example.com/n?x=1&operator=店员&return_url=https://shop.example.com/done&subject=奶茶" +
			"&terminal_sn=100900010000000001&total_amount=300", k1, "803AF1B40CCD8540D0699B051587697D"},
	} {
		values := url.Values{"sign": {"x"}, "sign_type": {"MD5"}, "reflect": {""}} // None of these counts.
		for part := range strings.SplitSeq(v.text, "&") {
			name, value, _ := strings.Cut(part, "=")
			values.Set(name, value)
		}
		if got := upay.FormString(values); got != v.text {
			t.Errorf("string: got %q, want %q", got, v.text)
		}
		key := terminal.NewSecret(v.key)
		if got := upay.SignForm(values, key); got != v.sign {
			t.Errorf("%s: got %s, want %s", v.text, got, v.sign)
		}
		values.Set("sign", strings.ToLower(v.sign))
		if !upay.VerifyForm(values, key) {
			t.Errorf("%s: not verified", v.text)
		}
		values.Set("total_amount", "4")
		if upay.VerifyForm(values, key) || upay.VerifyForm(values, terminal.Secret{}) {
			t.Errorf("%s: verified with another amount", v.text)
		}
	}
}

func callbackKey(t testing.TB) *rsa.PublicKey {
	t.Helper()
	text, err := os.ReadFile("testdata/callback.pem")
	must(t, err)
	block, _ := pem.Decode(text)
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	must(t, err)
	return key.(*rsa.PublicKey)
}

func TestCallbackVector(t *testing.T) {
	t.Parallel()
	v, key := readVector(t, "testdata/callback.txt"), callbackKey(t)
	if sum := sha256.Sum256(v.body); hex.EncodeToString(sum[:]) != v.header["sha256"] {
		t.Fatal("the body is another")
	}
	sign := v.header["sign"]
	for name, header := range map[string]string{"alone": sign, "with sn": "100900010000000001 " + sign} {
		if err := upay.VerifyCallback(header, v.body, key); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, header := range map[string]string{"none": "", "of the body's MD5": "100900010000000001 " + v.header["md5"], "cut": sign[:40], "three words": "a b " + sign} {
		if upay.VerifyCallback(header, v.body, key) == nil {
			t.Errorf("verified: %s", name)
		}
	}
	if upay.VerifyCallback(sign, append(v.body, '\n'), key) == nil {
		t.Error("verified another body")
	}
	if !upay.Verify(v.body, v.header["md5"], terminal.NewSecret(k1)) {
		t.Error("the legacy form is not verified")
	}
	d, err := upay.DecodeCallback(v.body)
	must(t, err)
	if d.SN != "7899000000000003" || d.OrderStatus != upay.OrderPaid || d.TotalAmount != 2500 || d.Reflect != `{"table":"7"}` || d.FinishTime != 1717203600123 {
		t.Errorf("got %+v", d)
	}
}

func TestSignCallback(t *testing.T) {
	t.Parallel()
	body := []byte(`{"sn":"7899000000000003"}`)
	sign, err := upay.SignCallback(body, testKey())
	must(t, err)
	must(t, upay.VerifyCallback(sign, body, &testKey().PublicKey))
	raw, err := json.Marshal(sign) // It is one word.
	if err != nil || strings.ContainsAny(sign, " \n") {
		t.Errorf("%s %v", raw, err)
	}
}

func TestAcceptedCallback(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status int
		body   string
		want   bool
	}{
		{200, "success", true}, {200, " SUCCESS\r\n", true}, {201, `"success"`, true}, {200, `{"success":true}`, true}, {200, `{"result":"success"}`, true},
		{200, "", false}, {200, "fail", false}, {500, "success", false}, {302, "success", false}, {200, `{"success":false}`, false}, {200, "successful", false},
		{200, `{"error":"no success"}`, false}, {200, "<html>success</html>", false},
	} {
		if got := upay.AcceptedCallback(c.status, []byte(c.body)); got != c.want {
			t.Errorf("%d %q: got %v", c.status, c.body, got)
		}
	}
}

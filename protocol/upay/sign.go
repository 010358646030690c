package upay

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5" // The protocol's own; nothing else here hangs on it.
	"encoding/hex"
	"net/url"
	"slices"
	"strings"

	"github.com/tillgate/tillgate/terminal"
)

// Sign is the signature of a body: the MD5 of its bytes with the key behind them, in hexadecimal (§2.1).
func Sign(body []byte, key terminal.Secret) string {
	h := md5.New()
	h.Write(body)
	h.Write([]byte(key.Reveal()))
	return hex.EncodeToString(h.Sum(nil))
}

// Authorization is the header of a request: who, and the signature (§2.1).
func Authorization(sn string, body []byte, key terminal.Secret) string {
	return sn + " " + Sign(body, key)
}

// snMax bounds the number in a header (§1.1: 32), so that nothing huge is looked up.
const snMax = 64

// ParseAuthorization splits a header into its two words; what is between and around them may be any white space (§2.2). It reports false
// for everything else.
func ParseAuthorization(header string) (sn, sign string, ok bool) {
	words := strings.Fields(header)
	if len(words) != 2 || len(words[0]) > snMax || !isHex(words[1], md5.Size) {
		return "", "", false
	}
	return words[0], words[1], true
}

// isHex reports whether text is the hexadecimal form of so many bytes.
func isHex(text string, size int) bool {
	b, err := hex.DecodeString(text)
	return err == nil && len(b) == size
}

// Verify reports whether sign is the body's signature under a key, in any letter case, in constant time (§2.1). No key signs nothing.
func Verify(body []byte, sign string, key terminal.Secret) bool {
	got, err := hex.DecodeString(sign)
	want, _ := hex.DecodeString(Sign(body, key))
	return err == nil && key.Reveal() != "" && hmac.Equal(got, want)
}

// FormString is what a form-style signature is about (§2.7): the parameters but sign and sign_type in the order of their names, values as
// they are, empty ones left out.
func FormString(values url.Values) string {
	var parts []string
	for name, list := range values {
		if name != "sign" && name != "sign_type" && len(list) > 0 && list[0] != "" {
			parts = append(parts, name+"="+list[0])
		}
	}
	// By name, not by the text joined: "a=" sorts before "a1=" only so.
	slices.SortFunc(parts, func(a, b string) int {
		x, _, _ := strings.Cut(a, "=")
		y, _, _ := strings.Cut(b, "=")
		return strings.Compare(x, y)
	})
	return strings.Join(parts, "&")
}

// SignForm is the form-style signature of parameters (§2.7).
func SignForm(values url.Values, key terminal.Secret) string {
	var b bytes.Buffer
	b.WriteString(FormString(values))
	b.WriteString("&key=")
	b.WriteString(key.Reveal())
	sum := md5.Sum(b.Bytes())
	return strings.ToUpper(hex.EncodeToString(sum[:]))
}

// VerifyForm reports whether the parameters carry their form-style signature under a key.
func VerifyForm(values url.Values, key terminal.Secret) bool {
	got, err := hex.DecodeString(values.Get("sign"))
	want, _ := hex.DecodeString(SignForm(values, key))
	return err == nil && key.Reveal() != "" && hmac.Equal(got, want)
}

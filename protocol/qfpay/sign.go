package qfpay

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/md5"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
)

// iv is the same for every message (QFPay seed, 2): equal beginnings give equal ciphertexts. The cipher hides card-free texts from
// bystanders; it proves nothing.
const iv = "qfpay202306_hjsh"

var (
	errKey = errors.New("qfpay: a POS-KEY has 16, 24 or 32 visible ASCII characters")
	// errCipher is the one error of all that can be wrong with an encrypted text: Base64, length, padding, plaintext, digest.
	errCipher = errors.New("qfpay: cannot be decrypted")
)

// POSKey is the secret that a terminal and its cash registers share: an AES key, and the end of what digests are over (§2.1). However it
// is printed it shows nothing.
type POSKey struct{ secret *string } // A pointer, since fmt would print a plain string in an unexported field.

// NewPOSKey makes a key of its text. Ours have 16 characters; 24 and 32 are for keys that others issued.
func NewPOSKey(text string) (POSKey, error) {
	invisible := func(r rune) bool { return r <= ' ' || r > '~' }
	switch len(text) {
	case 16, 24, 32:
		if !strings.ContainsFunc(text, invisible) {
			return POSKey{&text}, nil
		}
	}
	return POSKey{}, errKey
}

// GeneratePOSKey makes a key of 16 letters and digits: with these every reading of "16 bytes" is the same (§2.1).
func GeneratePOSKey(random io.Reader) (POSKey, error) {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	var text []byte
	for len(text) < aes.BlockSize {
		var b [1]byte
		if _, err := io.ReadFull(random, b[:]); err != nil {
			return POSKey{}, fmt.Errorf("qfpay: POS-KEY: %w", err)
		}
		if i := int(b[0] & 0x3F); i < len(alphabet) { // Each as likely as any other.
			text = append(text, alphabet[i])
		}
	}
	return NewPOSKey(string(text))
}

const redacted = "***"

// String shows nothing of the key.
func (k POSKey) String() string { return redacted }

// GoString shows nothing of the key.
func (k POSKey) GoString() string { return redacted }

// LogValue shows nothing of the key.
func (k POSKey) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText shows nothing of the key.
func (k POSKey) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// IsZero reports whether there is no key.
func (k POSKey) IsZero() bool { return k.secret == nil }

// Reveal is the key's text; empty for no key.
func (k POSKey) Reveal() string {
	if k.secret == nil {
		return ""
	}
	return *k.secret
}

// KeyMode is how the AES key is made of a POS-KEY's text. With 16 characters all are the same (§2.1).
type KeyMode string

// The key modes, in the order in which they are tried.
const (
	KeyAuto    KeyMode = ""        // Our client begins with KeyUTF8 and, refused, goes on to the next.
	KeyUTF8    KeyMode = "utf8"    // The text's bytes: AES-128, 192 or 256. What the Odoo client does.
	KeyHex     KeyMode = "hex"     // 32 hex digits are 16 bytes.
	KeyFirst16 KeyMode = "first16" // The first 16 characters.
)

var keyModes = []KeyMode{KeyUTF8, KeyHex, KeyFirst16}

// aes is the AES key in a mode; nil when the text has none in it.
func (k POSKey) aes(mode KeyMode) []byte {
	text := k.Reveal()
	switch {
	case text == "":
		return nil
	case mode == KeyUTF8:
		return []byte(text)
	case mode == KeyHex && len(text) == 2*aes.BlockSize:
		if b, err := hex.DecodeString(text); err == nil {
			return b
		}
	case mode == KeyFirst16 && len(text) > aes.BlockSize:
		return []byte(text[:aes.BlockSize])
	}
	return nil
}

// encrypt is Base64 of AES-CBC with PKCS#7 padding, in one line (§2.2).
func encrypt(key, plain []byte) string {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic("qfpay: " + err.Error()) // Keys have been checked.
	}
	pad := aes.BlockSize - len(plain)%aes.BlockSize
	text := append(slices.Clone(plain), bytes.Repeat([]byte{byte(pad)}, pad)...)
	cipher.NewCBCEncrypter(block, []byte(iv)).CryptBlocks(text, text)
	return base64.StdEncoding.EncodeToString(text)
}

// decrypt undoes encrypt. What is wrong with a text it does not say.
func decrypt(key, text []byte) ([]byte, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic("qfpay: " + err.Error())
	}
	if len(text) == 0 || len(text)%aes.BlockSize != 0 {
		return nil, errCipher
	}
	plain := make([]byte, len(text))
	cipher.NewCBCDecrypter(block, []byte(iv)).CryptBlocks(plain, text)
	pad := int(plain[len(plain)-1])
	// Every byte of the last block is looked at whatever the padding, so that its kind of fault does not show in the time taken.
	good := subtle.ConstantTimeLessOrEq(1, pad) & subtle.ConstantTimeLessOrEq(pad, aes.BlockSize)
	for i := 1; i <= aes.BlockSize; i++ {
		isPad := subtle.ConstantTimeLessOrEq(i, pad)
		good &= subtle.ConstantTimeSelect(isPad, subtle.ConstantTimeByteEq(plain[len(plain)-i], byte(pad)), 1)
	}
	if good != 1 {
		return nil, errCipher
	}
	return plain[:len(plain)-pad], nil
}

// unarmor reads Base64 in either alphabet, broken into lines or not, padded or not (§2.2).
func unarmor(text string) ([]byte, error) {
	text = strings.Map(func(r rune) rune {
		switch r {
		case ' ', '\t', '\r', '\n':
			return -1
		case '-':
			return '+'
		case '_':
			return '/'
		}
		return r
	}, text)
	b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil {
		return nil, errCipher
	}
	return b, nil
}

// canonical is the form of a flat object that digests are over (§2.3): {amt=88,channel='alipay',func_type=1001}. Names are in ASCII order,
// strings are in single quotes without escapes, numbers have the digits they came with, and what is null or empty is ”.
func canonical(members []member) (string, error) {
	sorted := slices.SortedFunc(slices.Values(members), func(a, b member) int { return strings.Compare(a.name, b.name) })
	var b strings.Builder
	b.WriteByte('{')
	for i, m := range sorted {
		if i > 0 {
			b.WriteByte(',')
		}
		if strings.ContainsAny(m.name, `=,'"{}`) || strings.Contains(m.value.text, "',") {
			return "", errShape
		}
		b.WriteString(m.name + "=")
		switch m.value.kind {
		case stringKind:
			b.WriteString("'" + m.value.text + "'")
		case nullKind:
			b.WriteString("''")
		case numberKind, wordKind:
			b.WriteString(m.value.text)
		default:
			return "", errShape // How an object in the object would stand here is not defined.
		}
	}
	b.WriteByte('}')
	return b.String(), nil
}

// digest is MD5 over a text and the POS-KEY's text, in capital hex digits (§2.4).
func digest(text string, key POSKey) string {
	sum := md5.Sum([]byte(text + key.Reveal()))
	return strings.ToUpper(hex.EncodeToString(sum[:]))
}

// digestFits compares in constant time with each of several digests, in either letter case (§2.4).
func digestFits(got string, want ...string) bool {
	got = strings.ToUpper(got)
	fits := 0
	for _, w := range want {
		fits |= subtle.ConstantTimeCompare([]byte(got), []byte(w))
	}
	return fits == 1
}

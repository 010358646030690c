package iotpay

import (
	"crypto/hmac"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/url"
	"slices"
	"strings"
)

// keyMax is the longest merchant key; known ones have 32 characters.
const keyMax = 256

// errKey never holds the key, nor a part of it.
var errKey = errors.New("iotpay: a merchant key has 1 to 256 characters")

// Key is a merchant key, the secret that both sides sign with (§2). However it is printed it shows nothing; Reveal is the only way to its
// text.
type Key struct{ secret *string } // A pointer, since fmt would print a plain string in an unexported field.

// NewKey makes a key of its text.
func NewKey(text string) (Key, error) {
	if text == "" || len(text) > keyMax {
		return Key{}, errKey
	}
	return Key{&text}, nil
}

const redacted = "***"

// String shows nothing of the key.
func (k Key) String() string { return redacted }

// GoString shows nothing of the key.
func (k Key) GoString() string { return redacted }

// LogValue shows nothing of the key.
func (k Key) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText shows nothing of the key.
func (k Key) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// IsZero reports whether there is no key.
func (k Key) IsZero() bool { return k.secret == nil }

// Reveal is the text of the key, for signatures only; empty for no key.
func (k Key) Reveal() string {
	if k.secret == nil {
		return ""
	}
	return *k.secret
}

// signName is the parameter that holds the signature, and is not part of what is signed (§2.1, step 1).
const signName = "sign"

// Sign is the signature of a message's top-level parameters: canonical form, byte order, MD5 in upper-case hexadecimal (§2.1).
func Sign(p Params, k Key) string { return p.canonical(variant{}).sign(k) }

// Verify finds a signature that fits in the canonical form or in one of the variants that clients use (§2.3), under any of the keys: a
// merchant has two while its key is being changed. It returns the parameters as they were signed: where a client percent-encoded texts
// after it had signed them, they are decoded.
func Verify(p Params, keys ...Key) (Params, bool) {
	got := []byte(strings.ToUpper(p.Get(signName)))
	if len(got) != 2*md5.Size {
		return nil, false
	}
	tried := map[canonical]bool{}
	for _, v := range variants {
		as := p
		if v.unescaped {
			as = p.unescaped()
		}
		text := as.canonical(v)
		if tried[text] {
			continue
		}
		tried[text] = true
		for _, k := range keys {
			if !k.IsZero() && hmac.Equal(got, []byte(text.sign(k))) {
				return as, true
			}
		}
	}
	return nil, false
}

// variant is a way in which clients depart from the canonical form (§2.3). All need the key, so accepting them costs nothing.
type variant struct {
	folded      bool // a: names in case-insensitive order.
	zeroDropped bool // b: a number 0 counts as empty.
	whole       bool // c: a number such as 1000.0 was signed as 1000.
	unescaped   bool // d: subject and body were percent-encoded after signing.
}

// variants are all of them and how they meet in one client, the canonical form first. Variant e is a way of reading (see readings).
var variants = func() (list []variant) {
	for bits := range 16 {
		list = append(list, variant{bits&1 != 0, bits&2 != 0, bits&4 != 0, bits&8 != 0})
	}
	return list
}()

// canonical is what is signed, without the key.
type canonical string

func (c canonical) sign(k Key) string {
	sum := md5.Sum([]byte(string(c) + "&key=" + k.Reveal()))
	return strings.ToUpper(hex.EncodeToString(sum[:]))
}

// canonical joins the parameters that are not empty in the order of their names (§2.1, steps 1 to 4).
func (p Params) canonical(v variant) canonical {
	sorted := slices.Clone(p)
	slices.SortStableFunc(sorted, func(a, b Param) int {
		if v.folded {
			if c := strings.Compare(lower(a.Name), lower(b.Name)); c != 0 {
				return c
			}
		}
		return strings.Compare(a.Name, b.Name)
	})
	var b strings.Builder
	for _, q := range sorted {
		text := q.Text
		if q.Kind == Number && v.whole {
			text = whole(text)
		}
		if q.Name == signName || text == "" || q.Kind == Number && v.zeroDropped && whole(text) == "0" {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('&')
		}
		b.WriteString(q.Name)
		b.WriteByte('=')
		b.WriteString(text)
	}
	return canonical(b.String())
}

// unescaped decodes subject and body once more (§2.3 d). What is no percent-encoding stays as it is.
func (p Params) unescaped() Params {
	list := slices.Clone(p)
	for i, q := range list {
		if q.Name != "subject" && q.Name != "body" {
			continue
		}
		if text, err := url.QueryUnescape(q.Text); err == nil && checkText(text) == nil {
			list[i].Text = text
		}
	}
	return list
}

// whole is a decimal number without a fraction of zeros: PHP computes cents as a float and writes 1000.0 (§2.3 c).
func whole(number string) string {
	digits, fraction, found := strings.Cut(number, ".")
	if found && fraction != "" && strings.Trim(fraction, "0") == "" {
		return digits
	}
	return number
}

// lower turns the letters A to Z small and leaves all others.
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + ('a' - 'A')
		}
		return r
	}, s)
}

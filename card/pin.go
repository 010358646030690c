package card

import (
	"crypto/subtle"
	"errors"
)

// Limits of a PIN in digits (ISO 9564-1 §6.1).
const (
	pinMin = 4
	pinMax = 12
)

// ErrPIN is text that is no PIN.
var ErrPIN = errors.New("PIN is not 4 to 12 digits")

// PIN is a cardholder's PIN in clear: for terminals, which encrypt it at once, and for the vault, which translates it. Nothing of it can
// be printed. The zero PIN is none.
type PIN struct {
	digits func() []byte // ASCII; the same array at each call, so that it can be wiped.
}

// ParsePIN reads 4 to 12 digits. It returns ErrPIN.
func ParsePIN(s string) (PIN, error) {
	if len(s) < pinMin || len(s) > pinMax || !isDigits(s) {
		return PIN{}, ErrPIN
	}
	return newPIN([]byte(s)), nil
}

// newPIN hides digits that are known to be good, and owns them from then on.
func newPIN(digits []byte) PIN { return PIN{func() []byte { return digits }} }

// reveal returns nil when there is no PIN, or none any more.
func (p PIN) reveal() []byte {
	if p.digits == nil {
		return nil
	}
	if d := p.digits(); d[0] != 0 {
		return d
	}
	return nil
}

// Wipe overwrites the PIN with zeros, in all copies of this value, which are zero PINs from then on.
func (p PIN) Wipe() { clear(p.reveal()) }

// IsZero reports whether there is no PIN, or none any more.
func (p PIN) IsZero() bool { return p.reveal() == nil }

// Equal compares in constant time for PINs of one length.
func (p PIN) Equal(q PIN) bool { return subtle.ConstantTimeCompare(p.reveal(), q.reveal()) == 1 }

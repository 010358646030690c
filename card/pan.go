package card

import (
	"crypto/subtle"
	"errors"
	"strings"
)

// Limits of a PAN in digits, check digit included (ISO/IEC 7812-1 allows 19; shorter than 12 no scheme issues).
const (
	panMin = 12
	panMax = 19
)

// Errors of ParsePAN. Neither holds a digit of what was refused.
var (
	ErrPAN  = errors.New("card number is not 12 to 19 digits")
	ErrLuhn = errors.New("card number has a wrong check digit")
)

// PAN is a primary account number. Printed in any way, it shows no more than Masked. The zero PAN is no number.
type PAN struct {
	digits func() string // Nil in the zero PAN.
}

// ParsePAN reads 12 to 19 digits, without spaces, whose last is the Luhn check digit. It returns ErrPAN or ErrLuhn.
func ParsePAN(s string) (PAN, error) {
	if len(s) < panMin || len(s) > panMax || !isDigits(s) {
		return PAN{}, ErrPAN
	}
	if !luhn(s) {
		return PAN{}, ErrLuhn
	}
	return newPAN(s), nil
}

// newPAN hides digits that are known to be good.
func newPAN(s string) PAN {
	s = strings.Clone(s) // So that a PAN does not keep alive the request that it was cut from.
	return PAN{func() string { return s }}
}

// Reveal returns all digits: for codecs and the vault only. It is empty for the zero PAN.
func (p PAN) Reveal() string {
	if p.digits == nil {
		return ""
	}
	return p.digits()
}

// Masked is the form that people may see: the first six digits, six stars and the last four, as in "555474******1559". Numbers of fewer
// than 15 digits show only the last four: with ten shown, the check digit would leave too little to guess. It is empty for the zero PAN.
func (p PAN) Masked() string {
	s := p.Reveal()
	switch {
	case s == "":
		return ""
	case len(s) < 15:
		return "************" + s[len(s)-4:]
	default:
		return s[:6] + "******" + s[len(s)-4:]
	}
}

// Last4 is the last four digits, or empty for the zero PAN.
func (p PAN) Last4() string {
	s := p.Reveal()
	if s == "" {
		return ""
	}
	return s[len(s)-4:]
}

// IsZero reports whether there is no number.
func (p PAN) IsZero() bool { return p.digits == nil }

// Equal reports whether both are the same number, in constant time for numbers of one length.
func (p PAN) Equal(q PAN) bool {
	return subtle.ConstantTimeCompare([]byte(p.Reveal()), []byte(q.Reveal())) == 1
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

// luhn checks the last digit of s (ISO/IEC 7812-1 annex B).
func luhn(s string) bool {
	sum := 0
	for i := range len(s) {
		d := int(s[len(s)-1-i] - '0')
		if i%2 == 1 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return sum%10 == 0
}

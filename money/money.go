// Package money holds sums of money exactly: minor units of one ISO 4217 currency, and no floats anywhere.
//
// Decimal text such as "12.50" exists only at the edges: Parse reads it, Amount.String and Amount.Trimmed write it. What has
// more decimals than its currency is refused, never rounded.
package money

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"strconv"
	"strings"

	"github.com/bojanz/currency"
)

var (
	// ErrSyntax says that a text is not a decimal number.
	ErrSyntax = errors.New("not a decimal number")
	// ErrPrecision says that an amount has more decimals than its currency.
	ErrPrecision = errors.New("too many decimals")
	// ErrOverflow says that a sum does not fit.
	ErrOverflow = errors.New("amount too large")
	// ErrCurrencyMismatch says that two currencies met in one sum.
	ErrCurrencyMismatch = errors.New("currencies differ")
	// ErrUnknownCurrency says that a code is not in ISO 4217.
	ErrUnknownCurrency = errors.New("unknown currency")
)

// Currency is an ISO 4217 currency. The zero Currency is none. Currencies compare with ==.
type Currency struct{ code string }

// ParseCurrency finds a currency by its alphabetic code in any letter case, or fails with ErrUnknownCurrency.
func ParseCurrency(code string) (Currency, error) {
	code = strings.ToUpper(code)
	if len(code) != 3 || !currency.IsValid(code) {
		return Currency{}, ErrUnknownCurrency
	}
	return Currency{code}, nil
}

// MustCurrency is ParseCurrency for tests and package variables.
func MustCurrency(code string) Currency {
	c, err := ParseCurrency(code)
	if err != nil {
		panic(fmt.Sprintf("money: %q: %v", code, err))
	}
	return c
}

// Code is the alphabetic code in capitals, such as "AUD"; empty for the zero Currency.
func (c Currency) Code() string { return c.code }

// Lower is the alphabetic code in small letters, such as "aud".
func (c Currency) Lower() string { return strings.ToLower(c.code) }

// Numeric is the three-digit code, such as "036".
func (c Currency) Numeric() string {
	n, _ := currency.GetNumericCode(c.code)
	return n
}

// Decimals is the number of digits after the point: 2 for AUD, 0 for JPY, 3 for KWD.
func (c Currency) Decimals() int {
	d, _ := currency.GetDigits(c.code)
	return int(d)
}

// IsZero reports whether c is no currency.
func (c Currency) IsZero() bool { return c.code == "" }

// String is the alphabetic code.
func (c Currency) String() string { return c.code }

// Amount is a sum in minor units of one currency. The zero Amount has no currency and never goes on a wire.
type Amount struct {
	minor int64
	cur   Currency
}

// New makes an amount of minor units: New(1250, AUD) is 12.50 dollars.
func New(minor int64, cur Currency) Amount { return Amount{minor, cur} }

// Minor is the amount in minor units.
func (a Amount) Minor() int64 { return a.minor }

// Currency is the amount's currency.
func (a Amount) Currency() Currency { return a.cur }

// IsZero reports whether the amount is nothing, whatever its currency.
func (a Amount) IsZero() bool { return a.minor == 0 }

// IsPositive reports whether the amount is above zero.
func (a Amount) IsPositive() bool { return a.minor > 0 }

// Neg is the amount with its sign turned.
func (a Amount) Neg() Amount { return Amount{-a.minor, a.cur} }

// Add is a + b. It fails with ErrCurrencyMismatch or ErrOverflow.
func (a Amount) Add(b Amount) (Amount, error) {
	if a.cur != b.cur {
		return Amount{}, ErrCurrencyMismatch
	}
	sum := a.minor + b.minor
	if (sum > a.minor) != (b.minor > 0) && b.minor != 0 {
		return Amount{}, ErrOverflow
	}
	return Amount{sum, a.cur}, nil
}

// Sub is a - b. It fails as Add does.
func (a Amount) Sub(b Amount) (Amount, error) {
	if b.minor == math.MinInt64 {
		return Amount{}, ErrOverflow
	}
	return a.Add(b.Neg())
}

// Cmp is -1, 0 or +1 as a is below, equal to or above b, and fails with ErrCurrencyMismatch.
func (a Amount) Cmp(b Amount) (int, error) {
	if a.cur != b.cur {
		return 0, ErrCurrencyMismatch
	}
	switch {
	case a.minor < b.minor:
		return -1, nil
	case a.minor > b.minor:
		return 1, nil
	}
	return 0, nil
}

// Share is the given part of the amount in millionths, rounded half away from zero: Share(14_000) is 1.4 percent. It fails with ErrOverflow.
func (a Amount) Share(millionths int64) (Amount, error) {
	if millionths < 0 {
		return Amount{}, ErrSyntax
	}
	neg := a.minor < 0
	abs := uint64(a.minor)
	if neg {
		abs = -abs
	}
	hi, lo := bits.Mul64(abs, uint64(millionths))
	lo, carry := bits.Add64(lo, 500_000, 0)
	hi += carry
	if hi >= 1_000_000 {
		return Amount{}, ErrOverflow
	}
	q, _ := bits.Div64(hi, lo, 1_000_000)
	if q > math.MaxInt64 {
		return Amount{}, ErrOverflow
	}
	if neg {
		return Amount{-int64(q), a.cur}, nil
	}
	return Amount{int64(q), a.cur}, nil
}

// String writes the amount with all its decimals and without its currency: "12.50", "-0.05", "1000" for JPY.
func (a Amount) String() string {
	d := a.cur.Decimals()
	neg := a.minor < 0
	abs := uint64(a.minor)
	if neg {
		abs = -abs
	}
	s := strconv.FormatUint(abs, 10)
	if d > 0 {
		if len(s) <= d {
			s = strings.Repeat("0", d-len(s)+1) + s
		}
		s = s[:len(s)-d] + "." + s[len(s)-d:]
	}
	if neg {
		return "-" + s
	}
	return s
}

// Trimmed writes the amount without needless zeros: "12.5", "103", "0".
func (a Amount) Trimmed() string {
	s := a.String()
	if !strings.Contains(s, ".") {
		return s
	}
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
}

// parseMax bounds the length of a decimal text, and expMax its exponent, so that hostile input costs nothing.
const (
	parseMax = 64
	expMax   = 30
)

// Parse reads decimal text such as "12.5", "-3" or "1e2" (the forms of a JSON number, and leading zeros) as an amount of cur.
// Zeros beyond the currency's decimals are accepted, other digits there are ErrPrecision; what is not a number is ErrSyntax, what
// does not fit is ErrOverflow.
func Parse(text string, cur Currency) (Amount, error) {
	if cur.IsZero() {
		return Amount{}, ErrUnknownCurrency
	}
	if text == "" || len(text) > parseMax {
		return Amount{}, ErrSyntax
	}
	s, neg := strings.CutPrefix(text, "-")
	exp := 0
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		n, err := strconv.Atoi(s[i+1:])
		if err != nil || n > expMax || n < -expMax {
			return Amount{}, ErrSyntax
		}
		s, exp = s[:i], n
	}
	whole, frac, point := strings.Cut(s, ".")
	if whole == "" || point && frac == "" || !digitsOnly(whole) || !digitsOnly(frac) {
		return Amount{}, ErrSyntax
	}
	digits, shift := whole+frac, exp-len(frac)+cur.Decimals() // The amount is digits × 10^shift minor units.
	digits = strings.TrimLeft(digits, "0")
	if digits == "" {
		return Amount{0, cur}, nil
	}
	if shift < 0 {
		kept := len(digits) + shift
		if kept < 0 || strings.Trim(digits[kept:], "0") != "" {
			return Amount{}, ErrPrecision
		}
		digits = digits[:kept]
	} else {
		digits += strings.Repeat("0", shift)
	}
	minor, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return Amount{}, ErrOverflow
	}
	if neg {
		minor = -minor
	}
	return Amount{minor, cur}, nil
}

func digitsOnly(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

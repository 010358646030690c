package money

import (
	"errors"
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		text, cur string
		want      int64
		err       error
	}{
		{"12.50", "AUD", 1250, nil},
		{"0.01", "AUD", 1, nil},
		{"1", "AUD", 100, nil},
		{"1e2", "AUD", 10000, nil},
		{"1.50e1", "AUD", 1500, nil},
		{"125e-1", "AUD", 1250, nil},
		{"1.500", "AUD", 150, nil},
		{"-3", "AUD", -300, nil},
		{"007", "AUD", 700, nil},
		{"0", "AUD", 0, nil},
		{"1000", "JPY", 1000, nil},
		{"1.5", "JPY", 0, ErrPrecision},
		{"1.234", "KWD", 1234, nil},
		{"0.001", "AUD", 0, ErrPrecision},
		{"1e-30", "AUD", 0, ErrPrecision},
		{"92233720368547758.07", "AUD", math.MaxInt64, nil},
		{"92233720368547758.08", "AUD", 0, ErrOverflow},
		{"1e30", "AUD", 0, ErrOverflow},
		{"1e31", "AUD", 0, ErrSyntax},
		{"", "AUD", 0, ErrSyntax},
		{"-", "AUD", 0, ErrSyntax},
		{".5", "AUD", 0, ErrSyntax},
		{"5.", "AUD", 0, ErrSyntax},
		{"1.2.3", "AUD", 0, ErrSyntax},
		{"+1", "AUD", 0, ErrSyntax},
		{" 1", "AUD", 0, ErrSyntax},
		{"NaN", "AUD", 0, ErrSyntax},
		{"0x10", "AUD", 0, ErrSyntax},
	} {
		got, err := Parse(tc.text, MustCurrency(tc.cur))
		if !errors.Is(err, tc.err) || got.Minor() != tc.want {
			t.Errorf("Parse(%q, %s) = %d, %v; want %d, %v", tc.text, tc.cur, got.Minor(), err, tc.want, tc.err)
		}
	}
}

// What is written can be read, for currencies with 0, 2 and 3 decimals.
func TestStringRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		cur := MustCurrency(rapid.SampledFrom([]string{"JPY", "AUD", "KWD"}).Draw(t, "currency"))
		a := New(rapid.Int64Range(math.MinInt64+1, math.MaxInt64).Draw(t, "minor"), cur)
		for _, text := range []string{a.String(), a.Trimmed()} {
			got, err := Parse(text, cur)
			if err != nil || got != a {
				t.Fatalf("Parse(%q) = %v, %v; want %v", text, got, err, a)
			}
		}
	})
}

// Add, Sub and Share agree with arithmetic that cannot overflow.
func TestArithmetic(t *testing.T) {
	t.Parallel()
	aud := MustCurrency("AUD")
	rapid.Check(t, func(t *rapid.T) {
		x, y := rapid.Int64().Draw(t, "x"), rapid.Int64().Draw(t, "y")
		share := rapid.Int64Range(0, 2_000_000).Draw(t, "share")
		bx, by := big.NewInt(x), big.NewInt(y)
		check := func(op string, got Amount, err error, want *big.Int) {
			if want.IsInt64() && err == nil && got.Minor() != want.Int64() {
				t.Fatalf("%s(%d, %d) = %d, want %d", op, x, y, got.Minor(), want)
			}
			if !want.IsInt64() && !errors.Is(err, ErrOverflow) {
				t.Fatalf("%s(%d, %d): %v, want overflow", op, x, y, err)
			}
			if want.IsInt64() && err != nil && y != math.MinInt64 && x != math.MinInt64 {
				t.Fatalf("%s(%d, %d): unexpected %v", op, x, y, err)
			}
		}
		sum, err := New(x, aud).Add(New(y, aud))
		check("Add", sum, err, new(big.Int).Add(bx, by))
		diff, err := New(x, aud).Sub(New(y, aud))
		check("Sub", diff, err, new(big.Int).Sub(bx, by))
		part, err := New(x, aud).Share(share)
		want := new(big.Int).Mul(new(big.Int).Abs(bx), big.NewInt(share))
		want.Add(want, big.NewInt(500_000)).Quo(want, big.NewInt(1_000_000))
		if x < 0 {
			want.Neg(want)
		}
		check("Share", part, err, want)
	})
}

func TestCurrenciesDoNotMix(t *testing.T) {
	t.Parallel()
	a, n := New(1, MustCurrency("AUD")), New(1, MustCurrency("nzd"))
	if _, err := a.Add(n); !errors.Is(err, ErrCurrencyMismatch) {
		t.Errorf("Add: %v", err)
	}
	if _, err := a.Cmp(n); !errors.Is(err, ErrCurrencyMismatch) {
		t.Errorf("Cmp: %v", err)
	}
	if _, err := ParseCurrency("xyz"); !errors.Is(err, ErrUnknownCurrency) {
		t.Errorf("ParseCurrency: %v", err)
	}
	if got := MustCurrency("aud"); got.Numeric() != "036" || got.Code() != "AUD" || got.Decimals() != 2 {
		t.Errorf("aud = %s %s %d", got.Code(), got.Numeric(), got.Decimals())
	}
}

func FuzzParse(f *testing.F) {
	f.Add("12.50")
	f.Add("1e2")
	f.Add("-0.00")
	f.Fuzz(func(t *testing.T, text string) {
		a, err := Parse(text, MustCurrency("AUD"))
		if err != nil {
			return
		}
		b, err := Parse(a.String(), MustCurrency("AUD"))
		if err != nil || a != b {
			t.Fatalf("%q: %v then %v, %v", text, a, b, err)
		}
	})
}

package card

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestParsePAN(t *testing.T) {
	t.Parallel()
	tests := []struct {
		in     string
		err    error
		masked string
		scheme Scheme
	}{
		{in: "5554748800161559", masked: "555474******1559", scheme: Mastercard},
		{in: "5554748800260229", masked: "555474******0229", scheme: Mastercard},
		{in: "2223003122003222", masked: "222300******3222", scheme: Mastercard},
		{in: "2720990000000007", masked: "272099******0007", scheme: Mastercard},
		{in: "2721000000000004", masked: "272100******0004"},
		{in: "4176660000000027", masked: "417666******0027", scheme: Visa},
		{in: "4222222222222", masked: "************2222", scheme: Visa},
		{in: "378282246310005", masked: "378282******0005", scheme: Amex},
		{in: "34000000000000", err: nil, masked: "************0000", scheme: Amex},
		{in: "6250947000000014", masked: "625094******0014", scheme: UnionPay},
		{in: "620000000000000005", masked: "620000******0005", scheme: UnionPay},
		{in: "8171999927660000", masked: "817199******0000", scheme: UnionPay},
		{in: "4506445006931933", masked: "450644******1933", scheme: Interac},
		{in: "5007660000000003", masked: "500766******0003", scheme: Interac},
		{in: "6011111111111117", masked: "601111******1117", scheme: Discover},
		{in: "3530111333300000", masked: "353011******0000", scheme: JCB},
		{in: "500000000009", masked: "************0009"},
		{in: "5554748800161558", err: ErrLuhn},
		{in: "6212345678901234567", err: ErrLuhn},
		{in: "", err: ErrPAN},
		{in: "50000000000", err: ErrPAN},
		{in: "55547488001615595554", err: ErrPAN},
		{in: "5554 7488 0016 1559", err: ErrPAN},
		{in: "555474880016155x", err: ErrPAN},
		{in: "٥٥٥٤٧٤٨٨", err: ErrPAN}, // Digits of another script, in 16 bytes.
	}
	for _, tt := range tests {
		pan, err := ParsePAN(tt.in)
		if !errors.Is(err, tt.err) || (tt.err == nil) != (err == nil) {
			t.Errorf("%s: got error %v, want %v", tt.in, err, tt.err)
			continue
		}
		if err != nil {
			if !pan.IsZero() || strings.ContainsAny(err.Error(), "345678") {
				t.Errorf("%s: number %v and error %q", tt.in, pan, err)
			}
			continue
		}
		if pan.Reveal() != tt.in || pan.Masked() != tt.masked || pan.Scheme() != tt.scheme || pan.Last4() != tt.in[len(tt.in)-4:] {
			t.Errorf("%s: got %s, %s, %s, %q; want mask %s, scheme %q", tt.in, pan.Reveal(), pan.Masked(), pan.Last4(), pan.Scheme(), tt.masked, tt.scheme)
		}
	}
}

func TestZeroPAN(t *testing.T) {
	t.Parallel()
	var p PAN
	if !p.IsZero() || p.Reveal()+p.Masked()+p.Last4()+p.String()+string(p.Scheme()) != "" || !p.Equal(PAN{}) {
		t.Errorf("zero PAN is something: %v", p)
	}
	q, _ := ParsePAN(canaryPAN)
	r, _ := ParsePAN(canaryPAN)
	if p.Equal(q) || !q.Equal(r) {
		t.Error("Equal is wrong")
	}
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	good := []struct {
		month, year string
		want        Expiry
		yymm        string
	}{
		{"07", "2027", Expiry{2027, 7}, "2707"},
		{"7", "27", Expiry{2027, 7}, "2707"},
		{"12", "2099", Expiry{2099, 12}, "9912"},
		{"01", "00", Expiry{2000, 1}, "0001"},
	}
	for _, tt := range good {
		e, err := ParseExpiry(tt.month, tt.year)
		if err != nil || e != tt.want || e.YYMM() != tt.yymm {
			t.Errorf("%s/%s: got %v, %s, %v", tt.month, tt.year, e, e.YYMM(), err)
		}
		if back, err := ParseYYMM(tt.yymm); err != nil || back != tt.want {
			t.Errorf("%s: got %v, %v", tt.yymm, back, err)
		}
	}
	for _, tt := range [][2]string{{"", ""}, {"13", "2027"}, {"00", "2027"}, {"007", "2027"}, {"07", "1999"}, {"07", "2100"}, {"07", "027"}, {"+7", "2027"}, {"07", "-1"}} {
		if e, err := ParseExpiry(tt[0], tt[1]); !errors.Is(err, ErrExpiry) {
			t.Errorf("%v: got %v, %v", tt, e, err)
		}
	}
	for _, s := range []string{"", "270", "27071", "2713", "ab01"} {
		if e, err := ParseYYMM(s); !errors.Is(err, ErrExpiry) {
			t.Errorf("%q: got %v, %v", s, e, err)
		}
	}
	if (Expiry{}).YYMM() != "" || !(Expiry{}).IsZero() {
		t.Error("zero expiry is something")
	}
}

func TestExpiryIsOverAfterItsMonthOnTheCalendarOfNow(t *testing.T) {
	t.Parallel()
	e := Expiry{Year: 2027, Month: 7}
	hongKong := time.FixedZone("HKT", 8*3600)
	for _, tt := range []struct {
		now  time.Time
		over bool
	}{
		{time.Date(2027, 6, 30, 23, 59, 59, 0, time.UTC), false},
		{time.Date(2027, 7, 31, 23, 59, 59, 999, time.UTC), false},
		{time.Date(2027, 8, 1, 0, 0, 0, 0, time.UTC), true},
		{time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC), false},
		{time.Date(2028, 1, 1, 0, 0, 0, 0, time.UTC), true},
		{time.Date(2027, 8, 1, 0, 0, 0, 0, hongKong), true},
		{time.Date(2027, 8, 1, 0, 0, 0, 0, hongKong).UTC(), false},
	} {
		if got := e.Over(tt.now); got != tt.over {
			t.Errorf("at %v: got %v", tt.now, got)
		}
	}
}

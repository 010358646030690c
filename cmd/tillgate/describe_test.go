package main

import (
	"strings"
	"testing"
)

// The command explains each of its three kinds, and shows nothing that must not be seen.
func TestDescribe(t *testing.T) {
	t.Parallel()
	const (
		envelope = "LASDho1ILHoYRf/5YEyIgieoc+SXJkUsHZElXOMNGv7WnC3fZzFPYDH8mJaDbnwvom3QEtdv3NjvaEUtVeetWdQsv2RtQw4XEYh/Cg==" // UQPAY's seed.
		prvKey   = "5214abf357f2cc47645c4d942c02fd0180acc6d8de8fae3708849b6a459cba00"
		echo     = "30383030 8220000100000000 0400000000000000 31313232313233303031 303030303031 3036313030323030 333031"
	)
	for _, tc := range []struct {
		name   string
		args   []string
		want   []string
		hidden string
	}{
		{"tlv", []string{"9F02060000000012505A0855547488001615599F2608AABBCCDDEEFF0011"}, []string{"9F02", "12.50|000000001250", "5A", "9F26"}, "AABBCCDDEEFF0011"},
		{"tlv hides the number", []string{"5A085554748800161559"}, []string{"5A"}, "5554748800161559"},
		{"iso", []string{echo}, []string{"0800", "301"}, "\x00"},
		{"envelope", []string{envelope}, []string{"PIN-key envelope", "2c0483868d482c7a1845fff9"}, "26e1734e"},
		{"envelope with its key", []string{envelope, "--prv-key", prvKey}, []string{"check value D84338"}, "26e1734e"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			out, _ := command(t, exitOK, append([]string{"describe"}, tc.args...)...)
			for _, want := range tc.want {
				found := false
				for alternative := range strings.SplitSeq(want, "|") {
					found = found || strings.Contains(out, alternative)
				}
				if !found {
					t.Errorf("no %q in\n%s", want, out)
				}
			}
			if strings.Contains(strings.ToLower(out), strings.ToLower(tc.hidden)) {
				t.Errorf("it shows %q:\n%s", tc.hidden, out)
			}
		})
	}
	for name, args := range map[string][]string{
		"neither":     {"hello, world"},
		"no TLV":      {"9F02FF"},
		"a wrong key": {envelope, "--prv-key", strings.Repeat("00", 32)},
	} {
		if _, errs := command(t, exitError, append([]string{"describe"}, args...)...); !strings.HasPrefix(errs, "tillgate: ") {
			t.Errorf("%s: %s", name, errs)
		}
	}
}

package card

import (
	"errors"
	"strings"
	"testing"
)

func TestParseTrack2(t *testing.T) {
	t.Parallel()
	tests := []struct {
		in            string
		err           error
		reveal        string
		expiry        Expiry
		service, disc string
	}{
		{in: "5554748800161559D2707201", reveal: "5554748800161559=2707201", expiry: Expiry{2027, 7}, service: "201"},
		{in: "5554748800161559=27072011234567890123", reveal: "5554748800161559=27072011234567890123", expiry: Expiry{2027, 7}, service: "201", disc: "1234567890123"},
		{in: ";5554748800161559=27072011234?", reveal: "5554748800161559=27072011234", expiry: Expiry{2027, 7}, service: "201", disc: "1234"},
		{in: "5554748800161559d270720112345f", reveal: "5554748800161559=270720112345", expiry: Expiry{2027, 7}, service: "201", disc: "12345"},
		{in: "5554748800161559D2707201F", reveal: "5554748800161559=2707201", expiry: Expiry{2027, 7}, service: "201"},
		{in: "5554748800161559=2707", reveal: "5554748800161559=2707", expiry: Expiry{2027, 7}},
		{in: "5554748800161559==201999", reveal: "5554748800161559==201999", service: "201", disc: "999"},
		{in: "5554748800161559=2707=999", reveal: "5554748800161559=2707=999", expiry: Expiry{2027, 7}, disc: "999"},
		{in: "5554748800161559D2707D", reveal: "5554748800161559=2707", expiry: Expiry{2027, 7}},
		{in: "", err: ErrTrack2},
		{in: "5554748800161559", err: ErrTrack2},
		{in: "5554748800161559=", err: ErrExpiry},
		{in: "5554748800161559=270", err: ErrExpiry},
		{in: "5554748800161559=2713201", err: ErrExpiry},
		{in: "5554748800161559=270720", err: ErrTrack2},
		{in: "5554748800161559=27072x1", err: ErrTrack2},
		{in: "5554748800161559=270720112=4", err: ErrTrack2},
		{in: "5554748800161559=2707201FF", err: ErrTrack2},
		{in: "5554748800161558=2707201", err: ErrLuhn},
		{in: "555474880016=2707201" + strings.Repeat("1", 18), err: ErrTrack2},
		{in: "5554748800=2707201", err: ErrPAN},
	}
	for _, tt := range tests {
		track, err := ParseTrack2(tt.in)
		if tt.err != nil {
			if !errors.Is(err, ErrTrack2) || !errors.Is(err, tt.err) || !track.IsZero() || strings.Contains(err.Error(), "5554") {
				t.Errorf("%s: got %q and error %v, want %v", tt.in, track.Reveal(), err, tt.err)
			}
			continue
		}
		if err != nil || track.Reveal() != tt.reveal || track.Expiry() != tt.expiry || track.ServiceCode() != tt.service ||
			track.Discretionary() != tt.disc || track.PAN().Reveal() != canaryPAN || track.IsZero() {
			t.Errorf("%s: got %q, %v", tt.in, track.Reveal(), err)
		}
	}
}

func TestNewTrack2(t *testing.T) {
	t.Parallel()
	pan, _ := ParsePAN(canaryPAN)
	track, err := NewTrack2(pan, Expiry{2027, 7}, "201", "12345")
	if err != nil || track.Reveal() != "5554748800161559=270720112345" {
		t.Errorf("got %q, %v", track.Reveal(), err)
	}
	for name, fn := range map[string]func() (Track2, error){
		"no number":          func() (Track2, error) { return NewTrack2(PAN{}, Expiry{2027, 7}, "201", "") },
		"short service code": func() (Track2, error) { return NewTrack2(pan, Expiry{2027, 7}, "20", "1234") },
		"letters":            func() (Track2, error) { return NewTrack2(pan, Expiry{2027, 7}, "201", "12x4") },
		"month 13":           func() (Track2, error) { return NewTrack2(pan, Expiry{2027, 13}, "201", "") },
		"too long":           func() (Track2, error) { return NewTrack2(pan, Expiry{2027, 7}, "201", strings.Repeat("1", 14)) },
	} {
		if track, err := fn(); !errors.Is(err, ErrTrack2) {
			t.Errorf("%s: got %q, %v", name, track.Reveal(), err)
		}
	}
}

func TestParseTrack1(t *testing.T) {
	t.Parallel()
	tests := []struct {
		in     string
		err    error
		reveal string
	}{
		{in: "%B5554748800161559^CARD/DEMO^27072011234567?", reveal: "B5554748800161559^CARD/DEMO^27072011234567"},
		{in: "B5554748800161559^CARD/DEMO                 ^2707201", reveal: "B5554748800161559^CARD/DEMO                 ^2707201"},
		{in: "%B5554748800161559^CARD/DEMO^^201 77?", reveal: "B5554748800161559^CARD/DEMO^^201 77"},
		{in: "%B5554748800161559^ /^2707^77?", reveal: "B5554748800161559^ /^2707^77"},
		{in: "", err: ErrTrack1},
		{in: "%", err: ErrTrack1},
		{in: "A5554748800161559^CARD/DEMO^2707201", err: ErrTrack1},
		{in: "B5554748800161559", err: ErrTrack1},
		{in: "B5554748800161559^CARD/DEMO", err: ErrTrack1},
		{in: "B5554748800161559^C^2707201", err: ErrTrack1},
		{in: "B5554748800161559^" + strings.Repeat("C", 27) + "^2707201", err: ErrTrack1},
		{in: "B5554748800161559^CARD\n/DEMO^2707201", err: ErrTrack1},
		{in: "B5554748800161559^CARD/DEMO^2707201\x00", err: ErrTrack1},
		{in: "B5554748800161559^CARD/DEMO^2707201" + strings.Repeat("1", 60), err: ErrTrack1},
		{in: "B5554748800161558^CARD/DEMO^2707201", err: ErrLuhn},
		{in: "B5554748800161559^CARD/DEMO^2700201", err: ErrExpiry},
	}
	for _, tt := range tests {
		track, err := ParseTrack1(tt.in)
		if tt.err != nil {
			if !errors.Is(err, ErrTrack1) || !errors.Is(err, tt.err) || !track.IsZero() || strings.Contains(err.Error(), "5554") {
				t.Errorf("%s: got %q and error %v, want %v", tt.in, track.Reveal(), err, tt.err)
			}
			continue
		}
		if err != nil || track.Reveal() != tt.reveal || track.PAN().Reveal() != canaryPAN || track.IsZero() {
			t.Errorf("%s: got %q, %v", tt.in, track.Reveal(), err)
		}
	}
	track, _ := ParseTrack1(tests[0].in)
	if track.Name() != "CARD/DEMO" || track.Expiry() != (Expiry{2027, 7}) || track.ServiceCode() != "201" || track.Discretionary() != "1234567" {
		t.Errorf("got %q, %v, %q, %q", track.Name(), track.Expiry(), track.ServiceCode(), track.Discretionary())
	}
}

func TestZeroTracks(t *testing.T) {
	t.Parallel()
	var one Track1
	var two Track2
	if !one.IsZero() || !two.IsZero() || one.Reveal()+two.Reveal()+one.Name() != "" || !one.PAN().IsZero() || !two.Expiry().IsZero() {
		t.Error("zero tracks are something")
	}
}

func FuzzParsePAN(f *testing.F) {
	f.Add(canaryPAN)
	f.Add("4222222222222")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePAN(s)
		if err != nil {
			return
		}
		if p.Reveal() != s || len(p.Masked()) != 16 || p.Last4() != s[len(s)-4:] {
			t.Errorf("%q: got %q, %q", s, p.Reveal(), p.Masked())
		}
		p.Scheme()
	})
}

func FuzzParseTrack2(f *testing.F) {
	f.Add(canaryTrack2)
	f.Add(";5554748800161559D==F?")
	f.Add("5554748800161559=2707=999")
	f.Fuzz(func(t *testing.T, s string) {
		track, err := ParseTrack2(s)
		if err != nil {
			return
		}
		again, err := ParseTrack2(track.Reveal())
		if err != nil || again.Reveal() != track.Reveal() || again.Discretionary() != track.Discretionary() || again.ServiceCode() != track.ServiceCode() {
			t.Errorf("%q: got %q, then %q, %v", s, track.Reveal(), again.Reveal(), err)
		}
	})
}

func FuzzParseTrack1(f *testing.F) {
	f.Add("%B5554748800161559^CARD/DEMO^27072011234567?")
	f.Add("B5554748800161559^ /^2707^77")
	f.Fuzz(func(t *testing.T, s string) {
		track, err := ParseTrack1(s)
		if err != nil {
			return
		}
		again, err := ParseTrack1(track.Reveal())
		if err != nil || again.Reveal() != track.Reveal() || again.Name() != track.Name() || again.ServiceCode() != track.ServiceCode() {
			t.Errorf("%q: got %q, then %q, %v", s, track.Reveal(), again.Reveal(), err)
		}
	})
}

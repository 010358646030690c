package card

import (
	"errors"
	"fmt"
	"strings"
)

// Limits of ISO/IEC 7813, sentinels and check character not counted.
const (
	track1Max = 76
	track2Max = 37
	nameMin   = 2
	nameMax   = 26
)

// Errors of tracks. They hold nothing of what was refused; a bad number or date inside is wrapped as its own error beside them.
var (
	ErrTrack1 = errors.New("track 1 cannot be read")
	ErrTrack2 = errors.New("track 2 cannot be read")
)

// track is what both tracks hold. Expiry and service code may be absent (ISO/IEC 7813 has a separator in their place).
type track struct {
	pan           PAN
	name          string // Track 1 only.
	expiry        Expiry
	service       string // Three digits or empty.
	discretionary string
}

// Track2 is the content of track 2, or of tag 57, its equivalent on a chip. Nothing of it can be printed. The zero Track2 is none.
type Track2 struct {
	content func() track
}

// ParseTrack2 reads track 2 with or without sentinels (";", "?"), with "=" or "D" as separator, and with or without the "F" that pads tag
// 57 to whole bytes. It returns ErrTrack2, and with it ErrPAN, ErrLuhn or ErrExpiry when that is the reason.
func ParseTrack2(s string) (Track2, error) {
	s = strings.TrimPrefix(s, ";")
	s = strings.TrimSuffix(s, "?")
	if n := len(s); n > 0 && (s[n-1] == 'F' || s[n-1] == 'f') {
		s = s[:n-1]
	}
	if len(s) > track2Max {
		return Track2{}, ErrTrack2
	}
	number, rest, ok := cutAny(s, "=Dd")
	if !ok {
		return Track2{}, ErrTrack2
	}
	t, err := parseTail(rest, "=Dd")
	if err != nil {
		return Track2{}, fmt.Errorf("%w: %w", ErrTrack2, err)
	}
	if !isDigits(t.discretionary) {
		return Track2{}, ErrTrack2
	}
	if t.pan, err = ParsePAN(number); err != nil {
		return Track2{}, fmt.Errorf("%w: %w", ErrTrack2, err)
	}
	return Track2{func() track { return t }}, nil
}

// NewTrack2 makes a track from its parts: the service code is three digits or empty, the discretionary data digits only. It returns the
// errors of ParseTrack2.
func NewTrack2(pan PAN, expiry Expiry, service, discretionary string) (Track2, error) {
	if len(service) != 0 && len(service) != 3 { // Or digits would change places.
		return Track2{}, ErrTrack2
	}
	return ParseTrack2(reveal(track{pan: pan, expiry: expiry, service: service, discretionary: discretionary}))
}

// Reveal is the canonical form, "PAN=YYMM", service code and discretionary data, without sentinels, as DE 35 has it. Codecs only.
func (t Track2) Reveal() string {
	if t.content == nil {
		return ""
	}
	return reveal(t.content())
}

// PAN is the number on the track.
func (t Track2) PAN() PAN { return open(t.content).pan }

// Expiry is the date on the track; it may be zero.
func (t Track2) Expiry() Expiry { return open(t.content).expiry }

// ServiceCode is three digits, or empty. A first digit of 2 or 6 says that the card has a chip.
func (t Track2) ServiceCode() string { return open(t.content).service }

// Discretionary is the issuer's data, CVV included: secret.
func (t Track2) Discretionary() string { return open(t.content).discretionary }

// IsZero reports whether there is no track.
func (t Track2) IsZero() bool { return t.content == nil }

// Track1 is the content of track 1, format B. Nothing of it can be printed. The zero Track1 is none.
type Track1 struct {
	content func() track
}

// ParseTrack1 reads track 1, "%B", number, "^", name, "^", date, service code and discretionary data, "?", with or without the
// sentinels "%" and "?". It returns ErrTrack1, and with it ErrPAN, ErrLuhn or ErrExpiry when that is the reason.
func ParseTrack1(s string) (Track1, error) {
	s = strings.TrimPrefix(s, "%")
	s = strings.TrimSuffix(s, "?")
	s, ok := strings.CutPrefix(s, "B")
	if !ok || len(s)+1 > track1Max {
		return Track1{}, ErrTrack1
	}
	number, rest, ok := strings.Cut(s, "^")
	if !ok {
		return Track1{}, ErrTrack1
	}
	name, rest, ok := strings.Cut(rest, "^")
	if !ok || len(name) < nameMin || len(name) > nameMax {
		return Track1{}, ErrTrack1
	}
	t, err := parseTail(rest, "^")
	if err != nil {
		return Track1{}, fmt.Errorf("%w: %w", ErrTrack1, err)
	}
	if !isTrackText(name) || !isTrackText(t.discretionary) {
		return Track1{}, ErrTrack1
	}
	if t.pan, err = ParsePAN(number); err != nil {
		return Track1{}, fmt.Errorf("%w: %w", ErrTrack1, err)
	}
	t.name = strings.Clone(name)
	return Track1{func() track { return t }}, nil
}

// Reveal is the canonical form, without sentinels, as DE 45 has it. Codecs only.
func (t Track1) Reveal() string {
	if t.content == nil {
		return ""
	}
	c := t.content()
	return "B" + c.pan.Reveal() + "^" + c.name + "^" + tail(c, "^")
}

// PAN is the number on the track.
func (t Track1) PAN() PAN { return open(t.content).pan }

// Name is the cardholder's name as the track has it, usually "SURNAME/FIRST NAMES", padding included.
func (t Track1) Name() string { return open(t.content).name }

// Expiry is the date on the track; it may be zero.
func (t Track1) Expiry() Expiry { return open(t.content).expiry }

// ServiceCode is three digits, or empty.
func (t Track1) ServiceCode() string { return open(t.content).service }

// Discretionary is the issuer's data, CVV included: secret.
func (t Track1) Discretionary() string { return open(t.content).discretionary }

// IsZero reports whether there is no track.
func (t Track1) IsZero() bool { return t.content == nil }

func open(content func() track) track {
	if content == nil {
		return track{}
	}
	return content()
}

func reveal(t track) string { return t.pan.Reveal() + "=" + tail(t, "=") }

// parseTail reads what follows the number and the name: date, service code, and the issuer's data. A separator stands for a date or a
// service code that is absent. Cards with nothing after the date exist in tests.
func parseTail(s, separators string) (track, error) {
	var t track
	s = strings.Clone(s)
	if s != "" && strings.IndexByte(separators, s[0]) >= 0 {
		s = s[1:]
	} else {
		if len(s) < 4 {
			return t, ErrExpiry
		}
		var err error
		if t.expiry, err = ParseYYMM(s[:4]); err != nil {
			return t, err
		}
		s = s[4:]
	}
	switch {
	case s == "":
	case strings.IndexByte(separators, s[0]) >= 0:
		t.discretionary = s[1:]
	case len(s) < 3 || !isDigits(s[:3]):
		return t, errors.New("service code is not three digits")
	default:
		t.service, t.discretionary = s[:3], s[3:]
	}
	return t, nil
}

// tail is the inverse of parseTail.
func tail(t track, separator string) string {
	date, service := t.expiry.YYMM(), t.service
	if date == "" {
		date = separator
	}
	if service == "" && t.discretionary != "" {
		service = separator
	}
	return date + service + t.discretionary
}

func cutAny(s, separators string) (before, after string, found bool) {
	i := strings.IndexAny(s, separators)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// isTrackText allows printable ASCII but the characters that structure a track. Track 1 has no lower case, but keyboards have.
func isTrackText(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '^' || c == '%' || c == '?' {
			return false
		}
	}
	return true
}

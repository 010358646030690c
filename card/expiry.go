package card

import (
	"errors"
	"fmt"
	"strconv"
	"time"
)

// ErrExpiry is a date that is no month of a year from 2000 to 2099.
var ErrExpiry = errors.New("expiry date is not a month and a year")

// Expiry is the month through whose last day a card is good. Year has four digits; the zero Expiry is none.
type Expiry struct{ Year, Month int }

// ParseExpiry reads a month of one or two digits, "1" to "12" or "01" to "12", and a year of four, or of two in the years 2000 to 2099.
// It returns ErrExpiry.
func ParseExpiry(month, year string) (Expiry, error) {
	if len(year) == 2 {
		year = "20" + year // Cards last for some years; no card of the last century is still good.
	}
	if len(month) < 1 || len(month) > 2 || len(year) != 4 || !isDigits(month) || !isDigits(year) {
		return Expiry{}, ErrExpiry
	}
	m, _ := strconv.Atoi(month) // Digits, as just checked.
	y, _ := strconv.Atoi(year)
	if m < 1 || m > 12 || y < 2000 || y > 2099 {
		return Expiry{}, ErrExpiry
	}
	return Expiry{Year: y, Month: m}, nil
}

// ParseYYMM reads a year and a month of two digits each, as tracks, DE 14 and the first half of tag 5F24 have them. It returns ErrExpiry.
func ParseYYMM(s string) (Expiry, error) {
	if len(s) != 4 {
		return Expiry{}, ErrExpiry
	}
	return ParseExpiry(s[2:], s[:2])
}

// YYMM is the form of tracks and of DE 14. It is empty for the zero Expiry.
func (e Expiry) YYMM() string {
	if e.IsZero() {
		return ""
	}
	return fmt.Sprintf("%02d%02d", e.Year%100, e.Month)
}

// Over reports whether the month has passed at now, read on the calendar of now's own location: pass the time where the card is used. The
// issuer's calendar may differ by a day, and its answer is the one that counts.
func (e Expiry) Over(now time.Time) bool {
	year, month, _ := now.Date()
	return year > e.Year || year == e.Year && int(month) > e.Month
}

// IsZero reports whether there is no date.
func (e Expiry) IsZero() bool { return e == Expiry{} }

package upp

import (
	"strconv"
	"strings"

	"github.com/tillgate/tillgate/internal/strictjson"
)

const (
	// BodyMax is the longest request body, in bytes (§3.0).
	BodyMax = 1 << 20
	// answerMax is the longest answer that the client reads: a request's items come back in it, with escapes and our own members.
	answerMax = 4 << 20
)

// limits bound every JSON text that is read: requests, answers, and what we keep of requests.
var limits = strictjson.Limits{
	Body:     answerMax, // Requests are held to BodyMax before, which has an answer of its own.
	Depth:    32,        // The interface needs four levels, a wallet's payload in webWidget a few more.
	Values:   1 << 15,   // 1000 items of five members need 6000.
	Digits:   64,        // As package money has it.
	Exponent: 400,       // No double goes beyond 1e308. Sums are bounded more tightly by package money.
	Members:  5,         // Most objects are items, and other objects have more.
}

func parse(body []byte) (strictjson.Value, error) { return limits.Parse(body) }

func isNumber(text string) bool { return limits.IsNumber(text) }

// canonicalNumber writes a JSON number so that equal numbers are equal texts: 1, 1.00 and 1e0 are "1", 24.50 is "245e-1".
func canonicalNumber(text string) string {
	s, negative := strings.CutPrefix(text, "-")
	exponent := 0
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		exponent, _ = strconv.Atoi(s[i+1:]) // Bounded where it was read.
		s = s[:i]
	}
	whole, fraction, _ := strings.Cut(s, ".")
	exponent -= len(fraction)
	digits := strings.TrimLeft(whole+fraction, "0")
	if digits == "" {
		return "0"
	}
	short := strings.TrimRight(digits, "0")
	if exponent += len(digits) - len(short); exponent != 0 {
		short += "e" + strconv.Itoa(exponent)
	}
	if negative {
		return "-" + short
	}
	return short
}

// lower turns the letters A to Z small and leaves all others, so that no foreign letter passes for a Latin one.
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + ('a' - 'A')
		}
		return r
	}, s)
}

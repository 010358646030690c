package upay

import (
	"strconv"
	"strings"

	"github.com/tillgate/tillgate/internal/strictjson"
)

const (
	// BodyMax is the longest request body, in bytes: 24 extended values and a basket of 100 lines, all in six-byte escapes, need less.
	BodyMax = 256 << 10
	// answerMax is the longest answer that the client reads.
	answerMax = 1 << 20
)

// limits bound every JSON text that is read: requests, answers, and the gateway's values that are JSON.
var limits = strictjson.Limits{
	Body:     answerMax, // Requests are held to BodyMax before.
	Depth:    16,        // The interface needs four levels.
	Values:   1 << 13,
	Digits:   64,
	Exponent: 400, // No double goes beyond 1e308.
	Members:  8,
}

func parse(body []byte) (strictjson.Value, error) { return limits.Parse(body) }

// integral writes a JSON number without fraction or exponent; false when it is no whole number, or a huge one.
func integral(text string) (string, bool) {
	const zerosMax = 20 // More than any field has digits.
	s, negative := strings.CutPrefix(text, "-")
	exponent := 0
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		exponent, _ = strconv.Atoi(s[i+1:]) // Bounded where it was read.
		s = s[:i]
	}
	whole, fraction, _ := strings.Cut(s, ".")
	fraction = strings.TrimRight(fraction, "0")
	digits := whole + fraction
	exponent -= len(fraction)
	for exponent < 0 && strings.HasSuffix(digits, "0") {
		digits, exponent = digits[:len(digits)-1], exponent+1
	}
	if digits = strings.TrimLeft(digits, "0"); digits == "" {
		return "0", true
	}
	if exponent < 0 || exponent > zerosMax {
		return "", false
	}
	digits += strings.Repeat("0", exponent)
	if negative {
		digits = "-" + digits
	}
	return digits, true
}

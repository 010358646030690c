package sandbox

import (
	"fmt"
	"net/http"
	"time"
)

// cardRequest is the body of POST /cards/tokens. It is read, answered and forgotten: no field of it is stored, logged or repeated.
type cardRequest struct {
	Number      string `json:"number"`
	ExpiryMonth int    `json:"expiry_month"`
	ExpiryYear  int    `json:"expiry_year"`
	CVC         string `json:"cvc"`
}

// cardAnswer is what the card's number is exchanged for.
type cardAnswer struct {
	Token string `json:"token"`
}

// TestCard is a card number that always shows the same behaviour. No such card exists.
type TestCard struct {
	Number    string // Digits only.
	Behaviour string // A name of the list in docs/sandbox.md.
}

// testCards is the whole list: numbers that people who test payments know by heart.
var testCards = []TestCard{
	{"4242424242424242", "approve"},
	{"5555555555554444", "approve"},
	{"378282246310005", "approve"},
	{"4000000000000002", "decline"},
	{"4000000000009995", "insufficient_funds"},
	{"4000000000006975", "limit_exceeded"},
	{"4000000000000069", "code_expired"},
	{"4000002500003155", "pending_then_approve_3s"},
	{"4000000000000119", "no_answer"},
}

// TestCards lists every card number that the stand-in for a card widget's tokens knows.
func TestCards() []TestCard { return append([]TestCard(nil), testCards...) }

// Limits of a card (ISO/IEC 7812, ISO/IEC 7813).
const (
	cardDigitsMin = 12
	cardDigitsMax = 19
	cvcDigitsMin  = 3
	cvcDigitsMax  = 4
	cardYearsMax  = 50 // From now until it expires.
)

var (
	errCardUnknown = &refusal{http.StatusUnprocessableEntity, "unknown_card", "number", "number: it is not one of the sandbox's test cards"}
	errCardExpired = &refusal{http.StatusUnprocessableEntity, "card_expired", "expiry_year", "expiry_year: the card has expired"}
)

// check refuses what cannot be a card. The texts never repeat what was sent.
func (q *cardRequest) check(now time.Time) error {
	switch {
	case !digits(q.Number) || len(q.Number) < cardDigitsMin || len(q.Number) > cardDigitsMax || !luhn(q.Number):
		return invalid("number", "it is not a card number")
	case q.ExpiryMonth < 1 || q.ExpiryMonth > 12:
		return invalid("expiry_month", "must be from 1 to 12")
	case q.ExpiryYear < 1000 || q.ExpiryYear > now.Year()+cardYearsMax:
		return invalid("expiry_year", "must have four digits and be at most %d years away", cardYearsMax)
	case !digits(q.CVC) || len(q.CVC) < cvcDigitsMin || len(q.CVC) > cvcDigitsMax:
		return invalid("cvc", "must have %d or %d digits", cvcDigitsMin, cvcDigitsMax)
	}
	// A card is good to the end of its month, wherever on earth that ends last.
	end := time.Date(q.ExpiryYear, time.Month(q.ExpiryMonth)+1, 1, 0, 0, 0, 0, time.FixedZone("UTC-12", -12*60*60))
	if !now.Before(end) {
		return errCardExpired
	}
	return nil
}

// luhn reports whether the last digit is the check digit of the others.
func luhn(number string) bool {
	sum := 0
	for i := range len(number) {
		d := int(number[len(number)-1-i] - '0')
		if i%2 == 1 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return sum%10 == 0
}

// routeCards adds the stand-in for the token service of a card widget. Browsers call it from any shop's page, so it needs no key and
// answers every origin.
func (n *Network) routeCards(mux *http.ServeMux) {
	mux.Handle("POST /cards/tokens", n.serve(anyOrigin(n.serveCard), n.tellJSON))
	mux.Handle("OPTIONS /cards/tokens", n.serve(anyOrigin(n.servePreflight), n.tellJSON))
}

// anyOrigin lets pages of every origin read the answer. Nothing of the caller's is sent along that could be abused: it has no cookies.
func anyOrigin(h handler) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		w.Header().Set("Access-Control-Allow-Origin", "*")
		return h(w, r)
	}
}

// preflightMax is how long browsers may remember the answer to a preflight, in seconds.
const preflightMax = 600

func (n *Network) servePreflight(w http.ResponseWriter, _ *http.Request) error {
	h := w.Header()
	h.Set("Access-Control-Allow-Methods", http.MethodPost)
	h.Set("Access-Control-Allow-Headers", "Content-Type")
	h.Set("Access-Control-Max-Age", fmt.Sprint(preflightMax))
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (n *Network) serveCard(w http.ResponseWriter, r *http.Request) error {
	var ask cardRequest
	if err := decode(w, r, &ask); err != nil {
		return err
	}
	if err := ask.check(n.cfg.Now()); err != nil {
		return err
	}
	for _, c := range testCards {
		if c.Number == ask.Number {
			return writeJSON(w, http.StatusOK, cardAnswer{walletByName("financialcard").code(behaviourByName(c.Behaviour))})
		}
	}
	return errCardUnknown
}

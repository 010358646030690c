package sandbox

import (
	"encoding/hex"
	"log/slog"
	"time"
)

// HostCard is a card of the sandbox's issuer. None of these cards exists.
type HostCard struct {
	PAN         string
	Brand       string // "visa", "mastercard", "amex", "unionpay" or "interac".
	ExpiryMonth string // Two digits.
	ExpiryYear  string // Four digits.
	PIN         string // Empty: any PIN of 4 to 12 digits is right.
	CVV2        string // On the card's back or front; the host's wire has no place for it.
	Track2      string // With = and without sentinels.
	PSN         string // PAN sequence number, two digits: tag 5F34.
	Behaviour   string // A name of a list in docs/sandbox.md.
	EMV         string // "strict": its cryptograms are checked; "any": they are not.
	// IssuerMasterKey is the issuer's key for cryptograms in hex, so that anyone can play the chip; only of strict cards.
	IssuerMasterKey string
	NearsExpiry     bool // It expires within 90 days, or has expired.
}

// How strictly cryptograms are checked.
const (
	emvStrict = "strict"
	emvAny    = "any"
)

// deckCard is one row of the deck.
type deckCard struct {
	pan, brand, expiry, pin, behaviour, emv string // The expiry is YYMM.
	balanceMinor                            int64  // 0: more than anybody spends.
	limitMinor                              int64  // Of one payment; 0: none.
	pinAlways                               bool
}

// deck is every card. Keep the first six and last four digits of the numbers apart: that is how the books name a card.
var deck = []deckCard{
	{pan: "5554748800161559", brand: "mastercard", expiry: "2707", pin: "", behaviour: "approve", emv: emvStrict},
	{pan: "5554748800260229", brand: "mastercard", expiry: "3112", pin: "302312", behaviour: "approve", emv: emvStrict},
	{pan: "4761739001010010", brand: "visa", expiry: "3112", pin: "1234", behaviour: "approve", emv: emvStrict},
	{pan: "4761739002000150", brand: "visa", expiry: "3112", pin: "1234", behaviour: "approve", emv: emvAny},
	{pan: "5413330089001011", brand: "mastercard", expiry: "3112", pin: "1234", behaviour: "approve", emv: emvAny},
	{pan: "376740000001005", brand: "amex", expiry: "3112", pin: "1234", behaviour: "approve", emv: emvAny},
	{pan: "6216260000000015", brand: "unionpay", expiry: "3112", pin: "123456", behaviour: "approve", emv: emvAny},
	{pan: "6216260000000000019", brand: "unionpay", expiry: "3112", pin: "123456", behaviour: "approve", emv: emvAny},
	{pan: "4506440000000017", brand: "interac", expiry: "3112", pin: "1234", behaviour: "approve", emv: emvAny},
	{pan: "4761739002000028", brand: "visa", expiry: "3112", pin: "1234", behaviour: "decline", emv: emvAny},
	{pan: "4761739002000036", brand: "visa", expiry: "3112", pin: "1234", behaviour: "insufficient_funds", emv: emvAny},
	{pan: "4761739002000044", brand: "visa", expiry: "3112", pin: "1234", behaviour: "limit_exceeded", emv: emvAny},
	{pan: "4761739002000051", brand: "visa", expiry: "3112", pin: "1234", behaviour: "code_expired", emv: emvAny},
	{pan: "4761739002000069", brand: "visa", expiry: "3112", pin: "1234", behaviour: "lost_card", emv: emvAny},
	{pan: "4761739002000077", brand: "visa", expiry: "3112", pin: "1234", behaviour: "stolen_card", emv: emvAny},
	{pan: "4761739002000085", brand: "visa", expiry: "3112", pin: "1234", behaviour: "pick_up", emv: emvAny},
	{pan: "4761739002000093", brand: "visa", expiry: "3112", pin: "1234", behaviour: "restricted_card", emv: emvAny},
	{pan: "4761739002000101", brand: "visa", expiry: "3112", pin: "1234", behaviour: "not_permitted_card", emv: emvAny},
	{pan: "4761739002000119", brand: "visa", expiry: "3112", pin: "1234", behaviour: "pin_tries_exceeded", emv: emvAny},
	{pan: "4761739002000127", brand: "visa", expiry: "3112", pin: "1234", behaviour: "referral", emv: emvAny},
	{pan: "4761739002000135", brand: "visa", expiry: "3112", pin: "1234", behaviour: "partial_approval", emv: emvAny},
	{pan: "4761739002000143", brand: "visa", expiry: "3112", pin: "1234", behaviour: "no_answer", emv: emvAny},
	{pan: "5413330090000010", brand: "mastercard", expiry: "3112", pin: "1234", behaviour: "suspected_fraud", emv: emvAny},
	{pan: "5413330090000028", brand: "mastercard", expiry: "3112", pin: "1234", behaviour: "count_limit", emv: emvAny},
	{pan: "5413330090000036", brand: "mastercard", expiry: "3112", pin: "1234", behaviour: "security_violation", emv: emvAny},
	{pan: "5413330090000044", brand: "mastercard", expiry: "3112", pin: "1234", behaviour: "wrong_pin", emv: emvAny},
	{pan: "5413330090000051", brand: "mastercard", expiry: "3112", pin: "1234", behaviour: "small_balance", emv: emvAny, balanceMinor: 100_00},
	{pan: "5413330090000069", brand: "mastercard", expiry: "3112", pin: "1234", behaviour: "low_limit", emv: emvAny, limitMinor: 50_00},
	{pan: "5413330090000077", brand: "mastercard", expiry: "3112", pin: "1234", behaviour: "pin_always", emv: emvAny, pinAlways: true},
	{pan: "5413330090000085", brand: "mastercard", expiry: "3112", pin: "1234", behaviour: "late_answer", emv: emvAny},
	{pan: "5413330090000093", brand: "mastercard", expiry: "3112", pin: "1234", behaviour: "host_unavailable", emv: emvAny},
}

// ownBehaviours are those of the deck that no amount triggers.
var ownBehaviours = map[string]string{
	"small_balance": "Has 100.00 of each currency, until the sandbox is reset: then `51`.",
	"low_limit":     "`61` above 50.00.",
	"pin_always":    "`76` without a PIN, unless it is keyed or used by number.",
}

// The issuer's keys. They are public: whoever wants to play a chip or write a stripe needs them.
var (
	issuerKey = mustKey("a1b3c2d5e5f70719293b4a5d6d7f8f91") // For cryptograms.
	stripeKey = mustKey("0123456789abcdeffedcba9876543210") // CVK, for security codes.
)

// What is the same for all cards.
const (
	cardPSN      = "01"
	stripeValue  = "10000" // PIN verification data on the stripe: an index and a value that nobody checks.
	chipService  = "999"   // In place of the service code, in a chip's own security code (iCVV).
	backService  = "000"   // And in the code on the back (CVV2).
	cvvDigits    = 3
	amexDigits   = 4 // Of the code on the front of an Amex card.
	nearsExpiry  = 90 * 24 * time.Hour
	plentyMinor  = int64(1) << 56 // Far more than a bench spends, far below overflow.
	pinTriesMax  = 3
	serviceCodes = "201" // International, with chip, no restrictions.
	debitService = "220" // Interac: with chip, authorized online.
)

// hostCard is a card with all that follows from its row.
type hostCard struct {
	deckCard
	behaviour int // Place in cardBehaviours; usualCard for those of ownBehaviours.
	masked    string
	service   string
	track2    string
	key       *cipherPair // For cryptograms.
}

// hostCards is the deck by PAN. It is made once: deriving keys takes time.
var hostCards, byPAN = func() ([]hostCard, map[string]int) {
	list, index := make([]hostCard, 0, len(deck)), make(map[string]int, len(deck))
	for i, d := range deck {
		c := hostCard{deckCard: d, behaviour: max(cardBehaviourNamed(d.behaviour), usualCard), masked: maskPAN(d.pan), service: serviceCodes}
		if d.brand == "interac" {
			c.service = debitService
		}
		if c.balanceMinor == 0 {
			c.balanceMinor = plentyMinor
		}
		c.track2 = d.pan + "=" + d.expiry + c.service + stripeValue + securityCode(stripeKey, d.pan, d.expiry, c.service, cvvDigits)
		c.key = cardKey(issuerKey, d.pan, cardPSN).pair()
		list = append(list, c)
		index[d.pan] = i
	}
	return list, index
}()

// maskPAN shows the first six and the last four digits.
func maskPAN(pan string) string {
	masked := []byte(pan)
	for i := 6; i < len(masked)-4; i++ {
		masked[i] = '*'
	}
	return string(masked)
}

// Cards lists every card of the sandbox's issuer.
func (h *CardHost) Cards() []HostCard {
	now := h.cfg.Now()
	list := make([]HostCard, 0, len(hostCards))
	for i := range hostCards {
		c := &hostCards[i]
		size := cvvDigits
		if c.brand == "amex" {
			size = amexDigits
		}
		shown := HostCard{PAN: c.pan, Brand: c.brand, ExpiryMonth: c.expiry[2:], ExpiryYear: "20" + c.expiry[:2], PIN: c.pin,
			CVV2: securityCode(stripeKey, c.pan, c.expiry, backService, size), Track2: c.track2, PSN: cardPSN,
			Behaviour: c.deckCard.behaviour, EMV: c.emv, NearsExpiry: !now.Before(c.expires().Add(-nearsExpiry))}
		if c.emv == emvStrict {
			shown.IssuerMasterKey = hex.EncodeToString(issuerKey[:])
		}
		list = append(list, shown)
	}
	return list
}

// warnOfExpiry tells people to give the deck a new date before its cards stop working.
func (h *CardHost) warnOfExpiry() {
	for _, c := range h.Cards() {
		if c.NearsExpiry {
			h.log.Warn("card host: a demo card nears its expiry", slog.String("pan", maskPAN(c.PAN)),
				slog.String("expiry", c.ExpiryMonth+"/"+c.ExpiryYear), slog.String("behaviour", c.Behaviour))
		}
	}
}

// expires is when a card is no longer good: after its month, wherever on earth that ends last.
func (c *hostCard) expires() time.Time {
	year, month := 2000+int(c.expiry[0]-'0')*10+int(c.expiry[1]-'0'), int(c.expiry[2]-'0')*10+int(c.expiry[3]-'0')
	return time.Date(year, time.Month(month)+1, 1, 0, 0, 0, 0, time.FixedZone("UTC-12", -12*60*60))
}

// stripeMatches reports whether a track 2 of this card's number has the security code that belongs to it. A shorter one, as seeds and chips without
// discretionary data have it, is not checked.
func (c *hostCard) stripeMatches(track2 []byte, chip bool) bool {
	if len(track2) != len(c.track2) {
		return true
	}
	if string(track2) == c.track2 {
		return true // No need to compute what is known.
	}
	at := len(c.pan) + 1
	expiry, service, code := string(track2[at:at+4]), string(track2[at+4:at+7]), string(track2[len(track2)-cvvDigits:])
	return code == securityCode(stripeKey, c.pan, expiry, service, cvvDigits) ||
		chip && code == securityCode(stripeKey, c.pan, expiry, chipService, cvvDigits)
}

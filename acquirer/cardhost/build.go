package cardhost

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tillgate/tillgate/card"
	"github.com/tillgate/tillgate/emv"
	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
)

const (
	// rrnDays is how many digits of an RRN tell the day; the rest is its counter.
	rrnDays   = 4
	rrnSize   = 12
	rrnRoom   = 100_000_000
	stanMax   = 999_999
	formSent  = "0102150405" // DE 7, MMDDhhmmss.
	formTime  = "150405"
	formDate  = "0102"
	tidSize   = 8
	tokenMax  = 994  // What DE 48 has room for beside the item's own head.
	modeToken = "81" // DE 22 of a card that is not there.
)

var errCardGone = errors.New("the card is not in memory any more")

// RRN is the number under which the host knows an operation: the last digit of the year and the day of it, in UTC, and eight digits of
// the ID. It is unique for ten years as long as a day has fewer than a hundred million operations.
func RRN(id payment.ID, at time.Time) string {
	at = at.UTC()
	return padded(int64(at.Year()%10), 1) + padded(int64(at.YearDay()), 3) + padded(int64(id%rrnRoom), rrnSize-rrnDays)
}

// stanOf is the STAN of the message with an RRN. Two messages that are 999,999 operations apart share one.
func stanOf(rrn string) (string, error) {
	if len(rrn) != rrnSize || !formatN.holds(rrn) {
		return "", fmt.Errorf("%q is no RRN: %w", rrn, ErrMessage)
	}
	counter, _ := strconv.ParseInt(rrn[rrnDays:], 10, 64) // Eight digits, as just checked.
	return padded(counter%stanMax+1, 6), nil
}

// builders make the message of each kind of operation that a card host knows. What is common to all is there already.
var builders = map[payment.Kind]func(*Link, *message, payment.Message, *payment.Card) error{
	payment.Sale:             (*Link).buildAttempt,
	payment.Authorization:    (*Link).buildAttempt,
	payment.CaptureOperation: (*Link).buildCompletion,
	payment.Refund:           (*Link).buildRefund,
	payment.VoidOperation:    (*Link).buildVoid,
	payment.Reversal:         (*Link).buildReversal,
}

// build makes an operation's message, all but what belongs to a line: the PIN and the MAC. Beside it comes the card.
func (l *Link) build(m payment.Message) (*message, *payment.Card, error) {
	c, err := l.card(m)
	if err != nil {
		return nil, nil, err
	}
	req := &message{}
	if err := l.common(req, m.Operation.Number, m.Operation.SentAt, m.Payment.Calendar.Zone, m.Merchant.PublicID, facts(m).TID); err != nil {
		return nil, nil, err
	}
	setAmount(req, m.Operation.Amount)
	if err := setCard(req, c); err != nil {
		return nil, nil, err
	}
	if err := builders[m.Operation.Kind](l, req, m, c); err != nil {
		return nil, nil, err
	}
	if de := req.missing(); de != 0 {
		return nil, nil, fmt.Errorf("DE %d is missing: %w", de, ErrMessage)
	}
	return req, c, nil
}

// card is the card of an operation: from memory for the first message of an attempt, unsealed for all that follow.
func (l *Link) card(m payment.Message) (*payment.Card, error) {
	switch secret := m.Secret.(type) {
	case *payment.Card:
		return secret, nil
	case payment.WalletCode: // A card that is kept elsewhere, by its token.
		return &payment.Card{Token: secret.Reveal(), Entry: payment.EntryNotPresent}, nil
	}
	if m.Operation.Kind.IsAttempt() {
		return nil, errCardGone
	}
	return payment.OpenCard(l.cfg.Vault, attempt(&m))
}

// attempt is the attempt that an operation belongs to. It need not be the payment's latest.
func attempt(m *payment.Message) *payment.Operation {
	switch {
	case m.Operation.Kind.IsAttempt():
		return &m.Operation
	case m.Target.Kind.IsAttempt():
		return &m.Target
	}
	return &m.Attempt
}

func facts(m payment.Message) payment.CardFacts { return attempt(&m).Card }

// common sets what all messages about money have.
func (l *Link) common(req *message, rrn string, sent time.Time, zone, merchant, tid string) error {
	stan, err := stanOf(rrn)
	if err != nil {
		return err
	}
	merchant = strings.TrimRight(merchant, " ")
	if sent.IsZero() || merchant == "" {
		return fmt.Errorf("it has no time, or no merchant: %w", ErrMessage)
	}
	place, err := location(zone)
	if err != nil {
		return fmt.Errorf("time zone of the store: %w", err)
	}
	local := sent.In(place)
	req.set(deSent, sent.UTC().Format(formSent))
	req.set(deSTAN, stan)
	req.set(deLocalTime, local.Format(formTime))
	req.set(deLocalDate, local.Format(formDate))
	req.set(deMember, l.cfg.Member)
	req.set(deRRN, rrn)
	req.set(deTID, terminal(tid, merchant))
	req.set(deMerchant, merchant)
	return nil
}

// locations remembers time zones: loading one reads a file.
var locations sync.Map

func location(name string) (*time.Location, error) {
	if known, ok := locations.Load(name); ok {
		return known.(*time.Location), nil
	}
	place, err := time.LoadLocation(name)
	if err == nil {
		locations.Store(name, place)
	}
	return place, err
}

// terminal is the TID of a message: the card's, or for cards without a terminal the merchant's own, the last eight digits of its number. Blanks
// behind are the wire's, and would not come back.
func terminal(tid, merchant string) string {
	if tid = strings.TrimRight(tid, " "); tid != "" {
		return tid
	}
	return zeros[:max(0, tidSize-len(merchant))] + merchant[max(0, len(merchant)-tidSize):]
}

func setAmount(req *message, a money.Amount) {
	req.setNumber(deAmount, a.Minor())
	req.set(deCurrency, a.Currency().Numeric())
}

// setCard sets what stands for the card in every message about it.
func setCard(req *message, c *payment.Card) error {
	switch {
	case !c.PAN.IsZero():
		req.set(dePAN, c.PAN.Reveal())
	case c.Token == "" || len(c.Token) > tokenMax:
		return fmt.Errorf("a card has neither a number nor a token that fits: %w", ErrMessage)
	default:
		req.set(deAdditional, item(itemToken, c.Token))
	}
	return nil
}

func (l *Link) buildAttempt(req *message, m payment.Message, c *payment.Card) error {
	req.mti = mtiSale
	if m.Operation.Kind == payment.Authorization {
		req.mti = mtiAuthorization
	}
	req.set(deProcessing, processPurchase)
	setEntry(req, c.Entry, c.Fallback, c.PIN != nil)
	setExpiry(req, c.Expiry)
	if c.Sequence != "" {
		req.set(deSequence, c.Sequence)
	}
	if !c.Track2.IsZero() {
		req.set(deTrack2, c.Track2.Reveal())
	}
	if !c.Track1.IsZero() {
		req.set(deTrack1, c.Track1.Reveal())
	}
	if name := oneLine(m.Merchant.Name, specification[deName].size); name != "" {
		req.set(deName, name)
	}
	if len(c.Chip) == 0 {
		return nil
	}
	tags, err := emv.Parse(c.Chip)
	if err != nil {
		return err
	}
	chip, err := emv.Request(tags)
	if err != nil {
		return err
	}
	if len(chip) > 0 {
		req.set(deChip, string(chip))
	}
	return nil
}

func (l *Link) buildCompletion(req *message, m payment.Message, c *payment.Card) error {
	req.mti = mtiCompletion
	if m.Repeat() {
		req.mti = mtiCompletionRepeat
	}
	req.set(deProcessing, processPurchase)
	setEntry(req, c.Entry, c.Fallback, facts(m).PINPad)
	req.set(deAuthCode, m.Target.Result.AuthCode)
	return l.setOriginal(req, &m.Target)
}

func (l *Link) buildRefund(req *message, m payment.Message, c *payment.Card) error {
	req.mti = mtiSale
	req.set(deProcessing, processRefund)
	setEntry(req, c.Entry, c.Fallback, facts(m).PINPad)
	setExpiry(req, c.Expiry)
	return l.setTaken(req, m)
}

func (l *Link) buildVoid(req *message, m payment.Message, c *payment.Card) error {
	req.mti = mtiSale
	req.set(deProcessing, processVoid)
	setEntry(req, c.Entry, c.Fallback, facts(m).PINPad)
	return l.setTaken(req, m)
}

func (l *Link) buildReversal(req *message, m payment.Message, _ *payment.Card) error {
	switch {
	case m.Repeat():
		req.mti = mtiReversalRepeat
	case m.Target.Result.Code == codeApproved || m.Target.Result.Code == codePartial:
		req.mti = mtiReversal
	default:
		req.mti = mtiReversalAdvice
	}
	req.set(deProcessing, processPurchase)
	if m.Target.Kind == payment.Refund {
		req.set(deProcessing, processRefund)
	}
	req.set(deRRN, m.Target.Number) // The page: the original's RRN, and a STAN of its own.
	if code := m.Target.Result.AuthCode; code != "" {
		req.set(deAuthCode, code)
	}
	return l.setOriginal(req, &m.Target)
}

// setTaken names what has taken the money that is given back: the sale, or the completion of an authorization.
func (l *Link) setTaken(req *message, m payment.Message) error {
	taken := &m.Target
	if taken.Kind == payment.Authorization {
		taken = &m.Capture
	}
	if code := taken.Result.AuthCode; code != "" {
		req.set(deAuthCode, code)
	}
	return l.setOriginal(req, taken)
}

// originalTypes is the type of the message of a kind, as DE 90 names it.
var originalTypes = map[payment.Kind]string{
	payment.Sale:             mtiSale,
	payment.Refund:           mtiSale,
	payment.VoidOperation:    mtiSale,
	payment.Authorization:    mtiAuthorization,
	payment.CaptureOperation: mtiCompletion,
}

// setOriginal sets DE 90.
func (l *Link) setOriginal(req *message, op *payment.Operation) error {
	original, err := l.original(op.Kind, op.Number, op.SentAt)
	if err != nil {
		return err
	}
	req.set(deOriginal, original)
	return nil
}

// original is DE 90 of what names an operation: type, STAN, DE 7, and DE 32 right-justified.
func (l *Link) original(kind payment.Kind, rrn string, sent time.Time) (string, error) {
	mti := originalTypes[kind]
	stan, err := stanOf(rrn)
	if err != nil || mti == "" || sent.IsZero() {
		return "", fmt.Errorf("the original is not known: %w", ErrMessage)
	}
	return mti + stan + sent.UTC().Format(formSent) + zeros[:memberInOriginal-len(l.cfg.Member)] + l.cfg.Member + zeros[:11], nil
}

// entryModes is the first two digits of DE 22.
var entryModes = map[payment.EntryMode]string{
	payment.EntryKeyed:             "01",
	payment.EntryChip:              "05",
	payment.EntryContactlessChip:   "07",
	payment.EntryStripe:            "90",
	payment.EntryContactlessStripe: "91",
	payment.EntryNotPresent:        modeToken,
	"":                             modeToken, // Of a sale that was not made with a card in hand.
}

// setEntry sets how the card was read, and whether it was there.
func setEntry(req *message, entry payment.EntryMode, fallback, pinPad bool) {
	mode, condition := entryModes[entry], "00"
	pin := "0"
	switch {
	case mode == modeToken:
		condition, pin = "59", "2"
	case fallback && entry == payment.EntryStripe:
		mode = "80"
	}
	if pinPad {
		pin = "1"
	}
	req.set(deEntryMode, mode+pin)
	req.set(deCondition, condition)
}

func setExpiry(req *message, e card.Expiry) {
	if !e.IsZero() {
		req.set(deExpiry, e.YYMM())
	}
}

// oneLine is a name that fits a field: without control characters, and cut between two characters.
func oneLine(name string, size int) string {
	name = strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == utf8.RuneError {
			return ' '
		}
		return r
	}, name))
	for len(name) > size {
		_, last := utf8.DecodeLastRuneInString(name)
		name = name[:len(name)-last]
	}
	return strings.TrimSpace(name)
}

// networkMessage is a network message, all but what it asks for.
func (l *Link) networkMessage(mti, stan string) *message {
	m := &message{mti: mti}
	m.set(deSent, l.cfg.Now().UTC().Format(formSent))
	m.set(deSTAN, stan)
	m.set(deMember, l.cfg.Member)
	return m
}

// networkSTAN counts network messages by themselves: only DE 11 pairs their answers.
func (l *Link) networkSTAN() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.network = l.network%stanMax + 1
	return padded(l.network, 6)
}

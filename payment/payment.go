package payment

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tillgate/tillgate/money"
)

// MerchantID names a merchant. Every money row belongs to one.
type MerchantID int64

// ID names a payment or an operation. IDs are unique in an installation, come from blocks handed to each process, and stay below
// 10^12, so that every protocol can print them in its own public numbers. A payment's first attempt has the payment's own ID.
type ID int64

// Key is what makes a repeat a repeat: it is unique within a merchant and a scope, and the protocol chooses the scope (design 4.1).
type Key struct{ Scope, Key string }

// Numbering turns an ID into the public number that callers and acquirers see.
type Numbering struct {
	Prefix string // Such as "8010".
	Digits int    // How many digits of ID follow, zeros in front.
}

// Number is the public number of an ID.
func (n Numbering) Number(id ID) string {
	digits := strconv.FormatInt(int64(id), 10)
	return n.Prefix + strings.Repeat("0", max(0, n.Digits-len(digits))) + digits
}

// Flow is how the customer pays.
type Flow string

// The flows.
const (
	ByCode Flow = "code" // The till scans the customer's code.
	ByQR   Flow = "qr"   // The customer scans a code that the till shows.
	ByCard Flow = "card" // A card at a terminal, or by number.
	ByWeb  Flow = "web"  // In a browser: the customer is sent to the provider's page and comes back.
)

// Payment is the intention to collect one amount. Amounts without a type of their own are minor units of Amount's currency.
type Payment struct {
	Merchant   MerchantID
	ID         ID
	Version    int64 // Raised by every change: the compare-and-set of the store.
	State      State
	Protocol   string
	Key        Key
	Reference  string // The caller's own name for it, where that is not the key; it may repeat.
	Credential ID
	Store      ID
	Terminal   ID
	Numbering  Numbering
	Amount     money.Amount // To collect, the tip included.
	Tip        int64
	Method     string // Wallet or card scheme, such as "alipay".
	Flow       Flow
	Attempt    ID // The latest attempt; 0 before the first.

	AuthorizeOnly bool // Stop at authorized; a capture follows.
	Retryable     bool // A declined attempt leaves the payment open for another.

	Captured int64 // What was captured; 0 before.
	Reserved int64 // What refunds and voids have taken of it, unknown ones included: never above Captured.
	Refunded int64 // What of that is approved.
	Fee      int64 // Ours, once captured; returned by a void.
	// FeeReturned says that fee and tip have been given back, which happens once.
	FeeReturned bool
	Rate        Rate // The merchant's rate for the method when the payment was made.
	Calendar    Calendar

	Failure     Reason // Why it is declined, expired or cancelled.
	FailureText string // The same for people; never holds card data.

	CreatedAt  time.Time
	ModifiedAt time.Time
	ExpiresAt  time.Time
	PaidAt     time.Time // The acquirer's clock where it told; zero before.
	Day        Day       // Business day of the approval, in the store's zone; 0 before.
	DueAt      time.Time // When an open payment without an attempt at work must be looked at; zero for never.

	// Echo is what the protocol wants back with every answer, such as line items. The core does not read it.
	Echo json.RawMessage
}

// Number is the payment's public number.
func (p *Payment) Number() string { return p.Numbering.Number(p.ID) }

// Left is what can still be given back.
func (p *Payment) Left() money.Amount { return money.New(p.Captured-p.Reserved, p.Amount.Currency()) }

// Kind says what an operation asks of the acquirer.
type Kind string

// The kinds of operations.
const (
	Sale             Kind = "sale"
	Authorization    Kind = "authorize"
	CaptureOperation Kind = "capture"
	VoidOperation    Kind = "void"
	Reversal         Kind = "reversal"
	Refund           Kind = "refund"
	CancelOperation  Kind = "cancel"
	Close            Kind = "close"
)

// IsAttempt reports whether operations of this kind try to get a payment approved.
func (k Kind) IsAttempt() bool { return k == Sale || k == Authorization }

// Operation is one message that is owed to an acquirer, and what came of it.
type Operation struct {
	Merchant MerchantID
	Payment  ID
	ID       ID
	Version  int64
	Kind     Kind
	State    OperationState
	Target   ID        // The operation that this one captures, undoes, closes or refunds; 0 for attempts.
	Key      Key       // The till's key, for refunds; empty for what the core owes by itself.
	Number   string    // The number under which the acquirer knows it; of another round another one.
	Round    int       // How often it was sent under a new number of the link: a card refund after its reversal.
	SentAt   time.Time // When it first left under its number; zero before.
	Acquirer string
	Amount   money.Amount
	Rest     bool // It gives back all that is left because the payment must not stand: the fee is returned too.

	Failure     Reason
	FailureText string
	Result      Result
	Day         Day // Business day of the approval; 0 before.

	Card   CardFacts // Of an attempt by card; zero else.
	Sealed []byte    // The card's number, sealed, as long as a reversal or refund may need it.

	CreatedAt time.Time
	SettledAt time.Time // When its outcome became final; zero before.

	// Owed work: when somebody must act on it next, and which process has it in hand.
	DueAt   time.Time // Zero when nothing is owed.
	Owner   int64     // Incarnation that has it in hand; 0 for nobody.
	Tries   int       // Sends and queries so far.
	Flagged bool      // People should look at it; work goes on.

	Echo json.RawMessage
}

// Settled reports whether the operation's outcome is final: nothing about it is owed or unknown. A refund whose lost message is reversed
// is not settled: it is sent again.
func (o *Operation) Settled() bool {
	switch o.State {
	case Approved, Declined:
		return true
	case Reversed:
		return o.Kind != Refund
	}
	return false
}

// View is a payment with its latest attempt, as protocols show it. Attempt is zero before the first.
type View struct {
	Payment Payment
	Attempt Operation
	// Answer is what was kept beside the key with which the payment was asked for again: the answer to the first such request.
	Answer []byte
	// Chip is the issuer's answer to the card's chip, as BER-TLV. It is never stored: only the command that sent the card gets it.
	Chip []byte
}

// RefundView is a refund with its payment.
type RefundView struct {
	Refund  Operation
	Payment Payment
	Answer  []byte // As in View.
}

// Reason is the neutral reason of a decline. Links translate their codes into it, protocols translate it into theirs.
type Reason string

// The reasons. Links use no others, and a protocol's table must know them all.
const (
	ReasonDeclined          Reason = "declined" // No reason given, or one that is not known.
	ReasonRisk              Reason = "risk"
	ReasonInsufficientFunds Reason = "insufficient_funds"
	ReasonUnavailable       Reason = "unavailable" // The acquirer could not be reached, or its issuer could not.
	ReasonLimitExceeded     Reason = "limit_exceeded"
	ReasonCardExpired       Reason = "card_expired"
	ReasonCardInvalid       Reason = "card_invalid" // No such card, or its data is not genuine.
	ReasonCardBlocked       Reason = "card_blocked" // Lost, stolen or restricted.
	ReasonNotPermitted      Reason = "not_permitted"
	ReasonRefer             Reason = "refer" // The issuer wants to be called.
	ReasonPINWrong          Reason = "pin_wrong"
	ReasonPINTries          Reason = "pin_tries_exceeded"
	ReasonPINNeeded         Reason = "pin_needed"
	ReasonPartial           Reason = "partial" // The issuer gave less, which no protocol here can say; it was given back.
	ReasonDuplicate         Reason = "duplicate"
	ReasonAmountTooLow      Reason = "amount_too_low"
	ReasonAmountTooHigh     Reason = "amount_too_high"
	ReasonCodeInvalid       Reason = "code_invalid"
	ReasonCodeUsed          Reason = "code_used"
	ReasonCodeExpired       Reason = "code_expired"
	ReasonCodeCancelled     Reason = "code_cancelled"
	ReasonCustomerCancelled Reason = "customer_cancelled"
	ReasonExpired           Reason = "expired"   // Nobody acted in time.
	ReasonCancelled         Reason = "cancelled" // The till gave it up.
	ReasonRefundExceeds     Reason = "refund_exceeds"
)

// Reasons lists them all, so that each protocol's table can be tested for completeness.
func Reasons() []Reason {
	return []Reason{ReasonDeclined, ReasonRisk, ReasonInsufficientFunds, ReasonUnavailable, ReasonLimitExceeded, ReasonCardExpired,
		ReasonCardInvalid, ReasonCardBlocked, ReasonNotPermitted, ReasonRefer, ReasonPINWrong, ReasonPINTries, ReasonPINNeeded, ReasonPartial,
		ReasonDuplicate, ReasonAmountTooLow, ReasonAmountTooHigh, ReasonCodeInvalid, ReasonCodeUsed, ReasonCodeExpired,
		ReasonCodeCancelled, ReasonCustomerCancelled, ReasonExpired, ReasonCancelled, ReasonRefundExceeds}
}

// Result is what an acquirer told besides its outcome. It never holds card data.
type Result struct {
	ProviderReference string    `json:"provider_reference,omitempty"`
	PayerID           string    `json:"payer_id,omitempty"`
	AuthCode          string    `json:"auth_code,omitempty"` // The issuer's, of a card.
	Code              string    `json:"code,omitempty"`      // The acquirer's own code of the outcome, such as DE 39.
	QR                string    `json:"qr,omitempty"`        // Text to show as a QR code.
	Redirect          string    `json:"redirect,omitempty"`  // Page that the customer's browser is sent to.
	PaidAt            int64     `json:"paid_at,omitempty"`
	Exchange          *Exchange `json:"exchange,omitempty"`
}

// Exchange is what a payer's wallet in another currency was charged.
type Exchange struct {
	Rate        string `json:"rate"` // Units of Currency for one of the payment's, decimal text with 8 places.
	Currency    string `json:"currency"`
	AmountMinor int64  `json:"amount_minor"`
}

// Rate is what a payment method costs the merchant.
type Rate struct {
	Millionths int64 // Of the captured amount.
	Fixed      int64 // Minor units on top.
}

// Fee is the rate's part of an amount, rounded half away from zero.
func (r Rate) Fee(amount money.Amount) (int64, error) {
	part, err := amount.Share(r.Millionths)
	if err != nil {
		return 0, err
	}
	fee, err := part.Add(money.New(r.Fixed, amount.Currency()))
	return fee.Minor(), err
}

// Calendar is a place's business days: its time zone and its cut-off.
type Calendar struct {
	Zone   string        // IANA name, such as "Australia/Melbourne".
	CutOff time.Duration // After midnight: until then, the business day is still the day before.
}

// Day is the business day of a moment. A zone that is not known fails with ErrInvalid.
func (c Calendar) Day(t time.Time) (Day, error) {
	zone, err := zone(c.Zone)
	if err != nil {
		return 0, err
	}
	y, m, d := t.In(zone).Add(-c.CutOff).Date()
	return Day(y*10000 + int(m)*100 + d), nil
}

// zones remembers loaded time zones: loading one reads a file.
var zones sync.Map

func zone(name string) (*time.Location, error) {
	if z, ok := zones.Load(name); ok {
		return z.(*time.Location), nil
	}
	z, err := time.LoadLocation(name)
	if err != nil {
		return nil, &FieldError{"zone", fmt.Sprintf("%q is not a time zone", name)}
	}
	zones.Store(name, z)
	return z, nil
}

// Day is a business day as the number yyyymmdd, such as 20260414.
type Day int32

// String is the day as "20260414".
func (d Day) String() string { return fmt.Sprintf("%08d", int32(d)) }

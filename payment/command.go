package payment

import (
	"encoding/json"
	"time"

	"github.com/tillgate/tillgate/money"
)

// SaleCommand asks for a payment.
type SaleCommand struct {
	Caller    Caller
	Key       Key
	Request   []byte // The request in canonical form: equal requests have equal bytes. Remembered as a keyed HMAC.
	Numbering Numbering
	Reference string // See Payment.

	Amount        money.Amount // The tip included.
	Tip           int64        // Minor units of Amount.
	Method        string       // One of the merchant's.
	Flow          Flow
	Instrument    Instrument    // Nil where the customer scans a code of ours.
	AuthorizeOnly bool          // Stop at authorized.
	Retryable     bool          // A declined attempt leaves the payment open.
	ReusableKey   bool          // The key is free again once its payment has finally failed (QFPay).
	KeyLife       time.Duration // The key is free again after it; 0 for never.
	// Once are further keys that no other payment of the merchant may have had. A used one is an *OnceError.
	Once []Key
	// Answer, when set, is asked for the answer to keep beside the key, in the commit that decides the payment. It may be called several times.
	Answer func(View) []byte

	Lifetime time.Duration // After it, an unpaid payment ends.
	Wait     time.Duration // How long to wait for an outcome; afterwards the payment is returned as it is.
	Echo     json.RawMessage
}

// AttemptCommand asks for an attempt on a payment that is open.
type AttemptCommand struct {
	Caller     Caller
	Payment    ID
	Instrument Instrument
	// AuthorizeOnly is as in SaleCommand; it is decided anew for every attempt.
	AuthorizeOnly bool
	Once          []Key // As in SaleCommand.
	Wait          time.Duration
}

// AmendCommand changes what an open payment asks for, while no attempt is under way.
type AmendCommand struct {
	Caller    Caller
	Payment   ID
	Version   int64        // Of the payment that the caller has read: what it does not mean to change must still be so.
	Amount    money.Amount // Its tip is dropped when it changes.
	Reference string
	Echo      json.RawMessage
}

// CaptureCommand asks to capture an authorised payment.
type CaptureCommand struct {
	Caller  Caller
	Payment ID
	Amount  money.Amount // At most what was authorised; the rest is released.
	Wait    time.Duration
}

// CancelCommand gives a payment up.
type CancelCommand struct {
	Caller  Caller
	Key     Key
	Payment ID // Names the payment instead of the key, when set.
	// Window is how long after its creation a payment that was approved, or still may be, can be cancelled.
	Window time.Duration
	// GiveBack lets the cancel of a captured payment give back what is left of it.
	GiveBack bool
	// Reason says why, where it is not the till that gave it up, such as ReasonCustomerCancelled; empty is ReasonCancelled.
	Reason Reason
	// Text is the caller's reason, kept as the payment's FailureText; empty for ours.
	Text string
	// CloseFor keeps the key of a payment that does not exist closed for so long: one that comes later is cancelled at birth. 0 closes nothing.
	CloseFor time.Duration
}

// VoidCommand gives back all that is left of a captured payment, the fee too.
type VoidCommand struct {
	Caller  Caller
	Key     Key
	Payment ID // Names the payment instead of the key, when set.
	// SameDay allows it only on the business day of the payment's creation.
	SameDay bool
	// Whole allows it only while nothing else of the payment was, or is being, given back.
	Whole bool
	Wait  time.Duration
}

// RefundCommand gives a part or all of a captured payment back; the fee stays.
type RefundCommand struct {
	Caller   Caller
	Key      Key
	Request  []byte // As in SaleCommand.
	Original Key
	Payment  ID                      // Names the original instead of its key, when set.
	KeyLife  time.Duration           // As in SaleCommand.
	Answer   func(RefundView) []byte // As in SaleCommand, of a refund that is settled.
	Amount   money.Amount
	Window   time.Duration // How long after the payment's creation, where that is less than the policy allows; 0 for the policy's.
	Wait     time.Duration
	Echo     json.RawMessage
}

// RefundPolicy is a rule about refunds. A credential's profile selects one by name.
type RefundPolicy struct {
	Window time.Duration // How long after the payment's creation.
	// SameDayFullOnly allows, for cards, only a full refund on the business day of the payment; later, parts too (QFPay).
	SameDayFullOnly bool
}

// refundPolicies are the policies by name; the empty name is the standard one.
var refundPolicies = map[string]RefundPolicy{
	"":                   {Window: 365 * 24 * time.Hour},
	"same_day_full_card": {Window: 365 * 24 * time.Hour, SameDayFullOnly: true},
}

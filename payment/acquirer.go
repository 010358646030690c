package payment

import (
	"context"
	"log/slog"
	"time"
)

// Acquirer is whoever approves: a card host, a wallet network, a provider upstream.
type Acquirer interface {
	// Traits says what the engine must know of the link. It never changes.
	Traits() Traits
	// Do sends one operation, which is stored as sent, and waits for its answer until ctx ends. It returns no error: what was not
	// answered, or not understood, is OutcomeUnknown, and only what certainly never left is OutcomeUnsent.
	Do(ctx context.Context, m Message) Answer
	// Query asks what became of an operation. Silence is OutcomeUnknown, and tells nothing new.
	Query(ctx context.Context, m Message) Answer
}

// Follower is an Acquirer that tells by itself, through Engine.Nudge, when an operation that waits for somebody has moved.
type Follower interface {
	Acquirer
	// Following reports whether it hears of what moves, now. Then it is asked about such operations more rarely.
	Following() bool
}

// Class says how a link behaves after silence. See remedies.
type Class string

// The classes of links.
const (
	CardHost Class = "card"   // Nothing can be asked and a sale cannot be repeated: reverse.
	Provider Class = "wallet" // The fate of a number can be asked, and refunds are idempotent by number.
)

// Traits are the properties of a link.
type Traits struct {
	Class   Class
	Timeout time.Duration // How long one exchange may take.
	// Number is how the link numbers what it sends, made of a fresh ID and the present time; nil for the payment's own numbering.
	Number func(ID, time.Time) string
}

// Message is an operation on its way to its acquirer.
type Message struct {
	Merchant  Merchant
	Payment   Payment
	Operation Operation
	Target    Operation  // What the operation captures, undoes, closes or refunds; zero for attempts.
	Attempt   Operation  // The payment's attempt.
	Capture   Operation  // What took an authorized attempt's money, when it is to be given back; zero else.
	Caller    Caller     // Who asked; zero when the engine acts by itself.
	Secret    Instrument // What the customer pays with, for the first send of an attempt only.
}

// Repeat reports whether the same message may have left before, under the same number.
func (m Message) Repeat() bool { return m.Operation.State == Unknown || m.Operation.Tries > 1 }

// Instrument is what a customer pays with. It lives in memory until the answer and is never stored; how it prints is its own duty.
type Instrument interface{ slog.LogValuer }

// WalletCode is the text of a customer's payment code.
type WalletCode string

// LogValue hides the code: whoever reads a fresh one can spend it.
func (WalletCode) LogValue() slog.Value { return slog.StringValue("***") }

// String hides the code too.
func (WalletCode) String() string { return "***" }

// GoString hides the code too.
func (WalletCode) GoString() string { return "***" }

// Reveal is the code, for the link that sends it.
func (c WalletCode) Reveal() string { return string(c) }

// WebCheckout is a customer with a browser: the provider's page takes the payment and sends the browser back.
type WebCheckout struct{ ReturnURL string }

// LogValue hides the address: it may carry the shop's session.
func (WebCheckout) LogValue() slog.Value { return slog.StringValue("***") }

// Outcome is what an exchange told.
type Outcome string

// The outcomes.
const (
	OutcomeApproved Outcome = "approved"
	OutcomeDeclined Outcome = "declined"
	OutcomeWaiting  Outcome = "waiting" // Somebody must still act.
	OutcomeUnknown  Outcome = "unknown" // No answer, or none that is understood: the money may have moved.
	OutcomeUnsent   Outcome = "unsent"  // Certainly nothing left us.
	OutcomeUnseen   Outcome = "unseen"  // Of a query: the acquirer does not know the number. It may still arrive.
	OutcomeUnfit    Outcome = "unfit"   // Approved, but not what was asked for: it is undone, and counts as declined.
)

// Answer is an acquirer's answer in neutral words.
type Answer struct {
	Outcome Outcome
	Reason  Reason // For declined and unfit.
	Text    string // The same for people; never card data.
	Result  Result
	Chip    []byte // The issuer's answer to the card's chip, for the caller who waits; never stored.
	// Attempt is, in the answer to a close or cancel, what the acquirer said of the attempt itself: it was paid after all, or declined.
	Attempt *Answer
}

// Remedy is what settles an operation that got no answer.
type Remedy string

// The remedies.
const (
	Ask     Remedy = "ask"     // Query until the payment's lifetime ends, then close it at the acquirer.
	Reverse Remedy = "reverse" // Reverse until acknowledged. A card refund is then sent again under a new number, a sale never.
	Repeat  Remedy = "repeat"  // Send the same again, under the same number, until it is answered.
)

// remedies is what silence is answered with, for each kind of operation and class of link (design 4.4).
var remedies = map[Kind]map[Class]Remedy{
	Sale:             {CardHost: Reverse, Provider: Ask},
	Authorization:    {CardHost: Reverse, Provider: Ask},
	CaptureOperation: {CardHost: Repeat, Provider: Repeat},
	VoidOperation:    {CardHost: Repeat, Provider: Repeat},
	Reversal:         {CardHost: Repeat, Provider: Repeat},
	CancelOperation:  {CardHost: Repeat, Provider: Repeat},
	Close:            {CardHost: Repeat, Provider: Repeat},
	Refund:           {CardHost: Reverse, Provider: Repeat},
}

// undoing is the kind of operation that undoes an attempt or refund that must not stand, for each class of link.
var undoing = map[Class]Kind{CardHost: Reversal, Provider: CancelOperation}

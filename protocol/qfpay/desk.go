package qfpay

import (
	"context"
	"errors"
	"time"

	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
)

// Desk is the terminal behind the protocol: it takes payments with the parts that it has, and reaches the payment engine in its own way.
// No card data passes through it. Its methods are called from several goroutines; the Server sees to it that Sale and Refund run one
// at a time. See the package's documentation for how to write one.
//
// Methods return the errors of this package (ErrBusy, ErrOffline …) and those of package payment, wrapped or not; the table refusals
// words them. A decline is no error: it is a Trade.
type Desk interface {
	// Sale takes one payment and returns when it is decided, or cannot be decided in time. It works under ctx, which does not end when the
	// cash register hangs up: it ends at the very last moment at which an answer is still of use. An error means that
	// certainly nothing moved and nothing will; when that is not certain, it is a Trade with OutcomeUnknown. An error that is not in
	// the table is taken for that too. A repeated OutTradeNo fails with payment.ErrKeyReused, or with payment.ErrKeyBusy while the first
	// is undecided.
	Sale(ctx context.Context, r SaleRequest) (Trade, error)
	// Refund gives money back, as Sale takes it. Its Trade is the refund's. An equal refund that is still unresolved fails
	// with payment.ErrKeyBusy.
	Refund(ctx context.Context, r RefundRequest) (Trade, error)
	// Cancel asks for the end of one running Sale or Refund, by the Order of its request, and returns at once: nil when it will end with
	// payment.ReasonCancelled, ErrTooLate when it is already on its way to the acquirer, ErrNotRunning when the order is not there (yet).
	Cancel(ctx context.Context, order string) error
	// Inquiry finds a sale or a refund; payment.ErrNotFound if there is none. It may be called while a Sale runs.
	Inquiry(ctx context.Context, r InquiryRequest) (Trade, error)
	// Summary is what the current business day has come to.
	Summary(ctx context.Context) (Summary, error)
	// PrintReceipt prints the receipt of a trade that Inquiry has found. A printer that cannot is a *PrinterError.
	PrintReceipt(ctx context.Context, t Trade) error
	// PrintSummary prints what Summary has told.
	PrintSummary(ctx context.Context, s Summary) error
	// Identity is what answers say of the terminal and its shop. It returns at once.
	Identity() Identity
}

// Keys is what the portal has set for the terminal. It is asked at every request, so that a refresh counts from the next one on; a
// running transaction is answered under the key with which it was asked for.
type Keys interface {
	KeySet() KeySet
}

// KeySet is what Keys tells. Its zero value accepts nothing.
type KeySet struct {
	// Keys are those that are accepted, the current one first: after a change the one before stays until the terminal has confirmed it.
	Keys       []POSKey
	Encryption Encryption
	Reply      Reply
}

// Encryption is the switch of the portal.
type Encryption string

// The positions of the switch.
const (
	EncryptionOn   Encryption = ""     // Plain requests are refused with 4003. The default (QFPay seed, 1).
	EncryptionAuto Encryption = "auto" // Both are accepted.
	EncryptionOff  Encryption = "off"  // Both are accepted, and answers are plain.
)

// Reply is how answers are sent while encryption is not off.
type Reply string

// The replies.
const (
	ReplyMirror    Reply = ""          // By the form of the request (§2.6): what the Odoo client sends is answered plain, or it could not read it.
	ReplyEncrypted Reply = "encrypted" // Encrypted requests are always answered encrypted (QFPay seed, 9).
	ReplyPlain     Reply = "plain"
)

// The errors of a Desk that package payment has no word for.
var (
	ErrBusy           = errors.New("terminal busy")
	ErrOffline        = errors.New("terminal has no connection to the server") // Nothing was started.
	ErrNotLoggedIn    = errors.New("terminal is not activated")
	ErrTooLate        = errors.New("too late to cancel")
	ErrNotRunning     = errors.New("no such order is running")
	ErrSameDayPartial = errors.New("cards: on the day of the payment in full only")
	ErrNotRefundable  = errors.New("this payment method cannot be refunded")
)

// deskErrors lists them, so that the table can be tested for completeness.
func deskErrors() []error {
	return []error{ErrBusy, ErrOffline, ErrNotLoggedIn, ErrTooLate, ErrNotRunning, ErrSameDayPartial, ErrNotRefundable}
}

// PrinterError is a printer that cannot print: "out of paper".
type PrinterError struct{ Problem string }

func (e *PrinterError) Error() string { return "printer: " + e.Problem }

// SaleRequest asks for a payment.
type SaleRequest struct {
	Order      string // Unique; what Cancel names.
	OutTradeNo string // The cash register's number, which is the payment's key; may be empty. Free again after a failure.
	Amount     money.Amount
	Channel    Channel
	Method     string       // The core's word for it: a wallet's name; empty for cards, whose own scheme it is.
	Flow       payment.Flow // ByCard, ByQR or ByCode. Empty: whichever of the last two was used last.
	// Timeout is how long the customer has: to present the card, or for all of a wallet's payment.
	Timeout     time.Duration
	FrontCamera bool // Scan with the camera on the customer's side.
	GoHome      bool // Do not stay on the result screen.
}

// RefundRequest asks for a refund.
type RefundRequest struct {
	Order     string       // As in SaleRequest.
	Original  string       // The sale's Number or, if there is none with it, its OutTradeNo.
	Amount    money.Amount // Zero: all that is left.
	MayChange bool         // The operator may change the amount on the terminal.
	GoHome    bool
}

// InquiryRequest names a trade by either number. With both, Number decides (§4.5).
type InquiryRequest struct{ Number, OutTradeNo string }

// Trade is a sale or a refund as it stands.
type Trade struct {
	Refund     bool   // Else a sale.
	Number     string // Ours: syssn. Empty when the engine has never heard of it.
	OutTradeNo string // The cash register's; of a refund, the key under which it was made.
	Amount     money.Amount
	Channel    Channel
	Flow       payment.Flow

	// Outcome is approved, declined, waiting or unknown. What the customer, the cashier or the clock ended is declined, for
	// payment.ReasonCustomerCancelled, ReasonCancelled or ReasonExpired.
	Outcome payment.Outcome
	Reason  payment.Reason // Of a decline.
	Text    string         // The same for people; may be empty.

	Refunded money.Amount // Of a sale: what approved refunds have given back. Not what unresolved ones may.
	Voided   bool         // Of a sale: it was approved and taken back whole.

	Original       string       // Of a refund: the sale's Number.
	OriginalAmount money.Amount // Of a refund.

	CreatedAt time.Time
	PaidAt    time.Time // Zero unless approved.
	Reference string    // The acquirer's own number of it.
	Batch     string    // Settlement batch, such as "260102".
	Trace     string    // Six digits; empty takes the last six of Number.
	Serial    string    // Six digits: clisn; empty takes those of Trace.
	Card      Card      // Of cards.
	Octopus   Octopus   // Of Octopus.
}

// Card is what may be told of a card.
type Card struct {
	Masked string // First six, stars, last four. Anything else is not sent.
	Scheme string // "visa", "mastercard", "amex", "unionpay".
	Kind   string // "credit" or "debit"; empty when it is not known.
}

// Octopus is what only Octopus tells.
type Octopus struct{ OrderID, CardNumber string }

// Summary is what a business day has come to, by channel.
type Summary struct {
	Day    payment.Day
	Totals []Total // In any order; a channel without any may be left out.
}

// Total is a channel's part of a Summary.
type Total struct {
	Channel    Channel
	Sales      int
	SalesSum   money.Amount
	Refunds    int
	RefundsSum money.Amount
	Unresolved int // Sales and refunds without an outcome, in none of the sums.
}

// Identity is what answers say of the terminal and its shop (§4.1, §4.5).
type Identity struct {
	MerchantName string
	StoreName    string
	StoreID      string // Digits.
	TerminalID   string // The device's, of 12 characters.
	DeviceID     string // udid, 15 digits; may be empty.
	Address      string // Such as "HK".
	Operator     string
}

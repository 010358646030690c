package wallet

import (
	"time"

	"github.com/tillgate/tillgate/money"
)

// State is what has become of a payment or refund. Refunds know the first three.
type State string

// The states of the network's wire.
const (
	Approved  State = "approved"
	Declined  State = "declined"
	Waiting   State = "waiting"   // Somebody must still act.
	Cancelled State = "cancelled" // Ended by us; if it was paid, the money went back.
	Closed    State = "closed"    // Never paid, and it cannot be paid any more.
)

// Flow is how the customer and the payment meet.
type Flow string

// The flows of the network's wire.
const (
	FlowCode Flow = "code" // The customer shows a code.
	FlowQR   Flow = "qr"   // The customer scans a code.
	FlowWeb  Flow = "web"  // The customer's browser is sent to the network and comes back.
)

// PayRequest asks for a payment. The network compares all of it: a repeat must be equal, also in its lifetime.
type PayRequest struct {
	Reference    string // Ours, unique: up to 64 letters, digits and ._:- after a letter or digit.
	MerchantID   string
	MerchantName string // Shown to the customer.
	Amount       money.Amount
	Wallet       string // Such as "alipay".
	Flow         Flow
	Code         string        // What the customer shows, with FlowCode only.
	ReturnURL    string        // Where the customer's browser comes back to, with FlowWeb only.
	Attach       string        // Up to 256 bytes that come back in answers and events.
	Lifetime     time.Duration // How long it may wait, to the millisecond; 0 is the network's own limit.
}

// RefundRequest asks for money back. A repeat must be equal.
type RefundRequest struct {
	Reference string // Ours, unique among refunds.
	Original  string // The payment's reference.
	Amount    money.Amount
	Attach    string // Up to 256 bytes that come back in answers and events.
}

// Payment is the network's word on a payment.
type Payment struct {
	Reference         string
	ID                string // The network's number.
	State             State
	Reason            string // Why it is declined, cancelled or closed; the network's word.
	ReasonText        string
	Amount            money.Amount
	Wallet            string
	Attach            string
	QRURL             string // To be shown as a QR code, with FlowQR.
	RedirectURL       string // Where the customer's browser is to be sent, with FlowWeb.
	PayerID           string
	ProviderReference string    // The wallet's own number.
	PaidAt            time.Time // By the wallet's clock, whole seconds; zero if it was never paid.
	Exchange          *Exchange // Nil if the customer pays in the payment's currency.
	Unseen            bool      // The network had not seen the reference when it was cancelled. Only Reference and State are set.
}

// Refund is the network's word on a refund.
type Refund struct {
	Reference         string
	Original          string
	State             State
	Reason            string // Why it is declined; the network's word.
	ReasonText        string
	Amount            money.Amount
	Attach            string
	ProviderReference string    // The payment's number at the wallet.
	RefundedAt        time.Time // Zero unless approved.
	Exchange          *Exchange
}

// Exchange is what the customer pays, or gets back, in the wallet's own currency.
type Exchange struct {
	Rate     string // Decimal text, units of Currency for one unit of the payment's.
	Currency string // Small letters, such as "cny".
	Minor    int64  // The amount, in minor units of Currency.
}

// Kind says whether an event is about a payment or a refund: their references are numbered apart.
type Kind string

// The kinds of the network's wire.
const (
	KindPayment Kind = "payment"
	KindRefund  Kind = "refund"
)

// Event tells of a change that no call was answered with. It is a hint to query, never an outcome: it carries no amount.
type Event struct {
	Seq       uint64
	Kind      Kind
	Reference string
	Attach    string
	State     State
}

// Events is a part of the feed.
type Events struct {
	Epoch  string  // One run of the network.
	Next   uint64  // To be given as after in the next call.
	Reset  bool    // Events may have been missed: query all that is waited for, then go on from Epoch and Next.
	Events []Event // Oldest first.
}

// The bodies that are sent, by the names of the wire.
type (
	payBody struct {
		Reference    string `json:"reference"`
		MerchantID   string `json:"merchant_id"`
		MerchantName string `json:"merchant_name"`
		AmountMinor  int64  `json:"amount_minor"`
		Currency     string `json:"currency"`
		Wallet       string `json:"wallet"`
		Flow         string `json:"flow"`
		Code         string `json:"code,omitempty"`
		ReturnURL    string `json:"return_url,omitempty"`
		Attach       string `json:"attach,omitempty"`
		LifetimeMS   int64  `json:"lifetime_ms,omitempty"`
	}
	cancelBody struct {
		OnlyIfUnpaid bool `json:"only_if_unpaid"`
	}
	refundBody struct {
		Reference         string `json:"reference"`
		OriginalReference string `json:"original_reference"`
		AmountMinor       int64  `json:"amount_minor"`
		Currency          string `json:"currency"`
		Attach            string `json:"attach,omitempty"`
	}
)

package iotpay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/tillgate/tillgate/card"
	"github.com/tillgate/tillgate/payment"
)

// Terminals drives card terminals.
type Terminals interface {
	// Sale asks the caller's terminal to take a card for a payment, which is stored and open, and returns when the terminal has done with
	// it. Whoever has the terminal's link makes the attempt (payment.Engine.Attempt) when the card is read; the payment, in the engine, tells
	// the outcome, and the report only what the receipt says of card and chip.
	//
	// It fails at once, and has asked nothing of anybody, with ErrAbsent or ErrBusy; it fails with ErrLost when the link broke and the
	// terminal did not come back. When ctx ends it takes the order back, from a terminal that has not read a card yet, and returns soon; any
	// other error, and a report beside it with ReasonCancelled, may tell that. Once it has returned, no attempt is made any more for the payment.
	Sale(ctx context.Context, caller payment.Caller, p payment.Payment) (Report, error)
}

// The errors of Terminals.
var (
	ErrAbsent = errors.New("the terminal is not connected")
	ErrBusy   = errors.New("the terminal is busy with another order")
	ErrLost   = errors.New("the link to the terminal broke")
)

// Report is what a terminal tells of an order that it has done with. Everything may be empty: only what is known is told. Kept of it is
// what its JSON has, under the payment's number; expiry and cryptogram live in memory only. It shows nothing of itself under any verb.
type Report struct {
	// Ended says why the terminal ended the order without asking the host: ReasonCustomerCancelled, ReasonExpired when no card came, or why
	// the chip declined by itself. Empty when the host was asked.
	Ended payment.Reason `json:"ended,omitempty"`

	Scheme card.Scheme       `json:"scheme,omitempty"`
	Masked string            `json:"masked,omitempty"` // First six and last four digits, or fewer.
	Entry  payment.EntryMode `json:"entry,omitempty"`
	Expiry card.Expiry       `json:"-"`

	Label   string `json:"label,omitempty"` // Tag 50, or 9F12.
	AID     string `json:"aid,omitempty"`   // Tag 4F or 84, hexadecimal as all tags here.
	TVR     string `json:"tvr,omitempty"`   // Tag 95.
	TSI     string `json:"tsi,omitempty"`   // Tag 9B.
	CVM     string `json:"cvm,omitempty"`   // Tag 9F34.
	Account string `json:"account,omitempty"`
	// CryptogramType is TC, ARQC or AAC.
	CryptogramType string `json:"-"`
	Cryptogram     string `json:"-"` // Tag 9F26.

	Language string `json:"language,omitempty"` // The cardholder's: "en", "fr".
	Invoice  string `json:"invoice,omitempty"`  // The terminal's invoice number, six digits.
	Sequence string `json:"sequence,omitempty"` // The terminal's sequence number, twelve digits.
	Batch    string `json:"batch,omitempty"`    // Four digits.
	// At is the terminal's own clock, in its own zone.
	At time.Time `json:"at,omitzero"`
}

// Format shows stars, whatever the verb.
func (Report) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("report(" + redacted + ")")) }

// String shows stars.
func (Report) String() string { return "report(" + redacted + ")" }

// LogValue shows stars.
func (Report) LogValue() slog.Value { return slog.StringValue("report(" + redacted + ")") }

// absences are how an order ends for which the terminal could not be had: nothing was sent (§4.3).
var absences = []struct {
	err  error
	text string
}{
	{ErrAbsent, "The terminal is not connected."},
	{ErrBusy, "The terminal is busy with another order."},
	{ErrLost, "The link to the terminal broke before a card was read."},
}

// endTexts are for people, beside the reason with which a terminal ended an order. Others are the reason itself.
var endTexts = map[payment.Reason]string{
	payment.ReasonCustomerCancelled: "Cancelled at the terminal.",
	payment.ReasonExpired:           "No card was presented in time.",
	payment.ReasonUnavailable:       "The terminal could not take a card.",
	payment.ReasonCancelled:         "The order was taken back from the terminal.",
	payment.ReasonDeclined:          "The card declined.",
}

// endOf says why an order ends whose terminal has made no attempt.
func endOf(r Report, err error) (payment.Reason, string) {
	for _, a := range absences {
		if errors.Is(err, a.err) {
			return payment.ReasonUnavailable, a.text
		}
	}
	reason := r.Ended
	if _, known := endings[reason]; !known {
		reason = payment.ReasonUnavailable
	}
	text, ok := endTexts[reason]
	if !ok {
		text = "The terminal ended it: " + string(reason) + "."
	}
	return reason, text
}

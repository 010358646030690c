package receipt

import (
	"strings"
	"time"

	"github.com/tillgate/tillgate/card"
	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
)

// Copy is for whom a receipt is.
type Copy int

// The copies.
const (
	MerchantCopy Copy = iota
	CustomerCopy
)

// Kind is what was done.
type Kind int

// The kinds.
const (
	Purchase Kind = iota
	Refund
	Void
)

// Result is what came of it. The zero Result claims nothing.
type Result int

// The results.
const (
	Unknown      Result = iota // Not known yet: the receipt says so, and where to ask.
	Approved                   // Money has moved.
	Declined                   // The host, or the card, said no.
	NotCompleted               // It ended before anybody was asked.
)

// CVM is how the cardholder was verified.
type CVM int

// The ways of verification.
const (
	NoCVM CVM = iota
	PIN
	Signature
)

// Slip is what a receipt is composed from. What is empty is left out.
type Slip struct {
	Copy     Copy
	Language Language
	Reprint  bool
	Kind     Kind
	Result   Result

	Merchant, Store, Address string
	TID                      string
	At                       time.Time // In the store's zone.

	Number    string // Ours.
	Reference string // The till's.
	Original  string // Of a refund or void.
	Invoice   string
	Sequence  string
	Batch     string
	RRN       string

	Amount money.Amount // What was asked for, the tip included.
	Tip    int64        // Minor units of Amount.

	Method     string // A wallet's name; empty for cards.
	Scheme     card.Scheme
	Masked     string // Only its last four digits are printed.
	Entry      payment.EntryMode
	Fallback   bool
	Account    string
	Verified   CVM
	AuthCode   string
	Code       string // The host's.
	Text       string // Why, for people; printed as it is.
	Label      string
	AID        string
	TVR, TSI   string
	CVMResults string
	Cryptogram string // With its type: "TC 1A2B…".
}

// schemes are the names by which receipts call the schemes, and whether they are debit.
var schemes = map[card.Scheme]struct {
	name  string
	debit bool
}{
	card.Visa:       {"VISA", false},
	card.Mastercard: {"MASTERCARD", false},
	card.Amex:       {"AMERICAN EXPRESS", false},
	card.UnionPay:   {"UNIONPAY", false},
	card.Interac:    {"INTERAC", true},
	card.Discover:   {"DISCOVER", false},
	card.JCB:        {"JCB", false},
}

// entries are the letters of the ways in which a card is read.
var entries = map[payment.EntryMode]string{
	payment.EntryChip: "C", payment.EntryContactlessChip: "T", payment.EntryContactlessStripe: "T", payment.EntryStripe: "S", payment.EntryKeyed: "M",
	payment.EntryNotPresent: "M",
}

// number is a card's number as receipts have it: the last four digits, whatever else was given.
func number(masked string) string {
	const shown = 4
	if len(masked) < shown {
		return ""
	}
	return strings.Repeat("X", 12) + masked[len(masked)-shown:]
}

// Compose makes a receipt.
func Compose(s Slip) Document {
	w := words{s.Language}
	d := Document{Language: s.Language}
	d.middle(w.of(title), false)
	d.middle(s.Merchant, true)
	if s.Store != s.Merchant {
		d.middle(s.Store, false)
	}
	d.middle(s.Address, false)
	d.rule()
	d.pair(w.of(terminalID)+" "+s.TID, with(w.of(invoice), s.Invoice))
	if !s.At.IsZero() {
		d.pair(s.At.Format("2006/01/02 15:04:05"), with(w.of(sequence), s.Sequence))
	}
	d.pair(with(w.of(order), s.Reference), "")
	d.pair(with(w.of(ours), s.Number), "")
	d.pair(with(w.of(original), s.Original), "")
	d.rule()
	composeCard(&d, w, s)
	composeAmount(&d, w, s)
	d.rule()
	composeResult(&d, w, s)
	d.middle(w.of(copies[s.Copy]), false)
	if s.Reprint {
		d.middle(w.of(reprint), false)
	}
	d.cut()
	return d
}

func composeCard(d *Document, w words, s Slip) {
	kind := w.of(kinds[s.Kind])
	if s.Method != "" {
		d.pair(kind, s.Method)
		return
	}
	scheme := schemes[s.Scheme]
	name := scheme.name
	if name != "" {
		name += map[bool]string{false: "  C", true: "  D"}[scheme.debit]
	}
	d.pair(kind, name)
	letter := entries[s.Entry]
	if s.Fallback {
		letter += " F"
	}
	d.pair(number(s.Masked), with(w.of(entryMethod), letter))
	d.pair(with(w.of(account), s.Account), "")
}

func composeAmount(d *Document, w words, s Slip) {
	total := s.Amount
	if s.Tip != 0 {
		base := money.New(total.Minor()-s.Tip, total.Currency())
		d.pair(w.of(amount), show(base))
		d.pair(w.of(tip), show(money.New(s.Tip, total.Currency())))
	}
	d.Lines = append(d.Lines, Line{Left: w.of(totals), Right: show(total), Bold: true})
}

// show is an amount with its currency, as receipts have it.
func show(a money.Amount) string {
	if a.Currency().IsZero() {
		return ""
	}
	return a.Currency().Code() + " " + a.String()
}

func composeResult(d *Document, w words, s Slip) {
	batch := ""
	if s.Copy == MerchantCopy {
		batch = with(w.of(batchNumber), s.Batch)
	}
	auth := ""
	if s.Result == Approved {
		auth = with(w.of(authorization), s.AuthCode)
	}
	d.pair(auth, batch)
	d.pair(with("RRN", s.RRN), with(w.of(response), s.Code))
	d.pair(s.Label, "")
	d.pair(with("AID", s.AID), "")
	d.pair(with("TVR", s.TVR), with("TSI", s.TSI))
	d.pair(s.Cryptogram, with("CVM", s.CVMResults))
	d.blank()
	if s.Text != "" && s.Result != Approved {
		d.middle(s.Text, false)
	}
	d.Lines = append(d.Lines, Line{Left: w.of(results[s.Result]), Align: Middle, Bold: true, Big: true})
	if s.Result == Unknown {
		d.middle(w.of(askUs), false)
	}
	if s.Result == Approved && s.Method == "" && s.Kind == Purchase {
		composeVerified(d, w, s)
	}
	d.blank()
}

func composeVerified(d *Document, w words, s Slip) {
	// UnionPay wants the signature on the merchant's copy, PIN or not (IOT Pay reference, 9.2).
	sign := s.Verified == Signature || s.Scheme == card.UnionPay && s.Verified != NoCVM
	if s.Verified == PIN {
		d.middle(w.of(byPIN), false)
	}
	switch {
	case sign && s.Copy == MerchantCopy:
		d.blank()
		d.pair(w.of(signHere)+" ______________________", "")
		d.middle(w.of(agree), false)
	case !sign && s.Verified != PIN:
		d.middle(w.of(noSignature), false)
	}
}

// with is a label with its value; empty without one.
func with(label, value string) string {
	if value == "" {
		return ""
	}
	return label + " " + value
}

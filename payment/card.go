package payment

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"strings"

	"github.com/tillgate/tillgate/card"
)

// EntryMode is how a card was read.
type EntryMode string

// The entry modes.
const (
	EntryKeyed             EntryMode = "manual_entry"
	EntryChip              EntryMode = "chip"
	EntryStripe            EntryMode = "magstripe"
	EntryContactlessChip   EntryMode = "contactless_chip"
	EntryContactlessStripe EntryMode = "contactless_magstripe"
	EntryNotPresent        EntryMode = "not_present" // A token or a number, without the card.
)

// Verification is how the cardholder was verified.
type Verification string

// The ways of verification.
const (
	VerifiedByPIN       Verification = "online_pin"
	VerifiedBySignature Verification = "manual_signature"
	NotVerified         Verification = "skipped"
)

// Card is a card at a terminal or, by its number or token, in a shop on the web. It is an Instrument: it lives in memory until the answer,
// and what of it may be kept is in CardFacts and the sealed number. It shows nothing of itself under any verb.
type Card struct {
	PAN          card.PAN // Zero for a token.
	Expiry       card.Expiry
	Sequence     string // PAN sequence number of the chip, three digits; empty when there is none.
	Entry        EntryMode
	Verification Verification
	Fallback     bool        // The stripe was read because the chip could not be.
	Track1       card.Track1 // Zero when it was not read.
	Track2       card.Track2
	Chip         []byte // Tags of the chip as BER-TLV; empty for a stripe.
	PIN          *EncryptedPIN
	Token        string // Stands for the number of a card that was given to somebody else.
	TID          string // The terminal as the host knows it.
	STAN         string // The till's own trace number, six digits; empty when it gave none.
}

// EncryptedPIN is a PIN block as a terminal made it.
type EncryptedPIN struct {
	Block  [8]byte
	Format card.Format
	Keys   [][]byte // The terminal's sealed PIN keys that have not expired, the newest first. None stands for a key that is not known.
	Bound  []byte   // What the keys were bound to when they were made: whose they are.
}

var _ Instrument = (*Card)(nil)

// Format shows stars, whatever the verb.
func (c *Card) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("card(***)")) }

// String shows stars.
func (c *Card) String() string { return "card(***)" }

// LogValue shows stars.
func (c *Card) LogValue() slog.Value { return slog.StringValue("card(***)") }

// MarshalText shows stars.
func (c *Card) MarshalText() ([]byte, error) { return []byte("card(***)"), nil }

// CardFacts are what is kept of a card beside its sealed number: what receipts and answers show, and what later messages about the sale
// must repeat to the host.
type CardFacts struct {
	Masked       string       `json:"masked,omitempty"` // First six, last four.
	Scheme       card.Scheme  `json:"scheme,omitempty"`
	Entry        EntryMode    `json:"entry,omitempty"`
	Verification Verification `json:"verification,omitempty"`
	Fallback     bool         `json:"fallback,omitempty"`
	PINPad       bool         `json:"pin_pad,omitempty"` // A PIN was given.
	TID          string       `json:"tid,omitempty"`
	STAN         string       `json:"stan,omitempty"`
}

// facts are what may be kept of a card.
func (c *Card) facts() CardFacts {
	f := CardFacts{Scheme: c.PAN.Scheme(), Entry: c.Entry, Verification: c.Verification, Fallback: c.Fallback, PINPad: c.PIN != nil,
		TID: c.TID, STAN: c.STAN}
	if !c.PAN.IsZero() {
		f.Masked = c.PAN.Masked()
	}
	return f
}

// Sealer keeps card numbers at rest. A value that was sealed for one row opens for no other.
type Sealer interface {
	Seal(purpose string, plain, bound []byte) ([]byte, error)
	Unseal(purpose string, sealed, bound []byte) ([]byte, error)
}

// purposeCard is the purpose under which card numbers and tokens are sealed.
const purposeCard = "card"

// sealCard seals what a reversal or refund of the operation needs of its card: number, expiry and token.
func sealCard(s Sealer, op *Operation, c *Card) ([]byte, error) {
	text := strings.Join([]string{c.PAN.Reveal(), c.Expiry.YYMM(), c.Token}, "|")
	return s.Seal(purposeCard, []byte(text), cardBound(op))
}

// OpenCard opens what was sealed of an operation's card: number, expiry and token. Links call it for messages about a sale whose card is
// gone from memory.
func OpenCard(s Sealer, op *Operation) (*Card, error) {
	if len(op.Sealed) == 0 {
		return nil, fmt.Errorf("card of operation %d is not kept: %w", op.ID, ErrNotFound)
	}
	text, err := s.Unseal(purposeCard, op.Sealed, cardBound(op))
	if err != nil {
		return nil, fmt.Errorf("card of operation %d: %w", op.ID, err)
	}
	parts := strings.SplitN(string(text), "|", 3)
	if len(parts) != 3 {
		return nil, fmt.Errorf("card of operation %d cannot be read: %w", op.ID, ErrInvalid)
	}
	c := &Card{Token: parts[2], Entry: op.Card.Entry, Verification: op.Card.Verification, Fallback: op.Card.Fallback, TID: op.Card.TID, STAN: op.Card.STAN}
	if parts[0] != "" {
		if c.PAN, err = card.ParsePAN(parts[0]); err != nil {
			return nil, fmt.Errorf("card of operation %d: %w", op.ID, err)
		}
		if c.Expiry, err = card.ParseYYMM(parts[1]); err != nil {
			return nil, fmt.Errorf("card of operation %d: %w", op.ID, err)
		}
	}
	return c, nil
}

// cardBound ties a sealed card to its operation.
func cardBound(op *Operation) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(op.Merchant))
	b = binary.BigEndian.AppendUint64(b, uint64(op.Payment))
	return binary.BigEndian.AppendUint64(b, uint64(op.ID))
}

package terminal

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"

	"github.com/tillgate/tillgate/card"
	"github.com/tillgate/tillgate/payment"
)

// cardWire is a card on its way from the terminal to the server, which is the only way that it goes. It shows nothing of itself under any
// verb; its JSON is the wire itself, so it stays in this file: MakeAttempt writes it, reveal reads it.
type cardWire struct {
	PAN          string               `json:"pan,omitempty"`
	Expiry       string               `json:"expiry,omitempty"` // YYMM.
	Sequence     string               `json:"sequence,omitempty"`
	Entry        payment.EntryMode    `json:"entry"`
	Verification payment.Verification `json:"verification,omitempty"`
	Fallback     bool                 `json:"fallback,omitempty"`
	Track2       string               `json:"track2,omitempty"`
	Chip         string               `json:"chip,omitempty"`      // BER-TLV in hex.
	PINBlock     string               `json:"pin_block,omitempty"` // Under the terminal's PIN key.
	PINFormat    card.Format          `json:"pin_format,omitempty"`
}

// Format shows stars, whatever the verb.
func (cardWire) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("card(***)")) }

// LogValue shows stars.
func (cardWire) LogValue() slog.Value { return slog.StringValue("card(***)") }

// Format shows no card, whatever the verb.
func (c AttemptCall) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "attempt on payment %d with card(***)", c.Payment)
}

// MakeAttempt makes the call that brings a card. Of c.PIN only the block and its format go over the wire: keys are the server's business.
func MakeAttempt(order, as string, id payment.ID, c *payment.Card) AttemptCall {
	w := cardWire{PAN: c.PAN.Reveal(), Expiry: c.Expiry.YYMM(), Sequence: c.Sequence, Entry: c.Entry, Verification: c.Verification,
		Fallback: c.Fallback, Track2: c.Track2.Reveal(), Chip: hex.EncodeToString(c.Chip)}
	if c.PIN != nil {
		w.PINBlock, w.PINFormat = hex.EncodeToString(c.PIN.Block[:]), c.PIN.Format
	}
	return AttemptCall{Order: order, As: as, Payment: id, Card: w}
}

// errCardWire is any fault of a card on the wire; what was wrong with it is nobody's business.
var errCardWire = &payment.FieldError{Field: "card", Problem: "cannot be read"}

// reveal is the card as the core takes it, without the keys of its PIN.
func (w *cardWire) reveal() (*payment.Card, error) {
	c := &payment.Card{Sequence: w.Sequence, Entry: w.Entry, Verification: w.Verification, Fallback: w.Fallback}
	var err error
	if c.PAN, err = card.ParsePAN(w.PAN); err != nil {
		return nil, errCardWire
	}
	if w.Expiry != "" {
		if c.Expiry, err = card.ParseYYMM(w.Expiry); err != nil {
			return nil, errCardWire
		}
	}
	if w.Track2 != "" {
		if c.Track2, err = card.ParseTrack2(w.Track2); err != nil || !c.Track2.PAN().Equal(c.PAN) {
			return nil, errCardWire // A terminal that sends two cards at once is not to be believed.
		}
	}
	if c.Chip, err = hex.DecodeString(w.Chip); err != nil {
		return nil, errCardWire
	}
	switch w.Entry {
	case payment.EntryChip, payment.EntryContactlessChip, payment.EntryStripe, payment.EntryContactlessStripe, payment.EntryKeyed:
	default:
		return nil, errCardWire
	}
	if w.PINBlock != "" {
		block, err := hex.DecodeString(w.PINBlock)
		if err != nil || len(block) != len(payment.EncryptedPIN{}.Block) {
			return nil, errCardWire
		}
		c.PIN = &payment.EncryptedPIN{Block: [8]byte(block), Format: w.PINFormat}
	}
	return c, nil
}

// readAttempt reads an attempt, and wipes the bytes that it came in.
func readAttempt(body json.RawMessage) (AttemptCall, *payment.Card, error) {
	defer clear(body)
	var a AttemptCall
	if json.Unmarshal(body, &a) != nil {
		return a, nil, errCardWire
	}
	c, err := a.Card.reveal()
	a.Card = cardWire{}
	return a, c, err
}

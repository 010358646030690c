package device

import (
	"encoding/hex"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/tillgate/tillgate/emv"
	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/terminal"
)

// Bits of the terminal verification results that this terminal sets, as byte and mask (EMV book 3, C5).
var (
	tvrNoOfflineAuth = [2]byte{0, 0x80}
	tvrOnlinePIN     = [2]byte{2, 0x04}
	tvrFloorLimit    = [2]byte{3, 0x80} // Zero: every payment goes online.
	tvrIssuerAuth    = [2]byte{4, 0x40} // Failed.
)

// Bits of the transaction status information's first byte (C6).
const (
	tsiCardholder = 0x40
	tsiCardRisk   = 0x20
	tsiIssuerAuth = 0x10
	tsiTerminal   = 0x08
)

// The CVM results, tag 9F34: method, condition, result (book 4, A4). The result of an online PIN is not known here.
var (
	cvmOnlinePIN = [3]byte{0x02, 0x03, 0x00}
	cvmNone      = [3]byte{0x1F, 0x03, 0x02}
)

// contactlessLimit is the amount in minor units from which a tapped card needs a PIN. Schemes have their own for each country; this terminal
// has one.
const contactlessLimit = 250_00

// What this terminal is.
const (
	terminalType         = 0x22     // Attended, online with offline capability, merchant's.
	terminalCapabilities = "E0B0C8" // Keyed, stripe and chip; online PIN and signature; DDA and CDA.
	appVersion           = "008C"
	serialDigits         = 8
)

// countries is tag 9F1A by the currency of the payment: where the terminal stands follows from its merchant's money.
var countries = map[string]string{"AUD": "0036", "NZD": "0554", "SGD": "0702", "CNY": "0156", "CAD": "0124", "HKD": "0344", "USD": "0840", "EUR": "0276",
	"GBP": "0826"}

// Transaction is the terminal's part of what a chip signs.
type Transaction struct {
	amount   [6]byte
	other    [6]byte
	country  [2]byte
	tvr      [5]byte
	currency [2]byte
	date     [3]byte
	kind     byte
	un       [4]byte
	cvm      [3]byte
	tsi      [2]byte
	sequence int64
}

// cryptogramData is the terminal's data in the order in which cryptograms sign it.
func (t Transaction) cryptogramData() []byte {
	b := append([]byte(nil), t.amount[:]...)
	b = append(b, t.other[:]...)
	b = append(b, t.country[:]...)
	b = append(b, t.tvr[:]...)
	b = append(b, t.currency[:]...)
	b = append(b, t.date[:]...)
	b = append(b, t.kind)
	return append(b, t.un[:]...)
}

func (t *Transaction) verify(bit [2]byte) { t.tvr[bit[0]] |= bit[1] }

// bcd packs digits, two to the byte, with zeros in front.
func bcd(digits string, size int) []byte {
	b, err := hex.DecodeString(fmt.Sprintf("%0*s", 2*size, digits))
	if err != nil || len(b) != size {
		panic("device: " + digits + " does not fit") // Amounts and codes are bounded by the core.
	}
	return b
}

// newTransaction begins a purchase.
func newTransaction(amount money.Amount, now time.Time, sequence int64, random io.Reader) (Transaction, error) {
	t := Transaction{sequence: sequence}
	copy(t.amount[:], bcd(strconv.FormatInt(amount.Minor(), 10), len(t.amount)))
	country, ok := countries[amount.Currency().Code()]
	if !ok {
		country = "0000"
	}
	copy(t.country[:], bcd(country, len(t.country)))
	copy(t.currency[:], bcd(amount.Currency().Numeric(), len(t.currency)))
	copy(t.date[:], bcd(now.Format("060102"), len(t.date)))
	if _, err := io.ReadFull(random, t.un[:]); err != nil {
		return t, fmt.Errorf("unpredictable number: %w", err)
	}
	t.verify(tvrFloorLimit)
	return t, nil
}

// tags are what goes to the server of a chip and its cryptogram.
func (t Transaction) tags(app Application, c Cryptogram, serial string) []byte {
	capabilities, _ := hex.DecodeString(terminalCapabilities) // Constants.
	version, _ := hex.DecodeString(appVersion)
	list := emv.List{}.
		Append(0x50, []byte(app.Label)).
		Append(emv.TagCurrency, t.currency[:]).
		Append(emv.TagPSN, bcd(app.Sequence, 1)).
		Append(emv.TagAIP, app.AIP[:]).
		Append(emv.TagAID, app.AID).
		Append(emv.TagTVR, t.tvr[:]).
		Append(emv.TagDate, t.date[:]).
		Append(emv.TagTSI, t.tsi[:]).
		Append(emv.TagType, []byte{t.kind}).
		Append(emv.TagAmount, t.amount[:]).
		Append(emv.TagAmountOther, t.other[:]).
		Append(emv.TagAppVersion, version).
		Append(emv.TagIAD, c.IAD).
		Append(emv.TagCountry, t.country[:]).
		Append(emv.TagIFDSerial, []byte(serial)).
		Append(emv.TagCryptogram, c.Value[:]).
		Append(emv.TagCID, []byte{byte(c.Type)}).
		Append(emv.TagCapabilities, capabilities).
		Append(emv.TagCVMResults, t.cvm[:]).
		Append(emv.TagTerminalType, []byte{terminalType}).
		Append(emv.TagATC, c.ATC[:]).
		Append(emv.TagUN, t.un[:]).
		Append(emv.TagSequence, bcd(strconv.FormatInt(t.sequence%sequenceRoom, 10), 4))
	return list.Encode()
}

const sequenceRoom = 100_000_000 // Eight digits of 9F41.

// entry is a card at the terminal, from the reading to the receipt.
type entry struct {
	Presented
	app    Application
	tx     Transaction
	last   Cryptogram // The latest; of a stripe none.
	report terminal.Report
}

// needsPIN is the cardholder verification: the card's wish and the amount.
func (e *entry) needsPIN(amount money.Amount) bool {
	switch e.Entry {
	case payment.EntryChip:
		return e.app.CVM
	case payment.EntryContactlessChip:
		return amount.Minor() > contactlessLimit
	}
	code := e.Track2.ServiceCode() // Its third digit: 0, 3, 5, 6 and 7 want a PIN (ISO/IEC 7813).
	if len(code) != 3 {
		return false
	}
	switch code[2] {
	case '0', '3', '5', '6', '7':
		return true
	}
	return false
}

// begin reads what the card tells.
func begin(p Presented, amount money.Amount, now time.Time, sequence int64, random io.Reader) (*entry, error) {
	e := &entry{Presented: p, report: terminal.Report{Entry: p.Entry, Language: "en", At: now}}
	if p.Chip == nil {
		e.app.PAN, e.app.Expiry, e.app.Track2 = p.Track2.PAN(), p.Track2.Expiry(), p.Track2
	} else {
		e.app = p.Chip.Application()
		var err error
		if e.tx, err = newTransaction(amount, now, sequence, random); err != nil {
			return nil, err
		}
		e.report.Label, e.report.AID = e.app.Label, fmt.Sprintf("%X", e.app.AID)
		if e.app.Language != "" {
			e.report.Language = e.app.Language
		}
	}
	e.report.Scheme, e.report.Masked, e.report.Expiry = e.app.PAN.Scheme(), e.app.PAN.Masked(), e.app.Expiry
	return e, nil
}

// first asks the chip whether to go online, once it is known how the cardholder was verified. False: the chip declines by itself.
func (e *entry) first(pin bool) (bool, error) {
	if e.Chip == nil {
		return true, nil
	}
	e.tx.cvm = cvmNone
	if pin {
		e.tx.cvm = cvmOnlinePIN
		e.tx.verify(tvrOnlinePIN)
	}
	if e.Entry == payment.EntryChip { // Contactless kernels leave the status empty.
		e.tx.verify(tvrNoOfflineAuth)
		e.tx.tsi[0] = tsiCardholder | tsiCardRisk | tsiTerminal
	}
	return e.generate(ARQC)
}

// generate asks for a cryptogram and notes what it was. False: a lesser one came.
func (e *entry) generate(want CryptogramType) (bool, error) {
	c, err := e.Chip.Generate(want, e.tx)
	if err != nil {
		return false, err
	}
	e.last = c
	e.report.TVR, e.report.TSI, e.report.CVM = fmt.Sprintf("%X", e.tx.tvr), fmt.Sprintf("%X", e.tx.tsi), fmt.Sprintf("%X", e.tx.cvm)
	e.report.CryptogramType, e.report.Cryptogram = c.Type.String(), fmt.Sprintf("%X", c.Value)
	return c.Type == want, nil
}

// second gives the host's answer to the chip, which has the last word: false, it refuses. A card that was only held to the reader is gone by
// now, and the host's word is the last.
func (e *entry) second(approved bool, reply []byte) (bool, error) {
	if e.Entry != payment.EntryChip {
		return approved, nil
	}
	want := AAC
	if approved {
		want = TC
	}
	list, err := emv.Parse(reply)
	if err != nil {
		list = nil // Whatever it was, it authenticates nobody.
	}
	if issuer, ok := list.Find(emv.TagIssuerAuth); ok {
		e.tx.tsi[0] |= tsiIssuerAuth
		if !e.Chip.Authenticate(issuer) {
			e.tx.verify(tvrIssuerAuth)
		}
	}
	good, err := e.generate(want)
	return good && approved, err
}

// card is what the server gets.
func (e *entry) card(pin *payment.EncryptedPIN, serial string) *payment.Card {
	c := &payment.Card{PAN: e.app.PAN, Expiry: e.app.Expiry, Entry: e.Entry, Fallback: e.Fallback, Track2: e.app.Track2, PIN: pin}
	switch {
	case pin != nil:
		c.Verification = payment.VerifiedByPIN
	case e.Chip == nil:
		c.Verification = payment.VerifiedBySignature
	default:
		c.Verification = payment.NotVerified
	}
	if e.Chip != nil {
		c.Sequence = "0" + e.app.Sequence
		c.Chip = e.tx.tags(e.app, e.last, serial)
	}
	return c
}

package device

import (
	"context"
	"errors"
	"time"

	"github.com/tillgate/tillgate/card"
	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/receipt"
	"github.com/tillgate/tillgate/terminal"
)

// The ways in which parts end early. Beside them they return the cause of their context's end.
var (
	ErrCustomer = errors.New("the customer cancelled")
	ErrNoPINKey = errors.New("the PIN pad has no key")
)

// Parts are what a terminal is made of. All are needed.
type Parts struct {
	Reader  CardReader
	PINPad  PINPad
	Display Display
	Scanner Scanner
	Printer Printer
}

// CardReader reads stripes and chips.
type CardReader interface {
	// Read waits for a card: ErrCustomer when the customer presses cancel instead.
	Read(ctx context.Context) (Presented, error)
	// Release lets the card go.
	Release()
}

// Presented is a card that was read.
type Presented struct {
	Entry    payment.EntryMode
	Fallback bool        // The stripe of a card that has a chip.
	Track2   card.Track2 // Of a stripe.
	Chip     Chip        // Of a chip.
}

// PINPad is the only place where a PIN is in clear.
type PINPad interface {
	// LoadKey puts a PIN key of 48 hex digits into a slot, in place of the one before.
	LoadKey(slot string, key terminal.Secret) error
	// PIN waits until the customer has typed a PIN, and returns it encrypted under a slot's key: ErrCustomer, ErrNoPINKey.
	PIN(ctx context.Context, slot string, pan card.PAN, amount money.Amount) (*payment.EncryptedPIN, error)
}

// Display shows the terminal's screen to the customer.
type Display interface {
	Show(Screen)
	// Dismissed waits until the customer presses cancel, ErrCustomer, or ctx ends.
	Dismissed(ctx context.Context) error
}

// Scanner reads a customer's code.
type Scanner interface {
	// Scan waits for a code: ErrCustomer when somebody presses cancel.
	Scan(ctx context.Context, front bool) (payment.WalletCode, error)
}

// Printer prints receipts.
type Printer interface {
	// Print fails with a *PrinterError when the printer cannot.
	Print(ctx context.Context, d receipt.Document) error
}

// PrinterError is a printer that cannot print: "out of paper".
type PrinterError struct{ Problem string }

func (e *PrinterError) Error() string { return "printer: " + e.Problem }

// Unwrap is how the server hears of it.
func (e *PrinterError) Unwrap() error { return terminal.ErrPrinter }

// Mode is what a screen is about.
type Mode string

// The modes.
const (
	Idle       Mode = "idle"
	AskCard    Mode = "card"
	AskPIN     Mode = "pin"
	AskCode    Mode = "scan"
	ShowCode   Mode = "qr"
	Processing Mode = "processing"
	Approved   Mode = "approved"
	Declined   Mode = "declined"
	Unresolved Mode = "unknown" // The outcome is not known yet.
	Message    Mode = "message"
)

// Screen is what the display shows. It never holds card data.
type Screen struct {
	Mode   Mode      `json:"mode"`
	Title  string    `json:"title"`
	Text   string    `json:"text,omitempty"`
	Amount string    `json:"amount,omitempty"` // "HKD 10.10".
	QR     string    `json:"qr,omitempty"`     // Text of a code.
	Until  time.Time `json:"until,omitzero"`   // The customer's time.
}

// Chip is the chip of a card that is in the reader, or was held to it.
type Chip interface {
	// Application is what the chip tells when it is selected and read.
	Application() Application
	// Generate asks for a cryptogram (GENERATE AC). The chip may give a lesser one: it declines with an AAC.
	Generate(want CryptogramType, t Transaction) (Cryptogram, error)
	// Authenticate gives the issuer's answer, tag 91, to the chip: whether it is genuine.
	Authenticate(issuer []byte) bool
}

// Application is a chip's payment application.
type Application struct {
	AID      []byte
	Label    string
	Language string // Two letters; empty when the card has no wish.
	PAN      card.PAN
	Expiry   card.Expiry
	Sequence string // Two digits.
	Track2   card.Track2
	AIP      [2]byte
	CVM      bool // An online PIN is the first on its list; else nothing or a signature will do.
}

// CryptogramType is tag 9F27, its two highest bits.
type CryptogramType byte

// The types.
const (
	AAC  CryptogramType = 0x00 // Declined.
	TC   CryptogramType = 0x40 // Approved.
	ARQC CryptogramType = 0x80 // The issuer is to be asked.
)

// String is the type as receipts have it.
func (c CryptogramType) String() string {
	switch c {
	case TC:
		return "TC"
	case ARQC:
		return "ARQC"
	}
	return "AAC"
}

// Cryptogram is a chip's answer to GENERATE AC.
type Cryptogram struct {
	Type  CryptogramType
	ATC   [2]byte
	Value [8]byte
	IAD   []byte
}

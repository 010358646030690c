package terminal

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/tillgate/tillgate/card"
	"github.com/tillgate/tillgate/payment"
)

// The wire of the terminal channel: JSON texts over one WebSocket that the terminal opens. Both sides use the types below; the device's is
// package device. What belongs to one order carries its ID, and whoever has seen an ID never carries it out again.

// DeviceProtocol is what the registry calls the terminals of the channel.
const DeviceProtocol = "device"

// Paths below the channel's handler.
const (
	PathActivate = "/activate"
	PathConnect  = "/connect"
)

// FrameMax bounds a message in bytes: the largest is a receipt to print.
const FrameMax = 64 << 10

// Times that both sides count with.
const (
	// BeatEvery is how often a terminal says that it is there; what is silent for longer than Silence is gone, on either side.
	BeatEvery = 20 * time.Second
	Silence   = 50 * time.Second
	// Handshake bounds the opening of a line.
	Handshake = 5 * time.Second
	// Resume is how long an order outlives its line: a terminal that comes back within it goes on.
	Resume = 10 * time.Second
)

// FrameType is what a message is.
type FrameType string

// The frames.
const (
	FrameHello    FrameType = "hello"     // Each side's first; the server's has a nonce, the terminal's proves its key.
	FrameWelcome  FrameType = "welcome"   // The server proves its key, and says whose terminal it is.
	FrameOrder    FrameType = "order"     // Server to terminal.
	FrameAck      FrameType = "ack"       // The terminal has the order, or refuses it.
	FrameTakeBack FrameType = "take_back" // The order is void unless a card has been sent for it.
	FrameEnd      FrameType = "end"       // The terminal has done with an order.
	FrameEnded    FrameType = "ended"     // The server has heard of the end.
	FrameCall     FrameType = "call"      // Terminal to server.
	FrameAnswer   FrameType = "answer"    // To a call.
	FrameState    FrameType = "state"     // The terminal is busy, or free.
	FrameBeat     FrameType = "beat"      // Either side is there.
)

// Frame is one message. Its body may hold card data, so a Frame shows only its type, kind and ID.
type Frame struct {
	Type  FrameType       `json:"t"`
	Kind  string          `json:"kind,omitempty"`
	ID    string          `json:"id,omitempty"`
	Error *Fault          `json:"error,omitempty"`
	Body  json.RawMessage `json:"body,omitempty"`
}

// Format shows no body, whatever the verb.
func (f Frame) Format(s fmt.State, _ rune) { fmt.Fprintf(s, "%s %s %s", f.Type, f.Kind, f.ID) }

// LogValue shows no body.
func (f Frame) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(f)) }

// MakeFrame makes a frame with a body. The types of this file have no way to fail.
func MakeFrame(t FrameType, kind, id string, body any) Frame {
	f := Frame{Type: t, Kind: kind, ID: id}
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			panic("terminal: " + err.Error())
		}
		f.Body = b
	}
	return f
}

// Read reads a frame's body. Its error tells nothing of what was in it.
func (f Frame) Read(into any) error {
	if json.Unmarshal(f.Body, into) != nil {
		return fmt.Errorf("%s %s: body cannot be read: %w", f.Type, f.Kind, payment.ErrInvalid)
	}
	return nil
}

// ServerHello is the server's first message.
type ServerHello struct {
	Nonce string `json:"nonce"`
}

// DeviceHello is the terminal's answer: who it is, the proof, and what it has in hand.
type DeviceHello struct {
	Number string   `json:"number"`
	Nonce  string   `json:"nonce"`
	Proof  string   `json:"proof"`
	Busy   bool     `json:"busy"`
	Orders []string `json:"orders,omitempty"` // That it is carrying out, or whose end it still has to tell.
}

// Welcome ends the handshake.
type Welcome struct {
	Proof    string   `json:"proof"`
	Merchant string   `json:"merchant"` // Trading name.
	Store    string   `json:"store"`
	StoreID  string   `json:"store_id"`
	TID      string   `json:"tid"`
	Zone     string   `json:"zone"`
	Over     []string `json:"over,omitempty"` // Of its orders, those that nobody waits for any more.
}

// ActivateRequest asks for an identity.
type ActivateRequest struct {
	Code   string `json:"code"`
	Maker  string `json:"maker,omitempty"`
	Serial string `json:"serial,omitempty"`
	Model  string `json:"model,omitempty"`
	Name   string `json:"name,omitempty"`
}

// ActivateAnswer is the identity: its number and first key. The key is a secret.
type ActivateAnswer struct {
	Number   string `json:"number"`
	Key      string `json:"key"`
	Merchant string `json:"merchant"`
	Store    string `json:"store"`
}

// OrderKind is what an order asks of a terminal.
type OrderKind string

// The orders.
const (
	OrderSale   OrderKind = "sale"
	OrderRefund OrderKind = "refund"
	OrderPrint  OrderKind = "print"
	OrderQR     OrderKind = "show_qr"
	OrderKeys   OrderKind = "refresh_keys"
	OrderPing   OrderKind = "ping"
)

// SaleOrder asks to take a card for a payment that is stored and open.
type SaleOrder struct {
	Payment   payment.ID    `json:"payment"`
	Number    string        `json:"number"`
	Reference string        `json:"reference"` // The till's own number of it.
	Minor     int64         `json:"minor"`     // Tip included.
	Tip       int64         `json:"tip,omitempty"`
	Currency  string        `json:"currency"`
	Limit     time.Duration `json:"limit"` // For the customer to present a card.
}

// RefundOrder asks to give a part of a captured payment back, and to print the receipt.
type RefundOrder struct {
	Payment  payment.ID `json:"payment"`
	Minor    int64      `json:"minor"`
	Currency string     `json:"currency"`
}

// PrintOrder asks to print the receipt of a payment once more, or plain lines.
type PrintOrder struct {
	Payment payment.ID `json:"payment,omitempty"`
	Lines   []string   `json:"lines,omitempty"`
}

// QROrder asks to show a code to the customer until the order is taken back or its time is over.
type QROrder struct {
	Text     string        `json:"text"`
	Minor    int64         `json:"minor"`
	Currency string        `json:"currency"`
	Limit    time.Duration `json:"limit"`
}

// Report is what a terminal tells of an order that it has done with. Everything may be empty: only what is known is told. It shows nothing
// of itself under any verb.
type Report struct {
	// Ended says why the terminal ended the order without asking the host: ReasonCustomerCancelled, ReasonExpired when no card came, or why
	// the chip declined by itself. Empty when the host was asked.
	Ended payment.Reason `json:"ended,omitempty"`

	Scheme card.Scheme       `json:"scheme,omitempty"`
	Masked string            `json:"masked,omitempty"` // First six and last four digits, or fewer.
	Entry  payment.EntryMode `json:"entry,omitempty"`
	Expiry card.Expiry       `json:"expiry,omitzero"`

	Label   string `json:"label,omitempty"` // Tag 50.
	AID     string `json:"aid,omitempty"`   // Tag 84, hexadecimal as all tags here.
	TVR     string `json:"tvr,omitempty"`   // Tag 95.
	TSI     string `json:"tsi,omitempty"`   // Tag 9B.
	CVM     string `json:"cvm,omitempty"`   // Tag 9F34.
	Account string `json:"account,omitempty"`
	// CryptogramType is TC, ARQC or AAC.
	CryptogramType string `json:"cryptogram_type,omitempty"`
	Cryptogram     string `json:"cryptogram,omitempty"` // Tag 9F26.

	Language string    `json:"language,omitempty"` // The cardholder's: "en", "fr".
	Invoice  string    `json:"invoice,omitempty"`  // The terminal's invoice number, six digits.
	Sequence string    `json:"sequence,omitempty"` // The terminal's sequence number, twelve digits.
	Batch    string    `json:"batch,omitempty"`    // Four digits.
	At       time.Time `json:"at,omitzero"`        // The terminal's own clock, in its own zone.
}

// Format shows stars, whatever the verb.
func (Report) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("report(***)")) }

// String shows stars.
func (Report) String() string { return "report(***)" }

// LogValue shows stars.
func (Report) LogValue() slog.Value { return slog.StringValue("report(***)") }

// CallKind is what a terminal asks of the server.
type CallKind string

// The calls.
const (
	CallSell     CallKind = "sell"     // A payment of its own: a code, a QR, or a card that is still to come.
	CallAttempt  CallKind = "attempt"  // A card for an open payment.
	CallRefuse   CallKind = "refuse"   // The card refused what the host approved.
	CallAwait    CallKind = "await"    // What became of a payment.
	CallFind     CallKind = "find"     // A payment or refund by either number.
	CallRefund   CallKind = "refund"   // Gives money back.
	CallCancel   CallKind = "cancel"   // Gives a payment up.
	CallSummary  CallKind = "summary"  // The business day by method.
	CallPINKey   CallKind = "pin_key"  // A fresh PIN key.
	CallSettings CallKind = "settings" // Of another protocol that the terminal speaks: its key and switches.
	CallKey      CallKind = "key"      // A fresh key of the terminal's own.
)

// SellCall asks for a payment of the terminal's own.
type SellCall struct {
	As        string        `json:"as"`  // The protocol under which it is asked for: the terminal has an identity in it.
	Key       string        `json:"key"` // What makes a repeat a repeat; empty lets the call's own ID be it.
	Minor     int64         `json:"minor"`
	Currency  string        `json:"currency"`
	Method    string        `json:"method"`
	Flow      payment.Flow  `json:"flow"`
	Code      string        `json:"code,omitempty"` // The customer's, of ByCode.
	Reference string        `json:"reference,omitempty"`
	Lifetime  time.Duration `json:"lifetime"`
	Wait      time.Duration `json:"wait,omitempty"`
	Echo      string        `json:"echo,omitempty"` // Comes back with the payment; never card data.
}

// AttemptCall brings a card. Its body is made by MakeAttempt only, and shows nothing of itself.
type AttemptCall struct {
	Order   string     `json:"order,omitempty"` // The order that it belongs to; empty for a payment of the terminal's own.
	As      string     `json:"as,omitempty"`    // Of a payment of its own: the protocol.
	Payment payment.ID `json:"payment"`
	Card    cardWire   `json:"card"`
}

// RefuseCall says that the card refused.
type RefuseCall struct {
	Order   string     `json:"order,omitempty"`
	As      string     `json:"as,omitempty"`
	Payment payment.ID `json:"payment"`
}

// AwaitCall asks for a payment, or a refund, and waits until it is decided.
type AwaitCall struct {
	As      string        `json:"as,omitempty"`
	Payment payment.ID    `json:"payment"`
	Refund  payment.ID    `json:"refund,omitempty"`
	Wait    time.Duration `json:"wait,omitempty"`
}

// FindCall names a payment or refund by our number or the caller's key; with both, the number decides.
type FindCall struct {
	As     string `json:"as"`
	Number string `json:"number,omitempty"`
	Key    string `json:"key,omitempty"`
}

// RefundCall gives money back.
type RefundCall struct {
	Order    string        `json:"order,omitempty"` // The order that asks for it; empty for a refund of the terminal's own.
	As       string        `json:"as,omitempty"`
	Key      string        `json:"-"` // The server makes it.
	Payment  payment.ID    `json:"payment"`
	Minor    int64         `json:"minor"`
	Currency string        `json:"currency"`
	Wait     time.Duration `json:"wait,omitempty"`
}

// CancelCall gives a payment of the terminal's own up.
type CancelCall struct {
	As      string         `json:"as"`
	Payment payment.ID     `json:"payment"`
	Reason  payment.Reason `json:"reason,omitempty"`
}

// SummaryCall asks what the current business day has come to.
type SummaryCall struct {
	As string `json:"as"`
}

// SummaryAnswer is a business day by method and flow, of the terminal's store.
type SummaryAnswer struct {
	Day    payment.Day  `json:"day"`
	Totals []SummaryRow `json:"totals"`
}

// SummaryRow is a part of a SummaryAnswer. Sums are minor units.
type SummaryRow struct {
	Method       string       `json:"method"`
	Scheme       card.Scheme  `json:"scheme,omitempty"` // Of cards.
	Flow         payment.Flow `json:"flow"`
	Currency     string       `json:"currency"`
	Sales        int          `json:"sales"`
	SalesMinor   int64        `json:"sales_minor"`
	Refunds      int          `json:"refunds"`
	RefundsMinor int64        `json:"refunds_minor"`
	Open         int          `json:"open"` // Without an outcome.
	OpenMinor    int64        `json:"open_minor"`
}

// SealedCall asks for a secret, which comes under a key that both sides derive from the terminal's and this salt.
type SealedCall struct {
	As   string `json:"as,omitempty"`
	Salt string `json:"salt"` // 32 hex digits, fresh.
}

// SealedAnswer is a secret.
type SealedAnswer struct {
	Envelope string    `json:"envelope"` // Base64 of nonce, AES-256-GCM of the text, tag.
	Last     string    `json:"last,omitempty"`
	Expires  time.Time `json:"expires,omitzero"`
	Settings Settings  `json:"settings,omitzero"` // With the answer to CallSettings.
}

// Settings are what the portal has set for a terminal in a protocol that it serves itself.
type Settings struct {
	Number     string `json:"number,omitempty"`     // What it is called there.
	Encryption string `json:"encryption,omitempty"` // As the protocol words it; empty is its default.
	Reply      string `json:"reply,omitempty"`
	Address    string `json:"address,omitempty"`
	Operator   string `json:"operator,omitempty"`
}

// PaymentView is a payment, or a refund of it, as terminals see it.
type PaymentView struct {
	ID        payment.ID      `json:"id"`
	Refund    payment.ID      `json:"refund,omitempty"` // The operation, when this is a refund.
	Number    string          `json:"number"`
	Original  string          `json:"original,omitempty"` // Of a refund: the payment's number.
	Key       string          `json:"key"`
	Reference string          `json:"reference,omitempty"`
	Protocol  string          `json:"protocol"`
	Minor     int64           `json:"minor"`
	Whole     int64           `json:"whole,omitempty"` // Of a refund: the payment's amount.
	Tip       int64           `json:"tip,omitempty"`
	Currency  string          `json:"currency"`
	Method    string          `json:"method"`
	Flow      payment.Flow    `json:"flow"`
	Outcome   payment.Outcome `json:"outcome"`
	Attempted bool            `json:"attempted"` // The host, or the wallet, was asked.
	Reason    payment.Reason  `json:"reason,omitempty"`
	Text      string          `json:"text,omitempty"`
	Refunded  int64           `json:"refunded,omitempty"`
	Left      int64           `json:"left,omitempty"`
	Voided    bool            `json:"voided,omitempty"`
	CreatedAt time.Time       `json:"created_at"`
	PaidAt    time.Time       `json:"paid_at,omitzero"`
	Day       payment.Day     `json:"day,omitempty"`
	ExpiresAt time.Time       `json:"expires_at,omitzero"`

	RRN       string            `json:"rrn,omitempty"` // The number under which the acquirer has it.
	Code      string            `json:"code,omitempty"`
	AuthCode  string            `json:"auth_code,omitempty"`
	Provider  string            `json:"provider,omitempty"` // The acquirer's own number.
	QR        string            `json:"qr,omitempty"`
	Masked    string            `json:"masked,omitempty"`
	Scheme    card.Scheme       `json:"scheme,omitempty"`
	Entry     payment.EntryMode `json:"entry,omitempty"`
	PINPad    bool              `json:"pin_pad,omitempty"`
	Echo      string            `json:"echo,omitempty"`
	ChipReply string            `json:"chip_reply,omitempty"` // BER-TLV in hex, for the chip that waits; in no other answer.
}

// Format shows no chip data, whatever the verb.
func (v PaymentView) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "payment %d %s %s", v.ID, v.Outcome, v.Reason)
}

// Fault is an error on the wire: a code of the table below, and a text for people.
type Fault struct {
	Code string `json:"code"`
	Text string `json:"text,omitempty"`
}

// The channel's own errors. They wrap sentinels of the core, as the registry's do.
var (
	// ErrAbsent says that a terminal is not connected: nothing was asked of anybody.
	ErrAbsent error = wrapped{"the terminal is not connected", payment.ErrUnavailable}
	// ErrBusy says that a terminal has another order in hand: nothing was asked of anybody.
	ErrBusy error = wrapped{"the terminal is busy with another order", payment.ErrConflict}
	// ErrLost says that the line to the terminal broke, and it did not come back in time.
	ErrLost error = wrapped{"the line to the terminal broke", payment.ErrUnavailable}
	// ErrTooLate says that a card has been sent for the order: it cannot be taken back.
	ErrTooLate error = wrapped{"a card has been sent already", payment.ErrConflict}
	// ErrPrinter says that the terminal's printer cannot print.
	ErrPrinter error = wrapped{"the printer cannot print", payment.ErrUnavailable}
	// ErrOver says that nobody waits for an order any more, or that it never was this terminal's.
	ErrOver error = wrapped{"the order is over", payment.ErrConflict}
)

// faults is the one table between errors and codes, walked in its order in both directions: narrow errors stand before those that they wrap.
var faults = []struct {
	code string
	err  error
}{
	{"absent", ErrAbsent},
	{"busy", ErrBusy},
	{"lost", ErrLost},
	{"too_late", ErrTooLate},
	{"over", ErrOver},
	{"printer", ErrPrinter},
	{"disabled", ErrDisabled},
	{"window", payment.ErrWindow},
	{"not_found", payment.ErrNotFound},
	{"invalid", payment.ErrInvalid},
	{"key_reused", payment.ErrKeyReused},
	{"key_busy", payment.ErrKeyBusy},
	{"not_paid", payment.ErrNotPaid},
	{"exceeds", payment.ErrExceeds},
	{"wrong_kind", payment.ErrWrongKind},
	{"method", payment.ErrMethod},
	{"currency", payment.ErrCurrency},
	{"unauthorized", payment.ErrUnauthorized},
	{"forbidden", payment.ErrForbidden},
	{"unavailable", payment.ErrUnavailable},
	{"conflict", payment.ErrConflict},
}

const faultInternal = "internal"

// faultOf words an error. What the table lacks is told by its code alone: the log has the rest.
func faultOf(err error) (f *Fault, known bool) {
	var field *payment.FieldError
	if errors.As(err, &field) {
		return &Fault{"invalid", field.Error()}, true
	}
	for _, row := range faults {
		if errors.Is(err, row.err) {
			return &Fault{row.code, row.err.Error()}, true
		}
	}
	return &Fault{faultInternal, ""}, false
}

// MakeFault words an error for the wire; nil for none.
func MakeFault(err error) *Fault {
	if err == nil {
		return nil
	}
	f, _ := faultOf(err)
	return f
}

// Err is the fault as an error, which wraps the sentinel that its code stands for.
func (f *Fault) Err() error {
	if f == nil {
		return nil
	}
	for _, row := range faults {
		if row.code == f.Code {
			if f.Text == "" || f.Text == row.err.Error() {
				return row.err
			}
			return wrapped{f.Text, row.err}
		}
	}
	return fmt.Errorf("the other side failed: %s", f.Code)
}

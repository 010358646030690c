package device

import (
	"context"
	"crypto/des"
	"encoding/hex"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tillgate/tillgate/card"
	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/receipt"
	"github.com/tillgate/tillgate/terminal"
)

// papersMax is how many receipts a Virtual keeps.
const papersMax = 50

// Virtual is all parts of a terminal in memory: whoever plays the customer shows cards to it, types and scans. Make one with NewVirtual. Its
// methods may be called concurrently.
type Virtual struct {
	// Columns is how wide its printer's paper is.
	Columns int
	cards   []Card
	now     func() time.Time
	random  io.Reader
	atc     counters

	mu      sync.Mutex
	keys    map[string]func() []byte // PIN keys by slot; hidden from printers.
	screen  Screen
	version int
	changed chan struct{} // Closed, and made anew, with every change.
	typed   int           // Digits of the PIN so far, for the stars on the screen.
	papers  []Paper
	jam     string // Why the printer cannot print; empty when it can.
	asked   what   // What is waited for.
	events  chan event
	waiting context.Context
}

// Paper is a printed receipt.
type Paper struct {
	Number  int    `json:"number"` // Counts from 1.
	Text    string `json:"text"`
	Printer []byte `json:"-"` // As ESC/POS.
}

// what is something that a customer does.
type what int

const (
	nothing what = iota
	presents
	typesPIN
	scans
	dismisses
)

// event is what a customer has done.
type event struct {
	kind what
	card Presented
	pin  card.PIN
	code payment.WalletCode
	err  error
}

var (
	_ CardReader = (*Virtual)(nil)
	_ PINPad     = (*Virtual)(nil)
	_ Display    = (*Virtual)(nil)
	_ Scanner    = (*Virtual)(nil)
	_ Printer    = (*Virtual)(nil)
)

// NewVirtual makes a terminal's parts, with the cards that its customers have.
func NewVirtual(cards []Card, columns int, now func() time.Time, random io.Reader) *Virtual {
	return &Virtual{Columns: columns, cards: slices.Clone(cards), now: now, random: random, keys: map[string]func() []byte{}, changed: make(chan struct{}),
		events: make(chan event)}
}

// Parts are what a Terminal wants.
func (v *Virtual) Parts() Parts { return Parts{v, v, v, v, v} }

// Cards are those that its customers have.
func (v *Virtual) Cards() []Card { return v.cards }

// Snapshot is what can be seen of it, and a channel that is closed when that changes.
type Snapshot struct {
	Screen  Screen  `json:"screen"`
	Typed   int     `json:"typed"`
	Papers  []Paper `json:"papers"`
	Version int     `json:"version"`
}

// See tells what can be seen.
func (v *Virtual) See() (Snapshot, <-chan struct{}) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return Snapshot{v.screen, v.typed, slices.Clone(v.papers), v.version}, v.changed
}

// change changes what can be seen.
func (v *Virtual) change(fn func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	fn()
	v.version++
	close(v.changed)
	v.changed = make(chan struct{})
}

// Show shows a screen.
func (v *Virtual) Show(s Screen) { v.change(func() { v.screen, v.typed = s, 0 }) }

// wait waits until the customer does something, or presses cancel.
func (v *Virtual) wait(ctx context.Context, kind what) (event, error) {
	v.mu.Lock()
	v.asked, v.waiting = kind, ctx
	v.mu.Unlock()
	defer func() {
		v.mu.Lock()
		v.asked, v.waiting = nothing, nil
		v.mu.Unlock()
	}()
	select {
	case e := <-v.events:
		return e, e.err
	case <-ctx.Done():
		return event{}, context.Cause(ctx)
	}
}

// does hands what the customer does to whoever waits for it. False: nobody does.
func (v *Virtual) does(e event) bool {
	v.mu.Lock()
	asked, ctx := v.asked, v.waiting
	v.mu.Unlock()
	if asked == nothing || e.kind != asked && e.err == nil {
		return false
	}
	select {
	case v.events <- e:
		return true
	case <-ctx.Done():
		return false
	}
}

// Read waits for a card.
func (v *Virtual) Read(ctx context.Context) (Presented, error) {
	e, err := v.wait(ctx, presents)
	return e.card, err
}

// Release lets the card go: a virtual one is nowhere.
func (v *Virtual) Release() {}

// Present taps, inserts or swipes a card. False: no card is asked for.
func (v *Virtual) Present(c Card, entry payment.EntryMode) bool {
	v.mu.Lock()
	asked := v.asked
	v.mu.Unlock()
	if asked != presents {
		return false // Nor does the chip count it.
	}
	p, err := c.present(entry, v.atc.of(c.PAN, v.now()))
	return v.does(event{kind: presents, card: p, err: err})
}

// LoadKey puts a PIN key into a slot.
func (v *Virtual) LoadKey(slot string, key terminal.Secret) error {
	raw, err := hex.DecodeString(key.Reveal())
	if err != nil {
		return ErrNoPINKey
	}
	if _, err := des.NewTripleDESCipher(raw); err != nil {
		return ErrNoPINKey
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.keys[slot] = func() []byte { return raw }
	return nil
}

// PIN waits for a PIN and encrypts it: ISO format 0 under the slot's key.
func (v *Virtual) PIN(ctx context.Context, slot string, pan card.PAN, _ money.Amount) (*payment.EncryptedPIN, error) {
	v.mu.Lock()
	key := v.keys[slot]
	v.mu.Unlock()
	if key == nil {
		return nil, ErrNoPINKey
	}
	e, err := v.wait(ctx, typesPIN)
	if err != nil {
		return nil, err
	}
	defer e.pin.Wipe()
	block, err := card.EncodePINBlock(card.Format0, e.pin, pan, v.random)
	if err != nil {
		return nil, err
	}
	cipher, err := des.NewTripleDESCipher(key())
	if err != nil {
		return nil, ErrNoPINKey
	}
	cipher.Encrypt(block[:], block[:])
	return &payment.EncryptedPIN{Block: block, Format: card.Format0}, nil
}

// Digits shows how many digits of the PIN have been typed.
func (v *Virtual) Digits(n int) { v.change(func() { v.typed = n }) }

// TypePIN types a PIN and OK. False: no PIN is asked for, or it is none.
func (v *Virtual) TypePIN(digits string) bool {
	pin, err := card.ParsePIN(digits)
	return err == nil && v.does(event{kind: typesPIN, pin: pin})
}

// Scan waits for a code.
func (v *Virtual) Scan(ctx context.Context, _ bool) (payment.WalletCode, error) {
	e, err := v.wait(ctx, scans)
	return e.code, err
}

// ShowToScanner holds a code to the scanner. False: none is asked for.
func (v *Virtual) ShowToScanner(code string) bool {
	return code != "" && v.does(event{kind: scans, code: payment.WalletCode(code)})
}

// Dismissed waits until cancel is pressed.
func (v *Virtual) Dismissed(ctx context.Context) error {
	_, err := v.wait(ctx, dismisses)
	return err
}

// Cancel presses the red key. False: nothing can be cancelled.
func (v *Virtual) Cancel() bool { return v.does(event{err: ErrCustomer}) }

// Jam takes the paper out, or puts it back with an empty problem.
func (v *Virtual) Jam(problem string) { v.change(func() { v.jam = problem }) }

// Print prints.
func (v *Virtual) Print(_ context.Context, d receipt.Document) error {
	var err error
	v.change(func() {
		if v.jam != "" {
			err = &PrinterError{v.jam}
			return
		}
		n := 1
		if len(v.papers) > 0 {
			n = v.papers[len(v.papers)-1].Number + 1
		}
		v.papers = append(v.papers, Paper{n, d.Text(v.Columns), d.ESCPOS(v.Columns)})
		if len(v.papers) > papersMax {
			v.papers = v.papers[1:]
		}
	})
	return err
}

// Await waits until the screen is in a mode, and returns what can be seen then.
func (v *Virtual) Await(ctx context.Context, modes ...Mode) (Snapshot, error) {
	for {
		s, changed := v.See()
		if slices.Contains(modes, s.Screen.Mode) {
			return s, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return s, ctx.Err()
		}
	}
}

// Card finds a card by its behaviour, or by the end of its number; the first that fits.
func (v *Virtual) Card(name string) (Card, bool) {
	for _, c := range v.cards {
		if name != "" && (c.Behaviour == name || strings.HasSuffix(c.PAN, name)) {
			return c, true
		}
	}
	return Card{}, false
}

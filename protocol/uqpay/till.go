package uqpay

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/tillgate/tillgate/card"
	"github.com/tillgate/tillgate/emv"
	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
)

// pinKeyMargin is how long before its end a terminal's PIN key is replaced.
const pinKeyMargin = 5 * time.Minute

// Till is a terminal that has been registered: it knows its number, keeps its PIN key fresh, counts its STANs and takes cards. It is safe for
// concurrent use, and must not be copied.
type Till struct {
	Client *Client
	ID     string // The terminal's number.
	Mobile bool

	mu      sync.Mutex
	aesKey  [32]byte
	pinKey  []byte
	expires time.Time
	stan    int
}

// String is the terminal's number.
func (t *Till) String() string { return "terminal " + t.ID }

// Format shows the terminal's number, whatever the verb.
func (t *Till) Format(f fmt.State, _ rune) { fmt.Fprint(f, t.String()) }

// LogValue is the terminal's number.
func (t *Till) LogValue() slog.Value { return slog.StringValue(t.String()) }

// Enrol registers a device, or finds its registration, and gets its first PIN key.
func (c *Client) Enrol(ctx context.Context, r RegisterRequest) (*Till, error) {
	registered, err := c.Register(ctx, r)
	if err != nil {
		return nil, err
	}
	t := &Till{Client: c, ID: registered.TerminalID}
	// A till that is started again must not repeat STANs of the day: it goes on from the time of day.
	at := c.now().In(zone)
	t.stan = 10*(at.Hour()*3600+at.Minute()*60+at.Second()) + at.Nanosecond()/1e8
	return t, t.Refresh(ctx)
}

// Refresh gets a new PIN key under a fresh AES key.
func (t *Till) Refresh(ctx context.Context) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.refresh(ctx)
}

func (t *Till) refresh(ctx context.Context) error {
	if err := t.Client.random(t.aesKey[:]); err != nil {
		return err
	}
	key, expires, err := t.Client.PINKey(ctx, t.ID, t.aesKey[:])
	if err != nil {
		return err
	}
	clear(t.pinKey)
	t.pinKey, t.expires = key, expires
	return nil
}

// stansOfDay is how many STANs six digits hold.
const stansOfDay = 1_000_000

// NextSTAN is the STAN of the next transaction.
func (t *Till) NextSTAN() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stan = (t.stan + 1) % stansOfDay
	return fmt.Sprintf("%06d", t.stan)
}

// Reading is a card as the terminal has read it. It shows nothing of itself.
type Reading struct {
	PAN          card.PAN
	Expiry       card.Expiry
	Entry        payment.EntryMode
	Chip         emv.Data
	Track1       card.Track1
	Track2       card.Track2
	PIN          card.PIN             // Zero for a card without one.
	Verification payment.Verification // Empty is online PIN with a PIN, and none without.
	Fallback     bool
}

// Format shows stars, whatever the verb.
func (Reading) Format(f fmt.State, _ rune) { fmt.Fprint(f, "card(***)") }

// LogValue shows stars.
func (Reading) LogValue() slog.Value { return slog.StringValue("card(***)") }

// MarshalText shows stars.
func (Reading) MarshalText() ([]byte, error) { return []byte("card(***)"), nil }

// Present makes a card_present of a reading: with the next STAN, and the PIN encrypted under the terminal's PIN key, which is replaced first when
// it is about to end.
func (t *Till) Present(ctx context.Context, r Reading) (CardPresent, error) {
	p := CardPresent{PAN: r.PAN, Expiry: r.Expiry, Entry: r.Entry, Verification: r.Verification, TerminalID: t.ID, MobileDevice: t.Mobile,
		EmbeddedReader: t.Mobile, Fallback: r.Fallback, Chip: r.Chip, Track1: r.Track1, Track2: r.Track2, STAN: t.NextSTAN()}
	if r.PIN.IsZero() {
		return p, nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.Client.now().Before(t.expires.Add(-pinKeyMargin)) {
		if err := t.refresh(ctx); err != nil {
			return p, err
		}
	}
	block, err := MakePINBlock(t.pinKey, r.PIN, r.PAN)
	if err != nil {
		return p, err
	}
	p.PINBlock = &block
	if p.Verification == "" {
		p.Verification = payment.VerifiedByPIN
	}
	return p, nil
}

// Order is what a customer is to pay.
type Order struct {
	Amount      money.Amount
	ID          string // At most 36 characters.
	Description string // At most 32 characters.
	Metadata    map[string]string
}

// Sale takes a payment: the card's data in, the intent with its attempt out. A decline is no error.
func (t *Till) Sale(ctx context.Context, o Order, r Reading) (*Intent, error) {
	p, err := t.Present(ctx, r)
	if err != nil {
		return nil, err
	}
	return t.Client.CreateIntent(ctx, IntentRequest{Amount: o.Amount.Trimmed(), Currency: o.Amount.Currency().Code(), OrderID: o.ID, Description: o.Description,
		Metadata: o.Metadata, Card: &p})
}

// Again makes another attempt on an intent whose last one was declined.
func (t *Till) Again(ctx context.Context, intentID string, r Reading) (*Intent, error) {
	p, err := t.Present(ctx, r)
	if err != nil {
		return nil, err
	}
	return t.Client.Confirm(ctx, intentID, p)
}

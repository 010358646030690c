package terminal

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"sync"
	"time"

	"github.com/tillgate/tillgate/payment"
)

const (
	// codeDigits is the length of an activation code, as the provider's are (Upay reference, section 1.1). A code is no strong secret: whoever
	// activates with it must be a known vendor too, a code is ended by its uses and its time, and wrong ones are logged.
	codeDigits = 8
	codeCount  = 100_000_000
	// guessWindow is how often wrong codes are told of in the log.
	guessWindow = 10 * time.Second
)

// NewCode makes an activation code for a store and returns its text. The store keeps a keyed hash, by which it is found, and the text under
// the vault's key, so that operators can list the codes and a stolen database gives none away: with a plain hash eight digits would be
// guessed in a second.
func (r *Registry) NewCode(ctx context.Context, c Code) (string, error) {
	switch {
	case c.Uses < 0:
		return "", &payment.FieldError{Field: "uses", Problem: fmt.Sprintf("%d: want 0 for unlimited, or more", c.Uses)}
	case c.Protocol == "":
		return "", &payment.FieldError{Field: "protocol", Problem: "is empty"}
	case !printable(c.App):
		return "", &payment.FieldError{Field: "app", Problem: fmt.Sprintf("want at most %d printable characters", fieldMax)}
	}
	c.CreatedAt = r.now()
	c.Used = 0
	for range raceTries {
		n, err := rand.Int(r.cfg.Rand, big.NewInt(codeCount))
		if err != nil {
			return "", fmt.Errorf("activation code: %w", err)
		}
		c.Text = fmt.Sprintf("%0*d", codeDigits, n)
		if c.ID, err = r.cfg.Store.Block(ctx, 1); err != nil {
			return "", fmt.Errorf("activation code: %w", err)
		}
		if c.Sealed, err = r.cfg.Vault.Seal(purposeCode, []byte(c.Text), codeBound(c)); err != nil {
			return "", fmt.Errorf("activation code: %w", err)
		}
		err = r.cfg.Store.AddCode(ctx, c, r.codeHash(c.Protocol, c.Text))
		if errors.Is(err, ErrNumber) { // It is there already.
			continue
		}
		if err != nil {
			return "", fmt.Errorf("activation code of merchant %d: %w", c.Merchant, err)
		}
		return c.Text, nil
	}
	return "", errStale
}

// Codes lists a merchant's activation codes with their texts in the order of their IDs, those after the given one, 1000 at most.
func (r *Registry) Codes(ctx context.Context, merchant payment.MerchantID, after payment.ID, limit int) ([]Code, error) {
	codes, err := r.cfg.Store.Codes(ctx, merchant, after, limit)
	if err != nil {
		return nil, err
	}
	for i := range codes {
		text, err := r.cfg.Vault.Unseal(purposeCode, codes[i].Sealed, codeBound(codes[i]))
		if err != nil {
			return nil, fmt.Errorf("activation code %d of merchant %d: %w", codes[i].ID, merchant, err)
		}
		codes[i].Text = string(text)
	}
	return codes, nil
}

// EndCode lets an activation code expire now. What was activated with it stays.
func (r *Registry) EndCode(ctx context.Context, merchant payment.MerchantID, id payment.ID) error {
	return r.cfg.Store.EndCode(ctx, merchant, id, r.now())
}

// codeHash is the form in which a code is looked up.
func (r *Registry) codeHash(protocol, text string) []byte {
	return r.cfg.Vault.MAC(purposeCode, []byte(protocol+"\x00"+text))
}

// codeBound ties a sealed code to its row.
func codeBound(c Code) []byte {
	return keyBound(Identity{Merchant: c.Merchant, Terminal: c.ID, Protocol: c.Protocol})
}

// usable says why a code cannot be used.
func (c *Code) usable(now time.Time) error {
	switch {
	case !c.Expires.IsZero() && !now.Before(c.Expires):
		return &CodeError{CodeExpired}
	case c.Uses > 0 && c.Used >= c.Uses:
		return &CodeError{CodeUsedUp}
	}
	return nil
}

// guesses counts wrong activation codes and tells of them now and then: one is a mistake, many are somebody who tries.
type guesses struct {
	mu    sync.Mutex
	since time.Time
	count int
}

func (g *guesses) wrong(log *slog.Logger, now time.Time, a Activation) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.count++
	if !g.since.IsZero() && now.Sub(g.since) < guessWindow {
		return
	}
	log.Warn("wrong activation codes", "protocol", a.Protocol, "vendor", a.Vendor, "count", g.count, "since", g.since)
	g.since, g.count = now, 0
}

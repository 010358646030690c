package terminal

import (
	"context"
	"fmt"
	"time"
)

const (
	// pinKeysMax bounds the PIN keys of one terminal that live at once: a caller that asks for ever new ones must not fill the store, and each
	// is tried on a PIN block.
	pinKeysMax = 8
	// pinCacheLife is how long PIN keys are remembered where no other process adds any.
	pinCacheLife = time.Minute
)

// AddPINKey stores a PIN key that the vault has sealed. A terminal's eight newest are kept, until they expire.
func (r *Registry) AddPINKey(ctx context.Context, e Entry, sealed []byte, expires time.Time) error {
	err := r.cfg.Store.AddPINKey(ctx, e.Identity, PINKey{Sealed: sealed, Expires: expires}, r.now(), pinKeysMax)
	r.pins.drop(e.ID)
	if err != nil {
		return fmt.Errorf("PIN key of terminal %s of %s: %w", e.Number, e.Protocol, err)
	}
	return nil
}

// PINKeys are a terminal's sealed PIN keys that have not expired, the newest first. In the steady state they cost no query, unless other
// processes may have added some: a wrong guess would cost the customer a PIN try.
func (r *Registry) PINKeys(ctx context.Context, e Entry) ([][]byte, error) {
	now := r.now()
	keys, seen, ok := r.pins.get(e.ID, now)
	if !ok {
		var err error
		if keys, err = r.cfg.Store.PINKeys(ctx, e.Merchant, e.ID, now); err != nil {
			return nil, fmt.Errorf("PIN keys of terminal %s of %s: %w", e.Number, e.Protocol, err)
		}
		if !r.cfg.Shared {
			r.pins.put(e.ID, keys, now.Add(pinCacheLife), seen)
		}
	}
	var sealed [][]byte
	for _, k := range keys {
		if now.Before(k.Expires) {
			sealed = append(sealed, k.Sealed)
		}
	}
	return sealed, nil
}

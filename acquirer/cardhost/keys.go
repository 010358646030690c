package cardhost

import (
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/tillgate/tillgate/card"
	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/vault"
)

// Vault is what the link needs of package vault: keys never leave it.
type Vault interface {
	payment.Sealer
	ImportKey(zmk vault.SealedKey, usage vault.Usage, alg vault.Algorithm, encrypted []byte, kcv [3]byte, bound []byte) ([]byte, error)
	TranslatePIN(from []vault.SealedKey, block [8]byte, fromFormat card.Format, to vault.SealedKey, toFormat card.Format, pan card.PAN) ([]byte, error)
	MessageMAC(key vault.SealedKey, data []byte) ([8]byte, error)
	CheckMessageMAC(key vault.SealedKey, data []byte, mac [8]byte) (bool, error)
}

var _ Vault = (*vault.Vault)(nil)

// Lengths of a key in DE 48: double-length 3DES and its check value.
const (
	zoneKeySize = 16
	kcvSize     = 3
)

var (
	errMAC     = errors.New("its MAC is wrong")
	errDiffers = errors.New("it speaks of something else")
	errKeys    = errors.New("keys cannot be taken over")
)

// keys are the working keys of a line.
type keys struct{ pin, mac vault.SealedKey }

// takeKeys imports the keys in the answer to a key exchange.
func (l *Link) takeKeys(answer *message) (*keys, error) {
	found, err := items(answer.get(deAdditional))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errKeys, err)
	}
	pin, err := l.takeKey(found[itemPINKey], vault.UsageZonePIN, vault.TDES)
	if err != nil {
		return nil, err
	}
	mac, err := l.takeKey(found[itemMACKey], vault.UsageZoneMAC, vault.RetailMAC)
	if err != nil {
		return nil, err
	}
	return &keys{pin, mac}, nil
}

func (l *Link) takeKey(text string, usage vault.Usage, alg vault.Algorithm) (vault.SealedKey, error) {
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != zoneKeySize+kcvSize {
		return vault.SealedKey{}, fmt.Errorf("%w: %s is not %d hexadecimal digits", errKeys, usage, 2*(zoneKeySize+kcvSize))
	}
	bound := l.cfg.ZMK.Bound
	sealed, err := l.cfg.Vault.ImportKey(l.cfg.ZMK, usage, alg, raw[:zoneKeySize], [kcvSize]byte(raw[zoneKeySize:]), bound)
	if err != nil {
		return vault.SealedKey{}, fmt.Errorf("%w: %w", errKeys, err)
	}
	return vault.SealedKey{Sealed: sealed, Bound: bound}, nil
}

// checkMAC holds an answer against the keys with which its request left and those that the line has now: while keys are exchanged, either
// may be the host's.
func (l *Link) checkMAC(r reply, candidates ...*keys) error {
	if !r.message.have(deMAC) && !r.message.have(deMAC2) {
		return errMAC
	}
	covered := len(r.raw) - macSize
	for i, k := range candidates {
		if i > 0 && k == candidates[i-1] {
			continue
		}
		ok, err := l.cfg.Vault.CheckMessageMAC(k.mac, r.raw[:covered], [macSize]byte(r.raw[covered:]))
		if err != nil {
			return fmt.Errorf("check MAC: %w", err)
		}
		if ok {
			return nil
		}
	}
	return errMAC
}

// translate makes DE 52 and 53 of a PIN under a line's key.
func (l *Link) translate(m *message, pin *payment.EncryptedPIN, pan card.PAN, k *keys) error {
	from := make([]vault.SealedKey, len(pin.Keys))
	for i, sealed := range pin.Keys {
		from[i] = vault.SealedKey{Sealed: sealed, Bound: pin.Bound}
	}
	block, err := l.cfg.Vault.TranslatePIN(from, pin.Block, pin.Format, k.pin, l.cfg.PINFormat, pan)
	if err != nil {
		return err
	}
	m.set(dePIN, string(block))
	m.set(dePINFormat, pinFormats[l.cfg.PINFormat])
	return nil
}

// pinFormats is DE 53 for the formats that the page has.
var pinFormats = map[card.Format]string{card.Format0: "0100000000000000", card.Format3: "0300000000000000"}

package vault

import (
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
)

// ErrKCV is a delivered key whose check value differs: it was damaged, or the two sides have different zone master keys.
var ErrKCV = errors.New("key check value differs")

// NewZoneMaster seals a card host's zone master key, given by people as one component or several, each in hexadecimal, which are added
// modulo 2: nobody who holds fewer than all knows anything of the key. It is 3DES of 16 or 24 bytes, or AES of 16 or 32. Bound names the
// link. It returns ErrKey.
func (v *Vault) NewZoneMaster(alg Algorithm, bound []byte, components ...string) (sealed []byte, err error) {
	var raw []byte
	defer func() { clear(raw) }()
	for i, c := range components {
		part, err := hex.DecodeString(c)
		if err != nil || i > 0 && len(part) != len(raw) {
			return nil, fmt.Errorf("%w: components of a zone master key are hexadecimal and of one length", ErrKey)
		}
		if i == 0 {
			raw = part
			continue
		}
		xor(raw, part)
		clear(part)
	}
	return v.sealNew(UsageZoneMaster, alg, raw, bound)
}

// ImportKey takes over a key that a card host delivers, in an 0800 message: encrypted under the zone master key in single blocks (ECB),
// with its check value, the first three bytes of encrypting a block of zeros. Usage is UsageZonePIN, with 3DES or AES, or UsageZoneMAC, with
// RetailMAC. Bound names the link. It returns ErrKCV, ErrUsage, ErrSealed, and ErrKey, also for an AES key under 3DES: a key must not be
// weaker than what it protects.
func (v *Vault) ImportKey(zmk SealedKey, usage Usage, alg Algorithm, encrypted []byte, kcv [3]byte, bound []byte) (sealed []byte, err error) {
	if usage != UsageZonePIN && usage != UsageZoneMAC {
		return nil, fmt.Errorf("import %s: %w", usage, ErrUsage)
	}
	if _, masterAlg := zmk.head(); alg == AES && masterAlg == TDES {
		return nil, fmt.Errorf("import %s: %w: AES under 3DES", usage, ErrKey)
	}
	if len(encrypted) > 32 {
		return nil, fmt.Errorf("import %s: %w: too long", usage, ErrKey)
	}
	raw := make([]byte, len(encrypted))
	defer clear(raw)
	if err := v.use(zmk, UsageZoneMaster, func(key Key) error { return key.Decrypt(raw, encrypted) }); err != nil {
		return nil, fmt.Errorf("import %s: %w", usage, err)
	}
	if sealed, err = v.sealNew(usage, alg, raw, bound); err != nil {
		return nil, fmt.Errorf("import %s: %w", usage, err)
	}
	got, err := v.KCV(SealedKey{sealed, bound})
	if err != nil {
		return nil, fmt.Errorf("import %s: %w", usage, err)
	}
	if subtle.ConstantTimeCompare(got[:], kcv[:]) == 0 {
		return nil, fmt.Errorf("import %s: %w", usage, ErrKCV)
	}
	return sealed, nil
}

// sealNew seals a key that came from outside, if its usage may have it.
func (v *Vault) sealNew(usage Usage, alg Algorithm, raw, bound []byte) ([]byte, error) {
	if !slices.Contains(usages[usage].algorithms, alg) {
		return nil, fmt.Errorf("%s: %w: another algorithm", usage, ErrKey)
	}
	if err := checkKey(alg, raw); err != nil {
		return nil, fmt.Errorf("%s: %w: wrong length, or parts that are equal", usage, err)
	}
	return v.sealKey(usage, alg, raw, bound)
}

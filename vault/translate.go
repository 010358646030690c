package vault

import (
	"crypto/aes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/tillgate/tillgate/card"
)

// pinKeysMax is how many keys of one terminal are tried: those that a few refreshes a day leave alive.
const pinKeysMax = 16

// translations is the matrix of PIN block formats. What is bound to a card never becomes what is not, and format 2 is for chips (ANSI
// X9.8-1; PCI PIN 3.1, requirement 3).
var translations = map[card.Format][]card.Format{
	card.Format0: {card.Format0, card.Format3, card.Format4},
	card.Format3: {card.Format0, card.Format3, card.Format4},
}

// TranslatePIN turns a PIN block of a terminal, in format 0 or 3 under its PIN key, into one for a card host, in format 0 or 3 (8 bytes,
// 3DES zone key) or 4 (16 bytes, AES zone key). From is the terminal's keys that are alive, the newest first; the first under which the
// block holds a PIN for this card is the one. The PIN is in clear only in here, and wiped.
//
// A block that holds no PIN under any key is answered as a good one, with a block that the host will take for a wrong PIN: it holds twelve
// digits at random, which no one could guess worse. Whoever sends garbage learns no more than one who guesses PINs, and it counts as a try.
// The calls made to the module are the same in both cases.
//
// It returns card.ErrFormat when the formats do not fit each other or the zone key, ErrUsage, ErrSealed, and card.ErrPAN for a zero PAN.
func (v *Vault) TranslatePIN(from []SealedKey, block [8]byte, fromFormat card.Format, to SealedKey, toFormat card.Format, pan card.PAN) ([]byte, error) {
	if !slices.Contains(translations[fromFormat], toFormat) {
		return nil, fmt.Errorf("%w: %v into %v", card.ErrFormat, fromFormat, toFormat)
	}
	alg, err := to.check(UsageZonePIN)
	if err != nil {
		return nil, fmt.Errorf("translate PIN: %w", err)
	}
	if (toFormat == card.Format4) != (alg == AES) {
		return nil, fmt.Errorf("%w: %v under this zone PIN key", card.ErrFormat, toFormat)
	}
	if len(from) > pinKeysMax {
		return nil, fmt.Errorf("translate PIN: more than %d keys of one terminal", pinKeysMax)
	}
	pin, err := v.noPIN()
	if err != nil {
		return nil, fmt.Errorf("translate PIN: %w", err)
	}
	defer func() { pin.Wipe() }()
	found := false
	for _, k := range from { // All of them, so that the calls made do not tell which one was right.
		p, err := v.decryptPIN(k, block, fromFormat, pan)
		switch {
		case errors.Is(err, card.ErrPINBlock):
		case err != nil:
			return nil, fmt.Errorf("translate PIN: %w", err)
		case found:
			p.Wipe()
		default:
			pin, found = p, true
		}
	}
	var out []byte
	err = v.use(to, UsageZonePIN, func(key Key) error {
		out, err = v.encryptPIN(key, pin, toFormat, pan)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("translate PIN: %w", err)
	}
	return out, nil
}

func (v *Vault) decryptPIN(k SealedKey, block [8]byte, f card.Format, pan card.PAN) (pin card.PIN, err error) {
	err = v.use(k, UsagePIN, func(key Key) error {
		defer clear(block[:])
		if err := key.Decrypt(block[:], block[:]); err != nil {
			return err
		}
		pin, err = card.DecodePINBlock(f, block, pan)
		return err
	})
	return pin, err
}

func (v *Vault) encryptPIN(key Key, pin card.PIN, f card.Format, pan card.PAN) ([]byte, error) {
	if f == card.Format4 {
		b := &blockOf{key: key}
		out, err := card.EncryptPINBlock4(b, pin, pan, random{v.module})
		if err := errors.Join(err, b.err); err != nil {
			return nil, err
		}
		return out[:], nil
	}
	clearBlock, err := card.EncodePINBlock(f, pin, pan, random{v.module})
	defer clear(clearBlock[:])
	if err != nil {
		return nil, err
	}
	out := make([]byte, 8)
	return out, key.Encrypt(out, clearBlock[:])
}

// noPIN is the PIN of twelve random digits that stands for none.
func (v *Vault) noPIN() (card.PIN, error) {
	var seed [8]byte
	if err := v.module.Random(seed[:]); err != nil {
		return card.PIN{}, err
	}
	return card.ParsePIN(fmt.Sprintf("%012d", binary.BigEndian.Uint64(seed[:])%1e12))
}

// random is a module's randomness as a Reader.
type random struct{ Module }

func (r random) Read(b []byte) (int, error) {
	if err := r.Random(b); err != nil {
		return 0, err
	}
	return len(b), nil
}

// blockOf is an AES key of a module as a cipher.Block, which cannot fail: it keeps the first error for later.
type blockOf struct {
	key Key
	err error
}

func (b *blockOf) BlockSize() int { return aes.BlockSize }

func (b *blockOf) Encrypt(dst, src []byte) { b.do(b.key.Encrypt, dst, src) }

func (b *blockOf) Decrypt(dst, src []byte) { b.do(b.key.Decrypt, dst, src) }

func (b *blockOf) do(fn func(dst, src []byte) error, dst, src []byte) {
	if err := fn(dst[:aes.BlockSize], src[:aes.BlockSize]); err != nil && b.err == nil {
		b.err = err
	}
}

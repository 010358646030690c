package vault

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"encoding/hex"
	"fmt"
)

// pinKeySize is the length of a PINKEY in bytes: 3DES with three keys.
const pinKeySize = 24

// IssuePINKey makes a terminal's PIN key and returns it twice: sealed, bound to the terminal, for our rows (usage UsagePIN), and in the
// envelope that the terminal opens (uqpay.md, 2.3): base64 of nonce, AES-GCM of the key as 48 lower-case hexadecimal digits, and tag, under
// the key that came with the request. PrvKey is that key in bytes, 16, 24 or 32 of them; else ErrKey.
func (v *Vault) IssuePINKey(prvKey, bound []byte) (sealed []byte, envelope string, err error) {
	block, err := aes.NewCipher(prvKey)
	if err != nil {
		return nil, "", fmt.Errorf("%w: a PIN key envelope needs an AES key of 16, 24 or 32 bytes", ErrKey)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, "", err
	}
	var raw [pinKeySize]byte
	var text [2 * pinKeySize]byte
	defer clear(raw[:])
	defer clear(text[:])
	box := make([]byte, gcm.NonceSize(), gcm.NonceSize()+len(text)+gcm.Overhead())
	for checkKey(TDES, raw[:]) != nil { // Random keys pass at once but for a few in 2^55.
		if err := v.module.Random(raw[:]); err != nil {
			return nil, "", fmt.Errorf("make PIN key: %w", err)
		}
	}
	if err := v.module.Random(box); err != nil {
		return nil, "", fmt.Errorf("make PIN key: %w", err)
	}
	if sealed, err = v.sealKey(UsagePIN, TDES, raw[:], bound); err != nil {
		return nil, "", fmt.Errorf("seal PIN key: %w", err)
	}
	hex.Encode(text[:], raw[:])
	return sealed, base64.StdEncoding.EncodeToString(gcm.Seal(box, box, text[:], nil)), nil
}

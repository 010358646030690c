package sandbox

import (
	"crypto/cipher"
	"crypto/des"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"math/bits"
)

// The host's own cryptography, written from the standards and not from the platform's code: one mistake must not agree with itself.

const desBlock = des.BlockSize

// key16 is a double-length 3DES key.
type key16 [16]byte

// parseKey reads 32 hex digits.
func parseKey(s string) (key16, error) {
	raw, err := hex.DecodeString(s)
	if err != nil || len(raw) != 16 {
		return key16{}, fmt.Errorf("not a key of 32 hex digits")
	}
	return key16(raw), nil
}

// mustKey is parseKey for the keys below.
func mustKey(s string) key16 {
	k, err := parseKey(s)
	if err != nil {
		panic(err)
	}
	return k
}

// oddParity sets the lowest bit of each byte so that it has an odd number of ones.
func (k key16) oddParity() key16 {
	for i, b := range k {
		k[i] = b&^1 | byte(bits.OnesCount8(b&^1)+1)&1
	}
	return k
}

// cipherPair is a double-length key, ready for use. Making one costs as much as forty blocks, so it is made once for each key and serves all its uses.
type cipherPair struct{ left, right cipher.Block }

// pair makes a key ready.
func (k key16) pair() *cipherPair {
	left, err := des.NewCipher(k[:8])
	if err != nil {
		panic(err) // Only for a key of another length.
	}
	right, err := des.NewCipher(k[8:])
	if err != nil {
		panic(err)
	}
	return &cipherPair{left, right}
}

// encrypt is 3DES of one block in place: through the first half, back through the second, through the first again.
func (p *cipherPair) encrypt(block []byte) {
	p.left.Encrypt(block, block)
	p.right.Decrypt(block, block)
	p.left.Encrypt(block, block)
}

// decrypt is the way back.
func (p *cipherPair) decrypt(block []byte) {
	p.left.Decrypt(block, block)
	p.right.Encrypt(block, block)
	p.left.Decrypt(block, block)
}

// mac is ISO 9797-1 algorithm 3, padding method 1 (zeros): DES in CBC mode under the first half, and the last block also back through the second half
// and through the first again.
func (p *cipherPair) mac(data []byte) [macSize]byte {
	var sum, block [desBlock]byte
	for len(data) > 0 {
		n := copy(block[:], data)
		clear(block[n:])
		data = data[n:]
		subtle.XORBytes(sum[:], sum[:], block[:])
		p.left.Encrypt(sum[:], sum[:])
	}
	p.right.Decrypt(sum[:], sum[:])
	p.left.Encrypt(sum[:], sum[:])
	return sum
}

// checkValue is the first three bytes of eight zero bytes, encrypted.
func (k key16) checkValue() [3]byte {
	var block [desBlock]byte
	k.pair().encrypt(block[:])
	return [3]byte(block[:3])
}

// under is the key encrypted with another one, block by block, as keys travel in DE 48.
func (k key16) under(p *cipherPair) key16 {
	p.encrypt(k[:8])
	p.encrypt(k[8:])
	return k
}

// pinBlockDigits is the other half of a PIN block of ISO 9564 format 0 or 3: zeros, then the twelve digits left of the PAN's check digit.
func pinBlockDigits(pan string) (half [desBlock]byte) {
	account := pan[:len(pan)-1]
	account = account[max(0, len(account)-12):]
	for len(account) < 12 {
		account = "0" + account
	}
	for i := range 6 {
		half[2+i] = account[2*i]<<4 | account[2*i+1]&0x0f
	}
	return half
}

// Shortest and longest PIN (ISO 9564-1).
const (
	pinMin = 4
	pinMax = 12
)

// openPIN decrypts a PIN block. The PIN is not ok if the block does not have its format, 0 or 3.
func openPIN(zone *cipherPair, encrypted []byte, format byte, pan string) (pin [pinMax]byte, size int, ok bool) {
	var block [desBlock]byte
	copy(block[:], encrypted)
	zone.decrypt(block[:])
	half := pinBlockDigits(pan)
	subtle.XORBytes(block[:], block[:], half[:])
	nibble := func(i int) byte { return block[i/2] >> (4 * (1 - i%2)) & 0x0f }
	size = int(nibble(1))
	if nibble(0) != format || size < pinMin || size > pinMax {
		return pin, 0, false
	}
	for i := range 14 {
		d := nibble(2 + i)
		switch {
		case i < size:
			if d > 9 {
				return pin, 0, false
			}
			pin[i] = '0' + d
		case format == 0 && d != 0x0f, format == 3 && d < 0x0a:
			return pin, 0, false
		}
	}
	return pin, size, true
}

// securityCode computes a CVV of any length up to 16: of a stripe with its service code, of a chip with 999, of the card's back with 000.
// The expiry is YYMM in all of them.
func securityCode(key key16, pan, expiry, service string, size int) string {
	var packed [2 * desBlock]byte
	for i, c := range pan + expiry + service {
		packed[i/2] |= byte(c-'0') << (4 * (1 - i%2))
	}
	pair := key.pair()
	sum := [desBlock]byte(packed[:8])
	pair.left.Encrypt(sum[:], sum[:])
	subtle.XORBytes(sum[:], sum[:], packed[8:])
	pair.encrypt(sum[:])
	// Decimal digits first, in their order; then letters, A becoming 0 and F 5.
	text := hex.EncodeToString(sum[:])
	out := make([]byte, 0, 2*len(text))
	for _, c := range []byte(text) {
		if c <= '9' {
			out = append(out, c)
		}
	}
	for _, c := range []byte(text) {
		if c >= 'a' {
			out = append(out, c-'a'+'0')
		}
	}
	return string(out[:size])
}

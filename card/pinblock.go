package card

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// Format is the format of a PIN block as ISO 9564-1 numbers them.
type Format uint8

// The formats that are known. Format 2 is for the chip only and never leaves a terminal.
const (
	Format0 Format = 0 // Bound to the PAN.
	Format1 Format = 1 // Bound to nothing, for when the PAN is not known.
	Format3 Format = 3 // Like 0, with random fill.
	Format4 Format = 4 // 16 bytes, for AES, bound to the PAN, with random fill.
)

// String is the number.
func (f Format) String() string { return "ISO format " + strconv.Itoa(int(f)) }

// Errors of PIN blocks.
var (
	// ErrPINBlock is a block that holds no PIN for this card. It does not say why: the reason would help whoever is guessing keys.
	ErrPINBlock = errors.New("PIN block holds no PIN")
	// ErrFormat is a format that cannot be used here.
	ErrFormat = errors.New("PIN block format not allowed")
)

// EncodePINBlock makes the clear block, ready to be encrypted under 3DES, in format 0, 1 or 3. Rand fills formats 1 and 3; format 0 does not
// use it. It returns ErrFormat, ErrPIN or ErrPAN for a zero argument, or what rand returns.
func EncodePINBlock(f Format, pin PIN, pan PAN, rand io.Reader) (block [8]byte, err error) {
	digits := pin.reveal()
	if digits == nil {
		return block, ErrPIN
	}
	if f != Format1 && pan.IsZero() {
		return block, ErrPAN
	}
	var n nibbles
	switch f {
	case Format0:
		n.fill(0xF)
	case Format1, Format3:
		var seed [8]byte
		if _, err := io.ReadFull(rand, seed[:]); err != nil {
			return block, fmt.Errorf("fill PIN block: %w", err)
		}
		n.fillRandom(f, binary.BigEndian.Uint64(seed[:]))
	default:
		return block, fmt.Errorf("%w: %v in 8 bytes", ErrFormat, f)
	}
	n.set(f, digits)
	block = n.pack()
	clear(n[:])
	if f != Format1 {
		xor(block[:], panField(pan))
	}
	return block, nil
}

// DecodePINBlock finds the PIN in a clear block of format 0, 1 or 3. It returns ErrPINBlock unless every nibble is as the format wants it,
// ErrFormat for others, ErrPAN for a zero PAN. The caller wipes the PIN.
func DecodePINBlock(f Format, block [8]byte, pan PAN) (PIN, error) {
	switch f {
	case Format0, Format3:
		if pan.IsZero() {
			return PIN{}, ErrPAN
		}
		xor(block[:], panField(pan))
	case Format1:
	default:
		return PIN{}, fmt.Errorf("%w: %v in 8 bytes", ErrFormat, f)
	}
	defer clear(block[:])
	return readPIN(f, block[:])
}

// EncryptPINBlock4 makes a block of format 4 under an AES key: the PIN field is encrypted, the PAN field added, and the sum encrypted again
// (ISO 9564-1:2017 §9.4.2). Rand gives the 8 random bytes. It returns ErrPIN or ErrPAN for a zero argument, ErrFormat for a cipher with other
// blocks than of 16 bytes, or what rand returns.
func EncryptPINBlock4(key cipher.Block, pin PIN, pan PAN, rand io.Reader) (block [16]byte, err error) {
	digits := pin.reveal()
	switch {
	case digits == nil:
		return block, ErrPIN
	case pan.IsZero():
		return block, ErrPAN
	case key.BlockSize() != aes.BlockSize:
		return block, fmt.Errorf("%w: %v needs AES", ErrFormat, Format4)
	}
	var n nibbles
	n.fill(0xA)
	n.set(Format4, digits)
	field := n.pack()
	clear(n[:])
	copy(block[:], field[:])
	clear(field[:])
	if _, err := io.ReadFull(rand, block[8:]); err != nil {
		clear(block[:])
		return block, fmt.Errorf("fill PIN block: %w", err)
	}
	key.Encrypt(block[:], block[:])
	xor(block[:], panField4(pan))
	key.Encrypt(block[:], block[:])
	return block, nil
}

// DecryptPINBlock4 finds the PIN in a block of format 4. It returns the errors of DecodePINBlock. The caller wipes the PIN.
func DecryptPINBlock4(key cipher.Block, block [16]byte, pan PAN) (PIN, error) {
	switch {
	case pan.IsZero():
		return PIN{}, ErrPAN
	case key.BlockSize() != aes.BlockSize:
		return PIN{}, fmt.Errorf("%w: %v needs AES", ErrFormat, Format4)
	}
	defer clear(block[:])
	key.Decrypt(block[:], block[:])
	xor(block[:], panField4(pan))
	key.Decrypt(block[:], block[:])
	return readPIN(Format4, block[:8])
}

// readPIN reads the eight bytes of a PIN field: the format, the length, the digits and the fill that the format wants.
func readPIN(f Format, field []byte) (PIN, error) {
	var n nibbles
	for i, b := range field {
		n[2*i], n[2*i+1] = b>>4, b&0xF
	}
	defer clear(n[:])
	length := int(n[1])
	if n[0] != byte(f) || length < pinMin || length > pinMax {
		return PIN{}, ErrPINBlock
	}
	for _, d := range n[2 : 2+length] {
		if d > 9 {
			return PIN{}, ErrPINBlock
		}
	}
	for _, fill := range n[2+length:] {
		good := true
		switch f {
		case Format0:
			good = fill == 0xF
		case Format3:
			good = fill >= 0xA
		case Format4:
			good = fill == 0xA
		}
		if !good {
			return PIN{}, ErrPINBlock
		}
	}
	digits := make([]byte, length)
	for i := range digits {
		digits[i] = '0' + n[2+i]
	}
	return newPIN(digits), nil
}

// nibbles is a PIN field with one hexadecimal digit to the byte.
type nibbles [16]byte

func (n *nibbles) fill(value byte) {
	for i := range n {
		n[i] = value
	}
}

// fillRandom fills with any digit for format 1, with A to F for format 3. Taking digits of a 64-bit number in base 6 prefers some by less
// than one part in 10^11.
func (n *nibbles) fillRandom(f Format, seed uint64) {
	for i := range n {
		if f == Format1 {
			n[i] = byte(seed % 16)
			seed /= 16
			continue
		}
		if i >= 2+pinMin { // Only ten digits are ever fill, and the seed is good for 24.
			n[i] = 0xA + byte(seed%6)
			seed /= 6
		}
	}
}

func (n *nibbles) set(f Format, digits []byte) {
	n[0], n[1] = byte(f), byte(len(digits))
	for i, d := range digits {
		n[2+i] = d - '0'
	}
}

func (n *nibbles) pack() (field [8]byte) {
	for i := range field {
		field[i] = n[2*i]<<4 | n[2*i+1]
	}
	return field
}

// panField is four zeros and the twelve rightmost digits but the check digit, with zeros before them if there are fewer.
func panField(pan PAN) []byte {
	digits := pan.Reveal()
	digits = digits[:len(digits)-1]
	if len(digits) > 12 {
		digits = digits[len(digits)-12:]
	}
	var n nibbles
	for i := range len(digits) {
		n[16-len(digits)+i] = digits[i] - '0'
	}
	field := n.pack()
	return field[:]
}

// panField4 is the length beyond twelve digits, all digits with the check digit, and zeros.
func panField4(pan PAN) []byte {
	digits := pan.Reveal()
	field := make([]byte, 16)
	set := func(i int, v byte) { field[i/2] |= v << (4 * (1 - i%2)) }
	set(0, byte(len(digits)-panMin))
	for i := range len(digits) {
		set(1+i, digits[i]-'0')
	}
	return field
}

func xor(dst, src []byte) {
	for i := range dst {
		dst[i] ^= src[i]
	}
}

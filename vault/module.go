package vault

import "errors"

// Algorithm is what a key computes.
type Algorithm uint8

// The algorithms. Their numbers are in sealed keys, so they never change.
const (
	TDES      Algorithm = 1 // 3DES with two or three keys, 16 or 24 bytes, a block at a time.
	AES       Algorithm = 2 // AES-128 or AES-256, a block at a time.
	RetailMAC Algorithm = 3 // ISO 9797-1 MAC algorithm 3 over DES, 16 bytes.
)

// Errors of modules.
var (
	// ErrSealed is a sealed value that does not open: it was sealed under a KEK that is not here, for another purpose or row, or it was
	// altered. Which of them it is cannot be told.
	ErrSealed = errors.New("sealed value does not open")
	// ErrKey is a key of a length or form that its algorithm cannot have, or an operation that the key is not for.
	ErrKey = errors.New("not a key for this")
	// ErrRotation is a KEK that cannot be rotated, because nothing would remember the new one.
	ErrRotation = errors.New("the KEK is derived from the installation secret and cannot be rotated; keep it in a file or a token")
)

// Module is where the KEK lives and keys are used: this program's memory, or a hardware security module. Methods may be called
// concurrently. Only modules see keys in clear, but for a moment when one is made or delivered.
type Module interface {
	// Seal encrypts under the newest KEK, with authentication of plain and of bound.
	Seal(plain, bound []byte) ([]byte, error)
	// Unseal is the inverse. It returns ErrSealed.
	Unseal(sealed, bound []byte) ([]byte, error)
	// Current reports whether a value is sealed under the newest KEK.
	Current(sealed []byte) bool
	// Rotate makes a new KEK and keeps the others for Unseal. It may return ErrRotation.
	Rotate() error
	// Open makes a sealed key usable. It returns ErrSealed or ErrKey. The caller closes the key.
	Open(alg Algorithm, sealed, bound []byte) (Key, error)
	// Random fills b with random bytes.
	Random(b []byte) error
	// Close ends the use of the module, of whose keys none may be in use.
	Close() error
}

// Key is an opened key. Methods may be called concurrently, but not after Close.
type Key interface {
	// Encrypt encrypts whole blocks, each by itself (ECB). Dst and src may be the same.
	Encrypt(dst, src []byte) error
	// Decrypt is the inverse.
	Decrypt(dst, src []byte) error
	// MAC is ISO 9797-1 MAC algorithm 3, padding method 1, over DES. It returns ErrKey unless the key is a RetailMAC key.
	MAC(data []byte) ([8]byte, error)
	Close() error
}

// checkKey refuses keys that an algorithm cannot have, or that turn 3DES into DES.
func checkKey(alg Algorithm, key []byte) error {
	n := len(key)
	switch alg {
	case TDES:
		if n != 16 && n != 24 || sameDES(key[0:8], key[8:16]) || n == 24 && sameDES(key[8:16], key[16:24]) {
			return ErrKey
		}
	case RetailMAC:
		if n != 16 || sameDES(key[0:8], key[8:16]) {
			return ErrKey
		}
	case AES:
		if n != 16 && n != 32 {
			return ErrKey
		}
	default:
		return ErrKey
	}
	return nil
}

// sameDES compares two DES keys without their parity bits.
func sameDES(a, b []byte) bool {
	var diff byte
	for i := range a {
		diff |= (a[i] ^ b[i]) &^ 1
	}
	return diff == 0
}

// tripleLength is a 3DES key of three keys: of two, the first is used again.
func tripleLength(key []byte) []byte {
	return append(append(make([]byte, 0, 24), key...), key[:24-len(key)]...)
}

// padZeros fills up to whole DES blocks with zeros, ISO 9797-1 padding method 1. Nothing at all becomes one block.
func padZeros(data []byte) []byte {
	n := max(8, (len(data)+7)/8*8)
	return append(make([]byte, 0, n), data...)[:n]
}

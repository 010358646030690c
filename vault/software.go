package vault

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/aead/xaesgcm"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/insecuresecretdataaccess"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/secretdata"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// prefixSize is the length of what tink puts before a ciphertext to tell its key: one byte and the key's number.
const prefixSize = 5

// software is the module in this program's memory. Its KEK is a tink keyset in a file, in clear: the file's mode is its protection. Keys are
// XAES-256-GCM, whose nonces of 192 bits may be random however many values there are; with those of AES-GCM a busy shop would have to
// rotate every month.
type software struct {
	path string     // Empty when the KEK is derived.
	mu   sync.Mutex // Held while the file is read again.
	ring atomic.Pointer[keyring]
}

// keyring is a KEK with its older ones.
type keyring struct {
	aead   tink.AEAD
	newest string          // Prefix of what it seals.
	known  map[string]bool // Prefixes of what it opens.
}

func openSoftware(path string) (*software, error) {
	text, err := readOrCreate(path, func() ([]byte, error) { return addKEK(keyset.NewManager()) })
	if err != nil {
		return nil, fmt.Errorf("KEK: %w", err)
	}
	ring, err := parseKeyring(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	s := &software{path: path}
	s.ring.Store(ring)
	return s, nil
}

// deriveSoftware makes a KEK out of the installation secret, always the same one.
func deriveSoftware(secret []byte) (*software, error) {
	raw, err := hkdf.Key(sha256.New, secret, nil, "tillgate/kek", 4+32)
	if err != nil {
		return nil, err
	}
	id := binary.BigEndian.Uint32(raw) | 1 // Tink has no key 0.
	params, err := xaesgcm.NewParameters(xaesgcm.VariantTink, 12)
	if err != nil {
		return nil, err
	}
	key, err := xaesgcm.NewKey(secretdata.NewBytesFromData(raw[4:], insecuresecretdataaccess.Token{}), id, params)
	if err != nil {
		return nil, err
	}
	m := keyset.NewManager()
	if _, err = m.AddKey(key); err != nil {
		return nil, err
	}
	if err := m.SetPrimary(id); err != nil {
		return nil, err
	}
	handle, err := m.Handle()
	if err != nil {
		return nil, err
	}
	ring, err := newKeyring(handle)
	if err != nil {
		return nil, err
	}
	s := &software{}
	s.ring.Store(ring)
	return s, nil
}

// addKEK adds a new primary key and returns the whole keyset as the file has it.
func addKEK(m *keyset.Manager) ([]byte, error) {
	id, err := m.Add(aead.XAES256GCM192BitNonceKeyTemplate())
	if err != nil {
		return nil, err
	}
	if err := m.SetPrimary(id); err != nil {
		return nil, err
	}
	handle, err := m.Handle()
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	if err := insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(&text)); err != nil {
		return nil, err
	}
	text.WriteByte('\n')
	return text.Bytes(), nil
}

// errKeyset replaces tink's errors about a file: they might quote it.
var errKeyset = errors.New("not a tink keyset in JSON, of AEAD keys with the TINK prefix")

func parseKeyset(text []byte) (*keyset.Handle, error) {
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(text)))
	if err != nil {
		return nil, errKeyset
	}
	return handle, nil
}

func parseKeyring(text []byte) (*keyring, error) {
	handle, err := parseKeyset(text)
	if err != nil {
		return nil, err
	}
	return newKeyring(handle)
}

func newKeyring(handle *keyset.Handle) (*keyring, error) {
	primitive, err := aead.New(handle)
	if err != nil {
		return nil, errKeyset
	}
	ring := &keyring{aead: primitive, known: map[string]bool{}}
	for i := range handle.Len() {
		entry, err := handle.Entry(i)
		if err != nil {
			return nil, errKeyset
		}
		key, ok := entry.Key().(interface{ OutputPrefix() []byte })
		if !ok || len(key.OutputPrefix()) != prefixSize {
			return nil, errKeyset
		}
		prefix := string(key.OutputPrefix())
		ring.known[prefix] = true
		if entry.IsPrimary() {
			ring.newest = prefix
		}
	}
	return ring, nil
}

func (s *software) Seal(plain, bound []byte) ([]byte, error) {
	return s.ring.Load().aead.Encrypt(plain, bound)
}

func (s *software) Unseal(sealed, bound []byte) ([]byte, error) {
	if len(sealed) < prefixSize {
		return nil, ErrSealed
	}
	ring := s.ring.Load()
	if prefix := string(sealed[:prefixSize]); !ring.known[prefix] {
		var err error
		if ring, err = s.reload(prefix); err != nil {
			return nil, err
		}
	}
	plain, err := ring.aead.Decrypt(sealed, bound)
	if err != nil {
		return nil, ErrSealed
	}
	return plain, nil
}

// reload reads the file again when a key is not known: an operator's command, another process, may have rotated.
func (s *software) reload(prefix string) (*keyring, error) {
	if s.path == "" {
		return nil, ErrSealed
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if ring := s.ring.Load(); ring.known[prefix] {
		return ring, nil
	}
	text, err := readPrivate(s.path)
	if err != nil {
		return nil, fmt.Errorf("KEK: %w", err)
	}
	ring, err := parseKeyring(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.path, err)
	}
	s.ring.Store(ring)
	if !ring.known[prefix] {
		return nil, ErrSealed
	}
	return ring, nil
}

func (s *software) Current(sealed []byte) bool {
	return len(sealed) >= prefixSize && string(sealed[:prefixSize]) == s.ring.Load().newest
}

func (s *software) Rotate() error {
	if s.path == "" {
		return ErrRotation
	}
	var fresh []byte
	err := update(s.path, func(text []byte) ([]byte, error) {
		handle, err := parseKeyset(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.path, err)
		}
		fresh, err = addKEK(keyset.NewManagerFromHandle(handle))
		return fresh, err
	})
	if err != nil {
		return fmt.Errorf("rotate KEK: %w", err)
	}
	ring, err := parseKeyring(fresh)
	if err != nil {
		return fmt.Errorf("rotate KEK: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ring.Store(ring)
	return nil
}

func (s *software) Open(alg Algorithm, sealed, bound []byte) (Key, error) {
	raw, err := s.Unseal(sealed, bound)
	if err != nil {
		return nil, err
	}
	defer clear(raw)
	if err := checkKey(alg, raw); err != nil {
		return nil, err
	}
	return newSoftKey(alg, raw)
}

func (s *software) Random(b []byte) error {
	rand.Read(b) // Never fails.
	return nil
}

func (s *software) Close() error { return nil }

// softKey is an opened key in memory.
type softKey struct {
	block cipher.Block
	chain cipher.Block // DES under the first half, for RetailMAC; else nil.
}

// newSoftKey does not keep raw.
func newSoftKey(alg Algorithm, raw []byte) (k softKey, err error) {
	if alg == AES {
		k.block, err = aes.NewCipher(raw)
		return k, err
	}
	long := tripleLength(raw)
	defer clear(long)
	if k.block, err = des.NewTripleDESCipher(long); err != nil {
		return k, err
	}
	if alg == RetailMAC {
		k.chain, err = des.NewCipher(raw[:8])
	}
	return k, err
}

func (k softKey) Encrypt(dst, src []byte) error { return eachBlock(k.block, k.block.Encrypt, dst, src) }

func (k softKey) Decrypt(dst, src []byte) error { return eachBlock(k.block, k.block.Decrypt, dst, src) }

func eachBlock(block cipher.Block, do func(dst, src []byte), dst, src []byte) error {
	size := block.BlockSize()
	if len(src)%size != 0 || len(dst) < len(src) {
		return fmt.Errorf("%w: not whole blocks", ErrKey)
	}
	for i := 0; i < len(src); i += size {
		do(dst[i:i+size], src[i:i+size])
	}
	return nil
}

// MAC chains all blocks but the last through DES, and encrypts the last with 3DES: decrypting under the second half and encrypting under
// the first again is what sets algorithm 3 apart.
func (k softKey) MAC(data []byte) (mac [8]byte, err error) {
	if k.chain == nil {
		return mac, ErrKey
	}
	data = padZeros(data)
	for ; len(data) > 8; data = data[8:] {
		xor(mac[:], data[:8])
		k.chain.Encrypt(mac[:], mac[:])
	}
	xor(mac[:], data)
	k.block.Encrypt(mac[:], mac[:])
	return mac, nil
}

func (k softKey) Close() error { return nil }

func xor(dst, src []byte) {
	for i := range dst {
		dst[i] ^= src[i]
	}
}

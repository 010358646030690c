// Package vault keeps keys. One installation secret, in a file or given by the environment, is the root of all of them; each purpose
// derives a key of its own from it (HKDF-SHA-256), so that no two uses ever share one.
package vault

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/tillgate/tillgate/payment"
)

// secretSize is the length of the installation secret in bytes: 256 bits.
const secretSize = 32

// Vault is the software vault. All methods may be called concurrently.
type Vault struct {
	secret []byte
	mu     sync.RWMutex
	keys   map[string][]byte // By purpose.
}

var _ payment.Vault = (*Vault)(nil)

// New makes a vault from an installation secret: 64 hex digits.
func New(secretHex string) (*Vault, error) {
	secret, err := hex.DecodeString(strings.TrimSpace(secretHex))
	if err != nil || len(secret) != secretSize {
		return nil, errors.New("the installation secret must be 64 hex digits; make one with: openssl rand -hex 32")
	}
	return &Vault{secret: secret, keys: map[string][]byte{}}, nil
}

// Open makes a vault from the secret in a file, which it creates, readable by its owner only, when it is not there. Whoever loses the
// file can no longer check credentials or recognise repeats, so it belongs into the backup, away from the database's.
func Open(path string) (*Vault, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := create(path); err != nil {
			return nil, fmt.Errorf("make installation secret: %w", err)
		}
		text, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, fmt.Errorf("read installation secret: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read installation secret: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others; run: chmod 600 %s", path, path)
	}
	v, err := New(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return v, nil
}

// create writes a fresh secret beside path, makes it durable and links it into place, so that two processes that start at once agree on
// one, and a crash leaves a whole file or none.
func create(path string) error {
	secret := make([]byte, secretSize)
	rand.Read(secret) // Never fails.
	f, err := os.CreateTemp(filepath.Dir(path), ".secret-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(hex.EncodeToString(secret) + "\n")
	if err := errors.Join(err, f.Chmod(0o600), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// MAC is a keyed HMAC-SHA-256 of data under the purpose's own key.
func (v *Vault) MAC(purpose string, data []byte) []byte {
	h := hmac.New(sha256.New, v.key(purpose))
	h.Write(data)
	return h.Sum(nil)
}

func (v *Vault) key(purpose string) []byte {
	v.mu.RLock()
	key, ok := v.keys[purpose]
	v.mu.RUnlock()
	if ok {
		return key
	}
	key, err := hkdf.Key(sha256.New, v.secret, nil, "tillgate/mac/"+purpose, sha256.Size)
	if err != nil {
		panic("vault: " + err.Error()) // Only for impossible lengths.
	}
	v.mu.Lock()
	v.keys[purpose] = key
	v.mu.Unlock()
	return key
}

// String hides the keys.
func (v *Vault) String() string { return "vault(***)" }

// GoString hides the keys.
func (v *Vault) GoString() string { return v.String() }

// Package vault keeps keys, and does what is done under them, so that neither keys nor PINs are anywhere else.
//
// Two things are its roots, in two files that belong into a backup away from the database's:
//
//   - the installation secret, from which each purpose derives a MAC key of its own (HKDF-SHA-256);
//   - the key encryption key, KEK, a keyset under which everything is sealed that is kept in rows: card numbers, secrets, and the keys of
//     terminals and card hosts. It is rotated by adding a key: new values are sealed under the newest, old ones open under theirs.
//
// Every sealed value is tied to what it is for (a purpose, or a key's usage) and to the row it is in; moved elsewhere, it does not open.
// Where the KEK lives and where keys are used is a Module: this program's memory, or a PKCS#11 token (build tag pkcs11).
//
// Errors and printed values hold no secrets. ECB and DES are here because ISO 9564, ISO 9797 and the card hosts' key exchange want them,
// and for nothing else.
package vault

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"

	"github.com/tillgate/tillgate/payment"
)

// secretSize is the length of the installation secret in bytes: 256 bits.
const secretSize = 32

// kekName is the file of the KEK beside the installation secret.
const kekName = "kek.json"

// Vault keeps keys. All methods may be called concurrently.
type Vault struct {
	secret hidden
	module Module
	opened *cache
	mu     sync.RWMutex
	keys   map[string]hidden // MAC keys, by purpose.
}

// hidden keeps bytes out of reach of printers: fmt, given a struct that holds a vault in a field of its own, prints what it can reach
// without asking the vault.
type hidden func() []byte

func hide(b []byte) hidden { return func() []byte { return b } }

var _ payment.Vault = (*Vault)(nil)

// New makes a vault from an installation secret alone: 64 hex digits. Its KEK is derived from the secret, so values that it sealed open in
// any vault of the same secret, but it cannot be rotated: for tests and tools. Servers call Open.
func New(secretHex string) (*Vault, error) {
	secret, err := parseSecret(secretHex)
	if err != nil {
		return nil, err
	}
	module, err := deriveSoftware(secret)
	if err != nil {
		return nil, err
	}
	return newVault(secret, module), nil
}

// Open makes a vault from the secret in a file and the KEK in the file kek.json beside it. It creates either, readable by its owner only,
// when it is not there. Whoever loses the secret can no longer check credentials or recognise repeats; whoever loses the KEK has lost all
// that is sealed.
func Open(path string) (*Vault, error) {
	return OpenKEK(path, filepath.Join(filepath.Dir(path), kekName))
}

// OpenKEK is Open with the KEK in a file of its own place: a tink keyset in JSON, of AEAD keys with the TINK prefix.
func OpenKEK(path, kekPath string) (*Vault, error) {
	secret, err := openSecret(path)
	if err != nil {
		return nil, err
	}
	module, err := openSoftware(kekPath)
	if err != nil {
		return nil, err
	}
	return newVault(secret, module), nil
}

// OpenModule is Open with a KEK that lives in a module; the vault closes it.
func OpenModule(path string, module Module) (*Vault, error) {
	secret, err := openSecret(path)
	if err != nil {
		return nil, err
	}
	return newVault(secret, module), nil
}

func newVault(secret []byte, module Module) *Vault {
	return &Vault{secret: hide(secret), module: module, opened: newCache(), keys: map[string]hidden{}}
}

func openSecret(path string) ([]byte, error) {
	text, err := readOrCreate(path, func() ([]byte, error) {
		secret := make([]byte, secretSize)
		rand.Read(secret) // Never fails.
		return []byte(hex.EncodeToString(secret) + "\n"), nil
	})
	if err != nil {
		return nil, fmt.Errorf("installation secret: %w", err)
	}
	secret, err := parseSecret(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return secret, nil
}

func parseSecret(text string) ([]byte, error) {
	secret, err := hex.DecodeString(strings.TrimSpace(text))
	if err != nil || len(secret) != secretSize {
		return nil, errors.New("the installation secret must be 64 hex digits; make one with: openssl rand -hex 32")
	}
	return secret, nil
}

// Close ends the use of the module. A vault whose KEK is in a file needs none.
func (v *Vault) Close() error { return v.module.Close() }

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
		return key()
	}
	fresh, err := hkdf.Key(sha256.New, v.secret(), nil, "tillgate/mac/"+purpose, sha256.Size)
	if err != nil {
		panic("vault: " + err.Error()) // Only for impossible lengths.
	}
	v.mu.Lock()
	v.keys[purpose] = hide(fresh)
	v.mu.Unlock()
	return fresh
}

// Format hides the keys.
func (v *Vault) Format(f fmt.State, _ rune) { show(f, "vault(***)") }

// String hides the keys.
func (v *Vault) String() string { return "vault(***)" }

// GoString hides the keys.
func (v *Vault) GoString() string { return "vault(***)" }

// MarshalText hides the keys.
func (v *Vault) MarshalText() ([]byte, error) { return []byte("vault(***)"), nil }

// LogValue hides the keys.
func (v *Vault) LogValue() slog.Value { return slog.StringValue("vault(***)") }

func show(f fmt.State, standIn string) { fmt.Fprintf(f, fmt.FormatString(f, 's'), standIn) }

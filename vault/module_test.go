package vault

import (
	"bytes"
	"encoding/hex"
	"errors"
	"path/filepath"
	"strings"
	"testing"
)

var testSecret = strings.Repeat("ab", 32)

// modules are all implementations; builds with the tag pkcs11 add theirs. Open opens the same module again when it is called again with the
// same place, a directory, as another process would.
var modules = map[string]func(t *testing.T, place string) Module{
	"software": func(t *testing.T, place string) Module {
		m, err := openSoftware(filepath.Join(place, kekName))
		if err != nil {
			t.Fatal(err)
		}
		return m
	},
}

// each runs a test over every module, each with a vault of its own.
func each(t *testing.T, test func(t *testing.T, v *Vault)) {
	t.Parallel()
	for name, open := range modules {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newVault(unhex(t, testSecret), open(t, t.TempDir())))
		})
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestModuleSeals(t *testing.T) {
	each(t, func(t *testing.T, v *Vault) {
		m := v.module
		for _, plain := range [][]byte{{}, []byte("x"), bytes.Repeat([]byte("canary"), 100)} {
			sealed, err := m.Seal(plain, []byte("bound"))
			if err != nil {
				t.Fatal(err)
			}
			again, err := m.Seal(plain, []byte("bound"))
			if err != nil || bytes.Equal(sealed, again) || len(plain) > 1 && bytes.Contains(sealed, plain) {
				t.Errorf("%d bytes: sealed alike twice, or in clear: %v", len(plain), err)
			}
			if got, err := m.Unseal(sealed, []byte("bound")); err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%d bytes: got %x, %v", len(plain), got, err)
			}
			if !m.Current(sealed) {
				t.Error("just sealed, and not under the newest KEK")
			}
			if _, err := m.Unseal(sealed, []byte("other")); !errors.Is(err, ErrSealed) {
				t.Errorf("other bound: got %v", err)
			}
			for i := range sealed {
				sealed[i] ^= 1
				if _, err := m.Unseal(sealed, []byte("bound")); !errors.Is(err, ErrSealed) {
					t.Fatalf("byte %d altered: got %v", i, err)
				}
				sealed[i] ^= 1
			}
			for _, short := range [][]byte{nil, sealed[:1], sealed[:8], sealed[:len(sealed)-1]} {
				if _, err := m.Unseal(short, []byte("bound")); !errors.Is(err, ErrSealed) {
					t.Errorf("cut to %d: got %v", len(short), err)
				}
			}
		}
	})
}

func TestModuleRotates(t *testing.T) {
	t.Parallel()
	for name, open := range modules {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			place := t.TempDir()
			ours, theirs := open(t, place), open(t, place)
			old, err := ours.Seal([]byte("old"), nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := theirs.Rotate(); err != nil {
				t.Fatal(err)
			}
			fresh, err := theirs.Seal([]byte("fresh"), nil)
			if err != nil {
				t.Fatal(err)
			}
			if theirs.Current(old) || !theirs.Current(fresh) {
				t.Error("rotation did not make a new KEK")
			}
			for _, m := range []Module{theirs, ours, open(t, place)} { // Ours learns of the rotation when it meets the fresh value.
				for _, tt := range []struct {
					sealed []byte
					want   string
				}{{old, "old"}, {fresh, "fresh"}} {
					if got, err := m.Unseal(tt.sealed, nil); err != nil || string(got) != tt.want {
						t.Errorf("got %q, %v, want %q", got, err, tt.want)
					}
				}
			}
			if ours.Current(old) || !ours.Current(fresh) {
				t.Error("the other process did not learn of the new KEK")
			}
			for range 3 {
				if err := ours.Rotate(); err != nil {
					t.Fatal(err)
				}
			}
			if got, err := theirs.Unseal(old, nil); err != nil || string(got) != "old" {
				t.Errorf("after four rotations: got %q, %v", got, err)
			}
		})
	}
}

func TestModuleRandom(t *testing.T) {
	each(t, func(t *testing.T, v *Vault) {
		a, b := make([]byte, 32), make([]byte, 32)
		if err := errors.Join(v.module.Random(a), v.module.Random(b)); err != nil || bytes.Equal(a, b) || bytes.Equal(a, make([]byte, 32)) {
			t.Errorf("got %x and %x, %v", a, b, err)
		}
	})
}

func TestModuleKeys(t *testing.T) {
	const (
		k1, k2, k3 = "0123456789abcdef", "fedcba9876543210", "89abcdef01234567"
		aes128     = "000102030405060708090a0b0c0d0e0f"
	)
	each(t, func(t *testing.T, v *Vault) {
		for _, tt := range []struct {
			name       string
			alg        Algorithm
			key        string
			plain, out string
		}{
			{"3DES of the seed's PIN block", TDES, "26e1734e4d52b905e74574b7bf0897daeec7e217c61b3ac0", "0630645A7FFD9FDD", "4F5D12303995DD06"},
			{"3DES of the seed's check value", TDES, "26e1734e4d52b905e74574b7bf0897daeec7e217c61b3ac0", "0000000000000000", "D84338"},
			{"AES-128 of FIPS 197", AES, aes128, "00112233445566778899aabbccddeeff", "69c4e0d86a7b0430d8cdb78070b4c55a"},
			{"AES-256 of FIPS 197", AES, aes128 + "101112131415161718191a1b1c1d1e1f", "00112233445566778899aabbccddeeff", "8ea2b7ca516745bfeafc49904b496089"},
			{"two blocks are alike", TDES, k1 + k2, "00000000000000000000000000000000", "08d7b4fb629d088508d7b4fb629d0885"},
		} {
			sealed, err := v.module.Seal(unhex(t, tt.key), []byte("b"))
			if err != nil {
				t.Fatal(err)
			}
			key, err := v.module.Open(tt.alg, sealed, []byte("b"))
			if err != nil {
				t.Fatalf("%s: %v", tt.name, err)
			}
			plain := unhex(t, tt.plain)
			out := make([]byte, len(plain))
			if err := key.Encrypt(out, plain); err != nil || !bytes.HasPrefix(out, unhex(t, tt.out)) {
				t.Errorf("%s: got %x, %v, want %s", tt.name, out, err, tt.out)
			}
			if err := key.Decrypt(out, out); err != nil || !bytes.Equal(out, plain) {
				t.Errorf("%s: decrypted to %x, %v", tt.name, out, err)
			}
			if err := key.Encrypt(out, plain[1:]); !errors.Is(err, ErrKey) {
				t.Errorf("%s: half a block: %v", tt.name, err)
			}
			if err := key.Encrypt(out[:1], plain); !errors.Is(err, ErrKey) {
				t.Errorf("%s: no room: %v", tt.name, err)
			}
			if _, err := key.MAC(plain); !errors.Is(err, ErrKey) {
				t.Errorf("%s: MAC with it: %v", tt.name, err)
			}
			if err := key.Close(); err != nil {
				t.Errorf("%s: close: %v", tt.name, err)
			}
		}
		for name, tt := range map[string]struct {
			alg Algorithm
			key string
		}{
			"3DES of 8 bytes":         {TDES, k1},
			"3DES of 32 bytes":        {TDES, k1 + k2 + k3 + k1},
			"DES in disguise":         {TDES, k1 + k1},
			"DES but for parity":      {TDES, k1 + "0022446688aaccee"},
			"DES at the end":          {TDES, k1 + k2 + k2},
			"AES-192":                 {AES, k1 + k2 + k3},
			"MAC key of three parts":  {RetailMAC, k1 + k2 + k3},
			"MAC key of equal halves": {RetailMAC, k1 + k1},
			"unknown algorithm":       {9, k1 + k2},
			"nothing":                 {TDES, ""},
		} {
			sealed, err := v.module.Seal(unhex(t, tt.key), nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := v.module.Open(tt.alg, sealed, nil); !errors.Is(err, ErrKey) {
				t.Errorf("%s: got %v", name, err)
			}
			if _, err := v.module.Open(tt.alg, sealed, []byte("other")); !errors.Is(err, ErrSealed) {
				t.Errorf("%s, other bound: got %v", name, err)
			}
		}
	})
}

package vault

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/tillgate/tillgate/card"
)

// mustKey seals a key that a test knows.
func mustKey(t testing.TB, v *Vault, usage Usage, alg Algorithm, keyHex, bound string) SealedKey {
	t.Helper()
	sealed, err := v.sealNew(usage, alg, unhex(t, keyHex), []byte(bound))
	if err != nil {
		t.Fatal(err)
	}
	return SealedKey{sealed, []byte(bound)}
}

const (
	seedPINKey = "26e1734e4d52b905e74574b7bf0897daeec7e217c61b3ac0" // uqpay.md, 9.1.
	demoPINKey = "0123456789abcdeffedcba987654321089abcdef01234567" // uqpay.md, 9.3.
	macKey     = "0123456789abcdeffedcba9876543210"
	zmkKey     = "1c1c2a2a2a31313138383838464646460e0e0e0e15151515"
	zpkKey     = "5e5d4c4b3a29181706f5e4d3c2b1a09f"
	zpkAES     = "c1d0f8fb4958670dba40ab1f3752ef0d"
	zmkAES     = "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4"
)

func TestAKeyHasOneUse(t *testing.T) {
	each(t, func(t *testing.T, v *Vault) {
		keys := map[Usage]SealedKey{
			UsagePIN:        mustKey(t, v, UsagePIN, TDES, seedPINKey, "b"),
			UsageZonePIN:    mustKey(t, v, UsageZonePIN, TDES, zpkKey, "b"),
			UsageZoneMAC:    mustKey(t, v, UsageZoneMAC, RetailMAC, macKey, "b"),
			UsageZoneMaster: mustKey(t, v, UsageZoneMaster, TDES, zmkKey, "b"),
		}
		pan, _ := card.ParsePAN("5554748800260229")
		uses := map[Usage]func(SealedKey) error{
			UsagePIN: func(k SealedKey) error {
				_, err := v.TranslatePIN([]SealedKey{k}, [8]byte{}, card.Format0, keys[UsageZonePIN], card.Format0, pan)
				return err
			},
			UsageZonePIN: func(k SealedKey) error {
				_, err := v.TranslatePIN(nil, [8]byte{}, card.Format0, k, card.Format0, pan)
				return err
			},
			UsageZoneMAC: func(k SealedKey) error {
				_, err := v.CheckMessageMAC(k, []byte("x"), [8]byte{})
				return err
			},
			UsageZoneMaster: func(k SealedKey) error {
				if _, err := v.ImportKey(k, UsageZonePIN, TDES, make([]byte, 16), [3]byte{}, nil); !errors.Is(err, ErrKey) {
					return err // ErrKey: what decrypts from zeros has equal halves.
				}
				return nil
			},
		}
		for usage, use := range uses {
			for has, k := range keys {
				err := use(k)
				if usage == has && err != nil || usage != has && !errors.Is(err, ErrUsage) {
					t.Errorf("%s as %s: got %v", has, usage, err)
				}
				if usage == has {
					continue
				}
				forged := SealedKey{append([]byte{byte(usage)}, k.Sealed[1:]...), k.Bound}
				if alg := usages[usage].algorithms[0]; usage == UsageZoneMAC {
					forged.Sealed[1] = byte(alg)
				}
				if err := use(forged); !errors.Is(err, ErrSealed) {
					t.Errorf("%s made out to be a %s: got %v", has, usage, err)
				}
			}
			elsewhere := SealedKey{keys[usage].Sealed, []byte("c")}
			if err := use(elsewhere); !errors.Is(err, ErrSealed) {
				t.Errorf("%s of another row: got %v", usage, err)
			}
			for _, none := range []SealedKey{{}, {Sealed: []byte{byte(usage)}}, {Sealed: keys[usage].Sealed[:2], Bound: []byte("b")}} {
				if err := use(none); !errors.Is(err, ErrSealed) {
					t.Errorf("no %s: got %v", usage, err)
				}
			}
		}
		if _, err := v.KCV(SealedKey{}); !errors.Is(err, ErrSealed) {
			t.Errorf("check value of no key: got %v", err)
		}
	})
}

// A key that is open may not be reached by cutting its name elsewhere.
func TestOpenedKeysAreFoundByAllOfTheirName(t *testing.T) {
	each(t, func(t *testing.T, v *Vault) {
		k := mustKey(t, v, UsageZoneMAC, RetailMAC, macKey, "bound")
		if _, err := v.MessageMAC(k, nil); err != nil {
			t.Fatal(err)
		}
		n := len(k.Sealed) - 1
		moved := SealedKey{k.Sealed[:n], append([]byte{k.Sealed[n]}, k.Bound...)}
		if _, err := v.MessageMAC(moved, nil); !errors.Is(err, ErrSealed) {
			t.Errorf("got %v", err)
		}
	})
}

// scripted is a module whose randomness is given.
type scripted struct {
	Module
	bytes *bytes.Reader
}

func (s scripted) Random(b []byte) error {
	_, err := s.bytes.Read(b)
	return err
}

// Vectors of protocols/uqpay.md, 9.1 (the seed's own) and 9.3.
func TestPINKeyEnvelopesOfUQPAY(t *testing.T) {
	each(t, func(t *testing.T, v *Vault) {
		module := v.module
		for _, tt := range []struct{ prvKey, pinKey, nonce, envelope string }{
			{"5214abf357f2cc47645c4d942c02fd0180acc6d8de8fae3708849b6a459cba00", seedPINKey, "2c0483868d482c7a1845fff9", "LASDho1ILHoYRf/5YEyIgieoc+SXJkUsHZElXOMNGv7WnC3fZzFPYDH8mJaDbnwvom3QEtdv3NjvaEUtVeetWdQsv2RtQw4XEYh/Cg=="},
			{"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", demoPINKey, "a0a1a2a3a4a5a6a7a8a9aaab", "oKGio6Slpqeoqaqr1ilOHnH+NIhaXOaxZB6luBbJPXPw1ntUqzgTskyZRDHqTyadzEY2W2+tNvs9T7XO4xL2w5lA+TGDbVTVj6JaXw=="},
			{"000102030405060708090a0b0c0d0e0f1011121314151617", demoPINKey, "a0a1a2a3a4a5a6a7a8a9aaab", "oKGio6SlpqeoqaqrC1OMUc1mLkTGDN6jjLmRH/JyT3H/U3fhpbof30WAiQuzZ6XOuwI48jFJ54LAf4YiDjW2ebKU20Fc6SRMaTbg8g=="},
			{"000102030405060708090a0b0c0d0e0f", demoPINKey, "a0a1a2a3a4a5a6a7a8a9aaab", "oKGio6SlpqeoqaqrmrcKiEq8BT2yQdRiJXbVBjWLR2vhdgSXEiZEr3G/vpiimiRTbI6JC0/v0Peb7j/nVC8DGY39ZKb31bDFizyYow=="},
		} {
			v.module = scripted{module, bytes.NewReader(unhex(t, tt.pinKey+tt.nonce))}
			sealed, envelope, err := v.IssuePINKey(unhex(t, tt.prvKey), []byte("10000301"))
			if err != nil || envelope != tt.envelope {
				t.Errorf("AES of %d bytes: got %s, %v", len(tt.prvKey)/2, envelope, err)
			}
			v.module = module
			kcv, err := v.KCV(SealedKey{sealed, []byte("10000301")})
			if want := map[string]string{seedPINKey: "d84338", demoPINKey: "3fd539"}[tt.pinKey]; err != nil || hex.EncodeToString(kcv[:]) != want {
				t.Errorf("check value %x, %v, want %s", kcv, err, want)
			}
		}
	})
}

func TestIssuePINKey(t *testing.T) {
	each(t, func(t *testing.T, v *Vault) {
		prvKey := bytes.Repeat([]byte{7}, 32)
		seen := map[string]bool{}
		for range 3 {
			sealed, envelope, err := v.IssuePINKey(prvKey, []byte("t"))
			if err != nil {
				t.Fatal(err)
			}
			box, err := base64.StdEncoding.DecodeString(envelope)
			if err != nil || len(envelope) != 104 || len(box) != 76 {
				t.Fatalf("envelope %s: %v", envelope, err)
			}
			block, _ := aes.NewCipher(prvKey)
			gcm, _ := cipher.NewGCM(block)
			text, err := gcm.Open(nil, box[:12], box[12:], nil)
			if err != nil || len(text) != 48 || strings.ToLower(string(text)) != string(text) {
				t.Fatalf("envelope holds %d bytes: %v", len(text), err)
			}
			key, err := des.NewTripleDESCipher(unhex(t, string(text)))
			if err != nil {
				t.Fatal(err)
			}
			var zeros [8]byte
			key.Encrypt(zeros[:], zeros[:])
			if kcv, err := v.KCV(SealedKey{sealed, []byte("t")}); err != nil || kcv != [3]byte(zeros[:3]) {
				t.Errorf("sealed and enveloped keys differ: %x, %x, %v", kcv, zeros, err)
			}
			if seen[string(text)] || seen[string(box[:12])] || bytes.Contains(sealed, unhex(t, string(text))) {
				t.Error("key or nonce again, or in clear")
			}
			seen[string(text)], seen[string(box[:12])] = true, true
		}
		for _, n := range []int{0, 8, 15, 31, 33, 64} {
			if sealed, envelope, err := v.IssuePINKey(make([]byte, n), nil); !errors.Is(err, ErrKey) || sealed != nil || envelope != "" {
				t.Errorf("prv_key of %d bytes: got %v", n, err)
			}
		}
	})
}

func TestZoneMasterOfComponents(t *testing.T) {
	each(t, func(t *testing.T, v *Vault) {
		whole, err := v.NewZoneMaster(TDES, []byte("link"), macKey)
		if err != nil {
			t.Fatal(err)
		}
		parts, err := v.NewZoneMaster(TDES, []byte("link"), "ffffffffffffffff0000000000000000", "0f0f0f0f0f0f0f0ff0f0f0f0f0f0f0f0", "f1d3b597795b3d1f0e2c4a6886a4c2e0")
		if err != nil {
			t.Fatal(err)
		}
		a, err1 := v.KCV(SealedKey{whole, []byte("link")})
		b, err2 := v.KCV(SealedKey{parts, []byte("link")})
		if err1 != nil || err2 != nil || a != b || hex.EncodeToString(a[:]) != "08d7b4" {
			t.Errorf("got %x, %x, %v, %v", a, b, err1, err2)
		}
		for name, tt := range map[string]struct {
			alg        Algorithm
			components []string
		}{
			"none":                {TDES, nil},
			"not hexadecimal":     {TDES, []string{"canary"}},
			"different lengths":   {TDES, []string{macKey, zmkKey}},
			"of one key":          {TDES, []string{"0123456789abcdef0123456789abcdef"}},
			"that cancel out":     {TDES, []string{macKey, macKey}},
			"for a MAC":           {RetailMAC, []string{macKey}},
			"AES of 24 bytes":     {AES, []string{zmkKey}},
			"longer than any key": {AES, []string{zmkAES + zmkAES}},
		} {
			sealed, err := v.NewZoneMaster(tt.alg, []byte("link"), tt.components...)
			if !errors.Is(err, ErrKey) || sealed != nil {
				t.Errorf("components %s: got %v", name, err)
			}
			for _, c := range tt.components {
				if strings.Contains(err.Error(), c) {
					t.Errorf("components %s: in the error: %v", name, err)
				}
			}
		}
	})
}

// ecb encrypts key under master without the vault's code.
func ecb(t *testing.T, master cipher.Block, key string) []byte {
	t.Helper()
	out := unhex(t, key)
	for i := 0; i < len(out); i += master.BlockSize() {
		master.Encrypt(out[i:], out[i:])
	}
	return out
}

func TestImportKey(t *testing.T) {
	each(t, func(t *testing.T, v *Vault) {
		tdes, err1 := des.NewTripleDESCipher(unhex(t, zmkKey))
		aes256, err2 := aes.NewCipher(unhex(t, zmkAES))
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		master := mustKey(t, v, UsageZoneMaster, TDES, zmkKey, "link")
		masterAES := mustKey(t, v, UsageZoneMaster, AES, zmkAES, "link")
		for _, tt := range []struct {
			name   string
			master SealedKey
			by     cipher.Block
			usage  Usage
			alg    Algorithm
			key    string
			kcv    string
			err    error
		}{
			{"zone PIN key of two parts", master, tdes, UsageZonePIN, TDES, macKey, "08d7b4", nil},
			{"zone PIN key of three parts", master, tdes, UsageZonePIN, TDES, seedPINKey, "d84338", nil},
			{"zone MAC key", master, tdes, UsageZoneMAC, RetailMAC, macKey, "08d7b4", nil},
			{"3DES under AES", masterAES, aes256, UsageZonePIN, TDES, macKey, "08d7b4", nil},
			{"AES under AES", masterAES, aes256, UsageZonePIN, AES, "2b7e151628aed2a6abf7158809cf4f3c", "7df76b", nil},
			{"AES under 3DES", master, tdes, UsageZonePIN, AES, zpkAES, "000000", ErrKey},
			{"wrong check value", master, tdes, UsageZonePIN, TDES, macKey, "08d7b5", ErrKCV},
			{"wrong check value of a MAC key", master, tdes, UsageZoneMAC, RetailMAC, macKey, "000000", ErrKCV},
			{"PIN key", master, tdes, UsagePIN, TDES, macKey, "08d7b4", ErrUsage},
			{"zone master key", master, tdes, UsageZoneMaster, TDES, macKey, "08d7b4", ErrUsage},
			{"MAC key as 3DES", master, tdes, UsageZoneMAC, TDES, macKey, "08d7b4", ErrKey},
			{"MAC key of three parts", master, tdes, UsageZoneMAC, RetailMAC, seedPINKey, "d84338", ErrKey},
			{"half a block", master, tdes, UsageZonePIN, TDES, macKey[:16], "08d7b4", ErrKey},
			{"nothing", master, tdes, UsageZonePIN, TDES, "", "08d7b4", ErrKey},
			{"five blocks", master, tdes, UsageZonePIN, TDES, seedPINKey + macKey, "d84338", ErrKey},
		} {
			encrypted := ecb(t, tt.by, tt.key)
			sealed, err := v.ImportKey(tt.master, tt.usage, tt.alg, encrypted, [3]byte(unhex(t, tt.kcv)), []byte("zone"))
			if !errors.Is(err, tt.err) || (tt.err == nil) != (err == nil) || (err == nil) != (sealed != nil) {
				t.Errorf("%s: got %v, want %v", tt.name, err, tt.err)
				continue
			}
			if err != nil {
				continue
			}
			if kcv, err := v.KCV(SealedKey{sealed, []byte("zone")}); err != nil || hex.EncodeToString(kcv[:]) != tt.kcv {
				t.Errorf("%s: check value %x, %v", tt.name, kcv, err)
			}
		}
		encrypted := ecb(t, tdes, macKey)
		if _, err := v.ImportKey(master, UsageZonePIN, TDES, encrypted[:15], [3]byte{}, nil); !errors.Is(err, ErrKey) {
			t.Errorf("torn: got %v", err)
		}
	})
}

func TestNothingPrints(t *testing.T) {
	t.Parallel()
	v, err := New(testSecret)
	if err != nil {
		t.Fatal(err)
	}
	mac := v.MAC("request", nil) // So that there is a derived key to print.
	key := mustKey(t, v, UsagePIN, TDES, seedPINKey, "canary")
	if _, err := v.KCV(key); err != nil { // And an opened one.
		t.Fatal(err)
	}
	derived := strings.Trim(fmt.Sprint(v.key("request")[:4]), "[]")
	if bytes.Equal(mac, v.key("request")) {
		t.Error("a MAC that is its key")
	}
	type nested struct {
		Key   SealedKey
		Vault *Vault
		any   any
	}
	var text strings.Builder
	for _, value := range []any{v, key, &key, []SealedKey{key}, nested{key, v, v}, &nested{key, v, key}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%c", "%30v", "%z"} {
			fmt.Fprintf(&text, verb+"\n", value)
		}
		out, err := json.Marshal(value)
		fmt.Fprintln(&text, string(out), err)
		slog.New(slog.NewTextHandler(&text, nil)).Info("m", "v", value)
		slog.New(slog.NewJSONHandler(&text, nil)).Info("m", "v", value)
	}
	for _, c := range []string{testSecret[:16], strings.ToUpper(testSecret[:16]), "171 171", "0xab, 0xab", seedPINKey[:16], "26 e1", "38 225 115", derived} {
		if strings.Contains(text.String(), c) {
			t.Errorf("prints %q", c)
		}
	}
	if !strings.Contains(text.String(), "key(***)") || !strings.Contains(text.String(), "vault(***)") {
		t.Error("the stand-ins are missing")
	}
	if s := UsagePIN.String() + ", " + Usage(9).String(); s != "PIN key, usage 9" {
		t.Errorf("got %s", s)
	}
}

func TestCacheIsBoundedAndClosesWhatLeaves(t *testing.T) {
	t.Parallel()
	c := newCache()
	open, closed := 0, 0
	opener := func() (Key, error) {
		open++
		return closing{closed: &closed}, nil
	}
	err := c.use("held", opener, func(Key) error {
		for i := range 3 * cacheMax {
			if err := c.use(fmt.Sprint(i), opener, func(Key) error { return nil }); err != nil {
				return err
			}
		}
		for range cacheMax { // The same one again costs nothing.
			if err := c.use(fmt.Sprint(3*cacheMax-1), opener, func(Key) error { return nil }); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || len(c.keys) != cacheMax || open-closed != cacheMax || open > 3*cacheMax+2 {
		t.Errorf("%d opened, %d closed, %d kept, %v", open, closed, len(c.keys), err)
	}
	if err := c.use("bad", func() (Key, error) { return nil, ErrKey }, nil); !errors.Is(err, ErrKey) {
		t.Errorf("got %v", err)
	}
	// Two who open one key at once: the second closes its own.
	err = c.use("twice", func() (Key, error) {
		return closing{closed: &closed}, c.use("twice", opener, func(Key) error { return nil })
	}, func(Key) error { return nil })
	if err != nil || len(c.keys) != cacheMax {
		t.Errorf("%d kept, %v", len(c.keys), err)
	}
}

type closing struct {
	Key
	closed *int
}

func (c closing) Close() error {
	*c.closed++
	return nil
}

package vault

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tillgate/tillgate/card"
)

func mustPAN(t testing.TB, s string) card.PAN {
	t.Helper()
	p, err := card.ParsePAN(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func mustPIN(t testing.TB, s string) card.PIN {
	t.Helper()
	p, err := card.ParsePIN(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// terminalBlock is a PIN block as a terminal makes it.
func terminalBlock(t testing.TB, key string, f card.Format, pin string, pan card.PAN) (block [8]byte) {
	t.Helper()
	b, err := card.EncodePINBlock(f, mustPIN(t, pin), pan, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cipher := hostKey(t, key)
	cipher.Encrypt(block[:], b[:])
	return block
}

// hostKey is a 3DES or AES key as the other side has it, without the vault's code; which one the length of this file's keys tells.
func hostKey(t testing.TB, key string) cipher.Block {
	t.Helper()
	raw := unhex(t, key)
	var block cipher.Block
	var err error
	switch {
	case key == zpkAES:
		block, err = aes.NewCipher(raw)
	case len(raw) == 16:
		block, err = des.NewTripleDESCipher(slices.Concat(raw, raw[:8]))
	default:
		block, err = des.NewTripleDESCipher(raw)
	}
	if err != nil {
		t.Fatal(err)
	}
	return block
}

// hostPIN is what a card host finds in a block.
func hostPIN(t testing.TB, key string, f card.Format, block []byte, pan card.PAN) (card.PIN, error) {
	t.Helper()
	if f == card.Format4 {
		return card.DecryptPINBlock4(hostKey(t, key), [16]byte(block), pan)
	}
	var b [8]byte
	hostKey(t, key).Decrypt(b[:], block)
	return card.DecodePINBlock(f, b, pan)
}

func TestTranslationMatrix(t *testing.T) {
	each(t, func(t *testing.T, v *Vault) {
		pan := mustPAN(t, "5554748800260229")
		from := []SealedKey{mustKey(t, v, UsagePIN, TDES, seedPINKey, "t")}
		zone := mustKey(t, v, UsageZonePIN, TDES, zpkKey, "z")
		zoneAES := mustKey(t, v, UsageZonePIN, AES, zpkAES, "z")
		formats := []card.Format{card.Format0, card.Format1, 2, card.Format3, card.Format4, 5}
		allowed := map[[2]card.Format]bool{{0, 0}: true, {0, 3}: true, {0, 4}: true, {3, 0}: true, {3, 3}: true, {3, 4}: true}
		for _, f := range formats {
			for _, to := range formats {
				var block [8]byte
				if f == card.Format0 || f == card.Format1 || f == card.Format3 {
					block = terminalBlock(t, seedPINKey, f, "302312", pan)
				}
				key, raw, other := zone, zpkKey, zoneAES
				if to == card.Format4 {
					key, raw, other = zoneAES, zpkAES, zone
				}
				out, err := v.TranslatePIN(from, block, f, key, to, pan)
				if !allowed[[2]card.Format{f, to}] {
					if !errors.Is(err, card.ErrFormat) || out != nil {
						t.Errorf("%v into %v: got %x, %v", f, to, out, err)
					}
					continue
				}
				if err != nil {
					t.Errorf("%v into %v: %v", f, to, err)
					continue
				}
				if got, err := hostPIN(t, raw, to, out, pan); err != nil || !got.Equal(mustPIN(t, "302312")) {
					t.Errorf("%v into %v: the host finds %v", f, to, err)
				}
				if out, err := v.TranslatePIN(from, block, f, other, to, pan); !errors.Is(err, card.ErrFormat) || out != nil {
					t.Errorf("%v into %v under the wrong kind of key: got %v", f, to, err)
				}
			}
		}
	})
}

// The seed's PIN block (uqpay.md, 9.2), translated under a key for which the result is known too.
func TestTranslateTheSeedsBlock(t *testing.T) {
	each(t, func(t *testing.T, v *Vault) {
		from := []SealedKey{mustKey(t, v, UsagePIN, TDES, seedPINKey, "t")}
		to := mustKey(t, v, UsageZonePIN, TDES, demoPINKey, "z")
		out, err := v.TranslatePIN(from, [8]byte(unhex(t, "0F16F986ACED0296")), card.Format0, to, card.Format0, mustPAN(t, "5554748800161559"))
		if err != nil || fmt.Sprintf("%X", out) != "B2F2FAAE4E830704" {
			t.Errorf("got %X, %v", out, err)
		}
	})
}

func TestKeysThatAreAliveAreTried(t *testing.T) {
	each(t, func(t *testing.T, v *Vault) {
		pan := mustPAN(t, "5554748800260229")
		newest, older := mustKey(t, v, UsagePIN, TDES, seedPINKey, "t"), mustKey(t, v, UsagePIN, TDES, demoPINKey, "t")
		to := mustKey(t, v, UsageZonePIN, TDES, zpkKey, "z")
		for name, tt := range map[string]struct {
			key  string
			from []SealedKey
			good bool
		}{
			"the newest":        {seedPINKey, []SealedKey{newest, older}, true},
			"one refreshed":     {demoPINKey, []SealedKey{newest, older}, true},
			"one that is over":  {demoPINKey, []SealedKey{newest}, false},
			"none alive":        {seedPINKey, nil, false},
			"twice the same":    {seedPINKey, []SealedKey{newest, newest}, true},
			"nobody's":          {zpkKey, []SealedKey{newest, older}, false},
			"as many as can be": {demoPINKey, append(slices.Repeat([]SealedKey{newest}, pinKeysMax-1), older), true},
		} {
			out, err := v.TranslatePIN(tt.from, terminalBlock(t, tt.key, card.Format0, "302312", pan), card.Format0, to, card.Format0, pan)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			pin, err := hostPIN(t, zpkKey, card.Format0, out, pan)
			if err != nil || pin.Equal(mustPIN(t, "302312")) != tt.good {
				t.Errorf("%s: the host finds right %v, %v", name, !tt.good, err)
			}
		}
		if _, err := v.TranslatePIN(slices.Repeat([]SealedKey{newest}, pinKeysMax+1), [8]byte{}, card.Format0, to, card.Format0, pan); err == nil {
			t.Error("any number of keys is tried")
		}
		if _, err := v.TranslatePIN([]SealedKey{newest, {Sealed: older.Sealed, Bound: []byte("other")}}, [8]byte{}, card.Format0, to, card.Format0, pan); !errors.Is(err, ErrSealed) {
			t.Errorf("a key that does not open: got %v", err)
		}
		if _, err := v.TranslatePIN([]SealedKey{newest}, [8]byte{}, card.Format0, to, card.Format0, card.PAN{}); !errors.Is(err, card.ErrPAN) {
			t.Errorf("no card number: got %v", err)
		}
	})
}

// counting writes down every call made to a module and to its keys.
type counting struct {
	Module
	calls *[]string
}

func (c counting) note(s string) { *c.calls = append(*c.calls, s) }

func (c counting) Open(alg Algorithm, sealed, bound []byte) (Key, error) {
	c.note("open")
	k, err := c.Module.Open(alg, sealed, bound)
	return countingKey{k, c}, err
}

func (c counting) Random(b []byte) error {
	c.note(fmt.Sprintf("random %d", len(b)))
	return c.Module.Random(b)
}

type countingKey struct {
	Key
	counting
}

func (k countingKey) Encrypt(dst, src []byte) error {
	k.note(fmt.Sprintf("encrypt %d", len(src)))
	return k.Key.Encrypt(dst, src)
}

func (k countingKey) Decrypt(dst, src []byte) error {
	k.note(fmt.Sprintf("decrypt %d", len(src)))
	return k.Key.Decrypt(dst, src)
}

func (k countingKey) MAC(data []byte) ([8]byte, error) { return k.Key.MAC(data) }

func (k countingKey) Close() error { return k.Key.Close() }

func TestABlockWithoutPINIsWorkedLikeAnother(t *testing.T) {
	each(t, func(t *testing.T, v *Vault) {
		var calls []string
		v.module = counting{v.module, &calls}
		pan := mustPAN(t, "5554748800260229")
		from := []SealedKey{mustKey(t, v, UsagePIN, TDES, seedPINKey, "t"), mustKey(t, v, UsagePIN, TDES, demoPINKey, "t")}
		other, _ := card.EncodePINBlock(card.Format0, mustPIN(t, "302312"), mustPAN(t, "5554748800161559"), nil)
		hostKey(t, seedPINKey).Encrypt(other[:], other[:])
		for _, target := range []struct {
			f    card.Format
			key  SealedKey
			raw  string
			want string
		}{
			{card.Format0, mustKey(t, v, UsageZonePIN, TDES, zpkKey, "z"), zpkKey, "random 8, decrypt 8, decrypt 8, encrypt 8"},
			{card.Format3, mustKey(t, v, UsageZonePIN, TDES, zpkKey, "z"), zpkKey, "random 8, decrypt 8, decrypt 8, random 8, encrypt 8"},
			{card.Format4, mustKey(t, v, UsageZonePIN, AES, zpkAES, "z"), zpkAES, "random 8, decrypt 8, decrypt 8, random 8, encrypt 16, encrypt 16"},
		} {
			for _, tt := range []struct {
				name  string
				block [8]byte
				good  bool
			}{
				{"open the keys", [8]byte{}, false},
				{"good, newest key", terminalBlock(t, seedPINKey, card.Format0, "302312", pan), true},
				{"good, older key", terminalBlock(t, demoPINKey, card.Format0, "302312", pan), true},
				{"wrong PIN", terminalBlock(t, seedPINKey, card.Format0, "302313", pan), false},
				{"another's key", terminalBlock(t, zpkKey, card.Format0, "302312", pan), false},
				{"another's card", other, false},
				{"another format", terminalBlock(t, seedPINKey, card.Format3, "302312", pan), false},
				{"garbage", [8]byte([]byte("garbage!")), false},
			} {
				calls = nil
				out, err := v.TranslatePIN(from, tt.block, card.Format0, target.key, target.f, pan)
				if err != nil {
					t.Fatalf("%s into %v: %v", tt.name, target.f, err)
				}
				if got := strings.Join(calls, ", "); tt.name != "open the keys" && got != target.want {
					t.Errorf("%s into %v: calls %s, want %s", tt.name, target.f, got, target.want)
				}
				pin, err := hostPIN(t, target.raw, target.f, out, pan)
				if err != nil || pin.Equal(mustPIN(t, "302312")) != tt.good {
					t.Errorf("%s into %v: the host finds right %v, %v", tt.name, target.f, !tt.good, err)
				}
			}
		}
	})
}

// failing is a module whose keys fail, as a token may at any time.
type failing struct{ Module }

func (f failing) Open(Algorithm, []byte, []byte) (Key, error) { return failing{}, nil }
func (failing) Encrypt(dst, src []byte) error                 { return errors.New("the token is gone") }
func (failing) Decrypt(dst, src []byte) error                 { clear(dst); return nil }
func (failing) MAC([]byte) ([8]byte, error)                   { return [8]byte{}, errors.New("the token is gone") }
func (failing) Close() error                                  { return nil }

func TestAKeyThatFailsIsAnError(t *testing.T) {
	each(t, func(t *testing.T, v *Vault) {
		pan := mustPAN(t, "5554748800260229")
		from := []SealedKey{mustKey(t, v, UsagePIN, TDES, seedPINKey, "t")}
		zone, zoneAES := mustKey(t, v, UsageZonePIN, TDES, zpkKey, "z"), mustKey(t, v, UsageZonePIN, AES, zpkAES, "z")
		mac := mustKey(t, v, UsageZoneMAC, RetailMAC, macKey, "z")
		v.module = failing{v.module}
		if out, err := v.TranslatePIN(from, [8]byte{}, card.Format0, zone, card.Format0, pan); err == nil || out != nil {
			t.Errorf("format 0: got %x, %v", out, err)
		}
		if out, err := v.TranslatePIN(from, [8]byte{}, card.Format0, zoneAES, card.Format4, pan); err == nil || out != nil {
			t.Errorf("format 4: got %x, %v", out, err)
		}
		if _, err := v.MessageMAC(mac, nil); err == nil {
			t.Error("MAC: no error")
		}
		if ok, err := v.CheckMessageMAC(mac, nil, [8]byte{}); ok || err == nil {
			t.Errorf("check: got %v, %v", ok, err)
		}
	})
}

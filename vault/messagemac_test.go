package vault

import (
	"bytes"
	"crypto/cipher"
	"crypto/des"
	"fmt"
	"slices"
	"testing"
)

// ISO/IEC 9797-1, annex B.4, padding method 1: the example of ANSI X9.19 and a message that needs padding.
func TestMessageMACsOfTheStandard(t *testing.T) {
	each(t, func(t *testing.T, v *Vault) {
		key := mustKey(t, v, UsageZoneMAC, RetailMAC, "0123456789abcdeffedcba9876543210", "z")
		for text, want := range map[string]string{
			"Now is the time for all ": "A1C72E74EA3FA9B6",
			"Now is the time for it":   "2E2B1428CC78254F",
		} {
			if mac, err := v.MessageMAC(key, []byte(text)); err != nil || fmt.Sprintf("%X", mac) != want {
				t.Errorf("%q: got %X, %v, want %s", text, mac, err, want)
			}
		}
	})
}

// ISO 9797-1 MAC algorithm 3, computed the long way: DES-CBC under the first half, then decrypted and encrypted once more.
func slowMAC(t *testing.T, key string, data []byte) []byte {
	t.Helper()
	k1, err1 := des.NewCipher(unhex(t, key)[:8])
	k2, err2 := des.NewCipher(unhex(t, key)[8:])
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	data = append(slices.Clone(data), make([]byte, (8-len(data)%8)%8)...)
	if len(data) == 0 {
		data = make([]byte, 8)
	}
	out := make([]byte, len(data))
	cipher.NewCBCEncrypter(k1, make([]byte, 8)).CryptBlocks(out, data)
	mac := out[len(out)-8:]
	k2.Decrypt(mac, mac)
	k1.Encrypt(mac, mac)
	return mac
}

func TestMessageMAC(t *testing.T) {
	each(t, func(t *testing.T, v *Vault) {
		key := mustKey(t, v, UsageZoneMAC, RetailMAC, macKey, "z")
		for n := range 130 {
			data := bytes.Repeat([]byte("0200 message "), 10)[:n]
			mac, err := v.MessageMAC(key, data)
			if want := slowMAC(t, macKey, data); err != nil || !bytes.Equal(mac[:], want) {
				t.Fatalf("%d bytes: got %x, %v, want %x", n, mac, err, want)
			}
			if ok, err := v.CheckMessageMAC(key, data, mac); err != nil || !ok {
				t.Errorf("%d bytes: own MAC is refused: %v", n, err)
			}
			mac[n%8] ^= 1
			if ok, err := v.CheckMessageMAC(key, data, mac); err != nil || ok {
				t.Errorf("%d bytes: altered MAC is taken: %v", n, err)
			}
		}
	})
}

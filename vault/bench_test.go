package vault

import (
	"bytes"
	"testing"

	"github.com/tillgate/tillgate/card"
)

func bench(b *testing.B, fn func(v *Vault, zone, mac SealedKey, from []SealedKey, block [8]byte, pan card.PAN) error) {
	v, err := New(testSecret)
	if err != nil {
		b.Fatal(err)
	}
	pan := mustPAN(b, "5554748800260229")
	from := []SealedKey{mustKey(b, v, UsagePIN, TDES, seedPINKey, "t"), mustKey(b, v, UsagePIN, TDES, demoPINKey, "t")}
	zone, mac := mustKey(b, v, UsageZonePIN, TDES, zpkKey, "z"), mustKey(b, v, UsageZoneMAC, RetailMAC, macKey, "z")
	block := terminalBlock(b, seedPINKey, card.Format0, "302312", pan)
	b.ReportAllocs()
	for b.Loop() {
		if err := fn(v, zone, mac, from, block, pan); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	bench(b, func(v *Vault, _, _ SealedKey, _ []SealedKey, _ [8]byte, _ card.PAN) error {
		_, err := v.Seal("card", []byte("5554748800260229|2707|"), []byte("merchant, payment, operation"))
		return err
	})
}

func BenchmarkUnseal(b *testing.B) {
	var sealed []byte
	bench(b, func(v *Vault, _, _ SealedKey, _ []SealedKey, _ [8]byte, _ card.PAN) (err error) {
		if sealed == nil {
			sealed, err = v.Seal("card", []byte("5554748800260229|2707|"), []byte("merchant, payment, operation"))
			return err
		}
		_, err = v.Unseal("card", sealed, []byte("merchant, payment, operation"))
		return err
	})
}

// Two keys of the terminal are alive.
func BenchmarkTranslatePIN(b *testing.B) {
	bench(b, func(v *Vault, zone, _ SealedKey, from []SealedKey, block [8]byte, pan card.PAN) error {
		_, err := v.TranslatePIN(from, block, card.Format0, zone, card.Format0, pan)
		return err
	})
}

// A message of an ordinary sale with chip data.
func BenchmarkMessageMAC300Bytes(b *testing.B) {
	data := bytes.Repeat([]byte("0200 message "), 24)[:300]
	bench(b, func(v *Vault, _, mac SealedKey, _ []SealedKey, _ [8]byte, _ card.PAN) error {
		_, err := v.MessageMAC(mac, data)
		return err
	})
}

func BenchmarkIssuePINKey(b *testing.B) {
	prvKey := make([]byte, 32)
	bench(b, func(v *Vault, _, _ SealedKey, _ []SealedKey, _ [8]byte, _ card.PAN) error {
		_, _, err := v.IssuePINKey(prvKey, []byte("10000301"))
		return err
	})
}

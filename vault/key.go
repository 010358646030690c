package vault

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
)

// Usage is what a key may be used for, and nothing else.
type Usage uint8

// The usages. Their numbers are in sealed keys, so they never change.
const (
	UsagePIN        Usage = 1 // Decrypts PIN blocks of a terminal: its PINKEY.
	UsageZonePIN    Usage = 2 // Encrypts PIN blocks for a card host: ZPK.
	UsageZoneMAC    Usage = 3 // MACs of messages with a card host: ZAK.
	UsageZoneMaster Usage = 4 // Decrypts the keys that a card host delivers: ZMK.
)

// usages says which algorithms a usage may have, and the words for it.
var usages = map[Usage]struct {
	name       string
	algorithms []Algorithm
}{
	UsagePIN:        {"PIN key", []Algorithm{TDES}},
	UsageZonePIN:    {"zone PIN key", []Algorithm{TDES, AES}},
	UsageZoneMAC:    {"zone MAC key", []Algorithm{RetailMAC}},
	UsageZoneMaster: {"zone master key", []Algorithm{TDES, AES}},
}

// String is the usage in words.
func (u Usage) String() string {
	if known, ok := usages[u]; ok {
		return known.name
	}
	return fmt.Sprintf("usage %d", uint8(u))
}

// ErrUsage is a key that was made for something else.
var ErrUsage = errors.New("key is for another use")

// SealedKey is a key as a row keeps it. Its usage is sealed with it. It shows nothing of itself when printed.
type SealedKey struct {
	Sealed []byte // As the vault made it.
	Bound  []byte // What it was bound to when it was made: whose key it is.
}

// headSize is what stands in clear before the sealed key itself: its usage and its algorithm, both authenticated.
const headSize = 2

// sealKey seals a key that checkKey has passed.
func (v *Vault) sealKey(usage Usage, alg Algorithm, raw, bound []byte) ([]byte, error) {
	head := []byte{byte(usage), byte(alg)}
	sealed, err := v.module.Seal(raw, associated(kindKey, string(head), bound))
	if err != nil {
		return nil, err
	}
	return append(head, sealed...), nil
}

// head reads usage and algorithm. They are not authenticated until the key is opened.
func (k SealedKey) head() (Usage, Algorithm) {
	if len(k.Sealed) < headSize {
		return 0, 0
	}
	return Usage(k.Sealed[0]), Algorithm(k.Sealed[1])
}

// check returns the algorithm of a key of a usage, or ErrUsage, or ErrSealed for what is no key at all.
func (k SealedKey) check(usage Usage) (Algorithm, error) {
	has, alg := k.head()
	switch {
	case has == 0:
		return 0, fmt.Errorf("%s: %w", usage, ErrSealed)
	case has != usage:
		return 0, fmt.Errorf("%s: %w", usage, ErrUsage)
	}
	return alg, nil
}

// use opens a key, or finds it open, and calls fn with it. It returns ErrUsage, ErrSealed, or what fn returns.
func (v *Vault) use(k SealedKey, usage Usage, fn func(Key) error) error {
	alg, err := k.check(usage)
	if err != nil {
		return err
	}
	name := make([]byte, 0, 4+len(k.Sealed)+len(k.Bound))
	name = binary.BigEndian.AppendUint32(name, uint32(len(k.Sealed)))
	name = append(append(name, k.Sealed...), k.Bound...)
	return v.opened.use(string(name), func() (Key, error) {
		key, err := v.module.Open(alg, k.Sealed[headSize:], associated(kindKey, string(k.Sealed[:headSize]), k.Bound))
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", usage, err)
		}
		return key, nil
	}, fn)
}

// RewrapKey is Rewrap for a key; the fresh one replaces Sealed in its row.
func (v *Vault) RewrapKey(k SealedKey) (fresh []byte, changed bool, err error) {
	if len(k.Sealed) < headSize {
		return nil, false, ErrSealed
	}
	head := k.Sealed[:headSize:headSize]
	fresh, changed, err = v.rewrap(k.Sealed[headSize:], associated(kindKey, string(head), k.Bound))
	if err != nil {
		return nil, false, err
	}
	return append(head, fresh...), changed, nil
}

// KCV is a key's check value, the first three bytes of encrypting a block of zeros: for people who compare it with the other side's.
func (v *Vault) KCV(k SealedKey) (kcv [3]byte, err error) {
	usage, alg := k.head()
	err = v.use(k, usage, func(key Key) error {
		kcv, err = checkValue(alg, key)
		return err
	})
	return kcv, err
}

func checkValue(alg Algorithm, key Key) (kcv [3]byte, err error) {
	block := make([]byte, 8)
	if alg == AES {
		block = make([]byte, 16)
	}
	if err := key.Encrypt(block, block); err != nil {
		return kcv, err
	}
	return [3]byte(block[:3]), nil
}

const keyStandIn = "key(***)"

// Format hides the key.
func (k SealedKey) Format(f fmt.State, _ rune) { show(f, keyStandIn) }

// String hides the key.
func (k SealedKey) String() string { return keyStandIn }

// GoString hides the key.
func (k SealedKey) GoString() string { return keyStandIn }

// MarshalText hides the key.
func (k SealedKey) MarshalText() ([]byte, error) { return []byte(keyStandIn), nil }

// LogValue hides the key.
func (k SealedKey) LogValue() slog.Value { return slog.StringValue(keyStandIn) }

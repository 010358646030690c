package vault

import (
	"crypto/subtle"
	"fmt"
)

// MessageMAC is the MAC of a message with a card host under a zone MAC key: ISO 9797-1 MAC algorithm 3 with padding method 1 over DES, as in
// ANSI X9.19. It returns ErrUsage or ErrSealed.
func (v *Vault) MessageMAC(key SealedKey, data []byte) (mac [8]byte, err error) {
	err = v.use(key, UsageZoneMAC, func(k Key) error {
		mac, err = k.MAC(data)
		return err
	})
	if err != nil {
		return mac, fmt.Errorf("message MAC: %w", err)
	}
	return mac, nil
}

// CheckMessageMAC reports, in constant time, whether a MAC is the message's. It returns the errors of MessageMAC.
func (v *Vault) CheckMessageMAC(key SealedKey, data []byte, mac [8]byte) (bool, error) {
	want, err := v.MessageMAC(key, data)
	if err != nil {
		return false, err
	}
	return subtle.ConstantTimeCompare(want[:], mac[:]) == 1, nil
}

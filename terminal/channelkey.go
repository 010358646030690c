package terminal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

// What both sides of the channel do with a terminal's key. The key itself never travels after the activation.

// saltSize is that of nonces and salts in bytes.
const saltSize = 16

// NewNonce makes a nonce, or the salt of a SealedCall.
func NewNonce(random io.Reader) (string, error) {
	var b [saltSize]byte
	if _, err := io.ReadFull(random, b[:]); err != nil {
		return "", fmt.Errorf("nonce: %w", err)
	}
	return hex.EncodeToString(b[:]), nil
}

// Proof is what a side sends to show that it has the key: who is "device" or "server". Both nonces are in it, so that no proof is of use
// a second time.
func Proof(key Secret, who, number, serverNonce, deviceNonce string) string {
	h := hmac.New(sha256.New, []byte(key.Reveal()))
	fmt.Fprintf(h, "tillgate channel 1\n%s\n%s\n%s\n%s", who, number, serverNonce, deviceNonce)
	return hex.EncodeToString(h.Sum(nil))
}

// The purposes of keys that are derived from a terminal's.
const (
	purposePIN      = "pin key"
	purposeSettings = "settings"
	purposeNewKey   = "key"
)

// derived is the AES-256 key under which a secret travels.
func derived(key Secret, purpose, salt string) ([]byte, error) {
	raw, err := hex.DecodeString(salt)
	if err != nil || len(raw) != saltSize {
		return nil, fmt.Errorf("salt: %w", errSealed)
	}
	return hkdf.Key(sha256.New, []byte(key.Reveal()), raw, "tillgate channel/"+purpose, 32)
}

var errSealed = errors.New("secret cannot be opened")

// sealFor makes a SealedAnswer's envelope.
func sealFor(key Secret, purpose, salt, text string, random io.Reader) (string, error) {
	gcm, err := derivedGCM(key, purpose, salt)
	if err != nil {
		return "", err
	}
	nonce := make([]byte, gcm.NonceSize(), gcm.NonceSize()+len(text)+gcm.Overhead())
	if _, err := io.ReadFull(random, nonce); err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(gcm.Seal(nonce, nonce, []byte(text), nil)), nil
}

func derivedGCM(key Secret, purpose, salt string) (cipher.AEAD, error) {
	k, err := derived(key, purpose, salt)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(k)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// OpenSealed opens the envelope of the answer to a call. It is the terminal's side; of a PIN key it returns 48 hex digits.
func OpenSealed(key Secret, call CallKind, salt, envelope string) (Secret, error) {
	gcm, err := derivedGCM(key, sealedPurposes[call], salt)
	if err != nil {
		return Secret{}, err
	}
	box, err := base64.StdEncoding.DecodeString(envelope)
	if err != nil || len(box) < gcm.NonceSize() {
		return Secret{}, errSealed
	}
	text, err := gcm.Open(nil, box[:gcm.NonceSize()], box[gcm.NonceSize():], nil)
	if err != nil {
		return Secret{}, errSealed
	}
	return NewSecret(string(text)), nil
}

// sealedPurposes are the purposes of the calls that bring a secret.
var sealedPurposes = map[CallKind]string{CallPINKey: purposePIN, CallSettings: purposeSettings, CallKey: purposeNewKey}

// typedAlphabet has 64 characters that people can read aloud and type.
const typedAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// Typed is a terminal's key in the 16 visible characters that protocols want whose keys people type, such as QFPay's POS-KEY: six bits of
// each of its bytes. The portal shows the same.
func (s Secret) Typed() Secret {
	raw, err := hex.DecodeString(s.Reveal())
	if err != nil || len(raw) != keySize {
		return Secret{} // No key of the registry's.
	}
	out := make([]byte, keySize)
	for i, b := range raw {
		out[i] = typedAlphabet[b&63]
	}
	return NewSecret(string(out))
}

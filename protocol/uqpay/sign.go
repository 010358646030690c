package uqpay

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Claims are what an access token says (§2.1, §9.6).
type Claims struct {
	EntityID       string `json:"entity_id"`
	ShortEntityID  string `json:"short_entity_id"`
	ParentEntityID string `json:"parent_entity_id"`
	ClientID       string `json:"client_id"`
	APIVersion     string `json:"api_version"`
	BusType        string `json:"bus_type"`
	Expires        int64  `json:"exp"` // Unix seconds.
	Issuer         string `json:"iss"`
	ID             string `json:"jti,omitempty"` // Ours, for the rule that only a client's newest token is good.
}

// What every token of ours says.
const (
	tokenIssuer  = "uqpay"
	tokenVersion = "V1.6"
	tokenBusType = "ACQUIRING"
)

// tokenHeader is {"alg":"HS256","typ":"JWT"}. A token with any other is not ours: nobody chooses the algorithm but we.
const tokenHeader = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"

// tokenMax bounds, in bytes, the tokens that are looked at.
const tokenMax = 2048

// SignToken writes a token. Mac is HMAC-SHA-256 under the issuer's key.
func SignToken(c Claims, mac func([]byte) []byte) (string, error) {
	payload, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	text := tokenHeader + "." + base64.RawURLEncoding.EncodeToString(payload)
	return text + "." + base64.RawURLEncoding.EncodeToString(mac([]byte(text))), nil
}

// Errors of VerifyToken.
var (
	errToken        = errors.New("token is not genuine")
	errTokenExpired = errors.New("token has expired")
)

// VerifyToken reads a token, if it was signed under the same key and has not expired.
func VerifyToken(token string, mac func([]byte) []byte, now time.Time) (Claims, error) {
	end := strings.LastIndexByte(token, '.')
	if len(token) > tokenMax || end < 0 {
		return Claims{}, errToken
	}
	header, payload, ok := strings.Cut(token[:end], ".")
	if !ok || header != tokenHeader {
		return Claims{}, errToken
	}
	signature, err := base64.RawURLEncoding.Strict().DecodeString(token[end+1:])
	if err != nil || !hmac.Equal(signature, mac([]byte(token[:end]))) {
		return Claims{}, errToken
	}
	text, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		return Claims{}, errToken
	}
	var c Claims
	if err := json.Unmarshal(text, &c); err != nil || c.Issuer != tokenIssuer {
		return Claims{}, errToken
	}
	if now.Unix() >= c.Expires {
		return Claims{}, errTokenExpired
	}
	return c, nil
}

// Webhooks (§7).

// Headers of a webhook.
const (
	HeaderWebhookTime      = "x-wk-timestamp"
	HeaderWebhookSignature = "x-wk-signature"
)

// webhookWindow is how far a webhook's time may be from the receiver's.
const webhookWindow = 300 * time.Second

// ErrSignature says that a webhook is not genuine, or too old.
var ErrSignature = errors.New("uqpay: webhook is not genuine")

// SignWebhook is the signature of a body: HMAC-SHA-512, in lower-case hex, over the body and the text of the timestamp header behind it.
func SignWebhook(secret string, body []byte, timestamp string) string {
	h := hmac.New(sha512.New, []byte(secret))
	h.Write(body)
	h.Write([]byte(timestamp))
	return hex.EncodeToString(h.Sum(nil))
}

// VerifyWebhook checks a webhook's raw body against its two headers. The timestamp may be in seconds or in milliseconds.
// Several secrets are accepted while they are changed. It fails with ErrSignature.
func VerifyWebhook(body []byte, timestamp, signature string, now time.Time, secrets ...string) error {
	ok := 0
	for _, secret := range secrets {
		ok |= subtle.ConstantTimeCompare([]byte(strings.ToLower(signature)), []byte(SignWebhook(secret, body, timestamp)))
	}
	if ok == 0 {
		return ErrSignature
	}
	n, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil {
		return fmt.Errorf("%w: its time %q is no number", ErrSignature, timestamp)
	}
	at := unixTime(n)
	if d := now.Sub(at); d > webhookWindow || d < -webhookWindow {
		return fmt.Errorf("%w: its time is %s, more than 5 minutes away", ErrSignature, at.UTC().Format(time.RFC3339))
	}
	return nil
}

// millisFrom is from where on a number of Unix time is in milliseconds (§7).
const millisFrom = 1_000_000_000_000

// unixTime reads Unix time in seconds or in milliseconds.
func unixTime(n int64) time.Time {
	if n >= millisFrom {
		return time.UnixMilli(n)
	}
	return time.Unix(n, 0)
}

// PIN keys (§2.3).

// pinKeyBytes is the length of a PINKEY: 3DES with three keys.
const pinKeyBytes = 24

// ErrPINKey says that a PIN key's envelope could not be opened: the AES key is another, or the envelope is damaged.
var ErrPINKey = errors.New("uqpay: encrypt_pin_key cannot be opened with this key")

// OpenPINKey opens the encrypt_pin_key of an answer with the AES key that was sent as prv_key, and returns the PINKEY's 24 bytes. It fails
// with ErrPINKey.
func OpenPINKey(envelope string, aesKey []byte) ([]byte, error) {
	box, err := base64.StdEncoding.DecodeString(envelope)
	if err != nil {
		return nil, ErrPINKey
	}
	block, err := aes.NewCipher(aesKey)
	if err != nil {
		return nil, ErrPINKey
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil || len(box) < gcm.NonceSize() {
		return nil, ErrPINKey
	}
	text, err := gcm.Open(nil, box[:gcm.NonceSize()], box[gcm.NonceSize():], nil)
	if err != nil || len(text) != 2*pinKeyBytes {
		return nil, ErrPINKey
	}
	key := make([]byte, pinKeyBytes)
	_, err = hex.Decode(key, text)
	clear(text)
	if err != nil {
		return nil, ErrPINKey
	}
	return key, nil
}

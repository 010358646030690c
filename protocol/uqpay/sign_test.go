package uqpay_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tillgate/tillgate/card"
	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/protocol/uqpay"
)

// Keys of the reference, §9.
const (
	seedAES      = "5214abf357f2cc47645c4d942c02fd0180acc6d8de8fae3708849b6a459cba00"
	seedEnvelope = "LASDho1ILHoYRf/5YEyIgieoc+SXJkUsHZElXOMNGv7WnC3fZzFPYDH8mJaDbnwvom3QEtdv3NjvaEUtVeetWdQsv2RtQw4XEYh/Cg=="
	seedPINKey   = "26e1734e4d52b905e74574b7bf0897daeec7e217c61b3ac0"
	demoPINKey   = "0123456789abcdeffedcba987654321089abcdef01234567"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// seal makes an envelope as a server does (§2.3), written apart from the vault's.
func seal(t testing.TB, key, nonce []byte, text string) string {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(gcm.Seal(nonce, nonce, []byte(text), nil))
}

// §9.1 and §9.3.
func TestPINKeyVectors(t *testing.T) {
	t.Parallel()
	for _, v := range []struct{ name, key, nonce, envelope, pinKey string }{
		{"seed", seedAES, "2c0483868d482c7a1845fff9", seedEnvelope, seedPINKey},
		{"AES-256", "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", "a0a1a2a3a4a5a6a7a8a9aaab",
			"oKGio6Slpqeoqaqr1ilOHnH+NIhaXOaxZB6luBbJPXPw1ntUqzgTskyZRDHqTyadzEY2W2+tNvs9T7XO4xL2w5lA+TGDbVTVj6JaXw==", demoPINKey},
		{"AES-192", "000102030405060708090a0b0c0d0e0f1011121314151617", "a0a1a2a3a4a5a6a7a8a9aaab",
			"oKGio6SlpqeoqaqrC1OMUc1mLkTGDN6jjLmRH/JyT3H/U3fhpbof30WAiQuzZ6XOuwI48jFJ54LAf4YiDjW2ebKU20Fc6SRMaTbg8g==", demoPINKey},
		{"AES-128", "000102030405060708090a0b0c0d0e0f", "a0a1a2a3a4a5a6a7a8a9aaab",
			"oKGio6SlpqeoqaqrmrcKiEq8BT2yQdRiJXbVBjWLR2vhdgSXEiZEr3G/vpiimiRTbI6JC0/v0Peb7j/nVC8DGY39ZKb31bDFizyYow==", demoPINKey},
	} {
		t.Run(v.name, func(t *testing.T) {
			key, err := uqpay.OpenPINKey(v.envelope, unhex(t, v.key))
			if err != nil || hex.EncodeToString(key) != v.pinKey {
				t.Errorf("got %x, %v", key, err)
			}
			if got := seal(t, unhex(t, v.key), unhex(t, v.nonce), v.pinKey); got != v.envelope {
				t.Errorf("sealed again: got %s", got)
			}
		})
	}
}

func TestPINKeyEnvelopeRefused(t *testing.T) {
	t.Parallel()
	key := unhex(t, seedAES)
	nonce := make([]byte, 12)
	for name, v := range map[string]struct {
		envelope string
		key      []byte
	}{
		"another key":     {seedEnvelope, bytes.Repeat([]byte{1}, 32)},
		"key of 5 bytes":  {seedEnvelope, key[:5]},
		"no base64":       {"***", key},
		"nothing":         {"", key},
		"one bit changed": {"L" + "Q" + seedEnvelope[2:], key},
		"cut":             {seedEnvelope[:100], key},
		"raw key inside":  {seal(t, key, nonce, string(unhex(t, seedPINKey))), key},
		"no hex inside":   {seal(t, key, nonce, strings.Repeat("zz", 24)), key},
		"too short":       {seal(t, key, nonce, seedPINKey[:46]), key},
	} {
		if got, err := uqpay.OpenPINKey(v.envelope, v.key); !errors.Is(err, uqpay.ErrPINKey) || got != nil {
			t.Errorf("%s: got %x, %v", name, got, err)
		}
	}
}

// §9.2 and §9.4, but for numbers that no parser takes.
func TestPINBlockVectors(t *testing.T) {
	t.Parallel()
	for _, v := range []struct{ pin, pan, demo, seed string }{
		{"302312", "5554748800260229", "", "4F5D12303995DD06"},
		{"1234", "5554748800161559", "B2F2FAAE4E830704", "0F16F986ACED0296"},
		{"123456", "5554748800161559", "3BCCAC46096E5379", "8305947C703660A1"},
		{"1234", "6250947000000014", "9AC402BD33843C84", "D631A951DAA4AA51"},
		{"123456789012", "4176660000000027", "1E5DBD67BC0DEF15", "D7D382643259C822"},
		{"9876", "4222222222222", "52AFAEA1E03986FC", "33ABF7D54903893D"},
	} {
		pan, err := card.ParsePAN(v.pan)
		if err != nil {
			t.Fatal(err)
		}
		pin, err := card.ParsePIN(v.pin)
		if err != nil {
			t.Fatal(err)
		}
		for key, want := range map[string]string{demoPINKey: v.demo, seedPINKey: v.seed} {
			block, err := uqpay.MakePINBlock(unhex(t, key), pin, pan)
			if got := strings.ToUpper(hex.EncodeToString(block[:])); err != nil || want != "" && got != want {
				t.Errorf("%s %s: got %s, %v, want %s", v.pan, v.pin, got, err, want)
			}
			if shown := fmt.Sprintf("%v %x %s %+v", block, block, block, struct{ B uqpay.PINBlock }{block}); strings.Contains(strings.ToUpper(shown), want) && want != "" {
				t.Errorf("a PIN block shows itself: %s", shown)
			}
		}
	}
	if _, err := uqpay.MakePINBlock([]byte("short"), card.PIN{}, card.PAN{}); err == nil {
		t.Error("a PIN key of 5 bytes is taken")
	}
}

// §9.5.
func TestWebhookVectors(t *testing.T) {
	t.Parallel()
	const body = `{"version":"V1.6.0","event_name":"ACQUIRING","event_type":"acquiring.payment_intent.succeeded","event_id":"0b1f6a52-6a0e-4d0b-9d4e-2f6f4c1f7a10","source_id":"PI2000000000000000001","data":{"payment_intent_id":"PI2000000000000000001","amount":"12.5","currency":"SGD","intent_status":"SUCCEEDED"}}`
	if len(body) != 295 {
		t.Fatalf("the body has %d bytes", len(body))
	}
	now := time.Unix(1767225600, 0)
	for stamp, want := range map[string]string{
		"1767225600000": "96effcfb1a8b23fb9ef2117aab7cce9a75eabdbc2af76cf39d587f2af607e7d6aa0628e90d8ad84fbd10aaefa9db96595de3700f37d7bc15a1271fc925dab117",
		"1767225600":    "cdcdb4156b426d364d720e233b6b0a06c1fb2f5511354a47a1f5786472e7769aa7863543e23fd4d1d4cb7eb020e12975b152ab85ce7f950ecb2e53f03bd9a01a",
	} {
		if got := uqpay.SignWebhook(webhookSecret, []byte(body), stamp); got != want {
			t.Errorf("%s: got %s", stamp, got)
		}
		h := http.Header{}
		h.Set(uqpay.HeaderWebhookTime, stamp)
		h.Set(uqpay.HeaderWebhookSignature, want)
		e, err := uqpay.ParseWebhook([]byte(body), h, now, "another secret", webhookSecret)
		if err != nil || e.Type != uqpay.EventIntentSucceeded || e.SourceID != "PI2000000000000000001" {
			t.Errorf("%s: got %+v, %v", stamp, e, err)
		}
		for name, err := range map[string]error{
			"five minutes later":   uqpay.VerifyWebhook([]byte(body), stamp, want, now.Add(300*time.Second), webhookSecret),
			"capitals":             uqpay.VerifyWebhook([]byte(body), stamp, strings.ToUpper(want), now, webhookSecret),
			"five minutes earlier": uqpay.VerifyWebhook([]byte(body), stamp, want, now.Add(-300*time.Second), webhookSecret),
		} {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		for name, err := range map[string]error{
			"too old":      uqpay.VerifyWebhook([]byte(body), stamp, want, now.Add(301*time.Second), webhookSecret),
			"too early":    uqpay.VerifyWebhook([]byte(body), stamp, want, now.Add(-302*time.Second), webhookSecret),
			"other body":   uqpay.VerifyWebhook([]byte(body+" "), stamp, want, now, webhookSecret),
			"other time":   uqpay.VerifyWebhook([]byte(body), stamp+"0", want, now, webhookSecret),
			"other secret": uqpay.VerifyWebhook([]byte(body), stamp, want, now, "x"),
			"no secret":    uqpay.VerifyWebhook([]byte(body), stamp, want, now),
			"no signature": uqpay.VerifyWebhook([]byte(body), stamp, "", now, webhookSecret),
		} {
			if !errors.Is(err, uqpay.ErrSignature) {
				t.Errorf("%s: got %v", name, err)
			}
		}
	}
}

// §9.6.
func TestTokenVector(t *testing.T) {
	t.Parallel()
	const want = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJlbnRpdHlfaWQiOiIxMTExMTExMS0yMjIyLTQzMzMtODQ0NC01NTU1NTU1NTU1NTUiLCJzaG9ydF9lbnRpdHlfaWQiOiJQMDAwMDAxIiwicGFyZW50X2VudGl0eV9pZCI6IjAiLCJjbGllbnRfaWQiOiJkZW1vLWNsaWVudCIsImFwaV92ZXJzaW9uIjoiVjEuNiIsImJ1c190eXBlIjoiQUNRVUlSSU5HIiwiZXhwIjoxNzY3MjI3NDAwLCJpc3MiOiJ1cXBheSJ9._hsM2twkoARg8BpYbsfQ7aGSOQpG4NWvoci7az5zEyk"
	mac := func(key string) func([]byte) []byte {
		return func(text []byte) []byte {
			h := hmac.New(sha256.New, []byte(key))
			h.Write(text)
			return h.Sum(nil)
		}
	}
	claims := uqpay.Claims{EntityID: "11111111-2222-4333-8444-555555555555", ShortEntityID: "P000001", ParentEntityID: "0", ClientID: "demo-client",
		APIVersion: "V1.6", BusType: "ACQUIRING", Expires: 1767227400, Issuer: "uqpay"}
	got, err := uqpay.SignToken(claims, mac("demo-signing-secret"))
	if err != nil || got != want {
		t.Errorf("got %s, %v", got, err)
	}
	before := time.Unix(1767227399, 0)
	if c, err := uqpay.VerifyToken(want, mac("demo-signing-secret"), before); err != nil || c != claims {
		t.Errorf("verified: got %+v, %v", c, err)
	}
	parts := strings.Split(want, ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","typ":"JWT"}`))
	forged := base64.RawURLEncoding.EncodeToString([]byte(`{"client_id":"other","exp":9999999999,"iss":"uqpay"}`))
	for name, token := range map[string]string{
		"alg none":             none + "." + parts[1] + ".",
		"alg none, signed":     none + "." + parts[1] + "." + parts[2],
		"another payload":      parts[0] + "." + forged + "." + parts[2],
		"no signature":         parts[0] + "." + parts[1] + ".",
		"two parts":            parts[0] + "." + parts[1],
		"one part":             parts[0],
		"nothing":              "",
		"dots":                 "...",
		"long":                 want + strings.Repeat("A", 3000),
		"another alphabet":     parts[0] + "." + parts[1] + "." + strings.ReplaceAll(parts[2], "_", "/"),
		"signature twice":      want + parts[2],
		"trailing bits of sig": want[:len(want)-1] + "l",
	} {
		if c, err := uqpay.VerifyToken(token, mac("demo-signing-secret"), before); err == nil {
			t.Errorf("%s is taken: %+v", name, c)
		}
	}
	if _, err := uqpay.VerifyToken(want, mac("another"), before); err == nil {
		t.Error("another key's token is taken")
	}
	if _, err := uqpay.VerifyToken(want, mac("demo-signing-secret"), time.Unix(1767227400, 0)); err == nil {
		t.Error("a token is taken at its end")
	}
}

// §9.7.
func TestAmountVectors(t *testing.T) {
	t.Parallel()
	kwd := money.MustCurrency("KWD") // Three decimals, so that all vectors can be read.
	for text, want := range map[string]string{"103.00": "103", "8.980": "8.98", "0.10": "0.1", "0.00": "0", "100": "100"} {
		a, err := money.Parse(text, kwd)
		if err != nil || a.Trimmed() != want {
			t.Errorf("%s: got %s, %v, want %s", text, a.Trimmed(), err, want)
		}
	}
}

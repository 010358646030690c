package main

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"

	"github.com/tillgate/tillgate/acquirer/cardhost"
	"github.com/tillgate/tillgate/emv"
)

type describeCommand struct {
	Kind string `default:"" enum:",iso,tlv,envelope" help:"What it is: iso, tlv or envelope; found out when empty."`
	Key  string `name:"prv-key" help:"For an envelope: the AES key (prv_key) in hexadecimal. It opens it and shows the PIN key's check value, never the key."`
	Text string `arg:"" help:"Hexadecimal, blanks between allowed; an envelope may be base64; - reads standard input."`
}

// Help teaches by examples.
func (describeCommand) Help() string {
	return "Explains an ISO 8583 message or frame (docs/card-host.md), a BER-TLV string of a chip (DE 55, emv_tags), or UQPAY's encrypt_pin_key. " +
		"Card numbers are masked; tracks, PIN blocks, keys, cryptograms and MACs are left out.\n\n" +
		"  tillgate describe 9F0206000000001250820219009F360200019F2608AABBCCDDEEFF0011\n" +
		"  tillgate describe --kind envelope --prv-key 5214… LASDho1ILHoY…\n"
}

// describeMax bounds the input: the longest frame is 4 KiB.
const describeMax = 64 << 10

// Run explains its argument.
func (c *describeCommand) Run(e *env) error {
	text := c.Text
	if text == "-" {
		read, err := io.ReadAll(io.LimitReader(os.Stdin, describeMax))
		if err != nil {
			return err
		}
		text = string(read)
	}
	raw, err := unhex(text)
	if err != nil {
		return err
	}
	kind := c.Kind
	if kind == "" {
		kind = kindOf(raw)
	}
	var said string
	switch kind {
	case "iso":
		said = cardhost.DescribeFrame(raw)
	case "envelope":
		said, err = c.envelope(raw)
	default:
		var list emv.List
		if list, err = emv.Parse(raw); err == nil {
			said = list.Describe()
		}
	}
	if err != nil {
		return fmt.Errorf("%d bytes that are no %s: %w; say what they are with --kind", len(raw), kindNames[kind], err)
	}
	_, err = io.WriteString(e.stdout, said)
	return err
}

var kindNames = map[string]string{"iso": "ISO 8583 message", "tlv": "BER-TLV", "envelope": "PIN-key envelope"}

// unhex reads hexadecimal with blanks between, or base64.
func unhex(text string) ([]byte, error) {
	text = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		return r
	}, text)
	text = strings.TrimPrefix(strings.TrimPrefix(text, "0x"), "0X")
	if raw, err := hex.DecodeString(text); err == nil && len(raw) > 0 {
		return raw, nil
	}
	if raw, err := base64.StdEncoding.DecodeString(text); err == nil && len(raw) > 0 {
		return raw, nil
	}
	return nil, errors.New("the text is neither hexadecimal nor base64")
}

// The layout of an envelope: UQPAY reference, section 2.3.
const (
	envelopeNonce = 12
	envelopeText  = 48 // The PIN key as hexadecimal.
	envelopeTag   = 16
	envelopeSize  = envelopeNonce + envelopeText + envelopeTag
)

// kindOf guesses what bytes are.
func kindOf(raw []byte) string {
	message := raw
	if len(raw) >= 2 && int(binary.BigEndian.Uint16(raw)) == len(raw)-2 {
		message = raw[2:]
	}
	if len(message) >= 4 && strings.Trim(string(message[:4]), "0123456789") == "" {
		return "iso"
	}
	if _, err := emv.Parse(raw); err != nil && len(raw) == envelopeSize {
		return "envelope"
	}
	return "tlv"
}

// envelope explains an encrypt_pin_key.
func (c *describeCommand) envelope(raw []byte) (string, error) {
	if len(raw) != envelopeSize {
		return "", fmt.Errorf("want %d bytes", envelopeSize)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "PIN-key envelope: AES-GCM, no additional data\n  nonce       %x\n  ciphertext  %d bytes: the PIN key as %d hex digits\n  tag         %d bytes\n",
		raw[:envelopeNonce], envelopeText, envelopeText, envelopeTag)
	if c.Key == "" {
		return b.String(), nil
	}
	key, err := hex.DecodeString(c.Key)
	if err != nil {
		return "", errors.New("--prv-key is not hexadecimal")
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return "", errors.New("--prv-key has not 32, 48 or 64 hex digits")
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return "", err
	}
	text, err := gcm.Open(nil, raw[:envelopeNonce], raw[envelopeNonce:], nil)
	if err != nil {
		return "", errors.New("--prv-key does not open it: it was made under another key, or is damaged")
	}
	pinKey, err := hex.DecodeString(string(text))
	if err != nil {
		return "", errors.New("what is inside is no hexadecimal")
	}
	tdes, err := des.NewTripleDESCipher(pinKey)
	if err != nil {
		return "", fmt.Errorf("the key inside has %d bytes, not 24", len(pinKey))
	}
	check := make([]byte, des.BlockSize)
	tdes.Encrypt(check, check)
	fmt.Fprintf(&b, "  opens       a 3DES key of 24 bytes, check value %X\n", check[:3])
	return b.String(), nil
}

package card

import (
	"bytes"
	"crypto/aes"
	"crypto/des"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustPIN(t *testing.T, s string) PIN {
	t.Helper()
	p, err := ParsePIN(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestParsePIN(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "123", "1234567890123", "12a4", "12 4", "-1234"} {
		if p, err := ParsePIN(s); !errors.Is(err, ErrPIN) || !p.IsZero() {
			t.Errorf("%q: got %v", s, err)
		}
	}
	p := mustPIN(t, "0000")
	if p.IsZero() || !p.Equal(mustPIN(t, "0000")) || p.Equal(mustPIN(t, "00000")) || p.Equal(PIN{}) {
		t.Error("Equal is wrong")
	}
	p.Wipe()
	if !p.IsZero() {
		t.Error("a wiped PIN is left")
	}
	if _, err := EncodePINBlock(Format1, p, PAN{}, rand.Reader); !errors.Is(err, ErrPIN) {
		t.Errorf("a wiped PIN was encoded: %v", err)
	}
}

// Vectors of protocols/uqpay.md, 9.2 (the seed's own) and 9.4.
func TestFormat0UnderThePINKeysOfUQPAY(t *testing.T) {
	t.Parallel()
	const seed, demo = "26e1734e4d52b905e74574b7bf0897daeec7e217c61b3ac0", "0123456789abcdeffedcba987654321089abcdef01234567"
	for _, tt := range []struct{ key, pin, pan, clear, block string }{
		{seed, "302312", "5554748800260229", "0630645A7FFD9FDD", "4F5D12303995DD06"},
		{demo, "1234", "5554748800161559", "041273B77FFE9EAA", "B2F2FAAE4E830704"},
		{seed, "1234", "5554748800161559", "041273B77FFE9EAA", "0F16F986ACED0296"},
		{demo, "123456", "5554748800161559", "0612731E7FFE9EAA", "3BCCAC46096E5379"},
		{seed, "123456", "5554748800161559", "0612731E7FFE9EAA", "8305947C703660A1"},
		{demo, "1234", "6250947000000014", "04123DB8FFFFFFFE", "9AC402BD33843C84"},
		{seed, "1234", "6250947000000014", "04123DB8FFFFFFFE", "D631A951DAA4AA51"},
		{demo, "123456789012", "4176660000000027", "0C125236789012FD", "1E5DBD67BC0DEF15"},
		{seed, "123456789012", "4176660000000027", "0C125236789012FD", "D7D382643259C822"},
		{demo, "9876", "4222222222222", "049834DDDDDDDDDD", "52AFAEA1E03986FC"},
		{seed, "9876", "4222222222222", "049834DDDDDDDDDD", "33ABF7D54903893D"},
		{demo, "0000", "6212345678901234567", "040056876FEDCBA9", "DC4FBBF4CF7783E9"},
		{seed, "0000", "6212345678901234567", "040056876FEDCBA9", "AF7F41E4B9752A0F"},
	} {
		pan, pin := newPAN(tt.pan), mustPIN(t, tt.pin) // The last number has a wrong check digit, which PIN blocks do not see.
		clear, err := EncodePINBlock(Format0, pin, pan, nil)
		if err != nil || !bytes.Equal(clear[:], unhex(t, tt.clear)) {
			t.Errorf("%s, %s: got %X, %v, want %s", tt.pin, tt.pan, clear, err, tt.clear)
		}
		key, err := des.NewTripleDESCipher(unhex(t, tt.key))
		if err != nil {
			t.Fatal(err)
		}
		var block [8]byte
		key.Encrypt(block[:], clear[:])
		if !bytes.Equal(block[:], unhex(t, tt.block)) {
			t.Errorf("%s, %s: got %X, want %s", tt.pin, tt.pan, block, tt.block)
		}
		if back, err := DecodePINBlock(Format0, clear, pan); err != nil || !back.Equal(pin) {
			t.Errorf("%s, %s: does not come back: %v", tt.pin, tt.pan, err)
		}
	}
}

// ANSI X9.24-3:2017, supplement, test vectors for an AES-128 BDK, calculation of AES PIN block format 4; the PAN field of a longer number
// is computed by hand.
func TestFormat4Fields(t *testing.T) {
	t.Parallel()
	for pan, want := range map[string]string{
		"4111111111111111":    "44111111111111111000000000000000",
		"112233445566778899":  "61122334455667788990000000000000",
		"1234567890123456789": "71234567890123456789000000000000",
		"123456789012":        "01234567890120000000000000000000",
	} {
		if got := panField4(newPAN(pan)); !bytes.Equal(got, unhex(t, want)) {
			t.Errorf("%s: got %X, want %s", pan, got, want)
		}
	}
}

// ep2 (eft/pos 2000) Security Specification 8.0.0, section 8.4, PIN encryption.
func TestFormat4OfEP2(t *testing.T) {
	t.Parallel()
	key, err := aes.NewCipher(unhex(t, "C1D0F8FB4958670DBA40AB1F3752EF0D"))
	if err != nil {
		t.Fatal(err)
	}
	pin, err := DecryptPINBlock4(key, [16]byte(unhex(t, "CC17F65586BFD0953010226C4FC5B3CA")), newPAN("432198765432109870"))
	if err != nil || !pin.Equal(mustPIN(t, "1234")) {
		t.Errorf("got %v", err)
	}
	// The random half, found by taking the vector apart, makes the same block again.
	field := unhex(t, "CC17F65586BFD0953010226C4FC5B3CA")
	key.Decrypt(field, field)
	xor(field, panField4(newPAN("432198765432109870")))
	key.Decrypt(field, field)
	if got, want := hex.EncodeToString(field[:8]), "441234aaaaaaaaaa"; got != want {
		t.Fatalf("PIN field %s, want %s", got, want)
	}
	block, err := EncryptPINBlock4(key, pin, newPAN("432198765432109870"), bytes.NewReader(field[8:]))
	if err != nil || hex.EncodeToString(block[:]) != "cc17f65586bfd0953010226c4fc5b3ca" {
		t.Errorf("got %X, %v", block, err)
	}
}

func TestEveryFormatAndLengthComesBack(t *testing.T) {
	t.Parallel()
	key, err := aes.NewCipher(make([]byte, 16))
	if err != nil {
		t.Fatal(err)
	}
	for _, number := range []string{"500000000009", "4222222222222", canaryPAN, "620000000000000005", "6212345678901234567"} {
		pan := newPAN(number)
		for n := pinMin; n <= pinMax; n++ {
			pin := mustPIN(t, "123456789012"[:n])
			seen := map[string]bool{}
			for range 8 {
				for _, f := range []Format{Format0, Format1, Format3} {
					block, err := EncodePINBlock(f, pin, pan, rand.Reader)
					if err != nil {
						t.Fatal(err)
					}
					if back, err := DecodePINBlock(f, block, pan); err != nil || !back.Equal(pin) {
						t.Errorf("%v, %d digits: does not come back: %v", f, n, err)
					}
					if f == Format3 {
						seen[string(block[:])] = true
					}
				}
				block, err := EncryptPINBlock4(key, pin, pan, rand.Reader)
				if err != nil {
					t.Fatal(err)
				}
				if back, err := DecryptPINBlock4(key, block, pan); err != nil || !back.Equal(pin) {
					t.Errorf("format 4, %d digits: does not come back: %v", n, err)
				}
			}
			if n == pinMin && len(seen) < 2 {
				t.Error("the fill of format 3 is not random")
			}
		}
	}
}

func TestBadPINBlocksAreRefused(t *testing.T) {
	t.Parallel()
	pan := newPAN("5555555551234567")
	for _, tt := range []struct {
		name  string
		f     Format
		block string
	}{
		{"other format", Format0, "241261AAAAEDCBA9"},
		{"format 3 as 0", Format0, "341261AAAAEDCBA9"},
		{"length 15", Format0, "0F1261AAAAEDCBA9"},
		{"length 2", Format0, "021261AAAAEDCBA9"},
		{"length 13", Format0, "0D1261032D8226A9"},
		{"fill is not F", Format0, "041261AAAAEDCBAA"},
		{"fill among the digits", Format0, "051261AAAAEDCBA9"},
		{"fill of 3 below A", Format3, "341261AAAAEDCBA2"},
		{"fill among the digits of 3", Format3, "351261AAAAEDCBA9"},
		{"format 0 as 1", Format1, "041234FFFFFFFFFF"},
		{"length 13 in 1", Format1, "1D12341234123412"},
		{"no digits in 1", Format1, "141A341234123412"},
	} {
		if pin, err := DecodePINBlock(tt.f, [8]byte(unhex(t, tt.block)), pan); !errors.Is(err, ErrPINBlock) || !pin.IsZero() {
			t.Errorf("%s: got %v", tt.name, err)
		}
	}
	good, _ := EncodePINBlock(Format0, mustPIN(t, "1234"), pan, nil)
	if _, err := DecodePINBlock(Format0, good, newPAN(canaryPAN)); !errors.Is(err, ErrPINBlock) {
		t.Errorf("another card's block: got %v", err)
	}
}

func TestPINBlocksWithoutWhatTheyNeed(t *testing.T) {
	t.Parallel()
	pan, pin := newPAN(canaryPAN), mustPIN(t, "1234")
	aesKey, _ := aes.NewCipher(make([]byte, 16))
	desKey, _ := des.NewTripleDESCipher(make([]byte, 24))
	dry := strings.NewReader("")
	for name, tt := range map[string]struct{ got, want error }{
		"no PIN":              {second(EncodePINBlock(Format0, PIN{}, pan, nil)), ErrPIN},
		"no PAN":              {second(EncodePINBlock(Format3, pin, PAN{}, rand.Reader)), ErrPAN},
		"format 2":            {second(EncodePINBlock(2, pin, pan, rand.Reader)), ErrFormat},
		"format 4 in 8 bytes": {second(EncodePINBlock(Format4, pin, pan, rand.Reader)), ErrFormat},
		"no randomness":       {second(EncodePINBlock(Format3, pin, pan, dry)), io.EOF},
		"decode 2":            {second(DecodePINBlock(2, [8]byte{}, pan)), ErrFormat},
		"decode 4 in 8 bytes": {second(DecodePINBlock(Format4, [8]byte{}, pan)), ErrFormat},
		"decode without PAN":  {second(DecodePINBlock(Format0, [8]byte{}, PAN{})), ErrPAN},
		"4 without PIN":       {second(EncryptPINBlock4(aesKey, PIN{}, pan, rand.Reader)), ErrPIN},
		"4 without PAN":       {second(EncryptPINBlock4(aesKey, pin, PAN{}, rand.Reader)), ErrPAN},
		"4 under 3DES":        {second(EncryptPINBlock4(desKey, pin, pan, rand.Reader)), ErrFormat},
		"4 without random":    {second(EncryptPINBlock4(aesKey, pin, pan, dry)), io.EOF},
		"open 4 without PAN":  {second(DecryptPINBlock4(aesKey, [16]byte{}, PAN{})), ErrPAN},
		"open 4 under 3DES":   {second(DecryptPINBlock4(desKey, [16]byte{}, pan)), ErrFormat},
		"open 4 of nothing":   {second(DecryptPINBlock4(aesKey, [16]byte{}, pan)), ErrPINBlock},
	} {
		if !errors.Is(tt.got, tt.want) {
			t.Errorf("%s: got %v, want %v", name, tt.got, tt.want)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func FuzzDecodePINBlock(f *testing.F) {
	f.Add(uint8(0), []byte("\x04\x12\x61\xAA\xAA\xED\xCB\xA9"))
	f.Add(uint8(3), []byte("\x34\x12\x61\xAA\xAA\xED\xCB\xA9"))
	f.Add(uint8(1), []byte("\x14\x12\x34\xAA\xAA\xED\xCB\xA9"))
	f.Add(uint8(4), []byte("\x44\x12\x34\xAA\xAA\xAA\xAA\xAA\x54\x8E\xD7\xFD\x65\x49\x59\x50"))
	f.Fuzz(func(t *testing.T, format uint8, b []byte) {
		pan := newPAN("5555555551234567")
		var pin PIN
		var err error
		switch len(b) {
		case 8:
			pin, err = DecodePINBlock(Format(format), [8]byte(b), pan)
		case 16:
			key, _ := aes.NewCipher(make([]byte, 16))
			pin, err = DecryptPINBlock4(key, [16]byte(b), pan)
			format = 4
		default:
			return
		}
		if err != nil {
			if !pin.IsZero() {
				t.Error("a PIN beside an error")
			}
			return
		}
		if _, err := ParsePIN(string(pin.reveal())); err != nil {
			t.Errorf("found what is no PIN: %v", err)
		}
		if format == 0 {
			if again, err := EncodePINBlock(Format0, pin, pan, nil); err != nil || !bytes.Equal(again[:], b) {
				t.Errorf("%x: encoded again: %x, %v", b, again, err)
			}
		}
	})
}

package sandbox

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

func mustHex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The worked example of docs/sandbox.md. Its numbers were computed with OpenSSL's DES by a program of another language, which was checked against
// pyemv's published vectors first.
const (
	exampleATC  = "0042"
	exampleData = "9F0206000000001250" + "9F0306000000000000" + "9F1A020036" + "95050000008000" + "5F2A020036" + "9A03260414" + "9C0100" +
		"9F37041A2B3C4D" + "82023900" + "9F36020042" + "9F100706011203A0B000"
	exampleCardKey    = "5E7529BA70D38954086DCD4FC843A7A8"
	exampleSessionKey = "640D43F18CF4E0515E64F258C21676A7"
	exampleSigned     = "000000001250000000000000003600000080000036260414001A2B3C4D3900004206011203A0B000"
	exampleARQC       = "EA94ED2730058D52"
	exampleARPC       = "B794E51CF3C09B52"
	exampleDE55       = exampleData + "9F2608" + exampleARQC + "9F270180"
)

func TestWorkedExample(t *testing.T) {
	t.Parallel()
	card := &hostCards[byPAN[chipCard]]
	var c chipData
	if err := c.parse(mustHex(t, exampleDE55)); err != nil {
		t.Fatal(err)
	}
	key, ok := cryptogramKey(card, &c)
	arpc := issuerAuthentication(key, c.values[tagCryptogram])
	derived, session := cardKey(issuerKey, card.pan, cardPSN), sessionKey(card.key, c.values[tagATC])
	for _, v := range []struct{ what, got, want string }{
		{"card key", hex.EncodeToString(derived[:]), exampleCardKey},
		{"session key", hex.EncodeToString(session[:]), exampleSessionKey},
		{"signed", hex.EncodeToString(recipes[0].signed(nil, &c)), exampleSigned + "80"},
		{"right", fmt.Sprint(ok), "true"},
		{"tag 91", hex.EncodeToString(arpc[:]), exampleARPC + "3030"},
	} {
		if !strings.EqualFold(v.got, v.want) {
			t.Errorf("%s: got %s, want %s", v.what, v.got, v.want)
		}
	}
	page, err := os.ReadFile("../docs/sandbox.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{exampleCardKey, exampleSessionKey, exampleSigned, exampleARQC, exampleARPC, exampleDE55,
		strings.ToUpper(hex.EncodeToString(issuerKey[:])), chipCard} {
		if !strings.Contains(string(page), want) {
			t.Errorf("docs/sandbox.md lacks %s of the worked example", want)
		}
	}

	m := setupCards(t).dial().signOn()
	a := m.call("0200", m.sale(1250, fields{2: chipCard, 22: "051", 23: "001", 55: string(mustHex(t, exampleDE55))}))
	m.want("the example on the wire", a, "00")
	if got := fmt.Sprintf("%X", a[55]); got != "910A"+exampleARPC+"3030" {
		t.Errorf("DE 55 of the answer: got %s", got)
	}
}

func TestRecipes(t *testing.T) {
	t.Parallel()
	card := &hostCards[byPAN[chipCard]]
	visa := exampleData
	mchip := strings.Replace(exampleData, "9F100706011203A0B000", "9F10120110A00003220000000000000000000000FF", 1)
	for _, tt := range []struct{ name, data, cryptogram, arpc string }{
		{"CVN 18", visa, "EA94ED2730058D52", "B794E51CF3C09B52"},
		{"without 9F10", visa, "E7FC0406DB4C45D1", "FD044A9424341D20"},
		{"CVR of four bytes", visa, "32E99B8805629A3D", "BCE5C6A9E827F4A6"},
		{"CVR of six bytes", mchip, "DC943426FD969D57", "E064A3DC397F9FAE"},
		{"CVN 10", visa, "E8F4FDE683272794", "D00389935B485D99"},
	} {
		var c chipData
		if err := c.parse(mustHex(t, tt.data+"9F2608"+tt.cryptogram)); err != nil {
			t.Fatal(err)
		}
		key, ok := cryptogramKey(card, &c)
		arpc := issuerAuthentication(key, c.values[tagCryptogram])
		if !ok || fmt.Sprintf("%X", arpc[:8]) != tt.arpc {
			t.Errorf("%s: got %v, ARPC %X", tt.name, ok, arpc)
		}
		c.values[tagCryptogram][0] ^= 1
		if _, ok := cryptogramKey(card, &c); ok {
			t.Errorf("%s: a wrong cryptogram is right", tt.name)
		}
		c.values[tagCryptogram][0] ^= 1
		if c.values[tagCID] = []byte{0}; tt.name == "CVN 18" {
			if _, ok := cryptogramKey(card, &c); ok {
				t.Error("the card refused, and the host takes it for a request")
			}
		}
	}
}

// TestPublishedVectors holds the primitives against numbers of others: pyemv's documentation, the CVV example of the HSM manuals, and the UQPAY seed.
func TestPublishedVectors(t *testing.T) {
	t.Parallel()
	test := mustKey("0123456789abcdeffedcba9876543210")
	session := sessionKey(test.pair(), mustHex(t, "001c"))
	derived := cardKey(test, "99012345678901234", "45")
	cryptogram := mustKey("29b33180e567ce38ea4cbc9d753b0e61").pair().mac(mustHex(t, "0123456789abcdef0123456789abcdef80"))
	for _, v := range []struct {
		what string
		got  []byte
		want string
	}{
		{"card key", derived[:], "67F8292358083E5EA7AB7FDA58D53B6B"},
		{"session key", session[:], "E9FB384AF807B940FEDCEA613461B0C4"},
		{"cryptogram", cryptogram[:], "FA624250B008B59A"},
	} {
		if fmt.Sprintf("%X", v.got) != v.want {
			t.Errorf("%s: got %X, want %s", v.what, v.got, v.want)
		}
	}
	mac := test.pair().mac(mustHex(t, "000102030405060708090a0b0c0d0e0f10111213")) // OpenSSL's DES, as above.
	if fmt.Sprintf("%X", mac) != "B9E2787EDCC996AF" {
		t.Errorf("MAC: got %X", mac)
	}
	if got := securityCode(test, "4123456789012345", "8701", "101", 3); got != "561" {
		t.Errorf("CVV: got %s, want 561", got)
	}
	for i, want := range []string{"285", "662", "257"} {
		if got := securityCode(test, chipCard, "3112", []string{"201", chipService, backService}[i], 3); got != want {
			t.Errorf("CVV %d: got %s, want %s", i, got, want)
		}
	}
	// The seed's PIN block, format 0, is under a key of three parts; here is what it holds, under one of two.
	pin, size, ok := openPIN(test.pair(), mustHex(t, "2389bf4bcb2ae186"), 0, "5554748800260229")
	if !ok || string(pin[:size]) != "302312" {
		t.Errorf("PIN: got %q, %v", pin[:size], ok)
	}
}

func TestPINBlocks(t *testing.T) {
	t.Parallel()
	key := mustKey("0123456789abcdeffedcba9876543210").pair()
	for _, tt := range []struct {
		clear  string // Before the account is mixed in.
		format byte
		want   string // Empty: not a PIN.
	}{
		{"041234FFFFFFFFFF", 0, "1234"},
		{"0C123456789012FF", 0, "123456789012"},
		{"341234ABCDEFABCD", 3, "1234"},
		{"041234FFFFFFFFFF", 3, ""},
		{"341234ABCDEFABCD", 0, ""},
		{"041234FFFFFFFFFE", 0, ""},
		{"341234ABCDEFABC9", 3, ""},
		{"03123FFFFFFFFFFF", 0, ""},
		{"0D1234567890123F", 0, ""},
		{"04123AFFFFFFFFFF", 0, ""},
		{"141234FFFFFFFFFF", 0, ""},
	} {
		block := mustHex(t, tt.clear)
		half := pinBlockDigits(plainCard)
		for i := range block {
			block[i] ^= half[i]
		}
		key.encrypt(block)
		pin, size, ok := openPIN(key, block, tt.format, plainCard)
		if ok != (tt.want != "") || string(pin[:size]) != tt.want {
			t.Errorf("%s as format %d: got %q, %v", tt.clear, tt.format, pin[:size], ok)
		}
	}
}

func TestDeck(t *testing.T) {
	t.Parallel()
	r := setupCards(t)
	seen := map[string]bool{}
	page, err := os.ReadFile("../docs/sandbox.md")
	if err != nil {
		t.Fatal(err)
	}
	table := "| number | brand | expiry | PIN | cryptogram | behaviour |\n|---|---|---|---|---|---|\n"
	for _, c := range r.h.Cards() {
		place := byPAN[c.PAN]
		if !luhn(c.PAN) || seen[hostCards[place].masked] || cardMasked([]byte(hostCards[place].masked)) != int16(place) {
			t.Errorf("%s: a bad number, or one that is masked as another is", c.PAN)
		}
		seen[hostCards[place].masked] = true
		if _, own := ownBehaviours[c.Behaviour]; !own && cardBehaviourNamed(c.Behaviour) < 0 {
			t.Errorf("%s: no behaviour %s", c.PAN, c.Behaviour)
		}
		if (c.EMV == "strict") != (c.IssuerMasterKey != "") || c.EMV != "strict" && c.EMV != "any" || len(c.Track2) > 37 || len(c.CVV2) < 3 {
			t.Errorf("%s: %+v", c.PAN, c)
		}
		if got := securityCode(stripeKey, c.PAN, c.ExpiryYear[2:]+c.ExpiryMonth, c.Track2[len(c.PAN)+5:len(c.PAN)+8], 3); !strings.HasSuffix(c.Track2, got) {
			t.Errorf("%s: security code %s is not on track 2 %s", c.PAN, got, c.Track2)
		}
		if c.NearsExpiry {
			t.Errorf("%s expires soon", c.PAN)
		}
		pin := c.PIN
		if pin == "" {
			pin = "any"
		}
		table += fmt.Sprintf("| `%s` | %s | %s/%s | %s | %s | `%s` |\n", c.PAN, c.Brand, c.ExpiryMonth, c.ExpiryYear, pin, c.EMV, c.Behaviour)
	}
	if !strings.Contains(string(page), table) {
		t.Errorf("docs/sandbox.md lacks this table:\n%s", table)
	}
	for name, what := range ownBehaviours {
		if row := fmt.Sprintf("| `%s` | %s |", name, what); !strings.Contains(string(page), row) {
			t.Errorf("docs/sandbox.md lacks %s", row)
		}
	}

	r.at.Store(time.Date(2027, time.May, 10, 0, 0, 0, 0, time.UTC).UnixMilli())
	for _, c := range r.h.Cards() {
		if c.NearsExpiry != (c.PAN == "5554748800161559") {
			t.Errorf("in May 2027, %s expires %s/%s: %v", c.PAN, c.ExpiryMonth, c.ExpiryYear, c.NearsExpiry)
		}
	}
}

func TestChipDataThatIsNone(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"9F", "9F02", "9F0206", "9F02060000000012", "9F9F0201", "9502", "95820005", "9F02050000000012", "9A03260414" + "9A03260414"} {
		var c chipData
		if c.parse(mustHex(t, bad)) == nil {
			t.Errorf("%s: taken", bad)
		}
	}
	var c chipData
	if err := c.parse(mustHex(t, "00009F3704010203045F34010157"+"8102"+"1234"+"00")); err != nil || !bytes.Equal(c.values[tagUN], []byte{1, 2, 3, 4}) {
		t.Errorf("padding, unknown tags and a long length: %v, %X", err, c.values[tagUN])
	}
}

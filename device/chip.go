package device

import (
	"crypto/cipher"
	"crypto/des"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tillgate/tillgate/card"
	"github.com/tillgate/tillgate/payment"
)

// Card is one of the sandbox's cards, as dev.json describes them: enough to play its stripe and its chip. It is a plastic card, not card data
// under way, and none of these cards exists; all the same it shows no number.
type Card struct {
	PAN             string `json:"pan"`
	Brand           string `json:"brand"`
	ExpiryMonth     string `json:"expiry_month"`
	ExpiryYear      string `json:"expiry_year"`
	PIN             string `json:"pin"` // Empty: any is right.
	Track2          string `json:"track2"`
	PSN             string `json:"psn"` // Two digits.
	Behaviour       string `json:"behaviour"`
	IssuerMasterKey string `json:"issuer_master_key"` // 32 hex digits; empty for a chip whose cryptograms nobody checks.
}

// Format shows the card's behaviour only.
func (c Card) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "card(%s)", c.Behaviour) }

// Masked is the card's number as people may see it.
func (c Card) Masked() string {
	pan, err := card.ParsePAN(c.PAN)
	if err != nil {
		return ""
	}
	return pan.Masked()
}

// errCard is a virtual card that cannot be read.
var errCard = errors.New("the card cannot be read")

// present is the card as a reader reads it.
func (c Card) present(entry payment.EntryMode, atc func() uint16) (Presented, error) {
	track, err := card.ParseTrack2(c.Track2)
	if err != nil {
		return Presented{}, errCard
	}
	if entry == payment.EntryStripe || entry == payment.EntryContactlessStripe {
		code := track.ServiceCode()
		return Presented{Entry: entry, Track2: track, Fallback: code != "" && (code[0] == '2' || code[0] == '6')}, nil
	}
	chip, err := c.chip(track, atc())
	return Presented{Entry: entry, Chip: chip}, err
}

// brands are the payment applications of the schemes.
var brands = map[string]struct{ aid, label, language string }{
	"visa":       {"A0000000031010", "VISA CREDIT", ""},
	"mastercard": {"A0000000041010", "MASTERCARD", ""},
	"amex":       {"A00000002501", "AMERICAN EXPRESS", ""},
	"unionpay":   {"A000000333010102", "UNIONPAY CREDIT", "zh"},
	"interac":    {"A0000002771010", "INTERAC", ""},
}

// virtualChip plays the chip of one of the sandbox's cards: CVN 18, as docs/sandbox.md has it.
type virtualChip struct {
	app     Application
	strict  bool // It has its issuer's key; else its cryptograms are noise, and it believes every issuer.
	session cipher.Block
	atc     [2]byte
	arqc    [8]byte
	arc     []byte // The issuer's response code, once it is authentic.
}

func (c Card) chip(track card.Track2, atc uint16) (*virtualChip, error) {
	pan, err := card.ParsePAN(c.PAN)
	if err != nil {
		return nil, errCard
	}
	expiry, err := card.ParseExpiry(c.ExpiryMonth, c.ExpiryYear)
	if err != nil {
		return nil, errCard
	}
	brand, ok := brands[c.Brand]
	if !ok {
		return nil, errCard
	}
	aid, _ := hex.DecodeString(brand.aid) // Of the table.
	v := &virtualChip{app: Application{AID: aid, Label: brand.label, Language: brand.language, PAN: pan, Expiry: expiry, Sequence: c.PSN, Track2: track,
		AIP: [2]byte{0x39, 0x00}, CVM: true}, strict: c.IssuerMasterKey != ""}
	binary.BigEndian.PutUint16(v.atc[:], atc)
	issuer := make([]byte, 16)
	if v.strict {
		if issuer, err = hex.DecodeString(c.IssuerMasterKey); err != nil || len(issuer) != 16 {
			return nil, errCard
		}
	}
	v.session = sessionKey(masterKey(issuer, c.PAN, c.PSN), v.atc)
	return v, nil
}

func (v *virtualChip) Application() Application { return v.app }

// Generate gives the cryptogram that is asked for, with one exception: no TC before the issuer is authentic.
func (v *virtualChip) Generate(want CryptogramType, t Transaction) (Cryptogram, error) {
	kind := want
	if want == TC && v.arc == nil {
		kind = AAC
	}
	c := Cryptogram{Type: kind, ATC: v.atc, IAD: v.iad(kind)}
	c.Value = retailMAC(v.session, append(append(t.cryptogramData(), v.app.AIP[0], v.app.AIP[1], v.atc[0], v.atc[1]), c.IAD...))
	if kind == ARQC {
		v.arqc = c.Value
	}
	return c, nil
}

// iad is tag 9F10 of CVN 18: length, key index, version 12, and four bytes of card verification results, of which the first says what was
// generated.
func (v *virtualChip) iad(kind CryptogramType) []byte {
	cvr := byte(0x80) // No second cryptogram asked for; the first is an AAC.
	switch kind {
	case ARQC:
		cvr = 0xA0
	case TC:
		cvr = 0x60
	}
	return []byte{0x06, 0x01, 0x12, 0x03, cvr, 0x00, 0x00}
}

// Authenticate checks the ARPC by method 1 (EMV book 2, 8.2.1): the ARQC with the response code added to its front, encrypted.
func (v *virtualChip) Authenticate(issuer []byte) bool {
	const arpcSize, arcSize = 8, 2
	if len(issuer) != arpcSize+arcSize {
		return false
	}
	want := v.arqc
	want[0] ^= issuer[arpcSize]
	want[1] ^= issuer[arpcSize+1]
	v.session.Encrypt(want[:], want[:])
	if v.strict && subtle.ConstantTimeCompare(want[:], issuer[:arpcSize]) != 1 {
		return false
	}
	v.arc = issuer[arpcSize:]
	return true
}

// tripleDES is a double-length key, ready for use.
type tripleDES struct {
	cipher.Block
	left, right cipher.Block
}

func newTripleDES(key []byte) *tripleDES {
	whole, err1 := des.NewTripleDESCipher(append(append([]byte(nil), key...), key[:8]...))
	left, err2 := des.NewCipher(key[:8])
	right, err3 := des.NewCipher(key[8:])
	if err := errors.Join(err1, err2, err3); err != nil {
		panic(err) // Only for keys of another length.
	}
	return &tripleDES{whole, left, right}
}

// masterKey is a card's own key: option A of EMV book 2, A1.4.1. Its input is the last 16 digits of number and sequence number, and the
// same inverted.
func masterKey(issuer []byte, pan, psn string) cipher.Block {
	digits := fmt.Sprintf("%016s", pan+psn)
	y, err := hex.DecodeString(digits[len(digits)-16:])
	if err != nil {
		panic(err) // The number has been checked.
	}
	for _, b := range y[:8] {
		y = append(y, ^b)
	}
	return encryptHalves(newTripleDES(issuer), y)
}

// sessionKey is the common session key of a master key and an ATC (EMV book 2, A1.3.1).
func sessionKey(master cipher.Block, atc [2]byte) cipher.Block {
	r := make([]byte, 16)
	copy(r, atc[:])
	copy(r[8:], atc[:])
	r[2], r[10] = 0xF0, 0x0F
	return encryptHalves(master, r)
}

func encryptHalves(key cipher.Block, halves []byte) cipher.Block {
	key.Encrypt(halves[:8], halves[:8])
	key.Encrypt(halves[8:], halves[8:])
	return newTripleDES(halves)
}

// retailMAC is ISO 9797-1 algorithm 3 with padding method 2, under a key of newTripleDES.
func retailMAC(key cipher.Block, data []byte) (sum [8]byte) {
	k := key.(*tripleDES)
	data = append(append([]byte(nil), data...), 0x80)
	for len(data)%8 != 0 {
		data = append(data, 0)
	}
	for ; len(data) > 0; data = data[8:] {
		subtle.XORBytes(sum[:], sum[:], data[:8])
		k.left.Encrypt(sum[:], sum[:])
	}
	k.right.Decrypt(sum[:], sum[:])
	k.left.Encrypt(sum[:], sum[:])
	return sum
}

// counters count the transactions of each virtual card. They begin at the time of day, so that a card's numbers go on after a restart.
type counters struct {
	mu   sync.Mutex
	next map[string]uint16
}

func (c *counters) of(pan string, now time.Time) func() uint16 {
	return func() uint16 {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.next == nil {
			c.next = map[string]uint16{}
		}
		if _, ok := c.next[pan]; !ok {
			c.next[pan] = uint16(now.Unix())
		}
		c.next[pan]++
		return c.next[pan]
	}
}

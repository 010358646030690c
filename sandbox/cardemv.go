package sandbox

import "crypto/subtle"

// chipData is what DE 55 says: the values of the tags in chipTags, nil where one is missing. Others are passed over.
type chipData struct{ values [len(chipTags)][]byte }

// The tags that the host reads, by their place in chipTags.
const (
	tagAmount = iota
	tagOther
	tagCountry
	tagTVR
	tagCurrency
	tagDate
	tagType
	tagUN
	tagAIP
	tagATC
	tagIAD
	tagCryptogram
	tagCID
)

// chipTags are those of a cryptogram's data, in the order in which they are signed, and the cryptogram itself.
var chipTags = [...]struct {
	tag  uint16
	size int // Bytes; 0: up to 32.
}{
	tagAmount:     {0x9f02, 6},
	tagOther:      {0x9f03, 6},
	tagCountry:    {0x9f1a, 2},
	tagTVR:        {0x95, 5},
	tagCurrency:   {0x5f2a, 2},
	tagDate:       {0x9a, 3},
	tagType:       {0x9c, 1},
	tagUN:         {0x9f37, 4},
	tagAIP:        {0x82, 2},
	tagATC:        {0x9f36, 2},
	tagIAD:        {0x9f10, 0},
	tagCryptogram: {0x9f26, 8},
	tagCID:        {0x9f27, 1},
}

const iadMax = 32

// parse reads BER-TLV with tags of one or two bytes and lengths up to 255.
func (c *chipData) parse(data []byte) error {
	*c = chipData{}
	for len(data) > 0 {
		if data[0] == 0 { // Padding between elements (EMV Book 3, Annex B).
			data = data[1:]
			continue
		}
		tag, at := uint16(data[0]), 1
		if tag&0x1f == 0x1f {
			if len(data) < 2 || data[1]&0x80 != 0 {
				return errFormat
			}
			tag, at = tag<<8|uint16(data[1]), 2
		}
		if at >= len(data) {
			return errFormat
		}
		size := int(data[at])
		at++
		if size == 0x81 && at < len(data) {
			size = int(data[at])
			at++
		} else if size > 0x7f {
			return errFormat
		}
		if at+size > len(data) {
			return errFormat
		}
		for i := range chipTags {
			if chipTags[i].tag != tag {
				continue
			}
			if want := chipTags[i].size; want != 0 && want != size || size > iadMax || c.values[i] != nil {
				return errFormat
			}
			c.values[i] = data[at : at+size]
		}
		data = data[at+size:]
	}
	return nil
}

// cardKey derives a card's own key from its issuer's: option A of EMV Book 2, A1.4.1. Numbers longer than 16 digits count from their end.
func cardKey(issuer key16, pan, psn string) key16 {
	number := pan + psn
	for len(number) < 16 {
		number = "0" + number
	}
	number = number[len(number)-16:]
	var k key16
	for i := range 8 {
		k[i] = number[2*i]<<4 | number[2*i+1]&0x0f
		k[8+i] = ^k[i]
	}
	return k.under(issuer.pair()).oddParity()
}

// sessionKey is the common session key of a card and an ATC (EMV Book 2, A1.3.1).
func sessionKey(card *cipherPair, atc []byte) key16 {
	k := key16{0: atc[0], 1: atc[1], 2: 0xf0, 8: atc[0], 9: atc[1], 10: 0x0f}
	return k.under(card).oddParity()
}

// iadPart is how much of tag 9F10 a recipe signs.
type iadPart int

const (
	iadNone iadPart = iota
	iadWhole
	iadCVR4 // Card verification results of four bytes behind a length, a key index and a version: Visa's layout.
	iadCVR6 // Of six bytes behind a key index and a version: M/Chip's layout.
)

// recipe is one way in which cards compute a cryptogram.
type recipe struct {
	name    string
	session bool // With a session key; else with the card's own key.
	iad     iadPart
	padded  bool // Padding method 2, a byte 80 first; else zeros only.
}

// recipes are those that the host accepts, the usual one first. docs/sandbox.md describes them.
var recipes = [...]recipe{
	{"CVN 18", true, iadWhole, true},
	{"without 9F10", true, iadNone, true},
	{"CVR of four bytes", true, iadCVR4, true},
	{"CVR of six bytes", true, iadCVR6, true},
	{"CVN 10", false, iadCVR4, false},
}

// signed puts the data of a cryptogram together, without its padding. It is nil if something is missing.
func (r *recipe) signed(to []byte, c *chipData) []byte {
	for i := tagAmount; i <= tagATC; i++ {
		if c.values[i] == nil {
			return nil
		}
		to = append(to, c.values[i]...)
	}
	iad := c.values[tagIAD]
	switch r.iad {
	case iadWhole:
		if iad == nil {
			return nil
		}
		to = append(to, iad...)
	case iadCVR4:
		if len(iad) < 7 {
			return nil
		}
		to = append(to, iad[3:7]...)
	case iadCVR6:
		if len(iad) < 8 {
			return nil
		}
		to = append(to, iad[2:8]...)
	}
	if r.padded {
		to = append(to, 0x80)
	}
	return to
}

// cryptogramKey finds the recipe by which a card made its cryptogram, and returns the key that it used. If there is none, ok is false and the key is
// the one that the first recipe asks for.
func cryptogramKey(card *hostCard, c *chipData) (key *cipherPair, ok bool) {
	session := card.key
	if atc := c.values[tagATC]; atc != nil {
		session = sessionKey(card.key, atc).pair()
	}
	if cid := c.values[tagCID]; cid != nil && cid[0]&0xc0 != 0x80 {
		return session, false // The card did not ask for an authorization.
	}
	var room [96]byte
	for i := range recipes {
		data := recipes[i].signed(room[:0], c)
		if data == nil {
			continue
		}
		key := session
		if !recipes[i].session {
			key = card.key
		}
		mac := key.mac(data)
		if subtle.ConstantTimeCompare(mac[:], c.values[tagCryptogram]) == 1 {
			return key, true
		}
	}
	return session, false
}

// issuerAuthentication is tag 91 of an approval: the ARPC by method 1 (EMV Book 2, 8.2.1), and the response code that it covers.
func issuerAuthentication(key *cipherPair, cryptogram []byte) [10]byte {
	var out [10]byte
	copy(out[:], cryptogram)
	out[0] ^= '0'
	out[1] ^= '0'
	key.encrypt(out[:8])
	out[8], out[9] = '0', '0'
	return out
}

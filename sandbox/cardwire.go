package sandbox

import (
	"encoding/binary"
	"errors"
	"unicode"
	"unicode/utf8"
)

// Limits of a frame (docs/card-host.md).
const (
	frameMin   = 2
	frameMax   = 4096
	frameHead  = 2 // Bytes of length in front.
	lastDE     = 128
	macSize    = 8
	bitmapSize = 8
)

// An alphabet is what a data element is made of.
type alphabet uint8

const (
	digitsOnly alphabet = iota + 1 // n
	printable                      // an, ans: ASCII from blank to tilde
	text                           // ans where UTF-8 is allowed
	track                          // z: digits and =
	anyByte                        // b
)

// element is one row of the host's table: how a data element is packed. The zero element is one that the host does not know.
type element struct {
	made   alphabet
	max    int // Bytes; exactly so many if there is no prefix.
	prefix int // Digits of length in front.
}

// elements is docs/card-host.md's table. It was written from the page, not from the platform's: one mistake must not agree with itself.
var elements = [lastDE + 1]element{
	2:  {digitsOnly, 19, 2},
	3:  {digitsOnly, 6, 0},
	4:  {digitsOnly, 12, 0},
	7:  {digitsOnly, 10, 0},
	11: {digitsOnly, 6, 0},
	12: {digitsOnly, 6, 0},
	13: {digitsOnly, 4, 0},
	14: {digitsOnly, 4, 0},
	15: {digitsOnly, 4, 0},
	22: {digitsOnly, 3, 0},
	23: {digitsOnly, 3, 0},
	25: {digitsOnly, 2, 0},
	32: {digitsOnly, 11, 2},
	35: {track, 37, 2},
	37: {printable, 12, 0},
	38: {printable, 6, 0},
	39: {printable, 2, 0},
	41: {printable, 8, 0},
	42: {printable, 15, 0},
	43: {text, 40, 0},
	45: {printable, 76, 2},
	48: {text, 999, 3},
	49: {digitsOnly, 3, 0},
	52: {anyByte, 8, 0},
	53: {digitsOnly, 16, 0},
	55: {anyByte, 255, 3},
	60: {printable, 20, 3},
	64: {anyByte, macSize, 0},
	66: {digitsOnly, 1, 0},
	70: {digitsOnly, 3, 0},
	74: {digitsOnly, 10, 0},
	75: {digitsOnly, 10, 0},
	76: {digitsOnly, 10, 0},
	77: {digitsOnly, 10, 0},
	86: {digitsOnly, 16, 0},
	87: {digitsOnly, 16, 0},
	88: {digitsOnly, 16, 0},
	89: {digitsOnly, 16, 0},
	90: {digitsOnly, 42, 0},

	128: {anyByte, macSize, 0},
}

var (
	errHeader = errors.New("sandbox: not a message: its MTI or bitmap cannot be read")
	errFormat = errors.New("sandbox: a data element does not have its format")
)

// cardMessage is one message that came in. It points into the bytes that it was read from, and is used again for the next one.
type cardMessage struct {
	raw   []byte
	from  [lastDE + 1]uint16
	size  [lastDE + 1]uint16
	has   [2]uint64
	macAt int // Where the MAC begins; 0 without one.
}

// parse reads a message. After errFormat the elements before the bad one can be used; after errHeader nothing can.
func (m *cardMessage) parse(raw []byte) error {
	m.raw, m.has, m.macAt = raw, [2]uint64{}, 0
	if len(raw) < 4+bitmapSize || !digits(string(raw[:4])) {
		return errHeader
	}
	at := 4 + bitmapSize
	present := [2]uint64{binary.BigEndian.Uint64(raw[4:])}
	macDE := 64
	if present[0]>>63 == 1 {
		if len(raw) < at+bitmapSize {
			return errHeader
		}
		present[1] = binary.BigEndian.Uint64(raw[at:])
		at += bitmapSize
		macDE = lastDE
	}
	for half, bitmap := range present {
		for n := range 64 {
			de := half*64 + n + 1
			if bitmap<<n>>63 == 0 || de == 1 {
				continue
			}
			next, err := m.element(de, at)
			if err != nil {
				return err
			}
			if de == 64 || de == lastDE {
				if de != macDE || next != len(raw) {
					return errFormat // A MAC covers all that is before it, so nothing can follow.
				}
				m.macAt = at
			}
			at = next
		}
	}
	if at != len(raw) {
		return errFormat
	}
	return nil
}

// element notes where one data element lies, and returns where the next one begins.
func (m *cardMessage) element(de, at int) (int, error) {
	e := &elements[de]
	if e.made == 0 || at+e.prefix > len(m.raw) {
		return 0, errFormat
	}
	size := e.max
	if e.prefix > 0 {
		size = 0
		for _, c := range m.raw[at : at+e.prefix] {
			if c < '0' || c > '9' {
				return 0, errFormat
			}
			size = size*10 + int(c-'0')
		}
		at += e.prefix
	}
	if size > e.max || at+size > len(m.raw) || !e.made.holds(m.raw[at:at+size]) {
		return 0, errFormat
	}
	m.from[de], m.size[de] = uint16(at), uint16(size)
	m.has[(de-1)/64] |= 1 << (63 - (de-1)%64)
	return at + size, nil
}

// holds reports whether a value is made of the alphabet.
func (a alphabet) holds(value []byte) bool {
	switch a {
	case digitsOnly, track:
		for _, c := range value {
			if (c < '0' || c > '9') && (a == digitsOnly || c != '=') {
				return false
			}
		}
	case printable:
		for _, c := range value {
			if c < ' ' || c > '~' {
				return false
			}
		}
	case text:
		for len(value) > 0 {
			r, n := utf8.DecodeRune(value)
			if r == utf8.RuneError && n == 1 || unicode.IsControl(r) {
				return false
			}
			value = value[n:]
		}
	}
	return true
}

// have reports whether a data element is there.
func (m *cardMessage) have(de int) bool { return m.has[(de-1)/64]>>(63-(de-1)%64)&1 == 1 }

// get is the value of a data element, nil if it is not there. It lives as long as the frame.
func (m *cardMessage) get(de int) []byte {
	if !m.have(de) {
		return nil
	}
	return m.raw[m.from[de] : m.from[de]+m.size[de]]
}

// mti is the message type.
func (m *cardMessage) mti() mti { return mti(m.raw[:4]) }

// number is the value of a numeric data element; 0 if it is not there.
func (m *cardMessage) number(de int) int64 {
	n := int64(0)
	for _, c := range m.get(de) { // 16 digits at most where it is asked for, so that it fits.
		n = n*10 + int64(c-'0')
	}
	return n
}

// item finds an item of DE 48 by its two letters: three digits of length and a value follow them.
func (m *cardMessage) item(name string) ([]byte, error) {
	var found []byte
	for rest := m.get(48); len(rest) > 0; {
		if len(rest) < 5 || !digits(string(rest[2:5])) {
			return nil, errFormat
		}
		end := 5 + int(rest[2]-'0')*100 + int(rest[3]-'0')*10 + int(rest[4]-'0')
		if end > len(rest) {
			return nil, errFormat
		}
		if string(rest[:2]) == name {
			found = rest[5:end]
		}
		rest = rest[end:]
	}
	return found, nil
}

// mti is a message type.
type mti [4]byte

var (
	mtiAuthorize = mti{'0', '1', '0', '0'}
	mtiRequest   = mti{'0', '2', '0', '0'} // A sale, refund or void: DE 3 tells.
	mtiComplete  = mti{'0', '2', '2', '0'}
	mtiUpload    = mti{'0', '3', '2', '0'}
	mtiReverse   = mti{'0', '4', '0', '0'}
	mtiReverseNA = mti{'0', '4', '2', '0'} // Of what was not answered.
	mtiClose     = mti{'0', '5', '0', '0'}
	mtiNetwork   = mti{'0', '8', '0', '0'}
)

// answer is the type of the answer to a request: a repeat is answered as its original is.
func (t mti) answer() mti {
	t[2]++
	if t[3] == '1' {
		t[3] = '0'
	}
	return t
}

// original is the type of the message that a repeat repeats.
func (t mti) original() mti {
	if t[3] == '1' {
		t[3] = '0'
	}
	return t
}

// frameBuilder builds a frame. Elements are added in the order of their numbers.
type frameBuilder struct {
	buf    []byte
	start  int // Of the frame in buf.
	second bool
}

// begin starts a frame at the end of buf.
func begin(buf []byte, t mti, second bool) frameBuilder {
	b := frameBuilder{buf: append(buf, 0, 0), start: len(buf), second: second}
	b.buf = append(b.buf, t[:]...)
	b.buf = append(b.buf, 0, 0, 0, 0, 0, 0, 0, 0)
	if second {
		b.buf = append(b.buf, 0, 0, 0, 0, 0, 0, 0, 0)
		b.mark(1)
	}
	return b
}

func (b *frameBuilder) mark(de int) {
	b.buf[b.start+frameHead+4+(de-1)/8] |= 0x80 >> ((de - 1) % 8)
}

// add packs one data element; one without a value is left out.
func (b *frameBuilder) add(de int, value []byte) {
	if value == nil {
		return
	}
	b.mark(de)
	n := len(value)
	switch elements[de].prefix {
	case 2:
		b.buf = append(b.buf, '0'+byte(n/10), '0'+byte(n%10))
	case 3:
		b.buf = append(b.buf, '0'+byte(n/100), '0'+byte(n/10%10), '0'+byte(n%10))
	}
	b.buf = append(b.buf, value...)
}

// end seals the frame with a MAC, unless there is no key, and writes its length.
func (b *frameBuilder) end(key *cipherPair) []byte {
	if key != nil {
		de := 64
		if b.second {
			de = lastDE
		}
		b.mark(de)
		mac := key.mac(b.buf[b.start+frameHead:])
		b.buf = append(b.buf, mac[:]...)
	}
	binary.BigEndian.PutUint16(b.buf[b.start:], uint16(len(b.buf)-b.start-frameHead))
	return b.buf
}

// appendNumber writes a number with zeros in front.
func appendNumber(to []byte, n int64, width int) []byte {
	at := len(to)
	for range width {
		to = append(to, '0')
	}
	for i := at + width - 1; i >= at; i-- {
		to[i] = '0' + byte(n%10)
		n /= 10
	}
	return to
}

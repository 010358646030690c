package cardhost

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of a frame: what its length may be, and the bytes in which it is given.
const (
	frameMin  = 2
	frameMax  = 4096
	frameHead = 2
)

const (
	mtiSize    = 4
	bitmapSize = 8
)

// ErrMessage is bytes that are no message of the page, or values that cannot be put into one. Errors that wrap it name the data element,
// never its content.
var ErrMessage = errors.New("not a message of the card host's wire")

// message is one message. Values of fixed length may be short: zeros go in front of digits, blanks behind text. It prints as its description.
type message struct {
	mti   string
	has   [2]uint64
	value [lastDE + 1]string
}

// String is the description, in which nothing secret is.
func (m *message) String() string { return describe(m, false) }

// GoString is String.
func (m *message) GoString() string { return describe(m, false) }

// Format is String under every verb.
func (m *message) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(describe(m, false))) }

func (m *message) set(de int, value string) {
	m.value[de] = value
	m.has[(de-1)/64] |= 1 << (63 - (de-1)%64)
}

// setNumber sets digits, zeros in front.
func (m *message) setNumber(de int, n int64) { m.set(de, padded(n, specification[de].size)) }

func (m *message) have(de int) bool { return m.has[(de-1)/64]>>(63-(de-1)%64)&1 == 1 }

// get is a value, empty if there is none.
func (m *message) get(de int) string { return m.value[de] }

// number is a value of digits; 0 when there is none.
func (m *message) number(de int) int64 {
	n, err := strconv.ParseInt(m.value[de], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// padded is a number with zeros in front. One with more digits stays as it is, for the packer to refuse.
func padded(n int64, width int) string {
	text := strconv.FormatInt(n, 10)
	if len(text) >= width {
		return text
	}
	return zeros[:width-len(text)] + text
}

// missing is the first data element that the message's type must have and that is not there; 0 for none.
func (m *message) missing() int {
	for _, de := range types[m.mti].must {
		if !m.have(de) {
			return de
		}
	}
	return 0
}

// pack appends the message as a frame to buf. Mac, which is nil for messages without MAC, is given all bytes before the MAC field.
func (m *message) pack(buf []byte, mac func([]byte) ([macSize]byte, error)) ([]byte, error) {
	if len(m.mti) != mtiSize || !formatN.holds(m.mti) {
		return nil, fmt.Errorf("message type: %w", ErrMessage)
	}
	has := m.has
	has[0] &^= 1<<63 | 1 // The second bitmap and the MAC are the packer's to add.
	has[1] &^= 1
	if has[1] != 0 {
		has[0] |= 1 << 63
	}
	if mac != nil && has[1] != 0 {
		has[1] |= 1
	} else if mac != nil {
		has[0] |= 1
	}
	start := len(buf)
	buf = append(buf, 0, 0)
	buf = append(buf, m.mti...)
	buf = binary.BigEndian.AppendUint64(buf, has[0])
	if has[1] != 0 {
		buf = binary.BigEndian.AppendUint64(buf, has[1])
	}
	for half, bitmap := range has {
		for bitmap != 0 {
			n := bits.LeadingZeros64(bitmap)
			bitmap &^= 1 << (63 - n)
			de := half*64 + n + 1
			if de == 1 || de == deMAC || de == deMAC2 {
				continue
			}
			var err error
			if buf, err = specification[de].pack(buf, m.value[de]); err != nil {
				return nil, fmt.Errorf("DE %d: %w", de, err)
			}
		}
	}
	if mac != nil {
		code, err := mac(buf[start+frameHead:])
		if err != nil {
			return nil, err
		}
		buf = append(buf, code[:]...)
	}
	size := len(buf) - start - frameHead
	if size > frameMax {
		return nil, fmt.Errorf("%d bytes long: %w", size, ErrMessage)
	}
	binary.BigEndian.PutUint16(buf[start:], uint16(size))
	return buf, nil
}

func (e *element) pack(buf []byte, value string) ([]byte, error) {
	if e.format == 0 || len(value) > e.size || !e.format.holds(value) {
		return nil, ErrMessage
	}
	n := len(value)
	switch e.prefix {
	case 2:
		buf = append(buf, '0'+byte(n/10), '0'+byte(n%10))
	case 3:
		buf = append(buf, '0'+byte(n/100), '0'+byte(n/10%10), '0'+byte(n%10))
	default:
		switch {
		case n == e.size:
		case e.format == formatB:
			return nil, ErrMessage
		case e.format == formatN:
			buf = append(buf, zeros[:e.size-n]...)
		default:
			return append(append(buf, value...), blanks[:e.size-n]...), nil
		}
	}
	return append(buf, value...), nil
}

const (
	zeros  = "000000000000000000000000000000000000000000"
	blanks = "                                        "
)

// parse reads a message, without its length in front. Beside an error comes what was read before it, for descriptions only.
func parse(raw []byte) (*message, error) {
	m := &message{}
	if len(raw) < mtiSize+bitmapSize || !formatN.holds(string(raw[:mtiSize])) {
		return m, fmt.Errorf("type or bitmap: %w", ErrMessage)
	}
	text := string(raw) // Values are parts of it.
	m.mti = text[:mtiSize]
	at := mtiSize + bitmapSize
	has := [2]uint64{binary.BigEndian.Uint64(raw[mtiSize:])}
	lastMAC := deMAC
	if has[0]>>63 == 1 {
		if len(raw) < at+bitmapSize {
			return m, fmt.Errorf("second bitmap: %w", ErrMessage)
		}
		has[1] = binary.BigEndian.Uint64(raw[at:])
		at += bitmapSize
		lastMAC = deMAC2
	}
	for half, bitmap := range has {
		for bitmap != 0 {
			n := bits.LeadingZeros64(bitmap)
			bitmap &^= 1 << (63 - n)
			de := half*64 + n + 1
			if de == 1 {
				continue
			}
			value, next, err := specification[de].parse(text, at)
			if err == nil && (de == deMAC || de == deMAC2) && (de != lastMAC || next != len(text)) {
				err = ErrMessage // A MAC covers all that is before it, and so is the last.
			}
			if err != nil {
				return m, fmt.Errorf("DE %d at byte %d: %w", de, at, err)
			}
			m.set(de, value)
			at = next
		}
	}
	if at != len(text) {
		return m, fmt.Errorf("%d bytes too many: %w", len(text)-at, ErrMessage)
	}
	return m, nil
}

// parse reads one value at a place, and finds where the next one begins.
func (e *element) parse(text string, at int) (string, int, error) {
	if e.format == 0 || len(text) < at+e.prefix {
		return "", 0, ErrMessage
	}
	size := e.size
	if e.prefix > 0 {
		if !formatN.holds(text[at : at+e.prefix]) {
			return "", 0, ErrMessage
		}
		size, _ = strconv.Atoi(text[at : at+e.prefix]) // Two or three digits, as just checked.
		at += e.prefix
	}
	if size > e.size || len(text) < at+size {
		return "", 0, ErrMessage
	}
	value := text[at : at+size]
	if !e.format.holds(value) {
		return "", 0, ErrMessage
	}
	if e.prefix == 0 && (e.format == formatANS || e.format == formatText) {
		value = strings.TrimRight(value, " ")
	}
	return value, at + size, nil
}

// holds reports whether a value is made of what the format allows.
func (f format) holds(value string) bool {
	switch f {
	case formatN:
		for i := range len(value) {
			if value[i] < '0' || value[i] > '9' {
				return false
			}
		}
	case formatZ:
		for i := range len(value) {
			if (value[i] < '0' || value[i] > '9') && value[i] != '=' {
				return false
			}
		}
	case formatANS:
		for i := range len(value) {
			if value[i] < ' ' || value[i] > '~' {
				return false
			}
		}
	case formatText:
		if !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl) {
			return false
		}
	}
	return true
}

// items reads DE 48: names of two letters, three digits of length, values.
func items(value string) (map[string]string, error) {
	found := map[string]string{}
	for value != "" {
		if len(value) < 5 || !formatN.holds(value[2:5]) {
			return found, fmt.Errorf("DE %d: %w", deAdditional, ErrMessage)
		}
		size, _ := strconv.Atoi(value[2:5]) // Three digits, as just checked.
		if len(value) < 5+size {
			return found, fmt.Errorf("DE %d: %w", deAdditional, ErrMessage)
		}
		found[value[:2]] = value[5 : 5+size]
		value = value[5+size:]
	}
	return found, nil
}

// item is one item of DE 48.
func item(name, value string) string { return name + padded(int64(len(value)), 3) + value }

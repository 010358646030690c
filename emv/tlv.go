package emv

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// Limits of what Parse reads. A card's answer has 256 bytes at most, data element 55 not even that; a request may gather several answers.
const (
	sizeMax  = 4096 // Bytes.
	depthMax = 8    // Templates within templates; EMV uses three.
	tagMax   = 4    // Bytes of a tag; EMV uses two, its contactless kernels three.
)

// ErrTLV is data that is not well-formed BER-TLV. Errors that wrap it give a byte offset and never content: what stands in the place of a
// tag may be a card number.
var ErrTLV = errors.New("chip data is not well-formed TLV")

// Tag is a tag as its bytes read as a big-endian number, 0x9F26 for the application cryptogram.
type Tag uint32

// Constructed reports whether the value of the tag is made of other objects.
func (t Tag) Constructed() bool { return t.bytes()[0]&0x20 != 0 }

// String is the tag in hexadecimal, as documents write it.
func (t Tag) String() string { return fmt.Sprintf("%02X", uint32(t)) }

// bytes is the tag without leading zeros; tag 0 is one byte.
func (t Tag) bytes() []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(t))
	for len(b) > 1 && b[0] == 0 {
		b = b[1:]
	}
	return b
}

// valid reports whether the tag's bytes are one tag, read back whole.
func (t Tag) valid() bool {
	b := t.bytes()
	_, n := cutTag(b)
	return b[0] != 0 && n == len(b)
}

// Object is one data object. Its content cannot be printed. The zero Object is invalid.
type Object struct {
	Tag      Tag
	Children List // Of a constructed tag.
	value    func() []byte
}

// New makes a primitive object; it keeps value. It panics on a tag that is not one primitive tag, a programmer's error.
func New(tag Tag, value []byte) Object {
	if !tag.valid() || tag.Constructed() {
		panic("emv: " + tag.String() + " is no primitive tag")
	}
	return Object{Tag: tag, value: func() []byte { return value }}
}

// Template makes a constructed object. It panics on a tag that is not one constructed tag, a programmer's error.
func Template(tag Tag, children ...Object) Object {
	if !tag.valid() || !tag.Constructed() {
		panic("emv: " + tag.String() + " is no constructed tag")
	}
	return Object{Tag: tag, Children: children}
}

// Value is the content in bytes, encoded if the object is constructed. It may be secret.
func (o Object) Value() []byte {
	switch {
	case o.value != nil:
		return o.value()
	case o.Children != nil:
		return o.Children.Encode()
	default:
		return nil
	}
}

// List is data objects in their order.
type List []Object

// Parse reads data objects up to the end of b, of which it keeps a copy. Zero bytes between objects are skipped, as EMV allows; indefinite
// lengths are refused. It returns ErrTLV.
func Parse(b []byte) (List, error) {
	if len(b) > sizeMax {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrTLV, sizeMax)
	}
	return parse(slices.Clone(b), 0, 0)
}

// parse reads the objects of b, which lies at an offset in the whole.
func parse(b []byte, offset, depth int) (List, error) {
	list := List{}
	for i := 0; i < len(b); {
		if b[i] == 0 {
			i++
			continue
		}
		tag, n := cutTag(b[i:])
		if n == 0 {
			return nil, fmt.Errorf("%w: bad tag at byte %d", ErrTLV, offset+i)
		}
		i += n
		length, n := cutLength(b[i:])
		if n == 0 {
			return nil, fmt.Errorf("%w: bad length at byte %d", ErrTLV, offset+i)
		}
		i += n
		if length > len(b)-i {
			return nil, fmt.Errorf("%w: the object before byte %d is longer than what is left", ErrTLV, offset+i)
		}
		value := b[i : i+length : i+length]
		o := Object{Tag: tag}
		if tag.Constructed() {
			if depth == depthMax {
				return nil, fmt.Errorf("%w: more than %d templates within each other", ErrTLV, depthMax)
			}
			var err error
			if o.Children, err = parse(value, offset+i, depth+1); err != nil {
				return nil, err
			}
		} else {
			o.value = func() []byte { return value }
		}
		list = append(list, o)
		i += length
	}
	return list, nil
}

// cutTag reads the tag at the start of b and returns its length, or 0 if there is none.
func cutTag(b []byte) (Tag, int) {
	if len(b) == 0 {
		return 0, 0
	}
	tag := Tag(b[0])
	if b[0]&0x1F != 0x1F {
		return tag, 1
	}
	for n := 1; n < min(len(b), tagMax); n++ {
		if n == 1 && b[n]&0x7F == 0 {
			return 0, 0 // A tag number does not begin with zeros.
		}
		tag = tag<<8 | Tag(b[n])
		if b[n]&0x80 == 0 {
			return tag, n + 1
		}
	}
	return 0, 0
}

// cutLength reads the length at the start of b and returns how many bytes it has, or 0 if there is none that could be right. Longer forms
// than necessary are allowed: terminals send them.
func cutLength(b []byte) (length, n int) {
	if len(b) == 0 {
		return 0, 0
	}
	if b[0] < 0x80 {
		return int(b[0]), 1
	}
	more := int(b[0] & 0x7F)
	if more == 0 || more > 4 || len(b) <= more { // 0 is the indefinite form.
		return 0, 0
	}
	for _, c := range b[1 : 1+more] {
		length = length<<8 | int(c)
	}
	return length, 1 + more
}

// Find returns the value of the first object with the tag, at any depth, and whether there is one.
func (l List) Find(tag Tag) ([]byte, bool) {
	for _, o := range l {
		if o.Tag == tag {
			return o.Value(), true
		}
		if v, ok := o.Children.Find(tag); ok {
			return v, true
		}
	}
	return nil, false
}

// Append adds a primitive object, as New makes it.
func (l List) Append(tag Tag, value []byte) List { return append(l, New(tag, value)) }

// Encode writes the objects with lengths in their shortest form and nothing between them.
func (l List) Encode() []byte { return l.appendTo(nil) }

func (l List) appendTo(b []byte) []byte {
	for _, o := range l {
		v := o.Value()
		b = append(b, o.Tag.bytes()...)
		switch n := len(v); {
		case n < 0x80:
			b = append(b, byte(n))
		case n <= 0xFF:
			b = append(b, 0x81, byte(n))
		case n <= 0xFFFF:
			b = append(b, 0x82, byte(n>>8), byte(n))
		default:
			b = binary.BigEndian.AppendUint32(append(b, 0x84), uint32(n))
		}
		b = append(b, v...)
	}
	return b
}

// Package strictjson reads one JSON object strictly and within limits, and writes JSON strings. encoding/json is not used because it folds
// the case of names, takes the last of repeated ones, replaces what is not UTF-8, and has no limit but on depth.
//
// Refused, beside what is no JSON: a name that an object repeats, text that is not UTF-8, U+0000, halves of surrogate pairs, anything
// but an object at the top, and anything after it.
package strictjson

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Limits are the bounds of a text, so that hostile input costs little. Each must be set: one that is zero allows nothing.
type Limits struct {
	Body     int // The longest text, in bytes. Who has an answer of its own for longer ones looks before.
	Depth    int // The deepest nesting below the object at the top.
	Values   int // The most values in all, since each takes far more memory than its two bytes of text.
	Digits   int // The longest text of a number, in bytes.
	Exponent int // The largest exponent of a number, whatever its sign.

	Members int // No limit: how many members an object within usually has. Room for so many is made at once.
}

// fewMembers is up to how many names of an object are compared one by one, which costs less than a map. A map keeps the cost of a hostile
// object proportional to its length.
const fewMembers = 32

// topMembers is how many members the object at the top usually has: it says more than those within.
const topMembers = 16

// Kind is a JSON type. Its text is made for refusals: "must be a string, not an array".
type Kind uint8

// The types of JSON.
const (
	Null Kind = iota
	Bool
	Number
	String
	Array
	Object
)

var kindNames = [...]string{
	Null: "null", Bool: "a boolean", Number: "a number", String: "a string", Array: "an array", Object: "an object",
}

func (k Kind) String() string { return kindNames[k] }

// Value is a JSON value with its source text, from which numbers and opaque members are taken unchanged. The zero Value is null.
type Value struct {
	Kind    Kind
	Raw     string   // The source: of a number its digits as they were sent, of a boolean true or false.
	Text    string   // Strings: the content.
	List    []Value  // Arrays: the elements.
	Members []Member // Objects: the members in the order of the source, nulls among them.
}

// Member is a member of an object. Its name is unique there.
type Member struct {
	Name  string
	Value Value
}

// Get finds a member by its exact name. A null member is absent.
func (v Value) Get(name string) (Value, bool) {
	for _, m := range v.Members {
		if m.Name == name {
			return m.Value, m.Value.Kind != Null
		}
	}
	return Value{}, false
}

// Error says where a text is not the JSON that is accepted here.
type Error struct {
	Offset int // In bytes.
	Reason string
}

// Error is the reason and the place.
func (e *Error) Error() string { return fmt.Sprintf("%s at byte %d", e.Reason, e.Offset) }

// Parse reads one JSON object and nothing after it. The error is always an *Error.
func (l Limits) Parse(body []byte) (Value, error) {
	if len(body) > l.Body {
		return Value{}, &Error{l.Body, "text too long"}
	}
	p := &parser{limits: l, src: string(body)}
	if !utf8.ValidString(p.src) {
		return Value{}, &Error{0, "text is not UTF-8"}
	}
	p.space()
	if p.peek() != '{' {
		return Value{}, p.fail("no JSON object")
	}
	v, err := p.value(0)
	if err != nil {
		return Value{}, err
	}
	p.space()
	if p.pos != len(p.src) {
		return Value{}, p.fail("text after the JSON object")
	}
	return v, nil
}

// IsNumber reports whether text is a JSON number within the limits.
func (l Limits) IsNumber(text string) bool {
	p := &parser{limits: l, src: text}
	return p.number() == nil && p.pos == len(text)
}

type parser struct {
	limits Limits
	src    string
	pos    int
	values int
}

func (p *parser) fail(reason string) error { return &Error{p.pos, reason} }

// peek is the byte at hand, or 0 at the end: a NUL is legal nowhere.
func (p *parser) peek() byte {
	if p.pos < len(p.src) {
		return p.src[p.pos]
	}
	return 0
}

func (p *parser) space() {
	for p.pos < len(p.src) && strings.IndexByte(" \t\r\n", p.src[p.pos]) >= 0 {
		p.pos++
	}
}

func (p *parser) value(depth int) (v Value, err error) {
	if depth > p.limits.Depth {
		return Value{}, p.fail("nested too deeply")
	}
	if p.values++; p.values > p.limits.Values {
		return Value{}, p.fail("too many values")
	}
	start := p.pos
	switch c := p.peek(); {
	case c == '{':
		v.Kind = Object
		v.Members, err = p.object(depth)
	case c == '[':
		v.Kind = Array
		v.List, err = p.array(depth)
	case c == '"':
		v.Kind = String
		v.Text, err = p.string()
	case c == '-' || c >= '0' && c <= '9':
		v.Kind = Number
		err = p.number()
	case p.word("true"), p.word("false"):
		v.Kind = Bool
	case p.word("null"):
		v.Kind = Null
	default:
		err = p.fail("no JSON value")
	}
	v.Raw = p.src[start:p.pos]
	return v, err
}

func (p *parser) word(w string) bool {
	if !strings.HasPrefix(p.src[p.pos:], w) {
		return false
	}
	p.pos += len(w)
	return true
}

func (p *parser) object(depth int) ([]Member, error) {
	var members []Member
	var seen map[string]bool // The names, once they are too many to be compared one by one.
	err := p.sequence('}', func() error {
		if p.peek() != '"' {
			return p.fail("no member name")
		}
		at := p.pos
		name, err := p.string()
		if err != nil {
			return err
		}
		if len(members) == fewMembers {
			seen = make(map[string]bool, 2*fewMembers)
			for _, m := range members {
				seen[m.Name] = true
			}
		}
		if seen[name] || seen == nil && slices.ContainsFunc(members, func(m Member) bool { return m.Name == name }) {
			return &Error{at, fmt.Sprintf("repeated member %.64q", name)}
		}
		if seen != nil {
			seen[name] = true
		}
		p.space()
		if p.peek() != ':' {
			return p.fail("no colon after a member name")
		}
		p.pos++
		p.space()
		v, err := p.value(depth + 1)
		if members == nil {
			room := p.limits.Members
			if depth == 0 {
				room = max(room, topMembers)
			}
			members = make([]Member, 0, room)
		}
		members = append(members, Member{name, v})
		return err
	})
	return members, err
}

func (p *parser) array(depth int) ([]Value, error) {
	list := []Value{}
	err := p.sequence(']', func() error {
		v, err := p.value(depth + 1)
		list = append(list, v)
		return err
	})
	return list, err
}

// sequence reads what stands between brackets: elements with commas between them. The opening bracket is at hand.
func (p *parser) sequence(end byte, element func() error) error {
	p.pos++
	p.space()
	if p.peek() == end {
		p.pos++
		return nil
	}
	for {
		if err := element(); err != nil {
			return err
		}
		p.space()
		switch p.peek() {
		case end:
			p.pos++
			return nil
		case ',':
			p.pos++
			p.space()
		default:
			return p.fail("no comma or closing bracket")
		}
	}
}

func (p *parser) string() (string, error) {
	p.pos++ // The opening quote.
	start := p.pos
	var b strings.Builder // Empty until an escape is met.
	for {
		if p.pos >= len(p.src) {
			return "", p.fail("unfinished string")
		}
		switch c := p.src[p.pos]; {
		case c == '"':
			rest := p.src[start:p.pos]
			p.pos++
			if b.Len() == 0 {
				return rest, nil // The source itself, as nearly always.
			}
			b.WriteString(rest)
			return b.String(), nil
		case c < 0x20:
			return "", p.fail("control character in a string")
		case c == '\\':
			b.WriteString(p.src[start:p.pos])
			r, err := p.escape()
			if err != nil {
				return "", err
			}
			b.WriteRune(r)
			start = p.pos
		default:
			p.pos++
		}
	}
}

// escapes are JSON's escapes of one letter.
var escapes = map[byte]rune{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

func (p *parser) escape() (rune, error) {
	p.pos++ // The backslash.
	c := p.peek()
	if r, ok := escapes[c]; ok {
		p.pos++
		return r, nil
	}
	r, ok := p.unit()
	if !ok {
		return 0, p.fail("unknown escape in a string")
	}
	if r == 0 {
		return 0, p.fail("U+0000 in a string")
	}
	if !utf16.IsSurrogate(r) {
		return r, nil
	}
	if p.peek() == '\\' {
		p.pos++
		if low, ok := p.unit(); ok {
			if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
				return r, nil
			}
		}
	}
	return 0, p.fail("half of a surrogate pair in a string")
}

// unit reads the letter u and four hexadecimal digits.
func (p *parser) unit() (rune, bool) {
	const length = 5
	if p.peek() != 'u' || p.pos+length > len(p.src) {
		return 0, false
	}
	var r rune
	for _, c := range []byte(p.src[p.pos+1 : p.pos+length]) {
		d := strings.IndexByte("0123456789abcdef", c|0x20)
		if d < 0 || c < '0' {
			return 0, false
		}
		r = r<<4 | rune(d)
	}
	p.pos += length
	return r, true
}

func (p *parser) number() error {
	start := p.pos
	if p.peek() == '-' {
		p.pos++
	}
	if whole := p.digits(); whole == "" || len(whole) > 1 && whole[0] == '0' {
		return p.fail("malformed number")
	}
	if p.peek() == '.' {
		p.pos++
		if p.digits() == "" {
			return p.fail("malformed number")
		}
	}
	if c := p.peek(); c == 'e' || c == 'E' {
		p.pos++
		if c := p.peek(); c == '+' || c == '-' {
			p.pos++
		}
		exponent := p.digits()
		if exponent == "" {
			return p.fail("malformed number")
		}
		if n, err := strconv.Atoi(exponent); err != nil || n > p.limits.Exponent {
			return p.fail("exponent too large")
		}
	}
	if p.pos-start > p.limits.Digits {
		return p.fail("number too long")
	}
	return nil
}

func (p *parser) digits() string {
	start := p.pos
	for c := p.peek(); c >= '0' && c <= '9'; c = p.peek() {
		p.pos++
	}
	return p.src[start:p.pos]
}

// Quote writes a JSON string. Only what must be escaped is; what is not UTF-8 is replaced, so that an answer is always JSON.
func Quote(s string) string {
	return string(AppendQuoted(make([]byte, 0, len(s)+len(`""`)), s))
}

// AppendQuoted is Quote at the end of b.
func AppendQuoted(b []byte, s string) []byte {
	s = strings.ToValidUTF8(s, "\ufffd")
	b = append(b, '"')
	start := 0 // Of what needs no escape and is not yet copied.
	for i := range len(s) {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		b = append(b, s[start:i]...)
		start = i + 1
		if c < 0x20 {
			b = fmt.Appendf(b, `\u%04x`, c)
		} else {
			b = append(b, '\\', c)
		}
	}
	b = append(b, s[start:]...)
	return append(b, '"')
}

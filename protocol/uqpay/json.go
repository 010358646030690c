package uqpay

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Bounds of every JSON text that is read, so that hostile input costs little.
const (
	// bodyMax is the longest request body in bytes: a sale with chip data has about 1 kB, products of an order a few more.
	bodyMax = 1 << 18
	// depthMax bounds nesting: the interface needs five levels, metadata a few more.
	depthMax = 32
	// valuesMax bounds the number of values, since each takes far more memory than its two bytes of text.
	valuesMax = 1 << 13
	// digitsMax bounds a number's text, as package money does.
	digitsMax = 64
	// exponentMax bounds a number's exponent: no double goes beyond 1e308. Sums are bounded more tightly by package money.
	exponentMax = 400
)

// fewMembers is up to how many names of an object are compared one by one, which costs less than a map. A map keeps the cost of a hostile
// object proportional to its length.
const fewMembers = 32

// usualMembers is the room that an object's members begin with.
const usualMembers = 8

// kind is a JSON type.
type kind uint8

const (
	nullKind kind = iota
	boolKind
	numberKind
	stringKind
	arrayKind
	objectKind
)

var kindNames = [...]string{
	nullKind: "null", boolKind: "a boolean", numberKind: "a number", stringKind: "a string", arrayKind: "an array", objectKind: "an object",
}

func (k kind) String() string { return kindNames[k] }

// value is a JSON value with its source text, from which numbers and opaque members are taken unchanged.
type value struct {
	kind    kind
	raw     string
	text    string // strings: the content
	list    []value
	members []namedValue
}

type namedValue struct {
	name  string
	value value
}

// get finds a member by its exact name. A null member is absent.
func (v value) get(name string) (value, bool) {
	for _, m := range v.members {
		if m.name == name {
			return m.value, m.value.kind != nullKind
		}
	}
	return value{}, false
}

// syntaxError says where a text is not the JSON that is accepted here.
type syntaxError struct {
	offset int
	reason string
}

func (e *syntaxError) Error() string { return fmt.Sprintf("%s at byte %d", e.reason, e.offset) }

// parse reads one JSON object and nothing after it. encoding/json is not used because it folds the case of names, takes the last
// of repeated ones, and replaces what is not UTF-8.
func parse(body []byte) (value, error) {
	p := &parser{src: string(body)}
	if !utf8.ValidString(p.src) {
		return value{}, &syntaxError{0, "text is not UTF-8"}
	}
	p.space()
	if p.peek() != '{' {
		return value{}, p.fail("no JSON object")
	}
	v, err := p.value(0)
	if err != nil {
		return value{}, err
	}
	p.space()
	if p.pos != len(p.src) {
		return value{}, p.fail("text after the JSON object")
	}
	return v, nil
}

type parser struct {
	src    string
	pos    int
	values int
}

func (p *parser) fail(reason string) error { return &syntaxError{p.pos, reason} }

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

func (p *parser) value(depth int) (v value, err error) {
	if depth > depthMax {
		return value{}, p.fail("nested too deeply")
	}
	if p.values++; p.values > valuesMax {
		return value{}, p.fail("too many values")
	}
	start := p.pos
	switch c := p.peek(); {
	case c == '{':
		v.kind = objectKind
		v.members, err = p.object(depth)
	case c == '[':
		v.kind = arrayKind
		v.list, err = p.array(depth)
	case c == '"':
		v.kind = stringKind
		v.text, err = p.string()
	case c == '-' || c >= '0' && c <= '9':
		v.kind = numberKind
		err = p.number()
	case p.word("true"), p.word("false"):
		v.kind = boolKind
	case p.word("null"):
		v.kind = nullKind
	default:
		err = p.fail("no JSON value")
	}
	v.raw = p.src[start:p.pos]
	return v, err
}

func (p *parser) word(w string) bool {
	if !strings.HasPrefix(p.src[p.pos:], w) {
		return false
	}
	p.pos += len(w)
	return true
}

func (p *parser) object(depth int) ([]namedValue, error) {
	var members []namedValue
	var seen map[string]bool // the names, once they are too many to be compared one by one
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
				seen[m.name] = true
			}
		}
		if seen[name] || seen == nil && slices.ContainsFunc(members, func(m namedValue) bool { return m.name == name }) {
			return &syntaxError{at, fmt.Sprintf("repeated member %.64q", name)}
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
			members = make([]namedValue, 0, usualMembers)
		}
		members = append(members, namedValue{name, v})
		return err
	})
	return members, err
}

func (p *parser) array(depth int) ([]value, error) {
	list := []value{}
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
	p.pos++ // the opening quote
	start := p.pos
	var b strings.Builder // empty until an escape is met
	for {
		if p.pos >= len(p.src) {
			return "", p.fail("unfinished string")
		}
		switch c := p.src[p.pos]; {
		case c == '"':
			rest := p.src[start:p.pos]
			p.pos++
			if b.Len() == 0 {
				return rest, nil // the source itself, as nearly always
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
	p.pos++ // the backslash
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
		if n, err := strconv.Atoi(exponent); err != nil || n > exponentMax {
			return p.fail("exponent too large")
		}
	}
	if p.pos-start > digitsMax {
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

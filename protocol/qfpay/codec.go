package qfpay

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Bounds of what is read. A payload has 65,536 bytes at most (QFPay seed, 8); the rest keeps hostile input cheap.
const (
	payloadMax = 65536
	depthMax   = 4
	membersMax = 64
)

var (
	errSyntax = errors.New("qfpay: not an object in the grammar of §2.5")
	errShape  = errors.New("qfpay: an object or a list where a text or a number belongs")
)

// kind is what a value is. It decides how the value stands in the canonical form.
type kind byte

const (
	stringKind kind = iota
	numberKind
	wordKind // true, false
	nullKind
	objectKind
	listKind
)

// value is a value as it was read. Numbers keep the digits they came with, since the digest is over these (§2.3).
type value struct {
	kind    kind
	text    string // Of strings what they say; of numbers and words the lexeme.
	members []member
}

type member struct {
	name  string
	value value
}

// find is the member of a name; false if there is none.
func find(members []member, name string) (value, bool) {
	i := slices.IndexFunc(members, func(m member) bool { return m.name == name })
	if i < 0 {
		return value{}, false
	}
	return members[i].value, true
}

// parseObject reads one object in the lenient grammar of §2.5, of which JSON is a part: the shipped Odoo client sends
// {content:{amt=10.1,channel='wx'}, digest:'…'}. A name that comes twice is refused: two readers could disagree about which one counts.
func parseObject(text string) ([]member, error) {
	p := &parser{text: text}
	p.space()
	if len(text) > payloadMax || !utf8.ValidString(text) || !p.take("{") {
		return nil, errSyntax
	}
	v, err := p.object(1)
	if err != nil {
		return nil, err
	}
	if p.space(); p.at != len(p.text) {
		return nil, errSyntax
	}
	return v.members, nil
}

// parser walks over a text that is known to be UTF-8.
type parser struct {
	text string
	at   int
}

func (p *parser) space() {
	for p.at < len(p.text) && isSpace(p.text[p.at]) {
		p.at++
	}
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

// take steps over a token if it is next.
func (p *parser) take(token string) bool {
	if !strings.HasPrefix(p.text[p.at:], token) {
		return false
	}
	p.at += len(token)
	return true
}

// object reads what follows an opening brace, which has been taken.
func (p *parser) object(depth int) (value, error) {
	v := value{kind: objectKind}
	if depth > depthMax {
		return v, errSyntax
	}
	for p.space(); !p.take("}"); p.space() {
		if len(v.members) > 0 && !p.take(",") && !p.take(";") {
			return v, errSyntax
		}
		p.space()
		name, _, err := p.word()
		if err != nil {
			return v, err
		}
		p.space()
		if !p.take(":") && !p.take("=>") && !p.take("=") {
			return v, errSyntax
		}
		m, err := p.value(depth)
		if err != nil {
			return v, err
		}
		if _, twice := find(v.members, name); twice || len(v.members) == membersMax {
			return v, errSyntax
		}
		v.members = append(v.members, member{name, m})
	}
	return v, nil
}

func (p *parser) value(depth int) (value, error) {
	p.space()
	if p.take("{") {
		return p.object(depth + 1)
	}
	if p.take("[") {
		return p.list(depth + 1)
	}
	text, quoted, err := p.word()
	switch {
	case err != nil || quoted:
		return value{kind: stringKind, text: text}, err
	case isNumber(text):
		return value{kind: numberKind, text: text}, nil
	case text == "true" || text == "false":
		return value{kind: wordKind, text: text}, nil
	case text == "null":
		return value{kind: nullKind}, nil
	}
	return value{kind: stringKind, text: text}, nil
}

// list reads what follows an opening bracket. No field of the protocol is a list: only unknown ones may be.
func (p *parser) list(depth int) (value, error) {
	v := value{kind: listKind}
	if depth > depthMax {
		return v, errSyntax
	}
	for n := 0; ; n++ {
		p.space()
		if p.take("]") {
			return v, nil
		}
		if n > 0 && !p.take(",") && !p.take(";") || n == membersMax {
			return v, errSyntax
		}
		if _, err := p.value(depth); err != nil {
			return v, err
		}
	}
}

// word reads a text in either kind of quotes or in none.
func (p *parser) word() (text string, quoted bool, err error) {
	if p.at < len(p.text) && (p.text[p.at] == '"' || p.text[p.at] == '\'') {
		text, err = p.quoted()
		return text, true, err
	}
	start := p.at
	for p.at < len(p.text) && !strings.ContainsRune(",:={}[];\"'", rune(p.text[p.at])) && p.text[p.at] > ' ' {
		p.at++
	}
	if p.at == start {
		return "", false, errSyntax
	}
	return p.text[start:p.at], false, nil
}

// escapes are those of JSON, and the single quote (§2.5).
var escapes = map[byte]byte{'"': '"', '\'': '\'', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

func (p *parser) quoted() (string, error) {
	quote := p.text[p.at]
	var b strings.Builder
	for p.at++; p.at < len(p.text); {
		c := p.text[p.at]
		p.at++
		switch {
		case c == quote:
			return b.String(), nil
		case c != '\\':
			b.WriteByte(c)
		case p.at == len(p.text):
			return "", errSyntax
		case p.text[p.at] == 'u':
			r, err := p.unicode()
			if err != nil {
				return "", err
			}
			b.WriteRune(r)
		default:
			plain, ok := escapes[p.text[p.at]]
			if !ok {
				return "", errSyntax
			}
			b.WriteByte(plain)
			p.at++
		}
	}
	return "", errSyntax
}

// unicode reads the u and four hex digits, and the second half of a surrogate pair after a first one.
func (p *parser) unicode() (rune, error) {
	high, err := p.hex4()
	if err != nil {
		return 0, err
	}
	if high < 0xD800 || high > 0xDFFF {
		return high, nil
	}
	if high > 0xDBFF || !p.take(`\`) {
		return 0, errSyntax
	}
	low, err := p.hex4()
	if err != nil || low < 0xDC00 || low > 0xDFFF {
		return 0, errSyntax
	}
	return (high-0xD800)<<10 + (low - 0xDC00) + 0x10000, nil
}

func (p *parser) hex4() (rune, error) {
	const size = 5
	if len(p.text)-p.at < size || p.text[p.at] != 'u' {
		return 0, errSyntax
	}
	n, err := strconv.ParseUint(p.text[p.at+1:p.at+size], 16, 32)
	if err != nil {
		return 0, errSyntax
	}
	p.at += size
	return rune(n), nil
}

// isNumber reports whether a lexeme is a number of JSON.
func isNumber(s string) bool {
	return s != "" && (s[0] == '-' || isDigit(s[0])) && json.Valid([]byte(s))
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// marshal is JSON without the escapes for HTML, and without a line's end.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}

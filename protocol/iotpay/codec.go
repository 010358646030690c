package iotpay

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Bounds of everything that is read, so that hostile input costs little. A request has some twenty fields and less than 2 kB.
const (
	// BodyMax is the longest request body, in bytes.
	BodyMax = 64 << 10
	// answerMax is the longest answer that the client reads: a query answers with the order three times over.
	answerMax = 256 << 10
	// paramsMax is the most parameters of one message. Unknown ones are not refused (§3.0), but they are signed, and so kept.
	paramsMax = 128
	// nameMax and textMax are the longest name and value, in bytes. The documented limits of fields are lower and not enforced (§11, 17).
	nameMax = 64
	textMax = 8 << 10
)

// Kind says how a parameter was written.
type Kind uint8

// The kinds of parameters.
const (
	Text   Kind = iota // A JSON string, or a form field.
	Number             // A JSON number, with the digits that it came with.
	Other              // A JSON object, array or boolean: the bytes that stand in the message.
)

// Param is one top-level parameter of a message.
type Param struct {
	Name string
	Kind Kind
	Text string
}

// Params are a message's top-level parameters in their order. Names are unique; a null is an empty text.
type Params []Param

// Get is the text of a parameter; empty when it is not there.
func (p Params) Get(name string) string {
	for _, q := range p {
		if q.Name == name {
			return q.Text
		}
	}
	return ""
}

// String shows the names only: values hold payment codes and signatures.
func (p Params) String() string {
	names := make([]string, len(p))
	for i, q := range p {
		names[i] = q.Name
	}
	return strings.Join(names, " ")
}

// Format shows the names only, whatever the verb.
func (p Params) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, p.String()) }

// LogValue shows the names only.
func (p Params) LogValue() slog.Value { return slog.StringValue(p.String()) }

// ParseObject reads one JSON object and nothing after it. A repeated name is refused: two readers could disagree about which one counts.
func ParseObject(text []byte) (Params, error) {
	if !utf8.Valid(text) {
		return nil, errors.New("text is not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("no JSON object")
	}
	params := Params{}
	seen := map[string]bool{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		name, _ := t.(string)
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, err
		}
		q, err := param(name, raw)
		if err != nil {
			return nil, err
		}
		if seen[name] {
			return nil, fmt.Errorf("%.64q: repeated", name)
		}
		seen[name] = true
		if params = append(params, q); len(params) > paramsMax {
			return nil, fmt.Errorf("more than %d parameters", paramsMax)
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("text after the JSON object")
	}
	return params, nil
}

func param(name string, raw json.RawMessage) (Param, error) {
	q := Param{Name: name, Kind: Other, Text: string(raw)}
	switch c := raw[0]; {
	case c == '"':
		q.Kind = Text
		if err := json.Unmarshal(raw, &q.Text); err != nil {
			return Param{}, err
		}
	case c == '-' || c >= '0' && c <= '9':
		q.Kind = Number
	case q.Text == "null":
		q.Kind, q.Text = Text, ""
	}
	return q, q.check()
}

func (q Param) check() error {
	if q.Name == "" || len(q.Name) > nameMax {
		return fmt.Errorf("%.64q: no name of 1 to %d bytes", q.Name, nameMax)
	}
	if q.Kind != Other && len(q.Text) > textMax { // An object may be as long as its message is.
		return fmt.Errorf("%q: longer than %d bytes", q.Name, textMax)
	}
	if err := errors.Join(checkText(q.Name), checkText(q.Text)); err != nil {
		return fmt.Errorf("%q: %w", q.Name, err)
	}
	return nil
}

func checkText(s string) error {
	switch {
	case !utf8.ValidString(s):
		return errors.New("not UTF-8")
	case strings.IndexByte(s, 0) >= 0:
		return errors.New("has U+0000") // PostgreSQL cannot store it.
	}
	return nil
}

// readings are the ways in which a request may be meant, in the order of §3.0. Which one is right its signature tells. The error is that
// of the likeliest reading, when there is none.
func readings(media, query string, body []byte) ([]Params, error) {
	var list []Params
	var first error
	add := func(p Params, err error) {
		if err == nil {
			list = append(list, p)
		} else if first == nil {
			first = err
		}
	}
	text := string(bytes.TrimSpace(body))
	switch raw, isParams := strings.CutPrefix(text, paramsName+"="); {
	case text == "":
	case isJSON(media): // 1
		add(ParseObject(body))
	default:
		form, err := parseForm(text)
		value, found, twice := form.params()
		switch {
		case twice:
			return nil, errors.New("params: repeated") // Two readers could disagree about which one counts.
		case found: // 2
			add(ParseObject([]byte(value)))
		case err == nil && !isParams: // 4
			add(form, form.check())
		}
		if err != nil {
			add(nil, err)
		}
		if isParams { // 3, and variant e of §2.3: clients that do not encode their JSON.
			add(ParseObject([]byte(raw)))
		}
	}
	if query != "" { // 5
		form, err := parseForm(query)
		if value, found, twice := form.params(); err == nil && found && !twice {
			add(ParseObject([]byte(value)))
		}
	}
	return list, first
}

// paramsName is the form field that holds the request (§3.0).
const paramsName = "params"

func isJSON(media string) bool {
	media, _, _ = strings.Cut(media, ";")
	return lower(strings.TrimSpace(media)) == "application/json"
}

// parseForm reads form fields in their order, as far as they can be read.
func parseForm(text string) (Params, error) {
	if strings.Count(text, "&") >= paramsMax {
		return nil, fmt.Errorf("more than %d fields", paramsMax)
	}
	var form Params
	var failed error
	for pair := range strings.SplitSeq(text, "&") {
		if pair == "" {
			continue
		}
		n, v, _ := strings.Cut(pair, "=")
		name, err1 := url.QueryUnescape(n)
		value, err2 := url.QueryUnescape(v)
		if err := errors.Join(err1, err2); err != nil {
			failed = errors.New("the form is not percent-encoded")
			continue
		}
		form = append(form, Param{Name: name, Text: value})
	}
	return form, failed
}

// params finds the field of that name.
func (p Params) params() (value string, found, twice bool) {
	for _, q := range p {
		if q.Name == paramsName {
			value, found, twice = q.Text, true, found
			if twice {
				return "", true, true
			}
		}
	}
	return value, found, false
}

// check makes form fields parameters: with names that are unique.
func (p Params) check() error {
	seen := map[string]bool{}
	for _, q := range p {
		if err := q.check(); err != nil {
			return err
		}
		if seen[q.Name] {
			return fmt.Errorf("%.64q: repeated", q.Name)
		}
		seen[q.Name] = true
	}
	return nil
}

// centsMax is the largest amount that is read: what the core takes.
const centsMax = 999_999_999_999

// cents reads an amount: decimal digits, as text or number, perhaps with a fraction of zeros (§2.2, §2.3 c). No floats.
func cents(text string) (int64, error) {
	text = whole(text)
	if text == "" || len(text) > len("999999999999") || strings.Trim(text, "0123456789") != "" {
		return 0, errors.New("must be a whole number of cents")
	}
	return strconv.ParseInt(text, 10, 64)
}

// quote writes a JSON string in which only what must be escaped is: & < > stay, since they are signed as they stand (§2.5).
func quote(s string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // A string never fails.
	return strings.TrimSuffix(b.String(), "\n")
}

// object is a JSON object with its members in the order in which they are added.
type object struct{ params Params }

func (o *object) text(name, value string) { o.params = append(o.params, Param{name, Text, value}) }

func (o *object) number(name string, n int64) {
	o.params = append(o.params, Param{name, Number, strconv.FormatInt(n, 10)})
}

// raw adds a member that is JSON already. The same bytes are signed.
func (o *object) raw(name, value string) { o.params = append(o.params, Param{name, Other, value}) }

// time adds a moment: "" for none.
func (o *object) time(name string, m Millis) {
	if m == 0 {
		o.text(name, "")
		return
	}
	o.number(name, int64(m))
}

// bytes writes the object in compact form, so that what is signed of a nested one is what stands in the body (§2.5).
func (o *object) bytes() []byte {
	var b bytes.Buffer
	for i, q := range o.params {
		b.WriteByte("{,"[min(i, 1)])
		b.WriteString(quote(q.Name))
		b.WriteByte(':')
		if q.Kind == Text {
			b.WriteString(quote(q.Text))
		} else {
			b.WriteString(q.Text)
		}
	}
	if len(o.params) == 0 {
		b.WriteByte('{')
	}
	b.WriteByte('}')
	return b.Bytes()
}

// sign adds the signature of all that was added before.
func (o *object) sign(k Key) { o.text(signName, Sign(o.params, k)) }

// form is the parameters as the body of a form: percent-encoded, empty ones left out (§7).
func (p Params) form() string {
	var b strings.Builder
	for _, q := range p {
		if q.Text == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('&')
		}
		b.WriteString(url.QueryEscape(q.Name) + "=" + url.QueryEscape(q.Text))
	}
	return b.String()
}

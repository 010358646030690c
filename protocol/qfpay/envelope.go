package qfpay

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Form is the shape of a request's body (§2.6).
type Form byte

// The forms.
const (
	FormAuto   Form = 0   // Of our client: FormQuoted over HTTP, FormBare over TCP and a serial line.
	FormQuoted Form = 'A' // A JSON string whose text is Base64 of the encrypted envelope. What the Odoo client sends.
	FormBare   Form = 'B' // Base64 of the encrypted envelope.
	FormInner  Form = 'C' // {"content":"<Base64>","digest":"…"}: only the content is encrypted.
	FormPlain  Form = 'D' // {"content":{…},"digest":"…"}
)

// request is a body that was read and verified.
type request struct {
	form    Form
	members []member // Of the content.
	set     KeySet
	aesKey  []byte // That decrypted it; nil for FormPlain.
}

// fault is why a body was refused. It tells the peer nothing of an encrypted one: neither code nor text nor the time taken say
// whether the key, the Base64, the padding, the plaintext or the digest was wrong.
type fault struct {
	code  Code
	text  string
	frame byte // The type of frame that says so on a serial line (§3.3).
}

var (
	faultDecrypt  = &fault{CodeDecryptFailed, "decryption failed", frameDecryptError}
	faultDigest   = &fault{CodeDenied, "digest does not match", frameValidationError}
	faultPlain    = &fault{CodeDenied, "encryption is on: send the request encrypted", frameValidationError}
	faultEnvelope = &fault{CodeWrongParam, "the body is not an envelope {content, digest}", frameDataError}
	faultLength   = &fault{CodeWrongParam, fmt.Sprintf("longer than %d bytes", payloadMax), frameFormatError}
)

func (f *fault) response() Response { return Response{Code: f.code, Error: f.text} }

// open reads a request's body in any form, by any of the keys that count (§2.6, §2.7).
func (set KeySet) open(body []byte) (*request, *fault) {
	text := strings.TrimSpace(string(body))
	switch {
	case len(body) > payloadMax:
		return nil, faultLength
	case text == "":
		return nil, faultEnvelope
	case text[0] == '"':
		var armored string
		if json.Unmarshal([]byte(text), &armored) != nil {
			return nil, faultDecrypt
		}
		return set.openWhole(FormQuoted, armored)
	case text[0] != '{':
		return set.openWhole(FormBare, text)
	}
	envelope, err := parseObject(text)
	if err != nil {
		return nil, faultEnvelope
	}
	content, ok := find(envelope, "content")
	digest, _ := find(envelope, "digest")
	if !ok {
		return nil, faultEnvelope
	}
	if content.kind == stringKind && !strings.HasPrefix(strings.TrimSpace(content.text), "{") {
		return set.openInner(content.text, digest.text)
	}
	if set.Encryption == EncryptionOn {
		return nil, faultPlain
	}
	members, err := contentOf(content)
	if err != nil {
		return nil, faultEnvelope
	}
	for _, key := range set.Keys {
		if !key.IsZero() && verify(members, digest.text, key) {
			return &request{form: FormPlain, members: members, set: set}, nil
		}
	}
	return nil, faultDigest
}

// contentOf is a content that is an object, or a text that holds one (§2.5).
func contentOf(v value) ([]member, error) {
	switch v.kind {
	case objectKind:
		return v.members, nil
	case stringKind:
		return parseObject(v.text)
	}
	return nil, errSyntax
}

func verify(members []member, got string, key POSKey) bool {
	text, err := canonical(members)
	return err == nil && digestFits(got, digest(text, key))
}

// eachKey runs over the keys and their modes until one fits (§2.1).
func (set KeySet) eachKey(fits func(key POSKey, aesKey []byte) bool) bool {
	for _, key := range set.Keys {
		for _, mode := range keyModes {
			if k := key.aes(mode); k != nil && fits(key, k) {
				return true
			}
		}
	}
	return false
}

// openWhole opens forms A and B: the whole envelope is encrypted, and the digest is over the plain content (§2.4).
func (set KeySet) openWhole(form Form, armored string) (*request, *fault) {
	text, err := unarmor(armored)
	if err != nil {
		return nil, faultDecrypt
	}
	r := &request{form: form, set: set}
	if !set.eachKey(func(key POSKey, aesKey []byte) bool {
		plain, err := decrypt(aesKey, text)
		if err != nil {
			return false
		}
		envelope, err := parseObject(string(plain))
		if err != nil {
			return false
		}
		content, _ := find(envelope, "content")
		got, _ := find(envelope, "digest")
		members, err := contentOf(content)
		if err != nil || !verify(members, got.text, key) {
			return false
		}
		r.members, r.aesKey = members, aesKey
		return true
	}) {
		return nil, faultDecrypt
	}
	return r, nil
}

// openInner opens form C. What its digest is over is not known for certain, so each reading of it counts (§2.6).
func (set KeySet) openInner(armored, got string) (*request, *fault) {
	text, err := unarmor(armored)
	if err != nil {
		return nil, faultDecrypt
	}
	r := &request{form: FormInner, set: set}
	if !set.eachKey(func(key POSKey, aesKey []byte) bool {
		plain, err := decrypt(aesKey, text)
		if err != nil {
			return false
		}
		members, err := parseObject(string(plain))
		if err != nil {
			return false
		}
		form, err := canonical(members)
		if err != nil || !digestFits(got, digest(armored, key), digest("{content='"+armored+"'}", key), digest(form, key)) {
			return false
		}
		r.members, r.aesKey = members, aesKey
		return true
	}) {
		return nil, faultDecrypt
	}
	return r, nil
}

// seal writes the answer to a request in the form that suits it (§2.6). json tells whether it is JSON; else it is Base64.
func (r *request) seal(answer Response) (body []byte, isJSON bool) {
	plain, err := marshal(answer)
	if err != nil {
		panic("qfpay: " + err.Error()) // A Response has no way to fail.
	}
	switch {
	case r == nil, r.aesKey == nil, r.set.Encryption == EncryptionOff, r.set.Reply == ReplyPlain:
		return plain, true
	case r.form != FormQuoted:
		return []byte(encrypt(r.aesKey, plain)), false
	case r.set.Reply == ReplyEncrypted:
		return slices.Concat([]byte{'"'}, []byte(encrypt(r.aesKey, plain)), []byte{'"'}), true
	}
	return plain, true // Odoo sends encrypted requests and reads plain answers.
}

// sealRequest writes a request in a form; the client's side of open.
func sealRequest(form Form, members []member, key POSKey, mode KeyMode) ([]byte, error) {
	text, err := canonical(members)
	if err != nil {
		return nil, err
	}
	sum := digest(text, key)
	if form == FormPlain {
		return fmt.Appendf(nil, `{"content":%s,"digest":"%s"}`, contentJSON(members), sum), nil
	}
	aesKey := key.aes(mode)
	if aesKey == nil {
		return nil, fmt.Errorf("qfpay: the POS-KEY has no AES key in mode %q", mode)
	}
	// Real terminals are known to take this text, which is not JSON (§2.7).
	whole := encrypt(aesKey, []byte("{content:"+text+", digest:'"+sum+"'}"))
	switch form {
	case FormQuoted:
		return []byte(`"` + whole + `"`), nil
	case FormBare:
		return []byte(whole), nil
	case FormInner:
		inner := encrypt(aesKey, contentJSON(members))
		return fmt.Appendf(nil, `{"content":"%s","digest":"%s"}`, inner, digest(inner, key)), nil
	}
	return nil, fmt.Errorf("qfpay: there is no form %q", form)
}

// contentJSON writes a flat content as JSON, sorted.
func contentJSON(members []member) []byte {
	sorted := slices.SortedFunc(slices.Values(members), func(a, b member) int { return strings.Compare(a.name, b.name) })
	var b strings.Builder
	b.WriteByte('{')
	for i, m := range sorted {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(`"` + m.name + `":`)
		switch m.value.kind {
		case stringKind:
			text, err := marshal(m.value.text)
			if err != nil {
				panic("qfpay: " + err.Error()) // Strings have no way to fail.
			}
			b.Write(text)
		case nullKind:
			b.WriteString("null")
		default:
			b.WriteString(m.value.text)
		}
	}
	b.WriteByte('}')
	return []byte(b.String())
}

var errAnswer = errors.New("qfpay: not an answer")

// openAnswer reads a terminal's answer, plain or encrypted in any way (§2.6).
func openAnswer(body []byte, aesKey []byte) (Response, error) {
	text := strings.TrimSpace(string(body))
	switch {
	case len(body) > payloadMax, text == "":
		return Response{}, errAnswer
	case text[0] == '{':
		var r struct {
			Response
			Content string `json:"content"`
		}
		if err := json.Unmarshal([]byte(text), &r); err != nil {
			return Response{}, errAnswer
		}
		if r.Code == "" && r.Content != "" {
			return openAnswer([]byte(r.Content), aesKey)
		}
		if r.Code == "" {
			return Response{}, errAnswer
		}
		return r.Response, nil
	case text[0] == '"':
		var armored string
		if json.Unmarshal([]byte(text), &armored) != nil || strings.HasPrefix(strings.TrimSpace(armored), `"`) {
			return Response{}, errAnswer
		}
		return openAnswer([]byte(armored), aesKey)
	}
	cipher, err := unarmor(text)
	if err != nil || aesKey == nil {
		return Response{}, errAnswer
	}
	plain, err := decrypt(aesKey, cipher)
	if err != nil || !strings.HasPrefix(strings.TrimSpace(string(plain)), "{") {
		return Response{}, errAnswer
	}
	return openAnswer(plain, nil)
}

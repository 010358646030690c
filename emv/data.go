package emv

import (
	"encoding/hex"
	"fmt"
	"log/slog"
)

// concealed stands for chip data wherever it is printed.
const concealed = "***"

// Data is chip data while a payment is under way: well-formed TLV of which nothing can be printed. The zero Data is none.
type Data struct {
	list func() List
}

// ParseData reads TLV. It returns ErrTLV.
func ParseData(b []byte) (Data, error) {
	list, err := Parse(b)
	if err != nil {
		return Data{}, err
	}
	return NewData(list), nil
}

// ParseHex reads TLV in hexadecimal digits of either case, without spaces. It returns ErrTLV.
func ParseHex(s string) (Data, error) {
	b, err := hex.DecodeString(s)
	if err != nil { // The error of hex would quote a character.
		return Data{}, fmt.Errorf("%w: not an even number of hexadecimal digits", ErrTLV)
	}
	return ParseData(b)
}

// NewData hides a list. An empty list is no data.
func NewData(list List) Data {
	if len(list) == 0 {
		return Data{}
	}
	return Data{func() List { return list }}
}

// List is the content, for codecs only; nil if there is none.
func (d Data) List() List {
	if d.list == nil {
		return nil
	}
	return d.list()
}

// Reveal is the content, encoded: for codecs only.
func (d Data) Reveal() []byte { return d.List().Encode() }

// IsZero reports whether there is no data.
func (d Data) IsZero() bool { return d.list == nil }

// Format shows "***" under every verb.
func (d Data) Format(f fmt.State, _ rune) { show(f) }

// String is "***".
func (d Data) String() string { return concealed }

// GoString is "***".
func (d Data) GoString() string { return concealed }

// MarshalText is "***".
func (d Data) MarshalText() ([]byte, error) { return []byte(concealed), nil }

// LogValue is "***".
func (d Data) LogValue() slog.Value { return slog.StringValue(concealed) }

// Format shows "***" under every verb; Describe is for people.
func (l List) Format(f fmt.State, _ rune) { show(f) }

// String is "***".
func (l List) String() string { return concealed }

// GoString is "***".
func (l List) GoString() string { return concealed }

// MarshalText is "***".
func (l List) MarshalText() ([]byte, error) { return []byte(concealed), nil }

// LogValue is "***".
func (l List) LogValue() slog.Value { return slog.StringValue(concealed) }

// Format shows "***" under every verb.
func (o Object) Format(f fmt.State, _ rune) { show(f) }

// String is "***".
func (o Object) String() string { return concealed }

// GoString is "***".
func (o Object) GoString() string { return concealed }

// MarshalText is "***".
func (o Object) MarshalText() ([]byte, error) { return []byte(concealed), nil }

// LogValue is "***".
func (o Object) LogValue() slog.Value { return slog.StringValue(concealed) }

func show(f fmt.State) { fmt.Fprintf(f, fmt.FormatString(f, 's'), concealed) }

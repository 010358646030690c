package card

import (
	"fmt"
	"log/slog"
)

// concealed stands for a value of which nothing may be shown.
const concealed = "***"

// show writes a stand-in for a hidden value, whatever the verb is. Width and flags are honoured so that columns stay aligned.
func show(f fmt.State, standIn string) {
	fmt.Fprintf(f, fmt.FormatString(f, 's'), standIn)
}

// Format shows the mask under every verb.
func (p PAN) Format(f fmt.State, _ rune) { show(f, p.Masked()) }

// String is the mask.
func (p PAN) String() string { return p.Masked() }

// GoString is the mask.
func (p PAN) GoString() string { return p.Masked() }

// MarshalText is the mask, so that JSON, XML and YAML have no more.
func (p PAN) MarshalText() ([]byte, error) { return []byte(p.Masked()), nil }

// LogValue is the mask.
func (p PAN) LogValue() slog.Value { return slog.StringValue(p.Masked()) }

// Format shows "***" under every verb.
func (p PIN) Format(f fmt.State, _ rune) { show(f, concealed) }

// String is "***".
func (p PIN) String() string { return concealed }

// GoString is "***".
func (p PIN) GoString() string { return concealed }

// MarshalText is "***".
func (p PIN) MarshalText() ([]byte, error) { return []byte(concealed), nil }

// LogValue is "***".
func (p PIN) LogValue() slog.Value { return slog.StringValue(concealed) }

// Format shows "***" under every verb.
func (t Track1) Format(f fmt.State, _ rune) { show(f, concealed) }

// String is "***".
func (t Track1) String() string { return concealed }

// GoString is "***".
func (t Track1) GoString() string { return concealed }

// MarshalText is "***".
func (t Track1) MarshalText() ([]byte, error) { return []byte(concealed), nil }

// LogValue is "***".
func (t Track1) LogValue() slog.Value { return slog.StringValue(concealed) }

// Format shows "***" under every verb.
func (t Track2) Format(f fmt.State, _ rune) { show(f, concealed) }

// String is "***".
func (t Track2) String() string { return concealed }

// GoString is "***".
func (t Track2) GoString() string { return concealed }

// MarshalText is "***".
func (t Track2) MarshalText() ([]byte, error) { return []byte(concealed), nil }

// LogValue is "***".
func (t Track2) LogValue() slog.Value { return slog.StringValue(concealed) }

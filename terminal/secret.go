package terminal

import (
	"fmt"
	"log/slog"
	"time"
)

// Secret is a key as text. However printed, it shows nothing. The pointer matters: fmt cannot call methods on unexported fields, and would
// print a plain string held in one.
type Secret struct{ text *string }

// NewSecret hides a text.
func NewSecret(text string) Secret { return Secret{&text} }

// Reveal is the text, for signatures and for the answer that hands a key out.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// Format shows stars, whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("***")) }

// String shows stars.
func (s Secret) String() string { return "***" }

// LogValue shows stars.
func (s Secret) LogValue() slog.Value { return slog.StringValue("***") }

// MarshalText shows stars.
func (s Secret) MarshalText() ([]byte, error) { return []byte("***"), nil }

// Key is a terminal's key.
type Key struct {
	Secret
	IssuedAt time.Time
	Last     bool // It is the one before the current.
}

package payment

import (
	"errors"
	"fmt"
)

// The errors that the core answers with. Protocols map them to their own codes, in one table each. A decline is not among them: it
// is a result.
var (
	ErrNotFound      = errors.New("not found")
	ErrInvalid       = errors.New("invalid")
	ErrConflict      = errors.New("not possible in this state")
	ErrKeyReused     = errors.New("key already used with another request")
	ErrKeyBusy       = errors.New("an equal request is still unresolved")
	ErrNotPaid       = errors.New("original is not paid")
	ErrExceeds       = errors.New("more than is left of the payment")
	ErrWindow        = errors.New("too late for this")
	ErrWrongKind     = errors.New("not an operation of this kind")
	ErrMethod        = errors.New("payment method not enabled")
	ErrCurrency      = errors.New("currency not accepted")
	ErrUnauthorized  = errors.New("unknown credential")
	ErrForbidden     = errors.New("credential disabled")
	ErrUnavailable   = errors.New("cannot do this now")
	ErrStoreConflict = errors.New("row changed meanwhile") // From a Store's compare-and-set: the transaction is run again.
)

// ErrMoved is an ErrConflict: the payment has changed since the caller read it.
var ErrMoved = fmt.Errorf("payment has changed meanwhile: %w", ErrConflict)

// ErrFullOnly is an ErrWindow: a part of the payment can be given back, but not today.
var ErrFullOnly = fmt.Errorf("cards: on the day of the payment in full only: %w", ErrWindow)

// Errors lists the sentinels that reach protocols, so that each protocol's table can be tested for completeness.
func Errors() []error {
	return []error{ErrNotFound, ErrInvalid, ErrConflict, ErrKeyReused, ErrKeyBusy, ErrNotPaid, ErrExceeds, ErrWindow, ErrWrongKind,
		ErrMethod, ErrCurrency, ErrUnauthorized, ErrForbidden, ErrUnavailable}
}

// OnceError is an ErrKeyReused about one of a command's further keys: another payment has had it.
type OnceError struct{ Key Key }

func (e *OnceError) Error() string { return fmt.Sprintf("%s: %s", e.Key.Scope, ErrKeyReused) }

// Unwrap makes it an ErrKeyReused.
func (e *OnceError) Unwrap() error { return ErrKeyReused }

// FieldError is an ErrInvalid that names what was wrong.
type FieldError struct{ Field, Problem string }

func (e *FieldError) Error() string { return fmt.Sprintf("%s: %s", e.Field, e.Problem) }

// Unwrap makes a FieldError an ErrInvalid.
func (e *FieldError) Unwrap() error { return ErrInvalid }

package sqlstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tillgate/tillgate/payment"
)

// session runs statements in one transaction. Arguments are int64 or string, and so are columns: other types do not mean the same to both
// engines. Errors are the core's sentinels or errRefused, with the driver's words as text only.
type session interface {
	// exec runs a statement and returns how many rows it changed.
	exec(text string, args ...any) (int64, error)
	// query calls each for every row. each runs no statement.
	query(each func(*row) error, text string, args ...any) error
	// must runs a statement that has to change a row, and fails with what missed returns when it changes none. The failure may come later,
	// from another statement or from the transaction.
	must(missed func() error, text string, args ...any) error
	// insertNew runs an INSERT … ON CONFLICT DO NOTHING whose row is hardly ever there already, and reports whether it was inserted. An
	// engine may say so without having asked yet, if it runs the work again should that turn out to be wrong.
	insertNew(text string, args ...any) (bool, error)
}

// errRefused says that the database refused a row: a CHECK or a foreign key. That is a mistake of the program, never of a caller, so it
// is none of the core's sentinels.
var errRefused = errors.New("refused by the database")

// errClosed is what a closed store answers.
var errClosed = fmt.Errorf("store is closed: %w", payment.ErrUnavailable)

// statements is a session whose first failure is final: PostgreSQL runs nothing after it, and SQLite must not commit half a closure
// whose author has overlooked an error.
type statements struct {
	session session
	failed  error
}

func (s *statements) exec(text string, args ...any) (int64, error) {
	if s.failed != nil {
		return 0, s.failed
	}
	n, err := s.session.exec(text, args...)
	s.failed = err
	return n, err
}

func (s *statements) query(each func(*row) error, text string, args ...any) error {
	if s.failed != nil {
		return s.failed
	}
	var own error // What each says is no failure of the statement.
	err := s.session.query(func(r *row) error {
		own = each(r)
		return own
	}, text, args...)
	if err != nil && own == nil {
		s.failed = err
	}
	return err
}

func (s *statements) must(missed func() error, text string, args ...any) error {
	if s.failed == nil {
		s.failed = s.session.must(missed, text, args...)
	}
	return s.failed
}

func (s *statements) insertNew(text string, args ...any) (bool, error) {
	if s.failed != nil {
		return false, s.failed
	}
	fresh, err := s.session.insertNew(text, args...)
	s.failed = err
	return fresh, err
}

// one runs a query for one row, and fails with payment.ErrNotFound when there is none.
func (s *statements) one(each func(*row) error, text string, args ...any) error {
	found := false
	err := s.query(func(r *row) error {
		found = true
		return each(r)
	}, text, args...)
	if err == nil && !found {
		return payment.ErrNotFound
	}
	return err
}

// row is read column by column, in the order of the statement. A column of another type is a mistake in a statement: it panics.
type row struct {
	values []any
	next   int
}

func (r *row) value() any {
	v := r.values[r.next]
	r.next++
	return v
}

// int is a number; 0 for NULL, which only outer joins and aggregates give.
func (r *row) int() int64 {
	switch v := r.value().(type) {
	case nil:
		return 0
	case int64:
		return v
	default:
		panic(fmt.Sprintf("sqlstore: column %d is a %T, want a number", r.next, v))
	}
}

// text is a text; "" for NULL.
func (r *row) text() string {
	switch v := r.value().(type) {
	case nil:
		return ""
	case string:
		return v
	default:
		panic(fmt.Sprintf("sqlstore: column %d is a %T, want text", r.next, v))
	}
}

func (r *row) id() payment.ID                   { return payment.ID(r.int()) }
func (r *row) merchantID() payment.MerchantID   { return payment.MerchantID(r.int()) }
func (r *row) flag() bool                       { return r.int() != 0 }
func (r *row) duration() time.Duration          { return time.Duration(r.int()) * time.Millisecond }
func (r *row) decode(kind string, to any) error { return decodeJSON(kind, r.text(), to) }

func (r *row) time() time.Time {
	ms := r.int()
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

func (r *row) raw() json.RawMessage {
	if text := r.text(); text != "" {
		return json.RawMessage(text)
	}
	return nil
}

// millis is a time as it is stored: 0 for none.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func bit(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// encodeJSON is v as it is stored; the zero value is ”.
func encodeJSON[T comparable](v T) (string, error) {
	var zero T
	if v == zero {
		return "", nil
	}
	b, err := json.Marshal(v)
	return string(b), err
}

func decodeJSON(kind, text string, to any) error {
	if text == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(text), to); err != nil {
		return fmt.Errorf("stored %s: %w", kind, err)
	}
	return nil
}

// params is "$1, $2, … $n".
func params(n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "$%d", i+1)
	}
	return b.String()
}

// assign is "a = $4, b = $5, …" for columns "a, b, …", from a number on.
func assign(columns string, from int) string {
	list := strings.Split(columns, ",")
	for i, c := range list {
		list[i] = fmt.Sprintf("%s = $%d", strings.TrimSpace(c), from+i)
	}
	return strings.Join(list, ", ")
}

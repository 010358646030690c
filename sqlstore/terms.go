package sqlstore

import (
	"sync"

	"github.com/tillgate/tillgate/payment"
)

// Terms are how a first attempt is found while the process that has stored it has it in hand. That lasts for milliseconds, nearly always, and
// then the payment's row is written for the second and last time. On PostgreSQL this costs little only if no indexed column changes, so the
// index of what is due does not have such attempts.
//
// An incarnation begins a new term whenever its lease is renewed, and each payment bears the term in which it was stored. A term is a row. When
// it has been over for the time of a renewal, or its incarnation is dead, that row is deleted, and in the same transaction what is still in hand
// of its payments goes into the index of what is due. Nothing is missed by that: whoever stores such a payment locks the row of its term until
// its commit, so that the row cannot be deleted before, and finds no row afterwards; then the payment is refused, and stored in a later term.
// A process that is held for dead cannot store one at all.
//
// A store that one process has to itself has no terms: there an index is changed for less than a longer one costs. So what is said here of
// locks is for PostgreSQL only.

// terms are the terms that incarnations of this process store payments in.
type terms struct {
	mu  sync.Mutex
	now map[int64]int64 // By incarnation.
}

// of is the term of an incarnation; 0 for none: it is not this process's, or not alive, or the store is of one process.
func (t *terms) of(incarnation int64) int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.now[incarnation]
}

func (t *terms) set(incarnation, term int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if term == 0 {
		delete(t.now, incarnation)
		return
	}
	if t.now == nil {
		t.now = map[int64]int64{}
	}
	t.now[incarnation] = term
}

const (
	insertTerm = `-- every merchant
INSERT INTO terms (id, incarnation) VALUES ($1, $2)`

	// listHeld lets the index of what is due have the payments of a term that are still in hand.
	listHeld = `-- every merchant
UPDATE payments SET first_held_at = first_due_at WHERE first_term > 0 AND first_term = $1 AND first_owner > 0 AND first_due_at > 0 AND first_held_at = 0`
)

func (t *txn) beginTerm(term, incarnation int64) error {
	_, err := t.exec(insertTerm, term, incarnation)
	return err
}

// takeOver ends the terms of dead incarnations, and those of one that were over before a term, and lets go what dead ones had in hand.
func (t *txn) takeOver(incarnation, before int64) error {
	if t.store.dialect.alone {
		return t.each(t.store.leases.release, t.store.dialect.timed()...)
	}
	var over []int64
	err := t.query(func(r *row) error {
		over = append(over, r.int())
		return nil
	}, t.store.leases.end, t.store.dialect.timed(incarnation, before)...)
	if err != nil {
		return err
	}
	for _, term := range over {
		if _, err := t.exec(listHeld, term); err != nil {
			return err
		}
	}
	return t.each(t.store.leases.release, t.store.dialect.timed()...)
}

// lockTerm keeps a term from being ended until the transaction has.
const lockTerm = `-- every merchant
SELECT id FROM terms WHERE id = $1 FOR KEY SHARE`

// term is the term in which a payment is stored whose first attempt somebody has in hand, and keeps it from being ended until then. It is 0
// when the index of what is due is to have the attempt at once, as on a store of one process.
func (t *txn) term(first *payment.Operation) (int64, error) {
	if first.Owner == 0 || first.DueAt.IsZero() {
		return 0, nil
	}
	owner := first.Owner
	term := t.store.terms.of(owner)
	if term == 0 {
		return 0, nil
	}
	missed := func() error { return wrap(payment.ErrStoreConflict, "term %d of incarnation %d is over", term, owner) }
	return term, t.must(missed, lockTerm, term)
}

// dueColumns are the values of first_free_at, first_held_at and first_vain_at.
func dueColumns(o *payment.Operation) (free, held, vain int64) {
	if o.Owner == 0 {
		free = millis(o.DueAt)
	} else {
		held = millis(o.DueAt)
	}
	if len(o.Sealed) > 0 && (o.State == payment.Declined || o.State == payment.Reversed) {
		vain = millis(o.SettledAt)
	}
	return free, held, vain
}

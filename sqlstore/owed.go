package sqlstore

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/tillgate/tillgate/payment"
)

// Owed work and the incarnations that have it in hand. A lease runs by the database's time, so that the clocks of several hosts need not
// agree. Whoever takes over a row raises its version, which fences the one who had it: its compare-and-set fails.

// place is one of the two places where operations live, with its table, the column of the payment's ID, and what stands before an
// operation's columns. free and held are the columns by which what is due is found: of what nobody has in hand, and of what somebody has.
// wiped takes a sealed card number away.
type place struct{ table, of, prefix, free, held, wiped string }

// A first attempt's due time is in columns of their own that are 0 while the process that stored it has it in hand (terms.go).
var (
	inPayment = place{"payments", "id", "first_", "first_free_at", "first_held_at", "first_sealed = '', first_vain_at = 0"}
	inOwnRow  = place{"later_operations", "payment_id", "", "due_at", "due_at", "sealed = ''"}
)

// placeOf is where an operation of a payment lives.
func placeOf(of, id payment.ID) place {
	if id == of {
		return inPayment
	}
	return inOwnRow
}

// word words a statement for a place: {table}, {of}, {free}, {held} and {wiped} are as above, and {} stands before an operation's columns.
// {free at X} and {held at X} assign a due time.
func (p place) word(text string) string {
	text = dueFree.ReplaceAllString(text, p.dueAt(p.free, p.held))
	text = dueHeld.ReplaceAllString(text, p.dueAt(p.held, p.free))
	return strings.NewReplacer("{table}", p.table, "{of}", p.of, "{}", p.prefix, "{free}", p.free, "{held}", p.held, "{wiped}", p.wiped).Replace(text)
}

var (
	dueFree = regexp.MustCompile(`\{free at ([^}]*)\}`)
	dueHeld = regexp.MustCompile(`\{held at ([^}]*)\}`)
)

func (p place) dueAt(in, other string) string {
	if in == other {
		return in + " = ${1}"
	}
	return "{}due_at = ${1}, " + in + " = ${1}, " + other + " = 0"
}

// inBoth words statements for both places.
func inBoth(texts ...string) (list []string) {
	for _, text := range texts {
		list = append(list, inPayment.word(text), inOwnRow.word(text))
	}
	return list
}

// leases holds the statements that ask the database for its time.
type leases struct {
	claim                 map[place]string
	release               []string
	enlist, renew, forget string
	end                   string // Of terms (terms.go).
}

func newLeases(d *dialect) leases {
	living := func(id, param string) string {
		return `EXISTS (SELECT 1 FROM incarnations WHERE incarnations.id = ` + id + ` AND alive_until > ` + d.now(param) + `)`
	}
	claim := `UPDATE {table} SET {}owner = $4, {held at $6}, {}tries = {}tries + 1, {}version = {}version + 1
WHERE merchant_id = $1 AND {of} = $2 AND id = $3 AND {}due_at > 0 AND {}due_at <= $5
AND ({}owner = 0 OR {}owner = $4 OR NOT ` + living("{table}.{}owner", "$7") + `) AND ` + living("$4", "$7")
	return leases{
		claim: map[place]string{inPayment: inPayment.word(claim), inOwnRow: inOwnRow.word(claim)},
		release: inBoth(`-- every merchant
UPDATE {table} SET {}owner = 0, {free at ` + d.now("$1") + `}, {}version = {}version + 1
WHERE {held} > 0 AND {}owner > 0 AND NOT ` + living("{table}.{}owner", "$1")),
		enlist: `-- every merchant
INSERT INTO incarnations (id, alive_until) VALUES ($1, $2 + ` + d.now("$3") + `)`,
		renew: `-- every merchant
UPDATE incarnations SET alive_until = $2 + ` + d.now("$3") + ` WHERE id = $1 AND alive_until > ` + d.now("$3"),
		forget: `-- every merchant
DELETE FROM incarnations WHERE alive_until <= ` + d.now("$1"),
		end: `-- every merchant
DELETE FROM terms WHERE id IN (SELECT id FROM terms WHERE (incarnation = $1 AND id < $2) OR NOT ` + living("terms.incarnation", "$3") + ` FOR UPDATE SKIP LOCKED)
RETURNING id`,
	}
}

// ClaimOperation takes a due operation in hand for a living incarnation.
func (t *txn) ClaimOperation(merchant payment.MerchantID, of, id payment.ID, incarnation int64, now, until time.Time) (bool, error) {
	n, err := t.exec(t.store.leases.claim[placeOf(of, id)], t.store.dialect.timed(int64(merchant), int64(of), int64(id), incarnation, millis(now),
		millis(until))...)
	return n > 0, wrap(err, "claim operation %d of payment %d of merchant %d", id, of, merchant)
}

var hasten = inBoth(`-- every merchant
UPDATE {table} SET {free at $2} WHERE {free} > 0 AND {}owner = 0 AND {free} > $2 AND {}state = 'waiting' AND {}acquirer = $1`)

// Hasten makes due now what waits for somebody at an acquirer.
func (s *Store) Hasten(ctx context.Context, acquirer string, now time.Time) error {
	return wrap(s.write(ctx, func(t *txn) error { return t.each(hasten, acquirer, millis(now)) }), "hasten what waits at %s", acquirer)
}

// each runs statements that take the same arguments.
func (t *txn) each(texts []string, args ...any) error {
	for _, text := range texts {
		if _, err := t.exec(text, args...); err != nil {
			return err
		}
	}
	return nil
}

const retire = `-- every merchant
DELETE FROM incarnations WHERE id = $1`

const retireOthers = `-- every merchant
DELETE FROM incarnations WHERE id <> $1`

// Enlist makes a new incarnation.
func (s *Store) Enlist(ctx context.Context, lease time.Duration) (int64, error) {
	var incarnation, term int64
	err := s.write(ctx, func(t *txn) error {
		id, err := t.block(1)
		if err != nil {
			return err
		}
		incarnation = int64(id)
		if _, err := t.exec(s.leases.enlist, s.dialect.timed(incarnation, lease.Milliseconds())...); err != nil {
			return err
		}
		if !s.dialect.alone {
			term = incarnation
			return t.beginTerm(term, incarnation)
		}
		if _, err := t.exec(retireOthers, incarnation); err != nil {
			return err
		}
		return t.takeOver(incarnation, 0)
	})
	if err == nil {
		s.terms.set(incarnation, term)
	}
	return incarnation, wrap(err, "enlist")
}

// Renew keeps an incarnation alive for another lease.
func (s *Store) Renew(ctx context.Context, incarnation int64, lease time.Duration) error {
	var term int64
	err := s.write(ctx, func(t *txn) error {
		n, err := t.exec(s.leases.renew, s.dialect.timed(incarnation, lease.Milliseconds())...)
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("its lease ran out: %w", payment.ErrNotFound)
		}
		if err := t.takeOver(incarnation, s.terms.of(incarnation)); err != nil {
			return err
		}
		if _, err := t.exec(s.leases.forget, s.dialect.timed()...); err != nil {
			return err
		}
		if s.dialect.alone {
			return nil
		}
		id, err := t.block(1) // At the end: others who want IDs wait for it.
		if err != nil {
			return err
		}
		term = int64(id)
		return t.beginTerm(term, incarnation)
	})
	if err == nil {
		s.terms.set(incarnation, term)
	}
	return wrap(err, "renew incarnation %d", incarnation)
}

// Retire ends an incarnation. One that is not there any more is as good as retired.
func (s *Store) Retire(ctx context.Context, incarnation int64) error {
	err := s.write(ctx, func(t *txn) error {
		_, err := t.exec(retire, incarnation)
		return err
	})
	if err == nil {
		s.terms.set(incarnation, 0)
	}
	return wrap(err, "retire incarnation %d", incarnation)
}

// What is due is read in parts, each in the order of an index: in both places operations that nobody has in hand and the few that somebody
// has, and payments. One in hand that is due is overdue: whoever has it has failed to record what came of it, so it is listed too, and a claim
// decides who may take it.
var (
	dueParts = append(inBoth(`-- every merchant
SELECT merchant_id, {of}, id, {free} FROM {table} WHERE {free} > 0 AND {}owner = 0 AND {free} <= $1 ORDER BY {free} LIMIT $2`, `-- every merchant
SELECT merchant_id, {of}, id, {held} FROM {table} WHERE {held} > 0 AND {}owner > 0 AND {held} <= $1 ORDER BY {held} LIMIT $2`), `-- every merchant
SELECT merchant_id, id, 0, due_at FROM payments WHERE due_at > 0 AND due_at <= $1 ORDER BY due_at LIMIT $2`)

	nextParts = append(inBoth(`-- every merchant
SELECT {free} FROM {table} WHERE {free} > 0 AND {}owner = 0 AND {free} > $1 ORDER BY {free} LIMIT 1`, `-- every merchant
SELECT {held} FROM {table} WHERE {held} > 0 AND {}owner > 0 AND {held} > $1 ORDER BY {held} LIMIT 1`), `-- every merchant
SELECT due_at FROM payments WHERE due_at > 0 AND due_at > $1 ORDER BY due_at LIMIT 1`)
)

// Due lists owed work whose time has come, the oldest first, and the time of the next.
func (s *Store) Due(ctx context.Context, now time.Time, limit int) ([]payment.Owed, time.Time, error) {
	type due struct {
		owed payment.Owed
		at   int64
	}
	var list []due
	var next int64
	err := s.read(ctx, func(r *reader) error {
		list, next = nil, 0
		for _, text := range dueParts {
			err := r.query(func(r *row) error {
				list = append(list, due{payment.Owed{Merchant: r.merchantID(), Payment: r.id(), Operation: r.id()}, r.int()})
				return nil
			}, text, millis(now), int64(limit))
			if err != nil {
				return err
			}
		}
		for _, text := range nextParts {
			err := r.query(func(r *row) error {
				if at := r.int(); next == 0 || at < next {
					next = at
				}
				return nil
			}, text, millis(now))
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, time.Time{}, wrap(err, "due")
	}
	slices.SortStableFunc(list, func(a, b due) int { return int(a.at - b.at) })
	owed := make([]payment.Owed, 0, min(len(list), limit))
	for _, d := range list[:min(len(list), limit)] {
		owed = append(owed, d.owed)
	}
	if next == 0 {
		return owed, time.Time{}, nil
	}
	return owed, time.UnixMilli(next).UTC(), nil
}

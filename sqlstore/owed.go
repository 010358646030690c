package sqlstore

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tillgate/tillgate/payment"
)

// Owed work and the incarnations that have it in hand. A lease runs by the database's time, so that the clocks of several hosts need not
// agree. Whoever takes over a row raises its version, which fences the one who had it: its compare-and-set fails.

// leases holds the statements that ask the database for its time.
type leases struct{ claim, enlist, renew, release, forget string }

func newLeases(d *dialect) leases {
	living := func(id, param string) string {
		return `EXISTS (SELECT 1 FROM incarnations WHERE incarnations.id = ` + id + ` AND alive_until > ` + d.now(param) + `)`
	}
	return leases{
		claim: `UPDATE operations SET owner = $4, due_at = $6, tries = tries + 1, version = version + 1
WHERE merchant_id = $1 AND payment_id = $2 AND id = $3 AND due_at > 0 AND due_at <= $5
AND (owner = 0 OR owner = $4 OR NOT ` + living("operations.owner", "$7") + `) AND ` + living("$4", "$7"),
		enlist: `-- every merchant
INSERT INTO incarnations (id, alive_until) VALUES ($1, $2 + ` + d.now("$3") + `)`,
		renew: `-- every merchant
UPDATE incarnations SET alive_until = $2 + ` + d.now("$3") + ` WHERE id = $1 AND alive_until > ` + d.now("$3"),
		release: `-- every merchant
UPDATE operations SET owner = 0, due_at = ` + d.now("$1") + `, version = version + 1
WHERE due_at > 0 AND owner > 0 AND NOT ` + living("operations.owner", "$1"),
		forget: `-- every merchant
DELETE FROM incarnations WHERE alive_until <= ` + d.now("$1"),
	}
}

// ClaimOperation takes a due operation in hand for a living incarnation.
func (t *txn) ClaimOperation(merchant payment.MerchantID, of, id payment.ID, incarnation int64, now, until time.Time) (bool, error) {
	n, err := t.exec(t.store.leases.claim, t.store.dialect.timed(int64(merchant), int64(of), int64(id), incarnation, millis(now),
		millis(until))...)
	return n > 0, wrap(err, "claim operation %d of payment %d of merchant %d", id, of, merchant)
}

const hasten = `-- every merchant
UPDATE operations SET due_at = $2 WHERE owner = 0 AND due_at > $2 AND state = 'waiting' AND acquirer = $1`

// Hasten makes due now what waits for somebody at an acquirer.
func (s *Store) Hasten(ctx context.Context, acquirer string, now time.Time) error {
	return wrap(s.write(ctx, func(t *txn) error {
		_, err := t.exec(hasten, acquirer, millis(now))
		return err
	}), "hasten what waits at %s", acquirer)
}

const retire = `-- every merchant
DELETE FROM incarnations WHERE id = $1`

const retireOthers = `-- every merchant
DELETE FROM incarnations WHERE id <> $1`

// Enlist makes a new incarnation.
func (s *Store) Enlist(ctx context.Context, lease time.Duration) (int64, error) {
	var incarnation int64
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
			return nil
		}
		if _, err := t.exec(retireOthers, incarnation); err != nil {
			return err
		}
		_, err = t.exec(s.leases.release, s.dialect.timed()...)
		return err
	})
	return incarnation, wrap(err, "enlist")
}

// Renew keeps an incarnation alive for another lease.
func (s *Store) Renew(ctx context.Context, incarnation int64, lease time.Duration) error {
	err := s.write(ctx, func(t *txn) error {
		n, err := t.exec(s.leases.renew, s.dialect.timed(incarnation, lease.Milliseconds())...)
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("its lease ran out: %w", payment.ErrNotFound)
		}
		if _, err := t.exec(s.leases.release, s.dialect.timed()...); err != nil {
			return err
		}
		_, err = t.exec(s.leases.forget, s.dialect.timed()...)
		return err
	})
	return wrap(err, "renew incarnation %d", incarnation)
}

// Retire ends an incarnation. One that is not there any more is as good as retired.
func (s *Store) Retire(ctx context.Context, incarnation int64) error {
	err := s.write(ctx, func(t *txn) error {
		_, err := t.exec(retire, incarnation)
		return err
	})
	return wrap(err, "retire incarnation %d", incarnation)
}

// What is due is read in three parts, each in the order of an index: operations that nobody has in hand, the few that somebody has, and
// payments. One in hand that is due is overdue: whoever has it has failed to record what came of it, so it is listed too, and a claim
// decides who may take it.
const (
	dueFree = `-- every merchant
SELECT merchant_id, payment_id, id, due_at FROM operations WHERE due_at > 0 AND owner = 0 AND due_at <= $1 ORDER BY due_at LIMIT $2`
	dueHeld = `-- every merchant
SELECT merchant_id, payment_id, id, due_at FROM operations WHERE due_at > 0 AND owner > 0 AND due_at <= $1 ORDER BY due_at LIMIT $2`
	duePayments = `-- every merchant
SELECT merchant_id, id, 0, due_at FROM payments WHERE due_at > 0 AND due_at <= $1 ORDER BY due_at LIMIT $2`

	nextFree = `-- every merchant
SELECT due_at FROM operations WHERE due_at > 0 AND owner = 0 AND due_at > $1 ORDER BY due_at LIMIT 1`
	nextHeld = `-- every merchant
SELECT due_at FROM operations WHERE due_at > 0 AND owner > 0 AND due_at > $1 ORDER BY due_at LIMIT 1`
	nextPayment = `-- every merchant
SELECT due_at FROM payments WHERE due_at > 0 AND due_at > $1 ORDER BY due_at LIMIT 1`
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
		for _, text := range []string{dueFree, dueHeld, duePayments} {
			err := r.query(func(r *row) error {
				list = append(list, due{payment.Owed{Merchant: r.merchantID(), Payment: r.id(), Operation: r.id()}, r.int()})
				return nil
			}, text, millis(now), int64(limit))
			if err != nil {
				return err
			}
		}
		for _, text := range []string{nextFree, nextHeld, nextPayment} {
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

package sqlstore

import (
	"context"
	"fmt"
	"time"

	"github.com/tillgate/tillgate/payment"
)

const (
	day = 24 * time.Hour
	// cardLife is how long a sealed card number is kept: as long as the payment may be refunded, which is a year, and a month for the refund.
	cardLife = 400 * day
	// vainLife is how long the sealed card number of an attempt is kept that took no money, for an acquirer that contradicts itself.
	vainLife = day
	// keyLife is how long a key is kept that is free again.
	keyLife = day
	// noticeLife is how long a notice is kept that is settled, for people.
	noticeLife = 30 * day
)

// purges are what nothing needs any more, each found by an index, the oldest first.
var purges = []struct {
	what, text string
	life       time.Duration
}{
	{"card numbers of first attempts that took no money", wipe(inPayment, `vain_at`, ``), vainLife},
	{"card numbers of first attempts", wipe(inPayment, `created_at`, ``), cardLife},
	{"card numbers of attempts that took no money", wipe(inOwnRow, `settled_at`, ` AND {}state IN ('declined', 'reversed')`), vainLife},
	{"card numbers", wipe(inOwnRow, `created_at`, ``), cardLife},
	{"keys", expired(`payment_keys`, `merchant_id, scope, key`, `free_at`, `free_at > 0`), keyLife},
	// One that was closed in advance and never used is as good as none.
	{"closed keys", expired(`payment_keys`, `merchant_id, scope, key`, `closed_to`, `closed_to > 0 AND payment_id = 0 AND mac = ''`), keyLife},
	{"PIN keys", expired(`pin_keys`, `merchant_id, identity_id, id`, `expires_at`, `expires_at > 0`), 0},
	{"notices", expired(`notices`, `merchant_id, id`, `settled_at`, `settled_at > 0`), noticeLife},
}

func expired(table, key, at, which string) string {
	return fmt.Sprintf(`-- every merchant
DELETE FROM %s WHERE (%s) IN (SELECT %s FROM %s WHERE %s AND %s <= $1 ORDER BY %s LIMIT $2)`, table, key, key, table, which, at, at)
}

// wipe leaves the version as it is: no turn writes the number, so a turn under way loses nothing. If it writes that the number was in vain,
// that stays without effect.
func wipe(where place, at, which string) string {
	return where.word(fmt.Sprintf(`-- every merchant
UPDATE {table} SET {wiped} WHERE (merchant_id, {of}, id) IN
(SELECT merchant_id, {of}, id FROM {table} WHERE {}sealed <> ''%s AND {}%s > 0 AND {}%s <= $1 ORDER BY {}%s LIMIT $2)`, which, at, at, at))
}

// Purge forgets what nothing needs any more: sealed card numbers, keys that are free again, PIN keys that have expired, and notices that are
// settled. It takes at most limit rows of each in one transaction each, so that payments wait for no long one, and returns how many they were:
// call it again until there are none.
func (s *Store) Purge(ctx context.Context, now time.Time, limit int) (int, error) {
	if limit < 1 {
		return 0, fmt.Errorf("purge of %d rows: want 1 or more: %w", limit, payment.ErrInvalid)
	}
	total := 0
	for _, p := range purges {
		var n int64
		err := s.write(ctx, func(t *txn) (err error) {
			n, err = t.exec(p.text, millis(now.Add(-p.life)), int64(limit))
			return err
		})
		if err != nil {
			return total, wrap(err, "purge %s", p.what)
		}
		total += int(n)
	}
	return total, nil
}

package sqlstore

import (
	"context"
	"time"

	"github.com/tillgate/tillgate/payment"
)

// OwedCount is how much work of one kind is owed.
type OwedCount struct {
	Kind    payment.Kind // Of the operation; empty for payments that only wait for their end.
	Count   int
	Flagged int       // Those that people should look at.
	Oldest  time.Time // When the oldest of them was made.
}

// countOwed finds each operation by the index that has it (terms.go).
const countOwed = `-- every merchant
SELECT kind, COUNT(*), CAST(SUM(flagged) AS BIGINT), MIN(created_at) FROM (
SELECT kind, flagged, created_at FROM later_operations WHERE due_at > 0
UNION ALL
SELECT first_kind, first_flagged, first_created_at FROM payments WHERE first_free_at > 0
UNION ALL
SELECT first_kind, first_flagged, first_created_at FROM payments WHERE first_held_at > 0
UNION ALL
SELECT first_kind, first_flagged, first_created_at FROM terms CROSS JOIN payments
WHERE first_term > 0 AND first_term = terms.id AND first_owner > 0 AND first_due_at > 0 AND first_held_at = 0) AS owed GROUP BY kind
UNION ALL
SELECT '', COUNT(*), 0, MIN(created_at) FROM payments WHERE due_at > 0 HAVING COUNT(*) > 0`

// CountOwed counts all owed work, due or not and in hand or not, by kind.
func (s *Store) CountOwed(ctx context.Context) ([]OwedCount, error) {
	var counts []OwedCount
	err := s.read(ctx, func(r *reader) error {
		counts = nil
		return r.query(func(r *row) error {
			c := OwedCount{Kind: payment.Kind(r.text()), Count: int(r.int()), Flagged: int(r.int())}
			c.Oldest = time.UnixMilli(r.int()).UTC()
			counts = append(counts, c)
			return nil
		}, countOwed)
	})
	return counts, wrap(err, "count owed work")
}

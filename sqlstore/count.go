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

const countOwed = `-- every merchant
SELECT kind, COUNT(*), CAST(SUM(flagged) AS BIGINT), MIN(created_at) FROM operations WHERE due_at > 0 GROUP BY kind
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

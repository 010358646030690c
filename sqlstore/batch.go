package sqlstore

import (
	"context"
	"errors"
	"time"

	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/settlement"
)

// Settlement batches. Journal entries are what moved money, so they are what a batch is gathered from.

// selectLoose finds the entries that no batch has yet, with their operations. An operation that a void has taken back does not count, nor does
// the void. Here as below, an operation that is none of later_operations is the payment's first attempt.
const selectLoose = `SELECT e.payment_id, e.operation_id, e.currency, COALESCE(o.kind, p.first_kind), COALESCE(o.amount, p.first_amount), v.operation_id
FROM ledger_entries e
JOIN payments p ON p.merchant_id = e.merchant_id AND p.id = e.payment_id
LEFT JOIN later_operations o ON o.merchant_id = e.merchant_id AND o.payment_id = e.payment_id AND o.id = e.operation_id
LEFT JOIN batch_items b ON b.merchant_id = e.merchant_id AND b.payment_id = e.payment_id AND b.operation_id = e.operation_id
LEFT JOIN later_operations w ON w.merchant_id = e.merchant_id AND w.payment_id = e.payment_id AND w.kind = 'void' AND w.state = 'approved'
LEFT JOIN ledger_entries v ON v.merchant_id = w.merchant_id AND v.payment_id = w.payment_id AND v.operation_id = w.id
WHERE e.merchant_id = $1 AND e.acquirer = $2 AND e.business_day <= $3 AND b.operation_id IS NULL
AND NOT EXISTS (SELECT 1 FROM later_operations u WHERE u.merchant_id = e.merchant_id AND u.payment_id = e.payment_id AND u.kind = 'void'
AND u.state NOT IN ('approved', 'declined'))
ORDER BY e.operation_id`

const batchColumns = `merchant_id, id, acquirer, currency, business_day, state, debits, debit_minor, credits, credit_minor, uploaded, code, created_at,
settled_at`

var (
	insertBatch     = `INSERT INTO batches (` + batchColumns + `) VALUES (` + params(14) + `)`
	insertBatchItem = `INSERT INTO batch_items (merchant_id, payment_id, operation_id, batch_id, counts) VALUES (` + params(5) + `) ON CONFLICT DO NOTHING`
)

const (
	selectOpenBatches = `SELECT ` + batchColumns + ` FROM batches WHERE merchant_id = $1 AND acquirer = $2 AND state <> 'balanced' ORDER BY id`
	selectBatches     = `SELECT ` + batchColumns + ` FROM batches WHERE merchant_id = $1 AND id > $2 ORDER BY id LIMIT $3`
	settleBatch       = `UPDATE batches SET state = $3, uploaded = $4, code = $5, settled_at = $6 WHERE merchant_id = $1 AND id = $2 AND state <> 'balanced'`

	discountVoided = `UPDATE batch_items SET counts = 0 WHERE merchant_id = $1 AND batch_id = $2 AND counts = 1
AND EXISTS (SELECT 1 FROM later_operations w WHERE w.merchant_id = batch_items.merchant_id AND w.payment_id = batch_items.payment_id AND w.kind = 'void'
AND w.state = 'approved')`
	countBatch = `SELECT kind, COUNT(*), CAST(SUM(amount) AS BIGINT)
FROM (SELECT COALESCE(o.kind, p.first_kind) AS kind, COALESCE(o.amount, p.first_amount) AS amount
FROM batch_items b
JOIN payments p ON p.merchant_id = b.merchant_id AND p.id = b.payment_id
LEFT JOIN later_operations o ON o.merchant_id = b.merchant_id AND o.payment_id = b.payment_id AND o.id = b.operation_id
WHERE b.merchant_id = $1 AND b.batch_id = $2 AND b.counts = 1) AS counted GROUP BY kind`
	updateTotals = `UPDATE batches SET debits = $3, debit_minor = $4, credits = $5, credit_minor = $6 WHERE merchant_id = $1 AND id = $2
AND state <> 'balanced'`
)

// selectBatchItems finds a batch's movements with what their messages said. A refund's terminal is that of the payment's attempt.
const selectBatchItems = `SELECT b.payment_id, COALESCE(o.kind, p.first_kind), COALESCE(o.number, p.first_number),
COALESCE(o.sent_at, p.first_sent_at), COALESCE(o.currency, p.first_currency), COALESCE(o.amount, p.first_amount),
COALESCE(o.result, p.first_result), COALESCE(a.card, p.first_card), COALESCE(a.result, p.first_result)
FROM batch_items b
JOIN payments p ON p.merchant_id = b.merchant_id AND p.id = b.payment_id
LEFT JOIN later_operations o ON o.merchant_id = b.merchant_id AND o.payment_id = b.payment_id AND o.id = b.operation_id
LEFT JOIN later_operations a ON a.merchant_id = b.merchant_id AND a.payment_id = b.payment_id AND a.id = p.attempt_id
WHERE b.merchant_id = $1 AND b.batch_id = $2 AND b.counts = 1 ORDER BY b.operation_id`

func (r *row) batch() (settlement.Batch, error) {
	b := settlement.Batch{Merchant: r.merchantID(), ID: r.id(), Acquirer: r.text()}
	var err error
	b.Currency, err = r.currency()
	b.Day, b.State = payment.Day(r.int()), settlement.State(r.text())
	b.Totals = settlement.Totals{Debits: r.int(), DebitMinor: r.int(), Credits: r.int(), CreditMinor: r.int()}
	b.Uploaded, b.Code, b.CreatedAt, b.SettledAt = int(r.int()), r.text(), r.time(), r.time()
	return b, err
}

// loose is an operation that no batch has yet.
type loose struct {
	payment, operation payment.ID
	currency           money.Currency
	kind               payment.Kind
	amount             int64
	voided             bool
}

// gatherTries bounds how often gathering begins again because another process gathers the same.
const gatherTries = 5

// GatherBatches puts what no batch has yet into open batches, one for each currency, and lists all that are not balanced. What is loose is looked
// for beside the writer: a merchant's history is long.
func (s *Store) GatherBatches(ctx context.Context, merchant payment.MerchantID, acquirer string, until payment.Day, now time.Time) ([]settlement.Batch, error) {
	for try := 1; ; try++ {
		found, err := s.loose(ctx, merchant, acquirer, until)
		if err == nil && len(found) > 0 {
			err = s.write(ctx, func(t *txn) error { return t.fill(merchant, acquirer, until, now, found) })
		}
		if errors.Is(err, payment.ErrStoreConflict) && try < gatherTries {
			continue
		}
		if err != nil {
			return nil, wrap(err, "gather batches of merchant %d", merchant)
		}
		break
	}
	var open []settlement.Batch
	err := s.read(ctx, func(r *reader) error {
		open = nil
		return r.query(func(r *row) error {
			b, err := r.batch()
			open = append(open, b)
			return err
		}, selectOpenBatches, int64(merchant), acquirer)
	})
	return open, wrap(err, "gather batches of merchant %d", merchant)
}

// loose finds what no batch has yet.
func (s *Store) loose(ctx context.Context, merchant payment.MerchantID, acquirer string, until payment.Day) ([]loose, error) {
	var found []loose
	err := s.read(ctx, func(r *reader) error {
		found = nil
		return r.query(func(r *row) error {
			l := loose{payment: r.id(), operation: r.id()}
			var err error
			l.currency, err = r.currency()
			l.kind, l.amount, l.voided = payment.Kind(r.text()), r.int(), r.id() != 0
			found = append(found, l)
			return err
		}, selectLoose, int64(merchant), acquirer, int64(until))
	})
	return found, err
}

// RecountBatch leaves out of a batch what has been voided since it was gathered.
func (s *Store) RecountBatch(ctx context.Context, b settlement.Batch) (settlement.Batch, error) {
	err := s.write(ctx, func(t *txn) error {
		if _, err := t.exec(discountVoided, int64(b.Merchant), int64(b.ID)); err != nil {
			return err
		}
		b.Totals = settlement.Totals{}
		err := t.query(func(r *row) error {
			kind, n, minor := payment.Kind(r.text()), r.int(), r.int()
			if kind == payment.Refund {
				b.Totals.Credits, b.Totals.CreditMinor = b.Totals.Credits+n, b.Totals.CreditMinor+minor
			} else {
				b.Totals.Debits, b.Totals.DebitMinor = b.Totals.Debits+n, b.Totals.DebitMinor+minor
			}
			return nil
		}, countBatch, int64(b.Merchant), int64(b.ID))
		if err != nil {
			return err
		}
		_, err = t.exec(updateTotals, int64(b.Merchant), int64(b.ID), b.Totals.Debits, b.Totals.DebitMinor, b.Totals.Credits, b.Totals.CreditMinor)
		return err
	})
	return b, wrap(err, "recount batch %d of merchant %d", b.ID, b.Merchant)
}

// fill makes batches of loose operations.
func (t *txn) fill(merchant payment.MerchantID, acquirer string, until payment.Day, now time.Time, found []loose) error {
	byCurrency := map[money.Currency]*settlement.Batch{}
	var order []*settlement.Batch
	for _, l := range found {
		b := byCurrency[l.currency]
		if b == nil {
			id, err := t.block(1)
			if err != nil {
				return err
			}
			b = &settlement.Batch{ID: id, Currency: l.currency}
			byCurrency[l.currency] = b
			order = append(order, b)
		}
		if l.voided || l.kind == payment.VoidOperation {
			continue
		}
		if l.kind == payment.Refund {
			b.Totals.Credits, b.Totals.CreditMinor = b.Totals.Credits+1, b.Totals.CreditMinor+l.amount
		} else {
			b.Totals.Debits, b.Totals.DebitMinor = b.Totals.Debits+1, b.Totals.DebitMinor+l.amount
		}
	}
	for _, b := range order {
		_, err := t.exec(insertBatch, int64(merchant), int64(b.ID), acquirer, b.Currency.Code(), int64(until), string(settlement.Open), b.Totals.Debits,
			b.Totals.DebitMinor, b.Totals.Credits, b.Totals.CreditMinor, int64(0), "", millis(now), int64(0))
		if err != nil {
			return err
		}
	}
	for _, l := range found {
		counts := !l.voided && l.kind != payment.VoidOperation
		n, err := t.exec(insertBatchItem, int64(merchant), int64(l.payment), int64(l.operation), int64(byCurrency[l.currency].ID), bit(counts))
		if err != nil {
			return err
		}
		if n == 0 {
			return payment.ErrStoreConflict // Another process gathers the same at this moment.
		}
	}
	return nil
}

// BatchItems lists the movements of a batch that count.
func (s *Store) BatchItems(ctx context.Context, merchant payment.MerchantID, batch payment.ID) ([]settlement.Item, error) {
	var items []settlement.Item
	err := s.read(ctx, func(r *reader) error {
		items = nil
		return r.query(func(r *row) error {
			i := settlement.Item{Payment: r.id(), Kind: payment.Kind(r.text()), Number: r.text(), SentAt: r.time()}
			cur, err := r.currency()
			if err != nil {
				return err
			}
			i.Amount = money.New(r.int(), cur)
			var own, attempt payment.Result
			var card payment.CardFacts
			for _, part := range []struct {
				kind string
				to   any
			}{{"result", &own}, {"card", &card}, {"result", &attempt}} {
				if err := r.decode(part.kind, part.to); err != nil {
					return err
				}
			}
			i.TID, i.AuthCode = card.TID, own.AuthCode
			if i.AuthCode == "" && i.Kind == payment.CaptureOperation {
				i.AuthCode = attempt.AuthCode
			}
			items = append(items, i)
			return nil
		}, selectBatchItems, int64(merchant), int64(batch))
	})
	return items, wrap(err, "items of batch %d of merchant %d", batch, merchant)
}

// SettleBatch stores what the acquirer said of an open batch. One that is settled already stays as it is.
func (s *Store) SettleBatch(ctx context.Context, b settlement.Batch) error {
	return wrap(s.write(ctx, func(t *txn) error {
		_, err := t.exec(settleBatch, int64(b.Merchant), int64(b.ID), string(b.State), int64(b.Uploaded), b.Code, millis(b.SettledAt))
		return err
	}), "settle batch %d of merchant %d", b.ID, b.Merchant)
}

// Batches lists a merchant's batches in the order of their IDs, those after the given one, 1000 at most.
func (s *Store) Batches(ctx context.Context, merchant payment.MerchantID, after payment.ID, limit int) ([]settlement.Batch, error) {
	var rows []settlement.Batch
	err := s.read(ctx, func(r *reader) error {
		rows = nil
		return r.query(func(r *row) error {
			b, err := r.batch()
			rows = append(rows, b)
			return err
		}, selectBatches, int64(merchant), int64(after), int64(min(limit, listMax)))
	})
	return rows, wrap(err, "batches of merchant %d", merchant)
}

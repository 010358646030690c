package sqlstore

import (
	"context"
	"time"

	"github.com/tillgate/tillgate/ledger"
	"github.com/tillgate/tillgate/payment"
)

// Entry is a journal entry with what it was posted for.
type Entry struct {
	Merchant  payment.MerchantID
	Payment   payment.ID
	Operation payment.ID
	Number    string // The payment's public number.
	Kind      payment.Kind
	Acquirer  string
	Day       payment.Day // Business day.
	PostedAt  time.Time
	ledger.Entry
}

// EntryFilter says which entries of a merchant are wanted. The zero value stands for all.
type EntryFilter struct {
	Payment  payment.ID  // 0 for all.
	From, To payment.Day // First and last business day; 0 for no bound.
	After    *Entry      // Only those behind this one; nil for no bound.
	Limit    int         // 0 for the most that a list holds, 1000.
}

// entriesWhere selects the entries of a filter; its parameters are $1 to $5.
const entriesWhere = ` WHERE ledger_entries.merchant_id = $1 AND ledger_entries.payment_id >= $2 AND ledger_entries.payment_id <= $3
AND ledger_entries.business_day >= $4 AND ledger_entries.business_day <= $5`

const (
	selectEntries = `SELECT ledger_entries.merchant_id, ledger_entries.payment_id, ledger_entries.operation_id, payments.number_prefix,
payments.number_digits, COALESCE(later_operations.kind, payments.first_kind), ledger_entries.acquirer, ledger_entries.business_day, ledger_entries.posted_at,
ledger_entries.currency, ledger_entries.receivable, ledger_entries.payable, ledger_entries.fees, ledger_entries.tips
FROM ledger_entries
JOIN payments ON payments.merchant_id = ledger_entries.merchant_id AND payments.id = ledger_entries.payment_id
LEFT JOIN later_operations ON later_operations.merchant_id = ledger_entries.merchant_id
AND later_operations.payment_id = ledger_entries.payment_id AND later_operations.id = ledger_entries.operation_id` + entriesWhere + `
AND (ledger_entries.payment_id > $6 OR ledger_entries.payment_id = $6 AND ledger_entries.operation_id > $7)
ORDER BY ledger_entries.payment_id, ledger_entries.operation_id LIMIT $8`

	selectTotals = `SELECT currency, CAST(SUM(receivable) AS BIGINT), CAST(SUM(payable) AS BIGINT), CAST(SUM(fees) AS BIGINT),
CAST(SUM(tips) AS BIGINT) FROM ledger_entries` + entriesWhere + ` GROUP BY currency`
)

// args are the parameters of entriesWhere.
func (f EntryFilter) args(merchant payment.MerchantID) []any {
	first, last, from, to := int64(0), int64(1)<<62, int64(f.From), int64(1)<<31
	if f.Payment != 0 {
		first, last = int64(f.Payment), int64(f.Payment)
	}
	if f.To != 0 {
		to = int64(f.To)
	}
	return []any{int64(merchant), first, last, from, to}
}

// Entries lists journal entries of a merchant in the order of their payments and operations.
func (s *Store) Entries(ctx context.Context, merchant payment.MerchantID, f EntryFilter) ([]Entry, error) {
	args, limit, after := f.args(merchant), listMax, Entry{}
	if f.After != nil {
		after = *f.After
		args[1] = max(args[1].(int64), int64(after.Payment)) // So that the index begins there.
	}
	if f.Limit > 0 {
		limit = min(f.Limit, listMax)
	}
	args = append(args, int64(after.Payment), int64(after.Operation), int64(limit))
	var list []Entry
	err := s.read(ctx, func(r *reader) error {
		list = nil
		return r.query(func(r *row) error {
			e := Entry{Merchant: r.merchantID(), Payment: r.id(), Operation: r.id()}
			e.Number = payment.Numbering{Prefix: r.text(), Digits: int(r.int())}.Number(e.Payment)
			e.Kind, e.Acquirer, e.Day, e.PostedAt = payment.Kind(r.text()), r.text(), payment.Day(r.int()), r.time()
			cur, err := r.currency()
			e.Entry = ledger.Entry{Currency: cur, Postings: ledger.Postings{Receivable: r.int(), Payable: r.int(), Fees: r.int(), Tips: r.int()}}
			list = append(list, e)
			return err
		}, selectEntries, args...)
	})
	return list, wrap(err, "ledger of merchant %d", merchant)
}

// Totals sums the entries of a filter by currency code, whatever its After and Limit. Without a filter these are the merchant's balances, as a
// payment.Reader has them.
func (s *Store) Totals(ctx context.Context, merchant payment.MerchantID, f EntryFilter) (map[string]ledger.Postings, error) {
	var sums map[string]ledger.Postings
	err := s.read(ctx, func(r *reader) error {
		sums = map[string]ledger.Postings{}
		return r.query(func(r *row) error {
			sums[r.text()] = ledger.Postings{Receivable: r.int(), Payable: r.int(), Fees: r.int(), Tips: r.int()}
			return nil
		}, selectTotals, f.args(merchant)...)
	})
	return sums, wrap(err, "totals of merchant %d", merchant)
}

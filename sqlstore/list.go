package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/tillgate/tillgate/payment"
)

// Lists of payments, attempts and refunds for callers that page through them, and the newest token of each client.

// conditions are what a list's rows must fulfil. Their texts differ by which conditions there are and by how many values one has, so there
// are few of them, and what callers send is always an argument.
type conditions struct {
	text strings.Builder
	args []any
}

// where begins the conditions with the merchant.
func where(merchant payment.MerchantID) *conditions {
	c := &conditions{args: []any{int64(merchant)}}
	c.text.WriteString(` WHERE payments.merchant_id = $1 AND payments.created_at > 0`) // So that payments_by_time may be used.
	return c
}

// add adds a condition with one argument, for which it has a %d.
func (c *conditions) add(format string, arg any) {
	c.args = append(c.args, arg)
	fmt.Fprintf(&c.text, " AND "+format, len(c.args))
}

// oneOf adds a condition that a column has one of some values, if there are any.
func oneOf[T ~string](c *conditions, column string, values []T) {
	if len(values) == 0 {
		return
	}
	params := make([]string, len(values))
	for i, v := range values {
		c.args = append(c.args, string(v))
		params[i] = fmt.Sprintf("$%d", len(c.args))
	}
	fmt.Fprintf(&c.text, " AND %s IN (%s)", column, strings.Join(params, ", "))
}

// payments adds what a filter asks of payments; made is the column of the time that it asks about.
func (c *conditions) payments(f payment.ListFilter, made string) {
	if f.Protocol != "" {
		c.add("payments.protocol = $%d", f.Protocol)
	}
	oneOf(c, "payments.state", f.States)
	if f.Payment != 0 {
		c.add("payments.id = $%d", int64(f.Payment))
	}
	if f.Reference != "" {
		c.add("payments.reference = $%d", f.Reference)
	}
	if !f.After.IsZero() {
		c.add(made+" > $%d", f.After.UnixMilli())
	}
	if !f.Before.IsZero() {
		c.add(made+" < $%d", f.Before.UnixMilli())
	}
}

// page counts the rows and reads the wanted ones: names of a payment and of one of its operations, the latter 0 for none.
func (r *reader) page(columns, from, order string, c *conditions, f payment.ListFilter) (ids [][2]payment.ID, total int64, err error) {
	err = r.one(func(r *row) error {
		total = r.int()
		return nil
	}, `SELECT COUNT(*)`+from+c.text.String(), c.args...)
	if err != nil || f.Limit <= 0 || f.Offset >= total {
		return nil, total, err
	}
	args := append(c.args, int64(min(f.Limit, listMax)), f.Offset)
	err = r.query(func(r *row) error {
		ids = append(ids, [2]payment.ID{r.id(), r.id()})
		return nil
	}, fmt.Sprintf(`SELECT %s%s%s ORDER BY %s LIMIT $%d OFFSET $%d`, columns, from, c.text.String(), order, len(args)-1, len(args)), args...)
	return ids, total, err
}

const (
	fromPayments = ` FROM payments LEFT JOIN later_operations ON later_operations.merchant_id = payments.merchant_id
AND later_operations.payment_id = payments.id AND later_operations.id = payments.attempt_id`
	fromOperations = ` FROM payments JOIN operations ON operations.merchant_id = payments.merchant_id AND operations.payment_id = payments.id`
	fromRefunds    = ` FROM payments JOIN later_operations ON later_operations.merchant_id = payments.merchant_id
AND later_operations.payment_id = payments.id`

	// Attempts have no index of their own: those of the newest payments are found by the payments'.
	newestPayments = `payments.created_at DESC, payments.id DESC`
)

// ListPayments lists payments with their latest attempts.
func (r *reader) ListPayments(merchant payment.MerchantID, f payment.ListFilter) ([]payment.View, int64, error) {
	c := where(merchant)
	c.payments(f, "payments.created_at")
	oneOf(c, "COALESCE(later_operations.state, payments.first_state)", f.Attempts)
	ids, total, err := r.page(`payments.id, payments.attempt_id`, fromPayments, newestPayments, c, f)
	if err != nil {
		return nil, 0, wrap(err, "list payments of merchant %d", merchant)
	}
	views, err := r.views(merchant, ids)
	return views, total, err
}

// ListAttempts lists attempts with their payments.
func (r *reader) ListAttempts(merchant payment.MerchantID, f payment.ListFilter) ([]payment.View, int64, error) {
	c := where(merchant)
	c.payments(f, "operations.created_at")
	oneOf(c, "operations.kind", []payment.Kind{payment.Sale, payment.Authorization})
	oneOf(c, "operations.state", f.Attempts)
	if f.Failed {
		c.text.WriteString(` AND operations.failure <> ''`)
	}
	if f.Unfailed {
		c.text.WriteString(` AND operations.failure = ''`)
	}
	ids, total, err := r.page(`payments.id, operations.id`, fromOperations, newestPayments+`, operations.id DESC`, c, f)
	if err != nil {
		return nil, 0, wrap(err, "list attempts of merchant %d", merchant)
	}
	views, err := r.views(merchant, ids)
	return views, total, err
}

// views reads payments, each with one of its attempts.
func (r *reader) views(merchant payment.MerchantID, ids [][2]payment.ID) ([]payment.View, error) {
	var views []payment.View
	for _, id := range ids {
		var v payment.View
		var err error
		if v.Payment, err = r.Payment(merchant, id[0]); err == nil && id[1] != 0 {
			v.Attempt, err = r.Operation(merchant, id[0], id[1])
		}
		if err != nil {
			return nil, err
		}
		views = append(views, v)
	}
	return views, nil
}

// ListRefunds lists the refunds that callers asked for: those that the core owes by itself have no key.
func (r *reader) ListRefunds(merchant payment.MerchantID, f payment.ListFilter) ([]payment.RefundView, int64, error) {
	c := where(merchant)
	c.text.WriteString(` AND later_operations.key_scope <> ''`)
	c.payments(f, "later_operations.created_at")
	oneOf(c, "later_operations.kind", []payment.Kind{payment.Refund})
	oneOf(c, "later_operations.state", f.Refunds)
	ids, total, err := r.page(`payments.id, later_operations.id`, fromRefunds, `later_operations.created_at DESC, later_operations.id DESC`, c, f)
	if err != nil {
		return nil, 0, wrap(err, "list refunds of merchant %d", merchant)
	}
	var views []payment.RefundView
	for _, id := range ids {
		var v payment.RefundView
		if v.Payment, err = r.Payment(merchant, id[0]); err == nil {
			v.Refund, err = r.Operation(merchant, id[0], id[1])
		}
		if err != nil {
			return nil, 0, err
		}
		views = append(views, v)
	}
	return views, total, nil
}

const (
	selectNewestToken = `SELECT token_id FROM newest_tokens WHERE merchant_id = $1 AND credential_id = $2`
	upsertNewestToken = `INSERT INTO newest_tokens (merchant_id, credential_id, token_id) VALUES ($1, $2, $3)
ON CONFLICT (merchant_id, credential_id) DO UPDATE SET token_id = excluded.token_id`
)

// NewestToken is the ID of the newest token that a credential was given; empty when it was given none.
func (s *Store) NewestToken(ctx context.Context, merchant payment.MerchantID, credential payment.ID) (string, error) {
	var id string
	err := s.read(ctx, func(r *reader) error {
		return r.one(func(r *row) error {
			id = r.text()
			return nil
		}, selectNewestToken, int64(merchant), int64(credential))
	})
	if errors.Is(err, payment.ErrNotFound) {
		return "", nil
	}
	return id, wrap(err, "newest token of credential %d of merchant %d", credential, merchant)
}

// SetNewestToken makes a token the newest of a credential.
func (s *Store) SetNewestToken(ctx context.Context, merchant payment.MerchantID, credential payment.ID, token string) error {
	return wrap(s.write(ctx, func(t *txn) error {
		_, err := t.exec(upsertNewestToken, int64(merchant), int64(credential), token)
		return err
	}), "newest token of credential %d of merchant %d", credential, merchant)
}

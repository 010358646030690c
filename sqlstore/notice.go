package sqlstore

import (
	"context"
	"encoding/hex"
	"errors"
	"strings"
	"time"

	"github.com/tillgate/tillgate/payment"
)

// Notices that callers are owed, and the webhooks that want them. A notice is claimed by compare-and-set on its due time, so that several
// processes share the work, and one whose process dies simply comes due again: receivers are told at least once.

const noticeColumns = `merchant_id, id, payment_id, protocol, event, url, endpoint_id, signer, body, due_at, tries`

var insertNotice = `INSERT INTO notices (` + noticeColumns + `, outcome, settled_at) VALUES (` + params(11) + `, '', 0)`

// InsertNotice stores a notice that is owed.
func (t *txn) InsertNotice(n *payment.Notice) error {
	_, err := t.exec(insertNotice, int64(n.Merchant), int64(n.ID), int64(n.Payment), n.Protocol, n.Event, n.URL, int64(n.Endpoint), n.Signer,
		string(n.Body), millis(n.DueAt), int64(n.Tries))
	return wrap(err, "insert notice %d of merchant %d", n.ID, n.Merchant)
}

func (r *row) notice() payment.Notice {
	return payment.Notice{Merchant: r.merchantID(), ID: r.id(), Payment: r.id(), Protocol: r.text(), Event: r.text(), URL: r.text(), Endpoint: r.id(),
		Signer: r.text(), Body: r.raw(), DueAt: r.time(), Tries: int(r.int())}
}

const (
	dueNotices = `-- every merchant
SELECT ` + noticeColumns + ` FROM notices WHERE due_at > 0 AND due_at <= $1 ORDER BY due_at LIMIT $2`
	nextNotice = `-- every merchant
SELECT due_at FROM notices WHERE due_at > 0 AND due_at > $1 ORDER BY due_at LIMIT 1`
	claimNotice   = `UPDATE notices SET due_at = $4, tries = tries + 1 WHERE merchant_id = $1 AND id = $2 AND due_at = $3`
	putOffNotice  = `UPDATE notices SET due_at = $4, outcome = $5 WHERE merchant_id = $1 AND id = $2 AND due_at = $3`
	settleNotice  = `UPDATE notices SET due_at = 0, outcome = $3, settled_at = $4 WHERE merchant_id = $1 AND id = $2 AND due_at > 0`
	selectNotices = `SELECT ` + noticeColumns + ` FROM notices WHERE merchant_id = $1 AND id > $2 ORDER BY id LIMIT $3`
)

// DueNotices lists notices whose time has come, the oldest first, and the time of the next one after now, zero for none.
func (s *Store) DueNotices(ctx context.Context, now time.Time, limit int) ([]payment.Notice, time.Time, error) {
	var due []payment.Notice
	var next time.Time
	err := s.read(ctx, func(r *reader) error {
		due, next = nil, time.Time{}
		err := r.query(func(r *row) error {
			due = append(due, r.notice())
			return nil
		}, dueNotices, millis(now), int64(limit))
		return errors.Join(err, r.query(func(r *row) error {
			next = r.time()
			return nil
		}, nextNotice, millis(now)))
	})
	return due, next, wrap(err, "due notices")
}

// ClaimNotice takes a due notice in hand until the given time, counting a try, and returns it as it is then; false when somebody else was
// faster.
func (s *Store) ClaimNotice(ctx context.Context, n payment.Notice, until time.Time) (payment.Notice, bool, error) {
	claimed := false
	err := s.write(ctx, func(t *txn) error {
		rows, err := t.exec(claimNotice, int64(n.Merchant), int64(n.ID), millis(n.DueAt), millis(until))
		claimed = rows > 0
		return err
	})
	n.DueAt, n.Tries = until.UTC().Truncate(time.Millisecond), n.Tries+1
	return n, claimed && err == nil, wrap(err, "claim notice %d of merchant %d", n.ID, n.Merchant)
}

// PutOffNotice lets a claimed notice come due again, and says what its last try met.
func (s *Store) PutOffNotice(ctx context.Context, n payment.Notice, at time.Time, outcome string) error {
	return wrap(s.write(ctx, func(t *txn) error {
		_, err := t.exec(putOffNotice, int64(n.Merchant), int64(n.ID), millis(n.DueAt), millis(at), outcome)
		return err
	}), "put off notice %d of merchant %d", n.ID, n.Merchant)
}

// SettleNotice ends a notice: it was accepted, or is given up.
func (s *Store) SettleNotice(ctx context.Context, n payment.Notice, at time.Time, outcome string) error {
	return wrap(s.write(ctx, func(t *txn) error {
		_, err := t.exec(settleNotice, int64(n.Merchant), int64(n.ID), outcome, millis(at))
		return err
	}), "settle notice %d of merchant %d", n.ID, n.Merchant)
}

// Notices lists a merchant's notices in the order of their IDs, those after the given one, 1000 at most.
func (s *Store) Notices(ctx context.Context, merchant payment.MerchantID, after payment.ID, limit int) ([]payment.Notice, error) {
	return list(ctx, s, (*row).notice, selectNotices, merchant, after, limit)
}

// Webhooks.

const webhookColumns = `merchant_id, id, protocol, url, events, secret, seconds, disabled`

var (
	selectWebhooks = `SELECT ` + webhookColumns + ` FROM webhooks WHERE merchant_id = $1 AND protocol = $2 ORDER BY id`
	selectWebhook  = `SELECT ` + webhookColumns + ` FROM webhooks WHERE merchant_id = $1 AND id = $2`
	insertWebhook  = `INSERT INTO webhooks (` + webhookColumns + `) VALUES (` + params(8) + `)`
)

func (r *row) webhook() (payment.Webhook, error) {
	w := payment.Webhook{Merchant: r.merchantID(), ID: r.id(), Protocol: r.text(), URL: r.text()}
	if events := r.text(); events != "" {
		w.Events = strings.Split(events, ",")
	}
	var err error
	w.Secret, err = hexBytes(r.text())
	w.Seconds, w.Disabled = r.flag(), r.flag()
	return w, err
}

// Webhooks lists a merchant's webhooks for a protocol.
func (r *reader) Webhooks(merchant payment.MerchantID, protocol string) ([]payment.Webhook, error) {
	var list []payment.Webhook
	err := r.query(func(r *row) error {
		w, err := r.webhook()
		list = append(list, w)
		return err
	}, selectWebhooks, int64(merchant), protocol)
	return list, wrap(err, "webhooks of merchant %d", merchant)
}

// Webhook finds a webhook.
func (s *Store) Webhook(ctx context.Context, merchant payment.MerchantID, id payment.ID) (payment.Webhook, error) {
	var w payment.Webhook
	err := s.read(ctx, func(r *reader) error {
		return r.one(func(r *row) (err error) {
			w, err = r.webhook()
			return err
		}, selectWebhook, int64(merchant), int64(id))
	})
	return w, wrap(err, "webhook %d of merchant %d", id, merchant)
}

// AddWebhook stores a new webhook of a merchant, and returns it with its ID. Its secret is sealed already.
func (s *Store) AddWebhook(ctx context.Context, w payment.Webhook) (payment.Webhook, error) {
	err := s.write(ctx, func(t *txn) error {
		if _, err := t.Merchant(w.Merchant); err != nil {
			return err
		}
		var err error
		if w.ID, err = t.block(1); err != nil {
			return err
		}
		_, err = t.exec(insertWebhook, int64(w.Merchant), int64(w.ID), w.Protocol, w.URL, strings.Join(w.Events, ","), hex.EncodeToString(w.Secret),
			bit(w.Seconds), bit(w.Disabled))
		return err
	})
	return w, wrap(err, "add webhook of merchant %d", w.Merchant)
}

const deleteWebhook = `DELETE FROM webhooks WHERE merchant_id = $1 AND id = $2`

// RemoveWebhook ends a webhook. What is owed to it already is still sent.
func (s *Store) RemoveWebhook(ctx context.Context, merchant payment.MerchantID, id payment.ID) error {
	return wrap(s.update(ctx, deleteWebhook, int64(merchant), int64(id)), "webhook %d of merchant %d", id, merchant)
}

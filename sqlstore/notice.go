package sqlstore

import (
	"context"
	"encoding/hex"
	"net/url"
	"strings"
	"time"

	"github.com/tillgate/tillgate/payment"
)

// Notices that callers are owed, and the webhooks that want them. A notice is claimed by compare-and-set on its due time, so that several
// processes share the work, and one whose process dies simply comes due again: receivers are told at least once. Notices are found by the
// host that they go to, so that a dead host's do not stand before all others.

const noticeColumns = `merchant_id, id, payment_id, protocol, event, url, endpoint_id, signer, body, due_at, tries`

var insertNotice = `INSERT INTO notices (` + noticeColumns + `, host, outcome, settled_at) VALUES (` + params(14) + `) ON CONFLICT DO NOTHING`

// InsertNotice stores a notice that is owed.
func (t *txn) InsertNotice(n *payment.Notice) error {
	merchant, id := n.Merchant, n.ID
	missed := func() error { return wrap(errThere, "insert notice %d of merchant %d", id, merchant) }
	return t.must(missed, insertNotice, int64(n.Merchant), int64(n.ID), int64(n.Payment), n.Protocol, n.Event, n.URL, int64(n.Endpoint), n.Signer,
		string(n.Body), millis(n.DueAt), int64(n.Tries), hostOf(n.URL), "", int64(0))
}

// hostOf is the host and port of an address; empty for what is none.
func hostOf(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return ""
	}
	return strings.ToLower(u.Host)
}

func (r *row) notice() payment.Notice {
	return payment.Notice{Merchant: r.merchantID(), ID: r.id(), Payment: r.id(), Protocol: r.text(), Event: r.text(), URL: r.text(), Endpoint: r.id(),
		Signer: r.text(), Body: r.raw(), DueAt: r.time(), Tries: int(r.int())}
}

const (
	// It jumps from host to host along the index, however many notices each is owed.
	owedHosts = `-- every merchant
WITH RECURSIVE owed (host) AS (
SELECT MIN(host) FROM notices WHERE due_at > 0
UNION ALL
SELECT (SELECT MIN(notices.host) FROM notices WHERE due_at > 0 AND notices.host > owed.host) FROM owed WHERE owed.host IS NOT NULL
)
SELECT host, (SELECT MIN(due_at) FROM notices WHERE due_at > 0 AND notices.host = owed.host) FROM owed WHERE host IS NOT NULL`
	dueNotices = `-- every merchant
SELECT ` + noticeColumns + ` FROM notices WHERE host = $1 AND due_at > 0 AND due_at <= $2 ORDER BY due_at LIMIT $3`
	claimNotice   = `UPDATE notices SET due_at = $4, tries = tries + 1 WHERE merchant_id = $1 AND id = $2 AND due_at = $3`
	putOffNotice  = `UPDATE notices SET due_at = $4, outcome = $5 WHERE merchant_id = $1 AND id = $2 AND due_at = $3`
	settleNotice  = `UPDATE notices SET due_at = 0, outcome = $3, settled_at = $4 WHERE merchant_id = $1 AND id = $2 AND due_at > 0`
	selectNotices = `SELECT ` + noticeColumns + `, outcome, settled_at FROM notices WHERE merchant_id = $1 AND id > $2 ORDER BY id LIMIT $3`
	countNotices  = `-- every merchant
SELECT COUNT(*), MIN(due_at) FROM notices WHERE due_at > 0`
)

// OwedHosts are the hosts to which notices are owed, with the time at which the first one for each is due.
func (s *Store) OwedHosts(ctx context.Context) (map[string]time.Time, error) {
	var hosts map[string]time.Time
	err := s.read(ctx, func(r *reader) error {
		hosts = map[string]time.Time{}
		return r.query(func(r *row) error {
			hosts[r.text()] = r.time()
			return nil
		}, owedHosts)
	})
	return hosts, wrap(err, "owed notices")
}

// DueNotices lists notices for a host whose time has come, the oldest first.
func (s *Store) DueNotices(ctx context.Context, host string, now time.Time, limit int) ([]payment.Notice, error) {
	var due []payment.Notice
	err := s.read(ctx, func(r *reader) error {
		due = nil
		return r.query(func(r *row) error {
			due = append(due, r.notice())
			return nil
		}, dueNotices, host, millis(now), int64(limit))
	})
	return due, wrap(err, "due notices")
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

// SettleNotice ends a notice, whoever has it in hand by now: it was accepted, or is given up.
func (s *Store) SettleNotice(ctx context.Context, n payment.Notice, at time.Time, outcome string) error {
	return wrap(s.write(ctx, func(t *txn) error {
		_, err := t.exec(settleNotice, int64(n.Merchant), int64(n.ID), outcome, millis(at))
		return err
	}), "settle notice %d of merchant %d", n.ID, n.Merchant)
}

// NoticeRecord is a notice and what has come of it.
type NoticeRecord struct {
	payment.Notice
	Outcome   string    // What the last try met, for people; empty before.
	SettledAt time.Time // When it was accepted or given up; zero before.
}

// Notices lists a merchant's notices in the order of their IDs, those after the given one, 1000 at most.
func (s *Store) Notices(ctx context.Context, merchant payment.MerchantID, after payment.ID, limit int) ([]NoticeRecord, error) {
	scan := func(r *row) NoticeRecord { return NoticeRecord{r.notice(), r.text(), r.time()} }
	return list(ctx, s, scan, selectNotices, merchant, after, limit)
}

// CountNotices counts the notices that are owed, and says when the first of them is or was due.
func (s *Store) CountNotices(ctx context.Context) (owed int, first time.Time, err error) {
	err = s.read(ctx, func(r *reader) error {
		return r.query(func(r *row) error {
			owed, first = int(r.int()), r.time()
			return nil
		}, countNotices)
	})
	return owed, first, wrap(err, "count notices")
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

package storetest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/terminal"
)

// Rows that tell or repeat what was decided: kept answers, amended payments, notices and webhooks; and what is forgotten in time.

func keyRow(t tb, s Store, key payment.Key) (row payment.KeyRow, err error) {
	t.Helper()
	err = s.Read(t.Context(), func(r payment.Reader) (err error) {
		row, err = r.Key(merchant, key)
		return err
	})
	return row, err
}

func testKeepAnswer(t *testing.T, open func() Store) {
	s := open()
	key := payment.Key{Scope: "uqpay", Key: "0d9f"}
	row := payment.KeyRow{Merchant: merchant, Key: key, MAC: []byte{1}, Payment: 5, FreeAt: then.Add(24 * time.Hour)}
	keep := func(of, operation payment.ID, answer string) {
		t.Helper()
		inTx(t, s, func(tx payment.Tx) error { return tx.KeepAnswer(merchant, key, of, operation, []byte(answer)) })
	}
	keep(5, 0, "nobody asked") // No key: no answer.
	_, err := keyRow(t, s, key)
	wantError(t, "key", err, payment.ErrNotFound)
	inTx(t, s, func(tx payment.Tx) error { _, _, err := tx.InsertKey(row); return err })
	keep(6, 0, "another payment's")
	keep(5, 7, "a refund's")
	got, err := keyRow(t, s, key)
	wantNone(t, err)
	equal(t, "key", got, row)
	keep(5, 0, `{"ok":true}`)
	row.Answer = []byte(`{"ok":true}`)
	got, err = keyRow(t, s, key)
	wantNone(t, err)
	equal(t, "key with its answer", got, row)

	// Somebody else has the key now, and the answer is not theirs.
	freed := payment.KeyRow{Merchant: merchant, Key: key, MAC: []byte{2}, Payment: 8, FreeAt: then.Add(48 * time.Hour)}
	inTx(t, s, func(tx payment.Tx) error { return tx.UpdateKey(row, freed) })
	keep(5, 0, "too late")
	got, err = keyRow(t, s, key)
	wantNone(t, err)
	equal(t, "key that stands for another", got, freed)
}

func testAmend(t *testing.T, open func() Store) {
	s := open()
	p := newPayment(1)
	p.Tip, p.Reference, p.Echo = 5_00, "order 1", []byte(`{"a":1}`)
	insert(t, s, p)
	q := p
	q.Amount, q.Tip, q.Reference, q.Echo, q.ModifiedAt = money.New(70, money.MustCurrency("NZD")), 0, "order 2", []byte(`{"b":2}`), then.Add(time.Second)
	q.State, q.Method = payment.Captured, "visa" // Not what an amendment writes.
	inTx(t, s, func(tx payment.Tx) error { return tx.AmendPayment(&q) })
	if q.Version != p.Version+1 {
		t.Errorf("got version %d, want %d", q.Version, p.Version+1)
	}
	want := q
	want.State, want.Method = p.State, p.Method
	err := s.Read(t.Context(), func(r payment.Reader) error {
		got, err := r.Payment(merchant, 1)
		equal(t, "amended payment", got, want)
		return err
	})
	wantNone(t, err)
	err = s.InTx(t.Context(), func(tx payment.Tx) error { stale := p; return tx.AmendPayment(&stale) })
	wantError(t, "a stale amendment", err, payment.ErrStoreConflict)
}

func testOperationByID(t *testing.T, open func() Store) {
	s := open()
	p := newPayment(1)
	first, second := newOperation(p, 1), newOperation(p, 2)
	insert(t, s, p, first, second)
	other := newPayment(3)
	refund := newOperation(other, 4)
	refund.Kind = payment.Refund
	insert(t, s, other, refund)
	err := s.Read(t.Context(), func(r payment.Reader) error {
		for _, want := range []payment.Operation{first, second, refund} {
			got, err := r.OperationByID(merchant, want.ID)
			if err != nil {
				return err
			}
			equal(t, fmt.Sprintf("operation %d", want.ID), got, want)
		}
		_, err := r.OperationByID(merchant, 3) // A payment without an attempt.
		wantError(t, "an operation that is not there", err, payment.ErrNotFound)
		_, err = r.OperationByID(merchant+1, 2)
		wantError(t, "another merchant's operation", err, payment.ErrNotFound)
		return nil
	})
	wantNone(t, err)
}

func newNotice(id payment.ID, url string, due time.Time) payment.Notice {
	return payment.Notice{Merchant: merchant, ID: id, Payment: 1, Protocol: "uqpay", Event: "acquiring.payment_intent.succeeded", URL: url,
		Endpoint: 9, Signer: "10000001", Body: []byte(`{"ok":"é"}`), DueAt: due}
}

func addNotices(t tb, s Store, notices ...payment.Notice) {
	t.Helper()
	inTx(t, s, func(tx payment.Tx) error {
		for i := range notices {
			if err := tx.InsertNotice(&notices[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

func due(t tb, s Store, host string, now time.Time) []payment.Notice {
	t.Helper()
	list, err := s.DueNotices(t.Context(), host, now, 100)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func testNotices(t *testing.T, open func() Store) {
	s := open()
	ctx := t.Context()
	const host = "till.example:8443"
	n := newNotice(1, "https://Till.Example:8443/hook?secret=1", then)
	addNotices(t, s, n)
	err := s.InTx(ctx, func(tx payment.Tx) error { return tx.InsertNotice(&n) })
	wantError(t, "a notice that is there", err, payment.ErrConflict)
	equal(t, "due too early", due(t, s, host, then.Add(-time.Millisecond)), nil)
	equal(t, "due", due(t, s, host, then), []payment.Notice{n})

	until := then.Add(30 * time.Second)
	claimed, ok, err := s.ClaimNotice(ctx, n, until)
	wantNone(t, err)
	if !ok || claimed.Tries != 1 || !claimed.DueAt.Equal(until) {
		t.Fatalf("claim: got %t, %+v", ok, claimed)
	}
	_, ok, err = s.ClaimNotice(ctx, n, until)
	wantNone(t, err)
	if ok {
		t.Error("a notice was claimed twice")
	}
	equal(t, "due while in hand", due(t, s, host, then.Add(time.Second)), nil)
	// Its process dies: the claim runs out.
	equal(t, "due after the claim", due(t, s, host, until), []payment.Notice{claimed})
	again, ok, err := s.ClaimNotice(ctx, claimed, until.Add(time.Minute))
	if err != nil || !ok {
		t.Fatalf("second claim: %t, %v", ok, err)
	}
	wantNone(t, s.PutOffNotice(ctx, claimed, until.Add(time.Hour), "late")) // By the first process, which lives after all: it has lost it.
	equal(t, "put off by one who lost it", due(t, s, host, until.Add(time.Minute)), []payment.Notice{again})
	wantNone(t, s.PutOffNotice(ctx, again, until.Add(2*time.Minute), "500"))
	put := again
	put.DueAt = until.Add(2 * time.Minute)
	equal(t, "put off", due(t, s, host, until.Add(time.Hour)), []payment.Notice{put})
	owed, first, err := s.CountNotices(ctx)
	if err != nil || owed != 1 || !first.Equal(put.DueAt) {
		t.Errorf("got %d owed from %s, %v, want 1 from %s", owed, first, err, put.DueAt)
	}
	wantNone(t, s.SettleNotice(ctx, put, until, "200"))
	equal(t, "due when settled", due(t, s, host, until.Add(time.Hour)), nil)
	wantNone(t, s.PutOffNotice(ctx, put, until, "late"))
	_, ok, err = s.ClaimNotice(ctx, put, until)
	if err != nil || ok {
		t.Errorf("a settled notice was claimed: %t, %v", ok, err)
	}
	owed, first, err = s.CountNotices(ctx)
	if err != nil || owed != 0 || !first.IsZero() {
		t.Errorf("got %d owed from %s, %v, want none", owed, first, err)
	}
}

func testNoticeRace(t *testing.T, open func() Store) {
	s := open()
	n := newNotice(1, "https://till.example/", then)
	addNotices(t, s, n)
	var mu sync.Mutex
	var wg sync.WaitGroup
	won := 0
	for i := range 16 {
		wg.Go(func() {
			_, ok, err := s.ClaimNotice(t.Context(), n, then.Add(time.Duration(i+1)*time.Second))
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			}
			if ok {
				won++
			}
		})
	}
	wg.Wait()
	if won != 1 {
		t.Errorf("%d of 16 claimed a notice, want 1", won)
	}
}

func testNoticeHosts(t *testing.T, open func() Store) {
	s := open()
	hosts, err := s.OwedHosts(t.Context())
	wantNone(t, err)
	equal(t, "hosts of none", hosts, map[string]time.Time{})
	var notices []payment.Notice
	for i := range 50 { // Many for one host, some of them before and some after those for others.
		notices = append(notices, newNotice(payment.ID(i+1), "https://dead.example/", then.Add(time.Duration(i)*time.Second)))
	}
	living := newNotice(100, "http://a.example:8080/x", then.Add(20*time.Second))
	unclear := newNotice(101, "::", then.Add(time.Minute))
	far := newNotice(102, "https://z.example/", then.Add(time.Hour))
	far.Merchant++
	addNotices(t, s, append(notices, living, unclear, far)...)
	hosts, err = s.OwedHosts(t.Context())
	wantNone(t, err)
	equal(t, "hosts", hosts, map[string]time.Time{"": unclear.DueAt, "dead.example": then, "a.example:8080": living.DueAt, "z.example": far.DueAt})
	equal(t, "due for the living", due(t, s, "a.example:8080", then.Add(time.Hour)), []payment.Notice{living})
	list, err := s.DueNotices(t.Context(), "dead.example", then.Add(10*time.Second), 3)
	wantNone(t, err)
	equal(t, "due for the dead", list, notices[:3])
	for _, n := range append(notices, unclear, far) {
		wantNone(t, s.SettleNotice(t.Context(), n, then, "given up"))
	}
	hosts, err = s.OwedHosts(t.Context())
	wantNone(t, err)
	equal(t, "hosts that are left", hosts, map[string]time.Time{"a.example:8080": living.DueAt})
}

func testNoticeRollback(t *testing.T, open func() Store) {
	s := open()
	no := errors.New("no")
	err := s.InTx(t.Context(), func(tx payment.Tx) error {
		p, n := newPayment(1), newNotice(1, "https://till.example/", then)
		return errors.Join(tx.InsertPayment(&p, nil), tx.InsertNotice(&n), no)
	})
	wantError(t, "transaction", err, no)
	empty(t, s)
	hosts, err := s.OwedHosts(t.Context())
	wantNone(t, err)
	equal(t, "hosts", hosts, map[string]time.Time{})
}

func testWebhooks(t *testing.T, open func() Store) {
	s := open()
	ctx := t.Context()
	m, _, _ := shop(t, s)
	var added []payment.Webhook
	for _, w := range []payment.Webhook{
		{Merchant: m.ID, Protocol: "uqpay", URL: "https://till.example/a", Events: []string{"a.b", "c"}, Secret: []byte{0, 255}, Seconds: true},
		{Merchant: m.ID, Protocol: "upay", URL: "https://till.example/b", Disabled: true},
		{Merchant: m.ID, Protocol: "uqpay", URL: "https://till.example/c"},
	} {
		stored, err := s.AddWebhook(ctx, w)
		wantNone(t, err)
		if stored.ID == 0 {
			t.Error("a webhook has no ID")
		}
		added = append(added, stored)
	}
	webhooks := func(m payment.MerchantID, protocol string) (list []payment.Webhook) {
		wantNone(t, s.Read(ctx, func(r payment.Reader) (err error) { list, err = r.Webhooks(m, protocol); return err }))
		return list
	}
	equal(t, "webhooks", webhooks(m.ID, "uqpay"), []payment.Webhook{added[0], added[2]})
	equal(t, "webhooks of another protocol", webhooks(m.ID, "upay"), added[1:2])
	equal(t, "webhooks of another merchant", webhooks(m.ID+1, "uqpay"), nil)
	got, err := s.Webhook(ctx, m.ID, added[0].ID)
	wantNone(t, err)
	equal(t, "webhook", got, added[0])
	_, err = s.Webhook(ctx, m.ID+1, added[0].ID)
	wantError(t, "another merchant's webhook", err, payment.ErrNotFound)
	wantError(t, "end of another merchant's webhook", s.RemoveWebhook(ctx, m.ID+1, added[0].ID), payment.ErrNotFound)
	wantNone(t, s.RemoveWebhook(ctx, m.ID, added[0].ID))
	equal(t, "webhooks that are left", webhooks(m.ID, "uqpay"), added[2:])
	_, err = s.AddWebhook(ctx, payment.Webhook{Merchant: 999_999, Protocol: "uqpay"})
	wantError(t, "webhook of nobody", err, payment.ErrNotFound)
}

const (
	hour = time.Hour
	day  = 24 * hour
)

// purge purges in small pieces until nothing is left, and says how much there was.
func purge(t tb, s Store, now time.Time) int {
	t.Helper()
	total := 0
	for {
		n, err := s.Purge(t.Context(), now, 2)
		if err != nil {
			t.Fatal(err)
		}
		if total += n; n == 0 {
			return total
		}
	}
}

func testPurgeCards(t *testing.T, open func() Store) {
	const later payment.ID = 100 // Above the IDs of first attempts.
	s := open()
	cases := []struct {
		name    string
		state   payment.OperationState
		created time.Time
		settled time.Time
		wiped   time.Time // When it is wiped: not a millisecond before.
	}{
		{"declined", payment.Declined, then, then.Add(hour), then.Add(hour + day)},
		{"reversed", payment.Reversed, then.Add(-10 * day), then, then.Add(day)},
		{"approved", payment.Approved, then, then.Add(hour), then.Add(400 * day)},
		{"unknown", payment.Unknown, then, time.Time{}, then.Add(400 * day)},
		{"reversing", payment.Reversing, then.Add(-hour), time.Time{}, then.Add(400*day - hour)},
		{"declined long ago", payment.Declined, then.Add(-30 * day), then.Add(-29 * day), then.Add(-28 * day)},
	}
	for i, c := range cases {
		p := newPayment(payment.ID(i + 1))
		var ops []payment.Operation
		for _, id := range []payment.ID{p.ID, p.ID + later} {
			o := newOperation(p, id)
			o.State, o.CreatedAt, o.SettledAt, o.Sealed, o.Card.Masked = c.state, c.created, c.settled, []byte{1, 2, 3}, "555474******1559"
			ops = append(ops, o)
		}
		insert(t, s, p, ops...)
	}
	kept := func(i int, place payment.ID) bool {
		sealed := false
		wantNone(t, s.Read(t.Context(), func(r payment.Reader) error {
			o, err := r.OperationByID(merchant, payment.ID(i+1)+place)
			sealed = o.Sealed != nil
			if o.Card.Masked == "" {
				t.Errorf("%s: what receipts show is gone", cases[i].name)
			}
			if o.Version != 0 {
				t.Errorf("%s: got version %d, want it as it was", cases[i].name, o.Version)
			}
			return err
		}))
		return sealed
	}
	if n := purge(t, s, then.Add(-40*day)); n != 0 {
		t.Errorf("purged %d at first, want none", n)
	}
	times := []time.Time{}
	for _, c := range cases {
		times = append(times, c.wiped.Add(-time.Millisecond), c.wiped)
	}
	for _, now := range sorted(times) {
		purge(t, s, now)
		for i, c := range cases {
			for _, place := range []payment.ID{0, later} {
				if got, want := kept(i, place), now.Before(c.wiped); got != want {
					t.Errorf("%s, at %s: operation %d kept %t, want %t", c.name, now, payment.ID(i+1)+place, got, want)
				}
			}
		}
	}
}

func sorted(times []time.Time) []time.Time {
	slices.SortFunc(times, time.Time.Compare)
	return times
}

func testPurgeRows(t *testing.T, open func() Store) {
	s := open()
	ctx := t.Context()
	insertKeys := func(rows ...payment.KeyRow) {
		inTx(t, s, func(tx payment.Tx) error {
			for _, r := range rows {
				r.Merchant, r.Key.Scope = merchant, "s"
				if _, _, err := tx.InsertKey(r); err != nil {
					return err
				}
			}
			return nil
		})
	}
	named := func(key string) payment.Key { return payment.Key{Key: key} }
	insertKeys(
		payment.KeyRow{Key: named("for ever"), MAC: []byte{1}, Payment: 1},
		payment.KeyRow{Key: named("free"), MAC: []byte{1}, Payment: 2, FreeAt: then, Answer: []byte("{}")},
		payment.KeyRow{Key: named("free later"), MAC: []byte{1}, Payment: 3, FreeAt: then.Add(hour)},
		payment.KeyRow{Key: named("closed"), ClosedTo: then},
		payment.KeyRow{Key: named("closed and taken"), MAC: []byte{1}, Payment: 4, ClosedTo: then},
	)
	there := func() (keys []string) {
		for _, key := range []string{"for ever", "free", "free later", "closed", "closed and taken"} {
			if _, err := keyRow(t, s, payment.Key{Scope: "s", Key: key}); err == nil {
				keys = append(keys, key)
			} else if !errors.Is(err, payment.ErrNotFound) {
				t.Error(err)
			}
		}
		return keys
	}
	n := newNotice(1, "https://till.example/", then)
	open1 := newNotice(2, "https://till.example/", then)
	addNotices(t, s, n, open1)
	wantNone(t, s.SettleNotice(ctx, n, then, "200"))
	e := register(t, s, "upay", "1")
	wantNone(t, s.AddPINKey(ctx, e.Identity, terminal.PINKey{Sealed: []byte{1}, Expires: then.Add(10 * day)}, then, 8))
	wantNone(t, s.AddPINKey(ctx, e.Identity, terminal.PINKey{Sealed: []byte{2}, Expires: then.Add(20 * day)}, then, 8))

	steps := []struct {
		now  time.Time
		rows int
		keys []string
	}{
		{then.Add(day - 1), 0, []string{"for ever", "free", "free later", "closed", "closed and taken"}},
		{then.Add(day), 2, []string{"for ever", "free later", "closed and taken"}},
		{then.Add(day + hour), 1, []string{"for ever", "closed and taken"}},
		{then.Add(10 * day), 1, []string{"for ever", "closed and taken"}},
		{then.Add(20 * day), 1, []string{"for ever", "closed and taken"}},
		{then.Add(30*day - 1), 0, []string{"for ever", "closed and taken"}},
		{then.Add(30 * day), 1, []string{"for ever", "closed and taken"}},
		{then.Add(300 * day), 0, []string{"for ever", "closed and taken"}},
	}
	for _, step := range steps {
		if n := purge(t, s, step.now); n != step.rows {
			t.Errorf("at %s: purged %d rows, want %d", step.now, n, step.rows)
		}
		equal(t, fmt.Sprintf("keys at %s", step.now), there(), step.keys)
	}
	owed, _, err := s.CountNotices(ctx)
	if err != nil || owed != 1 {
		t.Errorf("got %d notices owed, %v, want 1", owed, err)
	}
	_, err = s.Purge(ctx, then, 0)
	wantError(t, "purge of nothing", err, payment.ErrInvalid)
}

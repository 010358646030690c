package sqlstore

import (
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	_ "github.com/jackc/pgx/v5/stdlib" // The driver "pgx".
	"github.com/pressly/goose/v3"

	"github.com/tillgate/tillgate/internal/pgtest"
	"github.com/tillgate/tillgate/ledger"
	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
)

// eachEngine runs a test on both engines, each with an empty place for a store.
func eachEngine(t *testing.T, test func(t *testing.T, cfg Config, d goose.Dialect)) {
	t.Parallel()
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		test(t, Config{Dir: t.TempDir(), Now: time.Now}, goose.DialectSQLite3)
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		t.Parallel()
		test(t, Config{URL: pgtest.URL(t)}, goose.DialectPostgres)
	})
}

func openCfg(t *testing.T, cfg Config) *Store {
	t.Helper()
	s, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { wantNone(t, s.Close()) })
	return s
}

// openRaw opens a database without the store.
func openRaw(t *testing.T, cfg Config) *sql.DB {
	t.Helper()
	driver, address := "pgx", cfg.URL
	if cfg.Dir != "" {
		driver, address = "sqlite", filepath.Join(cfg.Dir, "upgrade.db")
	}
	db, err := sql.Open(driver, address)
	wantNone(t, err)
	db.SetMaxOpenConns(1)
	return db
}

// A payment as it was stored before 0006: each column has a value of its own where its CHECKs allow that.
const (
	oldPayment = `INSERT INTO payments (merchant_id, id, version, state, protocol, key_scope, key, credential_id, store_id, terminal_id, number_prefix,
number_digits, currency, amount, tip, method, flow, attempt_id, authorize_only, retryable, captured, reserved, refunded, fee, fee_returned,
fee_millionths, fee_fixed, zone, cut_off, failure, failure_text, created_at, modified_at, expires_at, paid_at, business_day, due_at, echo, reference)
VALUES (1, 2, 3, 'open', 'upp', 'scope', 'key', 4, 5, 6, '8010', 12, 'AUD', 1250, 50, 'alipay', 'code', 7, 0, 1, 1200, 800, 700, 18, 0, 14000, 10,
'UTC', 20, 'failure', 'its text', 21, 22, 23, 24, 20260414, 25, 'echo', 'reference')`
	oldOperation = `INSERT INTO operations (merchant_id, payment_id, id, version, kind, state, target_id, key_scope, key, number, round, acquirer, currency,
amount, rest, failure, failure_text, result, business_day, created_at, settled_at, due_at, owner, tries, flagged, echo, sent_at, card, sealed)
VALUES (1, 2, 7, 8, 'sale', 'sent', 9, 'scope', 'key', '801000000007', 10, 'wallet', 'AUD', 1250, 0, 'failure', 'its text', '{}', 20260414, 11, 12, 13,
14, 15, 1, 'echo', 16, '{"last":1}', 'ab12')`
	oldFirst = `INSERT INTO operations (merchant_id, payment_id, id, version, kind, state, target_id, key_scope, key, number, round, acquirer, currency,
amount, rest, failure, failure_text, result, business_day, created_at, settled_at, due_at, owner, tries, flagged, echo, sent_at, card, sealed)
VALUES (1, 2, 2, 31, 'authorize', 'declined', 0, '', '', '801000000002', 0, 'host', 'NZD', 1251, 0, 'reason', 'other text', '{"a":1}', 20260413, 32, 33,
34, 35, 36, 1, '', 37, '{"last":2}', 'cd34')`
	oldEntry = `INSERT INTO ledger_entries (merchant_id, payment_id, operation_id, currency, acquirer, business_day, receivable, payable, fees, tips, posted_at)
VALUES (1, 2, 7, 'AUD', 'wallet', 20260414, 1250, -1182, -18, -50, 26)`
)

// oldRows is a payment's rows with the names of their columns, but without what later migrations have added.
func oldRows(t *testing.T, cfg Config) []map[string]string {
	t.Helper()
	db := openRaw(t, cfg) // One that knows no plan from before a migration.
	defer db.Close()      //nolint:errcheck // Nothing is under way.
	var list []map[string]string
	for _, table := range []string{"payments", "operations", "ledger_entries"} {
		rows, err := db.QueryContext(t.Context(), `SELECT * FROM `+table+` ORDER BY 1, 2, 3`)
		wantNone(t, err)
		columns, err := rows.Columns()
		wantNone(t, err)
		for rows.Next() {
			values, into := make([]sql.NullString, len(columns)), make([]any, len(columns))
			for i := range values {
				into[i] = &values[i]
			}
			wantNone(t, rows.Scan(into...))
			row := map[string]string{"": table}
			for i, name := range columns {
				if !strings.HasPrefix(name, "first_") && name != "later_id" {
					row[name] = values[i].String
				}
			}
			list = append(list, row)
		}
		wantNone(t, rows.Err())
		wantNone(t, rows.Close())
	}
	return list
}

// TestUpgrade brings a database with rows from before the registry of terminals up to date, and loses nothing of a payment.
func TestUpgrade(t *testing.T) {
	eachEngine(t, func(t *testing.T, cfg Config, d goose.Dialect) {
		db := openRaw(t, cfg)
		defer db.Close() //nolint:errcheck // Nothing is under way.
		sub, err := fs.Sub(migrations, "migrations")
		wantNone(t, err)
		p, err := goose.NewProvider(d, db, sub, goose.WithTableName(versionTable), goose.WithDisableGlobalRegistry(true))
		wantNone(t, err)
		if _, err := p.UpTo(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
		for _, text := range []string{
			`INSERT INTO merchants (id, public_id, company_name, name, disabled, currencies) VALUES (1, '100', 'Fern Ltd', 'Fern', 0, 'AUD')`,
			`INSERT INTO stores (merchant_id, id, public_id, name, zone, cut_off, disabled) VALUES (1, 2, 's', 'Shop', 'UTC', 0, 0)`,
			`INSERT INTO terminals (merchant_id, id, store_id, public_id, name, disabled) VALUES (1, 3, 2, '10000000', 'Till', 0)`,
			`INSERT INTO directory (kind, id, merchant_id, ref) VALUES ('merchant', '100', 1, 0), ('terminal', '10000000', 1, 3)`,
			`INSERT INTO notices (merchant_id, id, payment_id, protocol, event, url, endpoint_id, signer, body, due_at, tries, outcome, settled_at)
VALUES (1, 4, 9, 'upay', 'paid', 'https://till.example/', 0, '', '{}', 1000, 0, '', 0)`,
			oldPayment, oldFirst, oldOperation, oldEntry,
		} {
			if _, err := db.ExecContext(t.Context(), text); err != nil {
				t.Fatal(err)
			}
		}
		before := oldRows(t, cfg)
		if _, err := p.Up(t.Context()); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(before, oldRows(t, cfg)); d != "" || len(before) != 4 {
			t.Errorf("rows of a payment (-before +after):\n%s", d)
		}
		rows, err := db.QueryContext(t.Context(), `SELECT kind, id, ref FROM directory ORDER BY kind`)
		wantNone(t, err)
		var got []string
		for rows.Next() {
			var kind, id string
			var ref int64
			wantNone(t, rows.Scan(&kind, &id, &ref))
			got = append(got, fmt.Sprint(kind, " ", id, " ", ref))
		}
		wantNone(t, rows.Err())
		if d := cmp.Diff([]string{"merchant 100 0", "terminal 10000000 3"}, got); d != "" {
			t.Errorf("directory (-want +got):\n%s", d)
		}
		for text, want := range map[string]bool{
			`INSERT INTO directory (kind, id, merchant_id, ref) VALUES ('identity', 'uqpay:10000000', 1, 5)`: true,
			`INSERT INTO directory (kind, id, merchant_id, ref) VALUES ('terminal', '10000000', 1, 6)`:       false,
			`INSERT INTO directory (kind, id, merchant_id, ref) VALUES ('nonsense', '1', 1, 6)`:              false,
			`UPDATE payments SET state = 'captured'`:                                                         true,
			`UPDATE payments SET state = 'nonsense'`:                                                         false,
			`UPDATE later_operations SET kind = 'nonsense'`:                                                  false,
			`UPDATE later_operations SET state = 'nonsense'`:                                                 false,
			`UPDATE payments SET first_kind = 'nonsense'`:                                                    false,
			`UPDATE payments SET first_kind = 'refund'`:                                                      false,
			`UPDATE payments SET first_state = 'nonsense'`:                                                   false,
			`UPDATE payments SET first_currency = ''`:                                                        false,
		} {
			if _, err := db.ExecContext(t.Context(), text); (err == nil) != want {
				t.Errorf("%s: got %v", text, err)
			}
		}
		if cfg.URL == "" {
			return
		}
		s := openCfg(t, cfg) // What was there works: the notice is sent as one whose host is not known.
		merchant, terminal, err := s.FindTerminalByPublicID(t.Context(), "10000000")
		if err != nil || merchant != 1 || terminal.ID != 3 {
			t.Errorf("got terminal %+v of %d, %v", terminal, merchant, err)
		}
		due, err := s.DueNotices(t.Context(), "", time.UnixMilli(1000), 10)
		if err != nil || len(due) != 1 {
			t.Errorf("got due notices %v, %v, want one", due, err)
		}
	})
}

// TestEntries lists a ledger page by page.
func TestEntries(t *testing.T) {
	eachEngine(t, func(t *testing.T, cfg Config, _ goose.Dialect) {
		s := openCfg(t, cfg)
		aud, nzd := money.MustCurrency("AUD"), money.MustCurrency("NZD")
		at := time.Date(2026, 4, 14, 9, 30, 0, 0, time.UTC)
		var want []Entry
		post := func(m payment.MerchantID, p payment.Payment, id payment.ID, kind payment.Kind, day payment.Day, e ledger.Entry, err error) {
			t.Helper()
			wantNone(t, err)
			o := payment.Operation{Merchant: m, Payment: p.ID, ID: id, Kind: kind, State: payment.Approved, Amount: p.Amount, Acquirer: "wallet", Day: day}
			wantNone(t, s.InTx(t.Context(), func(tx payment.Tx) error {
				if id == p.ID {
					if err := tx.InsertPayment(&p, nil); err != nil {
						return err
					}
				}
				if err := tx.InsertOperation(&o); err != nil {
					return err
				}
				return tx.Post(&o, e, at)
			}))
			if m == 1 {
				want = append(want, Entry{Merchant: m, Payment: p.ID, Operation: id, Number: p.Number(), Kind: kind, Acquirer: "wallet", Day: day,
					PostedAt: at, Entry: e})
			}
		}
		pay := func(m payment.MerchantID, id payment.ID, amount money.Amount, day payment.Day) payment.Payment {
			t.Helper()
			p := payment.Payment{Merchant: m, ID: id, State: payment.Captured, Amount: amount, Numbering: payment.Numbering{Prefix: "80", Digits: 14}}
			e, err := ledger.Capture(amount, 0, 10)
			post(m, p, id, payment.Sale, day, e, err)
			return p
		}
		first := pay(1, 1, money.New(100, aud), 20260414)
		refund, err := ledger.Refund(money.New(30, aud))
		post(1, first, 5, payment.Refund, 20260415, refund, err)
		pay(1, 3, money.New(200, nzd), 20260415)
		pay(1, 9, money.New(300, aud), 20260416)
		pay(2, 7, money.New(400, aud), 20260414)

		list := func(f EntryFilter) []Entry {
			t.Helper()
			entries, err := s.Entries(t.Context(), 1, f)
			wantNone(t, err)
			return entries
		}
		same := func(what string, got, want []Entry) {
			t.Helper()
			if d := cmp.Diff(want, got, cmp.Comparer(func(a, b money.Currency) bool { return a == b })); d != "" {
				t.Errorf("%s (-want +got):\n%s", what, d)
			}
		}
		same("all", list(EntryFilter{}), want)
		same("of a payment", list(EntryFilter{Payment: 1}), want[:2])
		same("of a day", list(EntryFilter{From: 20260415, To: 20260415}), want[1:3])
		same("from a day", list(EntryFilter{From: 20260416}), want[3:])
		same("up to a day", list(EntryFilter{To: 20260414}), want[:1])
		for i := range want {
			same("a page of one", list(EntryFilter{After: map[bool]*Entry{true: &want[max(0, i-1)]}[i > 0], Limit: 1}), want[i:i+1])
		}
		same("behind the last", list(EntryFilter{After: &want[3]}), nil)

		totals := func(f EntryFilter) map[string]ledger.Postings {
			t.Helper()
			sums, err := s.Totals(t.Context(), 1, f)
			wantNone(t, err)
			return sums
		}
		balances := map[string]ledger.Postings{
			"AUD": {Receivable: 370, Payable: -350, Fees: -20},
			"NZD": {Receivable: 200, Payable: -190, Fees: -10},
		}
		if d := cmp.Diff(balances, totals(EntryFilter{})); d != "" {
			t.Errorf("totals (-want +got):\n%s", d)
		}
		of := map[string]ledger.Postings{"AUD": {Receivable: 70, Payable: -60, Fees: -10}}
		if d := cmp.Diff(of, totals(EntryFilter{Payment: 1, Limit: 1})); d != "" {
			t.Errorf("totals of a payment (-want +got):\n%s", d)
		}
	})
}

// TestNoticeRecords shows people what has come of notices.
func TestNoticeRecords(t *testing.T) {
	eachEngine(t, func(t *testing.T, cfg Config, _ goose.Dialect) {
		s := openCfg(t, cfg)
		at := time.Date(2026, 4, 14, 9, 30, 0, 0, time.UTC)
		var want []NoticeRecord
		wantNone(t, s.InTx(t.Context(), func(tx payment.Tx) error {
			want = nil
			for id := range payment.ID(3) {
				n := payment.Notice{Merchant: 1, ID: id + 1, Protocol: "upay", URL: "https://till.example/", Body: []byte("{}"), DueAt: at}
				if err := tx.InsertNotice(&n); err != nil {
					return err
				}
				want = append(want, NoticeRecord{Notice: n})
			}
			return nil
		}))
		claimed, ok, err := s.ClaimNotice(t.Context(), want[1].Notice, at.Add(time.Minute))
		if err != nil || !ok {
			t.Fatalf("claim: %t, %v", ok, err)
		}
		wantNone(t, s.PutOffNotice(t.Context(), claimed, at.Add(time.Hour), "500"))
		want[1] = NoticeRecord{Notice: claimed, Outcome: "500"}
		want[1].DueAt = at.Add(time.Hour)
		wantNone(t, s.SettleNotice(t.Context(), want[2].Notice, at, "200"))
		want[2].Outcome, want[2].SettledAt, want[2].DueAt = "200", at, time.Time{}
		got, err := s.Notices(t.Context(), 1, 0, 10)
		wantNone(t, err)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("notices (-want +got):\n%s", d)
		}
	})
}

// TestCountOwed counts what is owed wherever it is found: a first attempt in a term, in the index of what is held, in that of what is free, and not
// at all; and another operation.
func TestCountOwed(t *testing.T) {
	eachEngine(t, func(t *testing.T, cfg Config, _ goose.Dialect) {
		s := openCfg(t, cfg)
		me, err := s.Enlist(t.Context(), time.Hour)
		wantNone(t, err)
		at := time.UnixMilli(1_700_000_000_000).UTC()
		p := payment.Payment{Merchant: 1, ID: 1, State: payment.Open, Amount: money.New(100, money.MustCurrency("AUD"))}
		o := payment.Operation{Merchant: 1, Payment: 1, ID: 1, Kind: payment.Sale, State: payment.Sent, Amount: p.Amount, CreatedAt: at, DueAt: at, Owner: me,
			Flagged: true}
		check := func(want ...OwedCount) {
			t.Helper()
			got, err := s.CountOwed(t.Context())
			wantNone(t, err)
			slices.SortFunc(got, func(a, b OwedCount) int { return strings.Compare(string(a.Kind), string(b.Kind)) })
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("owed (-want +got):\n%s", d)
			}
		}
		sale := OwedCount{Kind: payment.Sale, Count: 1, Flagged: 1, Oldest: at}
		refund := OwedCount{Kind: payment.Refund, Count: 1, Oldest: at.Add(time.Hour)}
		check()
		wantNone(t, s.InTx(t.Context(), func(tx payment.Tx) error { return tx.InsertPayment(&p, &o) }))
		check(sale)
		for range 3 {
			wantNone(t, s.Renew(t.Context(), me, time.Hour))
			check(sale)
		}
		o.Owner = 0
		wantNone(t, s.InTx(t.Context(), func(tx payment.Tx) error {
			later := o
			later.ID, later.Kind, later.CreatedAt, later.Flagged = 2, payment.Refund, refund.Oldest, false
			return errors.Join(tx.UpdateOperation(&o), tx.InsertOperation(&later))
		}))
		check(refund, sale)
		o.DueAt = time.Time{}
		wantNone(t, s.InTx(t.Context(), func(tx payment.Tx) error { return tx.UpdateOperation(&o) }))
		check(refund)
	})
}

// TestNoticesAndPurgesAreIndexed checks that what runs over every merchant finds its rows by an index, however many there are.
func TestNoticesAndPurgesAreIndexed(t *testing.T) {
	eachEngine(t, func(t *testing.T, cfg Config, d goose.Dialect) {
		s := openCfg(t, cfg)
		texts := []string{owedHosts, dueNotices, countNotices}
		for _, p := range purges {
			texts = append(texts, p.text)
		}
		for _, text := range texts {
			text = regexp.MustCompile(`\$\d`).ReplaceAllString(strings.Replace(text, "host = $1", "host = 'a'", 1), "5")
			var plan string
			if d == goose.DialectPostgres {
				plan = strings.Join(column(t, cfg.URL+"&options=-cenable_seqscan%3Doff%20-cenable_hashjoin%3Doff%20-cenable_mergejoin%3Doff%20-cenable_bitmapscan%3Doff",
					"EXPLAIN "+text), "\n")
			} else {
				wantNone(t, s.read(t.Context(), func(r *reader) error {
					return r.query(func(r *row) error {
						r.next = 3
						plan += r.text() + "\n"
						return nil
					}, "EXPLAIN QUERY PLAN "+text)
				}))
			}
			for line := range strings.SplitSeq(plan, "\n") {
				if regexp.MustCompile(`Seq Scan|SCAN (notices|payments|later_operations|payment_keys|pin_keys)$`).MatchString(line) {
					t.Errorf("%s\nruns as\n%s", text, plan)
				}
			}
			if !regexp.MustCompile(`\w+_(due|sealed|sealed_in_vain|free|closed|expired|settled)\b`).MatchString(plan) {
				t.Errorf("%s\nruns without its index as\n%s", text, plan)
			}
		}
	})
}

// TestRowsOfAGroupKeepTheirOwn stores payments from many callers at once, at first alike in nearly all columns and then in none: what is sent once for
// a whole group must be what each of its rows has.
func TestRowsOfAGroupKeepTheirOwn(t *testing.T) {
	const alike, many = 200, 400
	made := func(i int) (payment.Payment, payment.Operation) {
		id, n := payment.ID(i+1), int64(i)
		if i < alike {
			n = 0
		}
		text := fmt.Sprint("text ", n)
		at := time.UnixMilli(1_760_000_000_000 + n).UTC()
		amount := money.New(1000+n, money.MustCurrency([]string{"AUD", "NZD"}[n%2]))
		states := []payment.OperationState{payment.Sent, payment.Waiting, payment.Unknown}
		p := payment.Payment{Merchant: 1, ID: id, Version: n, State: []payment.State{payment.Open, payment.Captured}[n%2], Protocol: text,
			Key: payment.Key{Scope: text, Key: text}, Credential: payment.ID(n), Store: payment.ID(n), Terminal: payment.ID(n),
			Numbering: payment.Numbering{Prefix: text, Digits: int(n)}, Amount: amount, Tip: n, Method: text, Flow: payment.Flow(text), Attempt: id,
			AuthorizeOnly: n%2 == 1, Retryable: n%3 == 1, Captured: n, Reserved: n, Refunded: n, Fee: n, FeeReturned: n%5 == 1,
			Rate: payment.Rate{Millionths: n, Fixed: n}, Calendar: payment.Calendar{Zone: text, CutOff: time.Duration(n) * time.Millisecond},
			Failure: payment.Reason(text), FailureText: text, CreatedAt: at, ModifiedAt: at, ExpiresAt: at, PaidAt: at, Day: payment.Day(n), DueAt: at,
			Echo: []byte(text), Reference: text}
		o := payment.Operation{Merchant: 1, Payment: id, ID: id, Version: n, Kind: []payment.Kind{payment.Sale, payment.Authorization}[n%2],
			State: states[n%3], Number: text, Acquirer: text, Amount: amount, Failure: payment.Reason(text), FailureText: text,
			Result: payment.Result{Code: text}, Day: payment.Day(n), CreatedAt: at, SettledAt: at, DueAt: at, Owner: n, Tries: int(n), Flagged: n%2 == 1,
			SentAt: at, Card: payment.CardFacts{Masked: text}, Sealed: []byte(text)}
		return p, o
	}
	eachEngine(t, func(t *testing.T, cfg Config, _ goose.Dialect) {
		s := openCfg(t, cfg)
		each := func(from, to int, do func(tx payment.Tx, p *payment.Payment, o *payment.Operation) error) {
			var wg sync.WaitGroup
			for i := from; i < to; i++ {
				wg.Go(func() {
					wantNone(t, s.InTx(t.Context(), func(tx payment.Tx) error {
						p, o := made(i)
						return do(tx, &p, &o)
					}))
				})
			}
			wg.Wait()
		}
		for _, part := range [][2]int{{0, alike}, {alike, many}} {
			each(part[0], part[1], func(tx payment.Tx, p *payment.Payment, o *payment.Operation) error { return tx.InsertPayment(p, o) })
			each(part[0], part[1], func(tx payment.Tx, p *payment.Payment, o *payment.Operation) error { return tx.UpdatePayment(p, o) })
			each(part[0], part[1], func(tx payment.Tx, _ *payment.Payment, o *payment.Operation) error {
				o.Version++
				return tx.UpdateOperation(o)
			})
		}
		wantNone(t, s.Read(t.Context(), func(r payment.Reader) error {
			for i := range many {
				p, o := made(i)
				p.Version, o.Version = p.Version+1, o.Version+2
				gotP, err := r.Payment(1, p.ID)
				gotO, opErr := r.Operation(1, p.ID, p.ID)
				same := cmp.Comparer(func(a, b money.Amount) bool { return a == b })
				if d := cmp.Diff(p, gotP, same) + cmp.Diff(o, gotO, same); d != "" || err != nil || opErr != nil {
					t.Errorf("payment %d: %v, %v (-want +got):\n%s", p.ID, err, opErr, d)
				}
			}
			return nil
		}))
	})
}

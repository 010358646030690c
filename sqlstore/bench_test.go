package sqlstore

import (
	"fmt"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tillgate/tillgate/internal/pgtest"
	"github.com/tillgate/tillgate/ledger"
	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
)

// callers is how many tills pay at once.
const callers = 64

// BenchmarkPayments measures whole payments, each two durable transactions: key, payment and operation; then the outcome and its journal
// entry. "read" reads both rows before it changes them, as the engine does.
func BenchmarkPayments(b *testing.B) {
	places := []struct {
		name string
		at   func(*testing.B) Config
	}{
		{"sqlite", func(b *testing.B) Config { return Config{Dir: b.TempDir(), Now: time.Now} }},
		{"postgres", func(b *testing.B) Config { return Config{URL: pgtest.URL(b)} }},
	}
	for _, place := range places {
		for _, read := range []bool{false, true} {
			for _, n := range []int{1, callers} {
				b.Run(fmt.Sprintf("%s/read=%t/callers=%d", place.name, read, n), func(b *testing.B) {
					benchmarkPayments(b, place.at(b), n, read)
				})
			}
		}
	}
}

// BenchmarkPgbench measures what PostgreSQL's own measure makes of the server that BenchmarkPayments uses, for comparison: once, for ten
// seconds, however often it is asked for.
func BenchmarkPgbench(b *testing.B) {
	tps, err := pgbench(pgtest.URL(b))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(tps, "transactions/s")
}

var pgbenchOnce sync.Once

func pgbench(address string) (tps float64, err error) {
	pgbenchOnce.Do(func() {
		if _, err = pgtest.Program("pgbench", "-i", "-s", "16", "-q", address); err != nil {
			return
		}
		var out string
		if out, err = pgtest.Program("pgbench", "-c", "16", "-j", "2", "-T", "10", "-M", "prepared", address); err != nil {
			return
		}
		m := regexp.MustCompile(`tps = ([0-9.]+)`).FindStringSubmatch(out)
		if m == nil {
			err = fmt.Errorf("pgbench says %s", out)
			return
		}
		pgbenchTPS, err = strconv.ParseFloat(m[1], 64)
	})
	return pgbenchTPS, err
}

var pgbenchTPS float64

func benchmarkPayments(b *testing.B, cfg Config, callers int, read bool) {
	s, err := Open(b.Context(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close() //nolint:errcheck // Only figures are wanted here.
	var ids atomic.Int64
	ids.Store(1_000_000)
	work := make(chan struct{}, callers)
	failed := make(chan error, callers)
	b.ResetTimer()
	for range callers {
		go func() {
			var err error
			for range work {
				if err == nil {
					err = pay(b, s, payment.ID(ids.Add(1)), read)
				}
			}
			failed <- err
		}()
	}
	for range b.N {
		work <- struct{}{}
	}
	close(work)
	for range callers {
		if err := <-failed; err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	st := s.Stats()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "payments/s")
	b.ReportMetric(float64(st.Work)/float64(st.Groups), "work/commit")
}

func pay(b *testing.B, s *Store, id payment.ID, read bool) error {
	aud := money.MustCurrency("AUD")
	now := time.Now()
	p := payment.Payment{
		Merchant: payment.MerchantID(1 + id%16), ID: id, State: payment.Open, Protocol: "upay",
		Key: payment.Key{Scope: "upay/client_sn", Key: fmt.Sprintf("%016x", id)}, Credential: 7, Store: 8, Terminal: 9,
		Numbering: payment.Numbering{Prefix: "8010", Digits: 12}, Amount: money.New(12_50, aud), Method: "alipay", Flow: payment.ByCode,
		Attempt: id, Rate: payment.Rate{Millionths: 14_000}, Calendar: payment.Calendar{Zone: "Australia/Melbourne"}, CreatedAt: now,
		ModifiedAt: now, ExpiresAt: now.Add(time.Minute), Echo: []byte(`{"reflect":"till 4, shift 2","items":[]}`),
	}
	o := payment.Operation{
		Merchant: p.Merchant, Payment: id, ID: id, Kind: payment.Sale, State: payment.Sent, Number: p.Number(), Acquirer: "wallet",
		Amount: p.Amount, CreatedAt: now, DueAt: now.Add(10 * time.Second), Owner: 1, Tries: 1,
	}
	err := s.InTx(b.Context(), func(tx payment.Tx) error {
		if _, _, err := tx.InsertKey(payment.KeyRow{Merchant: p.Merchant, Key: p.Key, MAC: make([]byte, 32), Payment: id}); err != nil {
			return err
		}
		return tx.InsertPayment(&p, &o)
	})
	if err != nil {
		return err
	}
	return s.InTx(b.Context(), func(tx payment.Tx) error {
		p, o := p, o
		if read {
			if p, err = tx.Payment(p.Merchant, id); err != nil {
				return err
			}
			if o, err = tx.Operation(o.Merchant, id, id); err != nil {
				return err
			}
		}
		p.State, p.Captured, p.Fee, p.Day, p.PaidAt, p.ModifiedAt = payment.Captured, p.Amount.Minor(), 18, 20260414, now, now
		o.State, o.Day, o.SettledAt, o.DueAt, o.Owner = payment.Approved, 20260414, now, time.Time{}, 0
		o.Result = payment.Result{ProviderReference: "2026041422001499990500000001", PayerID: "2088000000000001"}
		entry, err := ledger.Capture(p.Amount, 0, p.Fee)
		if err != nil {
			return err
		}
		if err := tx.Post(&o, entry, now); err != nil {
			return err
		}
		return tx.UpdatePayment(&p, &o)
	})
}

package settlement_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tillgate/tillgate/ledger"
	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/settlement"
	"github.com/tillgate/tillgate/sqlstore"
)

var noon = time.Date(2026, 4, 14, 2, 0, 0, 0, time.UTC)

// closer is an acquirer that notes what it is told.
type closer struct {
	mu      sync.Mutex
	fail    error
	result  settlement.Result
	batches []string
	items   map[string][]string // RRNs by batch.
}

func (c *closer) CloseBatch(_ context.Context, m payment.Merchant, zone string, b settlement.Batch, items []settlement.Item) (settlement.Result, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.batches = append(c.batches, b.Number())
	if c.items == nil {
		c.items = map[string][]string{}
	}
	c.items[b.Number()] = nil
	for _, i := range items {
		c.items[b.Number()] = append(c.items[b.Number()], fmt.Sprintf("%s %s %s %s %s", i.Kind, i.Number, i.TID, i.AuthCode, i.Amount))
	}
	return c.result, c.fail
}

// books is a store with a merchant in it.
type books struct {
	t        *testing.T
	store    *sqlstore.Store
	merchant payment.Merchant
	next     payment.ID
}

func newBooks(t *testing.T) *books {
	store, err := sqlstore.Open(t.Context(), sqlstore.Config{Dir: t.TempDir(), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	m, err := store.AddMerchant(t.Context(), payment.Merchant{PublicID: "740218", CompanyName: "C", Name: "N", Currencies: []string{"AUD", "NZD"},
		Methods: map[string]payment.Method{"card": {Acquirer: "card"}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.AddStore(t.Context(), m.ID, payment.Place{PublicID: "1", Name: "S", Calendar: payment.Calendar{Zone: "Australia/Melbourne"}}); err != nil {
		t.Fatal(err)
	}
	return &books{t: t, store: store, merchant: m, next: 1000}
}

// paid stores an approved sale, and what was done with it afterwards.
func (b *books) paid(currency string, day payment.Day, minor int64, after ...payment.Kind) payment.ID {
	b.t.Helper()
	b.next += 10
	id, amount := b.next, money.New(minor, money.MustCurrency(currency))
	p := payment.Payment{Merchant: b.merchant.ID, ID: id, State: payment.Captured, Protocol: "uqpay", Amount: amount, Method: "card", Flow: payment.ByCard,
		Attempt: id, Captured: minor, Calendar: payment.Calendar{Zone: "UTC"}, CreatedAt: noon, ModifiedAt: noon, ExpiresAt: noon}
	err := b.store.InTx(b.t.Context(), func(tx payment.Tx) error {
		row := p
		err := tx.InsertPayment(&row, nil)
		for i, kind := range append([]payment.Kind{payment.Sale}, after...) {
			op := payment.Operation{Merchant: p.Merchant, Payment: id, ID: id + payment.ID(i), Kind: kind, State: payment.Approved, Target: id,
				Number: fmt.Sprintf("6104%08d", id+payment.ID(i)), Acquirer: "card", Amount: amount, Day: day, CreatedAt: noon, SentAt: noon}
			if kind == payment.Sale {
				op.Target, op.Card.TID, op.Result.AuthCode = 0, "10000301", "A1B2C3"
			}
			entry, entryErr := ledger.Capture(amount, 0, 0)
			if kind != payment.Sale {
				entry, entryErr = ledger.Refund(amount)
			}
			err = errors.Join(err, entryErr, tx.InsertOperation(&op), tx.Post(&op, entry, noon))
		}
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return id
}

func (b *books) settler(c *closer) *settlement.Settler {
	return settlement.New(settlement.Config{Store: b.store, Closers: map[string]settlement.Closer{"card": c}, Now: func() time.Time { return noon },
		Log: slog.New(slog.DiscardHandler)})
}

func TestABatchHoldsWhatStands(t *testing.T) {
	t.Parallel()
	b, c := newBooks(t), &closer{result: settlement.Result{Balanced: true, Code: "00"}}
	sale := b.paid("AUD", 20260413, 1250)
	refunded := b.paid("AUD", 20260413, 700, payment.Refund)
	b.paid("AUD", 20260413, 900, payment.VoidOperation) // Taken back: neither counts.
	b.paid("NZD", 20260413, 50)
	b.paid("AUD", 20260415, 99) // Of a later day.
	got, err := b.settler(c).Close(t.Context(), b.merchant, "card", 20260414)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0].State != settlement.Balanced || got[1].State != settlement.Balanced {
		t.Fatalf("%d batches: %+v", len(got), got)
	}
	want := settlement.Totals{Debits: 2, DebitMinor: 1950, Credits: 1, CreditMinor: 700}
	if d := cmp.Diff(want, got[0].Totals); d != "" {
		t.Errorf("totals in AUD (-want +got):\n%s", d)
	}
	items := []string{
		fmt.Sprintf("sale 6104%08d 10000301 A1B2C3 12.50", sale),
		fmt.Sprintf("sale 6104%08d 10000301 A1B2C3 7.00", refunded),
		fmt.Sprintf("refund 6104%08d 10000301  7.00", refunded+1),
	}
	if d := cmp.Diff(items, c.items[got[0].Number()]); d != "" {
		t.Errorf("items in AUD (-want +got):\n%s", d)
	}
	again, err := b.settler(c).Close(t.Context(), b.merchant, "card", 20260414)
	if err != nil || len(again) != 0 {
		t.Errorf("what is settled is closed again: %v, %v", again, err)
	}
	later, err := b.settler(c).Close(t.Context(), b.merchant, "card", 20260415)
	if err != nil || len(later) != 1 || later[0].Totals.DebitMinor != 99 {
		t.Errorf("the next day: %+v, %v", later, err)
	}
}

func TestSilenceLeavesABatchOpenUnderItsNumber(t *testing.T) {
	t.Parallel()
	b, c := newBooks(t), &closer{fail: errors.New("no answer")}
	b.paid("AUD", 20260413, 1250)
	if _, err := b.settler(c).Close(t.Context(), b.merchant, "card", 20260414); err == nil {
		t.Fatal("silence was taken for an agreement")
	}
	b.paid("AUD", 20260413, 50) // Approved since: it must not slip into the batch that the acquirer may know.
	c.fail, c.result = nil, settlement.Result{Balanced: true}
	got, err := b.settler(c).Close(t.Context(), b.merchant, "card", 20260414)
	if err != nil || len(got) != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	if c.batches[0] != c.batches[1] || got[0].Totals.DebitMinor != 1250 || got[1].Totals.DebitMinor != 50 {
		t.Errorf("batches %v of %d and %d", c.batches, got[0].Totals.DebitMinor, got[1].Totals.DebitMinor)
	}
}

func TestOtherTotalsAreForPeople(t *testing.T) {
	t.Parallel()
	b, c := newBooks(t), &closer{result: settlement.Result{Code: "95", Uploaded: 1}}
	b.paid("AUD", 20260413, 1250)
	got, err := b.settler(c).Close(t.Context(), b.merchant, "card", 20260414)
	if err != nil || len(got) != 1 || got[0].State != settlement.OutOfBalance || got[0].Code != "95" || got[0].Uploaded != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	stored, err := b.store.Batches(t.Context(), b.merchant.ID, 0, 10)
	if err != nil || len(stored) != 1 || stored[0].State != settlement.OutOfBalance {
		t.Errorf("stored %+v, %v", stored, err)
	}
}

func TestTwoAtOnceGatherEachOperationOnce(t *testing.T) {
	t.Parallel()
	b, c := newBooks(t), &closer{result: settlement.Result{Balanced: true}}
	for range 50 {
		b.paid("AUD", 20260413, 100)
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, err := b.settler(c).Close(t.Context(), b.merchant, "card", 20260414); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	batches, err := b.store.Batches(t.Context(), b.merchant.ID, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	var sum int64
	for _, batch := range batches {
		sum += batch.Totals.DebitMinor
	}
	if sum != 5000 {
		t.Errorf("%d batches of %d, want 5000 in all", len(batches), sum)
	}
}

func TestAnAcquirerWithoutBatches(t *testing.T) {
	t.Parallel()
	b := newBooks(t)
	if _, err := b.settler(&closer{}).Close(t.Context(), b.merchant, "wallet", 20260414); !errors.Is(err, payment.ErrNotFound) {
		t.Errorf("%v", err)
	}
}

package settlement_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/tillgate/tillgate/ledger"
	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/settlement"
)

// A sale is gathered, the host does not answer the close, the sale is voided at the host meanwhile, and the close is made again: a sale that the
// host has taken back must not be told as one that stands.
func TestVoidBetweenGatherAndClose(t *testing.T) {
	t.Parallel()
	b, c := newBooks(t), &closer{fail: errors.New("no answer")}
	id := b.paid("AUD", 20260413, 1250)
	b.paid("AUD", 20260413, 100)
	if _, err := b.settler(c).Close(t.Context(), b.merchant, "card", 20260414); err == nil {
		t.Fatal("silence was taken for an agreement")
	}
	amount := money.New(1250, money.MustCurrency("AUD"))
	err := b.store.InTx(t.Context(), func(tx payment.Tx) error {
		op := payment.Operation{Merchant: b.merchant.ID, Payment: id, ID: id + 1, Kind: payment.VoidOperation, State: payment.Approved, Target: id,
			Number: "610400001011", Acquirer: "card", Amount: amount, Day: 20260414, CreatedAt: noon, SentAt: noon, Rest: true}
		entry, err := ledger.Void(amount, 0, 0)
		return errors.Join(err, tx.InsertOperation(&op), tx.Post(&op, entry, noon))
	})
	if err != nil {
		t.Fatal(err)
	}
	c.fail, c.result = nil, settlement.Result{Balanced: true, Code: "00"}
	got, err := b.settler(c).Close(t.Context(), b.merchant, "card", 20260414)
	if err != nil {
		t.Fatal(err)
	}
	for _, batch := range got {
		for _, i := range c.items[batch.Number()] {
			if strings.Contains(i, " 12.50") {
				t.Errorf("batch %s settles a sale that is voided: %s (totals %+v)", batch.Number(), i, batch.Totals)
			}
		}
	}
}

// A void whose answer is lost at the moment of gathering: the host may have taken the sale back, so that it must wait for the next batch.
func TestGatherWhileAVoidIsUnknown(t *testing.T) {
	t.Parallel()
	b, c := newBooks(t), &closer{result: settlement.Result{Balanced: true, Code: "00"}}
	id := b.paid("AUD", 20260413, 1250)
	amount := money.New(1250, money.MustCurrency("AUD"))
	op := payment.Operation{Merchant: b.merchant.ID, Payment: id, ID: id + 1, Kind: payment.VoidOperation, State: payment.Unknown, Target: id,
		Number: "610400001011", Acquirer: "card", Amount: amount, CreatedAt: noon, SentAt: noon, DueAt: noon, Rest: true}
	if err := b.store.InTx(t.Context(), func(tx payment.Tx) error { row := op; return tx.InsertOperation(&row) }); err != nil {
		t.Fatal(err)
	}
	got, err := b.settler(c).Close(t.Context(), b.merchant, "card", 20260414)
	if err != nil {
		t.Fatal(err)
	}
	for _, batch := range got {
		t.Errorf("batch %s holds a sale whose void is unknown: %v", batch.Number(), c.items[batch.Number()])
	}
}

// A refund of a part counts with its own amount, when it is gathered and when it is counted again.
func TestPartialRefund(t *testing.T) {
	t.Parallel()
	b, c := newBooks(t), &closer{result: settlement.Result{Balanced: true, Code: "00"}}
	id := b.paid("AUD", 20260413, 1250)
	amount := money.New(300, money.MustCurrency("AUD"))
	err := b.store.InTx(t.Context(), func(tx payment.Tx) error {
		op := payment.Operation{Merchant: b.merchant.ID, Payment: id, ID: id + 1, Kind: payment.Refund, State: payment.Approved, Target: id,
			Number: "610400001011", Acquirer: "card", Amount: amount, Day: 20260413, CreatedAt: noon, SentAt: noon}
		entry, err := ledger.Refund(amount)
		return errors.Join(err, tx.InsertOperation(&op), tx.Post(&op, entry, noon))
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := b.settler(c).Close(t.Context(), b.merchant, "card", 20260414)
	if err != nil {
		t.Fatal(err)
	}
	want := settlement.Totals{Debits: 1, DebitMinor: 1250, Credits: 1, CreditMinor: 300}
	if len(got) != 1 || got[0].Totals != want {
		t.Errorf("got %+v, want one batch of %+v", got, want)
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/sync/errgroup"

	"github.com/tillgate/tillgate/ledger"
	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/protocol/upp"
)

const (
	storeAtOnce = 128 // Payments are stored at a time, so that they share commits.
	storeBlock  = 1000
)

// storePayments gives the store payments that were captured before: each with its key, its attempt and its journal entry, as the engine leaves
// them, of all merchants in turn.
func (r *round) storePayments(ctx context.Context, count int) error {
	t, err := openTool(ctx, r.config(), slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	merchants := make([]payment.MerchantID, r.Merchants)
	for i := range merchants {
		m, err := t.store.FindMerchantByPublicID(ctx, merchantID(i))
		if err != nil {
			return errors.Join(err, t.close())
		}
		merchants[i] = m.ID
	}
	bar := progressbar.DefaultSilent(int64(count))
	if r.bar != nil {
		bar = progressbar.NewOptions(count, progressbar.OptionSetWriter(r.bar), progressbar.OptionSetWidth(30), progressbar.OptionClearOnFinish(),
			progressbar.OptionSetDescription("payments of before"), progressbar.OptionShowCount(), progressbar.OptionThrottle(showEvery))
	}
	var next atomic.Int64
	makers, makersCtx := errgroup.WithContext(ctx)
	for range storeAtOnce {
		makers.Go(func() error {
			for {
				n := next.Add(storeBlock) - storeBlock
				if n >= int64(count) {
					return nil
				}
				first, err := t.store.Block(makersCtx, storeBlock)
				if err != nil {
					return err
				}
				for i := range min(storeBlock, int64(count)-n) {
					if err := storePayment(makersCtx, t.store, merchants[(n+i)%int64(len(merchants))], first+payment.ID(i)); err != nil {
						return err
					}
					_ = bar.Add(1) // It is only a picture.
				}
			}
		})
	}
	return errors.Join(makers.Wait(), bar.Finish(), t.close())
}

// storePayment stores one captured payment of amountMinor.
func storePayment(ctx context.Context, store payment.Store, m payment.MerchantID, id payment.ID) error {
	now := time.Now()
	amount := money.New(amountMinor, money.MustCurrency("AUD"))
	calendar := payment.Calendar{Zone: "Australia/Melbourne"}
	day, err := calendar.Day(now)
	if err != nil {
		return err
	}
	p := payment.Payment{Merchant: m, ID: id, State: payment.Captured, Protocol: upp.Protocol, Key: payment.Key{Scope: upp.Protocol, Key: fmt.Sprintf("before-%x-%012d", id%251, id)},
		Credential: 1, Store: 1, Terminal: 1, Numbering: payment.Numbering{Prefix: "8010", Digits: 12}, Amount: amount, Method: "alipay", Flow: payment.ByCode,
		Attempt: id, Captured: amount.Minor(), Calendar: calendar, CreatedAt: now, ModifiedAt: now, PaidAt: now,
		ExpiresAt: now.Add(time.Minute), Day: day, Echo: []byte(`{"request":"` + strings.Repeat("x", 200) + `"}`)}
	op := payment.Operation{Merchant: m, Payment: id, ID: id, Kind: payment.Sale, State: payment.Approved, Number: p.Number(), Acquirer: walletAcquirer, Amount: amount,
		Day: day, CreatedAt: now, SentAt: now, SettledAt: now, Result: payment.Result{ProviderReference: fmt.Sprintf("2026%020d", id), PayerID: "2088000000000001"}}
	entry, err := ledger.Capture(amount, 0, 0)
	if err != nil {
		return err
	}
	return store.InTx(ctx, func(tx payment.Tx) error {
		p, op := p, op // It may run again.
		if _, _, err := tx.InsertKey(payment.KeyRow{Merchant: m, Key: p.Key, MAC: make([]byte, 32), Payment: id}); err != nil {
			return err
		}
		return errors.Join(tx.InsertPayment(&p, &op), tx.Post(&op, entry, now))
	})
}

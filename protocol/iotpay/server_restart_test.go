package iotpay_test

import (
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/protocol/iotpay"
)

// crash is a server that begins with what another had on its disk at this moment, as after kill -9. The other one goes on until the test ends,
// and nothing that it does is seen.
func (r *rig) crash(t *testing.T) *rig {
	t.Helper()
	after := &rig{settings: r.settings, dir: t.TempDir(), secret: r.secret, log: r.log, wallets: r.wallets, http: r.http, merchants: r.merchants,
		callers: r.callers, host: &cardHost{approved: map[string]int64{}, reversed: map[string]bool{}, refunds: map[string]int64{}}}
	after.pad = &pinpad{r: after}
	files, err := filepath.Glob(filepath.Join(r.dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		from, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		to, err := os.Create(filepath.Join(after.dir, filepath.Base(name)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(to, from); err != nil {
			t.Fatal(err)
		}
		from.Close()
		if err := to.Close(); err != nil {
			t.Fatal(err)
		}
	}
	after.open(t)
	t.Cleanup(func() { after.close() })
	return after
}

// TestServerDies in every part of a sale: till and books agree afterwards.
func TestServerDies(t *testing.T) {
	t.Parallel()
	t.Run("while the terminal waits for a card", func(t *testing.T) {
		t.Parallel()
		r := setup(t)
		card := make(chan struct{})
		r.pad.waits(card)
		n := number()
		first := later(func() reply { return r.till(t).create(cardOrder(n)) })
		r.till(t).until(n, iotpay.StatusCreated)
		after := r.crash(t)
		after.till(t).query(n).is(iotpay.StatusCreated)
		after.till(t).create(cardOrder(n)).refused(iotpay.CodeParameter)
		after.clock.pass(patience)
		after.till(t).until(n, iotpay.StatusClosed).says("Transaction Timeout 350")
		if after.host.count() != 0 || after.pad.orders.Load() != 0 {
			t.Error("the order was given to a terminal again")
		}
		close(card)
		<-first
	})
	t.Run("before the terminal, which comes back with the card in time", func(t *testing.T) {
		t.Parallel()
		r := setup(t)
		card := make(chan struct{})
		r.pad.waits(card)
		n := number()
		first := later(func() reply { return r.till(t).create(cardOrder(n)) })
		r.till(t).until(n, iotpay.StatusCreated)
		after := r.crash(t)
		v, _, err := after.engine.Find(t.Context(), r.merchants[mchID].ID, payment.Key{Scope: "iotpay", Key: n})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := after.pad.attempt(r.callers[mchID+loginName], v.Payment); err != nil {
			t.Fatal(err)
		}
		after.clock.pass(11 * time.Second) // Nobody waits for the terminal's report any more.
		after.till(t).query(n).is(iotpay.StatusPaid).says("000 Approved 00 Thank You")
		if after.host.moved() != 2865 {
			t.Errorf("moved %d", after.host.moved())
		}
		close(card)
		<-first
	})
	t.Run("while the host decides", func(t *testing.T) {
		t.Parallel()
		r := setup(t)
		host := make(chan struct{})
		r.host.hang = host
		n := number()
		first := later(func() reply { return r.till(t).create(cardOrder(n)) })
		r.till(t).until(n, iotpay.StatusPaying)
		if !within(func() bool { return r.host.count() == 1 }) {
			t.Fatal("no sale")
		}
		after := r.crash(t)
		a := after.till(t).until(n, iotpay.StatusFailed).says("Transaction Not Completed 91") // A card sale is never sent again, only reversed.
		if a.card().CardNum != "XXXXXXXXXXXX4242" {
			a.errorf("extra")
		}
		if after.host.count() != 0 || len(after.host.reversed) != 1 {
			t.Errorf("%d sales, %d reversals", after.host.count(), len(after.host.reversed))
		}
		close(host)
		<-first
	})
	t.Run("after the answer", func(t *testing.T) {
		t.Parallel()
		r := setup(t)
		n := number()
		before := r.till(t).create(cardOrder(n)).is(iotpay.StatusPaid).card()
		r.reopen(t)
		after := r.till(t).query(n).is(iotpay.StatusPaid).card()
		want := *before
		want.EMVTC, want.ExpireDate = "", "    " // In memory only (design 7).
		if *after != want {
			t.Errorf("receipt\n got %+v\nwant %+v", *after, want)
		}
	})
}

package main

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tillgate/tillgate/internal/pgtest"
	"github.com/tillgate/tillgate/signal"
)

// TestThreeServersOnOneDatabase runs three servers over one PostgreSQL with tills on each, kills one for good in the middle, and finds its
// owed work done by the others and every poller answered.
func TestThreeServersOnOneDatabase(t *testing.T) {
	t.Parallel()
	nats, err := signal.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nats.Stop)
	w := newWorld(t, newRows(t, pgtest.URL(t)), "TILLGATE_SIGNALS="+nats.URL())
	for range 3 {
		w.serve(never)
	}
	victim := w.servers[0]

	// Customers with QR codes in their hands, made at the victim, polled at all three.
	const waiting = 30
	links := make([]string, waiting)
	for i := range links {
		links[i] = w.till(0).qr(fmt.Sprintf("qr-%d", i), "30").MerchantToken
		if links[i] == "" {
			t.Fatalf("no code to show for qr-%d", i)
		}
	}
	polled := make([]tx, waiting)
	var pollers sync.WaitGroup
	for i := range polled {
		pollers.Go(func() { polled[i] = w.till(i).final(fmt.Sprintf("qr-%d", i)) })
	}

	killed := make(chan struct{})
	go func() {
		defer close(killed)
		time.Sleep(time.Second) // In the middle of the load; the moment does not matter.
		victim.kill()
	}()
	var tills sync.WaitGroup
	var cards, scans []claim
	tills.Go(func() { cards = cardLoad(w, 11) })
	tills.Go(func() { scans = upayLoad(w, 11) })
	b := w.load(11, 9, 10)
	tills.Wait()
	<-killed
	for _, link := range links {
		w.pay(link)
	}
	pollers.Wait()
	for i, got := range polled {
		b.sales[fmt.Sprintf("qr-%d", i)] = got
		if got.Approved == nil || !*got.Approved {
			t.Errorf("qr-%d was paid, and its poller heard %+v", i, got)
		}
	}
	w.agree(slices.Concat(b.claims(), cards, scans))
	t.Logf("%d servers, %d killed; %d sales, %d refunds, %d pollers answered, %d card sales, %d scans; the sandbox's books hold %d movements; nothing is owed",
		len(w.servers), w.kills(), len(b.sales), len(b.refunds), waiting, len(cards), len(scans), len(w.movements()))
}

// TestDatabaseDiesUnderLoad kills the database itself, again and again, while tills work: they get an honest error or the stored answer,
// nothing is charged twice, and nothing hangs.
func TestDatabaseDiesUnderLoad(t *testing.T) {
	t.Parallel()
	db := pgtest.Dedicated(t)
	w := newWorld(t, newRows(t, db.URL(t)))
	for range 2 {
		w.serve(never)
	}
	const deaths = 4
	over := make(chan struct{})
	go func() {
		defer close(over)
		for range deaths {
			time.Sleep(700 * time.Millisecond) // In the middle of the load; the moment does not matter.
			db.Stop(t, true)
			time.Sleep(300 * time.Millisecond)
			db.Start(t)
		}
	}()
	b := w.load(5, 8, 10)
	<-over
	w.agree(b.claims())
	t.Logf("the database died %d times; %d sales, %d refunds; the sandbox's books hold %d movements; nothing is owed", deaths, len(b.sales),
		len(b.refunds), len(w.movements()))
}

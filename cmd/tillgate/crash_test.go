package main

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/tillgate/tillgate/internal/pgtest"
)

// day is a till's day: every kind of exchange, faults of the wallet included. It returns what the till believes at its end.
func day(w *till) belief {
	b := belief{sales: map[string]tx{}, refunds: map[string]tx{}, of: map[string]string{}}
	w.purchase("approve", "approve", "20")
	w.refund("approve-r1", "approve", "5")
	w.refund("approve-r2", "approve", "15")
	w.refund("approve-r3", "approve", "1")
	w.purchase("decline", "decline", "21")
	w.purchase("cut", "connection_cut", "22")
	w.purchase("error", "error", "23")
	if got := w.qr("qr", "24"); got.MerchantToken != "" {
		w.pay(got.MerchantToken)
	} else if got := w.final("qr"); got.Approved == nil {
		w.t.Error("qr: no code to show")
	}
	w.final("qr")
	w.qr("qr-cancel", "25")
	w.cancel("qr-cancel")
	w.purchase("undo", "approve", "26")
	w.refund("undo-r1", "undo", "6")
	w.cancel("undo")
	w.purchase("void", "cancel_lost", "27")
	w.cancel("void")
	w.cancel("early")
	w.purchase("early", "approve", "28")
	for _, ref := range []string{"approve", "decline", "cut", "error", "qr", "qr-cancel", "undo", "void", "early"} {
		b.sales[ref] = w.final(ref)
	}
	for ref, of := range map[string]string{"approve-r1": "approve", "approve-r2": "approve", "approve-r3": "approve", "undo-r1": "undo"} {
		b.refunds[ref], b.of[ref] = w.final(ref), of
	}
	return b
}

// checkDay holds what must come of the day whatever the moment of the kill, so that three books do not merely agree about nothing. A
// sale that was killed before the wallet had it ends declined: the customer's code is gone with the process, so it is never sent again.
func checkDay(t *testing.T, b belief, killed bool) {
	t.Helper()
	lost := 0
	for ref, want := range map[string]string{"approve": "approved", "decline": "declined", "cut": "approved", "error": "providerUnavailable", "qr": "approved",
		"qr-cancel": "cancelled", "undo": "cancelled", "void": "cancelled", "early": "cancelled"} {
		got := b.sales[ref].Failure
		if p := b.sales[ref].Approved; p != nil && *p {
			got = "approved"
		}
		if killed && got == "providerUnavailable" && got != want {
			lost++
			continue
		}
		if got != want {
			t.Errorf("%s ended %q, want %q", ref, got, want)
		}
	}
	if lost > 1 {
		t.Errorf("one kill lost %d sales", lost)
	}
	if got := b.refunds["approve-r3"]; got.Status != http.StatusNotFound {
		t.Errorf("a refund beyond the payment was kept: %+v", got)
	}
}

// engines are the stores that the crash tests run on.
var engines = map[string]func(t *testing.T) string{
	"sqlite":   func(*testing.T) string { return "" },
	"postgres": func(t *testing.T) string { return pgtest.URL(t) },
}

// TestKillAfterEveryCommitAndWrite kills the server once in a till's day, after each commit and each socket write in turn. Whatever the
// moment, the till, we and the wallet agree in the end, and the day ends as it would have without the kill.
func TestKillAfterEveryCommitAndWrite(t *testing.T) {
	t.Parallel()
	for engine, database := range engines {
		for _, point := range []string{"commit", "write"} {
			t.Run(engine+"/"+point, func(t *testing.T) {
				t.Parallel()
				var next, last atomic.Int64
				last.Store(math.MaxInt64)
				// Several days at once, since most of one is waiting; the first moment that is not reached ends it.
				var days sync.WaitGroup
				for range daysAtOnce {
					days.Go(func() {
						for n := next.Add(1); n < last.Load() && !t.Failed(); n = next.Add(1) {
							t.Run(fmt.Sprint(n), func(t *testing.T) {
								if !killedOnce(t, database(t), fmt.Sprintf("%s:%d", point, n)) {
									last.Store(min(last.Load(), n))
								}
							})
						}
					})
				}
				days.Wait()
				t.Logf("%d moments", last.Load()-1)
			})
		}
	}
}

// daysAtOnce is how many servers an enumeration runs at once.
const daysAtOnce = 4

// killedOnce lives through a day with one kill, and reports whether the moment for it came.
func killedOnce(t *testing.T, database, moment string) bool {
	lives := 0
	w := newWorld(t, database)
	w.serve(func() string {
		if lives++; lives > 1 {
			return ""
		}
		return moment
	})
	b := day(w.till(0))
	checkDay(t, b, w.kills() > 0)
	w.agree(b)
	return w.kills() > 0
}

// TestKillsUnderLoad kills the server again and again, at moments drawn from a seed, while several tills work.
func TestKillsUnderLoad(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 7))
			const livesMax, tills, sales = 8, 8, 12
			lives := 0
			w := newWorld(t, "")
			w.serve(func() string {
				if lives++; lives > livesMax {
					return ""
				}
				return fmt.Sprintf("%s:%d", []string{"commit", "write"}[rng.IntN(2)], 10+rng.IntN(80))
			})
			b := w.load(seed, tills, sales)
			w.agree(b)
			t.Logf("%d kills, %d sales, %d refunds, %d movements", w.kills(), len(b.sales), len(b.refunds), len(w.books()))
			if w.kills() == 0 {
				t.Error("nothing was killed")
			}
		})
	}
}

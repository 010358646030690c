package cardhost

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tillgate/tillgate/payment"
)

// inBubble runs a link and its host on a clock of their own, with the default times.
func inBubble(t *testing.T, prepare func(*rig), test func(*rig)) {
	t.Helper()
	outside := newRig(t) // Its host has a socket, which no bubble may have.
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, host: outside.host, vault: outside.vault, log: &safeBuffer{}, next: 1000, drops: map[Drop]int{}}
		cfg := outside.link.cfg
		cfg.Timeout, cfg.EchoEvery, cfg.KeysEvery = 0, 0, 0
		link, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		r.link = link
		r.pipe()
		if prepare != nil {
			prepare(r)
		}
		r.run()
		synctest.Wait()
		test(r)
		_ = r.stop()
		r.host.hangUp()
		r.host.all.Wait()
	})
}

func TestSilenceIsUnknownAfterTheTimeout(t *testing.T) {
	t.Parallel()
	inBubble(t, func(r *rig) { r.host.script = func(*request) {} }, func(r *rig) {
		began := time.Now()
		r.want(r.link.Do(context.Background(), r.sale(100, chipCard(t))), payment.OutcomeUnknown, "")
		if took := time.Since(began); took != defaultTimeout {
			t.Errorf("it took %v", took)
		}
	})
}

func TestIdleLinesAreKeptAlive(t *testing.T) {
	t.Parallel()
	inBubble(t, nil, func(r *rig) {
		line := r.host.open()[0]
		time.Sleep(24*time.Hour + time.Second)
		synctest.Wait()
		heard := line.heard()
		echoes, keys := 0, 0
		for _, what := range heard {
			switch what {
			case "301":
				echoes++
			case "101":
				keys++
			}
		}
		if echoes < 2870 || echoes > 2880 || keys != 2 {
			t.Errorf("in a day, %d echoes and %d key exchanges", echoes, keys)
		}
		if len(r.host.open()) != 1 {
			t.Errorf("%d lines", len(r.host.open()))
		}
		r.want(r.do(r.sale(100, chipCard(t))), payment.OutcomeApproved, "")
	})
}

// A host that goes silent is noticed within an echo and its time-out, also when nobody pays.
func TestSilentHostIsNoticed(t *testing.T) {
	t.Parallel()
	var deaf atomic.Bool
	inBubble(t, func(r *rig) { r.host.network = func(*request) bool { return deaf.Load() } }, func(r *rig) {
		deaf.Store(true)
		time.Sleep(defaultEchoEvery + networkMax + time.Second)
		synctest.Wait()
		if r.link.Ready() {
			t.Error("a silent host is still ready")
		}
		deaf.Store(false)
		time.Sleep(2 * networkMax)
		synctest.Wait()
		if !r.link.Ready() {
			t.Error("the host is back and the link is not")
		}
	})
}

// Dials that fail come ever more slowly, and never all at the same moment; after success they are quick again.
func TestBackoffGrows(t *testing.T) {
	t.Parallel()
	var dials []time.Time
	var mu sync.Mutex
	inBubble(t, func(r *rig) {
		r.link.dial = func(context.Context, string) (net.Conn, error) {
			mu.Lock()
			defer mu.Unlock()
			dials = append(dials, time.Now())
			return nil, errors.New("refused")
		}
	}, func(r *rig) { time.Sleep(5 * time.Minute) })
	if len(dials) < 30 || len(dials) > 75 {
		t.Fatalf("%d dials in five minutes", len(dials))
	}
	for i := 1; i < len(dials); i++ {
		pause, longest := dials[i].Sub(dials[i-1]), backoff[min(i-1, len(backoff)-1)]
		if pause < longest/2 || pause > longest {
			t.Errorf("pause %d is %v, want %v to %v", i, pause, longest/2, longest)
		}
	}
}

// A host that reads nothing: what is stuck in the write may have left, what waits behind it has not.
func TestStuckLine(t *testing.T) {
	t.Parallel()
	var stuck atomic.Bool
	inBubble(t, func(r *rig) {
		r.host.pause = func() {
			for stuck.Load() {
				time.Sleep(100 * time.Millisecond)
			}
		}
	}, func(r *rig) {
		ours := r.link.lines[0].mux
		stuck.Store(true)
		var all sync.WaitGroup
		outcomes := make([]payment.Outcome, 3)
		for i := range outcomes {
			m := r.sale(int64(i+1), chipCard(t))
			all.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
				defer cancel()
				outcomes[i] = r.link.Do(ctx, m).Outcome
			})
			synctest.Wait()
		}
		all.Wait()
		// The first was read by the host, the second is in the write, the third behind it.
		if want := []payment.Outcome{payment.OutcomeUnknown, payment.OutcomeUnknown, payment.OutcomeUnsent}; !slices.Equal(outcomes, want) {
			t.Errorf("got %v, want %v", outcomes, want)
		}
		time.Sleep(writeMax)
		synctest.Wait()
		if ours.reason() == nil {
			t.Error("the line is still held")
		}
		stuck.Store(false)
	})
}

package notify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tillgate/tillgate/internal/pgtest"
	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/sqlstore"
)

// uqpay and upay deliver as the two protocols do.
var (
	uqpay = Protocol{Delays: []time.Duration{16 * time.Second, 32 * time.Second, 64 * time.Second, 128 * time.Second, 256 * time.Second}}
	upay  = Protocol{Delays: []time.Duration{4 * time.Second, 25 * time.Second, 570 * time.Second}, Timeout: 5 * time.Second,
		Accepted: func(status int, body []byte) bool { return status == 200 && string(body) == "success" }}
)

// world is a store, receivers that answer as answer says, and what they saw.
type world struct {
	t      *testing.T
	store  *sqlstore.Store
	begun  time.Time
	answer func(r *http.Request) (status int, body string, err error)
	log    bytes.Buffer

	mu      sync.Mutex
	seen    []call
	results map[Result]int
}

// call is a request that a receiver saw: the path says which notice.
type call struct {
	host, path string
	after      time.Duration // Since the world began.
}

// RoundTrip plays the receivers.
func (w *world) RoundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	w.seen = append(w.seen, call{r.URL.Host, r.URL.Path, time.Since(w.begun)})
	w.mu.Unlock()
	status, body, err := w.answer(r)
	if err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: status, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
}

// hang answers when the request has ended.
func hang(r *http.Request) (int, string, error) {
	<-r.Context().Done()
	return 0, "", context.Cause(r.Context())
}

// story runs a test in its own time, over a store.
func story(t *testing.T, tell func(t *testing.T, w *world)) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		store, err := sqlstore.Open(t.Context(), sqlstore.Config{Dir: dir, Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close() //nolint:errcheck // The test is over.
		w := &world{t: t, store: store, begun: time.Now(), results: map[Result]int{}}
		w.answer = func(*http.Request) (int, string, error) { return 200, "success", nil }
		tell(t, w)
	})
}

func (w *world) sender(store Store) *Sender {
	s := New(Config{Store: store, Protocols: map[string]Protocol{"uqpay": uqpay, "upay": upay}, Now: time.Now, Log: slog.New(slog.NewTextHandler(&w.log, nil)),
		Observe: func(_ string, r Result, _ time.Duration) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.results[r]++
		}})
	s.client.transport = w
	return s
}

// run runs a sender until the function that it returns is called.
func (w *world) run(s *Sender) (stop func()) {
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return func() {
		w.t.Helper()
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	}
}

// owe stores notices for a host, in pieces.
func (w *world) owe(host, protocol string, first payment.ID, count int, due time.Time) {
	w.t.Helper()
	for from := range count/500 + 1 {
		err := w.store.InTx(w.t.Context(), func(tx payment.Tx) error {
			for i := from * 500; i < min(count, (from+1)*500); i++ {
				id := first + payment.ID(i)
				n := payment.Notice{Merchant: 1, ID: id, Payment: 9, Protocol: protocol, Event: "paid", URL: fmt.Sprintf("https://%s/%d?s3cret=1", host, id),
					Body: []byte(`{"card":"b0dy"}`), DueAt: due}
				if err := tx.InsertNotice(&n); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

// calls are what a host saw, in whole seconds, since tries begin milliseconds after they are due.
func (w *world) calls(host string) []time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []time.Duration
	for _, c := range w.seen {
		if c.host == host {
			list = append(list, c.after.Truncate(time.Second))
		}
	}
	return list
}

func (w *world) record(id payment.ID) sqlstore.NoticeRecord {
	w.t.Helper()
	list, err := w.store.Notices(w.t.Context(), 1, id-1, 1)
	if err != nil || len(list) == 0 {
		w.t.Fatalf("notice %d: %v, %v", id, list, err)
	}
	return list[0]
}

func seconds(n ...int) []time.Duration {
	var list []time.Duration
	for _, s := range n {
		list = append(list, time.Duration(s)*time.Second)
	}
	return list
}

func same[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

// TestSchedules counts the pauses of both protocols, to receivers that do not accept, do not answer, and accept late.
func TestSchedules(t *testing.T) {
	for _, tt := range []struct {
		name, protocol string
		answer         func(r *http.Request) (int, string, error)
		tries          []time.Duration
		results        map[Result]int
		outcome        string
	}{
		{"uqpay, refused", "uqpay", func(*http.Request) (int, string, error) { return 500, "", nil },
			seconds(0, 16, 48, 112, 240, 496), map[Result]int{Failed: 5, GivenUp: 1}, "given up: 500"},
		{"uqpay, silent", "uqpay", hang, seconds(0, 16, 48, 112, 240, 496), map[Result]int{Failed: 5, GivenUp: 1}, "given up: no answer in time"},
		{"upay, without the word", "upay", func(*http.Request) (int, string, error) { return 200, "ok", nil },
			seconds(1, 5, 30, 600), map[Result]int{Failed: 3, GivenUp: 1}, "given up: 200, with a body that does not accept"},
		{"upay, silent", "upay", hang, seconds(1, 6, 31, 601), map[Result]int{Failed: 3, GivenUp: 1}, "given up: no answer in time"},
		{"upay, at once", "upay", func(*http.Request) (int, string, error) { return 200, "success", nil }, seconds(1), map[Result]int{Accepted: 1}, "200"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			story(t, func(t *testing.T, w *world) {
				w.answer = tt.answer
				first := time.Duration(0)
				if tt.protocol == "upay" {
					first = time.Second
				}
				w.owe("till.example", tt.protocol, 1, 1, time.Now().Add(first))
				stop := w.run(w.sender(w.store))
				time.Sleep(3 * time.Hour)
				stop()
				same(t, "tries", w.calls("till.example"), tt.tries)
				same(t, "results", w.results, tt.results)
				r := w.record(1)
				if r.SettledAt.IsZero() || r.Outcome != tt.outcome || r.Tries != len(tt.tries) {
					t.Errorf("got %q after %d tries, settled at %s", r.Outcome, r.Tries, r.SettledAt)
				}
				log := w.log.String()
				if strings.Contains(log, "s3cret") || strings.Contains(log, "b0dy") || strings.Count(log, "try=") != len(tt.tries) {
					t.Errorf("log:\n%s", log)
				}
			})
		})
	}
}

// TestLateAcceptance stops after the try that is accepted.
func TestLateAcceptance(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		tries := 0
		w.answer = func(*http.Request) (int, string, error) {
			if tries++; tries < 3 {
				return 0, "", errors.New("cut")
			}
			return 204, "", nil
		}
		w.owe("till.example", "uqpay", 1, 1, time.Now())
		stop := w.run(w.sender(w.store))
		time.Sleep(time.Hour)
		stop()
		same(t, "tries", w.calls("till.example"), seconds(0, 16, 48))
		same(t, "outcome", w.record(1).Outcome, "204")
	})
}

// TestKick sends what comes after the sender has begun to rest: at once when it is told, and soon when it is not.
func TestKick(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		s := w.sender(w.store)
		stop := w.run(s)
		time.Sleep(time.Minute + 10*time.Millisecond)
		w.owe("told.example", "uqpay", 1, 1, time.Now())
		s.Kick()
		time.Sleep(time.Second)
		same(t, "told", w.calls("told.example"), seconds(60))
		w.owe("untold.example", "uqpay", 2, 1, time.Now())
		time.Sleep(lookEvery)
		if got := w.calls("untold.example"); len(got) != 1 {
			t.Errorf("got calls %v, want one", got)
		}
		stop()
	})
}

// TestCrash has a process die between its claim, or its sending, and what it would have recorded.
func TestCrash(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		w.owe("till.example", "uqpay", 1, 1, time.Now())
		due, err := w.store.DueNotices(t.Context(), "till.example", time.Now(), 1)
		if err != nil || len(due) != 1 {
			t.Fatal(due, err)
		}
		if _, ok, err := w.store.ClaimNotice(t.Context(), due[0], time.Now().Add(timeoutStandard+claimMargin)); err != nil || !ok {
			t.Fatal(ok, err)
		}
		stop := w.run(w.sender(w.store))
		time.Sleep(time.Hour)
		stop()
		same(t, "tries", w.calls("till.example"), seconds(30))
		if r := w.record(1); r.Outcome != "200" || r.Tries != 2 {
			t.Errorf("got %+v", r)
		}
	})
}

// TestDeadHost owes ten thousand notices to a host that does not answer, and then some to others: they are told at once.
func TestDeadHost(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		w.answer = func(r *http.Request) (int, string, error) {
			if r.URL.Host == "dead.example" {
				return hang(r)
			}
			return 200, "", nil
		}
		w.owe("dead.example", "uqpay", 1, 10_000, time.Now().Add(-time.Hour))
		s := w.sender(w.store)
		stop := w.run(s)
		time.Sleep(time.Minute)
		w.owe("living.example", "uqpay", 20_000, 20, time.Now())
		w.owe("slow.example", "uqpay", 30_000, 1, time.Now())
		s.Kick()
		time.Sleep(999 * time.Millisecond)
		same(t, "calls of the living", w.calls("living.example"), slices.Repeat(seconds(60), 20))
		same(t, "calls of another", w.calls("slow.example"), seconds(60))
		if n := len(w.calls("dead.example")); n < 5 || n > 10 {
			t.Errorf("the dead host was called %d times in a minute, want one at a time", n)
		}
		stop()
	})
}

// TestManyDeadHosts takes as many dead hosts as there are workers; a new one is told all the same.
func TestManyDeadHosts(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		w.answer = func(r *http.Request) (int, string, error) {
			if strings.HasPrefix(r.URL.Host, "dead") {
				return hang(r)
			}
			return 200, "", nil
		}
		for i := range 2 * workersMax {
			w.owe(fmt.Sprintf("dead%d.example", i), "uqpay", payment.ID(1+i*100), 5, time.Now())
		}
		s := w.sender(w.store)
		stop := w.run(s)
		time.Sleep(5 * time.Minute)
		w.owe("living.example", "uqpay", 90_000, 100, time.Now())
		s.Kick()
		time.Sleep(999 * time.Millisecond)
		same(t, "calls of the living", len(w.calls("living.example")), 100)
		stop()
	})
}

// TestOverdue gives up what a host has not asked for in a day, so that a host that is gone does not gather notices for ever.
func TestOverdue(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		w.answer = hang
		w.owe("gone.example", "uqpay", 1, 200, time.Now().Add(-25*time.Hour))
		stop := w.run(w.sender(w.store))
		time.Sleep(time.Hour)
		stop()
		owed, _, err := w.store.CountNotices(t.Context())
		if err != nil || owed != 0 {
			t.Errorf("%d are owed still, %v", owed, err)
		}
		if n := len(w.calls("gone.example")); n < 2 || n > 20 {
			t.Errorf("the host was called %d times", n)
		}
		same(t, "outcome", w.record(200).Outcome, "given up: the host has not answered for a day")
	})
}

// TestLane holds that no more than a few tries to one host run at once, and that a host begins with one.
func TestLane(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		var mu sync.Mutex
		now, most, first := 0, 0, 0
		w.answer = func(*http.Request) (int, string, error) {
			mu.Lock()
			now++
			most = max(most, now)
			if time.Since(w.begun) < 500*time.Millisecond {
				first++
			}
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			now--
			mu.Unlock()
			return 200, "", nil
		}
		w.owe("till.example", "uqpay", 1, 100, time.Now())
		stop := w.run(w.sender(w.store))
		time.Sleep(time.Minute)
		stop()
		if most != laneMax || first != 1 || len(w.calls("till.example")) != 100 {
			t.Errorf("%d at once, %d at first, %d in all; want %d, 1, 100", most, first, len(w.calls("till.example")), laneMax)
		}
	})
}

// TestStop waits for tries under way, cuts off those that take too long, and lets these come due again.
func TestStop(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		w.answer = func(r *http.Request) (int, string, error) {
			if r.URL.Host == "slow.example" {
				return hang(r)
			}
			time.Sleep(3 * time.Second)
			return 200, "", nil
		}
		w.owe("till.example", "uqpay", 1, 2, time.Now())
		w.owe("slow.example", "uqpay", 10, 1, time.Now())
		stop := w.run(w.sender(w.store))
		time.Sleep(time.Second)
		stop()
		if took := time.Since(w.begun); took != time.Second+drainMax {
			t.Errorf("it took %s to stop, want the drain", took-time.Second)
		}
		same(t, "what was under way", w.record(1).Outcome, "200")
		same(t, "what was not begun", w.record(2).Tries, 0)
		if r := w.record(10); r.Outcome != "cut off" || r.DueAt.After(time.Now()) || !r.SettledAt.IsZero() {
			t.Errorf("what was cut off: got %+v", r)
		}
	})
}

// TestUnknownProtocol leaves what this program cannot send for one that can.
func TestUnknownProtocol(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		w.owe("till.example", "other", 1, 1, time.Now())
		stop := w.run(w.sender(w.store))
		time.Sleep(time.Hour)
		stop()
		if r := w.record(1); r.Outcome != "protocol is not served" || !r.SettledAt.IsZero() || r.Tries > 61 || len(w.seen) != 0 {
			t.Errorf("got %+v and %d calls", r, len(w.seen))
		}
	})
}

// brokenClaims is a store whose writes fail.
type brokenClaims struct {
	Store
	tries int
}

func (b *brokenClaims) ClaimNotice(context.Context, payment.Notice, time.Time) (payment.Notice, bool, error) {
	b.tries++
	return payment.Notice{}, false, payment.ErrUnavailable
}

// TestFullDisk does not hurry when nothing can be written.
func TestFullDisk(t *testing.T) {
	story(t, func(t *testing.T, w *world) {
		w.owe("till.example", "uqpay", 1, 100, time.Now())
		broken := &brokenClaims{Store: w.store}
		stop := w.run(w.sender(broken))
		time.Sleep(time.Minute)
		stop()
		if broken.tries < 10 || broken.tries > 61 {
			t.Errorf("it tried %d times in a minute", broken.tries)
		}
	})
}

// TestTwoSenders lets two processes share the work: in the good case each notice is sent once.
func TestTwoSenders(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(t *testing.T) []*sqlstore.Store{
		"one store": func(t *testing.T) []*sqlstore.Store {
			s, err := sqlstore.Open(t.Context(), sqlstore.Config{Dir: t.TempDir(), Now: time.Now})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = s.Close() })
			return []*sqlstore.Store{s, s}
		},
		"two processes": func(t *testing.T) []*sqlstore.Store {
			url := pgtest.URL(t)
			var stores []*sqlstore.Store
			for range 2 {
				s, err := sqlstore.Open(t.Context(), sqlstore.Config{URL: url})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = s.Close() })
				stores = append(stores, s)
			}
			return stores
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stores := open(t)
			w := &world{t: t, store: stores[0], begun: time.Now(), results: map[Result]int{}}
			w.answer = func(*http.Request) (int, string, error) {
				time.Sleep(time.Millisecond)
				return 200, "", nil
			}
			const count = 300
			for i := range 3 {
				w.owe(fmt.Sprintf("till%d.example", i), "uqpay", payment.ID(1+i*count), count, time.Now())
			}
			var stops []func()
			for _, s := range stores {
				sender := New(Config{Store: s, Protocols: map[string]Protocol{"uqpay": uqpay}, Now: time.Now, Log: quiet()})
				sender.client.transport = w
				stops = append(stops, w.run(sender))
			}
			for range 3000 {
				if owed, _, err := w.store.CountNotices(t.Context()); err != nil || owed == 0 {
					break
				}
				time.Sleep(10 * time.Millisecond)
			}
			for _, stop := range stops {
				stop()
			}
			count1 := map[string]int{}
			for _, c := range w.seen {
				if count1[c.path]++; count1[c.path] > 1 {
					t.Errorf("%s%s was sent %d times", c.host, c.path, count1[c.path])
				}
			}
			if len(count1) != 3*count {
				t.Errorf("%d were sent, want %d", len(count1), 3*count)
			}
		})
	}
}

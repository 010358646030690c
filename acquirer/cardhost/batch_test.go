package cardhost

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
)

func (r *rig) batch(items int) Batch {
	now := time.Now()
	b := Batch{Number: "20261122-01", RRN: RRN(90001, now), At: now, Zone: "Australia/Melbourne", Merchant: "4502", Currency: aud}
	for i := range items {
		kind := []payment.Kind{payment.Sale, payment.CaptureOperation, payment.Refund}[i%3]
		b.Items = append(b.Items, Item{Kind: kind, Number: RRN(payment.ID(500+i), now), SentAt: now, TID: "T0000001", AuthCode: "A1B2C3", Amount: money.New(100, aud)})
	}
	return b
}

// batchHost is a host that knows some of the movements, and forgets to answer now and then.
type batchHost struct {
	mu       sync.Mutex
	balanced bool
	uploaded map[string]map[int]string
	silent   int // So many messages are taken and not answered.
	closes   []string
}

func (b *batchHost) script(q *request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	code, said := "00", ""
	switch q.mti {
	case "0320":
		b.uploaded[q.value[37]] = q.value
	case "0500":
		b.closes = append(b.closes, q.value[3])
		b.balanced = b.balanced || q.value[3] == "920000"
		said = "1"
		if !b.balanced {
			code, said = "95", "2"
		}
	}
	if b.silent > 0 {
		b.silent--
		return
	}
	set := map[int]string{39: code}
	if said != "" {
		set[66] = said
	}
	q.answer(set)
}

func TestBatchInBalance(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	h := &batchHost{balanced: true, uploaded: map[string]map[int]string{}}
	r.host.script = h.script
	r.start()
	got, err := r.link.CloseBatch(t.Context(), r.batch(7))
	want := BatchResult{Balanced: true, Code: "00", Totals: Totals{Debits: 5, DebitMinor: 500, Credits: 2, CreditMinor: 200}}
	if err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	q := r.host.requests()[0]
	for de, want := range map[int]string{3: "000000", 37: r.batch(0).RRN, 41: "00004502", 42: "4502", 49: "036", 60: "20261122-01", 74: "0000000002", 75: "0000000000",
		76: "0000000005", 77: "0000000000", 86: "0000000000000200", 87: "0000000000000000", 88: "0000000000000500", 89: "0000000000000000", 4: ""} {
		if q.value[de] != want {
			t.Errorf("DE %d: got %q, want %q", de, q.value[de], want)
		}
	}
}

func TestBatchOutOfBalanceIsUploaded(t *testing.T) {
	t.Parallel()
	const many = 50
	r := newRig(t)
	h := &batchHost{uploaded: map[string]map[int]string{}}
	r.host.script = h.script
	r.start()
	b := r.batch(many)
	got, err := r.link.CloseBatch(t.Context(), b)
	if err != nil || !got.Balanced || got.Uploaded != many || !slices.Equal(h.closes, []string{"000000", "920000"}) {
		t.Errorf("got %+v, %v after %q", got, err, h.closes)
	}
	for i, item := range b.Items {
		stan, _ := stanOf(item.Number)
		original, _ := r.link.original(item.Kind, item.Number, item.SentAt)
		v := h.uploaded[item.Number]
		for de, want := range map[int]string{3: []string{"000000", "000000", "200000"}[i%3], 4: "000000000100", 11: stan, 38: "A1B2C3", 41: "T0000001", 42: "4502",
			49: "036", 60: b.Number, 90: original} {
			if v[de] != want {
				t.Errorf("item %d, DE %d: got %q, want %q", i, de, v[de], want)
			}
		}
	}
}

// A close may be repeated however far it came.
func TestBatchIsClosedAfterSilence(t *testing.T) {
	t.Parallel()
	for _, silent := range []int{1, 2} {
		r := newRig(t, func(c *Config) { c.Timeout = 100 * time.Millisecond })
		h := &batchHost{silent: silent, uploaded: map[string]map[int]string{}}
		r.host.script = h.script
		r.start()
		b := r.batch(3)
		var got BatchResult
		err := error(ErrNoAnswer)
		for tries := 0; err != nil; tries++ {
			if !errors.Is(err, ErrNoAnswer) || tries == 5 {
				t.Fatalf("try %d: %v", tries, err)
			}
			got, err = r.link.CloseBatch(t.Context(), b)
		}
		if !got.Balanced || len(h.uploaded) != 3 {
			t.Errorf("got %+v, %d uploaded", got, len(h.uploaded))
		}
		again, err := r.link.CloseBatch(t.Context(), b)
		if err != nil || !again.Balanced {
			t.Errorf("again: %+v, %v", again, err)
		}
	}
}

func TestBatchFailures(t *testing.T) {
	t.Parallel()
	refused := func(err error) bool {
		var no *RefusedError
		return errors.As(err, &no) && no.Code == "12"
	}
	is := func(want error) func(error) bool { return func(err error) bool { return errors.Is(err, want) } }
	for _, tc := range []struct {
		name   string
		change func(*Batch)
		script func(*request)
		want   func(error) bool
	}{
		{"an item that moves nothing", func(b *Batch) { b.Items[0].Kind = payment.Authorization }, nil, is(ErrBatch)},
		{"another currency", func(b *Batch) { b.Items[0].Amount = money.New(1, money.MustCurrency("NZD")) }, nil, is(ErrBatch)},
		{"a sum that is too large", func(b *Batch) { b.Items[0].Amount, b.Items[1].Amount = money.New(1<<62, aud), money.New(1<<62, aud) }, nil, is(ErrBatch)},
		{"nothing", func(b *Batch) { b.Items[2].Amount = money.New(0, aud) }, nil, is(ErrBatch)},
		{"no number of ours", func(b *Batch) { b.RRN = "x" }, nil, is(ErrBatch)},
		{"a number that is too long", func(b *Batch) { b.Number = "123456789012345678901" }, nil, is(ErrNotSent)},
		{"refused", nil, func(q *request) { q.answer(map[int]string{39: "12"}) }, refused},
		{"a contradiction", nil, func(q *request) { q.answer(map[int]string{39: "00", 66: "2"}) }, is(ErrNoAnswer)},
		{"no balance", nil, func(q *request) { q.answer(map[int]string{39: "00"}) }, is(ErrNoAnswer)},
		{"another batch's answer", nil, func(q *request) { q.answer(map[int]string{39: "00", 66: "1", 3: "920000"}) }, is(ErrNoAnswer)},
		{"an item is refused", nil, func(q *request) {
			if q.mti == "0500" {
				q.answer(map[int]string{39: "95", 66: "2"})
				return
			}
			q.answer(map[int]string{39: "12"})
		}, refused},
		{"an item that cannot be sent", func(b *Batch) { b.Items[1].Number = "x" }, func(q *request) {
			q.answer(map[int]string{39: map[string]string{"0500": "95", "0320": "00"}[q.mti], 66: map[string]string{"0500": "2"}[q.mti]})
		}, is(ErrBatch)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.host.script = tc.script
			r.start()
			b := r.batch(3)
			if tc.change != nil {
				tc.change(&b)
			}
			got, err := r.link.CloseBatch(t.Context(), b)
			if err == nil || !tc.want(err) || got.Balanced {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
	t.Run("still out of balance", func(t *testing.T) {
		t.Parallel()
		r := newRig(t)
		r.host.script = func(q *request) {
			q.answer(map[int]string{39: map[string]string{"0500": "95", "0320": "00"}[q.mti], 66: map[string]string{"0500": "2"}[q.mti]})
		}
		r.start()
		got, err := r.link.CloseBatch(t.Context(), r.batch(3))
		if err != nil || got.Balanced || got.Uploaded != 3 || got.Code != "95" {
			t.Errorf("got %+v, %v", got, err)
		}
	})
	t.Run("given up", func(t *testing.T) {
		t.Parallel()
		r := newRig(t).start()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := r.link.CloseBatch(ctx, r.batch(3)); !errors.Is(err, ErrNotSent) {
			t.Errorf("got %v", err)
		}
	})
}

package upay_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tillgate/tillgate/notify"
	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/protocol/upay"
	"github.com/tillgate/tillgate/terminal"
)

// owed are the callbacks that are stored.
func (r *rig) owed(t testing.TB) []payment.Notice {
	t.Helper()
	list, err := r.store.Notices(context.Background(), r.merchant, 0, 100)
	must(t, err)
	var notices []payment.Notice
	for _, n := range list {
		notices = append(notices, n.Notice)
	}
	return notices
}

func (r *rig) callbacks() *upay.Callbacks {
	return &upay.Callbacks{Terminals: r.registry, Key: r.key}
}

// TestCallbackNotices are the events of §7.1: PAID by default, the others by a setting.
func TestCallbackNotices(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.till(t)
	const target = "https://shop.example.com/notify?x=1"
	t.Run("paid", func(t *testing.T) {
		sn := order()
		a := c.in(t).pay(sn, "notify_url", target, "reflect", `{"table":"7"}`)
		list := r.owed(t)
		if len(list) != 1 {
			t.Fatalf("%d notices", len(list))
		}
		n := list[0]
		if n.Protocol != upay.Protocol || n.Event != "PAID" || n.URL != target || n.Signer != c.sn {
			t.Errorf("got %+v", n)
		}
		if wait := n.DueAt.Sub(r.payment(t, sn).ModifiedAt); wait != time.Second {
			t.Errorf("due after %v, want 1s", wait)
		}
		d, err := upay.DecodeCallback(n.Body)
		must(t, err)
		if d.OrderStatus != upay.OrderPaid || d.Status != upay.StatusSuccess || d.SN != a.sn() || d.ClientSN != sn || d.TotalAmount != 1250 || d.NetAmount != 1250 ||
			d.TradeNo != a.text("trade_no") || d.PayerUID != a.text("payer_uid") || d.Reflect != `{"table":"7"}` || d.FinishTime == 0 || d.ChannelFinishTime == 0 ||
			d.TerminalSN != c.sn || d.Payway != "1" || d.SubPayway != "1" || d.Operator != "c01" || len(d.PaymentList) != 1 {
			t.Errorf("got %s", n.Body)
		}
		if strings.Contains(string(n.Body), "biz_response") || strings.Contains(string(n.Body), "store_id") {
			t.Errorf("the body is flat, and holds the fields of the table: %s", n.Body)
		}
	})
	t.Run("not without an address, nor for what is not paid, nor by default for refunds", func(t *testing.T) {
		before := len(r.owed(t))
		sn := order()
		c.in(t).pay(order())
		c.in(t).pay(order(), "notify_url", target, "dynamic_id", code("alipay", "decline"))
		c.in(t).pay(sn, "notify_url", target)
		c.in(t).refund(sn, "R1", "1")
		if n := len(r.owed(t)) - before; n != 1 {
			t.Errorf("%d notices, want that of the payment", n)
		}
	})
	t.Run("an address without a scheme", func(t *testing.T) {
		c.in(t).pay(order(), "notify_url", "shop.example.com/n")
		list := r.owed(t)
		if got := list[len(list)-1].URL; got != "http://shop.example.com/n" {
			t.Errorf("got %s", got)
		}
	})
	t.Run("all events", func(t *testing.T) {
		r.set(t, func(s *upay.Settings) {
			s.CallbackEvents = []upay.OrderStatus{upay.OrderPaid, upay.OrderPayCanceled, upay.OrderRefunded, upay.OrderPartialRefunded}
		})
		before := len(r.owed(t))
		sn := order()
		c.in(t).pay(sn, "notify_url", target)
		c.in(t).refund(sn, "R1", "250")
		c.in(t).refund(sn, "R2", "1000")
		c.in(t).pay(order(), "notify_url", target, "dynamic_id", code("alipay", "decline"))
		var got []string
		for _, n := range r.owed(t)[before:] {
			d, err := upay.DecodeCallback(n.Body)
			must(t, err)
			if n.Event != string(d.OrderStatus) {
				t.Errorf("event %s of %s", n.Event, n.Body)
			}
			got = append(got, n.Event)
		}
		if s := strings.Join(got, " "); s != "PAID PARTIAL_REFUNDED REFUNDED PAY_CANCELED" {
			t.Errorf("got %s", s)
		}
	})
}

// TestCallbackFormats are the three forms of §7.2.
func TestCallbackFormats(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.till(t)
	body := []byte(`{"sn":"7800000000000001"}`)
	n := payment.Notice{Merchant: r.merchant, Protocol: upay.Protocol, Signer: c.sn, Body: body}
	sign := func(format upay.CallbackFormat) string {
		t.Helper()
		r.set(t, func(s *upay.Settings) { s.CallbackAuthFormat = format })
		h, err := r.callbacks().Sign(t.Context(), n, time.Now())
		must(t, err)
		return h.Get("Authorization")
	}
	bare := sign(upay.CallbackRSA)
	must(t, upay.VerifyCallback(bare, body, &r.key.PublicKey))
	if strings.Contains(bare, " ") {
		t.Errorf("got %q", bare)
	}
	withSN := sign(upay.CallbackRSAWithSN)
	must(t, upay.VerifyCallback(withSN, body, &r.key.PublicKey))
	if withSN != c.sn+" "+bare { // PKCS #1 v1.5 is the same each time.
		t.Errorf("got %q", withSN)
	}
	if got := sign(upay.CallbackMD5WithSN); got != upay.Authorization(c.sn, body, terminal.NewSecret(c.key)) {
		t.Errorf("got %q", got)
	}
	e, err := r.registry.Find(t.Context(), upay.Protocol, c.sn)
	must(t, err)
	must(t, r.registry.SetIdentityDisabled(t.Context(), e.Merchant, e.ID, true))
	sign(upay.CallbackMD5WithSN) // What it took before is told all the same.
}

// TestCallbackDelivery sends a callback from its row, until success is answered, to a receiver of this package.
func TestCallbackDelivery(t *testing.T) {
	t.Parallel()
	r := setup(t)
	var mu sync.Mutex
	var took []*upay.Data
	var times []time.Time
	handler := upay.CallbackHandler(&r.key.PublicKey, func(_ context.Context, d *upay.Data) error {
		mu.Lock()
		defer mu.Unlock()
		took = append(took, d)
		times = append(times, time.Now())
		if len(took) == 1 {
			return io.ErrUnexpectedEOF // The shop's database fails: it wants to be told again.
		}
		return nil
	})
	shop := httptest.NewServer(handler)
	defer shop.Close()
	callbacks := r.callbacks()
	sender := notify.New(notify.Config{Store: r.store, Now: time.Now, Log: r.log, Targets: notify.Targets{AllowPrivate: true},
		Protocols: map[string]notify.Protocol{upay.Protocol: {Delays: upay.CallbackDelays, Timeout: upay.CallbackTimeout, Sign: callbacks.Sign, Accepted: upay.AcceptedCallback}}})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- sender.Run(ctx) }()
	defer func() {
		stop()
		must(t, <-done)
	}()
	c, sn := r.till(t), order()
	paidAt := time.Now()
	c.pay(sn, "notify_url", shop.URL+"/n")
	sender.Kick()
	if !within(func() bool { mu.Lock(); defer mu.Unlock(); return len(took) == 2 }) {
		t.Fatalf("told %d times", len(took))
	}
	mu.Lock()
	defer mu.Unlock()
	if took[1].ClientSN != sn || took[1].OrderStatus != upay.OrderPaid {
		t.Errorf("got %+v", took[1])
	}
	if first, second := times[0].Sub(paidAt), times[1].Sub(paidAt); first < 900*time.Millisecond || second < 4900*time.Millisecond {
		t.Errorf("tries after %v and %v, want 1s and 5s", first, second)
	}
}

func TestCallbackHandlerRefuses(t *testing.T) {
	t.Parallel()
	h := upay.CallbackHandler(&testKey().PublicKey, func(context.Context, *upay.Data) error { t.Error("taken"); return nil })
	sign, err := upay.SignCallback([]byte("not JSON"), testKey())
	must(t, err)
	for _, c := range []struct {
		header, body string
		status       int
	}{
		{"", `{}`, http.StatusForbidden}, {"AAAA", `{}`, http.StatusForbidden}, {sign, `{}`, http.StatusForbidden}, {sign, "not JSON", http.StatusBadRequest},
		{sign, strings.Repeat("x", 300<<10), http.StatusBadRequest},
	} {
		w, q := httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/n", strings.NewReader(c.body))
		q.Header.Set("Authorization", c.header)
		h.ServeHTTP(w, q)
		if w.Code != c.status || strings.Contains(w.Body.String(), "success") {
			t.Errorf("%.20q: %d %s", c.body, w.Code, w.Body)
		}
	}
}

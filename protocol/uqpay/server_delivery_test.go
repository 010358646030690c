package uqpay_test

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
	"github.com/tillgate/tillgate/protocol/uqpay"
)

// Webhooks that are sent by package notify, and received and verified as a shop does it: the first try of each is answered with 500.
func TestWebhooksArrive(t *testing.T) {
	t.Parallel()
	r := setup(t)
	var mu sync.Mutex
	tries, got := map[string]int{}, map[string]uqpay.EventType{}
	shop := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		body, _ := io.ReadAll(q.Body)
		e, err := uqpay.ParseWebhook(body, q.Header, r.clock.now(), webhookSecret)
		mu.Lock()
		defer mu.Unlock()
		if err != nil || q.Header.Get("Content-Type") != "application/json" {
			t.Errorf("webhook: %v, %v", err, q.Header)
			return
		}
		if tries[e.ID]++; tries[e.ID] == 1 {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		got[e.ID] = e.Type
	}))
	defer shop.Close()
	w := r.hook(shop.URL, webhookSecret, false)
	signer := &uqpay.WebhookSigner{Webhook: r.store.Webhook, Sealer: r.vault}
	sender := notify.New(notify.Config{Store: r.store, Now: r.clock.now, Log: discard(), Targets: notify.Targets{AllowPrivate: true},
		Protocols: map[string]notify.Protocol{uqpay.Protocol: {Delays: uqpay.WebhookDelays(), Timeout: uqpay.WebhookTimeout,
			ContentType: uqpay.WebhookContentType, Sign: signer.Sign, Accepted: uqpay.AcceptedWebhook}}})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := sender.Run(ctx); err != nil {
			t.Errorf("sender: %v", err)
		}
	})
	defer running.Wait()
	defer cancel()

	c := r.demo(t)
	c.create(sale(c.tid())).wantStatus("SUCCEEDED")
	sender.Kick()
	if !within(func() bool { mu.Lock(); defer mu.Unlock(); return len(tries) == 4 }) {
		t.Fatalf("%d events were tried, want 4", len(tries))
	}
	time.Sleep(50 * time.Millisecond)
	r.clock.pass(6 * time.Second) // The second try comes after 16 seconds, not before.
	sender.Kick()
	time.Sleep(100 * time.Millisecond)
	mu.Lock()
	if len(got) != 0 {
		t.Errorf("%d events arrived too early", len(got))
	}
	mu.Unlock()
	r.clock.pass(11 * time.Second)
	sender.Kick()
	if !within(func() bool { mu.Lock(); defer mu.Unlock(); return len(got) == 4 }) {
		t.Fatalf("%d events arrived, want 4", len(got))
	}
	if !within(func() bool { return len(r.owed(t, w.ID)) == 0 }) {
		t.Error("notices are still owed")
	}
	var types []string
	for _, e := range got {
		types = append(types, string(e))
	}
	if text := strings.Join(types, " "); !strings.Contains(text, "payment_intent.succeeded") || !strings.Contains(text, "payment_attempt.capture_requested") {
		t.Errorf("got %s", text)
	}
}

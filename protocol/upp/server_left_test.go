package upp_test

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/protocol/upp"
)

// slow is a core whose sales outlast the caller's patience.
type slow struct {
	memory
	hangUp context.CancelFunc
}

func (s *slow) Sell(ctx context.Context, _ payment.SaleCommand) (payment.View, error) {
	s.hangUp()
	<-ctx.Done()
	return payment.View{}, ctx.Err()
}

// A caller that hangs up is no error of the server's, and is not logged as one.
func TestACallerThatHangsUpIsNoError(t *testing.T) {
	t.Parallel()
	ctx, hangUp := context.WithCancel(t.Context())
	var log strings.Builder
	server := &upp.Server{Core: &slow{hangUp: hangUp}, Log: slog.New(slog.NewTextHandler(&log, nil))}
	req := httptest.NewRequestWithContext(ctx, "POST", "/v1/transactions", strings.NewReader(`{"transactionType":"purchase","transactionReference":"r",
		"amount":1,"currency":"aud","provider":"alipay","saleType":"customerPresentedToken","customerToken":"289661544981076259",
		"items":[{"type":"sku","itemReference":"1","name":"x","amount":1,"quantity":1}]}`))
	req.Header.Set("Authorization", "Bearer t")
	req.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	server.ServeHTTP(w, req)
	if w.Code != 499 || log.Len() != 0 {
		t.Errorf("status %d, log %q; want 499 and no line", w.Code, &log)
	}
}

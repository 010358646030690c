package iotpay_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/protocol/iotpay"
)

// clientTime is a client's clock, on which pauses pass at once.
type clientTime struct {
	mu     sync.Mutex
	at     time.Time
	pauses []time.Duration
}

func (c *clientTime) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clientTime) sleep(ctx context.Context, d time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at, c.pauses = c.at.Add(d), append(c.pauses, d)
	return ctx.Err()
}

func (r *rig) client(base string) *iotpay.Client {
	return &iotpay.Client{BaseURL: base, MchID: mchID, LoginName: loginName, Key: mustKey(keyText), HTTP: r.http}
}

func clientOrder(n string) iotpay.CreateOrder {
	return iotpay.CreateOrder{MchOrderNo: n, ChannelID: "CC_PAX", Currency: "CAD", Amount: 2865, ClientIP: "192.0.2.15", Device: "POS01",
		NotifyURL: "http://localhost", Subject: "Table 12", Body: "Dinner & more", Extra: "CC_API", Tip: 100}
}

// TestClientAgainstServer: both sides of this package.
func TestClientAgainstServer(t *testing.T) {
	t.Parallel()
	r := setup(t, func(s *settings) { s.strict = true })
	c := r.client(r.server.URL + "/")
	ctx := t.Context()
	n := number()
	paid, err := c.Pay(ctx, clientOrder(n))
	if err != nil || !paid.Status.Paid() || paid.TrxAmount != 2965 || paid.Tip != 100 || paid.Body != "Dinner & more" {
		t.Fatalf("%+v, %v", paid, err)
	}
	if x, err := paid.Card(); err != nil || x.ReceiptDisp != "000 Approved 00 Thank You" {
		t.Errorf("%+v, %v", x, err)
	}
	if q, err := c.Query(ctx, iotpay.QueryOrder{PayOrderID: paid.PayOrderID}); err != nil || *q.PayOrder != *paid.PayOrder {
		t.Errorf("%+v, %v", q, err)
	}
	refund, err := c.Refund(ctx, iotpay.RefundOrder{MchRefundNo: "R" + n, RefundAmount: 1000, ClientIP: "192.0.2.15", PayOrderID: paid.PayOrderID})
	if err != nil || refund.Status != iotpay.StatusPaid || refund.PayType != iotpay.PayTypeRefund {
		t.Fatalf("%+v, %v", refund, err)
	}
	if q, err := c.QueryRefund(ctx, iotpay.QueryRefund{MchRefundNo: "R" + n}); err != nil || q.PayOrderID != refund.PayOrderID {
		t.Errorf("%+v, %v", q, err)
	}
	qr := clientOrder(number())
	qr.ChannelID, qr.Tip = "ALIPAY_QR", 0
	shown, err := c.Create(ctx, qr)
	if err != nil || shown.QR == "" || shown.Status != iotpay.StatusCreated {
		t.Fatalf("%+v, %v", shown, err)
	}
	r.phone(t, shown.QR, "approve")
	if got, err := c.Settle(ctx, qr.MchOrderNo); err != nil || !got.Status.Paid() {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := c.Close(ctx, iotpay.QueryOrder{MchOrderNo: n}); !refusedWith(err, iotpay.CodePaid) {
		t.Errorf("close of a paid order: %v", err)
	}
	if _, err := c.Refund(ctx, iotpay.RefundOrder{MchRefundNo: number(), RefundAmount: 99999, ClientIP: "x", PayOrderID: paid.PayOrderID}); !refusedWith(err, iotpay.CodeParameter) {
		t.Errorf("refund over the rest: %v", err)
	}
	if _, err := c.Pay(ctx, iotpay.CreateOrder{MchOrderNo: number(), ChannelID: "CC_CASH"}); !errors.Is(err, payment.ErrInvalid) {
		t.Errorf("a channel that nobody has: %v", err)
	}
	stranger := r.client(r.server.URL)
	stranger.Key = mustKey("another key")
	stranger.Unverified = true
	if _, err := stranger.Pay(ctx, clientOrder(number())); !refusedWith(err, iotpay.CodeSignature) {
		t.Errorf("another key: %v", err)
	}
	r.host.declines(payment.ReasonDeclined, "05")
	if got, err := c.Pay(ctx, clientOrder(number())); err != nil || got.Status != iotpay.StatusFailed {
		t.Errorf("declined: %+v, %v", got, err)
	}
}

func refusedWith(err error, code iotpay.Code) bool {
	e, ok := errors.AsType[*iotpay.Error](err)
	return ok && e.Code == code && !errors.Is(err, iotpay.ErrOutcomeUnknown)
}

// front stands between client and server and spoils answers.
type front struct {
	*httptest.Server
	creates, queries, refunds atomic.Int64
}

func (r *rig) front(t *testing.T, spoil func(path string, count int64, w http.ResponseWriter) (done bool)) *front {
	t.Helper()
	f := &front{}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		var count int64
		switch {
		case strings.HasSuffix(q.URL.Path, "/create_order"):
			count = f.creates.Add(1)
		case strings.HasSuffix(q.URL.Path, "/query_order"):
			count = f.queries.Add(1)
		default:
			count = f.refunds.Add(1)
		}
		body, _ := io.ReadAll(q.Body)
		to, _ := http.NewRequestWithContext(q.Context(), q.Method, r.server.URL+q.URL.Path, strings.NewReader(string(body)))
		to.Header = q.Header
		if strings.HasPrefix(q.URL.Path, "/lost") || spoil("lost "+q.URL.Path, count, w) {
			return
		}
		res, err := r.http.Do(to)
		if err != nil {
			return
		}
		defer res.Body.Close()
		answer, _ := io.ReadAll(res.Body)
		if spoil(q.URL.Path, count, w) {
			return
		}
		w.WriteHeader(res.StatusCode)
		_, _ = w.Write(answer)
	}))
	t.Cleanup(f.Close)
	return f
}

// TestTimeOutRule is the seed's: a create_order that was not answered is never sent again; the order is queried every two seconds, for a
// minute at least, until it is paid.
func TestTimeOutRule(t *testing.T) {
	t.Parallel()
	cut := func(w http.ResponseWriter) { panic(http.ErrAbortHandler) }
	for name, spoil := range map[string]func(http.ResponseWriter){
		"the connection is cut": cut,
		"504":                   func(w http.ResponseWriter) { w.WriteHeader(http.StatusGatewayTimeout) },
		"a page in HTML":        func(w http.ResponseWriter) { _, _ = io.WriteString(w, "<html>busy</html>") },
		"nothing":               func(http.ResponseWriter) {},
		"an answer that somebody has changed": func(w http.ResponseWriter) {
			_, _ = io.WriteString(w, strings.Replace(vector(t, "s14-answer"), `"status":2`, `"status":9`, 1))
		},
		"an answer about another order": func(w http.ResponseWriter) { _, _ = io.WriteString(w, vector(t, "s14-answer")) },
		"a redirect": func(w http.ResponseWriter) {
			w.Header().Set("Location", "/v1/query_order")
			w.WriteHeader(http.StatusTemporaryRedirect)
		},
		"a system error": func(w http.ResponseWriter) {
			_, _ = io.WriteString(w, `{"resCode":"FAIL","retCode":"FAIL","errCode":"0010","retMsg":"system error"}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := setup(t)
			f := r.front(t, func(path string, _ int64, w http.ResponseWriter) bool {
				if path == "/v1/create_order" {
					spoil(w)
					return true
				}
				return false
			})
			c := r.client(f.URL)
			clock := &clientTime{at: time.Now()}
			c.Now, c.Sleep = clock.now, clock.sleep
			got, err := c.Pay(t.Context(), clientOrder(number()))
			if err != nil || !got.Status.Paid() {
				t.Fatalf("%+v, %v", got, err)
			}
			if f.creates.Load() != 1 || r.host.moved() != 2965 {
				t.Errorf("%d creates, moved %d", f.creates.Load(), r.host.moved())
			}
		})
	}
	t.Run("every two seconds for a minute, then more slowly, then people", func(t *testing.T) {
		t.Parallel()
		r := setup(t)
		r.pad.waits(nil) // Nobody comes.
		f := r.front(t, func(path string, _ int64, w http.ResponseWriter) bool {
			if path == "lost /v1/create_order" {
				go func() {
					_, _ = r.client(r.server.URL).Create(context.WithoutCancel(t.Context()), clientOrder("the-order"))
				}()
				within(func() bool { return r.pad.orders.Load() == 1 })
				w.WriteHeader(http.StatusGatewayTimeout)
				return true
			}
			return false
		})
		c := r.client(f.URL)
		clock := &clientTime{at: time.Now()}
		c.Now, c.Sleep = clock.now, clock.sleep
		c.SettleFor = 2 * time.Minute
		_, err := c.Pay(t.Context(), clientOrder("the-order"))
		if !errors.Is(err, iotpay.ErrOutcomeUnknown) || f.creates.Load() != 1 {
			t.Errorf("%d creates: %v", f.creates.Load(), err)
		}
		for i, pause := range clock.pauses {
			if want := 2 * time.Second; i < 30 && pause != want || i >= 30 && pause != 10*time.Second {
				t.Fatalf("pause %d is %v: %v", i, pause, clock.pauses)
			}
		}
		if n := f.queries.Load(); n != 37 {
			t.Errorf("%d queries", n)
		}
		r.stop()
	})
	t.Run("an order that never arrived", func(t *testing.T) {
		t.Parallel()
		r := setup(t)
		f := r.front(t, func(path string, _ int64, w http.ResponseWriter) bool {
			if path == "lost /v1/create_order" {
				w.WriteHeader(http.StatusBadGateway)
				return true
			}
			return false
		})
		c := r.client(f.URL)
		clock := &clientTime{at: time.Now()}
		c.Now, c.Sleep = clock.now, clock.sleep
		_, err := c.Pay(t.Context(), clientOrder(number()))
		if !refusedWith(err, iotpay.CodeNotFound) || f.creates.Load() != 1 || f.queries.Load() != 31 {
			t.Errorf("%d creates, %d queries: %v", f.creates.Load(), f.queries.Load(), err)
		}
	})
	t.Run("the till gives up", func(t *testing.T) {
		t.Parallel()
		r := setup(t)
		c := r.client("http://127.0.0.1:1")
		ctx, cancel := context.WithCancel(t.Context())
		c.Sleep = func(ctx context.Context, _ time.Duration) error { cancel(); return ctx.Err() }
		if _, err := c.Pay(ctx, clientOrder(number())); !errors.Is(err, iotpay.ErrOutcomeUnknown) || !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	})
}

// TestRefundWithoutAnswer: the refund is queried, and sent again under its number only when it is not known.
func TestRefundWithoutAnswer(t *testing.T) {
	t.Parallel()
	for name, lost := range map[string]string{"the answer is lost": "/v1/refund_order", "the request is lost": "lost /v1/refund_order"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := setup(t)
			var spoilt atomic.Bool
			f := r.front(t, func(path string, _ int64, w http.ResponseWriter) bool {
				if path == lost && spoilt.CompareAndSwap(false, true) {
					w.WriteHeader(http.StatusBadGateway)
					return true
				}
				return false
			})
			c := r.client(f.URL)
			clock := &clientTime{at: time.Now()}
			c.Now, c.Sleep = clock.now, clock.sleep
			paid, err := c.Pay(t.Context(), clientOrder(number()))
			if err != nil {
				t.Fatal(err)
			}
			refund, err := c.Refund(t.Context(), iotpay.RefundOrder{MchRefundNo: number(), RefundAmount: 65, ClientIP: "192.0.2.15", PayOrderID: paid.PayOrderID})
			if err != nil || refund.Status != iotpay.StatusPaid || r.host.moved() != 2900 {
				t.Errorf("%+v, moved %d: %v", refund, r.host.moved(), err)
			}
		})
	}
	t.Run("nothing is learned", func(t *testing.T) {
		t.Parallel()
		c := (&rig{http: http.DefaultClient}).client("http://127.0.0.1:1")
		clock := &clientTime{at: time.Now()}
		c.Now, c.Sleep = clock.now, clock.sleep
		if _, err := c.Refund(t.Context(), iotpay.RefundOrder{MchRefundNo: "R1", RefundAmount: 1, PayOrderID: "CP"}); !errors.Is(err, iotpay.ErrOutcomeUnknown) {
			t.Errorf("got %v", err)
		}
	})
}

func ExampleClient_Pay() {
	key, err := iotpay.NewKey("iotpay-test-key-0123456789ABCDEF")
	if err != nil {
		panic(err)
	}
	shop := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		order := &iotpay.PayOrder{MchOrderNo: "POS-1", Amount: 2865, Status: iotpay.StatusPaid,
			Extra: (&iotpay.Extra{ReceiptDisp: "000 Approved 00 Thank You"}).JSON()}
		p, _ := iotpay.ParseObject([]byte(`{"resCode":"SUCCESS","retCode":"SUCCESS","payOrder":` + string(order.JSON()) + `}`))
		fmt.Fprintf(w, `{"resCode":"SUCCESS","retCode":"SUCCESS","payOrder":%s,"sign":"%s"}`, order.JSON(), iotpay.Sign(p, key))
	}))
	defer shop.Close()

	c := &iotpay.Client{BaseURL: shop.URL, MchID: "10009901", LoginName: "cashier01", Key: key}
	order, err := c.Pay(context.Background(), iotpay.CreateOrder{MchOrderNo: "POS-1", ChannelID: iotpay.ChannelCard, Currency: "CAD", Amount: 2865,
		ClientIP: "192.0.2.15", NotifyURL: "http://localhost", Subject: "Table 12", Body: "Dinner", Extra: "CC_API"})
	if err != nil {
		panic(err)
	}
	receipt, err := order.Card()
	if err != nil {
		panic(err)
	}
	fmt.Println(order.Status.Paid(), receipt.ReceiptDisp)
	// Output: true 000 Approved 00 Thank You
}

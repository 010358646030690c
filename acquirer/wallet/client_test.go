package wallet

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tillgate/tillgate/money"
)

var (
	aud  = money.MustCurrency("AUD")
	sale = money.New(8640, aud)
)

const approvedAnswer = `{"reference":"r-1","id":"wp000000000001","state":"approved","amount_minor":8640,"currency":"AUD","wallet":"alipay",
	"attach":"a","payer_id":"2088000000000017","provider_reference":"2026041422000000000000000001","paid_at_ms":1776136961000,
	"exchange":{"rate":"4.73150000","currency":"cny","amount_minor":40880},"new_field":[1]}`

// setup starts a network that answers every call with h.
func setup(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return &Client{BaseURL: srv.URL, Key: "k", HTTP: srv.Client()}
}

func answering(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func pay(ctx context.Context, c *Client) (Payment, error) {
	return c.Pay(ctx, PayRequest{Reference: "r-1", MerchantID: "m", MerchantName: "Shop", Amount: sale, Wallet: "alipay", Flow: FlowCode,
		Code: "287214405518860000", Attach: "a", Lifetime: 5 * time.Minute})
}

func TestRequestsOnTheWire(t *testing.T) {
	t.Parallel()
	var got string
	c := setup(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = fmt.Sprintf("%s %s %s %s", r.Method, r.URL.RequestURI(), r.Header.Get("Authorization"), body)
		w.WriteHeader(http.StatusTeapot)
	})
	ctx := t.Context()
	for _, tt := range []struct {
		name string
		call func()
		want string
	}{
		{"pay", func() { _, _ = pay(ctx, c) }, `POST /v1/payments Bearer k {"reference":"r-1","merchant_id":"m","merchant_name":"Shop",` +
			`"amount_minor":8640,"currency":"AUD","wallet":"alipay","flow":"code","code":"287214405518860000","attach":"a","lifetime_ms":300000}`},
		{"pay on a website", func() {
			_, _ = c.Pay(ctx, PayRequest{Reference: "r-2", MerchantID: "m", MerchantName: "Shop", Amount: sale, Wallet: "zippay", Flow: FlowWeb,
				ReturnURL: "https://shop.example.test/back?order=7&x=%20"})
		}, `POST /v1/payments Bearer k {"reference":"r-2","merchant_id":"m","merchant_name":"Shop","amount_minor":8640,"currency":"AUD",` +
			`"wallet":"zippay","flow":"web","return_url":"https://shop.example.test/back?order=7\u0026x=%20"}`},
		{"query", func() { _, _ = c.Payment(ctx, "r-1", sale) }, `GET /v1/payments/r-1 Bearer k `},
		{"cancel", func() { _, _ = c.Cancel(ctx, "r-1", sale, true) }, `POST /v1/payments/r-1/cancel Bearer k {"only_if_unpaid":true}`},
		{"refund", func() { _, _ = c.Refund(ctx, RefundRequest{"f-1", "r-1", money.New(2000, aud), ""}) },
			`POST /v1/refunds Bearer k {"reference":"f-1","original_reference":"r-1","amount_minor":2000,"currency":"AUD"}`},
		{"refund query", func() { _, _ = c.RefundStatus(ctx, "f-1", "r-1", money.New(2000, aud)) }, `GET /v1/refunds/f-1 Bearer k `},
		{"events", func() { _, _ = c.Events(ctx, "e", 7, 2*time.Second) }, `GET /v1/events?after=7&epoch=e&wait_ms=2000 Bearer k `},
		{"a reference that is no path segment", func() { _, _ = c.Payment(ctx, "a/../b?c", sale) }, `GET /v1/payments/a%2F..%2Fb%3Fc Bearer k `},
	} {
		if tt.call(); got != tt.want {
			t.Errorf("%s:\n got %s\nwant %s", tt.name, got, tt.want)
		}
	}
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	p, err := pay(t.Context(), setup(t, answering(200, approvedAnswer)))
	want := Payment{Reference: "r-1", ID: "wp000000000001", State: Approved, Amount: sale, Wallet: "alipay", Attach: "a",
		PayerID: "2088000000000017", ProviderReference: "2026041422000000000000000001", PaidAt: time.UnixMilli(1776136961000).UTC(),
		Exchange: &Exchange{"4.73150000", "cny", 40880}}
	if err != nil || !reflect.DeepEqual(p, want) {
		t.Errorf("pay: got %+v, %v; want %+v", p, err, want)
	}

	p, err = pay(t.Context(), setup(t, answering(200, `{"reference":"r-1","id":"wp1","state":"waiting","amount_minor":8640,"currency":"AUD",
		"wallet":"alipay","attach":"a","redirect_url":"https://phone.example.test/pay/x"}`)))
	want = Payment{Reference: "r-1", ID: "wp1", State: Waiting, Amount: sale, Wallet: "alipay", Attach: "a", RedirectURL: "https://phone.example.test/pay/x"}
	if err != nil || p != want {
		t.Errorf("pay on a website: got %+v, %v; want %+v", p, err, want)
	}

	p, err = setup(t, answering(200, `{"reference":"r-1","state":"cancelled","unseen":true}`)).Cancel(t.Context(), "r-1", sale, false)
	if want := (Payment{Reference: "r-1", State: Cancelled, Unseen: true}); err != nil || p != want {
		t.Errorf("cancel of an unseen reference: got %+v, %v; want %+v", p, err, want)
	}

	r, err := setup(t, answering(200, `{"reference":"f-1","original_reference":"r-1","state":"declined","reason":"refund_exceeds","amount_minor":8640,
		"currency":"AUD","attach":"","exchange":null}`)).RefundStatus(t.Context(), "f-1", "r-1", sale)
	if want := (Refund{Reference: "f-1", Original: "r-1", State: Declined, Reason: "refund_exceeds", Amount: sale}); err != nil || r != want {
		t.Errorf("refund: got %+v, %v; want %+v", r, err, want)
	}

	e, err := setup(t, answering(200, `{"epoch":"x","next":9,"events":[{"seq":9,"kind":"payment","reference":"r-1","attach":"a","state":"approved"}]}`)).
		Events(t.Context(), "x", 8, 0)
	if want := (Events{Epoch: "x", Next: 9, Events: []Event{{9, KindPayment, "r-1", "a", Approved}}}); err != nil || !reflect.DeepEqual(e, want) {
		t.Errorf("events: got %+v, %v; want %+v", e, err, want)
	}
}

// TestNoAnswer holds that whatever is not the network's plain word on this payment is an unknown outcome, of payments and queries alike.
func TestNoAnswer(t *testing.T) {
	t.Parallel()
	change := func(from, to string) http.HandlerFunc {
		return answering(200, strings.Replace(approvedAnswer, from, to, 1))
	}
	for name, h := range map[string]http.HandlerFunc{
		"an empty answer":            answering(200, ""),
		"bytes that are not JSON":    answering(200, "{\"state\":\"appr\x00"),
		"JSON that is cut":           answering(200, approvedAnswer[:len(approvedAnswer)-1]),
		"two JSON values":            answering(200, approvedAnswer+"{}"),
		"a list":                     answering(200, "["+approvedAnswer+"]"),
		"null":                       answering(200, "null"),
		"an answer that is too long": answering(200, approvedAnswer+strings.Repeat(" ", answerMax)),
		"another reference":          change(`"r-1"`, `"r-2"`),
		"another amount":             change(`8640`, `8641`),
		"an amount with a point":     change(`8640`, `8640.5`),
		"an amount as text":          change(`8640`, `"8640"`),
		"no amount":                  change(`"amount_minor":8640,`, ``),
		"another currency":           change(`AUD`, `NZD`),
		"an unknown state":           change(`approved`, `authorised`),
		"a state in capitals":        change(`approved`, `APPROVED`),
		"a name in capitals":         change(`"state"`, `"STATE"`),
		"two states":                 change(`"state"`, `"state":"declined","state"`),
		"unseen but approved":        change(`"state"`, `"unseen":true,"state"`),
		"a broken exchange":          change(`40880`, `[]`),
		"HTTP 201":                   answering(201, approvedAnswer),
		"HTTP 500":                   answering(500, `{"error":"internal","text":""}`),
		"HTTP 503":                   answering(503, approvedAnswer),
		"HTTP 408":                   answering(408, `{"error":"timeout","text":""}`),
		"a page for HTTP 404":        answering(404, `<html>`),
		"JSON of others for 403":     answering(403, `{"message":"blocked"}`),
		"a cut connection":           func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"a cut in the middle": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "5000")
			_, _ = io.WriteString(w, approvedAnswer)
			panic(http.ErrAbortHandler)
		},
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/elsewhere" {
				t.Error("the redirect was followed")
			}
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := setup(t, h)
			if p, err := pay(t.Context(), c); !only(err, ErrNoAnswer) || p != (Payment{}) {
				t.Errorf("pay: got %+v, %v; want ErrNoAnswer", p, err)
			}
			if p, err := c.Payment(t.Context(), "r-1", sale); !only(err, ErrNoAnswer) || p != (Payment{}) {
				t.Errorf("query: got %+v, %v; want ErrNoAnswer", p, err)
			}
			if r, err := c.RefundStatus(t.Context(), "r-1", "r-0", sale); !only(err, ErrNoAnswer) || r != (Refund{}) {
				t.Errorf("refund query: got %+v, %v; want ErrNoAnswer", r, err)
			}
		})
	}
}

// only reports whether an error is of exactly one of our kinds.
func only(err, want error) bool {
	var refused *RefusedError
	kinds := 0
	for _, kind := range []error{ErrNotSent, ErrNotFound, ErrNoAnswer} {
		if errors.Is(err, kind) {
			kinds++
		}
	}
	if errors.As(err, &refused) {
		kinds++
	}
	return kinds == 1 && errors.Is(err, want)
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	_, err := setup(t, answering(404, `{"error":"not_found","text":"?"}`)).Payment(t.Context(), "r-1", sale)
	if !only(err, ErrNotFound) {
		t.Errorf("not found: got %v", err)
	}
	for _, tt := range []struct {
		status     int
		code, text string
	}{
		{400, "invalid_request", "currency: no"},
		{401, "unauthorized", "key"},
		{404, "no_such_call", "?"}, // A wrong address says nothing of the payment.
		{409, "reference_conflict", ""},
	} {
		_, err := pay(t.Context(), setup(t, answering(tt.status, fmt.Sprintf(`{"error":%q,"text":%q}`, tt.code, tt.text))))
		var no *RefusedError
		if !errors.As(err, &no) || !only(err, no) || *no != (RefusedError{tt.status, tt.code, tt.text}) {
			t.Errorf("%s: got %v", tt.code, err)
		}
	}
}

func TestSilenceIsNoAnswer(t *testing.T) {
	t.Parallel()
	c := setup(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := pay(ctx, c)
	if !only(err, ErrNoAnswer) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want ErrNoAnswer for the deadline", err)
	}
}

func TestNotSent(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	refusing := &Client{BaseURL: "http://" + l.Addr().String(), Key: "k"}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	hanging := &Client{BaseURL: "http://wallet.invalid", Key: "k", HTTP: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() },
	}}}
	short, stop := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer stop()
	for _, tt := range []struct {
		name string
		ctx  context.Context
		c    *Client
	}{
		{"nobody listens", t.Context(), refusing},
		{"the caller had left before", gone, setup(t, answering(200, approvedAnswer))},
		{"the dial never ends", short, hanging},
		{"the address is none", t.Context(), &Client{BaseURL: "http://\x7f", Key: "k"}},
		{"the key is no header", t.Context(), &Client{BaseURL: refusing.BaseURL, Key: "a\nb"}},
	} {
		if _, err := pay(tt.ctx, tt.c); !only(err, ErrNotSent) {
			t.Errorf("%s: got %v, want ErrNotSent", tt.name, err)
		}
	}
}

// TestNeverSentTwice answers once on a connection and then cuts it on the second request, which is where net/http would repeat.
func TestNeverSentTwice(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var requests atomic.Int32
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer func() { _ = conn.Close() }()
				in := bufio.NewReader(conn)
				for n := 0; ; n++ {
					req, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, req.Body)
					requests.Add(1)
					if n == 1 {
						return
					}
					_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(approvedAnswer), approvedAnswer)
				}
			})
		}
	})
	c := &Client{BaseURL: "http://" + l.Addr().String(), Key: "k", HTTP: &http.Client{Transport: &http.Transport{}}}
	if _, err := pay(t.Context(), c); err != nil {
		t.Fatalf("first: %v", err)
	}
	if _, err := pay(t.Context(), c); !only(err, ErrNoAnswer) {
		t.Errorf("second: got %v, want ErrNoAnswer", err)
	}
	if n := requests.Load(); n != 2 {
		t.Errorf("the network saw %d requests, want 2", n)
	}
	_ = l.Close()
	c.HTTP.CloseIdleConnections()
	serving.Wait()
}

func FuzzDecodePayment(f *testing.F) {
	for _, seed := range []string{
		approvedAnswer,
		`{"reference":"r-1","state":"cancelled","unseen":true}`,
		`{"reference":"r-1","state":"declined","state":"approved","amount_minor":8640,"currency":"AUD"}`,
		`{"reference":"r-1","State":"approved","amount_minor":8640,"currency":"AUD","exchange":{"rate":1}}`,
		`{"reference":"r-1","state":"approved","amount_minor":86400e-1,"currency":"AUD"}`,
		`[]`, `{`, `null`, "\x00",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		p, err := decodePayment(body, "r-1", sale)
		if err == nil && p.State == Approved {
			in, err := decodeObject(body)
			if err != nil || in.text("state") != "approved" || in.text("reference") != "r-1" || in.number("amount_minor") != 8640 || in.text("currency") != "AUD" || in.err != nil {
				t.Errorf("approved by %q", body)
			}
			if p.Amount != sale || p.Reference != "r-1" || p.Unseen {
				t.Errorf("approved as %+v by %q", p, body)
			}
		}
		if r, err := decodeRefund(body, "f-1", "r-1", sale); err == nil && r.State == Approved && r.Amount != sale {
			t.Errorf("refunded as %+v by %q", r, body)
		}
		_, _ = decodeEvents(body) // It must not panic.
	})
}

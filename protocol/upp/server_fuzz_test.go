package upp_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/protocol/upp"
)

// memory is a core that approves everything and remembers it.
type memory struct {
	mu   sync.Mutex
	next payment.ID
	rows map[payment.Key]*memoryRow
}

type memoryRow struct {
	request []byte
	view    payment.View
	refund  *payment.Operation
}

var _ upp.Core = (*memory)(nil)

func (m *memory) Caller(context.Context, string, string) (payment.Caller, error) {
	return payment.Caller{Merchant: payment.Merchant{ID: 1, PublicID: "740218", CompanyName: "Harbour Outdoor Pty Ltd", Name: "Harbour Outdoor Geelong"},
		Terminal: payment.Terminal{ID: 1, PublicID: "3"}}, nil
}

func (m *memory) Sell(_ context.Context, cmd payment.SaleCommand) (payment.View, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if row := m.rows[cmd.Key]; row != nil {
		if row.refund != nil || !bytes.Equal(row.request, cmd.Request) {
			return payment.View{}, &payment.KeyReusedError{Payment: row.view.Payment, Refund: row.refund}
		}
		return row.view, nil
	}
	m.next++
	now := time.UnixMilli(1776136960551)
	p := payment.Payment{ID: m.next, Merchant: 1, State: payment.Captured, Numbering: cmd.Numbering, Amount: cmd.Amount, Captured: cmd.Amount.Minor(),
		Method: cmd.Method, CreatedAt: now, ModifiedAt: now, PaidAt: now, Day: 20260414, Echo: cmd.Echo}
	v := payment.View{Payment: p, Attempt: payment.Operation{ID: m.next, State: payment.Approved, SettledAt: now,
		Result: payment.Result{ProviderReference: "2026041422001400000000000058", PayerID: "2088000000000017"}}}
	m.rows[cmd.Key] = &memoryRow{request: cmd.Request, view: v}
	return v, nil
}

func (m *memory) Refund(_ context.Context, cmd payment.RefundCommand) (payment.RefundView, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if row := m.rows[cmd.Key]; row != nil {
		return payment.RefundView{}, &payment.KeyReusedError{Payment: row.view.Payment, Refund: row.refund}
	}
	original := m.rows[cmd.Original]
	switch {
	case original == nil:
		return payment.RefundView{}, payment.ErrNotFound
	case original.refund != nil:
		return payment.RefundView{}, payment.ErrNotPaid
	case original.view.Payment.Amount.Currency() != cmd.Amount.Currency():
		return payment.RefundView{}, payment.ErrCurrency
	}
	m.next++
	op := payment.Operation{ID: m.next, Kind: payment.Refund, State: payment.Approved, Number: original.view.Payment.Numbering.Number(m.next),
		Amount: cmd.Amount, CreatedAt: time.UnixMilli(1776211863120), SettledAt: time.UnixMilli(1776211864902), Day: 20260415, Echo: cmd.Echo}
	m.rows[cmd.Key] = &memoryRow{view: original.view, refund: &op}
	return payment.RefundView{Payment: original.view.Payment, Refund: op}, nil
}

func (m *memory) Cancel(_ context.Context, cmd payment.CancelCommand) (payment.View, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	row := m.rows[cmd.Key]
	switch {
	case row == nil:
		return payment.View{}, payment.ErrNotFound
	case row.refund != nil:
		return payment.View{}, payment.ErrWrongKind
	}
	p := &row.view.Payment
	p.State, p.Failure, p.FailureText = payment.Cancelled, payment.ReasonCancelled, "Cancelled by the merchant."
	return row.view, nil
}

func (m *memory) Find(_ context.Context, _ payment.MerchantID, key payment.Key) (payment.View, *payment.Operation, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	row := m.rows[key]
	if row == nil {
		return payment.View{}, nil, payment.ErrNotFound
	}
	return row.view, row.refund, nil
}

func (m *memory) Await(context.Context, payment.MerchantID, payment.ID, time.Duration, func(payment.View) bool) (payment.View, error) {
	panic("everything is final here")
}

func (m *memory) AwaitRefund(context.Context, payment.MerchantID, payment.ID, payment.ID, time.Duration, func(payment.RefundView) bool) (payment.RefundView, error) {
	panic("everything is final here")
}

func (m *memory) Watch(context.Context, payment.MerchantID, payment.ID, time.Duration, func(payment.View) bool, func(payment.View, error)) func() {
	panic("everything is final here")
}

func (m *memory) WatchRefund(context.Context, payment.MerchantID, payment.ID, payment.ID, time.Duration, func(payment.RefundView) bool, func(payment.RefundView, error)) func() {
	panic("everything is final here")
}

// FuzzServer sends any bytes to any path. The server never fails, always answers in JSON without null, and reads back what it answered.
func FuzzServer(f *testing.F) {
	vectors, err := filepath.Glob(filepath.Join("testdata", "*.txt"))
	if err != nil || len(vectors) == 0 {
		f.Fatalf("vectors: %v, %v", vectors, err)
	}
	for _, file := range vectors {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		_, body, _ := strings.Cut(string(text), "\n\n")
		f.Add("POST", "/v1/transactions", []byte(body))
	}
	f.Add("GET", "/api/v1/transactions/x?waitForCompletion=true", []byte(nil))
	f.Add("POST", "/api//v1/transactions/%2E%2E/cancel/", []byte("{}"))
	f.Add("POST", "/v1/transactions/%FF%00/cancel", []byte(`{"a":[null]}`))
	f.Add("HEAD", "/v1/transactions", []byte("x"))
	f.Add("POST", "/v1/transactions", []byte(purchase("a/b").json()))
	f.Add("POST", "/v1/transactions", []byte(refundOf("a/b", "c").json()))

	f.Fuzz(func(t *testing.T, method, path string, body []byte) {
		u, err := url.ParseRequestURI(path)
		if err != nil || !strings.HasPrefix(path, "/") {
			return // net/http refuses it before it gets here.
		}
		s := &upp.Server{Core: &memory{rows: map[payment.Key]*memoryRow{}}, Log: slog.New(slog.DiscardHandler)}
		exchange := func(method string, u *url.URL, body []byte) (int, object) {
			q := &http.Request{Method: method, URL: u, Header: http.Header{"Authorization": {"Bearer x"}, "Content-Type": {"application/json"}},
				Body: io.NopCloser(bytes.NewReader(body)), RemoteAddr: "203.0.113.20:1234", Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}
			w := httptest.NewRecorder()
			s.ServeHTTP(w, q.WithContext(t.Context()))
			if got := w.Header().Get("Content-Type"); got != "application/json" {
				t.Errorf("%s %s: Content-Type %q", method, u, got)
			}
			d := json.NewDecoder(w.Body)
			d.UseNumber()
			var answer object
			if err := d.Decode(&answer); err != nil || d.Decode(new(any)) != io.EOF {
				t.Fatalf("%s %s: %d: not one JSON object: %v", method, u, w.Code, err)
			}
			if at := findNull("", map[string]any(answer)); at != "" {
				t.Errorf("%s %s: null at %s", method, u, at)
			}
			if w.Code >= 500 || w.Code >= 400 && (answer["failure"] == nil || answer["failureDescription"] == nil) {
				t.Errorf("%s %s: %d %v", method, u, w.Code, answer)
			}
			return w.Code, answer
		}
		status, created := exchange(method, u, body)
		if status != http.StatusOK {
			return
		}
		text, ok := created["transactionReference"].(string)
		if !ok {
			t.Fatalf("200 without a reference: %v", created)
		}
		one := &url.URL{Path: "/v1/transactions/" + text, RawPath: "/v1/transactions/" + escape(text)}
		status, fetched := exchange(http.MethodGet, one, nil)
		if status != http.StatusOK || object(fetched).json() != object(created).json() {
			t.Errorf("fetch: %d %v, want %v", status, fetched, created)
		}
		if status, _ := exchange(method, u, body); status != http.StatusOK && created["transactionType"] == "purchase" {
			t.Errorf("resend: %d", status)
		}
	})
}

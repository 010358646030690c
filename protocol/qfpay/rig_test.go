package qfpay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
)

// The keys of the reference's vectors (§9.2).
const (
	textK16 = "Qz7mT4xLw9RbN2vK"
	textK32 = "f46b1f08bec1f39104792cc79ec9aacd"
)

var (
	k16 = mustKey(textK16)
	k32 = mustKey(textK32)

	// morning is when everything in these tests happens, in Hong Kong: 2026-01-02 15:04:06.
	morning = time.Date(2026, 1, 2, 7, 4, 6, 0, time.UTC)
)

func mustKey(text string) POSKey {
	k, err := NewPOSKey(text)
	if err != nil {
		panic(err)
	}
	return k
}

func dollars(text string) money.Amount {
	a, err := money.Parse(text, hkd)
	if err != nil {
		panic(err)
	}
	return a
}

// scriptedDesk is a terminal that does as it is told. Its zero functions approve.
type scriptedDesk struct {
	mu       sync.Mutex
	trades   []Trade
	sales    []SaleRequest
	refunds  []RefundRequest
	printed  []string
	cancels  map[string]chan struct{}
	started  chan SaleRequest // When set, told of every sale.
	onSale   func(ctx context.Context, d *scriptedDesk, r SaleRequest, cancelled <-chan struct{}) (Trade, error)
	onRefund func(ctx context.Context, r RefundRequest) (Trade, error)
	onCancel func(order string) error
	onFind   func(r InquiryRequest) (Trade, error)
	onPrint  func() error
}

func (d *scriptedDesk) register(order string) <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cancels == nil {
		d.cancels = make(map[string]chan struct{})
	}
	d.cancels[order] = make(chan struct{})
	return d.cancels[order]
}

func (d *scriptedDesk) unregister(order string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.cancels, order)
}

func (d *scriptedDesk) keep(t Trade) Trade {
	d.mu.Lock()
	defer d.mu.Unlock()
	t.Number = fmt.Sprintf("2026010215540002%010d", 123+len(d.trades))
	t.Reference = fmt.Sprintf("20260102%08d", 42+len(d.trades))
	t.CreatedAt = morning
	d.trades = append(d.trades, t)
	return t
}

// approved is the trade of a sale that was paid.
func approved(r SaleRequest) Trade {
	t := Trade{OutTradeNo: r.OutTradeNo, Amount: r.Amount, Channel: r.Channel, Flow: r.Flow, Outcome: payment.OutcomeApproved, PaidAt: morning.Add(time.Second)}
	if t.Flow == "" {
		t.Flow = payment.ByCode
	}
	if r.Channel.IsCard() {
		t.Batch, t.Card = "260102", Card{Masked: "400000******0002", Scheme: "visa", Kind: "credit"}
	}
	if r.Channel == OctopusPay {
		t.Octopus = Octopus{OrderID: "O-1", CardNumber: "12345678"}
	}
	return t
}

func (d *scriptedDesk) Sale(ctx context.Context, r SaleRequest) (Trade, error) {
	cancelled := d.register(r.Order)
	defer d.unregister(r.Order)
	d.mu.Lock()
	d.sales = append(d.sales, r)
	for _, t := range d.trades {
		if r.OutTradeNo != "" && t.OutTradeNo == r.OutTradeNo && t.Outcome == payment.OutcomeApproved {
			d.mu.Unlock()
			return Trade{}, payment.ErrKeyReused
		}
	}
	d.mu.Unlock()
	if d.started != nil {
		d.started <- r
	}
	if d.onSale != nil {
		return d.onSale(ctx, d, r, cancelled)
	}
	return d.keep(approved(r)), nil
}

// waitForCard is a sale whose customer never comes.
func waitForCard(ctx context.Context, d *scriptedDesk, r SaleRequest, cancelled <-chan struct{}) (Trade, error) {
	t := Trade{OutTradeNo: r.OutTradeNo, Amount: r.Amount, Channel: r.Channel, Flow: r.Flow, Outcome: payment.OutcomeDeclined}
	select {
	case <-cancelled:
		t.Reason = payment.ReasonCancelled
	case <-ctx.Done():
		t.Reason = payment.ReasonExpired
	}
	return t, nil
}

func (d *scriptedDesk) Refund(ctx context.Context, r RefundRequest) (Trade, error) {
	d.mu.Lock()
	d.refunds = append(d.refunds, r)
	d.mu.Unlock()
	if d.onRefund != nil {
		return d.onRefund(ctx, r)
	}
	sale, err := d.Inquiry(ctx, InquiryRequest{Number: r.Original})
	if err != nil {
		return Trade{}, err
	}
	amount := r.Amount
	if amount.IsZero() {
		amount, _ = sale.Amount.Sub(sale.Refunded)
	}
	d.mu.Lock()
	for i := range d.trades {
		if d.trades[i].Number == sale.Number {
			d.trades[i].Refunded, _ = amount.Add(money.New(sale.Refunded.Minor(), hkd))
		}
	}
	d.mu.Unlock()
	return d.keep(Trade{Refund: true, OutTradeNo: "R1", Amount: amount, Channel: sale.Channel, Flow: sale.Flow, Outcome: payment.OutcomeApproved,
		Original: sale.Number, OriginalAmount: sale.Amount, PaidAt: morning.Add(time.Hour)}), nil
}

func (d *scriptedDesk) Cancel(_ context.Context, order string) error {
	if d.onCancel != nil {
		return d.onCancel(order)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	c, ok := d.cancels[order]
	if !ok {
		return ErrNotRunning
	}
	close(c)
	delete(d.cancels, order)
	return nil
}

func (d *scriptedDesk) Inquiry(_ context.Context, r InquiryRequest) (Trade, error) {
	if d.onFind != nil {
		return d.onFind(r)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := len(d.trades) - 1; i >= 0; i-- {
		t := d.trades[i]
		if r.Number != "" && (t.Number == r.Number || t.OutTradeNo == r.Number) || r.Number == "" && t.OutTradeNo == r.OutTradeNo {
			return t, nil
		}
	}
	return Trade{}, payment.ErrNotFound
}

func (d *scriptedDesk) Summary(context.Context) (Summary, error) {
	return Summary{Day: 20260102, Totals: []Total{{Channel: CardPayment, Sales: 2, SalesSum: dollars("20"), Refunds: 1, RefundsSum: dollars("5")}}}, nil
}

func (d *scriptedDesk) PrintReceipt(_ context.Context, t Trade) error {
	return d.print("receipt " + t.Number)
}

func (d *scriptedDesk) PrintSummary(_ context.Context, s Summary) error {
	return d.print("summary\n" + strings.Join(s.Lines(32), "\n"))
}

func (d *scriptedDesk) print(text string) error {
	if d.onPrint != nil {
		if err := d.onPrint(); err != nil {
			return err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.printed = append(d.printed, text)
	return nil
}

func (d *scriptedDesk) Identity() Identity {
	return Identity{MerchantName: "Demo Shop", StoreID: "1000000001", TerminalID: "235CAAAA0503", DeviceID: "860000000000001", Address: "HK", Operator: "Store Account"}
}

func (d *scriptedDesk) saleCount() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.sales)
}

// fixedKeys are keys that a test may change.
type fixedKeys struct {
	mu  sync.Mutex
	set KeySet
}

func (k *fixedKeys) KeySet() KeySet {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.set
}

func (k *fixedKeys) change(set KeySet) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.set = set
}

// lockedBuffer is a log that several goroutines write.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// rig is a server with a scripted terminal behind it.
type rig struct {
	t      *testing.T
	desk   *scriptedDesk
	keys   *fixedKeys
	server *Server
	logs   *lockedBuffer
}

func setup(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, desk: &scriptedDesk{}, keys: &fixedKeys{set: KeySet{Keys: []POSKey{k16}, Encryption: EncryptionAuto}}, logs: &lockedBuffer{}}
	r.server = &Server{Desk: r.desk, Keys: r.keys, Log: slog.New(slog.NewTextHandler(r.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Now: func() time.Time { return morning.Add(354 * time.Second) }, FaultPause: time.Millisecond}
	t.Cleanup(func() {
		ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
		defer stop()
		if err := r.server.Wait(ctx); err != nil {
			t.Errorf("an order is still running: %v", err)
		}
	})
	return r
}

// link serves a link until the test ends, and fails the test if it does not stop.
func (r *rig) serve(run func(context.Context) error) {
	r.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	r.t.Cleanup(func() {
		stop()
		select {
		case err := <-ended:
			if err != nil && !errors.Is(err, io.EOF) {
				r.t.Errorf("link: %v", err)
			}
		case <-time.After(5 * time.Second):
			r.t.Error("the link does not stop")
		}
	})
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// http serves HTTP and returns its address.
func (r *rig) http() string {
	l := listen(r.t)
	r.serve(func(ctx context.Context) error { return (&HTTPLink{Server: r.server}).Serve(ctx, l) })
	return "http://" + l.Addr().String()
}

func (r *rig) tcp() string {
	l := listen(r.t)
	r.serve(func(ctx context.Context) error { return (&TCPLink{Server: r.server}).Serve(ctx, l) })
	return l.Addr().String()
}

// post sends a body to the handler and returns what it answers.
func (r *rig) post(path, body string) (*httptest.ResponseRecorder, string) {
	r.t.Helper()
	w := httptest.NewRecorder()
	q := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	(&HTTPLink{Server: r.server}).ServeHTTP(w, q)
	return w, w.Body.String()
}

// plain is a plain envelope about a content in the grammar of §2.5, with its digest.
func plain(t *testing.T, content string) string {
	t.Helper()
	return string(seal(t, FormPlain, content, k16, KeyUTF8))
}

func seal(t *testing.T, form Form, content string, key POSKey, mode KeyMode) []byte {
	t.Helper()
	members, err := parseObject(content)
	if err != nil {
		t.Fatalf("%s: %v", content, err)
	}
	body, err := sealRequest(form, members, key, mode)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// ask sends a plain content over HTTP and returns the answer.
func (r *rig) ask(content string) Response {
	r.t.Helper()
	members, err := parseObject(content)
	if err != nil {
		r.t.Fatal(err)
	}
	f := &fields{members: members}
	_, body := r.post(FuncType(f.integer("func_type", 0)).Path(), plain(r.t, content))
	return r.read([]byte(body))
}

func (r *rig) read(body []byte) Response {
	r.t.Helper()
	answer, err := openAnswer(body, []byte(textK16))
	if err != nil {
		r.t.Fatalf("%q: %v", body, err)
	}
	return answer
}

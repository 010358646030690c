package upay_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tillgate/tillgate/protocol/upay"
	"github.com/tillgate/tillgate/terminal"
)

// keeper keeps an identity in memory.
type keeper struct {
	mu   sync.Mutex
	id   upay.Identity
	fail error
}

func (k *keeper) Identity(context.Context) (upay.Identity, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.id, nil
}

func (k *keeper) Keep(_ context.Context, id upay.Identity) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fail == nil {
		k.id = id
	}
	return k.fail
}

// lapse is a clock whose sleeps are over at once.
type lapse struct {
	mu sync.Mutex
	at time.Duration
}

func (l *lapse) now() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Unix(1717203600, 0).Add(l.at)
}

func (l *lapse) sleep(ctx context.Context, d time.Duration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.at += d
	return ctx.Err()
}

// drop is the answer that never comes.
const drop = "drop"

func biz(outcome, code, data string) string {
	if data == "" {
		data = "null"
	}
	return `{"result_code":"200","error_code":"","error_message":"","biz_response":{"result_code":"` + outcome + `","error_code":"` + code + `","error_message":"m","data":` + data + `}}`
}

func orderIs(status, order string) string {
	return `{"sn":"7899000000000001","client_sn":"T1","status":"` + status + `","order_status":"` + order + `","total_amount":"1250","net_amount":"1250"}`
}

func queried(status, order string) string { return biz("SUCCESS", "", orderIs(status, order)) }

func refusedWith(result, code string) string {
	return `{"result_code":"` + result + `","error_code":"` + code + `","error_message":"m","biz_response":null}`
}

// provider is a scripted Upay: for each operation its answers in order, the last one again and again. It notes when it was asked what.
type provider struct {
	t       *testing.T
	clock   lapse
	mu      sync.Mutex
	answers map[string][]string
	calls   []string // "2s query"
	began   time.Time
}

func (p *provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		p.t.Error(err)
	}
	name := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	if sn, sign, ok := upay.ParseAuthorization(r.Header.Get("Authorization")); !ok || sn != "1009" || !upay.Verify(body, sign, terminal.NewSecret(k1)) {
		p.t.Errorf("%s is not signed: %s", name, body)
	}
	p.mu.Lock()
	p.calls = append(p.calls, fmt.Sprintf("%.0fs %s", p.clock.now().Sub(p.began).Seconds(), name))
	list := p.answers[name]
	if len(list) > 1 {
		p.answers[name] = list[1:]
	}
	p.mu.Unlock()
	switch {
	case len(list) == 0:
		p.t.Errorf("%s is not expected: %s", name, body)
	case list[0] == drop:
		panic(http.ErrAbortHandler)
	}
	_, _ = io.WriteString(w, list[0])
}

func (p *provider) count(name string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, c := range p.calls {
		if strings.HasSuffix(c, " "+name) {
			n++
		}
	}
	return n
}

// all are the calls so far.
func (p *provider) all() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.calls, ", ")
}

func scripted(t *testing.T, answers map[string][]string) (*provider, *upay.Client) {
	t.Helper()
	p := &provider{t: t, answers: answers}
	p.began = p.clock.now()
	server := httptest.NewUnstartedServer(p)
	server.Config.ErrorLog = nil
	server.Start()
	t.Cleanup(server.Close)
	return p, &upay.Client{BaseURL: server.URL + "/", Keeper: &keeper{id: upay.Identity{TerminalSN: "1009", Key: terminal.NewSecret(k1)}},
		HTTP: server.Client(), Now: p.clock.now, Sleep: p.clock.sleep}
}

var payment1 = upay.PayRequest{Order: upay.Order{ClientSN: "T1", TotalAmount: 1250, Subject: "s"}, DynamicID: alipayCode}

const notExists = "UPAY_ORDER_NOT_EXISTS"

// TestTakePayment is where existing integrations lose money: everything that can happen between a pay and knowing what became of it.
func TestTakePayment(t *testing.T) {
	t.Parallel()
	created := queried("IN_PROG", "CREATED")
	paid := queried("SUCCESS", "PAID")
	for _, c := range []struct {
		name    string
		answers map[string][]string
		done    bool
		err     error // ErrUncertain, ErrNumberUsed, or errRefused.
		code    upay.ErrorCode
		calls   string // All, or the last ones behind "…".
	}{
		{"paid at once", map[string][]string{"pay": {biz("PAY_SUCCESS", "", orderIs("SUCCESS", "PAID"))}}, true, nil, "", "0s pay"},
		{"declined", map[string][]string{"pay": {biz("PAY_FAIL", "INSUFFICIENT_FUND", orderIs("FAIL_CANCELED", "PAY_CANCELED"))}}, false, nil, "INSUFFICIENT_FUND", "0s pay"},
		{"declined without data", map[string][]string{"pay": {biz("PAY_FAIL", "INVALID_BARCODE", "")}}, false, nil, "INVALID_BARCODE", "0s pay"},
		{"refused", map[string][]string{"pay": {biz("FAIL", "INVALID_BARCODE", "")}}, false, nil, "INVALID_BARCODE", "0s pay"},
		{"number used", map[string][]string{"pay": {biz("FAIL", "CLIENT_SN_CONFLICT", "")}}, false, upay.ErrNumberUsed, "", "0s pay"},
		{"request refused", map[string][]string{"pay": {refusedWith("400", "INVALID_PARAMS")}}, false, errRefused, "", "0s pay"},

		{"lost answer, paid", map[string][]string{"pay": {drop}, "query": {paid}}, true, nil, "", "0s pay, 2s query"},
		{"lost answer, then queries lost, paid", map[string][]string{"pay": {drop}, "query": {drop, drop, paid}}, true, nil, "", "0s pay, 2s query, 5s query, 8s query"},
		{"lost answer, declined", map[string][]string{"pay": {drop}, "query": {queried("FAIL_CANCELED", "PAY_CANCELED")}}, false, nil, "", "0s pay, 2s query"},
		{"lost on the way there", map[string][]string{"pay": {drop}, "query": {biz("FAIL", notExists, "")}, "cancel": {biz("FAIL", notExists, "")}}, false, nil,
			notExists, "0s pay, 2s query, 2s cancel"},
		{"overtaken by its query", map[string][]string{"pay": {drop}, "query": {biz("FAIL", notExists, "")}, "cancel": {biz("CANCEL_SUCCESS", "", orderIs("SUCCESS", "CANCELED"))}},
			false, nil, "", "0s pay, 2s query, 2s cancel"},
		{"server error", map[string][]string{"pay": {refusedWith("500", "UNKNOWN_SYSTEM_ERROR")}, "query": {refusedWith("500", "REQUEST_FAIL"), paid}}, true, nil, "", "0s pay, 2s query, 5s query"},
		{"a page in HTML", map[string][]string{"pay": {"<html>502</html>"}, "query": {"", paid}}, true, nil, "", "0s pay, 2s query, 5s query"},
		{"customer types a password", map[string][]string{"pay": {biz("PAY_IN_PROGRESS", "", orderIs("IN_PROG", "CREATED"))}, "query": {created, created, paid}}, true, nil, "",
			"0s pay, 2s query, 5s query, 8s query"},
		{"late approval", map[string][]string{"pay": {drop}, "query": append(slices.Repeat([]string{created}, 15), paid)}, true, nil, "", "…44s query, 47s query"},

		{"PAY_ERROR, then refused", map[string][]string{"pay": {biz("PAY_FAIL_ERROR", "TRADE_FAILED", orderIs("FAIL_ERROR", "PAY_ERROR"))},
			"query": {queried("FAIL_ERROR", "PAY_ERROR"), queried("FAIL_CANCELED", "PAY_CANCELED")}}, false, nil, "", "0s pay, 2s query, 5s query"},
		{"PAY_ERROR, then paid", map[string][]string{"pay": {biz("PAY_FAIL_IN_PROGRESS", "", orderIs("ERROR_RECOVERY", "PAY_ERROR"))},
			"query": {queried("ERROR_RECOVERY", "PAY_ERROR"), paid}}, true, nil, "", "0s pay, 2s query, 5s query"},
		{"PAY_ERROR for ever", map[string][]string{"pay": {drop}, "query": {queried("FAIL_ERROR", "PAY_ERROR")}, "cancel": {biz("CANCEL_ABORT_ERROR", "", orderIs("CANCEL_ERROR", "CANCEL_ERROR"))}},
			false, upay.ErrUncertain, "", "…182s query, 182s cancel"},
		{"paid, but failed", map[string][]string{"pay": {biz("PAY_SUCCESS", "", orderIs("FAIL_ERROR", "PAID"))}, "query": {queried("FAIL_IO_1", "PAID"), queried("FAIL_CANCELED", "PAY_CANCELED")}},
			false, nil, "", "0s pay, 2s query, 5s query"},
		{"success without an order", map[string][]string{"pay": {biz("PAY_SUCCESS", "", "")}, "query": {paid}}, true, nil, "", "0s pay, 2s query"},
		{"success of an open order", map[string][]string{"pay": {biz("PAY_SUCCESS", "", orderIs("IN_PROG", "CREATED"))}, "query": {paid}}, true, nil, "", "0s pay, 2s query"},
		{"unknown words", map[string][]string{"pay": {biz("PAY_MAYBE", "", orderIs("NEW", "IN_QUEUE"))}, "query": {queried("NEW", "IN_QUEUE"), biz("NEW", "", ""), paid}}, true, nil, "",
			"0s pay, 2s query, 5s query, 8s query"},
		{"refunded by somebody", map[string][]string{"pay": {drop}, "query": {queried("SUCCESS", "PARTIAL_REFUNDED")}}, true, nil, "", "0s pay, 2s query"},

		{"nobody pays", map[string][]string{"pay": {drop}, "query": {created}, "cancel": {biz("CANCEL_ABORT_SUCCESS", "", orderIs("FAIL_CANCELED", "CANCELED"))}}, false, nil, "",
			"…59s query, 62s query, 62s cancel"},
		{"paid at the last moment", map[string][]string{"pay": {drop}, "query": {created}, "cancel": {biz("CANCEL_SUCCESS", "", orderIs("SUCCESS", "CANCELED"))}}, false, nil, "",
			"…62s query, 62s cancel"},
		{"cancel without an answer, then cancelled", map[string][]string{"pay": {drop}, "query": append(slices.Repeat([]string{created}, 21), queried("SUCCESS", "CANCELED")),
			"cancel": {drop}}, false, nil, "", "…62s cancel, 72s query"},
		// The cancel may still be on its way: it must be answered before anybody parts with goods.
		{"cancel without an answer, then paid", map[string][]string{"pay": {drop}, "query": append(slices.Repeat([]string{created}, 21), paid),
			"cancel": {drop, biz("CANCEL_SUCCESS", "", orderIs("SUCCESS", "CANCELED"))}}, false, nil, "", "…62s cancel, 72s query, 72s cancel"},
		{"cancel never answered, paid for ever", map[string][]string{"pay": {drop}, "query": append(slices.Repeat([]string{created}, 21), paid), "cancel": {drop}}, false, upay.ErrUncertain, "",
			"…182s query, 182s cancel"},
		{"cancel never answered, open for ever", map[string][]string{"pay": {drop}, "query": {created}, "cancel": {drop}}, false, upay.ErrUncertain, "", "…182s query, 182s cancel"},
		{"cancel refused, paid", map[string][]string{"pay": {drop}, "query": append(slices.Repeat([]string{created}, 21), paid),
			"cancel": {biz("FAIL", "UPAY_CANCEL_INVALID_ORDER_STATE", "")}}, true, nil, "", "…62s cancel, 72s query"},
		{"cancelled already", map[string][]string{"pay": {drop}, "query": append(slices.Repeat([]string{created}, 21), queried("SUCCESS", "CANCELED")),
			"cancel": {biz("FAIL", "UPAY_CANCEL_ORDER_NOOP", "")}}, false, nil, "", "…62s cancel, 72s query"},
		{"cancel in progress, then done", map[string][]string{"pay": {drop}, "query": append(slices.Repeat([]string{created}, 21), queried("IN_PROG", "CANCEL_INPROGRESS")),
			"cancel": {biz("CANCEL_ABORT_IN_PROGRESS", "", orderIs("IN_PROG", "CANCEL_INPROGRESS")), biz("CANCEL_ABORT_SUCCESS", "", orderIs("FAIL_CANCELED", "CANCELED"))}}, false, nil, "",
			"…62s cancel, 72s query, 72s cancel"},
		{"nothing is ever answered", map[string][]string{"pay": {drop}, "query": {drop}, "cancel": {drop}}, false, upay.ErrUncertain, "", "…182s query, 182s cancel"},
		{"queries are refused", map[string][]string{"pay": {drop}, "query": {refusedWith("400", "INVALID_TERMINAL")}, "cancel": {refusedWith("400", "INVALID_TERMINAL")}}, false, upay.ErrUncertain, "", "…182s cancel"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p, client := scripted(t, c.answers)
			v, err := client.TakePayment(t.Context(), payment1)
			switch {
			case errors.Is(c.err, errRefused):
				if !upay.Refused(err) {
					t.Errorf("got %v, want a refusal", err)
				}
			case !errors.Is(err, c.err) || c.err == nil && err != nil:
				t.Errorf("got %v, want %v", err, c.err)
			case err == nil && (v.Done != c.done || v.Code != c.code):
				t.Errorf("got %+v, want done %v, code %s", v, c.done, c.code)
			case err != nil && v != nil:
				t.Errorf("a verdict beside an error: %+v", v)
			}
			if n := p.count("pay"); n != 1 {
				t.Errorf("pay was sent %d times", n)
			}
			calls := p.all()
			if want, tail := strings.CutPrefix(c.calls, "…"); calls != c.calls && (!tail || !strings.HasSuffix(calls, want)) {
				t.Errorf("calls: %s, want %s", calls, c.calls)
			}
		})
	}
}

var errRefused = errors.New("refused")

// TestTakePaymentStopped is a till that is switched off while it asks: the outcome stays open, and Settle finds it later.
func TestTakePaymentStopped(t *testing.T) {
	t.Parallel()
	p, client := scripted(t, map[string][]string{"pay": {drop}, "query": {queried("IN_PROG", "CREATED")}})
	ctx, stop := context.WithCancel(t.Context())
	client.Sleep = func(ctx context.Context, d time.Duration) error {
		if p.clock.now().Sub(p.began) > 20*time.Second {
			stop()
		}
		return p.clock.sleep(ctx, d)
	}
	if _, err := client.TakePayment(ctx, payment1); !errors.Is(err, upay.ErrUncertain) || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	p.mu.Lock()
	p.answers["query"] = []string{queried("SUCCESS", "PAID")}
	p.mu.Unlock()
	client.Sleep = p.clock.sleep
	if v, err := client.Settle(t.Context(), "T1"); err != nil || !v.Done {
		t.Errorf("got %+v %v", v, err)
	}
}

// TestFollow is §6.4: every 2 s, then every 5 s, then one last query.
func TestFollow(t *testing.T) {
	t.Parallel()
	created := queried("CREATED", "CREATED")
	for _, c := range []struct {
		name    string
		answers map[string][]string
		done    bool
		err     error
		calls   string
		queries int
	}{
		{"paid soon", map[string][]string{"query": {created, created, queried("SUCCESS", "PAID")}}, true, nil, "2s query, 4s query, 6s query", 3},
		{"paid later", map[string][]string{"query": append(slices.Repeat([]string{created}, 17), queried("SUCCESS", "PAID"))}, true, nil, "…30s query, 35s query, 40s query, 45s query", 18},
		{"closed by the gateway", map[string][]string{"query": append(slices.Repeat([]string{created}, 57), queried("FAIL_CANCELED", "PAY_CANCELED"))}, false, nil, "…240s query, 360s query", 58},
		{"answers lost", map[string][]string{"query": {drop, "x", refusedWith("500", "REQUEST_FAIL"), queried("SUCCESS", "PAID")}}, true, nil, "…8s query", 4},
		{"never closed", map[string][]string{"query": {created}, "cancel": {biz("CANCEL_ABORT_SUCCESS", "", "")}}, false, nil, "…422s query, 422s cancel", 79},
		{"unknown", map[string][]string{"query": {biz("FAIL", notExists, "")}, "cancel": {biz("FAIL", notExists, "")}}, false, nil, "2s query, 4s query, 4s cancel", 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p, client := scripted(t, c.answers)
			seen := 0
			v, err := client.Follow(t.Context(), "T1", func(*upay.Data) { seen++ })
			if !errors.Is(err, c.err) || err == nil && v.Done != c.done {
				t.Errorf("got %+v %v", v, err)
			}
			calls := p.all()
			if want, tail := strings.CutPrefix(c.calls, "…"); calls != c.calls && (!tail || !strings.HasSuffix(calls, want)) || p.count("query") != c.queries {
				t.Errorf("%d queries: %s", p.count("query"), calls)
			}
		})
	}
}

// TestTakeRefund is §6.5: a refund is sent again under its own number, and believed by its number only.
func TestTakeRefund(t *testing.T) {
	t.Parallel()
	refunded := func(status, order, tsn string) string {
		return biz("SUCCESS", "", strings.Replace(orderIs(status, order), `"sn"`, `"client_tsn":"`+tsn+`","sn"`, 1))
	}
	const noop, tradeNotExist = "UPAY_REFUND_ORDER_NOOP", "TRADE_NOT_EXIST"
	for _, c := range []struct {
		name    string
		answers map[string][]string
		done    bool
		err     error
		refunds int
	}{
		{"done", map[string][]string{"refund": {biz("REFUND_SUCCESS", "", orderIs("SUCCESS", "PARTIAL_REFUNDED"))}}, true, nil, 1},
		{"refused by the provider", map[string][]string{"refund": {biz("REFUND_FAIL", "SELLER_BALANCE_NOT_ENOUGH", "")}}, false, nil, 1},
		{"refused", map[string][]string{"refund": {biz("FAIL", "REFUNDABLE_AMOUNT_NOT_ENOUGH", "")}}, false, nil, 1},
		{"request refused", map[string][]string{"refund": {refusedWith("400", "INVALID_PARAMS")}}, false, errRefused, 1},
		{"number used before", map[string][]string{"refund": {biz("FAIL", noop, "")}}, false, upay.ErrNumberUsed, 1},
		{"lost answer, done", map[string][]string{"refund": {drop}, "query": {refunded("SUCCESS", "PARTIAL_REFUNDED", "T1-R1")}}, true, nil, 1},
		{"lost on the way", map[string][]string{"refund": {drop, biz("REFUND_SUCCESS", "", "")}, "query": {biz("FAIL", tradeNotExist, "")}}, true, nil, 2},
		{"another refund is the latest", map[string][]string{"refund": {drop, biz("REFUND_SUCCESS", "", "")}, "query": {refunded("SUCCESS", "PARTIAL_REFUNDED", "T1-R11")}}, true, nil, 2},
		{"lost, and done by then", map[string][]string{"refund": {drop, biz("FAIL", noop, "")}, "query": {drop, refunded("SUCCESS", "REFUNDED", "T1-R1")}}, true, nil, 2},
		{"lost, and nothing is left by then", map[string][]string{"refund": {drop, biz("FAIL", "UPAY_REFUND_INVALID_ORDER_STATE", "")}, "query": {drop, refunded("SUCCESS", "REFUNDED", "T1-R1")}}, true, nil, 2},
		{"lost, and refused then", map[string][]string{"refund": {drop, biz("FAIL", "REFUNDABLE_AMOUNT_NOT_ENOUGH", "")}, "query": {drop, biz("FAIL", tradeNotExist, "")}}, false, nil, 2},
		{"in progress, then done", map[string][]string{"refund": {biz("REFUND_IN_PROGRESS", "", "")}, "query": {refunded("IN_PROG", "REFUND_INPROGRESS", "T1-R1"), refunded("SUCCESS", "PARTIAL_REFUNDED", "T1-R1")}}, true, nil, 2},
		{"error, then refused", map[string][]string{"refund": {biz("REFUND_ERROR", "", ""), biz("REFUND_FAIL", "TRADE_FAILED", "")}, "query": {refunded("REFUND_ERROR", "REFUND_ERROR", "T1-R1")}}, false, nil, 2},
		{"never answered", map[string][]string{"refund": {drop}, "query": {drop}}, false, upay.ErrUncertain, 61},
		{"error for ever", map[string][]string{"refund": {biz("REFUND_ERROR", "", "")}, "query": {refunded("REFUND_ERROR", "REFUND_ERROR", "T1-R1")}}, false, upay.ErrUncertain, 61},
		{"unknown words", map[string][]string{"refund": {biz("REFUND_MAYBE", "", "")}, "query": {refunded("SUCCESS", "PARTIAL_REFUNDED", "T1-R1")}}, true, nil, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p, client := scripted(t, c.answers)
			v, err := client.TakeRefund(t.Context(), upay.RefundRequest{ClientSN: "T1", RefundRequestNo: "R1", RefundAmount: 250})
			switch {
			case errors.Is(c.err, errRefused):
				if !upay.Refused(err) {
					t.Errorf("got %v", err)
				}
			case !errors.Is(err, c.err) || c.err == nil && err != nil || err == nil && v.Done != c.done:
				t.Errorf("got %+v %v", v, err)
			}
			if n := p.count("refund"); n != c.refunds {
				t.Errorf("%d refunds, want %d: %v", n, c.refunds, p.all())
			}
		})
	}
}

// client is a client of the rig's server with a terminal of its own; what it loses is lost on the way.
func (r *rig) client(t testing.TB, lose func(path string) bool) (*upay.Client, *keeper) {
	t.Helper()
	k := &keeper{}
	c := &upay.Client{BaseURL: r.server.URL, Keeper: k, HTTP: &http.Client{Transport: &lossy{r.http.Transport, lose}}}
	_, err := c.Activate(t.Context(), upay.Vendor{SN: vendorSN, Key: terminal.NewSecret(vendorKey)}, upay.ActivateRequest{AppID: appID, Code: r.code, DeviceID: deviceID})
	must(t, err)
	return c, k
}

// lossy loses answers: the server has acted.
type lossy struct {
	base http.RoundTripper
	lose func(path string) bool
}

func (l *lossy) RoundTrip(q *http.Request) (*http.Response, error) {
	res, err := l.base.RoundTrip(q)
	if err == nil && l.lose != nil && l.lose(q.URL.Path) {
		res.Body.Close()
		return nil, errors.New("connection reset")
	}
	return res, err
}

// TestClientDay goes through a day of a till against the server.
func TestClientDay(t *testing.T) {
	t.Parallel()
	r := setup(t)
	ctx := t.Context()
	c, k := r.client(t, nil)
	first := k.id.Key
	if _, err := c.CheckIn(ctx, upay.CheckInRequest{DeviceID: deviceID}); err != nil || k.id.Key.Reveal() == first.Reveal() || k.id.Last.Reveal() != first.Reveal() {
		t.Fatalf("check-in: %v", err)
	}
	for _, w := range []string{"alipay", "wechat", "unionpay"} {
		sn := order()
		v, err := c.TakePayment(ctx, upay.PayRequest{Order: upay.Order{ClientSN: sn, TotalAmount: 1250, Subject: "s", Reflect: "t7"}, DynamicID: code(w, "approve")})
		if err != nil || !v.Done || v.Data.Reflect != "t7" {
			t.Fatalf("%s: %+v %v", w, v, err)
		}
		for _, no := range []string{"R1", "R2"} {
			if v, err := c.TakeRefund(ctx, upay.RefundRequest{ClientSN: sn, RefundRequestNo: no, RefundAmount: 500}); err != nil || !v.Done {
				t.Fatalf("%+v %v", v, err)
			}
		}
		if v, err := c.TakeRefund(ctx, upay.RefundRequest{ClientSN: sn, RefundRequestNo: "R3", RefundAmount: 500}); err != nil || v.Done || v.Code != upay.CodeRefundExceeds {
			t.Fatalf("%+v %v", v, err)
		}
		biz, err := c.Query(ctx, upay.QueryRequest{SN: v.Data.SN})
		if err != nil || biz.Data.NetAmount != 250 || biz.Data.OrderStatus != upay.OrderPartialRefunded {
			t.Fatalf("%+v %v", biz, err)
		}
	}
	sn := order()
	pre, err := c.Precreate(ctx, upay.PrecreateRequest{Order: upay.Order{ClientSN: sn, TotalAmount: 2500, Subject: "s", Payway: "1"}})
	must(t, err)
	r.phone(t, pre.Data.QRCode, "approve")
	if v, err := c.Follow(ctx, sn, nil); err != nil || !v.Done {
		t.Fatalf("%+v %v", v, err)
	}
	if biz, err := c.Revoke(ctx, upay.CancelRequest{ClientSN: sn}); err != nil || biz.ResultCode != upay.CancelSuccess {
		t.Fatalf("%+v %v", biz, err)
	}
	must(t, c.UploadLog(ctx, []byte("log")))
	page, err := c.GatewayURL(ctx, r.server.URL+"/gateway", upay.GatewayRequest{Order: upay.Order{ClientSN: order(), TotalAmount: 1, Subject: "s", Operator: "c"}, ReturnURL: "https://shop.example.com/done"})
	must(t, err)
	if a := r.get(t, strings.TrimPrefix(page, r.server.URL)); a.status != http.StatusFound {
		t.Errorf("gateway: %d %s", a.status, a.raw)
	}
	if _, err := c.Pay(ctx, upay.PayRequest{}); !upay.Refused(err) {
		t.Errorf("got %v", err)
	}
}

// TestClientLostPay loses the wallet's answer, and the till's: the polling finds the truth, and the sandbox's books agree.
func TestClientLostPay(t *testing.T) {
	t.Parallel()
	r := setup(t, func(s *settings) { s.linkTimeout = 500 * time.Millisecond })
	lost := map[string]int{}
	var mu sync.Mutex
	c, _ := r.client(t, func(path string) bool {
		mu.Lock()
		defer mu.Unlock()
		lost[path]++
		return strings.HasSuffix(path, "/pay") || strings.HasSuffix(path, "/query") && lost[path] == 1
	})
	c.Sleep = func(ctx context.Context, d time.Duration) error { time.Sleep(d / 10); return ctx.Err() }
	for _, b := range []struct {
		behaviour string
		done      bool
		books     []string
	}{
		{"approve", true, []string{"payment 1250 done"}}, {"no_answer", true, []string{"payment 1250 done"}}, {"connection_cut", true, []string{"payment 1250 done"}},
		{"decline", false, nil}, {"request_lost", false, nil}, {"pending_then_approve_3s", true, []string{"payment 1250 done"}},
	} {
		sn := order()
		v, err := c.TakePayment(t.Context(), upay.PayRequest{Order: upay.Order{ClientSN: sn, TotalAmount: 1250, Subject: "s"}, DynamicID: code("alipay", b.behaviour)})
		if err != nil || v.Done != b.done {
			t.Errorf("%s: %+v %v", b.behaviour, v, err)
			continue
		}
		r.wantBooks(t, v.Data.SN, b.books...)
	}
}

// TestClientKeys is what the client does about keys: nothing that is refused for its signature is lost.
func TestClientKeys(t *testing.T) {
	t.Parallel()
	r := setup(t)
	ctx := t.Context()
	losing := false
	c, k := r.client(t, func(path string) bool { return losing && path == "/terminal/checkin" })
	query := func() error {
		_, err := c.Query(ctx, upay.QueryRequest{ClientSN: "x"})
		return err
	}
	t.Run("the answer to a check-in is lost", func(t *testing.T) {
		losing = true
		if _, err := c.CheckIn(ctx, upay.CheckInRequest{DeviceID: deviceID}); err == nil {
			t.Fatal("it was not lost")
		}
		losing = false
		must(t, query())
		if _, err := c.CheckIn(ctx, upay.CheckInRequest{DeviceID: deviceID}); err != nil {
			t.Fatal(err)
		}
		must(t, query())
	})
	t.Run("the new key could not be kept", func(t *testing.T) {
		k.fail = errors.New("disk full")
		if _, err := c.CheckIn(ctx, upay.CheckInRequest{DeviceID: deviceID}); !errors.Is(err, k.fail) {
			t.Fatalf("got %v", err)
		}
		k.fail = nil
		must(t, query()) // With the key before, which is the last one now.
	})
	t.Run("the current key is wrong, the last one works", func(t *testing.T) {
		id := k.id
		k.id.Key, k.id.Last = terminal.NewSecret(k1), id.Key
		must(t, query())
		if _, err := c.CheckIn(ctx, upay.CheckInRequest{DeviceID: deviceID}); err != nil {
			t.Fatal(err)
		}
		must(t, query())
	})
	t.Run("both are too old", func(t *testing.T) {
		r.clock.pass(49 * time.Hour)
		if err := query(); !upay.Refused(err) {
			t.Fatalf("got %v", err)
		}
		c.DeviceID = deviceID
		together(4, func(int) {
			if err := query(); err != nil {
				t.Error(err)
			}
		})
	})
}

func TestClientBadAddress(t *testing.T) {
	t.Parallel()
	for _, base := range []string{"", "ftp://x", "pos.example.com", "https://x?y=1"} {
		c := &upay.Client{BaseURL: base, Keeper: &keeper{}}
		if _, err := c.Query(t.Context(), upay.QueryRequest{}); err == nil || upay.Refused(err) {
			t.Errorf("%q: %v", base, err)
		}
	}
}

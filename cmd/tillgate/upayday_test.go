package main

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tillgate/tillgate/admin"
	"github.com/tillgate/tillgate/protocol/upay"
	"github.com/tillgate/tillgate/terminal"
)

// scale is how many times faster a till's clock runs than ours in these tests: its pauses of seconds are what makes a day long.
const scale = 10

// pocket keeps a terminal's identity, as a till's flash memory does.
type pocket struct {
	mu sync.Mutex
	id upay.Identity
}

func (p *pocket) Identity(context.Context) (upay.Identity, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.id, nil
}

func (p *pocket) Keep(_ context.Context, id upay.Identity) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.id = id
	return nil
}

// scanTill is a till that speaks Upay in a world.
type scanTill struct {
	*world
	client *upay.Client
	keeper pocket

	names []string
	done  map[string]bool // Payments that the till was told are paid.
}

// tillDeviceID is what the terminal says of itself.
const tillDeviceID = "50a87771-ca8a-4952-a493-9504c39ab495"

func (w *world) scanTill(n int) *scanTill {
	r := &road{world: w}
	r.at.Store(int64(n))
	began := time.Now()
	t := &scanTill{world: w, done: map[string]bool{}}
	t.client = &upay.Client{BaseURL: "http://the.world/upay", Keeper: &t.keeper, DeviceID: tillDeviceID, HTTP: &http.Client{Transport: r}, Sleep: hurried(scale),
		Now: func() time.Time { return began.Add(scale * time.Since(began)) }}
	return t
}

// insist makes a call until Upay has said something.
func (c *scanTill) insist(what string, call func() error) error {
	c.t.Helper()
	var err error
	for deadline := time.Now().Add(settleLimit); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if err = call(); err == nil || upay.Refused(err) || errors.Is(err, upay.ErrNumberUsed) {
			return err
		}
	}
	c.t.Errorf("%s hangs: %v", what, err)
	return err
}

// open activates the terminal and checks it in.
func (c *scanTill) open(n int) bool {
	vendor := upay.Vendor{SN: worldVendor, Key: terminal.NewSecret(c.vendorKey)}
	tries := 0
	err := c.insist("activate", func() error {
		tries++ // An activation whose answer was lost has made a terminal, which has its number.
		_, err := c.client.Activate(c.t.Context(), vendor, upay.ActivateRequest{AppID: worldApp, Code: c.activation, DeviceID: tillDeviceID,
			ClientSN: fmt.Sprint("till ", n, " try ", tries)})
		return err
	})
	if err == nil {
		err = c.checkIn()
	}
	if err != nil {
		c.t.Errorf("activate and check in: %v", err)
	}
	return err == nil
}

func (c *scanTill) checkIn() error {
	return c.insist("check in", func() error {
		_, err := c.client.CheckIn(c.t.Context(), upay.CheckInRequest{DeviceID: tillDeviceID})
		return err
	})
}

// pay takes a payment by the customer's code and finds out what became of it.
func (c *scanTill) pay(name, behaviour string, cents int64) *upay.Verdict {
	c.t.Helper()
	c.names = append(c.names, name)
	v, err := c.client.TakePayment(c.t.Context(), upay.PayRequest{Order: upay.Order{ClientSN: name, TotalAmount: cents, Subject: "x", Operator: "o"},
		DynamicID: c.codes[behaviour]})
	if err != nil {
		c.t.Errorf("%s: %v", name, err)
		return &upay.Verdict{}
	}
	c.done[name] = v.Done
	return v
}

// precreate makes an order with a QR code; no link when it cannot be had.
func (c *scanTill) precreate(name string, cents int64) (link string) {
	c.t.Helper()
	c.names = append(c.names, name)
	biz, err := c.client.Precreate(c.t.Context(), upay.PrecreateRequest{Order: upay.Order{ClientSN: name, TotalAmount: cents, Payway: upay.PaywayAlipay, Subject: "x", Operator: "o"}})
	if err != nil || biz.Data == nil || biz.ResultCode != upay.PrecreateSuccess {
		return "" // Lost on the way: the order tells.
	}
	return biz.Data.QRCode
}

// refund gives back and reports whether it was done.
func (c *scanTill) refund(name, number string, cents int64) bool {
	c.t.Helper()
	v, err := c.client.TakeRefund(c.t.Context(), upay.RefundRequest{ClientSN: name, RefundRequestNo: number, RefundAmount: cents, Operator: "o"})
	if err != nil {
		c.t.Errorf("refund %s of %s: %v", number, name, err)
		return false
	}
	return v.Done
}

// end revokes or cancels an order until it is certain that it stands no more, or that it cannot be ended.
func (c *scanTill) end(name string, call func(context.Context, upay.CancelRequest) (*upay.Biz, error)) upay.OrderStatus {
	c.t.Helper()
	for deadline := time.Now().Add(settleLimit); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		biz, err := call(c.t.Context(), upay.CancelRequest{ClientSN: name, Operator: "o"})
		switch {
		case err != nil:
			continue
		case biz.ResultCode == upay.CancelSuccess, biz.ResultCode == upay.CancelAbortSuccess,
			biz.ResultCode == upay.Fail && biz.ErrorCode == upay.CodeCancelNoop,
			biz.ResultCode == upay.Fail && biz.ErrorCode == upay.CodeOrderNotExists:
			return upay.OrderCanceled
		case biz.ResultCode == upay.Fail && biz.ErrorCode == upay.CodeCancelInvalidState:
			return upay.OrderPaid
		}
	}
	c.t.Errorf("the end of %s hangs", name)
	return upay.OrderCancelError
}

// order asks for an order; nil when there is none.
func (c *scanTill) order(name string) *upay.Data {
	c.t.Helper()
	var data *upay.Data
	err := c.insist("query "+name, func() error {
		biz, err := c.client.Query(c.t.Context(), upay.QueryRequest{ClientSN: name})
		if err != nil {
			return err
		}
		if data = biz.Data; biz.ResultCode == upay.Fail && biz.ErrorCode == upay.CodeOrderNotExists {
			data = nil
		} else if data == nil || !data.OrderStatus.Final() {
			return fmt.Errorf("%s %s", biz.ResultCode, biz.ErrorCode)
		}
		return nil
	})
	if err != nil {
		c.t.Errorf("query %s: %v", name, err)
	}
	return data
}

// claims are what the till believes in the end.
func (c *scanTill) claims() []claim {
	c.t.Helper()
	var claims []claim
	for _, name := range c.names {
		d := c.order(name)
		if d == nil { // It never came: a payment that nobody knows would be found by agree.
			claims = append(claims, claim{name: name, why: "no order"})
			continue
		}
		k := claim{name: name, numbers: []string{d.SN}, why: string(d.OrderStatus)}
		switch d.OrderStatus {
		case upay.OrderPaid, upay.OrderPartialRefunded, upay.OrderRefunded:
			k.taken, k.back = d.TotalAmount, d.RefundedAmount
		}
		claims = append(claims, k)
	}
	return claims
}

// upayDay is a till's day over Upay.
func upayDay(w *world) []claim {
	c := w.scanTill(0)
	if !c.open(0) {
		return nil
	}
	// What a kill may change: a customer's code is gone with the process, so that a pay which had not reached the wallet is never sent again.
	lost, want := 0, map[string]upay.OrderStatus{}
	ended := func(name string, status upay.OrderStatus) { want[name] = status }

	if c.pay("approve", "approve", 20_00).Done {
		if !c.refund("approve", "1", 5_00) || !c.refund("approve", "2", 7_00) {
			c.t.Error("a refund was not made")
		}
		if c.refund("approve", "3", 9_00) {
			c.t.Error("a refund beyond the payment was made")
		}
	}
	ended("approve", upay.OrderPartialRefunded)
	c.pay("decline", "decline", 21_00)
	ended("decline", upay.OrderPayCanceled)
	c.pay("cut", "connection_cut", 22_00)
	ended("cut", upay.OrderPaid)

	if link := c.precreate("qr", 24_00); link != "" {
		w.pay(link)
		if v, err := c.client.Follow(c.t.Context(), "qr", nil); err != nil || !v.Done {
			c.t.Errorf("qr was paid, and its follower heard %+v, %v", v, err)
		}
		ended("qr", upay.OrderPaid)
	} else {
		c.end("qr", c.client.Cancel)
		ended("qr", upay.OrderCanceled)
	}
	c.precreate("qr-cancel", 25_00)
	c.end("qr-cancel", c.client.Cancel)
	ended("qr-cancel", upay.OrderCanceled)
	c.pay("revoke", "approve", 26_00)
	c.end("revoke", c.client.Revoke)
	ended("revoke", upay.OrderCanceled)
	c.pay("revoke-lost", "cancel_lost", 27_00)
	c.end("revoke-lost", c.client.Revoke)
	ended("revoke-lost", upay.OrderCanceled)
	if err := c.checkIn(); err != nil {
		c.t.Errorf("check in: %v", err)
	}
	claims := c.claims()
	for name, status := range want {
		d := c.order(name)
		got := upay.OrderStatus("none")
		if d != nil {
			got = d.OrderStatus
		}
		if got != status && w.kills() > 0 && !c.done[name] && (d == nil || got == upay.OrderPayCanceled || got == upay.OrderCanceled) {
			lost++
			continue
		}
		if got != status {
			c.t.Errorf("%s ended %s, want %s", name, got, status)
		}
	}
	if lost > 1 {
		c.t.Errorf("one kill lost %d payments", lost)
	}
	return claims
}

// upayLoad is what several tills do at once.
func upayLoad(w *world, seed uint64) []claim {
	var mu sync.Mutex
	var claims []claim
	var tills sync.WaitGroup
	behaviours := []string{"approve", "approve", "decline", "connection_cut", "garbled_answer", "error", "cancel_lost", "pending_then_approve_3s"}
	const count, sales = 6, 8
	for n := range count {
		rng := rand.New(rand.NewPCG(seed, uint64(n)))
		c := w.scanTill(n)
		tills.Go(func() {
			if !c.open(n) {
				return
			}
			for i := range sales {
				name := fmt.Sprintf("till%d-%d", n, i)
				v := c.pay(name, behaviours[rng.IntN(len(behaviours))], int64(10+rng.IntN(90))*100)
				if rng.IntN(3) == 0 && v.Done {
					c.refund(name, "r", int64(1+rng.IntN(9))*100)
				}
				if rng.IntN(4) == 0 {
					c.end(name, c.client.Revoke)
				}
			}
			mine := c.claims()
			mu.Lock()
			defer mu.Unlock()
			claims = append(claims, mine...)
		})
	}
	tills.Wait()
	return claims
}

// deaf loses the answer to the first pay on its way back to the till.
type deaf struct{ lost atomic.Int64 }

func (d *deaf) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := http.DefaultTransport.RoundTrip(r)
	if err == nil && strings.HasSuffix(r.URL.Path, "/pay") && d.lost.Add(1) == 1 {
		_ = res.Body.Close()
		return nil, errors.New("the line is cut")
	}
	return res, err
}

// shown is an order as the command line shows it.
type shown struct {
	SN       string `json:"sn"`
	ClientSN string `json:"client_sn"`
	Order    string `json:"order_status"`
	Total    string `json:"total_amount"`
	Net      string `json:"net_amount"`
}

// TestDayOverUpay is a till's day on the command line, against everything that dev starts.
func TestDayOverUpay(t *testing.T) {
	t.Parallel()
	received := openHooks(t, "success")
	data := t.TempDir()
	dev := startDev(t, data)
	do := func(args ...string) shown {
		t.Helper()
		got, err := asked[shown](t, data, append([]string{"upay"}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	refused := func(want string, args ...string) shown {
		t.Helper()
		got, err := asked[shown](t, data, append([]string{"upay"}, args...)...)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want a refusal with %q", args, err, want)
		}
		return got
	}
	is := func(got shown, status upay.OrderStatus, net string) {
		t.Helper()
		if got.Order != string(status) || got.Net != net {
			t.Errorf("%s is %s with %s left, want %s with %s", got.ClientSN, got.Order, got.Net, status, net)
		}
	}
	number := func(v any) string { text, _ := v.(string); return text }

	activated, err := asked[map[string]any](t, data, "upay", "activate")
	if err != nil {
		t.Fatal(err)
	}
	checked, err := asked[map[string]any](t, data, "upay", "checkin")
	if err != nil || number(checked["terminal_sn"]) == "" || checked["terminal_sn"] != activated["terminal_sn"] {
		t.Errorf("check-in: %v, %v", checked, err)
	}

	// Three wallets by their codes, one with a callback.
	paid := do("pay", "--amount", "20.00", "--client-sn", "DAY-alipay", "--wallet", "alipay", "--notify-url", received.url)
	is(paid, upay.OrderPaid, "20.00")
	is(do("pay", "--amount", "21.00", "--client-sn", "DAY-wechat", "--wallet", "wechat"), upay.OrderPaid, "21.00")
	is(do("pay", "--amount", "22.00", "--client-sn", "DAY-unionpay", "--wallet", "unionpay"), upay.OrderPaid, "22.00")
	refused("INSUFFICIENT_FUND", "pay", "--amount", "23.00", "--client-sn", "DAY-poor", "--behaviour", "insufficient_funds")
	is(do("query", "--client-sn", "DAY-poor"), upay.OrderPayCanceled, "23.00")

	// A QR code that is paid on the phone's page, while the till follows.
	var phone sync.WaitGroup
	phone.Go(func() {
		client := &upay.Client{BaseURL: dev.info.Upay.BaseURL, Keeper: identityFile(filepath.Join(data, "upay-till.json"))}
		for deadline := time.Now().Add(settleLimit); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
			biz, err := client.Query(t.Context(), upay.QueryRequest{ClientSN: "DAY-qr"})
			if err != nil || biz.Data == nil || biz.Data.QRCode == "" {
				continue
			}
			res, err := http.Post(biz.Data.QRCode+"/approve", "application/x-www-form-urlencoded", nil)
			if err != nil || res.StatusCode != http.StatusOK {
				t.Errorf("the phone's page: %v, %v", res, err)
			} else {
				_ = res.Body.Close()
			}
			return
		}
		t.Error("no QR code to pay")
	})
	is(do("precreate", "--amount", "24.00", "--client-sn", "DAY-qr", "--wallet", "wechat"), upay.OrderPaid, "24.00")
	phone.Wait()

	// Two partial refunds and a third beyond the rest; an equal one is the same one.
	do("refund", "--client-sn", "DAY-alipay", "--amount", "5.00", "--refund-no", "r1")
	do("refund", "--sn", paid.SN, "--amount", "7.00", "--refund-no", "r2")
	refused("REFUNDABLE_AMOUNT_NOT_ENOUGH", "refund", "--client-sn", "DAY-alipay", "--amount", "9.00", "--refund-no", "r3")
	refused("", "refund", "--client-sn", "DAY-alipay", "--amount", "5.00", "--refund-no", "r1")
	is(do("query", "--client-sn", "DAY-alipay"), upay.OrderPartialRefunded, "8.00")
	is(do("query", "--sn", paid.SN), upay.OrderPartialRefunded, "8.00")

	// A revoke returns the fee, a refund does not.
	revoked := do("query", "--client-sn", "DAY-unionpay").SN
	is(do("revoke", "--sn", revoked), upay.OrderCanceled, "0.00")
	refused("UPAY_CANCEL_ORDER_NOOP", "revoke", "--sn", revoked)
	fees := func(sn string) (sums []int64) {
		t.Helper()
		entries, err := asked[[]admin.Entry](t, data, "ledger", "--merchant", dev.info.Upay.Merchant, "--payment", sn)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Receivable+e.Payable+e.Fees+e.Tips != 0 {
				t.Errorf("an entry that does not balance: %+v", e)
			}
			sums = append(sums, e.Fees)
		}
		return sums
	}
	if got := fees(revoked); len(got) != 2 || got[0] == 0 || got[0]+got[1] != 0 {
		t.Errorf("fees of the revoked order: %v; want one, and the same back", got)
	}
	if got := fees(paid.SN); len(got) != 3 || got[0] == 0 || got[1] != 0 || got[2] != 0 {
		t.Errorf("fees of the refunded order: %v; want one, and nothing back", got)
	}

	// A pending order is cancelled.
	if _, err := asked[shown](t, data, "upay", "precreate", "--amount", "25.00", "--client-sn", "DAY-pending", "--no-wait"); err != nil {
		t.Fatal(err)
	}
	is(do("cancel", "--client-sn", "DAY-pending"), upay.OrderCanceled, "0.00")

	// The wallet's answer is lost, and so is ours: the client's polling finds the truth.
	client := &upay.Client{BaseURL: dev.info.Upay.BaseURL, Keeper: identityFile(filepath.Join(data, "upay-till.json")), HTTP: &http.Client{Transport: &deaf{}}}
	verdict, err := client.TakePayment(t.Context(), upay.PayRequest{Order: upay.Order{ClientSN: "DAY-lost", TotalAmount: 26_00, Subject: "x", Operator: "o"},
		DynamicID: dev.code(t, "alipay", "connection_cut")})
	if err != nil || !verdict.Done || verdict.Data.OrderStatus != upay.OrderPaid {
		t.Fatalf("a pay whose answers were lost: %+v, %v", verdict, err)
	}

	// The books agree: ours, the wallet network's and the till's.
	net, by := tally(readBooks(t, dev.info.Sandbox.BooksURL))
	for name, want := range map[string]totals{"DAY-alipay": {20_00, 12_00}, "DAY-wechat": {21_00, 0}, "DAY-unionpay": {0, 0}, "DAY-qr": {24_00, 0},
		"DAY-poor": {0, 0}, "DAY-pending": {0, 0}, "DAY-lost": {26_00, 0}} {
		sn := do("query", "--client-sn", name).SN
		if got := by[sn]; got != want && (want.paid != 0 || got.paid != got.back) {
			t.Errorf("%s: the wallet network has %+v, want %+v", name, got, want)
		}
	}
	balances, err := asked[[]admin.Balance](t, data, "ledger", "--balances", "--merchant", dev.info.Upay.Merchant)
	if err != nil || len(balances) != 1 || balances[0].Receivable != net || net != 20_00-12_00+21_00+24_00+26_00 {
		t.Errorf("our ledger says %+v (%v); the wallet network holds %d for us", balances, err, net)
	}

	// The callback is ours, and tells of the payment.
	block, _ := pem.Decode([]byte(dev.info.Upay.CallbackPublicKey))
	if block == nil {
		t.Fatal("no key of callbacks in dev.json")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(settleLimit); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if bodies, _ := received.all(); len(bodies) > 0 {
			break
		}
	}
	bodies, heads := received.all()
	if len(bodies) == 0 {
		t.Fatal("no callback came")
	}
	public, _ := key.(*rsa.PublicKey)
	if err := upay.VerifyCallback(heads[0].Get("Authorization"), bodies[0], public); err != nil {
		t.Errorf("callback: %v\n%s", err, bodies[0])
	}
	if err := upay.VerifyCallback(heads[0].Get("Authorization"), append(bodies[0], ' '), public); !errors.Is(err, upay.ErrCallback) {
		t.Errorf("a callback that was changed: %v", err)
	}
	if d, err := upay.DecodeCallback(bodies[0]); err != nil || d.SN != paid.SN || d.OrderStatus != upay.OrderPaid || d.TotalAmount != 20_00 {
		t.Errorf("callback: %+v, %v", d, err)
	}
}

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/tillgate/tillgate/device"
	"github.com/tillgate/tillgate/protocol/iotpay"
)

// iotTill is a till of dev's Canadian merchant.
func (r running) iotTill(t testing.TB) *iotpay.Client {
	t.Helper()
	key, err := iotpay.NewKey(r.info.IOTPay.Key)
	if err != nil {
		t.Fatal(err)
	}
	return &iotpay.Client{BaseURL: r.info.IOTPay.BaseURL, MchID: r.info.IOTPay.MchID, LoginName: r.info.IOTPay.LoginName, Key: key}
}

// iotOrder is an order for dev's terminal, without a notification.
func (r running) iotOrder(number, channel string, cents int64) iotpay.CreateOrder {
	return iotpay.CreateOrder{MchOrderNo: number, ChannelID: channel, Currency: "CAD", Amount: cents, ClientIP: "127.0.0.1", Device: r.info.IOTPay.Device,
		NotifyURL: "http://localhost", Subject: "day", Body: "day", Extra: "{}"}
}

// net is what the sandbox's books say in the end, in words.
func (r running) net(t *testing.T, wallet, cards int64) {
	t.Helper()
	for _, b := range []struct {
		name, url string
		want      int64
	}{{"wallets", r.info.Sandbox.BooksURL, wallet}, {"cards", r.info.Sandbox.CardBooksURL, cards}} {
		books := readBooks(t, b.url)
		if got, _ := tally(books); got != b.want {
			t.Errorf("the sandbox's books of %s: %d, want %d: %+v", b.name, got, b.want, books)
		}
	}
}

// papers are the receipts that the terminal's page shows, as JSON.
func (r running) papers(t *testing.T) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.info.Terminal.PageURL+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	line, err := bufio.NewReader(res.Body).ReadString('\n') // The first event has everything.
	if err != nil {
		t.Fatal(err)
	}
	return line
}

// TestTerminalDayOverIOTPay is a till's day beside the terminal of dev, whose customer approves.
func TestTerminalDayOverIOTPay(t *testing.T) {
	t.Parallel()
	dev := startDev(t, t.TempDir(), "--customer", "approve")
	till, ctx := dev.iotTill(t), t.Context()

	order := dev.iotOrder("POS-1", iotpay.ChannelCard, 2865)
	order.Tip = 285
	paid, err := till.Create(ctx, order)
	if err != nil || paid.Status != iotpay.StatusPaid {
		t.Fatalf("create_order: %+v, %v; want status 2", paid, err)
	}
	x, err := paid.Card()
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ name, got, form string }{
		{"cardType", x.CardType, `^M$`}, {"cardNum", x.CardNum, `^X{12}0229$`}, {"expireDate", x.ExpireDate, `^\d{4}$`}, {"emvAID", x.EMVAID, `^A0000000041010$`},
		{"emvLabel", x.EMVLabel, `(?i)mastercard`}, {"emvTVR", x.EMVTVR, `^[0-9A-F]{10}$`}, {"emvTSI", x.EMVTSI, `^[0-9A-F]{4}$`}, {"emvTC", x.EMVTC, `^TC: [0-9A-F]{16}$`},
		{"cvmResults", x.CVMResults, `^02[0-9A-F]{4}$`}, {"authNum", x.AuthNum, `^\w{6}$`}, {"seqNum", x.SeqNum, `^\d{12}$`}, {"trxMethod", x.TrxMethod, `^C$`},
		{"receiptDisp", x.ReceiptDisp, `^000 Approved 00 Thank You$`}, {"trxDate", x.TrxDate, `^\d{8}$`},
	} {
		if !regexp.MustCompile(tc.form).MatchString(tc.got) {
			t.Errorf("%s is %q, want %s", tc.name, tc.got, tc.form)
		}
	}
	if paid.Amount != 2865 || paid.Tip != 285 || paid.TrxAmount != 3150 {
		t.Errorf("amounts: %d %d %d", paid.Amount, paid.Tip, paid.TrxAmount)
	}
	again, err := till.Query(ctx, iotpay.QueryOrder{PayOrderID: paid.PayOrderID})
	if err != nil || again.Status != iotpay.StatusPaid || again.Extra != paid.Extra {
		t.Errorf("query_order: %+v, %v", again, err)
	}
	if _, err := till.Create(ctx, order); err == nil {
		t.Error("an order number is good twice")
	}

	refund := func(number string, cents int64) error {
		back, err := till.Refund(ctx, iotpay.RefundOrder{MchRefundNo: number, RefundAmount: cents, ClientIP: "127.0.0.1", PayOrderID: paid.PayOrderID})
		if err == nil && !back.Status.Paid() {
			err = fmt.Errorf("status %d", back.Status)
		}
		return err
	}
	if err := errors.Join(refund("R-1", 1000), refund("R-2", 2150)); err != nil {
		t.Errorf("refunds: %v", err)
	}
	var refused *iotpay.Error
	if err := refund("R-3", 1); !errors.As(err, &refused) {
		t.Errorf("a cent over the rest: %v", err)
	}
	if found, err := till.QueryRefund(ctx, iotpay.QueryRefund{MchRefundNo: "R-2"}); err != nil || found.Status != iotpay.StatusPaid {
		t.Errorf("query_refund: %+v, %v", found, err)
	}

	scan := dev.iotOrder("POS-2", "ALIPAY_MICROPAY", 700)
	scan.CodeType, scan.IdentityCode = "barcode", "280000000000009050"
	if o, err := till.Create(ctx, scan); err != nil || !o.Status.Paid() {
		t.Errorf("ALIPAY_MICROPAY: %+v, %v", o, err)
	}
	qr, err := till.Create(ctx, dev.iotOrder("POS-3", "WX_NATIVE", 800))
	if err != nil || qr.QR == "" {
		t.Fatalf("WX_NATIVE: %+v, %v", qr, err)
	}
	res, err := http.Post(qr.QR+"/approve", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if o, err := till.Settle(ctx, "POS-3"); err != nil || !o.Status.Paid() {
		t.Errorf("WX_NATIVE: %+v, %v", o, err)
	}
	dev.net(t, 1500, 0)
	dev.stops(t)
}

// stops stops a dev whose terminal has nothing in hand.
func (r running) stops(t *testing.T) {
	t.Helper()
	ended := make(chan int, 1)
	go func() { ended <- r.stop() }()
	select {
	case code := <-ended:
		if code != exitOK {
			t.Errorf("dev ended with %d: %s", code, r.errs)
		}
	case <-time.After(startLimit):
		t.Fatal("dev does not stop") // Its cleanup will hang: the test's time limit shows where.
	}
}

// Customers whose cards are declined: the order fails with the host's words, and nothing is charged.
func TestDeclinedAtDevsTerminal(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ customer, code, qfpay string }{{"decline", "05", "1205"}, {"wrong-pin", "55", "1203"}} {
		t.Run(tc.customer, func(t *testing.T) {
			t.Parallel()
			data := t.TempDir()
			dev := startDev(t, data, "--customer", tc.customer)
			o, err := dev.iotTill(t).Create(t.Context(), dev.iotOrder("POS-1", iotpay.ChannelCard, 1000))
			if err != nil || o.Status != iotpay.StatusFailed {
				t.Fatalf("got %+v, %v; want status 9", o, err)
			}
			if x, err := o.Card(); err != nil || x.ReceiptDisp != "Transaction Not Completed "+tc.code || x.AuthNum != "" || !strings.HasPrefix(x.EMVTC, "AAC: ") {
				t.Errorf("extra: %+v, %v", x, err)
			}
			_, err = asked[map[string]string](t, data, "ecr", "sale", "--amount", "10.00")
			if err == nil || !strings.Contains(err.Error(), "exit 1") || !strings.Contains(err.Error(), "6002 "+tc.qfpay) {
				t.Errorf("ecr sale: %v", err)
			}
			dev.net(t, 0, 0)
		})
	}
}

// A customer who walked away: the till asks while its call waits, another order finds the terminal busy at once, and the till or the register ends it.
func TestNobodyAtDevsTerminal(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	dev := startDev(t, data, "--customer", "walk-away")
	till := dev.iotTill(t)
	type end struct {
		order *iotpay.Order
		err   error
	}
	ended := make(chan end, 1)
	go func() {
		o, err := till.Create(t.Context(), dev.iotOrder("POS-1", iotpay.ChannelCard, 1000))
		ended <- end{o, err}
	}()
	var waiting *iotpay.Order
	for deadline := time.Now().Add(startLimit); waiting == nil && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		waiting, _ = till.Query(t.Context(), iotpay.QueryOrder{MchOrderNo: "POS-1"})
	}
	if waiting == nil || waiting.Status.Final() || waiting.Status.Paid() {
		t.Fatalf("query_order while create_order waits: %+v", waiting.PayOrder)
	}
	began := time.Now()
	second, err := till.Create(t.Context(), dev.iotOrder("POS-2", iotpay.ChannelCard, 1000))
	if err != nil || second.Status.Paid() || !second.Status.Final() {
		t.Errorf("a busy terminal: %+v, %v", second, err)
	}
	if _, err := asked[map[string]string](t, data, "ecr", "sale", "--amount", "10.00"); err == nil || !strings.Contains(err.Error(), "busy") {
		t.Errorf("a register beside a busy terminal: %v", err)
	}
	if d := time.Since(began); d > 10*time.Second {
		t.Errorf("busy was said after %v", d)
	}
	if o, err := till.Close(t.Context(), iotpay.QueryOrder{MchOrderNo: "POS-1"}); err != nil || o.Status != iotpay.StatusClosed {
		t.Errorf("close_order: %+v, %v", o, err)
	}
	if e := <-ended; e.err != nil || e.order.Status != iotpay.StatusClosed {
		t.Errorf("create_order ended with %+v, %v", e.order, e.err)
	}

	for _, link := range []string{"http", "tcp", "serial"} {
		sold := make(chan error, 1)
		go func() {
			_, err := asked[map[string]string](t, data, "ecr", "sale", "--amount", "10.00", "--out-trade-no", "gone-"+link, "--link", link)
			sold <- err
		}()
		for deadline := time.Now().Add(startLimit); ; time.Sleep(10 * time.Millisecond) {
			row, err := asked[map[string]string](t, data, "ecr", "inquiry", "--out-trade-no", "gone-"+link)
			if err == nil && row["status"] == "not decided" {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: the sale does not begin: %v, %v", link, row, err)
			}
		}
		// Over the same link, while the sale waits on it. A serial line is one cable, and one program has it.
		by := link
		if link == "serial" {
			by = "http"
		}
		if _, err := asked[map[string]string](t, data, "ecr", "cancel", "--link", by); err != nil {
			t.Errorf("%s: cancel: %v", link, err)
		}
		if err := <-sold; err == nil || !strings.Contains(err.Error(), "6001") {
			t.Errorf("%s: a cancelled sale: %v", link, err)
		}
	}
	dev.net(t, 0, 0)
}

// TestRegisterDayOverQFPay is a cash register's day beside the terminal of dev, over each of its three links.
func TestRegisterDayOverQFPay(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	dev := startDev(t, data, "--customer", "approve")
	kept := int64(0)
	for _, link := range []string{"http", "tcp", "serial"} {
		must := func(args ...string) map[string]string {
			t.Helper()
			row, err := asked[map[string]string](t, data, append([]string{"ecr"}, append(args, "--link", link)...)...)
			if err != nil {
				t.Fatal(err)
			}
			return row
		}
		refused := func(want string, args ...string) {
			t.Helper()
			if _, err := asked[map[string]string](t, data, append([]string{"ecr"}, append(args, "--link", link)...)...); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s %v: %v, want %s", link, args, err, want)
			}
		}
		byCard := must("sale", "--amount", "12.50", "--out-trade-no", "card-"+link)
		if byCard["status"] != "paid" || byCard["amount"] != "12.50" || byCard["card"] != "555474******0229" || byCard["pay_type"] != "802808" || byCard["out_trade_no"] != "card-"+link {
			t.Errorf("%s: a card: %v", link, byCard)
		}
		// On the serial line each command draws the number of its message: one in 127 times it is that of the sale before, and only another content
		// makes this another request instead of a repeat, which rightly gets the sale's own answer.
		refused("2011", "sale", "--amount", "12.50", "--out-trade-no", "card-"+link, "--timeout", "59s")
		refused("1124", "refund", "--order", byCard["order"], "--amount", "2.50")
		byCode := must("sale", "--amount", "10.10", "--channel", "alipay", "--scan", "read")
		if byCode["status"] != "paid" || byCode["pay_type"] != "800108" || byCode["order"] == "" {
			t.Errorf("%s: a wallet's code: %v", link, byCode)
		}
		byQR := must("sale", "--amount", "3.00", "--channel", "fps")
		if byQR["status"] != "paid" || byQR["pay_type"] != "802001" {
			t.Errorf("%s: our code: %v", link, byQR)
		}
		if back := must("refund", "--order", byCode["order"], "--amount", "2.50"); back["status"] != "refunded" || back["amount"] != "2.50" || back["original"] != byCode["order"] {
			t.Errorf("%s: a part: %v", link, back)
		}
		refused("1272", "refund", "--order", byCode["order"], "--amount", "7.61")
		if link == "serial" {
			time.Sleep(6 * time.Second) // The refunds have made the same inquiry: for five seconds it may be taken for a repeat, as above.
		}
		if row := must("inquiry", "--order", byCode["order"]); row["status"] != "paid, refunded in part" || row["refundable"] != "7.60" {
			t.Errorf("%s: inquiry: %v", link, row)
		}
		if back := must("refund", "--order", byCard["order"]); back["status"] != "refunded" {
			t.Errorf("%s: all: %v", link, back)
		}
		if row := must("inquiry", "--out-trade-no", "card-"+link); row["status"] != "paid, refunded" && row["status"] != "taken back" {
			t.Errorf("%s: inquiry: %v", link, row)
		}
		refused("1136", "inquiry", "--order", "20260101000000000000000001")
		for _, args := range [][]string{{"print", "--order", byCode["order"]}, {"summary"}, {"cancel"}} {
			must(args...)
		}
		kept += 1010 - 250 + 300
	}
	if text := dev.papers(t); !strings.Contains(text, "TRANSACTION SUMMARY") || !strings.Contains(text, "Visa / Mastercard") || !strings.Contains(text, "REPRINT") {
		t.Errorf("the printer's paper:\n%s", text)
	}
	dev.net(t, kept, 0)

	for _, channel := range []string{"unionpay_card", "amex_card", "payme", "octopus"} { // The customer looks for a card that is taken.
		if row, err := asked[map[string]string](t, data, "ecr", "sale", "--amount", "1.00", "--channel", channel); err != nil || row["status"] != "paid" {
			t.Errorf("%s: %v, %v", channel, row, err)
		}
	}
	dev.stops(t)
}

func TestRegistersMistakes(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	for _, tc := range []struct {
		want string
		args []string
	}{
		{"start one with tillgate dev", []string{"sale", "--amount", "1"}},
		{"POS-KEY", []string{"sale", "--amount", "1", "--address", "http://127.0.0.1:1"}},
		{"--pos-key", []string{"sale", "--amount", "1", "--address", "http://127.0.0.1:1", "--pos-key", "short"}},
		{"--amount", []string{"sale", "--amount", "1.005"}},
		{"--amount", []string{"refund", "--order", "1", "--amount", "0"}},
		{"name the sale", []string{"inquiry"}},
		{"nothing was sent", []string{"sale", "--amount", "1", "--address", "http://127.0.0.1:1", "--pos-key", "Qz7mT4xLw9RbN2vK"}},
	} {
		var out, errs bytes.Buffer
		if code := run(t.Context(), append(slices.Concat([]string{"ecr"}, tc.args), "--data", data), noEnv, &out, &errs); code != exitError || !strings.Contains(errs.String(), tc.want) {
			t.Errorf("%v: exit %d: %s; want %s", tc.args, code, &errs, tc.want)
		}
	}
}

// A person at the page of dev's terminal: the page asks for the card of a till's order and of a register's sale, and both hear of the PIN's end.
func TestDevsTerminalInABrowser(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	dev := startDev(t, data)
	ctx := openBrowser(t)
	do := func(what string, steps ...chromedp.Action[chromedp.Void]) {
		t.Helper()
		if err := chromedp.Do(ctx, steps...); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	screen := func(mode device.Mode) chromedp.Action[chromedp.Void] {
		return chromedp.WaitVisible(chromedp.CSS(`#screen[data-mode="` + string(mode) + `"]`))
	}
	click := func(id string) chromedp.Action[chromedp.Void] { return chromedp.Click(chromedp.CSS("#" + id)) }
	do("open", chromedp.Navigate(dev.info.Terminal.PageURL), screen(device.Idle), chromedp.WaitReady(chromedp.CSS("#card option")))
	pay := func(pin string, end device.Mode) {
		t.Helper()
		do("insert", screen(device.AskCard), chromedp.SetValue(chromedp.CSS("#card"), "1"), click("insert"), screen(device.AskPIN)) // The second card has a PIN.
		for _, d := range pin {
			do("type", click("key-"+string(d)))
		}
		do("OK", click("ok"), screen(end))
	}
	card := dev.info.Cards[1]

	ended := make(chan error, 1)
	go func() {
		o, err := dev.iotTill(t).Create(t.Context(), dev.iotOrder("POS-1", iotpay.ChannelCard, 2865))
		if err == nil && o.Status != iotpay.StatusPaid {
			err = fmt.Errorf("status %d", o.Status)
		}
		ended <- err
	}()
	pay(card.PIN, device.Approved)
	if err := <-ended; err != nil {
		t.Errorf("IOT Pay: %v", err)
	}
	for _, link := range []string{"http", "tcp", "serial"} {
		go func() {
			_, err := asked[map[string]string](t, data, "ecr", "sale", "--amount", "10.00", "--link", link)
			ended <- err
		}()
		pay(card.PIN, device.Approved)
		if err := <-ended; err != nil {
			t.Errorf("%s: %v", link, err)
		}
	}
	go func() {
		_, err := asked[map[string]string](t, data, "ecr", "sale", "--amount", "10.00")
		ended <- err
	}()
	do("cancel", screen(device.AskCard), click("cancel"), screen(device.Declined))
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "6001") {
		t.Errorf("cancelled at the terminal: %v", err)
	}
	dev.net(t, 0, 2865+3000)
}

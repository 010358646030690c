package device_test

import (
	"context"
	"flag"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/tillgate/tillgate/device"
	"github.com/tillgate/tillgate/payment"
)

// screenshots asks the browser test to draw the terminal for the documents.
var screenshots = flag.Bool("screenshot", false, "write docs/terminal-*.png")

// openBrowser starts a headless Chromium of the size of a phone. It ends with the test.
func openBrowser(t *testing.T) context.Context {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("this test drives a browser, and there is none: install Chromium (the Debian package is chromium: apt-get install chromium)")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.WindowSize(500, 1250),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.WSURLReadTimeout(time.Minute))
	ctx, stop := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, _ = chromedp.NewContext(ctx, chromedp.WithLogf(t.Logf), chromedp.WithErrorf(t.Logf))
	t.Cleanup(func() { _ = chromedp.Cancel(ctx); stop() }) // How it ended is not what is tested.
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start %s: %v", path, err)
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// A person at the page: a card with its PIN, cancel, and the receipts that roll out of the printer.
func TestThePageInABrowser(t *testing.T) {
	t.Parallel()
	r := setup(t)
	u := r.terminal()
	page := httptest.NewServer(device.NewPage(u.Virtual, func() string { return u.Links()[0].Welcome().Store }, r.logger))
	t.Cleanup(page.Close)
	ctx := openBrowser(t)
	t.Cleanup(func() { _ = chromedp.Do(ctx, chromedp.Navigate("about:blank")) }) // Its stream ends before the server does.
	do := func(what string, steps ...chromedp.Action[chromedp.Void]) {
		t.Helper()
		if err := chromedp.Do(ctx, steps...); err != nil {
			html, _ := chromedp.Run(ctx, chromedp.OuterHTML(chromedp.CSS("html"))) // For the message only.
			t.Fatalf("%s: %v\n%s", what, err, html)
		}
	}
	draw := func(name string) {
		if !*screenshots {
			return
		}
		time.Sleep(time.Second) // The paper rolls out.
		png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
		if err == nil {
			err = os.WriteFile(filepath.Join("..", "docs", "terminal-"+name+".png"), png, 0o644)
		}
		if err != nil {
			t.Error(err)
		}
	}
	screen := func(mode device.Mode) chromedp.Action[chromedp.Void] {
		return chromedp.WaitVisible(chromedp.CSS(`#screen[data-mode="` + string(mode) + `"]`))
	}
	click := func(id string) chromedp.Action[chromedp.Void] { return chromedp.Click(chromedp.CSS("#" + id)) }

	do("open", chromedp.Navigate(page.URL), screen(device.Idle), chromedp.WaitReady(chromedp.CSS("#card option")))
	draw("idle")
	ends := r.selling(u, r.order(u, "28.65"))
	do("insert a card", screen(device.AskCard), chromedp.SetValue(chromedp.CSS("#card"), "1"), click("insert"), screen(device.AskPIN))
	draw("pin")
	for _, d := range "302312" {
		do("type", click("key-"+string(d)))
	}
	do("OK", click("ok"), screen(device.Approved), chromedp.WaitVisible(chromedp.CSS("#paper-2")))
	draw("approved")
	if s := <-ends; s.err != nil || s.view.Payment.State != payment.Captured {
		t.Errorf("got %s, %v", s.view.Payment.State, s.err)
	}
	text, err := chromedp.Run(ctx, chromedp.Text(chromedp.CSS("#paper-1")))
	if err != nil || !strings.Contains(text, "APPROVED - THANK YOU") || !strings.Contains(text, "CAD 28.65") {
		t.Errorf("receipt: %v\n%s", err, text)
	}
	html, err := chromedp.Run(ctx, chromedp.OuterHTML(chromedp.CSS("html")))
	if err != nil || strings.Contains(html, "5554748800260229") {
		t.Errorf("the page shows a card's number: %v", err)
	}

	ends = r.selling(u, r.order(u, "10.00"))
	do("cancel", screen(device.AskCard), click("cancel"), screen(device.Declined))
	if s := <-ends; s.report.Ended != payment.ReasonCustomerCancelled {
		t.Errorf("cancelled: %q", s.report.Ended)
	}

	ends = r.selling(u, r.order(u, "10.00"))
	do("a wrong PIN", screen(device.AskCard), click("insert"), screen(device.AskPIN), click("key-9"), click("key-9"), click("key-9"), click("key-9"), click("ok"), screen(device.Declined),
		chromedp.WaitVisible(chromedp.CSS("#paper-6")))
	draw("declined")
	if s := <-ends; s.view.Payment.Failure != payment.ReasonPINWrong {
		t.Errorf("wrong PIN: %q", s.view.Payment.Failure)
	}
	if got := r.movements(); got != "payment 2865 CAD done" {
		t.Errorf("books: %s", got)
	}
}

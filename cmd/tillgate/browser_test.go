package main

import (
	"context"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// screenshot asks the browser test to draw the shop's page for the documents.
var screenshot = flag.Bool("screenshot", false, "write docs/shop.png")

// browserPatience is for the whole story, on a machine that is busy.
const browserPatience = 2 * time.Minute

// openBrowser starts a headless Chromium with a profile of its own. It ends with the test.
func openBrowser(t *testing.T) context.Context {
	t.Helper()
	path := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		t.Fatal("this test drives a browser, and there is none: install Chromium (the Debian package is chromium: apt-get install chromium)")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.WindowSize(820, 700),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.WSURLReadTimeout(time.Minute))
	ctx, stop := chromedp.NewExecAllocator(context.Background(), options...) // Which makes a profile, and removes it.
	ctx, _ = chromedp.NewContext(ctx, chromedp.WithLogf(t.Logf), chromedp.WithErrorf(t.Logf))
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx) // Waits for the browser to end; how it ended is not what is tested.
		stop()
	})
	if err := chromedp.Do(ctx); err != nil { // The browser lives as long as the context of the first call.
		t.Fatalf("start %s: %v", path, err)
	}
	ctx, cancel := context.WithTimeout(ctx, browserPatience)
	t.Cleanup(cancel)
	return ctx
}

// TestShopInABrowser has a real browser run our two scripts in a shop's page: a wallet by way of the phone page and back, and cards.
func TestShopInABrowser(t *testing.T) {
	t.Parallel()
	s := openShop(t, startDev(t, t.TempDir()))
	ctx := openBrowser(t)
	do := func(what string, steps ...chromedp.Action[chromedp.Void]) {
		t.Helper()
		if err := chromedp.Do(ctx, steps...); err != nil {
			page, _ := chromedp.Run(ctx, chromedp.OuterHTML(chromedp.CSS("html"))) // For the message only.
			t.Fatalf("%s: %v\n%s", what, err, page)
		}
	}
	read := func(what chromedp.Action[string]) string {
		t.Helper()
		text, err := chromedp.Run(ctx, what)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	const (
		zip     = chromedp.CSS(`button[data-provider="zippay"]`)
		number  = chromedp.CSS(`#card input[autocomplete="cc-number"]`)
		expiry  = chromedp.CSS(`#card input[autocomplete="cc-exp"]`)
		cvc     = chromedp.CSS(`#card input[autocomplete="cc-csc"]`)
		button  = chromedp.CSS(`#card-form button`)
		invalid = chromedp.CSS(`#quest-financial-card-invalid:not(:empty)`)
		result  = chromedp.CSS(`#result`)
	)
	wantEnd := func(word string) {
		t.Helper()
		do("the shop's last page", chromedp.WaitVisible(result))
		got, at := read(chromedp.Text(result)), read(chromedp.Location())
		if got != word || !strings.HasPrefix(at, s.url+"/complete?transactionReference=web+%2F+") {
			t.Errorf("the shop shows %q at %s, want %s", got, at, word)
		}
	}

	for _, tt := range []struct {
		tap  chromedp.CSS
		word string
	}{{"button.go", "APPROVED"}, {"button:not(.go)", "DECLINED"}} {
		do("choose Zip", chromedp.Navigate(s.url), chromedp.Click(zip), chromedp.WaitVisible(chromedp.CSS("button.go")))
		if at := read(chromedp.Location()); !strings.HasPrefix(at, s.dev.info.Sandbox.URL+"/pay/") {
			t.Errorf("the phone page is at %s", at)
		}
		do("tap "+string(tt.tap), chromedp.Click(tt.tap))
		wantEnd(tt.word)
		if got := s.lastForm().Get("webWidget"); got != `{"provider":"zippay"}` {
			t.Errorf("webWidget is %s", got)
		}
	}

	do("the shop again", chromedp.Navigate(s.url), chromedp.WaitVisible(number))
	for _, tt := range []struct{ name, number, expiry, cvc, want string }{
		{"a wrong check digit", "4242 4242 4242 4241", "12/30", "123", "Check the card number."},
		{"a month that is none", "4242 4242 4242 4242", "13/30", "123", "Check the expiry date."},
		{"a short code", "4242 4242 4242 4242", "12/30", "12", "Check the security code."},
		{"a card of the past", "4242 4242 4242 4242", "12/20", "123", "This card has expired."},
		{"a card that nobody knows", "4012 8888 8888 1881", "12/30", "123", "This card is not accepted."},
	} {
		do(tt.name, chromedp.SetValue(number, tt.number), chromedp.SetValue(expiry, tt.expiry), chromedp.SetValue(cvc, tt.cvc),
			chromedp.Click(button), chromedp.WaitVisible(invalid))
		got := read(chromedp.Text(invalid))
		do("clear", chromedp.SetJavascriptAttribute(chromedp.CSS("#quest-financial-card-invalid"), "textContent", ""))
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
	for _, tt := range []struct{ number, word string }{{"4242 4242 4242 4242", "APPROVED"}, {"4000000000000002", "DECLINED"}} {
		do("fill in the card", chromedp.Navigate(s.url), chromedp.SendKeys(number, tt.number), chromedp.SendKeys(expiry, "12/34"), chromedp.SendKeys(cvc, "123"))
		if *screenshot && tt.word == "APPROVED" {
			png, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join("..", "..", "docs", "shop.png"), png, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		do("pay", chromedp.Click(button))
		wantEnd(tt.word)
		form := s.lastForm()
		if len(form) != 3 || !strings.HasPrefix(form.Get("card-token"), "ct_sandbox_") || form.Get("button") != "pay" {
			t.Errorf("the shop got more or less than the token, the amount and its button: %v", form)
		}
	}
}

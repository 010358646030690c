package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// running is a dev in this process.
type running struct {
	info devInfo
	page *bytes.Buffer
	errs *bytes.Buffer
	stop func() int
}

func noEnv(string) string { return "" }

// startDev runs dev on a data folder until the test stops it, and waits for dev.json.
func startDev(t testing.TB, data string, args ...string) running {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := running{page: &bytes.Buffer{}, errs: &bytes.Buffer{}}
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, append([]string{"dev", "--listen", "127.0.0.1:0", "--data", data}, args...), noEnv, r.page, r.errs)
	}()
	code, once := 0, sync.Once{}
	r.stop = func() int {
		once.Do(func() { cancel(); code = <-ended })
		return code
	}
	t.Cleanup(func() { r.stop() })
	path := filepath.Join(data, devFile)
	for deadline := time.Now().Add(startLimit); ; time.Sleep(10 * time.Millisecond) {
		text, err := os.ReadFile(path)
		if err == nil {
			if err := json.Unmarshal(text, &r.info); err != nil || !r.info.Ready {
				t.Fatalf("dev.json appeared before it was whole: %v\n%s", err, text)
			}
			return r
		}
		select {
		case code := <-ended:
			t.Fatalf("dev ended with %d: %s", code, r.errs)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("no dev.json: %s", r.errs)
		}
	}
}

func (r running) call(t *testing.T, method, path, body string) (int, map[string]any) {
	t.Helper()
	req, err := http.NewRequest(method, r.info.UPP.BaseURL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+r.info.UPP.Token)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	var got map[string]any
	if err := json.NewDecoder(res.Body).Decode(&got); err != nil {
		t.Fatalf("%s %s: %d without JSON: %v", method, path, res.StatusCode, err)
	}
	return res.StatusCode, got
}

func (r running) code(t *testing.T, provider, behaviour string) string {
	t.Helper()
	for _, c := range r.info.WalletCodes {
		if c.Provider == provider && c.Behaviour == behaviour {
			return c.Code
		}
	}
	t.Fatalf("no code for %s %s", provider, behaviour)
	return ""
}

func (r running) purchase(t *testing.T, reference string) string {
	return fmt.Sprintf(`{"transactionType":"purchase","transactionReference":%q,"amount":24.5,"currency":"aud","provider":"alipay",
		"saleType":"customerPresentedToken","customerToken":%q,
		"items":[{"type":"sku","itemReference":"1","name":"Umbrella","amount":24.5,"quantity":1}]}`, reference, r.code(t, "alipay", "approve"))
}

func (r running) books(t *testing.T, reference string) []movement {
	t.Helper()
	res, err := http.Get(r.info.Sandbox.BooksURL + "?reference=" + reference)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	var rows []movement
	if err := json.NewDecoder(res.Body).Decode(&rows); err != nil {
		t.Fatal(err)
	}
	return rows
}

func TestDevTakesAPaymentOnceAlsoAfterARestart(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	dev := startDev(t, data)
	numbers := make([]string, 10)
	var wg sync.WaitGroup
	for i := range numbers {
		wg.Go(func() {
			status, got := dev.call(t, "POST", "/v1/transactions", dev.purchase(t, "ten-times"))
			if status != http.StatusOK || got["approved"] != true {
				t.Errorf("%d %v", status, got)
			}
			numbers[i], _ = got["outTradeNumber"].(string)
		})
	}
	wg.Wait()
	for _, n := range numbers {
		if n != numbers[0] {
			t.Errorf("two payments: %s and %s", n, numbers[0])
		}
	}
	if code := dev.stop(); code != exitOK {
		t.Fatalf("dev ended with %d: %s", code, dev.errs)
	}
	if _, err := os.Stat(filepath.Join(data, devFile)); !os.IsNotExist(err) {
		t.Errorf("dev.json is still there after the end: %v", err)
	}

	again := startDev(t, data)
	if again.info.UPP.Token != dev.info.UPP.Token {
		t.Error("the token changed with the restart")
	}
	status, got := again.call(t, "POST", "/v1/transactions", again.purchase(t, "ten-times"))
	if status != http.StatusOK || got["outTradeNumber"] != numbers[0] || got["approved"] != true {
		t.Errorf("after the restart: %d %v", status, got)
	}
	if books := again.books(t, numbers[0]); len(books) != 1 || books[0].Minor != 2450 || books[0].State != "done" {
		t.Errorf("the sandbox's books: %+v; want one charge", books)
	}
}

func TestDevFileTellsEverything(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	dev := startDev(t, data)
	info, err := os.Stat(filepath.Join(data, devFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("dev.json: %v, %v; want mode 0600", info.Mode(), err)
	}
	text, err := os.ReadFile(filepath.Join(data, devFile))
	if err != nil {
		t.Fatal(err)
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(text, &keys); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"ready", "url", "upp", "sandbox", "wallet_codes", "triggers", "test_cards"} {
		if keys[key] == nil {
			t.Errorf("dev.json lacks %q", key)
		}
	}
	for _, behaviour := range []string{"approve", "decline", "insufficient_funds", "pending_then_approve_3s", "pending_then_decline_3s",
		"pending_forever", "no_answer", "late_answer", "garbled_answer", "connection_cut", "error"} {
		dev.code(t, "alipay", behaviour)
		dev.code(t, "wechat", behaviour)
	}
	for _, trigger := range dev.info.Triggers {
		if _, cents, ok := strings.Cut(trigger.Amount, "."); !ok || len(cents) != 2 {
			t.Errorf("trigger amount %q is not text with two places", trigger.Amount)
		}
	}
	for _, address := range []string{dev.info.URL + "/healthz", dev.info.URL + "/readyz", dev.info.URL + "/metrics", dev.info.UPP.WebWidgetScript,
		dev.info.UPP.CardWidgetScript} {
		res, err := http.Get(address)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if res.StatusCode != http.StatusOK || len(body) == 0 {
			t.Errorf("%s: %d %s", address, res.StatusCode, body)
		}
	}
	if status, _ := dev.call(t, "POST", "/v1/transactions", dev.purchase(t, "page")); status != http.StatusOK {
		t.Errorf("payment: %d", status)
	}
	var out, errs bytes.Buffer
	if code := run(t.Context(), []string{"env", "--data", data}, noEnv, &out, &errs); code != exitOK ||
		!strings.Contains(out.String(), "export UPP_TOKEN="+dev.info.UPP.Token+"\n") {
		t.Errorf("env: %d %s %s", code, &out, &errs)
	}
	if code := dev.stop(); code != exitOK { // From here on nothing is written any more.
		t.Errorf("dev ended with %d", code)
	}
	if page := dev.page.String(); !strings.Contains(page, dev.info.UPP.BaseURL) || !strings.Contains(page, "curl") {
		t.Errorf("the start page:\n%s", page)
	}
	if strings.Contains(dev.errs.String(), dev.info.UPP.Token) {
		t.Error("the log holds the token")
	}
}

func TestDevSaysWhatIsInItsWay(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	startDev(t, data)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	for _, tc := range []struct {
		name string
		args []string
		want string
	}{
		{"a data folder that another dev has", []string{"--listen", "127.0.0.1:0", "--data", data}, data},
		{"a port that another program has", []string{"--listen", taken.Addr().String(), "--data", t.TempDir()}, "is taken"},
		{"an address that is none", []string{"--listen", "nowhere", "--data", t.TempDir()}, "host:port"},
		{"a public address that is none", []string{"--listen", "127.0.0.1:0", "--public-url", "phone", "--data", t.TempDir()}, "--public-url"},
		{"a level that is none", []string{"--listen", "127.0.0.1:0", "--log", "loud", "--data", t.TempDir()}, "debug, info, warn or error"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out, errs bytes.Buffer
			code := run(t.Context(), append([]string{"dev"}, tc.args...), noEnv, &out, &errs)
			if code == exitOK || !strings.Contains(errs.String(), tc.want) {
				t.Errorf("exit %d: %s; want an error with %q", code, &errs, tc.want)
			}
		})
	}
}

// A phone opens the QR code at the public address.
func TestPublicURLIsInTheQRCode(t *testing.T) {
	t.Parallel()
	dev := startDev(t, t.TempDir(), "--public-url", "http://192.0.2.7:8090/")
	_, got := dev.call(t, "POST", "/v1/transactions", `{"transactionType":"purchase","transactionReference":"qr","amount":1,"currency":"aud",
		"provider":"alipay","saleType":"merchantPresentedToken","items":[{"type":"sku","itemReference":"1","name":"x","amount":1,"quantity":1}]}`)
	if token, _ := got["merchantToken"].(string); !strings.HasPrefix(token, "http://192.0.2.7:8090/pay/") {
		t.Errorf("merchantToken %q", token)
	}
}

package device_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/tillgate/tillgate/card"
	"github.com/tillgate/tillgate/device"
	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/terminal"
)

func TestOrdersBesideSales(t *testing.T) {
	t.Parallel()
	r := setup(t)
	u := r.terminal()
	r.customer(u, "approve")
	ctx := context.Background()
	c := r.server.channel
	_, v, err := r.sale(u, r.order(u, "20.00"))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Print(ctx, u.caller, terminal.PrintOrder{Payment: v.Payment.ID}); err != nil || strings.Count(u.paper(), "REPRINT") != 2 {
		t.Errorf("reprint: %v\n%s", err, u.paper())
	}
	if err := c.Print(ctx, u.caller, terminal.PrintOrder{Lines: []string{"Kitchen: two teas"}}); err != nil || !strings.Contains(u.paper(), "two teas") {
		t.Errorf("lines: %v", err)
	}
	u.Jam("out of paper")
	if err := c.Print(ctx, u.caller, terminal.PrintOrder{Lines: []string{"x"}}); !errors.Is(err, terminal.ErrPrinter) {
		t.Errorf("without paper: %v", err)
	}
	u.Jam("")

	refund := terminal.RefundOrder{Payment: v.Payment.ID, Minor: 500, Currency: "CAD"}
	if err := c.Refund(ctx, u.caller, "R-1", refund); err != nil || r.movements() != "refund 500 CAD done; payment 2000 CAD done" || !strings.Contains(u.paper(), "REFUND") {
		t.Errorf("refund: %v, %s", err, r.movements())
	}
	if err := c.Refund(ctx, u.caller, "R-1", refund); !errors.Is(err, terminal.ErrOver) {
		t.Errorf("the same refund again: %v", err)
	}
	refund.Minor = 1501
	if err := c.Refund(ctx, u.caller, "R-2", refund); !errors.Is(err, payment.ErrExceeds) {
		t.Errorf("more than is left: %v", err)
	}
	if r.movements() != "refund 500 CAD done; payment 2000 CAD done" {
		t.Errorf("books: %s", r.movements())
	}

	q := terminal.QROrder{Text: "https://qr.example/1", Minor: 100, Currency: "CAD", Limit: 10 * time.Second}
	shown := make(chan terminal.Report, 1)
	go func() { report, _ := c.ShowQR(ctx, u.caller, q); shown <- report }()
	r.await(u, device.ShowCode)
	r.until("the key", u.Cancel)
	if report := <-shown; report.Ended != payment.ReasonCustomerCancelled {
		t.Errorf("QR: %q", report.Ended)
	}
	r.until("the terminal to be free", func() bool { return c.Free(u.caller) == nil })
}

func TestKeysAreRefreshed(t *testing.T) {
	t.Parallel()
	r := setup(t)
	u := r.terminal()
	r.customer(u, "approve")
	ctx := context.Background()
	for range 3 { // The key of three ago is no key any more.
		was, err := os.ReadFile(filepath.Join(u.dir, "identity.json"))
		if err != nil {
			t.Fatal(err)
		}
		if err := r.server.channel.RefreshKeys(ctx, u.caller); err != nil {
			t.Fatal(err)
		}
		if now, err := os.ReadFile(filepath.Join(u.dir, "identity.json")); err != nil || string(now) == string(was) {
			t.Errorf("the identity has not changed: %v", err)
		}
		if _, v, err := r.sale(u, r.order(u, "1.00")); err != nil || v.Payment.State != payment.Captured {
			t.Errorf("with the new PIN key: %s, %v", v.Payment.State, err)
		}
		u.Links()[0].Cut()
		r.until("the line with the new key", func() bool { return u.Links()[0].Online() && r.server.channel.Free(u.caller) == nil })
	}
}

// raw is a line by hand.
type raw struct {
	t    *testing.T
	conn *websocket.Conn
}

func (r *rig) raw(t *testing.T, u *unit) *raw {
	t.Helper()
	conn, err := connect(context.Background(), r.server.http.URL, u.identity.Number, u.identity.Key)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.CloseNow() })
	return &raw{t, conn}
}

// call is a call and the code of its error; "" for none.
func (w *raw) call(id string, kind terminal.CallKind, body any) string {
	w.t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), 10*time.Second)
	defer stop()
	if err := terminal.WriteFrame(ctx, w.conn, terminal.MakeFrame(terminal.FrameCall, string(kind), id, body)); err != nil {
		w.t.Fatal(err)
	}
	for {
		f, err := terminal.ReadFrame(ctx, w.conn)
		if err != nil {
			w.t.Fatal(err)
		}
		if f.Type == terminal.FrameAnswer && f.ID == id {
			if f.Error == nil {
				return ""
			}
			return f.Error.Code
		}
	}
}

// What a terminal may not do: it is the one side of the channel that stands in a shop.
func TestATerminalThatAsksForWhatIsNotItsOwn(t *testing.T) {
	t.Parallel()
	r := setup(t)
	u, thief := r.terminal(), r.terminal()
	p := r.order(u, "10.00")
	ends := r.selling(u, p)
	r.await(u, device.AskCard)
	thief.stop()
	w := r.raw(t, thief)
	pan, err := card.ParsePAN("4761739001010010")
	if err != nil {
		t.Fatal(err)
	}
	mine := &payment.Card{PAN: pan, Entry: payment.EntryKeyed}
	order := fmt.Sprintf("sale-%d-%d", p.Merchant, p.ID)
	for n, tt := range []struct {
		name string
		kind terminal.CallKind
		body any
		want string
	}{
		{"a card for another's order", terminal.CallAttempt, terminal.MakeAttempt(order, "", p.ID, mine), "over"},
		{"a card for another's payment", terminal.CallAttempt, terminal.MakeAttempt("", "qfpay", p.ID, mine), "unauthorized"},
		{"a card for no order", terminal.CallAttempt, terminal.MakeAttempt("sale-1-2", "", p.ID, mine), "over"},
		{"a card in a protocol that is none", terminal.CallAttempt, terminal.MakeAttempt("", "iotpay", p.ID, mine), "invalid"},
		{"a refusal of another's", terminal.CallRefuse, terminal.RefuseCall{Order: order, Payment: p.ID}, "over"},
		{"another's payment", terminal.CallAwait, terminal.AwaitCall{Payment: p.ID}, "not_found"},
		{"another's refund", terminal.CallRefund, terminal.RefundCall{Order: "refund-1-x", Payment: p.ID, Minor: 1, Currency: "CAD"}, "over"},
		{"a cancel of another's", terminal.CallCancel, terminal.CancelCall{As: "qfpay", Payment: p.ID}, "unauthorized"},
		{"a sale without an identity", terminal.CallSell, terminal.SellCall{As: "qfpay", Minor: 1, Currency: "CAD", Method: terminal.MethodCard, Flow: payment.ByCard, Lifetime: time.Minute}, "unauthorized"},
		{"settings without an identity", terminal.CallSettings, terminal.SealedCall{As: "qfpay", Salt: strings.Repeat("0", 32)}, "unauthorized"},
		{"no card", terminal.CallAttempt, map[string]any{"payment": p.ID, "card": map[string]string{"pan": "4761739001010011"}}, "invalid"},
		{"not an object", terminal.CallAttempt, "4761739001010010", "invalid"},
		{"no salt", terminal.CallPINKey, terminal.SealedCall{Salt: "00"}, "invalid"},
		{"no call", "shutdown", nil, "invalid"},
	} {
		if got := w.call(fmt.Sprint(n), tt.kind, tt.body); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
	r.insert(u, nothing, nothing)
	if s := <-ends; s.err != nil || s.view.Payment.State != payment.Captured || r.movements() != "payment 1000 CAD done" {
		t.Errorf("afterwards: %s, %v, %s", s.view.Payment.State, s.err, r.movements())
	}
}

func TestLinesThatProveNothing(t *testing.T) {
	t.Parallel()
	r := setup(t)
	u := r.terminal()
	ctx := context.Background()
	refused := func(name string, conn *websocket.Conn, err error) {
		t.Helper()
		if err == nil {
			_, err = terminal.ReadFrame(ctx, conn)
		}
		if websocket.CloseStatus(err) != terminal.CloseRefused && websocket.CloseStatus(err) != websocket.StatusMessageTooBig {
			t.Errorf("%s: %v", name, err)
		}
		if conn != nil {
			_ = conn.CloseNow()
		}
	}
	conn, err := connect(ctx, r.server.http.URL, u.identity.Number, terminal.NewSecret(strings.Repeat("00", 16)))
	refused("a wrong key", conn, err)
	conn, err = connect(ctx, r.server.http.URL, "40009999", u.identity.Key)
	refused("no such terminal", conn, err)
	for name, text := range map[string]string{"not JSON": "{", "another frame": `{"t":"call","kind":"pin_key","id":"1"}`, "too large": strings.Repeat("x", terminal.FrameMax+1)} {
		conn, _, err := websocket.Dial(ctx, r.server.http.URL+terminal.PathConnect, nil)
		if err == nil {
			_, err = terminal.ReadFrame(ctx, conn)
		}
		if err == nil {
			err = conn.Write(ctx, websocket.MessageText, []byte(text))
		}
		if err == nil {
			_, err = terminal.ReadFrame(ctx, conn)
		}
		refused(name, conn, err)
	}
	if err := r.server.channel.Free(u.caller); err != nil || !u.Links()[0].Online() {
		t.Errorf("the terminal itself: %v", err)
	}
	if strings.Contains(r.log.String(), u.identity.Key.Reveal()) {
		t.Error("the log has the terminal's key")
	}
}

func TestActivationCodesAreNotGuessed(t *testing.T) {
	t.Parallel()
	r := setup(t)
	var last int
	for range 11 {
		res, err := http.Post(r.server.http.URL+terminal.PathActivate, "application/json", strings.NewReader(`{"code":"00000000"}`))
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		last = res.StatusCode
	}
	if last != http.StatusTooManyRequests {
		t.Errorf("got %d", last)
	}
}

func TestAnIdentityIsKept(t *testing.T) {
	t.Parallel()
	r := setup(t)
	u := r.pair()
	path := filepath.Join(u.dir, "identity.json")
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := device.Pair(context.Background(), r.where.url(), "12345678", path, device.About{}, false); err == nil {
		t.Error("paired twice")
	}
	if _, err := device.LoadIdentity(filepath.Join(u.dir, "none")); !errors.Is(err, device.ErrNoIdentity) {
		t.Errorf("none: %v", err)
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := device.LoadIdentity(path); err == nil || errors.Is(err, device.ErrNoIdentity) {
		t.Errorf("damaged: %v", err)
	}
	for _, server := range []string{"http://pay.example/terminal", "ftp://127.0.0.1", "pay.example", "http://127.0.0.1.example"} {
		_, err := device.Pair(context.Background(), server, "12345678", filepath.Join(t.TempDir(), "i"), device.About{}, false)
		if err == nil || strings.Contains(err.Error(), "activate") {
			t.Errorf("%s: %v", server, err)
		}
	}
}

// Of a card that has paid, the terminal's files and the server's database hold nothing that must not be kept.
func TestNothingOfACardIsKept(t *testing.T) {
	t.Parallel()
	r := setup(t)
	u := r.terminal()
	r.customer(u, "approve")
	report, _, err := r.sale(u, r.order(u, "10.00"))
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{u.dir, filepath.Join(r.dir, "books")} {
		err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			text, err := os.ReadFile(path)
			for _, c := range r.cards() {
				for _, secret := range []string{c.PAN, c.Track2, c.PAN[6:len(c.PAN)-4] + c.PAN[len(c.PAN)-4:], report.Cryptogram} {
					if strings.Contains(string(text), secret) {
						t.Errorf("%s holds something of %s", path, c.Masked())
					}
				}
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
	if all := fmt.Sprintf("%v %+v %#v %s", report, report, report, terminal.MakeAttempt("o", "", 1, &payment.Card{})); strings.Contains(all, "555474") || !strings.Contains(all, "***") {
		t.Errorf("it prints: %s", all)
	}
}

// One terminal may work for two shops: each has a line of its own, and the customer stands before one screen.
func TestOneTerminalForTwoShops(t *testing.T) {
	t.Parallel()
	r := setup(t)
	u, second := r.pair(), r.pair()
	u.more = []*device.Identity{second.identity}
	r.start(u)
	c := r.server.channel
	r.until("the second line", func() bool { return c.Free(second.caller) == nil })
	first := r.selling(u, r.order(u, "10.00"))
	r.await(u, device.AskCard)
	if _, err := c.Sale(context.Background(), second.caller, r.order(second, "11.00")); !errors.Is(err, terminal.ErrBusy) {
		t.Errorf("the other shop: %v", err)
	}
	r.insert(u, nothing, nothing)
	if s := <-first; s.err != nil || s.view.Payment.State != payment.Captured {
		t.Errorf("got %s, %v", s.view.Payment.State, s.err)
	}
	r.customer(u, "approve")
	r.until("it to be free", func() bool { return c.Free(second.caller) == nil })
	if _, v, err := r.sale(second, r.order(second, "12.00")); err != nil || v.Payment.State != payment.Captured {
		t.Errorf("the other shop's own: %s, %v", v.Payment.State, err)
	}
}

package qfpay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
)

// clients are cash registers on all three links to one server.
func (r *rig) clients() map[string]*Client {
	serial := &OverSerial{Line: r.piped()}
	r.t.Cleanup(func() { serial.Close() })
	all := map[string]*Client{
		"HTTP":   {Link: &OverHTTP{URL: r.http()}, Key: k16},
		"TCP":    {Link: &OverTCP{Address: r.tcp()}, Key: k16},
		"serial": {Link: serial, Key: k16},
	}
	return all
}

// Everything a cash register does, over each link, in each form of request.
func TestClient(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for _, form := range []Form{FormAuto, FormQuoted, FormBare, FormInner, FormPlain} {
		for _, reply := range []Reply{ReplyMirror, ReplyEncrypted, ReplyPlain} {
			r := setup(t)
			r.keys.change(KeySet{Keys: []POSKey{k16}, Encryption: EncryptionAuto, Reply: reply})
			for name, c := range r.clients() {
				c.Form = form
				t.Run(fmt.Sprintf("%s form %q reply %q", name, string(rune(form)), reply), func(t *testing.T) {
					sale, err := c.Sale(ctx, SaleCall{OutTradeNo: name, Amount: dollars("10.1"), Channel: CardPayment, WaitCardTimeout: 30 * time.Second, FrontCamera: true, GoHome: true})
					if err != nil {
						t.Fatal(err)
					}
					if sale.Number == "" || sale.Amount != dollars("10.10") || sale.OutTradeNo != name || sale.CardNumber != "400000******0002" ||
						sale.CardScheme != "VISA" || sale.PayType != "802808" || sale.PaidAt != "2026-01-02 15:04:07" || sale.Inquired {
						t.Errorf("sale: %+v", sale)
					}
					d, err := c.Inquiry(ctx, InquiryRequest{OutTradeNo: name})
					if err != nil || d.Syssn != sale.Number || d.AllowRefundAmt != "1010" || d.RespCD != InnerOK {
						t.Errorf("inquiry: %+v, %v", d, err)
					}
					part, err := c.Refund(ctx, RefundCall{OrderID: sale.Number, Amount: dollars("4")})
					if err != nil || part.Amount != dollars("4") || part.Original != sale.Number || part.Number == "" {
						t.Errorf("refund of a part: %+v, %v", part, err)
					}
					rest, err := c.Refund(ctx, RefundCall{OrderID: sale.Number})
					if err != nil || rest.Amount != dollars("6.1") {
						t.Errorf("refund of the rest: %+v, %v", rest, err)
					}
					if err := c.Print(ctx, sale.Number); err != nil {
						t.Errorf("print: %v", err)
					}
					if err := c.Summary(ctx); err != nil {
						t.Errorf("summary: %v", err)
					}
					if err := c.Cancel(ctx); err != nil {
						t.Errorf("cancel: %v", err)
					}
					var refused *Refusal
					if _, err := c.Sale(ctx, SaleCall{OutTradeNo: name, Amount: dollars("1"), Channel: WeChat}); !errors.As(err, &refused) || refused.Inner != InnerDuplicate {
						t.Errorf("the same number again: %v", err)
					}
					if _, err := c.Inquiry(ctx, InquiryRequest{Number: "nobody"}); !errors.As(err, &refused) || refused.Inner != InnerNotFound {
						t.Errorf("nobody's order: %v", err)
					}
					if err := c.Print(ctx, "nobody"); !errors.As(err, &refused) || refused.Inner != InnerNotFound {
						t.Errorf("nobody's receipt: %v", err)
					}
				})
			}
		}
	}
}

// A cancel beside a sale, over each link.
func TestClientCancel(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.desk.started, r.desk.onSale = make(chan SaleRequest, 1), waitForCard
	for name, c := range r.clients() {
		t.Run(name, func(t *testing.T) {
			ended := make(chan error, 1)
			go func() {
				_, err := c.Sale(context.Background(), SaleCall{Amount: dollars("1"), Channel: CardPayment})
				ended <- err
			}()
			<-r.desk.started
			if err := c.Cancel(context.Background()); err != nil {
				t.Errorf("cancel: %v", err)
			}
			var refused *Refusal
			if err := <-ended; !errors.As(err, &refused) || !refused.Cancelled() {
				t.Errorf("sale: %v", err)
			}
		})
	}
}

// A wrong key is refused in the same way over each link, and nothing is begun.
func TestClientWrongKey(t *testing.T) {
	t.Parallel()
	r := setup(t)
	for name, c := range r.clients() {
		t.Run(name, func(t *testing.T) {
			c.Key = mustKey("WrongKeyWrongKey")
			var refused *Refusal
			if _, err := c.Sale(context.Background(), SaleCall{Amount: dollars("1"), Channel: CardPayment}); !errors.As(err, &refused) || refused.Code != CodeDecryptFailed {
				t.Errorf("got %v", err)
			}
		})
	}
	if n := r.desk.saleCount(); n != 0 {
		t.Errorf("%d sales were begun", n)
	}
}

// A key of 32 characters is tried in each mode until the terminal understands it (§2.1).
func TestClientKeyModes(t *testing.T) {
	t.Parallel()
	for _, mode := range keyModes {
		link := &scriptedLink{answer: func(op FuncType, body []byte) ([]byte, error) {
			text, err := unarmor(string(body))
			if err != nil {
				return nil, err
			}
			if _, err := decrypt(k32.aes(mode), text); err != nil {
				return marshal(faultDecrypt.response())
			}
			return []byte(encrypt(k32.aes(mode), []byte(`{"respcd":"6000","data":""}`))), nil
		}}
		c := &Client{Link: link, Key: k32}
		for range 2 {
			if err := c.Cancel(context.Background()); err != nil {
				t.Errorf("%s: %v", mode, err)
			}
		}
		if c.found != mode {
			t.Errorf("found mode %s, want %s", c.found, mode)
		}
	}
}

// scriptedLink answers as a test wants, and counts what was sent.
type scriptedLink struct {
	mu     sync.Mutex
	sent   map[FuncType]int
	answer func(op FuncType, body []byte) ([]byte, error)
}

func (*scriptedLink) form() Form { return FormBare }

func (l *scriptedLink) exchange(_ context.Context, op FuncType, body []byte, _ func([]byte) bool) ([]byte, error) {
	l.mu.Lock()
	if l.sent == nil {
		l.sent = make(map[FuncType]int)
	}
	l.sent[op]++
	l.mu.Unlock()
	return l.answer(op, body)
}

// clock is a client's time: it goes on when the client sleeps.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Sleep(ctx context.Context, d time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	return ctx.Err()
}

func inquiryAnswer(inner Inner, txamt, cancel string, left string) []byte {
	b, err := marshal(Response{Code: CodeOK, Data: encodeData(InquiryData{OutTradeNo: "A", Syssn: "1", RespCD: inner, Txamt: Number(txamt), Cancel: Number(cancel),
		AllowRefundAmt: Number(left)})})
	if err != nil {
		panic(err)
	}
	return b
}

func jsonAnswer(code Code, inner Inner) []byte {
	b, err := marshal(outcome{code, inner, "text"}.response())
	if err != nil {
		panic(err)
	}
	return b
}

// After silence, whatever its kind, the sale is inquired about, and never sent again.
func TestSaleAfterSilence(t *testing.T) {
	t.Parallel()
	notFound, slow := jsonAnswer(CodeError, InnerNotFound), jsonAnswer(CodeOther, "")
	good, pending := inquiryAnswer(InnerOK, "1010", "0", "1010"), inquiryAnswer(InnerProcessing, "1010", "0", "0")
	for _, tc := range []struct {
		name      string
		sale      []byte // Nil is silence.
		inquiries [][]byte
		approved  bool
		code      Code // Of a *Refusal; empty for none.
		inner     Inner
		unknown   bool
	}{
		{"lost, and found approved", nil, [][]byte{good}, true, "", "", false},
		{"lost, found when it is decided", nil, [][]byte{nil, pending, slow, pending, good}, true, "", "", false},
		{"lost, found declined", nil, [][]byte{pending, inquiryAnswer(InnerBalance, "1010", "0", "0")}, false, CodeError, InnerBalance, false},
		{"lost, found taken back", nil, [][]byte{inquiryAnswer(InnerOK, "1010", "1", "0")}, false, CodeCancelled, InnerClosed, false},
		{"lost, not known while the customer may still come", nil, [][]byte{notFound, notFound, notFound, good}, true, "", "", false},
		{"lost, and never known", nil, [][]byte{notFound}, false, CodeError, InnerNotFound, false},
		{"lost, and silence for ever", nil, [][]byte{nil}, false, "", "", true},
		{"lost, and pending for ever", nil, [][]byte{pending}, false, "", "", true},
		{"answered as unknown", jsonAnswer(CodeError, InnerProcessing), [][]byte{good}, true, "", "", false},
		{"answered as unknown, for ever", jsonAnswer(CodeError, InnerProcessing), [][]byte{pending}, false, "", "", true},
		{"answered as a fault in the terminal", jsonAnswer(CodeOther, ""), [][]byte{good}, true, "", "", false},
		{"answered with garbage", []byte("\x00\x01"), [][]byte{good}, true, "", "", false},
		{"answered about another sale", []byte(`{"respcd":"6000","data":"{\"out_trade_no\":\"B\"}"}`), [][]byte{good}, true, "", "", false},
		{"answered about another amount", []byte(`{"respcd":"6000","data":"{\"out_trade_no\":\"A\",\"txamt\":\"1\"}"}`), [][]byte{good}, true, "", "", false},
		{"answered in contradiction", []byte(`{"respcd":"6000","data":"{\"out_trade_no\":\"A\",\"respcd\":\"1205\"}"}`), [][]byte{good}, true, "", "", false},
		{"answered with broken data", []byte(`{"respcd":"6000","data":"{"}`), [][]byte{good}, true, "", "", false},
		{"inquired about another amount", nil, [][]byte{inquiryAnswer(InnerOK, "1", "0", "1")}, false, "", "", true},
		{"approved in dollars", []byte(`{"respcd":"6000","data":{"out_trade_no":"A","txamt":10.1,"syssn":17}}`), nil, true, "", "", false},
		{"approved without words", []byte(`{"respcd":"6000","data":null}`), nil, true, "", "", false},
		{"cancelled", jsonAnswer(CodeCancelled, ""), nil, false, CodeCancelled, "", false},
		{"declined", jsonAnswer(CodeError, InnerBalance), nil, false, CodeError, InnerBalance, false},
		{"busy", jsonAnswer(CodeError, ""), nil, false, CodeError, "", false},
		{"denied", jsonAnswer(CodeDenied, ""), nil, false, CodeDenied, "", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			n := 0
			link := &scriptedLink{answer: func(op FuncType, _ []byte) ([]byte, error) {
				answer := tc.sale
				if op == FuncInquiry {
					answer = tc.inquiries[min(n, len(tc.inquiries)-1)]
					n++
				}
				if answer == nil {
					return nil, errSilence
				}
				return answer, nil
			}}
			time0 := &clock{now: morning}
			c := &Client{Link: link, Key: k16, Now: time0.Now, Sleep: time0.Sleep}
			a, err := c.Sale(context.Background(), SaleCall{OutTradeNo: "A", Amount: dollars("10.1"), Channel: CardPayment})
			var refused *Refusal
			switch {
			case tc.approved:
				if err != nil || a.Amount != dollars("10.1") || a.OutTradeNo != "A" || a.Inquired != (tc.inquiries != nil) {
					t.Errorf("got %+v, %v", a, err)
				}
			case tc.unknown:
				if !errors.Is(err, ErrOutcomeUnknown) || errors.As(err, &refused) || time0.Now().Sub(morning) < pollFor {
					t.Errorf("got %v after %v", err, time0.Now().Sub(morning))
				}
			default:
				if !errors.As(err, &refused) || refused.Code != tc.code || refused.Inner != tc.inner {
					t.Errorf("got %v", err)
				}
			}
			if link.sent[FuncPayment] != 1 {
				t.Errorf("the sale was sent %d times", link.sent[FuncPayment])
			}
			if tc.name == "lost, and never known" && time0.Now().Sub(morning) < timeoutDefault {
				t.Errorf("given up after %v, while the terminal may still wait for a card", time0.Now().Sub(morning))
			}
		})
	}
}

// What certainly never left may be sent again; then it is ErrNotSent.
func TestNotSent(t *testing.T) {
	t.Parallel()
	time0 := &clock{now: morning}
	unplugged := true
	link := &scriptedLink{answer: func(FuncType, []byte) ([]byte, error) {
		if unplugged {
			return nil, ErrNotSent
		}
		return []byte(`{"respcd":"6000"}`), nil
	}}
	c := &Client{Link: link, Key: k16, Now: time0.Now, Sleep: time0.Sleep}
	sale := SaleCall{Amount: dollars("1"), Channel: WeChat}
	if _, err := c.Sale(context.Background(), sale); !errors.Is(err, ErrNotSent) || errors.Is(err, ErrOutcomeUnknown) || link.sent[FuncPayment] != sendTries {
		t.Errorf("got %v after %d", err, link.sent[FuncPayment])
	}
	unplugged = false
	if _, err := c.Sale(context.Background(), sale); err != nil {
		t.Error(err)
	}
	closed := listen(t)
	address := closed.Addr().String()
	closed.Close()
	for _, link := range []Link{&OverHTTP{URL: "http://" + address}, &OverTCP{Address: address}, &OverHTTP{URL: "\x00"}} {
		c := &Client{Link: link, Key: k16, Sleep: time0.Sleep}
		if _, err := c.Sale(context.Background(), sale); !errors.Is(err, ErrNotSent) {
			t.Errorf("%T: %v", link, err)
		}
	}
}

// A caller that gives up knows that it knows nothing.
func TestClientContext(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.desk.started = make(chan SaleRequest, 3)
	r.desk.onSale = func(_ context.Context, d *scriptedDesk, q SaleRequest, cancelled <-chan struct{}) (Trade, error) {
		<-cancelled
		return Trade{Outcome: payment.OutcomeDeclined, Reason: payment.ReasonCancelled}, nil
	}
	for name, c := range r.clients() {
		t.Run(name, func(t *testing.T) {
			ctx, stop := context.WithCancel(context.Background())
			go func() {
				<-r.desk.started
				stop()
			}()
			if _, err := c.Sale(ctx, SaleCall{Amount: dollars("1"), Channel: CardPayment}); !errors.Is(err, ErrOutcomeUnknown) || !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			if err := c.Cancel(context.Background()); err != nil {
				t.Error(err)
			}
			if err := r.server.Wait(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
}

// After silence a refund is looked for in what is left of the sale, and never sent again.
func TestRefundAfterSilence(t *testing.T) {
	t.Parallel()
	before := inquiryAnswer(InnerOK, "1010", "0", "1010")
	all, part, other := inquiryAnswer(InnerOK, "1010", "3", "0"), inquiryAnswer(InnerOK, "1010", "5", "610"), inquiryAnswer(InnerOK, "1010", "5", "1000")
	for _, tc := range []struct {
		name      string
		call      RefundCall
		refund    []byte
		inquiries [][]byte
		want      string
		code      Code
		unknown   bool
	}{
		{"all of it, lost and found", RefundCall{}, nil, [][]byte{before, nil, before, all}, "10.10", "", false},
		{"a part, lost and found", RefundCall{Amount: dollars("4")}, nil, [][]byte{before, part}, "4.00", "", false},
		{"a part that the operator changed", RefundCall{Amount: dollars("5"), MayChange: true}, nil, [][]byte{before, part}, "4.00", "", false},
		{"a part, and another refund instead", RefundCall{Amount: dollars("4")}, nil, [][]byte{before, other}, "", "", true},
		{"lost, and nothing has changed", RefundCall{}, nil, [][]byte{before}, "", "", true},
		{"answered as unknown", RefundCall{}, jsonAnswer(CodeError, InnerProcessing), [][]byte{before, all}, "10.10", "", false},
		{"answered", RefundCall{}, []byte(`{"respcd":"6000","data":{"txamt":"1010","syssn":"2","respcd":"0000"}}`), [][]byte{before}, "10.10", "", false},
		{"answered with a changed amount", RefundCall{Amount: dollars("5"), MayChange: true}, []byte(`{"respcd":"6000","data":{"txamt":"400","syssn":"2"}}`), [][]byte{before}, "4.00", "", false},
		{"answered without words", RefundCall{Amount: dollars("4")}, []byte(`{"respcd":"6000","data":""}`), [][]byte{before}, "4.00", "", false},
		{"answered with broken data", RefundCall{}, []byte(`{"respcd":"6000","data":"x"}`), [][]byte{before, all}, "10.10", "", false},
		{"refused", RefundCall{}, jsonAnswer(CodeError, InnerSameDayPartial), [][]byte{before}, "", CodeError, false},
		{"of nobody's order", RefundCall{}, nil, [][]byte{jsonAnswer(CodeError, InnerNotFound)}, "", CodeError, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			n := 0
			link := &scriptedLink{answer: func(op FuncType, _ []byte) ([]byte, error) {
				answer := tc.refund
				if op == FuncInquiry {
					answer = tc.inquiries[min(n, len(tc.inquiries)-1)]
					n++
				}
				if answer == nil {
					return nil, errSilence
				}
				return answer, nil
			}}
			time0 := &clock{now: morning}
			c := &Client{Link: link, Key: k16, Now: time0.Now, Sleep: time0.Sleep}
			tc.call.OrderID = "1"
			a, err := c.Refund(context.Background(), tc.call)
			var refused *Refusal
			switch {
			case tc.want != "":
				if err != nil || a.Amount.String() != tc.want {
					t.Errorf("got %+v, %v", a, err)
				}
			case tc.unknown:
				if !errors.Is(err, ErrOutcomeUnknown) {
					t.Errorf("got %+v, %v", a, err)
				}
			default:
				if !errors.As(err, &refused) || refused.Code != tc.code {
					t.Errorf("got %+v, %v", a, err)
				}
			}
			if link.sent[FuncRefund] > 1 {
				t.Errorf("the refund was sent %d times", link.sent[FuncRefund])
			}
		})
	}
	silent := &Client{Link: &scriptedLink{answer: func(FuncType, []byte) ([]byte, error) { return nil, errSilence }}, Key: k16}
	if _, err := silent.Refund(context.Background(), RefundCall{OrderID: "1"}); !errors.Is(err, ErrNotSent) {
		t.Errorf("without an inquiry before: %v", err)
	}
}

// What no terminal could take is refused before it is sent.
func TestClientRefuses(t *testing.T) {
	t.Parallel()
	link := &scriptedLink{answer: func(FuncType, []byte) ([]byte, error) { return []byte(`{"respcd":"6000"}`), nil }}
	c := &Client{Link: link, Key: k16}
	ctx := context.Background()
	for name, call := range map[string]SaleCall{
		"no amount":              {Channel: WeChat},
		"an amount below zero":   {Channel: WeChat, Amount: dollars("-1")},
		"too large an amount":    {Channel: WeChat, Amount: dollars("10000000")},
		"another currency":       {Channel: WeChat, Amount: money.New(100, money.MustCurrency("AUD"))},
		"no channel":             {Amount: dollars("1")},
		"an unknown channel":     {Amount: dollars("1"), Channel: "cash"},
		"a quote in the number":  {Amount: dollars("1"), Channel: WeChat, OutTradeNo: "it's"},
		"a comma in the number":  {Amount: dollars("1"), Channel: WeChat, OutTradeNo: "1,2"},
		"a line in the number":   {Amount: dollars("1"), Channel: WeChat, OutTradeNo: "1\n2"},
		"a brace in the number":  {Amount: dollars("1"), Channel: WeChat, OutTradeNo: "{1}"},
		"a backslash in it":      {Amount: dollars("1"), Channel: WeChat, OutTradeNo: `1\2`},
		"an equals sign in it":   {Amount: dollars("1"), Channel: WeChat, OutTradeNo: `1=2`},
		"double quotes in it":    {Amount: dollars("1"), Channel: WeChat, OutTradeNo: `1"2`},
		"a delete character too": {Amount: dollars("1"), Channel: WeChat, OutTradeNo: "1\x7f"},
	} {
		if _, err := c.Sale(ctx, call); err == nil {
			t.Errorf("sent: %s", name)
		}
	}
	for name, call := range map[string]RefundCall{
		"no order": {}, "a quote": {OrderID: "'"}, "an amount below zero": {OrderID: "1", Amount: dollars("-1")},
		"another currency": {OrderID: "1", Amount: money.New(100, money.MustCurrency("AUD"))},
	} {
		if _, err := c.Refund(ctx, call); err == nil {
			t.Errorf("sent: %s", name)
		}
	}
	if _, err := c.Inquiry(ctx, InquiryRequest{OutTradeNo: "it's"}); err == nil {
		t.Error("sent: an inquiry about a number with a quote")
	}
	if err := c.Print(ctx, "it's"); err == nil {
		t.Error("sent: a print of a number with a quote")
	}
	if len(link.sent) != 0 {
		t.Errorf("sent %v", link.sent)
	}
	if _, err := (&Client{Link: link}).Sale(ctx, SaleCall{Amount: dollars("1"), Channel: WeChat}); err == nil || len(link.sent) != 0 {
		t.Errorf("without a key: %v", err)
	}
	empty := &Client{Link: link, Key: k16, Rand: strings.NewReader("")}
	if _, err := empty.Sale(ctx, SaleCall{Amount: dollars("1"), Channel: WeChat}); !errors.Is(err, ErrNotSent) {
		t.Errorf("without randomness: %v", err)
	}
}

// cutting is a network that forwards to a server, and is cut in its first connection when told so.
func cutting(t *testing.T, server string, cut <-chan SaleRequest) string {
	t.Helper()
	l := listen(t)
	var all sync.WaitGroup
	t.Cleanup(func() { l.Close(); all.Wait() })
	all.Go(func() {
		for n := 0; ; n++ {
			register, err := l.Accept()
			if err != nil {
				return
			}
			terminal, err := net.Dial("tcp", server)
			if err != nil {
				register.Close()
				return
			}
			end := func() { register.Close(); terminal.Close() }
			if n == 0 {
				all.Go(func() { <-cut; end() })
			}
			all.Go(func() { _, _ = io.Copy(terminal, register); end() })
			all.Go(func() { _, _ = io.Copy(register, terminal); end() })
		}
	})
	return l.Addr().String()
}

// The cable is pulled in the middle of a sale: the register finds out by inquiring, and one sale was made (U3, U7).
func TestCutInTheMiddle(t *testing.T) {
	t.Parallel()
	for name, link := range map[string]func(r *rig) Link{
		"HTTP": func(r *rig) Link {
			return &OverHTTP{URL: "http://" + cutting(t, strings.TrimPrefix(r.http(), "http://"), r.desk.started)}
		},
		"TCP": func(r *rig) Link { return &OverTCP{Address: cutting(t, r.tcp(), r.desk.started)} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := setup(t)
			r.desk.started = make(chan SaleRequest, 1)
			finish := make(chan struct{})
			r.desk.onSale = func(_ context.Context, d *scriptedDesk, q SaleRequest, _ <-chan struct{}) (Trade, error) {
				<-finish
				return d.keep(approved(q)), nil
			}
			pauses := 0
			c := &Client{Link: link(r), Key: k16, Sleep: func(context.Context, time.Duration) error {
				if pauses++; pauses == 3 { // After two inquiries that found it waiting.
					close(finish)
				}
				time.Sleep(5 * time.Millisecond)
				return nil
			}}
			a, err := c.Sale(context.Background(), SaleCall{Amount: dollars("10.1"), Channel: CardPayment})
			if err != nil || !a.Inquired || a.Number != r.desk.trades[0].Number || len(r.desk.trades) != 1 || pauses < 3 {
				t.Errorf("%+v, %v, after %d pauses; %d trades", a, err, pauses, len(r.desk.trades))
			}
		})
	}
}

// A terminal on HTTP that misbehaves.
func TestOverHTTPFaults(t *testing.T) {
	t.Parallel()
	for name, handler := range map[string]http.HandlerFunc{
		"hangs up":         func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) },
		"answers nonsense": func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "<html>") },
		"answers nothing":  func(w http.ResponseWriter, r *http.Request) {},
		"sends elsewhere": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		},
		"never ends": func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(bytes.Repeat([]byte("A"), 3*answerMax)) },
		"breaks off": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, "{")
		},
		"has a broken proxy": func(w http.ResponseWriter, r *http.Request) { http.Error(w, "bad gateway", http.StatusBadGateway) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var sales int
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == FuncPayment.Path() {
					sales++
				}
				handler(w, r)
			}))
			defer server.Close()
			time0 := &clock{now: morning}
			c := &Client{Link: &OverHTTP{URL: server.URL + "/"}, Key: k16, Now: time0.Now, Sleep: time0.Sleep}
			if _, err := c.Sale(context.Background(), SaleCall{Amount: dollars("1"), Channel: WeChat}); !errors.Is(err, ErrOutcomeUnknown) || sales != 1 {
				t.Errorf("%v, after %d sales", err, sales)
			}
		})
	}
}

// A terminal on TCP that misbehaves, or answers in pieces.
func TestOverTCPFaults(t *testing.T) {
	t.Parallel()
	good := encrypt([]byte(textK16), []byte(`{"respcd":"6000","data":""}`))
	for _, tc := range []struct {
		name   string
		pieces []string
		ok     bool
	}{
		{"in one piece", []string{good}, true},
		{"in pieces", []string{good[:5], good[5:30], good[30:]}, true},
		{"in plain", []string{`{"respcd":`, `"6000"}`}, true},
		{"with a line's end", []string{good + "\r\n"}, true},
		{"nothing", nil, false},
		{"half", []string{good[:30]}, false},
		{"nonsense", []string{"hello"}, false},
		{"without an end", []string{strings.Repeat("A", answerMax+10)}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			l := listen(t)
			defer l.Close()
			go func() {
				for {
					conn, err := l.Accept()
					if err != nil {
						return
					}
					var b [4096]byte
					_, _ = conn.Read(b[:])
					for _, p := range tc.pieces {
						_, _ = io.WriteString(conn, p)
						time.Sleep(2 * time.Millisecond)
					}
					conn.Close()
				}
			}()
			c := &Client{Link: &OverTCP{Address: l.Addr().String()}, Key: k16}
			if err := c.Cancel(context.Background()); (err == nil) != tc.ok {
				t.Errorf("got %v", err)
			}
		})
	}
}

// scriptedTerminal is the other end of a serial line: it gets each request and says what to answer.
func scriptedTerminal(t *testing.T, answer func(n int, m message) []byte) *OverSerial {
	t.Helper()
	ours, theirs := net.Pipe()
	link := &OverSerial{Line: ours}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		d := new(deframer)
		for n := 0; ; {
			var b [4096]byte
			size, err := theirs.Read(b[:])
			if err != nil {
				return
			}
			for _, m := range d.feed(time.Now(), b[:size]) {
				n++
				if out := answer(n, m); out != nil {
					if _, err := theirs.Write(out); err != nil {
						return
					}
				}
			}
		}
	}()
	t.Cleanup(func() {
		link.Close()
		theirs.Close()
		<-ended
	})
	return link
}

// Results come in three ways, and acknowledgements get lost (§3.3).
func TestOverSerial(t *testing.T) {
	t.Parallel()
	good := []byte(encrypt([]byte(textK16), []byte(`{"respcd":"6000","data":""}`)))
	ack := func(number byte) []byte { return message{kind: frameOK, number: number}.frames() }
	result := func(kind, number byte) []byte {
		return message{kind: kind, number: number, data: good}.frames()
	}
	bad := func(kind, number byte) []byte { return message{kind: kind, number: number}.frames() }
	for _, tc := range []struct {
		name   string
		answer func(n int, m message) []byte
		code   Code // "6000" for success, empty for silence.
	}{
		{"acknowledgement and result", func(n int, m message) []byte { return append(ack(m.number), result(frameOK, m.number)...) }, CodeOK},
		{"both in one", func(n int, m message) []byte { return result(frameOK, m.number) }, CodeOK},
		{"the result as a request", func(n int, m message) []byte {
			if m.kind != frameRequest {
				return nil // Our acknowledgement of it.
			}
			return append(ack(m.number), result(frameRequest, 99)...)
		}, CodeOK},
		{"noise in front", func(n int, m message) []byte { return append([]byte("noise/n"), result(frameOK, m.number)...) }, CodeOK},
		{"an answer to another", func(n int, m message) []byte {
			return append(bad(frameDecryptError, m.number%127+1), result(frameOK, m.number)...)
		}, CodeOK},
		{"the acknowledgement lost once", func(n int, m message) []byte {
			if n == 1 {
				return nil
			}
			return append(ack(m.number), result(frameOK, m.number)...)
		}, CodeOK},
		{"torn on its way once", func(n int, m message) []byte {
			if n == 1 {
				return bad(frameFormatError, m.number)
			}
			return result(frameOK, m.number)
		}, CodeOK},
		{"an error after the acknowledgement", func(n int, m message) []byte {
			return append(append(ack(m.number), bad(frameDecryptError, m.number)...), result(frameOK, m.number)...)
		}, CodeOK},
		{"decryption failed", func(n int, m message) []byte { return bad(frameDecryptError, m.number) }, CodeDecryptFailed},
		{"digest wrong", func(n int, m message) []byte { return bad(frameValidationError, m.number) }, CodeDenied},
		{"envelope wrong", func(n int, m message) []byte { return bad(frameDataError, m.number) }, CodeWrongParam},
		{"unknown error", func(n int, m message) []byte { return bad(frameUnknownError, m.number) }, CodeError},
		{"a result that cannot be read", func(n int, m message) []byte {
			return message{kind: frameOK, number: m.number, data: []byte("hello")}.frames()
		}, ""},
		{"torn for ever", func(n int, m message) []byte { return bad(frameFormatError, m.number) }, ""},
		{"refused only after a first that may have been accepted", func(n int, m message) []byte {
			if n == 1 {
				return bad(frameSplitError, m.number)
			}
			return bad(frameDecryptError, m.number)
		}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := &Client{Link: scriptedTerminal(t, tc.answer), Key: k16}
				answer, err := c.call(context.Background(), FuncCancel, nil, 5*time.Second)
				if answer.Code != tc.code || (tc.code == "") != errors.Is(err, errSilence) {
					t.Errorf("got %+v, %v", answer, err)
				}
			})
		})
	}
	t.Run("no acknowledgement at all", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			var numbers []byte
			link := scriptedTerminal(t, func(_ int, m message) []byte {
				numbers = append(numbers, m.number)
				return nil
			})
			start := time.Now()
			if _, err := link.exchange(context.Background(), FuncCancel, []byte("x"), nil); !errors.Is(err, errSilence) || time.Since(start) != ackTries*ackTimeout {
				t.Errorf("got %v after %v", err, time.Since(start))
			}
			synctest.Wait()
			if len(numbers) != ackTries || numbers[0] != numbers[1] || numbers[1] != numbers[2] {
				t.Errorf("sent under %v", numbers)
			}
		})
	})
	t.Run("the line breaks", func(t *testing.T) {
		t.Parallel()
		ours, theirs := net.Pipe()
		link := &OverSerial{Line: ours}
		go func() {
			var b [4096]byte
			_, _ = theirs.Read(b[:])
			theirs.Close()
		}()
		if _, err := link.exchange(context.Background(), FuncCancel, []byte("x"), nil); !errors.Is(err, errSilence) {
			t.Errorf("got %v", err)
		}
		if err := link.Close(); err != nil {
			t.Error(err)
		}
		unused := &OverSerial{Line: ours}
		if err := unused.Close(); err != nil {
			t.Error(err)
		}
		if _, err := unused.exchange(context.Background(), FuncCancel, make([]byte, frameDataMax+1), nil); !errors.Is(err, ErrNotSent) {
			t.Errorf("too long: %v", err)
		}
	})
}

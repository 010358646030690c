package qfpay

import (
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/tillgate/tillgate/payment"
)

// dial connects to a TCP link.
func dial(t *testing.T, address string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	return c.(*net.TCPConn)
}

// answer reads until what came is an answer.
func answerOf(t *testing.T, c net.Conn) (Response, string) {
	t.Helper()
	var got []byte
	for {
		var chunk [1024]byte
		n, err := c.Read(chunk[:])
		got = append(got, chunk[:n]...)
		if r, err := openAnswer(got, []byte(textK16)); err == nil {
			return r, string(got)
		}
		if err != nil {
			t.Fatalf("%q, then %v", got, err)
		}
	}
}

// However a register marks the end of a message, it is understood, and answered in kind (§3.2).
func TestTCPMessages(t *testing.T) {
	t.Parallel()
	bare := string(seal(t, FormBare, "{func_type=5001}", k16, KeyUTF8))
	long := string(seal(t, FormBare, "{amt=10.1,channel='card_payment',func_type=1001,out_trade_no='T-0002'}", k16, KeyUTF8))
	var lines strings.Builder
	for i := 0; i < len(long); i += 76 {
		lines.WriteString(long[i:min(i+76, len(long))] + "\n")
	}
	for _, tc := range []struct {
		name, sent string
		halfClose  bool
		ending     string
		plain      bool
	}{
		{"Base64 and nothing", bare, false, "", false},
		{"Base64 and a line's end", bare + "\n", false, "\n", false},
		{"Base64 and a line's end of Windows", bare + "\r\n", false, "\r\n", false},
		{"Base64 and a line's end of old", bare + "\r", false, "\r", false},
		{"Base64 and the end of the half", bare, true, "", false},
		{"Base64 in lines", lines.String(), false, "\n", false},
		{"quoted Base64", `"` + bare + `"`, false, "", true},
		{"a plain envelope", plain(t, "{func_type:5001}"), false, "", true},
		{"a plain envelope and a line's end", plain(t, "{func_type:5001}") + "\n", false, "\n", true},
		{"the inner form", string(seal(t, FormInner, "{func_type=5001}", k16, KeyUTF8)), false, "", false},
		{"blanks in front", " \r\n" + bare, false, "", false},
		{"braces in a text", plain(t, `{func_type:5001,remark:"}{\"'"}`), false, "", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := setup(t)
			c := dial(t, r.tcp())
			for range 2 { // The connection serves more than one.
				if _, err := io.WriteString(c, tc.sent); err != nil {
					t.Fatal(err)
				}
				if tc.halfClose {
					if err := c.CloseWrite(); err != nil {
						t.Fatal(err)
					}
				}
				got, text := answerOf(t, c)
				if got.Code != CodeOK && got.Code != "" && !strings.Contains(got.Error, "2011") || strings.HasPrefix(text, "{") != tc.plain {
					t.Errorf("got %+v as %q", got, text)
				}
				if want := strings.TrimRight(text, "\r\n") + tc.ending; text != want && text+tc.ending != want { // The ending may not have been read.
					t.Errorf("%q ends otherwise than %q", text, tc.ending)
				}
				if tc.halfClose {
					return
				}
			}
		})
	}
}

// A message may be torn at every byte.
func TestTCPTornAtEveryByte(t *testing.T) {
	t.Parallel()
	r := setup(t)
	address := r.tcp()
	for _, body := range []string{string(seal(t, FormBare, "{func_type=5001}", k16, KeyUTF8)), plain(t, "{func_type:5001}"), `"` + string(seal(t, FormBare, "{func_type=5001}", k16, KeyUTF8)) + `"`,
		string(message{kind: frameRequest, number: 1, data: seal(t, FormBare, "{func_type=5001}", k16, KeyUTF8)}.frames())} {
		c := dial(t, address)
		_ = c.SetNoDelay(true)
		for i := range len(body) {
			if _, err := c.Write([]byte{body[i]}); err != nil {
				t.Fatal(err)
			}
			if i%5 == 0 {
				time.Sleep(time.Millisecond)
			}
		}
		if body[0] == '/' {
			if got := readFrame(t, c, new(deframer)); got.kind != frameOK || len(got.data) != 0 {
				t.Errorf("acknowledgement: %+v", got)
			}
			continue
		}
		if got, _ := answerOf(t, c); got != done {
			t.Errorf("%.20s…: %+v", body, got)
		}
	}
	// And it may break off there: nothing is begun, and nothing hangs.
	sale := string(seal(t, FormBare, "{amt=10.1,channel='wx',func_type=1001}", k16, KeyUTF8))
	for i := range len(sale) {
		c := dial(t, address)
		if _, err := io.WriteString(c, sale[:i]); err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	time.Sleep(50 * time.Millisecond)
	if n := r.desk.saleCount(); n != 0 {
		t.Errorf("%d sales were begun", n)
	}
}

// readFrame reads a message of a framed link.
func readFrame(t *testing.T, c io.Reader, d *deframer) message {
	t.Helper()
	for {
		var one [1]byte
		if _, err := c.Read(one[:]); err != nil {
			t.Fatalf("no frame: %v", err)
		}
		if got := d.feed(time.Now(), one[:]); len(got) > 0 {
			return got[0]
		}
	}
}

func TestTCPGarbage(t *testing.T) {
	t.Parallel()
	good := string(seal(t, FormBare, "{func_type=5001}", k16, KeyUTF8))
	for name, tc := range map[string]struct {
		sent string
		want *fault
	}{
		"a line of nonsense":     {"GET / HTTP/1.0\r\n\r\n", faultDecrypt},
		"Base64 of another key":  {string(seal(t, FormBare, "{func_type=5001}", k32, KeyUTF8)) + "\n", faultDecrypt},
		"torn Base64 and an end": {good[:60] + "\n", faultDecrypt},
		"no envelope":            {"{}", faultEnvelope},
		"a wrong digest":         {`{"content":{"func_type":5001},"digest":"00"}`, faultDigest},
		"too long":               {strings.Repeat("A", payloadMax+2), faultLength},
		"too long an object":     {"{" + strings.Repeat("[", payloadMax+2), faultLength},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := setup(t)
			c := dial(t, r.tcp())
			if _, err := io.WriteString(c, tc.sent); err != nil {
				t.Fatal(err)
			}
			if got, _ := answerOf(t, c); got != tc.want.response() {
				t.Errorf("got %+v", got)
			}
			if rest, err := io.ReadAll(c); err == nil && len(strings.TrimSpace(string(rest))) > 0 {
				t.Errorf("then %q", rest)
			}
		})
	}
	t.Run("a message that never ends", func(t *testing.T) {
		t.Parallel()
		r := setup(t)
		c := dial(t, r.tcp())
		start := time.Now()
		if _, err := io.WriteString(c, good[:60]); err != nil {
			t.Fatal(err)
		}
		if got, _ := answerOf(t, c); got != faultDecrypt.response() || time.Since(start) < tcpPatience {
			t.Errorf("after %v: %+v", time.Since(start), got)
		}
	})
}

// A cancel beside the sale that it ends, on the same connection and on another (§3.2).
func TestTCPCancel(t *testing.T) {
	t.Parallel()
	sale := string(seal(t, FormBare, "{amt=10.1,channel='card_payment',func_type=1001,out_trade_no='A'}", k16, KeyUTF8))
	cancel := string(seal(t, FormBare, "{func_type=5001}", k16, KeyUTF8))
	for name, same := range map[string]bool{"on the same connection": true, "on another": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := setup(t)
			address := r.tcp()
			r.desk.started, r.desk.onSale = make(chan SaleRequest, 1), waitForCard
			first := dial(t, address)
			second := first
			if !same {
				second = dial(t, address)
			}
			if _, err := io.WriteString(first, sale+"\n"); err != nil {
				t.Fatal(err)
			}
			<-r.desk.started
			if _, err := io.WriteString(second, cancel+"\n"); err != nil {
				t.Fatal(err)
			}
			codes := make(map[Code]bool)
			if same {
				var got []byte
				for bytes.Count(got, []byte("\n")) < 2 {
					var chunk [1024]byte
					n, err := first.Read(chunk[:])
					if err != nil {
						t.Fatal(err)
					}
					got = append(got, chunk[:n]...)
				}
				for line := range strings.Lines(string(got)) {
					codes[r.read([]byte(line)).Code] = true
				}
			} else {
				one, _ := answerOf(t, second)
				two, _ := answerOf(t, first)
				codes[one.Code], codes[two.Code] = true, true
			}
			if !codes[CodeOK] || !codes[CodeCancelled] || len(codes) != 2 {
				t.Errorf("answers with %v", codes)
			}
		})
	}
}

// A register that hangs up and inquires on another connection.
func TestTCPHangUp(t *testing.T) {
	t.Parallel()
	r := setup(t)
	address := r.tcp()
	finish := make(chan struct{})
	r.desk.started = make(chan SaleRequest, 1)
	r.desk.onSale = func(_ context.Context, d *scriptedDesk, q SaleRequest, _ <-chan struct{}) (Trade, error) {
		<-finish
		return d.keep(approved(q)), nil
	}
	c := dial(t, address)
	if _, err := c.Write(seal(t, FormBare, "{amt=10.1,channel='card_payment',func_type=1001,out_trade_no='A'}", k16, KeyUTF8)); err != nil {
		t.Fatal(err)
	}
	<-r.desk.started
	_ = c.SetLinger(0) // As when its power is cut.
	c.Close()
	client := &Client{Link: &OverTCP{Address: address}, Key: k16}
	d, err := client.Inquiry(context.Background(), InquiryRequest{OutTradeNo: "A"})
	if err != nil || d.RespCD != InnerAwaitCustomer {
		t.Errorf("while it runs: %+v, %v", d, err)
	}
	close(finish)
	if err := r.server.Wait(context.Background()); err != nil {
		t.Fatal(err)
	}
	d, err = client.Inquiry(context.Background(), InquiryRequest{OutTradeNo: "A"})
	if err != nil || d.RespCD != InnerOK {
		t.Errorf("afterwards: %+v, %v", d, err)
	}
}

// One connection may not pile up requests.
func TestTCPInFlightLimit(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := dial(t, r.tcp())
	started := make(chan struct{}, inFlightMax+1)
	finish := make(chan struct{})
	r.desk.onFind = func(InquiryRequest) (Trade, error) {
		started <- struct{}{}
		<-finish
		return Trade{}, payment.ErrNotFound
	}
	line := string(seal(t, FormBare, "{func_type=4001,orderId='1'}", k16, KeyUTF8)) + "\n"
	for range inFlightMax {
		if _, err := io.WriteString(c, line); err != nil {
			t.Fatal(err)
		}
		<-started
	}
	if _, err := io.WriteString(c, line); err != nil {
		t.Fatal(err)
	}
	if got, _ := answerOf(t, c); got.Error != "terminal busy" {
		t.Errorf("got %+v", got)
	}
	close(finish)
}

// The framing of the serial line works on TCP too (§3.2).
func TestTCPFramed(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := dial(t, r.tcp())
	d := new(deframer)
	for number := byte(1); number < 4; number++ {
		if _, err := c.Write(message{kind: frameRequest, number: number, data: seal(t, FormBare, "{func_type=5001}", k16, KeyUTF8)}.frames()); err != nil {
			t.Fatal(err)
		}
		if got := readFrame(t, c, d); got.kind != frameOK || got.number != number || len(got.data) != 0 {
			t.Errorf("acknowledgement: %+v", got)
		}
		if got := readFrame(t, c, d); got.kind != frameOK || got.number != number || r.read(got.data) != done {
			t.Errorf("result: %+v", got)
		}
	}
}

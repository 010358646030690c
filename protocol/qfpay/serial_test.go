package qfpay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/creack/pty"

	"github.com/tillgate/tillgate/payment"
)

// serialLine is a serial line between a register, which has the master end, and a terminal, which opens the device by its path.
func serialLine(t *testing.T) (register *os.File, path string) {
	t.Helper()
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	slave.Close() // It is opened again by its path.
	t.Cleanup(func() { master.Close() })
	return master, slave.Name()
}

// serial serves a line, by the path of its device, and returns the register's end.
func (r *rig) serial() *os.File {
	r.t.Helper()
	register, path := serialLine(r.t)
	port, err := OpenSerial(path, SerialMode{})
	if err != nil {
		r.t.Fatal(err)
	}
	r.serve(func(ctx context.Context) error { return (&SerialLink{Server: r.server}).Serve(ctx, port) })
	_ = register.SetReadDeadline(time.Now().Add(20 * time.Second))
	return register
}

// piped serves one end of a pipe, and returns the other.
func (r *rig) piped() net.Conn {
	ours, theirs := net.Pipe()
	r.t.Cleanup(func() { theirs.Close() })
	r.serve(func(ctx context.Context) error { return (&SerialLink{Server: r.server}).Serve(ctx, ours) })
	_ = theirs.SetDeadline(time.Now().Add(20 * time.Second))
	return theirs
}

func frame(t *testing.T, number byte, content string) []byte {
	t.Helper()
	return message{kind: frameRequest, number: number, data: seal(t, FormBare, content, k16, KeyUTF8)}.frames()
}

func send(t *testing.T, w io.Writer, b []byte) {
	t.Helper()
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
}

// expect reads frames: acknowledgements and errors by their type, results by their code.
func (r *rig) expect(line io.Reader, d *deframer, want ...string) {
	r.t.Helper()
	for _, w := range want {
		m := readFrame(r.t, line, d)
		got := fmt.Sprintf("%02x %d", m.kind, m.number)
		if len(m.data) > 0 {
			got += " " + string(r.read(m.data).Code)
		}
		if got != w {
			r.t.Errorf("got frame %q, want %q", got, w)
		}
	}
}

// The vectors of §9.4 over a real serial device: acknowledgement first, then the result under the same number.
func TestSerialDevice(t *testing.T) {
	t.Parallel()
	r := setup(t)
	line, d := r.serial(), new(deframer)
	send(t, line, frame(t, 1, "{func_type=5001}"))
	r.expect(line, d, "20 1", "20 1 6000")
	send(t, line, frame(t, 2, "{func_type=4001,out_trade_no='N-161'}")) // Its data holds the end marker.
	r.expect(line, d, "20 2", "20 2 6002")
	send(t, line, frame(t, 3, "{amt=10.1,channel='card_payment',func_type=1001,out_trade_no='T-0002'}"))
	r.expect(line, d, "20 3", "20 3 6000")
	// 2,000 characters are two frames, and one acknowledgement.
	send(t, line, frame(t, 4, "{func_type=4001,out_trade_no='T-0002',remark='"+strings.Repeat("x", 1000)+"'}"))
	r.expect(line, d, "20 4", "20 4 6000")
	if _, err := OpenSerial("/dev/nothing-here", SerialMode{}); err == nil || !strings.Contains(err.Error(), "/dev/nothing-here") {
		t.Errorf("a device that does not exist: %v", err)
	}
}

// Run opens the device again when it is back (U11).
func TestSerialRun(t *testing.T) {
	t.Parallel()
	r := setup(t)
	link := &SerialLink{Server: r.server, Path: t.TempDir() + "/tty"}
	first, path := serialLine(t)
	if err := os.Symlink(path, link.Path); err != nil {
		t.Fatal(err)
	}
	r.serve(link.Run)
	works := func(line *os.File) {
		t.Helper()
		_ = line.SetReadDeadline(time.Now().Add(20 * time.Second))
		time.Sleep(200 * time.Millisecond) // Until the device is open and raw: before, it echoes.
		d := new(deframer)
		send(t, line, frame(t, 1, "{func_type=5001}"))
		r.expect(line, d, "20 1", "20 1 6000")
	}
	works(first)
	second, path := serialLine(t)
	if err := os.Remove(link.Path); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path, link.Path); err != nil {
		t.Fatal(err)
	}
	first.Close()
	for end := time.Now().Add(10 * time.Second); !strings.Contains(r.logs.String(), "serial line lost") && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	time.Sleep(reopenPause)
	works(second)
}

// What the receiver answers to what is not in order (§3.3), and that it finds the next good frame.
func TestSerialFaults(t *testing.T) {
	t.Parallel()
	good := frame(t, 7, "{func_type=5001}")
	with := func(change func(b []byte) []byte) []byte { return change(bytes.Clone(good)) }
	raw := func(number byte, data string) []byte {
		return message{kind: frameRequest, number: number, data: []byte(data)}.frames()
	}
	for name, tc := range map[string]struct {
		sent []byte
		want []string
	}{
		"garbage":                          {[]byte("hello\x00\xff/n"), []string{"31 1"}},
		"the end marker alone":             {frameEnd, []string{"31 1"}},
		"a wrong version":                  {with(func(b []byte) []byte { b[2] = 2; return b }), []string{"31 1"}},
		"an unknown type":                  {with(func(b []byte) []byte { b[3] = 0x11; return b }), []string{"31 1"}},
		"number 0":                         {with(func(b []byte) []byte { b[4] = 0; return b }), []string{"31 1"}},
		"number 128":                       {with(func(b []byte) []byte { b[4] = 0x80; return b }), []string{"31 1"}},
		"a wrong end":                      {with(func(b []byte) []byte { b[len(b)-1] = 'x'; return b }), []string{"31 1"}},
		"a total length of nothing":        {with(func(b []byte) []byte { b[5], b[6] = 0, 0; return b }), []string{"31 1"}},
		"a data length below the frame's":  {with(func(b []byte) []byte { b[8]--; return b }), []string{"31 1"}},
		"a length beyond the end":          {with(func(b []byte) []byte { b[6] += 9; b[8] += 9; return b }), []string{"31 1"}},
		"a data length above the greatest": {with(func(b []byte) []byte { b[7], b[8] = 0xFF, 0xFF; return b }), []string{"31 1"}},
		"a part of a message":              {appendFrame(nil, frameRequest, 9, []byte("ABCDEF"), 10), nil},
		"too many parts":                   {slices.Concat(appendFrame(nil, frameRequest, 9, []byte("ABCDEF"), 10), appendFrame(nil, frameRequest, 9, []byte("GHIJK"), 10)), []string{"35 9"}},
		"empty":                            {raw(5, ""), []string{"34 5"}},
		"another key":                      {message{kind: frameRequest, number: 5, data: seal(t, FormBare, "{func_type=5001}", k32, KeyUTF8)}.frames(), []string{"33 5"}},
		"broken Base64":                    {raw(5, "!!!!"), []string{"33 5"}},
		"a wrong digest, encrypted":        {raw(5, encrypt([]byte(textK16), []byte("{content:{func_type=5001}, digest:'00'}"))), []string{"33 5"}},
		"a wrong digest, plain":            {raw(5, `{"content":{"func_type":5001},"digest":"00"}`), []string{"32 5"}},
		"no envelope":                      {raw(5, "{}"), []string{"34 5"}},
		"no func_type":                     {raw(5, plain(t, "{amt:1}")), []string{"20 5", "20 5 4006"}},
		"an unknown func_type":             {raw(5, plain(t, "{func_type:1}")), []string{"20 5", "20 5 4006"}},
		"an acknowledgement":               {message{kind: frameOK, number: 5}.frames(), nil},
		"an error":                         {message{kind: frameFormatError, number: 5}.frames(), nil},
		"a plain request":                  {raw(5, plain(t, "{func_type:5001}")), []string{"20 5", "20 5 6000"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := setup(t)
				line, d := r.piped(), new(deframer)
				send(t, line, tc.sent)
				r.expect(line, d, tc.want...)
				time.Sleep(2 * partWait) // What is incomplete is dropped.
				go func() { _, _ = line.Write(frame(t, 7, "{func_type=5001}")) }()
				m := readFrame(t, line, d)
				if m.kind == frameFormatError { // Only complained about when it turned out to be torn.
					m = readFrame(t, line, d)
				}
				if m.kind != frameOK || m.number != 7 {
					t.Errorf("the next good frame: %+v", m)
				}
				r.expect(line, d, "20 7 6000")
			})
		})
	}
}

// A frame may break off at every byte, and the next one follow at once or after a pause: it is always found.
func TestSerialTornAtEveryByte(t *testing.T) {
	t.Parallel()
	good := frame(t, 7, "{func_type=5001}")
	for i := range len(good) {
		d := new(deframer)
		got := d.feed(morning, good[:i])
		got = append(got, d.feed(morning, good)...)
		got = append(got, d.idle(morning)...) // The rest of the torn one never comes.
		found := slices.ContainsFunc(got, func(m message) bool { return m.refuse == 0 && m.number == 7 && m.kind == frameRequest })
		if !found || d.pending() {
			t.Errorf("after a frame torn at byte %d: %+v", i, got)
		}
		d = new(deframer)
		d.feed(morning, good[:i])
		d.idle(morning)
		if got = d.feed(morning, good); len(got) != 1 || got[0].refuse != 0 {
			t.Errorf("after a frame torn at byte %d and a pause: %+v", i, got)
		}
	}
}

// Parts of a message that was given up are told so, for a moment (§3.3).
func TestSerialSplit(t *testing.T) {
	t.Parallel()
	part1, part2 := appendFrame(nil, frameRequest, 9, []byte("ABCDEF"), 10), appendFrame(nil, frameRequest, 9, []byte("GHIJ"), 10)
	d := new(deframer)
	d.feed(morning, part1)
	d.idle(morning.Add(partWait))
	if got := d.feed(morning.Add(partWait+droppedLife/2), part2); len(got) != 1 || got[0].refuse != frameSplitError || got[0].number != 9 {
		t.Errorf("a late part: %+v", got)
	}
	again := morning.Add(partWait + 2*droppedLife)
	if got := append(d.feed(again, part1), d.feed(again, part2)...); len(got) != 1 || string(got[0].data) != "ABCDEFGHIJ" {
		t.Errorf("all of it again: %+v", got)
	}
	d.feed(again, part1)
	if got := d.feed(again, message{kind: frameRequest, number: 10, data: []byte("OK")}.frames()); len(got) != 1 || got[0].number != 10 {
		t.Errorf("another message in between: %+v", got)
	}
	big := message{kind: frameRequest, number: 3, data: bytes.Repeat([]byte("/n"), frameDataMax/2)}
	wire := big.frames()
	if got := d.feed(again, wire); len(got) != 1 || !bytes.Equal(got[0].data, big.data) {
		t.Errorf("the longest message is not read: %d messages", len(got))
	}
}

// A repeated number with the same content is acknowledged again, and begins nothing (§7); other content under the same number is new.
func TestSerialRepeat(t *testing.T) {
	t.Parallel()
	r := setup(t)
	line, d := r.piped(), new(deframer)
	sale := frame(t, 1, "{amt=10.1,channel='card_payment',func_type=1001,out_trade_no='A'}")
	r.desk.started, r.desk.onSale = make(chan SaleRequest, 4), waitForCard
	send(t, line, sale)
	r.expect(line, d, "20 1")
	<-r.desk.started
	send(t, line, sale) // Our acknowledgement was lost.
	r.expect(line, d, "20 1")
	send(t, line, frame(t, 2, "{func_type=5001}"))
	r.expect(line, d, "20 2")
	got := map[byte]Code{}
	for range 2 {
		m := readFrame(t, line, d)
		got[m.number] = r.read(m.data).Code
	}
	if got[1] != CodeCancelled || got[2] != CodeOK {
		t.Errorf("results %v", got)
	}
	send(t, line, sale) // The result was lost.
	r.expect(line, d, "20 1", "20 1 6001")
	if n := r.desk.saleCount(); n != 1 {
		t.Errorf("%d sales were begun", n)
	}
	send(t, line, frame(t, 1, "{func_type=3002}"))
	r.expect(line, d, "20 1", "20 1 6000")
}

// A line may not pile up requests, and the one that is too many is told so by error 30.
func TestSerialInFlightLimit(t *testing.T) {
	t.Parallel()
	r := setup(t)
	line, d := r.piped(), new(deframer)
	finish := make(chan struct{})
	r.desk.onFind = func(InquiryRequest) (Trade, error) {
		<-finish
		return Trade{}, payment.ErrNotFound
	}
	for number := byte(1); number <= inFlightMax; number++ {
		send(t, line, frame(t, number, "{func_type=4001,orderId='1'}"))
		r.expect(line, d, fmt.Sprintf("20 %d", number))
	}
	send(t, line, frame(t, 9, "{func_type=4001,orderId='1'}"))
	r.expect(line, d, "30 9")
	close(finish)
	for range inFlightMax {
		if m := readFrame(t, line, d); r.read(m.data).Code != CodeError {
			t.Errorf("result %+v", m)
		}
	}
}

// A register that is pulled out in the middle of a sale finds it again when it is back.
func TestSerialHangUp(t *testing.T) {
	t.Parallel()
	r := setup(t)
	finish := make(chan struct{})
	r.desk.started = make(chan SaleRequest, 1)
	r.desk.onSale = func(_ context.Context, d *scriptedDesk, q SaleRequest, _ <-chan struct{}) (Trade, error) {
		<-finish
		return d.keep(approved(q)), nil
	}
	ours, theirs := net.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- (&SerialLink{Server: r.server}).Serve(context.Background(), ours) }()
	send(t, theirs, frame(t, 1, "{amt=10.1,channel='wx',func_type=1001,out_trade_no='A'}"))
	r.expect(theirs, new(deframer), "20 1")
	<-r.desk.started
	theirs.Close()
	if err := <-ended; !errors.Is(err, io.EOF) {
		t.Errorf("the link ends with %v", err)
	}
	close(finish)
	if err := r.server.Wait(context.Background()); err != nil {
		t.Fatal(err)
	}
	client := &Client{Link: &OverSerial{Line: r.piped()}, Key: k16}
	if d, err := client.Inquiry(context.Background(), InquiryRequest{OutTradeNo: "A"}); err != nil || d.RespCD != InnerOK {
		t.Errorf("afterwards: %+v, %v", d, err)
	}
	if err := client.Link.(*OverSerial).Close(); err != nil {
		t.Error(err)
	}
}

// Both ends may be a device: the client opens one by its path as well.
func TestSerialClientDevice(t *testing.T) {
	t.Parallel()
	r := setup(t)
	master, path := serialLine(t)
	port, err := OpenSerial(path, SerialMode{Baud: 115200})
	if err != nil {
		t.Fatal(err)
	}
	r.serve(func(ctx context.Context) error {
		err := (&SerialLink{Server: r.server}).Serve(ctx, master)
		if errors.Is(err, os.ErrClosed) || err != nil && strings.Contains(err.Error(), "input/output error") {
			return nil // The other end was closed first.
		}
		return err
	})
	link := &OverSerial{Line: port}
	client := &Client{Link: link, Key: k16}
	if a, err := client.Sale(context.Background(), SaleCall{Amount: dollars("10.1"), Channel: CardPayment}); err != nil || a.Number == "" {
		t.Errorf("sale: %+v, %v", a, err)
	}
	if err := link.Close(); err != nil {
		t.Error(err)
	}
}

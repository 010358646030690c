package signal

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/tillgate/tillgate/payment"
)

// wakeLimit is generous: it only ends a test that would hang.
const wakeLimit = 30 * time.Second

func pair(t *testing.T) (*Server, *NATS, *NATS) {
	t.Helper()
	s, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	dial := func() *NATS {
		n, err := Dial(s.URL(), slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(n.Close)
		if err := n.conn.Flush(); err != nil {
			t.Fatal(err)
		}
		return n
	}
	return s, dial(), dial()
}

func woken(t *testing.T, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(wakeLimit):
		t.Fatal("not woken")
	}
}

// listen returns a channel that has a value after a change.
func listen(n *NATS, m payment.MerchantID, id payment.ID) (<-chan struct{}, func()) {
	c := make(chan struct{}, 1)
	return c, n.Watch(m, id, func() {
		select {
		case c <- struct{}{}:
		default:
		}
	})
}

func TestSignalsReachOtherProcesses(t *testing.T) {
	t.Parallel()
	_, a, b := pair(t)
	here, end := listen(a, 1, 7)
	defer end()
	there, end := listen(b, 1, 7)
	defer end()
	other, end := listen(b, 2, 7)
	defer end()
	a.Publish(1, 7)
	woken(t, here)
	woken(t, there)
	select {
	case <-other:
		t.Error("another merchant's waiter was woken")
	default:
	}
}

// A process alone, with its line cut, still hears its own news; others hear again when the server is back.
func TestACutLineDelaysNothingHere(t *testing.T) {
	t.Parallel()
	s, a, b := pair(t)
	s.Stop()
	here, end := listen(a, 1, 7)
	defer end()
	a.Publish(1, 7)
	woken(t, here)

	again, err := Listen(strings.TrimPrefix(s.URL(), "nats://"))
	if err != nil {
		t.Fatal(err)
	}
	defer again.Stop()
	there, end := listen(b, 1, 8)
	defer end()
	for deadline := time.Now().Add(wakeLimit); ; time.Sleep(20 * time.Millisecond) {
		a.Publish(1, 8)
		select {
		case <-there:
			return
		default:
		}
		if time.Now().After(deadline) {
			t.Fatal("never heard again")
		}
	}
}

func TestForeignBytesAreIgnored(t *testing.T) {
	t.Parallel()
	for _, b := range [][]byte{nil, {1}, make([]byte, 15), make([]byte, 17)} {
		if _, _, ok := decode(b); ok {
			t.Errorf("%d bytes are taken for a signal", len(b))
		}
	}
	if m, id, ok := decode(encode(3, 9)); !ok || m != 3 || id != 9 {
		t.Errorf("decode(encode(3, 9)) = %d, %d, %t", m, id, ok)
	}
	if _, err := Listen("nowhere"); err == nil {
		t.Error("an address without a port is accepted")
	}
}

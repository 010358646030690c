package sandbox

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"
)

// chipSales makes frames of authorised chip and PIN sales, one after the other.
func chipSales(t testing.TB, m *member, count int) [][]byte {
	m.t = nil // Not of this goroutine, and not needed.
	chip, block := string(mustHex(t, exampleDE55)), m.pinBlock(chipCard, "1234", 0)
	frames := make([][]byte, 0, count)
	for range count {
		frames = append(frames, frame(packFields("0200", m.sale(1250, fields{2: chipCard, 22: "051", 23: "001", 35: hostCards[byPAN[chipCard]].track2,
			43: "Harbour Outdoor, Sydney                 ", 52: block, 53: "0100000000000000", 55: chip}), &m.mak)))
	}
	return frames
}

// nowhere is a connection that takes everything and gives nothing.
type nowhere struct{ net.Conn }

func (nowhere) Write(b []byte) (int, error)      { return len(b), nil }
func (nowhere) SetWriteDeadline(time.Time) error { return nil }

// BenchmarkCardSale is the host's work for an authorised chip and PIN sale: decoding, MAC, PIN, stripe, cryptogram, decision, journal (one write each,
// which is the worst case), ARPC, encoding and MAC; without sockets.
func BenchmarkCardSale(b *testing.B) {
	h, err := OpenCards(CardConfig{Dir: b.TempDir(), ZMK: testZMK, Member: testMember, Rand: rand.Reader, Now: time.Now})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = h.Close() }()
	key := mustKey("0123456789abcdeffedcba9876543210")
	c := &cardConn{h: h, conn: nowhere{}, in: bufio.NewReader(bytes.NewReader(nil)), keyed: true, signedOn: true,
		keys: &workingKeys{key.pair(), key.pair()}}
	m := &member{zpk: key, mak: key}
	const batch = 4096
	var frames [][]byte
	var later sync.WaitGroup
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i%batch == 0 {
			b.StopTimer()
			frames = chipSales(b, m, batch)
			b.StartTimer()
		}
		if err := c.handle(b.Context(), frames[i%batch][frameHead:], &later); err != nil {
			b.Fatal(err)
		}
		if err := h.flush(); err != nil {
			b.Fatal(err)
		}
		if err := c.send(c.out); err != nil {
			b.Fatal(err)
		}
		c.out = c.out[:0]
	}
	if h.book.count != int32(len(h.book.moved)) || h.book.count == 0 {
		b.Fatalf("%d of %d sales were approved", len(h.book.moved), h.book.count)
	}
}

// BenchmarkCardSaleWire is the same over loopback with four connections, sixteen sales in flight on each; the members' work is not part of it, but runs
// on the same cores.
func BenchmarkCardSaleWire(b *testing.B) {
	h, err := OpenCards(CardConfig{Dir: b.TempDir(), ZMK: testZMK, Member: testMember, Rand: rand.Reader, Now: time.Now})
	if err != nil {
		b.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error)
	go func() { done <- h.Serve(ctx, l) }()
	const conns, inFlight = 4, 16
	var work sync.WaitGroup
	frames := make([][][]byte, conns)
	members := make([]*member, conns)
	for i := range conns {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		t := &testing.T{} // The client wants one; it fails by its result.
		members[i] = (&member{t: t, conn: conn, rrn: i * 10_000_000}).signOn()
		if err := conn.SetDeadline(time.Time{}); err != nil {
			b.Fatal(err)
		}
		frames[i] = chipSales(b, members[i], b.N/conns+1)
	}
	b.ResetTimer()
	for i, m := range members {
		work.Go(func() {
			room := make(chan struct{}, inFlight)
			go func() {
				for _, f := range frames[i] {
					room <- struct{}{}
					if _, err := m.conn.Write(f); err != nil {
						return
					}
				}
			}()
			in := bufio.NewReaderSize(m.conn, readBuffer)
			for range frames[i] {
				head, err := in.Peek(frameHead)
				if err == nil {
					_, err = in.Discard(frameHead + int(head[0])<<8 + int(head[1]))
				}
				if err != nil {
					fmt.Println("benchmark:", err)
					return
				}
				<-room
			}
		})
	}
	work.Wait()
	b.StopTimer()
	for _, m := range members {
		_ = m.conn.Close()
	}
	cancel()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	if len(h.book.moved) < b.N {
		b.Fatalf("%d of %d sales were approved", len(h.book.moved), b.N)
	}
	if err := h.Close(); err != nil {
		b.Fatal(err)
	}
}

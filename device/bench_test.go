package device_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/terminal"
)

// BenchmarkSale is a sale through the whole chain, with an automatic customer who taps.
func BenchmarkSale(b *testing.B) {
	r := setup(b)
	u := r.terminal()
	r.customer(u, "approve").Entry = payment.EntryContactlessChip
	took := make([]time.Duration, 0, b.N)
	b.ResetTimer()
	for range b.N {
		p := r.order(u, "10.00")
		began := time.Now()
		if _, err := r.server.channel.Sale(context.Background(), u.caller, p); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
}

// BenchmarkPing is an order's way to its terminal and back.
func BenchmarkPing(b *testing.B) {
	r := setup(b)
	u := r.terminal()
	took := make([]time.Duration, 0, b.N)
	b.ResetTimer()
	for range b.N {
		began := time.Now()
		if err := r.server.channel.Ping(context.Background(), u.caller); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}

// BenchmarkIdle is what a connected terminal costs, both ends in this process together: the server's is about half of it.
func BenchmarkIdle(b *testing.B) {
	r := setup(b)
	ctx := context.Background()
	const terminals = 500
	identities := make([]terminal.ActivateAnswer, terminals)
	code, err := r.server.registry.NewCode(ctx, terminal.Code{Merchant: r.owner.ID, Store: r.shop.ID, Protocol: terminal.DeviceProtocol})
	if err != nil {
		b.Fatal(err)
	}
	for n := range identities {
		e, key, err := r.server.registry.Activate(ctx, terminal.Activation{Protocol: terminal.DeviceProtocol, Code: code})
		if err != nil {
			b.Fatal(err)
		}
		identities[n] = terminal.ActivateAnswer{Number: e.Number, Key: key.Reveal()}
	}
	memory := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse + m.StackInuse
	}
	for b.Loop() {
		before := memory()
		var conns []*websocket.Conn
		for _, i := range identities {
			conn, err := connect(ctx, r.server.http.URL, i.Number, terminal.NewSecret(i.Key))
			if err != nil {
				b.Fatal(err)
			}
			conns = append(conns, conn)
		}
		if n := r.server.channel.Connected(); n != terminals {
			b.Fatalf("%d connected", n)
		}
		b.ReportMetric(float64(memory()-before)/terminals/1024, "KiB/terminal")
		for _, c := range conns {
			_ = c.CloseNow()
		}
		r.until("the lines to end", func() bool { return r.server.channel.Connected() == 0 })
	}
}

// connect is a terminal's side of the handshake and nothing more.
func connect(ctx context.Context, url, number string, key terminal.Secret) (*websocket.Conn, error) {
	conn, _, err := websocket.Dial(ctx, url+terminal.PathConnect, nil)
	if err != nil {
		return nil, err
	}
	f, err := terminal.ReadFrame(ctx, conn)
	if err != nil {
		return nil, err
	}
	var hello terminal.ServerHello
	if err := f.Read(&hello); err != nil {
		return nil, err
	}
	nonce, err := terminal.NewNonce(rand.Reader)
	if err != nil {
		return nil, err
	}
	err = terminal.WriteFrame(ctx, conn, terminal.MakeFrame(terminal.FrameHello, "", "", terminal.DeviceHello{Number: number, Nonce: nonce,
		Proof: terminal.Proof(key, "device", number, hello.Nonce, nonce)}))
	if err != nil {
		return nil, err
	}
	if f, err = terminal.ReadFrame(ctx, conn); err != nil || f.Type != terminal.FrameWelcome {
		return nil, fmt.Errorf("%v, %w", f, err)
	}
	return conn, nil
}

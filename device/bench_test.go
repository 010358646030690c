package device_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
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

// BenchmarkIdle is what a connected terminal costs the server. The terminals are in a process of their own.
func BenchmarkIdle(b *testing.B) {
	r := setup(b)
	ctx := context.Background()
	const terminals = 5000
	f := fleet{URL: r.server.http.URL}
	code, err := r.server.registry.NewCode(ctx, terminal.Code{Merchant: r.owner.ID, Store: r.shop.ID, Protocol: terminal.DeviceProtocol})
	if err != nil {
		b.Fatal(err)
	}
	for range terminals {
		e, key, err := r.server.registry.Activate(ctx, terminal.Activation{Protocol: terminal.DeviceProtocol, Code: code})
		if err != nil {
			b.Fatal(err)
		}
		f.Terminals = append(f.Terminals, terminal.ActivateAnswer{Number: e.Number, Key: key.Reveal()})
	}
	memory := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse + m.StackInuse
	}
	for b.Loop() {
		before := memory()
		debug.FreeOSMemory()
		resident := residentMemory(b)
		hangUp := f.connect(b)
		r.until("the terminals to be connected", func() bool { return r.server.channel.Connected() == terminals })
		b.ReportMetric(float64(residentMemory(b)-resident)/terminals/1024, "first-resident-KiB/terminal") // With what is not collected yet.
		b.ReportMetric(float64(memory()-before)/terminals/1024, "KiB/terminal")
		debug.FreeOSMemory()
		b.ReportMetric(float64(residentMemory(b)-resident)/terminals/1024, "resident-KiB/terminal")
		hangUp()
		r.until("the lines to end", func() bool { return r.server.channel.Connected() == 0 })
	}
}

// residentMemory is this process's, in bytes.
func residentMemory(b *testing.B) uint64 {
	b.Helper()
	text, err := os.ReadFile("/proc/self/statm")
	var size, pages uint64
	if err == nil {
		_, err = fmt.Sscan(string(text), &size, &pages)
	}
	if err != nil {
		b.Fatal(err)
	}
	return pages * uint64(os.Getpagesize())
}

// A fleet is terminals that connect and stay idle.
type fleet struct {
	URL       string
	Terminals []terminal.ActivateAnswer
}

// fleetEnv makes this program a fleet, which is told on standard input and stays until that ends.
const fleetEnv = "TILLGATE_BENCH_FLEET"

func TestMain(m *testing.M) {
	if os.Getenv(fleetEnv) == "" {
		os.Exit(m.Run())
	}
	if err := runFleet(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func runFleet(in io.Reader) error {
	var f fleet
	orders := json.NewDecoder(in)
	if err := orders.Decode(&f); err != nil {
		return err
	}
	for _, t := range f.Terminals {
		conn, err := connect(context.Background(), f.URL, t.Number, terminal.NewSecret(t.Key))
		if err != nil {
			return err
		}
		defer func() { _ = conn.CloseNow() }()
	}
	if err := orders.Decode(&f); err != io.EOF {
		return fmt.Errorf("a fleet has one order: %w", err)
	}
	return nil
}

// connect begins to connect the fleet from another process. The function returned ends that.
func (f fleet) connect(b *testing.B) func() {
	b.Helper()
	child := exec.Command(os.Args[0])
	child.Env, child.Stderr = append(os.Environ(), fleetEnv+"=1"), os.Stderr
	in, err := child.StdinPipe()
	if err == nil {
		err = child.Start()
	}
	if err == nil {
		err = json.NewEncoder(in).Encode(f)
	}
	if err != nil {
		b.Fatal(err)
	}
	return func() {
		_ = in.Close()
		if err := child.Wait(); err != nil {
			b.Fatal(err)
		}
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

package sandbox

import (
	"bufio"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// serveCardsUntilKilled is the child of TestCardAnswersSurviveKill: a host that tells its address and never ends by itself.
func serveCardsUntilKilled(t *testing.T, dir string) {
	h, err := OpenCards(CardConfig{Dir: dir, ZMK: testZMK, Member: testMember, Rand: rand.Reader, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("address %s\n", l.Addr())
	t.Fatal(h.Serve(t.Context(), l))
}

// TestCardAnswersSurviveKill kills a host in the middle of many sales: every sale that was answered as approved is in the books of the next one, and is
// known there as taken.
func TestCardAnswersSurviveKill(t *testing.T) {
	if dir := os.Getenv("SANDBOX_CARDS_KILL_DIR"); dir != "" {
		serveCardsUntilKilled(t, dir)
	}
	t.Parallel()
	r := &cardRig{t: t, dir: t.TempDir()}
	r.at.Store(time.Now().UnixMilli())
	kept := r.killUnderSales()
	if len(kept) == 0 {
		t.Fatal("nothing was approved before the end")
	}
	journal := r.journal()
	torn := journal + `{"txn":{"mti":"02` // A kill hardly ever tears a line; play it.
	if err := os.WriteFile(filepath.Join(r.dir, cardJournalName), []byte(torn), 0o600); err != nil {
		t.Fatal(err)
	}
	r.open()
	t.Cleanup(r.leave)
	m := r.dial().signOn()
	moved := strings.Count(r.books(""), "done")
	if moved < len(kept) {
		t.Errorf("%d movements, and %d sales were answered as approved", moved, len(kept))
	}
	for _, q := range kept {
		m.want("a sale that was answered", m.call("0200", q), "94")
	}
	if r.journal() != journal {
		t.Error("the torn line is still there, or repeats were written down")
	}
}

// killUnderSales runs a child, sends it sales, kills it in the middle of them, and returns those that were answered as approved.
func (r *cardRig) killUnderSales() []fields {
	t := r.t
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), self, "-test.run=^TestCardAnswersSurviveKill$")
	child.Env = append(os.Environ(), "SANDBOX_CARDS_KILL_DIR="+r.dir)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	address, ok := strings.CutPrefix(strings.TrimSpace(line), "address ")
	if err != nil || !ok {
		t.Fatalf("the child said %q, %v", line, err)
	}
	r.addr = address

	const callers, enough = 4, 400
	var mu sync.Mutex
	var kept []fields
	half := make(chan struct{})
	var calls sync.WaitGroup
	for i := range callers {
		m := r.dial().signOn()
		m.rrn = i * 1_000_000
		calls.Go(func() {
			for {
				q := m.sale(100, fields{41: fmt.Sprintf("TERM%04d", i)})
				if _, err := m.conn.Write(frame(packFields("0200", q, &m.mak))); err != nil {
					return
				}
				body, err := m.receive(patience)
				if err != nil {
					return
				}
				if _, a, err := m.read(body); err != nil || a[39] != "00" {
					t.Errorf("sale: %v, %v", a, err)
					return
				}
				mu.Lock()
				if kept = append(kept, q); len(kept) == enough {
					close(half)
				}
				mu.Unlock()
			}
		})
	}
	select {
	case <-half:
	case <-time.After(30 * time.Second):
		t.Error("the child is too slow")
	}
	_ = child.Process.Kill() // SIGKILL; Wait tells.
	calls.Wait()
	_ = child.Wait()
	return kept
}

package device

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/tillgate/tillgate/terminal"
)

// A terminal becomes free in the very moment in which its new line tells that it is busy. The last that the server hears is the truth.
func TestTheLastStateThatIsToldIsTheTruth(t *testing.T) {
	t.Parallel()
	heard := make(chan bool, 2)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			return
		}
		defer func() { _ = conn.CloseNow() }()
		for range cap(heard) {
			f, err := terminal.ReadFrame(r.Context(), conn)
			var busy bool
			if err != nil || f.Type != terminal.FrameState || f.Read(&busy) != nil {
				close(heard)
				return
			}
			heard <- busy
		}
	}))
	defer server.Close()
	conn, _, err := websocket.Dial(context.Background(), server.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.CloseNow() }()

	var busy atomic.Bool
	busy.Store(true)
	read, told := make(chan struct{}), make(chan struct{})
	l := &Link{conn: conn}
	var asked atomic.Bool
	l.busy = func() bool {
		now := busy.Load()
		if asked.CompareAndSwap(false, true) {
			close(read)
			select {
			case <-told: // The other has told already what this one does not know: it must not have been able to.
			case <-time.After(100 * time.Millisecond):
			}
		}
		return now
	}
	var all sync.WaitGroup
	all.Go(l.tellState)
	<-read
	busy.Store(false)
	l.tellState()
	close(told)
	all.Wait()
	<-heard
	if last, ok := <-heard; !ok || last {
		t.Errorf("a free terminal is taken for busy: %t, or was not heard: %t", last, !ok)
	}
}

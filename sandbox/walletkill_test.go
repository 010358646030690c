package sandbox

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// serveUntilKilled is the child of TestAnswersSurviveKill: a network that tells its address and never ends by itself.
func serveUntilKilled(dir string) {
	n, err := Open(Config{Dir: dir, Key: testKey, PublicURL: func() string { return publicURL }, Rand: rand.Reader, Now: time.Now})
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	fmt.Printf("address %s\n", l.Addr())
	fmt.Println("error:", http.Serve(l, n.Handler()))
	os.Exit(1)
}

// killUnderLoad runs a child, sends it payments, kills it in the middle of them, and returns the references that were answered as approved.
func killUnderLoad(t *testing.T, dir string) []string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), self, "-test.run=^TestAnswersSurviveKill$")
	child.Env = append(os.Environ(), "SANDBOX_KILL_DIR="+dir)
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

	const callers, enough = 8, 200
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: callers}}
	defer client.CloseIdleConnections()
	var mu sync.Mutex
	var kept []string
	var calls sync.WaitGroup
	half := make(chan struct{})
	for c := range callers {
		calls.Go(func() {
			for i := 0; ; i++ {
				reference := fmt.Sprintf("k-%d-%d", c, i)
				if !approvedBy(t, client, "http://"+address, reference) {
					return
				}
				mu.Lock()
				if kept = append(kept, reference); len(kept) == enough {
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

// approvedBy sends one payment and reports whether it was answered as approved.
func approvedBy(t *testing.T, client *http.Client, base, reference string) bool {
	body, err := json.Marshal(ask(reference))
	if err != nil {
		t.Error(err)
		return false
	}
	req, err := http.NewRequestWithContext(t.Context(), "POST", base+"/v1/payments", bytes.NewReader(body))
	if err != nil {
		t.Error(err)
		return false
	}
	req.Header.Set("Authorization", "Bearer "+testKey)
	res, err := client.Do(req)
	if err != nil {
		return false
	}
	defer func() { _ = res.Body.Close() }()
	var answer object
	return json.NewDecoder(res.Body).Decode(&answer) == nil && answer["state"] == "approved"
}

package qfpay

import (
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"
)

// TestMain fails when the tests leave goroutines behind: links, orders and clients must all end.
func TestMain(m *testing.M) {
	code := m.Run()
	const ours = 2 // This one, and what the testing package keeps.
	for end := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > ours && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	if n := runtime.NumGoroutine(); code == 0 && n > ours {
		stacks := make([]byte, 1<<20)
		fmt.Printf("%d goroutines are left:\n%s\n", n, stacks[:runtime.Stack(stacks, true)])
		code = 1
	}
	os.Exit(code)
}

package cardhost

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// All goroutines of links have ended when their Run has returned.
func TestMain(m *testing.M) {
	code := m.Run()
	if left := leaked(); code == 0 && left != "" {
		fmt.Fprintln(os.Stderr, "goroutines left behind:\n"+left)
		code = 1
	}
	os.Exit(code)
}

// leaked is the stacks of all goroutines if one of ours is left after a second.
func leaked() (left string) {
	for range 100 {
		buf := make([]byte, 1<<20)
		left = string(buf[:runtime.Stack(buf, true)])
		if !strings.Contains(left, "acquirer/cardhost.(*") {
			return ""
		}
		time.Sleep(10 * time.Millisecond)
	}
	return left
}

//go:build faultpoint

// Package fault is the seam through which crash tests kill the real program at a chosen moment.
package fault

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

// killAt is the environment variable that arms the seam: "commit:3" kills after the third commit, "write:5" after the fifth socket write.
const killAt = "TILLGATE_KILL_AT"

var (
	point string
	at    int64
	seen  atomic.Int64
)

func init() {
	name, n, ok := strings.Cut(os.Getenv(killAt), ":")
	if !ok {
		return
	}
	var err error
	if at, err = strconv.ParseInt(n, 10, 64); err != nil || at < 1 {
		panic(fmt.Sprintf("%s: %q: want point:number", killAt, os.Getenv(killAt)))
	}
	point = name
}

// After kills the process, as kill -9 does, when the armed moment has come.
func After(p string) {
	if p == point && seen.Add(1) == at {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // The signal is on its way; nothing may happen before it arrives.
	}
}

type conn struct{ net.Conn }

// Conn makes every write to c a moment "write".
func Conn(c net.Conn) net.Conn { return conn{c} }

func (c conn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	After("write")
	return n, err
}

type listener struct{ net.Listener }

// Listener makes every write to an accepted connection a moment "write".
func Listener(l net.Listener) net.Listener { return listener{l} }

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return conn{c}, nil
}

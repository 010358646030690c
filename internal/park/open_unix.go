//go:build unix

package park

import (
	"errors"
	"syscall"
)

// open reports whether the other side of a connection has not ended it. What it has sent stays to be read.
func open(fd uintptr) bool {
	var b [1]byte
	n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK) // It does not wait: Go's sockets never do.
	return n > 0 || errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EINTR)
}

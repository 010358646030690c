package sqlstore

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// ErrInUse says that another server has the data folder.
var ErrInUse = errors.New("data folder is in use")

// fileLock is an advisory lock of a file, which the kernel releases when its process dies.
type fileLock struct{ file *os.File }

func openLock(path string) (*fileLock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	return &fileLock{f}, nil
}

// flock is syscall.Flock, again after a signal.
func (l *fileLock) flock(how int) error {
	for {
		err := syscall.Flock(int(l.file.Fd()), how)
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// try takes the lock if nobody has it.
func (l *fileLock) try() (bool, error) {
	err := l.flock(syscall.LOCK_EX | syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}

// release cannot fail in a way that matters: closing the file, or the end of the process, releases too.
func (l *fileLock) release() { _ = l.flock(syscall.LOCK_UN) }

func (l *fileLock) close() error {
	if l == nil {
		return nil
	}
	return l.file.Close()
}

// pause is how often wait looks whether the other side has finished.
const pause = time.Millisecond

// wait takes the lock, and gives up after the given time: one who has been stopped holds up nobody for ever.
func (l *fileLock) wait(atMost time.Duration) (bool, error) {
	for waited := time.Duration(0); ; waited += pause {
		if ok, err := l.try(); ok || err != nil || waited >= atMost {
			return ok, err
		}
		time.Sleep(pause)
	}
}

// takeFolder locks a data folder for a server.
func takeFolder(dir string) (*fileLock, error) {
	l, err := openLock(filepath.Join(dir, lockFile))
	if err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	ok, err := l.try()
	if err == nil && ok {
		// Whoever comes second can then say who was first. A file that cannot be written costs that hint only.
		_ = l.file.Truncate(0)
		_, _ = fmt.Fprintf(l.file, "%d\n", os.Getpid())
		return l, nil
	}
	if err == nil {
		holder := "another server"
		if pid, _ := io.ReadAll(io.LimitReader(l.file, 32)); len(pid) > 0 {
			holder += " (process " + strings.TrimSpace(string(pid)) + ")"
		}
		err = fmt.Errorf("%w by %s: stop it, or name another data folder", ErrInUse, holder)
	}
	return nil, errors.Join(fmt.Errorf("%s: %w", dir, err), l.close())
}

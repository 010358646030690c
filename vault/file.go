package vault

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// readOrCreate reads a file that only its owner may read, and makes it first when it is not there.
func readOrCreate(path string, content func() ([]byte, error)) ([]byte, error) {
	text, err := readPrivate(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return text, err
	}
	fresh, err := content()
	if err != nil {
		return nil, err
	}
	if err := create(path, fresh); err != nil {
		return nil, fmt.Errorf("make %s: %w", path, err)
	}
	return readPrivate(path) // Which may be another process's.
}

func readPrivate(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others; run: chmod 600 %s", path, path)
	}
	const sizeMax = 1 << 20 // A keyset of a thousand rotations is far below; whatever is larger is the wrong file.
	if info.Size() > sizeMax {
		return nil, fmt.Errorf("%s is too large to be a key", path)
	}
	return os.ReadFile(path)
}

// create writes beside path, makes that durable and links it into place, so that two processes that start at once agree on one file, and
// a crash leaves a whole file or none.
func create(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".secret-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(content)
	if err := errors.Join(err, f.Chmod(0o600), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(path)
}

// update replaces a file by what change makes of its content, durably: after a crash there is the old file or the new one. The fresh
// file's name is the lock: only one update runs at a time, in all processes.
func update(path string, change func([]byte) ([]byte, error)) error {
	fresh := path + ".new"
	f, err := os.OpenFile(fresh, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is being changed by another process; if there is none, it died: remove %s", path, fresh)
	}
	if err != nil {
		return err
	}
	defer os.Remove(fresh) // When it is still there, after a failure.
	old, err := readPrivate(path)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	content, err := change(old)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	_, err = f.Write(content)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(fresh, path); err != nil {
		return err
	}
	return syncDir(path)
}

// syncDir makes the directory's entry for path durable.
func syncDir(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

package vault

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestSecretIsMadeOnceAndKept(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "secret.key")
	var macs [8][]byte
	var wg sync.WaitGroup
	for i := range macs {
		wg.Go(func() {
			v, err := Open(path)
			if err != nil {
				t.Errorf("open: %v", err)
				return
			}
			macs[i] = v.MAC("request", []byte("x"))
		})
	}
	wg.Wait()
	for i, m := range macs {
		if !bytes.Equal(m, macs[0]) {
			t.Errorf("process %d made a secret of its own", i)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
	left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".secret-*"))
	if len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestPurposesDoNotShareKeys(t *testing.T) {
	t.Parallel()
	v, err := New(strings.Repeat("ab", 32))
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(v.MAC("request", []byte("x")), v.MAC("credential", []byte("x"))) {
		t.Error("two purposes gave one MAC")
	}
	w, _ := New(strings.Repeat("ac", 32))
	if bytes.Equal(v.MAC("request", []byte("x")), w.MAC("request", []byte("x"))) {
		t.Error("two secrets gave one MAC")
	}
}

func TestBadSecretsAreRefused(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "00", strings.Repeat("zz", 32), strings.Repeat("ab", 33)} {
		if _, err := New(s); err == nil {
			t.Errorf("%q accepted", s)
		}
	}
	path := filepath.Join(t.TempDir(), "secret.key")
	if err := os.WriteFile(path, []byte(strings.Repeat("ab", 32)), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a secret that others can read: %v", err)
	}
}

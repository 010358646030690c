package vault

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestKEKIsMadeOnceBesideTheSecret(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var vaults [8]*Vault
	var wg sync.WaitGroup
	for i := range vaults {
		wg.Go(func() {
			v, err := Open(filepath.Join(dir, "secret.key"))
			if err != nil {
				t.Errorf("open: %v", err)
			}
			vaults[i] = v
		})
	}
	wg.Wait()
	sealed, err := vaults[0].Seal("card", []byte("x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range vaults {
		if _, err := v.Unseal("card", sealed, nil); err != nil {
			t.Errorf("process %d has a KEK of its own: %v", i, err)
		}
	}
	names, _ := filepath.Glob(filepath.Join(dir, "*"))
	hidden, _ := filepath.Glob(filepath.Join(dir, ".*"))
	if len(names) != 2 || len(hidden) != 0 {
		t.Errorf("files: %v %v", names, hidden)
	}
	info, err := os.Stat(filepath.Join(dir, kekName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
	if err := vaults[0].Rotate(); err != nil {
		t.Fatal(err)
	}
	if info, err = os.Stat(filepath.Join(dir, kekName)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("after rotation: mode %v, %v; want 0600", info.Mode(), err)
	}
}

func TestBadKEKFilesAreRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	kek := filepath.Join(dir, "elsewhere.json")
	secret := filepath.Join(dir, "secret.key")
	if _, err := OpenKEK(secret, kek); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(kek)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		content []byte
		mode    os.FileMode
		want    string
	}{
		"readable by others": {good, 0o644, "chmod 600"},
		"empty":              {nil, 0o600, "not a tink keyset"},
		"not JSON":           {[]byte("canary canary"), 0o600, "not a tink keyset"},
		"cut short":          {good[:len(good)/2], 0o600, "not a tink keyset"},
		"no prefix":          {bytes.ReplaceAll(good, []byte("TINK"), []byte("RAW")), 0o600, "not a tink keyset"},
		"no AEAD":            {bytes.ReplaceAll(good, []byte("XAesGcmKey"), []byte("HmacKey")), 0o600, "not a tink keyset"},
		"much too large":     {make([]byte, 2<<20), 0o600, "too large"},
	} {
		if err := errors.Join(os.WriteFile(kek, tt.content, 0o600), os.Chmod(kek, tt.mode)); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenKEK(secret, kek); err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "canary canary") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestRotationsWaitForEachOther(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "secret.key")
	v, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	fresh := filepath.Join(filepath.Dir(path), kekName+".new")
	if err := os.WriteFile(fresh, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := v.Rotate(); err == nil || !strings.Contains(err.Error(), "remove "+fresh) {
		t.Errorf("beside another rotation: %v", err)
	}
	if err := os.Remove(fresh); err != nil {
		t.Fatal(err)
	}
	if err := v.Rotate(); err != nil {
		t.Error(err)
	}
	if err := os.Chmod(filepath.Join(filepath.Dir(path), kekName), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := v.Rotate(); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("others can read it: %v", err)
	}
	if _, err := os.Stat(fresh); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left behind: %v", err)
	}
}

func TestDerivedKEK(t *testing.T) {
	t.Parallel()
	v, err := New(testSecret)
	if err != nil {
		t.Fatal(err)
	}
	w, _ := New(testSecret)
	other, _ := New(strings.Repeat("ac", 32))
	sealed, err := v.Seal("card", []byte("x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := w.Unseal("card", sealed, nil); err != nil || string(got) != "x" {
		t.Errorf("same secret: got %q, %v", got, err)
	}
	if _, err := other.Unseal("card", sealed, nil); !errors.Is(err, ErrSealed) {
		t.Errorf("other secret: got %v", err)
	}
	if err := v.Rotate(); !errors.Is(err, ErrRotation) {
		t.Errorf("rotate: got %v", err)
	}
	if err := v.Close(); err != nil {
		t.Error(err)
	}
}

//go:build pkcs11

package vault

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/pkcs11"
)

// softHSMPaths are where distributions put SoftHSM2; the environment variable SOFTHSM2_LIB comes before them.
var softHSMPaths = []string{
	"/usr/lib/softhsm/libsofthsm2.so",
	"/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
	"/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
	"/usr/lib64/softhsm/libsofthsm2.so",
	"/usr/lib64/pkcs11/libsofthsm2.so",
	"/usr/local/lib/softhsm/libsofthsm2.so",
	"/opt/homebrew/lib/softhsm/libsofthsm2.so",
}

const tokenPIN, tokenOfficerPIN = "1234-canary", "5678-canary"

func init() {
	if softHSM() != "" {
		modules["token"] = openTestToken
	}
}

func softHSM() string {
	for _, path := range append([]string{os.Getenv("SOFTHSM2_LIB")}, softHSMPaths...) {
		if _, err := os.Stat(path); path != "" && err == nil {
			return path
		}
	}
	return ""
}

// The directory of all tokens of this run is set before the library is first loaded, which reads it once.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "softhsm")
	if err != nil {
		panic(err)
	}
	conf := filepath.Join(dir, "softhsm2.conf")
	text := fmt.Sprintf("directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n", dir)
	if err := errors.Join(os.WriteFile(conf, []byte(text), 0o600), os.Setenv("SOFTHSM2_CONF", conf)); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

var (
	tokenMu sync.Mutex // Two must not initialise the same free slot.
	tokens  = map[string]bool{}
)

// openTestToken opens the token of a place, which it makes the first time.
func openTestToken(t *testing.T, place string) Module {
	t.Helper()
	label := strings.ReplaceAll(place, "/", "")
	label = label[max(0, len(label)-32):] // As long as a label may be.
	tokenMu.Lock()
	defer tokenMu.Unlock()
	if !tokens[label] {
		makeToken(t, label)
		tokens[label] = true
	}
	m, err := OpenToken(softHSM(), label, tokenPIN)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return m
}

func makeToken(t *testing.T, label string) {
	t.Helper()
	p := pkcs11.New(softHSM())
	if p == nil {
		t.Fatal("SoftHSM2 cannot be loaded")
	}
	if err := p.Initialize(); err != nil && !isCode(err, pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED) {
		t.Fatal(err)
	}
	slots, err := p.GetSlotList(true)
	if err != nil {
		t.Fatal(err)
	}
	slot := slots[len(slots)-1] // SoftHSM's last slot is always a free one.
	if err := p.InitToken(slot, tokenOfficerPIN, label); err != nil {
		t.Fatal(err)
	}
	session, err := p.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(p.Login(session, pkcs11.CKU_SO, tokenOfficerPIN), p.InitPIN(session, tokenPIN), p.Logout(session), p.CloseSession(session))
	if err != nil {
		t.Fatal(err)
	}
}

func needToken(t *testing.T) string {
	t.Helper()
	if softHSM() == "" {
		t.Skip("SoftHSM2 is not installed: apt-get install softhsm2, or set SOFTHSM2_LIB to its library")
	}
	return t.TempDir()
}

// With nothing to run the suite over, say so.
func TestTokenIsThere(t *testing.T) { needToken(t) }

func TestKeysDoNotLeaveTheToken(t *testing.T) {
	t.Parallel()
	m := openTestToken(t, needToken(t)).(*token)
	v := newVault(unhex(t, testSecret), m)
	key := mustKey(t, v, UsageZonePIN, TDES, zpkKey, "z")
	if _, err := v.KCV(key); err != nil {
		t.Fatal(err)
	}
	err := m.do(func(s pkcs11.SessionHandle) error {
		if err := m.ctx.FindObjectsInit(s, nil); err != nil {
			return err
		}
		objects, _, err := m.ctx.FindObjects(s, 100)
		if err := errors.Join(err, m.ctx.FindObjectsFinal(s)); err != nil {
			return err
		}
		if len(objects) != 2 {
			t.Errorf("%d objects, want the KEK and the zone key", len(objects))
		}
		for _, o := range objects {
			if got, err := m.ctx.GetAttributeValue(s, o, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_VALUE, nil)}); err == nil && len(got[0].Value) > 0 {
				t.Errorf("object %d gives out its value", o)
			}
			got, err := m.ctx.GetAttributeValue(s, o, []*pkcs11.Attribute{
				pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, nil), pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, nil)})
			if err != nil || got[0].Value[0] != 0 || got[1].Value[0] != 1 {
				t.Errorf("object %d is extractable or not sensitive: %v", o, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestTokenVault(t *testing.T) {
	t.Parallel()
	place := needToken(t)
	path := filepath.Join(t.TempDir(), "secret.key")
	v, err := OpenModule(path, openTestToken(t, place))
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := v.Seal("card", []byte("x"), []byte("row"))
	if err != nil {
		t.Fatal(err)
	}
	w, err := OpenModule(path, openTestToken(t, place))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := w.Unseal("card", sealed, []byte("row")); err != nil || string(got) != "x" {
		t.Errorf("opened again: got %q, %v", got, err)
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(path), kekName)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a KEK file beside a token: %v", err)
	}
}

func TestTokensThatCannotBeOpened(t *testing.T) {
	t.Parallel()
	place := needToken(t)
	openTestToken(t, place)
	for name, tt := range map[string]struct{ library, label, pin string }{
		"no library": {"/nowhere.so", "x", tokenPIN},
		"no token":   {softHSM(), "nobody's", tokenPIN},
	} {
		if m, err := OpenToken(tt.library, tt.label, tt.pin); err == nil || m != nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	v := newVault(unhex(t, testSecret), openTestToken(t, needToken(t)))
	key := mustKey(t, v, UsageZoneMAC, RetailMAC, macKey, "z")
	want, err := v.MessageMAC(key, []byte("message"))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 4 * sessionsMax {
		wg.Go(func() {
			for range 20 {
				if got, err := v.MessageMAC(key, []byte("message")); err != nil || got != want {
					t.Errorf("got %x, %v", got, err)
				}
			}
		})
	}
	wg.Wait()
}

package terminal_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/sqlstore"
	"github.com/tillgate/tillgate/terminal"
	"github.com/tillgate/tillgate/vault"
)

// env is a registry over a store, with two merchants.
type env struct {
	*terminal.Registry
	t               *testing.T
	dir             string
	store           *counting
	vault           *vault.Vault
	log             bytes.Buffer
	clock           atomic.Int64
	merchant        payment.Merchant
	place           payment.Place
	other           payment.Merchant
	cfg             terminal.Config
	caller, foreign payment.Caller
}

// counting counts what is read.
type counting struct {
	*sqlstore.Store
	finds, pins, settings atomic.Int64
	beforePINs            func()
}

func (c *counting) FindIdentity(ctx context.Context, protocol, number string) (terminal.Entry, error) {
	c.finds.Add(1)
	return c.Store.FindIdentity(ctx, protocol, number)
}

func (c *counting) PINKeys(ctx context.Context, m payment.MerchantID, i payment.ID, now time.Time) ([]terminal.PINKey, error) {
	c.pins.Add(1)
	keys, err := c.Store.PINKeys(ctx, m, i, now)
	if c.beforePINs != nil { // After the read, before it is remembered.
		c.beforePINs()
	}
	return keys, err
}

func (c *counting) Settings(ctx context.Context, m payment.MerchantID, protocol string) ([]byte, error) {
	c.settings.Add(1)
	return c.Store.Settings(ctx, m, protocol)
}

var noon = time.Date(2026, 4, 14, 2, 0, 0, 0, time.UTC)

func setup(t *testing.T) *env {
	t.Helper()
	e := &env{t: t, dir: t.TempDir()}
	e.clock.Store(noon.UnixMilli())
	s, err := sqlstore.Open(t.Context(), sqlstore.Config{Dir: e.dir, Now: time.Now})
	e.no(err)
	t.Cleanup(func() { _ = s.Close() })
	e.store = &counting{Store: s}
	e.vault, err = vault.New(strings.Repeat("5a", 32))
	e.no(err)
	add := func(number string) payment.Merchant {
		m, err := s.AddMerchant(t.Context(), payment.Merchant{PublicID: number, CompanyName: "Fern Ltd", Name: "Fern", Currencies: []string{"SGD"},
			Methods: map[string]payment.Method{"visa": {Acquirer: "cards", Rate: payment.Rate{Millionths: 9_000}}}})
		e.no(err)
		return m
	}
	e.merchant, e.other = add("100"), add("200")
	e.place = e.shop(e.merchant, "fern-1")
	e.caller = payment.Caller{Merchant: e.merchant, Store: e.place, Credential: payment.Credential{Protocol: "uqpay", Merchant: e.merchant.ID}}
	e.foreign = payment.Caller{Merchant: e.other, Credential: payment.Credential{Protocol: "uqpay", Merchant: e.other.ID}}
	e.cfg = terminal.Config{Store: e.store, Vault: e.vault, Now: e.now, Rand: rand.Reader, Log: slog.New(slog.NewTextHandler(&e.log, nil))}
	e.Registry = terminal.New(e.cfg)
	return e
}

func (e *env) now() time.Time       { return time.UnixMilli(e.clock.Load()).UTC() }
func (e *env) skip(d time.Duration) { e.clock.Add(d.Milliseconds()) }

func (e *env) no(err error) {
	e.t.Helper()
	if err != nil {
		e.t.Fatal(err)
	}
}

func (e *env) wants(what string, got, want error) {
	e.t.Helper()
	if !errors.Is(got, want) {
		e.t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func (e *env) shop(m payment.Merchant, number string) payment.Place {
	e.t.Helper()
	p, err := e.store.AddStore(e.t.Context(), m.ID, payment.Place{PublicID: number, Name: "Shop", Calendar: payment.Calendar{Zone: "Asia/Singapore"}})
	e.no(err)
	return p
}

func device(serial string) terminal.Device {
	return terminal.Device{Maker: "05", Serial: serial, Model: "A930"}
}

func (e *env) register(serial string) terminal.Entry {
	e.t.Helper()
	entry, err := e.Register(e.t.Context(), e.caller, "uqpay", device(serial))
	e.no(err)
	return entry
}

func TestRegister(t *testing.T) {
	t.Parallel()
	e := setup(t)
	ctx := t.Context()
	first := e.register("PX1")
	if first.Number != "10000000" || first.Merchant != e.merchant.ID || first.Device != device("PX1") || !first.CreatedAt.Equal(noon) {
		t.Errorf("got %+v", first.Identity)
	}
	c := first.Caller
	if c.Merchant.Methods["visa"].Acquirer != "cards" || c.Store.Calendar.Zone != "Asia/Singapore" || c.Terminal.PublicID != "10000000" ||
		c.Credential.Protocol != "uqpay" || c.Credential.Merchant != e.merchant.ID || c.Credential.Store != e.place.ID || c.Credential.Terminal != c.Terminal.ID {
		t.Errorf("got caller %+v", c)
	}
	if again := e.register("PX1"); again.ID != first.ID || again.Number != first.Number {
		t.Errorf("the same device became %s", again.Number)
	}
	if second := e.register("PX2"); second.Number != "10000001" {
		t.Errorf("got number %s, want 10000001", second.Number)
	}

	// Another merchant has no store yet, and the device is not its own.
	_, err := e.Register(ctx, e.foreign, "uqpay", device("PX1"))
	e.wants("a device of another merchant", err, terminal.ErrTaken)
	_, err = e.Register(ctx, e.foreign, "uqpay", device("PX3"))
	var field *payment.FieldError
	if !errors.As(err, &field) || field.Field != "store" {
		t.Errorf("without a store: got %v", err)
	}
	closed := e.shop(e.other, "a")
	e.no(e.store.SetStoreDisabled(ctx, e.other.ID, closed.ID, true))
	open := e.shop(e.other, "b")
	third, err := e.Register(ctx, e.foreign, "uqpay", device("PX3"))
	e.no(err)
	if third.Caller.Store.ID != open.ID {
		t.Errorf("got store %d, want the first one in use, %d", third.Caller.Store.ID, open.ID)
	}
	// Names that would run together are kept apart.
	for _, d := range []terminal.Device{{Maker: "a:b", Serial: "c"}, {Maker: "a", Serial: "b:c"}, {Maker: "a%3Ab", Serial: "c"}} {
		x, err := e.Register(ctx, e.caller, "uqpay", d)
		e.no(err)
		if x.Device != d {
			t.Errorf("got %+v, want %+v", x.Device, d)
		}
	}
	for name, d := range map[string]terminal.Device{"maker": {Serial: "1"}, "serial": {Maker: "1"}, "model": {Maker: "1", Serial: "1", Model: "a\x00b"},
		"os": {Maker: "1", Serial: "1", OS: strings.Repeat("x", 129)}} {
		_, err := e.Register(ctx, e.caller, "uqpay", d)
		if !errors.As(err, &field) || field.Field != name {
			t.Errorf("%s: got %v", name, err)
		}
	}
	// A disabled one stays disabled.
	e.no(e.SetIdentityDisabled(ctx, first.Merchant, first.ID, true))
	again, err := e.Register(ctx, e.caller, "uqpay", device("PX1"))
	e.wants("a disabled device", err, terminal.ErrDisabled)
	e.wants("a disabled device, to those who know the core only", err, payment.ErrForbidden)
	if again.ID != first.ID {
		t.Error("the entry does not come with it")
	}
}

// TestRegisterAtOnce registers one device many times at once: it becomes one terminal.
func TestRegisterAtOnce(t *testing.T) {
	t.Parallel()
	e := setup(t)
	var wg sync.WaitGroup
	ids := make([]payment.ID, 16)
	for i := range ids {
		wg.Go(func() {
			entry, err := e.Register(t.Context(), e.caller, "uqpay", device(fmt.Sprint(i%2)))
			if err != nil {
				t.Error(err)
			}
			ids[i] = entry.ID
		})
	}
	wg.Wait()
	for i := range ids {
		if ids[i] != ids[i%2] {
			t.Errorf("one device got identities %v", ids)
		}
	}
	list, err := e.store.Terminals(t.Context(), e.merchant.ID, 0, 100)
	if err != nil || len(list) != 2 {
		t.Errorf("got %d terminals, %v, want 2", len(list), err)
	}
}

// TestFurtherIdentity gives a terminal names in other protocols, and lets numbers of operators stand among ours.
func TestFurtherIdentity(t *testing.T) {
	t.Parallel()
	e := setup(t)
	ctx := t.Context()
	first := e.register("PX1")
	further, err := e.AddIdentity(ctx, 0, terminal.Identity{Merchant: e.merchant.ID, Terminal: first.Terminal, Protocol: "iotpay", Number: "SN 7"})
	var field *payment.FieldError
	if !errors.As(err, &field) || field.Field != "number" {
		t.Errorf("a number with a space: got %+v, %v", further, err)
	}
	further, err = e.AddIdentity(ctx, 0, terminal.Identity{Merchant: e.merchant.ID, Terminal: first.Terminal, Protocol: "iotpay", Number: "10000000"})
	e.no(err)
	if further.Caller.Terminal.ID != first.Terminal || further.Caller.Credential.Protocol != "iotpay" {
		t.Errorf("got %+v", further.Caller)
	}
	_, err = e.AddIdentity(ctx, e.place.ID, terminal.Identity{Merchant: e.merchant.ID, Protocol: "iotpay", Number: "10000000"})
	e.wants("a number that is taken", err, terminal.ErrNumber)
	_, err = e.AddIdentity(ctx, e.place.ID, terminal.Identity{Merchant: e.merchant.ID, Protocol: "iotpay"})
	if !errors.As(err, &field) || field.Field != "number" {
		t.Errorf("no number: got %v", err)
	}
	_, err = e.AddIdentity(ctx, e.place.ID, terminal.Identity{Merchant: e.merchant.ID, Protocol: "uqpay", Number: "10000001"})
	e.no(err)
	if next := e.register("PX2"); next.Number != "10000002" {
		t.Errorf("got number %s, want the one behind the operator's", next.Number)
	}
	// Disabling an identity leaves the others; disabling the terminal ends all.
	e.no(e.SetIdentityDisabled(ctx, e.merchant.ID, first.ID, true))
	_, err = e.Find(ctx, "uqpay", first.Number)
	e.wants("a disabled identity", err, terminal.ErrDisabled)
	_, err = e.Find(ctx, "iotpay", "10000000")
	e.no(err)
	e.no(e.SetTerminalDisabled(ctx, e.merchant.ID, first.Terminal, true))
	_, err = e.Find(ctx, "iotpay", "10000000")
	e.wants("an identity of a disabled terminal", err, terminal.ErrDisabled)
	list, err := e.Identities(ctx, e.merchant.ID, terminal.Filter{Terminal: first.Terminal})
	if err != nil || len(list) != 2 {
		t.Errorf("got identities %v, %v, want two", list, err)
	}
}

// TestStopsInTwoSeconds disables each thing that a terminal needs, behind the registry's back.
func TestStopsInTwoSeconds(t *testing.T) {
	t.Parallel()
	e := setup(t)
	ctx := t.Context()
	_, err := e.Find(ctx, "uqpay", "10000000")
	e.wants("before it is registered", err, payment.ErrNotFound)
	entry := e.register("PX1")
	number := entry.Number
	for name, set := range map[string]func(bool) error{
		"identity": func(d bool) error { return e.store.SetIdentityDisabled(ctx, entry.Merchant, entry.ID, d) },
		"terminal": func(d bool) error { return e.store.SetTerminalDisabled(ctx, entry.Merchant, entry.Terminal, d) },
		"store":    func(d bool) error { return e.store.SetStoreDisabled(ctx, entry.Merchant, e.place.ID, d) },
		"merchant": func(d bool) error { return e.store.SetMerchantDisabled(ctx, entry.Merchant, d) },
	} {
		e.skip(2 * time.Second)
		_, err := e.Find(ctx, "uqpay", number)
		e.no(err)
		before := e.store.finds.Load()
		for range 100 {
			_, err := e.Find(ctx, "uqpay", number)
			e.no(err)
		}
		if n := e.store.finds.Load() - before; n != 0 {
			t.Errorf("%d reads of what is remembered", n)
		}
		e.no(set(true))
		e.skip(2 * time.Second)
		got, err := e.Find(ctx, "uqpay", number)
		e.wants(name+" is disabled", err, terminal.ErrDisabled)
		if got.ID != entry.ID {
			t.Errorf("%s: the entry does not come with the error", name)
		}
		e.no(set(false)) // A refusal is not remembered.
		_, err = e.Find(ctx, "uqpay", number)
		e.no(err)
	}
}

// vendor stores a vendor and a code, and returns an activation with them.
func (e *env) vendor(c terminal.Code) terminal.Activation {
	e.t.Helper()
	ctx := e.t.Context()
	v := terminal.Vendor{Number: "91800129", Name: "Kassen AG", Key: terminal.NewSecret("0123456789abcdef0123456789abcdef"), Apps: []string{"2024010100000001"}}
	e.no(e.AddVendor(ctx, v))
	c.Merchant, c.Store, c.Protocol = e.merchant.ID, e.place.ID, "upay"
	text, err := e.NewCode(ctx, c)
	e.no(err)
	if !regexp.MustCompile(`^\d{8}$`).MatchString(text) {
		e.t.Errorf("got code %q, want 8 digits", text)
	}
	return terminal.Activation{Protocol: "upay", Code: text, Vendor: v.Number, Device: terminal.Device{DeviceID: "d1", App: v.Apps[0]}}
}

func TestActivate(t *testing.T) {
	t.Parallel()
	e := setup(t)
	ctx := t.Context()
	a := e.vendor(terminal.Code{Uses: 3, App: "2024010100000001", Expires: noon.Add(time.Hour)})
	a.Device.ClientNumber, a.Device.Name = "till 1", "Theke"
	entry, key, err := e.Activate(ctx, a)
	e.no(err)
	if !regexp.MustCompile(`^1009\d{14}$`).MatchString(entry.Number) || entry.Caller.Store.ID != e.place.ID || entry.Vendor != a.Vendor || entry.Device != a.Device {
		t.Errorf("got %+v", entry.Identity)
	}
	if !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(key.Reveal()) {
		t.Errorf("got a key of %d characters, want 32 hexadecimal digits", len(key.Reveal()))
	}
	found, err := e.Find(ctx, "upay", entry.Number)
	e.no(err)
	keys, err := e.Keys(found)
	e.no(err)
	if len(keys) != 1 || !keys[0].Equal(key.Reveal()) || keys[0].Last || !keys[0].IssuedAt.Equal(noon) || keys[0].Equal("") {
		t.Errorf("got keys %+v", keys)
	}

	_, _, err = e.Activate(ctx, a)
	e.wants("a client number that is taken", err, terminal.ErrClientNumber)
	a.Device.ClientNumber = "till 2"
	a.Once = true
	_, _, err = e.Activate(ctx, a)
	e.wants("a device that may be activated once", err, terminal.ErrDevice)
	a.Once = false
	again, other, err := e.Activate(ctx, a)
	e.no(err)
	if again.Number == entry.Number || other.Reveal() == key.Reveal() {
		t.Error("a second activation got the first one's number or key")
	}
	wrong := a
	wrong.Device.App, wrong.Device.ClientNumber = "2024010100000002", ""
	reason := func(what string, a terminal.Activation, want terminal.CodeReason) {
		t.Helper()
		_, _, err := e.Activate(ctx, a)
		var refusal *terminal.CodeError
		if !errors.As(err, &refusal) || refusal.Reason != want || !errors.Is(err, payment.ErrConflict) {
			t.Errorf("%s: got %v, want it %s", what, err, want)
		}
	}
	reason("a code of another application", wrong, terminal.CodeUnknown)
	wrong = a
	wrong.Code = "00000000"
	reason("a wrong code", wrong, terminal.CodeUnknown)
	wrong = a
	wrong.Protocol = "uqpay"
	reason("a code of another protocol", wrong, terminal.CodeUnknown)
	a.Device.ClientNumber = ""
	_, _, err = e.Activate(ctx, a)
	e.no(err)
	reason("a code without uses left", a, terminal.CodeUsedUp)
	e.skip(time.Hour)
	reason("a code that has expired", a, terminal.CodeExpired)
	if log := e.log.String(); strings.Count(log, "wrong activation codes") != 2 || strings.Contains(log, a.Code) {
		t.Errorf("log of wrong codes:\n%s", log)
	}

	// Unlimited, until it is ended.
	b := e.vendor(terminal.Code{})
	for range 5 {
		_, _, err := e.Activate(ctx, b)
		e.no(err)
	}
	codes, err := e.Codes(ctx, e.merchant.ID, 0, 10)
	e.no(err)
	if len(codes) != 2 || codes[0].Text != a.Code || codes[0].Used != 3 || codes[1].Text != b.Code || codes[1].Used != 5 {
		t.Errorf("got codes %+v", codes)
	}
	e.no(e.EndCode(ctx, e.merchant.ID, codes[1].ID))
	reason("a code that was ended", b, terminal.CodeExpired)
	for name, c := range map[string]terminal.Code{"uses": {Protocol: "upay", Uses: -1}, "protocol": {}, "app": {Protocol: "upay", App: "\n"}} {
		var field *payment.FieldError
		if _, err := e.NewCode(ctx, c); !errors.As(err, &field) || field.Field != name {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// TestCodeAtOnce lets many use a code for three at once.
func TestCodeAtOnce(t *testing.T) {
	t.Parallel()
	e := setup(t)
	a := e.vendor(terminal.Code{Uses: 3})
	var wg sync.WaitGroup
	var won atomic.Int64
	for range 12 {
		wg.Go(func() {
			if _, _, err := e.Activate(t.Context(), a); err == nil {
				won.Add(1)
			} else if !errors.Is(err, terminal.ErrCode) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 3 {
		t.Errorf("a code for 3 was used %d times", won.Load())
	}
}

func TestCheckIn(t *testing.T) {
	t.Parallel()
	e := setup(t)
	ctx := t.Context()
	elsewhere := terminal.New(e.cfg) // Another process.
	entry, first, err := e.Activate(ctx, e.vendor(terminal.Code{}))
	e.no(err)
	_, err = elsewhere.Find(ctx, "upay", entry.Number)
	e.no(err)
	valid := func(r *terminal.Registry, fresh bool) []string {
		t.Helper()
		find := r.Find
		if fresh {
			find = r.Fresh
		}
		got, err := find(ctx, "upay", entry.Number)
		e.no(err)
		keys, err := r.Keys(got)
		e.no(err)
		var texts []string
		for i, k := range keys {
			if k.Last != (i == 1) {
				t.Errorf("key %d: last is %t", i, k.Last)
			}
			texts = append(texts, k.Reveal())
		}
		return texts
	}
	same := func(what string, got []string, want ...terminal.Secret) {
		t.Helper()
		var texts []string
		for _, s := range want {
			texts = append(texts, s.Reveal())
		}
		if strings.Join(got, " ") != strings.Join(texts, " ") {
			t.Errorf("%s: other keys are valid than wanted", what)
		}
	}
	e.skip(time.Second)
	second, err := e.CheckIn(ctx, entry, terminal.Device{OS: "Android 15"})
	e.no(err)
	same("at once", valid(e.Registry, false), second, first)
	same("in another process that remembers", valid(elsewhere, false), first)
	same("in another process that looks again", valid(elsewhere, true), second, first)
	// The terminal never hears of the second key, and checks in with the first.
	third, err := elsewhere.CheckIn(ctx, entry, terminal.Device{})
	e.no(err)
	e.skip(2 * time.Second)
	same("after a lost answer", valid(e.Registry, false), third, second)
	got, err := e.Find(ctx, "upay", entry.Number)
	if err != nil || got.Device.OS != "Android 15" || !got.CheckedIn.Equal(noon.Add(time.Second)) {
		t.Errorf("got %+v, %v", got.Identity, err)
	}

	// Two at once: one comes first, and both keys are valid.
	var wg sync.WaitGroup
	made := make([]terminal.Secret, 2)
	for i := range made {
		wg.Go(func() {
			var err error
			if made[i], err = e.CheckIn(ctx, entry, terminal.Device{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	now := valid(e.Registry, true)
	for _, s := range made {
		if len(now) != 2 || now[0] != s.Reveal() && now[1] != s.Reveal() {
			t.Error("a key that was handed out is not valid")
		}
	}
}

// TestStolenDatabase looks for what was handed out in all files of the store, and moves a sealed key to another row.
func TestStolenDatabase(t *testing.T) {
	t.Parallel()
	e := setup(t)
	ctx := t.Context()
	a := e.vendor(terminal.Code{})
	entry, first, err := e.Activate(ctx, a)
	e.no(err)
	second, err := e.CheckIn(ctx, entry, terminal.Device{})
	e.no(err)
	v, err := e.Vendor(ctx, a.Vendor)
	e.no(err)
	if !v.Has(a.Device.App) || v.Has("1") || !v.Key.Equal("0123456789abcdef0123456789abcdef") {
		t.Errorf("got vendor %+v", v)
	}
	files, err := filepath.Glob(filepath.Join(e.dir, "*"))
	e.no(err)
	read := 0
	for _, f := range files {
		data, err := os.ReadFile(f)
		e.no(err)
		read += len(data)
		for what, secret := range map[string]string{"first key": first.Reveal(), "second key": second.Reveal(), "vendor's key": v.Key.Reveal()} {
			if bytes.Contains(bytes.ToLower(data), []byte(secret)) {
				t.Errorf("%s holds the %s", f, what)
			}
		}
		if bytes.Contains(data, []byte(a.Code)) {
			t.Errorf("%s holds the activation code", f)
		}
	}
	if read == 0 {
		t.Error("nothing was read")
	}
	other, _, err := e.Activate(ctx, a)
	e.no(err)
	other.Sealed = entry.Sealed
	moved := terminal.Entry{Identity: other.Identity, Sealed: entry.Sealed}
	if _, err := e.Keys(moved); err == nil {
		t.Error("a key opens in another row")
	}
}

// TestSecretsAreHidden prints keys and what holds them, in every way.
func TestSecretsAreHidden(t *testing.T) {
	t.Parallel()
	e := setup(t)
	entry, secret, err := e.Activate(t.Context(), e.vendor(terminal.Code{}))
	e.no(err)
	keys, err := e.Keys(entry)
	e.no(err)
	v, err := e.Vendor(t.Context(), "91800129")
	e.no(err)
	var out strings.Builder
	log := slog.New(slog.NewJSONHandler(&out, nil))
	for _, x := range []any{secret, keys[0], keys, entry, &entry, v, struct{ k terminal.Key }{keys[0]}, e.Registry} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
			fmt.Fprintf(&out, verb+"\n", x)
		}
		if text, err := json.Marshal(x); err == nil {
			out.Write(text)
		}
		log.Info("x", "x", x)
	}
	for _, s := range []string{secret.Reveal(), v.Key.Reveal()} {
		if strings.Contains(out.String(), s) || strings.Contains(strings.ToLower(out.String()), fmt.Sprintf("%x", s)) {
			t.Errorf("a secret is shown:\n%s", out.String())
		}
	}
}

func TestPINKeys(t *testing.T) {
	t.Parallel()
	e := setup(t)
	ctx := t.Context()
	entry := e.register("PX1")
	list := func(r *terminal.Registry) string {
		t.Helper()
		keys, err := r.PINKeys(ctx, entry)
		e.no(err)
		return string(bytes.Join(keys, []byte(" ")))
	}
	same := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: got %q, want %q", what, got, want)
		}
	}
	same("none", list(e.Registry), "")
	e.no(e.AddPINKey(ctx, entry, []byte("a"), noon.Add(time.Hour)))
	e.no(e.AddPINKey(ctx, entry, []byte("b"), noon.Add(2*time.Hour)))
	same("two", list(e.Registry), "b a")
	before := e.store.pins.Load()
	for range 100 {
		e.skip(100 * time.Millisecond)
		same("two", list(e.Registry), "b a")
	}
	if n := e.store.pins.Load() - before; n != 0 {
		t.Errorf("%d reads in the steady state, want none", n)
	}
	e.clock.Store(noon.Add(time.Hour).UnixMilli())
	same("when one has expired", list(e.Registry), "b")
	for _, name := range strings.Split("cdefghijkl", "") {
		e.no(e.AddPINKey(ctx, entry, []byte(name), noon.Add(3*time.Hour)))
	}
	same("eight", list(e.Registry), "l k j i h g f e")

	// What is read while a key is added is not remembered.
	e.clock.Store(noon.Add(2 * time.Hour).UnixMilli())
	e.store.beforePINs = func() {
		e.store.beforePINs = nil
		e.no(e.AddPINKey(ctx, entry, []byte("m"), noon.Add(4*time.Hour)))
	}
	same("read before it was added", list(e.Registry), "l k j i h g f e")
	same("read after", list(e.Registry), "m l k j i h g f")

	// Of several processes, none misses what another has added.
	shared := e.cfg
	shared.Shared = true
	one, two := terminal.New(shared), terminal.New(shared)
	same("in the first", list(one), "m l k j i h g f")
	e.no(two.AddPINKey(ctx, entry, []byte("n"), noon.Add(4*time.Hour)))
	same("in the first, after the second has added one", list(one), "n m l k j i h g")
}

func TestSettings(t *testing.T) {
	t.Parallel()
	e := setup(t)
	ctx := t.Context()
	type settings struct {
		Life   int  `json:"life"`
		Strict bool `json:"strict"`
	}
	get := func() settings {
		t.Helper()
		s := settings{Life: 48}
		e.no(e.Settings(ctx, e.merchant.ID, "upay", &s))
		return s
	}
	if s := get(); s != (settings{48, false}) {
		t.Errorf("got %+v, want what is the standard", s)
	}
	for range 10 {
		get()
	}
	if n := e.store.settings.Load(); n != 1 {
		t.Errorf("%d reads, want one", n)
	}
	e.no(e.SetSettings(ctx, e.merchant.ID, "upay", map[string]any{"life": 0}))
	if s := get(); s != (settings{0, false}) {
		t.Errorf("got %+v at once", s)
	}
	e.no(e.store.SetSettings(ctx, e.merchant.ID, "upay", []byte(`{"strict":true}`)))
	e.skip(2 * time.Second)
	if s := get(); s != (settings{48, true}) {
		t.Errorf("got %+v after two seconds", s)
	}
	e.no(e.store.SetSettings(ctx, e.merchant.ID, "upay", []byte(`{"strict":7}`)))
	e.skip(2 * time.Second)
	if err := e.Settings(ctx, e.merchant.ID, "upay", &settings{}); err == nil {
		t.Error("settings that cannot be read are taken")
	}
	if err := e.SetSettings(ctx, e.merchant.ID, "upay", func() {}); err == nil {
		t.Error("settings that cannot be written are taken")
	}
}

func TestVendors(t *testing.T) {
	t.Parallel()
	e := setup(t)
	ctx := t.Context()
	good := terminal.Vendor{Number: "1", Name: "n", Key: terminal.NewSecret("k"), Apps: []string{"a"}}
	for name, spoil := range map[string]func(*terminal.Vendor){
		"number": func(v *terminal.Vendor) { v.Number = "" },
		"key":    func(v *terminal.Vendor) { v.Key = terminal.Secret{} },
		"name":   func(v *terminal.Vendor) { v.Name = "a\nb" },
		"apps":   func(v *terminal.Vendor) { v.Apps = []string{"a b"} },
	} {
		v := good
		spoil(&v)
		var field *payment.FieldError
		if err := e.AddVendor(ctx, v); !errors.As(err, &field) || field.Field != name {
			t.Errorf("%s: got %v", name, err)
		}
	}
	e.no(e.AddVendor(ctx, good))
	good.Key = terminal.NewSecret("changed")
	e.no(e.AddVendor(ctx, good))
	list, err := e.Vendors(ctx, "", 10)
	if err != nil || len(list) != 1 || list[0].Key.Reveal() != "changed" {
		t.Errorf("got %+v, %v", list, err)
	}
	_, err = e.Vendor(ctx, "2")
	e.wants("a vendor that is not there", err, payment.ErrNotFound)
}

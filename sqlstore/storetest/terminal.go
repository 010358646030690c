package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/terminal"
)

func newDevice() terminal.Device {
	return terminal.Device{Maker: "05", Serial: "PX930-000771", Model: "A930", DeviceID: "é-1", ClientNumber: "7", Name: "Theke 1", OS: "Android 14",
		SDK: "2.0", App: "2024010100000001"}
}

// block hands out one ID.
func block(t tb, s Store) payment.ID {
	t.Helper()
	id, err := s.Block(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// newIdentity is an identity with a new terminal in a store.
func newIdentity(t tb, s Store, m payment.MerchantID, store payment.ID, protocol, number string) terminal.NewIdentity {
	return terminal.NewIdentity{Identity: terminal.Identity{ID: block(t, s), Merchant: m, Terminal: block(t, s), Protocol: protocol, Number: number,
		CreatedAt: then}, Store: store}
}

// register stores a shop and an identity of a terminal in it.
func register(t *testing.T, s Store, protocol, number string) terminal.Entry {
	t.Helper()
	m, p, _ := shop(t, s)
	wantNone(t, s.AddIdentity(t.Context(), newIdentity(t, s, m.ID, p.ID, protocol, number)))
	return find(t, s, protocol, number)
}

func find(t *testing.T, s Store, protocol, number string) terminal.Entry {
	t.Helper()
	e, err := s.FindIdentity(t.Context(), protocol, number)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func testIdentity(t *testing.T, open func() Store) {
	s := open()
	ctx := t.Context()
	m, p, _ := shop(t, s)
	n := newIdentity(t, s, m.ID, p.ID, "upay", "100900000000000017")
	n.Vendor, n.Device, n.DeviceName, n.ClientName = "91800129", newDevice(), "upay:1:a", "upay:2:b"
	n.Key = &terminal.SealedKey{Sealed: []byte{0, 1, 255}, IssuedAt: then}
	wantNone(t, s.AddIdentity(ctx, n))
	want := terminal.Entry{Identity: n.Identity, Sealed: []terminal.SealedKey{*n.Key}}
	want.CheckedIn = then
	want.Caller = payment.Caller{
		Credential: payment.Credential{ID: n.ID, Protocol: "upay", Merchant: m.ID, Store: p.ID, Terminal: n.Terminal, Name: n.Number},
		Merchant:   m, Store: p, Terminal: payment.Terminal{ID: n.Terminal, PublicID: n.Number, Store: p.ID, Name: "Theke 1"},
	}
	equal(t, "entry", find(t, s, "upay", n.Number), want)
	byDevice, err := s.FindDevice(ctx, "upay:1:a")
	wantNone(t, err)
	equal(t, "entry by device", byDevice, want)
	_, err = s.FindIdentity(ctx, "uqpay", n.Number)
	wantError(t, "the number in another protocol", err, payment.ErrNotFound)
	_, err = s.FindDevice(ctx, "upay:2:b")
	wantError(t, "a client's name as a device's", err, payment.ErrNotFound)

	// What is disabled is found, and says so.
	for _, disabled := range []bool{true, false} {
		err := errors.Join(s.SetMerchantDisabled(ctx, m.ID, disabled), s.SetStoreDisabled(ctx, m.ID, p.ID, disabled),
			s.SetTerminalDisabled(ctx, m.ID, n.Terminal, disabled), s.SetIdentityDisabled(ctx, m.ID, n.ID, disabled))
		wantNone(t, err)
		c := &want.Caller
		want.Disabled, c.Credential.Disabled = disabled, disabled
		c.Merchant.Disabled, c.Store.Disabled, c.Terminal.Disabled = disabled, disabled, disabled
		equal(t, fmt.Sprintf("entry, disabled %t", disabled), find(t, s, "upay", n.Number), want)
	}
	wantError(t, "another merchant's identity", s.SetIdentityDisabled(ctx, m.ID+1, n.ID, true), payment.ErrNotFound)

	// A terminal that tells nothing of itself, without a key.
	bare := newIdentity(t, s, m.ID, p.ID, "uqpay", "10000000")
	wantNone(t, s.AddIdentity(ctx, bare))
	got := find(t, s, "uqpay", "10000000")
	equal(t, "keys of none", got.Sealed, nil)
	equal(t, "identity", got.Identity, bare.Identity)
	equal(t, "name", got.Caller.Terminal.Name, "10000000")
}

func testIdentities(t *testing.T, open func() Store) {
	s := open()
	ctx := t.Context()
	m, p, d := shop(t, s)
	first := newIdentity(t, s, m.ID, p.ID, "uqpay", "10000000")
	wantNone(t, s.AddIdentity(ctx, first))
	further := newIdentity(t, s, m.ID, 0, "upay", "1009") // The same device in another protocol.
	further.Terminal = first.Terminal
	wantNone(t, s.AddIdentity(ctx, further))
	old := newIdentity(t, s, m.ID, 0, "upay", "1010") // A terminal that an operator made.
	old.Terminal = d.ID
	wantNone(t, s.AddIdentity(ctx, old))
	equal(t, "terminal by its other number", find(t, s, "upay", "1009").Caller.Terminal.ID, first.Terminal)
	equal(t, "terminal of the operator", find(t, s, "upay", "1010").Caller.Terminal, d)

	for name, tt := range map[string]struct {
		f    terminal.Filter
		want []terminal.Identity
	}{
		"all":           {terminal.Filter{}, []terminal.Identity{first.Identity, further.Identity, old.Identity}},
		"of a terminal": {terminal.Filter{Terminal: first.Terminal}, []terminal.Identity{first.Identity, further.Identity}},
		"of a protocol": {terminal.Filter{Protocol: "upay"}, []terminal.Identity{further.Identity, old.Identity}},
		"of both":       {terminal.Filter{Terminal: first.Terminal, Protocol: "upay"}, []terminal.Identity{further.Identity}},
		"behind one":    {terminal.Filter{After: first.ID, Limit: 1}, []terminal.Identity{further.Identity}},
		"of nobody":     {terminal.Filter{Terminal: 999_999}, nil},
	} {
		got, err := s.Identities(ctx, m.ID, tt.f)
		wantNone(t, err)
		equal(t, "identities "+name, got, tt.want)
	}
	got, err := s.Identities(ctx, m.ID+1, terminal.Filter{})
	wantNone(t, err)
	equal(t, "identities of another merchant", got, nil)

	gone := newIdentity(t, s, m.ID, 0, "upay", "1011")
	gone.Terminal = 999_999
	wantError(t, "identity of no terminal", s.AddIdentity(ctx, gone), payment.ErrNotFound)
	lost := newIdentity(t, s, m.ID, 999_999, "upay", "1012")
	wantField(t, s.AddIdentity(ctx, lost), "store")
	bad := newIdentity(t, s, m.ID, p.ID, "upay", "10 13")
	wantField(t, s.AddIdentity(ctx, bad), "number")
}

func testIdentityNames(t *testing.T, open func() Store) {
	s := open()
	ctx := t.Context()
	m, p, d := shop(t, s)
	other := newMerchant()
	other.PublicID = "10002001"
	other, err := s.AddMerchant(ctx, other)
	wantNone(t, err)
	q, err := s.AddStore(ctx, other.ID, newPlace())
	wantNone(t, err)
	first := newIdentity(t, s, m.ID, p.ID, "uqpay", d.PublicID) // A number that is a TID of another protocol.
	first.DeviceName, first.OneDevice, first.ClientName = "device", true, "client"
	wantNone(t, s.AddIdentity(ctx, first))
	wantNone(t, s.AddIdentity(ctx, newIdentity(t, s, other.ID, q.ID, "upay", d.PublicID)))
	_, err = s.AddTerminal(ctx, other.ID, payment.Terminal{PublicID: d.PublicID, Store: q.ID, Name: "b"})
	wantField(t, err, "public_id")

	again := newIdentity(t, s, other.ID, q.ID, "uqpay", d.PublicID)
	wantError(t, "a number that is taken", s.AddIdentity(ctx, again), terminal.ErrNumber)
	again.Number, again.DeviceName, again.OneDevice = "2", "device", true
	wantError(t, "a device that is taken", s.AddIdentity(ctx, again), terminal.ErrTaken)
	again.DeviceName, again.ClientName = "", "client"
	wantError(t, "a client number that is taken", s.AddIdentity(ctx, again), terminal.ErrClientNumber)
	for _, number := range []string{"2", "3"} { // Nothing of them was left behind.
		_, err := s.FindIdentity(ctx, "uqpay", number)
		wantError(t, "a refused identity", err, payment.ErrNotFound)
	}
	list, err := s.Terminals(ctx, other.ID, 0, 10)
	wantNone(t, err)
	equal(t, "terminals", len(list), 1)

	again.ClientName, again.DeviceName, again.OneDevice = "", "device", false // It may be registered again: the name stays the first one's.
	wantNone(t, s.AddIdentity(ctx, again))
	e, err := s.FindDevice(ctx, "device")
	wantNone(t, err)
	equal(t, "whose the device is", e.ID, first.ID)
}

func testCodes(t *testing.T, open func() Store) {
	s := open()
	ctx := t.Context()
	m, p, _ := shop(t, s)
	hash := []byte(strings.Repeat("h", 32))
	code := terminal.Code{ID: block(t, s), Merchant: m.ID, Store: p.ID, Protocol: "upay", App: "1", Uses: 3, Expires: then.Add(time.Hour), CreatedAt: then,
		Sealed: []byte{0, 9}}
	wantNone(t, s.AddCode(ctx, code, hash))
	free := terminal.Code{ID: block(t, s), Merchant: m.ID, Store: p.ID, Protocol: "upay", CreatedAt: then, Sealed: []byte{1}}
	wantError(t, "a code that is there", s.AddCode(ctx, free, hash), terminal.ErrNumber)
	wantNone(t, s.AddCode(ctx, free, hash[1:]))
	lost := code
	lost.ID, lost.Store = block(t, s), 999_999
	wantField(t, s.AddCode(ctx, lost, hash[2:]), "store")
	got, err := s.FindCode(ctx, hash)
	wantNone(t, err)
	equal(t, "code", got, code)
	_, err = s.FindCode(ctx, hash[3:])
	wantError(t, "a code that is not there", err, payment.ErrNotFound)

	// Ten at once: three get a terminal, and the others leave none behind.
	use := func(c terminal.Code, number string, at time.Time) error {
		n := newIdentity(t, s, m.ID, p.ID, "upay", number)
		n.Code, n.CreatedAt = c.ID, at
		return s.AddIdentity(ctx, n)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for i := range 10 {
		wg.Go(func() {
			err := use(code, fmt.Sprint(i), then)
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won++
			} else if !errors.Is(err, terminal.ErrCode) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won != 3 {
		t.Errorf("a code for 3 was used %d times", won)
	}
	list, err := s.Identities(ctx, m.ID, terminal.Filter{})
	wantNone(t, err)
	equal(t, "identities", len(list), 3)
	for i := range 5 {
		wantNone(t, use(free, fmt.Sprint("free", i), then))
	}
	code.Used, free.Used = 3, 5
	codes, err := s.Codes(ctx, m.ID, 0, 10)
	wantNone(t, err)
	equal(t, "codes", codes, []terminal.Code{code, free})
	codes, err = s.Codes(ctx, m.ID, code.ID, 10)
	wantNone(t, err)
	equal(t, "codes after the first", codes, []terminal.Code{free})

	wantNone(t, s.EndCode(ctx, m.ID, free.ID, then.Add(time.Minute)))
	wantNone(t, use(free, "in-time", then.Add(time.Minute-1)))
	wantError(t, "a code that has ended", use(free, "late", then.Add(time.Minute)), terminal.ErrCode)
	wantError(t, "end of another merchant's code", s.EndCode(ctx, m.ID+1, free.ID, then), payment.ErrNotFound)
	// A client number that is taken uses nothing up.
	spare := terminal.Code{ID: block(t, s), Merchant: m.ID, Store: p.ID, Protocol: "upay", Uses: 1, CreatedAt: then, Sealed: []byte{1}}
	wantNone(t, s.AddCode(ctx, spare, hash[4:]))
	wantError(t, "a taken number", use(spare, "in-time", then), terminal.ErrNumber)
	wantNone(t, use(spare, "spare", then))
}

func testRotate(t *testing.T, open func() Store) {
	s := open()
	ctx := t.Context()
	e := register(t, s, "upay", "1")
	key := func(n int) terminal.SealedKey {
		return terminal.SealedKey{Sealed: []byte{byte(n)}, IssuedAt: then.Add(time.Duration(n) * time.Hour)}
	}
	i := e.Identity
	i.Device.OS, i.Device.SDK, i.Device.Name = "Android 15", "3", "Bar"
	for n := 1; n <= 3; n++ {
		wantNone(t, s.RotateKey(ctx, i, key(n)))
		i.Device = terminal.Device{} // It tells nothing any more.
	}
	i.Device = terminal.Device{OS: "Android 15", SDK: "3", Name: "Bar"}
	got := find(t, s, "upay", "1")
	equal(t, "keys", got.Sealed, []terminal.SealedKey{key(3), key(2)})
	i.CheckedIn = key(3).IssuedAt
	equal(t, "identity", got.Identity, i)

	// Of many at once, two that were handed out are the valid ones.
	var wg sync.WaitGroup
	for n := 10; n < 20; n++ {
		wg.Go(func() { wantNone(t, s.RotateKey(ctx, i, key(n))) })
	}
	wg.Wait()
	sealed := find(t, s, "upay", "1").Sealed
	if len(sealed) != 2 || sealed[0].Sealed[0] < 10 || sealed[1].Sealed[0] < 10 || sealed[0].Sealed[0] == sealed[1].Sealed[0] {
		t.Errorf("got keys %v, want two of the new ones", sealed)
	}
	i.ID++
	wantError(t, "key of nobody", s.RotateKey(ctx, i, key(1)), payment.ErrNotFound)
}

func testPINKeys(t *testing.T, open func() Store) {
	s := open()
	ctx := t.Context()
	e := register(t, s, "uqpay", "10000000")
	var all []terminal.PINKey
	add := func(now time.Time, expires time.Time) {
		t.Helper()
		k := terminal.PINKey{Sealed: []byte{byte(len(all)), 255}, Expires: expires}
		wantNone(t, s.AddPINKey(ctx, e.Identity, k, now, 3))
		all = append([]terminal.PINKey{k}, all...)
	}
	living := func(now time.Time) []terminal.PINKey {
		t.Helper()
		keys, err := s.PINKeys(ctx, e.Merchant, e.ID, now)
		wantNone(t, err)
		return keys
	}
	equal(t, "PIN keys of none", living(then), nil)
	add(then, then.Add(2*time.Hour))
	add(then, then.Add(time.Hour))
	equal(t, "PIN keys", living(then), all)
	equal(t, "PIN keys when one has expired", living(then.Add(time.Hour)), all[1:])
	for range 3 {
		add(then, then.Add(3*time.Hour))
	}
	equal(t, "PIN keys that are kept", living(then), all[:3])
	add(then.Add(3*time.Hour), then.Add(4*time.Hour))
	equal(t, "PIN keys that are kept when the rest has expired", living(then), all[:1])
	keys, err := s.PINKeys(ctx, e.Merchant+1, e.ID, then)
	wantNone(t, err)
	equal(t, "another merchant's PIN keys", keys, nil)
}

func testNumbers(t *testing.T, open func() Store) {
	s := open()
	ctx := t.Context()
	const many = 20
	numbers := make([]int64, many)
	var wg sync.WaitGroup
	for i := range many {
		wg.Go(func() {
			n, err := s.NextNumber(ctx, "uqpay", 10_000_000)
			wantNone(t, err)
			numbers[i] = n
		})
	}
	wg.Wait()
	slices.Sort(numbers)
	for i, n := range numbers {
		if n != 10_000_000+int64(i) {
			t.Fatalf("got numbers %v, want them from 10000000 without gaps", numbers)
		}
	}
	n, err := s.NextNumber(ctx, "other", 5)
	if err != nil || n != 5 {
		t.Errorf("got %d, %v, want 5", n, err)
	}
}

func testVendors(t *testing.T, open func() Store) {
	s := open()
	ctx := t.Context()
	m, _, _ := shop(t, s)
	v := terminal.VendorRow{Number: "91800129", Name: "Kassen AG", Sealed: []byte{0, 255}, Apps: []string{"1", "2"}}
	w := terminal.VendorRow{Number: "91800130", Name: "None", Sealed: []byte{1}}
	wantNone(t, s.SetVendor(ctx, v))
	wantNone(t, s.SetVendor(ctx, w))
	v.Name, v.Apps = "Kassen SE", []string{"3"}
	wantNone(t, s.SetVendor(ctx, v))
	got, err := s.FindVendor(ctx, v.Number)
	wantNone(t, err)
	equal(t, "vendor", got, v)
	_, err = s.FindVendor(ctx, "1")
	wantError(t, "a vendor that is not there", err, payment.ErrNotFound)
	list, err := s.Vendors(ctx, "", 10)
	wantNone(t, err)
	equal(t, "vendors", list, []terminal.VendorRow{v, w})
	list, err = s.Vendors(ctx, v.Number, 10)
	wantNone(t, err)
	equal(t, "vendors after the first", list, []terminal.VendorRow{w})
	wantField(t, s.SetVendor(ctx, terminal.VendorRow{Number: "1", Name: "n", Apps: []string{"a,b"}}), "apps")
	wantField(t, s.SetVendor(ctx, terminal.VendorRow{Number: "", Name: "n"}), "number")

	settings, err := s.Settings(ctx, m.ID, "upay")
	if err != nil || settings != nil {
		t.Errorf("got settings %s, %v, want none", settings, err)
	}
	for _, text := range []string{`{"a":1}`, `{"a":"é"}`} {
		wantNone(t, s.SetSettings(ctx, m.ID, "upay", []byte(text)))
		settings, err = s.Settings(ctx, m.ID, "upay")
		wantNone(t, err)
		equal(t, "settings", string(settings), text)
	}
	settings, err = s.Settings(ctx, m.ID, "uqpay")
	if err != nil || settings != nil {
		t.Errorf("got settings %s, %v of another protocol, want none", settings, err)
	}
	wantError(t, "settings of nobody", s.SetSettings(ctx, 999_999, "upay", []byte(`{}`)), payment.ErrNotFound)
}

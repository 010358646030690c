package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/tillgate/tillgate/payment"
)

func newMerchant() payment.Merchant {
	return payment.Merchant{PublicID: "10002000", CompanyName: "Fern & Partner Pty Ltd", Name: "Café Fern 蕨", Currencies: []string{"AUD", "NZD"},
		Methods: map[string]payment.Method{"alipay": {Acquirer: "wallet", Rate: payment.Rate{Millionths: 14_000, Fixed: 10}}}}
}

func newPlace() payment.Place {
	return payment.Place{PublicID: "fern-1", Name: "Lygon Street", Calendar: payment.Calendar{Zone: "Australia/Melbourne", CutOff: 3 * time.Hour}}
}

// shop stores a merchant with a store and a terminal.
func shop(t *testing.T, s Store) (payment.Merchant, payment.Place, payment.Terminal) {
	t.Helper()
	m, err := s.AddMerchant(t.Context(), newMerchant())
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.AddStore(t.Context(), m.ID, newPlace())
	if err != nil {
		t.Fatal(err)
	}
	d, err := s.AddTerminal(t.Context(), m.ID, payment.Terminal{PublicID: "TID00001", Store: p.ID, Name: "Counter"})
	if err != nil {
		t.Fatal(err)
	}
	return m, p, d
}

func caller(t *testing.T, s Store, protocol string, hash []byte) payment.Caller {
	t.Helper()
	var c payment.Caller
	err := s.Read(t.Context(), func(r payment.Reader) (err error) {
		c, err = r.Caller(protocol, hash)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func testCaller(t *testing.T, open func() Store) {
	s := open()
	ctx := t.Context()
	m, p, d := shop(t, s)
	profile := payment.Profile{RefundPolicy: "same_day", AllowedIPs: "10.0.0.0/8, 192.0.2.1"}
	bare, terminal := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	c, err := s.AddCredential(ctx, payment.Credential{Protocol: "upp", Merchant: m.ID, Name: "back end"}, bare)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "caller without store", caller(t, s, "upp", bare), payment.Caller{Credential: c, Merchant: m})

	c, err = s.AddCredential(ctx, payment.Credential{Protocol: "upay", Merchant: m.ID, Terminal: d.ID, Name: "till", Profile: profile}, terminal)
	if err != nil {
		t.Fatal(err)
	}
	if c.Store != p.ID || c.ID == 0 {
		t.Errorf("got credential %+v, want an ID and the terminal's store %d", c, p.ID)
	}
	want := payment.Caller{Credential: c, Merchant: m, Store: p, Terminal: d}
	equal(t, "caller", caller(t, s, "upay", terminal), want)
	err = s.Read(ctx, func(r payment.Reader) error { _, err := r.Caller("upp", terminal); return err })
	wantError(t, "the secret of another protocol", err, payment.ErrNotFound)

	// What is disabled is found, and says so.
	for _, disabled := range []bool{true, false} {
		err := errors.Join(s.SetMerchantDisabled(ctx, m.ID, disabled), s.SetStoreDisabled(ctx, m.ID, p.ID, disabled),
			s.SetTerminalDisabled(ctx, m.ID, d.ID, disabled), s.SetCredentialDisabled(ctx, m.ID, c.ID, disabled))
		if err != nil {
			t.Fatal(err)
		}
		want.Merchant.Disabled, want.Store.Disabled, want.Terminal.Disabled, want.Credential.Disabled = disabled, disabled, disabled, disabled
		equal(t, fmt.Sprintf("caller, disabled %t", disabled), caller(t, s, "upay", terminal), want)
	}
	wantError(t, "a merchant that is not there", s.SetMerchantDisabled(ctx, 999_999, true), payment.ErrNotFound)
	wantError(t, "another merchant's terminal", s.SetTerminalDisabled(ctx, 999_999, d.ID, true), payment.ErrNotFound)

	// Methods come and go.
	changed := payment.Method{Acquirer: "cards", Rate: payment.Rate{Millionths: 9_000}}
	err = errors.Join(s.SetMethod(ctx, m.ID, "alipay", changed), s.SetMethod(ctx, m.ID, "visa", changed))
	if err != nil {
		t.Fatal(err)
	}
	want.Merchant.Methods = map[string]payment.Method{"alipay": changed, "visa": changed}
	equal(t, "caller with other methods", caller(t, s, "upay", terminal), want)
	if err := s.RemoveMethod(ctx, m.ID, "alipay"); err != nil {
		t.Fatal(err)
	}
	delete(want.Merchant.Methods, "alipay")
	equal(t, "caller without a method", caller(t, s, "upay", terminal), want)
	wantError(t, "a method that is not there", s.RemoveMethod(ctx, m.ID, "alipay"), payment.ErrNotFound)
	wantError(t, "a method of nobody", s.SetMethod(ctx, 999_999, "visa", changed), payment.ErrNotFound)

	found, err := s.FindMerchantByPublicID(ctx, m.PublicID)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "merchant by number", found, want.Merchant)
	of, device, err := s.FindTerminalByPublicID(ctx, d.PublicID)
	if err != nil || of != m.ID {
		t.Errorf("terminal: got merchant %d, %v, want %d", of, err, m.ID)
	}
	equal(t, "terminal by TID", device, d)
}

func testUnique(t *testing.T, open func() Store) {
	s := open()
	ctx := t.Context()
	m, p, d := shop(t, s)
	hash := bytes.Repeat([]byte{7}, 32)
	if _, err := s.AddCredential(ctx, payment.Credential{Protocol: "upp", Merchant: m.ID, Name: "a"}, hash); err != nil {
		t.Fatal(err)
	}
	other := newMerchant()
	other.PublicID = "10002001"
	other, err := s.AddMerchant(ctx, other)
	if err != nil {
		t.Fatal(err)
	}
	elsewhere, err := s.AddStore(ctx, other.ID, newPlace()) // Store numbers are unique within a merchant only.
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.AddMerchant(ctx, newMerchant())
	wantField(t, err, "public_id")
	_, err = s.AddStore(ctx, m.ID, newPlace())
	wantField(t, err, "public_id")
	_, err = s.AddTerminal(ctx, other.ID, payment.Terminal{PublicID: d.PublicID, Store: elsewhere.ID, Name: "b"})
	wantField(t, err, "public_id")
	_, err = s.AddCredential(ctx, payment.Credential{Protocol: "upp", Merchant: other.ID, Name: "b"}, hash)
	wantField(t, err, "secret")
	_, err = s.AddTerminal(ctx, other.ID, payment.Terminal{PublicID: "TID00002", Store: p.ID, Name: "in another merchant's store"})
	wantField(t, err, "store")
	_, err = s.AddCredential(ctx, payment.Credential{Protocol: "upp", Merchant: other.ID, Terminal: d.ID, Name: "c"}, bytes.Repeat([]byte{8}, 32))
	wantField(t, err, "terminal")
	_, err = s.AddCredential(ctx, payment.Credential{Protocol: "upp", Merchant: m.ID, Terminal: d.ID, Store: elsewhere.ID, Name: "c"},
		bytes.Repeat([]byte{8}, 32))
	wantField(t, err, "store")
}

func wantField(t *testing.T, err error, field string) {
	t.Helper()
	var e *payment.FieldError
	if !errors.As(err, &e) || e.Field != field {
		t.Errorf("got error %v, want one of field %s", err, field)
	}
}

func testFields(t *testing.T, open func() Store) {
	s := open()
	ctx := t.Context()
	m, _, _ := shop(t, s)
	merchants := map[string]func(*payment.Merchant){
		"public_id":    func(m *payment.Merchant) { m.PublicID = "12a" },
		"company_name": func(m *payment.Merchant) { m.CompanyName = "" },
		"name":         func(m *payment.Merchant) { m.Name = strings.Repeat("x", 201) },
		"currencies":   func(m *payment.Merchant) { m.Currencies = []string{"aud"} },
		"rate": func(m *payment.Merchant) {
			m.Methods["visa"] = payment.Method{Acquirer: "cards", Rate: payment.Rate{Fixed: -1}}
		},
		"acquirer": func(m *payment.Merchant) { m.Methods["visa"] = payment.Method{} },
	}
	for field, spoil := range merchants {
		bad := newMerchant()
		bad.PublicID = "777"
		spoil(&bad)
		_, err := s.AddMerchant(ctx, bad)
		wantField(t, err, field)
	}
	places := map[string][]func(*payment.Place){
		"public_id": {func(p *payment.Place) { p.PublicID = "a b" }},
		"name":      {func(p *payment.Place) { p.Name = "a\nb" }},
		"zone": {func(p *payment.Place) { p.Calendar.Zone = "Melbourne" }, func(p *payment.Place) { p.Calendar.Zone = "" },
			func(p *payment.Place) { p.Calendar.Zone = "Local" }},
		"cut_off": {func(p *payment.Place) { p.Calendar.CutOff = 24 * time.Hour }, func(p *payment.Place) { p.Calendar.CutOff = -time.Hour }},
	}
	for field, spoils := range places {
		for _, spoil := range spoils {
			bad := newPlace()
			bad.PublicID = "777"
			spoil(&bad)
			_, err := s.AddStore(ctx, m.ID, bad)
			wantField(t, err, field)
		}
	}
	_, err := s.AddStore(ctx, 999_999, newPlace())
	wantError(t, "store of nobody", err, payment.ErrNotFound)
	_, err = s.AddTerminal(ctx, m.ID, payment.Terminal{PublicID: "T", Name: "t"})
	wantField(t, err, "store")
	_, err = s.AddCredential(ctx, payment.Credential{Protocol: "upp", Merchant: m.ID, Name: "c"}, []byte("short"))
	wantField(t, err, "secret")
	_, err = s.AddCredential(ctx, payment.Credential{Protocol: "upp", Merchant: m.ID, Name: "c", Profile: payment.Profile{AllowedIPs: "home"}},
		make([]byte, 32))
	wantField(t, err, "allowed_ips")
	wantField(t, s.SetMethod(ctx, m.ID, "", payment.Method{Acquirer: "cards"}), "method")
}

func testLists(t *testing.T, open func() Store) {
	s := open()
	ctx := t.Context()
	first, p, d := shop(t, s)
	second := newMerchant()
	second.PublicID, second.Methods = "10002001", map[string]payment.Method{}
	second, err := s.AddMerchant(ctx, second)
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.AddCredential(ctx, payment.Credential{Protocol: "upp", Merchant: first.ID, Store: p.ID, Name: "a"}, bytes.Repeat([]byte{9}, 32))
	if err != nil {
		t.Fatal(err)
	}
	merchants, err := s.Merchants(ctx, 0, 10)
	equal(t, "merchants", merchants, []payment.Merchant{first, second})
	wantNone(t, err)
	merchants, err = s.Merchants(ctx, 0, 1)
	equal(t, "one merchant", merchants, []payment.Merchant{first})
	wantNone(t, err)
	merchants, err = s.Merchants(ctx, first.ID, 10)
	equal(t, "merchants after the first", merchants, []payment.Merchant{second})
	wantNone(t, err)
	stores, err := s.Stores(ctx, first.ID, 0, 10)
	equal(t, "stores", stores, []payment.Place{p})
	wantNone(t, err)
	terminals, err := s.Terminals(ctx, first.ID, 0, 10)
	equal(t, "terminals", terminals, []payment.Terminal{d})
	wantNone(t, err)
	terminals, err = s.Terminals(ctx, second.ID, 0, 10)
	equal(t, "terminals of another", len(terminals), 0)
	wantNone(t, err)
	credentials, err := s.Credentials(ctx, first.ID, 0, 10)
	equal(t, "credentials", credentials, []payment.Credential{c})
	wantNone(t, err)
}

func wantNone(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("got error %v, want none", err)
	}
}

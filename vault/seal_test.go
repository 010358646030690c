package vault

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestSealedValuesOpenOnlyWhereTheyBelong(t *testing.T) {
	each(t, func(t *testing.T, v *Vault) {
		sealed, err := v.Seal("card", []byte("canary"), []byte("row 1"))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := v.Unseal("card", sealed, []byte("row 1")); err != nil || string(got) != "canary" {
			t.Errorf("got %q, %v", got, err)
		}
		for name, tt := range map[string]struct{ purpose, bound string }{
			"other row":               {"card", "row 2"},
			"other purpose":           {"token", "row 1"},
			"no row":                  {"card", ""},
			"purpose into row":        {"car", "drow 1"},
			"row into purpose":        {"cardrow", " 1"},
			"everything in a purpose": {"cardrow 1", ""},
		} {
			got, err := v.Unseal(tt.purpose, sealed, []byte(tt.bound))
			if !errors.Is(err, ErrSealed) || got != nil || strings.Contains(err.Error(), "canary") {
				t.Errorf("%s: got %q, %v", name, got, err)
			}
		}
		// What was sealed as data is no key, and a key is no data.
		if _, err := v.MessageMAC(SealedKey{append([]byte{byte(UsageZoneMAC), byte(RetailMAC)}, sealed...), []byte("row 1")}, nil); !errors.Is(err, ErrSealed) {
			t.Errorf("data as key: got %v", err)
		}
	})
}

func TestRewrap(t *testing.T) {
	each(t, func(t *testing.T, v *Vault) {
		value, err := v.Seal("card", []byte("x"), []byte("row"))
		if err != nil {
			t.Fatal(err)
		}
		key, _, err := v.IssuePINKey(make([]byte, 32), []byte("terminal"))
		if err != nil {
			t.Fatal(err)
		}
		before, err := v.KCV(SealedKey{key, []byte("terminal")})
		if err != nil {
			t.Fatal(err)
		}
		if same, changed, err := v.Rewrap("card", value, []byte("row")); err != nil || changed || !bytes.Equal(same, value) {
			t.Errorf("before rotation: changed %v, %v", changed, err)
		}
		if err := v.Rotate(); err != nil {
			t.Fatal(err)
		}
		if _, _, err := v.Rewrap("card", value, []byte("other")); !errors.Is(err, ErrSealed) {
			t.Errorf("other row: got %v", err)
		}
		freshValue, changed, err := v.Rewrap("card", value, []byte("row"))
		if err != nil || !changed || bytes.Equal(freshValue, value) {
			t.Errorf("value: changed %v, %v", changed, err)
		}
		freshKey, changed, err := v.RewrapKey(SealedKey{key, []byte("terminal")})
		if err != nil || !changed || bytes.Equal(freshKey, key) {
			t.Errorf("key: changed %v, %v", changed, err)
		}
		for _, sealed := range [][]byte{value, freshValue} {
			if got, err := v.Unseal("card", sealed, []byte("row")); err != nil || string(got) != "x" {
				t.Errorf("got %q, %v", got, err)
			}
		}
		if after, err := v.KCV(SealedKey{freshKey, []byte("terminal")}); err != nil || after != before {
			t.Errorf("key became another: %x, %x, %v", before, after, err)
		}
		if again, changed, err := v.RewrapKey(SealedKey{freshKey, []byte("terminal")}); err != nil || changed || !bytes.Equal(again, freshKey) {
			t.Errorf("key once more: changed %v, %v", changed, err)
		}
		if _, _, err := v.RewrapKey(SealedKey{key[:1], nil}); !errors.Is(err, ErrSealed) {
			t.Errorf("no key: got %v", err)
		}
	})
}

package terminal

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/tillgate/tillgate/payment"
)

// AddVendor stores a vendor, or changes the one of the same number.
func (r *Registry) AddVendor(ctx context.Context, v Vendor) error {
	if v.Number == "" || checkNumber(v.Number) != nil {
		return &payment.FieldError{Field: "number", Problem: fmt.Sprintf("%q: want 1 to %d ASCII characters without spaces", v.Number, numberMax)}
	}
	if v.Key.Reveal() == "" {
		return &payment.FieldError{Field: "key", Problem: "is empty"}
	}
	if !printable(v.Name) {
		return &payment.FieldError{Field: "name", Problem: fmt.Sprintf("want at most %d printable characters", fieldMax)}
	}
	for _, app := range v.Apps {
		if app == "" || checkNumber(app) != nil {
			return &payment.FieldError{Field: "apps", Problem: fmt.Sprintf("%q: want 1 to %d ASCII characters without spaces", app, numberMax)}
		}
	}
	sealed, err := r.cfg.Vault.Seal(purposeVendor, []byte(v.Key.Reveal()), []byte(v.Number))
	if err != nil {
		return fmt.Errorf("key of vendor %s: %w", v.Number, err)
	}
	return r.cfg.Store.SetVendor(ctx, VendorRow{Number: v.Number, Name: v.Name, Sealed: sealed, Apps: v.Apps})
}

// Vendor finds a vendor with its key, or fails with payment.ErrNotFound.
func (r *Registry) Vendor(ctx context.Context, number string) (Vendor, error) {
	row, err := r.cfg.Store.FindVendor(ctx, number)
	if err != nil {
		return Vendor{}, err
	}
	return r.openVendor(row)
}

// Vendors lists vendors in the order of their numbers, those after the given one, 1000 at most.
func (r *Registry) Vendors(ctx context.Context, after string, limit int) ([]Vendor, error) {
	rows, err := r.cfg.Store.Vendors(ctx, after, limit)
	var vendors []Vendor
	for _, row := range rows {
		v, err := r.openVendor(row)
		if err != nil {
			return nil, err
		}
		vendors = append(vendors, v)
	}
	return vendors, err
}

func (r *Registry) openVendor(row VendorRow) (Vendor, error) {
	key, err := r.cfg.Vault.Unseal(purposeVendor, row.Sealed, []byte(row.Number))
	if err != nil {
		return Vendor{}, fmt.Errorf("key of vendor %s: %w", row.Number, err)
	}
	return Vendor{Number: row.Number, Name: row.Name, Key: NewSecret(string(key)), Apps: row.Apps}, nil
}

// Has reports whether an application is the vendor's.
func (v *Vendor) Has(app string) bool { return slices.Contains(v.Apps, app) }

// Settings reads a merchant's settings for a protocol into a struct, whose fields keep their values where nothing is set. They are
// remembered for two seconds at most.
func (r *Registry) Settings(ctx context.Context, merchant payment.MerchantID, protocol string, into any) error {
	now := r.cfg.Now()
	settings, seen, ok := r.settings.get(settingsOf{merchant, protocol}, now)
	if !ok {
		var err error
		if settings, err = r.cfg.Store.Settings(ctx, merchant, protocol); err != nil {
			return fmt.Errorf("settings of merchant %d for %s: %w", merchant, protocol, err)
		}
		r.settings.put(settingsOf{merchant, protocol}, settings, now.Add(cacheLife), seen)
	}
	if settings == nil {
		return nil
	}
	if err := json.Unmarshal(settings, into); err != nil {
		return fmt.Errorf("settings of merchant %d for %s: %w", merchant, protocol, err)
	}
	return nil
}

// SetSettings stores a merchant's settings for a protocol, in place of those before.
func (r *Registry) SetSettings(ctx context.Context, merchant payment.MerchantID, protocol string, settings any) error {
	text, err := json.Marshal(settings)
	if err != nil {
		return fmt.Errorf("settings of merchant %d for %s: %w", merchant, protocol, err)
	}
	defer r.settings.drop(settingsOf{merchant, protocol})
	return r.cfg.Store.SetSettings(ctx, merchant, protocol, text)
}

package sqlstore

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/terminal"
)

// The registry of terminals. Its rules are in package terminal; what must hold between rows is held here, in one transaction each.

var _ terminal.Store = (*Store)(nil)

// More kinds of the directory.
const (
	kindIdentity = "identity" // protocol:number.
	kindDevice   = "device"
	kindClient   = "client"
	kindCode     = "code" // A hash, in hexadecimal.
)

// identityName is how the directory knows an identity.
func identityName(protocol, number string) string { return protocol + ":" + number }

const identityColumns = `identities.merchant_id, identities.id, identities.terminal_id, identities.protocol, identities.number, identities.vendor,
identities.maker, identities.serial, identities.model, identities.device_id, identities.client_number, identities.name, identities.os,
identities.sdk, identities.app, identities.disabled, identities.created_at, identities.key_at`

func (r *row) identity() terminal.Identity {
	i := terminal.Identity{Merchant: r.merchantID(), ID: r.id(), Terminal: r.id(), Protocol: r.text(), Number: r.text(), Vendor: r.text()}
	i.Device = terminal.Device{Maker: r.text(), Serial: r.text(), Model: r.text(), DeviceID: r.text(), ClientNumber: r.text(), Name: r.text(),
		OS: r.text(), SDK: r.text(), App: r.text()}
	i.Disabled, i.CreatedAt, i.CheckedIn = r.flag(), r.time(), r.time()
	return i
}

// sealedKey adds a key to those of an entry, unless there is none.
func (r *row) sealedKey(keys []terminal.SealedKey) ([]terminal.SealedKey, error) {
	sealed, err := hexBytes(r.text())
	key := terminal.SealedKey{Sealed: sealed, IssuedAt: r.time()}
	if sealed == nil {
		return keys, err
	}
	return append(keys, key), err
}

const selectEntry = `-- every merchant
SELECT ` + identityColumns + `, identities.key, identities.key_at, identities.last_key, identities.last_key_at, ` + merchantColumns + `, ` +
	storeColumns + `, ` + terminalColumns + `
FROM directory
JOIN identities ON identities.merchant_id = directory.merchant_id AND identities.id = directory.ref
JOIN merchants ON merchants.id = directory.merchant_id
JOIN terminals ON terminals.merchant_id = directory.merchant_id AND terminals.id = identities.terminal_id
JOIN stores ON stores.merchant_id = directory.merchant_id AND stores.id = terminals.store_id
WHERE directory.kind = $1 AND directory.id = $2`

// entry finds an identity with whom it stands for, as Caller does for a credential.
func (r *reader) entry(kind, id string) (terminal.Entry, error) {
	var e terminal.Entry
	err := r.one(func(r *row) error {
		e = terminal.Entry{Identity: r.identity()}
		var err, lastErr error
		e.Sealed, err = r.sealedKey(nil)
		e.Sealed, lastErr = r.sealedKey(e.Sealed)
		c := &e.Caller
		c.Merchant, c.Store, c.Terminal = r.merchant(), r.place(), r.terminal()
		c.Credential = payment.Credential{ID: e.ID, Protocol: e.Protocol, Merchant: e.Merchant, Store: c.Store.ID, Terminal: c.Terminal.ID,
			Name: e.Number, Disabled: e.Disabled}
		return errors.Join(err, lastErr)
	}, selectEntry, kind, id)
	if err == nil {
		err = r.methods(&e.Caller.Merchant)
	}
	return e, err
}

func (s *Store) findEntry(ctx context.Context, kind, id string) (terminal.Entry, error) {
	var e terminal.Entry
	err := s.read(ctx, func(r *reader) (err error) {
		e, err = r.entry(kind, id)
		return err
	})
	return e, err
}

// FindIdentity finds an identity by its protocol and number, with whom it stands for.
func (s *Store) FindIdentity(ctx context.Context, protocol, number string) (terminal.Entry, error) {
	return s.findEntry(ctx, kindIdentity, identityName(protocol, number))
}

// FindDevice finds the identity of a device by the name that it was registered under.
func (s *Store) FindDevice(ctx context.Context, name string) (terminal.Entry, error) {
	return s.findEntry(ctx, kindDevice, name)
}

// The first number is handed out with the row, and the row has the next one.
const upsertNumber = `-- every merchant
INSERT INTO terminal_numbers (protocol, next) VALUES ($1, $2 + 1)
ON CONFLICT (protocol) DO UPDATE SET next = terminal_numbers.next + 1 RETURNING next`

// NextNumber hands out the next of a protocol's numbers, which count from first.
func (s *Store) NextNumber(ctx context.Context, protocol string, first int64) (int64, error) {
	var next int64
	err := s.write(ctx, func(t *txn) error {
		return t.one(func(r *row) error {
			next = r.int()
			return nil
		}, upsertNumber, protocol, first)
	})
	return next - 1, wrap(err, "next number of %s", protocol)
}

var insertIdentity = `INSERT INTO identities (merchant_id, id, terminal_id, protocol, number, vendor, maker, serial, model, device_id, client_number,
name, os, sdk, app, disabled, created_at, key_at, key, last_key, last_key_at) VALUES (` + params(19) + `, '', 0)`

// AddIdentity stores an identity, with its terminal if that is new, and uses the code up once, all or nothing.
func (s *Store) AddIdentity(ctx context.Context, n terminal.NewIdentity) error {
	if err := errors.Join(checkPublicID("protocol", n.Protocol), checkPublicID("number", n.Number)); err != nil {
		return err
	}
	return s.write(ctx, func(t *txn) error {
		if n.Code != 0 {
			if err := t.useCode(n); err != nil {
				return err
			}
		}
		if err := t.placeIdentity(n); err != nil {
			return err
		}
		if err := t.publishIdentity(n); err != nil {
			return err
		}
		d, key := n.Device, terminal.SealedKey{}
		if n.Key != nil {
			key = *n.Key
		}
		_, err := t.exec(insertIdentity, int64(n.Merchant), int64(n.ID), int64(n.Terminal), n.Protocol, n.Number, n.Vendor, d.Maker, d.Serial,
			d.Model, d.DeviceID, d.ClientNumber, d.Name, d.OS, d.SDK, d.App, bit(n.Disabled), millis(n.CreatedAt), millis(key.IssuedAt),
			hex.EncodeToString(key.Sealed))
		return wrap(err, "add identity %s of merchant %d", n.Number, n.Merchant)
	})
}

const useCode = `UPDATE activation_codes SET used = used + 1
WHERE merchant_id = $1 AND id = $2 AND (uses = 0 OR used < uses) AND (expires_at = 0 OR expires_at > $3)`

// useCode uses a code up once. One that was usable a moment ago and is no longer was used by somebody else, or ended.
func (t *txn) useCode(n terminal.NewIdentity) error {
	rows, err := t.exec(useCode, int64(n.Merchant), int64(n.Code), millis(n.CreatedAt))
	if err == nil && rows == 0 {
		err = &terminal.CodeError{Reason: terminal.CodeUsedUp}
	}
	return err
}

// placeIdentity makes sure of the terminal, or makes it.
func (t *txn) placeIdentity(n terminal.NewIdentity) error {
	if n.Store == 0 {
		_, err := t.findTerminal(n.Merchant, n.Terminal)
		return wrap(err, "terminal %d of merchant %d", n.Terminal, n.Merchant)
	}
	if err := t.hasStore(n.Merchant, n.Store); err != nil {
		return err
	}
	_, err := t.exec(insertTerminal, int64(n.Merchant), int64(n.Terminal), n.Number, int64(n.Store), terminalName(n), bit(false))
	return err
}

// terminalName is what people call a terminal that has told of itself.
func terminalName(n terminal.NewIdentity) string {
	if n.Device.Name != "" {
		return n.Device.Name
	}
	return strings.TrimSpace(n.Device.Model + " " + n.Number)
}

// publishIdentity lets an identity be found by its names.
func (t *txn) publishIdentity(n terminal.NewIdentity) error {
	for _, name := range []struct {
		kind, id string
		taken    error // Nil lets the name stay another's.
	}{
		{kindIdentity, identityName(n.Protocol, n.Number), terminal.ErrNumber},
		{kindDevice, n.DeviceName, map[bool]error{true: terminal.ErrTaken}[n.OneDevice]},
		{kindClient, n.ClientName, terminal.ErrClientNumber},
	} {
		if name.id == "" {
			continue
		}
		rows, err := t.exec(insertDirectory, name.kind, name.id, int64(n.Merchant), int64(n.ID))
		if err != nil {
			return err
		}
		if rows == 0 && name.taken != nil {
			return name.taken
		}
	}
	return nil
}

const selectIdentities = `SELECT ` + identityColumns + ` FROM identities
WHERE merchant_id = $1 AND ($2 = 0 OR terminal_id = $2) AND ($3 = '' OR protocol = $3) AND id > $4 ORDER BY id LIMIT $5`

// Identities lists a merchant's identities in the order of their IDs.
func (s *Store) Identities(ctx context.Context, merchant payment.MerchantID, f terminal.Filter) ([]terminal.Identity, error) {
	limit := listMax
	if f.Limit > 0 {
		limit = min(f.Limit, listMax)
	}
	var list []terminal.Identity
	err := s.read(ctx, func(r *reader) error {
		list = nil
		return r.query(func(r *row) error {
			list = append(list, r.identity())
			return nil
		}, selectIdentities, int64(merchant), int64(f.Terminal), f.Protocol, int64(f.After), int64(limit))
	})
	return list, wrap(err, "identities of merchant %d", merchant)
}

const disableIdentity = `UPDATE identities SET disabled = $3 WHERE merchant_id = $1 AND id = $2`

// SetIdentityDisabled disables an identity, or enables it again.
func (s *Store) SetIdentityDisabled(ctx context.Context, merchant payment.MerchantID, id payment.ID, disabled bool) error {
	return wrap(s.update(ctx, disableIdentity, int64(merchant), int64(id), bit(disabled)), "identity %d of merchant %d", id, merchant)
}

// What is read on the right is the row as it was: of two that come at once, the second moves the first's key to the last.
const rotateKey = `UPDATE identities SET last_key = key, last_key_at = key_at, key = $3, key_at = $4,
os = CASE WHEN $5 = '' THEN os ELSE $5 END, sdk = CASE WHEN $6 = '' THEN sdk ELSE $6 END, name = CASE WHEN $7 = '' THEN name ELSE $7 END
WHERE merchant_id = $1 AND id = $2`

// RotateKey makes key the current one and the current one the last.
func (s *Store) RotateKey(ctx context.Context, i terminal.Identity, key terminal.SealedKey) error {
	return wrap(s.update(ctx, rotateKey, int64(i.Merchant), int64(i.ID), hex.EncodeToString(key.Sealed), millis(key.IssuedAt), i.Device.OS,
		i.Device.SDK, i.Device.Name), "rotate key of identity %d of merchant %d", i.ID, i.Merchant)
}

// PIN keys.

const (
	insertPINKey  = `INSERT INTO pin_keys (merchant_id, identity_id, id, sealed, expires_at) VALUES ($1, $2, $3, $4, $5)`
	deletePINKeys = `DELETE FROM pin_keys WHERE merchant_id = $1 AND identity_id = $2 AND (expires_at <= $3 OR id NOT IN
(SELECT id FROM pin_keys WHERE merchant_id = $1 AND identity_id = $2 ORDER BY id DESC LIMIT $4))`
	selectPINKeys = `SELECT sealed, expires_at FROM pin_keys WHERE merchant_id = $1 AND identity_id = $2 AND expires_at > $3 ORDER BY id DESC`
)

// AddPINKey stores a sealed PIN key, and forgets those that have expired and all but the newest.
func (s *Store) AddPINKey(ctx context.Context, i terminal.Identity, key terminal.PINKey, now time.Time, keep int) error {
	return wrap(s.write(ctx, func(t *txn) error {
		id, err := t.block(1)
		if err != nil {
			return err
		}
		_, err = t.exec(insertPINKey, int64(i.Merchant), int64(i.ID), int64(id), hex.EncodeToString(key.Sealed), millis(key.Expires))
		if err != nil {
			return err
		}
		_, err = t.exec(deletePINKeys, int64(i.Merchant), int64(i.ID), millis(now), int64(keep))
		return err
	}), "add PIN key of identity %d of merchant %d", i.ID, i.Merchant)
}

// PINKeys lists the PIN keys of an identity that live at now, the newest first.
func (s *Store) PINKeys(ctx context.Context, merchant payment.MerchantID, identity payment.ID, now time.Time) ([]terminal.PINKey, error) {
	var keys []terminal.PINKey
	err := s.read(ctx, func(r *reader) error {
		keys = nil
		return r.query(func(r *row) error {
			sealed, err := hexBytes(r.text())
			keys = append(keys, terminal.PINKey{Sealed: sealed, Expires: r.time()})
			return err
		}, selectPINKeys, int64(merchant), int64(identity), millis(now))
	})
	return keys, wrap(err, "PIN keys of identity %d of merchant %d", identity, merchant)
}

// Activation codes.

const codeColumns = `activation_codes.merchant_id, activation_codes.id, activation_codes.store_id, activation_codes.protocol, activation_codes.app,
activation_codes.sealed, activation_codes.uses, activation_codes.used, activation_codes.expires_at, activation_codes.created_at`

func (r *row) code() (terminal.Code, error) {
	c := terminal.Code{Merchant: r.merchantID(), ID: r.id(), Store: r.id(), Protocol: r.text(), App: r.text()}
	var err error
	c.Sealed, err = hexBytes(r.text())
	c.Uses, c.Used, c.Expires, c.CreatedAt = int(r.int()), int(r.int()), r.time(), r.time()
	return c, err
}

var (
	insertCode = `INSERT INTO activation_codes (merchant_id, id, store_id, protocol, app, sealed, uses, used, expires_at, created_at)
VALUES (` + params(10) + `)`
	selectCode = `-- every merchant
SELECT ` + codeColumns + ` FROM directory
JOIN activation_codes ON activation_codes.merchant_id = directory.merchant_id AND activation_codes.id = directory.ref
WHERE directory.kind = $1 AND directory.id = $2`
	selectCodes = `SELECT ` + codeColumns + ` FROM activation_codes WHERE merchant_id = $1 AND id > $2 ORDER BY id LIMIT $3`
	endCode     = `UPDATE activation_codes SET expires_at = $3 WHERE merchant_id = $1 AND id = $2`
)

// AddCode stores an activation code under the hash of its text.
func (s *Store) AddCode(ctx context.Context, c terminal.Code, hash []byte) error {
	if err := checkPublicID("protocol", c.Protocol); err != nil {
		return err
	}
	return s.write(ctx, func(t *txn) error {
		if err := t.hasStore(c.Merchant, c.Store); err != nil {
			return err
		}
		rows, err := t.exec(insertDirectory, kindCode, hex.EncodeToString(hash), int64(c.Merchant), int64(c.ID))
		if err == nil && rows == 0 {
			err = terminal.ErrNumber
		}
		if err != nil {
			return err
		}
		_, err = t.exec(insertCode, int64(c.Merchant), int64(c.ID), int64(c.Store), c.Protocol, c.App, hex.EncodeToString(c.Sealed), int64(c.Uses),
			int64(c.Used), millis(c.Expires), millis(c.CreatedAt))
		return wrap(err, "add activation code of merchant %d", c.Merchant)
	})
}

// FindCode finds a code by its hash, whatever has become of it.
func (s *Store) FindCode(ctx context.Context, hash []byte) (terminal.Code, error) {
	var c terminal.Code
	err := s.read(ctx, func(r *reader) error {
		return r.one(func(r *row) (err error) {
			c, err = r.code()
			return err
		}, selectCode, kindCode, hex.EncodeToString(hash))
	})
	return c, wrap(err, "activation code")
}

// Codes lists a merchant's activation codes in the order of their IDs, those after the given one, 1000 at most.
func (s *Store) Codes(ctx context.Context, merchant payment.MerchantID, after payment.ID, limit int) ([]terminal.Code, error) {
	return listWhole(ctx, s, (*row).code, selectCodes, merchant, after, limit)
}

// EndCode lets an activation code expire.
func (s *Store) EndCode(ctx context.Context, merchant payment.MerchantID, id payment.ID, at time.Time) error {
	return wrap(s.update(ctx, endCode, int64(merchant), int64(id), millis(at)), "activation code %d of merchant %d", id, merchant)
}

// Vendors.

const (
	upsertVendor = `-- every merchant
INSERT INTO vendors (number, name, sealed, apps) VALUES ($1, $2, $3, $4)
ON CONFLICT (number) DO UPDATE SET name = excluded.name, sealed = excluded.sealed, apps = excluded.apps`
	selectVendors = `-- every merchant
SELECT number, name, sealed, apps FROM vendors WHERE number > $1 ORDER BY number LIMIT $2`
	selectVendor = `-- every merchant
SELECT number, name, sealed, apps FROM vendors WHERE number = $1`
)

func (r *row) vendor() (terminal.VendorRow, error) {
	v := terminal.VendorRow{Number: r.text(), Name: r.text()}
	var err error
	v.Sealed, err = hexBytes(r.text())
	if apps := r.text(); apps != "" {
		v.Apps = strings.Split(apps, ",")
	}
	return v, err
}

// SetVendor stores a vendor, or changes it.
func (s *Store) SetVendor(ctx context.Context, v terminal.VendorRow) error {
	err := errors.Join(checkPublicID("number", v.Number), checkName("name", v.Name))
	for _, app := range v.Apps {
		err = errors.Join(err, checkPublicID("apps", app))
		if strings.Contains(app, ",") {
			err = errors.Join(err, &payment.FieldError{Field: "apps", Problem: fmt.Sprintf("%q holds a comma", app)})
		}
	}
	if err != nil {
		return err
	}
	return wrap(s.update(ctx, upsertVendor, v.Number, v.Name, hex.EncodeToString(v.Sealed), strings.Join(v.Apps, ",")), "vendor %s", v.Number)
}

// FindVendor finds a vendor by its number.
func (s *Store) FindVendor(ctx context.Context, number string) (terminal.VendorRow, error) {
	var v terminal.VendorRow
	err := s.read(ctx, func(r *reader) error {
		return r.one(func(r *row) (err error) {
			v, err = r.vendor()
			return err
		}, selectVendor, number)
	})
	return v, wrap(err, "vendor %q", number)
}

// Vendors lists vendors in the order of their numbers, those after the given one, 1000 at most.
func (s *Store) Vendors(ctx context.Context, after string, limit int) ([]terminal.VendorRow, error) {
	var list []terminal.VendorRow
	err := s.read(ctx, func(r *reader) error {
		list = nil
		return r.query(func(r *row) error {
			v, err := r.vendor()
			list = append(list, v)
			return err
		}, selectVendors, after, int64(min(limit, listMax)))
	})
	return list, wrap(err, "vendors")
}

// Settings.

const (
	selectSettings = `SELECT value FROM settings WHERE merchant_id = $1 AND protocol = $2`
	upsertSettings = `INSERT INTO settings (merchant_id, protocol, value) VALUES ($1, $2, $3)
ON CONFLICT (merchant_id, protocol) DO UPDATE SET value = excluded.value`
)

// Settings are a merchant's settings for a protocol, as JSON; nil for none.
func (s *Store) Settings(ctx context.Context, merchant payment.MerchantID, protocol string) ([]byte, error) {
	var value []byte
	err := s.read(ctx, func(r *reader) error {
		value = nil
		return r.query(func(r *row) error {
			value = r.raw()
			return nil
		}, selectSettings, int64(merchant), protocol)
	})
	return value, wrap(err, "settings of merchant %d for %s", merchant, protocol)
}

// SetSettings stores a merchant's settings for a protocol.
func (s *Store) SetSettings(ctx context.Context, merchant payment.MerchantID, protocol string, settings []byte) error {
	if err := checkPublicID("protocol", protocol); err != nil {
		return err
	}
	return wrap(s.write(ctx, func(t *txn) error {
		if _, err := t.Merchant(merchant); err != nil {
			return err
		}
		_, err := t.exec(upsertSettings, int64(merchant), protocol, string(settings))
		return err
	}), "set settings of merchant %d for %s", merchant, protocol)
}

package sqlstore

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
)

// The rows that operators keep: merchants with their methods, stores, terminals and credentials. What an operator got wrong comes back as a
// payment.FieldError, and what is not there as payment.ErrNotFound.

const (
	publicIDMax = 32      // The longest public identifier of the five protocols.
	nameMax     = 200     // Fits every line that a name is printed on.
	hashMin     = 16      // Bytes; a shorter hash of a secret could be guessed.
	hashMax     = 64      // Bytes of the longest hash in use, SHA-512.
	listMax     = 1000    // Rows that a list answers at once.
	wholeRate   = 1000000 // A rate of 100 percent in millionths.
)

// What the directory knows: public id or hash, to the merchant's row.
const (
	kindMerchant   = "merchant"
	kindTerminal   = "terminal"
	kindCredential = "credential"
)

const insertDirectory = `INSERT INTO directory (kind, id, merchant_id, ref) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`

// publish makes a public id stand for a merchant's row, or reports that it is taken.
func (t *txn) publish(kind, id string, merchant payment.MerchantID, ref payment.ID, field string) error {
	n, err := t.exec(insertDirectory, kind, id, int64(merchant), int64(ref))
	if err == nil && n == 0 {
		return taken(field)
	}
	return err
}

func taken(field string) error {
	return &payment.FieldError{Field: field, Problem: "is taken already: choose another"}
}

const selectDirectory = `-- every merchant
SELECT merchant_id, ref FROM directory WHERE kind = $1 AND id = $2`

func (r *reader) find(kind, id string) (merchant payment.MerchantID, ref payment.ID, err error) {
	err = r.one(func(r *row) error {
		merchant, ref = r.merchantID(), r.id()
		return nil
	}, selectDirectory, kind, id)
	return merchant, ref, err
}

// Checks.

func checkName(field, name string) error {
	if name == "" || utf8.RuneCountInString(name) > nameMax || strings.ContainsFunc(name, func(c rune) bool { return c < ' ' }) {
		return &payment.FieldError{Field: field, Problem: fmt.Sprintf("%q: want 1 to %d printable characters", name, nameMax)}
	}
	return nil
}

func checkDigits(field, id string) error {
	if id == "" || len(id) > publicIDMax || strings.Trim(id, "0123456789") != "" {
		return &payment.FieldError{Field: field, Problem: fmt.Sprintf("%q: want 1 to %d digits", id, publicIDMax)}
	}
	return nil
}

func checkPublicID(field, id string) error {
	odd := func(c rune) bool { return c <= ' ' || c > '~' }
	if id == "" || len(id) > publicIDMax || strings.ContainsFunc(id, odd) {
		return &payment.FieldError{Field: field, Problem: fmt.Sprintf("%q: want 1 to %d ASCII characters without spaces", id, publicIDMax)}
	}
	return nil
}

func checkCurrencies(codes []string) error {
	if len(codes) == 0 {
		return &payment.FieldError{Field: "currencies", Problem: "is empty: name at least one, such as AUD"}
	}
	for i, code := range codes {
		if cur, err := money.ParseCurrency(code); err != nil || cur.Code() != code {
			return &payment.FieldError{Field: "currencies", Problem: fmt.Sprintf("%q is no ISO 4217 code in capitals, such as AUD", code)}
		}
		if slices.Contains(codes[:i], code) {
			return &payment.FieldError{Field: "currencies", Problem: fmt.Sprintf("%q is there twice", code)}
		}
	}
	return nil
}

func checkMethod(name string, m payment.Method) error {
	if err := checkPublicID("method", name); err != nil {
		return err
	}
	if err := checkPublicID("acquirer", m.Acquirer); err != nil {
		return err
	}
	if m.Rate.Millionths < 0 || m.Rate.Millionths > wholeRate || m.Rate.Fixed < 0 {
		return &payment.FieldError{Field: "rate", Problem: fmt.Sprintf("%d millionths and %d: want 0 to %d millionths, and no less than 0 on top",
			m.Rate.Millionths, m.Rate.Fixed, wholeRate)}
	}
	return nil
}

func checkCalendar(c payment.Calendar) error {
	if c.Zone == "" || c.Zone == "Local" {
		return &payment.FieldError{Field: "zone", Problem: fmt.Sprintf("%q: want an IANA name, such as Australia/Melbourne", c.Zone)}
	}
	if _, err := time.LoadLocation(c.Zone); err != nil {
		return &payment.FieldError{Field: "zone", Problem: fmt.Sprintf("%q is not known: want an IANA name, such as Australia/Melbourne", c.Zone)}
	}
	if c.CutOff < 0 || c.CutOff >= 24*time.Hour || c.CutOff%time.Minute != 0 {
		return &payment.FieldError{Field: "cut_off", Problem: fmt.Sprintf("%s: want whole minutes after midnight, below 24 hours", c.CutOff)}
	}
	return nil
}

func checkProfile(p payment.Profile) error {
	if p.AllowedIPs == "" {
		return nil
	}
	for part := range strings.SplitSeq(p.AllowedIPs, ",") {
		part = strings.TrimSpace(part)
		_, addrErr := netip.ParseAddr(part)
		_, prefixErr := netip.ParsePrefix(part)
		if addrErr != nil && prefixErr != nil {
			return &payment.FieldError{Field: "allowed_ips", Problem: fmt.Sprintf("%q is neither an address nor a prefix, such as 10.0.0.0/8", part)}
		}
	}
	return nil
}

// Merchants.

const merchantColumns = `merchants.id, merchants.public_id, merchants.company_name, merchants.name, merchants.disabled, merchants.currencies`

func (r *row) merchant() payment.Merchant {
	m := payment.Merchant{ID: r.merchantID(), PublicID: r.text(), CompanyName: r.text(), Name: r.text(), Disabled: r.flag()}
	if codes := r.text(); codes != "" {
		m.Currencies = strings.Split(codes, ",")
	}
	return m
}

const selectMethods = `SELECT method, acquirer, fee_millionths, fee_fixed FROM methods WHERE merchant_id = $1`

func (r *reader) methods(m *payment.Merchant) error {
	m.Methods = map[string]payment.Method{}
	return r.query(func(r *row) error {
		name := r.text()
		m.Methods[name] = payment.Method{Acquirer: r.text(), Rate: payment.Rate{Millionths: r.int(), Fixed: r.int()}}
		return nil
	}, selectMethods, int64(m.ID))
}

const selectMerchant = `-- its id is the merchant_id
SELECT ` + merchantColumns + ` FROM merchants WHERE id = $1`

// Merchant finds a merchant with its methods.
func (r *reader) Merchant(id payment.MerchantID) (payment.Merchant, error) {
	var m payment.Merchant
	err := r.one(func(r *row) error {
		m = r.merchant()
		return nil
	}, selectMerchant, int64(id))
	if err == nil {
		err = r.methods(&m)
	}
	return m, wrap(err, "merchant %d", id)
}

var insertMerchant = `-- every merchant
INSERT INTO merchants (id, public_id, company_name, name, disabled, currencies) VALUES (` + params(6) + `)`

// AddMerchant stores a new merchant with its methods, and returns it with its ID.
func (s *Store) AddMerchant(ctx context.Context, m payment.Merchant) (payment.Merchant, error) {
	err := errors.Join(checkDigits("public_id", m.PublicID), checkName("company_name", m.CompanyName), checkName("name", m.Name),
		checkCurrencies(m.Currencies))
	for name, method := range m.Methods {
		err = errors.Join(err, checkMethod(name, method))
	}
	if err != nil {
		return m, err
	}
	err = s.write(ctx, func(t *txn) error {
		id, err := t.block(1)
		if err != nil {
			return err
		}
		m.ID = payment.MerchantID(id)
		if err := t.publish(kindMerchant, m.PublicID, m.ID, 0, "public_id"); err != nil {
			return err
		}
		_, err = t.exec(insertMerchant, int64(m.ID), m.PublicID, m.CompanyName, m.Name, bit(m.Disabled), strings.Join(m.Currencies, ","))
		if err != nil {
			return err
		}
		for name, method := range m.Methods {
			if err := t.setMethod(m.ID, name, method); err != nil {
				return err
			}
		}
		return nil
	})
	return m, wrap(err, "add merchant %s", m.PublicID)
}

// FindMerchantByPublicID finds a merchant by the number that callers see.
func (s *Store) FindMerchantByPublicID(ctx context.Context, publicID string) (payment.Merchant, error) {
	var m payment.Merchant
	err := s.read(ctx, func(r *reader) error {
		id, _, err := r.find(kindMerchant, publicID)
		if err != nil {
			return err
		}
		m, err = r.Merchant(id)
		return err
	})
	return m, wrap(err, "merchant number %q", publicID)
}

const selectMerchants = `-- every merchant
SELECT ` + merchantColumns + ` FROM merchants WHERE id > $1 ORDER BY id LIMIT $2`

// Merchants lists merchants with their methods in the order of their IDs, those after the given one, 1000 at most.
func (s *Store) Merchants(ctx context.Context, after payment.MerchantID, limit int) ([]payment.Merchant, error) {
	var list []payment.Merchant
	err := s.read(ctx, func(r *reader) error {
		list = nil
		err := r.query(func(r *row) error {
			list = append(list, r.merchant())
			return nil
		}, selectMerchants, int64(after), int64(min(limit, listMax)))
		for i := range list {
			err = errors.Join(err, r.methods(&list[i]))
		}
		return err
	})
	return list, wrap(err, "merchants")
}

const disableMerchant = `-- its id is the merchant_id
UPDATE merchants SET disabled = $2 WHERE id = $1`

// SetMerchantDisabled disables a merchant, or enables it again.
func (s *Store) SetMerchantDisabled(ctx context.Context, id payment.MerchantID, disabled bool) error {
	return wrap(s.update(ctx, disableMerchant, int64(id), bit(disabled)), "merchant %d", id)
}

// update runs a statement that must find its row.
func (s *Store) update(ctx context.Context, text string, args ...any) error {
	return s.write(ctx, func(t *txn) error {
		n, err := t.exec(text, args...)
		if err == nil && n == 0 {
			return payment.ErrNotFound
		}
		return err
	})
}

// Methods.

const upsertMethod = `INSERT INTO methods (merchant_id, method, acquirer, fee_millionths, fee_fixed) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (merchant_id, method) DO UPDATE SET acquirer = excluded.acquirer, fee_millionths = excluded.fee_millionths,
fee_fixed = excluded.fee_fixed`

func (t *txn) setMethod(merchant payment.MerchantID, name string, m payment.Method) error {
	_, err := t.exec(upsertMethod, int64(merchant), name, m.Acquirer, m.Rate.Millionths, m.Rate.Fixed)
	return err
}

// SetMethod enables a payment method for a merchant, or changes how it is taken.
func (s *Store) SetMethod(ctx context.Context, merchant payment.MerchantID, name string, m payment.Method) error {
	if err := checkMethod(name, m); err != nil {
		return err
	}
	return wrap(s.write(ctx, func(t *txn) error {
		if _, err := t.Merchant(merchant); err != nil {
			return err
		}
		return t.setMethod(merchant, name, m)
	}), "set method %s of merchant %d", name, merchant)
}

const deleteMethod = `DELETE FROM methods WHERE merchant_id = $1 AND method = $2`

// RemoveMethod disables a payment method for a merchant.
func (s *Store) RemoveMethod(ctx context.Context, merchant payment.MerchantID, name string) error {
	return wrap(s.update(ctx, deleteMethod, int64(merchant), name), "remove method %s of merchant %d", name, merchant)
}

// Stores.

const storeColumns = `stores.id, stores.public_id, stores.name, stores.zone, stores.cut_off, stores.disabled`

func (r *row) place() payment.Place {
	return payment.Place{ID: r.id(), PublicID: r.text(), Name: r.text(),
		Calendar: payment.Calendar{Zone: r.text(), CutOff: r.duration()}, Disabled: r.flag()}
}

var insertStore = `INSERT INTO stores (merchant_id, id, public_id, name, zone, cut_off, disabled) VALUES (` + params(7) + `)
ON CONFLICT DO NOTHING`

// AddStore stores a new store of a merchant, and returns it with its ID. Its public ID is unique within the merchant.
func (s *Store) AddStore(ctx context.Context, merchant payment.MerchantID, p payment.Place) (payment.Place, error) {
	err := errors.Join(checkPublicID("public_id", p.PublicID), checkName("name", p.Name), checkCalendar(p.Calendar))
	if err != nil {
		return p, err
	}
	err = s.write(ctx, func(t *txn) error {
		if _, err := t.Merchant(merchant); err != nil {
			return err
		}
		var err error
		if p.ID, err = t.block(1); err != nil {
			return err
		}
		n, err := t.exec(insertStore, int64(merchant), int64(p.ID), p.PublicID, p.Name, p.Calendar.Zone, p.Calendar.CutOff.Milliseconds(),
			bit(p.Disabled))
		if err == nil && n == 0 {
			return taken("public_id")
		}
		return err
	})
	return p, wrap(err, "add store %s of merchant %d", p.PublicID, merchant)
}

const selectStores = `SELECT ` + storeColumns + ` FROM stores WHERE merchant_id = $1 AND id > $2 ORDER BY id LIMIT $3`

// Stores lists a merchant's stores in the order of their IDs, those after the given one, 1000 at most.
func (s *Store) Stores(ctx context.Context, merchant payment.MerchantID, after payment.ID, limit int) ([]payment.Place, error) {
	return list(ctx, s, (*row).place, selectStores, merchant, after, limit)
}

const disableStore = `UPDATE stores SET disabled = $3 WHERE merchant_id = $1 AND id = $2`

// SetStoreDisabled disables a store, or enables it again.
func (s *Store) SetStoreDisabled(ctx context.Context, merchant payment.MerchantID, id payment.ID, disabled bool) error {
	return wrap(s.update(ctx, disableStore, int64(merchant), int64(id), bit(disabled)), "store %d of merchant %d", id, merchant)
}

// list reads the rows of a merchant after an ID.
func list[T any](ctx context.Context, s *Store, scan func(*row) T, text string, merchant payment.MerchantID, after payment.ID,
	limit int) ([]T, error) {
	var rows []T
	err := s.read(ctx, func(r *reader) error {
		rows = nil
		return r.query(func(r *row) error {
			rows = append(rows, scan(r))
			return nil
		}, text, int64(merchant), int64(after), int64(min(limit, listMax)))
	})
	return rows, wrap(err, "list of merchant %d", merchant)
}

// listWhole is list for rows that may be spoiled: what can be read of them comes with the error.
func listWhole[T any](ctx context.Context, s *Store, scan func(*row) (T, error), text string, merchant payment.MerchantID, after payment.ID,
	limit int) ([]T, error) {
	type result struct {
		value T
		err   error
	}
	results, err := list(ctx, s, func(r *row) result {
		v, err := scan(r)
		return result{v, err}
	}, text, merchant, after, limit)
	var rows []T
	for _, r := range results {
		rows, err = append(rows, r.value), errors.Join(err, r.err)
	}
	return rows, err
}

// Terminals.

const terminalColumns = `terminals.id, terminals.public_id, terminals.store_id, terminals.name, terminals.disabled`

func (r *row) terminal() payment.Terminal {
	return payment.Terminal{ID: r.id(), PublicID: r.text(), Store: r.id(), Name: r.text(), Disabled: r.flag()}
}

const selectHasStore = `SELECT id FROM stores WHERE merchant_id = $1 AND id = $2`

// hasStore reports a store that the merchant does not have.
func (r *reader) hasStore(merchant payment.MerchantID, id payment.ID) error {
	err := r.one(func(*row) error { return nil }, selectHasStore, int64(merchant), int64(id))
	if errors.Is(err, payment.ErrNotFound) {
		return &payment.FieldError{Field: "store", Problem: fmt.Sprintf("merchant %d has no store %d", merchant, id)}
	}
	return err
}

var insertTerminal = `INSERT INTO terminals (merchant_id, id, public_id, store_id, name, disabled) VALUES (` + params(6) + `)`

// AddTerminal stores a new terminal in a store of a merchant, and returns it with its ID. Its TID is unique.
func (s *Store) AddTerminal(ctx context.Context, merchant payment.MerchantID, d payment.Terminal) (payment.Terminal, error) {
	if err := errors.Join(checkPublicID("public_id", d.PublicID), checkName("name", d.Name)); err != nil {
		return d, err
	}
	err := s.write(ctx, func(t *txn) error {
		if err := t.hasStore(merchant, d.Store); err != nil {
			return err
		}
		var err error
		if d.ID, err = t.block(1); err != nil {
			return err
		}
		if err := t.publish(kindTerminal, d.PublicID, merchant, d.ID, "public_id"); err != nil {
			return err
		}
		_, err = t.exec(insertTerminal, int64(merchant), int64(d.ID), d.PublicID, int64(d.Store), d.Name, bit(d.Disabled))
		return err
	})
	return d, wrap(err, "add terminal %s of merchant %d", d.PublicID, merchant)
}

const (
	selectTerminal  = `SELECT ` + terminalColumns + ` FROM terminals WHERE merchant_id = $1 AND id = $2`
	selectTerminals = `SELECT ` + terminalColumns + ` FROM terminals WHERE merchant_id = $1 AND id > $2 ORDER BY id LIMIT $3`
)

func (r *reader) findTerminal(merchant payment.MerchantID, id payment.ID) (payment.Terminal, error) {
	var d payment.Terminal
	err := r.one(func(r *row) error {
		d = r.terminal()
		return nil
	}, selectTerminal, int64(merchant), int64(id))
	return d, err
}

// FindTerminalByPublicID finds a terminal by its TID, and whose it is.
func (s *Store) FindTerminalByPublicID(ctx context.Context, tid string) (payment.MerchantID, payment.Terminal, error) {
	var merchant payment.MerchantID
	var d payment.Terminal
	err := s.read(ctx, func(r *reader) (err error) {
		var id payment.ID
		if merchant, id, err = r.find(kindTerminal, tid); err != nil {
			return err
		}
		d, err = r.findTerminal(merchant, id)
		return err
	})
	return merchant, d, wrap(err, "terminal %q", tid)
}

// Terminals lists a merchant's terminals in the order of their IDs, those after the given one, 1000 at most.
func (s *Store) Terminals(ctx context.Context, merchant payment.MerchantID, after payment.ID, limit int) ([]payment.Terminal, error) {
	return list(ctx, s, (*row).terminal, selectTerminals, merchant, after, limit)
}

const disableTerminal = `UPDATE terminals SET disabled = $3 WHERE merchant_id = $1 AND id = $2`

// SetTerminalDisabled disables a terminal, or enables it again.
func (s *Store) SetTerminalDisabled(ctx context.Context, merchant payment.MerchantID, id payment.ID, disabled bool) error {
	return wrap(s.update(ctx, disableTerminal, int64(merchant), int64(id), bit(disabled)), "terminal %d of merchant %d", id, merchant)
}

// Credentials.

const credentialColumns = `credentials.id, credentials.protocol, credentials.merchant_id, credentials.store_id, credentials.terminal_id,
credentials.name, credentials.disabled, credentials.profile`

// credential leaves a profile that cannot be read empty and says so.
func (r *row) credential() (payment.Credential, error) {
	c := payment.Credential{ID: r.id(), Protocol: r.text(), Merchant: r.merchantID(), Store: r.id(), Terminal: r.id(), Name: r.text(),
		Disabled: r.flag()}
	return c, r.decode("profile", &c.Profile)
}

// secretName is how the directory knows a secret: hashes are compared within their protocol only.
func secretName(protocol string, secretHash []byte) string {
	return protocol + ":" + hex.EncodeToString(secretHash)
}

var insertCredential = `INSERT INTO credentials (merchant_id, id, protocol, secret_hash, store_id, terminal_id, name, disabled, profile)
VALUES (` + params(9) + `)`

// AddCredential stores a new credential by the hash of its secret, and returns it with its ID. One that names a terminal belongs to the
// terminal's store.
func (s *Store) AddCredential(ctx context.Context, c payment.Credential, secretHash []byte) (payment.Credential, error) {
	err := errors.Join(checkPublicID("protocol", c.Protocol), checkName("name", c.Name), checkProfile(c.Profile))
	if len(secretHash) < hashMin || len(secretHash) > hashMax {
		err = errors.Join(err, &payment.FieldError{Field: "secret", Problem: fmt.Sprintf("hash of %d bytes: want %d to %d", len(secretHash),
			hashMin, hashMax)})
	}
	if err != nil {
		return c, err
	}
	profile, err := encodeJSON(c.Profile)
	if err != nil {
		return c, err
	}
	given := c
	err = s.write(ctx, func(t *txn) error {
		c = given
		if _, err := t.Merchant(c.Merchant); err != nil {
			return err
		}
		if err := t.placeCredential(&c); err != nil {
			return err
		}
		var err error
		if c.ID, err = t.block(1); err != nil {
			return err
		}
		if err := t.publish(kindCredential, secretName(c.Protocol, secretHash), c.Merchant, c.ID, "secret"); err != nil {
			return err
		}
		_, err = t.exec(insertCredential, int64(c.Merchant), int64(c.ID), c.Protocol, hex.EncodeToString(secretHash), int64(c.Store),
			int64(c.Terminal), c.Name, bit(c.Disabled), profile)
		return err
	})
	return c, wrap(err, "add credential %q of merchant %d", c.Name, c.Merchant)
}

// placeCredential checks the store and the terminal that a credential names.
func (r *reader) placeCredential(c *payment.Credential) error {
	if c.Terminal != 0 {
		d, err := r.findTerminal(c.Merchant, c.Terminal)
		if errors.Is(err, payment.ErrNotFound) {
			return &payment.FieldError{Field: "terminal", Problem: fmt.Sprintf("merchant %d has no terminal %d", c.Merchant, c.Terminal)}
		}
		if err != nil {
			return err
		}
		if c.Store == 0 {
			c.Store = d.Store
		}
		if c.Store != d.Store {
			return &payment.FieldError{Field: "store", Problem: fmt.Sprintf("terminal %d stands in store %d, not %d", d.ID, d.Store, c.Store)}
		}
		return nil
	}
	if c.Store != 0 {
		return r.hasStore(c.Merchant, c.Store)
	}
	return nil
}

const selectCredentials = `SELECT ` + credentialColumns + ` FROM credentials WHERE merchant_id = $1 AND id > $2 ORDER BY id LIMIT $3`

// Credentials lists a merchant's credentials in the order of their IDs, those after the given one, 1000 at most.
func (s *Store) Credentials(ctx context.Context, merchant payment.MerchantID, after payment.ID, limit int) ([]payment.Credential, error) {
	return listWhole(ctx, s, (*row).credential, selectCredentials, merchant, after, limit)
}

const disableCredential = `UPDATE credentials SET disabled = $3 WHERE merchant_id = $1 AND id = $2`

// SetCredentialDisabled disables a credential, or enables it again.
func (s *Store) SetCredentialDisabled(ctx context.Context, merchant payment.MerchantID, id payment.ID, disabled bool) error {
	return wrap(s.update(ctx, disableCredential, int64(merchant), int64(id), bit(disabled)), "credential %d of merchant %d", id, merchant)
}

const selectCaller = `-- every merchant
SELECT ` + credentialColumns + `, ` + merchantColumns + `, ` + storeColumns + `, ` + terminalColumns + `
FROM directory
JOIN credentials ON credentials.merchant_id = directory.merchant_id AND credentials.id = directory.ref
JOIN merchants ON merchants.id = directory.merchant_id
LEFT JOIN stores ON stores.merchant_id = directory.merchant_id AND stores.id = credentials.store_id
LEFT JOIN terminals ON terminals.merchant_id = directory.merchant_id AND terminals.id = credentials.terminal_id
WHERE directory.kind = $1 AND directory.id = $2`

// Caller finds whom a credential stands for, in two statements: one for the rows, one for the merchant's methods.
func (r *reader) Caller(protocol string, secretHash []byte) (payment.Caller, error) {
	var c payment.Caller
	err := r.one(func(r *row) (err error) {
		c.Credential, err = r.credential()
		c.Merchant, c.Store, c.Terminal = r.merchant(), r.place(), r.terminal()
		return err
	}, selectCaller, kindCredential, secretName(protocol, secretHash))
	if err == nil {
		err = r.methods(&c.Merchant)
	}
	return c, wrap(err, "caller of %s", protocol)
}

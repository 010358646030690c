package terminal

import (
	"context"
	"crypto/hmac"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/tillgate/tillgate/payment"
)

const (
	// keySize is the length of a terminal's key in bytes; as text it has 32 lower-case hex digits (Upay reference, section 1.1).
	keySize = 16
	// fieldMax bounds what a device tells of itself: the longest field of any protocol (Upay's device_id).
	fieldMax = 128
	// numberMax is the longest public number of the five protocols.
	numberMax = 32
	// raceTries bounds how often a registration that lost a race is begun again.
	raceTries = 5
)

// Purposes of the vault's keys.
const (
	purposeKey    = "terminal-key"
	purposeCode   = "activation-code"
	purposeVendor = "vendor-key"
)

// numbering says how a protocol's terminals are numbered. A protocol that is not in the table brings its numbers.
type numbering struct {
	first, last int64 // They count from first, without gaps as far as possible, and end at last.
	prefix      string
	digits      int // Of the identity's own ID after the prefix; 0 for a count.
}

// numberings has a row for each protocol whose numbers we give.
var numberings = map[string]numbering{
	"uqpay":        {first: 10_000_000, last: 99_999_999}, // UQPAY reference 3.1: eight digits.
	"upay":         {prefix: "1009", digits: 14},          // Upay reference 1.1: digits, 18 seen.
	DeviceProtocol: {first: 40_000_000, last: 99_999_999}, // Eight digits: what a card host has room for in DE 41.
}

// Config is what a registry needs.
type Config struct {
	Store Store
	Vault Vault
	Now   func() time.Time
	Rand  io.Reader // Of keys and codes: crypto/rand.Reader.
	Log   *slog.Logger
	// Shared says that other processes work on the same store. What they change is then read where a remembered value could be wrong.
	Shared bool
}

// Registry knows the terminals. All methods may be called concurrently.
type Registry struct {
	cfg      Config
	entries  cache[name, Entry]
	pins     cache[payment.ID, []PINKey] // By identity.
	settings cache[settingsOf, []byte]
	guesses  guesses
}

type name struct{ protocol, number string }

type settingsOf struct {
	merchant payment.MerchantID
	protocol string
}

// New makes a registry.
func New(cfg Config) *Registry { return &Registry{cfg: cfg} }

func (r *Registry) now() time.Time { return r.cfg.Now().UTC().Truncate(time.Millisecond) }

// Find finds an identity by its number in a protocol. Answers are remembered for two seconds at most, refusals not at all. Errors:
// payment.ErrNotFound, and ErrDisabled when the identity, its terminal, store or merchant is disabled; the Entry comes with it.
func (r *Registry) Find(ctx context.Context, protocol, number string) (Entry, error) {
	if e, _, ok := r.entries.get(name{protocol, number}, r.cfg.Now()); ok {
		return e, nil
	}
	return r.Fresh(ctx, protocol, number)
}

// Fresh is Find that remembers nothing from before. Call it when a signature fits none of an Entry's keys: another process may have changed
// them since.
func (r *Registry) Fresh(ctx context.Context, protocol, number string) (Entry, error) {
	now := r.cfg.Now() // Before the read: what is read may be as old as this.
	_, seen, _ := r.entries.get(name{protocol, number}, now)
	e, err := r.cfg.Store.FindIdentity(ctx, protocol, number)
	if err != nil {
		return Entry{}, fmt.Errorf("terminal %s of %s: %w", number, protocol, err)
	}
	if e.disabled() {
		r.entries.drop(name{protocol, number})
		return e.ready(), ErrDisabled
	}
	e = e.ready()
	r.entries.put(name{protocol, number}, e, now.Add(cacheLife), seen)
	return e, nil
}

// ready is an entry as the registry returns it.
func (e Entry) ready() Entry {
	e.keys = &openKeys{}
	return e
}

// Register makes a terminal of a device by its maker and serial, in the caller's store, or in its merchant's first store when the caller
// has none. A device that is registered already for the same merchant keeps its entry. Errors: ErrTaken for a device of another merchant,
// ErrDisabled with the Entry for one that is disabled, *payment.FieldError.
func (r *Registry) Register(ctx context.Context, caller payment.Caller, protocol string, d Device) (Entry, error) {
	switch {
	case d.Maker == "":
		return Entry{}, &payment.FieldError{Field: "maker", Problem: "is empty"}
	case d.Serial == "":
		return Entry{}, &payment.FieldError{Field: "serial", Problem: "is empty"}
	}
	if err := checkDevice(d); err != nil {
		return Entry{}, err
	}
	merchant, device := caller.Merchant.ID, unique(protocol, d.Maker, d.Serial)
	for range raceTries {
		e, err := r.cfg.Store.FindDevice(ctx, device)
		if err == nil {
			return r.again(e, merchant)
		}
		if !errors.Is(err, payment.ErrNotFound) {
			return Entry{}, fmt.Errorf("register %s %s: %w", d.Maker, d.Serial, err)
		}
		store, err := r.storeOf(ctx, caller)
		if err != nil {
			return Entry{}, fmt.Errorf("register %s %s: %w", d.Maker, d.Serial, err)
		}
		n := NewIdentity{Identity: Identity{Merchant: merchant, Protocol: protocol, Device: d}, Store: store, DeviceName: device, OneDevice: true}
		e, err = r.add(ctx, n, false)
		if !errors.Is(err, ErrTaken) { // Else another request for the same device was faster.
			return e, err
		}
	}
	return Entry{}, errStale
}

// again answers for a device that is registered already.
func (r *Registry) again(e Entry, merchant payment.MerchantID) (Entry, error) {
	switch {
	case e.Merchant != merchant:
		return Entry{}, ErrTaken
	case e.disabled():
		return e.ready(), ErrDisabled
	}
	return e.ready(), nil
}

// storeOf is the store in which a caller's new terminal stands.
func (r *Registry) storeOf(ctx context.Context, caller payment.Caller) (payment.ID, error) {
	if caller.Store.ID != 0 {
		return caller.Store.ID, nil
	}
	for after := payment.ID(0); ; {
		stores, err := r.cfg.Store.Stores(ctx, caller.Merchant.ID, after, 100)
		if err != nil {
			return 0, err
		}
		for _, s := range stores {
			if !s.Disabled {
				return s.ID, nil
			}
			after = s.ID
		}
		if len(stores) == 0 {
			return 0, &payment.FieldError{Field: "store", Problem: fmt.Sprintf("merchant %s has no store in use: add one", caller.Merchant.PublicID)}
		}
	}
}

// AddIdentity gives a terminal a name in a further protocol, or makes a new terminal in the store when i names none. A number is wanted
// unless the protocol's numbers are ours to give. Errors: ErrNumber, payment.ErrNotFound, *payment.FieldError.
func (r *Registry) AddIdentity(ctx context.Context, store payment.ID, i Identity) (Entry, error) {
	if i.Terminal != 0 {
		store = 0
	}
	n := NewIdentity{Identity: i, Store: store}
	if i.Device.Maker != "" && i.Device.Serial != "" {
		n.DeviceName, n.OneDevice = unique(i.Protocol, i.Device.Maker, i.Device.Serial), true
	}
	if err := checkDevice(i.Device); err != nil {
		return Entry{}, err
	}
	return r.add(ctx, n, false)
}

// add stores an identity with IDs, a number and, when wanted, a first key.
func (r *Registry) add(ctx context.Context, n NewIdentity, keyed bool) (Entry, error) {
	given := n.Number
	for range raceTries {
		first, err := r.cfg.Store.Block(ctx, 2)
		if err != nil {
			return Entry{}, fmt.Errorf("new terminal of %s: %w", n.Protocol, err)
		}
		n.ID, n.CreatedAt = first, r.now()
		if n.Store != 0 {
			n.Terminal = first + 1
		}
		if given == "" {
			if n.Number, err = r.number(ctx, n.Protocol, n.ID); err != nil {
				return Entry{}, err
			}
		} else if err := checkNumber(given); err != nil {
			return Entry{}, err
		}
		if keyed {
			key, err := r.newKey(n.Identity)
			if err != nil {
				return Entry{}, err
			}
			n.Key, n.CheckedIn = &key, n.CreatedAt
		}
		err = r.cfg.Store.AddIdentity(ctx, n)
		if errors.Is(err, ErrNumber) && given == "" { // An operator has chosen one of our numbers.
			continue
		}
		if err != nil {
			return Entry{}, fmt.Errorf("new terminal %s of %s: %w", n.Number, n.Protocol, err)
		}
		return r.Fresh(ctx, n.Protocol, n.Number)
	}
	return Entry{}, errStale
}

// number is the next number of a protocol.
func (r *Registry) number(ctx context.Context, protocol string, id payment.ID) (string, error) {
	n, ok := numberings[protocol]
	if !ok {
		return "", &payment.FieldError{Field: "number", Problem: "is empty, and the numbers of " + protocol + " are not ours to give"}
	}
	if n.digits > 0 {
		return payment.Numbering{Prefix: n.prefix, Digits: n.digits}.Number(id), nil
	}
	next, err := r.cfg.Store.NextNumber(ctx, protocol, n.first)
	if err == nil && next > n.last {
		err = fmt.Errorf("all numbers up to %d are given: %w", n.last, payment.ErrUnavailable)
	}
	if err != nil {
		return "", fmt.Errorf("number of a terminal of %s: %w", protocol, err)
	}
	return fmt.Sprint(next), nil
}

// Activate makes a new terminal of a device that presents an activation code, uses the code up once, and returns the terminal's first key.
// The caller has made sure of the vendor. Errors: *CodeError, ErrClientNumber, ErrDevice, ErrDisabled, *payment.FieldError.
func (r *Registry) Activate(ctx context.Context, a Activation) (Entry, Secret, error) {
	if err := checkDevice(a.Device); err != nil {
		return Entry{}, Secret{}, err
	}
	code, err := r.cfg.Store.FindCode(ctx, r.codeHash(a.Protocol, a.Code))
	if errors.Is(err, payment.ErrNotFound) {
		err = &CodeError{CodeUnknown}
	}
	if err == nil && code.App != "" && code.App != a.Device.App {
		err = &CodeError{CodeUnknown} // It is as good as none for this application.
	}
	if err == nil {
		err = code.usable(r.now())
	}
	if err != nil {
		if errors.Is(err, ErrCode) {
			r.guesses.wrong(r.cfg.Log, r.cfg.Now(), a)
		}
		return Entry{}, Secret{}, err
	}
	n := NewIdentity{
		Identity: Identity{Merchant: code.Merchant, Protocol: a.Protocol, Vendor: a.Vendor, Device: a.Device},
		Store:    code.Store, Code: code.ID, OneDevice: a.Once,
	}
	if a.Device.DeviceID != "" {
		n.DeviceName = unique(a.Protocol, fmt.Sprint(code.Merchant), a.Device.DeviceID)
	}
	if a.Device.ClientNumber != "" {
		n.ClientName = unique(a.Protocol, a.Vendor, a.Device.App, a.Device.ClientNumber)
	}
	e, err := r.add(ctx, n, true)
	if errors.Is(err, ErrTaken) {
		err = ErrDevice
	}
	if err != nil {
		return e, Secret{}, err
	}
	keys, err := r.Keys(e)
	if err != nil {
		return e, Secret{}, err
	}
	return e, keys[0].Secret, nil
}

// CheckIn gives a terminal a new key: the current one becomes the last, and the last ends. Of two at once one comes first, and both keys
// that they return are valid afterwards. What the device tells of itself is kept, where it tells anything.
func (r *Registry) CheckIn(ctx context.Context, e Entry, d Device) (Secret, error) {
	if err := checkDevice(d); err != nil {
		return Secret{}, err
	}
	i := e.Identity
	i.Device = d // What it does not tell stays as it is stored; e may be older.
	key, err := r.newKey(i)
	if err != nil {
		return Secret{}, err
	}
	err = r.cfg.Store.RotateKey(ctx, i, key)
	r.entries.drop(name{e.Protocol, e.Number}) // Also after an error: the change may be durable.
	if err != nil {
		return Secret{}, fmt.Errorf("check-in of terminal %s of %s: %w", e.Number, e.Protocol, err)
	}
	text, err := r.cfg.Vault.Unseal(purposeKey, key.Sealed, keyBound(i))
	if err != nil {
		return Secret{}, fmt.Errorf("check-in of terminal %s of %s: %w", e.Number, e.Protocol, err)
	}
	return NewSecret(string(text)), nil
}

// newKey makes a key of an identity, sealed.
func (r *Registry) newKey(i Identity) (SealedKey, error) {
	var raw [keySize]byte
	if _, err := io.ReadFull(r.cfg.Rand, raw[:]); err != nil {
		return SealedKey{}, fmt.Errorf("key of terminal %s: %w", i.Number, err)
	}
	sealed, err := r.cfg.Vault.Seal(purposeKey, []byte(hex.EncodeToString(raw[:])), keyBound(i))
	if err != nil {
		return SealedKey{}, fmt.Errorf("key of terminal %s: %w", i.Number, err)
	}
	return SealedKey{Sealed: sealed, IssuedAt: r.now()}, nil
}

// keyBound ties a sealed key to its merchant, terminal and protocol.
func keyBound(i Identity) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(i.Merchant))
	b = binary.BigEndian.AppendUint64(b, uint64(i.Terminal))
	return append(b, i.Protocol...)
}

// openKeys are an entry's keys once somebody has asked for them. They live as long as the entry is remembered, so that a vault in hardware is
// not asked for every request.
type openKeys struct {
	once sync.Once
	keys []Key
	err  error
}

// Keys are the keys of an entry, the current one first.
func (r *Registry) Keys(e Entry) ([]Key, error) {
	if e.keys == nil { // Not one of ours.
		e = e.ready()
	}
	e.keys.once.Do(func() {
		for n, sealed := range e.Sealed {
			text, err := r.cfg.Vault.Unseal(purposeKey, sealed.Sealed, keyBound(e.Identity))
			if err != nil {
				e.keys.err = fmt.Errorf("key of terminal %s of %s: %w", e.Number, e.Protocol, err)
				return
			}
			e.keys.keys = append(e.keys.keys, Key{Secret: NewSecret(string(text)), IssuedAt: sealed.IssuedAt, Last: n > 0})
		}
	})
	return e.keys.keys, e.keys.err
}

// Identities lists a merchant's identities in the order of their IDs.
func (r *Registry) Identities(ctx context.Context, merchant payment.MerchantID, f Filter) ([]Identity, error) {
	return r.cfg.Store.Identities(ctx, merchant, f)
}

// SetIdentityDisabled disables what a terminal is called in one protocol, or enables it again. Other processes know within two seconds.
func (r *Registry) SetIdentityDisabled(ctx context.Context, merchant payment.MerchantID, id payment.ID, disabled bool) error {
	defer r.entries.clear()
	return r.cfg.Store.SetIdentityDisabled(ctx, merchant, id, disabled)
}

// SetTerminalDisabled disables a terminal in all its protocols, or enables it again. Other processes know within two seconds.
func (r *Registry) SetTerminalDisabled(ctx context.Context, merchant payment.MerchantID, terminal payment.ID, disabled bool) error {
	defer r.entries.clear()
	return r.cfg.Store.SetTerminalDisabled(ctx, merchant, terminal, disabled)
}

// unique makes one name of several parts, so that different parts never make the same name.
func unique(parts ...string) string {
	escaped := make([]string, len(parts))
	for i, p := range parts {
		escaped[i] = url.QueryEscape(p)
	}
	return strings.Join(escaped, ":")
}

func checkDevice(d Device) error {
	for _, f := range []struct{ field, text string }{
		{"maker", d.Maker}, {"serial", d.Serial}, {"model", d.Model}, {"device_id", d.DeviceID}, {"client_number", d.ClientNumber}, {"name", d.Name},
		{"os", d.OS}, {"sdk", d.SDK}, {"app", d.App},
	} {
		if !printable(f.text) {
			return &payment.FieldError{Field: f.field, Problem: fmt.Sprintf("want at most %d printable characters", fieldMax)}
		}
	}
	return nil
}

// printable reports whether a text can be stored and printed on one line.
func printable(text string) bool {
	return utf8.ValidString(text) && utf8.RuneCountInString(text) <= fieldMax && !strings.ContainsFunc(text, unicode.IsControl)
}

func checkNumber(number string) error {
	odd := func(c rune) bool { return c <= ' ' || c > '~' }
	if len(number) > numberMax || strings.ContainsFunc(number, odd) {
		return &payment.FieldError{Field: "number", Problem: fmt.Sprintf("%q: want 1 to %d ASCII characters without spaces", number, numberMax)}
	}
	return nil
}

// Equal compares a presented text with a secret in constant time.
func (s Secret) Equal(text string) bool { return hmac.Equal([]byte(s.Reveal()), []byte(text)) }

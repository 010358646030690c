package terminal

import (
	"context"
	"fmt"
	"time"

	"github.com/tillgate/tillgate/payment"
)

// The errors of the registry beside the core's. Each wraps a sentinel of the core, so that a protocol that does not tell them apart still
// finds them in its table.
var (
	// ErrDisabled says that an identity, its terminal, its store or its merchant is disabled.
	ErrDisabled error = wrapped{"terminal is disabled", payment.ErrForbidden}
	// ErrTaken says that a device is registered for another merchant.
	ErrTaken error = wrapped{"device is registered for another merchant", payment.ErrConflict}
	// ErrClientNumber says that a terminal's number in the caller's system is taken within its application.
	ErrClientNumber error = wrapped{"client number is taken", payment.ErrConflict}
	// ErrDevice says that a device has been activated before, and the caller wants each to be activated once.
	ErrDevice error = wrapped{"device has been activated before", payment.ErrConflict}
	// ErrNumber says that a terminal's number is taken within its protocol.
	ErrNumber error = wrapped{"number is taken", payment.ErrConflict}
	// ErrCode says that an activation code cannot be used. It comes as a *CodeError, which says why.
	ErrCode error = wrapped{"activation code cannot be used", payment.ErrConflict}
)

type wrapped struct {
	text string
	err  error
}

func (e wrapped) Error() string { return e.text }

// Unwrap is the core's sentinel.
func (e wrapped) Unwrap() error { return e.err }

// CodeError is an ErrCode with its reason, which may be shown to the caller.
type CodeError struct{ Reason CodeReason }

// CodeReason says why an activation code cannot be used.
type CodeReason string

// The reasons.
const (
	CodeUnknown CodeReason = "unknown"
	CodeExpired CodeReason = "expired"
	CodeUsedUp  CodeReason = "used up"
)

func (e *CodeError) Error() string { return "activation code is " + string(e.Reason) }

// Unwrap makes it an ErrCode.
func (e *CodeError) Unwrap() error { return ErrCode }

// Device is what a terminal tells of itself. Everything may be empty, except what its protocol asks for.
type Device struct {
	Maker        string // UQPAY's firm code.
	Serial       string // The maker's.
	Model        string
	DeviceID     string // Fingerprint that the device's software computes.
	ClientNumber string // The terminal's number in the caller's own system, unique within App.
	Name         string
	OS           string
	SDK          string
	App          string // The vendor's application that runs on it.
}

// Identity is what a terminal is called in one protocol.
type Identity struct {
	ID        payment.ID // Of the identity itself, unique in the installation.
	Merchant  payment.MerchantID
	Terminal  payment.ID
	Protocol  string
	Number    string // Unique within the protocol, in the whole installation.
	Vendor    string // Number of the vendor that activated it; empty for none.
	Device    Device
	Disabled  bool
	CreatedAt time.Time
	CheckedIn time.Time // When its key was last changed; zero without a key.
}

// Entry is an identity with whom it stands for and its keys.
type Entry struct {
	Identity
	// Caller is what the core's commands want. Its credential has the identity's ID, name and protocol.
	Caller payment.Caller
	// Sealed are its keys as they are stored, the current one first; empty for a protocol without keys.
	Sealed []SealedKey

	keys *openKeys // Of an Entry that the registry returned.
}

// disabled reports whether anything that the entry needs is disabled.
func (e *Entry) disabled() bool {
	return e.Disabled || e.Caller.Terminal.Disabled || e.Caller.Store.Disabled || e.Caller.Merchant.Disabled
}

// SealedKey is a key as it is stored.
type SealedKey struct {
	Sealed   []byte
	IssuedAt time.Time
}

// Code is an activation code: whoever presents it gets a terminal in a store.
type Code struct {
	ID        payment.ID
	Merchant  payment.MerchantID
	Store     payment.ID
	Protocol  string
	App       string // Only this application may use it; empty for any.
	Uses      int    // 0 for unlimited.
	Used      int
	Expires   time.Time // Zero for never.
	CreatedAt time.Time
	Text      string // The code itself, eight digits, as Codes lists it; not wanted by NewCode.
	Sealed    []byte // As it is stored.
}

// Activation is a device's request to become a terminal.
type Activation struct {
	Protocol string
	Code     string
	Vendor   string // Number of the vendor whose software asks.
	Device   Device
	// Once refuses a device whose DeviceID has been activated for the same merchant and protocol.
	Once bool
}

// Vendor is a software maker that may activate terminals.
type Vendor struct {
	Number string // Digits.
	Name   string
	Key    Secret
	Apps   []string // Numbers of its applications; it may use no others.
}

// Filter says which identities of a merchant are wanted.
type Filter struct {
	Terminal payment.ID // 0 for all.
	Protocol string     // Empty for all.
	After    payment.ID // Only those whose own ID is larger.
	Limit    int        // 0 for the most that a list holds, 1000.
}

// Store keeps the registry. Its errors are the core's sentinels and this package's.
type Store interface {
	// Block hands out size fresh IDs, as in payment.Store.
	Block(ctx context.Context, size int64) (payment.ID, error)
	// NextNumber hands out the next of a protocol's numbers, which count from first.
	NextNumber(ctx context.Context, protocol string, first int64) (int64, error)
	// FindIdentity finds an identity by its protocol and number, with whom it stands for, whether disabled or not.
	FindIdentity(ctx context.Context, protocol, number string) (Entry, error)
	// FindDevice is as FindIdentity, by the name that a device was registered under.
	FindDevice(ctx context.Context, name string) (Entry, error)
	// AddIdentity stores an identity, with its terminal if that is new, and uses the code up once, all or nothing. Errors: ErrNumber,
	// ErrTaken, ErrClientNumber, *CodeError, payment.ErrNotFound, *payment.FieldError.
	AddIdentity(ctx context.Context, n NewIdentity) error
	// Identities lists a merchant's identities in the order of their IDs.
	Identities(ctx context.Context, merchant payment.MerchantID, f Filter) ([]Identity, error)
	SetIdentityDisabled(ctx context.Context, merchant payment.MerchantID, id payment.ID, disabled bool) error
	SetTerminalDisabled(ctx context.Context, merchant payment.MerchantID, terminal payment.ID, disabled bool) error
	Stores(ctx context.Context, merchant payment.MerchantID, after payment.ID, limit int) ([]payment.Place, error)
	// RotateKey makes key the current one and the current one the last, and writes what i's device tells of its name, OS and SDK.
	RotateKey(ctx context.Context, i Identity, key SealedKey) error
	// AddPINKey stores a sealed PIN key, and forgets those that have expired and all but the keep newest.
	AddPINKey(ctx context.Context, i Identity, key PINKey, now time.Time, keep int) error
	// PINKeys lists the PIN keys of an identity that live at now, the newest first.
	PINKeys(ctx context.Context, merchant payment.MerchantID, identity payment.ID, now time.Time) ([]PINKey, error)
	// AddCode stores a code under the hash of its text. A hash that is there already is ErrNumber.
	AddCode(ctx context.Context, c Code, hash []byte) error
	// FindCode finds a code by its hash, whatever has become of it.
	FindCode(ctx context.Context, hash []byte) (Code, error)
	Codes(ctx context.Context, merchant payment.MerchantID, after payment.ID, limit int) ([]Code, error)
	// EndCode lets a code expire.
	EndCode(ctx context.Context, merchant payment.MerchantID, id payment.ID, at time.Time) error
	// SetVendor stores a vendor, or changes it.
	SetVendor(ctx context.Context, v VendorRow) error
	FindVendor(ctx context.Context, number string) (VendorRow, error)
	Vendors(ctx context.Context, after string, limit int) ([]VendorRow, error)
	// Settings are a merchant's settings for a protocol, as JSON; nil for none.
	Settings(ctx context.Context, merchant payment.MerchantID, protocol string) ([]byte, error)
	SetSettings(ctx context.Context, merchant payment.MerchantID, protocol string, settings []byte) error
}

// NewIdentity is an identity that is to be stored.
type NewIdentity struct {
	Identity
	Store payment.ID // Where a new terminal stands; 0 for a terminal that is there already.
	// DeviceName is the name that the device is registered under. When another identity has it, OneDevice decides: it is refused with ErrTaken,
	// or the name stays the other's.
	DeviceName string
	OneDevice  bool
	ClientName string     // Unique, for a device with a client number; empty else.
	Key        *SealedKey // The first key; nil for none.
	Code       payment.ID // The code that it uses up once; 0 for none.
}

// PINKey is a sealed PIN key and its life.
type PINKey struct {
	Sealed  []byte
	Expires time.Time
}

// VendorRow is a vendor as it is stored.
type VendorRow struct {
	Number string
	Name   string
	Sealed []byte // Its key.
	Apps   []string
}

// Vault seals keys and hashes codes.
type Vault interface {
	payment.Sealer
	MAC(purpose string, data []byte) []byte
}

// errStale is what a lost race inside the registry comes to after several tries, which takes somebody who races on purpose.
var errStale = fmt.Errorf("others change the same rows all the time: %w", payment.ErrUnavailable)

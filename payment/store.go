package payment

import (
	"context"
	"time"

	"github.com/tillgate/tillgate/ledger"
)

// Store keeps everything. Its errors are this package's sentinels; what a driver says stays inside, wrapped.
type Store interface {
	// InTx runs fn in a transaction and returns after it is durable. It may run fn again, when the database asks for it or fn returned
	// ErrStoreConflict, so fn touches nothing but tx and its own results, and never the network. An error of fn rolls back.
	InTx(ctx context.Context, fn func(Tx) error) error
	// Read runs fn over one consistent state, without writing.
	Read(ctx context.Context, fn func(Reader) error) error
	// Block hands out size fresh IDs that no process had or will have, and returns the first of them.
	Block(ctx context.Context, size int64) (ID, error)
	// Due lists owed work whose time has come and which no living process has in hand, the oldest first. Beside it comes the time of the
	// next one after now, zero for none.
	Due(ctx context.Context, now time.Time, limit int) ([]Owed, time.Time, error)
	// Hasten makes due now what waits for somebody at an acquirer.
	Hasten(ctx context.Context, acquirer string, now time.Time) error
	// Enlist makes a new incarnation of a process, alive for the lease, and returns its number. On a store of one process, it takes over
	// at once all that earlier ones had in hand.
	Enlist(ctx context.Context, lease time.Duration) (int64, error)
	// Renew keeps an incarnation alive for another lease, and hands what dead ones had in hand to whoever comes. It fails with ErrNotFound
	// when the incarnation itself was held for dead: the process must Enlist again.
	Renew(ctx context.Context, incarnation int64, lease time.Duration) error
	// Retire ends an incarnation that has nothing in hand any more.
	Retire(ctx context.Context, incarnation int64) error
}

// Owed names a row that is due: an operation, or a payment when Operation is 0.
type Owed struct {
	Merchant  MerchantID
	Payment   ID
	Operation ID
}

// KeyRow is a key and what it stands for.
type KeyRow struct {
	Merchant  MerchantID
	Key       Key
	MAC       []byte    // Keyed HMAC of the request: requests hold PANs and keys, so they are not kept. Nil for a key closed in advance.
	Payment   ID        // 0 for a key closed before its payment existed.
	Operation ID        // The refund; 0 for a payment.
	ClosedTo  time.Time // Of a key closed in advance: until when.
	FreeAt    time.Time // When the key may stand for something else; zero for never.
	Answer    []byte    // The answer that the request was given, where the protocol repeats answers and not states; nil before.
}

// Closed reports whether the key was only closed in advance.
func (k *KeyRow) Closed() bool { return k.Payment == 0 && k.MAC == nil }

// Change is what a turn has changed of one payment. It is only to be read.
type Change struct {
	Was, Now   *Payment // Was is zero for a new payment.
	Operations []OperationChange
}

// OperationChange is what a turn has changed of one operation; Was is zero for a new one.
type OperationChange struct{ Was, Now *Operation }

// Notice is something that a caller wants to be told over HTTP: a callback or webhook. It is stored in the commit that it tells of, and sent
// until it is accepted or given up (package notify).
type Notice struct {
	Merchant MerchantID
	ID       ID
	Payment  ID
	Protocol string
	Event    string // The protocol's own name of what happened, for people.
	URL      string
	Endpoint ID     // The webhook that wants it; 0 for an address that came with the payment.
	Signer   string // What the protocol needs to sign it, such as a terminal's number; never a key.
	Body     []byte // As it is sent; never holds card data.
	DueAt    time.Time
	Tries    int
}

// Webhook is an address to which a merchant wants a protocol's events.
type Webhook struct {
	Merchant MerchantID
	ID       ID
	Protocol string
	URL      string
	Events   []string // Empty for all.
	Secret   []byte   // Sealed; empty for none.
	Seconds  bool     // Timestamps in seconds instead of milliseconds.
	Disabled bool
}

// Reader is the part of a store that reads. Methods fail with ErrNotFound where one row is asked for and is not there.
type Reader interface {
	Key(merchant MerchantID, key Key) (KeyRow, error)
	Payment(merchant MerchantID, id ID) (Payment, error)
	Operation(merchant MerchantID, payment, id ID) (Operation, error)
	// Operations lists a payment's operations in the order of their IDs.
	Operations(merchant MerchantID, payment ID) ([]Operation, error)
	// Balances sums the ledger of a merchant by currency code, for operators and for tests of the invariants.
	Balances(merchant MerchantID) (map[string]ledger.Postings, error)
	// Caller finds whom a credential stands for, by protocol and the hash of what was presented. A disabled credential is found too.
	Caller(protocol string, secretHash []byte) (Caller, error)
	// Merchant finds a merchant with its methods.
	Merchant(id MerchantID) (Merchant, error)
	// OperationByID finds an operation of which only its own ID is known.
	OperationByID(merchant MerchantID, id ID) (Operation, error)
	// Webhooks lists a merchant's webhooks for a protocol, disabled ones too.
	Webhooks(merchant MerchantID, protocol string) ([]Webhook, error)
	// ListPayments lists a merchant's payments, the newest first, and how many there are in all.
	ListPayments(merchant MerchantID, f ListFilter) ([]View, int64, error)
	// ListAttempts lists attempts, those of the newest payments first. A View holds the attempt that is listed, which need not be the payment's
	// latest.
	ListAttempts(merchant MerchantID, f ListFilter) ([]View, int64, error)
	// ListRefunds lists the refunds that callers asked for, the newest first.
	ListRefunds(merchant MerchantID, f ListFilter) ([]RefundView, int64, error)
}

// ListFilter says which rows of a list are wanted. What is zero does not matter.
type ListFilter struct {
	Protocol  string
	States    []State          // Of the payment, any of these.
	Attempts  []OperationState // Of the attempt, any of these; "" stands for a payment without one.
	Refunds   []OperationState // Of the refund, any of these.
	Failed    bool             // Only attempts with a reason of failure.
	Unfailed  bool             // Only attempts without one.
	Payment   ID
	Reference string    // The payment's.
	After     time.Time // Made after this moment, itself excluded.
	Before    time.Time
	Offset    int64 // Rows to skip.
	Limit     int   // Rows to return; 0 for none, only the count is wanted.
}

// Tx is a transaction.
type Tx interface {
	Reader
	// InsertKey stores a key unless it is there already; then it returns the stored row and false. Two transactions with one key are
	// ordered by it: the second sees what the first stored.
	InsertKey(row KeyRow) (KeyRow, bool, error)
	// UpdateKey lets a key stand for something else. It fails with ErrStoreConflict unless the key still stands for old's payment and
	// operation.
	UpdateKey(old, row KeyRow) error
	// KeepAnswer stores the answer to the request that made a key stand for a payment or refund, unless it stands for another by now.
	KeepAnswer(merchant MerchantID, key Key, payment, operation ID, answer []byte) error
	// InsertNotice stores a notice that is owed.
	InsertNotice(*Notice) error
	// InsertPayment stores a new payment, and beside it its first attempt, which has the payment's ID; nil for none yet. An attempt that
	// has the payment's ID has no target, key, round, rest or echo.
	InsertPayment(p *Payment, first *Operation) error
	// UpdatePayment writes every changing column, when the version is still the one read, and raises it in place; else ErrStoreConflict. It
	// does the same with the first attempt, unless that is nil.
	UpdatePayment(p *Payment, first *Operation) error
	// AmendPayment writes what an open payment asks for: amount, currency, tip, reference and echo. It is else as UpdatePayment.
	AmendPayment(*Payment) error
	// InsertOperation stores a new operation, be it a first attempt that its payment was stored without.
	InsertOperation(*Operation) error
	// UpdateOperation is as UpdatePayment, for any operation alone.
	UpdateOperation(*Operation) error
	// ClaimOperation takes a due operation in hand for an incarnation that is alive, unless a living one has it: then false. It sets the
	// owner, moves the due time to until, counts a try, and raises the version.
	ClaimOperation(merchant MerchantID, payment, id ID, incarnation int64, now, until time.Time) (bool, error)
	// Post stores the journal entry of an approved operation, one for each.
	Post(op *Operation, entry ledger.Entry, at time.Time) error
}

// Caller is who asks, known by its credential.
type Caller struct {
	Credential Credential
	Merchant   Merchant
	Store      Place
	Terminal   Terminal // Zero when the credential names none.
}

// Credential is what a caller proves itself with.
type Credential struct {
	ID       ID
	Protocol string
	Merchant MerchantID
	Store    ID
	Terminal ID
	Name     string
	Disabled bool
	Profile  Profile
}

// Profile is the settings that a credential selects.
type Profile struct {
	RefundPolicy string `json:"refund_policy,omitempty"` // Name of one of the core's policies; empty for the standard one.
	AllowedIPs   string `json:"allowed_ips,omitempty"`   // Comma-separated addresses or prefixes; empty for any.

	// Of protocols whose credential is a name, beside which an API key is presented.
	APIKeys     string `json:"api_keys,omitempty"`      // Comma-separated hashes of the keys that are good, as the protocol makes them.
	NoRateLimit bool   `json:"no_rate_limit,omitempty"` // For programs that measure.

	// Of UQPAY.
	PINKeyExpire string `json:"pin_key_expire,omitempty"` // "rfc3339", or empty for milliseconds.
	ManyTokens   bool   `json:"many_tokens,omitempty"`    // A new token does not end the one before.
	NoPOS        bool   `json:"no_pos,omitempty"`         // The POS feature is off for the account.
	StrictKeys   bool   `json:"strict_keys,omitempty"`    // Idempotency keys must be UUIDs in lower case.
	SameDayVoid  bool   `json:"same_day_void,omitempty"`  // A paid intent can be cancelled until 23:00 of its day.
	CardSchemes  string `json:"card_schemes,omitempty"`   // Comma-separated schemes that are taken; empty for all.
}

// Merchant is who is paid.
type Merchant struct {
	ID          MerchantID
	PublicID    string // Digits, as callers see it.
	CompanyName string // Legal entity.
	Name        string // Trading name.
	Disabled    bool
	Currencies  []string          // Upper-case codes that it takes.
	Methods     map[string]Method // By method name; only these are enabled.
}

// Method is how a merchant takes one payment method.
type Method struct {
	Acquirer string // Name of the link that approves.
	Rate     Rate
}

// Place is a store, with its time zone and cut-off.
type Place struct {
	ID       ID
	PublicID string
	Name     string
	Calendar Calendar
	Disabled bool
}

// Terminal is a device.
type Terminal struct {
	ID       ID
	PublicID string // TID.
	Store    ID
	Name     string
	Disabled bool
}

// Vault keeps keys.
type Vault interface {
	Sealer
	// MAC is a keyed HMAC-SHA-256 of data for one purpose; purposes never share a key.
	MAC(purpose string, data []byte) []byte
}

// Signal wakes those who wait for a payment, in this process and others.
type Signal interface {
	// Lossy reports whether signals may be lost on their way. Then waiters read again by themselves every few seconds.
	Lossy() bool
	// Publish tells that a payment has changed. It never blocks.
	Publish(merchant MerchantID, payment ID)
	// Watch calls fn after a change, until the function that it returns is called, and perhaps once more then. fn must not block, nor call the
	// signal.
	Watch(merchant MerchantID, payment ID, fn func()) (end func())
}

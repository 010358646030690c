package admin

import "time"

// The states of a row.
const (
	Active   = "active"
	Disabled = "disabled"
)

// Page is a part of a list. Next is the value of after for the next part; empty at the end.
type Page[T any] struct {
	Rows []T    `json:"rows"`
	Next string `json:"next,omitempty"`
}

// Merchant is who is paid.
type Merchant struct {
	Merchant   string   `json:"merchant"` // Public number, digits.
	Company    string   `json:"company"`  // Legal entity.
	Name       string   `json:"name"`     // Trading name.
	Currencies []string `json:"currencies"`
	State      string   `json:"state"`
}

// Method is how a merchant takes a payment method.
type Method struct {
	Method        string `json:"method"`
	Acquirer      string `json:"acquirer"`
	FeeMillionths int64  `json:"fee_millionths"`
	FeeFixed      int64  `json:"fee_fixed_minor"`
}

// Store is a place, with its time zone and cut-off.
type Store struct {
	Merchant string `json:"merchant"`
	Store    string `json:"store"`
	Name     string `json:"name"`
	Zone     string `json:"zone"`    // IANA name.
	CutOff   string `json:"cut_off"` // After midnight, such as "4h0m0s".
	State    string `json:"state"`
}

// Terminal is a device, with what it is called in each protocol.
type Terminal struct {
	Merchant   string     `json:"merchant"`
	Terminal   string     `json:"terminal"`
	Store      string     `json:"store"`
	Name       string     `json:"name"`
	State      string     `json:"state"`
	Identities []Identity `json:"identities,omitempty"`
}

// Identity is what a terminal is called in a protocol.
type Identity struct {
	Protocol string `json:"protocol"`
	Number   string `json:"number"`
	State    string `json:"state"`
}

// TerminalKey is a terminal's key in a protocol, for people to type in.
type TerminalKey struct {
	Protocol string `json:"protocol"`
	Number   string `json:"number"`
	Key      string `json:"key"`
}

// Credential is what a caller proves itself with. Token is there once, in the answer that makes it.
type Credential struct {
	Merchant   string `json:"merchant"`
	ID         int64  `json:"id"`
	Protocol   string `json:"protocol"`
	Name       string `json:"name"`
	Terminal   string `json:"terminal,omitempty"`
	AllowedIPs string `json:"allowed_ips,omitempty"`
	State      string `json:"state"`
	ClientID   string `json:"client_id,omitempty"` // UQPAY's name of it.
	Token      string `json:"token,omitempty"`
}

// Code lets terminals activate themselves in a store.
type Code struct {
	Merchant string    `json:"merchant"`
	Store    string    `json:"store"`
	Protocol string    `json:"protocol"`
	App      string    `json:"app,omitempty"` // Only for terminals of this application; empty for any.
	Code     string    `json:"code"`
	Uses     int       `json:"uses"` // Left; 0 in a request for no limit.
	NoLimit  bool      `json:"no_limit,omitempty"`
	Expires  time.Time `json:"expires,omitzero"` // Zero for never.
	State    string    `json:"state"`
}

// Vendor is a software maker whose terminals may be activated.
type Vendor struct {
	Vendor string   `json:"vendor"`
	Name   string   `json:"name"`
	Apps   []string `json:"apps"`
	Key    string   `json:"key,omitempty"` // In the answer that makes it.
}

// Webhook is an address to which a merchant wants a protocol's events.
type Webhook struct {
	Merchant string   `json:"merchant"`
	ID       int64    `json:"id"`
	Protocol string   `json:"protocol"`
	URL      string   `json:"url"`
	Events   []string `json:"events,omitempty"`  // Empty for all.
	Seconds  bool     `json:"seconds,omitempty"` // Timestamps in seconds, for older clients.
	Secret   string   `json:"secret,omitempty"`  // In the answer that makes it.
}

// Entry is a journal entry. Its four amounts, in minor units, sum to zero.
type Entry struct {
	Payment    string    `json:"payment"`
	Operation  int64     `json:"operation"`
	Kind       string    `json:"kind"`
	Acquirer   string    `json:"acquirer"`
	Currency   string    `json:"currency"`
	Day        string    `json:"business_day"`
	Receivable int64     `json:"receivable"`
	Payable    int64     `json:"payable"`
	Fees       int64     `json:"fees"`
	Tips       int64     `json:"tips"`
	PostedAt   time.Time `json:"posted_at"`
}

// Balance sums a merchant's ledger in one currency, in minor units.
type Balance struct {
	Currency   string `json:"currency"`
	Receivable int64  `json:"receivable"`
	Payable    int64  `json:"payable"`
	Fees       int64  `json:"fees"`
	Tips       int64  `json:"tips"`
}

// Batch is a settlement batch. Debits are sales and captures, credits are refunds; amounts are minor units.
type Batch struct {
	Merchant    string    `json:"merchant"`
	Batch       string    `json:"batch"`
	Acquirer    string    `json:"acquirer"`
	Currency    string    `json:"currency"`
	Until       string    `json:"until"` // Its last business day.
	State       string    `json:"state"` // open, balanced or out_of_balance.
	Debits      int64     `json:"debits"`
	DebitMinor  int64     `json:"debit_minor"`
	Credits     int64     `json:"credits"`
	CreditMinor int64     `json:"credit_minor"`
	Uploaded    int       `json:"uploaded"` // Movements that were told one by one because the totals differed at first.
	Code        string    `json:"code"`     // The acquirer's last word.
	CreatedAt   time.Time `json:"created_at"`
	SettledAt   time.Time `json:"settled_at,omitzero"`
}

// CloseBatch asks to close what an acquirer has approved.
type CloseBatch struct {
	Acquirer string `json:"acquirer"`
	Until    string `json:"until,omitempty"` // Last business day, such as 2026-04-14; empty for all that is approved.
}

// Switch enables or disables a row.
type Switch struct {
	State string `json:"state"` // active or disabled.
}

// Problem is the answer to a call that was refused.
type Problem struct {
	Error string `json:"error"` // unauthorized, invalid, not_found, conflict, unavailable or internal.
	Field string `json:"field,omitempty"`
	Text  string `json:"text"`
}

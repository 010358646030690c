// Package ledger says what an approved operation does to a merchant's accounts: double-entry, in minor units, debits positive and
// credits negative, so that every entry sums to zero. It computes; the store keeps.
package ledger

import (
	"errors"
	"fmt"

	"github.com/tillgate/tillgate/money"
)

// ErrUnbalanced says that an entry's postings do not sum to zero, which is a programming error and is never stored.
var ErrUnbalanced = errors.New("ledger entry does not balance")

// Postings are the four accounts that a merchant has in each currency. A debit is positive, a credit negative.
type Postings struct {
	Receivable int64 // What the acquirer owes us.
	Payable    int64 // What we owe the merchant, tips apart: a credit balance.
	Fees       int64 // What we earned: a credit balance.
	Tips       int64 // What we owe the merchant for its staff: a credit balance.
}

// Sum is zero for every true entry, and for every sum of true entries.
func (p Postings) Sum() int64 { return p.Receivable + p.Payable + p.Fees + p.Tips }

// Plus adds account by account.
func (p Postings) Plus(q Postings) Postings {
	return Postings{p.Receivable + q.Receivable, p.Payable + q.Payable, p.Fees + q.Fees, p.Tips + q.Tips}
}

// Entry is the journal entry of one approved operation.
type Entry struct {
	Currency money.Currency
	Postings Postings
}

func entry(cur money.Currency, p Postings) (Entry, error) {
	if p.Sum() != 0 {
		return Entry{}, fmt.Errorf("%w: %+v", ErrUnbalanced, p)
	}
	return Entry{cur, p}, nil
}

// Capture is the entry of a sale or a capture: the acquirer owes the amount, of which the fee is ours and the tip the staff's.
func Capture(amount money.Amount, tip, fee int64) (Entry, error) {
	a := amount.Minor()
	return entry(amount.Currency(), Postings{Receivable: a, Payable: -(a - tip - fee), Fees: -fee, Tips: -tip})
}

// Refund is the entry of a refund: the merchant bears it whole, the fee stays with us (UPP and Upay seeds).
func Refund(amount money.Amount) (Entry, error) {
	a := amount.Minor()
	return entry(amount.Currency(), Postings{Receivable: -a, Payable: a})
}

// Void is the entry of giving back rest, all that is left of a captured payment: the fee is returned and the tip taken back.
func Void(rest money.Amount, tip, fee int64) (Entry, error) {
	a := rest.Minor()
	return entry(rest.Currency(), Postings{Receivable: -a, Payable: a - tip - fee, Fees: fee, Tips: tip})
}

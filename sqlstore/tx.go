package sqlstore

import (
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/tillgate/tillgate/ledger"
	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
)

// reader is a payment.Reader over one transaction.
type reader struct{ statements }

// txn is a payment.Tx over one transaction.
type txn struct {
	reader
	store *Store
}

var (
	_ payment.Reader = (*reader)(nil)
	_ payment.Tx     = (*txn)(nil)
)

// wrap says what was being done, unless all went well.
func wrap(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), err)
}

// errThere says that a row that was to be inserted is there already.
var errThere = fmt.Errorf("there already: %w", payment.ErrConflict)

// currency trusts what the store wrote, except that it must still be a currency.
func (r *row) currency() (money.Currency, error) {
	code := r.text()
	cur, err := money.ParseCurrency(code)
	if err != nil {
		return cur, fmt.Errorf("stored currency %q: %w", code, err)
	}
	return cur, nil
}

// Keys.

const selectKey = `SELECT merchant_id, scope, key, mac, payment_id, operation_id, closed_to, free_at, answer
FROM payment_keys WHERE merchant_id = $1 AND scope = $2 AND key = $3`

// Key finds a key.
func (r *reader) Key(merchant payment.MerchantID, key payment.Key) (payment.KeyRow, error) {
	var k payment.KeyRow
	err := r.one(func(r *row) (err error) {
		k.Merchant, k.Key.Scope, k.Key.Key = r.merchantID(), r.text(), r.text()
		mac := r.text()
		k.Payment, k.Operation, k.ClosedTo, k.FreeAt, k.Answer = r.id(), r.id(), r.time(), r.time(), r.raw()
		if mac != "" {
			k.MAC, err = hex.DecodeString(mac)
		}
		return err
	}, selectKey, int64(merchant), key.Scope, key.Key)
	return k, wrap(err, "key %s %q of merchant %d", key.Scope, key.Key, merchant)
}

var insertKey = `INSERT INTO payment_keys (merchant_id, scope, key, mac, payment_id, operation_id, closed_to, free_at, answer)
VALUES (` + params(9) + `) ON CONFLICT DO NOTHING`

// InsertKey stores a key, or returns the one that is there.
func (t *txn) InsertKey(row payment.KeyRow) (payment.KeyRow, bool, error) {
	fresh, err := t.insertNew(insertKey, int64(row.Merchant), row.Key.Scope, row.Key.Key, hex.EncodeToString(row.MAC), int64(row.Payment),
		int64(row.Operation), millis(row.ClosedTo), millis(row.FreeAt), string(row.Answer))
	if err != nil {
		return payment.KeyRow{}, false, wrap(err, "insert key %s %q of merchant %d", row.Key.Scope, row.Key.Key, row.Merchant)
	}
	if fresh {
		return row, true, nil
	}
	stored, err := t.Key(row.Merchant, row.Key)
	if errors.Is(err, payment.ErrNotFound) { // It has been taken away since.
		err = payment.ErrStoreConflict
	}
	return stored, false, err
}

const updateKey = `UPDATE payment_keys SET mac = $6, payment_id = $7, operation_id = $8, closed_to = $9, free_at = $10, answer = $11
WHERE merchant_id = $1 AND scope = $2 AND key = $3 AND payment_id = $4 AND operation_id = $5`

// UpdateKey lets a key stand for something else.
func (t *txn) UpdateKey(old, row payment.KeyRow) error {
	missed := func() error {
		return wrap(payment.ErrStoreConflict, "update key %s %q of merchant %d", old.Key.Scope, old.Key.Key, old.Merchant)
	}
	return t.must(missed, updateKey, int64(old.Merchant), old.Key.Scope, old.Key.Key, int64(old.Payment), int64(old.Operation),
		hex.EncodeToString(row.MAC), int64(row.Payment), int64(row.Operation), millis(row.ClosedTo), millis(row.FreeAt), string(row.Answer))
}

const keepAnswer = `UPDATE payment_keys SET answer = $6
WHERE merchant_id = $1 AND scope = $2 AND key = $3 AND payment_id = $4 AND operation_id = $5 AND answer = ''`

// KeepAnswer stores the answer to the request that took a key.
func (t *txn) KeepAnswer(merchant payment.MerchantID, key payment.Key, of, operation payment.ID, answer []byte) error {
	_, err := t.exec(keepAnswer, int64(merchant), key.Scope, key.Key, int64(of), int64(operation), string(answer))
	return wrap(err, "keep the answer of key %s %q of merchant %d", key.Scope, key.Key, merchant)
}

// Payments.

const paymentColumns = `merchant_id, id, version, state, protocol, key_scope, key, credential_id, store_id, terminal_id, number_prefix,
number_digits, currency, amount, tip, method, flow, attempt_id, authorize_only, retryable, captured, reserved, refunded, fee, fee_returned,
fee_millionths, fee_fixed, zone, cut_off, failure, failure_text, created_at, modified_at, expires_at, paid_at, business_day, due_at, echo, reference`

const selectPayment = `SELECT ` + paymentColumns + ` FROM payments WHERE merchant_id = $1 AND id = $2`

// Payment finds a payment.
func (r *reader) Payment(merchant payment.MerchantID, id payment.ID) (payment.Payment, error) {
	var p payment.Payment
	err := r.one(func(r *row) error {
		p.Merchant, p.ID, p.Version = r.merchantID(), r.id(), r.int()
		p.State, p.Protocol = payment.State(r.text()), r.text()
		p.Key.Scope, p.Key.Key = r.text(), r.text()
		p.Credential, p.Store, p.Terminal = r.id(), r.id(), r.id()
		p.Numbering.Prefix, p.Numbering.Digits = r.text(), int(r.int())
		cur, err := r.currency()
		p.Amount, p.Tip = money.New(r.int(), cur), r.int()
		p.Method, p.Flow, p.Attempt = r.text(), payment.Flow(r.text()), r.id()
		p.AuthorizeOnly, p.Retryable = r.flag(), r.flag()
		p.Captured, p.Reserved, p.Refunded = r.int(), r.int(), r.int()
		p.Fee, p.FeeReturned = r.int(), r.flag()
		p.Rate.Millionths, p.Rate.Fixed = r.int(), r.int()
		p.Calendar.Zone, p.Calendar.CutOff = r.text(), r.duration()
		p.Failure, p.FailureText = payment.Reason(r.text()), r.text()
		p.CreatedAt, p.ModifiedAt, p.ExpiresAt, p.PaidAt = r.time(), r.time(), r.time(), r.time()
		p.Day, p.DueAt, p.Echo, p.Reference = payment.Day(r.int()), r.time(), r.raw(), r.text()
		return err
	}, selectPayment, int64(merchant), int64(id))
	return p, wrap(err, "payment %d of merchant %d", id, merchant)
}

var insertPayment = `INSERT INTO payments (` + paymentColumns + `, ` + firstColumns + `) VALUES (` + params(63) + `) ON CONFLICT DO NOTHING`

// InsertPayment stores a new payment as it is, its version too, with its first attempt.
func (t *txn) InsertPayment(p *payment.Payment, first *payment.Operation) error {
	merchant, id := p.Merchant, p.ID
	missed := func() error { return wrap(errThere, "insert payment %d of merchant %d", id, merchant) }
	args := append(make([]any, 0, 63),
		int64(p.Merchant), int64(p.ID), p.Version, string(p.State), p.Protocol, p.Key.Scope, p.Key.Key, int64(p.Credential), int64(p.Store),
		int64(p.Terminal), p.Numbering.Prefix, int64(p.Numbering.Digits), p.Amount.Currency().Code(), p.Amount.Minor(), p.Tip, p.Method,
		string(p.Flow), int64(p.Attempt), bit(p.AuthorizeOnly), bit(p.Retryable), p.Captured, p.Reserved, p.Refunded, p.Fee,
		bit(p.FeeReturned), p.Rate.Millionths, p.Rate.Fixed, p.Calendar.Zone, p.Calendar.CutOff.Milliseconds(), string(p.Failure),
		p.FailureText, millis(p.CreatedAt), millis(p.ModifiedAt), millis(p.ExpiresAt), millis(p.PaidAt), int64(p.Day), millis(p.DueAt),
		string(p.Echo), p.Reference)
	if first == nil {
		args = append(args, noFirst...)
	} else {
		var err error
		var term int64
		if term, err = t.term(first); err != nil {
			return err
		}
		if args, err = t.first(args, p.Merchant, p.ID, first, term); err != nil {
			return err
		}
	}
	return t.must(missed, insertPayment, args...)
}

// paymentChanges leave alone what a payment is born with: its names, its numbering, currency, calendar, time of birth and echo.
const paymentChanges = `state, amount, tip, method, flow, attempt_id, authorize_only, retryable, captured, reserved, refunded, fee,
fee_returned, fee_millionths, fee_fixed, failure, failure_text, modified_at, expires_at, paid_at, business_day, due_at`

var (
	updatePayment = `UPDATE payments SET version = version + 1, ` + assign(paymentChanges, 4) + `
WHERE merchant_id = $1 AND id = $2 AND version = $3`

	updatePaymentAndFirst = `UPDATE payments SET version = version + 1, first_version = first_version + 1, ` +
		assign(paymentChanges+`, `+firstChanges, 5) + `
WHERE merchant_id = $1 AND id = $2 AND version = $3 AND first_version = $4 AND first_kind <> ''`
)

// UpdatePayment writes what may have changed of a payment and of its first attempt, if the versions are still those read.
func (t *txn) UpdatePayment(p *payment.Payment, first *payment.Operation) error {
	merchant, id := p.Merchant, p.ID
	missed := func() error { return wrap(payment.ErrStoreConflict, "update payment %d of merchant %d", id, merchant) }
	text := updatePayment
	args := append(make([]any, 0, 40), int64(p.Merchant), int64(p.ID), p.Version)
	if first != nil {
		text = updatePaymentAndFirst
		args = append(args, first.Version)
	}
	args = append(args, string(p.State), p.Amount.Minor(), p.Tip, p.Method,
		string(p.Flow), int64(p.Attempt), bit(p.AuthorizeOnly), bit(p.Retryable), p.Captured, p.Reserved, p.Refunded, p.Fee,
		bit(p.FeeReturned), p.Rate.Millionths, p.Rate.Fixed, string(p.Failure), p.FailureText, millis(p.ModifiedAt), millis(p.ExpiresAt),
		millis(p.PaidAt), int64(p.Day), millis(p.DueAt))
	if first != nil {
		var err error
		if args, err = t.firstChange(args, p.Merchant, p.ID, first); err != nil {
			return err
		}
	}
	if err := t.must(missed, text, args...); err != nil {
		return err
	}
	p.Version++
	if first != nil {
		first.Version++
	}
	return nil
}

const amendPayment = `UPDATE payments SET version = version + 1, currency = $4, amount = $5, tip = $6, reference = $7, echo = $8, modified_at = $9
WHERE merchant_id = $1 AND id = $2 AND version = $3`

// AmendPayment writes what an open payment asks for, if the version is still the one read.
func (t *txn) AmendPayment(p *payment.Payment) error {
	merchant, id := p.Merchant, p.ID
	missed := func() error { return wrap(payment.ErrStoreConflict, "amend payment %d of merchant %d", id, merchant) }
	err := t.must(missed, amendPayment, int64(p.Merchant), int64(p.ID), p.Version, p.Amount.Currency().Code(), p.Amount.Minor(), p.Tip, p.Reference,
		string(p.Echo), millis(p.ModifiedAt))
	if err != nil {
		return err
	}
	p.Version++
	return nil
}

// Operations. A payment's first attempt lives in the payment's row, where its columns begin with first_; all others have rows of their own.
// The view operations reads both.

const operationColumns = `merchant_id, payment_id, id, version, kind, state, target_id, key_scope, key, number, round, acquirer, currency,
amount, rest, failure, failure_text, result, business_day, created_at, settled_at, due_at, owner, tries, flagged, echo, sent_at, card, sealed`

const (
	selectOperation = `SELECT ` + operationColumns + ` FROM operations WHERE merchant_id = $1 AND payment_id = $2 AND id = $3`

	selectOperations = `SELECT ` + operationColumns + ` FROM operations WHERE merchant_id = $1 AND payment_id = $2 ORDER BY id`

	selectOperationByID = `SELECT ` + operationColumns + ` FROM later_operations WHERE merchant_id = $1 AND id = $2 AND id <> payment_id`
)

func (r *row) operation() (payment.Operation, error) {
	var o payment.Operation
	o.Merchant, o.Payment, o.ID, o.Version = r.merchantID(), r.id(), r.id(), r.int()
	o.Kind, o.State = payment.Kind(r.text()), payment.OperationState(r.text())
	o.Target, o.Key.Scope, o.Key.Key = r.id(), r.text(), r.text()
	o.Number, o.Round, o.Acquirer = r.text(), int(r.int()), r.text()
	cur, curErr := r.currency()
	var sealedErr error
	o.Amount, o.Rest = money.New(r.int(), cur), r.flag()
	o.Failure, o.FailureText = payment.Reason(r.text()), r.text()
	err := r.decode("result", &o.Result)
	o.Day, o.CreatedAt, o.SettledAt = payment.Day(r.int()), r.time(), r.time()
	o.DueAt, o.Owner, o.Tries, o.Flagged = r.time(), r.int(), int(r.int()), r.flag()
	o.Echo, o.SentAt = r.raw(), r.time()
	cardErr := r.decode("card", &o.Card)
	o.Sealed, sealedErr = hexBytes(r.text())
	return o, errors.Join(curErr, err, cardErr, sealedErr)
}

// hexBytes reads bytes that are stored as hexadecimal text; ” stands for none.
func hexBytes(text string) ([]byte, error) {
	if text == "" {
		return nil, nil
	}
	return hex.DecodeString(text)
}

// OperationByID finds an operation by its own ID: a payment's first attempt has the payment's.
func (r *reader) OperationByID(merchant payment.MerchantID, id payment.ID) (payment.Operation, error) {
	o, err := r.Operation(merchant, id, id)
	if !errors.Is(err, payment.ErrNotFound) {
		return o, err
	}
	err = r.one(func(r *row) (err error) {
		o, err = r.operation()
		return err
	}, selectOperationByID, int64(merchant), int64(id))
	return o, wrap(err, "operation %d of merchant %d", id, merchant)
}

// Operation finds an operation of a payment.
func (r *reader) Operation(merchant payment.MerchantID, of, id payment.ID) (payment.Operation, error) {
	var o payment.Operation
	err := r.one(func(r *row) (err error) {
		o, err = r.operation()
		return err
	}, selectOperation, int64(merchant), int64(of), int64(id))
	return o, wrap(err, "operation %d of payment %d of merchant %d", id, of, merchant)
}

// Operations lists a payment's operations in the order of their IDs.
func (r *reader) Operations(merchant payment.MerchantID, of payment.ID) ([]payment.Operation, error) {
	var list []payment.Operation
	err := r.query(func(r *row) error {
		o, err := r.operation()
		list = append(list, o)
		return err
	}, selectOperations, int64(merchant), int64(of))
	return list, wrap(err, "operations of payment %d of merchant %d", of, merchant)
}

// missedOperation says of which operation no row was changed.
func missedOperation(err error, what string, o *payment.Operation) func() error {
	merchant, of, id := o.Merchant, o.Payment, o.ID
	return func() error { return wrap(err, "%s operation %d of payment %d of merchant %d", what, id, of, merchant) }
}

const (
	firstColumns = `first_version, first_kind, first_state, first_number, first_acquirer, first_currency, first_amount, first_failure,
first_failure_text, first_result, first_business_day, first_created_at, first_settled_at, first_due_at, first_owner, first_tries,
first_flagged, first_sent_at, first_card, first_sealed, first_free_at, first_held_at, first_vain_at, first_term`

	// firstChanges are to firstColumns as operationChanges are to operationColumns.
	firstChanges = `first_state, first_number, first_acquirer, first_amount, first_failure, first_failure_text, first_result,
first_business_day, first_settled_at, first_due_at, first_owner, first_tries, first_flagged, first_sent_at,
first_free_at, first_held_at, first_vain_at`
)

// noFirst are the firstColumns of a payment without attempts.
var noFirst = []any{int64(0), "", "", "", "", "", int64(0), "", "", "", int64(0), int64(0), int64(0), int64(0), int64(0), int64(0), int64(0),
	int64(0), "", "", int64(0), int64(0), int64(0), int64(0)}

// isFirst fails unless an operation can live in its payment's row. What has no column there would be lost.
func (t *txn) isFirst(m payment.MerchantID, of payment.ID, o *payment.Operation) error {
	same := o.Merchant == m && o.Payment == of && o.ID == of
	plain := o.Target == 0 && o.Key == (payment.Key{}) && o.Round == 0 && !o.Rest && len(o.Echo) == 0
	if same && plain && o.Kind.IsAttempt() && o.State != "" {
		return nil
	}
	t.failed = fmt.Errorf("operation %d as the first attempt of payment %d of merchant %d: %w", o.ID, of, m, errRefused)
	return t.failed
}

// documents are the parts of an operation that are stored as JSON.
func documents(o *payment.Operation) (result, card string, err error) {
	if result, err = encodeJSON(o.Result); err != nil {
		return "", "", wrap(err, "result of operation %d", o.ID)
	}
	card, err = encodeJSON(o.Card)
	return result, card, wrap(err, "card of operation %d", o.ID)
}

// first appends the firstColumns of an attempt. In a term it is not listed as due.
func (t *txn) first(args []any, m payment.MerchantID, of payment.ID, o *payment.Operation, term int64) ([]any, error) {
	if err := t.isFirst(m, of, o); err != nil {
		return nil, err
	}
	result, card, err := documents(o)
	if err != nil {
		return nil, err
	}
	free, held, vain := dueColumns(o)
	if term > 0 {
		free, held = 0, 0
	}
	return append(args, o.Version, string(o.Kind), string(o.State), o.Number, o.Acquirer, o.Amount.Currency().Code(), o.Amount.Minor(),
		string(o.Failure), o.FailureText, result, int64(o.Day), millis(o.CreatedAt), millis(o.SettledAt), millis(o.DueAt), o.Owner,
		int64(o.Tries), bit(o.Flagged), millis(o.SentAt), card, hex.EncodeToString(o.Sealed), free, held, vain, term), nil
}

// firstChange appends the firstChanges of an attempt.
func (t *txn) firstChange(args []any, m payment.MerchantID, of payment.ID, o *payment.Operation) ([]any, error) {
	if err := t.isFirst(m, of, o); err != nil {
		return nil, err
	}
	result, err := encodeJSON(o.Result)
	if err != nil {
		return nil, wrap(err, "result of operation %d", o.ID)
	}
	free, held, vain := dueColumns(o)
	return append(args, string(o.State), o.Number, o.Acquirer, o.Amount.Minor(), string(o.Failure), o.FailureText, result, int64(o.Day),
		millis(o.SettledAt), millis(o.DueAt), o.Owner, int64(o.Tries), bit(o.Flagged), millis(o.SentAt), free, held, vain), nil
}

var (
	insertFirst = `UPDATE payments SET ` + assign(firstColumns, 3) + ` WHERE merchant_id = $1 AND id = $2 AND first_kind = ''`

	insertOperation = `INSERT INTO later_operations (` + operationColumns + `) VALUES (` + params(29) + `) ON CONFLICT DO NOTHING`
)

// InsertOperation stores a new operation as it is, its version too.
func (t *txn) InsertOperation(o *payment.Operation) error {
	if o.ID == o.Payment {
		args, err := t.first([]any{int64(o.Merchant), int64(o.Payment)}, o.Merchant, o.Payment, o, 0)
		if err != nil {
			return err
		}
		return t.must(missedOperation(errThere, "insert", o), insertFirst, args...)
	}
	result, card, err := documents(o)
	if err != nil {
		return err
	}
	missed := missedOperation(errThere, "insert", o)
	return t.must(missed, insertOperation, int64(o.Merchant), int64(o.Payment), int64(o.ID), o.Version, string(o.Kind), string(o.State),
		int64(o.Target), o.Key.Scope, o.Key.Key, o.Number, int64(o.Round), o.Acquirer, o.Amount.Currency().Code(), o.Amount.Minor(),
		bit(o.Rest), string(o.Failure), o.FailureText, result, int64(o.Day), millis(o.CreatedAt), millis(o.SettledAt), millis(o.DueAt),
		o.Owner, int64(o.Tries), bit(o.Flagged), string(o.Echo), millis(o.SentAt), card, hex.EncodeToString(o.Sealed))
}

// operationChanges leave alone what an operation is born with: its names, kind, target, currency, time of birth, echo and card.
const operationChanges = `state, number, round, acquirer, amount, rest, failure, failure_text, result, business_day, settled_at, due_at, owner,
tries, flagged, sent_at`

var (
	updateFirst = `UPDATE payments SET first_version = first_version + 1, ` + assign(firstChanges, 4) + `
WHERE merchant_id = $1 AND id = $2 AND first_version = $3 AND first_kind <> ''`

	updateOperation = `UPDATE later_operations SET version = version + 1, ` + assign(operationChanges, 5) + `
WHERE merchant_id = $1 AND payment_id = $2 AND id = $3 AND version = $4`
)

// UpdateOperation writes what may have changed, if the version is still the one read.
func (t *txn) UpdateOperation(o *payment.Operation) error {
	text, args, err := t.operationChange(o)
	if err != nil {
		return err
	}
	if err := t.must(missedOperation(payment.ErrStoreConflict, "update", o), text, args...); err != nil {
		return err
	}
	o.Version++
	return nil
}

func (t *txn) operationChange(o *payment.Operation) (text string, args []any, err error) {
	if o.ID == o.Payment {
		args, err = t.firstChange([]any{int64(o.Merchant), int64(o.Payment), o.Version}, o.Merchant, o.Payment, o)
		return updateFirst, args, err
	}
	result, err := encodeJSON(o.Result)
	return updateOperation, []any{int64(o.Merchant), int64(o.Payment), int64(o.ID), o.Version, string(o.State), o.Number, int64(o.Round), o.Acquirer,
		o.Amount.Minor(), bit(o.Rest), string(o.Failure), o.FailureText, result, int64(o.Day), millis(o.SettledAt), millis(o.DueAt), o.Owner,
		int64(o.Tries), bit(o.Flagged), millis(o.SentAt)}, wrap(err, "result of operation %d", o.ID)
}

// Ledger.

var insertEntry = `INSERT INTO ledger_entries (merchant_id, payment_id, operation_id, currency, acquirer, business_day, receivable, payable,
fees, tips, posted_at) VALUES (` + params(11) + `) ON CONFLICT DO NOTHING`

// Post stores the journal entry of an approved operation. A second one for the same operation is refused with payment.ErrConflict.
func (t *txn) Post(o *payment.Operation, e ledger.Entry, at time.Time) error {
	return t.must(missedOperation(errThere, "post", o), insertEntry, int64(o.Merchant), int64(o.Payment), int64(o.ID), e.Currency.Code(), o.Acquirer, int64(o.Day),
		e.Postings.Receivable, e.Postings.Payable, e.Postings.Fees, e.Postings.Tips, millis(at))
}

// PostgreSQL sums BIGINT as NUMERIC, hence the casts.
const selectBalances = `SELECT currency, CAST(SUM(receivable) AS BIGINT), CAST(SUM(payable) AS BIGINT), CAST(SUM(fees) AS BIGINT),
CAST(SUM(tips) AS BIGINT) FROM ledger_entries WHERE merchant_id = $1 GROUP BY currency`

// Balances sums a merchant's ledger by currency code.
func (r *reader) Balances(merchant payment.MerchantID) (map[string]ledger.Postings, error) {
	sums := map[string]ledger.Postings{}
	err := r.query(func(r *row) error {
		sums[r.text()] = ledger.Postings{Receivable: r.int(), Payable: r.int(), Fees: r.int(), Tips: r.int()}
		return nil
	}, selectBalances, int64(merchant))
	return sums, wrap(err, "balances of merchant %d", merchant)
}

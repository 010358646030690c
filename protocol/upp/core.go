package upp

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/tillgate/tillgate/internal/strictjson"
	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
)

// Protocol is the name of this protocol in credentials and payments. A credential of PublicProtocol is a browser-safe token (§2): it
// authorises none of the endpoints.
const (
	Protocol       = "upp"
	PublicProtocol = "upp-public"
)

// scope is the one namespace that purchases and refunds share (§6.1).
const scope = "upp"

// numbering makes outTradeNumber: 16 digits that begin with 8010 (§3.1).
var numbering = payment.Numbering{Prefix: "8010", Digits: 12}

// Times of the interface.
const (
	cancelWindow = 24 * time.Hour   // UPP seed, Cancel: from created, inclusive (§6.2)
	createWait   = 28 * time.Second // a create is held at most 30 s (§3.2); the rest is for the way
	pollWait     = 29 * time.Second // §3.6: so that the total stays within 30 s

	lifetimeQR     = 2 * time.Hour     // a QR code that the merchant shows (§3.9)
	lifetimeZippay = 120 * time.Second // §3.9
	lifetimeCode   = 5 * time.Minute   // other codes that the customer shows (§3.9)
)

// Core is what this protocol needs of the payment engine.
type Core interface {
	Caller(ctx context.Context, protocol, secret string) (payment.Caller, error)
	Sell(ctx context.Context, cmd payment.SaleCommand) (payment.View, error)
	Refund(ctx context.Context, cmd payment.RefundCommand) (payment.RefundView, error)
	Cancel(ctx context.Context, cmd payment.CancelCommand) (payment.View, error)
	Find(ctx context.Context, m payment.MerchantID, key payment.Key) (payment.View, *payment.Operation, error)
	Await(ctx context.Context, m payment.MerchantID, id payment.ID, limit time.Duration, done func(payment.View) bool) (payment.View, error)
	AwaitRefund(ctx context.Context, m payment.MerchantID, p, id payment.ID, limit time.Duration, done func(payment.RefundView) bool) (payment.RefundView, error)
	Watch(ctx context.Context, m payment.MerchantID, id payment.ID, limit time.Duration, done func(payment.View) bool, then func(payment.View, error)) (end func())
	WatchRefund(ctx context.Context, m payment.MerchantID, p, id payment.ID, limit time.Duration, done func(payment.RefundView) bool, then func(payment.RefundView, error)) (end func())
}

var _ Core = (*payment.Engine)(nil)

func keyOf(reference string) payment.Key { return payment.Key{Scope: scope, Key: reference} }

// memo is what the core keeps for us with a payment or refund: the echo, and the TID of the terminal whose token asked. Every answer begins
// with them.
type memo struct {
	terminal string
	echo     Echo
}

// Members of a memo.
const (
	memoTerminal = "terminal"
	memoRequest  = "request"
)

func memoOf(r *CreateRequest, c payment.Caller, clientIP string) memo {
	e := r.Echo()
	if e.ClientIPAddress == nil {
		e.ClientIPAddress = &clientIP // §3.1: filled with the caller's address.
	}
	return memo{c.Terminal.PublicID, e}
}

// encode is the memo as it is kept.
func (m memo) encode() (json.RawMessage, error) {
	echo, err := m.echo.Encode()
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, `{"%s":%s,"%s":%s}`, memoTerminal, strictjson.Quote(m.terminal), memoRequest, echo), nil
}

// readMemo reads the memo and the echo in it at once.
func readMemo(stored json.RawMessage) (memo, error) {
	v, err := parse(stored)
	if err != nil {
		return memo{}, fmt.Errorf("upp: stored memo: %w", err)
	}
	terminal, ok := v.Get(memoTerminal)
	if ok && terminal.Kind != strictjson.String {
		return memo{}, fmt.Errorf("upp: stored memo: %s is %s", memoTerminal, terminal.Kind)
	}
	request, _ := v.Get(memoRequest)
	if request.Kind != strictjson.Object {
		return memo{}, fmt.Errorf("upp: stored memo: %s is %s", memoRequest, request.Kind)
	}
	e, err := echoOf(request)
	return memo{terminal.Text, e}, err
}

// saleCommand is a purchase in the core's words.
func saleCommand(r *CreateRequest, c payment.Caller, m memo, wait time.Duration) (payment.SaleCommand, error) {
	amount, err := r.Sum()
	if err != nil {
		return payment.SaleCommand{}, err
	}
	echo, err := m.encode()
	if err != nil {
		return payment.SaleCommand{}, err
	}
	cmd := payment.SaleCommand{Caller: c, Key: keyOf(r.TransactionReference), Request: r.Canonical(), Numbering: numbering, Amount: amount,
		Method: r.ProviderName(), Flow: payment.ByQR, Lifetime: lifetimeQR, Wait: wait, Echo: echo}
	if r.IsWebsite() {
		err := website(&cmd, r)
		return cmd, err
	}
	if r.SaleType == SaleCustomerPresented {
		cmd.Flow, cmd.Instrument, cmd.Lifetime = payment.ByCode, payment.WalletCode(r.CustomerToken), lifetimeCode
		if cmd.Method == ProviderZippay {
			cmd.Lifetime = lifetimeZippay
		}
	}
	return cmd, nil
}

// refundCommand is a refund in the core's words.
func refundCommand(r *CreateRequest, c payment.Caller, clientIP string, wait time.Duration) (payment.RefundCommand, error) {
	amount, err := r.Sum()
	if err != nil {
		return payment.RefundCommand{}, err
	}
	echo, err := memoOf(r, c, clientIP).encode()
	return payment.RefundCommand{Caller: c, Key: keyOf(r.TransactionReference), Request: r.Canonical(),
		Original: keyOf(r.OriginalTransactionReference), Amount: amount, Wait: wait, Echo: echo}, err
}

// wireState is a payment's state on the wire (§4). Approved absent is pending.
type wireState struct {
	approved  *bool
	cancelled bool
}

var yes, no = new(true), new(false)

// wireStates is the one table from core state to wire state. Open and authorized are pending: unknown and reversing attempts hide in
// them, or behind a cancel that has been answered.
var wireStates = map[payment.State]wireState{
	payment.Open:       {},
	payment.Authorized: {},
	payment.Captured:   {approved: yes},
	payment.Refused:    {approved: no},
	payment.Expired:    {approved: no},
	payment.Cancelled:  {approved: no, cancelled: true},
	payment.Voided:     {approved: no, cancelled: true},
}

// failures is the one table from the core's reasons to those of §5.
var failures = map[payment.Reason]Failure{
	payment.ReasonDeclined:          FailDeclined,
	payment.ReasonRisk:              FailRiskDeclined,
	payment.ReasonInsufficientFunds: FailInsufficientFunds,
	payment.ReasonUnavailable:       FailProviderUnavailable,
	payment.ReasonLimitExceeded:     FailLimitExceeded,
	payment.ReasonCardExpired:       FailCardExpired,
	payment.ReasonCardInvalid:       FailCustomerTokenInvalid,
	payment.ReasonCardBlocked:       FailDeclined,
	payment.ReasonNotPermitted:      FailDeclined,
	payment.ReasonRefer:             FailDeclined,
	payment.ReasonPINWrong:          FailDeclined,
	payment.ReasonPINTries:          FailDeclined,
	payment.ReasonPINNeeded:         FailDeclined,
	payment.ReasonPartial:           FailDeclined,
	payment.ReasonDuplicate:         FailDuplicateReference,
	payment.ReasonAmountTooLow:      FailAmountTooLow,
	payment.ReasonAmountTooHigh:     FailAmountTooHigh,
	payment.ReasonCodeInvalid:       FailCustomerTokenInvalid,
	payment.ReasonCodeUsed:          FailCustomerTokenUsed,
	payment.ReasonCodeExpired:       FailCustomerTokenExpired,
	payment.ReasonCodeCancelled:     FailCustomerTokenCancelled,
	payment.ReasonCustomerCancelled: FailCustomerCancelled,
	payment.ReasonExpired:           FailExpired,
	payment.ReasonCancelled:         FailCancelled,
	payment.ReasonRefundExceeds:     FailAlreadyRefunded,
}

// textDeclined is for people where an acquirer gave no words of its own.
const textDeclined = "The provider declined it."

func failure(r payment.Reason) Failure {
	if f, ok := failures[r]; ok {
		return f
	}
	return FailDeclined
}

// refusals is the one table from the core's errors to §5. A refund's errors are looked up in refundRefusals first.
var refusals = []struct {
	err     error
	failure Failure
	text    string
}{
	{payment.ErrNotFound, FailTransactionNotFound, "There is no transaction with this reference."},
	{payment.ErrInvalid, FailInvalidRequest, "The request cannot be carried out as it is."},
	{payment.ErrKeyReused, FailReferenceConflict, "Already used with different content."},
	{payment.ErrKeyBusy, FailReferenceConflict, "An equal request is still unresolved; fetch it."},
	{payment.ErrNotPaid, FailOriginalNotApproved, "The original transaction is not an approved purchase."},
	{payment.ErrExceeds, FailRefundAmountExceeded, "The amount is more than is left of the original transaction."},
	{payment.ErrWrongKind, FailRefundCannotBeCancelled, "Only purchases can be cancelled."},
	{payment.ErrConflict, FailReferenceConflict, "The transaction's state does not allow this."},
	{payment.ErrWindow, FailCancelWindowExpired, "The transaction is older than 24 hours; refund it instead."},
	{payment.ErrMethod, FailUnsupportedProvider, "provider is not enabled for this merchant."},
	{payment.ErrCurrency, FailUnsupportedCurrency, "currency is not accepted here."},
	{payment.ErrUnauthorized, FailUnauthorised, "The bearer token is not known."},
	{payment.ErrForbidden, FailForbidden, "The token, or its merchant, store or terminal, is disabled."},
	{payment.ErrUnavailable, FailServiceUnavailable, "Nothing was started; send the same request again."},
}

var refundRefusals = []struct {
	err     error
	failure Failure
	text    string
}{
	{payment.ErrNotFound, FailOriginalNotFound, "originalTransactionReference is not known."},
	{payment.ErrWindow, FailRefundWindowExpired, "The original transaction is too old to be refunded."},
	{payment.ErrCurrency, FailUnsupportedCurrency, "currency must be that of the original transaction."},
}

// refusal is the wire's word for an error. Nil means that it is none the caller can do something about.
func refusal(err error, refund bool) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	var field *payment.FieldError
	if errors.As(err, &field) {
		f := FailInvalidRequest
		if field.Field == "amount" {
			f = FailInvalidAmount // §5
		}
		return refuse(f, field.Field, "%s.", field.Problem)
	}
	if refund {
		for _, r := range refundRefusals {
			if errors.Is(err, r.err) {
				return Refuse(r.failure, "%s", r.text)
			}
		}
	}
	for _, r := range refusals {
		if errors.Is(err, r.err) {
			return Refuse(r.failure, "%s", r.text)
		}
	}
	return nil
}

// conflict is the refusal of a reference that stands for another request: it names the fields that differ.
func conflict(reused *payment.KeyReusedError, r *CreateRequest) *Error {
	stored := reused.Payment.Echo
	if reused.Refund != nil {
		stored = reused.Refund.Echo
	}
	if m, err := readMemo(stored); err == nil {
		return Conflict(m.echo, r.Echo())
	}
	return Refuse(FailReferenceConflict, "Already used with different content.")
}

// purchaseTransaction is a payment as the transaction object of §3.1.
func purchaseTransaction(v payment.View, m memo, c payment.Caller) (_ *Transaction, err error) {
	p, a := v.Payment, v.Attempt
	state, ok := wireStates[p.State]
	if !ok {
		return nil, fmt.Errorf("upp: payment %d is %s", p.ID, p.State)
	}
	modified := p.ModifiedAt
	if p.State == payment.Captured {
		modified = a.SettledAt // A refund does not change the purchase (§3.4), though it changes what is left of the payment.
	}
	t := m.echo.Transaction()
	common(&t, c, m.terminal, p.Number(), p.CreatedAt, modified)
	t.Approved, t.Cancelled = state.approved, state.cancelled
	t.Provider = cmp.Or(t.Provider, p.Method) // A website's widget names it in its own fields (§3.3).
	t.MerchantToken = a.Result.QR
	if t.Pending() {
		t.SendCustomerToURL = a.Result.Redirect // Once it is decided no redirect is needed (§3.1).
	}
	if p.State == payment.Captured {
		t.SettlementAmount, t.AmountCaptured = captured(p), captured(p)
	}
	if p.Day != 0 { // It was approved once; a cancel keeps what was learned then (§4).
		t.PaymentTime, t.SettlementBatch = p.PaidAt.UnixMilli(), p.Day.String()
		t.ProviderReference = a.Result.ProviderReference
		t.ExchangeDetails, err = exchange(a.Result.Exchange, TypePurchase)
		if a.Result.PayerID != "" {
			t.BuyerIdentity = p.Method + "-" + a.Result.PayerID
		}
	}
	if p.State == payment.Refused {
		t.ProviderReference = a.Result.ProviderReference
	}
	if state.approved != nil && !*state.approved {
		t.Failure, t.FailureDescription = failure(p.Failure), cmp.Or(p.FailureText, textDeclined)
	}
	return &t, err
}

func captured(p payment.Payment) Number { return NumberOf(money.New(p.Captured, p.Amount.Currency())) }

// refundTransaction is a refund as the transaction object of §3.1: provider and sale type come from the purchase.
func refundTransaction(v payment.RefundView, c payment.Caller) (*Transaction, error) {
	m, err := readMemo(v.Refund.Echo)
	if err != nil {
		return nil, err
	}
	original, err := readMemo(v.Payment.Echo)
	if err != nil {
		return nil, err
	}
	op := v.Refund
	t := m.echo.Transaction()
	modified := op.CreatedAt
	if !op.SettledAt.IsZero() {
		modified = op.SettledAt
	}
	common(&t, c, m.terminal, v.Payment.Numbering.Number(op.ID), op.CreatedAt, modified)
	t.Provider, t.SaleType = cmp.Or(original.echo.Provider, v.Payment.Method), original.echo.SaleType
	t.OriginalOutTradeNumber = v.Payment.Number()
	switch op.State {
	case payment.Approved:
		t.Approved = yes
		t.SettlementAmount, t.AmountCaptured = NumberOf(op.Amount), NumberOf(op.Amount)
		t.PaymentTime, t.SettlementBatch = op.SettledAt.UnixMilli(), op.Day.String()
		t.ProviderReference = op.Result.ProviderReference
		t.ExchangeDetails, err = exchange(op.Result.Exchange, TypeRefund)
	case payment.Declined:
		t.Approved = no
		t.Failure, t.FailureDescription = failure(op.Failure), cmp.Or(op.FailureText, textDeclined)
	}
	return &t, err
}

// common sets what purchases and refunds have alike.
func common(t *Transaction, c payment.Caller, terminal, number string, created, modified time.Time) {
	t.OutTradeNumber, t.Created, t.Modified = number, created.UnixMilli(), modified.UnixMilli()
	t.SettlementAmount, t.AmountCaptured = "0", "0"
	t.CompanyName, t.MerchantName, t.MerchantID = c.Merchant.CompanyName, c.Merchant.Name, c.Merchant.PublicID
	t.TerminalID = terminal
}

func exchange(x *payment.Exchange, transactionType string) (*ExchangeDetails, error) {
	if x == nil {
		return nil, nil
	}
	cur, err := money.ParseCurrency(x.Currency)
	if err != nil {
		return nil, fmt.Errorf("upp: stored exchange in %s: %w", strconv.Quote(x.Currency), err)
	}
	return &ExchangeDetails{ExchangeRate: x.Rate, PurchaserBillingAmount: BillingOf(money.New(x.AmountMinor, cur), transactionType),
		PurchaserBillingCurrency: x.Currency}, nil
}

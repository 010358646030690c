package iotpay

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
)

// Protocol is the name of this protocol in credentials, identities and payments.
const Protocol = "iotpay"

// Scopes of keys (design 4.1): an order's number and a refund's may be the same.
const (
	scopeOrder    = "iotpay"
	scopeRefund   = "iotpay-refund"
	scopeReceipt  = "iotpay-receipt"  // What the terminal told of a card order, under the payment's number.
	scopeNotified = "iotpay-notified" // That the merchant has acknowledged the notification, under the payment's number.
)

// keepFor is how long receipts and acknowledgements are kept: longer than an order can be refunded.
const keepFor = 400 * 24 * time.Hour

// Core is what this protocol needs of the payment engine.
type Core interface {
	Begin(ctx context.Context, cmd payment.SaleCommand) (payment.View, error)
	Sell(ctx context.Context, cmd payment.SaleCommand) (payment.View, error)
	Refund(ctx context.Context, cmd payment.RefundCommand) (payment.RefundView, error)
	Cancel(ctx context.Context, cmd payment.CancelCommand) (payment.View, error)
	Find(ctx context.Context, m payment.MerchantID, key payment.Key) (payment.View, *payment.Operation, error)
	Await(ctx context.Context, m payment.MerchantID, id payment.ID, limit time.Duration, done func(payment.View) bool) (payment.View, error)
	Keep(ctx context.Context, m payment.MerchantID, key payment.Key, request, answer []byte, life time.Duration) error
	Recall(ctx context.Context, m payment.MerchantID, key payment.Key, request []byte) (payment.Kept, error)
}

var _ Core = (*payment.Engine)(nil)

// Books is what this protocol reads beside the engine's commands: refunds by their own number. A payment.Store is one.
type Books interface {
	Read(ctx context.Context, fn func(payment.Reader) error) error
}

// memo is what the core keeps for us with a payment: what every answer about it repeats. It never holds a payment code.
type memo struct {
	Channel   string `json:"channel"`
	MchID     string `json:"mch_id"`
	UserName  string `json:"user_name,omitempty"`
	StoreID   string `json:"store_id,omitempty"`
	DeviceID  string `json:"device_id,omitempty"`
	ClientIP  string `json:"client_ip,omitempty"`
	NotifyURL string `json:"notify_url,omitempty"`
	Subject   string `json:"subject,omitempty"`
	Body      string `json:"body,omitempty"`
	Param1    string `json:"param1,omitempty"`
	Param2    string `json:"param2,omitempty"`
	Remarks   string `json:"remarks,omitempty"`
	Extra     string `json:"extra,omitempty"` // The request's; a card order's answers have one of their own instead.
	TermNum   string `json:"term_num,omitempty"`
	BankTerm  string `json:"bank_term,omitempty"`
}

func memoOf(o *CreateOrder, c channel, caller payment.Caller) memo {
	m := memo{Channel: c.id, MchID: o.MchID, UserName: o.JobNo, StoreID: caller.Store.PublicID, DeviceID: o.Device, ClientIP: o.ClientIP,
		NotifyURL: o.NotifyURL, Subject: o.Subject, Body: o.Body, Param1: o.Param1, Param2: o.Param2, Remarks: o.Remarks}
	if c.flow == payment.ByCard {
		m.TermNum, m.BankTerm = termNum(caller.Terminal), caller.Terminal.PublicID
	} else {
		m.Extra = o.Extra
	}
	return m
}

// termNum is a terminal's number in the platform, five digits (§9.1): people find it, nothing looks it up.
func termNum(t payment.Terminal) string {
	const room = 100_000
	return fmt.Sprintf("%05d", int64(t.ID)%room)
}

func readMemo(p *payment.Payment) (memo, channel, error) {
	var m memo
	if err := json.Unmarshal(p.Echo, &m); err != nil {
		return memo{}, channel{}, fmt.Errorf("iotpay: stored memo of payment %d: %w", p.ID, err)
	}
	c, ok := channelOf(m.Channel)
	if !ok {
		return memo{}, channel{}, fmt.Errorf("iotpay: stored memo of payment %d: channel %q", p.ID, m.Channel)
	}
	return m, c, nil
}

// numberLayout is the time in the platform's numbers, in UTC (§1.2).
const numberLayout = "20060102150405"

// numberDigits are those of the ID at the end of the platform's numbers.
const numberDigits = 12

// numbering makes payOrderId: the channel's letters, the time, the ID (§1.2).
func numbering(letters string, at time.Time) payment.Numbering {
	return payment.Numbering{Prefix: letters + at.UTC().Format(numberLayout), Digits: numberDigits}
}

// refundLetters begin the number of a refund (§1.2).
const refundLetters = "RP"

// refundNumber is the platform's number of a refund.
func refundNumber(op *payment.Operation) string {
	return numbering(refundLetters, op.CreatedAt).Number(op.ID)
}

// idIn is the ID in one of our own numbers; 0 for anything else. Whoever uses it compares the whole number with the row found.
func idIn(number string) payment.ID {
	if len(number) != len(refundLetters)+len(numberLayout)+numberDigits {
		return 0
	}
	id, err := strconv.ParseInt(number[len(number)-numberDigits:], 10, 64)
	if err != nil || id < 0 {
		return 0
	}
	return payment.ID(id)
}

// barcode is the only type of code that there is (§3.2).
const barcode = "barcode"

// saleCommand is an order in the core's words. once makes the request unlike every other, so that the core refuses every repeat of a
// number: an order is never answered a second time by create_order (§6).
func saleCommand(o *CreateOrder, c channel, caller payment.Caller, now time.Time, once []byte) (payment.SaleCommand, error) {
	currency, err := money.ParseCurrency(o.Currency)
	if err != nil {
		return payment.SaleCommand{}, refuse(CodeParameter, "currency must be three letters, such as CAD.")
	}
	if o.Amount == 0 {
		return payment.SaleCommand{}, refuse(CodeParameter, "amount must be above zero.")
	}
	if o.CodeType != "" && o.CodeType != barcode {
		return payment.SaleCommand{}, refuse(CodeParameter, "codeType must be %s.", barcode)
	}
	total, err := money.New(o.Amount, currency).Add(money.New(o.Tip, currency)) // The tip is on top (§3.1).
	if err != nil {
		return payment.SaleCommand{}, refuse(CodeParameter, "amount and tip are too large together.")
	}
	echo, err := json.Marshal(memoOf(o, c, caller))
	if err != nil {
		return payment.SaleCommand{}, err
	}
	cmd := payment.SaleCommand{Caller: caller, Key: payment.Key{Scope: scopeOrder, Key: o.MchOrderNo}, Request: once,
		Numbering: numbering(c.letter, now), Amount: total, Tip: o.Tip, Method: c.method, Flow: c.flow, Lifetime: c.life, Echo: echo}
	if c.flow == payment.ByCode {
		cmd.Instrument = o.IdentityCode
	}
	return cmd, nil
}

// statuses is the one table from a payment's state to an order's status (§4.1). An open one's is in openStatuses, a cancelled one's depends
// on why; and while it is not certain what became of the money, none of them holds (see statusOf).
var statuses = map[payment.State]Status{
	payment.Open:       StatusCreated,
	payment.Authorized: StatusPaying,
	payment.Captured:   StatusPaid,
	payment.Refused:    StatusFailed,
	payment.Cancelled:  StatusClosed,
	payment.Voided:     StatusPaid, // §3.7: what is given back does not change the original's status.
	payment.Expired:    StatusClosed,
}

// openStatuses are the statuses of an open payment by the state of its attempt; none is a terminal that waits for a card.
var openStatuses = map[payment.OperationState]Status{
	"":                StatusCreated,
	payment.Created:   StatusCreated,
	payment.Sent:      StatusPaying,
	payment.Waiting:   StatusPaying, // The customer types a password. Of a QR code nobody knows whether somebody scans it: see statusOf.
	payment.Approved:  StatusPaying,
	payment.Declined:  StatusPaying,
	payment.Unknown:   StatusPaying,
	payment.Reversing: StatusPaying,
	payment.Reversed:  StatusPaying,
}

// statusOf is an order's status, notifications apart. A failure is never told before it is certain that no money moves (§4.3, PR).
func statusOf(v payment.View) Status {
	p, attempt := &v.Payment, v.Attempt.State
	if p.State == payment.Open {
		if p.Flow == payment.ByQR && (attempt == payment.Sent || attempt == payment.Waiting) {
			return StatusCreated
		}
		return openStatuses[attempt]
	}
	if p.State == payment.Cancelled {
		switch attempt {
		case payment.Sent, payment.Unknown, payment.Reversing:
			return StatusPaying
		}
		if e, ok := endings[p.Failure]; ok {
			return e.status
		}
	}
	return statuses[p.State]
}

// ending is how an order is told that failed or ended unpaid (§4.3).
type ending struct {
	status Status // Of one that was cancelled.
	code   string // Of the host, where it did not tell its own.
	early  string // What the receipt says when the host was never asked; empty where that cannot be told from a decline.
}

// endings is the one table from the core's reasons. Codes are the host's of §5, and else those of ISO 8583.
var endings = map[payment.Reason]ending{
	payment.ReasonDeclined:          {StatusFailed, "05", ""},
	payment.ReasonRisk:              {StatusFailed, "59", ""},
	payment.ReasonInsufficientFunds: {StatusFailed, "51", ""},
	payment.ReasonUnavailable:       {StatusClosed, "91", "Terminal Not Available"},
	payment.ReasonLimitExceeded:     {StatusFailed, "61", ""},
	payment.ReasonCardExpired:       {StatusFailed, "54", ""},
	payment.ReasonCardInvalid:       {StatusFailed, "14", ""},
	payment.ReasonCardBlocked:       {StatusFailed, "62", ""},
	payment.ReasonNotPermitted:      {StatusFailed, "57", ""},
	payment.ReasonRefer:             {StatusFailed, "02", ""},
	payment.ReasonPINWrong:          {StatusFailed, "55", ""},
	payment.ReasonPINTries:          {StatusFailed, "75", ""},
	payment.ReasonPINNeeded:         {StatusFailed, "70", ""},
	payment.ReasonPartial:           {StatusFailed, "10", ""},
	payment.ReasonDuplicate:         {StatusFailed, "94", ""},
	payment.ReasonAmountTooLow:      {StatusFailed, "13", ""},
	payment.ReasonAmountTooHigh:     {StatusFailed, "13", ""},
	payment.ReasonCodeInvalid:       {StatusFailed, "14", ""},
	payment.ReasonCodeUsed:          {StatusFailed, "14", ""},
	payment.ReasonCodeExpired:       {StatusFailed, "54", ""},
	payment.ReasonCodeCancelled:     {StatusFailed, "14", ""},
	payment.ReasonCustomerCancelled: {StatusFailed, "266", "Transaction Cancelled 266"},
	payment.ReasonExpired:           {StatusFailed, "350", "Transaction Timeout 350"},
	payment.ReasonCancelled:         {StatusClosed, "266", "Transaction Cancelled 266"},
	payment.ReasonRefundExceeds:     {StatusFailed, "13", ""},
}

// refundStatuses is the one table from a refund's state to its status (§3.7).
var refundStatuses = map[payment.OperationState]Status{
	payment.Created:   StatusCreated,
	payment.Sent:      StatusPaying,
	payment.Waiting:   StatusPaying,
	payment.Approved:  StatusPaid,
	payment.Declined:  StatusFailed,
	payment.Unknown:   StatusPaying,
	payment.Reversing: StatusPaying,
	payment.Reversed:  StatusPaying, // A card refund whose lost message was reversed is sent again.
}

// refusals is the one table from the core's errors to §5.
var refusals = []struct {
	err  error
	code Code
	text string
}{
	{payment.ErrNotFound, CodeNotFound, "There is no such order."},
	{payment.ErrInvalid, CodeParameter, "The request cannot be carried out as it is."},
	{payment.ErrKeyReused, CodeParameter, "The number was used before with other data."},
	{payment.ErrKeyBusy, CodeParameter, "An equal request is still unresolved; query it."},
	{payment.ErrNotPaid, CodeParameter, "The original order is not a paid order."},
	{payment.ErrExceeds, CodeParameter, "refundAmount is more than is left of the order."},
	{payment.ErrWindow, CodeParameter, "It is too late for this."},
	{payment.ErrWrongKind, CodeParameter, "This is not possible with a refund."},
	{payment.ErrConflict, CodeParameter, "The order's state does not allow this."},
	{payment.ErrMethod, CodeParameter, "channelId is not enabled for this merchant."},
	{payment.ErrCurrency, CodeParameter, "currency is not accepted here."},
	{payment.ErrUnauthorized, CodeMerchant, "mchId or the login name is not known."},
	{payment.ErrForbidden, CodeMerchant, "The merchant, its store, terminal or login is disabled."},
	{payment.ErrUnavailable, CodeSystem, "Nothing was started; query the order, then send it again."},
}

// refusal is the wire's word for an error. Nil means that it is none the caller can do something about.
func refusal(err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if e, ok := errors.AsType[*payment.FieldError](err); ok {
		return refuse(CodeParameter, "%s %s.", e.Field, e.Problem)
	}
	for _, r := range refusals {
		if errors.Is(err, r.err) {
			return refuse(r.code, "%s", r.text)
		}
	}
	return nil
}

// reused is the refusal of an order number that was used before, whatever stands under it (§6).
func reused(p *payment.Payment) *Error {
	switch p.State {
	case payment.Captured, payment.Voided:
		return refuse(CodePaid, "mchOrderNo belongs to an order that is paid.")
	}
	return refuse(CodeParameter, "mchOrderNo already exists")
}

// order is a payment as an order (§3.1). Extra is left to the caller for card orders.
func order(v payment.View, m memo, status Status) *PayOrder {
	p := &v.Payment
	o := &PayOrder{
		UserName: m.UserName, StoreID: m.StoreID, PayOrderID: p.Number(), MchID: m.MchID, MchOrderNo: p.Key.Key, ChannelID: m.Channel,
		Currency: p.Amount.Currency().Code(), Amount: p.Amount.Minor() - p.Tip, Tip: p.Tip, PayType: PayTypePay, Refundable: p.Amount.Minor(),
		ClientIP: m.ClientIP, DeviceID: m.DeviceID, NotifyURL: m.NotifyURL, Subject: m.Subject, Body: m.Body, Param1: m.Param1, Param2: m.Param2,
		Extra: m.Extra, Status: status, Remarks: m.Remarks, CreateDate: wholeSeconds(p.CreatedAt), UpdateDate: wholeSeconds(p.ModifiedAt),
	}
	if p.Flow != payment.ByCard {
		o.ChannelOrderNo = v.Attempt.Result.ProviderReference
	}
	if status.Paid() {
		o.Refundable = p.Left().Minor() // Of a failed order it is the amount all the same, as in the seed's sample.
		o.TrxAmount, o.PaySuccTime = p.Captured, millis(p.PaidAt)
		if x := v.Attempt.Result.Exchange; x != nil {
			o.CurrencyAmount = x.AmountMinor
		}
	}
	return o
}

// refundMemo is what the core keeps for us with a refund.
type refundMemo struct {
	UserName string `json:"user_name,omitempty"`
	DeviceID string `json:"device_id,omitempty"`
	ClientIP string `json:"client_ip,omitempty"`
}

// refundCommand is a refund of a known payment in the core's words. Equal refunds have the same original, amount and currency (§3.7).
func refundCommand(o *RefundOrder, p *payment.Payment, caller payment.Caller, wait time.Duration) (payment.RefundCommand, error) {
	currency := p.Amount.Currency() // Most clients name none.
	if o.Currency != "" {
		var err error
		if currency, err = money.ParseCurrency(o.Currency); err != nil {
			return payment.RefundCommand{}, refuse(CodeParameter, "currency must be three letters, such as CAD.")
		}
	}
	if o.RefundAmount == 0 {
		return payment.RefundCommand{}, refuse(CodeParameter, "refundAmount must be above zero.")
	}
	echo, err := json.Marshal(refundMemo{UserName: o.LoginName, DeviceID: o.Device, ClientIP: o.ClientIP})
	return payment.RefundCommand{Caller: caller, Key: payment.Key{Scope: scopeRefund, Key: o.MchRefundNo},
		Request: fmt.Appendf(nil, "iotpay refund 1\n%d %d %s", p.ID, o.RefundAmount, currency),
		Payment: p.ID, Amount: money.New(o.RefundAmount, currency), Wait: wait, Echo: echo}, err
}

// refundOrder is a refund as an order of its own (§3.7).
func refundOrder(v payment.RefundView) (*PayOrder, error) {
	p, op := &v.Payment, &v.Refund
	m, c, err := readMemo(p)
	if err != nil {
		return nil, err
	}
	var r refundMemo
	if len(op.Echo) > 0 { // A refund that the core owes by itself has none.
		if err := json.Unmarshal(op.Echo, &r); err != nil {
			return nil, fmt.Errorf("iotpay: stored memo of refund %d: %w", op.ID, err)
		}
	}
	updated := op.CreatedAt
	if !op.SettledAt.IsZero() {
		updated = op.SettledAt
	}
	o := &PayOrder{
		UserName: cmp.Or(r.UserName, m.UserName), StoreID: m.StoreID, PayOrderID: refundNumber(op), MchID: m.MchID, MchOrderNo: op.Key.Key,
		OriginalOrderID: p.Number(), ChannelID: m.Channel, Currency: op.Amount.Currency().Code(), Amount: op.Amount.Minor(), PayType: PayTypeRefund,
		ClientIP: cmp.Or(r.ClientIP, m.ClientIP), DeviceID: r.DeviceID, Subject: m.Subject, Body: m.Body, Status: refundStatuses[op.State],
		CreateDate: wholeSeconds(op.CreatedAt), UpdateDate: wholeSeconds(updated),
	}
	if c.flow != payment.ByCard {
		o.ChannelOrderNo = op.Result.ProviderReference
	}
	if op.State == payment.Approved {
		o.TrxAmount, o.PaySuccTime = op.Amount.Minor(), millis(op.SettledAt)
	}
	return o, nil
}

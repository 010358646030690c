package upay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/terminal"
)

// Protocol is the name of this protocol in identities and payments.
const Protocol = "upay"

// scope is the one namespace of client_sn that pay, precreate and the WAP gateway share (§6.1).
const scope = "upay"

// numbering makes sn: 16 digits that begin with 78 (§1.1).
var numbering = payment.Numbering{Prefix: "78", Digits: 14}

// Times of the interface.
const (
	payWait       = 35 * time.Second // §3.4: how long a pay is held
	precreateWait = 20 * time.Second // for the provider to make a QR code; clients wait 30 s at most (§6.2)
	refundWait    = 12 * time.Second // below the 15 s of careful clients
	cancelWait    = 8 * time.Second  // the same: a cancel is decided at once, its undoing may take a moment

	tombstone = 10 * time.Minute // §3.8: how long a client_sn that was cancelled unseen stays closed

	// always is the window of cancels: an unpaid order may always be cancelled (§3.8).
	always = 100 * 365 * 24 * time.Hour
)

// Core is what this protocol needs of the payment engine.
type Core interface {
	Sell(ctx context.Context, cmd payment.SaleCommand) (payment.View, error)
	Refund(ctx context.Context, cmd payment.RefundCommand) (payment.RefundView, error)
	Cancel(ctx context.Context, cmd payment.CancelCommand) (payment.View, error)
	Void(ctx context.Context, cmd payment.VoidCommand) (payment.View, error)
	Find(ctx context.Context, m payment.MerchantID, key payment.Key) (payment.View, *payment.Operation, error)
	Recall(ctx context.Context, m payment.MerchantID, key payment.Key, request []byte) (payment.Kept, error)
	Trail(ctx context.Context, m payment.MerchantID, id payment.ID) (payment.View, []payment.Operation, error)
	Await(ctx context.Context, m payment.MerchantID, id payment.ID, limit time.Duration, done func(payment.View) bool) (payment.View, error)
	AwaitRefund(ctx context.Context, m payment.MerchantID, p, id payment.ID, limit time.Duration, done func(payment.RefundView) bool) (payment.RefundView, error)
}

var _ Core = (*payment.Engine)(nil)

// Terminals is what this protocol needs of the registry of terminals.
type Terminals interface {
	Find(ctx context.Context, protocol, number string) (terminal.Entry, error)
	Fresh(ctx context.Context, protocol, number string) (terminal.Entry, error)
	Keys(e terminal.Entry) ([]terminal.Key, error)
	Vendor(ctx context.Context, number string) (terminal.Vendor, error)
	Activate(ctx context.Context, a terminal.Activation) (terminal.Entry, terminal.Secret, error)
	CheckIn(ctx context.Context, e terminal.Entry, d terminal.Device) (terminal.Secret, error)
	Settings(ctx context.Context, m payment.MerchantID, protocol string, into any) error
}

var _ Terminals = (*terminal.Registry)(nil)

func keyOf(clientSN string) payment.Key { return payment.Key{Scope: scope, Key: clientSN} }

// refundKey is a refund's: refund_request_no counts within its order (§6.1).
func refundKey(order payment.ID, no string) payment.Key {
	return payment.Key{Scope: fmt.Sprintf("upay refund %d", order), Key: no}
}

// Settings are a merchant's, kept in the registry as JSON. What a merchant has not set is as in DefaultSettings.
type Settings struct {
	// TerminalKeyTTL is how long a key lives, counted from its issue: 48h (the seed), or "0s" for ever, for clients that never check in (§2.5).
	TerminalKeyTTL Duration `json:"terminal_key_ttl"`
	// CheckDevice refuses a check-in from a device that the terminal was not activated on (§3.2).
	CheckDevice bool `json:"check_device"`
	// DeviceOnce refuses to activate a device a second time for the same merchant (§3.1). Only the server's defaults count: before an activation
	// nobody knows whose terminal it will be.
	DeviceOnce bool `json:"device_once"`
	// CallbackAuthFormat is the form of a callback's signature (§7.2).
	CallbackAuthFormat CallbackFormat `json:"callback_auth_format"`
	// CallbackEvents are the states of an order that are called back (§7.1).
	CallbackEvents []OrderStatus `json:"callback_events"`
	// WapPayRequestFormat is "object" or "string" (§3.5.4).
	WapPayRequestFormat string `json:"wap_pay_request_format"`
	// PayWindow and PrecreateWindow are how long an order may stay unpaid (§3.4, §3.5.1).
	PayWindow       Duration `json:"pay_window"`
	PrecreateWindow Duration `json:"precreate_window"`
	// RefundWindow is how long after its creation an order can be refunded (§3.7).
	RefundWindow Duration `json:"refund_window"`
	// ErrorCodeStandard adds the newer support codes to errors, where they are known (§1.4).
	ErrorCodeStandard bool `json:"error_code_standard"`
}

// DefaultSettings are those of a merchant that has set nothing.
func DefaultSettings() Settings {
	return Settings{
		TerminalKeyTTL: Duration(48 * time.Hour), CheckDevice: true, CallbackAuthFormat: CallbackRSA, CallbackEvents: []OrderStatus{OrderPaid},
		WapPayRequestFormat: wapObject, PayWindow: Duration(60 * time.Second), PrecreateWindow: Duration(240 * time.Second),
		RefundWindow: Duration(92 * 24 * time.Hour), // The longest three months.
	}
}

const (
	wapObject = "object"
	wapString = "string"
)

// Duration is a duration as text, such as "48h".
type Duration time.Duration

// MarshalText writes the duration.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText reads the duration.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	*d = Duration(v)
	return err
}

// Check names the first setting that cannot be, for whoever sets it.
func (s *Settings) Check() error {
	switch s.CallbackAuthFormat {
	case CallbackRSA, CallbackRSAWithSN, CallbackMD5WithSN:
	default:
		return &payment.FieldError{Field: "callback_auth_format", Problem: "must be rsa, rsa_with_sn or md5_with_sn"}
	}
	for _, e := range s.CallbackEvents {
		if !slices.Contains(callbackEvents, e) {
			return &payment.FieldError{Field: "callback_events", Problem: fmt.Sprintf("%q is not called back; PAID, PAY_CANCELED, REFUNDED and PARTIAL_REFUNDED are", e)}
		}
	}
	if s.WapPayRequestFormat != wapObject && s.WapPayRequestFormat != wapString {
		return &payment.FieldError{Field: "wap_pay_request_format", Problem: "must be object or string"}
	}
	for _, d := range []struct {
		name string
		d    Duration
		zero bool
	}{{"terminal_key_ttl", s.TerminalKeyTTL, true}, {"pay_window", s.PayWindow, false}, {"precreate_window", s.PrecreateWindow, false}, {"refund_window", s.RefundWindow, false}} {
		if d.d < 0 || d.d == 0 && !d.zero {
			return &payment.FieldError{Field: d.name, Problem: "must be a duration above zero, such as 90s"}
		}
	}
	return nil
}

// Barcode is a row of the table that recognises a customer's code (§3.4.1): digits, the first two of which lie between From and To, and so
// many of them.
type Barcode struct {
	From, To int
	Min, Max int
	Payway   string
}

// Barcodes is the table of §3.4.1.
var Barcodes = []Barcode{
	{From: 10, To: 15, Min: 18, Max: 18, Payway: PaywayWechat},
	{From: 25, To: 30, Min: 16, Max: 24, Payway: PaywayAlipay},
	{From: 62, To: 62, Min: 19, Max: 19, Payway: PaywayUnionPay},
	{From: 18, To: 18, Min: 18, Max: 18, Payway: "5"},
	{From: 91, To: 91, Min: 18, Max: 18, Payway: "6"},
	{From: 51, To: 51, Min: 18, Max: 18, Payway: "18"},
}

// recognise finds the payway of a code; empty when the table does not know it.
func recognise(table []Barcode, code string) string {
	if len(code) < 2 || !isDigits(code) {
		return ""
	}
	first, _ := strconv.Atoi(code[:2])
	for _, b := range table {
		if first >= b.From && first <= b.To && len(code) >= b.Min && len(code) <= b.Max {
			return b.Payway
		}
	}
	return ""
}

// methods are the core's names of the payways that are played.
var methods = map[string]string{PaywayAlipay: "alipay", PaywayAlipayLegacy: "alipay", PaywayWechat: "wechat", PaywayUnionPay: "unionpay"}

// funding is payment_list's word where the method alone says how a payment was funded (§4.7).
var funding = map[string]string{"alipay": "WALLET_ALIPAY", "wechat": "WALLET_WEIXIN"}

// memo is what the core keeps for us with a payment or refund.
type memo struct {
	Terminal    string        `json:"terminal"` // terminal_sn of who asked.
	Store       string        `json:"store,omitempty"`
	Payway      string        `json:"payway,omitempty"`
	SubPayway   string        `json:"sub_payway,omitempty"`
	Subject     string        `json:"subject,omitempty"`
	Description string        `json:"description,omitempty"`
	Operator    string        `json:"operator,omitempty"`
	Reflect     string        `json:"reflect,omitempty"`
	NotifyURL   string        `json:"notify_url,omitempty"`
	Events      []OrderStatus `json:"events,omitempty"` // That the merchant wanted called back when the order was made; kept beside notify_url only.
	ReturnURL   string        `json:"return_url,omitempty"`
	DeviceID    string        `json:"device_id,omitempty"`
	Forwarded   string        `json:"forwarded_for,omitempty"` // The till's address as its proxy tells it; never believed (§2.3).
	ClientTSN   string        `json:"client_tsn,omitempty"`    // Of a refund.
}

func (m memo) encode() json.RawMessage {
	text, err := json.Marshal(m)
	if err != nil {
		panic(err) // Strings only.
	}
	return text
}

func readMemo(stored json.RawMessage) (memo, error) {
	var m memo
	if err := json.Unmarshal(stored, &m); err != nil {
		return m, fmt.Errorf("upay: stored memo: %w", err)
	}
	return m, nil
}

// memoOf is an order's.
func memoOf(o *Order, e *terminal.Entry, s *Settings, subPayway, forwarded string) memo {
	m := memo{Terminal: e.Number, Store: e.Caller.Store.PublicID, Payway: o.Payway, SubPayway: subPayway, Subject: o.Subject,
		Description: o.Description, Operator: o.Operator, Reflect: o.Reflect, NotifyURL: o.NotifyURL, DeviceID: o.DeviceID, Forwarded: forwarded}
	if o.NotifyURL != "" {
		m.Events = s.CallbackEvents
	}
	return m
}

// amount is a sum of the merchant's currency, which is its first.
func amount(m payment.Merchant, cents int64) (money.Amount, error) {
	if len(m.Currencies) == 0 {
		return money.Amount{}, payment.ErrCurrency
	}
	cur, err := money.ParseCurrency(m.Currencies[0])
	if err != nil {
		return money.Amount{}, fmt.Errorf("upay: currency of merchant %d: %w", m.ID, err)
	}
	return money.New(cents, cur), nil
}

// method is how the core calls a payway. What is not played here is refused as the real service refuses what is not enabled.
func method(payway string) (string, error) {
	if m, ok := methods[payway]; ok {
		return m, nil
	}
	return "", refuseBusiness(CodeUnexpectedProvider, "%s: payway %s", messages[CodeUnexpectedProvider], payway)
}

// orderID is the ID that an sn stands for; false when it is none of ours.
func orderID(sn string) (payment.ID, bool) {
	digits, ok := strings.CutPrefix(sn, numbering.Prefix)
	if !ok || len(digits) != numbering.Digits || !isDigits(digits) {
		return 0, false
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	return payment.ID(n), err == nil && n > 0
}

// standing is an order in this protocol's words.
type standing struct {
	order  OrderStatus
	status Status
	code   ErrorCode          // Why it is not paid; empty for no reason.
	text   string             // The same for people.
	latest *payment.Operation // The transaction that status is about; nil when none was made.
}

// settled are the states of an order that need only the payment's own state (§4.1). Open, captured and cancelled ones need more.
var settled = map[payment.State]standing{
	payment.Open:       {order: OrderCreated, status: StatusInProgress},
	payment.Authorized: {order: OrderInvalid, status: StatusInProgress}, // No wallet does it.
	payment.Captured:   {order: OrderPaid, status: StatusSuccess},
	payment.Refused:    {order: OrderPayCanceled, status: StatusFailCanceled},
	payment.Expired:    {order: OrderPayCanceled, status: StatusFailCanceled},
	payment.Cancelled:  {order: OrderCanceled, status: StatusFailCanceled},
	payment.Voided:     {order: OrderCanceled, status: StatusSuccess},
}

// progress says how far an operation is that must end, in the words of its kind.
type progress int

const (
	running progress = iota // Its answer is still to come.
	lost                    // No answer: its outcome is unknown, and the core goes on.
	done
	refused
)

// progresses is the one table from an operation's state.
var progresses = map[payment.OperationState]progress{
	payment.Created:   running,
	payment.Sent:      running,
	payment.Waiting:   running,
	payment.Unknown:   lost,
	payment.Approved:  done,
	payment.Declined:  refused,
	payment.Reversing: running, // Of a card refund: it is sent again once it is reversed.
	payment.Reversed:  running,
}

// progressOf is how far an operation is. What people have been told of is lost, until it is settled.
func progressOf(op *payment.Operation) progress {
	p := progresses[op.State]
	if p == running && op.Flagged {
		return lost
	}
	return p
}

// stand tells where an order stands. ops may be missing where nothing was given back and no attempt is being undone.
func stand(v *payment.View, ops []payment.Operation) standing {
	p := &v.Payment
	s := settled[p.State]
	if v.Attempt.ID != 0 {
		s.latest = &v.Attempt
	}
	switch p.State {
	case payment.Open:
		return standOpen(v, ops, s)
	case payment.Captured, payment.Voided:
		return standReturned(v, ops, s)
	case payment.Cancelled:
		if v.Attempt.State == payment.Reversing {
			s.order, s.status = OrderCanceling, StatusInProgress
			if undoing(ops) == lost {
				s.order, s.status = OrderCancelError, StatusCancelError
			}
		}
	}
	if p.Failure != "" {
		s.code, s.text = failure(p.Failure), p.FailureText
	}
	return s
}

// standOpen is an order that nobody knows to be paid.
func standOpen(v *payment.View, ops []payment.Operation, s standing) standing {
	switch {
	case v.Attempt.State == payment.Reversing:
		s.order, s.status = OrderPayError, StatusErrorRecovery
		if undoing(ops) == lost {
			s.status = StatusFailError
		}
		s.code, s.text = failure(v.Attempt.Failure), v.Attempt.FailureText
	case slices.ContainsFunc(ops, func(o payment.Operation) bool { return o.Kind == payment.Close && progressOf(&o) == lost }):
		s.order, s.status = OrderPayError, StatusErrorRecovery // Its time is over, and the provider does not say whether it was paid.
	}
	return s
}

// undoing is how far the undoing of an attempt is.
func undoing(ops []payment.Operation) progress {
	far := running
	for i := range ops {
		switch ops[i].Kind {
		case payment.CancelOperation, payment.Reversal, payment.VoidOperation:
			far = progressOf(&ops[i])
		case payment.Refund:
			if ops[i].Rest {
				far = progressOf(&ops[i])
			}
		}
	}
	return far
}

// standReturned is an order that was paid, and of which something may have been given back. A refund that the provider refused is no
// transaction of the order's any more.
func standReturned(v *payment.View, ops []payment.Operation, s standing) standing {
	p := &v.Payment
	var rest *payment.Operation
	pending, unknown := false, false
	for i := range ops {
		op := &ops[i]
		far := progressOf(op)
		switch {
		case op.Rest:
			rest = op
		case op.Kind == payment.Refund && far != refused:
			s.latest = op
			pending, unknown = pending || far == running, unknown || far == lost
		}
	}
	if rest != nil && (s.latest == nil || !s.latest.CreatedAt.After(rest.CreatedAt)) {
		s.latest = rest
		if p.State == payment.Voided {
			return s
		}
		switch progressOf(rest) {
		case running:
			s.order, s.status = OrderCanceling, StatusInProgress
		default:
			s.order, s.status = OrderCancelError, StatusCancelError
			s.code, s.text = refundFailure(rest.Failure), rest.FailureText
		}
		return s
	}
	if s.latest != nil && s.latest.Kind == payment.Refund {
		s.status = refundStatus[progressOf(s.latest)]
	}
	switch {
	case unknown:
		s.order = OrderRefundError
	case pending:
		s.order = OrderRefunding
	case p.Refunded > 0 && p.Refunded == p.Captured:
		s.order = OrderRefunded
	case p.Refunded > 0:
		s.order = OrderPartialRefunded
	}
	return s
}

// refundStatus is the status of a refund, and refundOutcome how a refund is answered (§3.7).
var (
	refundStatus  = map[progress]Status{running: StatusInProgress, lost: StatusRefundError, done: StatusSuccess, refused: StatusFailCanceled}
	refundOutcome = map[progress]Outcome{running: RefundInProgress, lost: RefundError, done: RefundSuccess, refused: RefundFail}
)

// payOutcome is how a pay is answered, by the state of its order (§4.1).
var payOutcome = map[OrderStatus]Outcome{
	OrderCreated:         PayInProgress,
	OrderPaid:            PaySuccess,
	OrderPayCanceled:     PayFail,
	OrderCanceled:        PayFail, // Somebody cancelled it meanwhile.
	OrderCanceling:       PayFail,
	OrderCancelError:     PayFailError,
	OrderPayError:        PayFailInProgress,
	OrderRefunded:        PaySuccess,
	OrderPartialRefunded: PaySuccess,
	OrderRefunding:       PaySuccess,
	OrderRefundError:     PaySuccess,
	OrderInvalid:         PayInProgress,
}

// precreateOutcome is the same for a precreate, whose order need not be paid yet.
var precreateOutcome = map[OrderStatus]Outcome{
	OrderCreated:         PrecreateSuccess,
	OrderPaid:            PrecreateSuccess,
	OrderPayCanceled:     PrecreateFail,
	OrderCanceled:        PrecreateFail,
	OrderCanceling:       PrecreateFail,
	OrderCancelError:     PrecreateFailError,
	OrderPayError:        PrecreateFailRunning,
	OrderRefunded:        PrecreateSuccess,
	OrderPartialRefunded: PrecreateSuccess,
	OrderRefunding:       PrecreateSuccess,
	OrderRefundError:     PrecreateSuccess,
	OrderInvalid:         PrecreateFailRunning,
}

// failures is the one table from the core's reasons to the codes of §5.2.
var failures = map[payment.Reason]ErrorCode{
	payment.ReasonDeclined:          CodeTradeFailed,
	payment.ReasonRisk:              CodeTradeFailed,
	payment.ReasonInsufficientFunds: CodeInsufficientFund,
	payment.ReasonUnavailable:       CodeExternalServiceError,
	payment.ReasonLimitExceeded:     CodeBuyerLimit,
	payment.ReasonCardExpired:       CodeTradeFailed,
	payment.ReasonCardInvalid:       CodeTradeFailed,
	payment.ReasonCardBlocked:       CodeTradeFailed,
	payment.ReasonNotPermitted:      CodeTradeFailed,
	payment.ReasonRefer:             CodeTradeFailed,
	payment.ReasonPINWrong:          CodeTradeFailed,
	payment.ReasonPINTries:          CodeTradeFailed,
	payment.ReasonPINNeeded:         CodeTradeFailed,
	payment.ReasonPartial:           CodeTradeFailed,
	payment.ReasonDuplicate:         CodeTradeFailed,
	payment.ReasonAmountTooLow:      CodeTradeFailed,
	payment.ReasonAmountTooHigh:     CodeBuyerLimit,
	payment.ReasonCodeInvalid:       CodeInvalidBarcode,
	payment.ReasonCodeUsed:          CodeExpiredBarcode,
	payment.ReasonCodeExpired:       CodeExpiredBarcode,
	payment.ReasonCodeCancelled:     CodeExpiredBarcode,
	payment.ReasonCustomerCancelled: CodeTradeFailed,
	payment.ReasonExpired:           CodeTradeTimeout,
	payment.ReasonCancelled:         CodeTradeFailed,
	payment.ReasonRefundExceeds:     CodeRefundExceeds,
}

func failure(r payment.Reason) ErrorCode {
	if c, ok := failures[r]; ok {
		return c
	}
	return CodeTradeFailed
}

// refundFailure is failure for money that goes the other way: it is the seller who is short.
func refundFailure(r payment.Reason) ErrorCode {
	if r == payment.ReasonInsufficientFunds {
		return CodeSellerBalance
	}
	return failure(r)
}

// refusals is the one table from the core's errors (§5). What is not found, too late or in the wrong state has a word of its own in each
// operation: see the words of refunds and cancels below.
var refusals = []struct {
	err      error
	code     ErrorCode
	business bool
}{
	{payment.ErrKeyReused, CodeClientSNConflict, true},
	{payment.ErrKeyBusy, CodeClientSNConflict, true},
	{payment.ErrNotFound, CodeOrderNotExists, true},
	{payment.ErrMethod, CodeUnexpectedProvider, true},
	{payment.ErrCurrency, CodeUnexpectedProvider, true},
	{payment.ErrInvalid, CodeInvalidParams, false},
	{payment.ErrUnauthorized, CodeIllegalSign, false},
	{payment.ErrForbidden, CodeTerminalAbnormal, true},
	{payment.ErrUnavailable, CodeRequestFail, false},
	{payment.ErrConflict, CodeTradeFailed, true},
	{payment.ErrNotPaid, CodeTradeFailed, true},
	{payment.ErrExceeds, CodeTradeFailed, true},
	{payment.ErrWindow, CodeTradeFailed, true},
	{payment.ErrWrongKind, CodeOrderNotExists, true},
}

// words are an operation's own codes for errors of the core.
type words []struct {
	err  error
	code ErrorCode
}

var (
	refundWords = words{
		{payment.ErrKeyReused, CodeRefundNoop},
		{payment.ErrNotPaid, CodeRefundInvalidState},
		{payment.ErrWindow, CodeRefundInvalidState},
		{payment.ErrExceeds, CodeRefundExceeds},
		{payment.ErrConflict, CodeRefundInvalidState},
		{payment.ErrCurrency, CodeRefundInvalidState},
	}
	cancelWords = words{
		{payment.ErrConflict, CodeCancelInvalidState},
		{payment.ErrWindow, CodeCancelInvalidState},
		{payment.ErrExceeds, CodeCancelInvalidState},
		{payment.ErrNotPaid, CodeCancelInvalidState},
		{payment.ErrWrongKind, CodeCancelInvalidState},
	}
)

// refusal is the wire's word for an error, by an operation's own words first. Nil means that it is none the caller can do something about.
func refusal(err error, own words) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	for _, w := range own {
		if errors.Is(err, w.err) {
			return refuseBusiness(w.code, "")
		}
	}
	if f, ok := errors.AsType[*payment.FieldError](err); ok {
		name := f.Field
		if name == "amount" {
			name = "total_amount"
		}
		return refuse(CodeInvalidParams, "%s %s", name, f.Problem)
	}
	for _, r := range refusals {
		if errors.Is(err, r.err) {
			if r.business {
				return refuseBusiness(r.code, "")
			}
			return refuse(r.code, "")
		}
	}
	return nil
}

// orderData tells an order as its latest transaction left it, or as the one asked for did.
func orderData(v *payment.View, s standing) (*Data, error) {
	p := &v.Payment
	m, err := readMemo(p.Echo)
	if err != nil {
		return nil, err
	}
	d := &Data{
		TerminalSN: m.Terminal, SN: p.Number(), ClientSN: p.Key.Key, TSN: p.Number(), ClientTSN: p.Key.Key, CTime: p.CreatedAt.UnixMilli(),
		Status: s.status, OrderStatus: s.order, Payway: m.Payway, PaywayName: PaywayName(m.Payway), SubPayway: m.SubPayway,
		TotalAmount: p.Amount.Minor(), NetAmount: p.Amount.Minor() - p.Refunded, RefundedAmount: p.Refunded, Subject: m.Subject,
		Description: m.Description, Operator: m.Operator, Reflect: m.Reflect, StoreID: m.Store,
	}
	if s.order == OrderCreated && s.status == StatusInProgress && m.SubPayway != SubPaywayBarcode {
		d.Status = StatusCreated // §4.1: nobody has begun to pay.
	}
	if s.order == OrderCanceled {
		d.NetAmount = 0
	}
	if p.Captured > 0 {
		d.TradeNo, d.PayerUID = v.Attempt.Result.ProviderReference, v.Attempt.Result.PayerID
		if word := funding[p.Method]; word != "" {
			d.PaymentList = []PaymentPart{{word, p.Captured}}
		}
	}
	return d, transaction(d, p, s)
}

// transaction sets what is the latest transaction's own.
func transaction(d *Data, p *payment.Payment, s standing) error {
	op := s.latest
	if op == nil {
		if s.order.Final() {
			d.FinishTime = p.ModifiedAt.UnixMilli()
		}
		return nil
	}
	if s.order.Final() || s.status == StatusSuccess || s.status == StatusFailCanceled {
		d.FinishTime = p.ModifiedAt.UnixMilli()
		if !op.SettledAt.IsZero() {
			d.FinishTime = op.SettledAt.UnixMilli()
		}
	}
	if op.Kind.IsAttempt() {
		if p.Captured > 0 && !p.PaidAt.IsZero() {
			d.ChannelFinishTime = p.PaidAt.UnixMilli()
		}
		return nil
	}
	d.TSN = p.Numbering.Number(op.ID)
	if s.status == StatusSuccess {
		d.ChannelFinishTime = op.Result.PaidAt
	}
	if op.Rest || len(op.Echo) == 0 {
		return nil
	}
	m, err := readMemo(op.Echo)
	if err != nil {
		return err
	}
	d.TerminalSN, d.ClientTSN = m.Terminal, d.ClientSN+"-"+op.Key.Key
	if m.ClientTSN != "" {
		d.ClientTSN = m.ClientTSN
	}
	if m.Operator != "" {
		d.Operator = m.Operator
	}
	return nil
}

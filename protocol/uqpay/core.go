package uqpay

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
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

// Protocol is the name of this protocol in credentials, payments, terminals and webhooks. A credential of AccountProtocol lets a client act
// for a sub-account.
const (
	Protocol        = "uqpay"
	AccountProtocol = "uqpay-account"
)

// scope is the scope of idempotency keys; that of STANs has the terminal and the day in it.
const scope = "uqpay"

// Times of the interface.
const (
	lifetime       = 30 * time.Minute // of an intent (§1)
	keyLife        = 24 * time.Hour   // of an idempotency key (§6)
	tokenLife      = 30 * time.Minute // §2.1
	pinKeyLife     = 24 * time.Hour   // §3.2
	createWait     = 24 * time.Second // §6: an authorisation is answered within 25 s
	cancelWindow   = 10 * 365 * 24 * time.Hour
	voidUntilHour  = 23 // §3.9
	refundDays     = 31 // §3.14: last month
	refundDaysMax  = 93 // §3.14: at most 3 months
	businessZone   = "Etc/GMT-8"
	onceScopeForm  = "uqpay stan %s %s" // terminal, yyyymmdd
	methodOfCore   = methodCard
	accountDivider = "\x00"
)

// numbering makes the numbers of intents, attempts and refunds: a prefix and 19 digits (§1).
var (
	numbering        = payment.Numbering{Prefix: "PI2000000", Digits: 12}
	attemptNumbering = payment.Numbering{Prefix: "PA2000000", Digits: 12}
	refundNumbering  = payment.Numbering{Prefix: "RF2000000", Digits: 12}
)

// parseNumber finds the ID in a public number.
func parseNumber(n payment.Numbering, text string) (payment.ID, error) {
	digits, ok := strings.CutPrefix(text, n.Prefix)
	id, err := strconv.ParseInt(digits, 10, 64)
	if !ok || err != nil || id < 1 || len(digits) != n.Digits || strings.Trim(digits, "0123456789") != "" {
		return 0, payment.ErrNotFound
	}
	return payment.ID(id), nil
}

// Core is what this protocol needs of the payment engine.
type Core interface {
	Caller(ctx context.Context, protocol, secret string) (payment.Caller, error)
	Sell(ctx context.Context, cmd payment.SaleCommand) (payment.View, error)
	Begin(ctx context.Context, cmd payment.SaleCommand) (payment.View, error)
	Attempt(ctx context.Context, cmd payment.AttemptCommand) (payment.View, error)
	Amend(ctx context.Context, cmd payment.AmendCommand) (payment.View, error)
	Capture(ctx context.Context, cmd payment.CaptureCommand) (payment.View, error)
	Cancel(ctx context.Context, cmd payment.CancelCommand) (payment.View, error)
	Refund(ctx context.Context, cmd payment.RefundCommand) (payment.RefundView, error)
	Recall(ctx context.Context, m payment.MerchantID, key payment.Key, request []byte) (payment.Kept, error)
	Keep(ctx context.Context, m payment.MerchantID, key payment.Key, request, answer []byte, life time.Duration) error
	Await(ctx context.Context, m payment.MerchantID, id payment.ID, limit time.Duration, done func(payment.View) bool) (payment.View, error)
	AwaitRefund(ctx context.Context, m payment.MerchantID, p, id payment.ID, limit time.Duration, done func(payment.RefundView) bool) (payment.RefundView, error)
}

var _ Core = (*payment.Engine)(nil)

// Books is where retrievals and lists are read.
type Books interface {
	Read(ctx context.Context, fn func(payment.Reader) error) error
}

// Terminals is the registry of terminals.
type Terminals interface {
	Register(ctx context.Context, caller payment.Caller, protocol string, d terminal.Device) (terminal.Entry, error)
	Find(ctx context.Context, protocol, number string) (terminal.Entry, error)
	AddPINKey(ctx context.Context, e terminal.Entry, sealed []byte, expires time.Time) error
	PINKeys(ctx context.Context, e terminal.Entry) ([][]byte, error)
}

var _ Terminals = (*terminal.Registry)(nil)

// Vault issues PIN keys and keys hashes.
type Vault interface {
	// IssuePINKey makes a PIN key: sealed and bound to its terminal for us, and in the envelope of §2.3 under the caller's AES key.
	IssuePINKey(prvKey, bound []byte) (sealed []byte, envelope string, err error)
	Hasher
}

// Hasher makes keyed HMAC-SHA-256s, with a key for each purpose.
type Hasher interface {
	MAC(purpose string, data []byte) []byte
}

// Purposes of the vault's MAC.
const (
	purposeAPIKey = "uqpay-api-key"
	purposeToken  = "uqpay-token"
)

// pinKeyBound is what a terminal's PIN keys are bound to.
func pinKeyBound(tid string) []byte { return []byte("uqpay terminal " + tid) }

// keyHash is the form in which an API key is kept.
func keyHash(v Hasher, clientID, apiKey string) string {
	return hex.EncodeToString(v.MAC(purposeAPIKey, []byte(clientID+"\x00"+apiKey)))
}

// Enrol makes what a client's credential needs: its secret, which is the client id, and the profile with the hash of the API key added to
// those that are good already.
func Enrol(v Hasher, clientID, apiKey string, p payment.Profile) (secret string, _ payment.Profile) {
	keys := splitList(p.APIKeys)
	if hash := keyHash(v, clientID, apiKey); !slices.Contains(keys, hash) {
		keys = append(keys, hash)
	}
	p.APIKeys = strings.Join(keys, ",")
	return clientID, p
}

// AccountSecret is the secret of a credential of AccountProtocol, under the sub-account's merchant: with it the client may act for the
// account, a UUID of the operator's choice.
func AccountSecret(clientID, account string) string { return clientID + accountDivider + account }

func splitList(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

// uuidOf is a UUID made of names, always the same for the same: version 8 of RFC 9562.
func uuidOf(names ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(names, "\x00")))
	return uuid([16]byte(sum[:16]), 8)
}

// uuid writes 16 bytes as a UUID of a version.
func uuid(b [16]byte, version byte) string {
	b[6], b[8] = b[6]&0x0f|version<<4, b[8]&0x3f|0x80
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

// memo is what the core keeps for us with a payment or refund.
type memo struct {
	Description string          `json:"description,omitempty"`
	ReturnURL   string          `json:"return_url,omitempty"`
	Reason      string          `json:"reason,omitempty"`
	Metadata    json.RawMessage `json:"metadata,omitempty"`
}

func readMemo(stored json.RawMessage) (memo, error) {
	var m memo
	if len(stored) == 0 {
		return m, nil
	}
	if err := json.Unmarshal(stored, &m); err != nil {
		return m, fmt.Errorf("uqpay: stored memo: %w", err)
	}
	return m, nil
}

// emptyObject is what is echoed where no metadata was given.
var emptyObject = json.RawMessage("{}")

func (m memo) metadata() json.RawMessage {
	if m.Metadata == nil {
		return emptyObject
	}
	return m.Metadata
}

// saleCommand is a create in the core's words; what a card adds is not in it.
func saleCommand(r *intentRequest, c payment.Caller, key payment.Key, request []byte) (payment.SaleCommand, error) {
	cur, err := parseCurrency(r.Currency)
	if err != nil {
		return payment.SaleCommand{}, err
	}
	amount, err := parseAmount(r.Amount, cur, TypeInvalidRequest, CodeInvalidAmount)
	if err != nil {
		return payment.SaleCommand{}, err
	}
	return payment.SaleCommand{Caller: c, Key: key, KeyLife: keyLife, Request: request, Numbering: numbering, Reference: r.OrderID, Amount: amount,
		Method: methodOfCore, Flow: payment.ByCard, Retryable: true, Lifetime: lifetime,
		Echo: encode(memo{Description: r.Description, ReturnURL: r.ReturnURL, Metadata: r.Metadata})}, nil
}

// standing is the caller of a terminal's sale: the credential that asked, at the place where the terminal stands. Days are at +08:00.
func standing(c payment.Caller, e *terminal.Entry) payment.Caller {
	if e != nil {
		c.Store, c.Terminal = e.Caller.Store, e.Caller.Terminal
	}
	c.Store.Calendar = payment.Calendar{Zone: businessZone}
	return c
}

// onceKey is the key that a STAN has for a day (§3.3).
func onceKey(c *payment.Card, now time.Time) payment.Key {
	return payment.Key{Scope: fmt.Sprintf(onceScopeForm, c.TID, now.In(zone).Format("20060102")), Key: c.STAN}
}

// intentStates is the one table from a payment's state to the wire, but for open payments.
var intentStates = map[payment.State]IntentStatus{
	payment.Authorized: RequiresCapture,
	payment.Captured:   IntentSucceeded,
	payment.Refused:    IntentFailed,
	payment.Cancelled:  IntentCancelled,
	payment.Voided:     IntentCancelled,
	payment.Expired:    IntentFailed,
}

// openStates is that of open payments, by the state of their latest attempt; "" is none.
var openStates = map[payment.OperationState]IntentStatus{
	"":                RequiresPaymentMethod,
	payment.Created:   IntentPending,
	payment.Sent:      IntentPending,
	payment.Waiting:   RequiresCustomerAction,
	payment.Approved:  IntentPending,
	payment.Unknown:   IntentPending,
	payment.Reversing: IntentPending,
	payment.Declined:  RequiresPaymentMethod,
	payment.Reversed:  RequiresPaymentMethod,
}

func intentStatus(p *payment.Payment, attempt payment.OperationState) IntentStatus {
	if p.State == payment.Open {
		return openStates[attempt]
	}
	return intentStates[p.State]
}

// attemptStates is the one table from an attempt's state to the wire, unless its payment was given up.
var attemptStates = map[payment.OperationState]AttemptStatus{
	payment.Created:   AttemptInitiated,
	payment.Sent:      AttemptPending,
	payment.Waiting:   AttemptRedirected,
	payment.Approved:  AttemptCaptureRequested,
	payment.Declined:  AttemptFailed,
	payment.Unknown:   AttemptPending,
	payment.Reversing: AttemptPending,
	payment.Reversed:  AttemptFailed,
}

// givenUp are the states of payments whose living attempts are cancelled.
var givenUp = []payment.State{payment.Cancelled, payment.Voided}

func attemptStatus(p *payment.Payment, a *payment.Operation) AttemptStatus {
	switch {
	case slices.Contains(givenUp, p.State) && a.State != payment.Declined && a.Failure == "":
		return AttemptCancelled
	case a.State == payment.Approved && p.State == payment.Authorized:
		return AttemptAuthorized
	}
	return attemptStates[a.State]
}

// refundStates is the one table from a refund's state to the wire.
var refundStates = map[payment.OperationState]RefundStatus{
	payment.Created:   RefundInitiated,
	payment.Sent:      RefundProcessing,
	payment.Waiting:   RefundProcessing,
	payment.Approved:  RefundSucceeded,
	payment.Declined:  RefundFailed,
	payment.Unknown:   RefundProcessing,
	payment.Reversing: RefundProcessing,
	payment.Reversed:  RefundProcessing,
}

// failure is how a decline is worded (§5).
type failure struct{ code, text string }

var failDeclined = failure{"card_declined", "Card declined"}

// failures is the one table from the core's reasons to §5. Clients take a code that they do not know for a plain decline.
var failures = map[payment.Reason]failure{
	payment.ReasonDeclined:          failDeclined,
	payment.ReasonRisk:              failDeclined,
	payment.ReasonInsufficientFunds: {"insufficient_funds", "Insufficient funds"},
	payment.ReasonUnavailable:       {"system_error", "System error"},
	payment.ReasonLimitExceeded:     {"insufficient_funds", "Withdrawal limit exceeded"}, // §5: 61 and 65.
	payment.ReasonCardExpired:       {"expired_card", "Expired card"},
	payment.ReasonCardInvalid:       {"invalid_card_number", "Invalid card number"},
	payment.ReasonCardBlocked:       failDeclined, // §5: 41 and 43.
	payment.ReasonNotPermitted:      failDeclined,
	payment.ReasonRefer:             {"card_declined", "Refer to card issuer"},
	payment.ReasonPINWrong:          {"incorrect_pin", "Incorrect PIN"},
	payment.ReasonPINTries:          {"pin_tries_exceeded", "PIN tries exceeded"},
	payment.ReasonPINNeeded:         {"card_declined", "PIN required"},
	payment.ReasonPartial:           {"insufficient_funds", "Insufficient funds for the full amount"},
	payment.ReasonDuplicate:         failDeclined,
	payment.ReasonAmountTooLow:      failDeclined,
	payment.ReasonAmountTooHigh:     failDeclined,
	payment.ReasonCodeInvalid:       failDeclined,
	payment.ReasonCodeUsed:          failDeclined,
	payment.ReasonCodeExpired:       failDeclined,
	payment.ReasonCodeCancelled:     failDeclined,
	payment.ReasonCustomerCancelled: failDeclined,
	payment.ReasonExpired:           {"card_declined", "Not completed in time"},
	payment.ReasonCancelled:         failDeclined,
	payment.ReasonRefundExceeds:     failDeclined,
}

func failureOf(r payment.Reason) failure {
	if f, ok := failures[r]; ok {
		return f
	}
	return failDeclined
}

// attemptFailure is why an attempt failed. Of the host's plain refusals only 05 has a word of its own (§5).
func attemptFailure(a *payment.Operation) failure {
	if a.Failure == payment.ReasonDeclined && a.Result.Code == "05" {
		return failure{"do_not_honor", "Do not honor"}
	}
	return failureOf(a.Failure)
}

// refusals is the one table from the core's errors and the registry's to §5. The first that fits counts.
var refusals = []struct {
	err  error
	wire *Error
}{
	{terminal.ErrTaken, refuse(TypeAPI, CodeRegisterFailed, "Terminal register failed")},
	{payment.ErrNotFound, refuse(TypeNotFound, CodeNotFoundID, "No such resource id")},
	{payment.ErrKeyBusy, errProcessing},
	{payment.ErrKeyReused, refuse(TypeIdempotency, CodeKeyMismatch, "Idempotency key already used with another request")},
	{payment.ErrNotPaid, refuse(TypePayment, CodeInvalidStatus, "Invalid order status")},
	{payment.ErrExceeds, refuse(TypeInvalidRequest, CodeInvalidAmount, "Amount is more than is left")},
	{payment.ErrWindow, refuse(TypePayment, CodeInvalidStatus, "Invalid order status: too late")},
	{payment.ErrWrongKind, refuse(TypeNotFound, CodeNotFoundID, "No such resource id")},
	{payment.ErrConflict, refuse(TypePayment, CodeInvalidStatus, "Invalid order status")},
	{payment.ErrMethod, refuse(TypeProduct, CodeProductNotFound, "Product not found")},
	{payment.ErrCurrency, refuse(TypeInvalidRequest, CodeInvalidCurrency, "Invalid order currency")},
	{payment.ErrUnauthorized, refuse(TypeUnauthorized, CodeUnauthorized, "unauthorized")},
	{payment.ErrForbidden, refuse(TypeUnauthorized, CodeUnauthorized, "unauthorized")},
	{payment.ErrUnavailable, refuse(TypeAPI, CodeAPIError, "Service unavailable, please try again later")},
	{payment.ErrInvalid, refuse(TypeInvalidRequest, CodeInvalidParameter, "parameter is invalid")},
}

// errRepeat is the refusal of a STAN that was used before (§3.3).
var errRepeat = refuse(TypePayment, CodeRepeat, "Repeat payment request: system_trace_audit_number was used before")

// refusal is the wire's word for an error. Nil means that it is none the caller can do something about.
func refusal(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	var once *payment.OnceError
	if errors.As(err, &once) {
		return errRepeat
	}
	var field *payment.FieldError
	if errors.As(err, &field) {
		if field.Field == "amount" {
			return refuse(TypeInvalidRequest, CodeInvalidAmount, "Invalid amount: %s", field.Problem)
		}
		return refuse(TypeInvalidRequest, CodeInvalidParameter, "Invalid request parameters: %s", field.Field)
	}
	for _, r := range refusals {
		if errors.Is(err, r.err) {
			return r.wire
		}
	}
	return nil
}

// refundRefusal is the same for refunds, which have a type of error of their own.
func refundRefusal(err error) error {
	var field *payment.FieldError
	switch {
	case errors.Is(err, payment.ErrExceeds), errors.As(err, &field) && field.Field == "amount":
		return refuse(TypeRefund, CodeInvalidRefundAmount, "Invalid refund amount")
	case errors.Is(err, payment.ErrNotPaid), errors.Is(err, payment.ErrWindow), errors.Is(err, payment.ErrConflict):
		return refuse(TypeRefund, CodeInvalidStatus, "Invalid order status")
	}
	return err
}

// intentOf is a payment as the intent object.
func intentOf(v payment.View) (*Intent, error) {
	p := &v.Payment
	m, err := readMemo(p.Echo)
	if err != nil {
		return nil, err
	}
	i := &Intent{ID: p.Number(), Amount: p.Amount.Trimmed(), Currency: p.Amount.Currency().Code(), Status: intentStatus(p, v.Attempt.State),
		Description: m.Description, MerchantOrderID: p.Reference, Metadata: m.metadata(), ReturnURL: m.ReturnURL, CapturedAmount: "0",
		CreateTime: wireTime(p.CreatedAt), UpdateTime: wireTime(p.ModifiedAt)}
	if i.Status == "" {
		return nil, fmt.Errorf("uqpay: payment %d is %s with an attempt that is %s", p.ID, p.State, v.Attempt.State)
	}
	if v.Attempt.ID != 0 {
		i.LatestAttempt = attemptOf(v)
		i.CapturedAmount = i.LatestAttempt.CapturedAmount
	}
	switch i.Status {
	case IntentSucceeded:
		i.CompleteTime = wireTime(v.Attempt.SettledAt)
	case IntentFailed:
		i.CompleteTime = wireTime(p.ModifiedAt)
	case IntentCancelled:
		i.CancelTime, i.CancellationReason = wireTime(p.ModifiedAt), cancellationReason(p)
	}
	return i, nil
}

// cancellationReason is the reason that the caller gave; ours is not shown.
func cancellationReason(p *payment.Payment) string {
	if slices.Contains(givenUp, p.State) && cancellationReasons[p.FailureText] {
		return p.FailureText
	}
	return ""
}

// attemptOf is the attempt of a view as the attempt object.
func attemptOf(v payment.View) *Attempt {
	p, a := &v.Payment, &v.Attempt
	out := &Attempt{ID: attemptNumbering.Number(a.ID), Status: attemptStatus(p, a), Amount: a.Amount.Trimmed(), Currency: a.Amount.Currency().Code(),
		CapturedAmount: "0", RefundedAmount: "0", AuthCode: a.Result.AuthCode, RRN: rrnOf(a), PaymentMethod: methodOf(a),
		CreateTime: wireTime(a.CreatedAt), UpdateTime: wireTime(laterOf(a.CreatedAt, a.SettledAt)), CompleteTime: wireTime(a.SettledAt)}
	switch out.Status {
	case AttemptFailed:
		f := attemptFailure(a)
		out.FailureCode, out.FailureMessage = f.code, f.text
	case AttemptCancelled:
		out.CancellationReason = cancellationReason(p)
	}
	out.CapturedAmount = capturedAmount(p, a, out.Status)
	if a.ID == p.Attempt {
		out.RefundedAmount = money.New(p.Refunded, p.Amount.Currency()).Trimmed()
	}
	return out
}

// capturedAmount is the amount of a sale as soon as there is an attempt, unless that came to nothing (§3.3).
func capturedAmount(p *payment.Payment, a *payment.Operation, s AttemptStatus) string {
	switch {
	case a.ID == p.Attempt && p.Captured > 0:
		return money.New(p.Captured, p.Amount.Currency()).Trimmed()
	case a.Kind == payment.Sale && s != AttemptFailed && s != AttemptCancelled:
		return a.Amount.Trimmed()
	}
	return "0"
}

func laterOf(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// rrnDigits is the length of a retrieval reference number (DE 37).
const rrnDigits = 12

// rrnOf is the number under which the host knows an attempt; numbers of other links are no RRN.
func rrnOf(a *payment.Operation) string {
	if len(a.Number) == rrnDigits && strings.Trim(a.Number, "0123456789") == "" {
		return a.Number
	}
	return ""
}

// methodOf is what is shown of an attempt's card.
func methodOf(a *payment.Operation) *MethodView {
	f := a.Card
	if f == (payment.CardFacts{}) {
		return nil
	}
	c := &CardView{Number: f.Masked, Network: string(f.Scheme), EntryMode: string(f.Entry), Verification: string(f.Verification), STAN: f.STAN}
	if f.TID != "" {
		c.Terminal = &TerminalView{f.TID}
	}
	return &MethodView{Type: methodCard, CardPresent: c}
}

// refundOf is a refund as the refund object.
func refundOf(v payment.RefundView) (*Refund, error) {
	m, err := readMemo(v.Refund.Echo)
	if err != nil {
		return nil, err
	}
	r := &v.Refund
	status, ok := refundStates[r.State]
	if !ok {
		return nil, fmt.Errorf("uqpay: refund %d is %s", r.ID, r.State)
	}
	return &Refund{ID: refundNumbering.Number(r.ID), IntentID: v.Payment.Number(), AttemptID: attemptNumbering.Number(r.Target), Amount: r.Amount.Trimmed(),
		Currency: r.Amount.Currency().Code(), Status: status, Reason: m.Reason, Metadata: m.metadata(), CreateTime: wireTime(r.CreatedAt),
		UpdateTime: wireTime(laterOf(r.CreatedAt, r.SettledAt))}, nil
}

// statusSynonyms are what clients also call the states of an intent (§4.1).
var statusSynonyms = map[IntentStatus]IntentStatus{
	"REQUIRES_CONFIRMATION": RequiresPaymentMethod,
	"REQUIRES_ACTION":       RequiresCustomerAction,
	"PROCESSING":            IntentPending,
	"CANCELED":              IntentCancelled,
}

// intentFilter says which payments have a status, by the tables above.
func intentFilter(s IntentStatus) (payment.ListFilter, bool) {
	s = cmp.Or(statusSynonyms[s], s)
	var f payment.ListFilter
	for state, status := range intentStates {
		if status == s {
			f.States = append(f.States, state)
		}
	}
	for state, status := range openStates {
		if status == s {
			f.States, f.Attempts = []payment.State{payment.Open}, append(f.Attempts, state)
		}
	}
	slices.Sort(f.States) // One text of the statement for one status.
	slices.Sort(f.Attempts)
	return f, f.States != nil
}

// attemptFilters say which attempts have a status. A status without a row here is known, and no attempt of ours ever has it.
var attemptFilters = map[AttemptStatus]payment.ListFilter{
	AttemptInitiated:        {Attempts: []payment.OperationState{payment.Created}, States: notGivenUp},
	AttemptRedirected:       {Attempts: []payment.OperationState{payment.Waiting}, States: notGivenUp},
	AttemptPending:          {Attempts: []payment.OperationState{payment.Reversing, payment.Sent, payment.Unknown}, States: notGivenUp},
	AttemptAuthorized:       {Attempts: []payment.OperationState{payment.Approved}, States: []payment.State{payment.Authorized}},
	AttemptCaptureRequested: {Attempts: []payment.OperationState{payment.Approved}, States: []payment.State{payment.Captured}},
	AttemptFailed:           {Attempts: []payment.OperationState{payment.Declined, payment.Reversed}, Failed: true},
	AttemptCancelled:        {States: givenUp, Unfailed: true},
}

var notGivenUp = []payment.State{payment.Open, payment.Authorized, payment.Captured, payment.Refused, payment.Expired}

// attemptUnused are the statuses that no attempt of ours ever has.
var attemptUnused = map[AttemptStatus]bool{AttemptSettled: true, AttemptSucceeded: true, AttemptExpired: true}

// refundFilters say which refunds have a status; PENDING is what webhook constants call PROCESSING (§4.3).
var refundFilters = map[RefundStatus]payment.ListFilter{
	RefundInitiated: {Refunds: []payment.OperationState{payment.Created}},
	RefundProcessing: {Refunds: []payment.OperationState{payment.Reversed, payment.Reversing, payment.Sent, payment.Unknown,
		payment.Waiting}},
	RefundSucceeded: {Refunds: []payment.OperationState{payment.Approved}},
	RefundFailed:    {Refunds: []payment.OperationState{payment.Declined}},
}

var refundUnused = map[RefundStatus]bool{RefundReversalInitiated: true, RefundReversalProcessing: true, RefundReversalSucceeded: true}

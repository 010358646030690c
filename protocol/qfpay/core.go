package qfpay

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
)

// Protocol is the name of this protocol in credentials and payments, and the scope of out_trade_no.
const (
	Protocol = "qfpay"
	Scope    = "qfpay"
)

// hongKong is the zone of every time on the wire (§4.0). It has had no summer time since 1979.
var hongKong = time.FixedZone("HKT", 8*60*60)

const timeForm = "2006-01-02 15:04:05"

func wireTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.In(hongKong).Format(timeForm)
}

// outcome is what a trade's end looks like on the wire: the code of the answer to the sale or refund itself, and the inner one, which an
// inquiry shows as well.
type outcome struct {
	code  Code
	inner Inner
	text  string
}

// outcomes is the table of ends that are no decline. What is not in it is a decline, by the table reasons.
var outcomes = map[payment.Outcome]outcome{
	payment.OutcomeApproved: {CodeOK, InnerOK, "trade success"},
	payment.OutcomeWaiting:  {CodeError, InnerAwaitCustomer, "not decided yet; use inquiry"},
	payment.OutcomeUnknown:  {CodeError, InnerProcessing, "result unknown, use inquiry"}, // Design 5.
}

// reasons is the table of declines (§10.4, §6.1).
var reasons = map[payment.Reason]outcome{
	payment.ReasonDeclined:          {CodeError, InnerFailed, "declined"},
	payment.ReasonRisk:              {CodeError, InnerForbidden, "declined"},
	payment.ReasonInsufficientFunds: {CodeError, InnerBalance, "balance too low"},
	payment.ReasonUnavailable:       {CodeError, InnerBankBusy, "the bank cannot be reached"},
	payment.ReasonLimitExceeded:     {CodeError, InnerAccount, "limit exceeded"},
	payment.ReasonCardExpired:       {CodeError, InnerAccount, "card expired"},
	payment.ReasonCardInvalid:       {CodeError, InnerAccount, "card invalid"},
	payment.ReasonCardBlocked:       {CodeError, InnerAccount, "card blocked"},
	payment.ReasonNotPermitted:      {CodeError, InnerForbidden, "not permitted"},
	payment.ReasonRefer:             {CodeError, InnerBank, "call the card's issuer"},
	payment.ReasonPINWrong:          {CodeError, InnerAccount, "wrong PIN"},
	payment.ReasonPINTries:          {CodeError, InnerAccount, "PIN tries exceeded"},
	payment.ReasonPINNeeded:         {CodeError, InnerAccount, "PIN needed"},
	payment.ReasonPartial:           {CodeError, InnerBank, "only a part was approved, and given back"},
	payment.ReasonDuplicate:         {CodeError, InnerDuplicate, "serial number repeats"},
	payment.ReasonAmountTooLow:      {CodeError, InnerAmount, "amount too low"},
	payment.ReasonAmountTooHigh:     {CodeError, InnerAmount, "amount too high"},
	payment.ReasonCodeInvalid:       {CodeError, InnerCodeInvalid, "payment code invalid"},
	payment.ReasonCodeUsed:          {CodeError, InnerCodeInvalid, "payment code already used"},
	payment.ReasonCodeExpired:       {CodeError, InnerCodeExpired, "payment code expired"},
	payment.ReasonCodeCancelled:     {CodeError, InnerCodeInvalid, "payment code cancelled"},
	payment.ReasonCustomerCancelled: {CodeCancelled, InnerClosed, "cancelled by the customer"},
	payment.ReasonExpired:           {CodeError, InnerExpired, "timed out"},
	payment.ReasonCancelled:         {CodeCancelled, InnerClosed, "cancelled"},
	payment.ReasonRefundExceeds:     {CodeError, InnerExceeds, "refund above the refundable amount"},
}

var busy = outcome{CodeError, "", "terminal busy"}

// refusals is the one table from errors to the wire: what was asked for was not begun. What is not in it was not expected:
// see unexpected.
var refusals = []struct {
	err error
	outcome
}{
	{ErrBusy, busy},
	{ErrOffline, outcome{CodeError, InnerFailed, "the terminal has no connection; nothing was started"}},
	{ErrNotLoggedIn, outcome{CodeNotLoggedIn, "", "the terminal is not activated"}},
	{ErrTooLate, outcome{CodeError, "", "cannot cancel now"}},
	{ErrNotRunning, outcome{CodeError, "", "no such order is running"}},
	{ErrSameDayPartial, outcome{CodeError, InnerSameDayPartial, "on the day of the payment a card is refunded in full only"}},
	{ErrNotRefundable, outcome{CodeError, InnerNoRefund, "this payment method cannot be refunded"}},

	{payment.ErrNotFound, outcome{CodeError, InnerNotFound, "order not found"}},
	{payment.ErrInvalid, outcome{CodeWrongParam, "", "wrong parameters"}},
	{payment.ErrConflict, outcome{CodeError, InnerDenied, "the order's state does not allow this"}},
	{payment.ErrKeyReused, outcome{CodeError, InnerDuplicate, "out_trade_no is already used"}},
	{payment.ErrKeyBusy, outcome{CodeError, "", "terminal busy: an equal request is still unresolved; use inquiry"}},
	{payment.ErrNotPaid, outcome{CodeError, InnerUnpaid, "the order is not paid"}},
	{payment.ErrExceeds, outcome{CodeError, InnerExceeds, "refund above the refundable amount"}},
	{payment.ErrWindow, outcome{CodeError, InnerNoRefund, "refund not possible at this time"}},
	{payment.ErrWrongKind, outcome{CodeError, InnerNoRefund, "the order is a refund itself"}},
	{payment.ErrMethod, outcome{CodeWrongParam, "", "channel is not enabled on this terminal"}},
	{payment.ErrCurrency, outcome{CodeWrongParam, "", "the terminal does not take HKD"}},
	{payment.ErrUnauthorized, outcome{CodeNotLoggedIn, "", "the terminal is not activated"}},
	{payment.ErrForbidden, outcome{CodeDenied, "", "the terminal, its shop or merchant is disabled"}},
	{payment.ErrUnavailable, outcome{CodeError, InnerFailed, "cannot be done now; nothing was started"}},
}

// unexpected is the answer to an error that no table knows. Of a sale or refund it may hide money that moved, so its outcome is unknown.
func unexpected(money bool) outcome {
	if money {
		return outcomes[payment.OutcomeUnknown]
	}
	return outcome{CodeOther, "", "internal fault"}
}

// refusal words an error. known is false if the table lacks it, and the log should have it.
func refusal(err error, money bool) (o outcome, known bool) {
	var field *payment.FieldError
	if errors.As(err, &field) {
		return outcome{CodeWrongParam, "", field.Field + " " + field.Problem}, true
	}
	var param *paramError
	if errors.As(err, &param) {
		return outcome{CodeWrongParam, "", param.Error()}, true
	}
	var printer *PrinterError
	if errors.As(err, &printer) {
		return outcome{CodeError, "", printer.Error()}, true
	}
	for _, r := range refusals {
		if errors.Is(err, r.err) {
			return r.outcome, true
		}
	}
	return unexpected(money), false
}

// outcomeOf words a trade's end. An outcome or reason that no table knows is never an approval.
func outcomeOf(t Trade) outcome {
	o, ok := outcomes[t.Outcome]
	if !ok && t.Outcome == payment.OutcomeDeclined {
		if o, ok = reasons[t.Reason]; !ok {
			o, ok = reasons[payment.ReasonDeclined], true
		}
	}
	if !ok {
		o = outcomes[payment.OutcomeUnknown]
	}
	if t.Text != "" && t.Outcome == payment.OutcomeDeclined {
		o.text = t.Text
	}
	return o
}

// done is the answer to what succeeds and has nothing to tell (§4.0).
var done = Response{Code: CodeOK, Message: "OK"}

// response is an answer without a trade. The inner code stands in data and at the end of the text, so that people who see only the
// text can name it.
func (o outcome) response() Response {
	r := Response{Code: o.code, Error: o.words()}
	if o.inner != "" {
		r.Data = encodeData(FaultData{ResErr: o.text, RespCD: o.inner})
	}
	return r
}

func (o outcome) words() string {
	if o.inner == "" {
		return o.text
	}
	return fmt.Sprintf("%s (%s)", o.text, o.inner)
}

// encodeData writes an inner object. Its types have no way to fail.
func encodeData(v any) Data {
	b, err := marshal(v)
	if err != nil {
		panic("qfpay: " + err.Error())
	}
	return Data(b)
}

// tradeResponse is the answer to a sale or refund (§4.1, §4.2).
func tradeResponse(t Trade, id Identity) Response {
	o := outcomeOf(t)
	message := ""
	if o.code == CodeOK && t.Channel.IsCard() && !t.Refund {
		message = "AUTHORISED" // As captured; a wallet's is empty.
	}
	text := o.text
	if t.Refund && o.code == CodeOK {
		text = "success"
	}
	r := Response{Code: o.code, Message: message, Error: text}
	if o.code != CodeOK {
		r.Error = o.words()
	}
	if t.Refund {
		r.Data = encodeData(refundData(t, o.inner, text, message))
	} else {
		r.Data = encodeData(tradeData(t, id, o.inner, text, message))
	}
	return r
}

func tradeData(t Trade, id Identity, inner Inner, text, message string) TradeData {
	row := t.Channel.row()
	d := TradeData{
		Address: Text(id.Address), BatchNo: "", Busicd: Text(row.busicd(t.Flow)), Chnlsn: Text(t.Reference), Clisn: Text(cmp.Or(t.Serial, trace(t))),
		Mchntnm: Text(id.MerchantName), OutTradeNo: Text(t.OutTradeNo), Paydtm: Text(wireTime(t.PaidAt)), PaymentMethod: Text(row.display),
		PaymentType: "Sales", ResErr: text, ResMsg: message, RespCD: Text(inner), StoreID: Text(id.StoreID), UserID: Text(id.StoreID),
		Sysdtm: Text(wireTime(t.CreatedAt)), Syssn: Text(t.Number), TerminalID: Text(id.TerminalID), Txamt: cents(t.Amount), Txcurrcd: Text(hkd.Numeric()),
	}
	if row.card {
		scheme := strings.ToUpper(t.Card.Scheme)
		d.PaymentType, d.BatchNo, d.TraceNo, d.UDID = "SALES", Text(t.Batch), Text(trace(t)), Text(id.DeviceID)
		d.CardNo, d.CardType, d.CardScheme = Text(masked(t.Card.Masked)), Text(scheme), Text(scheme)
	}
	if t.Channel == OctopusPay && t.Outcome == payment.OutcomeApproved {
		d.OctopusOrderID, d.OctopusNo = Text(t.Octopus.OrderID), Text(t.Octopus.CardNumber)
		d.OctopusOrderStatus, d.OctopusPaydtm = "SUCCESS", Text(wireTime(t.PaidAt))
	}
	return d
}

func refundData(t Trade, inner Inner, text, message string) RefundData {
	return RefundData{
		Chnlsn: Text(t.Reference), OrigSyssn: Text(t.Original), OriginTxamt: cents(t.OriginalAmount), OutTradeNo: Text(t.OutTradeNo),
		Paydtm: Text(wireTime(t.PaidAt)), ResErr: text, ResMsg: message, RespCD: Text(inner), Sysdtm: Text(wireTime(t.CreatedAt)),
		Syssn: Text(t.Number), Txamt: cents(t.Amount), Txcurrcd: Text(hkd.Numeric()), Txdtm: Text(wireTime(t.CreatedAt)),
	}
}

// inquiryResponse is the answer to an inquiry that found something: 6000 whatever became of the trade (§4.5).
func inquiryResponse(t Trade, id Identity, now time.Time) Response {
	o := outcomeOf(t)
	d := InquiryData{
		AllowRefundAmt: "0", BatchNo: t.Batch, Billamt: "0", Busicd: t.Channel.row().busicd(t.Flow), Cancel: Number(cancelStatus(t)),
		CardNo: masked(t.Card.Masked), CardScheme: strings.ToUpper(t.Card.Scheme), CardType: strings.ToUpper(t.Card.Kind), Chnlsn: t.Reference, Clisn: cmp.Or(t.Serial, trace(t)),
		CustomerSource: id.Address, Nickname: cmp.Or(id.StoreName, id.MerchantName), OpUID: "0000", OpUser: id.Operator, OutTradeNo: t.OutTradeNo,
		RefNo: trace(t), RespCD: o.inner, ServerTime: wireTime(now), Sysdtm: wireTime(t.CreatedAt), Syssn: t.Number, Tradetp: "payment",
		Txamt: Number(cents(t.Amount)), Txcurrcd: hkd.Numeric(), UserID: Number(id.StoreID),
	}
	if o.inner != InnerOK {
		d.Desc = o.text
	}
	switch {
	case t.Refund:
		d.Tradetp, d.OrigSsn, d.OrigBusicd = "refund", t.Original, d.Busicd
	case t.Outcome == payment.OutcomeApproved && !t.Voided:
		d.AllowRefundAmt = Number(strconv.FormatInt(t.Amount.Minor()-t.Refunded.Minor(), 10))
	}
	if t.Channel == OctopusPay && t.Outcome == payment.OutcomeApproved {
		d.OctopusNo, d.OctopusOrderID, d.OctopusOrderStatus, d.OctopusPaydtm = t.Octopus.CardNumber, t.Octopus.OrderID, "SUCCESS", wireTime(t.PaidAt)
	}
	return Response{Code: CodeOK, Error: "Query success", Data: encodeData(d)}
}

// cancelStatus says what was taken back of a sale (§4.5).
func cancelStatus(t Trade) CancelStatus {
	switch {
	case t.Refund:
		return CancelNone
	case t.Voided && t.Flow == payment.ByQR:
		return CancelCancelled
	case t.Voided:
		return CancelReversed
	case t.Refunded.Minor() <= 0:
		return CancelNone
	case t.Refunded.Minor() >= t.Amount.Minor():
		return CancelRefunded
	}
	return CancelPart
}

// cents is an amount as answers have it (§4.0); empty for none.
func cents(a money.Amount) Text {
	if a.Currency().IsZero() {
		return ""
	}
	return Text(strconv.FormatInt(a.Minor(), 10))
}

// trace is a trade's six digits.
func trace(t Trade) string {
	const digits = 6
	if t.Trace != "" || len(t.Number) < digits {
		return t.Trace
	}
	return t.Number[len(t.Number)-digits:]
}

// maskForm is the only form in which a card's number leaves.
var maskForm = regexp.MustCompile(`^[0-9]{0,6}\*{3,13}[0-9]{0,4}$`)

// masked lets through what is masked, and nothing else: a Desk that errs must not leak.
func masked(number string) string {
	if !maskForm.MatchString(number) {
		return ""
	}
	return number
}

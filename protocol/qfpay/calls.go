package qfpay

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/tillgate/tillgate/money"
)

// SaleCall is a payment to ask for.
type SaleCall struct {
	OutTradeNo      string // Unique; empty makes one. Keep it before the call: it is what a lost sale is found by.
	Amount          money.Amount
	Channel         Channel
	ScanType        ScanType      // Empty leaves it to the last usage.
	FrontCamera     bool          // Scan with the camera on the customer's side.
	PaymentTimeout  time.Duration // 0 leaves it to the terminal.
	WaitCardTimeout time.Duration // The same; PaymentTimeout goes before it.
	GoHome          bool
}

// RefundCall is a refund to ask for.
type RefundCall struct {
	OrderID   string       // The sale's number: syssn.
	Amount    money.Amount // Zero: all that is left.
	MayChange bool         // The operator may change it on the terminal. Book the Approval's amount.
	GoHome    bool
}

// Approval is what the terminal told of a sale or refund that it approved.
type Approval struct {
	Number     string // syssn; of a refund that was found by an inquiry of its sale it is not known.
	OutTradeNo string
	Original   string // Of a refund, the sale's number.
	Amount     money.Amount
	Reference  string // The wallet's or the bank's.
	CardNumber string // Masked.
	CardScheme string
	PayType    string // busicd
	PaidAt     string // In Hong Kong: "2026-01-02 15:04:07".
	Inquired   bool   // The answer was lost, and an inquiry found it.
}

// refusalOf reads a refusal: the inner code stands in data or, failing that, in brackets behind the text.
func refusalOf(r Response) *Refusal {
	out := &Refusal{Code: r.Code, Text: cmp.Or(r.Error, r.Message)}
	var d struct {
		RespCD Text `json:"respcd"`
	}
	if json.Unmarshal([]byte(r.Data), &d) == nil {
		out.Inner = Inner(d.RespCD)
	}
	if m := innerForm.FindStringSubmatch(out.Text); out.Inner == "" && m != nil {
		out.Inner = Inner(m[1])
	}
	return out
}

var innerForm = regexp.MustCompile(`\b([0-9]{4})\)?$`)

// decided is the error of an answer that is no success; errPending if it leaves the end open.
func decided(r Response) error {
	refused := refusalOf(r)
	switch {
	case r.Code == CodeError && refused.Inner.Pending():
		return fmt.Errorf("%w: %w", errPending, refused)
	case r.Code == CodeOther: // A fault in the terminal: whether before or after, it does not say.
		return fmt.Errorf("%w: %w", errPending, refused)
	}
	return refused
}

// free are the characters that a text must not hold, since the canonical form cannot escape them (§2.3).
const notFree = `'"\{},=`

func checkFree(name, text string) error {
	if strings.ContainsAny(text, notFree) || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return fmt.Errorf("qfpay: %s must not hold any of %s, nor control characters", name, notFree)
	}
	return nil
}

func addText(members []member, name, text string) []member {
	if text == "" {
		return members
	}
	return append(members, member{name, value{kind: stringKind, text: text}})
}

func addNumber(members []member, name, digits string) []member {
	return append(members, member{name, value{kind: numberKind, text: digits}})
}

func addFlag(members []member, name string, on bool) []member {
	if !on {
		return members
	}
	return addNumber(members, name, "1")
}

func addSeconds(members []member, name string, d time.Duration) []member {
	if d <= 0 {
		return members
	}
	return addNumber(members, name, strconv.Itoa(int((d+time.Second-1)/time.Second)))
}

func (s SaleCall) members() ([]member, error) {
	if s.Amount.Currency() != hkd || !s.Amount.IsPositive() || s.Amount.Minor() > amountMaxMinor {
		return nil, fmt.Errorf("qfpay: amount %s %s must be in HKD, above 0 and at most %s", s.Amount, s.Amount.Currency(), money.New(amountMaxMinor, hkd))
	}
	if err := checkFree("out_trade_no", s.OutTradeNo); err != nil {
		return nil, err
	}
	if s.Channel.row().name == "" {
		return nil, fmt.Errorf("qfpay: there is no channel %q", string(s.Channel))
	}
	m := addNumber(nil, "amt", s.Amount.Trimmed()) // 10.1, never 10.10: a terminal may write it anew before it signs (§2.3).
	m = addText(m, "channel", string(s.Channel))
	m = addText(m, "out_trade_no", s.OutTradeNo)
	m = addText(m, "scan_type", string(s.ScanType))
	m = addFlag(m, "camera_id", s.FrontCamera)
	m = addFlag(m, "moveToBack", s.GoHome)
	m = addSeconds(m, "payment_timeout", s.PaymentTimeout)
	return addSeconds(m, "wait_card_timeout", s.WaitCardTimeout), nil
}

// approval reads the answer to a sale. An answer about something else decides nothing.
func (s SaleCall) approval(r Response) (*Approval, error) {
	if r.Code != CodeOK {
		return nil, decided(r)
	}
	a := &Approval{OutTradeNo: s.OutTradeNo, Amount: s.Amount}
	if r.Data == "" {
		return a, nil // A success without words (§4.0).
	}
	var d TradeData
	if err := json.Unmarshal([]byte(r.Data), &d); err != nil {
		return nil, fmt.Errorf("%w: data of the sale: %w", errPending, err)
	}
	if err := s.matches(string(d.OutTradeNo), string(d.Txamt)); err != nil {
		return nil, err
	}
	if inner := Inner(d.RespCD); inner != "" && inner != InnerOK {
		return nil, fmt.Errorf("%w: %s with inner %s", errPending, r.Code, inner) // It contradicts itself.
	}
	a.Number, a.Reference, a.PayType, a.PaidAt = string(d.Syssn), string(d.Chnlsn), string(d.Busicd), string(d.Paydtm)
	a.CardNumber, a.CardScheme = string(d.CardNo), string(d.CardScheme)
	return a, nil
}

// matches fails with errPending when an answer is not about this sale. Amounts may be in cents or in dollars (§4.0).
func (s SaleCall) matches(outTradeNo, txamt string) error {
	if outTradeNo != "" && outTradeNo != s.OutTradeNo {
		return fmt.Errorf("%w: the answer is about out_trade_no %q", errPending, outTradeNo)
	}
	if txamt == "" || txamt == string(cents(s.Amount)) {
		return nil
	}
	if a, err := money.Parse(txamt, hkd); err != nil || a != s.Amount {
		return fmt.Errorf("%w: the answer is about an amount of %q", errPending, txamt)
	}
	return nil
}

// inquired reads what an inquiry found of a sale.
func (s SaleCall) inquired(d *InquiryData) (*Approval, error) {
	if err := s.matches(d.OutTradeNo, string(d.Txamt)); err != nil {
		return nil, err
	}
	switch status := CancelStatus(d.Cancel); {
	case d.RespCD.Pending(), d.RespCD == "":
		return nil, errPending
	case d.RespCD != InnerOK:
		return nil, &Refusal{Code: CodeError, Inner: d.RespCD, Text: d.Desc}
	case status == CancelReversed || status == CancelCancelled:
		return nil, &Refusal{Code: CodeCancelled, Inner: InnerClosed, Text: "it was approved and taken back"}
	}
	return &Approval{Number: d.Syssn, OutTradeNo: s.OutTradeNo, Amount: s.Amount, Reference: d.Chnlsn, CardNumber: d.CardNo,
		CardScheme: d.CardScheme, PayType: d.Busicd, PaidAt: d.Sysdtm, Inquired: true}, nil
}

func (r RefundCall) members() ([]member, error) {
	if r.OrderID == "" {
		return nil, errors.New("qfpay: a refund needs the sale's order id")
	}
	if err := checkFree("orderId", r.OrderID); err != nil {
		return nil, err
	}
	m := addText(nil, "orderId", r.OrderID)
	if !r.Amount.IsZero() {
		if r.Amount.Currency() != hkd || !r.Amount.IsPositive() || r.Amount.Minor() > amountMaxMinor {
			return nil, fmt.Errorf("qfpay: amount %s %s must be in HKD and above 0", r.Amount, r.Amount.Currency())
		}
		m = addText(m, "refund_amount", r.Amount.String())
	}
	m = addFlag(m, "allow_modify_flag", r.MayChange)
	return addFlag(m, "moveToBack", r.GoHome), nil
}

// approval reads the answer to a refund.
func (r RefundCall) approval(answer Response) (*Approval, error) {
	if answer.Code != CodeOK {
		return nil, decided(answer)
	}
	a := &Approval{Original: r.OrderID, Amount: r.Amount}
	if answer.Data == "" {
		return a, nil
	}
	var d RefundData
	if err := json.Unmarshal([]byte(answer.Data), &d); err != nil {
		return nil, fmt.Errorf("%w: data of the refund: %w", errPending, err)
	}
	if inner := Inner(d.RespCD); inner != "" && inner != InnerOK {
		return nil, fmt.Errorf("%w: %s with inner %s", errPending, answer.Code, inner)
	}
	a.Number, a.OutTradeNo, a.Reference, a.PaidAt = string(d.Syssn), string(d.OutTradeNo), string(d.Chnlsn), string(d.Paydtm)
	if minor, err := strconv.ParseInt(string(d.Txamt), 10, 64); err == nil && (r.Amount.IsZero() || r.MayChange) {
		a.Amount = money.New(minor, hkd)
	}
	return a, nil
}

// compare tells from two inquiries about the sale whether the refund between them was made.
func (r RefundCall) compare(before, after *InquiryData) (*Approval, error) {
	was, err1 := strconv.ParseInt(string(before.AllowRefundAmt), 10, 64)
	is, err2 := strconv.ParseInt(string(after.AllowRefundAmt), 10, 64)
	gone := was - is
	switch status := CancelStatus(after.Cancel); {
	case err1 != nil, err2 != nil, gone <= 0:
		return nil, errPending
	case status != CancelRefunded && status != CancelPart && status != CancelReversed:
		return nil, errPending
	case !r.Amount.IsZero() && !r.MayChange && gone != r.Amount.Minor():
		return nil, errPending // Somebody else refunds it too.
	}
	return &Approval{Original: r.OrderID, Amount: money.New(gone, hkd), Reference: after.Chnlsn, PayType: after.Busicd, PaidAt: after.ServerTime, Inquired: true}, nil
}

package iotpay

import (
	"fmt"
	"log/slog"
	"strconv"

	"github.com/tillgate/tillgate/payment"
)

// The codes of retCode and resCode (seed). Both must be SUCCESS before anything else is read.
const (
	Success = "SUCCESS"
	Fail    = "FAIL"
)

// Status is an order's status (§4.1).
type Status int64

// The statuses.
const (
	StatusCreated      Status = 0
	StatusPaying       Status = 1
	StatusPaid         Status = 2
	StatusAcknowledged Status = 3 // Paid, and the merchant has acknowledged the notification.
	StatusClosed       Status = 4 // Cancelled by the system.
	StatusFailed       Status = 9 // Cancelled by the customer, or declined.
)

// Paid reports whether the order is paid: exactly 2 and 3 are (seed).
func (s Status) Paid() bool { return s == StatusPaid || s == StatusAcknowledged }

// Final reports whether the order never changes any more. A status that is not known is neither paid nor final (§4.1).
func (s Status) Final() bool { return s.Paid() || s == StatusClosed || s == StatusFailed }

// Code is an error code (§5).
type Code string

// The error codes. HTTP's status is 200 with all of them.
const (
	CodeSystem     Code = "0010" // Query before anything else.
	CodeNotPost    Code = "0011"
	CodeEmpty      Code = "0012"
	CodeSignature  Code = "0013"
	CodeParameter  Code = "0014"
	CodeMerchant   Code = "0015"
	CodeTimeout    Code = "0110" // Query before anything else.
	CodeThirdParty Code = "0111" // Query before anything else.
	CodeNotFound   Code = "0112"
	CodePaid       Code = "0113"
	CodeDatabase   Code = "0118" // Query before anything else.
)

// codeNames are the names of §5.
var codeNames = map[Code]string{
	CodeSystem:     "system error",
	CodeNotPost:    "POST required",
	CodeEmpty:      "POST data empty",
	CodeSignature:  "signature error",
	CodeParameter:  "parameter error",
	CodeMerchant:   "merchant does not exist",
	CodeTimeout:    "third party time-out",
	CodeThirdParty: "third party exception",
	CodeNotFound:   "merchant order does not exist",
	CodePaid:       "order already paid",
	CodeDatabase:   "database error",
}

// Error is a FAIL answer: nothing was asked of the bank, or nothing is known of it (§5). Never branch on its texts.
type Error struct {
	Code        Code
	Message     string // retMsg
	Description string // errCodeDes
}

func (e *Error) Error() string {
	return fmt.Sprintf("iotpay: %s %s: %s", e.Code, e.Message, e.Description)
}

// refuse makes an error with the texts of its code and a description for people.
func refuse(code Code, format string, args ...any) *Error {
	e := &Error{Code: code, Message: codeNames[code], Description: fmt.Sprintf(format, args...)}
	if code == CodeSignature {
		e.Message = "signature fail" // seed
	}
	return e
}

// need says when a request must have a field.
type need uint8

const (
	optional need = iota
	strictly      // Documented as required, but public clients leave it out: only asked for when that is configured (§3.1).
	required
)

// field is a field of a request: its name on the wire and where it is kept.
type field struct {
	name string
	to   any // *string, *int64 or *payment.WalletCode.
	need need
}

// read fills fields from parameters. The first fault in the order of the fields is reported.
func read(p Params, fields []field, strict bool) error {
	for _, f := range fields {
		text := p.Get(f.name)
		if text == "" {
			if f.need == required || f.need == strictly && strict {
				return refuse(CodeParameter, "%s is required.", f.name)
			}
			continue
		}
		switch to := f.to.(type) {
		case *string:
			*to = text
		case *payment.WalletCode:
			*to = payment.WalletCode(text)
		case *int64:
			n, err := cents(text)
			if err != nil {
				return refuse(CodeParameter, "%s %v.", f.name, err)
			}
			*to = n
		}
	}
	return nil
}

// params are the fields as parameters, empty ones left out. An amount of zero is kept: the seed's sample has "tip":"0".
func params(fields []field) Params {
	var list Params
	for _, f := range fields {
		q := Param{Name: f.name}
		switch to := f.to.(type) {
		case *string:
			q.Text = *to
		case *payment.WalletCode:
			q.Text = to.Reveal()
		case *int64:
			q.Text = strconv.FormatInt(*to, 10) // Integers as strings, as in the seed's sample.
		}
		if q.Text != "" {
			list = append(list, q)
		}
	}
	return list
}

// CreateOrder is a request of create_order (§3.1 to §3.3).
type CreateOrder struct {
	MchID, MchOrderNo, ChannelID, Currency string
	Amount                                 int64 // In cents, without the tip.
	ClientIP, Device                       string
	NotifyURL, Subject, Body, Extra, JobNo string
	Remarks, Source                        string
	Tip                                    int64              // In cents, on top of Amount.
	CodeType                               string             // Of a merchant's scan: "barcode".
	IdentityCode                           payment.WalletCode // Of a merchant's scan: the customer's payment code.
	DeviceID                               string             // The scanner's serial number.
	Param1, Param2                         string
}

// LogValue shows the order's number only: the customer's payment code can be spent.
func (o CreateOrder) LogValue() slog.Value { return slog.StringValue("order " + o.MchOrderNo) }

// fields are those of a channel's request, in the order of the document.
func (o *CreateOrder) fields(c channel) []field {
	scan := optional
	if c.flow == payment.ByCode {
		scan = required
	}
	extra := strictly
	if c.flow == payment.ByCode {
		extra = optional // §3.2
	}
	codeType := optional
	if scan == required {
		codeType = strictly
	}
	return []field{
		{"mchId", &o.MchID, required}, {"mchOrderNo", &o.MchOrderNo, required}, {"channelId", &o.ChannelID, required},
		{"currency", &o.Currency, required}, {"amount", &o.Amount, required}, {"clientIp", &o.ClientIP, required},
		{"device", &o.Device, optional}, {"notifyUrl", &o.NotifyURL, required}, {"subject", &o.Subject, required},
		{"body", &o.Body, strictly}, {"extra", &o.Extra, extra}, {"jobNo", &o.JobNo, strictly}, {"remarks", &o.Remarks, optional},
		{"source", &o.Source, optional}, {"tip", &o.Tip, optional}, {"codeType", &o.CodeType, codeType}, {"identityCode", &o.IdentityCode, scan},
		{"deviceId", &o.DeviceID, optional}, {"param1", &o.Param1, optional}, {"param2", &o.Param2, optional},
	}
}

// QueryOrder is a request of query_order (§3.6), and with the same fields of close_order (§3.9): one of the two numbers is enough.
type QueryOrder struct{ MchID, PayOrderID, MchOrderNo string }

func (o *QueryOrder) fields() []field {
	return []field{{"mchId", &o.MchID, required}, {"payOrderId", &o.PayOrderID, optional}, {"mchOrderNo", &o.MchOrderNo, optional}}
}

// RefundOrder is a request of refund_order (§3.7).
type RefundOrder struct {
	MchID, MchRefundNo  string
	RefundAmount        int64 // In cents.
	ClientIP, LoginName string
	PayOrderID          string // Of the original; its mchOrderNo is accepted too.
	Device, Currency    string
	ChannelID           string
}

func (o *RefundOrder) fields() []field {
	return []field{{"mchId", &o.MchID, required}, {"mchRefundNo", &o.MchRefundNo, required}, {"refundAmount", &o.RefundAmount, required},
		{"clientIp", &o.ClientIP, strictly}, {"loginName", &o.LoginName, strictly}, {"payOrderId", &o.PayOrderID, required},
		{"device", &o.Device, optional}, {"currency", &o.Currency, optional}, {"channelId", &o.ChannelID, optional}}
}

// QueryRefund is a request of query_refund (§3.8): one of the three numbers is enough.
type QueryRefund struct{ MchID, MchRefundNo, RefundOrderID, PayOrderID string }

func (o *QueryRefund) fields() []field {
	return []field{{"mchId", &o.MchID, required}, {"mchRefundNo", &o.MchRefundNo, optional}, {"refundOrderId", &o.RefundOrderID, optional},
		{"payOrderId", &o.PayOrderID, optional}}
}

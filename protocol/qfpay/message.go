package qfpay

import (
	"encoding/json"
	"strings"
)

// FuncType names an operation (QFPay seed, func_type).
type FuncType int

// The operations of the seed. Careful: the path of a refund is /api/pos/cancel, and that of a cancel is /api/pos/cancel_request (§1).
const (
	FuncPayment      FuncType = 1001
	FuncRefund       FuncType = 1002
	FuncPrintReceipt FuncType = 3001
	FuncPrintSummary FuncType = 3002
	FuncInquiry      FuncType = 4001
	FuncCancel       FuncType = 5001
)

// operations is the whole of §1: what a func_type is called and where it is posted.
var operations = []struct {
	funcType   FuncType
	name, path string
}{
	{FuncPayment, "payment", "/api/pos/trade"},
	{FuncRefund, "refund", "/api/pos/cancel"},
	{FuncPrintReceipt, "print receipt", "/api/pos/print_receipt"},
	{FuncPrintSummary, "print summary", "/api/pos/transaction_info"},
	{FuncInquiry, "inquiry", "/api/pos/query_transaction"},
	{FuncCancel, "cancel", "/api/pos/cancel_request"},
}

// String is the operation's name.
func (f FuncType) String() string {
	for _, o := range operations {
		if o.funcType == f {
			return o.name
		}
	}
	return "unknown"
}

// Path is where the operation is posted; empty when there is no such operation.
func (f FuncType) Path() string {
	for _, o := range operations {
		if o.funcType == f {
			return o.path
		}
	}
	return ""
}

// Code is the outcome in a terminal's answer (§6.1). 5001 is both a func_type and a code; they mean different things.
type Code string

// The codes: five of the seed, four that only the documentation names.
const (
	CodeOK            Code = "6000"
	CodeCancelled     Code = "6001"
	CodeError         Code = "6002"
	CodeDenied        Code = "4003"
	CodeWrongMethod   Code = "4004"
	CodeOther         Code = "4005"
	CodeWrongParam    Code = "4006"
	CodeNotLoggedIn   Code = "4007"
	CodeDecryptFailed Code = "5001"
)

// Inner is the code of the transaction itself, which is the cloud's (§10.4).
type Inner string

// The inner codes that we use, or that mean something to our client.
const (
	InnerOK             Inner = "0000"
	InnerAwaitCustomer  Inner = "1143" // Not paid yet; ask again.
	InnerProcessing     Inner = "1145" // Ask again.
	InnerSameDayPartial Inner = "1124"
	InnerNotFound       Inner = "1136"
	InnerClosed         Inner = "1142"
	InnerDenied         Inner = "1155"
	InnerExpired        Inner = "1181"
	InnerBalance        Inner = "1201"
	InnerCodeExpired    Inner = "1202"
	InnerAccount        Inner = "1203"
	InnerBank           Inner = "1204"
	InnerFailed         Inner = "1205"
	InnerForbidden      Inner = "1250"
	InnerUnpaid         Inner = "1261"
	InnerNoRefund       Inner = "1265"
	InnerAmount         Inner = "1266"
	InnerExceeds        Inner = "1272"
	InnerSlow1          Inner = "1295" // The network is slow; confirm later.
	InnerSlow2          Inner = "1296"
	InnerBankBusy       Inner = "1297"
	InnerSlow3          Inner = "1298"
	InnerCodeInvalid    Inner = "2005"
	InnerDuplicate      Inner = "2011"
)

// Pending reports whether the transaction is not decided: its inquiry is to be repeated (§10.4).
func (i Inner) Pending() bool {
	switch i {
	case InnerAwaitCustomer, InnerProcessing, InnerSlow1, InnerSlow2, InnerSlow3:
		return true
	}
	return false
}

// Response is a terminal's answer (§4.0). The fields are in alphabetical order, as on the wire.
type Response struct {
	Data    Data   `json:"data"`
	Code    Code   `json:"respcd"`
	Error   string `json:"resperr"` // Not empty on success either, so never a sign of failure.
	Message string `json:"respmsg"`
}

// Data is an object serialised once more into a text. Empty is nothing, never the text "null": the Odoo client would take that for a
// failure (§4.0).
type Data string

// UnmarshalJSON reads data as text, as an object, as null, or as nothing (§4.0).
func (d *Data) UnmarshalJSON(b []byte) error {
	switch text := strings.TrimSpace(string(b)); {
	case text == "null":
		*d = ""
	case strings.HasPrefix(text, `"`):
		var s string
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
		if strings.TrimSpace(s) == "null" {
			s = ""
		}
		*d = Data(s)
	default:
		*d = Data(text)
	}
	return nil
}

// Text is a member that is null when there is nothing to say. Terminals are not of one mind about types, so numbers are read too.
type Text string

// MarshalJSON writes null for nothing.
func (t Text) MarshalJSON() ([]byte, error) {
	if t == "" {
		return []byte("null"), nil
	}
	return marshal(string(t))
}

// UnmarshalJSON reads text, numbers and null.
func (t *Text) UnmarshalJSON(b []byte) error {
	s, err := scalar(b)
	*t = Text(s)
	return err
}

// Number is a member that is a bare number in an inquiry (§4.5). It is kept as the text it came with: nothing here is ever a float.
type Number string

// MarshalJSON writes the digits bare, and what are no digits as text.
func (n Number) MarshalJSON() ([]byte, error) {
	if n == "" {
		return []byte("0"), nil
	}
	if isNumber(string(n)) {
		return []byte(n), nil
	}
	return marshal(string(n))
}

// UnmarshalJSON reads numbers, text and null.
func (n *Number) UnmarshalJSON(b []byte) error {
	s, err := scalar(b)
	*n = Number(s)
	return err
}

// scalar is the text of a JSON string, number or boolean; empty for null.
func scalar(b []byte) (string, error) {
	text := string(b)
	switch {
	case text == "null":
		return "", nil
	case strings.HasPrefix(text, `"`):
		var s string
		err := json.Unmarshal(b, &s)
		return s, err
	case strings.HasPrefix(text, "{"), strings.HasPrefix(text, "["):
		return "", errShape
	}
	return text, nil
}

// TradeData is what a payment answers, in alphabetical order as captured bodies have it (§4.1). A refusal that the cloud has a code for
// fills RespCD, ResErr and ResMsg alone.
type TradeData struct {
	AccountID          Text   `json:"accountId"`
	Address            Text   `json:"address"`
	BatchNo            Text   `json:"batchNo"`
	Busicd             Text   `json:"busicd"`
	CardNo             Text   `json:"cardNo"` // Masked: six, stars, four.
	CardType           Text   `json:"cardType"`
	CardScheme         Text   `json:"cardscheme"`
	Chnlsn             Text   `json:"chnlsn"`
	Clisn              Text   `json:"clisn"`
	Mchntnm            Text   `json:"mchntnm"`
	OctopusOrderID     Text   `json:"octopusOrderId"`
	OctopusNo          Text   `json:"octopus_no"`
	OctopusOrderStatus Text   `json:"octopus_order_status"`
	OctopusPaydtm      Text   `json:"octopus_paydtm"`
	OutTradeNo         Text   `json:"out_trade_no"`
	Paydtm             Text   `json:"paydtm"`
	PaymentMethod      Text   `json:"paymentMethod"`
	PaymentType        Text   `json:"paymentType"`
	Remark             Text   `json:"remark"`
	ResErr             string `json:"reserr"`
	ResMsg             string `json:"resmsg"`
	RespCD             Text   `json:"respcd"`
	RV                 Text   `json:"rv"`
	StoreID            Text   `json:"storeId"`
	Sysdtm             Text   `json:"sysdtm"`
	Syssn              Text   `json:"syssn"`
	TerminalID         Text   `json:"terminalId"`
	TraceNo            Text   `json:"traceNo"`
	Txamt              Text   `json:"txamt"` // Cents.
	Txcurrcd           Text   `json:"txcurrcd"`
	UDID               Text   `json:"udid"`
	UserID             Text   `json:"userid"`
}

// RefundData is what a refund answers (§4.2).
type RefundData struct {
	Chnlsn      Text   `json:"chnlsn"`
	OrigSyssn   Text   `json:"orig_syssn"`
	OriginTxamt Text   `json:"originTxamt"` // Cents.
	OutTradeNo  Text   `json:"out_trade_no"`
	Paydtm      Text   `json:"paydtm"`
	ResErr      string `json:"reserr"`
	ResMsg      string `json:"resmsg"`
	RespCD      Text   `json:"respcd"`
	Sysdtm      Text   `json:"sysdtm"`
	Syssn       Text   `json:"syssn"` // Of the refund.
	Txamt       Text   `json:"txamt"` // Cents. The amount to book: the operator may have changed it (§4.2).
	Txcurrcd    Text   `json:"txcurrcd"`
	Txdtm       Text   `json:"txdtm"`
}

// FaultData is what a refusal answers when only an inner code is to be told (§4.1, Failures).
type FaultData struct {
	ResErr string `json:"reserr"`
	ResMsg string `json:"resmsg"`
	RespCD Inner  `json:"respcd"`
}

// InquiryData is what an inquiry answers, typed as the cloud's is (§4.5). Texts that are not known are empty.
type InquiryData struct {
	AllowRefundAmt     Number `json:"allow_refund_amt"` // Cents.
	BatchNo            string `json:"batchno"`
	Billamt            Number `json:"billamt"`
	Busicd             string `json:"busicd"`
	Cancel             Number `json:"cancel"` // See CancelStatus.
	CardNo             string `json:"cardno"` // Masked.
	CardScheme         string `json:"cardscheme"`
	CardType           string `json:"cardtype"`
	Chnlsn             string `json:"chnlsn"`
	Clisn              string `json:"clisn"`
	CustomerSource     string `json:"customer_source"`
	Desc               string `json:"desc"`
	Nickname           string `json:"nickname"`
	OctopusNo          string `json:"octopus_no,omitempty"`
	OctopusOrderID     string `json:"octopus_order_id,omitempty"`
	OctopusOrderStatus string `json:"octopus_order_status,omitempty"`
	OctopusPaydtm      string `json:"octopus_paydtm,omitempty"`
	OpUID              string `json:"opuid"`
	OpUser             string `json:"opuser"`
	OrigBusicd         string `json:"origbusicd"`
	OrigSsn            string `json:"origssn"`
	OutTradeNo         string `json:"out_trade_no"`
	RefNo              string `json:"refno"`
	RespCD             Inner  `json:"respcd"` // The state of the transaction; that of the inquiry is Response.Code.
	ServerTime         string `json:"server_time"`
	Sysdtm             string `json:"sysdtm"`
	Syssn              string `json:"syssn"`
	Tradetp            string `json:"tradetp"` // "payment" or "refund".
	Txamt              Number `json:"txamt"`   // Cents.
	Txcurrcd           string `json:"txcurrcd"`
	UserID             Number `json:"userid"`
}

// CancelStatus is the member cancel of an inquiry (§4.5).
type CancelStatus string

// The values of cancel that we know how to reach.
const (
	CancelNone      CancelStatus = "0"
	CancelReversed  CancelStatus = "1" // A payment by card or by the customer's code was taken back.
	CancelCancelled CancelStatus = "2" // The same, of a payment by our code.
	CancelRefunded  CancelStatus = "3"
	CancelPart      CancelStatus = "5" // Refunded in part.
)

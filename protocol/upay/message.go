package upay

import (
	"encoding/json"

	"github.com/tillgate/tillgate/terminal"
)

// Result says how a request went, of the envelope (§1.4).
type Result string

// The results of the envelope.
const (
	ResultOK          Result = "200"
	ResultClientError Result = "400"
	ResultServerError Result = "500"
)

// Outcome is biz_response.result_code (§4.2). A real Upay may send others: they are uncertain.
type Outcome string

// The outcomes: *_SUCCESS is done, *_FAIL is definitely not done, *_IN_PROGRESS is to be asked again, *_ERROR is unknown.
const (
	PaySuccess           Outcome = "PAY_SUCCESS"
	PayFail              Outcome = "PAY_FAIL"
	PayInProgress        Outcome = "PAY_IN_PROGRESS"
	PayFailError         Outcome = "PAY_FAIL_ERROR"
	PayFailInProgress    Outcome = "PAY_FAIL_IN_PROGRESS"
	PrecreateSuccess     Outcome = "PRECREATE_SUCCESS"
	PrecreateFail        Outcome = "PRECREATE_FAIL"
	PrecreateFailError   Outcome = "PRECREATE_FAIL_ERROR"
	PrecreateFailRunning Outcome = "PRECREATE_FAIL_IN_PROGRESS"
	RefundSuccess        Outcome = "REFUND_SUCCESS"
	RefundFail           Outcome = "REFUND_FAIL"
	RefundInProgress     Outcome = "REFUND_IN_PROGRESS"
	RefundError          Outcome = "REFUND_ERROR"
	CancelSuccess        Outcome = "CANCEL_SUCCESS"
	CancelError          Outcome = "CANCEL_ERROR"
	CancelInProgress     Outcome = "CANCEL_IN_PROGRESS"
	CancelAbortSuccess   Outcome = "CANCEL_ABORT_SUCCESS"
	CancelAbortError     Outcome = "CANCEL_ABORT_ERROR"
	CancelAbortRunning   Outcome = "CANCEL_ABORT_IN_PROGRESS"
	Success              Outcome = "SUCCESS" // Of a query: look at order_status.
	Fail                 Outcome = "FAIL"    // Refused; the order is untouched.
	ActivateSuccess      Outcome = "ACTIVATE_SUCCESS"
	CheckInSuccess       Outcome = "TERMINAL_CHECKIN_SUCCESS"
)

// OrderStatus is where an order stands (§4.3).
type OrderStatus string

// The states of an order.
const (
	OrderCreated         OrderStatus = "CREATED"
	OrderPaid            OrderStatus = "PAID"
	OrderPayCanceled     OrderStatus = "PAY_CANCELED"
	OrderPayError        OrderStatus = "PAY_ERROR"
	OrderRefunded        OrderStatus = "REFUNDED"
	OrderPartialRefunded OrderStatus = "PARTIAL_REFUNDED"
	OrderRefunding       OrderStatus = "REFUND_INPROGRESS"
	OrderRefundError     OrderStatus = "REFUND_ERROR"
	OrderCanceled        OrderStatus = "CANCELED"
	OrderCanceling       OrderStatus = "CANCEL_INPROGRESS"
	OrderCancelError     OrderStatus = "CANCEL_ERROR"
	OrderInvalid         OrderStatus = "INVALID_STATUS_CODE"
)

// finals are the states of an order that end the asking (§4.3).
var finals = map[OrderStatus]bool{OrderPaid: true, OrderPayCanceled: true, OrderRefunded: true, OrderPartialRefunded: true, OrderCanceled: true}

// Final reports whether asking again tells nothing new.
func (s OrderStatus) Final() bool { return finals[s] }

// Status is where the latest transaction of an order stands (§4.4).
type Status string

// The states of a transaction that this server uses. Any that begins with FAIL means: not paid, whatever the customer's phone shows.
const (
	StatusSuccess       Status = "SUCCESS"
	StatusCreated       Status = "CREATED"
	StatusInProgress    Status = "IN_PROG"
	StatusFailCanceled  Status = "FAIL_CANCELED"
	StatusFailError     Status = "FAIL_ERROR"
	StatusRefundError   Status = "REFUND_ERROR"
	StatusCancelError   Status = "CANCEL_ERROR"
	StatusErrorRecovery Status = "ERROR_RECOVERY"
)

// ErrorCode says what was wrong (§5).
type ErrorCode string

// Error codes of requests (§5.1).
const (
	CodeInvalidParams     ErrorCode = "INVALID_PARAMS"
	CodeInvalidTerminal   ErrorCode = "INVALID_TERMINAL"
	CodeTerminalNotExists ErrorCode = "TERMINAL_NOT_EXISTS"
	CodeIllegalSign       ErrorCode = "ILLEGAL_SIGN"
	CodeActivateFail      ErrorCode = "ACTIVATE_FAIL"
	CodeUnknownSystem     ErrorCode = "UNKNOWN_SYSTEM_ERROR"
	CodeMaintenance       ErrorCode = "MAINTENANCE_INPROGRESS"
	CodeRequestFail       ErrorCode = "REQUEST_FAIL"
	CodePayStatusClosed   ErrorCode = "PAY_STATUS_CLOSED"
)

// Error codes of business (§5.2).
const (
	CodeInvalidBarcode       ErrorCode = "INVALID_BARCODE"
	CodeExpiredBarcode       ErrorCode = "EXPIRED_BARCODE"
	CodeInsufficientFund     ErrorCode = "INSUFFICIENT_FUND"
	CodeBuyerDailyLimit      ErrorCode = "BUYER_OVER_DAILY_LIMIT"
	CodeBuyerLimit           ErrorCode = "BUYER_OVER_TRANSACTION_LIMIT"
	CodeSellerDailyLimit     ErrorCode = "SELLER_OVER_DAILY_LIMIT"
	CodeStoreDailyLimit      ErrorCode = "UPAY_STORE_OVER_DAILY_LIMIT"
	CodeTradeNotExist        ErrorCode = "TRADE_NOT_EXIST"
	CodeTradeHasSuccess      ErrorCode = "TRADE_HAS_SUCCESS"
	CodeTradeFailed          ErrorCode = "TRADE_FAILED"
	CodeTradeTimeout         ErrorCode = "TRADE_TIMEOUT"
	CodeUnexpectedProvider   ErrorCode = "UNEXPECTED_PROVIDER_ERROR"
	CodeSellerBalance        ErrorCode = "SELLER_BALANCE_NOT_ENOUGH"
	CodeAccountBalance       ErrorCode = "ACCOUNT_BALANCE_NOT_ENOUGH"
	CodeRefundNotTotal       ErrorCode = "REFUND_AMT_NOT_EQUAL_TOTAL"
	CodeRefundExceeds        ErrorCode = "REFUNDABLE_AMOUNT_NOT_ENOUGH"
	CodeClientSNConflict     ErrorCode = "CLIENT_SN_CONFLICT"
	CodeOrderNotExists       ErrorCode = "UPAY_ORDER_NOT_EXISTS"
	CodeUpayTerminalUnknown  ErrorCode = "UPAY_TERMINAL_NOT_EXISTS"
	CodeTerminalAbnormal     ErrorCode = "UPAY_TERMINAL_STATUS_ABNORMAL"
	CodeCancelNoop           ErrorCode = "UPAY_CANCEL_ORDER_NOOP"
	CodeCancelInvalidState   ErrorCode = "UPAY_CANCEL_INVALID_ORDER_STATE"
	CodeRefundNoop           ErrorCode = "UPAY_REFUND_ORDER_NOOP"
	CodeRefundInvalidState   ErrorCode = "UPAY_REFUND_INVALID_ORDER_STATE"
	CodeOrderNotRefundable   ErrorCode = "UPAY_TCP_ORDER_NOT_REFUNDABLE"
	CodeExternalServiceError ErrorCode = "EXTERNAL_SERVICE_EXCEPTION"
)

// messages are the usual words beside the codes (§5). They are for people and no contract.
var messages = map[ErrorCode]string{
	CodeInvalidParams:     "参数错误",
	CodeInvalidTerminal:   "终端错误",
	CodeTerminalNotExists: "不存在这个终端",
	CodeIllegalSign:       "签名错误",
	CodeActivateFail:      "激活失败",
	CodeUnknownSystem:     "系统错误",
	CodeMaintenance:       "系统维护中，请稍后重试",
	CodeRequestFail:       "系统繁忙，请稍后重试",
	CodePayStatusClosed:   "商户支付功能已关闭",

	CodeInvalidBarcode:       "条码错误",
	CodeExpiredBarcode:       "过期的支付条码",
	CodeInsufficientFund:     "账户金额不足",
	CodeBuyerDailyLimit:      "付款人当日付款金额超过上限",
	CodeBuyerLimit:           "付款人单笔付款金额超过上限",
	CodeSellerDailyLimit:     "收款账户当日收款金额超过上限",
	CodeStoreDailyLimit:      "商户日收款额超过上限",
	CodeTradeNotExist:        "交易不存在",
	CodeTradeHasSuccess:      "交易已被支付",
	CodeTradeFailed:          "交易失败",
	CodeTradeTimeout:         "交易超时自动撤单",
	CodeUnexpectedProvider:   "不认识的支付通道",
	CodeSellerBalance:        "卖家余额不足",
	CodeAccountBalance:       "商户余额不足",
	CodeRefundNotTotal:       "退款金额无效",
	CodeRefundExceeds:        "订单可退金额不足",
	CodeClientSNConflict:     "client_sn在系统中已存在",
	CodeOrderNotExists:       "订单不存在",
	CodeUpayTerminalUnknown:  "终端号在交易系统中不存在",
	CodeTerminalAbnormal:     "终端未激活",
	CodeCancelNoop:           "无效操作，订单已经是撤单状态了",
	CodeCancelInvalidState:   "当前订单状态不可撤销",
	CodeRefundNoop:           "无效操作，本次退款已经完成了",
	CodeRefundInvalidState:   "当前订单状态不可退款",
	CodeOrderNotRefundable:   "订单参与了活动并且无法撤销",
	CodeExternalServiceError: "外部服务异常",
}

// standards are the support codes that are known (§1.4); most are not.
var standards = map[ErrorCode]string{CodeIllegalSign: "EJ26", CodeActivateFail: "EJ08"}

// Payways (§4.5).
const (
	PaywayAlipay       = "1"
	PaywayAlipayLegacy = "2" // An alias that some clients send; it is echoed as it came.
	PaywayWechat       = "3"
	PaywayUnionPay     = "17"
)

// paywayNames are the names of §4.5.
var paywayNames = map[string]string{
	"1": "支付宝", "2": "支付宝", "3": "微信", "4": "百度钱包", "5": "京东支付", "6": "QQ钱包", "7": "NFC", "8": "拉卡拉钱包", "9": "和包支付",
	"15": "拉卡拉微信", "16": "招商银行", "17": "云闪付", "18": "翼支付", "19": "Weixin-Local", "20": "Alipay Global", "22": "索迪斯",
	"100": "储值卡", "101": "礼品卡",
}

// PaywayName is the name of a payway, empty for one that is not known.
func PaywayName(payway string) string { return paywayNames[payway] }

// Sub-payways (§4.6).
const (
	SubPaywayBarcode     = "1"
	SubPaywayQR          = "2"
	SubPaywayWAP         = "3"
	SubPaywayMiniProgram = "4"
	SubPaywayApp         = "5"
	SubPaywayH5          = "6"
)

// Order are the fields that pay, precreate and the WAP gateway have alike (§3.4, §3.5, §3.9). Empty ones are not on the wire.
type Order struct {
	TerminalSN   string
	ClientSN     string // The order's number in the client's system; never used twice.
	TotalAmount  int64  // Cents.
	Payway       string
	Subject      string // The customer sees it.
	Operator     string
	Description  string
	Longitude    string
	Latitude     string
	DeviceID     string
	Extended     json.RawMessage
	GoodsDetails json.RawMessage
	Reflect      string // Comes back with every answer and in the callback.
	NotifyURL    string
}

// PayRequest is a payment by the customer's code (§3.4).
type PayRequest struct {
	Order
	DynamicID string // What was scanned; whoever reads a fresh one can spend it.
}

// PrecreateRequest is an order that the customer will pay by a QR code, or in a page (§3.5).
type PrecreateRequest struct {
	Order
	SubPayway string
	PayerUID  string
}

// GatewayRequest is what the query of the WAP gateway holds (§3.9).
type GatewayRequest struct {
	Order
	ReturnURL string
}

// QueryRequest asks for an order (§3.6).
type QueryRequest struct {
	TerminalSN      string
	SN              string
	ClientSN        string
	RefundRequestNo string
}

// RefundRequest gives a part or all of an order back (§3.7).
type RefundRequest struct {
	TerminalSN      string
	SN              string
	ClientSN        string
	ClientTSN       string // Of 2016; echoed.
	RefundRequestNo string
	Operator        string
	RefundAmount    int64 // Cents.
}

// CancelRequest ends an order: revoke and cancel (§3.8).
type CancelRequest struct {
	TerminalSN string
	SN         string
	ClientSN   string
	Operator   string
}

// ActivateRequest turns an activation code into a terminal (§3.1).
type ActivateRequest struct {
	AppID      string
	Code       string
	DeviceID   string
	ClientSN   string
	Name       string
	OSInfo     string
	SDKVersion string
}

// CheckInRequest asks for a new key (§3.2).
type CheckInRequest struct {
	TerminalSN string
	DeviceID   string
	OSInfo     string
	SDKVersion string
}

// Credentials are the answer to activate and checkin (§3.1). They print no key.
type Credentials struct {
	TerminalSN   string
	TerminalKey  terminal.Secret
	MerchantSN   string
	MerchantName string
	StoreSN      string
	StoreName    string
}

// PaymentPart is one of the ways in which an order was funded (§4.7).
type PaymentPart struct {
	Type   string
	Amount int64 // Cents.
}

// Data is an order in an answer, as its latest transaction left it, and, flat, a callback (§1.5, §7.1).
type Data struct {
	TerminalSN        string
	SN                string
	ClientSN          string
	TSN               string
	ClientTSN         string
	TradeNo           string // The provider's number, once it is paid.
	CTime             int64  // Unix milliseconds, as all times; 0 is none.
	FinishTime        int64
	ChannelFinishTime int64
	Status            Status
	OrderStatus       OrderStatus
	Payway            string
	PaywayName        string
	SubPayway         string
	PayerUID          string
	PayerLogin        string
	TotalAmount       int64 // Cents, as all amounts.
	NetAmount         int64
	RefundedAmount    int64
	QRCode            string // Text to show as a QR code.
	QRCodeImageURL    string
	WapPayRequest     json.RawMessage // An object or, by a setting, a string (§3.5.4).
	Subject           string
	Description       string
	Operator          string
	Reflect           string
	StoreID           string
	PaymentList       []PaymentPart

	// Extra holds members that this package does not know, or knows with another type, as they came.
	Extra map[string]json.RawMessage
}

// Biz is biz_response (§1.4).
type Biz struct {
	ResultCode   Outcome
	ErrorCode    ErrorCode
	ErrorMessage string
	Data         *Data
	Credentials  *Credentials // Of activate and checkin, instead of Data.
}

// Envelope is every answer (§1.4).
type Envelope struct {
	ResultCode        Result
	ErrorCode         ErrorCode
	ErrorMessage      string
	ErrorCodeStandard string
	Biz               *Biz
}

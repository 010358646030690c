package uqpay

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"
)

// The types in this file are what goes over the wire, for server and client alike. Their members are in the order of the reference.

// IntentStatus is the state of an intent (§4.1).
type IntentStatus string

// The states of an intent.
const (
	RequiresPaymentMethod  IntentStatus = "REQUIRES_PAYMENT_METHOD"
	RequiresCustomerAction IntentStatus = "REQUIRES_CUSTOMER_ACTION"
	RequiresCapture        IntentStatus = "REQUIRES_CAPTURE"
	IntentPending          IntentStatus = "PENDING"
	IntentSucceeded        IntentStatus = "SUCCEEDED"
	IntentCancelled        IntentStatus = "CANCELLED"
	IntentFailed           IntentStatus = "FAILED"
)

// AttemptStatus is the state of an attempt (§4.2).
type AttemptStatus string

// The states of an attempt.
const (
	AttemptInitiated        AttemptStatus = "INITIATED"
	AttemptRedirected       AttemptStatus = "AUTHENTICATION_REDIRECTED"
	AttemptPending          AttemptStatus = "PENDING_AUTHORIZATION"
	AttemptAuthorized       AttemptStatus = "AUTHORIZED"
	AttemptCaptureRequested AttemptStatus = "CAPTURE_REQUESTED"
	AttemptSettled          AttemptStatus = "SETTLED"
	AttemptSucceeded        AttemptStatus = "SUCCEEDED"
	AttemptCancelled        AttemptStatus = "CANCELLED"
	AttemptExpired          AttemptStatus = "EXPIRED"
	AttemptFailed           AttemptStatus = "FAILED"
)

// RefundStatus is the state of a refund (§4.3).
type RefundStatus string

// The states of a refund. The REVERSAL ones are a real UQPAY's only.
const (
	RefundInitiated          RefundStatus = "INITIATED"
	RefundProcessing         RefundStatus = "PROCESSING"
	RefundSucceeded          RefundStatus = "SUCCEEDED"
	RefundFailed             RefundStatus = "FAILED"
	RefundReversalInitiated  RefundStatus = "REVERSAL_INITIATED"
	RefundReversalProcessing RefundStatus = "REVERSAL_PROCESSING"
	RefundReversalSucceeded  RefundStatus = "REVERSAL_SUCCEEDED"
)

// TokenResponse is the answer of the token endpoint (§2.1).
type TokenResponse struct {
	AuthToken string `json:"auth_token"`
	ExpiredAt int64  `json:"expired_at"` // Unix seconds; some answers of a real UQPAY lack it.
}

// RegisteredTerminal is the answer of §3.1.
type RegisteredTerminal struct {
	CreateTime string `json:"create_time"` // "2006-01-02 15:04:05", at +08:00.
	FirmSN     string `json:"firm_sn"`
	TerminalID string `json:"terminal_id"`
}

// PINKeyResponse is the answer of §3.2.
type PINKeyResponse struct {
	TerminalID    string       `json:"terminal_id"`
	EncryptPINKey string       `json:"encrypt_pin_key"`
	PINKeyExpire  PINKeyExpire `json:"pin_key_expire"`
}

// Intent is the payment intent object (§3.3). Every member is always there.
type Intent struct {
	ID                   string          `json:"payment_intent_id"`
	Amount               string          `json:"amount"`
	Currency             string          `json:"currency"`
	Status               IntentStatus    `json:"intent_status"`
	Description          string          `json:"description"`
	MerchantOrderID      string          `json:"merchant_order_id"`
	Metadata             json.RawMessage `json:"metadata"`
	ReturnURL            string          `json:"return_url"`
	AvailableMethodTypes []string        `json:"available_payment_method_types"`
	CapturedAmount       string          `json:"captured_amount"`
	ClientSecret         string          `json:"client_secret"`
	CancellationReason   string          `json:"cancellation_reason"`
	NextAction           json.RawMessage `json:"next_action"`
	LatestAttempt        *Attempt        `json:"latest_payment_attempt"`
	CreateTime           string          `json:"create_time"`
	UpdateTime           string          `json:"update_time"`
	CompleteTime         string          `json:"complete_time"`
	CancelTime           string          `json:"cancel_time"`
}

// Attempt is the payment attempt object (§3.10).
type Attempt struct {
	ID                 string             `json:"attempt_id"`
	Status             AttemptStatus      `json:"attempt_status"`
	Amount             string             `json:"amount"`
	Currency           string             `json:"currency"`
	CapturedAmount     string             `json:"captured_amount"`
	RefundedAmount     string             `json:"refunded_amount"`
	FailureCode        string             `json:"failure_code"`
	FailureMessage     string             `json:"failure_message"`
	CancellationReason string             `json:"cancellation_reason"`
	AuthCode           string             `json:"auth_code"`
	RRN                string             `json:"rrn"`
	ARN                string             `json:"arn"`
	AdviceCode         string             `json:"advice_code"`
	AuthenticationData AuthenticationData `json:"authentication_data"`
	PaymentMethod      *MethodView        `json:"payment_method"`
	CreateTime         string             `json:"create_time"`
	UpdateTime         string             `json:"update_time"`
	CompleteTime       string             `json:"complete_time"`
}

// AuthenticationData is what checks of the cardholder gave; a POS has none of them.
type AuthenticationData struct {
	CVVResult string   `json:"cvv_result"`
	AVSResult string   `json:"avs_result"`
	ThreeDS   struct{} `json:"three_ds"`
}

// MethodView is what is shown of a means of payment.
type MethodView struct {
	Type        string    `json:"type"`
	CardPresent *CardView `json:"card_present,omitempty"`
}

// CardView is what is shown of a card: never its PIN block, chip data or tracks.
type CardView struct {
	Number       string        `json:"card_number"` // Masked.
	Network      string        `json:"network"`
	EntryMode    string        `json:"pan_entry_mode,omitempty"`
	Verification string        `json:"cardholder_verification_method,omitempty"`
	Terminal     *TerminalView `json:"terminal_info,omitempty"`
	STAN         string        `json:"system_trace_audit_number,omitempty"`
}

// TerminalView names a terminal.
type TerminalView struct {
	ID string `json:"terminal_id"`
}

// Refund is the refund object (§3.12).
type Refund struct {
	ID         string          `json:"payment_refund_id"`
	IntentID   string          `json:"payment_intent_id"` // Not in a real UQPAY's schema.
	AttemptID  string          `json:"payment_attempt_id"`
	Amount     string          `json:"amount"`
	Currency   string          `json:"currency"`
	Status     RefundStatus    `json:"refund_status"`
	Reason     string          `json:"reason"`
	Metadata   json.RawMessage `json:"metadata"`
	CreateTime string          `json:"create_time"`
	UpdateTime string          `json:"update_time"`
}

// Page is a page of a list.
type Page[T any] struct {
	TotalPages int64 `json:"total_pages"`
	TotalItems int64 `json:"total_items"`
	Data       []T   `json:"data"` // Never null.
}

// ErrorType is the type of an error, which fixes the HTTP status (§5).
type ErrorType string

// The types of errors.
const (
	TypeInvalidRequest ErrorType = "invalid_request_error"
	TypeIdempotency    ErrorType = "idempotency_error"
	TypeAccount        ErrorType = "account_error"
	TypePayment        ErrorType = "payment_error"
	TypeRefund         ErrorType = "refund_error"
	TypeProduct        ErrorType = "product_error"
	TypeNotFound       ErrorType = "not_found"
	TypeUnauthorized   ErrorType = "unauthorized_error"
	TypeAPI            ErrorType = "api_error"
)

// The codes of errors (§5, §6).
const (
	CodePOSOff              = "account_pos_api_no_permission"
	CodeTerminalForeign     = "terminal_not_belong_to_account"
	CodeRegisterFailed      = "terminal_register_failed"
	CodeTerminalUnknown     = "terminal_info_not_found"
	CodePINKeyFailed        = "pinkey_retrieve_failed"
	CodeInvalidParameter    = "invalid_parameter"
	CodeMissingParameter    = "missing_parameter"
	CodeInvalidAmount       = "invalid_order_amount"
	CodeInvalidCurrency     = "invalid_order_currency"
	CodeInvalidReturnURL    = "invalid_return_url"
	CodeInvalidOrders       = "invalid_payment_orders"
	CodeNotFoundID          = "not_found_id"
	CodeRouteUnknown        = "route_not_found"
	CodeExpiredOrder        = "expired_order"
	CodeOrderCancelled      = "order_cancelled"
	CodeInvalidStatus       = "invalid_order_status"
	CodeRepeat              = "repeat_payment_request"
	CodeInvalidMethod       = "invalid_payment_method"
	CodeProductNotFound     = "product_not_found"
	CodeSubAccountUnknown   = "sub_account_not_found"
	CodeInvalidClient       = "invalid_client_id"
	CodeUnauthorized        = "unauthorized_error"
	CodeInvalidAPIKey       = "invalid_api_key"
	CodeAPIError            = "api_error"
	CodeTooManyRequests     = "too_many_requests"
	CodeInvalidKey          = "invalid_idempotency_key"
	CodeKeyMismatch         = "idempotency_key_mismatch"
	CodeInvalidRefundAmount = "invalid_refund_amount"
)

// Error is an error as it is on the wire.
type Error struct {
	Status     int
	Type       ErrorType // Empty for a rate limit, and for a request that is still being processed.
	Code       string    // Text, or digits for a number.
	Message    string
	RetryAfter time.Duration // 0 for none.
}

func (e *Error) Error() string {
	return fmt.Sprintf("uqpay: HTTP %d %s %s: %s", e.Status, e.Type, e.Code, e.Message)
}

// codeProcessing is the number that envelope B has for its code (§6).
const codeProcessing = "200"

// textProcessing must stay as it is: clients look for it (§6).
const textProcessing = "Request is processing, please try again later."

// errProcessing is envelope B.
var errProcessing = &Error{Status: http.StatusBadRequest, Code: codeProcessing, Message: textProcessing}

// IsProcessing reports whether the error is envelope B: the first request of this key is still running, and its outcome is not known.
func (e *Error) IsProcessing() bool { return e.Type == "" && e.Code == codeProcessing }

// Body is the error's envelope (§5, §6).
func (e *Error) Body() []byte {
	var v any
	switch {
	case e.IsProcessing():
		v = struct {
			Code    int    `json:"code"`
			Message string `json:"message"`
		}{200, e.Message}
	case e.Type == "":
		v = struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		}{e.Code, e.Message}
	default:
		v = struct {
			Type    ErrorType `json:"type"`
			Code    string    `json:"code"`
			Message string    `json:"message"`
		}{e.Type, e.Code, e.Message}
	}
	return encode(v)
}

// statuses is the HTTP status of each type of error, where it is not 400 (§5).
var statuses = map[ErrorType]int{TypeUnauthorized: http.StatusUnauthorized}

// refuse makes an error.
func refuse(t ErrorType, code, format string, args ...any) *Error {
	status := statuses[t]
	switch {
	case t == TypeAPI && code == CodeAPIError:
		status = http.StatusInternalServerError
	case status == 0:
		status = http.StatusBadRequest
	}
	return &Error{Status: status, Type: t, Code: code, Message: fmt.Sprintf(format, args...)}
}

// invalid refuses a parameter by its name.
func invalid(field string) *Error {
	return refuse(TypeInvalidRequest, CodeInvalidParameter, "Invalid request parameters: %s", field)
}

// missing refuses a request that lacks a parameter.
func missing(field string) *Error {
	return refuse(TypeInvalidRequest, CodeMissingParameter, "Missing required parameter: %s", field)
}

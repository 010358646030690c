package upp

import (
	"encoding/json"
	"net/http"

	"github.com/tillgate/tillgate/money"
)

// Transaction types (UPP seed, Purchase and Refund).
const (
	TypePurchase = "purchase" // from the customer to the merchant
	TypeRefund   = "refund"   // back, linked to an earlier purchase
)

// Sale types (UPP seed, Purchase).
const (
	SaleCustomerPresented = "customerPresentedToken" // the merchant scans the customer's code
	SaleMerchantPresented = "merchantPresentedToken" // the customer scans a code that the merchant shows
	SaleWebsite           = "website"                // e-commerce (§3.3)
)

// Providers (UPP seed, Purchase). A real UPP may name others: the client carries every name through (§3.0).
const (
	ProviderAfterpay      = "afterpay"
	ProviderAlipay        = "alipay"
	ProviderFinancialCard = "financialcard"
	ProviderGenoapay      = "genoapay"
	ProviderHumm          = "humm"
	ProviderLatitudepay   = "latitudepay"
	ProviderUnionpay      = "unionpay"
	ProviderWechat        = "wechat"
	ProviderZippay        = "zippay"
)

// Item types (UPP seed, Purchase).
const (
	ItemSKU      = "sku"
	ItemTax      = "tax"
	ItemShipping = "shipping"
	ItemDiscount = "discount"
	ItemCredit   = "credit"
)

// Refund reasons (UPP seed, Refund).
const (
	ReasonOther                  = "other"
	ReasonChangeOfMind           = "changeOfMind"
	ReasonFaulty                 = "faulty"
	ReasonNotAsDescribed         = "notAsDescribed"
	ReasonWrongProduct           = "wrongProduct"
	ReasonProductNoLongerNeeded  = "productNoLongerNeeded"
	ReasonDidNotMeetExpectations = "didNotMeetExpectations"
)

// The closed lists of the interface, in the seed's order.
var (
	transactionTypes = []string{TypePurchase, TypeRefund}
	saleTypes        = []string{SaleCustomerPresented, SaleMerchantPresented, SaleWebsite}
	itemTypes        = []string{ItemSKU, ItemTax, ItemShipping, ItemDiscount, ItemCredit}
	refundReasons    = []string{
		ReasonOther, ReasonChangeOfMind, ReasonFaulty, ReasonNotAsDescribed, ReasonWrongProduct,
		ReasonProductNoLongerNeeded, ReasonDidNotMeetExpectations,
	}
)

// negativeItems are the item types that may take something off (§3.2).
var negativeItems = []string{ItemDiscount, ItemCredit}

// Currencies of the interface (UPP seed, Purchase: required parameters).
const (
	aud = "aud"
	nzd = "nzd"
)

var currencies = map[string]money.Currency{
	aud: money.MustCurrency(aud),
	nzd: money.MustCurrency(nzd),
}

// providerCurrencies says which providers exist and what they pay in (§3.9).
var providerCurrencies = map[string][]string{
	ProviderAfterpay:      {aud, nzd},
	ProviderAlipay:        {aud, nzd},
	ProviderFinancialCard: {aud, nzd},
	ProviderGenoapay:      {nzd}, // New Zealand only
	ProviderHumm:          {aud, nzd},
	ProviderLatitudepay:   {aud}, // Australia only
	ProviderUnionpay:      {aud, nzd},
	ProviderWechat:        {aud, nzd},
	ProviderZippay:        {aud, nzd},
}

// Number is a JSON number as text, so that no binary float ever stands between the wire and a sum (§3.0). The empty Number is absent.
type Number string

// NumberOf writes a sum in its shortest form, as the seed's samples do: 0.01, 24.5, 20, 0.
func NumberOf(a money.Amount) Number { return Number(a.Trimmed()) }

// In reads the number as a sum of cur. It fails as money.Parse does; the empty Number is money.ErrSyntax.
func (n Number) In(cur money.Currency) (money.Amount, error) { return money.Parse(string(n), cur) }

// Item is one line of a basket (§3.2). Amount is the price of one, and negative for what is taken off.
type Item struct {
	Type          string
	ItemReference string
	Name          string
	Amount        Number
	Quantity      Number
	Extra         map[string]json.RawMessage // members of an answer that this package does not know
}

// Address is where the bill or the goods go (§3.3).
type Address struct {
	FirstName   string
	LastName    string
	Line1       string
	City        string
	State       string
	PostCode    string
	CountryCode string // two letters, lower case
}

// Shipping says how the goods leave (§3.3).
type Shipping struct {
	IsPickup bool
	Address  *Address
}

// Shopper is the customer of a website (§3.3).
type Shopper struct {
	FirstName   string
	LastName    string
	DateOfBirth string // YYYY/MM/DD
	Email       string
	Phone       string
}

// CreateRequest is the body of POST /v1/transactions: a purchase in store (§3.2), a purchase on a website (§3.3) or a refund
// (§3.4). Empty members are not on the wire. What DecodeRequest returns has passed all of the reference's checks.
type CreateRequest struct {
	TransactionType      string
	TransactionReference string // the merchant's unique key
	Currency             string // as spelled by the caller
	Amount               Number
	Provider             string // as spelled by the caller; ProviderName is for comparing
	SaleType             string
	CustomerToken        string // sensitive: what was scanned, or a card token
	Items                []Item

	OriginalTransactionReference string // refunds: the purchase
	RefundReason                 string

	ClientIPAddress *string // nil if not sent; may be sent empty (§3.2)

	// Website purchases only (§3.3).
	ReturnURL string
	WebWidget json.RawMessage // the widget's requestFields, passed on untouched
	Billing   *Address
	Shipping  *Shipping
	Shopper   *Shopper
}

// IsRefund reports whether the request is a refund.
func (r *CreateRequest) IsRefund() bool { return r.TransactionType == TypeRefund }

// IsWebsite reports whether the request is a purchase on a website (§3.3).
func (r *CreateRequest) IsWebsite() bool { return !r.IsRefund() && r.SaleType == SaleWebsite }

// ProviderName is the provider in lower case, as §3.0 compares it; empty for refunds and for a widget that names none.
func (r *CreateRequest) ProviderName() string { return lower(r.Provider) }

// Sum is the amount as money. It cannot fail on what DecodeRequest returned.
func (r *CreateRequest) Sum() (money.Amount, error) {
	cur, err := money.ParseCurrency(r.Currency)
	if err != nil {
		return money.Amount{}, err
	}
	return r.Amount.In(cur)
}

// ExchangeDetails says what the payer's wallet was billed when it is in another currency (§3.1).
type ExchangeDetails struct {
	ExchangeRate             string // eight decimals, payer's currency for one unit of the transaction's
	PurchaserBillingAmount   BillingAmount
	PurchaserBillingCurrency string
	Extra                    map[string]json.RawMessage
}

// BillingAmount is purchaserBillingAmount: a JSON number on purchases, a JSON string on refunds (UPP seed, samples).
type BillingAmount struct {
	Text   string
	Quoted bool
}

// BillingOf is the amount billed as the seed writes it for the transaction type: 408.8 on a purchase, "408.80" on a refund.
func BillingOf(a money.Amount, transactionType string) BillingAmount {
	if transactionType == TypeRefund {
		return BillingAmount{Text: a.String(), Quoted: true}
	}
	return BillingAmount{Text: a.Trimmed()}
}

// In reads the amount billed as a sum of cur.
func (b BillingAmount) In(cur money.Currency) (money.Amount, error) { return money.Parse(b.Text, cur) }

// Transaction is the object that E1 to E6 return (§3.1). An empty member is left out of the JSON, never null, except those that
// §3.1 shows in all four samples: these are always written, sums as 0 and lists as [].
type Transaction struct {
	TransactionType      string
	TransactionReference string
	Amount               Number
	Currency             string
	Provider             string
	SaleType             string
	Items                []Item // nil is absent, as on refunds
	CustomerToken        string // sensitive; only if sent, and never a card token

	OriginalTransactionReference string // refunds
	RefundReason                 string // refunds
	OriginalOutTradeNumber       string // refunds

	OutTradeNumber string // UPP's own number
	Created        int64  // Unix milliseconds; the cancel window begins here
	Modified       int64  // Unix milliseconds; says nothing about the order of events
	PaymentTime    int64  // Unix milliseconds; 0 is absent
	Approved       *bool  // nil is pending; decides nothing without Cancelled, see Paid
	Cancelled      bool

	SettlementAmount Number
	SettlementBatch  string // YYYYMMDD; only once approved
	AmountCaptured   Number
	CanCaptureMore   bool

	CompanyName     string
	MerchantName    string
	MerchantID      string // digits, in a string
	TerminalID      string // digits, in a string
	ClientIPAddress string

	Tags         []json.RawMessage
	Discount     Number // absent on customer-presented purchases
	DiscountTags []json.RawMessage

	MerchantToken     string // text to show as a QR code
	BuyerIdentity     string
	ProviderReference string
	ExchangeDetails   *ExchangeDetails

	Failure            Failure // why it was declined or cancelled
	FailureDescription string

	// Website purchases only (§3.3).
	SendCustomerToURL string
	ReturnURL         string
	Billing           *Address
	Shipping          *Shipping
	Shopper           *Shopper

	// Extra holds members of an answer that this package does not know, or knows with another type, as they came.
	Extra map[string]json.RawMessage
}

// Paid reports whether the money is the merchant's: approved and not cancelled (§4). Nothing else means paid.
func (t *Transaction) Paid() bool { return t.Approved != nil && *t.Approved && !t.Cancelled }

// Pending reports whether the result is still open, so that it must be polled (UPP seed, Purchase).
func (t *Transaction) Pending() bool { return t.Approved == nil && !t.Cancelled }

// Failure is a short code that says why something was refused or declined (§5). Only the two member names are the seed's; a real
// UPP may send any code.
type Failure string

// Refusals (§5): codes of answers outside 2xx.
const (
	FailInvalidRequest          Failure = "invalidRequest"
	FailInvalidAmount           Failure = "invalidAmount"
	FailUnsupportedProvider     Failure = "unsupportedProvider"
	FailUnsupportedSaleType     Failure = "unsupportedSaleType"
	FailUnsupportedCurrency     Failure = "unsupportedCurrency"
	FailCustomerTokenRequired   Failure = "customerTokenRequired"
	FailUnauthorised            Failure = "unauthorised"
	FailForbidden               Failure = "forbidden"
	FailTransactionNotFound     Failure = "transactionNotFound"
	FailNotFound                Failure = "notFound"
	FailMethodNotAllowed        Failure = "methodNotAllowed"
	FailRequestTooLarge         Failure = "requestTooLarge"
	FailUnsupportedMediaType    Failure = "unsupportedMediaType"
	FailReferenceConflict       Failure = "transactionReferenceConflict"
	FailOriginalNotFound        Failure = "originalTransactionNotFound"
	FailOriginalNotApproved     Failure = "originalTransactionNotApproved"
	FailRefundAmountExceeded    Failure = "refundAmountExceeded"
	FailRefundWindowExpired     Failure = "refundWindowExpired"
	FailRefundCannotBeCancelled Failure = "refundCannotBeCancelled"
	FailCancelWindowExpired     Failure = "cancelWindowExpired"
	FailTooManyRequests         Failure = "tooManyRequests"
	FailInternalError           Failure = "internalError"
	FailProviderUnavailable     Failure = "providerUnavailable" // also a decline
	FailServiceUnavailable      Failure = "serviceUnavailable"
	FailProviderTimeout         Failure = "providerTimeout"
	FailDeclined                Failure = "declined" // from here on only declines: 200 with approved false
	FailRiskDeclined            Failure = "riskDeclined"
	FailInsufficientFunds       Failure = "insufficientFunds"
	FailLimitExceeded           Failure = "limitExceeded"
	FailCardExpired             Failure = "cardExpired"
	FailDuplicateReference      Failure = "duplicateReference"
	FailAmountTooLow            Failure = "amountTooLow"
	FailAmountTooHigh           Failure = "amountTooHigh"
	FailCustomerTokenInvalid    Failure = "customerTokenInvalid"
	FailCustomerTokenUsed       Failure = "customerTokenUsed"
	FailCustomerTokenExpired    Failure = "customerTokenExpired"
	FailCustomerTokenCancelled  Failure = "customerTokenCancelled"
	FailCustomerCancelled       Failure = "customerCancelled"
	FailExpired                 Failure = "expired"
	FailCancelled               Failure = "cancelled"
	FailContractCompleted       Failure = "contractCompleted" // from here on only declines of refunds
	FailAlreadyRefunded         Failure = "alreadyRefunded"
	FailWrongStore              Failure = "wrongStore"
)

// statuses is §5's table of refusals.
var statuses = map[Failure]int{
	FailInvalidRequest:          http.StatusBadRequest,
	FailInvalidAmount:           http.StatusBadRequest,
	FailUnsupportedProvider:     http.StatusBadRequest,
	FailUnsupportedSaleType:     http.StatusBadRequest,
	FailUnsupportedCurrency:     http.StatusBadRequest,
	FailCustomerTokenRequired:   http.StatusBadRequest,
	FailUnauthorised:            http.StatusUnauthorized,
	FailForbidden:               http.StatusForbidden,
	FailTransactionNotFound:     http.StatusNotFound,
	FailNotFound:                http.StatusNotFound,
	FailMethodNotAllowed:        http.StatusMethodNotAllowed,
	FailRequestTooLarge:         http.StatusRequestEntityTooLarge,
	FailUnsupportedMediaType:    http.StatusUnsupportedMediaType,
	FailReferenceConflict:       http.StatusConflict,
	FailOriginalNotFound:        http.StatusBadRequest,
	FailOriginalNotApproved:     http.StatusConflict,
	FailRefundAmountExceeded:    http.StatusConflict,
	FailRefundWindowExpired:     http.StatusConflict,
	FailRefundCannotBeCancelled: http.StatusConflict,
	FailCancelWindowExpired:     http.StatusConflict,
	FailTooManyRequests:         http.StatusTooManyRequests,
	FailInternalError:           http.StatusInternalServerError,
	FailProviderUnavailable:     http.StatusBadGateway,
	FailServiceUnavailable:      http.StatusServiceUnavailable,
	FailProviderTimeout:         http.StatusGatewayTimeout,
}

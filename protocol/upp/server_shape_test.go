package upp_test

import (
	"encoding/json"
	"maps"
	"math/big"
	"regexp"
	"slices"
	"strings"
)

// fields is the transaction object of §3.1: the pattern of each member's JSON text.
var fields = map[string]*regexp.Regexp{
	"transactionType":              pattern(`"(purchase|refund)"`),
	"transactionReference":         pattern(`".+"`),
	"amount":                       pattern(sum),
	"currency":                     pattern(`"(?i:aud|nzd)"`),
	"provider":                     pattern(`"[A-Za-z]+"`),
	"saleType":                     pattern(`"(customerPresentedToken|merchantPresentedToken|website)"`),
	"items":                        regexp.MustCompile(`^\[\{`),
	"customerToken":                pattern(`".+"`),
	"originalTransactionReference": pattern(`".+"`),
	"refundReason":                 pattern(`"[A-Za-z]+"`),
	"outTradeNumber":               pattern(`"8010\d{12}"`),
	"originalOutTradeNumber":       pattern(`"8010\d{12}"`),
	"created":                      pattern(`\d{13}`),
	"modified":                     pattern(`\d{13}`),
	"paymentTime":                  pattern(`\d{13}`),
	"approved":                     pattern(`true|false`),
	"cancelled":                    pattern(`true|false`),
	"settlementAmount":             pattern(sum),
	"settlementBatch":              pattern(`"\d{8}"`),
	"amountCaptured":               pattern(sum),
	"canCaptureMore":               pattern(`false`),
	"companyName":                  pattern(`"(Harbour Outdoor|Quay Books) Pty Ltd"`),
	"merchantName":                 pattern(`"(Harbour Outdoor Geelong|Quay Books)"`),
	"merchantId":                   pattern(`"74021[89]"`),
	"terminalId":                   pattern(`"[345]"`),
	"clientIpAddress":              pattern(`".*"`),
	"tags":                         pattern(`\[\]`),
	"discount":                     pattern(`0`),
	"discountTags":                 pattern(`\[\]`),
	"merchantToken":                pattern(`"http://127\.0\.0\.1:\d+/pay/[\w-]+"`),
	"buyerIdentity":                pattern(`"[a-z]+-\w+"`),
	"providerReference":            pattern(`"\d{28}"`),
	"exchangeDetails":              pattern(`\{.*\}`),
	"failure":                      pattern(`"[a-z][A-Za-z]+"`),
	"failureDescription":           pattern(`".+"`),
	"sendCustomerToUrl":            pattern(`"http://127\.0\.0\.1:\d+/pay/[\w-]+"`),
	"returnUrl":                    pattern(`"https?://.+"`),
	"billing":                      pattern(`\{.*\}`),
	"shipping":                     pattern(`\{.*\}`),
	"shopper":                      pattern(`\{.*\}`),
}

// sum is money on the wire: the shortest form, as in the seed's samples.
const sum = `0|[1-9]\d*(\.\d?[1-9])?|0\.\d?[1-9]`

func pattern(text string) *regexp.Regexp { return regexp.MustCompile(`(?s)^(?:` + text + `)$`) }

// The columns of §3.1.
var (
	always = []string{"transactionType", "transactionReference", "amount", "currency", "provider", "saleType", "outTradeNumber", "created",
		"modified", "cancelled", "settlementAmount", "amountCaptured", "canCaptureMore", "companyName", "merchantName", "merchantId", "terminalId",
		"clientIpAddress", "tags", "discountTags"}
	columnM0 = with(always, "items", "merchantToken", "discount")
	columnM1 = with(columnM0, "approved", "paymentTime", "settlementBatch", "buyerIdentity", "providerReference", "exchangeDetails")
	columnC0 = with(always, "items", "customerToken") // As C1, pending.
	columnC1 = with(columnC0, "approved", "paymentTime", "settlementBatch", "buyerIdentity", "providerReference", "exchangeDetails")
	columnR0 = with(always, "originalTransactionReference", "refundReason", "originalOutTradeNumber", "discount") // As R1, pending.
	columnR1 = with(columnR0, "approved", "paymentTime", "settlementBatch", "providerReference", "exchangeDetails")
)

func with(column []string, more ...string) []string { return append(slices.Clone(column), more...) }

// checkTransaction holds a transaction against §3.1 and §4.
func checkTransaction(a *reply) {
	a.t.Helper()
	var members map[string]json.RawMessage
	if err := json.Unmarshal(a.raw, &members); err != nil {
		a.errorf("%v", err)
		return
	}
	for name, text := range members {
		if p := fields[name]; p == nil || !p.Match(text) {
			a.errorf("%s is %s", name, text)
		}
	}
	for _, name := range always {
		if _, ok := members[name]; !ok {
			a.errorf("%s is missing", name)
		}
	}
	has := func(names ...string) {
		a.t.Helper()
		for _, n := range names {
			if _, ok := members[n]; !ok {
				a.errorf("%s, but %s is missing", a.state(), n)
			}
		}
	}
	hasNot := func(names ...string) {
		a.t.Helper()
		for _, n := range names {
			if _, ok := members[n]; ok {
				a.errorf("%s, but %s is there", a.state(), n)
			}
		}
	}
	amount, captured := "0", slices.Concat([]string{"paymentTime", "settlementBatch"})
	switch a.state() {
	case "pending":
		hasNot(append(captured, "approved", "failure", "failureDescription", "buyerIdentity", "providerReference", "exchangeDetails")...)
	case "approved":
		amount = a.number("amount")
		has(append(captured, "providerReference")...)
		hasNot("failure", "failureDescription")
	case "declined":
		has("failure", "failureDescription")
		hasNot(append(captured, "exchangeDetails", "buyerIdentity", "sendCustomerToUrl")...)
	case "cancelled":
		has("failure", "failureDescription")
		if a.object["approved"] != false {
			a.errorf("cancelled, but approved is not false")
		}
	}
	if a.number("settlementAmount") != amount || a.number("amountCaptured") != amount {
		a.errorf("%s, but not settled and captured %s", a.state(), amount)
	}
	if a.text("transactionType") == "refund" {
		has("originalTransactionReference", "refundReason", "originalOutTradeNumber", "discount")
		hasNot("items", "customerToken", "merchantToken", "buyerIdentity")
	} else {
		has("items")
		hasNot("originalTransactionReference", "refundReason", "originalOutTradeNumber")
	}
	checkExchange(a)
}

// checkExchange wants the rate as text with eight decimals, and the sum times the rate, rounded half up: a number on purchases, a string on
// refunds.
func checkExchange(a *reply) {
	a.t.Helper()
	x, ok := a.object["exchangeDetails"].(map[string]any)
	if !ok {
		return
	}
	if got := slices.Sorted(maps.Keys(x)); !slices.Equal(got, []string{"exchangeRate", "purchaserBillingAmount", "purchaserBillingCurrency"}) {
		a.errorf("exchangeDetails has %v", got)
	}
	rate, _ := x["exchangeRate"].(string)
	if !regexp.MustCompile(`^\d+\.\d{8}$`).MatchString(rate) || x["purchaserBillingCurrency"] != "cny" {
		a.errorf("exchangeDetails are wrong")
		return
	}
	billed, isNumber := x["purchaserBillingAmount"].(json.Number)
	text, isText := x["purchaserBillingAmount"].(string)
	if refund := a.text("transactionType") == "refund"; isText != refund || isNumber == refund {
		a.errorf("purchaserBillingAmount has the wrong type")
		return
	}
	if isNumber {
		text = billed.String()
	}
	r, _ := new(big.Rat).SetString(rate)
	want, _ := new(big.Rat).SetString(a.number("amount"))
	got, ok := new(big.Rat).SetString(text)
	if !ok || got.FloatString(2) != want.Mul(want, r).FloatString(2) { // FloatString rounds half away from zero.
		a.errorf("purchaserBillingAmount is %s", text)
	}
	if isText && !strings.Contains(text, ".") {
		a.errorf("purchaserBillingAmount of a refund has no decimals")
	}
}

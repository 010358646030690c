package sandbox

import (
	"strings"
	"time"

	"github.com/tillgate/tillgate/money"
)

// WalletCode is a payment code that always shows the same behaviour; it can be used again and again.
type WalletCode struct {
	Provider  string // The wallet that the code belongs to, such as "alipay".
	Code      string // The digits or text that the customer shows.
	Behaviour string // A name of the list in docs/sandbox.md.
}

// Trigger is an amount that shows a behaviour, in payments of all flows and in refunds.
type Trigger struct {
	Amount    string // Decimal text with exactly two places, such as "9051.00".
	Behaviour string // A name of the list in docs/sandbox.md.
}

// WalletCodes lists every code with a behaviour: one for each wallet and behaviour.
func WalletCodes() []WalletCode {
	list := make([]WalletCode, 0, len(wallets)*len(behaviours))
	for _, w := range wallets {
		for i := range behaviours {
			list = append(list, WalletCode{w.name, w.code(&behaviours[i]), behaviours[i].name})
		}
	}
	return list
}

// Triggers lists every amount with a behaviour.
func Triggers() []Trigger {
	list := make([]Trigger, 0, len(behaviours))
	for _, b := range behaviours {
		list = append(list, Trigger{b.amount, b.name})
	}
	return list
}

// A fault is what goes wrong on the wire.
type fault int

const (
	faultNone    fault = iota
	faultSilent        // The connection is held and never answered.
	faultLate          // The answer comes after lateBy.
	faultGarbled       // The answer is not JSON.
	faultCut           // The connection is closed without an answer.
	faultError         // The answer is HTTP 500.
)

// How long things take. The names of the behaviours promise the first; docs/sandbox.md the others.
const (
	pendingFor = 3 * time.Second  // Until a pending_then_* payment is decided.
	qrActsIn   = time.Second      // Until an imagined customer has acted on a page whose payment's amount is a trigger.
	lateBy     = 12 * time.Second // Longer than a caller's usual patience of 10 seconds.
	holdMax    = 60 * time.Second // Longest silence, so that forgotten callers do not pile up.
)

// A behaviour is one row of the trigger table. The zero values of its fields mean "as usual".
type behaviour struct {
	name   string
	amount string
	state  string        // What becomes of the payment or refund; waiting: nothing, by itself.
	reason string        // Why, if declined.
	after  time.Duration // How long it waits before that.
	fault  fault         // What happens to the first exchange for a reference.
	lost   bool          // The fault comes before the request is taken, so that the network never knew it.
	// What happens to the first cancel, and whether it is lost on the way.
	cancelFault fault
	cancelLost  bool
	what        string // For people, in docs/sandbox.md.
}

// behaviours is the whole list, in the order of the amounts: a row's amount is 9050.00 plus its place.
var behaviours = []behaviour{
	{name: "approve", amount: "9050.00", state: stateApproved,
		what: "Approved at once."},
	{name: "decline", amount: "9051.00", state: stateDeclined, reason: "declined",
		what: "Declined, reason `declined`."},
	{name: "insufficient_funds", amount: "9052.00", state: stateDeclined, reason: "insufficient_funds",
		what: "Declined, reason `insufficient_funds`."},
	{name: "pending_then_approve_3s", amount: "9053.00", state: stateApproved, after: pendingFor,
		what: "Waiting, approved after 3 seconds."},
	{name: "pending_then_decline_3s", amount: "9054.00", state: stateDeclined, reason: "declined", after: pendingFor,
		what: "Waiting, declined after 3 seconds."},
	{name: "pending_forever", amount: "9055.00", state: stateWaiting,
		what: "Waiting, until somebody acts on the phone page, it is cancelled, or its lifetime ends."},
	{name: "no_answer", amount: "9056.00", state: stateApproved, fault: faultSilent,
		what: "Taken and approved; the answer is never sent. The connection is held until the caller leaves, 60 seconds at most."},
	{name: "late_answer", amount: "9057.00", state: stateApproved, fault: faultLate,
		what: "Taken and approved at once; answered after 12 seconds."},
	{name: "garbled_answer", amount: "9058.00", state: stateApproved, fault: faultGarbled,
		what: "Taken and approved; the answer is HTTP 200 with bytes that are not JSON."},
	{name: "connection_cut", amount: "9059.00", state: stateApproved, fault: faultCut,
		what: "Taken and approved; the connection is closed without an answer."},
	{name: "error", amount: "9060.00", state: stateApproved, fault: faultError, lost: true,
		what: "HTTP 500, and nothing is taken. The second time it is taken and approved."},
	{name: "request_lost", amount: "9061.00", state: stateApproved, fault: faultSilent, lost: true,
		what: "Never arrives: nothing is taken, there is no answer, and the reference stays unknown. The second time it is taken and approved."},
	{name: "limit_exceeded", amount: "9062.00", state: stateDeclined, reason: "limit_exceeded",
		what: "Declined, reason `limit_exceeded`."},
	{name: "code_expired", amount: "9063.00", state: stateDeclined, reason: "code_expired",
		what: "Declined, reason `code_expired`."},
	{name: "code_used", amount: "9064.00", state: stateDeclined, reason: "code_used",
		what: "Declined, reason `code_used`."},
	{name: "customer_cancelled", amount: "9065.00", state: stateDeclined, reason: "customer_cancelled",
		what: "Declined, reason `customer_cancelled`."},
	{name: "cancel_no_answer", amount: "9066.00", state: stateApproved, cancelFault: faultSilent,
		what: "Pays as usual; the first cancel is carried out and never answered."},
	{name: "cancel_lost", amount: "9067.00", state: stateApproved, cancelFault: faultSilent, cancelLost: true,
		what: "Pays as usual; the first cancel never arrives: it is neither carried out nor answered."},
}

// reasonTexts says each reason to people.
var reasonTexts = map[string]string{
	"declined":             "The wallet declined the payment.",
	"insufficient_funds":   "The customer's wallet does not hold enough.",
	"limit_exceeded":       "The payment exceeds the customer's limit.",
	"code_expired":         "The payment code has expired.",
	"code_used":            "The payment code was used before.",
	"code_invalid":         "This is not a payment code of this wallet.",
	"customer_cancelled":   "The customer cancelled the payment.",
	"expired":              "The payment was not approved in time.",
	"merchant_cancelled":   "The merchant cancelled the payment.",
	"merchant_closed":      "The merchant closed the payment before it was paid.",
	"cancelled_unseen":     "The payment had been cancelled before it arrived.",
	"refund_exceeds":       "All refunds together would exceed the payment.",
	"original_not_found":   "There is no payment with the original reference.",
	"original_not_paid":    "The original payment is not paid.",
	"currency_not_matched": "The refund's currency is not the payment's.",
}

// usual is what happens when nothing is triggered.
var usual = &behaviours[0]

// behaviourByName finds a row of the table, or nil.
func behaviourByName(name string) *behaviour {
	for i := range behaviours {
		if behaviours[i].name == name {
			return &behaviours[i]
		}
	}
	return nil
}

// behaviourByAmount finds the behaviour that an amount triggers, or nil. The amounts are texts with two places, so only currencies
// with two decimals have triggers.
func behaviourByAmount(a money.Amount) *behaviour { return byAmount[a.String()] }

var byAmount = func() map[string]*behaviour {
	m := make(map[string]*behaviour, len(behaviours))
	for i := range behaviours {
		m[behaviours[i].amount] = &behaviours[i]
	}
	return m
}()

// A wallet is one brand that the network plays.
type wallet struct {
	name       string
	title      string
	codePrefix string            // Of the codes with behaviours; the behaviour's amount without its decimals follows.
	wellFormed func(string) bool // Whether a text can be a code of this wallet at all.
	yuan       bool              // The customer pays in CNY.
}

// wallets is the closed list. The formats of real codes are read leniently: they change, and the wallet itself is named in each request.
var wallets = []wallet{
	{"alipay", "Alipay", "28000000000000", alipayCode, true},
	{"wechat", "WeChat Pay", "13000000000000", wechatCode, true},
	{"unionpay", "UnionPay", "620000000000000", unionpayCode, true},
	{"humm", "humm", "619900", notEmpty, false},
	{"zippay", "Zip", "00", notEmpty, false},
	{"afterpay", "Afterpay", "AP00000000", notEmpty, false},
	{"latitudepay", "LatitudePay", "LP00000000", notEmpty, false},
	{"genoapay", "Genoapay", "GP00000000", notEmpty, false},
	{"payme", "PayMe", "PM00000000", notEmpty, false},
	{"fps", "FPS", "FP00000000", notEmpty, false},
	{"octopus", "Octopus", "OC00000000", notEmpty, false},
	{"financialcard", "Card", "ct_sandbox_", cardToken, false},
}

// code is the wallet's code for a behaviour: it ends with the whole part of the amount, so that people can remember it.
func (w *wallet) code(b *behaviour) string {
	return w.codePrefix + strings.TrimSuffix(b.amount, ".00")
}

// walletByName finds a wallet, or nil.
func walletByName(name string) *wallet {
	for i := range wallets {
		if wallets[i].name == name {
			return &wallets[i]
		}
	}
	return nil
}

// behaviourByCode finds the behaviour of a listed code, or nil.
func (w *wallet) behaviourByCode(code string) *behaviour {
	whole, ok := strings.CutPrefix(code, w.codePrefix)
	if !ok {
		return nil
	}
	return byAmount[whole+".00"]
}

// alipayCode accepts 17 to 32 digits, and 16 digits that start with 25 to 30.
func alipayCode(s string) bool {
	switch {
	case !digits(s):
		return false
	case len(s) == 16:
		return s[:2] >= "25" && s[:2] <= "30"
	}
	return len(s) >= 17 && len(s) <= 32
}

// wechatCode accepts 18 digits that start with 10 to 15.
func wechatCode(s string) bool {
	return len(s) == 18 && digits(s) && s[:2] >= "10" && s[:2] <= "15"
}

// unionpayCode accepts 19 digits that start with 62, and EMVCo codes: customer-presented ones are Base64 of a TLV text that starts with
// tag 85 "CPV01", others start with the payload format indicator 00 02 01.
func unionpayCode(s string) bool {
	return len(s) == 19 && digits(s) && s[:2] == "62" || strings.HasPrefix(s, "hQVDUFYwM") || strings.HasPrefix(s, "000201")
}

func notEmpty(s string) bool { return s != "" }

// cardToken accepts what a card widget hands out.
func cardToken(s string) bool { return len(s) > len("ct_") && strings.HasPrefix(s, "ct_") }

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

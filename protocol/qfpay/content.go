package qfpay

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tillgate/tillgate/money"
)

// hkd is the only currency of the protocol (§1).
var hkd = money.MustCurrency("HKD")

// Limits of a request (§6.1).
const (
	amountMaxMinor = 999_999_999
	numberMax      = 128 // Characters of out_trade_no and orderId.
	secondsMax     = 600
	payMeMax       = 120 * time.Second // QFPay seed, Timeout.
	timeoutDefault = 120 * time.Second // QFPay seed: of wait_card_timeout; of the cloud variant's payment_timeout.
)

// ScanType is how a wallet is paid (QFPay seed, Scan Type).
type ScanType string

// The scan types. Without one the terminal goes by the last usage.
const (
	ScanShow ScanType = "QRCODE_PAY" // The terminal shows a code (MPM).
	ScanRead ScanType = "SCAN_PAY"   // The terminal scans the customer's code (CPM).
)

// content is a request's content, decoded and checked as far as that needs no terminal.
type content struct {
	funcType FuncType

	amount     money.Amount // A payment's, or a refund's: zero is all that is left.
	channel    channelRow
	scanType   ScanType
	outTradeNo string
	orderID    string

	frontCamera bool
	timeout     time.Duration
	mayChange   bool
	goHome      bool
}

// paramError is a parameter that cannot be taken: 4006.
type paramError struct{ field, problem string }

func (e *paramError) Error() string { return e.field + " " + e.problem }

// fields reads members one by one and remembers the first fault.
type fields struct {
	members []member
	err     error
}

func (f *fields) fail(name, format string, args ...any) {
	if f.err == nil {
		f.err = &paramError{name, fmt.Sprintf(format, args...)}
	}
}

// text is a member as text: a number is read as its digits, null and empty are none (§2.3).
func (f *fields) text(name string) string {
	v, ok := find(f.members, name)
	switch {
	case !ok:
	case v.kind == objectKind || v.kind == listKind || v.kind == wordKind:
		f.fail(name, "must be a text")
	default:
		return v.text
	}
	return ""
}

// integer is a whole number, or a text that holds one; def if there is none.
func (f *fields) integer(name string, def int) int {
	text := f.text(name)
	if text == "" {
		return def
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		f.fail(name, "must be a whole number")
	}
	return n
}

func (f *fields) flag(name string) bool {
	n := f.integer(name, 0)
	if n != 0 && n != 1 {
		f.fail(name, "must be 0 or 1")
	}
	return n == 1
}

// seconds is a time-out of 1 to 600 seconds; 0 if there is none.
func (f *fields) seconds(name string) time.Duration {
	n := f.integer(name, 0)
	_, given := find(f.members, name)
	if given && f.text(name) != "" && (n < 1 || n > secondsMax) {
		f.fail(name, "must be from 1 to %d seconds", secondsMax)
	}
	return time.Duration(n) * time.Second
}

// number is an order's number: 1 to 128 characters, none of which is a control character.
func (f *fields) number(name string) string {
	text := f.text(name)
	if n := utf8.RuneCountInString(text); n > numberMax {
		f.fail(name, "must have 1 to %d characters", numberMax)
	}
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		f.fail(name, "must not hold control characters")
	}
	return text
}

// dollars is an amount in dollars, above zero, with at most two decimals (§4.0, §6.1). Zero if there is none.
func (f *fields) dollars(name string) money.Amount {
	text := f.text(name)
	if text == "" {
		return money.New(0, hkd)
	}
	a, err := money.Parse(text, hkd)
	switch {
	case err != nil:
		f.fail(name, "must be an amount of dollars such as 10.1: %v", err)
	case !a.IsPositive() || a.Minor() > amountMaxMinor:
		f.fail(name, "must be above 0 and at most %s", money.New(amountMaxMinor, hkd))
	}
	return a
}

// decodeContent reads a content whose digest has been verified. path is the operation that an HTTP path names, 0 for none: it decides
// when func_type is absent, and both must agree (§3.1). What the operation does not know is ignored, as §2.5 has it.
func decodeContent(members []member, path FuncType) (content, error) {
	f := &fields{members: members}
	c := content{funcType: FuncType(f.integer("func_type", int(path)))}
	switch {
	case f.err != nil:
	case c.funcType == 0:
		f.fail("func_type", "is missing")
	case c.funcType.Path() == "":
		f.fail("func_type", "%d is not known", c.funcType)
	case path != 0 && path != c.funcType:
		f.fail("func_type", "%d does not belong to this path", c.funcType)
	}
	if f.err != nil {
		return c, f.err
	}
	switch c.funcType {
	case FuncPayment:
		c.payment(f)
	case FuncRefund:
		if c.orderID = f.number("orderId"); c.orderID == "" {
			f.fail("orderId", "is missing")
		}
		c.amount = f.dollars("refund_amount")
		c.mayChange = f.flag("allow_modify_flag")
		c.goHome = f.flag("moveToBack")
	case FuncPrintReceipt:
		if c.orderID = f.number("orderId"); c.orderID == "" {
			f.fail("orderId", "is missing")
		}
	case FuncInquiry:
		c.orderID, c.outTradeNo = f.number("orderId"), f.number("out_trade_no")
		if c.orderID == "" && c.outTradeNo == "" {
			f.fail("orderId", "or out_trade_no is needed")
		}
	}
	return c, f.err
}

func (c *content) payment(f *fields) {
	if c.amount = f.dollars("amt"); c.amount.IsZero() {
		f.fail("amt", "is missing")
	}
	name := Channel(f.text("channel"))
	i := slices.IndexFunc(channels, func(r channelRow) bool { return r.name == name })
	switch {
	case i >= 0:
		c.channel = channels[i]
	case name == "":
		f.fail("channel", "is missing")
	default:
		f.fail("channel", "%.40q is not known", string(name))
	}
	c.outTradeNo = f.number("out_trade_no")
	c.frontCamera = f.flag("camera_id")
	c.goHome = f.flag("moveToBack")
	switch c.scanType = ScanType(f.text("scan_type")); c.scanType {
	case "", ScanShow:
	case ScanRead:
		if i >= 0 && !c.channel.card && c.channel.cpm == "" {
			f.fail("scan_type", "%s is not possible with %s", ScanRead, name)
		}
	default:
		f.fail("scan_type", "must be %s or %s", ScanRead, ScanShow)
	}
	c.timeout = timeoutOf(f, c.channel)
}

// timeoutOf is how long the customer has: payment_timeout if given, else for cards wait_card_timeout, else 120 seconds; with PayMe never
// more than that (QFPay seed, Timeout; §4.1). A wait_card_timeout of nothing or less is the default.
func timeoutOf(f *fields, channel channelRow) time.Duration {
	t := f.seconds("payment_timeout")
	if wait := f.integer("wait_card_timeout", 0); wait > secondsMax {
		f.fail("wait_card_timeout", "must be at most %d seconds", secondsMax)
	} else if t == 0 && wait > 0 && channel.card {
		t = time.Duration(wait) * time.Second
	}
	if t == 0 {
		t = timeoutDefault
	}
	if channel.name == PayMe && t > payMeMax {
		t = payMeMax
	}
	return t
}

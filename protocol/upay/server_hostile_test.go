package upay_test

import (
	"strings"
	"testing"

	"github.com/tillgate/tillgate/protocol/upay"
)

// TestHostile sends what no till sends, rightly signed: it is refused, and nothing is stored.
func TestHostile(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.till(t)
	pay := func(extra string) string {
		return `{"terminal_sn":"` + c.sn + `","client_sn":"` + order() + `","total_amount":"1","dynamic_id":"` + alipayCode + `","subject":"s"` + extra + `}`
	}
	for name, body := range map[string]string{
		"deep lists":         pay(`,"x":` + strings.Repeat("[", 100_000)),
		"deep objects":       pay(`,"x":` + strings.Repeat(`{"a":`, 50_000) + "1" + strings.Repeat("}", 50_000)),
		"deep and balanced":  pay(`,"x":` + strings.Repeat("[", 20) + strings.Repeat("]", 20)),
		"many values":        pay(`,"x":[` + strings.Repeat("1,", 20_000) + "1]"),
		"a huge body":        pay(`,"x":"` + strings.Repeat("x", 300<<10) + `"`),
		"bad UTF-8":          pay(",\"x\":\"\xff\xfe\""),
		"half a surrogate":   pay(`,"reflect":"\ud83c"`),
		"U+0000":             pay(`,"reflect":"\u0000"`),
		"a raw NUL":          pay(",\"reflect\":\"\x00\""),
		"a member twice":     pay(`,"total_amount":"2"`),
		"a huge exponent":    pay(`,"x":1e999999999`),
		"a long number":      pay(`,"x":` + strings.Repeat("1", 1000)),
		"text behind":        pay("") + "x",
		"two objects":        pay("") + pay(""),
		"an unfinished text": pay(`,"x":"`),
		"a byte order mark":  "\ufeff" + pay(""),
		"a list":             "[" + pay("") + "]",
		"nothing":            "",
		"NaN":                pay(`,"x":NaN`),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.in(t).send("/upay/v2/pay", body).wantRefused(upay.CodeInvalidParams)
		})
	}
	t.Run("oversized fields", func(t *testing.T) {
		t.Parallel()
		for _, field := range []string{"client_sn", "dynamic_id", "subject", "operator", "description", "device_id", "reflect", "notify_url", "total_amount", "payway"} {
			c.in(t).pay(order(), field, strings.Repeat("9", 2000)).wantRefused(upay.CodeInvalidParams, field)
		}
	})
	t.Run("a huge header", func(t *testing.T) {
		t.Parallel()
		r.call(t, "POST", "/upay/v2/pay", "{}", "Authorization", strings.Repeat("1", 10_000)+" "+strings.Repeat("0", 32)).wantRefused(upay.CodeIllegalSign)
	})
	t.Run("texts with quotes and tags", func(t *testing.T) {
		t.Parallel()
		const nasty = `'";--<script>\` + "\u2028\t\n"
		sn := order()
		c.in(t).pay(sn, "subject", nasty, "operator", nasty, "reflect", nasty).want(upay.PaySuccess, "", "").wantFields("subject", nasty, "operator", nasty, "reflect", nasty)
		c.in(t).refund(sn, nasty, "1").want(upay.RefundSuccess, "", "")
		c.in(t).query(sn, "refund_request_no", nasty).want(upay.Success, "", upay.StatusSuccess)
		c.in(t).pay(nasty).want(upay.PaySuccess, "", "")
		c.in(t).query(nasty).want(upay.Success, "", "")
	})
}

// TestSecrets looks for keys and codes where none may be: in the log, and in what the store keeps of an order.
func TestSecrets(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c, sn := r.till(t), order()
	first := c.key
	c.pay(sn)
	c.key = c.checkIn().bizText("terminal_key")
	c.pay(order(), "dynamic_id", code("alipay", "decline"))
	c.withKey(k1).query(sn)
	c.query(sn)
	logs := r.logs.String()
	for name, secret := range map[string]string{"key": c.key, "last key": first, "vendor's key": vendorKey, "wallet code": alipayCode, "activation code": r.code} {
		if strings.Contains(logs, secret) {
			t.Errorf("the log holds the %s", name)
		}
		if p := r.payment(t, sn); strings.Contains(string(p.Echo), secret) {
			t.Errorf("the order holds the %s", name)
		}
	}
	if !strings.Contains(logs, "protocol=upay") || !strings.Contains(logs, "tid="+c.sn) || !strings.Contains(logs, "failure=ILLEGAL_SIGN") {
		t.Errorf("the log does not tell who asked and how it ended:\n%s", logs)
	}
}

package iotpay_test

import (
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/tillgate/tillgate/protocol/iotpay"
)

// vector is the body of a file of testdata.
func vector(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name + ".txt")
	if err != nil {
		t.Fatal(err)
	}
	_, body, _ := strings.Cut(string(text), "\n\n")
	return strings.TrimSpace(body)
}

// TestBehaviourVectors are the five of §10; the fifth needs triggers, which only the sandbox has.
func TestBehaviourVectors(t *testing.T) {
	t.Parallel()
	r := setup(t)
	till := r.till(t)
	till.post("/v1/create_order", vector(t, "s05-wire-encoded")).is(iotpay.StatusPaid)
	till.post("/v1/create_order", vector(t, "s05-wire-raw")).refused(iotpay.CodePaid)
	till.post("/v1/create_order", vector(t, "s06-wire-raw")).is(iotpay.StatusPaid)
	for _, name := range []string{"s07-query", "s07-query-empty-id"} {
		body := strings.TrimSuffix(vector(t, name), "}") + `,"sign":"15AED2F63F486DCF8EAD15FEBB851DF7"}`
		till.post("/v1/query_order", "params="+body).is(iotpay.StatusPaid)
		till.post("/api/pay/query_order", "params="+body).is(iotpay.StatusPaid)
		till.post("/v1/query_order", "params="+strings.Replace(body, "15AE", "15AF", 1)).refused(iotpay.CodeSignature)
	}
	if a := till.call("/v1/query_order", fields{"mchId": mchID, "mchOrderNo": "POS20260301120000003"}).is(iotpay.StatusPaid); a.order().Body != "拿铁 x2 & scone" {
		a.errorf("body")
	}
	a := till.do(t.Context(), http.MethodGet, "/v1/create_order?params=%7B%7D", "", "").refused(iotpay.CodeNotPost)
	if a.text("sign") != "" {
		a.errorf("signed for nobody")
	}
	till.post("/v1/create_order", "").refused(iotpay.CodeEmpty)
	if r.host.count() != 2 {
		t.Errorf("%d sales", r.host.count())
	}
}

// TestRefusedRequests: what is wrong with a request, in the order of §3.1; nothing of it reaches a terminal or a wallet.
func TestRefusedRequests(t *testing.T) {
	t.Parallel()
	r := setup(t)
	for name, c := range map[string]struct {
		f    fields
		code iotpay.Code
	}{
		"no mchId":                     {cardOrder(number(), "mchId", nil), iotpay.CodeParameter},
		"unknown mchId":                {cardOrder(number(), "mchId", "99999999"), iotpay.CodeMerchant},
		"no mchOrderNo":                {cardOrder(""), iotpay.CodeParameter},
		"no channelId":                 {cardOrder(number(), "channelId", nil), iotpay.CodeParameter},
		"a channel that nobody has":    {cardOrder(number(), "channelId", "CC_CASH"), iotpay.CodeParameter},
		"a channel for browsers":       {cardOrder(number(), "channelId", "ALIPAY_WAP"), iotpay.CodeParameter},
		"a channel in small letters":   {cardOrder(number(), "channelId", "cc_pax"), iotpay.CodeParameter},
		"no amount":                    {cardOrder(number(), "amount", nil), iotpay.CodeParameter},
		"an amount of zero":            {cardOrder(number(), "amount", 0), iotpay.CodeParameter},
		"an amount in dollars":         {cardOrder(number(), "amount", "28.65"), iotpay.CodeParameter},
		"a negative amount":            {cardOrder(number(), "amount", -1), iotpay.CodeParameter},
		"an amount that is too large":  {cardOrder(number(), "amount", "1000000000000"), iotpay.CodeParameter},
		"a sum that is too large":      {cardOrder(number(), "amount", "999999999999", "tip", 1), iotpay.CodeParameter},
		"a tip in dollars":             {cardOrder(number(), "tip", "1.5"), iotpay.CodeParameter},
		"no currency":                  {cardOrder(number(), "currency", nil), iotpay.CodeParameter},
		"a currency that is none":      {cardOrder(number(), "currency", "C$"), iotpay.CodeParameter},
		"a currency that is not taken": {cardOrder(number(), "currency", "USD"), iotpay.CodeParameter},
		"no clientIp":                  {cardOrder(number(), "clientIp", ""), iotpay.CodeParameter},
		"no notifyUrl":                 {cardOrder(number(), "notifyUrl", ""), iotpay.CodeParameter},
		"no subject":                   {cardOrder(number(), "subject", nil), iotpay.CodeParameter},
		"an unknown login":             {cardOrder(number(), "jobNo", "nobody"), iotpay.CodeMerchant},
		"a login without a terminal":   {cardOrder(number(), "jobNo", "backoffice"), iotpay.CodeParameter},
		"a scan without a code":        {scanOrder(number(), "identityCode", nil), iotpay.CodeParameter},
		"a scan of another type":       {scanOrder(number(), "codeType", "face"), iotpay.CodeParameter},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r.till(t).create(c.f).refused(c.code)
		})
	}
	t.Cleanup(func() {
		if r.host.count() != 0 || r.pad.orders.Load() != 0 {
			t.Errorf("%d sales, %d orders at the terminal", r.host.count(), r.pad.orders.Load())
		}
	})
	t.Run("another merchant's mchId", func(t *testing.T) {
		t.Parallel()
		f := sign(cardOrder(number(), "mchId", otherMchID), keyText)
		r.till(t).as(otherKey).post("/v1/create_order", "params="+url.QueryEscape(f.json())).refused(iotpay.CodeSignature)
	})
	t.Run("a disabled merchant", func(t *testing.T) {
		t.Parallel()
		r := setup(t)
		r.disabled.Store(mchID, true)
		r.till(t).create(cardOrder(number())).refused(iotpay.CodeMerchant)
	})
	t.Run("an address that is not allowed", func(t *testing.T) {
		t.Parallel()
		r := setup(t, func(s *settings) { s.ips = "203.0.113.0/24" })
		r.till(t).create(cardOrder(number())).refused(iotpay.CodeMerchant)
	})
	t.Run("no terminals here", func(t *testing.T) {
		t.Parallel()
		r := setup(t, func(s *settings) { s.noTerminals = true })
		r.till(t).create(cardOrder(number())).refused(iotpay.CodeParameter)
	})
	t.Run("an order that nobody knows", func(t *testing.T) {
		t.Parallel()
		r.till(t).query(number()).refused(iotpay.CodeNotFound)
		r.till(t).call("/v1/query_order", fields{"mchId": mchID, "payOrderId": "CP20260301170005123456789012"}).refused(iotpay.CodeNotFound)
		r.till(t).call("/v1/query_order", fields{"mchId": mchID, "payOrderId": "RP20260301170005123456789012"}).refused(iotpay.CodeNotFound)
		r.till(t).call("/v1/query_order", fields{"mchId": mchID, "payOrderId": "nonsense"}).refused(iotpay.CodeNotFound)
		r.till(t).call("/v1/query_order", fields{"mchId": mchID}).refused(iotpay.CodeParameter)
		r.till(t).call("/v1/query_refund", fields{"mchId": mchID, "mchRefundNo": number()}).refused(iotpay.CodeNotFound)
	})
	t.Run("an unknown path", func(t *testing.T) {
		t.Parallel()
		if a := r.till(t).post("/v1/nothing", "params={}"); a.status != http.StatusNotFound {
			a.errorf("want 404")
		}
	})
}

// TestIDsThatDisagree name no order (§3.6).
func TestIDsThatDisagree(t *testing.T) {
	t.Parallel()
	r := setup(t)
	one := r.till(t).create(scanOrder(number())).is(iotpay.StatusPaid).order()
	two := r.till(t).create(scanOrder(number())).is(iotpay.StatusPaid).order()
	r.till(t).call("/v1/query_order", fields{"mchId": mchID, "payOrderId": one.PayOrderID, "mchOrderNo": two.MchOrderNo}).refused(iotpay.CodeNotFound)
	forged := "CP20260301170005" + one.PayOrderID[16:] // The right ID in a number that is not its own.
	r.till(t).call("/v1/query_order", fields{"mchId": mchID, "payOrderId": forged}).refused(iotpay.CodeNotFound)
}

// TestLeniency: public clients leave out what the document requires, unless that is asked for (§3.1).
func TestLeniency(t *testing.T) {
	t.Parallel()
	lenient, strict := setup(t), setup(t, func(s *settings) { s.strict = true })
	for name, f := range map[string]func(string) fields{
		"no body":     func(n string) fields { return scanOrder(n, "body", "") },
		"no jobNo":    func(n string) fields { return scanOrder(n, "jobNo", nil) },
		"no codeType": func(n string) fields { return scanOrder(n, "codeType", nil) },
		"no extra":    func(n string) fields { return cardOrder(n, "extra", nil) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			lenient.till(t).create(f(number())).is(iotpay.StatusPaid)
			strict.till(t).create(f(number())).refused(iotpay.CodeParameter)
		})
	}
	t.Run("everything is there", func(t *testing.T) {
		t.Parallel()
		strict.till(t).create(cardOrder(number())).is(iotpay.StatusPaid)
		strict.till(t).create(scanOrder(number())).is(iotpay.StatusPaid)
	})
	t.Run("more than is known", func(t *testing.T) {
		t.Parallel()
		lenient.till(t).create(cardOrder(number(), "sign_type", "MD5", "executeNotify", true, "payOrderId", "")).is(iotpay.StatusPaid)
	})
	t.Run("a UUID as the order's number", func(t *testing.T) {
		t.Parallel()
		lenient.till(t).create(cardOrder("6f1f0d0e-3a53-4a1c-9a51-"+number()[:12], "amount", 2865, "tip", 0)).is(iotpay.StatusPaid)
	})
	t.Run("the key that is being replaced", func(t *testing.T) {
		t.Parallel()
		f := cardOrder(number())
		lenient.till(t).post("/v1/create_order", "params="+url.QueryEscape(sign(f, oldKeyText).json())).is(iotpay.StatusPaid)
	})
	t.Run("the form's fields themselves", func(t *testing.T) {
		t.Parallel()
		form := url.Values{}
		for name, v := range sign(cardOrder(number()), keyText) {
			form.Set(name, fmt.Sprint(v))
		}
		lenient.till(t).post("/v1/create_order", form.Encode()).is(iotpay.StatusPaid)
	})
	t.Run("the query string of a POST", func(t *testing.T) {
		t.Parallel()
		lenient.till(t).post("/v1/create_order?params="+url.QueryEscape(sign(cardOrder(number()), keyText).json()), "").is(iotpay.StatusPaid)
	})
	t.Run("texts that were percent-encoded after signing", func(t *testing.T) {
		t.Parallel()
		n := number()
		f := sign(cardOrder(n, "subject", "a b"), keyText)
		f["subject"] = "a%20b"
		a := lenient.till(t).post("/v1/create_order", "params="+url.QueryEscape(f.json())).is(iotpay.StatusPaid)
		if a.order().Subject != "a b" {
			a.errorf("subject")
		}
	})
}

// TestHostileBodies are refused as what they are, and cost little.
func TestHostileBodies(t *testing.T) {
	t.Parallel()
	r := setup(t)
	good := sign(cardOrder(number()), keyText).json()
	for name, c := range map[string]struct {
		body string
		code iotpay.Code
	}{
		"a body that is too long":         {"params=" + strings.Repeat(" ", iotpay.BodyMax) + good, iotpay.CodeParameter},
		"fields without end":              {strings.Repeat("a=b&", 16_000), iotpay.CodeParameter},
		"params twice":                    {"params=" + url.QueryEscape(good) + "&params=" + url.QueryEscape(good), iotpay.CodeParameter},
		"a member twice":                  {"params=" + url.QueryEscape(strings.Replace(good, "{", `{"amount":"1",`, 1)), iotpay.CodeParameter},
		"JSON in JSON":                    {"params=" + url.QueryEscape(fmt.Sprintf("%q", good)), iotpay.CodeParameter},
		"not UTF-8":                       {"params=" + strings.Replace(good, "Dinner", "\xff", 1), iotpay.CodeParameter},
		"U+0000":                          {"params=" + strings.Replace(good, "Dinner", `\u0000`, 1), iotpay.CodeParameter},
		"no JSON":                         {"params=%7B", iotpay.CodeParameter},
		"no params":                       {"hello=world", iotpay.CodeParameter},
		"a changed amount":                {"params=" + url.QueryEscape(strings.Replace(good, "2865", "2866", 1)), iotpay.CodeSignature},
		"a field more":                    {"params=" + url.QueryEscape(strings.Replace(good, "{", `{"x":"1",`, 1)), iotpay.CodeSignature},
		"no signature":                    {"params=" + url.QueryEscape(cardOrder(number()).json()), iotpay.CodeSignature},
		"a signature that is an object":   {"params=" + url.QueryEscape(changed(cardOrder(number()), []any{"sign", fields{}}).json()), iotpay.CodeSignature},
		"an mchId that is an object":      {"params=" + url.QueryEscape(sign(cardOrder(number(), "mchId", fields{"a": 1}), keyText).json()), iotpay.CodeMerchant},
		"an amount that is an object":     {`params={"mchId":"10009901","amount":{"a":1}}`, iotpay.CodeSignature},
		"brackets without end":            {"params=" + strings.Repeat("[", 30_000), iotpay.CodeParameter},
		"an mchId that looks like markup": {"params=" + url.QueryEscape(sign(cardOrder(number(), "mchId", "<script>\n"), keyText).json()), iotpay.CodeMerchant},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r.till(t).post("/v1/create_order", c.body).refused(c.code)
		})
	}
	t.Run("a text that is longer than any answer may be", func(t *testing.T) {
		t.Parallel()
		r.till(t).create(cardOrder(number(), "remarks", strings.Repeat("x", 9<<10))).refused(iotpay.CodeParameter)
	})
	t.Run("what must be escaped comes back as it was", func(t *testing.T) {
		t.Parallel()
		text := "</script>&\"\\ \u2028 é 拿 \U0001F600 \t\n"
		a := r.till(t).create(cardOrder(number(), "body", text, "remarks", text)).is(iotpay.StatusPaid)
		if o := a.order(); o.Body != text || o.Remarks != text {
			a.errorf("got %q", o.Body)
		}
	})
	if r.host.count() > 1 {
		t.Errorf("%d sales", r.host.count())
	}
}

// TestNothingSecretIsLoggedOrStored: payment codes, card numbers, keys and cryptograms (S1 to S3, S21).
func TestNothingSecretIsLoggedOrStored(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.till(t).create(cardOrder(number())).is(iotpay.StatusPaid)
	identity := code("wechat", "approve")
	r.till(t).create(scanOrder(number(), "identityCode", identity)).is(iotpay.StatusPaid)
	r.till(t).create(sign(cardOrder(number(), "amount", "x"), "wrong"))
	secrets := []string{pan, keyText, "1A2B3C4D5E6F7081", identity, walletKey}
	for _, secret := range secrets {
		if strings.Contains(r.logs.String(), secret) {
			t.Errorf("%s is in the log", secret)
		}
	}
	r.close()
	files, err := os.ReadDir(r.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := os.ReadFile(r.dir + "/" + f.Name())
		if err != nil {
			continue
		}
		for _, secret := range secrets {
			if strings.Contains(string(text), secret) {
				t.Errorf("%s is in %s", secret, f.Name())
			}
		}
	}
}

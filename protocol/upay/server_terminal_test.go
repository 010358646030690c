package upay_test

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/protocol/upay"
	"github.com/tillgate/tillgate/terminal"
)

func (r *rig) vendor(t testing.TB) *till { return &till{t, r, vendorSN, vendorKey} }

func TestActivate(t *testing.T) {
	t.Parallel()
	r := setup(t)
	v := r.vendor(t)
	a := v.post("/terminal/activate", object{"app_id": appID, "code": r.code, "device_id": deviceID, "client_sn": "till-1", "name": "Till", "os_info": "Android 14",
		"sdk_version": "1", "type": "2"})
	if a.outcome() != "ACTIVATE_SUCCESS" || len(a.bizText("terminal_key")) != 32 || a.bizText("merchant_sn") != "1680000001" ||
		a.bizText("merchant_name") != "Noodle House" || a.bizText("store_sn") != "15800000000001" || a.bizText("store_name") == "" {
		a.errorf("flat credentials")
	}
	a.wantFields("terminal_sn", a.bizText("terminal_sn"), "terminal_key", a.bizText("terminal_key"), "store_sn", "15800000000001")
	again := v.post("/terminal/activate", object{"app_id": appID, "code": r.code, "device_id": deviceID})
	if again.bizText("terminal_sn") == a.bizText("terminal_sn") {
		again.errorf("want a new terminal for the same device")
	}
	once, err := r.registry.NewCode(t.Context(), terminal.Code{Merchant: r.merchant, Store: r.place, Protocol: upay.Protocol, Uses: 1,
		Expires: r.clock.now().Add(time.Hour)})
	must(t, err)
	for _, c := range []struct {
		name string
		till *till
		body object
		code upay.ErrorCode
		word string
	}{
		{"unknown code", v, object{"app_id": appID, "code": "00000000", "device_id": "d"}, upay.CodeActivateFail, "unknown"},
		{"client_sn is taken", v, object{"app_id": appID, "code": r.code, "device_id": "d", "client_sn": "till-1"}, upay.CodeActivateFail, "taken"},
		{"a foreign app", v, object{"app_id": "2024010100000002", "code": r.code, "device_id": "d"}, upay.CodeActivateFail, "app_id"},
		{"no code", v, object{"app_id": appID, "device_id": "d"}, upay.CodeInvalidParams, "code"},
		{"wrong key", v.withKey(k1), object{"app_id": appID, "code": r.code, "device_id": "d"}, upay.CodeIllegalSign, ""},
		{"unknown vendor", &till{t, r, "90009999", vendorKey}, object{"app_id": appID, "code": r.code, "device_id": "d"}, upay.CodeIllegalSign, ""},
	} {
		t.Run(c.name, func(t *testing.T) { c.till.in(t).post("/terminal/activate", c.body).wantRefused(c.code, c.word) })
	}
	t.Run("without app_id", func(t *testing.T) {
		for _, body := range []object{{"code": r.code, "device_id": "d"}, {"app_id": "", "code": r.code, "device_id": "d"}} {
			if a := v.in(t).post("/terminal/activate", body); a.outcome() != "ACTIVATE_SUCCESS" {
				a.errorf("want success: the vendor has one app")
			}
		}
	})
	t.Run("a used code", func(t *testing.T) {
		r.activated(t, once)
		v.in(t).post("/terminal/activate", object{"app_id": appID, "code": once, "device_id": "d"}).wantRefused(upay.CodeActivateFail, "used up")
	})
	t.Run("an expired code", func(t *testing.T) {
		r.clock.pass(2 * time.Hour)
		v.in(t).post("/terminal/activate", object{"app_id": appID, "code": once, "device_id": "d"}).wantRefused(upay.CodeActivateFail)
	})
	t.Run("no header", func(t *testing.T) {
		r.call(t, http.MethodPost, "/terminal/activate", "{}").wantRefused(upay.CodeIllegalSign)
	})
}

func TestActivateOnce(t *testing.T) {
	t.Parallel()
	s := upay.DefaultSettings()
	s.DeviceOnce, s.ErrorCodeStandard = true, true
	r := setup(t, func(c *settings) { c.configure = func(u *upay.Server) { u.Defaults = &s } })
	r.till(t)
	a := r.vendor(t).post("/terminal/activate", object{"app_id": appID, "code": r.code, "device_id": deviceID}).wantRefused(upay.CodeActivateFail, "[EJ08]")
	if a.object["error_code_standard"] != "EJ08" {
		a.errorf("want error_code_standard EJ08")
	}
}

// TestHeaders is the table of §9 about the header, and §2.2 about its order.
func TestHeaders(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.till(t)
	c.pay("T1").want(upay.PaySuccess, upay.OrderPaid, "")
	body := object{"terminal_sn": c.sn, "client_sn": "T1"}.json()
	sign := upay.Sign([]byte(body), terminal.NewSecret(c.key))
	with := func(t *testing.T, header string) reply {
		return r.call(t, http.MethodPost, "/upay/v2/query", body, "Authorization", header)
	}
	for name, header := range map[string]string{"plain": c.sn + " " + sign, "capitals": c.sn + " " + strings.ToUpper(sign), "two spaces": c.sn + "  " + sign} {
		t.Run(name, func(t *testing.T) { with(t, header).want(upay.Success, upay.OrderPaid, "") })
	}
	for name, header := range map[string]string{"no sn": sign, "another signature": c.sn + " 1b9418d0ad0057b03a1884fa2caff79d", "empty": "",
		"a scheme": "Bearer " + c.sn + " " + sign, "of the vendor": vendorSN + "x"} {
		t.Run(name, func(t *testing.T) { with(t, header).wantRefused(upay.CodeIllegalSign) })
	}
	t.Run("unknown terminal", func(t *testing.T) {
		with(t, "100900010000000099 "+sign).wantRefused(upay.CodeInvalidTerminal)
	})
	t.Run("vendor's number", func(t *testing.T) { with(t, vendorSN+" "+sign).wantRefused(upay.CodeInvalidTerminal) })
	t.Run("one byte more", func(t *testing.T) {
		r.call(t, http.MethodPost, "/upay/v2/query", body+"\n", "Authorization", c.sn+" "+sign).wantRefused(upay.CodeIllegalSign)
	})
	t.Run("another terminal in the body", func(t *testing.T) {
		c.in(t).query("T1", "terminal_sn", r.till(t).sn).wantRefused(upay.CodeInvalidTerminal)
	})
	t.Run("signed with the body of another merchant", func(t *testing.T) {
		o := r.activated(t, r.otherCode)
		o.in(t).query("T1", "terminal_sn", c.sn).wantRefused(upay.CodeInvalidTerminal)
	})
	t.Run("an empty body", func(t *testing.T) { c.in(t).send("/upay/v2/query", "").wantRefused(upay.CodeInvalidParams) })
}

// TestKeyRotation is §9, key rotation, and the check-in that the terminal never hears of.
func TestKeyRotation(t *testing.T) {
	t.Parallel()
	r := setup(t)
	first := r.till(t)
	a := first.checkIn()
	if a.outcome() != "TERMINAL_CHECKIN_SUCCESS" || a.text("terminal_key") != a.bizText("terminal_key") {
		a.errorf("want both forms")
	}
	second := first.withKey(a.bizText("terminal_key"))
	second.query("x").wantFail(upay.CodeOrderNotExists)
	first.query("x").wantFail(upay.CodeOrderNotExists) // The last key still works.
	// The answer to this one is lost: the terminal goes on with its old key, which becomes the last one, and checks in again.
	lost := first.checkIn().bizText("terminal_key")
	if lost == "" {
		t.Fatal("the last key cannot check in")
	}
	second.query("x").wantFail(upay.CodeOrderNotExists)
	first.query("x").wantRefused(upay.CodeIllegalSign)
	third := first.withKey(second.checkIn().bizText("terminal_key"))
	third.query("x").wantFail(upay.CodeOrderNotExists)
	first.withKey(lost).query("x").wantFail(upay.CodeOrderNotExists)
	second.query("x").wantRefused(upay.CodeIllegalSign)
	second.checkIn().wantRefused(upay.CodeIllegalSign) // Two lost answers lock a terminal out.
}

func TestKeyExpiry(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.till(t)
	last := c.withKey(c.key)
	c.key = c.checkIn().bizText("terminal_key")
	r.clock.pass(48*time.Hour - time.Minute)
	c.query("x").wantFail(upay.CodeOrderNotExists)
	last.query("x").wantFail(upay.CodeOrderNotExists)
	r.clock.pass(2 * time.Minute)
	t.Run("transactions are refused", func(t *testing.T) {
		c.in(t).query("x").wantRefused(upay.CodeIllegalSign)
		c.in(t).pay("x").wantRefused(upay.CodeIllegalSign)
		if got := r.books(t, ""); len(got) != 0 {
			t.Errorf("books: %v", got)
		}
	})
	t.Run("the last key cannot check in", func(t *testing.T) { last.in(t).checkIn().wantRefused(upay.CodeIllegalSign) })
	t.Run("the setting lets keys live", func(t *testing.T) {
		r.set(t, func(s *upay.Settings) { s.TerminalKeyTTL = 0 })
		c.in(t).query("x").wantFail(upay.CodeOrderNotExists)
		r.set(t, func(*upay.Settings) {})
	})
	t.Run("the current key can check in", func(t *testing.T) {
		fresh := c.in(t).withKey(c.in(t).checkIn().bizText("terminal_key"))
		fresh.query("x").wantFail(upay.CodeOrderNotExists)
		c.in(t).query("x").wantRefused(upay.CodeIllegalSign) // It is the last one now, and too old.
	})
}

func TestCheckInDevice(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.till(t)
	c.checkIn("device_id", "another").wantRefused(upay.CodeInvalidTerminal, "device_id")
	c.query("x").wantFail(upay.CodeOrderNotExists) // Its key is as it was.
	r.set(t, func(s *upay.Settings) { s.CheckDevice = false })
	if a := c.checkIn("device_id", "another"); a.outcome() != "TERMINAL_CHECKIN_SUCCESS" {
		a.errorf("the setting does not count")
	}
}

func TestDisabledTerminal(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.till(t)
	e, err := r.registry.Find(t.Context(), upay.Protocol, c.sn)
	must(t, err)
	must(t, r.registry.SetIdentityDisabled(t.Context(), e.Merchant, e.ID, true))
	c.pay("T1").wantFail(upay.CodeTerminalAbnormal)
	c.checkIn().wantFail(upay.CodeTerminalAbnormal)
	c.withKey(k1).pay("T1").wantRefused(upay.CodeIllegalSign) // Only who holds the key hears it.
	must(t, r.registry.SetIdentityDisabled(t.Context(), e.Merchant, e.ID, false))
	c.pay("T1").want(upay.PaySuccess, upay.OrderPaid, "")
}

// TestErrorCodeStandard is the setting of the newer support codes.
func TestErrorCodeStandard(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.till(t)
	if a := c.withKey(k1).query("x").wantRefused(upay.CodeIllegalSign); a.object["error_code_standard"] != nil {
		a.errorf("error_code_standard was not asked for")
	}
	r.set(t, func(s *upay.Settings) { s.ErrorCodeStandard = true })
	if a := c.withKey(k1).query("x").wantRefused(upay.CodeIllegalSign, "[EJ26]"); a.object["error_code_standard"] != "EJ26" {
		a.errorf("want EJ26")
	}
}

func TestUploadLog(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.till(t)
	v := readVector(t, "testdata/V14.txt")
	a := c.send("/terminal/uploadLog", string(v.body), "Content-Type", "application/gzip")
	if a.envelope() != "200" || a.object["error_code"] != "SUCCESS" || a.object["error_message"] != "ok" {
		a.errorf("want SUCCESS")
	}
	files := func() []string {
		list, err := filepath.Glob(filepath.Join(r.dir, "logs", "*", "*.log"))
		must(t, err)
		return list
	}
	if list := files(); len(list) != 1 {
		t.Fatalf("files: %v", list)
	} else if got, err := os.ReadFile(list[0]); err != nil || string(got) != string(v.body) {
		t.Errorf("kept %q %v", got, err)
	}
	for range 20 {
		c.send("/terminal/uploadLog", "more")
	}
	if n := len(files()); n != 16 {
		t.Errorf("%d logs are kept, want 16", n)
	}
	c.send("/terminal/uploadLog", strings.Repeat("x", 10<<20+1)).wantRefused(upay.CodeInvalidParams)
	c.withKey(k1).send("/terminal/uploadLog", "x").wantRefused(upay.CodeIllegalSign)
	r.upay.LogDir = ""
	c.send("/terminal/uploadLog", "x").wantRefused(upay.CodeRequestFail)
}

// TestPaths is §2.3 about addresses.
func TestPaths(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.till(t)
	for _, path := range []string{"/upay/v2/query", "//upay/v2/query", "/upay/v2/query/", "/upay/v2/query?", "/upay//v2///query//?"} {
		c.query("x", "client_sn", "unknown").wantFail(upay.CodeOrderNotExists)
		c.post(path, object{"terminal_sn": c.sn, "client_sn": "unknown"}).wantFail(upay.CodeOrderNotExists)
	}
	for _, path := range []string{"/", "/upay", "/upay/v2", "/upay/v2/pays", "/upay/v2/pay/x", "/terminal", "/upay/v1/pay", "/UPAY/v2/pay"} {
		if a := r.call(t, http.MethodPost, path, "{}"); a.status != http.StatusNotFound {
			a.errorf("want 404")
		}
	}
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete} {
		if a := r.call(t, method, "/upay/v2/pay", ""); a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != "POST" {
			a.errorf("want 405")
		}
	}
}

// TestTolerance is §2.3: what real clients send.
func TestTolerance(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.till(t)
	paid := func(t *testing.T, a reply) reply { t.Helper(); return a.want(upay.PaySuccess, upay.OrderPaid, "") }
	t.Run("nulls", func(t *testing.T) {
		body := `{"terminal_sn":"` + c.sn + `","client_sn":"` + order() + `","total_amount":"1250","dynamic_id":"` + alipayCode +
			`","subject":"s","operator":null,"payway":null,"extended":null,"goods_details":null,"reflect":null,"notify_url":null,"longitude":null,"latitude":null}`
		paid(t, c.in(t).send("/upay/v2/pay", body))
	})
	t.Run("empty strings", func(t *testing.T) {
		sn := order()
		paid(t, c.in(t).pay(sn, "operator", "", "payway", "", "extended", "", "goods_details", "", "reflect", "", "notify_url", "", "longitude", "",
			"latitude", "", "device_id", "", "description", ""))
		c.in(t).query(sn, "sn", "").want(upay.Success, upay.OrderPaid, "")
		c.in(t).query(sn, "sn", nil, "refund_request_no", "").want(upay.Success, upay.OrderPaid, "")
	})
	t.Run("numbers for strings", func(t *testing.T) {
		sn := order()
		a := paid(t, c.in(t).pay(sn, "total_amount", 1250, "payway", 1)).wantFields("payway", "1", "total_amount", "1250")
		c.in(t).refund(sn, "1", "", "refund_amount", 250, "refund_request_no", 1).want(upay.RefundSuccess, upay.OrderPartialRefunded, "")
		a.wantFields("client_sn", sn)
	})
	t.Run("unknown fields", func(t *testing.T) {
		sn := order()
		body := object{"terminal_sn": c.sn, "client_sn": sn, "total_amount": "1250", "dynamic_id": alipayCode, "subject": "s", "type": "2", "new": object{"a": []any{1}}}
		paid(t, c.in(t).send("/upay/v2/pay", body.json(), "Format", "json"))
		c.in(t).refund(sn, "R1", "1", "refund_reason", "changed", "reflect", "r").want(upay.RefundSuccess, "", "")
	})
	t.Run("no operator", func(t *testing.T) {
		sn := order()
		paid(t, c.in(t).pay(sn, "operator", nil)).wantFields("operator", "")
		c.in(t).refund(sn, "R1", "1", "operator", nil).want(upay.RefundSuccess, "", "")
		c.in(t).precreate(order(), "operator", nil).want(upay.PrecreateSuccess, upay.OrderCreated, "")
	})
	t.Run("a long device_id", func(t *testing.T) { paid(t, c.in(t).pay(order(), "device_id", strings.Repeat("d", 128))) })
	t.Run("pretty-printed with CRLF and escapes", func(t *testing.T) {
		sn := order()
		body := "{\r\n  \"terminal_sn\" : \"" + c.sn + "\",\r\n\t\"client_sn\": \"" + sn + "\", \"total_amount\":\"1250\",\r\n \"dynamic_id\":\"" + alipayCode +
			"\", \"subject\":\"\\u725b\\u8089\\u9762 a\\/b\", \"reflect\":\"\\ud83c\\udf5c\"\r\n}\r\n"
		paid(t, c.in(t).send("/upay/v2/pay", body)).wantFields("subject", "牛肉面 a/b", "reflect", "🍜")
	})
	t.Run("any content type", func(t *testing.T) {
		for _, media := range []string{"text/plain", "application/x-www-form-urlencoded", "application/json;charset=utf-8", ""} {
			paid(t, c.in(t).send("/upay/v2/pay", object{"terminal_sn": c.sn, "client_sn": order(), "total_amount": "1250", "dynamic_id": alipayCode,
				"subject": "s"}.json(), "Content-Type", media))
		}
	})
	t.Run("X-Forwarded-For is kept and not believed", func(t *testing.T) {
		sn := order()
		paid(t, c.in(t).send("/upay/v2/pay", object{"terminal_sn": c.sn, "client_sn": sn, "total_amount": "1250", "dynamic_id": alipayCode, "subject": "s"}.json(),
			"X-Forwarded-For", "203.0.113.7"))
		if p := r.payment(t, sn); !strings.Contains(string(p.Echo), "203.0.113.7") {
			t.Errorf("echo: %s", p.Echo)
		}
	})
	t.Run("reflect comes back byte for byte", func(t *testing.T) {
		const reflect = `{"a":1, "b":"\u0041<&>"} 中`
		sn := order()
		paid(t, c.in(t).pay(sn, "reflect", reflect)).wantFields("reflect", reflect)
		c.in(t).query(sn).wantFields("reflect", reflect)
	})
	t.Run("payway 2 is echoed", func(t *testing.T) {
		paid(t, c.in(t).pay(order(), "payway", "2")).wantFields("payway", "2", "payway_name", "支付宝")
	})
}

// payment is an order as the core has it.
func (r *rig) payment(t testing.TB, clientSN string) payment.Payment {
	t.Helper()
	v, _, err := r.engine.Find(context.Background(), r.merchant, payment.Key{Scope: "upay", Key: clientSN})
	must(t, err)
	return v.Payment
}

package upay_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/tillgate/tillgate/protocol/upay"
	"github.com/tillgate/tillgate/terminal"
)

// gatewayQuery is a signed order for the WAP gateway, with changes after the signature if resign is false.
func (c *till) gatewayQuery(clientSN string, changes ...string) url.Values {
	v := url.Values{"terminal_sn": {c.sn}, "client_sn": {clientSN}, "total_amount": {"300"}, "subject": {"奶茶"}, "operator": {"c01"}, "reflect": {"t7"},
		"return_url": {"https://shop.example.com/done?a=1"}}
	for i := 0; i < len(changes); i += 2 {
		v.Set(changes[i], changes[i+1])
	}
	v.Set("sign", upay.SignForm(v, terminal.NewSecret(c.key)))
	return v
}

func (r *rig) get(t testing.TB, path string, headers ...string) reply {
	t.Helper()
	a, err := r.try(t, t.Context(), http.MethodGet, path, "", headers...)
	must(t, err)
	return a
}

// hint is where a browser was sent, whose parameters the shop can verify.
func (c *till) hint(a reply) url.Values {
	c.t.Helper()
	to, err := url.Parse(a.header.Get("Location"))
	must(c.t, err)
	if a.status != http.StatusFound || to.Host != "shop.example.com" || to.Path != "/done" {
		c.t.Fatalf("sent to %s: %d %s", to, a.status, a.raw)
	}
	v := to.Query()
	if v.Get("a") != "1" {
		c.t.Errorf("return_url has lost its own parameters: %s", to)
	}
	v.Del("a")
	if !upay.VerifyForm(v, terminal.NewSecret(c.key)) {
		c.t.Errorf("the hint's signature is wrong: %s", to)
	}
	return v
}

func TestGateway(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.till(t)
	t.Run("paid", func(t *testing.T) {
		t.Parallel()
		c, sn := c.in(t), order()
		q := c.gatewayQuery(sn)
		a := r.get(t, "/gateway?"+q.Encode())
		wallet := a.header.Get("Location")
		if a.status != http.StatusFound || !strings.HasPrefix(wallet, r.wallets.URL+"/pay/") {
			t.Fatalf("%d %s %s", a.status, wallet, a.raw)
		}
		if again := r.get(t, "/gateway?"+q.Encode()); again.header.Get("Location") != wallet {
			t.Errorf("loaded again: %d %s", again.status, again.header.Get("Location"))
		}
		o := c.query(sn).want(upay.Success, upay.OrderCreated, upay.StatusCreated).wantFields("sub_payway", "3", "payway", "3", "total_amount", "300")
		back := r.phone(t, wallet, "approve").Header.Get("Location")
		v := c.hint(r.get(t, strings.TrimPrefix(back, r.server.URL)))
		for name, want := range map[string]string{"is_success": "T", "status": "SUCCESS", "client_sn": sn, "sn": o.sn(), "terminal_sn": c.sn, "total_amount": "300",
			"subject": "奶茶", "operator": "c01", "reflect": "t7", "result_code": "get_brand_wcpay_request:ok"} {
			if v.Get(name) != want {
				t.Errorf("%s: got %q, want %q", name, v.Get(name), want)
			}
		}
		if v.Get("trade_no") == "" {
			t.Error("no trade_no")
		}
		c.until(sn, upay.OrderPaid)
		r.wantBooks(t, o.sn(), "payment 300 done")
		if v := c.hint(r.get(t, "/gateway?"+q.Encode())); v.Get("status") != "SUCCESS" { // Loaded again: it is paid.
			t.Errorf("got %v", v)
		}
		if v := c.hint(r.get(t, "/gateway?"+c.gatewayQuery(sn, "total_amount", "1").Encode())); v.Get("is_success") != "F" || v.Get("error_code") != "CLIENT_SN_CONFLICT" {
			t.Errorf("got %v", v)
		}
	})
	t.Run("declined", func(t *testing.T) {
		t.Parallel()
		c, sn := c.in(t), order()
		wallet := r.get(t, "/gateway?"+c.gatewayQuery(sn, "payway", "1").Encode()).header.Get("Location")
		back := r.phone(t, wallet, "decline").Header.Get("Location")
		v := c.hint(r.get(t, strings.TrimPrefix(back, r.server.URL)))
		if v.Get("is_success") != "T" || v.Get("status") != "FAIL" || v.Has("result_code") {
			t.Errorf("got %v", v)
		}
	})
	t.Run("the browser chooses the wallet", func(t *testing.T) {
		t.Parallel()
		for agent, payway := range map[string]string{"Mozilla/5.0 MicroMessenger/8.0": "3", "Mozilla/5.0 AlipayClient/10": "1", "Mozilla/5.0": "3"} {
			sn := order()
			r.get(t, "/gateway?"+c.gatewayQuery(sn).Encode(), "User-Agent", agent)
			c.in(t).query(sn).wantFields("payway", payway)
		}
	})
	t.Run("refused with a hint", func(t *testing.T) {
		t.Parallel()
		for code, changes := range map[string][]string{"INVALID_PARAMS": {"total_amount", "0"}, "UNEXPECTED_PROVIDER_ERROR": {"payway", "6"}} {
			if v := c.in(t).hint(r.get(t, "/gateway?"+c.gatewayQuery(order(), changes...).Encode())); v.Get("is_success") != "F" || v.Get("error_code") != code ||
				v.Get("error_message") == "" {
				t.Errorf("got %v", v)
			}
		}
	})
	t.Run("nobody is sent anywhere without a signature", func(t *testing.T) {
		t.Parallel()
		forged := c.gatewayQuery(order())
		forged.Set("return_url", "https://evil.example.com/")
		unsigned := c.gatewayQuery(order())
		unsigned.Del("sign")
		foreign := c.gatewayQuery(order())
		foreign.Set("terminal_sn", "100900010000000099")
		script := c.gatewayQuery(order(), "return_url", "javascript:alert(1)")
		for name, q := range map[string]string{"forged": forged.Encode(), "unsigned": unsigned.Encode(), "foreign": foreign.Encode(), "script": script.Encode(),
			"empty": "", "broken": "%zz", "escaped": "terminal_sn=<script>"} {
			a := r.get(t, "/gateway?"+q)
			if a.status != http.StatusBadRequest || a.header.Get("Location") != "" || strings.Contains(string(a.raw), "<script>") {
				t.Errorf("%s: %d %v %s", name, a.status, a.header, a.raw)
			}
		}
	})
	t.Run("a return page that was not made here", func(t *testing.T) {
		t.Parallel()
		sn := order()
		r.get(t, "/gateway?"+c.gatewayQuery(sn).Encode())
		for _, q := range []string{"", "?terminal_sn=" + c.sn + "&client_sn=" + sn, "?terminal_sn=" + c.sn + "&client_sn=" + sn + "&mac=00"} {
			if a := r.get(t, "/gateway/return"+q); a.status != http.StatusBadRequest {
				t.Errorf("%s: %d", q, a.status)
			}
		}
	})
	t.Run("a POST", func(t *testing.T) {
		t.Parallel()
		if a := r.call(t, http.MethodPost, "/gateway", ""); a.status != http.StatusMethodNotAllowed {
			a.errorf("want 405")
		}
	})
}

// TestGatewayRetiredKey holds the life of keys for browsers too.
func TestGatewayRetiredKey(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.till(t)
	old := c.withKey(c.key)
	c.key = c.checkIn().bizText("terminal_key")
	if a := r.get(t, "/gateway?"+old.gatewayQuery(order()).Encode()); a.status != http.StatusFound {
		t.Errorf("the last key: %d", a.status)
	}
	c.checkIn()
	if a := r.get(t, "/gateway?"+old.gatewayQuery(order()).Encode()); a.status != http.StatusBadRequest {
		t.Errorf("a retired key: %d", a.status)
	}
}

// TestQRCodePicture draws what this server has handed out, and nothing for strangers.
func TestQRCodePicture(t *testing.T) {
	t.Parallel()
	r := setup(t)
	a := r.till(t).precreate(order())
	u, err := url.Parse(a.text("qr_code_image_url"))
	must(t, err)
	q := u.Query()
	for name, change := range map[string]func(url.Values){
		"another text": func(v url.Values) { v.Set("content", "https://evil.example.com") },
		"no mac":       func(v url.Values) { v.Del("mac") },
		"another mac":  func(v url.Values) { v.Set("mac", strings.Repeat("00", 32)) },
		"no text":      func(v url.Values) { v.Del("content") },
		"a long text":  func(v url.Values) { v.Set("content", strings.Repeat("x", 513)) },
	} {
		v := url.Values{"content": {q.Get("content")}, "mac": {q.Get("mac")}}
		change(v)
		if a := r.get(t, "/upay/qrcode?"+v.Encode()); a.status != http.StatusForbidden {
			t.Errorf("%s: %d", name, a.status)
		}
	}
}

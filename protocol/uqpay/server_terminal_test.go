package uqpay_test

import (
	"bytes"
	"encoding/hex"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/protocol/uqpay"
	"github.com/tillgate/tillgate/terminal"
)

// serveToken mints a token at a server that listens nowhere, for a client that calls from an address.
func serveToken(t *testing.T, s *uqpay.Server, client, key, address string) string {
	t.Helper()
	q := httptest.NewRequest("POST", "/api/v1/connect/token", nil)
	q.Header.Set("x-client-id", client)
	q.Header.Set("x-api-key", key)
	q.RemoteAddr = address + ":40000"
	w := httptest.NewRecorder()
	s.ServeHTTP(w, q)
	m := regexp.MustCompile(`"auth_token":"([^"]+)"`).FindStringSubmatch(w.Body.String())
	if w.Code != 200 || m == nil {
		t.Fatalf("token: %d %s", w.Code, w.Body)
	}
	return m[1]
}

func TestRegister(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.clock.freeze(start)
	c := r.demo(t)
	body := object{"firm_code": "05", "firm_sn": "PX930-000771", "terminal_model": "A930"}
	a := c.post("/v2/terminal/register", body).want(200).wantAll("firm_sn", "PX930-000771", "terminal_id", "10000000")
	if got := a.text("create_time"); got != r.clock.now().In(time.FixedZone("", 8*3600)).Format("2006-01-02 15:04:05") {
		t.Errorf("create_time is %s", got)
	}
	if len(a.object) != 3 {
		t.Errorf("members are %v", a.object)
	}
	again := c.post("/v2/terminal/register", body).want(200)
	if string(again.raw) != string(a.raw) {
		t.Errorf("registered again: %s", again.raw)
	}
	c.post("/v2/terminal/register", body.with("firm_sn", "PX930-000772")).want(200).wantAll("terminal_id", "10000001")
	c.post("/v2/terminal/register", body.with("firm_code", "04")).want(200).wantAll("terminal_id", "10000002")
	r.as(t, otherID, otherKey).post("/v2/terminal/register", body).wantError(400, "api_error", "terminal_register_failed", "Terminal register failed")
	r.as(t, noPOSID, noPOSKey).post("/v2/terminal/register", body).wantError(400, "account_error", "account_pos_api_no_permission", "Account pos api no permission")

	for name, v := range map[string]struct {
		change []any
		code   string
		word   string
	}{
		"no firm_code":             {[]any{"firm_code", nil}, "missing_parameter", "firm_code"},
		"no firm_sn":               {[]any{"firm_sn", nil}, "missing_parameter", "firm_sn"},
		"null terminal_model":      {[]any{"terminal_model", nil}, "missing_parameter", "terminal_model"},
		"empty firm_sn":            {[]any{"firm_sn", ""}, "missing_parameter", "firm_sn"},
		"firm_code 3":              {[]any{"firm_code", "3"}, "invalid_parameter", "firm_code"},
		"firm_code 06":             {[]any{"firm_code", "06"}, "invalid_parameter", "firm_code"},
		"firm_code as a number":    {[]any{"firm_code", 3}, "invalid_parameter", "firm_code"},
		"firm_sn of 65 characters": {[]any{"firm_sn", strings.Repeat("x", 65)}, "invalid_parameter", "firm_sn"},
		"terminal_model an array":  {[]any{"terminal_model", []string{"x"}}, "invalid_parameter", "terminal_model"},
	} {
		t.Run(name, func(t *testing.T) {
			d := *c
			d.t = t
			d.post("/v2/terminal/register", body.with(v.change...)).wantError(400, "invalid_request_error", v.code, v.word)
		})
	}
	c.post("/v2/terminal/register", body.with("unknown", object{"a": 1})).want(200)
}

func TestPINKey(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.clock.freeze(start)
	c := r.demo(t)
	tid := c.tid()
	for _, size := range []int{16, 24, 32} {
		aes := bytes.Repeat([]byte{byte(size)}, size)
		a := c.post("/v2/terminal/getPinKey", object{"terminal_id": tid, "prv_key": strings.ToUpper(hex.EncodeToString(aes))}).want(200).wantAll("terminal_id", tid)
		if key, err := uqpay.OpenPINKey(a.text("encrypt_pin_key"), aes); err != nil || len(key) != 24 || len(a.text("encrypt_pin_key")) != 104 {
			t.Errorf("%d: %x, %v: %s", size, key, err, a.raw)
		}
		want := r.clock.now().Add(24 * time.Hour).UnixMilli()
		if got, _ := a.at("pin_key_expire").(float64); int64(got) != want {
			t.Errorf("pin_key_expire is %v, want about %d", a.at("pin_key_expire"), want)
		}
	}
	t.Run("expiry as RFC 3339", func(t *testing.T) {
		strict := r.as(t, strictID, strictKey)
		a := strict.post("/v2/terminal/getPinKey", object{"terminal_id": tid, "prv_key": strings.Repeat("0f", 32)}).want(200)
		if !regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}\+08:00$`).MatchString(a.text("pin_key_expire")) {
			t.Errorf("pin_key_expire is %v", a.at("pin_key_expire"))
		}
	})
	t.Run("a repeat gets the same key", func(t *testing.T) {
		key := newKey()
		body := object{"terminal_id": tid, "prv_key": strings.Repeat("0f", 32)}
		one := c.post("/v2/terminal/getPinKey", body, "x-idempotency-key", key).want(200)
		two := c.post("/v2/terminal/getPinKey", body, "x-idempotency-key", key).want(200)
		three := c.post("/v2/terminal/getPinKey", body).want(200)
		if string(one.raw) != string(two.raw) || one.text("encrypt_pin_key") == three.text("encrypt_pin_key") {
			t.Errorf("%s\n%s\n%s", one.raw, two.raw, three.raw)
		}
	})
	for name, v := range map[string]struct {
		change []any
		code   string
		word   string
	}{
		"no terminal_id":   {[]any{"terminal_id", nil}, "missing_parameter", "terminal_id"},
		"no prv_key":       {[]any{"prv_key", nil}, "missing_parameter", "prv_key"},
		"prv_key no hex":   {[]any{"prv_key", strings.Repeat("zz", 32)}, "invalid_parameter", "prv_key"},
		"prv_key of 31":    {[]any{"prv_key", strings.Repeat("0", 62)}, "invalid_parameter", "prv_key"},
		"prv_key odd":      {[]any{"prv_key", strings.Repeat("0", 63)}, "invalid_parameter", "prv_key"},
		"prv_key too long": {[]any{"prv_key", strings.Repeat("0", 66)}, "invalid_parameter", "prv_key"},
		"prv_key number":   {[]any{"prv_key", 12}, "invalid_parameter", "prv_key"},
	} {
		t.Run(name, func(t *testing.T) {
			d := *c
			d.t = t
			a := d.post("/v2/terminal/getPinKey", object{"terminal_id": tid, "prv_key": strings.Repeat("0f", 32)}.with(v.change...))
			a.wantError(400, "invalid_request_error", v.code, v.word)
		})
	}
	good := strings.Repeat("0f", 32)
	c.post("/v2/terminal/getPinKey", object{"terminal_id": "99999999", "prv_key": good}).wantError(400, "not_found", "terminal_info_not_found", "Terminal info not found")
	r.as(t, otherID, otherKey).post("/v2/terminal/getPinKey", object{"terminal_id": tid, "prv_key": good}).
		wantError(400, "account_error", "terminal_not_belong_to_account", "Terminal not belong to account")
	r.as(t, noPOSID, noPOSKey).post("/v2/terminal/getPinKey", object{"terminal_id": tid, "prv_key": good}).
		wantError(400, "account_error", "account_pos_api_no_permission")
}

// failingVault issues no PIN keys.
type failingVault struct{ uqpay.Vault }

func (failingVault) IssuePINKey([]byte, []byte) ([]byte, string, error) {
	return nil, "", payment.ErrUnavailable
}

func TestPINKeyFailureIsNotKept(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.demo(t)
	tid := c.tid()
	registry := terminal.New(terminal.Config{Store: r.store, Vault: r.vault, Now: r.clock.now, Log: discard()})
	s := &uqpay.Server{Core: r.engine, Books: r.store, Terminals: registry, Vault: failingVault{r.vault}, Tokens: r.store, Now: r.clock.now, Log: discard()}
	key, body := newKey(), object{"terminal_id": tid, "prv_key": strings.Repeat("0f", 32)}
	q := httptest.NewRequest("POST", "/api/v2/terminal/getPinKey", strings.NewReader(body.json()))
	q.Header.Set("x-auth-token", "Bearer "+c.token)
	q.Header.Set("x-idempotency-key", key)
	w := httptest.NewRecorder()
	s.ServeHTTP(w, q)
	if w.Code != 400 || !strings.Contains(w.Body.String(), `"code":"pinkey_retrieve_failed","message":"Pinkey retrieve failed"`) {
		t.Errorf("got %d %s", w.Code, w.Body)
	}
	c.post("/v2/terminal/getPinKey", body, "x-idempotency-key", key).want(200)
}

func TestDisabledTerminal(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.demo(t)
	tid := c.tid()
	list, err := r.store.Identities(t.Context(), r.merchants[merchantOfDemo], terminal.Filter{})
	if err != nil || len(list) != 1 {
		t.Fatalf("%v, %v", list, err)
	}
	if err := r.store.SetIdentityDisabled(t.Context(), list[0].Merchant, list[0].ID, true); err != nil {
		t.Fatal(err)
	}
	r.clock.pass(3 * time.Second)
	c.create(sale(tid)).wantError(400, "not_found", "terminal_info_not_found")
	c.post("/v2/terminal/register", object{"firm_code": firmDemo, "firm_sn": serialDemo + c.id, "terminal_model": "A930"}).wantError(400, "api_error", "terminal_register_failed")
	if r.bank.sent(payment.Sale) != 0 {
		t.Error("the host was sent a sale")
	}
}

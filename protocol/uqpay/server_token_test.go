package uqpay_test

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/protocol/uqpay"
)

func TestToken(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.clock.freeze(start)
	c := &caller{t: t, r: r, head: map[string]string{"x-client-id": clientID, "x-api-key": apiKey}}
	for name, send := range map[string][]string{
		"empty body":                     {""},
		"empty object":                   {"{}"},
		"empty body as application/json": {"", "Content-Type", "application/json"},
		"not even JSON":                  {"x"},
		"the second key":                 {"", "x-api-key", secondKey},
	} {
		a := c.do("POST", "/api/v1/connect/token", send[0], send[1:]...).want(200)
		if got, _ := a.at("expired_at").(float64); int64(got) != r.clock.now().Add(30*time.Minute).Unix() {
			t.Errorf("%s: expired_at is %v", name, a.at("expired_at"))
		}
		parts := strings.Split(a.text("auth_token"), ".")
		if len(parts) != 3 {
			t.Fatalf("%s: token has %d parts", name, len(parts))
		}
		payload, err := base64.RawURLEncoding.DecodeString(parts[1])
		if err != nil {
			t.Fatal(err)
		}
		var claims map[string]any
		if err := json.Unmarshal(payload, &claims); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"entity_id", "short_entity_id", "parent_entity_id", "client_id", "api_version", "bus_type", "exp", "iss"} {
			if claims[name] == nil {
				t.Errorf("no claim %s", name)
			}
		}
		if claims["client_id"] != clientID || claims["iss"] != "uqpay" {
			t.Errorf("claims are %v", claims)
		}
	}
	for name, v := range map[string]struct {
		headers []string
		status  int
		kind    string
		code    string
		words   string
	}{
		"wrong client id":        {[]string{"x-client-id", "nobody"}, 400, "invalid_request_error", "invalid_client_id", "Invalid client id"},
		"no client id":           {[]string{"x-client-id", "-"}, 400, "invalid_request_error", "invalid_client_id", "Invalid client id"},
		"long client id":         {[]string{"x-client-id", strings.Repeat("x", 5000)}, 400, "invalid_request_error", "invalid_client_id", "Invalid client id"},
		"wrong key":              {[]string{"x-api-key", "wrong"}, 401, "unauthorized_error", "invalid_api_key", "API key"},
		"another client's key":   {[]string{"x-api-key", otherKey}, 401, "unauthorized_error", "invalid_api_key", "API key"},
		"no key":                 {[]string{"x-api-key", "-"}, 401, "unauthorized_error", "invalid_api_key", "API key"},
		"address not allowed":    {[]string{"x-client-id", remoteID, "x-api-key", remoteKey}, 401, "unauthorized_error", "unauthorized_error", "address"},
		"a sub-account's secret": {[]string{"x-client-id", uqpay.Protocol + "x"}, 400, "invalid_request_error", "invalid_client_id", "Invalid client id"},
	} {
		t.Run(name, func(t *testing.T) {
			d := *c
			d.t = t
			d.do("POST", "/api/v1/connect/token", "", v.headers...).wantError(v.status, v.kind, v.code, v.words)
		})
	}
}

func TestTokenRefused(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.demo(t)
	const path = "/api/v2/payment_intents"
	c.do("GET", path, "").want(200)
	for name, v := range map[string]struct {
		headers []string
		words   string
	}{
		"none":                {[]string{"x-auth-token", "-"}, "invalid auth token format"},
		"without Bearer":      {[]string{"x-auth-token", c.token}, "invalid auth token format"},
		"bearer in small":     {[]string{"x-auth-token", "bearer " + c.token}, "invalid auth token format"},
		"garbage":             {[]string{"x-auth-token", "Bearer x.y.z"}, "invalid token"},
		"two spaces":          {[]string{"x-auth-token", "Bearer  " + c.token}, "invalid token"},
		"another's client id": {[]string{"x-client-id", otherID}, "client"},
	} {
		t.Run(name, func(t *testing.T) {
			d := *c
			d.t = t
			d.do("GET", path, "", v.headers...).wantError(401, "unauthorized_error", "unauthorized_error", v.words)
		})
	}
	r.clock.pass(30*time.Minute + time.Second)
	c.do("GET", path, "").wantError(401, "unauthorized_error", "unauthorized_error", "token has expired")
}

func TestOneTokenIsAlive(t *testing.T) {
	t.Parallel()
	r := setup(t)
	old := r.demo(t)
	old.get("/v2/payment_intents").want(200)
	young := r.demo(t)
	old.get("/v2/payment_intents").wantError(401, "unauthorized_error", "unauthorized_error", "token has expired")
	young.get("/v2/payment_intents").want(200)

	t.Run("after a restart", func(t *testing.T) {
		r.restart()
		old.get("/v2/payment_intents").wantError(401, "unauthorized_error", "unauthorized_error", "token has expired")
		young.get("/v2/payment_intents").want(200)
	})
	t.Run("made by another server", func(t *testing.T) {
		other := &uqpay.Server{Core: r.engine, Books: r.store, Vault: r.vault, Tokens: r.store, Now: r.clock.now}
		third := serveToken(t, other, clientID, apiKey, "127.0.0.1")
		d := *young
		d.token = third
		d.get("/v2/payment_intents").want(200) // At once, although this server remembers another.
		young.get("/v2/payment_intents").want(401)
	})
	t.Run("unless the client may have several", func(t *testing.T) {
		one := r.as(t, strictID, strictKey)
		two := r.as(t, strictID, strictKey)
		one.get("/v2/payment_intents").want(200)
		two.get("/v2/payment_intents").want(200)
	})
}

// A token is good only where its client may call from: it may have been carried away.
func TestTokenAtAnotherAddress(t *testing.T) {
	t.Parallel()
	r := setup(t)
	minting := &uqpay.Server{Core: r.engine, Books: r.store, Vault: r.vault, Tokens: r.store, Now: r.clock.now}
	c := &caller{t: t, r: r, head: map[string]string{}, token: serveToken(t, minting, remoteID, remoteKey, "203.0.113.9"), id: remoteID}
	c.get("/v2/payment_intents").wantError(401, "unauthorized_error", "unauthorized_error", "address")
}

func TestDisabledClient(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.demo(t)
	list, err := r.store.Credentials(t.Context(), r.merchants[merchantOfDemo], 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, cred := range list {
		if cred.Name == clientID {
			if err := r.store.SetCredentialDisabled(t.Context(), cred.Merchant, cred.ID, true); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.clock.pass(3 * time.Second)
	c.get("/v2/payment_intents").wantError(401, "unauthorized_error", "unauthorized_error")
	(&caller{t: t, r: r, head: map[string]string{"x-client-id": clientID, "x-api-key": apiKey}}).do("POST", "/api/v1/connect/token", "").want(401)
}

func TestSubAccounts(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.demo(t)
	own := c.tid()
	c.head["x-on-behalf-of"] = subAccount
	theirs := c.post("/v2/terminal/register", object{"firm_code": "01", "firm_sn": "SUB-1", "terminal_model": "X"}).want(200).text("terminal_id")
	c.create(sale(own)).wantError(400, "account_error", "terminal_not_belong_to_account")
	paid := c.create(sale(theirs)).wantStatus("SUCCEEDED")
	c.get("/v2/payment_intents/" + paid.id()).want(200)
	var p payment.Payment
	if err := r.store.Read(t.Context(), func(rd payment.Reader) (err error) {
		list, _, err := rd.ListPayments(r.merchants[merchantOfSub], payment.ListFilter{Protocol: uqpay.Protocol, Limit: 1})
		if err == nil {
			p = list[0].Payment
		}
		return err
	}); err != nil || p.Protocol != uqpay.Protocol {
		t.Errorf("stored: %+v, %v", p, err)
	}
	for name, account := range map[string]string{"unknown": "5d2e9d9a-64b4-4e27-9f2f-0c5a7f7a0199", "deactivated": disabledAccount, "hostile": clientID + "\u00a0", "long": strings.Repeat("x", 3000)} {
		c.head["x-on-behalf-of"] = account
		t.Log(name)
		c.get("/v2/payment_intents").wantError(400, "account_error", "sub_account_not_found")
	}
	c.head["x-on-behalf-of"] = ""
	c.get("/v2/payment_intents/"+paid.id()).wantError(400, "not_found", "not_found_id")
	d := r.as(t, otherID, otherKey)
	d.head["x-on-behalf-of"] = subAccount
	d.get("/v2/payment_intents").wantError(400, "account_error", "sub_account_not_found")
}

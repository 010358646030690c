package upp_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestSecretsStayOutOfLogs looks for what must never be in a log, at the lowest level and of all parts, after successes, declines, faults and
// refusals.
func TestSecretsStayOutOfLogs(t *testing.T) {
	t.Parallel()
	r := setup(t, func(s *settings) { s.pollWait = 50 * time.Millisecond })
	cardToken := "ct_a-card-token-that-no-log-may-hold"
	secrets := map[string]string{
		"the bearer token":          token,
		"another bearer token":      otherToken,
		"a public token":            publicToken,
		"a token that is not known": "a-token-that-nobody-was-given",
		"the wallet network's key":  walletKey,
		"a customer's code":         plainCode,
		"a card token":              cardToken,
		"the installation secret":   r.secret,
	}
	c := r.till(t)
	paid := reference()
	c.create(purchase(paid)).wantState("approved")
	c.create(refundOf(paid, reference())).wantState("approved")
	c.create(purchase(paid, "amount", json.Number("1"))).wantFailure(409, "transactionReferenceConflict")
	c.create(purchase(reference(), "provider", "wechat")).wantDeclined("customerTokenInvalid") // An alipay code.
	c.create(purchase(reference(), "provider", "financialcard", "customerToken", cardToken)).wantState("approved")
	c.create(cardOnWebsite(reference(), "customerToken", cardToken)).wantState("approved")
	c.create(webPurchase(reference(), "customerToken", cardToken)).wantState("pending") // It means nothing there, but may be one.
	c.create(purchase(reference(), "customerToken", strings.Repeat(plainCode, 100))).wantFailure(400, "invalidRequest")
	c.create(purchase(reference(), "provider", plainCode)).wantFailure(400, "unsupportedProvider")
	c.post("/transactions", `{"customerToken":"`+plainCode+`"`).wantFailure(400, "invalidRequest")
	c.as("a-token-that-nobody-was-given").fetch(paid).wantFailure(401, "unauthorised")
	c.as(otherToken).fetch(paid).wantFailure(404, "transactionNotFound")
	c.as(publicToken).fetch(paid).wantFailure(401, "unauthorised")
	c.do("GET", "/v1/transactions/x?token="+token, "").want(404)
	for _, behaviour := range []string{"decline", "no_answer", "garbled_answer", "connection_cut", "error", "request_lost"} {
		walletCode, ref := code("alipay", behaviour), reference()
		secrets["the code of "+behaviour] = walletCode
		c.create(purchase(ref, "customerToken", walletCode)).want(200)
		c.final(ref)
		c.cancel(ref).wantState("cancelled")
		// The same faults with the plain code: here the amount makes them.
		ref = reference()
		c.create(purchase(ref, "amount", amountFor(behaviour))).want(200)
		c.final(ref)
	}
	r.close()
	r.open(t)
	c.fetch(paid).wantState("approved")
	r.close()

	logs := r.logs.String()
	for _, want := range []string{"msg=request", "protocol=upp", "wallet: no answer"} { // The log is really there.
		if !strings.Contains(logs, want) {
			t.Errorf("the log does not hold %q", want)
		}
	}
	for name, secret := range secrets {
		if i := strings.Index(logs, secret); i >= 0 {
			line, _, _ := strings.Cut(logs[strings.LastIndex(logs[:i], "\n")+1:], "\n")
			t.Errorf("the log holds %s: %s", name, line)
		}
	}

	// In the data folder a customer's code is kept, since every answer repeats it (§3.1). Tokens, keys and card tokens are not.
	files, err := filepath.Glob(filepath.Join(r.dir, "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("data folder: %v, %v", files, err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for name, secret := range secrets {
			if strings.Contains(name, "code") {
				continue
			}
			if strings.Contains(string(content), secret) {
				t.Errorf("%s holds %s", filepath.Base(file), name)
			}
		}
	}
}

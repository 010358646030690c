package sandbox

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// told is what a caller sees of the first exchange for a reference.
type told string

const (
	toldState   told = "state"   // An answer with the state.
	toldSilence told = "silence" // Nothing, until the caller leaves.
	toldCut     told = "cut"     // The connection ends without an answer.
	toldGarbage told = "garbage" // HTTP 200 and no JSON.
	toldError   told = "error"   // HTTP 500.
)

// expected is the whole promise of docs/sandbox.md, written a second time and by outcome.
var expected = map[string]struct {
	told  told
	taken bool   // By the first exchange.
	state string // With a code: at once, or after a repeat if it was not taken.
	later string // After 3 seconds.
	qr    string // With a QR code: after 3 seconds.
}{
	"approve":                 {toldState, true, "approved", "approved", "approved"},
	"decline":                 {toldState, true, "declined", "declined", "declined"},
	"insufficient_funds":      {toldState, true, "declined", "declined", "declined"},
	"pending_then_approve_3s": {toldState, true, "waiting", "approved", "approved"},
	"pending_then_decline_3s": {toldState, true, "waiting", "declined", "declined"},
	"pending_forever":         {toldState, true, "waiting", "waiting", "waiting"},
	"no_answer":               {toldSilence, true, "approved", "approved", "waiting"},
	"late_answer":             {toldSilence, true, "approved", "approved", "waiting"},
	"garbled_answer":          {toldGarbage, true, "approved", "approved", "waiting"},
	"connection_cut":          {toldCut, true, "approved", "approved", "waiting"},
	"error":                   {toldError, false, "approved", "approved", "waiting"},
	"request_lost":            {toldSilence, false, "approved", "approved", "waiting"},
	"limit_exceeded":          {toldState, true, "declined", "declined", "declined"},
	"code_expired":            {toldState, true, "declined", "declined", "declined"},
	"code_used":               {toldState, true, "declined", "declined", "declined"},
	"customer_cancelled":      {toldState, true, "declined", "declined", "declined"},
	"cancel_no_answer":        {toldState, true, "approved", "approved", "waiting"},
	"cancel_lost":             {toldState, true, "approved", "approved", "waiting"},
}

// first makes one call over a real connection and tells what came of it. Silence is given a little time.
func (r *rig) first(srv *httptest.Server, path string, body any) (told, string) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 300*time.Millisecond)
	defer cancel()
	text, err := json.Marshal(body)
	if err != nil {
		r.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(ctx, "POST", srv.URL+path, strings.NewReader(string(text)))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+testKey)
	res, err := srv.Client().Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return toldSilence, ""
		}
		return toldCut, ""
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return toldCut, ""
	}
	var a object
	switch {
	case json.Unmarshal(answer, &a) != nil:
		return toldGarbage, ""
	case res.StatusCode == http.StatusInternalServerError:
		return toldError, ""
	}
	return toldState, fmt.Sprint(a["state"])
}

// check holds a reference, paid or refunded, against what is expected of its behaviour.
func (r *rig) check(srv *httptest.Server, name, path, reference string, body object, qr bool) {
	r.t.Helper()
	want := expected[name]
	state, later := want.state, want.later
	if qr {
		state, later = "waiting", want.qr
	}
	what := fmt.Sprintf("%s of %v by %s", path, body["amount_minor"], reference)
	how, got := r.first(srv, path, body)
	r.want(what+", told", how, want.told)
	if how == toldState {
		r.want(what+", state told", got, state)
	}
	status, _ := r.do("GET", path+"/"+reference, nil)
	r.want(what+", taken", status == http.StatusOK, want.taken)
	r.open() // Nothing of this is forgotten.
	for range 2 {
		_, a := r.do("POST", path, body) // A repeat is answered plainly.
		r.want(what+", repeated", a["state"], state)
	}
	r.pass(pendingFor)
	_, a := r.do("GET", path+"/"+reference, nil)
	r.want(what+", later", a["state"], later)
	moved := map[string]int{"approved": 1}[later]
	r.want(what+", movements", len(r.books("?reference="+reference)), moved)
	if b := behaviourByName(name); a["state"] == "declined" && (a["reason"] != b.reason || a["reason_text"] != reasonTexts[b.reason] || a["reason_text"] == "") {
		r.t.Errorf("%s: got reason %v, %v", what, a["reason"], a["reason_text"])
	}
}

func TestEveryBehaviour(t *testing.T) {
	t.Parallel()
	if len(expected) != len(behaviours) {
		t.Fatalf("%d behaviours, %d expected", len(behaviours), len(expected))
	}
	for _, b := range behaviours {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			r := setup(t)
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { r.n.Handler().ServeHTTP(w, q) }))
			defer srv.Close()
			for _, w := range wallets {
				if w.name == "alipay" || w.name == "wechat" || w.name == "financialcard" { // Silence takes time; the other codes go by the same table.
					reference := "c-" + w.name
					r.check(srv, b.name, "/v1/payments", reference, ask(reference, "wallet", w.name, "code", w.code(&b)), false)
				}
			}
			minor := behaviourMinor(b)
			r.check(srv, b.name, "/v1/payments", "a", ask("a", "amount_minor", minor), false)
			r.check(srv, b.name, "/v1/payments", "q", ask("q", "amount_minor", minor, "flow", "qr"), true)
			r.pay("big", "amount_minor", 10_000_000)
			r.check(srv, b.name, "/v1/refunds", "f", object{"reference": "f", "original_reference": "big", "amount_minor": minor, "currency": "AUD"}, false)
		})
	}
}

func behaviourMinor(b behaviour) (minor int64) {
	_, _ = fmt.Sscan(strings.Replace(b.amount, ".", "", 1), &minor)
	return minor
}

func TestCancelFaults(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, code, after string }{
		{"carried out and not answered", "280000000000009066", "cancelled"},
		{"neither carried out nor answered", "280000000000009067", "approved"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := setup(t)
			srv := httptest.NewServer(r.n.Handler())
			defer srv.Close()
			r.pay("r", "code", tt.code)
			how, _ := r.first(srv, "/v1/payments/r/cancel", object{})
			r.want("first cancel", how, toldSilence)
			r.want("state after it", r.state("r"), tt.after)
			r.open()
			status, a := r.do("POST", "/v1/payments/r/cancel", object{})
			r.want("second cancel", fmt.Sprint(status, " ", a["state"]), "200 cancelled")
			r.wantBooks("", "payment r 8640 AUD reversed")
		})
	}
}

// TestSlowAnswers measures the long times on a clock of its own.
func TestSlowAnswers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := setup(t)
		began := time.Now()
		_, a := exchangeJSON(t, r.n.Handler(), "POST", "/v1/payments", ask("r", "code", "280000000000009057"))
		if took := time.Since(began); took != lateBy || a["state"] != "approved" {
			t.Errorf("the late answer %v came after %v", a, took)
		}
		began = time.Now()
		func() {
			defer func() {
				if p := recover(); p != http.ErrAbortHandler || time.Since(began) != holdMax {
					t.Errorf("silence ended after %v with %v", time.Since(began), p)
				}
			}()
			exchangeJSON(t, r.n.Handler(), "POST", "/v1/payments", ask("s", "code", "280000000000009056"))
			t.Error("silence was answered")
		}()
	})
}

func TestCodes(t *testing.T) {
	t.Parallel()
	r := setup(t)
	seen := map[string]bool{}
	for _, c := range WalletCodes() {
		if w := walletByName(c.Provider); !w.wellFormed(c.Code) || w.behaviourByCode(c.Code).name != c.Behaviour {
			t.Errorf("%+v is not what it says", c)
		}
		if seen[c.Provider+c.Code] {
			t.Errorf("%+v stands twice", c)
		}
		seen[c.Provider+c.Code] = true
	}
	if want := len(wallets) * len(Triggers()); len(seen) != want {
		t.Errorf("%d codes, want %d", len(seen), want)
	}
	for i, tt := range []struct {
		wallet, code string
		minor        int64
		want         string
	}{
		{"alipay", "289661544981076259", 8640, "approved"}, // The sample of the seed.
		{"alipay", "2896615449810762", 8640, "approved"},
		{"alipay", "2496615449810762", 8640, "code_invalid"},
		{"alipay", "289661544981076259012345", 8640, "approved"},
		{"alipay", strings.Repeat("1", 32), 8640, "approved"},
		{"alipay", strings.Repeat("1", 33), 8640, "code_invalid"},
		{"alipay", "28966154498107625x", 8640, "code_invalid"},
		{"alipay", "28966154498107625x", 905600, "code_invalid"}, // An amount does not help.
		{"alipay", "289661544981076259", 905100, "declined"},
		{"alipay", "280000000000009050", 905200, "insufficient_funds"}, // A code that approves leaves it to the amount.
		{"alipay", "280000000000009051", 905200, "declined"},           // Another one does not.
		{"alipay", "280000000000009051", 905000, "declined"},
		{"wechat", "154496153245667890", 8640, "approved"},
		{"wechat", "164496153245667890", 8640, "code_invalid"},
		{"wechat", "280000000000009050", 8640, "code_invalid"},
		{"unionpay", "6200000000000000001", 8640, "approved"},
		{"unionpay", "hQVDUFYwMWETTwegAAADMwEBAQ==", 8640, "approved"},
		{"unionpay", "00020101021126", 8640, "approved"},
		{"unionpay", "620000000000000001", 8640, "code_invalid"},
		{"humm", "x", 8640, "approved"},
		{"zippay", "123456", 8640, "approved"},
		{"financialcard", "ct_4f", 8640, "approved"},
		{"financialcard", "ct_", 8640, "code_invalid"},
	} {
		a := r.pay(fmt.Sprint("c-", i), "wallet", tt.wallet, "code", tt.code, "amount_minor", tt.minor)
		got := a["reason"]
		if a["state"] == "approved" {
			got = "approved"
		}
		r.want(fmt.Sprint(tt), got, tt.want)
	}
	r.want("yen have no triggers", r.pay("yen", "currency", "JPY", "amount_minor", 905100)["state"], "approved")
}

func TestReasonsHaveTexts(t *testing.T) {
	t.Parallel()
	for _, b := range behaviours {
		if (b.reason == "") != (b.state != stateDeclined) || b.reason != "" && reasonTexts[b.reason] == "" {
			t.Errorf("%s: reason %q, text %q", b.name, b.reason, reasonTexts[b.reason])
		}
	}
	for code, rate := range rates {
		if whole, part, ok := strings.Cut(rate, "."); !ok || len(part) != rateDecimals || len(whole) > 2 {
			t.Errorf("rate of %s: %q", code, rate)
		}
	}
}

// TestDocs holds docs/sandbox.md against the tables, and docs/wallet-network.md against the reasons and limits.
func TestDocs(t *testing.T) {
	t.Parallel()
	triggers, err := os.ReadFile("../docs/sandbox.md")
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	table.WriteString("| name | amount | alipay code | what happens |\n|---|---|---|---|\n")
	for i := range behaviours {
		b := &behaviours[i]
		fmt.Fprintf(&table, "| `%s` | %s | `%s` | %s |\n", b.name, b.amount, wallets[0].code(b), b.what)
	}
	if !strings.Contains(string(triggers), "\n"+table.String()+"\n") {
		t.Errorf("docs/sandbox.md lacks this table:\n%s", &table)
	}
	for i := range wallets {
		row := fmt.Sprintf("| `%s` | `%s` + `9051` | ", wallets[i].name, wallets[i].codePrefix)
		if !strings.Contains(string(triggers), row) {
			t.Errorf("docs/sandbox.md lacks the row %q", row)
		}
	}
	table.Reset()
	table.WriteString("| number | token | behaviour |\n|---|---|---|\n")
	for _, c := range testCards {
		fmt.Fprintf(&table, "| `%s` | `%s` | `%s` |\n", c.Number, walletByName("financialcard").code(behaviourByName(c.Behaviour)), c.Behaviour)
	}
	if !strings.Contains(string(triggers), "\n"+table.String()+"\n") {
		t.Errorf("docs/sandbox.md lacks this table:\n%s", &table)
	}
	wire, err := os.ReadFile("../docs/wallet-network.md")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"POST /v1/payments", "GET /v1/payments/{reference}", "POST /v1/payments/{reference}/cancel", "POST /v1/refunds", "GET /v1/refunds/{reference}",
		"GET /v1/events", "GET /books", "GET /healthz", "GET /pay/{token}", "POST /cards/tokens", journalName}
	for reason := range reasonTexts {
		want = append(want, "`"+reason+"`")
	}
	for _, no := range []*refusal{errUnauthorized, errNotFound, errNoRoute, errConflict, errRefunded, errTrigger, errCardUnknown, errCardExpired, invalid("", "")} {
		want = append(want, "`"+no.Code+"`")
	}
	for code := range rates {
		want = append(want, code)
	}
	for _, limit := range []int64{referenceMax, merchantIDMax, merchantNameMax, codeMax, attachMax, returnURLMax, amountMax, lifetimeMax, eventsKept, eventBatchMax} {
		want = append(want, fmt.Sprint(limit))
	}
	for _, text := range want {
		if !strings.Contains(string(wire), text) {
			t.Errorf("docs/wallet-network.md lacks %s", text)
		}
	}
}

func BenchmarkPay(b *testing.B) {
	n, err := Open(Config{Dir: b.TempDir(), Key: testKey, PublicURL: func() string { return publicURL }, Rand: strings.NewReader(strings.Repeat("x", 100)), Now: time.Now})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = n.Close() }()
	h := n.Handler()
	for i := 0; b.Loop(); i++ {
		body := fmt.Sprintf(`{"reference":"b-%d","merchant_id":"m","merchant_name":"M","amount_minor":8640,"currency":"AUD","wallet":"alipay","flow":"code","code":"289661544981076259"}`, i)
		req := httptest.NewRequestWithContext(b.Context(), "POST", "/v1/payments", strings.NewReader(body))
		req.Header.Set("Authorization", "Bearer "+testKey)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		if w.Code != http.StatusOK {
			b.Fatal(w.Body)
		}
	}
}

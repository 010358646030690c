package upp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/tillgate/tillgate/money"
)

const testToken = "test-secret-1"

// fakeUPP answers each call with the next step of a script, repeats the last one, and remembers what it was sent.
type fakeUPP struct {
	t     *testing.T
	url   string
	steps []http.HandlerFunc

	mu     sync.Mutex
	calls  []string // method and path as escaped on the wire
	bodies []string
	sleeps []time.Duration
	clock  time.Time
}

func newFake(t *testing.T, steps ...http.HandlerFunc) (*fakeUPP, *Client) {
	t.Helper()
	f := &fakeUPP{t: t, steps: steps, clock: time.UnixMilli(1776128712214)}
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	f.url = server.URL
	token, err := NewToken(testToken)
	if err != nil {
		t.Fatal(err)
	}
	// A kept-alive connection that is dropped makes net/http repeat a GET by itself, which would hide our own repeating.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	return f, &Client{BaseURL: server.URL + "/v1/", Token: token, HTTP: client, Now: f.now, Sleep: f.sleep}
}

func (f *fakeUPP) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		f.t.Errorf("body: %v", err)
	}
	if got := r.Header.Get("Authorization"); got != "Bearer "+testToken {
		f.t.Errorf("Authorization is %q", got)
	}
	if got := r.Header.Get("Content-Type"); r.Method == http.MethodPost && got != "application/json" {
		f.t.Errorf("Content-Type is %q", got)
	}
	f.mu.Lock()
	step := f.steps[min(len(f.calls), len(f.steps)-1)]
	f.calls = append(f.calls, r.Method+" "+r.URL.RequestURI())
	f.bodies = append(f.bodies, string(body))
	f.mu.Unlock()
	step(w, r)
}

func (f *fakeUPP) now() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.clock
}

func (f *fakeUPP) sleep(ctx context.Context, d time.Duration) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sleeps = append(f.sleeps, d)
	f.clock = f.clock.Add(d)
	return ctx.Err()
}

// wantCalls compares what was called: methods and paths.
func (f *fakeUPP) wantCalls(want ...string) {
	f.t.Helper()
	if diff := cmp.Diff(want, f.calls); diff != "" {
		f.t.Errorf("calls: -want +got\n%s", diff)
	}
}

func (f *fakeUPP) wantSleeps(want ...time.Duration) {
	f.t.Helper()
	if !slices.Equal(f.sleeps, want) {
		f.t.Errorf("slept %v, want %v", f.sleeps, want)
	}
}

func answer(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
}

func html(status int) http.HandlerFunc { return answer(status, "<html><body>oh no</body></html>") }

func drop(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// tx is a transaction of ref-1 over one dollar, with members replaced.
func tx(status int, replaced ...string) http.HandlerFunc {
	return answer(status, string(build([][2]string{
		{"transactionType", `"purchase"`}, {"transactionReference", `"ref-1"`}, {"amount", "1"}, {"currency", `"aud"`},
		{"cancelled", "false"}, {"approved", ""},
	}, replaced)))
}

const (
	createCall = "POST /v1/transactions"
	fetchCall  = "GET /v1/transactions/ref-1"
	pollCall   = "GET /api/v1/transactions/ref-1?waitForCompletion=true"
	cancelCall = "POST /api/v1/transactions/ref-1/cancel"
)

func oneDollar() CreateRequest {
	return CreateRequest{
		TransactionReference: "ref-1", Currency: "aud", Amount: NumberOf(money.New(100, money.MustCurrency("AUD"))),
		Provider: ProviderAlipay, SaleType: SaleCustomerPresented, CustomerToken: "289661544981076259",
		Items: []Item{{Type: ItemSKU, ItemReference: "1", Name: "Pen", Amount: "1", Quantity: "1"}},
	}
}

// The cases of §9.8.
func TestConnector(t *testing.T) {
	t.Parallel()
	s := time.Second
	for _, tc := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"K01 a dropped connection is followed by the same bytes", func(t *testing.T) {
			f, c := newFake(t, drop, drop, html(503), answer(429, "{}"), drop, drop, tx(200, "approved", "true"))
			got, err := c.Purchase(t.Context(), oneDollar())
			if err != nil || !got.Paid() {
				t.Fatalf("got %+v, %v", got, err)
			}
			f.wantSleeps(1*s, 2*s, 4*s, 8*s, 10*s, 10*s)
			if want := slices.Repeat(f.bodies[:1], len(f.bodies)); len(want) != 7 || !slices.Equal(f.bodies, want) {
				t.Errorf("bodies differ: %q", f.bodies)
			}
			if _, err := DecodeRequest([]byte(f.bodies[0])); err != nil {
				t.Errorf("our own server would refuse it: %v", err)
			}
		}},
		{"K02 an answer without approved is polled, not taken for success", func(t *testing.T) {
			f, c := newFake(t, tx(200), tx(200, "approved", "true"))
			got, err := c.Purchase(t.Context(), oneDollar())
			if err != nil || got.Paid() || !got.Pending() {
				t.Fatalf("got %+v, %v", got, err)
			}
			if got, err = c.Poll(t.Context(), "ref-1"); err != nil || !got.Paid() {
				t.Fatalf("got %+v, %v", got, err)
			}
			f.wantCalls(createCall, pollCall)
		}},
		{"K03 202 means poll again, whatever its body", func(t *testing.T) {
			f, c := newFake(t, tx(202), answer(202, ""), tx(200, "approved", "false"))
			got, err := c.Poll(t.Context(), "ref-1")
			if err != nil || got.Paid() || got.Pending() {
				t.Fatalf("got %+v, %v", got, err)
			}
			f.wantCalls(pollCall, pollCall, pollCall)
		}},
		{"K04 a poll held for 30 s does not time out", testHeldPoll},
		{"K05 no answer to a create is resent, never cancelled", func(t *testing.T) {
			f, c := newFake(t, drop)
			ctx, cancel := context.WithCancel(t.Context())
			tries := 0
			c.Sleep = func(ctx context.Context, d time.Duration) error {
				if tries++; tries == 4 {
					cancel()
				}
				return f.sleep(ctx, d)
			}
			if _, err := c.Purchase(ctx, oneDollar()); !errors.Is(err, ErrOutcomeUnknown) || asError(err) != nil {
				t.Errorf("got %v", err)
			}
			f.wantCalls(slices.Repeat([]string{createCall}, 4)...)
		}},
		{"K06 a cancel goes on until 2xx, then the end state is read", func(t *testing.T) {
			f, c := newFake(t, drop, html(502), answer(200, ""), drop, tx(200, "approved", "false", "cancelled", "true"))
			got, err := c.Cancel(t.Context(), "ref-1")
			if err != nil || !got.Cancelled || got.Paid() {
				t.Fatalf("got %+v, %v", got, err)
			}
			f.wantCalls(cancelCall, cancelCall, cancelCall, fetchCall, fetchCall)
			f.wantSleeps(1*s, 2*s, 1*s)
		}},
		{"K07 a refused cancel shows why", func(t *testing.T) {
			f, c := newFake(t, answer(409, `{"failure":"cancelWindowExpired","failureDescription":"Older than 24 hours."}`))
			_, err := c.Cancel(t.Context(), "ref-1")
			e := asError(err)
			if e == nil || e.Status != 409 || e.Failure != FailCancelWindowExpired || e.Description != "Older than 24 hours." {
				t.Errorf("got %v", err)
			}
			f.wantCalls(cancelCall)
		}},
		{"K08 purchaserBillingAmount is a number or a string", func(t *testing.T) {
			details := `{"exchangeRate":"4.96","purchaserBillingAmount":%s,"purchaserBillingCurrency":"cny"}`
			_, c := newFake(t, tx(200, "exchangeDetails", fmt.Sprintf(details, "0.05")), tx(200, "exchangeDetails", fmt.Sprintf(details, `"0.05"`)))
			for range 2 {
				got, err := c.Fetch(t.Context(), "ref-1")
				if err != nil {
					t.Fatal(err)
				}
				if a, err := got.ExchangeDetails.PurchaserBillingAmount.In(money.MustCurrency("CNY")); err != nil || a.Minor() != 5 {
					t.Errorf("got %v, %v", a, err)
				}
			}
		}},
		{"K09 unknown providers and fields do no harm", func(t *testing.T) {
			_, c := newFake(t, tx(200, "provider", `"applePay"`, "approved", "true", "surprise", `[{}]`))
			r := oneDollar()
			r.Provider = "applePay"
			got, err := c.Purchase(t.Context(), r)
			if err != nil || !got.Paid() || got.Provider != "applePay" || string(got.Extra["surprise"]) != "[{}]" {
				t.Errorf("got %+v, %v", got, err)
			}
		}},
		{"K10 approved and cancelled is not paid", func(t *testing.T) {
			_, c := newFake(t, tx(200, "approved", "true", "cancelled", "true"))
			got, err := c.Poll(t.Context(), "ref-1")
			if err != nil || got.Paid() {
				t.Errorf("got %+v, %v", got, err)
			}
		}},
		{"K11 a refused resend is decided by a fetch", testRefusedResend},
		{"K12 a restart resumes from what was stored", testRestart},
		{"K13 a page of HTML is an answer of nobody", func(t *testing.T) {
			f, c := newFake(t, html(502), html(200), answer(200, `{}`), tx(200, "transactionReference", `"ref-2"`),
				tx(200, "amount", "2"), answer(302, ""), tx(200, "approved", "true"))
			if got, err := c.Purchase(t.Context(), oneDollar()); err != nil || !got.Paid() {
				t.Fatalf("got %+v, %v", got, err)
			}
			if len(f.calls) != 7 {
				t.Errorf("calls %v", f.calls)
			}
			f, c = newFake(t, html(502), drop, html(404))
			if _, err := c.Poll(t.Context(), "ref-1"); NotFound(err) || !errors.Is(err, ErrOutcomeUnknown) {
				t.Errorf("got %v", err)
			}
			f.wantSleeps(250*time.Millisecond, 500*time.Millisecond)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tc.run(t)
		})
	}
}

// holding answers after a time, as a server at the other end of a long poll does, without a network: a clock of synctest does
// not run while real sockets are waited for.
type holding struct {
	hold time.Duration
	body string
}

func (h holding) RoundTrip(r *http.Request) (*http.Response, error) {
	select {
	case <-time.After(h.hold):
		w := httptest.NewRecorder()
		w.WriteString(h.body)
		return w.Result(), nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

func testHeldPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		token, err := NewToken(testToken)
		if err != nil {
			t.Fatal(err)
		}
		body := `{"transactionReference":"ref-1","approved":true}`
		c := &Client{BaseURL: SandboxURL, Token: token}
		c.HTTP = &http.Client{Transport: holding{30 * time.Second, body}, Timeout: time.Second}
		start := time.Now()
		if got, err := c.Poll(t.Context(), "ref-1"); err != nil || !got.Paid() || time.Since(start) != 30*time.Second {
			t.Errorf("after %v: %+v, %v", time.Since(start), got, err)
		}
		// One that never answers is given up after 40 s, asked again, and unknown when the caller stops.
		c.HTTP = &http.Client{Transport: holding{24 * time.Hour, body}}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Second)
		defer cancel()
		if _, err := c.Poll(ctx, "ref-1"); !errors.Is(err, ErrOutcomeUnknown) {
			t.Errorf("got %v", err)
		}
		// Without an end to the caller's patience, a day is enough (§6.3, step 6).
		start = time.Now()
		if _, err := c.Poll(t.Context(), "ref-1"); !errors.Is(err, ErrOutcomeUnknown) || time.Since(start) < 24*time.Hour-time.Minute {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
	})
}

func testRefusedResend(t *testing.T) {
	refusal := answer(400, `{"failure":"invalidRequest","failureDescription":"Nope."}`)
	unknown := answer(404, `{"failure":"transactionNotFound","failureDescription":"Unknown."}`)
	for _, tc := range []struct {
		name    string
		steps   []http.HandlerFunc
		calls   []string
		paid    bool
		refused bool
		unknown bool
	}{
		{"on the first try it is final", []http.HandlerFunc{refusal}, []string{createCall}, false, true, false},
		{"found", []http.HandlerFunc{drop, refusal, tx(200, "approved", "true")}, []string{createCall, createCall, fetchCall}, true, false, false},
		{"not there", []http.HandlerFunc{drop, refusal, unknown}, []string{createCall, createCall, fetchCall}, false, true, false},
		{"a page of HTML says nothing about it", []http.HandlerFunc{drop, refusal, html(404)},
			[]string{createCall, createCall, fetchCall}, false, false, true},
		{"no answer to the fetch", []http.HandlerFunc{drop, refusal, drop, refusal, unknown},
			[]string{createCall, createCall, fetchCall, createCall, fetchCall}, false, true, false},
		{"the reference is another request's", []http.HandlerFunc{drop, refusal, tx(200, "approved", "true", "amount", "2")},
			[]string{createCall, createCall, fetchCall}, false, true, false},
	} {
		f, c := newFake(t, tc.steps...)
		got, err := c.Purchase(t.Context(), oneDollar())
		if paid := err == nil && got.Paid(); paid != tc.paid {
			t.Errorf("%s: got %+v, %v", tc.name, got, err)
		}
		if unknown := errors.Is(err, ErrOutcomeUnknown); unknown != tc.unknown {
			t.Errorf("%s: got %v", tc.name, err)
		}
		if refused := asError(err) != nil && !errors.Is(err, ErrOutcomeUnknown); refused != tc.refused {
			t.Errorf("%s: got %v", tc.name, err)
		}
		f.wantCalls(tc.calls...)
	}
}

func testRestart(t *testing.T) {
	f, c := newFake(t, answer(409, `{"failure":"x"}`), tx(200), answer(202, "{}"), tx(200, "approved", "true"))
	r := oneDollar()
	r.TransactionType = TypePurchase
	prepared, err := c.Prepare(r)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := json.Marshal(prepared) // the process ends here
	if err != nil {
		t.Fatal(err)
	}
	var stored Stored
	if err := json.Unmarshal(kept, &stored); err != nil {
		t.Fatal(err)
	}
	if got, err := c.Resume(t.Context(), stored); err != nil || !got.Pending() {
		t.Fatalf("got %+v, %v", got, err)
	}
	if got, err := c.Poll(t.Context(), stored.Reference); err != nil || !got.Paid() { // and here: a poll needs the reference only
		t.Fatalf("got %+v, %v", got, err)
	}
	f.wantCalls(createCall, fetchCall, pollCall, pollCall)
	if f.bodies[0] != string(prepared.Body) {
		t.Errorf("sent %s, prepared %s", f.bodies[0], prepared.Body)
	}
	if text := fmt.Sprintf("%v %+v %#v %s", stored, stored, stored, &stored); strings.Contains(text, r.CustomerToken) {
		t.Errorf("printed %s", text)
	}
}

// A day after it was prepared, a request is for people to look at.
func TestSendGivesUpAfterADay(t *testing.T) {
	t.Parallel()
	f, c := newFake(t, html(500))
	r := oneDollar()
	r.TransactionType = TypePurchase
	stored, err := c.Prepare(r)
	if err != nil {
		t.Fatal(err)
	}
	f.clock = f.clock.Add(giveUpAfter - 10*time.Second)
	if _, err = c.Resume(t.Context(), stored); !errors.Is(err, ErrOutcomeUnknown) {
		t.Errorf("got %v", err)
	}
	f.wantSleeps(1*time.Second, 2*time.Second, 4*time.Second) // eight more would be too late
}

func TestRetryAfterLengthensThePause(t *testing.T) {
	t.Parallel()
	slow := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "30")
		answer(429, `{"failure":"tooManyRequests"}`)(w, r)
	}
	endless := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", "999999")
		html(503)(w, r)
	}
	f, c := newFake(t, slow, endless, tx(200))
	if _, err := c.Complete(t.Context(), "ref-1"); err != nil {
		t.Fatal(err)
	}
	f.wantSleeps(30*time.Second, time.Minute)
}

// §1.2: the seed's prefix for each call, never /v1 twice; B12: any reference.
func TestAddresses(t *testing.T) {
	t.Parallel()
	calls := func(base string, p Prefixes, reference string) []string {
		f, c := newFake(t, answer(404, "{}"))
		c.BaseURL, c.Prefixes = f.url+base, p
		r := oneDollar()
		r.TransactionReference = reference
		c.Purchase(t.Context(), r)
		c.Fetch(t.Context(), reference)
		c.Poll(t.Context(), reference)
		c.Cancel(t.Context(), reference)
		c.Complete(t.Context(), reference)
		return f.calls
	}
	paths := func(root, plain, api, reference string) []string {
		return []string{
			"POST " + root + plain + "/transactions",
			"GET " + root + plain + "/transactions/" + reference,
			"GET " + root + api + "/transactions/" + reference + "?waitForCompletion=true",
			"POST " + root + api + "/transactions/" + reference + "/cancel",
			"POST " + root + plain + "/transactions/" + reference + "/complete",
		}
	}
	for base, root := range map[string]string{
		"": "", "/": "", "/v1": "", "/v1/": "", "/api/v1/": "", "/upp": "/upp", "/upp/v1/": "/upp",
	} {
		if diff := cmp.Diff(paths(root, "/v1", "/api/v1", "r1"), calls(base, Prefixes{}, "r1")); diff != "" {
			t.Errorf("base %q: -want +got\n%s", base, diff)
		}
	}
	p := Prefixes{Create: "/v2", Fetch: "v2/", Poll: "/v3", Cancel: "/v3", Complete: "/v2"}
	if diff := cmp.Diff(paths("", "/v2", "/v3", "r1"), calls("/v1", p, "r1")); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	for reference, escaped := range map[string]string{
		"a b": "a%20b", "a/b": "a%2Fb", "..": "%2E%2E", "é?#%": "%C3%A9%3F%23%25", "a/cancel": "a%2Fcancel",
	} {
		if diff := cmp.Diff(paths("", "/v1", "/api/v1", escaped), calls("", Prefixes{}, reference)); diff != "" {
			t.Errorf("reference %q: -want +got\n%s", reference, diff)
		}
	}
}

// Mistakes of the caller are told at once, without a call.
func TestMistakes(t *testing.T) {
	t.Parallel()
	f, c := newFake(t, tx(200))
	for name, change := range map[string]func(*CreateRequest){
		"no reference":   func(r *CreateRequest) { r.TransactionReference = "" },
		"no amount":      func(r *CreateRequest) { r.Amount = "" },
		"amount of zero": func(r *CreateRequest) { r.Amount = "0.00" },
		"decimals":       func(r *CreateRequest) { r.Amount = "0.001" },
		"no currency":    func(r *CreateRequest) { r.Currency = "" },
		"quantity":       func(r *CreateRequest) { r.Items[0].Quantity = "one" },
	} {
		r := oneDollar()
		change(&r)
		if _, err := c.Purchase(t.Context(), r); err == nil || errors.Is(err, ErrOutcomeUnknown) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	for name, broken := range map[string]Client{
		"no token":     {BaseURL: c.BaseURL},
		"no address":   {Token: c.Token},
		"no scheme":    {Token: c.Token, BaseURL: "payments.example.test/v1"},
		"with a query": {Token: c.Token, BaseURL: "https://payments.example.test/v1?x=1"},
	} {
		if _, err := broken.Purchase(t.Context(), oneDollar()); err == nil || errors.Is(err, ErrOutcomeUnknown) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := c.Fetch(t.Context(), ""); err == nil {
		t.Error("a fetch of nothing")
	}
	if len(f.calls) != 0 {
		t.Errorf("calls %v", f.calls)
	}
}

// The token is in no error, even if the peer repeats it.
func TestErrorsHoldNoToken(t *testing.T) {
	t.Parallel()
	_, c := newFake(t, answer(401, `{"failure":"unauthorised","failureDescription":"Bearer `+testToken+` is unknown"}`))
	_, err := c.Purchase(t.Context(), oneDollar())
	if e := asError(err); e == nil || e.Status != 401 || strings.Contains(err.Error(), testToken) {
		t.Errorf("got %v", err)
	}
	c.BaseURL = "http://127.0.0.1:1/"
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Purchase(ctx, oneDollar()); err == nil || strings.Contains(err.Error(), testToken) {
		t.Errorf("got %v", err)
	}
}

// A refund is compared with what was asked, its original included.
func TestRefundBySending(t *testing.T) {
	t.Parallel()
	ok := tx(200, "transactionType", `"refund"`, "originalTransactionReference", `"ref-0"`, "approved", "true")
	f, c := newFake(t, tx(200), ok)
	got, err := c.Refund(t.Context(), CreateRequest{
		TransactionReference: "ref-1", Currency: "AUD", Amount: "1.00", OriginalTransactionReference: "ref-0", RefundReason: ReasonFaulty,
	})
	if err != nil || !got.Paid() || got.TransactionType != TypeRefund {
		t.Errorf("got %+v, %v", got, err)
	}
	f.wantCalls(createCall, createCall)
	mustDecode(t, []byte(f.bodies[0]))
}

package upp_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/sqlstore"
)

// TestAccess is §9.1.
func TestAccess(t *testing.T) {
	t.Parallel()
	r := setup(t, func(s *settings) { s.pollWait = 100 * time.Millisecond })
	paid, open := reference(), reference()
	r.till(t).create(purchase(paid)).wantState("approved")
	r.till(t).create(qr(open)).wantState("pending")
	calls := []struct{ method, path, body string }{
		{"POST", "/v1/transactions", purchase(reference()).json()},
		{"POST", "/v1/transactions", refundOf(paid, reference()).json()},
		{"GET", "/v1/transactions/" + paid, ""},
		{"GET", "/api/v1/transactions/" + paid + "?waitForCompletion=true", ""},
		{"POST", "/api/v1/transactions/" + paid + "/cancel", ""},
		{"POST", "/v1/transactions/" + paid + "/complete", "{}"},
		{"POST", "/v1/startWebWidget", `{"amount":1,"currency":"aud"}`},
		{"GET", "/v1/nothing", ""},
	}

	t.Run("A01 without Authorization", func(t *testing.T) {
		for _, c := range calls {
			a := r.till(t).as("").do(c.method, c.path, c.body, "Content-Type", "application/json").wantFailure(401, "unauthorised")
			if got := a.header.Get("WWW-Authenticate"); got != "Bearer" {
				t.Errorf("WWW-Authenticate: got %q", got)
			}
		}
		for _, header := range []string{"", "Bearer", "Bearer ", "Basic " + token, token, "Bearer  " + token, "Bearer " + token + " ", "Bearer\t" + token} {
			a := r.till(t).as("").do("GET", "/v1/transactions/"+paid, "", "Authorization", header)
			if header == "Bearer "+token+" " {
				a.want(200) // HTTP takes blanks at the end of a header off.
				continue
			}
			a.wantFailure(401, "unauthorised")
		}
	})
	t.Run("A02 wrong token", func(t *testing.T) {
		for _, wrong := range []string{"nobody", token + "x", strings.ToUpper(token), strings.Repeat("x", 4096), strings.Repeat("x", 4097),
			publicToken, qfpayToken} {
			for _, c := range calls {
				r.till(t).as(wrong).do(c.method, c.path, c.body, "Content-Type", "application/json").wantFailure(401, "unauthorised")
			}
		}
		r.till(t).fetch(paid).wantState("approved")
	})
	t.Run("A03 valid token", func(t *testing.T) {
		for _, scheme := range []string{"Bearer", "bearer", "BEARER"} {
			r.till(t).as("").do("GET", "/v1/transactions/"+paid, "", "Authorization", scheme+" "+token).wantState("approved")
		}
	})
	t.Run("A04 both prefixes are the same", func(t *testing.T) {
		for _, prefix := range []string{"/v1", "/api/v1"} {
			c, ref, back, stop := r.till(t).under(prefix), reference(), reference(), reference()
			c.create(purchase(ref)).wantState("approved").wantKeys(columnC1...)
			c.create(refundOf(ref, back)).wantState("approved").wantKeys(columnR1...)
			c.fetch(ref).wantState("approved").wantKeys(columnC1...)
			c.poll(back).wantState("approved").wantKeys(columnR1...)
			c.create(qr(stop)).wantState("pending").wantKeys(columnM0...)
			c.poll(stop).want(202).wantKeys(columnM0...)
			c.cancel(stop).wantState("cancelled")
		}
	})
	t.Run("A05 create under one prefix, poll and cancel under the other", func(t *testing.T) {
		ref := reference()
		plain, api := r.till(t), r.till(t).under("/api/v1")
		out := plain.create(qr(ref)).wantState("pending").out()
		if a := api.poll(ref).want(202); a.out() != out {
			a.errorf("want %s", out)
		}
		if a := api.cancel(ref).wantState("cancelled"); a.out() != out {
			a.errorf("want %s", out)
		}
		plain.fetch(ref).wantState("cancelled")
	})
	t.Run("A06 Content-Type with parameters", func(t *testing.T) {
		for _, media := range []string{"application/json; charset=utf-8", "application/json;charset=UTF-8", "Application/JSON", "application/json ; x=y"} {
			r.till(t).do("POST", "/v1/transactions", purchase(reference()).json(), "Content-Type", media).wantState("approved")
		}
	})
	t.Run("A07 other Content-Types", func(t *testing.T) {
		for _, media := range []string{"text/plain", "", "application/x-www-form-urlencoded", "application/jsonp", "text/json", ",application/json"} {
			ref := reference()
			r.till(t).do("POST", "/v1/transactions", purchase(ref).json(), "Content-Type", media).wantFailure(415, "unsupportedMediaType")
			r.till(t).fetch(ref).wantFailure(404, "transactionNotFound")
			r.till(t).do("POST", "/v1/transactions/"+open+"/cancel", "{}", "Content-Type", media).wantFailure(415, "unsupportedMediaType")
		}
		r.till(t).fetch(open).wantState("pending")
	})
	t.Run("A08 every answer is JSON without null", func(t *testing.T) {
		// reply.check holds every answer of this suite against it; here it is held against itself.
		if findNull("", map[string]any{"a": []any{map[string]any{"b": nil}}}) != ".a[0].b" || findNull("", map[string]any{"a": "null"}) != "" {
			t.Error("findNull does not find null")
		}
	})
	t.Run("A09 another merchant's reference", func(t *testing.T) {
		theirs := r.till(t).as(otherToken)
		got := theirs.fetch(paid).wantFailure(404, "transactionNotFound")
		unknown := theirs.fetch("unknown").wantFailure(404, "transactionNotFound")
		if string(got.raw) != string(unknown.raw) {
			got.errorf("want the same as for an unknown reference: %s", unknown.raw)
		}
		theirs.poll(paid).wantFailure(404, "transactionNotFound")
		theirs.create(refundOf(paid, reference())).wantFailure(400, "originalTransactionNotFound")
		theirs.cancel(open).wantFailure(404, "transactionNotFound")
		r.till(t).fetch(open).wantState("pending")

		same := reference() // References are each merchant's own.
		a, b := r.till(t).create(purchase(same)).wantState("approved"), theirs.create(purchase(same)).wantState("approved")
		if a.out() == b.out() || b.text("merchantId") != "740219" || b.text("terminalId") != "4" || b.text("merchantName") != "Quay Books" {
			b.errorf("want another merchant's transaction")
		}
		theirs.create(purchase(reference(), "provider", "wechat", "customerToken", code("wechat", "approve"))).wantFailure(400, "unsupportedProvider")
		theirs.create(purchase(reference(), "currency", "nzd")).wantFailure(400, "unsupportedCurrency")
	})
	t.Run("A10 unknown fields are ignored", func(t *testing.T) {
		ref := reference()
		a := r.till(t).create(purchase(ref, "colour", "blue", "Amount", "1", "tags", []any{"x"}, "approved", false, "webWidget", object{"a": 1}))
		a.wantState("approved").wantKeys(columnC1...)
		r.till(t).create(purchase(ref, "colour", "red")).wantState("approved")
	})
	t.Run("addresses", func(t *testing.T) {
		r.till(t).as(localToken).fetch(paid).wantState("approved")
		r.till(t).as(remoteToken).fetch(paid).wantFailure(403, "forbidden", "127.0.0.1")
		ref := reference()
		r.till(t).as(remoteToken).create(purchase(ref)).wantFailure(403, "forbidden")
		r.till(t).as(remoteToken).do("POST", "/v1/transactions", purchase(ref).json(), "X-Forwarded-For", "203.0.113.9",
			"X-Real-IP", "203.0.113.9", "Forwarded", "for=203.0.113.9").wantFailure(403, "forbidden")
		r.till(t).fetch(ref).wantFailure(404, "transactionNotFound")
	})
	t.Run("a token without a terminal", func(t *testing.T) {
		ref := reference()
		r.till(t).as(bareToken).create(purchase(ref)).wantFailure(403, "forbidden", "terminal")
		r.till(t).fetch(ref).wantFailure(404, "transactionNotFound")
	})
}

// TestTerminals: the tokens of one merchant share its references; the terminal and its business day are those of the token that asked.
func TestTerminals(t *testing.T) {
	t.Parallel()
	r := setup(t)
	melbourne, err := time.LoadLocation("Australia/Melbourne")
	if err != nil {
		t.Fatal(err)
	}
	auckland, err := time.LoadLocation("Pacific/Auckland")
	if err != nil {
		t.Fatal(err)
	}
	// Half past eleven at night in Melbourne is the next day in Auckland.
	y, m, d := time.Now().In(melbourne).AddDate(0, 0, 1).Date()
	at := time.Date(y, m, d, 23, 30, 0, 0, melbourne)
	r.clock.hold(at)
	here, there := r.till(t), r.till(t).as(nzToken)
	ref, back := reference(), reference()

	a := here.create(purchase(ref)).wantState("approved")
	if a.text("terminalId") != "3" || a.text("settlementBatch") != at.Format("20060102") {
		a.errorf("want terminal 3 and the day %s", at.Format("20060102"))
	}
	for _, b := range []reply{there.fetch(ref), there.poll(ref), there.create(purchase(ref))} {
		if string(b.raw) != string(a.raw) {
			b.errorf("want what the other terminal was answered: %s", a.raw)
		}
	}
	there.create(purchase(ref, "amount", json.Number("1"))).wantFailure(409, "transactionReferenceConflict")

	b := there.create(refundOf(ref, back)).wantState("approved")
	if b.text("terminalId") != "5" {
		b.errorf("want terminal 5, which asked")
	}
	c := there.create(purchase(reference())).wantState("approved")
	if day := at.In(auckland).Format("20060102"); c.text("terminalId") != "5" || c.text("settlementBatch") != day || day == a.text("settlementBatch") {
		c.errorf("want terminal 5 and the day %s", day)
	}
	there.cancel(ref).wantState("cancelled")
	here.fetch(ref).wantState("cancelled")
}

// TestDisabled: what an operator's command disables, in a process of its own, is refused 2 seconds later at most (design 8). The clock is
// the engine's.
func TestDisabled(t *testing.T) {
	t.Parallel()
	r := setup(t)
	tool, err := sqlstore.Open(t.Context(), sqlstore.Config{Dir: r.dir, Tool: true, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	defer tool.Close()
	ctx := t.Context()
	for _, tt := range []struct {
		name string
		set  func(disabled bool) error
	}{
		{"credential", func(d bool) error { return tool.SetCredentialDisabled(ctx, r.merchant, r.ids[token], d) }},
		{"terminal", func(d bool) error { return tool.SetTerminalDisabled(ctx, r.merchant, r.terminal, d) }},
		{"store", func(d bool) error { return tool.SetStoreDisabled(ctx, r.merchant, r.place, d) }},
		{"merchant", func(d bool) error { return tool.SetMerchantDisabled(ctx, r.merchant, d) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ref := reference()
			r.till(t).create(purchase(ref)).wantState("approved")
			if err := tt.set(true); err != nil {
				t.Fatal(err)
			}
			r.clock.pass(2 * time.Second)
			r.till(t).fetch(ref).wantFailure(403, "forbidden")
			next := reference()
			r.till(t).create(purchase(next)).wantFailure(403, "forbidden")
			r.till(t).as(token+"x").fetch(ref).wantFailure(401, "unauthorised")
			if err := tt.set(false); err != nil {
				t.Fatal(err)
			}
			r.till(t).fetch(ref).wantState("approved")
			r.till(t).fetch(next).wantFailure(404, "transactionNotFound")
		})
	}
}

// TestPaths is §1.2 and §3.11.
func TestPaths(t *testing.T) {
	t.Parallel()
	r := setup(t)
	ref := reference()
	r.till(t).create(purchase(ref)).wantState("approved")

	t.Run("slashes", func(t *testing.T) {
		for _, path := range []string{"/v1/transactions/" + ref, "/v1/transactions/" + ref + "/", "//v1//transactions//" + ref, "/api//v1/transactions/" + ref + "//"} {
			r.till(t).do("GET", path, "").wantState("approved")
		}
		for _, path := range []string{"/v1/transactions/", "//v1/transactions", "/api/v1//transactions/"} {
			r.till(t).do("POST", path, purchase(reference()).json(), "Content-Type", "application/json").wantState("approved")
		}
		for _, path := range []string{"/v1/transactions/%s/cancel/", "//api/v1/transactions//%s//cancel"} {
			open := reference()
			r.till(t).create(qr(open)).wantState("pending")
			r.till(t).do("POST", strings.ReplaceAll(path, "%s", open), "").wantState("cancelled")
		}
	})
	t.Run("wrong methods", func(t *testing.T) {
		for _, c := range []struct{ path, allow string }{
			{"/v1/transactions", "POST"},
			{"/api/v1/transactions/", "POST"},
			{"/v1/transactions/" + ref, "GET"},
			{"/v1/transactions/" + ref + "/cancel", "POST"},
		} {
			for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW", "get"} {
				if method == c.allow {
					continue
				}
				a := r.till(t).do(method, c.path, "")
				if a.want(405).header.Get("Allow") != c.allow {
					a.errorf("Allow: got %q, want %s", a.header.Get("Allow"), c.allow)
				}
				if method != "HEAD" {
					a.wantFailure(405, "methodNotAllowed")
				}
			}
		}
	})
	t.Run("unknown paths", func(t *testing.T) {
		for _, path := range []string{"/", "/v1", "/v2/transactions", "/api/transactions/" + ref, "/V1/transactions/" + ref, "/v1/Transactions/" + ref,
			"/v1/transactions/" + ref + "/capture", "/v1/transactions/complete/" + ref + "/x", "/v1/startWebWidget/x", "/api/api/v1/transactions/" + ref,
			"/v1/transactions/" + ref + "/cancel/now", "/v1/transactions/a/b", "/v1/../v1/transactions/" + ref} {
			for _, method := range []string{"GET", "POST"} {
				r.till(t).do(method, path, "").wantFailure(404, "notFound")
			}
		}
	})
	t.Run("references that no transaction can have", func(t *testing.T) {
		for _, bad := range []string{"%FF", "a%00b", strings.Repeat("x", 256), strings.Repeat("x", 5000), "%C0%AF", "%ED%A0%80"} {
			r.till(t).do("GET", "/v1/transactions/"+bad, "").wantFailure(404, "transactionNotFound")
			r.till(t).do("GET", "/v1/transactions/"+bad+"?waitForCompletion=true", "").wantFailure(404, "transactionNotFound")
			r.till(t).do("POST", "/v1/transactions/"+bad+"/cancel", "").wantFailure(404, "transactionNotFound")
			text, err := url.PathUnescape(bad)
			if err != nil {
				t.Fatal(err)
			}
			err = r.store.Read(t.Context(), func(rd payment.Reader) error {
				_, err := rd.Key(r.merchant, payment.Key{Scope: "upp", Key: text})
				return err
			})
			if !errors.Is(err, payment.ErrNotFound) { // A cancel keeps a reference closed, but never one that cannot come.
				t.Errorf("key %.10q after a cancel: %v", text, err)
			}
		}
	})
	t.Run("an escape that is none is refused before it gets here", func(t *testing.T) {
		q, err := http.NewRequestWithContext(t.Context(), "GET", r.server.URL+"/v1/transactions/x", nil)
		if err != nil {
			t.Fatal(err)
		}
		q.URL.Opaque = "/v1/transactions/%zz" // Sent as it is; net/http itself answers.
		res, err := r.http.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if res.StatusCode != 400 {
			t.Errorf("got %d, want 400", res.StatusCode)
		}
	})
	t.Run("queries", func(t *testing.T) {
		for _, query := range []string{"?", "?waitForCompletion=true&x=%zz", "?;", "?waitForCompletion=TRUE", "?waitForCompletion=1", "?%00"} {
			r.till(t).do("GET", "/v1/transactions/"+ref+query, "").wantState("approved")
		}
	})
}

package upp_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/tillgate/tillgate/protocol/upp"
)

// TestHostile: what is refused names its field, is not stored, does not use its reference up, and reaches no provider.
func TestHostile(t *testing.T) {
	t.Parallel()
	r := setup(t)
	paid := reference()
	r.till(t).create(purchase(paid)).wantState("approved")
	sent := r.tap.count("POST payments") + r.tap.count("POST refunds")

	ref := reference()
	refused := func(t *testing.T, body string, status int, failure string, words ...string) {
		t.Helper()
		r.till(t).post("/transactions", body).wantFailure(status, failure, words...)
		r.till(t).fetch(ref).wantFailure(404, "transactionNotFound")
	}
	whole := purchase(ref).json()
	in := func(old, new string) string {
		if !strings.Contains(whole, old) {
			panic(old)
		}
		return strings.Replace(whole, old, new, 1)
	}

	t.Run("wrong types", func(t *testing.T) {
		values := map[string]any{"a string": "x", "a number": json.Number("1"), "a boolean": true, "an array": []any{}, "an object": object{}, "null": nil}
		for _, body := range []object{purchase(ref), refundOf(paid, ref)} {
			for field, right := range body {
				for kind, wrong := range values {
					if fmt.Sprintf("%T", wrong) == fmt.Sprintf("%T", right) {
						continue
					}
					changedBody := generic(body)
					changedBody[field] = wrong
					a := r.till(t).post("/transactions", changedBody.json()).want(400)
					description := a.text("failureDescription")
					if !strings.HasPrefix(description, field+" ") || kind != "null" && !strings.Contains(description, kind) && a.text("failure") == "invalidRequest" {
						a.errorf("%s as %s: want both named", field, kind)
					}
				}
			}
		}
		for field, right := range basket()[0].(object) {
			for kind, wrong := range values {
				if fmt.Sprintf("%T", wrong) == fmt.Sprintf("%T", right) {
					continue
				}
				items := basket()
				items[0].(object)[field] = wrong
				a := r.till(t).create(purchase(ref, "items", items)).want(400)
				if !strings.HasPrefix(a.text("failureDescription"), "items[0]."+field+" ") {
					a.errorf("items[0].%s as %s: want it named", field, kind)
				}
			}
		}
		refused(t, in(`"items":[{`, `"items":[1,{`), 400, "invalidRequest", "items[0]")
		for _, body := range []string{"", " ", "[]", "null", "true", "1", `"x"`, "[" + whole + "]"} {
			refused(t, body, 400, "invalidRequest", "JSON")
		}
	})
	t.Run("text that is no JSON", func(t *testing.T) {
		for _, body := range []string{whole[:len(whole)-1], whole + "x", whole + whole, "\xef\xbb\xbf" + whole, strings.ReplaceAll(whole, `"`, "'"),
			in(`{`, `{,`), in(`}`, `,}`), in(`:`, `=`), "//x\n" + whole, whole + "\x00", in("86.4", "86.4.1"), in("86.4", "--1")} {
			refused(t, body, 400, "invalidRequest", "JSON")
		}
	})
	t.Run("duplicate keys", func(t *testing.T) {
		refused(t, in(`"amount":86.4`, `"amount":0.01,"amount":86.4`), 400, "invalidRequest", "repeated", "amount")
		refused(t, in(`"amount":86.4`, `"amount":0.01,"\u0061mount":86.4`), 400, "invalidRequest", "repeated", "amount")
		refused(t, in(`"type":"sku"`, `"type":"sku","type":"tax"`), 400, "invalidRequest", "repeated", "type")
	})
	t.Run("names in another letter case are other names", func(t *testing.T) {
		refused(t, in(`"amount"`, `"Amount"`), 400, "invalidRequest", "amount")
		refused(t, in(`"transactionType"`, `"transactiontype"`), 400, "invalidRequest", "transactionType")
	})
	t.Run("depth, length and numbers", func(t *testing.T) {
		refused(t, in(`{`, `{"x":`+strings.Repeat("[", 10_000)+strings.Repeat("]", 10_000)+`,`), 400, "invalidRequest", "deep")
		refused(t, in(`{`, `{"x":`+strings.Repeat(`{"a":`, 10_000)+"1"+strings.Repeat("}", 10_000)+`,`), 400, "invalidRequest", "deep")
		refused(t, in(`{`, `{"x":[`+strings.Repeat("1,", 100_000)+`1],`), 400, "invalidRequest", "too many")
		refused(t, in("86.4", "1e999999999999999999"), 400, "invalidRequest", "exponent")
		refused(t, in("86.4", "1e-999999999999999999"), 400, "invalidRequest", "exponent")
		refused(t, in("86.4", "1e400"), 400, "invalidAmount", "amount")
		refused(t, in("86.4", strings.Repeat("9", 100_000)), 400, "invalidRequest", "number too long")
		refused(t, in(`"quantity":1`, `"quantity":1e-99999`), 400, "invalidRequest", "exponent")
		refused(t, in(`"customerToken":"`, `"customerToken":"`+strings.Repeat("9", 1024)), 400, "invalidRequest", "customerToken")
		var many []any
		for range 1001 {
			many = append(many, basket()[0])
		}
		refused(t, purchase(ref, "items", many).json(), 400, "invalidRequest", "items")
	})
	t.Run("characters", func(t *testing.T) {
		refused(t, in("Umbrella", "\xff"), 400, "invalidRequest", "UTF-8")
		refused(t, in("Umbrella", "\xed\xa0\x80"), 400, "invalidRequest", "UTF-8")
		refused(t, in("Umbrella", `\ud800`), 400, "invalidRequest", "surrogate")
		refused(t, in("Umbrella", `\u0000`), 400, "invalidRequest", "U+0000")
		refused(t, in("Umbrella", "a\nb"), 400, "invalidRequest", "control")
	})
	t.Run("oversize", func(t *testing.T) {
		refused(t, in("Umbrella", strings.Repeat("x", upp.BodyMax)), 413, "requestTooLarge", fmt.Sprint(upp.BodyMax))
		refused(t, whole+strings.Repeat(" ", upp.BodyMax), 413, "requestTooLarge")
		r.till(t).post("/transactions/"+paid+"/cancel", strings.Repeat(" ", upp.BodyMax+1)).wantFailure(413, "requestTooLarge")
		r.till(t).fetch(paid).wantState("approved")
		// Without a length, and so long that it must not be read to its end.
		a, err := r.till(t).stream("/v1/transactions", io.LimitReader(zeros{}, 64<<20))
		if err == nil && a != 413 {
			t.Errorf("endless body: got %d, want 413", a)
		}
	})
	t.Run("a body that breaks off", func(t *testing.T) {
		c, err := net.Dial("tcp", r.server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, err = fmt.Fprintf(c, "POST /v1/transactions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
			token, len(whole)+1, whole)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(c)
		if err != nil || !bytes.HasPrefix(text, []byte("HTTP/1.1 400 ")) {
			t.Errorf("got %q, %v", text, err)
		}
		c.Close()
		r.till(t).fetch(ref).wantFailure(404, "transactionNotFound")
	})

	if got := r.tap.count("POST payments") + r.tap.count("POST refunds"); got != sent {
		t.Errorf("the wallet network was called %d times", got-sent)
	}
	a := r.till(t).create(purchase(ref)).wantState("approved")
	r.wantBooks(t, a.out(), "payment 8640 AUD done")
}

// stream posts a body without telling its length.
func (c *till) stream(path string, body io.Reader) (int, error) {
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, c.r.server.URL+path, body)
	if err != nil {
		return 0, err
	}
	q.Header.Set("Authorization", "Bearer "+c.token)
	q.Header.Set("Content-Type", "application/json")
	res, err := c.r.http.Do(q)
	if err != nil {
		return 0, err // The server may close while we still write.
	}
	defer res.Body.Close()
	return res.StatusCode, nil
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

// TestLargeBasket: the largest basket that is accepted comes back whole, also after it was stored.
func TestLargeBasket(t *testing.T) {
	t.Parallel()
	r := setup(t)
	var items []any
	for i := range 1000 {
		items = append(items, object{"type": "sku", "itemReference": fmt.Sprint(i), "name": strings.Repeat("é", 400), "amount": json.Number("0.01"),
			"quantity": json.Number("1")})
	}
	ref := reference()
	a := r.till(t).create(purchase(ref, "items", items)).wantState("approved")
	if got := a.object["items"].([]any); len(got) != 1000 || got[999].(map[string]any)["name"] != strings.Repeat("é", 400) {
		t.Errorf("got %d items", len(got))
	}
	if b := r.till(t).fetch(ref); !bytes.Equal(a.raw, b.raw) {
		t.Error("it is read back differently")
	}
	if b := r.till(t).create(purchase(ref, "items", items)); !bytes.Equal(a.raw, b.raw) {
		t.Error("a resend is answered differently")
	}
}

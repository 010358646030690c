package upp_test

import (
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"
)

// TestPurchase is §9.2.
func TestPurchase(t *testing.T) {
	t.Parallel()
	r := setup(t)

	t.Run("B01 merchant-presented, one cent", func(t *testing.T) {
		ref := reference()
		a := r.till(t).create(qr(ref, "amount", json.Number("0.01"))).wantState("pending").wantKeys(columnM0...)
		if a.number("amount") != "0.01" || a.text("merchantToken") == "" || a.number("discount") != "0" {
			a.errorf("want 0.01, a QR code and no discount")
		}
		r.wantBooks(t, a.out())
		if status := r.phone(t, a.text("merchantToken"), "approve"); status != http.StatusSeeOther {
			t.Errorf("phone: %d", status)
		}
		b := r.till(t).final(ref).wantState("approved").wantKeys(columnM1...)
		if b.out() != a.out() || b.text("merchantToken") != a.text("merchantToken") || b.millis("created") != a.millis("created") {
			b.errorf("want the transaction of before: %s", a.raw)
		}
		r.wantBooks(t, a.out(), "payment 1 AUD done")
	})
	t.Run("B02 customer-presented, approved at once", func(t *testing.T) {
		a := r.till(t).create(purchase(reference())).wantState("approved").wantKeys(columnC1...)
		if a.text("customerToken") != plainCode || !strings.HasPrefix(a.text("buyerIdentity"), "alipay-2088") {
			a.errorf("want the code echoed, and the payer")
		}
		r.wantBooks(t, a.out(), "payment 8640 AUD done")
	})
	t.Run("B03 customer-presented, pending", func(t *testing.T) {
		ref := reference()
		c := code("alipay", "pending_then_approve_3s")
		a := r.till(t).create(purchase(ref, "customerToken", c)).wantState("pending").wantKeys(columnC0...)
		if a.text("customerToken") != c {
			a.errorf("want the code echoed")
		}
		r.till(t).under("/api/v1").final(ref).wantState("approved").wantKeys(columnC1...)
		r.wantBooks(t, a.out(), "payment 8640 AUD done")
	})
	t.Run("B04 declined", func(t *testing.T) {
		a := r.till(t).create(purchase(reference(), "customerToken", code("alipay", "insufficient_funds")))
		a.wantDeclined("insufficientFunds").wantKeys(with(columnC0, "approved", "failure", "failureDescription")...)
		r.wantBooks(t, a.out())
	})
	t.Run("B05 request fields come back unchanged", func(t *testing.T) {
		for _, body := range []object{
			purchase(reference(), "items", everyItem(), "clientIpAddress", "198.51.100.7", "currency", "AUD", "provider", "AliPay"),
			qr(reference(), "items", everyItem(), "clientIpAddress", ""),
		} {
			a := r.till(t).create(body).want(http.StatusOK)
			for _, a := range []reply{a, r.till(t).fetch(body["transactionReference"].(string))} {
				for name, want := range generic(body) {
					if !reflect.DeepEqual(a.object[name], want) {
						a.errorf("%s: got %v, want %v", name, a.object[name], want)
					}
				}
			}
		}
		padded := r.till(t).create(purchase(reference(), "customerToken", " "+plainCode+"\r\n")).wantState("approved") // As a scanner sends it.
		if padded.text("customerToken") != plainCode {
			padded.errorf("want the code without white space")
		}
	})
	t.Run("B06 all nine providers", func(t *testing.T) {
		for _, p := range providers {
			cur := "aud"
			if p == "genoapay" {
				cur = "nzd"
			}
			a := r.till(t).create(purchase(reference(), "provider", p, "customerToken", code(p, "approve"), "currency", cur)).wantState("approved")
			if p == "financialcard" {
				if _, there := a.object["customerToken"]; there {
					a.errorf("a card token was echoed")
				}
				continue
			}
			if !strings.HasPrefix(a.text("buyerIdentity"), p+"-") || a.text("provider") != p {
				a.errorf("want %s", p)
			}
			r.till(t).create(qr(reference(), "provider", p, "currency", cur)).wantState("pending")
		}
	})
	t.Run("B07 all sale types", func(t *testing.T) {
		r.till(t).create(purchase(reference())).wantState("approved")
		r.till(t).create(qr(reference())).wantState("pending")
		r.till(t).create(qr(reference(), "saleType", "website", "returnUrl", "https://shop.example.test/")).wantState("pending")
	})
	t.Run("B08 items of all types", func(t *testing.T) {
		r.till(t).create(purchase(reference(), "items", everyItem())).wantState("approved")
	})
	t.Run("B09 currencies", func(t *testing.T) {
		for _, cur := range []string{"aud", "nzd", "AUD", "Nzd"} {
			a := r.till(t).create(purchase(reference(), "currency", cur)).wantState("approved")
			r.wantBooks(t, a.out(), "payment 8640 "+strings.ToUpper(cur)+" done")
		}
		for _, cur := range []string{"xyz", "usd", "", "au", "aud ", "036"} {
			r.till(t).create(purchase(reference(), "currency", cur)).wantFailure(400, "unsupportedCurrency", "currency")
		}
		r.till(t).create(purchase(reference(), "provider", "latitudepay", "currency", "nzd")).wantFailure(400, "unsupportedCurrency", "aud")
		r.till(t).create(purchase(reference(), "provider", "genoapay")).wantFailure(400, "unsupportedCurrency", "nzd")
	})
	t.Run("B10 customer-presented without a code", func(t *testing.T) {
		for _, c := range []any{nil, "", " \r\n"} {
			r.till(t).create(purchase(reference(), "customerToken", c)).wantFailure(400, "customerTokenRequired", "customerToken")
		}
	})
	t.Run("B11 each required field left out", func(t *testing.T) {
		ref, original := reference(), reference()
		r.till(t).create(purchase(original)).wantState("approved")
		for _, whole := range []object{purchase(ref), refundOf(original, ref)} {
			for name := range whole {
				a := r.till(t).create(changed(generic(whole), []any{name, nil})).want(400)
				if !strings.HasPrefix(a.text("failureDescription"), name+" ") {
					a.errorf("want %s to be named", name)
				}
			}
		}
		for name := range everyItem()[0].(object) {
			items := everyItem()
			delete(items[1].(object), name)
			a := r.till(t).create(purchase(ref, "items", items)).want(400)
			if !strings.HasPrefix(a.text("failureDescription"), "items[1]."+name+" ") {
				a.errorf("want items[1].%s to be named", name)
			}
		}
		r.till(t).create(purchase(ref, "items", []any{})).wantFailure(400, "invalidRequest", "items")
		r.till(t).create(purchase(ref)).wantState("approved")
	})
	t.Run("B12 references of any characters", func(t *testing.T) {
		for _, ref := range []string{"till 3 / sale 17", "café-コード-🦘", "a%2Fb", "100% off", "q?x=1&y#z", "a+b", ".", "..", "/", "//", "a//b/", " x ",
			`"quoted\`, "tab\there", "{}", "cancel", "transactions", "2e0e4f34-9461-4cdd-a9f9-5816171b70be", strings.Repeat("é", 255)} {
			a := r.till(t).create(qr(ref)).wantState("pending")
			if a.text("transactionReference") != ref {
				a.errorf("want the reference %q", ref)
			}
			if b := r.till(t).fetch(ref).wantState("pending"); b.out() != a.out() {
				b.errorf("want %s", a.out())
			}
			if b := r.till(t).under("/api/v1").cancel(ref).wantState("cancelled"); b.out() != a.out() {
				b.errorf("want %s", a.out())
			}
			r.till(t).poll(ref).wantState("cancelled")
		}
		lower, upper := r.till(t).create(qr("case-a")), r.till(t).create(qr("case-A"))
		if lower.out() == upper.out() {
			upper.errorf("references differ in letter case, and were taken for one")
		}
		composed, apart := r.till(t).create(qr("\u00e9")), r.till(t).create(qr("e\u0301"))
		if composed.out() == apart.out() {
			apart.errorf("references differ in their characters, and were taken for one")
		}
		r.till(t).create(qr(strings.Repeat("é", 256))).wantFailure(400, "invalidRequest", "transactionReference")
		r.till(t).create(qr("")).wantFailure(400, "invalidRequest", "transactionReference")
	})
	t.Run("B13 amounts by value", func(t *testing.T) {
		for text, want := range map[string]struct {
			echo  string
			minor string
		}{
			"1": {"1", "100"}, "1.5": {"1.5", "150"}, "1.50": {"1.5", "150"}, "1e2": {"100", "10000"}, "1.00": {"1", "100"},
			"0.1e1": {"1", "100"}, "12300E-2": {"123", "12300"}, "19.99": {"19.99", "1999"}, "0.29": {"0.29", "29"}, "1.10000": {"1.1", "110"},
			"9999999999.99": {"9999999999.99", ""},
		} {
			a := r.till(t).post("/transactions", strings.Replace(purchase(reference()).json(), `"amount":86.4`, `"amount":`+text, 1)).want(200)
			if a.number("amount") != want.echo {
				a.errorf("%s: want the amount %s", text, want.echo)
			}
			if want.minor != "" {
				a.wantState("approved")
				r.wantBooks(t, a.out(), "payment "+want.minor+" AUD done")
			}
		}
	})
	t.Run("B14 amounts that are none", func(t *testing.T) {
		for text, failure := range map[string]string{"0": "invalidAmount", "-1": "invalidAmount", "0.001": "invalidAmount", `"1.00"`: "invalidRequest",
			"0.00": "invalidAmount", "-0": "invalidAmount", "1e-3": "invalidAmount", "1e30": "invalidAmount", "10000000000": "invalidAmount", "99999999999999999999": "invalidAmount",
			"1e399": "invalidAmount", "true": "invalidRequest", "[1]": "invalidRequest", "{}": "invalidRequest"} {
			a := r.till(t).post("/transactions", strings.Replace(purchase(reference()).json(), `"amount":86.4`, `"amount":`+text, 1))
			a.wantFailure(400, failure)
			if !strings.HasPrefix(a.text("failureDescription"), "amount ") {
				a.errorf("%s: want amount to be named", text)
			}
		}
		for _, text := range []string{"01", ".5", "1.", "+1", "0x10", "NaN", "Infinity", "1,5", "1e", "1e999999999999", strings.Repeat("9", 65)} {
			r.till(t).post("/transactions", strings.Replace(purchase(reference()).json(), `"amount":86.4`, `"amount":`+text, 1)).
				wantFailure(400, "invalidRequest", "JSON")
		}
	})
	t.Run("B15 types", func(t *testing.T) {
		ref := reference() // reply.check has held all of them against their patterns; here are the values.
		before := time.Now().UnixMilli()
		a := r.till(t).create(purchase(ref)).wantState("approved")
		created, modified, paid := a.millis("created"), a.millis("modified"), a.millis("paymentTime")
		if now := time.Now().UnixMilli(); created < before || modified < created || modified > now || paid > now || paid < before-1000 {
			a.errorf("times are not between %d and %d", before, now)
		}
		if paid%1000 != 0 {
			a.errorf("want paymentTime in whole seconds, as the wallet tells it")
		}
		if a.text("merchantId") != "740218" || a.text("terminalId") != "3" || a.text("companyName") != "Harbour Outdoor Pty Ltd" ||
			a.text("merchantName") != "Harbour Outdoor Geelong" {
			a.errorf("want the merchant and the terminal of the token")
		}
		if b := r.till(t).fetch(ref); string(b.raw) != string(a.raw) {
			b.errorf("want what create answered: %s", a.raw)
		}
	})
	t.Run("B16 settlementBatch", func(t *testing.T) {
		melbourne, err := time.LoadLocation("Australia/Melbourne")
		if err != nil {
			t.Fatal(err)
		}
		before := time.Now()
		a := r.till(t).create(purchase(reference())).wantState("approved")
		day := func(at time.Time) string { return at.In(melbourne).Format("20060102") }
		if got := a.text("settlementBatch"); got != day(before) && got != day(time.Now()) {
			a.errorf("want the day in Melbourne, %s", day(before))
		}
	})
	t.Run("B17 clientIpAddress", func(t *testing.T) {
		a := r.till(t).do("POST", "/v1/transactions", purchase(reference()).json(), "Content-Type", "application/json", "X-Forwarded-For", "203.0.113.20")
		if a.wantState("approved").text("clientIpAddress") != "127.0.0.1" {
			a.errorf("want the caller's address")
		}
		for _, ip := range []string{"", "::1", "::ffff:198.51.100.7", "203.0.113.20"} {
			if a := r.till(t).create(qr(reference(), "clientIpAddress", ip)).wantState("pending"); a.text("clientIpAddress") != ip {
				a.errorf("want %q", ip)
			}
		}
	})
	t.Run("B18 sums of an approved purchase", func(t *testing.T) {
		a := r.till(t).create(purchase(reference(), "amount", json.Number("86.40"))).wantState("approved")
		if a.number("amount") != "86.4" || a.number("settlementAmount") != "86.4" || a.number("amountCaptured") != "86.4" || a.object["canCaptureMore"] != false {
			a.errorf("want 86.4 three times")
		}
	})
	t.Run("only wallets in another currency have exchangeDetails", func(t *testing.T) {
		a := r.till(t).create(purchase(reference(), "provider", "humm", "customerToken", code("humm", "approve"))).wantState("approved")
		if _, there := a.object["exchangeDetails"]; there {
			a.errorf("want none")
		}
	})
}

// everyItem is a basket with all types.
func everyItem() []any {
	return []any{
		object{"type": "sku", "itemReference": "JKT-4", "name": "Rain jacket", "amount": json.Number("79.90"), "quantity": json.Number("1")},
		object{"type": "sku", "itemReference": "", "name": "Tape <&> \u2028 \"é\"", "amount": json.Number("0.5"), "quantity": json.Number("0.125")},
		object{"type": "tax", "itemReference": "GST", "name": "GST", "amount": json.Number("7.26"), "quantity": json.Number("1e0")},
		object{"type": "shipping", "itemReference": "S", "name": "Shipping", "amount": json.Number("0"), "quantity": json.Number("1.0")},
		object{"type": "discount", "itemReference": "D", "name": "Discount", "amount": json.Number("-3.50"), "quantity": json.Number("1")},
		object{"type": "credit", "itemReference": "C", "name": "Gift card", "amount": json.Number("-10"), "quantity": json.Number("1")},
	}
}

// generic is an object as a reader of JSON has it.
func generic(o object) object {
	d := json.NewDecoder(strings.NewReader(o.json()))
	d.UseNumber()
	var g object
	if err := d.Decode(&g); err != nil {
		panic(err)
	}
	return g
}

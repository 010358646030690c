package upp

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/tillgate/tillgate/internal/strictjson"
	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
)

// vector is one file of testdata: header lines, an empty line, the bytes of the wire.
type vector struct {
	name, expect string
	body         []byte
}

func vectors(t testing.TB) []vector {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no vectors: %v", err)
	}
	var vs []vector
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		head, body, _ := bytes.Cut(text, []byte("\n\n"))
		header := map[string]string{}
		for line := range strings.Lines(string(head)) {
			key, val, _ := strings.Cut(line, ":")
			header[key] = strings.TrimSpace(val)
		}
		for _, key := range []string{"expect", "comment", "source"} {
			if header[key] == "" {
				t.Fatalf("%s has no %s", file, key)
			}
		}
		vs = append(vs, vector{strings.TrimSuffix(filepath.Base(file), ".txt"), header["expect"], bytes.TrimSpace(body)})
	}
	return vs
}

func vectorBody(t testing.TB, name string) []byte {
	t.Helper()
	for _, v := range vectors(t) {
		if v.name == name {
			return v.body
		}
	}
	t.Fatalf("no vector %s", name)
	return nil
}

// tree reads JSON by other means than this package's, with the text of numbers.
func tree(t testing.TB, body []byte) any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return v
}

// Published samples come back with the same members, values and digits; what must be refused is refused for its reason.
func TestVectors(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t) {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			var got []byte
			switch v.expect {
			case "ok request":
				r, err := DecodeRequest(v.body)
				if err != nil {
					t.Fatal(err)
				}
				if got, err = r.Encode(); err != nil {
					t.Fatal(err)
				}
			case "ok transaction":
				tx, err := DecodeTransaction(v.body)
				if err != nil {
					t.Fatal(err)
				}
				if len(tx.Extra) != 0 {
					t.Errorf("members not known: %v", tx.Extra)
				}
				if got, err = tx.Encode(); err != nil {
					t.Fatal(err)
				}
			case "ok failure 409":
				e := (&Client{}).readFailure(http.StatusConflict, v.body)
				if e.Failure.Status() != e.Status {
					t.Errorf("%s has status %d, want %d", e.Failure, e.Failure.Status(), e.Status)
				}
				got = e.Body()
			default:
				_, err := DecodeRequest(v.body)
				e := asError(err)
				if e == nil {
					t.Fatalf("got %v, want %s", err, v.expect)
				}
				if got := strings.TrimSpace(string(e.Failure) + " " + e.Field); got != v.expect {
					t.Errorf("got %s (%v), want %s", got, err, v.expect)
				}
				if e.Status != http.StatusBadRequest || !strings.HasPrefix(e.Description, e.Field) {
					t.Errorf("got %d %q", e.Status, e.Description)
				}
				return
			}
			if diff := cmp.Diff(tree(t, v.body), tree(t, got)); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// The answers to creates have the seed's order of members, byte by byte.
func TestAnswersHaveTheSeedsOrder(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"seed-merchant-presented-answer", "seed-customer-presented-answer", "seed-refund-answer"} {
		var want bytes.Buffer
		body := vectorBody(t, name)
		if err := json.Compact(&want, body); err != nil {
			t.Fatal(err)
		}
		tx, err := DecodeTransaction(body)
		if err != nil {
			t.Fatal(err)
		}
		got, err := tx.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want.String(), string(got)); diff != "" {
			t.Errorf("%s: -want +got\n%s", name, diff)
		}
	}
	if got, want := len(refundTable.members), len(transactionTable.members); got != want {
		t.Errorf("refunds have %d members, purchases %d", got, want)
	}
}

// An answer made of an echo has exactly the members that §3.1 shows for a pending purchase (M0), an approved one (C1) and a refund (R1).
func TestEchoBeginsTheAnswer(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		request, answer string
		finish          func(tx, sample *Transaction)
	}{
		{"seed-merchant-presented-request", "seed-merchant-presented-answer", func(tx, s *Transaction) { tx.MerchantToken = s.MerchantToken }},
		{"seed-customer-presented-request", "seed-customer-presented-answer", approve},
		{"seed-refund-request", "seed-refund-answer", func(tx, s *Transaction) {
			approve(tx, s)
			tx.Provider, tx.SaleType, tx.OriginalOutTradeNumber = s.Provider, s.SaleType, s.OriginalOutTradeNumber
		}},
	} {
		r, err := DecodeRequest(vectorBody(t, tc.request))
		if err != nil {
			t.Fatal(err)
		}
		sample, err := DecodeTransaction(vectorBody(t, tc.answer))
		if err != nil {
			t.Fatal(err)
		}
		tx := r.Echo().Transaction()
		tx.OutTradeNumber, tx.Created, tx.Modified = sample.OutTradeNumber, sample.Created, sample.Modified
		tx.CompanyName, tx.MerchantName, tx.MerchantID = sample.CompanyName, sample.MerchantName, sample.MerchantID
		tx.TerminalID, tx.ClientIPAddress = sample.TerminalID, sample.ClientIPAddress
		tc.finish(&tx, sample)
		got, err := tx.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tree(t, vectorBody(t, tc.answer)), tree(t, got)); diff != "" {
			t.Errorf("%s: -want +got\n%s", tc.answer, diff)
		}
	}
}

func approve(tx, s *Transaction) {
	a, _ := (&CreateRequest{Currency: s.Currency, Amount: s.Amount}).Sum()
	tx.Approved, tx.PaymentTime, tx.SettlementBatch = new(true), s.PaymentTime, s.SettlementBatch
	tx.SettlementAmount, tx.AmountCaptured = NumberOf(a), NumberOf(a)
	tx.BuyerIdentity, tx.ProviderReference = s.BuyerIdentity, s.ProviderReference
	tx.ExchangeDetails = &ExchangeDetails{
		ExchangeRate: s.ExchangeDetails.ExchangeRate, PurchaserBillingCurrency: s.ExchangeDetails.PurchaserBillingCurrency,
		PurchaserBillingAmount: BillingOf(money.New(5, money.MustCurrency("CNY")), tx.TransactionType),
	}
}

// purchase is the seed's purchase with members replaced; an empty text leaves a member out.
func purchase(replaced ...string) []byte {
	members := [][2]string{
		{"transactionType", `"purchase"`}, {"transactionReference", `"ref-1"`}, {"currency", `"aud"`}, {"amount", "1"},
		{"provider", `"alipay"`}, {"saleType", `"merchantPresentedToken"`}, {"customerToken", ""},
		{"items", `[{"type":"sku","itemReference":"1","name":"Pen","amount":0.01,"quantity":1}]`},
	}
	return build(members, replaced)
}

func refund(replaced ...string) []byte {
	members := [][2]string{
		{"transactionType", `"refund"`}, {"transactionReference", `"ref-1-r"`}, {"currency", `"aud"`}, {"amount", "1"},
		{"originalTransactionReference", `"ref-1"`}, {"refundReason", `"other"`},
	}
	return build(members, replaced)
}

func build(members [][2]string, replaced []string) []byte {
	for i := 0; i < len(replaced); i += 2 {
		found := false
		for j := range members {
			if members[j][0] == replaced[i] {
				members[j][1], found = replaced[i+1], true
			}
		}
		if !found {
			members = append(members, [2]string{replaced[i], replaced[i+1]})
		}
	}
	var parts []string
	for _, m := range members {
		if m[1] != "" {
			parts = append(parts, fmt.Sprintf("%q:%s", m[0], m[1]))
		}
	}
	return []byte("{" + strings.Join(parts, ",") + "}")
}

func mustDecode(t testing.TB, body []byte) *CreateRequest {
	t.Helper()
	r, err := DecodeRequest(body)
	if err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return r
}

// B06 to B09, B12, B13, A10, W09: what is accepted.
func TestAccepted(t *testing.T) {
	t.Parallel()
	for provider, pays := range providerCurrencies {
		for _, cur := range pays {
			mustDecode(t, purchase("provider", `"`+provider+`"`, "currency", `"`+cur+`"`))
			mustDecode(t, purchase("provider", `"`+strings.ToUpper(provider)+`"`, "currency", `"`+strings.ToUpper(cur)+`"`))
		}
	}
	for _, saleType := range saleTypes {
		mustDecode(t, purchase("saleType", `"`+saleType+`"`, "customerToken", `"1"`))
	}
	var items []string
	for _, itemType := range itemTypes {
		amount := "1.5"
		if itemType == ItemDiscount {
			amount = "-0.50"
		}
		items = append(items, fmt.Sprintf(`{"type":%q,"itemReference":"","name":"x","amount":%s,"quantity":0.125}`, itemType, amount))
	}
	r := mustDecode(t, purchase("items", "["+strings.Join(items, ",")+"]"))
	if got := r.Items[3]; got.Amount != "-0.50" || got.Quantity != "0.125" {
		t.Errorf("got %+v", got)
	}
	for _, reason := range refundReasons {
		mustDecode(t, refund("refundReason", `"`+reason+`"`))
	}
	for _, reference := range []string{"a b", "a/b", "日本", "..", strings.Repeat("é", 255)} {
		if r := mustDecode(t, purchase("transactionReference", strictjson.Quote(reference))); r.TransactionReference != reference {
			t.Errorf("got %q, want %q", r.TransactionReference, reference)
		}
	}
	for text, want := range map[string]string{"1": "1", "1.5": "1.5", "1.50": "1.5", "1e2": "100", "0.01": "0.01"} {
		tx := mustDecode(t, purchase("amount", text)).Echo().Transaction()
		if string(tx.Amount) != want {
			t.Errorf("%s: got %s, want %s", text, tx.Amount, want)
		}
	}
	mustDecode(t, purchase("colour", `{"deep":[1,null,true]}`, "refundReason", "7"))
	for _, ip := range []string{"", "::1", "::ffff:127.0.0.1"} {
		if r := mustDecode(t, purchase("clientIpAddress", strictjson.Quote(ip))); r.ClientIPAddress == nil || *r.ClientIPAddress != ip {
			t.Errorf("got %v, want %q", r.ClientIPAddress, ip)
		}
	}
	if r := mustDecode(t, purchase("clientIpAddress", "null")); r.ClientIPAddress != nil {
		t.Errorf("got %q, want none", *r.ClientIPAddress)
	}
	if r := mustDecode(t, purchase("customerToken", `" 28 96\r\n"`)); r.CustomerToken != "28 96" {
		t.Errorf("got token %q", r.CustomerToken)
	}
}

// B11: each required field left out in turn is named; with all of them gone, the first in the documented order is.
func TestMissingFieldIsNamed(t *testing.T) {
	t.Parallel()
	check := func(body []byte, field string, f Failure) {
		t.Helper()
		_, err := DecodeRequest(body)
		if e := asError(err); e == nil || e.Field != field || e.Failure != f || !strings.Contains(e.Description, field) {
			t.Errorf("%s: got %v, want %s %s", body, err, f, field)
		}
	}
	check([]byte("{}"), "transactionType", FailInvalidRequest)
	for _, field := range []string{"transactionType", "transactionReference", "currency", "amount", "provider", "saleType", "items"} {
		check(purchase(field, ""), field, FailInvalidRequest)
		check(purchase(field, "null"), field, FailInvalidRequest)
	}
	for _, field := range []string{"transactionReference", "currency", "amount", "originalTransactionReference", "refundReason"} {
		check(refund(field, ""), field, FailInvalidRequest)
	}
	item := map[string]string{"type": `"sku"`, "itemReference": `"1"`, "name": `"Pen"`, "amount": "1", "quantity": "1"}
	for field := range item {
		var parts []string
		for name, text := range item {
			if name != field {
				parts = append(parts, strictjson.Quote(name)+":"+text)
			}
		}
		check(purchase("items", "[{"+strings.Join(parts, ",")+"}]"), "items[0]."+field, FailInvalidRequest)
	}
	check(purchase("saleType", `"customerPresentedToken"`), "customerToken", FailCustomerTokenRequired)
	check(purchase("webWidget", "{}", "provider", ""), "provider", FailInvalidRequest) // a widget counts on websites only
}

func TestRefused(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("[", 40) + strings.Repeat("]", 40)
	for name, tc := range map[string]struct {
		body []byte
		want Failure
	}{
		"amount too large":       {purchase("amount", "1e30"), FailInvalidAmount},
		"exponent":               {purchase("amount", "1e401"), FailInvalidRequest},
		"many digits":            {purchase("amount", "0."+strings.Repeat("0", 70)), FailInvalidRequest},
		"leading zero":           {purchase("amount", "01"), FailInvalidRequest},
		"no reference":           {purchase("transactionReference", `""`), FailInvalidRequest},
		"long reference":         {purchase("transactionReference", strictjson.Quote(strings.Repeat("x", 256))), FailInvalidRequest},
		"long token":             {purchase("customerToken", strictjson.Quote(strings.Repeat("1", 1025))), FailInvalidRequest},
		"no items":               {purchase("items", "[]"), FailInvalidRequest},
		"items as object":        {purchase("items", "{}"), FailInvalidRequest},
		"item as number":         {purchase("items", "[1]"), FailInvalidRequest},
		"deep":                   {purchase("x", deep), FailInvalidRequest},
		"many values":            {purchase("x", "["+strings.Repeat("1,", limits.Values)+"1]"), FailInvalidRequest},
		"long body":              {purchase("x", strictjson.Quote(strings.Repeat("x", BodyMax))), FailRequestTooLarge},
		"nul":                    {purchase("x", `"\u0000"`), FailInvalidRequest},
		"control":                {purchase("x", "\"\x01\""), FailInvalidRequest},
		"escape":                 {purchase("x", `"\x41"`), FailInvalidRequest},
		"empty":                  {nil, FailInvalidRequest},
		"byte order mark":        {append([]byte("\xef\xbb\xbf"), purchase()...), FailInvalidRequest},
		"unfinished":             {purchase()[:40], FailInvalidRequest},
		"refund type case":       {refund("transactionType", `"Refund"`), FailInvalidRequest},
		"foreign letter":         {purchase("provider", `"zippaſ"`), FailUnsupportedProvider},
		"billing of another way": {purchase("saleType", `"website"`, "billing", `{"city":7}`), FailInvalidRequest},
		"widget of text":         {purchase("saleType", `"website"`, "webWidget", `"zippay"`, "provider", ""), FailInvalidRequest},
	} {
		_, err := DecodeRequest(tc.body)
		if e := asError(err); e == nil || e.Failure != tc.want {
			t.Errorf("%s: got %v, want %s", name, err, tc.want)
		}
	}
}

// The bounds of a basket are inclusive.
func TestItemCount(t *testing.T) {
	t.Parallel()
	item := `{"type":"sku","itemReference":"1","name":"Pen","amount":0.01,"quantity":1},`
	mustDecode(t, purchase("items", "["+strings.TrimSuffix(strings.Repeat(item, itemsMax), ",")+"]"))
	_, err := DecodeRequest(purchase("items", "["+strings.TrimSuffix(strings.Repeat(item, itemsMax+1), ",")+"]"))
	if e := asError(err); e == nil || e.Field != "items" {
		t.Errorf("got %v", err)
	}
}

// Every refusal of §5 has a status, and every decline has none.
func TestFailureStatuses(t *testing.T) {
	t.Parallel()
	for f, status := range statuses {
		if status < 400 || f.Status() != status {
			t.Errorf("%s: %d", f, status)
		}
	}
	if got := FailInsufficientFunds.Status(); got != 0 {
		t.Errorf("a decline has status %d", got)
	}
}

// Unknown members and values, and members of another type, are carried through; money-bearing ones of another type are an error (K09).
func TestTransactionIsReadTolerantly(t *testing.T) {
	t.Parallel()
	body := []byte(`{"transactionReference":"r","transactionType":"purchase","amount":1.00,"currency":"aud","provider":"applePay",
		"items":[{"type":"sku","itemReference":"1","name":"Pen","amount":1,"quantity":1,"colour":"red"}],
		"outTradeNumber":"1","modified":1,"created":1,"cancelled":false,"settlementAmount":0,"companyName":"","merchantName":"",
		"merchantId":7,"terminalId":"1","clientIpAddress":"","tags":[{"a":1}],"amountCaptured":0,"canCaptureMore":false,
		"discountTags":[],"exchangeDetails":{"fee":0.1},"loyalty":{"points":12}}`)
	tx, err := DecodeTransaction(body)
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(tx)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(tree(t, body), tree(t, got)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	for _, bad := range []string{`"approved":"true"`, `"cancelled":0`, `"amount":"1"`, `"transactionReference":7`} {
		if _, err := DecodeTransaction([]byte(`{"transactionReference":"r",` + bad + `}`)); err == nil {
			t.Errorf("%s was accepted", bad)
		}
	}
	tx, err = DecodeTransaction([]byte(`{"transactionReference":"r","approved":null,"cancelled":null}`))
	if err != nil || !tx.Pending() {
		t.Errorf("null is not absent: %+v, %v", tx, err)
	}
}

func TestEncodeRefusesWhatIsNoJSON(t *testing.T) {
	t.Parallel()
	for name, tx := range map[string]Transaction{
		"number": {Amount: `1,"approved":true`},
		"raw":    {Tags: []json.RawMessage{[]byte("x")}},
		"extra":  {Extra: map[string]json.RawMessage{"x": []byte("1,2")}},
		"billed": {ExchangeDetails: &ExchangeDetails{PurchaserBillingAmount: BillingAmount{Text: "1 2"}}},
	} {
		if got, err := tx.Encode(); err == nil {
			t.Errorf("%s: got %s", name, got)
		}
	}
}

// Paid is approved and not cancelled, and nothing else (§4).
func TestPaid(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		approved        *bool
		cancelled       bool
		paid, isPending bool
	}{
		{nil, false, false, true},
		{nil, true, false, false},
		{new(true), false, true, false},
		{new(true), true, false, false},
		{new(false), false, false, false},
		{new(false), true, false, false},
	} {
		tx := Transaction{Approved: tc.approved, Cancelled: tc.cancelled}
		if tx.Paid() != tc.paid || tx.Pending() != tc.isPending {
			t.Errorf("%+v: paid %v, pending %v", tc, tx.Paid(), tx.Pending())
		}
	}
}

// What is kept for later answers holds no card token and no widget, and comes back as it was.
func TestEchoIsFitForStorage(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"v10-request", "v11-request", "v03-request", "v04-request"} {
		r := mustDecode(t, vectorBody(t, name))
		stored, err := r.Echo().Encode()
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(stored, []byte("ct_4f")) || bytes.Contains(stored, []byte("webWidget")) {
			t.Errorf("%s: stored %s", name, stored)
		}
		back, err := DecodeEcho(stored)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(r.Echo(), back); diff != "" {
			t.Errorf("%s: -want +got\n%s", name, diff)
		}
	}
}

// A request that is accepted is JSON to everybody, its echo is stable, and its own bytes mean the same.
func FuzzDecodeRequest(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(v.body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := DecodeRequest(body)
		if err != nil {
			if asError(err) == nil || !json.Valid(asError(err).Body()) {
				t.Fatalf("not an *Error with a body: %v", err)
			}
			return
		}
		if !json.Valid(body) {
			t.Fatalf("accepted %q", body)
		}
		stored, err := r.Echo().Encode()
		if err != nil {
			t.Fatal(err)
		}
		echo, err := DecodeEcho(stored)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(r.Echo(), echo); diff != "" {
			t.Fatalf("echo: -want +got\n%s", diff)
		}
		if d := Differences(r.Echo(), echo); d != nil {
			t.Fatalf("echo differs in %v", d)
		}
		again, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		r2, err := DecodeRequest(again)
		if asError(err) != nil && asError(err).Status == http.StatusRequestEntityTooLarge {
			return // escapes can make it longer
		}
		if err != nil || !bytes.Equal(r.Canonical(), r2.Canonical()) {
			t.Fatalf("%q: %v; canonical %q, then %q", again, err, r.Canonical(), r2.Canonical())
		}
		tx := r.Echo().Transaction()
		if _, err := tx.Encode(); err != nil {
			t.Fatal(err)
		}
	})
}

// An answer that can be read can be written, and then stays as it is.
func FuzzDecodeTransaction(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(v.body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		tx, err := DecodeTransaction(body)
		if err != nil {
			return
		}
		once, err := tx.Encode()
		if err != nil {
			t.Fatal(err)
		}
		tx2, err := DecodeTransaction(once)
		var syntax *strictjson.Error
		if errors.As(err, &syntax) && strings.Contains(syntax.Reason, "too many values") {
			return // members that are always written were added
		}
		if err != nil {
			t.Fatalf("%q: %v", once, err)
		}
		twice, err := tx2.Encode()
		if err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%v\n%s\n%s", err, once, twice)
		}
		if tx.Paid() != tx2.Paid() || tx.Pending() != tx2.Pending() {
			t.Fatalf("state changed: %s", once)
		}
	})
}

func BenchmarkDecodeRequest(b *testing.B) {
	body := vectorBody(b, "seed-customer-presented-request")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeRequest(body); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncodeTransaction(b *testing.B) {
	tx, err := DecodeTransaction(vectorBody(b, "seed-customer-presented-answer"))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := tx.Encode(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkMemo is what the echo costs: a create makes it, and each later answer reads it.
func BenchmarkMemo(b *testing.B) {
	r := mustDecode(b, vectorBody(b, "seed-customer-presented-request"))
	b.ReportAllocs()
	for b.Loop() {
		stored, err := memoOf(r, payment.Caller{}, "203.0.113.20").encode()
		if err != nil {
			b.Fatal(err)
		}
		if _, err := readMemo(stored); err != nil {
			b.Fatal(err)
		}
	}
}

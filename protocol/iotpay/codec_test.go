package iotpay

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/tillgate/tillgate/payment"
)

// vector is one file of testdata: header lines, an empty line, the bytes of the wire.
type vector struct {
	name string
	head map[string]string
	body []byte
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
		v := vector{strings.TrimSuffix(filepath.Base(file), ".txt"), map[string]string{}, bytes.TrimSpace(body)}
		for line := range strings.Lines(string(head)) {
			key, val, _ := strings.Cut(line, ": ")
			v.head[key] = strings.TrimSpace(val)
		}
		for _, key := range []string{"expect", "comment", "source"} {
			if v.head[key] == "" {
				t.Fatalf("%s has no %s", file, key)
			}
		}
		vs = append(vs, v)
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

func mustParse(t testing.TB, body []byte) Params {
	t.Helper()
	p, err := ParseObject(body)
	if err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return p
}

// Every published or computed message is read, signed and written as the document says.
func TestVectors(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t) {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			key := Key{}
			if text := v.head["key"]; text != "" {
				key = mustKey(t, text)
			}
			switch expect, about, _ := strings.Cut(v.head["expect"], " "); expect {
			case "sign":
				testSign(t, v, key)
			case "verify":
				if _, ok := Verify(mustParse(t, v.body), key); !ok {
					t.Error("the signature is not accepted")
				}
			case "request":
				testRequest(t, v, key, mustParse(t, vectorBody(t, about)))
			case "answer":
				testAnswer(t, v, key)
			case "notice":
				testNotice(t, v, key)
			case "failure":
				_, err := (&Client{Unverified: true}).readAnswer(v.body)
				if e, ok := err.(*Error); !ok || string(e.Code) != about || e.Message != "signature fail" {
					t.Errorf("got %v", err)
				}
			case "ok":
				testPublished(t, v, about)
			case "refused":
				list, err := readings(formType, "", v.body)
				if len(list) > 0 || err == nil {
					t.Errorf("read as %v", list)
				}
			default:
				t.Errorf("expect: %s", expect)
			}
		})
	}
}

func mustKey(t testing.TB, text string) Key {
	t.Helper()
	k, err := NewKey(text)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func testSign(t *testing.T, v vector, key Key) {
	p := mustParse(t, v.body)
	if got := string(p.canonical(variant{})); got != v.head["canonical"] {
		t.Errorf("canonical form\n got %s\nwant %s", got, v.head["canonical"])
	}
	want := v.head["sign"]
	if got := Sign(p, key); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for i, c := range want { // Every changed character is noticed; its case is not.
		other := "0"
		if c == '0' {
			other = "1"
		}
		forged := append(without(p, signName), Param{Name: signName, Text: want[:i] + other + want[i+1:]})
		if _, ok := Verify(forged, key); ok {
			t.Errorf("accepted with another character at %d", i)
		}
	}
	if _, ok := Verify(append(without(p, signName), Param{Name: signName, Text: strings.ToLower(want)}), key); !ok {
		t.Error("refused in lower case")
	}
	if _, ok := Verify(append(without(p, signName), Param{Name: signName, Text: want}), mustKey(t, "another key")); ok {
		t.Error("accepted under another key")
	}
	if _, ok := Verify(append(without(p, signName), Param{Name: signName, Text: want}), Key{}); ok {
		t.Error("accepted without a key")
	}
}

func testRequest(t *testing.T, v vector, key Key, want Params) {
	list, err := readings(formType+";charset=UTF-8", "", v.body)
	if len(list) == 0 {
		t.Fatal(err)
	}
	for _, p := range list {
		if as, ok := Verify(p, key); ok {
			if diff := cmp.Diff(without(want, signName), without(as, signName)); diff != "" {
				t.Error(diff)
			}
			return
		}
	}
	t.Error("no reading whose signature fits")
}

func testAnswer(t *testing.T, v vector, key Key) {
	p := mustParse(t, v.body)
	if got := Sign(p, key); got != v.head["sign"] {
		t.Errorf("got %s, want %s", got, v.head["sign"])
	}
	if !VerifyAnswer(p, key) {
		t.Error("variant N is refused")
	}
	x := append(without(p, signName), Param{Name: signName, Text: v.head["without-objects"]})
	if !VerifyAnswer(x, key) {
		t.Error("variant X is refused")
	}
	x[len(x)-1].Text = strings.Repeat("A", 32)
	if VerifyAnswer(x, key) {
		t.Error("a wrong signature is accepted")
	}
	o, err := orderIn(p)
	if err != nil {
		t.Fatal(err)
	}
	extra, err := o.Card()
	if err != nil {
		t.Fatal(err)
	}
	if got := extra.JSON(); got != o.Extra {
		t.Errorf("extra\n got %s\nwant %s", got, o.Extra)
	}
	a := &object{params: without(p, signName)} // Written again, every byte is the same.
	for i, q := range a.params {
		if q.Name == "payOrder" {
			a.params[i].Text = string(o.JSON())
		}
	}
	a.sign(key)
	if got := a.bytes(); !bytes.Equal(got, v.body) {
		t.Errorf("written again\n got %s\nwant %s", got, v.body)
	}
}

func testNotice(t *testing.T, v vector, key Key) {
	for _, at := range []struct{ query, body string }{{string(v.body), ""}, {"", string(v.body)}, {string(v.body), string(v.body)}} {
		p, err := ReadNotice(at.query, []byte(at.body), key)
		if err != nil {
			t.Fatal(err)
		}
		unsigned := without(p, signName)
		n := payment.Notice{URL: "https://shop.example/iotpay/notify", Body: []byte(unsigned.form())}
		d, err := SignNotice(n, key, InBoth)
		if err != nil {
			t.Fatal(err)
		}
		if string(d.Body) != string(v.body) || d.URL != n.URL+"?"+string(v.body) {
			t.Errorf("sent\n %s\n %s\nwant %s", d.URL, d.Body, v.body)
		}
	}
	if _, err := ReadNotice(string(v.body), nil, mustKey(t, "another key")); err == nil {
		t.Error("accepted under another key")
	}
}

func testPublished(t *testing.T, v vector, about string) {
	p := mustParse(t, v.body)
	switch about {
	case "request":
		var o CreateOrder
		ch, _ := channelOf(p.Get("channelId"))
		if err := read(p, o.fields(ch), true); err != nil {
			t.Fatal(err)
		}
		for _, q := range params(o.fields(ch)) {
			if p.Get(q.Name) != q.Text {
				t.Errorf("%s: got %q, want %q", q.Name, q.Text, p.Get(q.Name))
			}
		}
	case "answer":
		o, err := orderIn(p)
		if err != nil {
			t.Fatal(err)
		}
		var compact bytes.Buffer
		if err := compactJSON(&compact, []byte(p.Get("payOrder"))); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(compact.String(), string(o.JSON())); diff != "" {
			t.Error(diff)
		}
		if o.Status != StatusFailed || o.Status.Paid() {
			t.Errorf("status %d", o.Status)
		}
		x, err := o.Card()
		if err != nil || x.ReceiptDisp != "Transaction Not Completed 05" {
			t.Errorf("extra %+v, %v", x, err)
		}
	case "extra":
		x := &Extra{}
		if err := readMembers(p, x.members()); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(v.body), x.JSON()); diff != "" {
			t.Error(diff)
		}
	}
}

// TestReadings are the ways of §3.0, beside the vectors.
func TestReadings(t *testing.T) {
	t.Parallel()
	object := `{"mchId":"1","body":"a+b%20c"}`
	for name, c := range map[string]struct {
		media, query, body string
		want               string // body of the first reading; empty for none.
	}{
		"a JSON body":                             {"application/json; charset=utf-8", "", object, "a+b%20c"},
		"a form with params":                      {formType, "", "params=%7B%22mchId%22%3A%221%22%2C%22body%22%3A%22x+y%22%7D", "x y"},
		"a form with params and another field":    {formType, "", "x=1&params=%7B%22mchId%22%3A%221%22%2C%22body%22%3A%22x%22%7D", "x"},
		"a raw form: the decoded reading first":   {formType, "", "params=" + object, "a b c"},
		"no media type":                           {"", "", "params=" + object, "a b c"},
		"the form's fields themselves":            {formType, "", "mchId=1&body=x+y", "x y"},
		"params in the query string":              {formType, "params=%7B%22body%22%3A%22q%22%7D", "", "q"},
		"a line end behind the body":              {formType, "", "params=" + object + "\r\n", "a b c"},
		"a broken percent escape, raw":            {formType, "", `params={"body":"100%"}`, "100%"},
		"nothing":                                 {formType, "", "", ""},
		"blanks only":                             {formType, "", " \n", ""},
		"JSON under the form's media type":        {formType, "", object + "&", ""},
		"a broken percent escape without params":  {formType, "", "mchId=1&body=100%", ""},
		"a JSON media type with a form":           {"application/json", "", "params=" + object, ""},
		"params twice in the query string":        {formType, "params={}&params={}", "", ""},
		"an ampersand bomb":                       {formType, "", strings.Repeat("a=1&", 200), ""},
		"a member bomb":                           {formType, "", "params={" + members(200) + "}", ""},
		"nesting":                                 {formType, "", "params={\"a\":" + strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000) + "}", ""},
		"a value that is too long":                {formType, "", `params={"a":"` + strings.Repeat("x", textMax+1) + `"}`, ""},
		"a name that is too long":                 {formType, "", `params={"` + strings.Repeat("x", nameMax+1) + `":1}`, ""},
		"an unknown parameter that is an object":  {formType, "", `params={"body":"x","more":{"a":[1, 2]}}`, "x"},
		"half a surrogate pair is replaced":       {formType, "", `params={"body":"\ud800"}`, "\ufffd"},
		"names are compared to the letter":        {formType, "", `params={"body":"x","BODY":"y"}`, "x"},
		"a null is no text":                       {formType, "", `params={"body":"x","a":null}`, "x"},
		"true is a value":                         {formType, "", `params={"body":true}`, "true"},
		"an exponent is a number, but no amount":  {formType, "", `params={"body":1e5}`, "1e5"},
		"a control character must be escaped":     {formType, "", "params={\"body\":\"a\nb\"}", ""},
		"two objects":                             {formType, "", "params={}{}", ""},
		"the number of fields is what is counted": {formType, "", strings.Repeat("&", 300) + "mchId=1", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			list, _ := readings(c.media, c.query, []byte(c.body))
			got := ""
			if len(list) > 0 {
				got = list[0].Get("body")
			}
			if got != c.want {
				t.Errorf("got %q of %v, want %q", got, list, c.want)
			}
		})
	}
}

func members(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `"a%d":1,`, i)
	}
	return strings.TrimSuffix(b.String(), ",")
}

func TestCents(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{"1": 1, "2865": 2865, "0": 0, "1000.0": 1000, "1000.00": 1000, "999999999999": centsMax, "007": 7} {
		if got, err := cents(text); err != nil || got != want {
			t.Errorf("%s: got %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "-1", "+1", "1.5", "1.", ".0", "1e3", "0x10", "１", "9999999999999", "1 ", "NaN", "1,000", "1000.01"} {
		if got, err := cents(text); err == nil {
			t.Errorf("%q: got %d", text, got)
		}
	}
}

// TestQuoteKeepsWhatIsSigned: & < > are not escaped, so that other JSON libraries sign the same bytes (§2.5).
func TestQuoteKeepsWhatIsSigned(t *testing.T) {
	t.Parallel()
	if got, want := quote("a&b<c>\"\\é\n"), `"a&b<c>\"\\é\n"`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestOrderShapes: an order is found in all three places where it may stand (§3.6), with its times in all three forms (§3.1).
func TestOrderShapes(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"payOrder":             `{"status":9,"payOrder":{"status":2,"paySuccTime":1772384409000},"result":{"status":9}}`,
		"result":               `{"status":9,"result":{"status":"2","paySuccTime":"1772384409000"}}`,
		"the top":              `{"status":2,"paySuccTime":"2026-03-01 17:00:09","rate":0.5}`,
		"a rate with decimals": `{"payOrder":{"status":2,"rate":5.27,"paySuccTime":1772384409000}}`,
	} {
		o, err := orderIn(mustParse(t, []byte(text)))
		if err != nil || o.Status != StatusPaid || o.PaySuccTime != 1772384409000 {
			t.Errorf("%s: %+v, %v", name, o, err)
		}
	}
	for _, text := range []string{`{"payOrder":"text"}`, `{"payOrder":{"status":"two"}}`, `{"payOrder":[]}`, `{"result":{"paySuccTime":"soon"}}`,
		`{"status":{}}`, `{"payOrder":{"status":1,"status":2}}`} {
		if o, err := orderIn(mustParse(t, []byte(text))); err == nil {
			t.Errorf("%s: %+v", text, o)
		}
	}
	if o, err := orderIn(Params{}); err != nil || o.Status.Final() {
		t.Errorf("no order: %+v, %v", o, err)
	}
}

func FuzzReadings(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(formType, "", v.body)
		f.Add("application/json", "", v.body)
	}
	key := mustKey(f, "k")
	f.Fuzz(func(t *testing.T, media, query string, body []byte) {
		list, _ := readings(media, query, body)
		for _, p := range list {
			again, err := ParseObject((&object{params: p}).bytes()) // What was read can be written, and reads the same.
			if err != nil {
				t.Fatalf("%q: %v", (&object{params: p}).bytes(), err)
			}
			if Sign(again, key) != Sign(p, key) {
				t.Fatalf("signed otherwise: %q", (&object{params: p}).bytes())
			}
			Verify(append(without(p, signName), Param{Name: signName, Text: strings.Repeat("A", 32)}), key)
			var o CreateOrder
			_ = read(p, o.fields(channels[0]), true)
		}
	})
}

func FuzzAnswer(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(v.body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		a, err := (&Client{Unverified: true}).readAnswer(body)
		if err != nil {
			return
		}
		o, err := orderIn(a)
		if err != nil {
			return
		}
		again, err := ParsePayOrder(o.JSON())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(o, again); diff != "" {
			t.Fatal(diff)
		}
		_, _ = o.Card()
	})
}

func FuzzNotice(f *testing.F) {
	f.Add("", vectorBody(f, "s13-wire-notice"))
	f.Fuzz(func(t *testing.T, query string, body []byte) {
		if p, err := ReadNotice(query, body, mustKey(t, "k")); err == nil && p.Get(signName) == "" {
			t.Fatal("accepted without a signature")
		}
	})
}

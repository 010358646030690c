package qfpay

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestLenientGrammar(t *testing.T) {
	t.Parallel()
	const want = "{amt=10.1,channel='wx',func_type=1001}"
	for name, text := range map[string]string{
		"JSON":                  `{"amt":10.1,"channel":"wx","func_type":1001}`,
		"single quotes":         `{'amt':10.1,'channel':'wx','func_type':1001}`,
		"no quotes":             `{amt:10.1,channel:wx,func_type:1001}`,
		"the canonical form":    want,
		"arrows and semicolons": `{amt=>10.1;channel=>'wx';func_type=>1001}`,
		"blanks everywhere":     " {\n amt = 10.1 ,\t'channel' :\r\n \"wx\", func_type : 1001 } ",
		"escapes":               `{"amt":10.1,"channel":"\u0077x","func_type":1001}`,
		"another order":         `{"func_type":1001,"channel":"wx","amt":10.1}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			members, err := parseObject(text)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := canonical(members); err != nil || got != want {
				t.Errorf("got %s, %v; want %s", got, err, want)
			}
		})
	}
}

func TestCanonicalValues(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{}`:                             `{}`,
		`{"a":null}`:                     `{a=''}`,
		`{"a":""}`:                       `{a=''}`,
		`{"a":100}`:                      `{a=100}`,
		`{"a":10.10}`:                    `{a=10.10}`, // The digits that came, not a float written anew.
		`{"a":1e2}`:                      `{a=1e2}`,
		`{"a":-0}`:                       `{a=-0}`,
		`{"a":true}`:                     `{a=true}`,
		`{"a":"1001"}`:                   `{a='1001'}`,
		`{"a":"單號-9"}`:                   `{a='單號-9'}`,
		`{"a":"\ud83d\ude00"}`:           `{a='😀'}`,
		`{"a":"it\'s"}`:                  `{a='it's'}`,
		`{a:01}`:                         `{a='01'}`, // No number of JSON.
		`{b:1,B:2,a_b:3,aB:4}`:           `{B=2,aB=4,a_b=3,b=1}`,
		`{"a":"tab\there, \"quoted\""}`:  "{a='tab\there, \"quoted\"'}",
		`{moveToBack:1,"orderId":'x/n'}`: `{moveToBack=1,orderId='x/n'}`,
	} {
		members, err := parseObject(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got, err := canonical(members); err != nil || got != want {
			t.Errorf("%s: got %s, %v; want %s", text, got, err, want)
		}
	}
}

func TestGrammarRefuses(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"nothing":             ``,
		"a list":              `[]`,
		"a text":              `"a"`,
		"torn":                `{"a":1`,
		"torn text":           `{"a":"b`,
		"torn escape":         `{"a":"\`,
		"wrong escape":        `{"a":"\x"}`,
		"torn code point":     `{"a":"\u00"}`,
		"half a pair":         `{"a":"\ud83d"}`,
		"half of it reversed": `{"a":"\ude00\ud83d"}`,
		"no value":            `{"a":}`,
		"no name":             `{:1}`,
		"no separator":        `{"a" 1}`,
		"a comma too many":    `{"a":1,}`,
		"something behind":    `{"a":1}x`,
		"two objects":         `{}{}`,
		"a name twice":        `{"a":1,"a":2}`,
		"too deep":            strings.Repeat(`{"a":`, 50) + `1` + strings.Repeat(`}`, 50),
		"too many members":    `{` + members(100) + `}`,
		"not UTF-8":           "{\"a\":\"\xff\"}",
		"too long":            `{"a":"` + strings.Repeat("x", payloadMax) + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got, err := parseObject(text); err == nil {
				t.Errorf("read as %v", got)
			}
		})
	}
	for _, text := range []string{`{"a":"x',b='y"}`, `{"a=1,b":2}`, `{"a'":1}`} { // As if they were two fields.
		members, err := parseObject(text)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := canonical(members); err == nil {
			t.Errorf("%s has the canonical form %s", text, got)
		}
	}
	nested, err := parseObject(`{"a":{"b":1},"c":[1,'2';three]}`)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := canonical(nested); err == nil {
		t.Errorf("an object in the object has the canonical form %s", got)
	}
}

func members(n int) string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf("m%d:1", i))
	}
	return strings.Join(all, ",")
}

// contentCases are requests that are right in form and wrong in content.
func TestParameters(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, content string
		path          FuncType
		fault         string // A part of it; empty for none.
	}{
		{"a sale", "{func_type:1001,amt:10.1,channel:wx}", 0, ""},
		{"a func_type as text", "{func_type:'1001',amt:10.1,channel:wx}", 0, ""},
		{"an amount as text", "{func_type:1001,amt:'10.10',channel:wx}", 0, ""},
		{"an amount with an exponent", "{func_type:1001,amt:1.01E1,channel:wx}", 0, ""},
		{"unknown fields", "{func_type:1001,amt:1,channel:wx,whatever:[1]}", 0, ""},
		{"the path's func_type", "{amt:10.1,channel:wx}", FuncPayment, ""},
		{"the same func_type as the path's", "{func_type:1001,amt:10.1,channel:wx}", FuncPayment, ""},
		{"another func_type than the path's", "{func_type:5001}", FuncPayment, "func_type 5001 does not belong"},
		{"no func_type", "{amt:10.1,channel:wx}", 0, "func_type is missing"},
		{"an unknown func_type", "{func_type:9999}", 0, "func_type 9999 is not known"},
		{"a func_type in words", "{func_type:pay}", 0, "func_type must be a whole number"},
		{"a broken func_type", "{func_type:1001.5}", 0, "func_type must be a whole number"},
		{"a null func_type", "{func_type:null,amt:1,channel:wx}", 0, "func_type is missing"},
		{"no amount", "{func_type:1001,channel:wx}", 0, "amt is missing"},
		{"an amount of nothing", "{func_type:1001,amt:0,channel:wx}", 0, "amt must be above 0"},
		{"an amount below nothing", "{func_type:1001,amt:-1,channel:wx}", 0, "amt must be above 0"},
		{"three decimals", "{func_type:1001,amt:1.001,channel:wx}", 0, "too many decimals"},
		{"a hundredth of nothing", "{func_type:1001,amt:1e-30,channel:wx}", 0, "too many decimals"},
		{"too large an amount", "{func_type:1001,amt:10000000,channel:wx}", 0, "at most 9999999.99"},
		{"an endless amount", "{func_type:1001,amt:1e999,channel:wx}", 0, "amt must be an amount"},
		{"an amount in words", "{func_type:1001,amt:ten,channel:wx}", 0, "amt must be an amount"},
		{"an amount that is an object", "{func_type:1001,amt:true,channel:wx}", 0, "amt must be a text"},
		{"no channel", "{func_type:1001,amt:1}", 0, "channel is missing"},
		{"an unknown channel", "{func_type:1001,amt:1,channel:cash}", 0, `channel "cash" is not known`},
		{"a channel in capitals", "{func_type:1001,amt:1,channel:WX}", 0, `channel "WX" is not known`},
		{"a long out_trade_no", "{func_type:1001,amt:1,channel:wx,out_trade_no:'" + strings.Repeat("é", 128) + "'}", 0, ""},
		{"too long an out_trade_no", "{func_type:1001,amt:1,channel:wx,out_trade_no:'" + strings.Repeat("é", 129) + "'}", 0, "out_trade_no must have"},
		{"an out_trade_no of two lines", `{func_type:1001,amt:1,channel:wx,out_trade_no:"a\nb"}`, 0, "control characters"},
		{"an out_trade_no of digits", "{func_type:1001,amt:1,channel:wx,out_trade_no:456799999999}", 0, ""},
		{"an unknown camera", "{func_type:1001,amt:1,channel:wx,camera_id:2}", 0, "camera_id must be 0 or 1"},
		{"an unknown moveToBack", "{func_type:1001,amt:1,channel:wx,moveToBack:-1}", 0, "moveToBack must be 0 or 1"},
		{"an unknown scan_type", "{func_type:1001,amt:1,channel:wx,scan_type:SCAN}", 0, "scan_type must be"},
		{"FPS by the customer's code", "{func_type:1001,amt:1,channel:fps,scan_type:SCAN_PAY}", 0, "not possible with fps"},
		{"FPS by our code", "{func_type:1001,amt:1,channel:fps,scan_type:QRCODE_PAY}", 0, ""},
		{"a card with a scan_type, as in the seed", "{func_type:1001,amt:1,channel:card_payment,scan_type:SCAN_PAY}", 0, ""},
		{"a payment_timeout of nothing", "{func_type:1001,amt:1,channel:wx,payment_timeout:0}", 0, "payment_timeout must be"},
		{"a payment_timeout of an hour", "{func_type:1001,amt:1,channel:wx,payment_timeout:3600}", 0, "payment_timeout must be"},
		{"a wait_card_timeout of an hour", "{func_type:1001,amt:1,channel:card_payment,wait_card_timeout:3600}", 0, "wait_card_timeout must be"},
		{"a refund", "{func_type:1002,orderId:'1',refund_amount:'0.05',allow_modify_flag:1,moveToBack:1}", 0, ""},
		{"a refund of all", "{func_type:1002,orderId:'1',refund_amount:''}", 0, ""},
		{"a refund of nothing", "{func_type:1002,orderId:'1',refund_amount:'0'}", 0, "refund_amount must be above 0"},
		{"a refund without an order", "{func_type:1002}", 0, "orderId is missing"},
		{"an unknown allow_modify_flag", "{func_type:1002,orderId:'1',allow_modify_flag:2}", 0, "allow_modify_flag must be 0 or 1"},
		{"a receipt", "{func_type:3001,orderId:'1'}", 0, ""},
		{"a receipt of no order", "{func_type:3001}", 0, "orderId is missing"},
		{"a summary", "{func_type:3002}", 0, ""},
		{"an inquiry by our number", "{func_type:4001,orderId:'1'}", 0, ""},
		{"an inquiry by theirs", "{func_type:4001,out_trade_no:'1'}", 0, ""},
		{"an inquiry by none", "{func_type:4001}", 0, "orderId or out_trade_no is needed"},
		{"a cancel", "{func_type:5001}", 0, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			members, err := parseObject(tc.content)
			if err != nil {
				t.Fatal(err)
			}
			_, err = decodeContent(members, tc.path)
			if tc.fault == "" && err != nil || tc.fault != "" && (err == nil || !strings.Contains(err.Error(), tc.fault)) {
				t.Errorf("got %v, want %q", err, tc.fault)
			}
		})
	}
}

// QFPay seed, Timeout; §4.1.
func TestTimeouts(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		content string
		want    time.Duration
	}{
		{"channel:card_payment", 120 * time.Second},
		{"channel:card_payment,wait_card_timeout:30", 30 * time.Second},
		{"channel:card_payment,wait_card_timeout:0", 120 * time.Second},
		{"channel:card_payment,wait_card_timeout:-5", 120 * time.Second},
		{"channel:card_payment,payment_timeout:60,wait_card_timeout:30", 60 * time.Second},
		{"channel:card_payment,payment_timeout:600", 600 * time.Second},
		{"channel:alipay", 120 * time.Second},
		{"channel:alipay,wait_card_timeout:30", 120 * time.Second},
		{"channel:alipay,payment_timeout:45", 45 * time.Second},
		{"channel:alipay,payment_timeout:'45'", 45 * time.Second},
		{"channel:alipay,payment_timeout:600", 600 * time.Second},
		{"channel:payme,payment_timeout:600", 120 * time.Second},
		{"channel:payme,payment_timeout:60", 60 * time.Second},
		{"channel:payme", 120 * time.Second},
	} {
		members, err := parseObject("{func_type:1001,amt:1," + tc.content + "}")
		if err != nil {
			t.Fatal(err)
		}
		if c, err := decodeContent(members, 0); err != nil || c.timeout != tc.want {
			t.Errorf("%s: %v, %v; want %v", tc.content, c.timeout, err, tc.want)
		}
	}
}

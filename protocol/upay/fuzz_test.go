package upay_test

import (
	"bytes"
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tillgate/tillgate/protocol/upay"
	"github.com/tillgate/tillgate/terminal"
)

// stable is the property of a request's codec: what was read, written and read again is the same.
func stable[T interface{ Encode() []byte }](t *testing.T, body []byte, decode func([]byte) (T, error)) {
	t.Helper()
	r, err := decode(body)
	if err != nil {
		return
	}
	text := r.Encode()
	again, err := decode(text)
	if err != nil {
		t.Fatalf("%s does not read %s: %v", body, text, err)
	}
	if !bytes.Equal(text, again.Encode()) {
		t.Fatalf("%s became %s and then %s", body, text, again.Encode())
	}
}

func FuzzRequests(f *testing.F) {
	for _, v := range vectors(f) {
		f.Add(v.body)
	}
	f.Add([]byte(`{"terminal_sn":1,"client_sn":"2","total_amount":125e1,"dynamic_id":28,"subject":"\ud83d\ude00","extended":{"a":{"b":[1]}},"goods_details":[{}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		stable(t, body, upay.DecodePay)
		stable(t, body, upay.DecodePrecreate)
		stable(t, body, upay.DecodeQuery)
		stable(t, body, upay.DecodeRefund)
		stable(t, body, upay.DecodeCancel)
		stable(t, body, upay.DecodeActivate)
		stable(t, body, upay.DecodeCheckIn)
		_ = upay.AcceptedCallback(200, body)
	})
}

func FuzzEnvelope(f *testing.F) {
	f.Add([]byte(`{"result_code":"200","error_code":"","error_message":"","biz_response":{"result_code":"PAY_SUCCESS","error_code":"","error_message":"","data":{"sn":"7899000000000001","total_amount":"1250","net_amount":1250,"payment_list":[{"type":"WALLET_WEIXIN","amount_total":"1250"}],"wap_pay_request":{"a":1},"new":null,"other":[{}]}}}`))
	f.Add([]byte(`{"result_code":"200","biz_response":{"terminal_sn":"1","terminal_key":"k","data":{"terminal_sn":"1"}}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		e, err := upay.DecodeEnvelope(body)
		if err != nil {
			return
		}
		text := e.Encode()
		again, err := upay.DecodeEnvelope(text)
		if err != nil {
			t.Fatalf("%s does not read %s: %v", body, text, err)
		}
		if second := again.Encode(); !bytes.Equal(text, second) {
			t.Fatalf("%s became %s and then %s", body, text, second)
		}
	})
}

func FuzzAuthorization(f *testing.F) {
	f.Add("100900010000000001 934f6fc234f6d49111d115b0c3d0d916", []byte("x"))
	f.Add("", []byte(nil))
	f.Fuzz(func(t *testing.T, header string, body []byte) {
		sn, sign, ok := upay.ParseAuthorization(header)
		if ok && (sn == "" || len(sign) != 32) {
			t.Fatalf("%q: %q %q", header, sn, sign)
		}
		if upay.VerifyCallback(header, body, &testKey().PublicKey) == nil {
			t.Fatalf("%q verified", header)
		}
		if ok && upay.Verify(body, sign, terminal.Secret{}) {
			t.Fatalf("%q verified without a key", header)
		}
	})
}

func FuzzGateway(f *testing.F) {
	f.Add("terminal_sn=1&client_sn=W1&total_amount=300&subject=Tea&return_url=https%3A%2F%2Fshop.example.com%2Fdone&extended=%7B%7D")
	f.Fuzz(func(t *testing.T, query string) {
		values, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		r, err := upay.DecodeGateway(values)
		if err != nil {
			return
		}
		again, err := upay.DecodeGateway(r.Values())
		if err != nil || !cmp.Equal(r, again) {
			t.Fatalf("%q: %+v became %+v, %v", query, r, again, err)
		}
	})
}

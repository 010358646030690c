package upay_test

import (
	"errors"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/tillgate/tillgate/protocol/upay"
)

// TestVectorsDecode reads the vectors as what they are, and writes them again.
func TestVectorsDecode(t *testing.T) {
	t.Parallel()
	body := func(n string) []byte { return readVector(t, "testdata/V"+n+".txt").body }
	activate, err := upay.DecodeActivate(body("01"))
	must(t, err)
	if string(activate.Encode()) != string(body("01")) {
		t.Errorf("V1: %s", activate.Encode())
	}
	checkIn, err := upay.DecodeCheckIn(body("02"))
	must(t, err)
	if string(checkIn.Encode()) != string(body("02")) {
		t.Errorf("V2: %s", checkIn.Encode())
	}
	want := upay.PayRequest{Order: upay.Order{TerminalSN: "100900010000000001", ClientSN: "T20240601-0001", TotalAmount: 1250, Subject: "Lunch set", Operator: "c01"},
		DynamicID: "134500000000000001"}
	for _, n := range []string{"03", "04"} {
		got, err := upay.DecodePay(body(n))
		must(t, err)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("V%s: %s", n, diff)
		}
	}
	raw, err := upay.DecodePay(body("05"))
	must(t, err)
	escaped, err := upay.DecodePay(body("06"))
	must(t, err)
	if diff := cmp.Diff(raw, escaped); diff != "" || raw.Subject != "牛肉面" {
		t.Errorf("V5 and V6: %s", diff)
	}
	pre, err := upay.DecodePrecreate(body("07"))
	must(t, err)
	if pre.Reflect != `{"table":"7"}` || pre.SubPayway != "2" || pre.TotalAmount != 2500 {
		t.Errorf("V7: %+v", pre)
	}
	query, err := upay.DecodeQuery(body("08"))
	must(t, err)
	if string(query.Encode()) != string(body("08")) {
		t.Errorf("V8: %s", query.Encode())
	}
	if again, err := upay.DecodeQuery(body("13")); err != nil || again != query {
		t.Errorf("V13: %+v %v", again, err)
	}
	refund, err := upay.DecodeRefund(body("09"))
	must(t, err)
	if refund.RefundAmount != 250 || refund.RefundRequestNo != "R001" {
		t.Errorf("V9: %+v", refund)
	}
	cancel, err := upay.DecodeCancel(body("10"))
	must(t, err)
	if string(cancel.Encode()) != string(body("10")) {
		t.Errorf("V10: %s", cancel.Encode())
	}
	if _, err := upay.DecodeQuery(body("12")); err == nil {
		t.Error("V12 is no request")
	}
}

// TestStrictness is §2.4, with what the tables of §3 say of lengths: the faulty field is named.
func TestStrictness(t *testing.T) {
	t.Parallel()
	long := func(n int) string { return strings.Repeat("长", n) }
	extended := func(n int) object {
		o := object{}
		for i := range n {
			o[strings.Repeat("k", i+1)] = "v"
		}
		return o
	}
	for _, c := range []struct {
		name    string
		changes []any
		field   string // Empty for what is accepted.
	}{
		{"amount with a letter", []any{"total_amount", "12a"}, "total_amount"},
		{"amount with a point", []any{"total_amount", "12.50"}, "total_amount"},
		{"negative amount", []any{"total_amount", "-5"}, "total_amount"},
		{"negative number", []any{"total_amount", -5}, "total_amount"},
		{"number with cents of cents", []any{"total_amount", 12.5}, "total_amount"},
		{"empty amount", []any{"total_amount", ""}, "total_amount"},
		{"missing amount", []any{"total_amount", nil}, "total_amount"},
		{"zero amount", []any{"total_amount", "0"}, "total_amount"},
		{"zeros", []any{"total_amount", "000"}, "total_amount"},
		{"amount of eleven digits", []any{"total_amount", "10000000000"}, "total_amount"},
		{"amount as an object", []any{"total_amount", object{}}, "total_amount"},
		{"full-width digits", []any{"total_amount", "１２"}, "total_amount"},
		{"empty client_sn", []any{"client_sn", ""}, "client_sn"},
		{"client_sn of 33", []any{"client_sn", long(33)}, "client_sn"},
		{"client_sn of 32 code points", []any{"client_sn", long(32)}, ""},
		{"dynamic_id of 33", []any{"dynamic_id", long(33)}, "dynamic_id"},
		{"empty dynamic_id", []any{"dynamic_id", ""}, "dynamic_id"},
		{"missing terminal_sn", []any{"terminal_sn", nil}, "terminal_sn"},
		{"terminal_sn of 33", []any{"terminal_sn", long(33)}, "terminal_sn"},
		{"empty subject", []any{"subject", ""}, "subject"},
		{"subject of 65", []any{"subject", long(65)}, "subject"},
		{"operator of 33", []any{"operator", long(33)}, "operator"},
		{"description of 257", []any{"description", long(257)}, "description"},
		{"description of 256", []any{"description", long(256)}, ""},
		{"device_id of 129", []any{"device_id", long(129)}, "device_id"},
		{"device_id of 128", []any{"device_id", long(128)}, ""},
		{"reflect of 65", []any{"reflect", long(65)}, "reflect"},
		{"reflect as an object", []any{"reflect", object{"a": "b"}}, "reflect"},
		{"notify_url of 129", []any{"notify_url", long(129)}, "notify_url"},
		{"payway of letters", []any{"payway", "alipay"}, "payway"},
		{"longitude without latitude", []any{"longitude", "121.47"}, "longitude"},
		{"latitude without longitude", []any{"latitude", "31.23"}, "latitude"},
		{"both", []any{"longitude", "121.47", "latitude", 31.23}, ""},
		{"24 keys", []any{"extended", extended(24)}, ""},
		{"25 keys", []any{"extended", extended(25)}, "extended"},
		{"key of 65", []any{"extended", object{long(65): "v"}}, "extended"},
		{"value of 257", []any{"extended", object{"k": long(257)}}, "extended"},
		{"nested values", []any{"extended", object{"extend_params": object{"hb_fq_num": "3", "hb_fq_seller_percent": "0"}}}, ""},
		{"extended as a list", []any{"extended", []any{}}, "extended"},
		{"goods as an object", []any{"goods_details", object{}}, "goods_details"},
		{"goods of texts", []any{"goods_details", []any{"tea"}}, "goods_details"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := upay.DecodePay([]byte(object{"terminal_sn": "1009", "client_sn": "T1", "total_amount": "1250", "dynamic_id": alipayCode, "subject": "Lunch",
				"operator": "c01"}.with(c.changes...).json()))
			e, refused := errors.AsType[*upay.Error](err)
			switch {
			case c.field == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.field != "" && (!refused || e.Code != upay.CodeInvalidParams || !strings.Contains(e.Message, c.field)):
				t.Errorf("got %v", err)
			}
		})
	}
	t.Run("all faults at once", func(t *testing.T) {
		t.Parallel()
		_, err := upay.DecodePay([]byte(`{"total_amount":"x"}`))
		for _, field := range []string{"terminal_sn", "client_sn", "total_amount", "subject", "dynamic_id", "；"} {
			if err == nil || !strings.Contains(err.Error(), field) {
				t.Errorf("want %s in %v", field, err)
			}
		}
	})
	for name, c := range map[string]struct {
		decode func([]byte) error
		body   string
	}{
		"query without a number":           {func(b []byte) error { _, err := upay.DecodeQuery(b); return err }, `{"terminal_sn":"1","sn":"","client_sn":null}`},
		"query with a refund number alone": {func(b []byte) error { _, err := upay.DecodeQuery(b); return err }, `{"terminal_sn":"1","refund_request_no":"R1"}`},
		"refund without a number":          {func(b []byte) error { _, err := upay.DecodeRefund(b); return err }, `{"terminal_sn":"1","refund_request_no":"R1","refund_amount":"1"}`},
		"refund without its own number":    {func(b []byte) error { _, err := upay.DecodeRefund(b); return err }, `{"terminal_sn":"1","sn":"78","refund_amount":"1"}`},
		"refund number of 32":              {func(b []byte) error { _, err := upay.DecodeRefund(b); return err }, `{"terminal_sn":"1","sn":"78","refund_amount":"1","refund_request_no":"` + long(32) + `"}`},
		"cancel without a number":          {func(b []byte) error { _, err := upay.DecodeCancel(b); return err }, `{"terminal_sn":"1"}`},
		"precreate without payway":         {func(b []byte) error { _, err := upay.DecodePrecreate(b); return err }, `{"terminal_sn":"1","client_sn":"2","total_amount":"1","subject":"s"}`},
		"precreate as a barcode":           {func(b []byte) error { _, err := upay.DecodePrecreate(b); return err }, `{"terminal_sn":"1","client_sn":"2","total_amount":"1","subject":"s","payway":"1","sub_payway":"1"}`},
		"activate without a code":          {func(b []byte) error { _, err := upay.DecodeActivate(b); return err }, `{"device_id":"d"}`},
		"checkin without a device":         {func(b []byte) error { _, err := upay.DecodeCheckIn(b); return err }, `{"terminal_sn":"1"}`},
		"a list":                           {func(b []byte) error { _, err := upay.DecodeQuery(b); return err }, `[]`},
		"a member twice":                   {func(b []byte) error { _, err := upay.DecodeQuery(b); return err }, `{"terminal_sn":"1","sn":"78","sn":"79"}`},
		"names in other letters":           {func(b []byte) error { _, err := upay.DecodeQuery(b); return err }, `{"Terminal_SN":"1","sn":"78"}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if e, ok := errors.AsType[*upay.Error](c.decode([]byte(c.body))); !ok || e.Code != upay.CodeInvalidParams {
				t.Errorf("got %v", e)
			}
		})
	}
}

func TestGatewayRequest(t *testing.T) {
	t.Parallel()
	values := url.Values{"terminal_sn": {"1"}, "client_sn": {"W1"}, "total_amount": {"300"}, "subject": {"Tea"}, "operator": {"c01"},
		"return_url": {"https://shop.example.com/done"}, "extended": {`{"a":"b"}`}}
	r, err := upay.DecodeGateway(values)
	must(t, err)
	if diff := cmp.Diff(values, r.Values()); diff != "" {
		t.Error(diff)
	}
	for _, bad := range []string{"javascript:alert(1)", "//shop", "shop", "ftp://shop/x", "https://user:pw@shop/x", "https:///x", ""} {
		values.Set("return_url", bad)
		if _, err := upay.DecodeGateway(values); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	values.Set("return_url", "https://shop/x")
	values.Add("total_amount", "1")
	if _, err := upay.DecodeGateway(values); err == nil {
		t.Error("two amounts were accepted")
	}
}

// TestEnvelope reads the samples of the reference, and what clients must bear.
func TestEnvelope(t *testing.T) {
	t.Parallel()
	e, err := upay.DecodeEnvelope([]byte(`{"result_code":"200","error_code":"","error_message":"","biz_response":{"result_code":"PRECREATE_SUCCESS","error_code":"","error_message":"","data":{"sn":"7899000000000003","client_sn":"T20240601-0003","client_tsn":"T20240601-0003","trade_no":"","finish_time":"","channel_finish_time":"","status":"CREATED","order_status":"CREATED","payway":"3","payway_name":"微信","sub_payway":"2","payer_uid":"","payer_login":"","total_amount":"2500","net_amount":"2500","qr_code":"weixin://wxpay/bizpayurl?pr=AbCdEf1","qr_code_image_url":"https://pos.example.com/upay/qrcode?content=x","subject":"QR order","operator":"c01","reflect":"{\"table\":\"7\"}","payment_list":[]}}}`))
	must(t, err)
	if d := e.Biz.Data; d.QRCode != "weixin://wxpay/bizpayurl?pr=AbCdEf1" || d.TotalAmount != 2500 || d.FinishTime != 0 || d.Reflect != `{"table":"7"}` {
		t.Errorf("got %+v", d)
	}
	again, err := upay.DecodeEnvelope(e.Encode())
	must(t, err)
	if diff := cmp.Diff(e, again); diff != "" {
		t.Error(diff)
	}
	for name, body := range map[string]string{
		"flat credentials":   `{"result_code":"200","biz_response":{"terminal_sn":"1","terminal_key":"k"}}`,
		"nested credentials": `{"result_code":"200","biz_response":{"result_code":"ACTIVATE_SUCCESS","data":{"terminal_sn":"1","terminal_key":"k"}}}`,
	} {
		e, err := upay.DecodeEnvelope([]byte(body))
		if err != nil || e.Biz.Credentials == nil || e.Biz.Credentials.TerminalKey.Reveal() != "k" || e.Biz.Credentials.TerminalSN != "1" {
			t.Errorf("%s: %+v %v", name, e, err)
		}
	}
	e, err = upay.DecodeEnvelope([]byte(`{"result_code":200,"biz_response":{"result_code":"NEW_WORD","data":{"order_status":"IN_QUEUE","total_amount":12,"new":[1],"finish_time":"2016-01-01 00:00:00"}}}`))
	must(t, err)
	if d := e.Biz.Data; e.Biz.ResultCode != "NEW_WORD" || d.OrderStatus != "IN_QUEUE" || d.OrderStatus.Final() || d.TotalAmount != 12 ||
		string(d.Extra["new"]) != "[1]" || string(d.Extra["finish_time"]) != `"2016-01-01 00:00:00"` {
		t.Errorf("got %+v", e.Biz)
	}
	for _, bad := range []string{``, `<html>`, `{}`, `[]`, `{"result_code":null}`, `{"result_code":"200","biz_response":{"data":{"total_amount":"12.5"}}}`,
		`{"result_code":"200","biz_response":{"data":{"order_status":{}}}}`} {
		if _, err := upay.DecodeEnvelope([]byte(bad)); err == nil {
			t.Errorf("%s was taken for an answer", bad)
		}
	}
}

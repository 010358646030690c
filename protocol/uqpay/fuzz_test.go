package uqpay

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/tillgate/tillgate/money"
)

var fuzzSeeds = []string{
	`{"amount":"12.50","currency":"SGD","merchant_order_id":"o","description":"d","metadata":{"lane":"2"},"payment_method":{"type":"card_present","card_present":{"card_number":"5554748800161559","expiry_month":"07","expiry_year":"2027","pan_entry_mode":"chip","cardholder_verification_method":"online_pin","encrypted_pin":"3BCCAC46096E5379","emv_tags":"9F02060000000012509F1A0207025F2A0207029A032602039C01005F340101","track2":"5554748800161559D2707201","terminal_info":{"terminal_id":"10000301","mobile_device":true},"system_trace_audit_number":"000147"}}}`,
	`{"firm_code":"05","firm_sn":"PX930-000771","terminal_model":"A930"}`,
	`{"terminal_id":"10000301","prv_key":"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"}`,
	`{"payment_intent_id":"PI2018623400000000001","amount":"2.50","reason":"one drink returned"}`,
	`{"amount_to_capture":1.50}`, `{"amount_to_capture":"1.50"}`, `{"cancellation_reason":"duplicate"}`, `{}`, ``, ` `, `[]`, `{"a":{"b":[1,2,{"c":null}]}}`,
}

// What a request's decoder takes is stable, and it never panics; what it refuses, it refuses in words of the protocol.
func FuzzRequests(f *testing.F) {
	for _, s := range fuzzSeeds {
		f.Add([]byte(s))
	}
	now := time.Date(2026, 2, 3, 6, 5, 9, 0, time.UTC)
	f.Fuzz(func(t *testing.T, body []byte) {
		check := func(err error) {
			var e *Error
			if err != nil && (!errors.As(err, &e) || e.Status != 400 || e.Message == "") {
				t.Errorf("refused with %v", err)
			}
		}
		r, err := decodeCreate(body)
		check(err)
		if err == nil {
			if r.Metadata != nil && !json.Valid(r.Metadata) {
				t.Errorf("metadata is no JSON: %s", r.Metadata)
			}
			m, err := readMemo(encode(memo{Description: r.Description, ReturnURL: r.ReturnURL, Metadata: r.Metadata}))
			if err != nil || m.Description != r.Description {
				t.Errorf("memo: %+v, %v", m, err)
			}
			if cur, err := parseCurrency(r.Currency); err == nil {
				a, err := parseAmount(r.Amount, cur, TypeInvalidRequest, CodeInvalidAmount)
				check(err)
				if again, err2 := money.Parse(a.Trimmed(), cur); err == nil && (err2 != nil || again != a) {
					t.Errorf("%s is read as %s and then as %s", r.Amount, a, again)
				}
			}
			if r.Method != nil {
				_, err := r.Method.Card.parse(now)
				check(err)
				if err != nil && strings.Contains(err.Error(), r.Method.Card.number) && len(r.Method.Card.number) > 11 {
					t.Errorf("a refusal shows the card number")
				}
			}
		}
		_, err = decodeUpdate(body)
		check(err)
		_, err = decodeConfirm(body)
		check(err)
		_, err = decodeRegister(body)
		check(err)
		_, err = decodePINKey(body)
		check(err)
		_, err = decodeRefund(body)
		check(err)
		_, err = decodeCancel(body)
		check(err)
		_, err = decodeCapture(body)
		check(err)
	})
}

// Answers that are read, written and read again stay the same.
func FuzzAnswers(f *testing.F) {
	f.Add([]byte(`{"payment_intent_id":"PI1","amount":"12.5","metadata":{"lane":"2"},"next_action":null,"latest_payment_attempt":{"attempt_id":"PA1","payment_method":{"type":"card_present","card_present":{"card_number":"5554"}}}}`))
	f.Add([]byte(`{"pin_key_expire":1770185109000}`))
	f.Add([]byte(`{"pin_key_expire":"2026-02-04T14:05:09+08:00"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		stable(t, body, new(Intent), new(Intent))
		stable(t, body, new(Refund), new(Refund))
		stable(t, body, new(Page[Attempt]), new(Page[Attempt]))
		stable(t, body, new(Event), new(Event))
		var k PINKeyResponse
		if json.Unmarshal(body, &k) == nil && k.PINKeyExpire.Year() > 2001 && k.PINKeyExpire.Year() < 9999 {
			stable(t, encode(k), new(PINKeyResponse), new(PINKeyResponse))
		}
		if e := decodeError(400, body); len(e.Message) > peerTextMax {
			t.Error("a peer's text is not cut")
		}
	})
}

func stable(t *testing.T, body []byte, a, b any) {
	t.Helper()
	if json.Unmarshal(body, a) != nil {
		return
	}
	one := encode(a)
	if err := json.Unmarshal(one, b); err != nil {
		t.Fatalf("%s: %v", one, err)
	}
	if two := encode(b); !bytes.Equal(one, two) {
		t.Errorf("%s\n%s", one, two)
	}
}

func FuzzQueries(f *testing.F) {
	f.Add("page_size=10&page_number=1&start_time=2026-01-01T00:00:00+08:00")
	f.Add("page_size=-1")
	f.Add("end_time=%202026")
	f.Fuzz(func(t *testing.T, query string) {
		q, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		if p, err := decodePage(q); err == nil && (p.size < 1 || p.size > pageSizeMax || p.offset() < 0) {
			t.Errorf("page %+v", p)
		}
		_, _ = decodeTime(q, "start_time", "create_start_time")
		_, _ = intentFilter(IntentStatus(q.Get("payment_intent_status")))
	})
}

func FuzzToken(f *testing.F) {
	mac := func(b []byte) []byte { return append([]byte("mac of "), b...) }
	good, err := SignToken(Claims{ClientID: "x", Issuer: tokenIssuer, Expires: 2}, mac)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add("a.b.c")
	f.Fuzz(func(t *testing.T, token string) {
		c, err := VerifyToken(token, mac, time.Unix(1, 0))
		if err == nil && (c.Issuer != tokenIssuer || c.Expires <= 1) {
			t.Errorf("%q is taken as %+v", token, c)
		}
	})
}

func FuzzOpenPINKey(f *testing.F) {
	f.Add("LASDho1ILHoYRf/5YEyIgieoc+SXJkUsHZElXOMNGv7WnC3fZzFPYDH8mJaDbnwvom3QEtdv3NjvaEUtVeetWdQsv2RtQw4XEYh/Cg==", []byte("0123456789abcdef"))
	f.Fuzz(func(t *testing.T, envelope string, key []byte) {
		if k, err := OpenPINKey(envelope, key); err == nil && len(k) != pinKeyBytes {
			t.Errorf("key of %d bytes", len(k))
		}
	})
}

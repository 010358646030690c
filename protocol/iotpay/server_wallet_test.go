package iotpay_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/protocol/iotpay"
)

// scans are the channels in which the merchant scans, with the sandbox's name of their wallet.
var scans = map[string]string{"WX_MICROPAY": "wechat", "ALIPAY_MICROPAY": "alipay", "UPI_MICROPAY": "unionpay"}

// shows are the channels in which the customer scans, with the field that holds the text of the code.
var shows = map[string]string{"WX_NATIVE": "codeUrl", "ALIPAY_QR": "qr_code", "UPI_QR": "qr_code"}

func TestMerchantScans(t *testing.T) {
	t.Parallel()
	r := setup(t)
	for channel, wallet := range scans {
		t.Run(channel, func(t *testing.T) {
			t.Parallel()
			t.Run("paid", func(t *testing.T) {
				n := number()
				a := r.till(t).create(scanOrder(n, "channelId", channel, "identityCode", code(wallet, "approve"), "extra", "mine")).is(iotpay.StatusPaid)
				if o := a.order(); o.ChannelID != channel || o.ChannelOrderNo == "" || o.TrxAmount != 550 || o.Extra != "mine" || o.PaySuccTime == 0 {
					a.errorf("order %+v", o)
				}
				r.till(t).query(n).is(iotpay.StatusPaid)
			})
			t.Run("declined", func(t *testing.T) {
				n := number()
				a := r.till(t).create(scanOrder(n, "channelId", channel, "identityCode", code(wallet, "insufficient_funds"))).is(iotpay.StatusFailed)
				if a.text("errCodeDes") == "" || a.order().PaySuccTime != 0 {
					a.errorf("a decline without words")
				}
				r.till(t).create(scanOrder(n, "channelId", channel)).refused(iotpay.CodeParameter)
			})
			t.Run("the customer types a password", func(t *testing.T) {
				n := number()
				r.till(t).create(scanOrder(n, "channelId", channel, "identityCode", code(wallet, "pending_then_approve_3s"))).is(iotpay.StatusPaying)
				r.till(t).until(n, iotpay.StatusPaid)
			})
		})
	}
	t.Run("an answer that is lost is asked for", func(t *testing.T) {
		t.Parallel()
		n := number()
		r.till(t).create(scanOrder(n, "identityCode", code("wechat", "no_answer"))).is(iotpay.StatusPaid)
	})
	t.Run("two at once", func(t *testing.T) {
		t.Parallel()
		n := number()
		first := later(func() reply { return r.till(t).create(scanOrder(n)) })
		second := r.till(t).create(scanOrder(n))
		good := 0
		for _, a := range []reply{<-first, second} {
			if a.text("retCode") == "SUCCESS" {
				good++
			}
		}
		if good != 1 {
			t.Errorf("%d of two equal orders were taken", good)
		}
	})
	t.Run("a code that its wallet does not know", func(t *testing.T) {
		t.Parallel()
		r.till(t).create(scanOrder(number(), "identityCode", "42")).is(iotpay.StatusFailed)
	})
}

func TestCustomerScans(t *testing.T) {
	t.Parallel()
	r := setup(t)
	for channel, field := range shows {
		t.Run(channel, func(t *testing.T) {
			t.Parallel()
			n := number()
			a := r.till(t).create(qrOrder(n, "channelId", channel)).is(iotpay.StatusCreated)
			qr := a.text(field)
			if qr == "" || a.all["retParams"].(map[string]any)[field] != qr || a.text("payOrderId") == "" || a.text("mchOrderNo") != n {
				a.errorf("no code")
			}
			r.till(t).query(n).is(iotpay.StatusCreated)
			r.phone(t, qr, "approve")
			paid := r.till(t).until(n, iotpay.StatusPaid)
			if o := paid.order(); o.Param2 != "tbl-7" || o.ChannelOrderNo == "" {
				paid.errorf("order %+v", o)
			}
		})
	}
	t.Run("the customer declines", func(t *testing.T) {
		t.Parallel()
		n := number()
		a := r.till(t).create(qrOrder(n)).is(iotpay.StatusCreated)
		r.phone(t, a.text("codeUrl"), "decline")
		r.till(t).until(n, iotpay.StatusFailed)
	})
	t.Run("nobody scans", func(t *testing.T) {
		t.Parallel()
		r := setup(t)
		n := number()
		r.till(t).create(qrOrder(n)).is(iotpay.StatusCreated)
		r.clock.pass(4*time.Minute + 50*time.Second)
		r.till(t).query(n).is(iotpay.StatusCreated)
		r.clock.pass(11 * time.Second)
		r.till(t).until(n, iotpay.StatusClosed)
	})
	t.Run("closed by the till", func(t *testing.T) {
		t.Parallel()
		n := number()
		r.till(t).create(qrOrder(n)).is(iotpay.StatusCreated)
		a := r.till(t).call("/v1/close_order", fields{"mchId": mchID, "mchOrderNo": n}).ok()
		if s := a.order().Status; s != iotpay.StatusClosed && s != iotpay.StatusPaying {
			a.errorf("status %d", s)
		}
		r.till(t).until(n, iotpay.StatusClosed)
	})
	t.Run("the wallet is not there", func(t *testing.T) {
		t.Parallel()
		r := setup(t)
		r.wallets.CloseClientConnections()
		r.wallets.Listener.Close()
		r.till(t).create(qrOrder(number())).refused(iotpay.CodeThirdParty)
	})
	t.Run("the wallet does not answer", func(t *testing.T) {
		t.Parallel()
		r := setup(t, func(s *settings) { s.createWait = 300 * time.Millisecond })
		n := number()
		r.till(t).create(qrOrder(n, "amount", cents("no_answer"))).refused(iotpay.CodeTimeout)
		r.till(t).query(n).ok()
	})
}

// TestNotifications: a paid QR order owes one, stored with the payment; once it is accepted the order's status is 3 (§7).
func TestNotifications(t *testing.T) {
	t.Parallel()
	var asked string
	r := setup(t, func(s *settings) {
		s.target = func(target string) error {
			asked = target
			if strings.Contains(target, "internal") {
				return errors.New("not a public address")
			}
			return nil
		}
	})
	n := number()
	qr := r.till(t).create(qrOrder(n, "body", "拿铁 & scone", "param1", "")).is(iotpay.StatusCreated).text("codeUrl")
	if asked != "https://shop.example/iotpay/notify" {
		t.Errorf("asked about %q", asked)
	}
	r.phone(t, qr, "approve")
	o := r.till(t).until(n, iotpay.StatusPaid).order()
	list, err := r.store.Notices(t.Context(), r.merchants[mchID].ID, 0, 10)
	if err != nil || len(list) != 1 {
		t.Fatalf("%d notices, %v", len(list), err)
	}
	notice := list[0].Notice
	if notice.Protocol != iotpay.Protocol || notice.URL != "https://shop.example/iotpay/notify" || notice.Signer != mchID || strings.Contains(string(notice.Body), "sign=") {
		t.Errorf("notice %+v", notice)
	}
	d, err := r.iot.Prepare(t.Context(), notice, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	address, query, _ := strings.Cut(d.URL, "?")
	if address != notice.URL || query != string(d.Body) {
		t.Errorf("sent %+v", d)
	}
	for _, at := range [][2]string{{query, ""}, {"", string(d.Body)}} {
		p, err := iotpay.ReadNotice(at[0], []byte(at[1]), mustKey(keyText))
		if err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]string{"payOrderId": o.PayOrderID, "mchId": mchID, "mchOrderNo": n, "channelId": "WX_NATIVE", "currency": "CAD",
			"amount": "550", "status": "2", "clientIp": "192.0.2.15", "device": "WEB", "subject": "Coffee", "body": "拿铁 & scone",
			"channelOrderNo": o.ChannelOrderNo, "param2": "tbl-7", "backType": "2"} {
			if p.Get(name) != want {
				t.Errorf("%s: got %q, want %q", name, p.Get(name), want)
			}
		}
		if strings.Contains(at[0]+at[1], "param1") {
			t.Error("an empty parameter is sent")
		}
	}
	if err := r.iot.Notified(t.Context(), notice); err != nil {
		t.Fatal(err)
	}
	if err := r.iot.Notified(t.Context(), notice); err != nil { // Delivered twice.
		t.Fatal(err)
	}
	r.till(t).query(n).is(iotpay.StatusAcknowledged)

	t.Run("not for those that are not told", func(t *testing.T) {
		quiet := number()
		qr := r.till(t).create(qrOrder(quiet, "notifyUrl", "http://localhost")).is(iotpay.StatusCreated).text("codeUrl")
		r.phone(t, qr, "approve")
		r.till(t).until(quiet, iotpay.StatusPaid)
		r.till(t).create(scanOrder(number(), "notifyUrl", "https://shop.example/never")).is(iotpay.StatusPaid)
		r.till(t).create(cardOrder(number(), "notifyUrl", "https://shop.example/never")).is(iotpay.StatusPaid)
		if list, err := r.store.Notices(t.Context(), r.merchants[mchID].ID, 0, 10); err != nil || len(list) != 1 {
			t.Errorf("%d notices, %v", len(list), err)
		}
	})
	t.Run("a target that is not allowed", func(t *testing.T) {
		r.till(t).create(qrOrder(number(), "notifyUrl", "http://internal.example/")).refused(iotpay.CodeParameter)
		closed := setup(t, func(s *settings) { s.target = nil })
		closed.till(t).create(qrOrder(number())).refused(iotpay.CodeParameter)
		closed.till(t).create(qrOrder(number(), "notifyUrl", "http://localhost")).is(iotpay.StatusCreated)
	})
	t.Run("transports", func(t *testing.T) {
		n := payment.Notice{URL: "https://shop.example/n?a=1", Body: []byte("mchId=1"), Signer: mchID}
		for transport, want := range map[iotpay.Transport][2]bool{iotpay.InBoth: {true, true}, iotpay.InQuery: {true, false}, iotpay.InBody: {false, true}} {
			d, err := iotpay.SignNotice(n, mustKey(keyText), transport)
			if err != nil || strings.Contains(d.URL, "&mchId=1&sign=") != want[0] || strings.Contains(string(d.Body), "mchId=1&sign=") != want[1] {
				t.Errorf("%q: %+v, %v", transport, d, err)
			}
		}
		if _, err := iotpay.SignNotice(n, iotpay.Key{}, iotpay.InBoth); err == nil {
			t.Error("signed without a key")
		}
	})
	t.Run("answers", func(t *testing.T) {
		for body, want := range map[string]bool{"success": true, " SUCCESS\n": true, "Success": true, "": false, "ok": false, `{"code":"success"}`: false} {
			if iotpay.Accepted(200, []byte(body)) != want || iotpay.Accepted(201, []byte(body)) != want || iotpay.Accepted(500, []byte(body)) || iotpay.Accepted(302, []byte(body)) {
				t.Errorf("%q", body)
			}
		}
		if d := iotpay.Delays(); len(d) != 5 || d[0] != time.Minute || d[4] != 5*time.Minute {
			t.Errorf("delays %v", d)
		}
	})
}

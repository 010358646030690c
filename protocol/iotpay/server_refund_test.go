package iotpay_test

import (
	"strings"
	"testing"
	"time"

	"github.com/tillgate/tillgate/protocol/iotpay"
)

func TestRefunds(t *testing.T) {
	t.Parallel()
	r := setup(t)
	for name, order := range map[string]func(string, ...any) fields{"card": cardOrder, "wallet": scanOrder} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			till := r.till(t)
			n := number()
			paid := till.create(order(n, "amount", 3000)).is(iotpay.StatusPaid).order()
			no := number()
			a := till.refund(refundOf(paid.PayOrderID, no, 1000)).is(iotpay.StatusPaid)
			o := a.order()
			if o.PayType != "refund" || o.Amount != 1000 || o.Refundable != 0 || o.OriginalOrderID != paid.PayOrderID || o.MchOrderNo != no ||
				!strings.HasPrefix(o.PayOrderID, "RP") || len(o.PayOrderID) != 28 || a.text("refundOrderId") != o.PayOrderID ||
				a.text("payOrderId") != paid.PayOrderID || a.text("mchRefundNo") != no || a.text("refundAmount") != "1000" || a.text("status") != "2" ||
				o.TrxAmount != 1000 || o.PaySuccTime == 0 {
				a.errorf("refund %+v", o)
			}
			if name == "card" {
				if x := a.card(); x.CardNum != "XXXXXXXXXXXX4242" || x.CardType != "V" || x.ReceiptDisp != "000 Approved 00 Thank You" || x.AuthNum != "A1B2C3" ||
					x.SeqNum == "000000000000" || x.SeqNum == "000001000412" || x.EMVTC != "" || x.BankTermNum != "40990001" {
					a.errorf("extra %+v", x)
				}
			}
			left := till.query(n).is(iotpay.StatusPaid).order()
			if left.Refundable != 2000 || left.Amount != 3000 {
				t.Errorf("original %+v", left)
			}
			t.Run("the same once more", func(t *testing.T) {
				again := r.till(t).refund(refundOf(paid.PayOrderID, no, 1000)).is(iotpay.StatusPaid)
				if again.order().PayOrderID != o.PayOrderID || r.till(t).query(n).order().Refundable != 2000 {
					again.errorf("a second refund")
				}
			})
			t.Run("its number with other data", func(t *testing.T) {
				r.till(t).refund(refundOf(paid.PayOrderID, no, 999)).refused(iotpay.CodeParameter)
			})
			t.Run("over the rest", func(t *testing.T) {
				r.till(t).refund(refundOf(paid.PayOrderID, number(), 2001)).refused(iotpay.CodeParameter)
			})
			t.Run("of a refund", func(t *testing.T) {
				r.till(t).refund(refundOf(o.PayOrderID, number(), 1)).refused(iotpay.CodeParameter)
			})
			t.Run("queried by every number", func(t *testing.T) {
				for _, f := range []fields{{"mchRefundNo": no}, {"refundOrderId": o.PayOrderID}, {"payOrderId": paid.PayOrderID}, {"payOrderId": o.PayOrderID},
					{"mchRefundNo": no, "refundOrderId": o.PayOrderID}} {
					f["mchId"] = mchID
					for _, path := range []string{"/v1/query_refund", "/v1/refund_query", "/api/refund/query_order"} {
						if got := r.till(t).call(path, f).is(iotpay.StatusPaid).order(); got.PayOrderID != o.PayOrderID {
							t.Errorf("%v: %+v", f, got)
						}
					}
				}
				got := r.till(t).call("/v1/query_order", fields{"mchId": mchID, "payOrderId": o.PayOrderID}).is(iotpay.StatusPaid).order()
				if got.PayType != "refund" || got.PayOrderID != o.PayOrderID {
					t.Errorf("by query_order: %+v", got)
				}
			})
			t.Run("by the merchant's number, to the last cent", func(t *testing.T) {
				r.till(t).refund(refundOf(n, number(), 2000, "device", "WEB")).is(iotpay.StatusPaid)
				after := r.till(t).query(n).is(iotpay.StatusPaid).order() // §3.7: its status stays.
				if after.Refundable != 0 {
					t.Errorf("refundable %d", after.Refundable)
				}
				r.till(t).refund(refundOf(n, number(), 1)).refused(iotpay.CodeParameter)
			})
		})
	}
	for name, c := range map[string]struct {
		f    fields
		code iotpay.Code
	}{
		"unknown original":          {refundOf("CP20260301170005123456789012", number(), 1), iotpay.CodeNotFound},
		"another currency":          {refundOf("", number(), 1, "currency", "USD"), iotpay.CodeParameter},
		"no currency at all":        {refundOf("", number(), 1, "currency", "dollars"), iotpay.CodeParameter},
		"no amount":                 {refundOf("", number(), 0), iotpay.CodeParameter},
		"a negative amount":         {refundOf("", number(), -1), iotpay.CodeParameter},
		"unknown login":             {refundOf("", number(), 1, "loginName", "nobody"), iotpay.CodeMerchant},
		"no number":                 {refundOf("", "", 1), iotpay.CodeParameter},
		"a query without a number":  {nil, iotpay.CodeParameter},
		"an order that is not paid": {refundOf("open", number(), 1), iotpay.CodeParameter},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := r
			if c.f == nil {
				r.till(t).call("/v1/query_refund", fields{"mchId": mchID}).refused(c.code)
				return
			}
			switch c.f["payOrderId"] {
			case "":
				c.f["payOrderId"] = r.till(t).create(cardOrder(number())).is(iotpay.StatusPaid).order().PayOrderID
			case "open":
				c.f["payOrderId"] = r.till(t).create(qrOrder(number())).is(iotpay.StatusCreated).order().PayOrderID
			}
			r.till(t).refund(c.f).refused(c.code)
		})
	}
	t.Run("declined is a failure on both levels", func(t *testing.T) {
		t.Parallel()
		r := setup(t)
		r.host.decline = true
		paid := r.till(t).create(cardOrder(number())).is(iotpay.StatusPaid).order()
		no := number()
		r.till(t).refund(refundOf(paid.PayOrderID, no, 100)).refused(iotpay.CodeThirdParty)
		r.till(t).call("/v1/query_refund", fields{"mchId": mchID, "mchRefundNo": no}).is(iotpay.StatusFailed).says("Transaction Not Completed 57")
		r.till(t).refund(refundOf(paid.PayOrderID, no, 100)).refused(iotpay.CodeThirdParty)
	})
	t.Run("without an answer it is under way, and goes on", func(t *testing.T) {
		t.Parallel()
		r := setup(t, func(s *settings) { s.createWait = 200 * time.Millisecond })
		paid := r.till(t).create(cardOrder(number())).is(iotpay.StatusPaid).order()
		r.host.mute.Store(1)
		no := number()
		r.till(t).refund(refundOf(paid.PayOrderID, no, 100)).is(iotpay.StatusPaying).says("")
		r.till(t).refund(refundOf(paid.PayOrderID, number(), 2766)).refused(iotpay.CodeParameter) // It stays reserved.
		if !within(func() bool {
			a := r.till(t).call("/v1/query_refund", fields{"mchId": mchID, "mchRefundNo": no})
			return a.all["payOrder"] != nil && a.order().Status == iotpay.StatusPaid
		}) {
			t.Error("never refunded")
		}
		if moved := r.host.moved(); moved != 2765 {
			t.Errorf("moved %d", moved)
		}
	})
	t.Run("a float's fraction", func(t *testing.T) { // §2.3 c, S10.
		t.Parallel()
		paid := r.till(t).create(cardOrder(number())).is(iotpay.StatusPaid).order()
		f := sign(refundOf(paid.PayOrderID, number(), 1000), keyText)
		body := strings.Replace(f.json(), `"refundAmount":1000`, `"refundAmount":1000.0`, 1)
		r.till(t).post("/api/refund/create_order", "params="+body).is(iotpay.StatusPaid)
	})
	t.Run("another merchant's order", func(t *testing.T) {
		t.Parallel()
		paid := r.till(t).create(cardOrder(number())).is(iotpay.StatusPaid).order()
		other := r.till(t).as(otherKey)
		other.call("/v1/query_order", fields{"mchId": otherMchID, "payOrderId": paid.PayOrderID}).refused(iotpay.CodeNotFound)
		other.refund(refundOf(paid.PayOrderID, number(), 1, "mchId", otherMchID)).refused(iotpay.CodeNotFound)
		other.call("/v1/close_order", fields{"mchId": otherMchID, "mchOrderNo": paid.MchOrderNo}).refused(iotpay.CodeNotFound)
	})
	t.Run("refunds together never exceed the order", func(t *testing.T) {
		t.Parallel()
		r := setup(t)
		paid := r.till(t).create(cardOrder(number(), "amount", 1000)).is(iotpay.StatusPaid).order()
		answers := make([]<-chan reply, 6)
		for i := range answers {
			answers[i] = later(func() reply { return r.till(t).refund(refundOf(paid.PayOrderID, number(), 400)) })
		}
		good := 0
		for _, c := range answers {
			if a := <-c; a.text("retCode") == "SUCCESS" {
				good++
			}
		}
		if good != 2 || r.host.moved() != 200 {
			t.Errorf("%d refunds, %d cents left", good, r.host.moved())
		}
	})
}

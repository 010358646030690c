package upay_test

import (
	"testing"

	"github.com/tillgate/tillgate/protocol/upay"
)

// TestBusinessVectors goes through the business vectors of §9.
func TestBusinessVectors(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c, sn := r.till(t), order()
	paid := c.pay(sn).want(upay.PaySuccess, upay.OrderPaid, upay.StatusSuccess).wantFields("total_amount", "1250", "net_amount", "1250")
	c.refund(sn, "R001", "250").want(upay.RefundSuccess, upay.OrderPartialRefunded, upay.StatusSuccess).wantFields("net_amount", "1000", "client_tsn", sn+"-R001")
	c.refund(sn, "R001", "250").wantFail(upay.CodeRefundNoop)
	c.query(sn).want(upay.Success, upay.OrderPartialRefunded, upay.StatusSuccess).wantFields("net_amount", "1000")
	c.refund(sn, "R002", "1001").wantFail(upay.CodeRefundExceeds)
	c.revoke(sn).wantFail(upay.CodeCancelInvalidState)
	c.refund(sn, "R003", "1000").want(upay.RefundSuccess, upay.OrderRefunded, upay.StatusSuccess).wantFields("net_amount", "0")
	c.refund(sn, "R004", "1").wantFail(upay.CodeRefundInvalidState)
	c.pay(sn).wantFail(upay.CodeClientSNConflict)
	c.query("unknown").wantFail(upay.CodeOrderNotExists)
	c.cancel("unknown-too").wantFail(upay.CodeOrderNotExists)
	r.wantBooks(t, paid.sn(), "refund 1000 done", "refund 250 done", "payment 1250 done")
}

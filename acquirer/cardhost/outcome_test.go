package cardhost

import (
	"testing"

	"github.com/tillgate/tillgate/payment"
)

// What each response code means for each kind of operation.
func TestWhatCodesMean(t *testing.T) {
	t.Parallel()
	type said struct {
		outcome payment.Outcome
		reason  payment.Reason
	}
	var (
		yes      = said{payment.OutcomeApproved, ""}
		unknown  = said{payment.OutcomeUnknown, ""}
		declined = said{payment.OutcomeDeclined, payment.ReasonDeclined}
		no       = func(r payment.Reason) said { return said{payment.OutcomeDeclined, r} }
		offline  = no(payment.ReasonUnavailable)
	)
	for _, tc := range []struct {
		code                   string
		sale, refund, repeated said // Repeated: captures, voids and reversals.
	}{
		{"00", yes, yes, yes},
		{"10", said{payment.OutcomeUnfit, payment.ReasonPartial}, unknown, unknown},
		{"01", no(payment.ReasonRefer), no(payment.ReasonRefer), no(payment.ReasonRefer)},
		{"03", no(payment.ReasonNotPermitted), no(payment.ReasonNotPermitted), no(payment.ReasonNotPermitted)},
		{"04", no(payment.ReasonCardBlocked), no(payment.ReasonCardBlocked), no(payment.ReasonCardBlocked)},
		{"05", declined, declined, declined},
		{"07", no(payment.ReasonCardBlocked), no(payment.ReasonCardBlocked), no(payment.ReasonCardBlocked)},
		{"12", declined, declined, declined},
		{"13", declined, no(payment.ReasonRefundExceeds), declined},
		{"14", no(payment.ReasonCardInvalid), no(payment.ReasonCardInvalid), no(payment.ReasonCardInvalid)},
		{"25", declined, declined, declined},
		{"30", offline, offline, offline},
		{"41", no(payment.ReasonCardBlocked), no(payment.ReasonCardBlocked), no(payment.ReasonCardBlocked)},
		{"43", no(payment.ReasonCardBlocked), no(payment.ReasonCardBlocked), no(payment.ReasonCardBlocked)},
		{"51", no(payment.ReasonInsufficientFunds), no(payment.ReasonInsufficientFunds), no(payment.ReasonInsufficientFunds)},
		{"54", no(payment.ReasonCardExpired), no(payment.ReasonCardExpired), no(payment.ReasonCardExpired)},
		{"55", no(payment.ReasonPINWrong), no(payment.ReasonPINWrong), no(payment.ReasonPINWrong)},
		{"57", no(payment.ReasonNotPermitted), no(payment.ReasonNotPermitted), no(payment.ReasonNotPermitted)},
		{"58", no(payment.ReasonNotPermitted), no(payment.ReasonNotPermitted), no(payment.ReasonNotPermitted)},
		{"59", no(payment.ReasonRisk), no(payment.ReasonRisk), no(payment.ReasonRisk)},
		{"61", no(payment.ReasonLimitExceeded), no(payment.ReasonRefundExceeds), no(payment.ReasonLimitExceeded)},
		{"62", no(payment.ReasonCardBlocked), no(payment.ReasonCardBlocked), no(payment.ReasonCardBlocked)},
		{"63", no(payment.ReasonRisk), no(payment.ReasonRisk), no(payment.ReasonRisk)},
		{"65", no(payment.ReasonLimitExceeded), no(payment.ReasonLimitExceeded), no(payment.ReasonLimitExceeded)},
		{"75", no(payment.ReasonPINTries), no(payment.ReasonPINTries), no(payment.ReasonPINTries)},
		{"76", no(payment.ReasonPINNeeded), no(payment.ReasonPINNeeded), no(payment.ReasonPINNeeded)},
		{"82", no(payment.ReasonCardInvalid), no(payment.ReasonCardInvalid), no(payment.ReasonCardInvalid)},
		{"88", offline, offline, unknown},
		{"91", offline, offline, unknown},
		{"94", unknown, unknown, unknown},
		{"95", unknown, unknown, unknown},
		{"96", offline, offline, unknown},
		{"ZZ", declined, declined, declined},
		{"02", declined, declined, declined},
		{"08", declined, declined, declined},
		{"0", declined, declined, declined},
		{"", declined, declined, declined},
	} {
		answer := &message{mti: "0210"}
		answer.set(deCode, tc.code)
		answer.set(deAuthCode, "A1B2C3")
		for kind, want := range map[payment.Kind]said{payment.Sale: tc.sale, payment.Authorization: tc.sale, payment.Refund: tc.refund,
			payment.CaptureOperation: tc.repeated, payment.VoidOperation: tc.repeated, payment.Reversal: tc.repeated} {
			if tc.code == "25" && kind == payment.Reversal {
				want = yes // There is nothing of ours to undo.
			}
			a := judge(kind, answer)
			if a.Outcome != want.outcome || a.Reason != want.reason {
				t.Errorf("%s of a %s: got %s %q, want %s %q", tc.code, kind, a.Outcome, a.Reason, want.outcome, want.reason)
			}
			if (a.Text == "") != (a.Reason == "") {
				t.Errorf("%s of a %s: reason %q has the text %q", tc.code, kind, a.Reason, a.Text)
			}
			if a.Outcome != payment.OutcomeUnknown && a.Result.Code != tc.code {
				t.Errorf("%s of a %s: code %q", tc.code, kind, a.Result.Code)
			}
		}
		delete(untested, tc.code)
	}
	for code := range untested {
		t.Errorf("code %s is not tested", code)
	}
}

var untested = func() map[string]bool {
	all := map[string]bool{}
	for code := range codes {
		all[code] = true
	}
	return all
}()

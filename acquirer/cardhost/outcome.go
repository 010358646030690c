package cardhost

import (
	"github.com/tillgate/tillgate/emv"
	"github.com/tillgate/tillgate/payment"
)

// The codes that code names.
const (
	codeApproved  = "00"
	codePartial   = "10"
	codeWrongMAC  = "88"
	codeOffline   = "91"
	codeTwice     = "94"
	codeDiffer    = "95"
	codeNoRequest = "12" // Ours to a network message that is not on the page.
)

// verdict is what a code says.
type verdict uint8

const (
	refused  verdict = iota // Nothing moved, and the same would be refused again. An unknown code is a well-formed refusal too.
	approved                // As asked.
	less                    // Approved for less.
	notNow                  // Nothing moved this time, but the same may be taken later.
	doubt                   // Not what became of the money.
)

// codes is what each response code, DE 39, means: the one table of outcomes. One that is not in it is a decline without a reason, never
// an approval.
var codes = map[string]struct {
	verdict verdict
	reason  payment.Reason
	meaning string // For people who read frames.
	ours    bool   // A fault between us and the host, which people should look at.
}{
	codeApproved:  {approved, "", "approved", false},
	codePartial:   {less, payment.ReasonPartial, "approved for less", false},
	"01":          {refused, payment.ReasonRefer, "call the issuer", false},
	"03":          {refused, payment.ReasonNotPermitted, "merchant unknown", true},
	"04":          {refused, payment.ReasonCardBlocked, "pick the card up", false},
	"05":          {refused, payment.ReasonDeclined, "do not honour", false},
	"07":          {refused, payment.ReasonCardBlocked, "pick the card up, special condition", false},
	codeNoRequest: {refused, payment.ReasonDeclined, "not a valid transaction", false},
	"13":          {refused, payment.ReasonDeclined, "amount not valid", false},
	"14":          {refused, payment.ReasonCardInvalid, "no such card", false},
	"25":          {refused, payment.ReasonDeclined, "original not found", false},
	"30":          {refused, payment.ReasonUnavailable, "format error", true},
	"41":          {refused, payment.ReasonCardBlocked, "lost card", false},
	"43":          {refused, payment.ReasonCardBlocked, "stolen card", false},
	"51":          {refused, payment.ReasonInsufficientFunds, "not enough money", false},
	"54":          {refused, payment.ReasonCardExpired, "expired card", false},
	"55":          {refused, payment.ReasonPINWrong, "wrong PIN", false},
	"57":          {refused, payment.ReasonNotPermitted, "not permitted to the card", false},
	"58":          {refused, payment.ReasonNotPermitted, "not permitted to the terminal", false},
	"59":          {refused, payment.ReasonRisk, "suspected fraud", false},
	"61":          {refused, payment.ReasonLimitExceeded, "over the amount limit", false},
	"62":          {refused, payment.ReasonCardBlocked, "restricted card", false},
	"63":          {refused, payment.ReasonRisk, "security violation", false},
	"65":          {refused, payment.ReasonLimitExceeded, "over the count limit", false},
	"75":          {refused, payment.ReasonPINTries, "PIN tries exceeded", false},
	"76":          {refused, payment.ReasonPINNeeded, "PIN needed", false},
	"82":          {refused, payment.ReasonCardInvalid, "wrong cryptogram or card security code", false},
	codeWrongMAC:  {notNow, payment.ReasonUnavailable, "wrong MAC", true}, // The page: the host has done nothing.
	codeOffline:   {notNow, payment.ReasonUnavailable, "issuer or host not available", false},
	// Something stands under our number. It may be this very message, come twice through something in between, whose other answer is still
	// on its way: only a reversal settles that. It names its original by number and time, so that it can undo no other.
	codeTwice:  {doubt, "", "sent twice", false},
	codeDiffer: {doubt, "", "totals differ", false}, // Of a batch; about a payment it says nothing.
	"96":       {notNow, payment.ReasonUnavailable, "host failed", false},
}

// ofRefunds are reasons that differ when money is given back.
var ofRefunds = map[string]payment.Reason{
	"13": payment.ReasonRefundExceeds,
	"61": payment.ReasonRefundExceeds,
}

// gone are the codes that say of a reversal's original that it is not there: that is as good as its undoing. The page: 25 is of a number
// under which something else stands, so that ours was never taken, and would be refused as a second one if it still came.
var gone = map[string]bool{"25": true}

// texts are reasons for people. They hold no card data.
var texts = map[payment.Reason]string{
	payment.ReasonDeclined:          "The card issuer declined.",
	payment.ReasonRisk:              "The card issuer suspects fraud.",
	payment.ReasonInsufficientFunds: "There is not enough money on the card.",
	payment.ReasonUnavailable:       "The card host or the issuer is not available; nothing was charged.",
	payment.ReasonLimitExceeded:     "The card's limit is exceeded.",
	payment.ReasonCardExpired:       "The card has expired.",
	payment.ReasonCardInvalid:       "The card is not valid.",
	payment.ReasonCardBlocked:       "The card is blocked.",
	payment.ReasonNotPermitted:      "The transaction is not permitted.",
	payment.ReasonRefer:             "The card issuer wants to be called.",
	payment.ReasonPINWrong:          "The PIN is wrong.",
	payment.ReasonPINTries:          "The PIN was wrong too often.",
	payment.ReasonPINNeeded:         "A PIN is needed.",
	payment.ReasonPartial:           "The card issuer approved less than was asked for; it was given back.",
	payment.ReasonRefundExceeds:     "The refund is more than what is left of the sale.",
}

// repeated are the operations that are sent again until they are answered. What the host cannot do now, it is asked again: to a repeat its
// word does not even tell what became of the first. All others hear of it and may try anew.
var repeated = map[payment.Kind]bool{payment.CaptureOperation: true, payment.VoidOperation: true, payment.Reversal: true}

// judge is what an answer means for an operation. Its MAC is right, and it speaks of what was asked for.
func judge(kind payment.Kind, answer *message) payment.Answer {
	code := answer.get(deCode)
	row := codes[code]
	unknown := payment.Answer{Outcome: payment.OutcomeUnknown}
	a := payment.Answer{Reason: row.reason, Result: payment.Result{AuthCode: answer.get(deAuthCode), Code: code}, Chip: chip(answer)}
	if kind == payment.Reversal && gone[code] {
		return payment.Answer{Outcome: payment.OutcomeApproved, Result: a.Result}
	}
	switch row.verdict {
	case approved:
		if kind.IsAttempt() && a.Result.AuthCode == "" {
			return unknown // The page: an approval has one. Whatever this is, it is reversed.
		}
		a.Outcome = payment.OutcomeApproved
		return a
	case less:
		if !kind.IsAttempt() {
			return unknown // Nothing else can be done by halves.
		}
		a.Outcome = payment.OutcomeUnfit
	case doubt:
		return unknown
	case notNow:
		if repeated[kind] {
			return unknown
		}
		a.Outcome = payment.OutcomeDeclined
	default:
		a.Outcome = payment.OutcomeDeclined
		if reason, ok := ofRefunds[code]; ok && kind == payment.Refund {
			a.Reason = reason
		}
		if a.Reason == "" {
			a.Reason = payment.ReasonDeclined
		}
	}
	a.Text = texts[a.Reason]
	return a
}

// echoed is what an answer repeats of its request.
var echoed = []int{deProcessing, deAmount, deSent, deMember, deMerchant, deCurrency}

// echoes reports whether an answer speaks of what was asked for. An approval must repeat all of it; a refusal may be of a host that could not
// read it, but must not contradict it.
func echoes(request, answer *message) bool {
	v := codes[answer.get(deCode)].verdict
	for _, de := range echoed {
		got, want := answer.get(de), request.get(de)
		if de == deAmount && v == less {
			if n := answer.number(de); !answer.have(de) || n <= 0 || n >= request.number(de) {
				return false
			}
			continue
		}
		if answer.have(de) && got != want || !answer.have(de) && request.have(de) && (v == approved || v == less) {
			return false
		}
	}
	return true
}

// chip is the issuer's answer to the chip. What cannot be read is none: the chip then decides without it.
func chip(answer *message) []byte {
	if !answer.have(deChip) {
		return nil
	}
	data := []byte(answer.get(deChip))
	if _, err := emv.Parse(data); err != nil {
		return nil
	}
	return data
}

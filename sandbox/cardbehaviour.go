package sandbox

import (
	"fmt"

	"github.com/bojanz/currency"

	"github.com/tillgate/tillgate/money"
)

// CardTriggers lists every amount with a behaviour at the card host.
func CardTriggers() []Trigger {
	list := make([]Trigger, 0, len(cardBehaviours))
	for _, b := range cardBehaviours {
		list = append(list, Trigger{b.amount, b.name})
	}
	return list
}

// A cardFault is what goes wrong on the card host's wire.
type cardFault uint8

const (
	cardFaultNone      cardFault = iota
	cardFaultSilent              // Never answered; the connection stays.
	cardFaultLate                // The answer comes after lateBy.
	cardFaultGarbled             // The answer is a frame that holds no message.
	cardFaultCut                 // The connection is closed without an answer.
	cardFaultError               // The answer is 96.
	cardFaultMAC                 // The answer's MAC is wrong.
	cardFaultAmount              // The answer has another amount.
	cardFaultReference           // The answer has another RRN.
	cardFaultARPC                // The answer's tag 91 is wrong.
	cardFaultTwice               // The answer comes twice.
	cardFaultTorn                // The answer comes byte by byte.
	cardFaultOff                 // After the answer the host signs off for a while.
)

// A cardBehaviour is one row of the card host's trigger table. The zero values of its fields mean "as usual".
type cardBehaviour struct {
	name   string
	amount string
	code   string    // DE 39, if it is not an approval in full.
	fault  cardFault // What happens to the first answer for a reference.
	lost   bool      // The fault comes before the request is taken, so that the host never knew it.
	// What happens to the first reversal or void, and whether it is lost before it is carried out.
	undoFault cardFault
	undoLost  bool
	what      string // For people, in docs/sandbox.md.
}

// cardBehaviours is the whole list, in the order of the amounts. Names and amounts that the wallet network knows too mean the same here.
var cardBehaviours = []cardBehaviour{
	{name: "approve", amount: "9050.00", what: "Approved."},
	{name: "decline", amount: "9051.00", code: "05", what: "Declined with `05`."},
	{name: "insufficient_funds", amount: "9052.00", code: "51", what: "Declined with `51`."},
	{name: "no_answer", amount: "9056.00", fault: cardFaultSilent, what: "Taken and approved; the answer is never sent. The connection stays."},
	{name: "late_answer", amount: "9057.00", fault: cardFaultLate, what: "Taken and approved at once; answered after 12 seconds."},
	{name: "garbled_answer", amount: "9058.00", fault: cardFaultGarbled, what: "Taken and approved; the answer is a frame that holds no message. The connection stays."},
	{name: "connection_cut", amount: "9059.00", fault: cardFaultCut, what: "Taken and approved; the connection is closed without an answer."},
	{name: "error", amount: "9060.00", fault: cardFaultError, lost: true, what: "`96`, and nothing is taken. The second time it is taken and approved."},
	{name: "request_lost", amount: "9061.00", fault: cardFaultSilent, lost: true,
		what: "Never arrives: nothing is taken, and there is no answer. The second time it is taken and approved."},
	{name: "limit_exceeded", amount: "9062.00", code: "61", what: "Declined with `61`."},
	{name: "code_expired", amount: "9063.00", code: "54", what: "Declined with `54`: expired, as the issuer sees it."},
	{name: "cancel_no_answer", amount: "9066.00", undoFault: cardFaultSilent, what: "Approved and answered; the first void or reversal is carried out and never answered."},
	{name: "cancel_lost", amount: "9067.00", undoFault: cardFaultSilent, undoLost: true,
		what: "Approved and answered; the first void or reversal never arrives: it is neither carried out nor answered."},
	{name: "referral", amount: "9068.00", code: "01", what: "Declined with `01`: call the issuer."},
	{name: "pick_up", amount: "9069.00", code: "04", what: "Declined with `04`: pick the card up."},
	{name: "invalid_transaction", amount: "9070.00", code: "12", what: "Declined with `12`."},
	{name: "invalid_amount", amount: "9071.00", code: "13", what: "Declined with `13`."},
	{name: "no_such_card", amount: "9072.00", code: "14", what: "Declined with `14`."},
	{name: "lost_card", amount: "9073.00", code: "41", what: "Declined with `41`."},
	{name: "stolen_card", amount: "9074.00", code: "43", what: "Declined with `43`."},
	{name: "wrong_pin", amount: "9075.00", code: "55", what: "Declined with `55`, whatever the PIN; it does not count as a try."},
	{name: "pin_tries_exceeded", amount: "9076.00", code: "75", what: "Declined with `75`, whatever the PIN."},
	{name: "not_permitted_card", amount: "9077.00", code: "57", what: "Declined with `57`."},
	{name: "not_permitted_terminal", amount: "9078.00", code: "58", what: "Declined with `58`."},
	{name: "suspected_fraud", amount: "9079.00", code: "59", what: "Declined with `59`."},
	{name: "count_limit", amount: "9080.00", code: "65", what: "Declined with `65`: used too often."},
	{name: "restricted_card", amount: "9081.00", code: "62", what: "Declined with `62`."},
	{name: "security_violation", amount: "9082.00", code: "63", what: "Declined with `63`."},
	{name: "partial_approval", amount: "9083.00", code: "10", what: "Approved with `10` for half of the amount. A refund or completion is approved in full."},
	{name: "wrong_mac", amount: "9084.00", fault: cardFaultMAC, what: "Taken and approved; the answer's MAC is wrong."},
	{name: "other_amount", amount: "9085.00", fault: cardFaultAmount, what: "Taken and approved; the answer's amount is 1.00 higher."},
	{name: "unknown_code", amount: "9086.00", code: "ZZ", what: "Answered `ZZ`, which no page explains. Nothing moves."},
	{name: "host_unavailable", amount: "9087.00", code: "91", what: "Declined with `91`: the issuer cannot be reached."},
	{name: "duplicate", amount: "9088.00", code: "94", what: "Declined with `94`, though it comes for the first time. Nothing moves."},
	{name: "sign_off", amount: "9089.00", fault: cardFaultOff,
		what: "Approved and answered; then the host signs off on all connections, answers `91`, and signs on again after 5 seconds."},
	{name: "reversal_no_answer", amount: "9090.00", fault: cardFaultSilent, undoFault: cardFaultSilent,
		what: "Taken, approved and never answered; the first reversal is carried out and never answered either."},
	{name: "reversal_lost", amount: "9091.00", fault: cardFaultSilent, undoFault: cardFaultSilent, undoLost: true,
		what: "Taken, approved and never answered; the first reversal never arrives."},
	{name: "repeated_answer", amount: "9092.00", fault: cardFaultTwice, what: "Approved; the same answer comes twice."},
	{name: "torn_answer", amount: "9093.00", fault: cardFaultTorn, what: "Approved; the answer comes byte by byte."},
	{name: "pin_needed", amount: "9094.00", code: "76", what: "Declined with `76`."},
	{name: "unknown_merchant", amount: "9095.00", code: "03", what: "Declined with `03`."},
	{name: "pick_up_special", amount: "9096.00", code: "07", what: "Declined with `07`: pick the card up, special condition."},
	{name: "wrong_cryptogram", amount: "9097.00", code: "82", what: "Declined with `82`."},
	{name: "wrong_arpc", amount: "9098.00", fault: cardFaultARPC, what: "Approved; the ARPC in the answer's DE 55 is wrong, so that the chip refuses."},
	{name: "other_reference", amount: "9099.00", fault: cardFaultReference, what: "Taken and approved; the answer's DE 37 is another."},
	{name: "reversal_error", amount: "9100.00", fault: cardFaultSilent, undoFault: cardFaultError, undoLost: true,
		what: "Taken, approved and never answered; the first reversal is answered `96` and not carried out."},
}

// usualCard is the place of what happens when nothing is triggered.
const usualCard = 0

// cardBehaviourNamed is a behaviour's place in the table, or -1.
func cardBehaviourNamed(name string) int {
	for i := range cardBehaviours {
		if cardBehaviours[i].name == name {
			return i
		}
	}
	return -1
}

// cardByMinor finds the place of the behaviour that an amount triggers, in a currency with two decimals.
var cardByMinor = func() map[int64]int {
	m := make(map[int64]int, len(cardBehaviours))
	for i, b := range cardBehaviours {
		a, err := money.Parse(b.amount, yuan) // Any currency with two decimals.
		if err != nil {
			panic(fmt.Sprintf("sandbox: amount of %s: %v", b.name, err))
		}
		m[a.Minor()] = i
	}
	return m
}()

// tokenPrefix begins the card widget's tokens; four digits follow, the whole part of a trigger amount.
const tokenPrefix = "ct_sandbox_"

// cardByToken finds the place of the behaviour that a token triggers. Tokens of behaviours that only the wallet network has approve, as other
// tokens do.
var cardByToken = func() map[string]int {
	m := make(map[string]int, len(cardBehaviours))
	for i, b := range cardBehaviours {
		m[tokenPrefix+b.amount[:4]] = i
	}
	return m
}()

// numericCurrency is a currency of DE 49.
type numericCurrency struct {
	code     string // As in the books.
	decimals int
}

// byNumeric finds a currency by its ISO 4217 number.
var byNumeric = func() map[[3]byte]numericCurrency {
	m := map[[3]byte]numericCurrency{}
	for _, code := range currency.GetCurrencyCodes() {
		c, err := money.ParseCurrency(code)
		if err != nil || len(c.Numeric()) != 3 {
			continue
		}
		m[[3]byte([]byte(c.Numeric()))] = numericCurrency{code, c.Decimals()}
	}
	return m
}()

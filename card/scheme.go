package card

import "strconv"

// Scheme is the network whose mark a card bears, in lower case; empty when it is not known.
type Scheme string

// The schemes that are told apart.
const (
	Visa       Scheme = "visa"
	Mastercard Scheme = "mastercard"
	Amex       Scheme = "amex"
	UnionPay   Scheme = "unionpay"
	Interac    Scheme = "interac"
	Discover   Scheme = "discover"
	JCB        Scheme = "jcb"
)

// iins are ranges of the first six digits. The first range that holds a number decides, so narrow ones stand before the wide ones that
// they are cut from. Interac has no range of its own: its issuers' debit cards lie inside those of others, and only a chip's AID tells for
// certain. Listed are the large issuers'; the published test number 4506445006931933 is one of CIBC's.
var iins = []struct {
	low, high int
	scheme    Scheme
}{
	{450600, 450699, Interac}, // CIBC.
	{451900, 451999, Interac}, // Royal Bank.
	{453600, 453699, Interac}, // Scotiabank.
	{472400, 472499, Interac}, // TD Canada Trust.
	{500766, 500766, Interac}, // Bank of Montreal.
	{400000, 499999, Visa},
	{510000, 559999, Mastercard},
	{222100, 272099, Mastercard},
	{340000, 349999, Amex},
	{370000, 379999, Amex},
	{620000, 629999, UnionPay},
	{810000, 817199, UnionPay},
	{601100, 601199, Discover},
	{644000, 659999, Discover},
	{352800, 358999, JCB},
}

// Scheme tells the scheme by the number's first six digits.
func (p PAN) Scheme() Scheme {
	if p.IsZero() {
		return ""
	}
	iin, _ := strconv.Atoi(p.Reveal()[:6]) // Digits, by construction.
	for _, r := range iins {
		if r.low <= iin && iin <= r.high {
			return r.scheme
		}
	}
	return ""
}

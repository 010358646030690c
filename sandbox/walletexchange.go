package sandbox

import (
	"math/bits"
	"strconv"
	"strings"

	"github.com/tillgate/tillgate/money"
)

// rateDecimals is the number of decimals in a rate's text.
const rateDecimals = 8

var yuan = money.MustCurrency("CNY")

// rates is the closed list of currencies that the network takes, each with the yuan that one unit of it costs. Fixed, so that tests can know
// the answer.
var rates = map[string]string{
	"AUD": "4.73150000",
	"CAD": "5.18420000",
	"CHF": "8.96150000",
	"CNY": "1.00000000",
	"EUR": "8.31270000",
	"GBP": "9.60340000",
	"HKD": "0.91850000",
	"IDR": "0.00043500",
	"JPY": "0.04812000",
	"KRW": "0.00513000",
	"KWD": "23.38000000",
	"MOP": "0.89170000",
	"MYR": "1.69300000",
	"NZD": "4.20160000",
	"PHP": "0.12450000",
	"SGD": "5.57260000",
	"THB": "0.22140000",
	"TWD": "0.23560000",
	"USD": "7.14360000",
	"VND": "0.00027300",
}

// rateFor is the rate that a wallet applies to a currency; empty if the customer pays in that currency.
func rateFor(w *wallet, cur money.Currency) string {
	if !w.yuan || cur == yuan {
		return ""
	}
	return rates[cur.Code()]
}

// toYuan is an amount at a rate of the table, in fen, rounded half up. The limits on amounts and the sizes of the rates keep it far from
// overflow: 10^12 minor units at 99 yuan each are below 2^63 in any currency.
func toYuan(a money.Amount, rate string) int64 {
	r, err := strconv.ParseUint(strings.Replace(rate, ".", "", 1), 10, 64)
	if err != nil {
		panic("sandbox: bad rate " + rate)
	}
	// fen = minor × r × 10^2 / (10^rateDecimals × 10^decimals)
	div := uint64(1)
	for range rateDecimals - yuan.Decimals() + a.Currency().Decimals() {
		div *= 10
	}
	hi, lo := bits.Mul64(uint64(a.Minor()), r)
	lo, carry := bits.Add64(lo, div/2, 0)
	fen, _ := bits.Div64(hi+carry, lo, div)
	return int64(fen)
}

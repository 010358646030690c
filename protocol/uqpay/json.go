package uqpay

import "github.com/tillgate/tillgate/internal/strictjson"

// bodyMax is the longest request body in bytes: a sale with chip data has about 1 kB, products of an order a few more.
const bodyMax = 1 << 18

// limits bound every JSON text of a request.
var limits = strictjson.Limits{
	Body:     bodyMax,
	Depth:    32, // The interface needs five levels, metadata a few more.
	Values:   1 << 13,
	Digits:   64,  // As package money has it.
	Exponent: 400, // No double goes beyond 1e308. Sums are bounded more tightly by package money.
	Members:  8,
}

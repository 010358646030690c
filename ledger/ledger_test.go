package ledger_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/tillgate/tillgate/ledger"
	"github.com/tillgate/tillgate/money"
)

var aud = money.MustCurrency("AUD")

func TestEntries(t *testing.T) {
	t.Parallel()
	must := func(e ledger.Entry, err error) ledger.Postings {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return e.Postings
	}
	for _, tc := range []struct {
		name      string
		got, want ledger.Postings
	}{
		{"a sale of 100.00 with a tip of 10.00 and a fee of 1.45", must(ledger.Capture(money.New(10_000, aud), 1_000, 145)),
			ledger.Postings{Receivable: 10_000, Payable: -8_855, Fees: -145, Tips: -1_000}},
		{"a refund of 30.00, whose fee stays", must(ledger.Refund(money.New(3_000, aud))), ledger.Postings{Receivable: -3_000, Payable: 3_000}},
		{"a void of all", must(ledger.Void(money.New(10_000, aud), 1_000, 145)),
			ledger.Postings{Receivable: -10_000, Payable: 8_855, Fees: 145, Tips: 1_000}},
		{"a void of the 70.00 that are left", must(ledger.Void(money.New(7_000, aud), 1_000, 145)),
			ledger.Postings{Receivable: -7_000, Payable: 5_855, Fees: 145, Tips: 1_000}},
	} {
		if tc.got != tc.want || tc.got.Sum() != 0 {
			t.Errorf("%s: got %+v, want %+v", tc.name, tc.got, tc.want)
		}
	}
}

// However a payment is refunded in parts, once the rest is given back nothing is left in any account.
func TestWhatIsGivenBackWholeLeavesNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		amount := rapid.Int64Range(1, 1_000_000_000_000).Draw(t, "amount")
		tip := rapid.Int64Range(0, amount).Draw(t, "tip")
		fee := rapid.Int64Range(0, 1_000_000).Draw(t, "fee")
		captured, err := ledger.Capture(money.New(amount, aud), tip, fee)
		if err != nil {
			t.Fatal(err)
		}
		sum, left := captured.Postings, amount
		for range rapid.IntRange(0, 4).Draw(t, "refunds") {
			part := rapid.Int64Range(0, left-1).Draw(t, "part")
			e, err := ledger.Refund(money.New(part, aud))
			if err != nil {
				t.Fatal(err)
			}
			if sum, left = sum.Plus(e.Postings), left-part; sum.Sum() != 0 || sum.Fees != -fee || sum.Tips != -tip {
				t.Fatalf("after a refund: %+v", sum)
			}
		}
		rest, err := ledger.Void(money.New(left, aud), tip, fee)
		if err != nil {
			t.Fatal(err)
		}
		if sum = sum.Plus(rest.Postings); sum != (ledger.Postings{}) {
			t.Fatalf("left: %+v", sum)
		}
	})
}

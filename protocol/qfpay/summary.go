package qfpay

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tillgate/tillgate/money"
)

// Lines are a summary as a printer of so many columns prints it (§4.4): for each channel in the seed's order the count and sum of sales and of
// refunds and what is left, and at the end the same of all.
func (s Summary) Lines(columns int) []string {
	lines := []string{centre("TRANSACTION SUMMARY", columns), centre(s.Day.String(), columns), strings.Repeat("-", columns)}
	all := Total{SalesSum: money.New(0, hkd), RefundsSum: money.New(0, hkd)}
	for _, row := range channels {
		for _, t := range s.Totals {
			if t.Channel != row.name {
				continue
			}
			lines = append(lines, row.display)
			lines = append(lines, t.lines(columns)...)
			all.Sales, all.Refunds, all.Unresolved = all.Sales+t.Sales, all.Refunds+t.Refunds, all.Unresolved+t.Unresolved
			// A shop's day does not overflow 64 bits, so the sums are plain.
			all.SalesSum = money.New(all.SalesSum.Minor()+t.SalesSum.Minor(), hkd)
			all.RefundsSum = money.New(all.RefundsSum.Minor()+t.RefundsSum.Minor(), hkd)
		}
	}
	lines = append(lines, strings.Repeat("-", columns), "TOTAL HKD")
	return append(lines, all.lines(columns)...)
}

func (t Total) lines(columns int) []string {
	sales, refunds := money.New(t.SalesSum.Minor(), hkd), money.New(t.RefundsSum.Minor(), hkd)
	lines := []string{
		spread(fmt.Sprintf("  Sales   %5d", t.Sales), sales.String(), columns),
		spread(fmt.Sprintf("  Refunds %5d", t.Refunds), refunds.Neg().String(), columns),
		spread("  Net", money.New(sales.Minor()-refunds.Minor(), hkd).String(), columns),
	}
	if t.Unresolved > 0 {
		lines = append(lines, spread("  Unresolved", strconv.Itoa(t.Unresolved), columns))
	}
	return lines
}

func centre(s string, columns int) string {
	return strings.Repeat(" ", max(0, (columns-utf8.RuneCountInString(s))/2)) + s
}

func spread(left, right string, columns int) string {
	gap := columns - utf8.RuneCountInString(left) - utf8.RuneCountInString(right)
	return left + strings.Repeat(" ", max(1, gap)) + right
}

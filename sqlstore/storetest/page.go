package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/tillgate/tillgate/payment"
)

// testPages holds the paged lists against what was stored.
func testPages(t *testing.T, open func() Store) {
	s := open()
	at := func(seconds int) time.Time { return then.Add(time.Duration(seconds) * time.Second) }
	attempt := func(p payment.Payment, id payment.ID, state payment.OperationState) payment.Operation {
		o := newOperation(p, id)
		o.Kind, o.State, o.CreatedAt = payment.Sale, state, p.CreatedAt
		return o
	}
	// Payment 4 is the newest although its ID is not the largest: IDs come from blocks.
	for _, row := range []struct {
		id    payment.ID
		made  int
		state payment.State
		last  payment.OperationState // "" for no attempt.
	}{{1, 1, payment.Captured, payment.Approved}, {2, 2, payment.Open, payment.Declined}, {3, 3, payment.Open, ""}, {5, 4, payment.Cancelled, payment.Reversed}, {4, 5, payment.Captured, payment.Approved}} {
		p := newPayment(row.id)
		p.Protocol, p.State, p.CreatedAt, p.Reference, p.Attempt = "uqpay", row.state, at(row.made), fmt.Sprint("r", row.id%2), 0
		var ops []payment.Operation
		attempted := func(id payment.ID, state payment.OperationState) {
			o := attempt(p, id, state)
			if state == payment.Declined {
				o.Failure = payment.ReasonDeclined
			}
			p.Attempt, ops = id, append(ops, o)
		}
		switch {
		case row.id == 5:
			attempted(5, payment.Declined)
			attempted(30, row.last)
		case row.last != "":
			attempted(row.id, row.last)
		}
		if row.id == 1 {
			for i, key := range []string{"one", "two", ""} {
				o := newOperation(p, payment.ID(20+i))
				o.Kind, o.State, o.Target, o.CreatedAt = payment.Refund, payment.Approved, 1, at(10+i)
				o.Key = payment.Key{}
				if key != "" {
					o.Key = payment.Key{Scope: "uqpay", Key: key}
				}
				if key == "two" {
					o.State = payment.Declined
				}
				ops = append(ops, o)
			}
		}
		insert(t, s, p, ops...)
	}
	other := newPayment(6)
	other.Protocol, other.CreatedAt = "upp", at(6)
	insert(t, s, other)

	check := func(what string, list func(payment.Reader, payment.ListFilter) ([]payment.ID, int64, error), f payment.ListFilter, total int64, want ...payment.ID) {
		t.Helper()
		f.Protocol = "uqpay"
		if f.Limit == 0 {
			f.Limit = 10
		}
		var got []payment.ID
		var n int64
		if err := s.Read(t.Context(), func(r payment.Reader) (err error) { got, n, err = list(r, f); return err }); err != nil {
			t.Fatal(err)
		}
		equal(t, what, got, want)
		equal(t, what+", in all", n, total)
	}
	views := func(read func(payment.Reader, payment.MerchantID, payment.ListFilter) ([]payment.View, int64, error), id func(payment.View) payment.ID) func(payment.Reader, payment.ListFilter) ([]payment.ID, int64, error) {
		return func(r payment.Reader, f payment.ListFilter) (ids []payment.ID, n int64, err error) {
			list, n, err := read(r, merchant, f)
			for _, v := range list {
				ids = append(ids, id(v))
			}
			return ids, n, err
		}
	}
	payments := views(payment.Reader.ListPayments, func(v payment.View) payment.ID {
		if v.Attempt.ID != v.Payment.Attempt {
			t.Errorf("payment %d comes with attempt %d", v.Payment.ID, v.Attempt.ID)
		}
		return v.Payment.ID
	})
	attempts := views(payment.Reader.ListAttempts, func(v payment.View) payment.ID { return v.Attempt.ID })
	refunds := func(r payment.Reader, f payment.ListFilter) (ids []payment.ID, n int64, err error) {
		list, n, err := r.ListRefunds(merchant, f)
		for _, v := range list {
			ids = append(ids, v.Refund.ID)
		}
		return ids, n, err
	}
	check("all", payments, payment.ListFilter{}, 5, 4, 5, 3, 2, 1)
	check("a page", payments, payment.ListFilter{Offset: 1, Limit: 2}, 5, 5, 3)
	check("the last page", payments, payment.ListFilter{Offset: 4, Limit: 2}, 5, 1)
	check("past the end", payments, payment.ListFilter{Offset: 5, Limit: 2}, 5)
	check("a count only", payments, payment.ListFilter{Limit: -1}, 5)
	check("states", payments, payment.ListFilter{States: []payment.State{payment.Captured, payment.Cancelled}}, 3, 4, 5, 1)
	check("open without an attempt, or declined", payments, payment.ListFilter{States: []payment.State{payment.Open}, Attempts: []payment.OperationState{"", payment.Declined}}, 2, 3, 2)
	check("open without an attempt", payments, payment.ListFilter{Attempts: []payment.OperationState{""}}, 1, 3)
	check("by the latest attempt", payments, payment.ListFilter{Attempts: []payment.OperationState{payment.Reversed}}, 1, 5)
	check("by the latest attempt, not an earlier one", payments, payment.ListFilter{Attempts: []payment.OperationState{payment.Declined}}, 1, 2)
	check("by reference", payments, payment.ListFilter{Reference: "r1"}, 3, 5, 3, 1)
	check("by ID", payments, payment.ListFilter{Payment: 2}, 1, 2)
	check("after", payments, payment.ListFilter{After: at(4)}, 1, 4)
	check("before", payments, payment.ListFilter{Before: at(2)}, 1, 1)
	check("between", payments, payment.ListFilter{After: at(1), Before: at(5)}, 3, 5, 3, 2)
	check("attempts", attempts, payment.ListFilter{}, 5, 4, 30, 5, 2, 1)
	check("a page of attempts", attempts, payment.ListFilter{Offset: 1, Limit: 2}, 5, 30, 5)
	check("attempts of a payment", attempts, payment.ListFilter{Payment: 5}, 2, 30, 5)
	check("attempts after", attempts, payment.ListFilter{After: at(3)}, 3, 4, 30, 5)
	check("attempts by state", attempts, payment.ListFilter{Attempts: []payment.OperationState{payment.Approved}}, 2, 4, 1)
	check("failed attempts", attempts, payment.ListFilter{Failed: true}, 2, 5, 2)
	check("attempts that did not fail", attempts, payment.ListFilter{Unfailed: true, States: []payment.State{payment.Cancelled}}, 1, 30)
	check("refunds", refunds, payment.ListFilter{}, 2, 21, 20)
	check("refunds by state", refunds, payment.ListFilter{Refunds: []payment.OperationState{payment.Declined}}, 1, 21)
	check("refunds by time", refunds, payment.ListFilter{After: at(10)}, 1, 21)
	check("refunds of a payment", refunds, payment.ListFilter{Payment: 4}, 0)
}

// testNewestToken is about the newest tokens of clients.
func testNewestToken(t *testing.T, open func() Store) {
	s := open()
	check := func(m payment.MerchantID, credential payment.ID, want string) {
		t.Helper()
		got, err := s.NewestToken(t.Context(), m, credential)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "newest token", got, want)
	}
	check(merchant, 1, "")
	for _, token := range []string{"one", "two"} {
		if err := s.SetNewestToken(t.Context(), merchant, 1, token); err != nil {
			t.Fatal(err)
		}
		check(merchant, 1, token)
	}
	check(merchant, 2, "")
	check(merchant+1, 1, "")
}

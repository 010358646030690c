package terminal

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/tillgate/tillgate/card"
	"github.com/tillgate/tillgate/payment"
)

// listMax bounds the payments that a summary reads at once.
const listMax = 500

// outcomeOf is what has become of a payment. Whatever is not certain is unknown, never declined.
func outcomeOf(v payment.View) (payment.Outcome, payment.Reason) {
	p := &v.Payment
	switch p.State {
	case payment.Authorized, payment.Captured, payment.Voided:
		return payment.OutcomeApproved, ""
	case payment.Refused, payment.Expired, payment.Cancelled:
		reason := p.Failure
		if reason == "" {
			reason = payment.ReasonDeclined
		}
		return payment.OutcomeDeclined, reason
	}
	switch v.Attempt.State {
	case payment.Sent, payment.Unknown, payment.Reversing:
		return payment.OutcomeUnknown, ""
	}
	return payment.OutcomeWaiting, "" // Somebody must still act, be it with another attempt.
}

// viewOf is a payment as terminals see it.
func viewOf(v payment.View) PaymentView {
	p, op := &v.Payment, &v.Attempt
	out := PaymentView{ID: p.ID, Number: p.Number(), Key: p.Key.Key, Reference: p.Reference, Protocol: p.Protocol, Minor: p.Amount.Minor(), Tip: p.Tip,
		Currency: p.Amount.Currency().Code(), Method: p.Method, Flow: p.Flow, Attempted: p.Attempt != 0, Refunded: p.Refunded, Left: p.Left().Minor(),
		Voided: p.State == payment.Voided, CreatedAt: p.CreatedAt, PaidAt: p.PaidAt, Day: p.Day, ExpiresAt: p.ExpiresAt,
		RRN: op.Number, Code: op.Result.Code, AuthCode: op.Result.AuthCode, Provider: op.Result.ProviderReference, QR: op.Result.QR,
		Masked: op.Card.Masked, Scheme: op.Card.Scheme, Entry: op.Card.Entry, PINPad: op.Card.PINPad}
	out.Outcome, out.Reason = outcomeOf(v)
	if out.Outcome == payment.OutcomeDeclined {
		out.Text = p.FailureText
	}
	_ = json.Unmarshal(p.Echo, &out.Echo) // Of other protocols' payments it is no string, and no business of terminals'.
	return out
}

// refundOf is a refund as terminals see it.
func refundOf(p payment.Payment, op payment.Operation) PaymentView {
	out := PaymentView{ID: p.ID, Refund: op.ID, Number: numberOfRefund(p, op), Original: p.Number(), Key: op.Key.Key, Protocol: p.Protocol, Minor: op.Amount.Minor(),
		Whole: p.Amount.Minor(), Currency: op.Amount.Currency().Code(), Method: p.Method, Flow: p.Flow, Attempted: true, Left: p.Left().Minor(),
		CreatedAt: op.CreatedAt, PaidAt: op.SettledAt, Day: op.Day, RRN: op.Number, Code: op.Result.Code, AuthCode: op.Result.AuthCode,
		Provider: op.Result.ProviderReference, Masked: op.Card.Masked, Scheme: op.Card.Scheme, Entry: op.Card.Entry}
	switch op.State {
	case payment.Approved:
		out.Outcome = payment.OutcomeApproved
	case payment.Declined:
		out.Outcome, out.Reason, out.Text, out.PaidAt = payment.OutcomeDeclined, op.Failure, op.FailureText, time.Time{}
	case payment.Waiting:
		out.Outcome = payment.OutcomeWaiting
	default:
		out.Outcome = payment.OutcomeUnknown
	}
	return out
}

// numberOfRefund has the form of a payment's number: the day of the refund and the digits of its ID.
func numberOfRefund(p payment.Payment, op payment.Operation) string {
	day, _ := p.Calendar.Day(op.CreatedAt) // The payment was made with this zone.
	return payment.Numbering{Prefix: day.String(), Digits: numberDigits}.Number(op.ID)
}

// idOf is the ID at the end of a number of ours; 0 for anything else. The whole number is compared with the row found.
func idOf(number string) payment.ID {
	const day = 8
	if len(number) != day+numberDigits {
		return 0
	}
	id, err := strconv.ParseInt(number[day:], 10, 64)
	if err != nil || id < 0 {
		return 0
	}
	return payment.ID(id)
}

// find finds a payment or refund of the protocol in the terminal's shop.
func (l *line) find(ctx context.Context, f Frame) (any, error) {
	var q FindCall
	if err := f.Read(&q); err != nil {
		return nil, err
	}
	caller, own, _, err := l.as(ctx, q.As)
	if err != nil {
		return nil, err
	}
	var v payment.View
	var refund *payment.Operation
	if q.Number != "" {
		v, refund, err = l.byNumber(ctx, q.Number)
	} else {
		v, refund, err = l.channel.cfg.Core.Find(ctx, l.at.merchant, payment.Key{Scope: own.Scope, Key: q.Key})
		if errors.Is(err, payment.ErrNotFound) && own.RefundScope != own.Scope {
			v, refund, err = l.channel.cfg.Core.Find(ctx, l.at.merchant, payment.Key{Scope: own.RefundScope, Key: q.Key})
		}
	}
	if err != nil {
		return nil, err
	}
	if v.Payment.Protocol != q.As || v.Payment.Store != caller.Store.ID {
		return nil, payment.ErrNotFound
	}
	if refund != nil {
		return refundOf(v.Payment, *refund), nil
	}
	return viewOf(v), nil
}

func (l *line) byNumber(ctx context.Context, number string) (v payment.View, refund *payment.Operation, err error) {
	id := idOf(number)
	if id == 0 {
		return v, nil, payment.ErrNotFound
	}
	err = l.channel.cfg.Books.Read(ctx, func(r payment.Reader) error {
		v, refund = payment.View{}, nil
		p, err := r.Payment(l.at.merchant, id)
		if err == nil && p.Number() == number {
			v.Payment = p
			if p.Attempt != 0 {
				v.Attempt, err = r.Operation(l.at.merchant, id, p.Attempt)
			}
			return err
		}
		if err != nil && !errors.Is(err, payment.ErrNotFound) {
			return err
		}
		op, err := r.OperationByID(l.at.merchant, id)
		if err != nil {
			return err
		}
		if v.Payment, err = r.Payment(l.at.merchant, op.Payment); err != nil {
			return err
		}
		if op.Kind != payment.Refund || numberOfRefund(v.Payment, op) != number {
			return payment.ErrNotFound
		}
		refund = &op
		return nil
	})
	return v, refund, err
}

// summaryKey is a row of a summary.
type summaryKey struct {
	method   string
	scheme   card.Scheme
	flow     payment.Flow
	currency string
}

// summary adds the current business day of the terminal's store up. What has no outcome is counted apart. It reads the day in pieces, each a
// consistent state; a payment that is made meanwhile is of the next summary.
func (l *line) summary(ctx context.Context, f Frame) (any, error) {
	var q SummaryCall
	if err := f.Read(&q); err != nil {
		return nil, err
	}
	caller, _, _, err := l.as(ctx, q.As)
	if err != nil {
		return nil, err
	}
	now := l.channel.cfg.Now()
	calendar := caller.Store.Calendar
	today, err := calendar.Day(now)
	if err != nil {
		return nil, err
	}
	s := summing{today: today, calendar: calendar, protocol: q.As, place: caller.Store.ID, rows: map[summaryKey]*SummaryRow{}}
	const twoDays = 48 * time.Hour // A payment of today is at most so old: the lifetime of one that is paid at the end of it.
	filter := payment.ListFilter{Protocol: q.As, After: now.Add(-twoDays), Before: now.Add(time.Second), Limit: listMax}
	for n := listMax; n == listMax; filter.Offset += listMax {
		err := l.channel.cfg.Books.Read(ctx, func(r payment.Reader) error {
			views, _, err := r.ListPayments(l.at.merchant, filter)
			if n = len(views); err != nil {
				return err
			}
			for _, v := range views {
				s.sale(v)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	filter.Offset = 0
	for n := listMax; n == listMax; filter.Offset += listMax {
		err := l.channel.cfg.Books.Read(ctx, func(r payment.Reader) error {
			refunds, _, err := r.ListRefunds(l.at.merchant, filter)
			if n = len(refunds); err != nil {
				return err
			}
			for _, v := range refunds {
				s.refund(v)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return s.answer(), nil
}

// summing is a summary in the making.
type summing struct {
	today    payment.Day
	calendar payment.Calendar
	protocol string
	place    payment.ID
	rows     map[summaryKey]*SummaryRow
}

func (s *summing) row(p *payment.Payment, scheme card.Scheme) *SummaryRow {
	k := summaryKey{p.Method, scheme, p.Flow, p.Amount.Currency().Code()}
	if s.rows[k] == nil {
		s.rows[k] = &SummaryRow{Method: k.method, Scheme: k.scheme, Flow: k.flow, Currency: k.currency}
	}
	return s.rows[k]
}

func (s *summing) sale(v payment.View) {
	p := &v.Payment
	if p.Store != s.place || p.Protocol != s.protocol {
		return
	}
	outcome, _ := outcomeOf(v)
	switch {
	case p.Captured > 0 && p.Day == s.today && outcome == payment.OutcomeApproved:
		r := s.row(p, v.Attempt.Card.Scheme)
		r.Sales++
		r.SalesMinor += p.Captured
	case outcome == payment.OutcomeUnknown || outcome == payment.OutcomeWaiting && p.Attempt != 0:
		r := s.row(p, v.Attempt.Card.Scheme)
		r.Open++
		r.OpenMinor += p.Amount.Minor()
	}
}

func (s *summing) refund(v payment.RefundView) {
	p, op := &v.Payment, &v.Refund
	if p.Store != s.place || p.Protocol != s.protocol {
		return
	}
	r := s.row(p, op.Card.Scheme)
	switch {
	case op.State == payment.Approved && op.Day == s.today:
		r.Refunds++
		r.RefundsMinor += op.Amount.Minor()
	case !op.Settled():
		r.Open++
		r.OpenMinor += op.Amount.Minor()
	}
}

func (s *summing) answer() SummaryAnswer {
	out := SummaryAnswer{Day: s.today}
	for _, r := range s.rows {
		if r.Sales+r.Refunds+r.Open > 0 {
			out.Totals = append(out.Totals, *r)
		}
	}
	slices.SortFunc(out.Totals, func(a, b SummaryRow) int {
		return slices.Compare([]string{a.Method, string(a.Scheme), string(a.Flow)}, []string{b.Method, string(b.Scheme), string(b.Flow)})
	})
	return out
}

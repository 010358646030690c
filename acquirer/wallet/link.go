package wallet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tillgate/tillgate/payment"
)

// Link is a wallet network as an acquirer: operations go out as calls of the Client, answers come back as outcomes. It decides nothing.
type Link struct {
	Client  *Client
	Timeout time.Duration // Of one exchange.
	Log     *slog.Logger

	following atomic.Bool // The last call for events was answered.
}

var _ payment.Follower = (*Link)(nil)

// Following reports whether the network tells of its events now. Those of a time when it did not are told later, unless it has forgotten them.
func (l *Link) Following() bool { return l.following.Load() }

const (
	// eventsWait is how long one call for events may wait: below what middle boxes cut as idle.
	eventsWait = 25 * time.Second
	// eventsPause is the pause after a call for events that failed.
	eventsPause = time.Second
)

// Traits are those of a provider: the fate of a number can be asked, and refunds repeat under their number.
func (l *Link) Traits() payment.Traits {
	return payment.Traits{Class: payment.Provider, Timeout: l.Timeout}
}

// Do sends one operation.
func (l *Link) Do(ctx context.Context, m payment.Message) payment.Answer {
	switch m.Operation.Kind {
	case payment.Sale:
		return l.sale(ctx, m)
	case payment.Refund:
		r, err := l.Client.Refund(ctx, RefundRequest{Reference: m.Operation.Number, Original: m.Target.Number, Amount: m.Operation.Amount, Attach: attach(m)})
		if err != nil {
			return l.refusal(m, err)
		}
		return ofRefund(r)
	case payment.Close:
		p, err := l.Client.Cancel(ctx, m.Target.Number, m.Target.Amount, true)
		if err != nil {
			return l.silence(m, err)
		}
		return closed(p)
	case payment.CancelOperation, payment.VoidOperation:
		p, err := l.Client.Cancel(ctx, m.Target.Number, m.Target.Amount, false)
		var refused *RefusedError
		if errors.As(err, &refused) && refused.Code == "already_refunded" {
			return payment.Answer{Outcome: payment.OutcomeDeclined, Reason: payment.ReasonDeclined, Text: refused.Text}
		}
		if err != nil {
			return l.silence(m, err)
		}
		return undone(p)
	}
	// Wallets neither authorise nor reverse; asking for it is a mistake in the routing, and nothing has left.
	l.Log.Error("wallet: not an operation of wallets", "kind", m.Operation.Kind, "number", m.Operation.Number)
	return payment.Answer{Outcome: payment.OutcomeDeclined, Reason: payment.ReasonDeclined, Text: "Wallets do not know this operation."}
}

func (l *Link) sale(ctx context.Context, m payment.Message) payment.Answer {
	req := PayRequest{
		Reference: m.Operation.Number, MerchantID: m.Merchant.PublicID, MerchantName: m.Merchant.Name, Amount: m.Operation.Amount,
		Wallet: m.Payment.Method, Flow: FlowQR, Attach: attach(m), Lifetime: m.Payment.ExpiresAt.Sub(m.Operation.CreatedAt),
	}
	switch secret := m.Secret.(type) {
	case payment.WalletCode:
		req.Flow, req.Code = FlowCode, secret.Reveal()
	case payment.WebCheckout:
		req.Flow, req.ReturnURL = FlowWeb, secret.ReturnURL
	}
	p, err := l.Client.Pay(ctx, req)
	if err != nil {
		return l.refusal(m, err)
	}
	return ofPayment(p)
}

// Query asks what became of an attempt or a refund.
func (l *Link) Query(ctx context.Context, m payment.Message) payment.Answer {
	if m.Operation.Kind == payment.Refund {
		r, err := l.Client.RefundStatus(ctx, m.Operation.Number, m.Target.Number, m.Operation.Amount)
		if errors.Is(err, ErrNotFound) {
			return payment.Answer{Outcome: payment.OutcomeUnseen}
		}
		if err != nil {
			return l.silence(m, err)
		}
		return ofRefund(r)
	}
	p, err := l.Client.Payment(ctx, m.Operation.Number, m.Operation.Amount)
	if errors.Is(err, ErrNotFound) {
		return payment.Answer{Outcome: payment.OutcomeUnseen}
	}
	if err != nil {
		return l.silence(m, err)
	}
	return ofPayment(p)
}

// refusal is the answer to a sale or refund that came back as an error: the network may have refused to take it at all.
func (l *Link) refusal(m payment.Message, err error) payment.Answer {
	var refused *RefusedError
	if !errors.As(err, &refused) {
		return l.silence(m, err)
	}
	l.Log.Error("wallet: request refused", "number", m.Operation.Number, "kind", m.Operation.Kind, "error", err)
	if refused.Code == "reference_conflict" {
		return payment.Answer{Outcome: payment.OutcomeUnknown} // Something stands under our number: only a query tells what.
	}
	return payment.Answer{Outcome: payment.OutcomeDeclined, Reason: payment.ReasonUnavailable, Text: "The payment provider did not accept the request."}
}

// silence is what an error tells when it is no answer.
func (l *Link) silence(m payment.Message, err error) payment.Answer {
	l.Log.Warn("wallet: no answer", "number", m.Operation.Number, "kind", m.Operation.Kind, "error", err)
	if errors.Is(err, ErrNotSent) {
		return payment.Answer{Outcome: payment.OutcomeUnsent}
	}
	return payment.Answer{Outcome: payment.OutcomeUnknown}
}

// reasons translates the network's words. One that is not here is a decline without a reason.
var reasons = map[string]payment.Reason{
	"declined":           payment.ReasonDeclined,
	"insufficient_funds": payment.ReasonInsufficientFunds,
	"limit_exceeded":     payment.ReasonLimitExceeded,
	"code_invalid":       payment.ReasonCodeInvalid,
	"code_expired":       payment.ReasonCodeExpired,
	"code_used":          payment.ReasonCodeUsed,
	"customer_cancelled": payment.ReasonCustomerCancelled,
	"expired":            payment.ReasonExpired,
	"merchant_closed":    payment.ReasonExpired,
	"merchant_cancelled": payment.ReasonCancelled,
	"cancelled_unseen":   payment.ReasonCancelled,
	"refund_exceeds":     payment.ReasonRefundExceeds,
}

func reason(word string) payment.Reason {
	if r, ok := reasons[word]; ok {
		return r
	}
	return payment.ReasonDeclined
}

// ofPayment is what the network's word on a payment means for the attempt.
func ofPayment(p Payment) payment.Answer {
	a := payment.Answer{Outcome: payment.OutcomeUnknown, Result: payment.Result{
		ProviderReference: p.ProviderReference, PayerID: p.PayerID, QR: p.QRURL, Redirect: p.RedirectURL,
		Exchange: exchange(p.Exchange),
	}}
	if !p.PaidAt.IsZero() {
		a.Result.PaidAt = p.PaidAt.UnixMilli()
	}
	switch p.State {
	case Approved:
		a.Outcome = payment.OutcomeApproved
	case Waiting:
		a.Outcome = payment.OutcomeWaiting
	case Declined, Cancelled, Closed:
		a.Outcome, a.Reason, a.Text = payment.OutcomeDeclined, reason(p.Reason), p.ReasonText
	}
	return a
}

func ofRefund(r Refund) payment.Answer {
	a := payment.Answer{Outcome: payment.OutcomeUnknown, Result: payment.Result{ProviderReference: r.ProviderReference, Exchange: exchange(r.Exchange)}}
	if !r.RefundedAt.IsZero() {
		a.Result.PaidAt = r.RefundedAt.UnixMilli()
	}
	switch r.State {
	case Approved:
		a.Outcome = payment.OutcomeApproved
	case Waiting:
		a.Outcome = payment.OutcomeWaiting
	case Declined:
		a.Outcome, a.Reason, a.Text = payment.OutcomeDeclined, reason(r.Reason), r.ReasonText
	}
	return a
}

// closed is what a close was answered with: the attempt is over unpaid, or it was decided before.
func closed(p Payment) payment.Answer {
	switch p.State {
	case Closed, Cancelled:
		return payment.Answer{Outcome: payment.OutcomeApproved}
	case Declined:
		attempt := ofPayment(p)
		return payment.Answer{Outcome: payment.OutcomeApproved, Attempt: &attempt}
	case Approved:
		attempt := ofPayment(p)
		return payment.Answer{Outcome: payment.OutcomeDeclined, Reason: payment.ReasonDeclined, Text: "It was paid before.", Attempt: &attempt}
	}
	return payment.Answer{Outcome: payment.OutcomeUnknown}
}

// undone is what a cancel was answered with. An attempt that came to nothing needs no undoing.
func undone(p Payment) payment.Answer {
	switch p.State {
	case Cancelled, Closed, Declined:
		return payment.Answer{Outcome: payment.OutcomeApproved, Result: payment.Result{ProviderReference: p.ProviderReference}}
	}
	return payment.Answer{Outcome: payment.OutcomeUnknown}
}

func exchange(x *Exchange) *payment.Exchange {
	if x == nil {
		return nil
	}
	return &payment.Exchange{Rate: x.Rate, Currency: x.Currency, AmountMinor: x.Minor}
}

// attach is our own name of an operation, which the network gives back in its events.
func attach(m payment.Message) string {
	return fmt.Sprintf("%d/%d/%d", m.Payment.Merchant, m.Payment.ID, m.Operation.ID)
}

func owed(attach string) (payment.Owed, bool) {
	var n [3]int64
	parts := strings.Split(attach, "/")
	if len(parts) != len(n) {
		return payment.Owed{}, false
	}
	for i, p := range parts {
		var err error
		if n[i], err = strconv.ParseInt(p, 10, 64); err != nil || n[i] <= 0 {
			return payment.Owed{}, false
		}
	}
	return payment.Owed{Merchant: payment.MerchantID(n[0]), Payment: payment.ID(n[1]), Operation: payment.ID(n[2])}, true
}

// Follow listens to the network's events until ctx ends, and tells nudge what has news, and missed that some may have been missed. An event is
// only a hint: the network is asked what is true, and what an event fails to tell is found by the engine's own polls.
func (l *Link) Follow(ctx context.Context, nudge func(payment.Owed), missed func(context.Context)) error {
	defer l.following.Store(false)
	var epoch string
	var after uint64
	for ctx.Err() == nil {
		events, err := l.Client.Events(ctx, epoch, after, eventsWait)
		l.following.Store(err == nil)
		if err != nil {
			if ctx.Err() == nil {
				l.Log.Warn("wallet: events", "error", err)
			}
			select {
			case <-ctx.Done():
			case <-time.After(eventsPause):
			}
			continue
		}
		epoch, after = events.Epoch, events.Next
		if events.Reset {
			missed(ctx)
		}
		for _, ev := range events.Events {
			if o, ok := owed(ev.Attach); ok {
				nudge(o)
			}
		}
	}
	return nil
}

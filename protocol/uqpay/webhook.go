package uqpay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/tillgate/tillgate/payment"
)

// What every webhook says of itself (§7).
const (
	webhookVersion = "V1.6.0"
	webhookName    = "ACQUIRING"
)

// EventType is what a webhook tells of.
type EventType string

// The events that are sent (§7).
const (
	EventIntentCreated        EventType = "acquiring.payment_intent.created"
	EventIntentRequiresAction EventType = "acquiring.payment_intent.requires_action"
	EventIntentSucceeded      EventType = "acquiring.payment_intent.succeeded"
	EventIntentFailed         EventType = "acquiring.payment_intent.failed"
	EventAttemptCreated       EventType = "acquiring.payment_attempt.created"
	EventAttemptCaptured      EventType = "acquiring.payment_attempt.capture_requested"
	EventAttemptCancelled     EventType = "acquiring.payment_attempt.cancelled"
	EventAttemptFailed        EventType = "acquiring.payment_attempt.failed"
	EventCancelSucceeded      EventType = "acquiring.cancel.succeeded"
	EventRefundCreated        EventType = "acquiring.refund.created"
	EventRefundSucceeded      EventType = "acquiring.refund.succeeded"
	EventRefundFailed         EventType = "acquiring.refund.failed"
)

// Event is the envelope of a webhook.
type Event struct {
	Version  string          `json:"version"`
	Name     string          `json:"event_name"`
	Type     EventType       `json:"event_type"`
	ID       string          `json:"event_id"`
	SourceID string          `json:"source_id"`
	Data     json.RawMessage `json:"data"` // IntentEvent, AttemptEvent, RefundEvent or CancelEvent.
}

// IntentEvent is the data of events about an intent. Unset times are null.
type IntentEvent struct {
	ID                 string          `json:"payment_intent_id"`
	Amount             string          `json:"amount"`
	Currency           string          `json:"currency"`
	Status             IntentStatus    `json:"intent_status"`
	MerchantOrderID    string          `json:"merchant_order_id"`
	Description        string          `json:"description"`
	Metadata           json.RawMessage `json:"metadata"`
	PaymentMethod      *MethodView     `json:"payment_method"`
	CreateTime         *string         `json:"create_time"`
	CompleteTime       *string         `json:"complete_time"`
	CancelTime         *string         `json:"cancel_time"`
	CancellationReason string          `json:"cancellation_reason"`
}

// AttemptEvent is the data of events about an attempt.
type AttemptEvent struct {
	ID                 string             `json:"payment_attempt_id"`
	IntentID           string             `json:"payment_intent_id"`
	Amount             string             `json:"amount"`
	Currency           string             `json:"currency"`
	Status             AttemptStatus      `json:"attempt_status"`
	CapturedAmount     string             `json:"captured_amount"`
	RefundedAmount     string             `json:"refunded_amount"`
	MerchantOrderID    string             `json:"merchant_order_id"`
	FailureCode        string             `json:"failure_code"`
	FailureMessage     string             `json:"failure_message"`
	AuthCode           string             `json:"auth_code"`
	RRN                string             `json:"rrn"`
	ARN                string             `json:"arn"`
	AdviceCode         string             `json:"advice_code"`
	AuthenticationData AuthenticationData `json:"authentication_data"`
	PaymentMethod      *MethodView        `json:"payment_method"`
	CreateTime         *string            `json:"create_time"`
	CompleteTime       *string            `json:"complete_time"`
	CancelTime         *string            `json:"cancel_time"`
	CancellationReason string             `json:"cancellation_reason"`
}

// RefundEvent is the data of events about a refund.
type RefundEvent struct {
	ID           string          `json:"payment_refund_id"`
	IntentID     string          `json:"payment_intent_id"`
	AttemptID    string          `json:"payment_attempt_id"`
	Amount       string          `json:"amount"`
	Currency     string          `json:"currency"`
	Status       RefundStatus    `json:"refund_status"`
	Reason       string          `json:"reason"`
	Metadata     json.RawMessage `json:"metadata"`
	CreateTime   *string         `json:"create_time"`
	CompleteTime *string         `json:"complete_time"`
}

// CancelEvent is the data of events about a cancel.
type CancelEvent struct {
	IntentID   string  `json:"payment_intent_id"`
	Amount     string  `json:"amount"`
	Currency   string  `json:"currency"`
	Status     string  `json:"cancel_status"` // SUCCEEDED or FAILED.
	CancelTime *string `json:"cancel_time"`
}

// happened is an event with its source and, when somebody wants it, its data.
type happened struct {
	event  EventType
	source string
	data   func() (any, error)
}

// Notices is what callers are owed to be told of a change: for payment.Config. Payments of other protocols owe nothing here.
func Notices(r payment.Reader, c payment.Change) ([]payment.Notice, error) {
	if c.Now.Protocol != Protocol {
		return nil, nil
	}
	events, err := eventsOf(r, c)
	if err != nil || len(events) == 0 {
		return nil, err
	}
	hooks, err := r.Webhooks(c.Now.Merchant, Protocol)
	if err != nil {
		return nil, err
	}
	hooks = slices.DeleteFunc(hooks, func(w payment.Webhook) bool { return w.Disabled })
	if len(hooks) == 0 {
		return nil, nil
	}
	var owed []payment.Notice
	for _, h := range events {
		var body []byte
		for _, w := range hooks {
			if len(w.Events) > 0 && !slices.Contains(w.Events, string(h.event)) {
				continue
			}
			if body == nil {
				if body, err = h.body(); err != nil {
					return nil, err
				}
			}
			owed = append(owed, payment.Notice{Protocol: Protocol, Event: string(h.event), URL: w.URL, Endpoint: w.ID, Body: body})
		}
	}
	return owed, nil
}

func (h happened) body() ([]byte, error) {
	data, err := h.data()
	if err != nil {
		return nil, err
	}
	return encode(Event{Version: webhookVersion, Name: webhookName, Type: h.event, ID: uuidOf("uqpay event", string(h.event), h.source), SourceID: h.source,
		Data: encode(data)}), nil
}

// operationEvents are the events of an operation that has come to a state.
var operationEvents = map[payment.Kind]map[payment.OperationState]EventType{
	payment.Sale:          {payment.Approved: EventAttemptCaptured, payment.Declined: EventAttemptFailed, payment.Reversed: EventAttemptFailed},
	payment.Authorization: {payment.Declined: EventAttemptFailed, payment.Reversed: EventAttemptFailed},
	payment.Refund:        {payment.Approved: EventRefundSucceeded, payment.Declined: EventRefundFailed},
}

// eventsOf are the events of a change, in the order of §7.
func eventsOf(r payment.Reader, c payment.Change) ([]happened, error) {
	var events []happened
	p := c.Now
	intent := func(e EventType) {
		events = append(events, happened{e, p.Number(), func() (any, error) {
			a, err := latest(r, c)
			if err != nil {
				return nil, err
			}
			return intentEvent(payment.View{Payment: *p, Attempt: a})
		}})
	}
	attempt := func(e EventType, a payment.Operation) {
		events = append(events, happened{e, attemptNumbering.Number(a.ID), func() (any, error) {
			return attemptEvent(payment.View{Payment: *p, Attempt: a})
		}})
	}
	if c.Was.ID == 0 {
		intent(EventIntentCreated)
	}
	for _, o := range c.Operations {
		op := *o.Now
		fresh := o.Was.ID == 0
		switch {
		case op.Kind.IsAttempt():
			if fresh {
				attempt(EventAttemptCreated, op)
			}
			if op.State == payment.Waiting && o.Was.State != payment.Waiting {
				intent(EventIntentRequiresAction)
			}
			e := operationEvents[op.Kind][op.State]
			if e != "" && o.Was.State != op.State && !(op.State == payment.Reversed && op.Failure == "") { // Else it was cancelled.
				attempt(e, op)
			}
		case op.Kind == payment.Refund && op.Key.Scope != "":
			refund := func(e EventType) {
				events = append(events, happened{e, refundNumbering.Number(op.ID), func() (any, error) {
					return refundEvent(payment.RefundView{Refund: op, Payment: *p})
				}})
			}
			if fresh {
				refund(EventRefundCreated)
			}
			if e := operationEvents[op.Kind][op.State]; e != "" && o.Was.State != op.State {
				refund(e)
			}
		}
	}
	if c.Was.State == p.State {
		return events, nil
	}
	switch p.State {
	case payment.Captured:
		if c.Was.State == payment.Authorized {
			a, err := latest(r, c)
			if err != nil {
				return nil, err
			}
			attempt(EventAttemptCaptured, a)
		}
		intent(EventIntentSucceeded)
	case payment.Refused, payment.Expired:
		intent(EventIntentFailed)
	case payment.Cancelled, payment.Voided:
		a, err := latest(r, c)
		if err != nil {
			return nil, err
		}
		if a.ID != 0 && attemptStatus(p, &a) == AttemptCancelled {
			attempt(EventAttemptCancelled, a)
		}
		events = append(events, happened{EventCancelSucceeded, p.Number(), func() (any, error) {
			return CancelEvent{IntentID: p.Number(), Amount: p.Amount.Trimmed(), Currency: p.Amount.Currency().Code(), Status: "SUCCEEDED",
				CancelTime: hookTime(p.ModifiedAt)}, nil
		}})
	}
	return events, nil
}

// latest is the payment's latest attempt as the change leaves it; zero for none.
func latest(r payment.Reader, c payment.Change) (payment.Operation, error) {
	if c.Now.Attempt == 0 {
		return payment.Operation{}, nil
	}
	for _, o := range c.Operations {
		if o.Now.ID == c.Now.Attempt {
			return *o.Now, nil
		}
	}
	return r.Operation(c.Now.Merchant, c.Now.ID, c.Now.Attempt)
}

// hookTime is a time as webhooks write it; none is null.
func hookTime(t time.Time) *string { return orNull(wireTime(t)) }

func orNull(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

func intentEvent(v payment.View) (any, error) {
	i, err := intentOf(v)
	if err != nil {
		return nil, err
	}
	e := IntentEvent{ID: i.ID, Amount: i.Amount, Currency: i.Currency, Status: i.Status, MerchantOrderID: i.MerchantOrderID, Description: i.Description,
		Metadata: i.Metadata, CreateTime: orNull(i.CreateTime), CompleteTime: orNull(i.CompleteTime), CancelTime: orNull(i.CancelTime),
		CancellationReason: i.CancellationReason}
	if i.LatestAttempt != nil && i.LatestAttempt.PaymentMethod != nil {
		e.PaymentMethod = masked(i.LatestAttempt.PaymentMethod)
	}
	return e, nil
}

// masked is the means of payment as webhooks show it (§7): type, masked number and network.
func masked(m *MethodView) *MethodView {
	if m == nil || m.CardPresent == nil {
		return m
	}
	return &MethodView{Type: m.Type, CardPresent: &CardView{Number: m.CardPresent.Number, Network: m.CardPresent.Network}}
}

func attemptEvent(v payment.View) (any, error) {
	m := attemptOf(v)
	e := AttemptEvent{ID: m.ID, IntentID: v.Payment.Number(), Amount: m.Amount, Currency: m.Currency, Status: m.Status, CapturedAmount: m.CapturedAmount,
		RefundedAmount: m.RefundedAmount, MerchantOrderID: v.Payment.Reference, FailureCode: m.FailureCode, FailureMessage: m.FailureMessage,
		AuthCode: m.AuthCode, RRN: m.RRN, PaymentMethod: masked(m.PaymentMethod), CreateTime: orNull(m.CreateTime), CompleteTime: orNull(m.CompleteTime),
		CancellationReason: m.CancellationReason}
	if m.Status == AttemptCancelled {
		e.CancelTime = hookTime(v.Payment.ModifiedAt)
	}
	return e, nil
}

func refundEvent(v payment.RefundView) (any, error) {
	r, err := refundOf(v)
	if err != nil {
		return nil, err
	}
	return RefundEvent{ID: r.ID, IntentID: r.IntentID, AttemptID: r.AttemptID, Amount: r.Amount, Currency: r.Currency, Status: r.Status, Reason: r.Reason,
		Metadata: r.Metadata, CreateTime: orNull(r.CreateTime), CompleteTime: hookTime(v.Refund.SettledAt)}, nil
}

// Delivery (§7): what a sender of owed notices must know.
const (
	WebhookTimeout     = 10 * time.Second
	WebhookContentType = "application/json"
)

// WebhookDelays are the pauses before each further try: 2^(attempt+3) seconds.
func WebhookDelays() []time.Duration {
	return []time.Duration{16 * time.Second, 32 * time.Second, 64 * time.Second, 128 * time.Second, 256 * time.Second}
}

// AcceptedWebhook reports whether a receiver's answer acknowledges a webhook.
func AcceptedWebhook(status int, _ []byte) bool { return status >= 200 && status < 300 }

// purposeWebhook is the purpose under which secrets of webhooks are sealed.
const purposeWebhook = "uqpay-webhook"

// webhookBound ties a secret to the merchant and address that it is for.
func webhookBound(m payment.MerchantID, url string) []byte { return fmt.Appendf(nil, "%d %s", m, url) }

// SealWebhookSecret seals the secret of a merchant's webhook, as payment.Webhook keeps it. An empty secret stays empty: such a webhook is
// not signed.
func SealWebhookSecret(s payment.Sealer, m payment.MerchantID, url, secret string) ([]byte, error) {
	if secret == "" {
		return nil, nil
	}
	return s.Seal(purposeWebhook, []byte(secret), webhookBound(m, url))
}

// WebhookSigner signs webhooks when they are sent.
type WebhookSigner struct {
	// Webhook finds a webhook of a merchant.
	Webhook func(ctx context.Context, m payment.MerchantID, id payment.ID) (payment.Webhook, error)
	Sealer  payment.Sealer
}

// Sign makes the headers of a notice that is sent now. One whose webhook has been removed since is sent without a signature.
func (s *WebhookSigner) Sign(ctx context.Context, n payment.Notice, now time.Time) (http.Header, error) {
	w, err := s.Webhook(ctx, n.Merchant, n.Endpoint)
	if err != nil && !errors.Is(err, payment.ErrNotFound) {
		return nil, err
	}
	at := now.UnixMilli()
	if w.Seconds {
		at = now.Unix()
	}
	stamp := strconv.FormatInt(at, 10)
	h := http.Header{}
	h.Set(HeaderWebhookTime, stamp)
	if len(w.Secret) == 0 {
		return h, nil
	}
	secret, err := s.Sealer.Unseal(purposeWebhook, w.Secret, webhookBound(w.Merchant, w.URL))
	if err != nil {
		return nil, fmt.Errorf("secret of webhook %d: %w", w.ID, err)
	}
	h.Set(HeaderWebhookSignature, SignWebhook(string(secret), n.Body, stamp))
	clear(secret)
	return h, nil
}

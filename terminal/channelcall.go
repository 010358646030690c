package terminal

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/tillgate/tillgate/emv"
	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
)

const (
	// attemptWait is how long an attempt is waited for: the card host's time-out, and a reversal after it.
	attemptWait = 40 * time.Second
	// callWait bounds what a terminal may ask to wait for in one call; it asks again.
	callWait = 30 * time.Second
	// refuseWindow is how long after an approval a terminal may say that its card refused: the chip decides in a second, the line may be cut.
	refuseWindow = 2 * time.Minute
	pinKeyLife   = 24 * time.Hour
	lifetimeMax  = 4 * time.Hour
	keyMax       = 128 // Of a caller's key, in bytes.
)

// MethodCard is the core's payment method of cards at a terminal, the same for all protocols.
const MethodCard = "card_present"

// calls carries the calls out. The context ends with the line; what has begun goes on all the same.
var calls = map[CallKind]func(*line, context.Context, Frame) (any, error){
	CallSell:     (*line).sell,
	CallAttempt:  (*line).attempt,
	CallRefuse:   (*line).refuse,
	CallAwait:    (*line).await,
	CallFind:     (*line).find,
	CallRefund:   (*line).refund,
	CallCancel:   (*line).cancel,
	CallSummary:  (*line).summary,
	CallPINKey:   (*line).pinKey,
	CallSettings: (*line).settings,
	CallKey:      (*line).newKey,
}

// as is who a terminal is in a protocol that it serves itself: an identity of the same terminal.
func (l *line) as(ctx context.Context, protocol string) (payment.Caller, Own, Entry, error) {
	c := l.channel
	own, ok := c.cfg.Own[protocol]
	if !ok {
		return payment.Caller{}, Own{}, Entry{}, &payment.FieldError{Field: "as", Problem: fmt.Sprintf("%q is no protocol of terminals", protocol)}
	}
	ids, err := c.cfg.Registry.Identities(ctx, l.at.merchant, Filter{Terminal: l.at.terminal, Protocol: protocol, Limit: 1})
	if err != nil {
		return payment.Caller{}, Own{}, Entry{}, err
	}
	if len(ids) == 0 {
		return payment.Caller{}, Own{}, Entry{}, fmt.Errorf("terminal %s has no identity of %s: %w", l.entry.Number, protocol, payment.ErrUnauthorized)
	}
	e, err := c.cfg.Registry.Find(ctx, protocol, ids[0].Number)
	if err != nil {
		return payment.Caller{}, Own{}, Entry{}, err
	}
	caller := e.Caller
	caller.Credential.Profile.RefundPolicy = own.RefundPolicy
	return caller, own, e, nil
}

// ownNumbering makes the numbers of a terminal's own payments: the store's date and eighteen digits.
func ownNumbering(caller payment.Caller, now time.Time) payment.Numbering {
	day, err := caller.Store.Calendar.Day(now)
	if err != nil {
		day = 0 // The engine refuses the payment for its zone.
	}
	return payment.Numbering{Prefix: day.String(), Digits: numberDigits}
}

const numberDigits = 18

func (l *line) sell(ctx context.Context, f Frame) (any, error) {
	defer clear(f.Body) // It may hold a customer's code.
	var s SellCall
	if err := f.Read(&s); err != nil {
		return nil, err
	}
	caller, own, _, err := l.as(ctx, s.As)
	if err != nil {
		return nil, err
	}
	currency, err := money.ParseCurrency(s.Currency)
	if err != nil {
		return nil, payment.ErrCurrency
	}
	if s.Lifetime <= 0 || s.Lifetime > lifetimeMax || len(s.Key) > keyMax || len(s.Reference) > keyMax {
		return nil, &payment.FieldError{Field: "lifetime, key or reference", Problem: "is out of bounds"}
	}
	key := cmp.Or(s.Key, l.ownKey(f.ID))
	echo, _ := json.Marshal(s.Echo) // A string has no way to fail.
	request := fmt.Appendf(nil, "channel sell 1\n%s %d %s %s %s", s.As, s.Minor, s.Currency, s.Method, s.Flow)
	if own.ReusableKey { // A second order under the key is another one, even with the same amount.
		request = append(request, f.ID...)
	}
	cmd := payment.SaleCommand{Caller: caller, Key: payment.Key{Scope: own.Scope, Key: key}, Request: request, Numbering: ownNumbering(caller, l.channel.cfg.Now()),
		Reference: s.Reference, Amount: money.New(s.Minor, currency), Method: s.Method, Flow: s.Flow, ReusableKey: own.ReusableKey,
		Lifetime: s.Lifetime, Wait: min(s.Wait, callWait), Echo: echo}
	do := l.channel.cfg.Core.Sell
	switch s.Flow {
	case payment.ByCard:
		do = l.channel.cfg.Core.Begin
	case payment.ByCode:
		cmd.Instrument = payment.WalletCode(s.Code)
	case payment.ByQR:
	default:
		return nil, &payment.FieldError{Field: "flow", Problem: "is none of a terminal's"}
	}
	v, err := do(context.WithoutCancel(ctx), cmd)
	if err != nil {
		return nil, err
	}
	return viewOf(v), nil
}

// attempt takes a card: for a live order of this terminal's, once, or for an open payment of its own. A repeat after a cut line gets the
// first one's answer.
func (l *line) attempt(ctx context.Context, f Frame) (any, error) {
	a, instrument, err := readAttempt(f.Body)
	if err != nil {
		return nil, err
	}
	c := l.channel
	if a.Order == "" {
		caller, _, _, err := l.as(ctx, a.As)
		if err != nil {
			return nil, err
		}
		if _, err := l.mine(ctx, a.Payment); err != nil {
			return nil, err
		}
		v, err := l.try(ctx, caller, a.Payment, instrument)
		if errors.Is(err, payment.ErrConflict) { // It was there before, or the payment has ended: its state is the answer.
			return l.outcome(ctx, a.Payment, attemptWait)
		}
		return v, err
	}
	o, at, fresh, err := c.takeAttempt(l, a)
	if errors.Is(err, ErrOver) {
		// Nobody waits for the order: the server was restarted, or it was given up. What stands in the books stands, but no card is taken.
		if v, viewErr := l.outcome(ctx, a.Payment, callWait); viewErr == nil && v.Attempted {
			return v, nil
		}
	}
	if err != nil {
		return nil, err
	}
	if !fresh {
		select {
		case <-at.done:
			return at.view, at.err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	c.mu.Lock()
	at.report = reportOf(instrument)
	c.mu.Unlock()
	v, err := l.try(ctx, o.caller, a.Payment, instrument)
	c.mu.Lock()
	defer c.mu.Unlock()
	at.view, at.err, at.at = v, err, time.Now()
	if err != nil && !o.done() {
		o.finish(Report{}, err) // Nothing was sent; the till hears why.
	}
	close(at.done)
	o.stir()
	return v, err
}

// takeAttempt lets one card be taken for an order. Of two, the second gets the first one's answer.
func (c *Channel) takeAttempt(l *line, a AttemptCall) (o *order, at *attempt, fresh bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o = c.orders[a.Order]
	switch {
	case o == nil, o.over, o.at != l.at, o.payment != a.Payment, o.kind != OrderSale:
		return nil, nil, false, ErrOver
	case o.attempt != nil:
		return o, o.attempt, false, nil
	case o.closed:
		return nil, nil, false, ErrOver
	}
	o.acked = true
	o.attempt = &attempt{done: make(chan struct{})}
	return o, o.attempt, true, nil
}

// try makes an attempt on a payment with a card.
func (l *line) try(ctx context.Context, caller payment.Caller, id payment.ID, instrument *payment.Card) (PaymentView, error) {
	c := l.channel
	ctx, stop := c.detached(ctx) // The line may be cut meanwhile: that changes nothing.
	defer stop()
	if tid := l.entry.Caller.Terminal.PublicID; len(tid) <= tidMax {
		instrument.TID = tid
	}
	if instrument.PIN != nil {
		keys, err := c.cfg.Registry.PINKeys(ctx, l.entry)
		if err != nil {
			return PaymentView{}, err
		}
		instrument.PIN.Keys, instrument.PIN.Bound = keys, l.pinBound()
	}
	v, err := c.cfg.Core.Attempt(ctx, payment.AttemptCommand{Caller: caller, Payment: id, Instrument: instrument, Wait: attemptWait})
	if err != nil {
		if _, refused := faultOf(err); refused {
			return PaymentView{}, err
		}
		// It is not certain that nothing was sent: nobody may be told so.
		c.cfg.Log.Warn("attempt without an answer", "tid", l.entry.Number, "payment", id, "error", err)
		return PaymentView{ID: id, Flow: payment.ByCard, Attempted: true, Outcome: payment.OutcomeUnknown}, nil
	}
	out := viewOf(v)
	out.ChipReply = hex.EncodeToString(v.Chip)
	return out, nil
}

// detached is a context that outlives the line, since what has begun goes on, but not the server.
func (c *Channel) detached(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	go func() { // Ends with the caller's work.
		select {
		case <-c.stopping:
			stop()
		case <-ctx.Done():
		}
	}()
	return ctx, stop
}

// tidMax is what a card host has room for.
const tidMax = 8

// mine finds a payment of this terminal's. Of another's it tells nothing, not even that it exists.
func (l *line) mine(ctx context.Context, id payment.ID) (payment.View, error) {
	v, err := l.channel.cfg.Core.Await(ctx, l.at.merchant, id, 0, func(payment.View) bool { return true })
	if err == nil && v.Payment.Terminal != l.at.terminal {
		err = fmt.Errorf("payment %d is another terminal's: %w", id, payment.ErrNotFound)
	}
	return v, err
}

// outcome waits until a payment of this terminal's is decided.
func (l *line) outcome(ctx context.Context, id payment.ID, wait time.Duration) (PaymentView, error) {
	if _, err := l.mine(ctx, id); err != nil {
		return PaymentView{}, err
	}
	v, err := l.channel.cfg.Core.Await(ctx, l.at.merchant, id, wait, func(v payment.View) bool {
		o, _ := outcomeOf(v)
		return o == payment.OutcomeApproved || o == payment.OutcomeDeclined
	})
	return viewOf(v), err
}

// refuse undoes an approval that the card has refused. Of an order, only while its till has not been told.
func (l *line) refuse(ctx context.Context, f Frame) (any, error) {
	var r RefuseCall
	if err := f.Read(&r); err != nil {
		return nil, err
	}
	var caller payment.Caller
	if r.Order != "" {
		who, done, err := l.channel.takeRefusal(l, r)
		if err != nil {
			return nil, err
		}
		defer done()
		caller = who
	} else {
		var err error
		if caller, _, _, err = l.as(ctx, r.As); err != nil {
			return nil, err
		}
		if _, err = l.mine(ctx, r.Payment); err != nil {
			return nil, err
		}
	}
	v, err := l.channel.cfg.Core.Refuse(context.WithoutCancel(ctx), payment.RefuseCommand{Caller: caller, Payment: r.Payment, Window: refuseWindow})
	if err != nil {
		return nil, err
	}
	return viewOf(v), nil
}

// takeRefusal lets a refusal through while its order's till has not been told, and holds the telling until it is carried out.
func (c *Channel) takeRefusal(l *line, r RefuseCall) (caller payment.Caller, done func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	o := c.orders[r.Order]
	if o == nil || o.over || o.told || o.done() || o.at != l.at || o.payment != r.Payment || o.attempt == nil {
		return caller, nil, ErrOver
	}
	if o.refusing != nil { // It comes again over another line.
		return o.caller, func() {}, nil
	}
	o.refusing = make(chan struct{})
	return o.caller, func() { close(o.refusing) }, nil
}

func (l *line) await(ctx context.Context, f Frame) (any, error) {
	var a AwaitCall
	if err := f.Read(&a); err != nil {
		return nil, err
	}
	wait := min(a.Wait, callWait)
	if a.Refund == 0 {
		return l.outcome(ctx, a.Payment, wait)
	}
	if _, err := l.mine(ctx, a.Payment); err != nil {
		return nil, err
	}
	v, err := l.channel.cfg.Core.AwaitRefund(ctx, l.at.merchant, a.Payment, a.Refund, wait, func(v payment.RefundView) bool { return v.Refund.Settled() })
	return refundOf(v.Payment, v.Refund), err
}

func (l *line) refund(ctx context.Context, f Frame) (any, error) {
	var r RefundCall
	if err := f.Read(&r); err != nil {
		return nil, err
	}
	c := l.channel
	caller, scope := l.entry.Caller, "device-refund"
	if r.Order != "" {
		c.mu.Lock()
		o := c.orders[r.Order]
		live := o != nil && !o.over && o.at == l.at && o.kind == OrderRefund && o.refund == RefundOrder{r.Payment, r.Minor, r.Currency}
		if live {
			caller, r.Key = o.caller, o.id
		}
		c.mu.Unlock()
		if !live {
			return nil, ErrOver
		}
	} else {
		var err error
		if caller, scope, err = l.refundable(ctx, r, f.ID); err != nil {
			return nil, err
		}
		r.Key = l.ownKey(f.ID)
	}
	currency, err := money.ParseCurrency(r.Currency)
	if err != nil {
		return nil, payment.ErrCurrency
	}
	v, err := c.cfg.Core.Refund(context.WithoutCancel(ctx), payment.RefundCommand{Caller: caller, Key: payment.Key{Scope: scope, Key: r.Key},
		Request: fmt.Appendf(nil, "channel refund 1\n%d %d %s", r.Payment, r.Minor, r.Currency), Payment: r.Payment,
		Amount: money.New(r.Minor, currency), Wait: min(cmp.Or(r.Wait, callWait), callWait)})
	if err != nil {
		return nil, err
	}
	return refundOf(v.Payment, v.Refund), nil
}

// ownKey is the key of what a terminal asks for by itself: a call that is asked again over another line is the same.
func (l *line) ownKey(call string) string { return "call-" + l.entry.Number + "-" + call }

// refundable finds out who a terminal's own refund is made for. The payment is the protocol's and the shop's; an equal refund that is still
// unresolved is ErrKeyBusy, since whoever asks twice has most likely not heard the first answer.
func (l *line) refundable(ctx context.Context, r RefundCall, call string) (payment.Caller, string, error) {
	caller, own, _, err := l.as(ctx, r.As)
	if err != nil {
		return caller, "", err
	}
	err = l.channel.cfg.Books.Read(ctx, func(books payment.Reader) error {
		p, err := books.Payment(l.at.merchant, r.Payment)
		if err != nil {
			return err
		}
		if p.Protocol != r.As || p.Store != caller.Store.ID {
			return fmt.Errorf("refund of another shop's payment: %w", payment.ErrNotFound)
		}
		ops, err := books.Operations(l.at.merchant, r.Payment)
		for _, op := range ops {
			if op.Kind == payment.Refund && !op.Settled() && op.Amount.Minor() == r.Minor && op.Key.Key != l.ownKey(call) {
				return payment.ErrKeyBusy
			}
		}
		return err
	})
	return caller, own.RefundScope, err
}

// cancelReasons are those for which a terminal may give a payment of its own up.
var cancelReasons = map[payment.Reason]bool{"": true, payment.ReasonCancelled: true, payment.ReasonCustomerCancelled: true, payment.ReasonExpired: true,
	payment.ReasonUnavailable: true, payment.ReasonDeclined: true, payment.ReasonNotPermitted: true}

func (l *line) cancel(ctx context.Context, f Frame) (any, error) {
	var r CancelCall
	if err := f.Read(&r); err != nil {
		return nil, err
	}
	caller, _, _, err := l.as(ctx, r.As)
	if err != nil {
		return nil, err
	}
	if _, err := l.mine(ctx, r.Payment); err != nil {
		return nil, err
	}
	if !cancelReasons[r.Reason] {
		return nil, &payment.FieldError{Field: "reason", Problem: "is none for which a terminal ends a payment"}
	}
	v, err := l.channel.cfg.Core.Cancel(context.WithoutCancel(ctx), payment.CancelCommand{Caller: caller, Payment: r.Payment, Window: lifetimeMax, Reason: r.Reason})
	if err != nil {
		return nil, err
	}
	return viewOf(v), nil
}

// pinBound is what a terminal's PIN keys are bound to.
func (l *line) pinBound() []byte { return []byte("device " + l.entry.Number) }

func (l *line) pinKey(ctx context.Context, f Frame) (any, error) {
	var s SealedCall
	if err := f.Read(&s); err != nil {
		return nil, err
	}
	c := l.channel
	under, err := derived(l.secret(), purposePIN, s.Salt)
	if err != nil {
		return nil, payment.ErrInvalid
	}
	sealed, envelope, err := c.cfg.PINKeys.IssuePINKey(under, l.pinBound())
	if err != nil {
		return nil, err
	}
	expires := c.cfg.Now().Add(pinKeyLife)
	if err := c.cfg.Registry.AddPINKey(ctx, l.entry, sealed, expires); err != nil {
		return nil, err
	}
	return SealedAnswer{Envelope: envelope, Expires: expires}, nil
}

// secret is the key with which the terminal has proved itself.
func (l *line) secret() Secret {
	l.channel.mu.Lock()
	defer l.channel.mu.Unlock()
	return l.key
}

// newKey gives the terminal a fresh key of its own. The one before is good until the next change, so a terminal that loses the answer comes
// back all the same.
func (l *line) newKey(ctx context.Context, f Frame) (any, error) {
	var s SealedCall
	if err := f.Read(&s); err != nil {
		return nil, err
	}
	key, err := l.channel.cfg.Registry.CheckIn(ctx, l.entry, Device{})
	if err != nil {
		return nil, err
	}
	envelope, err := sealFor(l.secret(), purposeNewKey, s.Salt, key.Reveal(), l.channel.cfg.Rand)
	return SealedAnswer{Envelope: envelope}, err
}

// ProtocolSettings are a merchant's settings for a protocol that its terminals serve, by the terminal's number there; "" is for all others.
type ProtocolSettings struct {
	Terminals map[string]Settings `json:"terminals,omitempty"`
}

// of are the settings of one terminal.
func (p ProtocolSettings) of(number string) Settings {
	s, ok := p.Terminals[number]
	if !ok {
		s = p.Terminals[""]
	}
	s.Number = number
	return s
}

func (l *line) settings(ctx context.Context, f Frame) (any, error) {
	var s SealedCall
	if err := f.Read(&s); err != nil {
		return nil, err
	}
	_, _, e, err := l.as(ctx, s.As)
	if err != nil {
		return nil, err
	}
	c := l.channel
	var set ProtocolSettings
	if err := c.cfg.Registry.Settings(ctx, l.at.merchant, s.As, &set); err != nil {
		return nil, err
	}
	keys, err := c.cfg.Registry.Keys(e)
	if err != nil {
		return nil, err
	}
	out := SealedAnswer{Settings: set.of(e.Number)}
	for n, k := range keys {
		envelope, err := sealFor(l.secret(), purposeSettings, s.Salt, k.Typed().Reveal(), c.cfg.Rand)
		if err != nil {
			return nil, err
		}
		if n == 0 {
			out.Envelope = envelope
		} else {
			out.Last = envelope
		}
	}
	return out, nil
}

// reportOf is what a card tells of itself, before the host has answered.
func reportOf(c *payment.Card) Report {
	r := Report{Scheme: c.PAN.Scheme(), Masked: c.PAN.Masked(), Entry: c.Entry, Expiry: c.Expiry}
	list, err := emv.Parse(c.Chip)
	if err != nil {
		return r
	}
	text := func(tag emv.Tag) string {
		v, _ := list.Find(tag)
		return fmt.Sprintf("%X", v)
	}
	if label, ok := list.Find(0x50); ok {
		r.Label = string(label)
	}
	r.AID, r.TVR, r.TSI, r.CVM, r.Cryptogram = text(emv.TagAID), text(emv.TagTVR), text(emv.TagTSI), text(emv.TagCVMResults), text(emv.TagCryptogram)
	if r.Cryptogram != "" {
		r.CryptogramType = "ARQC" // It is what was sent.
	}
	return r
}

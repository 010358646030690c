package uqpay

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/tillgate/tillgate/internal/access"
	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/terminal"
)

func (s *Server) wait() time.Duration { return cmp.Or(s.Wait, createWait) }

// register is §3.1. A device that is registered already keeps its number.
func (s *Server) register(c *call) (*reply, error) {
	r, err := decodeRegister(c.body)
	if err != nil {
		return nil, err
	}
	if c.caller.Credential.Profile.NoPOS {
		return nil, errPOSOff
	}
	e, err := s.Terminals.Register(c.r.Context(), c.caller, Protocol, terminal.Device{Maker: r.FirmCode, Serial: r.FirmSN, Model: r.Model})
	switch {
	case errors.Is(err, terminal.ErrDisabled), errors.Is(err, payment.ErrInvalid):
		return nil, refuse(TypeAPI, CodeRegisterFailed, "Terminal register failed")
	case err != nil:
		return nil, err
	}
	access.Note(c.r.Context(), slog.String("tid", e.Number))
	return ok(RegisteredTerminal{CreateTime: e.CreatedAt.In(zone).Format(terminalTimeForm), FirmSN: r.FirmSN, TerminalID: e.Number}), nil
}

// terminal finds a terminal of the caller's.
func (s *Server) terminal(c *call, tid string) (terminal.Entry, error) {
	e, err := s.Terminals.Find(c.r.Context(), Protocol, tid)
	switch {
	case errors.Is(err, payment.ErrNotFound), errors.Is(err, terminal.ErrDisabled):
		return e, errNoTerminal // §4.4: a disabled one is answered alike.
	case err != nil:
		return e, err
	case e.Merchant != c.caller.Merchant.ID:
		return e, errForeignTerminal
	}
	access.Note(c.r.Context(), slog.String("tid", e.Number))
	return e, nil
}

var (
	errNoTerminal      = refuse(TypeNotFound, CodeTerminalUnknown, "Terminal info not found")
	errForeignTerminal = refuse(TypeAccount, CodeTerminalForeign, "Terminal not belong to account")
	errNoPINKey        = refuse(TypeAPI, CodePINKeyFailed, "Pinkey retrieve failed")
	errNoPINKeyAlive   = refuse(TypeAPI, CodePINKeyFailed, "Pinkey retrieve failed: the terminal has no PIN key that is alive, get a new one")
)

// pinKey is §3.2: every call that is no replay makes a new key.
func (s *Server) pinKey(c *call) (*reply, error) {
	r, err := decodePINKey(c.body)
	defer clear(r.key)
	if err != nil {
		return nil, err
	}
	if c.caller.Credential.Profile.NoPOS {
		return nil, errPOSOff
	}
	e, err := s.terminal(c, r.terminal)
	if err != nil {
		return nil, err
	}
	expires := c.now.Add(pinKeyLife).Truncate(time.Millisecond)
	sealed, envelope, err := s.Vault.IssuePINKey(r.key, pinKeyBound(e.Number))
	if err == nil {
		err = s.Terminals.AddPINKey(c.r.Context(), e, sealed, expires)
	}
	if err != nil {
		s.Log.Error("uqpay: PIN key not issued", "tid", e.Number, "error", err)
		return &reply{status: errNoPINKey.Status, body: errNoPINKey.Body()}, nil // Not kept: it is no fault of the request's.
	}
	return ok(PINKeyResponse{TerminalID: e.Number, EncryptPINKey: envelope,
		PINKeyExpire: PINKeyExpire{expires, c.client.Credential.Profile.PINKeyExpire == "rfc3339"}}), nil
}

// card checks a card_present object in the order of §3.3, and finds its terminal and PIN keys.
func (s *Server) card(c *call, r *cardRequest) (*payment.Card, *terminal.Entry, error) {
	e, err := s.terminal(c, r.terminal)
	if err != nil {
		return nil, nil, err
	}
	if c.caller.Credential.Profile.NoPOS {
		return nil, nil, errPOSOff
	}
	card, err := r.parse(c.now)
	if err != nil {
		return nil, nil, err
	}
	if !schemeTaken(c.caller.Credential.Profile.CardSchemes, string(card.PAN.Scheme())) {
		return nil, nil, refuse(TypeProduct, CodeProductNotFound, "Product not found: the card's scheme is not enabled")
	}
	if card.PIN != nil {
		if card.PIN.Keys, err = s.Terminals.PINKeys(c.r.Context(), e); err != nil {
			return nil, nil, err
		}
		if len(card.PIN.Keys) == 0 {
			return nil, nil, errNoPINKeyAlive
		}
		card.PIN.Bound = pinKeyBound(e.Number)
	}
	return card, &e, nil
}

// create is §3.3.
func (s *Server) create(c *call) (*reply, error) {
	r, err := decodeCreate(c.body)
	if err != nil {
		return nil, err
	}
	cmd, err := saleCommand(r, standing(c.caller, nil), c.key, c.request)
	if err != nil {
		return nil, err
	}
	take := s.Core.Begin
	if r.Method != nil {
		card, e, err := s.card(c, r.Method.Card)
		if err != nil {
			return nil, err
		}
		cmd.Caller, cmd.Instrument, cmd.AuthorizeOnly = standing(c.caller, e), card, r.Method.Card.noCapture
		cmd.Once = []payment.Key{onceKey(card, c.now)}
		take = s.Core.Sell
	}
	var kept keptReply
	cmd.Wait, cmd.Answer = s.wait(), func(v payment.View) []byte {
		a, err := intentReply(v)
		if err != nil {
			return nil
		}
		return kept.put(v.Payment.Version, a)
	}
	v, err := take(c.r.Context(), cmd)
	if err != nil {
		return nil, err
	}
	if v.Answer != nil {
		return readKept(v.Answer)
	}
	noteIntent(c, v)
	if a := kept.of(v.Payment.Version); a != nil {
		return a, nil
	}
	return intentReply(v)
}

// keptReply is the answer that the core was given to keep, perhaps several times, with the version of the row that it tells of: what is
// answered is what was kept, if the row that was stored is that one.
type keptReply struct {
	mu      sync.Mutex
	reply   *reply
	version int64
}

func (k *keptReply) put(version int64, a *reply) []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	a.kept = true
	k.reply, k.version = a, version
	return writeKept(a.status, a.body)
}

// of is the reply that was kept of a version; nil if another was, or none.
func (k *keptReply) of(version int64) *reply {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.reply == nil || k.version != version {
		return nil
	}
	return k.reply
}

func noteIntent(c *call, v payment.View) {
	access.Note(c.r.Context(), slog.String("payment", v.Payment.Number()), slog.String("state", string(v.Payment.State)),
		slog.String("attempt", string(v.Attempt.State)))
}

// intentReply answers with an intent. One that is pending is not final: a repeat tells what has become of it.
func intentReply(v payment.View) (*reply, error) {
	i, err := intentOf(v)
	if err != nil {
		return nil, err
	}
	a := ok(i)
	a.final = i.Status != IntentPending
	return a, nil
}

// decided reports whether a caller need not be held any longer.
func decided(v payment.View) bool { return intentStatus(&v.Payment, v.Attempt.State) != IntentPending }

// intentNow waits for an intent to be decided and answers with it.
func (s *Server) intentNow(c *call, id payment.ID) (*reply, error) {
	v, err := s.Core.Await(c.r.Context(), c.caller.Merchant.ID, id, s.wait(), decided)
	if err != nil {
		return nil, err
	}
	noteIntent(c, v)
	return intentReply(v)
}

// intent finds an intent of the caller's by the number in the path.
func (s *Server) intent(c *call, number string) (payment.View, error) {
	id, err := parseNumber(numbering, number)
	if err != nil {
		return payment.View{}, err
	}
	v, err := s.Core.Await(c.r.Context(), c.caller.Merchant.ID, id, 0, decided)
	if err == nil && v.Payment.Protocol != Protocol {
		err = payment.ErrNotFound
	}
	return v, err
}

// retrieve is §3.4.
func (s *Server) retrieve(c *call) (*reply, error) {
	v, err := s.intent(c, c.id)
	if err != nil {
		return nil, err
	}
	noteIntent(c, v)
	return intentReply(v)
}

// mustBeOpen refuses what is only possible while an intent waits to be paid, in the words of §3.7.
func mustBeOpen(v payment.View, now time.Time) error {
	switch {
	case v.Payment.State == payment.Cancelled:
		return refuse(TypePayment, CodeOrderCancelled, "Order cancelled")
	case v.Payment.State == payment.Expired, v.Payment.State == payment.Open && !now.Before(v.Payment.ExpiresAt):
		return refuse(TypePayment, CodeExpiredOrder, "Expired order")
	case intentStatus(&v.Payment, v.Attempt.State) != RequiresPaymentMethod:
		return refuse(TypePayment, CodeInvalidStatus, "Invalid order status")
	}
	return nil
}

// updateTries bounds how often an update is merged anew because another came in between.
const updateTries = 10

// update is §3.6.
func (s *Server) update(c *call) (*reply, error) {
	r, err := decodeUpdate(c.body)
	if err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		answer, err := s.amend(c, r)
		if !errors.Is(err, payment.ErrMoved) || try == updateTries {
			return answer, err
		}
	}
}

// amend merges an update into the intent as it is now.
func (s *Server) amend(c *call, r *intentRequest) (*reply, error) {
	v, err := s.intent(c, c.id)
	if err != nil {
		return nil, err
	}
	if err := mustBeOpen(v, c.now); err != nil {
		return nil, err
	}
	p := &v.Payment
	m, err := readMemo(p.Echo)
	if err != nil {
		return nil, err
	}
	cmd := payment.AmendCommand{Caller: c.caller, Payment: p.ID, Version: p.Version, Reference: cmp.Or(r.OrderID, p.Reference)}
	cur := p.Amount.Currency()
	if r.has("currency") {
		if cur, err = parseCurrency(r.Currency); err != nil {
			return nil, err
		}
	}
	text := p.Amount.Trimmed()
	if r.has("amount") {
		text = r.Amount
	}
	if cmd.Amount, err = parseAmount(text, cur, TypeInvalidRequest, CodeInvalidAmount); err != nil {
		return nil, err
	}
	m.Description = cmp.Or(r.Description, m.Description)
	if r.has("return_url") {
		m.ReturnURL = r.ReturnURL
	}
	if r.Metadata != nil {
		m.Metadata = r.Metadata
	}
	cmd.Echo = encode(m)
	if v, err = s.Core.Amend(c.r.Context(), cmd); err != nil {
		return nil, err
	}
	noteIntent(c, v)
	return intentReply(v)
}

// confirm is §3.7: another attempt, with a card that is read anew. A repeat whose first request began an attempt waits for that one.
func (s *Server) confirm(c *call) (*reply, error) {
	m, err := decodeConfirm(c.body)
	if err != nil {
		return nil, err
	}
	if m == nil {
		if _, err := s.intent(c, c.id); err != nil {
			return nil, err
		}
		return nil, refuse(TypePayment, CodeInvalidMethod, "Invalid payment method: payment_method is missing and none is stored")
	}
	v, err := s.intent(c, c.id)
	if err != nil {
		return nil, err
	}
	if c.repeated && sameCard(v.Attempt.Card, m.Card) {
		return s.intentNow(c, v.Payment.ID)
	}
	if err := mustBeOpen(v, c.now); err != nil {
		return nil, err
	}
	card, e, err := s.card(c, m.Card)
	if err != nil {
		return nil, err
	}
	v, err = s.Core.Attempt(c.r.Context(), payment.AttemptCommand{Caller: standing(c.caller, e), Payment: v.Payment.ID, Instrument: card,
		AuthorizeOnly: m.Card.noCapture, Once: []payment.Key{onceKey(card, c.now)}, Wait: s.wait()})
	if c.repeated && (errors.Is(err, payment.ErrKeyReused) || errors.Is(err, payment.ErrConflict)) {
		return nil, errProcessing // Another server has the equal request in hand.
	}
	if err != nil {
		return nil, err
	}
	noteIntent(c, v)
	return intentReply(v)
}

// sameCard reports whether an attempt was begun by a request: STANs tell the transactions of a terminal apart.
func sameCard(f payment.CardFacts, r *cardRequest) bool {
	return f.STAN != "" && f.STAN == r.stan && f.TID == r.terminal
}

// capture is §3.8.
func (s *Server) capture(c *call) (*reply, error) {
	text, err := decodeCapture(c.body)
	if err != nil {
		return nil, err
	}
	v, err := s.intent(c, c.id)
	if err != nil {
		return nil, err
	}
	if c.repeated && v.Payment.State == payment.Captured { // The first request's doing.
		return intentReply(v)
	}
	if v.Payment.State != payment.Authorized {
		return nil, refuse(TypePayment, CodeInvalidStatus, "Invalid order status")
	}
	amount := v.Payment.Amount
	if text != "" {
		if amount, err = parseAmount(text, amount.Currency(), TypeInvalidRequest, CodeInvalidAmount); err != nil {
			return nil, err
		}
	}
	v, err = s.Core.Capture(c.r.Context(), payment.CaptureCommand{Caller: c.caller, Payment: v.Payment.ID, Amount: amount, Wait: s.wait()})
	if c.repeated && errors.Is(err, payment.ErrConflict) {
		return nil, errProcessing // The first request's capture is still under way.
	}
	if err != nil {
		return nil, err
	}
	noteIntent(c, v)
	a, err := intentReply(v)
	if err == nil {
		a.final = v.Payment.State != payment.Authorized
	}
	return a, err
}

// cancel is §3.9.
func (s *Server) cancel(c *call) (*reply, error) {
	reason, err := decodeCancel(c.body)
	if err != nil {
		return nil, err
	}
	v, err := s.intent(c, c.id)
	if err != nil {
		return nil, err
	}
	p := &v.Payment
	cmd := payment.CancelCommand{Caller: c.caller, Payment: p.ID, Window: cancelWindow, Text: reason}
	switch p.State {
	case payment.Expired:
		return nil, refuse(TypePayment, CodeExpiredOrder, "Expired order")
	case payment.Captured:
		if !c.caller.Credential.Profile.SameDayVoid || p.Reserved > 0 {
			return nil, refuse(TypePayment, CodeInvalidStatus, "Invalid order status: it is paid, refund it")
		}
		cmd.GiveBack, cmd.Window = true, voidWindow(p.CreatedAt)
	}
	if v, err = s.Core.Cancel(c.r.Context(), cmd); err != nil {
		return nil, err
	}
	noteIntent(c, v)
	return intentReply(v)
}

// voidWindow is how long after its creation a paid intent can be cancelled: until 23:00 of its day at +08:00 (§3.9).
func voidWindow(created time.Time) time.Duration {
	at := created.In(zone)
	end := time.Date(at.Year(), at.Month(), at.Day(), voidUntilHour, 0, 0, 0, zone)
	return max(end.Sub(created), -time.Nanosecond) // A negative window is over at once.
}

// refund is §3.12.
func (s *Server) refund(c *call) (*reply, error) {
	r, err := decodeRefund(c.body)
	if err != nil {
		return nil, err
	}
	v, err := s.intent(c, r.IntentID)
	if err != nil {
		return nil, err
	}
	if r.AttemptID != "" && r.AttemptID != attemptNumbering.Number(v.Payment.Attempt) {
		return nil, payment.ErrNotFound
	}
	amount, err := parseAmount(r.Amount, v.Payment.Amount.Currency(), TypeRefund, CodeInvalidRefundAmount)
	if err != nil {
		return nil, err
	}
	var kept keptReply
	rv, err := s.Core.Refund(c.r.Context(), payment.RefundCommand{Caller: c.caller, Key: c.key, KeyLife: keyLife, Request: c.request,
		Payment: v.Payment.ID, Amount: amount, Wait: s.wait(), Echo: encode(memo{Reason: r.Reason, Metadata: r.Metadata}),
		Answer: func(v payment.RefundView) []byte {
			a, err := refundReply(v)
			if err != nil {
				return nil
			}
			return kept.put(v.Refund.Version, a)
		}})
	if err != nil {
		return nil, refundRefusal(err)
	}
	if rv.Answer != nil {
		return readKept(rv.Answer)
	}
	noteRefund(c, rv)
	if a := kept.of(rv.Refund.Version); a != nil {
		return a, nil
	}
	return refundReply(rv)
}

func noteRefund(c *call, v payment.RefundView) {
	access.Note(c.r.Context(), slog.String("payment", v.Payment.Number()), slog.String("refund", refundNumbering.Number(v.Refund.ID)),
		slog.String("state", string(v.Refund.State)))
}

// refundReply answers with a refund, which is final once it is settled.
func refundReply(v payment.RefundView) (*reply, error) {
	r, err := refundOf(v)
	if err != nil {
		return nil, err
	}
	a := ok(r)
	a.final = v.Refund.Settled()
	return a, nil
}

// refundNow waits for a refund to be settled and answers with it.
func (s *Server) refundNow(c *call, p, id payment.ID) (*reply, error) {
	v, err := s.Core.AwaitRefund(c.r.Context(), c.caller.Merchant.ID, p, id, s.wait(), func(v payment.RefundView) bool { return v.Refund.Settled() })
	if err != nil {
		return nil, err
	}
	noteRefund(c, v)
	return refundReply(v)
}

// operation finds an operation of an intent by its public number.
func (s *Server) operation(ctx context.Context, m payment.MerchantID, n payment.Numbering, number string) (v payment.View, err error) {
	id, err := parseNumber(n, number)
	if err != nil {
		return v, err
	}
	err = s.Books.Read(ctx, func(r payment.Reader) (err error) {
		if v.Attempt, err = r.OperationByID(m, id); err != nil {
			return err
		}
		v.Payment, err = r.Payment(m, v.Attempt.Payment)
		return err
	})
	if err == nil && v.Payment.Protocol != Protocol {
		err = payment.ErrNotFound
	}
	return v, err
}

// retrieveAttempt is §3.10.
func (s *Server) retrieveAttempt(c *call) (*reply, error) {
	v, err := s.operation(c.r.Context(), c.caller.Merchant.ID, attemptNumbering, c.id)
	if err != nil {
		return nil, err
	}
	if !v.Attempt.Kind.IsAttempt() {
		return nil, payment.ErrNotFound
	}
	return ok(attemptOf(v)), nil
}

// retrieveRefund is §3.13.
func (s *Server) retrieveRefund(c *call) (*reply, error) {
	v, err := s.operation(c.r.Context(), c.caller.Merchant.ID, refundNumbering, c.id)
	if err != nil {
		return nil, err
	}
	if v.Attempt.Kind != payment.Refund || v.Attempt.Key.Scope == "" { // One without a key is the core's own.
		return nil, payment.ErrNotFound
	}
	return refundReply(payment.RefundView{Refund: v.Attempt, Payment: v.Payment})
}

// list is §3.5.
func (s *Server) list(c *call) (*reply, error) {
	q := c.r.URL.Query()
	p, err := decodePage(q)
	if err != nil {
		return nil, err
	}
	var f payment.ListFilter
	if name, text := first(q, "payment_intent_status", "intent_status"); text != "" {
		known := false
		if f, known = intentFilter(IntentStatus(text)); !known {
			return nil, invalid(name)
		}
	}
	if f.After, err = decodeTime(q, "start_time", "create_start_time"); err != nil {
		return nil, err
	}
	if f.Before, err = decodeTime(q, "end_time", "create_end_time"); err != nil {
		return nil, err
	}
	f.Reference = q.Get("merchant_order_id")
	return listed(s, c, p, f, payment.Reader.ListPayments, intentOf)
}

// listed reads one page of a list.
func listed[V, W any](s *Server, c *call, p page, f payment.ListFilter, read func(payment.Reader, payment.MerchantID, payment.ListFilter) ([]V, int64, error),
	wire func(V) (W, error)) (*reply, error) {
	f.Protocol, f.Offset, f.Limit = Protocol, p.offset(), int(p.size)
	var rows []V
	var total int64
	err := s.Books.Read(c.r.Context(), func(r payment.Reader) (err error) {
		rows, total, err = read(r, c.caller.Merchant.ID, f)
		return err
	})
	if err != nil {
		return nil, err
	}
	out := make([]W, 0, len(rows))
	for _, row := range rows {
		w, err := wire(row)
		if err != nil {
			return nil, err
		}
		out = append(out, w)
	}
	return ok(pageOf(p, total, out)), nil
}

// none is an empty page.
func none(p page) *reply { return ok(pageOf[struct{}](p, 0, nil)) }

// ofIntent narrows a filter to an intent that a list names; false when there is no such intent, and so nothing in the list.
func ofIntent(f *payment.ListFilter, number string) bool {
	if number == "" {
		return true
	}
	id, err := parseNumber(numbering, number)
	f.Payment = id
	return err == nil
}

// listAttempts is §3.11.
func (s *Server) listAttempts(c *call) (*reply, error) {
	q := c.r.URL.Query()
	p, err := decodePage(q)
	if err != nil {
		return nil, err
	}
	var f payment.ListFilter
	if text := q.Get("attempt_status"); text != "" {
		status := AttemptStatus(text)
		if status == "CANCELED" { // §11: constants of clients.
			status = AttemptCancelled
		}
		known := false
		if f, known = attemptFilters[status]; !known {
			if attemptUnused[status] {
				return none(p), nil
			}
			return nil, invalid("attempt_status")
		}
	}
	if !ofIntent(&f, q.Get("payment_intent_id")) {
		return none(p), nil
	}
	return listed(s, c, p, f, payment.Reader.ListAttempts, func(v payment.View) (*Attempt, error) { return attemptOf(v), nil })
}

// listRefunds is §3.14.
func (s *Server) listRefunds(c *call) (*reply, error) {
	q := c.r.URL.Query()
	p, err := decodePage(q)
	if err != nil {
		return nil, err
	}
	var f payment.ListFilter
	if name, text := first(q, "status", "refund_status"); text != "" {
		status := RefundStatus(text)
		if status == "PENDING" { // §4.3
			status = RefundProcessing
		}
		known := false
		if f, known = refundFilters[status]; !known {
			if refundUnused[status] {
				return none(p), nil
			}
			return nil, invalid(name)
		}
	}
	if f.After, err = decodeTime(q, "start_time"); err != nil {
		return nil, err
	}
	if f.Before, err = decodeTime(q, "end_time"); err != nil {
		return nil, err
	}
	f.Reference = q.Get("merchant_order_id")
	if !ofIntent(&f, q.Get("payment_intent_id")) {
		return none(p), nil
	}
	end := f.Before
	if end.IsZero() {
		end = c.now
	}
	if f.After.IsZero() && f.Payment == 0 && f.Reference == "" {
		f.After = end.AddDate(0, 0, -refundDays)
	}
	if !f.After.IsZero() && end.Sub(f.After) > refundDaysMax*24*time.Hour {
		return nil, refuse(TypeInvalidRequest, CodeInvalidParameter, "Invalid request parameters: start_time and end_time are more than 3 months apart")
	}
	return listed(s, c, p, f, payment.Reader.ListRefunds, refundOf)
}

package cardhost

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tillgate/tillgate/card"
	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/sandbox"
)

// sandboxRig is a link and the sandbox's card host, written by others from the same page, over TCP.
func sandboxRig(t testing.TB, change ...func(*Config)) (*rig, *sandbox.CardHost) {
	t.Helper()
	h, err := sandbox.OpenCards(sandbox.CardConfig{Dir: t.TempDir(), ZMK: hostZMK, Member: testMember, Now: time.Now, Rand: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var served sync.WaitGroup
	served.Go(func() { _ = h.Serve(ctx, listener) })
	t.Cleanup(func() {
		cancel()
		served.Wait()
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	r := newRig(t, append([]func(*Config){func(c *Config) {
		c.Addresses, c.Connections = []string{listener.Addr().String()}, 2
	}}, change...)...)
	return r.start(), h
}

// readCard is a card of the sandbox at a terminal: its stripe is read and its chip is not.
func readCard(t testing.TB, h *sandbox.CardHost, number string) *payment.Card {
	t.Helper()
	for _, c := range h.Cards() {
		if c.PAN != number {
			continue
		}
		track, err := card.ParseTrack2(c.Track2)
		if err != nil {
			t.Fatal(err)
		}
		return &payment.Card{PAN: track.PAN(), Expiry: track.Expiry(), Track2: track, Entry: payment.EntryStripe, TID: "T0000001"}
	}
	t.Fatalf("no card %s", number)
	return nil
}

type bookRow struct {
	Kind      string `json:"kind"`
	Reference string `json:"reference"`
	Minor     int64  `json:"amount_minor"`
	State     string `json:"state"`
}

// booksOf is what the host's books say of a number, as "kind state amount".
func booksOf(t *testing.T, h *sandbox.CardHost, number string) string {
	t.Helper()
	w := httptest.NewRecorder()
	h.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/cards/books?reference="+number, nil))
	var rows []bookRow
	if err := json.Unmarshal(w.Body.Bytes(), &rows); err != nil {
		t.Fatalf("books: %v in %s", err, w.Body)
	}
	var said []string
	for _, row := range rows {
		said = append(said, fmt.Sprintf("%s %s %d", row.Kind, row.State, row.Minor))
	}
	return strings.Join(said, ", ")
}

const (
	plainCard = "4761739002000150" // PIN 1234.
	pinCard   = "5413330089001011" // PIN 1234.
)

func TestSandboxDay(t *testing.T) {
	t.Parallel()
	r, h := sandboxRig(t)
	book := func(m payment.Message, want string) {
		t.Helper()
		if got := booksOf(t, h, m.Operation.Number); got != want {
			t.Errorf("books of the %s %s: %q, want %q", m.Operation.Kind, m.Operation.Number, got, want)
		}
	}
	sell := func(kind payment.Kind, minor int64, c *payment.Card) payment.Message {
		t.Helper()
		m := r.attempt(kind, minor, c)
		a := r.do(m)
		r.want(a, payment.OutcomeApproved, "")
		m.Operation.State, m.Operation.Result = payment.Approved, a.Result
		m.Attempt = m.Operation
		return m
	}

	sale := sell(payment.Sale, 1250, readCard(t, h, plainCard))
	book(sale, "payment done 1250")
	r.want(r.do(r.sale(1250, r.withPIN(readCard(t, h, pinCard), "1234"))), payment.OutcomeApproved, "")
	r.want(r.do(r.sale(1250, r.withPIN(readCard(t, h, pinCard), "4321"))), payment.OutcomeDeclined, payment.ReasonPINWrong)
	unknown := r.withPIN(readCard(t, h, pinCard), "1234")
	unknown.PIN.Keys = nil
	r.want(r.do(r.sale(1250, unknown)), payment.OutcomeDeclined, payment.ReasonPINWrong)
	r.want(r.do(r.sale(1250, r.withPIN(readCard(t, h, pinCard), "4321"))), payment.OutcomeDeclined, payment.ReasonPINTries)
	token := sell(payment.Sale, 700, &payment.Card{Token: "ct_sandbox_9050", Entry: payment.EntryNotPresent})
	book(token, "payment done 700")

	refund := r.on(payment.Refund, 250, sale)
	r.want(r.do(refund), payment.OutcomeApproved, "")
	book(refund, "refund done 250")
	r.want(r.do(r.on(payment.Refund, 1001, sale)), payment.OutcomeDeclined, payment.ReasonRefundExceeds)
	lost := r.on(payment.Refund, 100, sale)
	r.want(r.do(lost), payment.OutcomeApproved, "")
	lost.Attempt = sale.Operation
	back := r.on(payment.Reversal, 100, lost)
	r.want(r.do(back), payment.OutcomeApproved, "")
	book(lost, "refund reversed 100")

	void := r.on(payment.VoidOperation, 700, token)
	r.want(r.do(void), payment.OutcomeApproved, "")
	void.Operation.Tries = 2
	r.want(r.do(void), payment.OutcomeApproved, "")
	book(token, "payment reversed 700")

	held := sell(payment.Authorization, 5000, readCard(t, h, plainCard))
	book(held, "")
	capture := r.on(payment.CaptureOperation, 4000, held)
	a := r.do(capture)
	r.want(a, payment.OutcomeApproved, "")
	capture.Operation.Result = a.Result
	capture.Operation.State, capture.Operation.Tries = payment.Unknown, 2
	r.want(r.do(capture), payment.OutcomeApproved, "") // 0221: once in the books.
	book(capture, "payment done 4000")
	part := r.on(payment.Refund, 1000, held)
	part.Capture = capture.Operation
	r.want(r.do(part), payment.OutcomeApproved, "")

	undone := sell(payment.Sale, 300, readCard(t, h, plainCard))
	r.want(r.do(r.on(payment.Reversal, 300, undone)), payment.OutcomeApproved, "")
	book(undone, "payment reversed 300")
	dropped := sell(payment.Authorization, 300, readCard(t, h, plainCard))
	r.want(r.do(r.on(payment.Reversal, 300, dropped)), payment.OutcomeApproved, "")
	never := r.sale(400, readCard(t, h, plainCard))
	rev := r.on(payment.Reversal, 400, never)
	r.want(r.do(rev), payment.OutcomeApproved, "")
	rev.Operation.State = payment.Unknown
	r.want(r.do(rev), payment.OutcomeApproved, "") // 0421.
	r.want(r.do(never), payment.OutcomeDeclined, payment.ReasonDeclined)
	book(never, "")

	// The batch: what stands, and the sale by PIN, which is not listed above.
	item := func(m payment.Message, minor int64) Item {
		o := m.Operation
		return Item{Kind: o.Kind, Number: o.Number, SentAt: o.SentAt, TID: m.Attempt.Card.TID, AuthCode: o.Result.AuthCode, Amount: o.Amount}
	}
	now := time.Now()
	b := Batch{Number: "B-1", RRN: RRN(99, now), At: now, Merchant: merchant.PublicID, Currency: aud,
		Items: []Item{item(sale, 1250), item(refund, 250), item(capture, 4000), item(part, 1000)}}
	got, err := r.link.CloseBatch(t.Context(), b)
	if err != nil || !got.Balanced || got.Uploaded != 4 {
		t.Errorf("batch out of balance: %+v, %v", got, err)
	}
	got, err = r.link.CloseBatch(t.Context(), b)
	if err != nil || !got.Balanced || got.Uploaded != 0 {
		t.Errorf("batch again: %+v, %v", got, err)
	}
	r.want(r.do(r.on(payment.VoidOperation, 4000, func() payment.Message { m := held; m.Capture = capture.Operation; return m }())), payment.OutcomeDeclined,
		payment.ReasonDeclined)
}

func TestSandboxBatchInBalance(t *testing.T) {
	t.Parallel()
	r, h := sandboxRig(t)
	var items []Item
	for i := range 5 {
		m := r.sale(int64(100+i), readCard(t, h, plainCard))
		r.want(r.do(m), payment.OutcomeApproved, "")
		items = append(items, Item{Kind: payment.Sale, Number: m.Operation.Number, SentAt: m.Operation.SentAt, TID: "T0000001", Amount: m.Operation.Amount})
	}
	now := time.Now()
	got, err := r.link.CloseBatch(t.Context(), Batch{Number: "B-2", RRN: RRN(98, now), At: now, Merchant: merchant.PublicID, Currency: aud, Items: items})
	if err != nil || !got.Balanced || got.Uploaded != 0 {
		t.Errorf("%+v, %v", got, err)
	}
}

// What the sandbox's triggers come to, and that a sale that is not approved can always be undone.
func TestSandboxTriggers(t *testing.T) {
	t.Parallel()
	type said struct {
		outcome payment.Outcome
		reason  payment.Reason
	}
	silence := said{payment.OutcomeUnknown, ""}
	want := map[string]said{
		"decline": {payment.OutcomeDeclined, payment.ReasonDeclined}, "insufficient_funds": {payment.OutcomeDeclined, payment.ReasonInsufficientFunds},
		"error": {payment.OutcomeDeclined, payment.ReasonUnavailable}, "limit_exceeded": {payment.OutcomeDeclined, payment.ReasonLimitExceeded},
		"code_expired": {payment.OutcomeDeclined, payment.ReasonCardExpired}, "referral": {payment.OutcomeDeclined, payment.ReasonRefer},
		"pick_up": {payment.OutcomeDeclined, payment.ReasonCardBlocked}, "pick_up_special": {payment.OutcomeDeclined, payment.ReasonCardBlocked},
		"invalid_transaction": {payment.OutcomeDeclined, payment.ReasonDeclined}, "invalid_amount": {payment.OutcomeDeclined, payment.ReasonDeclined},
		"no_such_card": {payment.OutcomeDeclined, payment.ReasonCardInvalid}, "lost_card": {payment.OutcomeDeclined, payment.ReasonCardBlocked},
		"stolen_card": {payment.OutcomeDeclined, payment.ReasonCardBlocked}, "wrong_pin": {payment.OutcomeDeclined, payment.ReasonPINWrong},
		"pin_tries_exceeded": {payment.OutcomeDeclined, payment.ReasonPINTries}, "not_permitted_card": {payment.OutcomeDeclined, payment.ReasonNotPermitted},
		"not_permitted_terminal": {payment.OutcomeDeclined, payment.ReasonNotPermitted}, "suspected_fraud": {payment.OutcomeDeclined, payment.ReasonRisk},
		"count_limit": {payment.OutcomeDeclined, payment.ReasonLimitExceeded}, "restricted_card": {payment.OutcomeDeclined, payment.ReasonCardBlocked},
		"security_violation": {payment.OutcomeDeclined, payment.ReasonRisk}, "partial_approval": {payment.OutcomeUnfit, payment.ReasonPartial},
		"unknown_code": {payment.OutcomeDeclined, payment.ReasonDeclined}, "host_unavailable": {payment.OutcomeDeclined, payment.ReasonUnavailable},
		"pin_needed": {payment.OutcomeDeclined, payment.ReasonPINNeeded}, "unknown_merchant": {payment.OutcomeDeclined, payment.ReasonNotPermitted},
		"wrong_cryptogram": {payment.OutcomeDeclined, payment.ReasonCardInvalid},
		"no_answer":        silence, "late_answer": silence, "garbled_answer": silence, "connection_cut": silence, "request_lost": silence,
		"wrong_mac": silence, "other_amount": silence, "duplicate": silence, "reversal_no_answer": silence, "reversal_lost": silence,
		"other_reference": silence, "reversal_error": silence,
	}
	for _, trigger := range sandbox.CardTriggers() {
		if trigger.Behaviour == "sign_off" {
			continue // It is everybody's.
		}
		t.Run(trigger.Behaviour, func(t *testing.T) {
			t.Parallel()
			expected, listed := want[trigger.Behaviour]
			r, h := sandboxRig(t, func(c *Config) {
				if expected == silence {
					c.Timeout = 400 * time.Millisecond
				}
			})
			if !listed {
				expected = said{payment.OutcomeApproved, ""}
			}
			var minor int64
			if _, err := fmt.Sscan(strings.ReplaceAll(trigger.Amount, ".", ""), &minor); err != nil {
				t.Fatal(err)
			}
			m := r.sale(minor, readCard(t, h, plainCard))
			a := r.do(m)
			r.want(a, expected.outcome, expected.reason)
			m.Operation.Result = a.Result
			if a.Outcome == payment.OutcomeDeclined {
				if got := booksOf(t, h, m.Operation.Number); got != "" {
					t.Errorf("declined, and in the books as %q", got)
				}
				return
			}
			rev := r.on(payment.Reversal, minor, m)
			for tries := 0; r.do(rev).Outcome != payment.OutcomeApproved; tries++ {
				if tries == 20 {
					t.Fatal("it cannot be undone")
				}
				rev.Operation.State = payment.Unknown
				time.Sleep(50 * time.Millisecond)
			}
			if got := booksOf(t, h, m.Operation.Number); strings.Contains(got, "done") {
				t.Errorf("undone, and in the books as %q", got)
			}
		})
	}
}

func TestSandboxSignsOff(t *testing.T) {
	t.Parallel()
	r, h := sandboxRig(t)
	var minor int64
	for _, trigger := range sandbox.CardTriggers() {
		if trigger.Behaviour == "sign_off" {
			if _, err := fmt.Sscan(strings.ReplaceAll(trigger.Amount, ".", ""), &minor); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.want(r.do(r.sale(minor, readCard(t, h, plainCard))), payment.OutcomeApproved, "")
	r.wait("the sign-off", func() bool { return !r.link.Ready() })
	r.want(r.do(r.sale(100, readCard(t, h, plainCard))), payment.OutcomeUnsent, "")
	r.wait("the sign-on", r.link.Ready)
	r.want(r.do(r.sale(100, readCard(t, h, plainCard))), payment.OutcomeApproved, "")
}

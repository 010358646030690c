package upp_test

import (
	"encoding/json"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/tillgate/tillgate/sandbox"
)

// ending is how a purchase or refund must end, on the wire and in the books alike. An empty failure is an approval, with one movement; no
// failure leaves a movement.
type ending struct {
	code, qr, refund string
}

const pendingForever = "pending"

// endings lists every behaviour of the sandbox. What was lost before the network saw it is declined: nobody was charged. A refund is sent
// again instead, under its number, until it is answered. A fault on a QR code's payment leaves it waiting for the customer, who taps Approve.
var endings = map[string]ending{
	"approve":                 {},
	"decline":                 {"declined", "declined", "declined"},
	"insufficient_funds":      {"insufficientFunds", "insufficientFunds", "insufficientFunds"},
	"pending_then_approve_3s": {},
	"pending_then_decline_3s": {"declined", "declined", "declined"},
	"pending_forever":         {pendingForever, "", pendingForever},
	"no_answer":               {},
	"late_answer":             {},
	"garbled_answer":          {},
	"connection_cut":          {},
	"error":                   {"providerUnavailable", "providerUnavailable", ""},
	"request_lost":            {"providerUnavailable", "providerUnavailable", ""},
	"limit_exceeded":          {"limitExceeded", "limitExceeded", "limitExceeded"},
	"code_expired":            {"customerTokenExpired", "customerTokenExpired", "customerTokenExpired"},
	"code_used":               {"customerTokenUsed", "customerTokenUsed", "customerTokenUsed"},
	"customer_cancelled":      {"customerCancelled", "customerCancelled", "customerCancelled"},
	"cancel_no_answer":        {},
	"cancel_lost":             {},
}

// waitsForTap are the behaviours of a QR code's payment that the customer must decide.
var waitsForTap = map[string]bool{"pending_forever": true, "no_answer": true, "late_answer": true, "garbled_answer": true,
	"connection_cut": true, "cancel_no_answer": true, "cancel_lost": true}

// TestSandbox goes through every behaviour: what is said over the wire in the end is what the books show.
func TestSandbox(t *testing.T) {
	t.Parallel()
	r := setup(t)
	big := reference()
	paid := r.till(t).create(purchase(big, "amount", json.Number("900000"))).wantState("approved")
	seen := map[string]bool{}

	for _, c := range sandbox.WalletCodes() {
		if c.Provider != "alipay" && c.Provider != "wechat" {
			continue
		}
		want, known := endings[c.Behaviour]
		if seen[c.Behaviour] = true; !known {
			t.Errorf("%s: no ending in the table", c.Behaviour)
			continue
		}
		t.Run(c.Provider+" code "+c.Behaviour, func(t *testing.T) {
			t.Parallel()
			ref := reference()
			a := r.till(t).create(purchase(ref, "provider", c.Provider, "customerToken", c.Code)).want(http.StatusOK)
			if want.code == pendingForever {
				a.wantState("pending")
				r.till(t).cancel(ref).wantState("cancelled")
				r.wantBooks(t, a.out())
				return
			}
			r.ended(t, r.till(t).final(ref), want.code, "payment 8640 AUD done")
		})
	}
	for _, trigger := range sandbox.Triggers() {
		want, known := endings[trigger.Behaviour]
		if !known || !seen[trigger.Behaviour] {
			t.Errorf("%s: no ending in the table, or no code", trigger.Behaviour)
			continue
		}
		minor := trigger.Amount[:4] + "00"
		t.Run("QR "+trigger.Behaviour, func(t *testing.T) {
			t.Parallel()
			ref := reference()
			a := r.till(t).create(qr(ref, "amount", json.Number(trigger.Amount))).want(http.StatusOK)
			if waitsForTap[trigger.Behaviour] {
				if !within(func() bool { return a.text("merchantToken") != "" || r.till(t).fetch(ref).text("merchantToken") != "" }) {
					t.Fatal("no QR code")
				}
				r.phone(t, r.till(t).fetch(ref).wantState("pending").wantKeys(columnM0...).text("merchantToken"), "approve")
			}
			r.ended(t, r.till(t).final(ref), want.qr, "payment "+minor+" AUD done")
		})
		t.Run("refund "+trigger.Behaviour, func(t *testing.T) {
			t.Parallel()
			back := reference()
			a := r.till(t).create(refundOf(big, back, "amount", json.Number(trigger.Amount))).want(http.StatusOK)
			if want.refund == pendingForever {
				a.wantState("pending").wantKeys(columnR0...)
				r.till(t).fetch(back).wantState("pending")
				r.wantBooks(t, a.out())
				return
			}
			r.ended(t, r.till(t).final(back), want.refund, "refund "+minor+" AUD done")
		})
	}
	t.Cleanup(func() { // When all refunds have ended.
		var approved int64
		for behaviour, e := range endings {
			if e.refund == "" {
				minor, err := json.Number(string(amountFor(behaviour))[:4] + "00").Int64()
				if err != nil {
					t.Error(err)
				}
				approved += minor
			}
		}
		if got := r.givenBack(t, paid.out()); got != approved {
			t.Errorf("refunds of %s: got %d, want %d", paid.out(), got, approved)
		}
	})
}

// ended holds an answer and the books against each other.
func (r *rig) ended(t *testing.T, a reply, failure, movement string) {
	t.Helper()
	if failure != "" {
		a.wantDeclined(failure)
		r.wantBooks(t, a.out())
		return
	}
	a.wantState("approved")
	r.wantBooks(t, a.out(), movement)
}

// TestCodesThatAreNone: a text that cannot be a code of the wallet is declined.
func TestCodesThatAreNone(t *testing.T) {
	t.Parallel()
	r := setup(t)
	for provider, text := range map[string]string{"alipay": "123", "wechat": plainCode, "unionpay": "x"} {
		a := r.till(t).create(purchase(reference(), "provider", provider, "customerToken", text)).wantDeclined("customerTokenInvalid")
		r.wantBooks(t, a.out())
	}
}

// TestCreateWait: a create is answered within its wait, pending if the provider has not answered by then; so is a refund, and a resend.
func TestCreateWait(t *testing.T) {
	t.Parallel()
	r := setup(t, func(s *settings) { s.createWait = 300 * time.Millisecond; s.linkTimeout = 2 * time.Second })
	paid := reference()
	r.till(t).create(purchase(paid)).wantState("approved")
	r.tap.lose(func(call string) bool { return call == "POST payments" || call == "POST refunds" })
	slow, back := purchase(reference()), refundOf(paid, reference())
	for _, body := range []object{slow, back, slow, back} {
		if a := r.till(t).create(body).wantState("pending"); a.took < r.createWait || a.took > r.createWait+wakeMax {
			a.errorf("held for %v, want %v", a.took, r.createWait)
		}
	}
	r.tap.lose(nil)
	for _, body := range []object{slow, back} {
		a := r.till(t).final(body["transactionReference"].(string)).wantState("approved")
		if body["transactionType"] == "refund" {
			r.wantBooks(t, a.out(), "refund 2000 AUD done")
			continue
		}
		r.wantBooks(t, a.out(), "payment 8640 AUD done")
	}
}

// TestNetworkIsGone: where nothing can be sent, nothing is charged, and the till hears it at once.
func TestNetworkIsGone(t *testing.T) {
	t.Parallel()
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := "http://" + gone.Addr().String()
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	r := setup(t, func(s *settings) { s.walletURL = address })
	for _, body := range []object{purchase(reference()), qr(reference())} {
		a := r.till(t).create(body).wantDeclined("providerUnavailable")
		r.wantBooks(t, a.out())
		r.till(t).create(body).wantDeclined("providerUnavailable")
	}
}

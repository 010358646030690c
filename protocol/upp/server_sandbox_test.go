package upp_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/tillgate/tillgate/money"
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

// TestSandbox goes through every behaviour: what is said over the wire in the end is what the books show. All of them are begun at once,
// since some take their time.
func TestSandbox(t *testing.T) {
	t.Parallel()
	r := setup(t, func(s *settings) { s.linkTimeout = 2 * time.Second })
	big := reference()
	paid := r.till(t).create(purchase(big, "amount", json.Number("900000"))).wantState("approved")

	type trial struct {
		name, behaviour string
		body            object
		failure         string
		tap             bool
		movement        string
	}
	var trials []trial
	for _, c := range sandbox.WalletCodes() {
		if c.Provider == "alipay" || c.Provider == "wechat" {
			trials = append(trials, trial{c.Provider + " code", c.Behaviour, purchase(reference(), "provider", c.Provider, "customerToken", c.Code),
				endings[c.Behaviour].code, false, "payment 8640 AUD done"})
		}
	}
	var refunded int64
	for _, g := range sandbox.Triggers() {
		minor := moneyMinor(t, g.Amount)
		if endings[g.Behaviour].refund == "" {
			refunded += minor
		}
		trials = append(trials,
			trial{"QR", g.Behaviour, qr(reference(), "amount", json.Number(g.Amount)), endings[g.Behaviour].qr, waitsForTap[g.Behaviour],
				fmt.Sprintf("payment %d AUD done", minor)},
			trial{"refund", g.Behaviour, refundOf(big, reference(), "amount", json.Number(g.Amount)), endings[g.Behaviour].refund, false,
				fmt.Sprintf("refund %d AUD done", minor)})
	}
	begun := make([]reply, len(trials))
	const atOnce = 8
	turns := make(chan struct{}, atOnce)
	together(len(trials), func(i int) {
		turns <- struct{}{}
		begun[i] = r.till(t).create(trials[i].body).want(http.StatusOK)
		<-turns
	})

	for i, trial := range trials {
		t.Run(trial.name+" "+trial.behaviour, func(t *testing.T) {
			if _, known := endings[trial.behaviour]; !known {
				t.Fatal("the table of endings does not have it")
			}
			ref, a := trial.body["transactionReference"].(string), begun[i]
			if trial.failure == pendingForever {
				if b := r.till(t).fetch(ref).wantState("pending"); b.out() != a.out() {
					b.errorf("want %s", a.out())
				}
				r.wantBooks(t, a.out())
				return
			}
			if trial.tap {
				var shown reply
				if !within(func() bool {
					shown = r.till(t).fetch(ref)
					return shown.text("merchantToken") != "" || shown.state() != "pending"
				}) {
					t.Fatal("no QR code")
				}
				r.phone(t, shown.wantState("pending").wantKeys(columnM0...).text("merchantToken"), "approve")
			}
			b := r.till(t).final(ref)
			if b.out() != a.out() {
				b.errorf("want %s", a.out())
			}
			if trial.failure != "" {
				b.wantDeclined(trial.failure)
				r.wantBooks(t, b.out())
				return
			}
			b.wantState("approved")
			r.wantBooks(t, b.out(), trial.movement)
		})
	}
	if got := r.givenBack(t, paid.out()); got != refunded {
		t.Errorf("refunds of %s: got %d, want %d", paid.out(), got, refunded)
	}
}

// moneyMinor is an amount with two places in minor units.
func moneyMinor(t *testing.T, amount string) int64 {
	t.Helper()
	a, err := money.Parse(amount, money.MustCurrency("AUD"))
	if err != nil {
		t.Fatal(err)
	}
	return a.Minor()
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

package iotpay

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/tillgate/tillgate/card"
	"github.com/tillgate/tillgate/payment"
)

// Every error of the core has its row; what a row says is for the peer, and what was wrapped for the log.
func TestRefusalsAreComplete(t *testing.T) {
	t.Parallel()
	for _, want := range payment.Errors() {
		rows := 0
		for _, r := range refusals {
			if r.err == want {
				rows++
			}
		}
		if rows != 1 {
			t.Errorf("%q: %d rows, want 1", want, rows)
		}
		wrapped := fmt.Errorf("merchant 17, payment 4711: %w", want)
		e := refusal(wrapped)
		if e == nil || e.Message == "" || e.Description == "" || e.Description == wrapped.Error() || codeNames[e.Code] == "" {
			t.Errorf("%q: got %v", want, e)
		}
	}
	if e := refusal(errors.New("disk full")); e != nil {
		t.Errorf("an unknown error: got %v", e)
	}
	if e := refusal(&payment.FieldError{Field: "amount", Problem: "must be above zero"}); e == nil || e.Code != CodeParameter {
		t.Errorf("a field error: got %v", e)
	}
	if e := refuse(CodeSignature, "x"); e.Message != "signature fail" {
		t.Errorf("retMsg of a wrong signature: %q, want the seed's", e.Message)
	}
}

func TestEndingsAreComplete(t *testing.T) {
	t.Parallel()
	for _, r := range payment.Reasons() {
		e, ok := endings[r]
		if !ok || e.code == "" || e.status != StatusFailed && e.status != StatusClosed {
			t.Errorf("%s: got %+v", r, e)
		}
	}
	if len(endings) != len(payment.Reasons()) {
		t.Errorf("%d endings for %d reasons", len(endings), len(payment.Reasons()))
	}
}

var (
	paymentStates   = []payment.State{payment.Open, payment.Authorized, payment.Captured, payment.Refused, payment.Cancelled, payment.Voided, payment.Expired}
	operationStates = []payment.OperationState{payment.Created, payment.Sent, payment.Waiting, payment.Approved, payment.Declined, payment.Unknown,
		payment.Reversing, payment.Reversed}
)

// TestStatuses: every state has a status, and no failure is told while the money may still be anywhere.
func TestStatuses(t *testing.T) {
	t.Parallel()
	for _, s := range paymentStates {
		if _, ok := statuses[s]; !ok {
			t.Errorf("payment %s has no status", s)
		}
		for _, a := range append([]payment.OperationState{""}, operationStates...) {
			if _, ok := openStatuses[a]; !ok {
				t.Errorf("attempt %s has no status", a)
			}
			for _, flow := range []payment.Flow{payment.ByCard, payment.ByCode, payment.ByQR} {
				v := payment.View{Payment: payment.Payment{State: s, Flow: flow, Failure: payment.ReasonCancelled}, Attempt: payment.Operation{State: a}}
				got := statusOf(v)
				uncertain := a == payment.Unknown || a == payment.Reversing
				if uncertain && (s == payment.Open || s == payment.Cancelled) && got != StatusPaying {
					t.Errorf("%s payment by %s, attempt %s: status %d, want 1", s, flow, a, got)
				}
				if s == payment.Open && got.Final() {
					t.Errorf("open payment by %s, attempt %s: status %d is final", flow, a, got)
				}
			}
		}
	}
	for _, s := range operationStates {
		if _, ok := refundStatuses[s]; !ok {
			t.Errorf("refund %s has no status", s)
		}
	}
	for status, paid := range map[Status]bool{0: false, 1: false, 2: true, 3: true, 4: false, 9: false, -1: false, 7: false} {
		if status.Paid() != paid || status.Final() != (status == 2 || status == 3 || status == 4 || status == 9) {
			t.Errorf("status %d: paid %v, final %v", status, status.Paid(), status.Final())
		}
	}
}

func TestChannels(t *testing.T) {
	t.Parallel()
	letters := map[string]bool{refundLetters: true}
	for _, c := range channels {
		if len(c.letter) != 2 || letters[c.letter] {
			t.Errorf("%s: letters %q", c.id, c.letter)
		}
		letters[c.letter] = true
		if (c.qr != "") != (c.flow == payment.ByQR) || c.notifies() != (c.flow == payment.ByQR) {
			t.Errorf("%s: %+v", c.id, c)
		}
		if got, ok := channelOf(c.id); !ok || got != c {
			t.Errorf("%s is not found", c.id)
		}
		if _, ok := channelOf(lower(c.id)); ok {
			t.Errorf("%s is found in small letters", c.id)
		}
	}
}

func TestNumbers(t *testing.T) {
	t.Parallel()
	at := time.Date(2021, 9, 22, 15, 23, 14, 0, time.FixedZone("EDT", -4*3600))
	n := numbering("CP", at).Number(685200722249)
	if n != "CP20210922192314685200722249" { // seed
		t.Errorf("got %s", n)
	}
	if id := idIn(n); id != 685200722249 {
		t.Errorf("got %d", id)
	}
	for _, s := range []string{"", "CP", n + "1", n[:27], n[:16] + "-00000000001", n[:16] + "+00000000001", "CP2021092219231４000000001"} {
		if id := idIn(s); id != 0 && s != n[:16]+"+00000000001" {
			t.Errorf("%q: got %d", s, id)
		}
	}
}

// TestExtra is what a receipt says, beside the whole way in the server's tests.
func TestExtra(t *testing.T) {
	t.Parallel()
	declined := payment.View{Payment: payment.Payment{State: payment.Refused, Failure: payment.ReasonInsufficientFunds, ModifiedAt: time.Unix(0, 0)},
		Attempt: payment.Operation{ID: 7, State: payment.Declined, Number: "606012345678"}}
	t.Run("the host's own code beats the table's", func(t *testing.T) {
		v := declined
		v.Attempt.Result.Code = "116"
		if got := display(v, StatusFailed); got != "Transaction Not Completed 116" {
			t.Error(got)
		}
	})
	t.Run("Interac", func(t *testing.T) {
		x := extraOf(declined, memo{}, Report{Scheme: card.Interac, Account: "C", Language: "fr"}, StatusFailed)
		if x.CardType != "D" || x.AccountType != "C" || x.LangCode != "F" || x.SeqNum != "606012345678" || x.AuthNum != "" {
			t.Errorf("%+v", x)
		}
	})
	t.Run("a reversed sale is not its host's decline", func(t *testing.T) {
		v := declined
		v.Payment.Failure, v.Attempt.State, v.Attempt.Result.Code = payment.ReasonUnavailable, payment.Reversed, "00"
		if got := display(v, StatusFailed); got != "Transaction Not Completed 91" {
			t.Error(got)
		}
	})
	t.Run("Eastern time with hundredths", func(t *testing.T) { // §9.1: the seed's failed sample.
		v := payment.View{Payment: payment.Payment{ModifiedAt: time.Date(2021, 9, 22, 19, 23, 14, 940_000_000, time.UTC)}}
		if got := timeStamp(v); got != "20210922-15231494" {
			t.Error(got)
		}
	})
	for masked, want := range map[string]string{"": "", "12": "", "424242******4242": "XXXXXXXXXXXX4242", "************1166": "XXXXXXXXXXXX1166"} {
		if got := lastFour(masked); got != want {
			t.Errorf("%q: got %q", masked, got)
		}
	}
}

// TestMemoryForgets: reports are remembered for a time, and not without bound.
func TestMemoryForgets(t *testing.T) {
	t.Parallel()
	var m remembered
	now := time.Unix(1_000_000, 0)
	m.put(1, Report{AID: "a"}, now)
	if r, ok := m.get(1, now.Add(memoryLife-1)); !ok || r.AID != "a" {
		t.Error("forgotten at once")
	}
	if _, ok := m.get(1, now.Add(memoryLife)); ok {
		t.Error("remembered for ever")
	}
	for id := payment.ID(2); id < memoryMax+10; id++ {
		m.put(id, Report{}, now)
	}
	if len(m.reports) > memoryMax {
		t.Errorf("%d reports", len(m.reports))
	}
	m.put(5, Report{}, now.Add(2*memoryLife))
	if len(m.reports) != 1 || len(m.order) != 1 {
		t.Errorf("%d reports, %d in order", len(m.reports), len(m.order))
	}
}

func TestAllows(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		list, remote string
		want         bool
	}{
		{"", "nonsense", true}, {"192.0.2.0/24", "192.0.2.15:1", true}, {"192.0.2.15", "[::ffff:192.0.2.15]:1", true},
		{"192.0.2.0/24, 2001:db8::1", "[2001:db8::1]:443", true}, {"192.0.2.0/24", "198.51.100.1:1", false}, {"rubbish", "192.0.2.15:1", false},
		{"192.0.2.0/24", "nonsense", false},
	} {
		if got := allows(c.list, c.remote); got != c.want {
			t.Errorf("%q, %s: got %v", c.list, c.remote, got)
		}
	}
}

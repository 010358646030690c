package device_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tillgate/tillgate/device"
	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/terminal"
)

func TestASaleReachesTheTerminalAndComesBack(t *testing.T) {
	t.Parallel()
	r := setup(t)
	u := r.terminal()
	r.customer(u, "approve")
	p := r.order(u, "28.65")
	report, v, err := r.sale(u, p)
	if err != nil || v.Payment.State != payment.Captured {
		t.Fatalf("got %s, %v; log:\n%s", v.Payment.State, err, r.log)
	}
	if report.Scheme != "mastercard" || report.CryptogramType != "TC" || report.AID != "A0000000041010" || report.TVR != "8000048000" || report.TSI != "7800" ||
		report.CVM != "020300" || len(report.Cryptogram) != 16 || report.Entry != payment.EntryChip || report.Ended != "" {
		t.Errorf("report: %#v", [...]string{string(report.Scheme), report.CryptogramType, report.AID, report.TVR, report.TSI, report.CVM, report.Cryptogram})
	}
	if got := r.movements(); got != "payment 2865 CAD done" {
		t.Errorf("the acquirer's books: %s", got)
	}
	if paper := u.paper(); strings.Count(paper, "APPROVED - THANK YOU") != 2 || !strings.Contains(paper, "VERIFIED BY PIN") || !strings.Contains(paper, "CAD 28.65") ||
		!strings.Contains(paper, v.Attempt.Result.AuthCode) {
		t.Errorf("receipts:\n%s", paper)
	}
}

// outcome is a sale as a table wants it.
type outcome struct {
	state  payment.State
	reason payment.Reason
	books  string // The acquirer's.
	paper  string // Is on the receipt; "" for no receipt at all.
}

func (r *rig) want(u *unit, v payment.View, want outcome) {
	r.t.Helper()
	r.until("the receipt", func() bool { return want.paper == "" || strings.Count(u.paper(), want.paper) >= 2 })
	if v.Payment.State != want.state || v.Payment.Failure != want.reason {
		r.t.Errorf("payment: got %s %q, want %s %q; log:\n%s", v.Payment.State, v.Payment.Failure, want.state, want.reason, r.log)
	}
	r.until("the acquirer's books to be "+want.books, func() bool { return r.movements() == want.books })
	paper := u.paper()
	if claims := strings.Contains(paper, "APPROVED"); claims != (want.paper == "APPROVED") || want.paper == "" && paper != "" {
		r.t.Errorf("the receipt does not tell the truth, which is %q:\n%s", want.paper, paper)
	}
}

func TestHowSalesEnd(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		customer string
		entry    payment.EntryMode
		amount   string
		ended    payment.Reason
		kind     string // Of the last cryptogram.
		want     outcome
	}{
		"approved by chip":   {"approve", payment.EntryChip, "10.00", "", "TC", outcome{payment.Captured, "", "payment 1000 CAD done", "APPROVED"}},
		"approved by tap":    {"approve", payment.EntryContactlessChip, "10.00", "", "ARQC", outcome{payment.Captured, "", "payment 1000 CAD done", "APPROVED"}},
		"tapped with a PIN":  {"approve", payment.EntryContactlessChip, "300.00", "", "ARQC", outcome{payment.Captured, "", "payment 30000 CAD done", "APPROVED"}},
		"approved by stripe": {"approve", payment.EntryStripe, "10.00", "", "", outcome{payment.Captured, "", "payment 1000 CAD done", "APPROVED"}},
		"slow":               {"slow", payment.EntryChip, "10.00", "", "TC", outcome{payment.Captured, "", "payment 1000 CAD done", "APPROVED"}},
		"declined":           {"decline", payment.EntryChip, "10.00", "", "AAC", outcome{payment.Refused, payment.ReasonDeclined, "", "DECLINED"}},
		"wrong PIN":          {"wrong-pin", payment.EntryChip, "10.00", "", "AAC", outcome{payment.Refused, payment.ReasonPINWrong, "", "DECLINED"}},
		"host is silent":     {"approve", payment.EntryChip, "9056.00", "", "AAC", outcome{payment.Refused, payment.ReasonUnavailable, "payment 905600 CAD reversed", "DECLINED"}},
		"wrong ARPC":         {"approve", payment.EntryChip, "9098.00", "", "AAC", outcome{payment.Cancelled, payment.ReasonDeclined, "payment 909800 CAD reversed", "DECLINED"}},
		"part is approved":   {"approve", payment.EntryChip, "9083.00", "", "AAC", outcome{payment.Refused, payment.ReasonPartial, "payment 454150 CAD reversed", "DECLINED"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := setup(t)
			u := r.terminal()
			r.customer(u, tt.customer).Entry = tt.entry
			report, v, err := r.sale(u, r.order(u, tt.amount))
			if err != nil || report.Ended != tt.ended || report.CryptogramType != tt.kind {
				t.Errorf("got ended %q, %s, %v", report.Ended, report.CryptogramType, err)
			}
			r.want(u, v, tt.want)
			if err := r.server.channel.Free(u.caller); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

func TestNobodyPays(t *testing.T) {
	t.Parallel()
	r := setup(t)
	u := r.terminal()
	r.customer(u, "walk-away")
	report, v, err := r.sale(u, r.orderFor(u, "10.00", 300*time.Millisecond))
	if err != nil || report.Ended != payment.ReasonExpired {
		t.Errorf("got %q, %v", report.Ended, err)
	}
	r.until("the end", func() bool { return r.state(v.Payment) != payment.Open })
	r.until("the receipt", func() bool { return strings.Count(u.paper(), "NOT COMPLETED") == 2 })
	if got := r.movements(); got != "" {
		t.Errorf("books: %s", got)
	}
}

func TestTheCustomerCancels(t *testing.T) {
	t.Parallel()
	r := setup(t)
	u := r.terminal()
	go func() {
		r.await(u, device.AskCard)
		r.until("the key", u.Cancel)
	}()
	report, v, err := r.sale(u, r.order(u, "10.00"))
	if err != nil || report.Ended != payment.ReasonCustomerCancelled {
		t.Errorf("got %q, %v", report.Ended, err)
	}
	r.want(u, v, outcome{payment.Cancelled, payment.ReasonCustomerCancelled, "", "NOT COMPLETED"})

	// With the card in the reader, instead of the PIN.
	go func() {
		r.await(u, device.AskCard)
		c, _ := u.Card("approve")
		r.until("the card", func() bool { return u.Present(c, payment.EntryChip) })
		r.await(u, device.AskPIN)
		r.until("the key", u.Cancel)
	}()
	report, v, err = r.sale(u, r.order(u, "10.00"))
	if err != nil || report.Ended != payment.ReasonCustomerCancelled {
		t.Errorf("got %q, %v", report.Ended, err)
	}
	r.want(u, v, outcome{payment.Cancelled, payment.ReasonCustomerCancelled, "", "NOT COMPLETED"})
}

func TestTheTillTakesTheOrderBack(t *testing.T) {
	t.Parallel()
	r := setup(t)
	u := r.terminal()
	ctx, hangUp := context.WithCancel(context.Background())
	go func() { r.await(u, device.AskCard); hangUp() }()
	report, err := r.server.channel.Sale(ctx, u.caller, r.order(u, "10.00"))
	if !errors.Is(err, terminal.ErrOver) || report.Ended != payment.ReasonCancelled {
		t.Errorf("the till hangs up: got %q, %v", report.Ended, err)
	}
	r.until("the terminal to be free", func() bool { return r.server.channel.Free(u.caller) == nil && !u.Busy() })

	p := r.order(u, "11.00")
	go func() {
		r.await(u, device.AskCard)
		if err := r.server.channel.Cancel(u.caller, p.ID); err != nil {
			t.Errorf("cancel: %v", err)
		}
	}()
	if report, err = r.server.channel.Sale(context.Background(), u.caller, p); err != nil || report.Ended != payment.ReasonCancelled {
		t.Errorf("the till cancels: got %q, %v", report.Ended, err)
	}
	r.until("the terminal to be free", func() bool { return r.server.channel.Free(u.caller) == nil && !u.Busy() })
	if err := r.server.channel.Cancel(u.caller, p.ID); !errors.Is(err, terminal.ErrOver) {
		t.Errorf("a second cancel: %v", err)
	}
	if got := r.movements(); got != "" || strings.Contains(u.paper(), "APPROVED") {
		t.Errorf("books %s, receipts:\n%s", got, u.paper())
	}

	// The next customer's order is the next customer's (U5, U6).
	r.customer(u, "approve")
	_, v, err := r.sale(u, r.order(u, "12.00"))
	if err != nil || v.Payment.State != payment.Captured || r.movements() != "payment 1200 CAD done" {
		t.Errorf("the next: %s, %v, %s", v.Payment.State, err, r.movements())
	}
}

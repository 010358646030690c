package uqpay_test

import (
	"testing"

	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/protocol/uqpay"
)

// A terminal's day, as the Go client sees it.
func TestTerminalDay(t *testing.T) {
	t.Parallel()
	r := setup(t)
	ctx := t.Context()
	till := r.till()
	if till.ID != "10000000" {
		t.Errorf("first terminal is %s", till.ID)
	}

	var first *uqpay.Intent
	for i, entry := range []payment.EntryMode{payment.EntryChip, payment.EntryContactlessChip, payment.EntryStripe, payment.EntryContactlessStripe, payment.EntryKeyed} {
		pin := seedPIN
		if i%2 == 1 {
			pin = ""
		}
		sold, err := till.Sale(ctx, uqpay.Order{Amount: sgd(1250), ID: "order", Description: "Lunch", Metadata: map[string]string{"lane": "2"}}, reading(entry, pin))
		if err != nil {
			t.Fatalf("%s: %v", entry, err)
		}
		a := sold.LatestAttempt
		if sold.Status != uqpay.IntentSucceeded || sold.CapturedAmount != "12.5" || a.Status != uqpay.AttemptCaptureRequested || a.AuthCode != "A7K2P9" || len(a.RRN) != 12 {
			t.Errorf("%s: %+v %+v", entry, sold, a)
		}
		if got := r.bank.lastCard(t); got.Entry != entry || (got.PIN != nil) != (pin != "") || got.TID != till.ID || got.STAN == "" {
			t.Errorf("%s: the host saw another card", entry)
		}
		first = sold
	}

	declined, err := till.Sale(ctx, uqpay.Order{Amount: sgd(1055), ID: "order", Description: "Coffee"}, reading(payment.EntryChip, "1111"))
	if err != nil {
		t.Fatal(err)
	}
	if declined.Status != uqpay.RequiresPaymentMethod || declined.LatestAttempt.FailureCode != "incorrect_pin" || declined.CapturedAmount != "0" {
		t.Errorf("declined: %+v %+v", declined, declined.LatestAttempt)
	}
	if _, err := till.Client.UpdateIntent(ctx, declined.ID, uqpay.IntentUpdate{Amount: "10.40"}); err != nil {
		t.Fatal(err)
	}
	again, err := till.Again(ctx, declined.ID, reading(payment.EntryChip, seedPIN))
	if err != nil || again.Status != uqpay.IntentSucceeded || again.Amount != "10.4" || again.LatestAttempt.ID == declined.LatestAttempt.ID {
		t.Errorf("second attempt: %+v, %v", again, err)
	}

	refund, err := till.Client.CreateRefund(ctx, uqpay.RefundRequest{IntentID: first.ID, Amount: "2.50", Reason: "one drink returned"})
	if err != nil || refund.Status != uqpay.RefundSucceeded || refund.Amount != "2.5" || refund.AttemptID != first.LatestAttempt.ID {
		t.Errorf("refund: %+v, %v", refund, err)
	}
	got, err := till.Client.Attempt(ctx, first.LatestAttempt.ID)
	if err != nil || got.RefundedAmount != "2.5" {
		t.Errorf("attempt after the refund: %+v, %v", got, err)
	}

	if err := till.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := till.Sale(ctx, uqpay.Order{Amount: sgd(100), ID: "order", Description: "Tea"}, reading(payment.EntryChip, seedPIN)); err != nil {
		t.Fatal(err)
	}
	if keys := r.bank.lastCard(t).PIN.Keys; len(keys) != 2 {
		t.Errorf("%d PIN keys are alive after a refresh, want 2", len(keys))
	}

	page, err := till.Client.Intents(ctx, uqpay.ListQuery{PageSize: 4})
	if err != nil || page.TotalItems != 7 || page.TotalPages != 2 || len(page.Data) != 4 || page.Data[0].Amount != "1" {
		t.Errorf("intents: %+v, %v", page, err)
	}
	attempts, err := till.Client.Attempts(ctx, uqpay.ListQuery{IntentID: declined.ID})
	if err != nil || attempts.TotalItems != 2 || attempts.Data[0].ID != again.LatestAttempt.ID || attempts.Data[1].FailureCode != "incorrect_pin" {
		t.Errorf("attempts: %+v, %v", attempts, err)
	}
	refunds, err := till.Client.Refunds(ctx, uqpay.ListQuery{})
	if err != nil || refunds.TotalItems != 1 || refunds.Data[0].ID != refund.ID || refunds.Data[0].IntentID != first.ID {
		t.Errorf("refunds: %+v, %v", refunds, err)
	}
}

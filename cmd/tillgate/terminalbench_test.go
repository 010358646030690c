package main

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/protocol/iotpay"
	"github.com/tillgate/tillgate/protocol/uqpay"
)

// BenchmarkTerminalInBetween is what a terminal between till and server costs: a chip sale with PIN over IOT Pay, from the till's call to its
// answer, with the terminal's automatic customer in between, and in turns with it the same sale over UQPAY, where the till has the card itself. More
// than 400 sales would wait for the limit of calls a minute that UQPAY sets its callers.
func BenchmarkTerminalInBetween(b *testing.B) {
	dev := startDev(b, b.TempDir(), "--customer", "approve")
	iot, ctx, account := dev.iotTill(b), b.Context(), dev.info.UQPAY
	client := &uqpay.Client{BaseURL: account.BaseURL, ClientID: account.ClientID, APIKey: uqpay.Secret(account.APIKey)}
	till, err := client.Enrol(ctx, uqpay.RegisterRequest{FirmCode: account.FirmCode, FirmSN: "BENCH-1", Model: account.TerminalModel})
	if err != nil {
		b.Fatal(err)
	}
	const cents, sgdNumber = 10_00, 702
	amount := money.New(cents, money.MustCurrency(account.Currency))
	reading := present(b, deckCardOf(b, dev.info.Cards, goodCard), payment.EntryChip, "1234", cents, sgdNumber)
	var direct, chain []time.Duration
	for n := 0; b.Loop(); n++ {
		began := time.Now()
		paid, err := iot.Create(ctx, dev.iotOrder(fmt.Sprint("BENCH-", n), iotpay.ChannelCard, cents))
		if err != nil || !paid.Status.Paid() {
			b.Fatalf("IOT Pay: %+v, %v", paid, err)
		}
		chain = append(chain, time.Since(began))
		began = time.Now()
		i, err := till.Sale(ctx, uqpay.Order{Amount: amount, ID: fmt.Sprint("BENCH-", n), Description: "Bench"}, reading)
		if err != nil || i.Status != uqpay.IntentSucceeded {
			b.Fatalf("UQPAY: %+v, %v", i, err)
		}
		direct = append(direct, time.Since(began))
	}
	for _, kind := range []struct {
		name string
		took []time.Duration
	}{{"uqpay", direct}, {"iotpay", chain}} {
		slices.Sort(kind.took)
		for _, percent := range []int{50, 99} {
			b.ReportMetric(float64(kind.took[len(kind.took)*percent/100].Microseconds())/1000, fmt.Sprintf("%s-p%d-ms", kind.name, percent))
		}
	}
}

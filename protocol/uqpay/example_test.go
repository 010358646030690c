package uqpay_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/tillgate/tillgate/card"
	"github.com/tillgate/tillgate/emv"
	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/protocol/uqpay"
)

// A terminal that registers, fetches its PIN key and takes a card with a PIN.
func ExampleTill() {
	ctx := context.Background()
	client := &uqpay.Client{BaseURL: uqpay.SandboxURL, ClientID: "your-client-id", APIKey: "your-api-key"}
	till, err := client.Enrol(ctx, uqpay.RegisterRequest{FirmCode: "05", FirmSN: "PX930-000771", Model: "A930"})
	if err != nil {
		return
	}
	// What the card reader gave.
	pan, _ := card.ParsePAN("5554748800161559")
	expiry, _ := card.ParseExpiry("07", "2027")
	chip, _ := emv.ParseHex("9F02060000000012505F2A020702")
	pin, _ := card.ParsePIN("302312")

	intent, err := till.Sale(ctx, uqpay.Order{Amount: money.New(1250, money.MustCurrency("SGD")), ID: "T301-20260203-0007", Description: "Lunch table 7"},
		uqpay.Reading{PAN: pan, Expiry: expiry, Entry: payment.EntryChip, Chip: chip, PIN: pin})
	switch {
	case errors.Is(err, uqpay.ErrOutcomeUnknown):
		fmt.Println("look for the order before anything else")
	case err != nil:
		fmt.Println("not possible:", err)
	case intent.Status == uqpay.IntentSucceeded:
		fmt.Println("paid", intent.LatestAttempt.AuthCode, intent.LatestAttempt.RRN)
	case intent.Status == uqpay.IntentPending:
		fmt.Println("retrieve it until it is decided")
	default:
		fmt.Println("declined:", intent.LatestAttempt.FailureMessage)
	}
}

// A receiver of webhooks.
func ExampleParseWebhook() {
	body := []byte(`{"version":"V1.6.0","event_name":"ACQUIRING","event_type":"acquiring.payment_intent.succeeded","event_id":"1","source_id":"PI2000000000000000001","data":{}}`)
	h := http.Header{}
	h.Set(uqpay.HeaderWebhookTime, "1767225600")
	h.Set(uqpay.HeaderWebhookSignature, uqpay.SignWebhook("whsec_demo_0001", body, "1767225600"))

	e, err := uqpay.ParseWebhook(body, h, time.Unix(1767225610, 0), "whsec_demo_0001")
	fmt.Println(e.Type, e.SourceID, err)
	_, err = uqpay.ParseWebhook(body, h, time.Unix(1767225610, 0), "another secret")
	fmt.Println(err)
	// Output:
	// acquiring.payment_intent.succeeded PI2000000000000000001 <nil>
	// uqpay: webhook is not genuine
}

// Opening the seed's PIN key, and the PIN block of its example.
func ExampleMakePINBlock() {
	aesKey := make([]byte, 32)
	_, _ = fmt.Sscanf("5214abf357f2cc47645c4d942c02fd0180acc6d8de8fae3708849b6a459cba00", "%x", &aesKey)
	pinKey, err := uqpay.OpenPINKey("LASDho1ILHoYRf/5YEyIgieoc+SXJkUsHZElXOMNGv7WnC3fZzFPYDH8mJaDbnwvom3QEtdv3NjvaEUtVeetWdQsv2RtQw4XEYh/Cg==", aesKey)
	if err != nil {
		return
	}
	pan, _ := card.ParsePAN("5554748800260229")
	pin, _ := card.ParsePIN("302312")
	block, err := uqpay.MakePINBlock(pinKey, pin, pan)
	fmt.Println(block[0] == 0x4F, block[7] == 0x06, err)
	fmt.Println(block)
	// Output:
	// true true <nil>
	// ***
}

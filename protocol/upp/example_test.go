package upp_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/protocol/upp"
)

// A purchase with a code that the merchant shows: keep the bytes, send them, show the code, wait for the result.
func ExampleClient() {
	const pending = `{"transactionReference":"order-1","transactionType":"purchase","amount":24.5,"currency":"aud",
		"cancelled":false,"merchantToken":"https://qr.example.test/bax7f31c0"}`
	const approved = `{"transactionReference":"order-1","transactionType":"purchase","amount":24.5,"currency":"aud",
		"cancelled":false,"approved":true}`
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			fmt.Fprint(w, pending)
			return
		}
		fmt.Fprint(w, approved)
	}))
	defer server.Close()

	token, err := upp.NewToken("test-secret-1")
	if err != nil {
		fmt.Println(err)
		return
	}
	client := &upp.Client{BaseURL: server.URL + "/v1/", Token: token} // upp.SandboxURL, upp.LiveURL
	ctx := context.Background()
	price := upp.NumberOf(money.New(2450, money.MustCurrency("AUD")))

	stored, err := client.Prepare(upp.CreateRequest{
		TransactionType: upp.TypePurchase, TransactionReference: "order-1", Currency: "aud", Amount: price,
		Provider: upp.ProviderAlipay, SaleType: upp.SaleMerchantPresented,
		Items: []upp.Item{{Type: upp.ItemSKU, ItemReference: "UMB-01", Name: "Umbrella", Amount: price, Quantity: "1"}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	// Write stored to disk here. After a crash, client.Resume(ctx, stored) goes on without a second payment.
	tx, err := client.Send(ctx, stored)
	if err != nil {
		fmt.Println(err)
		return
	}
	if tx.Pending() {
		fmt.Println("show as QR code:", tx.MerchantToken)
		if tx, err = client.Poll(ctx, stored.Reference); err != nil {
			fmt.Println(err)
			return
		}
	}
	fmt.Println("paid:", tx.Paid())
	// Output:
	// show as QR code: https://qr.example.test/bax7f31c0
	// paid: true
}

package upay_test

import (
	"context"
	"fmt"
	"log"

	"github.com/tillgate/tillgate/protocol/upay"
	"github.com/tillgate/tillgate/terminal"
)

func ExampleAuthorization() {
	body := []byte(`{"terminal_sn":"100900010000000001","client_sn":"T20240601-0001"}`)
	fmt.Println(upay.Authorization("100900010000000001", body, terminal.NewSecret("00112233445566778899aabbccddeeff")))
	// Output: 100900010000000001 934f6fc234f6d49111d115b0c3d0d916
}

func ExampleClient_TakePayment() {
	till := &upay.Client{BaseURL: upay.LiveURL, Keeper: &keeper{}, DeviceID: "POS-0001"} // A Keeper of yours, which outlives the process.
	v, err := till.TakePayment(context.Background(), upay.PayRequest{
		Order:     upay.Order{ClientSN: "T20240601-0001", TotalAmount: 1250, Subject: "Lunch set", Operator: "c01"},
		DynamicID: "134500000000000001",
	})
	switch {
	case err != nil: // Nobody knows, or nothing was sent: keep the goods, and call Settle later.
		log.Print(err)
	case v.Done:
		fmt.Println("paid", v.Data.SN)
	default:
		fmt.Println("not paid:", v.Code)
	}
}

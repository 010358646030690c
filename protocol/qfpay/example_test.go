package qfpay_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/protocol/qfpay"
)

// A cash register sells something, with a terminal on HTTP.
func ExampleClient() {
	terminal := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"data":"{\"out_trade_no\":\"T-0002\",\"respcd\":\"0000\",\"syssn\":\"20260102155400020000000123\",\"txamt\":\"1010\"}","respcd":"6000","resperr":"trade success","respmsg":"AUTHORISED"}`)
	}))
	defer terminal.Close()

	key, err := qfpay.NewPOSKey("Qz7mT4xLw9RbN2vK") // As the portal shows it.
	if err != nil {
		fmt.Println(err)
		return
	}
	client := &qfpay.Client{Link: &qfpay.OverHTTP{URL: terminal.URL}, Key: key} // Or OverTCP, OverSerial.
	paid, err := client.Sale(context.Background(), qfpay.SaleCall{
		OutTradeNo: "T-0002", // Write it to disk first: a lost sale is found by it.
		Amount:     money.New(1010, money.MustCurrency("HKD")),
		Channel:    qfpay.CardPayment,
	})
	var refused *qfpay.Refusal
	switch {
	case errors.Is(err, qfpay.ErrOutcomeUnknown):
		fmt.Println("ask the terminal before anything else:", err)
	case errors.As(err, &refused):
		fmt.Println("not paid:", refused.Text)
	case err != nil:
		fmt.Println("not sent:", err)
	default:
		fmt.Println("paid:", paid.Amount, paid.Number)
	}
	// Output: paid: 10.10 20260102155400020000000123
}

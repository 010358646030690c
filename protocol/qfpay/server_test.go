package qfpay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
)

// The answers printed in the reference, to the letter (§4.1, §4.2, §4.5).
func TestAnswersOfTheReference(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.desk.onSale = func(_ context.Context, d *scriptedDesk, q SaleRequest, _ <-chan struct{}) (Trade, error) {
		trade := approved(q)
		trade.Serial = "000042"
		return d.keep(trade), nil
	}
	for _, tc := range []struct{ name, content, want string }{
		{"payment", "{amt:10.1,channel:card_payment,func_type:1001,out_trade_no:T-0002}",
			`{"data":"{\"accountId\":null,\"address\":\"HK\",\"batchNo\":\"260102\",\"busicd\":\"802808\",\"cardNo\":\"400000******0002\",\"cardType\":\"VISA\",\"cardscheme\":\"VISA\",\"chnlsn\":\"2026010200000042\",\"clisn\":\"000042\",\"mchntnm\":\"Demo Shop\",\"octopusOrderId\":null,\"octopus_no\":null,\"octopus_order_status\":null,\"octopus_paydtm\":null,\"out_trade_no\":\"T-0002\",\"paydtm\":\"2026-01-02 15:04:07\",\"paymentMethod\":\"Visa / Mastercard\",\"paymentType\":\"SALES\",\"remark\":null,\"reserr\":\"trade success\",\"resmsg\":\"AUTHORISED\",\"respcd\":\"0000\",\"rv\":null,\"storeId\":\"1000000001\",\"sysdtm\":\"2026-01-02 15:04:06\",\"syssn\":\"20260102155400020000000123\",\"terminalId\":\"235CAAAA0503\",\"traceNo\":\"000123\",\"txamt\":\"1010\",\"txcurrcd\":\"344\",\"udid\":\"860000000000001\",\"userid\":\"1000000001\"}","respcd":"6000","resperr":"trade success","respmsg":"AUTHORISED"}`},
		{"inquiry", "{func_type:4001,out_trade_no:T-0002}",
			`{"data":"{\"allow_refund_amt\":1010,\"batchno\":\"260102\",\"billamt\":0,\"busicd\":\"802808\",\"cancel\":0,\"cardno\":\"400000******0002\",\"cardscheme\":\"VISA\",\"cardtype\":\"CREDIT\",\"chnlsn\":\"2026010200000042\",\"clisn\":\"000042\",\"customer_source\":\"HK\",\"desc\":\"\",\"nickname\":\"Demo Shop\",\"opuid\":\"0000\",\"opuser\":\"Store Account\",\"origbusicd\":\"\",\"origssn\":\"\",\"out_trade_no\":\"T-0002\",\"refno\":\"000123\",\"respcd\":\"0000\",\"server_time\":\"2026-01-02 15:10:00\",\"sysdtm\":\"2026-01-02 15:04:06\",\"syssn\":\"20260102155400020000000123\",\"tradetp\":\"payment\",\"txamt\":1010,\"txcurrcd\":\"344\",\"userid\":1000000001}","respcd":"6000","resperr":"Query success","respmsg":""}`},
		{"refund", "{allow_modify_flag:0,func_type:1002,orderId:'20260102155400020000000123',refund_amount:'10.10'}",
			`{"data":"{\"chnlsn\":\"2026010200000043\",\"orig_syssn\":\"20260102155400020000000123\",\"originTxamt\":\"1010\",\"out_trade_no\":\"R1\",\"paydtm\":\"2026-01-02 16:04:06\",\"reserr\":\"success\",\"resmsg\":\"\",\"respcd\":\"0000\",\"sysdtm\":\"2026-01-02 15:04:06\",\"syssn\":\"20260102155400020000000124\",\"txamt\":\"1010\",\"txcurrcd\":\"344\",\"txdtm\":\"2026-01-02 15:04:06\"}","respcd":"6000","resperr":"success","respmsg":""}`},
		{"print receipt", "{func_type:3001,orderId:'20260102155400020000000123'}", `{"data":"","respcd":"6000","resperr":"","respmsg":"OK"}`},
		{"print summary", "{func_type:3002}", `{"data":"","respcd":"6000","resperr":"","respmsg":"OK"}`},
		{"cancel of nothing", "{func_type:5001}", `{"data":"","respcd":"6000","resperr":"","respmsg":"OK"}`},
	} { // In this order: one story.
		members, err := parseObject(tc.content)
		if err != nil {
			t.Fatal(err)
		}
		f := &fields{members: members}
		_, got := r.post(FuncType(f.integer("func_type", 0)).Path(), plain(t, tc.content))
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
	if want := []string{"receipt 20260102155400020000000123"}; len(r.desk.printed) != 2 || r.desk.printed[0] != want[0] {
		t.Errorf("printed %q", r.desk.printed)
	}
}

func TestSummaryLines(t *testing.T) {
	t.Parallel()
	s := Summary{Day: 20260102, Totals: []Total{
		{Channel: Alipay, Sales: 1, SalesSum: dollars("8.80"), RefundsSum: dollars("0")},
		{Channel: CardPayment, Sales: 12, SalesSum: dollars("1234.50"), Refunds: 1, RefundsSum: dollars("10.10"), Unresolved: 1},
	}}
	want := `      TRANSACTION SUMMARY
            20260102
--------------------------------
Visa / Mastercard
  Sales      12          1234.50
  Refunds     1           -10.10
  Net                    1224.40
  Unresolved                   1
Alipay
  Sales       1             8.80
  Refunds     0             0.00
  Net                       8.80
--------------------------------
TOTAL HKD
  Sales      13          1243.30
  Refunds     1           -10.10
  Net                    1233.20
  Unresolved                   1`
	if diff := cmp.Diff(want, strings.Join(s.Lines(32), "\n")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := (Summary{Day: 20260102}).Lines(32); len(got) != 8 {
		t.Errorf("an empty day: %q", got)
	}
}

// Every channel of the seed, in every way to pay it: what the Desk is asked for, and the PayType that is answered (§4.1).
func TestChannels(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		channel Channel
		scan    ScanType
		method  string
		flow    payment.Flow
		busicd  string
		name    string
	}{
		{CardPayment, "", "", payment.ByCard, "802808", "Visa / Mastercard"},
		{CardPayment, ScanRead, "", payment.ByCard, "802808", "Visa / Mastercard"},
		{UnionPayCard, "", "", payment.ByCard, "806708", "UnionPay Card"},
		{AmexCard, "", "", payment.ByCard, "806808", "American Express"},
		{WeChat, ScanRead, "wechat", payment.ByCode, "800208", "WeChat Pay"},
		{WeChat, ScanShow, "wechat", payment.ByQR, "800201", "WeChat Pay"},
		{Alipay, ScanRead, "alipay", payment.ByCode, "800108", "Alipay"},
		{Alipay, ScanShow, "alipay", payment.ByQR, "800101", "Alipay"},
		{Alipay, "", "alipay", "", "800108", "Alipay"},
		{PayMe, ScanRead, "payme", payment.ByCode, "805808", "PayMe"},
		{PayMe, ScanShow, "payme", payment.ByQR, "805801", "PayMe"},
		{UnionPayQR, ScanRead, "unionpay", payment.ByCode, "800708", "UnionPay QuickPass"},
		{UnionPayQR, ScanShow, "unionpay", payment.ByQR, "800701", "UnionPay QuickPass"},
		{FPS, "", "fps", payment.ByQR, "802001", "FPS"},
		{FPS, ScanShow, "fps", payment.ByQR, "802001", "FPS"},
		{OctopusPay, "", "octopus", "", "803708", "Octopus"},
		{OctopusPay, ScanShow, "octopus", payment.ByQR, "803701", "Octopus"},
	} {
		t.Run(fmt.Sprintf("%s %s", tc.channel, tc.scan), func(t *testing.T) {
			t.Parallel()
			r := setup(t)
			content := fmt.Sprintf("{func_type:1001,amt:8.8,channel:%s,out_trade_no:T1,camera_id:1,moveToBack:1,scan_type:'%s'}", tc.channel, tc.scan)
			answer := r.ask(content)
			var d TradeData
			if err := json.Unmarshal([]byte(answer.Data), &d); err != nil || answer.Code != CodeOK {
				t.Fatalf("%+v: %v", answer, err)
			}
			if string(d.Busicd) != tc.busicd || string(d.PaymentMethod) != tc.name || d.Txamt != "880" {
				t.Errorf("answered %s, %s, %s", d.Busicd, d.PaymentMethod, d.Txamt)
			}
			if card := d.CardNo != ""; card != tc.channel.IsCard() {
				t.Errorf("card number %q", d.CardNo)
			}
			if octopus := d.OctopusNo != ""; octopus != (tc.channel == OctopusPay) {
				t.Errorf("Octopus number %q", d.OctopusNo)
			}
			got := r.desk.sales[0]
			got.Order = ""
			want := SaleRequest{OutTradeNo: "T1", Amount: dollars("8.8"), Channel: tc.channel, Method: tc.method, Flow: tc.flow,
				Timeout: timeoutDefault, FrontCamera: true, GoHome: true}
			if got != want {
				t.Errorf("the Desk got %+v, want %+v", got, want)
			}
		})
	}
	if got := Channels(); len(got) != 9 {
		t.Errorf("%d channels", len(got))
	}
	for _, tc := range []struct {
		flow   payment.Flow
		method string
		want   Channel
	}{
		{payment.ByCard, "visa", CardPayment}, {payment.ByCard, "mastercard", CardPayment}, {payment.ByCard, "unionpay", UnionPayCard},
		{payment.ByCard, "amex", AmexCard}, {payment.ByQR, "unionpay", UnionPayQR}, {payment.ByCode, "wechat", WeChat}, {payment.ByQR, "humm", ""}, {payment.ByQR, "", ""},
	} {
		if got := ChannelOf(tc.flow, tc.method); got != tc.want {
			t.Errorf("ChannelOf(%s, %s) = %s, want %s", tc.flow, tc.method, got, tc.want)
		}
	}
	for _, c := range Channels() {
		if c.Name() == "" || (c.Method() == "") != c.IsCard() {
			t.Errorf("%s: %q, method %q", c, c.Name(), c.Method())
		}
		if want := c != FPS && c != OctopusPay; c.Refundable() != want {
			t.Errorf("%s: refundable %v", c, c.Refundable())
		}
	}
}

// The tables know every word of the core and of a Desk.
func TestTablesAreComplete(t *testing.T) {
	t.Parallel()
	for _, err := range append(payment.Errors(), deskErrors()...) {
		o, known := refusal(fmt.Errorf("wrapped: %w", err), true)
		if !known {
			t.Errorf("refusals lacks %v", err)
		}
		if o.code == CodeOK {
			t.Errorf("%v is a success", err)
		}
		if o.inner.Pending() || o.inner == InnerOK {
			t.Errorf("%v has the inner code %s, of a transaction that exists", err, o.inner)
		}
	}
	for _, reason := range payment.Reasons() {
		o, known := reasons[reason]
		if !known {
			t.Errorf("reasons lacks %s", reason)
		}
		if o.code == CodeOK || o.inner.Pending() || o.inner == InnerOK || o.inner == "" || o.text == "" {
			t.Errorf("%s is answered %+v", reason, o)
		}
	}
	for _, o := range []payment.Outcome{payment.OutcomeUnsent, payment.OutcomeUnseen, payment.OutcomeUnfit, ""} {
		if got := outcomeOf(Trade{Outcome: o}); got.code == CodeOK || !got.inner.Pending() {
			t.Errorf("outcome %q, which no Desk should give, is answered %+v", o, got)
		}
	}
	if got := tradeResponse(Trade{Outcome: payment.OutcomeDeclined, Reason: payment.ReasonRefer, Text: "call 2345"}, Identity{}); got.Error != "call 2345 (1204)" {
		t.Errorf("an acquirer's own words are answered as %q", got.Error)
	}
	if got := outcomeOf(Trade{Outcome: payment.OutcomeDeclined, Reason: "new"}); got.code != CodeError || got.inner != InnerFailed {
		t.Errorf("a reason that no table knows is answered %+v", got)
	}
	for _, o := range operations {
		if handlers[o.funcType] == nil || o.funcType.Path() != o.path || o.funcType.String() != o.name {
			t.Errorf("%d is not complete", o.funcType)
		}
	}
	if len(handlers) != len(operations) || FuncType(1).String() != "unknown" || FuncType(1).Path() != "" {
		t.Error("handlers has others than operations")
	}
}

// Every end of a sale, as the sale and as an inquiry tell it.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	type end struct {
		outcome payment.Outcome
		reason  payment.Reason
		code    Code
		inner   Inner
	}
	cases := []end{
		{payment.OutcomeApproved, "", CodeOK, InnerOK},
		{payment.OutcomeWaiting, "", CodeError, InnerAwaitCustomer},
		{payment.OutcomeUnknown, "", CodeError, InnerProcessing},
		{payment.OutcomeDeclined, payment.ReasonCancelled, CodeCancelled, InnerClosed},
		{payment.OutcomeDeclined, payment.ReasonCustomerCancelled, CodeCancelled, InnerClosed},
		{payment.OutcomeDeclined, payment.ReasonExpired, CodeError, InnerExpired},
		{payment.OutcomeDeclined, payment.ReasonInsufficientFunds, CodeError, InnerBalance},
		{payment.OutcomeDeclined, payment.ReasonDeclined, CodeError, InnerFailed},
		{payment.OutcomeDeclined, payment.ReasonCodeExpired, CodeError, InnerCodeExpired},
	}
	for _, tc := range cases {
		t.Run(fmt.Sprintf("%s %s", tc.outcome, tc.reason), func(t *testing.T) {
			t.Parallel()
			r := setup(t)
			r.desk.onSale = func(_ context.Context, d *scriptedDesk, q SaleRequest, _ <-chan struct{}) (Trade, error) {
				trade := approved(q)
				trade.Outcome, trade.Reason = tc.outcome, tc.reason
				return d.keep(trade), nil
			}
			answer := r.ask("{func_type:1001,amt:10.1,channel:card_payment,out_trade_no:T1}")
			var d TradeData
			if err := json.Unmarshal([]byte(answer.Data), &d); err != nil {
				t.Fatal(err)
			}
			if answer.Code != tc.code || Inner(d.RespCD) != tc.inner || d.OutTradeNo != "T1" || answer.Error == "" {
				t.Errorf("the sale: %+v", answer)
			}
			answer = r.ask("{func_type:4001,out_trade_no:T1}")
			var q InquiryData
			if err := json.Unmarshal([]byte(answer.Data), &q); err != nil {
				t.Fatal(err)
			}
			allow := Number("0")
			if tc.outcome == payment.OutcomeApproved {
				allow = "1010"
			}
			if answer.Code != CodeOK || q.RespCD != tc.inner || q.AllowRefundAmt != allow || q.Cancel != "0" {
				t.Errorf("the inquiry: %+v", answer)
			}
		})
	}
}

// Every error that a Desk may give, on the operation where it comes up.
func TestRefusals(t *testing.T) {
	t.Parallel()
	const sale, refund, inquiry, receipt = "{func_type:1001,amt:10.1,channel:card_payment,out_trade_no:T1}", "{func_type:1002,orderId:'1'}", "{func_type:4001,orderId:'1'}", "{func_type:3001,orderId:'1'}"
	for _, tc := range []struct {
		name, content string
		err           error
		want          string
	}{
		{"sale at a busy terminal", sale, ErrBusy, `{"data":"","respcd":"6002","resperr":"terminal busy","respmsg":""}`},
		{"sale without a connection", sale, ErrOffline, `{"data":"{\"reserr\":\"the terminal has no connection; nothing was started\",\"resmsg\":\"\",\"respcd\":\"1205\"}","respcd":"6002","resperr":"the terminal has no connection; nothing was started (1205)","respmsg":""}`},
		{"sale at a terminal that is not activated", sale, ErrNotLoggedIn, `{"data":"","respcd":"4007","resperr":"the terminal is not activated","respmsg":""}`},
		{"sale at a terminal that is switched off", sale, payment.ErrForbidden, `{"data":"","respcd":"4003","resperr":"the terminal, its shop or merchant is disabled","respmsg":""}`},
		{"sale by a channel that is not enabled", sale, payment.ErrMethod, `{"data":"","respcd":"4006","resperr":"channel is not enabled on this terminal","respmsg":""}`},
		{"sale in a shop without dollars", sale, payment.ErrCurrency, `{"data":"","respcd":"4006","resperr":"the terminal does not take HKD","respmsg":""}`},
		{"sale under a used number", sale, payment.ErrKeyReused, `{"data":"{\"reserr\":\"out_trade_no is already used\",\"resmsg\":\"\",\"respcd\":\"2011\"}","respcd":"6002","resperr":"out_trade_no is already used (2011)","respmsg":""}`},
		{"sale under the number of another that is undecided", sale, payment.ErrKeyBusy, `{"data":"","respcd":"6002","resperr":"terminal busy: an equal request is still unresolved; use inquiry","respmsg":""}`},
		{"sale with a fault that nobody knows", sale, errors.New("the link broke in the middle"), `{"data":"{\"reserr\":\"result unknown, use inquiry\",\"resmsg\":\"\",\"respcd\":\"1145\"}","respcd":"6002","resperr":"result unknown, use inquiry (1145)","respmsg":""}`},
		{"sale with a field that the core refuses", sale, &payment.FieldError{Field: "amount", Problem: "is above the terminal's limit"}, `{"data":"","respcd":"4006","resperr":"amount is above the terminal's limit","respmsg":""}`},
		{"refund of a part on the same day", refund, ErrSameDayPartial, `{"data":"{\"reserr\":\"on the day of the payment a card is refunded in full only\",\"resmsg\":\"\",\"respcd\":\"1124\"}","respcd":"6002","resperr":"on the day of the payment a card is refunded in full only (1124)","respmsg":""}`},
		{"refund of nobody's order", refund, payment.ErrNotFound, `{"data":"{\"reserr\":\"order not found\",\"resmsg\":\"\",\"respcd\":\"1136\"}","respcd":"6002","resperr":"order not found (1136)","respmsg":""}`},
		{"refund of too much", refund, payment.ErrExceeds, `{"data":"{\"reserr\":\"refund above the refundable amount\",\"resmsg\":\"\",\"respcd\":\"1272\"}","respcd":"6002","resperr":"refund above the refundable amount (1272)","respmsg":""}`},
		{"refund of what was not paid", refund, payment.ErrNotPaid, `{"data":"{\"reserr\":\"the order is not paid\",\"resmsg\":\"\",\"respcd\":\"1261\"}","respcd":"6002","resperr":"the order is not paid (1261)","respmsg":""}`},
		{"refund of an Octopus payment", refund, ErrNotRefundable, `{"data":"{\"reserr\":\"this payment method cannot be refunded\",\"resmsg\":\"\",\"respcd\":\"1265\"}","respcd":"6002","resperr":"this payment method cannot be refunded (1265)","respmsg":""}`},
		{"refund too late", refund, payment.ErrWindow, `{"data":"{\"reserr\":\"refund not possible at this time\",\"resmsg\":\"\",\"respcd\":\"1265\"}","respcd":"6002","resperr":"refund not possible at this time (1265)","respmsg":""}`},
		{"refund that equals an unresolved one", refund, payment.ErrKeyBusy, `{"data":"","respcd":"6002","resperr":"terminal busy: an equal request is still unresolved; use inquiry","respmsg":""}`},
		{"refund with a fault that nobody knows", refund, errors.New("?"), `{"data":"{\"reserr\":\"result unknown, use inquiry\",\"resmsg\":\"\",\"respcd\":\"1145\"}","respcd":"6002","resperr":"result unknown, use inquiry (1145)","respmsg":""}`},
		{"inquiry about nobody's order", inquiry, payment.ErrNotFound, `{"data":"","respcd":"6002","resperr":"order not found (1136)","respmsg":""}`},
		{"inquiry with a fault that nobody knows", inquiry, errors.New("?"), `{"data":"","respcd":"4005","resperr":"internal fault","respmsg":""}`},
		{"receipt of nobody's order", receipt, payment.ErrNotFound, `{"data":"{\"reserr\":\"order not found\",\"resmsg\":\"\",\"respcd\":\"1136\"}","respcd":"6002","resperr":"order not found (1136)","respmsg":""}`},
		{"receipt without paper", receipt, &PrinterError{"out of paper"}, `{"data":"","respcd":"6002","resperr":"printer: out of paper","respmsg":""}`},
		{"summary without paper", "{func_type:3002}", &PrinterError{"out of paper"}, `{"data":"","respcd":"6002","resperr":"printer: out of paper","respmsg":""}`},
		{"wrong parameters", "{func_type:1001,amt:0,channel:wx}", nil, `{"data":"","respcd":"4006","resperr":"amt must be above 0 and at most 9999999.99","respmsg":""}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := setup(t)
			r.desk.onSale = func(context.Context, *scriptedDesk, SaleRequest, <-chan struct{}) (Trade, error) {
				return Trade{}, tc.err
			}
			r.desk.onRefund = func(context.Context, RefundRequest) (Trade, error) { return Trade{}, tc.err }
			r.desk.onFind = func(InquiryRequest) (Trade, error) {
				var printer *PrinterError
				if errors.As(tc.err, &printer) {
					return Trade{Number: "1"}, nil
				}
				return Trade{}, tc.err
			}
			r.desk.onPrint = func() error { return tc.err }
			members, err := parseObject(tc.content)
			if err != nil {
				t.Fatal(err)
			}
			f := &fields{members: members}
			_, got := r.post(FuncType(f.integer("func_type", 0)).Path(), plain(t, tc.content))
			if got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
			if tc.err != nil && strings.Contains(tc.name, "nobody knows") && !strings.Contains(r.logs.String(), tc.err.Error()) {
				t.Error("the log does not have it")
			}
		})
	}
}

func TestRefundRequests(t *testing.T) {
	t.Parallel()
	r := setup(t)
	for content, want := range map[string]RefundRequest{
		"{func_type:1002,orderId:'1',refund_amount:'0.05',allow_modify_flag:1,moveToBack:1}": {Original: "1", Amount: dollars("0.05"), MayChange: true, GoHome: true},
		"{func_type:1002,orderId:'1'}":                    {Original: "1", Amount: money.New(0, hkd)},
		"{func_type:1002,orderId:'1',refund_amount:null}": {Original: "1", Amount: money.New(0, hkd)},
		"{func_type:1002,orderId:1,refund_amount:5}":      {Original: "1", Amount: dollars("5")},
	} {
		r.desk.refunds = nil
		if answer := r.ask(content); len(r.desk.refunds) != 1 {
			t.Fatalf("%s: %+v", content, answer)
		}
		got := r.desk.refunds[0]
		got.Order = ""
		if got != want {
			t.Errorf("%s: the Desk got %+v, want %+v", content, got, want)
		}
	}
}

func TestInquiryStatus(t *testing.T) {
	t.Parallel()
	octopus := inquiryResponse(Trade{Channel: OctopusPay, Outcome: payment.OutcomeApproved, PaidAt: morning, Octopus: Octopus{"O-1", "12345678"}}, Identity{}, morning)
	for _, want := range []string{`"octopus_no":"12345678"`, `"octopus_order_id":"O-1"`, `"octopus_order_status":"SUCCESS"`, `"octopus_paydtm":"2026-01-02 15:04:06"`} {
		if !strings.Contains(string(octopus.Data), want) {
			t.Errorf("Octopus: %s lacks %s", octopus.Data, want)
		}
	}
	sale := Trade{Number: "1", Amount: dollars("10"), Channel: Alipay, Flow: payment.ByQR, Outcome: payment.OutcomeApproved}
	with := func(change func(*Trade)) Trade { t := sale; change(&t); return t }
	for name, tc := range map[string]struct {
		trade  Trade
		cancel Number
		left   Number
		kind   string
	}{
		"paid":                        {sale, "0", "1000", "payment"},
		"refunded in part":            {with(func(t *Trade) { t.Refunded = dollars("4") }), "5", "600", "payment"},
		"refunded":                    {with(func(t *Trade) { t.Refunded = dollars("10") }), "3", "0", "payment"},
		"voided, by our code":         {with(func(t *Trade) { t.Voided = true }), "2", "0", "payment"},
		"voided, by the other's code": {with(func(t *Trade) { t.Voided, t.Flow = true, payment.ByCode }), "1", "0", "payment"},
		"a refund":                    {with(func(t *Trade) { t.Refund, t.Original = true, "0" }), "0", "0", "refund"},
	} {
		var d InquiryData
		if err := json.Unmarshal([]byte(inquiryResponse(tc.trade, Identity{}, morning).Data), &d); err != nil {
			t.Fatal(err)
		}
		if d.Cancel != tc.cancel || d.AllowRefundAmt != tc.left || d.Tradetp != tc.kind {
			t.Errorf("%s: cancel %s, left %s, %s; want %+v", name, d.Cancel, d.AllowRefundAmt, d.Tradetp, tc)
		}
	}
}

// What a Desk should never give away does not get out.
func TestCardNumbersAreMasked(t *testing.T) {
	t.Parallel()
	for number, want := range map[string]string{
		"400000******0002": "400000******0002", "****0002": "****0002", "4000000000000002": "", "40000000****0002": "", "400000******00020": "", "4000 00** **** 0002": "", "": "",
	} {
		if got := masked(number); got != want {
			t.Errorf("%q leaves as %q", number, got)
		}
		answer := tradeResponse(Trade{Channel: CardPayment, Outcome: payment.OutcomeApproved, Card: Card{Masked: number}}, Identity{})
		inquiry := inquiryResponse(Trade{Channel: CardPayment, Outcome: payment.OutcomeApproved, Card: Card{Masked: number}}, Identity{}, morning)
		if want == "" && number != "" && strings.Contains(string(answer.Data+inquiry.Data), number) {
			t.Errorf("%q leaves", number)
		}
	}
}

// running starts a sale that waits for its customer, and returns the channel of its answer.
func (r *rig) start(content string) <-chan Response {
	r.t.Helper()
	r.desk.mu.Lock()
	r.desk.started = make(chan SaleRequest, 4)
	r.desk.onSale = waitForCard
	r.desk.mu.Unlock()
	answer := make(chan Response, 1)
	go func() { answer <- r.ask(content) }()
	select {
	case <-r.desk.started:
	case <-time.After(5 * time.Second):
		r.t.Fatal("the sale does not start")
	}
	return answer
}

func await(t *testing.T, c <-chan Response) Response {
	t.Helper()
	select {
	case r := <-c:
		return r
	case <-time.After(5 * time.Second):
		t.Fatal("no answer")
		return Response{}
	}
}

// Two registers at once: the second is told at once, and the first goes on untouched (U6: the waiting sale never swallows the new order).
func TestTwoAtOnce(t *testing.T) {
	t.Parallel()
	r := setup(t)
	first := r.start("{func_type:1001,amt:10,channel:card_payment,out_trade_no:A}")
	for _, content := range []string{
		"{func_type:1001,amt:20,channel:card_payment,out_trade_no:B}", "{func_type:1001,amt:10,channel:card_payment,out_trade_no:A}", // The same again, too.
		"{func_type:1002,orderId:'1'}", "{func_type:3001,orderId:'1'}", "{func_type:3002}",
	} {
		if got := r.ask(content); got.Code != CodeError || got.Error != "terminal busy" {
			t.Errorf("%s: %+v", content, got)
		}
	}
	if n := r.desk.saleCount(); n != 1 {
		t.Errorf("the Desk was asked for %d sales", n)
	}
	// An inquiry is answered at any time: the customer still looks for the card.
	answer := r.ask("{func_type:4001,out_trade_no:A}")
	var d InquiryData
	if err := json.Unmarshal([]byte(answer.Data), &d); err != nil || answer.Code != CodeOK || d.RespCD != InnerAwaitCustomer || d.Txamt != "1000" {
		t.Errorf("inquiry while it waits: %+v, %v", answer, err)
	}
	if got := r.ask("{func_type:4001,out_trade_no:B}"); got.Code != CodeError || !strings.Contains(got.Error, "1136") {
		t.Errorf("inquiry about the refused one: %+v", got)
	}
	if got := r.ask("{func_type:5001}"); got != done {
		t.Errorf("cancel: %+v", got)
	}
	if got := await(t, first); got.Code != CodeCancelled {
		t.Errorf("the first sale: %+v", got)
	}
	r.desk.onSale, r.desk.started = nil, nil
	if got := r.ask("{func_type:1001,amt:20,channel:card_payment,out_trade_no:B}"); got.Code != CodeOK {
		t.Errorf("the next sale: %+v", got)
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	t.Run("a sale that is on its way to the bank", func(t *testing.T) {
		t.Parallel()
		r := setup(t)
		finish := make(chan struct{})
		first := r.start("{func_type:1001,amt:10,channel:card_payment,out_trade_no:A}")
		r.desk.onCancel = func(order string) error {
			defer close(finish)
			return ErrTooLate
		}
		if got := r.ask("{func_type:5001}"); got.Code != CodeError || got.Error != "cannot cancel now" {
			t.Errorf("cancel: %+v", got)
		}
		<-finish
		r.desk.onCancel = nil
		r.ask("{func_type:5001}")
		await(t, first)
	})
	t.Run("a sale that the Desk is only being handed", func(t *testing.T) {
		t.Parallel()
		r := setup(t)
		first := r.start("{func_type:1001,amt:10,channel:card_payment,out_trade_no:A}")
		tries := 0
		r.desk.onCancel = func(order string) error {
			if tries++; tries < 3 {
				return ErrNotRunning
			}
			r.desk.onCancel = nil
			return r.desk.Cancel(context.Background(), order)
		}
		if got := r.ask("{func_type:5001}"); got != done {
			t.Errorf("cancel: %+v", got)
		}
		if got := await(t, first); got.Code != CodeCancelled {
			t.Errorf("the sale: %+v", got)
		}
	})
	for name, tc := range map[string]struct {
		outcome payment.Outcome
		want    Code
	}{
		"a sale that is approved in the same moment": {payment.OutcomeApproved, CodeError},
		"a sale that is declined in the same moment": {payment.OutcomeDeclined, CodeOK},
		"a sale that is lost in the same moment":     {payment.OutcomeUnknown, CodeError},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := setup(t)
			finish, started := make(chan struct{}), make(chan struct{})
			r.desk.onSale = func(_ context.Context, d *scriptedDesk, q SaleRequest, _ <-chan struct{}) (Trade, error) {
				close(started)
				<-finish
				trade := approved(q)
				trade.Outcome = tc.outcome
				return d.keep(trade), nil
			}
			r.desk.onCancel = func(string) error {
				select {
				case <-finish:
				default:
					close(finish)
				}
				return ErrNotRunning
			}
			first := make(chan Response, 1)
			go func() { first <- r.ask("{func_type:1001,amt:10,channel:wx,out_trade_no:A}") }()
			<-started
			if got := r.ask("{func_type:5001}"); got.Code != tc.want {
				t.Errorf("cancel: %+v", got)
			}
			await(t, first)
		})
	}
	t.Run("a cancel that comes late does not end the next sale", func(t *testing.T) {
		t.Parallel()
		r := setup(t)
		var names []string
		r.desk.onCancel = func(order string) error { names = append(names, order); return ErrTooLate }
		first := r.start("{func_type:1001,amt:10,channel:card_payment,out_trade_no:A}")
		r.ask("{func_type:5001}")
		r.desk.onCancel = nil
		r.ask("{func_type:5001}")
		await(t, first)
		second := r.start("{func_type:1001,amt:10,channel:card_payment,out_trade_no:B}")
		if err := r.desk.Cancel(context.Background(), names[0]); !errors.Is(err, ErrNotRunning) {
			t.Errorf("the first sale's name cancels the second: %v", err)
		}
		r.ask("{func_type:5001}")
		await(t, second)
	})
	t.Run("a refund", func(t *testing.T) {
		t.Parallel()
		r := setup(t)
		cancelled, started := make(chan struct{}), make(chan struct{})
		r.desk.onRefund = func(ctx context.Context, q RefundRequest) (Trade, error) {
			close(started)
			<-cancelled
			return Trade{Refund: true, Outcome: payment.OutcomeDeclined, Reason: payment.ReasonCancelled}, nil
		}
		r.desk.onCancel = func(string) error { close(cancelled); return nil }
		first := make(chan Response, 1)
		go func() { first <- r.ask("{func_type:1002,orderId:'1'}") }()
		<-started
		if got := r.ask("{func_type:5001}"); got != done {
			t.Errorf("cancel: %+v", got)
		}
		if got := await(t, first); got.Code != CodeCancelled {
			t.Errorf("the refund: %+v", got)
		}
	})
}

// A sale whose customer does not come ends by its time-out, and one whose Desk does not end it is answered as unknown and keeps the terminal.
func TestTimeLimits(t *testing.T) {
	t.Parallel()
	for content, want := range map[string]time.Duration{
		"channel:wx,payment_timeout:30": 30 * time.Second, "channel:card_payment": 120 * time.Second, "channel:payme,payment_timeout:300": 120 * time.Second,
		"channel:card_payment,wait_card_timeout:30": 30 * time.Second,
	} {
		t.Run("nobody comes, "+content, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r := setup(t)
				start := time.Now()
				r.desk.onSale = func(ctx context.Context, d *scriptedDesk, q SaleRequest, cancelled <-chan struct{}) (Trade, error) {
					ctx, stop := context.WithTimeout(ctx, q.Timeout)
					defer stop()
					return waitForCard(ctx, d, q, cancelled)
				}
				got := r.ask("{func_type:1001,amt:10,out_trade_no:A," + content + "}")
				if got.Code != CodeError || !strings.Contains(string(got.Data), `"respcd":"1181"`) || got.Error != "timed out (1181)" || time.Since(start) != want {
					t.Errorf("after %v: %+v", time.Since(start), got)
				}
			})
		})
	}
	t.Run("a Desk that does not return", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			r := setup(t)
			stuck := make(chan struct{})
			r.desk.onSale = func(context.Context, *scriptedDesk, SaleRequest, <-chan struct{}) (Trade, error) {
				<-stuck
				return Trade{}, ErrBusy
			}
			start := time.Now()
			if got := r.ask("{func_type:1001,amt:10,channel:wx,out_trade_no:A}"); got.Code != CodeError || !strings.Contains(got.Error, "1145") {
				t.Errorf("got %+v", got)
			}
			if took := time.Since(start); took < timeoutDefault+answerGrace || took > timeoutDefault+readGrace {
				t.Errorf("answered after %v, while a register reads for %v", took, timeoutDefault+readGrace)
			}
			if got := r.ask("{func_type:1001,amt:10,channel:wx,out_trade_no:B}"); got.Error != "terminal busy" {
				t.Errorf("the next sale: %+v", got)
			}
			close(stuck)
		})
	})
	t.Run("a cancel that the Desk never takes", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			r := setup(t)
			first := r.start("{func_type:1001,amt:10,channel:card_payment}")
			r.desk.onCancel = func(string) error { return ErrNotRunning }
			start := time.Now()
			if got := r.ask("{func_type:5001}"); got.Code != CodeError || time.Since(start) != cancelWait {
				t.Errorf("after %v: %+v", time.Since(start), got)
			}
			r.desk.onCancel = nil
			r.ask("{func_type:5001}")
			await(t, first)
		})
	})
	t.Run("waiting for orders has a limit", func(t *testing.T) {
		t.Parallel()
		r := setup(t)
		first := r.start("{func_type:1001,amt:10,channel:wx,out_trade_no:A}")
		ctx, stop := context.WithTimeout(context.Background(), time.Millisecond)
		defer stop()
		if err := r.server.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		r.ask("{func_type:5001}")
		await(t, first)
	})
}

// A failed sale frees its number; a paid one keeps it (design 4.1).
func TestOutTradeNoAgain(t *testing.T) {
	t.Parallel()
	r := setup(t)
	const sale = "{func_type:1001,amt:10,channel:card_payment,out_trade_no:A}"
	first := r.start(sale)
	r.ask("{func_type:5001}")
	await(t, first)
	r.desk.onSale, r.desk.started = nil, nil
	if got := r.ask(sale); got.Code != CodeOK {
		t.Errorf("after a cancel: %+v", got)
	}
	if got := r.ask(sale); got.Code != CodeError || !strings.Contains(got.Error, "2011") {
		t.Errorf("after a payment: %+v", got)
	}
	for range 2 {
		if got := r.ask("{func_type:1001,amt:10,channel:card_payment}"); got.Code != CodeOK {
			t.Errorf("without a number: %+v", got)
		}
	}
}

// An inquiry about a number that failed before and is tried again tells of the running sale, not of the failed one.
func TestInquiryAboutReusedNumber(t *testing.T) {
	t.Parallel()
	r := setup(t)
	old := r.desk.keep(Trade{OutTradeNo: "A", Amount: dollars("10"), Channel: WeChat, Outcome: payment.OutcomeDeclined, Reason: payment.ReasonInsufficientFunds})
	inner := func() Inner {
		var d InquiryData
		if err := json.Unmarshal([]byte(r.ask("{func_type:4001,out_trade_no:A}").Data), &d); err != nil {
			t.Fatal(err)
		}
		return d.RespCD
	}
	if got := inner(); got != InnerBalance {
		t.Errorf("before: %s", got)
	}
	first := r.start("{func_type:1001,amt:10,channel:wx,out_trade_no:A}")
	if got := inner(); got != InnerAwaitCustomer {
		t.Errorf("while it runs: %s", got)
	}
	// It ends just when the Desk has answered: then it is asked again.
	asked := 0
	r.desk.onFind = func(InquiryRequest) (Trade, error) {
		if asked++; asked == 1 {
			r.ask("{func_type:5001}")
			await(t, first)
			return old, nil
		}
		return Trade{}, payment.ErrNotFound
	}
	if got := r.ask("{func_type:4001,out_trade_no:A}"); asked != 2 || !strings.Contains(got.Error, "1136") {
		t.Errorf("after %d questions: %+v", asked, got)
	}
}

// Nothing that a register sends, and no key, is in the log, whatever becomes of the request.
func TestSecretsStayOutOfLogs(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.ask("{func_type:1001,amt:10,channel:card_payment,out_trade_no:'no-log-for-this'}")
	r.ask("{func_type:4001,out_trade_no:'no-log-for-this'}")
	r.post(FuncPayment.Path(), string(seal(t, FormQuoted, "{amt=1,channel='wx',func_type=1001}", k16, KeyUTF8)))
	r.post(FuncPayment.Path(), string(seal(t, FormQuoted, "{amt=1,channel='wx',func_type=1001}", k32, KeyUTF8)))
	r.post(FuncPayment.Path(), `{"content":{"func_type":5001},"digest":"`+textK16+`"}`)
	logs := r.logs.String()
	for _, secret := range []string{textK16, textK32, "no-log-for-this", digest("{func_type=5001}", k16)} {
		if strings.Contains(logs, secret) {
			t.Errorf("the log has %s:\n%s", secret, logs)
		}
	}
	if !strings.Contains(logs, "func_type=1001") || !strings.Contains(logs, "respcd=6000") {
		t.Errorf("the log lacks its lines:\n%s", logs)
	}
}

package uqpay_test

import (
	"encoding/hex"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tillgate/tillgate/card"
	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/protocol/uqpay"
)

func discard() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func TestApprovedSale(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.demo(t)
	tid := c.tid()
	body := sale(tid, cp+"system_trace_audit_number", "000147")
	a := c.create(body).wantStatus("SUCCEEDED")
	a.wantAll("amount", "12.5", "currency", "SGD", "description", defaultDescription, "merchant_order_id", defaultOrder, "metadata.lane", "2", "return_url", "",
		"available_payment_method_types", nil, "captured_amount", "12.5", "client_secret", "", "cancellation_reason", "", "next_action", nil, "cancel_time", "",
		"latest_payment_attempt.attempt_status", "CAPTURE_REQUESTED", "latest_payment_attempt.amount", "12.5", "latest_payment_attempt.currency", "SGD",
		"latest_payment_attempt.captured_amount", "12.5", "latest_payment_attempt.refunded_amount", "0", "latest_payment_attempt.failure_code", "",
		"latest_payment_attempt.failure_message", "", "latest_payment_attempt.auth_code", "A7K2P9", "latest_payment_attempt.arn", "",
		"latest_payment_attempt.payment_method.type", "card_present",
		"latest_payment_attempt.payment_method.card_present.card_number", "555474******1559",
		"latest_payment_attempt.payment_method.card_present.network", "mastercard",
		"latest_payment_attempt.payment_method.card_present.pan_entry_mode", "chip",
		"latest_payment_attempt.payment_method.card_present.terminal_info.terminal_id", tid,
		"latest_payment_attempt.payment_method.card_present.system_trace_audit_number", "000147",
		"latest_payment_attempt.authentication_data.cvv_result", "")
	wantKeys(t, "intent", a.object, "payment_intent_id", "amount", "currency", "intent_status", "description", "merchant_order_id", "metadata", "return_url",
		"available_payment_method_types", "captured_amount", "client_secret", "cancellation_reason", "next_action", "latest_payment_attempt", "create_time",
		"update_time", "complete_time", "cancel_time")
	wantKeys(t, "attempt", a.at("latest_payment_attempt").(map[string]any), "attempt_id", "attempt_status", "amount", "currency", "captured_amount",
		"refunded_amount", "failure_code", "failure_message", "cancellation_reason", "auth_code", "rrn", "arn", "advice_code", "authentication_data",
		"payment_method", "create_time", "update_time", "complete_time")
	if id := a.id(); len(id) != 21 || !strings.HasPrefix(id, "PI2") {
		t.Errorf("id is %s", id)
	}
	if id := a.text("latest_payment_attempt.attempt_id"); len(id) != 21 || !strings.HasPrefix(id, "PA2") {
		t.Errorf("attempt id is %s", id)
	}
	if rrn := a.text("latest_payment_attempt.rrn"); len(rrn) != 12 {
		t.Errorf("rrn is %s", rrn)
	}
	for _, name := range []string{"create_time", "update_time", "complete_time", "latest_payment_attempt.complete_time"} {
		if _, err := time.Parse("2006-01-02T15:04:05-07:00", a.text(name)); err != nil || !strings.HasSuffix(a.text(name), "+08:00") {
			t.Errorf("%s is %q", name, a.text(name))
		}
	}
	if got := c.get("/v2/payment_intents/" + a.id()).want(200); string(got.raw) != string(a.raw) {
		t.Errorf("retrieved: %s\ncreated:   %s", got.raw, a.raw)
	}
	attempt := c.get("/v2/payment/payment_attempts/" + a.text("latest_payment_attempt.attempt_id")).want(200)
	if attempt.text("auth_code") != "A7K2P9" || attempt.text("attempt_status") != "CAPTURE_REQUESTED" {
		t.Errorf("attempt: %s", attempt.raw)
	}
	if got := r.bank.lastCard(t); got.Sequence != "001" || hex.EncodeToString(got.Chip) != strings.ToLower(chipTags) || got.Track2.Reveal() != seedPAN+"=2707201" {
		t.Errorf("the host saw another card: %s", got.Sequence)
	}
}

func wantKeys(t *testing.T, what string, o map[string]any, want ...string) {
	t.Helper()
	got := slices.Sorted(maps.Keys(o))
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("members of %s: got %v, want %v", what, got, want)
	}
}

func TestDeclinedSales(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.demo(t)
	tid := c.tid()
	for amount, code := range map[string]string{"10.05": "do_not_honor", "10.51": "insufficient_funds", "10.54": "expired_card", "10.55": "incorrect_pin",
		"10.57": "card_declined", "10.75": "pin_tries_exceeded", "10.96": "system_error"} {
		t.Run(code, func(t *testing.T) {
			d := *c
			d.t = t
			a := d.create(sale(tid, "amount", amount)).wantStatus("REQUIRES_PAYMENT_METHOD").wantAll("latest_payment_attempt.attempt_status", "FAILED",
				"latest_payment_attempt.failure_code", code, "captured_amount", "0", "latest_payment_attempt.captured_amount", "0", "complete_time", "")
			if a.text("latest_payment_attempt.failure_message") == "" || a.text("latest_payment_attempt.auth_code") != "" {
				t.Errorf("%s", a.raw)
			}
		})
	}
	t.Run("no answer of the host", func(t *testing.T) {
		a := c.create(sale(tid, "amount", "10.92")).wantStatus("REQUIRES_PAYMENT_METHOD").wantAll("latest_payment_attempt.attempt_status", "FAILED",
			"latest_payment_attempt.failure_code", "system_error")
		if r.bank.sent(payment.Reversal) != 1 {
			t.Errorf("%d reversals were sent", r.bank.sent(payment.Reversal))
		}
		again := c.get("/v2/payment_intents/" + a.id())
		again.wantStatus("REQUIRES_PAYMENT_METHOD")
	})
}

// What cannot be a payment: in the order of §3.3, nothing sent, nothing stored.
func TestRefusedSales(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.demo(t)
	tid := c.tid()
	c.pinKey(tid)
	foreign := r.as(t, otherID, otherKey).tid()
	for name, v := range map[string]struct {
		change []any
		kind   string
		code   string
		word   string
	}{
		"no amount":                     {[]any{"amount", nil}, "invalid_request_error", "missing_parameter", "amount"},
		"amount a number":               {[]any{"amount", 12.5}, "invalid_request_error", "invalid_parameter", "amount"},
		"amount zero":                   {[]any{"amount", "0.00"}, "invalid_request_error", "invalid_order_amount", "zero"},
		"amount negative":               {[]any{"amount", "-1"}, "invalid_request_error", "invalid_order_amount", ""},
		"amount with an exponent":       {[]any{"amount", "1e2"}, "invalid_request_error", "invalid_order_amount", ""},
		"amount over-precise":           {[]any{"amount", "12.505"}, "invalid_request_error", "invalid_order_amount", "2 decimals"},
		"amount words":                  {[]any{"amount", "much"}, "invalid_request_error", "invalid_order_amount", ""},
		"amount two points":             {[]any{"amount", "1.2.3"}, "invalid_request_error", "invalid_order_amount", ""},
		"amount too large":              {[]any{"amount", "99999999999.00"}, "invalid_request_error", "invalid_order_amount", ""},
		"amount huge":                   {[]any{"amount", strings.Repeat("9", 30)}, "invalid_request_error", "invalid_order_amount", ""},
		"yen with decimals":             {[]any{"amount", "12.5", "currency", "JPY"}, "invalid_request_error", "invalid_order_amount", ""},
		"no currency":                   {[]any{"currency", nil}, "invalid_request_error", "missing_parameter", "currency"},
		"currency in small":             {[]any{"currency", "sgd"}, "invalid_request_error", "invalid_order_currency", ""},
		"currency unknown":              {[]any{"currency", "XXY"}, "invalid_request_error", "invalid_order_currency", ""},
		"currency not the merchant's":   {[]any{"currency", "EUR"}, "invalid_request_error", "invalid_order_currency", ""},
		"no order id":                   {[]any{"merchant_order_id", nil}, "invalid_request_error", "missing_parameter", "merchant_order_id"},
		"order id of 37":                {[]any{"merchant_order_id", strings.Repeat("x", 37)}, "invalid_request_error", "invalid_parameter", "merchant_order_id"},
		"no description":                {[]any{"description", nil}, "invalid_request_error", "missing_parameter", "description"},
		"description of 33":             {[]any{"description", strings.Repeat("ü", 33)}, "invalid_request_error", "invalid_parameter", "parameter is invalid"},
		"return_url of 1025":            {[]any{"return_url", strings.Repeat("x", 1025)}, "invalid_request_error", "invalid_return_url", ""},
		"metadata an array":             {[]any{"metadata", []int{1}}, "invalid_request_error", "invalid_parameter", "metadata"},
		"metadata of 513 bytes":         {[]any{"metadata", object{"x": strings.Repeat("y", 513-8+1)}}, "invalid_request_error", "invalid_parameter", "metadata"},
		"payment_orders a string":       {[]any{"payment_orders", "x"}, "invalid_request_error", "invalid_payment_orders", ""},
		"payment_method a string":       {[]any{"payment_method", "card"}, "invalid_request_error", "invalid_parameter", "payment_method"},
		"no type":                       {[]any{"payment_method.type", nil}, "invalid_request_error", "missing_parameter", "type"},
		"type unknown":                  {[]any{"payment_method.type", "shells"}, "payment_error", "invalid_payment_method", ""},
		"type of another product":       {[]any{"payment_method.type", "alipaycn"}, "product_error", "product_not_found", ""},
		"no card_present":               {[]any{"payment_method.card_present", nil}, "invalid_request_error", "missing_parameter", "card_present"},
		"no card number":                {[]any{cp + "card_number", nil}, "invalid_request_error", "missing_parameter", "card_number"},
		"card number a number":          {[]any{cp + "card_number", 5554748800161559}, "invalid_request_error", "invalid_parameter", "card_number"},
		"bad Luhn":                      {[]any{cp + "card_number", "5554748800161558"}, "invalid_request_error", "invalid_parameter", "card_number"},
		"card number with spaces":       {[]any{cp + "card_number", "5554 7488 0016 1559"}, "invalid_request_error", "invalid_parameter", "card_number"},
		"card number of 11":             {[]any{cp + "card_number", "55547488001"}, "invalid_request_error", "invalid_parameter", "card_number"},
		"card number of 20":             {[]any{cp + "card_number", "55547488001615591559"}, "invalid_request_error", "invalid_parameter", "card_number"},
		"no expiry_month":               {[]any{cp + "expiry_month", nil}, "invalid_request_error", "missing_parameter", "expiry_month"},
		"expiry_month 13":               {[]any{cp + "expiry_month", "13"}, "invalid_request_error", "invalid_parameter", "expiry_month"},
		"expiry_month of one digit":     {[]any{cp + "expiry_month", "7"}, "invalid_request_error", "invalid_parameter", "expiry_month"},
		"expiry_year of two":            {[]any{cp + "expiry_year", "27"}, "invalid_request_error", "invalid_parameter", "expiry_year"},
		"card expired":                  {[]any{cp + "expiry_month", "01", cp + "expiry_year", "2026", cp + "track2", nil}, "invalid_request_error", "invalid_parameter", "invalid expiry year: card is expired"},
		"no entry mode":                 {[]any{cp + "pan_entry_mode", nil}, "invalid_request_error", "missing_parameter", "pan_entry_mode"},
		"entry mode unknown":            {[]any{cp + "pan_entry_mode", "swiped"}, "invalid_request_error", "invalid_parameter", "pan_entry_mode"},
		"the core's own entry mode":     {[]any{cp + "pan_entry_mode", "not_present"}, "invalid_request_error", "invalid_parameter", "pan_entry_mode"},
		"verification unknown":          {[]any{cp + "cardholder_verification_method", "trust"}, "invalid_request_error", "invalid_parameter", "cardholder_verification_method"},
		"online_pin without a PIN":      {[]any{cp + "cardholder_verification_method", "online_pin"}, "invalid_request_error", "missing_parameter", "encrypted_pin"},
		"PIN block of 15":               {[]any{cp + "encrypted_pin", "3BCCAC46096E537"}, "invalid_request_error", "invalid_parameter", "encrypted_pin"},
		"PIN block of 17":               {[]any{cp + "encrypted_pin", "3BCCAC46096E53790"}, "invalid_request_error", "invalid_parameter", "encrypted_pin"},
		"PIN block no hex":              {[]any{cp + "encrypted_pin", "3BCCAC46096E537G"}, "invalid_request_error", "invalid_parameter", "encrypted_pin"},
		"PIN block no hex, signed":      {[]any{cp + "encrypted_pin", "zz", cp + "cardholder_verification_method", "manual_signature"}, "invalid_request_error", "invalid_parameter", "encrypted_pin"},
		"fallback of a chip":            {[]any{cp + "fallback", true}, "invalid_request_error", "invalid_parameter", "fallback"},
		"fallback a string":             {[]any{cp + "fallback", "true"}, "invalid_request_error", "invalid_parameter", "fallback"},
		"no STAN":                       {[]any{cp + "system_trace_audit_number", nil}, "invalid_request_error", "missing_parameter", "system_trace_audit_number"},
		"STAN of 5":                     {[]any{cp + "system_trace_audit_number", "12345"}, "invalid_request_error", "invalid_parameter", "system_trace_audit_number"},
		"STAN of letters":               {[]any{cp + "system_trace_audit_number", "12345a"}, "invalid_request_error", "invalid_parameter", "system_trace_audit_number"},
		"chip data no hex":              {[]any{cp + "emv_tags", "xyz"}, "invalid_request_error", "invalid_parameter", "emv_tags"},
		"chip data torn":                {[]any{cp + "emv_tags", chipTags[:len(chipTags)-2]}, "invalid_request_error", "invalid_parameter", "emv_tags"},
		"chip data with a bad element":  {[]any{cp + "emv_tags", "9F0201AA"}, "invalid_request_error", "invalid_parameter", "emv_tags"},
		"track 2 of another card":       {[]any{cp + "track2", "5554748800260229=2707201"}, "invalid_request_error", "invalid_parameter", "track2"},
		"track 2 with another expiry":   {[]any{cp + "track2", seedPAN + "=2708201"}, "invalid_request_error", "invalid_parameter", "track2"},
		"track 2 unreadable":            {[]any{cp + "track2", "hello"}, "invalid_request_error", "invalid_parameter", "track2"},
		"track 1 of another card":       {[]any{cp + "track1", "B5554748800260229^CARD/SEED^2707201"}, "invalid_request_error", "invalid_parameter", "track1"},
		"no terminal":                   {[]any{cp + "terminal_info", nil}, "invalid_request_error", "missing_parameter", "terminal_id"},
		"unknown terminal":              {[]any{cp + "terminal_info.terminal_id", "99999999"}, "not_found", "terminal_info_not_found", ""},
		"foreign terminal":              {[]any{cp + "terminal_info.terminal_id", foreign}, "account_error", "terminal_not_belong_to_account", ""},
		"terminal before the card":      {[]any{cp + "terminal_info.terminal_id", "99999999", cp + "card_number", "1"}, "not_found", "terminal_info_not_found", ""},
		"amount before the terminal":    {[]any{cp + "terminal_info.terminal_id", "99999999", "amount", "0"}, "invalid_request_error", "invalid_order_amount", ""},
		"types before what is required": {[]any{"amount", nil, cp + "fallback", 1}, "invalid_request_error", "invalid_parameter", "fallback"},
		"auto_capture a string":         {[]any{cp + "auto_capture", "no"}, "invalid_request_error", "invalid_parameter", "auto_capture"},
	} {
		t.Run(name, func(t *testing.T) {
			d := *c
			d.t = t
			a := d.create(sale(tid, v.change...)).wantError(400, v.kind, v.code, v.word)
			if strings.Contains(string(a.raw), seedPAN) {
				t.Errorf("the refusal shows the card: %s", a.raw)
			}
		})
	}
	if n := r.bank.count.Load(); n != 0 {
		t.Errorf("the host was sent %d messages", n)
	}
	if got := c.get("/v2/payment_intents").want(200); got.at("total_items") != 0.0 {
		t.Errorf("something is stored: %s", got.raw)
	}
	r.as(t, noPOSID, noPOSKey).create(sale(tid, cp+"card_number", "1")).wantError(400, "account_error", "account_pos_api_no_permission")
	s := r.as(t, schemeID, schemeKey)
	s.create(sale(tid)).wantError(400, "product_error", "product_not_found")
	s.create(sale(tid, cp+"card_number", "4176660000000027", cp+"track2", nil)).wantStatus("SUCCEEDED")
}

// What looks odd and is taken all the same.
func TestTakenSales(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.demo(t)
	tid := c.tid()
	for name, v := range map[string]struct {
		change []any
		path   string
		want   any
	}{
		"terminal_id not nested":           {[]any{cp + "terminal_info", nil, cp + "terminal_id", tid}, "intent_status", "SUCCEEDED"},
		"nested terminal_id counts":        {[]any{cp + "terminal_id", "99999999"}, "intent_status", "SUCCEEDED"},
		"zeros beyond the decimals":        {[]any{"amount", "8.980"}, "amount", "8.98"},
		"insignificant zeros":              {[]any{"amount", "103.00"}, "amount", "103"},
		"yen":                              {[]any{"amount", "100", "currency", "JPY"}, "amount", "100"},
		"dinars":                           {[]any{"amount", "1.125", "currency", "KWD"}, "amount", "1.125"},
		"the largest amount":               {[]any{"amount", "9999999999.99"}, "amount", "9999999999.99"},
		"expires this month":               {[]any{cp + "expiry_month", "02", cp + "expiry_year", "2026", cp + "track2", nil}, "intent_status", "SUCCEEDED"},
		"track 2 with sentinels":           {[]any{cp + "track2", ";" + seedPAN + "=2707201?"}, "intent_status", "SUCCEEDED"},
		"track 2 padded":                   {[]any{cp + "track2", seedPAN + "D2707201F"}, "intent_status", "SUCCEEDED"},
		"track 1":                          {[]any{cp + "track1", "%B" + seedPAN + "^CARD/SEED^2707201?"}, "intent_status", "SUCCEEDED"},
		"fallback to the stripe":           {[]any{cp + "pan_entry_mode", "magstripe", cp + "fallback", true, cp + "fallback_reason", "chip_read_failure", cp + "emv_tags", nil}, "intent_status", "SUCCEEDED"},
		"keyed":                            {[]any{cp + "pan_entry_mode", "manual_entry", cp + "emv_tags", nil, cp + "track2", nil}, "intent_status", "SUCCEEDED"},
		"no metadata":                      {[]any{"metadata", nil}, "intent_status", "SUCCEEDED"},
		"description of 32":                {[]any{"description", strings.Repeat("ü", 32)}, "description", strings.Repeat("ü", 32)},
		"markup is echoed as it is":        {[]any{"description", "<b>&\"quoted\"\\"}, "description", "<b>&\"quoted\"\\"},
		"unknown fields":                   {[]any{"foo", object{"bar": 1}, cp + "baz", []int{1}}, "intent_status", "SUCCEEDED"},
		"a PIN block that is not to count": {[]any{cp + "encrypted_pin", "3bccac46096e5379", cp + "cardholder_verification_method", "manual_signature"}, "intent_status", "SUCCEEDED"},
		"products and a customer":          {[]any{"payment_orders", object{"type": "x", "products": []object{{"name": "x"}}}, "customer", object{}, "browser_info", object{}, "ip_address", "::1"}, "intent_status", "SUCCEEDED"},
	} {
		t.Run(name, func(t *testing.T) {
			d := *c
			d.t = t
			d.create(sale(tid, v.change...)).want(200).wantAll(v.path, v.want)
		})
	}
}

func TestOrderIDsMayRepeat(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.demo(t)
	tid := c.tid()
	one, two := c.create(sale(tid)).wantStatus("SUCCEEDED"), c.create(sale(tid)).wantStatus("SUCCEEDED")
	if one.id() == two.id() || one.text("merchant_order_id") != two.text("merchant_order_id") {
		t.Errorf("%s\n%s", one.raw, two.raw)
	}
}

func TestPINBlocks(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.demo(t)
	tid := c.tid()
	pan, _ := card.ParsePAN(seedPAN)
	pin, _ := card.ParsePIN(seedPIN)
	block := func(key []byte) string {
		b, err := uqpay.MakePINBlock(key, pin, pan)
		if err != nil {
			t.Fatal(err)
		}
		return strings.ToUpper(hex.EncodeToString(b[:]))
	}
	pinSale := func(block string) reply {
		return c.create(sale(tid, cp+"encrypted_pin", block, cp+"cardholder_verification_method", "online_pin"))
	}
	t.Run("no key yet", func(t *testing.T) {
		pinSale("3BCCAC46096E5379").wantError(400, "api_error", "pinkey_retrieve_failed", "Pinkey retrieve failed")
		if r.bank.count.Load() != 0 {
			t.Error("the host was sent something")
		}
	})
	old := c.pinKey(tid)
	pinSale(block(old)).wantStatus("SUCCEEDED").wantAll("latest_payment_attempt.payment_method.card_present.cardholder_verification_method", "online_pin")
	if got := r.bank.lastCard(t).PIN; len(got.Keys) != 1 || strings.ToUpper(hex.EncodeToString(got.Block[:])) != block(old) || got.Format != card.Format0 || len(got.Bound) == 0 {
		t.Errorf("the host was sent another PIN block")
	}
	r.clock.pass(23 * time.Hour)
	c = r.demo(t)
	fresh := c.pinKey(tid)
	pinSale(strings.ToLower(block(fresh))).wantStatus("SUCCEEDED")
	if got := r.bank.lastCard(t).PIN; len(got.Keys) != 2 {
		t.Errorf("%d keys, want the former one too", len(got.Keys))
	}
	t.Run("garbage goes on", func(t *testing.T) {
		pinSale("0123456789ABCDEF").want(200)
	})
	r.clock.pass(2 * time.Hour)
	c = r.demo(t)
	pinSale(block(old)).want(200)
	if got := r.bank.lastCard(t).PIN; len(got.Keys) != 1 {
		t.Errorf("%d keys, the former one should have expired", len(got.Keys))
	}
	t.Run("all keys expired", func(t *testing.T) {
		r.clock.pass(23 * time.Hour)
		c = r.demo(t)
		before := r.bank.count.Load()
		pinSale(block(fresh)).wantError(400, "api_error", "pinkey_retrieve_failed")
		c.create(sale(tid)).wantStatus("SUCCEEDED") // Without PIN nothing is missing.
		if r.bank.count.Load() != before+1 {
			t.Error("the host was sent the sale with the PIN")
		}
		c.pinKey(tid)
		pinSale(block(fresh)).want(200)
	})
	t.Run("a foreign terminal's keys are its own", func(t *testing.T) {
		d := r.as(t, otherID, otherKey)
		other := d.tid()
		d.create(sale(other, cp+"encrypted_pin", block(fresh))).wantError(400, "api_error", "pinkey_retrieve_failed")
	})
}

func TestSTANs(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.clock.freeze(time.Date(2026, 2, 3, 15, 59, 59, 0, time.UTC)) // A second before midnight at +08:00.
	c := r.demo(t)
	tid := c.tid()
	second := c.post("/v2/terminal/register", object{"firm_code": "02", "firm_sn": "second", "terminal_model": "x"}).want(200).text("terminal_id")
	with := func(tid string) object { return sale(tid, cp+"system_trace_audit_number", "000777") }
	key := newKey()
	body := with(tid)
	first := c.create(body, "x-idempotency-key", key).wantStatus("SUCCEEDED")
	c.create(with(tid)).wantError(400, "payment_error", "repeat_payment_request")
	c.create(with(second)).wantStatus("SUCCEEDED")
	open := c.create(intent()).wantStatus("REQUIRES_PAYMENT_METHOD")
	c.post("/v2/payment_intents/"+open.id()+"/confirm", object{"payment_method": with(tid)["payment_method"]}).
		wantError(400, "payment_error", "repeat_payment_request")
	r.clock.freeze(time.Date(2026, 2, 3, 16, 0, 0, 0, time.UTC))
	c.create(with(tid)).wantStatus("SUCCEEDED") // Another day.
	if again := c.create(body, "x-idempotency-key", key).want(200); string(again.raw) != string(first.raw) {
		t.Errorf("a repeat after midnight: %s", again.raw)
	}
	c.create(with(tid)).wantError(400, "payment_error", "repeat_payment_request")
	if n := r.bank.sent(payment.Sale); n != 3 {
		t.Errorf("the host was sent %d sales, want 3", n)
	}
	if got := c.get("/v2/payment_intents"); got.at("total_items") != 4.0 {
		t.Errorf("%v intents are stored, want 4", got.at("total_items"))
	}
}

func TestRefusalForADayDoesNotUseTheSTAN(t *testing.T) {
	t.Parallel()
	r := setup(t)
	c := r.demo(t)
	tid := c.tid()
	c.create(sale(tid, cp+"system_trace_audit_number", "000001", "currency", "EUR")).want(400)
	c.create(sale(tid, cp+"system_trace_audit_number", "000001")).wantStatus("SUCCEEDED")
}

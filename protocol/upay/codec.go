package upay

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tillgate/tillgate/internal/strictjson"
	"github.com/tillgate/tillgate/terminal"
)

// Limits of the fields (§3). Lengths count code points, the more lenient reading (§2.4).
const (
	terminalSNMax = 32
	clientSNMax   = 32
	lookupMax     = 64 // sn, which may hold a provider's number, and client_sn where an order is looked up
	dynamicIDMax  = 32
	subjectMax    = 64
	operatorMax   = 32
	refunderMax   = 64 // operator of a refund
	deviceIDMax   = 128
	textMax       = 256 // description, and what has no limit of its own
	reflectMax    = 64
	urlMax        = 128
	payerUIDMax   = 64
	nameMax       = 128
	clientNameMax = 50 // client_sn of activate
	infoMax       = 45
	placeMax      = 32 // longitude, latitude
	paywayMax     = 4
	refundNoMax   = 31 // the real service's; documented are 20
	amountDigits  = 10
	goodsMax      = 100 // lines; the reference gives no number

	extendedKeys     = 24
	extendedKeyMax   = 64
	extendedValueMax = 256
)

// Error is a refusal as the peer sees it. With an Outcome it is a refusal of business, in biz_response; without one the request itself was
// refused (§2.2). The server answers with it, the client returns it.
type Error struct {
	Result   Result
	Outcome  Outcome
	Code     ErrorCode
	Message  string
	Standard string // error_code_standard; empty for none
}

// Error is the text for logs and for operators.
func (e *Error) Error() string {
	if e.Outcome != "" {
		return fmt.Sprintf("upay: %s %s: %s", e.Outcome, e.Code, e.Message)
	}
	return fmt.Sprintf("upay: %s %s: %s", e.Result, e.Code, e.Message)
}

// refuse is the refusal of a request. Without words it has the usual ones.
func refuse(code ErrorCode, format string, args ...any) *Error {
	result := ResultClientError
	switch code {
	case CodeUnknownSystem, CodeMaintenance, CodeRequestFail, CodePayStatusClosed:
		result = ResultServerError
	}
	message := messages[code]
	if format != "" {
		message = fmt.Sprintf(format, args...)
	}
	return &Error{Result: result, Code: code, Message: message}
}

// refuseBusiness is the refusal of an operation, which leaves the order untouched.
func refuseBusiness(code ErrorCode, format string, args ...any) *Error {
	e := refuse(code, format, args...)
	e.Result, e.Outcome = ResultOK, Fail
	return e
}

// fields reads the members of a request and gathers its faults, each beginning with the field's name (§2.4).
type fields struct {
	strictjson.Value
	faults []string
}

func (f *fields) fault(name, format string, args ...any) {
	f.faults = append(f.faults, name+" "+fmt.Sprintf(format, args...))
}

// err joins the faults as the real service does.
func (f *fields) err() error {
	if len(f.faults) == 0 {
		return nil
	}
	return refuse(CodeInvalidParams, "%s", strings.Join(f.faults, "；"))
}

// presence says whether a member must be there.
type presence bool

const (
	required presence = true
	optional presence = false
)

// text reads a member of so many code points. A null or empty one is absent; a whole number is its digits (§2.3).
func (f *fields) text(name string, when presence, limit int) string {
	v, _ := f.Get(name)
	text := v.Text
	switch v.Kind {
	case strictjson.Null, strictjson.String:
	case strictjson.Number:
		var ok bool
		if text, ok = integral(v.Raw); !ok {
			f.fault(name, "must be a string or a whole number")
			return ""
		}
	default:
		f.fault(name, "must be a string, not %s", v.Kind)
		return ""
	}
	switch {
	case text == "" && when == required:
		f.fault(name, "must not be empty")
	case utf8.RuneCountInString(text) > limit:
		f.fault(name, "must not be longer than %d characters", limit)
	case strings.ContainsRune(text, 0):
		f.fault(name, "must not hold U+0000")
	}
	return text
}

// cents reads a required amount above zero.
func (f *fields) cents(name string) int64 {
	before := len(f.faults)
	text := f.text(name, required, BodyMax)
	if len(f.faults) > before {
		return 0
	}
	if !isDigits(text) || len(text) > amountDigits {
		f.fault(name, "must be 1 to %d digits: the amount in cents", amountDigits)
		return 0
	}
	n, _ := strconv.ParseInt(text, 10, 64) // Ten digits fit.
	if n == 0 {
		f.fault(name, "must be above 0")
	}
	return n
}

func isDigits(text string) bool {
	return text != "" && strings.Trim(text, "0123456789") == ""
}

// digits reads a member that may only hold digits.
func (f *fields) digits(name string, when presence, limit int) string {
	text := f.text(name, when, limit)
	if text != "" && !isDigits(text) {
		f.fault(name, "must be digits")
	}
	return text
}

// nested is an object or array that is passed on. An empty string is absent (§2.3).
func (f *fields) nested(name string, want strictjson.Kind) (strictjson.Value, bool) {
	v, ok := f.Get(name)
	if !ok || v.Kind == strictjson.String && v.Text == "" {
		return strictjson.Value{}, false
	}
	if v.Kind != want {
		f.fault(name, "must be %s, not %s", want, v.Kind)
		return strictjson.Value{}, false
	}
	return v, true
}

// extended checks the object that is passed on to the provider (§2.4).
func (f *fields) extended() json.RawMessage {
	const name = "extended"
	v, ok := f.nested(name, strictjson.Object)
	if !ok {
		return nil
	}
	if len(v.Members) > extendedKeys {
		f.fault(name, "must not have more than %d keys", extendedKeys)
		return nil
	}
	for _, m := range v.Members {
		if utf8.RuneCountInString(m.Name) > extendedKeyMax {
			f.fault(name, "must not have keys longer than %d characters", extendedKeyMax)
			return nil
		}
		text := m.Value.Text
		if m.Value.Kind != strictjson.String {
			text = m.Value.Raw
		}
		if utf8.RuneCountInString(text) > extendedValueMax {
			f.fault(name, "must not have values longer than %d characters", extendedValueMax)
			return nil
		}
	}
	return json.RawMessage(v.Raw)
}

func (f *fields) goods() json.RawMessage {
	const name = "goods_details"
	v, ok := f.nested(name, strictjson.Array)
	if !ok {
		return nil
	}
	if len(v.List) > goodsMax {
		f.fault(name, "must not have more than %d entries", goodsMax)
		return nil
	}
	for _, e := range v.List {
		if e.Kind != strictjson.Object {
			f.fault(name, "must hold objects only")
			return nil
		}
	}
	return json.RawMessage(v.Raw)
}

// order reads the fields that orders have alike.
func (f *fields) order() Order {
	o := Order{
		TerminalSN: f.text("terminal_sn", required, terminalSNMax), ClientSN: f.text("client_sn", required, clientSNMax),
		TotalAmount: f.cents("total_amount"), Payway: f.digits("payway", optional, paywayMax), Subject: f.text("subject", required, subjectMax),
		Operator: f.text("operator", optional, operatorMax), Description: f.text("description", optional, textMax),
		Longitude: f.place("longitude"), Latitude: f.place("latitude"), DeviceID: f.text("device_id", optional, deviceIDMax),
		Extended: f.extended(), GoodsDetails: f.goods(), Reflect: f.text("reflect", optional, reflectMax),
		NotifyURL: f.text("notify_url", optional, urlMax),
	}
	if (o.Longitude == "") != (o.Latitude == "") {
		f.fault("longitude", "and latitude must come together")
	}
	if o.Payway == "0" {
		o.Payway = "" // Unspecified (§4.5).
	}
	return o
}

// place reads one half of a position, which clients also send as a number with decimals.
func (f *fields) place(name string) string {
	if v, _ := f.Get(name); v.Kind == strictjson.Number && len(v.Raw) <= placeMax {
		return v.Raw
	}
	return f.text(name, optional, placeMax)
}

// decode reads a body with one of the readers below. The error is always an *Error.
func decode[T any](body []byte, read func(*fields) T) (T, error) {
	var none T
	v, err := parse(body)
	if err != nil {
		return none, refuse(CodeInvalidParams, "the body is not an acceptable JSON object: %v", err)
	}
	f := &fields{Value: v}
	r := read(f)
	if err := f.err(); err != nil {
		return none, err
	}
	return r, nil
}

// DecodePay reads the body of a pay (§3.4).
func DecodePay(body []byte) (PayRequest, error) { return decode(body, readPay) }

func readPay(f *fields) PayRequest {
	return PayRequest{Order: f.order(), DynamicID: f.text("dynamic_id", required, dynamicIDMax)}
}

// DecodePrecreate reads the body of a precreate (§3.5).
func DecodePrecreate(body []byte) (PrecreateRequest, error) { return decode(body, readPrecreate) }

func readPrecreate(f *fields) PrecreateRequest {
	r := PrecreateRequest{Order: f.order(), SubPayway: f.digits("sub_payway", optional, paywayMax), PayerUID: f.text("payer_uid", optional, payerUIDMax)}
	if r.Payway == "" {
		f.fault("payway", "must name the provider")
	}
	if r.SubPayway == "" {
		r.SubPayway = SubPaywayQR
	}
	if !slices.Contains([]string{SubPaywayQR, SubPaywayWAP, SubPaywayMiniProgram, SubPaywayApp, SubPaywayH5}, r.SubPayway) {
		f.fault("sub_payway", "must be one of 2, 3, 4, 5, 6")
	}
	return r
}

// DecodeQuery reads the body of a query (§3.6).
func DecodeQuery(body []byte) (QueryRequest, error) { return decode(body, readQuery) }

func readQuery(f *fields) QueryRequest {
	r := QueryRequest{TerminalSN: f.text("terminal_sn", required, terminalSNMax), RefundRequestNo: f.text("refund_request_no", optional, refundNoMax)}
	r.SN, r.ClientSN = f.numbers()
	return r
}

// DecodeRefund reads the body of a refund (§3.7).
func DecodeRefund(body []byte) (RefundRequest, error) { return decode(body, readRefund) }

func readRefund(f *fields) RefundRequest {
	r := RefundRequest{TerminalSN: f.text("terminal_sn", required, terminalSNMax), ClientTSN: f.text("client_tsn", optional, lookupMax),
		RefundRequestNo: f.text("refund_request_no", required, refundNoMax), Operator: f.text("operator", optional, refunderMax),
		RefundAmount: f.cents("refund_amount")}
	r.SN, r.ClientSN = f.numbers()
	return r
}

// DecodeCancel reads the body of a revoke or cancel (§3.8).
func DecodeCancel(body []byte) (CancelRequest, error) { return decode(body, readCancel) }

func readCancel(f *fields) CancelRequest {
	r := CancelRequest{TerminalSN: f.text("terminal_sn", required, terminalSNMax), Operator: f.text("operator", optional, refunderMax)}
	r.SN, r.ClientSN = f.numbers()
	return r
}

// numbers reads the two numbers by which an order is looked up; one of them must be there.
func (f *fields) numbers() (sn, clientSN string) {
	sn, clientSN = f.text("sn", optional, lookupMax), f.text("client_sn", optional, lookupMax)
	if sn == "" && clientSN == "" {
		f.fault("sn", "and client_sn must not both be empty")
	}
	return sn, clientSN
}

// DecodeActivate reads the body of an activate (§3.1).
func DecodeActivate(body []byte) (ActivateRequest, error) { return decode(body, readActivate) }

func readActivate(f *fields) ActivateRequest {
	return ActivateRequest{AppID: f.text("app_id", optional, terminalSNMax), Code: f.text("code", required, terminalSNMax),
		DeviceID: f.text("device_id", required, deviceIDMax), ClientSN: f.text("client_sn", optional, clientNameMax),
		Name: f.text("name", optional, nameMax), OSInfo: f.text("os_info", optional, infoMax), SDKVersion: f.text("sdk_version", optional, infoMax)}
}

// DecodeCheckIn reads the body of a checkin (§3.2).
func DecodeCheckIn(body []byte) (CheckInRequest, error) { return decode(body, readCheckIn) }

func readCheckIn(f *fields) CheckInRequest {
	return CheckInRequest{TerminalSN: f.text("terminal_sn", required, terminalSNMax), DeviceID: f.text("device_id", required, deviceIDMax),
		OSInfo: f.text("os_info", optional, infoMax), SDKVersion: f.text("sdk_version", optional, infoMax)}
}

// DecodeGateway reads the query of the WAP gateway (§3.9). Its values are checked as those of a body are.
func DecodeGateway(query url.Values) (GatewayRequest, error) {
	f := &fields{Value: strictjson.Value{Kind: strictjson.Object}}
	for name, list := range query {
		if len(list) > 1 {
			f.fault(name, "must be given once")
		}
		if !utf8.ValidString(list[0]) {
			f.fault(name, "must be UTF-8")
		}
		f.Members = append(f.Members, strictjson.Member{Name: name, Value: strictjson.Value{Kind: strictjson.String, Text: list[0]}})
	}
	var r GatewayRequest
	if v, ok := f.Get("extended"); ok && v.Text != "" { // It is text here (§3.9).
		if e, err := parse([]byte(v.Text)); err == nil && utf8.RuneCountInString(v.Text) <= textMax {
			f.set("extended", e)
		}
	}
	r.Order, r.ReturnURL = f.order(), f.text("return_url", required, urlMax)
	if r.ReturnURL != "" && !isWebAddress(r.ReturnURL) {
		f.fault("return_url", "must be an absolute http or https address")
	}
	return r, f.err()
}

func (f *fields) set(name string, v strictjson.Value) {
	for i := range f.Members {
		if f.Members[i].Name == name {
			f.Members[i].Value = v
		}
	}
}

// isWebAddress reports whether a browser can be sent to an address.
func isWebAddress(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" && u.User == nil
}

// writer builds a JSON object.
type writer struct{ b []byte }

func newWriter() *writer { return &writer{append(make([]byte, 0, 1<<10), '{')} }

func (w *writer) name(name string) {
	if w.b[len(w.b)-1] != '{' {
		w.b = append(w.b, ',')
	}
	w.b = append(strictjson.AppendQuoted(w.b, name), ':')
}

func (w *writer) text(name, text string) *writer {
	w.name(name)
	w.b = strictjson.AppendQuoted(w.b, text)
	return w
}

// some writes a text unless it is empty.
func (w *writer) some(name, text string) *writer {
	if text == "" {
		return w
	}
	return w.text(name, text)
}

func (w *writer) cents(name string, n int64) *writer { return w.text(name, strconv.FormatInt(n, 10)) }

func (w *writer) raw(name string, raw []byte) *writer {
	if len(raw) == 0 {
		return w
	}
	w.name(name)
	w.b = append(w.b, raw...)
	return w
}

func (w *writer) end() []byte {
	w.b = append(w.b, '}')
	return w.b
}

func (w *writer) order(o *Order) *writer {
	return w.text("terminal_sn", o.TerminalSN).text("client_sn", o.ClientSN).cents("total_amount", o.TotalAmount).some("payway", o.Payway).
		text("subject", o.Subject).some("operator", o.Operator).some("description", o.Description).some("longitude", o.Longitude).
		some("latitude", o.Latitude).some("device_id", o.DeviceID).raw("extended", o.Extended).raw("goods_details", o.GoodsDetails).
		some("reflect", o.Reflect).some("notify_url", o.NotifyURL)
}

// Encode is the request's body.
func (r PayRequest) Encode() []byte {
	return newWriter().order(&r.Order).text("dynamic_id", r.DynamicID).end()
}

// Encode is the request's body.
func (r PrecreateRequest) Encode() []byte {
	return newWriter().order(&r.Order).some("sub_payway", r.SubPayway).some("payer_uid", r.PayerUID).end()
}

// Encode is the request's body.
func (r QueryRequest) Encode() []byte {
	return newWriter().text("terminal_sn", r.TerminalSN).some("sn", r.SN).some("client_sn", r.ClientSN).
		some("refund_request_no", r.RefundRequestNo).end()
}

// Encode is the request's body.
func (r RefundRequest) Encode() []byte {
	return newWriter().text("terminal_sn", r.TerminalSN).some("sn", r.SN).some("client_sn", r.ClientSN).some("client_tsn", r.ClientTSN).
		text("refund_request_no", r.RefundRequestNo).some("operator", r.Operator).cents("refund_amount", r.RefundAmount).end()
}

// Encode is the request's body.
func (r CancelRequest) Encode() []byte {
	return newWriter().text("terminal_sn", r.TerminalSN).some("sn", r.SN).some("client_sn", r.ClientSN).some("operator", r.Operator).end()
}

// Encode is the request's body.
func (r ActivateRequest) Encode() []byte {
	return newWriter().some("app_id", r.AppID).text("code", r.Code).text("device_id", r.DeviceID).some("client_sn", r.ClientSN).
		some("name", r.Name).some("os_info", r.OSInfo).some("sdk_version", r.SDKVersion).end()
}

// Encode is the request's body.
func (r CheckInRequest) Encode() []byte {
	return newWriter().text("terminal_sn", r.TerminalSN).text("device_id", r.DeviceID).some("os_info", r.OSInfo).
		some("sdk_version", r.SDKVersion).end()
}

// Values are the request's parameters, without their signature.
func (r GatewayRequest) Values() url.Values {
	v := url.Values{}
	for name, text := range map[string]string{"terminal_sn": r.TerminalSN, "client_sn": r.ClientSN,
		"total_amount": strconv.FormatInt(r.TotalAmount, 10), "payway": r.Payway, "subject": r.Subject, "operator": r.Operator,
		"description": r.Description, "longitude": r.Longitude, "latitude": r.Latitude, "extended": string(r.Extended), "reflect": r.Reflect,
		"notify_url": r.NotifyURL, "return_url": r.ReturnURL} {
		if text != "" {
			v.Set(name, text)
		}
	}
	return v
}

// member is one member of Data: how it is read and written.
type member struct {
	name     string
	callback bool // It is in callbacks too (§7.1).
	ifSet    bool // It is left out when it has no value; else it is written empty, as the real service does (§1.4).
	read     func(*Data, strictjson.Value) bool
	write    func([]byte, *Data) []byte // Appends the value; nothing for no value.
}

func textMember[S ~string](name string, at func(*Data) *S) member {
	return member{name: name,
		read: func(d *Data, v strictjson.Value) bool {
			switch v.Kind {
			case strictjson.String:
				*at(d) = S(v.Text)
			case strictjson.Number:
				*at(d) = S(v.Raw)
			default:
				return false
			}
			return true
		},
		write: func(b []byte, d *Data) []byte {
			if *at(d) == "" {
				return b
			}
			return strictjson.AppendQuoted(b, string(*at(d)))
		}}
}

// numberMember is a whole number as a string; zero is no value unless zero says so.
func numberMember(name string, zero bool, at func(*Data) *int64) member {
	return member{name: name,
		read: func(d *Data, v strictjson.Value) bool {
			text := v.Text
			if v.Kind == strictjson.Number {
				text = v.Raw
			}
			if text == "" && v.Kind == strictjson.String {
				return true
			}
			n, err := strconv.ParseInt(text, 10, 64)
			if err != nil || v.Kind != strictjson.Number && v.Kind != strictjson.String {
				return false
			}
			*at(d) = n
			return true
		},
		write: func(b []byte, d *Data) []byte {
			if *at(d) == 0 && !zero {
				return b
			}
			return strictjson.AppendQuoted(b, strconv.FormatInt(*at(d), 10))
		}}
}

func ifSet(m member) member {
	m.ifSet = true
	return m
}

func inCallback(m member) member {
	m.callback = true
	return m
}

// dataMembers is §1.5, in the order of the captured answers.
var dataMembers = []member{
	inCallback(textMember("terminal_sn", func(d *Data) *string { return &d.TerminalSN })),
	inCallback(textMember("sn", func(d *Data) *string { return &d.SN })),
	inCallback(textMember("client_sn", func(d *Data) *string { return &d.ClientSN })),
	textMember("tsn", func(d *Data) *string { return &d.TSN }),
	textMember("client_tsn", func(d *Data) *string { return &d.ClientTSN }),
	inCallback(textMember("trade_no", func(d *Data) *string { return &d.TradeNo })),
	numberMember("ctime", false, func(d *Data) *int64 { return &d.CTime }),
	inCallback(numberMember("finish_time", false, func(d *Data) *int64 { return &d.FinishTime })),
	inCallback(numberMember("channel_finish_time", false, func(d *Data) *int64 { return &d.ChannelFinishTime })),
	inCallback(textMember("status", func(d *Data) *Status { return &d.Status })),
	inCallback(textMember("order_status", func(d *Data) *OrderStatus { return &d.OrderStatus })),
	inCallback(textMember("payway", func(d *Data) *string { return &d.Payway })),
	inCallback(textMember("payway_name", func(d *Data) *string { return &d.PaywayName })),
	inCallback(textMember("sub_payway", func(d *Data) *string { return &d.SubPayway })),
	inCallback(textMember("payer_uid", func(d *Data) *string { return &d.PayerUID })),
	inCallback(textMember("payer_login", func(d *Data) *string { return &d.PayerLogin })),
	inCallback(numberMember("total_amount", true, func(d *Data) *int64 { return &d.TotalAmount })),
	inCallback(numberMember("net_amount", true, func(d *Data) *int64 { return &d.NetAmount })),
	numberMember("refunded_amount", true, func(d *Data) *int64 { return &d.RefundedAmount }),
	ifSet(textMember("qr_code", func(d *Data) *string { return &d.QRCode })),
	ifSet(textMember("qr_code_image_url", func(d *Data) *string { return &d.QRCodeImageURL })),
	ifSet(member{name: "wap_pay_request",
		read:  func(d *Data, v strictjson.Value) bool { d.WapPayRequest = json.RawMessage(v.Raw); return true },
		write: func(b []byte, d *Data) []byte { return append(b, d.WapPayRequest...) }}),
	inCallback(textMember("subject", func(d *Data) *string { return &d.Subject })),
	ifSet(textMember("description", func(d *Data) *string { return &d.Description })),
	inCallback(textMember("operator", func(d *Data) *string { return &d.Operator })),
	inCallback(textMember("reflect", func(d *Data) *string { return &d.Reflect })),
	textMember("store_id", func(d *Data) *string { return &d.StoreID }),
	inCallback(member{name: "payment_list", read: readPaymentList, write: appendPaymentList}),
}

// vital are the members on which money hangs: of another type, they fail the reading.
var vital = []string{"sn", "client_sn", "status", "order_status", "total_amount", "net_amount"}

func readPaymentList(d *Data, v strictjson.Value) bool {
	if v.Kind != strictjson.Array {
		return false
	}
	parts := make([]PaymentPart, 0, len(v.List))
	for _, e := range v.List {
		kind, _ := e.Get("type")
		amount, _ := e.Get("amount_total")
		text := amount.Text
		if amount.Kind == strictjson.Number {
			text = amount.Raw
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if e.Kind != strictjson.Object || err != nil {
			return false
		}
		parts = append(parts, PaymentPart{kind.Text, n})
	}
	d.PaymentList = parts
	return true
}

func appendPaymentList(b []byte, d *Data) []byte {
	b = append(b, '[')
	for i, p := range d.PaymentList {
		if i > 0 {
			b = append(b, ',')
		}
		w := &writer{append(b, '{')}
		b = w.text("type", p.Type).cents("amount_total", p.Amount).end()
	}
	return append(b, ']')
}

// encode writes the members; only those of callbacks if asked.
func (d *Data) encode(callback bool) []byte {
	w := newWriter()
	for _, m := range dataMembers {
		if callback && !m.callback {
			continue
		}
		before := len(w.b)
		w.name(m.name)
		named := len(w.b)
		w.b = m.write(w.b, d)
		if len(w.b) > named {
			continue
		}
		if m.ifSet {
			w.b = w.b[:before]
		} else {
			w.b = append(w.b, `""`...)
		}
	}
	for _, name := range sortedKeys(d.Extra) {
		if callback {
			break
		}
		if !slices.ContainsFunc(dataMembers, func(m member) bool { return m.name == name }) {
			w.raw(name, d.Extra[name])
		}
	}
	return w.end()
}

func sortedKeys(m map[string]json.RawMessage) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func dataOf(v strictjson.Value) (*Data, error) {
	d := &Data{}
	for _, nv := range v.Members {
		if nv.Value.Kind == strictjson.Null {
			continue
		}
		i := slices.IndexFunc(dataMembers, func(m member) bool { return m.name == nv.Name })
		if i >= 0 && dataMembers[i].read(d, nv.Value) {
			continue
		}
		if slices.Contains(vital, nv.Name) {
			return nil, fmt.Errorf("upay: %s is %.40s", nv.Name, nv.Value.Raw)
		}
		if d.Extra == nil {
			d.Extra = map[string]json.RawMessage{}
		}
		d.Extra[nv.Name] = json.RawMessage(nv.Value.Raw)
	}
	return d, nil
}

// EncodeCallback is the body of a callback: the order's fields themselves (§7.1).
func (d *Data) EncodeCallback() []byte { return d.encode(true) }

// DecodeCallback reads the body of a callback. Verify its signature first.
func DecodeCallback(body []byte) (*Data, error) {
	v, err := parseAnswer(body)
	if err != nil {
		return nil, err
	}
	return dataOf(v)
}

func (w *writer) credentials(c *Credentials) *writer {
	return w.text("terminal_sn", c.TerminalSN).text("terminal_key", c.TerminalKey.Reveal()).text("merchant_sn", c.MerchantSN).
		text("merchant_name", c.MerchantName).text("store_sn", c.StoreSN).text("store_name", c.StoreName)
}

// Encode writes the answer: all members, empty ones too, as the real service does (§1.4). Credentials stand both flat and in data (§3.1).
func (e *Envelope) Encode() []byte {
	w := newWriter().text("result_code", string(e.ResultCode)).text("error_code", string(e.ErrorCode)).text("error_message", e.ErrorMessage).
		some("error_code_standard", e.ErrorCodeStandard)
	if e.Biz == nil {
		return w.raw("biz_response", []byte("null")).end()
	}
	biz := newWriter().text("result_code", string(e.Biz.ResultCode)).text("error_code", string(e.Biz.ErrorCode)).text("error_message", e.Biz.ErrorMessage)
	data := []byte("null")
	switch {
	case e.Biz.Credentials != nil:
		biz.credentials(e.Biz.Credentials)
		data = newWriter().credentials(e.Biz.Credentials).end()
	case e.Biz.Data != nil:
		data = e.Biz.Data.encode(false)
	}
	return w.raw("biz_response", biz.raw("data", data).end()).end()
}

func parseAnswer(body []byte) (strictjson.Value, error) {
	if len(body) > answerMax {
		return strictjson.Value{}, errors.New("upay: answer too long")
	}
	v, err := parse(body)
	if err != nil {
		return strictjson.Value{}, fmt.Errorf("upay: answer is not acceptable JSON: %w", err)
	}
	return v, nil
}

// DecodeEnvelope reads an answer as a client must: unknown members and values are carried through. What has no result_code is no answer.
func DecodeEnvelope(body []byte) (*Envelope, error) {
	v, err := parseAnswer(body)
	if err != nil {
		return nil, err
	}
	text := func(v strictjson.Value, name string) string {
		m, _ := v.Get(name)
		if m.Kind == strictjson.Number {
			return m.Raw
		}
		return m.Text
	}
	e := &Envelope{ResultCode: Result(text(v, "result_code")), ErrorCode: ErrorCode(text(v, "error_code")), ErrorMessage: text(v, "error_message"),
		ErrorCodeStandard: text(v, "error_code_standard")}
	if e.ResultCode == "" {
		return nil, errors.New("upay: answer has no result_code")
	}
	biz, ok := v.Get("biz_response")
	if !ok || biz.Kind != strictjson.Object {
		return e, nil
	}
	e.Biz = &Biz{ResultCode: Outcome(text(biz, "result_code")), ErrorCode: ErrorCode(text(biz, "error_code")), ErrorMessage: text(biz, "error_message")}
	data, _ := biz.Get("data")
	for _, from := range []strictjson.Value{biz, data} { // Either form (§3.1).
		if key := text(from, "terminal_key"); key != "" {
			e.Biz.Credentials = &Credentials{TerminalSN: text(from, "terminal_sn"), TerminalKey: terminal.NewSecret(key), MerchantSN: text(from, "merchant_sn"),
				MerchantName: text(from, "merchant_name"), StoreSN: text(from, "store_sn"), StoreName: text(from, "store_name")}
			return e, nil
		}
	}
	if data.Kind == strictjson.Object {
		e.Biz.Data, err = dataOf(data)
	}
	return e, err
}

package upay

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tillgate/tillgate/internal/access"
	"github.com/tillgate/tillgate/internal/strictjson"
	"github.com/tillgate/tillgate/internal/wait"
	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/terminal"
)

// Server answers everything of §1.2 below one base address. Whatever has been routed is answered HTTP 200 with the envelope (§1.3). Mount it
// without http.ServeMux in front, which redirects the double slashes of §2.3.
type Server struct {
	Core      Core
	Terminals Terminals
	Vault     MACs // For what the server hands out and wants back: QR pictures and return pages.
	Log       *slog.Logger
	// PublicURL is the base address as clients and browsers reach it.
	PublicURL func() string
	// CheckTarget refuses a notify_url that must not be called; its error is told to the caller. Nil refuses every notify_url.
	CheckTarget func(url string) error
	// Defaults are the settings of merchants who have set nothing; nil is DefaultSettings.
	Defaults *Settings
	// Barcodes recognises customers' codes; nil is the table of the same name.
	Barcodes []Barcode
	// LogDir is where terminals' logs are kept; empty refuses them.
	LogDir string
	// Stopping, when closed, releases those who are held: they are told that the payment is in progress, and ask the next process.
	Stopping <-chan struct{}
	// PayWait, PrecreateWait, RefundWait and CancelWait are how long calls are held; 0 for 35, 20, 12 and 8 s.
	PayWait, PrecreateWait, RefundWait, CancelWait time.Duration
	Now                                            func() time.Time // Nil is time.Now.
	Rand                                           io.Reader        // Nil is crypto/rand's.

	stop wait.Stop
}

// MACs makes keyed hashes, one key for each purpose.
type MACs interface {
	MAC(purpose string, data []byte) []byte
}

// call is a request that has been routed. From a terminal it is signed, and its terminal is known.
type call struct {
	w        http.ResponseWriter
	r        *http.Request
	body     []byte
	entry    terminal.Entry
	disabled bool
	settings Settings
}

// routes are the endpoints that take a signed body (§1.2).
var routes = map[string]func(*Server, *call) (*Envelope, error){
	"terminal/activate":  (*Server).activate,
	"terminal/checkin":   (*Server).checkIn,
	"terminal/uploadLog": (*Server).uploadLog,
	"upay/v2/pay":        (*Server).pay,
	"upay/v2/precreate":  (*Server).precreate,
	"upay/v2/query":      (*Server).query,
	"upay/v2/refund":     (*Server).refund,
	"upay/v2/revoke":     (*Server).cancel, // The same request and the same logic (§3.8).
	"upay/v2/cancel":     (*Server).cancel,
}

// pages are the endpoints that browsers call (§3.5.2, §3.9).
var pages = map[string]func(*Server, http.ResponseWriter, *http.Request){
	"upay/qrcode":    (*Server).qrCode,
	"gateway":        (*Server).gateway,
	"gateway/return": (*Server).gatewayReturn,
}

// ServeHTTP serves one request; mount it at the root of its address, or strip what is in front.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := route(r.URL.Path)
	if page, ok := pages[path]; ok {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			s.misrouted(w, r, http.StatusMethodNotAllowed, "GET, HEAD")
			return
		}
		page(s, w, r)
		return
	}
	serve, ok := routes[path]
	if !ok {
		s.misrouted(w, r, http.StatusNotFound, "")
		return
	}
	if r.Method != http.MethodPost {
		s.misrouted(w, r, http.StatusMethodNotAllowed, http.MethodPost)
		return
	}
	c := &call{w: w, r: r, settings: s.defaults()}
	answer, err := serve(s, c)
	if err != nil {
		if answer = s.refused(c, err); answer == nil {
			access.Note(r.Context(), slog.Bool("left", true))
			w.WriteHeader(access.StatusLeft)
			return
		}
	}
	send(w, http.StatusOK, answer.Encode())
}

// route is a path without the slashes that clients have too many of (§2.3).
func route(path string) string {
	return strings.Join(strings.FieldsFunc(path, func(r rune) bool { return r == '/' }), "/")
}

// misrouted answers what no endpoint takes, in the form that clients read.
func (s *Server) misrouted(w http.ResponseWriter, r *http.Request, status int, allow string) {
	text := "there is nothing at this path"
	if allow != "" {
		w.Header().Set("Allow", allow)
		text = r.Method + " is not possible here; " + allow + " is"
	}
	send(w, status, (&Envelope{ResultCode: ResultClientError, ErrorCode: CodeInvalidParams, ErrorMessage: text}).Encode())
}

func send(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(body) // A caller that has left asks again.
}

// refused is the answer to an error; nil when the caller has left. What the caller cannot know goes to the log only.
func (s *Server) refused(c *call, err error) *Envelope {
	e := refusal(err, nil)
	if e == nil && c.r.Context().Err() != nil {
		return nil
	}
	if e == nil {
		e = refuse(CodeUnknownSystem, "")
		s.Log.Error("upay: request failed", "path", c.r.URL.Path, "error", err)
	}
	access.Note(c.r.Context(), slog.String("failure", string(e.Code)))
	if e.Outcome != "" {
		return &Envelope{ResultCode: ResultOK, Biz: &Biz{ResultCode: e.Outcome, ErrorCode: e.Code, ErrorMessage: e.Message}}
	}
	answer := &Envelope{ResultCode: e.Result, ErrorCode: e.Code, ErrorMessage: e.Message}
	if standard := standards[e.Code]; standard != "" && c.settings.ErrorCodeStandard {
		answer.ErrorCodeStandard, answer.ErrorMessage = standard, e.Message+"["+standard+"]"
	}
	return answer
}

func (s *Server) defaults() Settings {
	if s.Defaults != nil {
		return *s.Defaults
	}
	return DefaultSettings()
}

// settingsOf are a merchant's, over the defaults.
func settingsOf(ctx context.Context, t Terminals, defaults *Settings, m payment.MerchantID) (Settings, error) {
	v := DefaultSettings()
	if defaults != nil {
		v = *defaults
	}
	v.CallbackEvents = slices.Clone(v.CallbackEvents) // They are read over it.
	err := t.Settings(ctx, m, Protocol, &v)
	return v, err
}

func (s *Server) now() time.Time {
	if s.Now != nil {
		return s.Now()
	}
	return time.Now()
}

// readBody reads a body to its end, as the bytes that were signed.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, refuse(CodeInvalidParams, "the body must not be longer than %d bytes", limit)
	}
	if err != nil {
		return nil, refuse(CodeInvalidParams, "the body could not be read to its end")
	}
	return body, nil
}

// use is which of a terminal's keys may sign.
type use int

const (
	forTransactions use = iota
	forCheckIn          // The current key may, even when its time is over (§2.5).
)

// authenticate reads the body and finds the terminal that signed it (§2.2). What is wrong with the terminal itself is told later, once the
// request has been read.
func (s *Server) authenticate(c *call, limit int64, for_ use) error {
	sn, sign, ok := ParseAuthorization(c.r.Header.Get("Authorization"))
	if !ok {
		return refuse(CodeIllegalSign, "")
	}
	if err := s.found(c, sn, s.Terminals.Find); err != nil { // Before the body: strangers must not fill the memory.
		return err
	}
	var err error
	if c.body, err = readBody(c.w, c.r, limit); err != nil {
		return err
	}
	signed, err := s.signed(c, for_, func(k terminal.Secret) bool { return Verify(c.body, sign, k) })
	if err != nil || signed {
		return err
	}
	if err := s.found(c, sn, s.Terminals.Fresh); err != nil { // Another process may have changed the keys.
		return err
	}
	if signed, err = s.signed(c, for_, func(k terminal.Secret) bool { return Verify(c.body, sign, k) }); err == nil && !signed {
		err = refuse(CodeIllegalSign, "")
	}
	return err
}

// found looks a terminal and its merchant's settings up.
func (s *Server) found(c *call, sn string, find func(context.Context, string, string) (terminal.Entry, error)) error {
	entry, err := find(c.r.Context(), Protocol, sn)
	switch {
	case errors.Is(err, payment.ErrNotFound):
		return refuse(CodeInvalidTerminal, "")
	case errors.Is(err, terminal.ErrDisabled):
		c.disabled = true
	case err != nil:
		return err
	}
	c.entry = entry
	access.Note(c.r.Context(), slog.Int64("merchant", int64(entry.Merchant)), slog.String("tid", sn))
	c.settings, err = settingsOf(c.r.Context(), s.Terminals, s.Defaults, entry.Merchant)
	return err
}

// signed reports whether one of the terminal's keys that are valid now made a signature. All are tried, so that time tells nothing.
func (s *Server) signed(c *call, for_ use, fits func(terminal.Secret) bool) (bool, error) {
	keys, err := s.Terminals.Keys(c.entry)
	if err != nil {
		return false, err
	}
	now, life, any := s.now(), time.Duration(c.settings.TerminalKeyTTL), false
	for _, k := range keys {
		fit := fits(k.Secret)
		expired := life > 0 && now.Sub(k.IssuedAt) > life
		if fit && (!expired || for_ == forCheckIn && !k.Last) {
			any = true
		}
	}
	return any, nil
}

// isTerminals reports whether a request is the terminal's that signed it, and whether that may do anything (§2.2).
func (c *call) isTerminals(sn string) error {
	if sn != c.entry.Number {
		return refuse(CodeInvalidTerminal, "%s: terminal_sn is not the number in Authorization", messages[CodeInvalidTerminal])
	}
	if c.disabled {
		return refuseBusiness(CodeTerminalAbnormal, "")
	}
	return nil
}

// request reads a terminal's signed request.
func request[T any](s *Server, c *call, for_ use, read func([]byte) (T, error), sn func(*T) string) (T, error) {
	var r T
	if err := s.authenticate(c, BodyMax, for_); err != nil {
		return r, err
	}
	r, err := read(c.body)
	if err != nil {
		return r, err
	}
	return r, c.isTerminals(sn(&r))
}

// activate is operation 1: the vendor's software makes a terminal of a device (§3.1).
func (s *Server) activate(c *call) (*Envelope, error) {
	var err error
	if c.body, err = readBody(c.w, c.r, BodyMax); err != nil {
		return nil, err
	}
	sn, sign, ok := ParseAuthorization(c.r.Header.Get("Authorization"))
	if !ok {
		return nil, refuse(CodeIllegalSign, "")
	}
	vendor, err := s.Terminals.Vendor(c.r.Context(), sn)
	if err != nil && !errors.Is(err, payment.ErrNotFound) {
		return nil, err
	}
	if !Verify(c.body, sign, vendor.Key) { // An unknown vendor has no key, which signs nothing.
		return nil, refuse(CodeIllegalSign, "")
	}
	r, err := DecodeActivate(c.body)
	if err != nil {
		return nil, err
	}
	switch {
	case r.AppID == "" && len(vendor.Apps) == 1:
		r.AppID = vendor.Apps[0] // Older clients name none (§2.3).
	case r.AppID == "":
		return nil, refuse(CodeInvalidParams, "app_id must not be empty")
	case !slices.Contains(vendor.Apps, r.AppID):
		return nil, refuse(CodeActivateFail, "%s: app_id is not one of the vendor's", messages[CodeActivateFail])
	}
	entry, key, err := s.Terminals.Activate(c.r.Context(), terminal.Activation{Protocol: Protocol, Code: r.Code, Vendor: vendor.Number, Once: c.settings.DeviceOnce,
		Device: terminal.Device{DeviceID: r.DeviceID, ClientNumber: r.ClientSN, Name: r.Name, OS: r.OSInfo, SDK: r.SDKVersion, App: r.AppID}})
	if err != nil {
		return nil, activateRefusal(err)
	}
	access.Note(c.r.Context(), slog.Int64("merchant", int64(entry.Merchant)), slog.String("tid", entry.Number))
	return handOut(ActivateSuccess, &entry, key), nil
}

// activateRefusal words why there is no terminal: one code for all, and a message that tells (§3.1).
func activateRefusal(err error) error {
	for _, known := range []error{terminal.ErrCode, terminal.ErrClientNumber, terminal.ErrDevice, terminal.ErrDisabled} {
		if errors.Is(err, known) {
			return refuse(CodeActivateFail, "%s: %v", messages[CodeActivateFail], err)
		}
	}
	return err
}

// handOut is the answer that holds a new key.
func handOut(outcome Outcome, e *terminal.Entry, key terminal.Secret) *Envelope {
	return &Envelope{ResultCode: ResultOK, Biz: &Biz{ResultCode: outcome, Credentials: &Credentials{TerminalSN: e.Number, TerminalKey: key,
		MerchantSN: e.Caller.Merchant.PublicID, MerchantName: e.Caller.Merchant.Name, StoreSN: e.Caller.Store.PublicID, StoreName: e.Caller.Store.Name}}}
}

// checkIn is operation 2: the terminal gets a new key (§3.2).
func (s *Server) checkIn(c *call) (*Envelope, error) {
	r, err := request(s, c, forCheckIn, DecodeCheckIn, func(r *CheckInRequest) string { return r.TerminalSN })
	if err != nil {
		return nil, err
	}
	if c.settings.CheckDevice && r.DeviceID != c.entry.Device.DeviceID {
		return nil, refuse(CodeInvalidTerminal, "%s: device_id is not that of the activation", messages[CodeInvalidTerminal])
	}
	key, err := s.Terminals.CheckIn(c.r.Context(), c.entry, terminal.Device{OS: r.OSInfo, SDK: r.SDKVersion})
	if err != nil {
		return nil, err
	}
	return handOut(CheckInSuccess, &c.entry, key), nil
}

// pay is operation 4: the customer's code was scanned (§3.4).
func (s *Server) pay(c *call) (*Envelope, error) {
	r, err := request(s, c, forTransactions, DecodePay, func(r *PayRequest) string { return r.TerminalSN })
	if err != nil {
		return nil, err
	}
	if r.Payway == "" {
		if r.Payway = recognise(s.barcodes(), r.DynamicID); r.Payway == "" {
			return nil, refuseBusiness(CodeInvalidBarcode, "")
		}
	}
	cmd, err := s.sale(c, &r.Order, SubPaywayBarcode)
	if err != nil {
		return nil, err
	}
	cmd.Flow, cmd.Instrument, cmd.Lifetime = payment.ByCode, payment.WalletCode(r.DynamicID), time.Duration(c.settings.PayWindow)
	ended := func(v payment.View) bool {
		return v.Payment.State != payment.Open && v.Attempt.State != payment.Reversing
	}
	v, err := s.sell(c, cmd, cmp.Or(s.PayWait, payWait), ended)
	if err != nil {
		return nil, err
	}
	return s.sold(c, &v, payOutcome)
}

// precreate is operation 5: the customer will scan a QR code of ours, or pay in a page (§3.5).
func (s *Server) precreate(c *call) (*Envelope, error) {
	r, err := request(s, c, forTransactions, DecodePrecreate, func(r *PrecreateRequest) string { return r.TerminalSN })
	if err != nil {
		return nil, err
	}
	cmd, err := s.sale(c, &r.Order, r.SubPayway)
	if err != nil {
		return nil, err
	}
	if r.PayerUID == "" && (r.SubPayway == SubPaywayWAP || r.SubPayway == SubPaywayMiniProgram) {
		e := refuseBusiness(CodeTradeFailed, "payer_uid must not be empty with sub_payway %s", r.SubPayway)
		e.Outcome = PrecreateFail // §3.5: an official demo sends none.
		return nil, e
	}
	cmd.Flow, cmd.Lifetime = payment.ByQR, time.Duration(c.settings.PrecreateWindow)
	if r.SubPayway != SubPaywayQR {
		cmd.Flow, cmd.Instrument = payment.ByWeb, payment.WebCheckout{ReturnURL: s.returnPage(&r.Order)}
	}
	made := func(v payment.View) bool {
		return v.Payment.State != payment.Open || v.Attempt.State == payment.Waiting
	}
	v, err := s.sell(c, cmd, cmp.Or(s.PrecreateWait, precreateWait), made)
	if err != nil {
		return nil, err
	}
	return s.sold(c, &v, precreateOutcome)
}

func (s *Server) barcodes() []Barcode {
	if s.Barcodes != nil {
		return s.Barcodes
	}
	return Barcodes
}

// nonceBytes is enough that no two requests ever have the same.
const nonceBytes = 16

// forwardedMax bounds what is kept of X-Forwarded-For.
const forwardedMax = 64

// sale begins the command of an order.
func (s *Server) sale(c *call, o *Order, subPayway string) (payment.SaleCommand, error) {
	method, err := method(o.Payway)
	if err != nil {
		return payment.SaleCommand{}, err
	}
	sum, err := amount(c.entry.Caller.Merchant, o.TotalAmount)
	if err != nil {
		return payment.SaleCommand{}, err
	}
	if o.NotifyURL != "" {
		if s.CheckTarget == nil {
			return payment.SaleCommand{}, refuse(CodeInvalidParams, "notify_url is not possible here")
		}
		if err := s.CheckTarget(address(o.NotifyURL)); err != nil {
			return payment.SaleCommand{}, refuse(CodeInvalidParams, "notify_url must not be called: %v", err)
		}
	}
	nonce, err := s.nonce()
	if err != nil {
		return payment.SaleCommand{}, err
	}
	forwarded := []rune(strings.ToValidUTF8(c.r.Header.Get("X-Forwarded-For"), ""))
	if len(forwarded) > forwardedMax {
		forwarded = forwarded[:forwardedMax]
	}
	return payment.SaleCommand{Caller: c.entry.Caller, Key: keyOf(o.ClientSN), Request: nonce, Numbering: numbering, Amount: sum, Method: method,
		Echo: memoOf(o, &c.entry, &c.settings, subPayway, string(forwarded)).encode()}, nil
}

// nonce stands for a request in the core: no two are equal, so that a client_sn that is used again is always refused, whatever the body
// (§6.1), and a refund_request_no always leads to what it stands for.
func (s *Server) nonce() ([]byte, error) {
	from := s.Rand
	if from == nil {
		from = rand.Reader
	}
	nonce := make([]byte, nonceBytes)
	_, err := io.ReadFull(from, nonce)
	return nonce, err
}

// sell takes an order and holds the caller until done holds, wait is over, or the server stops.
func (s *Server) sell(c *call, cmd payment.SaleCommand, wait time.Duration, done func(payment.View) bool) (payment.View, error) {
	ctx, stop := s.stop.Hold(c.r.Context(), s.Stopping)
	defer stop()
	start := time.Now()
	cmd.Wait = wait
	v, err := s.Core.Sell(ctx, cmd)
	if err == nil && !done(v) {
		var now payment.View
		if now, err = s.Core.Await(ctx, v.Payment.Merchant, v.Payment.ID, wait-time.Since(start), done); err == nil {
			v = now
		}
	}
	if err == nil || !released(ctx, c) {
		return v, err
	}
	kept, err := s.taken(c, cmd.Key, cmd.Request)
	if err == nil {
		v, _, err = s.Core.Trail(c.r.Context(), c.entry.Merchant, kept.Payment)
	}
	return v, err
}

// released reports whether a caller who was held still waits, but the server stops.
func released(ctx context.Context, c *call) bool {
	return ctx.Err() != nil && c.r.Context().Err() == nil
}

// taken finds what became of a request when the server stopped beside it. What was not taken is refused as such; it may be that another
// request has the key.
func (s *Server) taken(c *call, key payment.Key, request []byte) (payment.Kept, error) {
	kept, err := s.Core.Recall(c.r.Context(), c.entry.Merchant, key, request)
	if errors.Is(err, payment.ErrNotFound) || err == nil && kept.Payment == 0 {
		err = payment.ErrUnavailable
	}
	return kept, err
}

// sold answers a pay or precreate.
func (s *Server) sold(c *call, v *payment.View, outcomes map[OrderStatus]Outcome) (*Envelope, error) {
	var ops []payment.Operation
	if v.Attempt.State == payment.Reversing || v.Payment.Reserved > 0 {
		var err error
		if *v, ops, err = s.Core.Trail(c.r.Context(), v.Payment.Merchant, v.Payment.ID); err != nil {
			return nil, err
		}
	}
	st := stand(v, ops)
	outcome := outcomes[st.order]
	if outcome == PayFailInProgress && st.status == StatusFailError {
		outcome = PayFailError
	}
	d, err := s.told(c, v, st)
	if err != nil {
		return nil, err
	}
	if outcome == PrecreateSuccess && st.order == OrderCreated && d.QRCode == "" && len(d.WapPayRequest) == 0 {
		outcome = PrecreateFailRunning // The provider has not said what the customer should scan.
	}
	return answer(outcome, st, d), nil
}

// told is an order for the wire, with what only a server adds.
func (s *Server) told(c *call, v *payment.View, st standing) (*Data, error) {
	access.Note(c.r.Context(), slog.String("payment", v.Payment.Number()), slog.String("state", string(v.Payment.State)))
	d, err := orderData(v, st)
	if err != nil || d.SubPayway == SubPaywayBarcode {
		return d, err
	}
	if qr := v.Attempt.Result.QR; qr != "" {
		d.QRCode, d.QRCodeImageURL = qr, s.pictureURL(qr)
	}
	if page := v.Attempt.Result.Redirect; page != "" {
		d.WapPayRequest = newWriter().text("pay_url", page).end()
		if c.settings.WapPayRequestFormat == wapString {
			d.WapPayRequest = json.RawMessage(strictjson.Quote(string(d.WapPayRequest)))
		}
	}
	return d, nil
}

// answer is the envelope of an operation that was carried out, whatever came of it.
func answer(outcome Outcome, st standing, d *Data) *Envelope {
	text := st.text
	if st.code != "" {
		text = messages[st.code]
		if st.text != "" {
			text += ": " + st.text
		}
	}
	return &Envelope{ResultCode: ResultOK, Biz: &Biz{ResultCode: outcome, ErrorCode: st.code, ErrorMessage: text, Data: d}}
}

// order finds an order by its sn, and, when that is empty or not known, by its client_sn (§3.6). Orders of other merchants and protocols do
// not exist.
func (s *Server) order(c *call, sn, clientSN string) (payment.View, []payment.Operation, error) {
	ctx, m := c.r.Context(), c.entry.Merchant
	if id, ok := orderID(sn); ok {
		v, ops, err := s.Core.Trail(ctx, m, id)
		if err == nil && v.Payment.Protocol == Protocol {
			return v, ops, nil
		}
		if err != nil && !errors.Is(err, payment.ErrNotFound) {
			return v, nil, err
		}
	}
	if clientSN == "" {
		return payment.View{}, nil, payment.ErrNotFound
	}
	v, _, err := s.Core.Find(ctx, m, keyOf(clientSN))
	if err != nil {
		return v, nil, err
	}
	return s.Core.Trail(ctx, m, v.Payment.ID)
}

// query is operation 6: the order as its latest transaction left it, or one refund of it (§3.6).
func (s *Server) query(c *call) (*Envelope, error) {
	r, err := request(s, c, forTransactions, DecodeQuery, func(r *QueryRequest) string { return r.TerminalSN })
	if err != nil {
		return nil, err
	}
	v, ops, err := s.order(c, r.SN, r.ClientSN)
	if err != nil {
		return nil, err
	}
	st := stand(&v, ops)
	if r.RefundRequestNo != "" {
		key := refundKey(v.Payment.ID, r.RefundRequestNo)
		i := slices.IndexFunc(ops, func(o payment.Operation) bool { return o.Key == key })
		if i < 0 {
			return nil, refuseBusiness(CodeTradeNotExist, "")
		}
		st = ofRefund(st, &ops[i])
	}
	d, err := s.told(c, &v, st)
	if err != nil {
		return nil, err
	}
	return answer(Success, st, d), nil
}

// ofRefund is an order's standing told as one of its refunds.
func ofRefund(st standing, op *payment.Operation) standing {
	far := progressOf(op)
	st.latest, st.status, st.code, st.text = op, refundStatus[far], "", ""
	if far == refused {
		st.code, st.text = refundFailure(op.Failure), op.FailureText
	}
	return st
}

// refund is operation 7 (§3.7).
func (s *Server) refund(c *call) (*Envelope, error) {
	r, err := request(s, c, forTransactions, DecodeRefund, func(r *RefundRequest) string { return r.TerminalSN })
	if err != nil {
		return nil, err
	}
	v, _, err := s.order(c, r.SN, r.ClientSN)
	if err != nil {
		return nil, err
	}
	order := v.Payment
	nonce, err := s.nonce()
	if err != nil {
		return nil, err
	}
	ctx, stop := s.stop.Hold(c.r.Context(), s.Stopping)
	defer stop()
	wait := cmp.Or(s.RefundWait, refundWait)
	cmd := payment.RefundCommand{Caller: c.entry.Caller, Key: refundKey(order.ID, r.RefundRequestNo), Request: nonce, Payment: order.ID,
		Amount: money.New(r.RefundAmount, order.Amount.Currency()), Window: time.Duration(c.settings.RefundWindow), Wait: wait,
		Echo: memo{Terminal: c.entry.Number, Operator: r.Operator, ClientTSN: r.ClientTSN}.encode()}
	rv, err := s.Core.Refund(ctx, cmd)
	refund := rv.Refund.ID
	if reused, ok := errors.AsType[*payment.KeyReusedError](err); ok && reused.Refund != nil {
		refund, err = s.refundAgain(ctx, reused.Refund, r.RefundAmount, wait)
	}
	if err != nil && released(ctx, c) {
		var kept payment.Kept
		kept, err = s.taken(c, cmd.Key, cmd.Request)
		refund = kept.Operation
	}
	if errors.Is(err, payment.ErrExceeds) && s.refunded(c, order.ID) {
		return nil, refuseBusiness(CodeRefundInvalidState, "") // Nothing is left, for ever.
	}
	if err != nil {
		if e := refusal(err, refundWords); e != nil {
			return nil, e
		}
		return nil, err
	}
	return s.refundAnswer(c, order.ID, refund)
}

// refundAgain is a refund whose number was used before: what is done is not done again, what is under way is waited for (§3.7).
func (s *Server) refundAgain(ctx context.Context, op *payment.Operation, cents int64, wait time.Duration) (payment.ID, error) {
	if op.Amount.Minor() != cents || op.State == payment.Approved {
		return 0, refuseBusiness(CodeRefundNoop, "")
	}
	over := func(v payment.RefundView) bool { return v.Refund.Settled() || v.Refund.State == payment.Waiting }
	_, err := s.Core.AwaitRefund(ctx, op.Merchant, op.Payment, op.ID, wait, over)
	return op.ID, err
}

// refunded reports whether all of an order has been given back.
func (s *Server) refunded(c *call, id payment.ID) bool {
	v, _, err := s.Core.Trail(c.r.Context(), c.entry.Merchant, id)
	return err == nil && v.Payment.Refunded == v.Payment.Captured
}

func (s *Server) refundAnswer(c *call, order, refund payment.ID) (*Envelope, error) {
	v, ops, err := s.Core.Trail(c.r.Context(), c.entry.Merchant, order)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(ops, func(o payment.Operation) bool { return o.ID == refund })
	if i < 0 {
		return nil, payment.ErrNotFound
	}
	st := ofRefund(stand(&v, ops), &ops[i])
	d, err := s.told(c, &v, st)
	if err != nil {
		return nil, err
	}
	access.Note(c.r.Context(), slog.String("refund", ops[i].Number))
	return answer(refundOutcome[progressOf(&ops[i])], st, d), nil
}

// cancel is operations 8 and 9: an unpaid order is stopped, a paid one given back whole, on its day (§3.8).
func (s *Server) cancel(c *call) (*Envelope, error) {
	r, err := request(s, c, forTransactions, DecodeCancel, func(r *CancelRequest) string { return r.TerminalSN })
	if err != nil {
		return nil, err
	}
	v, ops, err := s.order(c, r.SN, r.ClientSN)
	if errors.Is(err, payment.ErrNotFound) && r.ClientSN != "" && utf8.RuneCountInString(r.ClientSN) <= clientSNMax {
		if v, ops, err = s.close(c, r.ClientSN); err == nil && v.Payment.State == payment.Cancelled {
			return s.cancelled(c, &r, &v, ops)
		}
	}
	if err != nil {
		return nil, err
	}
	switch st := stand(&v, ops); {
	case st.order == OrderCanceled, st.order == OrderPayCanceled:
		return nil, refuseBusiness(CodeCancelNoop, "")
	case st.order == OrderCanceling || st.order == OrderCancelError && v.Payment.State == payment.Cancelled:
		// Asked again: below is told how far it is.
	case v.Payment.State != payment.Captured:
		_, err = s.Core.Cancel(c.r.Context(), payment.CancelCommand{Caller: c.entry.Caller, Payment: v.Payment.ID, Window: always})
	}
	if errors.Is(err, payment.ErrConflict) || err == nil && v.Payment.State == payment.Captured { // Paid, perhaps just now.
		_, err = s.Core.Void(c.r.Context(), payment.VoidCommand{Caller: c.entry.Caller, Payment: v.Payment.ID, SameDay: true, Whole: true, Wait: cmp.Or(s.CancelWait, cancelWait)})
	}
	if err != nil {
		e := refusal(err, cancelWords)
		if e == nil {
			return nil, err
		}
		if e.Code == CodeCancelInvalidState {
			e.Message += ": " + v.Payment.Number() + " " + string(stand(&v, ops).order)
		}
		return nil, e
	}
	if v, ops, err = s.undone(c, v.Payment.ID); err != nil {
		return nil, err
	}
	return s.cancelled(c, &r, &v, ops)
}

// close keeps a client_sn closed that no order has, so that a pay which was overtaken is refused (§3.8). An order that came in just now is
// cancelled, and returned.
func (s *Server) close(c *call, clientSN string) (payment.View, []payment.Operation, error) {
	v, err := s.Core.Cancel(c.r.Context(), payment.CancelCommand{Caller: c.entry.Caller, Key: keyOf(clientSN), Window: always, CloseFor: tombstone})
	if errors.Is(err, payment.ErrConflict) { // It came in just now, and is paid.
		return s.order(c, "", clientSN)
	}
	if err != nil {
		return v, nil, err
	}
	return s.undone(c, v.Payment.ID)
}

// undone waits until what a cancel must undo is undone, and reads the order again.
func (s *Server) undone(c *call, id payment.ID) (payment.View, []payment.Operation, error) {
	ctx, stop := s.stop.Hold(c.r.Context(), s.Stopping)
	defer stop()
	_, err := s.Core.Await(ctx, c.entry.Merchant, id, cmp.Or(s.CancelWait, cancelWait), func(v payment.View) bool { return v.Attempt.State != payment.Reversing })
	if err != nil && ctx.Err() == nil {
		return payment.View{}, nil, err
	}
	return s.Core.Trail(c.r.Context(), c.entry.Merchant, id)
}

// cancelOutcome is how a cancel is answered, by the state that it left: of an order that was paid, and of one that was not (§3.8).
var cancelOutcome = map[OrderStatus]struct{ paid, unpaid Outcome }{
	OrderCanceled:    {CancelSuccess, CancelAbortSuccess},
	OrderCanceling:   {CancelInProgress, CancelAbortRunning},
	OrderCancelError: {CancelError, CancelAbortError},
	OrderPayError:    {CancelError, CancelAbortError},
}

// cancelled answers a cancel.
func (s *Server) cancelled(c *call, r *CancelRequest, v *payment.View, ops []payment.Operation) (*Envelope, error) {
	st := stand(v, ops)
	outcome := cancelOutcome[st.order].unpaid
	if v.Payment.Captured > 0 {
		outcome = cancelOutcome[st.order].paid
	}
	if outcome == "" {
		outcome = CancelError // Something else happened to it meanwhile.
	}
	if st.order != OrderCancelError {
		st.code, st.text = "", "" // That it is cancelled is what was asked for.
	}
	d, err := s.told(c, v, st)
	if err != nil {
		return nil, err
	}
	d.Operator = cmp.Or(r.Operator, d.Operator)
	return answer(outcome, st, d), nil
}

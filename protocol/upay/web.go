package upay

import (
	"crypto/hmac"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/skip2/go-qrcode"

	"github.com/tillgate/tillgate/internal/access"
	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/terminal"
)

// Limits of what browsers and terminals bring beside orders.
const (
	pictureMax    = 512 // bytes of a QR picture's content (§3.5.2)
	pictureSize   = 320 // pixels
	logMax        = 10 << 20
	logsKept      = 16              // of one terminal: the oldest go
	returnWait    = 3 * time.Second // for the wallet's word on a payment, when the browser comes back
	gatewayWait   = 10 * time.Second
	purposeQR     = "upay-qrcode"
	purposeReturn = "upay-return"
)

// pictureURL is where the picture of a QR code is. Only we can make such an address, so that strangers cannot have other pictures drawn.
func (s *Server) pictureURL(content string) string {
	q := url.Values{"content": {content}, "mac": {hex.EncodeToString(s.Vault.MAC(purposeQR, []byte(content)))}}
	return s.base() + "/upay/qrcode?" + q.Encode()
}

func (s *Server) base() string { return strings.TrimRight(s.PublicURL(), "/") }

// qrCode is operation 10: the picture of a QR code (§3.5.2).
func (s *Server) qrCode(w http.ResponseWriter, r *http.Request) {
	content := r.URL.Query().Get("content")
	mac, err := hex.DecodeString(r.URL.Query().Get("mac"))
	if err != nil || content == "" || len(content) > pictureMax || !hmac.Equal(mac, s.Vault.MAC(purposeQR, []byte(content))) {
		http.Error(w, "There is no picture of this: its address was not made here.", http.StatusForbidden)
		return
	}
	png, err := qrcode.Encode(content, qrcode.Medium, pictureSize)
	if err != nil {
		s.Log.Error("upay: QR picture", "error", err)
		http.Error(w, "The picture could not be drawn.", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "image/png")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(png)
}

// uploadLog is operation 3: any bytes, kept as a file for support (§3.3).
func (s *Server) uploadLog(c *call) (*Envelope, error) {
	if err := s.authenticate(c, logMax, forTransactions); err != nil {
		return nil, err
	}
	if err := c.isTerminals(c.entry.Number); err != nil {
		return nil, err
	}
	if s.LogDir == "" {
		return nil, refuse(CodeRequestFail, "logs are not kept here")
	}
	if err := keepLog(filepath.Join(s.LogDir, strconv.FormatInt(int64(c.entry.ID), 10)), s.now(), c.body); err != nil {
		return nil, err
	}
	return &Envelope{ResultCode: ResultOK, ErrorCode: "SUCCESS", ErrorMessage: "ok"}, nil
}

// keepLog writes a log into a terminal's folder, and drops the oldest beyond logsKept.
func keepLog(dir string, now time.Time, body []byte) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, now.UTC().Format("20060102T150405.000")+"-*.log")
	if err != nil {
		return err
	}
	_, err = f.Write(body)
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	files, err := os.ReadDir(dir) // In the order of their names, which begin with the time.
	for i := 0; i < len(files)-logsKept; i++ {
		err = errors.Join(err, os.Remove(filepath.Join(dir, files[i].Name())))
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil // Another upload of the same terminal was faster.
	}
	return err
}

// returnPage is where the wallet sends the customer's browser back to. Only we can make such an address.
func (s *Server) returnPage(o *Order) string {
	q := url.Values{"terminal_sn": {o.TerminalSN}, "client_sn": {o.ClientSN}, "mac": {s.returnMAC(o.TerminalSN, o.ClientSN)}}
	return s.base() + "/gateway/return?" + q.Encode()
}

func (s *Server) returnMAC(terminalSN, clientSN string) string {
	return hex.EncodeToString(s.Vault.MAC(purposeReturn, []byte(terminalSN+"\n"+clientSN)))
}

// page is what browsers see when they can be sent nowhere.
var page = template.Must(template.New("page").Parse(`<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{{.Title}}</title>
<h1>{{.Title}}</h1>
<p>{{.Text}}</p>
</html>
`))

func (s *Server) show(w http.ResponseWriter, status int, title, text string) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_ = page.Execute(w, struct{ Title, Text string }{title, text})
}

// gateway is operation 11: the browser brings a signed order, and is sent to the wallet (§3.9). What is not signed by the terminal leads
// nowhere: its return_url cannot be trusted either.
func (s *Server) gateway(w http.ResponseWriter, r *http.Request) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil || len(r.URL.RawQuery) > BodyMax {
		s.show(w, http.StatusBadRequest, string(CodeInvalidParams), "The address cannot be read.")
		return
	}
	c := &call{w: w, r: r, settings: s.defaults()}
	if err := s.authenticateForm(c, query); err != nil {
		s.explain(c, err)
		return
	}
	req, err := DecodeGateway(query)
	if err == nil {
		err = c.isTerminals(req.TerminalSN)
	}
	if err == nil {
		var v payment.View
		if v, err = s.enter(c, &req, query); err == nil {
			s.onward(c, &v)
			return
		}
	}
	if !isWebAddress(query.Get("return_url")) {
		s.explain(c, err)
		return
	}
	e := s.pageError(c, err)
	hint := url.Values{"is_success": {"F"}, "error_code": {string(e.Code)}, "error_message": {e.Message}, "terminal_sn": {c.entry.Number},
		"client_sn": {query.Get("client_sn")}}
	s.back(c, query.Get("return_url"), hint)
}

// authenticateForm finds the terminal that signed the parameters.
func (s *Server) authenticateForm(c *call, query url.Values) error {
	sn := query.Get("terminal_sn")
	if sn == "" || len(sn) > snMax {
		return refuse(CodeInvalidTerminal, "")
	}
	fits := func(k terminal.Secret) bool { return VerifyForm(query, k) }
	if err := s.found(c, sn, s.Terminals.Find); err != nil {
		return err
	}
	signed, err := s.signed(c, forTransactions, fits)
	if err == nil && !signed {
		if err = s.found(c, sn, s.Terminals.Fresh); err != nil {
			return err
		}
		if signed, err = s.signed(c, forTransactions, fits); err == nil && !signed {
			err = refuse(CodeIllegalSign, "")
		}
	}
	return err
}

// agents are the wallets' browsers, by a word of their User-Agent.
var agents = []struct{ word, payway string }{{"MicroMessenger", PaywayWechat}, {"AlipayClient", PaywayAlipay}, {"UnionPay", PaywayUnionPay}}

// enter makes the order, or finds the one that the same address made before: browsers load pages again.
func (s *Server) enter(c *call, r *GatewayRequest, query url.Values) (payment.View, error) {
	if r.Payway == "" {
		r.Payway = PaywayWechat // As formerly, where the browser tells nothing.
		for _, a := range agents {
			if strings.Contains(c.r.UserAgent(), a.word) {
				r.Payway = a.payway
				break
			}
		}
	}
	cmd, err := s.sale(c, &r.Order, SubPaywayWAP)
	if err != nil {
		return payment.View{}, err
	}
	m := memoOf(&r.Order, &c.entry, &c.settings, SubPaywayWAP, "")
	m.ReturnURL = r.ReturnURL
	cmd.Echo = m.encode()
	cmd.Request = []byte("upay gateway\n" + FormString(query))
	cmd.Flow, cmd.Instrument, cmd.Lifetime = payment.ByWeb, payment.WebCheckout{ReturnURL: s.returnPage(&r.Order)}, time.Duration(c.settings.PrecreateWindow)
	made := func(v payment.View) bool {
		return v.Payment.State != payment.Open || v.Attempt.State == payment.Waiting
	}
	return s.sell(c, cmd, gatewayWait, made)
}

// onward sends the browser to the wallet, or back when there is nothing to do there.
func (s *Server) onward(c *call, v *payment.View) {
	access.Note(c.r.Context(), slog.String("payment", v.Payment.Number()), slog.String("state", string(v.Payment.State)))
	if page := v.Attempt.Result.Redirect; v.Payment.State == payment.Open && page != "" {
		redirect(c.w, page)
		return
	}
	s.comeBack(c, v)
}

// redirect is http.Redirect without its rewriting of what is absolute already.
func redirect(w http.ResponseWriter, to string) {
	h := w.Header()
	h.Set("Location", to)
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	w.WriteHeader(http.StatusFound)
}

// gatewayReturn is where browsers come back from the wallet. A browser proves nothing: what is told is what the core knows.
func (s *Server) gatewayReturn(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	terminalSN, clientSN := q.Get("terminal_sn"), q.Get("client_sn")
	c := &call{w: w, r: r, settings: s.defaults()}
	if !hmac.Equal([]byte(q.Get("mac")), []byte(s.returnMAC(terminalSN, clientSN))) {
		s.explain(c, refuse(CodeIllegalSign, ""))
		return
	}
	err := s.found(c, terminalSN, s.Terminals.Find)
	var v payment.View
	if err == nil {
		v, _, err = s.Core.Find(r.Context(), c.entry.Merchant, keyOf(clientSN))
	}
	if err != nil {
		s.explain(c, err)
		return
	}
	ctx, stop := s.stop.Hold(r.Context(), s.Stopping)
	defer stop()
	if now, err := s.Core.Await(ctx, v.Payment.Merchant, v.Payment.ID, returnWait, func(v payment.View) bool { return v.Payment.State != payment.Open }); err == nil {
		v = now
	}
	s.comeBack(c, &v)
}

// comeBack sends the browser to the shop's page with a hint of what happened, or tells it here when the order came with no such page.
func (s *Server) comeBack(c *call, v *payment.View) {
	m, err := readMemo(v.Payment.Echo)
	if err != nil {
		s.explain(c, err)
		return
	}
	st := stand(v, nil)
	paid := st.order == OrderPaid
	if m.ReturnURL == "" {
		title := map[bool]string{true: "Paid", false: "Not paid"}[paid]
		if st.order == OrderCreated {
			title = "Not paid yet"
		}
		s.show(c.w, http.StatusOK, title, "You can go back to the shop.")
		return
	}
	d, err := orderData(v, st)
	if err != nil {
		s.explain(c, err)
		return
	}
	hint := url.Values{"is_success": {"T"}, "terminal_sn": {d.TerminalSN}, "sn": {d.SN}, "trade_no": {d.TradeNo}, "client_sn": {d.ClientSN},
		"status": {map[bool]string{true: "SUCCESS", false: "FAIL"}[paid]}, "total_amount": {strconv.FormatInt(d.TotalAmount, 10)},
		"subject": {d.Subject}, "operator": {d.Operator}, "reflect": {d.Reflect}}
	if m.Payway == PaywayWechat { // Deprecated, and WeChat's only.
		hint.Set("result_code", map[bool]string{true: "get_brand_wcpay_request:ok", false: "get_brand_wcpay_request:cancel"}[paid])
		hint.Set("result_message", map[bool]string{true: "ok", false: "cancel"}[paid])
	}
	s.back(c, m.ReturnURL, hint)
}

// back signs a hint with the terminal's current key and sends the browser to the shop. The hint is no proof: the shop queries (§3.9).
func (s *Server) back(c *call, to string, hint url.Values) {
	keys, err := s.Terminals.Keys(c.entry)
	if err == nil && len(keys) == 0 {
		err = fmt.Errorf("terminal %s has no key: %w", c.entry.Number, payment.ErrNotFound)
	}
	u, parseErr := url.Parse(to)
	if err = errors.Join(err, parseErr); err != nil {
		s.explain(c, err)
		return
	}
	for name := range hint {
		if hint.Get(name) == "" {
			hint.Del(name)
		}
	}
	hint.Set("sign", SignForm(hint, keys[0].Secret))
	q := hint.Encode()
	if u.RawQuery != "" {
		q = u.RawQuery + "&" + q
	}
	u.RawQuery = q
	redirect(c.w, u.String())
}

// pageError is what a browser is told of an error.
func (s *Server) pageError(c *call, err error) *Error {
	e := refusal(err, nil)
	if e == nil {
		e = refuse(CodeUnknownSystem, "")
		s.Log.Error("upay: page failed", "path", c.r.URL.Path, "error", err)
	}
	access.Note(c.r.Context(), slog.String("failure", string(e.Code)))
	return e
}

func (s *Server) explain(c *call, err error) {
	e := s.pageError(c, err)
	s.show(c.w, http.StatusBadRequest, string(e.Code), e.Message)
}

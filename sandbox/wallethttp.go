package sandbox

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tillgate/tillgate/money"
)

// handler is a call of the network; its error is told by serve.
type handler func(w http.ResponseWriter, r *http.Request) error

// Handler serves the network's wire, the phone page and the books.
func (n *Network) Handler() http.Handler {
	mux := http.NewServeMux()
	for pattern, h := range map[string]handler{
		"POST /v1/payments":                    n.member(n.servePay),
		"GET /v1/payments/{reference}":         n.member(n.servePayment),
		"POST /v1/payments/{reference}/cancel": n.member(n.serveCancel),
		"POST /v1/refunds":                     n.member(n.serveRefund),
		"GET /v1/refunds/{reference}":          n.member(n.serveRefundStatus),
		"GET /v1/events":                       n.member(n.serveEvents),
		"/v1/":                                 n.member(func(http.ResponseWriter, *http.Request) error { return errNoRoute }),
		"GET /books":                           n.serveBooks,
		"GET /healthz":                         n.serveHealth,
	} {
		mux.Handle(pattern, n.serve(h, n.tellJSON))
	}
	n.routeCards(mux)
	for pattern, h := range map[string]handler{
		"GET /pay/{token}":          n.servePhone,
		"POST /pay/{token}/approve": n.serveTap(stateApproved, ""),
		"POST /pay/{token}/decline": n.serveTap(stateDeclined, "customer_cancelled"),
		"GET /{$}":                  n.serveHome,
	} {
		mux.Handle(pattern, n.serve(h, n.tellPage))
	}
	return mux
}

// serve answers errors in the way that fits the caller, and logs what is our fault.
func (n *Network) serve(h handler, tell func(http.ResponseWriter, *refusal)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := h(w, r)
		if err == nil {
			return
		}
		var no *refusal
		if !errors.As(err, &no) {
			n.log.Error("wallet network", "call", r.Pattern, "error", err)
			no = &refusal{http.StatusInternalServerError, "internal", "", "the network failed; its log says why"}
		}
		tell(w, no)
	})
}

func (n *Network) tellJSON(w http.ResponseWriter, no *refusal) {
	if err := writeJSON(w, no.status, no); err != nil {
		n.log.Error("wallet network", "error", err)
	}
}

// member lets only those in who know the key.
func (n *Network) member(h handler) handler {
	want := sha256.Sum256([]byte(n.cfg.Key))
	return func(w http.ResponseWriter, r *http.Request) error {
		key, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		got := sha256.Sum256([]byte(key)) // Hashed, so that the comparison does not tell the length.
		if !ok || subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
			w.Header().Set("WWW-Authenticate", "Bearer")
			return errUnauthorized
		}
		return h(w, r)
	}
}

func (n *Network) servePay(w http.ResponseWriter, r *http.Request) error {
	var ask payRequest
	if err := decode(w, r, &ask); err != nil {
		return err
	}
	if err := ask.check(); err != nil {
		return err
	}
	p, f, err := n.pay(ask)
	if err != nil {
		return err
	}
	return n.deliver(w, r, f, n.payAnswer(p), func() (any, error) { return n.tellPayment(ask.Reference) })
}

func (n *Network) servePayment(w http.ResponseWriter, r *http.Request) error {
	answer, err := n.tellPayment(r.PathValue("reference"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, answer)
}

func (n *Network) serveCancel(w http.ResponseWriter, r *http.Request) error {
	reference := r.PathValue("reference")
	var ask cancelRequest
	if err := decode(w, r, &ask); err != nil {
		return err
	}
	if err := checkReference("reference", reference); err != nil {
		return err
	}
	p, unseen, f, err := n.cancel(reference, ask.OnlyIfUnpaid)
	if err != nil {
		return err
	}
	if unseen {
		return writeJSON(w, http.StatusOK, unseenAnswer{reference, stateCancelled, true})
	}
	return n.deliver(w, r, f, n.payAnswer(p), func() (any, error) { return n.tellPayment(reference) })
}

func (n *Network) serveRefund(w http.ResponseWriter, r *http.Request) error {
	var ask refundRequest
	if err := decode(w, r, &ask); err != nil {
		return err
	}
	if err := ask.check(); err != nil {
		return err
	}
	refund, f, err := n.refund(ask)
	if err != nil {
		return err
	}
	return n.deliver(w, r, f, newRefundAnswer(refund), func() (any, error) { return n.tellRefund(ask.Reference) })
}

func (n *Network) serveRefundStatus(w http.ResponseWriter, r *http.Request) error {
	answer, err := n.tellRefund(r.PathValue("reference"))
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, answer)
}

// tellPayment is the answer about a payment as it is now.
func (n *Network) tellPayment(reference string) (any, error) {
	p, unseen, err := n.payment(reference)
	if err != nil {
		return nil, err
	}
	if unseen {
		return unseenAnswer{reference, stateCancelled, true}, nil
	}
	return n.payAnswer(p), nil
}

// tellRefund is the answer about a refund as it is now.
func (n *Network) tellRefund(reference string) (any, error) {
	r, err := n.refundStatus(reference)
	if err != nil {
		return nil, err
	}
	return newRefundAnswer(r), nil
}

// payAnswer words a payment for members. What belongs to its approval is also told when it was cancelled after that.
func (n *Network) payAnswer(p payment) payAnswer {
	a := payAnswer{
		Reference:   p.Ask.Reference,
		ID:          fmt.Sprintf("wp%012d", p.Seq),
		State:       p.State,
		Reason:      p.Reason,
		ReasonText:  reasonTexts[p.Reason],
		AmountMinor: p.Ask.AmountMinor,
		Currency:    p.Ask.Currency,
		Wallet:      p.Ask.Wallet,
		Attach:      p.Ask.Attach,
	}
	switch {
	case p.Token == "":
	case p.Ask.Flow == flowWeb:
		a.RedirectURL = n.cfg.PublicURL() + "/pay/" + p.Token
	default:
		a.QRURL = n.cfg.PublicURL() + "/pay/" + p.Token
	}
	if p.PaidMS != 0 {
		a.PayerID = payerID(p.Ask)
		a.ProviderReference = providerReference(p.PaidMS, p.Seq)
		a.PaidAtMS = p.PaidMS / 1000 * 1000
		a.Exchange = newExchange(p.amount(), p.Rate)
	}
	return a
}

// newRefundAnswer words a refund for members.
func newRefundAnswer(r refund) refundAnswer {
	a := refundAnswer{
		Reference:         r.Ask.Reference,
		OriginalReference: r.Ask.OriginalReference,
		State:             r.State,
		Reason:            r.Reason,
		ReasonText:        reasonTexts[r.Reason],
		AmountMinor:       r.Ask.AmountMinor,
		Currency:          r.Ask.Currency,
		Attach:            r.Ask.Attach,
		ProviderReference: r.ProviderReference,
		RefundedAtMS:      r.RefundedMS,
	}
	if r.RefundedMS != 0 {
		a.Exchange = newExchange(money.New(r.Ask.AmountMinor, money.MustCurrency(r.Ask.Currency)), r.Rate)
	}
	return a
}

func newExchange(a money.Amount, rate string) *exchange {
	if rate == "" {
		return nil
	}
	return &exchange{rate, yuan.Lower(), toYuan(a, rate)}
}

// garbage is an answer that was damaged on its way.
const garbage = `{"state":"appr` + "\x00\xff\x1b" + `]}<html>`

// deliver sends an answer, or does to it what the fault says. Nothing is locked here: it may take a minute.
func (n *Network) deliver(w http.ResponseWriter, r *http.Request, f fault, answer any, refresh func() (any, error)) error {
	switch f {
	case faultError:
		return errTrigger
	case faultCut:
		panic(http.ErrAbortHandler) // The server closes the connection without a word.
	case faultSilent:
		n.hold(r, holdMax)
		panic(http.ErrAbortHandler)
	case faultGarbled:
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(garbage)) // Nobody can be told if it fails.
		return nil
	case faultLate:
		if !n.hold(r, lateBy) {
			panic(http.ErrAbortHandler)
		}
		var err error
		if answer, err = refresh(); err != nil {
			return err
		}
	}
	return writeJSON(w, http.StatusOK, answer)
}

// hold waits, and reports whether the caller and the network are still there.
func (n *Network) hold(r *http.Request, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.Context().Done():
	case <-n.done:
	}
	return false
}

// waitMax is the longest poll: below the usual idle limits of proxies.
const waitMax = 25 * time.Second

func (n *Network) serveEvents(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	after, err := number(query.Get("after"))
	if err != nil {
		return invalid("after", "must be a whole number")
	}
	waitMS, err := number(query.Get("wait_ms"))
	if err != nil {
		return invalid("wait_ms", "must be a whole number")
	}
	deadline := time.NewTimer(time.Duration(min(waitMS, uint64(waitMax.Milliseconds()))) * time.Millisecond)
	defer deadline.Stop()
	for {
		answer, more := n.events(query.Get("epoch"), after)
		if answer.Reset || len(answer.Events) > 0 {
			return writeJSON(w, http.StatusOK, answer)
		}
		select {
		case <-more:
			continue
		case <-deadline.C:
		case <-n.done:
		case <-r.Context().Done():
		}
		return writeJSON(w, http.StatusOK, answer)
	}
}

// number reads a whole number; empty is 0.
func number(s string) (uint64, error) {
	if s == "" {
		return 0, nil
	}
	return strconv.ParseUint(s, 10, 63)
}

// booksChunk is how many movements are read at a time: the whole book may have millions, and payments must not wait for a reader.
const booksChunk = 512

func (n *Network) serveBooks(w http.ResponseWriter, r *http.Request) error {
	n.mu.Lock()
	if err := n.settle(n.cfg.Now().UnixMilli()); err != nil {
		n.mu.Unlock()
		return err
	}
	if reference := r.URL.Query().Get("reference"); reference != "" {
		list := n.book.find(reference)
		n.mu.Unlock()
		return writeJSON(w, http.StatusOK, list)
	}
	left := len(n.book.entries)
	n.mu.Unlock()

	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	out := bufio.NewWriter(w)
	enc := json.NewEncoder(out)
	sep := "["
	for left > 0 {
		for _, m := range n.chunk(left) {
			_, _ = out.WriteString(sep) // The writer keeps the first error for Flush.
			if err := enc.Encode(m); err != nil {
				return nil // The reader has left in the middle.
			}
			sep, left = ",", left-1
		}
	}
	if sep == "[" {
		_, _ = out.WriteString(sep)
	}
	_, _ = out.WriteString("]\n")
	_ = out.Flush() // As above.
	return nil
}

// chunk tells the movements below the given one, newest first.
func (n *Network) chunk(left int) []movement {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := make([]movement, 0, booksChunk)
	for i := left - 1; i >= 0 && len(list) < booksChunk; i-- {
		list = append(list, n.book.movement(i))
	}
	return list
}

func (n *Network) serveHealth(w http.ResponseWriter, _ *http.Request) error {
	return writeJSON(w, http.StatusOK, map[string]string{"status": "ok"})
}

//go:embed wallet.html
var walletHTML embed.FS

// pages are the three pages: "phone", "message" and "home".
var pages = template.Must(template.ParseFS(walletHTML, "wallet.html"))

// phoneView is what the phone page shows.
type phoneView struct {
	Wallet, Merchant, Amount, Currency string
	Token                              string
	Waiting, Paid                      bool
	Title, Text                        string // The result, if it is not waiting.
	Back                               string // Address of the shop, if the customer came from one.
}

func (n *Network) servePhone(w http.ResponseWriter, r *http.Request) error {
	p, err := n.phone(r.PathValue("token"))
	if err != nil {
		return err
	}
	v := phoneView{Wallet: walletByName(p.Ask.Wallet).title, Merchant: p.Ask.MerchantName, Amount: p.amount().String(),
		Currency: p.Ask.Currency, Token: p.Token, Back: p.Ask.ReturnURL}
	status := http.StatusOK
	switch p.State {
	case stateWaiting:
		v.Waiting = true
	case stateApproved:
		v.Paid, v.Title, v.Text = true, "Paid", "You can put your phone away."
		if v.Back != "" {
			v.Text = "The shop knows it."
		}
	case stateDeclined:
		v.Title, v.Text = "Not paid", reasonTexts[p.Reason]
	default:
		status = http.StatusGone
		v.Title, v.Text = "No longer valid", reasonTexts[p.Reason]
	}
	return writePage(w, status, "phone", v)
}

// serveTap is one of the two buttons. It always leads back: to the shop, exactly as it asked, or to the page, which shows what is true.
func (n *Network) serveTap(state, reason string) handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		token := r.PathValue("token")
		p, err := n.act(token, state, reason)
		if err != nil {
			return err
		}
		to := "/pay/" + token
		if p.Ask.ReturnURL != "" {
			to = p.Ask.ReturnURL
		}
		w.Header().Set("Referrer-Policy", "no-referrer") // The shop need not learn the page's address.
		http.Redirect(w, r, to, http.StatusSeeOther)
		return nil
	}
}

func (n *Network) serveHome(w http.ResponseWriter, _ *http.Request) error {
	return writePage(w, http.StatusOK, "home", walletTitles())
}

// tellPage answers people, who need no field names.
func (n *Network) tellPage(w http.ResponseWriter, no *refusal) {
	v := phoneView{Title: "Something went wrong", Text: "The wallet network could not do that. Try again."}
	if no.status == http.StatusNotFound {
		v.Title, v.Text = "Unknown payment", "There is no payment behind this link. Scan the code again."
	}
	if err := writePage(w, no.status, "message", v); err != nil {
		n.log.Error("wallet network", "error", err)
	}
}

// writePage renders before it writes the status. The page needs no scripts, and gets none.
func writePage(w http.ResponseWriter, status int, name string, v any) error {
	var page bytes.Buffer
	if err := pages.ExecuteTemplate(&page, name, v); err != nil {
		return fmt.Errorf("render %s: %w", name, err)
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action "+formAction(v)+
		"; frame-ancestors 'none'; base-uri 'none'")
	h.Set("Referrer-Policy", "no-referrer") // The address is the customer's right to act.
	w.WriteHeader(status)
	_, _ = w.Write(page.Bytes()) // The reader may have left.
	return nil
}

// formAction says where the page's forms may lead. Browsers hold redirects against it too, and nobody knows where the shop's own go.
func formAction(v any) string {
	if phone, ok := v.(phoneView); ok && phone.Back != "" {
		return "'self' http: https:"
	}
	return "'self'"
}

// walletTitles lists the wallets for the home page.
func walletTitles() []string {
	list := make([]string, 0, len(wallets))
	for _, w := range wallets {
		list = append(list, w.title)
	}
	return list
}

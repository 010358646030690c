package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"unicode"
	"unicode/utf8"

	"github.com/tillgate/tillgate/money"
)

// Limits of what members may send.
const (
	bodyMax         = 64 << 10            // Bytes of a request; real ones have a few hundred.
	referenceMax    = 64                  // As in Alipay's out_trade_no.
	merchantIDMax   = 64                  // Room for any numbering.
	merchantNameMax = 128                 // It must fit on the phone page.
	codeMax         = 512                 // EMVCo codes are the longest.
	attachMax       = 256                 // Opaque to us, repeated in every event.
	returnURLMax    = 8 << 10             // More than browsers need; it must fit into a header.
	amountMax       = 1_000_000_000_000   // Minor units; keeps every sum and exchange far from overflow.
	lifetimeMax     = 24 * 60 * 60 * 1000 // Milliseconds: nobody stands at a till for a day. Also the lifetime of payments that name none.
)

// payRequest is the body of POST /v1/payments. It holds nothing but comparable values: two equal requests are the same request.
type payRequest struct {
	Reference    string `json:"reference"`
	MerchantID   string `json:"merchant_id"`
	MerchantName string `json:"merchant_name"`
	AmountMinor  int64  `json:"amount_minor"`
	Currency     string `json:"currency"`
	Wallet       string `json:"wallet"`
	Flow         string `json:"flow"`
	Code         string `json:"code,omitempty"`
	ReturnURL    string `json:"return_url,omitempty"`
	Attach       string `json:"attach,omitempty"`
	LifetimeMS   int64  `json:"lifetime_ms,omitempty"`
}

// refundRequest is the body of POST /v1/refunds, comparable as payRequest is.
type refundRequest struct {
	Reference         string `json:"reference"`
	OriginalReference string `json:"original_reference"`
	AmountMinor       int64  `json:"amount_minor"`
	Currency          string `json:"currency"`
	Attach            string `json:"attach,omitempty"`
}

// cancelRequest is the body of POST /v1/payments/{reference}/cancel.
type cancelRequest struct {
	OnlyIfUnpaid bool `json:"only_if_unpaid"`
}

// payAnswer is what members are told of a payment.
type payAnswer struct {
	Reference         string    `json:"reference"`
	ID                string    `json:"id"`
	State             string    `json:"state"`
	Reason            string    `json:"reason,omitempty"`
	ReasonText        string    `json:"reason_text,omitempty"`
	AmountMinor       int64     `json:"amount_minor"`
	Currency          string    `json:"currency"`
	Wallet            string    `json:"wallet"`
	Attach            string    `json:"attach"`
	QRURL             string    `json:"qr_url,omitempty"`
	RedirectURL       string    `json:"redirect_url,omitempty"`
	PayerID           string    `json:"payer_id,omitempty"`
	ProviderReference string    `json:"provider_reference,omitempty"`
	PaidAtMS          int64     `json:"paid_at_ms,omitempty"`
	Exchange          *exchange `json:"exchange,omitempty"`
}

// unseenAnswer is what members are told of a reference that was cancelled before any payment came.
type unseenAnswer struct {
	Reference string `json:"reference"`
	State     string `json:"state"`
	Unseen    bool   `json:"unseen"`
}

// refundAnswer is what members are told of a refund.
type refundAnswer struct {
	Reference         string    `json:"reference"`
	OriginalReference string    `json:"original_reference"`
	State             string    `json:"state"`
	Reason            string    `json:"reason,omitempty"`
	ReasonText        string    `json:"reason_text,omitempty"`
	AmountMinor       int64     `json:"amount_minor"`
	Currency          string    `json:"currency"`
	Attach            string    `json:"attach"`
	ProviderReference string    `json:"provider_reference,omitempty"`
	RefundedAtMS      int64     `json:"refunded_at_ms,omitempty"`
	Exchange          *exchange `json:"exchange,omitempty"`
}

// exchange is what the customer pays, or gets back, in the wallet's own currency.
type exchange struct {
	Rate        string `json:"rate"`
	Currency    string `json:"currency"`
	AmountMinor int64  `json:"amount_minor"`
}

// movement is one row of GET /books.
type movement struct {
	ID                string `json:"id"`
	Kind              string `json:"kind"`
	Reference         string `json:"reference"`
	OriginalReference string `json:"original_reference,omitempty"`
	AmountMinor       int64  `json:"amount_minor"`
	Currency          string `json:"currency"`
	State             string `json:"state"`
	Wallet            string `json:"wallet"`
	AtMS              int64  `json:"at_ms"`
}

// refusal is an error that the caller is told.
type refusal struct {
	status int
	Code   string `json:"error"`
	Field  string `json:"field,omitempty"`
	Text   string `json:"text"`
}

func (r *refusal) Error() string { return r.Code + ": " + r.Text }

var (
	errUnauthorized = &refusal{http.StatusUnauthorized, "unauthorized", "", "Authorization: this call needs the network's key as a bearer token"}
	errNotFound     = &refusal{http.StatusNotFound, "not_found", "reference", "reference: the network does not know it"}
	errNoRoute      = &refusal{http.StatusNotFound, "no_such_call", "", "the network has no such call; see its description"}
	errConflict     = &refusal{http.StatusConflict, "reference_conflict", "reference", "reference: it was used before for something else"}
	errRefunded     = &refusal{http.StatusConflict, "already_refunded", "", "something of the payment was refunded already; refund the rest"}
	errTrigger      = &refusal{http.StatusInternalServerError, "internal", "", "the network failed, as the trigger says"}
)

// invalid refuses a field; the text names it too, for those who log only the text.
func invalid(field, format string, args ...any) *refusal {
	return &refusal{http.StatusBadRequest, "invalid_request", field, field + ": " + fmt.Sprintf(format, args...)}
}

// decode reads one JSON object and nothing else. Fields that the network does not know are refused: a misspelt one must not be ignored.
func decode(w http.ResponseWriter, r *http.Request, into any) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, bodyMax))
	if err != nil {
		var tooLong *http.MaxBytesError
		if errors.As(err, &tooLong) {
			return &refusal{http.StatusRequestEntityTooLarge, "invalid_request", "", fmt.Sprintf("body: longer than %d bytes", bodyMax)}
		}
		return &refusal{http.StatusBadRequest, "invalid_request", "", "body: it broke off"}
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) && wrong.Field != "" {
			return invalid(wrong.Field, "a JSON %s is not right here", wrong.Value)
		}
		return &refusal{http.StatusBadRequest, "invalid_request", "", "body: " + err.Error()}
	}
	if _, err := dec.Token(); err != io.EOF {
		return &refusal{http.StatusBadRequest, "invalid_request", "", "body: more than one JSON value"}
	}
	return nil
}

// check holds a payment request against the limits and brings its currency into capitals.
func (q *payRequest) check() error {
	if err := checkReference("reference", q.Reference); err != nil {
		return err
	}
	if err := checkText("merchant_id", q.MerchantID, 1, merchantIDMax); err != nil {
		return err
	}
	if err := checkText("merchant_name", q.MerchantName, 1, merchantNameMax); err != nil {
		return err
	}
	if err := checkMoney(q.AmountMinor, &q.Currency); err != nil {
		return err
	}
	if walletByName(q.Wallet) == nil {
		return invalid("wallet", "%q is not one of the network's wallets", q.Wallet)
	}
	switch q.Flow {
	case flowCode:
		if err := checkText("code", q.Code, 1, codeMax); err != nil {
			return err
		}
	case flowWeb:
		if err := checkReturnURL("return_url", q.ReturnURL); err != nil {
			return err
		}
	case flowQR:
	default:
		return invalid("flow", "must be code, qr or web")
	}
	if q.Code != "" && q.Flow != flowCode {
		return invalid("code", "only flow code has one")
	}
	if q.ReturnURL != "" && q.Flow != flowWeb {
		return invalid("return_url", "only flow web has one")
	}
	if q.LifetimeMS < 0 || q.LifetimeMS > lifetimeMax {
		return invalid("lifetime_ms", "must be from 1 to %d", lifetimeMax)
	}
	return checkText("attach", q.Attach, 0, attachMax)
}

// check holds a refund request against the limits and brings its currency into capitals.
func (q *refundRequest) check() error {
	if err := checkReference("reference", q.Reference); err != nil {
		return err
	}
	if err := checkReference("original_reference", q.OriginalReference); err != nil {
		return err
	}
	if err := checkMoney(q.AmountMinor, &q.Currency); err != nil {
		return err
	}
	return checkText("attach", q.Attach, 0, attachMax)
}

// checkReference accepts what can stand in a URL's path as it is: letters, digits and ._:- after a letter or digit.
func checkReference(field, s string) error {
	if s == "" || len(s) > referenceMax {
		return invalid(field, "must have 1 to %d characters", referenceMax)
	}
	for i := range len(s) {
		c := s[i]
		alnum := c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
		if !alnum && (i == 0 || c != '.' && c != '_' && c != ':' && c != '-') {
			return invalid(field, "may hold letters, digits and ._:- and must start with a letter or digit")
		}
	}
	return nil
}

// checkReturnURL accepts absolute http and https addresses.
func checkReturnURL(field, s string) error {
	if err := checkText(field, s, 1, returnURLMax); err != nil {
		return err
	}
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return invalid(field, "must be an absolute http or https address")
	}
	return nil
}

// checkText accepts UTF-8 without control characters; lengths are in bytes.
func checkText(field, s string, minBytes, maxBytes int) error {
	if len(s) < minBytes || len(s) > maxBytes {
		return invalid(field, "must have %d to %d bytes", minBytes, maxBytes)
	}
	if !utf8.ValidString(s) {
		return invalid(field, "is not UTF-8")
	}
	for _, c := range s {
		if unicode.IsControl(c) {
			return invalid(field, "holds a control character")
		}
	}
	return nil
}

// checkMoney accepts amounts above zero in a currency of the rate table.
func checkMoney(minor int64, currency *string) error {
	if minor <= 0 || minor > amountMax {
		return invalid("amount_minor", "must be from 1 to %d", int64(amountMax))
	}
	cur, err := money.ParseCurrency(*currency)
	if err != nil || rates[cur.Code()] == "" {
		return invalid("currency", "%q is not one of the network's currencies", *currency)
	}
	*currency = cur.Code()
	return nil
}

// writeJSON encodes before it writes the status, so that a failure can still be told.
func writeJSON(w http.ResponseWriter, status int, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(body) // The caller may have left; there is nobody to tell.
	return nil
}

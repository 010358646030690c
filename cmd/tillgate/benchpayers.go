package main

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tillgate/tillgate/card"
	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/protocol/upay"
	"github.com/tillgate/tillgate/protocol/upp"
	"github.com/tillgate/tillgate/protocol/uqpay"
	"github.com/tillgate/tillgate/terminal"
)

// The tills of a bench. Those of Upay and UQPAY are real terminals: they activate or register themselves over the protocol before the load
// begins. Till i stands at merchant i, counted round.

// benchClient is the client id of a bench's merchant at UQPAY, and benchKey its API key.
func benchClient(i int) string       { return fmt.Sprintf("bench-%d", i) }
func (r *round) benchKey(int) string { return "uq_" + r.key }

// provisionTerminals makes what a merchant's terminals need to let themselves in.
func (r *round) provisionTerminals(ctx context.Context, t *tool, i int) error {
	if r.protocol == upp.Protocol {
		return nil
	}
	m, err := t.store.FindMerchantByPublicID(ctx, merchantID(i))
	if err != nil {
		return err
	}
	if r.protocol == uqpay.Protocol {
		secret, profile := uqpay.Enrol(t.vault, benchClient(i), r.benchKey(i), payment.Profile{NoRateLimit: true, ManyTokens: true})
		_, err = t.store.AddCredential(ctx, payment.Credential{Protocol: uqpay.Protocol, Merchant: m.ID, Name: "bench", Profile: profile},
			payment.CredentialHash(t.vault, uqpay.Protocol, secret))
		return err
	}
	stores, err := t.store.Stores(ctx, m.ID, 0, 1)
	if err != nil || len(stores) == 0 {
		return errors.Join(err, errors.New("a merchant without a store"))
	}
	code, err := t.terminals.NewCode(ctx, terminal.Code{Merchant: m.ID, Store: stores[0].ID, Protocol: upay.Protocol})
	r.codesMu.Lock()
	defer r.codesMu.Unlock()
	if r.codes == nil {
		r.codes = map[int]string{}
	}
	r.codes[i] = code
	return err
}

// payers makes the tills.
func (r *round) payers(ctx context.Context, host string) ([]payer, error) {
	payers := make([]payer, r.Tills)
	if r.protocol == upp.Protocol {
		o, err := newOrders(host, r.tokens, upp.CreateRequest{SaleType: upp.SaleCustomerPresented, CustomerToken: r.code})
		for i := range payers {
			payers[i] = o
		}
		return payers, err
	}
	makers, makersCtx := errgroup.WithContext(ctx)
	makers.SetLimit(provisionAtOnce)
	for i := range payers {
		makers.Go(func() (err error) {
			if r.protocol == upay.Protocol {
				payers[i], err = r.upayTill(makersCtx, host, i)
			} else {
				payers[i], err = r.uqpayTill(makersCtx, host, i)
			}
			if err != nil {
				return fmt.Errorf("till %d: %w", i, err)
			}
			return nil
		})
	}
	return payers, makers.Wait()
}

// kept is a terminal's identity in memory.
type kept struct{ id upay.Identity }

func (k *kept) Identity(context.Context) (upay.Identity, error) { return k.id, nil }

func (k *kept) Keep(_ context.Context, i upay.Identity) error {
	k.id = i
	return nil
}

// benchUpayTill is a till of Upay: only the order's number and the signature change from one request to the next.
type benchUpayTill struct {
	head []byte // Up to the signature.
	mid  []byte // Between the signature and the body.
	body []byte
	key  []byte
	at   int // Where the number stands in body.
	next uint64
}

func (r *round) upayTill(ctx context.Context, host string, i int) (*benchUpayTill, error) {
	var k kept
	client := &upay.Client{BaseURL: "http://" + host + "/upay", Keeper: &k}
	_, err := client.Activate(ctx, upay.Vendor{SN: devVendor, Key: terminal.NewSecret(r.key[:32])},
		upay.ActivateRequest{AppID: devApp, Code: r.codes[i%r.Merchants], DeviceID: fmt.Sprintf("bench-%d", i)})
	if err != nil {
		return nil, err
	}
	prefix := fmt.Sprintf("b%03d-", i)
	body := upay.PayRequest{DynamicID: r.code, Order: upay.Order{TerminalSN: k.id.TerminalSN, ClientSN: prefix + zeros, TotalAmount: amountMinor,
		Subject: "Umbrella", Operator: "c01"}}.Encode()
	t := &benchUpayTill{body: body, key: []byte(k.id.Key.Reveal()), at: bytes.Index(body, []byte(prefix+zeros)) + len(prefix)}
	t.head = fmt.Appendf(nil, "POST /upay/upay/v2/pay HTTP/1.1\r\nHost: %s\r\nAuthorization: %s ", host, k.id.TerminalSN)
	t.mid = fmt.Appendf(nil, "\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", len(body))
	return t, nil
}

// zeros stand where a request's number will.
const zeros = "000000000000"

// count writes a number over the zeros at a place.
func count(b []byte, at int, n uint64) {
	for i := at + len(zeros) - 1; i >= at; i-- {
		b[i] = '0' + byte(n%10)
		n /= 10
	}
}

func (t *benchUpayTill) take(buf []byte) []byte {
	t.next++
	count(t.body, t.at, t.next)
	h := md5.New()
	h.Write(t.body)
	h.Write(t.key)
	buf = append(buf[:0], t.head...)
	buf = hex.AppendEncode(buf, h.Sum(nil))
	return append(append(buf, t.mid...), t.body...)
}

var (
	paidMark = []byte(`"result_code":"PAY_SUCCESS"`)
	snMark   = []byte(`"sn":"`)
)

func (t *benchUpayTill) paid(status int, body []byte) (uint64, error) {
	if status != 200 || !bytes.Contains(body, paidMark) {
		return 0, fmt.Errorf("answered %d: %.300s", status, body)
	}
	return numberAfter(body, snMark)
}

// numberAfter finds a number between a mark and the next quotation mark.
func numberAfter(body, mark []byte) (uint64, error) {
	_, rest, ok := bytes.Cut(body, mark)
	text, _, _ := bytes.Cut(rest, []byte(`"`))
	n, err := strconv.ParseUint(string(text), 10, 64)
	if !ok || err != nil {
		return 0, fmt.Errorf("the answer has no number behind %s", mark)
	}
	return n, nil
}

// benchUQPAYTill is a terminal of UQPAY. The card is the same for each sale, its PIN is encrypted anew; the chip's data are of one cryptogram, since
// the host checks it each time all the same and a chip's work is not what is measured.
type benchUQPAYTill struct {
	head   []byte // Up to the idempotency key's number.
	mid    []byte // Between the key and the body.
	body   []byte
	stanAt int
	pinAt  int
	pinKey []byte
	pin    card.PIN
	pan    card.PAN
	next   uint64
}

func (r *round) uqpayTill(ctx context.Context, host string, i int) (*benchUQPAYTill, error) {
	base := "http://" + host + "/uqpay/api"
	m := i % r.Merchants
	client := &uqpay.Client{BaseURL: base, ClientID: benchClient(m), APIKey: uqpay.Secret(r.benchKey(m))}
	registered, err := client.Register(ctx, uqpay.RegisterRequest{FirmCode: "05", FirmSN: fmt.Sprintf("BENCH-%d", i), Model: "BENCH"})
	if err != nil {
		return nil, err
	}
	aesKey := make([]byte, 32)
	rand.Read(aesKey) // Never fails.
	t := &benchUQPAYTill{}
	if t.pinKey, _, err = client.PINKey(ctx, registered.TerminalID, aesKey); err != nil {
		return nil, err
	}
	request, err := t.request(r.cards.Cards, registered.TerminalID)
	if err != nil {
		return nil, err
	}
	token, err := tokenOf(ctx, base, benchClient(m), r.benchKey(m))
	if err != nil {
		return nil, err
	}
	t.body = request
	t.stanAt = bytes.Index(request, []byte(`"system_trace_audit_number":"`)) + len(`"system_trace_audit_number":"`)
	t.pinAt = bytes.Index(request, []byte(`"encrypted_pin":"`)) + len(`"encrypted_pin":"`)
	t.head = fmt.Appendf(nil, "POST /uqpay/api/v2/payment_intents/create HTTP/1.1\r\nHost: %s\r\nx-auth-token: Bearer %s\r\nx-client-id: %s\r\nx-idempotency-key: b%d-",
		host, token, benchClient(m), i)
	t.mid = fmt.Appendf(nil, "\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", len(request))
	return t, nil
}

// request makes a till's request with a strict card, whose cryptogram the host checks.
func (t *benchUQPAYTill) request(cards []devCard, tid string) ([]byte, error) {
	for _, d := range cards {
		if d.IssuerMasterKey == "" || d.PIN == "" || d.Behaviour != "approve" {
			continue
		}
		amount := money.New(amountMinor, money.MustCurrency("AUD"))
		tags, err := d.plastic().Tags(payment.EntryChip, amount, true, time.Now(), rand.Reader)
		if err != nil {
			return nil, err
		}
		if t.pan, err = card.ParsePAN(d.PAN); err != nil {
			return nil, err
		}
		if t.pin, err = card.ParsePIN(d.PIN); err != nil {
			return nil, err
		}
		block, err := uqpay.MakePINBlock(t.pinKey, t.pin, t.pan)
		if err != nil {
			return nil, err
		}
		return json.Marshal(map[string]any{"amount": amount.String(), "currency": "AUD", "merchant_order_id": "bench", "description": "Umbrella",
			"payment_method": map[string]any{"type": "card_present", "card_present": map[string]any{"card_number": d.PAN, "expiry_month": d.ExpiryMonth,
				"expiry_year": d.ExpiryYear, "pan_entry_mode": "chip", "cardholder_verification_method": "online_pin",
				"encrypted_pin": fmt.Sprintf("%X", block[:]), "emv_tags": fmt.Sprintf("%X", tags), "track2": d.Track2, "system_trace_audit_number": "000000",
				"terminal_info": map[string]any{"terminal_id": tid}}}})
	}
	return nil, errors.New("the sandbox has no strict card with a PIN that approves")
}

// tokenOf gets an access token.
func tokenOf(ctx context.Context, base, client, key string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/v1/connect/token", nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("x-client-id", client)
	req.Header.Set("x-api-key", key)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	var answer struct {
		Token string `json:"auth_token"`
	}
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil || answer.Token == "" {
		return "", errors.Join(err, fmt.Errorf("no token: %s", res.Status))
	}
	return answer.Token, nil
}

// stanDigits are a STAN's.
const stanDigits = 6

func (t *benchUQPAYTill) take(buf []byte) []byte {
	t.next++
	for i, n := t.stanAt+stanDigits-1, t.next; i >= t.stanAt; i-- {
		t.body[i] = '0' + byte(n%10)
		n /= 10
	}
	block, err := uqpay.MakePINBlock(t.pinKey, t.pin, t.pan) // It was made once already, so it cannot fail.
	if err == nil {
		const digits = "0123456789ABCDEF"
		for i, b := range block {
			t.body[t.pinAt+2*i], t.body[t.pinAt+2*i+1] = digits[b>>4], digits[b&15]
		}
	}
	buf = append(buf[:0], t.head...)
	buf = strconv.AppendUint(buf, t.next, 10)
	return append(append(buf, t.mid...), t.body...)
}

var (
	succeededMark = []byte(`"intent_status":"SUCCEEDED"`)
	rrnMark       = []byte(`"rrn":"`)
)

func (t *benchUQPAYTill) paid(status int, body []byte) (uint64, error) {
	if status != 200 || !bytes.Contains(body, succeededMark) {
		return 0, fmt.Errorf("answered %d: %.300s", status, body)
	}
	return numberAfter(body, rrnMark)
}

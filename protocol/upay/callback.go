package upay

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/tillgate/tillgate/internal/strictjson"
	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/terminal"
)

// CallbackFormat is a form of a callback's Authorization header (§7.2).
type CallbackFormat string

// The forms.
const (
	CallbackRSA       CallbackFormat = "rsa"         // Base64 of the signature alone.
	CallbackRSAWithSN CallbackFormat = "rsa_with_sn" // terminal_sn, a space, Base64 of the signature.
	CallbackMD5WithSN CallbackFormat = "md5_with_sn" // terminal_sn, a space, the request signature under the terminal's key.
)

// Times of callbacks (§7.1): tries come 1, 5, 30 and 600 seconds after the event.
const (
	callbackFirst = time.Second
	// CallbackTimeout bounds one try.
	CallbackTimeout = 5 * time.Second
)

// CallbackDelays are the pauses between the tries.
var CallbackDelays = []time.Duration{4 * time.Second, 25 * time.Second, 570 * time.Second}

// callbackEvents are the states that can be called back.
var callbackEvents = []OrderStatus{OrderPaid, OrderPayCanceled, OrderRefunded, OrderPartialRefunded}

// Notices are the callbacks that a change owes: the engine stores them in the commit that decides. An order is called back when it came with
// a notify_url, about the events that its merchant wanted when it was made.
func Notices(r payment.Reader, c payment.Change) ([]payment.Notice, error) {
	if c.Now.Protocol != Protocol {
		return nil, nil
	}
	event, refund := eventOf(&c)
	if event == "" {
		return nil, nil
	}
	m, err := readMemo(c.Now.Echo)
	if err != nil || m.NotifyURL == "" || !slices.Contains(m.Events, event) {
		return nil, err
	}
	v := payment.View{Payment: *c.Now}
	if c.Now.Attempt != 0 {
		if v.Attempt, err = r.Operation(c.Now.Merchant, c.Now.ID, c.Now.Attempt); err != nil {
			return nil, err
		}
	}
	for _, op := range c.Operations {
		if op.Now.ID == c.Now.Attempt {
			v.Attempt = *op.Now // The news, whatever the store shows already.
		}
	}
	s := stand(&v, nil)
	if refund != nil {
		s = standing{order: event, status: StatusSuccess, latest: refund}
	}
	d, err := orderData(&v, s)
	if err != nil {
		return nil, err
	}
	return []payment.Notice{{Protocol: Protocol, Event: string(event), URL: address(m.NotifyURL), Signer: m.Terminal, Body: d.EncodeCallback(),
		DueAt: c.Now.ModifiedAt.Add(callbackFirst)}}, nil
}

// eventOf is what a change means to the order, and the refund that made it so.
func eventOf(c *payment.Change) (OrderStatus, *payment.Operation) {
	switch {
	case c.Was.State != c.Now.State && c.Now.State == payment.Captured:
		return OrderPaid, nil
	case c.Was.State == payment.Open && (c.Now.State == payment.Refused || c.Now.State == payment.Expired):
		return OrderPayCanceled, nil
	}
	for _, op := range c.Operations {
		if op.Now.Kind != payment.Refund || op.Now.Rest || op.Now.State != payment.Approved || op.Was.State == payment.Approved {
			continue
		}
		if c.Now.Refunded == c.Now.Captured {
			return OrderRefunded, op.Now
		}
		return OrderPartialRefunded, op.Now
	}
	return "", nil
}

// address is a notify_url with its scheme, which examples leave out (§7.1).
func address(notifyURL string) string {
	if strings.Contains(notifyURL, "://") {
		return notifyURL
	}
	return "http://" + notifyURL
}

// Callbacks sign what Notices has made; its methods fit package notify.
type Callbacks struct {
	Terminals Terminals
	Key       *rsa.PrivateKey // The platform's; merchants have its public half.
	Defaults  *Settings       // Nil is DefaultSettings.
}

// Sign makes the header of a try, in the form that the terminal's merchant wants.
func (c *Callbacks) Sign(ctx context.Context, n payment.Notice, _ time.Time) (http.Header, error) {
	settings, err := settingsOf(ctx, c.Terminals, c.Defaults, n.Merchant)
	if err != nil {
		return nil, err
	}
	var header string
	if settings.CallbackAuthFormat == CallbackMD5WithSN {
		key, err := c.terminalKey(ctx, n.Signer)
		if err != nil {
			return nil, err
		}
		header = Authorization(n.Signer, n.Body, key)
	} else {
		if header, err = SignCallback(n.Body, c.Key); err != nil {
			return nil, err
		}
		if settings.CallbackAuthFormat == CallbackRSAWithSN {
			header = n.Signer + " " + header
		}
	}
	return http.Header{"Authorization": {header}}, nil
}

func (c *Callbacks) terminalKey(ctx context.Context, sn string) (terminal.Secret, error) {
	entry, err := c.Terminals.Find(ctx, Protocol, sn)
	if err != nil && !errors.Is(err, terminal.ErrDisabled) { // A terminal that was disabled since is still owed the news.
		return terminal.Secret{}, fmt.Errorf("callback of terminal %s: %w", sn, err)
	}
	keys, err := c.Terminals.Keys(entry)
	if err == nil && len(keys) == 0 {
		err = payment.ErrNotFound
	}
	if err != nil {
		return terminal.Secret{}, fmt.Errorf("callback of terminal %s: its key: %w", sn, err)
	}
	return keys[0].Secret, nil
}

// SignCallback is the signature of a callback's body: RSA, PKCS #1 v1.5 over SHA-256, in Base64 (§7.2).
func SignCallback(body []byte, key *rsa.PrivateKey) (string, error) {
	sum := sha256.Sum256(body)
	sign, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		return "", fmt.Errorf("sign a callback: %w", err)
	}
	return base64.StdEncoding.EncodeToString(sign), nil
}

// AcceptedCallback reports whether an answer ends the tries: 2xx, and success in the body, alone or in JSON as real clients have it (§7.1).
func AcceptedCallback(status int, body []byte) bool {
	if status < 200 || status > 299 {
		return false
	}
	text := strings.TrimSpace(string(body))
	if strings.EqualFold(strings.Trim(text, `"`), "success") {
		return true
	}
	v, err := parse([]byte(text))
	if err != nil {
		return false
	}
	for _, m := range v.Members {
		if m.Name == "success" && m.Value.Raw == "true" || m.Value.Kind == strictjson.String && strings.EqualFold(m.Value.Text, "success") {
			return true
		}
	}
	return false
}

// ErrCallback says that a callback does not come from Upay.
var ErrCallback = errors.New("upay: the callback's signature is wrong")

// VerifyCallback checks a callback's header over the bytes received: the last word is the signature, in Base64 or in hexadecimal (§7.2).
func VerifyCallback(header string, body []byte, key *rsa.PublicKey) error {
	words := strings.Fields(header)
	if len(words) == 0 || len(words) > 2 {
		return ErrCallback
	}
	word := words[len(words)-1]
	sign, err := base64.StdEncoding.DecodeString(word)
	if err != nil || len(sign) != key.Size() {
		if sign, err = hex.DecodeString(word); err != nil {
			return ErrCallback
		}
	}
	sum := sha256.Sum256(body)
	if rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], sign) != nil {
		return ErrCallback
	}
	return nil
}

// CallbackHandler receives callbacks for a client: what is not signed by Upay is refused with 403 and goes nowhere. take may get the same
// news twice, and must not trust that it comes in order; an error of it makes Upay try again.
func CallbackHandler(key *rsa.PublicKey, take func(context.Context, *Data) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := readBody(w, r, BodyMax)
		if err != nil {
			http.Error(w, "fail", http.StatusBadRequest)
			return
		}
		if err := VerifyCallback(r.Header.Get("Authorization"), body, key); err != nil {
			http.Error(w, "fail", http.StatusForbidden)
			return
		}
		d, err := DecodeCallback(body)
		if err != nil {
			http.Error(w, "fail", http.StatusBadRequest)
			return
		}
		if err := take(r.Context(), d); err != nil {
			http.Error(w, "fail", http.StatusInternalServerError)
			return
		}
		_, _ = w.Write([]byte("success"))
	})
}

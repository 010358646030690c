package iotpay

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/tillgate/tillgate/payment"
)

// noTarget is the notifyUrl that means none: the seed's constant for card terminals, and for tills without a back end.
const noTarget = "http://localhost"

// EventPaid is the event of this protocol's notices: it has no other.
const EventPaid = "paid"

// backServer is backType: a server's call, not a browser's redirect (§7).
const backServer = 2

// checkTarget makes sure that an order's notifications may be sent where it wants them, before it is taken.
func (s *Server) checkTarget(c channel, target string) error {
	if !c.notifies() || target == noTarget {
		return nil // Never called (§7).
	}
	if s.CheckTarget == nil {
		return refuse(CodeParameter, "notifyUrl: notifications are not sent from here.")
	}
	if err := s.CheckTarget(target); err != nil {
		return refuse(CodeParameter, "notifyUrl: %v.", err)
	}
	return nil
}

// Notices says which notification a change owes: one, when an order is paid whose customer scanned a code of ours (§7). It is for
// payment.Config.Notices, and leaves other protocols' payments alone. The notice's Body is the parameters without their signature and its
// Signer the mchId: Prepare makes of it what is sent.
func Notices(r payment.Reader, c payment.Change) ([]payment.Notice, error) {
	if c.Now.Protocol != Protocol || c.Was.State == payment.Captured || c.Now.State != payment.Captured {
		return nil, nil
	}
	m, ch, err := readMemo(c.Now)
	if err != nil || !ch.notifies() || m.NotifyURL == noTarget {
		return nil, err
	}
	v := payment.View{Payment: *c.Now}
	for _, op := range c.Operations {
		if op.Now.ID == c.Now.Attempt {
			v.Attempt = *op.Now
		}
	}
	if v.Attempt.ID == 0 {
		if v.Attempt, err = r.Operation(c.Now.Merchant, c.Now.ID, c.Now.Attempt); err != nil {
			return nil, err
		}
	}
	return []payment.Notice{{Protocol: Protocol, Event: EventPaid, URL: m.NotifyURL, Signer: m.MchID, Body: []byte(notification(v, m).form())}}, nil
}

// notification is the parameters of §7, in its order.
func notification(v payment.View, m memo) Params {
	o := order(v, m, StatusPaid)
	if o.ChannelOrderNo == "" {
		o.ChannelOrderNo = o.PayOrderID // A public client refuses a notification without one.
	}
	list := Params{}
	for _, q := range [][2]string{
		{"payOrderId", o.PayOrderID}, {"mchId", o.MchID}, {"mchOrderNo", o.MchOrderNo}, {"channelId", o.ChannelID}, {"currency", o.Currency},
		{"amount", strconv.FormatInt(o.Amount, 10)}, {"status", strconv.FormatInt(int64(StatusPaid), 10)}, {"clientIp", o.ClientIP},
		{"device", o.DeviceID}, {"subject", o.Subject}, {"body", o.Body}, {"channelOrderNo", o.ChannelOrderNo}, {"param1", o.Param1},
		{"param2", o.Param2}, {"paySuccTime", strconv.FormatInt(int64(o.PaySuccTime), 10)}, {"backType", strconv.Itoa(backServer)},
	} {
		list = append(list, Param{Name: q[0], Text: q[1]})
	}
	return list
}

// Transport is where a notification's parameters stand; receivers differ (§7).
type Transport string

// The transports.
const (
	InBoth  Transport = "" // In the query string and in the body.
	InQuery Transport = "query"
	InBody  Transport = "body"
)

// NoticeType is the media type of a notification's body.
const NoticeType = formType

// formType is the media type of all requests of this protocol.
const formType = "application/x-www-form-urlencoded"

// SignNotice makes of a stored notice what is sent, a POST to its URL with its Body, under the merchant's present key. A notice may be signed
// anew for every try.
func SignNotice(n payment.Notice, k Key, t Transport) (payment.Notice, error) {
	p, err := parseForm(string(n.Body))
	if err == nil {
		err = p.check()
	}
	if err == nil && k.IsZero() {
		err = errKey
	}
	if err != nil {
		return payment.Notice{}, fmt.Errorf("iotpay: notice %d cannot be signed: %w", n.ID, err)
	}
	form := append(p, Param{Name: signName, Text: Sign(p, k)}).form()
	n.Body = []byte(form)
	if t == InQuery {
		n.Body = nil
	}
	if t != InBody {
		join := "?"
		if strings.Contains(n.URL, "?") {
			join = "&"
		}
		n.URL += join + form
	}
	return n, nil
}

// Prepare is SignNotice under the key of the notice's merchant, for whoever sends it.
func (s *Server) Prepare(ctx context.Context, n payment.Notice, _ time.Time) (payment.Notice, error) {
	account, err := s.Accounts.Account(ctx, n.Signer)
	if err != nil {
		return payment.Notice{}, fmt.Errorf("iotpay: notice %d: account %s: %w", n.ID, n.Signer, err)
	}
	return SignNotice(n, account.key(), s.Transport)
}

// Accepted reports whether a receiver has acknowledged a notification: a 2xx whose body is the word success (§7).
func Accepted(status int, body []byte) bool {
	return status/100 == 2 && lower(strings.TrimSpace(string(body))) == "success"
}

// Delays are the pauses before the tries after the first, each counted from the failure of the one before. After the last, a notice is given
// up without alarm: some receivers never say the word (§7).
func Delays() []time.Duration {
	return []time.Duration{time.Minute, 2 * time.Minute, 3 * time.Minute, 4 * time.Minute, 5 * time.Minute}
}

// NoticeTimeout is how long a receiver may take to answer (§7).
const NoticeTimeout = 60 * time.Second

func notifiedKey(number string) payment.Key { return payment.Key{Scope: scopeNotified, Key: number} }

// acknowledgement is what is kept of one; that it is there says all.
var acknowledgement = []byte("success")

// Notified remembers that a notice was accepted: the order's status is 3 from then on. Whoever delivers calls it before it settles the notice.
func (s *Server) Notified(ctx context.Context, n payment.Notice) error {
	p, err := parseForm(string(n.Body))
	if err != nil {
		return fmt.Errorf("iotpay: notice %d: %w", n.ID, err)
	}
	return s.Core.Keep(ctx, n.Merchant, notifiedKey(p.Get("payOrderId")), nil, acknowledgement, keepFor)
}

// acknowledged is the status of a paid order: 3 once its notification was accepted.
func (s *Server) acknowledged(ctx context.Context, p *payment.Payment) (Status, error) {
	_, err := s.Core.Recall(ctx, p.Merchant, notifiedKey(p.Number()), nil)
	if errors.Is(err, payment.ErrNotFound) {
		return StatusPaid, nil
	}
	return StatusAcknowledged, err
}

// ReadNotice reads a notification that a platform has sent, for receivers: its parameters stand in the query string, the body, or both. It
// fails unless one of the keys has signed it. A receiver compares mchId and amount with its order, is not surprised by a second one, and answers with
// the word success.
func ReadNotice(query string, body []byte, keys ...Key) (Params, error) {
	for _, text := range []string{string(body), query} {
		p, err := parseForm(text)
		if err != nil || p.check() != nil || p.Get(signName) == "" {
			continue
		}
		if as, ok := Verify(p, keys...); ok {
			return as, nil
		}
	}
	return nil, errors.New("iotpay: notification is not signed with this key")
}

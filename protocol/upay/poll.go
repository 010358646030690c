package upay

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Times of §6.3, §6.4 and §6.5.
const (
	settleFirst   = 2 * time.Second   // before the first query after an uncertain pay
	settlePause   = 3 * time.Second   // between queries
	settleCancel  = 60 * time.Second  // then the order is cancelled
	settleSlow    = 10 * time.Second  // between queries once it is
	settleGiveUp  = 180 * time.Second // then people must look
	followFast    = 2 * time.Second   // between queries of a QR order, at first
	followFastFor = 30 * time.Second
	followPause   = 5 * time.Second
	followFor     = 240 * time.Second // then the gateway closes it
	followLast    = 360 * time.Second // the last query
	refundPause   = 3 * time.Second
	refundGiveUp  = 180 * time.Second
)

var (
	// ErrUncertain says that nobody knows what became of an operation: the money may or may not have moved. Do not hand over goods, and do
	// not charge again: Settle finds out later, also in another process, and else the provider's support.
	ErrUncertain = errors.New("upay: outcome unknown")
	// ErrNumberUsed says that the number of a pay has an order already. Perhaps it is this very one, which something on the way sent twice:
	// look at it with Query before the customer is charged under another number.
	ErrNumberUsed = errors.New("upay: client_sn has been used before")
)

// Verdict is what became of an operation, for certain.
type Verdict struct {
	Done    bool // Paid, or refunded. Goods may leave the shop on nothing else.
	Code    ErrorCode
	Message string
	Data    *Data // The order as it was last seen; nil when there is none.
}

// TakePayment sends a pay and finds out what became of it: the order is asked for while that is not known, and cancelled after a minute
// (§6.3). A pay is never sent twice. An error that is Refused means that nothing was done; ErrUncertain that nobody knows.
func (c *Client) TakePayment(ctx context.Context, r PayRequest) (*Verdict, error) {
	biz, err := c.Pay(ctx, r)
	if Refused(err) {
		return nil, err
	}
	if err == nil {
		if v, err := paid(biz); v != nil || err != nil {
			return v, err
		}
	}
	return c.settle(ctx, r.ClientSN, err)
}

// paid is the verdict that the answer to a pay allows; nil for none.
func paid(biz *Biz) (*Verdict, error) {
	d := biz.Data
	v := &Verdict{Code: biz.ErrorCode, Message: biz.ErrorMessage, Data: d}
	switch {
	case biz.ResultCode == Fail && biz.ErrorCode == CodeClientSNConflict:
		return nil, fmt.Errorf("%w: %s", ErrNumberUsed, biz.ErrorMessage)
	case biz.ResultCode == Fail:
		return v, nil
	case biz.ResultCode == PayFail && (d == nil || d.OrderStatus == OrderPayCanceled || d.OrderStatus == OrderCanceled):
		return v, nil
	case biz.ResultCode == PaySuccess && d != nil && d.OrderStatus == OrderPaid && !d.failed():
		v.Done = true
		return v, nil
	}
	return nil, nil
}

// failed reports whether the transaction's status says that nobody must rely on it (§4.4).
func (d *Data) failed() bool { return strings.HasPrefix(string(d.Status), "FAIL") }

// Settle finds out what became of a pay whose answer is not known, such as one of a process that is no more. It is TakePayment without the
// pay: an order that is still open after a minute is cancelled.
func (c *Client) Settle(ctx context.Context, clientSN string) (*Verdict, error) {
	return c.settle(ctx, clientSN, nil)
}

// settling is what Settle knows of an order.
type settling struct {
	c        *Client
	clientSN string
	// cancelled says that a cancel has left. From then on nothing is taken for paid: the cancel may still be on its way, and arrive after
	// the goods are gone.
	cancelled bool
	refused   bool // A cancel was refused for certain: the order stands as it is.
	last      error
	data      *Data
}

func (c *Client) settle(ctx context.Context, clientSN string, last error) (*Verdict, error) {
	s := &settling{c: c, clientSN: clientSN, last: last}
	began := c.now()
	for pause := settleFirst; ; pause = s.pause() {
		if err := c.sleep(ctx, pause); err != nil {
			return nil, s.uncertain(err)
		}
		v, missing := s.look(ctx)
		waited := c.now().Sub(began)
		if v == nil && (missing || waited >= settleCancel && !s.refused) {
			// A pay that has not arrived may still do so: the cancel keeps its number closed.
			v = s.cancel(ctx)
		}
		if v != nil {
			return v, nil
		}
		if waited >= settleGiveUp {
			return nil, s.uncertain(nil)
		}
	}
}

func (s *settling) pause() time.Duration {
	if s.cancelled {
		return settleSlow
	}
	return settlePause
}

func (s *settling) uncertain(stopped error) error {
	return fmt.Errorf("order %s: %w", s.clientSN, errors.Join(ErrUncertain, stopped, s.last))
}

// look queries the order. It is missing when Upay does not know it.
func (s *settling) look(ctx context.Context) (v *Verdict, missing bool) {
	biz, err := s.c.Query(ctx, QueryRequest{ClientSN: s.clientSN})
	if err != nil {
		s.last = err // Silence, a server's error, or a refusal of the query: none says anything about the payment.
		return nil, false
	}
	if biz.ResultCode == Fail && biz.ErrorCode == CodeOrderNotExists {
		return nil, true
	}
	if biz.ResultCode != Success || biz.Data == nil {
		s.last = fmt.Errorf("query: %s %s", biz.ResultCode, biz.ErrorCode)
		return nil, false
	}
	s.data, s.last = biz.Data, fmt.Errorf("order_status is %s", biz.Data.OrderStatus)
	return s.verdict(biz), false
}

// verdict is what a query's answer allows; nil for none. Unknown words allow none.
func (s *settling) verdict(biz *Biz) *Verdict {
	v := &Verdict{Code: biz.ErrorCode, Message: biz.ErrorMessage, Data: biz.Data}
	switch biz.Data.OrderStatus {
	case OrderPaid, OrderPartialRefunded, OrderRefunded:
		if s.cancelled && !s.refused || biz.Data.failed() {
			return nil
		}
		v.Done = true
		return v
	case OrderPayCanceled, OrderCanceled:
		return v
	}
	return nil
}

// cancel gives the order up; the verdict is nil when it is not certain that it is closed.
func (s *settling) cancel(ctx context.Context) *Verdict {
	s.cancelled = true
	biz, err := s.c.Cancel(ctx, CancelRequest{ClientSN: s.clientSN})
	if err != nil {
		s.last = fmt.Errorf("cancel: %w", err)
		return nil
	}
	v := &Verdict{Code: biz.ErrorCode, Message: biz.ErrorMessage, Data: biz.Data}
	if v.Data == nil {
		v.Data = s.data
	}
	switch {
	case biz.ResultCode == CancelSuccess, biz.ResultCode == CancelAbortSuccess:
		return v
	case biz.ResultCode == Fail && biz.ErrorCode == CodeOrderNotExists:
		return v // Nothing to cancel, and the number is closed.
	case biz.ResultCode == Fail && biz.ErrorCode == CodeCancelInvalidState:
		s.refused = true // It cannot be cancelled any more: the next query tells.
	}
	s.last = fmt.Errorf("cancel: %s %s", biz.ResultCode, biz.ErrorCode)
	return nil // Also when it is said to be cancelled already: the next query tells.
}

// Follow waits until a QR order is paid or closed (§6.4). seen, when set, is shown every answer. The gateway closes an order that nobody
// pays; what is still open long after that is cancelled, as Settle does. A context that ends leaves the order as it is: ErrUncertain.
func (c *Client) Follow(ctx context.Context, clientSN string, seen func(*Data)) (*Verdict, error) {
	s := &settling{c: c, clientSN: clientSN}
	began := c.now()
	for {
		waited := c.now().Sub(began)
		pause := followPause
		switch {
		case waited < followFastFor:
			pause = followFast
		case waited >= followLast:
			return c.settle(ctx, clientSN, s.last)
		case waited >= followFor:
			pause = followLast - waited
		}
		if err := c.sleep(ctx, pause); err != nil {
			return nil, s.uncertain(err)
		}
		v, missing := s.look(ctx)
		if s.data != nil && seen != nil {
			seen(s.data)
		}
		if v != nil {
			return v, nil
		}
		if missing {
			return c.settle(ctx, clientSN, s.last)
		}
	}
}

// TakeRefund sends a refund and finds out what became of it. It is sent again under its own number only, which never gives money back
// twice (§3.7, §6.5). ErrNumberUsed says that the number stood for a refund before, perhaps of another amount.
func (c *Client) TakeRefund(ctx context.Context, r RefundRequest) (*Verdict, error) {
	began := c.now()
	for again := false; ; again = true {
		biz, err := c.Refund(ctx, r)
		switch {
		case err != nil:
			if Refused(err) && !again {
				return nil, err
			}
		case biz.ResultCode == Fail && biz.ErrorCode == CodeRefundNoop && !again:
			return nil, fmt.Errorf("refund %s: %w: %s", r.RefundRequestNo, ErrNumberUsed, biz.ErrorMessage)
		default:
			v := &Verdict{Code: biz.ErrorCode, Message: biz.ErrorMessage, Data: biz.Data}
			switch {
			case biz.ResultCode == RefundSuccess:
				v.Done = true
				return v, nil
			case biz.ResultCode == RefundFail, biz.ResultCode == Fail && !again:
				return v, nil
			}
			err = fmt.Errorf("refund: %s %s", biz.ResultCode, biz.ErrorCode)
			if biz.ResultCode == Fail { // Of a repeat: what was sent first may be what stands in its way.
				if done, made, unknown := c.refunded(ctx, r); unknown == nil && !made {
					return v, nil
				} else if done != nil {
					return done, nil
				}
			}
		}
		v, _, unknown := c.refunded(ctx, r)
		if v != nil {
			return v, nil
		}
		err = errors.Join(err, unknown)
		if c.now().Sub(began) >= refundGiveUp {
			return nil, fmt.Errorf("refund %s: %w", r.RefundRequestNo, errors.Join(ErrUncertain, err))
		}
		if stopped := c.sleep(ctx, refundPause); stopped != nil {
			return nil, fmt.Errorf("refund %s: %w", r.RefundRequestNo, errors.Join(ErrUncertain, stopped, err))
		}
	}
}

// refunded asks for a refund by its number: the verdict when it was made and has succeeded, and whether it was made at all. An error says
// that this is not known.
func (c *Client) refunded(ctx context.Context, r RefundRequest) (done *Verdict, made bool, err error) {
	biz, err := c.Query(ctx, QueryRequest{TerminalSN: r.TerminalSN, SN: r.SN, ClientSN: r.ClientSN, RefundRequestNo: r.RefundRequestNo})
	if err != nil {
		return nil, false, err
	}
	d := biz.Data
	switch {
	case biz.ResultCode == Fail && (biz.ErrorCode == CodeTradeNotExist || biz.ErrorCode == CodeOrderNotExists):
		return nil, false, nil
	case biz.ResultCode != Success || d == nil:
		return nil, false, fmt.Errorf("query: %s %s", biz.ResultCode, biz.ErrorCode)
	case !strings.HasSuffix(d.ClientTSN, "-"+r.RefundRequestNo) && (r.ClientTSN == "" || d.ClientTSN != r.ClientTSN):
		return nil, false, errors.New("query: the latest transaction is another") // An older Upay, which does not look for the number.
	case d.Status == StatusSuccess:
		return &Verdict{Done: true, Data: d}, true, nil
	}
	return nil, true, nil
}

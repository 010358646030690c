package device

import (
	"errors"
	"io"
	"time"

	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
)

// errOffline is a chip that declines by itself, without asking its issuer.
var errOffline = errors.New("the chip declined by itself")

// Tags is what the card's chip and this terminal say of one purchase, as BER-TLV: for a till that is played without a device, such as
// tillgate card sale. Pin says that an online PIN is given.
func (c Card) Tags(mode payment.EntryMode, amount money.Amount, pin bool, now time.Time, random io.Reader) ([]byte, error) {
	p, err := c.present(mode, func() uint16 { return uint16(now.Unix()) })
	if err != nil {
		return nil, err
	}
	e, err := begin(p, amount, now, now.UnixMilli(), random)
	if err != nil {
		return nil, err
	}
	online, err := e.first(pin)
	if err != nil {
		return nil, err
	}
	if !online {
		return nil, errOffline
	}
	return e.tx.tags(e.app, e.last, "00000001"), nil
}

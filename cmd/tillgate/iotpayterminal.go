package main

import (
	"context"
	"errors"

	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/protocol/iotpay"
	"github.com/tillgate/tillgate/terminal"
)

// iotpayTerminals is the terminal channel as IOT Pay's protocol wants it: neither of the two packages knows the other.
type iotpayTerminals struct{ channel *terminal.Channel }

var _ iotpay.Terminals = iotpayTerminals{}

// iotpayErrors are the channel's errors in the protocol's words. A disabled terminal is as good as none for a till.
var iotpayErrors = []struct{ from, to error }{
	{terminal.ErrAbsent, iotpay.ErrAbsent},
	{terminal.ErrDisabled, iotpay.ErrAbsent},
	{terminal.ErrBusy, iotpay.ErrBusy},
	{terminal.ErrLost, iotpay.ErrLost},
}

// Sale asks the caller's terminal to take a card.
func (t iotpayTerminals) Sale(ctx context.Context, caller payment.Caller, p payment.Payment) (iotpay.Report, error) {
	r, err := t.channel.Sale(ctx, caller, p)
	for _, e := range iotpayErrors {
		if errors.Is(err, e.from) {
			return iotpay.Report(r), e.to
		}
	}
	return iotpay.Report(r), err
}

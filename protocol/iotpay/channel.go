package iotpay

import (
	"time"

	"github.com/tillgate/tillgate/payment"
)

// Lifetimes of unpaid orders.
const (
	lifetimeQR   = 5 * time.Minute // §3.3
	lifetimeScan = 5 * time.Minute // Design 4.6: a customer who must type a password.
)

// ChannelCard is the channel of card terminals (seed).
const ChannelCard = "CC_PAX"

// channel is a way to pay (§1.1).
type channel struct {
	id     string
	letter string // The two letters in front of payOrderId (§1.2).
	method string // The core's.
	flow   payment.Flow
	qr     string // The answer's field that holds the text of a QR code; only of channels that the customer scans (§3.3).
	life   time.Duration
}

// channels are those that a point of sale needs. All others are refused.
var channels = []channel{
	{ChannelCard, "CP", MethodCard, payment.ByCard, "", 0}, // Its life is a part of the time for which its call is held.
	{"WX_MICROPAY", "WM", "wechat", payment.ByCode, "", lifetimeScan},
	{"ALIPAY_MICROPAY", "AM", "alipay", payment.ByCode, "", lifetimeScan},
	{"UPI_MICROPAY", "UM", "unionpay", payment.ByCode, "", lifetimeScan},
	{"WX_NATIVE", "WN", "wechat", payment.ByQR, "codeUrl", lifetimeQR},
	{"ALIPAY_QR", "AQ", "alipay", payment.ByQR, "qr_code", lifetimeQR},
	{"UPI_QR", "UQ", "unionpay", payment.ByQR, "qr_code", lifetimeQR},
}

// MethodCard is the core's payment method of cards at a terminal, the same for all protocols.
const MethodCard = "card_present"

func channelOf(id string) (channel, bool) {
	for _, c := range channels {
		if c.id == id {
			return c, true
		}
	}
	return channel{}, false
}

// notifies reports whether the channel's orders are announced to notifyUrl (§7).
func (c channel) notifies() bool { return c.flow == payment.ByQR }

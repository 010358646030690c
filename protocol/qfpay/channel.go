package qfpay

import (
	"slices"

	"github.com/tillgate/tillgate/payment"
)

// Channel is how the customer pays (QFPay seed, channel).
type Channel string

// The channels.
const (
	CardPayment  Channel = "card_payment" // Visa and Mastercard.
	WeChat       Channel = "wx"
	Alipay       Channel = "alipay"
	PayMe        Channel = "payme"
	UnionPayQR   Channel = "union"
	FPS          Channel = "fps"
	OctopusPay   Channel = "octopus"
	UnionPayCard Channel = "unionpay_card"
	AmexCard     Channel = "amex_card"
)

// channelRow is what the protocol knows of a channel (§4.1).
type channelRow struct {
	name     Channel
	display  string // As answers and receipts name it.
	method   string // The core's name of the wallet; empty for cards.
	card     bool
	cpm, mpm string // PayType by the customer's code, and by ours; empty where there is none. Cards have one.
	refund   bool
}

// channels are all there are, in the order of the seed.
var channels = []channelRow{
	{CardPayment, "Visa / Mastercard", "", true, "802808", "802808", true},
	{WeChat, "WeChat Pay", "wechat", false, "800208", "800201", true},
	{Alipay, "Alipay", "alipay", false, "800108", "800101", true},
	{PayMe, "PayMe", "payme", false, "805808", "805801", true},
	{UnionPayQR, "UnionPay QuickPass", "unionpay", false, "800708", "800701", true},
	{FPS, "FPS", "fps", false, "", "802001", false},
	{OctopusPay, "Octopus", "octopus", false, "803708", "803701", false}, // On the terminal; §10.2 has the code that is shown.
	{UnionPayCard, "UnionPay Card", "", true, "806708", "806708", true},
	{AmexCard, "American Express", "", true, "806808", "806808", true},
}

// Channels lists them all.
func Channels() []Channel {
	var names []Channel
	for _, r := range channels {
		names = append(names, r.name)
	}
	return names
}

// row is what is known of the channel; the zero row if there is no such channel.
func (c Channel) row() channelRow {
	if i := slices.IndexFunc(channels, func(r channelRow) bool { return r.name == c }); i >= 0 {
		return channels[i]
	}
	return channelRow{}
}

// IsCard reports whether the channel is a card's.
func (c Channel) IsCard() bool { return c.row().card }

// Method is the core's name of the channel's wallet; empty for cards, whose own scheme it is.
func (c Channel) Method() string { return c.row().method }

// Refundable reports whether QFPay refunds payments of the channel at all (§4.1).
func (c Channel) Refundable() bool { return c.row().refund }

// Name is how the channel is called on receipts.
func (c Channel) Name() string { return c.row().display }

// ChannelOf is the channel of a payment that was made otherwise, by the core's words: its method, which of cards is the scheme. Empty if there
// is none.
func ChannelOf(flow payment.Flow, method string) Channel {
	if flow == payment.ByCard {
		switch method {
		case "unionpay":
			return UnionPayCard
		case "amex":
			return AmexCard
		}
		return CardPayment
	}
	for _, r := range channels {
		if r.method == method && method != "" {
			return r.name
		}
	}
	return ""
}

// flow is how a request wants it paid; empty leaves it to the last usage (§4.1).
func (r channelRow) flow(scan ScanType) payment.Flow {
	switch {
	case r.card:
		return payment.ByCard
	case scan == ScanRead:
		return payment.ByCode
	case scan == ScanShow, r.cpm == "":
		return payment.ByQR
	}
	return ""
}

// busicd is the PayType of a payment that was made in a flow.
func (r channelRow) busicd(flow payment.Flow) string {
	if flow == payment.ByQR {
		return r.mpm
	}
	return r.cpm
}

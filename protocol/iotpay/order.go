package iotpay

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Millis is a moment in milliseconds since 1970, 0 for none: "" on the wire.
type Millis int64

func millis(t time.Time) Millis {
	if t.IsZero() {
		return 0
	}
	return Millis(t.UnixMilli())
}

// wholeSeconds is a moment without its part of a second, as in the seed's sample.
func wholeSeconds(t time.Time) Millis { return millis(t.Truncate(time.Second)) }

// Values of payType.
const (
	PayTypePay    = "pay"
	PayTypeRefund = "refund"
)

// PayOrder is all about an order, or about a refund (§3.1). Amounts are in cents.
type PayOrder struct {
	UserName, StoreID, PayOrderID, MchID, MchOrderNo, TransID, OriginalOrderID, ChannelID, Currency string
	Amount, Tip, Rate                                                                               int64
	PayType                                                                                         string
	Refundable                                                                                      int64
	ClientIP, DeviceID, DeviceType, NotifyURL, Subject, Body, Param1, Param2                        string
	Extra                                                                                           string // Of CC_PAX, an Extra as JSON text.
	ChannelOrderNo                                                                                  string
	Status                                                                                          Status
	Remarks                                                                                         string
	RateValue, TrxAmount, CostAmount, CurrencyAmount                                                int64
	PaySuccTime, CreateDate, UpdateDate                                                             Millis
}

// members are its members in the order of the seed's sample, for both directions.
func (o *PayOrder) members() []member {
	return []member{
		{"userName", &o.UserName}, {"storeId", &o.StoreID}, {"payOrderId", &o.PayOrderID}, {"mchId", &o.MchID}, {"mchOrderNo", &o.MchOrderNo},
		{"transId", &o.TransID}, {"originalOrderId", &o.OriginalOrderID}, {"channelId", &o.ChannelID}, {"currency", &o.Currency},
		{"amount", &o.Amount}, {"tip", &o.Tip}, {"rate", &o.Rate}, {"payType", &o.PayType}, {"refundable", &o.Refundable},
		{"clientIp", &o.ClientIP}, {"deviceId", &o.DeviceID}, {"deviceType", &o.DeviceType}, {"notifyUrl", &o.NotifyURL},
		{"subject", &o.Subject}, {"body", &o.Body}, {"param1", &o.Param1}, {"param2", &o.Param2}, {"extra", &o.Extra},
		{"channelOrderNo", &o.ChannelOrderNo}, {"status", &o.Status}, {"remarks", &o.Remarks}, {"rateValue", &o.RateValue},
		{"trxAmount", &o.TrxAmount}, {"costAmount", &o.CostAmount}, {"currencyAmount", &o.CurrencyAmount}, {"paySuccTime", &o.PaySuccTime},
		{"createDate", &o.CreateDate}, {"updateDate", &o.UpdateDate},
	}
}

// member is a member of an answer's object and where it is kept.
type member struct {
	name string
	at   any // *string, *int64, *Status or *Millis.
}

// write is an object of members.
func write(members []member) []byte {
	var o object
	for _, m := range members {
		switch at := m.at.(type) {
		case *string:
			o.text(m.name, *at)
		case *int64:
			o.number(m.name, *at)
		case *Status:
			o.number(m.name, int64(*at))
		case *Millis:
			o.time(m.name, *at)
		}
	}
	return o.bytes()
}

// readMembers fills members from an answer. What is missing stays empty; numbers may be written as text.
func readMembers(p Params, members []member) error {
	for _, m := range members {
		text := p.Get(m.name)
		if text == "" {
			continue
		}
		var err error
		switch at := m.at.(type) {
		case *string:
			*at = text
		case *int64:
			*at, err = integer(text)
		case *Status:
			var n int64
			n, err = integer(text)
			*at = Status(n)
		case *Millis:
			*at, err = moment(text)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	return nil
}

// integer reads a number of an answer. One with a fraction, such as a rate, counts by its whole part.
func integer(text string) (int64, error) {
	text, _, _ = strings.Cut(text, ".")
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, errors.New("not a number")
	}
	return n, nil
}

// momentLayout is how card V3 writes paySuccTime, in zones that differ; without one it says little, and is taken for UTC.
const momentLayout = "2006-01-02 15:04:05"

// moment reads milliseconds, as a number or as text, or card V3's form (§3.1).
func moment(text string) (Millis, error) {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return Millis(n), nil
	}
	t, err := time.Parse(momentLayout, text)
	if err != nil {
		return 0, errors.New("not a time")
	}
	return millis(t), nil
}

// JSON is the order as it stands in an answer.
func (o *PayOrder) JSON() json.RawMessage { return write(o.members()) }

// ParsePayOrder reads an order.
func ParsePayOrder(text []byte) (*PayOrder, error) {
	p, err := ParseObject(text)
	if err != nil {
		return nil, err
	}
	o := &PayOrder{}
	return o, readMembers(p, o.members())
}

// Extra is what the card, the chip and the host said, for the receipt (seed, §9.1). Every value is text.
type Extra struct {
	CardType   string // A letter; one space when it is not known.
	CardNum    string // X for all but the last four digits.
	ExpireDate string // MMYY; four spaces when it is not known. Never print it.
	EMVLabel, EMVAID, EMVTVR, EMVTSI, EMVTC,
	TermNum, BankTermNum, TermInvoiceNum, SeqNum, AuthNum, BatchNum,
	TrxMethod string // T tap, C chip, S swipe, M manual.
	AccountType string // Of debit cards: C chequing, S savings.
	ReceiptDisp string // The result, to be printed and shown.
	CashbackAmount, TimeStamp, SurchargeAmount, LangCode, TrxDate, TrxTime, CVMResults,
	TrxCode string
}

func (x *Extra) members() []member {
	return []member{
		{"cardType", &x.CardType}, {"cardNum", &x.CardNum}, {"expireDate", &x.ExpireDate}, {"emvLabel", &x.EMVLabel}, {"emvAID", &x.EMVAID},
		{"emvTVR", &x.EMVTVR}, {"emvTSI", &x.EMVTSI}, {"emvTC", &x.EMVTC}, {"termNum", &x.TermNum}, {"bankTermNum", &x.BankTermNum},
		{"termInvoiceNum", &x.TermInvoiceNum}, {"seqNum", &x.SeqNum}, {"authNum", &x.AuthNum}, {"batchNum", &x.BatchNum},
		{"trxMethod", &x.TrxMethod}, {"accountType", &x.AccountType}, {"receiptDisp", &x.ReceiptDisp}, {"cashbackAmount", &x.CashbackAmount},
		{"timeStamp", &x.TimeStamp}, {"surchargeAmount", &x.SurchargeAmount}, {"langCode", &x.LangCode}, {"trxDate", &x.TrxDate},
		{"trxTime", &x.TrxTime}, {"cvmResults", &x.CVMResults}, {"trxCode", &x.TrxCode},
	}
}

// JSON is the extra as the text that stands in an order.
func (x *Extra) JSON() string { return string(write(x.members())) }

// Card reads an order's extra. It is an error for orders that no card pays.
func (o *PayOrder) Card() (*Extra, error) {
	p, err := ParseObject([]byte(o.Extra))
	if err != nil {
		return nil, fmt.Errorf("extra: %w", err)
	}
	x := &Extra{}
	return x, readMembers(p, x.members())
}

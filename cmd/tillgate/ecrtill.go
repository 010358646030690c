package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/protocol/qfpay"
)

type ecrCommand struct {
	Sale    ecrSale    `cmd:"" help:"Take a payment, and find out what became of it."`
	Refund  ecrRefund  `cmd:"" help:"Give a part or all of a sale back."`
	Inquiry ecrInquiry `cmd:"" help:"Look at a sale or refund by either number."`
	Cancel  ecrCancel  `cmd:"" help:"End the sale that the terminal is busy with."`
	Print   ecrPrint   `cmd:"" help:"Print the receipt of a sale or refund once more."`
	Summary ecrSummary `cmd:"" help:"Print the totals of the day on the terminal."`
}

// Help teaches by examples.
func (ecrCommand) Help() string {
	return "Beside a running dev, whose terminal has an automatic customer:\n\n" +
		"  tillgate dev --customer approve\n" +
		"  tillgate ecr sale --amount 12.50 --link http\n" +
		"  tillgate ecr sale --amount 12.50 --link tcp --channel alipay --scan read\n" +
		"  tillgate ecr refund --order 202611… --link serial\n\n" +
		"Beside another terminal, whose POS-KEY is in QFPAY_POS_KEY:\n\n" +
		"  tillgate ecr sale --amount 12.50 --address http://192.168.1.20:9001\n" +
		"  tillgate ecr inquiry --order 202611… --link serial --serial-path /dev/ttyUSB0\n\n" +
		"Every command exits with 1 unless it is done."
}

// ecrTill is what all of a cash register's commands have.
type ecrTill struct {
	Data       string `type:"path" default:"tillgate-dev" help:"Data folder of a running dev, for everything that is not given."`
	Link       string `enum:"http,tcp,serial" default:"http" help:"Way to the terminal: http, tcp or serial."`
	Address    string `env:"QFPAY_ADDRESS" help:"Address of a terminal on http, such as http://192.168.1.20:9001, or on tcp, such as 192.168.1.20:9002."`
	SerialPath string `name:"serial-path" help:"Serial device that leads to a terminal, such as /dev/ttyUSB0."`
	Baud       int    `default:"9600" help:"Speed of the serial line."`
	POSKey     string `name:"pos-key" env:"QFPAY_POS_KEY" help:"POS-KEY of the terminal."`
	JSON       bool   `help:"Print JSON."`
}

// client makes a cash register's client. done closes its line.
func (t *ecrTill) client() (client *qfpay.Client, done func(), err error) {
	dev, err := devOf(t.Data)
	if err != nil {
		return nil, nil, err
	}
	place, flag := &t.Address, "--address"
	found := map[string]string{"http": dev.QFPay.HTTPURL, "tcp": dev.QFPay.TCPAddr, "serial": dev.QFPay.SerialPath}[t.Link]
	if t.Link == "serial" {
		place, flag = &t.SerialPath, "--serial-path"
	}
	ours := *place == "" // dev's POS-KEY is for dev's terminal only.
	if ours {
		*place = found
	}
	if ours && t.POSKey == "" {
		t.POSKey = dev.QFPay.POSKey
	}
	switch {
	case *place == "":
		return nil, nil, fmt.Errorf("no dev is running on %s; start one with tillgate dev, or give %s and --pos-key", t.Data, flag)
	case t.POSKey == "":
		return nil, nil, errors.New("give the terminal's POS-KEY: --pos-key, or QFPAY_POS_KEY")
	}
	key, err := qfpay.NewPOSKey(t.POSKey)
	if err != nil {
		return nil, nil, fmt.Errorf("--pos-key: %w", err)
	}
	client, done = &qfpay.Client{Key: key}, func() {}
	switch t.Link {
	case "http":
		client.Link = &qfpay.OverHTTP{URL: *place}
	case "tcp":
		client.Link = &qfpay.OverTCP{Address: *place}
	default:
		line, err := qfpay.OpenSerial(*place, qfpay.SerialMode{Baud: t.Baud})
		if err != nil {
			return nil, nil, err
		}
		link := &qfpay.OverSerial{Line: line}
		client.Link, done = link, func() { _ = link.Close() } // Everything was answered, or never will be.
	}
	return client, done, nil
}

// with makes a client for a call.
func (t *ecrTill) with(call func(*qfpay.Client) error) error {
	client, done, err := t.client()
	if err != nil {
		return err
	}
	defer done()
	return call(client)
}

// hkd is the money of QFPay's terminals.
var hkd = money.MustCurrency("HKD")

// dollars reads an amount such as 12.50.
func dollars(text string) (money.Amount, error) {
	a, err := money.Parse(text, hkd)
	if err == nil && !a.IsPositive() {
		err = errors.New("it must be above zero")
	}
	if err != nil {
		return money.Amount{}, fmt.Errorf("--amount: %q is not an amount such as 12.50: %w", text, err)
	}
	return a, nil
}

// field is a line of what is printed.
type field struct{ name, text string }

// show prints fields, empty ones left out.
func (t *ecrTill) show(e *env, fields ...field) error {
	if t.JSON {
		row := map[string]string{}
		for _, f := range fields {
			row[f.name] = f.text
		}
		return json.NewEncoder(e.stdout).Encode(row)
	}
	w := tabwriter.NewWriter(e.stdout, 0, 4, 2, ' ', 0)
	for _, f := range fields {
		if f.text != "" {
			fmt.Fprintf(w, "%s\t%s\n", f.name, f.text)
		}
	}
	return w.Flush()
}

// approved prints what the terminal has approved.
func (t *ecrTill) approved(e *env, status string, a *qfpay.Approval) error {
	amount := ""
	if !a.Amount.IsZero() {
		amount = a.Amount.String()
	}
	fields := []field{{"status", status}, {"order", a.Number}, {"out_trade_no", a.OutTradeNo}, {"original", a.Original}, {"amount", amount},
		{"card", a.CardNumber}, {"scheme", a.CardScheme}, {"reference", a.Reference}, {"pay_type", a.PayType}, {"paid_at", a.PaidAt}}
	if a.Inquired {
		fields = append(fields, field{"found_by", "inquiry"}) // The answer itself was lost.
	}
	return t.show(e, fields...)
}

// Money.

type ecrSale struct {
	ecrTill
	Amount     string        `required:"" help:"Amount in HKD, such as 12.50."`
	Channel    string        `default:"card_payment" help:"How the customer pays: card_payment, unionpay_card, amex_card, alipay, wx, union, payme, octopus or fps."`
	Scan       string        `enum:",read,show" default:"" help:"Of wallets: read the customer's code, or show one; the terminal's last way when empty."`
	OutTradeNo string        `name:"out-trade-no" help:"The register's own number of the sale; a fresh one when empty."`
	Timeout    time.Duration `help:"How long the customer has; the terminal's own time when 0."`
}

// Help says what the command does when nobody answers.
func (ecrSale) Help() string {
	return "A sale is never sent twice. While its outcome is not known, the terminal is asked about it, for at least five minutes.\n\n" +
		"  tillgate ecr sale --amount 12.50 --link http\n" +
		"  tillgate ecr sale --amount 12.50 --link tcp --channel alipay --scan read\n\n" +
		"It exits with 1 unless it is paid."
}

func (c *ecrSale) Run(e *env) error {
	amount, err := dollars(c.Amount)
	if err != nil {
		return err
	}
	if c.OutTradeNo == "" {
		c.OutTradeNo = number("cli-")
	}
	scan := map[string]qfpay.ScanType{"read": qfpay.ScanRead, "show": qfpay.ScanShow}[c.Scan]
	return c.with(func(client *qfpay.Client) error {
		fmt.Fprintf(e.stderr, "sale %s over %s: the terminal asks the customer for HKD %s …\n", c.OutTradeNo, c.Link, amount)
		stop := ticking(e, "still waiting")
		paid, err := client.Sale(e.ctx, qfpay.SaleCall{OutTradeNo: c.OutTradeNo, Amount: amount, Channel: qfpay.Channel(c.Channel), ScanType: scan,
			PaymentTimeout: c.Timeout})
		stop()
		if errors.Is(err, qfpay.ErrOutcomeUnknown) {
			return fmt.Errorf("%w; look again with: tillgate ecr inquiry --out-trade-no %s", err, c.OutTradeNo)
		}
		if err != nil {
			return fmt.Errorf("not paid: %w", err)
		}
		return c.approved(e, "paid", paid)
	})
}

type ecrRefund struct {
	ecrTill
	Order  string `required:"" help:"The terminal's number of the sale (order)."`
	Amount string `help:"Amount in HKD, such as 2.50; all that is left when empty."`
}

// Help says what a terminal allows.
func (ecrRefund) Help() string {
	return "On the day of its payment a card is refunded in full only (1124); wallets are refunded in parts. A refund is never sent twice."
}

func (c *ecrRefund) Run(e *env) error {
	call := qfpay.RefundCall{OrderID: c.Order}
	if c.Amount != "" {
		var err error
		if call.Amount, err = dollars(c.Amount); err != nil {
			return err
		}
	}
	return c.with(func(client *qfpay.Client) error {
		fmt.Fprintf(e.stderr, "refund of %s over %s …\n", c.Order, c.Link)
		stop := ticking(e, "still waiting")
		back, err := client.Refund(e.ctx, call)
		stop()
		if errors.Is(err, qfpay.ErrOutcomeUnknown) {
			return fmt.Errorf("%w; look again with: tillgate ecr inquiry --order %s", err, c.Order)
		}
		if err != nil {
			return fmt.Errorf("not refunded: %w", err)
		}
		return c.approved(e, "refunded", back)
	})
}

// Everything else.

type ecrInquiry struct {
	ecrTill
	Order      string `help:"The terminal's number of the sale or refund."`
	OutTradeNo string `name:"out-trade-no" help:"The register's own number of the sale."`
}

func (c *ecrInquiry) Run(e *env) error {
	if c.Order == "" && c.OutTradeNo == "" {
		return errors.New("name the sale: --order or --out-trade-no")
	}
	return c.with(func(client *qfpay.Client) error {
		d, err := client.Inquiry(e.ctx, qfpay.InquiryRequest{Number: c.Order, OutTradeNo: c.OutTradeNo})
		if err != nil {
			return err
		}
		return c.show(e, field{"status", inquiryStatus(d)}, field{"kind", d.Tradetp}, field{"order", d.Syssn}, field{"out_trade_no", d.OutTradeNo},
			field{"original", d.OrigSsn}, field{"amount", ofCents(string(d.Txamt))}, field{"refundable", ofCents(string(d.AllowRefundAmt))}, field{"card", d.CardNo},
			field{"scheme", d.CardScheme}, field{"reference", d.Chnlsn}, field{"pay_type", d.Busicd}, field{"respcd", string(d.RespCD)}, field{"text", d.Desc})
	})
}

// inquiryStatus is an order's state in one word.
func inquiryStatus(d *qfpay.InquiryData) string {
	switch {
	case d.RespCD.Pending():
		return "not decided"
	case d.RespCD != qfpay.InnerOK:
		return "not paid"
	case d.Tradetp == "refund":
		return "refunded"
	}
	switch qfpay.CancelStatus(d.Cancel) {
	case qfpay.CancelReversed, qfpay.CancelCancelled:
		return "taken back"
	case qfpay.CancelRefunded:
		return "paid, refunded"
	case qfpay.CancelPart:
		return "paid, refunded in part"
	}
	return "paid"
}

// ofCents shows an inquiry's amount, in dollars.
func ofCents(text string) string {
	minor, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return text
	}
	return money.New(minor, hkd).String()
}

type ecrCancel struct{ ecrTill }

func (c *ecrCancel) Run(e *env) error {
	return c.with(func(client *qfpay.Client) error { return c.done(e, "cancelled", client.Cancel(e.ctx)) })
}

type ecrPrint struct {
	ecrTill
	Order string `required:"" help:"The terminal's number of the sale or refund."`
}

func (c *ecrPrint) Run(e *env) error {
	return c.with(func(client *qfpay.Client) error { return c.done(e, "printed", client.Print(e.ctx, c.Order)) })
}

type ecrSummary struct{ ecrTill }

func (c *ecrSummary) Run(e *env) error {
	return c.with(func(client *qfpay.Client) error { return c.done(e, "printed", client.Summary(e.ctx)) })
}

// done prints that something is done, unless it failed.
func (t *ecrTill) done(e *env, status string, err error) error {
	if err != nil {
		return err
	}
	return t.show(e, field{"status", status})
}

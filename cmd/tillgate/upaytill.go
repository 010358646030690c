package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/skip2/go-qrcode"

	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/protocol/upay"
	"github.com/tillgate/tillgate/terminal"
)

type upayCommand struct {
	Activate    upayActivate    `cmd:"" help:"Turn an activation code into a terminal; its identity is kept in a file."`
	Checkin     upayCheckin     `cmd:"" help:"Change the terminal's key, as tills do every day."`
	Pay         upayPay         `cmd:"" help:"Take a payment by the customer's code, and find out what became of it."`
	Precreate   upayPrecreate   `cmd:"" help:"Show a QR code in this window and follow the order until it is paid."`
	Query       upayQuery       `cmd:"" help:"Look at an order by either number."`
	Refund      upayRefund      `cmd:"" help:"Give a part or all of an order back."`
	Revoke      upayRevoke      `cmd:"" help:"Take a paid order back whole, on the day of its creation; the fee is returned."`
	Cancel      upayCancel      `cmd:"" help:"End an order that is not paid, or whose outcome is not known."`
	CallbackKey upayCallbackKey `cmd:"" name:"callback-key" help:"Print the public key with which receivers verify callbacks."`
}

// upayTill is what all of a till's commands have.
type upayTill struct {
	Data     string `type:"path" default:"tillgate-dev" help:"Data folder of a running dev, for everything that is not given."`
	BaseURL  string `name:"base-url" env:"UPAY_URL" help:"Address of an Upay server, such as https://pay.example.com/upay."`
	Identity string `type:"path" help:"File of the terminal's identity; upay-till.json in the data folder when empty."`
	JSON     bool   `help:"Print JSON."`
}

// client makes a client of the till.
func (t *upayTill) client() (*upay.Client, *devInfo, error) {
	dev, err := devOf(t.Data)
	if err != nil {
		return nil, nil, err
	}
	if t.BaseURL == "" {
		t.BaseURL = dev.Upay.BaseURL
	}
	if t.BaseURL == "" {
		return nil, nil, fmt.Errorf("no dev is running on %s; start one with tillgate dev, or give --base-url", t.Data)
	}
	if t.Identity == "" {
		t.Identity = filepath.Join(t.Data, "upay-till.json")
	}
	return &upay.Client{BaseURL: t.BaseURL, Keeper: identityFile(t.Identity), DeviceID: tillDevice}, dev, nil
}

// tillDevice is the device that these commands are.
const tillDevice = "tillgate-cli"

// identityFile keeps a terminal's identity, readable by its owner only.
type identityFile string

// savedIdentity is what the file holds.
type savedIdentity struct {
	TerminalSN string `json:"terminal_sn"`
	Key        string `json:"terminal_key"`
	Last       string `json:"last_key,omitempty"`
}

func (f identityFile) Identity(context.Context) (upay.Identity, error) {
	text, err := os.ReadFile(string(f))
	if errors.Is(err, fs.ErrNotExist) {
		return upay.Identity{}, fmt.Errorf("there is no terminal in %s; make one with: tillgate upay activate", string(f))
	}
	if err != nil {
		return upay.Identity{}, err
	}
	var saved savedIdentity
	if err := json.Unmarshal(text, &saved); err != nil {
		return upay.Identity{}, fmt.Errorf("%s: %w", string(f), err)
	}
	id := upay.Identity{TerminalSN: saved.TerminalSN, Key: terminal.NewSecret(saved.Key)}
	if saved.Last != "" {
		id.Last = terminal.NewSecret(saved.Last)
	}
	return id, nil
}

func (f identityFile) Keep(_ context.Context, i upay.Identity) error {
	return writeJSON(string(f), savedIdentity{i.TerminalSN, i.Key.Reveal(), i.Last.Reveal()})
}

// number is a fresh number of an order or refund.
func number(prefix string) string {
	raw := make([]byte, 3)
	rand.Read(raw) // Never fails.
	return prefix + strconv.FormatInt(time.Now().UnixMilli(), 36) + hex.EncodeToString(raw)
}

// cents reads an amount such as 12.50. Upay's amounts are hundredths, whatever the currency.
func cents(text string) (int64, error) {
	a, err := money.Parse(text, money.MustCurrency("CNY"))
	if err == nil && !a.IsPositive() {
		err = errors.New("it must be above zero")
	}
	if err != nil {
		return 0, fmt.Errorf("%q is not an amount such as 12.50: %w", text, err)
	}
	return a.Minor(), nil
}

// Activation.

type upayActivate struct {
	upayTill
	VendorSN  string `name:"vendor-sn" env:"UPAY_VENDOR_SN" help:"Number of the vendor; dev's when empty."`
	VendorKey string `name:"vendor-key" env:"UPAY_VENDOR_KEY" help:"Key of the vendor."`
	AppID     string `name:"app-id" env:"UPAY_APP_ID" help:"Application of the vendor."`
	Code      string `env:"UPAY_CODE" help:"Activation code of the store; dev's when empty."`
}

func (c *upayActivate) Run(e *env) error {
	client, dev, err := c.client()
	if err != nil {
		return err
	}
	for _, d := range []struct{ to, from *string }{{&c.VendorSN, &dev.Upay.VendorSN}, {&c.VendorKey, &dev.Upay.VendorKey}, {&c.AppID, &dev.Upay.AppID},
		{&c.Code, &dev.Upay.ActivationCode}} {
		if *d.to == "" {
			*d.to = *d.from
		}
	}
	got, err := client.Activate(e.ctx, upay.Vendor{SN: c.VendorSN, Key: terminal.NewSecret(c.VendorKey)},
		upay.ActivateRequest{AppID: c.AppID, Code: c.Code, DeviceID: tillDevice, Name: "tillgate upay"})
	if err != nil {
		return err
	}
	return c.said(e, got)
}

type upayCheckin struct{ upayTill }

func (c *upayCheckin) Run(e *env) error {
	client, _, err := c.client()
	if err != nil {
		return err
	}
	got, err := client.CheckIn(e.ctx, upay.CheckInRequest{DeviceID: tillDevice})
	if err != nil {
		return err
	}
	return c.said(e, got)
}

// said prints whom the till stands for; its key is in the file only.
func (t *upayTill) said(e *env, c *upay.Credentials) error {
	row := map[string]string{"terminal_sn": c.TerminalSN, "merchant_sn": c.MerchantSN, "merchant_name": c.MerchantName, "store_sn": c.StoreSN,
		"store_name": c.StoreName, "identity": t.Identity}
	if t.JSON {
		return json.NewEncoder(e.stdout).Encode(row)
	}
	_, err := fmt.Fprintf(e.stdout, "Terminal %s of %s, store %s. Its key is in %s.\n", c.TerminalSN, c.MerchantName, c.StoreName, t.Identity)
	return err
}

// Orders.

// orderFlags are of commands that make an order.
type orderFlags struct {
	Amount    string `required:"" help:"Amount, such as 12.50."`
	ClientSN  string `name:"client-sn" help:"The till's own number of the order; a fresh one when empty."`
	Subject   string `default:"tillgate upay" help:"What the customer's wallet shows."`
	Operator  string `default:"cli" help:"Cashier."`
	NotifyURL string `name:"notify-url" help:"Where the server calls back to when the order is paid."`
}

func (o *orderFlags) order() (upay.Order, error) {
	amount, err := cents(o.Amount)
	if err != nil {
		return upay.Order{}, fmt.Errorf("--amount: %w", err)
	}
	if o.ClientSN == "" {
		o.ClientSN = number("cli-")
	}
	return upay.Order{ClientSN: o.ClientSN, TotalAmount: amount, Subject: o.Subject, Operator: o.Operator, NotifyURL: o.NotifyURL}, nil
}

type upayPay struct {
	upayTill
	orderFlags
	Code      string `help:"What was scanned from the customer's phone."`
	Wallet    string `default:"alipay" help:"Without --code: a wallet of dev, alipay, wechat or unionpay, whose code is taken."`
	Behaviour string `default:"approve" help:"Without --code: what the wallet does, such as approve, insufficient_funds, pending_then_approve_3s or no_answer."`
}

// Help says what the command does when nobody answers.
func (upayPay) Help() string {
	return "A pay is never sent twice. While its outcome is not known, the order is asked for; after a minute it is cancelled. It exits with 1 unless the order is paid."
}

func (c *upayPay) Run(e *env) error {
	client, dev, err := c.client()
	if err != nil {
		return err
	}
	order, err := c.order()
	if err != nil {
		return err
	}
	for _, code := range dev.WalletCodes {
		if c.Code == "" && code.Provider == c.Wallet && code.Behaviour == c.Behaviour {
			c.Code = code.Code
		}
	}
	if c.Code == "" {
		return fmt.Errorf("dev has no code of %s that does %s; give --code", c.Wallet, c.Behaviour)
	}
	fmt.Fprintf(e.stderr, "order %s: waiting for the wallet …\n", c.ClientSN)
	stop := ticking(e, "still waiting")
	verdict, err := client.TakePayment(e.ctx, upay.PayRequest{Order: order, DynamicID: c.Code})
	stop()
	if err != nil {
		return err
	}
	return c.verdict(e, verdict, "paid")
}

// tickEvery is how often somebody who waits is told so.
const tickEvery = 5 * time.Second

// ticking tells how long it has been waiting, until the function that it returns is called.
func ticking(e *env, what string) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(tickEvery)
		defer tick.Stop()
		for start := time.Now(); ; {
			select {
			case <-done:
				return
			case <-tick.C:
				fmt.Fprintf(e.stderr, "%s, %d s …\n", what, int(time.Since(start).Seconds()))
			}
		}
	}()
	return func() { close(done); <-ended }
}

// verdict prints what became of an operation, and fails unless it is done.
func (t *upayTill) verdict(e *env, v *upay.Verdict, done string) error {
	if v.Data != nil {
		if err := t.show(e, v.Data); err != nil {
			return err
		}
	}
	if v.Done {
		return nil
	}
	return fmt.Errorf("not %s: %s", done, strings.TrimSpace(string(v.Code)+" "+v.Message))
}

// show prints an order.
func (t *upayTill) show(e *env, d *upay.Data) error {
	row := map[string]string{"sn": d.SN, "client_sn": d.ClientSN, "client_tsn": d.ClientTSN, "trade_no": d.TradeNo, "status": string(d.Status),
		"order_status": string(d.OrderStatus), "payway_name": d.PaywayName, "total_amount": yuan(d.TotalAmount), "net_amount": yuan(d.NetAmount)}
	if t.JSON {
		return json.NewEncoder(e.stdout).Encode(row)
	}
	w := tabwriter.NewWriter(e.stdout, 0, 4, 2, ' ', 0)
	for _, name := range []string{"sn", "client_sn", "client_tsn", "trade_no", "payway_name", "status", "order_status", "total_amount", "net_amount"} {
		if row[name] != "" {
			fmt.Fprintf(w, "%s\t%s\n", name, row[name])
		}
	}
	return w.Flush()
}

// yuan shows cents.
func yuan(cents int64) string { return money.New(cents, money.MustCurrency("CNY")).String() }

type upayPrecreate struct {
	upayTill
	orderFlags
	Wallet string `default:"alipay" enum:"alipay,wechat,unionpay" help:"Wallet that the customer pays with: alipay, wechat or unionpay."`
	NoWait bool   `name:"no-wait" help:"Show the code and do not follow the order."`
}

// walletPayways are the payways of the wallets that dev plays.
var walletPayways = map[string]string{"alipay": upay.PaywayAlipay, "wechat": upay.PaywayWechat, "unionpay": upay.PaywayUnionPay}

func (c *upayPrecreate) Run(e *env) error {
	client, _, err := c.client()
	if err != nil {
		return err
	}
	order, err := c.order()
	if err != nil {
		return err
	}
	order.Payway = walletPayways[c.Wallet]
	biz, err := client.Precreate(e.ctx, upay.PrecreateRequest{Order: order, SubPayway: upay.SubPaywayQR})
	if err != nil {
		return err
	}
	if biz.Data == nil || biz.Data.QRCode == "" {
		return fmt.Errorf("no code: %s %s", biz.ErrorCode, biz.ErrorMessage)
	}
	picture, err := qrcode.New(biz.Data.QRCode, qrcode.Medium)
	if err != nil {
		return err
	}
	out := e.stdout
	if c.JSON {
		out = e.stderr // Standard output is for machines.
	}
	fmt.Fprintf(out, "%s\n%s\norder %s\n", picture.ToSmallString(false), biz.Data.QRCode, c.ClientSN)
	if c.NoWait {
		return c.show(e, biz.Data)
	}
	fmt.Fprintln(e.stderr, "waiting for the customer …")
	start := time.Now()
	verdict, err := client.Follow(e.ctx, c.ClientSN, func(d *upay.Data) {
		fmt.Fprintf(e.stderr, "%s after %d s\n", d.OrderStatus, int(time.Since(start).Seconds()))
	})
	if err != nil {
		return err
	}
	return c.verdict(e, verdict, "paid")
}

// orderName names an order by either number.
type orderName struct {
	SN       string `name:"sn" help:"Upay's number of the order."`
	ClientSN string `name:"client-sn" help:"The till's own number of the order."`
}

func (o orderName) check() error {
	if o.SN == "" && o.ClientSN == "" {
		return errors.New("name the order: --sn or --client-sn")
	}
	return nil
}

// answered prints the answer to a call about an order; it fails unless the order was found and the call done.
func (t *upayTill) answered(e *env, biz *upay.Biz, done ...upay.Outcome) error {
	if biz.Data != nil {
		if err := t.show(e, biz.Data); err != nil {
			return err
		}
	}
	for _, outcome := range done {
		if biz.ResultCode == outcome {
			return nil
		}
	}
	return fmt.Errorf("%s: %s", biz.ResultCode, strings.TrimSpace(string(biz.ErrorCode)+" "+biz.ErrorMessage))
}

type upayQuery struct {
	upayTill
	orderName
	RefundNo string `name:"refund-no" help:"The till's number of a refund, to look at that."`
}

func (c *upayQuery) Run(e *env) error {
	client, _, err := c.client()
	if err == nil {
		err = c.check()
	}
	if err != nil {
		return err
	}
	biz, err := client.Query(e.ctx, upay.QueryRequest{SN: c.SN, ClientSN: c.ClientSN, RefundRequestNo: c.RefundNo})
	if err != nil {
		return err
	}
	return c.answered(e, biz, upay.Success)
}

type upayRefund struct {
	upayTill
	orderName
	Amount   string `required:"" help:"Amount, such as 2.50."`
	RefundNo string `name:"refund-no" help:"The till's number of the refund: the same number is the same refund. A fresh one when empty."`
	Operator string `default:"cli" help:"Cashier."`
}

func (c *upayRefund) Run(e *env) error {
	client, _, err := c.client()
	if err == nil {
		err = c.check()
	}
	if err != nil {
		return err
	}
	amount, err := cents(c.Amount)
	if err != nil {
		return fmt.Errorf("--amount: %w", err)
	}
	if c.RefundNo == "" {
		c.RefundNo = number("r")
	}
	fmt.Fprintf(e.stderr, "refund %s …\n", c.RefundNo)
	stop := ticking(e, "still waiting")
	verdict, err := client.TakeRefund(e.ctx, upay.RefundRequest{SN: c.SN, ClientSN: c.ClientSN, RefundRequestNo: c.RefundNo, RefundAmount: amount,
		Operator: c.Operator})
	stop()
	if err != nil {
		return err
	}
	return c.verdict(e, verdict, "refunded")
}

type upayRevoke struct {
	upayTill
	orderName
}

func (c *upayRevoke) Run(e *env) error {
	return end(e, &c.upayTill, c.orderName, (*upay.Client).Revoke)
}

type upayCancel struct {
	upayTill
	orderName
}

func (c *upayCancel) Run(e *env) error {
	return end(e, &c.upayTill, c.orderName, (*upay.Client).Cancel)
}

func end(e *env, t *upayTill, o orderName, call func(*upay.Client, context.Context, upay.CancelRequest) (*upay.Biz, error)) error {
	client, _, err := t.client()
	if err == nil {
		err = o.check()
	}
	if err != nil {
		return err
	}
	biz, err := call(client, e.ctx, upay.CancelRequest{SN: o.SN, ClientSN: o.ClientSN})
	if err != nil {
		return err
	}
	return t.answered(e, biz, upay.CancelSuccess, upay.CancelAbortSuccess)
}

// The key of callbacks.

type upayCallbackKey struct {
	Config string `short:"c" type:"path" help:"Configuration file of the server."`
	Data   string `type:"path" help:"Data folder of the server."`
}

func (c *upayCallbackKey) Run(e *env) error {
	cfg, err := loadConfig(c.Config, e.getenv)
	if err != nil {
		return err
	}
	if c.Data != "" {
		cfg.Data = c.Data
	}
	if cfg.Upay.KeyFile == "" {
		cfg.Upay.KeyFile = filepath.Join(cfg.Data, "upay-callback.pem")
	}
	key, err := signingKey(cfg.Upay.KeyFile)
	if err != nil {
		return err
	}
	text, err := publicPEM(key)
	if err != nil {
		return err
	}
	_, err = io.WriteString(e.stdout, text)
	return err
}

package main

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/tillgate/tillgate/device"
	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/protocol/iotpay"
	"github.com/tillgate/tillgate/protocol/qfpay"
	"github.com/tillgate/tillgate/protocol/upay"
	"github.com/tillgate/tillgate/protocol/uqpay"
	"github.com/tillgate/tillgate/terminal"
)

// The demo data of the protocols with terminals. Secrets are derived from the installation secret, so that they outlive a restart without
// being stored in clear.

// devClients are the demo clients of UQPAY, by their names in dev.json.
var devClients = []struct {
	name, market string
	profile      payment.Profile
}{
	{"uqpay", "sg", payment.Profile{}},
	{"uqpay_other", "sg-other", payment.Profile{}},
	{"uqpay_rfc3339", "sg", payment.Profile{PINKeyExpire: "rfc3339"}},
	{"uqpay_till", "sg", payment.Profile{}},
}

// marketOf finds a demo merchant.
func marketOf(name string) market {
	for _, m := range markets {
		if m.name == name {
			return m
		}
	}
	panic("no market " + name) // The tables are ours.
}

// provisionUQPAY makes what is missing of the demo clients, and the webhook when an address is given.
func (s *server) provisionUQPAY(ctx context.Context, webhook string) (map[string]devUQPAY, error) {
	clients := map[string]devUQPAY{}
	for _, c := range devClients {
		m := marketOf(c.market)
		merchant, err := s.store.FindMerchantByPublicID(ctx, m.public)
		if err != nil {
			return nil, err
		}
		info := devUQPAY{BaseURL: s.url() + "/uqpay/api", ClientID: hex.EncodeToString(s.vault.MAC("dev client", []byte(c.name)))[:32],
			APIKey: "uq_" + base64.RawURLEncoding.EncodeToString(s.vault.MAC("dev api key", []byte(c.name))), FirmCode: "05", TerminalModel: "A930",
			Currency: m.currencies[0], WebhookURL: webhook, Merchant: m.public,
			WebhookSecret: "whsec_" + base64.RawURLEncoding.EncodeToString(s.vault.MAC("dev webhook", []byte(m.public)))}
		secret, profile := uqpay.Enrol(s.vault, info.ClientID, info.APIKey, c.profile)
		hash := payment.CredentialHash(s.vault, uqpay.Protocol, secret)
		err = s.store.Read(ctx, func(r payment.Reader) error { _, err := r.Caller(uqpay.Protocol, hash); return err })
		if errors.Is(err, payment.ErrNotFound) {
			_, err = s.store.AddCredential(ctx, payment.Credential{Protocol: uqpay.Protocol, Merchant: merchant.ID, Name: "dev " + c.name, Profile: profile}, hash)
		}
		if err == nil && webhook != "" {
			err = s.ensureWebhook(ctx, payment.Webhook{Merchant: merchant.ID, Protocol: uqpay.Protocol, URL: webhook}, info.WebhookSecret)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
		clients[c.name] = info
	}
	return clients, nil
}

// ensureWebhook adds a webhook unless the merchant has one to the same address.
func (s *server) ensureWebhook(ctx context.Context, w payment.Webhook, secret string) error {
	if err := s.targets().Check(w.URL); err != nil {
		return fmt.Errorf("--uqpay-webhook: %w", err)
	}
	there := false
	err := s.store.Read(ctx, func(r payment.Reader) error {
		hooks, err := r.Webhooks(w.Merchant, w.Protocol)
		for _, h := range hooks {
			there = there || h.URL == w.URL
		}
		return err
	})
	if err != nil || there {
		return err
	}
	if w.Secret, err = uqpay.SealWebhookSecret(s.vault, w.Merchant, w.URL, secret); err != nil {
		return err
	}
	_, err = s.store.AddWebhook(ctx, w)
	return err
}

// The demo vendor of Upay.
const (
	devVendor = "90001234"
	devApp    = "2026112200000001"
)

// provisionUpay makes what is missing of the demo vendor, and an activation code that can be used as often as one likes.
func (s *server) provisionUpay(ctx context.Context) (devUpay, error) {
	m := marketOf("cn")
	info := devUpay{BaseURL: s.url() + "/upay", VendorSN: devVendor, VendorKey: hex.EncodeToString(s.vault.MAC("dev vendor", []byte(devVendor)))[:32],
		AppID: devApp, Merchant: m.public}
	var err error
	if info.CallbackPublicKey, err = publicPEM(s.signing); err != nil {
		return info, err
	}
	if _, err = s.terminals.Vendor(ctx, devVendor); errors.Is(err, payment.ErrNotFound) {
		err = s.terminals.AddVendor(ctx, terminal.Vendor{Number: devVendor, Name: "Demo Tills", Key: terminal.NewSecret(info.VendorKey), Apps: []string{devApp}})
	}
	if err != nil {
		return info, err
	}
	merchant, err := s.store.FindMerchantByPublicID(ctx, m.public)
	if err != nil {
		return info, err
	}
	codes, err := s.terminals.Codes(ctx, merchant.ID, 0, listPage)
	if err != nil {
		return info, err
	}
	for _, c := range codes {
		if c.Uses == 0 && c.Expires.IsZero() && c.Protocol == upay.Protocol {
			info.ActivationCode = c.Text
			return info, nil
		}
	}
	stores, err := s.store.Stores(ctx, merchant.ID, 0, 1)
	if err != nil || len(stores) == 0 {
		return info, errors.Join(err, errors.New("the demo merchant has no store"))
	}
	info.ActivationCode, err = s.terminals.NewCode(ctx, terminal.Code{Merchant: merchant.ID, Store: stores[0].ID, Protocol: upay.Protocol})
	return info, err
}

// devIOTPay is a merchant of IOT Pay with a card terminal.
type devIOTPay struct {
	BaseURL   string `json:"base_url"`
	MchID     string `json:"mch_id"`
	LoginName string `json:"login_name"`
	Key       string `json:"key"`
	Device    string `json:"device"`
	Currency  string `json:"currency"`
}

// devQFPay is the terminal as a server to the cash register beside it.
type devQFPay struct {
	HTTPURL    string `json:"http_url"`
	TCPAddr    string `json:"tcp_addr"`
	SerialPath string `json:"serial_path"`
	POSKey     string `json:"pos_key"`
	Currency   string `json:"currency"`
}

// devTerminal is the virtual terminal.
type devTerminal struct {
	PageURL string `json:"page_url"`
	TID     string `json:"tid"` // In the Canadian store, over IOT Pay.
}

// The virtual terminal's numbers in its two protocols.
const (
	devIOTDevice = "VT000001"
	devQFDevice  = "VT000002"
)

// startTerminal pairs the virtual terminal with two of the demo merchants, unless it is paired already: a Canadian one whose tills drive it over
// IOT Pay, and one in Hong Kong whose cash register speaks QFPay to it.
func (c *devCommand) startTerminal(ctx context.Context, s *server, p *party, info *devInfo, log *slog.Logger) (*terminalProgram, error) {
	dir := filepath.Join(c.Data, "terminal")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	canada, err := s.pairDev(ctx, dir, "ca", iotpay.Protocol, devIOTDevice)
	if err != nil {
		return nil, err
	}
	hongKong, err := s.pairDev(ctx, dir, "hk", qfpay.Protocol, devQFDevice)
	if err != nil {
		return nil, err
	}
	if err := s.provisionIOTPay(ctx, info); err != nil {
		return nil, err
	}
	posKey, err := s.posKey(ctx)
	if err != nil {
		return nil, err
	}
	addresses := map[string]string{"page": c.TerminalPage, "http": "", "tcp": ""}
	for name, beside := range map[string]string{"page": "8092", "http": "9001", "tcp": "9002"} {
		if addresses[name], err = c.partyAddress(addresses[name], beside); err != nil {
			return nil, err
		}
	}
	var cards []device.Card
	for _, d := range p.cards() {
		cards = append(cards, d.plastic())
	}
	code := ""
	for _, w := range info.WalletCodes {
		if w.Provider == "alipay" && w.Behaviour == "approve" {
			code = w.Code
		}
	}
	t, err := newTerminalProgram(terminalSettings{Dir: dir, Identities: []*device.Identity{canada, hongKong}, Cards: cards, Customer: c.Customer, WalletCode: code, PayQR: p.tap,
		Page: addresses["page"], Language: "en", Serial: devIOTDevice, ECR: ecrSettings{HTTP: addresses["http"], TCP: addresses["tcp"], Pty: true}}, log)
	if err != nil {
		return nil, err
	}
	info.Terminal = devTerminal{PageURL: t.pageURL(), TID: canada.Number}
	info.QFPay = devQFPay{HTTPURL: address(t.http, "http://"), TCPAddr: address(t.tcp, ""), SerialPath: t.far.Name(), POSKey: posKey, Currency: "HKD"}
	return t, nil
}

// tap plays the customer's phone: it opens the page behind a QR code that the terminal shows, and approves or declines there.
func (p *party) tap(ctx context.Context, qr string, approve bool) error {
	button := "/decline"
	if approve {
		button = "/approve"
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url()+strings.TrimPrefix(qr, p.publicURL())+button, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	return res.Body.Close()
}

// pairDev pairs the virtual terminal with a demo merchant and names it in a protocol, unless that is done already.
func (s *server) pairDev(ctx context.Context, dir, marketName, protocol, number string) (*device.Identity, error) {
	m := marketOf(marketName)
	merchant, err := s.store.FindMerchantByPublicID(ctx, m.public)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, marketName+".json")
	identity, err := device.LoadIdentity(path)
	if err == nil {
		identity.Server = s.url() + "/terminal" // A port may have been a free one.
		return identity, nil
	}
	if !errors.Is(err, device.ErrNoIdentity) {
		return nil, err
	}
	stores, err := s.store.Stores(ctx, merchant.ID, 0, 1)
	if err != nil || len(stores) == 0 {
		return nil, errors.Join(err, errors.New("the demo merchant has no store"))
	}
	code, err := s.terminals.NewCode(ctx, terminal.Code{Merchant: merchant.ID, Store: stores[0].ID, Protocol: terminal.DeviceProtocol, Uses: 1})
	if err != nil {
		return nil, err
	}
	if identity, err = device.Pair(ctx, s.url()+"/terminal", code, path, device.About{Maker: "Tillgate", Model: "Virtual"}, true); err != nil {
		return nil, err
	}
	e, err := s.terminals.Fresh(ctx, terminal.DeviceProtocol, identity.Number)
	if err != nil {
		return nil, err
	}
	_, err = s.terminals.AddIdentity(ctx, 0, terminal.Identity{Merchant: merchant.ID, Terminal: e.Terminal, Protocol: protocol, Number: number})
	return identity, err
}

// provisionIOTPay makes the Canadian merchant's key, unless it has it.
func (s *server) provisionIOTPay(ctx context.Context, info *devInfo) error {
	m := marketOf("ca")
	merchant, err := s.store.FindMerchantByPublicID(ctx, m.public)
	if err != nil {
		return err
	}
	accounts := iotAccounts{s.tool}
	key := hex.EncodeToString(s.vault.MAC("dev iotpay", []byte(m.public)))[:32]
	if _, err := accounts.Account(ctx, m.public); errors.Is(err, payment.ErrNotFound) {
		if err := accounts.addKey(ctx, merchant.ID, key); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	info.IOTPay = devIOTPay{BaseURL: s.url() + "/iotpay", MchID: m.public, LoginName: devIOTDevice, Key: key, Device: devIOTDevice, Currency: m.currencies[0]}
	return nil
}

// posKey is the POS-KEY of the terminal in Hong Kong; it is made when there is none.
func (s *server) posKey(ctx context.Context) (string, error) {
	e, err := s.terminals.Fresh(ctx, qfpay.Protocol, devQFDevice)
	if err != nil {
		return "", err
	}
	keys, err := s.terminals.Keys(e)
	if err != nil {
		return "", err
	}
	if len(keys) > 0 {
		return keys[0].Typed().Reveal(), nil
	}
	key, err := s.terminals.CheckIn(ctx, e, terminal.Device{})
	return key.Typed().Reveal(), err
}

// plastic is a card as the virtual terminal plays it.
func (d devCard) plastic() device.Card {
	return device.Card{PAN: d.PAN, Brand: d.Brand, ExpiryMonth: d.ExpiryMonth, ExpiryYear: d.ExpiryYear, PIN: d.PIN, Track2: d.Track2, PSN: d.PSN,
		Behaviour: d.Behaviour, IssuerMasterKey: d.IssuerMasterKey}
}

// listPage is how many rows a list asks for at once.
const listPage = 500

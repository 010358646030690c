package main

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/tillgate/tillgate/payment"
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

// listPage is how many rows a list asks for at once.
const listPage = 500

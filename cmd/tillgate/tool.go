package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tillgate/tillgate/admin"
	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/notify"
	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/protocol/iotpay"
	"github.com/tillgate/tillgate/protocol/qfpay"
	"github.com/tillgate/tillgate/protocol/upay"
	"github.com/tillgate/tillgate/protocol/uqpay"
	"github.com/tillgate/tillgate/sqlstore"
	"github.com/tillgate/tillgate/terminal"
	"github.com/tillgate/tillgate/vault"
)

// tool is what a server and an operator's command both have: the rows, the keys and the terminals.
type tool struct {
	cfg       Config
	log       *slog.Logger
	store     *sqlstore.Store
	vault     *vault.Vault
	terminals *terminal.Registry
}

// openTool opens the store of a data folder beside its server, for operators' commands.
func openTool(ctx context.Context, cfg Config, log *slog.Logger) (*tool, error) {
	if cfg.Secret == "" {
		cfg.Secret = filepath.Join(cfg.Data, "secret.key")
	}
	return open(ctx, cfg, cfg.store(true), log)
}

func open(ctx context.Context, cfg Config, where sqlstore.Config, log *slog.Logger) (*tool, error) {
	if err := os.MkdirAll(cfg.Data, 0o700); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	keys, err := vault.Open(cfg.Secret)
	if err != nil {
		return nil, err
	}
	store, err := sqlstore.Open(ctx, where)
	if err != nil {
		return nil, errors.Join(err, keys.Close())
	}
	registry := terminal.New(terminal.Config{Store: store, Vault: keys, Now: time.Now, Rand: rand.Reader, Log: log, Shared: cfg.Database != ""})
	return &tool{cfg, log, store, keys, registry}, nil
}

func (t *tool) close() error { return errors.Join(t.store.Close(), t.vault.Close()) }

// admin serves the operators' API over the rows. An empty token takes every call.
func (t *tool) admin(token string) *admin.Server {
	return admin.New(t.adminConfig(token))
}

func (t *tool) adminConfig(token string) admin.Config {
	return admin.Config{Store: t.store, Terminals: t.terminals, Vault: t.vault, Rand: rand.Reader, Log: t.log, Now: time.Now, Token: token,
		CheckTarget: t.targets().Check, CheckSettings: settingsChecks,
		Enrol: map[string]func(clientID, key string, p payment.Profile) (string, payment.Profile){
			uqpay.Protocol: func(clientID, key string, p payment.Profile) (string, payment.Profile) {
				return uqpay.Enrol(t.vault, clientID, key, p)
			}},
		NewKey:    map[string]func(context.Context, payment.MerchantID) (string, error){iotpay.Protocol: iotAccounts{t}.newKey},
		TypedKeys: []string{qfpay.Protocol},
		SealWebhook: func(w payment.Webhook, secret string) ([]byte, error) {
			return uqpay.SealWebhookSecret(t.vault, w.Merchant, w.URL, secret)
		}}
}

// settingsChecks check a merchant's settings, by protocol.
var settingsChecks = map[string]func(json.RawMessage) error{
	upay.Protocol: func(text json.RawMessage) error {
		settings := upay.DefaultSettings()
		d := json.NewDecoder(bytes.NewReader(text))
		d.DisallowUnknownFields()
		if err := d.Decode(&settings); err != nil {
			return err
		}
		return settings.Check()
	},
	qfpay.Protocol: func(text json.RawMessage) error {
		var settings terminal.ProtocolSettings
		d := json.NewDecoder(bytes.NewReader(text))
		d.DisallowUnknownFields()
		return d.Decode(&settings)
	},
}

// targets are where callbacks and webhooks may go.
func (t *tool) targets() notify.Targets {
	targets := notify.Targets{AllowPrivate: t.cfg.Notify.AllowPrivate}
	for part := range strings.SplitSeq(t.cfg.Notify.Allow, ",") {
		if prefix, err := netip.ParsePrefix(strings.TrimSpace(part)); err == nil { // Checked by validate.
			targets.Allow = append(targets.Allow, prefix)
		}
	}
	return targets
}

// operatorToken reads the operator's token, or makes one at the first start.
func operatorToken(path string) (string, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		raw := make([]byte, 32)
		rand.Read(raw) // Never fails.
		text = []byte("op_" + base64.RawURLEncoding.EncodeToString(raw))
		err = writeFile(path, append(text, '\n'))
	}
	if err != nil {
		return "", fmt.Errorf("operator's token: %w", err)
	}
	token := strings.TrimSpace(string(text))
	if len(token) < 16 {
		return "", fmt.Errorf("operator's token: %s holds less than 16 characters; make one with: openssl rand -hex 32", path)
	}
	return token, nil
}

// signingKeyBits is the size of the key that signs Upay's callbacks: what existing receivers expect (Upay reference, section 7.2).
const signingKeyBits = 2048

// signingKey reads the key that signs Upay's callbacks, or makes one at the first start.
func signingKey(path string) (*rsa.PrivateKey, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return newSigningKey(path)
	}
	if err != nil {
		return nil, fmt.Errorf("key of Upay's callbacks: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("key of Upay's callbacks: %s holds no PEM", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		parsed, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if err != nil || !ok {
		return nil, fmt.Errorf("key of Upay's callbacks: %s holds no RSA key in PKCS #8 or PKCS #1", path)
	}
	return key, nil
}

func newSigningKey(path string) (*rsa.PrivateKey, error) {
	key, err := rsa.GenerateKey(rand.Reader, signingKeyBits)
	if err != nil {
		return nil, fmt.Errorf("key of Upay's callbacks: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err == nil {
		err = writeFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	}
	if err != nil {
		return nil, fmt.Errorf("key of Upay's callbacks: %w", err)
	}
	return key, nil
}

// publicPEM is the public half of a key, for receivers of callbacks.
func publicPEM(key *rsa.PrivateKey) (string, error) {
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return "", err
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), nil
}

// minor shows minor units as decimal text.
func minor(amount int64, currency string) string {
	cur, err := money.ParseCurrency(currency)
	if err != nil {
		return fmt.Sprint(amount)
	}
	return money.New(amount, cur).String()
}

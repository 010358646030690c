package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/BurntSushi/toml"

	"github.com/tillgate/tillgate/sqlstore"
)

// Config is the configuration of a server: a TOML file, then the environment, then flags. docs/configuration.md explains every field.
type Config struct {
	Listen  string `toml:"listen"`  // Address of the server, such as "0.0.0.0:8080".
	Metrics string `toml:"metrics"` // Address of /metrics; empty serves it on Listen.
	Data    string `toml:"data"`    // Folder of the database and the installation secret.
	// Database is the URL of a PostgreSQL database for several servers together; empty is SQLite in Data. It may hold a password.
	Database string `toml:"database"`
	Secret   string `toml:"secret"` // File of the installation secret; empty is secret.key in Data.
	TLSCert  string `toml:"tls_cert"`
	TLSKey   string `toml:"tls_key"`
	Log      string `toml:"log"` // debug, info, warn or error.
	// Signals are NATS servers through which several servers on one database wake each other's waiters.
	Signals       string `toml:"signals"`
	SignalsListen string `toml:"signals_listen"` // Address of a NATS server in this process; empty for none.

	Wallet WalletConfig `toml:"wallet"`
	Card   CardConfig   `toml:"card"`
	UPP    UPPConfig    `toml:"upp"`
	UQPAY  UQPAYConfig  `toml:"uqpay"`
	Upay   UpayConfig   `toml:"upay"`
	IOTPay IOTPayConfig `toml:"iotpay"`
	Notify NotifyConfig `toml:"notify"`
	Admin  AdminConfig  `toml:"admin"`
}

// WalletConfig is the wallet network.
type WalletConfig struct {
	URL     string `toml:"url"`
	KeyFile string `toml:"key_file"` // File that holds the bearer key.
	Timeout string `toml:"timeout"`  // Of one exchange, such as "10s".

	key     string // From the file, or from TILLGATE_WALLET_KEY.
	timeout time.Duration
}

// CardConfig is the card host. Without addresses there is none, and payments that are routed to it are refused.
type CardConfig struct {
	Hosts       string `toml:"hosts"`       // Addresses with commas between, such as "10.1.2.3:5000".
	Member      string `toml:"member"`      // Our number at the host, up to 11 digits.
	ZMKFile     string `toml:"zmk_file"`    // File with the components of the zone master key in hexadecimal, one per line.
	Timeout     string `toml:"timeout"`     // Of one exchange, such as "10s".
	Connections int    `toml:"connections"` // Lines that are kept to the host.
	PINFormat   int    `toml:"pin_format"`  // ISO 9564 format of PIN blocks to the host: 0 or 3.

	zmk     []string // From the file, or from TILLGATE_CARD_ZMK.
	zmkText string
	timeout time.Duration
}

// hosts are the addresses one by one.
func (c *CardConfig) hosts() []string {
	var list []string
	for part := range strings.SplitSeq(c.Hosts, ",") {
		if part = strings.TrimSpace(part); part != "" {
			list = append(list, part)
		}
	}
	return list
}

// UQPAYConfig is the UQPAY protocol.
type UQPAYConfig struct {
	Listen string `toml:"listen"` // An address of its own, at the root path; empty for none.
}

// UpayConfig is the Upay protocol.
type UpayConfig struct {
	Listen    string `toml:"listen"`     // An address of its own, at the root path, for clients that only let a host be configured; empty for none.
	PublicURL string `toml:"public_url"` // Address as customers' phones and merchants see it; empty is the server's own.
	KeyFile   string `toml:"key_file"`   // RSA key that signs callbacks, PEM; empty is upay-callback.pem in Data, made at the first start.
	Logs      string `toml:"logs"`       // Folder of the logs that terminals upload; empty takes none.
}

// IOTPayConfig is the IOT Pay protocol.
type IOTPayConfig struct {
	Listen string `toml:"listen"` // An address of its own, at the root path; empty for none.
}

// NotifyConfig says where callbacks and webhooks may go.
type NotifyConfig struct {
	AllowPrivate bool   `toml:"allow_private"` // Also to loopback and private addresses: for tests, and for receivers in the same house.
	Allow        string `toml:"allow"`         // Prefixes with commas between that are allowed all the same, such as "10.20.0.0/16".
}

// AdminConfig is the operators' API.
type AdminConfig struct {
	Listen    string `toml:"listen"`     // An address of its own; empty serves it on the server's. "off" serves none.
	TokenFile string `toml:"token_file"` // File of the operator's token; empty is operator.token in Data, made at the first start.
}

// UPPConfig is the UPP protocol.
type UPPConfig struct {
	Listen     string `toml:"listen"`      // An address of its own, at the root path, for clients that only let a host be configured; empty for none.
	CardTokens string `toml:"card_tokens"` // Where the card widget exchanges a card for a token; empty serves no card widget.
}

// defaultConfig is the configuration before file, environment and flags.
func defaultConfig() Config {
	return Config{Listen: "127.0.0.1:8080", Data: "tillgate-data", Log: "info", Wallet: WalletConfig{Timeout: "10s"},
		Card: CardConfig{Timeout: "10s", Connections: 4}}
}

// environment lists the variables that override the file, and what they set.
func (c *Config) environment() map[string]*string {
	return map[string]*string{
		"TILLGATE_LISTEN":           &c.Listen,
		"TILLGATE_METRICS":          &c.Metrics,
		"TILLGATE_DATA":             &c.Data,
		"TILLGATE_DATABASE":         &c.Database,
		"TILLGATE_SECRET":           &c.Secret,
		"TILLGATE_SIGNALS":          &c.Signals,
		"TILLGATE_SIGNALS_LISTEN":   &c.SignalsListen,
		"TILLGATE_TLS_CERT":         &c.TLSCert,
		"TILLGATE_TLS_KEY":          &c.TLSKey,
		"TILLGATE_LOG":              &c.Log,
		"TILLGATE_WALLET_URL":       &c.Wallet.URL,
		"TILLGATE_WALLET_KEY_FILE":  &c.Wallet.KeyFile,
		"TILLGATE_WALLET_KEY":       &c.Wallet.key,
		"TILLGATE_WALLET_TIMEOUT":   &c.Wallet.Timeout,
		"TILLGATE_UPP_CARD_TOKENS":  &c.UPP.CardTokens,
		"TILLGATE_UPP_LISTEN":       &c.UPP.Listen,
		"TILLGATE_UQPAY_LISTEN":     &c.UQPAY.Listen,
		"TILLGATE_UPAY_LISTEN":      &c.Upay.Listen,
		"TILLGATE_UPAY_PUBLIC_URL":  &c.Upay.PublicURL,
		"TILLGATE_UPAY_KEY_FILE":    &c.Upay.KeyFile,
		"TILLGATE_UPAY_LOGS":        &c.Upay.Logs,
		"TILLGATE_IOTPAY_LISTEN":    &c.IOTPay.Listen,
		"TILLGATE_CARD_HOSTS":       &c.Card.Hosts,
		"TILLGATE_CARD_MEMBER":      &c.Card.Member,
		"TILLGATE_CARD_ZMK_FILE":    &c.Card.ZMKFile,
		"TILLGATE_CARD_ZMK":         &c.Card.zmkText,
		"TILLGATE_CARD_TIMEOUT":     &c.Card.Timeout,
		"TILLGATE_NOTIFY_ALLOW":     &c.Notify.Allow,
		"TILLGATE_ADMIN_LISTEN":     &c.Admin.Listen,
		"TILLGATE_ADMIN_TOKEN_FILE": &c.Admin.TokenFile,
	}
}

// loadConfig reads the file, if one is named, and the environment. A name in the file that is not known is an error.
func loadConfig(file string, getenv func(string) string) (Config, error) {
	c := defaultConfig()
	if file != "" {
		meta, err := toml.DecodeFile(file, &c)
		if err != nil {
			return c, fmt.Errorf("configuration %s: %w", file, err)
		}
		if unknown := meta.Undecoded(); len(unknown) > 0 {
			return c, fmt.Errorf("configuration %s: %s is not a setting; see docs/configuration.md", file, unknown[0])
		}
	}
	for name, field := range c.environment() {
		if value := getenv(name); value != "" {
			*field = value
		}
	}
	return c, nil
}

// validate checks every field, names the one that is wrong, and reads what files hold.
func (c *Config) validate() error {
	if _, err := logLevel(c.Log); err != nil {
		return err
	}
	if c.Data == "" {
		return errors.New("data: name the folder of the database")
	}
	if c.Secret == "" {
		c.Secret = filepath.Join(c.Data, "secret.key")
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return errors.New("tls_cert and tls_key: give both or none")
	}
	u, err := url.Parse(c.Wallet.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("wallet.url: %q is not the address of a wallet network, such as https://wallets.example.com", c.Wallet.URL)
	}
	c.Wallet.URL = strings.TrimRight(c.Wallet.URL, "/")
	if c.Wallet.timeout, err = time.ParseDuration(c.Wallet.Timeout); err != nil || c.Wallet.timeout < 100*time.Millisecond || c.Wallet.timeout > time.Minute {
		return fmt.Errorf("wallet.timeout: %q is not a time between 100ms and 1m", c.Wallet.Timeout)
	}
	if err := c.Card.validate(); err != nil {
		return err
	}
	if c.Upay.KeyFile == "" {
		c.Upay.KeyFile = filepath.Join(c.Data, "upay-callback.pem")
	}
	if c.Admin.TokenFile == "" {
		c.Admin.TokenFile = filepath.Join(c.Data, "operator.token")
	}
	if c.UPP.CardTokens != "" {
		u, err := url.Parse(c.UPP.CardTokens)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
			return fmt.Errorf("upp.card_tokens: %q is not the address of a token service, such as https://cards.example.com/tokens", c.UPP.CardTokens)
		}
	}
	if c.Wallet.KeyFile != "" {
		key, err := os.ReadFile(c.Wallet.KeyFile)
		if err != nil {
			return fmt.Errorf("wallet.key_file: %w", err)
		}
		c.Wallet.key = strings.TrimSpace(string(key))
	}
	if c.Wallet.key == "" {
		return errors.New("wallet.key_file: name the file with the wallet network's key, or set TILLGATE_WALLET_KEY")
	}
	return nil
}

// validate checks the card host's settings, and reads its key.
func (c *CardConfig) validate() error {
	if len(c.hosts()) == 0 {
		return nil
	}
	for _, host := range c.hosts() {
		if _, _, err := net.SplitHostPort(host); err != nil {
			return fmt.Errorf("card.hosts: %q is not an address such as 10.1.2.3:5000", host)
		}
	}
	if c.Member == "" || len(c.Member) > 11 || strings.Trim(c.Member, "0123456789") != "" {
		return fmt.Errorf("card.member: %q is not a number of up to 11 digits", c.Member)
	}
	var err error
	if c.timeout, err = time.ParseDuration(c.Timeout); err != nil || c.timeout < 100*time.Millisecond || c.timeout > time.Minute {
		return fmt.Errorf("card.timeout: %q is not a time between 100ms and 1m", c.Timeout)
	}
	if c.Connections < 1 || c.Connections > 64 {
		return fmt.Errorf("card.connections: %d is not between 1 and 64", c.Connections)
	}
	if c.PINFormat != 0 && c.PINFormat != 3 {
		return fmt.Errorf("card.pin_format: %d is not 0 or 3", c.PINFormat)
	}
	if c.ZMKFile != "" {
		text, err := os.ReadFile(c.ZMKFile)
		if err != nil {
			return fmt.Errorf("card.zmk_file: %w", err)
		}
		c.zmkText = string(text)
	}
	if c.zmk = strings.Fields(c.zmkText); len(c.zmk) == 0 {
		return errors.New("card.zmk_file: name the file with the zone master key, or set TILLGATE_CARD_ZMK")
	}
	c.zmkText = ""
	return nil
}

// store is where the rows are.
func (c *Config) store(tool bool) sqlstore.Config {
	if c.Database != "" {
		return sqlstore.Config{URL: c.Database, Tool: tool, Now: time.Now}
	}
	return sqlstore.Config{Dir: c.Data, Tool: tool, Now: time.Now}
}

// dump is the effective configuration for the log, without secrets.
func (c *Config) dump() map[string]any {
	return map[string]any{
		"listen": c.Listen, "metrics": c.Metrics, "data": c.Data, "database": c.store(false).Place(),
		"signals": c.Signals, "signals_listen": c.SignalsListen, "secret": c.Secret, "tls": c.TLSCert != "", "log": c.Log,
		"card_hosts": c.Card.Hosts, "card_member": c.Card.Member, "card_timeout": c.Card.Timeout, "card_zmk": "***", "uqpay_listen": c.UQPAY.Listen,
		"upay_listen": c.Upay.Listen, "upay_public_url": c.Upay.PublicURL, "notify_allow_private": c.Notify.AllowPrivate, "notify_allow": c.Notify.Allow,
		"admin_listen": c.Admin.Listen,
		"wallet_url":   c.Wallet.URL, "wallet_timeout": c.Wallet.timeout.String(), "wallet_key": "***", "upp_listen": c.UPP.Listen, "upp_card_tokens": c.UPP.CardTokens,
	}
}

func logLevel(name string) (slog.Level, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(name)); err != nil {
		return level, fmt.Errorf("log: %q is not debug, info, warn or error", name)
	}
	return level, nil
}

// newLog writes one JSON object per line.
func newLog(w io.Writer, level slog.Level) *slog.Logger {
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level}))
}

// writeFile puts a file into place whole or not at all, readable by its owner only.
func writeFile(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(content)
	if err := errors.Join(err, f.Chmod(0o600), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// writeJSON is writeFile for a value.
func writeJSON(path string, value any) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(path, append(text, '\n'))
}

// removeFile removes a file that may not be there.
func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// parsePercent reads a rate such as "1.4" percent as millionths, exactly.
func parsePercent(text string) (int64, error) {
	whole, frac, _ := strings.Cut(text, ".")
	if len(frac) > 4 || whole == "" {
		return 0, fmt.Errorf("%q is not a percentage with at most 4 decimals, such as 1.4", text)
	}
	n, err := strconv.ParseInt(whole+(frac + "0000")[:4], 10, 64)
	if err != nil || n < 0 || n > 1_000_000 {
		return 0, fmt.Errorf("%q is not a percentage between 0 and 100, such as 1.4", text)
	}
	return n, nil
}

package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/protocol/qfpay"
	"github.com/tillgate/tillgate/protocol/upp"
	"github.com/tillgate/tillgate/protocol/uqpay"
	"github.com/tillgate/tillgate/sandbox"
	"github.com/tillgate/tillgate/sqlstore"
	"github.com/tillgate/tillgate/terminal"
	"github.com/tillgate/tillgate/vault"
)

// devFile is the file in the data folder that tells everything about a running dev.
const devFile = "dev.json"

type devCommand struct {
	Listen        string `default:"127.0.0.1:8080" help:"Address of the server; with port 0 every listener takes a free port."`
	SandboxListen string `name:"sandbox-listen" help:"Address of the sandbox. Without it: the server's host, port 8090 (or a free one when --listen has port 0)."`
	CardListen    string `name:"card-listen" help:"Address of the sandbox's card host. Without it: the server's host, port 8091 (or a free one when --listen has port 0)."`
	Webhook       string `name:"uqpay-webhook" help:"Address to which UQPAY's events are posted."`
	Data          string `type:"path" default:"tillgate-dev" help:"Folder of the database, the sandbox's books and dev.json."`
	PublicURL     string `name:"public-url" help:"Address of the sandbox as a phone sees it, such as http://192.168.1.20:8090, so that a phone can open a QR code. Listen on that address too: --listen 0.0.0.0:8080."`
	TerminalPage  string `name:"terminal-page" help:"Address of the virtual terminal's page. Without it: the server's host, port 8092 (or a free one when --listen has port 0)."`
	Customer      string `enum:",approve,decline,wrong-pin,slow,walk-away" default:"" help:"Automatic customer at the terminal: approve, decline, wrong-pin, slow or walk-away; without one the terminal's page waits for a person."`
	Log           string `default:"warn" help:"debug, info, warn or error; lines go to standard error."`
	JSON          bool   `help:"Print dev.json instead of the start page."`
}

// devInfo is dev.json.
type devInfo struct {
	Ready       bool                  `json:"ready"`
	URL         string                `json:"url"`
	UPP         devUPP                `json:"upp"`
	UQPAY       devUQPAY              `json:"uqpay"`
	UQPAYOther  devUQPAY              `json:"uqpay_other"`   // Of another account, to try what it must not see.
	UQPAYDates  devUQPAY              `json:"uqpay_rfc3339"` // With pin_key_expire as RFC 3339, which the official Go client wants.
	UQPAYTill   devUQPAY              `json:"uqpay_till"`    // Of tillgate card, since one token per client is alive.
	Upay        devUpay               `json:"upay"`
	IOTPay      devIOTPay             `json:"iotpay"`
	QFPay       devQFPay              `json:"qfpay"`
	Terminal    devTerminal           `json:"terminal"`
	Sandbox     devSandbox            `json:"sandbox"`
	WalletCodes []devWalletCode       `json:"wallet_codes"`
	Triggers    []devTrigger          `json:"triggers"`
	TestCards   []devTestCard         `json:"test_cards"`
	Cards       []devCard             `json:"cards"`
	Admin       adminInfo             `json:"admin"`
	Merchants   map[string]devAccount `json:"merchants"`
}

type devUPP struct {
	BaseURL     string `json:"base_url"`
	Token       string `json:"token"`
	PublicToken string `json:"public_token"`
	OtherToken  string `json:"other_token"` // Of another merchant, to try what it must not see.
	// For shops' pages: the buttons of the wallets, and the card fields.
	WebWidgetScript  string `json:"web_widget_script"`
	CardWidgetScript string `json:"card_widget_script"`
}

// devUQPAY is a client of UQPAY's.
type devUQPAY struct {
	BaseURL       string `json:"base_url"`
	ClientID      string `json:"client_id"`
	APIKey        string `json:"api_key"`
	FirmCode      string `json:"firm_code"` // Of a terminal's maker that can be registered.
	TerminalModel string `json:"terminal_model"`
	Currency      string `json:"currency"`
	WebhookURL    string `json:"webhook_url,omitempty"` // Where events are posted to: --uqpay-webhook.
	WebhookSecret string `json:"webhook_secret"`
	Merchant      string `json:"merchant"`
}

// devUpay is a vendor of Upay's, and a code with which its terminals are activated, as often as one likes.
type devUpay struct {
	BaseURL           string `json:"base_url"`
	VendorSN          string `json:"vendor_sn"`
	VendorKey         string `json:"vendor_key"`
	AppID             string `json:"app_id"`
	ActivationCode    string `json:"activation_code"`
	CallbackPublicKey string `json:"callback_public_key"` // PEM.
	Merchant          string `json:"merchant"`
}

type devSandbox struct {
	URL          string `json:"url"`
	BooksURL     string `json:"books_url"`
	CardAddress  string `json:"card_address"` // Of the card host, TCP.
	CardBooksURL string `json:"card_books_url"`
	CardResetURL string `json:"card_reset_url"` // POST forgets PIN tries and balances.
}

// devCard is a card of the sandbox's issuer. Only strict ones have an issuer master key: their cryptograms are checked.
type devCard struct {
	PAN             string `json:"pan"`
	Brand           string `json:"brand"`
	ExpiryMonth     string `json:"expiry_month"`
	ExpiryYear      string `json:"expiry_year"`
	PIN             string `json:"pin"`
	CVV2            string `json:"cvv2"`
	Track2          string `json:"track2"`
	PSN             string `json:"psn"`
	Behaviour       string `json:"behaviour"`
	EMV             string `json:"emv"` // strict or any.
	IssuerMasterKey string `json:"issuer_master_key,omitempty"`
	NearsExpiry     bool   `json:"nears_expiry,omitempty"`
}

type devWalletCode struct {
	Provider  string `json:"provider"`
	Code      string `json:"code"`
	Behaviour string `json:"behaviour"`
}

type devTestCard struct {
	Number    string `json:"number"`
	Behaviour string `json:"behaviour"`
}

type devTrigger struct {
	Amount    string `json:"amount"`
	Behaviour string `json:"behaviour"`
	At        string `json:"at"` // wallet, card, or both.
}

// devAccount is a demo merchant, by its market.
type devAccount struct {
	Merchant   string   `json:"merchant"`
	Name       string   `json:"name"`
	Terminal   string   `json:"terminal"`
	Currencies []string `json:"currencies"`
}

// market is a demo merchant to be made.
type market struct {
	name, public, company, trading, zone, tid string
	currencies                                []string
	credentials                               map[string]string // Protocol to the token's name in dev.json.
}

// markets are the demo merchants: one per market.
var markets = []market{
	{"au-nz", "740218", "Harbour Outdoor Pty Ltd", "Harbour Outdoor Geelong", "Australia/Melbourne", "1", []string{"AUD", "NZD"},
		map[string]string{upp.Protocol: "token", upp.PublicProtocol: "public_token"}},
	{"sg", "740319", "Lion City Books Pte Ltd", "Lion City Books Bugis", "Asia/Singapore", "2", []string{"SGD"},
		map[string]string{upp.Protocol: "other_token"}},
	{"sg-other", "740327", "Merlion Kitchen Pte Ltd", "Merlion Kitchen Tampines", "Asia/Singapore", "6", []string{"SGD"}, nil},
	{"cn", "740420", "Lantern Noodle Co Ltd", "Lantern Noodle Pudong", "Asia/Shanghai", "3", []string{"CNY"}, nil},
	{"ca", "740521", "Maple Hardware Inc", "Maple Hardware Toronto", "America/Toronto", "4", []string{"CAD"}, nil},
	{"hk", "740622", "Peak Tea Trading Ltd", "Peak Tea Central", "Asia/Hong_Kong", "5", []string{"HKD"}, nil},
}

// devMethods are the wallets that every demo merchant takes, and what they cost it.
var devMethods = map[string]payment.Rate{
	upp.ProviderAlipay:        {Millionths: 14_000},
	upp.ProviderWechat:        {Millionths: 14_000},
	upp.ProviderUnionpay:      {Millionths: 15_000},
	upp.ProviderAfterpay:      {Millionths: 40_000, Fixed: 30},
	upp.ProviderZippay:        {Millionths: 38_000, Fixed: 15},
	upp.ProviderHumm:          {Millionths: 35_000},
	upp.ProviderLatitudepay:   {Millionths: 33_000},
	upp.ProviderGenoapay:      {Millionths: 33_000},
	upp.ProviderFinancialCard: {Millionths: 12_000, Fixed: 10},
	qfpay.PayMe.Method():      {Millionths: 12_000},
	qfpay.FPS.Method():        {Millionths: 5_000},
	qfpay.OctopusPay.Method(): {Millionths: 15_000},
	devCardMethod:             {Millionths: 9_000, Fixed: 5},
}

// devCardMethod is the method of cards at a terminal.
const devCardMethod = terminal.MethodCard

// Run runs everything until it is told to stop.
func (c *devCommand) Run(e *env) error {
	level, err := logLevel(c.Log)
	if err != nil {
		return err
	}
	log := newLog(e.stderr, level)
	if err := os.MkdirAll(c.Data, 0o700); err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	sandboxListen, err := c.sandboxAddress()
	if err != nil {
		return err
	}
	cardListen, err := c.partyAddress(c.CardListen, "8091")
	if err != nil {
		return err
	}
	// Both sides live in this process, so keys of their own each time will do.
	walletKey, zmk := make([]byte, 32), make([]byte, 16)
	rand.Read(walletKey) // Never fails.
	rand.Read(zmk)
	cfg := defaultConfig()
	cfg.Listen, cfg.Data = c.Listen, c.Data
	cfg.Wallet.key = base64.RawURLEncoding.EncodeToString(walletKey)
	cfg.Wallet.URL = "http://to.be.set" // The sandbox's, once it listens.
	cfg.Card.Member, cfg.Card.zmkText = devMember, hex.EncodeToString(zmk)
	cfg.Notify.AllowPrivate = true
	cardHost, err := listen("card host", cardListen) // Before the server, which is told its address.
	if err != nil {
		return err
	}
	cfg.Card.Hosts = cardHost.Addr().String()
	if err := cfg.validate(); err != nil {
		return errors.Join(err, cardHost.Close())
	}
	s, err := newServer(e.ctx, cfg, log) // Takes the lock of the data folder, before the sandbox opens its books in it.
	if err != nil {
		return errors.Join(err, cardHost.Close())
	}
	keys := partyKeys{wallet: cfg.Wallet.key, zmk: hex.EncodeToString(zmk), member: devMember}
	return errors.Join(c.run(e, s, sandboxListen, cardHost, keys, log), s.close())
}

// devMember is the server's number at the sandbox's card host.
const devMember = "100200"

func (c *devCommand) run(e *env, s *server, sandboxListen string, cardHost net.Listener, keys partyKeys, log *slog.Logger) (err error) {
	path := filepath.Join(c.Data, devFile)
	if err := removeFile(path); err != nil { // Of an earlier run: nobody shall begin with it.
		return err
	}
	defer func() { _ = cardHost.Close() }() // Closed already if it was served.
	tokens, err := provision(e.ctx, s.store, s.vault)
	if err != nil {
		return fmt.Errorf("demo data: %w", err)
	}
	if err := s.listen(); err != nil {
		return err
	}
	s.uqpay.Limits = uqpay.SandboxLimits // Nothing is served yet.
	clients, err := s.provisionUQPAY(e.ctx, c.Webhook)
	if err != nil {
		return fmt.Errorf("demo data of UQPAY: %w", err)
	}
	vendor, err := s.provisionUpay(e.ctx)
	if err != nil {
		return fmt.Errorf("demo data of Upay: %w", err)
	}
	p, err := newParty(sandboxListen, cardHost, c.Data, keys, c.PublicURL, log)
	if err != nil {
		return err
	}
	s.link.Client.BaseURL, s.upp.CardTokens = p.url(), p.publicURL()+"/cards/tokens" // Nothing is served yet.
	info := devInfo{Ready: true, URL: s.url(), Sandbox: p.info(), WalletCodes: walletCodes(), Triggers: triggers(), TestCards: testCards(),
		UQPAY: clients["uqpay"], UQPAYOther: clients["uqpay_other"], UQPAYDates: clients["uqpay_rfc3339"], UQPAYTill: clients["uqpay_till"], Upay: vendor,
		Cards: p.cards(), Admin: adminInfo{URL: s.adminURL, Token: s.token}, Merchants: map[string]devAccount{},
		UPP: devUPP{BaseURL: s.url() + "/upp", Token: tokens["token"], PublicToken: tokens["public_token"], OtherToken: tokens["other_token"],
			WebWidgetScript: s.url() + "/upp" + upp.WebWidgetPath, CardWidgetScript: s.url() + "/upp" + upp.CardWidgetPath}}
	for _, m := range markets {
		info.Merchants[m.name] = devAccount{Merchant: m.public, Name: m.trading, Terminal: m.tid, Currencies: m.currencies}
	}

	// The sandbox stops last: the server finishes its exchanges with it.
	sandboxCtx, stopSandbox := context.WithCancel(context.WithoutCancel(e.ctx))
	var parts errgroup.Group
	ctx, stop := context.WithCancel(e.ctx)
	defer stop()
	parts.Go(func() error {
		defer stop()
		return p.run(sandboxCtx, func() error { return nil })
	})
	// The terminal stops first: what it has in hand it finishes over the server.
	serverCtx, stopServer := context.WithCancel(context.WithoutCancel(e.ctx))
	defer stopServer()
	parts.Go(func() error {
		defer stop()
		defer stopSandbox()
		return s.run(serverCtx, func() error {
			t, err := c.startTerminal(ctx, s, p, &info, log)
			if err != nil {
				return fmt.Errorf("virtual terminal: %w", err)
			}
			parts.Go(func() error {
				defer stopServer()
				return t.run(ctx)
			})
			if err := t.await(ctx); err != nil {
				return fmt.Errorf("virtual terminal: %w", err)
			}
			if err := writeJSON(path, info); err != nil {
				return fmt.Errorf("write %s: %w", path, err)
			}
			if c.JSON {
				out := json.NewEncoder(e.stdout)
				out.SetIndent("", "  ")
				return out.Encode(info)
			}
			return startPage(e.stdout, info, path)
		})
	})
	return errors.Join(parts.Wait(), removeFile(path))
}

// sandboxAddress is where the sandbox listens.
func (c *devCommand) sandboxAddress() (string, error) {
	if c.PublicURL != "" {
		if u, err := url.Parse(c.PublicURL); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			return "", fmt.Errorf("--public-url: %q is not an address such as http://192.168.1.20:8090", c.PublicURL)
		}
	}
	return c.partyAddress(c.SandboxListen, "8090")
}

// partyAddress is an address that was given, or a port beside the server's.
func (c *devCommand) partyAddress(given, beside string) (string, error) {
	if given != "" {
		return given, nil
	}
	host, port, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return "", fmt.Errorf("--listen: %q is not host:port", c.Listen)
	}
	if port == "0" {
		beside = "0"
	}
	return net.JoinHostPort(host, beside), nil
}

// provision makes the demo merchants and their credentials, unless they are there. Tokens are derived from the installation secret, so
// that they outlive a restart without being stored.
func provision(ctx context.Context, store *sqlstore.Store, keys *vault.Vault) (map[string]string, error) {
	tokens := map[string]string{}
	for _, name := range []string{"token", "public_token", "other_token"} {
		tokens[name] = "upp_" + base64.RawURLEncoding.EncodeToString(keys.MAC("dev token", []byte(name)))
	}
	for _, m := range markets {
		if err := m.provision(ctx, store, keys, tokens); err != nil {
			return nil, fmt.Errorf("%s: %w", m.name, err)
		}
	}
	return tokens, nil
}

// provision makes whatever of the market's demo merchant is missing.
func (m market) provision(ctx context.Context, store *sqlstore.Store, keys *vault.Vault, tokens map[string]string) error {
	merchant, err := store.FindMerchantByPublicID(ctx, m.public)
	if errors.Is(err, payment.ErrNotFound) {
		methods := map[string]payment.Method{}
		for name, rate := range devMethods {
			methods[name] = payment.Method{Acquirer: walletAcquirer, Rate: rate}
			if name == upp.ProviderFinancialCard || name == devCardMethod {
				methods[name] = payment.Method{Acquirer: cardAcquirer, Rate: rate}
			}
		}
		merchant, err = store.AddMerchant(ctx, payment.Merchant{PublicID: m.public, CompanyName: m.company, Name: m.trading, Currencies: m.currencies, Methods: methods})
	}
	if err != nil {
		return err
	}
	place, err := ensure(store.Stores(ctx, merchant.ID, 0, 1))(func() (payment.Place, error) {
		return store.AddStore(ctx, merchant.ID, payment.Place{PublicID: "1", Name: m.trading, Calendar: payment.Calendar{Zone: m.zone}})
	})
	if err != nil {
		return err
	}
	till, err := ensure(store.Terminals(ctx, merchant.ID, 0, 1))(func() (payment.Terminal, error) {
		return store.AddTerminal(ctx, merchant.ID, payment.Terminal{PublicID: m.tid, Store: place.ID, Name: "Till 1"})
	})
	if err != nil {
		return err
	}
	for protocol, token := range m.credentials {
		hash := payment.CredentialHash(keys, protocol, tokens[token])
		err := store.Read(ctx, func(r payment.Reader) error { _, err := r.Caller(protocol, hash); return err })
		if errors.Is(err, payment.ErrNotFound) {
			_, err = store.AddCredential(ctx, payment.Credential{Protocol: protocol, Merchant: merchant.ID, Store: place.ID, Terminal: till.ID,
				Name: "dev " + token}, hash)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// ensure returns the first of a list, or makes one when there is none.
func ensure[T any](list []T, err error) func(add func() (T, error)) (T, error) {
	return func(add func() (T, error)) (T, error) {
		var none T
		switch {
		case err != nil:
			return none, err
		case len(list) > 0:
			return list[0], nil
		}
		return add()
	}
}

func walletCodes() []devWalletCode {
	var out []devWalletCode
	for _, c := range sandbox.WalletCodes() {
		out = append(out, devWalletCode(c))
	}
	return out
}

// triggers are the amounts that make either party of the sandbox behave in some way.
func triggers() []devTrigger {
	var out []devTrigger
	for _, t := range sandbox.Triggers() {
		out = append(out, devTrigger{t.Amount, t.Behaviour, "wallet"})
	}
	for _, t := range sandbox.CardTriggers() {
		both := slices.IndexFunc(out, func(o devTrigger) bool { return o.Amount == t.Amount && o.Behaviour == t.Behaviour })
		if both >= 0 {
			out[both].At = "both"
			continue
		}
		out = append(out, devTrigger{t.Amount, t.Behaviour, "card"})
	}
	return out
}

func testCards() []devTestCard {
	var out []devTestCard
	for _, c := range sandbox.TestCards() {
		out = append(out, devTestCard(c))
	}
	return out
}

// startPage says what runs where, and gives a payment to paste.
func startPage(w io.Writer, info devInfo, path string) error {
	code := ""
	for _, c := range info.WalletCodes {
		if c.Provider == upp.ProviderAlipay && c.Behaviour == "approve" {
			code = c.Code
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, `
  Tillgate is running. Stop it with Ctrl-C.

    UPP         %s
    UQPAY       %s
    Upay        %s
    IOT Pay     %s
    QFPay       %s and %s   (the terminal, for cash registers)
    terminal    %s   (its screen, keys and printer)
    sandbox     %s   (wallets; its books: %s)
    everything  %s   (addresses, tokens, codes, triggers)

  A payment to paste:

    curl -s %s/v1/transactions -H 'Content-Type: application/json' \
      -H 'Authorization: Bearer %s' -d '{
        "transactionType": "purchase", "transactionReference": "first-%d", "amount": 24.5, "currency": "aud",
        "provider": "alipay", "saleType": "customerPresentedToken", "customerToken": "%s",
        "items": [{"type": "sku", "itemReference": "1", "name": "Umbrella", "amount": 24.5, "quantity": 1}]}'

`, info.UPP.BaseURL, info.UQPAY.BaseURL, info.Upay.BaseURL, info.IOTPay.BaseURL, info.QFPay.HTTPURL, info.QFPay.TCPAddr,
		info.Terminal.PageURL, info.Sandbox.URL, info.Sandbox.BooksURL, path, info.UPP.BaseURL, info.UPP.Token, time.Now().Unix(), code)
	_, err := io.WriteString(w, b.String())
	return err
}

// party is the sandbox with its listeners: separate parties, reached over their wires only.
type party struct {
	network  *sandbox.Network
	listener net.Listener
	host     *sandbox.CardHost
	cardHost net.Listener // Where the card host listens.
	public   string
	log      *slog.Logger
}

// partyKeys are what members and the sandbox share.
type partyKeys struct{ wallet, zmk, member string }

func newParty(address string, cardHost net.Listener, dir string, keys partyKeys, public string, log *slog.Logger) (*party, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("sandbox folder: %w", err)
	}
	l, err := listen("sandbox", address)
	if err != nil {
		return nil, err
	}
	p := &party{listener: l, cardHost: cardHost, public: strings.TrimRight(public, "/"), log: log}
	p.network, err = sandbox.Open(sandbox.Config{Dir: dir, Key: keys.wallet, PublicURL: p.publicURL, Now: time.Now, Rand: rand.Reader, Log: log})
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	p.host, err = sandbox.OpenCards(sandbox.CardConfig{Dir: dir, ZMK: keys.zmk, Member: keys.member, Now: time.Now, Rand: rand.Reader, Log: log})
	if err != nil {
		return nil, errors.Join(err, p.network.Close(), l.Close())
	}
	return p, nil
}

// handler serves the wallet network, and the card host's books beside it.
func (p *party) handler() http.Handler {
	mux := http.NewServeMux()
	cards := p.host.Handler()
	mux.Handle("/cards/books", cards)
	mux.Handle("/cards/reset", cards)
	mux.Handle("/", p.network.Handler())
	return mux
}

func (p *party) cards() []devCard {
	var out []devCard
	for _, c := range p.host.Cards() {
		out = append(out, devCard(c))
	}
	return out
}

func (p *party) url() string { return "http://" + p.listener.Addr().String() }

func (p *party) publicURL() string {
	if p.public != "" {
		return p.public
	}
	return p.url()
}

func (p *party) info() devSandbox {
	return devSandbox{URL: p.url(), BooksURL: p.url() + "/books", CardAddress: p.cardHost.Addr().String(), CardBooksURL: p.url() + "/cards/books",
		CardResetURL: p.url() + "/cards/reset"}
}

func (p *party) run(ctx context.Context, started func() error) error {
	srv := sandboxServer(p.handler(), p.log)
	var parts errgroup.Group
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	parts.Go(func() error { return p.network.Run(ctx) })
	parts.Go(func() error { return p.host.Serve(ctx, p.cardHost) })
	parts.Go(func() error {
		defer stop()
		if err := srv.Serve(p.listener); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("sandbox: %w", err)
		}
		return nil
	})
	err := started()
	if err == nil {
		<-ctx.Done()
	}
	stop()
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), sandboxStop)
	defer cancel()
	if srv.Shutdown(stopCtx) != nil {
		_ = srv.Close() // What it holds on purpose ends with it.
	}
	return errors.Join(err, parts.Wait(), p.network.Close(), p.host.Close())
}

type envCommand struct {
	Data string `type:"path" default:"tillgate-dev" help:"Data folder of the running dev."`
}

// Run prints what a shell needs to talk to a running dev.
func (c *envCommand) Run(e *env) error {
	text, err := os.ReadFile(filepath.Join(c.Data, devFile))
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("no dev is running on %s; start one with: tillgate dev --data %s", c.Data, c.Data)
	}
	if err != nil {
		return err
	}
	var info devInfo
	if err := json.Unmarshal(text, &info); err != nil {
		return fmt.Errorf("%s: %w", devFile, err)
	}
	fmt.Fprintf(e.stdout, "export UPP_URL=%s\nexport UPP_TOKEN=%s\nexport BOOKS_URL=%s\n", info.UPP.BaseURL, info.UPP.Token, info.Sandbox.BooksURL)
	fmt.Fprintf(e.stdout, "export UQPAY_URL=%s\nexport UQPAY_CLIENT_ID=%s\nexport UQPAY_API_KEY=%s\nexport CARD_BOOKS_URL=%s\n", info.UQPAY.BaseURL,
		info.UQPAY.ClientID, info.UQPAY.APIKey, info.Sandbox.CardBooksURL)
	fmt.Fprintf(e.stdout, "export UPAY_URL=%s\nexport UPAY_VENDOR_SN=%s\nexport UPAY_VENDOR_KEY=%s\nexport UPAY_APP_ID=%s\nexport UPAY_CODE=%s\n", info.Upay.BaseURL,
		info.Upay.VendorSN, info.Upay.VendorKey, info.Upay.AppID, info.Upay.ActivationCode)
	for _, code := range info.WalletCodes {
		if code.Behaviour == "approve" {
			fmt.Fprintf(e.stdout, "export %s_CODE=%s\n", strings.ToUpper(code.Provider), code.Code)
		}
	}
	return nil
}

package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"time"
)

type serveCommand struct {
	Config string `short:"c" type:"path" help:"Configuration file, TOML. Environment variables TILLGATE_… override it, flags override both."`
	Listen string `help:"Address of the server."`
	Data   string `type:"path" help:"Folder of the database and the installation secret."`
}

// Help teaches more than the flags.
func (serveCommand) Help() string {
	return "Needs a wallet network (wallet.url and wallet.key_file) and rows for merchants, stores, terminals and credentials: see 'tillgate merchant --help'. " +
		"All settings are explained in docs/configuration.md."
}

// Run serves until it is told to stop.
func (c *serveCommand) Run(e *env) error {
	cfg, err := loadConfig(c.Config, e.getenv)
	if err != nil {
		return err
	}
	if c.Listen != "" {
		cfg.Listen = c.Listen
	}
	if c.Data != "" {
		cfg.Data = c.Data
	}
	if err := cfg.validate(); err != nil {
		return err
	}
	tuneGC(e.getenv)
	level, _ := logLevel(cfg.Log) // Validated.
	log := newLog(e.stderr, level)
	s, err := newServer(e.ctx, cfg, log)
	if err != nil {
		return err
	}
	err = s.listen()
	if err == nil {
		err = s.run(e.ctx, func() error {
			log.Info("serving", "url", s.url(), "config", cfg.dump())
			return nil
		})
	}
	return errors.Join(err, s.close())
}

type sandboxCommand struct {
	Run   sandboxRun   `cmd:"" default:"withargs" help:"Run the sandbox alone, for tests of a server: a wallet network and a card host."`
	Reset sandboxReset `cmd:"" help:"Let the card host of a running sandbox forget PIN tries and balances."`
}

// sandboxReset is the switch of a running sandbox.
type sandboxReset struct {
	Data string `type:"path" default:"tillgate-dev" help:"Data folder of a running dev."`
	URL  string `name:"url" help:"Address of another sandbox, such as http://127.0.0.1:8090."`
}

// Run asks the card host to forget.
func (c *sandboxReset) Run(e *env) error {
	address := strings.TrimRight(c.URL, "/") + "/cards/reset"
	if c.URL == "" {
		dev, err := devOf(c.Data)
		if err != nil {
			return err
		}
		if address = dev.Sandbox.CardResetURL; address == "" {
			return fmt.Errorf("no dev is running on %s; give the sandbox's address: --url", c.Data)
		}
	}
	req, err := http.NewRequestWithContext(e.ctx, http.MethodPost, address, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("the sandbox cannot be reached: %w", err)
	}
	_ = res.Body.Close()
	if res.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("the sandbox answered %s", res.Status)
	}
	fmt.Fprintln(e.stdout, "The sandbox's cards have no wrong PINs, and their first balances.")
	return nil
}

type sandboxRun struct {
	Listen    string `default:"127.0.0.1:8090" help:"Address of the wallet network, and of the card host's books."`
	Cards     string `name:"card-listen" default:"127.0.0.1:8091" help:"Address of the card host, TCP."`
	Member    string `default:"100200" help:"Number of the card host's member."`
	ZMKFile   string `name:"zmk-file" type:"path" help:"File with the zone master key that the member and the card host share, 32 hex digits; TILLGATE_CARD_ZMK otherwise, or one of its own, which is printed."`
	Data      string `type:"path" default:"tillgate-sandbox" help:"Folder of its books."`
	KeyFile   string `type:"path" help:"File with the bearer key that members send; TILLGATE_WALLET_KEY otherwise."`
	PublicURL string `name:"public-url" help:"Address as a customer's phone sees it, for QR codes."`
	JSON      bool   `help:"Print the addresses, codes and triggers as JSON."`
}

// Run plays the wallet network until it is told to stop.
func (c *sandboxRun) Run(e *env) error {
	key := e.getenv("TILLGATE_WALLET_KEY")
	if c.KeyFile != "" {
		text, err := os.ReadFile(c.KeyFile)
		if err != nil {
			return fmt.Errorf("key file: %w", err)
		}
		key = strings.TrimSpace(string(text))
	}
	if key == "" {
		return errors.New("give the members' key: --key-file, or TILLGATE_WALLET_KEY in the environment")
	}
	zmk := e.getenv("TILLGATE_CARD_ZMK")
	if c.ZMKFile != "" {
		text, err := os.ReadFile(c.ZMKFile)
		if err != nil {
			return fmt.Errorf("zone master key: %w", err)
		}
		zmk = strings.TrimSpace(string(text))
	}
	if zmk == "" {
		raw := make([]byte, 16)
		rand.Read(raw) // Never fails.
		zmk = hex.EncodeToString(raw)
	}
	cardHost, err := listen("card host", c.Cards)
	if err != nil {
		return err
	}
	defer func() { _ = cardHost.Close() }() // Closed already if it was served.
	p, err := newParty(c.Listen, cardHost, c.Data, partyKeys{key, zmk, c.Member}, c.PublicURL, newLog(e.stderr, slog.LevelWarn))
	if err != nil {
		return err
	}
	return p.run(e.ctx, func() error {
		if c.JSON {
			return json.NewEncoder(e.stdout).Encode(map[string]any{"ready": true, "sandbox": p.info(), "wallet_codes": walletCodes(), "triggers": triggers(),
				"test_cards": testCards(), "card_tokens": p.publicURL() + "/cards/tokens", "cards": p.cards(), "member": c.Member, "zmk": zmk})
		}
		fmt.Fprintf(e.stdout, "The wallet network is at %s, its books at %s.\nThe card host is at %s, its books at %s; member %s, zone master key %s.\n", p.url(),
			p.info().BooksURL, p.info().CardAddress, p.info().CardBooksURL, c.Member, zmk)
		return nil
	})
}

// sandboxServer is how the sandbox is served: it holds connections on purpose, so nothing but headers has a limit.
func sandboxServer(handler http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{Handler: handler, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: headerMax,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)}
}

// sandboxStop is how long the sandbox waits for calls that it holds on purpose.
const sandboxStop = time.Second

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/tillgate/tillgate/sandbox"
)

// gcPercent lets the heap grow to five times what lives before it is collected: what lives is small, and a collection costs every payment
// that it meets (docs/performance.md). GOGC overrides it.
const gcPercent = 400

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
	if e.getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
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
	Listen    string `default:"127.0.0.1:8090" help:"Address of the wallet network."`
	Data      string `type:"path" default:"tillgate-sandbox" help:"Folder of its books."`
	KeyFile   string `type:"path" help:"File with the bearer key that members send; TILLGATE_WALLET_KEY otherwise."`
	PublicURL string `name:"public-url" help:"Address as a customer's phone sees it, for QR codes."`
	JSON      bool   `help:"Print the addresses, codes and triggers as JSON."`
}

// Run plays the wallet network until it is told to stop.
func (c *sandboxCommand) Run(e *env) error {
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
	p, err := newParty(c.Listen, c.Data, key, c.PublicURL, newLog(e.stderr, slog.LevelWarn))
	if err != nil {
		return err
	}
	return p.run(e.ctx, func() error {
		if c.JSON {
			return json.NewEncoder(e.stdout).Encode(map[string]any{"ready": true, "sandbox": p.info(), "wallet_codes": walletCodes(), "triggers": triggers(),
				"test_cards": testCards(), "card_tokens": p.publicURL() + "/cards/tokens"})
		}
		fmt.Fprintf(e.stdout, "The wallet network is at %s, its books at %s.\n", p.url(), p.info().BooksURL)
		return nil
	})
}

// sandboxServer is how the sandbox is served: it holds connections on purpose, so nothing but headers has a limit.
func sandboxServer(n *sandbox.Network, log *slog.Logger) *http.Server {
	return &http.Server{Handler: n.Handler(), ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: headerMax,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)}
}

// sandboxStop is how long the sandbox waits for calls that it holds on purpose.
const sandboxStop = time.Second

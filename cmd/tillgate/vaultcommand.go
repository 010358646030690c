package main

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/tillgate/tillgate/vault"
)

type vaultCommand struct {
	Rotate vaultRotate `cmd:"" help:"Give the key-encryption key a new version: what is sealed from now on is under it, and what was sealed before still opens."`
}

type vaultRotate struct {
	Config string `short:"c" type:"path" help:"Configuration file of the server, for its data folder."`
	Data   string `type:"path" help:"Data folder of the server, which may be running."`
}

// Help says what a rotation does not do.
func (vaultRotate) Help() string {
	return "kek.json in the data folder gets a further key; servers that run learn of it by themselves. Back the file up: whoever loses it can open nothing that is sealed. " +
		"Older keys stay in it as long as something may be sealed under them."
}

// Run adds a key to the file.
func (c *vaultRotate) Run(e *env) error {
	cfg, err := loadConfig(c.Config, e.getenv)
	if err != nil {
		return err
	}
	if c.Data != "" {
		cfg.Data = c.Data
	}
	if cfg.Secret == "" {
		cfg.Secret = filepath.Join(cfg.Data, "secret.key")
	}
	v, err := vault.Open(cfg.Secret)
	if err != nil {
		return err
	}
	if err := errors.Join(v.Rotate(), v.Close()); err != nil {
		return err
	}
	_, err = fmt.Fprintln(e.stdout, "The key-encryption key has a new version. Back up kek.json.")
	return err
}

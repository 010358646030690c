package device

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tillgate/tillgate/terminal"
)

// Identity is what a terminal is to one server. It is kept in a file that only its owner can read.
type Identity struct {
	Server   string          // Address of the channel, such as "https://pay.example/terminal".
	Number   string          // What the server calls the terminal.
	Key      terminal.Secret // The shared key.
	Merchant string
	Store    string

	path string
}

// identityFile is an Identity at rest.
type identityFile struct {
	Server   string `json:"server"`
	Number   string `json:"number"`
	Key      string `json:"key"`
	Merchant string `json:"merchant"`
	Store    string `json:"store"`
}

// ErrNoIdentity says that a terminal has not been paired yet.
var ErrNoIdentity = errors.New("this terminal is not paired with a server")

// LoadIdentity reads an identity. It fails with ErrNoIdentity when there is none.
func LoadIdentity(path string) (*Identity, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, ErrNoIdentity
	}
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	var f identityFile
	if json.Unmarshal(text, &f) != nil || f.Number == "" || f.Key == "" || f.Server == "" {
		return nil, fmt.Errorf("identity %s cannot be read; remove it and pair the terminal again with a new activation code", path)
	}
	return &Identity{Server: f.Server, Number: f.Number, Key: terminal.NewSecret(f.Key), Merchant: f.Merchant,
		Store: f.Store, path: path}, nil
}

// save writes the identity so that a crash leaves the old one or the new one.
func (i *Identity) save() error {
	text, err := json.Marshal(identityFile{i.Server, i.Number, i.Key.Reveal(), i.Merchant, i.Store})
	if err != nil {
		return err
	}
	return writeFile(i.path, append(text, '\n'))
}

// writeFile replaces a file: mode 0600, on the disk before it has its name.
func writeFile(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // Mode 0600.
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// About is what a terminal tells of itself when it is paired.
type About struct{ Maker, Serial, Model, Name string }

// Pair makes a terminal of this device with an activation code, and keeps the identity in a file, which must not be there.
func Pair(ctx context.Context, server, code, path string, about About, plain bool) (*Identity, error) {
	if _, err := os.Stat(path); err == nil {
		return nil, fmt.Errorf("identity %s is there already: this terminal is paired", path)
	}
	server = strings.TrimRight(server, "/")
	if err := checkServer(server, plain); err != nil {
		return nil, err
	}
	body, err := json.Marshal(terminal.ActivateRequest{Code: code, Maker: about.Maker, Serial: about.Serial, Model: about.Model, Name: about.Name})
	if err != nil {
		return nil, err
	}
	const limit = 15 * time.Second
	ctx, stop := context.WithTimeout(ctx, limit)
	defer stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, server+terminal.PathActivate, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("activate: %w", err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, terminal.FrameMax))
	if err != nil {
		return nil, fmt.Errorf("activate: %w", err)
	}
	if res.StatusCode != http.StatusOK {
		var f terminal.Fault
		if json.Unmarshal(text, &f) != nil || f.Text == "" {
			f.Text = res.Status
		}
		return nil, fmt.Errorf("activate: %s", f.Text)
	}
	var a terminal.ActivateAnswer
	if json.Unmarshal(text, &a) != nil || a.Number == "" || a.Key == "" {
		return nil, fmt.Errorf("activate: %s does not answer as a Tillgate server does", server)
	}
	i := &Identity{Server: server, Number: a.Number, Key: terminal.NewSecret(a.Key), Merchant: a.Merchant, Store: a.Store, path: path}
	return i, i.save()
}

// checkServer refuses to send card data over a network in clear. This machine itself is no network.
func checkServer(server string, plain bool) error {
	u, err := url.Parse(server)
	if err != nil || u.Host == "" {
		return fmt.Errorf("server %q is not an address such as https://pay.example/terminal", server)
	}
	ip := net.ParseIP(u.Hostname())
	local := u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
	switch {
	case u.Scheme == "https", u.Scheme == "http" && (local || plain):
		return nil
	case u.Scheme == "http":
		return fmt.Errorf("server %s: card data must not cross a network in clear; use https", server)
	}
	return fmt.Errorf("server %q: want https", server)
}

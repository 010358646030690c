package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sync/errgroup"
	"golang.org/x/term"

	"github.com/tillgate/tillgate/device"
	"github.com/tillgate/tillgate/protocol/qfpay"
	paper "github.com/tillgate/tillgate/receipt" // receipt is a name of this package.
)

// identityName is the file of a terminal's identity in its data folder.
const identityName = "identity.json"

// terminalRun is the terminal program: tillgate terminal run.
type terminalRun struct {
	Server   string `help:"Address of the server's terminal channel, such as https://pay.example/terminal. Wanted once, with --code."`
	Code     string `help:"Activation code: the terminal pairs with the server, and keeps its identity in its data folder."`
	Data     string `type:"path" default:"tillgate-terminal" help:"Folder of the terminal's identity and journal."`
	Plain    bool   `help:"Allow http to another machine. Card data then crosses the network in clear: for tests only."`
	Page     string `default:"127.0.0.1:8091" help:"Address of the terminal's page. Whoever reaches it is the customer."`
	Cards    string `type:"path" help:"File with the customers' cards: a running dev's dev.json."`
	Customer string `enum:",approve,decline,wrong-pin,slow,walk-away" default:"" help:"Automatic customer; without one the page waits for a person."`
	Code2    string `name:"wallet-code" default:"280000000000009050" help:"Wallet code that the automatic customer shows."`
	Paper    int    `enum:"58,80" default:"58" help:"Width of the paper in mm."`
	Language string `enum:"en,fr,zh" default:"en" help:"Language of the merchant's receipts."`
	Serial   string `default:"VT000001" help:"Serial number, eight characters."`
	HTTP     string `name:"ecr-http" help:"Address for cash registers over HTTP, such as 0.0.0.0:9001. The terminal needs an identity of qfpay."`
	TCP      string `name:"ecr-tcp" help:"Address for cash registers over TCP, such as 0.0.0.0:9002."`
	Line     string `name:"ecr-serial" help:"Serial device of a cash register, such as /dev/ttyUSB0."`
	Log      string `default:"warn" help:"debug, info, warn or error; lines go to standard error."`
}

// Run runs the terminal until it is told to stop.
func (c *terminalRun) Run(e *env) error {
	level, err := logLevel(c.Log)
	if err != nil {
		return err
	}
	log := newLog(e.stderr, level)
	if err := os.MkdirAll(c.Data, 0o700); err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	identity, err := c.identity(e.ctx)
	if err != nil {
		return err
	}
	cards, err := readCards(c.Cards)
	if err != nil {
		return err
	}
	p, err := newTerminalProgram(terminalSettings{Dir: c.Data, Identities: []*device.Identity{identity}, Cards: cards, Customer: c.Customer, WalletCode: c.Code2, Page: c.Page,
		Paper: c.Paper, Language: c.Language, Serial: c.Serial, ECR: ecrSettings{HTTP: c.HTTP, TCP: c.TCP, Serial: c.Line}}, log)
	if err != nil {
		return err
	}
	fmt.Fprintf(e.stdout, "Terminal %s of %s. Its page: %s\n", identity.Number, identity.Merchant, p.pageURL())
	return p.run(e.ctx)
}

// identity is the terminal's, which it gets with an activation code when it has none.
func (c *terminalRun) identity(ctx context.Context) (*device.Identity, error) {
	path := filepath.Join(c.Data, identityName)
	i, err := device.LoadIdentity(path)
	if !errors.Is(err, device.ErrNoIdentity) {
		return i, err
	}
	if c.Server == "" || c.Code == "" {
		return nil, fmt.Errorf("%w: give --server and --code; make a code with: tillgate code add --protocol device --merchant … --store …", err)
	}
	return device.Pair(ctx, c.Server, c.Code, path, device.About{Maker: "Tillgate", Model: "Virtual", Serial: ""}, c.Plain)
}

// readCards reads the customers' cards: a list, or a list named "cards" in an object.
func readCards(path string) ([]device.Card, error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("cards: %w", err)
	}
	var list []device.Card
	if json.Unmarshal(text, &list) == nil {
		return list, nil
	}
	var in struct {
		Cards []device.Card `json:"cards"`
	}
	if json.Unmarshal(text, &in) != nil || len(in.Cards) == 0 {
		return nil, fmt.Errorf("%s holds no cards: name the dev.json of a running dev", path)
	}
	return in.Cards, nil
}

// terminalSettings are what a terminal program needs.
type terminalSettings struct {
	Dir        string
	Identities []*device.Identity // The cash registers' protocol uses the last.
	Cards      []device.Card
	Customer   string // Empty for a person.
	WalletCode string
	// PayQR pays a QR code that the terminal shows, as the automatic customer; may be nil.
	PayQR    func(ctx context.Context, qr string, approve bool) error
	Page     string // Address; port 0 takes a free one.
	Paper    int
	Language string
	Serial   string
	ECR      ecrSettings
}

// ecrSettings are the links to cash registers; empty ones are not there.
type ecrSettings struct {
	HTTP, TCP, Serial string
	Pty               bool // A line between this program and a register on this machine: a pseudo-terminal.
}

func (s ecrSettings) any() bool { return s.HTTP != "" || s.TCP != "" || s.Serial != "" || s.Pty }

// terminalProgram is a virtual terminal with its page, its customer and its cash registers.
type terminalProgram struct {
	terminal *device.Terminal
	virtual  *device.Virtual
	auto     *device.Auto // Nil for a person.
	page     net.Listener
	http     net.Listener // Of cash registers; nil for none.
	tcp      net.Listener
	serial   string
	line     *os.File // Our end of a pseudo-terminal, and the register's, which is kept open so that the line lives without one.
	far      *os.File
	ecr      *qfpay.Server // Nil for none.
	log      *slog.Logger
}

// newTerminalProgram opens the terminal's journal and takes its addresses; nothing runs yet.
func newTerminalProgram(s terminalSettings, log *slog.Logger) (p *terminalProgram, err error) {
	columns := map[int]int{58: paper.Columns58, 80: paper.Columns80}[cmp.Or(s.Paper, 58)]
	p = &terminalProgram{virtual: device.NewVirtual(s.Cards, columns, time.Now, rand.Reader), serial: s.ECR.Serial, log: log}
	if s.Customer != "" {
		if p.auto, err = device.NewAuto(s.Customer, p.virtual); err != nil {
			return nil, err
		}
		p.auto.Code, p.auto.Pay = s.WalletCode, s.PayQR
	}
	p.terminal, err = device.New(device.Config{Dir: s.Dir, Parts: p.virtual.Parts(), Identities: s.Identities, Serial: s.Serial, Language: paper.LanguageOf(s.Language),
		Now: time.Now, Rand: rand.Reader, Log: log})
	if err != nil {
		return nil, err
	}
	if s.ECR.any() {
		links := p.terminal.Links()
		desk := device.NewDesk(p.terminal, links[len(links)-1])
		p.ecr = &qfpay.Server{Desk: desk, Keys: desk, Log: log}
	}
	if s.ECR.Pty {
		if p.line, p.far, err = openLine(); err != nil {
			return nil, fmt.Errorf("pseudo-terminal for a cash register: %w", err)
		}
	}
	for _, l := range []struct {
		setting, address string
		into             *net.Listener
	}{{"page", s.Page, &p.page}, {"ecr-http", s.ECR.HTTP, &p.http}, {"ecr-tcp", s.ECR.TCP, &p.tcp}} {
		if l.address == "" {
			continue
		}
		if *l.into, err = listen(l.setting, l.address); err != nil {
			p.close()
			return nil, err
		}
	}
	return p, nil
}

// openLine opens a pseudo-terminal: our end, and the far one, whose name is the path that a register opens.
func openLine() (near, far *os.File, err error) {
	ptmx, far, err := pty.Open()
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = ptmx.Close() }()
	if _, err := term.MakeRaw(int(far.Fd())); err != nil {
		return nil, nil, errors.Join(err, far.Close())
	}
	// A read of the file as package pty opened it would not end when the file is closed; one of a file that the runtime polls does.
	fd, err := syscall.Dup(int(ptmx.Fd()))
	if err == nil {
		err = syscall.SetNonblock(fd, true)
	}
	if err != nil {
		return nil, nil, errors.Join(err, far.Close())
	}
	return os.NewFile(uintptr(fd), "cash register"), far, nil
}

func (p *terminalProgram) close() {
	for _, f := range []*os.File{p.line, p.far} {
		if f != nil {
			_ = f.Close()
		}
	}
	for _, l := range []net.Listener{p.page, p.http, p.tcp} {
		if l != nil {
			_ = l.Close() // Closed already if it was served.
		}
	}
}

func (p *terminalProgram) pageURL() string { return address(p.page, "http://") }

func address(l net.Listener, scheme string) string {
	if l == nil {
		return ""
	}
	return scheme + l.Addr().String()
}

// awaitLimit is how long a terminal on this machine may take to be there.
const awaitLimit = 20 * time.Second

// await returns when a terminal that runs is connected, and has the key that it shares with cash registers.
func (p *terminalProgram) await(ctx context.Context) error {
	late := time.NewTimer(awaitLimit)
	defer late.Stop()
	absent := func(l *device.Link) bool { return !l.Online() }
	for slices.ContainsFunc(p.terminal.Links(), absent) || p.ecr != nil && len(p.ecr.Keys.KeySet().Keys) == 0 {
		const again = 2 * time.Millisecond
		select {
		case <-time.After(again):
		case <-late.C:
			return fmt.Errorf("it does not connect within %v", awaitLimit)
		case <-ctx.Done():
			return nil // Everything stops.
		}
	}
	return nil
}

// name is what stands above the terminal's screen.
func (p *terminalProgram) name() string {
	for _, l := range p.terminal.Links() {
		if w := l.Welcome(); w.Store != "" {
			return w.Store + " \u00b7 " + w.TID
		}
	}
	return ""
}

// run runs everything until ctx ends: first the registers stop, then the terminal finishes what it has in hand.
func (p *terminalProgram) run(ctx context.Context) error {
	defer p.close()
	g, ctx := errgroup.WithContext(ctx)
	inner, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	if p.ecr == nil {
		g.Go(func() error { <-ctx.Done(); stop(); return nil })
	} else {
		g.Go(func() error { defer stop(); return p.registers(ctx) })
	}
	g.Go(func() error { return p.terminal.Run(inner) })
	if p.auto != nil {
		g.Go(func() error { return p.auto.Run(inner) })
	}
	if p.page != nil {
		g.Go(func() error { return p.servePage(inner) })
	}
	return g.Wait()
}

// registers serves cash registers, and waits for the sales that run.
func (p *terminalProgram) registers(ctx context.Context) error {
	g, links := errgroup.WithContext(ctx)
	g.Go(func() error { <-links.Done(); return nil })
	if p.http != nil {
		g.Go(func() error { return (&qfpay.HTTPLink{Server: p.ecr}).Serve(links, p.http) })
	}
	if p.tcp != nil {
		g.Go(func() error { return (&qfpay.TCPLink{Server: p.ecr}).Serve(links, p.tcp) })
	}
	if p.line != nil {
		g.Go(func() error {
			if err := (&qfpay.SerialLink{Server: p.ecr}).Serve(links, p.line); err != nil {
				p.log.Warn("the line to the cash register is gone", "error", err)
			}
			return nil
		})
	}
	if p.serial != "" {
		g.Go(func() error { return (&qfpay.SerialLink{Server: p.ecr, Path: p.serial}).Run(links) })
	}
	err := g.Wait()
	waiting, stop := context.WithTimeout(context.WithoutCancel(ctx), sandboxStop)
	defer stop()
	if waitErr := p.ecr.Wait(waiting); waitErr != nil {
		p.log.Warn("a sale was under way when the terminal stopped") // Its journal has it.
	}
	return err
}

func (p *terminalProgram) servePage(ctx context.Context) error {
	page := device.NewPage(p.virtual, p.name, p.log)
	srv := &http.Server{Handler: page, ReadHeaderTimeout: headerTimeout, MaxHeaderBytes: headerMax, ErrorLog: slog.NewLogLogger(p.log.Handler(), slog.LevelWarn),
		BaseContext: func(net.Listener) context.Context { return ctx }} // Its streams end with it.
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		<-ctx.Done()
		_ = srv.Close() // Nothing on the page outlives the terminal.
	}()
	err := srv.Serve(p.page)
	if errors.Is(err, http.ErrServerClosed) {
		<-ended
		return nil
	}
	return fmt.Errorf("terminal page: %w", err)
}

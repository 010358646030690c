package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/protocol/upay"
	"github.com/tillgate/tillgate/protocol/upp"
	"github.com/tillgate/tillgate/protocol/uqpay"
	"github.com/tillgate/tillgate/terminal"
	"github.com/tillgate/tillgate/vault"
)

// target is what a round loads.
type target int

const (
	serving  target = iota // The server.
	stubbing               // The stub.
)

// round is one load of one target, with a sandbox and a folder of its own.
type round struct {
	*bench
	name     string
	protocol string
	dir      string
	database string   // Address of the round's own database, which may hold a password; empty is SQLite in the folder.
	key      string   // Of the wallet network.
	code     string   // Alipay's code that approves.
	tokens   []string // Of UPP, by merchant.
	cards    devSandboxCards
	codesMu  sync.Mutex
	codes    map[int]string // Upay's activation codes, by merchant.

	sandbox *child
	books   string // Address of the sandbox's books.
	target  *child
	burden
	url    string
	before int64 // Bytes of what is kept before the first payment.
	size   int64 // The same once the server has ended.
	report benchRound
}

// burden is what a server has to bear beside the payments that are measured.
type burden struct {
	polls  int // Long polls that wait.
	stored int // Payments that are in the store before.
}

// round starts a sandbox and a target, loads the target, stops it, and holds both books together.
func (b *bench) round(ctx context.Context, name, protocol string, t target, with burden) (_ benchRound, err error) {
	r := &round{bench: b, name: name, protocol: protocol, dir: filepath.Join(b.dir, name), burden: with}
	if err := os.Mkdir(r.dir, 0o700); err != nil {
		return r.report, err
	}
	if t == serving && b.Database != "" {
		var drop func() error
		if r.database, drop, err = b.makeDatabase(ctx); err != nil {
			return r.report, err
		}
		defer func() { err = errors.Join(err, drop()) }() // After the server has been stopped.
	}
	secret := make([]byte, 32)
	rand.Read(secret) // Never fails.
	r.key = base64.RawURLEncoding.EncodeToString(secret)
	defer func() {
		for _, c := range []*child{r.target, r.sandbox} {
			if c != nil {
				err = errors.Join(err, c.stop())
			}
		}
	}()
	walletURL, err := r.startSandbox(ctx)
	if err != nil {
		return r.report, err
	}
	if t == serving {
		err = r.startServer(ctx, walletURL)
	} else {
		err = r.startStub(ctx, walletURL)
	}
	if err != nil {
		return r.report, err
	}
	var waiting *polling
	if r.polls > 0 {
		if waiting, err = r.startPolls(ctx, r.polls); err != nil {
			return r.report, err
		}
		defer waiting.stop()
	}
	loaded, err := r.load(ctx, t)
	if err != nil {
		return r.report, err
	}
	if waiting != nil {
		waiting.stop()
		r.report.Polls = waiting.result()
	}
	if err := r.target.stop(); err != nil {
		return r.report, errors.Join(loaded.first, err)
	}
	movements, err := readMovements(ctx, r.books)
	if err != nil {
		return r.report, fmt.Errorf("books of the sandbox: %w", err)
	}
	if err := r.sandbox.stop(); err != nil {
		return r.report, err
	}
	r.report.Books = compare(loaded.approved, movements, loaded.failures)
	if t == serving {
		ledger, err := readLedger(ctx, r.config(), r.Merchants)
		if err != nil {
			return r.report, fmt.Errorf("our books: %w", err)
		}
		r.report.Books.hold(ledger, r.burden, loaded.failures)
		if r.size, err = r.keptBytes(ctx); err != nil {
			return r.report, err
		}
	}
	return r.report, r.finish(t)
}

func (r *round) dataDir() string { return filepath.Join(r.dir, "data") }

// config is where the round's rows are. On PostgreSQL the folder keeps the installation secret only.
func (r *round) config() Config { return Config{Data: r.dataDir(), Database: r.database} }

// keptBytes is the size of what the payments are kept in.
func (r *round) keptBytes(ctx context.Context) (int64, error) {
	if r.database != "" {
		return databaseBytes(ctx, r.database)
	}
	return folderBytes(r.dataDir())
}

// startSandbox starts the other party and returns its address.
func (r *round) startSandbox(ctx context.Context) (walletURL string, err error) {
	r.sandbox, err = r.spawn("sandbox", r.dir, []string{"TILLGATE_WALLET_KEY=" + r.key},
		"sandbox", "--json", "--listen", "127.0.0.1:0", "--card-listen", "127.0.0.1:0", "--data", filepath.Join(r.dir, "sandbox"))
	if err != nil {
		return "", err
	}
	var info struct {
		Sandbox     devSandbox      `json:"sandbox"`
		WalletCodes []devWalletCode `json:"wallet_codes"`
		devSandboxCards
	}
	if err := r.sandbox.announced(ctx, &info); err != nil {
		return "", err
	}
	for _, c := range info.WalletCodes {
		if c.Provider == upp.ProviderAlipay && c.Behaviour == "approve" {
			r.code = c.Code
		}
	}
	r.books, r.cards = info.Sandbox.BooksURL, info.devSandboxCards
	r.cards.address = info.Sandbox.CardAddress
	if r.protocol == uqpay.Protocol {
		r.books = info.Sandbox.CardBooksURL
	}
	return info.Sandbox.URL, nil
}

// devSandboxCards is what a sandbox tells of its card host.
type devSandboxCards struct {
	Cards  []devCard `json:"cards"`
	Member string    `json:"member"`
	ZMK    string    `json:"zmk"`

	address string
}

func (r *round) startServer(ctx context.Context, walletURL string) (err error) {
	if err := r.provision(ctx); err != nil {
		return fmt.Errorf("make merchants: %w", err)
	}
	if r.stored > 0 {
		if err := r.storePayments(ctx, r.stored); err != nil {
			return fmt.Errorf("store payments of before: %w", err)
		}
	}
	if r.before, err = r.keptBytes(ctx); err != nil {
		return err
	}
	r.target, err = r.spawn("serve", r.dir, []string{"TILLGATE_WALLET_URL=" + walletURL, "TILLGATE_WALLET_KEY=" + r.key, "TILLGATE_DATABASE=" + r.database,
		"TILLGATE_CARD_HOSTS=" + r.cards.address, "TILLGATE_CARD_MEMBER=" + r.cards.Member, "TILLGATE_CARD_ZMK=" + r.cards.ZMK},
		"serve", "--listen", "127.0.0.1:0", "--data", r.dataDir())
	if err != nil {
		return err
	}
	r.url, err = r.target.served(ctx)
	return err
}

func (r *round) startStub(ctx context.Context, walletURL string) (err error) {
	r.tokens = []string{"upp_stub"} // It looks nobody up.
	r.target, err = r.spawn("stub", r.dir, []string{"TILLGATE_WALLET_KEY=" + r.key}, "bench", "stub", "--wallet", walletURL)
	if err != nil {
		return err
	}
	var info stubInfo
	err = r.target.announced(ctx, &info)
	r.url = info.URL
	return err
}

// provisionAtOnce merchants are made at a time, so that they share commits.
const provisionAtOnce = 32

// merchantID is the public number of a bench's merchant.
func merchantID(i int) string { return strconv.Itoa(1_000_000 + i) }

// provision makes the merchants, each with a store, a terminal and a token, as operators' commands do: through the store, with nothing
// beside it.
func (r *round) provision(ctx context.Context) error {
	t, err := openTool(ctx, r.config(), slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	store, keys := t.store, t.vault
	if r.protocol == upay.Protocol {
		if err := t.terminals.AddVendor(ctx, terminal.Vendor{Number: devVendor, Name: "Bench", Key: terminal.NewSecret(r.key[:32]), Apps: []string{devApp}}); err != nil {
			return errors.Join(err, t.close())
		}
	}
	r.tokens = make([]string, r.Merchants)
	makers, makersCtx := errgroup.WithContext(ctx)
	makers.SetLimit(provisionAtOnce)
	for i := range r.tokens {
		r.tokens[i] = benchToken(keys, i)
		makers.Go(func() error {
			id := merchantID(i)
			m := market{public: id, company: "Bench Pty Ltd", trading: "Bench " + id, zone: "Australia/Melbourne", tid: id, currencies: []string{"AUD"},
				credentials: map[string]string{upp.Protocol: "token"}}
			if err := m.provision(makersCtx, store, keys, map[string]string{"token": r.tokens[i]}); err != nil {
				return err
			}
			return r.provisionTerminals(makersCtx, t, i)
		})
	}
	return errors.Join(makers.Wait(), t.close())
}

// benchToken is derived from the installation secret, which is as random as a token must be.
func benchToken(keys *vault.Vault, i int) string {
	return "upp_" + base64.RawURLEncoding.EncodeToString(keys.MAC("bench token", []byte(strconv.Itoa(i))))
}

// load loads the target and notes what is measured while it runs.
func (r *round) load(ctx context.Context, t target) (*load, error) {
	u, err := url.Parse(r.url)
	if err != nil {
		return nil, err
	}
	l := &load{name: r.name, address: u.Host, warm: r.warm(), measured: r.Duration, bar: r.bar}
	if l.payers, err = r.payers(ctx, u.Host); err != nil {
		return nil, err
	}
	var marks []map[string]float64
	if t == serving {
		l.mark = func(ctx context.Context) error {
			m, err := scrape(ctx, r.url)
			marks = append(marks, m)
			return err
		}
	}
	cpu := ownCPU()
	if err := l.run(ctx); err != nil {
		return nil, err
	}
	r.report.fill(l)
	r.report.CPU.Load = (ownCPU() - cpu).Seconds()
	if t == serving {
		r.report.Commits = commitGroups(marks[0], marks[1])
		r.report.ResidentBytes = int64(marks[1]["process_resident_memory_bytes"])
	}
	return l, nil
}

// finish adds what is known once the children have ended.
func (r *round) finish(t target) error {
	payments := float64(max(r.report.Approved, 1))
	r.report.CPU.Server, r.report.CPU.Sandbox = r.target.cpu().Seconds(), r.sandbox.cpu().Seconds()
	r.report.CPU.perPayment(payments)
	if t != serving {
		return nil
	}
	log, err := os.Stat(r.target.log)
	if err != nil {
		return err
	}
	if r.stored == 0 { // Else what grew includes the log of what was stored before.
		r.report.Disk = &benchDisk{BytesPerPayment: math.Round(float64(r.size-r.before) / payments),
			LogBytesPerPayment: math.Round(float64(log.Size()) / payments)}
	}
	return nil
}

// folderBytes is the size of the files in a folder.
func folderBytes(dir string) (int64, error) {
	var sum int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			sum += info.Size()
		}
		return err
	})
	return sum, err
}

// commitGroups tells from two scrapes how many transactions shared a commit between them.
func commitGroups(before, after map[string]float64) *benchCommits {
	const name = "tillgate_commit_group_size"
	grown := func(series string) float64 { return after[series] - before[series] }
	c := &benchCommits{Commits: int64(grown(name + "_count"))}
	c.Mean = ratio(grown(name+"_sum"), grown(name+"_count"))
	for series := range after {
		bound, ok := strings.CutPrefix(series, name+`_bucket{le="`)
		if !ok {
			continue
		}
		size, err := strconv.ParseInt(strings.TrimSuffix(bound, `"}`), 10, 64)
		if err == nil && grown(series) == grown(name+"_count") && (c.LargestAtMost == 0 || size < c.LargestAtMost) {
			c.LargestAtMost = size
		}
	}
	return c
}

// readLedger asks our own books, with nothing beside us.
func readLedger(ctx context.Context, where Config, merchants int) (ledgerSums, error) {
	var sums ledgerSums
	t, err := openTool(ctx, where, slog.New(slog.DiscardHandler))
	if err != nil {
		return sums, err
	}
	store := t.store
	for i := range merchants {
		m, err := store.FindMerchantByPublicID(ctx, merchantID(i))
		if err == nil {
			err = store.Read(ctx, func(r payment.Reader) error {
				balances, err := r.Balances(m.ID)
				for _, p := range balances {
					sums.receivable += p.Receivable
					if p.Sum() != 0 {
						sums.unbalanced++
					}
				}
				return err
			})
		}
		if err != nil {
			return sums, errors.Join(err, store.Close())
		}
	}
	owed, err := store.CountOwed(ctx)
	for _, o := range owed {
		sums.owed += o.Count
	}
	return sums, errors.Join(err, t.close())
}

// ledgerSums is what our books say.
type ledgerSums struct {
	receivable int64 // Minor units that the acquirer owes us, of all merchants.
	unbalanced int   // Merchants whose entries do not sum to zero.
	owed       int   // Work that is not done.
}

// readMovements counts the sandbox's movements of money that are done, by payment.
func readMovements(ctx context.Context, books string) (map[uint64]int, error) {
	ctx, cancel := context.WithTimeout(ctx, booksTime)
	defer cancel()
	body, err := get(ctx, books)
	if err != nil {
		return nil, err
	}
	defer func() { _ = body.Close() }()
	in := json.NewDecoder(body)
	if _, err := in.Token(); err != nil { // The opening bracket.
		return nil, err
	}
	done := map[uint64]int{}
	for in.More() {
		var m struct {
			Kind, Reference, State string
			Minor                  int64 `json:"amount_minor"`
		}
		if err := in.Decode(&m); err != nil {
			return nil, err
		}
		n, err := strconv.ParseUint(m.Reference, 10, 64)
		if err != nil || m.Kind != "payment" || m.Minor != amountMinor {
			return nil, fmt.Errorf("a movement that no till asked for: %+v", m)
		}
		if m.State == "done" { // Else the money went back.
			done[n]++
		}
	}
	_, err = in.Token() // A list that is cut short has no closing bracket.
	return done, err
}

// booksTime is for reading the books of the longest bench.
const booksTime = 2 * time.Minute

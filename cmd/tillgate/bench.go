package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"slices"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/tillgate/tillgate/protocol/upay"
	"github.com/tillgate/tillgate/protocol/upp"
	"github.com/tillgate/tillgate/protocol/uqpay"
)

// benchCommand measures. docs/performance.md says what each figure means.
type benchCommand struct {
	UPP   benchUPP   `cmd:"" name:"upp" help:"Pay over UPP: customers show alipay codes that are approved at once."`
	Upay  benchUpay  `cmd:"" name:"upay" help:"Pay over Upay, each till a terminal with a key of its own, and over UPP in the same round."`
	UQPAY benchUQPAY `cmd:"" name:"uqpay" help:"Pay over UQPAY: chip and online PIN at the card host."`
	Stub  benchStub  `cmd:"" hidden:"" help:"The server that bench compares with: it stores nothing."`
}

// benchPlan is what all benches have.
type benchPlan struct {
	Tills     int           `default:"64" help:"How many tills pay at once, each its next payment when the last is answered."`
	Merchants int           `default:"200" help:"How many merchants are paid, in turn; 1 is the one hot merchant."`
	Duration  time.Duration `default:"20s" help:"How long is measured, after a warm-up that does not count."`
	Data      string        `type:"existingdir" help:"Folder on the disk to be measured. The bench makes a folder of its own in it and removes it. Without it: the system's folder for temporary files, unless that is in memory."`
	Database  string        `placeholder:"URL" help:"Keep the payments on this PostgreSQL server instead, in databases that the bench makes and drops. The user must be allowed to make databases."`
	JSON      bool          `help:"Print the report as JSON."`
}

// benchUPP is the bench of UPP payments.
type benchUPP struct {
	benchPlan
	Polls   int  `help:"Measure once more while so many long polls wait, each on a connection and a pending payment of its own."`
	Stored  int  `help:"Measure once more on a store that has so many payments already. A million take minutes to store, and 2 GB."`
	Pgbench bool `help:"Measure that server with PostgreSQL's own pgbench too. Needs --database."`
}

// Run measures and prints the report.
func (c *benchUPP) Run(e *env) error { return c.run(e, upp.Protocol) }

// benchUpay is the bench of Upay.
type benchUpay struct{ benchPlan }

// Help teaches more than the flags.
func (benchUpay) Help() string {
	return "Customers show alipay codes that are approved at once; each till signs with its terminal's key. Then the same over UPP, so that the ratio of both holds " +
		"on any machine. Books are compared as with bench upp."
}

// Run measures and prints the report.
func (c *benchUpay) Run(e *env) error {
	return (&benchUPP{benchPlan: c.benchPlan}).run(e, upay.Protocol)
}

// benchUQPAY is the bench of UQPAY.
type benchUQPAY struct{ benchPlan }

// Help teaches more than the flags.
func (benchUQPAY) Help() string {
	return "Each till is a registered terminal with a PIN key of its own, and takes a chip card whose cryptogram the host checks, with an online PIN: the PIN block is " +
		"translated to the host's key, which the host opens. Messages have MACs both ways, over ISO 8583 on loopback. Then the same tills pay over UPP for comparison."
}

// Run measures and prints the report.
func (c *benchUQPAY) Run(e *env) error {
	return (&benchUPP{benchPlan: c.benchPlan}).run(e, uqpay.Protocol)
}

// Help teaches more than the flags.
func (benchUPP) Help() string {
	return "Starts a sandbox and a server as processes of their own on a new data folder, loads the server, stops it, and compares its books " +
		"with the sandbox's. Then the same with a stub in the server's place, which makes the same call to the sandbox and stores nothing: " +
		"the ratio of both is what durability costs, whatever the machine. Nothing is reachable from outside. docs/performance.md tells more."
}

// Limits of a bench, so that a mistyped figure ends in a sentence and not in a frozen machine.
const (
	tillsMax     = 1024
	merchantsMax = 10_000
	pollsMax     = 16_000 // Each takes a local port, of which common systems have 28,000 for one address.
	storedMax    = 100_000_000
	durationMin  = 100 * time.Millisecond
	durationMax  = 10 * time.Minute

	// warmUp passes before measuring begins: caches, connections and the processor's clock settle. A shorter bench has a shorter one.
	warmUp = 2 * time.Second
)

func (c *benchUPP) validate() error {
	for _, f := range []struct {
		flag          string
		got, min, max int
	}{{"--tills", c.Tills, 1, tillsMax}, {"--merchants", c.Merchants, 1, merchantsMax}, {"--polls", c.Polls, 0, pollsMax}, {"--stored", c.Stored, 0, storedMax}} {
		if f.got < f.min || f.got > f.max {
			return fmt.Errorf("%s: %d is not between %d and %d", f.flag, f.got, f.min, f.max)
		}
	}
	if c.Duration < durationMin || c.Duration > durationMax {
		return fmt.Errorf("--duration: %s is not between %s and %s", c.Duration, durationMin, durationMax)
	}
	if c.Pgbench && c.Database == "" {
		return errors.New("--pgbench: it measures a PostgreSQL server; name one with --database")
	}
	return nil
}

// warm is the warm-up before the measured time.
func (c *benchUPP) warm() time.Duration { return min(warmUp, c.Duration) }

// bench is one run of the command.
type bench struct {
	*benchUPP
	protocol string    // What the tills speak.
	program  string    // Ourselves, to be started as children.
	dir      string    // Of all that this bench writes.
	bar      io.Writer // The terminal on which progress is shown; nil for none.

	pgbenchProgram string // Path of pgbench, when it is asked for.
}

// run measures and prints the report. It fails when anything was not as it must be, after the report.
func (c *benchUPP) run(e *env, protocol string) (err error) {
	if err := c.validate(); err != nil {
		return err
	}
	if err := raiseFiles(uint64(c.Polls) + filesReserve); err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	pgbench := ""
	if c.Pgbench {
		if pgbench, err = findPgbench(); err != nil {
			return err
		}
	}
	parent := c.Data
	if parent == "" {
		parent = diskFolder()
	}
	dir, err := os.MkdirTemp(parent, "tillgate-bench-")
	if err != nil {
		return fmt.Errorf("--data: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b := &bench{benchUPP: c, protocol: protocol, program: program, dir: dir, pgbenchProgram: pgbench}
	if file, ok := e.stderr.(*os.File); ok && !c.JSON && isTerminal(file) {
		b.bar = file
	}
	report, err := b.measure(e.ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		out := json.NewEncoder(e.stdout)
		out.SetIndent("", "  ")
		err = out.Encode(report)
	} else {
		err = report.print(e.stdout)
	}
	return errors.Join(err, report.failure())
}

// diskFolder is the first of the usual folders for temporary files that is not in memory.
func diskFolder() string {
	for _, dir := range []string{os.TempDir(), "/var/tmp"} {
		if info, err := os.Stat(dir); err == nil && info.IsDir() && !inMemory(dir) {
			return dir
		}
	}
	return os.TempDir() // The report notes that it is in memory.
}

// filesReserve is how many files a process needs beside its polls: tills, the wallet network's connections, the database.
const filesReserve = 2 * tillsMax

// raiseFiles raises the number of files that this process, and with it its children, may have open.
func raiseFiles(want uint64) error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("read the limit of open files: %w", err)
	}
	if limit.Max < want {
		return fmt.Errorf("this needs %d open files and the system allows %d; raise the limit (ulimit -Hn), or use fewer --polls", want, limit.Max)
	}
	limit.Cur = max(limit.Cur, want)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("raise the limit of open files to %d: %w", want, err)
	}
	return nil
}

// measure runs the rounds one after the other: the server, pgbench and the server with long polls if they are asked for, and the stub.
func (b *bench) measure(ctx context.Context) (*benchReport, error) {
	sync, err := syncTime(b.dir)
	if err != nil {
		return nil, fmt.Errorf("time the disk: %w", err)
	}
	r := &benchReport{
		Protocol: b.protocol, Tills: b.Tills, Merchants: b.Merchants, Seconds: b.Duration.Seconds(), WarmUpSeconds: b.warm().Seconds(), Time: time.Now().UTC().Truncate(time.Second),
		Machine: benchMachine{OS: runtime.GOOS, Architecture: runtime.GOARCH, Processors: runtime.NumCPU(), Go: runtime.Version(),
			SyncMS: milliseconds(sync), InMemory: inMemory(b.dir)},
	}
	if b.Database != "" {
		version, err := askPostgres(ctx, b.Database, "SHOW server_version")
		if err != nil {
			return nil, err
		}
		r.Machine.Postgres = version
		r.Notes = append(r.Notes, "Payments are on the PostgreSQL server: its disk may be another than the one that was timed, and its processor time is not in these figures.")
	} else if r.Machine.InMemory {
		r.Notes = append(r.Notes, "The data folder is in memory: nothing here was durable. Name a folder on a disk with --data.")
	}
	if r.Serve, err = b.round(ctx, "serve", b.protocol, serving, burden{}); err != nil {
		return nil, fmt.Errorf("serve: %w", err)
	}
	if b.protocol != upp.Protocol {
		other, err := b.round(ctx, "upp", upp.Protocol, serving, burden{})
		if err != nil {
			return nil, fmt.Errorf("upp: %w", err)
		}
		r.UPP, r.UPPRatio = &other, ratio(r.Serve.PerSecond, other.PerSecond)
		return r, nil
	}
	if b.Pgbench {
		if r.Pgbench, err = b.pgbench(ctx); err != nil {
			return nil, fmt.Errorf("pgbench: %w", err)
		}
		r.Pgbench.Ratio = ratio(r.Serve.PerSecond, r.Pgbench.PerSecond)
	}
	if b.Polls > 0 {
		polled, err := b.round(ctx, "polls", b.protocol, serving, burden{polls: b.Polls})
		if err != nil {
			return nil, fmt.Errorf("serve with %d polls: %w", b.Polls, err)
		}
		r.Polled, r.PolledRatio = &polled, ratio(polled.PerSecond, r.Serve.PerSecond)
	}
	if b.Stored > 0 {
		full, err := b.round(ctx, "stored", b.protocol, serving, burden{stored: b.Stored})
		if err != nil {
			return nil, fmt.Errorf("serve with %d payments in the store: %w", b.Stored, err)
		}
		full.Stored = b.Stored
		r.Full, r.FullRatio, r.FullP99Ratio = &full, ratio(full.PerSecond, r.Serve.PerSecond), ratio(full.P99MS, r.Serve.P99MS)
	}
	stub, err := b.round(ctx, "stub", b.protocol, stubbing, burden{})
	if err != nil {
		return nil, fmt.Errorf("stub: %w", err)
	}
	r.Stub, r.Ratio = &stub, ratio(r.Serve.PerSecond, stub.PerSecond)
	return r, nil
}

// syncTries is how often the disk is timed; the median counts.
const syncTries = 51

// syncTime is how long the disk takes to make one written page durable: what a commit costs at least.
func syncTime(dir string) (_ time.Duration, err error) {
	f, err := os.CreateTemp(dir, "sync-")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	page := make([]byte, os.Getpagesize())
	var took []time.Duration
	for range syncTries {
		start := time.Now()
		if _, err := f.Write(page); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	return took[len(took)/2], nil
}

// ratio is a of b, to three decimals; 0 when there is nothing to compare with.
func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return math.Round(a/b*1000) / 1000
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// isTerminal reports whether somebody watches a file.
func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

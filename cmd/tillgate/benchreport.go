package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/tillgate/tillgate/protocol/upay"
	"github.com/tillgate/tillgate/protocol/upp"
	"github.com/tillgate/tillgate/protocol/uqpay"
)

// benchReport is what bench prints. docs/performance.md explains the figures.
type benchReport struct {
	Time          time.Time    `json:"time"`
	Machine       benchMachine `json:"machine"`
	Notes         []string     `json:"notes,omitempty"`
	Protocol      string       `json:"protocol"`
	Tills         int          `json:"tills"`
	Merchants     int          `json:"merchants"`
	Seconds       float64      `json:"seconds"`
	WarmUpSeconds float64      `json:"warm_up_seconds"`

	Serve        benchRound  `json:"serve"`
	Polled       *benchRound `json:"serve_with_polls,omitempty"`
	PolledRatio  float64     `json:"polls_ratio,omitempty"` // Payments a second with polls, of those without.
	Full         *benchRound `json:"serve_with_stored,omitempty"`
	FullRatio    float64     `json:"stored_ratio,omitempty"`     // Payments a second on a store that has many already, of those on an empty one.
	FullP99Ratio float64     `json:"stored_p99_ratio,omitempty"` // The same of the latency at p99.
	Stub         *benchRound `json:"stub,omitempty"`
	Ratio        float64     `json:"ratio,omitempty"` // Payments a second of the server, of those of the stub.
	UPP          *benchRound `json:"upp,omitempty"`   // The same tills over UPP, beside another protocol.
	UPPRatio     float64     `json:"upp_ratio,omitempty"`

	Pgbench *benchPgbench `json:"pgbench,omitempty"`
}

// benchMachine is where it was measured. The load generator and the sandbox share it with the server.
type benchMachine struct {
	OS           string  `json:"os"`
	Architecture string  `json:"architecture"`
	Processors   int     `json:"processors"`
	Go           string  `json:"go"`
	SyncMS       float64 `json:"sync_ms"` // To write one page and make it durable: the median.
	InMemory     bool    `json:"in_memory"`
	Postgres     string  `json:"postgres,omitempty"` // Version of the server that keeps the payments; empty when it is SQLite.
}

// benchRound is what came of one round.
type benchRound struct {
	Payments   int64   `json:"payments"` // Approved in the measured time.
	PerSecond  float64 `json:"per_second"`
	P50MS      float64 `json:"p50_ms"`
	P99MS      float64 `json:"p99_ms"`
	P999MS     float64 `json:"p999_ms"`
	MaxMS      float64 `json:"max_ms"`
	Approved   int     `json:"approved"` // From the beginning to the end, warm-up included.
	Errors     int     `json:"errors"`
	FirstError string  `json:"first_error,omitempty"`

	CPU           benchCPU      `json:"cpu"`
	Commits       *benchCommits `json:"commits,omitempty"`
	Disk          *benchDisk    `json:"disk,omitempty"`
	ResidentBytes int64         `json:"resident_bytes,omitempty"` // Of the server when the measured time ends.
	Polls         *benchPolls   `json:"polls,omitempty"`
	Stored        int           `json:"stored,omitempty"` // Payments that were in the store before.
	Books         benchBooks    `json:"books"`
}

// benchCPU is time of the processors: of the children in all their life, of the load generator while it loads.
type benchCPU struct {
	Server  float64 `json:"server_seconds"`
	Sandbox float64 `json:"sandbox_seconds"`
	Load    float64 `json:"load_seconds"`

	ServerEach  float64 `json:"server_us_per_payment"`
	SandboxEach float64 `json:"sandbox_us_per_payment"`
	LoadEach    float64 `json:"load_us_per_payment"`
}

func (c *benchCPU) perPayment(payments float64) {
	each := func(seconds float64) float64 { return math.Round(seconds * 1e6 / payments) }
	c.ServerEach, c.SandboxEach, c.LoadEach = each(c.Server), each(c.Sandbox), each(c.Load)
}

// benchCommits tells how transactions shared commits in the measured time.
type benchCommits struct {
	Commits       int64   `json:"commits"`
	Mean          float64 `json:"mean_group"`
	LargestAtMost int64   `json:"largest_group_at_most"` // The bound of the measure's bucket; 0 when it was beyond all bounds.
}

// benchDisk is what a payment leaves on the disk.
type benchDisk struct {
	BytesPerPayment    float64 `json:"bytes_per_payment"` // Of the data folder, or of the database, once the server has ended.
	LogBytesPerPayment float64 `json:"log_bytes_per_payment"`
}

// benchPolls is the cost of many long polls.
type benchPolls struct {
	Count          int     `json:"count"`
	Rounds         int     `json:"rounds"` // Answers "still pending", each followed by another poll.
	Errors         int     `json:"errors"`
	FirstError     string  `json:"first_error,omitempty"`
	ResidentBefore int64   `json:"resident_bytes_before"` // With the pending payments, before their polls.
	ResidentAfter  int64   `json:"resident_bytes_after"`
	BytesPerPoll   float64 `json:"bytes_per_poll"`
}

// benchBooks is what three books say in the end: what the tills were told, what the sandbox moved, and our ledger.
type benchBooks struct {
	Movements int      `json:"movements"`
	Problems  []string `json:"problems,omitempty"`
}

// fill takes over what the load has measured.
func (r *benchRound) fill(l *load) {
	r.Payments = l.latency.TotalCount()
	r.PerSecond = float64(r.Payments) / l.measured.Seconds()
	at := func(percentile float64) float64 {
		return milliseconds(time.Duration(l.latency.ValueAtPercentile(percentile)) * time.Microsecond)
	}
	r.P50MS, r.P99MS, r.P999MS, r.MaxMS = at(50), at(99), at(99.9), at(100)
	r.Approved, r.Errors = len(l.approved), l.failures
	if l.first != nil {
		r.FirstError = l.first.Error()
	}
}

// compare holds what the tills were told against what the sandbox moved: one movement for each approval. A payment whose answer was lost
// may have moved money too, so there may be so many movements more.
func compare(approved []uint64, movements map[uint64]int, lost int) benchBooks {
	b := benchBooks{}
	for _, n := range movements {
		b.Movements += n
	}
	told, missing, twice := map[uint64]bool{}, 0, 0
	for _, n := range approved {
		switch {
		case told[n]:
			twice++
		case movements[n] == 0:
			missing++
		}
		told[n] = true
	}
	for _, n := range movements {
		if n > 1 {
			twice++
		}
	}
	if missing > 0 {
		b.problem("%d payments were approved and no money moved", missing)
	}
	if twice > 0 {
		b.problem("%d payments were approved or moved twice", twice)
	}
	if strangers := len(movements) - (len(told) - missing); strangers > lost {
		b.problem("%d payments moved money and no till knows of them", strangers)
	}
	return b
}

// hold adds our own books to the comparison. What is pending may be owed.
func (b *benchBooks) hold(l ledgerSums, with burden, lost int) {
	if l.unbalanced > 0 {
		b.problem("the ledger of %d merchants does not balance", l.unbalanced)
	}
	if want := int64(b.Movements+with.stored) * amountMinor; l.receivable != want {
		b.problem("the ledger says that the acquirer owes %d, and %d was moved", l.receivable, want)
	}
	if l.owed > with.polls+lost {
		b.problem("%d pieces of work are still owed", l.owed)
	}
}

func (b *benchBooks) problem(format string, args ...any) {
	b.Problems = append(b.Problems, fmt.Sprintf(format, args...))
}

// failure is what was not as it must be in any round; nil when all was.
func (r *benchReport) failure() error {
	var errs []error
	for _, t := range r.rounds() {
		for _, p := range t.round.Books.Problems {
			errs = append(errs, fmt.Errorf("%s: %s", t.name, p))
		}
		if t.round.Errors > 0 {
			errs = append(errs, fmt.Errorf("%s: %d payments failed; the first: %s", t.name, t.round.Errors, t.round.FirstError))
		}
		if p := t.round.Polls; p != nil && p.Errors > 0 {
			errs = append(errs, fmt.Errorf("%s: %d polls failed; the first: %s", t.name, p.Errors, p.FirstError))
		}
	}
	return errors.Join(errs...)
}

type namedRound struct {
	name  string
	round *benchRound
}

func (r *benchReport) rounds() []namedRound {
	list := []namedRound{{"serve", &r.Serve}}
	if r.Polled != nil {
		list = append(list, namedRound{"with polls", r.Polled})
	}
	if r.Full != nil {
		list = append(list, namedRound{"with stored", r.Full})
	}
	if r.UPP != nil {
		list = append(list, namedRound{"upp", r.UPP})
	}
	if r.Stub != nil {
		list = append(list, namedRound{"stub", r.Stub})
	}
	return list
}

// benchTitles say what the tills of a bench do.
var benchTitles = map[string]string{
	upp.Protocol:   "UPP: customers show codes",
	upay.Protocol:  "Upay: customers show codes",
	uqpay.Protocol: "UQPAY: chip cards with online PINs",
}

// print writes the report for people.
func (r *benchReport) print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', tabwriter.AlignRight)
	row := func(label string, cell func(*benchRound) string) {
		fmt.Fprint(w, label)
		for _, t := range r.rounds() {
			fmt.Fprint(w, "\t", cell(t.round))
		}
		fmt.Fprint(w, "\t\n")
	}
	number := func(label, format string, of func(*benchRound) float64) {
		row(label, func(b *benchRound) string { return fmt.Sprintf(format, of(b)) })
	}
	fmt.Fprintf(out, benchTitles[r.Protocol]+", %d tills, %d merchants, %gs after %gs of warm-up.\n", r.Tills, r.Merchants, r.Seconds, r.WarmUpSeconds)
	fmt.Fprintf(out, "%s/%s, %d processors shared with the sandbox and the load, %s, a page is durable in %.2f ms.\n\n", r.Machine.OS, r.Machine.Architecture,
		r.Machine.Processors, r.Machine.Go, r.Machine.SyncMS)
	if r.Machine.Postgres != "" {
		fmt.Fprintf(out, "Payments are on PostgreSQL %s.\n\n", r.Machine.Postgres)
	}
	for i, t := range r.rounds() {
		if i == 0 {
			fmt.Fprint(w, " ")
		}
		fmt.Fprint(w, "\t", t.name)
	}
	fmt.Fprint(w, "\t\n")
	number("payments a second", "%.0f", func(b *benchRound) float64 { return b.PerSecond })
	number("latency p50, ms", "%.1f", func(b *benchRound) float64 { return b.P50MS })
	number("p99", "%.1f", func(b *benchRound) float64 { return b.P99MS })
	number("p99.9", "%.1f", func(b *benchRound) float64 { return b.P999MS })
	number("max", "%.1f", func(b *benchRound) float64 { return b.MaxMS })
	number("errors", "%.0f", func(b *benchRound) float64 { return float64(b.Errors) })
	number("CPU of server, s", "%.1f", func(b *benchRound) float64 { return b.CPU.Server })
	number("of sandbox", "%.1f", func(b *benchRound) float64 { return b.CPU.Sandbox })
	number("of load", "%.1f", func(b *benchRound) float64 { return b.CPU.Load })
	number("CPU of server per payment, µs", "%.0f", func(b *benchRound) float64 { return b.CPU.ServerEach })
	number("of sandbox", "%.0f", func(b *benchRound) float64 { return b.CPU.SandboxEach })
	number("of load", "%.0f", func(b *benchRound) float64 { return b.CPU.LoadEach })
	commits := func(format string, of func(*benchCommits) any) func(*benchRound) string {
		return func(b *benchRound) string {
			if b.Commits == nil {
				return "-"
			}
			return fmt.Sprintf(format, of(b.Commits))
		}
	}
	row("transactions per commit, mean", commits("%.1f", func(c *benchCommits) any { return c.Mean }))
	row("largest, at most", commits("%v", func(c *benchCommits) any {
		if c.LargestAtMost == 0 {
			return "more"
		}
		return c.LargestAtMost
	}))
	disk := func(of func(*benchDisk) float64) func(*benchRound) string {
		return func(b *benchRound) string {
			if b.Disk == nil {
				return "-"
			}
			return fmt.Sprintf("%.0f", of(b.Disk))
		}
	}
	row("bytes on disk per payment", disk(func(d *benchDisk) float64 { return d.BytesPerPayment }))
	row("bytes of log per payment", disk(func(d *benchDisk) float64 { return d.LogBytesPerPayment }))
	row("resident memory, MiB", func(b *benchRound) string {
		if b.ResidentBytes == 0 {
			return "-"
		}
		return fmt.Sprintf("%.0f", mebibytes(b.ResidentBytes))
	})
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := io.WriteString(out, r.conclusions())
	return err
}

func (r *benchReport) conclusions() string {
	var b strings.Builder
	fmt.Fprintln(&b)
	if r.Stub != nil {
		fmt.Fprintf(&b, "serve is %.2f of the stub, which does the same and stores nothing.\n", r.Ratio)
	}
	if r.UPP != nil {
		fmt.Fprintf(&b, "serve takes %.2f payments for each that it takes over UPP in the same round.\n", r.UPPRatio)
	}
	if r.Polled != nil {
		p := r.Polled.Polls
		fmt.Fprintf(&b, "With %d long polls, payments run at %.2f of the rate without; the polls take %.0f MiB (%.0f before, %.0f after), %.1f KiB each.\n",
			p.Count, r.PolledRatio, mebibytes(p.ResidentAfter-p.ResidentBefore), mebibytes(p.ResidentBefore), mebibytes(p.ResidentAfter), p.BytesPerPoll/1024)
	}
	if r.Full != nil {
		fmt.Fprintf(&b, "With %d payments in the store, payments run at %.2f of the rate without, and their p99 is %.2f of that without.\n", r.Full.Stored, r.FullRatio,
			r.FullP99Ratio)
	}
	if p := r.Pgbench; p != nil {
		fmt.Fprintf(&b, "pgbench makes %.0f transactions a second on the same PostgreSQL (scale %d, %d clients); serve makes %.2f payments for each, two transactions a payment.\n",
			p.PerSecond, p.Scale, p.Clients, p.Ratio)
	}
	if r.failure() == nil {
		fmt.Fprintln(&b, "Books: each approved payment moved money once; the ledger balances and agrees with the sandbox; nothing is owed.")
	}
	for _, n := range r.Notes {
		fmt.Fprintln(&b, n)
	}
	return b.String()
}

func mebibytes(n int64) float64 { return float64(n) / (1 << 20) }

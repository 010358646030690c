package device

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/receipt"
	"github.com/tillgate/tillgate/terminal"
)

// Times of a terminal.
const (
	pinLimit     = time.Minute      // For the customer to type a PIN.
	askLimit     = 90 * time.Second // For the server to say what became of a card: its host's time-out and a reversal.
	refuseLimit  = 12 * time.Second // For the server to hear that the card refused: then its till is told otherwise.
	resultStays  = 4 * time.Second  // A result on the screen.
	printLimit   = 15 * time.Second
	quickLimit   = 10 * time.Second
	stopLimit    = 2 * time.Second // For the server to hear that a payment is given up because the terminal stops.
	settlePause  = 2 * time.Second // Between questions about a payment without an outcome.
	settleLimit  = 3 * time.Minute // After it the receipt says that the result is not known.
	recoverLimit = 24 * time.Hour
)

// Config is what a Terminal needs. All fields but Language are required.
type Config struct {
	Dir        string // Of the journal; one terminal each.
	Parts      Parts
	Identities []*Identity // One or more: the servers, or the shops, that it works for.
	Serial     string      // Eight characters, tag 9F1E.
	Language   receipt.Language
	Now        func() time.Time
	Rand       io.Reader
	Log        *slog.Logger
}

// Terminal is a card terminal. Run must be running.
type Terminal struct {
	cfg     Config
	journal *journal
	links   []*Link
	desks   []*Desk // Which want to hear of every handshake.
	all     sync.WaitGroup
	base    context.Context // Of jobs: it ends with Run.

	mu      sync.Mutex
	stopped bool
	job     *job
	ends    map[string]ending // Of orders, until the server has heard of them.
	screens int               // Counts them, so that a result that stays does not cover the next screen.
}

// job is what the terminal does for a customer or a clerk; there is one at a time.
type job struct {
	record record
	link   *Link
	ctx    context.Context
	cancel context.CancelCauseFunc
	sent   bool // Something about money has left: it cannot be taken back.
	// unresolved says that the outcome is not known. It belongs to the job's own goroutine.
	unresolved bool
}

// stopping reports whether the job has ended because the terminal stops.
func (j *job) stopping() bool { return errors.Is(context.Cause(j.ctx), errStopping) }

// ending is the end of an order.
type ending struct {
	link  *Link
	frame terminal.Frame
}

// The causes of a job's end from outside.
var (
	errTakenBack = errors.New("the order was taken back")
	errStopping  = errors.New("the terminal stops")
	errTime      = errors.New("nobody acted in time")
)

// New opens the journal. Nothing runs yet.
func New(cfg Config) (*Terminal, error) {
	if len(cfg.Identities) == 0 {
		return nil, ErrNoIdentity
	}
	if len(cfg.Serial) != serialDigits {
		return nil, fmt.Errorf("serial %q: want %d characters", cfg.Serial, serialDigits)
	}
	j, err := openJournal(cfg.Dir, cfg.Now)
	if err != nil {
		return nil, err
	}
	t := &Terminal{cfg: cfg, journal: j, ends: map[string]ending{}}
	for _, i := range cfg.Identities {
		t.links = append(t.links, &Link{identity: i, log: cfg.Log, random: cfg.Rand, now: cfg.Now, busy: t.Busy, heard: t.heard, up: t.up,
			orders: func() []string { return t.inHand(i.Number) }, calls: map[string]*calling{}})
	}
	return t, nil
}

// Links are the terminal's lines, in the order of the identities.
func (t *Terminal) Links() []*Link { return t.links }

// Run keeps the lines, and finishes what an earlier run has left, until ctx ends. What is under way then and has not sent a card is given up.
func (t *Terminal) Run(ctx context.Context) error {
	base, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	t.mu.Lock()
	t.base = base
	t.mu.Unlock()
	t.show(Screen{Mode: Idle, Title: "Welcome"})
	t.recover()
	lines, stopLines := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLines()
	var g errgroup.Group
	for _, l := range t.links {
		g.Go(func() error { return l.run(lines) })
	}
	<-ctx.Done()
	t.mu.Lock()
	t.stopped = true
	t.mu.Unlock()
	stop(errStopping)
	t.all.Wait() // With the lines still there, so that whoever waits for an order hears of its end.
	stopLines()
	return errors.Join(g.Wait(), t.journal.close())
}

// Busy reports whether the terminal has something in hand.
func (t *Terminal) Busy() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.job != nil
}

// goes runs something that Run waits for. False: the terminal stops.
func (t *Terminal) goes(fn func(ctx context.Context)) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopped || t.base == nil {
		return false
	}
	t.all.Go(func() { fn(t.base) })
	return true
}

// take begins a job, unless there is one or the ID was there before: terminal.ErrBusy, errKnown.
func (t *Terminal) take(r record, l *Link) (*job, error) {
	t.mu.Lock()
	switch {
	case t.stopped || t.base == nil:
		t.mu.Unlock()
		return nil, errStopping
	case t.job != nil:
		t.mu.Unlock()
		return nil, terminal.ErrBusy
	}
	j := &job{link: l}
	j.ctx, j.cancel = context.WithCancelCause(t.base)
	t.all.Add(1)
	t.job = j // From here on the terminal is busy; the disk may take its time.
	t.mu.Unlock()
	r.Link = l.Number()
	var err error
	if j.record, err = t.journal.begin(r); err != nil {
		t.done(j)
		return nil, err
	}
	t.tellStates()
	return j, nil
}

// leave marks a job as one that has sent something about money, in the journal first. It fails when the job was ended before.
func (t *Terminal) leave(j *job) error {
	t.mu.Lock()
	if err := context.Cause(j.ctx); err != nil {
		t.mu.Unlock()
		return err
	}
	j.sent = true
	t.mu.Unlock()
	j.record.Phase = sent
	return t.journal.note(j.record)
}

// end ends a job by its ID, unless it has sent something: terminal.ErrTooLate, terminal.ErrOver when it is not there.
func (t *Terminal) end(id string, cause error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.job == nil || t.job.record.ID != id:
		return terminal.ErrOver
	case t.job.sent:
		return terminal.ErrTooLate
	}
	t.job.cancel(cause)
	return nil
}

// done frees the terminal.
func (t *Terminal) done(j *job) {
	j.cancel(nil)
	t.mu.Lock()
	t.job = nil
	t.mu.Unlock()
	t.tellStates()
	t.all.Done()
}

// tellStates tells all servers whether the terminal is busy.
func (t *Terminal) tellStates() {
	for _, l := range t.links {
		l.tellState()
	}
}

// inHand are the orders of a server's that the terminal carries out, or whose end it still has to tell.
func (t *Terminal) inHand(number string) []string {
	var ids []string
	for _, r := range t.journal.left() {
		if r.Order && r.Link == number {
			ids = append(ids, r.ID)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for id, e := range t.ends {
		if e.link.Number() == number {
			ids = append(ids, id)
		}
	}
	return ids
}

// up readies the terminal after a handshake: ends that are owed, and the PIN key.
func (t *Terminal) up(ctx context.Context, l *Link) bool {
	t.mu.Lock()
	var owed []terminal.Frame
	for _, e := range t.ends {
		if e.link == l {
			owed = append(owed, e.frame)
		}
	}
	t.mu.Unlock()
	for _, f := range owed {
		_ = l.send(f) // Or over the next line.
	}
	l.tellState()
	if err := l.pinKey(ctx, t.cfg.Parts.PINPad, false); err != nil && ctx.Err() == nil {
		t.cfg.Log.Error("no PIN key", "number", l.Number(), "error", err)
		return false
	}
	for _, d := range t.desks {
		if d.link == l {
			d.refresh(ctx)
		}
	}
	return true
}

// heard deals with what a server says unasked.
func (t *Terminal) heard(l *Link, f terminal.Frame) {
	switch f.Type {
	case terminal.FrameEnded:
		t.mu.Lock()
		delete(t.ends, f.ID)
		t.mu.Unlock()
	case terminal.FrameTakeBack:
		t.mu.Lock()
		delete(t.ends, f.ID) // Nobody wants to hear of it.
		t.mu.Unlock()
		_ = t.end(f.ID, errTakenBack) // It is gone, or it is too late: then its end decides.
	case terminal.FrameOrder:
		t.order(l, f)
	default:
		t.cfg.Log.Warn("message not understood", "number", l.Number(), "type", f.Type)
	}
}

// finish writes a job's end, frees the terminal, and then tells the server of an order's end: whoever hears of it can give the next order at
// once.
//
// What has sent a card and does not know its outcome when the terminal stops is left in the journal: the next start asks.
func (t *Terminal) finish(j *job, r terminal.Report, fault *terminal.Fault) {
	if j.unresolved && j.stopping() {
		t.done(j)
		return
	}
	f := endFrame(j.record.ID, r, fault)
	if j.record.Order {
		t.owe(j.link, f)
	}
	j.record.Phase = over
	if err := t.journal.note(j.record); err != nil {
		t.cfg.Log.Error("journal", "error", err)
	}
	t.done(j)
	if j.record.Order {
		_ = j.link.send(f) // Or over the next line.
	}
}

func endFrame(id string, r terminal.Report, fault *terminal.Fault) terminal.Frame {
	f := terminal.MakeFrame(terminal.FrameEnd, "", id, r)
	f.Error = fault
	return f
}

// owe keeps an order's end until the server has heard of it.
func (t *Terminal) owe(l *Link, f terminal.Frame) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.ends[f.ID] = ending{l, f}
}

// report tells a server of an order's end, until it has heard of it.
func (t *Terminal) report(l *Link, id string, r terminal.Report, fault *terminal.Fault) {
	f := endFrame(id, r, fault)
	t.owe(l, f)
	_ = l.send(f)
}

// show shows a screen.
func (t *Terminal) show(s Screen) {
	t.mu.Lock()
	t.screens++
	t.mu.Unlock()
	t.cfg.Parts.Display.Show(s)
}

// result shows how something has ended, and the welcome after a while, unless something else is shown by then.
func (t *Terminal) result(s Screen) {
	t.show(s)
	t.mu.Lock()
	shown := t.screens
	t.mu.Unlock()
	t.goes(func(ctx context.Context) {
		select {
		case <-time.After(resultStays):
		case <-ctx.Done():
			return
		}
		t.mu.Lock()
		still := t.screens == shown && t.job == nil
		t.mu.Unlock()
		if still {
			t.show(Screen{Mode: Idle, Title: "Welcome"})
		}
	})
}

// recover finishes what an earlier run has left in the journal. What had not sent anything has come to nothing; of what had, the server is
// asked, and the receipt printed that the customer has not got.
func (t *Terminal) recover() {
	for _, r := range t.journal.left() {
		link := t.linkOf(r.Link)
		if link == nil {
			t.cfg.Log.Warn("journal: a job of an identity that this terminal has no more", "job", r.ID)
			continue
		}
		switch {
		case r.Phase == sent && r.Payment != 0:
			t.goes(func(ctx context.Context) { t.resume(ctx, link, r) })
			continue
		case !r.Order && r.Payment != 0:
			left := r
			t.goes(func(ctx context.Context) { t.giveUp(ctx, link, left) })
		}
		r.Phase = over
		if err := t.journal.note(r); err != nil {
			t.cfg.Log.Error("journal", "error", err)
		}
		if r.Order {
			t.owe(link, endFrame(r.ID, terminal.Report{Ended: payment.ReasonUnavailable, At: t.cfg.Now()}, nil))
		}
	}
}

func (t *Terminal) linkOf(number string) *Link {
	for _, l := range t.links {
		if l.Number() == number {
			return l
		}
	}
	return nil
}

// resume asks what became of a job that had sent a card when the terminal was restarted, prints its receipt, and tells the server of an
// order's end.
func (t *Terminal) resume(ctx context.Context, l *Link, r record) {
	ctx, stop := context.WithTimeout(ctx, recoverLimit)
	defer stop()
	v, err := t.settled(ctx, l, r.As, r.Payment)
	if err != nil {
		if ctx.Err() == nil { // The server knows no such payment.
			t.cfg.Log.Error("a payment from before the restart", "payment", r.Payment, "error", err)
			r.Phase = over
			_ = t.journal.note(r) // Asked again after the next restart.
		}
		return
	}
	report := terminal.Report{Scheme: v.Scheme, Masked: v.Masked, Entry: v.Entry, Invoice: sixDigits(r.Invoice), At: t.cfg.Now()}
	t.receipts(ctx, l, v, report, receipt.Purchase, false)
	r.Phase = over
	if err := t.journal.note(r); err != nil {
		t.cfg.Log.Error("journal", "error", err)
	}
	if r.Order {
		t.report(l, r.ID, report, nil)
	}
}

// giveUp cancels a payment of the terminal's own for which a restart left no card.
func (t *Terminal) giveUp(ctx context.Context, l *Link, r record) {
	var v terminal.PaymentView
	err := l.call(ctx, terminal.CallCancel, terminal.CancelCall{As: r.As, Payment: r.Payment, Reason: payment.ReasonUnavailable}, &v)
	if err != nil && ctx.Err() == nil {
		t.cfg.Log.Warn("a payment from before the restart is left to its lifetime", "payment", r.Payment, "error", err)
	}
}

// settled asks the server until a payment is decided, over as many lines as it takes.
func (t *Terminal) settled(ctx context.Context, l *Link, as string, id payment.ID) (terminal.PaymentView, error) {
	for {
		var v terminal.PaymentView
		err := l.call(ctx, terminal.CallAwait, terminal.AwaitCall{As: as, Payment: id, Wait: 20 * time.Second}, &v)
		if err != nil && (ctx.Err() != nil || errors.Is(err, payment.ErrNotFound)) {
			return v, err
		}
		if err == nil && (v.Outcome == payment.OutcomeApproved || v.Outcome == payment.OutcomeDeclined) {
			return v, nil
		}
		select {
		case <-time.After(settlePause):
		case <-ctx.Done():
			return v, context.Cause(ctx)
		}
	}
}

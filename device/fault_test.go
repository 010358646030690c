package device_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tillgate/tillgate/device"
	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/terminal"
)

// insert inserts a good card and types its PIN, with something in between.
func (r *rig) insert(u *unit, before, beforePIN func()) {
	r.t.Helper()
	c, ok := u.Card("0229")
	if !ok {
		r.t.Fatal("no such card")
	}
	r.await(u, device.AskCard)
	before()
	r.until("the card", func() bool { return u.Present(c, payment.EntryChip) })
	r.await(u, device.AskPIN)
	beforePIN()
	r.until("the PIN", func() bool { return u.TypePIN(c.PIN) })
}

func nothing() {}

// sold is a sale that runs while the test does something to it.
type sold struct {
	report terminal.Report
	view   payment.View
	err    error
}

func (r *rig) selling(u *unit, p payment.Payment) <-chan sold {
	out := make(chan sold, 1)
	go func() {
		var s sold
		s.report, s.view, s.err = r.sale(u, p)
		out <- s
	}()
	return out
}

func TestTheLineIsCutBeforeTheCardIsRead(t *testing.T) {
	t.Parallel()
	r := setup(t)
	u := r.terminal()
	ends := r.selling(u, r.order(u, "10.00"))
	r.insert(u, r.where.cut, r.where.cut)
	s := <-ends
	if s.err != nil {
		t.Errorf("got %v", s.err)
	}
	r.want(u, s.view, outcome{payment.Captured, "", "payment 1000 CAD done", "APPROVED"})
}

// A terminal without a PIN key fetches one before it asks for a PIN, and the customer is not asked for the card again while it waits.
func TestTheLineIsCutWhileThePINKeyIsFetched(t *testing.T) {
	t.Parallel()
	r := setup(t)
	u := r.pair()
	u.noKey = true
	r.start(u)
	ends := r.selling(u, r.order(u, "10.00"))
	c, _ := u.Card("0229")
	r.await(u, device.AskCard)
	r.where.oneWay()
	r.until("the card", func() bool { return u.Present(c, payment.EntryChip) })
	r.await(u, device.Processing)
	r.where.cut()
	r.await(u, device.AskPIN)
	r.until("the PIN", func() bool { return u.TypePIN(c.PIN) })
	s := <-ends
	if s.err != nil {
		t.Errorf("got %v", s.err)
	}
	r.want(u, s.view, outcome{payment.Captured, "", "payment 1000 CAD done", "APPROVED"})
}

func TestTheLineIsCutForGoodBeforeTheCardIsRead(t *testing.T) {
	t.Parallel()
	r := setup(t)
	u := r.terminal()
	p := r.order(u, "10.00")
	ends := r.selling(u, p)
	r.await(u, device.AskCard)
	r.where.to("127.0.0.1:1")
	r.where.cut()
	s := <-ends
	if !errors.Is(s.err, terminal.ErrLost) || s.view.Payment.State != payment.Cancelled {
		t.Errorf("got %s, %v", s.view.Payment.State, s.err)
	}
	if _, _, err := r.sale(u, r.order(u, "11.00")); !errors.Is(err, terminal.ErrAbsent) {
		t.Errorf("the next order, at once: %v", err)
	}
	// The customer has not noticed, and inserts the card when the line comes back.
	r.where.to(r.server.http.Listener.Addr().String())
	r.until("the terminal to learn that the order is over", func() bool { return !u.Busy() && r.server.channel.Free(u.caller) == nil })
	r.want(u, s.view, outcome{payment.Cancelled, payment.ReasonCancelled, "", "NOT COMPLETED"})
}

func TestTheLineIsCutWhileTheHostIsAsked(t *testing.T) {
	t.Parallel()
	r := setup(t)
	u := r.terminal()
	ends := r.selling(u, r.order(u, "9056.00")) // The host says nothing, and the link reverses after a second.
	r.insert(u, nothing, nothing)
	r.await(u, device.Processing)
	time.Sleep(200 * time.Millisecond)
	r.where.cut()
	s := <-ends
	if s.err != nil || s.report.Masked != "555474******0229" {
		t.Errorf("got %v, card %q", s.err, s.report.Masked)
	}
	r.want(u, s.view, outcome{payment.Refused, payment.ReasonUnavailable, "payment 905600 CAD reversed", "DECLINED"})
}

// The answer never reaches the terminal: the sale stands (design 4.9), the till hears so, and the receipt comes when the line is back.
func TestTheLineIsCutForGoodAfterTheCardIsRead(t *testing.T) {
	t.Parallel()
	for name, amount := range map[string]string{"a good card": "10.00", "a card that would refuse": "9098.00"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := setup(t)
			u := r.terminal()
			p := r.order(u, amount)
			ends := r.selling(u, p)
			r.deaf(u)
			s := <-ends
			if s.err != nil || s.view.Payment.State != payment.Captured || s.report.Masked == "" || s.report.AID != "A0000000041010" {
				t.Errorf("got %s, %v, card %q", s.view.Payment.State, s.err, s.report.Masked)
			}
			r.where.to(r.server.http.Listener.Addr().String())
			r.until("the terminal to be free", func() bool { return !u.Busy() && r.server.channel.Free(u.caller) == nil })
			books := "payment " + strings.Replace(amount, ".", "", 1) + " CAD done"
			r.want(u, s.view, outcome{payment.Captured, "", books, "APPROVED"})
		})
	}
}

// deaf pays with a good card whose answer is lost: the line is cut for good as soon as the server has the card.
func (r *rig) deaf(u *unit) {
	r.t.Helper()
	c, _ := u.Card("0229")
	r.await(u, device.AskCard)
	r.until("the card", func() bool { return u.Present(c, payment.EntryChip) })
	r.await(u, device.AskPIN)
	r.where.oneWay()
	r.until("the PIN", func() bool { return u.TypePIN(c.PIN) })
	r.until("the host's books", func() bool { return strings.Contains(r.movements(), "done") })
	r.where.to("127.0.0.1:1")
	r.where.cut()
}

func TestTheServerIsRestartedWhileTheCardIsAskedFor(t *testing.T) {
	t.Parallel()
	r := setup(t)
	u := r.terminal()
	p := r.orderFor(u, "10.00", 4*time.Second)
	ctx, hangUp := context.WithCancel(context.Background())
	ends := make(chan error, 1)
	channel := r.server.channel
	go func() { _, err := channel.Sale(ctx, u.caller, p); ends <- err }()
	r.await(u, device.AskCard)
	hangUp() // The till's connection breaks with the server.
	<-ends
	r.restartServer()
	r.until("the terminal to be free", func() bool { return !u.Busy() && r.server.channel.Free(u.caller) == nil })
	r.until("the payment's end", func() bool { return r.state(p) == payment.Expired || r.state(p) == payment.Cancelled })
	if paper := u.paper(); r.movements() != "" || strings.Contains(paper, "APPROVED") || !strings.Contains(paper, "NOT COMPLETED") {
		t.Errorf("books %q, receipts:\n%s", r.movements(), paper)
	}
}

func TestTheServerIsKilledWhileTheTerminalAsks(t *testing.T) {
	t.Parallel()
	r := setup(t)
	u := r.terminal()
	p := r.orderFor(u, "10.00", 8*time.Second)
	channel := r.server.channel
	ends := make(chan struct{})
	go func() { defer close(ends); _, _ = channel.Sale(context.Background(), u.caller, p) }()
	c, _ := u.Card("0229")
	r.await(u, device.AskCard)
	r.where.to("127.0.0.1:1")
	r.where.cut() // As far as the terminal can tell, the server is dead, and another comes that knows nothing.
	r.until("the card", func() bool { return u.Present(c, payment.EntryChip) })
	r.await(u, device.AskPIN)
	r.until("the PIN", func() bool { return u.TypePIN(c.PIN) })
	<-ends
	r.restartServer()
	r.until("the terminal to be free", func() bool { return !u.Busy() && r.server.channel.Free(u.caller) == nil })
	if paper := u.paper(); r.movements() != "" || strings.Contains(paper, "APPROVED") || !strings.Contains(paper, "NOT COMPLETED") {
		t.Errorf("books %q, receipts:\n%s", r.movements(), paper)
	}
}

func TestTheServerIsRestartedWhileTheHostIsAsked(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		amount string
		want   outcome
	}{
		"it approves":  {"10.00", outcome{payment.Captured, "", "payment 1000 CAD done", "APPROVED"}},
		"it is silent": {"9056.00", outcome{payment.Refused, payment.ReasonUnavailable, "payment 905600 CAD reversed", "DECLINED"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := setup(t)
			u := r.terminal()
			p := r.order(u, tt.amount)
			channel := r.server.channel
			ends := make(chan struct{})
			go func() { defer close(ends); _, _ = channel.Sale(context.Background(), u.caller, p) }()
			r.deaf(u)
			r.restartServer()
			<-ends
			r.until("the terminal to be free", func() bool { return !u.Busy() && r.server.channel.Free(u.caller) == nil })
			r.until("the payment's end", func() bool { return r.state(p) != payment.Open })
			v, err := r.server.engine.Await(context.Background(), p.Merchant, p.ID, 0, func(payment.View) bool { return true })
			if err != nil {
				t.Fatal(err)
			}
			r.want(u, v, tt.want)
		})
	}
}

func TestTheTerminalIsRestartedWhileItAsksForACard(t *testing.T) {
	t.Parallel()
	r := setup(t)
	u := r.terminal()
	ends := r.selling(u, r.order(u, "10.00"))
	r.await(u, device.AskCard)
	r.kill(u)
	r.start(u)
	s := <-ends
	if s.report.Ended != payment.ReasonUnavailable || s.err != nil {
		t.Errorf("got %q, %v", s.report.Ended, s.err)
	}
	r.want(u, s.view, outcome{payment.Cancelled, payment.ReasonUnavailable, "", ""})
	r.customer(u, "approve")
	if _, v, err := r.sale(u, r.order(u, "12.00")); err != nil || v.Payment.State != payment.Captured || r.movements() != "payment 1200 CAD done" {
		t.Errorf("the next sale: %s, %v, %s", v.Payment.State, err, r.movements())
	}
}

// kill ends a terminal's process without letting it say anything.
func (r *rig) kill(u *unit) {
	r.where.to("127.0.0.1:1")
	r.where.cut()
	dir := u.dir
	u.dir = r.t.TempDir()
	copyFiles(r.t, dir, u.dir) // As the disk is now: what the old process writes while it is stopped is lost.
	u.stop()
	r.where.to(r.server.http.Listener.Addr().String())
}

func TestTheTerminalIsRestartedWhileTheHostIsAsked(t *testing.T) {
	t.Parallel()
	r := setup(t)
	u := r.terminal()
	ends := r.selling(u, r.order(u, "10.00"))
	r.deaf(u)
	r.kill(u)
	r.start(u)
	s := <-ends
	if s.err != nil || s.report.Masked != "555474******0229" {
		t.Errorf("got %v, card %q", s.err, s.report.Masked)
	}
	r.want(u, s.view, outcome{payment.Captured, "", "payment 1000 CAD done", "APPROVED"})
}

func TestTwoOrdersAtOnce(t *testing.T) {
	t.Parallel()
	r := setup(t)
	u := r.terminal()
	first := r.selling(u, r.order(u, "10.00"))
	r.await(u, device.AskCard)
	began := time.Now()
	_, err := r.server.channel.Sale(context.Background(), u.caller, r.order(u, "11.00"))
	if !errors.Is(err, terminal.ErrBusy) || time.Since(began) > time.Second {
		t.Errorf("the second: %v after %v", err, time.Since(began))
	}
	if err := r.server.channel.Free(u.caller); !errors.Is(err, terminal.ErrBusy) {
		t.Errorf("free: %v", err)
	}
	if err := r.server.channel.Ping(context.Background(), u.caller); err != nil {
		t.Errorf("ping while busy: %v", err)
	}
	r.insert(u, nothing, nothing)
	s := <-first
	r.want(u, s.view, outcome{payment.Captured, "", "payment 1000 CAD done", "APPROVED"})

	var all sync.WaitGroup // Many at once: one is taken, the others are told so.
	r.customer(u, "approve")
	results := make(chan error, 8)
	for range cap(results) {
		p := r.order(u, "12.00")
		all.Go(func() { _, err := r.server.channel.Sale(context.Background(), u.caller, p); results <- err })
	}
	all.Wait()
	close(results)
	taken := 0
	for err := range results {
		if err == nil {
			taken++
		} else if !errors.Is(err, terminal.ErrBusy) {
			t.Errorf("got %v", err)
		}
	}
	if got := strings.Count(r.movements(), "payment 1200 CAD done"); taken == 0 || got != taken {
		t.Errorf("%d orders taken, %d in the acquirer's books", taken, got)
	}
}

func TestTerminalsThatCannotBeHad(t *testing.T) {
	t.Parallel()
	r := setup(t)
	u := r.terminal()
	other := r.terminal()
	ctx := context.Background()
	c := r.server.channel

	nobody := u.caller
	nobody.Terminal.ID = 999_999
	if _, err := c.Sale(ctx, nobody, r.order(u, "1.00")); !errors.Is(err, terminal.ErrAbsent) || !errors.Is(c.Free(nobody), terminal.ErrAbsent) {
		t.Errorf("absent: %v", err)
	}
	foreign := u.caller
	foreign.Merchant.ID++
	if _, err := c.Sale(ctx, foreign, r.order(u, "1.00")); !errors.Is(err, terminal.ErrAbsent) {
		t.Errorf("another merchant's: %v", err)
	}

	other.stop()
	r.until("the line to end", func() bool { return errors.Is(c.Free(other.caller), terminal.ErrAbsent) })
	if _, err := c.Sale(ctx, other.caller, r.order(other, "1.00")); !errors.Is(err, terminal.ErrAbsent) {
		t.Errorf("switched off: %v", err)
	}

	if err := r.server.registry.SetTerminalDisabled(ctx, r.owner.ID, u.caller.Terminal.ID, true); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Sale(ctx, u.caller, r.order(u, "1.00")); !errors.Is(err, terminal.ErrDisabled) {
		t.Errorf("disabled: %v", err)
	}
	r.until("its line to end", func() bool { return errors.Is(c.Free(u.caller), terminal.ErrAbsent) })
	if got := r.movements(); got != "" || u.paper() != "" {
		t.Errorf("books %s, receipts %s", got, u.paper())
	}
}

// An order that comes again is not carried out again, not even by another process of the terminal's.
func TestAnOrderThatComesAgain(t *testing.T) {
	t.Parallel()
	r := setup(t)
	u := r.terminal()
	r.customer(u, "approve")
	p := r.order(u, "10.00")
	if _, v, err := r.sale(u, p); err != nil || v.Payment.State != payment.Captured {
		t.Fatalf("got %s, %v", v.Payment.State, err)
	}
	for range 2 {
		if _, err := r.server.channel.Sale(context.Background(), u.caller, p); !errors.Is(err, terminal.ErrOver) {
			t.Errorf("again: %v", err)
		}
		u.stop()
		r.start(u)
		r.customer(u, "approve")
	}
	if got := r.movements(); got != "payment 1000 CAD done" {
		t.Errorf("books: %s", got)
	}
}

func TestTheNewestLineWins(t *testing.T) {
	t.Parallel()
	r := setup(t)
	u := r.terminal()
	twin := &unit{dir: t.TempDir(), caller: u.caller}
	copyFiles(t, u.dir, twin.dir)
	r.start(twin)
	r.until("the older line to end", func() bool { return !u.Links()[0].Online() })
	r.customer(twin, "approve")
	_, v, err := r.sale(twin, r.order(u, "10.00"))
	if err != nil || v.Payment.State != payment.Captured || !strings.Contains(twin.paper(), "APPROVED") || u.paper() != "" {
		t.Errorf("got %s, %v", v.Payment.State, err)
	}
	if n := r.server.channel.Connected(); n != 1 {
		t.Errorf("%d lines", n)
	}
}

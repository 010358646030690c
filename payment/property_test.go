package payment_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
)

// step is one thing that happens to an engine: a till asks something, the bank begins to misbehave, a process dies, time passes.
type step struct {
	what  string
	key   int // Which of few payments.
	other int // Which refund, amount or yes.
	kind  payment.Kind
	act   act
	with  string
	pause time.Duration // Until the next step. What was asked goes on meanwhile.
}

func (s step) String() string {
	text := fmt.Sprintf("%s p%d %d", s.what, s.key, s.other)
	switch s.what {
	case "script":
		text = fmt.Sprintf("script %s %+v", s.kind, s.act)
	case "sell", "begin":
		text += " " + s.with
	}
	return fmt.Sprintf("%s, then %v", text, s.pause)
}

// plan is a history of an engine.
type plan struct {
	class payment.Class
	steps []step
	yes   bool // How the bank decides at the end what waits.
}

func (p plan) String() string {
	lines := []string{string(p.class)}
	for _, s := range p.steps {
		lines = append(lines, s.String())
	}
	return strings.Join(lines, "\n")
}

var (
	asked  = []string{"sell", "sell", "sell", "begin", "attempt", "capture", "cancel", "void", "refund", "refund", "refund"}
	events = []string{"script", "script", "script", "script", "script", "script", "script", "script", "customer", "decide", "nudge", "skip", "die",
		"stall", "disk", "hang up"}
	kinds = []payment.Kind{payment.Sale, payment.Authorization, payment.CaptureOperation, payment.VoidOperation, payment.Reversal, payment.Refund,
		payment.Refund, payment.Refund, payment.CancelOperation, payment.Close, query}
	travels = []time.Duration{0, 0, 0, 500 * time.Millisecond, 1900 * time.Millisecond, 3 * time.Second, 9 * time.Second}
	pauses  = []time.Duration{0, 0, 0, time.Millisecond, 300 * time.Millisecond, 700 * time.Millisecond, 2500 * time.Millisecond}
	skips   = []time.Duration{time.Second, 10 * time.Second, time.Minute, 6 * time.Minute, 24 * time.Hour}
	flavors = []string{"", "", "", "tip", "authorize", "retry", "reuse", "authorize retry", "tip"}
)

func drawAct(t *rapid.T, class payment.Class, kind payment.Kind) act {
	verdicts := []payment.Outcome{payment.OutcomeApproved, payment.OutcomeApproved, payment.OutcomeApproved, payment.OutcomeDeclined}
	if class == payment.Provider && (kind.IsAttempt() || kind == payment.Refund) {
		verdicts = append(verdicts, payment.OutcomeWaiting, payment.OutcomeWaiting)
	}
	a := act{verdict: rapid.SampledFrom(verdicts).Draw(t, "verdict"), reason: payment.ReasonDeclined}
	switch rapid.SampledFrom([]string{"travel", "travel", "travel", "mute", "lost", "garbled", "unsent"}).Draw(t, "way") {
	case "travel":
		a.reach = rapid.SampledFrom(travels).Draw(t, "reach")
		a.reply = rapid.SampledFrom(travels).Draw(t, "reply")
	case "mute":
		a.mute = true
	case "lost":
		a.lost = true
	case "garbled":
		a.garbled = true
	case "unsent":
		a.unsent = true
	}
	return a
}

func drawPlan(t *rapid.T) plan {
	p := plan{class: rapid.SampledFrom([]payment.Class{payment.Provider, payment.CardHost}).Draw(t, "class"), yes: rapid.Bool().Draw(t, "yes")}
	one := rapid.Custom(func(t *rapid.T) step {
		s := step{key: rapid.SampledFrom([]int{0, 0, 0, 0, 1, 2}).Draw(t, "key"), other: rapid.IntRange(0, 6).Draw(t, "other"),
			pause: rapid.SampledFrom(pauses).Draw(t, "pause")}
		if rapid.Bool().Draw(t, "asked") {
			s.what = rapid.SampledFrom(asked).Draw(t, "what")
			s.with = rapid.SampledFrom(flavors).Draw(t, "with")
			return s
		}
		s.what = rapid.SampledFrom(events).Draw(t, "what")
		if s.what == "script" {
			s.kind = rapid.SampledFrom(kinds).Draw(t, "kind")
			s.act = drawAct(t, p.class, s.kind)
		}
		return s
	})
	// Most that can go wrong goes wrong after a sale, so there is one to begin with.
	first := step{what: "sell", with: rapid.SampledFrom(flavors).Draw(t, "first"), other: 2, pause: 300 * time.Millisecond}
	p.steps = append([]step{first}, rapid.SliceOfN(one, 3, 30).Draw(t, "steps")...)
	return p
}

// Whatever tills ask, however the bank answers, whichever process dies: once the bank answers again, everything settles, and our books
// are the bank's. More histories: go test ./payment -run Histories -rapid.checks=5000.
func TestHistoriesOfMoney(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		p := drawPlan(r)
		dir := freshBooks(t)
		var problems []string
		synctest.Test(t, func(t *testing.T) { problems = play(t, dir, p) })
		if err := os.RemoveAll(dir); err != nil {
			r.Fatal(err)
		}
		if problems != nil {
			r.Fatalf("%s\n\n%s", p, strings.Join(problems, "\n"))
		}
	})
}

// play lets a history happen, and returns what is wrong at its end.
func play(t *testing.T, dir string, p plan) (problems []string) {
	e := open(t, dir, p.class)
	var asking sync.WaitGroup
	var mu sync.Mutex
	say := func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		problems = append(problems, fmt.Sprintf(format, args...))
	}
	for _, s := range p.steps {
		if ask := e.asks(s); ask != nil {
			engine := e.engine
			asking.Go(func() {
				if err := ask(engine); err != nil && !expected(err) {
					say("%s: %v", s, err)
				}
			})
		} else {
			e.happens(s)
		}
		time.Sleep(s.pause)
	}
	e.store.set(func(f *faulty) { f.fail = nil })
	e.bank.heal()
	asking.Wait()
	e.rest()
	e.bank.decideAll(p.yes)
	if err := e.passed(); err != nil {
		say("%v", err)
	} else {
		for id := range e.bank.payments() {
			e.sold[id] = true
		}
		for i := range 3 {
			if v, _, err := e.engine.Find(e.ctx(), e.caller.Merchant.ID, keyed("upp", fmt.Sprint("p", i))); err == nil {
				e.sold[v.Payment.ID] = true
			}
		}
		problems = append(problems, e.problems()...)
	}
	problems = append(problems, e.shut()...)
	return problems
}

// asks is what a till does in a step; nil if the step is no till's.
func (e *env) asks(s step) func(*payment.Engine) error {
	key := fmt.Sprint("p", s.key)
	switch s.what {
	case "sell", "begin":
		cmd := e.command(key, 1_000)
		cmd.Request = []byte(key) // Repeats differ in what is no part of the request.
		cmd.Wait = time.Duration(s.other%3) * 700 * time.Millisecond
		cmd.AuthorizeOnly = strings.Contains(s.with, "authorize")
		cmd.Retryable = strings.Contains(s.with, "retry")
		cmd.ReusableKey = strings.Contains(s.with, "reuse")
		if s.with == "tip" {
			cmd.Tip = 100
		}
		return func(engine *payment.Engine) error {
			do := engine.Sell
			if s.what == "begin" {
				do = engine.Begin
			}
			_, err := do(e.ctx(), cmd)
			return err
		}
	case "cancel":
		cmd := e.cancelCommand(key)
		cmd.GiveBack = s.other > 1
		return func(engine *payment.Engine) error { _, err := engine.Cancel(e.ctx(), cmd); return err }
	case "void":
		cmd := payment.VoidCommand{Caller: e.caller, Key: keyed("upp", key), Wait: time.Duration(s.other) * 300 * time.Millisecond}
		return func(engine *payment.Engine) error { _, err := engine.Void(e.ctx(), cmd); return err }
	case "refund":
		cmd := e.refundCommand(fmt.Sprint("r", s.other), key, int64(100+150*s.other))
		cmd.Wait = time.Duration(s.other) * 300 * time.Millisecond
		return func(engine *payment.Engine) error { _, err := engine.Refund(e.ctx(), cmd); return err }
	case "hang up":
		cmd := e.command(key, 1_000)
		cmd.Request = []byte(key)
		return func(engine *payment.Engine) error {
			ctx, cancel := context.WithTimeout(e.ctx(), time.Millisecond)
			defer cancel()
			_, err := engine.Sell(ctx, cmd)
			return err
		}
	case "attempt", "capture":
		return func(engine *payment.Engine) error {
			v, _, err := engine.Find(e.ctx(), e.caller.Merchant.ID, keyed("upp", key))
			if err != nil {
				return err
			}
			if s.what == "attempt" {
				_, err = engine.Attempt(e.ctx(), payment.AttemptCommand{Caller: e.caller, Payment: v.Payment.ID})
				return err
			}
			_, err = engine.Capture(e.ctx(), payment.CaptureCommand{Caller: e.caller, Payment: v.Payment.ID, Amount: money.New(int64(400+100*s.other), aud)})
			return err
		}
	}
	return nil
}

// happens is a step that is no till's.
func (e *env) happens(s step) {
	key := keyed("upp", fmt.Sprint("p", s.key))
	switch s.what {
	case "script":
		e.bank.next(s.kind, s.act)
	case "skip":
		e.clock.skip(skips[s.other%len(skips)])
	case "die":
		e.takeOver(dead)
	case "stall":
		e.takeOver(stalled)
	case "disk":
		e.store.set(func(f *faulty) {
			f.lie = s.other%2 == 0
			f.fail = func(payment.Operation) bool { return true }
		})
		time.Sleep(time.Duration(s.other) * time.Second)
		e.store.set(func(f *faulty) { f.fail = nil })
	case "customer", "decide", "nudge":
		v, _, err := e.engine.Find(e.ctx(), e.caller.Merchant.ID, key)
		if err != nil {
			return
		}
		switch s.what {
		case "customer":
			e.bank.customer(v.Attempt.Number, s.other%3 > 0)
		case "decide":
			for _, op := range e.operations(v.Payment) {
				e.bank.decide(op.Number, s.other%2 == 0)
			}
		case "nudge":
			for _, op := range e.operations(v.Payment) {
				e.engine.Nudge(payment.Owed{Merchant: op.Merchant, Payment: op.Payment, Operation: op.ID})
			}
		}
	}
}

// expected reports whether a till may hear an error.
func expected(err error) bool {
	for _, ok := range append(payment.Errors(), errDisk, context.DeadlineExceeded) {
		if errors.Is(err, ok) {
			return true
		}
	}
	return false
}

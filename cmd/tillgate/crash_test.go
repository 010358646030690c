package main

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tillgate/tillgate/internal/pgtest"
	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/protocol/uqpay"
	"github.com/tillgate/tillgate/sandbox"
)

// day is a till's day: every kind of exchange, faults of the wallet included. It returns what the till believes at its end.
func day(w *till) belief {
	b := belief{sales: map[string]tx{}, refunds: map[string]tx{}, of: map[string]string{}}
	w.purchase("approve", "approve", "20")
	w.refund("approve-r1", "approve", "5")
	w.refund("approve-r2", "approve", "15")
	w.refund("approve-r3", "approve", "1")
	w.purchase("decline", "decline", "21")
	w.purchase("cut", "connection_cut", "22")
	w.purchase("error", "error", "23")
	if got := w.qr("qr", "24"); got.MerchantToken != "" {
		w.pay(got.MerchantToken)
	} else if got := w.final("qr"); got.Approved == nil {
		w.t.Error("qr: no code to show")
	}
	w.final("qr")
	w.qr("qr-cancel", "25")
	w.cancel("qr-cancel")
	w.purchase("undo", "approve", "26")
	w.refund("undo-r1", "undo", "6")
	w.cancel("undo")
	w.purchase("void", "cancel_lost", "27")
	w.cancel("void")
	w.cancel("early")
	w.purchase("early", "approve", "28")
	for _, ref := range []string{"approve", "decline", "cut", "error", "qr", "qr-cancel", "undo", "void", "early"} {
		b.sales[ref] = w.final(ref)
	}
	for ref, of := range map[string]string{"approve-r1": "approve", "approve-r2": "approve", "approve-r3": "approve", "undo-r1": "undo"} {
		b.refunds[ref], b.of[ref] = w.final(ref), of
	}
	return b
}

// checkDay holds what must come of the day whatever the moment of the kill, so that three books do not merely agree about nothing. A
// sale that was killed before the wallet had it ends declined: the customer's code is gone with the process, so it is never sent again.
func checkDay(t *testing.T, b belief, killed bool) {
	t.Helper()
	lost := 0
	for ref, want := range map[string]string{"approve": "approved", "decline": "declined", "cut": "approved", "error": "providerUnavailable", "qr": "approved",
		"qr-cancel": "cancelled", "undo": "cancelled", "void": "cancelled", "early": "cancelled"} {
		got := b.sales[ref].Failure
		if p := b.sales[ref].Approved; p != nil && *p {
			got = "approved"
		}
		if killed && got == "providerUnavailable" && got != want {
			lost++
			continue
		}
		if got != want {
			t.Errorf("%s ended %q, want %q", ref, got, want)
		}
	}
	if lost > 1 {
		t.Errorf("one kill lost %d sales", lost)
	}
	if got := b.refunds["approve-r3"]; got.Status != http.StatusNotFound {
		t.Errorf("a refund beyond the payment was kept: %+v", got)
	}
}

// uppDay is the day as the crash tests live it.
func uppDay(w *world) []claim {
	b := day(w.till(0))
	checkDay(w.t, b, w.kills() > 0)
	return b.claims()
}

// uppLoad is what several tills do at once.
func uppLoad(w *world, seed uint64) []claim { return w.load(seed, 8, 12).claims() }

// protocols are what tills do, by their protocols: a day in order, and work of several at once.
var protocols = map[string]struct {
	day  func(*world) []claim
	load func(w *world, seed uint64) []claim
}{
	"upp":   {uppDay, uppLoad},
	"uqpay": {cardDay, cardLoad},
	"upay":  {upayDay, upayLoad},
}

// engines are the stores that the crash tests run on.
var engines = map[string]func(t *testing.T) string{
	"sqlite":   func(*testing.T) string { return "" },
	"postgres": func(t *testing.T) string { return pgtest.URL(t) },
}

// TestKillAfterEveryCommitAndWrite kills the server once in a till's day, after each commit and each socket write in turn. Whatever the
// moment, the till, we and the other side agree in the end, and the day ends as it would have without the kill.
func TestKillAfterEveryCommitAndWrite(t *testing.T) {
	t.Parallel()
	for protocol, does := range protocols {
		for engine, database := range engines {
			for _, point := range []string{"commit", "write"} {
				t.Run(protocol+"/"+engine+"/"+point, func(t *testing.T) {
					t.Parallel()
					mold := newRows(t, database(t))
					step := int64(1)
					if engine == "postgres" && (point == "write" || protocol != "upp") {
						step = momentsApart
					}
					var next, last atomic.Int64
					last.Store(math.MaxInt64)
					// Several days at once, since most of one is waiting; the first moment that is not reached ends it.
					var days sync.WaitGroup
					for range daysAtOnce {
						days.Go(func() {
							for n := next.Add(step); n < last.Load() && !t.Failed(); n = next.Add(step) {
								t.Run(fmt.Sprint(n), func(t *testing.T) {
									if !killedOnce(t, mold.copy(t), fmt.Sprintf("%s:%d", point, n), does.day) {
										last.Store(min(last.Load(), n))
									}
								})
							}
						})
					}
					days.Wait()
					t.Logf("%d moments", (last.Load()-1)/step)
				})
			}
		}
	}
}

const (
	// daysAtOnce is how many servers an enumeration runs at once.
	daysAtOnce = 8
	// momentsApart is how far apart the kills on PostgreSQL are: SQLite has every moment, what is written to sockets does not depend on the store, and
	// each kill costs the seconds until a dead server's lease is over. UPP has every commit there too.
	momentsApart = 3
)

// killedOnce lives through a day with one kill, and reports whether the moment for it came.
func killedOnce(t *testing.T, r rows, moment string, day func(*world) []claim) bool {
	lives := 0
	w := newWorld(t, r)
	w.serve(func() string {
		if lives++; lives > 1 {
			return ""
		}
		return moment
	})
	w.agree(day(w))
	return w.kills() > 0
}

// seeds is how many loads there are on each store: on PostgreSQL a kill costs seconds.
var seeds = map[string]uint64{"sqlite": 2, "postgres": 1}

// TestKillsUnderLoad kills the server again and again, at moments drawn from a seed, while several tills work.
func TestKillsUnderLoad(t *testing.T) {
	t.Parallel()
	for protocol, does := range protocols {
		for engine, database := range engines {
			for seed := range seeds[engine] {
				t.Run(fmt.Sprint(protocol, "/", engine, "/seed ", seed), func(t *testing.T) {
					t.Parallel()
					rng := rand.New(rand.NewPCG(seed, 7))
					const livesMax = 8
					lives := 0
					w := newWorld(t, newRows(t, database(t)))
					w.serve(func() string {
						if lives++; lives > livesMax {
							return ""
						}
						return fmt.Sprintf("%s:%d", []string{"commit", "write"}[rng.IntN(2)], 10+rng.IntN(80))
					})
					claims := does.load(w, seed)
					w.agree(claims)
					t.Logf("%d kills, %d payments, %d movements", w.kills(), len(claims), len(w.movements()))
					if w.kills() == 0 {
						t.Error("nothing was killed")
					}
				})
			}
		}
	}
}

// told is what a till is told of a card sale in the end.
type told struct {
	status  uqpay.IntentStatus
	failure string // Of the last attempt.
}

// Words of UQPAY for what ends a sale.
var (
	paid        = told{uqpay.IntentSucceeded, ""}
	unavailable = told{uqpay.RequiresPaymentMethod, "system_error"} // Nothing was heard, or nothing that can be believed: it is reversed.
	refusedCard = told{uqpay.RequiresPaymentMethod, "card_declined"}
	noFunds     = told{uqpay.RequiresPaymentMethod, "insufficient_funds"}
	badCard     = told{uqpay.RequiresPaymentMethod, "invalid_card_number"}
)

// onSale is what the till is told when a sale has the amount that triggers a behaviour. Every behaviour has a row.
var onSale = map[string]told{
	"approve": paid, "cancel_no_answer": paid, "cancel_lost": paid, "repeated_answer": paid, "torn_answer": paid, "wrong_arpc": paid, "sign_off": paid,
	"no_answer": unavailable, "late_answer": unavailable, "garbled_answer": unavailable, "connection_cut": unavailable, "error": unavailable,
	"request_lost": unavailable, "wrong_mac": unavailable, "other_amount": unavailable, "other_reference": unavailable, "duplicate": unavailable,
	"reversal_no_answer": unavailable, "reversal_lost": unavailable, "reversal_error": unavailable, "host_unavailable": unavailable,
	"decline":            {uqpay.RequiresPaymentMethod, "do_not_honor"},
	"insufficient_funds": noFunds, "limit_exceeded": noFunds, "count_limit": noFunds, "partial_approval": noFunds,
	"code_expired":       {uqpay.RequiresPaymentMethod, "expired_card"},
	"wrong_pin":          {uqpay.RequiresPaymentMethod, "incorrect_pin"},
	"pin_tries_exceeded": {uqpay.RequiresPaymentMethod, "pin_tries_exceeded"},
	"no_such_card":       badCard, "wrong_cryptogram": badCard,
	"referral": refusedCard, "pick_up": refusedCard, "pick_up_special": refusedCard, "invalid_transaction": refusedCard, "invalid_amount": refusedCard,
	"lost_card": refusedCard, "stolen_card": refusedCard, "not_permitted_card": refusedCard, "not_permitted_terminal": refusedCard, "suspected_fraud": refusedCard,
	"restricted_card": refusedCard, "security_violation": refusedCard, "unknown_code": refusedCard, "pin_needed": refusedCard, "unknown_merchant": refusedCard,
}

// onCapture is the same for the capture of an authorization. What is not heard is sent again until it is.
var onCapture = map[string]told{
	"approve": paid, "no_answer": paid, "late_answer": paid, "garbled_answer": paid, "connection_cut": paid, "error": paid, "request_lost": paid, "wrong_mac": paid,
	"other_amount": paid, "other_reference": paid, "repeated_answer": paid, "torn_answer": paid, "partial_approval": paid,
	"decline": {uqpay.RequiresCapture, ""}, "unknown_code": {uqpay.RequiresCapture, ""},
}

// onRefund is whether a refund is made. The amounts that silence a refund are not here: the host does it to every number, and a refund that is
// not heard is reversed and sent again under another one, for ever.
var onRefund = map[string]bool{"approve": true, "repeated_answer": true, "torn_answer": true, "decline": false, "insufficient_funds": false, "error": false,
	"unknown_code": false, "host_unavailable": false}

// onCancel are behaviours of a cancel's reversal: whatever the host does with it, it is repeated until it is acknowledged.
var onCancel = []string{"approve", "cancel_no_answer", "cancel_lost", "sign_off"}

// atOnce is how many exchanges a test has under way.
const atOnce = 16

// TestSilenceOfTheCardHost meets everything that the card host can do on a bad day, and compares the books afterwards.
func TestSilenceOfTheCardHost(t *testing.T) {
	t.Parallel()
	const lateBy = 12 * time.Second                                  // Of late_answer: what comes then must change nothing.
	w := newWorld(t, newRows(t, ""), "TILLGATE_CARD_TIMEOUT=1500ms") // No shorter: whoever answers must be heard on a busy machine too.
	w.serve(never)
	amounts := map[string]int64{}
	for _, trigger := range sandbox.CardTriggers() {
		amounts[trigger.Behaviour] = minorOf(t, trigger.Amount)
		if _, ok := onSale[trigger.Behaviour]; !ok {
			t.Errorf("%s is not in the table", trigger.Behaviour)
		}
	}
	tills := make([]*cardTill, cardClients)
	for i := range tills {
		if tills[i] = w.cardTill(i); !tills[i].enrol(fmt.Sprint("SILENCE-", i)) {
			return
		}
	}
	var mu sync.Mutex
	var turn int
	var used []*cardTill
	// try is a case of its own, with a till that reports to it. The tills share clients and terminals.
	try := func(name string, fn func(t *testing.T, c *cardTill)) {
		mu.Lock()
		c := *tills[turn%len(tills)]
		turn++
		mu.Unlock()
		t.Run(name, func(t *testing.T) {
			own := *c.world
			own.t, c.world, c.intents, c.refunds, c.once = t, &own, map[string]string{}, map[string][]string{}, true
			fn(t, &c)
			c.t = w.t
			mu.Lock()
			defer mu.Unlock()
			used = append(used, &c)
		})
	}
	check := func(t *testing.T, i uqpay.Intent, want told) {
		t.Helper()
		got := told{status: i.Status}
		if i.LatestAttempt != nil {
			got.failure = i.LatestAttempt.FailureCode
		}
		if got != want {
			t.Errorf("the till is told %+v, want %+v", got, want)
		}
	}
	sale := func(behaviour string) func(t *testing.T, c *cardTill) {
		return func(t *testing.T, c *cardTill) {
			check(t, c.sell(order{name: "sale " + behaviour, minor: amounts[behaviour], card: goodCard, entry: payment.EntryChip, pin: "1234"}), onSale[behaviour])
		}
	}
	var cases, alone []func() // What concerns all that share a line with it is done alone.
	add := func(behaviour string, run func()) {
		if behaviour == "connection_cut" {
			alone = append(alone, run)
		} else {
			cases = append(cases, run)
		}
	}
	for behaviour := range onSale {
		if behaviour != "sign_off" { // See below.
			add(behaviour, func() { try("sale/"+behaviour, sale(behaviour)) })
		}
	}
	for behaviour, want := range onCapture {
		add(behaviour, func() {
			try("capture/"+behaviour, func(t *testing.T, c *cardTill) {
				name := "capture " + behaviour
				c.sell(order{name: name, minor: 20_000_00, card: goodCard, entry: payment.EntryChip, pin: "1234", authorize: true})
				if err := c.act(name, "capture", map[string]any{"amount_to_capture": json.Number(decimal(amounts[behaviour]))}); err != nil {
					t.Errorf("capture: %v", err)
				}
				check(t, c.final(name), want)
				if want.status == uqpay.RequiresCapture {
					if err := c.act(name, "cancel", map[string]any{}); err != nil {
						t.Errorf("cancel: %v", err)
					}
				}
			})
		})
	}
	for behaviour, made := range onRefund {
		add(behaviour, func() {
			try("refund/"+behaviour, func(t *testing.T, c *cardTill) {
				name := "refund " + behaviour
				check(t, c.sell(order{name: name, minor: 20_000_00, card: goodCard, entry: payment.EntryChip, pin: "1234"}), paid)
				if got := c.refund(name, amounts[behaviour]); got != made {
					t.Errorf("the refund was made: %v, want %v", got, made)
				}
			})
		})
	}
	cancel := func(behaviour string) func(t *testing.T, c *cardTill) {
		return func(t *testing.T, c *cardTill) {
			name := "cancel " + behaviour
			c.sell(order{name: name, minor: amounts[behaviour], card: goodCard, entry: payment.EntryContactlessChip, authorize: true})
			if err := c.act(name, "cancel", map[string]any{}); err != nil {
				t.Errorf("cancel: %v", err)
			}
			check(t, c.final(name), told{uqpay.IntentCancelled, ""})
		}
	}
	for _, behaviour := range onCancel[:len(onCancel)-1] {
		add(behaviour, func() { try("cancel/"+behaviour, cancel(behaviour)) })
	}
	began := time.Now()
	var workers sync.WaitGroup
	places := make(chan struct{}, atOnce)
	for _, run := range cases {
		places <- struct{}{}
		workers.Go(func() {
			defer func() { <-places }()
			run()
		})
	}
	workers.Wait()
	for _, run := range alone {
		run()
	}
	try("sale/sign_off", sale("sign_off"))
	try("sale while the host is away", func(t *testing.T, c *cardTill) {
		o := order{minor: 5_00, card: goodCard, entry: payment.EntryChip, pin: "1234"}
		away := 0
		for deadline := time.Now().Add(settleLimit); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
			o.name = fmt.Sprint("away ", away)
			i := c.sell(o)
			if i.Status == uqpay.IntentSucceeded {
				break
			}
			check(t, i, unavailable)
			away++
		}
		if away == 0 {
			t.Error("the host was not away")
		}
	})
	try("cancel/sign_off", cancel("sign_off")) // The last: what it owes waits until the host is back.
	time.Sleep(time.Until(began.Add(lateBy + time.Second)))
	var claims []claim
	for _, c := range used {
		claims = append(claims, c.claims()...)
	}
	w.agree(claims)
	t.Logf("%d cases, %d payments, %d movements, %.1f s", len(used), len(claims), len(w.movements()), time.Since(began).Seconds())
}

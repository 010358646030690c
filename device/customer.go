package device

import (
	"context"
	"fmt"
	"time"

	"github.com/tillgate/tillgate/payment"
)

// Customer is what an automatic customer does.
type Customer string

// The customers.
const (
	NoCustomer Customer = ""          // A person at the page.
	Approver   Customer = "approve"   // Inserts a good card and types its PIN.
	Decliner   Customer = "decline"   // Inserts a card whose issuer declines.
	WrongPIN   Customer = "wrong-pin" // Types a wrong PIN.
	Slow       Customer = "slow"      // As approve, after three seconds each time.
	WalkAway   Customer = "walk-away" // Does nothing.
)

// Customers lists the automatic ones.
func Customers() []Customer { return []Customer{Approver, Decliner, WrongPIN, Slow, WalkAway} }

// slowness is how long a slow customer looks for everything.
const slowness = 3 * time.Second

// anyPIN is what a customer types whose card takes any; notThePIN is no card's.
const (
	anyPIN    = "1234"
	notThePIN = "9876"
)

// Auto plays a customer at a virtual terminal.
type Auto struct {
	Customer Customer
	Virtual  *Virtual
	// Entry is how it shows its card; empty inserts it.
	Entry payment.EntryMode
	// Code is what it holds to the scanner.
	Code string
	// Pay, when set, pays a QR code that the terminal shows, or refuses to.
	Pay func(ctx context.Context, qr string, approve bool) error

	card  Card            // The one that it has shown last.
	tried map[string]bool // Cards that were shown for this sale, by number: the terminal may not take them all.
}

// NewAuto makes a customer by its name.
func NewAuto(name string, v *Virtual) (*Auto, error) {
	for _, c := range Customers() {
		if string(c) == name {
			return &Auto{Customer: c, Virtual: v}, nil
		}
	}
	return nil, fmt.Errorf("customer %q: want one of %v", name, Customers())
}

// Run acts until ctx ends.
func (a *Auto) Run(ctx context.Context) error {
	seen := -1
	for {
		s, changed := a.Virtual.See()
		if s.Version != seen {
			seen = s.Version
			a.act(ctx, s.Screen)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

// act does what the screen asks for. The part that waits may begin a moment after its screen is shown, so a hand that is not taken is offered
// again while the screen stays.
func (a *Auto) act(ctx context.Context, s Screen) {
	if a.Customer == WalkAway {
		return
	}
	do := map[Mode]func() bool{AskCard: a.present, AskPIN: a.typePIN, AskCode: func() bool { return a.Virtual.ShowToScanner(a.Code) },
		ShowCode: func() bool { a.pay(ctx, s.QR); return true }}[s.Mode]
	if do == nil {
		return
	}
	if s.Mode == AskCard && !a.choose(s.Text != "") {
		do = a.Virtual.Cancel // It has no card that is taken here.
	}
	if a.Customer == Slow {
		select {
		case <-time.After(slowness):
		case <-ctx.Done():
			return
		}
	}
	const again = time.Millisecond
	for !do() {
		select {
		case <-time.After(again):
		case <-ctx.Done():
			return
		}
		if now, _ := a.Virtual.See(); now.Screen != s {
			return
		}
	}
}

// choose takes a card out of the purse: another one when the terminal asks again.
func (a *Auto) choose(again bool) bool {
	if !again {
		a.tried = map[string]bool{}
	}
	behaviour := map[Customer]string{Decliner: "decline"}[a.Customer]
	if behaviour == "" {
		behaviour = "approve"
	}
	var best Card
	found := false
	for _, c := range a.Virtual.Cards() { // One with a key and a PIN plays more than one without.
		if c.Behaviour == behaviour && !a.tried[c.PAN] && (!found || best.PIN == "" && c.PIN != "") {
			best, found = c, true
		}
	}
	a.card = best
	return found
}

func (a *Auto) present() bool {
	entry := a.Entry
	if entry == "" {
		entry = payment.EntryChip
	}
	if !a.Virtual.Present(a.card, entry) {
		return false
	}
	a.tried[a.card.PAN] = true
	return true
}

func (a *Auto) typePIN() bool {
	pin := a.card.PIN
	switch {
	case a.Customer == WrongPIN:
		pin = notThePIN
	case pin == "":
		pin = anyPIN
	}
	return a.Virtual.TypePIN(pin)
}

func (a *Auto) pay(ctx context.Context, qr string) {
	if a.Pay != nil {
		_ = a.Pay(ctx, qr, a.Customer != Decliner) // Whether it worked shows on the terminal.
	}
}

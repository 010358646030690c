package sandbox

import (
	"container/heap"
	"fmt"
	"hash/fnv"
	"strconv"
	"time"

	"github.com/tillgate/tillgate/money"
)

// States of payments and refunds, as on the wire. Refunds know the first three.
const (
	stateApproved  = "approved"
	stateDeclined  = "declined"
	stateWaiting   = "waiting"
	stateCancelled = "cancelled" // Ended by the merchant; if it was paid, the money went back.
	stateClosed    = "closed"    // Never paid, and it cannot be paid any more.
)

// Flows of a payment.
const (
	flowCode = "code" // The customer shows a code.
	flowQR   = "qr"   // The customer scans a code and acts on the phone page.
	flowWeb  = "web"  // The customer's browser is sent to the phone page and comes back.
)

// Kinds of things, in the books and in events.
const (
	kindPayment = "payment"
	kindRefund  = "refund"
)

// payment is one payment as it is now. Its exported fields are its line in the journal.
type payment struct {
	Ask         payRequest `json:"ask"`
	Seq         uint64     `json:"seq"`
	State       string     `json:"state"`
	Reason      string     `json:"reason,omitempty"`
	Behaviour   string     `json:"behaviour"`
	Token       string     `json:"token,omitempty"`        // Of the phone page.
	DecideMS    int64      `json:"decide_ms,omitempty"`    // When the behaviour decides, if it does so later.
	CloseMS     int64      `json:"close_ms,omitempty"`     // When the lifetime ends.
	PaidMS      int64      `json:"paid_ms,omitempty"`      // When it was approved.
	Rate        string     `json:"rate,omitempty"`         // Of the exchange, if there is one.
	CancelSpent bool       `json:"cancel_spent,omitempty"` // The first cancel's fault has happened.

	refundedMinor int64 // By approved and by waiting refunds. It follows from the refunds' lines.
	booked        bool  // It has a movement.
}

// amount is what the payment asks for. Requests and journal lines with other currencies were refused.
func (p *payment) amount() money.Amount { return p.amountOf(p.Ask.AmountMinor) }

// amountOf is another amount in the payment's currency.
func (p *payment) amountOf(minor int64) money.Amount {
	return money.New(minor, money.MustCurrency(p.Ask.Currency))
}

// dueMS is when something happens to a waiting payment by itself.
func (p *payment) dueMS() int64 {
	if p.DecideMS != 0 && p.DecideMS <= p.CloseMS {
		return p.DecideMS
	}
	return p.CloseMS
}

// refund is one refund as it is now. Its exported fields are its line in the journal.
type refund struct {
	Ask        refundRequest `json:"ask"`
	Seq        uint64        `json:"seq"`
	State      string        `json:"state"`
	Reason     string        `json:"reason,omitempty"`
	Behaviour  string        `json:"behaviour"`
	DecideMS   int64         `json:"decide_ms,omitempty"`
	RefundedMS int64         `json:"refunded_ms,omitempty"`
	// Of the payment, so that a refund can be told alone.
	Wallet            string `json:"wallet,omitempty"`
	Rate              string `json:"rate,omitempty"`
	ProviderReference string `json:"provider_reference,omitempty"`

	reservedMinor int64 // What the payment's refundedMinor holds for it.
	booked        bool
}

// entry is one movement of money: of a payment or of a refund.
type entry struct {
	p *payment
	r *refund
}

// book is everything that the network knows. It has no lock of its own.
type book struct {
	payments map[string]*payment // By reference.
	refunds  map[string]*refund  // By reference; they do not share the payments' references.
	tokens   map[string]*payment
	unseen   map[string]bool
	spent    map[string]bool
	entries  []entry // Oldest first; it only grows, so that it can be read in pieces.
	byPay    map[string]int
	byRefund map[string]int
	due      dueHeap
	seq      uint64
}

func newBook() *book {
	return &book{
		payments: map[string]*payment{},
		refunds:  map[string]*refund{},
		tokens:   map[string]*payment{},
		unseen:   map[string]bool{},
		spent:    map[string]bool{},
		byPay:    map[string]int{},
		byRefund: map[string]int{},
	}
}

// apply takes over one line of the journal: at once when it is written, and again at a restart. This is the only way in which the book changes.
func (b *book) apply(rec record) error {
	switch {
	case rec.Payment != nil:
		return b.applyPayment(rec.Payment)
	case rec.Refund != nil:
		return b.applyRefund(rec.Refund)
	case rec.Unseen != "":
		b.unseen[rec.Unseen] = true
	case rec.Spent != "":
		b.spent[rec.Spent] = true
	case rec.Version == 0:
		return fmt.Errorf("a record of no known kind")
	}
	return nil
}

func (b *book) applyPayment(now *payment) error {
	p := b.payments[now.Ask.Reference]
	if p == nil {
		if _, err := money.ParseCurrency(now.Ask.Currency); err != nil || behaviourByName(now.Behaviour) == nil {
			return fmt.Errorf("payment %s: its currency or behaviour is unknown", now.Ask.Reference)
		}
		p = &payment{}
		b.payments[now.Ask.Reference] = p
		delete(b.unseen, now.Ask.Reference)
		if now.Token != "" {
			b.tokens[now.Token] = p
		}
		if now.State == stateWaiting {
			heap.Push(&b.due, dueEntry{atMS: now.dueMS(), p: p})
		}
	}
	refunded, booked := p.refundedMinor, p.booked
	*p = *now
	p.refundedMinor, p.booked = refunded, booked
	b.seq = max(b.seq, p.Seq)
	if p.State == stateApproved && !p.booked {
		p.booked = true
		b.byPay[p.Ask.Reference] = len(b.entries)
		b.entries = append(b.entries, entry{p: p})
	}
	return nil
}

func (b *book) applyRefund(now *refund) error {
	r := b.refunds[now.Ask.Reference]
	if r == nil {
		if _, err := money.ParseCurrency(now.Ask.Currency); err != nil || behaviourByName(now.Behaviour) == nil {
			return fmt.Errorf("refund %s: its currency or behaviour is unknown", now.Ask.Reference)
		}
		r = &refund{}
		b.refunds[now.Ask.Reference] = r
		if now.State == stateWaiting && now.DecideMS != 0 {
			heap.Push(&b.due, dueEntry{atMS: now.DecideMS, r: r})
		}
	}
	reserved, booked := r.reservedMinor, r.booked
	*r = *now
	r.reservedMinor, r.booked = 0, booked
	if r.State != stateDeclined {
		r.reservedMinor = r.Ask.AmountMinor
	}
	if reserved != r.reservedMinor {
		p := b.payments[r.Ask.OriginalReference]
		if p == nil {
			return fmt.Errorf("refund %s: its payment %s is missing", r.Ask.Reference, r.Ask.OriginalReference)
		}
		p.refundedMinor += r.reservedMinor - reserved
	}
	b.seq = max(b.seq, r.Seq)
	if r.State == stateApproved && !r.booked {
		r.booked = true
		b.byRefund[r.Ask.Reference] = len(b.entries)
		b.entries = append(b.entries, entry{r: r})
	}
	return nil
}

// movement tells the i-th entry.
func (b *book) movement(i int) movement {
	id := fmt.Sprintf("mv%012d", i+1)
	if p := b.entries[i].p; p != nil {
		m := movement{ID: id, Kind: kindPayment, Reference: p.Ask.Reference, AmountMinor: p.Ask.AmountMinor, Currency: p.Ask.Currency,
			State: "done", Wallet: p.Ask.Wallet, AtMS: p.PaidMS}
		if p.State != stateApproved {
			m.State = "reversed"
		}
		return m
	}
	r := b.entries[i].r
	return movement{ID: id, Kind: kindRefund, Reference: r.Ask.Reference, OriginalReference: r.Ask.OriginalReference,
		AmountMinor: r.Ask.AmountMinor, Currency: r.Ask.Currency, State: "done", Wallet: r.Wallet, AtMS: r.RefundedMS}
}

// find lists the movements of a reference, newest first: a payment and a refund may share it.
func (b *book) find(reference string) []movement {
	list := make([]movement, 0, 2)
	pay, paid := b.byPay[reference]
	ref, refunded := b.byRefund[reference]
	if refunded {
		list = append(list, b.movement(ref))
	}
	if paid {
		list = append(list, b.movement(pay))
	}
	if len(list) == 2 && pay > ref {
		list[0], list[1] = list[1], list[0]
	}
	return list
}

// dueEntry is something that happens by itself, unless it has been decided otherwise by then.
type dueEntry struct {
	atMS int64
	p    *payment
	r    *refund
}

// dueHeap is the timers, the next one first.
type dueHeap []dueEntry

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(i, j int) bool { return h[i].atMS < h[j].atMS }
func (h dueHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push is heap.Interface.
func (h *dueHeap) Push(x any) { *h = append(*h, x.(dueEntry)) }

// Pop is heap.Interface.
func (h *dueHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// providerZone is where the wallets' clocks stand.
var providerZone = time.FixedZone("UTC+8", 8*60*60)

// providerReference is the wallet's own number of a payment: 28 digits, the day first, unique by the sequence number.
func providerReference(paidMS int64, seq uint64) string {
	return time.UnixMilli(paidMS).In(providerZone).Format("20060102") + fmt.Sprintf("2200%016d", seq)
}

// demoPayer is the Alipay customer behind the phone page.
const demoPayer = "2088000000000017"

// payerID names the customer: the same code is the same customer, and the phone page belongs to one.
func payerID(ask payRequest) string {
	if ask.Wallet == "alipay" && ask.Flow != flowCode {
		return demoPayer
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(ask.Wallet + " " + ask.Code)) // Never fails.
	n := h.Sum64()
	switch ask.Wallet {
	case "alipay":
		return fmt.Sprintf("2088%012d", n%1_000_000_000_000)
	case "wechat": // 28 characters that start with o, as its openid.
		return fmt.Sprintf("o%027s", strconv.FormatUint(n, 36))
	}
	return fmt.Sprintf("%016d", n%10_000_000_000_000_000)
}

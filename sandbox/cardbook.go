package sandbox

import (
	"fmt"
	"hash/fnv"
)

// What a transaction is.
type cardKind uint8

const (
	cardAuthorization cardKind = iota + 1 // Holds money; no movement.
	cardSale
	cardCompletion
	cardRefund
	cardVoid
)

// What became of it.
type cardState uint8

const (
	cardDeclined cardState = iota + 1
	cardApproved
	cardReversed  // Undone by a reversal.
	cardVoided    // Taken back by a void.
	cardCompleted // An authorization whose money has moved, or was released.
)

// cardTxnKey names a transaction: member and host both know these. The type is that of the first message, never of a repeat.
type cardTxnKey struct {
	mti mti
	rrn [12]byte
	tid [8]byte
}

// originKey is how DE 90 names a transaction. Terminals count by themselves, so that several may share one.
type originKey struct {
	mti  mti
	stan [6]byte
	at   [10]byte // DE 7.
}

// cardTxn is one transaction as it is now. It holds no pointers, so that millions of them cost the garbage collector nothing.
type cardTxn struct {
	key    cardTxnKey
	origin originKey
	mid    [15]byte
	cur    [3]byte
	auth   [6]byte // DE 38, if approved.
	code   [2]byte // DE 39 of its answer.
	kind   cardKind
	state  cardState
	// Of the card: its place in the deck, or a token's hash; both empty if a batch upload told of it.
	card  int16 // -1: none.
	token uint64

	behaviour  uint8
	tries      uint8 // Wrong PINs in a row after it, plus one; 0: as before.
	askedMinor int64 // DE 4.
	minor      int64 // Approved.
	refunded   int64
	original   int32 // Place of what it completes, voids or refunds; -1: none.
	next       int32 // Place of an older one of the same originKey; -1: none.
	batch      int32 // 1 and its batch's place; 0: none yet.
	atMS       int64
}

// moves reports whether the transaction is a movement of money, as the books show it.
func (t *cardTxn) moves() bool {
	return t.state != cardDeclined && (t.kind == cardSale || t.kind == cardCompletion || t.kind == cardRefund)
}

// balanceKey names what a card has of one currency.
type balanceKey struct {
	card int16
	cur  [3]byte
}

// batchGroup is what a batch closes together.
type batchGroup struct {
	mid [15]byte
	cur [3]byte
}

// batchKey names a batch.
type batchKey struct {
	batchGroup
	number string
}

// batch is a batch that is closed, or that is being uploaded.
type batch struct {
	key      batchKey
	closed   bool
	uploaded []int32 // Places of its movements, until it is closed.
}

// txnChunk is how many transactions are allocated at a time, so that a growing book is never copied.
const txnChunk = 4096

// cardBook is everything that the card host knows. It has no lock of its own. It changes only by its apply methods, which are called when a line
// of the journal is written and again at a restart.
type cardBook struct {
	chunks  []*[txnChunk]cardTxn
	count   int32
	byKey   map[cardTxnKey]int32
	byName  map[originKey]int32 // The newest of each name.
	unseen  map[cardTxnKey]bool // Reversed before they came.
	spent   map[cardTxnKey]bool // Whose fault has happened.
	moved   []int32             // Movements, oldest first; it only grows.
	open    map[batchGroup][]int32
	used    map[balanceKey]int64 // Minor units held or spent.
	tries   []uint8              // Wrong PINs in a row, by card.
	batches []batch
	byBatch map[batchKey]int32
}

func newCardBook() *cardBook {
	return &cardBook{
		byKey:   map[cardTxnKey]int32{},
		byName:  map[originKey]int32{},
		unseen:  map[cardTxnKey]bool{},
		spent:   map[cardTxnKey]bool{},
		open:    map[batchGroup][]int32{},
		used:    map[balanceKey]int64{},
		tries:   make([]uint8, len(hostCards)),
		byBatch: map[batchKey]int32{},
	}
}

// at is the transaction at a place.
func (b *cardBook) at(place int32) *cardTxn { return &b.chunks[place/txnChunk][place%txnChunk] }

// find is a transaction's place, or -1.
func (b *cardBook) find(key cardTxnKey) int32 {
	if place, ok := b.byKey[key]; ok {
		return place
	}
	return -1
}

// named finds the transaction that DE 90 names: of the same terminal, or else the only one of that card.
func (b *cardBook) named(name originKey, tid [8]byte, card int16, token uint64) int32 {
	newest, ok := b.byName[name]
	if !ok {
		return -1
	}
	found, count := int32(-1), 0
	for place := newest; place >= 0; place = b.at(place).next {
		t := b.at(place)
		if known := t.card >= 0 || t.token != 0; known && (t.card != card || t.token != token) {
			continue
		}
		if t.key.tid == tid {
			return place
		}
		found = place
		count++
	}
	if count != 1 {
		return -1
	}
	return found
}

// applyTxn adds a transaction and what it changes. Its place in the book is the next one.
func (b *cardBook) applyTxn(t *cardTxn) {
	place := b.count
	if int(place/txnChunk) == len(b.chunks) {
		b.chunks = append(b.chunks, new([txnChunk]cardTxn))
	}
	b.count++
	t.next = -1
	if older, ok := b.byName[t.origin]; ok {
		t.next = older
	}
	*b.at(place) = *t
	b.byKey[t.key], b.byName[t.origin] = place, place
	delete(b.spent, t.key) // Its fault is behind it: a repeat meets the transaction now.
	if t.tries > 0 && t.card >= 0 {
		b.tries[t.card] = t.tries - 1
	}
	if t.state == cardDeclined {
		return
	}
	switch t.kind {
	case cardAuthorization, cardSale:
		b.use(t, t.minor)
	case cardRefund:
		b.use(t, -t.minor)
		if t.original >= 0 {
			b.at(t.original).refunded += t.minor
		}
	case cardCompletion:
		b.use(t, t.minor)
		if t.original >= 0 {
			o := b.at(t.original)
			b.use(o, -o.minor) // The hold makes room for the movement.
			o.state = cardCompleted
		}
	case cardVoid:
		if o := b.at(t.original); o.state == cardApproved {
			b.use(o, -o.minor)
			o.state = cardVoided
		}
	}
	if t.moves() {
		b.moved = append(b.moved, place)
		g := batchGroup{t.mid, t.cur}
		b.open[g] = append(b.open[g], place)
	}
}

// use takes money from a card, or gives it back.
func (b *cardBook) use(t *cardTxn, minor int64) {
	if t.card >= 0 {
		b.used[balanceKey{t.card, t.cur}] += minor
	}
}

// left is what a card has.
func (b *cardBook) left(card int16, cur [3]byte) int64 {
	return hostCards[card].balanceMinor - b.used[balanceKey{card, cur}]
}

// applyReversal undoes a transaction, or remembers that it must not come any more.
func (b *cardBook) applyReversal(key cardTxnKey) {
	place := b.find(key)
	if place < 0 {
		b.unseen[key] = true
		return
	}
	t := b.at(place)
	if t.state != cardApproved {
		return
	}
	t.state = cardReversed
	if t.kind == cardRefund {
		b.use(t, t.minor)
		if t.original >= 0 {
			b.at(t.original).refunded -= t.minor
		}
		return
	}
	b.use(t, -t.minor)
}

// applyUpload notes a movement of a batch that is being uploaded.
func (b *cardBook) applyUpload(key batchKey, place int32) {
	bt := &b.batches[b.batch(key)]
	bt.uploaded = append(bt.uploaded, place)
}

// applyClose settles a batch: what was uploaded, or else all that no batch has yet.
func (b *cardBook) applyClose(key batchKey, uploaded bool) {
	place := b.batch(key)
	bt := &b.batches[place]
	bt.closed = true
	if uploaded {
		for _, p := range bt.uploaded {
			b.at(p).batch = place + 1
		}
	} else {
		for _, p := range b.open[key.batchGroup] {
			b.at(p).batch = place + 1
		}
	}
	bt.uploaded = nil
	left := b.open[key.batchGroup][:0]
	for _, p := range b.open[key.batchGroup] {
		if b.at(p).batch == 0 {
			left = append(left, p)
		}
	}
	b.open[key.batchGroup] = left
}

// batch is a batch's place. It is made if it is new.
func (b *cardBook) batch(key batchKey) int32 {
	place, ok := b.byBatch[key]
	if !ok {
		place = int32(len(b.batches))
		b.batches = append(b.batches, batch{key: key})
		b.byBatch[key] = place
	}
	return place
}

// applyReset forgets PIN tries and balances.
func (b *cardBook) applyReset() {
	clear(b.tries)
	clear(b.used)
}

// batchTotals is what stands: debits without those that were taken back, and credits.
type batchTotals struct{ debits, debitMinor, credits, creditMinor int64 }

// totals sums movements.
func (b *cardBook) totals(places []int32) batchTotals {
	var sum batchTotals
	for _, p := range places {
		t := b.at(p)
		switch {
		case t.state != cardApproved:
		case t.kind == cardRefund:
			sum.credits++
			sum.creditMinor += t.minor
		default:
			sum.debits++
			sum.debitMinor += t.minor
		}
	}
	return sum
}

// movement tells the i-th movement, in the shape of the wallet network's.
func (b *cardBook) movement(i int) movement {
	t := b.at(b.moved[i])
	m := movement{ID: movementID(i), Kind: kindPayment, Reference: string(t.key.rrn[:]), AmountMinor: t.minor,
		Currency: byNumeric[t.cur].code, State: "done", Wallet: "card", AtMS: t.atMS}
	if t.kind == cardRefund {
		m.Kind = kindRefund
	}
	if t.original >= 0 {
		m.OriginalReference = string(b.at(t.original).key.rrn[:])
	}
	if t.state != cardApproved {
		m.State = "reversed"
	}
	return m
}

func movementID(i int) string { return fmt.Sprintf("mv%012d", i+1) }

// tokenHash stands for a token in the books.
func tokenHash(token []byte) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(token) // Never fails.
	return h.Sum64() | 1  // Never 0, which is none.
}

package sandbox

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// CardConfig is what a card host needs. All fields but Log are required.
type CardConfig struct {
	Dir    string // Folder of the books; the files' names begin with "sandbox-cards".
	ZMK    string // Zone master key, shared with the member: 32 hex digits.
	Member string // The member's number, as in DE 32: 1 to 11 digits.
	Now    func() time.Time
	Rand   io.Reader // Makes the working keys; used by one goroutine at a time.
	Log    *slog.Logger
}

// validate names the first field that is missing or wrong.
func (c *CardConfig) validate() error {
	for _, field := range []struct {
		name  string
		wrong bool
	}{
		{"Dir", c.Dir == ""},
		{"Member", !digits(c.Member) || len(c.Member) > elements[32].max},
		{"Now", c.Now == nil},
		{"Rand", c.Rand == nil},
	} {
		if field.wrong {
			return fmt.Errorf("sandbox: CardConfig.%s is empty or wrong; the card host needs it", field.name)
		}
	}
	return nil
}

// CardHost is a card host with its cards and books. Its methods may be called concurrently.
type CardHost struct {
	cfg  CardConfig
	log  *slog.Logger
	zone *cipherPair   // The ZMK.
	done chan struct{} // Closed by Close.

	held atomic.Int64 // Answers that wait for their time.

	mu      sync.Mutex // Guards all below; held for one decision at a time, never while waiting or writing.
	closed  bool
	dead    error // Why the books cannot be written any more.
	journal *cardJournal
	book    *cardBook
	conns   map[*cardConn]bool
	away    int // How often the host has signed off since it was last there; 0: it is there.
}

// OpenCards reads the books, or begins new ones. It starts nothing: take connections with Serve. Two hosts must not share a folder.
func OpenCards(cfg CardConfig) (*CardHost, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	zmk, err := parseKey(cfg.ZMK)
	if err != nil {
		return nil, fmt.Errorf("sandbox: CardConfig.ZMK is %w", err)
	}
	h := &CardHost{cfg: cfg, log: cfg.Log, zone: zmk.pair(), book: newCardBook(), conns: map[*cardConn]bool{}, done: make(chan struct{})}
	if h.log == nil {
		h.log = slog.New(slog.DiscardHandler)
	}
	var torn bool
	if h.journal, torn, err = openCardJournal(cfg.Dir, h.book.apply); err != nil {
		return nil, fmt.Errorf("open card host: %w", err)
	}
	if torn {
		h.log.Warn("card host: dropped the torn last line of its journal")
	}
	h.warnOfExpiry()
	return h, nil
}

// Close drops all connections and closes the books. A second Close does nothing.
func (h *CardHost) Close() error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return nil
	}
	h.closed = true
	close(h.done)
	for c := range h.conns {
		_ = c.conn.Close() // Its goroutine notices.
	}
	h.mu.Unlock()
	err := h.flush()
	h.journal.write.Lock()
	defer h.journal.write.Unlock()
	h.fail(errCardsClosed)
	return errors.Join(err, h.journal.file.Close())
}

// fail ends writing for good. Only the first reason counts.
func (h *CardHost) fail(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.dead == nil {
		h.dead = err
	}
}

// flush writes all lines that wait. No answer may leave before it has returned nil.
func (h *CardHost) flush() error {
	h.journal.write.Lock()
	defer h.journal.write.Unlock()
	h.mu.Lock()
	if h.dead != nil {
		h.mu.Unlock()
		return h.dead
	}
	lines := h.journal.take()
	h.mu.Unlock()
	if len(lines) == 0 {
		return nil // Another connection has written ours too.
	}
	err := h.journal.put(lines)
	if err != nil {
		h.fail(err) // What is in memory is ahead of the file now: only a restart tells the truth again.
		h.log.Error("card host: no more answers until it is started anew", "error", err)
	}
	return err
}

// Reset forgets wrong PINs and what the cards have spent. Movements stay.
func (h *CardHost) Reset() error {
	h.mu.Lock()
	h.journal.addReset()
	h.book.applyReset()
	h.mu.Unlock()
	return h.flush()
}

// cardAsk is what a financial message asks, read and with its cryptography done, before the books are looked at.
type cardAsk struct {
	m       *cardMessage
	mti     mti // Of the original, if it is a repeat.
	txn     cardTxn
	name    originKey // DE 90.
	hasName bool

	card       *hostCard // nil: a token, or no card of ours.
	tokenPlace int       // Behaviour of the token.
	currency   numericCurrency
	expiryOK   bool
	stripeOK   bool
	pin        pinState
	cryptogram bool        // There is one.
	arqcOK     bool        // And it is right, or need not be.
	arpcKey    *cipherPair // For the answer, if there is a cryptogram.
}

// pinState is what came of a PIN.
type pinState uint8

const (
	pinNone pinState = iota
	pinRight
	pinWrong
)

// verdict is what the host decides about a message.
type verdict struct {
	code  [2]byte
	auth  [6]byte // DE 38; zero: none.
	minor int64   // DE 4 of the answer.
	fault cardFault
}

// code makes a verdict that is only a response code.
func (a *cardAsk) code(de39 string) verdict {
	return verdict{code: [2]byte{de39[0], de39[1]}, minor: a.txn.askedMinor}
}

// decide says what becomes of a message, and writes it into the books.
func (h *CardHost) decide(a *cardAsk) verdict {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.dead != nil {
		return a.code("96")
	}
	a.txn.atMS = h.cfg.Now().UnixMilli()
	switch a.mti {
	case mtiAuthorize:
		return h.take(a, cardAuthorization)
	case mtiRequest:
		switch string(a.m.get(3)) {
		case "000000":
			return h.take(a, cardSale)
		case "200000":
			return h.take(a, cardRefund)
		case "020000":
			return h.void(a)
		}
		return a.code("12")
	case mtiComplete:
		return h.complete(a)
	case mtiReverse, mtiReverseNA:
		return h.reverse(a)
	case mtiUpload:
		return h.upload(a)
	case mtiClose:
		return h.closeBatch(a)
	}
	return a.code("12")
}

// record adds a transaction to the books and makes its answer.
func (h *CardHost) record(a *cardAsk, kind cardKind, state cardState, de39 string) verdict {
	t := &a.txn
	t.kind, t.state, t.code = kind, state, [2]byte{de39[0], de39[1]}
	switch {
	case state == cardDeclined:
	case kind == cardCompletion && t.original >= 0:
		t.auth = h.book.at(t.original).auth // It goes on being the same approval.
	default:
		appendNumber(t.auth[:0], int64(h.book.count)+1, len(t.auth))
	}
	h.journal.addTxn(t)
	h.book.applyTxn(t)
	return answerOf(t)
}

// answerOf is a transaction's answer.
func answerOf(t *cardTxn) verdict {
	v := verdict{code: t.code, auth: t.auth, minor: t.askedMinor}
	if t.state != cardDeclined {
		v.minor = t.minor
	}
	return v
}

// spend notes that a fault has happened, and reports whether it had not before.
func (h *CardHost) spend(key cardTxnKey) bool {
	if h.book.spent[key] {
		return false
	}
	h.journal.addKey("spent", key)
	h.book.spent[key] = true
	return true
}

// take decides a sale, an authorization or a refund. The order is that of docs/sandbox.md.
func (h *CardHost) take(a *cardAsk, kind cardKind) verdict {
	t := &a.txn
	switch {
	case h.book.unseen[t.key]:
		return a.code("12")
	case h.book.find(t.key) >= 0:
		return a.code("94")
	}
	place := h.behaviour(a, kind)
	b := &cardBehaviours[place]
	t.behaviour, t.minor = uint8(place), t.askedMinor
	if b.lost && h.spend(t.key) {
		v := a.code("96")
		v.fault = b.fault
		return v
	}
	if refused := h.refusal(a, kind); refused != "" {
		return h.record(a, kind, cardDeclined, refused)
	}
	switch {
	case b.code == "10" && kind != cardRefund:
		t.minor = (t.askedMinor + 1) / 2 // Never nothing.
	case b.code != "" && b.code != "10":
		return h.record(a, kind, cardDeclined, b.code)
	}
	if kind != cardRefund && t.card >= 0 && h.book.left(t.card, t.cur) < t.minor {
		return h.record(a, kind, cardDeclined, "51")
	}
	code := "00"
	if t.minor != t.askedMinor {
		code = "10"
	}
	v := h.record(a, kind, cardApproved, code)
	if !b.lost {
		v.fault = b.fault
	}
	return v
}

// behaviour finds what a card, a token or an amount triggers: a card or token that does not just approve beats the amount, but for refunds only the
// amount counts.
func (h *CardHost) behaviour(a *cardAsk, kind cardKind) int {
	if kind == cardSale || kind == cardAuthorization {
		if a.card != nil && a.card.behaviour != usualCard {
			return a.card.behaviour
		}
		if a.card == nil && a.tokenPlace != usualCard {
			return a.tokenPlace
		}
	}
	if a.currency.decimals != 2 {
		return usualCard
	}
	return cardByMinor[a.txn.askedMinor] // 0 for any other: usualCard.
}

// refusal is what is wrong with a sale, authorization or refund, as DE 39; empty if nothing is. It counts wrong PINs.
func (h *CardHost) refusal(a *cardAsk, kind cardKind) string {
	t := &a.txn
	switch {
	case t.askedMinor == 0:
		return "13"
	case a.currency.code == "":
		return "12"
	case a.card == nil && t.token == 0:
		return "14"
	}
	if kind == cardRefund {
		return h.refundRefusal(a)
	}
	if a.card == nil {
		return "" // A token has nothing more to check.
	}
	switch {
	case !a.expiryOK:
		return "54"
	case !a.stripeOK:
		return "82"
	case a.card.pinAlways && a.pin == pinNone && !keyed(a.m.get(22)):
		return "76"
	case a.card.limitMinor != 0 && t.askedMinor > a.card.limitMinor:
		return "61"
	}
	if a.pin != pinNone {
		tries := h.book.tries[t.card]
		switch {
		case tries >= pinTriesMax:
			return "75"
		case a.pin == pinWrong:
			tries++
			t.tries = tries + 1
			if tries >= pinTriesMax {
				return "75"
			}
			return "55"
		case tries > 0:
			t.tries = 1
		}
	}
	if !a.arqcOK {
		return "82"
	}
	return ""
}

// keyed reports whether a card was used without being read.
func keyed(entry []byte) bool { return string(entry[:2]) == "01" || string(entry[:2]) == "81" }

// refundRefusal checks a refund against what it names. One that names nothing is free.
func (h *CardHost) refundRefusal(a *cardAsk) string {
	t := &a.txn
	if a.card != nil && a.m.have(14) && !a.expiryOK {
		return "54"
	}
	if !a.hasName {
		return ""
	}
	o, refused := h.original(a)
	switch {
	case refused != "":
		return refused
	case o.kind != cardSale && o.kind != cardCompletion, o.state != cardApproved, o.cur != t.cur:
		return "12"
	case t.askedMinor > o.minor-o.refunded:
		return "13"
	}
	return ""
}

// original finds what DE 90 names, and notes it in the transaction.
func (h *CardHost) original(a *cardAsk) (*cardTxn, string) {
	place := h.book.named(a.name, a.txn.key.tid, a.txn.card, a.txn.token)
	if place < 0 {
		return nil, "25"
	}
	o := h.book.at(place)
	if auth := a.m.get(38); auth != nil && o.state != cardDeclined && string(auth) != string(o.auth[:]) {
		return nil, "25"
	}
	a.txn.original = place
	return o, ""
}

// void takes back a whole sale or completion. A repeat, with the same numbers or others, is acknowledged again.
func (h *CardHost) void(a *cardAsk) verdict {
	t := &a.txn
	if h.book.unseen[t.key] {
		return a.code("12")
	}
	if place := h.book.find(t.key); place >= 0 {
		if before := h.book.at(place); before.kind == cardVoid {
			return answerOf(before)
		}
		return a.code("94")
	}
	if !a.hasName {
		return a.code("30")
	}
	t.minor = t.askedMinor
	o, refused := h.original(a)
	switch {
	case refused != "":
		return h.record(a, cardVoid, cardDeclined, refused)
	case o.kind != cardSale && o.kind != cardCompletion, o.state == cardDeclined, o.state == cardReversed, o.cur != t.cur:
		return h.record(a, cardVoid, cardDeclined, "12")
	case o.minor != t.askedMinor:
		return h.record(a, cardVoid, cardDeclined, "13")
	case o.state == cardVoided:
		return h.record(a, cardVoid, cardApproved, "00")
	case o.refunded > 0, o.batch != 0:
		return h.record(a, cardVoid, cardDeclined, "12")
	}
	v, lost := h.undoFault(a, o)
	if lost {
		return v
	}
	fault := v.fault
	v = h.record(a, cardVoid, cardApproved, "00")
	v.fault = fault
	return v
}

// undoFault is what goes wrong with the first reversal or void of a transaction, and whether that is lost before it is carried out.
func (h *CardHost) undoFault(a *cardAsk, o *cardTxn) (v verdict, lost bool) {
	v = a.code("96")
	b := &cardBehaviours[o.behaviour]
	if o.state != cardApproved || b.undoFault == cardFaultNone {
		return v, false
	}
	key := o.key
	key.mti = mtiReverseNA // Apart from the fault of the transaction itself.
	if !h.spend(key) {
		return v, false
	}
	v.fault = b.undoFault
	return v, b.undoLost
}

// complete moves the money of an authorization, or answers a repeat as before.
func (h *CardHost) complete(a *cardAsk) verdict {
	t := &a.txn
	if place := h.book.find(t.key); place >= 0 {
		before := h.book.at(place)
		if before.askedMinor != t.askedMinor || before.cur != t.cur {
			return a.code("12") // The same numbers, and something else.
		}
		return answerOf(before)
	}
	if !a.hasName {
		return a.code("30")
	}
	place := h.behaviour(a, cardCompletion)
	b := &cardBehaviours[place]
	t.behaviour, t.minor = uint8(place), t.askedMinor
	if b.lost && h.spend(t.key) {
		v := a.code("96")
		v.fault = b.fault
		return v
	}
	o, refused := h.original(a)
	switch {
	case refused != "":
		return h.record(a, cardCompletion, cardDeclined, refused)
	case o.kind != cardAuthorization, o.state != cardApproved, o.cur != t.cur:
		return h.record(a, cardCompletion, cardDeclined, "12")
	case t.askedMinor == 0, t.askedMinor > o.minor:
		return h.record(a, cardCompletion, cardDeclined, "13")
	case b.code != "" && b.code != "10":
		return h.record(a, cardCompletion, cardDeclined, b.code)
	}
	v := h.record(a, cardCompletion, cardApproved, "00")
	if !b.lost {
		v.fault = b.fault
	}
	return v
}

// reverse undoes a request, or forbids it to come any more.
func (h *CardHost) reverse(a *cardAsk) verdict {
	t := &a.txn
	if !a.hasName || a.name.mti != mtiAuthorize && a.name.mti != mtiRequest {
		return a.code("30")
	}
	key := cardTxnKey{a.name.mti, t.key.rrn, t.key.tid}
	place := h.book.find(key)
	if place < 0 {
		if !h.book.unseen[key] {
			h.journal.addKey("reversal", key)
			h.book.applyReversal(key)
		}
		return a.code("00")
	}
	o := h.book.at(place)
	switch {
	case o.origin != a.name:
		return a.code("25") // Its own numbers are others: this reversal is not about it.
	case o.state == cardReversed, o.state == cardVoided, o.state == cardDeclined && o.kind != cardVoid:
		return a.code("00")
	case o.kind == cardVoid, o.state == cardCompleted, o.refunded > 0, o.batch != 0:
		return a.code("12")
	case o.cur != t.cur, t.askedMinor != o.askedMinor && t.askedMinor != o.minor:
		return a.code("13")
	}
	v, lost := h.undoFault(a, o)
	if lost {
		return v
	}
	h.journal.addKey("reversal", key)
	h.book.applyReversal(key)
	v.code = [2]byte{'0', '0'}
	return v
}

// batchOf is the batch that a message names.
func (a *cardAsk) batchOf() batchKey {
	return batchKey{batchGroup{a.txn.mid, a.txn.cur}, string(a.m.get(60))}
}

// upload takes one movement of a batch that was out of balance.
func (h *CardHost) upload(a *cardAsk) verdict {
	t := &a.txn
	key := a.batchOf()
	switch {
	case !a.hasName:
		return a.code("30")
	case a.currency.code == "":
		return a.code("12")
	case t.askedMinor == 0:
		return a.code("13")
	}
	t.key.mti = a.name.mti
	t.origin = a.name
	place := h.book.find(t.key)
	number, known := h.book.byBatch[key]
	if known && h.book.batches[number].closed {
		if place >= 0 && h.book.at(place).batch == number+1 {
			return a.code("00")
		}
		return a.code("12")
	}
	kind := cardSale
	switch {
	case string(a.m.get(3)) == "200000":
		kind = cardRefund
	case string(a.m.get(3)) != "000000":
		return a.code("12") // A void is no movement: what it took back is not uploaded.
	case t.key.mti == mtiComplete:
		kind = cardCompletion
	}
	if place < 0 {
		t.minor = t.askedMinor
		place = h.book.count
		h.record(a, kind, cardApproved, "00")
	}
	o := h.book.at(place)
	switch {
	case o.kind != kind, o.cur != t.cur, o.mid != t.mid, o.state == cardDeclined, o.batch != 0:
		return a.code("12")
	case o.minor != t.askedMinor:
		return a.code("13")
	}
	if known {
		for _, p := range h.book.batches[number].uploaded {
			if p == place {
				return a.code("00")
			}
		}
	}
	h.journal.addBatch("upload", key, place, false)
	h.book.applyUpload(key, place)
	return a.code("00")
}

// closeBatch compares totals and settles.
func (h *CardHost) closeBatch(a *cardAsk) verdict {
	key := a.batchOf()
	number, known := h.book.byBatch[key]
	if known && h.book.batches[number].closed {
		return a.code("00")
	}
	uploaded := string(a.m.get(3)) == "920000"
	places := h.book.open[key.batchGroup]
	if uploaded {
		places = nil
		if known {
			places = h.book.batches[number].uploaded
		}
	}
	if h.book.totals(places) != a.totals() {
		return a.code("95")
	}
	h.journal.addBatch("close", key, 0, uploaded)
	h.book.applyClose(key, uploaded)
	return a.code("00")
}

// totals is what a 0500 says: what stands, because nobody can know whether something that was reversed unanswered had ever arrived.
func (a *cardAsk) totals() batchTotals {
	n := a.m.number
	return batchTotals{debits: n(76) - n(77), debitMinor: n(88) - n(89), credits: n(74) - n(75), creditMinor: n(86) - n(87)}
}

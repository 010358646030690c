package sandbox

import (
	"bufio"
	"context"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"
)

// Limits of connections.
const (
	connsMax    = 256              // Members open a handful.
	connIdle    = 10 * time.Minute // Without a single byte; members send echoes far more often.
	frameIn     = 30 * time.Second // For the rest of a frame that has begun.
	sendIn      = 10 * time.Second // For a reader who does not read.
	burstMax    = 64               // Messages that are answered with one write.
	readBuffer  = 64 << 10         // Holds a burst.
	heldMax     = 1024             // Answers that wait for their time; more are not sent at all.
	formerKeys  = 10 * time.Second // How long keys are taken after they were exchanged.
	offFor      = 5 * time.Second  // How long the host stays away after it signed off.
	tornPause   = time.Millisecond // Between the bytes of a torn answer.
	acceptPause = 50 * time.Millisecond
)

// workingKeys are a connection's own.
type workingKeys struct {
	mac  *cipherPair
	zone *cipherPair // Of the PINs.
}

// cardConn is one member's connection. Its goroutine reads, decides and answers; answers that wait for their time come from others, so that writes are
// under a lock instead of in a goroutine of their own, which would cost a switch for every burst.
type cardConn struct {
	h    *CardHost
	conn net.Conn
	in   *bufio.Reader

	keys      *workingKeys
	former    *workingKeys
	formerEnd time.Time

	// Room that is used again for every message.
	msg  cardMessage
	ask  cardAsk
	chip chipData
	out  []byte
	then []func() // To be done after out is sent.
	cut  bool     // Nothing more is to be read.

	write sync.Mutex // Held for whole frames.

	mu       sync.Mutex // Guards below: the host looks at them too.
	keyed    bool
	signedOn bool
	stan     int // Of the host's own messages.
}

// Serve takes connections until the context ends or the host is closed, and then returns nil. It closes the listener, drops all connections and
// waits for their goroutines.
func (h *CardHost) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel() // Before the wait: all that it waits for ends with the context.
	work.Go(func() {
		select {
		case <-h.done:
			cancel()
		case <-ctx.Done():
		}
	})
	defer context.AfterFunc(ctx, func() { _ = l.Close() })() // Accept notices.
	room := make(chan struct{}, connsMax)
	for {
		conn, err := l.Accept()
		if ctx.Err() != nil {
			if err == nil {
				_ = conn.Close()
			}
			return nil
		}
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return fmt.Errorf("card host: %w", err)
			}
			h.log.Warn("card host: accept", "error", err)
			select { // Out of files, perhaps: it passes.
			case <-time.After(acceptPause):
			case <-ctx.Done():
			}
			continue
		}
		select {
		case room <- struct{}{}:
		default:
			h.log.Warn("card host: too many connections", "limit", connsMax)
			_ = conn.Close()
			continue
		}
		work.Go(func() {
			defer func() { <-room }()
			h.converse(ctx, conn)
		})
	}
}

// converse serves one connection until it ends.
func (h *CardHost) converse(ctx context.Context, conn net.Conn) {
	c := &cardConn{h: h, conn: conn, in: bufio.NewReaderSize(conn, readBuffer)}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		_ = conn.Close()
		return
	}
	h.conns[c] = true
	h.mu.Unlock()
	var later sync.WaitGroup
	err := c.serve(ctx, &later)
	h.mu.Lock()
	delete(h.conns, c)
	h.mu.Unlock()
	_ = conn.Close()
	later.Wait()
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) && ctx.Err() == nil {
		h.log.Info("card host: dropped a connection", "remote", conn.RemoteAddr().String(), "error", err)
	}
}

// serve answers bursts of messages: what has come together is decided together, written into the journal at once, and answered with one write.
func (c *cardConn) serve(ctx context.Context, later *sync.WaitGroup) error {
	for {
		for n := 0; n < burstMax && !c.cut; n++ {
			if n > 0 && !c.ready() {
				break
			}
			frame, err := c.next()
			if err != nil {
				return err
			}
			if err := c.handle(ctx, frame, later); err != nil {
				return err
			}
			if _, err := c.in.Discard(frameHead + len(frame)); err != nil {
				return err
			}
		}
		if err := c.h.flush(); err != nil {
			return err
		}
		if err := c.send(c.out); err != nil {
			return err
		}
		c.out = c.out[:0]
		for _, do := range c.then {
			do()
		}
		c.then = c.then[:0]
		if c.cut {
			return nil
		}
	}
}

// ready reports whether a whole frame is here already.
func (c *cardConn) ready() bool {
	if c.in.Buffered() < frameHead {
		return false
	}
	head, err := c.in.Peek(frameHead)
	return err == nil && c.in.Buffered() >= frameHead+int(binary.BigEndian.Uint16(head))
}

var errFrameSize = fmt.Errorf("a frame of fewer than %d or more than %d bytes", frameMin, frameMax)

// next waits for a frame and returns its message, which stays in the buffer.
func (c *cardConn) next() ([]byte, error) {
	if !c.ready() {
		if err := c.conn.SetReadDeadline(time.Now().Add(connIdle)); err != nil { // Sockets know only the real clock.
			return nil, err
		}
		if _, err := c.in.Peek(1); err != nil {
			return nil, err
		}
		if err := c.conn.SetReadDeadline(time.Now().Add(frameIn)); err != nil {
			return nil, err
		}
	}
	head, err := c.in.Peek(frameHead)
	if err != nil {
		return nil, err
	}
	size := int(binary.BigEndian.Uint16(head))
	if size < frameMin || size > frameMax {
		return nil, errFrameSize
	}
	whole, err := c.in.Peek(frameHead + size)
	if err != nil {
		return nil, err
	}
	return whole[frameHead:], nil
}

// send writes whole frames. A reader who does not read loses the connection.
func (c *cardConn) send(frames []byte) error {
	if len(frames) == 0 {
		return nil
	}
	c.write.Lock()
	defer c.write.Unlock()
	if err := c.conn.SetWriteDeadline(time.Now().Add(sendIn)); err != nil {
		return err
	}
	_, err := c.conn.Write(frames)
	return err
}

// handle answers one message into out.
func (c *cardConn) handle(ctx context.Context, frame []byte, later *sync.WaitGroup) error {
	m := &c.msg
	bad := m.parse(frame)
	if errors.Is(bad, errHeader) {
		return bad
	}
	t := m.mti()
	if t[2]&1 == 1 {
		return nil // An answer; we wait for none.
	}
	if bad != nil && !m.have(11) {
		return bad // Nobody could tell what the answer belongs to.
	}
	if t == mtiNetwork {
		return c.network(m, bad)
	}
	keys := c.keysOf(m)
	switch {
	case c.keys == nil:
		c.answer(m, nil, verdict{code: [2]byte{'9', '1'}, minor: -1})
		return nil
	case bad != nil:
		c.answer(m, c.keys, verdict{code: [2]byte{'3', '0'}, minor: -1})
		return nil
	case keys == nil:
		c.answer(m, c.keys, verdict{code: [2]byte{'8', '8'}, minor: -1})
		return nil
	case !c.present():
		c.answer(m, keys, verdict{code: [2]byte{'9', '1'}, minor: -1})
		return nil
	}
	if refused := c.read(m, keys); refused != "" {
		c.answer(m, keys, verdict{code: [2]byte{refused[0], refused[1]}, minor: -1})
		return nil
	}
	v := c.h.decide(&c.ask)
	c.deliver(ctx, m, keys, v, later)
	return nil
}

// keysOf finds the keys under which a message's MAC is right.
func (c *cardConn) keysOf(m *cardMessage) *workingKeys {
	if m.macAt == 0 || c.keys == nil {
		return nil
	}
	for _, k := range [...]*workingKeys{c.keys, c.former} {
		if k == nil || k == c.former && c.h.cfg.Now().After(c.formerEnd) {
			continue
		}
		mac := k.mac.mac(m.raw[:m.macAt])
		if subtle.ConstantTimeCompare(mac[:], m.raw[m.macAt:]) == 1 {
			return k
		}
	}
	return nil
}

// present reports whether both sides have signed on.
func (c *cardConn) present() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.signedOn
}

// needs are the data elements that each kind of message must have, besides those that all have.
var needs = map[mti][]int{
	mtiAuthorize: {3, 4, 7, 11, 12, 13, 22, 25, 32, 37, 41, 42, 49},
	mtiRequest:   {3, 4, 7, 11, 12, 13, 22, 25, 32, 37, 41, 42, 49},
	mtiComplete:  {3, 4, 7, 11, 12, 13, 22, 25, 32, 37, 38, 41, 42, 49, 90},
	mtiReverse:   {3, 4, 7, 11, 12, 13, 32, 37, 41, 42, 49, 90},
	mtiReverseNA: {3, 4, 7, 11, 12, 13, 32, 37, 41, 42, 49, 90},
	mtiUpload:    {3, 4, 7, 11, 12, 13, 32, 37, 41, 42, 49, 60, 90},
	mtiClose:     {3, 7, 11, 32, 37, 41, 42, 49, 60, 74, 75, 76, 77, 86, 87, 88, 89},
}

// pinFormats are the ISO 9564 formats that DE 53 names.
var pinFormats = map[string]byte{"0100000000000000": 0, "0300000000000000": 3}

// entryModes are the first two digits of DE 22.
var entryModes = []string{"01", "05", "07", "80", "81", "90", "91"}

// read turns a message into what it asks, and does its cryptography, without a lock. It returns DE 39 of what is wrong with its form or sender.
func (c *cardConn) read(m *cardMessage, keys *workingKeys) string {
	a := &c.ask
	*a = cardAsk{m: m, mti: m.mti().original(), tokenPlace: usualCard, arqcOK: true, stripeOK: true}
	a.txn.card, a.txn.original = -1, -1
	list, known := needs[a.mti]
	if !known {
		return "30"
	}
	for _, de := range list {
		if !m.have(de) {
			return "30"
		}
	}
	t := &a.txn
	t.key.mti, t.origin.mti = a.mti, a.mti
	copy(t.key.rrn[:], m.get(37))
	copy(t.key.tid[:], m.get(41))
	copy(t.origin.stan[:], m.get(11))
	copy(t.origin.at[:], m.get(7))
	copy(t.mid[:], m.get(42))
	copy(t.cur[:], m.get(49))
	t.askedMinor = m.number(4)
	a.currency = byNumeric[t.cur]
	if !a.readOriginal() || !validMoment(m.get(7)) || !digits(string(m.get(37))) {
		return "30"
	}
	if string(m.get(32)) != c.h.cfg.Member || len(trimBlanks(m.get(42))) == 0 || len(trimBlanks(m.get(41))) == 0 {
		return "03"
	}
	if a.mti == mtiUpload || a.mti == mtiClose {
		return ""
	}
	if !a.readCard() {
		return "30"
	}
	if a.mti != mtiAuthorize && (a.mti != mtiRequest || string(m.get(3)) != "000000") {
		return ""
	}
	if !slices.Contains(entryModes, string(m.get(22)[:2])) || m.get(22)[2] > '2' || !c.readSecrets(a, keys) {
		return "30"
	}
	return ""
}

// trimBlanks cuts blanks off the end.
func trimBlanks(value []byte) []byte {
	for len(value) > 0 && value[len(value)-1] == ' ' {
		value = value[:len(value)-1]
	}
	return value
}

// validMoment reports whether DE 7 is a time.
func validMoment(v []byte) bool {
	two := func(i int) int { return int(v[i]-'0')*10 + int(v[i+1]-'0') }
	return two(0) >= 1 && two(0) <= 12 && two(2) >= 1 && two(2) <= 31 && two(4) < 24 && two(6) < 60 && two(8) < 60
}

// readOriginal reads DE 90. It is not ok if it is there and not of this member, or not padded as it must be.
func (a *cardAsk) readOriginal() bool {
	v := a.m.get(90)
	if v == nil {
		return true
	}
	a.hasName = true
	copy(a.name.mti[:], v)
	a.name.mti = a.name.mti.original()
	copy(a.name.stan[:], v[4:])
	copy(a.name.at[:], v[10:])
	member := a.m.get(32)
	institution, rest := v[20:31], v[31:]
	return len(member) <= len(institution) && string(institution[len(institution)-len(member):]) == string(member) &&
		allZeros(institution[:len(institution)-len(member)]) && allZeros(rest)
}

func allZeros(v []byte) bool {
	for _, c := range v {
		if c != '0' {
			return false
		}
	}
	return true
}

// readCard finds the card or token of a message. It is not ok if there is neither, or both, or if DE 2 and a track contradict each other.
func (a *cardAsk) readCard() bool {
	m := a.m
	token, err := m.item("TK")
	if err != nil || m.have(2) == (token != nil) {
		return false
	}
	if token != nil {
		if !cardToken(string(token)) || m.have(52) || m.have(35) || m.have(45) || m.have(55) {
			return false
		}
		a.txn.token = tokenHash(token)
		a.tokenPlace = cardByToken[string(token)] // 0 for any other: usualCard.
		return true
	}
	pan := m.get(2)
	if len(pan) < cardDigitsMin {
		return false
	}
	expiry := m.get(14)
	if track2 := m.get(35); track2 != nil {
		at := len(pan)
		if len(track2) < at+1+4 || string(track2[:at]) != string(pan) || track2[at] != '=' || !digits(string(track2[at+1:])) {
			return false
		}
		if expiry != nil && string(expiry) != string(track2[at+1:at+5]) {
			return false
		}
		expiry = track2[at+1 : at+5]
	}
	if track1 := m.get(45); track1 != nil {
		from := track1Expiry(track1, pan)
		if from == nil || expiry != nil && string(expiry) != string(from) {
			return false
		}
		expiry = from
	}
	if expiry == nil && (a.mti == mtiAuthorize || a.mti == mtiRequest && string(m.get(3)) == "000000") {
		return false
	}
	place, ok := byPAN[string(pan)]
	if !ok {
		return true // 14, in its turn.
	}
	a.txn.card, a.card = int16(place), &hostCards[place]
	a.expiryOK = string(expiry) == a.card.expiry
	return true
}

// track1Expiry is the expiry on a track 1 of format B, with or without its sentinels; nil if it is not one of this number.
func track1Expiry(track1, pan []byte) []byte {
	if len(track1) > 0 && track1[0] == '%' {
		track1 = track1[1:]
	}
	if len(track1) < 1+len(pan)+1 || track1[0] != 'B' || string(track1[1:1+len(pan)]) != string(pan) || track1[1+len(pan)] != '^' {
		return nil
	}
	rest := track1[2+len(pan):]
	name := slices.Index(rest, '^')
	if name < 0 || len(rest) < name+5 || !digits(string(rest[name+1:name+5])) {
		return nil
	}
	return rest[name+1 : name+5]
}

// readSecrets checks the stripe, the PIN and the cryptogram. They go no further than this call. It is not ok if their form is wrong.
func (c *cardConn) readSecrets(a *cardAsk, keys *workingKeys) bool {
	m := a.m
	entry := string(m.get(22)[:2])
	chip := entry == "05" || entry == "07"
	block, made := m.get(52), m.get(53)
	format, known := pinFormats[string(made)]
	if made != nil && !known || block != nil && made == nil {
		return false
	}
	if data := m.get(55); data != nil {
		if c.chip.parse(data) != nil {
			return false
		}
		a.cryptogram = c.chip.values[tagCryptogram] != nil
	}
	if a.card == nil {
		return true
	}
	if !c.h.cfg.Now().Before(a.card.expires()) {
		a.expiryOK = false
	}
	if track2 := m.get(35); track2 != nil {
		a.stripeOK = a.card.stripeMatches(track2, chip)
	}
	if block != nil {
		pin, size, ok := openPIN(keys.zone, block, format, a.card.pan)
		a.pin = pinWrong
		if ok && (a.card.pin == "" || subtle.ConstantTimeCompare(pin[:size], []byte(a.card.pin)) == 1) {
			a.pin = pinRight
		}
	}
	strict := chip && a.card.emv == emvStrict
	if !a.cryptogram {
		a.arqcOK = !strict
		return true
	}
	key, right := cryptogramKey(a.card, &c.chip)
	a.arpcKey = key
	a.arqcOK = !strict || right && sameDigits(c.chip.values[tagAmount], m.get(4)) && sameDigits(c.chip.values[tagCurrency], m.get(49))
	return true
}

// sameDigits compares a packed number with its digits; leading zeros do not count.
func sameDigits(packed, want []byte) bool {
	var room [12]byte
	got := room[:0]
	for _, b := range packed {
		if b>>4 > 9 || b&0x0f > 9 {
			return false
		}
		got = append(got, '0'+b>>4, '0'+b&0x0f)
	}
	for len(got) > len(want) {
		if got[0] != '0' {
			return false
		}
		got = got[1:]
	}
	return string(got) == string(want)
}

// answer packs an answer into out. An amount below zero is repeated as it was asked.
func (c *cardConn) answer(m *cardMessage, keys *workingKeys, v verdict) {
	c.out = c.pack(c.out, m, keys, v)
}

// pack appends an answer to buf.
func (c *cardConn) pack(buf []byte, m *cardMessage, keys *workingKeys, v verdict) []byte {
	t := m.mti()
	closing := t == mtiClose
	b := begin(buf, t.answer(), closing)
	b.add(3, m.get(3))
	var room [12]byte
	switch {
	case m.have(4) && v.minor >= 0:
		minor := v.minor
		if v.fault == cardFaultAmount {
			minor += 100
		}
		b.add(4, appendNumber(room[:0], minor, 12))
	case m.have(4):
		b.add(4, m.get(4))
	}
	b.add(7, m.get(7))
	b.add(11, m.get(11))
	b.add(32, m.get(32))
	if rrn := m.get(37); rrn != nil && v.fault == cardFaultReference {
		copy(room[:], rrn)
		room[11] ^= 1 // Another digit.
		b.add(37, room[:])
	} else {
		b.add(37, rrn)
	}
	if v.auth[0] != 0 {
		b.add(38, v.auth[:])
	}
	b.add(39, v.code[:])
	b.add(41, m.get(41))
	b.add(42, m.get(42))
	b.add(49, m.get(49))
	if c.ask.cryptogram && v.minor >= 0 && v.approved() {
		arpc := issuerAuthentication(c.ask.arpcKey, c.chip.values[tagCryptogram])
		if v.fault == cardFaultARPC {
			arpc[0] ^= 0xff
		}
		var tagged [12]byte
		tagged[0], tagged[1] = 0x91, byte(len(arpc))
		copy(tagged[2:], arpc[:])
		b.add(55, tagged[:])
	}
	if closing && v.minor >= 0 {
		switch string(v.code[:]) {
		case "00":
			b.add(66, []byte("1"))
		case "95":
			b.add(66, []byte("2"))
		}
	}
	if keys == nil {
		return b.end(nil)
	}
	done := b.end(keys.mac)
	if v.fault == cardFaultMAC {
		done[len(done)-1] ^= 0xff
	}
	return done
}

// approved reports whether money moved or is held.
func (v *verdict) approved() bool { return v.code == [2]byte{'0', '0'} || v.code == [2]byte{'1', '0'} }

// garbledFrame is an answer that was damaged on its way.
var garbledFrame = []byte("\x00\x0d0?1\xff\x00\x80answer?")

// deliver sends an answer, or does to it what the fault says.
func (c *cardConn) deliver(ctx context.Context, m *cardMessage, keys *workingKeys, v verdict, later *sync.WaitGroup) {
	switch v.fault {
	case cardFaultSilent:
	case cardFaultCut:
		c.cut = true
		c.out = c.out[:0] // Others of the burst are lost with it, as on a real line.
	case cardFaultGarbled:
		c.out = append(c.out, garbledFrame...)
	case cardFaultLate:
		frame := c.pack(nil, m, keys, v)
		if c.h.held.Add(1) > heldMax {
			c.h.held.Add(-1)
			c.h.log.Warn("card host: too many late answers wait; this one is never sent", "limit", heldMax)
			return
		}
		later.Go(func() {
			defer c.h.held.Add(-1)
			timer := time.NewTimer(lateBy)
			defer timer.Stop()
			select {
			case <-timer.C:
				_ = c.send(frame) // The member may have left.
			case <-ctx.Done():
			}
		})
	case cardFaultTwice:
		c.answer(m, keys, v)
		c.answer(m, keys, v)
	case cardFaultTorn:
		frame := c.pack(nil, m, keys, v)
		c.then = append(c.then, func() { c.tear(ctx, frame) })
	case cardFaultOff:
		c.answer(m, keys, v)
		c.then = append(c.then, func() { c.h.signOff(ctx, later) })
	default:
		c.answer(m, keys, v)
	}
}

// tear sends a frame byte by byte.
func (c *cardConn) tear(ctx context.Context, frame []byte) {
	c.write.Lock()
	defer c.write.Unlock()
	for i := range frame {
		if err := c.conn.SetWriteDeadline(time.Now().Add(sendIn)); err != nil {
			return
		}
		if _, err := c.conn.Write(frame[i : i+1]); err != nil {
			return // The reader will notice too.
		}
		select {
		case <-time.After(tornPause):
		case <-ctx.Done():
			return
		}
	}
}

// Network management codes, DE 70.
const (
	netSignOn  = "001"
	netSignOff = "002"
	netKeys    = "101"
	netCutOver = "201"
	netEcho    = "301"
)

// network answers an 0800.
func (c *cardConn) network(m *cardMessage, bad error) error {
	what := string(m.get(70))
	code, material := "00", []byte(nil)
	switch {
	case bad != nil || !m.have(7) || !m.have(11) || !m.have(70) || m.macAt != 0:
		code = "30"
	case string(m.get(32)) != c.h.cfg.Member:
		code = "03"
	case what == netKeys:
		var err error
		if material, err = c.exchange(); err != nil {
			return err
		}
	case what == netSignOn:
		if !c.signOn() {
			code = "91"
		}
	case what == netSignOff:
		c.mu.Lock()
		c.signedOn = false
		c.mu.Unlock()
	case what == netCutOver && !m.have(15):
		code = "30"
	case what == netCutOver, what == netEcho:
	default:
		code = "12"
	}
	b := begin(c.out, m.mti().answer(), m.have(70))
	b.add(7, m.get(7))
	b.add(11, m.get(11))
	b.add(32, m.get(32))
	b.add(39, []byte(code))
	b.add(48, material)
	b.add(70, m.get(70))
	c.out = b.end(nil)
	return nil
}

// exchange makes new working keys and returns them for DE 48.
func (c *cardConn) exchange() ([]byte, error) {
	h := c.h
	var zpk, mak key16
	h.mu.Lock()
	_, err := io.ReadFull(h.cfg.Rand, zpk[:])
	if err == nil {
		_, err = io.ReadFull(h.cfg.Rand, mak[:])
	}
	h.mu.Unlock()
	if err != nil {
		return nil, fmt.Errorf("make working keys: %w", err)
	}
	zpk, mak = zpk.oddParity(), mak.oddParity()
	c.former, c.formerEnd = c.keys, h.cfg.Now().Add(formerKeys)
	c.keys = &workingKeys{mac: mak.pair(), zone: zpk.pair()}
	c.mu.Lock()
	c.keyed = true
	c.mu.Unlock()
	item := func(to []byte, name string, k key16) []byte {
		value, check := k.under(h.zone), k.checkValue()
		to = fmt.Appendf(to, "%s%03d", name, 2*len(value)+2*len(check))
		to = hex.AppendEncode(to, value[:])
		return hex.AppendEncode(to, check[:])
	}
	return upper(item(item(nil, "ZP", zpk), "MK", mak)), nil
}

// upper puts hex digits in capitals; the names of DE 48's items are capitals already.
func upper(text []byte) []byte {
	for i, c := range text {
		if c >= 'a' && c <= 'z' {
			text[i] = c - 'a' + 'A'
		}
	}
	return text
}

// signOn reports whether a member may sign on: it must have keys, and the host must not be away.
func (c *cardConn) signOn() bool {
	c.h.mu.Lock()
	defer c.h.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.keyed || c.h.away > 0 {
		return false
	}
	c.signedOn = true
	return true
}

// signOff tells all members that the host goes away, and after a while that it is back.
func (h *CardHost) signOff(ctx context.Context, later *sync.WaitGroup) {
	h.mu.Lock()
	h.away++
	mine := h.away
	h.mu.Unlock()
	h.tellAll(netSignOff, false)
	later.Go(func() {
		timer := time.NewTimer(offFor)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		h.mu.Lock()
		back := h.away == mine // Else it went away again meanwhile, and somebody else brings it back.
		if back {
			h.away = 0
		}
		h.mu.Unlock()
		if back {
			h.tellAll(netSignOn, true)
		}
	})
}

// tellAll sends a network message to every member that has keys, and notes whether its connection is signed on from now on.
func (h *CardHost) tellAll(what string, signedOn bool) {
	h.mu.Lock()
	conns := make([]*cardConn, 0, len(h.conns))
	for c := range h.conns {
		conns = append(conns, c)
	}
	h.mu.Unlock()
	for _, c := range conns {
		c.mu.Lock()
		keyed := c.keyed
		if keyed {
			c.signedOn = signedOn
			c.stan++
		}
		stan := c.stan
		c.mu.Unlock()
		if !keyed {
			continue
		}
		b := begin(nil, mtiNetwork, true)
		b.add(7, h.cfg.Now().UTC().AppendFormat(nil, "0102150405"))
		b.add(11, appendNumber(nil, int64(stan), 6))
		b.add(32, []byte(h.cfg.Member))
		b.add(70, []byte(what))
		if err := c.send(b.end(nil)); err != nil {
			h.log.Info("card host: a member did not hear", "error", err)
		}
	}
}

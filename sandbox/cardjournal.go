package sandbox

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"sync"
)

// cardJournalName is the file of the card host's books.
const cardJournalName = "sandbox-cards.jsonl"

// cardVersion is in the journal's first line; another version is refused rather than misread. Lines hold no track, no PIN block, no cryptogram
// and no whole PAN: there is no field for them.
const (
	cardVersion     = 1
	cardVersionLine = `{"version":1}` + "\n"
	resetLine       = `{"reset":true}` + "\n"
)

var errCardsClosed = errors.New("sandbox: the card host's journal is closed")

// cardJournal appends lines in groups: whoever has an answer to send first writes all lines that are waiting with one write(2), and without fsync.
type cardJournal struct {
	pending []byte // Guarded by the host's lock.

	write sync.Mutex // Held while writing; taken before the host's lock.
	spare []byte
	size  int64 // Bytes of whole lines.
	file  *os.File
}

// openCardJournal opens or creates the file, hands every record to apply, and cuts off a torn last line.
func openCardJournal(dir string, apply func(line []byte) error) (_ *cardJournal, torn bool, err error) {
	path := filepath.Join(dir, cardJournalName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, false, err
	}
	defer func() {
		if err != nil {
			_ = f.Close() // The first error says more.
		}
	}()
	j := &cardJournal{file: f}
	if torn, err = j.replay(apply); err != nil {
		return nil, false, fmt.Errorf("%s: %w", path, err)
	}
	if torn {
		if err := f.Truncate(j.size); err != nil {
			return nil, false, err
		}
	}
	if j.size == 0 {
		j.pending = append(j.pending, cardVersionLine...)
	}
	return j, torn, nil
}

// replay reads all whole lines. A last line that lacks its end is torn: its answer never left.
func (j *cardJournal) replay(apply func(line []byte) error) (torn bool, err error) {
	r := bufio.NewReaderSize(j.file, journalBuffer)
	for n := 1; ; n++ {
		line, err := r.ReadSlice('\n')
		if err == io.EOF {
			return len(line) > 0, nil
		}
		if err != nil {
			return false, err
		}
		if n == 1 && string(line) != cardVersionLine {
			return false, fmt.Errorf("line 1: not a journal of version %d; delete the file to begin anew", cardVersion)
		}
		if n == 1 {
			j.size += int64(len(line))
			continue
		}
		if err := apply(line); err != nil {
			return false, fmt.Errorf("line %d: %w; delete the file to begin anew", n, err)
		}
		j.size += int64(len(line))
	}
}

// take hands out the lines that wait. The host's lock is held, and write too.
func (j *cardJournal) take() []byte {
	lines := j.pending
	j.pending, j.spare = j.spare[:0], lines
	return lines
}

// put writes lines. After a failure the file is cut back to whole lines; the caller must not write any more. write is held.
func (j *cardJournal) put(lines []byte) error {
	n, err := j.file.Write(lines)
	if err == nil {
		j.size += int64(n)
		return nil
	}
	if n > 0 {
		err = errors.Join(err, j.file.Truncate(j.size))
	}
	return fmt.Errorf("write journal: %w", err)
}

// addTxn writes a transaction's line, by hand: it is the line that every sale costs.
func (j *cardJournal) addTxn(t *cardTxn) {
	b := append(j.pending, `{"txn":{`...)
	b = appendKey(b, t.key)
	b = appendText(append(b, `,"mid":`...), t.mid[:])
	b = appendText(append(b, `,"stan":`...), t.origin.stan[:])
	b = appendText(append(b, `,"at":`...), t.origin.at[:])
	b = strconv.AppendUint(append(b, `,"kind":`...), uint64(t.kind), 10)
	b = appendText(append(b, `,"code":`...), t.code[:])
	b = strconv.AppendBool(append(b, `,"declined":`...), t.state == cardDeclined)
	if t.auth[0] != 0 {
		b = appendText(append(b, `,"auth":`...), t.auth[:])
	}
	b = appendText(append(b, `,"currency":`...), t.cur[:])
	b = strconv.AppendInt(append(b, `,"asked_minor":`...), t.askedMinor, 10)
	b = strconv.AppendInt(append(b, `,"minor":`...), t.minor, 10)
	if t.card >= 0 {
		b = append(append(append(b, `,"card":"`...), hostCards[t.card].masked...), '"')
	}
	if t.token != 0 {
		b = append(strconv.AppendUint(append(b, `,"token":"`...), t.token, 16), '"')
	}
	b = append(append(append(b, `,"behaviour":"`...), cardBehaviours[t.behaviour].name...), '"')
	b = strconv.AppendUint(append(b, `,"tries":`...), uint64(t.tries), 10)
	b = strconv.AppendInt(append(b, `,"original":`...), int64(t.original), 10)
	b = strconv.AppendInt(append(b, `,"at_ms":`...), t.atMS, 10)
	j.pending = append(b, "}}\n"...)
}

// addKey writes a line that only names a transaction.
func (j *cardJournal) addKey(kind string, key cardTxnKey) {
	b := append(append(append(j.pending, `{"`...), kind...), `":{`...)
	j.pending = append(appendKey(b, key), "}}\n"...)
}

// addBatch writes a line about a batch.
func (j *cardJournal) addBatch(kind string, key batchKey, place int32, uploaded bool) {
	b := append(append(append(j.pending, `{"`...), kind...), `":{"mid":`...)
	b = appendText(b, key.mid[:])
	b = appendText(append(b, `,"currency":`...), key.cur[:])
	b = appendText(append(b, `,"number":`...), []byte(key.number))
	b = strconv.AppendInt(append(b, `,"place":`...), int64(place), 10)
	b = strconv.AppendBool(append(b, `,"uploaded":`...), uploaded)
	j.pending = append(b, "}}\n"...)
}

// addReset writes that tries and balances are forgotten.
func (j *cardJournal) addReset() { j.pending = append(j.pending, resetLine...) }

func appendKey(b []byte, key cardTxnKey) []byte {
	b = appendText(append(b, `"mti":`...), key.mti[:])
	b = appendText(append(b, `,"rrn":`...), key.rrn[:])
	return appendText(append(b, `,"tid":`...), key.tid[:])
}

// appendText quotes printable ASCII, which is all that the codec lets through.
func appendText(b, value []byte) []byte {
	b = append(b, '"')
	for _, c := range value {
		if c == '"' || c == '\\' {
			b = append(b, '\\')
		}
		b = append(b, c)
	}
	return append(b, '"')
}

var errBadRecord = errors.New("not a record of the card host")

// lineReader reads a line back as it was written: the same names in the same order. A general JSON decoder takes ten times as long, and a host
// that was killed after a million sales has to be back within seconds.
type lineReader struct {
	rest []byte
	bad  bool // Something was not as it is written.
}

// skip passes over a text, and reports whether it was there.
func (r *lineReader) skip(text string) bool {
	if len(r.rest) < len(text) || string(r.rest[:len(text)]) != text {
		return false
	}
	r.rest = r.rest[len(text):]
	return true
}

// must passes over a text that has to be there.
func (r *lineReader) must(text string) {
	if !r.skip(text) {
		r.bad = true
	}
}

// text reads a quoted value of exactly the field's size.
func (r *lineReader) text(name string, field []byte) {
	if got := r.quoted(name); len(got) != len(field) || copy(field, got) != len(field) {
		r.bad = true
	}
}

// quoted reads a quoted value.
func (r *lineReader) quoted(name string) []byte {
	r.must(name)
	r.must(`"`)
	end := bytes.IndexAny(r.rest, `"\\`)
	if r.bad || end < 0 {
		r.bad = true
		return nil
	}
	if r.rest[end] == '"' {
		value := r.rest[:end]
		r.rest = r.rest[end+1:]
		return value
	}
	var value []byte
	for i := 0; i < len(r.rest); i++ {
		switch c := r.rest[i]; {
		case c == '"':
			r.rest = r.rest[i+1:]
			return value
		case c == '\\' && i+1 < len(r.rest):
			i++
			value = append(value, r.rest[i])
		default:
			value = append(value, c)
		}
	}
	r.bad = true
	return nil
}

// number reads a whole number.
func (r *lineReader) number(name string) int64 {
	r.must(name)
	negative, value, any := r.skip("-"), int64(0), false
	for len(r.rest) > 0 && r.rest[0] >= '0' && r.rest[0] <= '9' {
		value, any = value*10+int64(r.rest[0]-'0'), true
		r.rest = r.rest[1:]
	}
	if !any {
		r.bad = true
	}
	if negative {
		return -value
	}
	return value
}

// yes reads true or false.
func (r *lineReader) yes(name string) bool {
	r.must(name)
	if r.skip("true") {
		return true
	}
	r.must("false")
	return false
}

func (r *lineReader) key(k *cardTxnKey) {
	r.text(`"mti":`, k.mti[:])
	r.text(`,"rrn":`, k.rrn[:])
	r.text(`,"tid":`, k.tid[:])
}

// apply takes over a line that was read.
func (b *cardBook) apply(line []byte) error {
	r := &lineReader{rest: line}
	var change func()
	switch {
	case r.skip(`{"txn":{`):
		t := b.readTxn(r)
		change = func() { b.applyTxn(&t) }
	case r.skip(`{"reversal":{`):
		var key cardTxnKey
		r.key(&key)
		change = func() { b.applyReversal(key) }
	case r.skip(`{"spent":{`):
		var key cardTxnKey
		r.key(&key)
		change = func() { b.spent[key] = true }
	case r.skip(`{"upload":{`):
		key, place, _ := readBatch(r)
		r.bad = r.bad || place < 0 || place >= b.count
		change = func() { b.applyUpload(key, place) }
	case r.skip(`{"close":{`):
		key, _, uploaded := readBatch(r)
		change = func() { b.applyClose(key, uploaded) }
	case string(line) == resetLine:
		b.applyReset()
		return nil
	default:
		return errBadRecord
	}
	r.must("}}\n")
	if r.bad || len(r.rest) > 0 {
		return errBadRecord
	}
	change()
	return nil
}

// readBatch reads a line about a batch.
func readBatch(r *lineReader) (key batchKey, place int32, uploaded bool) {
	r.text(`"mid":`, key.mid[:])
	r.text(`,"currency":`, key.cur[:])
	key.number = string(r.quoted(`,"number":`))
	place = int32(r.number(`,"place":`))
	return key, place, r.yes(`,"uploaded":`)
}

// readTxn reads a transaction. What it refers to must be there.
func (b *cardBook) readTxn(r *lineReader) cardTxn {
	t := cardTxn{state: cardApproved, card: -1}
	r.key(&t.key)
	t.origin.mti = t.key.mti
	r.text(`,"mid":`, t.mid[:])
	r.text(`,"stan":`, t.origin.stan[:])
	r.text(`,"at":`, t.origin.at[:])
	t.kind = cardKind(r.number(`,"kind":`))
	r.text(`,"code":`, t.code[:])
	if r.yes(`,"declined":`) {
		t.state = cardDeclined
	}
	if r.skip(`,"auth":`) {
		r.text("", t.auth[:])
	}
	r.text(`,"currency":`, t.cur[:])
	t.askedMinor = r.number(`,"asked_minor":`)
	t.minor = r.number(`,"minor":`)
	if r.skip(`,"card":`) {
		t.card = cardMasked(r.quoted(""))
		r.bad = r.bad || t.card < 0 // It was in a deck of another version.
	}
	if r.skip(`,"token":`) {
		token, err := strconv.ParseUint(string(r.quoted("")), 16, 64)
		t.token, r.bad = token, r.bad || err != nil
	}
	place := cardBehaviourNamed(string(r.quoted(`,"behaviour":`)))
	t.behaviour = uint8(max(place, usualCard))
	t.tries = uint8(r.number(`,"tries":`))
	t.original = int32(r.number(`,"original":`))
	t.atMS = r.number(`,"at_ms":`)
	r.bad = r.bad || place < 0 || t.kind < cardAuthorization || t.kind > cardVoid || t.original < -1 || t.original >= b.count ||
		t.kind == cardVoid && t.state == cardApproved && t.original < 0
	return t
}

// cardMasked finds a card by its masked number, or -1.
func cardMasked(masked []byte) int16 {
	for i := range hostCards {
		if hostCards[i].masked == string(masked) {
			return int16(i)
		}
	}
	return -1
}

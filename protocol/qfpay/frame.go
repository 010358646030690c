package qfpay

import (
	"bytes"
	"encoding/binary"
	"time"
)

// Types of frames (§3.3).
const (
	frameRequest         byte = 0x10
	frameOK              byte = 0x20
	frameUnknownError    byte = 0x30
	frameFormatError     byte = 0x31
	frameValidationError byte = 0x32
	frameDecryptError    byte = 0x33
	frameDataError       byte = 0x34
	frameSplitError      byte = 0x35
)

// Measures of a frame (§3.3).
const (
	frameHeader   = 9
	frameOverhead = 11    // Header and end marker.
	frameDataMax  = 65524 // 65,536 says the document, but the 16 bits of the total length end there.
	framePart     = 1024 - frameOverhead
	numberLast    = 0x7F // Numbers run from 1 to here, and begin again.

	partWait    = 500 * time.Millisecond // Since the last byte; what is incomplete then is dropped.
	droppedLife = 400 * time.Millisecond // How long parts of a dropped message are known for such; a resend comes a second later.
)

var (
	// frameStart is the text /n and the version. Only with the version is it looked for: Base64 holds /n now and then, never the version.
	frameStart = []byte{0x2F, 0x6E, 0x01}
	frameEnd   = []byte{0x2F, 0x6E}
)

// message is what frames carry: one request, answer or error.
type message struct {
	kind   byte // frameRequest, frameOK or an error.
	number byte
	data   []byte
	refuse byte // Not a message at all: the error to answer with. Of those that a deframer returns only.
}

// appendFrame writes one frame, which may be a part of a message of whole bytes.
func appendFrame(b []byte, kind, number byte, part []byte, whole int) []byte {
	b = append(b, frameStart...)
	b = append(b, kind, number)
	b = binary.BigEndian.AppendUint16(b, uint16(len(part)+frameOverhead))
	b = binary.BigEndian.AppendUint16(b, uint16(whole))
	b = append(b, part...)
	return append(b, frameEnd...)
}

// frames writes a message, in parts when it is longer than the recommended 1,024 bytes (QFPay seed, 8). Data above frameDataMax is
// the caller's mistake.
func (m message) frames() []byte {
	var b []byte
	for rest := m.data; ; {
		part := rest[:min(len(rest), framePart)]
		b = appendFrame(b, m.kind, m.number, part, len(m.data))
		if rest = rest[len(part):]; len(rest) == 0 {
			return b
		}
	}
}

// deframer turns bytes into messages. It goes by the lengths and then looks for the end marker, which data may hold too. Whatever comes,
// it finds the next good frame behind it.
type deframer struct {
	buf      []byte
	parts    *message // What came of a split message so far.
	whole    int      // Its full length.
	dropped  byte     // Number of a split message that was given up; 0 for none.
	droppedT time.Time
	last     byte // Number of the last good frame.
	garbage  bool // Between frames there was something else, and it has been complained about.
}

// feed takes bytes and returns the messages that they complete. Faults are among them.
func (d *deframer) feed(now time.Time, b []byte) []message {
	d.buf = append(d.buf, b...)
	var out []message
	for {
		m, more := d.next(now)
		if m != nil {
			out = append(out, *m)
		}
		if !more {
			return out
		}
	}
}

// idle is called after partWait without a byte. What is incomplete is dropped; but a good frame may stand behind a torn one.
func (d *deframer) idle(now time.Time) []message {
	var out []message
	for len(d.buf) > 0 {
		if m := d.skip(1); m != nil {
			out = append(out, *m)
		}
		out = append(out, d.feed(now, nil)...)
	}
	d.drop(now)
	return out
}

// pending reports whether idle has something to do.
func (d *deframer) pending() bool { return len(d.buf) > 0 || d.parts != nil }

func (d *deframer) drop(now time.Time) {
	if d.parts != nil {
		d.dropped, d.droppedT, d.parts = d.parts.number, now, nil
	}
}

// skip steps over n bytes that are no frame, up to the next start. The first of them are complained about: one 31 for each stretch.
func (d *deframer) skip(n int) *message {
	d.buf = d.buf[n:]
	if i := bytes.Index(d.buf, frameStart); i >= 0 {
		d.buf = d.buf[i:]
	} else {
		keep := 0
		for k := 1; k < len(frameStart); k++ {
			if bytes.HasSuffix(d.buf, frameStart[:k]) {
				keep = k
			}
		}
		d.buf = d.buf[len(d.buf)-keep:]
	}
	if d.garbage {
		return nil
	}
	d.garbage = true
	return &message{refuse: frameFormatError, number: max(d.last, 1)}
}

// next reads the frame at the beginning of the buffer. more is false when bytes are missing.
func (d *deframer) next(now time.Time) (m *message, more bool) {
	if n := min(len(d.buf), len(frameStart)); !bytes.Equal(d.buf[:n], frameStart[:n]) {
		return d.skip(1), true
	}
	if len(d.buf) < frameHeader {
		return nil, false
	}
	kind, number := d.buf[3], d.buf[4]
	total, whole := int(binary.BigEndian.Uint16(d.buf[5:])), int(binary.BigEndian.Uint16(d.buf[7:]))
	if !knownFrame(kind) || number < 1 || number > numberLast || total < frameOverhead || total-frameOverhead > whole || whole > frameDataMax ||
		total == frameOverhead && whole > 0 {
		return d.skip(1), true
	}
	if len(d.buf) < total {
		return nil, false
	}
	if !bytes.Equal(d.buf[total-len(frameEnd):total], frameEnd) {
		return d.skip(1), true
	}
	part := bytes.Clone(d.buf[frameHeader : total-len(frameEnd)])
	d.buf = append([]byte(nil), d.buf[total:]...)
	d.last, d.garbage = number, false
	return d.join(now, message{kind: kind, number: number, data: part}, whole), true
}

func knownFrame(kind byte) bool {
	return kind == frameRequest || kind == frameOK || kind >= frameUnknownError && kind <= frameSplitError
}

// join puts the parts of a split message together.
func (d *deframer) join(now time.Time, m message, whole int) *message {
	if d.parts != nil && (d.parts.number != m.number || d.parts.kind != m.kind || d.whole != whole) {
		d.drop(now) // Something else has begun.
	}
	if len(m.data) == whole {
		d.parts = nil
		return &m
	}
	if m.number == d.dropped && now.Sub(d.droppedT) < droppedLife {
		d.droppedT = now
		return &message{refuse: frameSplitError, number: m.number}
	}
	if d.parts == nil {
		d.parts, d.whole = &m, whole
		return nil
	}
	d.parts.data = append(d.parts.data, m.data...)
	if len(d.parts.data) < whole {
		return nil
	}
	joined := d.parts
	d.parts = nil
	if len(joined.data) > whole {
		return &message{refuse: frameSplitError, number: m.number}
	}
	return joined
}

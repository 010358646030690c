package qfpay

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
	"time"
)

// What is read as an object has a canonical form, and is the same after it was written as JSON and read again.
func FuzzObject(f *testing.F) {
	for _, v := range vectors(f, "digest") {
		f.Add(v.wire)
	}
	for _, v := range vectors(f, "request") {
		f.Add(v.wire)
	}
	f.Add(`{"a":"\ud83d\ude00","b":null,c:[1,{d:2}];e=>true}`)
	f.Fuzz(func(t *testing.T, text string) {
		members, err := parseObject(text)
		if err != nil {
			return
		}
		form, err := canonical(members)
		if err != nil {
			return // Something in it is an object or a list.
		}
		for _, m := range members {
			if strings.ContainsAny(m.name, `"\`) || strings.ContainsFunc(m.name, func(r rune) bool { return r < ' ' }) {
				return // The client never writes these.
			}
		}
		again, err := parseObject(string(contentJSON(members)))
		if err != nil {
			if len(text) > payloadMax/2 {
				return // Escapes made it too long.
			}
			t.Fatalf("%s cannot be read again: %v", contentJSON(members), err)
		}
		if got, err := canonical(again); err != nil || got != form {
			t.Fatalf("%q became %q, %v", form, got, err)
		}
		if _, err := decodeContent(members, 0); err != nil {
			return
		}
	})
}

// No body makes the server panic, and nothing but a good digest opens one.
func FuzzEnvelope(f *testing.F) {
	for _, v := range vectors(f, "request") {
		f.Add([]byte(v.wire))
	}
	set := KeySet{Keys: []POSKey{k16, k32}, Encryption: EncryptionAuto}
	f.Fuzz(func(t *testing.T, body []byte) {
		r, fault := set.open(body)
		if (r == nil) == (fault == nil) {
			t.Fatalf("%q: both or neither", body)
		}
		if fault != nil {
			return
		}
		if _, err := canonical(r.members); err != nil {
			t.Fatalf("%q was opened without a canonical form", body)
		}
		if sealed, _ := r.seal(done); len(sealed) == 0 {
			t.Fatal("no answer")
		}
		content, _ := decodeContent(r.members, 0)
		if content.amount.Minor() < 0 || content.amount.Minor() > amountMaxMinor {
			_, err := decodeContent(r.members, 0)
			if err == nil {
				t.Fatalf("%q asks for %s", body, content.amount)
			}
		}
	})
}

// No answer makes the client panic; what is none is told apart.
func FuzzAnswer(f *testing.F) {
	for _, v := range vectors(f, "answer") {
		f.Add([]byte(v.wire))
	}
	f.Add([]byte(`{"respcd":"6000","data":"{\"txamt\":\"1010\"}","respmsg":"","resperr":""}`))
	f.Add([]byte(`{"content":"dsx6meWtsMm1my3UeSf/ddrEp7Rzx2vNN04bS6uikiyM5XNwk2nU6axjrO6hKh8rvuPnL0cPz/5BKZ01vGRx3w=="}`))
	sale := SaleCall{OutTradeNo: "T-0002", Amount: dollars("10.1"), Channel: WeChat}
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := openAnswer(body, []byte(textK16))
		if err != nil {
			return
		}
		if r.Code == "" {
			t.Fatalf("%q is an answer without a code", body)
		}
		if a, err := sale.approval(r); err == nil && (r.Code != CodeOK || a.Amount != sale.Amount) {
			t.Fatalf("%q approves %+v", body, a)
		}
		_, _ = RefundCall{OrderID: "1"}.approval(r)
		_ = refusalOf(r)
	})
}

// However bytes are torn, the same messages come of them; and after a pause the next good frame is found behind anything.
func FuzzFrames(f *testing.F) {
	for _, v := range vectors(f, "frame") {
		b, err := hex.DecodeString(strings.ReplaceAll(v.wire, "\n", ""))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, 3)
		f.Add(append([]byte("noise"), b...), 1)
		f.Add(b[:len(b)/2], 5)
	}
	good := message{kind: frameRequest, number: 42, data: []byte("after the noise")}
	now := time.Unix(0, 0)
	f.Fuzz(func(t *testing.T, b []byte, step int) {
		if len(b) > 1<<16 || step < 1 {
			return
		}
		var whole, torn deframer
		want := whole.feed(now, b)
		var got []message
		for i := 0; i < len(b); i += step {
			got = append(got, torn.feed(now, b[i:min(i+step, len(b))])...)
		}
		if len(got) != len(want) {
			t.Fatalf("%x: %d messages in one piece, %d in steps of %d", b, len(want), len(got), step)
		}
		for i := range want {
			if got[i].kind != want[i].kind || got[i].number != want[i].number || got[i].refuse != want[i].refuse || !bytes.Equal(got[i].data, want[i].data) {
				t.Fatalf("%x: message %d differs", b, i)
			}
			if m := got[i]; m.refuse == 0 {
				var d deframer
				if back := d.feed(now, m.frames()); len(back) != 1 || !bytes.Equal(back[0].data, m.data) || back[0].number != m.number || back[0].kind != m.kind {
					t.Fatalf("%+v is not read again", m)
				}
			}
		}
		torn.idle(now)
		if torn.pending() {
			t.Fatal("something is left after a pause")
		}
		after := torn.feed(now.Add(time.Second), good.frames())
		if len(after) != 1 || after[0].number != good.number || !bytes.Equal(after[0].data, good.data) {
			t.Fatalf("%x: the next frame is not found: %+v", b, after)
		}
	})
}

// The end of a message on TCP is found at the same place however it is torn, and never beyond what came.
func FuzzMessageEnd(f *testing.F) {
	for _, v := range vectors(f, "request") {
		f.Add([]byte(v.wire))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		end := jsonEnd(b)
		if end < 0 || end > len(b) {
			t.Fatalf("%q ends at %d", b, end)
		}
		for i := range end {
			if jsonEnd(b[:i]) != 0 {
				t.Fatalf("%q ends at %d, and %d bytes of it too", b, end, i)
			}
		}
	})
}

package qfpay

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// vector is a file of testdata: a header, an empty line, what stands on the wire.
type vector struct {
	name   string
	header map[string]string
	wire   string
}

func vectors(t testing.TB, kind string) []vector {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	var all []vector
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		head, wire, ok := strings.Cut(string(b), "\n\n")
		if !ok {
			t.Fatalf("%s has no empty line", file)
		}
		v := vector{strings.TrimSuffix(filepath.Base(file), ".txt"), make(map[string]string), strings.TrimSuffix(wire, "\n")}
		for line := range strings.Lines(head) {
			name, text, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
			v.header[name] = text
		}
		if v.header["kind"] == kind {
			all = append(all, v)
		}
	}
	if len(all) == 0 {
		t.Fatalf("no vectors of kind %s", kind)
	}
	return all
}

func TestDigestVectors(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t, "digest") {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			members, err := parseObject(v.wire) // The canonical form is in the lenient grammar itself.
			if err != nil {
				t.Fatal(err)
			}
			got, err := canonical(members)
			if err != nil || got != v.wire {
				t.Errorf("canonical: %q, %v; want %q", got, err, v.wire)
			}
			if d := digest(got, mustKey(v.header["key"])); d != v.header["digest"] {
				t.Errorf("digest: %s, want %s", d, v.header["digest"])
			}
		})
	}
}

func TestRequestVectors(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t, "request") {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			key := mustKey(v.header["key"])
			got, fault := KeySet{Keys: []POSKey{key}, Encryption: EncryptionAuto}.open([]byte(v.wire))
			if want := v.header["expect"]; want != "ok" {
				if fault == nil || string(fault.code) != want {
					t.Errorf("got %v, want a fault with %s", fault, want)
				}
				return
			}
			if fault != nil {
				t.Fatalf("refused: %s", fault.text)
			}
			form, err := canonical(got.members)
			if err != nil || form != v.header["content"] || string(got.form) != v.header["form"] {
				t.Errorf("form %c, content %s, %v; want %s, %s", got.form, form, err, v.header["form"], v.header["content"])
			}
			if mode := v.header["mode"]; mode != "-" && string(got.aesKey) != string(key.aes(KeyMode(mode))) {
				t.Errorf("not decrypted in mode %s", mode)
			}
			if !strings.Contains(v.name, "odoo") && v.name != "request-cancel" && !strings.HasPrefix(v.name, "request-key") {
				return
			}
			back, err := sealRequest(got.form, got.members, key, KeyMode(v.header["mode"]))
			if err != nil || string(back) != v.wire {
				t.Errorf("written again: %s, %v; want %s", back, err, v.wire)
			}
		})
	}
}

func TestAnswerVectors(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t, "answer") {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			key := mustKey(v.header["key"]).aes(KeyMode(v.header["mode"]))
			got, err := openAnswer([]byte(v.wire), key)
			if err != nil || got != done {
				t.Errorf("got %+v, %v; want %+v", got, err, done)
			}
			plain, err := marshal(done)
			if err != nil || string(plain) != v.header["plain"] {
				t.Errorf("plain: %s, %v; want %s", plain, err, v.header["plain"])
			}
			r := &request{form: FormBare, aesKey: key}
			if back, isJSON := r.seal(done); string(back) != v.wire || isJSON {
				t.Errorf("written again: %s; want %s", back, v.wire)
			}
		})
	}
}

func TestFrameVectors(t *testing.T) {
	t.Parallel()
	for _, v := range vectors(t, "frame") {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			wire, err := hex.DecodeString(strings.ReplaceAll(v.wire, "\n", ""))
			if err != nil {
				t.Fatal(err)
			}
			kind, err := hex.DecodeString(v.header["type"])
			if err != nil {
				t.Fatal(err)
			}
			want := []message{{kind: kind[0], number: v.header["number"][0] - '0', data: []byte(v.header["data"])}}
			for _, step := range []int{1, 2, 3, 7, len(wire)} { // However it is torn.
				var d deframer
				var got []message
				for i := 0; i < len(wire); i += step {
					got = append(got, d.feed(time.Time{}, wire[i:min(i+step, len(wire))])...)
				}
				if diff := cmp.Diff(want, got, cmp.AllowUnexported(message{}), cmp.Transformer("data", func(b []byte) string { return string(b) })); diff != "" {
					t.Errorf("in steps of %d (-want +got):\n%s", step, diff)
				}
			}
			if v.name != "frame-split" {
				if back := want[0].frames(); hex.EncodeToString(back) != v.wire {
					t.Errorf("written again: %x; want %s", back, v.wire)
				}
			}
		})
	}
}

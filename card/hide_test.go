package card

import (
	"bytes"
	"encoding/base64"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	canaryPAN    = "5554748800161559"
	canaryPIN    = "302312"
	canaryTrack2 = canaryPAN + "=27072011234567890123"
	canaryTrack1 = "B" + canaryPAN + "^CANARY/BIRD^2707201987654321"
)

// canaries are what may be found nowhere, in the forms in which it might come out: text, hex of the text, base64, lists of bytes. The
// first six and last four digits of a PAN are no secret, so its canary is what lies between.
func canaries() []string {
	var all []string
	for _, s := range []string{"880016", canaryPIN, "11234567890123", "CANARY", "987654321"} {
		all = append(all, s, hex.EncodeToString([]byte(s)), strings.ToUpper(hex.EncodeToString([]byte(s))),
			strings.Trim(fmt.Sprint([]byte(s)), "[]"), strings.Trim(fmt.Sprintf("%#v", []byte(s)), "[]byte{}"),
			base64.StdEncoding.EncodeToString([]byte(s)))
	}
	return all
}

func checkHidden(t *testing.T, how, text string) {
	t.Helper()
	for _, c := range canaries() {
		if strings.Contains(text, c) {
			t.Errorf("%s leaks %q: %s", how, c, text)
		}
	}
}

type exported struct {
	PAN    PAN
	PIN    PIN
	Track1 Track1
	Track2 Track2
}

// nested puts the values where fmt may call methods and where it may not.
type nested struct {
	exported
	pan    PAN
	pin    PIN
	track1 Track1
	track2 Track2
	ptr    *PAN
	list   []Track2
	byKey  map[string]PIN
	any    any
}

func secrets(t *testing.T) (exported, nested) {
	t.Helper()
	pan, err1 := ParsePAN(canaryPAN)
	pin, err2 := ParsePIN(canaryPIN)
	track1, err3 := ParseTrack1(canaryTrack1)
	track2, err4 := ParseTrack2(canaryTrack2)
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	e := exported{pan, pin, track1, track2}
	return e, nested{e, pan, pin, track1, track2, &pan, []Track2{track2}, map[string]PIN{"k": pin}, pan}
}

func TestNoVerbLeaks(t *testing.T) {
	t.Parallel()
	e, n := secrets(t)
	values := map[string]any{
		"PAN": e.PAN, "PIN": e.PIN, "track 1": e.Track1, "track 2": e.Track2,
		"*PAN": &e.PAN, "*PIN": &e.PIN, "*track 1": &e.Track1, "*track 2": &e.Track2,
		"exported": e, "*exported": &e, "nested": n, "*nested": &n, "[]any": []any{e.PAN, e.PIN, n},
		"error": fmt.Errorf("with %v and %w", e.PAN, errors.New(fmt.Sprint(n))),
	}
	for name, v := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%#x", "%d", "%c", "%U", "%b", "%o", "%e", "%t", "%T",
			"%p", "%30v", "%-30s", "%.3s", "%030d", "%!", "%z"} {
			checkHidden(t, name+" "+verb, fmt.Sprintf(verb, v))
		}
		checkHidden(t, name+" Sprint", fmt.Sprint(v))
		checkHidden(t, name+" Sprintln", fmt.Sprintln(v))
	}
}

func TestNoEncoderLeaks(t *testing.T) {
	t.Parallel()
	e, n := secrets(t)
	for name, v := range map[string]any{"PAN": e.PAN, "PIN": e.PIN, "track 1": e.Track1, "track 2": e.Track2, "exported": e, "nested": &n} {
		out, err := json.Marshal(v)
		checkHidden(t, name+" json", fmt.Sprint(string(out), err))
		out, err = xml.Marshal(v)
		checkHidden(t, name+" xml", fmt.Sprint(string(out), err))
		var buf bytes.Buffer
		err = gob.NewEncoder(&buf).Encode(v)
		checkHidden(t, name+" gob", fmt.Sprint(buf.String(), buf.Bytes(), err))
		buf.Reset()
		slog.New(slog.NewTextHandler(&buf, nil)).Info("m", "v", v, slog.Group("g", "v", v))
		slog.New(slog.NewJSONHandler(&buf, nil)).Info("m", "v", v, slog.Group("g", "v", v))
		checkHidden(t, name+" slog", buf.String())
	}
	out, err := json.Marshal(e)
	want := `{"PAN":"555474******1559","PIN":"***","Track1":"***","Track2":"***"}`
	if err != nil || string(out) != want {
		t.Errorf("json: got %s, %v, want %s", out, err, want)
	}
}

// Debuggers' printers walk through unexported fields and follow pointers: nothing that reflection can reach may be the content.
func TestReflectionFindsNothing(t *testing.T) {
	t.Parallel()
	_, n := secrets(t)
	var text strings.Builder
	var walk func(v reflect.Value)
	walk = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.Pointer, reflect.Interface:
			walk(v.Elem())
		case reflect.Struct:
			for i := range v.NumField() {
				walk(v.Field(i))
			}
		case reflect.Slice, reflect.Array:
			for i := range v.Len() {
				walk(v.Index(i))
			}
		case reflect.Map:
			for _, k := range v.MapKeys() {
				walk(v.MapIndex(k))
			}
		case reflect.String:
			text.WriteString(v.String())
		case reflect.Func, reflect.Invalid:
		default:
			fmt.Fprint(&text, v)
		}
	}
	walk(reflect.ValueOf(n))
	checkHidden(t, "reflection", text.String())

	// Two numbers with one mask: go-cmp looks deeper when the texts do not differ.
	other, err := ParsePAN("5554745000021559")
	if err != nil || other.Masked() != n.pan.Masked() {
		t.Fatalf("other number: %v, %v", other, err)
	}
	diff := cmp.Diff(n.exported, exported{PAN: other}, cmp.AllowUnexported(exported{}, PAN{}, PIN{}, Track1{}, Track2{}), cmp.Exporter(func(reflect.Type) bool { return true }))
	if diff == "" {
		t.Error("different values are equal to cmp")
	}
	checkHidden(t, "cmp.Diff", diff)
}

func TestHiddenValuesKeepColumns(t *testing.T) {
	t.Parallel()
	e, _ := secrets(t)
	if got, want := fmt.Sprintf("%-18v|%5v|", e.PAN, e.PIN), "555474******1559  |  ***|"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

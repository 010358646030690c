package payment

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite golden files")

var (
	operationStates = []OperationState{Created, Sent, Waiting, Approved, Declined, Unknown, Reversing, Reversed}
	operationEvents = []OperationEvent{Send, Wait, Approve, Decline, Lose, Undo, Undone}
	paymentStates   = []State{Open, Authorized, Captured, Refused, Expired, Cancelled, Voided}
	paymentEvents   = []Event{Authorize, Capture, Refuse, Cancel, Void, Expire}
)

// Every pair is either in the table or refused with both names; the table has no state or event beyond the lists.
func TestEveryTransition(t *testing.T) {
	t.Parallel()
	for _, s := range operationStates {
		for _, ev := range operationEvents {
			to, err := s.Next(ev)
			want, ok := operationTransitions[s][ev]
			checkTransition(t, string(s), string(ev), string(to), err, string(want), ok)
		}
	}
	for _, s := range paymentStates {
		for _, ev := range paymentEvents {
			to, err := s.Next(ev)
			want, ok := transitions[s][ev]
			checkTransition(t, string(s), string(ev), string(to), err, string(want), ok)
		}
	}
	if len(operationTransitions) != len(operationStates) || len(transitions) != len(paymentStates) {
		t.Error("a table and its list of states differ")
	}
	for s, row := range operationTransitions {
		for ev, to := range row {
			if !slices.Contains(operationEvents, ev) || !slices.Contains(operationStates, to) {
				t.Errorf("%s: %s → %s is not in the lists", s, ev, to)
			}
		}
	}
}

func checkTransition(t *testing.T, from, on, to string, err error, want string, ok bool) {
	t.Helper()
	if ok {
		if err != nil || to != want {
			t.Errorf("%s on %s = %s, %v; want %s", from, on, to, err, want)
		}
		return
	}
	var refused *TransitionError
	if !errors.As(err, &refused) || refused.From != from || refused.On != on || to != from || !errors.Is(err, ErrConflict) {
		t.Errorf("%s on %s = %s, %v; want it refused", from, on, to, err)
	}
}

// Money that moved is never forgotten: what is unknown or approved can only be resolved, and undoing ends only with an acknowledgement.
func TestTablesKeepMoneyInSight(t *testing.T) {
	t.Parallel()
	for ev, to := range operationTransitions[Reversing] {
		if to != Reversing && ev != Undone {
			t.Errorf("reversing ends by %s", ev)
		}
	}
	for ev, to := range operationTransitions[Approved] {
		if to != Approved && ev != Undo {
			t.Errorf("approved ends by %s", ev)
		}
	}
	for _, s := range operationStates {
		if to, ok := operationTransitions[s][Approve]; ok && to != Approved && to != Reversing {
			t.Errorf("%s: an approval leads to %s", s, to)
		}
	}
	for _, kind := range []Kind{Sale, Authorization, CaptureOperation, VoidOperation, Reversal, Refund, CancelOperation, Close} {
		for _, class := range []Class{CardHost, Provider} {
			if remedies[kind][class] == "" {
				t.Errorf("%s over a %s link has no remedy for silence", kind, class)
			}
		}
	}
}

// docs/states.md is drawn from the tables.
func TestStatesAreDrawn(t *testing.T) {
	t.Parallel()
	const path = "../docs/states.md"
	want := drawStates()
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		t.Errorf("%s is not current (%v); run: go test ./payment -run TestStatesAreDrawn -update", path, err)
	}
}

func drawStates() string {
	var b strings.Builder
	b.WriteString("# States\n\nDrawn from the tables in `payment/state.go` and `payment/acquirer.go` by a test; do not edit. A transition that is not here is\nrefused.\n")
	draw := func(title string, states []string, next func(s string) [][2]string) {
		fmt.Fprintf(&b, "\n## %s\n\n```mermaid\nstateDiagram-v2\n", title)
		for _, s := range states {
			for _, e := range next(s) {
				fmt.Fprintf(&b, "    %s --> %s: %s\n", s, e[1], e[0])
			}
		}
		b.WriteString("```\n\n| state | events |\n|---|---|\n")
		for _, s := range states {
			var cells []string
			for _, e := range next(s) {
				cells = append(cells, e[0]+" → "+e[1])
			}
			if cells == nil {
				cells = []string{"(final)"}
			}
			fmt.Fprintf(&b, "| %s | %s |\n", s, strings.Join(cells, ", "))
		}
	}
	draw("A payment", texts(paymentStates), func(s string) (out [][2]string) {
		for _, ev := range paymentEvents {
			if to, ok := transitions[State(s)][ev]; ok {
				out = append(out, [2]string{string(ev), string(to)})
			}
		}
		return out
	})
	draw("An operation (an attempt is a sale or authorize operation)", texts(operationStates), func(s string) (out [][2]string) {
		for _, ev := range operationEvents {
			if to, ok := operationTransitions[OperationState(s)][ev]; ok {
				out = append(out, [2]string{string(ev), string(to)})
			}
		}
		return out
	})
	b.WriteString("\n## What silence is answered with\n\n| operation | card host | wallet or provider |\n|---|---|---|\n")
	for _, k := range []Kind{Sale, Authorization, CaptureOperation, VoidOperation, Reversal, Refund, CancelOperation, Close} {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", k, remedies[k][CardHost], remedies[k][Provider])
	}
	b.WriteString("\n`ask`: query until the payment's lifetime ends, then close it at the acquirer, whose answer decides. `reverse`: reverse until\n" +
		"acknowledged; a card refund is then sent again under a new number, a sale never. `repeat`: the same again, under the same number.\n")
	return b.String()
}

func texts[S ~string](states []S) []string {
	var out []string
	for _, s := range states {
		out = append(out, string(s))
	}
	return out
}

// The comparisons that decide whether a row is written know every field that changes: each field is either compared, or listed here as
// one that never changes after the insert.
func TestComparisonsKnowEveryField(t *testing.T) {
	t.Parallel()
	fixed := map[string][]string{
		"Payment": {"Merchant", "ID", "Version", "Protocol", "Key", "Credential", "Store", "Terminal", "Numbering", "Amount", "Tip", "Method",
			"Flow", "AuthorizeOnly", "Retryable", "Rate", "Calendar", "CreatedAt", "ModifiedAt", "ExpiresAt", "Echo", "Reference"},
		"Operation": {"Merchant", "Payment", "ID", "Version", "Kind", "Target", "Key", "Acquirer", "Amount", "Rest", "CreatedAt", "Echo",
			"Card", "Sealed"},
	}
	check := func(name string, typ reflect.Type, same func(change int) bool) {
		for i := range typ.NumField() {
			if got := same(i); got != slices.Contains(fixed[name], typ.Field(i).Name) {
				t.Errorf("%s.%s: a change goes unseen: %v", name, typ.Field(i).Name, got)
			}
		}
	}
	check("Payment", reflect.TypeFor[Payment](), func(i int) bool {
		var a, b Payment
		touch(reflect.ValueOf(&b).Elem().Field(i))
		return samePayment(&a, &b)
	})
	check("Operation", reflect.TypeFor[Operation](), func(i int) bool {
		var a, b Operation
		touch(reflect.ValueOf(&b).Elem().Field(i))
		return sameOperation(&a, &b)
	})
}

// touch changes a value somewhere inside it.
func touch(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString("x")
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(1)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Slice:
		v.SetBytes([]byte("x"))
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.UnixMilli(1)))
			return
		}
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				touch(v.Field(i))
				return
			}
		}
	default:
		panic("touch " + v.Kind().String())
	}
}

func TestBusinessDay(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, zone string
		cutOff     time.Duration
		at         string
		want       Day
	}{
		{"midnight belongs to the new day", "Australia/Melbourne", 0, "2026-04-13T14:00:00Z", 20260414},
		{"a moment before is the old day", "Australia/Melbourne", 0, "2026-04-13T13:59:59Z", 20260413},
		{"before the cut-off it is still yesterday", "Australia/Melbourne", 4 * time.Hour, "2026-04-13T17:59:59Z", 20260413},
		{"from the cut-off on it is today", "Australia/Melbourne", 4 * time.Hour, "2026-04-13T18:00:00Z", 20260414},
		{"Hong Kong has no summer time", "Asia/Hong_Kong", 0, "2026-07-01T16:00:00Z", 20260702},
	} {
		at, err := time.Parse(time.RFC3339, tc.at)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Calendar{tc.zone, tc.cutOff}.Day(at)
		if err != nil || got != tc.want {
			t.Errorf("%s: %s, %v; want %s", tc.name, got, err, tc.want)
		}
	}
	if _, err := (Calendar{Zone: "Mars/Olympus"}).Day(time.Now()); !errors.Is(err, ErrInvalid) {
		t.Errorf("unknown zone: %v", err)
	}
}

func TestNumbering(t *testing.T) {
	t.Parallel()
	for id, want := range map[ID]string{1: "8010000000000001", 999_999_999_999: "8010999999999999", 1_234_567_890_123: "80101234567890123"} {
		if got := (Numbering{Prefix: "8010", Digits: 12}).Number(id); got != want {
			t.Errorf("number of %d is %s, want %s", id, got, want)
		}
	}
	if got := (Numbering{}).Number(7); got != "7" {
		t.Errorf("number without prefix is %s", got)
	}
}

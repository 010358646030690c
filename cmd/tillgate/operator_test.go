package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
)

// command runs the program once and returns what it printed.
func command(t *testing.T, want int, args ...string) (string, string) {
	t.Helper()
	var out, errs bytes.Buffer
	if code := run(t.Context(), args, noEnv, &out, &errs); code != want {
		t.Fatalf("tillgate %s: exit %d, want %d\n%s%s", strings.Join(args, " "), code, want, &out, &errs)
	}
	return out.String(), errs.String()
}

// An operator's day: each command prints for people, and the same as JSON.
func TestOperatorsCommands(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	do := func(args ...string) string {
		t.Helper()
		out, _ := command(t, exitOK, append(args, "--data", data)...)
		return out
	}
	rows := func(args ...string) []map[string]any {
		t.Helper()
		var list []map[string]any
		if out := do(append(args, "--json")...); json.Unmarshal([]byte(out), &list) != nil {
			t.Fatalf("%v: not a JSON list: %s", args, out)
		}
		return list
	}
	if got := rows("merchant", "list"); len(got) != 0 {
		t.Errorf("a new folder has merchants: %v", got)
	}
	do("merchant", "add", "--id", "740218", "--company", "Harbour Pty Ltd", "--name", "Harbour", "--currency", "aud,NZD")
	do("store", "add", "--merchant", "740218", "--id", "1", "--name", "Geelong", "--zone", "Australia/Melbourne", "--cut-off", "4h")
	do("terminal", "add", "--merchant", "740218", "--store", "1", "--id", "3", "--name", "Till 3")
	do("method", "set", "--merchant", "740218", "--method", "alipay,wechat", "--percent", "1.4", "--fixed", "5")
	first := do("credential", "add", "--merchant", "740218", "--terminal", "3", "--protocol", "upp")
	token := strings.TrimSpace(first[strings.LastIndex(strings.TrimSpace(first), "\n"):])
	if !strings.HasPrefix(token, "upp_") || len(token) < 40 {
		t.Errorf("no token in %q", first)
	}

	for _, tc := range []struct {
		args []string
		want map[string]any
	}{
		{[]string{"merchant", "list"}, map[string]any{"merchant": "740218", "name": "Harbour", "state": "active"}},
		{[]string{"store", "list", "--merchant", "740218"}, map[string]any{"store": "1", "zone": "Australia/Melbourne", "cut_off": "4h0m0s"}},
		{[]string{"terminal", "list", "--merchant", "740218"}, map[string]any{"terminal": "3", "store": "1"}},
		{[]string{"method", "list", "--merchant", "740218"}, map[string]any{"method": "alipay", "fee_millionths": 14000.0, "fee_fixed_minor": 5.0}},
		{[]string{"credential", "list", "--merchant", "740218"}, map[string]any{"protocol": "upp", "terminal": "3", "state": "active"}},
	} {
		got := rows(tc.args...)
		if len(got) == 0 {
			t.Errorf("%v: empty", tc.args)
			continue
		}
		for key, want := range tc.want {
			if got[0][key] != want {
				t.Errorf("%v: %s = %v, want %v", tc.args, key, got[0][key], want)
			}
		}
		if people := do(tc.args...); len(strings.Split(people, "\n")) < 2 || strings.Contains(people, token) {
			t.Errorf("%v for people:\n%s", tc.args, people)
		}
	}

	for _, what := range [][]string{{"credential", "%", "1"}, {"terminal", "%", "3"}, {"store", "%", "1"}} {
		id := what[2]
		if what[0] == "credential" {
			id = strings.Split(strings.Split(do("credential", "list", "--merchant", "740218"), "\n")[1], " ")[0]
		}
		for _, state := range []string{"disable", "enable"} {
			do(what[0], state, "--merchant", "740218", id)
			if got := rows(what[0], "list", "--merchant", "740218")[0]["state"]; got != map[string]string{"disable": "disabled", "enable": "active"}[state] {
				t.Errorf("%s %s: state %v", what[0], state, got)
			}
		}
	}
	do("merchant", "disable", "740218")
	if got := rows("merchant", "list")[0]["state"]; got != "disabled" {
		t.Errorf("merchant disable: state %v", got)
	}
}

// What an operator gets wrong is named, with the remedy.
func TestOperatorsMistakes(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	command(t, exitOK, "merchant", "add", "--id", "740218", "--company", "C", "--name", "N", "--currency", "AUD", "--data", data)
	for _, tc := range []struct {
		name string
		code int
		args []string
		want string
	}{
		{"a merchant that is there already", exitError, []string{"merchant", "add", "--id", "740218", "--company", "C", "--name", "N", "--currency", "AUD"}, "taken"},
		{"a currency that is none", exitError, []string{"merchant", "add", "--id", "740219", "--company", "C", "--name", "N", "--currency", "XYZ"}, "XYZ"},
		{"a merchant that is not there", exitError, []string{"store", "list", "--merchant", "1"}, "tillgate merchant list"},
		{"a zone that is none", exitError, []string{"store", "add", "--merchant", "740218", "--id", "1", "--name", "S", "--zone", "Mars/Olympus"}, "Mars/Olympus"},
		{"a store that is not there", exitError, []string{"terminal", "add", "--merchant", "740218", "--store", "9", "--id", "1", "--name", "T"}, "tillgate store list"},
		{"a terminal that is not there", exitError, []string{"credential", "add", "--merchant", "740218", "--terminal", "9", "--protocol", "upp"}, "tillgate terminal list"},
		{"a credential that is not there", exitError, []string{"credential", "disable", "--merchant", "740218", "9"}, "tillgate credential list"},
		{"a protocol that is none", exitUsage, []string{"credential", "add", "--merchant", "740218", "--terminal", "9", "--protocol", "morse"}, "upp"},
		{"a rate that is none", exitError, []string{"method", "set", "--merchant", "740218", "--method", "alipay", "--percent", "1.23456"}, "--percent"},
		{"a flag that is missing", exitUsage, []string{"merchant", "add", "--id", "1"}, "--company"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, errs := command(t, tc.code, append(tc.args, "--data", data)...)
			if !strings.Contains(errs, tc.want) {
				t.Errorf("says %q, want %q in it", errs, tc.want)
			}
		})
	}
}

func TestHelpTeaches(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{}, {"--help"}, {"dev", "--help"}, {"serve", "--help"}, {"merchant", "--help"}, {"credential", "add", "--help"}} {
		out, _ := command(t, exitOK, args...)
		if !strings.Contains(out, "Usage: tillgate") {
			t.Errorf("%v: %s", args, out)
		}
	}
}

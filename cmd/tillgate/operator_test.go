package main

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
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

// The rows of the protocols with terminals: over the folder, and over a running server's API, which the commands find by themselves.
func TestOperatorsOfTerminals(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	dev := startDev(t, data)
	object := func(args ...string) map[string]any {
		t.Helper()
		out, _ := command(t, exitOK, append(args, "--json", "--data", data)...)
		var row map[string]any
		if json.Unmarshal([]byte(out), &row) != nil {
			t.Fatalf("%v: not a JSON object: %s", args, out)
		}
		return row
	}
	rows := func(args ...string) []map[string]any {
		t.Helper()
		out, _ := command(t, exitOK, append(args, "--json", "--data", data)...)
		var list []map[string]any
		if json.Unmarshal([]byte(out), &list) != nil {
			t.Fatalf("%v: not a JSON list: %s", args, out)
		}
		return list
	}
	code := object("code", "add", "--merchant", "740420", "--store", "1", "--uses", "2", "--for", "1h")["code"].(string)
	if got := rows("code", "list", "--merchant", "740420"); len(got) != 2 || got[1]["code"] != code || got[1]["uses"] != 2.0 || got[0]["no_limit"] != true {
		t.Errorf("codes: %v", got)
	}
	if got := object("code", "end", "--merchant", "740420", code); got["state"] != "expired" {
		t.Errorf("an ended code: %v", got)
	}
	vendor := object("vendor", "add", "--id", "80001111", "--name", "Till Makers", "--app", "1,2")
	if key, ok := vendor["key"].(string); !ok || len(key) != 32 {
		t.Errorf("a vendor's key: %v", vendor)
	}
	if again := object("vendor", "add", "--id", "80001111", "--name", "Till Makers Ltd", "--app", "1"); again["key"] != nil || again["name"] != "Till Makers Ltd" {
		t.Errorf("a vendor that is changed: %v", again)
	}
	if got := rows("vendor", "list"); len(got) != 2 {
		t.Errorf("vendors: %v", got)
	}
	object("settings", "set", "--merchant", "740420", "--protocol", "upay", `{"terminal_key_ttl":"0s"}`)
	if got := object("settings", "show", "--merchant", "740420", "--protocol", "upay"); got["terminal_key_ttl"] != "0s" {
		t.Errorf("settings: %v", got)
	}
	for args, want := range map[string]string{
		`{"terminal_key_tt1":"0s"}`:       "terminal_key_tt1",
		`{"terminal_key_ttl":"a decade"}`: "decade",
	} {
		if _, errs := command(t, exitError, "settings", "set", "--merchant", "740420", "--protocol", "upay", args, "--data", data); !strings.Contains(errs, want) {
			t.Errorf("%s: %s", args, errs)
		}
	}
	client := object("credential", "add", "--merchant", "740319", "--protocol", "uqpay")
	if id, _ := client["client_id"].(string); len(id) != 32 || client["token"] == "" {
		t.Errorf("a client of UQPAY: %v", client)
	}
	hook := object("webhook", "add", "--merchant", "740319", "http://127.0.0.1:9009/hook")
	if secret, _ := hook["secret"].(string); !strings.HasPrefix(secret, "whsec_") {
		t.Errorf("a webhook: %v", hook)
	}
	if got := rows("webhook", "list", "--merchant", "740319"); len(got) != 1 || got[0]["secret"] != nil {
		t.Errorf("webhooks: %v", got)
	}
	object("webhook", "remove", "--merchant", "740319", strconv.FormatInt(int64(hook["id"].(float64)), 10))

	if status, got := dev.call(t, "POST", "/v1/transactions", dev.purchase(t, "in the ledger")); status != http.StatusOK {
		t.Fatalf("%d %v", status, got)
	}
	entries := rows("ledger", "--merchant", "740218")
	if len(entries) != 1 || entries[0]["receivable"].(float64)+entries[0]["payable"].(float64)+entries[0]["fees"].(float64)+entries[0]["tips"].(float64) != 0 {
		t.Errorf("ledger: %v", entries)
	}
	number := entries[0]["payment"].(string)
	for filter, want := range map[string]int{"--payment=" + number: 1, "--payment=9999": 0, "--from=2020-01-01": 1, "--to=2020-01-01": 0} {
		if got := rows("ledger", "--merchant", "740218", filter); len(got) != want {
			t.Errorf("%s: %d entries, want %d", filter, len(got), want)
		}
	}
	if got := rows("ledger", "--merchant", "740218", "--balances"); len(got) != 1 || got[0]["currency"] != "AUD" {
		t.Errorf("balances: %v", got)
	}
	if _, errs := command(t, exitError, "batch", "close", "--merchant", "740218", "--acquirer", "wallet", "--data", data); !strings.Contains(errs, "no batches") {
		t.Errorf("a batch of wallets: %s", errs)
	}

	if out, _ := command(t, exitOK, "sandbox", "reset", "--data", data); !strings.Contains(out, "balances") {
		t.Errorf("sandbox reset: %s", out)
	}

	// A rotation beside the running server: what was sealed before still opens, and so does what is sealed now.
	before := rows("code", "list", "--merchant", "740420")[0]["code"]
	command(t, exitOK, "vault", "rotate", "--data", data)
	later := object("code", "add", "--merchant", "740420", "--store", "1")["code"]
	if got := rows("code", "list", "--merchant", "740420"); got[0]["code"] != before || got[len(got)-1]["code"] != later {
		t.Errorf("codes after a rotation: %v", got)
	}

	// Another operator's machine: by address and token only.
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(dev.info.Admin.Token), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, _ := command(t, exitOK, "merchant", "list", "--server", dev.info.Admin.URL, "--token-file", token); !strings.Contains(out, "740420") {
		t.Errorf("over the network: %s", out)
	}
	if err := os.WriteFile(token, []byte("op_wrong"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, errs := command(t, exitError, "merchant", "list", "--server", dev.info.Admin.URL, "--token-file", token); !strings.Contains(errs, "operator's token") {
		t.Errorf("with a wrong token: %s", errs)
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

// What a command cannot do without a server has no server's log to tell why: the command does.
func TestOperatorsAreToldWhatTheStoreSays(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	command(t, exitOK, "merchant", "add", "--id", "740218", "--company", "C", "--name", "N", "--currency", "AUD", "--data", data)
	db, err := sql.Open("sqlite", filepath.Join(data, "tillgate.db"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("ALTER TABLE merchants RENAME TO lost"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, errs := command(t, exitError, "merchant", "list", "--data", data); !strings.Contains(errs, "no such table: merchants") || !strings.Contains(errs, "the log says why") {
		t.Errorf("says %q", errs)
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

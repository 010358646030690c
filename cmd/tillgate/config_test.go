package main

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestConfiguration(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key := write("key", "secret-key\n")
	file := write("good.toml", "listen = \"127.0.0.1:1\"\n[wallet]\nurl = \"https://w.example/\"\nkey_file = \""+key+"\"\n")
	env := map[string]string{"TILLGATE_LISTEN": "127.0.0.1:2", "TILLGATE_WALLET_TIMEOUT": "3s"}
	cfg, err := loadConfig(file, func(name string) string { return env[name] })
	if err == nil {
		err = cfg.validate()
	}
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Listen != "127.0.0.1:2" || cfg.Wallet.URL != "https://w.example" || cfg.Wallet.key != "secret-key" || cfg.Wallet.timeout != 3*time.Second {
		t.Errorf("the environment over the file over the defaults: %+v", cfg)
	}
	for _, v := range cfg.dump() {
		if text, ok := v.(string); ok && strings.Contains(text, "secret-key") {
			t.Error("the dump holds the key")
		}
	}

	for _, tc := range []struct{ name, file, want string }{
		{"a setting that is none", "colour = \"blue\"", "colour"},
		{"no wallet network", "", "wallet.url"},
		{"no key", "[wallet]\nurl = \"https://w.example\"", "wallet.key_file"},
		{"a key file that is not there", "[wallet]\nurl = \"https://w.example\"\nkey_file = \"/none\"", "wallet.key_file"},
		{"a time that is none", "[wallet]\nurl = \"https://w.example\"\ntimeout = \"soon\"", "wallet.timeout"},
		{"a token service without an address", "[wallet]\nurl = \"https://w.example\"\n[upp]\ncard_tokens = \"cards\"", "upp.card_tokens"},
		{"half of a certificate", "tls_cert = \"x\"\n[wallet]\nurl = \"https://w.example\"", "tls_key"},
		{"a level that is none", "log = \"loud\"", "log"},
		{"not TOML", "listen", "configuration"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg, err := loadConfig(write("bad.toml", tc.file), noEnv)
			if err == nil {
				err = cfg.validate()
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v; want it to name %s", err, tc.want)
			}
		})
	}
}

// Every setting and every variable is explained.
func TestConfigurationIsDocumented(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	var walk func(typ reflect.Type, prefix string)
	walk = func(typ reflect.Type, prefix string) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			switch tag := f.Tag.Get("toml"); {
			case tag == "":
			case f.Type.Kind() == reflect.Struct:
				walk(f.Type, tag+".")
			default:
				names = append(names, prefix+tag)
			}
		}
	}
	walk(reflect.TypeFor[Config](), "")
	for name := range (&Config{}).environment() {
		names = append(names, name)
	}
	for _, name := range names {
		if !strings.Contains(string(page), "`"+name+"`") {
			t.Errorf("docs/configuration.md does not explain %s", name)
		}
	}
}

// Servers that share a database, and hear nothing of each other, let waiters read by themselves.
func TestSignalsOfServersThatShareADatabase(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		what  string
		cfg   Config
		lossy bool
	}{
		{"a data folder", Config{}, false},
		{"a database", Config{Database: "postgres://db/tillgate"}, true},
		{"NATS", Config{Database: "postgres://db/tillgate", SignalsListen: "127.0.0.1:0"}, true},
	} {
		s := &server{tool: &tool{cfg: c.cfg}}
		signals, err := s.signals()
		if err != nil {
			t.Fatal(err)
		}
		if signals.Lossy() != c.lossy {
			t.Errorf("%s: lossy is %t, want %t", c.what, signals.Lossy(), c.lossy)
		}
		for _, release := range slices.Backward(s.release) {
			release()
		}
	}
}

func TestServeRefusesACertificateThatIsNotThere(t *testing.T) {
	t.Parallel()
	s := &server{tool: &tool{cfg: Config{TLSCert: filepath.Join(t.TempDir(), "cert.pem"), TLSKey: "key.pem"}}}
	if err := s.listen(); err == nil || !strings.Contains(err.Error(), "tls_cert") || !strings.Contains(err.Error(), "cert.pem") {
		t.Errorf("got %v", err)
	}
}

package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tillgate/tillgate/device"
)

func TestTerminalRunWithoutAnIdentitySaysWhatToDo(t *testing.T) {
	t.Parallel()
	c := terminalRun{Data: t.TempDir(), Log: "warn"}
	err := c.Run(&env{ctx: t.Context(), stdout: &strings.Builder{}, stderr: &strings.Builder{}})
	if err == nil || !strings.Contains(err.Error(), "tillgate code add --protocol device") {
		t.Errorf("got %v", err)
	}
	c.Server, c.Code = "http://pay.example/terminal", "12345678"
	if err := c.Run(&env{ctx: t.Context(), stdout: &strings.Builder{}, stderr: &strings.Builder{}}); err == nil || !strings.Contains(err.Error(), "use https") {
		t.Errorf("in clear: got %v", err)
	}
}

func TestReadCards(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "dev.json")
	for text, want := range map[string]int{`{"cards":[{"pan":"4761739001010010"}]}`: 1, `[{"pan":"1"},{"pan":"2"}]`: 2, `{}`: 0, `{`: 0} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if list, err := readCards(path); len(list) != want || (err == nil) != (want > 0) {
			t.Errorf("%s: %d cards, %v", text, len(list), err)
		}
	}
}

// The program serves its page and its registers though the server is away, and stops when it is told to.
func TestTerminalProgramWithoutItsServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	text, _ := json.Marshal(map[string]string{"server": "http://127.0.0.1:1", "number": "40000000", "key": strings.Repeat("ab", 16)})
	if err := os.WriteFile(filepath.Join(dir, identityName), text, 0o600); err != nil {
		t.Fatal(err)
	}
	i, err := device.LoadIdentity(filepath.Join(dir, identityName))
	if err != nil {
		t.Fatal(err)
	}
	p, err := newTerminalProgram(terminalSettings{Dir: dir, Identities: []*device.Identity{i}, Customer: "approve", Page: "127.0.0.1:0", Serial: "VT000001",
		ECR: ecrSettings{HTTP: "127.0.0.1:0", TCP: "127.0.0.1:0"}}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- p.run(ctx) }()
	for _, url := range []string{p.pageURL(), address(p.http, "http://") + "/api/pos/trade"} {
		res, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", url, res.Status)
		}
	}
	stop()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("run: %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it does not stop")
	}
}

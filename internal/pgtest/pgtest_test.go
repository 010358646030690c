package pgtest_test

import (
	"bufio"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tillgate/tillgate/internal/pgtest"
)

func ask(t *testing.T, address, question string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context()) //nolint:errcheck // Only the answer matters.
	var answer string
	if err := conn.QueryRow(t.Context(), question).Scan(&answer); err != nil {
		t.Fatal(err)
	}
	return answer
}

func TestDatabases(t *testing.T) {
	t.Parallel()
	a, b := pgtest.URL(t), pgtest.URL(t)
	if a == b {
		t.Errorf("two databases are %s", a)
	}
	const settings = `SELECT concat_ws(' ', current_setting('fsync'), current_setting('synchronous_commit'),
(SELECT datcollate FROM pg_database WHERE datname = current_database()), (SELECT count(*) FROM pg_tables WHERE schemaname = 'public'))`
	if got := ask(t, a, settings); got != "on on C 0" {
		t.Errorf("got %q, want what is safe, C and no tables", got)
	}
}

func TestRestart(t *testing.T) {
	t.Parallel()
	s := pgtest.Dedicated(t)
	address := s.URL(t)
	for _, immediate := range []bool{true, false} {
		s.Stop(t, immediate)
		if conn, err := pgx.Connect(t.Context(), address); err == nil {
			_ = conn.Close(t.Context())
			t.Fatal("connected to a server that is stopped")
		}
		s.Start(t)
		if got := ask(t, address, "SELECT 'up'"); got != "up" {
			t.Errorf("got %q", got)
		}
	}
}

// victim is the environment variable that turns the test binary into one that is killed.
const victim = "PGTEST_VICTIM"

// TestKilled kills a test and looks whether its server goes.
func TestKilled(t *testing.T) {
	if os.Getenv(victim) != "" {
		s := pgtest.Dedicated(t)
		os.Stdout.WriteString("address " + s.URL(t) + "\n")
		select {}
	}
	t.Parallel()
	cmd := exec.Command(os.Args[0], "-test.run=^TestKilled$")
	cmd.Env = append(os.Environ(), victim+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	address := ""
	for lines := bufio.NewScanner(out); address == "" && lines.Scan(); {
		address, _ = strings.CutPrefix(lines.Text(), "address ")
	}
	if address == "" {
		t.Fatal("the victim has said nothing")
	}
	ask(t, address, "SELECT 'up'")
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // Killed.
	config, err := pgx.ParseConfig(address)
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(config.Host); os.IsNotExist(err) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is still there", config.Host)
		}
	}
}

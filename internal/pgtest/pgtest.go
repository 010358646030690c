// Package pgtest gives tests a PostgreSQL: a server of their own, started from the programs that are installed, with an empty database for
// each test. One server serves all tests of a binary; a test that stops its server asks for another one (Dedicated). Servers lie in
// temporary folders, listen on Unix sockets only, and sync to the disk as real ones do.
//
// A server ends with the test binary, however that ends: a watchdog waits on a pipe that the kernel closes.
//
// TILLGATE_TEST_POSTGRES_URL names a server to be used instead, by a user that may create databases. Dedicated servers are started all the
// same.
package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Variable names the environment variable with the address of a server to use.
const Variable = "TILLGATE_TEST_POSTGRES_URL"

const (
	// owner is the superuser of our servers.
	owner = "tillgate"
	// socketPathMax is what fits into a socket's address on every system, less the name that the server adds.
	socketPathMax = 80
	// adminTimeout bounds what is done beside a test, such as making its database.
	adminTimeout = time.Minute
	// connectionsMax leaves room for every store that tests open side by side.
	connectionsMax = 200
)

// shared is the server of this test binary.
var shared = sync.OnceValues(func() (*Server, error) {
	if address := os.Getenv(Variable); address != "" {
		return &Server{admin: address}, nil
	}
	return start()
})

// URL returns the address of a fresh, empty database, which is dropped at the end of the test.
func URL(t testing.TB) string {
	t.Helper()
	s, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	return s.URL(t)
}

// Dedicated starts a server for one test, which may stop and start it.
func Dedicated(t testing.TB) *Server {
	t.Helper()
	s, err := start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.watchdog.Close() })
	return s
}

// Server is a PostgreSQL server.
type Server struct {
	admin    string // Address of a database from which others are made.
	folder   string
	watchdog io.Closer
}

// URL returns the address of a fresh, empty database on this server, which is dropped at the end of the test.
func (s *Server) URL(t testing.TB) string {
	t.Helper()
	name := "tillgate_test_" + strings.ToLower(rand.Text())
	if err := s.exec(`CREATE DATABASE ` + name + ` TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'`); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	t.Cleanup(func() {
		if err := s.exec(`DROP DATABASE ` + name + ` WITH (FORCE)`); err != nil {
			t.Logf("pgtest: %v", err) // The server may have been stopped, and its folder goes.
		}
	})
	u, err := url.Parse(s.admin)
	if err != nil {
		t.Fatalf("pgtest: %s is not an address", Variable)
	}
	u.Path = "/" + name
	return u.String()
}

// Exec runs statements as the server's owner, outside every test's database.
func (s *Server) Exec(t testing.TB, sql string) {
	t.Helper()
	if err := s.exec(sql); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
}

func (s *Server) exec(sql string) error {
	ctx, cancel := context.WithTimeout(context.Background(), adminTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.admin)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, sql)
	return errors.Join(err, conn.Close(ctx))
}

// Stop stops a dedicated server: at once, as a crash does, or after telling its clients.
func (s *Server) Stop(t testing.TB, immediate bool) {
	t.Helper()
	mode := "fast"
	if immediate {
		mode = "immediate"
	}
	if err := run("pg_ctl", "stop", "-w", "-m", mode, "-D", s.data()); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
}

// Start starts a dedicated server again.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	if err := s.start(); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
}

// Standby makes a dedicated server one that only recovers and is read, as a replica is.
func (s *Server) Standby(t testing.TB) {
	t.Helper()
	s.Stop(t, false)
	if err := os.WriteFile(filepath.Join(s.data(), "standby.signal"), nil, 0o644); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	s.Start(t)
}

// Program runs one of PostgreSQL's programs, such as pgbench, and returns what it prints.
func Program(name string, args ...string) (string, error) {
	path, err := find(name)
	if err != nil {
		return "", err
	}
	cmd := exec.Command(path, args...)
	cmd.Dir = os.TempDir()
	if err := unprivileged(cmd); err != nil {
		return "", err
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", name, err, out)
	}
	return string(out), err
}

func (s *Server) data() string { return filepath.Join(s.folder, "data") }
func (s *Server) log() string  { return filepath.Join(s.folder, "log") }

// start makes a server in a new folder and starts it.
func start() (_ *Server, err error) {
	initdb, err := find("initdb")
	if err != nil {
		return nil, err
	}
	parent := os.TempDir()
	if len(parent) > socketPathMax/2 {
		parent = "/tmp"
	}
	folder, err := os.MkdirTemp(parent, "pgtest-")
	if err != nil {
		return nil, fmt.Errorf("pgtest: %w", err)
	}
	s := &Server{folder: folder, admin: (&url.URL{Scheme: "postgres", User: url.User(owner), Path: "/postgres",
		RawQuery: url.Values{"host": {folder}, "sslmode": {"disable"}}.Encode()}).String()}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("pgtest: %w", err), os.RemoveAll(folder))
		}
	}()
	if id, ok, err := account(); err != nil {
		return nil, err
	} else if ok {
		if err := os.Chown(folder, int(id.Uid), int(id.Gid)); err != nil {
			return nil, err
		}
	}
	if err := run(initdb, "-D", s.data(), "-U", owner, "-E", "UTF8", "--locale=C", "--auth=trust", "--no-instructions"); err != nil {
		return nil, err
	}
	if err := s.watch(); err != nil {
		return nil, err
	}
	if err := s.start(); err != nil {
		return nil, errors.Join(err, s.watchdog.Close())
	}
	return s, nil
}

func (s *Server) start() error {
	options := fmt.Sprintf("-c listen_addresses='' -c unix_socket_directories='%s' -c max_connections=%d", s.folder, connectionsMax)
	err := run("pg_ctl", "start", "-w", "-D", s.data(), "-l", s.log(), "-o", options)
	if err != nil {
		said, _ := os.ReadFile(s.log())
		err = fmt.Errorf("%w\n%s", err, said)
	}
	return err
}

// watch starts the process that stops the server and removes its folder when this one has ended, or closes the watchdog.
func (s *Server) watch() error {
	ctl, err := find("pg_ctl")
	if err != nil {
		return err
	}
	const script = `trap '' INT TERM HUP; cat >/dev/null; "$1" stop -m immediate -D "$2/data"; rm -rf "$2"`
	cmd := exec.Command("/bin/sh", "-c", script, "watchdog", ctl, s.folder)
	cmd.Dir = "/"
	if err := unprivileged(cmd); err != nil {
		return err
	}
	cmd.SysProcAttr.Setsid = true // An interrupt at the terminal is meant for the test.
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	s.watchdog = closer(func() error { return errors.Join(in.Close(), cmd.Wait()) })
	return nil
}

type closer func() error

// Close calls the function.
func (c closer) Close() error { return c() }

// run runs one of PostgreSQL's programs, by name or path, for at most a minute.
func run(name string, args ...string) error {
	path, err := find(name)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), adminTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir = "/" // Where the tests run may be closed to the account that the server runs under.
	if err := unprivileged(cmd); err != nil {
		return err
	}
	if filepath.Base(path) == "pg_ctl" && args[0] == "start" {
		// The server would keep a pipe open for as long as it lives, and what it says is in its log.
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s %s: %w", path, strings.Join(args, " "), err)
		}
		return nil
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", path, strings.Join(args, " "), err, out)
	}
	return nil
}

// find looks for a program in PATH and where Debian puts it, the newest version first.
func find(name string) (string, error) {
	if filepath.IsAbs(name) {
		return name, nil
	}
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	paths, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name) // The pattern is a good one.
	if len(paths) == 0 {
		return "", fmt.Errorf("pgtest: %s is not installed: install the PostgreSQL server (Debian: apt-get install postgresql), "+
			"or name one that may be used in %s, such as postgres://user:password@host/postgres", name, Variable)
	}
	slices.SortFunc(paths, func(a, b string) int { return version(b) - version(a) })
	return paths[0], nil
}

func version(path string) int {
	n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path)))) // Odd names come last.
	return n
}

// account is whom servers run under when the tests run as root, which PostgreSQL refuses.
func account() (*syscall.Credential, bool, error) {
	if os.Geteuid() != 0 {
		return nil, false, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
		if uidErr == nil && gidErr == nil {
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, true, nil
		}
	}
	return nil, false, errors.New("PostgreSQL does not run as root, and there is no account postgres or nobody: run the tests as another user")
}

// unprivileged makes a command run under account.
func unprivileged(cmd *exec.Cmd) error {
	id, ok, err := account()
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	if ok {
		cmd.SysProcAttr.Credential = id
	}
	return err
}

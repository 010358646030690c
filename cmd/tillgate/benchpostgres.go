package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// adminTime bounds what is asked of PostgreSQL beside the load, such as making a database; dropping a large one syncs the disk.
	adminTime = time.Minute

	pgbenchScale   = 16 // Every transaction changes one of so many branches: with fewer than clients, they mostly wait for each other.
	pgbenchClients = 16
	pgbenchThreads = 2
	// pgbenchFill bounds how long its tables are filled.
	pgbenchFill = 5 * time.Minute
	// pgbenchStart is what it may take to connect and to end, beside the measured time.
	pgbenchStart = time.Minute
)

// errDatabase names no part of the address, which may hold a password.
var errDatabase = errors.New("--database: is no address of a PostgreSQL server: want one such as postgres://user:password@host:5432/postgres")

// databaseURL is the address of another database on the same server. It is added to the end, where it overrides what the address names,
// because only the driver reads all forms of an address alike: several hosts, sockets, passwords with any letters.
func databaseURL(server, name string) (string, error) {
	address := server + " dbname=" + name
	for _, scheme := range []string{"postgres://", "postgresql://"} {
		rest, ok := strings.CutPrefix(server, scheme)
		if !ok {
			continue
		}
		if i := strings.IndexAny(rest, "@/"); i >= 0 && rest[i] == '@' { // A password may hold a question mark.
			rest = rest[i+1:]
		}
		separator := "?"
		if strings.Contains(rest, "?") {
			separator = "&"
		}
		if strings.HasSuffix(rest, "?") || strings.HasSuffix(rest, "&") {
			separator = ""
		}
		address = server + separator + "dbname=" + name
	}
	c, err := pgconn.ParseConfig(address)
	if err != nil || c.Database != name {
		return "", errDatabase
	}
	return address, nil
}

// askPostgres runs one statement and returns the first value of its answer.
func askPostgres(ctx context.Context, address, sql string) (answer string, err error) {
	ctx, cancel := context.WithTimeout(ctx, adminTime)
	defer cancel()
	config, err := pgconn.ParseConfig(address)
	if err != nil {
		return "", errDatabase
	}
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return "", fmt.Errorf("--database: %w", err) // It names the host, the user and the database only.
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return "", fmt.Errorf("--database: %w", err)
	}
	if len(results) > 0 && len(results[0].Rows) > 0 {
		answer = string(results[0].Rows[0][0])
	}
	return answer, nil
}

// makeDatabase makes an empty database on the server and returns its address. Whoever has it drops it.
func (b *bench) makeDatabase(ctx context.Context) (address string, drop func() error, err error) {
	name := "tillgate_bench_" + strings.ToLower(rand.Text())
	if address, err = databaseURL(b.Database, name); err != nil {
		return "", nil, err
	}
	if _, err := askPostgres(ctx, b.Database, "CREATE DATABASE "+name+" TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'"); err != nil {
		return "", nil, err
	}
	return address, func() error {
		// One that is interrupted leaves nothing behind either.
		if _, err := askPostgres(context.WithoutCancel(ctx), b.Database, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			return fmt.Errorf("database %s is left behind: %w", name, err)
		}
		return nil
	}, nil
}

// databaseBytes is the size of a database's tables and indexes. The log that is written ahead belongs to the whole server.
func databaseBytes(ctx context.Context, address string) (int64, error) {
	text, err := askPostgres(ctx, address, "SELECT pg_database_size(current_database())")
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(text, 10, 64)
}

// findPgbench looks in PATH and where Debian puts PostgreSQL's programs, the newest version first.
func findPgbench() (string, error) {
	if path, err := exec.LookPath("pgbench"); err == nil {
		return path, nil
	}
	paths, _ := filepath.Glob("/usr/lib/postgresql/*/bin/pgbench") // The pattern is a good one.
	if len(paths) == 0 {
		return "", errors.New("--pgbench: the program pgbench is neither in PATH nor in /usr/lib/postgresql/*/bin: " +
			"install it (Debian: apt-get install postgresql), or measure without --pgbench")
	}
	version := func(path string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path)))) // Odd names come last.
		return n
	}
	return slices.MaxFunc(paths, func(a, b string) int { return version(a) - version(b) }), nil
}

// benchPgbench is what PostgreSQL's own bench makes of the same server.
type benchPgbench struct {
	Scale     int     `json:"scale"`
	Clients   int     `json:"clients"`
	Seconds   int     `json:"seconds"`
	PerSecond float64 `json:"transactions_per_second"`
	Ratio     float64 `json:"ratio"` // Payments a second of the server, of these.
}

// pgbench measures the server with PostgreSQL's own bench, in a database of its own: its usual transaction, which changes four rows and
// commits.
func (b *bench) pgbench(ctx context.Context) (_ *benchPgbench, err error) {
	address, drop, err := b.makeDatabase(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, drop()) }()
	fill, cancel := context.WithTimeout(ctx, pgbenchFill)
	defer cancel()
	if _, err := b.runPgbench(fill, address, "-i", "-q", "-s", strconv.Itoa(pgbenchScale)); err != nil {
		return nil, err
	}
	r := &benchPgbench{Scale: pgbenchScale, Clients: pgbenchClients, Seconds: int(math.Ceil(b.Duration.Seconds()))}
	load, cancel := context.WithTimeout(ctx, time.Duration(r.Seconds)*time.Second+pgbenchStart)
	defer cancel()
	out, err := b.runPgbench(load, address, "-c", strconv.Itoa(r.Clients), "-j", strconv.Itoa(pgbenchThreads), "-T", strconv.Itoa(r.Seconds), "-M", "prepared")
	if err != nil {
		return nil, err
	}
	r.PerSecond, err = pgbenchRate(out)
	return r, err
}

// runPgbench tells the address through the environment: everybody may read a process's arguments.
func (b *bench) runPgbench(ctx context.Context, address string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, b.pgbenchProgram, args...)
	cmd.Env, cmd.SysProcAttr = append(os.Environ(), "PGDATABASE="+address, "LC_ALL=C"), dieWithUs()
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if err != nil { // Old versions name the database with all of its address.
		said := strings.ReplaceAll(string(out), address, "the database")
		return "", fmt.Errorf("%w\n%s", err, said[max(0, len(said)-logTail):])
	}
	return string(out), nil
}

// pgbenchRate reads the last rate that pgbench prints: the one without the time that connections took.
func pgbenchRate(out string) (float64, error) {
	const mark = "tps = "
	_, last, _ := strings.Cut(out[max(0, strings.LastIndex(out, mark)):], mark)
	text, _, _ := strings.Cut(last, " ")
	rate, err := strconv.ParseFloat(text, 64)
	if err != nil || rate <= 0 {
		return 0, fmt.Errorf("it tells no rate:\n%s", out[max(0, len(out)-logTail):])
	}
	return rate, nil
}

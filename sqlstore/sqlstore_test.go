package sqlstore

import (
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tillgate/tillgate/sqlstore/storetest"
)

var update = flag.Bool("update", false, "rewrite schema.sql")

// setup opens a store in a folder of its own.
func setup(t *testing.T) *Store {
	t.Helper()
	return openAt(t, t.TempDir(), false)
}

func openAt(t *testing.T, dir string, tool bool) *Store {
	t.Helper()
	s, err := Open(t.Context(), Config{Dir: dir, Tool: tool, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

// texts gathers the statements that stores have prepared.
type texts struct {
	mu    sync.Mutex
	conns []*sqliteConn
}

// watch records the connections of a store that has not been used yet.
func (x *texts) watch(s *Store) {
	e := s.engine.(*sqliteEngine)
	record := func(connect func() (*sqliteConn, error)) func() (*sqliteConn, error) {
		return func() (*sqliteConn, error) {
			c, err := connect()
			x.mu.Lock()
			defer x.mu.Unlock()
			if err == nil {
				x.conns = append(x.conns, c)
			}
			return c, err
		}
	}
	e.connect, e.writer.connect = record(e.connect), record(e.writer.connect)
}

func TestContract(t *testing.T) {
	t.Parallel()
	var prepared texts
	t.Run("engine", func(t *testing.T) {
		storetest.Run(t, func(t *testing.T) func() storetest.Store {
			dir := t.TempDir()
			return func() storetest.Store {
				s, err := Open(t.Context(), Config{Dir: dir, Now: time.Now})
				if err != nil {
					t.Fatal(err)
				}
				prepared.watch(s)
				return s
			}
		})
	})
	// Whatever the contract makes a store say is said for one merchant, or says that it is for every one.
	names := regexp.MustCompile(`\bmerchant_id\b`)
	seen := 0
	for _, c := range prepared.conns {
		for text := range c.stmts {
			verb, _, _ := strings.Cut(text, " ")
			if !slices.Contains([]string{"SELECT", "INSERT", "UPDATE", "DELETE", "--"}, verb) {
				continue
			}
			seen++
			if !names.MatchString(text) && !strings.HasPrefix(text, "-- every merchant\n") {
				t.Errorf("statement names no merchant:\n%s", text)
			}
		}
	}
	if seen == 0 {
		t.Error("no statement was seen")
	}
}

// schema is what the migrations make of an empty database.
func schema(t *testing.T) string {
	t.Helper()
	s := setup(t)
	var b strings.Builder
	b.WriteString("-- Made from migrations/ by go test -run Schema -update; read it, do not edit it.\n")
	err := s.read(t.Context(), func(r *reader) error {
		return r.query(func(r *row) error {
			b.WriteString("\n" + r.text() + ";\n")
			return nil
		}, `SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND tbl_name NOT LIKE 'sqlite_%' AND tbl_name <> $1 ORDER BY tbl_name, type DESC, name`,
			versionTable)
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestSchemaIsCurrent(t *testing.T) {
	t.Parallel()
	got := schema(t)
	const file = "schema.sql"
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("%s is not current; run with -update (-want +got):\n%s", file, d)
	}
	if regexp.MustCompile(`(?i)\b(INTEGER|INT|BOOLEAN|BLOB|REAL|TIMESTAMP|AUTOINCREMENT)\b`).MatchString(got) {
		t.Error("the schema has types that do not mean the same to both engines")
	}
}

// TestStatesAreTheCores compares the CHECK lists with the core's constants and with its tables of transitions.
func TestStatesAreTheCores(t *testing.T) {
	t.Parallel()
	constants, tables := coreStates(t)
	text := schema(t)
	list := func(table, column string) []string {
		_, rest, _ := strings.Cut(text, "CREATE TABLE "+table+" (")
		m := regexp.MustCompile(`CHECK \((` + column + ` = [^)]*)\)`).FindStringSubmatch(rest)
		if m == nil {
			t.Fatalf("%s has no CHECK of %s", table, column)
		}
		var values []string
		for part := range strings.SplitSeq(m[1], " OR") {
			values = append(values, strings.Trim(strings.TrimPrefix(strings.TrimSpace(part), column+" = "), "'"))
		}
		slices.Sort(values)
		return values
	}
	for _, tt := range []struct{ table, column, typ, machine string }{
		{"payments", "state", "State", "transitions"},
		{"later_operations", "state", "OperationState", "operationTransitions"},
		{"later_operations", "kind", "Kind", ""},
	} {
		var want []string
		for name, c := range constants {
			if c.typ == tt.typ {
				want = append(want, c.value)
				if tt.machine != "" && !slices.Contains(tables[tt.machine], name) {
					t.Errorf("%s is not in the table %s", name, tt.machine)
				}
			}
		}
		slices.Sort(want)
		if d := cmp.Diff(want, list(tt.table, tt.column)); d != "" {
			t.Errorf("%s.%s and the constants of %s (-want +got):\n%s", tt.table, tt.column, tt.typ, d)
		}
	}
}

type constant struct{ typ, value string }

// coreStates reads the core's source: its typed constants by name, and the keys of its tables.
func coreStates(t *testing.T) (map[string]constant, map[string][]string) {
	t.Helper()
	files, err := filepath.Glob("../payment/*.go")
	if err != nil || len(files) == 0 {
		t.Fatalf("source of the core: %v, %v", files, err)
	}
	constants, tables := map[string]constant{}, map[string][]string{}
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Values) != 1 {
				return true
			}
			switch v := spec.Values[0].(type) {
			case *ast.BasicLit:
				if typ, ok := spec.Type.(*ast.Ident); ok && v.Kind == token.STRING {
					value, _ := strconv.Unquote(v.Value)
					constants[spec.Names[0].Name] = constant{typ.Name, value}
				}
			case *ast.CompositeLit:
				for _, e := range v.Elts {
					if kv, ok := e.(*ast.KeyValueExpr); ok {
						if key, ok := kv.Key.(*ast.Ident); ok {
							tables[spec.Names[0].Name] = append(tables[spec.Names[0].Name], key.Name)
						}
					}
				}
			}
			return true
		})
	}
	return constants, tables
}

func TestConfigNamesTheField(t *testing.T) {
	t.Parallel()
	for field, cfg := range map[string]Config{"dir": {Now: time.Now}, "now": {Dir: t.TempDir()}} {
		_, err := Open(t.Context(), cfg)
		if err == nil || !strings.Contains(err.Error(), field+":") {
			t.Errorf("got error %v, want one of %s", err, field)
		}
	}
}

// TestNewerDatabase opens a database that a later program has migrated further.
func TestNewerDatabase(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := openAt(t, dir, false)
	err := s.write(t.Context(), func(tx *txn) error {
		_, err := tx.exec(`INSERT INTO schema_versions (version_id, is_applied) VALUES (9999, 1)`)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := openAt(t, dir, false).Check(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestPrivate checks that nobody else on the host can read the database or the files beside it.
func TestPrivate(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "made")
	s := openAt(t, dir, false)
	if err := s.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) < 4 {
		t.Fatalf("got %v, %v, want the database, its log and the locks", entries, err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %o", e.Name(), info.Mode().Perm())
		}
	}
}

// TestOwedWorkIsIndexed checks that what runs over every merchant reads what is owed and nothing else, however many rows there are.
func TestOwedWorkIsIndexed(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for _, text := range slices.Concat(dueParts, nextParts, s.leases.release, hasten, []string{listHeld, countOwed}) {
		plan := ""
		err := s.read(t.Context(), func(r *reader) error {
			return r.query(func(r *row) error {
				r.next = 3
				plan += r.text() + "\n"
				return nil
			}, "EXPLAIN QUERY PLAN "+text, make([]any, strings.Count(text, "$"))...)
		})
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(plan) {
			// All payments stay in the index of their terms.
			if regexp.MustCompile(`(SEARCH|SCAN) (payments|later_operations)`).MatchString(line) &&
				!regexp.MustCompile(` USING (COVERING )?INDEX (\w+_due\b|payments_first_term \(first_term=)`).MatchString(line) {
				t.Errorf("%s\nruns as\n%s", text, plan)
			}
		}
	}
}

// TestStoppedTool holds the turn and never gives it back, as a command does that has been stopped.
func TestStoppedTool(t *testing.T) {
	t.Parallel()
	s := setup(t)
	e := engineOf(s)
	other, err := openLock(e.turn.file.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer other.close() //nolint:errcheck // Only the lock matters.
	if ok, err := other.try(); !ok || err != nil {
		t.Fatalf("lock: %t, %v", ok, err)
	}
	for range 3 {
		if err := s.Check(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if !e.writer.overstayed {
		t.Error("the writer did not wait")
	}
	other.release()
	wantNone(t, s.Check(t.Context()))
	if e.writer.overstayed {
		t.Error("the writer did not see that the turn is free")
	}
}

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/tillgate/tillgate/internal/pgtest"
	"github.com/tillgate/tillgate/protocol/upp"
)

// TestBench runs the real thing, only shorter, and looks at its report. It says nothing about speed.
func TestBench(t *testing.T) {
	t.Parallel()
	binary, err := faultBinary()
	if err != nil {
		t.Fatal(err)
	}
	data := t.TempDir()
	cmd := exec.Command(binary, "bench", "upp", "--tills", "3", "--merchants", "2", "--duration", "1s", "--polls", "7", "--stored", "1500", "--data", data, "--json")
	cmd.Env = append(os.Environ(), "TILLGATE_SECRET=/nowhere", "TILLGATE_TLS_CERT=/nowhere") // Of a server beside it, which is none of its business.
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, errs.String())
	}
	if errs.Len() > 0 {
		t.Errorf("beside the report it said: %s", errs.String())
	}
	var r benchReport
	in := json.NewDecoder(&out)
	in.DisallowUnknownFields()
	if err := in.Decode(&r); err != nil {
		t.Fatal(err)
	}
	if r.Tills != 3 || r.Merchants != 2 || r.Seconds != 1 || r.WarmUpSeconds != 1 || r.Machine.Processors < 1 || r.Machine.SyncMS <= 0 || r.Time.IsZero() {
		t.Errorf("it does not say what was measured: %+v", r)
	}
	if r.Polled == nil {
		t.Fatal("the round with polls is missing")
	}
	for _, round := range r.rounds() {
		checkRound(t, round.name, round.round)
	}
	checkServer(t, "serve", &r.Serve)
	checkServer(t, "with polls", r.Polled)
	if p := r.Polled.Polls; p == nil || p.Count != 7 || p.Errors != 0 || p.ResidentBefore <= 0 || p.ResidentAfter <= 0 {
		t.Errorf("polls: %+v", p)
	}
	if r.Full == nil || r.Full.Stored != 1500 {
		t.Fatalf("the round with stored payments is missing: %+v", r.Full)
	}
	if r.Ratio <= 0 || r.PolledRatio <= 0 || r.FullRatio <= 0 || r.FullP99Ratio <= 0 {
		t.Errorf("ratios: %v, %v, %v, %v", r.Ratio, r.PolledRatio, r.FullRatio, r.FullP99Ratio)
	}
	if left, err := os.ReadDir(data); err != nil || len(left) > 0 {
		t.Errorf("it left %v behind (%v)", left, err)
	}
	var text bytes.Buffer
	if err := r.print(&text); err != nil || !strings.Contains(text.String(), "nothing is owed") {
		t.Errorf("as text (%v):\n%s", err, text.String())
	}
}

// TestBenchTerminals runs the benches whose tills are terminals.
func TestBenchTerminals(t *testing.T) {
	t.Parallel()
	binary, err := faultBinary()
	if err != nil {
		t.Fatal(err)
	}
	for _, protocol := range []string{"upay", "uqpay"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(binary, "bench", protocol, "--tills", "3", "--merchants", "2", "--duration", "500ms", "--data", t.TempDir(), "--json")
			var out, errs bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &errs
			if err := cmd.Run(); err != nil || errs.Len() > 0 {
				t.Fatalf("%v\n%s", err, errs.String())
			}
			var r benchReport
			if err := json.Unmarshal(out.Bytes(), &r); err != nil {
				t.Fatal(err)
			}
			if r.Protocol != protocol || r.UPP == nil || r.Stub != nil || r.UPPRatio <= 0 {
				t.Errorf("it does not say what was measured: %+v", r)
			}
			for _, round := range r.rounds() {
				checkRound(t, round.name, round.round)
				checkServer(t, round.name, round.round)
			}
			var text bytes.Buffer
			if err := r.print(&text); err != nil || !strings.Contains(text.String(), "nothing is owed") {
				t.Errorf("as text (%v):\n%s", err, text.String())
			}
		})
	}
}

// TestBenchPostgres is TestBench on PostgreSQL. It leaves no database behind, and tells nobody the address.
func TestBenchPostgres(t *testing.T) {
	t.Parallel()
	binary, err := faultBinary()
	if err != nil {
		t.Fatal(err)
	}
	address, err := url.Parse(pgtest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	password, ok := address.User.Password()
	if !ok { // Our own servers trust everybody.
		password = "not-to-be-told"
		address.User = url.UserPassword(address.User.Username(), password)
	}
	server := address.String()
	before := benchDatabases(t, server)
	cmd := exec.Command(binary, "bench", "upp", "--tills", "3", "--merchants", "2", "--duration", "1s", "--data", t.TempDir(), "--json",
		"--database", server)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil || errs.Len() > 0 {
		t.Fatalf("%v\n%s", err, errs.String())
	}
	if strings.Contains(out.String(), password) {
		t.Errorf("it tells the password: %s", out.String())
	}
	var r benchReport
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	for _, round := range r.rounds() {
		checkRound(t, round.name, round.round)
	}
	checkServer(t, "serve", &r.Serve)
	if r.Machine.Postgres == "" || r.Ratio <= 0 || r.Pgbench != nil {
		t.Errorf("it does not say what was measured: %+v", r)
	}
	if after := benchDatabases(t, server); after != before {
		t.Errorf("databases %q before, %q after", before, after)
	}
}

// benchDatabases lists the databases that benches have made.
func benchDatabases(t *testing.T, server string) string {
	t.Helper()
	names, err := askPostgres(t.Context(), server, `SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database WHERE datname LIKE 'tillgate_bench_%'`)
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// TestBenchDatabaseURL holds that every form of an address leads to another database on the same server, and that no error shows one.
func TestBenchDatabaseURL(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ server, host, password string }{
		{"postgres://a@h", "h", ""},
		{"postgres://a:p@h:5433/other", "h", "p"},
		{"postgresql://a:p?q@h/other", "h", "p?q"},
		{"postgres://a@/other?host=/run/x&sslmode=disable", "/run/x", ""},
		{"postgres://a@h/other?", "h", ""},
		{"postgres://a@h/other?dbname=third&", "h", ""},
		{"postgres://a:p@h,i/other", "h", "p"},
		{"host=h user=a password='p q' dbname=other", "h", "p q"},
	} {
		address, err := databaseURL(tt.server, "fresh")
		if err != nil {
			t.Errorf("%s: %v", tt.server, err)
			continue
		}
		if c, err := pgconn.ParseConfig(address); err != nil || c.Database != "fresh" || c.Host != tt.host || c.Password != tt.password || c.User != "a" {
			t.Errorf("%s became %s: %v", tt.server, address, err)
		}
	}
	for _, wrong := range []string{"postgres://a:secret@h:port/x", "secret", "mysql://a:secret@h/x", "postgres://a:sec%ret@h/x"} {
		if _, err := databaseURL(wrong, "fresh"); err == nil || strings.Contains(err.Error(), "sec") {
			t.Errorf("%s: %v", wrong, err)
		}
	}
}

func TestBenchPgbenchRate(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		out  string
		want float64 // 0 is an error.
	}{
		{"latency average = 8.1 ms\ninitial connection time = 21.0 ms\ntps = 1972.25 (without initial connection time)\n", 1972.25},
		{"tps = 90.5 (including connections establishing)\ntps = 91.5 (excluding connections establishing)\n", 91.5},
		{"tps = 0.000000 (without initial connection time)\n", 0},
		{"pgbench: error\n", 0},
		{"", 0},
	} {
		if got, err := pgbenchRate(tt.out); got != tt.want || (err == nil) != (tt.want != 0) {
			t.Errorf("%q: got %g, %v", tt.out, got, err)
		}
	}
}

// checkRound holds what every round must have found.
func checkRound(t *testing.T, name string, r *benchRound) {
	t.Helper()
	if r.Errors != 0 || r.FirstError != "" || len(r.Books.Problems) > 0 {
		t.Errorf("%s: something failed: %+v", name, r)
	}
	if r.Payments < 1 || r.PerSecond <= 0 || int64(r.Approved) < r.Payments || r.Books.Movements != r.Approved {
		t.Errorf("%s: %d payments at %g a second, %d approved, %d movements", name, r.Payments, r.PerSecond, r.Approved, r.Books.Movements)
	}
	if r.P50MS <= 0 || !slices.IsSorted([]float64{r.P50MS, r.P99MS, r.P999MS, r.MaxMS}) {
		t.Errorf("%s: latencies: %g %g %g %g", name, r.P50MS, r.P99MS, r.P999MS, r.MaxMS)
	}
	if c := r.CPU; c.Server <= 0 || c.Sandbox <= 0 || c.Load <= 0 || c.ServerEach <= 0 || c.SandboxEach <= 0 || c.LoadEach <= 0 {
		t.Errorf("%s: CPU: %+v", name, c)
	}
}

// checkServer holds what only rounds with the server have found.
func checkServer(t *testing.T, name string, r *benchRound) {
	t.Helper()
	if r.Commits == nil || r.Commits.Commits < 1 || r.Commits.Mean < 1 {
		t.Errorf("%s: commits: %+v", name, r.Commits)
	}
	if r.Disk == nil || r.Disk.BytesPerPayment <= 0 || r.Disk.LogBytesPerPayment <= 0 {
		t.Errorf("%s: disk: %+v", name, r.Disk)
	}
	if r.ResidentBytes <= 0 {
		t.Errorf("%s: no resident memory", name)
	}
}

func TestBenchFlags(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ flag, want string }{
		{"--tills=0", "--tills: 0 is not between 1 and 1024"},
		{"--merchants=10001", "--merchants: 10001 is not between 1 and 10000"},
		{"--polls=-1", "--polls: -1 is not between 0 and 16000"},
		{"--stored=-1", "--stored: -1 is not between 0 and 100000000"},
		{"--duration=1h", "--duration: 1h0m0s is not between 100ms and 10m0s"},
		{"--data=/no/such/folder", "/no/such/folder"},
		{"--pgbench", "--pgbench: it measures a PostgreSQL server; name one with --database"},
		{"--database=nowhere", "--database: is no address of a PostgreSQL server"},
	} {
		var errs bytes.Buffer
		if code := run(t.Context(), []string{"bench", "upp", tt.flag}, os.Getenv, io.Discard, &errs); code == exitOK || !strings.Contains(errs.String(), tt.want) {
			t.Errorf("%s: exit %d: %s", tt.flag, code, errs.String())
		}
	}
}

// TestBenchSeesWrongBooks holds that what must not happen to money does not pass.
func TestBenchSeesWrongBooks(t *testing.T) {
	t.Parallel()
	balanced := ledgerSums{receivable: 2 * amountMinor}
	for _, tt := range []struct {
		name      string
		approved  []uint64
		movements map[uint64]int
		lost      int
		ledger    ledgerSums
		problems  int
	}{
		{"all agree", []uint64{1, 2}, map[uint64]int{1: 1, 2: 1}, 0, balanced, 0},
		{"approved and not moved", []uint64{1, 2, 3}, map[uint64]int{1: 1, 2: 1}, 0, balanced, 1},
		{"moved twice", []uint64{1}, map[uint64]int{1: 2}, 0, balanced, 1},
		{"one number for two payments", []uint64{1, 2, 2}, map[uint64]int{1: 1, 2: 1}, 0, balanced, 1},
		{"moved and no till knows", []uint64{1}, map[uint64]int{1: 1, 2: 1}, 0, balanced, 1},
		{"moved, and the answer was lost", []uint64{1}, map[uint64]int{1: 1, 2: 1}, 1, balanced, 0},
		{"the ledger does not balance", []uint64{1, 2}, map[uint64]int{1: 1, 2: 1}, 0, ledgerSums{receivable: 2 * amountMinor, unbalanced: 1}, 1},
		{"the ledger lacks one", []uint64{1, 2}, map[uint64]int{1: 1, 2: 1}, 0, ledgerSums{receivable: amountMinor}, 1},
		{"work is owed", []uint64{1, 2}, map[uint64]int{1: 1, 2: 1}, 0, ledgerSums{receivable: 2 * amountMinor, owed: 1}, 1},
	} {
		b := compare(tt.approved, tt.movements, tt.lost)
		b.hold(tt.ledger, burden{}, tt.lost)
		r := benchReport{Serve: benchRound{Books: b}}
		if len(b.Problems) != tt.problems || (r.failure() == nil) != (tt.problems == 0) {
			t.Errorf("%s: %q", tt.name, b.Problems)
		}
	}
}

func TestBenchCommitGroups(t *testing.T) {
	t.Parallel()
	before := map[string]float64{"tillgate_commit_group_size_count": 5, "tillgate_commit_group_size_sum": 5,
		`tillgate_commit_group_size_bucket{le="1"}`: 5, `tillgate_commit_group_size_bucket{le="8"}`: 5, `tillgate_commit_group_size_bucket{le="16"}`: 5}
	after := map[string]float64{"tillgate_commit_group_size_count": 15, "tillgate_commit_group_size_sum": 45,
		`tillgate_commit_group_size_bucket{le="1"}`: 6, `tillgate_commit_group_size_bucket{le="8"}`: 15, `tillgate_commit_group_size_bucket{le="16"}`: 15}
	if got, want := *commitGroups(before, after), (benchCommits{Commits: 10, Mean: 4, LargestAtMost: 8}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// TestBenchReadsAnswers holds that only a whole approval passes for one.
func TestBenchReadsAnswers(t *testing.T) {
	t.Parallel()
	answer := func(status, body string) string {
		return fmt.Sprintf("HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s", status, len(body), body)
	}
	for _, tt := range []struct {
		name, answer string
		want         uint64 // 0 is an error.
	}{
		{"approved", answer("200 OK", `{"approved":true,"outTradeNumber":"8010000000000007"}`), 8010000000000007},
		{"small letters", "HTTP/1.1 200 OK\r\ncontent-length:48\r\n\r\n" + `{"approved":true,"outTradeNumber":"80100000007"}`, 80100000007},
		{"declined", answer("200 OK", `{"approved":false,"outTradeNumber":"8010000000000007"}`), 0},
		{"pending", answer("200 OK", `{"outTradeNumber":"8010000000000007"}`), 0},
		{"refused", answer("409 Conflict", `{"approved":true,"outTradeNumber":"8010000000000007"}`), 0},
		{"no number", answer("200 OK", `{"approved":true}`), 0},
		{"cut", "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + `{"approved":true`, 0},
		{"no length", "HTTP/1.1 200 OK\r\n\r\n", 0},
		{"too long", "HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n", 0},
		{"not HTTP", "SSH-2.0\r\n", 0},
		{"no status", "HTTP/1.1 ok!\r\n\r\n", 0},
		{"nothing", "", 0},
	} {
		ours, theirs := net.Pipe()
		go func() {
			_, _ = bufio.NewReader(theirs).ReadString('\n')
			_, _ = io.WriteString(theirs, tt.answer)
			_ = theirs.Close()
		}()
		got, err := (&wire{conn: ours, in: bufio.NewReader(ours)}).pay(&orders{}, []byte("request\n"))
		if got != tt.want || (err == nil) != (tt.want != 0) {
			t.Errorf("%s: got %d, %v; want %d", tt.name, got, err, tt.want)
		}
		_ = ours.Close()
	}
}

// TestBenchOrders holds that requests are what the protocol's own code would read, each another, in turn for every merchant.
func TestBenchOrders(t *testing.T) {
	t.Parallel()
	o, err := newOrders("host:1", []string{"a", "b"}, upp.CreateRequest{SaleType: upp.SaleCustomerPresented, CustomerToken: "280000000000009050"})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"b bench-customerPresentedToken-000000000001", "a bench-customerPresentedToken-000000000002"} {
		req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(o.take(nil))))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			t.Fatal(err)
		}
		r, err := upp.DecodeRequest(body)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer ") + " " + r.TransactionReference; got != want {
			t.Errorf("request %d: got %s, want %s", i, got, want)
		}
		if a, err := r.Sum(); err != nil || a.Minor() != amountMinor {
			t.Errorf("amount: %v, %v", a, err)
		}
	}
}

// BenchmarkExchange compares what a request costs the load generator with what net/http's client would cost. Both include the same server.
func BenchmarkExchange(b *testing.B) {
	answer := []byte(`{"approved":true,"outTradeNumber":"8010000000000007","filler":"` + strings.Repeat("x", 800) + `"}`)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = w.Write(answer)
	}))
	defer srv.Close()
	o, err := newOrders(srv.Listener.Addr().String(), []string{"a"}, upp.CreateRequest{SaleType: upp.SaleCustomerPresented, CustomerToken: "280000000000009050"})
	if err != nil {
		b.Fatal(err)
	}
	cpu := func(b *testing.B, each func() error) {
		start := ownCPU()
		for b.Loop() {
			if err := each(); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64((ownCPU()-start).Nanoseconds())/float64(b.N), "cpu-ns/op")
	}
	b.Run("wire", func(b *testing.B) {
		w, err := dialWire(b.Context(), o.address)
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = w.conn.Close() }()
		var request []byte
		cpu(b, func() error {
			request = o.take(request)
			_, err := w.pay(o, request)
			return err
		})
	})
	b.Run("client", func(b *testing.B) {
		client := &http.Client{Transport: &http.Transport{DisableCompression: true}, Timeout: time.Minute}
		defer client.CloseIdleConnections()
		cpu(b, func() error {
			req, err := http.NewRequest(http.MethodPost, srv.URL+"/upp/v1/transactions", bytes.NewReader(o.body))
			if err != nil {
				return err
			}
			req.Header.Set("Authorization", "Bearer a")
			req.Header.Set("Content-Type", "application/json")
			res, err := client.Do(req)
			if err != nil {
				return err
			}
			body, err := io.ReadAll(res.Body)
			if err != nil || !bytes.Contains(body, approvedMark) {
				return fmt.Errorf("answered %s: %w", body, err)
			}
			return res.Body.Close()
		})
	})
}

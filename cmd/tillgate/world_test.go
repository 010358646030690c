package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tillgate/tillgate/admin"
	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/sandbox"
	"github.com/tillgate/tillgate/sqlstore"
)

// These tests kill the real program, as kill -9 does, after its n-th commit or its n-th socket write, start it again, and ask both sides'
// books what truly happened. The sandbox is another party: it lives in the test's process and is never killed.

const (
	// settleLimit bounds how long a test waits for owed work. It is not a measure of speed: the pauses between tries grow.
	settleLimit = 60 * time.Second
	startLimit  = 60 * time.Second
)

// faultBinary builds the program with the seam through which it can be killed, once for all tests.
var faultBinary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "tillgate-crash-*")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "tillgate")
	out, err := exec.Command("go", "build", "-tags", "faultpoint", "-o", path, ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := faultBinary(); err == nil {
		_ = os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// world is a sandbox, a store with a merchant in it, and one server over both, or several, which are started again when they die.
type world struct {
	t      *testing.T
	binary string
	store  sqlstore.Config
	env    []string // Of the servers, beside the process's own.
	wallet *httptest.Server
	codes  map[string]string // Of alipay, by behaviour.
	token  string

	servers []*life
}

// life is one server, life after life.
type life struct {
	w    *world
	next func() string // The kill point of the next life; empty for none.

	mu      sync.Mutex
	process *exec.Cmd // Nil once it was stopped for good.
	url     string
	died    chan struct{} // Closed when the process has ended.
	stderr  *bytes.Buffer
	kills   int
}

const walletKey = "crash-test-key"

// newWorld makes a world without servers. Without a database, the store is SQLite in a folder.
func newWorld(t *testing.T, database string, env ...string) *world {
	t.Helper()
	binary, err := faultBinary()
	if err != nil {
		t.Fatal(err)
	}
	data := t.TempDir()
	w := &world{t: t, binary: binary, store: sqlstore.Config{Dir: data, Tool: true, Now: time.Now}, codes: map[string]string{}}
	if database != "" {
		w.store = sqlstore.Config{URL: database, Tool: true}
	}
	for _, c := range sandbox.WalletCodes() {
		if c.Provider == "alipay" {
			w.codes[c.Behaviour] = c.Code
		}
	}
	network, err := sandbox.Open(sandbox.Config{Dir: t.TempDir(), Key: walletKey, PublicURL: func() string { return w.wallet.URL }, Now: time.Now,
		Rand: rand.NewChaCha8([32]byte{1}), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	w.wallet = httptest.NewServer(network.Handler())
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- network.Run(ctx) }()
	t.Cleanup(func() {
		w.stop()
		cancel()
		<-ran
		_ = network.Close()
		w.wallet.CloseClientConnections()
		w.wallet.Close()
	})
	w.env = append([]string{"TILLGATE_DATA=" + data, "TILLGATE_SECRET=" + filepath.Join(data, "secret.key"), "TILLGATE_DATABASE=" + database,
		"TILLGATE_WALLET_URL=" + w.wallet.URL, "TILLGATE_WALLET_KEY=" + walletKey, "TILLGATE_WALLET_TIMEOUT=300ms"}, env...)

	w.operator("merchant", "add", "--id", "740218", "--company", "C", "--name", "N", "--currency", "AUD")
	w.operator("store", "add", "--merchant", "740218", "--id", "1", "--name", "S", "--zone", "Australia/Melbourne")
	w.operator("terminal", "add", "--merchant", "740218", "--store", "1", "--id", "1", "--name", "T")
	w.operator("method", "set", "--merchant", "740218", "--method", "alipay", "--percent", "1.4", "--fixed", "5")
	var cred admin.Credential
	if err := json.Unmarshal(w.operator("credential", "add", "--merchant", "740218", "--terminal", "1", "--protocol", "upp"), &cred); err != nil {
		t.Fatal(err)
	}
	w.token = cred.Token
	return w
}

// never is the kill point of a server that nobody kills.
func never() string { return "" }

// serve adds a server, whose lives end at the moments that next names.
func (w *world) serve(next func() string) *life {
	l := &life{w: w, next: next}
	l.start()
	w.servers = append(w.servers, l)
	return l
}

// operator runs one of the operators' commands on the world's store.
func (w *world) operator(args ...string) []byte {
	w.t.Helper()
	getenv := func(name string) string {
		for _, v := range slices.Backward(w.env) {
			if value, ok := strings.CutPrefix(v, name+"="); ok {
				return value
			}
		}
		return ""
	}
	var out, errs bytes.Buffer
	if code := run(w.t.Context(), append(args, "--json"), getenv, &out, &errs); code != exitOK {
		w.t.Fatalf("%v: exit %d: %s", args, code, errs.String())
	}
	return out.Bytes()
}

// start begins a life of the server and waits until it serves.
func (l *life) start() {
	for {
		cmd := exec.Command(l.w.binary, "serve", "--listen", "127.0.0.1:0")
		cmd.Env = append(append(os.Environ(), l.w.env...), "TILLGATE_KILL_AT="+l.next())
		stderr, err := cmd.StderrPipe()
		if err != nil {
			l.w.t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			l.w.t.Fatal(err)
		}
		l.process, l.died, l.stderr = cmd, make(chan struct{}), &bytes.Buffer{}
		serving := make(chan string, 1)
		go watch(cmd, stderr, l.stderr, serving, l.died)
		select {
		case l.url = <-serving:
			return
		case <-l.died: // It was killed before it served.
			l.bury()
		case <-time.After(startLimit):
			l.w.t.Fatalf("the server does not start:\n%s", l.stderr)
		}
	}
}

// watch reads a server's log for the address that it serves, until it ends.
func watch(cmd *exec.Cmd, stderr io.Reader, keep *bytes.Buffer, serving chan<- string, died chan<- struct{}) {
	lines := bufio.NewScanner(stderr)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		keep.Write(append(lines.Bytes(), '\n'))
		var line struct{ Msg, URL string }
		if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "serving" {
			serving <- line.URL
		}
	}
	_ = cmd.Wait()
	close(died)
}

// bury checks that the server died of a kill and nothing else.
func (l *life) bury() {
	if status, ok := l.process.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		l.w.t.Fatalf("the server ended by itself: %v\n%s", l.process.ProcessState, l.stderr)
	}
	l.kills++
}

// address is where the server is reached, and what is closed when it dies. A dead one is started again first.
func (l *life) address() (string, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.died:
		if l.process != nil {
			l.bury()
			l.start()
		}
	default:
	}
	return l.url, l.died
}

// stop ends the server in the ordinary way, for good.
func (l *life) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.process == nil {
		return
	}
	_ = l.process.Process.Signal(syscall.SIGTERM)
	<-l.died
	l.process = nil
}

// kill ends the server as kill -9 does, for good.
func (l *life) kill() {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.process.Process.Kill()
	<-l.died
	l.process = nil
	l.kills++
}

func (w *world) stop() {
	for _, l := range w.servers {
		l.stop()
	}
}

// kills is how often servers were killed.
func (w *world) kills() int {
	n := 0
	for _, l := range w.servers {
		n += l.kills
	}
	return n
}

// tx is what a till reads of a transaction.
type tx struct {
	Status         int     `json:"-"`
	Approved       *bool   `json:"approved"`
	Cancelled      bool    `json:"cancelled"`
	OutTradeNumber string  `json:"outTradeNumber"`
	MerchantToken  string  `json:"merchantToken"`
	Amount         float64 `json:"amount"` // Whole dollars in these tests.
	Failure        string  `json:"failure"`
}

// till is a till in a world. It begins at one server and goes on to the next when a call fails.
type till struct {
	*world
	at int
}

func (w *world) till(at int) *till { return &till{w, at} }

// call is a till's call: the same bytes again until there is an answer, as the protocol asks of tills.
func (w *till) call(method, path, body string) tx {
	w.t.Helper()
	for deadline := time.Now().Add(settleLimit); time.Now().Before(deadline); {
		url, died := w.servers[w.at%len(w.servers)].address()
		req, err := http.NewRequest(method, url+"/upp"+path, strings.NewReader(body))
		if err != nil {
			w.t.Error(err)
			return tx{}
		}
		req.Header.Set("Authorization", "Bearer "+w.token)
		req.Header.Set("Content-Type", "application/json")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			select {
			case <-died:
			case <-time.After(20 * time.Millisecond):
			}
			w.at++
			continue
		}
		text, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		var got tx
		if err != nil || res.StatusCode >= 500 || json.Unmarshal(text, &got) != nil {
			continue
		}
		got.Status = res.StatusCode
		return got
	}
	w.t.Errorf("%s %s hangs", method, path)
	return tx{}
}

func (w *till) purchase(reference, behaviour string, dollars string) tx {
	return w.call("POST", "/v1/transactions", fmt.Sprintf(`{"transactionType":"purchase","transactionReference":%q,"amount":%s,"currency":"aud",
		"provider":"alipay","saleType":"customerPresentedToken","customerToken":%q,
		"items":[{"type":"sku","itemReference":"1","name":"x","amount":%[2]s,"quantity":1}]}`, reference, dollars, w.codes[behaviour]))
}

func (w *till) qr(reference string, dollars string) tx {
	return w.call("POST", "/v1/transactions", fmt.Sprintf(`{"transactionType":"purchase","transactionReference":%q,"amount":%s,"currency":"aud",
		"provider":"alipay","saleType":"merchantPresentedToken",
		"items":[{"type":"sku","itemReference":"1","name":"x","amount":%[2]s,"quantity":1}]}`, reference, dollars))
}

func (w *till) refund(reference, original, dollars string) tx {
	return w.call("POST", "/v1/transactions", fmt.Sprintf(`{"transactionType":"refund","transactionReference":%q,"amount":%s,"currency":"aud",
		"originalTransactionReference":%q,"refundReason":"other"}`, reference, dollars, original))
}

func (w *till) cancel(reference string) tx {
	return w.call("POST", "/api/v1/transactions/"+reference+"/cancel", "")
}

// final polls until a transaction is decided.
func (w *till) final(reference string) tx {
	w.t.Helper()
	for deadline := time.Now().Add(settleLimit); time.Now().Before(deadline); {
		if got := w.call("GET", "/api/v1/transactions/"+reference+"?waitForCompletion=true", ""); got.Approved != nil || got.Status == http.StatusNotFound {
			return got
		}
	}
	w.t.Errorf("%s is never decided", reference)
	return tx{}
}

// pay approves a QR payment on the customer's phone.
func (w *world) pay(link string) {
	res, err := http.Post(link+"/approve", "", nil)
	if err != nil {
		w.t.Error(err)
		return
	}
	_ = res.Body.Close()
}

// movement is a row of the sandbox's books.
type movement struct {
	Kind      string `json:"kind"`
	Reference string `json:"reference"`
	Original  string `json:"original_reference"`
	Minor     int64  `json:"amount_minor"`
	State     string `json:"state"`
}

func (w *world) books() []movement {
	w.t.Helper()
	res, err := http.Get(w.wallet.URL + "/books")
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	var rows []movement
	if err := json.NewDecoder(res.Body).Decode(&rows); err != nil {
		w.t.Fatal(err)
	}
	return rows
}

// belief is what tills believe in the end.
type belief struct {
	sales   map[string]tx     // By reference.
	refunds map[string]tx     // By reference.
	of      map[string]string // Refund's reference to the purchase's.
}

// agree stops the server once nothing is owed any more, and compares three books: the till's, ours and the sandbox's.
func (w *world) agree(b belief) {
	w.t.Helper()
	w.settled()
	w.stop()
	books := w.books()
	net, paid, back := int64(0), map[string]int64{}, map[string]int64{}
	for _, m := range books {
		if m.State != "done" {
			continue
		}
		switch m.Kind {
		case "payment":
			net += m.Minor
			paid[m.Reference] += m.Minor
		case "refund":
			net -= m.Minor
			back[m.Original] += m.Minor
		}
	}
	known := map[string]bool{}
	for ref, sale := range b.sales {
		known[sale.OutTradeNumber] = true
		minor, refunded := int64(sale.Amount*100), int64(0)
		for r, of := range b.of {
			if of == ref && b.refunds[r].Approved != nil && *b.refunds[r].Approved {
				refunded += int64(b.refunds[r].Amount * 100)
			}
		}
		kept := paid[sale.OutTradeNumber] - back[sale.OutTradeNumber]
		switch {
		case sale.Approved == nil:
			w.t.Errorf("%s: never decided", ref)
		case *sale.Approved && (paid[sale.OutTradeNumber] != minor || kept != minor-refunded):
			w.t.Errorf("%s: approved for %d, refunded %d; the wallet took %d and gave back %d", ref, minor, refunded, paid[sale.OutTradeNumber], back[sale.OutTradeNumber])
		case !*sale.Approved && kept != 0:
			w.t.Errorf("%s: not paid (%s), but the wallet keeps %d", ref, sale.Failure, kept)
		}
	}
	for _, m := range books {
		if m.Kind == "payment" && !known[m.Reference] {
			w.t.Errorf("the wallet has a payment %s that no till knows", m.Reference)
		}
	}

	store, err := sqlstore.Open(w.t.Context(), w.store)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	m, err := store.FindMerchantByPublicID(w.t.Context(), "740218")
	if err != nil {
		w.t.Fatal(err)
	}
	err = store.Read(w.t.Context(), func(r payment.Reader) error {
		balances, err := r.Balances(m.ID)
		if err != nil {
			return err
		}
		if got := balances["AUD"]; got.Sum() != 0 || got.Receivable != net {
			w.t.Errorf("our ledger says %+v; the wallet holds %d for us", got, net)
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// settled waits until nothing is owed: the database is asked from outside, beside the running server.
func (w *world) settled() {
	w.t.Helper()
	store, err := sqlstore.Open(w.t.Context(), w.store)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	var owed []sqlstore.OwedCount
	for deadline := time.Now().Add(settleLimit); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		for _, l := range w.servers {
			l.address()
		}
		if owed, err = store.CountOwed(w.t.Context()); err == nil && len(owed) == 0 {
			return
		}
	}
	w.t.Errorf("still owed: %+v (%v)\n%s", owed, err, w.servers[len(w.servers)-1].stderr)
}

// load lets several tills work at once, each with a seed of its own, and returns what they believe in the end.
func (w *world) load(seed uint64, tills, sales int) belief {
	var mu sync.Mutex
	b := belief{sales: map[string]tx{}, refunds: map[string]tx{}, of: map[string]string{}}
	behaviours := []string{"approve", "approve", "decline", "connection_cut", "garbled_answer", "error", "cancel_lost", "pending_then_approve_3s"}
	var wg sync.WaitGroup
	for n := range tills {
		rng := rand.New(rand.NewPCG(seed, uint64(n)))
		w := w.till(n)
		wg.Go(func() {
			for i := range sales {
				ref := fmt.Sprintf("till%d-%d", n, i)
				w.purchase(ref, behaviours[rng.IntN(len(behaviours))], fmt.Sprint(10+rng.IntN(90)))
				refund := ""
				if rng.IntN(3) == 0 {
					refund = ref + "-r"
					w.refund(refund, ref, fmt.Sprint(1+rng.IntN(20)))
				}
				if rng.IntN(4) == 0 {
					w.cancel(ref)
				}
				sale := w.final(ref)
				mu.Lock()
				b.sales[ref] = sale
				mu.Unlock()
				if refund == "" {
					continue
				}
				got := w.final(refund)
				mu.Lock()
				b.refunds[refund], b.of[refund] = got, ref
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return b
}

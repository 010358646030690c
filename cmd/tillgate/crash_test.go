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

// world is a sandbox, a data folder with a merchant, and a server over both that is started again whenever it dies.
type world struct {
	t      *testing.T
	binary string
	data   string
	wallet *httptest.Server
	codes  map[string]string // Of alipay, by behaviour.
	token  string

	mu      sync.Mutex
	process *exec.Cmd
	url     string
	died    chan struct{} // Closed when the process has ended.
	stderr  *bytes.Buffer
	kills   int
	next    func() string // The kill point of the next life; empty for none.
}

const walletKey = "crash-test-key"

func newWorld(t *testing.T, next func() string) *world {
	t.Helper()
	binary, err := faultBinary()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, binary: binary, data: t.TempDir(), codes: map[string]string{}, next: next}
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
	ctx, cancel := context.WithCancel(t.Context())
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

	w.operator("merchant", "add", "--id", "740218", "--company", "C", "--name", "N", "--currency", "AUD")
	w.operator("store", "add", "--merchant", "740218", "--id", "1", "--name", "S", "--zone", "Australia/Melbourne")
	w.operator("terminal", "add", "--merchant", "740218", "--store", "1", "--id", "1", "--name", "T")
	w.operator("method", "set", "--merchant", "740218", "--method", "alipay", "--percent", "1.4", "--fixed", "5")
	var cred credentialRow
	if err := json.Unmarshal(w.operator("credential", "add", "--merchant", "740218", "--terminal", "1", "--protocol", "upp"), &cred); err != nil {
		t.Fatal(err)
	}
	w.token = cred.Token
	w.start()
	return w
}

// operator runs one of the operators' commands on the world's data folder.
func (w *world) operator(args ...string) []byte {
	w.t.Helper()
	var out, errs bytes.Buffer
	if code := run(w.t.Context(), append(args, "--json", "--data", w.data), func(string) string { return "" }, &out, &errs); code != exitOK {
		w.t.Fatalf("%v: exit %d: %s", args, code, errs.String())
	}
	return out.Bytes()
}

// start begins a life of the server and waits until it serves.
func (w *world) start() {
	for {
		cmd := exec.Command(w.binary, "serve", "--data", w.data, "--listen", "127.0.0.1:0")
		cmd.Env = append(os.Environ(), "TILLGATE_WALLET_URL="+w.wallet.URL, "TILLGATE_WALLET_KEY="+walletKey, "TILLGATE_WALLET_TIMEOUT=300ms",
			"TILLGATE_KILL_AT="+w.next())
		stderr, err := cmd.StderrPipe()
		if err != nil {
			w.t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			w.t.Fatal(err)
		}
		w.process, w.died, w.stderr = cmd, make(chan struct{}), &bytes.Buffer{}
		serving := make(chan string, 1)
		go watch(cmd, stderr, w.stderr, serving, w.died)
		select {
		case w.url = <-serving:
			return
		case <-w.died: // It was killed before it served.
			w.bury()
		case <-time.After(startLimit):
			w.t.Fatalf("the server does not start:\n%s", w.stderr)
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
func (w *world) bury() {
	if status, ok := w.process.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		w.t.Fatalf("the server ended by itself: %v\n%s", w.process.ProcessState, w.stderr)
	}
	w.kills++
}

// revive starts the server again if it has died, and returns its address.
func (w *world) revive() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case <-w.died:
		w.bury()
		w.start()
	default:
	}
	return w.url
}

// dead is closed when the present life ends.
func (w *world) dead() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.died
}

// stop ends the server in the ordinary way.
func (w *world) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.process == nil {
		return
	}
	_ = w.process.Process.Signal(syscall.SIGTERM)
	<-w.died
	w.process = nil
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

// call is a till's call: the same bytes again until there is an answer, as the protocol asks of tills.
func (w *world) call(method, path, body string) tx {
	w.t.Helper()
	for deadline := time.Now().Add(settleLimit); time.Now().Before(deadline); {
		url := w.revive()
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
			case <-w.dead():
			case <-time.After(20 * time.Millisecond):
			}
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

func (w *world) purchase(reference, behaviour string, dollars string) tx {
	return w.call("POST", "/v1/transactions", fmt.Sprintf(`{"transactionType":"purchase","transactionReference":%q,"amount":%s,"currency":"aud",
		"provider":"alipay","saleType":"customerPresentedToken","customerToken":%q,
		"items":[{"type":"sku","itemReference":"1","name":"x","amount":%[2]s,"quantity":1}]}`, reference, dollars, w.codes[behaviour]))
}

func (w *world) qr(reference string, dollars string) tx {
	return w.call("POST", "/v1/transactions", fmt.Sprintf(`{"transactionType":"purchase","transactionReference":%q,"amount":%s,"currency":"aud",
		"provider":"alipay","saleType":"merchantPresentedToken",
		"items":[{"type":"sku","itemReference":"1","name":"x","amount":%[2]s,"quantity":1}]}`, reference, dollars))
}

func (w *world) refund(reference, original, dollars string) tx {
	return w.call("POST", "/v1/transactions", fmt.Sprintf(`{"transactionType":"refund","transactionReference":%q,"amount":%s,"currency":"aud",
		"originalTransactionReference":%q,"refundReason":"other"}`, reference, dollars, original))
}

func (w *world) cancel(reference string) tx {
	return w.call("POST", "/api/v1/transactions/"+reference+"/cancel", "")
}

func (w *world) fetch(reference string) tx {
	return w.call("GET", "/v1/transactions/"+reference, "")
}

// final polls until a transaction is decided.
func (w *world) final(reference string) tx {
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

// sold and returned are what a till believes in the end.
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

	store, err := sqlstore.Open(w.t.Context(), sqlstore.Config{Dir: w.data, Tool: true, Now: time.Now})
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
	store, err := sqlstore.Open(w.t.Context(), sqlstore.Config{Dir: w.data, Tool: true, Now: time.Now})
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	var owed []sqlstore.OwedCount
	for deadline := time.Now().Add(settleLimit); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		w.revive()
		if owed, err = store.CountOwed(w.t.Context()); err == nil && len(owed) == 0 {
			return
		}
	}
	w.t.Errorf("still owed: %+v (%v)\n%s", owed, err, w.stderr)
}

// day is a till's day: every kind of exchange, faults of the wallet included. It returns what the till believes at its end.
func day(w *world) belief {
	b := belief{sales: map[string]tx{}, refunds: map[string]tx{}, of: map[string]string{}}
	w.purchase("approve", "approve", "20")
	w.refund("approve-r1", "approve", "5")
	w.refund("approve-r2", "approve", "15")
	w.refund("approve-r3", "approve", "1")
	w.purchase("decline", "decline", "21")
	w.purchase("cut", "connection_cut", "22")
	w.purchase("error", "error", "23")
	if got := w.qr("qr", "24"); got.MerchantToken != "" {
		w.pay(got.MerchantToken)
	} else if got := w.final("qr"); got.Approved == nil {
		w.t.Error("qr: no code to show")
	}
	w.final("qr")
	w.qr("qr-cancel", "25")
	w.cancel("qr-cancel")
	w.purchase("undo", "approve", "26")
	w.refund("undo-r1", "undo", "6")
	w.cancel("undo")
	w.purchase("void", "cancel_lost", "27")
	w.cancel("void")
	w.cancel("early")
	w.purchase("early", "approve", "28")
	for _, ref := range []string{"approve", "decline", "cut", "error", "qr", "qr-cancel", "undo", "void", "early"} {
		b.sales[ref] = w.final(ref)
	}
	for ref, of := range map[string]string{"approve-r1": "approve", "approve-r2": "approve", "approve-r3": "approve", "undo-r1": "undo"} {
		b.refunds[ref], b.of[ref] = w.final(ref), of
	}
	return b
}

// checkDay holds what must come of the day whatever the moment of the kill, so that three books do not merely agree about nothing. A
// sale that was killed before the wallet had it ends declined: the customer's code is gone with the process, so it is never sent again.
func checkDay(t *testing.T, b belief, killed bool) {
	t.Helper()
	lost := 0
	for ref, want := range map[string]string{"approve": "approved", "decline": "declined", "cut": "approved", "error": "providerUnavailable", "qr": "approved",
		"qr-cancel": "cancelled", "undo": "cancelled", "void": "cancelled", "early": "cancelled"} {
		got := b.sales[ref].Failure
		if p := b.sales[ref].Approved; p != nil && *p {
			got = "approved"
		}
		if killed && got == "providerUnavailable" && got != want {
			lost++
			continue
		}
		if got != want {
			t.Errorf("%s ended %q, want %q", ref, got, want)
		}
	}
	if lost > 1 {
		t.Errorf("one kill lost %d sales", lost)
	}
	if got := b.refunds["approve-r3"]; got.Status != http.StatusNotFound {
		t.Errorf("a refund beyond the payment was kept: %+v", got)
	}
}

// TestKillAfterEveryCommitAndWrite kills the server once in a till's day, after each commit and each socket write in turn. Whatever the
// moment, the till, we and the wallet agree in the end, and the day ends as it would have without the kill.
func TestKillAfterEveryCommitAndWrite(t *testing.T) {
	t.Parallel()
	for _, point := range []string{"commit", "write"} {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			// A few days at a time, since most of one is waiting; the first moment that is not reached ends it.
			const batch = 4
			for first := 1; ; first += batch {
				var reached [batch]bool
				t.Run(fmt.Sprintf("from %d", first), func(t *testing.T) {
					for i := range batch {
						t.Run(fmt.Sprint(first+i), func(t *testing.T) {
							t.Parallel()
							reached[i] = killedOnce(t, fmt.Sprintf("%s:%d", point, first+i))
						})
					}
				})
				if i := slices.Index(reached[:], false); i >= 0 || t.Failed() {
					t.Logf("%d moments", first+i-1)
					return
				}
			}
		})
	}
}

// killedOnce lives through a day with one kill, and reports whether the moment for it came.
func killedOnce(t *testing.T, moment string) bool {
	lives := 0
	w := newWorld(t, func() string {
		if lives++; lives > 1 {
			return ""
		}
		return moment
	})
	b := day(w)
	checkDay(t, b, w.kills > 0)
	w.agree(b)
	return w.kills > 0
}

// TestKillsUnderLoad kills the server again and again, at moments drawn from a seed, while several tills work.
func TestKillsUnderLoad(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 7))
			const livesMax, tills, sales = 8, 8, 12
			lives := 0
			w := newWorld(t, func() string {
				if lives++; lives > livesMax {
					return ""
				}
				return fmt.Sprintf("%s:%d", []string{"commit", "write"}[rng.IntN(2)], 10+rng.IntN(80))
			})
			var mu sync.Mutex
			b := belief{sales: map[string]tx{}, refunds: map[string]tx{}, of: map[string]string{}}
			var wg sync.WaitGroup
			for till := range tills {
				rng := rand.New(rand.NewPCG(seed, uint64(till)))
				wg.Go(func() {
					for i := range sales {
						ref := fmt.Sprintf("till%d-%d", till, i)
						behaviours := []string{"approve", "approve", "decline", "connection_cut", "garbled_answer", "error", "cancel_lost", "pending_then_approve_3s"}
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
			w.agree(b)
			t.Logf("%d kills, %d sales, %d refunds, %d movements", w.kills, len(b.sales), len(b.refunds), len(w.books()))
			if w.kills == 0 {
				t.Error("nothing was killed")
			}
		})
	}
}

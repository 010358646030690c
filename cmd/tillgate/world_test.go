package main

import (
	"bufio"
	"bytes"
	"context"
	cryptorand "crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tillgate/tillgate/admin"
	"github.com/tillgate/tillgate/internal/pgtest"
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
	rows
	store sqlstore.Config
	env   []string // Of the servers, beside the process's own.
	party *party
	books string            // Folder of the sandbox's books.
	codes map[string]string // Of alipay, by behaviour.

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
	stderr  *bytes.Buffer // Of this life; all holds that of the ones before.
	all     bytes.Buffer
	kills   int
}

// What a world's server and its sandbox share.
const (
	walletKey   = "crash-test-key"
	zoneKey     = "3b2c4d5e6f708192a3b4c5d6e7f80911"
	worldPublic = "740218"
	worldVendor = "90001234"
	worldApp    = "2026112200000001"
	// cardClients is how many clients of UQPAY a merchant has: a new token ends the one before, so that each till needs its own.
	cardClients = 4
)

// rows are a store with a merchant in it, and what its tills need to know.
type rows struct {
	data, database string // Without a database, the store is SQLite in the folder.
	desk           string // Another database, from which copies are made.
	token          string // Of UPP.
	clients        []admin.Credential
	vendorKey      string
	activation     string
}

// environment are the settings of whoever opens the rows.
func (r *rows) environment() []string {
	return []string{"TILLGATE_DATA=" + r.data, "TILLGATE_SECRET=" + filepath.Join(r.data, "secret.key"), "TILLGATE_DATABASE=" + r.database,
		"TILLGATE_NOTIFY_ALLOW=127.0.0.0/8"}
}

// newRows makes them by operators' commands.
func newRows(t *testing.T, database string) rows {
	t.Helper()
	r := rows{data: t.TempDir(), database: database}
	if database != "" {
		r.desk = pgtest.URL(t)
	}
	do := func(into any, args ...string) {
		t.Helper()
		if err := json.Unmarshal(operator(t, r.environment(), args...), into); err != nil {
			t.Fatal(err)
		}
	}
	var said any
	do(&said, "merchant", "add", "--id", worldPublic, "--company", "C", "--name", "N", "--currency", "AUD")
	do(&said, "store", "add", "--merchant", worldPublic, "--id", "1", "--name", "S", "--zone", "Australia/Melbourne")
	do(&said, "terminal", "add", "--merchant", worldPublic, "--store", "1", "--id", "1", "--name", "T")
	do(&said, "method", "set", "--merchant", worldPublic, "--method", "alipay,wechat,unionpay", "--percent", "1.4", "--fixed", "5")
	do(&said, "method", "set", "--merchant", worldPublic, "--method", "financialcard,"+devCardMethod, "--acquirer", cardAcquirer, "--percent", "0.9", "--fixed", "5")
	var cred admin.Credential
	do(&cred, "credential", "add", "--merchant", worldPublic, "--terminal", "1", "--protocol", "upp")
	r.token = cred.Token
	for range cardClients {
		var client admin.Credential
		do(&client, "credential", "add", "--merchant", worldPublic, "--protocol", "uqpay")
		r.clients = append(r.clients, client)
	}
	var vendor admin.Vendor
	do(&vendor, "vendor", "add", "--id", worldVendor, "--name", "V", "--app", worldApp)
	var code admin.Code
	do(&code, "code", "add", "--merchant", worldPublic, "--store", "1", "--uses", "0", "--for", "0")
	r.vendorKey, r.activation = vendor.Key, code.Code
	// Making an RSA key takes longer than most worlds live.
	if _, err := signingKey(filepath.Join(r.data, "upay-callback.pem")); err != nil {
		t.Fatal(err)
	}
	return r
}

// copy is other rows of the same kind: copying is much cheaper than operators' commands.
func (r rows) copy(t *testing.T) rows {
	t.Helper()
	from := r.data
	r.data = t.TempDir()
	files, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := os.ReadFile(filepath.Join(from, f.Name()))
		if err == nil {
			err = os.WriteFile(filepath.Join(r.data, f.Name()), text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if r.database != "" {
		r.database = copyDatabase(t, r.desk, r.database)
	}
	return r
}

// copyDatabase makes a copy of a database that nobody uses now, which is dropped at the end of the test.
func copyDatabase(t *testing.T, desk, database string) string {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	do := func(statement string) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		conn, err := pgx.Connect(ctx, desk)
		if err == nil {
			_, err = conn.Exec(ctx, statement)
			err = errors.Join(err, conn.Close(ctx))
		}
		if err != nil {
			t.Errorf("%s: %v", statement, err)
		}
	}
	copying.Lock() // A template must have no other user.
	defer copying.Unlock()
	name := "tillgate_copy_" + strings.ToLower(cryptorand.Text())
	do("CREATE DATABASE " + name + " TEMPLATE " + strings.TrimPrefix(u.Path, "/"))
	t.Cleanup(func() { do("DROP DATABASE " + name + " WITH (FORCE)") })
	u.Path = "/" + name
	return u.String()
}

var copying sync.Mutex

// newWorld makes a world without servers.
func newWorld(t *testing.T, r rows, env ...string) *world {
	t.Helper()
	binary, err := faultBinary()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, binary: binary, rows: r, store: sqlstore.Config{Dir: r.data, Tool: true, Now: time.Now}, books: t.TempDir(), codes: map[string]string{}}
	if r.database != "" {
		w.store = sqlstore.Config{URL: r.database, Tool: true}
	}
	for _, c := range sandbox.WalletCodes() {
		if c.Provider == "alipay" {
			w.codes[c.Behaviour] = c.Code
		}
	}
	cards, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.party, err = newParty("127.0.0.1:0", cards, w.books, partyKeys{walletKey, zoneKey, devMember}, "", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- w.party.run(ctx, func() error { return nil }) }()
	t.Cleanup(func() {
		w.stop()
		cancel()
		<-ran
	})
	// Fewer lines to the host make fewer moments that are all alike.
	config := filepath.Join(r.data, "world.toml")
	if err := os.WriteFile(config, []byte("[card]\nconnections = 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.env = append(r.environment(), "TILLGATE_WALLET_URL="+w.party.url(), "TILLGATE_WALLET_KEY="+walletKey, "TILLGATE_WALLET_TIMEOUT=300ms",
		"TILLGATE_CARD_HOSTS="+cards.Addr().String(), "TILLGATE_CARD_MEMBER="+devMember, "TILLGATE_CARD_ZMK="+zoneKey, "TILLGATE_CARD_TIMEOUT=500ms")
	w.env = append(w.env, env...)
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

// operator runs one of the operators' commands.
func operator(t *testing.T, env []string, args ...string) []byte {
	t.Helper()
	getenv := func(name string) string {
		for _, v := range slices.Backward(env) {
			if value, ok := strings.CutPrefix(v, name+"="); ok {
				return value
			}
		}
		return ""
	}
	// While the disk stalls, a database may not accept a connection for seconds. An operator is told so, and tries again.
	for end := time.Now().Add(startLimit); ; time.Sleep(10 * time.Millisecond) {
		var out, errs bytes.Buffer
		code := run(t.Context(), append(slices.Clone(args), "--json"), getenv, &out, &errs)
		if code == exitOK {
			return out.Bytes()
		}
		if !strings.Contains(errs.String(), "failed to connect") || time.Now().After(end) {
			t.Fatalf("%v: exit %d: %s", args, code, errs.String())
		}
	}
}

// start begins a life of the server and waits until it serves.
func (l *life) start() {
	for {
		cmd := exec.Command(l.w.binary, "serve", "--listen", "127.0.0.1:0", "--config", filepath.Join(l.w.data, "world.toml"))
		cmd.Env = append(append(os.Environ(), l.w.env...), "TILLGATE_KILL_AT="+l.next())
		stderr, err := cmd.StderrPipe()
		if err != nil {
			l.w.t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			l.w.t.Fatal(err)
		}
		if l.stderr != nil {
			_, _ = l.all.Write(l.stderr.Bytes())
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

// belief is what tills of UPP believe in the end.
type belief struct {
	sales   map[string]tx     // By reference.
	refunds map[string]tx     // By reference.
	of      map[string]string // Refund's reference to the purchase's.
}

// claims are a belief in neutral words.
func (b belief) claims() []claim {
	var claims []claim
	for ref, sale := range b.sales {
		c := claim{name: ref, numbers: []string{sale.OutTradeNumber}, undecided: sale.Approved == nil, why: sale.Failure}
		if sale.Approved != nil && *sale.Approved {
			c.taken = int64(sale.Amount * 100)
		}
		for r, of := range b.of {
			if of == ref && b.refunds[r].Approved != nil && *b.refunds[r].Approved {
				c.back += int64(b.refunds[r].Amount * 100)
			}
		}
		claims = append(claims, c)
	}
	return claims
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
	Wallet    string `json:"wallet"`
}

// movements are the rows of both parties' books.
func (w *world) movements() []movement {
	w.t.Helper()
	var all []movement
	for _, address := range []string{w.party.info().BooksURL, w.party.info().CardBooksURL} {
		all = append(all, readBooks(w.t, address)...)
	}
	return all
}

func readBooks(t *testing.T, address string) []movement {
	t.Helper()
	res, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	var rows []movement
	if err := json.NewDecoder(res.Body).Decode(&rows); err != nil {
		t.Fatal(err)
	}
	return rows
}

// claim is what a till believes of one payment in the end.
type claim struct {
	name      string
	numbers   []string // Under which the other party knows its attempts.
	taken     int64    // Nothing when it was not paid, or was given back whole.
	back      int64    // What was refunded of it.
	undecided bool
	why       string // For people.
}

// totals are the done movements of one payment.
type totals struct{ paid, back int64 }

// tally sums movements by the number of the attempt that began them: a completion counts for its authorization, and its refunds too.
func tally(books []movement) (net int64, by map[string]totals) {
	root := map[string]string{}
	for _, m := range books {
		if m.Kind == "payment" && m.Original != "" {
			root[m.Reference] = m.Original
		}
	}
	by = map[string]totals{}
	for _, m := range books {
		number := m.Original
		if number == "" {
			number = m.Reference
		}
		if r := root[number]; r != "" {
			number = r
		}
		sum := by[number] // Also of what was reversed: it is somebody's.
		if m.State == "done" && m.Kind == "payment" {
			sum.paid, net = sum.paid+m.Minor, net+m.Minor
		}
		if m.State == "done" && m.Kind == "refund" {
			sum.back, net = sum.back+m.Minor, net-m.Minor
		}
		by[number] = sum
	}
	return net, by
}

// agree stops the server once nothing is owed any more, and compares three books: the tills', ours and the sandbox's.
func (w *world) agree(claims []claim) {
	w.t.Helper()
	w.settled()
	w.stop()
	net, by := tally(w.movements())
	known := map[string]bool{}
	for _, c := range claims {
		var sum totals
		for _, n := range c.numbers {
			known[n] = true
			sum.paid, sum.back = sum.paid+by[n].paid, sum.back+by[n].back
		}
		kept := sum.paid - sum.back
		switch {
		case c.undecided:
			w.t.Errorf("%s: never decided", c.name)
		case c.taken > 0 && (sum.paid != c.taken || kept != c.taken-c.back):
			w.t.Errorf("%s: approved for %d, refunded %d; the other side took %d and gave back %d", c.name, c.taken, c.back, sum.paid, sum.back)
		case c.taken == 0 && kept != 0:
			w.t.Errorf("%s: not paid (%s), but the other side keeps %d", c.name, c.why, kept)
		}
	}
	for number, sum := range by {
		if !known[number] && sum != (totals{}) {
			w.t.Errorf("the other side has %+v under %s, which no till knows", sum, number)
		}
	}
	for _, rrn := range w.holds() {
		w.t.Errorf("the card host still holds money for the authorization %s", rrn)
	}

	store, err := sqlstore.Open(w.t.Context(), w.store)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	m, err := store.FindMerchantByPublicID(w.t.Context(), worldPublic)
	if err != nil {
		w.t.Fatal(err)
	}
	err = store.Read(w.t.Context(), func(r payment.Reader) error {
		balances, err := r.Balances(m.ID)
		if err != nil {
			return err
		}
		if got := balances["AUD"]; got.Sum() != 0 || got.Receivable != net {
			w.t.Errorf("our ledger says %+v; the other side holds %d for us", got, net)
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// holds are the authorizations that the card host keeps money for. They are no movements, so that its books do not show them: its journal does.
func (w *world) holds() []string {
	w.t.Helper()
	text, err := os.ReadFile(filepath.Join(w.books, "sandbox-cards.jsonl"))
	if err != nil {
		w.t.Fatal(err)
	}
	type key struct{ MTI, RRN, TID string }
	const authorization, completion = 1, 3 // Kinds of its transactions.
	var places []key
	held := map[key]bool{}
	for line := range strings.Lines(string(text)) {
		var l struct {
			Txn *struct {
				key
				Kind, Original int
				Declined       bool
			}
			Reversal *key
		}
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			w.t.Fatalf("the card host's journal: %v", err)
		}
		if l.Reversal != nil {
			delete(held, *l.Reversal)
		}
		if l.Txn == nil {
			continue
		}
		places = append(places, l.Txn.key)
		switch {
		case l.Txn.Declined:
		case l.Txn.Kind == authorization:
			held[l.Txn.key] = true
		case l.Txn.Kind == completion:
			delete(held, places[l.Txn.Original])
		}
	}
	var rrns []string
	for k := range held {
		rrns = append(rrns, k.RRN)
	}
	return rrns
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

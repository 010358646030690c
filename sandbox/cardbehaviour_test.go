package sandbox

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// What a member sees of the first answer to a sale.
const (
	cardSilence   = "silence"
	cardGarbage   = "garbage"
	cardCut       = "cut"
	cardWrongMAC  = "wrong MAC"
	cardAmount    = "another amount"
	cardReference = "another RRN"
	cardTwice     = "twice"
)

// cardExpected is the whole promise of docs/sandbox.md's card table, written a second time and by outcome.
var cardExpected = map[string]struct {
	told  string // DE 39, or one of the words above.
	moved int64  // Minor units, by the first sale.
	undo  string // What is told of the first reversal, if it is not 00.
	left  bool   // It was not carried out.
}{
	"approve":                {told: "00", moved: 905000},
	"decline":                {told: "05"},
	"insufficient_funds":     {told: "51"},
	"no_answer":              {told: cardSilence, moved: 905600},
	"late_answer":            {told: cardSilence, moved: 905700},
	"garbled_answer":         {told: cardGarbage, moved: 905800},
	"connection_cut":         {told: cardCut, moved: 905900},
	"error":                  {told: "96"},
	"request_lost":           {told: cardSilence},
	"limit_exceeded":         {told: "61"},
	"code_expired":           {told: "54"},
	"cancel_no_answer":       {told: "00", moved: 906600, undo: cardSilence},
	"cancel_lost":            {told: "00", moved: 906700, undo: cardSilence, left: true},
	"referral":               {told: "01"},
	"pick_up":                {told: "04"},
	"invalid_transaction":    {told: "12"},
	"invalid_amount":         {told: "13"},
	"no_such_card":           {told: "14"},
	"lost_card":              {told: "41"},
	"stolen_card":            {told: "43"},
	"wrong_pin":              {told: "55"},
	"pin_tries_exceeded":     {told: "75"},
	"not_permitted_card":     {told: "57"},
	"not_permitted_terminal": {told: "58"},
	"suspected_fraud":        {told: "59"},
	"count_limit":            {told: "65"},
	"restricted_card":        {told: "62"},
	"security_violation":     {told: "63"},
	"partial_approval":       {told: "10", moved: 454150},
	"wrong_mac":              {told: cardWrongMAC, moved: 908400},
	"other_amount":           {told: cardAmount, moved: 908500},
	"unknown_code":           {told: "ZZ"},
	"host_unavailable":       {told: "91"},
	"duplicate":              {told: "94"},
	"sign_off":               {told: "00", moved: 908900},
	"reversal_no_answer":     {told: cardSilence, moved: 909000, undo: cardSilence},
	"reversal_lost":          {told: cardSilence, moved: 909100, undo: cardSilence, left: true},
	"repeated_answer":        {told: cardTwice, moved: 909200},
	"torn_answer":            {told: "00", moved: 909300},
	"pin_needed":             {told: "76"},
	"unknown_merchant":       {told: "03"},
	"pick_up_special":        {told: "07"},
	"wrong_cryptogram":       {told: "82"},
	"wrong_arpc":             {told: "00", moved: 909800},
	"other_reference":        {told: cardReference, moved: 909900},
	"reversal_error":         {told: cardSilence, moved: 910000, undo: "96", left: true},
}

// first sends a message and tells what comes of it. Silence is given a little time, and is told from a host that hangs by an echo.
func (m *member) first(mti string, q fields) string {
	m.t.Helper()
	m.send(mti, q)
	body, err := m.receive(500 * time.Millisecond)
	if errors.Is(err, errNothing) {
		m.want("echo after silence", m.network("301"), "00")
		return cardSilence
	}
	if err != nil {
		return cardCut
	}
	var c cardMessage
	if c.parse(body) != nil {
		m.want("echo after garbage", m.network("301"), "00")
		return cardGarbage
	}
	_, a, err := m.read(body)
	switch {
	case err != nil:
		return cardWrongMAC
	case a[37] != q[37]:
		return cardReference
	case a[4] != q[4] && a[39] != "10":
		return cardAmount
	}
	if again, err := m.receive(50 * time.Millisecond); err == nil && string(again) == string(body) {
		return cardTwice
	}
	return a[39]
}

func TestEveryCardBehaviour(t *testing.T) {
	t.Parallel()
	if len(cardExpected) != len(cardBehaviours) || len(CardTriggers()) != len(cardBehaviours) {
		t.Fatalf("%d behaviours, %d expected", len(cardBehaviours), len(cardExpected))
	}
	for _, b := range CardTriggers() {
		t.Run(b.Behaviour, func(t *testing.T) {
			t.Parallel()
			want := cardExpected[b.Behaviour]
			r := setupCards(t)
			m := r.dial().signOn()
			minor := int64(0)
			if _, err := fmt.Sscanf(strings.Replace(b.Amount, ".", "", 1), "%d", &minor); err != nil {
				t.Fatal(err)
			}
			again := func() { // A new connection, and perhaps a new host: nothing is forgotten.
				stan, rrn := m.stan, m.rrn
				m = r.restart()
				m.stan, m.rrn = stan+10, rrn
			}
			q := m.sale(minor, nil)
			if got := m.first("0200", q); got != want.told {
				t.Errorf("sale: got %s, want %s", got, want.told)
			}
			books := ""
			if want.moved != 0 {
				books = fmt.Sprintf("payment %d AUD done", want.moved)
			}
			r.wantBooks(books)
			again()
			if b := cardBehaviours[cardBehaviourNamed(b.Behaviour)]; b.lost {
				m.want("the second time", m.call("0200", q), "00")
				books = fmt.Sprintf("payment %d AUD done", minor)
			} else {
				m.want("a repeat", m.call("0200", q), "94")
			}
			r.wantBooks(books)

			undo := want.undo
			if undo == "" {
				undo = "00"
			}
			reversal := m.reversal("0200", q)
			if got := m.first("0420", reversal); got != undo {
				t.Errorf("reversal: got %s, want %s", got, undo)
			}
			if !want.left {
				books = strings.Replace(books, "done", "reversed", 1)
			}
			r.wantBooks(books)
			again()
			m.want("the repeated reversal", m.call("0421", reversal), "00")
			books = strings.Replace(books, "done", "reversed", 1)
			r.wantBooks(books)

			// The same by a card's token, which beats the amount.
			token := m.sale(100, fields{2: "", 14: "", 22: "812", 25: "59", 48: fmt.Sprintf("TK%03dct_sandbox_%s", len("ct_sandbox_0000"), b.Amount[:4])})
			if got := m.first("0200", token); got != want.told {
				t.Errorf("token: got %s, want %s", got, want.told)
			}
		})
	}
}

// TestFaultsOfOtherMessages has completions, refunds and voids meet what sales meet.
func TestFaultsOfOtherMessages(t *testing.T) {
	t.Parallel()
	r := setupCards(t)
	m := r.dial().signOn()
	told := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s: got %s, want %s", what, got, want)
		}
	}
	q := m.sale(2_000_000, nil)
	a := m.call("0100", q)
	m.want("authorization", a, "00")
	code := fields{38: a[38]}
	told("declined completion", m.first("0220", m.about("0100", q, code.with(fields{4: "000000905100"}))), "05")
	lost := m.about("0100", q, code.with(fields{4: "000000906100"}))
	told("lost completion", m.first("0220", lost), cardSilence)
	r.wantBooks("")
	told("its repeat", m.first("0221", lost), "00")
	told("its repeat's repeat", m.first("0221", lost), "00")
	r.wantBooks("payment 906100 AUD done")
	other := m.sale(2_000_000, nil)
	a = m.call("0100", other)
	silent := m.about("0100", other, fields{38: a[38], 4: "000000905600"})
	told("silent completion", m.first("0220", silent), cardSilence)
	told("its repeat", m.first("0221", silent), "00")

	sale := m.sale(3_000_000, nil)
	m.want("sale", m.call("0200", sale), "00")
	refund := m.about("0200", sale, fields{3: "200000", 4: "000000905600"})
	told("silent refund", m.first("0200", refund), cardSilence)
	m.want("its reversal", m.call("0420", m.reversal("0200", refund)), "00")
	told("declined refund", m.first("0200", m.about("0200", sale, fields{3: "200000", 4: "000000905100"})), "05")
	told("refund in full", m.first("0200", m.about("0200", sale, fields{3: "200000", 4: "000000908300"})), "00")
	r.wantBooks("refund 908300 AUD done; refund 905600 AUD reversed; payment 3000000 AUD done; payment 905600 AUD done; payment 906100 AUD done")

	for amount, want := range map[string]string{"000000906600": cardSilence, "000000906700": cardSilence} {
		q := m.sale(0, fields{4: amount})
		m.want("sale", m.call("0200", q), "00")
		void := m.about("0200", q, fields{3: "020000"})
		told("void of "+amount, m.first("0200", void), want)
		told("its repeat", m.first("0200", void), "00")
	}
	if strings.Count(r.books(""), "reversed") != 3 {
		t.Errorf("books: %s", r.books(""))
	}
}

func TestPartialAuthorization(t *testing.T) {
	t.Parallel()
	r := setupCards(t)
	m := r.dial().signOn()
	q := m.sale(908300, nil)
	a := m.call("0100", q)
	m.want("authorization", a, "10")
	if a[4] != "000000454150" {
		t.Errorf("approved for %s", a[4])
	}
	m.want("all of it", m.call("0220", m.about("0100", q, fields{38: a[38]})), "13")
	m.want("half of it", m.call("0220", m.about("0100", q, fields{38: a[38], 4: a[4]})), "00")
	r.wantBooks("payment 454150 AUD done")
}

func TestWrongARPC(t *testing.T) {
	t.Parallel()
	m := setupCards(t).dial().signOn()
	a := m.call("0200", m.sale(909800, fields{22: "051", 55: string(mustHex(t, exampleDE55))}))
	m.want("sale", a, "00")
	if got := fmt.Sprintf("%X", a[55]); !strings.HasPrefix(got, "910A") || strings.Contains(got, exampleARPC) {
		t.Errorf("DE 55: got %s", got)
	}
}

func TestCardTableIsDocumented(t *testing.T) {
	t.Parallel()
	var table strings.Builder
	table.WriteString("| name | amount | token | what happens |\n|---|---|---|---|\n")
	amounts := map[string]string{}
	for _, b := range behaviours {
		amounts[b.amount] = b.name
	}
	for i, b := range cardBehaviours {
		fmt.Fprintf(&table, "| `%s` | %s | `%s%s` | %s |\n", b.name, b.amount, tokenPrefix, b.amount[:4], b.what)
		if wallet, ok := amounts[b.amount]; ok && wallet != b.name {
			t.Errorf("%s is %s in the wallet network's table", b.amount, wallet)
		}
		if w := behaviourByName(b.name); w != nil && w.amount != b.amount {
			t.Errorf("%s has amount %s in the wallet network's table", b.name, w.amount)
		}
		if b.code != "" && len(b.code) != 2 || i > 0 && b.amount <= cardBehaviours[i-1].amount {
			t.Errorf("%s: a bad row", b.name)
		}
	}
	page, err := os.ReadFile("../docs/sandbox.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), "\n"+table.String()+"\n") {
		t.Errorf("docs/sandbox.md lacks this table:\n%s", &table)
	}
	for _, want := range []string{cardJournalName, "GET /cards/books", "POST /cards/reset"} {
		if !strings.Contains(string(page), want) {
			t.Errorf("docs/sandbox.md lacks %s", want)
		}
	}
	for i := range recipes {
		if !strings.Contains(string(page), "| "+recipes[i].name+" |") {
			t.Errorf("docs/sandbox.md lacks the recipe %s", recipes[i].name)
		}
	}
	wire, err := os.ReadFile("../docs/card-host.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range cardBehaviours {
		if b.code != "" && b.code != "ZZ" && !strings.Contains(string(wire), b.code) {
			t.Errorf("docs/card-host.md lacks response code %s", b.code)
		}
	}
}

package device

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/skip2/go-qrcode"

	"github.com/tillgate/tillgate/payment"
)

//go:embed page.html
var pageHTML []byte

const (
	pageBodyMax = 4 << 10
	// pageIdle is how often the page's stream says something, so that nothing in between takes it for dead.
	pageIdle = 20 * time.Second
	qrSize   = 320 // Pixels.
)

// Page is a virtual terminal in a browser: its screen, its keys, the customer's cards and the paper. Serve it on this machine only: whoever
// reaches it is the customer.
type Page struct {
	virtual *Virtual
	log     *slog.Logger
	handler http.Handler
	name    func() string
}

// entryNames are the ways in which the page shows a card.
var entryNames = map[string]payment.EntryMode{"tap": payment.EntryContactlessChip, "insert": payment.EntryChip, "swipe": payment.EntryStripe}

// NewPage makes the page of a virtual terminal. Name is what stands above its screen, such as the shop's.
func NewPage(v *Virtual, name func() string, log *slog.Logger) *Page {
	p := &Page{virtual: v, log: log, name: name}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", p.page)
	mux.HandleFunc("GET /events", p.events)
	mux.HandleFunc("GET /cards", p.cards)
	mux.HandleFunc("GET /qr", p.qr)
	mux.HandleFunc("GET /papers/{number}", p.paper)
	mux.HandleFunc("POST /keys/{key}", p.key)
	p.handler = http.NewCrossOriginProtection().Handler(mux) // Another site's page must not pay.
	return p
}

// ServeHTTP serves the page.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("X-Frame-Options", "DENY")
	w.Header().Set("Content-Security-Policy", "default-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; frame-ancestors 'none'")
	p.handler.ServeHTTP(w, r)
}

func (p *Page) page(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(pageHTML) // Whoever has left sees nothing.
}

// seen is what the page's script gets.
type seen struct {
	Snapshot
	Name string `json:"name"`
	Left int64  `json:"left"` // Milliseconds of the customer's time; 0 for no limit.
}

// events streams what can be seen, as server-sent events.
func (p *Page) events(w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	for {
		s, changed := p.virtual.See()
		now := seen{Snapshot: s, Name: p.name()}
		if !s.Screen.Until.IsZero() {
			now.Left = max(s.Screen.Until.Sub(p.virtual.now()).Milliseconds(), 1)
		}
		text, err := json.Marshal(now)
		if err != nil {
			p.log.Error("terminal page", "error", err)
			return
		}
		if _, err := fmt.Fprintf(w, "data: %s\n\n", text); err != nil || control.Flush() != nil {
			return
		}
		select {
		case <-changed:
		case <-time.After(pageIdle):
		case <-r.Context().Done():
			return
		}
	}
}

// pageCard is a card as the page shows it: never its whole number.
type pageCard struct {
	ID        int    `json:"id"`
	Name      string `json:"name"`
	Behaviour string `json:"behaviour"`
	PIN       string `json:"pin"` // Of a card that does not exist; people must be able to type it.
}

func (p *Page) cards(w http.ResponseWriter, _ *http.Request) {
	list := []pageCard{}
	for n, c := range p.virtual.Cards() {
		list = append(list, pageCard{n, c.Brand + " " + c.Masked(), c.Behaviour, c.PIN})
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(list); err != nil {
		return // The browser has left.
	}
}

// qr is the picture of the code on the screen.
func (p *Page) qr(w http.ResponseWriter, _ *http.Request) {
	s, _ := p.virtual.See()
	if s.Screen.QR == "" {
		http.Error(w, "no code is shown", http.StatusNotFound)
		return
	}
	png, err := qrcode.Encode(s.Screen.QR, qrcode.Medium, qrSize)
	if err != nil {
		http.Error(w, "the code is too long", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "image/png")
	_, _ = w.Write(png)
}

// paper is a receipt as its printer got it.
func (p *Page) paper(w http.ResponseWriter, r *http.Request) {
	s, _ := p.virtual.See()
	for _, paper := range s.Papers {
		if fmt.Sprint(paper.Number) == r.PathValue("number") {
			w.Header().Set("Content-Type", "application/octet-stream")
			w.Header().Set("Content-Disposition", fmt.Sprintf(`attachment; filename="receipt-%d.escpos"`, paper.Number))
			_, _ = w.Write(paper.Printer)
			return
		}
	}
	http.Error(w, "no such receipt", http.StatusNotFound)
}

// pressed is what comes with a key.
type pressed struct {
	Card   int    `json:"card"`
	Entry  string `json:"entry"`
	PIN    string `json:"pin"`
	Digits int    `json:"digits"`
	Code   string `json:"code"`
}

// keys are what a customer can do.
var keys = map[string]func(*Virtual, pressed) bool{
	"card": func(v *Virtual, k pressed) bool {
		entry, ok := entryNames[k.Entry]
		if cards := v.Cards(); ok && k.Card >= 0 && k.Card < len(cards) {
			return v.Present(cards[k.Card], entry)
		}
		return false
	},
	"digit":  func(v *Virtual, k pressed) bool { v.Digits(min(max(k.Digits, 0), 12)); return true },
	"pin":    func(v *Virtual, k pressed) bool { return v.TypePIN(k.PIN) },
	"scan":   func(v *Virtual, k pressed) bool { return v.ShowToScanner(k.Code) },
	"cancel": func(v *Virtual, _ pressed) bool { return v.Cancel() },
}

// key presses a key. One that nobody waits for is 409: nothing has happened.
func (p *Page) key(w http.ResponseWriter, r *http.Request) {
	fn, ok := keys[r.PathValue("key")]
	if !ok {
		http.Error(w, "no such key", http.StatusNotFound)
		return
	}
	var k pressed
	if json.NewDecoder(http.MaxBytesReader(w, r.Body, pageBodyMax)).Decode(&k) != nil {
		http.Error(w, "want JSON", http.StatusBadRequest) // What came may be a PIN: it is not repeated.
		return
	}
	if !fn(p.virtual, k) {
		http.Error(w, "the terminal does not wait for this", http.StatusConflict)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

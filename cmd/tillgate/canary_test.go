package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/tillgate/tillgate/admin"
	"github.com/tillgate/tillgate/card"
	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/protocol/upay"
	"github.com/tillgate/tillgate/protocol/uqpay"
	"github.com/tillgate/tillgate/terminal"
)

// secret is something that is pushed through the program and must not be found outside it.
type secret struct {
	name string
	text string // As it is on the wire: digits, hexadecimal or any text.
	// handed are the beginnings of the places that may hold it, such as answers whose purpose it is to hand it out.
	handed []string
	// sandbox says that the sandbox's files must not hold it either: tracks, PIN blocks and cryptograms. What a wallet or a card is known by, they may.
	sandbox bool
}

// needle is one form of a secret.
type needle struct {
	secret *secret
	form   string
	bytes  []byte
}

// needleMin is the shortest form that is looked for: shorter ones are found everywhere by chance.
const needleMin = 5

// needles are the forms in which a secret could be lying about: as text, as bytes, packed two digits to the byte from either end, with the
// digits of each byte swapped, backwards, and each of them again in hexadecimal and in base64 at every alignment.
func needles(s *secret) []needle {
	type form struct {
		name  string
		bytes []byte
	}
	forms := []form{{"text", []byte(s.text)}}
	if raw, err := hex.DecodeString(s.text); err == nil {
		forms = append(forms, form{"bytes", raw}, form{"bytes, digits swapped", swapNibbles(raw)})
	}
	if strings.Trim(s.text, "0123456789ABCDEFabcdef=") == "" {
		digits := strings.ReplaceAll(s.text, "=", "D")
		if len(digits)%2 == 1 {
			for _, padded := range []string{"0" + digits, digits + "F", digits + "0"} {
				raw, _ := hex.DecodeString(padded)
				// The padded digit may be another one: the whole bytes are looked for.
				if padded[0] == '0' && padded != digits+"0" {
					raw = raw[1:]
				} else {
					raw = raw[:len(raw)-1]
				}
				forms = append(forms, form{"packed", raw}, form{"packed, digits swapped", swapNibbles(raw)})
			}
		} else if raw, err := hex.DecodeString(digits); err == nil {
			forms = append(forms, form{"packed", raw}, form{"packed, digits swapped", swapNibbles(raw)})
		}
	}
	backwards := []byte(s.text)
	slices.Reverse(backwards)
	forms = append(forms, form{"backwards", backwards})

	var all []needle
	add := func(name string, b []byte) {
		if len(b) >= needleMin && !slices.ContainsFunc(all, func(n needle) bool { return bytes.Equal(n.bytes, b) }) {
			all = append(all, needle{s, name, b})
		}
	}
	for _, f := range forms {
		add(f.name, f.bytes)
		lower := hex.EncodeToString(f.bytes)
		add(f.name+" in hex", []byte(lower))
		add(f.name+" in capital hex", []byte(strings.ToUpper(lower)))
		if len(f.bytes) < needleMin {
			continue
		}
		for shift := range 3 {
			padded := append(make([]byte, shift), f.bytes...)
			// The characters that bytes before and after have a part in are cut away.
			from, to := (shift*8+5)/6, len(padded)*8/6
			add(fmt.Sprint(f.name, " in base64 at ", shift), []byte(base64.RawStdEncoding.EncodeToString(padded)[from:to]))
			add(fmt.Sprint(f.name, " in base64 for URLs at ", shift), []byte(base64.RawURLEncoding.EncodeToString(padded)[from:to]))
		}
	}
	return all
}

func swapNibbles(b []byte) []byte {
	out := make([]byte, len(b))
	for i, c := range b {
		out[i] = c<<4 | c>>4
	}
	return out
}

// corpus is a place where secrets are looked for.
type corpus struct {
	name    string
	bytes   []byte
	sandbox bool
}

// hits are the forms of secrets that a corpus holds.
func hits(c corpus, all []needle) []string {
	var found []string
	for _, n := range all {
		if c.sandbox && !n.secret.sandbox || slices.ContainsFunc(n.secret.handed, func(place string) bool { return strings.HasPrefix(c.name, place) }) {
			continue
		}
		if at := bytes.Index(c.bytes, n.bytes); at >= 0 {
			found = append(found, fmt.Sprintf("%s holds the %s as %s at %d", c.name, n.secret.name, n.form, at))
		}
	}
	return found
}

// TestSearchFindsWhatIsPlanted proves the search: each form of each secret is planted and found, whatever stands around it.
func TestSearchFindsWhatIsPlanted(t *testing.T) {
	t.Parallel()
	planted := 0
	for _, s := range []secret{{name: "number", text: "4761739002000150"}, {name: "odd number", text: "376740000001005"},
		{name: "track", text: "4761739002000150=31122011000000000123"}, {name: "PIN", text: "907351826435"}, {name: "key", text: "0f1e2d3c4b5a69788796a5b4c3d2e1f0"},
		{name: "token", text: "uq_Zm9vYmFyLWJhejop"}} {
		all := needles(&s)
		for _, n := range all {
			for _, around := range []string{"", "x", "\x00\xff", "01234"} {
				text := []byte(around + string(n.bytes) + around)
				if len(hits(corpus{name: "planted", bytes: text}, all)) == 0 {
					t.Errorf("%s as %s between %q is not found", s.name, n.form, around)
				}
				planted++
			}
		}
		for before := range 4 { // As base64 of a longer text, in which it lies at any alignment.
			text := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("a", before) + s.text + "tail"))
			if len(hits(corpus{name: "planted", bytes: []byte(text)}, all)) == 0 {
				t.Errorf("%s after %d letters in base64 is not found", s.name, before)
			}
		}
		if got := hits(corpus{name: "clean", bytes: bytes.Repeat([]byte("nothing to be found here 476173******0150 "), 100)}, all); len(got) > 0 {
			t.Errorf("found where nothing is: %v", got)
		}
	}
	t.Logf("%d planted forms found", planted)
}

// ear is a client's way that keeps all answers, by their paths, and the tokens that requests carry.
type ear struct {
	http.RoundTripper
	mu      sync.Mutex
	answers map[string]*bytes.Buffer
	token   string // The newest of UQPAY's.
}

func (e *ear) RoundTrip(r *http.Request) (*http.Response, error) {
	res, err := e.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if err != nil {
		return nil, err
	}
	res.Body = io.NopCloser(bytes.NewReader(body))
	e.mu.Lock()
	defer e.mu.Unlock()
	if bearer, ok := strings.CutPrefix(r.Header.Get("x-auth-token"), "Bearer "); ok {
		e.token = bearer
	}
	b := e.answers[r.URL.Path]
	if b == nil {
		b = &bytes.Buffer{}
		e.answers[r.URL.Path] = b
	}
	fmt.Fprintf(b, "%d %v %s\n", res.StatusCode, res.Header, body)
	return res, nil
}

// The values that are pushed, odd enough not to be met by chance.
const (
	oddPIN       = "907351826435" // Right for a card that takes any.
	oddWrongPIN  = "918273645546"
	oddName      = "ZYXOMMA/QUIBBLE"
	oddScanCode  = "286659031847265931"
	oddCutCode   = "280000000000009059" // The sandbox's, whose answer is cut.
	oddUPPCode   = "296659031847265937"
	oddCardToken = "ct_canary_7351_quibble"
	oddPAN       = "4929731864520734" // Of no card; its check digit is set below.
	oddMetadata  = "visible-7351-canary"
	anyPINCard   = "5554748800161559"
)

// TestNoSecretIsLeft pushes cards, tracks, PINs, keys, tokens and codes through success, decline, fault and crash over three protocols, and looks
// for them in the database's files, the logs, the metrics, the answers, errors, webhooks and callbacks, and the sandbox's files.
func TestNoSecretIsLeft(t *testing.T) {
	t.Parallel()
	for engine, database := range engines {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			leaveNoSecret(t, newRows(t, database(t)))
		})
	}
}

func leaveNoSecret(t *testing.T, r rows) {
	received := openHooks(t, "success")
	var hook admin.Webhook
	if err := json.Unmarshal(operator(t, r.environment(), "webhook", "add", "--merchant", worldPublic, received.url), &hook); err != nil {
		t.Fatal(err)
	}
	lives := 0
	w := newWorld(t, r, "TILLGATE_LOG=debug", "TILLGATE_METRICS=")
	w.serve(func() string { // Killed in the middle of payments, twice.
		lives++
		return map[int]string{1: "commit:22", 2: "write:31"}[lives]
	})
	var secrets []*secret
	hide := func(s secret) { secrets = append(secrets, &s) }
	answers := &ear{answers: map[string]*bytes.Buffer{}}
	said := &bytes.Buffer{} // Errors of clients, under every verb.
	told := func(err error) {
		if err != nil {
			fmt.Fprintf(said, "%v %+v %#v %s\n", err, err, err, err)
		}
	}

	// UQPAY.
	c := w.cardTill(0)
	answers.RoundTripper = c.client.HTTP.Transport
	c.client.HTTP = &http.Client{Transport: answers}
	if !c.enrol("CANARY-1") {
		return
	}
	prvKey := "6b1fd2a90c8e4735b1d6f8027ac94e13d05b7a61f3e82c949d7a60b5f4e1c238"
	var pinKey []byte
	c.must("PIN key", func() (err error) {
		pinKey, _, err = c.client.PINKey(t.Context(), c.till.ID, rawHex(prvKey))
		return err
	})
	hide(secret{name: "prv_key", text: prvKey})
	hide(secret{name: "PIN key", text: hex.EncodeToString(pinKey)})
	hide(secret{name: "API key", text: w.clients[0].Token})
	hide(secret{name: "webhook secret", text: hook.Secret})
	hide(secret{name: "token of UPP", text: w.token})
	hide(secret{name: "zone master key", text: zoneKey})
	hide(secret{name: "wallet network's key", text: walletKey})
	hide(secret{name: "PIN", text: oddPIN, sandbox: true})
	hide(secret{name: "wrong PIN", text: oddWrongPIN, sandbox: true})
	hide(secret{name: "cardholder's name", text: oddName, sandbox: true})

	// sell pushes one card through, whatever comes of it.
	seen := map[string]bool{}
	sell := func(name string, pan string, entry payment.EntryMode, pin string, minor int64) {
		t.Helper()
		plastic := deckCardOf(t, c.deck, pan)
		reading := present(t, plastic, entry, pin, minor, 36)
		if entry == payment.EntryStripe {
			var err error
			if reading.Track1, err = card.ParseTrack1("B" + pan + "^" + oddName + "^" + plastic.ExpiryYear[2:] + plastic.ExpiryMonth + "2017351042000000000"); err != nil {
				t.Fatal(err)
			}
			hide(secret{name: name + ": track 1", text: reading.Track1.Reveal(), sandbox: true})
		}
		p := uqpay.CardPresent{PAN: reading.PAN, Expiry: reading.Expiry, Entry: entry, STAN: c.till.NextSTAN(), TerminalID: c.till.ID, Chip: reading.Chip,
			Track1: reading.Track1, Track2: reading.Track2}
		if pin != "" {
			block, err := uqpay.MakePINBlock(pinKey, reading.PIN, reading.PAN)
			if err != nil {
				t.Fatal(err)
			}
			clear, err := card.EncodePINBlock(card.Format0, reading.PIN, reading.PAN, nil)
			if err != nil {
				t.Fatal(err)
			}
			p.PINBlock, p.Verification = &block, payment.VerifiedByPIN
			hide(secret{name: name + ": PIN block", text: hex.EncodeToString(block[:]), sandbox: true})
			hide(secret{name: name + ": clear PIN block", text: hex.EncodeToString(clear[:]), sandbox: true})
		}
		if !seen[pan] {
			seen[pan] = true
			hide(secret{name: name + ": card number", text: pan, sandbox: true})
			hide(secret{name: name + ": track 2", text: plastic.Track2, sandbox: true})
			hide(secret{name: name + ": rest of track 2", text: plastic.Track2[len(pan)+1:], sandbox: true})
		}
		if entry == payment.EntryChip {
			cryptogram := ""
			for _, o := range reading.Chip.List() {
				if o.Tag.String() == "9F26" {
					cryptogram = hex.EncodeToString(o.Value())
				}
			}
			if cryptogram == "" {
				t.Fatal("the chip made no cryptogram")
			}
			hide(secret{name: name + ": cryptogram", text: cryptogram, sandbox: true})
		}
		stored, err := c.client.PrepareIntent(uqpay.IntentRequest{Amount: decimal(minor), Currency: "AUD", OrderID: name, Description: "day", Card: &p,
			Metadata: map[string]string{"seen": oddMetadata}})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(said, "%v %+v %#v %s %v %+v %#v %s\n", stored, stored, stored, stored, p, p, p, p)
		var i uqpay.Intent
		if err := until(w, name, func() error {
			err := c.client.Send(t.Context(), stored, &i)
			told(err)
			return err
		}); err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
		c.names, c.intents[name] = append(c.names, name), i.ID
		c.final(name)
	}
	sell("approved", anyPINCard, payment.EntryChip, oddPIN, 12_00)
	sell("wrong PIN", goodCard, payment.EntryChip, oddWrongPIN, 13_00)
	sell("silent", silentCard, payment.EntryStripe, oddWrongPIN, 14_00)
	sell("stripe", "5413330089001011", payment.EntryStripe, "", 15_00)
	sell("cut", strictCard, payment.EntryChip, "", 9059_00)
	sell("garbled", "6216260000000000019", payment.EntryStripe, "", 9058_00)
	sell("keyed and declined", "376740000001005", payment.EntryKeyed, "", 9051_00)
	sell("partial", "4506440000000017", payment.EntryChip, "", 9083_00)
	// A sale that a kill has undone cannot be refunded. Two kills undo two at most.
	refunded := c.refund("approved", 2_00)
	for try := 2; try <= 3 && !refunded; try++ {
		again := fmt.Sprint("approved ", try)
		sell(again, anyPINCard, payment.EntryChip, oddPIN, 12_00)
		refunded = c.refund(again, 2_00)
	}

	// Cards and PINs that are refused before anything is sent, and bodies that are none.
	foreign := withCheckDigit(oddPAN)
	hide(secret{name: "unknown card number", text: foreign, sandbox: true})
	hide(secret{name: "card number with a wrong digit", text: oddPAN, sandbox: true})
	for n, body := range []string{
		`{"card_number":"` + foreign + `","expiry_month":"12","expiry_year":"2031","pan_entry_mode":"manual_entry"}`,
		`{"card_number":"` + oddPAN + `","expiry_month":"12","expiry_year":"2031","pan_entry_mode":"manual_entry"}`,
		`{"card_number":"` + foreign + `","expiry_month":"12","expiry_year":"2031","pan_entry_mode":"chip","emv_tags":"9F02` + prvKey + `"}`,
		`{"card_number":"` + foreign + `","expiry_month":"12","expiry_year":"2031","pan_entry_mode":"magstripe","track2":"` + oddPAN + `=zz` + oddPIN + `"}`,
		`{"card_number":"` + foreign + `","expiry_month":"12","expiry_year":"2031","pan_entry_mode":"chip","encrypted_pin":"` + oddPIN + `","cardholder_verification_method":"online_pin"}`,
		`{"card_number":"` + foreign + `","expiry_month":"12","expiry_year":"` + oddPIN + `","pan_entry_mode":"` + oddName + `"}`,
		`{"card_number":["` + foreign + `"]}`,
	} {
		inner := strings.TrimSuffix(body, "}") + `,"system_trace_audit_number":"` + c.till.NextSTAN() + `","terminal_info":{"terminal_id":"` + c.till.ID + `","mobile_device":false,"use_embedded_reader":false}}`
		stored := uqpay.Stored{Key: newUUID(), Path: "/v2/payment_intents/create", Body: []byte(`{"amount":"3.00","currency":"AUD","merchant_order_id":"bad","description":"day",
			"payment_method":{"type":"card_present","card_present":` + inner + `}}`)}
		var i uqpay.Intent
		_ = until(w, "bad card", func() error {
			err := c.client.Send(t.Context(), stored, &i)
			told(err)
			return err
		})
		if i.ID != "" {
			name := fmt.Sprint("bad card ", n)
			c.names, c.intents[name] = append(c.names, name), i.ID
		}
	}
	for _, body := range []string{`{"terminal_id":"` + c.till.ID + `","prv_key":"` + prvKey[:40] + `"}`, `{"terminal_id":"` + prvKey[:16] + `","prv_key":"` + prvKey + `"}`, `{"prv_key":` + prvKey} {
		told(c.client.Send(t.Context(), uqpay.Stored{Key: newUUID(), Path: "/v2/terminal/getPinKey", Body: []byte(body)}, &uqpay.PINKeyResponse{}))
	}
	wrong := &uqpay.Client{BaseURL: c.client.BaseURL, ClientID: c.client.ClientID, APIKey: uqpay.Secret(w.clients[0].Token + "x"), HTTP: c.client.HTTP, Sleep: c.client.Sleep}
	_, err := wrong.Intents(t.Context(), uqpay.ListQuery{})
	told(err)
	hide(secret{name: "access token", text: answers.token, handed: []string{"/uqpay/api/v1/connect/token"}})

	// Upay.
	u := w.scanTill(0)
	u.client.HTTP = &http.Client{Transport: answers}
	if !u.open(0) {
		return
	}
	const activate, checkIn = "/upay/terminal/activate", "/upay/terminal/checkin"
	before, _ := u.keeper.Identity(t.Context())
	hide(secret{name: "vendor key", text: w.vendorKey})
	hide(secret{name: "activation code", text: w.activation})
	hide(secret{name: "first terminal key", text: before.Last.Reveal(), handed: []string{activate, checkIn}})
	hide(secret{name: "terminal key", text: before.Key.Reveal(), handed: []string{activate, checkIn}})
	hide(secret{name: "wallet code", text: oddScanCode})
	for n, code := range []string{oddScanCode, oddCutCode, oddScanCode + "9999999999999999"} {
		_, err := u.client.TakePayment(t.Context(), upay.PayRequest{Order: upay.Order{ClientSN: fmt.Sprint("upay ", n), TotalAmount: 30_00, Subject: "x", Operator: "o",
			NotifyURL: received.url, Reflect: oddMetadata}, DynamicID: code})
		told(err)
		if n < 2 {
			u.names = append(u.names, fmt.Sprint("upay ", n))
		}
	}
	u.refund("upay 0", "1", 3_00)
	bad := *u.client.HTTP
	stale := &upay.Client{BaseURL: u.client.BaseURL, Keeper: &pocket{id: upay.Identity{TerminalSN: before.TerminalSN, Key: terminal.NewSecret(w.vendorKey)}}, HTTP: &bad, Sleep: u.client.Sleep}
	_, err = stale.Query(t.Context(), upay.QueryRequest{ClientSN: "upay 0"})
	told(err)
	_, err = stale.Activate(t.Context(), upay.Vendor{SN: worldVendor, Key: terminal.NewSecret(before.Key.Reveal())}, upay.ActivateRequest{AppID: worldApp, Code: w.activation, DeviceID: tillDeviceID})
	told(err)

	// UPP, with wallets' codes and cards' tokens.
	till := w.till(0)
	// UPP echoes the wallet's code of a purchase for as long as it knows the purchase, as its seed shows; a card's token it does not.
	hide(secret{name: "wallet code of UPP", text: oddUPPCode, handed: []string{"database", "PostgreSQL", "/upp/"}})
	hide(secret{name: "card token", text: oddCardToken})
	till.call("POST", "/v1/transactions", `{"transactionType":"purchase","transactionReference":"upp card","amount":31,"currency":"aud",
		"provider":"financialcard","saleType":"customerPresentedToken","customerToken":"`+oddCardToken+`","items":[{"type":"sku","itemReference":"1","name":"x","amount":31,"quantity":1}]}`)
	fmt.Fprintf(said, "%+v\n", till.final("upp card"))
	for n, code := range []string{oddUPPCode, oddCutCode} {
		got := till.call("POST", "/v1/transactions", fmt.Sprintf(`{"transactionType":"purchase","transactionReference":"upp %d","amount":31,"currency":"aud",
			"provider":"alipay","saleType":"customerPresentedToken","customerToken":%q,"items":[{"type":"sku","itemReference":"1","name":"x","amount":31,"quantity":1}]}`, n, code))
		fmt.Fprintf(said, "%+v %+v\n", got, till.final(fmt.Sprint("upp ", n)))
	}
	for path, token := range map[string]string{"upp%20card": w.token, "upp%200": w.token, "none": w.token, "upp%201": w.token + "x"} {
		req, err := http.NewRequest("GET", "http://the.world/upp/api/v1/transactions/"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		if res, err := answers.RoundTrip(req); err == nil {
			_ = res.Body.Close()
		}
	}

	// Everything is settled; the news is out.
	for _, name := range c.names {
		if i := c.final(name); i.Status == uqpay.RequiresPaymentMethod {
			_ = c.act(name, "cancel", map[string]any{})
		}
	}
	w.settled()
	for _, news := range []string{`"order_status"`, "refund.succeeded"} {
		heard := func() bool {
			bodies, _ := received.all()
			return slices.ContainsFunc(bodies, func(b []byte) bool { return bytes.Contains(b, []byte(news)) })
		}
		for deadline := time.Now().Add(settleLimit); !heard() && time.Now().Before(deadline); {
			time.Sleep(50 * time.Millisecond)
		}
		if !heard() {
			t.Errorf("nothing was received that says %s", news)
		}
	}
	if w.kills() != 2 {
		t.Errorf("%d kills, want 2", w.kills())
	}

	places := []corpus{{name: "clients' errors", bytes: said.Bytes()}, {name: "metrics", bytes: fetch(t, w.servers[0].url+"/metrics")}}
	places = append(places, files(t, w.data, "database", false)...) // While it runs: with the log that SQLite writes ahead.
	if r.database != "" {
		places = append(places, corpus{name: "PostgreSQL's tables", bytes: dump(t, r.database)})
	}
	live := w.servers[0]
	w.stop()
	places = append(places, files(t, w.data, "database at rest", false)...)
	places = append(places, files(t, w.books, "sandbox", true)...)
	places = append(places, corpus{name: "log", bytes: append(live.all.Bytes(), live.stderr.Bytes()...)})
	for path, text := range answers.answers {
		places = append(places, corpus{name: path, bytes: text.Bytes()})
	}
	bodies, heads := received.all()
	places = append(places, corpus{name: "webhooks and callbacks", bytes: fmt.Appendf(nil, "%s\n%v", bytes.Join(bodies, []byte("\n")), heads)})

	var all []needle
	for _, s := range secrets {
		if len(s.text) < needleMin {
			t.Errorf("%s is too short to be looked for: %q", s.name, s.text)
		}
		all = append(all, needles(s)...)
	}
	size, tables := 0, "database"
	if r.database != "" {
		tables = "PostgreSQL"
	}
	// What may be seen is seen, so that the places are the right ones.
	for place, mark := range map[string]string{tables: oddMetadata, "log": c.intents["approved"], "webhooks": oddMetadata, "metrics": "tillgate_", "sandbox": "476173******0010",
		"/uqpay/api/v2/payment_intents/create": oddMetadata, "clients' errors": "invalid_parameter"} {
		if !slices.ContainsFunc(places, func(c corpus) bool { return strings.HasPrefix(c.name, place) && bytes.Contains(c.bytes, []byte(mark)) }) {
			t.Errorf("%s does not even hold %q, which it should", place, mark)
		}
	}
	for _, place := range places {
		size += len(place.bytes)
		for _, hit := range hits(place, all) {
			t.Error(hit)
		}
	}
	t.Logf("%d secrets in %d forms, looked for in %d places with %d bytes; %d messages were received", len(secrets), len(all), len(places), size, len(bodies))
}

// withCheckDigit sets a number's last digit by Luhn.
func withCheckDigit(pan string) string {
	for d := '0'; d <= '9'; d++ {
		if _, err := card.ParsePAN(pan[:len(pan)-1] + string(d)); err == nil {
			return pan[:len(pan)-1] + string(d)
		}
	}
	panic("no check digit")
}

func fetch(t *testing.T, address string) []byte {
	t.Helper()
	res, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// files are the files of a folder as places.
func files(t *testing.T, dir, what string, sandbox bool) []corpus {
	t.Helper()
	var list []corpus
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // SQLite's own, gone meanwhile.
		}
		list = append(list, corpus{name: what + " " + d.Name(), bytes: text, sandbox: sandbox})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// dump is all tables of a PostgreSQL database as text.
func dump(t *testing.T, database string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, database)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	names, err := conn.Query(ctx, `SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'`)
	if err != nil {
		t.Fatal(err)
	}
	tables, err := pgx.CollectRows(names, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	for _, table := range tables {
		rows, err := conn.Query(ctx, `SELECT x::text FROM `+pgx.Identifier{table}.Sanitize()+` x`)
		if err != nil {
			t.Fatal(err)
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "%s\n%s\n", table, strings.Join(lines, "\n"))
	}
	return out.Bytes()
}

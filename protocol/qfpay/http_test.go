package qfpay

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// odooSale is P1 of §9.3, as the shipped Odoo client sends it.
const odooSale = `"OHhY5WisjkFpOIE3/8qOc79paXJXrpDmT6nDQfkaDhWhujK43vwo/VZ8mG5oBJjhIsdUQf0bwH+9sNEXxLjzOcUnuUu8xANMZEvI/WpHlUehxRXSkKsx2Q3XCg1/3IJ+ccinn/1mEmBtQAidnTpDmKFTdWMeemX5QFPImD2Etmw="`

func TestHTTPOdooSale(t *testing.T) {
	t.Parallel()
	r := setup(t)
	resp, err := http.Post(r.http()+FuncPayment.Path(), "application/json", strings.NewReader(odooSale))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	defer http.DefaultClient.CloseIdleConnections()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if got := r.read(body); got.Code != CodeOK || body[0] != '{' || !strings.Contains(string(got.Data), `"out_trade_no":"T-0002"`) {
		t.Errorf("got %s", body)
	}
}

func TestHTTPRoutes(t *testing.T) {
	t.Parallel()
	r := setup(t)
	for _, tc := range []struct {
		method, path, body string
		status             int
		code               Code
	}{
		{"GET", FuncPayment.Path(), "", 200, CodeWrongMethod},
		{"PUT", FuncCancel.Path(), "", 200, CodeWrongMethod},
		{"POST", "/api/pos/nothing", "", 404, CodeWrongParam},
		{"GET", "/", "", 404, CodeWrongParam},
		{"POST", FuncPayment.Path() + "/", "", 404, CodeWrongParam},
		{"POST", FuncCancel.Path(), plain(t, "{func_type:5001}"), 200, CodeOK},
		{"POST", FuncCancel.Path(), plain(t, "{}"), 200, CodeOK}, // The path decides.
		{"POST", FuncRefund.Path(), plain(t, "{func_type:5001}"), 200, CodeWrongParam},
		{"POST", FuncPrintSummary.Path(), plain(t, "{func_type:3002}"), 200, CodeOK},
	} {
		w := httptest.NewRecorder()
		(&HTTPLink{Server: r.server}).ServeHTTP(w, httptest.NewRequest(tc.method, tc.path, strings.NewReader(tc.body)))
		if got := r.read(w.Body.Bytes()); got.Code != tc.code || w.Code != tc.status || w.Header().Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s %s: %d %+v", tc.method, tc.path, w.Code, got)
		}
	}
}

// The Odoo till is a web page: the browser asks before it posts (§3.1).
func TestHTTPPreflight(t *testing.T) {
	t.Parallel()
	r := setup(t)
	for _, path := range []string{FuncPayment.Path(), FuncCancel.Path(), "/anything"} {
		w := httptest.NewRecorder()
		q := httptest.NewRequest("OPTIONS", path, nil)
		q.Header.Set("Origin", "https://shop.example.test")
		q.Header.Set("Access-Control-Request-Private-Network", "true")
		(&HTTPLink{Server: r.server}).ServeHTTP(w, q)
		for name, want := range map[string]string{
			"Access-Control-Allow-Origin": "https://shop.example.test", "Access-Control-Allow-Methods": "POST, OPTIONS", "Vary": "Origin",
			"Access-Control-Allow-Headers": "Content-Type, Accept", "Access-Control-Max-Age": "86400", "Access-Control-Allow-Private-Network": "true",
		} {
			if got := w.Header().Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", path, name, got, want)
			}
		}
		if w.Code != http.StatusNoContent {
			t.Errorf("%s: status %d", path, w.Code)
		}
	}
}

// A register that hangs up changes nothing: the sale goes on and is found by its number.
func TestHTTPHangUp(t *testing.T) {
	t.Parallel()
	r := setup(t)
	r.desk.started = make(chan SaleRequest, 1)
	finish := make(chan struct{})
	r.desk.onSale = func(_ context.Context, d *scriptedDesk, q SaleRequest, _ <-chan struct{}) (Trade, error) {
		<-finish
		return d.keep(approved(q)), nil
	}
	base := r.http()
	ctx, hangUp := context.WithCancel(context.Background())
	q, err := http.NewRequestWithContext(ctx, "POST", base+FuncPayment.Path(), strings.NewReader(plain(t, "{func_type:1001,amt:10,channel:wx,out_trade_no:A}")))
	if err != nil {
		t.Fatal(err)
	}
	gone := make(chan error, 1)
	go func() {
		_, err := http.DefaultClient.Do(q)
		gone <- err
	}()
	<-r.desk.started
	hangUp()
	if <-gone == nil {
		t.Fatal("it did not hang up")
	}
	if got := r.ask("{func_type:4001,out_trade_no:A}"); !strings.Contains(string(got.Data), `"respcd":"1143"`) {
		t.Errorf("inquiry while it runs: %+v", got)
	}
	close(finish)
	if err := r.server.Wait(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := r.ask("{func_type:4001,out_trade_no:A}"); !strings.Contains(string(got.Data), `"respcd":"0000"`) {
		t.Errorf("inquiry afterwards: %+v", got)
	}
}

// A customer may take longer than a request may take to arrive.
func TestHTTPSlowCustomer(t *testing.T) {
	t.Parallel()
	r := setup(t)
	l := listen(t)
	link := &HTTPLink{Server: r.server, reading: 50 * time.Millisecond}
	r.serve(func(ctx context.Context) error { return link.Serve(ctx, l) })
	r.desk.onSale = func(_ context.Context, d *scriptedDesk, q SaleRequest, _ <-chan struct{}) (Trade, error) {
		time.Sleep(8 * link.reading)
		return d.keep(approved(q)), nil
	}
	c := &Client{Link: &OverHTTP{URL: "http://" + l.Addr().String()}, Key: k16}
	if a, err := c.Sale(context.Background(), SaleCall{Amount: dollars("1"), Channel: CardPayment}); err != nil || a.Inquired {
		t.Errorf("got %+v, %v", a, err)
	}
}

// When the link stops in the middle of a sale, the register is told that the end is unknown, and the sale goes on.
func TestHTTPStop(t *testing.T) {
	t.Parallel()
	r := setup(t)
	l := listen(t)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- (&HTTPLink{Server: r.server}).Serve(ctx, l) }()
	r.desk.started = make(chan SaleRequest, 1)
	finish := make(chan struct{})
	r.desk.onSale = func(_ context.Context, d *scriptedDesk, q SaleRequest, _ <-chan struct{}) (Trade, error) {
		<-finish
		return d.keep(approved(q)), nil
	}
	answer := make(chan string, 1)
	go func() {
		resp, err := http.Post("http://"+l.Addr().String()+FuncPayment.Path(), "application/json", strings.NewReader(odooSale))
		if err != nil {
			answer <- err.Error()
			return
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		answer <- string(b)
	}()
	<-r.desk.started
	stop()
	if got := <-answer; !strings.Contains(got, "1145") {
		t.Errorf("the register hears %s", got)
	}
	if err := <-ended; err != nil {
		t.Errorf("the link ends with %v", err)
	}
	close(finish)
	http.DefaultClient.CloseIdleConnections()
}

// HTTP and HTTPS share the port (§3.1).
func TestHTTPS(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	r := setup(t)
	l := listen(t)
	r.serve(func(ctx context.Context) error {
		return (&HTTPLink{Server: r.server, TLS: &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}}).Serve(ctx, l)
	})
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}
	for _, scheme := range []string{"http", "https"} {
		c := &Client{Link: &OverHTTP{URL: scheme + "://" + l.Addr().String(), HTTP: &http.Client{Transport: transport}}, Key: k16}
		if a, err := c.Sale(context.Background(), SaleCall{Amount: dollars("1"), Channel: WeChat}); err != nil || a.Number == "" {
			t.Errorf("%s: %+v, %v", scheme, a, err)
		}
	}
	silent, err := net.Dial("tcp", l.Addr().String()) // A peer that says nothing holds nobody up.
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	if err := (&Client{Link: &OverHTTP{URL: "http://" + l.Addr().String()}, Key: k16}).Cancel(context.Background()); err != nil {
		t.Error(err)
	}
}

// Connections beyond the limit are hung up on at once; those of a register are served again when others have gone.
func TestConnectionLimit(t *testing.T) {
	t.Parallel()
	r := setup(t)
	address := r.tcp()
	var all []net.Conn
	for range connectionsMax {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	surplus, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer surplus.Close()
	_ = surplus.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := surplus.Read(make([]byte, 1)); err == nil || strings.Contains(err.Error(), "timeout") {
		t.Errorf("the surplus connection: %v", err)
	}
	for _, c := range all {
		c.Close()
	}
	client := &Client{Link: &OverTCP{Address: address}, Key: k16}
	for end := time.Now().Add(5 * time.Second); ; {
		if err = client.Cancel(context.Background()); err == nil || time.Now().After(end) {
			break
		}
	}
	if err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

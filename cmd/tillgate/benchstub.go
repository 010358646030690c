package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tillgate/tillgate/acquirer/wallet"
	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/protocol/upp"
)

// benchStub is the server with everything left out that makes it one: it reads the same request with the same code, makes the same call
// to the wallet network and answers with the same kind of body. It looks nobody up, writes no log and keeps nothing, so that it could
// neither recognise a repeat nor survive a restart. What a server costs beyond it is the price of that.
type benchStub struct {
	Wallet string `required:"" help:"Address of the wallet network. Its key is TILLGATE_WALLET_KEY."`
}

// stub is the running one.
type stub struct {
	wallet *wallet.Client
	next   atomic.Int64
}

// stubLifetime is that of a payment with a code, as the server asks for it.
const stubLifetime = 5 * time.Minute

// Run answers until it is told to stop.
func (c *benchStub) Run(e *env) error {
	s := &stub{wallet: &wallet.Client{BaseURL: c.Wallet, Key: e.getenv("TILLGATE_WALLET_KEY")}}
	l, err := listen("stub", "127.0.0.1:0")
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /upp/v1/transactions", s.serve)
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: headerTimeout, ReadTimeout: bodyTimeout, WriteTimeout: answerTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: headerMax}
	var parts errgroup.Group
	parts.Go(func() error {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("stub: %w", err)
		}
		return nil
	})
	if err := json.NewEncoder(e.stdout).Encode(stubInfo{URL: "http://" + l.Addr().String()}); err != nil {
		return errors.Join(err, srv.Close(), parts.Wait())
	}
	<-e.ctx.Done()
	return errors.Join(srv.Close(), parts.Wait())
}

// stubInfo is what a stub prints once it listens.
type stubInfo struct {
	URL string `json:"url"`
}

func (s *stub) serve(w http.ResponseWriter, r *http.Request) {
	body, err := s.create(w, r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(body)
}

func (s *stub) create(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if _, ok := upp.ParseBearer(r.Header.Get("Authorization")); !ok {
		return nil, errors.New("no bearer token")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, upp.BodyMax))
	if err != nil {
		return nil, err
	}
	q, err := upp.DecodeRequest(body)
	if err != nil {
		return nil, err
	}
	amount, err := q.Sum()
	if err != nil {
		return nil, err
	}
	id := s.next.Add(1)
	number := payment.Numbering{Prefix: "8010", Digits: 12}.Number(payment.ID(id))
	now := time.Now()
	p, err := s.wallet.Pay(r.Context(), wallet.PayRequest{Reference: number, MerchantID: "740218", MerchantName: "Bench", Amount: amount,
		Wallet: q.ProviderName(), Flow: wallet.FlowCode, Code: q.CustomerToken, Attach: fmt.Sprintf("1/%d/%d", id, id), Lifetime: stubLifetime})
	if err != nil {
		return nil, err
	}
	return stubAnswer(q, number, amount, now, p).Encode()
}

// stubAnswer says what the server would.
func stubAnswer(q *upp.CreateRequest, number string, amount money.Amount, created time.Time, p wallet.Payment) *upp.Transaction {
	t := q.Echo().Transaction()
	t.OutTradeNumber, t.Created, t.Modified = number, created.UnixMilli(), time.Now().UnixMilli()
	t.Approved = new(p.State == wallet.Approved)
	t.CompanyName, t.MerchantName, t.MerchantID, t.TerminalID = "Bench Pty Ltd", "Bench", "740218", "1"
	t.ClientIPAddress = "127.0.0.1"
	t.SettlementAmount, t.AmountCaptured = upp.NumberOf(amount), upp.NumberOf(amount)
	t.PaymentTime, t.SettlementBatch = p.PaidAt.UnixMilli(), created.UTC().Format("20060102")
	t.ProviderReference, t.BuyerIdentity = p.ProviderReference, q.ProviderName()+"-"+p.PayerID
	if x := p.Exchange; x != nil {
		if cur, err := money.ParseCurrency(x.Currency); err == nil {
			t.ExchangeDetails = &upp.ExchangeDetails{ExchangeRate: x.Rate, PurchaserBillingAmount: upp.BillingOf(money.New(x.Minor, cur), upp.TypePurchase),
				PurchaserBillingCurrency: x.Currency}
		}
	}
	return &t
}

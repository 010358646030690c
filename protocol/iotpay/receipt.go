package iotpay

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
	_ "time/tzdata" // Eastern time must be known everywhere.

	"github.com/tillgate/tillgate/card"
	"github.com/tillgate/tillgate/payment"
)

const (
	// reportWait is how long a terminal may take to finish after the host has answered: its second cryptogram, and its report. Until then the
	// order is not called paid, since the chip may still refuse (design 4.9), and the receipt is not complete.
	reportWait = 10 * time.Second
	// memoryLife is how long cryptogram and expiry stay in memory for the answers to come: a till that was cut off asks for a minute or so.
	memoryLife = 5 * time.Minute
	// memoryMax bounds how many reports are remembered; above it, old ones lose what is not kept in rows.
	memoryMax = 20_000
)

// cardLetters are the brands of cardType (§9.1).
var cardLetters = map[card.Scheme]string{card.Visa: "V", card.Mastercard: "M", card.Amex: "A", card.Discover: "O", card.Interac: "D",
	card.JCB: "J", card.UnionPay: "U"}

// methods are the letters of trxMethod (§9.1).
var methods = map[payment.EntryMode]string{payment.EntryContactlessChip: "T", payment.EntryContactlessStripe: "T", payment.EntryChip: "C",
	payment.EntryStripe: "S", payment.EntryKeyed: "M", payment.EntryNotPresent: "M"}

// What extra says where nothing was learned (§3.1).
const (
	noCard     = " "
	noExpiry   = "    "
	noBatch    = "0000"
	noSequence = "000000000000"
)

// transactionSale is trxCode: 00 is a purchase, whatever became of it (§9.1).
const transactionSale = "00"

// approvedDisplay is receiptDisp of every approved sale (seed).
const approvedDisplay = "000 Approved 00 Thank You"

// eastern is the zone of timeStamp (§9.1).
var eastern = sync.OnceValue(func() *time.Location {
	zone, err := time.LoadLocation("America/Toronto")
	if err != nil {
		panic(err) // It is built in.
	}
	return zone
})

// extraOf is a card order's extra: what the chip and the host said, as far as it is known.
func extraOf(v payment.View, m memo, r Report, status Status) *Extra {
	p, a := &v.Payment, &v.Attempt
	const invoiceRoom = 1_000_000
	x := &Extra{CardType: noCard, ExpireDate: noExpiry, TermNum: m.TermNum, BankTermNum: cmp.Or(a.Card.TID, m.BankTerm),
		TermInvoiceNum: cmp.Or(r.Invoice, fmt.Sprintf("%06d", int64(p.ID)%invoiceRoom)), SeqNum: noSequence, BatchNum: noBatch,
		ReceiptDisp: display(v, status), LangCode: "E", TrxCode: transactionSale, TimeStamp: timeStamp(v)}
	if r.Language == "fr" {
		x.LangCode = "F"
	}
	if !r.At.IsZero() || a.ID != 0 {
		x.TrxDate, x.TrxTime = localTime(v, r)
	}
	if letter, ok := cardLetters[cmp.Or(r.Scheme, a.Card.Scheme)]; ok { // The chip's AID knows better than the number.
		x.CardType = letter
	}
	x.CardNum = lastFour(cmp.Or(a.Card.Masked, r.Masked))
	x.TrxMethod = methods[cmp.Or(a.Card.Entry, r.Entry)]
	if !r.Expiry.IsZero() {
		yymm := r.Expiry.YYMM()
		x.ExpireDate = yymm[2:] + yymm[:2]
	}
	x.EMVLabel, x.EMVAID, x.EMVTVR, x.EMVTSI, x.CVMResults, x.AccountType = r.Label, r.AID, r.TVR, r.TSI, r.CVM, r.Account
	if r.Cryptogram != "" {
		x.EMVTC = r.CryptogramType + ": " + r.Cryptogram
	}
	if a.ID != 0 { // The host was asked.
		x.SeqNum = sequence(a, r)
	}
	if status.Paid() {
		x.AuthNum = a.Result.AuthCode
		const monthDay = 10_000 // Our batches are business days.
		x.BatchNum = cmp.Or(r.Batch, fmt.Sprintf("%04d", int(p.Day)%monthDay))
	}
	return x
}

// sequence is a sale's number at the host: the terminal's own, else the retrieval reference number.
func sequence(a *payment.Operation, r Report) string {
	if len(a.Number) == len(noSequence) {
		return cmp.Or(r.Sequence, a.Number)
	}
	return cmp.Or(r.Sequence, fmt.Sprintf("%012d", int64(a.ID)))
}

// lastFour hides all digits of a number but the last four.
func lastFour(masked string) string {
	const shown = 4
	if len(masked) < shown {
		return ""
	}
	return strings.Repeat("X", len(masked)-shown) + masked[len(masked)-shown:]
}

// timeStamp is the host's time in Eastern time, with hundredths (§9.1).
func timeStamp(v payment.View) string {
	at := v.Payment.ModifiedAt
	if !v.Attempt.SettledAt.IsZero() {
		at = v.Attempt.SettledAt
	}
	const hundredth = 10 * int(time.Millisecond)
	at = at.In(eastern())
	return at.Format("20060102-150405") + fmt.Sprintf("%02d", at.Nanosecond()/hundredth)
}

// localTime is the terminal's date and time: its own clock's, else ours in the store's zone.
func localTime(v payment.View, r Report) (date, clock string) {
	at := r.At
	if at.IsZero() {
		zone, err := time.LoadLocation(v.Payment.Calendar.Zone)
		if err != nil {
			zone = time.UTC
		}
		at = v.Attempt.CreatedAt.In(zone)
	}
	return at.Format("01022006"), at.Format("150405")
}

// display is receiptDisp: the result, to be printed and shown (§4.3).
func display(v payment.View, status Status) string {
	switch {
	case status.Paid():
		return approvedDisplay
	case !status.Final():
		return "" // Nothing to print yet.
	}
	e, ok := endings[v.Payment.Failure]
	if !ok {
		e = endings[payment.ReasonDeclined]
	}
	if v.Payment.State != payment.Refused && e.early != "" {
		return e.early
	}
	code := e.code
	if host := v.Attempt.Result.Code; v.Attempt.State == payment.Declined && host != "" {
		code = host
	}
	return "Transaction Not Completed " + code
}

// remembered are the reports of card orders in memory, with what is never kept in rows.
type remembered struct {
	mu      sync.Mutex
	reports map[payment.ID]rememberedReport
	order   []payment.ID // In the order of their ends.
}

type rememberedReport struct {
	report Report
	until  time.Time
}

func (m *remembered) put(id payment.ID, r Report, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.reports == nil {
		m.reports = map[payment.ID]rememberedReport{}
	}
	for len(m.order) > 0 && (len(m.order) >= memoryMax || !now.Before(m.reports[m.order[0]].until)) {
		delete(m.reports, m.order[0])
		m.order = m.order[1:]
	}
	m.reports[id] = rememberedReport{r, now.Add(memoryLife)}
	m.order = append(m.order, id)
}

func (m *remembered) get(id payment.ID, now time.Time) (Report, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	r, ok := m.reports[id]
	return r.report, ok && now.Before(r.until)
}

func receiptKey(p *payment.Payment) payment.Key {
	return payment.Key{Scope: scopeReceipt, Key: p.Number()}
}

// keepReport keeps a terminal's report: in memory as it is, and beside the payment without expiry and cryptogram, so that the receipt can be
// printed later, by any process. The first report stays.
func (s *Server) keepReport(ctx context.Context, p *payment.Payment, r Report) {
	s.memory.put(p.ID, r, s.now())
	text, err := json.Marshal(r)
	if err == nil {
		err = s.Core.Keep(ctx, p.Merchant, receiptKey(p), nil, text, keepFor)
	}
	if err != nil {
		s.Log.Error("iotpay: receipt not kept", "payment", p.Number(), "error", err)
	}
}

// report is what the terminal told of an order, and whether it has told anything.
func (s *Server) report(ctx context.Context, p *payment.Payment) (Report, bool, error) {
	if r, ok := s.memory.get(p.ID, s.now()); ok {
		return r, true, nil
	}
	kept, err := s.Core.Recall(ctx, p.Merchant, receiptKey(p), nil)
	if errors.Is(err, payment.ErrNotFound) {
		return Report{}, false, nil
	}
	if err != nil {
		return Report{}, false, err
	}
	var r Report
	if err := json.Unmarshal(kept.Answer, &r); err != nil {
		return Report{}, false, fmt.Errorf("iotpay: stored receipt of payment %d: %w", p.ID, err)
	}
	return r, true, nil
}

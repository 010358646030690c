package admin

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tillgate/tillgate/payment"
	"github.com/tillgate/tillgate/settlement"
	"github.com/tillgate/tillgate/sqlstore"
)

func init() {
	routes = append(routes,
		on("GET", "/merchants/{merchant}/ledger", "List a merchant's journal entries, of a payment or of business days.", []string{"payment", "from", "to", "after"},
			(*Server).listEntries),
		on("GET", "/merchants/{merchant}/balances", "Sum a merchant's ledger by currency.", []string{"from", "to"}, (*Server).listBalances),
		on("GET", "/merchants/{merchant}/batches", "List a merchant's settlement batches.", []string{"after"}, (*Server).listBatches),
		on("POST", "/merchants/{merchant}/batches", "Gather what an acquirer has approved and no batch has yet, and close it with the acquirer.", nil,
			(*Server).closeBatches),
	)
}

// idDigits are the last digits of every public number: those of the payment's ID.
const idDigits = 12

// entryFilter reads what the query limits a list of entries by.
func entryFilter(c call) (sqlstore.EntryFilter, error) {
	f := sqlstore.EntryFilter{Limit: pageRows}
	if number := c.query("payment"); number != "" {
		id, err := strconv.ParseInt(number[max(len(number)-idDigits, 0):], 10, 64)
		if err != nil || id == 0 {
			return f, &payment.FieldError{Field: "payment", Problem: strconv.Quote(number) + " is not a payment's number"}
		}
		f.Payment = payment.ID(id)
	}
	for name, to := range map[string]*payment.Day{"from": &f.From, "to": &f.To} {
		if err := parseDay(name, c.query(name), to); err != nil {
			return f, err
		}
	}
	return f, nil
}

// parseDay reads a business day such as 2026-04-14; empty is none.
func parseDay(field, text string, to *payment.Day) error {
	if text == "" {
		return nil
	}
	t, err := time.Parse(time.DateOnly, text)
	if err != nil {
		return &payment.FieldError{Field: field, Problem: strconv.Quote(text) + " is not a day such as 2026-04-14"}
	}
	*to = payment.Day(t.Year()*10000 + int(t.Month())*100 + t.Day())
	return nil
}

func dayText(d payment.Day) string {
	text := d.String()
	return text[:4] + "-" + text[4:6] + "-" + text[6:]
}

func (s *Server) listEntries(c call, _ none) (Page[Entry], error) {
	m, err := s.merchant(c)
	if err != nil {
		return Page[Entry]{}, err
	}
	f, err := entryFilter(c)
	if err != nil {
		return Page[Entry]{}, err
	}
	if after := c.query("after"); after != "" {
		var last sqlstore.Entry
		if _, err := fmt.Sscanf(after, "%d.%d", &last.Payment, &last.Operation); err != nil {
			return Page[Entry]{}, &payment.FieldError{Field: "after", Problem: "is not what the last part called next"}
		}
		f.After = &last
	}
	entries, err := s.cfg.Store.Entries(c.ctx, m.ID, f)
	out := Page[Entry]{Rows: []Entry{}}
	for _, e := range entries {
		if number := c.query("payment"); number != "" && !strings.HasSuffix(e.Number, number) {
			continue // Another protocol's number with the same digits behind.
		}
		out.Rows = append(out.Rows, Entry{e.Number, int64(e.Operation), string(e.Kind), e.Acquirer, e.Currency.Code(), dayText(e.Day), e.Postings.Receivable,
			e.Postings.Payable, e.Postings.Fees, e.Postings.Tips, e.PostedAt})
	}
	if len(entries) == pageRows {
		last := entries[len(entries)-1]
		out.Next = fmt.Sprintf("%d.%d", last.Payment, last.Operation)
	}
	return out, err
}

func (s *Server) listBalances(c call, _ none) (Page[Balance], error) {
	m, err := s.merchant(c)
	if err != nil {
		return Page[Balance]{}, err
	}
	f, err := entryFilter(c)
	if err != nil {
		return Page[Balance]{}, err
	}
	sums, err := s.cfg.Store.Totals(c.ctx, m.ID, f)
	out := Page[Balance]{Rows: []Balance{}}
	for _, cur := range slices.Sorted(maps.Keys(sums)) {
		p := sums[cur]
		out.Rows = append(out.Rows, Balance{cur, p.Receivable, p.Payable, p.Fees, p.Tips})
	}
	return out, err
}

// Batches.

func rowOfBatch(merchant string) func(settlement.Batch) Batch {
	return func(b settlement.Batch) Batch {
		return Batch{Merchant: merchant, Batch: b.Number(), Acquirer: b.Acquirer, Currency: b.Currency.Code(), Until: dayText(b.Day), State: string(b.State),
			Debits: b.Totals.Debits, DebitMinor: b.Totals.DebitMinor, Credits: b.Totals.Credits, CreditMinor: b.Totals.CreditMinor, Uploaded: b.Uploaded,
			Code: b.Code, CreatedAt: b.CreatedAt, SettledAt: b.SettledAt}
	}
}

func (s *Server) listBatches(c call, _ none) (Page[Batch], error) {
	m, err := s.merchant(c)
	if err != nil {
		return Page[Batch]{}, err
	}
	return page(c, func(after payment.ID, n int) ([]settlement.Batch, error) {
		return s.cfg.Store.Batches(c.ctx, m.ID, after, n)
	},
		func(b settlement.Batch) payment.ID { return b.ID }, rowOfBatch(m.PublicID))
}

// forever is a business day after all others: a close that names none takes everything that is approved.
const forever = payment.Day(99991231)

func (s *Server) closeBatches(c call, in CloseBatch) (Page[Batch], error) {
	m, err := s.merchant(c)
	if err != nil {
		return Page[Batch]{}, err
	}
	if s.cfg.Settler == nil {
		return Page[Batch]{}, fmt.Errorf("no server runs on this folder, and only a server reaches the acquirer: %w", payment.ErrConflict)
	}
	until := forever
	if err := parseDay("until", in.Until, &until); err != nil {
		return Page[Batch]{}, err
	}
	batches, err := s.cfg.Settler.Close(c.ctx, m, in.Acquirer, until)
	if isMissing(err) {
		err = &payment.FieldError{Field: "acquirer", Problem: err.Error()}
	}
	out := Page[Batch]{Rows: []Batch{}}
	for _, b := range batches {
		out.Rows = append(out.Rows, rowOfBatch(m.PublicID)(b))
	}
	return out, err
}

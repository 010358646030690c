// Package settlement closes batches: it gathers the approved operations of one acquirer, merchant, currency and business day, and agrees
// their totals with the acquirer. What is gathered is stored before the acquirer hears of it, and is closed again under the same number
// until it answers, across restarts.
package settlement

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
)

// State is where a batch stands.
type State string

// The states.
const (
	Open         State = "open" // Gathered; the acquirer has not agreed yet.
	Balanced     State = "balanced"
	OutOfBalance State = "out_of_balance" // The acquirer has other totals, even after it was told every movement: people must look. It is closed again with the next.
)

// Batch is what one merchant's operations at one acquirer come to.
type Batch struct {
	Merchant  payment.MerchantID
	ID        payment.ID
	Acquirer  string
	Currency  money.Currency
	Day       payment.Day // The last business day that is in it.
	State     State
	Totals    Totals
	Uploaded  int
	Code      string // The acquirer's last word.
	CreatedAt time.Time
	SettledAt time.Time // Zero before.
}

// Number names the batch at the acquirer.
func (b *Batch) Number() string { return strconv.FormatInt(int64(b.ID), 10) }

// Totals are counts and sums of minor units: debits are sales and captures, credits are refunds.
type Totals struct{ Debits, DebitMinor, Credits, CreditMinor int64 }

// Item is one movement of a batch that stands: an approved sale, capture or refund.
type Item struct {
	Payment  payment.ID
	Kind     payment.Kind
	Number   string // The acquirer's number of it.
	SentAt   time.Time
	TID      string
	AuthCode string
	Amount   money.Amount
}

// Result is what became of a close.
type Result struct {
	Balanced bool
	Uploaded int
	Code     string
}

// Closer agrees a batch with an acquirer. It may be called again with the same batch.
type Closer interface {
	CloseBatch(ctx context.Context, m payment.Merchant, zone string, b Batch, items []Item) (Result, error)
}

// Store keeps batches.
type Store interface {
	// GatherBatches puts what an acquirer has approved for a merchant until a business day, and no batch has yet, into new open batches, one
	// for each currency; and lists all that are not balanced. What is being voided waits for a later batch.
	GatherBatches(ctx context.Context, merchant payment.MerchantID, acquirer string, until payment.Day, now time.Time) ([]Batch, error)
	// BatchItems lists the movements of a batch that count, in the order of their operations.
	BatchItems(ctx context.Context, merchant payment.MerchantID, batch payment.ID) ([]Item, error)
	// RecountBatch leaves out of a batch what has been voided since it was gathered, and returns it with its totals as they are now.
	RecountBatch(ctx context.Context, b Batch) (Batch, error)
	// SettleBatch stores what the acquirer said of a batch that is not balanced yet.
	SettleBatch(ctx context.Context, b Batch) error
	Merchants(ctx context.Context, after payment.MerchantID, limit int) ([]payment.Merchant, error)
	Stores(ctx context.Context, merchant payment.MerchantID, after payment.ID, limit int) ([]payment.Place, error)
}

// Config is what a Settler needs.
type Config struct {
	Store   Store
	Closers map[string]Closer // By acquirer.
	Now     func() time.Time
	Log     *slog.Logger
}

// Settler closes batches.
type Settler struct {
	cfg  Config
	done map[payment.MerchantID]payment.Day // What Run has closed, so that it looks at a merchant once a day.
}

// New makes a settler.
func New(cfg Config) *Settler {
	return &Settler{cfg: cfg, done: map[payment.MerchantID]payment.Day{}}
}

const (
	// lookEvery is how often Run looks whose business day has ended.
	lookEvery = time.Minute
	// closeLimit bounds one close with all its uploads.
	closeLimit = 10 * time.Minute
	pageRows   = 500
)

// Close gathers and closes a merchant's batches at an acquirer until a business day. It returns all that it tried to close, and the first
// error; what failed stays open and is closed by the next call. ErrNotFound stands for an acquirer without batches.
func (s *Settler) Close(ctx context.Context, m payment.Merchant, acquirer string, until payment.Day) ([]Batch, error) {
	closer, ok := s.cfg.Closers[acquirer]
	if !ok {
		return nil, fmt.Errorf("acquirer %q has no batches: %w", acquirer, payment.ErrNotFound)
	}
	places, err := s.places(ctx, m.ID)
	if err != nil {
		return nil, err
	}
	zone := "UTC"
	if len(places) > 0 {
		zone = places[0].Calendar.Zone
	}
	batches, err := s.cfg.Store.GatherBatches(ctx, m.ID, acquirer, until, s.cfg.Now())
	if err != nil {
		return nil, err
	}
	for i := range batches {
		err = errors.Join(err, s.close(ctx, closer, m, zone, &batches[i]))
	}
	return batches, err
}

func (s *Settler) close(ctx context.Context, closer Closer, m payment.Merchant, zone string, b *Batch) error {
	fresh, err := s.cfg.Store.RecountBatch(ctx, *b)
	if err != nil {
		return err
	}
	*b = fresh
	items, err := s.cfg.Store.BatchItems(ctx, b.Merchant, b.ID)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, closeLimit)
	defer cancel()
	result, err := closer.CloseBatch(ctx, m, zone, *b, items)
	if err != nil {
		return fmt.Errorf("batch %s of merchant %s: %w", b.Number(), m.PublicID, err)
	}
	b.State, b.Uploaded, b.Code, b.SettledAt = Balanced, result.Uploaded, result.Code, s.cfg.Now().UTC().Truncate(time.Millisecond)
	if !result.Balanced {
		b.State = OutOfBalance
		s.cfg.Log.Error("settlement: the acquirer has other totals", "merchant", m.PublicID, "acquirer", b.Acquirer, "batch", b.Number(), "code", b.Code)
	}
	return s.cfg.Store.SettleBatch(ctx, *b)
}

// Run closes each merchant's batches when its business day has ended in all its stores, until ctx ends.
func (s *Settler) Run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if err := s.look(ctx); err != nil && ctx.Err() == nil {
			s.cfg.Log.Error("settlement: not done; it is tried again", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// look closes what is to be closed now. One merchant's trouble does not hold up the others.
func (s *Settler) look(ctx context.Context) error {
	var failed error
	for after := payment.MerchantID(0); ; {
		merchants, err := s.cfg.Store.Merchants(ctx, after, pageRows)
		if err != nil {
			return err
		}
		for _, m := range merchants {
			after = m.ID
			failed = errors.Join(failed, s.lookAt(ctx, m))
		}
		if len(merchants) < pageRows || ctx.Err() != nil {
			return failed
		}
	}
}

func (s *Settler) lookAt(ctx context.Context, m payment.Merchant) error {
	acquirers := map[string]bool{}
	for _, method := range m.Methods {
		if s.cfg.Closers[method.Acquirer] != nil {
			acquirers[method.Acquirer] = true
		}
	}
	if len(acquirers) == 0 {
		return nil
	}
	places, err := s.places(ctx, m.ID)
	if err != nil || len(places) == 0 {
		return err
	}
	// The last day that has ended everywhere: the day before the earliest of today's days.
	var until payment.Day
	for _, p := range places {
		day, err := p.Calendar.Day(s.cfg.Now().AddDate(0, 0, -1))
		if err != nil {
			return err
		}
		if until == 0 || day < until {
			until = day
		}
	}
	if s.done[m.ID] >= until {
		return nil
	}
	for acquirer := range acquirers {
		_, closeErr := s.Close(ctx, m, acquirer, until)
		err = errors.Join(err, closeErr)
	}
	if err == nil {
		s.done[m.ID] = until
	}
	return err
}

func (s *Settler) places(ctx context.Context, m payment.MerchantID) ([]payment.Place, error) {
	var all []payment.Place
	for after := payment.ID(0); ; {
		places, err := s.cfg.Store.Stores(ctx, m, after, pageRows)
		all = append(all, places...)
		if err != nil || len(places) < pageRows {
			return all, err
		}
		after = places[len(places)-1].ID
	}
}

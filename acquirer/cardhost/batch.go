package cardhost

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tillgate/tillgate/money"
	"github.com/tillgate/tillgate/payment"
)

// DE 66.
const (
	inBalance    = "1"
	outOfBalance = "2"
)

// uploadsMax is how many movements of a batch are uploaded at once, so that payments find room between them.
const uploadsMax = 16

// Batch is what one merchant's operations in one currency come to, to be settled.
type Batch struct {
	Number   string    // Names the batch at the host, at most 20 printable characters. The same number is the same batch.
	RRN      string    // Of the close itself: Traits().Number of a fresh ID.
	At       time.Time // When it was first sent.
	Zone     string    // The merchant's time zone.
	Merchant string    // The merchant's number, DE 42.
	Currency money.Currency
	// Items are the movements that stand. What was reversed or voided is not among them.
	Items []Item
}

// Item is one movement of a batch: an approved sale, capture or refund.
type Item struct {
	Kind     payment.Kind
	Number   string // Its RRN.
	SentAt   time.Time
	TID      string // As it was sent; empty for the merchant's own.
	AuthCode string
	Amount   money.Amount
}

// Totals are counts and sums of minor units.
type Totals struct{ Debits, DebitMinor, Credits, CreditMinor int64 }

// BatchResult is what became of a batch.
type BatchResult struct {
	Balanced bool   // The host had the same totals, or has taken over ours.
	Uploaded int    // How many movements were uploaded, because the totals differed at first.
	Code     string // The host's last code.
	Totals   Totals // Ours.
}

// ErrBatch is a batch that cannot be: an item of another kind or currency, or a sum that is too large.
var ErrBatch = errors.New("not a batch")

// RefusedError is the host's refusal of a message about a batch: it understood it and did nothing.
type RefusedError struct{ MTI, RRN, Code string }

// Error names the code.
func (e *RefusedError) Error() string {
	return fmt.Sprintf("refused by the card host: %s %s: %s %s", e.MTI, e.RRN, e.Code, codes[e.Code].meaning)
}

// Total sums a batch's items. It fails with ErrBatch.
func (b *Batch) Total() (Totals, error) {
	var t Totals
	debits, credits := money.New(0, b.Currency), money.New(0, b.Currency)
	for _, i := range b.Items {
		var err error
		switch i.Kind {
		case payment.Sale, payment.CaptureOperation:
			t.Debits++
			debits, err = debits.Add(i.Amount)
		case payment.Refund:
			t.Credits++
			credits, err = credits.Add(i.Amount)
		default:
			err = fmt.Errorf("%s moves no money", i.Kind)
		}
		if err == nil && !i.Amount.IsPositive() {
			err = errors.New("its amount is not above zero")
		}
		if err != nil {
			return Totals{}, fmt.Errorf("%w: item %s: %w", ErrBatch, i.Number, err)
		}
	}
	t.DebitMinor, t.CreditMinor = debits.Minor(), credits.Minor()
	return t, nil
}

// CloseBatch settles a batch with the host. When the totals differ, it uploads every item and closes again. It may be called again with the
// same batch whenever it failed, however far it came: the host knows the batch by its number. Errors: ErrBatch, ErrNotSent, ErrNoAnswer,
// *RefusedError.
func (l *Link) CloseBatch(ctx context.Context, b Batch) (BatchResult, error) {
	totals, err := b.Total()
	if err != nil {
		return BatchResult{}, err
	}
	res := BatchResult{Totals: totals}
	for _, step := range []string{processPurchase, processAfterBatch} {
		res.Balanced, res.Code, err = l.close(ctx, &b, step, totals)
		if err != nil || res.Balanced || step == processAfterBatch {
			break
		}
		if err = l.upload(ctx, &b); err != nil {
			break
		}
		res.Uploaded = len(b.Items)
	}
	if err != nil {
		return res, fmt.Errorf("batch %s: %w", b.Number, err)
	}
	return res, nil
}

// close sends the totals, and reports whether the host has the same.
func (l *Link) close(ctx context.Context, b *Batch, step string, t Totals) (balanced bool, code string, err error) {
	req := &message{mti: mtiClose}
	if err := l.common(req, b.RRN, b.At, b.Zone, b.Merchant, ""); err != nil {
		return false, "", fmt.Errorf("%w: %w", ErrBatch, err)
	}
	req.set(deProcessing, step)
	req.set(deCurrency, b.Currency.Numeric())
	req.set(deBatch, b.Number)
	for de, n := range map[int]int64{deCredits: t.Credits, deCreditsBack: 0, deDebits: t.Debits, deDebitsBack: 0,
		deCreditSum: t.CreditMinor, deCreditSumBack: 0, deDebitSum: t.DebitMinor, deDebitSumBack: 0} {
		req.setNumber(de, n)
	}
	answer, err := l.settle(ctx, req)
	if err != nil {
		return false, "", err
	}
	code = answer.get(deCode)
	switch said := answer.get(deBalance); {
	case code == codeApproved && said == inBalance:
		return true, code, nil
	case code == codeDiffer && said == outOfBalance:
		return false, code, nil
	case code == codeApproved || code == codeDiffer:
		return false, code, fmt.Errorf("%w: code %s and balance %q contradict each other", ErrNoAnswer, code, said)
	}
	return false, code, &RefusedError{req.mti, b.RRN, code}
}

// upload sends every item, some at once, and returns the first error.
func (l *Link) upload(ctx context.Context, b *Batch) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var once sync.Once
	var first error
	queue := make(chan Item)
	var workers sync.WaitGroup
	for range min(uploadsMax, len(b.Items)) {
		workers.Go(func() {
			for i := range queue {
				if err := l.uploadItem(ctx, b, i); err != nil {
					once.Do(func() { first = err })
					cancel() // The others need not go on: the whole is repeated.
				}
			}
		})
	}
	for _, i := range b.Items {
		queue <- i
	}
	close(queue)
	workers.Wait()
	return first
}

// uploadItem sends one item. Its STAN is that of its own message, which is long over, so that a repeat of the upload is the same.
func (l *Link) uploadItem(ctx context.Context, b *Batch, i Item) error {
	req := &message{mti: mtiUpload}
	original, err := l.original(i.Kind, i.Number, i.SentAt)
	if err == nil {
		err = l.common(req, i.Number, b.At, b.Zone, b.Merchant, i.TID)
	}
	if err != nil {
		return fmt.Errorf("%w: item %s: %w", ErrBatch, i.Number, err)
	}
	req.set(deProcessing, processPurchase)
	if i.Kind == payment.Refund {
		req.set(deProcessing, processRefund)
	}
	setAmount(req, i.Amount)
	if i.AuthCode != "" {
		req.set(deAuthCode, i.AuthCode)
	}
	req.set(deBatch, b.Number)
	req.set(deOriginal, original)
	answer, err := l.settle(ctx, req)
	if err != nil {
		return fmt.Errorf("item %s: %w", i.Number, err)
	}
	if code := answer.get(deCode); code != codeApproved {
		return &RefusedError{req.mti, i.Number, code}
	}
	return nil
}

// settle exchanges a message about a batch.
func (l *Link) settle(ctx context.Context, req *message) (*message, error) {
	if de := req.missing(); de != 0 {
		return nil, fmt.Errorf("%w: DE %d is missing", ErrBatch, de)
	}
	return l.exchange(ctx, req, nil)
}

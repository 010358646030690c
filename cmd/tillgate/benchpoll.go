package main

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tillgate/tillgate/protocol/upp"
)

const (
	pollsAtOnce = 64              // Pending payments made, and connections opened, at a time.
	pollsOpen   = 2 * time.Minute // For all of them.
	pollsLook   = 100 * time.Millisecond
)

// polling is many tills that wait for a payment, each on a connection of its own.
type polling struct {
	stop   context.CancelFunc // May be called again. Afterwards result tells.
	tills  sync.WaitGroup
	report benchPolls

	mu    sync.Mutex
	first error
}

// startPolls makes pending payments and opens a long poll for each; it returns once all of them wait in the server.
func (r *round) startPolls(ctx context.Context, count int) (_ *polling, err error) {
	u, err := url.Parse(r.url)
	if err != nil {
		return nil, err
	}
	orders, err := newOrders(u.Host, r.tokens, upp.CreateRequest{SaleType: upp.SaleMerchantPresented})
	if err != nil {
		return nil, err
	}
	opening, cancel := context.WithTimeout(ctx, pollsOpen)
	defer cancel()
	ctx, stop := context.WithCancel(ctx)
	p := &polling{stop: stop, report: benchPolls{Count: count}}
	defer func() {
		if err != nil {
			p.stop()
			p.tills.Wait()
		}
	}()
	if err := makePending(opening, orders, count); err != nil {
		return nil, fmt.Errorf("make pending payments: %w", err)
	}
	if p.report.ResidentBefore, err = resident(opening, r.url); err != nil {
		return nil, err
	}
	dialling, diallingCtx := errgroup.WithContext(opening)
	dialling.SetLimit(pollsAtOnce)
	for i := range count {
		dialling.Go(func() error {
			w, err := dialWire(diallingCtx, u.Host)
			if err == nil {
				p.tills.Go(func() { p.till(ctx, w, orders.poll(uint64(i+1))) })
			}
			return err
		})
	}
	if err := dialling.Wait(); err != nil {
		return nil, fmt.Errorf("open polls: %w", err)
	}
	for waiters := 0; waiters < count; {
		m, err := scrape(opening, r.url)
		if err != nil {
			return nil, fmt.Errorf("%d of %d polls wait: %w", waiters, count, err)
		}
		if err := p.failed(); err != nil {
			return nil, fmt.Errorf("poll: %w", err)
		}
		if waiters = int(m["tillgate_waiters"]); waiters < count {
			time.Sleep(pollsLook)
		}
	}
	p.report.ResidentAfter, err = resident(opening, r.url)
	return p, err
}

func resident(ctx context.Context, url string) (int64, error) {
	m, err := scrape(ctx, url)
	return int64(m["process_resident_memory_bytes"]), err
}

// makePending makes payments that customers would have to scan.
func makePending(ctx context.Context, o *orders, count int) error {
	makers, ctx := errgroup.WithContext(ctx)
	for i := range pollsAtOnce {
		makers.Go(func() error {
			w, err := dialWire(ctx, o.address)
			if err != nil {
				return err
			}
			defer func() { _ = w.conn.Close() }()
			defer context.AfterFunc(ctx, func() { _ = w.conn.Close() })()
			var request []byte
			for n := i; n < count; n += pollsAtOnce {
				request = o.take(request)
				status, body, err := w.exchange(request)
				if err != nil {
					return err
				}
				if status != http.StatusOK || !bytes.Contains(body, []byte(`"merchantToken":"`)) {
					return fmt.Errorf("answered %d: %.300s", status, body)
				}
			}
			return nil
		})
	}
	return makers.Wait()
}

// till asks again and again for a payment that nobody pays.
func (p *polling) till(ctx context.Context, w *wire, request []byte) {
	defer func() { _ = w.conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = w.conn.Close() })()
	for {
		_ = w.conn.SetDeadline(time.Now().Add(answerLimit))
		status, body, err := w.exchange(request)
		if ctx.Err() != nil {
			return
		}
		if err == nil && status != http.StatusAccepted { // UPP: still pending, ask again.
			err = fmt.Errorf("answered %d: %.300s", status, body)
		}
		p.mu.Lock()
		if err != nil {
			if p.report.Errors++; p.first == nil {
				p.first = err
			}
		} else {
			p.report.Rounds++
		}
		p.mu.Unlock()
		if err != nil {
			return // The others go on; the report counts it.
		}
	}
}

func (p *polling) failed() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.first
}

// result waits for the tills, after stop.
func (p *polling) result() *benchPolls {
	p.tills.Wait()
	if p.first != nil {
		p.report.FirstError = p.first.Error()
	}
	p.report.BytesPerPoll = math.Round(float64(p.report.ResidentAfter-p.report.ResidentBefore) / float64(p.report.Count))
	return &p.report
}

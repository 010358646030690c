package payment

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

// Watch is Await for thousands who wait at once: nobody waits in it. It calls then once, from a goroutine of its own, with the payment as soon as
// done holds, and as it is when limit is over, ctx ends, or end is called, which may be called at any time and as often as one likes.
func (e *Engine) Watch(ctx context.Context, m MerchantID, id ID, limit time.Duration, done func(View) bool, then func(View, error)) (end func()) {
	return watchFor(ctx, e, m, id, limit, done, readView(m, id), then)
}

// WatchRefund is Watch for a refund.
func (e *Engine) WatchRefund(ctx context.Context, m MerchantID, payment, id ID, limit time.Duration, done func(RefundView) bool,
	then func(RefundView, error)) (end func()) {
	return watchFor(ctx, e, m, payment, limit, done, readRefund(m, payment, id), then)
}

// watch is one who is to be told. While it waits, it is this and a timer.
type watch[V any] struct {
	e        *Engine
	read     func(Reader) (V, error)
	done     func(V) bool
	then     func(V, error)
	deadline time.Time

	mu      sync.Mutex // Not held while the signal, the store or then is called, except to begin.
	leave   func()     // Ends the signal.
	release func() bool
	timer   *time.Timer
	looking bool // A goroutine reads.
	again   bool // It must read once more.
	last    bool // Whatever is read next is told.
	over    bool
}

// watchFor subscribes before it reads, so that no change falls between.
func watchFor[V any](ctx context.Context, e *Engine, m MerchantID, id ID, limit time.Duration, done func(V) bool, read func(Reader) (V, error),
	then func(V, error)) (end func()) {
	w := &watch[V]{e: e, read: read, done: done, then: then, deadline: time.Now().Add(limit)}
	w.mu.Lock()
	end = func() { w.wake(true) }
	w.leave = e.cfg.Signal.Watch(m, id, func() { w.wake(false) })
	w.release = context.AfterFunc(ctx, end)
	w.timer = time.AfterFunc(min(limit, e.reread()), w.tick)
	w.mu.Unlock()
	w.wake(false)
	return end
}

// reread is how often a watch reads by itself.
func (e *Engine) reread() time.Duration {
	if e.cfg.Signal.Lossy() {
		return rereadEvery
	}
	return rereadNet
}

// tick is the deadline, or a read before it where signals may be lost.
func (w *watch[V]) tick() {
	left := time.Until(w.deadline)
	w.wake(left <= 0)
	if left > 0 {
		w.mu.Lock()
		defer w.mu.Unlock()
		if !w.over {
			w.timer.Reset(min(left, w.e.reread()))
		}
	}
}

// wake has the payment read, for the last time or not. It never blocks for long.
func (w *watch[V]) wake(last bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last = w.last || last
	switch {
	case w.over:
	case w.looking:
		w.again = true
	default:
		w.looking = true
		go w.look()
	}
}

// look reads until there is nothing new.
func (w *watch[V]) look() {
	for {
		w.mu.Lock()
		last := w.last
		w.again = false
		w.mu.Unlock()
		v, done, err := w.see()
		tell := err != nil || last || done
		w.mu.Lock()
		w.over = tell
		w.looking = !tell && w.again
		goOn := w.looking
		w.mu.Unlock()
		if tell {
			w.leave()
			w.release()
			w.timer.Stop()
			w.then(v, err)
			return
		}
		if !goOn {
			return
		}
	}
}

// see reads once. A panic is its caller's error, as it would be in a handler: nobody else need suffer from it.
func (w *watch[V]) see() (v V, done bool, err error) {
	defer func() {
		if p := recover(); p != nil {
			w.e.cfg.Log.Error("payment: a watch panicked", "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	err = w.e.cfg.Store.Read(context.Background(), func(r Reader) (err error) { v, err = w.read(r); return err })
	return v, err == nil && w.done(v), err
}

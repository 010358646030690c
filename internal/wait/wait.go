// Package wait is waiting that ends early: a pause that a context ends, and contexts that end when a server stops.
package wait

import (
	"context"
	"sync"
	"time"
)

// For waits for d, or until ctx ends, whose error it returns then. A context that has ended already waits for nothing.
func For(ctx context.Context, d time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Stop makes contexts of a channel that is closed when a server stops; a nil channel never is. The zero value is ready; each is for one
// channel only.
type Stop struct {
	once sync.Once
	ctx  context.Context
}

// Context is the context that ends when stopping is closed. There is one for all who wait, so that none needs a goroutine of its own.
func (s *Stop) Context(stopping <-chan struct{}) context.Context {
	s.once.Do(func() {
		s.ctx = context.Background()
		if stopping == nil {
			return
		}
		ctx, cancel := context.WithCancel(s.ctx)
		s.ctx = ctx
		select {
		case <-stopping:
			cancel() // It has begun to stop already.
		default:
			go func() {
				<-stopping
				cancel()
			}()
		}
	})
	return s.ctx
}

// Hold is ctx that also ends when stopping is closed, at once if it is.
func (s *Stop) Hold(ctx context.Context, stopping <-chan struct{}) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	if stopping == nil {
		return ctx, cancel
	}
	select {
	case <-stopping:
		cancel()
		return ctx, cancel
	default:
	}
	release := context.AfterFunc(s.Context(stopping), cancel)
	return ctx, func() {
		release()
		cancel()
	}
}

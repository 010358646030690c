package wait_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tillgate/tillgate/internal/wait"
)

func TestFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		if err := wait.For(t.Context(), time.Minute); err != nil || time.Since(began) != time.Minute {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began = time.Now()
		for range 2 { // The second is over before it begins.
			if err := wait.For(ctx, time.Minute); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
				t.Errorf("%v after %v", err, time.Since(began))
			}
		}
	})
}

func TestStop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s wait.Stop
		stopping := make(chan struct{})
		first, release := s.Hold(t.Context(), stopping)
		second, cancel := s.Hold(t.Context(), stopping)
		defer cancel()
		all := s.Context(stopping)
		release()
		synctest.Wait()
		if first.Err() == nil || second.Err() != nil || all.Err() != nil {
			t.Errorf("before: %v %v %v", first.Err(), second.Err(), all.Err())
		}
		close(stopping)
		synctest.Wait()
		if second.Err() == nil || all.Err() == nil {
			t.Errorf("after: %v %v", second.Err(), all.Err())
		}
		late, cancel := s.Hold(t.Context(), stopping)
		defer cancel()
		if late.Err() == nil {
			t.Error("a late one is held")
		}
		var began wait.Stop
		if began.Context(stopping).Err() == nil {
			t.Error("a stop that has begun is not seen")
		}
	})
	var never wait.Stop
	ctx, cancel := never.Hold(t.Context(), nil)
	if never.Context(nil).Err() != nil || ctx.Err() != nil {
		t.Error("without a channel it ends")
	}
	cancel()
	if ctx.Err() == nil {
		t.Error("cancelled, and held")
	}
}

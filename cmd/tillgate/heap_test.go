package main

import (
	"runtime"
	"runtime/debug"
	"testing"
)

func TestGarbageIsBounded(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		live    int64
		percent int
		memory  int64
	}{
		{0, gcPercent, memoryMin},
		{1 << 20, gcPercent, memoryMin},
		{20 << 20, gcPercent, memoryMin},
		{40 << 20, 200, memoryMin},
		{80 << 20, 100, 168 << 20},
		{1 << 30, gcPercentMin, 1584 << 20},
		{1 << 40, gcPercentMin, 3<<39 + memoryRoom},
	} {
		if percent, memory := gcFor(c.live); percent != c.percent || memory != c.memory {
			t.Errorf("%d bytes live: got %d %% and %d bytes, want %d %% and %d bytes", c.live, percent, memory, c.percent, c.memory)
		}
	}
}

// What is set follows what lives, however much that is.
func TestGarbageFollowsWhatLives(t *testing.T) {
	percent, memory := debug.SetGCPercent(100), debug.SetMemoryLimit(-1)
	defer func() {
		debug.SetGCPercent(percent)
		debug.SetMemoryLimit(memory)
	}()
	tuner := newGCTuner()
	var kept [][]byte
	for _, live := range []int64{1, 200, 500} { // MiB, at least.
		for int64(len(kept)) < live {
			kept = append(kept, make([]byte, 1<<20))
		}
		runtime.GC()
		tuner.tune()
		want := max(memoryMin, (live+live/2)<<20)
		if got := debug.SetMemoryLimit(-1); got < want || got > 2*want {
			t.Errorf("with %d MiB, memory may grow to %d MiB, want %d MiB and a little", live, got>>20, want>>20)
		}
	}
	runtime.KeepAlive(kept)
}

func TestTheEnvironmentDecidesAboutGarbage(t *testing.T) {
	percent, memory := debug.SetGCPercent(77), debug.SetMemoryLimit(1<<40)
	defer func() {
		debug.SetGCPercent(percent)
		debug.SetMemoryLimit(memory)
	}()
	for _, name := range []string{"GOGC", "GOMEMLIMIT"} {
		tuneGC(func(v string) string {
			if v == name {
				return "set"
			}
			return ""
		})
		if percent := debug.SetGCPercent(77); percent != 77 {
			t.Errorf("with %s, the percentage is %d", name, percent)
		}
		if memory := debug.SetMemoryLimit(-1); memory != 1<<40 {
			t.Errorf("with %s, the limit is %d", name, memory)
		}
	}
}

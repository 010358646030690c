package main

import "testing"

func TestGarbageIsBounded(t *testing.T) {
	t.Parallel()
	for live, want := range map[uint64]int{
		0:         gcPercent,
		1 << 20:   gcPercent,
		10 << 20:  gcPercent,
		20 << 20:  200,
		40 << 20:  100,
		480 << 20: gcPercentMin,
		1 << 40:   gcPercentMin,
	} {
		if got := gcPercentFor(live); got != want {
			t.Errorf("%d bytes live: got %d %%, want %d %%", live, got, want)
		}
	}
}

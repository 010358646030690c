package main

import (
	"runtime"
	"runtime/debug"
	runtimemetrics "runtime/metrics"
)

const (
	// gcPercent lets the heap grow to five times what lives before it is collected: what lives is small, and a collection costs every payment
	// that it meets (docs/performance.md).
	gcPercent = 400
	// garbageMax bounds that where much lives, such as thousands of long polls: five times as much would be gigabytes.
	garbageMax = 40 << 20
	// gcPercentMin keeps collections from following each other without a pause, however much lives.
	gcPercentMin = 50
)

// tuneGC sets how much garbage may gather, now and after each collection. It is for programs that run until the process ends.
func tuneGC() {
	debug.SetGCPercent(gcPercent)
	afterGC(&gcTuner{percent: gcPercent, samples: []runtimemetrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}}})
}

type gcTuner struct {
	percent int
	samples []runtimemetrics.Sample
}

// afterGC sets the percentage when a collection has found an object dead, and leaves another such object for the next.
func afterGC(t *gcTuner) {
	runtime.SetFinalizer(&struct{ *gcTuner }{t}, func(s *struct{ *gcTuner }) {
		s.tune()
		afterGC(s.gcTuner)
	})
}

func (t *gcTuner) tune() {
	runtimemetrics.Read(t.samples)
	var live uint64
	for _, s := range t.samples {
		live += s.Value.Uint64()
	}
	if p := gcPercentFor(live); p*10 < t.percent*9 || p*10 > t.percent*11 { // Each change stops the world for a moment.
		t.percent = p
		debug.SetGCPercent(p)
	}
}

// gcPercentFor is the percentage for so many live bytes.
func gcPercentFor(live uint64) int {
	return int(max(gcPercentMin, min(gcPercent, garbageMax*100/max(live, 1))))
}

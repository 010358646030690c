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
	garbageMax = 80 << 20
	// gcPercentMin keeps collections from following each other without a pause, however much lives.
	gcPercentMin = 50

	// memoryMin is what Go's memory may grow to before it is collected early: what lives grows faster than the percentage follows when
	// thousands of polls come at once. Where more lives, it is half as much again and memoryRoom.
	memoryMin  = 144 << 20
	memoryRoom = 48 << 20
)

// tuneGC sets how much garbage may gather, now and after each collection, unless the environment says so. It is for programs that run until the
// process ends.
func tuneGC(getenv func(string) string) {
	if getenv("GOGC") != "" || getenv("GOMEMLIMIT") != "" {
		return
	}
	t := newGCTuner()
	t.tune()
	afterGC(t)
}

func newGCTuner() *gcTuner {
	return &gcTuner{samples: []runtimemetrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/scan/stack:bytes"}}}
}

type gcTuner struct {
	percent int // As they were set last.
	memory  int64
	samples []runtimemetrics.Sample
}

// afterGC tunes when a collection has found an object dead, and leaves another such object for the next.
func afterGC(t *gcTuner) {
	runtime.SetFinalizer(&struct{ *gcTuner }{t}, func(s *struct{ *gcTuner }) {
		s.tune()
		afterGC(s.gcTuner)
	})
}

func (t *gcTuner) tune() {
	runtimemetrics.Read(t.samples)
	var live int64
	for _, s := range t.samples {
		live += int64(s.Value.Uint64())
	}
	percent, memory := gcFor(live)
	if alike(int64(percent), int64(t.percent)) && alike(memory, t.memory) {
		return // Each change stops the world for a moment.
	}
	t.percent, t.memory = percent, memory
	debug.SetGCPercent(percent)
	debug.SetMemoryLimit(memory)
}

func alike(a, b int64) bool { return a*10 >= b*9 && a*10 <= b*11 }

// gcFor is by how many percent the heap may grow beyond so many live bytes, and what all of Go's memory may grow to, in bytes.
func gcFor(live int64) (percent int, memory int64) {
	return int(max(gcPercentMin, min(gcPercent, garbageMax*100/max(live, 1)))), max(memoryMin, live+live/2+memoryRoom)
}

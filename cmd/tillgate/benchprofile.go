//go:build profile

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strings"
	"time"
)

// A program built with the tag profile writes profiles of itself into the folder that TILLGATE_PROFILE names; see docs/performance.md. No
// other build has any of this.

const (
	profileAfter = 4 * time.Second // The start and the warm-up are over.
	profileFor   = 8 * time.Second // So a bench must measure for 10 seconds at least.
)

func init() {
	dir := os.Getenv(profileVariable)
	if dir == "" || len(os.Args) < 2 {
		return
	}
	go func() { // It ends with the process: this is no part of the program.
		command := slices.DeleteFunc(slices.Clone(os.Args[1:min(3, len(os.Args))]), func(arg string) bool { return strings.HasPrefix(arg, "-") })
		if err := profile(filepath.Join(dir, fmt.Sprintf("%s-%d", strings.Join(command, "-"), os.Getpid()))); err != nil {
			fmt.Fprintln(os.Stderr, "profile:", err)
		}
	}()
}

// profile writes where the processor's time and the allocations of the given seconds went.
func profile(name string) error {
	time.Sleep(profileAfter)
	cpu, err := os.Create(name + ".cpu")
	if err != nil {
		return err
	}
	if err := pprof.StartCPUProfile(cpu); err != nil {
		return err
	}
	time.Sleep(profileFor)
	pprof.StopCPUProfile()
	if err := cpu.Close(); err != nil {
		return err
	}
	allocs, err := os.Create(name + ".allocs")
	if err != nil {
		return err
	}
	if err := pprof.Lookup("allocs").WriteTo(allocs, 0); err != nil {
		return err
	}
	return allocs.Close()
}

//go:build !linux

package main

import "syscall"

// inMemory reports whether a folder is on no disk at all, where that can be told.
func inMemory(string) bool { return false }

// dieWithUs is for kernels that can stop a child when its parent is killed.
func dieWithUs() *syscall.SysProcAttr { return nil }

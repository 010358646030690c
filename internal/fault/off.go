//go:build !faultpoint

// Package fault is the seam through which crash tests kill the real program at a chosen moment. Only a binary built with the tag
// faultpoint can die here; in every other build the functions do nothing and cost nothing.
package fault

import "net"

// After marks a moment after which a crash test may kill the process, such as "commit" or "write".
func After(string) {}

// Conn is c itself.
func Conn(c net.Conn) net.Conn { return c }

// Listener is l itself.
func Listener(l net.Listener) net.Listener { return l }

//go:build !unix

package park

// open takes every caller for being there: whoever has left is noticed when it is answered.
func open(uintptr) bool { return true }

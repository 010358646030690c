package peer_test

import (
	"testing"

	"github.com/tillgate/tillgate/internal/peer"
)

// TestAllows: what cannot be read lets nobody in.
func TestAllows(t *testing.T) {
	for _, tt := range []struct {
		list, ip string
		want     bool
	}{
		{"", "203.0.113.9:1234", true},
		{"203.0.113.9", "203.0.113.9:1234", true},
		{"203.0.113.9", "203.0.113.10:1234", false},
		{"203.0.113.9", "[::ffff:203.0.113.9]:1234", true},
		{"::ffff:203.0.113.9", "203.0.113.9:1234", true},
		{"::ffff:203.0.113.0/120", "203.0.113.9:1234", true},
		{"::ffff:203.0.113.0/120", "203.0.114.9:1234", false},
		{"::/0", "203.0.113.9:1234", false},
		{"0.0.0.0/0", "203.0.113.9:1234", true},
		{" 10.0.0.0/8 , 203.0.113.0/24 ", "203.0.113.9:1234", true},
		{"10.0.0.0/8,203.0.112.0/24", "203.0.113.9:1234", false},
		{"2001:db8::/32", "[2001:db8::17]:1234", true},
		{"2001:db8::/32", "[2001:db9::17]:1234", false},
		{"fe80::/10", "[fe80::1%eth0]:1234", true},
		{"fe80::1", "[fe80::1%eth0]:1234", true},
		{"everybody", "203.0.113.9:1234", false},
		{",", "203.0.113.9:1234", false},
		{"203.0.113.9", "a pipe", false},
		{"", "a pipe", true},
	} {
		host, ip := peer.Address(tt.ip)
		if got := peer.Allows(tt.list, ip); got != tt.want {
			t.Errorf("list %q, caller %s (%s): got %v", tt.list, tt.ip, host, got)
		}
	}
	for address, want := range map[string]string{"203.0.113.9:1": "203.0.113.9", "[::ffff:203.0.113.9]:1": "203.0.113.9", "[fe80::1%eth0]:1": "fe80::1",
		"[2001:db8::17]:1": "2001:db8::17", "203.0.113.9": "203.0.113.9", "a pipe": "a pipe"} {
		if got, _ := peer.Address(address); got != want {
			t.Errorf("address %s: got %s, want %s", address, got, want)
		}
	}
}

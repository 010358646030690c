// Package peer says who called: the address, and whether a merchant's list of addresses allows it.
package peer

import (
	"net"
	"net/netip"
	"strings"
)

// Address is the address of a caller, as text and, unless the connection has none, as an address. IPv4 has one form only, and no zone counts.
func Address(address string) (string, netip.Addr) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return host, netip.Addr{}
	}
	ip = ip.Unmap().WithZone("")
	return ip.String(), ip
}

// Allows reports whether a list of addresses and prefixes holds an address. An empty list holds all; what cannot be read holds none.
func Allows(list string, ip netip.Addr) bool {
	if list == "" {
		return true
	}
	if !ip.IsValid() {
		return false
	}
	const mapped = 96 // Bits in front of an IPv4 address that is written as IPv6.
	for entry := range strings.SplitSeq(list, ",") {
		entry = strings.TrimSpace(entry)
		if prefix, err := netip.ParsePrefix(entry); err == nil {
			if prefix.Addr().Is4In6() && prefix.Bits() >= mapped {
				prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-mapped)
			}
			if prefix.Contains(ip) {
				return true
			}
		}
		if one, err := netip.ParseAddr(entry); err == nil && one.Unmap().WithZone("") == ip {
			return true
		}
	}
	return false
}

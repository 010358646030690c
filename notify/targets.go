package notify

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/tillgate/tillgate/payment"
)

// urlMax bounds an address: longer ones are refused by many servers.
const urlMax = 2048

// Targets decides where notices may go. The zero value allows every public address over HTTP and HTTPS.
type Targets struct {
	// AllowPrivate allows every address, loopback and private ones too: for a laptop.
	AllowPrivate bool
	// Allow are ranges that are allowed though they are not public, such as a merchant's own network.
	Allow []netip.Prefix
	// Hosts are the only names and addresses that are allowed, where any are given. "*.example.com" stands for all names below.
	Hosts []string
	// Ports are the only ports that are allowed. Without any, these are 80, 443 and all from 1024.
	Ports []uint16
	// HTTPSOnly refuses addresses without TLS.
	HTTPSOnly bool
}

// reserved are the ranges that are not on the public internet, or lead back into a private network, as of IANA's registries of special-purpose
// addresses. Of IPv6 only 2000::/3 is public at all. A network that reaches IPv4 through NAT64 has to allow 64:ff9b::/96.
var reserved = prefixes(
	"0.0.0.0/8",       // This network; 0.0.0.0 is this host.
	"10.0.0.0/8",      // Private.
	"100.64.0.0/10",   // Shared by carriers (CGNAT); some clouds' metadata.
	"127.0.0.0/8",     // Loopback.
	"169.254.0.0/16",  // Link-local: metadata of most clouds.
	"172.16.0.0/12",   // Private.
	"192.0.0.0/24",    // Protocol assignments; metadata of a cloud.
	"192.0.2.0/24",    // Documentation.
	"192.88.99.0/24",  // 6to4 relays.
	"192.168.0.0/16",  // Private.
	"198.18.0.0/15",   // Benchmarks.
	"198.51.100.0/24", // Documentation.
	"203.0.113.0/24",  // Documentation.
	"224.0.0.0/4",     // Multicast.
	"240.0.0.0/4",     // Reserved, and broadcast.
	"::/3",            // Loopback, unspecified, and IPv4 addresses in other clothes: mapped, compatible, translated, NAT64.
	"2001::/23",       // Protocol assignments, Teredo among them.
	"2001:db8::/32",   // Documentation.
	"2002::/16",       // 6to4: an IPv4 address in other clothes.
	"3fff::/20",       // Documentation.
	"4000::/2",        // Not given to anybody; segment routing.
	"8000::/1",        // The same; unique local, link-local, site-local and multicast.
)

func prefixes(texts ...string) []netip.Prefix {
	var list []netip.Prefix
	for _, t := range texts {
		list = append(list, netip.MustParsePrefix(t))
	}
	return list
}

// TargetError says why an address is refused. It is a payment.ErrInvalid and names no secret: an address's query may hold one.
type TargetError struct{ Problem string }

func (e *TargetError) Error() string { return "address for notices: " + e.Problem }

// Unwrap makes it an ErrInvalid.
func (e *TargetError) Unwrap() error { return payment.ErrInvalid }

func refused(format string, args ...any) error { return &TargetError{fmt.Sprintf(format, args...)} }

// Check says whether notices may be sent to a URL, as far as that can be told without asking the DNS: that is done when they are sent.
// Errors: *TargetError.
func (t Targets) Check(rawURL string) error {
	_, err := t.parse(rawURL)
	return err
}

// target is an address that was checked.
type target struct {
	url  *url.URL
	host string // Lower case, without a final dot.
	port uint16
}

// parse is the only place where addresses are taken apart.
func (t Targets) parse(rawURL string) (target, error) {
	if len(rawURL) > urlMax {
		return target{}, refused("is longer than %d characters", urlMax)
	}
	u, err := url.Parse(rawURL)
	if err != nil {
		return target{}, refused("is no URL")
	}
	switch {
	case u.Scheme != "https" && u.Scheme != "http":
		return target{}, refused("want one that begins with https:// or http://")
	case u.Scheme == "http" && t.HTTPSOnly:
		return target{}, refused("want one that begins with https://")
	case u.Opaque != "" || u.Hostname() == "":
		return target{}, refused("has no host")
	case u.User != nil:
		return target{}, refused("holds a user name or password: remove it")
	case strings.Contains(u.Hostname(), "%"):
		return target{}, refused("has a zone in its host")
	}
	to := target{url: u, host: strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")}
	if to.port, err = portOf(u); err != nil {
		return target{}, err
	}
	if !t.allowsPort(to.port) {
		return target{}, refused("port %d is not allowed", to.port)
	}
	if !t.allowsHost(to.host) {
		return target{}, refused("host %q is not in the list of allowed hosts", to.host)
	}
	return to, t.checkHost(to.host)
}

func portOf(u *url.URL) (uint16, error) {
	text := u.Port()
	if text == "" {
		return map[string]uint16{"http": 80, "https": 443}[u.Scheme], nil
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return 0, refused("port %q is none", text)
	}
	return uint16(n), nil
}

func (t Targets) allowsPort(port uint16) bool {
	if len(t.Ports) > 0 {
		return slices.Contains(t.Ports, port)
	}
	return port == 80 || port == 443 || port >= 1024
}

func (t Targets) allowsHost(host string) bool {
	if len(t.Hosts) == 0 {
		return true
	}
	return slices.ContainsFunc(t.Hosts, func(allowed string) bool {
		if below, ok := strings.CutPrefix(allowed, "*"); ok {
			return strings.HasSuffix(host, strings.ToLower(below))
		}
		return host == strings.TrimSuffix(strings.ToLower(allowed), ".")
	})
}

// localNames end names that never are on the public internet (RFC 6761, RFC 6762, RFC 8375, and what clouds and networks use).
var localNames = []string{"localhost", "local", "localdomain", "internal", "intranet", "home.arpa", "lan", "corp", "home"}

// checkHost checks a host as it is written.
func (t Targets) checkHost(host string) error {
	if addr, err := netip.ParseAddr(host); err == nil {
		return t.checkAddr(addr)
	}
	if strings.Contains(host, ":") {
		return refused("host %q is no address", host)
	}
	labels := strings.Split(host, ".")
	for _, l := range labels {
		if l == "" || len(l) > 63 || strings.Trim(l, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return refused("host %q is no name: want it in ASCII", host)
		}
	}
	// Some resolvers read 2130706433, 0x7f000001, 127.1 and 0177.0.0.1 as addresses. No name in use ends in a number.
	if last := labels[len(labels)-1]; strings.Trim(last, "0123456789") == "" || strings.HasPrefix(last, "0x") {
		return refused("host %q is no address: want four numbers up to 255", host)
	}
	if t.AllowPrivate || len(t.Allow) > 0 { // Then a local name may lead to an allowed address; that is checked when it is sent to.
		return nil
	}
	if len(labels) == 1 {
		return refused("host %q is a name of a local network", host)
	}
	for _, local := range localNames {
		if host == local || strings.HasSuffix(host, "."+local) {
			return refused("host %q is a name of a local network", host)
		}
	}
	return nil
}

// checkAddr checks an address that is about to be dialled.
func (t Targets) checkAddr(addr netip.Addr) error {
	addr = addr.Unmap() // ::ffff:10.0.0.1 is 10.0.0.1.
	if t.AllowPrivate || slices.ContainsFunc(t.Allow, func(p netip.Prefix) bool { return p.Contains(addr.WithZone("")) }) {
		return nil
	}
	if addr.Zone() != "" || !addr.IsValid() || slices.ContainsFunc(reserved, func(p netip.Prefix) bool { return p.Contains(addr) }) {
		return refused("%s is not an address on the public internet", addr)
	}
	return nil
}

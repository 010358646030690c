package notify

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/tillgate/tillgate/payment"
)

func TestTargets(t *testing.T) {
	t.Parallel()
	office := []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd00::/64")}
	for _, tt := range []struct {
		name    string
		targets Targets
		good    []string
		bad     []string
	}{
		{"public addresses", Targets{},
			[]string{"https://till.example/hook?key=1", "http://till.example", "HTTPS://Till.Example./x", "https://till.example:8443/", "https://1.1.1.1/",
				"https://[2606:4700::1111]/", "http://a-b.c_d.example:80/", "https://xn--bcher-kva.example/", "https://0x.example/", "https://1e100.net/"},
			[]string{
				"", "till.example/hook", "//till.example/", "ftp://till.example/", "file:///etc/passwd", "gopher://till.example/", "javascript:1", "https:",
				"https:///x", "https:till.example", "http://:80/", "https://till.example:0/", "https://till.example:99999/", "https://till.example:22/",
				"http://till.example:25/", "https://till.example:-1/", "https://till.example:port/",
				"https://user@till.example/", "https://user:pass@till.example/", "https://1.1.1.1@10.0.0.1/", "https://@till.example/",
				"http://localhost/", "http://localhost./", "http://LOCALHOST:8080/", "http://x.localhost/", "http://printer.local/", "http://db/",
				"http://metadata.google.internal/", "http://router.lan/", "https://a..example/", "https://.example/", "https://till.example../",
				"https://bücher.example/", "https://till%2eexample/", "https://till.example%00/", "https://till example/", "https://till.example\\@10.0.0.1/",
				"https://\ttill.example/", "https://till.example/" + strings.Repeat("x", urlMax),
				// Loopback and this host.
				"http://127.0.0.1/", "http://127.1.2.3:8080/", "http://0.0.0.0/", "http://0.1.2.3/", "http://[::1]/", "http://[::]/",
				// The same in other clothes.
				"http://2130706433/", "http://0x7f000001/", "http://0x7f.1/", "http://127.1/", "http://0177.0.0.1/", "http://127.0.0.01/", "http://127.0.0.1./",
				"http://[::ffff:127.0.0.1]/", "http://[::ffff:7f00:1]/", "http://[::127.0.0.1]/", "http://[64:ff9b::7f00:1]/", "http://[64:ff9b:1::a00:1]/",
				"http://[2002:7f00:1::]/", "http://[2001:0:1::1]/", "http://[::ffff:0:127.0.0.1]/", "http://256.256.256.256/", "http://1.2.3/",
				// Private and shared.
				"http://10.0.0.1/", "http://172.16.0.1/", "http://172.31.255.255/", "http://192.168.1.1/", "http://100.64.0.1/", "http://[fc00::1]/",
				"http://[fdab::1]/", "http://[fec0::1]/", "http://[::ffff:10.0.0.1]/",
				// Link-local and metadata.
				"http://169.254.169.254/latest/meta-data", "http://[fe80::1]/", "http://[fe80::1%25eth0]/", "http://[fd00:ec2::254]/", "http://100.100.100.200/",
				"http://192.0.0.192/",
				// Multicast, broadcast, documentation, benchmarks.
				"http://224.0.0.1/", "http://255.255.255.255/", "http://240.0.0.1/", "http://[ff02::1]/", "http://192.0.2.1/", "http://198.51.100.1/",
				"http://203.0.113.1/", "http://198.18.0.1/", "http://[2001:db8::1]/", "http://[3fff::1]/", "http://[100::1]/",
			}},
		{"a laptop", Targets{AllowPrivate: true},
			[]string{"http://127.0.0.1:8080/", "http://localhost:8080/", "http://[::1]:8080/", "http://10.0.0.1/", "http://till/"},
			[]string{"ftp://localhost/", "http://u@localhost:8080/", "http://localhost:22/", "http://2130706433/"}},
		{"a merchant's own network", Targets{Allow: office},
			[]string{"http://10.1.2.3/", "http://[fd00::7]/", "http://[::ffff:10.1.2.3]/", "https://till.example/", "http://till.office.lan/", "http://1.1.1.1/"},
			[]string{"http://10.2.0.1/", "http://127.0.0.1/", "http://[fd00:0:0:1::1]/", "http://169.254.169.254/"}},
		{"only some hosts", Targets{Hosts: []string{"till.example", "*.hooks.example", "1.1.1.1"}},
			[]string{"https://till.example/", "https://TILL.example./", "https://a.hooks.example/", "https://a.b.hooks.example/", "http://1.1.1.1/"},
			[]string{"https://x.till.example/", "https://till.example.evil.example/", "https://hooks.example/", "https://xhooks.example/", "http://1.1.1.2/"}},
		{"only some ports", Targets{Ports: []uint16{443, 8443}},
			[]string{"https://till.example/", "https://till.example:8443/", "http://till.example:443/"},
			[]string{"http://till.example/", "https://till.example:9443/"}},
		{"only with TLS", Targets{HTTPSOnly: true}, []string{"https://till.example/"}, []string{"http://till.example/"}},
	} {
		for _, u := range tt.good {
			if err := tt.targets.Check(u); err != nil {
				t.Errorf("%s: %s is refused: %v", tt.name, u, err)
			}
		}
		for _, u := range tt.bad {
			err := tt.targets.Check(u)
			var refusal *TargetError
			if !errors.As(err, &refusal) || !errors.Is(err, payment.ErrInvalid) {
				t.Errorf("%s: %q: got %v, want a refusal", tt.name, u, err)
			}
		}
	}
}

// TestRefusalsTellNoSecret looks for what an address may hold in what is said about it.
func TestRefusalsTellNoSecret(t *testing.T) {
	t.Parallel()
	for _, u := range []string{"https://user:s3cret@till.example/s3cret?s3cret", "https://till.example/%zz?s3cret", "https://10.0.0.1/s3cret?s3cret#s3cret", "s3cret"} {
		if err := (Targets{}).Check(u); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: it says %v", u, err)
		}
	}
}

// FuzzTargets holds that what is allowed has a host that is sent to as it was checked.
func FuzzTargets(f *testing.F) {
	for _, u := range []string{"https://till.example/", "http://[::1]:80/", "http://0x7f.1/", "https://a@b/", "http://a%25b/"} {
		f.Add(u)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		to, err := (Targets{}).parse(raw)
		if err != nil {
			return
		}
		if addr, err := netip.ParseAddr(to.url.Hostname()); err == nil && (addr.Unmap().IsPrivate() || addr.Unmap().IsLoopback()) {
			t.Errorf("%q is allowed", raw)
		}
		again, err := (Targets{}).parse(to.url.String())
		if err != nil || again.host != to.host || again.port != to.port {
			t.Errorf("%q: sent to %q, which parses as %+v, %v", raw, to.url, again, err)
		}
	})
}

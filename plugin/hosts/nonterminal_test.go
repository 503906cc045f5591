package hosts

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
)

func TestExactBeatsWildcard(t *testing.T) {
	table := mustParse(t, "192.0.2.10 *.w.example\nfd00::1 *.w.example\n192.0.2.11 a.w.example\nfd00::2 *.b.example\n", Options{})
	for _, tt := range []struct {
		name            string
		exact, wildcard string
	}{
		{"a.w.example.", "192.0.2.11", "192.0.2.10 fd00::1"},
		{"b.w.example.", "", "192.0.2.10 fd00::1"},
		{"*.w.example.", "192.0.2.10 fd00::1", "192.0.2.10 fd00::1"},
		{"w.example.", "", ""},
		{"x.a.w.example.", "", ""}, {"*.a.w.example.", "", ""}, {"*.", "", ""}, {"*", "", ""},
		{"x.b.example.", "", "fd00::2"},
		{`x\.w.example.`, "", ""},
		{`x\.x.w.example.`, "", "192.0.2.10 fd00::1"},
	} {
		a, ok := table.Lookup(tt.name)
		if got := strings.Join(append(strings4(a), strings6(a)...), " "); got != tt.exact || ok != (got != "") {
			t.Errorf("%s: %q, %v, want %q", tt.name, got, ok, tt.exact)
		}
		a, ok = table.LookupWildcard(tt.name)
		if got := strings.Join(append(strings4(a), strings6(a)...), " "); got != tt.wildcard || ok != (got != "") {
			t.Errorf("wildcard of %s: %q, %v, want %q", tt.name, got, ok, tt.wildcard)
		}
	}
}

func TestNonTerminal(t *testing.T) {
	for _, tt := range []struct{ text, yes, no string }{
		{"", "", ". example. a.example."},
		{"10.0.0.1 .\n", "", ". example."},
		{"10.0.0.1 a\n", ".", "a. b.a. b."},
		{"10.0.0.1 . a\n", ".", "a."},
		{"10.0.0.1 *.x\n", ". x.", "y.x. *.x."},
		{"10.0.0.1 db.corp.cluster.local\n", ". local. cluster.local. corp.cluster.local.", "db.corp.cluster.local. x.db.corp.cluster.local. x.corp.cluster.local. ocal. orp.cluster.local. x.local."},
		{"10.0.0.1 a.b.c.d e.f.c.d f.c.d b.c.d c.d\n", ". d. c.d. b.c.d. f.c.d.", "a.b.c.d. e.f.c.d. x.c.d. x.d."},
		{"10.0.0.1 c.d b.c.d a.b.c.d x.a.b.c.d\n", ". d. c.d. b.c.d. a.b.c.d.", "x.a.b.c.d. a.c.d."},
		{"10.0.0.1 c.d a.b.c.d *.b.c.d *.f.c.d g.f.c.d\n", ". d. c.d. b.c.d. f.c.d.", "a.b.c.d. g.f.c.d. *.f.c.d."},
		{"10.0.0.1 *.apps.x db.shop.apps.x\n", "x. apps.x. shop.apps.x.", "a.apps.x. *.apps.x. .apps.x."},
		{"10.0.0.1 db.shop.apps.x *.apps.x apps.x\n", "x. apps.x. shop.apps.x.", "a.apps.x."},
		{"10.0.0.1 a\\.b.test c\\\\.d.test\n", "test. d.test.", `b.test. \.b.test. x.test. c\\.d.test.`},
	} {
		table := mustParse(t, tt.text, Options{})
		for _, name := range strings.Fields(tt.yes) {
			if !table.NonTerminal(name) {
				t.Errorf("%q: %s is not a non-terminal", tt.text, name)
			}
		}
		for _, name := range append(strings.Fields(tt.no), "", "..", `\`, `\.`, "nowhere.") {
			if table.NonTerminal(name) {
				t.Errorf("%q: %s is a non-terminal", tt.text, name)
			}
		}
	}
}

func TestHasNames(t *testing.T) {
	const text = "10.96.7.10 a.test\n10.96.7.11 b.test a.test\n192.168.0.1 *.wild.test\n255.255.255.255 c.test\n" +
		"2001:db8::1 a.test\n2001:db8::2 d.test e.test\nff00::1 *.wild.test\n::ffff:172.16.0.1 f.test\n"
	table := mustParse(t, text, Options{})
	var none *Table
	for _, tt := range []struct {
		prefix string
		want   bool
	}{
		{"0.0.0.0/0", true},
		{"10.0.0.0/8", true}, {"10.96.0.0/16", true}, {"10.96.7.0/24", true}, {"10.96.7.10/32", true},
		{"9.0.0.0/8", false}, {"11.0.0.0/8", false}, {"10.95.0.0/16", false}, {"10.97.0.0/16", false},
		{"10.96.6.0/24", false}, {"10.96.8.0/24", false}, {"10.96.7.12/32", false},
		{"192.0.0.0/8", false}, {"255.255.255.0/24", true}, {"255.255.254.0/24", false}, {"172.16.0.0/16", true},
		{"::/0", true},
		{"2000::/4", true}, {"2000::/8", true}, {"2001:db8::/32", true}, {"2001:db8::/64", true}, {"2001:db8::/124", true},
		{"2001:db8::2/128", true}, {"2001:db8::3/128", false}, {"2001:db8::10/124", false}, {"2001:db8:0:1::/64", false},
		{"3000::/4", false}, {"2100::/8", false}, {"ff00::/8", false},
		{"::/4", false}, {"::/80", false}, {"::ffff:0:0/96", false}, {"::ffff:10.0.0.0/104", false}, {"::ffff:10.96.7.10/128", false}, // in in-addr.arpa
	} {
		p := netip.MustParsePrefix(tt.prefix)
		if got := table.HasNames(p); got != tt.want {
			t.Errorf("%s: %v, want %v", p, got, tt.want)
		}
		if none.HasNames(p) || mustParse(t, text, Options{NoReverse: true}).HasNames(p) {
			t.Errorf("%s has names that do not exist", p)
		}
	}
	ends := mustParse(t, "0.0.0.0 a.test\nffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff a.test\n", Options{})
	for _, p := range []string{"0.0.0.0/24", "ffff::/16", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff0/124"} {
		if !ends.HasNames(netip.MustParsePrefix(p)) {
			t.Errorf("%s has no names", p)
		}
	}
	if table.HasNames(netip.Prefix{}) {
		t.Error("no prefix has names")
	}
}

// TestNonTerminalAtRandom compares with a set of all ancestors, and with one of all prefixes.
func TestNonTerminalAtRandom(t *testing.T) {
	labels := []string{"a", "b", "c", "*", `d\.d`}
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 1))
		var text strings.Builder
		nodes, prefixes := map[string]bool{}, map[netip.Prefix]bool{}
		for range r.IntN(60) {
			var ip [16]byte
			for range r.IntN(4) {
				ip[r.IntN(16)] = byte(r.IntN(3)) << (4 * r.IntN(2))
			}
			addr := netip.AddrFrom16(ip)
			if r.IntN(2) == 0 {
				addr = netip.AddrFrom4([4]byte(ip[12:]))
			}
			name := "test"
			for range r.IntN(6) {
				nodes[name+"."] = true
				name = labels[r.IntN(len(labels))] + "." + name
			}
			fmt.Fprintf(&text, "%s %s\n", addr, name)
			if strings.HasPrefix(name, "*.") {
				continue
			}
			for bits := 0; bits <= addr.BitLen(); bits += 4 {
				prefixes[netip.PrefixFrom(addr, bits).Masked()] = true
			}
		}
		table := mustParse(t, text.String(), Options{})
		if n := len(nodes); table.tree.used > min(n, table.names.used) {
			t.Errorf("the tree has %d nodes of %d, for %d names", table.tree.used, n, table.names.used)
		}
		ask := func(name string) {
			if got := table.NonTerminal(name); got != nodes[name] {
				t.Errorf("%s: %v, want %v", name, got, nodes[name])
			}
		}
		for node := range nodes {
			ask(node)
			for _, l := range labels {
				ask(l + "." + node)
				ask(l + "." + l + "." + node)
			}
		}
		for p := range prefixes {
			if !table.HasNames(p) {
				t.Errorf("%s has no names", p)
			}
			for range 8 {
				ip := p.Addr().As16()
				bit := r.IntN(p.Addr().BitLen()) + 128 - p.Addr().BitLen()
				ip[bit/8] ^= 128 >> (bit % 8)
				other := netip.AddrFrom16(ip)
				if p.Addr().Is4() {
					other = other.Unmap()
				}
				if q, _ := other.Prefix(p.Bits()); table.HasNames(q) != prefixes[q] {
					t.Errorf("%s: has names is %v, want %v", q, table.HasNames(q), prefixes[q])
				}
			}
		}
		if t.Failed() {
			t.Fatalf("the file was:\n%s", text.String())
		}
	}
}

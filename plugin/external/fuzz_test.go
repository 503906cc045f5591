package external

import (
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/kubehosts/kubehosts/plugin/domain"
)

// Whatever an object contains, packing it and looking up its names is safe, the resulting names and values fit into
// messages, and packing the result again makes no difference.
func FuzzObjects(f *testing.F) {
	f.Add("www.example.org", "192.0.2.1", "10 mail.example.org", "60", int64(1), uint8(0))
	f.Add("www.example.org fuzz.example.org fuzz example.org", "192.0.2.1", "fuzz.example.org", "60", int64(1), uint8(0))
	f.Add("*.example.org", "lb.example.net.", "1 2 3 srv.example.org", "10m", int64(-1), uint8(3))
	f.Add("*.*.example.org", "fe80::1%eth0", "v=spf1 -all", "-1s", int64(1<<60), uint8(255))
	f.Add(`a;b.example.org,m\195\188ller.example.org, b\.c\,\ .example.org,é.example.org`, `user@host.example\ `, `1 2 3 x\032y,z.example`, "1", int64(1), uint8(5))
	f.Add("a..b,c.d , *", "::ffff:192.0.2.1", "0 0 0 .", "x", int64(0), uint8(77))
	f.Fuzz(func(t *testing.T, host, address, rdata, ttl string, number int64, bits uint8) {
		m := Meta{Namespace: "shop", Name: "fuzz", Created: number, Generation: number, Annotations: map[string]string{
			"external-dns.kubernetes.io/hostname": host, "external-dns.kubernetes.io/internal-hostname": rdata, "external-dns.kubernetes.io/ttl": ttl,
		}}
		if bits&1 != 0 {
			m.Annotations["external-dns.kubernetes.io/target"] = address
		}
		parent := ParentRef{Name: "fuzz", Section: pickWord(bits, host), Port: int32(bits >> 6)}
		set := parent
		set.Kind = "ListenerSet"
		conditions := []Condition{{"Accepted", "True", number}}
		from := From{Namespaces: "Selector", Selector: &Selector{Labels: map[string]string{host: address}, Expressions: []Expression{{host, "In", []string{rdata, address}}}}}
		listeners := []Listener{{Name: host, Hostname: host, Protocol: "HTTP", Port: int32(bits >> 6), Routes: from, Conditions: conditions}, {Name: rdata, Hostname: address, Protocol: "TLS", TLSMode: ttl, Conditions: conditions}}
		all := []*Object{
			NewIngress(IngressSpec{Meta: m, Class: rdata, Hosts: strings.Fields(host), Addresses: strings.Fields(address)}),
			NewService(ServiceSpec{Meta: m, LoadBalancer: bits&2 != 0, Headless: bits&4 != 0, Addresses: []string{address}, ExternalIPs: []string{rdata}, ClusterIPs: []string{address}, Ports: []Port{{host, rdata, int32(number)}}}),
			NewGateway(GatewaySpec{Meta: m, Class: rdata, Addresses: []Address{{"", address}, {"Hostname", host}}, Listeners: listeners, AllowedListeners: from}),
			NewListenerSet(ListenerSetSpec{Meta: m, Parent: ParentRef{Name: "fuzz"}, Listeners: listeners, Conditions: conditions}),
			NewRoute(RouteSpec{Meta: m, Kind: KindHTTPRoute + Kind(bits%5), Hostnames: strings.Fields(host), Parents: []ParentRef{parent, set}, Status: []ParentStatus{{parent, conditions}, {set, conditions}}}),
			NewDNSEndpoint(DNSEndpointSpec{Meta: m, Endpoints: []Endpoint{{host, "A", number, []string{address, rdata}}, {host, "SRV", number, []string{rdata}}, {host, "MX", 0, []string{rdata}}, {host, "TXT", number, []string{rdata}}, {host, "CNAME", 0, []string{address}}}}),
			NewNode(NodeSpec{Meta: Meta{Name: host}, InternalIPs: []string{address}}),
			NewNamespace(NamespaceSpec{Name: "shop", Labels: map[string]string{host: address}}),
		}
		ix := NewIndex()
		c := ix.Watch(&everything, func([]Conflict, []Conflict) {})
		defer c.Stop()
		for _, o := range all {
			ix.Update(func(tx *Tx) { tx.Set(o) })
			if o == nil {
				continue
			}
			if again := pack(unpack(o)); again == nil || !again.Equal(o) {
				t.Fatalf("%s: %+v differs when it is packed again", o.Ref(), unpack(o))
			}
		}
		s := ix.State()
		names := append(slices.Collect(s.Names(zone, &everything)), slices.Collect(s.Names(".", &everything))...)
		for _, name := range names {
			checkName(t, name)
			m := s.Lookup(".", name, &everything)
			if m.Outcome == NameError || m.Outcome == NoData {
				m = s.Lookup(zone, name, &everything)
			}
			if m.Outcome == NameError || m.Outcome == NoData {
				t.Fatalf("%s is yielded but not found", name)
			}
			for target := range m.Hosts {
				checkName(t, target)
			}
			for server := range m.Servers {
				checkName(t, server.Target)
			}
			for mail := range m.Mails {
				checkName(t, mail.Host)
			}
			m.Ports(func(port uint16, target string) bool { checkName(t, target); return true })
			if seconds, ok := m.TTL(TypeA); ok && seconds > 1<<31-1 {
				t.Fatalf("a TTL of %d", seconds)
			}
			for a := range m.Addrs {
				if !a.IsValid() || a.Zone() != "" || a.Is4In6() {
					t.Fatalf("an address %v", a)
				}
			}
		}
		if host = strings.ToLower(host); host != "" {
			s.Lookup(zone, host+"."+zone, &everything)
		}
		ix.Update(func(tx *Tx) {
			for _, o := range all {
				if o != nil {
					tx.Delete(o.Kind(), o.Namespace(), o.Name())
				}
			}
		})
		checkEmpty(t, ix)
	})
}

func pickWord(bits uint8, word string) string {
	if bits&8 != 0 {
		return word
	}
	return ""
}

// checkName checks that a message can hold the name (RFC 1035, section 2.3.4), in the form in which a question has it.
func checkName(t *testing.T, name string) {
	t.Helper()
	if again, _, err := domain.Parse(name); err != nil || again != name {
		t.Fatalf("a name %q, which is %q in a question: %v", name, again, err)
	}
}

// The intersection of two hostnames matches what both match, in either order.
func FuzzIntersect(f *testing.F) {
	f.Add("*.example.org", "a.b.example.org")
	f.Add("*.a.b", "*.b")
	f.Fuzz(func(t *testing.T, a, b string) {
		a, ok1 := hostname(a)
		b, ok2 := hostname(b)
		if !ok1 || !ok2 {
			return
		}
		got, ok := intersect(a, b)
		again, ok2 := intersect(b, a)
		if got != again || ok != ok2 {
			t.Fatalf("%q and %q: %q, and the other way around %q", a, b, got, again)
		}
		if want, wanted := common(a, b); got != want || ok != wanted {
			t.Fatalf("%q and %q: %q %v, want %q %v", a, b, got, ok, want, wanted)
		}
	})
}

// Names are ordered by their labels, from the last to the first.
func FuzzCompareNames(f *testing.F) {
	f.Add("a.example.org", "example.org")
	f.Add("*.b", "b")
	f.Fuzz(func(t *testing.T, a, b string) {
		a, ok1 := hostname(a)
		b, ok2 := hostname(b)
		if !ok1 || !ok2 {
			return
		}
		reversed := func(name string) []string {
			labels := dns.SplitDomainName(name + ".")
			slices.Reverse(labels)
			return labels
		}
		want := slices.Compare(reversed(a), reversed(b))
		if got := compareNames(a, b); got != want {
			t.Fatalf("%q and %q: %d, want %d", a, b, got, want)
		}
		for _, host := range splits(a) {
			for _, other := range splits(b) {
				if got := compareHosts(host, other); got != want {
					t.Fatalf("%q and %q: %d, want %d", host, other, got, want)
				}
			}
			if got := host.is(b); got != (a == b) || host.String() != a {
				t.Fatalf("%q is %q: %v", host, b, got)
			}
			if got := host.within(b); got != within(a, b) {
				t.Fatalf("%q is %q or below it: %v", host, b, got)
			}
			if got, isWild := host.wildcard(); isWild != strings.HasPrefix(a, "*.") || isWild && "*."+got.String() != a {
				t.Fatalf("%q is the wildcard below %q: %v", host, got, isWild)
			}
			if below, ok := wildcard(b); ok && host.same(wildcardBelow(below)) != (a == b) {
				t.Fatalf("%q is the wildcard below %q: %v", host, below, a != b)
			}
		}
	})
}

// splits returns a name, whole and as a host of each zone above it.
func splits(name string) []host {
	all := []host{{first: name}}
	for at := range len(name) {
		if name[at] == '.' {
			all = append(all, host{name[:at], name[at+1:]})
		}
	}
	return all
}

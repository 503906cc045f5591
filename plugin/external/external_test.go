package external

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kubehosts/kubehosts/plugin/growth"
	"github.com/kubehosts/kubehosts/plugin/serial"
)

const zone = "example.org."

var everything = Selection{Zones: []string{zone}, Sources: FromIngress | FromService | FromGateway | FromDNSEndpoint | FromNode}

// all puts objects into an Index.
func indexOf(all ...*Object) *Index {
	ix := NewIndex()
	ix.Update(func(tx *Tx) {
		for _, o := range all {
			tx.Set(o)
		}
	})
	return ix
}

// answerTo returns the answer of s for a name, in words.
func answerTo(s *State, name string, sel *Selection) string {
	m := s.Lookup(zone, name, sel)
	var words []string
	switch m.Outcome {
	case NameError:
		return "NXDOMAIN"
	case NoData:
		return "NODATA"
	case Internal, Headless:
		ns, name, headless := m.Service()
		words = append(words, fmt.Sprintf("service %s/%s headless %v", ns, name, headless))
		for a := range m.ClusterIPs {
			words = append(words, a.String())
		}
		return strings.Join(words, " ")
	}
	for a := range m.Addrs {
		words = append(words, a.String())
	}
	for host := range m.Hosts {
		words = append(words, host)
	}
	for text := range m.Texts {
		words = append(words, fmt.Sprintf("TXT %q", text))
	}
	for server := range m.Servers {
		words = append(words, fmt.Sprint("SRV ", server))
	}
	for mail := range m.Mails {
		words = append(words, fmt.Sprint("MX ", mail))
	}
	m.Ports(func(port uint16, target string) bool {
		words = append(words, fmt.Sprint("port ", port, " ", target))
		return true
	})
	if below := m.Wildcard(); below != "" {
		words = append(words, "by *."+below)
	}
	return strings.Join(words, " ")
}

func named(name string) Meta { return Meta{Namespace: "shop", Name: name, Created: 1000} }

func annotated(name, key, value string) Meta {
	m := named(name)
	m.Annotations = map[string]string{key: value}
	return m
}

func TestLookup(t *testing.T) {
	s := indexOf(
		NewIngress(IngressSpec{Meta: named("web"), Hosts: []string{"www.example.org", "Upper.Example.Org", "*.apps.example.org", "a.b.c.example.org", "not a host", "192.0.2.1"}, Addresses: []string{"192.0.2.1", "2001:db8::1"}}),
		NewIngress(IngressSpec{Meta: named("cloud"), Hosts: []string{"cloud.example.org", "example.org"}, Addresses: []string{"lb-1.cloud.example.net"}}),
		NewIngress(IngressSpec{Meta: named("pending"), Hosts: []string{"pending.example.org"}}),
		NewIngress(IngressSpec{Meta: annotated("target", "external-dns.alpha.kubernetes.io/target", "192.0.2.7, lb.example.net."), Hosts: []string{"target.example.org"}, Addresses: []string{"192.0.2.1"}}),
		NewService(ServiceSpec{Meta: annotated("lb", "coredns.io/hostname", "lb.example.org, *.lb.example.org"), LoadBalancer: true, Addresses: []string{"192.0.2.2"}, ExternalIPs: []string{"192.0.2.3"},
			ClusterIPs: []string{"10.96.0.2"}, Ports: []Port{{"http", "TCP", 80}, {"dns", "UDP", 53}}}),
		NewService(ServiceSpec{Meta: annotated("in", "external-dns.kubernetes.io/internal-hostname", "in.example.org"), ClusterIPs: []string{"10.96.0.3", "fd00::3"}}),
		NewService(ServiceSpec{Meta: annotated("external-name", "external-dns.kubernetes.io/internal-hostname", "external-name.example.org")}),
		NewService(ServiceSpec{Meta: annotated("in-headless", "external-dns.alpha.kubernetes.io/internal-hostname", "in-headless.example.org"), Headless: true, ClusterIPs: []string{"None"}}),
		NewService(ServiceSpec{Meta: named("db"), Headless: true, ClusterIPs: []string{"None"}}),
		NewService(ServiceSpec{Meta: named("plain"), ClusterIPs: []string{"10.96.0.4"}}),
		NewNode(NodeSpec{Meta: Meta{Name: "node-1"}, InternalIPs: []string{"10.0.0.1"}}),
		NewNode(NodeSpec{Meta: Meta{Name: "node-2.rack"}, InternalIPs: []string{"10.0.0.2"}}),
		NewDNSEndpoint(DNSEndpointSpec{Meta: named("records"), Endpoints: []Endpoint{
			{"mx.example.org", "A", 30, []string{"192.0.2.10"}},
			{"mx.example.org", "AAAA", 0, []string{"2001:db8::10", "192.0.2.11"}},
			{"mx.example.org", "TXT", 40, []string{"v=spf1 -all"}},
			{"mx.example.org", "MX", 0, []string{"10 mail.example.org", "bad"}},
			{"_sip._tcp.example.org", "SRV", 0, []string{"1 2 5060 sip.example.org.", "1 2 three sip.example.org"}},
			{"alias.example.org", "CNAME", 0, []string{"www.example.net"}},
			{"*.wild.example.org", "A", 0, []string{"192.0.2.12"}},
			{"ptr.example.org", "PTR", 0, []string{"x.example.org"}},
		}}),
	).State()
	for name, want := range map[string]string{
		"www.example.org.":                "192.0.2.1 2001:db8::1",
		"upper.example.org.":              "192.0.2.1 2001:db8::1",
		"x.apps.example.org.":             "192.0.2.1 2001:db8::1 by *.apps.example.org",
		"*.apps.example.org.":             "192.0.2.1 2001:db8::1 by *.apps.example.org",
		"x.y.apps.example.org.":           "NXDOMAIN",
		"apps.example.org.":               "NODATA",
		"b.c.example.org.":                "NODATA",
		"c.example.org.":                  "NODATA",
		"d.c.example.org.":                "NXDOMAIN",
		"x.a.b.c.example.org.":            "NXDOMAIN",
		"cloud.example.org.":              "lb-1.cloud.example.net.",
		"example.org.":                    "lb-1.cloud.example.net.",
		"pending.example.org.":            "NXDOMAIN",
		"target.example.org.":             "192.0.2.7 lb.example.net.",
		"lb.example.org.":                 "192.0.2.2 192.0.2.3",
		"x.y.lb.example.org.":             "192.0.2.2 192.0.2.3 by *.lb.example.org",
		"lb.shop.example.org.":            "192.0.2.2 192.0.2.3 port 80 lb.shop.example.org. port 53 lb.shop.example.org.",
		"_http._tcp.lb.shop.example.org.": "192.0.2.2 192.0.2.3 port 80 lb.shop.example.org.",
		"_http._udp.lb.shop.example.org.": "NXDOMAIN",
		"_udp.lb.shop.example.org.":       "NODATA",
		"_sctp.lb.shop.example.org.":      "NXDOMAIN",
		"x.lb.shop.example.org.":          "NXDOMAIN",
		"shop.example.org.":               "NODATA",
		"none.example.org.":               "NXDOMAIN",
		"in.example.org.":                 "service shop/in headless false 10.96.0.3 fd00::3",
		"in-headless.example.org.":        "service shop/in-headless headless true",
		"external-name.example.org.":      "NXDOMAIN",
		"in.shop.example.org.":            "NXDOMAIN",
		"db.shop.example.org.":            "service shop/db headless true",
		"0.db.shop.example.org.":          "service shop/db headless true",
		"_a._tcp.db.shop.example.org.":    "service shop/db headless true",
		"a.b.c.db.shop.example.org.":      "NXDOMAIN",
		"plain.shop.example.org.":         "NXDOMAIN",
		"node-1.example.org.":             "10.0.0.1",
		"node-2.rack.example.org.":        "10.0.0.2",
		"rack.example.org.":               "NODATA",
		"mx.example.org.":                 `192.0.2.10 2001:db8::10 TXT "v=spf1 -all" MX {10 mail.example.org.}`,
		"_sip._tcp.example.org.":          "SRV {1 2 5060 sip.example.org.}",
		"_tcp.example.org.":               "NODATA",
		"alias.example.org.":              "www.example.net.",
		"a.b.wild.example.org.":           "192.0.2.12 by *.wild.example.org",
		"ptr.example.org.":                "NXDOMAIN",
		`a\.b.example.org.`:               "NXDOMAIN",
	} {
		if got := answerTo(s, name, &everything); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	for name, want := range map[string]Outcome{"0.db.shop.example.org.": NameError, "0.apps.example.org.": Found, "c.example.org.": NoData} {
		if m := s.LookupWildcard(zone, name, &everything); m.Outcome != want {
			t.Errorf("%s: outcome %d, want %d", name, m.Outcome, want)
		}
	}
	m := s.Lookup(zone, "mx.example.org.", &everything)
	for typ, want := range map[RecordType]uint32{TypeA: 30, TypeTXT: 40} {
		if ttl, ok := m.TTL(typ); !ok || ttl != want {
			t.Errorf("TTL of type %d is %d, %v", typ, ttl, ok)
		}
	}
	if ttl, ok := m.TTL(TypeMX); ok {
		t.Errorf("TTL of MX is %d", ttl)
	}
	want := []string{"example.org.", "_sip._tcp.example.org.", "alias.example.org.", "*.apps.example.org.", "a.b.c.example.org.", "cloud.example.org.", "in.example.org.", "in-headless.example.org.", "lb.example.org.",
		"*.lb.example.org.", "mx.example.org.", "target.example.org.", "upper.example.org.", "*.wild.example.org.", "www.example.org.",
		"node-1.example.org.", "node-2.rack.example.org.", "db.shop.example.org.", "in-headless.shop.example.org.", "lb.shop.example.org.", "_http._tcp.lb.shop.example.org.", "_dns._udp.lb.shop.example.org."}
	if got := slices.Collect(s.Names(zone, &everything)); !slices.Equal(got, want) {
		t.Errorf("names\n%q, want\n%q", got, want)
	}
}

func TestMostSpecificWildcardAndExactNames(t *testing.T) {
	gw := NewGateway(GatewaySpec{Meta: named("gw"), Addresses: []Address{{"IPAddress", "192.0.2.20"}}, Listeners: []Listener{{Name: "web", Protocol: "HTTP", Port: 80}}})
	route := func(name string, created int64, hosts ...string) *Object {
		parent := ParentRef{Name: "gw"}
		m := named(name)
		m.Created = created
		return NewRoute(RouteSpec{Meta: m, Kind: KindHTTPRoute, Hostnames: hosts, Parents: []ParentRef{parent}, Status: []ParentStatus{{parent, []Condition{{"Accepted", "True", 0}}}}})
	}
	ingress := func(name string, created int64, address string, hosts ...string) *Object {
		m := named(name)
		m.Created = created
		return NewIngress(IngressSpec{Meta: m, Hosts: hosts, Addresses: []string{address}})
	}
	s := indexOf(gw, route("wide", 1, "*.example.org"), ingress("exact", 9, "192.0.2.1", "a.example.org", "x.y.example.org"), ingress("wild", 0, "192.0.2.2", "*.example.org", "*.y.example.org"),
		route("narrow", 8, "*.z.example.org", "b.example.org")).State()
	for name, want := range map[string]string{
		"a.example.org.":     "192.0.2.1",                     // an exact name, although its object is the youngest
		"b.example.org.":     "192.0.2.20",                    // likewise, of a route before the wildcard of an Ingress
		"c.example.org.":     "192.0.2.2 by *.example.org",    // the older of two wildcards that match one label
		"c.d.example.org.":   "192.0.2.20 by *.example.org",   // which the Ingress's wildcard does not match
		"c.y.example.org.":   "192.0.2.2 by *.y.example.org",  // the wildcard with more labels
		"c.d.y.example.org.": "192.0.2.20 by *.example.org",   // the wildcard that matches just one label does not apply
		"y.example.org.":     "192.0.2.2 by *.example.org",    // names exist below it, but no object claims it
		"x.y.example.org.":   "192.0.2.1",                     // exact
		"q.x.y.example.org.": "192.0.2.20 by *.example.org",   // wildcards match names below an exact name
		"c.z.example.org.":   "192.0.2.20 by *.z.example.org", // the younger, more specific one
		"z.example.org.":     "192.0.2.2 by *.example.org",    // a wildcard does not match its own parent
		"example.org.":       "NODATA",
	} {
		if got := answerTo(s, name, &everything); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

// After an edit, a route keeps its names until the Gateway has accepted the edit, and gets no new ones
// before.
func TestAcceptedGenerations(t *testing.T) {
	gw := NewGateway(GatewaySpec{Meta: named("gw"), Addresses: []Address{{"IPAddress", "192.0.2.20"}}, Listeners: []Listener{{Name: "web", Protocol: "HTTP", Port: 80, Hostname: "*.example.org"}}})
	route := func(generation, accepted int64, status string, hosts ...string) *Object {
		parent := ParentRef{Name: "gw"}
		m := named("rt")
		m.Generation = generation
		return NewRoute(RouteSpec{Meta: m, Kind: KindHTTPRoute, Hostnames: hosts, Parents: []ParentRef{parent}, Status: []ParentStatus{{parent, []Condition{{"Accepted", status, accepted}}}}})
	}
	ix := indexOf(gw)
	for i, step := range []struct {
		route *Object
		want  string
	}{
		{route(1, 0, "True", "a.example.org"), ""}, // the accepted generation is not known
		{route(1, 1, "True", "a.example.org"), "a.example.org"},
		{route(2, 1, "True", "a.example.org"), "a.example.org"},
		{route(3, 1, "True", "a.example.org", "b.example.org"), "a.example.org"},
		{route(4, 1, "True", "b.example.org"), ""},
		{route(4, 1, "True", "b.example.org", "a.example.org"), ""}, // it was deleted
		{route(4, 4, "True", "b.example.org", "a.example.org"), "a.example.org b.example.org"},
		{route(5, 4, "True"), ""},
		{route(5, 5, "True"), "*.example.org"},
		{route(6, 5, "True"), "*.example.org"},
		{route(7, 5, "True", "c.example.org"), ""},
		{route(7, 7, "True", "c.example.org"), "c.example.org"},
		{route(8, 7, "False", "c.example.org"), ""},
		{route(8, 8, "False", "c.example.org"), ""},
		{route(8, 8, "Unknown", "c.example.org"), ""},
	} {
		ix.Update(func(tx *Tx) {
			if step.route == nil {
				tx.Delete(KindHTTPRoute, "shop", "rt")
			}
			tx.Set(step.route)
		})
		got := namesOf(ix.State())[Ref{KindHTTPRoute, "shop", "rt"}]
		if slices.Sort(got); strings.Join(got, " ") != step.want {
			t.Errorf("step %d: %q, want %q", i, got, step.want)
		}
	}
}

func TestInside(t *testing.T) {
	service := func(name, clusterIP string, created int64, port int32, balanced ...string) *Object {
		m := named(name)
		m.Created = created
		return NewService(ServiceSpec{Meta: m, LoadBalancer: true, Addresses: balanced, ClusterIPs: []string{clusterIP}, Ports: []Port{{"p", "TCP", port}}})
	}
	ix := indexOf(
		NewIngress(IngressSpec{Meta: named("by-address"), Hosts: []string{"address.example.org"}, Addresses: []string{"192.0.2.1", "2001:db8::1"}}),
		NewIngress(IngressSpec{Meta: named("by-host"), Hosts: []string{"host.example.org"}, Addresses: []string{"LB.example.net"}}),
		NewIngress(IngressSpec{Meta: named("elsewhere"), Hosts: []string{"elsewhere.example.org"}, Addresses: []string{"192.0.2.99"}}),
		NewIngress(IngressSpec{Meta: named("claimed"), Hosts: []string{"claimed.example.org"}, Addresses: []string{"192.0.2.66"}}),
		service("controller", "10.96.0.1", 5, 80, "192.0.2.1", "2001:db8::1"),
		service("older", "10.96.0.2", 1, 53, "192.0.2.1"),
		service("cloud", "10.96.0.3", 1, 443, "lb.example.net"),
		NewService(ServiceSpec{Meta: named("not-balanced"), ExternalIPs: []string{"192.0.2.66"}, ClusterIPs: []string{"10.96.0.66"}}),
		NewService(ServiceSpec{Meta: named("headless"), Headless: true, LoadBalancer: true, Addresses: []string{"192.0.2.99"}, ClusterIPs: []string{"None"}}),
	)
	inside := func(name string) (all []string) {
		m := ix.State().Lookup(zone, name, &everything)
		for a := range m.Inside {
			all = append(all, a.String())
		}
		return all
	}
	for name, want := range map[string]string{
		"address.example.org.":   "10.96.0.1", // by two addresses, and before the older one without a web port
		"host.example.org.":      "10.96.0.3",
		"elsewhere.example.org.": "",
		"claimed.example.org.":   "", // whoever may write a Service may write its externalIPs
		"none.example.org.":      "",
	} {
		if got := strings.Join(inside(name), " "); got != want {
			t.Errorf("%s has %q, want %q", name, got, want)
		}
	}
	ix.Update(func(tx *Tx) { tx.Delete(KindService, "shop", "controller") })
	if got := inside("address.example.org."); !slices.Equal(got, []string{"10.96.0.2"}) {
		t.Errorf("without the controller's Service it has %q", got)
	}
	ix.Update(func(tx *Tx) { tx.Set(service("older", "10.96.0.2", 1, 53, "192.0.2.5")) })
	if got := inside("address.example.org."); got != nil {
		t.Errorf("without a Service it has %q", got)
	}
}

func TestConflicts(t *testing.T) {
	ingress := func(name string, created int64, address string) *Object {
		m := named(name)
		m.Created = created
		return NewIngress(IngressSpec{Meta: m, Hosts: []string{"www.example.org", name + ".example.net", "www.team.example.org"}, Addresses: []string{address}})
	}
	ix := indexOf(ingress("b", 2, "192.0.2.1"), ingress("c", 1, "192.0.2.2"))
	var log []string
	sel := everything
	sel.Cuts = []string{"team.example.org."}
	c := ix.Watch(&sel, func(lost, settled []Conflict) {
		for _, l := range lost {
			log = append(log, fmt.Sprint("lost ", l))
		}
		for _, l := range settled {
			log = append(log, fmt.Sprint("settled ", l))
		}
	})
	check := func(what string, n int, want ...string) {
		t.Helper()
		if slices.Sort(log); !slices.Equal(log, want) || c.Len() != n || len(c.All()) != n {
			t.Errorf("%s: %q and %d, want %q and %d", what, log, c.Len(), want, n)
		}
		log = nil
	}
	check("at first", 1, "lost {www.example.org. Ingress shop/b Ingress shop/c}")
	ix.Update(func(tx *Tx) { tx.Set(ingress("a", 1, "192.0.2.2")) })
	check("an older one with the same address", 1, "lost {www.example.org. Ingress shop/b Ingress shop/a}", "settled {www.example.org. Ingress shop/b Ingress shop/c}")
	ix.Update(func(tx *Tx) { tx.Set(ingress("b", 2, "192.0.2.2")) })
	check("one address for all", 0, "settled {www.example.org. Ingress shop/b Ingress shop/a}")
	ix.Update(func(tx *Tx) { tx.Set(ingress("d", 3, "192.0.2.4")) })
	check("another one", 1, "lost {www.example.org. Ingress shop/d Ingress shop/a}")
	ix.Update(func(tx *Tx) { tx.Set(ingress("d", 3, "192.0.2.4")) })
	check("nothing new", 1)
	c.Stop()
	ix.Update(func(tx *Tx) { tx.Delete(KindIngress, "shop", "d") })
	check("stopped", 1)
}

func TestListed(t *testing.T) {
	ix := NewIndex()
	kinds := FromGateway.Kinds()
	if want := KindsOf(KindGateway, KindListenerSet, KindHTTPRoute, KindGRPCRoute, KindTLSRoute, KindTCPRoute, KindUDPRoute, KindNamespace); kinds != want {
		t.Errorf("Gateway API: kinds %b, want %b", kinds, want)
	}
	if got, want := (FromIngress | FromNode).Kinds(), KindsOf(KindIngress, KindNode); got != want {
		t.Errorf("Ingresses and Nodes: kinds %b, want %b", got, want)
	}
	check := func(what string, synced, restored bool, snapshot uint32) {
		t.Helper()
		if s := ix.State(); s.Synced(kinds) != synced || s.Restored(kinds) != restored || s.Snapshot() != snapshot {
			t.Errorf("%s: synced %v, restored %v, snapshot %d", what, s.Synced(kinds), s.Restored(kinds), s.Snapshot())
		}
	}
	check("empty", false, false, 0)
	ix.Update(func(tx *Tx) { tx.SetSnapshot(77, kinds) })
	check("from a snapshot", false, true, 77)
	ix.Update(func(tx *Tx) { tx.SetListed(kinds &^ KindsOf(KindGateway)) })
	check("all but one listed", false, true, 77)
	ix.Update(func(tx *Tx) { tx.SetListed(KindsOf(KindGateway)) })
	check("listed", true, true, 0)
	ix.Update(func(tx *Tx) { tx.SetUnlisted(KindsOf(KindHTTPRoute)) })
	check("one unlisted", false, false, 0)
}

func TestVersionAndSerial(t *testing.T) {
	ix := NewIndex()
	if ix.State().Version() != 0 || ix.State().Modified().Last() != 0 {
		t.Error("an empty index has a version or a serial")
	}
	web := IngressSpec{Meta: named("web"), Hosts: []string{"www.example.org"}, Addresses: []string{"192.0.2.1"}}
	ix.Update(func(tx *Tx) { tx.Set(NewIngress(web)) })
	first := ix.State()
	if first.Version() == 0 || first.Modified().Last() == 0 {
		t.Error("after a change it has no version or no serial")
	}
	ix.Update(func(tx *Tx) {
		tx.Set(NewIngress(web))
		tx.Set(nil)
		tx.Delete(KindIngress, "shop", "none")
		tx.Replace(KindIngress, []*Object{nil, NewIngress(web)})
	})
	if ix.State().Version() != first.Version() {
		t.Error("the version changed with nothing else")
	}
	ix.Update(func(tx *Tx) { tx.SetListed(AllKinds) })
	// later waits for a later serial than before: after many changes, as of other tests, it begins within a second.
	later := func(before uint32) bool {
		for begun := time.Now(); time.Since(begun) < 10*time.Second; runtime.Gosched() {
			if serial.Before(before, ix.State().Modified().Now()) {
				return true
			}
		}
		return false
	}
	for n := range 10 { // a secondary must notice each change, within the same second too
		before := ix.State().Modified().Now()
		web.Addresses = []string{fmt.Sprint("192.0.2.", 2+n)}
		ix.Update(func(tx *Tx) { tx.Set(NewIngress(web)) })
		if !later(before) {
			t.Errorf("a change made %d of the serial %d", ix.State().Modified().Now(), before)
		}
	}
	ix.Update(func(tx *Tx) { tx.Replace(KindIngress, nil) })
	if ix.State().Version() == first.Version() || ix.State().Len(KindIngress) != 0 || first.Len(KindIngress) != 1 {
		t.Error("it is still there")
	}
}

// An Update that panics publishes nothing, and the next one works.
func TestUpdateThatPanics(t *testing.T) {
	ix := indexOf(NewIngress(IngressSpec{Meta: named("web"), Hosts: []string{"www.example.org"}, Addresses: []string{"192.0.2.1"}}))
	before := ix.State()
	func() {
		defer func() { _ = recover() }()
		ix.Update(func(tx *Tx) {
			tx.Delete(KindIngress, "shop", "web")
			panic("no")
		})
	}()
	if ix.State() != before {
		t.Error("it published something")
	}
	ix.Update(func(tx *Tx) {
		tx.Set(NewIngress(IngressSpec{Meta: named("api"), Hosts: []string{"api.example.org"}, Addresses: []string{"192.0.2.1"}}))
	})
	for _, name := range []string{"www.example.org.", "api.example.org."} {
		if got := answerTo(ix.State(), name, &everything); got != "192.0.2.1" {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// Parts beyond the bounds are left out, and the rest is served.
func TestBounds(t *testing.T) {
	ix := NewIndex()
	ix.Update(func(tx *Tx) {
		for i := range max(maxClaims, maxGroups) + 1 {
			tx.Set(NewNamespace(NamespaceSpec{Name: fmt.Sprintf("other-%04d", i)})) // between all the others
			m := Meta{Namespace: fmt.Sprintf("other-%04d-x", i), Name: "web", Created: 1}
			tx.Set(NewIngress(IngressSpec{Meta: m, Hosts: []string{"www.example.org"}, Addresses: []string{"192.0.2.1"}}))
		}
		for i := range maxBelow + 1 {
			m := Meta{Namespace: "other", Name: fmt.Sprintf("b%04d", i), Created: 1}
			tx.Set(NewIngress(IngressSpec{Meta: m, Hosts: []string{fmt.Sprintf("h%04d.below.example.org", i)}, Addresses: []string{"192.0.2.1"}}))
		}
		m := Meta{Namespace: "shop", Name: "web", Created: 2}
		tx.Set(NewIngress(IngressSpec{Meta: m, Hosts: []string{"www.example.org"}, Addresses: []string{"192.0.2.2"}}))
		tx.Set(NewNamespace(NamespaceSpec{Name: "shop"}))
	})
	sel := everything
	sel.Listed = true
	for name, want := range map[string]string{"www.example.org.": "NXDOMAIN", "below.example.org.": "NODATA"} {
		if got := answerTo(ix.State(), name, &sel); got != want {
			t.Errorf("beyond the bound, %s: %s, want %s", name, got, want)
		}
	}
	ix.Update(func(tx *Tx) {
		tx.Delete(KindIngress, "other-0000-x", "web")
		tx.Delete(KindIngress, "other-0001-x", "web")
		tx.Delete(KindIngress, "other", "b0001")
	})
	for name, want := range map[string]string{"www.example.org.": "192.0.2.2", "below.example.org.": "NXDOMAIN"} {
		if got := answerTo(ix.State(), name, &sel); got != want {
			t.Errorf("within the bound, %s: %s, want %s", name, got, want)
		}
	}

	var hosts, addresses []string
	for i := range 3000 {
		hosts = append(hosts, fmt.Sprintf("h%d.example.org", i))
		addresses = append(addresses, fmt.Sprintf("10.0.%d.%d", i/256, i%256), fmt.Sprintf("lb%d.example.org", i))
	}
	parent := ParentRef{Name: "gw"}
	route := NewRoute(RouteSpec{Meta: named("rt"), Kind: KindTLSRoute, Hostnames: hosts, Parents: []ParentRef{parent}, Status: []ParentStatus{{parent, []Condition{{"Accepted", "True", 0}}}}})
	if n := len(route.Route().Hostnames); n != maxHostnames {
		t.Errorf("a route has %d hostnames", n)
	}
	ingress := NewIngress(IngressSpec{Meta: named("web"), Hosts: hosts, Addresses: addresses}).Ingress()
	if len(ingress.Hosts) != 3000 || len(ingress.Addresses) != 2*maxAddresses {
		t.Errorf("an Ingress has %d hosts and %d addresses", len(ingress.Hosts), len(ingress.Addresses))
	}
	for what, o := range map[string]*Object{
		"no name":             NewIngress(IngressSpec{Meta: Meta{Namespace: "shop"}}),
		"no namespace":        NewIngress(IngressSpec{Meta: Meta{Name: "web"}}),
		"a long name":         NewIngress(IngressSpec{Meta: Meta{Namespace: "shop", Name: strings.Repeat("x", 254)}}),
		"a large object":      NewNamespace(NamespaceSpec{"shop", map[string]string{"x": strings.Repeat("x", maxPacked)}}),
		"a route of no kind":  NewRoute(RouteSpec{Meta: named("rt"), Kind: KindGateway}),
		"a Node with a space": NewNode(NodeSpec{Meta: Meta{Name: "no de"}}),
	} {
		if o != nil {
			t.Errorf("%s: it is stored", what)
		}
	}
}

// Each form in which a host is stored is found, and unpacked as it was: in the zone of the first host, with the name of
// the object, in another zone, and the zone itself.
func TestFormsOfHosts(t *testing.T) {
	hosts := []string{"www.example.org", "web.example.org", "*.example.org", "web.web.example.org", "web.example.net", "example.org", "web"}
	parent := ParentRef{Name: "gw"}
	for _, first := range hosts {
		all := append([]string{first}, slices.DeleteFunc(slices.Clone(hosts), func(host string) bool { return host == first })...)
		var endpoints []Endpoint
		for _, host := range all {
			endpoints = append(endpoints, Endpoint{Name: host, Type: "A", Targets: []string{"192.0.2.1"}})
		}
		for _, o := range []*Object{
			NewIngress(IngressSpec{Meta: named("web"), Hosts: all, Addresses: []string{"192.0.2.1"}}),
			NewService(ServiceSpec{Meta: annotated("web", hostnameKeys[0], join(all)), LoadBalancer: true, Addresses: []string{"192.0.2.1"}}),
			NewDNSEndpoint(DNSEndpointSpec{Meta: named("web"), Endpoints: endpoints}),
			NewRoute(RouteSpec{Meta: named("web"), Kind: KindHTTPRoute, Hostnames: all, Parents: []ParentRef{parent}, Status: []ParentStatus{{parent, []Condition{{"Accepted", "True", 0}}}}}),
		} {
			s := indexOf(o, NewGateway(GatewaySpec{Meta: named("gw"), Addresses: []Address{{Value: "192.0.2.1"}}, Listeners: []Listener{{Name: "web", Protocol: "HTTP"}}})).State()
			if again := pack(unpack(s.Object(o.Ref()))); !again.Equal(o) {
				t.Errorf("%s: %+v, want %+v", o.Ref(), unpack(again), unpack(o))
			}
			for _, host := range all {
				if m := s.Lookup(".", host+".", &everything); m.Outcome != Found || m.Object() != o.Ref() {
					t.Errorf("%s, with %s first: %s is not found", o.Ref(), first, host)
				}
			}
			got := slices.Sorted(s.Names(".", &everything))
			got = slices.DeleteFunc(got, func(name string) bool { return name == "web.shop." }) // the Service's own
			want := slices.Sorted(slices.Values(all))
			for i := range want {
				want[i] += "."
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s, with %s first: names %v, want %v", o.Ref(), first, got, want)
			}
		}
	}
}

// The oldest of many more claims than conflicts are searched among has the name, in whatever order they came.
func TestOldestOfManyClaims(t *testing.T) {
	const n = 5 * maxClaims
	ingress := func(age int) *Object { // a higher number is younger
		m := Meta{Namespace: fmt.Sprintf("ns-%d", age*7919%n), Name: "web", Created: int64(1 + age)}
		return NewIngress(IngressSpec{Meta: m, Hosts: []string{"www.example.org", "*.example.org"}, Addresses: []string{fmt.Sprintf("10.0.%d.%d", age/256, age%256)}})
	}
	ix := NewIndex()
	c := ix.Watch(&everything, func([]Conflict, []Conflict) {})
	defer c.Stop()
	ages := rand.New(rand.NewPCG(1, 2)).Perm(n)
	for _, some := range [][]int{ages[:n/2], ages[n/2:]} {
		ix.Update(func(tx *Tx) {
			for _, age := range some {
				tx.Set(ingress(age))
			}
		})
	}
	check := func(oldest int) {
		t.Helper()
		want := fmt.Sprintf("10.0.%d.%d", oldest/256, oldest%256)
		for name, want := range map[string]string{"www.example.org.": want, "any.example.org.": want + " by *.example.org"} {
			if got := answerTo(ix.State(), name, &everything); got != want {
				t.Errorf("%s has %s, want the oldest claim's %s", name, got, want)
			}
		}
	}
	check(0)
	for age := range 3 {
		o := ingress(age)
		ix.Update(func(tx *Tx) { tx.Delete(o.Kind(), o.Namespace(), o.Name()) })
		check(age + 1)
	}
	some := everything
	for _, age := range []int{maxClaims, 2*maxClaims + 1, n - 1} { // behind more older ones than are read by age
		some.Namespaces = NamesOf(ingress(age).Namespace())
		if got, want := answerTo(ix.State(), "www.example.org.", &some), fmt.Sprintf("10.0.%d.%d", age/256, age%256); got != want {
			t.Errorf("with one namespace: %s, want %s", got, want)
		}
	}
	if got := c.Len(); got != 2*(maxClaims-1) {
		t.Errorf("%d conflicts, want those of the %d oldest claims of each name", got, maxClaims)
	}
}

// If the Selection admits just one claim of a name, that object has the name, however many older objects claim
// it.
func TestClaimsThatAreNotAdmitted(t *testing.T) {
	const n = maxClaims + maxGroups + 1
	hosts := []string{"www.example.org", "*.wild.example.org"}
	older := func(i int) Meta { return Meta{Namespace: "other", Name: fmt.Sprintf("w%04d", i), Created: 1} }
	ingress := func(m Meta, class, address string) *Object {
		return NewIngress(IngressSpec{Meta: m, Class: class, Hosts: hosts, Addresses: []string{address}})
	}
	route := func(m Meta, gateway string) *Object {
		parent := ParentRef{Namespace: "infra", Name: gateway}
		return NewRoute(RouteSpec{Meta: m, Kind: KindHTTPRoute, Hostnames: hosts, Parents: []ParentRef{parent}, Status: []ParentStatus{{parent, []Condition{{"Accepted", "True", 0}}}}})
	}
	gateway := func(name, class string, addresses ...Address) *Object {
		return NewGateway(GatewaySpec{Meta: Meta{Namespace: "infra", Name: name}, Class: class, Addresses: addresses, Listeners: []Listener{{Name: "web", Protocol: "HTTP", Routes: From{Namespaces: "All"}}}})
	}
	own := Meta{Namespace: "shop", Name: "web", Created: 2}
	for what, c := range map[string]struct {
		sel   Selection
		older func(i int) *Object
		own   *Object
	}{
		"in a namespace that is not named": {
			Selection{Namespaces: NamesOf("first", "shop")}, func(i int) *Object { return ingress(older(i), "nginx", "192.0.2.1") }, ingress(own, "nginx", "192.0.2.2"),
		},
		"in as many namespaces that are not named": {
			Selection{Namespaces: NamesOf("first", "shop", "zoo")},
			func(i int) *Object {
				m := older(i)
				m.Namespace = fmt.Sprintf("other-%04d", i)
				return ingress(m, "nginx", "192.0.2.1")
			}, ingress(own, "nginx", "192.0.2.2"),
		},
		"in a namespace without the labels": {
			Selection{Listed: true}, func(i int) *Object { return ingress(older(i), "nginx", "192.0.2.1") }, ingress(own, "nginx", "192.0.2.2"),
		},
		"in as many namespaces without the labels": {
			Selection{Listed: true},
			func(i int) *Object {
				m := older(i)
				m.Namespace = fmt.Sprintf("other-%04d", i)
				return ingress(m, "nginx", "192.0.2.1")
			}, ingress(own, "nginx", "192.0.2.2"),
		},
		"of another class": {
			Selection{Classes: NamesOf("nginx", "apache")}, func(i int) *Object { return ingress(older(i), "mine", "192.0.2.1") }, ingress(own, "nginx", "192.0.2.2"),
		},
		"of as many classes": {
			Selection{Classes: NamesOf("nginx", "apache")}, func(i int) *Object { return ingress(older(i), fmt.Sprint("mine", i), "192.0.2.1") }, ingress(own, "nginx", "192.0.2.2"),
		},
		"in the namespace itself, of another class": {
			Selection{Namespaces: NamesOf("shop"), Classes: NamesOf("nginx")},
			func(i int) *Object {
				m := older(i)
				m.Namespace = "shop"
				return ingress(m, fmt.Sprint("mine", i), "192.0.2.1")
			}, ingress(own, "nginx", "192.0.2.2"),
		},
		"of another source": {
			Selection{Sources: FromGateway}, func(i int) *Object { return ingress(older(i), "nginx", "192.0.2.1") }, route(own, "nginx"),
		},
		"of a Gateway of another class": {
			Selection{Classes: NamesOf("nginx")}, func(i int) *Object { return route(older(i), "mine") }, route(own, "nginx"),
		},
		"of a Gateway without an address": {
			Selection{}, func(i int) *Object { return route(older(i), "none") }, route(own, "nginx"),
		},
	} {
		t.Run(what, func(t *testing.T) {
			ix := NewIndex()
			ix.Update(func(tx *Tx) {
				tx.Set(NewNamespace(NamespaceSpec{Name: "shop"}))
				tx.Set(gateway("nginx", "nginx", Address{"IPAddress", "192.0.2.2"}))
				tx.Set(gateway("mine", "mine", Address{"IPAddress", "192.0.2.1"}))
				tx.Set(gateway("none", "nginx"))
				for i := range n {
					tx.Set(c.older(i))
				}
				tx.Set(c.own)
			})
			c.sel.Zones = everything.Zones
			if c.sel.Sources == 0 {
				c.sel.Sources = everything.Sources
			}
			for name, want := range map[string]string{"www.example.org.": "192.0.2.2", "x.wild.example.org.": "192.0.2.2 by *.wild.example.org"} {
				if got := answerTo(ix.State(), name, &c.sel); got != want {
					t.Errorf("%s: %s, want %s", name, got, want)
				}
				if n := growth.Allocations(10, 0, func() { ix.State().Lookup(zone, name, &c.sel) }); n != 0 {
					t.Errorf("%s: %v allocations", name, n)
				}
			}
		})
	}
}

// All wildcards of a look-up share one budget.
func TestBudgetOfALookup(t *testing.T) {
	ix := NewIndex()
	ix.Update(func(tx *Tx) {
		for i := range 10 {
			m := Meta{Namespace: "other", Name: fmt.Sprintf("w%d", i), Created: 1}
			tx.Set(NewIngress(IngressSpec{Meta: m, Hosts: []string{"www.a.b.example.org"}, Addresses: []string{"192.0.2.1"}}))
			tx.Set(NewDNSEndpoint(DNSEndpointSpec{Meta: m, Endpoints: []Endpoint{
				{"*.a.b.example.org", "A", 0, []string{"192.0.2.1"}}, {"*.b.example.org", "A", 0, []string{"192.0.2.1"}}, {"*.example.org", "A", 0, []string{"192.0.2.1"}},
			}}))
		}
	})
	sel := everything
	sel.Namespaces = NamesOf("shop")
	m := ix.State().Lookup(zone, "www.a.b.example.org.", &sel)
	if want := (budget{maxClaims - 40, maxGroups}); m.Outcome != NameError || m.left != want {
		t.Errorf("after four names of ten claims each, %+v is left, want %+v", m.left, want)
	}

	m = Match{state: ix.State(), sel: &sel, left: budget{25, 2}}
	if m.wildcard("www.a.b.example.org", "example.org") || m.left != (budget{0, 1}) {
		t.Errorf("after three wildcards of ten claims each, and with 25 to read, %+v is left", m.left)
	}
}

// A dot after a backslash does not separate labels.
func TestEscapedDots(t *testing.T) {
	parent := ParentRef{Namespace: "infra", Name: "gw"}
	ix := indexOf(
		NewDNSEndpoint(DNSEndpointSpec{Meta: named("wild"), Endpoints: []Endpoint{{"*.example.org", "A", 0, []string{"192.0.2.1"}}}}),
		NewService(ServiceSpec{Meta: named("lb"), LoadBalancer: true, Addresses: []string{"192.0.2.2"}, Ports: []Port{{"http", "TCP", 80}}}),
		NewService(ServiceSpec{Meta: named("peers"), Headless: true}),
		NewNode(NodeSpec{Meta: Meta{Name: "node.rack"}, InternalIPs: []string{"192.0.2.3"}}),
		NewRoute(RouteSpec{Meta: named("rt"), Kind: KindHTTPRoute, Hostnames: []string{"*.routes.org"}, Parents: []ParentRef{parent}, Status: []ParentStatus{{parent, []Condition{{"Accepted", "True", 0}}}}}),
		NewGateway(GatewaySpec{Meta: Meta{Namespace: "infra", Name: "gw"}, Addresses: []Address{{"IPAddress", "192.0.2.4"}}, Listeners: []Listener{{Name: "web", Protocol: "HTTP", Routes: From{Namespaces: "All"}}}}),
	)
	for name, want := range map[string]string{
		`x.example.org.`:           "192.0.2.1",
		`x\.example.org.`:          "NXDOMAIN", // the labels "x.example" and "org"
		`x\\.example.org.`:         "192.0.2.1",
		`x\\\.example.org.`:        "NXDOMAIN",
		`x\046example.org.`:        "NXDOMAIN",
		`x\.y.example.org.`:        "192.0.2.1",
		`x\.routes.org.`:           "NXDOMAIN",
		`a\.b.routes.org.`:         "192.0.2.4",
		`lb.shop.org.`:             "192.0.2.2",
		`lb\.shop.org.`:            "NXDOMAIN",
		`_http._tcp.lb.shop.org.`:  "192.0.2.2",
		`_http\._tcp.lb.shop.org.`: "NXDOMAIN",
		`a.b.peers.shop.org.`:      "headless",
		`a\.b.c.peers.shop.org.`:   "headless",
		`a.b.c.peers.shop.org.`:    "NXDOMAIN",
		`node.rack.org.`:           "192.0.2.3",
		`node\.rack.org.`:          "NXDOMAIN",
	} {
		sel := everything
		sel.Zones = []string{"org."}
		m := ix.State().Lookup("org.", name, &sel)
		got := "NXDOMAIN"
		switch m.Outcome {
		case Headless:
			got = "headless"
		case Found:
			for a := range m.Addrs {
				got = a.String()
			}
		}
		if got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}

	if within(`x\.example.org`, "example.org") || !within(`x\\.example.org`, "example.org") {
		t.Error("within confuses escaped dots and dots that separate labels")
	}
	if rest, label := cutLast(`a\\.b\.c`); rest != `a\\` || label != `b\.c` {
		t.Errorf("cutLast: %s and %s", rest, label)
	}
}

func TestAnnotations(t *testing.T) {
	for _, c := range []struct {
		key, value string
		want       string
	}{
		{"external-dns.kubernetes.io/ttl", "30", "30 true"}, {"external-dns.alpha.kubernetes.io/ttl", "10m", "600 true"}, {"external-dns.kubernetes.io/ttl", "1.5s", "1 true"},
		{"external-dns.kubernetes.io/ttl", "-1", "0 false"}, {"external-dns.kubernetes.io/ttl", "9999999999", "0 false"}, {"external-dns.kubernetes.io/ttl", "soon", "0 false"},
		{"coredns.io/ttl", "30", "0 false"},
	} {
		o := NewIngress(IngressSpec{Meta: annotated("web", c.key, c.value), Hosts: []string{"www.example.org"}, Addresses: []string{"192.0.2.1"}})
		m := indexOf(o).State().Lookup(zone, "www.example.org.", &everything)
		ttl, ok := m.TTL(TypeA)
		if got := fmt.Sprint(ttl, " ", ok); got != c.want {
			t.Errorf("%s: %q: TTL %s, want %s", c.key, c.value, got, c.want)
		}
	}
	for key, want := range map[string]bool{
		"external-dns.kubernetes.io/hostname": true, "external-dns.alpha.kubernetes.io/internal-hostname": true, "coredns.io/hostname": true, "external-dns.kubernetes.io/target": true,
		"external-dns.kubernetes.io/controller": false, "kubernetes.io/hostname": false, "coredns.io/target": false,
	} {
		if Annotation(key) != want {
			t.Errorf("%s: %v", key, !want)
		}
	}
	m := named("web")
	m.Annotations = map[string]string{"external-dns.kubernetes.io/hostname": "new.example.org", "external-dns.alpha.kubernetes.io/hostname": "old.example.org", "coredns.io/hostname": "own.example.org"}
	if got := NewIngress(IngressSpec{Meta: m}).Ingress().Hosts; !slices.Equal(got, []string{"new.example.org"}) {
		t.Errorf("of three annotations: %q", got)
	}
}

func TestNamesOfAnObjectLoaded(t *testing.T) {
	ix := NewIndex()
	o := NewIngress(IngressSpec{Meta: named("web"), Hosts: []string{"www.example.org"}})
	ix.Update(func(tx *Tx) { tx.Set(o) })
	again := NewIngress(IngressSpec{Meta: named("web"), Hosts: []string{"www.example.org"}})
	if got := ix.Known(again); got != again || !got.Equal(o) || ix.Known(nil) != nil {
		t.Error("it is unknown")
	}
	if got := ix.State().Object(o.Ref()); got == nil || !got.Equal(o) {
		t.Error("it is missing")
	}
	if ix.State().Object(Ref{KindIngress, "shop", "none"}) != nil {
		t.Error("a missing object is found")
	}
	if n := len(slices.Collect(ix.State().Objects(KindIngress))); n != 1 {
		t.Errorf("%d Ingresses", n)
	}
}

func TestLookupAllocatesNothing(t *testing.T) {
	ix := loaded(200, 200)
	ix.Update(func(tx *Tx) {
		tx.Set(NewService(ServiceSpec{Meta: annotated("lb", "external-dns.kubernetes.io/internal-hostname", "in.example.org"), LoadBalancer: true, Addresses: []string{"192.0.2.1", "lb.example.net"}, ClusterIPs: []string{"10.96.0.1"}, Ports: []Port{{"http", "TCP", 80}}}))
		tx.Set(NewDNSEndpoint(DNSEndpointSpec{Meta: named("mx"), Endpoints: []Endpoint{{"mx.example.org", "MX", 5, []string{"10 mail.example.org"}}, {"mx.example.org", "TXT", 5, []string{"text"}}, {"mx.example.org", "SRV", 5, []string{"1 2 3 srv.example.org"}}}}))
		for i := range 3 {
			tx.Set(NewIngress(IngressSpec{Meta: named(fmt.Sprint("same", i)), Hosts: []string{"same.example.org", "*.wild.example.org"}, Addresses: []string{"192.0.2.1", "lb.example.net"}}))
		}
		parents := []ParentRef{{Namespace: "gateways", Name: "gateway-1"}, {Namespace: "gateways", Name: "gateway-2"}}
		spec := RouteSpec{Meta: named("two"), Kind: KindHTTPRoute, Hostnames: []string{"two.example.org"}, Parents: parents}
		for _, p := range parents {
			spec.Status = append(spec.Status, ParentStatus{p, []Condition{{"Accepted", "True", 0}}})
		}
		tx.Set(NewRoute(spec))
		for _, ns := range []string{"shop", "team-1", "team-2"} {
			tx.Set(NewNamespace(NamespaceSpec{Name: ns}))
		}
	})
	s := ix.State()
	sel := everything
	sel.Classes, sel.Namespaces, sel.Listed = NamesOf("nginx", "traefik", ""), NamesOf("shop", "team-1", "team-2"), true
	for _, name := range []string{"web-00001.team-1.example.org.", "route-00002.team-2.example.org.", "two.example.org.", "same.example.org.", "x.wild.example.org.", "wild.example.org.", "team-1.example.org.", "team-3.example.org.",
		"none.example.org.", "lb.shop.example.org.", "_http._tcp.lb.shop.example.org.", "_tcp.lb.shop.example.org.", "in.example.org.", "mx.example.org.", "node.example.org.", "shop.example.org.", zone} {
		for _, sel := range []*Selection{&everything, &sel} {
			n := growth.Allocations(100, 0, func() {
				m := s.Lookup(zone, name, sel)
				if m.Outcome == NameError || m.Outcome == NoData {
					return
				}
				for range m.Addrs {
				}
				for range m.Hosts {
				}
				for range m.Texts {
				}
				for range m.Mails {
				}
				for range m.Servers {
				}
				for range m.ClusterIPs {
				}
				for range m.Inside {
				}
				m.Ports(func(uint16, string) bool { return true })
				m.TTL(TypeMX)
				m.Object()
				m.Service()
			})
			if n != 0 {
				t.Errorf("%s: %v allocations", name, n)
			}
		}
	}
	if got := answerTo(s, "two.example.org.", &everything); got != "192.0.2.11 192.0.2.12" {
		t.Errorf("two Gateways: %s", got)
	}
}

// Readers see one moment, whatever is written meanwhile: a Gateway and its ListenerSet always have the same address.
func TestReadersWhileWriting(t *testing.T) {
	parent, set := ParentRef{Name: "gw"}, ParentRef{Kind: "ListenerSet", Name: "set"}
	conditions := []Condition{{"Accepted", "True", 0}}
	route := NewRoute(RouteSpec{Meta: named("rt"), Kind: KindHTTPRoute, Hostnames: []string{"rt.example.org"}, Parents: []ParentRef{parent, set}, Status: []ParentStatus{{parent, conditions}, {set, conditions}}})
	write := func(ix *Index, i int) {
		address := fmt.Sprintf("192.0.2.%d", i%250)
		m := named("set")
		m.Annotations = map[string]string{"external-dns.kubernetes.io/target": address}
		listeners := []Listener{{Name: "web", Protocol: "HTTP", Port: 80, Conditions: conditions}}
		ix.Update(func(tx *Tx) {
			tx.Set(NewGateway(GatewaySpec{Meta: named("gw"), Addresses: []Address{{"IPAddress", address}}, Listeners: listeners, AllowedListeners: From{Namespaces: "Same"}}))
			tx.Set(NewListenerSet(ListenerSetSpec{Meta: m, Parent: parent, Listeners: listeners, Conditions: conditions}))
			if i%3 == 0 {
				tx.Delete(KindHTTPRoute, "shop", "rt")
			}
			tx.Set(route)
			tx.Set(ingressNo(i))
		})
	}
	ix := NewIndex()
	write(ix, 0)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 500 {
			write(ix, i)
		}
	}()
	reads := 0
	for reading := true; reading || reads < 100; reads++ {
		s := ix.State()
		if got := answerTo(s, "rt.example.org.", &everything); strings.Contains(got, " ") || !strings.HasPrefix(got, "192.0.2.") {
			t.Fatalf("a reader saw %s", got)
		}
		for range s.Names(zone, &everything) {
		}
		select {
		case <-done:
			reading = false
		default:
		}
	}
}

func TestDNSEndpointRecords(t *testing.T) {
	s := indexOf(NewDNSEndpoint(DNSEndpointSpec{Meta: named("records"), Endpoints: []Endpoint{
		{"cname.example.org", "CNAME", 0, []string{"b.example.net", "a.example.net"}}, // only one alias
		{"cname.example.org", "TXT", 0, []string{"text"}},
		{"cname.example.org", "MX", 0, []string{"10 mail.example.org"}},
		{"both.example.org", "CNAME", 0, []string{"a.example.net"}}, // not beside addresses
		{"both.example.org", "A", 0, []string{"192.0.2.1"}},
		{"both.example.org", "TXT", 0, []string{"text"}},
		{"null.example.org", "MX", 0, []string{"0 .", "65536 mail.example.org", "10 *.example.org", "10"}},
		{"wrong.example.org", "CNAME", 0, []string{"192.0.2.1", "*.example.org"}},
		{"wrong.example.org", "A", 0, []string{"a.example.net", "2001:db8::1"}},
		{"wrong.example.org", "AAAA", 0, []string{"192.0.2.1"}},
		{"long.example.org", "TXT", 0, []string{strings.Repeat("x", maxText+1)}},
		{"Upper.Example.Org.", "a", 0, []string{"::ffff:192.0.2.3"}},
	}})).State()
	for name, want := range map[string]string{
		"cname.example.org.": "a.example.net.",
		"both.example.org.":  `192.0.2.1 TXT "text"`,
		"null.example.org.":  "MX {0 .}",
		"wrong.example.org.": "NXDOMAIN",
		"long.example.org.":  "NXDOMAIN",
		"upper.example.org.": "192.0.2.3",
	} {
		if got := answerTo(s, name, &everything); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

// The conditions of a route, a ListenerSet and a listener that make a name count, who sets them, and for which
// addresses.
func TestWhatIsAccepted(t *testing.T) {
	core, group := "", "gateway.networking.k8s.io"
	yes, no, before := []Condition{{"Accepted", "True", 3}}, []Condition{{"Accepted", "False", 3}}, []Condition{{"Accepted", "True", 2}}
	for _, c := range []struct {
		what                 string
		parent, status       ParentRef
		route, set, listener []Condition
		address              string // its type
		want                 string
	}{
		{"all", ParentRef{Name: "gw"}, ParentRef{Name: "gw"}, yes, yes, yes, "", "192.0.2.1"},
		{"written out", ParentRef{Name: "gw"}, ParentRef{Group: &group, Kind: "Gateway", Namespace: "shop", Name: "gw"}, yes, yes, yes, "IPAddress", "192.0.2.1"},
		{"a type of our own", ParentRef{Name: "gw"}, ParentRef{Name: "gw"}, yes, yes, yes, "example.com/own", "NXDOMAIN"},
		{"NamedAddress", ParentRef{Name: "gw"}, ParentRef{Name: "gw"}, yes, yes, yes, "NamedAddress", "NXDOMAIN"},
		{"the core group", ParentRef{Group: &core, Name: "gw"}, ParentRef{Group: &core, Name: "gw"}, yes, yes, yes, "", "NXDOMAIN"},
		{"a Service", ParentRef{Kind: "Service", Name: "gw"}, ParentRef{Kind: "Service", Name: "gw"}, yes, yes, yes, "", "NXDOMAIN"},
		{"another section", ParentRef{Name: "gw", Section: "web"}, ParentRef{Name: "gw", Section: "other"}, yes, yes, yes, "", "NXDOMAIN"},
		{"the section", ParentRef{Name: "gw", Section: "web"}, ParentRef{Name: "gw", Section: "web"}, yes, yes, yes, "", "192.0.2.1"},
		{"another port", ParentRef{Name: "gw", Port: 80}, ParentRef{Name: "gw"}, yes, yes, yes, "", "NXDOMAIN"},
		{"another Gateway", ParentRef{Name: "gw"}, ParentRef{Name: "other"}, yes, yes, yes, "", "NXDOMAIN"},
		{"not the route", ParentRef{Name: "gw"}, ParentRef{Name: "gw"}, no, yes, yes, "", "NXDOMAIN"},
		{"no status of the route", ParentRef{Name: "gw"}, ParentRef{Name: "gw"}, nil, yes, yes, "", "NXDOMAIN"},
		{"the route before", ParentRef{Name: "gw"}, ParentRef{Name: "gw"}, before, yes, yes, "", "NXDOMAIN"},
		{"a Gateway's listener without a status", ParentRef{Name: "gw"}, ParentRef{Name: "gw"}, yes, yes, nil, "", "192.0.2.1"},
		{"not the Gateway's listener", ParentRef{Name: "gw"}, ParentRef{Name: "gw"}, yes, yes, no, "", "NXDOMAIN"},
		{"the set", ParentRef{Kind: "ListenerSet", Name: "set"}, ParentRef{Kind: "ListenerSet", Name: "set"}, yes, yes, yes, "", "192.0.2.1"},
		{"not the set", ParentRef{Kind: "ListenerSet", Name: "set"}, ParentRef{Kind: "ListenerSet", Name: "set"}, yes, no, yes, "", "NXDOMAIN"},
		{"the set before", ParentRef{Kind: "ListenerSet", Name: "set"}, ParentRef{Kind: "ListenerSet", Name: "set"}, yes, before, yes, "", "NXDOMAIN"},
		{"no status of the set", ParentRef{Kind: "ListenerSet", Name: "set"}, ParentRef{Kind: "ListenerSet", Name: "set"}, yes, nil, yes, "", "NXDOMAIN"},
		{"not the set's listener", ParentRef{Kind: "ListenerSet", Name: "set"}, ParentRef{Kind: "ListenerSet", Name: "set"}, yes, yes, no, "", "NXDOMAIN"},
		{"the set's listener before", ParentRef{Kind: "ListenerSet", Name: "set"}, ParentRef{Kind: "ListenerSet", Name: "set"}, yes, yes, before, "", "NXDOMAIN"},
		{"a set's listener without a status", ParentRef{Kind: "ListenerSet", Name: "set"}, ParentRef{Kind: "ListenerSet", Name: "set"}, yes, yes, nil, "", "NXDOMAIN"},
	} {
		m := named("rt")
		m.Generation = 3
		ofSet := named("set")
		ofSet.Generation = 3
		listeners := []Listener{{Name: "web", Protocol: "HTTP", Port: 80, Conditions: c.listener}}
		s := indexOf(
			NewGateway(GatewaySpec{Meta: named("gw"), Addresses: []Address{{c.address, "192.0.2.1"}}, Listeners: listeners, AllowedListeners: From{Namespaces: "All"}}),
			NewListenerSet(ListenerSetSpec{Meta: ofSet, Parent: ParentRef{Name: "gw"}, Listeners: listeners, Conditions: c.set}),
			NewRoute(RouteSpec{Meta: m, Kind: KindHTTPRoute, Hostnames: []string{"rt.example.org"}, Parents: []ParentRef{c.parent}, Status: []ParentStatus{{c.status, c.route}}}),
		).State()
		if got := answerTo(s, "rt.example.org.", &everything); got != c.want {
			t.Errorf("%s: %s, want %s", c.what, got, c.want)
		}
	}
	if NewListenerSet(ListenerSetSpec{Meta: named("set"), Parent: ParentRef{Kind: "ListenerSet", Name: "set"}}) != nil {
		t.Error("a ListenerSet of a ListenerSet is stored")
	}
}

func TestConflictsOfGatewaysAndServices(t *testing.T) {
	gw := func(name, address string) *Object {
		return NewGateway(GatewaySpec{Meta: named(name), Class: name, Addresses: []Address{{"", address}}, Listeners: []Listener{{Name: "web", Protocol: "HTTP", Port: 80}}})
	}
	route := func(name string) *Object {
		parent := ParentRef{Name: name}
		return NewRoute(RouteSpec{Meta: named(name), Kind: KindHTTPRoute, Hostnames: []string{"www.example.org"}, Parents: []ParentRef{parent}, Status: []ParentStatus{{parent, []Condition{{"Accepted", "True", 0}}}}})
	}
	ix := indexOf(gw("a", "192.0.2.1"), gw("b", "192.0.2.1"), route("a"), route("b"),
		NewService(ServiceSpec{Meta: annotated("self", "external-dns.kubernetes.io/internal-hostname", "self.shop.example.org"), LoadBalancer: true, Addresses: []string{"192.0.2.9"}, ClusterIPs: []string{"10.96.0.9"}}))
	c := ix.Watch(&everything, func([]Conflict, []Conflict) {})
	defer c.Stop()
	check := func(what string, want ...Conflict) {
		t.Helper()
		if got := c.All(); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	check("one address")
	lost := Conflict{"www.example.org.", Ref{KindHTTPRoute, "shop", "b"}, Ref{KindHTTPRoute, "shop", "a"}}
	ix.Update(func(tx *Tx) { tx.Set(gw("b", "192.0.2.2")) })
	check("another Gateway moved", lost)
	ix.Update(func(tx *Tx) { tx.Set(gw("b", "192.0.2.1")) })
	check("and back")
	ix.Update(func(tx *Tx) {
		tx.Set(NewIngress(IngressSpec{Meta: named("a"), Hosts: []string{"self.shop.example.org"}, Addresses: []string{"192.0.2.5"}}))
	})
	check("an Ingress has the name of a Service", Conflict{"self.shop.example.org.", Ref{KindService, "shop", "self"}, Ref{KindIngress, "shop", "a"}})
}

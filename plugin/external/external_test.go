package external

import (
	"fmt"
	"slices"
	"strings"
	"testing"
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

// answerTo is what s has for a name, in words.
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
	m := s.Lookup(zone, "mx.example.org.", &everything)
	for typ, want := range map[RecordType]uint32{TypeA: 30, TypeTXT: 40} {
		if ttl, ok := m.TTL(typ); !ok || ttl != want {
			t.Errorf("TTL of type %d is %d, %v", typ, ttl, ok)
		}
	}
	if ttl, ok := m.TTL(TypeMX); ok {
		t.Errorf("TTL of MX is %d", ttl)
	}
	want := []string{"example.org.", "_sip._tcp.example.org.", "alias.example.org.", "*.apps.example.org.", "a.b.c.example.org.", "cloud.example.org.", "in.example.org.", "lb.example.org.",
		"*.lb.example.org.", "mx.example.org.", "target.example.org.", "upper.example.org.", "*.wild.example.org.", "www.example.org.",
		"node-1.example.org.", "node-2.rack.example.org.", "db.shop.example.org.", "lb.shop.example.org.", "_http._tcp.lb.shop.example.org.", "_dns._udp.lb.shop.example.org."}
	if got := slices.Collect(s.Names(zone, &everything)); !slices.Equal(got, want) {
		t.Errorf("names\n%q, want\n%q", got, want)
	}
}

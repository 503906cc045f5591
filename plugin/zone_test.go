package kubehosts

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/coredns/coredns/plugin/pkg/dnstest"
	"github.com/coredns/coredns/plugin/test"
	"github.com/miekg/dns"
)

// described returns the rcode and the content of each section: types and data, and the zone of an
// SOA record.
func described(m *dns.Msg) string {
	if m == nil {
		return "next"
	}
	got := dns.RcodeToString[m.Rcode]
	for _, rr := range m.Answer {
		if soa, ok := rr.(*dns.SOA); ok {
			soa.Serial = 1
		}
		got += " " + dns.TypeToString[rr.Header().Rrtype] + " " + strings.TrimPrefix(rr.String(), rr.Header().String())
	}
	for _, rr := range m.Ns {
		got += " | " + dns.TypeToString[rr.Header().Rrtype] + " " + rr.Header().Name
	}
	for _, rr := range m.Extra {
		got += " + " + rr.Header().Name + " " + strings.TrimPrefix(rr.String(), rr.Header().String())
	}
	return got
}

// expected is a question and what it is answered with, as described.
type expected struct {
	name  string
	qtype uint16
	want  string
}

// checkAnswers asks all of the questions.
func checkAnswers(t *testing.T, ask func(name string, qtype uint16) *dns.Msg, all []expected) {
	t.Helper()
	for _, a := range all {
		if got := described(ask(a.name, a.qtype)); got != a.want {
			t.Errorf("%s %s: got\n%s\nwant\n%s", a.name, dns.TypeToString[a.qtype], got, a.want)
		}
	}
}

// asking returns ask for k alone.
func asking(t *testing.T, k *Kubehosts) func(name string, qtype uint16) *dns.Msg {
	return func(name string, qtype uint16) *dns.Msg { return ask(t, k, name, qtype) }
}

// A hosts entry inside a zone is part of it, and a name exists if one below it does.
func TestHostsInZone(t *testing.T) {
	dir := t.TempDir()
	first, second := filepath.Join(dir, "first.hosts"), filepath.Join(dir, "second.hosts")
	save(t, first, "192.0.2.10 *.w.example\nfd00::10 *.w.example\n192.0.2.20 *.apps.cluster.local\n192.0.2.1 cluster.local\n")
	save(t, second, "192.0.2.11 a.w.example\n192.0.2.30 db.corp.cluster.local\n192.0.2.99 web.shop.svc.cluster.local\nfd00::99 web.shop.svc.cluster.local\n192.0.2.98 db-0.db.shop.svc.cluster.local\n10.9.8.7 reversed.example\n")
	k := serve(t, "dns://.:53", fmt.Sprintf(`kubehosts cluster.local in-addr.arpa ip6.arpa {
		manifests ../build/example/shop.yaml
		hosts %s
		hosts %s {
			ttl 60
		}
	}`, first, second))
	const soa = " | SOA cluster.local."
	checkAnswers(t, asking(t, k), []expected{
		// An exact name hides the wildcard that covers it, in all files and families (RFC 4592).
		{"a.w.example.", dns.TypeA, "NOERROR A 192.0.2.11"},
		{"a.w.example.", dns.TypeAAAA, "NOERROR"},
		{"b.w.example.", dns.TypeA, "NOERROR A 192.0.2.10"},
		{"b.w.example.", dns.TypeAAAA, "NOERROR AAAA fd00::10"},
		{"b.w.example.", dns.TypeTXT, "NOERROR"},
		{"w.example.", dns.TypeA, "next"},

		// The zone's own name has its SOA and NS records.
		{"cluster.local.", dns.TypeA, "NOERROR A 192.0.2.1"},
		{"cluster.local.", dns.TypeAAAA, "NOERROR" + soa},
		{"cluster.local.", dns.TypeTXT, "NOERROR" + soa},
		{"cluster.local.", dns.TypeSOA, "NOERROR SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5"},
		{"cluster.local.", dns.TypeNS, "NOERROR NS ns.dns.cluster.local. + ns.dns.cluster.local. 192.0.2.53 + ns.dns.cluster.local. 2001:db8::53"},

		// NODATA has the SOA record, and empty non-terminals exist.
		{"db.corp.cluster.local.", dns.TypeA, "NOERROR A 192.0.2.30"},
		{"db.corp.cluster.local.", dns.TypeAAAA, "NOERROR" + soa},
		{"corp.cluster.local.", dns.TypeA, "NOERROR" + soa},
		{"corp.cluster.local.", dns.TypeTXT, "NOERROR" + soa},
		{"xcorp.cluster.local.", dns.TypeA, "NXDOMAIN" + soa},
		{"x.db.corp.cluster.local.", dns.TypeA, "NXDOMAIN" + soa},
		{"apps.cluster.local.", dns.TypeA, "NOERROR" + soa},
		{"x.apps.cluster.local.", dns.TypeA, "NOERROR A 192.0.2.20"},
		{"x.y.apps.cluster.local.", dns.TypeA, "NXDOMAIN" + soa},
		{"example.", dns.TypeA, "next"},

		// The targets of SRV records have the addresses that a query for them gets.
		{"_http._tcp.web.shop.svc.cluster.local.", dns.TypeSRV,
			"NOERROR SRV 0 50 80 web.shop.svc.cluster.local. + web.shop.svc.cluster.local. 192.0.2.99 + web.shop.svc.cluster.local. fd00::99"},
		{"web.shop.svc.cluster.local.", dns.TypeA, "NOERROR A 192.0.2.99"},
		{"web.shop.svc.cluster.local.", dns.TypeSRV, "NOERROR" + soa},
		{"db.shop.svc.cluster.local.", dns.TypeSRV,
			"NOERROR SRV 0 50 5432 db-0.db.shop.svc.cluster.local. SRV 0 50 5432 db-1.db.shop.svc.cluster.local. + db-0.db.shop.svc.cluster.local. 192.0.2.98 + db-1.db.shop.svc.cluster.local. 10.244.1.6"},

		// Reverse names of Services and of hosts entries, and the names above them.
		{"10.7.96.10.in-addr.arpa.", dns.TypePTR, "NOERROR PTR web.shop.svc.cluster.local."},
		{"7.96.10.in-addr.arpa.", dns.TypePTR, "NOERROR | SOA in-addr.arpa."},
		{"96.10.in-addr.arpa.", dns.TypeA, "NOERROR | SOA in-addr.arpa."},
		{"10.in-addr.arpa.", dns.TypePTR, "NOERROR | SOA in-addr.arpa."},
		{"11.in-addr.arpa.", dns.TypePTR, "NXDOMAIN | SOA in-addr.arpa."},
		{"8.96.10.in-addr.arpa.", dns.TypePTR, "NXDOMAIN | SOA in-addr.arpa."},
		{"7.8.9.10.in-addr.arpa.", dns.TypePTR, "NOERROR PTR reversed.example."},
		{"7.8.9.10.in-addr.arpa.", dns.TypeA, "NOERROR | SOA in-addr.arpa."},
		{"8.9.10.in-addr.arpa.", dns.TypePTR, "NOERROR | SOA in-addr.arpa."},
		{"9.9.10.in-addr.arpa.", dns.TypePTR, "NXDOMAIN | SOA in-addr.arpa."},
		{"6.9.0.0.0.0.d.f.ip6.arpa.", dns.TypePTR, "NOERROR | SOA ip6.arpa."},
		{"7.9.0.0.0.0.d.f.ip6.arpa.", dns.TypePTR, "NXDOMAIN | SOA ip6.arpa."},
		{"0.ip6.arpa.", dns.TypePTR, "NXDOMAIN | SOA ip6.arpa."}, // there is no reverse name of an IPv4 address
		{"d.f.ip6.arpa.", dns.TypeNS, "NOERROR | SOA ip6.arpa."},
	})
	for _, rr := range ask(t, k, "_http._tcp.web.shop.svc.cluster.local.", dns.TypeSRV).Extra {
		if rr.Header().Ttl != 60 {
			t.Errorf("with an SRV record: %v, whose TTL differs from that in the answer to a query for it", rr)
		}
	}
	if ttl := ask(t, k, "a.w.example.", dns.TypeA).Answer[0].Header().Ttl; ttl != 60 {
		t.Errorf("a.w.example. has the TTL %d, which is that of a file without the name", ttl)
	}
}

// Each record of a transfer is in the answer to a query for it, and each answer is in the transfer.
func TestTransferIsWhatAnswersAre(t *testing.T) {
	dir := t.TempDir()
	entries := filepath.Join(dir, "zone.hosts")
	save(t, entries, "192.0.2.1 cluster.local\n192.0.2.30 db.corp.cluster.local\n192.0.2.99 web.shop.svc.cluster.local\n192.0.2.40 outside.example\n192.0.2.41 *.apps.cluster.local\n192.0.2.42 *.shop.svc.cluster.local\n192.0.2.42 *.six.shop.svc.cluster.local\n192.0.2.42 *.cluster.local\n")
	mixed := filepath.Join(dir, "mixed.yaml")
	save(t, mixed, `apiVersion: v1
kind: Service
metadata: {name: six, namespace: shop}
spec: {clusterIP: None, ports: [{name: pg, port: 5432}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: six-4, namespace: shop, labels: {kubernetes.io/service-name: six}}
addressType: IPv4
ports: [{name: pg, protocol: TCP, port: 5432}]
endpoints:
- {addresses: [10.0.0.1], hostname: same}
- {addresses: [10.0.0.2], hostname: same}
- {addresses: [10.0.0.3]}
- {addresses: [10.0.0.4]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: six-6, namespace: shop, labels: {kubernetes.io/service-name: six}}
addressType: IPv6
ports: [{name: pg, protocol: TCP, port: 5432}]
endpoints:
- {addresses: ["fd00::1"]}
- {addresses: ["fd00::2"]}
---
apiVersion: v1
kind: Service
metadata: {name: idle, namespace: shop}
spec: {clusterIP: 10.96.9.9, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: address, namespace: shop}
spec: {type: ExternalName, externalName: 192.0.2.77, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Pod
metadata: {name: one, namespace: shop}
status: {podIP: 10.9.9.1, podIPs: [{ip: 10.9.9.1}, {ip: "fd00:9::1"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: two, namespace: shop}
status: {podIP: 10.9.9.1}
`)
	k := serve(t, "dns://.:53", fmt.Sprintf(`kubehosts cluster.local in-addr.arpa ip6.arpa {
		manifests ../build/example/shop.yaml %s
		ignore empty_service
		pods verified
		hosts %s
	}`, mixed, entries))
	must := map[string][]string{
		"cluster.local.": {"cluster.local.", "db.corp.cluster.local.", "*.apps.cluster.local.", "*.cluster.local.", "*.shop.svc.cluster.local.", "*.six.shop.svc.cluster.local.", "web.shop.svc.cluster.local.",
			"same.six.shop.svc.cluster.local.", "_pg._tcp.six.shop.svc.cluster.local.", "docs.shop.svc.cluster.local.",
			"10-9-9-1.shop.pod.cluster.local.", "fd00-9--1.shop.pod.cluster.local.", "dns-version.cluster.local.", "ns.dns.cluster.local."},
		"in-addr.arpa.": {"10.7.96.10.in-addr.arpa.", "40.2.0.192.in-addr.arpa.", "1.0.0.10.in-addr.arpa."},
		"ip6.arpa.":     {"1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa."},
	}
	for _, zone := range []string{"cluster.local.", "in-addr.arpa.", "ip6.arpa."} {
		ch, err := k.Transfer(zone, 0)
		if err != nil {
			t.Fatal(err)
		}
		transferred := make(map[dns.Question][]string)
		owners := make(map[string]bool)
		soas := 0
		for rrs := range ch {
			for _, rr := range rrs {
				h := rr.Header()
				if h.Rrtype == dns.TypeSOA {
					soas++
					continue
				}
				q := dns.Question{Name: h.Name, Qtype: h.Rrtype}
				transferred[q] = append(transferred[q], rr.String())
				owners[h.Name] = true
			}
		}
		if soas != 2 {
			t.Errorf("%s: %d SOA records", zone, soas)
		}
		for _, name := range must[zone] {
			if !owners[name] {
				t.Errorf("%s: the transfer lacks %s", zone, name)
			}
		}
		for _, name := range []string{"idle.shop.svc.cluster.local.", "address.shop.svc.cluster.local.", "outside.example."} {
			if owners[name] {
				t.Errorf("%s: the transfer has %s", zone, name)
			}
		}
		for name := range owners {
			for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypeNS, dns.TypeTXT, dns.TypePTR, dns.TypeCNAME} {
				m := ask(t, k, name, qtype)
				var answered []string
				for _, rr := range m.Answer {
					answered = append(answered, rr.String())
				}
				got := transferred[dns.Question{Name: name, Qtype: qtype}]
				if m.Rcode == dns.RcodeServerFailure { // an alias whose target no server in this test has
					answered = nil
				}
				if strings.Join(got, "\n") != strings.Join(answered, "\n") {
					t.Errorf("%s %s: the transfer has\n%s\nthe answer\n%s", name, dns.TypeToString[qtype], strings.Join(got, "\n"), strings.Join(answered, "\n"))
				}
			}
		}
	}
}

// Classes other than IN and opcodes other than QUERY are for other plugins.
func TestClassAndOpcode(t *testing.T) {
	k := serve(t, "dns://.:53", example)
	for _, tc := range []struct {
		class  uint16
		opcode int
		ours   bool
	}{
		{dns.ClassINET, dns.OpcodeQuery, true},
		{dns.ClassANY, dns.OpcodeQuery, true},
		{dns.ClassCHAOS, dns.OpcodeQuery, false},
		{dns.ClassHESIOD, dns.OpcodeQuery, false},
		{dns.ClassINET, dns.OpcodeNotify, false},
		{dns.ClassINET, dns.OpcodeUpdate, false},
		{dns.ClassINET, dns.OpcodeStatus, false},
	} {
		for _, name := range []string{"web.shop.svc.cluster.local.", "registry.corp.example.", "cluster.local.", "10.7.96.10.in-addr.arpa."} {
			r := new(dns.Msg).SetQuestion(name, dns.TypeA)
			r.Question[0].Qclass, r.Opcode = tc.class, tc.opcode
			w := dnstest.NewRecorder(&test.ResponseWriter{})
			if _, err := k.ServeDNS(context.Background(), w, r); err != nil {
				t.Fatal(err)
			}
			if got := w.Msg != nil; got != tc.ours {
				t.Errorf("%s, class %d, opcode %d: answered %v, want %v", name, tc.class, tc.opcode, got, tc.ours)
			}
		}
	}
}

// No record has a name over 255 octets: it could not be packed, and no query could have it.
func TestNamesThatDoNotFit(t *testing.T) {
	label := strings.Repeat("l", 63)
	zone := strings.Repeat("z", 60) + ".local"
	manifest := filepath.Join(t.TempDir(), "long.yaml")
	save(t, manifest, fmt.Sprintf(`apiVersion: v1
kind: Service
metadata: {name: %[1]s, namespace: %[1]s}
spec: {clusterIP: None, ports: [{name: pg, port: 5432}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: long, namespace: %[1]s, labels: {kubernetes.io/service-name: %[1]s}}
addressType: IPv4
ports: [{name: pg, protocol: TCP, port: 5432}]
endpoints:
- {addresses: [10.7.7.1], hostname: %[1]s}
- {addresses: [10.7.7.2], hostname: short}
`, label))
	k := serve(t, "dns://.:53", fmt.Sprintf("kubehosts %s in-addr.arpa {\n manifests %s\n}", zone, manifest))
	service := label + "." + label + ".svc." + zone + "."
	for _, tc := range []struct {
		name  string
		qtype uint16
		want  string
	}{
		{"1.7.7.10.in-addr.arpa.", dns.TypePTR, "NXDOMAIN"},
		{"2.7.7.10.in-addr.arpa.", dns.TypePTR, "short." + service},
		{service, dns.TypeSRV, "0 50 5432 short." + service},
	} {
		m := ask(t, k, tc.name, tc.qtype)
		if got := short(m); got != tc.want {
			t.Errorf("%s %s: got %s, want %s", tc.name, dns.TypeToString[tc.qtype], got, tc.want)
		}
		if _, err := m.Pack(); err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

package kubehosts

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/coredns/coredns/plugin/metadata"
	clog "github.com/coredns/coredns/plugin/pkg/log"
	"github.com/coredns/coredns/plugin/test"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"
)

// outside has an object of each kind that publishes names, in example.org and team.example.org.
const outside = `apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: shop}
spec: {ingressClassName: nginx, rules: [{host: web.example.org}, {host: "*.w.example.org"}, {host: a.deep.example.org}, {host: web.team.example.org}, {host: web.elsewhere.example}]}
status: {loadBalancer: {ingress: [{ip: 192.0.2.1}, {ip: "2001:db8::1"}]}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: cloud, namespace: shop, annotations: {external-dns.kubernetes.io/ttl: "7"}}
spec: {ingressClassName: cloud, rules: [{host: cloud.example.org}, {host: example.org}, {host: gone.example.org}]}
status: {loadBalancer: {ingress: [{hostname: www.example}]}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: lost, namespace: shop}
spec: {rules: [{host: lost.example.org}]}
status: {loadBalancer: {ingress: [{hostname: nobody.example}]}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: broken, namespace: shop}
spec: {rules: [{host: broken.example.org}]}
status: {loadBalancer: {ingress: [{hostname: broken.example}]}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: two, namespace: shop}
spec: {rules: [{host: two.example.org}]}
status: {loadBalancer: {ingress: [{ip: 192.0.2.9}, {hostname: www.example}, {hostname: nobody.example}, {hostname: cut.example}]}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: balanced, namespace: shop}
spec: {rules: [{host: balanced.example.org}]}
status: {loadBalancer: {ingress: [{ip: 192.0.2.4}]}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: named, namespace: shop}
spec: {rules: [{host: named.example.org}]}
status: {loadBalancer: {ingress: [{hostname: lb.cloud.example}]}}
---
apiVersion: v1
kind: Service
metadata: {name: lb, namespace: shop}
spec: {type: LoadBalancer, clusterIP: 10.96.7.4, ports: [{name: http, port: 80}, {name: dns, port: 53, protocol: UDP}]}
status: {loadBalancer: {ingress: [{ip: 192.0.2.4}]}}
---
apiVersion: v1
kind: Service
metadata: {name: named, namespace: shop}
spec: {type: LoadBalancer, clusterIP: 10.96.7.5, ports: [{name: http, port: 80}]}
status: {loadBalancer: {ingress: [{hostname: lb.cloud.example}]}}
---
apiVersion: v1
kind: Service
metadata: {name: plain, namespace: shop}
spec: {clusterIP: 10.96.7.6, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: inner, namespace: shop, annotations: {external-dns.kubernetes.io/internal-hostname: inner.example.org}}
spec: {clusterIP: 10.96.7.7, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop, annotations: {external-dns.alpha.kubernetes.io/internal-hostname: db.example.org}}
spec: {clusterIP: None, ports: [{name: pg, port: 5432}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-1, namespace: shop, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
ports: [{name: pg, port: 5432}]
endpoints: [{addresses: [10.244.1.5], hostname: db-0}, {addresses: [10.244.1.6], hostname: db-1}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw, namespace: shop}
spec: {gatewayClassName: c, listeners: [{name: http, port: 80, protocol: HTTP, hostname: "*.g.example.org"}]}
status: {addresses: [{type: IPAddress, value: 192.0.2.5}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: any, namespace: shop, generation: 1}
spec: {parentRefs: [{name: gw}]}
status: {parents: [{parentRef: {name: gw}, controllerName: example.com/c, conditions: [{type: Accepted, status: "True", observedGeneration: 1}]}]}
---
apiVersion: externaldns.k8s.io/v1alpha1
kind: DNSEndpoint
metadata: {name: ep, namespace: shop}
spec:
  endpoints:
  - {dnsName: ep.example.org, recordType: A, targets: [192.0.2.6]}
  - {dnsName: ep.example.org, recordType: TXT, recordTTL: 9, targets: ['v=spf1 -all', 'a\b "c"']}
  - {dnsName: ep.example.org, recordType: MX, targets: [10 mx.example.net, 20 mail.example.org]}
  - {dnsName: _sip._tcp.example.org, recordType: SRV, targets: [1 2 5060 sip.example.org]}
  - {dnsName: alias.example.org, recordType: CNAME, targets: [ep.example.org]}
  - {dnsName: far.example.org, recordType: CNAME, targets: [www.example]}
  - {dnsName: top.example.org, recordType: CNAME, targets: [example.org]}
  - {dnsName: loop.example.org, recordType: CNAME, targets: [loop.example.org]}
---
apiVersion: v1
kind: Node
metadata: {name: node-1}
status: {addresses: [{type: InternalIP, address: 192.0.2.8}]}
`

// serveOutside serves the objects of outside and of more, with a stanza that ends in the lines of options.
func serveOutside(t testing.TB, more, options string) *Kubehosts {
	t.Helper()
	manifest := filepath.Join(t.TempDir(), "outside.yaml")
	save(t, manifest, outside+more)
	return serve(t, "dns://.:53", fmt.Sprintf("kubehosts cluster.local {\n\tmanifests %s\n%s\n}", manifest, options))
}

const bothZones = "external example.org team.example.org"

// All kinds of answers in an external zone.
func TestExternal(t *testing.T) {
	k := serveOutside(t, "", bothZones)
	const soa = " | SOA example.org."
	checkAnswers(t, asking(t, k), []expected{
		{"web.example.org.", dns.TypeA, "NOERROR A 192.0.2.1"},
		{"WEB.Example.ORG.", dns.TypeAAAA, "NOERROR AAAA 2001:db8::1"},
		{"web.example.org.", dns.TypeTXT, "NOERROR" + soa},
		{"web.example.org.", dns.TypeMX, "NOERROR" + soa},
		{"web.example.org.", dns.TypeSOA, "NOERROR" + soa},
		{"web.example.org.", dns.TypeNS, "NOERROR" + soa},
		{"web.example.org.", dns.TypeSRV, "NOERROR" + soa},
		{"web.example.org.", dns.TypeCNAME, "NOERROR" + soa},
		{"web.team.example.org.", dns.TypeA, "NOERROR A 192.0.2.1"},
		{"web.team.example.org.", dns.TypeTXT, "NOERROR | SOA team.example.org."},
		{"web.elsewhere.example.", dns.TypeA, "next"},
		{"no.example.org.", dns.TypeA, "NXDOMAIN" + soa},
		{"no.example.org.", dns.TypeTXT, "NXDOMAIN" + soa},
		{"x.web.example.org.", dns.TypeA, "NXDOMAIN" + soa},
		{"deep.example.org.", dns.TypeA, "NOERROR" + soa}, // an empty non-terminal
		{"example.org.", dns.TypeTXT, "NOERROR" + soa},
		{"team.example.org.", dns.TypeA, "NOERROR | SOA team.example.org."},

		// Wildcards: an Ingress's matches one label, a Gateway's any number.
		{"a.w.example.org.", dns.TypeA, "NOERROR A 192.0.2.1"},
		{"a.b.w.example.org.", dns.TypeA, "NXDOMAIN" + soa},
		{"w.example.org.", dns.TypeA, "NOERROR" + soa},
		{"a.g.example.org.", dns.TypeA, "NOERROR A 192.0.2.5"},
		{"a.b.g.example.org.", dns.TypeA, "NOERROR A 192.0.2.5"},
		{"a.b.g.example.org.", dns.TypeTXT, "NOERROR" + soa},

		// The zone's own names.
		{"example.org.", dns.TypeSOA, "NOERROR SOA ns.dns.example.org. hostmaster.example.org. 1 7200 1800 86400 60"},
		{"example.org.", dns.TypeNS, "NOERROR NS ns.dns.example.org. + ns.dns.example.org. 192.0.2.53 + ns.dns.example.org. 2001:db8::53"},
		{"ns.dns.example.org.", dns.TypeA, "NOERROR A 192.0.2.53"},
		{"ns.dns.example.org.", dns.TypeTXT, "NOERROR" + soa},
		{"dns.example.org.", dns.TypeA, "NOERROR" + soa},

		// A LoadBalancer, as k8s_external answers for it.
		{"lb.shop.example.org.", dns.TypeA, "NOERROR A 192.0.2.4"},
		{"lb.shop.example.org.", dns.TypeAAAA, "NOERROR" + soa},
		{"lb.shop.example.org.", dns.TypeSRV, "NOERROR SRV 0 50 80 lb.shop.example.org. SRV 0 50 53 lb.shop.example.org. + lb.shop.example.org. 192.0.2.4"},
		{"_http._tcp.LB.shop.example.org.", dns.TypeSRV, "NOERROR SRV 0 100 80 LB.shop.example.org. + LB.shop.example.org. 192.0.2.4"},
		{"_no._tcp.lb.shop.example.org.", dns.TypeSRV, "NXDOMAIN" + soa},
		{"_tcp.lb.shop.example.org.", dns.TypeSRV, "NOERROR" + soa},
		{"_http._tcp.named.shop.example.org.", dns.TypeSRV, "NOERROR SRV 0 100 80 lb.cloud.example."},
		{"shop.example.org.", dns.TypeA, "NOERROR" + soa},
		{"plain.shop.example.org.", dns.TypeA, "NXDOMAIN" + soa},

		// Headless Services.
		{"db.shop.example.org.", dns.TypeA, "NOERROR A 10.244.1.5 A 10.244.1.6"},
		{"db-1.db.shop.example.org.", dns.TypeA, "NOERROR A 10.244.1.6"},
		{"db-2.db.shop.example.org.", dns.TypeA, "NXDOMAIN" + soa},
		{"_pg._tcp.db.shop.example.org.", dns.TypeSRV, "NOERROR SRV 0 50 5432 db-0.db.shop.example.org. SRV 0 50 5432 db-1.db.shop.example.org. " +
			"+ db-0.db.shop.example.org. 10.244.1.5 + db-1.db.shop.example.org. 10.244.1.6"},

		// Aliases for Services in the cluster.
		{"inner.example.org.", dns.TypeA, "NOERROR A 10.96.7.7"},
		{"inner.example.org.", dns.TypeTXT, "NOERROR" + soa},
		{"db.example.org.", dns.TypeA, "NOERROR A 10.244.1.5 A 10.244.1.6"},

		// DNSEndpoints.
		{"ep.example.org.", dns.TypeA, "NOERROR A 192.0.2.6"},
		{"ep.example.org.", dns.TypeTXT, `NOERROR TXT "a\\b \"c\"" TXT "v=spf1 -all"`},
		{"ep.example.org.", dns.TypeMX, "NOERROR MX 10 mx.example.net. MX 20 mail.example.org."},
		{"_sip._tcp.example.org.", dns.TypeSRV, "NOERROR SRV 1 2 5060 sip.example.org."},
		{"_sip._tcp.example.org.", dns.TypeA, "NOERROR" + soa},
		{"alias.example.org.", dns.TypeCNAME, "NOERROR CNAME ep.example.org."},
		{"alias.example.org.", dns.TypeA, "NOERROR CNAME ep.example.org. A 192.0.2.6"},
		{"alias.example.org.", dns.TypeAAAA, "NOERROR CNAME ep.example.org." + soa},
		{"alias.example.org.", dns.TypeMX, "NOERROR CNAME ep.example.org. MX 10 mx.example.net. MX 20 mail.example.org."},
		{"loop.example.org.", dns.TypeA, "SERVFAIL" + soa},

		{"node-1.example.org.", dns.TypeA, "NXDOMAIN" + soa}, // not by default
		{"web.shop.svc.cluster.local.", dns.TypeA, "NXDOMAIN | SOA cluster.local."},
		{"lb.shop.svc.cluster.local.", dns.TypeA, "NOERROR A 10.96.7.4"},
	})
}

// A load balancer with a hostname makes an alias, and this server resolves its target. At a zone's apex, and with
// several hostnames, the name has just the addresses.
func TestExternalHostnames(t *testing.T) {
	k := serveOutside(t, "", bothZones)
	_, ask := serveWorld(t, k)
	const soa, beyond = " | SOA example.org.", " | SOA example."
	for _, tc := range []struct {
		name  string
		qtype uint16
		want  string
		ttl   uint32
	}{
		{"cloud.example.org.", dns.TypeA, "NOERROR CNAME www.example. A 192.0.2.80", 7},
		{"cloud.example.org.", dns.TypeAAAA, "NOERROR CNAME www.example." + beyond, 7},
		{"cloud.example.org.", dns.TypeCNAME, "NOERROR CNAME www.example.", 7},
		{"cloud.example.org.", dns.TypeTXT, `NOERROR CNAME www.example. TXT "hello"`, 7},
		{"far.example.org.", dns.TypeA, "NOERROR CNAME www.example. A 192.0.2.80", 60},
		{"lost.example.org.", dns.TypeA, "NXDOMAIN CNAME nobody.example." + beyond, 60},
		{"broken.example.org.", dns.TypeA, "SERVFAIL", 0},

		{"example.org.", dns.TypeA, "NOERROR A 192.0.2.80", 7},
		{"example.org.", dns.TypeAAAA, "NOERROR" + soa, 0},
		{"example.org.", dns.TypeCNAME, "NOERROR" + soa, 0},
		{"example.org.", dns.TypeMX, "NOERROR" + soa, 0},
		{"top.example.org.", dns.TypeA, "NOERROR CNAME example.org. A 192.0.2.80", 60},
		{"two.example.org.", dns.TypeA, "NOERROR A 192.0.2.9 A 192.0.2.81 A 192.0.2.80", 60},
		{"two.example.org.", dns.TypeAAAA, "NOERROR" + soa, 0},
		{"two.example.org.", dns.TypeTXT, "NOERROR" + soa, 0},
	} {
		m := ask(tc.name, tc.qtype)
		if got := described(m); got != tc.want {
			t.Errorf("%s %s: got\n%s\nwant\n%s", tc.name, dns.TypeToString[tc.qtype], got, tc.want)
			continue
		}
		if len(m.Answer) > 0 && m.Answer[0].Header().Ttl != tc.ttl {
			t.Errorf("%s %s: TTL %d, want %d", tc.name, dns.TypeToString[tc.qtype], m.Answer[0].Header().Ttl, tc.ttl)
		}
		for _, rr := range m.Answer {
			if rr.Header().Rrtype == dns.TypeA && len(m.Answer) == 3 && (rr.Header().Name != tc.name || rr.Header().Ttl != m.Answer[0].Header().Ttl) {
				t.Errorf("%s: %v is not in the name's own RRset", tc.name, rr)
			}
		}
	}
	if m := ask("two.example.org.", dns.TypeA); !m.Truncated {
		t.Error("addresses were left out, but TC is not set")
	}
}

// All look-ups of a query share one budget. A name with more load balancers than that gets SERVFAIL unless one of them
// resolves.
func TestExternalHostnamesBudget(t *testing.T) {
	var many strings.Builder
	for i := range 40 {
		fmt.Fprintf(&many, "{hostname: h%d.example}, ", i)
	}
	k := serveOutside(t, "---\napiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: many, namespace: shop}\n"+
		"spec: {rules: [{host: many.example.org}]}\nstatus: {loadBalancer: {ingress: ["+many.String()+"{hostname: www.example}]}}\n", bothZones)
	outside, ask := serveWorld(t, k)
	m := ask("many.example.org.", dns.TypeA)
	if outside.asked > maxLookups {
		t.Errorf("%d look-ups for one query, want %d at most", outside.asked, maxLookups)
	}
	if got := described(m); got != "SERVFAIL" {
		t.Errorf("got %s, want SERVFAIL, since not all hostnames were looked up", got)
	}
}

// Clients in the cluster get the cluster IPs of the Services behind a load balancer, and the outside addresses if there
// are none.
func TestExternalInside(t *testing.T) {
	k := serveOutside(t, "", bothZones+" {\n\t\tinside\n\t}")
	_, ask := serveWorld(t, k)
	const soa = " | SOA example.org."
	checkAnswers(t, ask, []expected{
		{"balanced.example.org.", dns.TypeA, "NOERROR A 10.96.7.4"},
		{"balanced.example.org.", dns.TypeAAAA, "NOERROR" + soa},
		{"named.example.org.", dns.TypeA, "NOERROR A 10.96.7.5"},
		{"named.example.org.", dns.TypeCNAME, "NOERROR" + soa},
		{"named.example.org.", dns.TypeHTTPS, "NOERROR" + soa},
		{"lb.shop.example.org.", dns.TypeA, "NOERROR A 10.96.7.4"},
		{"web.example.org.", dns.TypeA, "NOERROR A 192.0.2.1"},
		{"cloud.example.org.", dns.TypeA, "NOERROR CNAME www.example. A 192.0.2.80"},
		{"a.b.g.example.org.", dns.TypeA, "NOERROR A 192.0.2.5"},
		{"ep.example.org.", dns.TypeTXT, `NOERROR TXT "a\\b \"c\"" TXT "v=spf1 -all"`},
	})
}

// The options in the block of external select objects.
func TestExternalOptions(t *testing.T) {
	const a, none = "NOERROR A ", "NXDOMAIN | SOA example.org."
	for _, tc := range []struct{ options, name, want string }{
		{"external example.org {\nfrom ingress\n}", "web.example.org.", a + "192.0.2.1"},
		{"external example.org {\nfrom ingress\n}", "lb.shop.example.org.", none},
		{"external example.org {\nfrom gateway\n}", "a.g.example.org.", a + "192.0.2.5"},
		{"external example.org {\nfrom gateway\n}", "web.example.org.", none},
		{"external example.org {\nfrom node\n}", "node-1.example.org.", a + "192.0.2.8"},
		{"external example.org {\nfrom dnsendpoint\n}", "ep.example.org.", a + "192.0.2.6"},
		{"external example.org {\nclass nginx\n}", "web.example.org.", a + "192.0.2.1"},
		{"external example.org {\nclass nginx\n}", "balanced.example.org.", none}, // without a class
		{"external example.org {\nclass nginx\n}", "a.g.example.org.", none},
		{"external example.org {\nclass c\n}", "a.g.example.org.", a + "192.0.2.5"},
		{"external example.org {\nnamespaces other\n}", "web.example.org.", none},
		{"external example.org {\nnamespaces other shop\n}", "web.example.org.", a + "192.0.2.1"},
		{"namespaces other\nexternal example.org", "web.example.org.", none},
		{"namespaces other\nexternal example.org {\nnamespaces shop\n}", "web.example.org.", none},
		{"namespaces other shop\nexternal example.org {\nnamespaces shop\n}", "web.example.org.", a + "192.0.2.1"},
		{"namespace_labels team=x\nexternal example.org", "web.example.org.", none},
		{"external example.org {\nfrom service\n}\nfallthrough example.org", "web.example.org.", "next"},
		{"external example.org\nhosts {\n192.0.2.99 web.example.org more.example.org\n}", "web.example.org.", a + "192.0.2.99"},
		{"external example.org\nhosts {\n192.0.2.99 web.example.org more.example.org\n}", "more.example.org.", a + "192.0.2.99"},
	} {
		k := serveOutside(t, "", tc.options)
		if got := described(ask(t, k, tc.name, dns.TypeA)); got != tc.want {
			t.Errorf("%s: %s: got\n%s\nwant\n%s", tc.options, tc.name, got, tc.want)
		}
	}
	k := serveOutside(t, "", "external example.org {\nttl 5\n}")
	if m := ask(t, k, "web.example.org.", dns.TypeA); m.Answer[0].Header().Ttl != 5 {
		t.Errorf("%v does not have the option's TTL", m.Answer[0])
	}
	if m := ask(t, k, "no.example.org.", dns.TypeA); m.Ns[0].Header().Ttl != 5 || m.Ns[0].(*dns.SOA).Minttl != 5 {
		t.Errorf("%v does not have the option's TTL", m.Ns[0])
	}
	if m := ask(t, k, "ep.example.org.", dns.TypeTXT); m.Answer[0].Header().Ttl != 9 {
		t.Errorf("%v does not have the DNSEndpoint's TTL", m.Answer[0])
	}
}

// The name servers of an external zone have the external addresses of the Services that this server is an
// endpoint of.
func TestExternalNameservers(t *testing.T) {
	front := func(status string) string {
		return "---\n" + strings.Replace(strings.Replace(dnsService, "spec: {clusterIP: 10.96.0.10,", "status: {loadBalancer: {ingress: ["+status+"]}}\nspec: {type: LoadBalancer, clusterIP: 10.96.0.10,", 1),
			"metadata: {name: kube-dns, ", "metadata: {name: kube-dns, ", 1)
	}
	for _, tc := range []struct{ status, want string }{
		{"{ip: 198.51.100.53}, {ip: '2001:db8:1::53'}", "NOERROR NS ns.dns.example.org. + ns.dns.example.org. 198.51.100.53 + ns.dns.example.org. 2001:db8:1::53"},
		{"{hostname: dns.cloud.example}", "NOERROR NS dns.cloud.example."},
		{"", "NOERROR NS ns.dns.example.org. + ns.dns.example.org. 192.0.2.53 + ns.dns.example.org. 2001:db8::53"},
	} {
		k := serveOutside(t, front(tc.status), bothZones)
		if got := described(ask(t, k, "example.org.", dns.TypeNS)); got != tc.want {
			t.Errorf("%s: got\n%s\nwant\n%s", tc.status, got, tc.want)
		}
		if got := described(ask(t, k, "ns.dns.example.org.", dns.TypeA)); strings.Contains(tc.want, "198.51.100.53") && got != "NOERROR A 198.51.100.53" {
			t.Errorf("%s: the name server is %s", tc.status, got)
		}
	}
}

// A transfer holds the same records as the answers.
func TestExternalTransfer(t *testing.T) {
	k := serveOutside(t, "", bothZones)
	var got []string
	for _, rr := range transferred(t, k, "example.org.") {
		if soa, ok := rr.(*dns.SOA); ok {
			soa.Serial = 1
		}
		got = append(got, strings.ReplaceAll(rr.String(), "\t", " "))
	}
	slices.Sort(got[1 : len(got)-1])
	want := []string{
		"example.org. 60 IN SOA ns.dns.example.org. hostmaster.example.org. 1 7200 1800 86400 60",
		"*.g.example.org. 60 IN A 192.0.2.5", "*.w.example.org. 60 IN A 192.0.2.1", "*.w.example.org. 60 IN AAAA 2001:db8::1",
		"_dns._udp.lb.shop.example.org. 60 IN A 192.0.2.4", "_dns._udp.lb.shop.example.org. 60 IN SRV 0 100 53 lb.shop.example.org.",
		"_http._tcp.lb.shop.example.org. 60 IN A 192.0.2.4", "_http._tcp.lb.shop.example.org. 60 IN SRV 0 100 80 lb.shop.example.org.",
	}
	for _, line := range want {
		if !slices.Contains(got, line) {
			t.Errorf("without %s", line)
		}
	}
	seen := make(map[string]bool)
	for _, line := range got[1 : len(got)-1] {
		if seen[line] {
			t.Errorf("twice: %s", line)
		}
		seen[line] = true
		if strings.Contains(line, "elsewhere") || strings.Contains(line, " web.team.example.org.") {
			t.Errorf("of another zone: %s", line)
		}
	}
	for _, name := range []string{"web.example.org. 60 IN A 192.0.2.1", "cloud.example.org. 7 IN CNAME www.example.", "db.shop.example.org. 60 IN A 10.244.1.5",
		"db-0.db.shop.example.org. 60 IN A 10.244.1.5", "inner.example.org. 60 IN A 10.96.7.7", "ep.example.org. 60 IN MX 10 mx.example.net.",
		"team.example.org. 60 IN NS ns.dns.team.example.org.", "ns.dns.team.example.org. 60 IN A 192.0.2.53", "example.org. 60 IN NS ns.dns.example.org."} {
		if !seen[name] {
			t.Errorf("without %s in\n%s", name, strings.Join(got, "\n"))
		}
	}
}

// transferred returns the records of a zone.
func transferred(t *testing.T, k *Kubehosts, zone string) (all []dns.RR) {
	t.Helper()
	ch, err := k.Transfer(zone, 0)
	if err != nil {
		t.Fatal(err)
	}
	for rrs := range ch {
		all = append(all, rrs...)
	}
	return all
}

// Logs get the object that has a name.
func TestExternalMetadata(t *testing.T) {
	k := serveOutside(t, "", bothZones)
	for name, want := range map[string]string{
		"web.example.org.": "Ingress shop/web", "a.b.g.example.org.": "HTTPRoute shop/any", "lb.shop.example.org.": "Service shop/lb",
		"no.example.org.": " /", "deep.example.org.": " /",
	} {
		ctx := metadata.ContextWithMetadata(context.Background())
		ctx = k.Metadata(ctx, request.Request{Req: new(dns.Msg).SetQuestion(name, dns.TypeA), W: &test.ResponseWriter{}})
		value := func(label string) string {
			if f := metadata.ValueFunc(ctx, "kubehosts/"+label); f != nil {
				return f()
			}
			return ""
		}
		if got := value("external-kind") + " " + value("external-namespace") + "/" + value("external-name"); got != want {
			t.Errorf("%s belongs to %q, want %q", name, got, want)
		}
	}
}

// A hosts entry with the name of a Service is the address of that target of SRV records, too.
func TestExternalHosts(t *testing.T) {
	k := serveOutside(t, "", "hosts {\n192.0.2.99 lb.shop.example.org\n}\n"+bothZones)
	for qtype, want := range map[uint16]string{
		dns.TypeA:   "NOERROR A 192.0.2.99",
		dns.TypeSRV: "NOERROR SRV 0 100 80 lb.shop.example.org. + lb.shop.example.org. 192.0.2.99",
	} {
		name := "lb.shop.example.org."
		if qtype == dns.TypeSRV {
			name = "_http._tcp." + name
		}
		if got := described(ask(t, k, name, qtype)); got != want {
			t.Errorf("%s %s: got %s, want %s", name, dns.TypeToString[qtype], got, want)
		}
	}
}

// A hosts wildcard covers names that no object has, and that are not above one.
func TestExternalHostsWildcard(t *testing.T) {
	k := serveOutside(t, "", "hosts {\n192.0.2.99 *.example.org *.w.example.org *.deep.example.org *.g.example.org\n}\n"+bothZones)
	const soa = " | SOA example.org."
	checkAnswers(t, asking(t, k), []expected{
		{"no.example.org.", dns.TypeA, "NOERROR A 192.0.2.99"},
		{"web.example.org.", dns.TypeA, "NOERROR A 192.0.2.1"},
		{"web.example.org.", dns.TypeTXT, "NOERROR" + soa},
		{"ep.example.org.", dns.TypeAAAA, "NOERROR" + soa},
		{"a.w.example.org.", dns.TypeA, "NOERROR A 192.0.2.99"}, // an Ingress has the same wildcard
		{"a.deep.example.org.", dns.TypeA, "NOERROR A 192.0.2.1"},
		{"deep.example.org.", dns.TypeA, "NOERROR" + soa},
		{"b.deep.example.org.", dns.TypeA, "NOERROR A 192.0.2.99"},
		{"a.g.example.org.", dns.TypeA, "NOERROR A 192.0.2.99"},
		{"a.b.g.example.org.", dns.TypeA, "NOERROR A 192.0.2.5"}, // a Gateway's wildcard matches several labels
		{"shop.example.org.", dns.TypeA, "NOERROR" + soa},
		{"team.example.org.", dns.TypeA, "NOERROR | SOA team.example.org."},
		{"no.team.example.org.", dns.TypeA, "NXDOMAIN | SOA team.example.org."},
	})
	want := map[string]string{"*.example.org.": "192.0.2.99", "*.w.example.org.": "192.0.2.99", "*.deep.example.org.": "192.0.2.99", "web.example.org.": "192.0.2.1", "ep.example.org.": "192.0.2.6"}
	for _, rr := range transferred(t, k, "example.org.") {
		if a, ok := rr.(*dns.A); ok && want[a.Hdr.Name] != "" {
			if got := a.A.String(); got != want[a.Hdr.Name] {
				t.Errorf("the transfer has %v", a)
			}
			delete(want, a.Hdr.Name)
		}
	}
	if len(want) > 0 {
		t.Errorf("the transfer lacks %v", want)
	}
}

// What an answer in an external zone costs in allocations: the message and its records.
func TestExternalAllocations(t *testing.T) {
	k := serveOutside(t, "", bothZones)
	checkAllocations(t, k, []cost{
		{"web.example.org.", dns.TypeA, 1},
		{"a.b.g.example.org.", dns.TypeA, 1},
		{"no.example.org.", dns.TypeA, 1},
		{"web.example.org.", dns.TypeTXT, 1},
	})
}

// A ConfigMap can change everything in an external option but the reach of its zones. The serial of the zones rises
// with each change to them.
func TestExternalLive(t *testing.T) {
	dir := t.TempDir()
	objects, cm := filepath.Join(dir, "outside.yaml"), filepath.Join(dir, "cm.yaml")
	save(t, objects, outside)
	k := serve(t, "dns://.:53", fmt.Sprintf("kubehosts cluster.local {\nmanifests %s %s\nconfigmap kube-system/coredns\nexternal example.org\n}", objects, cm))
	get := func(name string) func() string {
		return func() string { return described(ask(t, k, name, dns.TypeA)) }
	}
	serial := func() uint32 {
		m := ask(t, k, "example.org.", dns.TypeSOA)
		if m == nil || len(m.Answer) == 0 {
			return 0
		}
		return m.Answer[0].(*dns.SOA).Serial
	}
	const soa = " | SOA example.org."
	within(t, "the Corefile's", "NOERROR A 192.0.2.4", get("balanced.example.org."))
	n := 0
	put := func(text string) {
		n++
		save(t, cm, fmt.Sprintf(configMap, n, indent(text)))
	}
	last := serial()
	for _, tc := range []struct{ text, name, want string }{
		{"kubehosts {\n external example.org {\n inside\n }\n}", "balanced.example.org.", "NOERROR A 10.96.7.4"},
		{"kubehosts {\n external example.org {\n from node\n }\n}", "node-1.example.org.", "NOERROR A 192.0.2.8"},
		{"kubehosts {\n external example.org {\n from node\n }\n}", "web.example.org.", "NXDOMAIN" + soa},
		{"kubehosts {\n external example.org {\n class c\n }\n}", "a.g.example.org.", "NOERROR A 192.0.2.5"},
		{"kubehosts {\n external team.example.org\n}", "web.team.example.org.", "NOERROR A 192.0.2.1"},
		{"kubehosts {\n external team.example.org\n}", "web.example.org.", "next"},
		{"kubehosts\n", "web.team.example.org.", "next"},
		{"kubehosts {\n external example.org\n}", "web.example.org.", "NOERROR A 192.0.2.1"},
	} {
		put(tc.text)
		within(t, tc.text, tc.want, get(tc.name))
		if now := serial(); now != 0 {
			if int32(now-last) < 0 {
				t.Errorf("after %q the serial is %d, and was %d", tc.text, now, last)
			}
			last = now
		}
	}
	put("kubehosts {\n external elsewhere.example\n}")
	within(t, "a zone that the Corefile lacks", "true", func() string { return fmt.Sprint(strings.Contains(k.block.Refused(), "elsewhere.example")) })
	if got := get("web.example.org.")(); got != "NOERROR A 192.0.2.1" {
		t.Errorf("after a refused stanza: %s", got)
	}

	before := serial()
	save(t, objects, strings.ReplaceAll(outside, "{ip: 192.0.2.1}", "{ip: 192.0.2.11}"))
	within(t, "an object that changed", "NOERROR A 192.0.2.11", get("web.example.org."))
	if now := serial(); int32(now-before) < 0 {
		t.Errorf("the serial is %d, and was %d", now, before)
	}
}

// An object that loses a name is counted. The loss is logged once, however many server blocks serve the name, and again
// only if it was settled in between.
func TestExternalConflicts(t *testing.T) {
	var log syncBuffer
	clog.SetOutput(&log)
	defer clog.SetOutput(os.Stderr)
	manifest := filepath.Join(t.TempDir(), "outside.yaml")
	rival := `---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: rival, namespace: shop, creationTimestamp: "2026-01-02T00:00:00Z"}
spec: {rules: [{host: web.example.org}, {host: own.example.org}]}
status: {loadBalancer: {ingress: [{ip: 192.0.2.66}]}}
`
	save(t, manifest, outside+rival)
	text := "kubehosts cluster.local {\nmanifests " + manifest + "\nexternal example.org\n}"
	k, other := serve(t, "dns://.:53", text), serve(t, "dns://.:54", strings.Replace(text, "external example.org", "external example.org {\ninside\n}", 1))
	for _, k := range []*Kubehosts{k, other} {
		for name, want := range map[string]string{"web.example.org.": "NOERROR A 192.0.2.1", "own.example.org.": "NOERROR A 192.0.2.66"} {
			if got := described(ask(t, k, name, dns.TypeA)); got != want {
				t.Errorf("%s: %s, want %s", name, got, want)
			}
		}
	}
	lost := func() string { return fmt.Sprint(metric(t, "external_conflicts", "dns://.:53")) }
	told := func() int {
		return strings.Count(log.String(), "Ingress shop/rival does not have the name web.example.org., which the older Ingress shop/web has")
	}
	within(t, "one name is lost", "1", lost)
	if n := told(); n != 1 {
		t.Errorf("it is logged %d times:\n%s", n, log.String())
	}
	save(t, manifest, outside+strings.Replace(rival, "192.0.2.66", "192.0.2.1}, {ip: '2001:db8::1'", 1))
	within(t, "the same addresses are no conflict", "0", lost)
	save(t, manifest, outside+rival)
	within(t, "it is lost again", "1", lost)
	within(t, "and logged again", "2", func() string { return fmt.Sprint(told()) })
	if got := described(ask(t, k, "web.example.org.", dns.TypeA)); got != "NOERROR A 192.0.2.1" {
		t.Errorf("the winner is %s", got)
	}
}

// syncBuffer is a log with many writers.
type syncBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// A stanza moved over from k8s_gateway as the manual describes works where k8s_gateway fails. There, an Ingress without
// a class ends the process, the targets of a DNSEndpoint's names are mixed up, TXT of a name with addresses is NXDOMAIN
// and nothing else ever is, every name has an SOA record, and a route counts that no Gateway accepted.
func TestMovedFromK8sGateway(t *testing.T) {
	more := `---
apiVersion: externaldns.k8s.io/v1alpha1
kind: DNSEndpoint
metadata: {name: two, namespace: shop}
spec: {endpoints: [{dnsName: one.example.org, recordType: A, targets: [192.0.2.31]}, {dnsName: other.example.org, recordType: A, targets: [192.0.2.32]}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: refused, namespace: shop, generation: 1}
spec: {hostnames: [refused.g.example.org], parentRefs: [{name: gw}]}
status: {parents: [{parentRef: {name: gw}, controllerName: example.com/c, conditions: [{type: Accepted, status: "False", observedGeneration: 1}]}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: elsewhere, namespace: shop, generation: 1}
spec: {hostnames: [elsewhere.example.org], parentRefs: [{name: gw}]}
status: {parents: [{parentRef: {name: gw}, controllerName: example.com/c, conditions: [{type: Accepted, status: "True", observedGeneration: 1}]}]}
`
	k := serveOutside(t, more, "external example.org {\nfrom ingress service gateway dnsendpoint\nclass nginx c\nttl 300\n}\nfallthrough example.net")
	if !k.Ready() {
		t.Error("it is not ready")
	}
	const soa = " | SOA example.org."
	checkAnswers(t, asking(t, k), []expected{
		{"web.example.org.", dns.TypeA, "NOERROR A 192.0.2.1"},
		{"balanced.example.org.", dns.TypeA, "NXDOMAIN" + soa}, // without a class
		{"one.example.org.", dns.TypeA, "NOERROR A 192.0.2.31"},
		{"other.example.org.", dns.TypeA, "NOERROR A 192.0.2.32"},
		{"one.example.org.", dns.TypeTXT, "NOERROR" + soa},
		{"one.example.org.", dns.TypeSOA, "NOERROR" + soa},
		{"none.example.org.", dns.TypeA, "NXDOMAIN" + soa},
		{"refused.g.example.org.", dns.TypeA, "NOERROR A 192.0.2.5"}, // from the listener's wildcard, which the other route has
		{"elsewhere.example.org.", dns.TypeA, "NXDOMAIN" + soa},      // which the listener does not have
	})
	v := k.block.View()
	z := v.ZoneOf("example.org.")
	if m := v.Outside.State().Lookup(z.Name, "refused.g.example.org.", &z.External.Selection); m.Object().Name != "any" {
		t.Errorf("refused.g.example.org. belongs to %v, which its Gateway refuses", m.Object())
	}
}

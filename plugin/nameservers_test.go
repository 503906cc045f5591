package kubehosts

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// dnsService is a Service that has this server, at 192.0.2.53, as its endpoint.
const dnsService = `apiVersion: v1
kind: Service
metadata: {name: kube-dns, namespace: kube-system}
spec: {clusterIP: 10.96.0.10, clusterIPs: [10.96.0.10, "fd00:96::a"], ports: [{name: dns, port: 53, protocol: UDP}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: kube-dns-4, namespace: kube-system, labels: {kubernetes.io/service-name: kube-dns}}
addressType: IPv4
ports: [{name: dns, port: 53, protocol: UDP}]
endpoints:
- {addresses: [192.0.2.53]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: kube-dns-6, namespace: kube-system, labels: {kubernetes.io/service-name: kube-dns}}
addressType: IPv6
ports: [{name: dns, port: 53, protocol: UDP}]
endpoints:
- {addresses: ["2001:db8::53"]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.7.10, ports: [{name: http, port: 80}]}
---
apiVersion: multicluster.x-k8s.io/v1alpha1
kind: ServiceImport
metadata: {name: addressless, namespace: shop}
spec: {type: ClusterSetIP, ports: [{name: http, port: 80, protocol: TCP}]}
`

// A zone's name servers are names in the zone that resolve to the addresses beside the NS records.
func TestNameservers(t *testing.T) {
	manifest := filepath.Join(t.TempDir(), "dns.yaml")
	save(t, manifest, dnsService)
	const all = "cluster.local clusterset.local in-addr.arpa"
	for _, tc := range []struct {
		zones, options, zone, want string
	}{
		{all, "", "cluster.local.", "kube-dns.kube-system.svc.cluster.local."},
		{all, "namespaces shop", "cluster.local.", "ns.dns.cluster.local."},
		{all, "ignore empty_service", "cluster.local.", "kube-dns.kube-system.svc.cluster.local."},
		{all, "", "in-addr.arpa.", "ns.dns.in-addr.arpa."},
		{all, "multicluster clusterset.local", "clusterset.local.", "ns.dns.clusterset.local."},
		{"cluster.local kube-system.svc.cluster.local", "", "cluster.local.", "ns.dns.cluster.local."}, // the name is in the zone below
		{".", "", ".", "kube-dns.kube-system.svc."},
		{".", "namespaces shop", ".", "ns.dns."},
	} {
		k := serve(t, "dns://.:53", fmt.Sprintf("kubehosts %s {\n manifests %s\n %s\n}", tc.zones, manifest, tc.options))
		m := ask(t, k, tc.zone, dns.TypeNS)
		if want := fmt.Sprintf("NOERROR NS %[1]s + %[1]s 10.96.0.10 + %[1]s fd00:96::a", tc.want); described(m) != want {
			t.Errorf("%s, %s: got %s, want %s", tc.zone, tc.options, described(m), want)
			continue
		}
		for _, rr := range m.Extra {
			h := rr.Header()
			if got := ask(t, k, h.Name, h.Rrtype); len(got.Answer) != 1 || got.Answer[0].String() != rr.String() {
				t.Errorf("%s, %s: %v with the NS records, %v in the answer", tc.zone, tc.options, rr, got.Answer)
			}
		}
	}
}

// A ServiceImport without an address has no SRV records either: their target would be of no use.
func TestServiceWithoutAddress(t *testing.T) {
	manifest := filepath.Join(t.TempDir(), "dns.yaml")
	save(t, manifest, dnsService)
	k := serve(t, "dns://.:53", fmt.Sprintf("kubehosts cluster.local clusterset.local {\n manifests %s\n multicluster clusterset.local\n}", manifest))
	for _, name := range []string{"addressless.shop.svc.clusterset.local.", "_http._tcp.addressless.shop.svc.clusterset.local."} {
		if got := described(ask(t, k, name, dns.TypeSRV)); got != "NOERROR | SOA clusterset.local." {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// A transfer cuts off a zone that is served below another. It has the lower zone's NS records and their addresses.
func TestTransferOfZoneInZone(t *testing.T) {
	manifest := filepath.Join(t.TempDir(), "dns.yaml")
	save(t, manifest, dnsService)
	k := serve(t, "dns://.:53", fmt.Sprintf(`kubehosts . cluster.local shop.svc.cluster.local 10.in-addr.arpa {
		manifests %s
		hosts {
			192.0.2.1 outer.cluster.local
			192.0.2.2 inner.shop.svc.cluster.local
			192.0.2.3 4.3.2.10.in-addr.arpa
		}
	}`, manifest))
	const (
		servers = "kube-dns.kube-system.svc.cluster.local."
		below   = "kube-dns.kube-system.svc.shop.svc.cluster.local."
	)
	for _, tc := range []struct {
		zone    string
		has     []string
		without []string
	}{
		{
			"cluster.local.",
			[]string{
				"outer.cluster.local. A 192.0.2.1", servers + " A 10.96.0.10", "_dns._udp." + servers + " SRV 0 50 53 " + servers,
				"shop.svc.cluster.local. NS " + below, below + " A 10.96.0.10", below + " AAAA fd00:96::a",
			},
			[]string{"web.shop.svc.cluster.local.", "inner.shop.svc.cluster.local."},
		},
		{
			"shop.svc.cluster.local.",
			[]string{"inner.shop.svc.cluster.local. A 192.0.2.2", "web.shop.svc.shop.svc.cluster.local. A 10.96.7.10"},
			[]string{"outer.cluster.local."},
		},
		{
			".",
			[]string{
				"web.shop.svc. A 10.96.7.10", "3.2.0.192.in-addr.arpa. PTR 4.3.2.10.in-addr.arpa.", "cluster.local. NS " + servers,
				"10.in-addr.arpa. NS ns.dns.10.in-addr.arpa.", "ns.dns.10.in-addr.arpa. A 10.96.0.10",
			},
			[]string{"shop.svc.cluster.local.", "10.7.96.10.in-addr.arpa.", "4.3.2.10.in-addr.arpa."},
		},
		{"10.in-addr.arpa.", []string{"10.7.96.10.in-addr.arpa. PTR web.shop.svc.", "4.3.2.10.in-addr.arpa. A 192.0.2.3"}, []string{"3.2.0.192.in-addr.arpa."}},
	} {
		ch, err := k.Transfer(tc.zone, 0)
		if err != nil {
			t.Fatal(err)
		}
		var lines []string
		for rrs := range ch {
			for _, rr := range rrs {
				h := rr.Header()
				lines = append(lines, h.Name+" "+dns.TypeToString[h.Rrtype]+" "+strings.TrimPrefix(rr.String(), h.String()))
			}
		}
		for _, line := range tc.has {
			if !slices.Contains(lines, line) {
				t.Errorf("%s lacks %s:\n%s", tc.zone, line, strings.Join(lines, "\n"))
			}
		}
		for _, name := range tc.without {
			if slices.ContainsFunc(lines, func(line string) bool { return strings.HasPrefix(line, name+" ") }) {
				t.Errorf("%s has %s", tc.zone, name)
			}
		}
	}
}

package test

import (
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/kubehosts/kubehosts/test/cluster"
	"github.com/miekg/dns"
)

// A transfer of the zone has the same records as its answers: each record is in the answer to a query for it. So it has
// all names of the stock plugin's transfer, and more.
func TestTransfer(t *testing.T) {
	objects(t, shop)
	p := runCorefile(t, strings.NewReplacer("errors", "transfer {\nto *\n}", "bind 127.0.0.1", "", "OPTIONS", "").Replace(pairCorefile))
	rrsets := make(map[dns.Question][]string)
	owners := make(map[string]bool)
	for _, rr := range transferred(t, p.Addr) {
		h := rr.Header()
		if h.Rrtype == dns.TypeSOA {
			continue
		}
		q := dns.Question{Name: h.Name, Qtype: h.Rrtype}
		rrsets[q] = append(rrsets[q], rr.String())
		owners[h.Name] = true
	}
	stock := transferred(t, p.Other)
	if len(stock) < 20 {
		t.Fatalf("stock sends %d records", len(stock))
	}
	for _, rr := range stock {
		if !owners[rr.Header().Name] {
			t.Errorf("stock sends %s, and kubehosts nothing of that name", rr)
		}
	}
	client := p.clients["kubehosts tcp"]
	for q, sent := range rrsets {
		m, err := client.Ask(q.Name, q.Qtype)
		if err != nil {
			t.Fatal(err)
		}
		var answered []string
		for _, rr := range m.Answer {
			answered = append(answered, rr.String())
		}
		slices.Sort(sent)
		slices.Sort(answered)
		if !slices.Equal(sent, answered) {
			t.Errorf("%s %s: the transfer has\n%s\nthe answer has\n%s", q.Name, dns.TypeToString[q.Qtype], strings.Join(sent, "\n"), strings.Join(answered, "\n"))
		}
	}
}

// transferred returns the records of cluster.local that a server sends.
func transferred(t *testing.T, addr string) (all []dns.RR) {
	t.Helper()
	messages, err := new(dns.Transfer).In(new(dns.Msg).SetAxfr("cluster.local."), addr)
	if err != nil {
		t.Fatal(err)
	}
	for m := range messages {
		if m.Error != nil {
			t.Fatal(m.Error)
		}
		all = append(all, m.RR...)
	}
	return all
}

// Names of endpoints in one zone of the cluster's topology.
func TestZonal(t *testing.T) {
	objects(t, shop)
	objects(t, `
apiVersion: v1
kind: Service
metadata: {name: near, namespace: shop}
spec: {clusterIP: None, ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: near-1, namespace: shop, labels: {kubernetes.io/service-name: near}}
addressType: IPv4
ports: [{name: http, port: 80, protocol: TCP}]
endpoints:
- {addresses: ["10.244.4.1"], zone: eu-1a}
- {addresses: ["10.244.4.2"], zone: Eu-1B.x}
`)
	p := runPair(t, "zonal")
	for _, q := range []question{
		{"near.shop", "A", "near.shop.svc.cluster.local. 5 IN A 10.244.4.1\nnear.shop.svc.cluster.local. 5 IN A 10.244.4.2"},
		{"eu-1a.pin._zone.near.shop", "A", "eu-1a.pin._zone.near.shop.svc.cluster.local. 5 IN A 10.244.4.1"},
		{"eu-1b.x.pin._zone.near.shop", "A", "eu-1b.x.pin._zone.near.shop.svc.cluster.local. 5 IN A 10.244.4.2"},
		{"eu-1a.pin._zone.near.shop", "SRV", "eu-1a.pin._zone.near.shop.svc.cluster.local. 5 IN SRV 0 100 80 10-244-4-1.near.shop.svc.cluster.local.\n" +
			"additional: 10-244-4-1.near.shop.svc.cluster.local. 5 IN A 10.244.4.1"},
		{"eu-1a.pin._zone.near.shop", "AAAA", nodata},
		{"eu-1a.pin._zone.near.shop", "TXT", nodata},
		{"eu-1c.pin._zone.near.shop", "A", nodata},
		{"eu-1a.prefer._zone.near.shop", "A", "eu-1a.prefer._zone.near.shop.svc.cluster.local. 5 IN A 10.244.4.1"},
		{"eu-1c.prefer._zone.near.shop", "A", "eu-1c.prefer._zone.near.shop.svc.cluster.local. 5 IN A 10.244.4.1\n" +
			"eu-1c.prefer._zone.near.shop.svc.cluster.local. 5 IN A 10.244.4.2"},
		{"eu-1a.only._zone.near.shop", "A", nxdomain},
		{"eu-1a.pin._zone.web.shop", "A", nxdomain},
		{"eu-1a.pin._zone.nobody.shop", "A", nxdomain},
	} {
		p.check(t, q)
	}
}

const imports = `
apiVersion: multicluster.x-k8s.io/v1alpha1
kind: ServiceImport
metadata: {name: web, namespace: shop}
spec: {type: ClusterSetIP, ips: ["10.97.0.1"], ports: [{name: http, port: 80, protocol: TCP}]}
---
apiVersion: multicluster.x-k8s.io/v1alpha1
kind: ServiceImport
metadata: {name: db, namespace: shop}
spec: {type: Headless, ports: [{name: pg, port: 5432, protocol: TCP}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: db-east
  namespace: shop
  labels: {multicluster.kubernetes.io/service-name: db, multicluster.kubernetes.io/source-cluster: east}
addressType: IPv4
ports: [{name: pg, port: 5432, protocol: TCP}]
endpoints: [{addresses: ["10.245.1.1"], hostname: db-0}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: db-west
  namespace: shop
  labels: {multicluster.kubernetes.io/service-name: db, multicluster.kubernetes.io/source-cluster: west}
addressType: IPv4
ports: [{name: pg, port: 5432, protocol: TCP}]
endpoints: [{addresses: ["10.246.1.1"], hostname: db-0}]
`

// applyServiceImports waits until the API server serves ServiceImports.
func applyServiceImports(t *testing.T) {
	t.Helper()
	api(t).Apply(t, cluster.Definition("multicluster.x-k8s.io", "v1alpha1", "ServiceImport"))
	api(t).WaitServed(t, "multicluster.x-k8s.io/v1alpha1/serviceimports", true)
}

// Services imported from other clusters, in a zone of their own.
func TestMulticluster(t *testing.T) {
	objects(t, shop)
	objects(t, cluster.ReadFile(t, "../build/kubernetes/rbac/multicluster.yaml"))
	applyServiceImports(t)
	objects(t, imports)
	p := runCorefile(t, strings.NewReplacer("cluster.local in-addr", "cluster.local clusterset.local in-addr",
		"OPTIONS", "multicluster clusterset.local").Replace(pairCorefile))
	none := strings.ReplaceAll(nxdomain, "cluster.local.", "clusterset.local.")
	for _, q := range []question{
		{"web.shop.svc.clusterset.local.", "A", "web.shop.svc.clusterset.local. 5 IN A 10.97.0.1"},
		{"web.shop.svc.clusterset.local.", "AAAA", strings.TrimPrefix(none, "NXDOMAIN aa\n")},
		{"_http._tcp.web.shop.svc.clusterset.local.", "SRV", "_http._tcp.web.shop.svc.clusterset.local. 5 IN SRV 0 100 80 web.shop.svc.clusterset.local.\n" +
			"additional: web.shop.svc.clusterset.local. 5 IN A 10.97.0.1"},
		{"db.shop.svc.clusterset.local.", "A", "db.shop.svc.clusterset.local. 5 IN A 10.245.1.1\ndb.shop.svc.clusterset.local. 5 IN A 10.246.1.1"},
		{"db-0.east.db.shop.svc.clusterset.local.", "A", "db-0.east.db.shop.svc.clusterset.local. 5 IN A 10.245.1.1"},
		{"db-0.west.db.shop.svc.clusterset.local.", "A", "db-0.west.db.shop.svc.clusterset.local. 5 IN A 10.246.1.1"},
		{"db-0.north.db.shop.svc.clusterset.local.", "A", none},
		{"one.shop.svc.clusterset.local.", "A", none},
		{"web.shop", "A", "web.shop.svc.cluster.local. 5 IN A 10.96.7.10"},
	} {
		p.check(t, q)
	}
	api(t).Delete(t, imports)
	p.await(t, question{"web.shop.svc.clusterset.local.", "A", none})
	p.await(t, question{"db-0.east.db.shop.svc.clusterset.local.", "A", none})
	p.check(t, question{"db.shop", "AAAA", "db.shop.svc.cluster.local. 5 IN AAAA fd00:244::5"})
}

// The name servers of the zone are the addresses that coredns listens on, or the Services with one of them as an
// endpoint.
func TestNameServers(t *testing.T) {
	var additional, fours []string
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		switch ip := a.(*net.IPNet).IP; {
		case ip.IsLoopback():
		case ip.To4() == nil:
			additional = append(additional, "\nadditional: ns.dns.cluster.local. 5 IN AAAA "+ip.String())
		default:
			additional = append(additional, "\nadditional: ns.dns.cluster.local. 5 IN A "+ip.String())
			fours = append(fours, ip.String())
		}
	}
	slices.Sort(additional)
	slices.Sort(fours)
	// Without bind, since a loopback address can't be a name server.
	p := runCorefile(t, strings.NewReplacer("bind 127.0.0.1", "", "OPTIONS", "").Replace(pairCorefile))
	if len(fours) == 0 {
		t.Log("no IPv4 address but loopback")
		return
	}
	p.check(t, question{"cluster.local.", "NS", "cluster.local. 5 IN NS ns.dns.cluster.local." + strings.Join(additional, "")})
	p.check(t, question{"ns.dns.cluster.local.", "A", "ns.dns.cluster.local. 5 IN A " + strings.Join(fours, "\nns.dns.cluster.local. 5 IN A ")})

	objects(t, `
apiVersion: v1
kind: Service
metadata: {name: kube-dns, namespace: kube-system}
spec: {clusterIP: 10.96.0.10, ports: [{name: dns, port: 53, protocol: UDP}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: kube-dns-1, namespace: kube-system, labels: {kubernetes.io/service-name: kube-dns}}
addressType: IPv4
ports: [{name: dns, port: 53, protocol: UDP}]
endpoints: [{addresses: ["`+fours[0]+`"]}]
`)
	p.await(t, question{"cluster.local.", "NS", "cluster.local. 5 IN NS kube-dns.kube-system.svc.cluster.local." +
		"\nadditional: kube-dns.kube-system.svc.cluster.local. 5 IN A 10.96.0.10"})
	p.await(t, question{"ns.dns.cluster.local.", "A", "ns.dns.cluster.local. 5 IN A 10.96.0.10"})
}

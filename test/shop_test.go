package test

import (
	"strings"

	"github.com/kubehosts/kubehosts/test/cluster"
	"github.com/miekg/dns"
)

// shop has a Service of every kind in the namespace of that name, which all tests share.
const shop = `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  ipFamilyPolicy: RequireDualStack
  clusterIP: 10.96.7.10
  clusterIPs: ["10.96.7.10", "fd00:96::7:10"]
  ports: [{name: http, port: 80}, {name: dns, port: 53, protocol: UDP}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080, protocol: TCP}]
endpoints:
- addresses: ["10.244.1.20"]
---
apiVersion: v1
kind: Service
metadata: {name: one, namespace: shop}
spec:
  clusterIP: 10.96.7.11
  ports: [{port: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: six, namespace: shop}
spec:
  ipFamilies: [IPv6]
  clusterIP: "fd00:96::7:12"
  ports: [{name: http, port: 80}]
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec:
  clusterIP: None
  ports: [{name: pg, port: 5432}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-4, namespace: shop, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
ports: [{name: pg, port: 5432, protocol: TCP}]
endpoints:
- {addresses: ["10.244.1.5"], hostname: db-0, conditions: {ready: true}}
- {addresses: ["10.244.1.6"], hostname: db-1, conditions: {ready: true}}
- {addresses: ["10.244.1.7"], hostname: db-2, conditions: {ready: false}}
- {addresses: ["10.244.1.8"], targetRef: {kind: Pod, namespace: shop, name: db-pod}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-6, namespace: shop, labels: {kubernetes.io/service-name: db}}
addressType: IPv6
ports: [{name: pg, port: 5432, protocol: TCP}]
endpoints:
- {addresses: ["fd00:244::5"], hostname: db-0, conditions: {ready: true}}
---
apiVersion: v1
kind: Service
metadata: {name: early, namespace: shop}
spec: {clusterIP: None, publishNotReadyAddresses: true}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: early-1, namespace: shop, labels: {kubernetes.io/service-name: early}}
addressType: IPv4
endpoints:
- {addresses: ["10.244.1.30"], hostname: early-0, conditions: {ready: true, serving: false}}
---
apiVersion: v1
kind: Service
metadata: {name: hollow, namespace: shop}
spec: {clusterIP: None}
---
apiVersion: v1
kind: Service
metadata: {name: docs, namespace: shop}
spec: {type: ExternalName, externalName: www.example.org}
---
apiVersion: v1
kind: Service
metadata: {name: alias, namespace: shop}
spec: {type: ExternalName, externalName: web.shop.svc.cluster.local}
---
apiVersion: v1
kind: Service
metadata: {name: dangling, namespace: shop}
spec: {type: ExternalName, externalName: nobody.shop.svc.cluster.local}
`

// soa is the SOA record of a zone in the authority section of a denial; 5 is the default ttl.
func soa(zone string) string {
	dot := "." + zone
	return "\nauthority: " + zone + " 5 IN SOA ns.dns" + dot + " hostmaster" + dot + " SERIAL 7200 1800 86400 5"
}

var (
	nodata   = soa("cluster.local.")[1:]
	nxdomain = "NXDOMAIN aa" + soa("cluster.local.")
	noPTR4   = "NXDOMAIN aa" + soa("in-addr.arpa.")
	noPTR6   = "NXDOMAIN aa" + soa("ip6.arpa.")
)

// question is a query and the answer that kubehosts and the stock plugin must both give.
type question struct {
	name  string // below svc.cluster.local unless it ends in a dot; for a PTR, an address
	qtype string
	want  string // in the format of cluster.Text; records of the answer without the leading "NOERROR aa"
}

var questions = []question{
	// A Service with a cluster IP.
	{"web.shop", "A", "web.shop.svc.cluster.local. 5 IN A 10.96.7.10"},
	{"web.shop", "AAAA", "web.shop.svc.cluster.local. 5 IN AAAA fd00:96::7:10"},
	{"WEB.Shop", "A", "WEB.Shop.svc.cluster.local. 5 IN A 10.96.7.10"},
	{"web.shop", "SRV", `web.shop.svc.cluster.local. 5 IN SRV 0 25 53 web.shop.svc.cluster.local.
web.shop.svc.cluster.local. 5 IN SRV 0 25 80 web.shop.svc.cluster.local.
additional: web.shop.svc.cluster.local. 5 IN A 10.96.7.10
additional: web.shop.svc.cluster.local. 5 IN AAAA fd00:96::7:10`},
	{"_http._tcp.web.shop", "SRV", `_http._tcp.web.shop.svc.cluster.local. 5 IN SRV 0 50 80 web.shop.svc.cluster.local.
additional: web.shop.svc.cluster.local. 5 IN A 10.96.7.10
additional: web.shop.svc.cluster.local. 5 IN AAAA fd00:96::7:10`},
	{"_dns._udp.web.shop", "SRV", `_dns._udp.web.shop.svc.cluster.local. 5 IN SRV 0 50 53 web.shop.svc.cluster.local.
additional: web.shop.svc.cluster.local. 5 IN A 10.96.7.10
additional: web.shop.svc.cluster.local. 5 IN AAAA fd00:96::7:10`},
	{"_http._udp.web.shop", "SRV", nxdomain},
	{"_nope._tcp.web.shop", "SRV", nxdomain},
	{"_http._tcp.web.shop", "A", "_http._tcp.web.shop.svc.cluster.local. 5 IN A 10.96.7.10"},
	{"web.shop", "TXT", nodata},
	{"web.shop", "MX", nodata},
	{"web.shop", "CNAME", nodata},
	{"web.shop", "HTTPS", nodata},
	{"web.shop", "SOA", nodata},
	{"web.shop", "NS", nodata},
	{"10-244-1-20.web.shop", "A", "10-244-1-20.web.shop.svc.cluster.local. 5 IN A 10.244.1.20"},
	{"one.shop", "A", "one.shop.svc.cluster.local. 5 IN A 10.96.7.11"},
	{"one.shop", "AAAA", nodata},
	{"one.shop", "SRV", `one.shop.svc.cluster.local. 5 IN SRV 0 100 8080 one.shop.svc.cluster.local.
additional: one.shop.svc.cluster.local. 5 IN A 10.96.7.11`},
	{"_._tcp.one.shop", "SRV", `_._tcp.one.shop.svc.cluster.local. 5 IN SRV 0 100 8080 one.shop.svc.cluster.local.
additional: one.shop.svc.cluster.local. 5 IN A 10.96.7.11`},
	{"_http._tcp.one.shop", "SRV", nxdomain},
	{"six.shop", "A", nodata},
	{"six.shop", "AAAA", "six.shop.svc.cluster.local. 5 IN AAAA fd00:96::7:12"},

	// A headless Service: its endpoints by hostname and by address, and some that are not ready.
	{"db.shop", "A", `db.shop.svc.cluster.local. 5 IN A 10.244.1.5
db.shop.svc.cluster.local. 5 IN A 10.244.1.6
db.shop.svc.cluster.local. 5 IN A 10.244.1.8`},
	{"db.shop", "AAAA", "db.shop.svc.cluster.local. 5 IN AAAA fd00:244::5"},
	{"db-0.db.shop", "A", "db-0.db.shop.svc.cluster.local. 5 IN A 10.244.1.5"},
	{"db-0.db.shop", "AAAA", "db-0.db.shop.svc.cluster.local. 5 IN AAAA fd00:244::5"},
	{"db-1.db.shop", "A", "db-1.db.shop.svc.cluster.local. 5 IN A 10.244.1.6"},
	{"db-1.db.shop", "AAAA", nodata},
	{"db-2.db.shop", "A", nxdomain},
	{"db-pod.db.shop", "A", nxdomain},
	{"10-244-1-8.db.shop", "A", "10-244-1-8.db.shop.svc.cluster.local. 5 IN A 10.244.1.8"},
	{"10-244-1-5.db.shop", "A", nxdomain},
	{"_pg._tcp.db.shop", "SRV", `_pg._tcp.db.shop.svc.cluster.local. 5 IN SRV 0 25 5432 10-244-1-8.db.shop.svc.cluster.local.
_pg._tcp.db.shop.svc.cluster.local. 5 IN SRV 0 25 5432 db-0.db.shop.svc.cluster.local.
_pg._tcp.db.shop.svc.cluster.local. 5 IN SRV 0 25 5432 db-1.db.shop.svc.cluster.local.
additional: 10-244-1-8.db.shop.svc.cluster.local. 5 IN A 10.244.1.8
additional: db-0.db.shop.svc.cluster.local. 5 IN A 10.244.1.5
additional: db-0.db.shop.svc.cluster.local. 5 IN AAAA fd00:244::5
additional: db-1.db.shop.svc.cluster.local. 5 IN A 10.244.1.6`},
	{"early.shop", "A", "early.shop.svc.cluster.local. 5 IN A 10.244.1.30"},
	{"early-0.early.shop", "A", "early-0.early.shop.svc.cluster.local. 5 IN A 10.244.1.30"},
	{"early.shop", "SRV", nodata},
	{"hollow.shop", "A", nxdomain},

	// External names outside the zone and inside it, and one whose target does not exist.
	{"docs.shop", "CNAME", "docs.shop.svc.cluster.local. 5 IN CNAME www.example.org."},
	{"docs.shop", "A", "docs.shop.svc.cluster.local. 5 IN CNAME www.example.org.\nwww.example.org. 60 IN A 192.0.2.99"},
	{"docs.shop", "AAAA", "docs.shop.svc.cluster.local. 5 IN CNAME www.example.org.\nwww.example.org. 60 IN AAAA 2001:db8::99"},
	{"alias.shop", "A", "alias.shop.svc.cluster.local. 5 IN CNAME web.shop.svc.cluster.local.\nweb.shop.svc.cluster.local. 5 IN A 10.96.7.10"},
	{"alias.shop", "CNAME", "alias.shop.svc.cluster.local. 5 IN CNAME web.shop.svc.cluster.local."},
	{"dangling.shop", "CNAME", "dangling.shop.svc.cluster.local. 5 IN CNAME nobody.shop.svc.cluster.local."},

	// Reverse.
	{"10.96.7.10", "PTR", "10.7.96.10.in-addr.arpa. 5 IN PTR web.shop.svc.cluster.local."},
	{"fd00:96::7:10", "PTR", "0.1.0.0.7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.6.9.0.0.0.0.d.f.ip6.arpa. 5 IN PTR web.shop.svc.cluster.local."},
	{"10.244.1.5", "PTR", "5.1.244.10.in-addr.arpa. 5 IN PTR db-0.db.shop.svc.cluster.local."},
	{"10.244.1.8", "PTR", "8.1.244.10.in-addr.arpa. 5 IN PTR 10-244-1-8.db.shop.svc.cluster.local."},
	{"fd00:244::5", "PTR", "5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.4.4.2.0.0.0.d.f.ip6.arpa. 5 IN PTR db-0.db.shop.svc.cluster.local."},
	{"10.244.1.7", "PTR", noPTR4},
	{"192.0.2.1", "PTR", noPTR4},
	{"2001:db8::1", "PTR", noPTR6},

	// The zone itself, namespaces, and invalid names.
	{"cluster.local.", "SOA", "cluster.local. 5 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. SERIAL 7200 1800 86400 5"},
	{"cluster.local.", "A", nodata},
	{"dns-version.cluster.local.", "TXT", `dns-version.cluster.local. 28800 IN TXT "1.1.0"`},
	{"svc.cluster.local.", "A", nodata},
	{"shop", "A", nodata},
	{"nobody", "A", nxdomain},
	{"nobody.shop", "A", nxdomain},
	{"nobody.shop", "TXT", nxdomain},
	{"nobody.shop", "SRV", nxdomain},
	{"web.nobody", "A", nxdomain},
	{"a.b.c.web.shop", "A", nxdomain},
	{"www.example.org.shop", "A", nxdomain},
	{"svc.shop.web.cluster.local.", "A", nxdomain},
	{"10-244-9-1.shop.pod.cluster.local.", "A", nxdomain},
	{"outside.example.", "A", "SERVFAIL"},
}

// unlike are queries that the stock plugin answers differently; plugin/README.md lists the reasons.
var unlike = []struct {
	question
	stock string
}{
	{question{"dns-version.cluster.local.", "A", nodata}, nxdomain},
	{question{"cluster.local.", "TXT", nodata}, nxdomain},
	{question{"nobody.shop", "SOA", nxdomain}, nodata},
	{question{"_tcp.web.shop", "SRV", nodata}, nxdomain},
	{question{"docs.shop", "SRV", "docs.shop.svc.cluster.local. 5 IN CNAME www.example.org."}, nodata},
	{question{"dangling.shop", "A", strings.Replace(nxdomain, "\n", "\ndangling.shop.svc.cluster.local. 5 IN CNAME nobody.shop.svc.cluster.local.\n", 1)}, nodata},
	{question{"10.7.96.10.in-addr.arpa.", "A", soa("in-addr.arpa.")[1:]}, noPTR4},
	{question{"cluster.local.", "NS", "cluster.local. 5 IN NS ns.dns.cluster.local.\n" +
		"additional: ns.dns.cluster.local. 5 IN A 127.0.0.1"}, nodata},
}

// ask sends the query to c and returns the answer in the format of cluster.Text.
func (q question) ask(c *cluster.Client) string {
	name := q.name
	switch {
	case q.qtype == "PTR":
		name, _ = dns.ReverseAddr(name)
	case !strings.HasSuffix(name, "."):
		name += ".svc.cluster.local."
	}
	m, err := c.Ask(name, dns.StringToType[q.qtype])
	if err != nil {
		return err.Error()
	}
	return strings.TrimPrefix(cluster.Text(m), "NOERROR aa\n")
}

func (q question) String() string { return q.name + " " + q.qtype }

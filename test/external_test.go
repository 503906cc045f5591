package test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/kubehosts/kubehosts/test/cluster"
	"github.com/miekg/dns"
)

// balanced are Services for which k8s_external has names.
const balanced = `
apiVersion: v1
kind: Service
metadata: {name: open, namespace: shop}
spec: {externalIPs: [198.51.100.7], ports: [{name: http, port: 80}, {name: dns, port: 53, protocol: UDP}]}
---
apiVersion: v1
kind: Service
metadata: {name: front, namespace: shop}
spec: {type: LoadBalancer, allocateLoadBalancerNodePorts: false, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: both, namespace: shop}
spec: {type: LoadBalancer, allocateLoadBalancerNodePorts: false, externalIPs: [198.51.100.9, "2001:db8::9"], ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: waiting, namespace: shop}
spec: {type: LoadBalancer, allocateLoadBalancerNodePorts: false, ports: [{name: http, port: 80}]}
`

const balancedStatus = `
apiVersion: v1
kind: Service
metadata: {name: front, namespace: shop}
status: {loadBalancer: {ingress: [{ip: 198.51.100.8}, {ip: "2001:db8::8"}]}}
---
apiVersion: v1
kind: Service
metadata: {name: both, namespace: shop}
status: {loadBalancer: {ingress: [{ip: 198.51.100.10}]}}
`

// A Corefile moved over from k8s_external according to plugin/README.md gives the same answers, as far as both
// support the query.
func TestMovedFromK8sExternal(t *testing.T) {
	objects(t, shop+"---"+balanced)
	api(t).ApplyStatus(t, balancedStatus)
	objects(t, cluster.ReadFile(t, "../build/kubernetes/rbac/external.yaml"))
	kubeconfig := cluster.Kubeconfig(t, api(t).URL, account(t).Token)
	c := cluster.Run(t, coredns(t), strings.ReplaceAll(`.:OTHER {
	bind 127.0.0.1
	kubernetes cluster.local {
		kubeconfig KUBECONFIG
		ttl 30
	}
	k8s_external example.org {
		headless
		ttl 30
	}
}
.:PORT {
	bind 127.0.0.1
	ready READY
	kubehosts cluster.local {
		kubeconfig KUBECONFIG
		external example.org {
			from service
			ttl 30
		}
	}
}
`, "KUBECONFIG", kubeconfig))
	ours, stock := cluster.Dial(t, "udp", c.Addr), cluster.Dial(t, "udp", c.Other)
	answer := func(client *cluster.Client, name string, qtype uint16) string {
		m, err := client.Ask(name, qtype)
		if err != nil {
			return err.Error()
		}
		var all []string
		for _, rr := range append(slices.Clone(m.Answer), m.Extra...) {
			if rr.Header().Rrtype != dns.TypeOPT {
				all = append(all, strings.ToLower(rr.String())) // here targets are spelled as in the query
			}
		}
		slices.Sort(all)
		return dns.RcodeToString[m.Rcode] + "\n" + strings.Join(all, "\n")
	}
	same := 0
	for _, below := range []string{
		"open.shop", "front.shop", "both.shop", "waiting.shop", "web.shop", "no.shop", "open.no", "shop", "no",
		"_http._tcp.open.shop", "_dns._udp.open.shop", "_http._tcp.front.shop", "_http._tcp.both.shop", "_no._tcp.open.shop", "_http._udp.open.shop",
		"db.shop", "db-0.db.shop", "db-1.db.shop", "db-9.db.shop", "_pg._tcp.db.shop", "x.y.z.open.shop", "OPEN.Shop",
	} {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV} {
			name := below + ".example.org."
			same++
			cluster.Eventually(t, bound, func() (bool, string) {
				got, want := answer(ours, name, qtype), answer(stock, name, qtype)
				return got == want, fmt.Sprintf("%s %s: got\n%s\nwant\n%s", name, dns.TypeToString[qtype], got, want)
			})
		}
	}
	t.Logf("%d questions are answered as by k8s_external", same)
}

package test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	meta "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubehosts/kubehosts/test/cluster"
	"github.com/miekg/dns"
)

// dnsEndpoints is the CustomResourceDefinition of external-dns' DNSEndpoints.
var dnsEndpoints = cluster.Definition("externaldns.k8s.io", "v1alpha1", "DNSEndpoint")

// applyGatewayAPI writes the CustomResourceDefinitions of the Gateway API and that of DNSEndpoints.
func applyGatewayAPI(t *testing.T) {
	t.Helper()
	api(t).ApplyGatewayAPI(t)
	api(t).Apply(t, dnsEndpoints)
	api(t).WaitServed(t, "externaldns.k8s.io/v1alpha1/dnsendpoints", true)
}

// published are objects with names in example.org, without their status.
const published = `
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: shop}
spec: {rules: [{host: web.example.org, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}}]}
---
apiVersion: v1
kind: Service
metadata: {name: front, namespace: shop}
spec: {type: LoadBalancer, allocateLoadBalancerNodePorts: false, clusterIP: 10.96.7.50, ports: [{name: http, port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw, namespace: shop}
spec:
  gatewayClassName: test
  listeners:
  - {name: http, port: 80, protocol: HTTP, hostname: "*.example.org", allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {team: shop}}}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: route, namespace: shop}
spec: {hostnames: [route.example.org, "*.apps.example.org"], parentRefs: [{name: gw}], rules: [{backendRefs: [{name: web, port: 80}]}]}
---
apiVersion: externaldns.k8s.io/v1alpha1
kind: DNSEndpoint
metadata: {name: ep, namespace: shop}
spec: {endpoints: [{dnsName: ep.example.org, recordType: TXT, targets: [hello]}]}
`

// statuses are the statuses that controllers write for published.
const statuses = `
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: shop}
status: {loadBalancer: {ingress: [{ip: 192.0.2.1}]}}
---
apiVersion: v1
kind: Service
metadata: {name: front, namespace: shop}
status: {loadBalancer: {ingress: [{ip: 192.0.2.2}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw, namespace: shop}
status: {addresses: [{type: IPAddress, value: 192.0.2.2}]}
`

// accepted is the status of an HTTPRoute that a Gateway accepts, or does not, at a generation.
const accepted = `
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: route, namespace: shop}
status:
  parents:
  - parentRef: {name: gw}
    controllerName: example.com/test
    conditions: [{type: Accepted, status: %q, observedGeneration: %d, reason: Test, message: "", lastTransitionTime: "2026-01-01T00:00:00Z"}]
`

const namespaceShop = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {team: %q}}\n"

// External names with a real API server: the CustomResourceDefinitions appear while the server runs, objects and their
// status change, and an object that loses a name gets an Event about it. Two server blocks, one with inside, share the
// objects.
func TestExternal(t *testing.T) {
	objects(t, shop+"---\n"+strings.Split(published, "---\n")[0]+"---\n"+strings.Split(published, "---\n")[1])
	objects(t, cluster.ReadFile(t, "../build/kubernetes/rbac/external.yaml"))
	api(t).ApplyStatus(t, strings.Join(strings.Split(statuses, "---\n")[:2], "---\n"))
	who := account(t)
	c := cluster.Run(t, coredns(t), strings.ReplaceAll(`.:PORT {
	bind 127.0.0.1
	ready READY
	prometheus METRICS
	kubehosts cluster.local {
		kubeconfig KUBECONFIG
		external example.org
	}
}
.:OTHER {
	bind 127.0.0.1
	kubehosts cluster.local {
		kubeconfig KUBECONFIG
		external example.org {
			inside
		}
	}
}
`, "KUBECONFIG", cluster.Kubeconfig(t, api(t).URL, who.Token)))
	outside, inside := cluster.Dial(t, "udp", c.Addr), cluster.Dial(t, "udp", c.Other)
	await := func(client *cluster.Client, name, want string) {
		t.Helper()
		cluster.Eventually(t, bound, func() (bool, string) {
			m, err := client.Ask(name, dns.TypeA)
			if err != nil {
				return false, err.Error()
			}
			got := dns.RcodeToString[m.Rcode]
			for _, rr := range m.Answer {
				got = strings.TrimPrefix(rr.String(), rr.Header().String())
			}
			return got == want, fmt.Sprintf("%s is %s, want %s", name, got, want)
		})
	}
	for _, client := range []*cluster.Client{outside, inside} { // once it is ready, it is known that the server has no definitions
		if m, err := client.Ask("route.example.org.", dns.TypeA); err != nil || m.Rcode != dns.RcodeNameError {
			t.Errorf("route.example.org. when the server is ready: %v, %v, want NXDOMAIN", m, err)
		}
	}
	await(outside, "web.example.org.", "192.0.2.1")
	await(outside, "front.shop.example.org.", "192.0.2.2")
	await(inside, "front.shop.example.org.", "10.96.7.50")

	applyGatewayAPI(t)
	t.Cleanup(func() { api(t).Delete(t, dnsEndpoints) })
	objects(t, published) // which also removes the label from the namespace
	api(t).Apply(t, fmt.Sprintf(namespaceShop, "shop"))
	api(t).ApplyStatus(t, statuses)
	await(outside, "route.example.org.", "NXDOMAIN") // not accepted yet
	api(t).ApplyStatus(t, fmt.Sprintf(accepted, "True", 1))
	await(outside, "route.example.org.", "192.0.2.2")
	await(outside, "a.b.apps.example.org.", "192.0.2.2")
	await(inside, "route.example.org.", "10.96.7.50")
	await(outside, "ep.example.org.", "NOERROR")

	api(t).Apply(t, fmt.Sprintf(namespaceShop, "other")) // the listener does not select this label
	await(outside, "route.example.org.", "NXDOMAIN")
	api(t).Apply(t, fmt.Sprintf(namespaceShop, "shop"))
	await(outside, "route.example.org.", "192.0.2.2")
	api(t).ApplyStatus(t, fmt.Sprintf(accepted, "False", 1))
	await(outside, "route.example.org.", "NXDOMAIN")
	api(t).ApplyStatus(t, fmt.Sprintf(accepted, "True", 1))

	rival := "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: rival, namespace: shop}\nspec: {rules: [{host: web.example.org}]}\n"
	api(t).Apply(t, rival)
	t.Cleanup(func() { api(t).Delete(t, rival) })
	api(t).ApplyStatus(t, "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: rival, namespace: shop}\nstatus: {loadBalancer: {ingress: [{ip: 192.0.2.66}]}}\n")
	cluster.Eventually(t, bound, func() (bool, string) {
		loser, err := api(t).Client.NetworkingV1().Ingresses("shop").Get(context.Background(), "rival", meta.GetOptions{})
		if err != nil {
			return false, err.Error()
		}
		list, err := api(t).Client.CoreV1().Events("shop").List(context.Background(), meta.ListOptions{FieldSelector: "involvedObject.uid=" + string(loser.UID)})
		if err != nil {
			return false, err.Error()
		}
		for _, e := range list.Items {
			if e.Reason == "NameConflict" && e.Type == "Warning" && strings.Contains(e.Message, "web.example.org. leads to the older Ingress shop/web") {
				return len(list.Items) == 1, "one Event on it"
			}
		}
		return false, fmt.Sprintf("%d Events on the loser", len(list.Items))
	})
	await(outside, "web.example.org.", "192.0.2.1")
	if n := c.Metric(t, "coredns_kubehosts_objects", "kind", "HTTPRoute"); n != 1 {
		t.Errorf("%v HTTPRoutes are held, want 1, for both server blocks", n)
	}

	// There is one watch of each kind for both server blocks, and no request beyond the Roles.
	lists := map[string]int{}
	for _, r := range api(t).Audit(t, who) {
		if r.Code == 403 {
			t.Errorf("%v is forbidden", r)
		}
		if r.Verb == "watch" && r.Code == 200 {
			lists[r.Resource]++
		}
	}
	for _, resource := range []string{"ingresses.networking.k8s.io", "httproutes.gateway.networking.k8s.io", "gateways.gateway.networking.k8s.io"} {
		if lists[resource] != 1 {
			t.Errorf("%d watches of %s, want 1: %v", lists[resource], resource, lists)
		}
	}
}

// After a start without the API server, external names are answered from the snapshot, with an
// Extended DNS Error.
func TestExternalSnapshot(t *testing.T) {
	objects(t, strings.Split(published, "---\n")[0])
	objects(t, cluster.ReadFile(t, "../build/kubernetes/rbac/external.yaml"))
	api(t).ApplyStatus(t, strings.Split(statuses, "---\n")[0])
	proxy := api(t).Proxy(t)
	proxy.Start(t)
	corefile := strings.NewReplacer("KUBECONFIG", cluster.Kubeconfig(t, proxy.URL, account(t).Token), "FILE", t.TempDir()+"/snapshot").Replace(`.:PORT {
	bind 127.0.0.1
	ready READY
	prometheus METRICS
	kubehosts cluster.local {
		kubeconfig KUBECONFIG
		snapshot FILE
		external example.org
	}
}
`)
	c := cluster.Run(t, coredns(t), corefile)
	client := cluster.Dial(t, "udp", c.Addr)
	cluster.Eventually(t, bound, func() (bool, string) {
		m, err := client.Ask("web.example.org.", dns.TypeA)
		return err == nil && len(m.Answer) == 1 && c.Metric(t, "coredns_kubehosts_snapshot_timestamp_seconds") > 0, "an answer, and a snapshot"
	})
	proxy.Stop()
	again := cluster.Run(t, coredns(t), corefile)
	m, code, _ := edeOf(t, cluster.Dial(t, "udp", again.Addr), "web.example.org.", dns.TypeA)
	if len(m.Answer) != 1 || code != int(dns.ExtendedErrorCodeStaleAnswer) {
		t.Errorf("from the snapshot: Extended DNS Error %d in %v", code, m)
	}
	if m, code, _ = edeOf(t, cluster.Dial(t, "udp", again.Addr), "no.example.org.", dns.TypeA); m.Rcode != dns.RcodeNameError || code != int(dns.ExtendedErrorCodeStaleAnswer) {
		t.Errorf("a name that the snapshot lacks: Extended DNS Error %d in %v", code, m)
	}
	proxy.Start(t)
	cluster.Eventually(t, 2*bound, func() (bool, string) {
		m, code, _ := edeOf(t, cluster.Dial(t, "udp", again.Addr), "web.example.org.", dns.TypeA)
		return len(m.Answer) == 1 && code == -1, "an answer of the API server again"
	})
}

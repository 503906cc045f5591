package faults

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kubehosts/kubehosts/test/cluster"
	"github.com/miekg/dns"
)

// gatewayDefinition is the CustomResourceDefinition of a kind of the Gateway API, as far as the API server needs it.
const gatewayDefinition = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: %[2]ss.gateway.networking.k8s.io
  annotations: {api-approved.kubernetes.io: "https://github.com/kubernetes-sigs/gateway-api/pull/2466"}
spec:
  group: gateway.networking.k8s.io
  scope: Namespaced
  names: {kind: %[1]s, plural: %[2]ss, singular: %[2]s, listKind: %[1]sList}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`

// route is a Gateway with an address, and an HTTPRoute that it accepts.
const route = `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: gw, namespace: shop}
spec: {gatewayClassName: test, listeners: [{name: http, port: 80, protocol: HTTP}]}
status: {addresses: [{type: IPAddress, value: %q}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: route, namespace: shop}
spec: {hostnames: [route.example.org], parentRefs: [{name: gw}]}
status: {parents: [{parentRef: {name: gw}, controllerName: example.com/test, conditions: [{type: Accepted, status: "True", observedGeneration: 1}]}]}
`

// The definitions of the Gateway API appear, vanish and come back while all else is served.
func TestGatewayAPIComesAndGoes(t *testing.T) {
	if stock {
		return // which knows of none
	}
	t.Parallel()
	tr := changes(t)
	who := account(t)
	api(t).Apply(t, cluster.ReadFile(t, "../../build/kubernetes/rbac/external.yaml"))
	definitions := fmt.Sprintf(gatewayDefinition, "Gateway", "gateway") + "---\n" + fmt.Sprintf(gatewayDefinition, "HTTPRoute", "httproute")
	installed := func(want bool) {
		t.Helper()
		for _, kind := range []string{"gateways", "httproutes"} {
			cluster.Eventually(t, bound, func() (bool, string) {
				err := api(t).Client.RESTClient().Get().AbsPath("/apis/gateway.networking.k8s.io/v1/" + kind).Do(t.Context()).Error()
				return (err == nil) == want, fmt.Sprintf("%s are served: %v, want %v", kind, err == nil, want)
			})
		}
	}
	api(t).Delete(t, definitions)
	t.Cleanup(func() { api(t).Delete(t, definitions) })
	installed(false)

	c := cluster.Launch(t, coredns(t), corefileOf(cluster.Kubeconfig(t, api(t).URL, who.Token), "external example.org"))
	c.WaitServing(t)
	a := ask(t, c.Addr, tr)
	c.WaitReady(t)
	a.heal(t)
	client := cluster.Dial(t, "udp", c.Addr)
	routed := func(want string) func() (bool, string) {
		return func() (bool, string) {
			m, err := client.Ask("route.example.org.", dns.TypeA)
			got := "no reply"
			switch {
			case err != nil:
			case len(m.Answer) == 1:
				got = m.Answer[0].(*dns.A).A.String()
			default:
				got = dns.RcodeToString[m.Rcode]
			}
			return got == want, fmt.Sprintf("the route's host is %s, want %s", got, want)
		}
	}
	cluster.Eventually(t, bound, routed("NXDOMAIN"))
	comeAndGo := func(i int) (longest time.Duration) {
		ip := fmt.Sprintf("192.0.2.%d", i)
		api(t).Apply(t, definitions)
		installed(true)
		api(t).Apply(t, fmt.Sprintf(route, ip))
		longest = cluster.Eventually(t, bound, routed(ip))
		api(t).Delete(t, definitions)
		longest = max(longest, cluster.Eventually(t, bound, routed("NXDOMAIN")))
		installed(false)
		return longest
	}
	comeAndGo(1) // what is only made once is there before it is measured
	before := holds(t, c)
	const times = 2
	a.counted(t, fmt.Sprintf("the definitions of the Gateway API come and go, %d times", times), func() (longest time.Duration) {
		for i := range times {
			longest = max(longest, comeAndGo(2+i))
		}
		return longest
	})
	before.check(t, c)
	for _, kind := range []string{"Gateway", "HTTPRoute"} {
		if n := c.Metric(t, "coredns_kubehosts_objects", "kind", kind); n != 0 {
			t.Errorf("%v objects of kind %s are counted when there are none", n, kind)
		}
	}
	if log := c.Log(); strings.Contains(log, "returns no httproutes") || !strings.Contains(log, "has no httproutes") {
		t.Error("that there are none is an error in the log, or is not in it")
	}
}

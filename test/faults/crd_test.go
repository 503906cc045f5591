package faults

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kubehosts/kubehosts/test/cluster"
	"github.com/miekg/dns"
)

// custom describes what a server answers from the objects of CustomResourceDefinitions.
type custom struct {
	what      string
	kinds     []string // GROUP/VERSION/KIND of the definitions
	rbac      string   // file of the Roles
	corefile  func(kubeconfig string) string
	objects   string // one of them has the address %q for name
	name      string
	addresses string // %d of them

	missing string // logged each time the definitions are missing
	never   string // never logged; "" for nothing
	returns string // logged when the server has the kind of the last definition
}

// importing tests ServiceImports, which have one CustomResourceDefinition.
var importing = custom{
	what:  "the definition of ServiceImports",
	kinds: []string{"multicluster.x-k8s.io/v1alpha1/ServiceImport"},
	rbac:  "multicluster.yaml",
	corefile: func(kubeconfig string) string {
		text := strings.Replace(corefileOf(kubeconfig, "multicluster clusterset.local"), "cluster.local in-addr", "cluster.local clusterset.local in-addr", 1)
		if stock {
			text = strings.Replace(text, "kubeconfig ", "multicluster clusterset.local\n\t\tkubeconfig ", 1)
		}
		return text
	},
	objects: `
apiVersion: multicluster.x-k8s.io/v1alpha1
kind: ServiceImport
metadata: {name: web, namespace: shop}
spec: {type: ClusterSetIP, ips: [%q], ports: [{name: http, port: 80, protocol: TCP}]}
`,
	name:      "web.shop.svc.clusterset.local.",
	addresses: "10.97.0.%d",
	missing:   "install their CustomResourceDefinition",
	returns:   "returns serviceimports",
}

// routing tests a Gateway with an address, and an HTTPRoute that it accepts. They have several
// CustomResourceDefinitions of one group.
var routing = custom{
	what:     "the definitions of the Gateway API",
	kinds:    []string{"gateway.networking.k8s.io/v1/Gateway", "gateway.networking.k8s.io/v1/HTTPRoute"},
	rbac:     "external.yaml",
	corefile: func(kubeconfig string) string { return corefileOf(kubeconfig, "external example.org") },
	objects: `
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
`,
	name:      "route.example.org.",
	addresses: "192.0.2.%d",
	missing:   "has no httproutes",
	never:     "returns no httproutes", // a missing definition is not an error
	returns:   "returns httproutes",
}

func TestDefinitionComesAndGoes(t *testing.T) { importing.comesAndGoes(t) }

func TestGatewayAPIComesAndGoes(t *testing.T) {
	if stock {
		return // stock does not support them
	}
	routing.comesAndGoes(t)
}

// comesAndGoes makes the definitions appear, vanish and come back while everything else is served.
func (k *custom) comesAndGoes(t *testing.T) {
	t.Parallel()
	tr := changes(t)
	who := account(t)
	api(t).Apply(t, cluster.ReadFile(t, "../../build/kubernetes/rbac/"+k.rbac))
	var definitions []string
	for _, kind := range k.kinds {
		of := strings.Split(kind, "/")
		definitions = append(definitions, cluster.Definition(of[0], of[1], of[2]))
	}
	remove := func() { api(t).Delete(t, strings.Join(definitions, "---\n")) }
	installed := func(want bool) {
		t.Helper()
		for _, kind := range k.kinds {
			api(t).WaitServed(t, strings.ToLower(kind)+"s", want)
		}
	}
	remove()
	t.Cleanup(remove)
	installed(false)

	c := cluster.Launch(t, coredns(t), k.corefile(cluster.Kubeconfig(t, api(t).URL, who.Token)))
	c.WaitServing(t)
	a := ask(t, c.Addr, tr)
	if !stock { // without the resource, stock serves nothing and is not ready
		c.WaitReady(t)
		a.heal(t)
	}
	client := cluster.Dial(t, "udp", c.Addr)
	leads := func(want string) func() (bool, string) {
		return func() (bool, string) {
			m, err := client.Ask(k.name, dns.TypeA)
			got := "no reply"
			switch {
			case err != nil:
			case len(m.Answer) == 1:
				got = m.Answer[0].(*dns.A).A.String()
			default:
				got = dns.RcodeToString[m.Rcode]
			}
			return got == want, fmt.Sprintf("%s is %s, want %s", k.name, got, want)
		}
	}
	logged := func(words string, want int) {
		t.Helper()
		cluster.Eventually(t, bound, func() (bool, string) {
			n := strings.Count(c.Log(), words)
			return stock || n == want, fmt.Sprintf("%q is %d times in the log, want %d", words, n, want)
		})
	}
	comeAndGo := func(i int) (longest time.Duration) {
		ip := fmt.Sprintf(k.addresses, i)
		api(t).Apply(t, strings.Join(definitions, "---\n"))
		installed(true)
		api(t).Apply(t, fmt.Sprintf(k.objects, ip))
		longest = cluster.Eventually(t, bound, leads(ip))
		remove()
		longest = max(longest, cluster.Eventually(t, bound, leads("NXDOMAIN")))
		installed(false)
		logged(k.missing, i+1)
		return longest
	}

	a.counted(t, k.what+" is not there yet", func() time.Duration {
		<-time.After(lasts)
		took, _ := a.healed()
		return took
	})
	comeAndGo(1) // allocates what is allocated only once, before the measurement
	before := holds(t, c)
	const times = 2
	a.counted(t, fmt.Sprintf("%s comes and goes, %d times", k.what, times), func() (longest time.Duration) {
		for i := range times {
			longest = max(longest, comeAndGo(2+i))
		}
		return longest
	})
	before.check(t, c)
	if stock {
		return
	}
	logged(k.returns+" for the first time", 1)
	logged(k.returns+" again", times)
	if k.never != "" {
		logged(k.never, 0)
	}
	for _, kind := range k.kinds {
		kind = kind[strings.LastIndexByte(kind, '/')+1:]
		if n := c.Metric(t, "coredns_kubehosts_objects", "kind", kind); n != 0 {
			t.Errorf("%v objects of kind %s are counted when there are none", n, kind)
		}
	}
}

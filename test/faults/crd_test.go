package faults

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/kubehosts/kubehosts/test/cluster"
	"github.com/miekg/dns"
)

// definition is the CustomResourceDefinition of ServiceImports, as far as the API server needs it.
const definition = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: serviceimports.multicluster.x-k8s.io
  annotations: {api-approved.kubernetes.io: "https://github.com/kubernetes/enhancements/tree/master/keps/sig-multicluster/1645-multi-cluster-services-api"}
spec:
  group: multicluster.x-k8s.io
  scope: Namespaced
  names: {kind: ServiceImport, plural: serviceimports, singular: serviceimport, listKind: ServiceImportList}
  versions:
  - name: v1alpha1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`

const serviceImport = `
apiVersion: multicluster.x-k8s.io/v1alpha1
kind: ServiceImport
metadata: {name: web, namespace: shop}
spec: {type: ClusterSetIP, ips: [%q], ports: [{name: http, port: 80, protocol: TCP}]}
`

// ServiceImports are of a CustomResourceDefinition that appears, vanishes and comes back while all else is served.
func TestDefinitionComesAndGoes(t *testing.T) {
	t.Parallel()
	tr := changes(t)
	who := account(t)
	api(t).Apply(t, cluster.ReadFile(t, "../../build/kubernetes/rbac/multicluster.yaml"))
	installed := func(want bool) {
		t.Helper()
		cluster.Eventually(t, bound, func() (bool, string) {
			err := api(t).Client.RESTClient().Get().AbsPath("/apis/multicluster.x-k8s.io/v1alpha1/serviceimports").Do(t.Context()).Error()
			return (err == nil) == want, fmt.Sprintf("the resource is served: %v, want %v", err == nil, want)
		})
	}
	api(t).Delete(t, definition)
	t.Cleanup(func() { api(t).Delete(t, definition) })
	installed(false)

	text := strings.Replace(corefileOf(cluster.Kubeconfig(t, api(t).URL, who.Token), "multicluster clusterset.local"), "cluster.local in-addr", "cluster.local clusterset.local in-addr", 1)
	if stock {
		text = strings.Replace(text, "kubeconfig ", "multicluster clusterset.local\n\t\tkubeconfig ", 1)
	}
	c := cluster.Launch(t, coredns(t), text)
	c.WaitServing(t)
	a := ask(t, c.Addr, tr)
	if !stock { // which serves nothing, and is not ready, without the resource
		c.WaitReady(t)
		a.heal(t)
	}
	client := cluster.Dial(t, "udp", c.Addr)
	imported := func(want string) func() (bool, string) {
		return func() (bool, string) {
			m, err := client.Ask("web.shop.svc.clusterset.local.", dns.TypeA)
			got := "no reply"
			switch {
			case err != nil:
			case len(m.Answer) == 1:
				got = m.Answer[0].(*dns.A).A.String()
			default:
				got = dns.RcodeToString[m.Rcode]
			}
			return got == want, fmt.Sprintf("the imported web is %s, want %s", got, want)
		}
	}
	comeAndGo := func(i int) (longest time.Duration) {
		ip := fmt.Sprintf("10.97.0.%d", i)
		api(t).Apply(t, definition)
		installed(true)
		api(t).Apply(t, fmt.Sprintf(serviceImport, ip))
		longest = cluster.Eventually(t, bound, imported(ip))
		api(t).Delete(t, definition)
		longest = max(longest, cluster.Eventually(t, bound, imported("NXDOMAIN")))
		installed(false)
		cluster.Eventually(t, bound, func() (bool, string) {
			n := strings.Count(c.Log(), "returns no serviceimports")
			return stock || n == i+1, fmt.Sprintf("%d lines in the log about a resource that is not there, want %d", n, i+1)
		})
		return longest
	}

	a.counted(t, "a CustomResourceDefinition is not there yet", func() time.Duration {
		<-time.After(lasts)
		took, _ := a.healed()
		return took
	})
	comeAndGo(1) // what is only made once is there before it is measured
	before := holds(t, c)
	const times = 2
	a.counted(t, fmt.Sprintf("the definition comes and goes, %d times", times), func() (longest time.Duration) {
		for i := range times {
			longest = max(longest, comeAndGo(2+i))
		}
		return longest
	})
	before.check(t, c)
	if stock {
		return
	}
	for words, want := range map[string]int{"install their CustomResourceDefinition": times + 2, "returns serviceimports again": times + 1} {
		if n := strings.Count(c.Log(), words); n != want {
			t.Errorf("%q is %d times in the log, want %d", words, n, want)
		}
	}
	if n := c.Metric(t, "coredns_kubehosts_objects", "kind", "ServiceImport"); n != 0 {
		t.Errorf("%v ServiceImports are counted when they are gone", n)
	}
}

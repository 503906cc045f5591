package test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/kubehosts/kubehosts/test/cluster"
	"github.com/miekg/dns"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Every kind of Service, and every kind of invalid name.
func TestServices(t *testing.T) {
	objects(t, shop)
	p := runPair(t, "")
	for _, q := range questions {
		p.check(t, q)
	}
	for _, q := range unlike {
		p.checkUnlike(t, q.question, q.stock)
	}
}

// A reply that does not fit into 512 bytes is truncated over UDP, and complete over TCP.
func TestTruncation(t *testing.T) {
	objects(t, shop)
	var slice strings.Builder
	slice.WriteString(`
apiVersion: v1
kind: Service
metadata: {name: many, namespace: shop}
spec: {clusterIP: None}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: many-1, namespace: shop, labels: {kubernetes.io/service-name: many}}
addressType: IPv4
endpoints:
`)
	var all []string
	for i := range 100 {
		fmt.Fprintf(&slice, "- addresses: [10.244.2.%d]\n", i)
		all = append(all, fmt.Sprintf("10.244.2.%d", i))
	}
	objects(t, slice.String())
	p := runPair(t, "")
	for who, client := range p.clients {
		m, err := client.Ask("many.shop.svc.cluster.local.", dns.TypeA)
		if err != nil {
			t.Fatal(who, err)
		}
		udp := strings.HasSuffix(who, "udp")
		m.Compress = true // as received
		if m.Truncated != udp {
			t.Errorf("%s: truncated is %v", who, m.Truncated)
		}
		if udp && m.Len() > dns.MinMsgSize {
			t.Errorf("%s: %d bytes", who, m.Len())
		}
		if !udp && len(m.Answer) != len(all) {
			t.Errorf("%s: %d records, want %d", who, len(m.Answer), len(all))
		}
	}
}

// Objects are created, changed and deleted, and the answers follow.
func TestLifecycle(t *testing.T) {
	objects(t, shop)
	p := runPair(t, "")
	p.check(t, question{"new.shop", "A", nxdomain})

	const service = "apiVersion: v1\nkind: Service\nmetadata: {name: new, namespace: shop}\nspec: {%s, ports: [{name: http, port: %d}]}\n"
	now := func(spec string, port int) string { return fmt.Sprintf(service, spec, port) }
	first := now("clusterIP: 10.96.7.20", 80)
	objects(t, first)
	p.await(t, question{"new.shop", "A", "new.shop.svc.cluster.local. 5 IN A 10.96.7.20"})
	p.check(t, question{"10.96.7.20", "PTR", "20.7.96.10.in-addr.arpa. 5 IN PTR new.shop.svc.cluster.local."})

	api(t).Apply(t, now("clusterIP: 10.96.7.20", 81))
	p.await(t, question{"_http._tcp.new.shop", "SRV", "_http._tcp.new.shop.svc.cluster.local. 5 IN SRV 0 100 81 new.shop.svc.cluster.local.\n" +
		"additional: new.shop.svc.cluster.local. 5 IN A 10.96.7.20"})

	api(t).Delete(t, first)
	p.await(t, question{"new.shop", "A", nxdomain})
	p.await(t, question{"10.96.7.20", "PTR", noPTR4})
	api(t).Apply(t, now("clusterIP: 10.96.7.21", 80))
	p.await(t, question{"new.shop", "A", "new.shop.svc.cluster.local. 5 IN A 10.96.7.21"})

	api(t).Delete(t, first)
	api(t).Apply(t, now("clusterIP: None", 80))
	p.await(t, question{"new.shop", "A", nxdomain})
	slice := func(endpoints string) string {
		return "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n" +
			"metadata: {name: new-1, namespace: shop, labels: {kubernetes.io/service-name: new}}\n" +
			"addressType: IPv4\nports: [{name: http, port: 80, protocol: TCP}]\nendpoints: [" + endpoints + "]\n"
	}
	a, b := "{addresses: [10.244.3.1], hostname: a}", "{addresses: [10.244.3.2], hostname: b}"
	objects(t, slice(a))
	p.await(t, question{"new.shop", "A", "new.shop.svc.cluster.local. 5 IN A 10.244.3.1"})
	api(t).Apply(t, slice(a+", "+b))
	p.await(t, question{"new.shop", "A", "new.shop.svc.cluster.local. 5 IN A 10.244.3.1\nnew.shop.svc.cluster.local. 5 IN A 10.244.3.2"})
	api(t).Apply(t, slice("{addresses: [10.244.3.1], hostname: a, conditions: {ready: false}}, "+b))
	p.await(t, question{"a.new.shop", "A", nxdomain})
	p.check(t, question{"b.new.shop", "A", "b.new.shop.svc.cluster.local. 5 IN A 10.244.3.2"})
	p.check(t, question{"10.244.3.1", "PTR", noPTR4})
	api(t).Apply(t, slice("{addresses: [10.244.3.2], hostname: c}"))
	p.await(t, question{"10.244.3.2", "PTR", "2.3.244.10.in-addr.arpa. 5 IN PTR c.new.shop.svc.cluster.local."})
	api(t).Delete(t, slice(""))
	p.await(t, question{"new.shop", "A", nxdomain})

	// A deleted namespace removes the names of its Services, whether these are deleted or not.
	const late = "apiVersion: v1\nkind: Namespace\nmetadata: {name: late}\n"
	api(t).Apply(t, late)
	p.await(t, question{"late", "A", nodata})
	lateService := "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: late}\nspec: {clusterIP: 10.96.7.30, ports: [{port: 80}]}\n"
	objects(t, lateService)
	p.await(t, question{"web.late", "A", "web.late.svc.cluster.local. 5 IN A 10.96.7.30"})
	api(t).Delete(t, late)
	finalize(t, "late")
	p.await(t, question{"late", "A", nxdomain})
	p.check(t, question{"web.late", "A", nxdomain})
	p.check(t, question{"web.shop", "A", "web.shop.svc.cluster.local. 5 IN A 10.96.7.10"})
}

// finalize ends a namespace that is being deleted. In a cluster a controller does this.
func finalize(t *testing.T, name string) {
	t.Helper()
	ns := &core.Namespace{ObjectMeta: meta.ObjectMeta{Name: name}}
	if _, err := api(t).Client.CoreV1().Namespaces().Finalize(context.Background(), ns, meta.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// The three modes of the option pods.
func TestPods(t *testing.T) {
	objects(t, shop)
	more := cluster.ReadFile(t, "../build/kubernetes/rbac/pods.yaml")
	objects(t, more)
	const pod = `
apiVersion: v1
kind: Pod
metadata: {name: web-0, namespace: shop}
spec: {containers: [{name: web, image: web}]}
`
	const status = `
apiVersion: v1
kind: Pod
metadata: {name: web-0, namespace: shop}
status: {phase: %s, podIP: %[2]s, podIPs: [{ip: %[2]s}, {ip: "%[3]s"}]}
`
	four := func(want string) question { return question{"10-244-9-1.shop.pod.cluster.local.", "A", want} }
	six := func(want string) question { return question{"fd00-244--9-1.shop.pod.cluster.local.", "AAAA", want} }
	other := func(want string) question { return question{"10-244-9-2.shop.pod.cluster.local.", "A", want} }
	const answer4 = "10-244-9-1.shop.pod.cluster.local. 5 IN A 10.244.9.1"
	const answer6 = "fd00-244--9-1.shop.pod.cluster.local. 5 IN AAAA fd00:244::9:1"

	objects(t, pod)
	t.Run("disabled", func(t *testing.T) {
		p := runPair(t, "pods disabled")
		p.check(t, four(nxdomain))
		p.check(t, six(nxdomain))
		p.check(t, question{"shop.pod.cluster.local.", "A", nxdomain})
	})
	t.Run("insecure", func(t *testing.T) {
		p := runPair(t, "pods insecure")
		p.check(t, four(answer4))
		p.check(t, four(answer4))
		p.check(t, six(answer6))
		p.check(t, question{"10-244-9-1.shop.pod.cluster.local.", "AAAA", nodata})
		p.check(t, question{"10-244-9-1.nobody.pod.cluster.local.", "A", nxdomain})
		p.check(t, question{"web-0.shop.pod.cluster.local.", "A", nxdomain})
		p.check(t, question{"shop.pod.cluster.local.", "A", nodata})
		p.check(t, question{"pod.cluster.local.", "A", nodata})
	})
	t.Run("verified", func(t *testing.T) {
		p := runPair(t, "pods verified")
		p.check(t, four(nxdomain))
		api(t).ApplyStatus(t, fmt.Sprintf(status, "Running", "10.244.9.1", "fd00:244::9:1"))
		p.await(t, four(answer4))
		p.check(t, six(answer6))
		p.check(t, other(nxdomain))
		p.check(t, question{"10-244-9-1.shop.pod.cluster.local.", "AAAA", nodata})
		p.check(t, question{"10-244-9-1.nobody.pod.cluster.local.", "A", nxdomain})
		api(t).ApplyStatus(t, fmt.Sprintf(status, "Running", "10.244.9.2", "fd00:244::9:2"))
		p.await(t, four(nxdomain))
		p.await(t, other("10-244-9-2.shop.pod.cluster.local. 5 IN A 10.244.9.2"))
		api(t).ApplyStatus(t, fmt.Sprintf(status, "Succeeded", "10.244.9.2", "fd00:244::9:2"))
		p.await(t, other(nxdomain))
		api(t).ApplyStatus(t, fmt.Sprintf(status, "Running", "10.244.9.1", "fd00:244::9:1"))
		p.await(t, four(answer4))
		api(t).Delete(t, pod)
		p.await(t, four(nxdomain))
	})
}

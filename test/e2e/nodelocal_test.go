package e2e

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	discovery "k8s.io/api/discovery/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubehosts/kubehosts/test/cluster"
)

// testNodelocal moves from the Deployment to the DaemonSet with the commands of README. A second node, which exists in
// name only, has a replica too, played by stock CoreDNS. It gets queries only while the node has no replica of its own.
func (n *node) testNodelocal(t *testing.T) {
	n.must(t, "apply", "-k", manifests+"base") // README's starting point; earlier tests have edited the ConfigMap and the Role
	n.must(t, "rollout", "status", "deployment/coredns", "-n", "kube-system", "--timeout=90s")
	n.under(t, "from the Deployment to the DaemonSet", func() {
		n.typed(t, "../..", "kubectl apply -k build/kubernetes/nodelocal")
		n.typed(t, "../..", "kubectl -n kube-system rollout status daemonset coredns")
		n.typed(t, "../..", "kubectl -n kube-system delete deployment,poddisruptionbudget coredns")
		n.settled(t, 1)
	})
	elsewhere := n.list(t, "stock", "app=stock")[0].Status.PodIP
	n.second(t, elsewhere)
	own := n.list(t, "kube-system", replicas)[0]
	if kind := own.OwnerReferences[0].Kind; kind != "DaemonSet" {
		t.Errorf("pod %s belongs to a %s", own.Name, kind)
	}
	n.answersAlone(t, own.Status.PodIP)
	n.resolve(t, held...)
	n.testEdit(t)

	n.under(t, "rolling update of the DaemonSet", func() {
		n.must(t, "rollout", "restart", "daemonset/coredns", "-n", "kube-system")
		n.must(t, "rollout", "status", "daemonset/coredns", "-n", "kube-system", "--timeout=90s")
		n.settled(t, 1)
	})
	n.under(t, "the node's own replica taken away", func() {
		n.must(t, "delete", "daemonset/coredns", "-n", "kube-system")
		n.leads(t, elsewhere)
		n.must(t, "wait", "--for=delete", "pod", "-l", replicas, "-n", "kube-system", "--timeout=90s")
	})
	n.must(t, "delete", "endpointslice/elsewhere", "-n", "kube-system")
}

// second adds an endpoint of kube-dns on another node. Without a node hint, kube-proxy uses both endpoints. With the
// hint that the EndpointSlice controller would set, kube-proxy uses only the endpoint of this node, which has such a
// hint.
func (n *node) second(t *testing.T, ip string) {
	t.Helper()
	of := meta.ListOptions{LabelSelector: discovery.LabelServiceName + "=kube-dns"}
	all, err := n.Client.DiscoveryV1().EndpointSlices("kube-system").List(context.Background(), of)
	if err != nil || len(all.Items) != 1 || len(all.Items[0].Endpoints) != 1 {
		t.Fatalf("EndpointSlices of kube-dns: %v %v", all, err)
	}
	e := all.Items[0].Endpoints[0]
	if *e.NodeName != "node" || e.Hints == nil || len(e.Hints.ForNodes) != 1 || e.Hints.ForNodes[0].Name != "node" {
		t.Errorf("endpoint of kube-dns on %s with hints %v", *e.NodeName, e.Hints)
	}
	t.Logf("endpoint %v on %s with hints %v", e.Addresses, *e.NodeName, e.Hints)
	slice := `apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: elsewhere, namespace: kube-system, labels: {kubernetes.io/service-name: kube-dns}}
addressType: IPv4
ports: [{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53, protocol: TCP}]
endpoints:
- addresses: [` + ip + `]
  nodeName: elsewhere
  conditions: {ready: true}
`
	n.Apply(t, slice)
	n.leads(t, ip, e.Addresses[0])
	n.Apply(t, slice+"  hints: {forNodes: [{name: elsewhere}]}\n")
	n.leads(t, e.Addresses[0])
}

// leads waits until kube-proxy's rule points to exactly these addresses.
func (n *node) leads(t *testing.T, ips ...string) {
	t.Helper()
	slices.Sort(ips)
	cluster.Eventually(t, 30*time.Second, func() (bool, string) {
		rule := rule(t)
		return slices.Equal(destinations(rule), ips), rule
	})
}

// answersAlone sends queries through the ClusterIP, each from a new socket, and checks that one replica got
// them all.
func (n *node) answersAlone(t *testing.T, ip string) {
	t.Helper()
	const count = 50
	for _, network := range []string{"udp", "tcp"} {
		before := asked(t, ip, network)
		for range count {
			c := cluster.Dial(t, network, "10.96.0.10:53")
			if m, err := c.Ask(services[0], 1); err != nil || len(m.Answer) != 1 {
				t.Fatalf("over %s: %v %v", network, m, err)
			}
			c.Close()
		}
		cluster.Eventually(t, 10*time.Second, func() (bool, string) { // a query is counted after it is answered
			got := asked(t, ip, network) - before
			return got == count, fmt.Sprintf("over %s %d of %d queries came to the replica of the node", network, got, count)
		})
	}
}

var requests = regexp.MustCompile(`coredns_dns_requests_total\{.*proto="(\w+)".*\} (\d+)`)

// asked returns how many queries a replica has had over udp or tcp.
func asked(t *testing.T, ip, network string) (sum int) {
	t.Helper()
	for _, m := range requests.FindAllStringSubmatch(metrics(t, ip), -1) {
		if m[1] == network {
			count, err := strconv.Atoi(m[2])
			if err != nil {
				t.Fatal(err)
			}
			sum += count
		}
	}
	return sum
}

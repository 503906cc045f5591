package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/kubehosts/kubehosts/test/cluster"
)

// testSecond runs the second DNS of docs/distributions.md beside the cluster's own, queries it at its Service, and
// edits it.
func (n *node) testSecond(t *testing.T) {
	const namespace = "kubehosts"
	n.must(t, "apply", "-k", manifests+"second")
	defer n.must(t, "delete", "-k", manifests+"second", "--wait=false")
	n.must(t, "rollout", "status", "deployment/coredns", "-n", namespace, "--timeout=90s")
	server := n.must(t, "get", "service", "dns", "-n", namespace, "-o", "jsonpath={.spec.clusterIP}") + ":53"
	answers := func(network, name, want string) {
		t.Helper()
		cluster.Eventually(t, 20*time.Second, func() (bool, string) {
			// The query fails until kube-proxy has the Service.
			out, err := n.kubectl("exec", "-n", "shop", "client", "--", "/pod", "ask", server, network, name, "A").CombinedOutput()
			got := strings.TrimSpace(string(out))
			return err == nil && got == want, name + " over " + network + ": " + got
		})
	}
	for _, network := range []string{"udp", "tcp"} {
		answers(network, "db.corp.example", "NOERROR 192.0.2.10")
		answers(network, "other.corp.example", "NXDOMAIN") // once it has discovered the kinds that the API server has
	}
	left := n.edit(t, namespace, "coredns", "192.0.2.10", "192.0.2.12")
	answers("udp", "db.corp.example", "NOERROR 192.0.2.12")
	t.Logf("kubectl edit to the new answer: at most %v", time.Since(left).Round(time.Millisecond))
}

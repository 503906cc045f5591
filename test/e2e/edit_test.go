package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/kubehosts/kubehosts/test/cluster"
)

// testEdit measures, at a client in a pod, from leaving the editor of `kubectl edit` to the new answer.
func (n *node) testEdit(t *testing.T) {
	w := n.stream(t, "client", "watch", "db.corp.example")
	w.answered(t, "NOERROR 192.0.2.10", 10*time.Second)
	for _, change := range [][2]string{{"192.0.2.10", "192.0.2.20"}, {"192.0.2.20", "192.0.2.30"}, {"192.0.2.30", "192.0.2.10"}} {
		left := n.edit(t, "kube-system", "coredns", change[0], change[1])
		took := w.answered(t, "NOERROR "+change[1], 10*time.Second).Sub(left)
		t.Logf("kubectl edit to the new answer: %v", took.Round(time.Millisecond))
	}
}

// editStock begins the same on the stock CoreDNS, whose change is known minutes later, and returns the test of it.
func (n *node) editStock(t *testing.T) func(*testing.T) {
	w := n.stream(t, "client-of-stock", "watch", "db.corp.example")
	w.answered(t, "NOERROR 192.0.2.10", 10*time.Second)
	left := n.edit(t, "stock", "coredns", "192.0.2.10", "192.0.2.20")
	return func(t *testing.T) {
		took := w.answered(t, "NOERROR 192.0.2.20", max(time.Until(left.Add(4*time.Minute)), 10*time.Second)).Sub(left)
		t.Logf("kubectl edit to the new answer, stock with reload: %v", took.Round(time.Millisecond))
	}
}

// testBrokenEdit breaks the stanza, finds that nothing changed, reads why, and repairs it.
func (n *node) testBrokenEdit(t *testing.T) {
	n.edit(t, "kube-system", "coredns", "pods insecure", "pods insecur")
	defer n.edit(t, "kube-system", "coredns", "pods insecur$", "pods insecure")
	cluster.Eventually(t, 20*time.Second, func() (bool, string) {
		text := n.must(t, "describe", "configmap", "coredns", "-n", "kube-system")
		_, events, _ := strings.Cut(text, "Events:")
		if !strings.Contains(events, "CorefileRejected") {
			return false, text
		}
		t.Logf("kubectl describe configmap:\nEvents:%s", events)
		return true, ""
	})
	if got := n.in(t, "client", "lookup", "udp", "db.corp.example"); got != "db.corp.example 192.0.2.10\n" {
		t.Errorf("after a broken edit: %s", got)
	}
}

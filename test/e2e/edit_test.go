package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/kubehosts/kubehosts/test/cluster"
)

// testEdit measures, with a client in a pod, the time from leaving the editor of `kubectl edit` to the
// new answer.
func (n *node) testEdit(t *testing.T) {
	w := n.stream(t, "client", "watch", "db.corp.example")
	w.answered(t, "NOERROR 192.0.2.10", 10*time.Second)
	for _, change := range [][2]string{{"192.0.2.10", "192.0.2.20"}, {"192.0.2.20", "192.0.2.30"}, {"192.0.2.30", "192.0.2.10"}} {
		left := n.edit(t, "kube-system", "coredns", change[0], change[1])
		took := w.answered(t, "NOERROR "+change[1], 10*time.Second).Sub(left)
		n.edited(t, "a hosts entry", took)
	}
}

// editStock starts the same edits, and those of testWhole, on stock CoreDNS, where they take effect minutes later. It
// returns the test of their results.
func (n *node) editStock(t *testing.T) func(*testing.T) {
	w := n.stream(t, "client-of-stock", "watch", "moved.example")
	w.next(t, 10*time.Second) // the answer before the edit
	n.edit(t, "stock", "coredns", "192.0.2.10", "192.0.2.20")
	left := n.edit(t, "stock", "coredns", "^\\( *\\)forward \\. .etc.resolv.conf$", "\\1template IN A edited.example {\\n\\1   answer \"edited.example 60 IN A 192.0.2.71\"\\n\\1}\\n"+
		"\\1rewrite name moved.example db.corp.example\\n"+
		"\\1forward . \\/etc\\/resolv.conf {\\n\\1   except outside.example\\n\\1}")
	return func(t *testing.T) {
		took := w.answered(t, "NOERROR 192.0.2.20", max(time.Until(left.Add(4*time.Minute)), 10*time.Second)).Sub(left)
		w.stdin.Close()
		for name, want := range map[string]string{"edited.example": "NOERROR 192.0.2.71\n", "outside.example": "SERVFAIL\n"} {
			if got := n.in(t, "client-of-stock", "ask", "10.96.0.11:53", "udp", name, "A"); got != want {
				t.Errorf("stock answers for %s: %s", name, got)
			}
		}
		t.Logf("kubectl edit of template, rewrite, forward and a hosts entry to the new answers, stock with reload: %v; kubehosts beside it: %s",
			took.Round(time.Millisecond), strings.Join(n.edits, ", "))
		if len(n.edits) == 0 {
			t.Error("nothing was edited beside it")
		}
	}
}

// edited logs how long the edit of a plugin's stanza took.
func (n *node) edited(t *testing.T, plugin string, took time.Duration) {
	t.Logf("kubectl edit of %s to the new answer: %v", plugin, took.Round(time.Millisecond))
	n.edits = append(n.edits, plugin+" "+took.Round(time.Millisecond).String())
}

// testBrokenEdit breaks the stanza, checks that nothing changes, reads the reason, and repairs the
// stanza.
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

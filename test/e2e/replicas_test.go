package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	core "k8s.io/api/core/v1"

	"github.com/kubehosts/kubehosts/test/cluster"
)

// under runs do while a pod queries n.names 1,000 times a second through the ClusterIP. It fails if a name has no good
// answer after one repetition; like resolvers, the pod repeats a query after 5 seconds without a reply, or at once
// after a SERVFAIL.
func (n *node) under(t *testing.T, what string, do func()) {
	t.Helper()
	load := n.stream(t, "client", append([]string{"load", "1000"}, n.names...)...)
	if line := load.next(t, 10*time.Second); line != "asking 10.96.0.10:53" {
		t.Fatalf("%s %s", line, load.errs.String())
	}
	start := time.Now()
	do()
	took := time.Since(start)
	load.stdin.Close()
	var r struct {
		Asked, Retried, Failed, Refused int
		Errors                          map[string]int
		Median, Slowest                 time.Duration
	}
	if err := json.Unmarshal([]byte(load.next(t, 20*time.Second)), &r); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s: %v, %d names asked for, %d of them twice, %d failed, median %v, slowest %v, %d times refused",
		what, took.Round(time.Millisecond), r.Asked, r.Retried, r.Failed, r.Median.Round(time.Microsecond), r.Slowest.Round(time.Millisecond), r.Refused)
	if r.Failed > 0 || r.Asked < 1000 {
		t.Errorf("%s: %d of %d failed: %v", what, r.Failed, r.Asked, r.Errors)
	}
}

var stanzaHash = regexp.MustCompile(`coredns_kubehosts_stanza_info\{.*hash="([0-9a-f]+)".*\} 1`)

// metrics returns the metrics of a replica.
func metrics(t testing.TB, ip string) string {
	t.Helper()
	res, err := (&http.Client{Timeout: 5 * time.Second}).Get("http://" + ip + ":9153/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// testScale goes from 2 replicas to 5 and back, with edits in between: each replica serves the
// same.
func (n *node) testScale(t *testing.T) {
	n.under(t, "2 to 5 replicas", func() {
		n.must(t, "scale", "deployment/coredns", "-n", "kube-system", "--replicas=5")
		n.settled(t, 5)
	})
	ips := addresses(n.list(t, "kube-system", replicas))
	left := n.edit(t, "kube-system", "coredns", "192.0.2.10", "192.0.2.50")
	for _, ip := range ips {
		c := cluster.Dial(t, "udp", ip+":53")
		cluster.Eventually(t, 10*time.Second, func() (bool, string) {
			m, err := c.Ask("db.corp.example", 1)
			if err != nil || len(m.Answer) != 1 {
				return false, fmt.Sprint(ip, ": ", err, m)
			}
			return strings.HasSuffix(m.Answer[0].String(), "\t192.0.2.50"), m.Answer[0].String()
		})
	}
	t.Logf("all of 5 replicas answered with the edit after %v", time.Since(left).Round(time.Millisecond))
	n.same(t, ips)
	n.under(t, "5 to 2 replicas", func() {
		n.must(t, "scale", "deployment/coredns", "-n", "kube-system", "--replicas=2")
		n.settled(t, 2)
	})
	n.edit(t, "kube-system", "coredns", "192.0.2.50", "192.0.2.10")
}

// same fails unless all replicas serve one stanza.
func (n *node) same(t *testing.T, ips []string) {
	t.Helper()
	var all []string
	for _, ip := range ips {
		m := stanzaHash.FindStringSubmatch(metrics(t, ip))
		if m == nil {
			t.Fatalf("no stanza of kubehosts at %s", ip)
		}
		all = append(all, m[1])
	}
	t.Logf("stanzas of the replicas: %v", all)
	if slices.Sort(all); len(slices.Compact(all)) != 1 {
		t.Errorf("replicas serve different stanzas: %v", all)
	}
}

// testRoll replaces the image by the slim one, and back.
func (n *node) testRoll(t *testing.T) {
	n.memory(t, "kubehosts", n.list(t, "kube-system", replicas))
	n.memory(t, "stock", n.list(t, "stock", "app=stock"))
	before := n.must(t, "get", "deployment/coredns", "-n", "kube-system", "-o", "jsonpath={.spec.template.spec.containers[0].image}")
	n.under(t, "rolling update to the slim image", func() { n.image(t, "kubehosts/coredns:dev-slim") })
	n.memory(t, "kubehosts, slim image", n.list(t, "kube-system", replicas))
	n.under(t, "rolling update back", func() { n.image(t, before) })
}

// image sets the image of the Deployment and waits until nothing runs the old one.
func (n *node) image(t *testing.T, name string) {
	t.Helper()
	n.must(t, "set", "image", "deployment/coredns", "coredns="+name, "-n", "kube-system")
	n.rolled(t)
}

// rolled waits until the Deployment has all of its updated replicas, and no other pods run.
func (n *node) rolled(t *testing.T) {
	t.Helper()
	n.must(t, "rollout", "status", "deployment/coredns", "-n", "kube-system", "--timeout=90s")
	n.settled(t, 2)
}

// testKill ends replicas without warning: it deletes a pod by force, and kills a process, like a crash.
func (n *node) testKill(t *testing.T) {
	n.under(t, "a pod deleted by force", func() {
		pod := n.list(t, "kube-system", replicas)[0].Name
		n.must(t, "delete", "pod", pod, "-n", "kube-system", "--force", "--grace-period=0")
		n.settled(t, 2)
	})
	n.under(t, "a process killed", func() {
		pod := n.list(t, "kube-system", replicas)[0]
		if err := syscall.Kill(process(t, pod), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		cluster.Eventually(t, 30*time.Second, func() (bool, string) {
			for _, p := range n.list(t, "kube-system", replicas) {
				if p.Name == pod.Name && p.Status.ContainerStatuses[0].RestartCount > pod.Status.ContainerStatuses[0].RestartCount {
					return true, ""
				}
			}
			return false, "the container of " + pod.Name + " did not start again"
		})
		n.settled(t, 2)
	})
}

// testDrain runs `kubectl drain` on the node for these pods alone. There is no other node, so it makes the node
// schedulable again as soon as the first replica is evicted. The PodDisruptionBudget protects the second replica until
// the first has a successor.
func (n *node) testDrain(t *testing.T) {
	n.under(t, "drain", func() {
		old := n.list(t, "kube-system", replicas)
		drain := n.kubectl("drain", "node", "--pod-selector="+replicas, "--timeout=90s")
		var out strings.Builder
		drain.Stdout, drain.Stderr = &out, &out
		if err := drain.Start(); err != nil {
			t.Fatal(err)
		}
		cluster.Eventually(t, 30*time.Second, func() (bool, string) {
			return len(left(old, n.list(t, "kube-system", replicas))) < len(old), "no replica evicted"
		})
		n.must(t, "uncordon", "node")
		if err := drain.Wait(); err != nil {
			t.Fatalf("kubectl drain: %v\n%s", err, out.String())
		}
		t.Logf("kubectl drain:\n%s", out.String())
		n.settled(t, 2)
		if same := left(old, n.list(t, "kube-system", replicas)); len(same) > 0 {
			t.Errorf("still there after the drain: %v", same)
		}
	})
}

// left returns the names of the old pods that still exist.
func left(old, now []core.Pod) (names []string) {
	for _, o := range old {
		if slices.ContainsFunc(now, func(p core.Pod) bool { return p.UID == o.UID }) {
			names = append(names, o.Name)
		}
	}
	return names
}

// process returns the process id of coredns in a pod.
func process(t testing.TB, pod core.Pod) int {
	t.Helper()
	all, _ := filepath.Glob("/proc/[0-9]*")
	for _, path := range all {
		group, _ := os.ReadFile(path + "/cgroup")
		line, _ := os.ReadFile(path + "/cmdline")
		var pid int
		if strings.Contains(string(group), "/pod"+string(pod.UID)) && strings.HasPrefix(string(line), "/coredns\x00") {
			fmt.Sscanf(filepath.Base(path), "%d", &pid)
			return pid
		}
	}
	t.Fatalf("no coredns in pod %s", pod.Name)
	return 0
}

// status returns a field of /proc/PID/status.
func status(t testing.TB, pid int, field string) string {
	t.Helper()
	for line := range strings.Lines(cluster.ReadFile(t, fmt.Sprintf("/proc/%d/status", pid))) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			return strings.Join(strings.Fields(value), " ")
		}
	}
	t.Fatalf("no %s of process %d", field, pid)
	return ""
}

// memory logs the resident memory of the processes of pods.
func (n *node) memory(t *testing.T, what string, pods []core.Pod) {
	t.Helper()
	for _, p := range pods {
		t.Logf("resident memory of %s, pod %s: %s", what, p.Name, status(t, process(t, p), "VmRSS"))
	}
}

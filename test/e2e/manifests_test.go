package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/kubehosts/kubehosts/test/cluster"
)

// testManifests makes the API server validate all shipped manifests, without storing them.
func (n *node) testManifests(t *testing.T) {
	for _, dir := range []string{"base", "kubeadm", "nodelocal"} {
		t.Logf("%s:\n%s", dir, n.must(t, "apply", "--server-side", "--dry-run=server", "--force-conflicts", "-k", manifests+dir))
	}
}

// testPrivileges checks the process rather than the manifest: it is not root, has only one capability and can't gain
// more, can't write anywhere, and has no more memory than the manifest allows. It also checks that its ServiceAccount
// may do what kubehosts needs and no more.
func (n *node) testPrivileges(t *testing.T) {
	pod := n.list(t, "kube-system", replicas)[0]
	pid := process(t, pod)
	const bindService = "0000000000000400" // 1 << CAP_NET_BIND_SERVICE, which is 10
	for field, want := range map[string]string{
		"Uid": "65532 65532 65532 65532", "CapEff": bindService, "CapBnd": bindService, "NoNewPrivs": "1", "Seccomp": "2",
	} {
		if got := status(t, pid, field); got != want {
			t.Errorf("%s of coredns: %s, want %s", field, got, want)
		}
	}
	for line := range strings.Lines(cluster.ReadFile(t, fmt.Sprintf("/proc/%d/mountinfo", pid))) {
		// 36 35 0:30 / /etc/coredns ro,relatime ...
		if f := strings.Fields(line); (f[4] == "/" || f[4] == "/etc/coredns") && !strings.HasPrefix(f[5], "ro,") {
			t.Errorf("coredns can write to %s: %s", f[4], line)
		}
	}
	limit := pod.Spec.Containers[0].Resources.Limits.Memory().Value()
	if want := fmt.Sprintf("\ngo_gc_gomemlimit_bytes %g\n", float64(limit)*0.9); limit == 0 || !strings.Contains(metrics(t, pod.Status.PodIP), want) {
		t.Errorf("with a limit of %d bytes, the metrics have no line%s", limit, want)
	}

	token := n.write(t, "token", cluster.ReadFile(t, fmt.Sprintf("/proc/%d/root/var/run/secrets/kubernetes.io/serviceaccount/token", pid)))
	for question, want := range map[string]string{
		"watch services -A": "yes", "list endpointslices.discovery.k8s.io -A": "yes", "watch configmaps/coredns -n kube-system": "yes",
		"create events -n kube-system": "yes", "get configmaps/coredns -n kube-system": "no",
		"watch pods -A": "no", "list secrets -A": "no", "list configmaps -n kube-system": "no", "get configmaps/other -n kube-system": "no",
		"patch configmaps/coredns -n kube-system": "no", "create pods -n kube-system": "no",
	} {
		cmd := n.kubectl(append([]string{"auth", "can-i", "--token", strings.TrimSpace(cluster.ReadFile(t, token))}, strings.Fields(question)...)...)
		cmd.Env = append(os.Environ(), "KUBECONFIG="+n.anybody(t))
		out, _ := cmd.Output() // exits with 1 for "no"
		if got := strings.TrimSpace(string(out)); got != want {
			t.Errorf("may coredns %s? %q, want %q", question, got, want)
		}
	}
}

// anybody returns a kubeconfig without credentials.
func (n *node) anybody(t *testing.T) string { return cluster.Kubeconfig(t, n.URL, "") }

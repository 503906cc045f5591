package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kubehosts/kubehosts/test/cluster"
)

// registry is what README names as dns.imageRepository.
const registry = "registry.example"

// move is from the CoreDNS that kubeadm sets up to kubehosts and back, by the commands of README.
type move struct {
	*node
	folder       string // where they are typed, with a copy of build/kubernetes
	theirs, ours string // the images that kubeadm names, by itself and with dns.imageRepository
}

// testKubeadm has the real kubeadm set up CoreDNS in place of the DaemonSet. The image that it names is stock as it is.
func (n *node) testKubeadm(t *testing.T) {
	n.must(t, "delete", "-k", manifests+"nodelocal", "--ignore-not-found")
	n.names = append([]string{"outside.example"}, services...) // kubeadm's Corefile has no hosts entries
	m := &move{n, t.TempDir(), n.named(t, ""), n.named(t, registry)}
	if err := os.CopyFS(filepath.Join(m.folder, "build/kubernetes"), os.DirFS(manifests)); err != nil {
		t.Fatal(err)
	}
	n.load(t, pack(t, m.theirs, n.bin+"/stock", "/coredns"))
	command(t, "ctr", "--address", n.containerd, "--namespace", "k8s.io", "images", "tag", "docker.io/kubehosts/coredns:dev", m.ours)

	n.addon(t, "")
	m.serves(t, m.theirs)
	t.Run("image", m.testImage)
	t.Run("stanza", m.testStanza)
	t.Run("upgrade", m.testUpgrade)
	t.Run("patches", m.testPatches)
	t.Run("back", m.testBack)
}

// kubeadm runs to its end, with or without an error. It is told all that it would ask the internet for.
func (n *node) kubeadm(t *testing.T, repository string, args ...string) (string, error) {
	t.Helper()
	config := n.write(t, "kubeadm.yaml", `apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: `+strings.TrimSpace(command(t, n.program("kubeadm"), "version", "-o", "short"))+`
networking: {dnsDomain: cluster.local, serviceSubnet: 10.96.0.0/16}
dns: {imageRepository: "`+repository+`"}
`)
	out, err := n.user(n.program("kubeadm"), append(args, "--kubeconfig", n.kubeconfig, "--config", config)...).CombinedOutput()
	return string(out), err
}

// named is the image of CoreDNS as `kubeadm config images list` prints it.
func (n *node) named(t *testing.T, repository string) string {
	t.Helper()
	out, err := n.kubeadm(t, repository, "config", "images", "list")
	for line := range strings.Lines(out) {
		if image := strings.TrimSpace(line); strings.Contains(image, "/coredns:") {
			return image
		}
	}
	t.Fatalf("no image of CoreDNS, %v: %s", err, out)
	return ""
}

// addon is the phase of `kubeadm init` that sets up CoreDNS, which an upgrade runs too.
func (n *node) addon(t *testing.T, repository string) {
	t.Helper()
	out, err := n.kubeadm(t, repository, "init", "phase", "addon", "coredns")
	if err != nil {
		t.Fatalf("kubeadm: %v\n%s", err, out)
	}
	t.Logf("kubeadm init phase addon coredns, dns.imageRepository %q:\n%s", repository, out)
}

// typed is like node's, in the folder.
func (m *move) typed(t *testing.T, start string) string {
	t.Helper()
	return m.node.typed(t, m.folder, start)
}

// serves waits until an image has taken over, and asks it. A program that knows kubehosts is ours.
func (m *move) serves(t *testing.T, image string) {
	t.Helper()
	m.rolled(t)
	for _, p := range m.list(t, "kube-system", replicas) {
		plugins := m.must(t, "exec", "-n", "kube-system", p.Name, "--", "/coredns", "-plugins")
		if got := p.Spec.Containers[0].Image; got != image || strings.Contains(plugins, "kubehosts") != (image == m.ours) {
			t.Errorf("pod %s has image %s with these plugins, want %s:\n%s", p.Name, got, image, plugins)
		}
	}
	m.resolve(t)
}

// corefile is what the ConfigMap holds.
func (m *move) corefile(t *testing.T) string {
	t.Helper()
	return m.must(t, "get", "configmap", "coredns", "-n", "kube-system", "-o", "jsonpath={.data.Corefile}")
}

// testImage changes the image alone: kubeadm's Corefile and the plugin kubernetes go on.
func (m *move) testImage(t *testing.T) {
	m.under(t, "the other image under kubeadm's Corefile", func() {
		m.typed(t, "kubectl -n kube-system set image deployment/coredns coredns="+m.ours)
		m.serves(t, m.ours)
	})
}

// testStanza makes the Corefile out of kubeadm's, applies the overlay, and edits the ConfigMap.
func (m *move) testStanza(t *testing.T) {
	shipped := filepath.Join(m.folder, "build/kubernetes/kubeadm")
	want := cluster.ReadFile(t, shipped+"/Corefile")
	m.typed(t, "kubectl -n kube-system get configmap coredns -o jsonpath")
	m.typed(t, "awk '")
	m.typed(t, "diff Corefile.before")
	if got := cluster.ReadFile(t, shipped+"/Corefile"); got != want {
		t.Errorf("the Corefile made of kubeadm's:\n%s\nthe one of the overlay:\n%s", got, want)
	}
	m.typed(t, "kubectl diff -k ")
	m.under(t, "the other Corefile", func() {
		m.typed(t, "kubectl apply -k build/kubernetes/kubeadm")
		m.serves(t, m.ours)
	})
	m.same(t, addresses(m.list(t, "kube-system", replicas)))

	w := m.stream(t, "client", "watch", "mail.cluster.local")
	w.answered(t, "NXDOMAIN", 10*time.Second)
	left := m.edit(t, "kube-system", "coredns", `^\( *\)pods insecure$`, `&\n\1hosts {\n\1   192.0.2.60 mail.cluster.local\n\1}`)
	took := w.answered(t, "NOERROR 192.0.2.60", 10*time.Second).Sub(left)
	t.Logf("kubectl edit to the new answer: %v", took.Round(time.Millisecond))
}

// testUpgrade looks at what an upgrade says and does. No pod changes while it only says so, as the Deployment is
// paused. Its own image knows no kubehosts; with dns.imageRepository it is ours again.
func (m *move) testUpgrade(t *testing.T) {
	m.must(t, "rollout", "pause", "deployment/coredns", "-n", "kube-system")
	const plugins = "CoreDNSUnsupportedPlugins"
	m.plan(t, "v1.13.1", "", "[ERROR "+plugins+"]")
	m.plan(t, "dev", plugins, "[WARNING "+plugins+"]", "[ERROR CoreDNSMigration]")
	m.must(t, "set", "image", "deployment/coredns", "coredns="+m.ours, "-n", "kube-system")
	m.must(t, "rollout", "resume", "deployment/coredns", "-n", "kube-system")

	before := m.corefile(t)
	m.under(t, "kubeadm without dns.imageRepository, and with it", func() {
		m.addon(t, "")
		cluster.Eventually(t, 30*time.Second, func() (bool, string) {
			for _, p := range m.list(t, "kube-system", replicas) {
				if s := p.Status.ContainerStatuses; len(s) > 0 && s[0].RestartCount > 0 && p.Spec.Containers[0].Image == m.theirs {
					log := m.must(t, "logs", "--previous", p.Name, "-n", "kube-system")
					return strings.Contains(log, "Unknown directive 'kubehosts'"), log
				}
			}
			return false, "no replica of " + m.theirs + " has ended"
		})
		m.resolve(t)
		m.addon(t, registry)
		m.serves(t, m.ours)
	})
	if after := m.corefile(t); after != before {
		t.Errorf("kubeadm changed the Corefile\n%s\nto\n%s", before, after)
	}
	m.must(t, "apply", "-k", filepath.Join(m.folder, "build/kubernetes/kubeadm")) // kubeadm has set its own flags
	m.serves(t, m.ours)
}

// testPatches upgrades with the patch files of the overlay as they are: what they say runs, and an upgrade that changes
// nothing restarts no pod.
func (m *move) testPatches(t *testing.T) {
	shipped := filepath.Join(m.folder, "build/kubernetes/kubeadm")
	if text := cluster.ReadFile(t, shipped+"/corednsdeployment.yaml"); !strings.Contains(text, " image: "+m.ours+" ") {
		t.Fatalf("kubeadm asks for %s of the registry, and the patch file has another image:\n%s", m.ours, text)
	}
	_, limit, _ := strings.Cut(cluster.ReadFile(t, shipped+"/corednsdeployment-memory.yaml"), "memory: ")
	limit, _, _ = strings.Cut(limit, "}")
	if limit == "" || m.container(t, "resources.limits.memory") == limit {
		t.Fatalf("the patch file changes nothing: its limit is %q", limit)
	}
	flags := m.container(t, "args")

	if out, err := m.kubeadm(t, "", "init", "phase", "upload-config", "all"); err != nil {
		t.Fatalf("kubeadm: %v\n%s", err, out)
	}
	m.must(t, "apply", "-f", "testdata/apiserver.yaml")
	defer m.must(t, "delete", "-f", "testdata/apiserver.yaml")
	m.under(t, "kubeadm upgrade with patches", func() {
		m.patched(t)
		m.serves(t, m.ours)
	})
	if got := m.container(t, "resources.limits.memory"); got != limit {
		t.Errorf("memory limit %s, want %s", got, limit)
	}
	if got := m.container(t, "args"); got != flags {
		t.Errorf("flags %s, want %s", got, flags)
	}
	before := m.list(t, "kube-system", replicas)
	m.patched(t)
	m.serves(t, m.ours)
	if same := left(before, m.list(t, "kube-system", replicas)); len(same) != len(before) {
		t.Errorf("of %d pods %v are left after an upgrade that changes nothing", len(before), same)
	}
}

// container is a field of the container in the Deployment.
func (m *move) container(t *testing.T, field string) string {
	t.Helper()
	return m.must(t, "get", "deployment", "coredns", "-n", "kube-system", "-o", "jsonpath={.spec.template.spec.containers[0]."+field+"}")
}

// patched is the upgrade with patches of README, but for the phases that are not of CoreDNS.
func (m *move) patched(t *testing.T) {
	t.Helper()
	line, _ := shown(t, "kubeadm upgrade apply ")
	line = strings.Replace(line, "upgrade apply ", "upgrade apply phase addon coredns ", 1) + " --kubeconfig " + m.kubeconfig
	cmd := m.user("sh", "-c", line)
	cmd.Dir = m.folder
	out, err := cmd.CombinedOutput()
	t.Logf("$ %s\n%s", line, out)
	if applied := strings.Count(string(out), `to target "corednsdeployment"`); err != nil || applied != 2 {
		t.Fatalf("%v, %d patches applied", err, applied)
	}
}

// plan is `kubeadm upgrade plan` for a Deployment with another tag, which kubeadm refuses for the reasons given.
func (m *move) plan(t *testing.T, tag, ignored string, reasons ...string) {
	t.Helper()
	m.must(t, "set", "image", "deployment/coredns", "coredns="+registry+"/coredns:"+tag, "-n", "kube-system")
	out, err := m.user(m.program("kubeadm"), "upgrade", "plan", "--kubeconfig", m.kubeconfig, "--ignore-preflight-errors="+ignored).CombinedOutput()
	t.Logf("kubeadm upgrade plan, image tag %s: %v\n%s", tag, err, out)
	for _, reason := range reasons {
		if !strings.Contains(string(out), reason) {
			t.Errorf("not refused for %s", reason)
		}
	}
}

// testBack goes the way back, to what kubeadm had set up.
func (m *move) testBack(t *testing.T) {
	m.under(t, "the way back", func() {
		m.typed(t, "kubectl -n kube-system create configmap coredns")
		cluster.Eventually(t, 20*time.Second, func() (bool, string) {
			text := m.must(t, "describe", "configmap", "coredns", "-n", "kube-system")
			return strings.Contains(text, "CorefileApplied") && strings.Contains(text, "applied with a restart"), text
		})
		m.resolve(t)
		m.typed(t, "kubectl -n kube-system patch deployment coredns")
		m.typed(t, "kubectl -n kube-system delete role,rolebinding coredns-configmap")
		m.typed(t, "kubectl -n kube-system delete configmap coredns-last-good")
		m.serves(t, m.theirs)
	})
	if got, want := m.corefile(t), cluster.ReadFile(t, filepath.Join(m.folder, "Corefile.before")); got != want {
		t.Errorf("Corefile\n%s\nwant\n%s", got, want)
	}
}

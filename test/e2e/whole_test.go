package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubehosts/kubehosts/test/cluster"
)

// report logs how long it took from each edit to the new answer; a second is the goal. Waiting for the answer is what
// fails.
func report(t *testing.T, what string, all []time.Duration) {
	t.Helper()
	slices.Sort(all)
	t.Logf("%s: median %v, slowest %v of %d", what, all[len(all)/2], all[len(all)-1], len(all))
}

// testWhole edits other plugins in the Corefile.
func (n *node) testWhole(t *testing.T) {
	var all []time.Duration
	for _, tt := range []struct{ plugin, name, old, new, after string }{
		{"template", "edited.example", "^\\( *\\)loop$", "&\\n\\1template IN A edited.example {\\n\\1   answer \"edited.example 60 IN A 192.0.2.70\"\\n\\1}", "NOERROR 192.0.2.70"},
		{"template again", "edited.example", "192.0.2.70", "192.0.2.71", "NOERROR 192.0.2.71"},
		{"rewrite", "moved.example", "^\\( *\\)loop$", "&\\n\\1rewrite name moved.example db.corp.example", "NOERROR 192.0.2.10"},
		{"forward", "outside.example", "max_concurrent 1000", "except outside.example", "SERVFAIL"},
		{"forward back", "outside.example", "except outside.example", "max_concurrent 1000", "NOERROR 198.51.100.7"},
	} {
		w := n.stream(t, "client", "watch", tt.name)
		w.next(t, 10*time.Second) // the answer before the edit
		left := n.edit(t, "kube-system", "coredns", tt.old, tt.new)
		took := w.answered(t, tt.after, 10*time.Second).Sub(left)
		w.stdin.Close()
		n.edited(t, tt.plugin, took)
		all = append(all, took)
	}
	report(t, "kubectl edit to the new answer", all)
}

// store writes a text as the Corefile.
func (n *node) store(t *testing.T, text string) {
	t.Helper()
	maps := n.Client.CoreV1().ConfigMaps("kube-system")
	cm, err := maps.Get(context.Background(), "coredns", meta.GetOptions{})
	if err == nil {
		cm.Data["Corefile"] = text
		_, err = maps.Update(context.Background(), cm, meta.UpdateOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// stored returns the text in a ConfigMap.
func (n *node) stored(t *testing.T, name string) string {
	t.Helper()
	cm, err := n.Client.CoreV1().ConfigMaps("kube-system").Get(context.Background(), name, meta.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return cm.Data["Corefile"]
}

// answers waits until replicas answer db.corp.example with an address.
func (n *node) answers(t *testing.T, pods []core.Pod, want string) {
	t.Helper()
	n.answersFor(t, pods, "db.corp.example", want)
}

// answersFor waits until replicas answer a name with an address.
func (n *node) answersFor(t *testing.T, pods []core.Pod, name, want string) {
	t.Helper()
	for _, ip := range addresses(pods) {
		c := cluster.Dial(t, "udp", ip+":53")
		cluster.Eventually(t, 30*time.Second, func() (bool, string) {
			m, err := c.Ask(name, dns.TypeA)
			if err != nil || len(m.Answer) != 1 {
				return false, fmt.Sprint(ip, ": ", err, m)
			}
			return strings.HasSuffix(m.Answer[0].String(), "\t"+want), m.Answer[0].String()
		})
	}
}

// testWholeEdits stores 100 Corefiles, a third of them broken, while a pod sends 1,000 queries a
// second.
func (n *node) testWholeEdits(t *testing.T) {
	good := n.stored(t, "coredns")
	defer n.store(t, good)
	w := n.stream(t, "client", "watch", "db.corp.example")
	w.answered(t, "NOERROR 192.0.2.10", 10*time.Second)
	took := map[string][]time.Duration{}
	n.under(t, "100 edits, a third of them broken", func() {
		for i := range 100 {
			text := strings.ReplaceAll(good, "192.0.2.10 db", fmt.Sprintf("192.0.2.%d db", 101+i))
			how := "in place"
			switch i % 3 {
			case 1:
				n.store(t, text+"}\n"+"bogus {")
				continue
			case 2:
				how, text = "with a restart", strings.Replace(text, "    errors\n", fmt.Sprintf("    errors\n    nsid edit%d\n", i), 1)
			}
			start := time.Now()
			n.store(t, text)
			took[how] = append(took[how], w.answered(t, fmt.Sprintf("NOERROR 192.0.2.%d", 101+i), 10*time.Second).Sub(start))
		}
	})
	for how, all := range took {
		report(t, "from the request to the new answer in a pod, "+how, all)
	}
}

// testWholeBroken stores a broken Corefile: replicas that start use the last good one, and all serve the repaired one.
func (n *node) testWholeBroken(t *testing.T) {
	good := n.stored(t, "coredns")
	cluster.Eventually(t, 90*time.Second, func() (bool, string) {
		return n.stored(t, "coredns-last-good") == good, "the Corefile is not stored as the last good one"
	})
	n.store(t, strings.Replace(good, "    errors\n", "    errors\n    bogus\n", 1))
	n.under(t, "a broken Corefile, and a pod deleted by force", func() {
		n.must(t, "delete", "pod", n.list(t, "kube-system", replicas)[0].Name, "-n", "kube-system", "--force", "--grace-period=0")
		n.settled(t, 2)
	})
	n.testDrain(t)
	n.under(t, "a broken Corefile, and 2 to 5 replicas", func() {
		n.must(t, "scale", "deployment/coredns", "-n", "kube-system", "--replicas=5")
		n.settled(t, 5)
	})
	all := n.list(t, "kube-system", replicas)
	n.answers(t, all, "192.0.2.10")
	for _, ip := range addresses(all) {
		m := metrics(t, ip)
		if !strings.Contains(m, `coredns_kubehosts_corefile_info{hash=`) || !strings.Contains(m, `origin="last-good"`) || !strings.Contains(m, "\ncoredns_kubehosts_corefile_rejected 1\n") {
			t.Errorf("the replica at %s does not report that it serves the last good Corefile", ip)
		}
	}
	t.Logf("Events:\n%s", n.must(t, "get", "events", "-n", "kube-system", "--field-selector=reason=CorefileRejected"))
	n.store(t, strings.ReplaceAll(good, "192.0.2.10 db", "192.0.2.11 db"))
	n.answers(t, all, "192.0.2.11")
	n.store(t, good)
	n.answers(t, all, "192.0.2.10")
	n.under(t, "5 to 2 replicas", func() {
		n.must(t, "scale", "deployment/coredns", "-n", "kube-system", "--replicas=2")
		n.settled(t, 2)
	})
}

// testWholeCustom adds the ConfigMap coredns-custom with files to import, like AKS, edits it, and breaks it.
func (n *node) testWholeCustom(t *testing.T) {
	good := n.stored(t, "coredns")
	n.must(t, "patch", "role", "coredns-configmap", "-n", "kube-system", "--type=json",
		"-p", `[{"op": "add", "path": "/rules/0/resourceNames/-", "value": "coredns-custom"}]`)
	n.must(t, "patch", "deployment", "coredns", "-n", "kube-system", "--type=json", "-p", `[
		{"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": "-import=kube-system/coredns-custom=custom"},
		{"op": "add", "path": "/spec/template/spec/volumes/-", "value": {"name": "custom", "configMap": {"name": "coredns-custom", "optional": true}}},
		{"op": "add", "path": "/spec/template/spec/containers/0/volumeMounts/-", "value": {"name": "custom", "mountPath": "/etc/coredns/custom", "readOnly": true}}]`)
	n.rolled(t)
	w := n.stream(t, "client", "watch", "custom.example")
	_, before, _ := strings.Cut(w.next(t, 10*time.Second), " ")
	n.store(t, strings.Replace(good, "    errors\n", "    errors\n    import custom/*.override\n", 1))
	var all []time.Duration
	for i, custom := range []string{"192.0.2.80", "192.0.2.81", "192.0.2.82"} {
		verb := []string{"create", "replace", "replace"}[i]
		start := time.Now()
		n.custom(t, verb, customText(custom))
		took := w.answered(t, "NOERROR "+custom, 10*time.Second).Sub(start)
		t.Logf("kubectl %s of coredns-custom to the new answer: %v", verb, took.Round(time.Millisecond))
		all = append(all, took)
	}
	report(t, "kubectl's run and the new answer", all)
	w.stdin.Close()
	n.testCustomBroken(t, "192.0.2.82")
	pod := n.list(t, "kube-system", replicas)[0]
	n.mounted(t, pod, "config-volume/Corefile", "import custom/")
	n.mounted(t, pod, "custom/a.override", "192.0.2.82")
	n.alone(t, map[string]string{"db.corp.example": "192.0.2.10", "custom.example": "192.0.2.82"})

	n.must(t, "delete", "configmap", "coredns-custom", "-n", "kube-system")
	n.stream(t, "client", "watch", "custom.example").answered(t, before, 10*time.Second)
	n.store(t, good)
	n.must(t, "rollout", "undo", "deployment/coredns", "-n", "kube-system")
	n.rolled(t)
}

// mounted waits until the kubelet has updated a file of a pod's ConfigMaps, VOLUME/KEY, to have a text in it.
func (n *node) mounted(t *testing.T, pod core.Pod, file, text string) {
	t.Helper()
	path := filepath.Join(n.dir, "kubelet", "pods", string(pod.UID), "volumes", "kubernetes.io~configmap", file)
	cluster.Eventually(t, 2*time.Minute, func() (bool, string) {
		b, err := os.ReadFile(path)
		return strings.Contains(string(b), text), fmt.Sprintf("%q in %s, which has\n%s%v", text, path, b, err)
	})
}

// customText is a file to import that answers custom.example with an address.
func customText(ip string) string {
	return "template IN A custom.example {\n    answer \"custom.example 60 IN A " + ip + "\"\n}\n"
}

// custom creates or replaces the ConfigMap coredns-custom.
func (n *node) custom(t *testing.T, verb, text string) {
	t.Helper()
	n.must(t, verb, "-f", n.write(t, "custom.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: coredns-custom, namespace: kube-system}\ndata:\n  a.override: |\n    "+
		strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\n    ")+"\n"))
}

// testCustomBroken breaks the imported ConfigMap: a replica that starts then uses the last good import, and all serve
// the repaired one.
func (n *node) testCustomBroken(t *testing.T, ip string) {
	cluster.Eventually(t, 90*time.Second, func() (bool, string) {
		text := n.stored(t, "coredns-last-good")
		return strings.Contains(text, ip), "the import is not stored in the last good Corefile:\n" + text
	})
	n.custom(t, "replace", "bogus")
	n.under(t, "a broken coredns-custom, and a pod deleted by force", func() {
		n.must(t, "delete", "pod", n.list(t, "kube-system", replicas)[0].Name, "-n", "kube-system", "--force", "--grace-period=0")
		n.settled(t, 2)
	})
	all := n.list(t, "kube-system", replicas)
	n.answersFor(t, all, "custom.example", ip)
	lastGood := 0
	for _, p := range all {
		m := metrics(t, p.Status.PodIP)
		if strings.Contains(m, `origin="last-good"`) {
			lastGood++
		}
		if !strings.Contains(m, "\ncoredns_kubehosts_corefile_rejected 1\n") {
			t.Errorf("the replica at %s does not report that coredns-custom is broken", p.Status.PodIP)
		}
	}
	if lastGood != 1 {
		t.Errorf("%d replicas serve the last good Corefile, want the one that started", lastGood)
	}
	n.custom(t, "replace", customText("192.0.2.83"))
	n.answersFor(t, all, "custom.example", "192.0.2.83")
	n.custom(t, "replace", customText(ip))
	n.answersFor(t, all, "custom.example", ip)
}

// alone kills the process of a replica without an API server: the next process serves the mounted files, which answer
// these names with these addresses. It follows the ConfigMap as soon as there is an API server.
func (n *node) alone(t *testing.T, serves map[string]string) {
	pod := n.list(t, "kube-system", replicas)[0]
	n.StopServer()
	if err := syscall.Kill(process(t, pod), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	for name, ip := range serves {
		n.answersFor(t, []core.Pod{pod}, name, ip)
	}
	t.Logf("the mounted files are served %v after the process was killed", time.Since(start).Round(time.Millisecond))
	if m := metrics(t, pod.Status.PodIP); !strings.Contains(m, `origin="file"`) {
		t.Error("the replica does not report that it serves the file")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := n.StartServer(ctx); err != nil {
		t.Fatal(err)
	}
	cluster.Eventually(t, 90*time.Second, func() (bool, string) {
		m := metrics(t, pod.Status.PodIP)
		return strings.Contains(m, `coredns_kubehosts_corefile_info{`) && strings.Contains(m, `origin="configmap"`), "the ConfigMap is not followed again"
	})
	// The API server reports the replica as Ready until it learns otherwise. So query a Service, which the replica can
	// only have from the API server.
	c := cluster.Dial(t, "udp", pod.Status.PodIP+":53")
	cluster.Eventually(t, 30*time.Second, func() (bool, string) {
		m, err := c.Ask("web.shop.svc.cluster.local", dns.TypeA)
		return err == nil && len(m.Answer) == 1, fmt.Sprint("the replica does not answer for Services again: ", err, m)
	})
	n.must(t, "wait", "--for=condition=Ready", "pod", "--all", "-n", "kube-system", "--timeout=90s")
	n.settled(t, 2)
}

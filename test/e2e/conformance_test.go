package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/onsi/ginkgo/v2/types"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	imageutils "k8s.io/kubernetes/test/utils/image"
	"sigs.k8s.io/yaml"

	"github.com/kubehosts/kubehosts/test/cluster"
)

const (
	caseFiles = "test/e2e/network/dns" // Kubernetes' own tests of DNS are in files that begin so
	notRun    = "not run: make conformance FULL=1"
)

// verdicts are what became of each of Kubernetes' own tests, by its name.
type verdicts map[string]string

// TestConformance runs Kubernetes' own tests of DNS with kubehosts as the DNS of the cluster: those of conformance.
// With CONFORMANCE_FULL it runs all of them, those that edit the Corefile once more with the plugin kubehosts in place
// of kubernetes, and then all with the stock CoreDNS as kubeadm sets it up.
func TestConformance(t *testing.T) {
	full := os.Getenv("CONFORMANCE_FULL") != ""
	n := up(t)
	upstream(t)
	start := time.Now()
	n.load(t, images+"kubehosts.tar")
	n.load(t, packFiles(t, []string{imageutils.GetE2EImage(imageutils.Agnhost), imageutils.GetE2EImage(imageutils.GlibcDnsTesting)},
		n.tools(t), "/agnhost", "pause"))
	n.must(t, "apply", "-k", manifests+"base")
	n.must(t, "rollout", "status", "deployment/coredns", "-n", "kube-system", "--timeout=90s")
	n.settled(t, 2)
	t.Logf("images loaded, base applied, kubehosts Ready after %v", time.Since(start).Round(time.Millisecond))

	ours, stock := verdicts{}, verdicts{}
	t.Run("kubehosts", func(t *testing.T) { n.conforms(t, ours, full) })
	if full {
		t.Run("inPlaceOfKubernetes", func(t *testing.T) { n.conformsInPlace(t, ours) })
		t.Run("stock", func(t *testing.T) {
			n.replaceByStock(t)
			n.conforms(t, stock, full)
		})
	}
	t.Logf("Kubernetes' own tests of DNS:\n%s", table(ours, stock))
}

// tools are the files of the images that the tests' pods are made of, by their path in it: agnhost, a CoreDNS, a shell,
// what is called by it, dig among them, and the libraries of all that.
func (n *node) tools(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{"/agnhost": n.bin + "/agnhost", "/coredns": n.bin + "/stock"}
	for _, name := range []string{"sh", "cat", "dig", "getent", "hostname", "seq", "sleep"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		files["/bin/"+name] = path
		for _, m := range library.FindAllStringSubmatch(command(t, "ldd", path), -1) {
			files[m[1]] = m[1]
		}
	}
	return files
}

var library = regexp.MustCompile(`(/\S+) \(0x`) // libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f...)

// conforms runs the cases, and fails for each that should have passed.
func (n *node) conforms(t *testing.T, became verdicts, full bool) {
	label := "Conformance"
	if full {
		label = ""
	}
	maps.Copy(became, n.cases(t, `\[sig-network\] DNS`, label, 15*time.Minute))
	if full {
		for name, verdict := range n.cases(t, "PerformanceDNS", "", 40*time.Minute) {
			if verdict != notRun {
				became[name] = verdict
			}
		}
	}
	needed := conformance(t)
	if full {
		needed = slices.AppendSeq(needed, maps.Keys(became))
	}
	for _, name := range needed {
		if verdict, ok := became[name]; !ok || verdict == notRun {
			t.Errorf("%s: not run", name)
		}
	}
}

// conformsInPlace runs the cases that edit the Corefile, while the API server makes its plugin kubernetes one of
// kubehosts.
func (n *node) conformsInPlace(t *testing.T, became verdicts) {
	n.must(t, "apply", "-f", "testdata/conformance.yaml")
	defer n.must(t, "delete", "-f", "testdata/conformance.yaml")
	configMaps := n.Client.CoreV1().ConfigMaps("kube-system")
	cluster.Eventually(t, time.Minute, func() (bool, string) {
		cm, err := configMaps.Get(context.Background(), "coredns", meta.GetOptions{})
		if err == nil {
			cm.Data["Corefile"] = "kubernetes cluster.local"
			cm, err = configMaps.Update(context.Background(), cm, meta.UpdateOptions{DryRun: []string{meta.DryRunAll}})
		}
		if err != nil {
			return false, err.Error()
		}
		return cm.Data["Corefile"] == "kubehosts cluster.local", cm.Data["Corefile"]
	})
	ran := 0
	for name, verdict := range n.cases(t, "DNS configMap", "", 15*time.Minute) {
		if verdict != notRun {
			became[name+", with kubehosts in place of kubernetes"] = verdict
			ran++
		}
	}
	if ran == 0 {
		t.Error("no case edits the Corefile")
	}
}

// replaceByStock makes the stock CoreDNS the DNS of the cluster, as kubeadm sets it up.
func (n *node) replaceByStock(t *testing.T) {
	n.must(t, "delete", "-k", manifests+"base")
	n.load(t, pack(t, n.named(t, ""), n.bin+"/stock", "/coredns"))
	n.addon(t, "")
	n.must(t, "rollout", "status", "deployment/coredns", "-n", "kube-system", "--timeout=90s")
	n.settled(t, 2)
}

// cases runs those of Kubernetes' own tests of DNS whose names match a regular expression and that have a label, if it
// is not empty, and returns what became of all. It fails, with their logs, for those that failed, and if the program
// ran none.
func (n *node) cases(t *testing.T, focus, label string, bound time.Duration) verdicts {
	t.Helper()
	report, log := filepath.Join(t.TempDir(), "report.json"), filepath.Join(n.dir, "e2e.test.log")
	out, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd := n.user(filepath.Join(n.bin, "e2e.test"), "-kubeconfig", n.kubeconfig, "-kubectl-path", n.program("kubectl"), "-provider=skeleton",
		"-disable-log-dump", "-ginkgo.focus", focus, "-ginkgo.label-filter", label, "-ginkgo.timeout", bound.String(),
		"-ginkgo.v", "-ginkgo.no-color", "-ginkgo.json-report", report)
	cmd.Stdout, cmd.Stderr = out, out
	failed := cmd.Run()
	var suites []types.Report
	if err := json.Unmarshal([]byte(cluster.ReadFile(t, report)), &suites); err != nil || len(suites) != 1 {
		t.Fatalf("the report has %d suites, %v; e2e.test: %v\n%s", len(suites), err, failed, cluster.Tail(log))
	}
	t.Logf("e2e.test took %v", suites[0].RunTime.Round(time.Millisecond))
	became := verdicts{}
	for _, s := range suites[0].SpecReports {
		if s.LeafNodeType != types.NodeTypeIt && s.Failed() {
			t.Errorf("%s: %s\n%s", s.LeafNodeType, s.FailureMessage(), s.CapturedGinkgoWriterOutput)
		}
		if s.LeafNodeType == types.NodeTypeIt && strings.Contains(s.FileName(), caseFiles) {
			became[s.FullText()] = verdict(t, s)
		}
	}
	if failed != nil && !t.Failed() {
		t.Errorf("e2e.test: %v\n%s", failed, cluster.Tail(log))
	}
	return became
}

// verdict is what became of a case. One may skip itself only because it is made for another provider of clusters.
func verdict(t *testing.T, s types.SpecReport) string {
	switch why := s.FailureMessage(); {
	case s.State == types.SpecStatePassed:
		return "pass"
	case s.Failed():
		t.Errorf("%s: %s\n%s\n%s", s.FullText(), why, s.FailureLocation(), s.CapturedGinkgoWriterOutput)
		return "**fail**"
	case why == "":
		return notRun
	case !strings.Contains(s.FullText(), "[Provider:"):
		t.Errorf("%s: skipped: %s", s.FullText(), why)
		fallthrough
	default:
		return "cannot run here: " + why
	}
}

// conformance are the names of the cases that Kubernetes' list of conformance tests has.
func conformance(t *testing.T) (names []string) {
	t.Helper()
	var all []struct{ Codename, File string }
	list := filepath.Join(module(t, "..", "k8s.io/kubernetes"), "test/conformance/testdata/conformance.yaml")
	if err := yaml.Unmarshal([]byte(cluster.ReadFile(t, list)), &all); err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		if strings.HasPrefix(c.File, caseFiles) {
			names = append(names, c.Codename)
		}
	}
	if len(names) == 0 {
		t.Fatalf("%s lists no test of %s", list, caseFiles)
	}
	return names
}

// table is Markdown, with an empty column for stock if that was not tried.
func table(ours, stock verdicts) string {
	lines := []string{"| case | kubehosts | stock |", "| --- | --- | --- |"}
	for _, name := range slices.Sorted(maps.Keys(ours)) {
		lines = append(lines, fmt.Sprintf("| `%s` | %s | %s |", name, ours[name], stock[name]))
	}
	return strings.Join(lines, "\n")
}

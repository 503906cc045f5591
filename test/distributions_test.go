package test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/kubehosts/kubehosts/test/cluster"
)

// shownFor returns the indented blocks in a section of docs/distributions.md that have a line with the
// prefix start.
func shownFor(t *testing.T, section, start string) string {
	t.Helper()
	_, rest, found := strings.Cut(cluster.ReadFile(t, "../docs/distributions.md"), "\n## "+section+"\n")
	if !found {
		t.Fatalf("no section %s", section)
	}
	rest, _, _ = strings.Cut(rest, "\n## ")
	for block := range strings.SplitSeq(rest, "\n\n") {
		lines := strings.Split(strings.Trim(block, "\n"), "\n")
		if !slices.ContainsFunc(lines, func(l string) bool { return !strings.HasPrefix(l, "    ") }) &&
			slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(strings.TrimSpace(l), start) }) {
			return strings.ReplaceAll("\n"+strings.Join(lines, "\n"), "\n    ", "\n")[1:] + "\n"
		}
	}
	t.Fatalf("section %s shows nothing with a line %s", section, start)
	return ""
}

// configMaps returns the ConfigMaps of a file in testdata/check.
func configMaps(t *testing.T, file string) []core.ConfigMap {
	t.Helper()
	var list struct{ Items []core.ConfigMap }
	if err := yaml.Unmarshal([]byte(cluster.ReadFile(t, "testdata/check/"+file)), &list); err != nil || len(list.Items) < 2 {
		t.Fatalf("%d ConfigMaps in %s, %v", len(list.Items), file, err)
	}
	return list.Items
}

// printed formats ConfigMaps like kubectl.
func printed(t *testing.T, maps ...core.ConfigMap) string {
	t.Helper()
	var docs []string
	for _, m := range maps {
		b, err := yaml.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		docs = append(docs, string(b))
	}
	return strings.Join(docs, "---\n")
}

// good fails if check finds anything, including warnings.
func good(t *testing.T, text string) {
	t.Helper()
	if out, code := check(t, text, "-strict", "-conf", "-"); code != 0 || out != "" {
		t.Errorf("exit code %d:\n%s\n%s", code, out, text)
	}
}

// here adapts a Corefile of a cluster to a server on this machine: other ports, a kubeconfig, files in DIR, an upstream
// at OTHER, and no loop plugin, which would need an upstream.
func here(corefile, kubeconfig string) string {
	for _, change := range [][2]string{
		{`(?m)^(\S+):53 \{$`, "$1:PORT {\n    bind 127.0.0.1"},
		{`(?m)^ +health( \{\n[^}]*\})?\n`, ""},
		{`(?m)^( +)ready$`, "${1}ready READY"},
		{`(?m)^( +)prometheus \S+$`, "${1}prometheus METRICS"},
		{`(?m)^( +)(kubehosts|kubernetes)\b(.*) \{$`, "${1}${2}${3} {\n${1}    kubeconfig " + kubeconfig},
		{`(?m)^ +(loop|status)\n`, ""},
		{`/etc/coredns/`, "DIR/"},
		{`/etc/resolv\.conf`, "127.0.0.1:OTHER"},
	} {
		corefile = regexp.MustCompile(change[0]).ReplaceAllString(corefile, change[1])
	}
	return corefile
}

// served starts a server with a Corefile of a cluster, files beside it, and the account of rbac.yaml.
func served(t *testing.T, corefile string, files map[string]string) (*cluster.CoreDNS, *cluster.Client) {
	t.Helper()
	objects(t, shop)
	c := cluster.Prepare(t, here(corefile, cluster.Kubeconfig(t, api(t).URL, account(t).Token)))
	for name, text := range files {
		if err := os.MkdirAll(filepath.Dir(c.Path(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		cluster.WriteFile(t, c.Path(name), c.Fill(text))
	}
	c.Start(t, coredns(t))
	c.WaitReady(t)
	return c, cluster.Dial(t, "udp", c.Addr)
}

// has waits until a name has an address.
func has(t *testing.T, client *cluster.Client, name, want string) {
	t.Helper()
	cluster.Eventually(t, bound, func() (bool, string) {
		got, err := address(client, name)
		return got == want, fmt.Sprintf("%s is %q, want %s: %v", name, got, want, err)
	})
}

// README's commands for kubeadm's Corefile make a valid one from each distribution's, except for what check reports in
// the original, and for a cache in front of zones that are live now.
func TestMovingOverDistributions(t *testing.T) {
	files, _ := filepath.Glob("testdata/check/*.yaml")
	moved := 0
	for _, file := range files {
		before := cluster.ReadFile(t, file)
		if !strings.Contains(before, "kubernetes ") {
			continue // only coredns-custom
		}
		moved++
		t.Run(filepath.Base(file), func(t *testing.T) {
			dir := t.TempDir()
			cluster.WriteFile(t, filepath.Join(dir, "Corefile.before"), before)
			cmd := exec.Command("sh", "-c", movingOver(t))
			cmd.Dir = dir
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			after := cluster.ReadFile(t, filepath.Join(dir, "Corefile.after"))
			if !regexp.MustCompile(`(?m)^ +kubehosts .*cluster\.local.*\{\n +configmap kube-system/coredns$`).MatchString(after) {
				t.Errorf("no stanza of kubehosts:\n%s", after)
			}
			out, code := check(t, after, "-conf", "-")
			for line := range strings.Lines(out) {
				if !strings.Contains(line, "warning: cache ") && !strings.Contains(line, "warning: forward without loop") {
					t.Error(line)
				}
			}
			if code != 0 {
				t.Errorf("exit code %d", code)
			}
		})
	}
	if moved < 10 {
		t.Errorf("only %d of %d files have a Corefile", moved, len(files))
	}
}

// k3s, with NodeHosts.
func TestDistributionK3s(t *testing.T) {
	corefile := shownFor(t, "k3s", ".:53 {")
	maps := configMaps(t, "k3s.yaml")
	maps[0].Data["Corefile"] = corefile
	good(t, printed(t, maps...))
	c, client := served(t, corefile, map[string]string{
		"NodeHosts":           "172.18.0.2 k3d-server-0\n",
		"custom/log.override": "log\n",
		"custom/corp.server":  "corp.example:PORT {\n    bind 127.0.0.1\n    whoami\n}\n",
	})
	has(t, client, "web.shop.svc.cluster.local.", serviceIP)
	has(t, client, "k3d-server-0.", "172.18.0.2")
	agents := ""
	for i := range 1000 {
		agents += fmt.Sprintf("172.18.0.3 k3d-agent-%d\n", i)
	}
	cluster.WriteFile(t, c.Path("NodeHosts"), agents)
	agent := 0 // each is queried once, as the cache stores negative answers
	cluster.Eventually(t, bound, func() (bool, string) {
		agent++
		got, err := address(client, fmt.Sprintf("k3d-agent-%d.", agent))
		return got == "172.18.0.3", fmt.Sprintf("%q, %v", got, err)
	})
}

// On k3s without its CoreDNS, the nodes' names come from the Nodes.
func TestDistributionK3sNodes(t *testing.T) {
	option := shownFor(t, "k3s", "external ")
	base := cluster.ReadFile(t, "../build/kubernetes/base/Corefile")
	corefile := strings.Replace(base, "        status\n", "        status\n        "+strings.ReplaceAll(strings.TrimSpace(option), "\n", "\n        ")+"\n", 1)
	if corefile == base {
		t.Fatal("the Corefile of the base has no such line")
	}
	for _, line := range []string{"disable success cluster.local", "disable denial cluster.local"} {
		corefile = strings.Replace(corefile, line, line+" nodes.example", 1)
	}
	good(t, corefile)
	objects(t, cluster.ReadFile(t, "../build/kubernetes/rbac/nodes.yaml"))
	node := "apiVersion: v1\nkind: Node\nmetadata: {name: agent-0}\n"
	objects(t, node)
	api(t).ApplyStatus(t, node+"status: {addresses: [{type: InternalIP, address: 172.18.0.4}, {type: Hostname, address: agent-0}]}\n")
	_, client := served(t, corefile, nil)
	has(t, client, "agent-0.nodes.example.", "172.18.0.4")
	has(t, client, "web.shop.svc.cluster.local.", serviceIP)
}

// On Talos it is the base, with Talos's default DNS address.
func TestDistributionTalos(t *testing.T) {
	var config struct {
		Cluster struct {
			CoreDNS struct{ Disabled bool }
		}
	}
	var document struct {
		Kind    string
		Enabled *bool
	}
	if err := yaml.Unmarshal([]byte(shownFor(t, "Talos", "coreDNS:")), &config); err != nil || !config.Cluster.CoreDNS.Disabled {
		t.Errorf("%+v, %v", config, err)
	}
	if err := yaml.Unmarshal([]byte(shownFor(t, "Talos", "kind: KubeCoreDNSConfig")), &document); err != nil || document.Enabled == nil || *document.Enabled {
		t.Errorf("%+v, %v", document, err)
	}
	if !strings.Contains(kustomize(t, "base"), "\n  clusterIP: 10.96.0.10\n") {
		t.Error("the base has another address")
	}
}

// On RKE2 the chart makes the Corefile from the values in a HelmChartConfig. With the Role beside the chart, its stanza
// follows a ConfigMap that Helm does not manage.
func TestDistributionRKE2(t *testing.T) {
	var config struct {
		Kind     string
		Metadata meta.ObjectMeta
		Spec     struct{ ValuesContent string }
	}
	if err := yaml.Unmarshal([]byte(shownFor(t, "RKE2", "kind: HelmChartConfig")), &config); err != nil || config.Metadata.Name != "rke2-coredns" {
		t.Fatalf("%+v, %v", config, err)
	}
	var values helmValues
	if err := yaml.Unmarshal([]byte(config.Spec.ValuesContent), &values); err != nil {
		t.Fatal(err)
	}
	good(t, values.corefile())
	edited := shownFor(t, "RKE2", "kind: ConfigMap")
	good(t, edited)
	if role := helmFolder + "role.yaml"; !strings.Contains(shownFor(t, "RKE2", "$ kubectl apply"), strings.TrimPrefix(role, "../")) {
		t.Errorf("the page does not apply %s", role)
	}

	// RKE2's chart is derived from the coredns chart, and creates the same objects for the account, which it names
	// coredns.
	removeConfigMap(t)
	api(t).Delete(t, cluster.ReadFile(t, "../build/kubernetes/rbac/rbac.yaml"))
	objects(t, shop)
	objects(t, documented(t, cluster.ReadFile(t, helmFolder+"values.yaml")))
	removeConfigMap(t) // the release's ConfigMap has another name there
	objects(t, cluster.ReadFile(t, helmFolder+"role.yaml"))
	kubeconfig := cluster.Kubeconfig(t, api(t).URL, api(t).Account(t, "kube-system", "coredns").Token)
	c := cluster.Run(t, coredns(t), here(values.corefile(), kubeconfig))
	client := cluster.Dial(t, "udp", c.Addr)
	has(t, client, "web.shop.svc.cluster.local.", serviceIP)
	objects(t, c.Fill(strings.Replace(edited, ".:53 {", ".:PORT {", 1)))
	has(t, client, "db.corp.example.", "192.0.2.10")
	has(t, client, "web.shop.svc.cluster.local.", serviceIP)
}

// On EKS it is the Corefile of the add-on, moved over.
func TestDistributionEKS(t *testing.T) {
	corefile := shownFor(t, "EKS", ".:53 {")
	good(t, corefile)
	_, client := served(t, corefile, nil)
	has(t, client, "web.shop.svc.cluster.local.", serviceIP)
}

// The objects of the second DNS have names that no cluster uses already. It runs with the flags and rights of its
// manifests, follows its ConfigMap, and gets the queries for the zone that AKS and GKE forward.
func TestDistributionSecond(t *testing.T) {
	manifests := kustomize(t, "second")
	for _, taken := range []string{"namespace: kube-system", "name: system:coredns", "name: kube-dns", "clusterIP:", "priorityClassName"} {
		if strings.Contains(manifests, taken) {
			t.Errorf("the manifests have %q:\n%s", taken, manifests)
		}
	}
	corefile := cluster.ReadFile(t, "../build/kubernetes/second/Corefile")
	good(t, corefile)
	good(t, manifests)

	a := api(t)
	a.Apply(t, manifests)
	_, inside, _ := strings.Cut(manifests, "\n---\n") // without controllers, a namespace would never finish terminating
	t.Cleanup(func() { a.Delete(t, inside) })
	objects(t, shop+`---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: till, namespace: shop}
spec: {rules: [{host: till.corp.example}]}
`)
	a.ApplyStatus(t, "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: till, namespace: shop}\nstatus: {loadBalancer: {ingress: [{ip: 198.51.100.4}]}}\n")

	deployment, err := a.Client.AppsV1().Deployments("kubehosts").Get(t.Context(), "coredns", meta.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	args := deployment.Spec.Template.Spec.Containers[0].Args[2:] // after -conf /etc/coredns/Corefile
	kubeconfig := cluster.Kubeconfig(t, a.URL, a.Account(t, "kubehosts", deployment.Spec.Template.Spec.ServiceAccountName).Token)
	t.Setenv("KUBECONFIG", kubeconfig)
	second := cluster.Prepare(t, "")
	store := func(text string) {
		t.Helper()
		maps := a.Client.CoreV1().ConfigMaps("kubehosts")
		m, err := maps.Get(t.Context(), "coredns", meta.GetOptions{})
		if err == nil {
			m.Data["Corefile"] = second.Fill(text)
			_, err = maps.Update(t.Context(), m, meta.UpdateOptions{})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	corefile = here(corefile, kubeconfig)
	store(corefile)
	second.Write(t, corefile)
	second.Start(t, coredns(t), args...)
	second.WaitReady(t)

	aks, client := served(t, configMaps(t, "aks.yaml")[0].Data["Corefile"], map[string]string{"custom/corp.server": forwarded(t, second.Addr)})
	for name, want := range map[string]string{
		"db.corp.example.": "192.0.2.10", "till.corp.example.": "198.51.100.4", "web.shop.svc.cluster.local.": serviceIP,
	} {
		has(t, client, name, want)
	}
	cluster.Eventually(t, bound, func() (bool, string) {
		m, err := client.Ask("other.corp.example.", dns.TypeA)
		return err == nil && m.Rcode == dns.RcodeNameError, fmt.Sprintf("a name that the zone does not have: %v %v", m, err)
	})
	store(strings.Replace(corefile, "192.0.2.10", "192.0.2.11", 1))
	has(t, client, "db.corp.example.", "192.0.2.11")
	if strings.Contains(aks.Log(), "[ERROR]") {
		t.Error(aks.Log())
	}
	testStubDomains(t)
}

// forwarded is the server block for AKS, with the address of a server on this machine.
func forwarded(t *testing.T, addr string) string {
	t.Helper()
	text := shownFor(t, "AKS and GKE", "corp.server:")
	good(t, text)
	good(t, printed(t, configMaps(t, "aks.yaml")[0])+"---\n"+text)
	var m core.ConfigMap
	if err := yaml.UnmarshalStrict([]byte(text), &m); err != nil || m.Name != "coredns-custom" || m.Namespace != "kube-system" {
		t.Fatalf("%v:\n%s", err, text)
	}
	server := m.Data["corp.server"]
	if strings.Count(server, clusterIPShown(t)) != 1 {
		t.Fatalf("it does not forward to the address of the Service:\n%s", server)
	}
	return here(strings.Replace(server, clusterIPShown(t), addr, 1), "")
}

// clusterIPShown is the address that docs/distributions.md shows for the Service of the second DNS.
func clusterIPShown(t *testing.T) string {
	t.Helper()
	lines := strings.Fields(shownFor(t, "AKS and GKE", "$ kubectl -n kubehosts get service dns"))
	return lines[len(lines)-1]
}

// testStubDomains checks the input of GKE's kube-dns: JSON of zones and addresses.
func testStubDomains(t *testing.T) {
	t.Helper()
	var m core.ConfigMap
	if err := yaml.UnmarshalStrict([]byte(shownFor(t, "AKS and GKE", "stubDomains:")), &m); err != nil || m.Name != "kube-dns" || m.Namespace != "kube-system" {
		t.Fatalf("%v: %+v", err, m)
	}
	var zones map[string][]string
	if err := json.Unmarshal([]byte(m.Data["stubDomains"]), &zones); err != nil || !slices.Equal(zones["corp.example"], []string{clusterIPShown(t)}) {
		t.Errorf("%v: %v", err, zones)
	}
	if _, err := api(t).Client.CoreV1().ConfigMaps("kube-system").Create(context.Background(), &m, meta.CreateOptions{DryRun: []string{meta.DryRunAll}}); err != nil {
		t.Error(err)
	}
}

// The page has what the table in README promises.
func TestReadmeDistributions(t *testing.T) {
	_, table, found := strings.Cut(cluster.ReadFile(t, "../README.md"), "\n## On your distribution\n")
	if !found {
		t.Fatal("README has no such section")
	}
	table, _, _ = strings.Cut(table, "\n## ")
	page := strings.Join(strings.Fields(cluster.ReadFile(t, "../docs/distributions.md")), " ")
	link := regexp.MustCompile(`docs/distributions\.md#([a-z0-9-]+)`)
	code := regexp.MustCompile("`([^`]+)`")
	rows := 0
	for line := range strings.Lines(table) {
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "| kubeadm") {
			continue
		}
		rows++
		for _, m := range link.FindAllStringSubmatch(line, -1) {
			if !strings.Contains(strings.ToLower(cluster.ReadFile(t, "../docs/distributions.md")), "\n## "+strings.ReplaceAll(m[1], "-", " ")+"\n") {
				t.Errorf("no section %s", m[1])
			}
		}
		for _, m := range code.FindAllStringSubmatch(line, -1) {
			said := strings.Fields(strings.Trim(m[1], "{}"))
			last := 0
			for _, word := range said {
				at := strings.Index(page[last:], strings.Trim(word, "{},"))
				if at < 0 {
					t.Errorf("%q is not on the page: no %q after the words before it", m[1], word)
					break
				}
				last += at
			}
		}
	}
	if rows < 8 {
		t.Errorf("%d rows", rows)
	}
}

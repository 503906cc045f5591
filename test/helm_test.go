package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/kubehosts/kubehosts/test/cluster"
)

const helmFolder = "../build/kubernetes/helm/"

// helmValues are the values that determine the Corefile and the account of the chart.
type helmValues struct {
	ServiceAccount struct {
		Create bool
		Name   string
	}
	Servers []struct {
		Zones []struct {
			Zone string
			TCP  bool `json:"use_tcp"`
		}
		Port    any
		Plugins []struct {
			Name        string
			Parameters  any
			ConfigBlock string
		}
	}
}

// corefile is the Corefile that the chart, according to its documentation, makes from servers.
func (v helmValues) corefile() string {
	var b strings.Builder
	for _, server := range v.Servers {
		for _, z := range server.Zones {
			fmt.Fprintf(&b, "%s:%v ", z.Zone, server.Port)
		}
		b.WriteString("{\n")
		for _, p := range server.Plugins {
			b.WriteString("    " + p.Name)
			if p.Parameters != nil {
				fmt.Fprintf(&b, " %v", p.Parameters)
			}
			if p.ConfigBlock != "" {
				b.WriteString(" {\n" + p.ConfigBlock + "\n    }")
			}
			b.WriteString("\n")
		}
		b.WriteString("}\n")
	}
	return b.String()
}

// documented returns the objects that the chart, according to its documentation, creates for a release named coredns,
// as far as they matter to kubehosts: the ConfigMap, and an account that may list and watch the resources of the stock
// plugin.
func documented(t *testing.T, values string) string {
	t.Helper()
	var v helmValues
	if err := yaml.Unmarshal([]byte(values), &v); err != nil {
		t.Fatal(err)
	}
	if !v.ServiceAccount.Create || v.ServiceAccount.Name != "coredns" {
		t.Fatalf("the values have the account %+v, which role.yaml does not name", v.ServiceAccount)
	}
	config, err := yaml.Marshal(core.ConfigMap{
		TypeMeta:   meta.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: meta.ObjectMeta{Name: "coredns", Namespace: "kube-system"},
		Data:       map[string]string{"Corefile": v.corefile()},
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(config) + `
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: coredns, namespace: kube-system}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: coredns}
rules:
- {apiGroups: [""], resources: [endpoints, services, pods, namespaces], verbs: [list, watch]}
- {apiGroups: [discovery.k8s.io], resources: [endpointslices], verbs: [list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: coredns}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: coredns}
subjects: [{kind: ServiceAccount, name: coredns, namespace: kube-system}]
`
}

// The values make a valid Corefile.
func TestHelmCorefile(t *testing.T) {
	config := documented(t, cluster.ReadFile(t, helmFolder+"values.yaml"))
	if out, code := check(t, config, "-strict", "-conf", "-"); code != 0 || out != "" {
		t.Errorf("exit code %d:\n%s", code, out)
	}
}

// A release of the coredns chart follows its ConfigMap with our Role, and does not without it. make helm installs the
// chart itself; by default the test uses the objects that its documentation lists.
func TestHelm(t *testing.T) {
	removeConfigMap(t)
	api(t).Delete(t, cluster.ReadFile(t, "../build/kubernetes/rbac/rbac.yaml")) // the chart creates its own
	objects(t, shop)
	c := cluster.Prepare(t, "")
	values := localValues(t, c)
	chart := os.Getenv("HELM_CHART")
	if chart == "" {
		objects(t, documented(t, values))
		serveHelm(t, c)
		return
	}
	h := helm{kubeconfig: cluster.Kubeconfig(t, api(t).URL, cluster.AdminToken), chart: chart, dir: t.TempDir()}
	h.run(t, cluster.ReadFile(t, helmFolder+"values.yaml"), "template", "--dry-run=client")
	h.run(t, values, "install")
	t.Cleanup(func() { h.uninstall(t) })
	checkHelmDeployment(t)
	serveHelm(t, c)
	h.upgrade(t, c, values)
}

// localValues are our values with three changes: the listeners of c, as the usual ports are in use on a machine; no
// loop, which queries the machine's resolver; and a kubeconfig in the stanza, whose account does not exist yet.
func localValues(t *testing.T, c *cluster.CoreDNS) string {
	t.Helper()
	values := cluster.ReadFile(t, helmFolder+"values.yaml")
	for _, change := range [][2]string{
		{"  port: 53\n", "  port: PORT\n"},
		{"  - name: errors\n", "  - name: errors\n  - name: bind\n    parameters: 127.0.0.1\n"},
		{"  - name: health\n    configBlock: |-\n      lameduck 5s\n", ""},
		{"  - name: ready\n", "  - name: ready\n    parameters: READY\n"},
		{"      status\n", "      status OTHER\n      kubeconfig DIR/kubeconfig\n"},
		{"    parameters: :9153\n", "    parameters: METRICS\n"},
		{"  - name: loop\n", ""},
	} {
		if strings.Count(values, change[0]) != 1 {
			t.Fatalf("%q is %d times in the values", change[0], strings.Count(values, change[0]))
		}
		values = strings.ReplaceAll(values, change[0], change[1])
	}
	return strings.Replace(c.Fill(values), "status ", "status 127.0.0.1:", 1)
}

// serveHelm runs c on the ConfigMap of the release like the chart's Deployment, with only -conf.
func serveHelm(t *testing.T, c *cluster.CoreDNS) {
	t.Helper()
	who := api(t).Account(t, "kube-system", "coredns")
	cluster.WriteFile(t, c.Path("kubeconfig"), cluster.ReadFile(t, cluster.Kubeconfig(t, api(t).URL, who.Token)))
	corefile := helmConfigMap(t).Data["Corefile"]
	c.Write(t, corefile)
	c.Start(t, coredns(t))
	c.WaitReady(t)
	udp := cluster.Dial(t, "udp", c.Addr)
	if ip, err := address(udp, serviceName); ip != serviceIP {
		t.Errorf("%s is %q: %v", serviceName, ip, err)
	}
	cluster.Eventually(t, bound, func() (bool, string) {
		return strings.Contains(c.Log(), "ConfigMap kube-system/coredns") && strings.Contains(c.Log(), "forbidden"),
			"without the Role, a line that the ConfigMap is forbidden"
	})

	role := cluster.ReadFile(t, helmFolder+"role.yaml")
	api(t).DryRun(t, role)
	objects(t, role)
	for i := range 3 {
		editHelm(t, strings.Replace(corefile, "pods insecure\n", "pods insecure\n"+live(editIP(i))+"\n", 1))
		awaitLive(t, udp, editIP(i))
	}
	awaitEvent(t, "StanzaApplied", "applied to dns://.:")
	for _, r := range api(t).Audit(t, who) {
		if r.Code == 403 && r.Resource != "configmaps" {
			t.Errorf("%v is forbidden", r)
		}
	}
}

func helmConfigMap(t *testing.T) *core.ConfigMap {
	t.Helper()
	cm, err := api(t).Client.CoreV1().ConfigMaps("kube-system").Get(t.Context(), "coredns", meta.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return cm
}

// editHelm changes the Corefile like `kubectl edit`: the rest of the ConfigMap stays.
func editHelm(t *testing.T, corefile string) {
	t.Helper()
	patch := text(t, map[string]any{"data": map[string]string{"Corefile": corefile}})
	_, err := api(t).Client.CoreV1().ConfigMaps("kube-system").Patch(t.Context(), "coredns", types.MergePatchType, []byte(patch),
		meta.PatchOptions{FieldManager: "kubectl-edit"})
	if err != nil {
		t.Fatal(err)
	}
}

// helm is the helm program, for the release coredns in kube-system.
type helm struct{ kubeconfig, chart, dir string }

// run runs helm with values and our chart, and returns its output. It fails the test if helm fails.
func (h helm) run(t *testing.T, values, verb string, flags ...string) string {
	t.Helper()
	out, err := h.try(t, values, verb, flags...)
	if err != nil {
		t.Fatalf("helm %s: %v\n%s", verb, err, out)
	}
	return out
}

func (h helm) try(t *testing.T, values, verb string, flags ...string) (string, error) {
	t.Helper()
	file := filepath.Join(h.dir, "values.yaml")
	cluster.WriteFile(t, file, values)
	return h.command(t, append([]string{verb, "coredns", h.chart, "-f", file}, flags...)...)
}

func (h helm) command(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bin/helm", append(args, "-n", "kube-system", "--kubeconfig", h.kubeconfig)...)
	cmd.Env = append(os.Environ(), "HELM_CACHE_HOME="+h.dir, "HELM_CONFIG_HOME="+h.dir, "HELM_DATA_HOME="+h.dir)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (h helm) uninstall(t *testing.T) {
	t.Helper()
	cmd := exec.Command("bin/helm", "uninstall", "coredns", "-n", "kube-system", "--kubeconfig", h.kubeconfig)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("helm uninstall: %v\n%s", err, out)
	}
}

// upgrade changes the Corefile in the values after an edit on the cluster: helm refuses to overwrite the edit unless a
// flag allows it, and then the new text is followed.
func (h helm) upgrade(t *testing.T, c *cluster.CoreDNS, values string) {
	t.Helper()
	values = strings.Replace(values, "      pods insecure\n", "      pods insecure\n      "+
		strings.ReplaceAll(live("10.9.1.1"), "\n", "\n      ")+"\n", 1)
	if out, err := h.try(t, values, "upgrade"); err == nil || !strings.Contains(out, "conflict") {
		t.Errorf("helm upgrade after an edit: %v\n%s", err, out)
	}
	h.run(t, values, "upgrade", "--force-conflicts")
	awaitLive(t, cluster.Dial(t, "udp", c.Addr), "10.9.1.1")
}

// The chart's Deployment equals that of base in everything that the values set. Its only flag is
// -conf.
func checkHelmDeployment(t *testing.T) {
	t.Helper()
	has, err := api(t).Client.AppsV1().Deployments("kube-system").Get(t.Context(), "coredns", meta.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var base apps.Deployment
	if err := yaml.Unmarshal([]byte(cluster.ReadFile(t, "../build/kubernetes/base/deployment.yaml")), &base); err != nil {
		t.Fatal(err)
	}
	got, want := has.Spec.Template.Spec, base.Spec.Template.Spec
	c, b := got.Containers[0], want.Containers[0]
	for name, values := range map[string][2]any{
		"replicas":            {has.Spec.Replicas, base.Spec.Replicas},
		"account":             {got.ServiceAccountName, want.ServiceAccountName},
		"priority class":      {got.PriorityClassName, want.PriorityClassName},
		"DNS policy":          {got.DNSPolicy, want.DNSPolicy},
		"node selector":       {got.NodeSelector, want.NodeSelector},
		"tolerations":         {got.Tolerations, want.Tolerations},
		"affinity":            {got.Affinity, want.Affinity},
		"spread":              {got.TopologySpreadConstraints, want.TopologySpreadConstraints},
		"pod's security":      {got.SecurityContext, want.SecurityContext},
		"container's":         {c.SecurityContext, b.SecurityContext},
		"image":               {c.Image, b.Image},
		"resources":           {c.Resources, b.Resources},
		"arguments":           {c.Args, b.Args[:2]},
		"readiness, period":   {c.ReadinessProbe.PeriodSeconds, b.ReadinessProbe.PeriodSeconds},
		"readiness, failures": {c.ReadinessProbe.FailureThreshold, b.ReadinessProbe.FailureThreshold},
		"readiness, delay":    {c.ReadinessProbe.InitialDelaySeconds, b.ReadinessProbe.InitialDelaySeconds},
	} {
		if got, want := text(t, values[0]), text(t, values[1]); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

package monitoring

import (
	"encoding/json"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	operator "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	core "k8s.io/api/core/v1"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"

	"github.com/kubehosts/kubehosts/test/cluster"
)

// folder is the folder under test.
const folder = "../../build/kubernetes/monitoring/"

// strictly decodes YAML. A field that the type lacks is an error.
func strictly(t *testing.T, text string, into any) {
	t.Helper()
	if err := yaml.UnmarshalStrict([]byte(text), into); err != nil {
		t.Fatal(err)
	}
}

// alerts are the groups of the PrometheusRule.
func alerts(t *testing.T) operator.PrometheusRuleSpec {
	t.Helper()
	var rule operator.PrometheusRule
	strictly(t, cluster.ReadFile(t, folder+"rules.yaml"), &rule)
	return rule.Spec
}

// each calls do for every alert.
func each(spec operator.PrometheusRuleSpec, do func(*operator.Rule)) {
	for g := range spec.Groups {
		for r := range spec.Groups[g].Rules {
			do(&spec.Groups[g].Rules[r])
		}
	}
}

// The component adds objects for the Prometheus Operator and Grafana to an overlay of the base, and changes nothing of
// the base.
func TestComponent(t *testing.T) {
	dir := t.TempDir()
	build := func(lines string) (objects []string) {
		lines = strings.ReplaceAll(lines, "../", relative(t, dir, "../../build/kubernetes")+"/")
		cluster.WriteFile(t, dir+"/kustomization.yaml", "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"+lines)
		made, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range made.Resources() {
			text, err := r.AsYAML()
			if err != nil {
				t.Fatal(err)
			}
			objects = append(objects, string(text))
		}
		return objects
	}
	base := build("resources: [../base]\n")
	var kinds []string
	for _, text := range build("resources: [../base]\ncomponents: [../monitoring]\n") {
		if slices.Contains(base, text) {
			continue
		}
		var head struct {
			Kind     string
			Metadata struct{ Namespace string }
		}
		if err := yaml.Unmarshal([]byte(text), &head); err != nil {
			t.Fatal(err)
		}
		kinds = append(kinds, head.Kind)
		if head.Metadata.Namespace != "kube-system" {
			t.Errorf("%s in namespace %q", head.Kind, head.Metadata.Namespace)
		}
		switch head.Kind {
		case "PrometheusRule":
			strictly(t, text, &operator.PrometheusRule{})
		case "PodMonitor":
			var m operator.PodMonitor
			strictly(t, text, &m)
			testPodMonitor(t, &m, base)
		case "ConfigMap":
			var c core.ConfigMap
			strictly(t, text, &c)
			if c.Labels["grafana_dashboard"] != "1" || c.Data["kubehosts.json"] != cluster.ReadFile(t, folder+"dashboard.json") {
				t.Errorf("the dashboard is not in %s", text)
			}
		}
	}
	slices.Sort(kinds)
	if got := strings.Join(kinds, " "); got != "ConfigMap PodMonitor PrometheusRule" {
		t.Errorf("the component adds %s", got)
	}
}

// relative returns the path of a folder relative to dir: kustomize only accepts relative bases.
func relative(t *testing.T, dir, folder string) string {
	t.Helper()
	folder, err := filepath.Abs(folder)
	if err != nil {
		t.Fatal(err)
	}
	path, err := filepath.Rel(dir, folder)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// testPodMonitor compares the PodMonitor with the pods of the base: it selects them by existing labels, scrapes an
// existing port, and sets the job that the alerts use.
func testPodMonitor(t *testing.T, m *operator.PodMonitor, base []string) {
	var pods struct {
		Spec struct{ Template core.PodTemplateSpec }
	}
	for _, text := range base {
		if strings.Contains(text, "\nkind: Deployment\n") {
			if err := yaml.Unmarshal([]byte(text), &pods); err != nil {
				t.Fatal(err)
			}
		}
	}
	template := &pods.Spec.Template
	for label, value := range m.Spec.Selector.MatchLabels {
		if template.Labels[label] != value {
			t.Errorf("the pods have %s=%q, and %q is selected", label, template.Labels[label], value)
		}
	}
	port := m.Spec.PodMetricsEndpoints[0].Port
	if port == nil || !slices.ContainsFunc(template.Spec.Containers[0].Ports, func(p core.ContainerPort) bool { return p.Name == *port }) {
		t.Error("the pods have no port of that name")
	}
	if job := template.Labels[m.Spec.JobLabel]; job != "kube-dns" {
		t.Errorf("job=%q", job)
	}
}

// Each alert has a summary of the problem, its place, and the remedy: README has a paragraph for
// each.
func TestRunbooks(t *testing.T) {
	readme := cluster.ReadFile(t, "../../README.md")
	_, chapter, _ := strings.Cut(readme, "\n## Alerts\n")
	chapter, _, _ = strings.Cut(chapter, "\n## ")
	explained := make(map[string]bool) // whether there is an alert
	for _, heading := range regexp.MustCompile(`(?m)^### (\w+)\n\n\S`).FindAllStringSubmatch(chapter, -1) {
		explained[heading[1]] = false
	}
	each(alerts(t), func(r *operator.Rule) {
		if _, ok := explained[r.Alert]; !ok {
			t.Errorf("README explains no %s", r.Alert)
		}
		explained[r.Alert] = true
		want := "https://github.com/kubehosts/kubehosts/blob/main/README.md#" + strings.ToLower(r.Alert)
		if r.Annotations["runbook_url"] != want || r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
			t.Errorf("annotations of %s: %q", r.Alert, r.Annotations)
		}
		if s := r.Labels["severity"]; s != "critical" && s != "warning" {
			t.Errorf("severity of %s: %q", r.Alert, s)
		}
		if !strings.Contains(r.Expr.StrVal, `job="kube-dns"`) {
			t.Errorf("%s looks at everything", r.Alert)
		}
	})
	for name, is := range explained {
		if !is {
			t.Errorf("README explains %s, and there is no such alert", name)
		}
	}
}

// The manual documents all metrics of the dashboard and the alerts, and the dashboard has nothing that Grafana rejects.
func TestDashboard(t *testing.T) {
	d := dashboard(t)
	manual := cluster.ReadFile(t, "../../plugin/README.md")
	exprs := d.exprs()
	each(alerts(t), func(r *operator.Rule) { exprs = append(exprs, r.Expr.StrVal) })
	for _, expr := range exprs {
		for _, name := range metricsOf(expr) {
			if strings.HasPrefix(name, "coredns_kubehosts_") && !strings.Contains(manual, "`"+family(name)+"{") && !strings.Contains(manual, "`"+family(name)+"`") {
				t.Errorf("the manual does not explain %s", name)
			}
		}
	}
	ids := make(map[int]string)
	for _, p := range d.Panels {
		if other, twice := ids[p.ID]; twice {
			t.Errorf("%q and %q have the id %d", p.Title, other, p.ID)
		}
		ids[p.ID] = p.Title
		if g := p.GridPos; g.W < 1 || g.H < 1 || g.X+g.W > 24 {
			t.Errorf("%q is at %+v", p.Title, g)
		}
		for _, o := range d.Panels {
			if o.ID != p.ID && p.GridPos.overlaps(o.GridPos) {
				t.Errorf("%q and %q overlap", p.Title, o.Title)
			}
		}
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("%q asks nothing", p.Title)
		}
		refs := make(map[string]bool)
		for _, target := range p.Targets {
			if refs[target.RefID] {
				t.Errorf("%q has %s twice", p.Title, target.RefID)
			}
			refs[target.RefID] = true
			if !strings.Contains(target.Expr, `job="$job",pod=~"$pod"`) {
				t.Errorf("%q asks for all jobs and pods: %s", p.Title, target.Expr)
			}
		}
	}
}

// Dashboard has the checked parts of a Grafana dashboard.
type Dashboard struct {
	Title       string
	Panels      []*Panel
	Annotations struct{ List []struct{ Expr string } }
}

// Panel is one of a Dashboard.
type Panel struct {
	ID          int
	Type, Title string
	GridPos     grid
	FieldConfig struct {
		Defaults struct {
			Unit   string
			Max    *float64
			Custom struct{ Stacking struct{ Mode string } }
		}
	}
	Targets []target
}

type target struct{ RefID, Expr, LegendFormat string }

type grid struct{ X, Y, W, H int }

func (g grid) overlaps(o grid) bool {
	return g.X < o.X+o.W && o.X < g.X+g.W && g.Y < o.Y+o.H && o.Y < g.Y+g.H
}

func dashboard(t *testing.T) *Dashboard {
	t.Helper()
	d := new(Dashboard)
	if err := json.Unmarshal([]byte(cluster.ReadFile(t, folder+"dashboard.json")), d); err != nil {
		t.Fatal(err)
	}
	return d
}

// exprs returns all queries.
func (d *Dashboard) exprs() (all []string) {
	for _, a := range d.Annotations.List {
		all = append(all, a.Expr)
	}
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			all = append(all, target.Expr)
		}
	}
	return all
}

var (
	groupings = regexp.MustCompile(`\b(?:by|on|group_left|group_right|without|ignoring)\s*\([^)]*\)`)
	noMetrics = regexp.MustCompile(`\{[^}]*\}|\[[^\]]*\]|"[^"]*"|\b(?:or|and|unless|offset\s+\w+)\b`)
	aName     = regexp.MustCompile(`\b([a-zA-Z_:][a-zA-Z0-9_:]*)\b\s*(\(?)`)
)

// metricsOf returns the names of metrics in an expression: the names that remain without selectors, ranges, groupings
// and functions.
func metricsOf(expr string) (names []string) {
	expr = noMetrics.ReplaceAllString(groupings.ReplaceAllString(expr, " "), ",")
	for _, m := range aName.FindAllStringSubmatch(expr, -1) {
		if m[2] == "" {
			names = append(names, m[1])
		}
	}
	return names
}

// family returns the metric that a histogram's series belongs to.
func family(name string) string {
	return strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_count")
}

func TestMetricsOf(t *testing.T) {
	for expr, want := range map[string]string{
		`absent(up{job="kube-dns"} == 1)`: "up",
		`histogram_quantile(0.99, sum by (server, zone, le) (rate(a_bucket{job="x"}[5m]))) > 4`: "a_bucket",
		`time() - (a{b="c"} or on (d) (0 * e + on (f) group_left () g{h="i"})) > 3600`:          "a e g",
		`max by (k) (increase(a[15m]) > 0 or (a > 0 unless a offset 15m))`:                      "a a a",
		"count by (job)\n(count without (hash) (info))":                                         "info",
	} {
		if got := strings.Join(metricsOf(expr), " "); got != want {
			t.Errorf("%s: %q, want %q", expr, got, want)
		}
	}
}

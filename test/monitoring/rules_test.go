package monitoring

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	operator "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"sigs.k8s.io/yaml"

	"github.com/kubehosts/kubehosts/test/cluster"
)

// writeRules writes the groups of a PrometheusRule into dir, in the format of Prometheus's own rule files, and returns
// the path.
func writeRules(t *testing.T, dir string, spec operator.PrometheusRuleSpec) string {
	t.Helper()
	text, err := yaml.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "rules.yml")
	cluster.WriteFile(t, path, string(text))
	return path
}

func promtool(t *testing.T, args ...string) {
	t.Helper()
	out, err := exec.Command("promtool", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	t.Logf("%s", out)
}

// promtool accepts the alerts, and they fire when they should, with their real durations. Each one is tested.
func TestRules(t *testing.T) {
	dir := t.TempDir()
	spec := alerts(t)
	promtool(t, "check", "rules", writeRules(t, dir, spec))
	text := cluster.ReadFile(t, "testdata/alerts_test.yaml")
	tests := filepath.Join(dir, "alerts_test.yaml")
	cluster.WriteFile(t, tests, text)
	promtool(t, "test", "rules", tests)

	fires := make(map[string]bool)
	var all struct {
		Tests []struct {
			Alerts []struct {
				Name   string `json:"alertname"`
				Expect []struct {
					Labels map[string]string `json:"exp_labels"`
				} `json:"exp_alerts"`
			} `json:"alert_rule_test"`
		}
	}
	if err := yaml.Unmarshal([]byte(text), &all); err != nil {
		t.Fatal(err)
	}
	quiet := make(map[string]bool)
	for _, test := range all.Tests {
		for _, a := range test.Alerts {
			quiet[a.Name] = quiet[a.Name] || len(a.Expect) == 0
			for _, e := range a.Expect {
				fires[a.Name+" "+e.Labels["severity"]] = true
			}
		}
	}
	each(spec, func(r *operator.Rule) {
		if !fires[r.Alert+" "+r.Labels["severity"]] || !quiet[r.Alert] {
			t.Errorf("%s (%s) is not tested to fire and to be quiet", r.Alert, r.Labels["severity"])
		}
	})
}

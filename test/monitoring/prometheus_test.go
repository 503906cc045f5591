package monitoring

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	operator "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"github.com/prometheus/common/model"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/kubehosts/kubehosts/test/cluster"
)

// sped is the factor by which the durations of the alerts are shortened here. Five minutes become 2.5 seconds.
const sped = 120

// scraping is the interval at which Prometheus scrapes and evaluates.
const scraping = 500 * time.Millisecond

var (
	ranges    = regexp.MustCompile(`(\[|offset )(\d+[hm])\b`)
	threshold = regexp.MustCompile(`> (\d+)\s*$`)
)

// shorter divides each duration of the alerts by sped: `for`, ranges, offsets, and ages in seconds, the number at the
// end of an expression that begins with time(). Nothing else changes.
func shorter(t *testing.T, spec operator.PrometheusRuleSpec) operator.PrometheusRuleSpec {
	t.Helper()
	short := func(text string) string {
		d, err := model.ParseDuration(text)
		if err != nil {
			t.Fatal(err)
		}
		return model.Duration(time.Duration(d) / sped).String()
	}
	each(spec, func(r *operator.Rule) {
		if r.For != nil {
			d := operator.Duration(short(string(*r.For)))
			r.For = &d
		}
		expr := ranges.ReplaceAllStringFunc(r.Expr.StrVal, func(part string) string {
			m := ranges.FindStringSubmatch(part)
			return m[1] + short(m[2])
		})
		if strings.HasPrefix(expr, "time()") {
			expr = threshold.ReplaceAllStringFunc(expr, func(part string) string {
				seconds, err := strconv.ParseFloat(threshold.FindStringSubmatch(part)[1], 64)
				if err != nil {
					t.Fatal(err)
				}
				return fmt.Sprintf("> %g", seconds/sped)
			})
		}
		r.Expr = intstr.FromString(expr)
	})
	return spec
}

func TestShorter(t *testing.T) {
	for _, tc := range [][2]string{
		{`rate(a[5m]) > 4`, `rate(a[2s500ms]) > 4`},
		{"time() - a > 3600\n", "time() - a > 30"},
		{`increase(a[1h]) > 0 or (a unless a offset 15m)`, `increase(a[30s]) > 0 or (a unless a offset 7s500ms)`},
	} {
		before := operator.Duration("10m")
		spec := operator.PrometheusRuleSpec{Groups: []operator.RuleGroup{{Rules: []operator.Rule{{Expr: intstr.FromString(tc[0]), For: &before}}}}}
		shorter(t, spec)
		if r := spec.Groups[0].Rules[0]; r.Expr.StrVal != tc[1] || *r.For != "5s" {
			t.Errorf("%s: %s for %s, want %s", tc[0], r.Expr.StrVal, *r.For, tc[1])
		}
	}
}

// prometheus is a running Prometheus.
type prometheus struct {
	url string
	t   *testing.T
}

// startPrometheus runs Prometheus with the alerts. It scrapes the replicas, by their names, as configured by the
// PodMonitor. It ends with the test.
func startPrometheus(t *testing.T, replicas map[string]*cluster.CoreDNS) *prometheus {
	t.Helper()
	dir := t.TempDir()
	writeRules(t, dir, shorter(t, alerts(t)))
	var targets strings.Builder
	for name, c := range replicas {
		fmt.Fprintf(&targets, "  - targets: [%q]\n    labels: {namespace: kube-system, container: coredns, pod: %s}\n", c.MetricsAddr(), name)
	}
	config := filepath.Join(dir, "prometheus.yml")
	cluster.WriteFile(t, config, fmt.Sprintf(`
global: {scrape_interval: %[1]v, scrape_timeout: %[1]v, evaluation_interval: %[1]v}
rule_files: [rules.yml]
scrape_configs:
- job_name: kube-dns
  static_configs:
%[2]s`, scraping, targets.String()))
	addr := fmt.Sprintf("127.0.0.1:%d", cluster.FreePort())
	log := filepath.Join(dir, "prometheus.log")
	p, err := cluster.Spawn(dir, log, "prometheus", "--config.file", config, "--storage.tsdb.path", filepath.Join(dir, "data"),
		"--web.listen-address", addr, "--log.level", "warn")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Log(cluster.Tail(log))
		}
	})
	prom := &prometheus{"http://" + addr, t}
	cluster.Eventually(t, 20*time.Second, func() (bool, string) {
		if p.Ended() {
			t.Fatal("Prometheus ended")
		}
		res, err := http.Get(prom.url + "/-/ready")
		if err != nil {
			return false, err.Error()
		}
		res.Body.Close()
		return res.StatusCode == http.StatusOK, res.Status
	})
	return prom
}

// get calls the API of Prometheus.
func (p *prometheus) get(path string, query url.Values, into any) {
	p.t.Helper()
	res, err := http.Get(p.url + path + "?" + query.Encode())
	if err != nil {
		p.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	if res.StatusCode != http.StatusOK {
		p.t.Fatalf("%s %v: %s", path, query, body)
	}
	if err := json.Unmarshal(body, &struct{ Data any }{into}); err != nil {
		p.t.Fatalf("%s: %v in %s", path, err, body)
	}
}

// scrapes returns how often each replica was scraped.
func (p *prometheus) scrapes() int {
	p.t.Helper()
	least := math.MaxInt
	all := p.queryRange(`count_over_time(up{job="$job"}[10m])`, time.Now())
	for _, s := range all {
		least = min(least, int(s.values[0]))
	}
	if len(all) == 0 {
		return 0
	}
	return least
}

// active returns the alerts in one of the states, each as its name, a blank and its severity, as of now or a moment
// later: polling more often gives nothing new.
func (p *prometheus) active(states ...string) map[string]bool {
	p.t.Helper()
	<-time.After(scraping / 2)
	var all struct {
		Alerts []struct {
			State  string
			Labels map[string]string
		}
	}
	p.get("/api/v1/alerts", nil, &all)
	active := make(map[string]bool)
	for _, a := range all.Alerts {
		if slices.Contains(states, a.State) {
			active[a.Labels["alertname"]+" "+a.Labels["severity"]] = true
		}
	}
	return active
}

// series is the result of a range query for one set of labels.
type series struct {
	labels map[string]string
	at     []float64 // Unix time
	values []float64
}

// queryRange runs an expression of the dashboard, with Grafana's variables filled in, from start until now.
func (p *prometheus) queryRange(expr string, start time.Time) (all []series) {
	p.t.Helper()
	expr = strings.NewReplacer("$__rate_interval", (4 * scraping).String(), "$job", "kube-dns", "$pod", ".*").Replace(expr)
	var got struct {
		Result []struct {
			Metric map[string]string
			Values [][2]any
		}
	}
	p.get("/api/v1/query_range", url.Values{
		"query": {expr}, "step": {scraping.String()},
		"start": {fmt.Sprint(start.Unix())}, "end": {fmt.Sprint(time.Now().Unix())},
	}, &got)
	for _, r := range got.Result {
		s := series{labels: r.Metric}
		for _, v := range r.Values {
			at, _ := v[0].(float64)
			text, _ := v[1].(string)
			value, err := strconv.ParseFloat(text, 64)
			if err != nil {
				p.t.Fatalf("%s: %v", expr, err)
			}
			if math.IsNaN(value) || math.IsInf(value, 0) {
				continue
			}
			s.at, s.values = append(s.at, at), append(s.values, value)
		}
		if len(s.at) > 0 {
			all = append(all, s)
		}
	}
	return all
}

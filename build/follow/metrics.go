package follow

import (
	"github.com/coredns/coredns/plugin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/kubehosts/kubehosts/plugin/safe"
	"github.com/kubehosts/kubehosts/plugin/stanza"
)

func options(name, help string) prometheus.Opts {
	return prometheus.Opts{Namespace: plugin.Namespace, Subsystem: stanza.Name, Name: name, Help: help}
}

var (
	rejected = promauto.NewCounter(prometheus.CounterOpts(options("corefile_rejected_total", "Corefiles of the ConfigMap that were refused.")))
	applied  = promauto.NewCounterVec(prometheus.CounterOpts(options("corefile_applied_total",
		"Edits of the Corefile's ConfigMap that were applied: in_place or restart.")), []string{"how"})
	appliedAt = describe("corefile_applied_timestamp_seconds", "Unix time at which the Corefile that serves was applied.")
	info      = describe("corefile_info", "The Corefile that serves: where it came from (configmap, last-good or file) and its hash. Always 1.", "origin", "hash")
	now       = describe("corefile_rejected", "1 while the ConfigMap of the Corefile can't be applied and an older one serves, else 0.")
)

// Both counters start at 0, or Prometheus would not see the first edit as an increase.
func init() {
	applied.WithLabelValues(inPlace)
	applied.WithLabelValues(byRestart)
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, stanza.Name, name), help, labels, nil)
}

// Describe implements prometheus.Collector.
func (f *Follower) Describe(ch chan<- *prometheus.Desc) { ch <- appliedAt; ch <- info; ch <- now }

// Collect implements prometheus.Collector.
func (f *Follower) Collect(ch chan<- prometheus.Metric) {
	safe.Scraped("the Corefile", func() { f.collect(ch) })
}

func (f *Follower) collect(ch chan<- prometheus.Metric) {
	f.mu.Lock()
	s, refused := f.serving, f.refused.why
	f.mu.Unlock()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	if s != nil {
		gauge(info, 1, s.origin, s.hash)
		gauge(appliedAt, float64(s.since.UnixNano())/1e9)
	}
	isRefused := 0.0
	if refused != "" {
		isRefused = 1
	}
	gauge(now, isRefused)
}

package live

import (
	"slices"
	"strings"

	"github.com/coredns/coredns/plugin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/kubehosts/kubehosts/plugin/safe"
	"github.com/kubehosts/kubehosts/plugin/stanza"
)

// The label block is the name of the server block: its first key as CoreDNS writes it, dns://.:53, and its view, if it
// has one.
var (
	stanzaRejected = promauto.NewCounterVec(prometheus.CounterOpts{
		Namespace: plugin.Namespace,
		Subsystem: stanza.Name,
		Name:      "stanza_rejected_total",
		Help:      "Stanzas of the ConfigMap that were refused.",
	}, []string{"block"})

	snapshotErrors = promauto.NewCounterVec(prometheus.CounterOpts{
		Namespace: plugin.Namespace,
		Subsystem: stanza.Name,
		Name:      "snapshot_errors_total",
		Help:      "Times that the snapshot could not be read or written.",
	}, []string{"block"})
)

// The gauges of server blocks are read from the Blocks at each scrape. So they are right during a reload and after a
// failed one, and disappear with their server block.
var (
	stanzaInfo = describe("stanza_info", "The stanza that serves: where it came from (corefile, configmap or snapshot) and its hash. Always 1.",
		"block", "origin", "hash")
	stanzaApplied     = describe("stanza_applied_timestamp_seconds", "Unix time at which the stanza that serves was applied.", "block")
	stanzaRejectedNow = describe("stanza_rejected", "1 while the ConfigMap can't be applied and an older stanza serves, else 0.", "block")
	externalConflicts = describe("external_conflicts", "Names in zones of external options that an object claims and does not have.", "block")
	snapshotWritten   = describe("snapshot_timestamp_seconds", "Unix time at which the snapshot was last written.", "block")
	snapshotSize      = describe("snapshot_size_bytes", "Size of the snapshot that was last written.", "block")
)

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, stanza.Name, name), help, labels, nil)
}

func init() { prometheus.MustRegister(gauges{}, fileMetrics{}) }

// gauges is the collector of the gauges of server blocks.
type gauges struct{}

// Describe implements prometheus.Collector.
func (gauges) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{stanzaInfo, stanzaApplied, stanzaRejectedNow, externalConflicts, snapshotWritten, snapshotSize} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (gauges) Collect(ch chan<- prometheus.Metric) {
	safe.Scraped("server blocks", func() {
		for _, b := range blocks.newest() {
			safe.Scraped("server block "+b.name, func() { b.collect(ch) })
		}
	})
}

// collect sends the gauges of b.
func (b *Block) collect(ch chan<- prometheus.Metric) {
	s := b.serving.Load()
	if s == nil {
		return
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, append([]string{b.name}, labels...)...)
	}
	gauge(stanzaInfo, 1, s.origin, s.hash)
	gauge(stanzaApplied, float64(s.since.UnixNano())/1e9)
	refused := 0.0
	if b.Refused() != "" {
		refused = 1
	}
	gauge(stanzaRejectedNow, refused)
	if len(s.conflicts) > 0 {
		gauge(externalConflicts, float64(s.losers()))
	}
	if b.snapshot == nil {
		return
	}
	if w := b.snapshot.last.Load(); w != nil {
		gauge(snapshotWritten, float64(w.at.Unix()))
		gauge(snapshotSize, float64(w.size))
	}
}

// maxFileLabels limits the values of a metric's label file. All other files are counted together under otherFiles.
const (
	maxFileLabels = 1000
	otherFiles    = "(others)"
)

var (
	hostsEntries = prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, stanza.Name, "hosts_entries"),
		"Addresses and PTR targets that a hosts file has for a server block.", []string{"block", "file"}, nil)
	hostsReload = prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, stanza.Name, "hosts_reload_timestamp_seconds"),
		"Unix time of the last change of a hosts file that serves.", []string{"file"}, nil)
	hostsRejected = prometheus.NewDesc(prometheus.BuildFQName(plugin.Namespace, stanza.Name, "hosts_rejected_total"),
		"Times that a hosts file could not be used and its last entries went on serving.", []string{"file"}, nil)
)

// fileMetrics are the metrics of hosts files at the time of a scrape. A deleted file has none.
type fileMetrics struct{}

// fileCount holds the figures of a hosts file.
type fileCount struct {
	entries  map[string]int // by server block
	modified float64        // Unix time, 0 if it was never read
	rejected int
}

// Describe implements prometheus.Collector.
func (fileMetrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{hostsEntries, hostsReload, hostsRejected} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (fileMetrics) Collect(out chan<- prometheus.Metric) {
	safe.Scraped("hosts files", func() { openTables.collect(out) })
}

// collect sends the figures of all hosts files.
func (s *tableSet) collect(out chan<- prometheus.Metric) {
	for file, n := range s.count() {
		for block, entries := range n.entries {
			out <- prometheus.MustNewConstMetric(hostsEntries, prometheus.GaugeValue, float64(entries), block, file)
		}
		if n.modified != 0 {
			out <- prometheus.MustNewConstMetric(hostsReload, prometheus.GaugeValue, n.modified, file)
		}
		out <- prometheus.MustNewConstMetric(hostsRejected, prometheus.CounterValue, float64(n.rejected), file)
	}
}

// count counts the hosts files, by their label.
func (s *tableSet) count() map[string]*fileCount {
	all := make(map[string]*fileCount)
	s.mu.Lock()
	for _, t := range s.all {
		t.count(all)
	}
	s.mu.Unlock()
	if len(all) <= maxFileLabels {
		return all
	}
	names := make([]string, 0, len(all))
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	rest := &fileCount{entries: make(map[string]int)}
	for _, name := range names[maxFileLabels-1:] {
		n := all[name]
		for block, entries := range n.entries {
			rest.entries[block] += entries
		}
		rest.modified = max(rest.modified, n.modified)
		rest.rejected += n.rejected
		delete(all, name)
	}
	all[otherFiles] = rest
	return all
}

// count adds the files of t to all. A file that matches several FILEs counts once for a server block. openTables.mu is
// held.
func (t *fileTables) count(all map[string]*fileCount) {
	files := t.files.Load()
	if files == nil {
		return // the files are being opened
	}
	for _, f := range files.All() {
		label := safe.Printable(f.Path)
		n := all[label]
		if n == nil {
			n = &fileCount{entries: make(map[string]int)}
			all[label] = n
		}
		n.rejected += f.Refused
		if !f.Good {
			continue
		}
		n.modified = max(n.modified, float64(f.Modified.UnixNano())/1e9)
		for u := range t.users {
			block := strings.ToValidUTF8(u.block, "\uFFFD")
			n.entries[block] = max(n.entries[block], f.Content.Len())
		}
	}
}

package live

import (
	"github.com/coredns/coredns/plugin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/kubehosts/kubehosts/plugin/stanza"
)

// The label block is the first key of the server block, as CoreDNS writes it: dns://.:53.
var (
	stanzaInfo = promauto.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: plugin.Namespace,
		Subsystem: stanza.Name,
		Name:      "stanza_info",
		Help:      "The stanza that serves: where it came from (corefile or configmap) and its hash. Always 1.",
	}, []string{"block", "origin", "hash"})

	stanzaApplied = promauto.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: plugin.Namespace,
		Subsystem: stanza.Name,
		Name:      "stanza_applied_timestamp_seconds",
		Help:      "Unix time at which the stanza that serves was applied.",
	}, []string{"block"})

	stanzaRejected = promauto.NewCounterVec(prometheus.CounterOpts{
		Namespace: plugin.Namespace,
		Subsystem: stanza.Name,
		Name:      "stanza_rejected_total",
		Help:      "Stanzas of the ConfigMap that were refused.",
	}, []string{"block"})

	stanzaRejectedNow = promauto.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: plugin.Namespace,
		Subsystem: stanza.Name,
		Name:      "stanza_rejected",
		Help:      "1 while the ConfigMap can't be applied and an older stanza serves, else 0.",
	}, []string{"block"})

	snapshotWritten = promauto.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: plugin.Namespace,
		Subsystem: stanza.Name,
		Name:      "snapshot_timestamp_seconds",
		Help:      "Unix time at which the snapshot was last written.",
	}, []string{"block"})

	snapshotSize = promauto.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: plugin.Namespace,
		Subsystem: stanza.Name,
		Name:      "snapshot_size_bytes",
		Help:      "Size of the snapshot that was last written.",
	}, []string{"block"})

	snapshotErrors = promauto.NewCounterVec(prometheus.CounterOpts{
		Namespace: plugin.Namespace,
		Subsystem: stanza.Name,
		Name:      "snapshot_errors_total",
		Help:      "Times that the snapshot could not be read or written.",
	}, []string{"block"})

	hostsEntries = promauto.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: plugin.Namespace,
		Subsystem: stanza.Name,
		Name:      "hosts_entries",
		Help:      "Addresses and PTR targets that a hosts file gives.",
	}, []string{"file"})

	hostsReload = promauto.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: plugin.Namespace,
		Subsystem: stanza.Name,
		Name:      "hosts_reload_timestamp_seconds",
		Help:      "Unix time of the last change of a hosts file that serves.",
	}, []string{"file"})

	hostsRejected = promauto.NewCounterVec(prometheus.CounterOpts{
		Namespace: plugin.Namespace,
		Subsystem: stanza.Name,
		Name:      "hosts_rejected_total",
		Help:      "Times that a hosts file could not be used and its last entries went on serving.",
	}, []string{"file"})
)

// Package monitoring tests the content of build/kubernetes/monitoring: the alerts with promtool, and alerts and
// dashboard with a real Prometheus that scrapes the real coredns during faults. `make monitoring` runs it. It needs
// prometheus and promtool.
package monitoring

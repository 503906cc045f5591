// Package monitoring tests what build/kubernetes/monitoring ships: the alerts by promtool, and alerts and dashboard in a real
// Prometheus that scrapes the real coredns while things break. `make monitoring` runs it. It needs prometheus and promtool.
package monitoring

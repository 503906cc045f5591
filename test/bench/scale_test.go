package bench

import (
	"fmt"
	"os"
	"testing"
)

// sizes of the clusters, in Services with 10 endpoints.
var sizes = []int{10, 100, 1000, 10_000, 100_000}

// The largest cluster and one of 1,000 Services take turns, so that disturbances of the machine affect both.
const (
	turns      = 12
	stockTurns = 3 // stock takes half a minute to start
)

// scale measures the time of an answer and the memory for an endpoint, from 100 endpoints to 1,000,000: the plot, and
// how the largest cluster compares with one of 1,000 Services. It sends 500 different queries, spread over all
// Services.
func scale(t *testing.T) {
	const thousand = 2
	last := len(sizes) - 1
	stock, ours := make([]figures, len(sizes)), make([]figures, len(sizes))
	var kubeconfigs []string
	for i, n := range sizes {
		progress("scale, %d endpoints", n*endpointsEach)
		kubeconfigs = append(kubeconfigs, serve(t, n, 0).kubeconfig(t))
		for range rounds {
			if i < last {
				ours[i].measure(t, "BenchmarkServices", "kubehosts", kubeconfigs[i], n, short)
				stock[i].measure(t, "BenchmarkServices", "kubernetes", kubeconfigs[i], n, short)
			}
		}
	}
	// longer returns how much longer an answer takes in the largest cluster, the median of the turns, and adds
	// that cluster's figures to of.
	longer := func(plugin string, turns int, of *figures) float64 {
		var beside figures
		var ratios []float64
		for turn := range turns {
			progress("scale, %s, turn %d of %d", plugin, turn+1, turns)
			of.measure(t, "BenchmarkServices", plugin, kubeconfigs[last], sizes[last], long)
			beside.measure(t, "BenchmarkServices", plugin, kubeconfigs[thousand], sizes[thousand], long)
			ratios = append(ratios, of.values["ClusterIP-A"]["sec/op"][turn]/beside.values["ClusterIP-A"]["sec/op"][turn])
		}
		return median(ratios) - 1
	}
	oursLonger, stockLonger := longer("kubehosts", turns, &ours[last]), longer("kubernetes", stockTurns, &stock[last])
	series := func(of []figures, unit string, factor func(n int) float64) (values []float64) {
		for i, n := range sizes {
			v, _ := of[i].of("ClusterIP-A", unit)
			if unit == unitHeld {
				v, _ = of[i].of("memory", unit)
			}
			values = append(values, v*factor(n))
		}
		return values
	}
	time := func(of []figures) []float64 { return series(of, "sec/op", func(int) float64 { return 1e6 }) }
	memory := func(of []figures) []float64 {
		return series(of, unitHeld, func(n int) float64 { return float64(n*endpointsEach) / 1e6 })
	}
	var endpoints []float64
	for _, n := range sizes {
		endpoints = append(endpoints, float64(n*endpointsEach))
	}
	svg := plot(endpoints,
		panel{"an answer, ClusterIP A in process", "µs", time(stock), time(ours)},
		panel{"heap for Services and endpoints", "MB", memory(stock), memory(ours)})
	if err := os.WriteFile("scale.svg", []byte(svg), 0o644); err != nil {
		t.Error(err)
	}

	a, b := time(stock), time(ours)
	text := func(v []float64, longer float64) string {
		return fmt.Sprintf("%.2f µs, %+.0f %%", v[last], 100*longer)
	}
	table.add("ClusterIP A with 100,000 Services, against 1,000", text(a, stockLonger), text(b, oursLonger),
		times(a[last]/b[last]), "≤ 20 % more", oursLonger <= 0.2)
	a, b = memory(stock), memory(ours)
	bytes := func(v []float64) string { return fmt.Sprintf("%.0f B", v[last]*1e6/endpoints[last]) }
	table.add("heap for an endpoint, of 1,000,000", bytes(a), bytes(b), times(a[last]/b[last]), "", false)
}

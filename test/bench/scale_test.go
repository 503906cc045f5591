package bench

import (
	"fmt"
	"os"
	"testing"
)

// sizes of the worlds, in Services of 10 endpoints.
var sizes = []int{10, 100, 1000, 10_000, 100_000}

// scale is the time of an answer and the memory for an endpoint from 100 endpoints to 1,000,000: the plot, and how the
// largest world compares with one of 1,000 Services. The questions are 1,000, spread over all Services that there are.
func scale(t *testing.T) {
	const thousand = 2
	last := len(sizes) - 1
	stock, ours := make([]figures, len(sizes)), make([]figures, len(sizes))
	var stockBeside, oursBeside figures // of 1,000 Services, in turns with the largest world
	var kubeconfigs []string
	for i, n := range sizes {
		progress("scale, %d endpoints", n*endpointsEach)
		kubeconfigs = append(kubeconfigs, serve(t, n, 0).kubeconfig(t))
		for round := range rounds {
			ours[i].measure(t, "BenchmarkServices", "kubehosts", kubeconfigs[i], n)
			if i == last {
				oursBeside.measure(t, "BenchmarkServices", "kubehosts", kubeconfigs[thousand], sizes[thousand])
			}
			if i == last && round > 0 {
				continue // stock takes half a minute to start
			}
			stock[i].measure(t, "BenchmarkServices", "kubernetes", kubeconfigs[i], n)
			if i == last {
				stockBeside.measure(t, "BenchmarkServices", "kubernetes", kubeconfigs[thousand], sizes[thousand])
			}
		}
	}
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
	text := func(v []float64, beside float64) string {
		return fmt.Sprintf("%.2f µs, %+.0f %%", v[last], 100*(v[last]/beside-1))
	}
	stockThousand, _ := stockBeside.of("ClusterIP-A", "sec/op")
	thousandNow, _ := oursBeside.of("ClusterIP-A", "sec/op")
	table.add("ClusterIP A with 100,000 Services, against 1,000", text(a, stockThousand*1e6), text(b, thousandNow*1e6),
		times(a[last]/b[last]), "≤ 20 % more", b[last] <= 1.2*thousandNow*1e6)
	a, b = memory(stock), memory(ours)
	bytes := func(v []float64) string { return fmt.Sprintf("%.0f B", v[last]*1e6/endpoints[last]) }
	table.add("heap for an endpoint, of 1,000,000", bytes(a), bytes(b), times(a[last]/b[last]), "", false)
}

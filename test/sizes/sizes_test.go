// Package sizes measures what the images weigh: on disk, on the wire, and in memory beside the stock plugin.
package sizes

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/kubehosts/kubehosts/test/cluster"
)

const (
	out      = "../../build/image/out/" // of make image
	services = 8000
	each     = 10 // endpoints
)

// TestSizes prints a line for each program: resident memory of a replica on an empty cluster and on one of 8,000
// Services with 80,000 endpoints, each on its own, with the Corefile of kube-system.
func TestSizes(t *testing.T) {
	ctx := context.Background()
	programs := []struct{ name, path, plugin, image string }{
		{"full", out + "linux-" + runtime.GOARCH + "/coredns", "kubehosts", out + "kubehosts.tar"},
		{"slim", out + "linux-" + runtime.GOARCH + "/coredns-slim", "kubehosts", out + "kubehosts-slim.tar"},
		{"stock", "../bin/stock", "kubernetes", ""},
	}
	a, err := cluster.Start(ctx, absolute(t, "../bin/kube"), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Stop)
	a.Apply(t, cluster.ReadFile(t, "../../build/kubernetes/rbac/rbac.yaml"))
	kubeconfig := cluster.Kubeconfig(t, a.URL, a.Account(t, "kube-system", "coredns").Token)

	measure := func(when string) (now, peak map[string]int) {
		now, peak = map[string]int{}, map[string]int{}
		for _, p := range programs {
			t.Run(when+"/"+p.name, func(t *testing.T) {
				c := cluster.Run(t, absolute(t, p.path), corefile(t, p.plugin, kubeconfig))
				time.Sleep(30 * time.Second) // the collector gives back what the start needed
				now[p.name], peak[p.name] = c.Memory(t)
			})
		}
		return now, peak
	}
	empty, _ := measure("empty")
	a.Fill(t, services, each)
	loaded, peak := measure("full")

	t.Logf("MB: binary, image packed, resident empty, resident with %d Services and %d endpoints, its peak", services, services*each)
	for _, p := range programs {
		t.Logf("%-5s %6.1f %6.1f %6.1f %6.1f %6.1f", p.name, size(p.path), size(p.image), mb(empty[p.name]), mb(loaded[p.name]), mb(peak[p.name]))
	}
}

// corefile is that of the base, with free ports and without what needs a network.
func corefile(t *testing.T, plugin, kubeconfig string) string {
	t.Helper()
	text := cluster.ReadFile(t, "../../build/kubernetes/base/Corefile")
	for from, to := range map[string]string{
		".:53 {\n": ".:PORT {\n    bind 127.0.0.1\n",
		"    health {\n        lameduck 5s\n    }\n": "",
		"    ready\n":                "    ready READY\n",
		"prometheus :9153":           "prometheus METRICS",
		"forward . /etc/resolv.conf": "forward . 127.0.0.1:OTHER",
		"    loop\n":                 "",
		"        status\n":           "",
		"        pods insecure\n":    "        pods insecure\n        kubeconfig " + kubeconfig + "\n",
	} {
		if !strings.Contains(text, from) {
			t.Fatalf("no %q in the Corefile", from)
		}
		text = strings.Replace(text, from, to, 1)
	}
	if plugin == "kubehosts" {
		return text
	}
	text = strings.Replace(text, "    kubehosts", "    "+plugin, 1)
	text = strings.Replace(text, "        configmap kube-system/coredns\n", "", 1)
	from, to := strings.Index(text, "        hosts {"), strings.Index(text, "        fallthrough")
	return text[:from] + text[to:]
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// size of a file in MB, 0 for none.
func size(path string) float64 {
	if fi, err := os.Stat(path); err == nil {
		return mb(int(fi.Size()))
	}
	return 0
}

func mb(bytes int) float64 { return float64(bytes) / 1e6 }

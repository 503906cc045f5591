// Package sizes measures what the images weigh: on disk, on the wire, and in memory beside the stock plugin.
package sizes

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	core "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/kubehosts/kubehosts/test/cluster"
)

const (
	out      = "../../build/image/out/" // of make image
	services = 8000                     // every other one headless
	each     = 10                       // endpoints
)

// TestSizes prints a line for each program: resident memory of a replica on an empty cluster and on one of 8,000 Services
// with 80,000 endpoints, each on its own, with the Corefile of kube-system.
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
	fill(t, a)
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

// fill creates the Services and their EndpointSlices.
func fill(t *testing.T, a *cluster.API) {
	t.Helper()
	config := rest.CopyConfig(a.Config)
	config.ContentType = "application/vnd.kubernetes.protobuf"
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	a.Apply(t, "apiVersion: v1\nkind: Namespace\nmetadata: {name: load}\n")
	next := make(chan int)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for i := range next {
				if err := create(client, i); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range services {
		next <- i
	}
	close(next)
	wg.Wait()
}

func create(client *kubernetes.Clientset, i int) error {
	ctx := context.Background()
	name, port := fmt.Sprintf("service-%d", i), "http"
	s := &core.Service{ObjectMeta: meta.ObjectMeta{Name: name}, Spec: core.ServiceSpec{
		Selector: map[string]string{"app": name},
		Ports:    []core.ServicePort{{Name: port, Port: 80}},
	}}
	if i%2 == 1 {
		s.Spec.ClusterIP = core.ClusterIPNone
	}
	if _, err := client.CoreV1().Services("load").Create(ctx, s, meta.CreateOptions{}); err != nil {
		return err
	}
	number, ready := int32(8080), true
	slice := &discovery.EndpointSlice{
		ObjectMeta:  meta.ObjectMeta{Name: name + "-abcde", Labels: map[string]string{discovery.LabelServiceName: name}},
		AddressType: discovery.AddressTypeIPv4,
		Ports:       []discovery.EndpointPort{{Name: &port, Port: &number}},
	}
	for j := range each {
		n := i*each + j
		node := fmt.Sprintf("node-%d", n%100)
		slice.Endpoints = append(slice.Endpoints, discovery.Endpoint{
			Addresses:  []string{fmt.Sprintf("10.%d.%d.%d", 128+n>>16, n>>8&255, n&255)},
			Conditions: discovery.EndpointConditions{Ready: &ready, Serving: &ready},
			NodeName:   &node,
			TargetRef:  &core.ObjectReference{Kind: "Pod", Namespace: "load", Name: fmt.Sprintf("%s-6d4cf56db6-%05d", name, j)},
		})
	}
	_, err := client.DiscoveryV1().EndpointSlices("load").Create(ctx, slice, meta.CreateOptions{})
	return err
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

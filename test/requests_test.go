package test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/kubehosts/kubehosts/test/cluster"
)

const (
	slicesResource = "endpointslices.discovery.k8s.io"
	protobuf       = "application/vnd.kubernetes.protobuf"
)

// What a stanza asks of the API server is what it needs, and how it asks is what costs least.
func TestRequests(t *testing.T) {
	objects(t, shop)
	objects(t, cluster.ReadFile(t, "../build/kubernetes/rbac/pods.yaml"))
	for _, tt := range []struct {
		zones, options string
		want           map[string]string // resource and its selector
	}{
		{"cluster.local", "", map[string]string{"services": "", "namespaces": "", slicesResource: ""}},
		{"cluster.local", "noendpoints", map[string]string{"services": "", "namespaces": ""}},
		{"cluster.local", "pods insecure\nnamespaces shop", map[string]string{"services": "", "namespaces": "", slicesResource: ""}},
		{"cluster.local", "pods verified", map[string]string{"services": "", "namespaces": "", slicesResource: "", "pods": ""}},
		{"cluster.local", "labels tier=web,!gone\npods verified", map[string]string{
			"services": "!gone,tier=web", "namespaces": "", slicesResource: "!gone,tier=web", "pods": "!gone,tier=web"}},
		{"cluster.local", "namespace_labels env in (prod, test)", map[string]string{
			"services": "", "namespaces": "env in (prod,test)", slicesResource: ""}},
		{"cluster.local", "configmap kube-system/coredns", map[string]string{
			"services": "", "namespaces": "", slicesResource: "", "configmaps": "metadata.name=coredns"}},
		{"", "configmap coredns\nhosts {\n192.0.2.1 live.example.org\n}", map[string]string{"configmaps": "metadata.name=coredns"}},
		{"", "hosts {\n192.0.2.1 live.example.org\n}", map[string]string{}},
	} {
		t.Run(strings.ReplaceAll(tt.zones+" "+tt.options, "\n", ", "), func(t *testing.T) {
			who := account(t)
			proxy := api(t).Proxy(t)
			proxy.Start(t)
			cluster.Run(t, coredns(t), fmt.Sprintf(".:PORT {\nbind 127.0.0.1\nready READY\nkubehosts %s {\nkubeconfig %s\n%s\n}\n}\n",
				tt.zones, cluster.Kubeconfig(t, proxy.URL, who.Token), tt.options))
			all := api(t).Audit(t, who)
			checkRequests(t, all, slices.Collect(maps.Keys(tt.want))...)
			for _, r := range all {
				selector := r.Query.Get("labelSelector")
				if r.Resource == "configmaps" {
					selector = r.Query.Get("fieldSelector")
				}
				if selector != tt.want[r.Resource] {
					t.Errorf("%v selects %q, want %q", r, selector, tt.want[r.Resource])
				}
			}
			for _, x := range proxy.Seen() {
				if !strings.HasPrefix(x.Accept, protobuf) || !strings.HasPrefix(x.Content, protobuf) {
					t.Errorf("%s: asked for %q and got %q, want protobuf", x.Path, x.Accept, x.Content)
				}
			}
		})
	}
}

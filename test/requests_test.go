package test

import (
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/kubehosts/kubehosts/test/cluster"
	rbac "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"
)

const (
	slicesResource = "endpointslices.discovery.k8s.io"
	protobuf       = "application/vnd.kubernetes.protobuf"
)

// A stanza causes only the requests that it needs, in the cheapest form.
func TestRequests(t *testing.T) {
	objects(t, shop)
	objects(t, cluster.ReadFile(t, "../build/kubernetes/rbac/pods.yaml"))
	for _, tt := range []struct {
		zones, options string
		want           map[string]string // resources and their selectors
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
			resources := slices.Collect(maps.Keys(tt.want))
			all := watching(t, who, resources...)
			checkRequests(t, all, resources...)
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

// All Roles and ClusterRoles in the repository together grant exactly the requests of kubehosts with all of its
// features: each verb on each resource is used, either with an API server that streams lists or with one that does not.
func TestRolesGrantWhatIsUsed(t *testing.T) {
	removeConfigMap(t)
	t.Cleanup(func() { removeConfigMap(t) })
	setConfigMap(t, "kubehosts")
	applyServiceImports(t)
	granted := map[string]bool{}
	for name, role := range roles(t) {
		for _, rule := range role.Rules {
			for _, right := range rightsOf(rule) {
				granted[right] = true
			}
		}
		t.Logf("%s grants %d rules", name, len(role.Rules))
	}
	for _, file := range []string{"rbac.yaml", "pods.yaml", "multicluster.yaml", "external.yaml", "nodes.yaml"} {
		api(t).Apply(t, cluster.ReadFile(t, "../build/kubernetes/rbac/"+file))
	}

	used := map[string]bool{"update configmaps": true} // by -last-good after half a minute, see TestWholeLastGood
	for i, noStreams := range []bool{false, true} {
		who := account(t)
		proxy := api(t).Proxy(t)
		proxy.NoStreams = noStreams
		proxy.Start(t)
		c := cluster.Run(t, coredns(t), fmt.Sprintf(".:PORT {\nbind 127.0.0.1\nready READY\nkubehosts cluster.local clusterset.local {\n"+
			"kubeconfig %s\nconfigmap kube-system/coredns\npods verified\nmulticluster clusterset.local\nzonal\nexternal example.org {\nfrom ingress service gateway dnsendpoint node\n}\n}\n}\n",
			cluster.Kubeconfig(t, proxy.URL, who.Token)))
		ip := editIP(i + 1)
		setConfigMap(t, stanza(live(ip))) // which causes an Event
		awaitLive(t, cluster.Dial(t, "udp", c.Addr), ip)
		cluster.Eventually(t, bound, func() (bool, string) {
			for _, r := range api(t).Audit(t, who) {
				used[r.Verb+" "+r.Resource] = true
				if r.Code == http.StatusForbidden {
					t.Errorf("%v is forbidden", r)
				}
			}
			unused := slices.DeleteFunc(slices.Sorted(maps.Keys(granted)), func(right string) bool {
				// A resource that does not exist is only watched as a stream, and is listed once that is refused.
				return used[right] || !noStreams && strings.HasPrefix(right, "list ")
			})
			return used["create events"] && len(unused) == 0, fmt.Sprintf("an Event; it did not ask for %v yet", unused)
		})
	}
	if want, got := slices.Sorted(maps.Keys(used)), slices.Sorted(maps.Keys(granted)); !slices.Equal(got, want) {
		t.Errorf("the Roles grant\n%s\nand this is used\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// roles returns the Roles and ClusterRoles in the YAML files of build and docs, by file and name. A Role has the same
// rules as a ClusterRole. Code blocks of Markdown have none.
func roles(t *testing.T) map[string]rbac.ClusterRole {
	t.Helper()
	all := map[string]rbac.ClusterRole{}
	for _, folder := range []string{"../build", "../docs", "../plugin", "../README.md"} {
		err := filepath.WalkDir(folder, func(path string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			switch filepath.Ext(path) {
			case ".yaml", ".yml":
				for doc := range strings.SplitSeq(cluster.ReadFile(t, path), "\n---\n") {
					var role rbac.ClusterRole
					if err := yaml.Unmarshal([]byte(doc), &role); err != nil {
						return fmt.Errorf("%s: %w", path, err)
					}
					if role.Kind == "Role" || role.Kind == "ClusterRole" {
						all[path+" "+role.Name] = role
					}
				}
			case ".md":
				if roleInText.MatchString(cluster.ReadFile(t, path)) {
					t.Errorf("%s has a Role: put it into a file, or its permissions are not checked", path)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"rbac/rbac.yaml system:coredns", "second/rbac.yaml kubehosts", "helm/role.yaml coredns-configmap"} {
		if _, found := all["../build/kubernetes/"+name]; !found {
			t.Errorf("%s was not found", name)
		}
	}
	return all
}

var roleInText = regexp.MustCompile(`(?m)^\s*kind: (Cluster)?Role\s*$`)

// rightsOf formats a rule like requests of the audit log: VERB RESOURCE.GROUP.
func rightsOf(rule rbac.PolicyRule) (rights []string) {
	for _, verb := range rule.Verbs {
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				rights = append(rights, strings.TrimSuffix(verb+" "+resource+"."+group, "."))
			}
		}
	}
	return rights
}

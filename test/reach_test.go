package test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/kubehosts/kubehosts/test/cluster"
	authorization "k8s.io/api/authorization/v1"
	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// clientOf is a client with a token.
func clientOf(t *testing.T, token string) *kubernetes.Clientset {
	t.Helper()
	c, err := kubernetes.NewForConfig(&rest.Config{Host: api(t).URL, BearerToken: token, QPS: -1, TLSClientConfig: rest.TLSClientConfig{Insecure: true}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// may requests a review from the API server: whether the owner of the client may do that.
func may(t *testing.T, c *kubernetes.Clientset, what authorization.ResourceAttributes) bool {
	t.Helper()
	review := &authorization.SelfSubjectAccessReview{Spec: authorization.SelfSubjectAccessReviewSpec{ResourceAttributes: &what}}
	r, err := c.AuthorizationV1().SelfSubjectAccessReviews().Create(t.Context(), review, meta.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return r.Status.Allowed
}

// granted returns everything that the account of the token may do and an account without any role may not: for every
// resource of the API server, in all namespaces or in kube-system, as "VERB RESOURCE" or "VERB RESOURCE in
// kube-system".
func granted(t *testing.T, token string) []string {
	t.Helper()
	api(t).Apply(t, "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: nobody, namespace: kube-system}\n")
	nobody := clientOf(t, api(t).Account(t, "kube-system", "nobody").Token)
	c := clientOf(t, token)
	_, lists, err := api(t).Client.Discovery().ServerGroupsAndResources()
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]bool)
	asked := 0
	for _, list := range lists {
		group, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range list.APIResources {
			for _, verb := range append(slices.Clone(r.Verbs), "impersonate", "escalate", "bind") {
				for _, ns := range []string{"", "kube-system"} {
					name, sub, _ := strings.Cut(r.Name, "/")
					asked++
					what := authorization.ResourceAttributes{Group: group.Group, Resource: name, Subresource: sub, Verb: verb, Namespace: ns}
					if may(t, c, what) && !may(t, nobody, what) {
						all[strings.TrimSuffix(fmt.Sprintf("%s %s in %s", verb, schema.GroupResource{Group: group.Group, Resource: r.Name}, ns), " in ")] = true
					}
				}
			}
		}
	}
	t.Logf("%d questions to the API server", asked)
	return slices.Sorted(maps.Keys(all))
}

// everywhere lists a grant in all namespaces.
func everywhere(what ...string) (all []string) {
	for _, w := range what {
		all = append(all, w, w+" in kube-system")
	}
	return all
}

// With the roles that the project ships, the ServiceAccount can do what the stanza needs and nothing else.
func TestAccountReach(t *testing.T) {
	who := account(t)
	want := everywhere("list services", "watch services", "list namespaces", "watch namespaces",
		"list endpointslices.discovery.k8s.io", "watch endpointslices.discovery.k8s.io")
	want = append(want, "create events in kube-system")
	slices.Sort(want)
	if got := granted(t, who.Token); !slices.Equal(got, want) {
		t.Errorf("it may\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}

	// By name, it can read only the one ConfigMap.
	c := clientOf(t, who.Token)
	for name, verbs := range map[string][]string{"coredns": {"list", "watch"}, "kubeadm-config": nil, "extension-apiserver-authentication": nil} {
		for _, verb := range []string{"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"} {
			for _, ns := range []string{"kube-system", "shop"} {
				got := may(t, c, authorization.ResourceAttributes{Resource: "configmaps", Name: name, Verb: verb, Namespace: ns})
				if want := ns == "kube-system" && slices.Contains(verbs, verb); got != want {
					t.Errorf("%s ConfigMap %s/%s: %v, want %v", verb, ns, name, got, want)
				}
			}
		}
	}

	// Requests have the same result as the reviews.
	objects(t, "apiVersion: v1\nkind: Secret\nmetadata: {name: treasure, namespace: shop}\nstringData: {gold: much}\n")
	for what, err := range map[string]error{
		"a Secret": call(func() (*core.Secret, error) {
			return c.CoreV1().Secrets("shop").Get(t.Context(), "treasure", meta.GetOptions{})
		}),
		"all Secrets": call(func() (*core.SecretList, error) { return c.CoreV1().Secrets("").List(t.Context(), meta.ListOptions{}) }),
		"all ConfigMaps": call(func() (*core.ConfigMapList, error) {
			return c.CoreV1().ConfigMaps("kube-system").List(t.Context(), meta.ListOptions{})
		}),
		"all Pods":  call(func() (*core.PodList, error) { return c.CoreV1().Pods("").List(t.Context(), meta.ListOptions{}) }),
		"all Nodes": call(func() (*core.NodeList, error) { return c.CoreV1().Nodes().List(t.Context(), meta.ListOptions{}) }),
		"a token of others": call(func() (*core.ServiceAccountList, error) {
			return c.CoreV1().ServiceAccounts("").List(t.Context(), meta.ListOptions{})
		}),
	} {
		if err == nil || !strings.Contains(err.Error(), "forbidden") {
			t.Errorf("%s: %v, want that it is forbidden", what, err)
		}
	}

	// Files of their own grant what `pods verified` and `multicluster` need.
	objects(t, cluster.ReadFile(t, "../build/kubernetes/rbac/pods.yaml"))
	objects(t, cluster.ReadFile(t, "../build/kubernetes/rbac/multicluster.yaml"))
	want = append(want, everywhere("list pods", "watch pods")...)
	slices.Sort(want)
	cluster.Eventually(t, bound, func() (bool, string) {
		return may(t, c, authorization.ResourceAttributes{Resource: "pods", Verb: "watch"}) &&
			may(t, c, authorization.ResourceAttributes{Group: "multicluster.x-k8s.io", Resource: "serviceimports", Verb: "watch"}), "the roles to be known"
	})
	if got := slices.DeleteFunc(granted(t, who.Token), func(s string) bool { return strings.Contains(s, "serviceimports") }); !slices.Equal(got, want) {
		t.Errorf("with pods.yaml it may\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func call[T any](do func() (T, error)) error {
	_, err := do()
	return err
}

package test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/kubehosts/kubehosts/test/cluster"
)

// The API server is of the release, and has the feature gates, that the environment names.
func TestAPIServerRelease(t *testing.T) {
	is, err := api(t).Client.Discovery().ServerVersion()
	if err != nil {
		t.Fatal(err)
	}
	if got := is.Major + "." + is.Minor; got != cluster.Version() {
		t.Errorf("the API server is of %s, want %s", got, cluster.Version())
	}
	for gate := range strings.SplitSeq(cluster.Features(), ",") {
		name, value, found := strings.Cut(gate, "=")
		if found && api(t).Has(t, name) != (value == "true") {
			t.Errorf("the feature gate %s is not %s", name, value)
		}
	}
}

// What happened while the API server was away can't be watched afterwards once it is compacted, so everything is listed
// again: as a stream if the server streams lists, and else as a plain list, after the server has refused the stream.
func TestListsAgain(t *testing.T) {
	objects(t, shop)
	who, proxy := account(t), api(t).Proxy(t)
	proxy.Start(t)
	c := cluster.Run(t, coredns(t), strings.ReplaceAll(readyCorefile, "KUBECONFIG", cluster.Kubeconfig(t, proxy.URL, who.Token)))
	watching(t, who, "services", "namespaces", slicesResource)

	proxy.Stop()
	api(t).StopServer()
	if err := api(t).Write(1); err != nil {
		t.Fatal(err)
	}
	if err := api(t).Compact(); err != nil {
		t.Fatal(err)
	}
	if err := api(t).StartServer(t.Context()); err != nil {
		t.Fatal(err)
	}
	awaitRights(t)
	before := len(api(t).Audit(t, who))
	proxy.Start(t)
	streams := api(t).Has(t, "WatchList")
	listed := func(resource string) (bool, string) {
		refused, what := false, ""
		for _, r := range api(t).Audit(t, who)[before:] {
			if r.Resource != resource {
				continue
			}
			what += fmt.Sprintf("\n%s %v: %d", r.Verb, r.Query, r.Code)
			stream := r.Query.Get("sendInitialEvents") == "true"
			switch {
			case stream && r.Code == http.StatusOK:
				return streams, what
			case isRefusedStream(r):
				refused = true
			case r.Verb == "list" && r.Code == http.StatusOK:
				return refused && !streams, what
			}
		}
		return false, what
	}
	for _, resource := range []string{"services", "namespaces", slicesResource} {
		cluster.Eventually(t, 4*bound, func() (bool, string) {
			ok, what := listed(resource)
			return ok, fmt.Sprintf("a list of %s, streamed: %v, after%s", resource, streams, what)
		})
	}
	objects(t, "apiVersion: v1\nkind: Service\nmetadata: {name: again, namespace: shop}\nspec: {clusterIP: 10.96.7.40, ports: [{port: 80}]}\n")
	udp := cluster.Dial(t, "udp", c.Addr)
	cluster.Eventually(t, bound, func() (bool, string) {
		ip, err := address(udp, "again.shop.svc.cluster.local.")
		return ip == "10.96.7.40", ip + " " + errText(err)
	})
}

// awaitRights waits until the API server, which is ready earlier, grants what the Roles do.
func awaitRights(t *testing.T) {
	t.Helper()
	config := rest.CopyConfig(api(t).Config)
	config.BearerToken = account(t).Token
	client := kubernetes.NewForConfigOrDie(config)
	cluster.Eventually(t, 4*bound, func() (bool, string) {
		_, err := client.CoreV1().Services("").List(t.Context(), meta.ListOptions{Limit: 1})
		if err == nil {
			_, err = client.DiscoveryV1().EndpointSlices("").List(t.Context(), meta.ListOptions{Limit: 1})
		}
		return err == nil, errText(err)
	})
}

package browser

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kubehosts/kubehosts/test/cluster"
)

const bound = 20 * time.Second

const objects = `
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.7.10, selector: {app: web}, ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-7k2pd, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080, protocol: TCP}]
endpoints: [{addresses: ["10.244.1.9"], conditions: {ready: true}}]
---
apiVersion: v1
kind: Service
metadata: {name: queue, namespace: shop}
spec: {clusterIP: None, selector: {app: queue}, ports: [{name: amqp, port: 5672}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: queue-x9w4m, namespace: shop, labels: {kubernetes.io/service-name: queue}}
addressType: IPv4
ports: [{name: amqp, port: 5672, protocol: TCP}]
endpoints:
- {addresses: ["10.244.2.5"], conditions: {ready: false}, targetRef: {kind: Pod, namespace: shop, name: queue-0}}
- {addresses: ["10.244.2.6"], conditions: {ready: false}, targetRef: {kind: Pod, namespace: shop, name: queue-1}}
`

const corefile = `.:PORT {
    bind 127.0.0.1
    errors
    ready READY
    cache 30
    kubehosts cluster.local in-addr.arpa ip6.arpa {
        status STATUS
        kubeconfig KUBECONFIG
        configmap kube-system/coredns
        snapshot DIR/missing/snapshot
        pods insecure
        ttl 30
        hosts DIR/corp.hosts {
            192.0.2.10 db.corp.example
        }
        fallthrough in-addr.arpa ip6.arpa
    }
    forward . 127.0.0.1:OTHER
}
`

const corpHosts = `# Hosts of the company.
192.0.2.20  registry.corp.example
192.0.2.300 mail.corp.example
192.0.2.40  *.apps.corp.example
files.corp.example 192.0.2.50
`

// world is a server with its API server, without problems.
type world struct {
	*cluster.CoreDNS
	api   *cluster.API
	proxy *cluster.Proxy
	page  string // http://127.0.0.1:PORT
}

func start(t *testing.T) *world {
	t.Helper()
	kube, err := cluster.Kube()
	if err != nil {
		t.Fatal(err)
	}
	coredns, err := cluster.Kubehosts()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	api, err := cluster.Start(ctx, kube, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(api.Stop)
	api.Apply(t, cluster.ReadFile(t, "../../build/kubernetes/rbac/rbac.yaml"))
	api.Apply(t, objects)
	w := &world{api: api, proxy: api.Proxy(t)}
	w.proxy.Start(t)
	w.edit(t, "        ttl 20\n")
	status := net.JoinHostPort("127.0.0.1", strconv.Itoa(cluster.FreePort()))
	w.page = "http://" + status
	token := api.Account(t, "kube-system", "coredns").Token
	w.CoreDNS = cluster.Launch(t, coredns, strings.NewReplacer("STATUS", status,
		"KUBECONFIG", cluster.Kubeconfig(t, w.proxy.URL, token)).Replace(corefile))
	w.WaitReady(t)
	return w
}

// edit stores a stanza with these lines in the ConfigMap.
func (w *world) edit(t *testing.T, lines string) {
	t.Helper()
	text := "kubehosts cluster.local in-addr.arpa ip6.arpa {\n    pods insecure\n" + lines + "}\n"
	w.api.Apply(t, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: coredns, namespace: kube-system}\ndata:\n  Corefile: "+strconv.Quote(text)+"\n")
}

// problems waits until the page shows n problems.
func (w *world) problems(t *testing.T, n int) {
	t.Helper()
	cluster.Eventually(t, bound, func() (bool, string) {
		resp, err := http.Get(w.page + "/index.json")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var r struct{ Problems []string }
		if err := json.NewDecoder(resp.Body).Decode(&r); err != nil {
			t.Fatal(err)
		}
		return len(r.Problems) == n, strings.Join(r.Problems, "\n")
	})
}

// Package source is where a cluster's objects come from: the API server, or manifest files. It updates the indexes of
// packages services and external, follows ConfigMaps, and notices changed files.
package source

import (
	"cmp"
	"os"
	"strings"
	"sync"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
)

// Spec is where objects come from. Equal Specs have the same Source. The zero Spec is the API server of the cluster
// that the process runs in.
type Spec struct {
	Manifests string // patterns of manifest files, one a line; if set, there is no API server and the rest is ignored

	Kubeconfig string // a kubeconfig file; "" for none
	Context    string // the context of Kubeconfig to use; "" for its current one

	Endpoint                  string // URL of the API server, without a Kubeconfig; "" for the one of this cluster
	CertFile, KeyFile, CAFile string // TLS to Endpoint, each may be ""

	QPS         float32 // most requests a second to the API server; 0 for client-go's default
	Burst       int     // most requests beyond that rate; 0 for the default
	MaxInflight int     // most requests without a reply at one time; 0 for no limit. A watch counts until it is accepted

	Offline bool // no API server: without Manifests, the objects are those of a snapshot, or none

	Audit time.Duration // the period in which everything is listed once and compared with the index; 0 for never
}

// Source is the process's one connection to the place that a Spec names. All users of the same objects share one index
// and one set of watches. It is safe for concurrent use.
type Source struct {
	spec Spec
	refs int // guarded by sources.mu

	clients   *clients   // nil if there are manifests, or the Spec is Offline
	followers followers  // none without clients
	manifests *manifests // nil if there are clients, or the Spec is Offline

	mu         sync.Mutex
	groups     map[groupKey]*group
	configMaps map[objectName]*configMap

	discovery discoveries

	telling sync.Mutex // guards the following fields; mu may be held during a change of an index, and so by callers of Tell
	teller  *teller    // nil before the first Event on an object
	untell  func()     // ends it
}

// objectName is the name of a namespaced object.
type objectName struct{ namespace, name string }

func (n objectName) String() string { return n.namespace + "/" + n.name }

// compare orders by namespace and name.
func (n objectName) compare(o objectName) int {
	return cmp.Or(cmp.Compare(n.namespace, o.namespace), cmp.Compare(n.name, o.name))
}

var sources struct {
	mu  sync.Mutex
	all map[Spec]*Source
}

// Open returns the Source for spec, which lives until Close was called as often as Open. So a second server block, or
// the next Corefile after a reload, finds the connection of the first with its watches running.
//
// For an API server it makes the client and sends nothing yet; the error is a fault of the configuration. For manifests
// it reads all files, and the error is one that can't be parsed, with file and line. If the Source is already open,
// such a file is not an error: its last good state goes on serving.
func Open(spec Spec) (*Source, error) {
	sources.mu.Lock()
	defer sources.mu.Unlock()

	if s := sources.all[spec]; s != nil {
		s.refs++
		return s, nil
	}
	s := &Source{
		spec:       spec,
		refs:       1,
		groups:     make(map[groupKey]*group),
		configMaps: make(map[objectName]*configMap),
	}
	var err error
	switch {
	case spec.Manifests != "":
		s.manifests, err = openManifests(s, strings.Split(spec.Manifests, "\n"))
	case !spec.Offline:
		if s.clients, err = newClients(spec); err == nil {
			s.clients.health.watching = func() bool { return s.followers.watching(nil) }
		}
	}
	if err != nil {
		return nil, err
	}
	if sources.all == nil {
		sources.all = make(map[Spec]*Source)
	}
	sources.all[spec] = s
	return s, nil
}

// Synced reports whether objects were read, or can be read, from the place that the Spec names.
func (s *Source) Synced() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, g := range s.groups {
		if g.synced {
			return true
		}
	}
	return false
}

// News returns the time up to which all changes in the API server were read. The last news of a watch is an event, a
// bookmark, which the server sends about once a minute, or a list. News is that of the watch whose last news is the
// oldest. A watch without any news yet counts from its start. News is the zero time if nothing is watched, as with
// manifests.
func (s *Source) News() time.Time { return s.followers.news() }

// Close undoes one Open. With the last one, all watches stop.
func (s *Source) Close() {
	sources.mu.Lock()
	defer sources.mu.Unlock()

	if s.refs--; s.refs != 0 {
		return
	}
	delete(sources.all, s.spec)
	if s.manifests != nil {
		s.manifests.files.Close()
	}

	s.mu.Lock()
	for key, g := range s.groups {
		g.stopAll()
		delete(s.groups, key)
	}
	for name, c := range s.configMaps {
		c.stop()
		delete(s.configMaps, name)
	}
	s.mu.Unlock()
	s.telling.Lock()
	if s.teller != nil {
		s.untell()
	}
	s.telling.Unlock()
	if s.clients != nil {
		utilnet.CloseIdleConnectionsFor(s.clients.http.Transport)
	}
}

// namespaceFile is where the kubelet stores a pod's namespace.
const namespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// InClusterNamespace returns the namespace of the pod that the process runs in, or "kube-system" outside a pod.
func InClusterNamespace() string { return namespaceFrom(namespaceFile) }

func namespaceFrom(file string) string {
	b, err := os.ReadFile(file) // #nosec G304 -- a constant except in tests
	if ns := strings.TrimSpace(string(b)); err == nil && ns != "" {
		return ns
	}
	return "kube-system"
}

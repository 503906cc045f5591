// Package source is where a cluster's objects come from: the API server, or manifest files. It keeps the indexes of
// package services up to date, follows ConfigMaps, and tells when files change.
package source

import (
	"cmp"
	"os"
	"strings"
	"sync"
	"time"

	utilnet "k8s.io/apimachinery/pkg/util/net"
)

// Spec says where objects come from. Two that are equal name the same Source. The zero Spec is the API server of the
// cluster that the process runs in.
type Spec struct {
	Manifests string // patterns of manifest files, one a line; with it, no API server is asked and the rest means nothing

	Kubeconfig string // a kubeconfig file; "" for none
	Context    string // the context of Kubeconfig to use; "" for its current one

	Endpoint                  string // URL of the API server, when there is no Kubeconfig; "" for the one of this cluster
	CertFile, KeyFile, CAFile string // TLS towards Endpoint, each may be ""

	QPS         float32 // most requests a second to the API server; 0 for client-go's default
	Burst       int     // most requests ahead of that rate; 0 for the default
	MaxInflight int     // most requests without a reply at one time; 0 for no limit. A watch counts until it is accepted

	Offline bool // no API server is asked: without Manifests, there are the objects of a snapshot or none

	Audit time.Duration // in each such period everything is listed once and compared with what is kept; 0 for never
}

// Source is the process's one connection to the place that a Spec names. Everything that asks it for the same objects
// shares one index and one set of watches. It is safe for concurrent use.
type Source struct {
	spec Spec
	refs int // guarded by sources.mu

	clients   *clients   // nil when there are manifests, or the Spec is Offline
	followers followers  // none without clients
	manifests *manifests // nil when there are clients, or the Spec is Offline

	mu         sync.Mutex
	groups     map[groupKey]*group
	configMaps map[objectName]*configMap

	discovery discoveries

	telling sync.Mutex // guards what follows; mu may be held by who changes an index, and so by who tells
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

// Open returns the Source for spec, which lives until Close was called as often as Open. A second server block, or the
// next Corefile after a reload, thus finds the connection of the first with its watches running.
//
// For an API server the client is made, but nothing is sent yet; what is wrong with its configuration is the error. For
// manifests all files are read, and one that can't be understood is the error, with file and line. When the Source is
// open already such a file is no error: its last good state goes on.
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
		s.clients, err = newClients(spec)
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

// Synced reports whether objects were read from the place that the Spec names, or are there to be read.
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

// News returns the time as of which all that the API server had is known. The last news of a watch is an event, a bookmark,
// which the server sends about once a minute, or a list; News is that of the watch whose last news is the oldest. A watch that
// has had none yet counts from its start. News is the zero time if nothing is watched, as with manifests.
func (s *Source) News() time.Time { return s.followers.news() }

// Close gives back what one Open gave out. With the last, all watches stop.
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

// namespaceFile is where the kubelet tells a pod its namespace.
const namespaceFile = "/var/run/secrets/kubernetes.io/serviceaccount/namespace"

// InClusterNamespace returns the namespace of the pod that the process runs in, or "kube-system" when it runs in none.
func InClusterNamespace() string { return namespaceFrom(namespaceFile) }

func namespaceFrom(file string) string {
	b, err := os.ReadFile(file) // #nosec G304 -- a constant but in tests
	if ns := strings.TrimSpace(string(b)); err == nil && ns != "" {
		return ns
	}
	return "kube-system"
}

package source

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	api "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/kubehosts/kubehosts/plugin/safe"
)

// Bounds of one look-up of a Service.
const (
	factsTime   = 2 * time.Second
	factsSlices = 100 // EndpointSlices, which have 100 endpoints each by default
	maxUnready  = 10  // endpoints that are named
)

// Facts are details of a Service that answers do not need. They are requested on demand, and not stored.
type Facts struct {
	Found    bool
	Origin   string // the state of the object: "resourceVersion 48213", or "shop.yaml:12"; "" if unknown
	Type     string // ClusterIP, NodePort, LoadBalancer, ExternalName; "" if unknown
	Selector string // of its pods, in kubectl's form; "" for none
	LeftOut  string // the option and the selector that leave the Service or its namespace out; "" if none do
	Unready  Unready
	Missing  string // why some of this is unknown; "" if everything is known
}

// Unready are the endpoints of a Service that are not ready.
type Unready struct {
	Known bool // it was requested
	Total int
	First []UnreadyEndpoint // at most ten
}

// UnreadyEndpoint is an endpoint that is not ready.
type UnreadyEndpoint struct {
	Addr        string
	Pod         string // "" if it isn't a pod
	Hostname    string
	Terminating bool
}

// Facts looks up the Service of that name as o selects it. With an API server, it requests the Service, and what else
// is useful if the account may list it: the namespace, and the EndpointSlices if unready. That takes 2 s at most. With
// manifests, it requests nothing. Missing names what can't be determined.
func (o *Objects) Facts(ctx context.Context, namespace, name string, unready bool) Facts {
	g := o.group
	switch s := g.source; {
	case s.manifests != nil:
		return g.factsOfManifests(objectName{namespace, name})
	case s.clients == nil:
		return Facts{Missing: "there is no API server"}
	}
	ctx, cancel := context.WithTimeout(ctx, factsTime)
	defer cancel()
	return g.factsOfAPI(ctx, namespace, name, unready)
}

// leftOut returns which of the selectors leaves out a Service with labels service, in a namespace with
// labels namespace.
func (g *group) leftOut(service, namespace labels.Set, namespaced bool) string {
	switch {
	case !g.objects.Matches(service):
		return "labels " + g.objects.String()
	case namespaced && !g.namespace.Matches(namespace):
		return "namespace_labels " + g.namespace.String()
	}
	return ""
}

func (g *group) factsOfManifests(name objectName) (f Facts) {
	m := g.source.manifests
	m.mu.Lock()
	v := m.view
	m.mu.Unlock()
	var of labels.Set
	o := v.objects[kindService][name]
	if o != nil {
		f.Found, f.Origin, f.Selector, of = true, o.at(), o.selector, o.labels
		f.Type = string(o.serviceType)
	}
	var in labels.Set
	ns := v.objects[kindNamespace][objectName{"", name.namespace}]
	if ns != nil {
		in = ns.labels
	}
	if f.Found {
		f.LeftOut = g.leftOut(of, in, !g.namespace.Empty())
	}
	f.Unready.Known = true
	for _, sl := range v.objects[kindSlice] {
		if sl.name.namespace == name.namespace && sl.labels[discovery.LabelServiceName] == name.name {
			f.Unready.add(sl.unready)
		}
	}
	f.Unready.sort()
	return f
}

func (g *group) factsOfAPI(ctx context.Context, namespace, name string, unready bool) (f Facts) {
	c := g.source.clients.all
	missing := func(what string, err error) {
		if f.Missing == "" {
			f.Missing = fmt.Sprintf("%s can't be requested: %s", what, safe.Printable(err.Error()))
		}
	}
	list, err := c.CoreV1().Services(namespace).List(ctx, onlyNamed(name))
	if err != nil {
		missing("the Service", err)
		return f
	}
	var svc *api.Service
	if len(list.Items) > 0 {
		svc = &list.Items[0]
		f.Found, f.Origin, f.Type = true, "resourceVersion "+svc.ResourceVersion, string(svc.Spec.Type)
		f.Selector = labels.FormatLabels(svc.Spec.Selector)
		if len(svc.Spec.Selector) == 0 {
			f.Selector = ""
		}
		f.LeftOut = g.leftOut(svc.Labels, nil, false)
	}
	if svc != nil && f.LeftOut == "" && !g.namespace.Empty() {
		all, err := c.CoreV1().Namespaces().List(ctx, onlyNamed(namespace))
		switch {
		case err != nil:
			missing("the namespace", err)
		case len(all.Items) > 0:
			f.LeftOut = g.leftOut(svc.Labels, all.Items[0].Labels, true)
		}
	}
	if !unready || svc == nil {
		return f
	}
	all, err := c.DiscoveryV1().EndpointSlices(namespace).List(ctx, meta.ListOptions{
		LabelSelector: labels.Set{discovery.LabelServiceName: name}.String(), Limit: factsSlices,
	})
	if err != nil {
		missing("the EndpointSlices", err)
		return f
	}
	f.Unready.Known = true
	for i := range all.Items {
		f.Unready.add(unreadyOf(&all.Items[i]))
	}
	f.Unready.sort()
	return f
}

// onlyNamed selects the one object of that name, which takes only the permission list.
func onlyNamed(name string) meta.ListOptions {
	return meta.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", name).String(), Limit: 1}
}

// add adds the counts and endpoints of o.
func (u *Unready) add(o Unready) {
	u.Total += o.Total
	u.First = append(u.First, o.First[:min(len(o.First), maxUnready-len(u.First))]...)
}

func (u *Unready) sort() {
	slices.SortFunc(u.First, func(a, b UnreadyEndpoint) int { return strings.Compare(a.Pod+" "+a.Addr, b.Pod+" "+b.Addr) })
}

// unreadyOf returns the endpoints of es that are not ready.
func unreadyOf(es *discovery.EndpointSlice) (u Unready) {
	for i := range es.Endpoints {
		ep := &es.Endpoints[i]
		if ep.Conditions.Ready == nil || *ep.Conditions.Ready {
			continue
		}
		if u.Total++; len(u.First) == maxUnready {
			continue
		}
		e := UnreadyEndpoint{Terminating: ep.Conditions.Terminating != nil && *ep.Conditions.Terminating}
		if len(ep.Addresses) > 0 {
			e.Addr = ep.Addresses[0]
		}
		if ep.TargetRef != nil && ep.TargetRef.Kind == kindPod {
			e.Pod = ep.TargetRef.Name
		}
		if ep.Hostname != nil {
			e.Hostname = *ep.Hostname
		}
		u.First = append(u.First, e)
	}
	return u
}

// Counts returns the number of stored objects of each kind.
func (o *Objects) Counts() map[string]int {
	o.group.mu.Lock()
	defer o.group.mu.Unlock()
	return maps.Clone(o.group.counts)
}

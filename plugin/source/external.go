package source

import (
	api "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubehosts/kubehosts/plugin/external"
)

// The kinds of objects that have external names, as named in metrics and logs.
const (
	kindIngress           = "Ingress"
	kindGateway           = "Gateway"
	kindListenerSet       = "ListenerSet"
	kindHTTPRoute         = "HTTPRoute"
	kindGRPCRoute         = "GRPCRoute"
	kindTLSRoute          = "TLSRoute"
	kindTCPRoute          = "TCPRoute"
	kindUDPRoute          = "UDPRoute"
	kindDNSEndpoint       = "DNSEndpoint"
	kindNode              = "Node"
	kindExternalService   = "ExternalService"   // a Service with an external name or address
	kindExternalNamespace = "ExternalNamespace" // a Namespace with its labels
)

// externalKinds are the kinds in the index of external names.
var externalKinds = map[string]external.Kind{
	kindIngress:           external.KindIngress,
	kindGateway:           external.KindGateway,
	kindListenerSet:       external.KindListenerSet,
	kindHTTPRoute:         external.KindHTTPRoute,
	kindGRPCRoute:         external.KindGRPCRoute,
	kindTLSRoute:          external.KindTLSRoute,
	kindTCPRoute:          external.KindTCPRoute,
	kindUDPRoute:          external.KindUDPRoute,
	kindDNSEndpoint:       external.KindDNSEndpoint,
	kindNode:              external.KindNode,
	kindExternalService:   external.KindService,
	kindExternalNamespace: external.KindNamespace,
}

// kindsFor returns the kinds that the sources need, in the order in which they are requested. Namespaces and Services
// are always needed: objects claim names in namespaces, and this server's own Services have the addresses of the zones'
// name servers.
func kindsFor(sources external.Source) []string {
	wanted := sources.Kinds() | external.KindsOf(external.KindNamespace, external.KindService)
	var kinds []string
	for _, kind := range [...]string{
		kindExternalNamespace, kindExternalService, kindIngress, kindNode,
		kindGateway, kindListenerSet, kindHTTPRoute, kindGRPCRoute, kindTLSRoute, kindTCPRoute, kindUDPRoute, kindDNSEndpoint,
	} {
		if wanted.Has(externalKinds[kind]) {
			kinds = append(kinds, kind)
		}
	}
	return kinds
}

// externalTable returns how objects of a kind are written into the index of external names.
func externalTable[O any](kind string, pack func(*O) (*external.Object, disposition)) table[O, external.Object] {
	k := externalKinds[kind]
	return table[O, external.Object]{
		kind: kind,
		pack: pack,
		kept: func(g *group, yield func(objectName, *external.Object) bool) {
			for o := range g.outside.State().Objects(k) {
				if !yield(objectName{o.Namespace(), o.Name()}, o) {
					return
				}
			}
		},
		equal:   (*external.Object).Equal,
		known:   func(g *group, o *external.Object) *external.Object { return g.outside.Known(o) },
		set:     outside((*external.Tx).Set),
		remove:  outside(func(tx *external.Tx, n objectName) { tx.Delete(k, n.namespace, n.name) }),
		replace: outside(func(tx *external.Tx, all []*external.Object) { tx.Replace(k, all) }),
	}
}

func ingressTable() table[networking.Ingress, external.Object] {
	t := externalTable(kindIngress, toIngress)
	t.decode = decodeIngress
	return t
}

// outside turns a change to the index of external names into one to that of a group.
func outside[T any](change func(*external.Tx, T)) func(*group, T) {
	return func(g *group, v T) { g.outside.Update(func(tx *external.Tx) { change(tx, v) }) }
}

// nameOf returns the name of an object.
func nameOf(o meta.Object) objectName { return objectName{o.GetNamespace(), o.GetName()} }

// externalMeta returns the needed metadata of an object.
func externalMeta(o meta.Object) external.Meta {
	m := external.Meta{Namespace: o.GetNamespace(), Name: o.GetName(), Generation: o.GetGeneration(), Annotations: o.GetAnnotations()}
	if t := o.GetCreationTimestamp(); !t.IsZero() {
		m.Created = t.Unix()
	}
	return m
}

// published returns what to do with o. It is nil if it has no names, most often not yet, like a route that no Gateway
// has accepted, or a load balancer without an address.
func published(kind string, name objectName, o *external.Object) (*external.Object, disposition) {
	if o != nil {
		return o, keep
	}
	if !external.Nameable(externalKinds[kind], name.namespace, name.name) {
		reject(kind, name, "left out: no query can contain its name or namespace")
	}
	return nil, drop
}

// classAnnotation is where an Ingress has its class if it is older than spec.ingressClassName.
const classAnnotation = "kubernetes.io/ingress.class"

// ingressSpec returns the fields of i that are stored.
func ingressSpec(i *networking.Ingress) external.IngressSpec {
	spec := external.IngressSpec{Meta: externalMeta(i), Class: i.Annotations[classAnnotation]}
	if i.Spec.IngressClassName != nil {
		spec.Class = *i.Spec.IngressClassName
	}
	for _, r := range i.Spec.Rules {
		if r.Host != "" {
			spec.Hosts = append(spec.Hosts, r.Host)
		}
	}
	for _, a := range i.Status.LoadBalancer.Ingress {
		spec.Addresses = appendSet(spec.Addresses, a.IP, a.Hostname)
	}
	return spec
}

func toIngress(i *networking.Ingress) (*external.Object, disposition) {
	spec := ingressSpec(i)
	checkNames(kindIngress, &spec.Meta, spec.Hosts...)
	return published(kindIngress, nameOf(i), external.NewIngress(spec))
}

// checkNames reports a name that an object can't claim. The API server refuses those of Ingresses, but none in
// annotations and in DNSEndpoints.
func checkNames(kind string, m *external.Meta, hosts ...string) {
	if err := m.CheckNames(hosts...); err != nil {
		reject(kind, objectName{m.Namespace, m.Name}, err.Error())
	}
}

// appendSet appends those that are not empty.
func appendSet(all []string, more ...string) []string {
	for _, s := range more {
		if s != "" {
			all = append(all, s)
		}
	}
	return all
}

// publishes reports whether svc has an external name or address.
func publishes(svc *api.Service) bool {
	if svc.Spec.Type == api.ServiceTypeLoadBalancer || svc.Spec.ClusterIP == api.ClusterIPNone || len(svc.Spec.ExternalIPs) > 0 {
		return true
	}
	for key := range svc.Annotations {
		if external.Annotation(key) {
			return true
		}
	}
	return false
}

// publishedService returns the needed parts of svc, nil if there are none.
func publishedService(svc *api.Service) *external.ServiceSpec {
	if !publishes(svc) {
		return nil
	}
	spec := &external.ServiceSpec{
		Meta:         externalMeta(svc),
		LoadBalancer: svc.Spec.Type == api.ServiceTypeLoadBalancer,
		Headless:     svc.Spec.ClusterIP == api.ClusterIPNone,
		ExternalIPs:  svc.Spec.ExternalIPs,
	}
	for _, a := range svc.Status.LoadBalancer.Ingress {
		spec.Addresses = appendSet(spec.Addresses, a.IP, a.Hostname)
	}
	ips := svc.Spec.ClusterIPs
	if len(ips) == 0 {
		ips = []string{svc.Spec.ClusterIP} // from before dual stack
	}
	for _, ip := range ips {
		if ip != api.ClusterIPNone {
			spec.ClusterIPs = appendSet(spec.ClusterIPs, ip)
		}
	}
	for _, p := range svc.Spec.Ports {
		spec.Ports = append(spec.Ports, external.Port{Name: p.Name, Protocol: string(p.Protocol), Number: p.Port})
	}
	return spec
}

func toExternalService(svc *api.Service) (*external.Object, disposition) {
	spec := publishedService(svc)
	if spec == nil {
		return nil, drop
	}
	checkNames(kindExternalService, &spec.Meta)
	return packPublished(*spec)
}

// packPublished packs the external names and addresses of a Service. A Service whose load balancer has no address yet
// has none.
func packPublished(spec external.ServiceSpec) (*external.Object, disposition) {
	o := external.NewService(spec)
	if o == nil {
		return nil, drop
	}
	return o, keep
}

func toNode(n *api.Node) (*external.Object, disposition) {
	spec := external.NodeSpec{Meta: externalMeta(n)}
	for _, a := range n.Status.Addresses {
		if a.Type == api.NodeInternalIP {
			spec.InternalIPs = appendSet(spec.InternalIPs, a.Address)
		}
	}
	return published(kindNode, nameOf(n), external.NewNode(spec))
}

func toExternalNamespace(ns *api.Namespace) (*external.Object, disposition) {
	return published(kindExternalNamespace, objectName{"", ns.Name}, external.NewNamespace(external.NamespaceSpec{Name: ns.Name, Labels: ns.Labels}))
}

package source

import (
	"encoding/json"
	"fmt"

	meta "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubehosts/kubehosts/plugin/external"
)

// The groups and versions of the CustomResourceDefinitions that external names come from.
const (
	gatewayGroup     = "gateway.networking.k8s.io"
	gatewayVersion   = gatewayGroup + "/v1"
	externalDNSGroup = "externaldns.k8s.io"
	dnsVersion       = externalDNSGroup + "/v1alpha1"
)

// The fields of these objects that are needed, in JSON. A dozen fields do not justify the modules of the Gateway API
// and of external-dns.
type (
	gatewaySpec struct {
		Class            string         `json:"gatewayClassName"`
		Listeners        []listenerSpec `json:"listeners"`
		AllowedListeners *struct {
			Namespaces *namespacesFrom `json:"namespaces"`
		} `json:"allowedListeners"`
	}
	gatewayStatus struct {
		Addresses []addressJSON    `json:"addresses"`
		Listeners []listenerStatus `json:"listeners"`
	}
	addressJSON struct {
		Type  string `json:"type"`
		Value string `json:"value"`
	}
	listenerSpec struct {
		Name     string `json:"name"`
		Hostname string `json:"hostname"`
		Port     int32  `json:"port"`
		Protocol string `json:"protocol"`
		TLS      *struct {
			Mode string `json:"mode"`
		} `json:"tls"`
		AllowedRoutes *struct {
			Namespaces *namespacesFrom `json:"namespaces"`
			Kinds      []groupKind     `json:"kinds"`
		} `json:"allowedRoutes"`
	}
	listenerStatus struct {
		Name       string          `json:"name"`
		Conditions []conditionJSON `json:"conditions"`
	}
	namespacesFrom struct {
		From     string              `json:"from"`
		Selector *meta.LabelSelector `json:"selector"`
	}
	groupKind struct {
		Group *string `json:"group"`
		Kind  string  `json:"kind"`
	}
	conditionJSON struct {
		Type       string `json:"type"`
		Status     string `json:"status"`
		Generation int64  `json:"observedGeneration"`
	}
	parentRef struct {
		Group     *string `json:"group"`
		Kind      string  `json:"kind"`
		Namespace string  `json:"namespace"`
		Name      string  `json:"name"`
		Section   string  `json:"sectionName"`
		Port      int32   `json:"port"`
	}
	listenerSetSpec struct {
		Parent    parentRef      `json:"parentRef"`
		Listeners []listenerSpec `json:"listeners"`
	}
	listenerSetStatus struct {
		Conditions []conditionJSON  `json:"conditions"`
		Listeners  []listenerStatus `json:"listeners"`
	}
	routeSpec struct {
		Hostnames []string    `json:"hostnames"`
		Parents   []parentRef `json:"parentRefs"`
	}
	routeStatus struct {
		Parents []parentStatus `json:"parents"`
	}
	parentStatus struct {
		Parent     parentRef       `json:"parentRef"`
		Conditions []conditionJSON `json:"conditions"`
	}
	dnsEndpointSpec struct {
		Endpoints []endpointJSON `json:"endpoints"`
	}
	endpointJSON struct {
		Name    string   `json:"dnsName"`
		Type    string   `json:"recordType"`
		TTL     int64    `json:"recordTTL"`
		Targets []string `json:"targets"`
	}
)

// customKinds are the kinds of CustomResourceDefinitions, with their resources, and the functions that read them.
// Unexpected content is an error. An object whose name no query can contain is nil.
var customKinds = map[string]struct {
	version, resource string
	read              func(*customResource) (*external.Object, error)
}{
	kindGateway:     {gatewayVersion, "gateways", readGateway},
	kindListenerSet: {gatewayVersion, "listenersets", readListenerSet},
	kindHTTPRoute:   {gatewayVersion, "httproutes", readRoute(external.KindHTTPRoute)},
	kindGRPCRoute:   {gatewayVersion, "grpcroutes", readRoute(external.KindGRPCRoute)},
	kindTLSRoute:    {gatewayVersion, "tlsroutes", readRoute(external.KindTLSRoute)},
	kindTCPRoute:    {gatewayVersion, "tcproutes", readRoute(external.KindTCPRoute)},
	kindUDPRoute:    {gatewayVersion, "udproutes", readRoute(external.KindUDPRoute)},
	kindDNSEndpoint: {dnsVersion, "dnsendpoints", readDNSEndpoint},
}

// toCustom returns a function that packs the objects of one of customKinds. An object that can't be parsed keeps its
// last state.
func toCustom(kind string, read func(*customResource) (*external.Object, error)) func(*customResource) (*external.Object, disposition) {
	return func(r *customResource) (*external.Object, disposition) {
		o, err := read(r)
		if err != nil {
			reject(kind, nameOf(r), fmt.Sprintf("can't be parsed, so its last state stays: %v", err))
			return nil, ignore
		}
		return published(kind, nameOf(r), o)
	}
}

// parts reads the spec and the status of r; a nil one is skipped.
func (r *customResource) parts(spec, status any) error {
	for _, part := range []struct {
		name string
		raw  json.RawMessage
		into any
	}{{"spec", r.Spec, spec}, {"status", r.Status, status}} {
		if len(part.raw) == 0 || part.into == nil {
			continue
		}
		if err := json.Unmarshal(part.raw, part.into); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}

func readGateway(r *customResource) (*external.Object, error) {
	var spec gatewaySpec
	var status gatewayStatus
	if err := r.parts(&spec, &status); err != nil {
		return nil, err
	}
	g := external.GatewaySpec{Meta: externalMeta(r), Class: spec.Class, Listeners: listenersOf(spec.Listeners, status.Listeners)}
	for _, a := range status.Addresses {
		g.Addresses = append(g.Addresses, external.Address(a))
	}
	if spec.AllowedListeners != nil {
		g.AllowedListeners = spec.AllowedListeners.Namespaces.from()
	}
	return external.NewGateway(g), nil
}

func readListenerSet(r *customResource) (*external.Object, error) {
	var spec listenerSetSpec
	var status listenerSetStatus
	if err := r.parts(&spec, &status); err != nil {
		return nil, err
	}
	return external.NewListenerSet(external.ListenerSetSpec{
		Meta: externalMeta(r), Parent: external.ParentRef(spec.Parent),
		Listeners: listenersOf(spec.Listeners, status.Listeners), Conditions: conditionsOf(status.Conditions),
	}), nil
}

// readRoute returns a function that reads routes of a kind.
func readRoute(kind external.Kind) func(*customResource) (*external.Object, error) {
	return func(r *customResource) (*external.Object, error) {
		var spec routeSpec
		var status routeStatus
		if err := r.parts(&spec, &status); err != nil {
			return nil, err
		}
		route := external.RouteSpec{Meta: externalMeta(r), Kind: kind, Hostnames: spec.Hostnames}
		for _, p := range spec.Parents {
			route.Parents = append(route.Parents, external.ParentRef(p))
		}
		for _, p := range status.Parents {
			route.Status = append(route.Status, external.ParentStatus{ParentRef: external.ParentRef(p.Parent), Conditions: conditionsOf(p.Conditions)})
		}
		checkNames(kind.String(), &route.Meta, route.Hostnames...)
		return external.NewRoute(route), nil
	}
}

func readDNSEndpoint(r *customResource) (*external.Object, error) {
	var spec dnsEndpointSpec
	if err := r.parts(&spec, nil); err != nil {
		return nil, err
	}
	e := external.DNSEndpointSpec{Meta: externalMeta(r)}
	names := make([]string, 0, len(spec.Endpoints))
	for _, ep := range spec.Endpoints {
		e.Endpoints = append(e.Endpoints, external.Endpoint(ep))
		names = append(names, ep.Name)
	}
	checkNames(kindDNSEndpoint, &e.Meta, names...)
	return external.NewDNSEndpoint(e), nil
}

// listenersOf returns listeners with the conditions that the status has for them.
func listenersOf(specs []listenerSpec, status []listenerStatus) []external.Listener {
	conditions := make(map[string][]external.Condition, len(status))
	for _, s := range status {
		conditions[s.Name] = conditionsOf(s.Conditions)
	}
	all := make([]external.Listener, 0, len(specs))
	for _, l := range specs {
		to := external.Listener{Name: l.Name, Hostname: l.Hostname, Protocol: l.Protocol, Port: l.Port, Conditions: conditions[l.Name]}
		if l.TLS != nil {
			to.TLSMode = l.TLS.Mode
		}
		if l.AllowedRoutes != nil {
			to.Routes = l.AllowedRoutes.Namespaces.from()
			for _, k := range l.AllowedRoutes.Kinds {
				to.Kinds = append(to.Kinds, external.GroupKind(k))
			}
		}
		all = append(all, to)
	}
	return all
}

func conditionsOf(all []conditionJSON) []external.Condition {
	var to []external.Condition
	for _, c := range all {
		to = append(to, external.Condition(c))
	}
	return to
}

// from returns the value of n, which may be nil.
func (n *namespacesFrom) from() external.From {
	if n == nil {
		return external.From{}
	}
	from := external.From{Namespaces: n.From}
	if n.Selector != nil {
		from.Selector = &external.Selector{Labels: n.Selector.MatchLabels}
		for _, e := range n.Selector.MatchExpressions {
			from.Selector.Expressions = append(from.Selector.Expressions, external.Expression{Key: e.Key, Operator: string(e.Operator), Values: e.Values})
		}
	}
	return from
}

// Package external is the index of the names that a cluster's objects have for clients outside the cluster: objects in,
// answers out. The objects are Ingresses, Services, Gateways, ListenerSets and routes of the Gateway API, external-dns'
// DNSEndpoints, and Nodes.
//
// An Index has one State at a time, which never changes. Update makes the next one, which shares everything unchanged
// with the last, and publishes it at once. A query takes the State once and uses only that, so it sees one consistent
// moment, waits for nothing, and blocks nothing.
//
// An object claims names. The State holds the claims of all objects, and a Selection filters them while a query is
// answered: a Selection is what one external option admits. So any number of options, in any number of server blocks,
// share one Index.
//
// All names are in lower case, in presentation form, and fully qualified: they end in a dot. A hostname that breaks the
// rules of RFC 1123, or that no DNS message can hold (RFC 1035, section 2.3.4), claims nothing.
//
// # Who has a name
//
// If several objects claim one name, the oldest one has it: by creationTimestamp, then by namespace, then by name.
// Objects with the same addresses agree, and lose nothing. An object without an address claims nothing yet.
//
// An exact name comes before any wildcard, whoever has the wildcard. The wildcard of an Ingress matches one label
// (networking.k8s.io/v1), and any other wildcard one or more labels (Gateway API; RFC 4592). The wildcard with the most
// labels comes first.
//
// # Bounds
//
// The constants in bounds.go limit what one object adds. A look-up looks up one wildcard for each label of the name.
// Over all of them it reads at most maxClaims claims by age, then at most maxGroups groups of claims, and maxBelow
// claims below the name.
package external

import (
	"slices"
	"strings"
)

// Source is a kind of objects that claim names, as in the option from. Sources form a set.
type Source uint8

// The sources, in the order of those of the stanza.
const (
	FromIngress Source = 1 << iota
	FromService
	FromGateway // Gateways, ListenerSets and routes
	FromDNSEndpoint
	FromNode
)

// Kind is the kind of an object.
type Kind uint8

// The kinds. The routes are adjacent.
const (
	KindIngress Kind = iota
	KindService
	KindGateway
	KindListenerSet
	KindHTTPRoute
	KindGRPCRoute
	KindTLSRoute
	KindTCPRoute
	KindUDPRoute
	KindDNSEndpoint
	KindNode
	KindNamespace // claims nothing; Gateways select routes by its labels

	kinds = iota
)

var kindNames = [kinds]string{
	"Ingress", "Service", "Gateway", "ListenerSet", "HTTPRoute", "GRPCRoute", "TLSRoute", "TCPRoute", "UDPRoute", "DNSEndpoint", "Node", "Namespace",
}

// String returns the kind as written in objects.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "unknown"
}

func (k Kind) route() bool { return k >= KindHTTPRoute && k <= KindUDPRoute }

// source returns the source of objects of the kind, 0 for Namespaces.
func (k Kind) source() Source {
	switch k {
	case KindIngress:
		return FromIngress
	case KindService:
		return FromService
	case KindDNSEndpoint:
		return FromDNSEndpoint
	case KindNode:
		return FromNode
	case KindNamespace:
		return 0
	}
	return FromGateway
}

// Kinds is a set of kinds.
type Kinds uint16

// AllKinds is the set of all kinds.
const AllKinds Kinds = 1<<kinds - 1

// KindsOf returns the set of all.
func KindsOf(all ...Kind) (set Kinds) {
	for _, k := range all {
		set |= 1 << k
	}
	return set
}

// Has reports whether k is in the set.
func (s Kinds) Has(k Kind) bool { return s&(1<<k) != 0 }

// Kinds returns the kinds of objects whose names belong to the sources, and Namespaces, which affect them.
func (s Source) Kinds() (set Kinds) {
	for k := range Kind(kinds) {
		if s&k.source() != 0 {
			set |= 1 << k
		}
	}
	if s&FromGateway != 0 {
		set |= 1 << KindNamespace
	}
	return set
}

// Names is a set of names of objects, sorted.
type Names []string

// NamesOf returns the set of all, nil for none.
func NamesOf(all ...string) Names { return slices.Compact(slices.Sorted(slices.Values(all))) }

// has reports whether name is in the set. A nil set contains every name.
func (n Names) has(name string) bool {
	if n == nil {
		return true
	}
	_, ok := slices.BinarySearch(n, name)
	return ok
}

// after returns the first name of the set that comes after name.
func (n Names) after(name string) (next string, ok bool) {
	at, found := slices.BinarySearch(n, name)
	if found {
		at++
	}
	if at == len(n) {
		return "", false
	}
	return n[at], true
}

// Ref names an object.
type Ref struct {
	Kind            Kind
	Namespace, Name string
}

// String returns the reference in the form of logs: "Ingress shop/web".
func (r Ref) String() string {
	if r.Namespace == "" {
		return r.Kind.String() + " " + r.Name
	}
	return r.Kind.String() + " " + r.Namespace + "/" + r.Name
}

// clone returns r with storage of its own: it does not keep the packed form of an object in memory.
func (r Ref) clone() Ref { return Ref{r.Kind, strings.Clone(r.Namespace), strings.Clone(r.Name)} }

// trimDot removes the final dot of a name.
func trimDot(name string) string { return strings.TrimSuffix(name, ".") }

package services

import "strings"

// Name is a query's name below its zone, split into the parts that the Kubernetes DNS specification defines (1.1.0,
// section 2).
type Name struct {
	Kind      Kind
	Namespace string
	Service   string // for Kind Pod, the label made from the pod's address
	Endpoint  string // the one label left of Service, if there is just one
	Port      string // the two labels left of Service, if there are two, without the underscore; empty for any
	Protocol  string
	Cluster   string // under Multicluster, the second label left of Service unless it is a protocol
	Zone      string // under Zonal, the topology zone, which may be several labels
	Prefer    bool   // with Zone: any endpoint matches if the zone has none
	owner     string // "service.namespace"

	aboveZonal bool // under Zonal, names with a topology zone exist below this one: it is _zone, or pin._zone or prefer._zone
	imported   bool
}

// Grammar selects the names of a zone beyond those of the specification.
type Grammar uint8

// The extensions of the stock plugin.
const (
	Zonal        Grammar = 1 << iota // TOPOLOGYZONE.pin|prefer._zone.SERVICE.NAMESPACE.svc, for headless Services
	Multicluster                     // ENDPOINT.CLUSTER.SERVICE.NAMESPACE.svc, and ServiceImports in place of Services (KEP-1645)
)

// Kind is the subtree of a zone that a Name is in.
type Kind uint8

// The kinds of a Name.
const (
	Apex    Kind = iota // the zone itself
	Svc                 // in svc
	Pods                // in pod
	Unknown             // not defined in the specification
)

// String returns the label of the subtree, "svc" or "pod", or "".
func (k Kind) String() string {
	switch k {
	case Svc:
		return "svc"
	case Pods:
		return "pod"
	}
	return ""
}

// ParseName splits a name. base is a lower-case query name in presentation form without the zone and the dot before it:
// "" for the zone itself. It allocates nothing; the fields of the Name are parts of base.
func ParseName(base string, g Grammar) Name {
	if base == "" {
		return Name{Kind: Apex}
	}
	rest, kind := cutLast(base)
	switch kind {
	case "svc":
		return parse(rest, Svc, g)
	case "pod":
		return parse(rest, Pods, g)
	}
	return Name{Kind: Unknown}
}

// ParseService is ParseName for a zone with Services directly below it: it splits web.shop as ParseName splits
// web.shop.svc.
func ParseService(base string) Name { return parse(base, Svc, 0) }

// parse splits the part before the label of a subtree.
func parse(rest string, kind Kind, g Grammar) Name {
	n := Name{Kind: kind, imported: g&Multicluster != 0}
	if rest == "" {
		return n
	}

	owner := rest
	rest, n.Namespace = cutLast(rest)
	if rest == "" {
		return n
	}
	rest, n.Service = cutLast(rest)
	if rest == "" {
		n.owner = owner
		return n
	}
	n.owner = owner[len(rest)+1:]

	left, label := cutLast(rest)
	zonalOnes := g&Zonal != 0 && !n.imported && n.Kind == Svc
	if left == "" {
		n.Endpoint = label
		n.aboveZonal = zonalOnes && label == zoneAnchor
		return n
	}
	second := label
	left, first := cutLast(left)
	switch {
	case left != "":
		return zonal(n, g, left, first, second)
	case n.imported && !strings.HasPrefix(first, "_") && !strings.HasPrefix(second, "_"):
		n.Endpoint, n.Cluster = first, second
	default:
		n.aboveZonal = zonalOnes && second == zoneAnchor && (first == pin || first == prefer)
		n.Port, n.Protocol = strings.TrimPrefix(first, "_"), strings.TrimPrefix(second, "_")
	}
	return n
}

// zonal completes a Name that has more than two labels left of its Service: zone, then directive, then anchor.
func zonal(n Name, g Grammar, zone, directive, anchor string) Name {
	if g&Zonal == 0 || n.imported || n.Kind != Svc || anchor != zoneAnchor || directive != pin && directive != prefer {
		return Name{Kind: Unknown} // deeper than any name of the specification
	}
	n.Zone, n.Prefer = zone, directive == prefer
	return n
}

// The labels of a zonal name.
const (
	zoneAnchor = "_zone"
	pin        = "pin"
	prefer     = "prefer"
)

// cutLast cuts the last label off name. A dot after a backslash is part of its label (RFC 4343, section 2.1).
func cutLast(name string) (rest, label string) {
	for i := len(name) - 1; i >= 0; i-- {
		if name[i] == '.' && !escaped(name, i) {
			return name[:i], name[i+1:]
		}
	}
	return "", name
}

// escaped reports whether the byte at i comes after a backslash that is not itself escaped.
func escaped(name string, i int) bool {
	n := 0
	for i--; i >= 0 && name[i] == '\\'; i-- {
		n++
	}
	return n%2 == 1
}

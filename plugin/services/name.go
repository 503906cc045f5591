package services

import "strings"

// Name is a query's name below its zone, taken apart as the Kubernetes DNS specification (1.1.0, section 2) lays it out.
type Name struct {
	Kind      Kind
	Namespace string
	Service   string // for Kind Pod, the label made from the pod's address
	Endpoint  string // the one label left of Service, if there is just one
	Port      string // the two labels left of Service, if there are two, without the underscore: any if empty
	Protocol  string
	owner     string // "service.namespace"
}

// Kind is the subtree of a zone that a Name is in.
type Kind uint8

// The kinds of a Name.
const (
	Apex    Kind = iota // the zone itself
	Svc                 // in svc
	Pods                // in pod
	Unknown             // nothing that the specification defines
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

// ParseName takes a name apart. base is what is left of a lower-case query name in presentation form when the zone and
// the dot before it are cut off: "" for the zone itself. It allocates nothing; the fields of the Name are parts of base.
func ParseName(base string) Name {
	if base == "" {
		return Name{Kind: Apex}
	}
	rest, kind := cutLast(base)
	n := Name{}
	switch kind {
	case "svc":
		n.Kind = Svc
	case "pod":
		n.Kind = Pods
	default:
		return Name{Kind: Unknown}
	}
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
	if left == "" {
		n.Endpoint = label
		return n
	}
	n.Protocol = strings.TrimPrefix(label, "_")
	left, label = cutLast(left)
	if left != "" {
		n.Kind = Unknown // deeper than any name of the specification
		return n
	}
	n.Port = strings.TrimPrefix(label, "_")
	return n
}

// cutLast cuts the last label off name. A dot after a backslash is part of its label (RFC 4343, section 2.1).
func cutLast(name string) (rest, label string) {
	for i := len(name) - 1; i >= 0; i-- {
		if name[i] == '.' && !escaped(name, i) {
			return name[:i], name[i+1:]
		}
	}
	return "", name
}

// escaped reports whether the byte at i stands behind a backslash that is not itself escaped.
func escaped(name string, i int) bool {
	n := 0
	for i--; i >= 0 && name[i] == '\\'; i-- {
		n++
	}
	return n%2 == 1
}

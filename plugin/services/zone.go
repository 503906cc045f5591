package services

import (
	"maps"
	"slices"
)

// OwnerNames yields the names of a Service zone, or of a zone of ServiceImports, that have records of their own: of
// each Service that the options serve, of its named ports, and of its endpoints. Each comes once, without the zone, as
// "web.shop.svc" or "_http._tcp.web.shop.svc". The order is the same for equal States: by Service, then ports, then
// endpoints.
//
// Names of pods and of topology zones are left out: a query may ask for any number of them. The names are those of s
// for as long as the caller takes. OwnerNames needs memory for a list of the Services and, if endpoints have names of
// their own or share addresses, for the labels of one Service.
func (s *State) OwnerNames(o *Options, imported bool, yield func(string) bool) {
	for _, svc := range s.Served(o, imported) {
		own := s.ownersOf(imported).Find(nameKey(svc.Owner()))
		if !own.names(o, yield) {
			return
		}
	}
}

// names yields the names of one Service, and reports whether to continue.
func (o *owner) names(opts *Options, yield func(string) bool) bool {
	name := o.service.Owner() + "." + Svc.String()
	unready := opts.NoEndpoints || o.unready()
	switch kind := o.service.kind(); {
	case kind == externalName:
		return o.service.ExternalName() == "" || yield(name)
	case unready && (kind == headless || opts.IgnoreEmptyService):
		return true
	}
	if !yield(name) {
		return false
	}
	for _, port := range o.portNames() {
		if !yield(port + "." + name) {
			return false
		}
	}
	if unready {
		return true
	}
	for label := range o.labels {
		if !yield(label + "." + name) {
			return false
		}
	}
	return true
}

// portNames returns the labels of the ports that have a name and a protocol, such as "_http._tcp", sorted.
func (o *owner) portNames() []string {
	names := make(map[string]struct{})
	add := func(ports Ports) {
		for ports.Next() {
			if askedFor(ports.Name()) && askedFor(ports.Protocol()) {
				names["_"+ports.Name()+"._"+ports.Protocol()] = struct{}{}
			}
		}
	}
	if o.service.kind() == clusterIP {
		add(o.service.Ports())
	} else {
		for run := o.first(); len(run) > 0; run = o.after(run) {
			for _, s := range run {
				if s.count() > 0 {
					add(s.Ports())
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// askedFor reports whether a query can contain the name of a port or a protocol, as one label with an underscore that
// needs no escape (RFC 4343, section 2.1).
func askedFor(name string) bool {
	if name == "" || len(name) > 62 {
		return false
	}
	for i := range len(name) {
		switch c := name[i]; c {
		case '.', ' ', '\'', '@', ';', '(', ')', '"', '\\':
			return false
		default:
			if c < ' ' || c > '~' {
				return false
			}
		}
	}
	return true
}

// labels yields the labels of the endpoints, of imported ones two labels, each once.
func (o *owner) labels(yield func(string) bool) {
	if o.distinct() {
		o.eachLabel(yield)
		return
	}
	n4, n6 := o.counts()
	all := slices.AppendSeq(make([]string, 0, n4+n6), o.eachLabel)
	slices.Sort(all)
	for _, label := range slices.Compact(all) {
		if !yield(label) {
			return
		}
	}
}

// eachLabel yields the label of each address.
func (o *owner) eachLabel(yield func(string) bool) {
	for run := o.first(); len(run) > 0; run = o.after(run) {
		for _, s := range run {
			for label := range s.Labels {
				if !yield(label) {
					return
				}
			}
		}
	}
}

// distinct reports whether each address comes once, in slices of this cluster, and no endpoint has a name of its own.
func (o *owner) distinct() bool {
	for run := o.first(); len(run) > 0; run = o.after(run) {
		for _, s := range run {
			if s.suffix() != "" || s.number(atNames) > 0 {
				return false
			}
		}
	}
	return !o.repeats()
}

package services

import (
	"iter"
	"net/netip"
	"strings"
)

// The content of a State, for copying it. Nothing is yielded in a particular order.

// Namespaces yields the namespaces.
func (s *State) Namespaces(yield func(string) bool) {
	for name := range s.namespaces.All {
		if !yield(string(name)) {
			return
		}
	}
}

// Owners yields the Services, or the imported ones, each with its EndpointSlices. If there are only EndpointSlices, the
// Service is the zero one. The caller must not change the list.
func (s *State) Owners(imported bool) iter.Seq2[Service, []Slice] {
	return func(yield func(Service, []Slice) bool) {
		s.ownersOf(imported).All(func(_ nameKey, o *owner) bool { return yield(o.service, o.slices()) })
	}
}

// Pods yields the Pods that have an address.
func (s *State) Pods(yield func(*Pod) bool) {
	for a, h := range s.pods.All {
		for p := range h.all {
			if p.firstAddr().As16() == a && !yield(p) { // a Pod with several addresses is stored with each
				return
			}
		}
	}
}

func (p *Pod) firstAddr() (first netip.Addr) {
	for a := range p.Addrs().All {
		return a
	}
	return first
}

// Addrs returns the Pod's addresses.
func (p *Pod) Addrs() Addrs { return p.addrs.view() }

// Cluster returns the cluster that an imported slice comes from, "" for any other.
func (s Slice) Cluster() string { return strings.TrimPrefix(s.suffix(), ".") }

// Endpoints yields each address with its endpoint's own name, "" if the name is derived from the address, and its
// topology zone, "" if that is not known. It does not set the addresses.
func (s Slice) Endpoints(yield func(netip.Addr, Endpoint) bool) {
	addrs, names, zones := s.Addrs(), s.names(), s.zones()
	all := []string{""}
	for _, name := range zones.names {
		all = append(all, name)
	}
	for i := range addrs.len() {
		name, rank := names.at(i)
		if !yield(addrs.at(i), Endpoint{Name: name, PodName: rank == podName, Zone: all[zones.at(i)]}) {
			return
		}
	}
}

package external

import (
	"cmp"
	"net/netip"
	"strings"
)

// address is an address of a load balancer.
type address struct {
	ip   netip.Addr
	host string
}

func addressOf(a netip.Addr) address { return address{ip: a} }

func (a address) compare(b address) int {
	return cmp.Or(a.ip.Compare(b.ip), strings.Compare(a.host, b.host))
}

// The uppermost bits of balancer.at.
const (
	atIs4 = iota << 30
	atIs6
	atIsHost
	atMask = 1<<30 - 1
)

// address returns the address of b.
func (b balancer) address(packed form) address {
	r := reader{packed.own, int(b.at & atMask)}
	switch b.at &^ atMask {
	case atIs4:
		return address{ip: netip.AddrFrom4([4]byte([]byte(r.take(4))))}
	case atIs6:
		return address{ip: netip.AddrFrom16([16]byte([]byte(r.take(16))))}
	}
	return address{host: r.text()}
}

// balancersOf yields the addresses of the load balancer of an object that is a Service with cluster IPs.
func balancersOf(id objectID, packed form) func(yield func(balancer) bool) {
	return func(yield func(balancer) bool) {
		if kindOf(packed) != KindService || clusterIPs(packed).empty() {
			return
		}
		s := serviceOf(packed)
		r := reader{packed.own, s.internal}
		r.skipHosts()
		n4, n6, hosts := int(r.byte()), int(r.byte()), int(r.byte())
		for range n4 {
			if !yield(balancer{id, uint32(r.at) | atIs4}) { // #nosec G115 -- within maxPacked
				return
			}
			r.take(4)
		}
		for range n6 {
			if !yield(balancer{id, uint32(r.at) | atIs6}) { // #nosec G115 -- within maxPacked
				return
			}
			r.take(16)
		}
		for range hosts {
			if !yield(balancer{id, uint32(r.at) | atIsHost}) { // #nosec G115 -- within maxPacked
				return
			}
			r.text()
		}
	}
}

// byBalancer returns the order of balancers: by address, then by the precedence of their Services.
func (s *State) byBalancer(a address, packed form) func(balancer) int {
	return func(b balancer) int {
		other := s.at(b.id)
		if order := b.address(other).compare(a); order != 0 {
			return order
		}
		return cmp.Or(cmp.Compare(webRank(other), webRank(packed)), compareAge(other, packed))
	}
}

// webRank is lower for a Service that clients of a name more likely want.
func webRank(packed form) int {
	s := serviceOf(packed)
	_, _, r := s.inside()
	rank := 2
	for range r.len() {
		switch r.port().Number {
		case 443:
			return 0
		case 80:
			rank = 1
		}
	}
	return rank
}

// balancer returns the Service whose load balancer has the address, 0 if there is none.
func (s *State) balancer(a address) objectID {
	b, ok := s.balancers.From(func(b balancer) int { return b.address(s.at(b.id)).compare(a) })
	if ok && b.address(s.at(b.id)).compare(a) == 0 {
		return b.id
	}
	return 0
}

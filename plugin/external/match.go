package external

import "net/netip"

// Object returns the object that has the name. The Match must be neither a NameError nor NoData.
func (m *Match) Object() Ref { return refOf(m.packed) }

// Wildcard returns x, without a final dot, if the wildcard *.x matched, and "" if the name itself was found.
func (m *Match) Wildcard() string {
	if m.wild {
		return m.below
	}
	return ""
}

// TTL returns the TTL in seconds that the object sets for records of the type, if any.
func (m *Match) TTL(typ RecordType) (seconds uint32, ok bool) {
	if kindOf(m.packed) != KindDNSEndpoint {
		return ttlOf(m.packed)
	}
	ttl, _ := recordsAt(m.packed, int(m.at))
	for _, t := range types {
		if n := ttl.uint(); t == typ && n > 0 {
			return uint32(n - 1), true // #nosec G115 -- a TTL
		}
	}
	return ttlOf(m.packed)
}

// places yields the places that the name leads to, several if a route leads to several Gateways.
func (m *Match) places(yield func(places) bool) bool {
	if !m.several {
		return yield(m.to)
	}
	return held(m.packed, m.at, func(h holder) bool {
		p := m.state.placesOf(h, m.sel)
		return p.empty() || yield(p)
	})
}

// Addrs yields the addresses of a Match that is Found, IPv4 before IPv6 of each load balancer, each once.
func (m *Match) Addrs(yield func(netip.Addr) bool) {
	switch {
	case m.Outcome != Found:
	case !m.several:
		m.to.addrs(yield)
	default:
		var all [maxParents]places
		n := 0
		m.places(func(p places) bool { all[n] = p; n++; return true })
		for i, p := range all[:n] {
			if !p.addrs(func(a netip.Addr) bool { return among(all[:i], a) || yield(a) }) {
				return
			}
		}
	}
}

// among reports whether one of all has the address.
func among(all []places, a netip.Addr) bool {
	for _, p := range all {
		if p.has(a) {
			return true
		}
	}
	return false
}

// Only returns the address of a Match that is Found, if it certainly has one IPv4 address and nothing else, as most
// names do.
func (m *Match) Only() (ip netip.Addr, ok bool) {
	if m.Outcome != Found || m.several || len(m.to) != len(noPlaces)+4 || m.to[0] != 1 {
		return ip, false
	}
	return netip.AddrFrom4([4]byte([]byte(m.to[len(noPlaces):]))), true
}

// Hosts yields the hostnames of load balancers of a Match that is Found, fully qualified, or the target of a
// DNSEndpoint's CNAME record. One may come more than once if a route leads to several Gateways.
func (m *Match) Hosts(yield func(string) bool) {
	if m.Outcome == Found {
		m.places(func(p places) bool { return p.hosts(yield) })
	}
}

// Texts yields the TXT records of a Match that is Found.
func (m *Match) Texts(yield func(string) bool) {
	if r, ok := m.records(0); ok {
		r.each(yield)
	}
}

// Servers yields the SRV records that a DNSEndpoint has for a Match that is Found.
func (m *Match) Servers(yield func(Server) bool) {
	if r, ok := m.records(1); ok {
		r.each(func(s string) bool { return yield(serverOf(s)) })
	}
}

// Mails yields the MX records of a Match that is Found.
func (m *Match) Mails(yield func(Mail) bool) {
	if r, ok := m.records(2); ok {
		r.each(func(s string) bool { return yield(mailOf(s)) })
	}
}

// records returns a reader of the n-th list of a DNSEndpoint's records other than addresses.
func (m *Match) records(n int) (r reader, ok bool) {
	if m.Outcome != Found || kindOf(m.packed) != KindDNSEndpoint {
		return r, false
	}
	_, r = recordsAt(m.packed, int(m.at))
	r.places()
	for range n {
		r.each(func(string) bool { return true })
	}
	return r, true
}

func (r *reader) each(yield func(string) bool) {
	for range r.len() {
		if !yield(r.text()) {
			return
		}
	}
}

// Ports yields the ports of a Service, as in SRV records, of a Match that is Found: all of SERVICE.NAMESPACE.ZONE, and
// those of that name and protocol of _PORT._PROTO.SERVICE.NAMESPACE.ZONE. target is SERVICE.NAMESPACE.ZONE.
func (m *Match) Ports(yield func(port uint16, target string) bool) {
	if m.Outcome != Found || m.service == "" {
		return
	}
	s := serviceOf(m.packed)
	_, _, r := s.inside()
	for range r.len() {
		if p := r.port(); p.matches(m.port, m.protocol) && !yield(uint16(p.Number), m.service) { // #nosec G115 -- a port
			return
		}
	}
}

// Service returns the Service of a Match: the one that the name is an alias for, or the headless one. If headless, its
// addresses are in the index of Services, not in ClusterIPs.
func (m *Match) Service() (namespace, name string, headless bool) {
	if m.Outcome != Internal && m.Outcome != Headless {
		return "", "", false
	}
	return namespaceOf(m.packed), nameOf(m.packed), serviceOf(m.packed).headless
}

// ClusterIPs yields the cluster IPs of the Service that the name of a Match is an alias for.
func (m *Match) ClusterIPs(yield func(netip.Addr) bool) {
	if m.Outcome == Internal {
		clusterIPs(m.packed).addrs(yield)
	}
}

func clusterIPs(packed form) places {
	s := serviceOf(packed)
	_, p, _ := s.inside()
	return p
}

// maxInside limits the Services that one name may lead to from inside the cluster.
const maxInside = 16

// Inside yields the cluster IPs of the Services whose load balancers a found Match leads to, by their addresses or
// their hostnames. It yields nothing if the Match leads to no Service's load balancer. If several Services share an
// address, the one with port 443 counts, else the one with port 80, else the oldest. It allocates nothing.
func (m *Match) Inside(yield func(netip.Addr) bool) {
	if m.Outcome != Found {
		return
	}
	var seen [maxInside]objectID
	n := 0
	behind := func(id objectID) bool {
		for _, other := range seen[:n] {
			if other == id {
				return true
			}
		}
		if n == maxInside {
			return false
		}
		seen[n] = id
		n++
		return clusterIPs(m.state.at(id)).addrs(yield)
	}
	m.places(func(p places) bool {
		return p.addrs(func(a netip.Addr) bool {
			id := m.state.balancer(addressOf(a))
			return id == 0 || behind(id)
		}) && p.hosts(func(host string) bool {
			id := m.state.balancer(address{host: host})
			return id == 0 || behind(id)
		})
	})
}

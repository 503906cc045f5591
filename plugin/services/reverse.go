package services

import (
	"iter"
	"net/netip"
	"strings"
)

// The zones of reverse names.
const (
	reverse4 = "in-addr.arpa."
	reverse6 = "ip6.arpa."
)

// ParseReverse returns the address of a lower-case, fully qualified name in in-addr.arpa. (RFC 1035, section 3.5) or
// ip6.arpa. (RFC 3596, section 2.5). ok is false for any other name: one that is too short or too long, and one of an
// IPv4 address in the form ::ffff:a.b.c.d, whose reverse name is in in-addr.arpa. It allocates nothing.
func ParseReverse(name string) (a netip.Addr, ok bool) {
	p, ok := parseReverse(name)
	return p.Addr(), ok && p.IsSingleIP() && !p.Addr().Is4In6()
}

// ParseReversePrefix returns the addresses whose reverse names are below a lower-case, fully qualified name:
// in-addr.arpa. with up to three octets before it, or ip6.arpa. with up to 31 nibbles. ok is false for any other name.
// It allocates nothing.
func ParseReversePrefix(name string) (p netip.Prefix, ok bool) {
	p, ok = parseReverse(name)
	return p, ok && !p.IsSingleIP()
}

// parseReverse returns the prefix of a reverse name. It reads from the last label on.
func parseReverse(name string) (netip.Prefix, bool) {
	if rest, ok := strings.CutSuffix(name, reverse4); ok {
		return parseReverse4(rest)
	}
	if rest, ok := strings.CutSuffix(name, reverse6); ok {
		return parseReverse6(rest)
	}
	return netip.Prefix{}, false
}

// parseReverse4 parses octets, each followed by a dot. The last octet of the address comes first.
func parseReverse4(rest string) (netip.Prefix, bool) {
	var ip [4]byte
	octets := 0
	for ; rest != "" && octets < len(ip); octets++ {
		body, ok := strings.CutSuffix(rest, ".")
		start := strings.LastIndexByte(body, '.') + 1
		n, sound := parseOctet(body[start:])
		if !ok || !sound {
			return netip.Prefix{}, false
		}
		ip[octets], rest = n, body[:start]
	}
	return netip.PrefixFrom(netip.AddrFrom4(ip), 8*octets), rest == ""
}

// parseReverse6 parses nibbles, each followed by a dot. The last nibble of the address comes first.
func parseReverse6(rest string) (netip.Prefix, bool) {
	var ip [16]byte
	nibbles := len(rest) / 2
	if len(rest)%2 != 0 || nibbles > 2*len(ip) {
		return netip.Prefix{}, false
	}
	for i := range nibbles {
		at := len(rest) - 2*i - 2
		n, ok := parseNibble(rest[at])
		if !ok || rest[at+1] != '.' {
			return netip.Prefix{}, false
		}
		ip[i/2] |= n << (4 * (1 - i%2))
	}
	return netip.PrefixFrom(netip.AddrFrom16(ip), 4*nibbles), true
}

// Pointer is the name of a Service or of an endpoint with an address: the target of a PTR record, without the zone.
type Pointer struct {
	owner string
	name  string     // an endpoint's own name
	addr  netip.Addr // valid for an endpoint without a name of its own
}

// AppendTo appends the full name: "web.shop" or "db-0.db.shop", and then zone, such as ".svc.cluster.local.".
func (p Pointer) AppendTo(b []byte, zone string) []byte {
	switch {
	case p.name != "":
		b = append(append(b, p.name...), '.')
	case p.addr.IsValid():
		b = append(appendDerived(b, p.addr), '.')
	}
	return append(append(b, p.owner...), zone...)
}

// maxLooked is the number of endpoints, or Services, of one address that are checked for a PTR record. If the options
// exclude some namespaces, that is enough to find the others.
const maxLooked = 3 * MaxRecords

// PointerTo returns the name of a Service.
func PointerTo(s Service) Pointer { return Pointer{owner: s.Owner()} }

// OnlyService returns the only Service that Pointers yields, if that takes no search: nearly every address in a query
// is the cluster IP of one Service. Otherwise it returns the zero Service.
func (s *State) OnlyService(a netip.Addr, o *Options) Service {
	if h := s.clusterIPs.Find(a.As16()); h != nil && h.more.Empty() && len(o.Namespaces) == 0 {
		return h.one
	}
	return Service{}
}

// Pointers calls yield, until it returns false, with the names of the address a: of the Service whose cluster IP it is,
// else of each endpoint that has it, each name once. Endpoints with a hostname come first, then those named after their
// pod, then those named after the address; each in the order of their Services' names, and then of their own.
//
// It yields at most MaxRecords names. If more than three times as many endpoints have the address, it skips the last of
// them. It allocates nothing, unless endpoints with a hostname and endpoints named after their pod share the address.
func (s *State) Pointers(a netip.Addr, o *Options, yield func(Pointer) bool) {
	h := s.clusterIPs.Find(a.As16())
	look := pointers{state: s, options: o, addr: a.Unmap(), looked: maxLooked, left: MaxRecords}
	look.all(h, yield)
}

// pointers is a search for the names of an address. The function to call with them is not a field, which would move the
// search to the heap.
type pointers struct {
	state        *State
	options      *Options
	addr         netip.Addr
	looked, left int // how many more may be checked, and yielded
	last         Pointer
	hostnames    int                  // how many endpoints with a hostname were checked
	taken        map[Pointer]struct{} // their names, once endpoints named after pods follow
}

// all yields the names of the address. h holds the Services with this cluster IP.
func (p *pointers) all(h *holders[Service], yield func(Pointer) bool) {
	if h != nil {
		for svc := range h.all { // several only while a cluster IP moves from one to another
			if p.looked--; p.looked < 0 {
				return
			}
			if p.exposed(svc.Namespace()) {
				yield(Pointer{owner: svc.Owner()})
				return
			}
		}
	}
	if p.options.NoEndpoints {
		return
	}
	p.endpoints(func(sl Slice, at int) bool { return p.endpoint(sl, at, yield) })
}

// endpoints yields the endpoints with the address, by slice and index.
func (p *pointers) endpoints(yield func(sl Slice, at int) bool) {
	switch id := p.state.idOf(p.addr); id {
	case 0:
	case severalSlices:
		for e := range p.state.sharersOf(p.addr).each {
			if !yield(p.state.slices.Get(e.id), int(e.at)) {
				return
			}
		}
	default:
		sl := p.state.slices.Get(id)
		from, to := sorted{sl.Addrs()}.find(p.addr)
		for at := from; at < to && yield(sl, at); at++ {
		}
	}
}

// exposed reports whether the options serve objects of the namespace.
func (p *pointers) exposed(namespace string) bool {
	return len(p.options.Namespaces) == 0 || p.state.exposed(namespace, p.options)
}

// endpoint yields the name of the endpoint at that index in sl, and reports whether to continue.
func (p *pointers) endpoint(sl Slice, at int, yield func(Pointer) bool) bool {
	if p.looked--; p.looked < 0 || p.left == 0 {
		return false
	}
	if !p.exposed(sl.Namespace()) {
		return true
	}
	next := Pointer{owner: sl.Owner()}
	var rank rank
	switch next.name, rank = sl.names().at(at); rank {
	case hostname:
		p.hostnames++
	case podName:
		if p.hostnames > 0 && p.isHostname(next) {
			return true
		}
	case derived:
		next.addr = p.addr
	}
	if next == p.last { // equal ones of a rank are adjacent
		return true
	}
	p.left--
	p.last = next
	return yield(next)
}

// isHostname reports whether an endpoint of the same Service has the name of a pod as its hostname.
func (p *pointers) isHostname(pod Pointer) bool {
	if p.taken == nil {
		p.taken = make(map[Pointer]struct{}, p.hostnames)
		p.endpoints(func(sl Slice, at int) bool {
			name, rank := sl.names().at(at)
			if rank != hostname {
				return false
			}
			p.taken[Pointer{owner: sl.Owner(), name: name}] = struct{}{}
			return true
		})
	}
	_, ok := p.taken[pod]
	return ok
}

// maxBelow is the number of addresses below a name that are checked to find one in a namespace that is
// served.
const maxBelow = 256

// AddressBelow reports whether an address in p has a name, so that names above its reverse name exist as well (RFC
// 8020, section 2). It costs the same for any number of addresses. With Options.Namespaces it checks no more than 256
// addresses and some thousand of their endpoints; if there are more, it returns true.
func (s *State) AddressBelow(p netip.Prefix, o *Options) (found bool) {
	left, looked := maxBelow, maxLooked
	s.addresses(p, o, func(a netip.Addr) bool {
		left--
		found = left < 0 || s.pointed(a, o, &looked) || looked < 0
		return !found
	})
	return found
}

// Addresses yields the addresses in p that have a name, in order, each once: those with PTR records in a reverse zone.
func (s *State) Addresses(p netip.Prefix, o *Options) iter.Seq[netip.Addr] {
	return func(yield func(netip.Addr) bool) {
		s.addresses(p, o, func(a netip.Addr) bool {
			looked := maxLooked
			return !s.pointed(a, o, &looked) || yield(a)
		})
	}
}

// pointed reports whether an address of addresses has a name. It subtracts the number of checked endpoints from looked.
func (s *State) pointed(a netip.Addr, o *Options, looked *int) (found bool) {
	if len(o.Namespaces) == 0 {
		return true
	}
	look := pointers{state: s, options: o, addr: a, looked: *looked, left: 1}
	look.all(s.clusterIPs.Find(a.As16()), func(Pointer) bool {
		found = true
		return false
	})
	*looked = look.looked
	return found
}

// addresses yields the addresses in p of Services and, unless the options exclude them, of endpoints, in order, each
// once.
func (s *State) addresses(p netip.Prefix, o *Options, yield func(netip.Addr) bool) {
	for a := p.Addr(); a.IsValid(); a = a.Next() {
		next, ok := s.serviceAddrs.next(a)
		if !o.NoEndpoints {
			if other, found := s.endpointAddrs.next(a); found && (!ok || other.Less(next)) {
				next, ok = other, true
			}
		}
		if a = next; !ok || !p.Contains(a) || !yield(a) {
			return
		}
	}
}

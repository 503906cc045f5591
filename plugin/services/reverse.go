package services

import (
	"net/netip"
	"slices"
	"strings"
)

// ParseReverse returns the address that a lower-case, fully qualified name in in-addr.arpa. (RFC 1035, section 3.5) or
// ip6.arpa. (RFC 3596, section 2.5) stands for. ok is false for any other name, and for one that is too short or too
// long. It allocates nothing.
func ParseReverse(name string) (a netip.Addr, ok bool) {
	if rest, ok := strings.CutSuffix(name, ".in-addr.arpa."); ok {
		return parseReverse4(rest)
	}
	if rest, ok := strings.CutSuffix(name, ".ip6.arpa."); ok {
		return parseReverse6(rest)
	}
	return netip.Addr{}, false
}

func parseReverse4(rest string) (netip.Addr, bool) {
	var ip [4]byte
	octet, digits, n := 3, 0, 0 // the last octet stands first
	for i := range len(rest) {
		c := rest[i]
		switch {
		case c >= '0' && c <= '9' && digits < 3 && (digits == 0 || n > 0): // no number begins with a zero but that one
			n, digits = 10*n+int(c-'0'), digits+1
		case c == '.' && digits > 0 && n < 256 && octet > 0:
			ip[octet], octet, digits, n = byte(n), octet-1, 0, 0
		default:
			return netip.Addr{}, false
		}
	}
	if octet > 0 || digits == 0 || n > 255 {
		return netip.Addr{}, false
	}
	ip[0] = byte(n)
	return netip.AddrFrom4(ip), true
}

func parseReverse6(rest string) (netip.Addr, bool) {
	if len(rest) != 63 {
		return netip.Addr{}, false
	}
	var ip [16]byte
	for i := range 32 {
		c := rest[2*i]
		if i < 31 && rest[2*i+1] != '.' {
			return netip.Addr{}, false
		}
		var n byte
		switch {
		case c >= '0' && c <= '9':
			n = c - '0'
		case c >= 'a' && c <= 'f':
			n = c - 'a' + 10
		default:
			return netip.Addr{}, false
		}
		at := 15 - i/2
		ip[at] |= n << (4 * (i % 2))
	}
	return netip.AddrFrom16(ip).Unmap(), true
}

// Pointer is the name of a Service or of an endpoint that has an address: the target of a PTR record, less the zone.
type Pointer struct {
	owner string
	name  string     // an endpoint's own name
	addr  netip.Addr // valid for an endpoint without a name of its own
}

// In returns the name in full: "web.shop.svc" or "db-0.db.shop.svc", and then zone, which has ".svc" and the dots of its own
// in it, as in ".svc.cluster.local.".
func (p Pointer) In(zone string) string {
	if p.name == "" && !p.addr.IsValid() { // nearly always, and with one copy where a buffer would take two
		return p.owner + zone
	}
	label := p.name
	if label == "" {
		var buf [64]byte
		label = string(appendDerived(buf[:0], p.addr))
	}
	return label + "." + p.owner + zone
}

// Pointers calls yield, until it returns false, with the names of the address a: of the Service whose cluster IP it is,
// else of each endpoint that has it, each name once.
func (s *State) Pointers(a netip.Addr, o *Options, yield func(Pointer) bool) {
	if h := s.clusterIPs.find(a.As16()); h != nil {
		if svc := s.firstServed(h, o); !svc.IsZero() {
			yield(Pointer{owner: svc.Owner()})
			return
		}
	}
	if o.NoEndpoints {
		return
	}
	var one [1]sliceID
	var seen []Pointer
	ids := s.idsWith(a, &one)
	for _, id := range ids {
		sl := s.slices.get(id)
		if len(o.Namespaces) > 0 && !s.exposed(sl.Namespace(), o) {
			continue
		}
		addrs := sl.Addrs()
		for i := range addrs.len() {
			if addrs.at(i) != a {
				continue
			}
			p := Pointer{owner: sl.Owner(), name: sl.nameAt(i)}
			if p.name == "" {
				p.addr = a
			}
			if slices.Contains(seen, p) {
				continue
			}
			if len(ids) > 1 || sl.packed[atFlags]&sameAddr != 0 {
				seen = append(seen, p)
			}
			if !yield(p) {
				return
			}
		}
	}
}

// firstServed returns the first by name of the Services that the options serve. There is more than one only while a
// cluster IP moves from one to another.
func (s *State) firstServed(h *holders[Service], o *Options) (first Service) {
	if len(h.more) == 0 && len(o.Namespaces) == 0 {
		return h.first
	}
	for _, svc := range h.all() {
		if len(o.Namespaces) > 0 && !s.exposed(svc.Namespace(), o) {
			continue
		}
		if first.IsZero() || svc.Owner() < first.Owner() {
			first = svc
		}
	}
	return first
}

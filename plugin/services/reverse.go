package services

import (
	"net/netip"
	"slices"
	"strings"
)

// The zones of reverse names.
const (
	reverse4 = "in-addr.arpa."
	reverse6 = "ip6.arpa."
)

// ParseReverse returns the address that a lower-case, fully qualified name in in-addr.arpa. (RFC 1035, section 3.5) or
// ip6.arpa. (RFC 3596, section 2.5) stands for. ok is false for any other name: one that is too short or too long, and
// one of an IPv4 address in the form ::ffff:a.b.c.d, whose reverse name is in in-addr.arpa. It allocates nothing.
func ParseReverse(name string) (a netip.Addr, ok bool) {
	p, ok := parseReverse(name)
	return p.Addr(), ok && p.IsSingleIP() && !p.Addr().Is4In6()
}

// ParseReversePrefix returns the addresses whose reverse names are below a lower-case, fully qualified name: in-addr.arpa.
// with up to three octets before it, or ip6.arpa. with up to 31 nibbles. ok is false for any other name. It allocates
// nothing.
func ParseReversePrefix(name string) (p netip.Prefix, ok bool) {
	p, ok = parseReverse(name)
	return p, ok && !p.IsSingleIP()
}

// parseReverse returns the prefix that a reverse name spells, from its last label on.
func parseReverse(name string) (netip.Prefix, bool) {
	if rest, ok := strings.CutSuffix(name, reverse4); ok {
		return parseReverse4(rest)
	}
	if rest, ok := strings.CutSuffix(name, reverse6); ok {
		return parseReverse6(rest)
	}
	return netip.Prefix{}, false
}

// parseReverse4 takes octets apart, each with a dot behind it. The last octet of the address stands first.
func parseReverse4(rest string) (netip.Prefix, bool) {
	var ip [4]byte
	octets := 0
	for ; rest != "" && octets < len(ip); octets++ {
		i := len(rest) - 1
		if rest[i] != '.' {
			return netip.Prefix{}, false
		}
		n, scale, digits := 0, 1, 0
		for i--; i >= 0 && rest[i] != '.'; i-- {
			if rest[i] < '0' || rest[i] > '9' || digits == 3 {
				return netip.Prefix{}, false
			}
			n, scale, digits = n+int(rest[i]-'0')*scale, scale*10, digits+1
		}
		if digits == 0 || n > 255 || digits > 1 && rest[i+1] == '0' { // no number begins with a zero but zero
			return netip.Prefix{}, false
		}
		ip[octets] = byte(n)
		rest = rest[:i+1]
	}
	return netip.PrefixFrom(netip.AddrFrom4(ip), 8*octets), rest == ""
}

// parseReverse6 takes nibbles apart, each with a dot behind it. The last nibble of the address stands first.
func parseReverse6(rest string) (netip.Prefix, bool) {
	var ip [16]byte
	nibbles := len(rest) / 2
	if len(rest)%2 != 0 || nibbles > 2*len(ip) {
		return netip.Prefix{}, false
	}
	for i := range nibbles {
		c := rest[len(rest)-2*i-2]
		var n byte
		switch {
		case c >= '0' && c <= '9':
			n = c - '0'
		case c >= 'a' && c <= 'f':
			n = c - 'a' + 10
		default:
			return netip.Prefix{}, false
		}
		if rest[len(rest)-2*i-1] != '.' {
			return netip.Prefix{}, false
		}
		ip[i/2] |= n << (4 * (1 - i%2))
	}
	return netip.PrefixFrom(netip.AddrFrom16(ip), 4*nibbles), true
}

// Pointer is the name of a Service or of an endpoint that has an address: the target of a PTR record, less the zone.
type Pointer struct {
	owner string
	name  string     // an endpoint's own name
	addr  netip.Addr // valid for an endpoint without a name of its own
}

// AppendTo appends the name in full: "web.shop.svc" or "db-0.db.shop.svc", and then zone, which has ".svc" and its own dots in
// it, as in ".svc.cluster.local.".
func (p Pointer) AppendTo(b []byte, zone string) []byte {
	switch {
	case p.name != "":
		b = append(append(b, p.name...), '.')
	case p.addr.IsValid():
		b = append(appendDerived(b, p.addr), '.')
	}
	return append(append(b, p.owner...), zone...)
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

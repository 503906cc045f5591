package answer

import (
	"net/netip"

	"github.com/miekg/dns"

	"github.com/kubehosts/kubehosts/plugin/hosts"
	"github.com/kubehosts/kubehosts/plugin/services"
)

// held is the result of a look-up in the hosts entries.
type held struct {
	name     string            // in lower case
	first    hosts.Addresses   // of the first table that has the name
	more     []hosts.Addresses // of the others, copied: tables may be replaced while an answer is made
	tables   int               // the number of tables that have it
	wildcard bool              // no table has the name itself, so the wildcard that covers it applies (RFC 4592)
	ttl      uint32            // the lowest of all layers: an RRset has one TTL (RFC 2181, section 5.2)
	passOn   bool              // all layers that have the name pass on other types
}

// lookup returns the addresses that t has for h.name.
func (h *held) lookup(t *hosts.Table) (hosts.Addresses, bool) {
	if h.wildcard {
		return t.LookupWildcard(h.name)
	}
	return t.Lookup(h.name)
}

// hold looks the lower-case name up in the hosts entries. ok is false if they have no address for it.
func (v *View) hold(name string) (h held, ok bool) {
	for _, wildcard := range [...]bool{false, true} {
		h = held{name: name, wildcard: wildcard}
		if v.collect(&h); h.tables > 0 {
			return h, true
		}
	}
	return held{}, false
}

func (v *View) collect(h *held) {
	for i := range v.Hosts {
		l := &v.Hosts[i]
		for _, t := range l.Tables.few() {
			found, ok := h.lookup(t)
			switch {
			case !ok:
				continue
			case h.tables == 0:
				h.first, h.ttl, h.passOn = found, l.TTL, l.PassOn
			default:
				h.more = append(h.more, found)
				h.ttl, h.passOn = min(h.ttl, l.TTL), h.passOn && l.PassOn
			}
			h.tables++
		}
	}
}

// addrs yields the IPv4 or the IPv6 addresses of h, each once.
func (v *View) addrs(h *held, is6 bool, yield func(netip.Addr) bool) {
	if h.tables == 1 { // within a table, each address of a name is unique
		each(h.first, is6, yield)
		return
	}
	var seen set[netip.Addr]
	more := true
	once := func(a netip.Addr) bool {
		more = !seen.add(a) || yield(a)
		return more
	}
	each(h.first, is6, once)
	for i := 0; more && i < len(h.more); i++ {
		each(h.more[i], is6, once)
	}
}

func each(all hosts.Addresses, is6 bool, yield func(netip.Addr) bool) {
	if is6 {
		for i := range all.Len6() {
			if !yield(netip.AddrFrom16(all.At6(i))) {
				return
			}
		}
		return
	}
	for i := range all.Len4() {
		if !yield(netip.AddrFrom4(all.At4(i))) {
			return
		}
	}
}

// fromHosts answers from the hosts entries, if they have the name. For the zone's own name, SOA and NS records
// stay those of the zone.
func (a *Answer) fromHosts() bool {
	v := a.view
	if len(v.Hosts) == 0 || a.Zone != nil && a.lower == a.Zone.Name && (a.Type == dns.TypeSOA || a.Type == dns.TypeNS) {
		return false
	}
	a.source = fromHosts
	pointed := false
	if ip, ok := services.ParseReverse(a.lower); ok {
		pointed = a.pointed(ip)
	}
	h, ok := v.hold(a.lower) // a reverse name may also be an entry
	switch {
	case a.Type == dns.TypePTR && pointed:
		a.Kind = Pointers
	case !ok && pointed:
		a.noData()
	case !ok:
		return false
	case h.passOn && a.Type != dns.TypeA && a.Type != dns.TypeAAAA && a.Type != dns.TypePTR:
		a.passedOn = true
		return false
	default:
		a.held, a.TTL = h, h.ttl
		a.addresses()
	}
	return true
}

// aboveHosts reports whether a hosts entry, or the PTR record of one, exists below the name. If so, the name
// exists.
func (a *Answer) aboveHosts() bool {
	if len(a.view.Hosts) == 0 {
		return false
	}
	above, n := prefixes(a.lower)
	for i := range a.view.Hosts {
		l := &a.view.Hosts[i]
		for _, t := range l.Tables.few() {
			// Most tables have no name in the zone, and checking that takes fewer labels.
			if t.NonTerminal(a.Zone.Name) && t.NonTerminal(a.lower) {
				return true
			}
			for _, prefix := range above[:n] {
				if !l.NoReverse && t.HasNames(prefix) {
					return true
				}
			}
		}
	}
	return false
}

// hostsIn reports whether the hosts entries have names below the zone.
func (v *View) hostsIn(zone string) bool {
	for i := range v.Hosts {
		for _, t := range v.Hosts[i].Tables.few() {
			if t.NonTerminal(zone) {
				return true
			}
		}
	}
	return false
}

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
	wildcard bool              // the addresses are those of the wildcard that covers the name
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

// hold returns the addresses that hosts entries have for the lower-case name itself. ok is false if there is no entry
// for it.
func (v *View) hold(name string) (h held, ok bool) {
	h.name = name
	v.collect(&h)
	return h, h.tables > 0
}

// cover returns the addresses of the hosts wildcard that covers the lower-case name, whether the name exists or not. ok
// is false if there is none.
func (v *View) cover(name string) (h held, ok bool) {
	h.name, h.wildcard = name, true
	v.collect(&h)
	return h, h.tables > 0
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

// fromHosts answers from the hosts entries for the name itself, if there are any. For the zone's own name, SOA and NS
// records stay those of the zone.
func (a *Answer) fromHosts() bool {
	v := a.view
	a.held, a.passedOn = held{}, false
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
	case ok:
		return a.entry(h)
	case pointed:
		a.noData()
	default:
		return false
	}
	return true
}

// entry answers with the addresses of h, unless its layers pass the type of the question on.
func (a *Answer) entry(h held) bool {
	a.held = h
	if h.passOn && a.Type != dns.TypeA && a.Type != dns.TypeAAAA && a.Type != dns.TypePTR {
		a.passedOn = true
		return false
	}
	a.source, a.TTL = fromHosts, h.ttl
	a.addresses()
	return true
}

// fromWildcard answers from the hosts wildcard that covers the name, if there is one and the name is certain not to
// exist: a wildcard stands for names that do not exist only (RFC 1034, section 4.3.3; RFC 4592, section 2.2.2). A name
// whose entry passes the type on exists. The wildcard's parent is that of the name, so it is in the same zone as the
// name, which is not the zone's own.
func (a *Answer) fromWildcard() bool {
	h, ok := a.view.cover(a.lower)
	return ok && !a.passedOn && !a.view.aboveZone(a.lower) && !a.aboveHosts() && a.unused() && a.entry(h)
}

// unused reports whether no object has the name, which the index of Zone does not have now, once all are read.
func (a *Answer) unused() bool {
	service := a.Zone != nil && a.Zone.External == nil && !a.Zone.Reverse
	return a.Zone == nil || service && a.match.Why == services.NotDefined || a.known()
}

// Covered reports whether a hosts wildcard covers the name. It answers only for a name that does not exist, see
// OfWildcard.
func (a *Answer) Covered() bool {
	_, ok := a.view.cover(a.lower)
	return ok
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
			if (a.Zone == nil || t.NonTerminal(a.Zone.Name)) && t.NonTerminal(a.lower) {
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

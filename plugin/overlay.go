package kubehosts

import (
	"net/netip"
	"strings"

	"github.com/miekg/dns"

	"github.com/kubehosts/kubehosts/plugin/answer"
	"github.com/kubehosts/kubehosts/plugin/hosts"
)

// overlay is the hosts entries of a stanza, in the order of its hosts options.
type overlay []answer.Layer

// heldAddresses are the addresses of a name, out of one table or several.
type heldAddresses struct {
	first hosts.Addresses
	more  []hosts.Addresses
	ttl   uint32 // the lowest of all: an RRset has one (RFC 2181, section 5.2)
	// All that hold the name pass other types on.
	passOn bool
}

// lookup collects the addresses of a lower-case name. It reports whether there are any. Wildcards count only if no table
// has the name itself: an exact name hides the wildcards that cover it, in whatever tables they are (RFC 4592).
func (o overlay) lookup(name string, found *heldAddresses) (held bool) {
	return o.collect(name, (*hosts.Table).Lookup, found) || o.collect(name, (*hosts.Table).LookupWildcard, found)
}

func (o overlay) collect(name string, lookup func(*hosts.Table, string) (hosts.Addresses, bool), found *heldAddresses) (held bool) {
	for i := range o {
		l := &o[i]
		for _, t := range l.Tables.All() {
			a, ok := lookup(t, name)
			switch {
			case !ok:
			case !held:
				held, found.first, found.ttl, found.passOn = true, a, l.TTL, l.PassOn
			default:
				found.more = append(found.more, a)
				found.ttl = min(found.ttl, l.TTL)
				found.passOn = found.passOn && l.PassOn
			}
		}
	}
	return held
}

// names returns the names that have the address a, each once, and no more than a message can hold.
func (o overlay) names(a netip.Addr) (all []pointer) {
	var seen map[string]struct{} // made for the second table that has the address; none has a name twice
	for i := range o {
		l := &o[i]
		for _, t := range l.Tables.All() {
			names := t.Names(a)
			if seen == nil && len(all) > 0 && names.Len() > 0 {
				seen = make(map[string]struct{})
				for _, p := range all {
					seen[p.name] = struct{}{}
				}
			}
			for i := range min(names.Len(), maxRecords-len(all)) {
				if first(seen, names.At(i)) {
					all = append(all, pointer{strings.Clone(names.At(i)), l.TTL}) // a record must not keep a table alive
				}
			}
		}
	}
	return all
}

// each4 yields the IPv4 addresses, each once.
func (f *heldAddresses) each4(yield func([4]byte) bool) {
	eachOnce(f, hosts.Addresses.Len4, hosts.Addresses.At4, yield)
}

// each6 yields the IPv6 addresses, each once.
func (f *heldAddresses) each6(yield func([16]byte) bool) {
	eachOnce(f, hosts.Addresses.Len6, hosts.Addresses.At6, yield)
}

func eachOnce[IP comparable](f *heldAddresses, count func(hosts.Addresses) int, at func(hosts.Addresses, int) IP, yield func(IP) bool) {
	var seen map[IP]struct{} // stays nil for one table, which has no address of a name twice
	if len(f.more) > 0 {
		seen = make(map[IP]struct{})
	}
	for i := range 1 + len(f.more) {
		a := f.first
		if i > 0 {
			a = f.more[i-1]
		}
		for j := range count(a) {
			if ip := at(a, j); first(seen, ip) && !yield(ip) {
				return
			}
		}
	}
}

// most returns how many addresses there are by count, with those that stand in several tables, as far as a message holds
// them.
func (f *heldAddresses) most(count func(hosts.Addresses) int) int {
	n := count(f.first)
	for _, a := range f.more {
		n += count(a)
	}
	return min(n, maxRecords)
}

// held4 returns the A records of a name that is held.
func (q *question) held4(found *heldAddresses) *dns.Msg {
	n := found.most(hosts.Addresses.Len4)
	if n == 0 {
		return q.reply()
	}
	rrs, slab, m := q.slab4(n)
	for ip := range found.each4 {
		i := len(m.Answer)
		if i == n {
			break
		}
		m.Answer = append(rrs[:i], slab[i].init(q.name, found.ttl, ip))
	}
	return m
}

// held6 returns the AAAA records of a name that is held.
func (q *question) held6(found *heldAddresses) *dns.Msg {
	n := found.most(hosts.Addresses.Len6)
	if n == 0 {
		return q.reply()
	}
	rrs, slab, m := q.slab6(n)
	for ip := range found.each6 {
		i := len(m.Answer)
		if i == n {
			break
		}
		m.Answer = append(rrs[:i], slab[i].init(q.name, found.ttl, ip))
	}
	return m
}

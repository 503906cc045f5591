package answer

import (
	"errors"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/kubehosts/kubehosts/plugin/external"
	"github.com/kubehosts/kubehosts/plugin/hosts"
	"github.com/kubehosts/kubehosts/plugin/services"
)

// ErrUnknown is the error for a zone that can't be transferred because its objects were not read yet: a secondary would
// take it for empty, and deny every name.
var ErrUnknown = errors.New("no objects were read from the Kubernetes API yet")

// Transfer is the state of a zone at one moment.
type Transfer struct {
	view  *View // with Tables that never change
	state *services.State
	zone  *Zone

	outside *external.State // nil for a Service zone
}

// Transfer returns the zone of that name, nil if the View has no such zone. The error is nil or
// ErrUnknown.
func (v *View) Transfer(name string) (*Transfer, error) {
	name = dns.CanonicalName(name)
	for i := range v.Zones {
		z := &v.Zones[i]
		if z.Name != name {
			continue
		}
		t := v.transfer(z)
		if !t.known() {
			return nil, ErrUnknown
		}
		return t, nil
	}
	return nil, nil
}

// transfer returns the present content of z, with the serial that z had just before. So if there is a change meanwhile,
// whoever gets the content without it also gets a serial without it.
func (v *View) transfer(z *Zone) *Transfer {
	frozen := *v
	frozen.pinned = v.SerialOf(v.Index.State(), v.outsideOf(z))
	frozen.Hosts = slices.Clone(v.Hosts)
	for i := range frozen.Hosts {
		frozen.Hosts[i].Tables = frozen.Hosts[i].Tables.frozen()
	}
	return &Transfer{view: &frozen, state: v.Index.State(), outside: v.outside(), zone: z}
}

// known reports whether everything was read, or comes from a snapshot, that the transfer depends on: that of the zone,
// of the Services in front of this server, and of the zones directly below, for their name servers.
func (t *Transfer) known() bool {
	if !t.state.Known(&t.view.Options, false) {
		return false
	}
	for i := range t.view.Zones {
		z := &t.view.Zones[i]
		if z != t.zone && t.view.above(z) != t.zone {
			continue
		}
		if a := t.about(z); !a.known() || z.External != nil && !t.outside.Restored(external.KindsOf(external.KindService)) {
			return false
		}
	}
	return true
}

// Serial returns the zone's SOA serial.
func (t *Transfer) Serial() uint32 { return t.view.pinned }

// about returns an Answer for z that has not answered a question yet.
func (t *Transfer) about(z *Zone) (a Answer) {
	a.view, a.state, a.Zone = t.view, t.state, z
	if z.External != nil {
		a.outside = t.outside
	}
	return a
}

// types are the types of the records in a zone. A query for each type finds them. A query for the CNAME type finds a
// CNAME record, which is then the only record of the name.
var types = [...]uint16{dns.TypeCNAME, dns.TypeSOA, dns.TypeNS, dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypePTR, dns.TypeTXT, dns.TypeMX}

// Answers yields an Answer for each RRset of the zone, the same that a query for it gets. The SOA record comes first.
// The last ones belong to the served zones below it: their NS records, and the addresses of those servers (RFC 5936,
// section 2.2). It leaves out names that can't be listed: those of pods under "pods insecure", names with a topology
// zone in them, and port names in other cases than _http._tcp. It also leaves out addresses that would take a look-up:
// those of names for which Behind is true.
func (t *Transfer) Answers(yield func(*Answer) bool) {
	for name := range t.names {
		for _, qtype := range types {
			a := t.ask(t.zone, name, qtype)
			if a.Outcome != Ours || a.Kind == None && len(a.Aliases) == 0 {
				continue
			}
			if !yield(&a) {
				return
			}
			if len(a.Aliases) > 0 {
				break
			}
		}
	}
	t.cuts(yield)
}

// ask answers a question for a name in z from the State of the transfer.
func (t *Transfer) ask(z *Zone, name string, qtype uint16) (a Answer) {
	if z.External != nil {
		a.outside = t.outside
	}
	a.answer(t.view, NewQuestion(name, qtype, dns.ClassINET), z, t.state)
	return a
}

// cuts yields the Answers about the zones directly below.
func (t *Transfer) cuts(yield func(*Answer) bool) {
	for i := range t.view.Zones {
		z := &t.view.Zones[i]
		if t.view.above(z) != t.zone {
			continue
		}
		a := t.ask(z, z.Name, dns.TypeNS)
		if a.Kind != Nameservers {
			continue
		}
		if !yield(&a) {
			return
		}
		var seen set[string]
		for ns := range a.Nameservers {
			if !seen.add(ns.Name) {
				continue
			}
			for _, qtype := range [...]uint16{dns.TypeA, dns.TypeAAAA} {
				if glue := t.ask(z, ns.Name, qtype); glue.Kind == Addresses && !yield(&glue) {
					return
				}
			}
		}
	}
}

// above returns the zone directly above z, nil if there is none.
func (v *View) above(z *Zone) *Zone {
	next, end := dns.NextLabel(z.Name, 0)
	switch {
	case z.Name == ".":
		return nil
	case end:
		return v.ZoneOf(".")
	}
	return v.ZoneOf(z.Name[next:])
}

// names yields the owner names of the zone, each once, fully qualified and in lower case. It leaves out those of a
// served zone below it.
func (t *Transfer) names(yield func(string) bool) {
	suffix := Under(".", t.zone.Name)
	own := []string{t.zone.Name, "ns.dns" + suffix, "dns-version" + suffix}
	if t.zone.External != nil {
		own = own[:2]
	}
	more := true
	once := func(name string) bool {
		if t.view.ZoneOf(name) == t.zone && !slices.Contains(own, name) {
			more = yield(name)
		}
		return more
	}
	object := func(below string) bool {
		name := below + suffix
		return t.view.entry(name) || once(name)
	}
	for _, name := range own {
		if !yield(name) {
			return
		}
	}
	for _, from := range [...]func(func(string) bool){t.view.entries, t.reverseNames} {
		if from(once); !more {
			return
		}
	}
	switch {
	case t.zone.Reverse:
		return
	case t.zone.External != nil:
		t.hosts(func(name string) bool { return t.view.entry(name) || once(name) })
		return
	}
	t.state.OwnerNames(&t.view.Options, t.zone.Imported, object)
	if more && t.view.Options.Pods == services.PodsVerified {
		t.pods(object)
	}
}

// pods yields the names of pods, without the zone.
func (t *Transfer) pods(yield func(string) bool) {
	var seen set[string] // pods on the host network share its address
	for pod := range t.state.Pods {
		for ip := range pod.Addrs().All {
			label := strings.NewReplacer(".", "-", ":", "-").Replace(ip.String())
			if name := label + "." + pod.Namespace() + ".pod"; seen.add(name) && !yield(name) {
				return
			}
		}
	}
}

// reverseNames yields the reverse names in the zone that have PTR records, except those that are hosts entries
// themselves.
func (t *Transfer) reverseNames(yield func(string) bool) {
	var entries set[netip.Addr]
	named := func(ip netip.Addr) bool {
		name, err := dns.ReverseAddr(ip.String())
		return err != nil || t.view.entry(name) || yield(name)
	}
	for i := range t.view.Hosts {
		l := &t.view.Hosts[i]
		if l.NoReverse {
			continue
		}
		for _, table := range l.Tables.few() {
			for ip := range table.Addrs {
				if entries.add(ip) && !named(ip) {
					return
				}
			}
		}
	}
	all, n := prefixes(t.zone.Name)
	for _, prefix := range all[:n] {
		for ip := range t.state.Addresses(prefix, &t.view.Options) {
			if !entries.has(ip) && !named(ip) {
				return
			}
		}
	}
}

// prefixes returns the networks whose reverse names are below name: two, one or none.
func prefixes(name string) (all [2]netip.Prefix, n int) {
	if name == "." || name == "arpa." {
		return [2]netip.Prefix{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv6Unspecified(), 0)}, 2
	}
	prefix, ok := services.ParseReversePrefix(name)
	if ok {
		n = 1
	}
	return [2]netip.Prefix{prefix}, n
}

// entries yields the names of hosts entries, each once.
func (v *View) entries(yield func(string) bool) {
	var before []*hosts.Table
	for i := range v.Hosts {
		for _, table := range v.Hosts[i].Tables.few() {
			for name := range table.All {
				if !hasEntry(before, name) && !yield(strings.Clone(name)) {
					return
				}
			}
			before = append(before, table)
		}
	}
}

// entry reports whether a hosts entry has the name itself.
func (v *View) entry(name string) bool {
	for i := range v.Hosts {
		if hasEntry(v.Hosts[i].Tables.few(), name) {
			return true
		}
	}
	return false
}

// hasEntry reports whether one of the tables has the name itself, which may be a wildcard.
func hasEntry(tables []*hosts.Table, name string) bool {
	for _, t := range tables {
		if _, ok := t.Lookup(name); ok {
			return true
		}
	}
	return false
}

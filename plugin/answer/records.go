package answer

import (
	"net/netip"

	"github.com/miekg/dns"

	"github.com/kubehosts/kubehosts/plugin/hosts"
	"github.com/kubehosts/kubehosts/plugin/services"
)

// Addrs yields the addresses of Kind Addresses, in the family of the question's type, each once and MaxRecords at most.
func (a *Answer) Addrs(yield func(netip.Addr) bool) {
	n := 0
	limited := func(ip netip.Addr) bool {
		n++
		return n <= MaxRecords && yield(ip)
	}
	is6 := a.Type == dns.TypeAAAA
	switch a.source {
	case fromHosts:
		a.view.addrs(&a.held, is6, limited)
	case fromSelf:
		var seen set[netip.Addr]
		for ns := range a.Nameservers {
			if ns.Addr.IsValid() && ns.Addr.Is6() == is6 && seen.add(ns.Addr) && !limited(ns.Addr) {
				return
			}
		}
	case fromExternal:
		a.hostAddrs(is6, limited)
	default:
		a.matched(is6, limited)
	}
}

// Only returns the address that Addrs yields, if it certainly yields just one, as for nearly every Service and hosts
// entry.
func (a *Answer) Only() (ip netip.Addr, ok bool) {
	switch {
	case a.source == fromServices && a.Type == dns.TypeA:
		if ip4, ok := a.match.Only4(); ok {
			return netip.AddrFrom4(ip4), true
		}
	case a.source == fromHosts && a.held.tables == 1:
		first := a.held.first
		if a.Type == dns.TypeA && first.Len4() == 1 {
			return netip.AddrFrom4(first.At4(0)), true
		}
		if a.Type == dns.TypeAAAA && first.Len6() == 1 {
			return netip.AddrFrom16(first.At6(0)), true
		}
	case a.source == fromExternal:
		if ip, ok := a.host.Only(); ok && a.Type == dns.TypeA && !a.inside {
			return ip, true
		}
		n := 0
		for ip = range a.Addrs {
			if n++; n > 1 {
				break
			}
		}
		if n == 1 {
			return ip, true
		}
	}
	return netip.Addr{}, false
}

// Most returns an upper bound of the number of addresses that Addrs yields.
func (a *Answer) Most() int {
	n := 0
	switch a.source {
	case fromHosts:
		n = a.view.most(&a.held, a.Type == dns.TypeAAAA)
	case fromSelf:
		n = maxNameservers
	case fromExternal:
		for range a.Addrs {
			n++
		}
	default:
		n4, n6 := a.match.Count()
		if n = n4; a.Type == dns.TypeAAAA {
			n = n6
		}
	}
	return min(n, MaxRecords)
}

func (v *View) most(h *held, is6 bool) (n int) {
	count := func(all hosts.Addresses) {
		if is6 {
			n += all.Len6()
		} else {
			n += all.Len4()
		}
	}
	count(h.first)
	for _, found := range h.more {
		count(found)
	}
	return n
}

// matched yields the addresses of the match.
func (a *Answer) matched(is6 bool, yield func(netip.Addr) bool) {
	if a.match.Whole() {
		for block := range a.match.Blocks {
			if is6 {
				for i := range block.Len6() {
					if !yield(netip.AddrFrom16(block.At6(i))) {
						return
					}
				}
				continue
			}
			for i := range block.Len4() {
				if !yield(netip.AddrFrom4(block.At4(i))) {
					return
				}
			}
		}
		return
	}
	var seen set[netip.Addr]
	repeats := a.match.Repeats()
	each := func(member services.Member) bool { return repeats && !seen.add(member.Addr) || yield(member.Addr) }
	if is6 {
		a.match.Members6(each)
	} else {
		a.match.Members4(each)
	}
}

// Name is the name of a Service, or of an endpoint below it, in parts, which are joined only when
// needed.
type Name struct {
	member   services.Member
	endpoint bool   // the label of member comes first
	owner    string // "web.shop"
	subtree  string // between the two: ".svc.", or "." in an external zone
	zone     string // with the case of the question
}

// AppendTo appends the name, in presentation form and fully qualified.
func (n *Name) AppendTo(b []byte) []byte {
	if n.endpoint {
		b = append(n.member.AppendLabel(b), '.')
	}
	b = append(b, n.owner...)
	b = append(b, n.subtree...)
	if n.zone != "." {
		b = append(b, n.zone...)
	}
	return b
}

// Parent returns the length of the part of the name that all endpoints of a Service share, the Service's own name.
func (n *Name) Parent() int {
	if n.zone == "." {
		return len(n.owner) + len(n.subtree)
	}
	return len(n.owner) + len(n.subtree) + len(n.zone)
}

// maxName is the length of the longest name in presentation form without escapes: 255 octets on the wire, where the
// length of the first label and the root take one octet each (RFC 1035, section 3.1).
const maxName = 254

// fits reports whether a name, in presentation form, has at most 255 octets.
func fits(name []byte) bool {
	n := len(name)
	if n <= maxName {
		return true
	}
	for i := 0; i < len(name); i++ {
		if name[i] != '\\' {
			continue
		}
		if i+1 < len(name) && name[i+1] >= '0' && name[i+1] <= '9' {
			n, i = n-3, i+3
		} else {
			n, i = n-1, i+1
		}
	}
	return n <= maxName
}

// Target is the target of SRV records, with their ports and the target's addresses. It has no pointer to the Answer,
// which would move every Answer to the heap.
type Target struct {
	Name Name
	// Text is the result of Name.AppendTo. The caller sets it before Ports and Addrs, and it must stay valid until
	// Targets returns. The caller needs it anyway, and a copy for each target would cost more than everything else.
	Text string

	port     uint16           // the first port that has a number
	ports    services.Ports   // the ports after it
	addr     netip.Addr       // of an endpoint, else not valid
	service  services.Service // of a Service, else zero
	view     *View
	ttl      uint32       // of its addresses
	overlaid bool         // hosts entries may have the name
	seen     *seenTargets // nil if no target can repeat
}

// seenTargets holds what was yielded. It is needed where endpoints that share a name, or one endpoint in
// several slices, may repeat it.
type seenTargets struct {
	ports set[targetPort]
	addrs set[targetAddr]
}

type (
	targetPort struct {
		name string
		port uint16
	}
	targetAddr struct {
		name string
		addr netip.Addr
	}
)

// Weight returns the weight of each SRV record: a share of 100 for each pair of an address and a port, at least 1.
// Stock computes the same in floating point.
func (a *Answer) Weight() uint16 {
	n := max(1, a.match.Pairs())
	return max(1, uint16(100.0/float64(100*n)*100))
}

// MostTargets returns an upper bound of the number of SRV records, and about how many A and AAAA records their targets
// have.
func (a *Answer) MostTargets() (srv, n4, n6 int) {
	n4, n6 = a.match.Count()
	return min(a.match.Pairs(), MaxRecords), min(n4, MaxRecords), min(n6, MaxRecords)
}

// Targets yields the targets of the SRV records that have a port with a number, MaxRecords at most. A Service with
// cluster IPs is one target. A headless Service has one target for each endpoint; a target may come again with another
// address or port.
func (a *Answer) Targets(yield func(Target) bool) {
	if a.match.Outcome != services.OfService && a.match.Outcome != services.OfEndpoints {
		return // a pod has addresses only
	}
	name := Name{owner: a.match.Service().Owner(), subtree: ".svc.", zone: a.as(a.Zone.Name)}
	if a.outside != nil {
		name.subtree = "."
	}
	overlaid := len(a.view.Hosts) > 0 && a.view.hostsIn(a.Zone.Name)
	if a.match.Outcome == services.OfService {
		t := Target{Name: name, ports: a.match.ServicePorts(), service: a.match.Service(), view: a.view, ttl: a.zoneTTL(), overlaid: overlaid}
		if n4, n6 := a.match.Count(); n4+n6 > 0 && t.first() { // the name fits, because the question's name ends in it
			yield(t)
		}
		return
	}
	a.endpoints(name, overlaid, yield)
}

func (a *Answer) endpoints(name Name, overlaid bool, yield func(Target) bool) {
	var seen *seenTargets
	if a.match.Repeats() {
		seen = new(seenTargets)
	}
	var buf [2 * maxName]byte
	short := name.Parent()+2*64 <= maxName // two labels before it certainly fit
	n := 0
	for member := range a.match.Members {
		name.member, name.endpoint = member, true
		t := Target{Name: name, ports: a.match.Ports(member), addr: member.Addr, view: a.view, ttl: a.zoneTTL(), overlaid: overlaid, seen: seen}
		if !t.first() || !short && !fits(name.AppendTo(buf[:0])) {
			continue
		}
		if n++; n > MaxRecords || !yield(t) {
			return
		}
	}
}

// first moves on to the first port that has a number, and reports whether there is one.
func (t *Target) first() bool {
	for t.ports.Next() {
		if t.port = t.ports.Number(); t.port != 0 {
			return true
		}
	}
	return false
}

// Ports yields the port of each SRV record of the target. A number that several protocols share counts once.
func (t *Target) Ports(yield func(uint16) bool) {
	if t.isNew(t.port) && !yield(t.port) {
		return
	}
	ports := t.ports
	if !ports.Next() { // the usual case
		return
	}
	var before set[uint16]
	before.add(t.port)
	for more := true; more; more = ports.Next() {
		if port := ports.Number(); port != 0 && before.add(port) && t.isNew(port) && !yield(port) {
			return
		}
	}
}

// isNew reports whether the target was not yet yielded with the port.
func (t *Target) isNew(port uint16) bool {
	return t.seen == nil || t.seen.ports.add(targetPort{t.Text, port})
}

// Addrs yields the addresses of the target with their TTL, for the additional section. Hosts entries for the name
// replace its own addresses, as in the answer to a query for it.
func (t *Target) Addrs(yield func(ip netip.Addr, ttl uint32) bool) {
	if t.overlaid {
		if h, ok := t.view.hold(ToLower(t.Text)); ok {
			t.overlay(&h, yield)
			return
		}
	}
	ttl := t.ttl
	switch {
	case t.seen != nil:
		if !t.seen.addrs.add(targetAddr{t.Text, t.addr}) {
			return
		}
		yield(t.addr, ttl)
	case t.addr.IsValid():
		yield(t.addr, ttl)
	default:
		t.service.Addrs().All(func(ip netip.Addr) bool { return yield(ip, ttl) })
	}
}

// overlay yields the addresses of hosts entries, once for all endpoints that share the name.
func (t *Target) overlay(h *held, yield func(ip netip.Addr, ttl uint32) bool) {
	for _, is6 := range [...]bool{false, true} {
		more := true
		t.view.addrs(h, is6, func(ip netip.Addr) bool {
			if t.seen == nil || t.seen.addrs.add(targetAddr{h.name, ip}) {
				more = yield(ip, h.ttl)
			}
			return more
		})
		if !more {
			return
		}
	}
}

// Pointer is the target of a PTR record.
type Pointer struct {
	TTL   uint32
	entry string // a name of a hosts entry, which shares the table's memory
	of    services.Pointer
	zone  string
}

// AppendTo appends the name, in presentation form and fully qualified.
func (p *Pointer) AppendTo(b []byte) []byte {
	if p.entry != "" {
		return append(b, p.entry...)
	}
	return p.of.AppendTo(b, p.zone)
}

// pointed reports whether an address has PTR records, and if so sets it as the address of Pointers. Nearly every
// address in a query has one, which is looked up only here.
func (a *Answer) pointed(ip netip.Addr) bool {
	a.address, a.onlyEntry, a.onlyService = ip, "", services.Service{}
	if a.source == fromHosts {
		a.onlyEntry = a.view.onlyEntry(ip)
	} else if len(a.view.Pointed)+3*64 <= maxName { // three labels before it certainly fit
		a.onlyService = a.state.OnlyService(ip, &a.view.Options)
	}
	for range a.Pointers {
		return true
	}
	return false
}

// onlyEntry returns the name of an address if the hosts entries are in a single table and have one name for it, else
// "".
func (v *View) onlyEntry(ip netip.Addr) string {
	if len(v.Hosts) > 1 || v.Hosts[0].NoReverse {
		return ""
	}
	tables := v.Hosts[0].Tables.few()
	if len(tables) != 1 {
		return ""
	}
	if names := tables[0].Names(ip); names.Len() == 1 {
		return names.At(0)
	}
	return ""
}

// Pointers yields the targets of the PTR records, each once and MaxRecords at most.
func (a *Answer) Pointers(yield func(Pointer) bool) {
	switch {
	case a.onlyEntry != "":
		yield(Pointer{TTL: a.view.Hosts[0].TTL, entry: a.onlyEntry})
		return
	case !a.onlyService.IsZero():
		yield(Pointer{TTL: a.view.TTL, of: services.PointerTo(a.onlyService), zone: a.view.Pointed})
		return
	}
	n := 0
	limited := func(p Pointer) bool {
		n++
		return n <= MaxRecords && yield(p)
	}
	if a.source == fromHosts {
		a.entries(limited)
		return
	}
	p := Pointer{TTL: a.view.TTL, zone: a.view.Pointed}
	short := len(p.zone)+3*64 <= maxName // three labels before it certainly fit
	var buf [2 * maxName]byte
	a.state.Pointers(a.address, &a.view.Options, func(of services.Pointer) bool {
		p.of = of
		return !short && !fits(p.AppendTo(buf[:0])) || limited(p)
	})
}

// entries yields the names that hosts entries have for the address.
func (a *Answer) entries(yield func(Pointer) bool) {
	var seen set[string]
	several := len(a.view.Hosts) > 1 || len(a.view.Hosts[0].Tables.few()) > 1 // within a table, each name of an address is unique
	for i := range a.view.Hosts {
		l := &a.view.Hosts[i]
		if l.NoReverse {
			continue
		}
		for _, t := range l.Tables.few() {
			names := t.Names(a.address)
			for i := range names.Len() {
				p := Pointer{TTL: l.TTL, entry: names.At(i)}
				if (!several || seen.add(p.entry)) && !yield(p) {
					return
				}
			}
		}
	}
}

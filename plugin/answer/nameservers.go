package answer

import (
	"net/netip"

	"github.com/kubehosts/kubehosts/plugin/external"
	"github.com/kubehosts/kubehosts/plugin/services"
)

// maxNameservers limits the names and addresses of a zone's servers: this process's addresses may be endpoints of any
// number of Services. The root zone has 26.
const maxNameservers = 64

// Nameserver is a server of a zone, with one of its addresses.
type Nameserver struct {
	Name string     // fully qualified, in the case of the question's zone
	Addr netip.Addr // not valid for a load balancer's hostname, which other servers answer for
	TTL  uint32     // of its address records, in seconds
}

// Nameservers yields the servers of Zone, each address of a name once: the Services that this process is an endpoint of
// or, without one, ns.dns at this process's own addresses. A Service outside the zone, as in reverse zones, is also
// called ns.dns, so that every name resolves. A name may come several times.
func (a *Answer) Nameservers(yield func(Nameserver) bool) {
	var seen set[Nameserver]
	n := 0
	limited := func(ns Nameserver) bool {
		if !seen.add(ns) {
			return true
		}
		n++
		return n <= maxNameservers && yield(ns)
	}
	self := Under("ns.dns.", a.ZoneName())
	if a.outside != nil {
		a.fronts(self, limited)
		return
	}
	for _, local := range a.view.Local {
		for sl := range a.state.SlicesWith(local) {
			if !a.serverNames(sl, self, limited) {
				return
			}
		}
	}
	if n == 0 {
		a.locals(self, limited)
	}
}

// locals yields self at this process's own addresses.
func (a *Answer) locals(self string, yield func(Nameserver) bool) {
	for _, local := range a.view.Local {
		if !a.server(Nameserver{self, local, a.zoneTTL()}, yield) {
			return
		}
	}
}

// fronts yields the servers of an external zone: self at the external addresses of the Services that this process is
// an endpoint of, and their load balancers' hostnames. Without such a Service, it yields self at this process's own
// addresses.
func (a *Answer) fronts(self string, yield func(Nameserver) bool) {
	n, more := 0, true
	each := func(ns Nameserver) bool {
		n++
		more = more && a.server(ns, yield)
		return more
	}
	for _, local := range a.view.Local {
		for sl := range a.state.SlicesWith(local) {
			front := a.outside.Lookup(a.Zone.Name, sl.Owner()+Under(".", a.Zone.Name), a.Zone.front)
			if front.Outcome != external.Found {
				continue
			}
			front.Addrs(func(ip netip.Addr) bool { return each(Nameserver{self, ip, a.zoneTTL()}) })
			front.Hosts(func(host string) bool { return more && each(Nameserver{Name: host, TTL: a.zoneTTL()}) })
			if !more {
				return
			}
		}
	}
	if n == 0 {
		a.locals(self, yield)
	}
}

// server yields ns. If hosts entries have its name, it has their addresses.
func (a *Answer) server(ns Nameserver, yield func(Nameserver) bool) bool {
	if len(a.view.Hosts) == 0 || !ns.Addr.IsValid() {
		return yield(ns)
	}
	h, ok := a.view.hold(ToLower(ns.Name))
	if !ok {
		return yield(ns)
	}
	more := true
	for _, is6 := range [...]bool{false, true} {
		a.view.addrs(&h, is6, func(ip netip.Addr) bool {
			more = more && yield(Nameserver{ns.Name, ip, h.ttl})
			return more
		})
	}
	return more
}

// serverNames yields the names of the Service that the slice belongs to, or self. It reports whether yield returned
// true each time.
func (a *Answer) serverNames(sl services.Slice, self string, yield func(Nameserver) bool) bool {
	svc := a.state.ServiceOf(sl.Owner())
	if svc.IsZero() {
		return true
	}
	name := svc.Owner() + Under(".svc.", a.ZoneName())
	served := a.serves(svc)
	if !svc.Headless() {
		if !served {
			name = self
		}
		for ip := range svc.Addrs().All {
			if !a.server(Nameserver{name, ip, a.view.TTL}, yield) {
				return false
			}
		}
		return true
	}
	for label, ip := range sl.Labels {
		ns := Nameserver{self, ip, a.view.TTL}
		if served {
			ns.Name = label + "." + name
		}
		if !a.server(ns, yield) {
			return false
		}
	}
	return true
}

// serves reports whether svc has a name in Zone that no zone below it takes.
func (a *Answer) serves(svc services.Service) bool {
	if a.Zone.Reverse || a.Zone.Imported || a.view.ZoneOf(svc.Owner()+Under(".svc.", a.Zone.Name)) != a.Zone {
		return false
	}
	n := services.ParseName(svc.Owner()+".svc", a.Zone.Grammar)
	m := a.state.Lookup(&n, &a.view.Options)
	return m.Outcome != services.NameError
}

package answer

import (
	"net/netip"

	"github.com/kubehosts/kubehosts/plugin/services"
)

// maxNameservers bounds how many names and addresses of servers are found for a zone: this process's addresses may be
// endpoints of any number of Services. The root zone has 26.
const maxNameservers = 64

// Nameserver is a server of a zone, with one of its addresses.
type Nameserver struct {
	Name string // fully qualified, in the spelling of the question's zone
	Addr netip.Addr
}

// Nameservers yields the servers of Zone, one for each address: the Services that this process is an endpoint of, else
// ns.dns at this process's own addresses. A name may come several times.
func (a *Answer) Nameservers(yield func(Nameserver) bool) {
	zone := a.ZoneName()
	n := 0
	endpoint := false
	for _, local := range a.view.Local {
		for sl := range a.state.SlicesWith(local) {
			endpoint = true
			if !a.serverNames(sl, zone, func(ns Nameserver) bool { n++; return n <= maxNameservers && a.server(ns, yield) }) {
				return
			}
		}
	}
	if endpoint {
		return
	}
	for _, local := range a.view.Local {
		if !a.server(Nameserver{Under("ns.dns.", zone), local}, yield) {
			return
		}
	}
}

// server yields ns, with the addresses of hosts entries if they have its name.
func (a *Answer) server(ns Nameserver, yield func(Nameserver) bool) bool {
	if len(a.view.Hosts) == 0 {
		return yield(ns)
	}
	h, ok := a.view.hold(ToLower(ns.Name))
	if !ok {
		return yield(ns)
	}
	more := true
	for _, is6 := range [...]bool{false, true} {
		a.view.addrs(&h, is6, func(ip netip.Addr) bool {
			more = more && yield(Nameserver{ns.Name, ip})
			return more
		})
	}
	return more
}

// serverNames yields the names of the Service that the slice belongs to. It reports whether yield wants more.
func (a *Answer) serverNames(sl services.Slice, zone string, yield func(Nameserver) bool) bool {
	svc := a.state.ServiceOf(sl.Owner())
	if svc.IsZero() {
		return true
	}
	name := svc.Owner() + Under(".svc.", zone)
	if !svc.Headless() {
		for ip := range svc.Addrs().All {
			if !yield(Nameserver{name, ip}) {
				return false
			}
		}
		return true
	}
	for label, ip := range sl.Labels {
		if !yield(Nameserver{label + "." + name, ip}) {
			return false
		}
	}
	return true
}

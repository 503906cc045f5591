package answer

import (
	"net/netip"
	"strings"

	"github.com/miekg/dns"

	"github.com/kubehosts/kubehosts/plugin/external"
	"github.com/kubehosts/kubehosts/plugin/services"
)

// External makes a zone an external zone: one with the names that objects have for clients outside
// the cluster.
type External struct {
	Selection external.Selection
	TTL       uint32 // seconds, of records whose object sets no TTL
	Inside    bool   // cluster IPs instead of load balancers
}

// kinds returns the kinds of objects that answers in the zone depend on.
func (e *External) kinds() external.Kinds {
	kinds := e.Selection.Sources.Kinds()
	if e.Inside {
		kinds |= external.KindsOf(external.KindService)
	}
	if e.Selection.Listed {
		kinds |= external.KindsOf(external.KindNamespace)
	}
	return kinds
}

// fromExternal answers for a name in an external zone.
func (a *Answer) fromExternal() {
	a.source, a.TTL, a.inside = fromExternal, a.Zone.External.TTL, false
	a.Stale = max(a.Stale, a.outside.Snapshot())
	base := a.Zone.Below(a.lower)
	switch base {
	case "":
		if a.Type == dns.TypeSOA || a.Type == dns.TypeNS {
			a.why = IsApex
			a.apex()
			return
		}
	case "ns.dns": // the name server in the SOA record
		a.source, a.why = fromSelf, OfZone
		a.addresses()
		return
	}
	a.why = OfHost
	a.host = a.outside.Lookup(a.Zone.Name, a.lower, &a.Zone.External.Selection)
	if a.host.Wildcard() != "" && a.fromWildcard() {
		a.why = FromHosts // no wildcard of an object is closer, and hosts entries come first
		return
	}
	switch a.host.Outcome {
	case external.NameError:
		switch base {
		case "":
			a.why = IsApex
			a.noData()
		case "dns": // exists because ns.dns does (RFC 8020, section 2)
			a.why = OfZone
			a.noData()
		default:
			a.nameError()
		}
	case external.NoData:
		a.noData()
	case external.Headless:
		a.headless(services.ParseService(base))
	case external.Internal:
		a.internal()
	default:
		a.published(base == "")
	}
}

// headless answers for a name of a headless Service.
func (a *Answer) headless(n services.Name) {
	a.match = a.state.Lookup(&n, &a.view.Options)
	switch a.match.Outcome {
	case services.OfEndpoints:
		a.source = fromServices
		a.object()
	case services.NameError:
		a.nameError()
	default:
		a.noData()
	}
}

// internal answers with the cluster IPs of a Service, or with the endpoints of a headless one.
func (a *Answer) internal() {
	a.setTTL()
	for range a.host.ClusterIPs {
		a.inside = true
		a.addresses()
		return
	}
	namespace, name, headless := a.host.Service()
	if n := services.ParseService(name + "." + namespace); headless && a.Type != dns.TypeSRV {
		if a.match = a.state.Lookup(&n, &a.view.Options); a.match.Outcome == services.OfEndpoints {
			a.source = fromServices
			a.addresses()
			return
		}
	}
	a.noData()
}

// setTTL sets the TTL that an object specifies.
func (a *Answer) setTTL() {
	if ttl, ok := a.host.TTL(external.RecordType(a.Type)); ok {
		a.TTL = ttl
	}
}

// published answers with the records that objects publish for a name.
func (a *Answer) published(apex bool) {
	a.setTTL()
	if a.Zone.External.Inside {
		for range a.host.Inside {
			a.inside = true
			a.addresses()
			return
		}
	}
	if _, ok := a.host.Only(); ok && a.Type == dns.TypeA {
		a.Kind = Addresses
		return
	}
	if target := a.onlyHostname(); target != "" && !apex && !a.ofPort() {
		a.cname = target // see alias
		return
	}
	switch a.Type {
	case dns.TypeA, dns.TypeAAAA:
		for range a.Hostnames {
			a.Outcome, a.Kind, a.Behind = Follow, Addresses, true
			return
		}
		a.addresses()
		return
	case dns.TypeTXT:
		for range a.host.Texts {
			a.Kind = Texts
			return
		}
	case dns.TypeMX:
		for range a.host.Mails {
			a.Kind = Mails
			return
		}
	case dns.TypeSRV:
		for range a.Servers {
			a.Kind = Servers
			return
		}
	}
	a.noData()
}

// onlyHostname returns the only hostname of the name, "" if there is none, or anything else.
func (a *Answer) onlyHostname() (only string) {
	for range a.host.Addrs {
		return ""
	}
	for host := range a.host.Hosts {
		if only != "" && only != host {
			return ""
		}
		only = host
	}
	return only
}

// ofPort reports whether the name is that of a Service's port, which has SRV records.
func (a *Answer) ofPort() bool {
	for _, service := range a.host.Ports {
		return len(service) < len(a.lower)
	}
	return false
}

// Hostnames yields the hostnames of load balancers whose addresses belong to the name, if Behind is true, each once.
func (a *Answer) Hostnames(yield func(string) bool) {
	var seen set[string]
	a.host.Hosts(func(host string) bool { return !seen.add(host) || yield(host) })
}

// hostAddrs yields the addresses of one family that a name in an external zone has.
func (a *Answer) hostAddrs(is6 bool, yield func(netip.Addr) bool) {
	of := func(ip netip.Addr) bool { return ip.Is6() != is6 || yield(ip) }
	switch {
	case a.inside && a.host.Outcome == external.Internal:
		a.host.ClusterIPs(of)
	case a.inside:
		a.host.Inside(of)
	default:
		a.host.Addrs(of)
	}
}

// MaxString is the length of the longest string in a TXT record (RFC 1035, section 3.3).
const MaxString = 255

// Texts yields the texts of TXT records. The caller cuts a text longer than MaxString into strings of that
// length.
func (a *Answer) Texts(yield func(string) bool) { a.host.Texts(yield) }

// Mails yields the data of MX records.
func (a *Answer) Mails(yield func(external.Mail) bool) { a.host.Mails(yield) }

// Servers yields the data of SRV records, MaxRecords at most: those of a DNSEndpoint, and one for each pair of a
// Service's port and an address or hostname of its load balancer.
func (a *Answer) Servers(yield func(external.Server) bool) {
	n, more := 0, true
	each := func(s external.Server) bool {
		n++
		more = more && n <= MaxRecords && yield(s)
		return more
	}
	if a.host.Servers(each); !more {
		return
	}
	var seen set[uint16]
	weight := a.serverWeight()
	for port, service := range a.host.Ports {
		if !seen.add(port) {
			continue
		}
		for range a.host.Addrs {
			each(external.Server{Weight: weight, Port: port, Target: a.as(service)})
			break
		}
		for host := range a.host.Hosts {
			each(external.Server{Weight: weight, Port: port, Target: host})
		}
		if !more {
			return
		}
	}
}

// serverWeight returns the weight of each SRV record of a Service: a share of 100 for each pair of an address and a
// port, as in k8s_external, and at least 1.
func (a *Answer) serverWeight() uint16 {
	places, ports := 0, 0
	for range a.host.Addrs {
		places++
	}
	for range a.host.Hosts {
		places++
	}
	for range a.host.Ports {
		ports++
	}
	return uint16(max(1, 100/max(1, places*ports))) // #nosec G115 -- at most 100
}

// ServerAddrs yields the name of the Service that is a target of Servers, and its addresses, for the additional
// section. The addresses are those of hosts entries with that name, up to MaxRecords, or else those of the Service.
func (a *Answer) ServerAddrs(yield func(target string, ip netip.Addr) bool) {
	for _, service := range a.host.Ports {
		target := a.as(service)
		if h, ok := a.view.hold(ToLower(target)); ok { // hosts entries have the name
			n, more := 0, true
			for _, is6 := range [...]bool{false, true} {
				if !more {
					return
				}
				a.view.addrs(&h, is6, func(ip netip.Addr) bool {
					n++
					more = n <= MaxRecords && yield(target, ip)
					return more
				})
			}
			return
		}
		a.host.Addrs(func(ip netip.Addr) bool { return yield(target, ip) })
		return
	}
}

// hosts yields the names of an external zone that have records, each once, with those of endpoints and ports of
// headless Services.
func (t *Transfer) hosts(yield func(string) bool) {
	z, more := t.zone, true
	for name := range t.outside.Names(z.Name, &z.External.Selection) {
		if !yield(name) {
			return
		}
	}
	if z.External.Selection.Sources&external.FromService == 0 {
		return
	}
	t.state.OwnerNames(&t.view.Options, false, func(below string) bool {
		if strings.Count(below, ".") == 2 { // the Service itself, which is among Names
			return true
		}
		name := strings.TrimSuffix(below, ".svc") + Under(".", z.Name)
		if m := t.outside.Lookup(z.Name, name, &z.External.Selection); m.Outcome == external.Headless {
			more = yield(name)
		}
		return more
	})
}

package answer

import (
	"strings"

	"github.com/miekg/dns"

	"github.com/kubehosts/kubehosts/plugin/services"
)

// fromServices answers from the index, for a name in a.Zone.
func (a *Answer) fromServices() {
	a.source = fromServices
	base := a.Zone.Below(a.lower)
	switch base {
	case "":
		a.why = IsApex
		a.apex()
		return
	case "dns-version":
		a.why = OfZone
		if a.noData(); a.Type == dns.TypeTXT {
			a.Kind, a.TTL, a.Denied = Version, VersionTTL, false
		}
		return
	case "ns.dns": // the name server in the SOA record
		a.source, a.why = fromSelf, OfZone
		a.addresses()
		return
	case "dns": // exists because ns.dns does (RFC 8020, section 2)
		a.why = OfZone
		a.noData()
		return
	}
	if a.Zone.Reverse && (base == "svc" || base == "pod") { // as in stock
		a.why = OfZone
		a.noData()
		return
	}
	if strings.HasSuffix(a.lower, "arpa.") && a.reverse() {
		a.why = IsReverse
		return
	}
	if a.Zone.Reverse {
		a.nameError()
		return
	}

	n := services.ParseName(base, a.Zone.Grammar)
	a.match = a.state.Lookup(&n, &a.view.Options)
	a.why = OfObject
	switch a.match.Outcome {
	case services.NameError:
		a.nameError()
	case services.NoData:
		a.noData()
	case services.Alias: // see alias
	default:
		a.object()
	}
}

// object answers for the name of a Service, an endpoint or a pod.
func (a *Answer) object() {
	switch a.Type {
	case dns.TypeA, dns.TypeAAAA:
		a.addresses()
		return
	case dns.TypeSRV:
		if a.numbered() {
			a.Kind = Targets
			return
		}
	}
	a.noData()
}

// numbered reports whether SRV records have a target: a port with a number.
func (a *Answer) numbered() bool {
	if a.match.Outcome == services.OfService { // the usual case, decided without making the target
		n4, n6 := a.match.Count()
		for ports := a.match.ServicePorts(); n4+n6 > 0 && ports.Next(); {
			if ports.Number() != 0 {
				return true
			}
		}
		return false
	}
	for range a.Targets {
		return true
	}
	return false
}

// addresses answers with the addresses of the type in question, if there are any.
func (a *Answer) addresses() {
	if a.Type == dns.TypeA || a.Type == dns.TypeAAAA {
		a.Kind = Addresses
		for range a.Addrs {
			return
		}
	}
	a.noData()
}

// apex answers for the zone's own name.
func (a *Answer) apex() {
	switch a.Type {
	case dns.TypeSOA:
		a.Kind = SOA
		return
	case dns.TypeNS:
		for range a.Nameservers {
			a.Kind = Nameservers
			return
		}
	}
	a.noData()
}

// reverse answers for the reverse name of an address that has a name, or for a name above one. It reports
// whether it did.
func (a *Answer) reverse() bool {
	ip, ok := services.ParseReverse(a.lower)
	if !ok {
		all, n := prefixes(a.lower)
		for _, prefix := range all[:n] {
			if a.state.AddressBelow(prefix, &a.view.Options) {
				a.noData()
				return true
			}
		}
		return false
	}
	if !a.pointed(ip) {
		return false
	}
	if a.noData(); a.Type == dns.TypePTR {
		a.Kind, a.Denied = Pointers, false
	}
	return true
}

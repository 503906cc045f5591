package kubehosts

import (
	"net"
	"net/netip"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/miekg/dns"

	"github.com/kubehosts/kubehosts/plugin/answer"
	"github.com/kubehosts/kubehosts/plugin/services"
)

// nameserver is a name and an address of the zones' servers.
type nameserver struct {
	name string
	addr netip.Addr
}

func (n nameserver) record(ttl uint32) dns.RR {
	if n.addr.Is4() {
		return new(recordA).init(n.name, ttl, n.addr.As4())
	}
	return new(recordAAAA).init(n.name, ttl, n.addr.As16())
}

// nameservers returns the servers of a zone: the Services that this process is an endpoint of, else ns.dns at its own
// addresses.
func nameservers(l *answer.View, s *services.State, zone string) (all []nameserver) {
	endpoint := false
	for _, local := range l.Local {
		for sl := range s.SlicesWith(local) {
			endpoint = true
			svc := s.ServiceOf(sl.Owner())
			if svc.IsZero() {
				continue
			}
			name := svc.Owner() + answer.Under(".svc.", zone)
			if !svc.Headless() {
				for a := range svc.Addrs().All {
					all = append(all, nameserver{name, a})
				}
				continue
			}
			for label, a := range sl.Labels {
				all = append(all, nameserver{label + "." + name, a})
			}
		}
	}
	if endpoint {
		return all
	}
	for _, local := range l.Local {
		all = append(all, nameserver{answer.Under("ns.dns.", zone), local})
	}
	return all
}

// localAddrs returns the addresses that the server block listens on, less those of the loopback interface where there
// are others.
func localAddrs(c *caddy.Controller) []netip.Addr {
	listen := dnsserver.GetConfig(c).ListenHosts
	if len(listen) == 0 || listen[0] == "" {
		addrs, err := net.InterfaceAddrs()
		if err != nil {
			log.Warningf("Can't list this machine's addresses, so NS records go without: %v", err)
			return nil
		}
		listen = nil
		for _, a := range addrs {
			listen = append(listen, a.String())
		}
	}
	var reached, loopback []netip.Addr
	for _, host := range listen {
		p, err := netip.ParsePrefix(host)
		if err != nil {
			a, err := netip.ParseAddr(host)
			if err != nil {
				continue
			}
			p = netip.PrefixFrom(a, a.BitLen())
		}
		if a := p.Addr().Unmap(); a.IsLoopback() {
			loopback = append(loopback, a)
		} else {
			reached = append(reached, a)
		}
	}
	if len(reached) == 0 {
		return loopback
	}
	return reached
}

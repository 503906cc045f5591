package kubehosts

import (
	"net"
	"net/netip"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
)

// localAddrs returns the addresses that the server block listens on, without those of the loopback interface if there
// are others.
func localAddrs(c *caddy.Controller) []netip.Addr {
	listen := dnsserver.GetConfig(c).ListenHosts
	if len(listen) == 0 || listen[0] == "" {
		addrs, err := net.InterfaceAddrs()
		if err != nil {
			log.Warningf("Can't list this machine's addresses, so NS records have no addresses: %v", err)
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

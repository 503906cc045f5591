package wire

import (
	"iter"

	"github.com/coredns/caddy"
	"github.com/coredns/coredns/core/dnsserver"
)

// Configs yields CoreDNS's config of each zone of each server block, with the index of the server block, in the order
// of c's Corefile. Plugins are in place once CoreDNS has made its servers, which is before it calls OnStartup
// functions.
func Configs(c *caddy.Controller) iter.Seq2[int, *dnsserver.Config] {
	return func(yield func(int, *dnsserver.Config) bool) {
		other := *c
		for other.ServerBlockIndex = 0; ; other.ServerBlockIndex++ {
			for other.ServerBlockKeyIndex = 0; ; other.ServerBlockKeyIndex++ {
				config := dnsserver.GetConfig(&other)
				if config.Port == "" { // a missing port gets the default
					break
				}
				if !yield(other.ServerBlockIndex, config) {
					return
				}
			}
			if other.ServerBlockKeyIndex == 0 {
				return
			}
		}
	}
}

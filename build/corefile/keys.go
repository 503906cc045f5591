package corefile

import (
	"cmp"
	"slices"

	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/parse"
	"github.com/coredns/coredns/plugin/pkg/transport"
)

// Listener is the meaning of a server block's key.
type Listener struct{ Transport, Zone, Port string }

// Listeners returns the meanings of the server block's keys. It skips a key that is not a zone.
func (b *Block) Listeners() (all []Listener) {
	for _, key := range b.Keys {
		trans, rest := parse.Transport(key)
		hosts, port, err := plugin.SplitHostPort(rest)
		if err != nil {
			continue
		}
		for _, h := range hosts {
			all = append(all, Listener{trans, plugin.Name(h).Normalize(), cmp.Or(port, defaultPort(trans))})
		}
	}
	return all
}

// Zones returns the zones of the keys.
func (b *Block) Zones() (all []string) {
	for _, l := range b.Listeners() {
		all = append(all, l.Zone)
	}
	return all
}

// Ports returns the ports of the keys, each once.
func (b *Block) Ports() (all []string) {
	for _, l := range b.Listeners() {
		if !slices.Contains(all, l.Port) {
			all = append(all, l.Port)
		}
	}
	return all
}

func defaultPort(trans string) string {
	switch trans {
	case transport.TLS:
		return transport.TLSPort
	case transport.QUIC:
		return transport.QUICPort
	case transport.GRPC:
		return transport.GRPCPort
	case transport.HTTPS, transport.HTTPS3:
		return transport.HTTPSPort
	}
	return dnsserver.Port
}

package live

import (
	"net/netip"
	"slices"

	"github.com/coredns/coredns/plugin/pkg/dnsutil"

	"github.com/kubehosts/kubehosts/plugin/answer"
	"github.com/kubehosts/kubehosts/plugin/services"
	"github.com/kubehosts/kubehosts/plugin/stanza"
)

// newView makes c ready for queries.
func newView(c *stanza.Config, index *services.Index, hosts []answer.Layer, local []netip.Addr) *answer.View {
	v := &answer.View{
		TTL: c.TTL,
		Options: services.Options{
			Namespaces:         services.NamesOf(c.Namespaces...),
			Pods:               podModes[c.Pods],
			NoEndpoints:        c.NoEndpoints,
			IgnoreEmptyService: c.IgnoreEmptyService,
		},
		Zonal:       c.Zonal,
		Fallthrough: c.Fallthrough,
		Index:       index,
		Hosts:       hosts,
		Local:       local,
	}
	for _, name := range c.Zones {
		z := zoneOf(c, name)
		if !z.Reverse && v.Pointed == "" {
			v.Pointed = answer.Under(".svc.", name)
		}
		v.Zones = append(v.Zones, z)
	}
	return answer.New(v)
}

func zoneOf(c *stanza.Config, name string) answer.Zone {
	z := answer.Zone{
		Name:    name,
		NS:      answer.Under("ns.dns.", name),
		Mbox:    answer.Under("hostmaster.", name),
		Reverse: dnsutil.IsReverse("."+name) > 0, // the dot for in-addr.arpa itself
	}
	if c.Zonal {
		z.Grammar |= services.Zonal
	}
	if slices.Contains(c.Multicluster, name) {
		z.Grammar |= services.Multicluster
		z.Imported = true
	}
	return z
}

var podModes = map[stanza.PodMode]services.PodMode{
	stanza.Disabled: services.PodsDisabled,
	stanza.Insecure: services.PodsInsecure,
	stanza.Verified: services.PodsVerified,
}

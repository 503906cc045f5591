package live

import (
	"net/netip"
	"slices"

	"github.com/coredns/coredns/plugin/pkg/dnsutil"

	"github.com/kubehosts/kubehosts/plugin/answer"
	"github.com/kubehosts/kubehosts/plugin/external"
	"github.com/kubehosts/kubehosts/plugin/services"
	"github.com/kubehosts/kubehosts/plugin/stanza"
)

// newView prepares c for queries.
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
	for i := range c.External {
		v.Zones = append(v.Zones, externalZones(&c.External[i], c)...)
	}
	return answer.New(v)
}

// externalZones returns the zones of an external option of c. Only objects in a namespace that c serves may claim names
// in them.
func externalZones(e *stanza.External, c *stanza.Config) []answer.Zone {
	claimants := e.Namespaces
	switch {
	case claimants == nil:
		claimants = c.Namespaces
	case c.Namespaces != nil:
		claimants = slices.DeleteFunc(slices.Clone(claimants), func(ns string) bool { return !slices.Contains(c.Namespaces, ns) })
	}
	of := &answer.External{
		Selection: external.Selection{
			Zones: e.Zones, Sources: external.Source(e.From), Classes: external.NamesOf(e.Classes...),
			Namespaces: namesOf(claimants), Listed: c.NamespaceLabels != "",
		},
		TTL:    e.TTL,
		Inside: e.Inside,
	}
	zones := make([]answer.Zone, len(e.Zones))
	for i, name := range e.Zones {
		zones[i] = answer.Zone{Name: name, NS: answer.Under("ns.dns.", name), Mbox: answer.Under("hostmaster.", name), External: of}
	}
	return zones
}

// namesOf returns the set of names, nil for nil: an empty set selects none, and nil selects all.
func namesOf(names []string) external.Names {
	if names != nil && len(names) == 0 {
		return external.Names{}
	}
	return external.NamesOf(names...)
}

func zoneOf(c *stanza.Config, name string) answer.Zone {
	z := answer.Zone{
		Name:    name,
		NS:      answer.Under("ns.dns.", name),
		Mbox:    answer.Under("hostmaster.", name),
		Reverse: dnsutil.IsReverse("."+name) > 0, // the dot is for in-addr.arpa itself
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

package kubehosts

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/coredns/coredns/plugin/pkg/dnsutil"
	"github.com/coredns/coredns/plugin/pkg/fall"

	"github.com/kubehosts/kubehosts/plugin/services"
	"github.com/kubehosts/kubehosts/plugin/stanza"
)

// live is a stanza made ready for queries. It never changes; another stanza is another live. What it points to, the
// index and the tables of hosts entries, moves on by itself.
type live struct {
	config  *stanza.Config
	zones   []zone
	pointed string // where PTR records point to: ".svc." and the first zone that is no reverse zone
	ttl     uint32
	opts    services.Options
	fall    fall.F
	index   *services.Index // empty where no Services are served
	hosts   overlay
	local   []netip.Addr

	snapshot uint32 // Unix time at which the snapshot was written that the stanza is out of; 0 if it is out of none
}

// zone is a zone of Services.
type zone struct {
	name     string // lower case, fully qualified
	ns, mbox string // of its SOA record
	reverse  bool
	grammar  services.Grammar
	imported bool // its Services are ServiceImports
}

func newLive(c *stanza.Config, index *services.Index, hosts overlay, local []netip.Addr) *live {
	l := &live{
		config: c,
		ttl:    c.TTL,
		opts: services.Options{
			Namespaces:         c.Namespaces,
			Pods:               podModes[c.Pods],
			NoEndpoints:        c.NoEndpoints,
			IgnoreEmptyService: c.IgnoreEmptyService,
		},
		fall:  fall.F{Zones: c.Fallthrough},
		index: index,
		hosts: hosts,
		local: local,
	}
	for _, name := range c.Zones {
		z := zone{
			name:    name,
			ns:      joinZone("ns.dns.", name),
			mbox:    joinZone("hostmaster.", name),
			reverse: dnsutil.IsReverse("."+name) > 0, // the dot for in-addr.arpa itself
		}
		if c.Zonal {
			z.grammar |= services.Zonal
		}
		if slices.Contains(c.Multicluster, name) {
			z.grammar |= services.Multicluster
			z.imported = true
		}
		if !z.reverse && l.pointed == "" {
			l.pointed = joinZone(".svc.", name)
		}
		l.zones = append(l.zones, z)
	}
	return l
}

var podModes = map[stanza.PodMode]services.PodMode{
	stanza.Disabled: services.PodsDisabled,
	stanza.Insecure: services.PodsInsecure,
	stanza.Verified: services.PodsVerified,
}

// joinZone puts prefix, which ends in a dot, before a zone.
func joinZone(prefix, zone string) string {
	if zone == "." {
		return prefix
	}
	return prefix + zone
}

// zoneOf returns the longest zone that the lower-case name is in, nil if it is in none.
func (l *live) zoneOf(name string) *zone {
	var best *zone
	for i := range l.zones {
		z := &l.zones[i]
		if (best == nil || len(z.name) > len(best.name)) && inZone(name, z.name) {
			best = z
		}
	}
	return best
}

// inZone reports whether name is the zone or below it, both lower case and fully qualified.
func inZone(name, zone string) bool {
	if zone == "." {
		return true
	}
	rest, ok := strings.CutSuffix(name, zone)
	if !ok || rest == "" {
		return ok
	}
	rest, ok = strings.CutSuffix(rest, ".")
	backslashes := len(rest) - len(strings.TrimRight(rest, `\`))
	return ok && backslashes%2 == 0 // an escaped dot parts no labels (RFC 1035, section 5.1)
}

// below returns what name, which is in z, has before the zone: "" for the zone itself.
func (z *zone) below(name string) string {
	if len(name) == len(z.name) {
		return ""
	}
	if z.name == "." {
		return name[:len(name)-1]
	}
	return name[:len(name)-len(z.name)-1]
}

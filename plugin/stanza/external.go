package stanza

import (
	"slices"
	"strconv"
	"strings"

	"github.com/coredns/caddy/caddyfile"
	"github.com/coredns/coredns/plugin/pkg/dnsutil"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Bounds of the external options of one stanza.
const (
	maxExternal = 100 // options: a query compares its name with the zones of each
	maxClasses  = 100 // distinct ones, in one option
)

// DefaultExternalTTL is the TTL of records of an external option, in seconds, as in k8s_gateway.
const DefaultExternalTTL = 60

// Source is a kind of objects that publish names outside the cluster. Sources form a set.
type Source uint8

// The sources of the external option.
const (
	Ingress     Source = 1 << iota // Ingresses
	Service                        // Services of type LoadBalancer, headless ones, and those with annotations
	Gateway                        // Gateways, ListenerSets and routes of the Gateway API
	DNSEndpoint                    // external-dns' DNSEndpoints
	Node                           // Nodes
)

// DefaultSources are the sources of an external option without from.
const DefaultSources = Ingress | Service | Gateway | DNSEndpoint

// sourceNames are the sources as arguments of from, in the order of their bits.
var sourceNames = [...]string{"ingress", "service", "gateway", "dnsendpoint", "node"}

// Has reports whether all of o are in s.
func (s Source) Has(o Source) bool { return s&o == o }

// String returns the sources of the set as arguments of from.
func (s Source) String() string {
	var names []string
	for i, name := range sourceNames {
		if s.Has(1 << i) {
			names = append(names, name)
		}
	}
	return strings.Join(names, " ")
}

// External is one external option: zones in which objects of the cluster publish names.
type External struct {
	Zones      []string // lower case, fully qualified, each once; none of them is in another option
	From       Source
	Classes    []string // IngressClasses and GatewayClasses that count, each once; nil: all
	Namespaces []string // that may claim names in Zones, each once; nil: all that the stanza serves
	TTL        uint32   // seconds, 0 to 3600
	Inside     bool     // clients in the cluster get cluster IPs instead of load balancers
	Line       int      // of the option

	at caddyfile.Token
}

// addExternal reads an external option.
func (d *draft) addExternal(o statement) error {
	if len(d.External) == maxExternal {
		return errAt(o.words[0], "more than %d external options in a stanza", maxExternal)
	}
	if len(o.words) == 1 {
		return o.argErr()
	}
	e := External{TTL: DefaultExternalTTL, Line: o.words[0].Line, at: o.words[0]}
	var err error
	if e.Zones, err = d.zonesOf(o.words[1:]); err != nil {
		return err
	}
	for _, z := range e.Zones {
		if dnsutil.IsReverse("."+z) > 0 {
			return o.errf("external: '%s' is a reverse zone; external serves only forward names", clip(z, 255))
		}
		if first, ok := d.externalZones[z]; ok {
			return o.errf("external: zone %s may be in one external option only, it is already in the one on line %d", clip(z, 255), first)
		}
		d.externalZones[z] = e.Line
	}
	seen := externalSeen{classes: set{}, namespaces: set{}}
	for _, line := range o.block {
		if err := d.externalLine(&e, line, seen); err != nil {
			return err
		}
	}
	if e.From == 0 {
		e.From = DefaultSources
	}
	d.External = append(d.External, e)
	return nil
}

// externalSeen holds the values of the lines read so far in one option.
type externalSeen struct{ classes, namespaces set }

// externalLine reads one line of an external block.
func (d *draft) externalLine(e *External, o statement, seen externalSeen) error {
	switch o.name() {
	case "from":
		return e.addSources(o)
	case "class":
		return e.addClasses(o, seen.classes)
	case "namespaces":
		return d.addClaimants(e, o, seen.namespaces)
	case "ttl":
		return e.setTTL(o)
	case "inside":
		e.Inside = true
		return o.none()
	}
	return o.unknown()
}

func (e *External) addSources(o statement) error {
	if len(o.words) == 1 {
		return o.argErr()
	}
	for _, w := range o.words[1:] {
		i := slices.Index(sourceNames[:], w.Text)
		if i < 0 {
			return errAt(w, "external: from '%s' is not a source, must be one of: %s", clip(w.Text, 200), strings.Join(sourceNames[:], ", "))
		}
		e.From |= 1 << i
	}
	return nil
}

func (e *External) addClasses(o statement, seen set) error {
	if len(o.words) == 1 {
		return o.argErr()
	}
	for _, w := range o.words[1:] {
		if bad := validation.IsDNS1123Subdomain(w.Text); bad != nil {
			return errAt(w, "external: class '%s' is not a name of an IngressClass or a GatewayClass: %s", clip(w.Text, 255), bad[0])
		}
		if seen.add(w.Text) {
			e.Classes = append(e.Classes, w.Text)
		}
		if len(e.Classes) > maxClasses {
			return errAt(w, "external: more than %d classes", maxClasses)
		}
	}
	return nil
}

func (d *draft) addClaimants(e *External, o statement, seen set) error {
	if len(o.words) == 1 {
		return o.argErr()
	}
	for _, w := range o.words[1:] {
		if bad := validation.IsDNS1123Label(w.Text); bad != nil {
			return errAt(w, "external: '%s' is not a namespace name: %s", clip(w.Text, 255), bad[0])
		}
		if !seen.add(w.Text) {
			continue
		}
		if err := d.within(&d.claimants, 1, maxNamespaces, "namespaces of external options", w); err != nil {
			return err
		}
		e.Namespaces = append(e.Namespaces, w.Text)
	}
	return nil
}

func (e *External) setTTL(o statement) error {
	arg, err := o.one()
	if err != nil {
		return err
	}
	t, err := strconv.Atoi(arg)
	if err != nil {
		return o.errf("external: ttl '%s' is not a number of seconds", clip(arg, 200))
	}
	if t < 0 || t > 3600 {
		return o.errf("external: ttl must be in range [0, 3600]: %d", t)
	}
	e.TTL = uint32(t)
	return nil
}

// reserved are the labels above a Service zone that end the names of Services, pods and name servers.
var reserved = [...]string{"svc.", "pod.", "dns.", "dns-version."}

// checkExternal refuses zones of external options that would replace a Service zone, or hide the names of Services in
// one. Another name below a Service zone, such as apps.cluster.local, may be an external zone, and a Service zone may
// be below an external one.
func (c *Config) checkExternal() error {
	if len(c.External) == 0 {
		return nil
	}
	zones, names := setOf(c.Zones), set{}
	for _, z := range c.Zones {
		for _, label := range reserved {
			if z == "." {
				z = ""
			}
			names.add(label + z)
		}
	}
	for i := range c.External {
		e := &c.External[i]
		for _, z := range e.Zones {
			if zones[z] {
				return errAt(e.at, "external: zone %s is already a Service zone; use a zone of its own, such as apps.%[1]s", clip(z, 255))
			}
			if names.hasParentOf(z) {
				return errAt(e.at, "external: zone %s would hide the names of Services, pods or name servers in the zones %s", clip(z, 255), clip(strings.Join(c.Zones, " "), 200))
			}
		}
	}
	return nil
}

// externalWithin refuses zones of external options that are neither among base's nor below one of
// them.
func (c *Config) externalWithin(base *Config) error {
	allowed := set{}
	var all []string
	for i := range base.External {
		for _, z := range base.External[i].Zones {
			allowed.add(z)
			all = append(all, z)
		}
	}
	for i := range c.External {
		for _, z := range c.External[i].Zones {
			if allowed.hasParentOf(z) {
				continue
			}
			have := "has no external option"
			if len(all) > 0 {
				have = "has " + clip(strings.Join(all, " "), 200)
			}
			return refusef(c.External[i].at, "external: the ConfigMap may not add zone %s: the Corefile's stanza %s", z, have)
		}
	}
	return nil
}

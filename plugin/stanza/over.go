package stanza

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/coredns/caddy/caddyfile"
	"github.com/miekg/dns"
)

// Over returns the stanza that serves if c is the ConfigMap's and base the Corefile's. Neither is changed.
//
//   - The data-source options (configmap, manifests, snapshot, kubeconfig, endpoint, tls, apiserver_*), startup_timeout, audit,
//     status and wire are base's. c may omit the data-source options and wire, or repeat them word for word.
//   - A hosts FILE of c must be one of base's. FILEs that c repeats have the ttl, no_reverse and reload of c's option;
//     the others stay as base has them, after c's. Inline lines are only c's.
//   - Each zone of c must be one of base's or below one. A bare stanza that names no zones has base's, unless it has
//     noservices. A HostsOnly stanza cannot replace one with zones: a first line of hosts in a ConfigMap must not end the
//     serving of Services.
//   - Each zone of an external option of c must be one of base's external options or below one.
//   - Everything else is c's.
//
// An error names the option, the FILE or the zone, with its line in the ConfigMap.
func (c *Config) Over(base *Config) (*Config, error) {
	if err := c.sameSources(base); err != nil {
		return nil, err
	}
	hosts, err := c.hostsOver(base)
	if err != nil {
		return nil, err
	}
	if err := c.zonesWithin(base); err != nil {
		return nil, err
	}
	if err := c.externalWithin(base); err != nil {
		return nil, err
	}

	r := *c
	r.Hosts = hosts
	if c.bare && !c.ZonesWritten && !c.noServices {
		r.Zones, r.ZonesWritten = base.Zones, base.ZonesWritten
		r.bare = false
		if err := r.checkMulticluster(); err != nil {
			return nil, err
		}
		if err := r.checkExternal(); err != nil {
			return nil, err
		}
	}
	r.ConfigMap, r.Manifests, r.Snapshot = base.ConfigMap, base.Manifests, base.Snapshot
	r.Kubeconfig, r.Context = base.Kubeconfig, base.Context
	r.Endpoints, r.TLS = base.Endpoints, base.TLS
	r.APIQPS, r.APIBurst, r.APIMaxInflight = base.APIQPS, base.APIBurst, base.APIMaxInflight
	r.StartupTimeout, r.Audit, r.WireOff, r.Status = base.StartupTimeout, base.Audit, base.WireOff, base.Status
	r.sources = base.sources
	return &r, nil
}

// refusef returns the error for a change that a ConfigMap may not make, at t.
func refusef(t caddyfile.Token, format string, args ...any) error {
	return fmt.Errorf("%s%s", position(t), clip(fmt.Sprintf(format, args...), maxErrorText))
}

func (c *Config) sameSources(base *Config) error {
	for _, name := range fixedOptions {
		ours, ok := c.sources[name]
		if !ok {
			continue
		}
		theirs, ok := base.sources[name]
		if ok && slices.Equal(ours.args, theirs.args) {
			continue
		}
		has := "does not have it"
		if ok {
			has = "has '" + clip(strings.Join(theirs.args, " "), 200) + "'"
		}
		return refusef(ours.at, "the ConfigMap may not change option %s: the Corefile %s, the ConfigMap has '%s'",
			name, has, clip(strings.Join(ours.args, " "), 200))
	}
	return nil
}

// hostsOver returns c's hosts options, and the FILEs of base's that c does not repeat.
func (c *Config) hostsOver(base *Config) ([]Hosts, error) {
	allowed := map[string]bool{}
	for _, h := range base.Hosts {
		for _, f := range h.Files {
			allowed[f] = true
		}
	}
	repeated := map[string]bool{}
	for _, h := range c.Hosts {
		for i, f := range h.Files {
			if !allowed[f] {
				return nil, cmp.Or(h.Missing(i), h.refuse(f))
			}
			repeated[f] = true
		}
	}
	hosts := slices.Clone(c.Hosts)
	for _, h := range base.Hosts {
		h.Files = slices.DeleteFunc(slices.Clone(h.Files), func(f string) bool { return repeated[f] })
		h.Inline = nil
		if len(h.Files) > 0 {
			hosts = append(hosts, h)
		}
	}
	return hosts, nil
}

// refuse returns the error for a FILE that the Corefile does not have.
func (h Hosts) refuse(file string) error {
	why := ""
	if file == DefaultHostsFile {
		why = " (hosts with neither FILE nor inline line means this file)"
	}
	return refusef(h.at, "the ConfigMap may not add hosts file '%s'%s: no hosts option of the Corefile's stanza names it", clip(file, 200), why)
}

func (c *Config) zonesWithin(base *Config) error {
	if c.HostsOnly && len(base.Zones) > 0 {
		zones := clip(strings.Join(base.Zones, " "), 200)
		return refusef(c.at, "a stanza with only hosts options serves no Services, but the Corefile's serves them in %s: write '%s %s' to keep serving them, or noservices to stop", zones, Name, zones)
	}
	allowed := setOf(base.Zones)
	for _, z := range c.Zones {
		if allowed.hasParentOf(z) {
			continue
		}
		have := "has no zones"
		if len(base.Zones) > 0 {
			have = "has " + clip(strings.Join(base.Zones, " "), 200)
		}
		return refusef(c.at, "the ConfigMap may not add zone %s: the Corefile's stanza %s", z, have)
	}
	return nil
}

// hasParentOf reports whether zone, or a zone above it, is in the set.
func (s set) hasParentOf(zone string) bool {
	for i, end := 0, false; !end; i, end = dns.NextLabel(zone, i) {
		if s[zone[i:]] {
			return true
		}
	}
	return s["."]
}

// FixedIn returns the first option in which c differs from base, of those that are fixed for the life of a server
// block: the data-source options, startup_timeout, audit, status and wire. It returns "" without a difference.
func (c *Config) FixedIn(base *Config) string {
	for _, name := range fixedOptions {
		ours, theirs := c.sources[name], base.sources[name]
		if !slices.Equal(ours.args, theirs.args) {
			return name
		}
	}
	switch {
	case c.StartupTimeout != base.StartupTimeout:
		return "startup_timeout"
	case c.Audit != base.Audit:
		return "audit"
	case c.Status != base.Status:
		return "status"
	}
	return ""
}

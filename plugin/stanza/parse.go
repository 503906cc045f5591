package stanza

import (
	"fmt"
	"slices"

	"github.com/coredns/caddy/caddyfile"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/dnsutil"
)

// Parse reads the stanza of a server block from d, which is before the directive, as in a plugin's setup (&c.Dispenser
// of the caddy.Controller), and reads d to its end. keys are the server block's keys. A second stanza is an error
// (plugin.ErrOnce), and every error names file and line.
func Parse(d *caddyfile.Dispenser, keys []string) (*Config, error) {
	var tokens []caddyfile.Token
	for d.Next() {
		tokens = append(tokens, caddyfile.Token{File: d.File(), Line: d.Line(), Text: d.Val()})
	}
	if len(tokens) == 0 {
		return nil, d.Errf("no %s stanza", Name)
	}
	return parseTokens(tokens, keys, false)
}

// draft is a Config under construction.
type draft struct {
	*Config
	namespaces set // those of Config.Namespaces

	// The first options of a kind, nil if there is none.
	noServicesAt *caddyfile.Token // noservices
	ofServices   *caddyfile.Token // an option for Services only
	ofObjects    *caddyfile.Token // the same for external zones
	other        *caddyfile.Token // any but hosts, configmap, status and wire

	zones, paths, files, lines, claimants int // read so far; see the limits

	externalZones map[string]int // the lines of external options that have them
}

// parseTokens reads the tokens of one server block's stanza; there is at least one.
func parseTokens(tokens []caddyfile.Token, keys []string, bare bool) (*Config, error) {
	s := scanner{tokens: tokens}
	st, err := s.statement(stanzaDepth)
	if err != nil {
		return nil, err
	}
	if s.i < len(tokens) {
		return nil, afterStanza(tokens[s.i-1], tokens[s.i])
	}

	d := draft{
		Config: &Config{
			TTL:            DefaultTTL,
			StartupTimeout: DefaultStartupTimeout,
			Audit:          DefaultAudit,
			at:             tokens[0],
			bare:           bare,
			sources:        map[string]written{},
		},
		namespaces:    set{},
		externalZones: map[string]int{},
	}
	if err := d.setZones(st.words[1:]); err != nil {
		return nil, err
	}
	for _, o := range st.block {
		if err := d.option(o); err != nil {
			return nil, err
		}
	}
	if err := d.exclusive(); err != nil {
		return nil, err
	}
	d.defaultZones(keys)
	if err := d.checkZones(); err != nil {
		return nil, err
	}
	if err := d.checkExternal(); err != nil {
		return nil, err
	}
	return d.Config, d.checkMulticluster()
}

// within adds more to n, the number of a kind read so far, and refuses a number above most. t is the place.
func (d *draft) within(n *int, more, most int, kind string, t caddyfile.Token) error {
	if *n += more; *n > most {
		return errAt(t, "more than %d %s in a stanza", most, kind)
	}
	return nil
}

// afterStanza returns the error for text after a stanza's end.
func afterStanza(end, t caddyfile.Token) error {
	if sameLine(end, t) {
		return errAt(t, "unexpected '%s' after '%s'", t.Text, end.Text)
	}
	return fmt.Errorf("%s%s%w", position(t), errorPrefix, plugin.ErrOnce)
}

// option reads one line of the stanza.
func (d *draft) option(o statement) error {
	set, ok := options[o.name()]
	if !ok {
		return o.unknown()
	}
	if o.braced && o.name() != "hosts" && o.name() != "external" {
		return o.errf("unexpected '{': '%s' takes no block", o.name())
	}
	d.note(o)
	return set(d, o)
}

// note stores which options are present, as far as that decides whether Services are served.
func (d *draft) note(o statement) {
	first := func(t **caddyfile.Token) {
		if *t == nil {
			*t = &o.words[0]
		}
	}
	switch o.name() {
	case "hosts", "configmap", "status", "wire":
		return
	case "noservices":
		first(&d.noServicesAt)
	case "pods", "endpoint_pod_names", "noendpoints", "ignore", "multicluster", "zonal", "ttl":
		first(&d.ofServices)
	case "namespaces", "namespace_labels", "labels", "fallthrough", "snapshot":
		first(&d.ofObjects)
	}
	first(&d.other)
}

// setZones sets the written zones.
func (d *draft) setZones(words []caddyfile.Token) (err error) {
	if len(words) == 0 {
		return nil
	}
	d.ZonesWritten = true
	if d.Zones, err = d.zonesOf(words); err != nil {
		return err
	}
	return d.checkZones()
}

// defaultZones sets the zones of the server block for a stanza that names none, without those of external options. A
// stanza with only hosts options replaces one of the hosts plugin, which has no zones of its own either.
func (d *draft) defaultZones(keys []string) {
	if d.ZonesWritten || d.bare || d.noServices {
		return
	}
	d.Zones = slices.DeleteFunc(zonesOfKeys(keys), func(z string) bool { return d.externalZones[z] != 0 })
	if len(d.Hosts) > 0 && d.other == nil && len(d.Zones) > 0 {
		d.Zones, d.HostsOnly = nil, true
	}
}

// checkZones refuses zones if none of them can have a Service's name.
func (d *draft) checkZones() error {
	for _, z := range d.Zones {
		if dnsutil.IsReverse(z) == 0 {
			return nil
		}
	}
	if len(d.Zones) > 0 {
		return errAt(d.at, "non-reverse zone name must be used")
	}
	return nil
}

// checkMulticluster refuses multicluster zones that are not among the zones. A bare stanza without zones has those of
// the Corefile, which Over checks.
func (c *Config) checkMulticluster() error {
	if c.bare && !c.ZonesWritten {
		return nil
	}
	zones := setOf(c.Zones)
	for _, z := range c.Multicluster {
		if !zones[z] {
			return errAt(c.multiclusterAt, "is not authoritative for the multicluster zone %s (authoritative zones: %v)", z, c.Zones)
		}
	}
	return nil
}

// exclusive refuses options that exclude each other.
func (d *draft) exclusive() error {
	if t := d.noServicesAt; t != nil {
		if d.ZonesWritten {
			return errAt(*t, "noservices and zones cannot both be set: zones are where Services are served")
		}
		o := d.ofServices
		if o == nil && len(d.External) == 0 {
			o = d.ofObjects
		}
		if o != nil {
			return errAt(*o, "%s and noservices (line %d) cannot both be set: no Services are served", o.Text, t.Line)
		}
	}
	if d.Zonal && d.NoEndpoints {
		return errAt(d.zonalAt, "zonal requires the endpoint cache; remove noendpoints")
	}
	manifests, ok := d.sources["manifests"]
	if !ok {
		return nil
	}
	if o, ok := d.sources["snapshot"]; ok {
		return errAt(o.at, "snapshot and manifests (line %d) cannot both be set: manifests are on disk already", manifests.at.Line)
	}
	for _, name := range apiOptions {
		if o, ok := d.sources[name]; ok {
			return errAt(o.at, "%s and manifests (line %d) cannot both be set: manifests stand in for the API server", name, manifests.at.Line)
		}
	}
	return nil
}

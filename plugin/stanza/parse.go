package stanza

import (
	"fmt"
	"slices"

	"github.com/coredns/caddy/caddyfile"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/dnsutil"
)

// Parse reads the stanza of a server block out of d, which stands before the directive, as a plugin's setup gets it
// (&c.Dispenser of the caddy.Controller), and reads d to its end. keys are the server block's keys. A second stanza is
// an error (plugin.ErrOnce), and every error names file and line.
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

// parseTokens reads the tokens of one server block's stanza, of which there is at least one.
func parseTokens(tokens []caddyfile.Token, keys []string, bare bool) (*Config, error) {
	s := scanner{tokens: tokens}
	st, err := s.statement(2) // options, and the lines of a hosts block
	if err != nil {
		return nil, err
	}
	if s.i < len(tokens) {
		return nil, afterStanza(tokens[s.i-1], tokens[s.i])
	}

	c := &Config{
		TTL:            DefaultTTL,
		StartupTimeout: DefaultStartupTimeout,
		at:             tokens[0],
		bare:           bare,
		sources:        map[string]written{},
	}
	if err := c.setZones(st.words[1:], keys); err != nil {
		return nil, err
	}
	for _, o := range st.block {
		if err := c.option(o); err != nil {
			return nil, err
		}
	}
	if err := c.exclusive(); err != nil {
		return nil, err
	}
	return c, c.checkMulticluster()
}

// afterStanza is the error for what follows a stanza's end.
func afterStanza(end, t caddyfile.Token) error {
	if sameLine(end, t) {
		return errAt(t, "unexpected '%s' after '%s'", t.Text, end.Text)
	}
	return fmt.Errorf("%s%s%w", position(t), errorPrefix, plugin.ErrOnce)
}

// option takes over one line of the stanza.
func (c *Config) option(o statement) error {
	set, ok := options[o.name()]
	if !ok {
		return o.unknown()
	}
	if o.braced && o.name() != "hosts" {
		return o.errf("unexpected '{': '%s' takes no block", o.name())
	}
	return set(c, o)
}

// setZones takes the written zones, or else those of the server block.
func (c *Config) setZones(words []caddyfile.Token, keys []string) error {
	var err error
	switch {
	case len(words) > 0:
		c.ZonesWritten = true
		c.Zones, err = zonesOf(words)
	case !c.bare:
		c.Zones = zonesOfKeys(keys)
	}
	if err != nil {
		return err
	}
	for _, z := range c.Zones {
		if dnsutil.IsReverse(z) == 0 {
			return nil
		}
	}
	if len(c.Zones) > 0 {
		return errAt(c.at, "non-reverse zone name must be used")
	}
	return nil
}

// checkMulticluster refuses multicluster zones that are none of the zones. A bare stanza without zones has those of the
// Corefile, which Over checks.
func (c *Config) checkMulticluster() error {
	if c.bare && !c.ZonesWritten {
		return nil
	}
	for _, z := range c.Multicluster {
		if !slices.Contains(c.Zones, z) {
			return errAt(c.multiclusterAt, "is not authoritative for the multicluster zone %s (authoritative zones: %v)", z, c.Zones)
		}
	}
	return nil
}

// exclusive refuses options that cannot stand together.
func (c *Config) exclusive() error {
	if c.Zonal && c.NoEndpoints {
		return errAt(c.zonalAt, "zonal requires the endpoint cache; remove noendpoints")
	}
	manifests, ok := c.sources["manifests"]
	if !ok {
		return nil
	}
	if o, ok := c.sources["snapshot"]; ok {
		return errAt(o.at, "snapshot and manifests (line %d) cannot both be set: manifests are on disk already", manifests.at.Line)
	}
	for _, name := range apiOptions {
		if o, ok := c.sources[name]; ok {
			return errAt(o.at, "%s and manifests (line %d) cannot both be set: manifests stand in for the API server", name, manifests.at.Line)
		}
	}
	return nil
}

package check

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/coredns/caddy/caddyfile"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/dnsutil"
	"github.com/coredns/coredns/plugin/pkg/parse"
	"github.com/coredns/coredns/plugin/pkg/transport"

	"github.com/kubehosts/kubehosts/build/corefile"
	kubehosts "github.com/kubehosts/kubehosts/plugin"
	"github.com/kubehosts/kubehosts/plugin/stanza"
)

// habits finds parts of a server block that CoreDNS accepts but that are likely to cause trouble.
func habits(b *corefile.Block, there map[string]corefile.Source) []Finding {
	all := slices.Concat(cached(b), loops(b), circles(b), forwards(b), leftBehind(b))
	return append(all, hostsFiles(b, there)...)
}

// configOf returns the kubehosts stanza of a server block, nil without a valid one: its setup reports that.
func configOf(b *corefile.Block) *stanza.Config {
	if b.Directives[stanza.Name] == nil {
		return nil
	}
	c, err := b.Stanza()
	if err != nil {
		return nil
	}
	return c
}

// cached finds a cache that stores answers of zones that kubehosts serves live, those of external options included. It
// ignores reverse zones: they also have names of other origins, and stock Corefiles cache them.
func cached(b *corefile.Block) (all []Finding) {
	c := configOf(b)
	if c == nil {
		return nil
	}
	live := slices.Clone(c.Zones)
	for _, e := range c.External {
		live = append(live, e.Zones...)
	}
	for _, words := range b.Stanzas("cache") {
		of := cacheOf(words)
		if len(of.zones) == 0 {
			of.zones = b.Zones()
		}
		kept := slices.DeleteFunc(slices.Clone(live), func(z string) bool { return dnsutil.IsReverse("."+z) > 0 || !of.keeps(z) })
		if len(kept) > 0 {
			zones := clip(strings.Join(kept, " "))
			all = append(all, at(words[0].At, Warning,
				"cache is ahead of live zones: its entries hide edits and changed objects; add 'disable success %s' and 'disable denial %s' to it", zones, zones))
		}
		if len(c.Hosts) > 0 && len(live) == 0 && slices.ContainsFunc(of.zones, func(z string) bool { return !of.spares(z) }) {
			all = append(all, at(words[0].At, Warning,
				"cache is ahead of live hosts entries: its entries hide edits of them; add 'disable success ZONE' and 'disable denial ZONE' to it for their zones, or set a low ttl"))
		}
	}
	return all
}

// cache holds the zones that a stanza of cache covers.
type cache struct{ zones, noSuccess, noDenial []string }

func cacheOf(words []corefile.Word) (c cache) {
	for i, line := range corefile.Lines(words) {
		args := textsOf(line)
		switch {
		case i == 0:
			args = slices.DeleteFunc(args[1:], func(a string) bool { return a == "{" })
			if len(args) > 0 {
				if _, err := strconv.Atoi(args[0]); err == nil {
					args = args[1:]
				}
			}
			c.zones = normalized(args)
		case args[0] == "disable" && len(args) > 1:
			zones := normalized(args[2:])
			if len(zones) == 0 {
				zones = []string{"."}
			}
			switch args[1] {
			case "success":
				c.noSuccess = zones
			case "denial":
				c.noDenial = zones
			}
		}
	}
	return c
}

// keeps reports whether answers of the zone are cached.
func (c cache) keeps(zone string) bool {
	return plugin.Zones(c.zones).Matches(zone) != "" && !c.spares(zone)
}

// spares reports whether all caching is disabled for the zone.
func (c cache) spares(zone string) bool {
	return plugin.Zones(c.noSuccess).Matches(zone) != "" && plugin.Zones(c.noDenial).Matches(zone) != ""
}

func textsOf(words []corefile.Word) []string {
	texts := make([]string, len(words))
	for i, w := range words {
		texts[i] = w.Text
	}
	return texts
}

func normalized(zones []string) (all []string) {
	for _, z := range zones {
		all = append(all, plugin.Host(z).NormalizeExact()...)
	}
	return all
}

// loops finds a forward of all names without loop.
func loops(b *corefile.Block) []Finding {
	if b.Directives["loop"] != nil || !slices.Contains(b.Zones(), ".") {
		return nil
	}
	for _, words := range b.Stanzas("forward") {
		if len(words) > 1 && slices.Contains(normalized([]string{words[1].Text}), ".") {
			return []Finding{at(words[0].At, Warning, "forward without loop: if an upstream leads back here, queries circulate until memory runs out; add a line 'loop'")}
		}
	}
	return nil
}

// circles finds an upstream of forward that is the server block itself. It leaves out a server block with a view:
// another one may get the queries that it sends to itself.
//
// The loop plugin finds this when the process starts, and ends it. It does not find it in a reload: the server before
// answers its question.
func circles(b *corefile.Block) (all []Finding) {
	if b.Directives["view"] != nil {
		return nil
	}
	for _, words := range b.Stanzas("forward") {
		line := corefile.Lines(words)[0]
		for _, w := range line[min(2, len(line)):] {
			if listensOn(b, w.Text) {
				all = append(all, at(w.At, Wrong, "forward sends queries back to this server block, which listens on %s: they circulate until memory runs out", clip(w.Text)))
			}
		}
	}
	return all
}

// listensOn reports whether upstream, as in forward, is an address that the server block surely listens on.
func listensOn(b *corefile.Block, upstream string) bool {
	trans, host := parse.Transport(upstream)
	to, err := netip.ParseAddrPort(host)
	if err != nil {
		addr, _ := netip.ParseAddr(host) // a file or a name has no address
		to = netip.AddrPortFrom(addr, 53)
	}
	if trans != transport.DNS || !to.IsValid() || !slices.ContainsFunc(b.Listeners(), func(l corefile.Listener) bool {
		return l.Transport == trans && l.Port == strconv.Itoa(int(to.Port()))
	}) {
		return false
	}
	local := to.Addr().IsLoopback() || to.Addr().IsUnspecified()
	if b.Directives["bind"] == nil {
		return local
	}
	return slices.ContainsFunc(b.Directives["bind"][1:], func(w corefile.Word) bool {
		addr, err := netip.ParseAddr(w.Text)
		return err == nil && (addr == to.Addr() || addr.IsUnspecified() && local)
	})
}

// forwards finds a second forward of one zone, which never gets a query.
func forwards(b *corefile.Block) (all []Finding) {
	first := map[string][]corefile.Word{}
	for _, words := range b.Stanzas("forward") {
		if len(words) < 2 {
			continue
		}
		for _, zone := range normalized([]string{words[1].Text}) {
			before, second := first[zone]
			if !second || passesOn(before) {
				first[zone] = words
				continue
			}
			all = append(all, at(words[0].At, Warning, "a second forward of %s: the first, %s, answers everything; is one of them imported by mistake?", zone, before[0].At))
		}
	}
	return all
}

// passesOn reports whether a forward passes questions on to the next.
func passesOn(words []corefile.Word) bool {
	return slices.ContainsFunc(words, func(w corefile.Word) bool {
		return w.NewLine && (w.Text == "next" || w.Text == "next_on_nodata" || w.Text == "except")
	})
}

// leftBehind finds plugins that look up the stock kubernetes plugin beside kubehosts.
func leftBehind(b *corefile.Block) (all []Finding) {
	if b.Directives[stanza.Name] == nil {
		return nil
	}
	tokens := map[string][]caddyfile.Token{}
	for name, words := range b.Directives {
		tokens[name] = corefile.Tokens(words)
	}
	for _, r := range kubehosts.LeftBehind(caddyfile.ServerBlock{Keys: b.Keys, Tokens: tokens}) {
		all = append(all, at(corefile.Position{File: r.At.File, Line: r.At.Line}, Warning, "%s", r.Text))
	}
	return all
}

// hostsFiles finds missing hosts files.
func hostsFiles(b *corefile.Block, there map[string]corefile.Source) (all []Finding) {
	root := ""
	if words := b.Directives["root"]; len(words) > 1 {
		root = words[1].Text
	}
	look := func(path string, w corefile.Word) {
		if !filepath.IsAbs(path) && root != "" {
			path = filepath.Join(root, path)
		}
		if _, mounted := there[filepath.Base(path)]; mounted {
			return
		}
		if matches, err := filepath.Glob(path); err == nil && len(matches) == 0 {
			all = append(all, at(w.At, Warning, "hosts file '%s' does not exist; it will be served when it appears", clip(path)))
		}
	}
	for _, words := range b.Stanzas("hosts") {
		if line := corefile.Lines(words)[0]; len(line) > 1 && line[1].Text != "{" {
			if _, err := os.Stat(line[1].Text); err != nil { // it isn't a pattern
				look(escaped(line[1].Text), line[1])
			}
		}
	}
	for _, line := range corefile.Lines(b.Directives[stanza.Name]) {
		if line[0].Text != "hosts" {
			continue
		}
		for _, w := range line[1:] {
			if w.Text != "{" && !looksLikeZone(w.Text) {
				look(w.Text, w)
			}
		}
	}
	return all
}

// escaped returns a pattern that matches only path.
func escaped(path string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(path)
}

// looksLikeZone reports whether the argument of a hosts option is a zone, which the stanza's own parser refuses if
// there is no such file.
func looksLikeZone(arg string) bool {
	_, _, err := net.ParseCIDR(arg)
	return err == nil
}

// binds finds ports that one server block has on some addresses, and another on all: the more specific socket gets the
// packets, and its queries reach only its own server blocks.
func binds(blocks []corefile.Block) (all []Finding) {
	bound, open := map[string]*corefile.Block{}, map[string]*corefile.Block{}
	var ports []string
	for i := range blocks {
		b := &blocks[i]
		of := open
		if b.Directives["bind"] != nil {
			of = bound
		}
		for _, l := range b.Listeners() {
			port := l.Transport + "://:" + l.Port
			if bound[port] == nil && open[port] == nil {
				ports = append(ports, port)
			}
			if of[port] == nil {
				of[port] = b
			}
		}
	}
	for _, port := range ports {
		if b, o := bound[port], open[port]; b != nil && o != nil {
			words := b.Directives["bind"]
			all = append(all, at(words[0].At, Warning, "bind %s on port %s, which the server block of %s has on all addresses: queries to that address don't find the zones of %s",
				clip(strings.Join(textsOf(corefile.Lines(words)[0][1:]), " ")), port[strings.LastIndexByte(port, ':')+1:], o.At, clip(strings.Join(o.Keys, " "))))
		}
	}
	return all
}

// clip makes a text from a Corefile suitable for a line of output.
func clip(s string) string {
	const most = 1 << 10
	if len(s) > most {
		s = s[:most] + "..."
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
}

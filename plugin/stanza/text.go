package stanza

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/coredns/caddy/caddyfile"
	"github.com/coredns/coredns/plugin/pkg/transport"
)

// ParseText reads the stanza in the text of a ConfigMap's key. The text is either a whole Corefile, in which ParseText
// finds the stanza of the server block with the same keys and the same view, or a bare stanza: its first word, snippets
// aside, is kubehosts. keys are those of the running server block, and view is the name that its view plugin gives it,
// "" without that plugin. name is the name of the text in errors, as in "NAME:LINE - ...".
//
// Keys are compared in the server's form, in any order. A key without a port has the default port, which is 53 unless
// CoreDNS was started with -dns.port. That is not known here, so such a key also matches the port of the running server
// block, if nothing matches as written or with 53.
//
// Snippets and environment variables work as in a Corefile. No file is opened, whatever the text contains: an import of
// files is skipped outside the stanza and an error inside it. Errors in other server blocks and other plugins' stanzas
// do not matter, as long as braces balance and imports have an argument. A text may be 1 MiB long, like a ConfigMap.
func ParseText(name, text string, keys []string, view string) (*Config, error) {
	blocks, err := readCorefile(name, text, false)
	if err != nil {
		return nil, err
	}
	b, err := pick(blocks, name, keys, view)
	if err != nil {
		return nil, err
	}
	return parseTokens(b.stanza, keys, b.bare)
}

// pick returns the server block that has the keys, the view and a stanza. A server block with another view is for
// other clients, so its stanza is never used, even if no other server block has the keys.
func pick(blocks []serverBlock, name string, keys []string, view string) (serverBlock, error) {
	if len(blocks) == 1 && blocks[0].bare {
		return blocks[0], nil
	}
	same, err := matching(blocks, keys)
	if err != nil {
		return serverBlock{}, err
	}
	if len(same) == 0 {
		return serverBlock{}, errAt(caddyfile.Token{File: name, Line: 1}, "no server block with the keys of the running one, '%s'; there are: %s",
			strings.Join(keys, " "), list(blocks))
	}
	running := "'" + strings.Join(keys, " ") + "'"
	if view != "" {
		running += " with view '" + view + "'"
	}
	ofView := slices.DeleteFunc(slices.Clone(same), func(b serverBlock) bool { return b.view != view })
	if len(ofView) == 0 {
		return serverBlock{}, errAt(same[0].at, "no server block %s; there are: %s", running, list(same))
	}
	found := slices.DeleteFunc(slices.Clone(ofView), func(b serverBlock) bool { return b.stanza == nil })
	switch len(found) {
	case 0:
		return serverBlock{}, errAt(ofView[0].at, "the server block %s has no %s stanza", running, Name)
	case 1:
		return found[0], nil
	}
	return serverBlock{}, errAt(found[1].stanza[0], "a second server block %s with a %s stanza: the first is on line %d, and they can't be told apart; give each a view name of its own",
		running, Name, found[0].stanza[0].Line)
}

// list names server blocks for an error.
func list(blocks []serverBlock) string {
	const most = 10
	var s []string
	for _, b := range blocks[:min(len(blocks), most)] {
		view := ""
		if b.view != "" {
			view = " with view '" + clip(b.view, 80) + "'"
		}
		s = append(s, fmt.Sprintf("'%s'%s (line %d)", clip(strings.Join(b.keys, " "), 80), view, b.at.Line))
	}
	if len(blocks) > most {
		s = append(s, fmt.Sprintf("%d more", len(blocks)-most))
	}
	if s == nil {
		return "none"
	}
	return strings.Join(s, ", ")
}

// matching returns the server blocks whose keys are those of the running one.
func matching(blocks []serverBlock, keys []string) ([]serverBlock, error) {
	left := len(keys) * maxKeyZones
	running := withPort(addressSet(keys, &left), transport.Port)
	if len(running) == 0 {
		return nil, nil
	}
	written := make([]map[address]bool, len(blocks))
	left = maxKeyZones
	for i, b := range blocks {
		if written[i] = addressSet(b.keys, &left); left < 0 {
			return nil, errAt(b.at, "the keys of the server blocks stand for more than %d zones", maxKeyZones)
		}
	}
	for _, port := range defaultPorts(running) {
		var same []serverBlock
		for i, b := range blocks {
			if maps.Equal(withPort(written[i], port), running) {
				same = append(same, b)
			}
		}
		if same != nil {
			return same, nil
		}
	}
	return nil, nil
}

// defaultPorts are the ports that a key without one may have, most likely first. "" comes before all others, so that a
// block with written ports wins.
func defaultPorts(running map[address]bool) []string {
	var more []string
	for a := range running {
		if a.transport == transport.DNS {
			more = append(more, a.port)
		}
	}
	slices.Sort(more)
	return append([]string{"", transport.Port}, slices.Compact(more)...)
}

// addressSet returns the addresses of keys, nil if one of them is not a zone, and subtracts the number of zones from
// left. It gives up when left falls below 0.
func addressSet(keys []string, left *int) map[address]bool {
	all := map[address]bool{}
	for _, k := range keys {
		as, err := addressesOf(k)
		if *left -= len(as); err != nil || *left < 0 {
			return nil
		}
		for _, a := range as {
			all[a] = true
		}
	}
	return all
}

// withPort returns written with the port that the server uses for a key without one: port, for plain
// DNS.
func withPort(written map[address]bool, port string) map[address]bool {
	all := make(map[address]bool, len(written))
	for a := range written {
		if a.port == "" {
			a.port = transportPort(a.transport, port)
		}
		all[a] = true
	}
	return all
}

// transportPort is the default port of a transport, with dns for plain DNS.
func transportPort(trans, dns string) string {
	switch trans {
	case transport.DNS:
		return dns
	case transport.TLS:
		return transport.TLSPort
	case transport.QUIC:
		return transport.QUICPort
	case transport.GRPC:
		return transport.GRPCPort
	case transport.HTTPS, transport.HTTPS3:
		return transport.HTTPSPort
	}
	return ""
}

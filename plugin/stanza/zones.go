package stanza

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/coredns/caddy/caddyfile"
	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/pkg/parse"
	"github.com/coredns/coredns/plugin/pkg/transport"

	"github.com/kubehosts/kubehosts/plugin/domain"
)

// address is one zone of a server block's key. port is "" if the key has none.
type address struct {
	transport, zone, port string
}

// addressesOf reads a key of a server block or an argument that names a zone: dns://example.org:53, example.org, or a
// reverse network, which may stand for up to 128 zones.
func addressesOf(key string) ([]address, error) {
	trans, rest := parse.Transport(key)
	hosts, port, err := plugin.SplitHostPort(rest)
	if err != nil {
		return nil, err
	}
	as := make([]address, len(hosts))
	for i, h := range hosts {
		// Check the normalised name again: lower case may be longer, and a name without its last dot may be valid where
		// the whole is not.
		zone := plugin.Name(h).Normalize()
		if _, _, err := plugin.SplitHostPort(zone); err != nil {
			return nil, err
		}
		if plugin.Name(zone).Normalize() != zone {
			return nil, errors.New("a backslash escapes its last dot")
		}
		as[i] = address{trans, zone, port}
	}
	return as, nil
}

// ServerKeys returns the keys of a server block in CoreDNS's form, dns://example.org.:53, one for each zone, and the
// zones. A key without a port has the one of its transport, 53 for plain DNS.
func ServerKeys(written []string) (keys, zones []string, err error) {
	for _, k := range written {
		as, err := addressesOf(k)
		if err != nil {
			return nil, nil, fmt.Errorf("'%s' is not a zone: %w", clip(k, 255), err)
		}
		for _, a := range as {
			if a.port == "" {
				a.port = transportPort(a.transport, transport.Port)
			}
			keys, zones = append(keys, a.transport+"://"+a.zone+":"+a.port), append(zones, a.zone)
		}
	}
	return keys, zones, nil
}

// zonesOf reads a list of zones. Unlike plugin.OriginsFromArgsOrServerBlock it does not drop words that are not
// domain names.
func (d *draft) zonesOf(words []caddyfile.Token) ([]string, error) {
	var zones []string
	have := set{}
	for _, w := range words {
		as, err := addressesOf(w.Text)
		if err != nil {
			return nil, errAt(w, "'%s' is not a zone: %v", clip(w.Text, 255), err)
		}
		if err := d.within(&d.zones, len(as), maxZones, "zones", w); err != nil {
			return nil, err
		}
		for _, a := range as {
			zone, err := zoneOf(a.zone)
			if err != nil {
				return nil, errAt(w, "'%s' is not a zone: %v", clip(w.Text, 255), err)
			}
			if have.add(zone) {
				zones = append(zones, zone)
			}
		}
	}
	return zones, nil
}

// zoneOf returns a zone in the form of a question's name, which escapes some characters. The error of a zone outside
// ASCII has the form to write: the octets as written and the ASCII form are different zones, and clients ask for the
// latter.
func zoneOf(text string) (string, error) {
	if strings.ContainsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) && r != utf8.RuneError }) {
		return "", errors.New("it has a space or a control character")
	}
	zone, wide, err := domain.Parse(text)
	if !wide {
		return zone, err
	}
	ascii, err := domain.ASCII(text)
	if err != nil {
		return "", errors.New("it has characters outside ASCII, and no ASCII form that a client could ask for")
	}
	return "", fmt.Errorf("it has characters outside ASCII: write %s, for which clients ask", ascii)
}

// zonesOfKeys returns the zones of a server block without the root. The server has checked its keys; one that is not a
// zone is left out.
func zonesOfKeys(keys []string) []string {
	var zones []string
	have := set{".": true}
	for _, k := range keys {
		as, err := addressesOf(k)
		if err != nil {
			continue
		}
		for _, a := range as {
			zone, _, err := domain.Parse(a.zone)
			if err == nil && have.add(zone) {
				zones = append(zones, zone)
			}
		}
	}
	return zones
}

// set is a set of strings.
type set map[string]bool

func setOf(list []string) set {
	s := make(set, len(list))
	for _, v := range list {
		s[v] = true
	}
	return s
}

// add reports whether v is new.
func (s set) add(v string) bool {
	if s[v] {
		return false
	}
	s[v] = true
	return true
}

package external

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/kubehosts/kubehosts/plugin/domain"
)

// hostname returns the name in host without a final dot, in the form of a question's name, and whether an object may
// claim it or lead to it: it is a domain name and not an address. The first label may be the wildcard "*", and no other
// one may have a "*". A name outside ASCII gets its ASCII form, if it has one, see octets.
func hostname(host string) (string, bool) {
	name, wide, err := domain.Parse(host)
	if wide {
		if ascii, bad := domain.ASCII(host); bad == nil {
			name, err = ascii, nil
		}
	}
	if err != nil || name == "." {
		return "", false
	}
	name = trimDot(name)
	rest := strings.TrimPrefix(name, "*.")
	if strings.Contains(rest, "*") {
		return "", false
	}
	rest, _, _ = strings.Cut(rest, "%") // the zone of an address
	if _, err := netip.ParseAddr(rest); err == nil {
		return "", false
	}
	return name, true
}

// CheckNames returns an error about the first of hosts, and of the names in the annotations of m, that no object may
// claim: it is not a domain name, or it is an address.
func (m *Meta) CheckNames(hosts ...string) error {
	for _, host := range slices.Concat(hosts, list(m.annotated(hostnameKeys)), list(m.annotated(internalKeys))) {
		if _, ok := hostname(host); ok {
			continue
		}
		_, _, err := domain.Parse(host)
		if err == nil {
			err = errors.New("it is an address, the root, or has a * that is not its first label")
		}
		return fmt.Errorf("no object may claim the name %.300q: %w", host, err)
	}
	return nil
}

// forms returns the names of host that an object claims: that of hostname, and for one with an ASCII form also that of
// its octets, which some clients send.
func forms(host string) []string {
	name, ok := hostname(host)
	if !ok {
		return nil
	}
	if octets, wide, err := domain.Parse(host); wide && err == nil && trimDot(octets) != name {
		return []string{name, trimDot(octets)}
	}
	return []string{name}
}

// spelled returns a name without the characters that separate names in annotations and records.
func spelled(name string) string { return separators.Replace(name) }

var separators = strings.NewReplacer(`\ `, `\032`, ",", `\044`)

// labels reports whether s consists of labels of letters, digits, hyphens and underscores, separated by
// single dots.
func labels(s string) bool {
	start := 0
	for i := 0; i <= len(s); i++ {
		if i < len(s) && s[i] != '.' {
			if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
			continue
		}
		if n := i - start; n == 0 || n > 63 {
			return false
		}
		start = i + 1
	}
	return true
}

// label reports whether s is one label of letters, digits, hyphens and underscores.
func label(s string) bool { return labels(s) && !strings.Contains(s, ".") }

// wildcard returns the name that a wildcard is below.
func wildcard(name string) (below string, ok bool) { return strings.CutPrefix(name, "*.") }

// parent returns name without its first label, "" for a name of one label. A dot after a backslash is part of its label
// (RFC 1035, section 5.1). The same holds in within and cutLast.
func parent(name string) string {
	for i := 0; i < len(name); i++ {
		switch name[i] {
		case '\\':
			i++ // the rest of \DDD is digits
		case '.':
			return name[i+1:]
		}
	}
	return ""
}

// escaped reports whether the character after text is escaped: whether text ends in a backslash that is not itself
// escaped.
func escaped(text string) bool {
	return (len(text)-len(strings.TrimRight(text, `\`)))%2 != 0
}

// within reports whether name is zone or below it.
func within(name, zone string) bool {
	n := len(name) - len(zone)
	return zone == "" || n == 0 && name == zone || n > 0 && name[n-1] == '.' && name[n:] == zone && !escaped(name[:n-1])
}

// host is a name that an object claims: first, or first and zone with a dot between them, if there is a zone.
type host struct{ first, zone string }

// String returns the name.
func (h host) String() string {
	if h.zone == "" {
		return h.first
	}
	return h.first + "." + h.zone
}

// is reports whether the host is the name.
func (h host) is(name string) bool {
	n := len(name) - len(h.zone)
	if h.zone == "" || n < 1 {
		return h.zone == "" && h.first == name
	}
	return name[n-1] == '.' && name[:n-1] == h.first && name[n:] == h.zone
}

// within reports whether the host is zone or below it.
func (h host) within(zone string) bool {
	switch n := len(zone) - len(h.zone) - 1; {
	case h.zone == "":
		return within(h.first, zone)
	case n < 0:
		return within(h.zone, zone)
	default:
		return zone[n] == '.' && zone[n+1:] == h.zone && within(h.first, zone[:n])
	}
}

// wildcard returns the name that the wildcard is below.
func (h host) wildcard() (below host, ok bool) {
	if h.first == "*" && h.zone != "" {
		return host{first: h.zone}, true
	}
	first, ok := wildcard(h.first)
	return host{first, h.zone}, ok
}

// wildcardBelow returns the wildcard below a name.
func wildcardBelow(name string) host { return host{"*", name} }

// same reports whether the host is want: a whole name, or wildcardBelow one.
func (h host) same(want host) bool {
	if want.zone == "" {
		return h.is(want.first)
	}
	below, ok := h.wildcard()
	return ok && below.is(want.zone)
}

// cutLast cuts off the last label.
func (h *host) cutLast() (label string) {
	if h.zone != "" {
		h.zone, label = cutLast(h.zone)
	} else {
		h.first, label = cutLast(h.first)
	}
	return label
}

// compareHosts returns the order of a and b: that of RFC 4034, section 6.1, by their labels from the last to the first.
// So the names below a name follow it directly.
func compareHosts(a, b host) int {
	if a.zone == b.zone {
		a.zone, b.zone = "", ""
	}
	for {
		if order := strings.Compare(a.cutLast(), b.cutLast()); order != 0 {
			return order
		}
		switch {
		case a == host{} && b == host{}:
			return 0
		case a == host{}:
			return -1
		case b == host{}:
			return 1
		}
	}
}

// compareNames is compareHosts for whole names.
func compareNames(a, b string) int { return compareHosts(host{first: a}, host{first: b}) }

// cutLast cuts the last label off name.
func cutLast(name string) (rest, label string) {
	for dot := strings.LastIndexByte(name, '.'); dot >= 0; dot = strings.LastIndexByte(name[:dot], '.') {
		if !escaped(name[:dot]) {
			return name[:dot], name[dot+1:]
		}
	}
	return "", name
}

// intersect returns the intersection of the hostnames of a listener and a route, the more specific of the two (Gateway
// API, HTTPRoute.spec.hostnames). "" stands for all hostnames.
func intersect(listener, route string) (string, bool) {
	switch {
	case listener == "" || listener == route:
		return route, true
	case route == "" || covers(route, listener):
		return listener, true
	case covers(listener, route):
		return route, true
	}
	return "", false
}

// covers reports whether wild is a wildcard that matches everything that name stands for, by the rules of the
// Gateway API.
func covers(wild, name string) bool {
	below, ok := wildcard(wild)
	return ok && len(name) > len(below) && within(name, below)
}

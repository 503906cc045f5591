package status

import (
	"fmt"
	"slices"
	"time"

	"github.com/kubehosts/kubehosts/plugin/external"
)

// sayHost adds which object has a name in an external zone, since when, and which others claim it.
func (e *explanation) sayHost() {
	m := e.answer.Host()
	switch m.Outcome {
	case external.NameError, external.NoData:
		return
	}
	text := e.object(m.Object())
	if below := m.Wildcard(); below != "" {
		text += ", by its wildcard *." + below
	}
	var to []string
	switch namespace, name, _ := m.Service(); m.Outcome {
	case external.Internal:
		to = append(to, fmt.Sprintf("the cluster IPs or endpoints of Service %s/%s", namespace, name))
	case external.Headless:
		to = append(to, fmt.Sprintf("the endpoints of Service %s/%s", namespace, name))
	default:
		for ip := range m.Addrs {
			to = append(to, ip.String())
		}
		for host := range m.Hosts {
			to = append(to, host)
		}
		slices.Sort(to)
		to = slices.Compact(to)
	}
	if len(to) > 0 {
		text += ": " + listed(to, 5)
	}
	e.say("object", "%s", text)
	for _, c := range e.now.Conflicts() {
		if c.Name == e.answer.Lower || m.Wildcard() != "" && c.Name == "*."+m.Wildcard()+"." {
			e.say("conflict", "%s also claims %s, but the older one has it", e.object(c.Loser), c.Name)
		}
	}
}

// object describes an object, with its age.
func (e *explanation) object(ref external.Ref) string {
	text := ref.String()
	if o := e.answer.Outside().Object(ref); o != nil && o.Created() != 0 {
		text += time.Unix(o.Created(), 0).UTC().Format(" (since 2006-01-02 15:04:05 UTC)")
	}
	return text
}

// noHost adds why no object has a name in an external zone, and the nearest names.
func (e *explanation) noHost(name string) {
	zone := e.answer.Zone
	sel := &zone.External.Selection
	for _, open := range []struct {
		option string
		change func(*external.Selection)
	}{
		{"from", func(s *external.Selection) { s.Sources = ^external.Source(0) }},
		{"class", func(s *external.Selection) { s.Classes = nil }},
		{"namespaces", func(s *external.Selection) { s.Namespaces = nil }},
		{"namespace_labels", func(s *external.Selection) { s.Listed = false }},
	} {
		wider := *sel
		open.change(&wider)
		m := e.answer.Outside().Lookup(zone.Name, name, &wider)
		if m.Outcome != external.NameError && m.Outcome != external.NoData {
			e.say("why", "%s claims the name, but %s excludes it", e.object(m.Object()), open.option)
			return
		}
	}
	e.say("why", "no object has the name in %s", zone.Name)
	var all []string
	for other := range e.answer.Outside().Names(zone.Name, sel) {
		all = append(all, other)
	}
	e.sayNear("", nearest(name, all))
}

// sayHostLacking adds why a name in an external zone has no such record.
func (e *explanation) sayHostLacking() {
	if e.answer.Host().Outcome == external.NoData {
		e.say("why", "the name exists because names below it do, but it has no records of its own")
		return
	}
	e.sayTypes()
}

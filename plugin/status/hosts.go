package status

import (
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/kubehosts/kubehosts/plugin/answer"
	"github.com/kubehosts/kubehosts/plugin/services"
)

// sayHosts adds whether hosts entries have the name, on which lines, and what they hide.
func (e *explanation) sayHosts() {
	view := e.now.View
	if len(view.Hosts) == 0 {
		return
	}
	entry := e.answer.Lower
	if e.answer.OfWildcard() {
		entry = wildcardOf(entry)
	}
	address, reverse := services.ParseReverse(e.answer.Lower)
	want := func(name string, ip netip.Addr) bool {
		return name == entry || reverse && ip == address && name[0] != '*'
	}
	var places []string
	tables := 0
	for layer, t := range e.answer.Held {
		tables++
		for _, place := range e.now.Places(e.ctx, layer, t, want) {
			places = append(places, short(place))
		}
	}
	switch {
	case tables > 0:
	case e.answer.NotReady && e.answer.Covered():
		e.say("hosts", "no entry: %s covers the name, and answers once it is certain that no object has it", wildcardOf(answer.ToLower(e.answer.Owner())))
		return
	case e.answer.Covered():
		e.say("hosts", "no entry: %s covers the name, but only names that do not exist have its addresses", wildcardOf(answer.ToLower(e.answer.Owner())))
		return
	default:
		e.say("hosts", "no entry: %s", e.held())
		return
	}
	what := "found"
	if e.answer.OfWildcard() {
		what = "found as " + entry
	}
	if e.answer.Why() == answer.HostsLackType {
		what += ", but passed on: they have no " + e.Type
	}
	e.say("hosts", "%s: %s", what, listed(slices.Compact(places), 5))
	if e.answer.Why() == answer.FromHosts {
		e.sayShadowed()
	}
}

// short returns a path relative to the working directory, if it is below that.
func short(path string) string {
	dir, err := os.Getwd()
	if err != nil || dir == "/" { // as in a container
		return path
	}
	return strings.TrimPrefix(path, dir+"/")
}

// wildcardOf returns the wildcard that covers a name.
func wildcardOf(name string) string {
	next, end := dns.NextLabel(name, 0)
	if end {
		return name
	}
	return "*." + name[next:]
}

// held returns the number of files and lines, in words.
func (e *explanation) held() string {
	var all []string
	if n := len(e.now.Files()); n > 0 {
		all = append(all, count(n, "file"))
	}
	if n := e.now.Lines(); n > 0 {
		all = append(all, count(n, "inline line"))
	}
	if len(all) == 0 {
		return "there are none"
	}
	return strings.Join(all, ", ")
}

// sayShadowed adds what would answer without the hosts entries.
func (e *explanation) sayShadowed() {
	bare := *e.now.View
	bare.Hosts = nil
	a := bare.Answer(e.answer.Question)
	if a.Outcome != answer.Ours && a.Outcome != answer.Follow || a.Why() != answer.OfObject && a.Why() != answer.IsReverse {
		return
	}
	if svc, ok := serviceOf(&a, a.Lower); ok {
		e.say("", "they hide Service %s", objectName(svc))
		return
	}
	e.say("", "they hide the cluster's records of this name")
}

package answer

import (
	"errors"
	"net/netip"
	"strings"

	"github.com/miekg/dns"

	"github.com/kubehosts/kubehosts/plugin/services"
)

// ErrUnknown says that a zone can't be transferred, because the objects in it were not read yet: whoever took it for empty
// would deny every name.
var ErrUnknown = errors.New("nothing was read from the Kubernetes API yet")

// Transfer is a zone as it is at one moment.
type Transfer struct {
	view  *View
	state *services.State
	zone  *Zone
}

// Transfer returns the zone of that name, nil if it is none of the View's zones. The error is ErrUnknown.
func (v *View) Transfer(name string) (*Transfer, error) {
	name = dns.CanonicalName(name)
	for i := range v.Zones {
		z := &v.Zones[i]
		if z.Name != name {
			continue
		}
		t := &Transfer{view: v, state: v.Index.State(), zone: z}
		if !t.state.Known(&v.Options, z.Imported) {
			return nil, ErrUnknown
		}
		return t, nil
	}
	return nil, nil
}

// Serial returns the zone's SOA serial.
func (t *Transfer) Serial() uint32 { return t.view.SerialOf(t.state) }

// types are the types of the records that names in a zone have, as a question for each finds them. A CNAME record is found by
// a question for its own type, and then it is all that the name has.
var types = [...]uint16{dns.TypeCNAME, dns.TypeSOA, dns.TypeNS, dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypePTR, dns.TypeTXT}

// Answers yields an Answer for each RRset of the zone: the same that a question for it gets. The SOA record comes first.
// What no list can name is left out: the names of pods under "pods insecure", and names with a topology zone in them.
func (t *Transfer) Answers(yield func(*Answer) bool) {
	for name := range t.names {
		for _, qtype := range types {
			a := t.ask(name, qtype)
			if a.Outcome != Ours || a.Kind == None && len(a.Aliases) == 0 {
				continue
			}
			if !yield(&a) {
				return
			}
			if len(a.Aliases) > 0 {
				break
			}
		}
	}
}

// ask answers a question out of the State of the transfer.
func (t *Transfer) ask(name string, qtype uint16) Answer {
	return t.view.answer(NewQuestion(name, qtype, dns.ClassINET), t.zone, t.state)
}

// names yields the owner names of the zone, each once: fully qualified and in lower case.
func (t *Transfer) names(yield func(string) bool) {
	suffix := Under(".", t.zone.Name)
	if !yield(t.zone.Name) || !yield("dns-version"+suffix) || !yield("ns.dns"+suffix) {
		return
	}
	if t.zone.Reverse {
		t.reverseNames(yield)
		return
	}
	var entries set[string]
	more := true
	t.entries(func(name string) bool {
		if name != t.zone.Name && name != "ns.dns"+suffix && name != "dns-version"+suffix && entries.add(name) {
			more = yield(name)
		}
		return more
	})
	if !more {
		return
	}
	t.state.OwnerNames(&t.view.Options, t.zone.Imported, func(below string) bool {
		name := below + suffix
		more = entries.has(name) || yield(name)
		return more
	})
	if !more || t.view.Options.Pods != services.PodsVerified {
		return
	}
	t.pods(func(below string) bool {
		name := below + suffix
		return entries.has(name) || yield(name)
	})
}

// pods yields the names of pods, less the zone.
func (t *Transfer) pods(yield func(string) bool) {
	var seen set[string] // pods on the host's network share its address
	for pod := range t.state.Pods {
		for ip := range pod.Addrs().All {
			label := strings.NewReplacer(".", "-", ":", "-").Replace(ip.String())
			if name := label + "." + pod.Namespace() + ".pod"; seen.add(name) && !yield(name) {
				return
			}
		}
	}
}

// reverseNames yields the names of the addresses in a reverse zone.
func (t *Transfer) reverseNames(yield func(string) bool) {
	var entries set[netip.Addr]
	name := func(ip netip.Addr) bool {
		name, err := dns.ReverseAddr(ip.String())
		return err != nil || t.view.ZoneOf(name) != t.zone || yield(name)
	}
	for i := range t.view.Hosts {
		l := &t.view.Hosts[i]
		if l.NoReverse {
			continue
		}
		for _, table := range l.Tables.All() {
			for ip := range table.Addrs {
				if entries.add(ip) && !name(ip) {
					return
				}
			}
		}
	}
	prefix, ok := services.ParseReversePrefix(t.zone.Name)
	if !ok {
		return
	}
	for ip := range t.state.Addresses(prefix, &t.view.Options) {
		if !entries.has(ip) && !name(ip) {
			return
		}
	}
}

// entries yields the names of hosts entries that are in the zone, and not in a zone below it that is served as well.
func (t *Transfer) entries(yield func(string) bool) {
	for i := range t.view.Hosts {
		for _, table := range t.view.Hosts[i].Tables.All() {
			for name := range table.All {
				if t.view.ZoneOf(name) == t.zone && !yield(strings.Clone(name)) {
					return
				}
			}
		}
	}
}

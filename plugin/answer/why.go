package answer

import (
	"github.com/kubehosts/kubehosts/plugin/external"
	"github.com/kubehosts/kubehosts/plugin/hosts"
	"github.com/kubehosts/kubehosts/plugin/services"
)

// Why is the step that settled an Answer, for explanations.
type Why uint8

// The steps. With aliases, it is the step that settled the last target.
const (
	OtherClass    Why = iota // the class of the question isn't IN
	IsTransfer               // the question asks for a zone transfer
	OutsideZones             // the name is in no zone, and no hosts entry has it
	FromHosts                // a hosts entry has the name or the address: see Held
	IsApex                   // it is the name of the zone
	OfZone                   // every zone has the name: dns-version, ns.dns, and svc or pod in a reverse zone
	IsReverse                // it is the reverse name of an address that an object has, or a name above one
	OfObject                 // an object has the name, or a name below it: see Match
	AboveZone                // nothing has the name, and a zone below it is served
	AboveHosts               // nothing has the name, and a hosts entry below it is served
	FellThrough              // nothing has the name, and fallthrough passes it on
	HostsLackType            // hosts entries have the name and passed the question on, and nothing else has it
	NothingRead              // nothing known has the name, and some objects are not read yet
	NoName                   // no object has the name: see Match
	AliasLoop                // the aliases form a loop, or are too many
	OfHost                   // in an external zone, an object has the name, or a name below it: see Host
)

// Why returns the step that settled the Answer.
func (a *Answer) Why() Why { return a.why }

// Match returns the result of the last look-up in the index: of the question's name, or of the last target.
func (a *Answer) Match() *services.Match { return &a.match }

// Host returns the result of the last look-up in the index of external names.
func (a *Answer) Host() *external.Match { return &a.host }

// Outside returns the State of the index of external names that the Answer was made from, nil for a name outside
// external zones.
func (a *Answer) Outside() *external.State { return a.outside }

// State returns the State of the index that the Answer was made from, nil for a name outside all
// zones.
func (a *Answer) State() *services.State { return a.state }

// Held yields the hosts tables that have the name of the records, or its address for PTR records, each with the index
// of its Layer in the View. It looks them up again, in the current tables.
func (a *Answer) Held(yield func(layer int, t *hosts.Table) bool) {
	h := held{name: a.lower, wildcard: a.held.wildcard}
	for i := range a.view.Hosts {
		l := &a.view.Hosts[i]
		for _, t := range l.Tables.All() {
			_, has := h.lookup(t)
			if !has && a.address.IsValid() && !l.NoReverse {
				has = t.Names(a.address).Len() > 0
			}
			if has && !yield(i, t) {
				return
			}
		}
	}
}

// OfWildcard reports whether the hosts entry that has the name is a wildcard.
func (a *Answer) OfWildcard() bool { return a.held.wildcard }

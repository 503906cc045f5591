// Package answer decides what to answer. It turns a View and a Question into an Answer.
package answer

import (
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/miekg/dns"

	"github.com/kubehosts/kubehosts/plugin/external"
	"github.com/kubehosts/kubehosts/plugin/hosts"
	"github.com/kubehosts/kubehosts/plugin/serial"
	"github.com/kubehosts/kubehosts/plugin/services"
)

// View is what a server block answers from: a stanza prepared for queries. It never changes; another stanza makes
// another View. The index and the tables of hosts files that it points to change independently.
type View struct {
	Zones       []Zone
	Pointed     string // the end of PTR targets: ".svc." and the first zone that isn't a reverse zone
	TTL         uint32 // of records of Services, endpoints and pods, in seconds
	Options     services.Options
	Zonal       bool            // names may select the endpoints of one topology zone
	Fallthrough []string        // zones from which names that do not exist go to the next plugin; "." for all
	Index       *services.Index // empty if no Services are served
	Outside     *external.Index // for external Zones; nil without any
	Hosts       []Layer         // in the order of the stanza's hosts options
	Local       []netip.Addr    // addresses of this server

	// Serial is the lowest SOA serial of the zones. A new View with other content gets a later one than the View before
	// it.
	Serial serial.Stamp

	Snapshot uint32 // Unix time at which the snapshot of the stanza was written, 0 without one

	pinned  uint32              // the serial of the zones during a transfer, else 0
	byName  map[string]*Zone    // nil for few Zones
	through map[string]struct{} // nil for few zones that fall through
	between map[string]struct{} // names above a zone, up to the zone that they are in: they exist because it does
}

// Layer holds the entries of one hosts option, from its files or its inline lines.
type Layer struct {
	Tables *Tables
	TTL    uint32 // seconds
	// NoReverse means that the entries have no PTR records.
	NoReverse bool
	// PassOn passes questions for types other than A, AAAA and PTR on to Services or the next plugin, even if there is
	// an entry for the name.
	PassOn bool
}

// Tables holds the hosts tables of a FILE, which one writer replaces while queries read them. The zero Tables is empty.
type Tables struct{ now atomic.Pointer[tables] }

// tables is the content of Tables at one moment.
type tables struct {
	set    *hosts.Set
	serial serial.Stamp // of the change that made it, none for the first
}

// NewTables returns Tables that hold all.
func NewTables(all ...*hosts.Table) *Tables {
	t := new(Tables)
	t.Set(all, nil)
	return t
}

// Set replaces the tables. The caller must not change all afterwards. Many small tables are merged for queries, during
// which the last ones serve, and pause is called again and again; it may be nil. The serial rises unless the tables
// were made of the same lines as those before, or are the first.
func (t *Tables) Set(all []*hosts.Table, pause func()) {
	last := t.now.Load()
	if last == nil {
		t.now.Store(&tables{set: hosts.NewSet(all, nil, pause)})
		return
	}
	next := &tables{set: hosts.NewSet(all, last.set, pause), serial: last.serial}
	if slices.EqualFunc(last.set.Files(), all, func(a, b *hosts.Table) bool { return a.Sum() == b.Sum() }) {
		t.now.Store(next)
		return
	}
	serial.Change(func(s serial.Stamp) {
		next.serial = s
		t.now.Store(next)
	})
}

// All returns the present tables, one for each file. The caller must not change the result.
func (t *Tables) All() []*hosts.Table {
	if now := t.now.Load(); now != nil {
		return now.set.Files()
	}
	return nil
}

// few returns tables with the same entries, as few as look-ups should go through.
func (t *Tables) few() []*hosts.Table {
	if now := t.now.Load(); now != nil {
		return now.set.Tables()
	}
	return nil
}

// frozen returns Tables with the present content, which never change.
func (t *Tables) frozen() *Tables {
	f := new(Tables)
	f.now.Store(t.now.Load())
	return f
}

// serial returns the SOA serial of the last change, none if there was none.
func (t *Tables) serial() serial.Stamp {
	if now := t.now.Load(); now != nil {
		return now.serial
	}
	return serial.Stamp{}
}

// Zone is a Service zone or an external zone.
type Zone struct {
	Name     string // lower case, fully qualified
	NS, Mbox string // of its SOA record
	Reverse  bool
	Grammar  services.Grammar
	Imported bool      // its Services are ServiceImports
	External *External // set in an external zone, nil in a Service zone

	front   *external.Selection // in an external zone, selects the Services by which clients may reach this server
	depends external.Kinds      // in an external zone, the kinds of objects that its answers depend on
}

// Latest returns the latest SOA serial of the zones.
func (v *View) Latest() serial.Stamp { return v.latest(v.Index.State(), v.outside()) }

// outsideOf returns the State of Outside if z is an external zone, else nil.
func (v *View) outsideOf(z *Zone) *external.State {
	if z.External == nil {
		return nil
	}
	return v.outside()
}

// outside returns the State of Outside, nil without one.
func (v *View) outside() *external.State {
	if v.Outside == nil {
		return nil
	}
	return v.Outside.State()
}

// SerialOf returns the SOA serial of the zones in s, a State of the View's Index, and in outside, a State of Outside
// for an external zone and nil for a Service zone. It is the latest (RFC 1982, section 3.2) of their last change, the
// last change of a hosts file, and Serial. So the serial rises when a stanza changes the content of the zones, and does
// not fall when the stanza brings another Index.
func (v *View) SerialOf(s *services.State, outside *external.State) uint32 {
	if v.pinned != 0 {
		return v.pinned
	}
	return v.latest(s, outside).Now()
}

func (v *View) latest(s *services.State, outside *external.State) serial.Stamp {
	last := serial.Later(s.Modified(), v.Serial)
	if outside != nil {
		last = serial.Later(last, outside.Modified())
	}
	for i := range v.Hosts {
		last = serial.Later(last, v.Hosts[i].Tables.serial())
	}
	return last
}

// Under puts prefix, which ends in a dot, before a zone.
func Under(prefix, zone string) string {
	if zone == "." {
		return prefix
	}
	return prefix + zone
}

// New completes v, whose exported fields are set, and returns it.
func New(v *View) *View {
	if len(v.Zones) > fewZones {
		v.byName = make(map[string]*Zone, len(v.Zones))
		for i := range v.Zones {
			v.byName[v.Zones[i].Name] = &v.Zones[i]
		}
	}
	v.between = make(map[string]struct{})
	for i := range v.Zones {
		z := &v.Zones[i]
		if z.External != nil {
			z.front = &external.Selection{Zones: []string{z.Name}, Sources: external.FromService}
			z.depends = z.External.kinds()
		}
		top := "."
		if upper := v.above(z); upper != nil {
			top = upper.Name
		}
		parents(z.Name, func(name string) bool {
			if name != z.Name && name != top {
				v.between[name] = struct{}{}
			}
			return name != top
		})
	}
	if len(v.Fallthrough) > fewZones {
		v.through = make(map[string]struct{}, len(v.Fallthrough))
		for _, zone := range v.Fallthrough {
			v.through[zone] = struct{}{}
		}
	}
	return v
}

// aboveZone reports whether a lower-case name that is no zone is above one, with no other zone between the two.
func (v *View) aboveZone(name string) bool {
	_, ok := v.between[name]
	return ok
}

// fewZones is the highest number of zones that are compared with a name one by one. With more, each parent of the
// name is looked up.
const fewZones = 8

// parents yields name and the names above it, up to the root. Names are escaped as in miekg/dns.
func parents(name string, yield func(string) bool) {
	for off, end := 0, false; !end; off, end = dns.NextLabel(name, off) {
		if !yield(name[off:]) {
			return
		}
	}
	yield(".")
}

// ZoneOf returns the longest zone that the lower-case name is in, nil if there is none.
func (v *View) ZoneOf(name string) (best *Zone) {
	if v.byName != nil {
		parents(name, func(parent string) bool {
			best = v.byName[parent]
			return best == nil
		})
		return best
	}
	for i := range v.Zones {
		z := &v.Zones[i]
		if (best == nil || len(z.Name) > len(best.Name)) && InZone(name, z.Name) {
			best = z
		}
	}
	return best
}

// FallsThrough reports whether a lower-case name that does not exist goes to the next plugin.
func (v *View) FallsThrough(name string) (through bool) {
	if v.through != nil {
		parents(name, func(parent string) bool {
			_, through = v.through[parent]
			return !through
		})
		return through
	}
	for _, zone := range v.Fallthrough {
		if InZone(name, zone) {
			return true
		}
	}
	return false
}

// InZone reports whether name is the zone or a name below it. Both are in lower case and fully
// qualified.
func InZone(name, zone string) bool {
	if zone == "." {
		return true
	}
	rest, ok := strings.CutSuffix(name, zone)
	if !ok || rest == "" {
		return ok
	}
	rest, ok = strings.CutSuffix(rest, ".")
	backslashes := len(rest) - len(strings.TrimRight(rest, `\`))
	return ok && backslashes%2 == 0 // an escaped dot does not separate labels (RFC 1035, section 5.1)
}

// Below returns the part of name before z, which name must be in: "" for the zone itself.
func (z *Zone) Below(name string) string {
	if len(name) == len(z.Name) {
		return ""
	}
	if z.Name == "." {
		return name[:len(name)-1]
	}
	return name[:len(name)-len(z.Name)-1]
}

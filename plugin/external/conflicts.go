package external

import (
	"maps"
	"slices"
	"strings"
)

// Conflict is a name that an object claims but another one has.
type Conflict struct {
	Name   string // fully qualified; *.x for a wildcard
	Loser  Ref
	Winner Ref
}

// Conflicts follows the names lost in the zones of one Selection.
type Conflicts struct {
	ix   *Index
	sel  *Selection
	tell func(lost, settled []Conflict)
	lost map[string][]Conflict // by name, without a final dot
	n    int
}

// Watch calls tell at once with all conflicts under sel, and after each change with the new ones (lost) and those that
// are over (settled). The caller of Update calls tell, once the change is published, one call at a time; tell must not
// call Update, Watch or Stop. The work after a change is in proportion to the names that it touches. At most the
// maxClaims oldest claims of a name are compared.
func (ix *Index) Watch(sel *Selection, tell func(lost, settled []Conflict)) *Conflicts {
	c := &Conflicts{ix: ix, sel: sel, tell: tell, lost: make(map[string][]Conflict)}
	ix.mu.Lock()
	defer ix.mu.Unlock()
	ix.watching.Lock()
	defer ix.watching.Unlock()
	s := ix.State()
	var all touched
	for _, zone := range sel.Zones {
		s.claimedIn(trimDot(zone), sel, func(name string) bool { all.names = append(all.names, trimDot(name)); return true })
	}
	c.changed(s, &all)
	ix.watchers[c] = struct{}{}
	return c
}

// Stop ends the following.
func (c *Conflicts) Stop() {
	c.ix.mu.Lock()
	defer c.ix.mu.Unlock()
	c.ix.watching.Lock()
	defer c.ix.watching.Unlock()
	delete(c.ix.watchers, c)
}

// Len returns the number of conflicts.
func (c *Conflicts) Len() int {
	c.ix.watching.Lock()
	defer c.ix.watching.Unlock()
	return c.n
}

// All returns all conflicts, by name.
func (c *Conflicts) All() []Conflict {
	c.ix.watching.Lock()
	defer c.ix.watching.Unlock()
	var all []Conflict
	for _, name := range slices.SortedFunc(maps.Keys(c.lost), compareNames) {
		all = append(all, c.lost[name]...)
	}
	return all
}

// changed handles the names that a change touched.
func (c *Conflicts) changed(s *State, t *touched) {
	var lost, settled []Conflict
	look := func(name string) {
		if c.sel.cut(name) {
			return
		}
		next, last := s.losers(name, c.sel), c.lost[name]
		if len(next)+len(last) == 0 {
			return
		}
		lost, settled = append(lost, without(next, last)...), append(settled, without(last, next)...)
		c.n += len(next) - len(last)
		if len(next) > 0 {
			c.lost[name] = next
		} else {
			delete(c.lost, name)
		}
	}
	for _, zone := range c.sel.Zones {
		zone = trimDot(zone)
		for _, name := range t.names {
			if within(name, zone) {
				look(name)
			}
		}
		for _, name := range t.direct {
			look(inZone(name, zone))
		}
	}
	if len(lost)+len(settled) > 0 {
		c.tell(lost, settled)
	}
}

// without returns the elements of all that are not among others.
func without(all, others []Conflict) (rest []Conflict) {
	among := make(map[Conflict]struct{}, len(others))
	for _, c := range others {
		among[c] = struct{}{}
	}
	for _, c := range all {
		if _, ok := among[c]; !ok {
			rest = append(rest, c)
		}
	}
	return rest
}

// losers returns the objects that claim the name and have other answers than the one that gets it.
func (s *State) losers(name string, sel *Selection) (all []Conflict) {
	var winner Match
	next := func(m *Match) {
		switch {
		case winner.Outcome == NameError:
			winner = *m
		case !m.alike(&winner):
			all = append(all, Conflict{name + ".", m.Object().clone(), winner.Object().clone()})
		}
	}
	direct := s.directly(name, sel)
	left := maxClaims
	run := s.claims.Tail(s.byName(host{first: name}))
	for ; len(run) > 0 && left > 0; run = s.after(run) {
		for _, c := range run {
			packed := s.at(c.id)
			if left == 0 || !claimed(packed, c.at).is(name) {
				left = 0
				break
			}
			left--
			m := Match{state: s, sel: sel}
			if !s.admits(packed, sel, sel.Sources) || !m.leads(packed, c.at) {
				continue
			}
			if direct.Outcome != NameError {
				age := compareAge(direct.packed, packed)
				if age < 0 {
					next(&direct)
				}
				if age <= 0 { // or it is the same object
					direct.Outcome = NameError
				}
			}
			next(&m)
		}
	}
	if direct.Outcome != NameError {
		next(&direct)
	}
	return all
}

// directly returns the match for a name that a Service or a Node has without claiming it.
func (s *State) directly(name string, sel *Selection) Match {
	m := Match{state: s, sel: sel}
	for _, zone := range sel.Zones {
		zone = trimDot(zone)
		if within(name, zone) && name != zone {
			m.direct(strings.TrimSuffix(name[:len(name)-len(zone)], "."), name+".")
		}
	}
	return m
}

// alike reports whether two Matches have the same answers.
func (m *Match) alike(o *Match) bool {
	if m.plain() && o.plain() {
		return m.to == o.to
	}
	return m.answer() == o.answer()
}

// plain reports whether the match has nothing but the addresses of one load balancer.
func (m *Match) plain() bool {
	return m.Outcome == Found && !m.several && kindOf(m.packed) != KindDNSEndpoint
}

// answer returns a string that is equal for Matches with the same answers.
func (m *Match) answer() string {
	if m.Outcome != Found {
		return m.Object().String()
	}
	var all addresses
	m.places(func(p places) bool { all = all.with(p.texts()); return true })
	all.sort()
	var p packer
	p.addresses(all)
	for n := range 3 {
		r, ok := m.records(n)
		if !ok {
			break
		}
		if more := r.texts(); len(more) > 0 {
			p.byte(byte(n))
			p.texts(more)
		}
	}
	return string(p)
}

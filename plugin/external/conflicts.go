package external

import (
	"maps"
	"slices"
	"strings"
)

// Conflict is a name that an object claims and another one has.
type Conflict struct {
	Name   string // fully qualified; *.x for a wildcard
	Loser  Ref
	Winner Ref
}

// Conflicts follows who loses a name in the zones of one Selection.
type Conflicts struct {
	ix   *Index
	sel  *Selection
	tell func(lost, settled []Conflict)
	lost map[string][]Conflict // by name, without a final dot
	n    int
}

// Watch calls tell at once with all conflicts there are under sel, and after each change with those that are new (lost) and
// those that are no more (settled). tell is called by whoever calls Update, once the change is published, one call at a time;
// it must not call Update, Watch or Stop. What follows a change is in proportion to the names that it touches. Of one name no
// more than the maxClaims oldest claims are compared.
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

// Stop ends it.
func (c *Conflicts) Stop() {
	c.ix.mu.Lock()
	defer c.ix.mu.Unlock()
	c.ix.watching.Lock()
	defer c.ix.watching.Unlock()
	delete(c.ix.watchers, c)
}

// Len returns how many conflicts there are.
func (c *Conflicts) Len() int {
	c.ix.watching.Lock()
	defer c.ix.watching.Unlock()
	return c.n
}

// All returns all conflicts there are, by name.
func (c *Conflicts) All() []Conflict {
	c.ix.watching.Lock()
	defer c.ix.watching.Unlock()
	var all []Conflict
	for _, name := range slices.SortedFunc(maps.Keys(c.lost), compareNames) {
		all = append(all, c.lost[name]...)
	}
	return all
}

// changed takes in what a change touched.
func (c *Conflicts) changed(s *State, t *touched) {
	var lost, settled []Conflict
	look := func(name string) {
		if c.sel.cut(name) {
			return
		}
		next, last := s.losers(name, c.sel), c.lost[name]
		for _, l := range next {
			if !slices.Contains(last, l) {
				lost = append(lost, l)
			}
		}
		for _, l := range last {
			if !slices.Contains(next, l) {
				settled = append(settled, l)
			}
		}
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

// losers returns the objects that claim the name and whose addresses differ from those of the one that has it.
func (s *State) losers(name string, sel *Selection) (all []Conflict) {
	claims := s.claimsTo(name, sel)
	if len(claims) < 2 {
		return nil
	}
	winner := claims[0]
	has := winner.answer()
	for i := range claims[1:] {
		if m := &claims[i+1]; m.Object() != winner.Object() && m.answer() != has {
			all = append(all, Conflict{name + ".", m.Object(), winner.Object()})
		}
	}
	return all
}

// claimsTo returns the claims to a name that sel admits, the oldest first.
func (s *State) claimsTo(name string, sel *Selection) (all []Match) {
	left := maxClaims
	run := s.claims.Tail(func(c claim) int { return compareNames(claimed(s.at(c.id), c.at), name) })
	for ; len(run) > 0 && left > 0; run = s.after(run) {
		for _, c := range run {
			packed := s.at(c.id)
			if left == 0 || claimed(packed, c.at) != name {
				left = 0
				break
			}
			left--
			if s.admits(packed, c.at, sel, sel.Sources) {
				m := Match{Outcome: Found, state: s, sel: sel, packed: packed, at: c.at}
				if kindOf(packed) == KindService && int(c.at) >= serviceOf(packed).internal {
					m.Outcome = Internal
				}
				all = append(all, m)
			}
		}
	}
	for _, zone := range sel.Zones {
		m := Match{state: s, sel: sel}
		zone = trimDot(zone)
		if within(name, zone) && name != zone && len(all) < maxClaims {
			if m.direct(strings.TrimSuffix(name[:len(name)-len(zone)], "."), name+".", false); m.Outcome != NameError {
				at, same := slices.BinarySearchFunc(all, &m, func(a Match, b *Match) int { return compareAge(a.packed, b.packed) })
				if !same {
					all = slices.Insert(all, at, m)
				}
			}
		}
	}
	return all
}

// answer returns what is the same for Matches that answer alike.
func (m *Match) answer() string {
	var b strings.Builder
	switch m.Outcome {
	case Internal, Headless:
		b.WriteString(m.Object().String())
	case Found:
		var all addresses
		m.places(func(p places) bool { all = all.with(p.texts()); return true })
		all.sort()
		var p packer
		p.addresses(all)
		b.Write(p)
		for n := range 3 {
			r, ok := m.records(n)
			if !ok {
				break
			}
			if more := r.texts(); len(more) > 0 {
				p = packer{byte(n)}
				p.texts(more)
				b.Write(p)
			}
		}
	}
	return b.String()
}

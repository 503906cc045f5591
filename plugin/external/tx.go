package external

import (
	"slices"

	"github.com/kubehosts/kubehosts/plugin/persistent"
)

// Tx is a change to an Index. It is valid only inside Update. Setting nil, or an object that equals the current one,
// does nothing.
type Tx struct {
	ix        *Index
	state     *State
	batch     uint64
	ids       numbers
	sharedIDs numbers
	uses      map[sharedID]int // what the Tx adds to those of the Index
	dirty     dirty
	touched   touched
	changed   Kinds // of which objects changed
}

// touched are the names that may have another owner after a Tx. They are collected only if there are
// watchers.
type touched struct {
	names  []string // names that were or are claimed
	direct []string // names below any zone that Services and Nodes have without claiming them
}

// compact removes duplicates.
func (t *touched) compact() {
	for _, all := range []*[]string{&t.names, &t.direct} {
		slices.Sort(*all)
		*all = slices.Compact(*all)
	}
}

// balancer is an address of the load balancer of a Service: its offset in the packed form, and whether it is a
// hostname.
type balancer struct {
	id objectID
	at uint32 // in the uppermost two bits: 0 for an IPv4 address, 1 for an IPv6 address, 2 for a hostname
}

// Set adds o, replacing the object of its kind and name if there is one.
func (tx *Tx) Set(o *Object) {
	if o == nil {
		return
	}
	s, ref := tx.state, o.Ref()
	id := s.find(ref)
	old := s.at(id)
	if !old.none() && rawOf(old) == o.packed {
		return
	}
	tx.changed |= KindsOf(ref.Kind)
	next := o.packed
	if ref.Kind.route() {
		next = carry(old, next)
	}
	if old.none() {
		id = objectID(tx.ids.next())
		tx.put(id, next)
		s.keys.Set(tx.batch, id, s.byKey(ref))
		s.counts[ref.Kind]++
	} else {
		tx.unlink(id)
		tx.unindex(id)
		tx.put(id, next)
	}
	tx.link(id)
	tx.index(id)
	tx.mark(old, next)
	if ref.Kind.route() {
		tx.dirty.routes[id] = struct{}{}
	}
}

// Delete removes the object of that kind and name.
func (tx *Tx) Delete(kind Kind, namespace, name string) {
	tx.delete(tx.state.find(Ref{kind, namespace, name}))
}

func (tx *Tx) delete(id objectID) {
	s := tx.state
	old := s.at(id)
	if old.none() {
		return
	}
	tx.changed |= KindsOf(kindOf(old))
	tx.unlink(id)
	tx.unindex(id)
	tx.mark(old, form{})
	s.keys.Delete(tx.batch, s.byKey(refOf(old)))
	tx.put(id, form{})
	s.counts[kindOf(old)]--
	tx.ids.release(uint32(id))
}

// Replace replaces all objects of the kind with all. It skips those that are nil. It adds objects in the order of their
// keys, in which the API server lists them: that fills the pages of keys, and those of claims if hosts are in zones by
// namespace.
func (tx *Tx) Replace(kind Kind, all []*Object) {
	all = slices.DeleteFunc(slices.Clone(all), func(o *Object) bool { return o == nil })
	slices.SortFunc(all, func(a, b *Object) int { return compareKeys(a.packed, b.Ref()) })
	keep := make(map[Ref]struct{}, len(all))
	for _, o := range all {
		keep[o.Ref()] = struct{}{}
	}
	var gone []objectID
	for id, packed := range tx.state.from(Ref{Kind: kind}) {
		if kindOf(packed) != kind {
			break
		}
		if _, ok := keep[refOf(packed)]; !ok {
			gone = append(gone, id)
		}
	}
	for _, id := range gone {
		tx.delete(id)
	}
	for _, o := range all {
		tx.Set(o)
	}
}

// index adds the claims of the object.
func (tx *Tx) index(id objectID) {
	packed := tx.state.at(id)
	if name, sort, ok := directName(packed); ok {
		tx.addSlot(hashOf(name)^sort, sort, claim{id: id})
		tx.addBelow(name, sort)
		tx.touchDirect(name, sort)
	}
	for name, at := range claimsOf(packed) {
		tx.addClaim(name, claim{id, at}, packed)
	}
}

// unindex removes the claims of the object.
func (tx *Tx) unindex(id objectID) {
	packed := tx.state.at(id)
	if name, sort, ok := directName(packed); ok {
		tx.delSlot(hashOf(name)^sort, sort, "")
		tx.delBelow(name, sort)
		tx.touchDirect(name, sort)
	}
	for name, at := range claimsOf(packed) {
		tx.delClaim(name, claim{id, at}, packed)
	}
}

// directName returns the name below any zone that the object has without claiming it. A Namespace has no such name: it
// is stored by its own.
func directName(packed form) (name string, sort nameHash, ok bool) {
	switch kindOf(packed) {
	case KindNamespace:
		return nameOf(packed), namespaced, true
	case KindService:
		if s := serviceOf(packed); !s.headless && s.outside.empty() {
			return "", 0, false
		}
		return nameOf(packed) + "." + namespaceOf(packed), direct, true
	case KindNode:
		r := bodyOf(packed)
		return nameOf(packed), nodeName, !r.places().empty()
	}
	return "", 0, false
}

// claimsOf yields the names that the object claims, each once, and the offsets of their entries.
func claimsOf(packed form) func(yield func(string, uint32) bool) {
	return func(yield func(string, uint32) bool) {
		switch kind := kindOf(packed); {
		case kind == KindIngress:
			common, r := commonOf(packed.shared), bodyOf(packed)
			common.text()
			if !common.places().empty() {
				r.names(packed, yield)
			}
		case kind == KindService:
			s := serviceOf(packed)
			if s.at.names(packed, yield) {
				internal := reader{packed.own, s.internal}
				internal.names(packed, yield)
			}
		case kind == KindDNSEndpoint:
			r := bodyOf(packed)
			for range r.len() {
				at := r.at
				if !yield(r.host(packed).String(), uint32(at)) { // #nosec G115 -- within maxPacked
					return
				}
				r.text()
			}
		case kind.route():
			routeNames(packed, yield)
		}
	}
}

// names yields names of an object and their offsets.
func (r *reader) names(of form, yield func(string, uint32) bool) bool {
	for range r.len() {
		at := r.at
		if !yield(r.host(of).String(), uint32(at)) { // #nosec G115 -- within maxPacked
			return false
		}
	}
	return true
}

func routeNames(packed form, yield func(string, uint32) bool) {
	h := holdersOf(packed)
	if h.n == 0 {
		return
	}
	for range h.n {
		h.next()
	}
	r := h.r
	if h.whole {
		r = bodyOf(packed)
		r.len()
		r.names(packed, yield)
		return
	}
	for range r.len() {
		at := r.at
		if name := r.own(packed); !yield(name.String(), uint32(at)|atNames) { // #nosec G115 -- within maxPacked
			return
		}
		if h.n > 1 {
			r.uint() // the holders that it leads to
		}
	}
}

// claimed returns the name that the entry at that offset in the own part of an object claims.
func claimed(packed form, at uint32) host {
	if r, ok := inNames(packed, at); ok {
		return r.own(packed)
	}
	r := reader{packed.own, int(at)}
	return r.host(packed)
}

// hashClaim returns the hash of a claimed name in slots, and its sort.
func hashClaim(name string) (h, sort nameHash) {
	if below, ok := wildcard(name); ok {
		return hashOf(below) ^ wild, wild
	}
	return hashOf(name), plain
}

// slotsOf returns the slots of names of a sort.
func (s *State) slotsOf(sort nameHash) *persistent.Trie[nameHash, claim] {
	if sort == plain {
		return &s.slots
	}
	return &s.others
}

// byName returns the order of claims by name alone.
func (s *State) byName(name host) func(claim) int {
	return func(c claim) int { return compareHosts(claimed(s.at(c.id), c.at), name) }
}

// byClaim returns the order of claims.
func (s *State) byClaim(name host, packed form) func(claim) int {
	return func(c claim) int {
		other := s.at(c.id)
		if order := compareHosts(claimed(other, c.at), name); order != 0 {
			return order
		}
		return compareAge(other, packed)
	}
}

func (tx *Tx) addClaim(name string, c claim, packed form) {
	s := tx.state
	h, sort := hashClaim(name)
	if tx.addSlot(h, sort, c); sort == wild {
		s.wildcards++
	}
	s.claims.Set(tx.batch, c, s.byClaim(claimed(packed, c.at), packed))
	tx.addBelow(name, plain)
	tx.touch(name)
}

func (tx *Tx) delClaim(name string, c claim, packed form) {
	s := tx.state
	tx.ungroup(c)
	s.claims.Delete(tx.batch, s.byClaim(claimed(packed, c.at), packed))
	h, sort := hashClaim(name)
	if tx.delSlot(h, sort, name); sort == wild {
		s.wildcards--
	}
	tx.delBelow(name, plain)
	tx.touch(name)
}

// addBelow counts a name for all names above it.
func (tx *Tx) addBelow(name string, sort nameHash) {
	below := &tx.state.below
	for above := parent(name); above != ""; above = parent(above) {
		h := hashOf(above) ^ sort
		below.Set(tx.batch, h, below.Get(h)+1)
	}
}

// delBelow undoes addBelow.
func (tx *Tx) delBelow(name string, sort nameHash) {
	below := &tx.state.below
	for above := parent(name); above != ""; above = parent(above) {
		h := hashOf(above) ^ sort
		if n := below.Get(h); n > 1 {
			below.Set(tx.batch, h, n-1)
		} else {
			below.Delete(tx.batch, h)
		}
	}
}

func (tx *Tx) addSlot(h, sort nameHash, c claim) {
	s := tx.state
	slots := s.slotsOf(sort)
	switch there := slots.Find(h); {
	case there == nil:
		slots.Set(tx.batch, h, c)
	case there.id == severalClaims:
		s.several.Set(tx.batch, h, s.several.Get(h)+1)
		tx.groupClaim(c)
	default:
		tx.groupClaim(*there)
		slots.Set(tx.batch, h, claim{id: severalClaims})
		s.several.Set(tx.batch, h, 2)
		tx.groupClaim(c)
	}
}

// delSlot removes one of the claims under h. If a single claim of name is left, and it is found, it has the slot alone
// again; a claim that only has the same hash is searched by its name.
func (tx *Tx) delSlot(h, sort nameHash, name string) {
	s := tx.state
	slots, n := s.slotsOf(sort), s.several.Get(h)
	if n <= 1 {
		slots.Delete(tx.batch, h)
		s.several.Delete(tx.batch, h)
		return
	}
	if left, ok := s.firstClaim(name); n == 2 && ok {
		tx.ungroup(left)
		slots.Set(tx.batch, h, left)
		s.several.Delete(tx.batch, h)
		return
	}
	s.several.Set(tx.batch, h, n-1)
}

// firstClaim returns the first claim of a name.
func (s *State) firstClaim(name string) (claim, bool) {
	if name == "" {
		return claim{}, false
	}
	c, ok := s.claims.From(s.byName(host{first: name}))
	return c, ok && claimed(s.at(c.id), c.at).is(name)
}

func (tx *Tx) touch(name string) {
	if len(tx.ix.watchers) > 0 {
		tx.touched.names = append(tx.touched.names, name)
	}
}

func (tx *Tx) touchDirect(name string, sort nameHash) {
	if len(tx.ix.watchers) > 0 && sort != namespaced {
		tx.touched.direct = append(tx.touched.direct, name)
	}
}

// link adds the addresses of the object's load balancer.
func (tx *Tx) link(id objectID) {
	s := tx.state
	packed := s.at(id)
	for b := range balancersOf(id, packed) {
		s.balancers.Set(tx.batch, b, s.byBalancer(b.address(packed), packed))
	}
}

// unlink undoes link.
func (tx *Tx) unlink(id objectID) {
	s := tx.state
	packed := s.at(id)
	for b := range balancersOf(id, packed) {
		s.balancers.Delete(tx.batch, s.byBalancer(b.address(packed), packed))
	}
}

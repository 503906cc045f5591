package external

import (
	"cmp"
	"encoding/binary"
	"strings"
)

// An Index stores each shared part of packed forms once, by number, and with an object the number of its shared part.
// With 50,000 HTTPRoutes of one host, in 500 namespaces, this and the zones left 24 to 35 of 94 octets for each.

// sharedID refers to a shared part. 0 refers to none.
type sharedID uint32

// child is a shared part that refers to a Gateway or a ListenerSet, and the offset of the reference in it.
type child struct {
	id sharedID
	at uint32
}

// at returns the packed form of an object.
func (s *State) at(id objectID) form {
	r := reader{s: s.objects.At(uint32(id))}
	if r.s == "" {
		return form{}
	}
	shared := uint32(r.uint()) // #nosec G115 -- as written
	return form{s.shared.At(shared), r.s[r.at:]}
}

// ownOf returns the packed form of an object without the shared part.
func (s *State) ownOf(id objectID) form {
	r := reader{s: s.objects.At(uint32(id))}
	r.uint()
	return form{own: r.s[r.at:]}
}

// sharedOf returns the shared part of an object.
func (s *State) sharedOf(id objectID) sharedID {
	r := reader{s: s.objects.At(uint32(id))}
	if r.s == "" {
		return 0
	}
	return sharedID(r.uint()) // #nosec G115 -- as written
}

// byText returns the order of State.sharing.
func (s *State) byText(shared string) func(sharedID) int {
	return func(id sharedID) int { return strings.Compare(s.shared.At(uint32(id)), shared) }
}

// put stores the packed form of an object, or none.
func (tx *Tx) put(id objectID, next form) {
	s := tx.state
	old, to := s.sharedOf(id), sharedID(0)
	switch {
	case next.none():
	case old != 0 && s.shared.At(uint32(old)) == next.shared:
		to = old
	default:
		to = tx.share(next.shared)
	}
	if old != to && old != 0 {
		tx.release(old, id)
	}
	stored := ""
	if to != 0 {
		var number [binary.MaxVarintLen32]byte
		stored = string(binary.AppendUvarint(number[:0], uint64(to))) + next.own
	}
	s.objects.Set(tx.batch, uint32(id), stored)
	if old != to && to != 0 && refers(next.shared) {
		s.referring.Set(tx.batch, id, s.byShared(to, id))
	}
}

// share returns the number of a shared part that one more object has.
func (tx *Tx) share(shared string) sharedID {
	s := tx.state
	id, ok := s.sharing.From(s.byText(shared))
	if !ok || s.shared.At(uint32(id)) != shared {
		id = sharedID(tx.sharedIDs.next())
		s.shared.Set(tx.batch, uint32(id), shared)
		s.sharing.Set(tx.batch, id, s.byText(shared))
		for at := range parentsIn(shared) {
			s.children.Set(tx.batch, child{id, at}, s.byParent(refAt(shared, at), id))
		}
	}
	tx.use(id, 1)
	return id
}

// release records that an object no longer has a shared part, and removes that with the last one. The object must still
// be stored with it.
func (tx *Tx) release(id sharedID, from objectID) {
	s := tx.state
	shared := s.shared.At(uint32(id))
	if refers(shared) {
		s.referring.Delete(tx.batch, s.byShared(id, from))
	}
	if tx.use(id, -1) > 0 {
		return
	}
	for at := range parentsIn(shared) {
		s.children.Delete(tx.batch, s.byParent(refAt(shared, at), id))
	}
	s.sharing.Delete(tx.batch, s.byText(shared))
	s.shared.Set(tx.batch, uint32(id), "")
	tx.sharedIDs.release(uint32(id))
}

// use adds n to the number of objects that have a shared part, and returns the sum.
func (tx *Tx) use(id sharedID, n int) int {
	if tx.uses == nil {
		tx.uses = make(map[sharedID]int)
	}
	tx.uses[id] += n
	return tx.ix.uses[id] + tx.uses[id]
}

// refers reports whether a shared part may refer to Gateways or ListenerSets.
func refers(shared string) bool {
	kind := Kind(shared[atKind])
	return kind == KindListenerSet || kind.route()
}

// parentsIn yields the offsets of the references in a shared part.
func parentsIn(shared string) func(yield func(uint32) bool) {
	return func(yield func(uint32) bool) {
		if !refers(shared) {
			return
		}
		r, n := commonOf(shared), 1
		if Kind(shared[atKind]).route() {
			rt := routeOf(form{shared: shared})
			r, n = rt.parents, rt.n
		}
		for range n {
			at := r.at
			r.parent()
			if !yield(uint32(at)) { // #nosec G115 -- within maxPacked
				return
			}
		}
	}
}

// refAt returns the reference at that offset in a shared part.
func refAt(shared string, at uint32) Ref {
	r := reader{shared, int(at)}
	return r.parent().ref
}

// byParent returns the order of children. A shared part that refers to an object twice is in it once.
func (s *State) byParent(parent Ref, id sharedID) func(child) int {
	return func(c child) int {
		return cmp.Or(compareRefs(refAt(s.shared.At(uint32(c.id)), c.at), parent), cmp.Compare(c.id, id))
	}
}

// byShared returns the order of referring.
func (s *State) byShared(shared sharedID, id objectID) func(objectID) int {
	return func(o objectID) int { return cmp.Or(cmp.Compare(s.sharedOf(o), shared), cmp.Compare(o, id)) }
}

// childrenOf yields the objects that refer to parent, and their packed forms.
func (s *State) childrenOf(parent Ref) func(yield func(objectID, form) bool) {
	return func(yield func(objectID, form) bool) {
		run := s.children.Tail(s.byParent(parent, 0))
		for len(run) > 0 {
			for _, c := range run {
				if refAt(s.shared.At(uint32(c.id)), c.at) != parent || !s.sharers(c.id, yield) {
					return
				}
			}
			run = s.children.Tail(behind(s.byParent(parent, run[len(run)-1].id)))
		}
	}
}

// sharers yields the objects that have a shared part with references.
func (s *State) sharers(shared sharedID, yield func(objectID, form) bool) bool {
	run := s.referring.Tail(s.byShared(shared, 0))
	for len(run) > 0 {
		for _, id := range run {
			if s.sharedOf(id) != shared {
				return true
			}
			if !yield(id, s.at(id)) {
				return false
			}
		}
		run = s.referring.Tail(behind(s.byShared(shared, run[len(run)-1])))
	}
	return true
}

func compareRefs(a, b Ref) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
}

// numbers assigns numbers, from 1 on.
type numbers struct {
	last  uint32
	free  []uint32 // assigned before, now unused
	freed []uint32 // by the Tx: published objects may still refer to them
}

func (n *numbers) next() uint32 {
	if free := len(n.free); free > 0 {
		next := n.free[free-1]
		n.free = n.free[:free-1]
		return next
	}
	n.last++
	return n.last
}

func (n *numbers) release(number uint32) { n.freed = append(n.freed, number) }

// published returns the numbers for the next Tx.
func (n *numbers) published() numbers {
	return numbers{last: n.last, free: append(n.free, n.freed...)}
}

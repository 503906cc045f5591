package services

import (
	"cmp"
	"net/netip"
	"strings"

	"github.com/kubehosts/kubehosts/plugin/persistent"
)

// sharer is an endpoint with an address that several slices have: the slice, and the index of the address in it.
type sharer struct {
	id sliceID
	at uint32
}

// sharers are the endpoints with one address, in the order of their PTR records.
type sharers struct {
	two [2]sharer // the usual case
	all persistent.Ordered[sharer]
}

// each yields them in order.
func (h *sharers) each(yield func(sharer) bool) {
	if !h.all.Empty() {
		h.all.All(yield)
		return
	}
	for _, e := range h.two {
		if e.id != 0 && !yield(e) {
			return
		}
	}
}

// place is the position of a sharer among others: endpoints with a hostname come first, then those with the name of a
// pod, each by their Service.
type place struct {
	rank        rank
	owner, name string
	sharer
}

func (s *State) placeOf(e sharer) place {
	sl := s.slices.Get(e.id)
	name, rank := sl.names().at(int(e.at))
	return place{rank, sl.Owner(), name, e}
}

// compare returns the comparison for Ordered: of an element with p.
func (p place) compare(s *State) func(sharer) int {
	return func(e sharer) int {
		o := s.placeOf(e)
		return cmp.Or(cmp.Compare(o.rank, p.rank), strings.Compare(o.owner, p.owner), strings.Compare(o.name, p.name),
			cmp.Compare(o.id, p.id), cmp.Compare(o.at, p.at))
	}
}

// with returns h with e added.
func (h *sharers) with(batch uint64, s *State, e sharer) sharers {
	compare := s.placeOf(e).compare(s)
	next := *h
	switch {
	case !next.all.Empty():
	case next.two[0].id == 0:
		next.two[0] = e
		return next
	case next.two[1].id == 0:
		if next.two[1] = e; compare(next.two[0]) > 0 {
			next.two[0], next.two[1] = next.two[1], next.two[0]
		}
		return next
	default:
		next.all = persistent.OrderedOf(batch, append(make([]sharer, 0, 4), next.two[:]...)...)
		next.two = [2]sharer{}
	}
	next.all.Set(batch, e, compare)
	return next
}

// without returns h without e.
func (h *sharers) without(batch uint64, s *State, e sharer) sharers {
	next := *h
	switch {
	case !next.all.Empty():
		next.all.Delete(batch, s.placeOf(e).compare(s))
		if few := next.all.First(); next.all.OnePage() && len(few) == len(next.two) {
			next = sharers{two: [2]sharer(few)}
		}
	case next.two[0] == e:
		next.two = [2]sharer{next.two[1]}
	case next.two[1] == e:
		next.two[1] = sharer{}
	}
	return next
}

// only returns the one slice that has the address, 0 if there are several.
func (h *sharers) only() sliceID {
	if h.all.Empty() && (h.two[1].id == 0 || h.two[0].id == h.two[1].id) {
		return h.two[0].id
	}
	return 0
}

// has reports whether one of them is an endpoint of the Service with the labels owner.
func (h *sharers) has(s *State, owner string) bool {
	if h.all.Empty() {
		for _, e := range h.two {
			if sl := s.slices.Get(e.id); !sl.IsZero() && sl.Owner() == owner {
				return true
			}
		}
		return false
	}
	for rank := hostname; rank <= derived; rank++ {
		first, ok := h.all.From(place{rank: rank, owner: owner}.compare(s))
		if !ok {
			return false
		}
		if p := s.placeOf(first); p.rank == rank && p.owner == owner {
			return true
		}
	}
	return false
}

// addAddr adds the slice s, whose indexes [from, to) have the address a, to the slices with a. It returns 1 if another
// slice of the same Service has it, else 0.
func (tx *Tx) addAddr(a netip.Addr, id sliceID, s Slice, from, to int) (repeated int) {
	var h sharers
	switch held := tx.state.idOf(a); held {
	case 0: // the usual case
		tx.setID(a, id)
		tx.state.endpointAddrs.add(tx.ix.batch, a)
		return 0
	case severalSlices:
		h = tx.state.shared.Get(a.As16())
	default:
		h = tx.share(h, a, held, tx.state.slices.Get(held))
		tx.setID(a, severalSlices)
	}
	if h.has(tx.state, s.Owner()) {
		repeated = 1
	}
	for at := from; at < to; at++ {
		h = h.with(tx.ix.batch, tx.state, sharer{id, uint32(at)}) // #nosec G115 -- no slice has so many
	}
	tx.state.shared.Set(tx.ix.batch, a.As16(), h)
	return repeated
}

// share returns h with the endpoints of a slice that have the address a.
func (tx *Tx) share(h sharers, a netip.Addr, id sliceID, s Slice) sharers {
	from, to := sorted{s.Addrs()}.find(a)
	for at := from; at < to; at++ {
		h = h.with(tx.ix.batch, tx.state, sharer{id, uint32(at)}) // #nosec G115 -- no slice has so many
	}
	return h
}

// delAddr undoes addAddr.
func (tx *Tx) delAddr(a netip.Addr, id sliceID, s Slice, from, to int) (repeated int) {
	if tx.state.idOf(a) == id {
		tx.delID(a)
		return 0
	}
	h := tx.state.shared.Get(a.As16())
	for at := from; at < to; at++ {
		h = h.without(tx.ix.batch, tx.state, sharer{id, uint32(at)}) // #nosec G115 -- no slice has so many
	}
	switch {
	case h == sharers{}: // one slice had it several times
		tx.state.shared.Delete(tx.ix.batch, a.As16())
		tx.delID(a)
		return 0
	case h.only() != 0:
		tx.state.shared.Delete(tx.ix.batch, a.As16())
		tx.setID(a, h.only())
	default:
		tx.state.shared.Set(tx.ix.batch, a.As16(), h)
	}
	if h.has(tx.state, s.Owner()) {
		return 1
	}
	return 0
}

// setID maps the address a to id.
func (tx *Tx) setID(a netip.Addr, id sliceID) {
	if a.Is4() {
		tx.state.endpoints4.Set(tx.ix.batch, a.As4(), id)
	} else {
		tx.state.endpoints6.Set(tx.ix.batch, a.As16(), id)
	}
}

// delID removes the address a.
func (tx *Tx) delID(a netip.Addr) {
	if a.Is4() {
		tx.state.endpoints4.Delete(tx.ix.batch, a.As4())
	} else {
		tx.state.endpoints6.Delete(tx.ix.batch, a.As16())
	}
	tx.state.endpointAddrs.del(tx.ix.batch, a)
}

// idOf returns the slice with the address a, severalSlices, or 0.
func (s *State) idOf(a netip.Addr) sliceID {
	if a.Is4() {
		return s.endpoints4.Get(a.As4())
	}
	return s.endpoints6.Get(a.As16())
}

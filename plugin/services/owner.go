package services

import (
	"slices"
	"strings"

	"github.com/kubehosts/kubehosts/plugin/persistent"
)

// owner holds the objects with one "service.namespace": the Service, and the slices that refer to
// it.
type owner struct {
	service Service   // the zero Service if there are only slices
	one     [1]Slice  // the slice if there is just one, the usual case
	several *sliceSet // the slices if there are more
}

// sliceSet are several slices of one owner, in the order of their names.
type sliceSet struct {
	all      persistent.Ordered[Slice]
	n4, n6   int // addresses
	named    int // slices with names of endpoints
	doubled  int // slices in which an address or a name occurs more than once
	repeated int // addresses in more than one slice
}

func byKey(s Slice) func(Slice) int {
	return func(o Slice) int { return strings.Compare(o.key(), s.key()) }
}

// count adds s to the sums, or subtracts it if by is -1.
func (set *sliceSet) count(s Slice, by, repeated int) {
	set.n4 += by * s.number(atCount4)
	set.n6 += by * s.number(atCount6)
	if s.number(atNames) > 0 {
		set.named += by
	}
	if s.packed[atFlags] != 0 {
		set.doubled += by
	}
	set.repeated += by * repeated
}

// first returns the first slices, nearly always all of them. after returns those that follow, none after the last. A
// call for each slice, or a cursor, would take longer for the usual single slice. The caller must not change them.
func (o *owner) first() []Slice {
	if o.several == nil {
		return o.one[:min(1, len(o.one[0].packed))]
	}
	return o.several.all.First()
}

func (o *owner) after(run []Slice) []Slice {
	if o.several == nil {
		return nil
	}
	return o.several.after(run[len(run)-1])
}

func (set *sliceSet) after(last Slice) []Slice {
	return set.all.Tail(func(s Slice) int {
		if strings.Compare(s.key(), last.key()) <= 0 {
			return -1
		}
		return 1
	})
}

// slices returns all. The caller must not change them.
func (o *owner) slices() []Slice {
	all := o.first()
	if o.several == nil || o.several.all.OnePage() { // the usual case
		return all
	}
	all = slices.Clone(all)
	for run := o.after(all); len(run) > 0; run = o.after(run) {
		all = append(all, run...)
	}
	return all
}

// empty reports whether the Service has no slices.
func (o *owner) empty() bool { return o.several == nil && o.one[0].IsZero() }

// counts returns the number of addresses in the slices.
func (o *owner) counts() (n4, n6 int) {
	switch {
	case o.several != nil:
		return o.several.n4, o.several.n6
	case o.one[0].IsZero():
		return 0, 0
	}
	return o.one[0].number(atCount4), o.one[0].number(atCount6)
}

// unready reports whether the slices have no address.
func (o *owner) unready() bool {
	n4, n6 := o.counts()
	return n4+n6 == 0
}

// repeats reports whether an address or a name may occur more than once.
func (o *owner) repeats() bool {
	if o.several != nil {
		return o.several.named > 1 || o.several.doubled > 0 || o.several.repeated > 0
	}
	return !o.one[0].IsZero() && o.one[0].packed[atFlags] != 0
}

// with returns o with s added. repeated is the number of addresses of s that are also in another
// slice of o.
func (o *owner) with(batch uint64, s Slice, repeated int) owner {
	if o.empty() {
		return owner{service: o.service, one: [1]Slice{s}}
	}
	next := new(sliceSet)
	if o.several != nil {
		*next = *o.several
	} else {
		next.all.Set(batch, o.one[0], byKey(o.one[0]))
		next.count(o.one[0], 1, 0)
	}
	next.all.Set(batch, s, byKey(s))
	next.count(s, 1, repeated)
	return owner{service: o.service, several: next}
}

// without returns o without s, one of its slices. repeated is the number of addresses of s that are also in
// another slice.
func (o *owner) without(batch uint64, s Slice, repeated int) owner {
	if o.several == nil {
		return owner{service: o.service}
	}
	next := *o.several
	next.all.Delete(batch, byKey(s))
	next.count(s, -1, repeated)
	if left, ok := next.all.Only(); ok {
		return owner{service: o.service, one: [1]Slice{left}}
	}
	return owner{service: o.service, several: &next}
}

// key returns the key of o, which is not empty. It is a part of o's own strings, so it holds nothing else in memory.
func (o *owner) key() nameKey {
	if !o.service.IsZero() {
		return nameKey(o.service.Owner())
	}
	return nameKey(o.first()[0].Owner())
}

// holders stores the objects with an address. It inlines the first, since there is almost always
// exactly one.
type holders[T any] struct {
	one  T
	more persistent.Ordered[T] // all of them, if there are several
}

// all yields them in their order.
func (h *holders[T]) all(yield func(T) bool) {
	if h.more.Empty() {
		yield(h.one)
		return
	}
	h.more.All(yield)
}

// with returns h with v added, in the order that compare defines.
func (h *holders[T]) with(batch uint64, v T, compare func(T) int) holders[T] {
	next := *h
	switch {
	case !h.more.Empty():
	case compare(h.one) == 0:
		return holders[T]{one: v}
	default:
		next.more.Set(batch, h.one, compare)
	}
	next.more.Set(batch, v, compare)
	next.one = *new(T)
	return next
}

// without returns h without the object for which compare returns 0. empty reports whether it was the
// last.
func (h *holders[T]) without(batch uint64, compare func(T) int) (next holders[T], empty bool) {
	if h.more.Empty() {
		return *h, compare(h.one) == 0
	}
	next = *h
	next.more.Delete(batch, compare)
	if left, ok := next.more.Only(); ok {
		return holders[T]{one: left}, false
	}
	return next, false
}

func byOwner(s Service) func(Service) int {
	return func(o Service) int { return strings.Compare(o.Owner(), s.Owner()) }
}

func byObject(p *Pod) func(*Pod) int {
	return func(o *Pod) int { return o.compare(p.Namespace(), p.ObjectName()) }
}

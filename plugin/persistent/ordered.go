package persistent

import "slices"

// An Ordered is a sorted set that is as cheap to publish as a Trie: a B-tree whose published pages are never written
// again. A change copies the pages on the path to it, a few of pageMost elements each at most, so it costs the same
// whether the set has a hundred elements or a million. A page with the number of the current batch is not yet published
// and is changed in place.
//
// Each change passes the order as an argument, because some elements can only be compared with the help of data
// elsewhere. The zero Ordered is empty.
type Ordered[E any] struct {
	root *page[E] // nil if the set is empty
}

// page is a part of an Ordered.
type page[E any] struct {
	batch uint64
	elems []E        // at the lowest level; above it, the first element of each page in below, as it was when set
	below []*page[E] // nil at the lowest level
}

const (
	pageMost  = 64
	pageLeast = pageMost / 4 // smaller ones are joined with a neighbour
)

// OrderedOf returns the set of elems, which are sorted and at most a page of 64. The batch may change it.
func OrderedOf[E any](batch uint64, elems ...E) Ordered[E] {
	if len(elems) == 0 {
		return Ordered[E]{}
	}
	return Ordered[E]{&page[E]{batch: batch, elems: elems}}
}

// Empty reports whether the set has no element.
func (o *Ordered[E]) Empty() bool { return o.root == nil }

// OnePage reports whether First returns all elements.
func (o *Ordered[E]) OnePage() bool { return o.root == nil || o.root.below == nil }

// Set adds e, replacing the element that is equal to it. compare returns the order of an element in the set and e: less
// than 0 if the former comes first, 0 if they are equal.
func (o *Ordered[E]) Set(batch uint64, e E, compare func(E) int) {
	if o.root == nil {
		o.root = &page[E]{batch: batch, elems: []E{e}}
		return
	}
	root := o.root.writable(batch)
	if right := root.set(batch, e, compare, true); right != nil {
		root = &page[E]{batch: batch, elems: []E{root.elems[0], right.elems[0]}, below: []*page[E]{root, right}}
	}
	o.root = root
}

// Delete removes the element for which compare returns 0, and reports whether there was one.
func (o *Ordered[E]) Delete(batch uint64, compare func(E) int) bool {
	if o.root == nil {
		return false
	}
	if e, ok := o.From(compare); !ok || compare(e) != 0 {
		return false
	}
	root := o.root.writable(batch)
	root.del(batch, compare)
	for len(root.below) == 1 {
		root = root.below[0]
	}
	if o.root = root; len(root.elems) == 0 {
		o.root = nil
	}
	return true
}

// Own returns the element for which compare returns 0, nil if there is none. The batch may change the parts of it that
// do not affect the order, before anything else in the set changes.
func (o *Ordered[E]) Own(batch uint64, compare func(E) int) *E {
	if o.root == nil {
		return nil
	}
	p := o.root.writable(batch)
	o.root = p
	for p.below != nil {
		at := p.leads(compare)
		next := p.below[at].writable(batch)
		p.below[at] = next
		p = next
	}
	if at := p.search(compare); at < len(p.elems) && compare(p.elems[at]) == 0 {
		return &p.elems[at]
	}
	return nil
}

// From returns the first element for which compare returns 0 or more.
func (o *Ordered[E]) From(compare func(E) int) (e E, ok bool) {
	if found := o.Tail(compare); len(found) > 0 {
		return found[0], true
	}
	return e, false
}

// Tail returns some elements from the first one for which compare returns 0 or more, none if there is no such element.
// The caller must not change them.
func (o *Ordered[E]) Tail(compare func(E) int) []E {
	if o.root == nil {
		return nil
	}
	var behind *page[E] // the page after p
	p := o.root
	for p.below != nil {
		at := max(0, p.search(compare)-1) // its last elements may be the first
		if at+1 < len(p.below) {
			behind = p.below[at+1]
		}
		p = p.below[at]
	}
	if at := p.search(compare); at < len(p.elems) || behind == nil {
		return p.elems[at:]
	}
	return behind.first()
}

// First returns some elements from the first one.
func (o *Ordered[E]) First() []E {
	if o.root == nil {
		return nil
	}
	return o.root.first()
}

// Only returns the element of a set that has just one.
func (o *Ordered[E]) Only() (e E, ok bool) {
	if o.root != nil && o.root.below == nil && len(o.root.elems) == 1 {
		return o.root.elems[0], true
	}
	return e, false
}

// All yields the elements in order.
func (o *Ordered[E]) All(yield func(E) bool) {
	for elems := range o.Pages {
		for _, e := range elems {
			if !yield(e) {
				return
			}
		}
	}
}

// Pages yields the elements in order, a page at a time. The caller must not change the page.
func (o *Ordered[E]) Pages(yield func([]E) bool) {
	if o.root != nil {
		o.root.pages(yield)
	}
}

// writable returns p itself if the batch made it, else a copy that the batch may write.
func (p *page[E]) writable(batch uint64) *page[E] {
	if p.batch == batch {
		return p
	}
	return &page[E]{batch: batch, elems: withRoom(p.elems), below: withRoom(p.below)}
}

// withRoom returns a copy of all with room for one more: most batches add one, and more room would stay unused.
func withRoom[T any](all []T) []T {
	if all == nil {
		return nil
	}
	return append(make([]T, 0, len(all)+1), all...)
}

// search returns the index of the first element for which compare returns 0 or more.
func (p *page[E]) search(compare func(E) int) int {
	lo, hi := 0, len(p.elems)
	for lo < hi {
		mid := (lo + hi) / 2
		if compare(p.elems[mid]) < 0 {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo
}

// leads returns the page below that has, or would have, the element for which compare returns 0.
func (p *page[E]) leads(compare func(E) int) int {
	at := p.search(compare)
	if at > 0 && (at == len(p.elems) || compare(p.elems[at]) != 0) {
		at--
	}
	return at
}

// set is Ordered.Set for p, which is writable. last reports whether p is the last page at its level. It returns a new
// page to insert after p if p had no room.
func (p *page[E]) set(batch uint64, e E, compare func(E) int, last bool) (right *page[E]) {
	var at int
	if p.below == nil {
		at = p.search(compare)
		if at < len(p.elems) && compare(p.elems[at]) == 0 {
			p.elems[at] = e
			return nil
		}
		p.elems = slices.Insert(p.elems, at, e)
	} else {
		at = p.leads(compare)
		next := p.below[at].writable(batch)
		more := next.set(batch, e, compare, last && at == len(p.below)-1)
		p.elems[at], p.below[at] = next.elems[0], next
		if more == nil {
			return nil
		}
		at++
		p.elems, p.below = slices.Insert(p.elems, at, more.elems[0]), slices.Insert(p.below, at, more)
	}
	switch {
	case len(p.elems) <= pageMost:
		return nil
	case last && at == pageMost: // sorted insertions leave full pages behind
		return p.split(batch, pageMost)
	}
	return p.split(batch, pageMost/2)
}

// split moves the elements from at on to a new page.
func (p *page[E]) split(batch uint64, at int) *page[E] {
	right := &page[E]{batch: batch, elems: slices.Clone(p.elems[at:])}
	p.elems = slices.Clone(p.elems[:at])
	if p.below != nil {
		right.below, p.below = slices.Clone(p.below[at:]), slices.Clone(p.below[:at])
	}
	return right
}

// del removes the element for which compare returns 0. It exists, and p is writable.
func (p *page[E]) del(batch uint64, compare func(E) int) {
	if p.below == nil {
		at := p.search(compare)
		p.elems = slices.Delete(p.elems, at, at+1)
		return
	}
	at := p.leads(compare)
	next := p.below[at].writable(batch)
	next.del(batch, compare)
	p.below[at] = next
	if len(next.elems) == 0 {
		p.elems, p.below = slices.Delete(p.elems, at, at+1), slices.Delete(p.below, at, at+1)
		return
	}
	p.elems[at] = next.elems[0]
	if len(next.elems) < pageLeast {
		p.join(batch, max(0, at-1))
	}
}

// join merges the page below p at index at with the next one, if there is one and they are too small to be split again
// at once.
func (p *page[E]) join(batch uint64, at int) {
	if at+1 >= len(p.below) {
		return
	}
	left, right := p.below[at], p.below[at+1]
	if len(left.elems)+len(right.elems) > pageMost/2 {
		return
	}
	left = left.writable(batch)
	left.elems, left.below = append(left.elems, right.elems...), append(left.below, right.below...)
	p.below[at] = left
	p.elems, p.below = slices.Delete(p.elems, at+1, at+2), slices.Delete(p.below, at+1, at+2)
}

func (p *page[E]) pages(yield func([]E) bool) bool {
	if p.below == nil {
		return yield(p.elems)
	}
	for _, next := range p.below {
		if !next.pages(yield) {
			return false
		}
	}
	return true
}

func (p *page[E]) first() []E {
	for p.below != nil {
		p = p.below[0]
	}
	return p.elems
}

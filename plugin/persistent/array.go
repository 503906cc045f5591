package persistent

// An Array is a list of values by number. Numbers are assigned one after another, from 0 on. It is as cheap to publish
// as a Trie, finds a value in fewer steps, and takes no more room than the values. A value that was never set is the
// zero value. The zero Array is empty.
type Array[V any] struct {
	root  *rack[V]
	depth int // of root, above the racks with shelves
}

const (
	rackBits = 6
	rackLen  = 1 << rackBits
)

// rack holds the racks below it, or shelves at the lowest level.
type rack[V any] struct {
	batch   uint64
	below   []*rack[V]
	shelves []*shelf[V]
}

// shelf holds values.
type shelf[V any] struct {
	batch  uint64
	values [rackLen]V
}

// At returns the value with the number i.
func (a *Array[V]) At(i uint32) (v V) {
	if a.root == nil || i>>(rackBits*(a.depth+2)) != 0 {
		return v
	}
	r := a.root
	for d := a.depth; d > 0; d-- {
		if r = r.below[i>>(rackBits*(d+1))%rackLen]; r == nil {
			return v
		}
	}
	if s := r.shelves[i>>rackBits%rackLen]; s != nil {
		return s.values[i%rackLen]
	}
	return v
}

// Set stores v with the number i.
func (a *Array[V]) Set(batch uint64, i uint32, v V) {
	if a.root == nil {
		a.root = newRack[V](batch, 0)
	}
	for i>>(rackBits*(a.depth+2)) != 0 {
		a.depth++
		above := newRack[V](batch, a.depth)
		above.below[0] = a.root
		a.root = above
	}
	a.root = a.root.writable(batch, a.depth)
	r := a.root
	for d := a.depth; d > 0; d-- {
		at := &r.below[i>>(rackBits*(d+1))%rackLen]
		*at = (*at).writable(batch, d-1)
		r = *at
	}
	at := &r.shelves[i>>rackBits%rackLen]
	switch {
	case *at == nil:
		*at = &shelf[V]{batch: batch}
	case (*at).batch != batch:
		*at = &shelf[V]{batch, (*at).values}
	}
	(*at).values[i%rackLen] = v
}

func newRack[V any](batch uint64, depth int) *rack[V] {
	if depth == 0 {
		return &rack[V]{batch: batch, shelves: make([]*shelf[V], rackLen)}
	}
	return &rack[V]{batch: batch, below: make([]*rack[V], rackLen)}
}

// writable returns r itself if the batch made it, else a copy that the batch may write, or a new rack in place of nil.
func (r *rack[V]) writable(batch uint64, depth int) *rack[V] {
	if r != nil && r.batch == batch {
		return r
	}
	next := newRack[V](batch, depth)
	if r != nil {
		copy(next.below, r.below)
		copy(next.shelves, r.shelves)
	}
	return next
}

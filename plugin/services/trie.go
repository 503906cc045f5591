package services

import (
	"hash/maphash"
	"math/bits"
	"slices"
)

// A trie is a map that costs its writer little to change and its readers nothing to keep: a hash trie whose published
// nodes are never written again. A change copies the few nodes on the path to it, so every reader that took the root
// before goes on seeing all of what was there at that moment. A reader takes no lock.
//
// A batch of changes is made under one batch number. A node that carries the number was made in the batch and no reader
// has seen it, so it is changed in place: that makes loading a million entries cheap.
type trie[K hashable, V any] struct {
	root *node[K, V]
	n    int
}

// hashable is a key of a trie.
type hashable interface {
	comparable
	hash() uint64
}

// entry is what a trie holds. The key is compared as it stands here: asked of the value, through an interface, it was a
// tenth of the time of a PTR.
type entry[K hashable, V any] struct {
	key   K
	value V
}

type (
	nameKey string
	key4    [4]byte
	key16   [16]byte
)

// The seed is drawn at start, so that nobody can prepare names or addresses that all fall on one node.
var seed = maphash.MakeSeed()

func (k nameKey) hash() uint64 { return maphash.String(seed, string(k)) }
func (k key4) hash() uint64    { return maphash.Bytes(seed, k[:]) }
func (k key16) hash() uint64   { return maphash.Bytes(seed, k[:]) }

// Each level of the trie spends fanBits of the hash. Below the last level that has bits left, a node is a plain list.
const (
	fanBits  = 6
	fanMask  = 1<<fanBits - 1
	maxDepth = 64 / fanBits
)

// node holds up to 64 slots. A slot is an entry (its bit is in here), a node below (its bit is in below), or empty.
// At maxDepth the bitmaps are unused and entries is a list of what collides in all bits of the hash.
type node[K hashable, V any] struct {
	batch   uint64
	here    uint64
	below   uint64
	entries []entry[K, V]
	kids    []*node[K, V]
}

func slot(bitmap, bit uint64) int { return bits.OnesCount64(bitmap & (bit - 1)) }

// find returns the value of the key k, which the caller must not change, or nil.
func (t *trie[K, V]) find(k K) *V {
	h := k.hash()
	n := t.root
	for depth := 0; n != nil; depth++ {
		if depth == maxDepth {
			if at := n.index(k); at >= 0 {
				return &n.entries[at].value
			}
			return nil
		}
		bit := uint64(1) << (h & fanMask)
		if n.here&bit != 0 {
			if e := &n.entries[slot(n.here, bit)]; e.key == k {
				return &e.value
			}
			return nil
		}
		if n.below&bit == 0 {
			return nil
		}
		n = n.kids[slot(n.below, bit)]
		h >>= fanBits
	}
	return nil
}

// get returns the value of the key k, or the zero value.
func (t *trie[K, V]) get(k K) (v V) {
	if found := t.find(k); found != nil {
		return *found
	}
	return v
}

// set puts the value v in for the key k, in place of the one there is.
func (t *trie[K, V]) set(batch uint64, k K, v V) {
	var added bool
	t.root, added = t.root.set(batch, k.hash(), 0, entry[K, V]{k, v})
	if added {
		t.n++
	}
}

// del takes the entry with the key k out, if it is there.
func (t *trie[K, V]) del(batch uint64, k K) {
	if t.find(k) == nil {
		return
	}
	t.root = t.root.del(batch, k.hash(), 0, k)
	t.n--
}

// all calls yield with every key and its value, in no order, until it returns false.
func (t *trie[K, V]) all(yield func(K, V) bool) { t.root.all(yield) }

// writable returns n itself if the batch made it, else a copy that the batch may write.
func (n *node[K, V]) writable(batch uint64) *node[K, V] {
	if n == nil {
		return &node[K, V]{batch: batch}
	}
	if n.batch == batch {
		return n
	}
	return &node[K, V]{
		batch: batch, here: n.here, below: n.below,
		entries: slices.Clone(n.entries), kids: slices.Clone(n.kids),
	}
}

func (n *node[K, V]) set(batch, h uint64, depth int, e entry[K, V]) (*node[K, V], bool) {
	n = n.writable(batch)
	if depth == maxDepth {
		if at := n.index(e.key); at >= 0 {
			n.entries[at] = e
			return n, false
		}
		n.entries = append(n.entries, e)
		return n, true
	}

	bit := uint64(1) << (h & fanMask)
	switch {
	case n.below&bit != 0:
		at := slot(n.below, bit)
		kid, added := n.kids[at].set(batch, h>>fanBits, depth+1, e)
		n.kids[at] = kid
		return n, added

	case n.here&bit == 0:
		n.entries = insert(n.entries, slot(n.here, bit), e)
		n.here |= bit
		return n, true
	}

	at := slot(n.here, bit)
	old := n.entries[at]
	if old.key == e.key {
		n.entries[at] = e
		return n, false
	}

	// Two keys in one slot: both go one level down.
	kid, _ := (*node[K, V])(nil).set(batch, old.key.hash()>>(fanBits*(depth+1)), depth+1, old)
	kid, _ = kid.set(batch, h>>fanBits, depth+1, e)
	n.entries = slices.Delete(n.entries, at, at+1)
	n.here &^= bit
	n.kids = insert(n.kids, slot(n.below, bit), kid)
	n.below |= bit
	return n, true
}

// del returns n without k, which it holds, or nil if nothing is left.
func (n *node[K, V]) del(batch, h uint64, depth int, k K) *node[K, V] {
	n = n.writable(batch)
	bit := uint64(1) << (h & fanMask)
	switch {
	case depth == maxDepth:
		at := n.index(k)
		n.entries = slices.Delete(n.entries, at, at+1)

	case n.here&bit != 0:
		at := slot(n.here, bit)
		n.entries = slices.Delete(n.entries, at, at+1)
		n.here &^= bit

	default:
		at := slot(n.below, bit)
		kid := n.kids[at].del(batch, h>>fanBits, depth+1, k)
		n.kids[at] = kid
		if kid != nil && (len(kid.kids) > 0 || len(kid.entries) > 1) {
			return n
		}
		n.kids = slices.Delete(n.kids, at, at+1)
		n.below &^= bit
		if kid != nil { // a single entry needs no node of its own
			n.entries = insert(n.entries, slot(n.here, bit), kid.entries[0])
			n.here |= bit
		}
	}
	if len(n.entries) == 0 && len(n.kids) == 0 {
		return nil
	}
	return n
}

// index returns where k stands in a list of entries, less than 0 for nowhere.
func (n *node[K, V]) index(k K) int {
	return slices.IndexFunc(n.entries, func(e entry[K, V]) bool { return e.key == k })
}

func (n *node[K, V]) all(yield func(K, V) bool) bool {
	if n == nil {
		return true
	}
	for _, e := range n.entries {
		if !yield(e.key, e.value) {
			return false
		}
	}
	for _, kid := range n.kids {
		if !kid.all(yield) {
			return false
		}
	}
	return true
}

// insert grows s by steps of four: append doubles, and half-empty nodes would be a third of the index.
func insert[T any](s []T, at int, v T) []T {
	if len(s) == cap(s) {
		grown := make([]T, len(s), len(s)+4)
		copy(grown, s)
		s = grown
	}
	return slices.Insert(s, at, v)
}

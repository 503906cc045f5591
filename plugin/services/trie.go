package services

import (
	"bytes"
	"hash/maphash"
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

// Numbers are given out one after the other: an odd factor spreads them as well as any.
func (k sliceID) hash() uint64 { return uint64(k) * 0x9e3779b97f4a7c15 }

// Each level of the trie spends fanBits of the hash, up to maxDepth; the uppermost byte is for the tags.
const (
	fan      = 8
	fanBits  = 3
	maxDepth = (64 - 8) / fanBits
	leafMost = 32
)

// node is a branch, which has kids, or a leaf, which has up to leafMost entries; at maxDepth, as many as there are. It has
// 128 bytes, of which a look-up needs half at a branch. With leaves of many entries there are few nodes for the collector to
// look at, however many entries there are.
type node[K hashable, V any] struct {
	kids    [fan]*node[K, V]
	batch   uint64
	tags    [leafMost]uint8 // of the first entries, a byte of the key's hash each
	entries []entry[K, V]
}

func tagOf(hash uint64) uint8 { return uint8(hash >> 56) } // #nosec G115 -- eight bits are left

// index returns where k stands in a leaf, less than 0 for nowhere.
func (n *node[K, V]) index(k K, tag uint8) int {
	tagged := min(len(n.entries), leafMost)
	for at := 0; at < tagged; at++ {
		next := bytes.IndexByte(n.tags[at:tagged], tag)
		if next < 0 {
			break
		}
		if at += next; n.entries[at].key == k {
			return at
		}
	}
	for at := leafMost; at < len(n.entries); at++ {
		if n.entries[at].key == k {
			return at
		}
	}
	return -1
}

// find returns the value of the key k, which the caller must not change, or nil.
func (t *trie[K, V]) find(k K) *V {
	h := k.hash()
	tag := tagOf(h)
	for n := t.root; n != nil; h >>= fanBits {
		if kid := n.kids[h%fan]; kid != nil {
			n = kid
			continue
		}
		if at := n.index(k, tag); at >= 0 {
			return &n.entries[at].value
		}
		return nil
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

// all calls yield with every key and its value, which it must not change, in no order, until it returns false.
func (t *trie[K, V]) all(yield func(K, *V) bool) { t.root.all(yield) }

// writable returns n itself if the batch made it, else a copy that the batch may write.
func (n *node[K, V]) writable(batch uint64) *node[K, V] {
	if n == nil {
		return &node[K, V]{batch: batch}
	}
	if n.batch == batch {
		return n
	}
	copied := *n
	copied.batch, copied.entries = batch, slices.Clone(n.entries)
	return &copied
}

// branch reports whether n, which may be nil, has kids.
func (n *node[K, V]) branch() bool { return n != nil && n.kids != [fan]*node[K, V]{} }

// set returns n, which may be nil, with e, and whether it had no entry of that key. hash is that of the key.
func (n *node[K, V]) set(batch, hash uint64, depth int, e entry[K, V]) (*node[K, V], bool) {
	n = n.writable(batch)
	if !n.branch() {
		if at := n.index(e.key, tagOf(hash)); at >= 0 {
			n.entries[at] = e
			return n, false
		}
		if len(n.entries) < leafMost || depth == maxDepth {
			n.add(e, tagOf(hash))
			return n, true
		}
		full := n.entries
		n.entries = nil
		for _, old := range full {
			n.setKid(batch, old.key.hash(), depth, old)
		}
	}
	return n, n.setKid(batch, hash, depth, e)
}

func (n *node[K, V]) setKid(batch, hash uint64, depth int, e entry[K, V]) (added bool) {
	kid := &n.kids[hash>>(fanBits*depth)%fan]
	*kid, added = (*kid).set(batch, hash, depth+1, e)
	return added
}

// add adds e to a leaf. It grows by steps of four: append doubles, and half-empty leaves would be a third of the index.
func (n *node[K, V]) add(e entry[K, V], tag uint8) {
	if len(n.entries) < leafMost {
		n.tags[len(n.entries)] = tag
	}
	if len(n.entries) == cap(n.entries) {
		grown := make([]entry[K, V], len(n.entries), len(n.entries)+4)
		copy(grown, n.entries)
		n.entries = grown
	}
	n.entries = append(n.entries, e)
}

// del returns n without k, which it holds, or nil if nothing is left. hash is that of k.
func (n *node[K, V]) del(batch, hash uint64, depth int, k K) *node[K, V] {
	n = n.writable(batch)
	if !n.branch() {
		at, last := n.index(k, tagOf(hash)), len(n.entries)-1
		n.entries[at] = n.entries[last]
		n.entries[last] = entry[K, V]{}
		n.entries = n.entries[:last]
		if last == 0 {
			return nil
		}
		if at < last && at < leafMost {
			n.tags[at] = tagOf(n.entries[at].key.hash())
		}
		return n
	}
	kid := &n.kids[hash>>(fanBits*depth)%fan]
	*kid = (*kid).del(batch, hash, depth+1, k)
	return n.merged()
}

// merged makes a branch with few entries below it a leaf.
func (n *node[K, V]) merged() *node[K, V] {
	few := 0
	for _, kid := range n.kids {
		if kid.branch() {
			return n
		}
		if kid != nil {
			few += len(kid.entries)
		}
	}
	if few > leafMost/2 { // half of what made it a branch, or entries that come and go would make and unmake it
		return n
	}
	kids := n.kids
	n.kids = [fan]*node[K, V]{}
	for _, kid := range kids {
		if kid == nil {
			continue
		}
		for at, e := range kid.entries {
			n.add(e, kid.tags[at])
		}
	}
	return n
}

func (n *node[K, V]) all(yield func(K, *V) bool) bool {
	if n == nil {
		return true
	}
	for i := range n.entries {
		if e := &n.entries[i]; !yield(e.key, &e.value) {
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

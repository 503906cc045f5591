// Package persistent has the collections of an index. A writer changes them a batch at a time, and every reader that
// took a copy before still sees everything as it was at that moment. A copy is an assignment. Readers take no lock, and
// look-ups allocate nothing.
//
// All changes between two moments that readers see are made under one batch number, and no number is used twice.
package persistent

import (
	"bytes"
	"hash/maphash"
	"slices"
)

// A Trie is a map that is cheap to change for its writer and free to hold for its readers: a hash trie whose published
// branches and leaves are never written again. A change copies the few on the path to it.
//
// A branch or a leaf with the number of the batch was made in the batch and no reader has seen it, so it is changed in
// place: that makes loading a million entries cheap. The zero Trie is empty.
type Trie[K Hashable, V any] struct {
	root *branch[K, V] // nil if the trie is empty
	n    int
}

// Hashable is a key of a Trie. Its hash must be spread over all 64 bits.
type Hashable interface {
	comparable
	Hash() uint64
}

// entry is an element of a trie. The key is stored for comparisons: getting it from the value, through an interface,
// took a tenth of the time of a PTR answer.
type entry[K Hashable, V any] struct {
	key   K
	value V
}

// Keys made from external text or addresses.
type (
	NameKey string
	Key4    [4]byte
	Key16   [16]byte
)

// The seed is random, so nobody can prepare names or addresses that all fall on one leaf.
var seed = maphash.MakeSeed()

// Hash implements Hashable.
func (k NameKey) Hash() uint64 { return maphash.String(seed, string(k)) }

// Hash implements Hashable.
func (k Key4) Hash() uint64 { return maphash.Bytes(seed, k[:]) }

// Hash implements Hashable.
func (k Key16) Hash() uint64 { return maphash.Bytes(seed, k[:]) }

// Each level of the trie uses fanBits of the hash, the lowest first, up to maxDepth. The uppermost byte is for the
// tags.
const (
	fan      = 1 << fanBits
	fanBits  = 4
	maxDepth = (64 - 8) / fanBits
	leafMost = 30
)

// branch has a leaf or a branch for each value of its bits of the hash.
type branch[K Hashable, V any] struct {
	batch  uint64
	more   []entry[K, V] // entries that don't fit into their leaves: only at the last level, for keys with the same hash
	leaves [fan]*leaf[K, V]
	below  [fan]*branch[K, V] // where there is no leaf
}

// leaf has up to leafMost entries. It holds all values with the same lowest bits, so that any number of entries is in
// few, full leaves. The part that is read first is one line of the CPU's cache, and the entries follow directly: with
// 100,000 Services much of an answer's time goes into fetching lines. A leaf of addresses has no pointers for the
// collector to follow.
type leaf[K Hashable, V any] struct {
	batch   uint64
	bits    uint8           // the number of shared bits
	n       uint8           // the number of entries
	tags    [leafMost]uint8 // a byte of each key's hash
	entries [leafMost]entry[K, V]
}

func tagOf(hash uint64) uint8 { return uint8(hash >> 56) } // #nosec G115 -- eight bits are left

// bitsAt returns the bits that a branch at that depth uses.
func bitsAt(hash uint64, depth int) int { return int(hash >> (fanBits * depth) % fan) } // #nosec G115 -- less than fan

// Find returns the value of the key k, which the caller must not change, or nil.
func (t *Trie[K, V]) Find(k K) *V {
	if t.root == nil {
		return nil
	}
	hash := k.Hash()
	b := t.root
	for h := hash; ; h >>= fanBits {
		if l := b.leaves[h%fan]; l != nil {
			if at := l.index(k, tagOf(hash)); at >= 0 {
				return &l.entries[at].value
			}
			if at := b.indexMore(k); at >= 0 {
				return &b.more[at].value
			}
			return nil
		}
		b = b.below[h%fan]
	}
}

// Get returns the value of the key k, or the zero value.
func (t *Trie[K, V]) Get(k K) (v V) {
	if found := t.Find(k); found != nil {
		return *found
	}
	return v
}

// Set stores the value v for the key k, replacing the current one.
func (t *Trie[K, V]) Set(batch uint64, k K, v V) {
	if t.root == nil {
		t.root = branchOf(batch, &leaf[K, V]{batch: batch})
	}
	t.root = t.root.writable(batch)
	if t.root.set(batch, k.Hash(), 0, entry[K, V]{k, v}) {
		t.n++
	}
}

// Delete removes the entry with the key k, if there is one.
func (t *Trie[K, V]) Delete(batch uint64, k K) {
	if t.Find(k) == nil {
		return
	}
	if t.n--; t.n == 0 {
		t.root = nil
		return
	}
	t.root = t.root.writable(batch)
	t.root.del(batch, k.Hash(), 0, k)
}

// Len returns the number of entries.
func (t *Trie[K, V]) Len() int { return t.n }

// All calls yield with every key and its value, in no particular order, until it returns false. yield must not change
// the value.
func (t *Trie[K, V]) All(yield func(K, *V) bool) {
	if t.root != nil {
		t.root.all(yield)
	}
}

// branchOf returns a branch with l for all values.
func branchOf[K Hashable, V any](batch uint64, l *leaf[K, V]) *branch[K, V] {
	b := &branch[K, V]{batch: batch}
	l.bits = 0
	b.put(0, l)
	return b
}

// writable returns b itself if the batch made it, else a copy that the batch may write.
func (b *branch[K, V]) writable(batch uint64) *branch[K, V] {
	if b.batch == batch {
		return b
	}
	copied := *b
	copied.batch, copied.more = batch, slices.Clone(b.more)
	return &copied
}

// put makes l the leaf for n and for all other values that it covers.
func (b *branch[K, V]) put(n int, l *leaf[K, V]) {
	step := 1 << l.bits
	for n %= step; n < fan; n += step {
		b.leaves[n], b.below[n] = l, nil
	}
}

// set stores e below b, which is writable and at that depth, and reports whether its key is new. hash is the key's.
func (b *branch[K, V]) set(batch, hash uint64, depth int, e entry[K, V]) (added bool) {
	n := bitsAt(hash, depth)
	if down := b.below[n]; down != nil {
		down = down.writable(batch)
		b.below[n] = down
		return down.set(batch, hash, depth+1, e)
	}
	l := b.leaves[n].writable(batch)
	at, more := l.index(e.key, tagOf(hash)), b.indexMore(e.key)
	switch {
	case at >= 0:
		l.entries[at] = e
	case more >= 0:
		b.more[more] = e
	case l.n < leafMost:
		l.add(e, tagOf(hash))
		added = true
	case l.bits < fanBits:
		b.split(n, l, depth)
		return b.set(batch, hash, depth, e)
	case depth == maxDepth-1:
		b.more = append(b.more, e)
		added = true
	default:
		down := branchOf(batch, l)
		b.leaves[n], b.below[n] = nil, down
		return down.set(batch, hash, depth+1, e)
	}
	if b.leaves[n] != l {
		b.put(n, l)
	}
	return added
}

// split replaces l, the leaf for n, with two leaves, which differ in one more bit of the hash.
func (b *branch[K, V]) split(n int, l *leaf[K, V], depth int) {
	two := [2]*leaf[K, V]{{batch: l.batch, bits: l.bits + 1}, {batch: l.batch, bits: l.bits + 1}}
	for at, e := range l.entries[:l.n] {
		two[bitsAt(e.key.Hash(), depth)>>l.bits%2].add(e, l.tags[at])
	}
	n &^= 1 << l.bits
	b.put(n, two[0])
	b.put(n|1<<l.bits, two[1])
}

// del removes k, which is below b. b is writable and at that depth. hash is k's.
func (b *branch[K, V]) del(batch, hash uint64, depth int, k K) {
	n := bitsAt(hash, depth)
	if more := b.indexMore(k); more >= 0 {
		b.more = slices.Delete(b.more, more, more+1)
		return
	}
	l := b.leaves[n]
	if l != nil {
		l = l.writable(batch)
		l.del(k, tagOf(hash))
	} else {
		down := b.below[n].writable(batch)
		down.del(batch, hash, depth+1, k)
		b.below[n] = down
		if l = down.leaves[0]; l == nil || l.bits > 0 || len(down.more) > 0 {
			return
		}
		l = l.writable(batch) // all that remains of down
		l.bits = fanBits
	}
	b.put(n, b.joined(n, l))
}

// joined returns l, the leaf for n, merged with the leaves that split separated from it, if they have few entries by
// now: at most half of what caused the split, or entries that come and go would split and join leaves all the time.
func (b *branch[K, V]) joined(n int, l *leaf[K, V]) *leaf[K, V] {
	for l.bits > 0 {
		other := b.leaves[n^1<<(l.bits-1)]
		if other == nil || other.bits != l.bits || other.n+l.n > leafMost/2 {
			break
		}
		for at, e := range other.entries[:other.n] {
			l.add(e, other.tags[at])
		}
		l.bits--
	}
	return l
}

func (b *branch[K, V]) all(yield func(K, *V) bool) bool {
	for n, l := range b.leaves {
		switch {
		case l == nil:
			if !b.below[n].all(yield) {
				return false
			}
		case n < 1<<l.bits: // the first value that it holds
			if !all(l.entries[:l.n], yield) {
				return false
			}
		}
	}
	return all(b.more, yield)
}

func all[K Hashable, V any](entries []entry[K, V], yield func(K, *V) bool) bool {
	for at := range entries {
		if e := &entries[at]; !yield(e.key, &e.value) {
			return false
		}
	}
	return true
}

// indexMore returns the index of k in b.more, less than 0 if it is not there.
func (b *branch[K, V]) indexMore(k K) int {
	for at := range b.more {
		if b.more[at].key == k {
			return at
		}
	}
	return -1
}

// writable returns l itself if the batch made it, else a copy that the batch may write.
func (l *leaf[K, V]) writable(batch uint64) *leaf[K, V] {
	if l.batch == batch {
		return l
	}
	copied := *l
	copied.batch = batch
	return &copied
}

// index returns the index of k, less than 0 if it is not there.
func (l *leaf[K, V]) index(k K, tag uint8) int {
	tags := l.tags[:l.n]
	for at := 0; at < len(tags); at++ {
		next := bytes.IndexByte(tags[at:], tag)
		if next < 0 {
			break
		}
		if at += next; l.entries[at].key == k {
			return at
		}
	}
	return -1
}

// add adds e. There must be room.
func (l *leaf[K, V]) add(e entry[K, V], tag uint8) {
	l.entries[l.n], l.tags[l.n] = e, tag
	l.n++
}

// del removes k, which must exist, and moves the last entry to its place.
func (l *leaf[K, V]) del(k K, tag uint8) {
	at := l.index(k, tag)
	l.n--
	l.entries[at], l.tags[at] = l.entries[l.n], l.tags[l.n]
	l.entries[l.n] = entry[K, V]{}
}

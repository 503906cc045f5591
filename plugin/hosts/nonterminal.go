package hosts

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"hash/maphash"
	"net/netip"
	"slices"
	"sort"
)

// NonTerminal reports whether an entry exists below name, which must have the form that Lookup
// takes. An empty non-terminal, one without an entry of its own, still exists: the answer for it is
// NODATA, not NXDOMAIN (RFC 8020, section 2; RFC 4592, section 2.2.2). With an entry
// db.corp.example, corp.example and example are non-terminals. A wildcard *.apps.example makes
// apps.example one. NonTerminal does not allocate; it costs at most one probe for each label of
// name.
func (t *Table) NonTerminal(name string) bool {
	if t == nil {
		return false
	}
	if name == "." {
		_, root := t.find(name)
		return t.names.used > 1 || t.names.used == 1 && !root
	}
	if t.tree.used == 0 {
		return false
	}
	for node := name; node != ""; node = above(node) {
		if slot, ok := t.tree.seek(&t.store, maphash.String(t.seed, node), node); ok {
			return below(view(t.name(t.tree.slots[slot])), name)
		}
	}
	return false
}

// HasNames reports whether an address in p has a name: the reverse name of p is then a
// non-terminal, see [Table.NonTerminal]. p may have 0 to 28 or 32 bits for IPv4 and 0 to 124 or 128
// bits for IPv6, which includes every prefix with a reverse name (RFC 1035, section 3.5; RFC 3596,
// section 2.5). An IPv6 prefix contains no IPv4-mapped addresses: their reverse names are in
// in-addr.arpa. HasNames does not allocate; it costs a binary search.
func (t *Table) HasNames(p netip.Prefix) bool {
	if t == nil || !p.IsValid() {
		return false
	}
	if p.IsSingleIP() {
		return !p.Addr().Is4In6() && t.Names(p.Addr()).Len() > 0
	}
	addr, bits := p.Addr(), p.Bits()
	if addr.Is4() {
		ip := addr.As4()
		return t.rev4.within(&t.store, ip[:], bits)
	}
	ip := addr.As16()
	return t.rev6.within(&t.store, ip[:], bits)
}

// tree answers which nodes have names below them. It does not hold all of these nodes. A node in
// the tree has one record as its witness: a record whose name is below the node. Every ancestor of
// a name is either in the tree or an ancestor of the witness of the closest node above it that is
// in the tree. So a look-up walks up to the first node that is in the tree and compares the name
// with that node's witness.
//
// A record is the witness of at most one node. However deep the names are, the tree has no more
// nodes than there are records; if many names share a parent, it has far fewer.
type tree struct {
	index            // offsets of the witnesses
	lengths []uint16 // by slot: the length of the node's name
	hashes  []uint64 // by slot, until the tree is complete: growing it then needs no names
}

// seek returns the slot of a node, or the free slot for it.
func (x *tree) seek(s *store, hash uint64, node string) (slot int, found bool) {
	for i := x.home(hash); ; i++ {
		i, found = x.next(i, tag(hash))
		if !found || int(x.lengths[i]) == len(node) && below(view(s.name(x.slots[i])), node) {
			return i, found
		}
	}
}

func newTree(n int) tree {
	x := tree{index: newIndex(n)}
	x.lengths = make([]uint16, len(x.tags))
	x.hashes = make([]uint64, len(x.tags))
	return x
}

// makeTree fills the tree with the ancestors of all names.
func (b *builder) makeTree() {
	t := b.t
	t.tree = newTree(0)
	parent := ""
	for off := range t.all {
		b.another()
		// Names with the same parent are often adjacent.
		if p := above(view(t.name(off))); p != parent && p != "" {
			parent = p
			b.addAncestors(off, parent)
		}
	}
	if x := &t.tree; len(x.tags) > 3*x.used/2 {
		b.growTree(x.used)
	}
	t.tree.hashes = nil
}

// step is a node that is not in the tree, with the slot for it.
type step struct {
	node string
	hash uint64
	slot int
}

// addAncestors adds those ancestors of a record's name that the tree lacks, from parent up: the
// topmost of them that is not an ancestor of the witness.
func (b *builder) addAncestors(record uint32, parent string) {
	t, path, witness := b.t, b.path[:0], ""
	for node := parent; node != "" && witness == ""; node = above(node) {
		hash := maphash.String(t.seed, node)
		slot, ok := t.tree.seek(&t.store, hash, node)
		if ok {
			witness = view(t.name(t.tree.slots[slot]))
		} else {
			path = append(path, step{node, hash, slot})
		}
	}
	b.path = path
	n := 0
	for n < len(path) && !below(witness, path[n].node) {
		n++
	}
	if n > 0 {
		b.addNode(record, path[n-1])
	}
}

func (b *builder) addNode(record uint32, at step) {
	x := &b.t.tree
	x.lengths[at.slot], x.hashes[at.slot] = uint16(len(at.node)), at.hash
	x.put(at.slot, at.hash, record)
	if x.full() {
		b.growTree(2 * x.used)
	}
}

// growTree builds the tree again, for n nodes.
func (b *builder) growTree(n int) {
	old := b.t.tree
	b.t.tree = newTree(n)
	x := &b.t.tree
	for i, tag := range old.tags {
		if tag == 0 {
			continue
		}
		b.another()
		slot := x.insert(old.hashes[i], old.slots[i])
		x.lengths[slot], x.hashes[slot] = old.lengths[i], old.hashes[i]
	}
}

// netBits is the number of bits of an address that the order ignores: the last digit of an IPv6
// reverse name.
const netBits = 4

// within reports whether an address whose first bits are those of ip has a
// name.
func (r *reverse) within(s *store, ip []byte, bits int) bool {
	if bits > 8*len(ip)-netBits {
		return false
	}
	var buf [16]byte
	at := func(i int) []byte { return r.addr(s, r.order[i], buf[:len(ip)]) }
	i := sort.Search(len(r.order), func(i int) bool { return compareBits(at(i), ip, bits) >= 0 })
	return i < len(r.order) && compareBits(at(i), ip, bits) == 0
}

// compareBits compares the first bits of two addresses.
func compareBits(a, b []byte, bits int) int {
	whole := bits / 8
	if c := bytes.Compare(a[:whole], b[:whole]); c != 0 || bits%8 == 0 {
		return c
	}
	shift := 8 - bits%8
	return int(a[whole]>>shift) - int(b[whole]>>shift)
}

// addr128 is an address in two words, the more significant one first.
type addr128 [2]uint64

func addr128Of(addr []byte) addr128 {
	if len(addr) == 4 {
		return addr128{0, uint64(binary.BigEndian.Uint32(addr))}
	}
	return addr128{binary.BigEndian.Uint64(addr), binary.BigEndian.Uint64(addr[8:])}
}

// octets returns the address as size octets in the storage of buf.
func (a addr128) octets(buf *[16]byte, size int) []byte {
	binary.BigEndian.PutUint64(buf[:], a[0])
	binary.BigEndian.PutUint64(buf[8:], a[1])
	return buf[16-size:]
}

// sameNet reports whether two addresses differ only in the last netBits.
func (a addr128) sameNet(v addr128) bool {
	return a[0] == v[0] && a[1]>>netBits == v[1]>>netBits
}

// networks holds an address for each network in which an address has a name, once or more. It grows
// without copies.
type networks struct {
	blocks [][]addr128
	last   addr128
}

// add adds an address, unless the one before it is of the same network, as in
// most files.
func (n *networks) add(addr []byte) {
	a := addr128Of(addr)
	k := len(n.blocks) - 1
	switch {
	case k < 0:
		n.blocks = [][]addr128{make([]addr128, 0, 16)}
		k++
	case a.sameNet(n.last):
		return
	case len(n.blocks[k]) == cap(n.blocks[k]):
		n.blocks = append(n.blocks, make([]addr128, 0, min(2*len(n.blocks[k]), 4096)))
		k++
	}
	n.blocks[k] = append(n.blocks[k], a)
	n.last = a
}

// makeOrder fills the order of r, whose addresses are size octets long.
func (b *builder) makeOrder(r *reverse, size int, nets *networks) {
	addrs := slices.Concat(nets.blocks...)
	slices.SortFunc(addrs, func(v, w addr128) int {
		b.another()
		if c := cmp.Compare(v[0], w[0]); c != 0 {
			return c
		}
		return cmp.Compare(v[1], w[1])
	})
	addrs = slices.CompactFunc(addrs, addr128.sameNet)
	r.order = make([]uint32, len(addrs))
	var buf [16]byte
	for i, a := range addrs {
		b.another()
		addr := a.octets(&buf, size)
		slot, _ := r.seek(&b.t.store, maphash.Bytes(b.t.seed, addr), addr)
		r.order[i] = r.slots[slot]
	}
}

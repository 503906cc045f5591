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

// NonTerminal reports whether an entry stands below name, which must have the
// form that Lookup asks for. A non-terminal without an entry of its own, an
// empty non-terminal, exists all the same: the answer for it is NODATA, not
// NXDOMAIN (RFC 8020, section 2; RFC 4592, section 2.2.2). With an entry
// db.corp.example, corp.example and example are non-terminals. A wildcard
// *.apps.example makes apps.example one. NonTerminal does not allocate; it
// costs at most one probe for each label of name.
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
	for node, n := name, labels(name); n > 0; node, n = above(node), n-1 {
		if slot, ok := t.tree.seek(&t.store, maphash.String(t.seed, node), node, n); ok {
			return below(view(t.name(t.tree.slots[slot])), name)
		}
	}
	return false
}

// HasNames reports whether an address in p has a name: the reverse name that
// stands for p is then a non-terminal, see [Table.NonTerminal]. p may be of 0
// to 28 or 32 bits for IPv4 and of 0 to 124 or 128 bits for IPv6, which
// includes every prefix that a reverse name stands for (RFC 1035, section 3.5;
// RFC 3596, section 2.5). An IPv6 prefix has no IPv4-mapped addresses: their
// reverse names are in in-addr.arpa. HasNames does not allocate; it costs a
// binary search.
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

// tree finds out which nodes have names below them. It does not hold all of
// these nodes. A node in the tree has one record as its witness: a record whose
// name is below the node. Every ancestor of a name either is in the tree or is
// an ancestor of the witness of the closest node above it that is in the tree.
// So a look-up walks up to the first node that is in the tree and compares the
// name with that node's witness.
//
// A record is the witness of one node at most. However deep the names are, the
// tree has no more nodes than there are records, and where many names share a
// parent, it has far fewer.
type tree struct {
	index          // offsets of the witnesses
	labels []uint8 // by slot: the number of labels of the node
}

// seek returns the slot of a node of n labels, or the free one that is for it.
func (x *tree) seek(s *store, hash uint64, node string, n int) (slot int, found bool) {
	for i := x.home(hash); ; i++ {
		i, found = x.next(i, tag(hash))
		if !found || int(x.labels[i]) == n && below(view(s.name(x.slots[i])), node) {
			return i, found
		}
	}
}

func newTree(n int) tree {
	x := tree{index: newIndex(n)}
	x.labels = make([]uint8, len(x.tags))
	return x
}

// makeTree fills the tree with the ancestors of all names.
func (b *builder) makeTree() {
	t := b.t
	t.tree = newTree(0)
	parent := ""
	for off := range t.all {
		b.another()
		// Names of one parent often follow each other.
		if p := above(view(t.name(off))); p != parent && p != "" {
			parent = p
			b.addAncestors(off, parent)
		}
	}
	if x := &t.tree; len(x.tags) > 2*x.used {
		b.growTree(x.used)
	}
}

// addAncestors adds the ancestors of a record's name, from parent up.
func (b *builder) addAncestors(record uint32, parent string) {
	t := b.t
	count := labels(parent)
	top := parent // the last node that is not in the tree
	node, n := parent, count
	for ; n > 0; node, n = above(node), n-1 {
		slot, ok := t.tree.seek(&t.store, maphash.String(t.seed, node), node, n)
		if ok {
			b.branch(record, view(t.name(t.tree.slots[slot])), parent, count)
			return
		}
		top = node
	}
	b.addNode(record, top, 1)
}

// branch adds the topmost of the ancestors of a record, from parent up, that is
// no ancestor of the witness.
func (b *builder) branch(record uint32, witness, parent string, count int) {
	if below(witness, parent) {
		return
	}
	node, n := parent, count
	for up := above(node); !below(witness, up); up = above(node) {
		node, n = up, n-1
	}
	b.addNode(record, node, n)
}

func (b *builder) addNode(record uint32, node string, n int) {
	x := &b.t.tree
	hash := maphash.String(b.t.seed, node)
	slot, _ := x.seek(&b.t.store, hash, node, n)
	x.labels[slot] = uint8(n)
	x.put(slot, hash, record)
	if x.full() {
		b.growTree(2 * x.used)
	}
}

// growTree makes the tree anew, for n nodes.
func (b *builder) growTree(n int) {
	t := b.t
	old := t.tree
	t.tree = newTree(n)
	for i, tag := range old.tags {
		if tag == 0 {
			continue
		}
		b.another()
		node := view(t.name(old.slots[i]))
		for n := labels(node); n > int(old.labels[i]); n-- {
			node = above(node)
		}
		slot := t.tree.insert(maphash.String(t.seed, node), old.slots[i])
		t.tree.labels[slot] = old.labels[i]
	}
}

// netBits is how many bits of an address the order leaves out: the last digit
// of an IPv6 reverse name.
const netBits = 4

// within tells whether an address whose first bits are those of ip has a name.
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
func (w addr128) octets(buf *[16]byte, size int) []byte {
	binary.BigEndian.PutUint64(buf[:], w[0])
	binary.BigEndian.PutUint64(buf[8:], w[1])
	return buf[16-size:]
}

// sameNet tells whether two addresses differ in no more than the last bits.
func (w addr128) sameNet(v addr128) bool {
	return w[0] == v[0] && w[1]>>netBits == v[1]>>netBits
}

// makeOrder fills the order of r out of addresses of which each network that
// has a name has one or more.
func (b *builder) makeOrder(r *reverse, addrs []addr128, size int) {
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
	for i, w := range addrs {
		b.another()
		addr := w.octets(&buf, size)
		slot, _ := r.seek(&b.t.store, maphash.Bytes(b.t.seed, addr), addr)
		r.order[i] = r.slots[slot]
	}
}

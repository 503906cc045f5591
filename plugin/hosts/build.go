package hosts

import (
	"encoding/binary"
	"hash/maphash"
	"iter"
	"math"
	"net/netip"
	"slices"
)

// limits keeps offsets within 32 bits.
type limits struct {
	size int // octets of the file
	more int // addresses beyond the first of their name
}

// A further address adds at most 40 octets to the lists, which may take 4 GiB: its own and, for the
// first further address of a name, the list's head and the address that was in the record.
var defaults = limits{size: MaxSize, more: math.MaxUint32 / 40}

// builder makes a Table from names and addresses. Most names have one address, which goes into the
// name's record at once, so a file of such names is in its final place as soon as it is read.
// Further addresses of a name wait in a log until the end.
type builder struct {
	t         *Table
	noReverse bool
	max       limits
	pause     func()
	names     uint8    // number since the last pause
	merged    []*Table // the tables that the entries come from, nil for a file

	log    [][]pair
	logged int
	seen   index // by name and address: offsets in the log

	path []step // the ancestors of a name

	addrs4, addrs6 int // the number of addresses of names that are PTR targets
}

// pair is a further address of a name.
type pair struct {
	record uint32
	before uint32   // records below this offset came earlier in the file
	addr   [16]byte // an IPv4 address is IPv4-mapped
}

const logBlock = 4096

func newBuilder(o Options, max limits) builder {
	t := &Table{seed: maphash.MakeSeed(), names: newIndex(16)}
	return builder{t: t, noReverse: o.NoReverse, max: max, pause: o.Pause, seen: newIndex(16)}
}

// another is called for each name that is processed.
func (b *builder) another() {
	if b.names++; b.names == 0 && b.pause != nil {
		b.pause()
	}
}

// add adds an address of 4 or 16 octets to a name, unless the name has it. A wildcard comes without
// its asterisk. With pointer, PTR records of the address lead to the name; it must be the same in
// each call for a name. add returns false if there is no room.
func (b *builder) add(name, addr []byte, pointer bool) bool {
	b.another()
	t := b.t
	hash := maphash.Bytes(t.seed, name)
	slot, found := t.names.seek(&t.store, hash, view(name))
	if found {
		return b.addMore(t.names.slots[slot], addr)
	}
	head := uint16(0)
	switch {
	case wildcard(name):
		head, t.wild = noPointer, true
	case !pointer:
		head = noPointer
	}
	off, ok := t.store.add(head, name, addr)
	if !ok {
		return false
	}
	t.names.put(slot, hash, off)
	if t.names.full() {
		b.index(2 * t.names.used)
	}
	b.count(off, addr)
	return true
}

// addMore adds another address to a name that has one.
func (b *builder) addMore(record uint32, addr []byte) bool {
	if string(b.t.first(record, len(addr))) == string(addr) {
		return true
	}
	p := pair{record: record, before: b.t.end(), addr: mapped(addr)}
	hash := b.hash(&p)
	slot := b.seen.home(hash)
	for ; ; slot++ {
		var found bool
		if slot, found = b.seen.next(slot, tag(hash)); !found {
			break
		}
		if q := b.pair(b.seen.slots[slot]); q.record == record && q.addr == p.addr {
			return true
		}
	}
	if b.logged == b.max.more {
		return false
	}
	b.seen.put(slot, hash, uint32(b.logged))
	b.push(p)
	if b.seen.full() {
		b.seen = newIndex(2 * b.logged)
		for i := range uint32(b.logged) {
			b.seen.insert(b.hash(b.pair(i)), i)
		}
	}
	b.count(record, addr)
	return true
}

// count counts an address of a name.
func (b *builder) count(record uint32, addr []byte) {
	b.t.entries++
	switch {
	case b.noReverse || !b.t.pointed(record):
		return
	case len(addr) == 4:
		b.addrs4++
	default:
		b.addrs6++
	}
	b.t.entries++
}

// index builds the index of names again, for n of them.
func (b *builder) index(n int) {
	t := b.t
	t.names = index{} // lets the collector free it
	t.names = newIndex(n)
	for off := range t.all {
		b.another()
		t.names.insert(maphash.Bytes(t.seed, t.name(off)), off)
	}
}

// push appends to the log.
func (b *builder) push(p pair) {
	last := len(b.log) - 1
	if b.logged%logBlock == 0 {
		var block []pair
		if last++; last > 0 {
			block = make([]pair, 0, logBlock)
		}
		b.log = append(b.log, block)
	}
	b.log[last] = append(b.log[last], p)
	b.logged++
}

func (b *builder) pair(i uint32) *pair { return &b.log[i/logBlock][i%logBlock] }

func (b *builder) hash(p *pair) uint64 {
	var key [20]byte
	binary.NativeEndian.PutUint32(key[:], p.record)
	copy(key[4:], p.addr[:])
	return maphash.Bytes(b.t.seed, key[:])
}

// mapped returns an address of 4 or 16 octets as an IPv6 one.
func mapped(addr []byte) [16]byte {
	a, _ := netip.AddrFromSlice(addr)
	return a.As16()
}

// octets is the inverse of mapped, as a view of p.
func (p *pair) octets() []byte {
	if netip.AddrFrom16(p.addr).Is4In6() {
		return p.addr[12:]
	}
	return p.addr[:]
}

// table returns the finished table. The builder must not be used afterwards.
func (b *builder) table() *Table {
	b.seen = index{}
	b.makeLists()
	t := b.t
	b.index(t.names.used)
	b.makeTree()
	if b.addrs4 > 0 {
		b.makeReverse(&t.rev4, 4, b.addrs4)
	}
	if b.addrs6 > 0 {
		b.makeReverse(&t.rev6, 16, b.addrs6)
	}
	return t
}

// makeLists makes a list for each name in the log.
func (b *builder) makeLists() {
	order := make([]uint64, b.logged) // by name, then in the order of the file
	for i := range uint32(b.logged) {
		order[i] = uint64(b.pair(i).record)<<32 | uint64(i)
	}
	slices.Sort(order)

	size := 0
	for i, o := range order {
		p := b.pair(uint32(o))
		size += len(p.octets())
		if i == 0 || order[i-1]>>32 != o>>32 {
			size += listHead + len(b.inline(p.record))
		}
	}
	b.t.lists = make([]byte, 0, size)
	for len(order) > 0 {
		n := 1
		for n < len(order) && order[n]>>32 == order[0]>>32 {
			n++
		}
		b.makeList(uint32(order[0]>>32), order[:n])
		order = order[n:]
	}
}

// makeList makes the list of one name. The lower halves of order are the offsets of its further
// addresses in the log.
func (b *builder) makeList(record uint32, order []uint64) {
	l := b.t.lists
	start := len(l)
	l = append(l, make([]byte, listHead)...)
	for i, size := range []int{4, 16} {
		n := len(l)
		if addr := b.inline(record); len(addr) == size {
			l = append(l, addr...)
		}
		for _, o := range order {
			if addr := b.pair(uint32(o)).octets(); len(addr) == size {
				l = append(l, addr...)
			}
		}
		binary.NativeEndian.PutUint32(l[start+4*i:], uint32((len(l)-n)/size))
	}
	b.t.lists = l
	b.t.setList(record, uint32(start))
}

// inline returns the address of a name that comes first in the file.
func (b *builder) inline(record uint32) []byte {
	return b.t.first(record, b.t.firstSize(record))
}

// each yields every name that is a PTR target with every address of size octets, in the order of
// the file.
func (b *builder) each(size int) iter.Seq2[uint32, []byte] {
	if b.merged != nil {
		return b.eachMerged(size)
	}
	return func(yield func(uint32, []byte) bool) {
		next := uint32(0)
		further := func(end uint32) bool {
			for ; next < uint32(b.logged) && b.pair(next).before <= end; next++ {
				p := b.pair(next)
				if addr := p.octets(); len(addr) == size && b.t.pointed(p.record) && !yield(p.record, addr) {
					return false
				}
			}
			return true
		}
		for record := range b.t.all {
			if !further(record) {
				return
			}
			if addr := b.inline(record); len(addr) == size && b.t.pointed(record) && !yield(record, addr) {
				return
			}
		}
		further(math.MaxUint32)
	}
}

// makeReverse fills r for addresses of size octets. n is an upper bound of the different addresses
// of the names.
func (b *builder) makeReverse(r *reverse, size, n int) {
	s, words := &b.t.store, size/4
	r.index = newIndex(n)

	// At first a group is its address and the number of its names.
	group := func(addr []byte, names uint32) uint32 {
		place := uint32(len(r.groups))
		for i := range words {
			r.groups = append(r.groups, binary.NativeEndian.Uint32(addr[4*i:]))
		}
		r.groups = append(r.groups, names)
		return isGroup | place
	}
	var nets networks
	for record, addr := range b.each(size) {
		b.another()
		nets.add(addr)
		hash := maphash.Bytes(b.t.seed, addr)
		slot, found := r.seek(s, hash, addr)
		switch {
		case found && r.slots[slot]&isGroup != 0:
			r.groups[int(r.slots[slot]&^isGroup)+words]++
		case found:
			r.slots[slot] = group(addr, 2)
		case string(s.first(record, size)) == string(addr):
			r.put(slot, hash, record)
		default:
			r.put(slot, hash, group(addr, 1))
		}
	}
	if len(r.groups) > 0 {
		b.fillGroups(r, size)
		if b.merged != nil {
			r.unrepeat(size)
		}
	}
	if r.used < n-n/8 {
		b.shrink(r, size)
	}
	b.makeOrder(r, size, &nets)
}

// fillGroups makes room for the groups' names and stores them.
func (b *builder) fillGroups(r *reverse, size int) {
	s, words := &b.t.store, size/4
	total := 0
	for i := words; i < len(r.groups); i += words + 1 {
		total += words + 1 + int(r.groups[i])
	}
	groups := make([]uint32, total)
	place := 0
	for slot, value := range r.slots {
		if value&isGroup == 0 {
			continue
		}
		g := r.groups[value&^isGroup:]
		copy(groups[place:], g[:words])
		r.slots[slot] = isGroup | uint32(place)
		place += words + 1 + int(g[words])
	}
	r.groups = groups
	for record, addr := range b.each(size) {
		b.another()
		slot, _ := r.seek(s, maphash.Bytes(b.t.seed, addr), addr)
		if value := r.slots[slot]; value&isGroup != 0 {
			g := groups[int(value&^isGroup)+words:]
			g[0]++
			g[g[0]] = record
		}
	}
}

// shrink builds the index of r again, in its final size.
func (b *builder) shrink(r *reverse, size int) {
	old := r.index
	r.index = newIndex(old.used)
	var buf [16]byte
	for i, value := range old.slots {
		b.another()
		if old.tags[i] != 0 {
			r.insert(maphash.Bytes(b.t.seed, r.addr(&b.t.store, value, buf[:size])), value)
		}
	}
}

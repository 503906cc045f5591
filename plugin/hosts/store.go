package hosts

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// store holds the bytes of names and addresses.
//
// A record is a header of two octets, the name, and the address: 4 octets, or 16 if the header has
// isSix. If the header has isList, the name has more than one address, and the offset of a list
// replaces the address. A list is the number of IPv4 addresses and that of IPv6 addresses, 4 octets
// each, then the addresses.
//
// A wildcard's name is stored without the asterisk, so it begins with a dot. Otherwise, only the
// root's name begins with one.
type store struct {
	// Records are in blocks, so that growing copies none of them. The block is the upper half of a
	// record's offset. No record spans two blocks.
	blocks [][]byte
	lists  []byte
}

const (
	blockBits = 16
	blockSize = 1 << blockBits
	maxBlocks = isGroup >> blockBits

	headSize = 2
	lenMask  = 1<<10 - 1 // 255 octets, each at most \DDD, are fewer
	isSix    = 1 << 10   // the first address in the file is an IPv6 one
	isList   = 1 << 11
	// No PTR record leads to the name.
	noPointer = 1 << 12

	listHead = 8
)

// record returns the header, the name and the bytes after the name, up to the end of the block.
func (s *store) record(off uint32) (head uint16, name, rest []byte) {
	b := s.blocks[off>>blockBits][off%blockSize:]
	head = binary.NativeEndian.Uint16(b)
	end := headSize + int(head&lenMask)
	return head, b[headSize:end:end], b[end:]
}

func (s *store) name(off uint32) []byte {
	_, name, _ := s.record(off)
	return name
}

// wildcard reports whether a record's name is that of a wildcard.
func wildcard[T string | []byte](name T) bool { return len(name) > 1 && name[0] == '.' }

// addresses returns the addresses of a record.
func (s *store) addresses(off uint32) Addresses {
	head, _, rest := s.record(off)
	switch {
	case head&isList != 0:
		l := s.lists[binary.NativeEndian.Uint32(rest):]
		end4 := listHead + 4*int(binary.NativeEndian.Uint32(l))
		end6 := end4 + 16*int(binary.NativeEndian.Uint32(l[4:]))
		return Addresses{v4: l[listHead:end4:end4], v6: l[end4:end6:end6]}
	case head&isSix != 0:
		return Addresses{v6: rest[:16:16]}
	}
	return Addresses{v4: rest[:4:4]}
}

// first returns the first of a record's addresses that are size octets long,
// nil if there is none.
func (s *store) first(off uint32, size int) []byte {
	a := s.addresses(off)
	all := a.v4
	if size == 16 {
		all = a.v6
	}
	return all[:min(size, len(all))]
}

// firstSize returns the length of a name's first address in the file.
func (s *store) firstSize(off uint32) int {
	if head, _, _ := s.record(off); head&isSix != 0 {
		return 16
	}
	return 4
}

// setList replaces a record's address by the offset of a list.
func (s *store) setList(off, list uint32) {
	head, _, rest := s.record(off)
	binary.NativeEndian.PutUint32(rest, list)
	binary.NativeEndian.PutUint16(s.blocks[off>>blockBits][off%blockSize:], head|isList)
}

// pointed reports whether PTR records lead to a record's name.
func (s *store) pointed(off uint32) bool {
	head, _, _ := s.record(off)
	return head&noPointer == 0
}

// add appends a record and returns its offset, false if the store is full.
// head is noPointer or 0.
func (s *store) add(head uint16, name, addr []byte) (off uint32, ok bool) {
	last := len(s.blocks) - 1
	size := headSize + len(name) + len(addr)
	if last < 0 || len(s.blocks[last])+size > blockSize {
		if len(s.blocks) == maxBlocks {
			return 0, false
		}
		last++
		var b []byte // the first block is often far from full
		if last > 0 {
			b = make([]byte, 0, blockSize)
		}
		s.blocks = append(s.blocks, b)
	}
	head |= uint16(len(name))
	if len(addr) == 16 {
		head |= isSix
	}
	b := s.blocks[last]
	off = s.end()
	b = binary.NativeEndian.AppendUint16(b, head)
	b = append(b, name...)
	s.blocks[last] = append(b, addr...)
	return off, true
}

// end returns an offset that is above those of all records and not above that
// of the next one.
func (s *store) end() uint32 {
	last := len(s.blocks) - 1
	return uint32(last)<<blockBits + uint32(len(s.blocks[last]))
}

// all yields the offset of every record in the order in which they were added.
func (s *store) all(yield func(off uint32) bool) {
	for n, b := range s.blocks {
		for i := 0; i < len(b); {
			off := uint32(n)<<blockBits + uint32(i)
			if !yield(off) {
				return
			}
			head := binary.NativeEndian.Uint16(b[i:])
			i += headSize + int(head&lenMask) + 4
			if head&isSix != 0 {
				i += 12
			}
		}
	}
}

// index is a hash table with linear probing that maps the hash of a key to values. The caller
// determines which of the values belongs to the key. The upper bits of a hash select where its
// probing begins, the lowest eight are its tag. A tag beside each value avoids comparing most
// values of other keys.
type index struct {
	tags  []uint8 // 0: the slot is free
	slots []uint32
	used  int
}

// newIndex returns an index with room for n values. It always has a free
// slot, which ends a search.
func newIndex(n int) index {
	n += n/4 + 1
	return index{tags: make([]uint8, n), slots: make([]uint32, n)}
}

// full reports whether the index has to grow before the next insertion.
func (x *index) full() bool { return x.used+x.used/4+1 >= len(x.tags) }

func (x *index) home(hash uint64) int {
	i, _ := bits.Mul64(hash, uint64(len(x.tags)))
	return int(i)
}

func tag(hash uint64) uint8 { return max(uint8(hash), 1) }

// next returns the first slot from i on that has the tag, or the free slot
// that ends the search. It wraps around; i may be one too high.
func (x *index) next(i int, tag uint8) (slot int, found bool) {
	for ; ; i++ {
		if i == len(x.tags) {
			i = 0
		}
		switch x.tags[i] {
		case tag:
			return i, true
		case 0:
			return i, false
		}
	}
}

func (x *index) put(slot int, hash uint64, value uint32) {
	x.tags[slot] = tag(hash)
	x.slots[slot] = value
	x.used++
}

// insert inserts a value whose key the index does not have, and returns its slot.
func (x *index) insert(hash uint64, value uint32) int {
	i := x.home(hash)
	for x.tags[i] != 0 {
		if i++; i == len(x.tags) {
			i = 0
		}
	}
	x.put(i, hash, value)
	return i
}

// seek returns the slot of the record with this name, or the free slot for it. The values of x are
// offsets of records.
func (x *index) seek(s *store, hash uint64, name string) (slot int, found bool) {
	for i := x.home(hash); ; i++ {
		i, found = x.next(i, tag(hash))
		if !found || string(s.name(x.slots[i])) == name {
			return i, found
		}
	}
}

// reverse finds the names of an address of one family. If the address has one name, and is the
// first of the family that this name has, the value is the record's offset. Otherwise it is isGroup
// plus the offset of a group: the address in words of the machine, the number of names, and the
// offsets of their records.
type reverse struct {
	index
	groups []uint32

	// order has one of the values, sorted by address, for each network of 16
	// addresses in which an address has a name.
	order []uint32
}

// isGroup marks a value of reverse that is an offset in groups.
const isGroup = 1 << 31

// seek returns the slot of an address, or the free slot for it.
func (r *reverse) seek(s *store, hash uint64, addr []byte) (slot int, found bool) {
	for i := r.home(hash); ; i++ {
		i, found = r.next(i, tag(hash))
		if !found || r.holds(s, r.slots[i], addr) {
			return i, found
		}
	}
}

func (r *reverse) holds(s *store, value uint32, addr []byte) bool {
	var buf [16]byte
	return bytes.Equal(r.addr(s, value, buf[:len(addr)]), addr)
}

// addr returns the address of a value, with the length of buf. It may be in
// buf.
func (r *reverse) addr(s *store, value uint32, buf []byte) []byte {
	if value&isGroup == 0 {
		return s.first(value, len(buf))
	}
	g := r.groups[value&^isGroup:]
	for i := 0; i < len(buf); i += 4 {
		binary.NativeEndian.PutUint32(buf[i:], g[i/4])
	}
	return buf
}

// names returns the names of the address of a value, which is size octets long, in t.
func (r *reverse) names(t *Table, value uint32, size int) Names {
	if value&isGroup == 0 {
		return Names{t: t, one: value}
	}
	return Names{t: t, group: r.members(value, size)}
}

// members returns the records of a group whose address is size octets long.
func (r *reverse) members(value uint32, size int) []uint32 {
	g := r.groups[int(value&^isGroup)+size/4:]
	return g[1 : 1+g[0]]
}

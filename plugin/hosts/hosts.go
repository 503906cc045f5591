// Package hosts turns the lines of a hosts file into a table that answers A, AAAA and PTR
// questions.
//
// A line is an address and its names, as in hosts(5):
//
//	10.0.0.7      db.example.org db   # a comment
//	fe80::1%eth0  router.example.org
//	10.0.0.80     *.apps.example.org
//
// The rules are those of CoreDNS's hosts plugin. Anything from a # to the end of the line is a
// comment, the zone of an IPv6 address is dropped, names are made fully qualified, a * as the first
// label stands for exactly one label, and every name that is not a wildcard is also a PTR target of
// its addresses.
//
// There are some differences. Names are compared in their wire form, without regard to the case of
// ASCII letters (RFC 4343), so it does not matter how a file escapes them. A name outside ASCII is
// served by its octets and by its ASCII form (RFC 5891); only the latter is a PTR target. Repeated
// addresses of one name count once, as RFC 2181 section 5 requires of an RRset. A CR alone ends a
// line, and a byte order mark before a line is dropped. A field that is not a domain name (a label
// over 63 octets, a name over 255, an empty label, a backslash with nothing after it) is left out
// and reported: no question could contain it, and no PTR record could hold it.
//
// # Memory
//
// A [Table] is made for files of millions of lines, in a process with a garbage collector. A name,
// its addresses and its place in the forward and the reverse index are bytes and 32-bit offsets in
// a few large blocks without pointers, so the collector has nothing to follow in them. A name with
// one address takes the length of the name plus about 20 bytes, indexes included.
// [Table.NonTerminal] needs about 9 more bytes for each name that shares no parent with a name
// before it, and none for others. [Table.HasNames] needs 4 more bytes for each network of 16
// addresses that has names.
package hosts

import (
	"crypto/sha256"
	"hash/maphash"
	"net/netip"
	"unsafe"
)

// Table holds the entries of one hosts file. [Parse] makes it, it never
// changes afterwards, and any number of goroutines may read it without a
// lock. A nil *Table is an empty one.
type Table struct {
	store
	seed  maphash.Seed
	names index // by name: offsets of records
	wild  bool  // some record is a wildcard
	tree  tree  // the names above those of records
	rev4  reverse
	rev6  reverse

	entries            int
	problems, warnings faults
	sum                Sum
}

// Sum is a cryptographic hash of the lines that a Table was made of, the same in every process.
type Sum [sha256.Size]byte

// Sum returns the Sum of the table. That of an empty one, a nil *Table, is all zero.
func (t *Table) Sum() Sum {
	if t == nil {
		return Sum{}
	}
	return t.sum
}

// Problem is a fault of a line, or of a name in a line.
type Problem struct {
	Line   int    // counted from 1
	Reason string // the fault, and the consequence
}

// Addresses are the IPv4 and IPv6 addresses of one name, in the order of the
// file and without duplicates. It is a view of the table and costs nothing to
// copy; the zero value holds no address.
type Addresses struct {
	v4, v6 []byte
}

// Len4 returns the number of IPv4 addresses.
func (a Addresses) Len4() int { return len(a.v4) / 4 }

// Len6 returns the number of IPv6 addresses.
func (a Addresses) Len6() int { return len(a.v6) / 16 }

// At4 returns IPv4 address i in network byte order. It panics unless 0 <= i < Len4().
func (a Addresses) At4(i int) [4]byte { return [4]byte(a.v4[i*4 : i*4+4]) }

// At6 returns IPv6 address i in network byte order. It panics unless 0 <= i < Len6().
func (a Addresses) At6(i int) [16]byte { return [16]byte(a.v6[i*16 : i*16+16]) }

// Names are the names that share one address, in the order of the file and
// without duplicates. It is a view of the table and costs nothing to copy; the
// zero value holds no name.
type Names struct {
	t     *Table
	one   uint32   // the only name, when group is empty
	group []uint32 // offsets of records
}

// Len returns the number of names.
func (n Names) Len() int {
	if len(n.group) == 0 && n.t != nil {
		return 1
	}
	return len(n.group)
}

// At returns name i, in lower case, in presentation form and with the final dot. It panics unless 0
// <= i < Len(). The string shares the table's memory: a reference to it holds 64 KiB of the table
// in memory.
func (n Names) At(i int) string {
	if n.group == nil && i == 0 {
		return view(n.t.name(n.one))
	}
	return view(n.t.name(n.group[i]))
}

// Lookup returns the addresses of name, which must be in lower case, fully qualified and in
// presentation form, as CoreDNS's request.Request.Name returns it. ok reports whether the name has
// an entry of its own; if so, the answer for a type that the name lacks is NODATA. A wildcard has
// the name with the asterisk only, see [Table.LookupWildcard]. Lookup does not allocate.
func (t *Table) Lookup(name string) (a Addresses, ok bool) {
	if t == nil || name == "" || wildcard(name) {
		return Addresses{}, false
	}
	if len(name) > 2 && name[:2] == "*." {
		name = name[1:]
	}
	off, ok := t.find(name)
	if !ok {
		return Addresses{}, false
	}
	return t.addresses(off), true
}

// LookupWildcard returns the addresses of the wildcard that covers name, which must have the form
// that Lookup takes: *.example covers a.example and *.example itself, and neither example nor
// a.b.example. It is for a name that does not exist: neither it nor a name below it is in any of
// the tables that serve together, or in anything else that serves its zone (RFC 4592, section
// 3.3.1). ok reports whether there is such a wildcard. LookupWildcard does not allocate, and costs
// nothing if the table has no wildcard.
func (t *Table) LookupWildcard(name string) (a Addresses, ok bool) {
	if t == nil || !t.wild {
		return Addresses{}, false
	}
	covering := parent(name)
	if !wildcard(covering) {
		return Addresses{}, false
	}
	off, ok := t.find(covering)
	if !ok {
		return Addresses{}, false
	}
	return t.addresses(off), true
}

// Names returns the names that the file has for addr. An IPv4-mapped IPv6 address counts as the
// IPv4 address, and a zone is disregarded. Names does not allocate.
func (t *Table) Names(addr netip.Addr) Names {
	if t == nil || !addr.IsValid() {
		return Names{}
	}
	r, key := &t.rev6, addr.As16()
	k := key[:]
	if addr = addr.Unmap(); addr.Is4() {
		r, k = &t.rev4, k[12:]
	}
	if r.used == 0 {
		return Names{}
	}
	i, ok := r.seek(&t.store, maphash.Bytes(t.seed, k), k)
	if !ok {
		return Names{}
	}
	return r.names(t, r.slots[i], len(k))
}

// Len returns the number of addresses of all names plus the number of names of
// all addresses.
func (t *Table) Len() int {
	if t == nil {
		return 0
	}
	return t.entries
}

// Problems returns the first ten lines and names of the file that were left out, in the order of
// its lines, and their total number.
func (t *Table) Problems() ([]Problem, int) {
	if t == nil {
		return nil, 0
	}
	return t.problems.first, t.problems.n
}

// Warnings returns the first ten names of the file that are served but may be mistakes, in the
// order of its lines, and their total number.
func (t *Table) Warnings() ([]Problem, int) {
	if t == nil {
		return nil, 0
	}
	return t.warnings.first, t.warnings.n
}

// find returns the record of a name. A wildcard's record is stored by the name without its
// asterisk.
func (t *Table) find(name string) (off uint32, ok bool) {
	if t.names.used == 0 {
		return 0, false
	}
	i, ok := t.names.seek(&t.store, maphash.String(t.seed, name), name)
	if !ok {
		return 0, false
	}
	return t.names.slots[i], true
}

// view returns b as a string without a copy. That is safe because no byte of a name is written
// again once its record is in place.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

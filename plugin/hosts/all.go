package hosts

import "net/netip"

// All yields every name that has an address, each once: in lower case, in presentation form, with
// the final dot, and wildcards with their asterisk. The string shares the table's memory, see
// [Names.At].
func (t *Table) All(yield func(name string) bool) {
	if t == nil {
		return
	}
	for off := range t.store.all {
		name := view(t.name(off))
		if wildcard(t.name(off)) {
			name = "*" + name
		}
		if !yield(name) {
			return
		}
	}
}

// Addrs yields every address that has a name, see [Table.Names], each once and
// in no order.
func (t *Table) Addrs(yield func(netip.Addr) bool) {
	if t == nil {
		return
	}
	var buf [16]byte
	for _, r := range [...]struct {
		*reverse
		size int
	}{{&t.rev4, 4}, {&t.rev6, 16}} {
		for i, value := range r.slots {
			if r.tags[i] == 0 {
				continue
			}
			ip, _ := netip.AddrFromSlice(r.addr(&t.store, value, buf[:r.size]))
			if !yield(ip) {
				return
			}
		}
	}
}

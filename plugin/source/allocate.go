package source

import (
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"net/netip"
	"slices"
)

// The range of cluster IPs for Services without one, that of a common API server. Its first 256 addresses stay free for
// addresses that are specified: Kubernetes reserves as many for them (KEP-3070).
var (
	serviceRange = netip.MustParsePrefix("10.96.0.0/16")
	serviceFirst = 0x100
	serviceLast  = 0xFFFE // 10.96.255.255 is left out, as in an API server
)

// probes is the number of addresses derived from a name before the next free one is taken.
const probes = 16

// allocate returns a cluster IP for each of names, except those for which the range is full. taken are the addresses
// that files specify for other Services.
//
// An address is derived from a hash of the name alone, so it is the same at every start and for every order of files.
// If two names, or a name and a specified address, collide, one gets the next address of its hash: of two names, the
// later in the alphabet.
func allocate(names []objectName, taken map[netip.Addr]struct{}) map[objectName]netip.Addr {
	names = slices.SortedFunc(slices.Values(names), func(a, b objectName) int {
		return cmp.Or(cmp.Compare(a.namespace, b.namespace), cmp.Compare(a.name, b.name))
	})
	used := make(map[netip.Addr]struct{}, len(taken)+len(names))
	for a := range taken {
		used[a] = struct{}{}
	}
	out := make(map[objectName]netip.Addr, len(names))
	for _, name := range names {
		if a, ok := free(name, used); ok {
			used[a] = struct{}{}
			out[name] = a
		}
	}
	return out
}

func free(name objectName, used map[netip.Addr]struct{}) (netip.Addr, bool) {
	size := serviceLast - serviceFirst + 1
	var offset int
	for probe := range probes {
		offset = int(hashName(name, byte(probe)) % uint64(size)) // #nosec G115 -- below size
		if a := serviceAddr(offset); !has(used, a) {
			return a, true
		}
	}
	for i := range size { // nearly full
		if a := serviceAddr((offset + i) % size); !has(used, a) {
			return a, true
		}
	}
	return netip.Addr{}, false
}

func has(used map[netip.Addr]struct{}, a netip.Addr) bool {
	_, ok := used[a]
	return ok
}

func hashName(name objectName, probe byte) uint64 {
	h := fnv.New64a()
	h.Write([]byte(name.String()))
	h.Write([]byte{0, probe})
	return h.Sum64()
}

func serviceAddr(offset int) netip.Addr {
	b := serviceRange.Addr().As4()
	n := binary.BigEndian.Uint32(b[:]) + uint32(serviceFirst+offset) // #nosec G115 -- at most serviceLast
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}

package services

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
)

// Slice is the packed form of an EndpointSlice's ready endpoints, all in one string like a Service: the collector sees
// one object, with nothing to follow. An address takes four bytes or sixteen, and a name takes some only if the
// endpoint has one of its own. It never changes. The zero Slice stands for none: only IsZero may be called on it.
//
// The endpoints are sorted by address, and those with the same address in the order of their PTR records: hostnames
// first, then names of pods, each in alphabetical order, then endpoints without a name of their own.
type Slice struct {
	// A head, and the parts whose lengths it contains, in this order; the zones are the rest.
	packed string
}

const (
	atFlags   = 0
	atService = 1  // length of the Service's name; it is stored as "service.namespace/object"
	atSpace   = 2  // length of the namespace
	atCluster = 3  // length of the suffix of an imported slice: "." and its cluster
	atObject  = 4  // length of the object's name; this and the following take four bytes
	atCount4  = 8  // number of IPv4 addresses
	atCount6  = 12 // number of IPv6 addresses
	atPorts   = 16 // length of the portSet
	atNames   = 20 // length of the nameList
	sliceHead = 24
)

// The flags.
const (
	sameAddr byte = 1 << iota // an address comes more than once
	sameName                  // a name comes more than once
)

// endpoint is an address of a Slice under construction.
type endpoint struct {
	addr netip.Addr
	name string
	rank rank
	zone byte // its number, from 1 on; 0 if it is not known
}

// rank orders the names of one address in PTR records.
type rank uint8

const (
	hostname rank = iota
	podName
	derived // from the address
)

func (e endpoint) compare(o endpoint) int {
	return cmp.Or(e.addr.Compare(o.addr), cmp.Compare(e.rank, o.rank), strings.Compare(e.name, o.name))
}

// NewSlice packs spec. It returns nil if the slice refers to no Service that a query could reach. An endpoint's name
// that is not a DNS label is replaced by the one derived from the address, and a zone that no query can contain is
// dropped. The work for n addresses is n log n.
func NewSlice(spec SliceSpec) *Slice {
	if !validLabel(spec.Service) || !validLabel(spec.Namespace) {
		return nil
	}
	var suffix string
	if validLabel(spec.Cluster) {
		suffix = "." + spec.Cluster
	}
	all, zones := spec.endpoints()
	names, flags := packNames(all)
	n4 := 0
	for i, e := range all {
		if e.addr.Is4() {
			n4++
		}
		if i > 0 && e.addr == all[i-1].addr {
			flags |= sameAddr
		}
	}
	ports := packPorts(spec.Ports)

	var head [sliceHead]byte
	head[atFlags] = flags
	head[atService], head[atSpace], head[atCluster] = byte(len(spec.Service)), byte(len(spec.Namespace)), byte(len(suffix))
	put := func(at, n int) { binary.LittleEndian.PutUint32(head[at:], uint32(n)) } // #nosec G115 -- no object has 4 GB
	put(atObject, len(spec.Name))
	put(atCount4, n4)
	put(atCount6, len(all)-n4)
	put(atPorts, len(ports))
	put(atNames, len(names))

	var b strings.Builder
	b.Grow(len(head) + len(spec.Service) + 1 + len(spec.Namespace) + 1 + len(spec.Name) + len(suffix) +
		4*n4 + 16*(len(all)-n4) + len(ports) + len(names) + len(zones))
	b.Write(head[:])
	for _, s := range [...]string{spec.Service, ".", spec.Namespace, "/", spec.Name, suffix} {
		b.WriteString(s)
	}
	for _, e := range all {
		if e.addr.Is4() {
			ip := e.addr.As4()
			b.Write(ip[:])
		} else {
			ip := e.addr.As16()
			b.Write(ip[:])
		}
	}
	b.WriteString(string(ports))
	b.Write(names)
	b.WriteString(zones)
	return &Slice{b.String()}
}

// endpoints returns the addresses in the order of a Slice, and the packed zones.
func (spec *SliceSpec) endpoints() ([]endpoint, string) {
	n := 0
	for i := range spec.Endpoints {
		n += len(spec.Endpoints[i].Addrs)
	}
	all := make([]endpoint, 0, n)
	var zones zoneBuilder
	for i := range spec.Endpoints {
		ep := &spec.Endpoints[i]
		e := endpoint{rank: derived, zone: zones.number(ep.Zone)}
		if name := strings.ToLower(ep.Name); validLabel(name) {
			if e.name, e.rank = name, hostname; ep.PodName {
				e.rank = podName
			}
		}
		for _, a := range ep.Addrs {
			if e.addr = a.Unmap().WithZone(""); e.addr.IsValid() {
				all = append(all, e.underived())
			}
		}
	}
	if !slices.IsSortedFunc(all, endpoint.compare) {
		slices.SortFunc(all, endpoint.compare)
	}
	return all, zones.packed(all)
}

// underived returns e without its name if that is the one derived from its address: another endpoint may have that as
// well, and a name must be found once.
func (e endpoint) underived() endpoint {
	var buf [64]byte
	if e.rank != derived && strings.Count(e.name, "-") >= 2 && string(appendDerived(buf[:0], e.addr)) == e.name {
		e.name, e.rank = "", derived
	}
	return e
}

// nameList holds the endpoints' own names, "" if none has one. It begins with four bytes for each address: the offset
// of its name, 0 without one. A name is one byte, its length and isPodName, followed by its text.
type nameList string

const isPodName = 1 << 6 // above the length of a label

func packNames(all []endpoint) (names []byte, flags byte) {
	var own []string
	size := 4 * len(all)
	for _, e := range all {
		if e.name != "" {
			own = append(own, e.name)
			size += 1 + len(e.name)
		}
	}
	if len(own) == 0 {
		return nil, 0
	}
	if repeats(own) {
		flags = sameName
	}
	names = make([]byte, 4*len(all), size)
	for i, e := range all {
		if e.name == "" {
			continue
		}
		binary.LittleEndian.PutUint32(names[4*i:], uint32(len(names))) // #nosec G115 -- no object has 4 GB
		length := byte(len(e.name))
		if e.rank == podName {
			length |= isPodName
		}
		names = append(append(names, length), e.name...)
	}
	return names, flags
}

// at returns the own name of the endpoint with the i-th address and its rank, "" if it has none.
func (l nameList) at(i int) (string, rank) {
	if l == "" {
		return "", derived
	}
	at := int(little32(string(l), 4*i))
	if at == 0 {
		return "", derived
	}
	length, from := int(l[at]), at+1
	if length&isPodName != 0 {
		length &^= isPodName
		return string(l[from : from+length]), podName
	}
	return string(l[from : from+length]), hostname
}

func little32(s string, at int) uint32 {
	p := s[at : at+4]
	return uint32(p[0]) | uint32(p[1])<<8 | uint32(p[2])<<16 | uint32(p[3])<<24
}

func repeats[T comparable](all []T) bool {
	if len(all) <= 16 { // the usual case
		for i, v := range all {
			if slices.Contains(all[:i], v) {
				return true
			}
		}
		return false
	}
	seen := make(map[T]struct{}, len(all))
	for _, v := range all {
		seen[v] = struct{}{}
	}
	return len(seen) < len(all)
}

// IsZero reports whether s is the zero Slice.
func (s Slice) IsZero() bool { return s.packed == "" }

// number returns a number of four bytes of the head.
func (s Slice) number(at int) int { return int(little32(s.packed, at)) }

// Where the parts begin.
func (s Slice) fromSpace() int   { return sliceHead + int(s.packed[atService]) + 1 }
func (s Slice) fromObject() int  { return s.fromSpace() + int(s.packed[atSpace]) + 1 }
func (s Slice) fromCluster() int { return s.fromObject() + s.number(atObject) }
func (s Slice) fromAddrs() int   { return s.fromCluster() + int(s.packed[atCluster]) }
func (s Slice) fromPorts() int   { return s.fromAddrs() + 4*s.number(atCount4) + 16*s.number(atCount6) }
func (s Slice) fromNames() int   { return s.fromPorts() + s.number(atPorts) }
func (s Slice) fromZones() int   { return s.fromNames() + s.number(atNames) }

// Namespace returns the namespace of the object.
func (s Slice) Namespace() string { return s.packed[s.fromSpace() : s.fromObject()-1] }

// ObjectName returns the name of the object.
func (s Slice) ObjectName() string { return s.packed[s.fromObject():s.fromCluster()] }

// key is "namespace/name" of the object.
func (s Slice) key() string { return s.packed[s.fromSpace():s.fromCluster()] }

// Owner returns the two labels of the Service that the slice belongs to, "name.namespace".
func (s Slice) Owner() string { return s.packed[sliceHead : s.fromObject()-1] }

// Service returns the name of the Service that the slice belongs to.
func (s Slice) Service() string { return s.packed[sliceHead : s.fromSpace()-1] }

// suffix is "." and the cluster that an imported slice comes from, "" for any other.
func (s Slice) suffix() string { return s.packed[s.fromCluster():s.fromAddrs()] }

// Addrs returns the addresses of the slice's ready endpoints, of each family in order.
func (s Slice) Addrs() Addrs {
	start, end := s.fromAddrs(), s.fromPorts()
	mid := start + 4*s.number(atCount4)
	return Addrs{s.packed[start:mid], s.packed[mid:end]}
}

// count is the number of addresses.
func (s Slice) count() int { return s.number(atCount4) + s.number(atCount6) }

func (s Slice) ports() portSet { return portSet(s.packed[s.fromPorts():s.fromNames()]) }

func (s Slice) names() nameList { return nameList(s.packed[s.fromNames():s.fromZones()]) }

func (s Slice) zones() zoneList {
	return zoneList{s.packed[s.fromZones():], s.count()}
}

// spans yields the range [from, to) of each address, in order.
func (s Slice) spans(yield func(from, to int) bool) {
	addrs, n := s.Addrs(), s.count()
	for from := 0; from < n; {
		to := from + 1
		if s.packed[atFlags]&sameAddr != 0 {
			for to < n && addrs.at(to) == addrs.at(from) {
				to++
			}
		}
		if !yield(from, to) {
			return
		}
		from = to
	}
}

// sorted are addresses in order, like those of a Slice.
type sorted struct{ Addrs }

// find returns the range [from, to) of a.
func (s sorted) find(a netip.Addr) (from, to int) {
	packed, start, size := s.v4, 0, 4
	ip := a.As16()
	key := ip[12:]
	if a.Is6() {
		packed, start, size, key = s.v6, s.Len4(), 16, ip[:]
	}
	n := len(packed) / size
	at := func(i int) string { return packed[i*size : (i+1)*size] }
	from, to = 0, n
	for from < to {
		if mid := (from + to) / 2; at(mid) < string(key) {
			from = mid + 1
		} else {
			to = mid
		}
	}
	for to < n && at(to) == string(key) {
		to++
	}
	return start + from, start + to
}

// zoneList holds the topology zones of a Slice: a length and a name for each zone, then a byte for each address, in
// order: the number of its zone, from 1 on. It is empty if no zone is known.
type zoneList struct {
	packed string
	n      int // number of addresses
}

// names yields the zones and their numbers.
func (z zoneList) names(yield func(byte, string) bool) {
	if z.packed == "" {
		return
	}
	rest := z.packed[:len(z.packed)-z.n]
	for number := byte(1); rest != ""; number++ {
		end := 1 + int(rest[0])
		if !yield(number, rest[1:end]) {
			return
		}
		rest = rest[end:]
	}
}

// number returns the number of a zone, 0 if no address is in it.
func (z zoneList) number(zone string) byte {
	for number, name := range z.names {
		if name == zone {
			return number
		}
	}
	return 0
}

// at returns the number of the zone of the endpoint with the i-th address, 0 if it is not known.
func (z zoneList) at(i int) byte {
	if z.packed == "" {
		return 0
	}
	return z.packed[len(z.packed)-z.n+i]
}

// zoneBuilder makes a zoneList.
type zoneBuilder struct {
	names   []string // lower case
	numbers map[string]byte
}

// number returns the number of a zone, 0 for "". It drops zones beyond 255; no provider has as many in a slice.
func (b *zoneBuilder) number(name string) byte {
	if name == "" || len(name) > 63 {
		return 0
	}
	name = strings.ToLower(name)
	if at := len(b.names); at > 0 && b.names[at-1] == name { // the usual case
		return byte(at)
	}
	number, known := b.numbers[name]
	if known || len(b.names) == 255 {
		return number
	}
	if b.numbers == nil {
		b.numbers = make(map[string]byte)
	}
	b.names = append(b.names, name)
	b.numbers[name] = byte(len(b.names))
	return byte(len(b.names))
}

func (b *zoneBuilder) packed(all []endpoint) string {
	if len(b.names) == 0 {
		return ""
	}
	var packed []byte
	for _, name := range b.names {
		packed = append(append(packed, byte(len(name))), name...)
	}
	for _, e := range all {
		packed = append(packed, e.zone)
	}
	return string(packed)
}

// Labels yields the endpoints' labels, below their Service, with their addresses.
func (s Slice) Labels(yield func(string, netip.Addr) bool) {
	addrs, suffix := s.Addrs(), s.suffix()
	for i := range addrs.len() {
		if !yield(s.labelAt(i)+suffix, addrs.at(i)) {
			return
		}
	}
}

// labelAt returns the label of the endpoint with the i-th address, without the suffix of an imported one.
func (s Slice) labelAt(i int) string {
	if name, _ := s.names().at(i); name != "" {
		return name
	}
	return string(appendDerived(nil, s.Addrs().at(i)))
}

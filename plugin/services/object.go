package services

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
)

// ServiceSpec is what the answers need of a Service.
type ServiceSpec struct {
	Namespace, Name string
	ClusterIPs      []netip.Addr // none when Headless or External
	Headless        bool         // clusterIP None
	External        bool         // type ExternalName
	ExternalName    string       // the target, with or without the trailing dot
	Ports           []Port
}

// Port is a port of a Service or of an EndpointSlice.
type Port struct {
	Name     string // may be empty
	Protocol string // TCP, UDP, SCTP, in any case
	Number   int32  // 1 to 65535; -1 when the object gives none
}

// SliceSpec is what the answers need of an EndpointSlice.
type SliceSpec struct {
	Namespace, Name string
	Service         string // the label kubernetes.io/service-name
	Cluster         string // of an imported slice: the cluster it comes from
	Ports           []Port // shared by all endpoints
	Endpoints       []Endpoint
}

// Endpoint is a ready endpoint of an EndpointSlice.
type Endpoint struct {
	Addrs []netip.Addr
	Name  string // the endpoint's own label; empty when it follows from the address
	Zone  string // the topology zone it is in; empty when that is of no interest
}

// PodSpec is what the answers need of a Pod.
type PodSpec struct {
	Namespace, Name string
	IPs             []netip.Addr
	Labels          map[string]string
}

// Service is the packed form of a Service, all of it in one string: with 100,000 Services most of an answer's time goes into
// fetching from memory what no cache of the CPU holds, and this is one thing to fetch. It never changes. The zero Service is
// none, which only IsZero may be asked of.
type Service struct {
	// A head of bytes, each at its place below, and what they give the lengths of, in this order; the ports are the rest.
	packed string
}

const (
	atKind     = iota
	atOwner    // length of "name.namespace", as it stands in a query
	atExternal // length of an ExternalName's target, fully qualified
	at4        // number of IPv4 addresses
	at6        // number of IPv6 addresses
	headLen
)

type serviceKind uint8

const (
	clusterIP serviceKind = iota
	headless
	externalName
)

// NewService packs spec. It returns nil if the Service's name or namespace is no DNS label (RFC 1035, section 2.3.4),
// so that no query can reach it. Of more than 255 cluster IPs of a family it keeps the first.
func NewService(spec ServiceSpec) *Service {
	if !validLabel(spec.Name) || !validLabel(spec.Namespace) {
		return nil
	}
	var kind serviceKind
	var external string
	var addrs packed
	switch {
	case spec.External:
		kind, external = externalName, target(spec.ExternalName)
	case spec.Headless:
		kind = headless
	default:
		addrs = pack(spec.ClusterIPs)
	}
	v := addrs.view()
	n4, n6 := min(v.Len4(), 255), min(v.Len6(), 255)

	head := string([]byte{
		atKind: byte(kind), atOwner: byte(len(spec.Name) + 1 + len(spec.Namespace)), atExternal: byte(len(external)),
		at4: byte(n4), at6: byte(n6),
	})
	return &Service{head + spec.Name + "." + spec.Namespace + external + v.v4[:4*n4] + v.v6[:16*n6] + string(packPorts(spec.Ports))}
}

// target returns the fully qualified form of an ExternalName, or "" if it can't be the target of a CNAME record: an
// address, or a name that does not fit a message (RFC 1035, section 2.3.4).
func target(name string) string {
	name = strings.TrimSuffix(name, ".")
	if name == "" || len(name) > 253 {
		return ""
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return ""
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || strings.ContainsAny(label, "\\\"();@$ \t\r\n") {
			return ""
		}
	}
	return name + "."
}

// IsZero reports whether s is none.
func (s Service) IsZero() bool { return s.packed == "" }

// Namespace returns the namespace of the object.
func (s Service) Namespace() string {
	owner := s.Owner()
	return owner[strings.IndexByte(owner, '.')+1:]
}

// ObjectName returns the name of the object.
func (s Service) ObjectName() string {
	owner := s.Owner()
	return owner[:strings.IndexByte(owner, '.')]
}

// Owner returns the two labels under which the Service is asked for, "name.namespace".
func (s Service) Owner() string { return s.packed[headLen:s.external()] }

func (s Service) kind() serviceKind { return serviceKind(s.packed[atKind]) }

// external is where the target of an ExternalName begins, and addrs where the addresses do.
func (s Service) external() int { return headLen + int(s.packed[atOwner]) }
func (s Service) addrs() int    { return s.external() + int(s.packed[atExternal]) }

// Headless reports whether the Service has no address of its own by design.
func (s Service) Headless() bool { return s.kind() == headless }

// External reports whether the Service is an ExternalName.
func (s Service) External() bool { return s.kind() == externalName }

// ExternalName returns the fully qualified target of an ExternalName Service. It is "" for any other, and where the
// target is an address or fits no message.
func (s Service) ExternalName() string { return s.packed[s.external():s.addrs()] }

// Addrs returns the Service's cluster IPs.
func (s Service) Addrs() Addrs {
	start := s.addrs()
	mid := start + 4*int(s.packed[at4])
	return Addrs{s.packed[start:mid], s.packed[mid : mid+16*int(s.packed[at6])]}
}

func (s Service) ports() portSet {
	return portSet(s.packed[s.addrs()+4*int(s.packed[at4])+16*int(s.packed[at6]):])
}

// Slice is the packed form of an EndpointSlice's ready endpoints, all of it in one string as a Service is: the collector has
// one thing to look at, and nothing to follow from there. An address takes four bytes or sixteen, and a name only where the
// endpoint has one of its own. It never changes. The zero Slice is none, which only IsZero may be asked of.
type Slice struct {
	// A head, and what it gives the lengths of, in this order; the zones are the rest.
	packed string
}

const (
	atFlags   = 0
	atService = 1  // length of the Service's name; it stands as "service.namespace/object"
	atSpace   = 2  // length of the namespace
	atCluster = 3  // length of the suffix of an imported slice: "." and its cluster
	atObject  = 4  // length of the object's name, in four bytes as all that follows
	atCount4  = 8  // number of IPv4 addresses
	atCount6  = 12 // number of IPv6 addresses
	atPorts   = 16 // length of the portSet
	atNames   = 20 // length of the names: 0 when all follow from the addresses; else a length and a name for each, in order
	sliceHead = 24
)

// The flags.
const (
	sameAddr byte = 1 << iota // an address stands more than once
	sameName                  // a name stands more than once
)

// NewSlice packs spec. It returns nil if the slice names no Service that a query could reach. An endpoint's name that is
// no DNS label gives way to the one that follows from the address, and a zone that no query could hold is not known.
func NewSlice(spec SliceSpec) *Slice {
	if !validLabel(spec.Service) || !validLabel(spec.Namespace) {
		return nil
	}
	var suffix string
	if validLabel(spec.Cluster) {
		suffix = "." + spec.Cluster
	}

	var n, named int
	for _, ep := range spec.Endpoints {
		n += len(ep.Addrs)
		if ep.Name != "" {
			named++
		}
	}
	addrs := make([]netip.Addr, 0, n)
	var n4 int
	var names []byte
	var zones zoneBuilder
	for _, want4 := range [2]bool{true, false} {
		for _, ep := range spec.Endpoints {
			for _, a := range ep.Addrs {
				if a = a.Unmap(); !a.IsValid() || a.Is4() != want4 {
					continue
				}
				addrs = append(addrs, a)
				zones.add(ep.Zone)
				if named == 0 {
					continue
				}
				name := strings.ToLower(ep.Name)
				if !validLabel(name) {
					name = ""
				}
				names = append(append(names, byte(len(name))), name...)
			}
		}
		if want4 {
			n4 = len(addrs)
		}
	}
	if len(names) == len(addrs) {
		names = nil // empty names
	}
	var head [sliceHead]byte
	if repeats(addrs) {
		head[atFlags] |= sameAddr
	}
	if repeatsName(string(names)) {
		head[atFlags] |= sameName
	}
	ports, known := packPorts(spec.Ports), zones.packed()
	head[atService], head[atSpace], head[atCluster] = byte(len(spec.Service)), byte(len(spec.Namespace)), byte(len(suffix))
	put := func(at, n int) { binary.LittleEndian.PutUint32(head[at:], uint32(n)) } // #nosec G115 -- no object has 4 GB
	put(atObject, len(spec.Name))
	put(atCount4, n4)
	put(atCount6, len(addrs)-n4)
	put(atPorts, len(ports))
	put(atNames, len(names))

	var b strings.Builder
	b.Grow(len(head) + len(spec.Service) + 1 + len(spec.Namespace) + 1 + len(spec.Name) + len(suffix) +
		4*n4 + 16*(len(addrs)-n4) + len(ports) + len(names) + len(known))
	b.Write(head[:])
	for _, s := range [...]string{spec.Service, ".", spec.Namespace, "/", spec.Name, suffix} {
		b.WriteString(s)
	}
	for _, a := range addrs {
		b.Write(a.AsSlice())
	}
	b.WriteString(string(ports))
	b.Write(names)
	b.WriteString(known)
	return &Slice{b.String()}
}

func repeatsName(names string) bool {
	var own []string
	for names != "" {
		var name string
		if name, names = cutName(names); name != "" {
			own = append(own, name)
		}
	}
	return repeats(own)
}

// cutName returns the first of the names of a Slice, and those that follow.
func cutName(names string) (first, rest string) {
	end := 1 + int(names[0])
	return names[1:end], names[end:]
}

func repeats[T comparable](all []T) bool {
	if len(all) <= 16 { // nearly always
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

// IsZero reports whether s is none.
func (s Slice) IsZero() bool { return s.packed == "" }

// number is what stands in four bytes of the head.
func (s Slice) number(at int) int {
	p := s.packed[at : at+4]
	return int(uint32(p[0]) | uint32(p[1])<<8 | uint32(p[2])<<16 | uint32(p[3])<<24)
}

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

// Addrs returns the addresses of the slice's ready endpoints.
func (s Slice) Addrs() Addrs {
	start, end := s.fromAddrs(), s.fromPorts()
	mid := start + 4*s.number(atCount4)
	return Addrs{s.packed[start:mid], s.packed[mid:end]}
}

// count is the number of addresses.
func (s Slice) count() int { return s.number(atCount4) + s.number(atCount6) }

func (s Slice) ports() portSet { return portSet(s.packed[s.fromPorts():s.fromNames()]) }

// names are the own names of the endpoints for cutName, "" if all follow from the addresses.
func (s Slice) names() string { return s.packed[s.fromNames():s.fromZones()] }

// nameAt returns the own name of the endpoint with the i-th address, "" if it has none.
func (s Slice) nameAt(i int) (name string) {
	for rest := s.names(); rest != "" && i >= 0; i-- {
		name, rest = cutName(rest)
	}
	return name
}

// zoneAt returns the topology zone of the endpoint with the i-th address, "" if it is not known.
func (s Slice) zoneAt(i int) string {
	zones := s.packed[s.fromZones():]
	if zones == "" {
		return ""
	}
	var name string
	for n := zones[len(zones)-s.count()+i]; n > 0; n-- {
		name, zones = cutName(zones)
	}
	return name
}

// zoneBuilder makes the zones of a Slice: a length and a name for each zone, and then a byte for each address, in order, that
// counts from 1 into the names. There are none when none is known.
type zoneBuilder struct {
	names []string // lower case
	at    []byte
}

// add adds the zone of the next address. A slice of more than 255 zones, which no provider has, loses the rest.
func (b *zoneBuilder) add(name string) {
	if name == "" || len(name) > 63 {
		b.at = append(b.at, 0)
		return
	}
	name = strings.ToLower(name)
	at := slices.Index(b.names, name)
	if at < 0 && len(b.names) < 255 {
		b.names = append(b.names, name)
		at = len(b.names) - 1
	}
	b.at = append(b.at, byte(at+1))
}

func (b *zoneBuilder) packed() string {
	if len(b.names) == 0 {
		return ""
	}
	var all []byte
	for _, name := range b.names {
		all = append(append(all, byte(len(name))), name...)
	}
	return string(append(all, b.at...))
}

// Pod is the packed form of a Pod. It never changes.
type Pod struct {
	object string // "namespace/name"
	addrs  packed
	labels map[string]string
}

// NewPod packs spec. It returns nil if the namespace is no DNS label.
func NewPod(spec PodSpec) *Pod {
	if !validLabel(spec.Namespace) {
		return nil
	}
	return &Pod{object: spec.Namespace + "/" + spec.Name, addrs: pack(spec.IPs), labels: spec.Labels}
}

// Namespace returns the namespace of the object.
func (p *Pod) Namespace() string { return p.object[:strings.IndexByte(p.object, '/')] }

// ObjectName returns the name of the object.
func (p *Pod) ObjectName() string { return p.object[strings.IndexByte(p.object, '/')+1:] }

// Labels returns the labels of the object, which the caller must not change.
func (p *Pod) Labels() map[string]string { return p.labels }

// validLabel reports whether s is a label that a query can hold and that needs no escape.
func validLabel(s string) bool {
	if s == "" || len(s) > 63 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// packed holds addresses without pointers: n4 of four bytes, then the rest of sixteen.
type packed struct {
	bytes string
	n4    int32
}

func pack(addrs []netip.Addr) packed {
	var n4, n6 int
	for _, a := range addrs {
		switch {
		case a.Unmap().Is4():
			n4++
		case a.Is6():
			n6++
		}
	}
	b := make([]byte, 0, 4*n4+16*n6)
	for _, a := range addrs {
		if a = a.Unmap(); a.Is4() {
			ip := a.As4()
			b = append(b, ip[:]...)
		}
	}
	for _, a := range addrs {
		if a = a.Unmap(); a.Is6() {
			ip := a.As16()
			b = append(b, ip[:]...)
		}
	}
	return packed{string(b), int32(n4)}
}

func (p packed) view() Addrs { return Addrs{p.bytes[:4*p.n4], p.bytes[4*p.n4:]} }

// Addrs is a view of packed addresses. It costs nothing to make and is never changed.
type Addrs struct{ v4, v6 string }

// Len4 returns the number of IPv4 addresses.
func (a Addrs) Len4() int { return len(a.v4) / 4 }

// Len6 returns the number of IPv6 addresses.
func (a Addrs) Len6() int { return len(a.v6) / 16 }

// At4 returns the i-th IPv4 address.
func (a Addrs) At4(i int) [4]byte { return [4]byte([]byte(a.v4[4*i : 4*i+4])) }

// At6 returns the i-th IPv6 address.
func (a Addrs) At6(i int) [16]byte { return [16]byte([]byte(a.v6[16*i : 16*i+16])) }

// portSet is an ordered set of ports. Each is its protocol and its name, each with its length before it and in lower case,
// and its number in two bytes, 0 when the object gives none.
type portSet string

func packPorts(ports []Port) portSet {
	if len(ports) == 0 {
		return noPorts // which has addresses all the same
	}
	var b []byte
	for _, p := range ports {
		proto, name, number := askable(p.Protocol), askable(p.Name), p.Number
		if number < 0 || number > 65535 {
			number = 0
		}
		b = append(append(b, byte(len(proto))), proto...)
		b = append(append(b, byte(len(name))), name...)
		b = append(b, byte(number>>8), byte(number))
	}
	return portSet(b)
}

// askable is s in lower case, or, if it is too long for a label of a query, a name that is as well once it has its
// underscore. "" would not do, which asks for any.
func askable(s string) string {
	if s = strings.ToLower(s); len(s) <= 63 {
		return s
	}
	return strings.Repeat("-", 63)
}

// noPorts is the set of an object without ports: one without a name, a protocol, or a number.
const noPorts portSet = "\x00\x00\x00\x00"

// portIter walks a portSet.
type portIter struct {
	rest     string
	protocol string
	name     string
	number   uint16
}

func (p portSet) iter() portIter { return portIter{rest: string(p)} }

func (it *portIter) next() bool {
	r := it.rest
	if r == "" {
		return false
	}
	n := 1 + int(r[0])
	it.protocol, r = r[1:n], r[n:]
	n = 1 + int(r[0])
	it.name, r = r[1:n], r[n:]
	it.number, it.rest = uint16(r[0])<<8|uint16(r[1]), r[2:]
	return true
}

// matches reports whether the port is one that a query asks for; an empty name or protocol asks for any.
func (it *portIter) matches(name, protocol string) bool {
	return (name == "" || name == it.name) && (protocol == "" || protocol == it.protocol)
}

// has reports whether a port of the set matches.
func (p portSet) has(name, protocol string) bool {
	if name == "" && protocol == "" {
		return true
	}
	for it := p.iter(); it.next(); {
		if it.matches(name, protocol) {
			return true
		}
	}
	return false
}

// count returns how many ports of the set match.
func (p portSet) count(name, protocol string) int {
	n := 0
	for it := p.iter(); it.next(); {
		if it.matches(name, protocol) {
			n++
		}
	}
	return n
}

// All yields the addresses.
func (a Addrs) All(yield func(netip.Addr) bool) {
	for i := range a.Len4() {
		if !yield(netip.AddrFrom4(a.At4(i))) {
			return
		}
	}
	for i := range a.Len6() {
		if !yield(netip.AddrFrom16(a.At6(i))) {
			return
		}
	}
}

// at returns the i-th address of all.
func (a Addrs) at(i int) netip.Addr {
	if n4 := a.Len4(); i >= n4 {
		return netip.AddrFrom16(a.At6(i - n4))
	}
	return netip.AddrFrom4(a.At4(i))
}

// len returns the number of addresses.
func (a Addrs) len() int { return a.Len4() + a.Len6() }

// Labels yields the endpoints' labels, below their Service, with their addresses.
func (s Slice) Labels(yield func(string, netip.Addr) bool) {
	addrs, names, suffix := s.Addrs(), s.names(), s.suffix()
	for i := range addrs.len() {
		var label string
		if names != "" {
			label, names = cutName(names)
		}
		if label == "" {
			label = string(appendDerived(nil, addrs.at(i)))
		}
		if !yield(label+suffix, addrs.at(i)) {
			return
		}
	}
}

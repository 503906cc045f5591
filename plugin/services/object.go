package services

import (
	"cmp"
	"net/netip"
	"strings"

	"github.com/kubehosts/kubehosts/plugin/domain"
)

// ServiceSpec is the part of a Service that answers need.
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
	Number   int32  // 1 to 65535; -1 if the object has none
}

// SliceSpec is the part of an EndpointSlice that answers need.
type SliceSpec struct {
	Namespace, Name string
	Service         string // the label kubernetes.io/service-name
	Cluster         string // of an imported slice: the cluster it comes from
	Ports           []Port // shared by all endpoints
	Endpoints       []Endpoint
}

// Endpoint is a ready endpoint of an EndpointSlice.
type Endpoint struct {
	Addrs   []netip.Addr
	Name    string // the endpoint's own label; empty if it is derived from the address
	PodName bool   // Name is that of its pod, not a hostname
	Zone    string // the topology zone it is in; empty if not needed
}

// PodSpec is the part of a Pod that answers need.
type PodSpec struct {
	Namespace, Name string
	IPs             []netip.Addr
	Labels          map[string]string
}

// Service is the packed form of a Service, all in one string: with 100,000 Services most of an answer's time goes into
// memory that is in no CPU cache, and this is one fetch. It never changes. The zero Service stands for none: only
// IsZero may be called on it.
type Service struct {
	// A head of bytes, at the offsets below, and the parts whose lengths it contains, in this order; the ports are the
	// rest.
	packed string
}

const (
	atKind     = iota
	atOwner    // length of "name.namespace", as in a query
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

// NewService packs spec. It returns nil if the Service's name or namespace is not a DNS label (RFC 1035, section
// 2.3.4), so that no query can reach it. It stores the first 255 cluster IPs of a family.
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

// target returns the fully qualified form of an ExternalName in the form of a question's name, or "" if it can't be the
// target of a CNAME record: an address, or not a domain name (RFC 1035, section 2.3.4). A name outside ASCII gets its
// ASCII form. A name whose form, with escapes, has more than 255 characters is left out: no API server accepts any
// escapes.
func target(text string) string {
	if _, err := netip.ParseAddr(strings.TrimSuffix(text, ".")); err == nil {
		return ""
	}
	name, wide, err := domain.Parse(text)
	if wide {
		if ascii, bad := domain.ASCII(text); bad == nil {
			name, err = ascii, nil
		}
	}
	if err != nil || name == "." || len(name) > 255 {
		return ""
	}
	return name
}

// IsZero reports whether s is the zero Service.
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

// Owner returns the two labels of the Service's name, "name.namespace".
func (s Service) Owner() string { return s.packed[headLen:s.external()] }

func (s Service) kind() serviceKind { return serviceKind(s.packed[atKind]) }

// external is where the target of an ExternalName begins, and addrs where the addresses do.
func (s Service) external() int { return headLen + int(s.packed[atOwner]) }
func (s Service) addrs() int    { return s.external() + int(s.packed[atExternal]) }

// Headless reports whether the Service has no address of its own by design.
func (s Service) Headless() bool { return s.kind() == headless }

// External reports whether the Service is an ExternalName.
func (s Service) External() bool { return s.kind() == externalName }

// ExternalName returns the fully qualified target of an ExternalName Service. It is "" for any other, and if the
// target is an address or does not fit into a message.
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

// Pod is the packed form of a Pod. It never changes.
type Pod struct {
	object string // "namespace/name"
	addrs  packed
	labels map[string]string
}

// NewPod packs spec. It returns nil if the namespace is not a DNS label.
func NewPod(spec PodSpec) *Pod {
	if !validLabel(spec.Namespace) {
		return nil
	}
	return &Pod{object: spec.Namespace + "/" + spec.Name, addrs: pack(spec.IPs), labels: spec.Labels}
}

// Namespace returns the namespace of the object.
func (p *Pod) Namespace() string { return p.object[:strings.IndexByte(p.object, '/')] }

// compare orders p and the Pod of that name, by namespace and then by name.
func (p *Pod) compare(namespace, name string) int {
	return cmp.Or(strings.Compare(p.Namespace(), namespace), strings.Compare(p.ObjectName(), name))
}

// ObjectName returns the name of the object.
func (p *Pod) ObjectName() string { return p.object[strings.IndexByte(p.object, '/')+1:] }

// Labels returns the labels of the object, which the caller must not change.
func (p *Pod) Labels() map[string]string { return p.labels }

// validLabel reports whether s is a label that a query can contain and that needs no escape.
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

// packed holds addresses without pointers: n4 addresses of four bytes, then the rest, of sixteen.
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

// portSet is an ordered set of ports. A port is its protocol and its name, both in lower case after their length, and
// its number in two bytes, 0 if the object has none.
type portSet string

func packPorts(ports []Port) portSet {
	if len(ports) == 0 {
		return noPorts // it has addresses nevertheless
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

// askable returns s in lower case. In place of a name that is too long for a label of a query it returns one that, with
// its underscore, is too long as well: "" would match any.
func askable(s string) string {
	if s = strings.ToLower(s); len(s) <= 63 {
		return s
	}
	return strings.Repeat("-", 63)
}

// noPorts is the set of an object without ports: one port without a name, a protocol, or a number.
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

// matches reports whether the port matches a query; an empty name or protocol matches any.
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

// count returns the number of ports of the set that match.
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

// within returns the range [from, to) of the addresses of those families.
func (a Addrs) within(want families) (from, to int) {
	to = a.len()
	if !want.v4 {
		from = a.Len4()
	}
	if !want.v6 {
		to = a.Len4()
	}
	return from, to
}

// len returns the number of addresses.
func (a Addrs) len() int { return a.Len4() + a.Len6() }

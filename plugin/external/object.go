package external

import (
	"cmp"
	"encoding/binary"
	"strconv"
	"strings"
)

// Object is the packed form of an object, with the parts that answers need. It never changes.
type Object struct{ packed string }

// The head of the packed form of any object. It is followed by the namespace and the name; for a route, by the length,
// in three octets, of the part that comes from the object itself, before the part that an Index adds; and by the TTL.
const (
	atKind      = 0
	atNamespace = 1 // length
	atName      = 2 // length
	atCreated   = 3 // Unix seconds, four octets
	headLen     = 7
)

// Nameable reports whether an object of the kind may have that name. Others are never stored.
func Nameable(kind Kind, namespace, name string) bool {
	host, ok := hostname(name)
	return begin(kind, &Meta{Namespace: namespace, Name: name}) != nil && (kind != KindNode || ok && host == name)
}

// begin begins to pack an object. It returns nil if no API server accepts the name.
func begin(kind Kind, m *Meta) *packer {
	namespaced := kind != KindNode && kind != KindNamespace
	if len(m.Name) == 0 || len(m.Name) > 253 || len(m.Namespace) > 63 || namespaced && m.Namespace == "" || strings.Contains(m.Namespace, "/") {
		return nil
	}
	created := uint32(max(0, min(m.Created, 1<<32-1))) // #nosec G115 -- within bounds
	p := make(packer, headLen, 192)
	p[atKind], p[atNamespace], p[atName] = byte(kind), byte(len(m.Namespace)), byte(len(m.Name))
	binary.BigEndian.PutUint32(p[atCreated:], created)
	p.raw(m.Namespace)
	p.raw(m.Name)
	if kind.route() {
		p.raw("\x00\x00\x00")
	}
	if ttl, ok := m.ttl(); ok {
		p.uint(uint64(ttl) + 1)
	} else {
		p.uint(0)
	}
	return &p
}

// object ends packing.
func (p *packer) object() *Object {
	n := len(*p)
	if n > maxPacked {
		return nil
	}
	packed := string(*p)
	if kindOf(packed).route() {
		at := tailOf(packed)
		(*p)[at-3], (*p)[at-2], (*p)[at-1] = byte(n>>16), byte(n>>8), byte(n)
		packed = string(*p)
	}
	return &Object{packed}
}

// The parts of the head of a packed object.
func kindOf(packed string) Kind { return Kind(packed[atKind]) }

func namespaceOf(packed string) string {
	return packed[headLen : headLen+int(packed[atNamespace])]
}

func nameOf(packed string) string {
	start := headLen + int(packed[atNamespace])
	return packed[start : start+int(packed[atName])]
}

func createdOf(packed string) string { return packed[atCreated:headLen] }

// tailOf returns the offset of the TTL.
func tailOf(packed string) int {
	at := headLen + int(packed[atNamespace]) + int(packed[atName])
	if kindOf(packed).route() {
		at += 3
	}
	return at
}

// lengthOf returns the length of the part that comes from the object itself.
func lengthOf(packed string) int {
	if !kindOf(packed).route() {
		return len(packed)
	}
	at := tailOf(packed)
	return int(packed[at-3])<<16 | int(packed[at-2])<<8 | int(packed[at-1])
}

// rawOf returns the part that comes from the object itself.
func rawOf(packed string) string { return packed[:lengthOf(packed)] }

// bodyOf returns a reader of the part after the TTL.
func bodyOf(packed string) reader {
	r := reader{packed, tailOf(packed)}
	r.uint()
	return r
}

func ttlOf(packed string) (seconds uint32, ok bool) {
	r := reader{packed, tailOf(packed)}
	n := r.uint()
	if n == 0 {
		return 0, false
	}
	return uint32(n - 1), true // #nosec G115 -- a TTL
}

func refOf(packed string) Ref { return Ref{kindOf(packed), namespaceOf(packed), nameOf(packed)} }

// compareKeys returns the order of two objects by kind, namespace and name.
func compareKeys(packed string, ref Ref) int {
	return cmp.Or(cmp.Compare(kindOf(packed), ref.Kind), strings.Compare(namespaceOf(packed), ref.Namespace), strings.Compare(nameOf(packed), ref.Name))
}

// compareAge returns the order of two objects by creationTimestamp, namespace, name and kind: the first one gets a name that
// both claim.
func compareAge(a, b string) int {
	return cmp.Or(strings.Compare(createdOf(a), createdOf(b)), strings.Compare(namespaceOf(a), namespaceOf(b)),
		strings.Compare(nameOf(a), nameOf(b)), cmp.Compare(kindOf(a), kindOf(b)))
}

// Kind returns the kind of the object.
func (o *Object) Kind() Kind { return kindOf(o.packed) }

// Namespace returns the namespace of the object, "" for a Node or a Namespace.
func (o *Object) Namespace() string { return namespaceOf(o.packed) }

// Name returns the name of the object.
func (o *Object) Name() string { return nameOf(o.packed) }

// Ref returns the reference to the object.
func (o *Object) Ref() Ref { return refOf(o.packed) }

// Created returns the object's creationTimestamp in Unix seconds, 0 if it has none.
func (o *Object) Created() (seconds int64) {
	for _, b := range []byte(createdOf(o.packed)) {
		seconds = seconds<<8 | int64(b)
	}
	return seconds
}

// Equal reports whether the packed forms of o and p are the same.
func (o *Object) Equal(p *Object) bool { return o.packed == p.packed }

// meta returns the Meta of the packed form of an object with a TTL by an annotation.
func (o *Object) meta() Meta {
	m := Meta{Namespace: o.Namespace(), Name: o.Name(), Created: o.Created()}
	if ttl, ok := ttlOf(o.packed); ok {
		m.annotate(ttlKeys, utoa(ttl))
	}
	return m
}

// annotate adds an annotation, if its value is not empty.
func (m *Meta) annotate(keys []string, value string) {
	if value == "" {
		return
	}
	if m.Annotations == nil {
		m.Annotations = make(map[string]string)
	}
	m.Annotations[keys[0]] = value
}

// hostnames returns the hostnames among hosts, each once, up to most.
func hostnames(most int, hosts ...[]string) []string {
	var names []string
	seen := make(map[string]struct{})
	for _, all := range hosts {
		for _, host := range all {
			name, ok := hostname(host)
			if _, again := seen[name]; !ok || again || len(names) == most {
				continue
			}
			seen[name] = struct{}{}
			names = append(names, name)
		}
	}
	return names
}

// NewIngress packs spec. It returns nil if no API server accepts an Ingress of that name.
func NewIngress(spec IngressSpec) *Object {
	p := begin(KindIngress, &spec.Meta)
	if p == nil {
		return nil
	}
	p.text(spec.Class)
	p.addresses(spec.targets(spec.Addresses))
	p.texts(hostnames(maxNames, spec.Hosts, list(spec.annotated(hostnameKeys))))
	return p.object()
}

// target returns the addresses in an annotation that replaces the object's own. If it has no valid address, those stay.
func (m *Meta) target() (a addresses, ok bool) {
	a = addressesOf(list(m.annotated(targetKeys)))
	return a, !a.empty()
}

// targets returns the addresses in texts, or those of an annotation that replaces them.
func (m *Meta) targets(texts []string) addresses {
	if a, ok := m.target(); ok {
		return a
	}
	return addressesOf(texts)
}

// Ingress returns a spec from which NewIngress makes an equal Object.
func (o *Object) Ingress() IngressSpec {
	r := bodyOf(o.packed)
	return IngressSpec{Meta: o.meta(), Class: r.text(), Addresses: r.places().texts(), Hosts: r.texts()}
}

// NewService packs spec. It returns nil if the Service has neither external addresses nor internal names, and is not
// headless.
func NewService(spec ServiceSpec) *Object {
	p := begin(KindService, &spec.Meta)
	if p == nil {
		return nil
	}
	var balanced addresses
	if spec.LoadBalancer {
		balanced = addressesOf(spec.Addresses)
	}
	outside, overridden := spec.target()
	if !overridden {
		outside = balanced.with(spec.ExternalIPs)
	}
	clusterIPs := addressesOf(spec.ClusterIPs)
	clusterIPs.hosts = nil // "None" is a hostname
	hosts, internal := spec.names(!outside.empty(), spec.Headless || !clusterIPs.empty())
	if outside.empty() && balanced.empty() && len(internal) == 0 && !spec.Headless {
		return nil
	}
	p.bool(spec.Headless)
	p.bool(overridden)
	at := len(*p)
	p.raw("\x00\x00\x00") // placeholder of the internal names' offset
	p.addresses(outside)
	p.texts(hosts)
	(*p)[at], (*p)[at+1], (*p)[at+2] = byte(len(*p)>>16), byte(len(*p)>>8), byte(len(*p))
	p.texts(internal)
	p.addresses(balanced)
	p.addresses(clusterIPs)
	p.ports(spec.Ports)
	return p.object()
}

// names returns the names that annotations define for a Service with external addresses, and for one with internal
// addresses. A name in both is an external one.
func (spec *ServiceSpec) names(outside, inside bool) (hosts, internal []string) {
	if outside {
		hosts = hostnames(maxNames, list(spec.annotated(hostnameKeys)))
	}
	if inside {
		internal = hostnames(maxNames, hosts, list(spec.annotated(internalKeys)))[len(hosts):]
	}
	return hosts, internal
}

// service is the packed form of a Service, split into its parts.
type service struct {
	headless   bool
	overridden bool   // outside comes from an annotation
	internal   int    // offset of the internal names from an annotation
	outside    places // the addresses for clients outside the cluster
	at         reader // of the parts that follow
}

func serviceOf(packed string) (s service) {
	s.at = bodyOf(packed)
	s.headless, s.overridden = s.at.bool(), s.at.bool()
	s.internal = int(s.at.byte())<<16 | int(s.at.byte())<<8 | int(s.at.byte())
	s.outside = s.at.places()
	return s
}

// inside returns the addresses of the load balancer, the cluster IPs and the ports.
func (s *service) inside() (balanced, clusterIPs places, ports reader) {
	r := reader{s.at.s, s.internal}
	for range r.len() {
		r.at += r.len()
	}
	return r.places(), r.places(), r
}

// Service returns a spec from which NewService makes an equal Object.
func (o *Object) Service() ServiceSpec {
	s := serviceOf(o.packed)
	spec := ServiceSpec{Meta: o.meta(), Headless: s.headless}
	spec.annotate(hostnameKeys, join(s.at.texts()))
	spec.annotate(internalKeys, join(s.at.texts()))
	balanced, clusterIPs, ports := s.inside()
	spec.LoadBalancer, spec.Addresses = !balanced.empty(), balanced.texts()
	if s.overridden {
		spec.annotate(targetKeys, join(s.outside.texts()))
	} else {
		spec.ExternalIPs = s.outside.texts()
	}
	spec.ClusterIPs = clusterIPs.texts()
	for range ports.len() {
		spec.Ports = append(spec.Ports, ports.port())
	}
	return spec
}

// ports writes ports. It leaves out those without a number or a protocol, and names that no query can
// contain.
func (p *packer) ports(all []Port) {
	kept := make([]Port, 0, len(all))
	for _, port := range all {
		port.Name, port.Protocol = strings.ToLower(port.Name), strings.ToLower(port.Protocol)
		if !label("_" + port.Name) {
			port.Name = ""
		}
		if port.Number > 0 && port.Number <= 65535 && port.Protocol != "" && label("_"+port.Protocol) && len(kept) < maxPorts {
			kept = append(kept, port)
		}
	}
	p.len(len(kept))
	for _, port := range kept {
		p.text(port.Protocol)
		p.text(port.Name)
		p.byte(byte(port.Number >> 8))
		p.byte(byte(port.Number))
	}
}

func (r *reader) port() Port {
	return Port{Protocol: r.text(), Name: r.text(), Number: int32(r.byte())<<8 | int32(r.byte())}
}

// NewNode packs spec. It returns nil if the name of the Node is not a hostname.
func NewNode(spec NodeSpec) *Object {
	p := begin(KindNode, &spec.Meta)
	if !Nameable(KindNode, "", spec.Name) {
		return nil
	}
	p.addresses(spec.targets(spec.InternalIPs))
	return p.object()
}

// Node returns a spec from which NewNode makes an equal Object.
func (o *Object) Node() NodeSpec {
	r := bodyOf(o.packed)
	return NodeSpec{o.meta(), r.places().texts()}
}

// NewNamespace packs spec. It returns nil if the Namespace has no name.
func NewNamespace(spec NamespaceSpec) *Object {
	p := begin(KindNamespace, &Meta{Name: spec.Name})
	if p == nil {
		return nil
	}
	p.labels(spec.Labels)
	return p.object()
}

// NamespaceSpec returns a spec from which NewNamespace makes an equal Object.
func (o *Object) NamespaceSpec() NamespaceSpec {
	r := bodyOf(o.packed)
	return NamespaceSpec{o.Name(), r.labels()}
}

func utoa(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

func join(words []string) string { return strings.Join(words, ",") }

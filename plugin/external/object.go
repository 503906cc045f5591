package external

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strconv"
	"strings"
)

// Object is the packed form of an object, with the parts that answers need. It never changes.
type Object struct{ packed form }

// form is the packed form of an object, in two parts. Objects of one namespace that one controller serves often have
// the same shared part, and an Index stores each shared part once.
//
//	shared: kind, length of the namespace, namespace, zone, then for an Ingress its class and addresses, for a route or a
//	        ListenerSet its parents
//	own:    creationTimestamp, length of the name, name, TTL, then the rest; for a route its hostnames as one text, and
//	        the parts that an Index adds
//
// The zone is the name that the first host is directly below. Hosts in the zone are stored without it, and the name of
// the object in the zone, a frequent host, in one octet.
type form struct{ shared, own string }

const (
	atKind      = 0
	atNamespace = 1 // length; the namespace follows

	atCreated = 0 // Unix seconds, four octets
	atName    = 4 // length; the name follows
)

// Nameable reports whether an object of the kind may have that name. Others are never stored.
func Nameable(kind Kind, namespace, name string) bool {
	host, ok := hostname(name)
	return begin(kind, &Meta{Namespace: namespace, Name: name}, nil) != nil && (kind != KindNode || ok && host == name && labels(name))
}

// draft is a packed form that is being written.
type draft struct {
	shared packer
	packer // the own part
	zone   string
}

// begin begins to pack an object that claims hosts. It returns nil if no API server accepts the name.
func begin(kind Kind, m *Meta, hosts []string) *draft {
	namespaced := kind != KindNode && kind != KindNamespace
	if len(m.Name) == 0 || len(m.Name) > 253 || len(m.Namespace) > 63 || namespaced && m.Namespace == "" || strings.Contains(m.Namespace, "/") {
		return nil
	}
	d := &draft{packer: make(packer, 0, 128)}
	if len(hosts) > 0 {
		d.zone = parent(hosts[0])
	}
	d.shared.byte(byte(kind))
	d.shared.short(m.Namespace)
	d.shared.short(d.zone)
	created := uint32(max(0, min(m.Created, 1<<32-1))) // #nosec G115 -- within bounds
	d.packer = binary.BigEndian.AppendUint32(d.packer, created)
	d.short(m.Name)
	if ttl, ok := m.ttl(); ok {
		d.uint(uint64(ttl) + 1)
	} else {
		d.uint(0)
	}
	return d
}

// object ends packing. It returns nil if the object is too large.
func (d *draft) object() *Object {
	if len(d.shared)+len(d.packer) > maxPacked {
		return nil
	}
	return &Object{form{string(d.shared), string(d.packer)}}
}

// none reports whether there is no object.
func (f form) none() bool { return f.shared == "" }

// The parts that all packed forms have.
func kindOf(packed form) Kind { return Kind(packed.shared[atKind]) }

func namespaceOf(packed form) string { return shortAt(packed.shared, atNamespace) }

func zoneOf(packed form) string {
	return shortAt(packed.shared, atNamespace+1+int(packed.shared[atNamespace]))
}

func nameOf(packed form) string { return shortAt(packed.own, atName) }

func createdOf(packed form) string { return packed.own[atCreated:atName] }

// commonOf returns a reader of the shared part after the zone.
func commonOf(shared string) reader {
	r := reader{shared, atNamespace}
	r.short()
	r.short()
	return r
}

// tailOf returns a reader of the TTL and the rest.
func tailOf(packed form) reader { return reader{packed.own, atName + 1 + int(packed.own[atName])} }

// bodyOf returns a reader of the part after the TTL.
func bodyOf(packed form) reader {
	r := tailOf(packed)
	r.uint()
	return r
}

// lengthOf returns the length of the own part without what an Index adds.
func lengthOf(packed form) int {
	if !kindOf(packed).route() {
		return len(packed.own)
	}
	r := bodyOf(packed)
	n := r.len()
	return r.at + n
}

// rawOf returns the packed form without what an Index adds.
func rawOf(packed form) form { return form{packed.shared, packed.own[:lengthOf(packed)]} }

func ttlOf(packed form) (seconds uint32, ok bool) {
	r := tailOf(packed)
	n := r.uint()
	if n == 0 {
		return 0, false
	}
	return uint32(n - 1), true // #nosec G115 -- a TTL
}

func refOf(packed form) Ref { return Ref{kindOf(packed), namespaceOf(packed), nameOf(packed)} }

// compareKeys returns the order of two objects by kind, namespace and name.
func compareKeys(packed form, ref Ref) int {
	return cmp.Or(cmp.Compare(kindOf(packed), ref.Kind), strings.Compare(namespaceOf(packed), ref.Namespace), strings.Compare(nameOf(packed), ref.Name))
}

// compareAge returns the order of two objects by creationTimestamp, namespace, name and kind: the first one gets a name
// that both claim.
func compareAge(a, b form) int {
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

// hostnames returns the names that an object with these hosts claims, each once, up to most.
func hostnames(most int, hosts ...[]string) []string {
	var names []string
	seen := make(map[string]struct{})
	for _, all := range hosts {
		for _, host := range all {
			for _, name := range forms(host) {
				if _, again := seen[name]; again || len(names) == most {
					continue
				}
				seen[name] = struct{}{}
				names = append(names, name)
			}
		}
	}
	return names
}

// NewIngress packs spec. It returns nil if no API server accepts an Ingress of that name.
func NewIngress(spec IngressSpec) *Object {
	hosts := hostnames(maxNames, spec.Hosts, list(spec.annotated(hostnameKeys)))
	d := begin(KindIngress, &spec.Meta, hosts)
	if d == nil {
		return nil
	}
	d.shared.text(spec.Class)
	d.shared.addresses(spec.targets(spec.Addresses))
	d.hosts(hosts, d.zone, spec.Name)
	return d.object()
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
	common, r := commonOf(o.packed.shared), bodyOf(o.packed)
	return IngressSpec{Meta: o.meta(), Class: common.text(), Addresses: common.places().texts(), Hosts: r.hosts(o.packed)}
}

// NewService packs spec. It returns nil if the Service has neither external addresses nor internal names, and is not
// headless.
func NewService(spec ServiceSpec) *Object {
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
	d := begin(KindService, &spec.Meta, slices.Concat(hosts, internal))
	if d == nil || outside.empty() && balanced.empty() && len(internal) == 0 && !spec.Headless {
		return nil
	}
	d.bool(spec.Headless)
	d.bool(overridden)
	at := len(d.packer)
	d.raw("\x00\x00\x00") // placeholder of the internal names' offset
	d.addresses(outside)
	d.hosts(hosts, d.zone, spec.Name)
	n := len(d.packer)
	d.packer[at], d.packer[at+1], d.packer[at+2] = byte(n>>16), byte(n>>8), byte(n)
	d.hosts(internal, d.zone, spec.Name)
	d.addresses(balanced)
	d.addresses(clusterIPs)
	d.ports(spec.Ports)
	return d.object()
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

func serviceOf(packed form) (s service) {
	s.at = bodyOf(packed)
	s.headless, s.overridden = s.at.bool(), s.at.bool()
	s.internal = int(s.at.byte())<<16 | int(s.at.byte())<<8 | int(s.at.byte())
	s.outside = s.at.places()
	return s
}

// inside returns the addresses of the load balancer, the cluster IPs and the ports.
func (s *service) inside() (balanced, clusterIPs places, ports reader) {
	r := reader{s.at.s, s.internal}
	r.skipHosts()
	return r.places(), r.places(), r
}

// Service returns a spec from which NewService makes an equal Object.
func (o *Object) Service() ServiceSpec {
	s := serviceOf(o.packed)
	spec := ServiceSpec{Meta: o.meta(), Headless: s.headless}
	spec.annotate(hostnameKeys, join(s.at.hosts(o.packed)))
	spec.annotate(internalKeys, join(s.at.hosts(o.packed)))
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
	if !Nameable(KindNode, "", spec.Name) {
		return nil
	}
	d := begin(KindNode, &spec.Meta, nil)
	d.addresses(spec.targets(spec.InternalIPs))
	return d.object()
}

// Node returns a spec from which NewNode makes an equal Object.
func (o *Object) Node() NodeSpec {
	r := bodyOf(o.packed)
	return NodeSpec{o.meta(), r.places().texts()}
}

// NewNamespace packs spec. It returns nil if the Namespace has no name.
func NewNamespace(spec NamespaceSpec) *Object {
	d := begin(KindNamespace, &Meta{Name: spec.Name}, nil)
	if d == nil {
		return nil
	}
	d.labels(spec.Labels)
	return d.object()
}

// NamespaceSpec returns a spec from which NewNamespace makes an equal Object.
func (o *Object) NamespaceSpec() NamespaceSpec {
	r := bodyOf(o.packed)
	return NamespaceSpec{o.Name(), r.labels()}
}

func utoa(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

// join returns the value of an annotation with these names or addresses, see list.
func join(words []string) string {
	all := make([]string, len(words))
	for i, word := range words {
		all[i] = spelled(word)
	}
	return strings.Join(all, ",")
}
